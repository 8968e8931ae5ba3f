use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{HumanBytes, HumanCount, ProgressBar};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::connect::{self, Connect};
use super::put_stream::{PutStream, PutStreams};
use super::{Failure, bar};
use crate::file_ship::input::{Blocks, Input};
use crate::file_ship::rejects::Rejects;
use logship_batch::log_group::log_groups;
use logship_batch::parser::{Parser, Reject, Settings};
use logship_batch::time;
use logship_client::{Client, ClientError};
use logship_server::keys::Access;

/// Puts NDJSON into a logstore.
///
/// The input format is that of `logship ship`. Logs are reported as put once they are on the service's disk. A retry
/// after a lost reply stores nothing twice. Malformed lines are written to a file and don't stop the rest.
#[derive(Debug, Args)]
pub(super) struct PutCommand {
    /// The logstore to write to.
    logstore: String,
    /// NDJSON files (also gzipped, .gz), directories of them, or - for standard input.
    #[arg(default_value = "-")]
    input: Vec<PathBuf>,
    /// Reads the log's time from this field: RFC 3339 or Unix time [default: __time__, or the current time if missing]
    #[arg(long, value_name = "FIELD")]
    time_field: Option<String>,
    /// Sets the source of logs without one [default: the host name]
    #[arg(long)]
    source: Option<String>,
    /// Limits the number of concurrent requests.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    requests: u8,
    /// Retries for this many seconds while the service is unreachable.
    #[arg(long = "patience", value_name = "SECONDS", default_value_t = 60)]
    retry_timeout: u64,
    /// Stops at the first malformed line.
    #[arg(long)]
    strict: bool,
    /// Writes malformed lines to this file [default: rejects-TIME.ndjson]
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    #[command(flatten)]
    connect: Connect,
}

/// The log groups of a block of lines.
struct ParsedBlock {
    path: Arc<std::path::Path>,
    groups: Vec<Vec<u8>>,
    logs: usize,
    lines: u64,
    bytes: u64,
    rejects: Vec<Reject>,
}

/// The totals of stored blocks, and the input position up to which all is stored. Blocks complete in input order.
#[derive(Default)]
struct Stored {
    logs: u64,
    bytes: u64,
    position: LineCounter,
}

impl PutCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        let started = Instant::now();
        let inputs = Input::find(&self.input)?;
        let bar = bar::new(inputs.iter().map(Input::bytes).sum());
        let (seconds, nanos) = time::now();
        let default = || format!("rejects-{seconds}{nanos:09}.ndjson").into();
        let mut rejects = Rejects::new(self.rejects.clone().unwrap_or_else(default));
        rejects.check()?;
        let client = self.connect.client(Access::Write)?;
        let mut stored = Stored::default();
        let result = connect::run(async {
            let (sender, receiver) = mpsc::channel(2);
            let settings = self.settings();
            let source = self.source.clone().unwrap_or_else(host_name);
            let reading = std::thread::spawn(move || read(inputs, settings, &source, &sender));
            self.put(client, receiver, &mut rejects, &bar, &mut stored).await?;
            reading.join().map_err(|_| "the reader thread panicked: this is a bug of logship")?
        });
        bar.finish_and_clear();
        let kept = rejects.finish();
        let seconds = started.elapsed().as_secs_f64();
        if result.is_err() && stored.logs == 0 {
            return result;
        }
        println!(
            "Put {} logs into {}/{}: {} of NDJSON in {seconds:.2} s.",
            HumanCount(stored.logs),
            self.connect.project,
            self.logstore,
            HumanBytes(stored.bytes)
        );
        if rejects.count() > 0 {
            let (kept, reasons) = (rejects.path().display(), rejects.reasons_path());
            eprintln!(
                "warning: malformed lines skipped: {}. They are kept in {kept}, with the reasons in {}:",
                rejects.count(),
                reasons.display()
            );
            rejects.first().iter().for_each(|reason| eprintln!("  {reason}"));
        }
        if result.is_err()
            && let Some((path, line)) = &stored.position.0
        {
            eprintln!("everything up to {}:{line} is stored", path.display());
        }
        result.and(kept.map_err(Failure::from))
    }

    fn settings(&self) -> Settings {
        Settings {
            time_field: self.time_field.clone(),
            default_time: time::now(),
            shards: 1,
            shard_field: String::new(),
        }
    }

    async fn put(
        &self,
        client: Client,
        mut blocks: mpsc::Receiver<ParsedBlock>,
        rejects: &mut Rejects,
        bar: &ProgressBar,
        stored: &mut Stored,
    ) -> Result<(), Failure> {
        let (client, logstore) = (Arc::new(client), Arc::<str>::from(self.logstore.as_str()));
        let retry_timeout = Duration::from_secs(self.retry_timeout);
        let (mut in_flight, mut end_of_input) = (InFlight::new(), false);
        let mut lines = LineCounter::default();
        let mut streams = PutStreams::new(self.requests);
        loop {
            // Waits for the oldest request and the input together, so that a failure shows even if the input is idle.
            tokio::select! {
                Some(done) = oldest(&mut in_flight) => {
                    streams.put_back(done??);
                    if let Some((block, _)) = in_flight.pop_front() {
                        stored.add(&block);
                        bar.inc(block.bytes);
                        bar.set_message(format!("{} logs", HumanCount(stored.logs)));
                    }
                }
                next = blocks.recv(), if !end_of_input && in_flight.len() < usize::from(self.requests) => {
                    let Some(mut block) = next else {
                        end_of_input = true;
                        continue;
                    };
                    self.keep_rejects(&block, lines.before(&block), rejects)?;
                    let groups = std::mem::take(&mut block.groups);
                    let (client, logstore) = (Arc::clone(&client), Arc::clone(&logstore));
                    // There are as many streams as requests.
                    let Some(mut stream) = streams.take() else { continue };
                    let handle = tokio::spawn(async move {
                        for group in groups {
                            stream.put(&client, &logstore, &group, retry_timeout).await?;
                        }
                        Ok(stream)
                    });
                    in_flight.push_back((block, handle));
                }
                else => return Ok(()),
            }
        }
    }

    fn keep_rejects(&self, block: &ParsedBlock, before: u64, rejects: &mut Rejects) -> Result<(), Failure> {
        for reject in &block.rejects {
            let line = before + reject.line as u64 + 1;
            if self.strict {
                return Err(format!("{}:{line}: {}", block.path.display(), reject.reason).into());
            }
            rejects.add(&block.path, line, reject)?;
        }
        Ok(())
    }
}

/// Counts the lines of a file.
#[derive(Default)]
struct LineCounter(Option<(Arc<std::path::Path>, u64)>);

impl LineCounter {
    /// Returns the number of lines before a block of the same file. Takes blocks in input order.
    fn before(&mut self, block: &ParsedBlock) -> u64 {
        let before = self.0.take().filter(|(path, _)| *path == block.path).map_or(0, |(_, lines)| lines);
        self.0 = Some((Arc::clone(&block.path), before + block.lines));
        before
    }
}

type InFlight = VecDeque<(ParsedBlock, JoinHandle<Result<PutStream, ClientError>>)>;

/// Waits for the oldest request. Returns `None` if no request is in flight.
async fn oldest(
    in_flight: &mut InFlight,
) -> Option<Result<Result<PutStream, ClientError>, tokio::task::JoinError>> {
    Some((&mut in_flight.front_mut()?.1).await)
}

impl Stored {
    fn add(&mut self, block: &ParsedBlock) {
        self.position.before(block);
        self.logs += block.logs as u64;
        self.bytes += block.bytes;
    }
}

fn read(
    inputs: Vec<Input>,
    settings: Settings,
    source: &str,
    blocks: &mpsc::Sender<ParsedBlock>,
) -> Result<(), Failure> {
    let mut parser = Parser::new(settings);
    let mut input = Blocks::new(inputs);
    while let Some(block) = input.next_block(&|| blocks.is_closed())? {
        // A stream may run for days, so the default time must advance.
        parser.set_default_time(time::now());
        let parsed = parser.parse(&block.bytes);
        let batches: Vec<_> = parsed.batches.iter().map(|(_, batch)| batch).collect();
        let read = ParsedBlock {
            path: block.path,
            groups: batches.iter().flat_map(|batch| log_groups(batch, source)).collect(),
            logs: batches.iter().map(|batch| batch.len()).sum(),
            lines: parsed.lines as u64,
            bytes: block.bytes.len() as u64,
            rejects: parsed.rejects,
        };
        if blocks.blocking_send(read).is_err() {
            // The put failed and reports its error.
            return Ok(());
        }
    }
    Ok(())
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
