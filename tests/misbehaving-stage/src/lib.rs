//! An encoder that misbehaves as configured.
//!
//! Exports its functions without the SDK, which would validate batches.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use logship_stage::bindings::encoder::exports::logship::encode::encoder as wit;
use logship_stage::{Batch, Error, Field, JsonSchema, Log, LogBatch, Result, config};

const LINE: &[u8] = b"misbehaving-stage\n";

// State that outlives objects. A correct stage has none.
static OPENED: AtomicU64 = AtomicU64::new(0);
static PUSHED: AtomicU64 = AtomicU64::new(0);
static ABANDONED: AtomicU64 = AtomicU64::new(0);
static LEAKED: Mutex<Vec<Vec<u8>>> = Mutex::new(vec![]);

#[derive(Clone, Copy, PartialEq, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(crate = "logship_stage::schemars")]
enum Act {
    /// Writes its name for each log.
    Behave,
    /// Panics.
    Trap,
    /// Never returns.
    Loop,
    /// Never returns from bulk memory operations.
    LoopOfFills,
    /// Never returns from nested calls of limited depth.
    LoopOfCalls,
    /// Allocates memory until the limit.
    Allocate,
    /// Requests 4 GiB at once, and writes to them without a check.
    Grow,
    /// Recurses until the stack overflows.
    Recurse,
    /// Rejects the first log.
    Reject,
    /// Returns the error that the object is too large.
    TooLarge,
    /// Panics at the end of the object.
    TrapAtEnd,
    /// Returns 100 MiB for each chunk.
    Giant,
    /// Writes one line for each chunk, whatever its logs.
    CountChunks,
    /// Writes the number of chunks of its instance.
    CountAll,
    /// Writes the number of open objects.
    CountObjects,
    /// Writes the number of abandoned objects.
    CountGivenUp,
    /// Leaks a kilobyte for each chunk.
    Leak,
    /// Returns a size of zero.
    SizeOfNothing,
    /// Returns twice the size of the object.
    SizeOfTwice,
    /// Returns a smaller size at each call.
    SizeThatFalls,
    /// Writes the number of calls of `size`.
    SizeThatCounts,
    /// Accepts batches without validation.
    Trust,
    /// Panics at a batch that violates an invariant.
    TrapOnBroken,
    /// Panics at a batch without a log.
    TrapOnEmpty,
    /// Panics at a batch of one log.
    TrapOnOneLog,
    /// Panics at a log without fields.
    TrapOnNoFields,
    /// Panics at an empty key.
    TrapOnEmptyKey,
    /// Panics at a log with a duplicate key.
    TrapOnDuplicateKeys,
    /// Panics at a value that is not UTF-8.
    TrapOnInvalidUtf8,
    /// Panics at control characters.
    TrapOnControlCharacters,
    /// Panics at multi-byte characters.
    TrapOnWideCharacters,
    /// Panics at an integer above the 64-bit range.
    TrapOnOddNumbers,
    /// Panics at a time of zero.
    TrapOnTimeZero,
    /// Panics at more than a thousand groups.
    TrapOnManyGroups,
    /// Panics at more than a thousand keys.
    TrapOnManyKeys,
    /// Panics at a value of more than a megabyte.
    TrapOnLargeValue,
    /// Describes itself differently after an object was opened.
    DescribeAnother,
    /// Accepts unknown settings.
    IgnoreSettings,
    /// Accepts truncated JSON.
    IgnoreJson,
    /// Rejects an unknown setting without its name.
    HideSetting,
    /// Is slow for each chunk.
    Dawdle,
    /// Writes fields with reserved keys under these keys.
    Forge,
    /// Writes each field of a log as a JSON member, also repeated ones.
    RepeatMembers,
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

/// Parses the configuration, with the misbehaviors of some acts.
fn parse_config(text: &str) -> Result<Config> {
    let acts = |act: &str| text.contains(&format!("\"{act}\""));
    if acts("ignore-settings") && text.ends_with('}') {
        return Ok(Config { act: Act::IgnoreSettings });
    }
    if acts("ignore-json") && !text.contains(',') {
        return Ok(Config { act: Act::IgnoreJson });
    }
    let hide = |error| if acts("hide-setting") { Error::config("", "no") } else { error };
    config::parse(text).map_err(hide)
}

struct Component;

struct Object(RefCell<State>);

struct State {
    act: Act,
    size: u64,
    size_calls: u64,
    ended: bool,
}

impl wit::Guest for Component {
    type Object = Object;

    fn describe() -> wit::Description {
        let is_changed = ABANDONED.load(Ordering::Relaxed) == u64::MAX;
        wit::Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            format: "none".into(),
            suffix: if is_changed { ".another" } else { ".txt" }.into(),
            media_type: "text/plain".into(),
            config_schema: config::schema::<Config>(),
            compressions: vec![],
        }
    }
}

impl wit::GuestObject for Object {
    fn open(text: String) -> Result<wit::Object, wit::Error> {
        let act = parse_config(&text)?.act;
        OPENED.fetch_add(1, Ordering::Relaxed);
        if act == Act::DescribeAnother {
            ABANDONED.store(u64::MAX, Ordering::Relaxed);
        }
        Ok(wit::Object::new(Self(RefCell::new(State { act, size: 0, size_calls: 0, ended: false }))))
    }

    fn push(&self, batch: LogBatch) -> Result<Vec<u8>, wit::Error> {
        let state = &mut *self.0.borrow_mut();
        let bytes = state.push(batch)?;
        state.size += bytes.len() as u64;
        Ok(bytes)
    }

    fn size(&self) -> u64 {
        let state = &mut *self.0.borrow_mut();
        state.size_calls += 1;
        match state.act {
            Act::SizeOfNothing => 0,
            Act::SizeOfTwice => 2 * state.size,
            Act::SizeThatFalls => (1 << 40) - state.size_calls,
            _ => state.size,
        }
    }

    fn finish(object: wit::Object) -> Result<Vec<u8>, wit::Error> {
        let state = &mut *object.get::<Self>().0.borrow_mut();
        state.ended = true;
        assert!(state.act != Act::TrapAtEnd, "as configured");
        Ok(vec![])
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        OPENED.fetch_sub(1, Ordering::Relaxed);
        if !self.0.borrow().ended {
            ABANDONED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl State {
    fn push(&mut self, raw: LogBatch) -> Result<Vec<u8>> {
        let pushed = PUSHED.fetch_add(1, Ordering::Relaxed);
        let count = match self.act {
            Act::Trust => return Ok(LINE.repeat(raw.times.len())),
            Act::CountAll => pushed,
            Act::CountObjects => OPENED.load(Ordering::Relaxed),
            Act::CountGivenUp => ABANDONED.load(Ordering::Relaxed),
            Act::SizeThatCounts => self.size_calls,
            _ => 0,
        };
        let keys = raw.keys.clone();
        let batch = match Batch::new(raw) {
            Err(_) if self.act == Act::TrapOnBroken => panic!("as configured"),
            other => other?,
        };
        self.act(&batch)?;
        let mut out = match self.act {
            Act::Giant => vec![b'x'; 100 << 20],
            Act::CountChunks => LINE.to_vec(),
            Act::Forge => lines(&batch, |field| format!(" {}={:?}", keys[field.key_index()], text(field))),
            Act::RepeatMembers => lines(&batch, |field| format!(",{:?}:{:?}", field.key(), text(field))),
            _ => LINE.repeat(batch.len()),
        };
        if count > 0 && !batch.is_empty() {
            out.extend_from_slice(count.to_string().as_bytes());
        }
        Ok(out)
    }

    /// Performs the misbehaviors of a chunk.
    fn act(&self, batch: &Batch) -> Result<()> {
        match self.act {
            Act::Trap => panic!("as configured"),
            Act::Loop => loop {
                std::hint::spin_loop();
            },
            Act::LoopOfFills => {
                let mut memory = vec![1_u8; 64 << 20];
                loop {
                    memory.fill(std::hint::black_box(1));
                }
            }
            Act::LoopOfCalls => {
                std::hint::black_box(nested_calls(u64::MAX));
            }
            Act::Allocate => {
                let mut leaked = Vec::new();
                loop {
                    leaked.push(std::hint::black_box(vec![1_u8; 1 << 20]));
                }
            }
            Act::Grow => grow(),
            Act::Recurse => {
                std::hint::black_box(recurse(batch.len() as u64));
            }
            Act::Reject => return Err(Error::Rejected { log: 0, reason: "as configured".into() }),
            Act::TooLarge => return Err(Error::TooLarge("as configured".into())),
            Act::Leak => LEAKED.lock().expect("one thread").push(vec![1; 1 << 10]),
            Act::Dawdle => {
                std::hint::black_box(
                    (0..50_000_000_u64).fold(0, |sum, next| std::hint::black_box(sum ^ next)),
                );
            }
            act => assert!(!traps_on(act, batch), "as configured"),
        }
        Ok(())
    }
}

/// Returns a line for each log: its fields in braces.
fn lines(batch: &Batch, field: impl Fn(&Field<'_>) -> String) -> Vec<u8> {
    let line = |log: Log<'_>| {
        let fields: String = log.fields().map(|of_log| field(&of_log)).collect();
        format!("{{{}}}\n", fields.trim_start_matches(','))
    };
    batch.groups().flat_map(|group| group.logs()).map(line).collect::<String>().into_bytes()
}

fn text(field: &Field<'_>) -> String {
    String::from_utf8_lossy(field.value()).into_owned()
}

/// Returns true if the act panics at this batch.
fn traps_on(act: Act, batch: &Batch) -> bool {
    let raw = batch.raw();
    let value = |is: &dyn Fn(&[u8]) -> bool| {
        let logs = batch.groups().flat_map(|group| group.logs());
        logs.flat_map(|log| log.fields()).any(|field| is(field.value()))
    };
    match act {
        Act::TrapOnEmpty => batch.is_empty(),
        Act::TrapOnOneLog => batch.len() == 1,
        Act::TrapOnNoFields => !batch.is_empty() && raw.field_ends[0] == 0,
        Act::TrapOnEmptyKey => raw.keys.iter().any(String::is_empty),
        Act::TrapOnDuplicateKeys => batch.groups().flat_map(|group| group.logs()).any(|log| {
            let mut seen = HashSet::new();
            !log.fields().all(|field| seen.insert(field.key()))
        }),
        Act::TrapOnInvalidUtf8 => value(&|value| std::str::from_utf8(value).is_err()),
        Act::TrapOnControlCharacters => value(&|value| value.contains(&0)),
        Act::TrapOnWideCharacters => value(&|value| value.starts_with("né".as_bytes())),
        Act::TrapOnOddNumbers => value(&|value| value == b"9223372036854775808"),
        Act::TrapOnTimeZero => raw.times.contains(&0),
        Act::TrapOnManyGroups => raw.groups.len() > 1_000,
        Act::TrapOnManyKeys => raw.keys.len() > 1_000,
        Act::TrapOnLargeValue => value(&|value| value.len() > 1 << 20),
        _ => false,
    }
}

#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    recurse(depth + 1) + frame[7]
}

/// Calls itself twice, to a depth of 60: never returns in practice, and has no loop.
fn nested_calls(number: u64) -> u64 {
    if number.leading_zeros() == 60 {
        1
    } else {
        nested_calls(number >> 1) ^ std::hint::black_box(nested_calls(number >> 1))
    }
}

/// Grows the memory to 4 GiB, and writes to its end.
fn grow() {
    #[cfg(target_arch = "wasm32")]
    {
        let pages = core::arch::wasm32::memory_size(0);
        core::arch::wasm32::memory_grow(0, 65_536 - pages);
        // SAFETY: none: the write traps if the memory did not grow.
        unsafe { std::ptr::write_volatile(0xffff_0000_u32 as *mut u8, 1) };
    }
}

#[cfg(target_arch = "wasm32")]
mod component {
    type Component = super::Component;
    logship_stage::bindings::encoder::export_encoder_world!(
        Component with_types_in logship_stage::bindings::encoder
    );
}
