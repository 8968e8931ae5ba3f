use std::path::Path;

use clap::{Args, ValueEnum};
use indicatif::{HumanBytes, HumanCount};
use reqwest::Method;
use serde_json::{Value, json};

use super::super::connect::{self, Connect};
use super::super::{Failure, WasiOption};
use super::{Report, is_file, text};
use crate::print::outln;
use crate::table;
use logship_delivery::preview::MAX_TASKS;
use logship_server::keys::Access;

/// Previews the effect of a stage on a rule, before a swap.
///
/// Runs the logs of the rule's newest tasks through their original stages, and again with this stage instead of the
/// one of its kind. Compares rows, bytes, keys and times. Ships nothing and changes nothing.
///
/// Fails if the stage fails a task, if no task could be previewed, or, with `--expect same`, if anything differs.
#[derive(Debug, Args)]
pub(in crate::commands) struct TryCommand {
    /// A component file, used only for the preview; or a name of the service, NAME@VERSION or sha256:DIGEST.
    stage: String,
    /// The rule to preview.
    #[arg(long)]
    rule: String,
    /// The rule's logstore [default: the only one with a rule of this name]
    #[arg(long)]
    logstore: Option<String>,
    /// Number of newest tasks to preview.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=MAX_TASKS as u64))]
    last: u64,
    /// Limits the preview, in seconds; the report lists tasks that were not previewed.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=100))]
    within: u64,
    /// Index of the transformer to replace, from 0; required if the rule has several with other names.
    #[arg(long, value_name = "N")]
    transform: Option<usize>,
    /// The expected result; anything else fails the command.
    #[arg(long, value_enum, default_value_t)]
    expect: Expect,
    /// The output format.
    #[arg(long, value_enum, default_value_t)]
    report: Report,
    #[command(flatten)]
    wasi: WasiOption,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Expect {
    /// Any result without failures.
    #[default]
    Success,
    /// The same bytes under the same keys.
    Same,
}

impl TryCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        let preview: Value = connect::run(async {
            let client = self.connect.client_for_all_projects(Access::Admin)?;
            let logstore = match &self.logstore {
                Some(logstore) => logstore.clone(),
                None => self.find_logstore(&client).await?,
            };
            let path = format!("/logstores/{logstore}/shipper/{}/trials", self.rule);
            let (last, seconds) = (self.last.to_string(), self.within.to_string());
            let transform = self.transform.map(|number| number.to_string());
            let mut query = vec![("last", last.as_str()), ("seconds", seconds.as_str())];
            query.extend(transform.iter().map(|number| ("transform", number.as_str())));
            if !is_file(&self.stage) {
                if self.wasi.allow_wasi {
                    return Err("--allow-wasi applies only to component files; for a name, the service's settings allow WASI".into());
                }
                let body = json!({ "stage": self.stage });
                return Ok(client.send_json(Method::POST, &path, &query, &body).await?);
            }
            query.extend(self.wasi.allow_wasi.then_some(("allowWasi", "true")));
            let file = Path::new(&self.stage);
            let component = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
            if component.is_empty() {
                return Err(format!("{}: the file is empty", file.display()).into());
            }
            Ok::<_, Failure>(client.send_bytes(&path, &query, "application/wasm", component).await?)
        })?;
        match self.report {
            Report::Json => outln!("{preview:#}"),
            Report::Text => print(&preview),
        }
        check(&preview, self.expect)
    }

    /// Returns the project's only logstore that has the rule.
    async fn find_logstore(&self, client: &logship_client::Client) -> Result<String, Failure> {
        let listed: Value = client.get("/logstores", &[]).await?;
        let mut found = vec![];
        for logstore in listed["logstores"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let rules: Value = client.get(&format!("/logstores/{logstore}/shipper"), &[]).await?;
            if rules["shipper"].as_array().is_some_and(|rules| rules.iter().any(|rule| *rule == self.rule)) {
                found.push(logstore.to_owned());
            }
        }
        let project = &self.connect.project;
        match found.as_slice() {
            [logstore] => Ok(logstore.clone()),
            [] => Err(format!("no logstore of project {project} has a rule {}", self.rule).into()),
            several => {
                let several = several.join(", ");
                Err(format!(
                    "several logstores have a rule {}: {several}; choose one with --logstore",
                    self.rule
                )
                .into())
            }
        }
    }
}

fn tasks(preview: &Value) -> impl Iterator<Item = &Value> {
    preview["tasks"].as_array().into_iter().flatten()
}

fn count(preview: &Value, verdict: &str) -> usize {
    tasks(preview).filter(|task| task["verdict"] == verdict).count()
}

/// Fails if the preview is not as expected.
fn check(preview: &Value, expect: Expect) -> Result<(), Failure> {
    let all = tasks(preview).count();
    let (not_previewed, fails) = (count(preview, "untried"), count(preview, "fails"));
    let others = all - not_previewed - fails - count(preview, "same");
    if fails > 0 {
        return Err(format!("the stage fails {}", of(fails, all - not_previewed)).into());
    }
    if not_previewed == all {
        return Err("no task could be previewed".into());
    }
    if expect == Expect::Same && others > 0 {
        return Err(format!("{} would change", of(others, all - not_previewed)).into());
    }
    Ok(())
}

fn of(some: usize, all: usize) -> String {
    format!("{some} of {all} {}", if all == 1 { "task" } else { "tasks" })
}

fn print(preview: &Value) {
    let stage = &preview["stage"];
    let digest = super::short(&stage["digest"]);
    outln!(
        "{} {} ({}, sha256 {digest})\n",
        text(&stage["name"]),
        text(&stage["version"]),
        text(&stage["kind"])
    );
    let header = ["task", "rows", "filtered", "raw bytes", "stored bytes", "seconds", "sha256", "change"];
    outln!("{}", table::render(&header, tasks(preview).map(row).collect()));
    for task in tasks(preview).filter(|task| task["difference"].is_object()).take(1) {
        let line = |side: &str| task["difference"][side].as_str().unwrap_or("(no such line)").to_owned();
        outln!(
            "\nThe first line that differs, line {} of {}:",
            task["difference"]["line"],
            text(&task["id"])
        );
        outln!("- {}\n+ {}", line("old"), line("new"));
    }
    outln!("\n{}", summary(preview));
}

fn row(task: &Value) -> Vec<String> {
    let number = |side: &str, name: &str| task[side]["made"][name].as_u64();
    let both = |name: &str| match (number("old", name), number("new", name)) {
        (Some(old), Some(new)) if old == new => HumanCount(old).to_string(),
        (Some(old), Some(new)) => format!("{} -> {}", HumanCount(old), HumanCount(new)),
        (Some(old), None) => format!("{} -> -", HumanCount(old)),
        (None, Some(new)) => format!("- -> {}", HumanCount(new)),
        (None, None) => "-".into(),
    };
    let is_made = |side: &str| task[side]["made"].is_object();
    let seconds = |side: &str| match is_made(side) {
        true => format!("{:.2}", task[side]["seconds"].as_f64().unwrap_or(0.0)),
        false => "-".into(),
    };
    let times = match is_made("old") || is_made("new") {
        true => format!("{} -> {}", seconds("old"), seconds("new")),
        false => "-".into(),
    };
    let sha256 = match is_made("old") && is_made("new") {
        false => "-",
        true if task["old"]["made"]["sha256"] == task["new"]["made"]["sha256"] => "same",
        true => "differs",
    };
    vec![
        text(&task["id"]),
        both("rows"),
        both("leftOut"),
        both("rawBytes"),
        both("storedBytes"),
        times,
        sha256.into(),
        change(task),
    ]
}

/// Describes the changes of a task.
fn change(task: &Value) -> String {
    let problem = |value: &Value| text(&value["problem"]).lines().next().unwrap_or_default().to_owned();
    let mut words = match task["verdict"].as_str().unwrap_or_default() {
        "untried" => return format!("not previewed: {}", problem(task)),
        "fails" if task["old"]["problem"].is_string() => {
            return format!("still fails: {}", problem(&task["new"]));
        }
        "fails" => return format!("fails: {}", problem(&task["new"])),
        "mends" => vec![format!("succeeds; the old stage fails: {}", problem(&task["old"]))],
        _ => vec![],
    };
    let (old, new) = (&task["old"], &task["new"]);
    if old["object"] != new["object"] && old["problem"].is_null() {
        words.push(keys(&text(&old["object"]), &text(&new["object"]), &text(&task["id"])));
    }
    let logs = |side: &Value| side["made"]["logs"].as_u64().unwrap_or(0);
    if old["made"].is_object() && logs(new) < logs(old) {
        let (new, old) = (HumanCount(logs(new)), HumanCount(logs(old)));
        words.push(format!("its object is full after {new} of {old} logs; more objects would follow"));
    }
    if old["made"]["refused"] != new["made"]["refused"] && old["made"].is_object() {
        words.push(format!("dead letters: {} -> {}", old["made"]["refused"], new["made"]["refused"]));
    }
    if task["reproduced"] == false {
        words.push("the old stages no longer produce the task's bytes".into());
    }
    match (words.is_empty(), task["verdict"] == "same") {
        (true, true) => "none".into(),
        (true, false) => "bytes".into(),
        _ => words.join("; "),
    }
}

/// Describes a change of the key. Omits the common part up to the task's id.
fn keys(old: &str, new: &str, id: &str) -> String {
    let before = old.find(id).map(|begin| &old[..begin + id.len()]);
    let suffixes = before.and_then(|before| Some((old.strip_prefix(before)?, new.strip_prefix(before)?)));
    match suffixes {
        Some((old, new)) => format!("key: …{old} -> …{new}"),
        None => format!("key: {old} -> {new}"),
    }
}

/// Summarizes all tasks.
fn summary(preview: &Value) -> String {
    let all = tasks(preview).count();
    let counts = ["same", "different", "mends", "fails", "untried"].map(|verdict| count(preview, verdict));
    let words = ["same", "different", "fixed", "would fail", "not previewed"];
    let counted = counts.iter().zip(words).filter(|(count, _)| **count > 0);
    let counted: Vec<String> = counted.map(|(count, word)| format!("{count} {word}")).collect();
    let mut line = format!("{all} {}: {}.", if all == 1 { "task" } else { "tasks" }, counted.join(", "));
    let both =
        || tasks(preview).filter(|task| task["old"]["made"].is_object() && task["new"]["made"].is_object());
    if both().next().is_some() {
        let sum =
            |side: &str, name: &str| both().filter_map(|task| task[side]["made"][name].as_u64()).sum::<u64>();
        let seconds = |side: &str| both().filter_map(|task| task[side]["seconds"].as_f64()).sum::<f64>();
        let total = |name: &str, shown: fn(u64) -> String| {
            let (old, new) = (sum("old", name), sum("new", name));
            let change = if old > 0 { 100.0 * (new as f64 / old as f64 - 1.0) } else { 0.0 };
            match old == new {
                true => shown(old),
                false => format!("{} -> {} ({change:+.1} %)", shown(old), shown(new)),
            }
        };
        let bytes: fn(u64) -> String = |bytes| HumanBytes(bytes).to_string();
        line += &format!(
            " {} rows, {} raw, {} stored, {:.2} -> {:.2} s.",
            total("rows", |rows| HumanCount(rows).to_string()),
            total("rawBytes", bytes),
            total("storedBytes", bytes),
            seconds("old"),
            seconds("new"),
        );
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortens_keys_to_difference() {
        assert_eq!(keys("a/1_2.snappy", "a/1_2.zst", "1_2"), "key: ….snappy -> ….zst");
        assert_eq!(keys("a/1_2", "b/1_2", "1_2"), "key: a/1_2 -> b/1_2");
        assert_eq!(keys("a/1", "-", "1_2"), "key: a/1 -> -");
    }

    #[test]
    fn checks_expected_result() {
        let preview = |verdicts: &[&str]| {
            let tasks: Vec<Value> = verdicts.iter().map(|verdict| json!({ "verdict": verdict })).collect();
            json!({ "tasks": tasks })
        };
        for (verdicts, expect, is_good) in [
            (&["same", "different"][..], Expect::Success, true),
            (&["same", "untried"], Expect::Same, true),
            (&["same", "different"], Expect::Same, false),
            (&["mends"], Expect::Success, true),
            (&["mends"], Expect::Same, false),
            (&["same", "fails"], Expect::Success, false),
            (&["untried"], Expect::Success, false),
        ] {
            assert_eq!(check(&preview(verdicts), expect).is_ok(), is_good, "{verdicts:?} {expect:?}");
        }
    }
}
