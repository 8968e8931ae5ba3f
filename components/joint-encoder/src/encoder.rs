use logship_joint::{Configs, first_that_is_not_one, joined, name, of_stage, of_transformer};

use crate::bindings::exports::logship::encode::encoder::{
    ConfigProblem, Description, Error, Guest, GuestObject, InnerCompression, LogBatch, Object, Rejection,
};
use crate::bindings::logship::encode::encoder as stage;
use crate::bindings::logship::transform::transformer;

struct Joint;

crate::bindings::export_joint!(Joint with_types_in crate::bindings);

impl Guest for Joint {
    type Object = Joined;

    fn describe() -> Description {
        let (first, stage) = (transformer::describe(), stage::describe());
        let inner = |it: stage::InnerCompression| InnerCompression { name: it.name, suffix: it.suffix };
        Description {
            name: name(&first.name, &stage.name),
            version: stage.version,
            format: stage.format,
            suffix: stage.suffix,
            media_type: stage.media_type,
            config_schema: joined(&first.name, &first.config_schema, &stage.config_schema),
            compressions: stage.compressions.into_iter().map(inner).collect(),
        }
    }
}

/// An object in the making.
struct Joined {
    transformer: transformer::Session,
    encoder: stage::Object,
}

impl GuestObject for Joined {
    fn open(config: String) -> Result<Object, Error> {
        let configs = Configs::split(&config).map_err(|problem| {
            Error::InvalidConfig(ConfigProblem { path: problem.path, reason: problem.reason })
        })?;
        let transformer = transformer::Session::open(&configs.transformer).map_err(of_the_transformer)?;
        let encoder = stage::Object::open(&configs.stage).map_err(of_the_encoder)?;
        Ok(Object::new(Self { transformer, encoder }))
    }

    fn push(&self, batch: LogBatch) -> Result<Vec<u8>, Error> {
        let made = self.transformer.push(&batch).map_err(of_the_transformer)?;
        // An encoder has each log in its object once: that is how the host counts them.
        if let Some(log) = first_that_is_not_one(&made.logs, batch.times.len(), made.batch.times.len()) {
            let reason = "the transformer before the encoder leaves it out, or makes several of it: in one component with an encoder it may only change logs. Let the rule have it (`transform`)";
            return Err(Error::Rejected(Rejection { log, reason: reason.into() }));
        }
        self.encoder.push(&made.batch).map_err(of_the_encoder)
    }

    fn size(&self) -> u64 {
        self.encoder.size()
    }

    fn finish(object: Object) -> Result<Vec<u8>, Error> {
        stage::Object::finish(object.into_inner::<Self>().encoder).map_err(of_the_encoder)
    }
}

fn of_the_transformer(error: transformer::Error) -> Error {
    match error {
        transformer::Error::InvalidConfig(problem) => Error::InvalidConfig(ConfigProblem {
            path: of_transformer(&problem.path),
            reason: problem.reason,
        }),
        transformer::Error::InvalidBatch(invariant) => Error::InvalidBatch(invariant),
        transformer::Error::Rejected(rejection) => {
            Error::Rejected(Rejection { log: rejection.log, reason: rejection.reason })
        }
    }
}

fn of_the_encoder(error: stage::Error) -> Error {
    match error {
        stage::Error::InvalidConfig(problem) => {
            Error::InvalidConfig(ConfigProblem { path: of_stage(problem.path), reason: problem.reason })
        }
        stage::Error::InvalidBatch(invariant) => Error::InvalidBatch(invariant),
        stage::Error::Rejected(rejection) => {
            Error::Rejected(Rejection { log: rejection.log, reason: rejection.reason })
        }
        stage::Error::TooLarge(reason) => Error::TooLarge(reason),
    }
}
