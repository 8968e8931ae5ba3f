//! Lists and shows rules.

use crate::print::outln;
use logship_client::Client;
use logship_config::maxcompute_rule::{MaxComputeRule, ODPS};
use logship_config::rule::Rule;
use logship_config::shipper_config;
use logship_config::siem_rule::{SIEM, SiemRule};
use logship_config::table_store_rule::{OTS, TableStoreRule};
use serde_json::Value;

use super::client::RuleClient;
use crate::commands::Failure;
use crate::commands::stage::Report;
use crate::table;

pub(super) async fn list(client: Client, logstore: Option<String>) -> Result<(), Failure> {
    let logstores = match logstore {
        Some(logstore) => vec![logstore],
        None => {
            let all: Value = client.get("/logstores", &[("size", "500")]).await?;
            let names = all["logstores"].as_array().into_iter().flatten();
            names.filter_map(Value::as_str).map(str::to_owned).collect()
        }
    };
    let mut client = RuleClient { client, logstore: String::new() };
    let mut rows = vec![];
    for logstore in logstores {
        client.logstore = logstore;
        for name in client.names().await? {
            if let Some(shown) = client.get(&name).await? {
                rows.push(row(&client.logstore, &name, &shown));
            }
        }
    }
    if rows.is_empty() {
        outln!("no rules; create one with logship rule create");
        return Ok(());
    }
    outln!("{}", table::render(&["rule", "logstore", "to", "format", "state", "backlog"], rows));
    Ok(())
}

fn row(logstore: &str, name: &str, shown: &Value) -> Vec<String> {
    let config = &shown["targetConfiguration"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let state = match (shown["problem"].as_str(), config["enable"].as_bool()) {
        (Some(_), _) => "paused",
        (None, Some(false)) => "disabled",
        (None, _) => "enabled",
    };
    let backlog: u64 = shards(shown).filter_map(|shard| shard["waitingGroups"].as_u64()).sum();
    let format = match (text(&config["storage"]["format"]), text(&config["compressType"])) {
        (format, none) if none == "none" || none.is_empty() => format,
        (format, compression) => format!("{format} {compression}"),
    };
    let (to, format) = match shown["targetType"].as_str() {
        Some(SIEM) => (text(&config["receiver"]), config["stage"].as_str().unwrap_or("siem").to_owned()),
        Some(ODPS) => (format!("table {}", text(&config["odpsTable"])), "rows".to_owned()),
        Some(OTS) => (format!("table {}", text(&config["table"])), "rows".to_owned()),
        _ => (format!("{}/{}", text(&config["ossBucket"]), text(&config["ossPrefix"])), format),
    };
    vec![name.to_owned(), logstore.to_owned(), to, format, state.to_owned(), format!("{backlog} groups")]
}

fn shards(shown: &Value) -> impl Iterator<Item = &Value> {
    shown["shards"].as_array().into_iter().flatten()
}

pub(super) async fn show(rules: &RuleClient, name: &str, report: Report) -> Result<(), Failure> {
    let shown = rules.get_existing(name).await?;
    if report == Report::Json {
        outln!("{shown:#}");
        return Ok(());
    }
    if shown["targetType"] == shipper_config::OSS {
        let rule = shipper_config::to_rule(name, &shown["targetConfiguration"])?;
        outln!("{}", toml::to_string(&Rule { logstore: rules.logstore.clone(), ..rule })?.trim_end());
    } else if shown["targetType"] == SIEM {
        let rule = SiemRule::of(name, &shown["targetConfiguration"])?;
        outln!("{}", toml::to_string(&SiemRule { logstore: rules.logstore.clone(), ..rule })?.trim_end());
    } else if shown["targetType"] == OTS {
        let rule = TableStoreRule::of(name, &shown["targetConfiguration"])?;
        let rule = TableStoreRule { logstore: rules.logstore.clone(), ..rule };
        outln!("{}", toml::to_string(&rule)?.trim_end());
    } else if shown["targetType"] == ODPS
        && let Ok(rule) = MaxComputeRule::of(name, &shown["targetConfiguration"])
    {
        let rule = MaxComputeRule { logstore: rules.logstore.clone(), ..rule };
        outln!("{}", toml::to_string(&rule)?.trim_end());
    } else {
        outln!("{:#}", shown["targetConfiguration"]);
    }
    if let Some(problem) = shown["problem"].as_str() {
        outln!("\npaused: {problem}");
    }
    let rows = shards(&shown)
        .map(|shard| {
            let text = |name: &str| shard[name].to_string().trim_matches('"').to_owned();
            vec![text("shardID"), text("checkpoint"), text("waitingGroups")]
        })
        .collect();
    outln!("\n{}", table::render(&["shard", "checkpoint", "backlog"], rows));
    Ok(())
}
