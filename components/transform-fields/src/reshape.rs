use std::collections::{BTreeMap, HashSet};

use logship_stage::transform::Transformed;
use logship_stage::{Batch, BatchWriter, Error, Group, Log, Origin, Place, Result};

use crate::config::{Config, Value};
use crate::filter::Kept;
use crate::group::GroupReshape;
use crate::redact::{Redaction, Redactions, Scratch};
use crate::shape::Either;

/// What is made of fields and groups.
#[derive(Debug)]
pub(crate) struct Reshape {
    rename: BTreeMap<String, String>,
    set: Vec<Set>,
    redactions: Redactions,
    keep: Option<HashSet<String>>,
    drop: HashSet<String>,
    groups: GroupReshape,
    scratch: Scratch,
}

/// A field that is set.
#[derive(Debug)]
struct Set {
    key: String,
    value: FieldValue,
}

#[derive(Debug)]
enum FieldValue {
    Is(Vec<u8>),
    From(Origin),
}

/// What becomes of the fields of a key.
#[derive(Debug, Clone, Copy)]
enum Action<'a> {
    Copy,
    Drop,
    Redact(&'a Redaction),
}

/// What becomes of a key of a batch.
#[derive(Debug, Clone, Copy)]
struct Fate<'a> {
    action: Action<'a>,
    /// Its key where it comes out.
    key: u32,
    /// Which field that is set takes its place, if there is a value for it.
    set: Option<usize>,
}

/// A field that is set, in a batch.
struct Setting<'a> {
    key: u32,
    redaction: Option<&'a Redaction>,
    value: SettingValue<'a>,
}

enum SettingValue<'a> {
    Is(&'a [u8]),
    From(Place<'a>),
}

impl Reshape {
    pub(crate) fn of(config: &Config) -> Result<Self> {
        let redactions = Redactions::of(config)?;
        for (old, new) in &config.rename {
            let path = format!("rename.{old}");
            if !Origin::parse(&path, old)?.is_by_log() || !Origin::parse(&path, new)?.is_by_log() {
                let reason = "only fields have keys that can be others; `set` with `from` copies a value";
                return Err(Error::config(path, reason));
            }
        }
        for (index, key) in config.keep.iter().flatten().enumerate() {
            let path = format!("keep[{index}]");
            if !Origin::parse(&path, key)?.is_by_log() {
                let reason = "topic, source and tags stay without it; `drop` takes them away";
                return Err(Error::config(path, reason));
            }
        }
        for (index, name) in config.hash.iter().enumerate() {
            Origin::parse(&format!("hash[{index}]"), name)?;
        }
        let mut set = vec![];
        for (name, Either(value)) in &config.set {
            let path = format!("set.{name}");
            if Origin::parse(&path, name)?.is_by_log() {
                let value = match value {
                    Value::Is(text) => FieldValue::Is(text.clone().into()),
                    Value::From(name) => FieldValue::From(Origin::parse(&format!("{path}.from"), name)?),
                };
                set.push(Set { key: name.clone(), value });
            }
        }
        let groups = GroupReshape::of(config, &redactions)?;
        Ok(Self {
            rename: config.rename.clone(),
            set,
            redactions,
            keep: config.keep.as_ref().map(|keys| keys.iter().cloned().collect()),
            drop: config.drop.iter().cloned().collect(),
            groups,
            scratch: Scratch::default(),
        })
    }

    /// The logs that stay, reshaped.
    pub(crate) fn apply(&mut self, batch: Batch, kept: &Kept) -> Transformed {
        let mut scratch = std::mem::take(&mut self.scratch);
        let made = self.reshaped(&batch, kept, &mut scratch);
        self.scratch = scratch;
        // Nothing of it is another: it goes on as it came.
        made.unwrap_or_else(|| Transformed::same(batch))
    }

    fn reshaped(&self, batch: &Batch, kept: &Kept, scratch: &mut Scratch) -> Option<Transformed> {
        let mut writer = BatchWriter::of(batch);
        let groups = &batch.raw().groups;
        let regrouped = groups.iter().enumerate().filter_map(|(index, group)| {
            self.groups.apply(group, scratch).map(|to| writer.regroup(index, to))
        });
        let is_regrouped = regrouped.count() > 0;
        let settings = self.settings(batch, &mut writer);
        let fates = self.fates(batch, &mut writer);
        let is_copied = fates.iter().all(|fate| matches!(fate.action, Action::Copy) && fate.set.is_none())
            && settings.is_empty();
        let is_renamed = fates.iter().zip(0..).any(|(fate, key)| fate.key != key);
        if is_copied && !is_renamed && !is_regrouped && matches!(kept, Kept::All) {
            return None;
        }
        if is_copied {
            kept.runs(batch.len()).into_iter().for_each(|run| writer.copy_logs(run));
            return Some(writer.finish());
        }
        let mut rewriting = Rewriting { batch, writer, fates, settings, scratch };
        for group in batch.groups() {
            group.logs().filter(|log| kept.has(log.index())).for_each(|log| rewriting.push(&group, &log));
        }
        Some(rewriting.writer.finish())
    }

    /// The fields that are set, where they are not left out.
    fn settings<'a>(&'a self, batch: &'a Batch, writer: &mut BatchWriter<'_>) -> Vec<Setting<'a>> {
        let stays = self.set.iter().filter(|set| self.stays(&set.key));
        let setting = |set: &'a Set| Setting {
            key: writer.key(&set.key),
            redaction: self.redactions.of_field(&set.key),
            value: match &set.value {
                FieldValue::Is(value) => SettingValue::Is(value),
                FieldValue::From(origin) => SettingValue::From(origin.within(batch)),
            },
        };
        stays.map(setting).collect()
    }

    /// What becomes of each key.
    fn fates<'a>(&'a self, batch: &Batch, writer: &mut BatchWriter<'_>) -> Vec<Fate<'a>> {
        let mut fates = Vec::with_capacity(batch.raw().keys.len());
        for (index, old) in batch.raw().keys.iter().enumerate() {
            let new = self.rename.get(old);
            let key = match new {
                None => index as u32,
                Some(new) => {
                    writer.rename(index, new);
                    writer.key(new)
                }
            };
            let name = new.unwrap_or(old);
            let action = match self.redactions.of_field(name) {
                _ if !self.stays(name) => Action::Drop,
                Some(redaction) => Action::Redact(redaction),
                None => Action::Copy,
            };
            let mut staying = self.set.iter().filter(|set| self.stays(&set.key));
            fates.push(Fate { action, key, set: staying.position(|set| set.key == *name) });
        }
        fates
    }

    fn stays(&self, key: &str) -> bool {
        !self.drop.contains(key) && self.keep.as_ref().is_none_or(|keep| keep.contains(key))
    }
}

/// A batch that is rewritten field by field.
struct Rewriting<'a, 's> {
    batch: &'a Batch,
    writer: BatchWriter<'a>,
    fates: Vec<Fate<'a>>,
    settings: Vec<Setting<'a>>,
    scratch: &'s mut Scratch,
}

impl<'a> Rewriting<'a, '_> {
    #[inline]
    fn push(&mut self, group: &Group<'a>, log: &Log<'a>) {
        let raw = self.batch.raw();
        let (fields, mut begin) = log.span();
        // What is copied as it is, and what stands behind it may be as well.
        let mut copied = fields.start;
        for field in fields.clone() {
            let value = begin..raw.value_ends[field] as usize;
            begin = value.end;
            let fate = self.fates[raw.field_keys[field] as usize];
            let redacted = match fate.action {
                _ if fate.set.is_some_and(|set| self.settings[set].value(group, log).is_some()) => None,
                Action::Copy => continue,
                Action::Drop => None,
                Action::Redact(redaction) => match redaction.apply(&raw.values[value], self.scratch) {
                    None => continue,
                    redacted => redacted,
                },
            };
            self.writer.copy_fields(copied..field);
            copied = field + 1;
            if let Some(redacted) = redacted {
                self.writer.field(fate.key, redacted);
            }
        }
        self.writer.copy_fields(copied..fields.end);
        for setting in &self.settings {
            if let Some(value) = setting.value(group, log) {
                let redacted = setting.redaction.and_then(|redaction| redaction.apply(value, self.scratch));
                self.writer.field(setting.key, redacted.unwrap_or(value));
            }
        }
        self.writer.end_log(log);
    }
}

impl<'a> Setting<'a> {
    fn value(&self, group: &Group<'a>, log: &Log<'a>) -> Option<&'a [u8]> {
        match &self.value {
            SettingValue::Is(value) => Some(value),
            SettingValue::From(place) => place.value(group, Some(log)),
        }
    }
}
