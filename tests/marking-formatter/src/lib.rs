//! A formatter that marks its messages: an event `{"event":{"mark":"MARK","id":"ID"}}` for each log, with its field `id`.
//!
//! The mark and the act are bytes of the component that tests overwrite, as in `marking-encoder`.

use logship_stage::siem::{Description, Messages, Transport};
use logship_stage::{Batch, Formatter, Result};

/// The build: `marking-build`, by which tests find it, the mark (also the version), and the act.
#[used]
static BUILD: [u8; 32] = *b"marking-build 0000 work         ";

/// Reads the build at run time, after a test has overwritten it.
fn build() -> [u8; 32] {
    // SAFETY: the pointer is valid. A volatile read stops the compiler from inlining the value.
    unsafe { core::ptr::read_volatile(&raw const BUILD) }
}

fn mark() -> String {
    String::from_utf8_lossy(&build()[14..18]).into_owned()
}

/// Returns the act: `work`, or a misbehavior.
fn act() -> String {
    String::from_utf8_lossy(&build()[19..]).trim_end().to_owned()
}

/// A session without state.
pub struct Marking;

impl Formatter for Marking {
    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: mark(),
            transport: Transport::Hec,
            // Accepts any settings, and ignores them.
            config_schema: "{}".into(),
        }
    }

    fn open(_: &str) -> Result<Self> {
        Ok(Self)
    }

    fn push(&mut self, batch: &Batch) -> Result<Messages> {
        match act().as_str() {
            "trap" => panic!("as built"),
            "loop" => loop {
                std::hint::spin_loop();
            },
            _ => {}
        }
        let (mark, mut messages) = (mark(), Messages { bytes: vec![], ends: vec![], logs: vec![] });
        for log in batch.groups().flat_map(|group| group.logs()) {
            let id = log.fields().find(|field| field.key() == "id");
            let id = id.map(|field| String::from_utf8_lossy(field.value()).into_owned()).unwrap_or_default();
            let event = format!(r#"{{"event":{{"mark":"{mark}","id":"{id}"}}}}"#);
            messages.bytes.extend_from_slice(event.as_bytes());
            messages.ends.push(messages.bytes.len() as u32);
        }
        Ok(messages)
    }
}

logship_stage::export_formatter!(Marking);
