//! A compressor that misbehaves as configured.

use logship_stage::compress::{Description, Ending, SuffixPlace};
use logship_stage::{Compressor, Error, JsonSchema, Result, config};

/// An open object. Describes itself as zstd, but does not compress.
pub struct Misbehaving {
    act: Act,
    bytes: u64,
}

#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(crate = "logship_stage::schemars")]
enum Act {
    /// Returns only the number of bytes.
    Count,
    /// Returns the input twice.
    Double,
    /// Panics at an empty chunk.
    TrapOnEmpty,
    /// Panics at a chunk of one byte.
    TrapOnOneByte,
    /// Panics at the byte 0xff.
    TrapOnNoise,
    /// Panics at a chunk of more than a megabyte.
    TrapOnLarge,
    /// Returns the error that the object is too large.
    TooLarge,
}

#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "logship_stage::schemars")]
struct Config {
    /// The misbehavior.
    #[serde(default = "count")]
    act: Act,
}

fn count() -> Act {
    Act::Count
}

impl Compressor for Misbehaving {
    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            compression: "zstd".into(),
            suffix: ".zst".into(),
            suffix_place: SuffixPlace::AfterFormat,
            header_room: 0,
            config_schema: config::schema::<Config>(),
        }
    }

    fn open(text: &str) -> Result<Self> {
        Ok(Self { act: config::parse::<Config>(text)?.act, bytes: 0 })
    }

    fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>> {
        self.bytes += bytes.len() as u64;
        let traps = match self.act {
            Act::Count => false,
            Act::Double => return Ok(bytes.repeat(2)),
            Act::TrapOnEmpty => bytes.is_empty(),
            Act::TrapOnOneByte => bytes.len() == 1,
            Act::TrapOnNoise => bytes.contains(&0xff),
            Act::TrapOnLarge => bytes.len() > 1 << 20,
            Act::TooLarge => return Err(Error::TooLarge("as configured".into())),
        };
        assert!(!traps, "as configured");
        Ok(vec![])
    }

    fn finish(self) -> Result<Ending> {
        Ok(Ending { header: vec![], trailer: self.bytes.to_string().into_bytes() })
    }
}

logship_stage::export_compressor!(Misbehaving);
