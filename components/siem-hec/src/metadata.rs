use logship_stage::escape::{Json, push_escaped};
use logship_stage::{Batch, Group, Log, Output};

use crate::Config;

/// Where a value is from.
#[derive(Debug, Clone)]
enum Origin {
    Topic,
    Source,
    Tag(String),
    Field(String),
}

/// A member of an event besides its time and what happened.
#[derive(Debug, Clone)]
struct Member {
    name: &'static str,
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
    pub(crate) fn of(config: &Config) -> Self {
        let member = |name, constant: &Option<String>, from: &Option<String>| Member {
            name,
            constant: constant.clone(),
            from: from.as_deref().map(Origin::of),
        };
        let mut members = vec![
            member("sourcetype", &config.sourcetype, &config.sourcetype_from),
            member("index", &config.index, &config.index_from),
            member("source", &config.source, &config.source_from),
            member("host", &config.host, &config.host_from),
        ];
        members.retain(|member| member.constant.is_some() || member.from.is_some());
        let by_log = members.iter().any(|member| matches!(member.from, Some(Origin::Field(_))));
        Self { members, by_log }
    }

    /// Appends the beginning of an event: of a log, or of all logs of a group.
    pub(crate) fn push(&self, out: &mut Output, batch: &Batch, group: &Group<'_>, log: Option<&Log<'_>>) {
        out.push(b"{");
        for Member { name, constant, from } in &self.members {
            let found = from.as_ref().and_then(|from| from.find(batch, group, log));
            let Some(value) = found.or(constant.as_ref().map(|constant| constant.as_bytes())) else {
                continue;
            };
            out.push(b"\"");
            out.push(name.as_bytes());
            out.push(b"\":\"");
            let text = String::from_utf8_lossy(value);
            push_escaped::<Json>(out, text.as_bytes(), 0..text.len());
            out.push(b"\",");
        }
        out.push(b"\"time\":");
    }
}

impl Origin {
    fn of(name: &str) -> Self {
        match name {
            "__topic__" => Self::Topic,
            "__source__" => Self::Source,
            name => match name.strip_prefix("__tag__:") {
                Some(tag) => Self::Tag(tag.to_owned()),
                None => Self::Field(name.to_owned()),
            },
        }
    }

    /// The value, if there is one with something in it.
    fn find<'a>(&self, batch: &'a Batch, group: &Group<'a>, log: Option<&Log<'a>>) -> Option<&'a [u8]> {
        let found = match self {
            Self::Topic => Some(group.topic().as_bytes()),
            Self::Source => Some(group.source().as_bytes()),
            Self::Tag(key) => {
                let tags: &'a [_] = group.tags();
                tags.iter().find(|tag| tag.key == *key).map(|tag| tag.value.as_bytes())
            }
            Self::Field(key) => {
                let index = batch.raw().keys.iter().position(|known| known == key)?;
                log?.fields().find(|field| field.key_index() == index).map(|field| field.value())
            }
        };
        found.filter(|value| !value.is_empty())
    }
}
