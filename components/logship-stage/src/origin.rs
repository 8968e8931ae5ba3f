use crate::{Batch, Error, Group, Log, Result};

/// The source of a value that a configuration names: the key of a field, `__topic__`, `__source__` or `__tag__:KEY`.
///
/// ```
/// use logship_stage::{BatchBuilder, Origin};
///
/// let batch = BatchBuilder::new().group("nginx", "", &[]).log(1, &[("status", "200")]).build();
/// let group = batch.groups().next().unwrap();
/// let log = group.logs().next();
/// let (topic, status) = (Origin::parse("host-from", "__topic__")?, Origin::parse("host-from", "status")?);
/// assert_eq!(topic.within(&batch).value(&group, None), Some(&b"nginx"[..]));
/// assert_eq!(status.within(&batch).value(&group, log.as_ref()), Some(&b"200"[..]));
/// # Ok::<(), logship_stage::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// `__topic__`.
    Topic,
    /// `__source__`.
    Source,
    /// The log group's tag with this key.
    Tag(String),
    /// The field with this key.
    Field(String),
}

impl Origin {
    /// Parses the name of an origin. `path` is the configuration key that contains the name.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] for a name that is not a source of values.
    pub fn parse(path: &str, name: &str) -> Result<Self> {
        match name {
            "__topic__" => Ok(Self::Topic),
            "__source__" => Ok(Self::Source),
            "" | "__tag__:" | "__time__" | "__time_ns_part__" => {
                let known = "the key of a field, __topic__, __source__ or __tag__:KEY";
                Err(Error::config(path, format!("{name:?} is not a source of values; use {known}")))
            }
            name => Ok(match name.strip_prefix("__tag__:") {
                Some(tag) => Self::Tag(tag.to_owned()),
                None => Self::Field(name.to_owned()),
            }),
        }
    }

    /// Returns true if the value may differ between logs of one group.
    pub fn is_by_log(&self) -> bool {
        matches!(self, Self::Field(_))
    }

    /// Looks up the origin's key in a batch; call it once per batch.
    pub fn within<'a>(&'a self, batch: &'a Batch) -> Place<'a> {
        let key = match self {
            Self::Field(key) => batch.raw().keys.iter().position(|known| known == key),
            _ => None,
        };
        Place { origin: self, batch, key: key.map(|key| key as u32) }
    }
}

/// An origin that was looked up in a batch.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    origin: &'a Origin,
    batch: &'a Batch,
    /// The key's index, if the batch has the key.
    key: Option<u32>,
}

impl<'a> Place<'a> {
    /// Returns the non-empty value of a log, or of all logs of a group. If a tag or a field is repeated, the last one
    /// counts.
    pub fn value(&self, group: &Group<'a>, log: Option<&Log<'a>>) -> Option<&'a [u8]> {
        let found = match self.origin {
            Origin::Topic => Some(group.topic().as_bytes()),
            Origin::Source => Some(group.source().as_bytes()),
            Origin::Tag(key) => {
                let tag = group.tags().iter().rev().find(|tag| tag.key == *key);
                tag.map(|tag| tag.value.as_bytes())
            }
            Origin::Field(_) => self.field(log?),
        };
        found.filter(|value| !value.is_empty())
    }

    fn field(&self, log: &Log<'a>) -> Option<&'a [u8]> {
        let key = self.key?;
        let raw = self.batch.raw();
        let (fields, first) = log.span();
        let place = fields.start + raw.field_keys[fields.clone()].iter().rposition(|&found| found == key)?;
        let begin = if place == fields.start { first } else { raw.value_ends[place - 1] as usize };
        Some(&raw.values[begin..raw.value_ends[place] as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BatchBuilder;

    #[test]
    fn last_value_counts_and_empty_value_is_none() {
        let batch = BatchBuilder::new()
            .group("", "s", &[("k", "first"), ("k", "last")])
            .log(1, &[("a", "1"), ("b", "x"), ("a", "2")])
            .log(1, &[("b", ""), ("a", "3")])
            .build();
        let group = batch.groups().next().unwrap();
        let value = |name: &str, log| {
            let origin = Origin::parse("from", name).unwrap();
            let log = group.logs().nth(log);
            origin
                .within(&batch)
                .value(&group, log.as_ref())
                .map(|value| String::from_utf8_lossy(value).into_owned())
        };
        let found =
            [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("c", 0), ("a", 9)].map(|(key, log)| value(key, log));
        assert_eq!(
            found.each_ref().map(|found| found.as_deref()),
            [Some("2"), Some("3"), Some("x"), None, None, None]
        );
        assert_eq!(value("__tag__:k", 0).as_deref(), Some("last"));
        assert_eq!(value("__topic__", 0), None);
    }

    #[test]
    fn rejects_names_that_are_not_sources() {
        for name in ["", "__time__", "__tag__:"] {
            let error = Origin::parse("host-from", name).unwrap_err().to_string();
            assert!(error.starts_with("host-from: ") && error.contains("__tag__:KEY"), "{error}");
        }
    }
}
