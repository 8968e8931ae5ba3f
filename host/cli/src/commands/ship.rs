use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use indicatif::{HumanBytes, HumanCount, ProgressBar};
use serde_json::{Value, json};

use super::input_options::InputOptions;
use super::rule_options::{RuleOptions, override_with, set_columns};
use super::signals::catch_on_thread;
use super::stage::Report;
use super::{EngineOptions, Failure, bar, settings, ship_columns};
use crate::file_ship;
use crate::file_ship::infer::{Column, Columns};
use crate::file_ship::shard::Plan;
use crate::file_ship::{Options, Outcome, Progress};
use crate::input::rejects::Rejects;
use crate::input::{Blocks, Input, Listing, NotLogs, RecordOptions, Unread};
use crate::print::{errln, outln};
use crate::table;
use logship_batch::parser::Settings;
use logship_config::rule::{Rule, RuleError};
use logship_delivery::objects::object::Shipped;
use logship_delivery::pipeline::{Pipeline, adopt_fused_formats};
use logship_registry::Registry;
use logship_runtime::wasi::WasiAllowlist;
use logship_sink::directory::Directory;

/// Ships files of logs to objects in a directory.
///
/// Each line is a log: a JSON object, or text or CSV with --input. `__time__`, `__topic__`, `__source__` and
/// `__tag__:KEY` have the same meaning as in a Logstore. Every other member is a field; values that are not strings are
/// kept as JSON text. A null is no value. Malformed lines are written to a file and don't stop the rest, and neither do
/// files that can't be read. Without any log in the input, the command fails.
#[derive(Debug, Args)]
pub(super) struct ShipCommand {
    #[command(flatten)]
    input: InputOptions,
    /// Writes objects to this directory.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Reads the shipping rule from this TOML file. Command-line options override it.
    #[arg(long, value_name = "FILE", help_heading = "Rule")]
    rule: Option<PathBuf>,
    /// The rule's name.
    #[arg(long, help_heading = "Rule")]
    name: Option<String>,
    #[command(flatten)]
    options: RuleOptions,
    #[command(flatten)]
    logs: LogOptions,
    /// Lets this stage import an empty WASI: no files, network, environment or input, frozen clocks, and the same
    /// random numbers in every call. Takes the stage's name in the rule, or sha256:DIGEST. Repeatable.
    #[arg(long, value_name = "STAGE", help_heading = "Stages")]
    allow_wasi: Vec<String>,
    /// Threads that parse and run stages; one shard uses one thread [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// The output format.
    #[arg(long, value_enum, default_value_t)]
    report: Report,
}

/// Options of parsing and sharding.
#[derive(Debug, Args)]
#[command(next_help_heading = "Logs")]
struct LogOptions {
    /// Reads the log's time from this field: RFC 3339 or Unix time [default: __time__, or the current time if missing]
    #[arg(long, value_name = "FIELD")]
    time_field: Option<String>,
    /// Splits the logs into this many shards, each with its own objects.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    shards: u32,
    /// Assigns logs to shards by the hash of this field.
    #[arg(long, value_name = "FIELD", default_value = "__source__")]
    shard_by: String,
    /// Stops at the first malformed line, at a file that can't be read, and at the first value that does not fit its
    /// column or has none.
    #[arg(long)]
    strict: bool,
    /// Writes malformed lines to this file [default: DIR/_rejects/TIME.ndjson]
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
}

impl ShipCommand {
    pub(super) fn run(self, engine: &EngineOptions) -> Result<(), Failure> {
        let started = Instant::now();
        let rule = settings::read_rule(self.rule.as_deref())?;
        let mut rule = self.options.apply_to(rule)?;
        override_with(&mut rule.name, &self.name);
        rule.check()?;
        check_open_partitions(&rule, self.logs.shards)?;
        let registry =
            Registry::new(engine.engine()?).with_wasi_allowlist(WasiAllowlist::of(self.allow_wasi.clone()));
        adopt_fused_formats(&mut rule, &registry)?;
        let records = self.input.records(self.logs.time_field.as_deref(), MAX_RECORD)?;
        let Listing { inputs, unread, .. } = Listing::find(&self.input.paths, Some(&self.to))?;
        if let Some(unread) = unread.iter().find(|unread| self.logs.strict && !unread.is_intended) {
            return Err(file_ship::ShipError::Unread(unread.clone()).into());
        }
        let total = inputs.iter().map(Input::bytes).sum::<Option<u64>>();
        let mut blocks = Blocks::new(inputs.clone(), records.clone());
        let inferred = infer_columns(&mut rule, inputs, &records, &mut blocks)?;
        rule.column_warnings().iter().for_each(|warning| errln!("warning: {warning}"));
        let pipeline = Pipeline::new(&registry, &rule)?;
        let plan = Arc::new(Plan {
            pipeline,
            sink: Box::new(Directory::new(self.to.join(&rule.bucket))),
            size: rule.size(),
            time: rule.time(),
            strict: self.logs.strict,
        });
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let options = self.ship_options(now, records, &inferred);
        let rejects = self.logs.rejects.clone();
        let rejects = rejects.unwrap_or_else(|| self.to.join(format!("_rejects/{}.ndjson", now.as_nanos())));
        let mut rejects = Rejects::new(rejects);
        rejects.check()?;
        let bar = Bar::new(total);
        let (mut outcome, result) =
            file_ship::ship(blocks, &plan, &options, &mut rejects, &bar, stop_flag()?);
        bar.0.finish_and_clear();
        outcome.unread.splice(0..0, unread);
        let result = result.map_err(Failure::from).and_then(|()| check_logs(&outcome, &rejects));
        match self.report {
            Report::Text if result.is_err() && outcome.objects.is_empty() => {
                self.print_problems(&outcome, &rejects)
            }
            Report::Text => {
                self.print(&outcome, &rejects, started.elapsed().as_secs_f64());
                ship_columns::print(&outcome, &rule, &inferred);
                if result.is_err() {
                    errln!(
                        "the objects above are complete, and nothing else was written. Delete them before you ship the same logs again"
                    );
                }
            }
            Report::Json => {
                outln!("{:#}", report(&outcome, &rejects, started.elapsed().as_secs_f64()));
            }
        }
        result
    }

    fn ship_options(&self, now: Duration, records: RecordOptions, inferred: &[Column]) -> Options {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        Options {
            settings: Settings {
                time_field: self.logs.time_field.clone(),
                default_time: (now.as_secs().try_into().unwrap_or(u32::MAX), now.subsec_nanos()),
                shards: self.logs.shards,
                shard_field: self.logs.shard_by.clone(),
            },
            records,
            threads: self.threads.map_or(cores, usize::from),
            strict: self.logs.strict,
            columns: (!inferred.is_empty())
                .then(|| inferred.iter().map(|column| column.key.clone()).collect()),
        }
    }

    /// Prints the files that were not read, and the first rejected lines.
    fn print_problems(&self, outcome: &Outcome, rejects: &Rejects) {
        Unread::describe(&outcome.unread).iter().for_each(|line| errln!("{line}"));
        let with_option = self.input.may_differ(outcome.logs);
        rejects.describe(with_option).iter().for_each(|line| errln!("{line}"));
    }

    fn print(&self, outcome: &Outcome, rejects: &Rejects, seconds: f64) {
        if !outcome.objects.is_empty() {
            outln!("{}\n", table::render(&HEADER, outcome.objects.iter().map(row).collect()));
        }
        let sum = |of: fn(&Shipped) -> u64| outcome.objects.iter().map(of).sum::<u64>();
        outln!(
            "Shipped {} in {} below {}: {} of {}, {} as objects, {} stored, in {seconds:.2} s.",
            count(sum(|object| object.rows), "log"),
            count(outcome.objects.len() as u64, "object"),
            self.to.display(),
            HumanBytes(outcome.input_bytes),
            self.input.format_name(),
            HumanBytes(sum(|object| object.raw_bytes)),
            HumanBytes(sum(|object| object.stored_bytes)),
        );
        ship_columns::print_lost(&outcome.lost);
        if outcome.filtered > 0 {
            outln!("The rule's transforms filtered out {}.", count(outcome.filtered, "log"));
        }
        self.print_problems(outcome, rejects);
        if let Some(position) = &outcome.stopped_at {
            errln!("stopped by a signal: everything up to {position} was shipped, and nothing after it");
        }
    }
}

/// The largest line that becomes a log, in bytes.
const MAX_RECORD: usize = 64 << 20;

/// Fails if nothing of an input with lines or files was a log.
fn check_logs(outcome: &Outcome, rejects: &Rejects) -> Result<(), Failure> {
    NotLogs::check(outcome.logs, &outcome.unread, rejects).map_err(Failure::from)
}

/// The largest number of open objects of all shards; each has its own stage instances.
const MAX_OPEN_OBJECTS: u64 = 256;

fn check_open_partitions(rule: &Rule, shards: u32) -> Result<(), RuleError> {
    let open = rule.open_partitions * u64::from(shards);
    if rule.partition_by.is_created() || open <= MAX_OPEN_OBJECTS {
        return Ok(());
    }
    let problem = format!(
        "{} partitions in each of {shards} shards exceed {MAX_OPEN_OBJECTS} open objects ({open}): use fewer partitions or shards",
        rule.open_partitions
    );
    Err(RuleError::field("open_partitions", problem))
}

pub(super) fn count(number: u64, what: &str) -> String {
    format!("{} {what}{}", HumanCount(number), if number == 1 { "" } else { "s" })
}

const HEADER: [&str; 5] = ["object", "rows", "raw bytes", "stored bytes", "seconds"];

fn row(object: &Shipped) -> Vec<String> {
    vec![
        object.object.clone(),
        HumanCount(object.rows).to_string(),
        HumanCount(object.raw_bytes).to_string(),
        HumanCount(object.stored_bytes).to_string(),
        format!("{:.2}", object.seconds),
    ]
}

fn report(outcome: &Outcome, rejects: &Rejects, seconds: f64) -> Value {
    json!({
        "objects": outcome.objects,
        "rows": outcome.objects.iter().map(|object| object.rows).sum::<u64>(),
        "filtered": outcome.filtered,
        "input_bytes": outcome.input_bytes,
        "seconds": seconds,
        "rejected": rejects.count(),
        "rejects": (rejects.count() > 0).then(|| rejects.path().to_string_lossy()),
        "unread": Unread::to_json(&outcome.unread, false),
        "passed_over": Unread::to_json(&outcome.unread, true),
        "left_out": outcome.omitted,
        "lost": outcome.lost,
        "stopped_at": outcome.stopped_at,
    })
}

/// Infers the columns of a built-in table format without configured columns, from the first lines of each file or of
/// standard input.
fn infer_columns(
    rule: &mut Rule,
    inputs: Vec<Input>,
    options: &RecordOptions,
    blocks: &mut Blocks,
) -> Result<Vec<Column>, Failure> {
    let is_table = matches!(rule.format.name.as_str(), "csv" | "parquet");
    if !is_table || rule.stages.encoder.is_some() || rule.format.settings.contains_key("columns") {
        return Ok(vec![]);
    }
    if !rule.transform.is_empty() {
        let problem = "columns can't be inferred from the input if the rule has transforms: list the columns of the transformed logs with --columns";
        return Err(RuleError::field("format", problem).into());
    }
    let mut columns = Columns::default();
    // Other inputs can be read only once.
    let files = inputs.into_iter().filter(|input| input.bytes().is_some());
    let heads = files.filter_map(|file| Blocks::new(vec![file], options.clone()).peek(&|| false));
    let mut is_known = false;
    for head in heads {
        columns.add_records(&head, &options.text_field);
        is_known = true;
    }
    if !is_known && let Some(head) = blocks.peek(&|| false) {
        columns.add_records(&head, &options.text_field);
    }
    let columns = columns.finish();
    let named = columns.iter().map(|column| (column.key.clone(), Some(column.type_name.to_owned())));
    set_columns(&mut rule.format.settings, &rule.format.name, named);
    Ok(columns)
}

/// Returns a flag that the first Ctrl-C, SIGTERM or SIGHUP sets. The next Ctrl-C or SIGTERM ends the process at once.
fn stop_flag() -> Result<&'static AtomicBool, Failure> {
    static STOP: AtomicBool = AtomicBool::new(false);
    let stop = || {
        STOP.store(true, Ordering::Relaxed);
        errln!("stopping: shipping the logs read so far; interrupt again to discard them");
    };
    catch_on_thread(stop, || std::process::exit(130))?;
    Ok(&STOP)
}

/// A progress bar with the number of objects.
struct Bar(ProgressBar);

impl Bar {
    fn new(total: Option<u64>) -> Self {
        let bar = bar::new(total);
        bar.set_message("0 objects");
        Self(bar)
    }
}

impl Progress for Bar {
    fn parsed(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    fn shipped(&self, _: &Shipped) {
        static OBJECTS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let objects = OBJECTS.fetch_add(1, Ordering::Relaxed) + 1;
        self.0.set_message(format!("{objects} objects"));
    }
}
