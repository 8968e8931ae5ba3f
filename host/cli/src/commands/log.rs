use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use super::Failure;

/// Logging options of long-running commands.
#[derive(Debug, Args)]
#[command(next_help_heading = "Log")]
pub(super) struct LogOptions {
    /// The format of the log on standard error.
    #[arg(long, value_enum, default_value_t, env = "LOGSHIP_LOG_FORMAT")]
    log_format: LogFormat,
    /// The log level: error, warn, info or debug; by module as logship::service=debug.
    #[arg(long, value_name = "FILTER", default_value = "info", env = "LOGSHIP_LOG")]
    log: String,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum LogFormat {
    /// Plain text.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl LogOptions {
    /// Starts logging.
    pub(super) fn init(&self) -> Result<(), Failure> {
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
