//! `logship job preview`.

use std::path::PathBuf;

use clap::Args;
use indicatif::HumanBytes;
use logship_server::keys::Access;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Parameters, path, read_script};
use crate::commands::Failure;
use crate::commands::connect::Connect;
use crate::commands::ship::count;
use crate::commands::stage::Report;
use crate::print::outln;
use crate::table;

/// The options of `job preview`.
#[derive(Debug, Args)]
pub(super) struct Preview {
    /// The job.
    #[arg(required_unless_present = "file")]
    name: Option<String>,
    /// The script of a job that is not created yet.
    #[arg(short, long, value_name = "FILE", conflicts_with = "name")]
    file: Option<PathBuf>,
    #[command(flatten)]
    parameters: Parameters,
    /// The time at which expressions are evaluated: yyyyMMddHHmmss or yyyyMMdd in the time zone of the job [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// The largest number of logs, up to 1000.
    #[arg(long, default_value_t = 10)]
    logs: usize,
    /// The output format.
    #[arg(long, value_enum, default_value_t)]
    report: Report,
    #[command(flatten)]
    connect: Connect,
}

impl Preview {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let mut body = json!({ "parameters": self.parameters.to_json(), "logs": self.logs });
        if let Some(at) = self.at {
            body["scheduled"] = at.into();
        }
        let path = match (&self.file, &self.name) {
            (Some(file), _) => {
                body["script"] = serde_json::to_value(read_script(file)?)?;
                "/jobs".to_owned()
            }
            (None, name) => path(name.as_deref().unwrap_or_default())?,
        };
        let client = self.connect.client(Access::Admin)?;
        let reply = client.send_json(Method::POST, &path, &[("type", "preview")], &body).await?;
        match self.report {
            Report::Json => outln!("{reply:#}"),
            Report::Text => show(&reply),
        }
        Ok(())
    }
}

fn show(preview: &Value) {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "null".into(),
        other => other.to_string(),
    };
    let place = match preview["partition"].as_str() {
        Some(partition) => format!("{}, partition {partition}", text(&preview["table"])),
        None => text(&preview["table"]),
    };
    let verb = if preview["truncate"] == true { "replaces the rows of" } else { "appends to" };
    let bytes = HumanBytes(preview["logBytes"].as_u64().unwrap_or(0));
    outln!(
        "window   {} to {}: {bytes} of logs in {} shards",
        text(&preview["beginDateTime"]),
        text(&preview["endDateTime"]),
        preview["shards"]
    );
    outln!("writes   {verb} {place}");
    let names: Vec<&str> = preview["mapping"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|column| column["column"].as_str())
        .collect();
    let logs = preview["logs"].as_array().cloned().unwrap_or_default();
    outln!("\nLogs");
    for log in &logs {
        outln!("{}  {}", position(log), log["log"]);
    }
    let row = |log: &Value| {
        let values = names.iter().map(|name| text(&log["row"][*name]));
        std::iter::once(position(log)).chain(values).collect()
    };
    if !logs.is_empty() {
        let header: Vec<&str> = std::iter::once("log").chain(names.iter().copied()).collect();
        outln!(
            "\nRows, before their conversion to the types of the columns\n{}",
            table::render(&header, logs.iter().map(row).collect())
        );
    }
    let dirty = preview["dirty"].as_array().cloned().unwrap_or_default();
    let rows = preview["rows"].as_u64().unwrap_or(0);
    outln!("\n{} of the sample, {} dirty", count(rows, "row"), dirty.len());
    for row in dirty {
        outln!("{}: {}", text(&row["position"]), text(&row["reason"]));
    }
}

fn position(log: &Value) -> String {
    format!("{}/{}+{}", log["shard"], log["cursor"], log["index"])
}
