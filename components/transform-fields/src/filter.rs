use std::iter;
use std::ops::Range;

use logship_stage::{Batch, Error, Group, Log, Origin, Place, Result};
use regex::bytes::Regex;

use crate::config::{Condition, Conditions, Config};
use crate::pattern;
use crate::shape::Either;

/// Decides which logs to keep.
#[derive(Debug)]
pub(crate) struct Filter {
    /// Keeps the logs that meet one of these, or all logs if empty.
    include: Vec<All>,
    /// Filters the logs that meet one of these.
    exclude: Vec<All>,
}

/// Conditions that must all be met.
#[derive(Debug)]
struct All(Vec<(Origin, Test)>);

/// A test of a value.
#[derive(Debug)]
enum Test {
    /// The texts are sorted.
    OneOf(Vec<Vec<u8>>),
    Matches(Regex),
}

/// The kept logs of a batch.
#[derive(Debug)]
pub(crate) enum Kept {
    All,
    Some(Vec<bool>),
}

impl Filter {
    pub(crate) fn of(config: &Config) -> Result<Self> {
        Ok(Self { include: tables("where", &config.r#where)?, exclude: tables("unless", &config.unless)? })
    }

    /// Returns the kept logs of a batch.
    pub(crate) fn apply(&self, batch: &Batch) -> Kept {
        if self.include.is_empty() && self.exclude.is_empty() {
            return Kept::All;
        }
        let (include, exclude) = (locate_all(&self.include, batch), locate_all(&self.exclude, batch));
        let mut kept = Vec::with_capacity(batch.len());
        for group in batch.groups() {
            for log in group.logs() {
                let is_included = include.is_empty() || matches_any(&include, &group, &log);
                kept.push(is_included && !matches_any(&exclude, &group, &log));
            }
        }
        if kept.contains(&false) { Kept::Some(kept) } else { Kept::All }
    }
}

/// Conditions with their origins looked up in a batch.
type Located<'a> = Vec<Vec<(Place<'a>, &'a Test)>>;

fn locate_all<'a>(tables: &'a [All], batch: &'a Batch) -> Located<'a> {
    let locate = |All(all): &'a All| all.iter().map(|(origin, test)| (origin.within(batch), test)).collect();
    tables.iter().map(locate).collect()
}

/// Returns true if a log meets all conditions of one of the tables.
fn matches_any<'a>(tables: &Located<'a>, group: &Group<'a>, log: &Log<'a>) -> bool {
    let holds = |(place, test): &(Place<'a>, &Test)| {
        let value = place.value(group, Some(log)).unwrap_or_default();
        match test {
            Test::OneOf(texts) => texts.binary_search_by(|text| text.as_slice().cmp(value)).is_ok(),
            Test::Matches(regex) => regex.is_match(value),
        }
    };
    tables.iter().any(|all| all.iter().all(holds))
}

fn tables(setting: &str, Conditions(tables): &Conditions) -> Result<Vec<All>> {
    let mut compiled = vec![];
    for (index, table) in tables.iter().enumerate() {
        let place = if tables.len() == 1 { setting.to_owned() } else { format!("{setting}[{index}]") };
        if table.is_empty() {
            return Err(Error::config(
                place,
                "has no conditions, so it would match every log; add a condition",
            ));
        }
        let mut all = vec![];
        for (name, Either(condition)) in table {
            let path = format!("{place}.{name}");
            let test = match condition {
                Condition::OneOf(texts) => {
                    let mut texts: Vec<Vec<u8>> = texts.iter().map(|text| text.clone().into()).collect();
                    texts.sort();
                    Test::OneOf(texts)
                }
                Condition::Matches(matches) => {
                    Test::Matches(pattern::compile(&format!("{path}.matches"), matches)?)
                }
            };
            all.push((Origin::parse(&path, name)?, test));
        }
        compiled.push(All(all));
    }
    Ok(compiled)
}

impl Kept {
    /// Returns true if a log is kept.
    pub(crate) fn contains(&self, log: usize) -> bool {
        match self {
            Self::All => true,
            Self::Some(kept) => kept[log],
        }
    }

    /// Returns the runs of kept logs; `logs` is the number of all logs.
    pub(crate) fn runs(&self, logs: usize) -> Vec<Range<usize>> {
        let Self::Some(kept) = self else { return iter::once(0..logs).collect() };
        let mut start = 0;
        let runs = kept.chunk_by(|one, next| one == next).map(|run| {
            let range = start..start + run.len();
            start = range.end;
            (run[0], range)
        });
        runs.filter(|(is_kept, _)| *is_kept).map(|(_, range)| range).collect()
    }
}
