use logship_joint::{Configs, joined, name, of_stage, of_transformer, origins};

use crate::bindings::exports::logship::siem::formatter::{
    ConfigProblem, Description, Error, Guest, GuestSession, LogBatch, Messages, Rejection, Session, Transport,
};
use crate::bindings::logship::siem::formatter as stage;
use crate::bindings::logship::transform::transformer;

struct Joint;

crate::bindings::export_joint!(Joint with_types_in crate::bindings);

impl Guest for Joint {
    type Session = Joined;

    fn describe() -> Description {
        let (first, stage) = (transformer::describe(), stage::describe());
        Description {
            name: name(&first.name, &stage.name),
            version: stage.version,
            transport: match stage.transport {
                stage::Transport::Hec => Transport::Hec,
                stage::Transport::Syslog => Transport::Syslog,
            },
            config_schema: joined(&first.name, &first.config_schema, &stage.config_schema),
        }
    }
}

/// A run of batches.
struct Joined {
    transformer: transformer::Session,
    formatter: stage::Session,
}

impl GuestSession for Joined {
    fn open(config: String) -> Result<Session, Error> {
        let configs = Configs::split(&config).map_err(|problem| {
            Error::InvalidConfig(ConfigProblem { path: problem.path, reason: problem.reason })
        })?;
        let transformer = transformer::Session::open(&configs.transformer).map_err(of_the_transformer)?;
        let formatter = stage::Session::open(&configs.stage).map_err(|error| of_the_formatter(error, &[]))?;
        Ok(Session::new(Self { transformer, formatter }))
    }

    fn push(&self, batch: LogBatch) -> Result<Messages, Error> {
        let made = self.transformer.push(&batch).map_err(of_the_transformer)?;
        let messages =
            self.formatter.push(&made.batch).map_err(|error| of_the_formatter(error, &made.logs))?;
        let stage::Messages { bytes, ends, logs } = messages;
        let logs = origins(&made.logs, logs, ends.len());
        Ok(Messages { bytes, ends, logs })
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

/// `logs` tells which log that came in each log is from that the formatter saw.
fn of_the_formatter(error: stage::Error, logs: &[u32]) -> Error {
    match error {
        stage::Error::InvalidConfig(problem) => {
            Error::InvalidConfig(ConfigProblem { path: of_stage(problem.path), reason: problem.reason })
        }
        stage::Error::InvalidBatch(invariant) => Error::InvalidBatch(invariant),
        stage::Error::Rejected(rejection) => {
            let log = origins(logs, vec![rejection.log], 1)[0];
            Error::Rejected(Rejection { log, reason: rejection.reason })
        }
    }
}
