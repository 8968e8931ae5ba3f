use logship_stage::{Error, LogGroup, Origin, Result, Tag};

use crate::config::{Config, Value};
use crate::redact::{Redaction, Redactions, Scratch};
use crate::shape::Either;

/// Reshapes topic, source and tags of groups.
#[derive(Debug, Default)]
pub(crate) struct GroupReshape {
    set: Vec<(Origin, GroupValue)>,
    redacted: Vec<(Origin, Redaction)>,
    dropped: Vec<Origin>,
}

#[derive(Debug)]
enum GroupValue {
    Is(String),
    From(Origin),
}

impl GroupReshape {
    pub(crate) fn of(config: &Config, redactions: &Redactions) -> Result<Self> {
        let mut reshaped = Self::default();
        for (name, Either(value)) in &config.set {
            let path = format!("set.{name}");
            let place = Origin::parse(&path, name)?;
            if place.is_by_log() {
                continue;
            }
            let value = match value {
                Value::Is(text) => GroupValue::Is(text.clone()),
                Value::From(name) => {
                    let path = format!("{path}.from");
                    let origin = Origin::parse(&path, name)?;
                    if origin.is_by_log() {
                        let reason =
                            "it differs between the logs of a group; name what all logs of a group share";
                        return Err(Error::config(path, format!("{name:?} is a field: {reason}")));
                    }
                    GroupValue::From(origin)
                }
            };
            reshaped.set.push((place, value));
        }
        for (name, redaction) in redactions.named() {
            let place = Origin::parse("mask", name)?;
            if !place.is_by_log() {
                reshaped.redacted.push((place, redaction.clone()));
            }
        }
        for (index, name) in config.drop.iter().enumerate() {
            let place = Origin::parse(&format!("drop[{index}]"), name)?;
            if !place.is_by_log() {
                reshaped.dropped.push(place);
            }
        }
        Ok(reshaped)
    }

    /// Returns the reshaped group, or `None` if it is unchanged.
    pub(crate) fn apply(&self, group: &LogGroup, scratch: &mut Scratch) -> Option<LogGroup> {
        if self.set.is_empty() && self.redacted.is_empty() && self.dropped.is_empty() {
            return None;
        }
        let mut reshaped = group.clone();
        for (place, value) in &self.set {
            match value {
                GroupValue::Is(text) => set(&mut reshaped, place, text),
                GroupValue::From(origin) => {
                    if let Some(text) = value_of(group, origin) {
                        set(&mut reshaped, place, text);
                    }
                }
            }
        }
        for (place, redaction) in &self.redacted {
            values(&mut reshaped, place).for_each(|value| {
                if let Some(redacted) = redaction.apply(value.as_bytes(), scratch) {
                    *value = String::from_utf8_lossy(redacted).into_owned();
                }
            });
        }
        for place in &self.dropped {
            match place {
                Origin::Tag(key) => reshaped.tags.retain(|tag| tag.key != *key),
                _ => values(&mut reshaped, place).for_each(String::clear),
            }
        }
        (reshaped != *group).then_some(reshaped)
    }
}

/// Returns the values at a place: one, or one for each tag with the key.
fn values<'a>(group: &'a mut LogGroup, place: &'a Origin) -> impl Iterator<Item = &'a mut String> {
    let LogGroup { topic, source, tags } = group;
    let (single, tags) = match place {
        Origin::Topic => (Some(topic), None),
        Origin::Source => (Some(source), None),
        Origin::Tag(key) => (None, Some(tags.iter_mut().filter(move |tag| tag.key == *key))),
        Origin::Field(_) => (None, None),
    };
    single.into_iter().chain(tags.into_iter().flatten().map(|tag| &mut tag.value))
}

/// Returns the value at a place, unless it is missing or empty. The last of repeated tags counts.
fn value_of<'a>(group: &'a LogGroup, place: &Origin) -> Option<&'a str> {
    let found = match place {
        Origin::Topic => Some(group.topic.as_str()),
        Origin::Source => Some(group.source.as_str()),
        Origin::Tag(key) => group.tags.iter().rev().find(|tag| tag.key == *key).map(|tag| tag.value.as_str()),
        Origin::Field(_) => None,
    };
    found.filter(|value| !value.is_empty())
}

fn set(group: &mut LogGroup, place: &Origin, text: &str) {
    match place {
        Origin::Tag(key) => {
            group.tags.retain(|tag| tag.key != *key);
            group.tags.push(Tag { key: key.clone(), value: text.to_owned() });
        }
        _ => values(group, place).for_each(|value| text.clone_into(value)),
    }
}
