use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{HumanBytes, HumanCount, ProgressBar};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::connect::{self, Connect};
use super::{Failure, bar};
use crate::client::{Client, ClientError};
use crate::input::{Blocks, Input};
use crate::log_group::log_groups;
use crate::ndjson::{Parser, Reject, Settings};
use crate::rejects::Rejects;
use crate::service::keys::Access;
use crate::time;

/// Puts NDJSON into a logstore.
///
/// Lines are read as `logship ship` reads them. What is told to be stored is on the service's disk. A line that is
/// no log is kept in a file, and does not stop the rest.
#[derive(Debug, Args)]
pub(super) struct PutCommand {
    /// The logstore.
    logstore: String,
    /// Files of NDJSON (also gzipped, .gz), directories of them, or - for standard input.
    #[arg(default_value = "-")]
    input: Vec<PathBuf>,
    /// Field with the log's time: RFC 3339 or Unix time. [default: __time__, and the present where it is missing]
    #[arg(long, value_name = "FIELD")]
    time_field: Option<String>,
    /// Source of logs that name none [default: this machine's name]
    #[arg(long)]
    source: Option<String>,
    /// Requests on their way at one time.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    requests: u8,
    /// Seconds to go on trying while the service can't be reached.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    patience: u64,
    /// Stop at the first line that is no log.
    #[arg(long)]
    strict: bool,
    /// File for lines that are no logs [default: rejects-TIME.ndjson]
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    #[command(flatten)]
    connect: Connect,
}

/// What was read of a file: log groups, and how many lines and bytes they were.
struct Read {
    path: Arc<std::path::Path>,
    groups: Vec<Vec<u8>>,
    logs: usize,
    lines: u64,
    bytes: u64,
    rejects: Vec<Reject>,
}

/// What was stored so far, up to a place in the input: the blocks are finished in their order.
#[derive(Default)]
struct Stored {
    logs: u64,
    bytes: u64,
    until: Lines,
}

impl PutCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        let begun = Instant::now();
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
            reading.join().map_err(|_| "reading the input failed")?
        });
        bar.finish_and_clear();
        let kept = rejects.finish();
        let seconds = begun.elapsed().as_secs_f64();
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
                "warning: lines skipped that are no logs: {}. They are kept in {kept}, why in {}:",
                rejects.count(),
                reasons.display()
            );
            rejects.first().iter().for_each(|told| eprintln!("  {told}"));
        }
        if result.is_err()
            && let Some((path, line)) = &stored.until.0
        {
            eprintln!("all up to {}:{line} is stored", path.display());
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
        mut blocks: mpsc::Receiver<Read>,
        rejects: &mut Rejects,
        bar: &ProgressBar,
        stored: &mut Stored,
    ) -> Result<(), Failure> {
        let (client, logstore) = (Arc::new(client), Arc::<str>::from(self.logstore.as_str()));
        let patience = Duration::from_secs(self.patience);
        let (mut sent, mut ended) = (Sent::new(), false);
        let mut lines = Lines::default();
        loop {
            // What was sent first is waited for beside the input: a failure is told at once, also when no more comes.
            tokio::select! {
                Some(done) = front(&mut sent) => {
                    done??;
                    if let Some((block, _)) = sent.pop_front() {
                        stored.add(&block);
                        bar.inc(block.bytes);
                        bar.set_message(format!("{} logs", HumanCount(stored.logs)));
                    }
                }
                next = blocks.recv(), if !ended && sent.len() < usize::from(self.requests) => {
                    let Some(mut block) = next else {
                        ended = true;
                        continue;
                    };
                    self.keep_rejects(&block, lines.before(&block), rejects)?;
                    let groups = std::mem::take(&mut block.groups);
                    let (client, logstore) = (Arc::clone(&client), Arc::clone(&logstore));
                    let handle = tokio::spawn(async move {
                        for group in groups {
                            patiently(patience, || client.put(&logstore, &group, None)).await?;
                        }
                        Ok(())
                    });
                    sent.push_back((block, handle));
                }
                else => return Ok(()),
            }
        }
    }

    fn keep_rejects(&self, block: &Read, before: u64, rejects: &mut Rejects) -> Result<(), Failure> {
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

/// How many lines of a file were read.
#[derive(Default)]
struct Lines(Option<(Arc<std::path::Path>, u64)>);

impl Lines {
    /// The lines of its file before a block. Blocks come in their order, file after file.
    fn before(&mut self, block: &Read) -> u64 {
        let before = self.0.take().filter(|(path, _)| *path == block.path).map_or(0, |(_, lines)| lines);
        self.0 = Some((Arc::clone(&block.path), before + block.lines));
        before
    }
}

type Sent = VecDeque<(Read, JoinHandle<Result<(), ClientError>>)>;

/// The outcome of what was sent first; none if nothing was.
async fn front(sent: &mut Sent) -> Option<Result<Result<(), ClientError>, tokio::task::JoinError>> {
    Some((&mut sent.front_mut()?.1).await)
}

impl Stored {
    fn add(&mut self, block: &Read) {
        self.until.before(block);
        self.logs += block.logs as u64;
        self.bytes += block.bytes;
    }
}

/// Tries again while that may help. A reply that was lost on its way can so store logs twice.
async fn patiently<F: Future<Output = Result<(), ClientError>>>(
    patience: Duration,
    request: impl Fn() -> F,
) -> Result<(), ClientError> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(200);
    loop {
        match request().await {
            Err(error) if error.is_transient() && begun.elapsed() + pause < patience => {
                if begun.elapsed() < pause {
                    eprintln!("trying again for {} s: {error}", patience.as_secs());
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
            result => return result,
        }
    }
}

fn read(
    inputs: Vec<Input>,
    settings: Settings,
    source: &str,
    blocks: &mpsc::Sender<Read>,
) -> Result<(), Failure> {
    let mut parser = Parser::new(settings);
    let mut input = Blocks::new(inputs);
    while let Some(block) = input.next_block(&|| blocks.is_closed())? {
        // A stream may go on for days.
        parser.set_default_time(time::now());
        let parsed = parser.parse(&block.bytes);
        let batches: Vec<_> = parsed.batches.iter().map(|(_, batch)| batch).collect();
        let read = Read {
            path: block.path,
            groups: batches.iter().flat_map(|batch| log_groups(batch, source)).collect(),
            logs: batches.iter().map(|batch| batch.len()).sum(),
            lines: parsed.lines as u64,
            bytes: block.bytes.len() as u64,
            rejects: parsed.rejects,
        };
        if blocks.blocking_send(read).is_err() {
            // Putting failed, and says why.
            return Ok(());
        }
    }
    Ok(())
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
