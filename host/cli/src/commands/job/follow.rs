//! Follows a run to its end, with a progress bar on a terminal.

use std::time::Duration;

use indicatif::{HumanBytes, HumanCount};
use logship_client::Client;
use serde_json::Value;

use super::path;
use crate::commands::ship::count;
use crate::commands::{Failure, bar};
use crate::print::outln;

/// The interval between two requests.
const INTERVAL: Duration = Duration::from_millis(300);

/// Waits for the end of a run.
///
/// # Errors
/// If it failed, also if it is attempted again later.
pub(super) async fn follow(client: &Client, job: &str, id: i64) -> Result<(), Failure> {
    let path = format!("{}/runs/{id}", path(job)?);
    let mut progress = None;
    loop {
        let run: Value = client.get(&path, &[]).await?;
        let number = |name: &str| run[name].as_u64().unwrap_or(0);
        if let Some(total) = run["totalLogBytes"].as_u64() {
            let bar = progress.get_or_insert_with(|| bar::new(Some(total)));
            bar.set_position(number("logBytes"));
            bar.set_message(format!(
                "{}, {} dirty",
                count(number("rows"), "row"),
                HumanCount(number("dirtyRows"))
            ));
        }
        let message = run["message"].as_str().unwrap_or_default();
        let state = run["state"].as_str().unwrap_or_default();
        if !matches!(state, "waiting" | "running") {
            if let Some(bar) = &progress {
                bar.finish_and_clear();
            }
            return ended(&run, state, message);
        }
        if state == "waiting" && !message.is_empty() {
            return Err(format!("run {id} failed and is attempted again later: {message}").into());
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn ended(run: &Value, state: &str, message: &str) -> Result<(), Failure> {
    let id = &run["id"];
    if state != "success" {
        return Err(format!("run {id} is {state}: {message}").into());
    }
    outln!("run {id} of {} succeeded: {}", run["job"].as_str().unwrap_or_default(), summary(run));
    Ok(())
}

/// Returns what a run wrote: rows, dirty rows, bytes and the rate.
pub(super) fn summary(run: &Value) -> String {
    let number = |name: &str| run[name].as_u64().unwrap_or(0);
    let seconds = run["finished"].as_f64().unwrap_or(0.0) - run["started"].as_f64().unwrap_or(0.0);
    let bytes = number("logBytes");
    let mut text = format!(
        "{}, {} dirty, {} of logs in {}",
        count(number("rows"), "row"),
        HumanCount(number("dirtyRows")),
        HumanBytes(bytes),
        count(number("blocks"), "block"),
    );
    if seconds > 0.0 {
        let rate = bytes as f64 / seconds / 1e6;
        text.push_str(&format!(", {seconds:.1} s, {rate:.1} MB/s"));
    }
    text
}
