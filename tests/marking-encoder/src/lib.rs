//! An encoder that marks what it makes: a line `MARK ID` for each log with a field `id`, between a line `MARK begin`
//! and a line `MARK end`.
//!
//! The mark, and what else it does, are bytes of the component that a test overwrites: so it has any number of builds,
//! each a version of its own, and only one is compiled.

use logship_stage::encode::Description;
use logship_stage::{Batch, Encoder, Result};

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

/// Lines in the making.
pub struct Marking {
    lines: String,
    size: u64,
}

impl Encoder for Marking {
    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: mark(),
            format: "marked".into(),
            suffix: format!(".{}", mark()),
            media_type: "text/plain".into(),
            // Any settings: it has none of its own.
            config_schema: "{}".into(),
            compressions: vec![],
        }
    }

    fn open(_: &str) -> Result<Self> {
        Ok(Self { lines: format!("{} begin\n", mark()), size: 0 })
    }

    fn push(&mut self, batch: &Batch) -> Result<Vec<u8>> {
        match act().as_str() {
            "trap" => panic!("as built"),
            "loop" => loop {
                std::hint::spin_loop();
            },
            "grow" => {
                let mut hoard = Vec::new();
                loop {
                    hoard.push(std::hint::black_box(vec![1_u8; 1 << 20]));
                }
            }
            // More than it says, again and again.
            "giant" => return Ok(vec![b'x'; 40 << 20]),
            // A list that is not within its memory.
            "lie" => {
                const LONG: usize = 1 << 20;
                // SAFETY: there is none: it is what a host must not fall for. It is only handed over, as it is.
                return Ok(unsafe {
                    Vec::from_raw_parts(core::ptr::without_provenance_mut(usize::MAX - LONG / 2), LONG, LONG)
                });
            }
            _ => {}
        }
        let mark = mark();
        for log in batch.groups().flat_map(|group| group.logs()) {
            for field in log.fields().filter(|field| field.key() == "id") {
                self.lines += &mark;
                self.lines.push(' ');
                self.lines += &String::from_utf8_lossy(field.value());
                self.lines.push('\n');
            }
        }
        let lines = std::mem::take(&mut self.lines);
        self.size += lines.len() as u64;
        Ok(lines.into_bytes())
    }

    fn size(&self) -> u64 {
        self.size + self.lines.len() as u64
    }

    fn finish(mut self) -> Result<Vec<u8>> {
        self.lines += &format!("{} end\n", mark());
        Ok(self.lines.into_bytes())
    }
}

logship_stage::export_encoder!(Marking);
