//! SQL statements, such as those that create tables: instances that run until they end.

use std::time::Duration;

use reqwest::Method;

use super::client::{Call, Server};
use super::error::{Class, MaxComputeError};
use super::sink::MaxCompute;
use crate::xml::{self, cdata};

/// Delay between two reads of a running statement. It doubles from the first to the last value.
const FIRST_POLL: Duration = Duration::from_millis(200);
const LAST_POLL: Duration = Duration::from_secs(5);

/// The name of the task in an instance.
const TASK: &str = "AnonymousSQLTask";

impl MaxCompute {
    /// Runs a SQL statement, and waits for its end. Returns its result, as text. A statement is sent once, as the server
    /// may have run it when its answer is lost: use those that can be repeated, such as `CREATE TABLE IF NOT EXISTS`.
    ///
    /// # Errors
    /// The server's answer, or the statement's error.
    pub async fn run_sql(&self, sql: &str) -> Result<String, MaxComputeError> {
        let statement = sql.trim().trim_end_matches(';');
        let step = format!("run {:?}", statement.chars().take(80).collect::<String>());
        let mut call = self.instance_call(&step, Method::POST, "");
        call.headers.push(("content-type", "application/xml".into()));
        call.body = instance(statement).into();
        let answer = self.client.once(&call, None).await?;
        let location = answer.headers.get("location").and_then(|location| location.to_str().ok());
        let id = location.and_then(|location| location.trim_end_matches('/').rsplit('/').next());
        let Some(id) = id.filter(|id| !id.is_empty()).map(|id| format!("/{id}")) else {
            return Err(MaxComputeError::lost(&step, "the answer names no instance"));
        };
        let mut poll = FIRST_POLL;
        while self.instance_text(&step, &id, None).await?.0 != "Terminated" {
            tokio::time::sleep(poll).await;
            poll = (poll * 2).min(LAST_POLL);
        }
        let (_, status) = self.instance_text(&step, &id, Some("taskstatus")).await?;
        let (_, result) = self.instance_text(&step, &id, Some("result")).await?;
        let result = xml::text(&result, "Result").unwrap_or_default();
        // The instance has a status too, outside of its tasks.
        let task = status.split_once("<Task ").map_or("", |(_, task)| task);
        match xml::text(&format!("<Task {task}"), "Status").as_deref() {
            Some("Success") => Ok(result),
            Some(status) => Err(failed(&step, status, &result)),
            None => Err(MaxComputeError::lost(&step, format!("instance {id} has no status of its task"))),
        }
    }

    fn instance_call(&self, step: &str, method: Method, rest: &str) -> Call {
        let path = self.client.project_path(&format!("/instances{rest}"));
        self.client.request(step.to_owned(), Server::Service, method, path)
    }

    /// Reads an instance. Returns its status and all of its text.
    async fn instance_text(
        &self,
        step: &str,
        id: &str,
        part: Option<&'static str>,
    ) -> Result<(String, String), MaxComputeError> {
        let mut call = self.instance_call(step, Method::GET, id);
        call.query.extend(part.map(|part| (part, String::new())));
        let answer = self.client.call(&call).await?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        Ok((xml::text(&text, "Status").unwrap_or_default(), text))
    }
}

fn failed(step: &str, status: &str, result: &str) -> MaxComputeError {
    let lower = result.to_lowercase();
    let class = match lower.as_str() {
        text if text.contains("privilege") || text.contains("odps-0420095") => Class::Unauthorized,
        _ => Class::Rejected,
    };
    let result = if result.is_empty() { status } else { result };
    MaxComputeError::new(step, class, result)
}

/// The body of a request that runs a statement.
fn instance(statement: &str) -> String {
    let uuid = format!("{:032x}", fastrand::u128(..));
    let settings = r#"{"odps.sql.type.system.odps2":"true"}"#;
    let property =
        |name: &str, value: &str| format!("<Property><Name>{name}</Name><Value>{value}</Value></Property>");
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><Instance><Job><Priority>9</Priority><Tasks><SQL><Name>{TASK}</Name><Config>{}{}</Config><Query>{}</Query></SQL></Tasks><DAG><RunMode>Sequence</RunMode></DAG></Job></Instance>",
        property("uuid", &uuid),
        property("settings", settings),
        cdata(&format!("{statement};")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statement_is_readable_in_its_request() {
        let body = instance("ALTER TABLE t ADD IF NOT EXISTS PARTITION (pt='a<b')");
        let query = xml::text(&body, "Query").unwrap();
        assert_eq!(query, "ALTER TABLE t ADD IF NOT EXISTS PARTITION (pt='a<b');");
        assert!(body.contains(r#"<Value>{"odps.sql.type.system.odps2":"true"}</Value>"#));
    }
}
