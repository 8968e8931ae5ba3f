//! An encoder that does what no stage should, as its configuration says.

use logship_stage::encode::Description;
use logship_stage::{Batch, Encoder, Error, JsonSchema, Result, config};

/// Misbehaves at the first push.
pub struct Misbehaving(Config);

#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(crate = "logship_stage::schemars")]
enum Act {
    /// Writes its name and nothing else.
    Behave,
    /// Panics.
    Trap,
    /// Never returns.
    Loop,
    /// Takes memory until there is none.
    Allocate,
    /// Calls itself until its stack is full.
    Recurse,
    /// Refuses the first log.
    Reject,
    /// Says that the object is too large.
    TooLarge,
    /// Panics when the object ends.
    TrapAtEnd,
}

#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "logship_stage::schemars")]
struct Config {
    /// What it does.
    #[serde(default = "behave")]
    act: Act,
}

fn behave() -> Act {
    Act::Behave
}

impl Encoder for Misbehaving {
    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            format: "none".into(),
            suffix: ".txt".into(),
            media_type: "text/plain".into(),
            config_schema: config::schema::<Config>(),
            compressions: vec![],
        }
    }

    fn open(text: &str) -> Result<Self> {
        Ok(Self(config::parse(text)?))
    }

    fn push(&mut self, batch: &Batch) -> Result<Vec<u8>> {
        match self.0.act {
            Act::Behave | Act::TrapAtEnd => {}
            Act::Trap => panic!("as configured"),
            Act::Loop => loop {
                std::hint::spin_loop();
            },
            Act::Allocate => {
                let mut hoard = Vec::new();
                loop {
                    hoard.push(std::hint::black_box(vec![1_u8; 1 << 20]));
                }
            }
            Act::Recurse => return Ok(vec![recurse(batch.len() as u64) as u8]),
            Act::Reject => return Err(Error::Rejected { log: 0, reason: "as configured".into() }),
            Act::TooLarge => return Err(Error::TooLarge("as configured".into())),
        }
        Ok(b"misbehaving-stage\n".to_vec())
    }

    fn size(&self) -> u64 {
        18
    }

    fn finish(self) -> Result<Vec<u8>> {
        match self.0.act {
            Act::TrapAtEnd => panic!("as configured"),
            _ => Ok(vec![]),
        }
    }
}

#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    recurse(depth + 1) + frame[7]
}

logship_stage::export_encoder!(Misbehaving);
