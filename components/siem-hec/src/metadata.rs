use logship_stage::escape::{Json, push_escaped};
use logship_stage::{Batch, Group, Log, Origin, Output, Place, Result, Text};

use crate::Config;

/// A member of an event besides its time and what happened.
#[derive(Debug, Clone)]
struct Member {
    /// Its name, up to the inside of its string.
    name: Text,
    constant: Option<String>,
    from: Option<Origin>,
}

/// What stands before the time of events.
#[derive(Debug, Clone)]
pub(crate) struct Metadata {
    members: Vec<Member>,
    /// Whether it differs within a group.
    pub(crate) by_log: bool,
}

impl Metadata {
    pub(crate) fn of(config: &Config) -> Result<Self> {
        let mut members = vec![];
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
                members.push(Member { name, constant: constant.clone(), from });
            }
        }
        let by_log = members.iter().any(|member| member.from.as_ref().is_some_and(Origin::is_by_log));
        Ok(Self { members, by_log })
    }

    /// For each member, where it is in a batch.
    pub(crate) fn places<'a>(&'a self, batch: &'a Batch) -> Vec<Option<Place<'a>>> {
        self.members.iter().map(|member| Some(member.from.as_ref()?.within(batch))).collect()
    }

    /// Appends the beginning of an event: of a log, or of all logs of a group.
    pub(crate) fn push<'a>(
        &self,
        out: &mut Output,
        places: &[Option<Place<'a>>],
        group: &Group<'a>,
        log: Option<&Log<'a>>,
    ) {
        out.push_byte(b'{');
        for (Member { name, constant, .. }, place) in self.members.iter().zip(places) {
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
