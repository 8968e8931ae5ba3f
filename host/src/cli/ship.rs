use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use indicatif::{HumanBytes, HumanCount, ProgressBar};
use serde_json::{Value, json};

use super::rule_options::{RuleOptions, put, set_columns};
use super::stage::Report;
use super::{EngineOptions, Failure, bar};
use crate::destination::Destination;
use crate::directory::Directory;
use crate::infer::{self, Column};
use crate::input::{Blocks, Input};
use crate::ndjson::Settings;
use crate::object::Shipped;
use crate::pipeline::Pipeline;
use crate::registry::Registry;
use crate::rejects::Rejects;
use crate::rule::{Rule, RuleError};
use crate::shard::Plan;
use crate::ship::{self, Options, Outcome, Progress};
use crate::table;
use crate::wasi::Allowance;

/// Ships NDJSON as objects below a directory.
///
/// Each line is a log, a JSON object. `__time__`, `__topic__`, `__source__` and `__tag__:KEY` are what
/// they are in a Logstore; every other member is a field, a string as it is and anything else as its
/// JSON text. A line that is no log is kept beside the objects and does not stop the rest.
#[derive(Debug, Args)]
pub(super) struct ShipCommand {
    /// Files of NDJSON (also gzipped, .gz), directories of them, or - for standard input.
    input: Vec<PathBuf>,
    /// The directory that objects are written below.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// The shipping rule, a TOML file. The options below come before it.
    #[arg(long, value_name = "FILE", help_heading = "Rule")]
    rule: Option<PathBuf>,
    /// Name of the rule.
    #[arg(long, help_heading = "Rule")]
    name: Option<String>,
    #[command(flatten)]
    options: RuleOptions,
    #[command(flatten)]
    logs: LogOptions,
    /// Let this component of the rule import WASI, and give it an empty one: no files, network, environment or input,
    /// clocks that stand, and the same random numbers in every call. As the rule names it, or `sha256:` and its digest;
    /// may be given again.
    #[arg(long, value_name = "STAGE", help_heading = "Stages")]
    allow_wasi: Vec<String>,
    /// Threads that parse and run stages. One shard keeps one of them busy.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    report: Report,
}

/// How lines become logs.
#[derive(Debug, Args)]
#[command(next_help_heading = "Logs")]
struct LogOptions {
    /// Field with the log's time: RFC 3339 or Unix time. [default: __time__, and the present where it is missing]
    #[arg(long, value_name = "FIELD")]
    time_field: Option<String>,
    /// How many shards the logs are split into; each has objects of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    shards: u32,
    /// Field whose hash gives the shard.
    #[arg(long, value_name = "FIELD", default_value = "__source__")]
    shard_by: String,
    /// Stop at the first line that is no log.
    #[arg(long)]
    strict: bool,
    /// File for lines that are no logs [default: DIR/_rejects/TIME.ndjson]
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
}

impl ShipCommand {
    pub(super) fn run(self, engine: &EngineOptions) -> Result<(), Failure> {
        let begun = Instant::now();
        let rule = self.rule.as_deref().map(Rule::read).transpose()?.unwrap_or_default();
        let mut rule = self.options.over(rule)?;
        put(&mut rule.name, &self.name);
        rule.check()?;
        check_open(&rule, self.logs.shards)?;
        let registry = Registry::new(engine.engine()?).allowing(Allowance::of(self.allow_wasi.clone()));
        rule.adopt(&registry)?;
        let inputs = Input::find(&self.input)?;
        let total = inputs.iter().map(Input::bytes).sum::<Option<u64>>();
        let heads = inputs.clone();
        let mut blocks = Blocks::new(inputs);
        let inferred = find_columns(&mut rule, &heads, &mut blocks)?;
        let pipeline = Pipeline::new(&registry, &rule)?;
        let plan = Arc::new(Plan {
            pipeline,
            destination: Destination::Directory(Directory::new(self.to.join(&rule.bucket))),
            size: rule.size(),
            time: rule.time(),
        });
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let options = Options {
            settings: Settings {
                time_field: self.logs.time_field.clone(),
                default_time: (now.as_secs().try_into().unwrap_or(u32::MAX), now.subsec_nanos()),
                shards: self.logs.shards,
                shard_field: self.logs.shard_by.clone(),
            },
            threads: self.threads.map_or(cores, usize::from),
            strict: self.logs.strict,
            track_keys: !inferred.is_empty(),
        };
        let rejects = self.logs.rejects.clone();
        let rejects = rejects.unwrap_or_else(|| self.to.join(format!("_rejects/{}.ndjson", now.as_nanos())));
        let mut rejects = Rejects::new(rejects);
        rejects.check()?;
        let bar = Bar::new(total);
        let (outcome, result) = ship::ship(blocks, &plan, &options, &mut rejects, &bar, stop_signal()?);
        bar.0.finish_and_clear();
        match self.report {
            Report::Text if result.is_err() && outcome.objects.is_empty() => {}
            Report::Text => {
                self.print(&outcome, &rejects, begun.elapsed().as_secs_f64());
                self.print_columns(&outcome, &rule, &inferred);
                if result.is_err() {
                    eprintln!(
                        "the objects above are whole; nothing else was written. Remove them before you ship the same logs again"
                    );
                }
            }
            Report::Json => {
                println!("{:#}", report(&outcome, &rejects, &inferred, begun.elapsed().as_secs_f64()));
            }
        }
        result.map_err(Failure::from)
    }

    fn print(&self, outcome: &Outcome, rejects: &Rejects, seconds: f64) {
        if !outcome.objects.is_empty() {
            println!("{}\n", table::render(&HEADER, outcome.objects.iter().map(row).collect()));
        }
        let sum = |of: fn(&Shipped) -> u64| outcome.objects.iter().map(of).sum::<u64>();
        println!(
            "Shipped {} in {} below {}: {} of NDJSON, {} as objects, {} stored, in {seconds:.2} s.",
            count(sum(|object| object.rows), "log"),
            count(outcome.objects.len() as u64, "object"),
            self.to.display(),
            HumanBytes(outcome.input_bytes),
            HumanBytes(sum(|object| object.raw_bytes)),
            HumanBytes(sum(|object| object.stored_bytes)),
        );
        if outcome.filtered > 0 {
            println!("The rule's transforms left out {}.", count(outcome.filtered, "log"));
        }
        if rejects.count() > 0 {
            eprintln!(
                "warning: {} skipped that are no logs. They are kept in {}, why in {}:",
                count(rejects.count(), "line"),
                rejects.path().display(),
                rejects.reasons_path().display()
            );
            rejects.first().iter().for_each(|told| eprintln!("  {told}"));
        }
        if let Some(place) = &outcome.stopped_at {
            eprintln!("stopped by a signal: all up to {place} was shipped, and nothing behind it was");
        }
    }

    /// What became of the logs' fields, as far as the user did not say it.
    fn print_columns(&self, outcome: &Outcome, rule: &Rule, inferred: &[Column]) {
        let json = rule.format.name == "json" && rule.stages.encoder.is_none();
        for (seen, setting, what) in
            [(outcome.tags, "tags", "tags"), (outcome.nanos, "nanos", "parts of seconds")]
        {
            if json && seen && rule.format.settings.get(setting) != Some(&json!(true)) {
                eprintln!(
                    "note: the logs have {what}, which JSON leaves out; --set {setting}=true puts them in"
                );
            }
        }
        if inferred.is_empty() {
            return;
        }
        let column = |column: &Column| match rule.format.name.as_str() {
            "parquet" => format!("{}:{}", column.key, column.type_name),
            _ => column.key.clone(),
        };
        let list: Vec<_> = inferred.iter().map(column).collect();
        println!(
            "Columns were found from the first lines of each file; to fix them: --columns '{}'",
            list.join(",")
        );
        let left_out = left_out(outcome, inferred);
        if !left_out.is_empty() {
            let list = left_out.join(", ");
            eprintln!(
                "warning: later lines have fields that are not in these columns, and were left out: {list}"
            );
        }
    }
}

/// Objects of partitions that may be open at one time, of all shards: each has instances of the stages.
const MOST_OPEN: u64 = 256;

fn check_open(rule: &Rule, shards: u32) -> Result<(), RuleError> {
    let open = rule.open_partitions * u64::from(shards);
    if rule.partition_by.is_created() || open <= MOST_OPEN {
        return Ok(());
    }
    let problem = format!(
        "{} for each of {shards} shards are {open} open objects, and {MOST_OPEN} may be: take fewer, or fewer shards",
        rule.open_partitions
    );
    Err(RuleError::field("open_partitions", problem))
}

fn count(number: u64, what: &str) -> String {
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

fn report(outcome: &Outcome, rejects: &Rejects, inferred: &[Column], seconds: f64) -> Value {
    json!({
        "objects": outcome.objects,
        "rows": outcome.objects.iter().map(|object| object.rows).sum::<u64>(),
        "filtered": outcome.filtered,
        "input_bytes": outcome.input_bytes,
        "seconds": seconds,
        "rejected": rejects.count(),
        "rejects": (rejects.count() > 0).then(|| rejects.path()),
        "left_out": left_out(outcome, inferred),
        "stopped_at": outcome.stopped_at,
    })
}

/// Keys that came when the columns had been found.
fn left_out(outcome: &Outcome, inferred: &[Column]) -> Vec<String> {
    if inferred.is_empty() {
        return vec![];
    }
    let known = |key: &&String| !inferred.iter().any(|column| column.key == **key);
    outcome.keys.iter().filter(known).cloned().collect()
}

/// Finds the columns of a built-in table format that has none, from the first lines of each file, or
/// of standard input.
fn find_columns(rule: &mut Rule, inputs: &[Input], blocks: &mut Blocks) -> Result<Vec<Column>, Failure> {
    let is_table = matches!(rule.format.name.as_str(), "csv" | "parquet");
    if !is_table || rule.stages.encoder.is_some() || rule.format.settings.contains_key("columns") {
        return Ok(vec![]);
    }
    if !rule.transform.is_empty() {
        let problem = "the columns are found from the lines, and transforms make others of them: name those that come out, with --columns";
        return Err(RuleError::field("format", problem).into());
    }
    let mut lines = inputs.iter().map(Input::head).collect::<Result<Vec<_>, _>>()?.join(&b'\n');
    if lines.trim_ascii().is_empty() {
        let Some(block) = blocks.next_block(&|| false)? else {
            let problem = "there are no logs to find the columns from; name them with --columns";
            return Err(RuleError::field("format", problem).into());
        };
        lines.clone_from(&block.bytes);
        blocks.put_back(block);
    }
    let columns = infer::columns(&lines);
    let named = columns.iter().map(|column| (column.key.clone(), Some(column.type_name.to_owned())));
    set_columns(&mut rule.format.settings, &rule.format.name, named);
    Ok(columns)
}

/// Set by the first Ctrl-C or SIGTERM; the second ends the process at once.
fn stop_signal() -> Result<&'static AtomicBool, Failure> {
    static STOP: AtomicBool = AtomicBool::new(false);
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("stopping: what was read is being shipped; once more to give it up");
    })?;
    Ok(&STOP)
}

/// How far it is, for who watches.
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
