//! Resends dead letters as rows, by the service.

use reqwest::Method;
use serde_json::{Value, json};

use super::Failure;
use crate::print::outln;
use logship_client::Client;

/// The number of keys of a page.
const PAGE: usize = 500;

/// Resends objects of dead letters, or all of the project.
pub(super) async fn resend(client: &Client, keys: Option<Vec<String>>) -> Result<(), Failure> {
    let keys = match keys {
        Some(keys) => keys,
        None => all(client).await?,
    };
    if keys.is_empty() {
        outln!("no dead letters");
    }
    let (mut letters, mut objects) = (0, 0);
    for key in &keys {
        let body = json!({ "key": key });
        match client.send_json(Method::POST, "/deadletters", &[("type", "resend")], &body).await {
            Ok(resent) => {
                outln!("{key}: {}", describe(&resent));
                letters += count(&resent, "dirty");
            }
            Err(error) => {
                outln!("{key}: not resent: {error}");
                objects += 1;
            }
        }
    }
    match (letters, objects) {
        (0, 0) => Ok(()),
        (letters, 0) => Err(format!("{letters} dead letters remain").into()),
        (_, objects) => Err(format!("{objects} of {} objects were not resent", keys.len()).into()),
    }
}

/// Lists the objects of the project.
async fn all(client: &Client) -> Result<Vec<String>, Failure> {
    let (mut keys, size) = (vec![], PAGE.to_string());
    loop {
        let offset = keys.len().to_string();
        let page: Value = client.get("/deadletters", &[("offset", &offset), ("size", &size)]).await?;
        let found = page["keys"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let before = keys.len();
        keys.extend(found.map(str::to_owned));
        if keys.len() - before < PAGE {
            return Ok(keys);
        }
    }
}

/// Describes the result of an object: `3 rows written, 1 dirty again (column a: …)`.
fn describe(resent: &Value) -> String {
    let named = [
        ("written", "rows written"),
        ("filtered", "filtered by the transformers"),
        ("superseded", "deleted, as their logs were encoded again since"),
        ("dirty", "dirty again"),
    ];
    let parts = named.iter().map(|(member, text)| (count(resent, member), text));
    let mut parts: Vec<String> =
        parts.filter(|(count, _)| *count > 0).map(|(count, text)| format!("{count} {text}")).collect();
    if let (Some(last), Some(reason)) = (parts.last_mut(), resent["reason"].as_str()) {
        *last = format!("{last} ({reason})");
    }
    if parts.is_empty() { "nothing to write".into() } else { parts.join(", ") }
}

fn count(resent: &Value, member: &str) -> u64 {
    resent[member].as_u64().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_have_counts_and_the_reason() {
        let resent = json!({ "written": 3, "filtered": 0, "superseded": 0, "dirty": 1, "reason": "x" });
        assert_eq!(describe(&resent), "3 rows written, 1 dirty again (x)");
        assert_eq!(describe(&json!({ "written": 0 })), "nothing to write");
        assert!(describe(&json!({ "superseded": 2, "reason": null })).starts_with("2 deleted"));
    }
}
