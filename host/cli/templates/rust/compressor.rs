//! The stage `{{name}}`: compresses an object as an LZ4 frame.

mod config;

use std::cell::RefCell;
use std::io::Write as _;

use exports::logship::compress::compressor::{
    Description, Ending, Error, Guest, GuestObject, Object, SuffixPlace,
};
use lz4_flex::frame::{BlockSize, FrameEncoder, FrameInfo};

wit_bindgen::generate!({ path: "wit", world: "logship:stages/compressor", generate_all });

/// The JSON Schema of the configuration.
const SCHEMA: &str = r#"{ "type": "object", "additionalProperties": false, "properties": {} }"#;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

struct Stage;

impl Guest for Stage {
    type Object = Frame;

    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            compression: "lz4".into(),
            suffix: ".lz4".into(),
            suffix_place: SuffixPlace::AfterFormat,
            header_room: 0,
            config_schema: SCHEMA.into(),
        }
    }
}

/// An open object.
struct Frame(RefCell<FrameEncoder<Vec<u8>>>);

impl Frame {
    fn new() -> Self {
        // By default the block size depends on the first chunk, but the output must not depend on chunks.
        let info = FrameInfo::new().block_size(BlockSize::Max256KB);
        Self(RefCell::new(FrameEncoder::with_frame_info(info, vec![])))
    }

    fn write(&self, bytes: &[u8]) -> Vec<u8> {
        let mut frame = self.0.borrow_mut();
        frame.write_all(bytes).expect("writing to memory cannot fail");
        std::mem::take(frame.get_mut())
    }

    fn finish(self) -> Vec<u8> {
        self.0.into_inner().finish().expect("writing to memory cannot fail")
    }
}

impl GuestObject for Frame {
    fn open(config: String) -> Result<Object, Error> {
        config::parse::<Config>(&config)?;
        Ok(Object::new(Self::new()))
    }

    fn push(&self, bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
        Ok(self.write(&bytes))
    }

    fn finish(object: Object) -> Result<Ending, Error> {
        Ok(Ending {
            header: vec![],
            trailer: object.into_inner::<Self>().finish(),
        })
    }
}

// On other targets the crate is a library for tests.
#[cfg(target_arch = "wasm32")]
export!(Stage);

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn output_round_trips() {
        let frame = Frame::new();
        let text = b"a line of a log\n".repeat(100_000);
        let mut bytes = vec![];
        text.chunks(300_000)
            .for_each(|chunk| bytes.extend(frame.write(chunk)));
        bytes.extend(frame.finish());
        let mut back = vec![];
        lz4_flex::frame::FrameDecoder::new(&*bytes)
            .read_to_end(&mut back)
            .unwrap();
        assert!(back == text && bytes.len() < text.len() / 10);
    }
}
