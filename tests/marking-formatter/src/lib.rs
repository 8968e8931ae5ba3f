//! A formatter that marks its messages: an event `{"event":{"mark":"MARK","id":"ID"}}` for each log, with its field `id`.
//!
//! The mark, and what else it does, are bytes of the component that a test overwrites, as those of `marking-encoder`.

use logship_stage::siem::{Description, Messages, Transport};
use logship_stage::{Batch, Formatter, Result};

/// Found by its first word; then a mark, which is its version too, and what it does.
#[used]
static BUILD: [u8; 32] = *b"marking-build 0000 work         ";

/// What is in the component, not what the compiler saw.
fn build() -> [u8; 32] {
    // SAFETY: it is read as what it is. The compiler must not take its value for known.
    unsafe { core::ptr::read_volatile(&raw const BUILD) }
}

fn mark() -> String {
    String::from_utf8_lossy(&build()[14..18]).into_owned()
}

/// What it does: `work`, or what no stage should.
fn act() -> String {
    String::from_utf8_lossy(&build()[19..]).trim_end().to_owned()
}

/// Events with a mark.
pub struct Marking;

impl Formatter for Marking {
    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: mark(),
            transport: Transport::Hec,
            // Any settings: it has none of its own.
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
