use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use super::Failure;

/// The log of a program that runs for long.
#[derive(Debug, Args)]
pub(super) struct LogOptions {
    /// How the log is written to standard error.
    #[arg(long, value_enum, default_value_t, env = "LOGSHIP_LOG_FORMAT")]
    log_format: LogFormat,
    /// What is logged: error, warn, info, debug, or by module as logship::service=debug.
    #[arg(long, value_name = "FILTER", default_value = "info", env = "LOGSHIP_LOG")]
    log: String,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl LogOptions {
    /// Begins to log.
    pub(super) fn begin(&self) -> Result<(), Failure> {
        let filter =
            EnvFilter::try_new(&self.log).map_err(|error| format!("--log {:?}: {error}", self.log))?;
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        let log = log.with_ansi(std::io::stderr().is_terminal());
        match self.log_format {
            LogFormat::Text => log.with_target(false).init(),
            LogFormat::Json => log.json().flatten_event(true).init(),
        }
        Ok(())
    }
}
