//! The table of a job: shows and runs the statement that creates it.

use std::io::{IsTerminal as _, Write as _};

use clap::Args;
use logship_client::Client;
use logship_config::job::Job;
use reqwest::Method;
use serde_json::{Value, json};

use crate::commands::Failure;
use crate::print::outln;

/// Creates the table of a job.
#[derive(Debug, Args)]
#[command(next_help_heading = "Table")]
pub(super) struct CreateTable {
    /// Shows the statement that creates the table, and asks whether to run it.
    #[arg(long)]
    create_table: bool,
    /// Runs the statement without asking.
    #[arg(long, requires = "create_table")]
    yes: bool,
}

impl CreateTable {
    /// Creates the table, if the options say so.
    pub(super) async fn run(&self, client: &Client, job: &Job) -> Result<(), Failure> {
        if !self.create_table {
            return Ok(());
        }
        let script = serde_json::to_value(job)?;
        let statement = request(client, &script, false).await?;
        outln!("{statement};\n");
        if self.yes || ask("Run this statement?")? {
            request(client, &script, true).await?;
            outln!("the table exists now");
        } else {
            outln!("the statement was not run: add --yes to run it");
        }
        Ok(())
    }
}

async fn request(client: &Client, script: &Value, runs: bool) -> Result<String, Failure> {
    let body = json!({ "script": script, "run": runs });
    let reply = client.send_json(Method::POST, "/jobs", &[("type", "table")], &body).await?;
    Ok(reply["statement"].as_str().unwrap_or_default().to_owned())
}

/// Asks a question on a terminal. Without one, the answer is no.
fn ask(question: &str) -> Result<bool, Failure> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Ok(false);
    }
    let mut stdout = std::io::stdout();
    write!(stdout, "{question} [y/N] ")?;
    stdout.flush()?;
    let mut answer = String::new();
    stdin.read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
