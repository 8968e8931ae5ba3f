//! A renderer that misbehaves as configured.

use std::sync::atomic::{AtomicU64, Ordering};

use logship_stage::object_path::{Description, Request};
use logship_stage::{JsonSchema, Renderer, Result, config};

/// The number of rendered keys. A correct renderer has no state.
static RENDERED: AtomicU64 = AtomicU64::new(0);

/// The renderer.
pub struct Misbehaving;

#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(crate = "logship_stage::schemars")]
enum Act {
    /// Returns a valid key without the prefix.
    Behave,
    /// Returns a key with the prefix, unchecked.
    TrustPrefix,
    /// Returns a key with the partition format, unchecked.
    TrustPartition,
    /// Returns a key without the number.
    LeaveTheNumberOut,
    /// Returns a key with the number of rendered keys.
    Count,
    /// Panics at an empty prefix.
    TrapOnNoPrefix,
    /// Panics at an empty partition format.
    TrapOnNoPartition,
    /// Panics at an empty project name.
    TrapOnNoNames,
    /// Panics at control characters.
    TrapOnControlCharacters,
    /// Panics at multi-byte characters.
    TrapOnWideCharacters,
    /// Panics at a partition format with a truncated directive.
    TrapOnACutDirective,
    /// Panics at the largest number.
    TrapOnTheLastNumber,
    /// Leaks a kilobyte for each key.
    Leak,
    /// Is slow.
    Dawdle,
    /// Never returns.
    Loop,
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

impl Renderer for Misbehaving {
    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            config_schema: config::schema::<Config>(),
        }
    }

    fn render(text: &str, request: &Request) -> Result<String> {
        let rendered = RENDERED.fetch_add(1, Ordering::Relaxed);
        let act = config::parse::<Config>(text)?.act;
        let (time, number) = (request.creation_time, request.number);
        let traps = match act {
            Act::Behave => false,
            Act::TrustPrefix => return Ok(format!("{}/{time}_{number}", request.prefix)),
            Act::TrustPartition => return Ok(format!("{}/{time}_{number}", request.partition_format)),
            Act::LeaveTheNumberOut => return Ok(format!("{time}")),
            Act::Count => return Ok(format!("{time}_{number}_{rendered}")),
            Act::TrapOnNoPrefix => request.prefix.is_empty(),
            Act::TrapOnNoPartition => request.partition_format.is_empty(),
            Act::TrapOnNoNames => request.project.is_empty(),
            Act::TrapOnControlCharacters => request.prefix.contains('\n'),
            Act::TrapOnWideCharacters => !request.prefix.is_ascii(),
            Act::TrapOnACutDirective => request.partition_format.ends_with('%'),
            Act::TrapOnTheLastNumber => number == u64::MAX,
            Act::Leak => {
                std::mem::forget(std::hint::black_box(vec![1_u8; 1 << 10]));
                false
            }
            Act::Dawdle => (0..300_000_u64).fold(0, |sum, next| std::hint::black_box(sum ^ next)) == 1,
            Act::Loop => loop {
                std::hint::spin_loop();
            },
        };
        assert!(!traps, "as configured");
        Ok(format!("{time}_{number}"))
    }
}

logship_stage::export_renderer!(Misbehaving);
