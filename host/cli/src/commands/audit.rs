use std::time::{SystemTime, UNIX_EPOCH};

use chrono::DateTime;
use clap::Args;
use logship_logstore::{AUDIT_LOGSTORE, AUDIT_PROJECT};
use logship_sls::error::ApiError;
use logship_sls::log_group::{LogGroupView, groups};
use serde_json::{Map, Value};

use super::Failure;
use super::connect::{self, Connect};
use super::stage::Report;
use crate::print::outln;
use crate::table;
use logship_client::{Client, ClientError};
use logship_server::keys::Access;

/// Shows the audit log: who changed what, when, from where, and which attempts failed.
///
/// The audit log is the logstore audit in the project logship-audit. Nobody can write to it, change or delete it; rules
/// and consumer groups read it like any other logstore.
#[derive(Debug, Args)]
pub(super) struct AuditCommand {
    /// Shows records since this time: RFC 3339, a Unix time, or a time ago such as 90m, 12h or 7d [default: all records]
    #[arg(long, value_name = "WHEN", value_parser = since)]
    since: Option<u64>,
    /// Shows records of this access key, or of another actor whose name has this text.
    #[arg(long, value_name = "KEY")]
    who: Option<String>,
    /// Shows records of operations with this text in their name, such as "delete logstore" or delete.
    #[arg(long, value_name = "NAME")]
    operation: Option<String>,
    /// Shows records about this project, logstore, rule, consumer group, stage or key.
    #[arg(long, value_name = "NAME")]
    object: Option<String>,
    /// Shows only attempts that failed.
    #[arg(long)]
    failed: bool,
    /// The output format. JSON is an array with one record per line.
    #[arg(long, value_enum, default_value_t)]
    report: Report,
    #[command(flatten)]
    connect: Connect,
}

/// Parses a time, in Unix seconds.
fn since(text: &str) -> Result<u64, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.timestamp().max(0) as u64);
    }
    let invalid = || "use RFC 3339, a Unix time, or a time ago such as 90m, 12h or 7d".to_owned();
    let unit = text.chars().last().ok_or_else(invalid)?;
    let count: u64 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| invalid())?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(invalid()),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok(now.saturating_sub(count.saturating_mul(seconds)))
}

/// The columns of the table.
const COLUMNS: [&str; 7] = ["time (UTC)", "who", "address", "operation", "object", "outcome", "change"];

impl AuditCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        let client = self.connect.client_of(AUDIT_PROJECT, Access::Read)?;
        let records = connect::run(async { Ok(self.read(&client).await?) })?;
        if self.report == Report::Json {
            let lines: Vec<_> =
                records.iter().map(|record| Value::Object(record.clone()).to_string()).collect();
            outln!("[{}]", lines.join(",\n"));
        } else {
            outln!("{}", table::render(&COLUMNS, records.iter().map(row).collect()));
        }
        Ok(())
    }

    /// Reads the records that the options select.
    async fn read(&self, client: &Client) -> Result<Vec<Map<String, Value>>, ClientError> {
        let from = self.since.map_or_else(|| "begin".to_owned(), |since| since.to_string());
        let mut cursor = client.cursor(AUDIT_LOGSTORE, 0, &from).await?;
        let mut records = vec![];
        loop {
            let pulled = client.pull(AUDIT_LOGSTORE, 0, cursor, 0).await?;
            if pulled.groups == 0 {
                return Ok(records);
            }
            cursor = pulled.next;
            for group in groups(&pulled.list) {
                let view = LogGroupView::parse(group.map_err(ApiError::from)?).map_err(ApiError::from)?;
                records.extend(logs(&view).filter(|record| self.selects(record)));
            }
        }
    }

    fn selects(&self, record: &Map<String, Value>) -> bool {
        let text = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default();
        let has = |name: &str, wanted: &Option<String>| {
            wanted.as_ref().is_none_or(|wanted| text(name).contains(wanted.as_str()))
        };
        let is_object =
            |wanted: &String| ["project", "logstore", "object"].iter().any(|name| text(name) == wanted);
        has("who", &self.who)
            && has("operation", &self.operation)
            && self.object.as_ref().is_none_or(is_object)
            && !(self.failed && text("outcome") == "OK")
    }
}

/// Returns the records of a log group.
fn logs<'a>(view: &'a LogGroupView<'a>) -> impl Iterator<Item = Map<String, Value>> + 'a {
    view.logs().map(|log| {
        let mut record = Map::new();
        let time = DateTime::from_timestamp(i64::from(log.time()), log.nanos().unwrap_or_default());
        let time = time.map(|time| time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true));
        record.insert("time".into(), time.into());
        for (name, value) in log.fields() {
            let [name, value] = [name, value].map(|text| String::from_utf8_lossy(text).into_owned());
            record.insert(name, value.into());
        }
        record
    })
}

/// Returns a row of the table.
fn row(record: &Map<String, Value>) -> Vec<String> {
    let text = |name: &str| printable(record.get(name).and_then(Value::as_str).unwrap_or_default());
    let path: Vec<_> =
        ["project", "logstore"].map(text).into_iter().filter(|part| !part.is_empty()).collect();
    let object = text("object");
    let is_named = path.last() == Some(&object) || object.is_empty();
    let object = if is_named { path.join("/") } else { [path.join("/"), object].join(" ").trim().to_owned() };
    let change = match (text("before"), text("after")) {
        (before, after) if before.is_empty() && after.is_empty() => text("detail"),
        (before, after) if before == after => text("detail"),
        (before, after) => format!("{before} -> {after}").trim().to_owned(),
    };
    let time = text("time").get(..19).unwrap_or_default().replace('T', " ");
    vec![time, text("who"), text("address"), text("operation"), object, text("outcome"), change]
}

/// Escapes control characters: requests that failed have arbitrary texts.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|letter| if letter.is_control() { letter.escape_default().collect() } else { vec![letter] })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_times() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert_eq!(since("1700000000"), Ok(1_700_000_000));
        assert_eq!(since("2023-11-14T22:13:20Z"), Ok(1_700_000_000));
        assert!(since("2h").unwrap().abs_diff(now - 7200) < 5);
        for invalid in ["", "h", "2w", "-1h", "yesterday", "2é"] {
            assert!(since(invalid).is_err(), "{invalid}");
        }
    }

    #[test]
    fn escapes_control_characters() {
        assert_eq!(printable("a\n\u{1b}[31mé"), "a\\n\\u{1b}[31mé");
    }
}
