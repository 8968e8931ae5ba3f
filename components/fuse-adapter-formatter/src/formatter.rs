use logship_fuse_adapter::{
    Configs, fused_name, fused_schema, input_logs, rename_reserved_fields, stage_path, transformer_path,
};

use crate::bindings::exports::logship::siem::formatter::{
    ConfigProblem, Description, Error, Guest, GuestSession, LogBatch, Messages, Rejection, Session, Transport,
};
use crate::bindings::logship::siem::formatter as stage;
use crate::bindings::logship::transform::transformer;

struct Adapter;

crate::bindings::export_adapter!(Adapter with_types_in crate::bindings);

impl Guest for Adapter {
    type Session = FusedSession;

    fn describe() -> Description {
        let (transformer, stage) = (transformer::describe(), stage::describe());
        Description {
            name: fused_name(&transformer.name, &stage.name),
            version: stage.version,
            transport: match stage.transport {
                stage::Transport::Hec => Transport::Hec,
                stage::Transport::Syslog => Transport::Syslog,
            },
            config_schema: fused_schema(&transformer.name, &transformer.config_schema, &stage.config_schema),
        }
    }
}

/// An open session.
struct FusedSession {
    transformer: transformer::Session,
    formatter: stage::Session,
}

impl GuestSession for FusedSession {
    fn open(config: String) -> Result<Session, Error> {
        let configs = Configs::split(&config).map_err(|problem| {
            Error::InvalidConfig(ConfigProblem { path: problem.path, reason: problem.reason })
        })?;
        let transformer = transformer::Session::open(&configs.transformer).map_err(transformer_error)?;
        let formatter = stage::Session::open(&configs.stage).map_err(|error| formatter_error(error, &[]))?;
        Ok(Session::new(Self { transformer, formatter }))
    }

    fn push(&self, batch: LogBatch) -> Result<Messages, Error> {
        let mut transformed = self.transformer.push(&batch).map_err(transformer_error)?;
        let batch = &mut transformed.batch;
        rename_reserved_fields(&mut batch.keys, &mut batch.field_keys);
        let messages = self
            .formatter
            .push(&transformed.batch)
            .map_err(|error| formatter_error(error, &transformed.logs))?;
        let stage::Messages { bytes, ends, logs } = messages;
        let logs = input_logs(&transformed.logs, logs, ends.len());
        Ok(Messages { bytes, ends, logs })
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

/// Converts an error. `logs` maps each log that the formatter received to its input log.
fn formatter_error(error: stage::Error, logs: &[u32]) -> Error {
    match error {
        stage::Error::InvalidConfig(problem) => {
            Error::InvalidConfig(ConfigProblem { path: stage_path(problem.path), reason: problem.reason })
        }
        stage::Error::InvalidBatch(invariant) => Error::InvalidBatch(invariant),
        stage::Error::Rejected(rejection) => {
            let log = input_logs(logs, vec![rejection.log], 1)[0];
            Error::Rejected(Rejection { log, reason: rejection.reason })
        }
    }
}
