//! The signals that end long-running commands gracefully.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

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
    pub(super) async fn next(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => drop(hangup.recv().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.interrupt.recv() => {}
            () = hangup => {}
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

/// Sets handlers of signals, and keeps SIGHUP ignored if it was.
pub(super) fn keeping_nohup<T>(set_handlers: impl FnOnce() -> T) -> T {
    let is_ignored = is_hangup_ignored();
    let result = set_handlers();
    if is_ignored {
        // SAFETY: ignoring a signal needs no handler.
        unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
    }
    result
}
