use crate::bindings::exports::logship::pipeline::packer::{
    CompressorDescription, ConfigProblem, EncoderDescription, Error, Rejection, SuffixPlace,
};
use crate::bindings::logship::compress::compressor;
use crate::bindings::logship::encode::encoder;

impl From<encoder::Description> for EncoderDescription {
    fn from(description: encoder::Description) -> Self {
        Self {
            name: description.name,
            version: description.version,
            format: description.format,
            suffix: description.suffix,
            media_type: description.media_type,
            config_schema: description.config_schema,
        }
    }
}

impl From<compressor::Description> for CompressorDescription {
    fn from(description: compressor::Description) -> Self {
        Self {
            name: description.name,
            version: description.version,
            compression: description.compression,
            suffix: description.suffix,
            suffix_place: match description.suffix_place {
                compressor::SuffixPlace::BeforeFormat => SuffixPlace::BeforeFormat,
                compressor::SuffixPlace::AfterFormat => SuffixPlace::AfterFormat,
            },
            header_room: description.header_room,
            config_schema: description.config_schema,
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
