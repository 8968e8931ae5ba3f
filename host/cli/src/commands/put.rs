use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{HumanBytes, HumanCount, ProgressBar};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::connect::{self, Connect};
use super::input_options::InputOptions;
use super::put_stream::{PutStream, PutStreams};
use super::{Failure, bar};
use crate::input::rejects::Rejects;
use crate::input::{Blocks, Input, Listing, NotLogs, RecordOptions, Unread};
use crate::print::{errln, outln};
use logship_batch::log_group::bounded_log_groups;
use logship_batch::parser::{Parser, Reject, Settings};
use logship_batch::time;
use logship_client::{Client, ClientError};
use logship_server::keys::Access;
use logship_sls::error::{ApiError, ErrorCode};
use logship_sls::log_group::LogGroupView;

/// Puts files of logs into a logstore.
///
/// The input is that of `logship ship`. Logs are reported as put once they are on the service's disk. A retry after a lost
/// reply stores nothing twice. Malformed lines are written to a file and don't stop the rest, and neither do files that
/// can't be read. Without any log in the input, the command fails.
#[derive(Debug, Args)]
pub(super) struct PutCommand {
    /// The logstore to write to.
    logstore: String,
    #[command(flatten)]
    input: InputOptions,
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
    /// Stops at the first malformed line, and at a file that can't be read.
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
    /// The reason why the file can't be read further.
    unread: Option<Unread>,
}

/// The largest line that becomes a log, in bytes: the limit of Log Service for a log group.
const MAX_RECORD: usize = 10 << 20;

/// The totals of stored blocks, and the input position up to which all is stored. Blocks complete in input order.
#[derive(Default)]
struct Stored {
    logs: u64,
    bytes: u64,
    position: LineCounter,
    /// The files that were not read to their end.
    unread: Vec<Unread>,
}

impl PutCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        let started = Instant::now();
        let records = self.input.records(self.time_field.as_deref(), MAX_RECORD)?;
        let Listing { inputs, mut unread, .. } = Listing::find(&self.input.paths, None)?;
        if let Some(unread) = unread.iter().find(|unread| self.strict && !unread.is_intended) {
            return Err(unread.to_string().into());
        }
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
            let reading = std::thread::spawn(move || read(inputs, records, settings, &source, &sender));
            self.put(client, receiver, &mut rejects, &bar, &mut stored).await?;
            reading.join().map_err(|_| "the reader thread panicked: this is a bug of logship".into())
        });
        bar.finish_and_clear();
        let kept = rejects.finish();
        let seconds = started.elapsed().as_secs_f64();
        unread.append(&mut stored.unread);
        let result = result.and_then(|()| Ok(NotLogs::check(stored.logs, &unread, &rejects)?));
        if result.is_ok() || stored.logs > 0 {
            outln!(
                "Put {} logs into {}/{}: {} of {} in {seconds:.2} s.",
                HumanCount(stored.logs),
                self.connect.project,
                self.logstore,
                HumanBytes(stored.bytes),
                self.input.format_name()
            );
        }
        Unread::describe(&unread).iter().for_each(|line| errln!("{line}"));
        rejects.describe(self.input.may_differ(stored.logs)).iter().for_each(|line| errln!("{line}"));
        if result.is_err()
            && let Some((path, line)) = &stored.position.0
        {
            errln!("everything up to {}:{line} is stored", path.display());
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
                    let (stream, refusal) = done??;
                    streams.put_back(stream);
                    if let Some((mut block, _)) = in_flight.pop_front() {
                        self.keep_refusal(&mut block, refusal)?;
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
                        let mut refusal = None;
                        for group in groups {
                            match stream.put(&client, &logstore, &group, retry_timeout).await {
                                Err(ClientError::Rejected(error)) if error.code == ErrorCode::PostBodyTooLarge => {
                                    refusal.get_or_insert(Refusal { logs: 0, error }).logs += logs_in(&group);
                                }
                                put => put?,
                            }
                        }
                        Ok((stream, refusal))
                    });
                    in_flight.push_back((block, handle));
                }
                else => return Ok(()),
            }
        }
    }

    /// Records logs of a block that are too large for the service; most are rejected before, by the length of the line.
    fn keep_refusal(&self, block: &mut ParsedBlock, refusal: Option<Refusal>) -> Result<(), Failure> {
        let Some(Refusal { logs, error }) = refusal else { return Ok(()) };
        if self.strict {
            return Err(error.into());
        }
        block.logs -= logs.min(block.logs);
        let reason = format!("logs that the service refuses as too large: {logs} ({error})");
        block.unread = Some(Unread::new(&block.path, reason));
        Ok(())
    }

    fn keep_rejects(&self, block: &ParsedBlock, before: u64, rejects: &mut Rejects) -> Result<(), Failure> {
        for reject in &block.rejects {
            let line = before + reject.line as u64 + 1;
            if self.strict {
                return Err(format!("{}:{line}: {}", block.path.display(), reject.reason).into());
            }
            rejects.add(&block.path, line, reject)?;
        }
        match &block.unread {
            Some(unread) if self.strict && !unread.is_intended => Err(unread.to_string().into()),
            _ => Ok(()),
        }
    }
}

/// Logs that are larger than the service accepts.
struct Refusal {
    logs: usize,
    error: ApiError,
}

fn logs_in(group: &[u8]) -> usize {
    LogGroupView::parse(group).map_or(0, |view| view.logs().count())
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

/// The result of a block's requests.
type Put = Result<(PutStream, Option<Refusal>), ClientError>;

type InFlight = VecDeque<(ParsedBlock, JoinHandle<Put>)>;

/// Waits for the oldest request. Returns `None` if no request is in flight.
async fn oldest(in_flight: &mut InFlight) -> Option<Result<Put, tokio::task::JoinError>> {
    Some((&mut in_flight.front_mut()?.1).await)
}

impl Stored {
    fn add(&mut self, block: &ParsedBlock) {
        self.position.before(block);
        self.logs += block.logs as u64;
        self.bytes += block.bytes;
        self.unread.extend(block.unread.clone());
    }
}

/// Reads and parses all blocks. Ends early if the put failed, which reports its error.
fn read(
    inputs: Vec<Input>,
    records: RecordOptions,
    settings: Settings,
    source: &str,
    blocks: &mpsc::Sender<ParsedBlock>,
) {
    let mut parser = Parser::new(settings);
    let mut input = Blocks::new(inputs, records.clone());
    while let Some(block) = input.next_block(&|| blocks.is_closed()) {
        // A stream may run for days, so the default time must advance.
        parser.set_default_time(time::now());
        let parsed = block.parse(&mut parser, &records);
        let batches: Vec<_> = parsed.batches.iter().map(|(_, batch)| batch).collect();
        let read = ParsedBlock {
            path: Arc::clone(&block.path),
            groups: batches.iter().flat_map(|batch| bounded_log_groups(batch, source, GROUP_BYTES)).collect(),
            logs: batches.iter().map(|batch| batch.len()).sum(),
            lines: parsed.lines as u64,
            bytes: block.bytes(),
            unread: block.to_unread(),
            rejects: parsed.rejects,
        };
        if blocks.blocking_send(read).is_err() {
            return;
        }
    }
}

/// The approximate size of a log group, in bytes. A block with a long line is divided.
const GROUP_BYTES: usize = 2 << 20;

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
