use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::DateTime;
use clap::{Args, Subcommand};
use serde_json::json;

use super::connect::Connect;
use super::consume::DEFAULT_FOLDER;
use super::receiver_options::{ReceiverOptions, ResolvedReceiver};
use super::stage::Report;
use super::{Failure, resend_rows, settings};
use crate::print::outln;
use crate::table;
use logship_batch::time::now;
use logship_config::service::Config;
use logship_delivery::dead_letter::{DeadLetters, Line, resend};
use logship_delivery::events::consumer::DeadLetterLocation;
use logship_server::keys::Access;

/// Lists and resends dead letters: events that a receiver rejected permanently, and logs that became no rows.
#[derive(Debug, Args)]
pub(super) struct DeadLetterCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists dead letters, with their origin and the reason of rejection.
    List {
        /// Lists each event of this object only.
        #[arg(value_name = "KEY")]
        key: Option<String>,
        /// The output format.
        #[arg(long, value_enum, default_value_t)]
        report: Report,
        /// Directory of dead letters; used if --config has no dead-letter store [default: logship-dead-letters]
        #[arg(long, value_name = "DIR", env = "LOGSHIP_DEAD_LETTERS")]
        dead_letters: Option<PathBuf>,
        /// TOML file with the settings of the dead-letter store.
        #[arg(long, value_name = "FILE", env = "LOGSHIP_CONFIG")]
        config: Option<PathBuf>,
    },
    /// Resends dead letters to a receiver, or writes them to a file, and deletes those that were accepted or written.
    ///
    /// `--to file:PATH` appends them to a file as lines, which `logship put` puts into a logstore again.
    ///
    /// `--to table` is for logs that became no rows. The service encodes them again, as the rule or the job is now, and
    /// writes the rows to the table that they belong to. Those that are dirty again stay dead letters.
    #[command(mut_arg("security_token", |arg| arg.alias(None)))]
    Resend {
        /// The objects to resend.
        #[arg(value_name = "KEY", required_unless_present = "all")]
        keys: Vec<String>,
        /// Resends all objects.
        #[arg(long)]
        all: bool,
        /// Directory of dead letters; used if --config has no dead-letter store [default: logship-dead-letters]
        #[arg(long, value_name = "DIR", env = "LOGSHIP_DEAD_LETTERS")]
        dead_letters: Option<PathBuf>,
        #[command(flatten)]
        receiver: Box<ReceiverOptions>,
        #[command(flatten)]
        connect: Connect,
    },
}

impl DeadLetterCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        // Clients of object stores need a runtime with worker threads.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let _entered = runtime.enter();
        let open = |folder: Option<&Path>, settings: &Config| {
            DeadLetterLocation::resolve(folder, settings, DEFAULT_FOLDER).open(settings)
        };
        match self.command {
            Command::List { key, report, dead_letters, config } => {
                let settings = settings::read(config.as_deref())?;
                list(&open(dead_letters.as_deref(), &settings)?, key, report)
            }
            Command::Resend { keys, all, receiver, connect, .. } if receiver.is_table() => {
                let keys = (!all).then_some(keys);
                runtime.block_on(resend_rows::resend(&connect.client(Access::Admin)?, keys))
            }
            Command::Resend { keys, all, dead_letters, receiver, .. } => {
                let folder = dead_letters.as_deref();
                if let Some(file) = receiver.file() {
                    let letters = open(folder, &receiver.settings()?)?;
                    let keys = if all { letters.keys()? } else { keys };
                    return write_out(&letters, &keys, file);
                }
                let resolved = receiver.resolve()?;
                let letters = Arc::new(open(folder, &resolved.settings)?);
                let keys = if all { letters.keys()? } else { keys };
                runtime.block_on(send(&letters, &keys, &resolved))
            }
        }
    }
}

fn list(letters: &DeadLetters, key: Option<String>, report: Report) -> Result<(), Failure> {
    let single_object = key.is_some();
    let keys = match key {
        Some(key) => vec![key],
        None => letters.keys()?,
    };
    let (mut shown, mut rows) = (vec![], vec![]);
    for key in keys {
        let lines = letters.read(&key)?;
        if report == Report::Json {
            shown.push(json!({ "key": key, "letters": lines }));
        } else if single_object {
            rows.extend(lines.iter().map(event_row));
        } else {
            rows.push(object_row(&key, &lines));
        }
    }
    if report == Report::Json {
        outln!("{:#}", json!(shown));
    } else if rows.is_empty() {
        outln!("no dead letters");
    } else {
        let header: &[&str] = match single_object {
            true => &["position", "code", "reason", "event"],
            false => &["object", "events", "time", "receiver", "reasons"],
        };
        outln!("{}", table::render(header, rows));
    }
    Ok(())
}

/// Returns the table row of an object.
fn object_row(key: &str, lines: &[Line]) -> Vec<String> {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for line in lines {
        *reasons.entry(&line.letter.reason).or_default() += 1;
    }
    let reasons: Vec<_> = reasons.iter().map(|(reason, count)| format!("{count} x {reason}")).collect();
    let time = lines.first().and_then(|line| DateTime::from_timestamp(line.time as i64, 0));
    let time = time.map(|time| time.format("%Y-%m-%d %H:%M:%S").to_string()).unwrap_or_default();
    let receiver = lines.first().map(|line| line.origin.receiver.clone()).unwrap_or_default();
    vec![key.to_owned(), lines.len().to_string(), time, receiver, reasons.join("; ")]
}

/// Returns the table row of a dead letter.
fn event_row(line: &Line) -> Vec<String> {
    const MAX_CHARS: usize = 120;
    let letter = &line.letter;
    let fields = letter.fields.as_ref().map(ToString::to_string);
    let text =
        letter.message.clone().or_else(|| letter.message_base64.clone()).or(fields).unwrap_or_default();
    let mut shortened: String = text.chars().take(MAX_CHARS).collect();
    if shortened.len() < text.len() {
        shortened.push('…');
    }
    vec![letter.position.to_string(), letter.code.clone(), letter.reason.clone(), shortened]
}

/// Appends the letters of objects to a file, and deletes each object when its letters are on disk.
fn write_out(letters: &DeadLetters, keys: &[String], path: &Path) -> Result<(), Failure> {
    let unwritten = |error| format!("can't write {}: {error}", path.display());
    let file = OpenOptions::new().create(true).append(true).open(path).map_err(unwritten)?;
    if keys.is_empty() {
        outln!("no dead letters");
    }
    for key in keys {
        let lines = letters.read(key)?;
        let mut out = BufWriter::new(&file);
        for line in &lines {
            line.write_content(&mut out).map_err(unwritten)?;
        }
        out.flush().and_then(|()| file.sync_all()).map_err(unwritten)?;
        letters.delete(key)?;
        outln!("{key}: {} written to {}", lines.len(), path.display());
    }
    Ok(())
}

async fn send(
    letters: &Arc<DeadLetters>,
    keys: &[String],
    resolved: &ResolvedReceiver,
) -> Result<(), Failure> {
    if keys.is_empty() {
        outln!("no dead letters");
    }
    let mut remaining = 0;
    for key in keys {
        let resent = resend(letters, key, &*resolved.receiver, u64::from(now().0)).await?;
        outln!("{key}: {} accepted, {} rejected again", resent.received, resent.rejected);
        if resent.unformatted > 0 {
            outln!(
                "{key}: {} logs have no event to send; write them to a file (--to file:PATH), or to the table of their rule (--to table)",
                resent.unformatted
            );
        }
        remaining += resent.rejected + resent.unformatted;
    }
    if remaining > 0 { Err(format!("{remaining} dead letters remain").into()) } else { Ok(()) }
}
