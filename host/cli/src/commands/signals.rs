//! The signals that end long-running commands gracefully.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// A signal that ends a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndSignal {
    /// SIGTERM or SIGINT.
    Terminate,
    /// SIGHUP.
    Hangup,
}

/// SIGTERM, SIGINT and SIGHUP: a service manager, Ctrl-C, a closed terminal. None ends the process at once.
#[derive(Debug)]
pub(super) struct EndSignals {
    term: Signal,
    interrupt: Signal,
    /// `None` if the caller ignores it, as nohup does.
    hangup: Option<Signal>,
}

impl EndSignals {
    /// Begins to catch the signals. Must be called within a Tokio runtime.
    pub(super) fn catch() -> io::Result<Self> {
        let hangup = if is_hangup_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup,
        })
    }

    /// Waits for the next signal.
    pub(super) async fn next(&mut self) -> EndSignal {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => drop(hangup.recv().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.term.recv() => EndSignal::Terminate,
            _ = self.interrupt.recv() => EndSignal::Terminate,
            () = hangup => EndSignal::Hangup,
        }
    }
}

/// True if the process was started with SIGHUP ignored.
fn is_hangup_ignored() -> bool {
    // SAFETY: a zeroed sigaction is valid, and without a new action the call only fills it in.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGHUP, std::ptr::null(), &mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    }
}

/// Catches the signals on a thread. Calls `stop` at the first one, and `abort` at a later one. A later SIGHUP does not
/// count: a closed terminal may send several.
///
/// # Errors
/// When the system has no thread or file descriptor left.
pub(super) fn catch_on_thread(
    stop: impl FnOnce() + Send + 'static,
    abort: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = runtime.block_on(async { EndSignals::catch() })?;
    let wait = move || {
        runtime.block_on(async {
            signals.next().await;
            stop();
            while signals.next().await == EndSignal::Hangup {}
            abort();
        });
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).map(drop)
}
