//! The log's way to standard error: a bounded queue, and a thread that writes. What functions print takes it, too.
//!
//! Logging must not stop the work that it describes. A closed or full standard error loses lines, a pipe that nobody
//! reads fills the queue and then loses lines, and neither blocks or ends a thread that logs. Lost lines are counted,
//! and reported once writing works again.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// The largest backlog, in bytes. A busy service logs some kilobytes a second.
const CAPACITY: usize = 1 << 20;

/// The queue of each stream.
static STARTED: [OnceLock<LogQueue>; 2] = [OnceLock::new(), OnceLock::new()];

/// A stream of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// A queue of lines.
#[derive(Debug, Clone)]
pub(crate) struct LogQueue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    stream: Stream,
    backlog: Mutex<Backlog>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Backlog {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Lines that were not written since the last report.
    lost: u64,
    is_writing: bool,
}

impl LogQueue {
    /// Returns the queue of a stream. The first call starts a thread that writes its lines.
    ///
    /// # Errors
    /// When the system has no thread or file descriptor left.
    pub(crate) fn start(stream: Stream) -> io::Result<Self> {
        if let Some(queue) = Self::started(stream) {
            return Ok(queue.clone());
        }
        // A duplicate, so that a blocked write holds no lock of the standard library.
        let file = match stream {
            Stream::Stdout => io::stdout().as_fd().try_clone_to_owned()?,
            Stream::Stderr => io::stderr().as_fd().try_clone_to_owned()?,
        };
        let queue = Self::new(stream);
        let writing = queue.clone();
        std::thread::Builder::new().name("log".into()).spawn(move || writing.write_to(File::from(file)))?;
        Ok(STARTED[stream as usize].get_or_init(|| queue).clone())
    }

    fn new(stream: Stream) -> Self {
        Self(Arc::new(Shared { stream, backlog: Mutex::default(), changed: Condvar::new() }))
    }

    /// Returns the queue of a stream, if it was started.
    pub(crate) fn started(stream: Stream) -> Option<&'static Self> {
        STARTED[stream as usize].get()
    }

    fn backlog(&self) -> MutexGuard<'_, Backlog> {
        self.0.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a line, or counts it as lost if the queue is full.
    pub(crate) fn push(&self, line: Vec<u8>) {
        let mut backlog = self.backlog();
        if backlog.bytes + line.len() > CAPACITY {
            backlog.lost += 1;
            return;
        }
        backlog.bytes += line.len();
        backlog.lines.push_back(line);
        self.0.changed.notify_all();
    }

    /// Waits until all lines are written, or until `timeout`.
    pub(crate) fn flush(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let mut backlog = self.backlog();
        while backlog.is_writing || !backlog.lines.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.0.changed.wait_timeout(backlog, left);
            backlog = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Writes lines forever.
    fn write_to(&self, mut output: impl Write) {
        let mut is_cut = false;
        loop {
            let line = self.take();
            // A line that was cut off by an error ends before the next one begins.
            let cut_end: &[u8] = if is_cut { b"\n" } else { b"" };
            let mut written = 0;
            let result = write_all(&mut output, cut_end, &mut 0)
                .and_then(|()| write_all(&mut output, &line, &mut written));
            is_cut = if written > 0 { result.is_err() } else { is_cut && result.is_err() };
            let lost = self.finish(result.is_ok());
            if lost > 0 {
                match self.0.stream {
                    Stream::Stderr => {
                        tracing::warn!(
                            lost,
                            "lines of the log were lost: standard error could not be written"
                        );
                    }
                    Stream::Stdout => {
                        tracing::warn!(
                            lost,
                            "output of functions was lost: standard output could not be written"
                        );
                    }
                }
            }
        }
    }

    /// Waits for the next line.
    fn take(&self) -> Vec<u8> {
        let mut backlog = self.backlog();
        loop {
            if let Some(line) = backlog.lines.pop_front() {
                backlog.bytes -= line.len();
                backlog.is_writing = true;
                return line;
            }
            backlog = self.0.changed.wait(backlog).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends the writing of a line. Returns the number of lost lines, once all others are written.
    fn finish(&self, is_written: bool) -> u64 {
        let mut backlog = self.backlog();
        backlog.is_writing = false;
        backlog.lost += u64::from(!is_written);
        self.0.changed.notify_all();
        if is_written && backlog.lines.is_empty() { std::mem::take(&mut backlog.lost) } else { 0 }
    }
}

/// Writes all bytes, and counts the written ones.
fn write_all(output: &mut impl Write, bytes: &[u8], written: &mut usize) -> io::Result<()> {
    while *written < bytes.len() {
        match output.write(&bytes[*written..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => *written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Another process made the terminal or pipe non-blocking, and it is full.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// One event of the log. The formatter writes it as a whole.
#[derive(Debug)]
pub(crate) struct Line<'a>(&'a LogQueue);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// An output that fails or accepts a few bytes for each write, as it is told.
    struct Output {
        results: mpsc::Receiver<io::Result<usize>>,
        written: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = self.results.recv().unwrap_or(Ok(usize::MAX))?.min(bytes.len());
            let _ = self.written.send(bytes[..count].to_vec());
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A queue with a thread that writes, the results of the writes, and the written bytes.
    fn queue() -> (LogQueue, mpsc::Sender<io::Result<usize>>, mpsc::Receiver<Vec<u8>>) {
        let (queue, (results, next), (written, seen)) =
            (LogQueue::new(Stream::Stderr), mpsc::channel(), mpsc::channel());
        let writing = queue.clone();
        std::thread::spawn(move || writing.write_to(Output { results: next, written }));
        (queue, results, seen)
    }

    #[test]
    fn full_queue_loses_lines_and_never_blocks() {
        let (queue, results, seen) = queue();
        // Nobody reads: the first write blocks.
        (0..100).for_each(|_| queue.push(vec![b'x'; CAPACITY / 10]));
        queue.flush(Duration::from_millis(10));
        let lost = queue.backlog().lost;
        assert!((88..=90).contains(&lost), "{lost}");
        assert!(queue.backlog().bytes <= CAPACITY);
        drop(results);
        queue.flush(Duration::from_secs(60));
        assert_eq!(seen.try_iter().count() as u64, 100 - lost);
        assert_eq!(queue.backlog().lost, 0, "reported");
    }

    #[test]
    fn failed_writes_lose_their_lines_only() {
        let (queue, results, seen) = queue();
        let full = || Err(io::ErrorKind::StorageFull.into());
        results.send(full()).unwrap();
        queue.push(b"first\n".to_vec());
        // The second line is cut off.
        results.send(Ok(3)).unwrap();
        results.send(full()).unwrap();
        queue.push(b"second\n".to_vec());
        drop(results);
        queue.push(b"third\n".to_vec());
        queue.flush(Duration::from_secs(60));
        assert_eq!(seen.try_iter().collect::<Vec<_>>().concat(), b"sec\nthird\n");
    }
}
