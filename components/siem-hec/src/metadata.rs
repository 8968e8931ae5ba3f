use logship_stage::escape::{Json, push_escaped};
use logship_stage::{Batch, Group, Log, Origin, Output, Place, Result, Text};

use crate::Config;

/// A metadata field of an event.
#[derive(Debug, Clone)]
struct MetadataField {
    /// The field's quoted name, followed by a colon and a quote.
    name: Text,
    constant: Option<String>,
    from: Option<Origin>,
}

/// The metadata before the time of events.
#[derive(Debug, Clone)]
pub(crate) struct Metadata {
    fields: Vec<MetadataField>,
    /// True if it may differ between logs of one group.
    pub(crate) by_log: bool,
}

impl Metadata {
    pub(crate) fn of(config: &Config) -> Result<Self> {
        let mut fields = vec![];
        for (name, constant, from) in [
            ("sourcetype", &config.sourcetype, &config.sourcetype_from),
            ("index", &config.index, &config.index_from),
            ("source", &config.source, &config.source_from),
            ("host", &config.host, &config.host_from),
        ] {
            let from =
                from.as_deref().map(|from| Origin::parse(&format!("{name}-from"), from)).transpose()?;
            if constant.is_some() || from.is_some() {
                let name = Text::from(format!("\"{name}\":\"").as_bytes());
                fields.push(MetadataField { name, constant: constant.clone(), from });
            }
        }
        let by_log = fields.iter().any(|field| field.from.as_ref().is_some_and(Origin::is_by_log));
        Ok(Self { fields, by_log })
    }

    /// Looks up the origin of each field in a batch.
    pub(crate) fn places<'a>(&'a self, batch: &'a Batch) -> Vec<Option<Place<'a>>> {
        self.fields.iter().map(|field| Some(field.from.as_ref()?.within(batch))).collect()
    }

    /// Appends the start of an event of a log, or of all logs of a group.
    pub(crate) fn push<'a>(
        &self,
        out: &mut Output,
        places: &[Option<Place<'a>>],
        group: &Group<'a>,
        log: Option<&Log<'a>>,
    ) {
        out.push_byte(b'{');
        for (MetadataField { name, constant, .. }, place) in self.fields.iter().zip(places) {
            let found = place.and_then(|place| place.value(group, log));
            let Some(value) = found.or(constant.as_ref().map(|constant| constant.as_bytes())) else {
                continue;
            };
            out.push_text(name);
            let text = String::from_utf8_lossy(value);
            push_escaped::<Json>(out, text.as_bytes(), 0..text.len());
            out.push_value(b"\",");
        }
        out.push_value(b"\"time\":");
    }
}
