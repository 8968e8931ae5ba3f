use chrono::{DateTime, SecondsFormat};
use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};

use super::Failure;
use super::connect::{self, Connect};
use super::stage::Report;
use crate::print::outln;
use crate::table;
use logship_client::Client;
use logship_server::keys::Access;

/// Shows the lives of the store, and confirms what the service can't know.
///
/// A store that was restored, copied, or lost its last logs begins a new generation. Cursors of its other life are
/// refused, and rules whose logs the other life may have shipped wait for `logship store confirm`.
#[derive(Debug, Args)]
pub(super) struct StoreCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows the generations of the store, and the rules that wait.
    Show {
        /// The output format.
        #[arg(long, value_enum, default_value_t)]
        report: Report,
        #[command(flatten)]
        connect: Connect,
    },
    /// Lets waiting rules go on, or confirms the clock.
    #[command(group = clap::ArgGroup::new("decision").required(true).multiple(true))]
    Confirm {
        /// The logs that the other life of the store may have shipped.
        #[arg(long, value_enum, group = "decision")]
        unshipped: Option<Unshipped>,
        /// The clock is right: expired logs are deleted again.
        #[arg(long, group = "decision")]
        clock: bool,
        #[command(flatten)]
        connect: Connect,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Unshipped {
    /// Ships them: the other life did not ship them.
    Ship,
    /// Skips them: the other life shipped them.
    Skip,
}

impl Unshipped {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ship => "ship",
            Self::Skip => "skip",
        }
    }
}

impl StoreCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        connect::run(async {
            match self.command {
                Command::Show { report, connect } => {
                    show(&connect.client_for_all_projects(Access::Read)?, report).await
                }
                Command::Confirm { unshipped, clock, connect } => {
                    let client = connect.client_for_all_projects(Access::Admin)?;
                    let mut body = json!({ "clock": clock });
                    if let Some(unshipped) = unshipped {
                        body["unshipped"] = unshipped.as_str().into();
                    }
                    let reply =
                        client.send_json(Method::POST, "/store", &[("type", "confirm")], &body).await?;
                    if clock {
                        outln!("the clock is confirmed");
                    }
                    if unshipped.is_some() {
                        outln!("{} rules go on", reply["rules"]);
                    }
                    Ok(())
                }
            }
        })
    }
}

async fn show(client: &Client, report: Report) -> Result<(), Failure> {
    let store: Value = client.get("/store", &[]).await?;
    if report == Report::Json {
        outln!("{store:#}");
        return Ok(());
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let row = |generation: &Value| {
        let began = generation["began"].as_u64().unwrap_or_default() / 1_000_000;
        let began = DateTime::from_timestamp(began as i64, 0).unwrap_or_default();
        let mut row = vec![text(&generation["number"]), began.to_rfc3339_opts(SecondsFormat::Secs, true)];
        row.extend(["reason", "lostGroups", "token"].map(|name| text(&generation[name])));
        row
    };
    let rows = store["generations"].as_array().into_iter().flatten().map(row).collect();
    outln!("{}", table::render(&["generation", "began", "reason", "lost log groups", "token"], rows));
    if let Some(seconds) = store["clockAheadSeconds"].as_u64() {
        outln!("the clock is {seconds} seconds ahead: no logs expire until `logship store confirm --clock`");
    }
    if let Some(seconds) = store["clockSettlesInSeconds"].as_u64() {
        outln!(
            "the machine was off, so logs expire again in {seconds} seconds, or after `logship store confirm --clock`"
        );
    }
    for rule in store["waitingRules"].as_array().into_iter().flatten() {
        let name = |name: &str| text(&rule[name]);
        outln!(
            "rule {} of {}/{} waits: decide with `logship store confirm`",
            name("rule"),
            name("project"),
            name("logstore")
        );
    }
    Ok(())
}
