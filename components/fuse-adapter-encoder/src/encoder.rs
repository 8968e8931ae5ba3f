use logship_fuse_adapter::{
    Configs, first_filtered_or_split, fused_name, fused_schema, rename_reserved_fields, stage_path,
    transformer_path,
};

use crate::bindings::exports::logship::encode::encoder::{
    ConfigProblem, Description, Error, Guest, GuestObject, InnerCompression, LogBatch, Object, Rejection,
};
use crate::bindings::logship::encode::encoder as stage;
use crate::bindings::logship::transform::transformer;

struct Adapter;

crate::bindings::export_adapter!(Adapter with_types_in crate::bindings);

impl Guest for Adapter {
    type Object = FusedObject;

    fn describe() -> Description {
        let (transformer, stage) = (transformer::describe(), stage::describe());
        let inner_compression =
            |inner: stage::InnerCompression| InnerCompression { name: inner.name, suffix: inner.suffix };
        Description {
            name: fused_name(&transformer.name, &stage.name),
            version: stage.version,
            format: stage.format,
            suffix: stage.suffix,
            media_type: stage.media_type,
            config_schema: fused_schema(&transformer.name, &transformer.config_schema, &stage.config_schema),
            compressions: stage.compressions.into_iter().map(inner_compression).collect(),
        }
    }
}

/// An open object.
struct FusedObject {
    transformer: transformer::Session,
    encoder: stage::Object,
}

impl GuestObject for FusedObject {
    fn open(config: String) -> Result<Object, Error> {
        let configs = Configs::split(&config).map_err(|problem| {
            Error::InvalidConfig(ConfigProblem { path: problem.path, reason: problem.reason })
        })?;
        let transformer = transformer::Session::open(&configs.transformer).map_err(transformer_error)?;
        let encoder = stage::Object::open(&configs.stage).map_err(encoder_error)?;
        Ok(Object::new(Self { transformer, encoder }))
    }

    fn push(&self, batch: LogBatch) -> Result<Vec<u8>, Error> {
        let mut transformed = self.transformer.push(&batch).map_err(transformer_error)?;
        // The host counts logs, so an encoder must write each log once.
        if let Some(log) =
            first_filtered_or_split(&transformed.logs, batch.times.len(), transformed.batch.times.len())
        {
            let reason = "the transformer filters or splits this log; fused with an encoder, a transformer may only change logs. Do not fuse it: name it in the rule's `transform`";
            return Err(Error::Rejected(Rejection { log, reason: reason.into() }));
        }
        let batch = &mut transformed.batch;
        rename_reserved_fields(&mut batch.keys, &mut batch.field_keys);
        self.encoder.push(&transformed.batch).map_err(encoder_error)
    }

    fn size(&self) -> u64 {
        self.encoder.size()
    }

    fn finish(object: Object) -> Result<Vec<u8>, Error> {
        stage::Object::finish(object.into_inner::<Self>().encoder).map_err(encoder_error)
    }
}

fn transformer_error(error: transformer::Error) -> Error {
    match error {
        transformer::Error::InvalidConfig(problem) => Error::InvalidConfig(ConfigProblem {
            path: transformer_path(&problem.path),
            reason: problem.reason,
        }),
        transformer::Error::InvalidBatch(invariant) => Error::InvalidBatch(invariant),
        transformer::Error::Rejected(rejection) => {
            Error::Rejected(Rejection { log: rejection.log, reason: rejection.reason })
        }
    }
}

fn encoder_error(error: stage::Error) -> Error {
    match error {
        stage::Error::InvalidConfig(problem) => {
            Error::InvalidConfig(ConfigProblem { path: stage_path(problem.path), reason: problem.reason })
        }
        stage::Error::InvalidBatch(invariant) => Error::InvalidBatch(invariant),
        stage::Error::Rejected(rejection) => {
            Error::Rejected(Rejection { log: rejection.log, reason: rejection.reason })
        }
        stage::Error::TooLarge(reason) => Error::TooLarge(reason),
    }
}
