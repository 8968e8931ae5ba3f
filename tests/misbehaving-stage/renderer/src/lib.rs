//! A renderer that does what none should, as its configuration says.

use std::sync::atomic::{AtomicU64, Ordering};

use logship_stage::object_path::{Description, Request};
use logship_stage::{JsonSchema, Renderer, Result, config};

/// What outlives a key.
static RENDERED: AtomicU64 = AtomicU64::new(0);

/// Puts prefix and number together, unless its configuration says otherwise.
pub struct Misbehaving;

#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(crate = "logship_stage::schemars")]
enum Act {
    /// A lawful key, whatever the prefix.
    Behave,
    /// The prefix as it is.
    TrustPrefix,
    /// The partition format as a directory, as it is.
    TrustPartition,
    /// No number.
    LeaveTheNumberOut,
    /// The number of keys rendered so far.
    Count,
    /// Panics at an empty prefix.
    TrapOnNoPrefix,
    /// Panics at an empty partition format.
    TrapOnNoPartition,
    /// Panics without the name of a project.
    TrapOnNoNames,
    /// Panics at control characters.
    TrapOnControlCharacters,
    /// Panics at characters of more than a byte.
    TrapOnWideCharacters,
    /// Panics at a partition format that ends within a directive.
    TrapOnACutDirective,
    /// Panics at a number that leaves no room for another.
    TrapOnTheLastNumber,
    /// Keeps a kilobyte of each.
    Leak,
    /// Takes a good while.
    Dawdle,
    /// Never returns.
    Loop,
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
