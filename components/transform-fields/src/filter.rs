use std::iter;
use std::ops::Range;

use logship_stage::{Batch, Error, Group, Log, Origin, Place, Result};
use regex::bytes::Regex;

use crate::config::{Condition, Conditions, Config};
use crate::pattern;
use crate::shape::Either;

/// Which logs stay.
#[derive(Debug)]
pub(crate) struct Filter {
    /// Those that meet one of these, if there is any.
    wanted: Vec<All>,
    /// But not those that meet one of these.
    unwanted: Vec<All>,
}

/// Conditions that have to be met together.
#[derive(Debug)]
struct All(Vec<(Origin, Test)>);

/// What a value has to be.
#[derive(Debug)]
enum Test {
    OneOf(Vec<Vec<u8>>),
    Matches(Regex),
}

/// The logs of a batch that stay.
#[derive(Debug)]
pub(crate) enum Kept {
    All,
    Some(Vec<bool>),
}

impl Filter {
    pub(crate) fn of(config: &Config) -> Result<Self> {
        Ok(Self { wanted: tables("where", &config.r#where)?, unwanted: tables("unless", &config.unless)? })
    }

    /// The logs of a batch that stay.
    pub(crate) fn apply(&self, batch: &Batch) -> Kept {
        if self.wanted.is_empty() && self.unwanted.is_empty() {
            return Kept::All;
        }
        let (wanted, unwanted) = (places(&self.wanted, batch), places(&self.unwanted, batch));
        let mut kept = Vec::with_capacity(batch.len());
        for group in batch.groups() {
            for log in group.logs() {
                let is_wanted = wanted.is_empty() || is_met(&wanted, &group, &log);
                kept.push(is_wanted && !is_met(&unwanted, &group, &log));
            }
        }
        if kept.contains(&false) { Kept::Some(kept) } else { Kept::All }
    }
}

/// Conditions whose keys were looked up in a batch.
type Looked<'a> = Vec<Vec<(Place<'a>, &'a Test)>>;

fn places<'a>(tables: &'a [All], batch: &'a Batch) -> Looked<'a> {
    let looked = |All(all): &'a All| all.iter().map(|(origin, test)| (origin.within(batch), test)).collect();
    tables.iter().map(looked).collect()
}

/// Whether a log meets all conditions of one of the tables.
fn is_met<'a>(tables: &Looked<'a>, group: &Group<'a>, log: &Log<'a>) -> bool {
    let holds = |(place, test): &(Place<'a>, &Test)| {
        let value = place.value(group, Some(log)).unwrap_or_default();
        match test {
            Test::OneOf(texts) => texts.iter().any(|text| text == value),
            Test::Matches(regex) => regex.is_match(value),
        }
    };
    tables.iter().any(|all| all.iter().all(holds))
}

fn tables(member: &str, Conditions(tables): &Conditions) -> Result<Vec<All>> {
    let mut made = vec![];
    for (index, table) in tables.iter().enumerate() {
        let place = if tables.len() == 1 { member.to_owned() } else { format!("{member}[{index}]") };
        if table.is_empty() {
            return Err(Error::config(place, "has no condition, and every log meets none; name one"));
        }
        let mut all = vec![];
        for (name, Either(condition)) in table {
            let path = format!("{place}.{name}");
            let test = match condition {
                Condition::OneOf(texts) => {
                    Test::OneOf(texts.iter().map(|text| text.clone().into()).collect())
                }
                Condition::Matches(matches) => {
                    Test::Matches(pattern::compile(&format!("{path}.matches"), matches)?)
                }
            };
            all.push((Origin::parse(&path, name)?, test));
        }
        made.push(All(all));
    }
    Ok(made)
}

impl Kept {
    /// Whether a log stays.
    pub(crate) fn has(&self, log: usize) -> bool {
        match self {
            Self::All => true,
            Self::Some(kept) => kept[log],
        }
    }

    /// The runs of logs that stay, of so many.
    pub(crate) fn runs(&self, logs: usize) -> Vec<Range<usize>> {
        let Self::Some(kept) = self else { return iter::once(0..logs).collect() };
        let mut begin = 0;
        let runs = kept.chunk_by(|one, next| one == next).map(|run| {
            let range = begin..begin + run.len();
            begin = range.end;
            (run[0], range)
        });
        runs.filter(|(stays, _)| *stays).map(|(_, range)| range).collect()
    }
}
