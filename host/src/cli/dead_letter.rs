use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::DateTime;
use clap::{Args, Subcommand};
use serde_json::json;

use super::Failure;
use super::consume::FOLDER;
use super::receiver_options::{Chosen, ReceiverOptions};
use super::stage::Report;
use crate::service::config::Config;
use crate::siem::consumer::Place;
use crate::siem::dead_letter::{DeadLetters, Line, resend};
use crate::table;
use crate::time::now;

/// Shows events that a receiver refused for good, and sends them again.
#[derive(Debug, Args)]
pub(super) struct DeadLetterCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists dead letters: what was refused, from where, and why.
    List {
        /// Only those of this object: each event of it.
        #[arg(value_name = "KEY")]
        key: Option<String>,
        /// How it is printed.
        #[arg(long, value_enum, default_value_t)]
        report: Report,
        /// Folder that they are kept in, unless --config names a place [default: logship-dead-letters]
        #[arg(long, value_name = "DIR", env = "LOGSHIP_DEAD_LETTERS")]
        dead_letters: Option<PathBuf>,
        /// A file of settings (TOML) that says where they are kept.
        #[arg(long, value_name = "FILE", env = "LOGSHIP_CONFIG")]
        config: Option<PathBuf>,
    },
    /// Sends dead letters to a receiver again. Those that it takes are deleted, the others stay.
    Resend {
        /// The objects.
        #[arg(value_name = "KEY", required_unless_present = "all")]
        keys: Vec<String>,
        /// All of them.
        #[arg(long)]
        all: bool,
        /// Folder that they are kept in, unless --config names a place [default: logship-dead-letters]
        #[arg(long, value_name = "DIR", env = "LOGSHIP_DEAD_LETTERS")]
        dead_letters: Option<PathBuf>,
        #[command(flatten)]
        receiver: ReceiverOptions,
    },
}

impl DeadLetterCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        // Object stores are asked on threads of their own.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let _entered = runtime.enter();
        match self.command {
            Command::List { key, report, dead_letters, config } => {
                let settings = config.as_deref().map_or_else(|| Ok(Config::default()), Config::read)?;
                let letters = Place::of(dead_letters.as_deref(), &settings, FOLDER).open(&settings)?;
                list(&letters, key, report)
            }
            Command::Resend { keys, all, dead_letters, receiver } => {
                let chosen = receiver.choose()?;
                let place = Place::of(dead_letters.as_deref(), &chosen.settings, FOLDER);
                let letters = Arc::new(place.open(&chosen.settings)?);
                let keys = if all { letters.keys()? } else { keys };
                runtime.block_on(send(&letters, &keys, &chosen))
            }
        }
    }
}

fn list(letters: &DeadLetters, key: Option<String>, report: Report) -> Result<(), Failure> {
    let whole = key.is_some();
    let keys = match key {
        Some(key) => vec![key],
        None => letters.keys()?,
    };
    let (mut shown, mut rows) = (vec![], vec![]);
    for key in keys {
        let lines = letters.read(&key)?;
        if report == Report::Json {
            shown.push(json!({ "key": key, "letters": lines }));
        } else if whole {
            rows.extend(lines.iter().map(event));
        } else {
            rows.push(object(&key, &lines));
        }
    }
    if report == Report::Json {
        println!("{:#}", json!(shown));
    } else if rows.is_empty() {
        println!("no dead letters");
    } else {
        let header: &[&str] = match whole {
            true => &["position", "code", "reason", "event"],
            false => &["object", "events", "time", "receiver", "reasons"],
        };
        println!("{}", table::render(header, rows));
    }
    Ok(())
}

/// An object, in a row.
fn object(key: &str, lines: &[Line]) -> Vec<String> {
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

/// A dead letter, in a row.
fn event(line: &Line) -> Vec<String> {
    const SHOWN: usize = 120;
    let letter = &line.letter;
    let fields = letter.fields.as_ref().map(ToString::to_string);
    let text =
        letter.message.clone().or_else(|| letter.message_base64.clone()).or(fields).unwrap_or_default();
    let mut cut: String = text.chars().take(SHOWN).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    vec![letter.position.to_string(), letter.code.clone(), letter.reason.clone(), cut]
}

async fn send(letters: &Arc<DeadLetters>, keys: &[String], chosen: &Chosen) -> Result<(), Failure> {
    if keys.is_empty() {
        println!("no dead letters");
    }
    let mut kept = 0;
    for key in keys {
        let resent = resend(letters, key, &chosen.receiver, u64::from(now().0)).await?;
        println!("{key}: {} received, {} refused again", resent.received, resent.refused);
        if resent.unformatted > 0 {
            println!(
                "{key}: {} logs were refused by the stage, and have no event to send",
                resent.unformatted
            );
        }
        kept += resent.refused + resent.unformatted;
    }
    if kept > 0 { Err(format!("{kept} dead letters are left").into()) } else { Ok(()) }
}
