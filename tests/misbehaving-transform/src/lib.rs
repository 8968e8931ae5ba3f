//! A transformer that misbehaves, or has rare behavior, as configured.

use logship_stage::transform::{Description, Transformed};
use logship_stage::{Batch, BatchWriter, Error, JsonSchema, Result, Transformer, config};

/// The transformer.
pub struct Misbehaving(Config);

#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(crate = "logship_stage::schemars")]
enum Act {
    /// Returns all logs unchanged.
    Behave,
    /// Returns two logs for each log, which the contract allows.
    Split,
    /// Rejects logs with a field `refuse`, which the contract allows.
    Refuse,
    /// Rejects a log outside the batch.
    RefuseOther,
    /// Panics.
    Trap,
    /// Returns a value end beyond the values.
    Values,
    /// Returns a field with an unknown key.
    Keys,
    /// Returns a duplicate key.
    KeyTwice,
    /// Omits the last log without an update of `logs`.
    Missing,
    /// Returns decreasing log indexes.
    Falling,
}

#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "logship_stage::schemars")]
struct Config {
    /// The misbehavior.
    #[serde(default = "behave")]
    act: Act,
}

fn behave() -> Act {
    Act::Behave
}

impl Transformer for Misbehaving {
    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            config_schema: config::schema::<Config>(),
        }
    }

    fn open(text: &str) -> Result<Self> {
        Ok(Self(config::parse(text)?))
    }

    fn push(&mut self, batch: Batch) -> Result<Transformed> {
        let logs = batch.len();
        match self.0.act {
            Act::Behave => return Ok(Transformed::same(batch)),
            Act::Split => return Ok(split(&batch)),
            Act::Refuse => return refuse(batch),
            Act::RefuseOther => {
                return Err(Error::Rejected { log: logs as u32, reason: "as configured".into() });
            }
            Act::Trap => panic!("as configured"),
            _ => {}
        }
        let mut writer = BatchWriter::of(&batch);
        writer.copy_logs(0..logs);
        let mut made = writer.finish();
        let raw = &mut made.batch;
        match self.0.act {
            Act::Values => raw.value_ends.iter_mut().for_each(|end| *end += 1),
            Act::Keys => raw.field_keys.iter_mut().for_each(|key| *key += 1000),
            Act::KeyTwice => raw.keys.extend(raw.keys.first().cloned()),
            Act::Missing => {
                let mut writer = BatchWriter::of(&batch);
                writer.copy_logs(0..logs - 1);
                made = Transformed { logs: vec![], ..writer.finish() };
            }
            _ => made.logs = (0..logs as u32).rev().collect(),
        }
        Ok(made)
    }
}

fn split(batch: &Batch) -> Transformed {
    let mut writer = BatchWriter::of(batch);
    let part = writer.key("part");
    for log in batch.groups().flat_map(|group| group.logs()) {
        for number in [b"1", b"2"] {
            writer.copy_fields(log.span().0);
            writer.field(part, number);
            writer.end_log(&log);
        }
    }
    writer.finish()
}

fn refuse(batch: Batch) -> Result<Transformed> {
    for log in batch.groups().flat_map(|group| group.logs()) {
        if log.fields().any(|field| field.key() == "refuse") {
            return Err(Error::Rejected { log: log.index() as u32, reason: "as configured".into() });
        }
    }
    Ok(Transformed::same(batch))
}

logship_stage::export_transformer!(Misbehaving);
