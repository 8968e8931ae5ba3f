use std::cell::RefCell;

use crate::bindings::exports::logship::pipeline::packer::{
    Description, Ending, Error, Guest, GuestObject, LogBatch, Object,
};
use crate::bindings::logship::compress::compressor;
use crate::bindings::logship::encode::encoder;
use crate::convert::{compressor_error, encoder_error};

struct Adapter;

crate::bindings::export_adapter!(Adapter with_types_in crate::bindings);

impl Guest for Adapter {
    type Object = PackedObject;

    fn describe() -> Description {
        Description { encoder: encoder::describe().into(), compressor: compressor::describe().into() }
    }
}

/// An open object.
struct PackedObject {
    encoder: encoder::Object,
    compressor: compressor::Object,
    /// The number of bytes that the encoder returned so far. Calls are never nested.
    encoded: RefCell<u64>,
}

impl PackedObject {
    fn compress(&self, encoded: &[u8]) -> Result<Vec<u8>, Error> {
        if encoded.is_empty() {
            return Ok(vec![]);
        }
        *self.encoded.borrow_mut() += encoded.len() as u64;
        self.compressor.push(encoded).map_err(compressor_error)
    }
}

impl GuestObject for PackedObject {
    fn open(encoder_config: String, compressor_config: String) -> Result<Object, Error> {
        let encoder = encoder::Object::open(&encoder_config).map_err(encoder_error)?;
        let compressor = compressor::Object::open(&compressor_config).map_err(compressor_error)?;
        Ok(Object::new(Self { encoder, compressor, encoded: RefCell::default() }))
    }

    fn push(&self, batch: LogBatch) -> Result<Vec<u8>, Error> {
        self.compress(&self.encoder.push(&batch).map_err(encoder_error)?)
    }

    fn size(&self) -> u64 {
        self.encoder.size()
    }

    fn finish(object: Object) -> Result<Ending, Error> {
        let Self { encoder, compressor, encoded } = object.into_inner();
        let last = encoder::Object::finish(encoder).map_err(encoder_error)?;
        let mut trailer =
            if last.is_empty() { vec![] } else { compressor.push(&last).map_err(compressor_error)? };
        let mut ending = compressor::Object::finish(compressor).map_err(compressor_error)?;
        trailer.append(&mut ending.trailer);
        Ok(Ending { header: ending.header, trailer, size: encoded.into_inner() + last.len() as u64 })
    }
}
