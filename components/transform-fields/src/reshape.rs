use std::collections::{BTreeMap, HashMap, HashSet};

use logship_stage::transform::Transformed;
use logship_stage::{Batch, BatchWriter, Error, Group, Log, Origin, Place, Result};

use crate::config::{Config, Value};
use crate::filter::Kept;
use crate::group::GroupReshape;
use crate::redact::{Redaction, Redactions, Scratch};
use crate::shape::Either;

/// Reshapes fields and groups.
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

/// A field to set.
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

/// The action for the fields of a key.
#[derive(Debug, Clone, Copy)]
enum Action<'a> {
    Copy,
    Drop,
    Redact(&'a Redaction),
}

/// The treatment of a key of a batch.
#[derive(Debug, Clone, Copy)]
struct KeyPlan<'a> {
    action: Action<'a>,
    /// The output key.
    key: u32,
    /// The index of the set field that replaces this key's fields, if that field has a value.
    set: Option<usize>,
}

/// A field to set, looked up in a batch.
struct BoundSet<'a> {
    key: u32,
    redaction: Option<&'a Redaction>,
    value: BoundValue<'a>,
}

enum BoundValue<'a> {
    Is(&'a [u8]),
    From(Place<'a>),
}

impl Reshape {
    pub(crate) fn of(config: &Config) -> Result<Self> {
        let redactions = Redactions::of(config)?;
        for (old, new) in &config.rename {
            let path = format!("rename.{old}");
            if !Origin::parse(&path, old)?.is_by_log() || !Origin::parse(&path, new)?.is_by_log() {
                let reason = "only fields can be renamed; to copy a value, use `set` with `from`";
                return Err(Error::config(path, reason));
            }
        }
        for (index, key) in config.keep.iter().flatten().enumerate() {
            let path = format!("keep[{index}]");
            if !Origin::parse(&path, key)?.is_by_log() {
                let reason = "topic, source and tags are always kept; to remove them, use `drop`";
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

    /// Returns the kept logs, reshaped.
    pub(crate) fn apply(&mut self, batch: Batch, kept: &Kept) -> Transformed {
        let mut scratch = std::mem::take(&mut self.scratch);
        let transformed = self.reshaped(&batch, kept, &mut scratch);
        self.scratch = scratch;
        // An unchanged batch is passed on as it is.
        transformed.unwrap_or_else(|| Transformed::same(batch))
    }

    fn reshaped(&self, batch: &Batch, kept: &Kept, scratch: &mut Scratch) -> Option<Transformed> {
        let mut writer = BatchWriter::of(batch);
        let groups = &batch.raw().groups;
        let regrouped = groups.iter().enumerate().filter_map(|(index, group)| {
            self.groups.apply(group, scratch).map(|to| writer.regroup(index, to))
        });
        let is_regrouped = regrouped.count() > 0;
        let bound_sets = self.bound_sets(batch, &mut writer);
        let plans = self.plans(batch, &mut writer);
        let is_copied = plans.iter().all(|plan| matches!(plan.action, Action::Copy) && plan.set.is_none())
            && bound_sets.is_empty();
        let is_renamed = plans.iter().zip(0..).any(|(plan, key)| plan.key != key);
        if is_copied && !is_renamed && !is_regrouped && matches!(kept, Kept::All) {
            return None;
        }
        if is_copied {
            kept.runs(batch.len()).into_iter().for_each(|run| writer.copy_logs(run));
            return Some(writer.finish());
        }
        let mut rewriter = Rewriter { batch, writer, plans, bound_sets, values: vec![], scratch };
        for group in batch.groups() {
            group.logs().filter(|log| kept.contains(log.index())).for_each(|log| rewriter.push(&group, &log));
        }
        Some(rewriter.writer.finish())
    }

    /// Returns the fields to set, without those that are dropped.
    fn bound_sets<'a>(&'a self, batch: &'a Batch, writer: &mut BatchWriter<'_>) -> Vec<BoundSet<'a>> {
        let is_kept = self.set.iter().filter(|set| self.is_kept(&set.key));
        let bound_set = |set: &'a Set| BoundSet {
            key: writer.key(&set.key),
            redaction: self.redactions.of_field(&set.key),
            value: match &set.value {
                FieldValue::Is(value) => BoundValue::Is(value),
                FieldValue::From(origin) => BoundValue::From(origin.within(batch)),
            },
        };
        is_kept.map(bound_set).collect()
    }

    /// Returns the plan for each key.
    fn plans<'a>(&'a self, batch: &Batch, writer: &mut BatchWriter<'_>) -> Vec<KeyPlan<'a>> {
        let mut plans = Vec::with_capacity(batch.raw().keys.len());
        let kept_sets = self.set.iter().filter(|set| self.is_kept(&set.key));
        let places: HashMap<&str, usize> =
            kept_sets.enumerate().map(|(place, set)| (set.key.as_str(), place)).collect();
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
                _ if !self.is_kept(name) => Action::Drop,
                Some(redaction) => Action::Redact(redaction),
                None => Action::Copy,
            };
            plans.push(KeyPlan { action, key, set: places.get(name.as_str()).copied() });
        }
        plans
    }

    fn is_kept(&self, key: &str) -> bool {
        !self.drop.contains(key) && self.keep.as_ref().is_none_or(|keep| keep.contains(key))
    }
}

/// Rewrites a batch field by field.
struct Rewriter<'a, 's> {
    batch: &'a Batch,
    writer: BatchWriter<'a>,
    plans: Vec<KeyPlan<'a>>,
    bound_sets: Vec<BoundSet<'a>>,
    /// The values to set in the current log, in the order of `bound_sets`.
    values: Vec<Option<&'a [u8]>>,
    scratch: &'s mut Scratch,
}

impl<'a> Rewriter<'a, '_> {
    #[inline]
    fn push(&mut self, group: &Group<'a>, log: &Log<'a>) {
        let raw = self.batch.raw();
        // Looked up once, and not for each field that they replace.
        self.values.clear();
        self.values.extend(self.bound_sets.iter().map(|bound_set| bound_set.value(group, log)));
        let (fields, mut begin) = log.span();
        // The start of the pending run of unchanged fields. It is copied as late as possible.
        let mut pending = fields.start;
        for field in fields.clone() {
            let value = begin..raw.value_ends[field] as usize;
            begin = value.end;
            let plan = self.plans[raw.field_keys[field] as usize];
            let redacted = match plan.action {
                _ if plan.set.is_some_and(|set| self.values[set].is_some()) => None,
                Action::Copy => continue,
                Action::Drop => None,
                Action::Redact(redaction) => match redaction.apply(&raw.values[value], self.scratch) {
                    None => continue,
                    redacted => redacted,
                },
            };
            self.writer.copy_fields(pending..field);
            pending = field + 1;
            if let Some(redacted) = redacted {
                self.writer.field(plan.key, redacted);
            }
        }
        self.writer.copy_fields(pending..fields.end);
        for (bound_set, value) in self.bound_sets.iter().zip(&self.values) {
            if let Some(value) = *value {
                let redacted = bound_set.redaction.and_then(|redaction| redaction.apply(value, self.scratch));
                self.writer.field(bound_set.key, redacted.unwrap_or(value));
            }
        }
        self.writer.end_log(log);
    }
}

impl<'a> BoundSet<'a> {
    fn value(&self, group: &Group<'a>, log: &Log<'a>) -> Option<&'a [u8]> {
        match &self.value {
            BoundValue::Is(value) => Some(value),
            BoundValue::From(place) => place.value(group, Some(log)),
        }
    }
}
