//! An encoder that marks its objects: a line `MARK ID` for each log with a field `id`, between the lines `MARK begin`
//! and `MARK end`.
//!
//! The mark and the act are bytes of the component that tests overwrite. One compiled component thus gives any number
//! of versions.

use logship_stage::encode::Description;
use logship_stage::{Batch, Encoder, Result};

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

/// An open object.
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
            // Accepts any settings, and ignores them.
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
                let mut leaked = Vec::new();
                loop {
                    leaked.push(std::hint::black_box(vec![1_u8; 1 << 20]));
                }
            }
            // 40 MiB for each chunk, which `size` does not count.
            "giant" => return Ok(vec![b'x'; 40 << 20]),
            // A list outside the memory of the component.
            "lie" => {
                const LONG: usize = 1 << 20;
                // SAFETY: none: the host must reject this list. The component never reads it.
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
