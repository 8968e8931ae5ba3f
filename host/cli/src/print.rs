//! Prints to standard output and standard error, without a panic when a stream is closed, full, or has lost its reader.
//!
//! Use [`outln!`] and [`errln!`] in place of `println!` and `eprintln!`, which panic. `commands::run` reports lost
//! output at the end: it is the failure of a command that only prints, and no failure of one that ships.

use std::fmt;
use std::io::{self, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::log_queue::{LogQueue, Stream};

/// Prints a line to standard output. After a failed write, later lines are dropped.
macro_rules! outln {
    ($($text:tt)*) => {
        $crate::print::out(format_args!("{}\n", format_args!($($text)*)))
    };
}

/// Prints a line to standard error. A failed write is ignored.
macro_rules! errln {
    ($($text:tt)*) => {
        $crate::print::err(format_args!("{}\n", format_args!($($text)*)))
    };
}

pub(crate) use {errln, outln};

/// The longest wait for the last lines of the log, when the program ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The first failed write to standard output.
static FAILURE: Mutex<Option<io::Error>> = Mutex::new(None);

fn failure() -> MutexGuard<'static, Option<io::Error>> {
    FAILURE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Prints text to standard output.
pub(crate) fn out(text: fmt::Arguments<'_>) {
    let mut failure = failure();
    // After a failure nothing follows, because a report with a gap would mislead.
    if failure.is_none() {
        *failure = io::stdout().write_fmt(text).err();
    }
}

/// Prints text to standard error. It goes through the log's queue, if a log was started, so that it never blocks.
pub(crate) fn err(text: fmt::Arguments<'_>) {
    match LogQueue::started(Stream::Stderr) {
        Some(queue) => queue.push(text.to_string().into_bytes()),
        None => drop(io::stderr().write_fmt(text)),
    }
}

/// Writes what is still buffered for standard output.
///
/// # Errors
/// The first failed write since the program's start.
pub(crate) fn finish_out() -> io::Result<()> {
    let flushed = io::stdout().flush();
    failure().take().map_or(flushed, Err)
}

/// Writes the lines that are still queued. Gives up after a second, if nobody reads them.
pub(crate) fn flush_log() {
    for queue in [Stream::Stdout, Stream::Stderr].into_iter().filter_map(LogQueue::started) {
        queue.flush(FLUSH_TIMEOUT);
    }
}
