use crate::bindings::exports::logship::pipeline::packer::{
    CompressorDescription, ConfigProblem, EncoderDescription, Error, Rejection, SuffixPlace,
};
use crate::bindings::logship::compress::compressor;
use crate::bindings::logship::encode::encoder;

impl From<encoder::Description> for EncoderDescription {
    fn from(it: encoder::Description) -> Self {
        Self {
            name: it.name,
            version: it.version,
            format: it.format,
            suffix: it.suffix,
            media_type: it.media_type,
            config_schema: it.config_schema,
        }
    }
}

impl From<compressor::Description> for CompressorDescription {
    fn from(it: compressor::Description) -> Self {
        Self {
            name: it.name,
            version: it.version,
            compression: it.compression,
            suffix: it.suffix,
            suffix_place: match it.suffix_place {
                compressor::SuffixPlace::BeforeFormat => SuffixPlace::BeforeFormat,
                compressor::SuffixPlace::AfterFormat => SuffixPlace::AfterFormat,
            },
            header_room: it.header_room,
            config_schema: it.config_schema,
        }
    }
}

pub(crate) fn encoder_error(error: encoder::Error) -> Error {
    match error {
        encoder::Error::InvalidConfig(problem) => {
            Error::InvalidEncoderConfig(ConfigProblem { path: problem.path, reason: problem.reason })
        }
        encoder::Error::InvalidBatch(invariant) => Error::InvalidBatch(invariant),
        encoder::Error::Rejected(rejection) => {
            Error::Rejected(Rejection { log: rejection.log, reason: rejection.reason })
        }
        encoder::Error::TooLarge(reason) => Error::TooLarge(reason),
    }
}

pub(crate) fn compressor_error(error: compressor::Error) -> Error {
    match error {
        compressor::Error::InvalidConfig(problem) => {
            Error::InvalidCompressorConfig(ConfigProblem { path: problem.path, reason: problem.reason })
        }
        compressor::Error::TooLarge(reason) => Error::TooLarge(reason),
    }
}
