use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;
use std::panic::PanicHookInfo;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use super::{Failure, log_fields};
use crate::log_queue::{LogQueue, Stream};
use crate::print;

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
    /// Starts logging. The log never blocks or ends the work that it describes.
    pub(super) fn init(&self) -> Result<(), Failure> {
        let filter =
            EnvFilter::try_new(&self.log).map_err(|error| format!("--log {:?}: {error}", self.log))?;
        let queue =
            LogQueue::start(Stream::Stderr).map_err(|error| format!("can't start the log: {error}"))?;
        // The subscriber would report its own errors by a macro that panics.
        let log =
            tracing_subscriber::fmt().with_env_filter(filter).with_writer(queue).log_internal_errors(false);
        let log = log.with_ansi(std::io::stderr().is_terminal());
        match self.log_format {
            LogFormat::Text => log.with_target(false).fmt_fields(log_fields::escaped()).init(),
            LogFormat::Json => log.json().flatten_event(true).init(),
        }
        std::panic::set_hook(Box::new(log_panic));
        Ok(())
    }
}

/// Logs a panic as an event. The default hook would block on a standard error that nobody reads.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let at = panic.location().map(ToString::to_string);
    tracing::error!(
        thread = thread.name(),
        at,
        panic = panic.payload_as_str().unwrap_or_default(),
        "a thread panicked: please report this bug of logship"
    );
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        tracing::error!(%backtrace, "the backtrace of the panic");
    }
    // The panic may end the process.
    print::flush_log();
}
