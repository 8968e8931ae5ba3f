//! `logship source`: creates, tests, shows and deletes data sources.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::Failure;
use super::connect::{self, Connect};
use super::stage::Report;
use crate::print::outln;
use crate::table;
use logship_client::Client;
use logship_config::error::toml_problem;
use logship_server::keys::Access;

/// Creates, tests, shows and deletes data sources: the connections that jobs and rules name.
///
/// A data source belongs to a project. Its types are loghub (the Logstores of a project of this or another service), odps
/// (a MaxCompute project) and ots (a Table Store instance). docs/settings.md lists their members.
#[derive(Debug, Args)]
pub(super) struct SourceCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Creates a data source.
    Create {
        /// The name: up to 60 letters, digits and _, not beginning with a digit.
        name: String,
        #[command(flatten)]
        content: Content,
        /// Connects first, and creates the data source only if all permissions are there.
        #[arg(long)]
        test: bool,
        #[command(flatten)]
        connect: Connect,
    },
    /// Lists the data sources of the project, and those of the service's settings.
    List {
        /// The output format.
        #[arg(long, value_enum, default_value_t)]
        report: Report,
        #[command(flatten)]
        connect: Connect,
    },
    /// Shows a data source. Secrets are masked.
    Show {
        /// The name.
        name: String,
        #[command(flatten)]
        connect: Connect,
    },
    /// Connects to a data source, and says which permission is missing.
    Test {
        /// The name. Without it, tests the data source of the options below.
        #[arg(required_unless_present_any = ["file", "kind"])]
        name: Option<String>,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        content: Content,
        #[command(flatten)]
        connect: Connect,
    },
    /// Changes a data source: the members that are given. With --file, all members.
    Update {
        /// The name.
        name: String,
        #[command(flatten)]
        content: Content,
        #[command(flatten)]
        connect: Connect,
    },
    /// Deletes a data source that no rule and no job uses.
    Delete {
        /// The name.
        name: String,
        #[command(flatten)]
        connect: Connect,
    },
}

/// What a test tries.
#[derive(Debug, Args)]
struct Target {
    /// Reads this Logstore [default: the first one]
    #[arg(long)]
    logstore: Option<String>,
    /// Opens an upload session of this table of MaxCompute, or describes this table of Table Store. Writes nothing.
    #[arg(long)]
    table: Option<String>,
    /// The partition of the table, such as pt=20261201.
    #[arg(long, requires = "table")]
    partition: Option<String>,
}

/// The members of a data source.
#[derive(Debug, Args)]
struct Content {
    /// Reads the members from this file: TOML, or JSON if its name ends with .json.
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The type: loghub, odps (or maxcompute), ots (or tablestore).
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// The description: up to 80 characters.
    #[arg(long)]
    description: Option<String>,
    /// Sets a member, such as endpoint=https://cn-hangzhou.log.aliyuncs.com. Keep secrets out of the process list:
    /// access-key-secret=@FILE reads a file, and access-key-secret=env:NAME the environment. Repeatable.
    #[arg(long = "set", value_name = "MEMBER=VALUE")]
    members: Vec<String>,
}

impl Content {
    /// Returns true if no member is given.
    fn is_empty(&self) -> bool {
        let Self { file, kind, description, members } = self;
        file.is_none() && kind.is_none() && description.is_none() && members.is_empty()
    }

    /// Returns the members: those of the file, or `base` without one, overridden by the options.
    fn members(&self, base: Map<String, Value>) -> Result<Map<String, Value>, Failure> {
        let mut all = self.file.as_deref().map_or(Ok(base), read_file)?;
        if let Some(kind) = &self.kind {
            all.insert("type".into(), kind.as_str().into());
        }
        if let Some(description) = &self.description {
            all.insert("description".into(), description.as_str().into());
        }
        for member in &self.members {
            let (name, value) = member.split_once('=').ok_or("--set: use MEMBER=VALUE")?;
            all.insert(name.to_owned(), typed(name, value_of(name, value)?));
        }
        Ok(all)
    }
}

/// Reads a file of members.
fn read_file(path: &Path) -> Result<Map<String, Value>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    // The parsers' full messages show the line, which may have a secret.
    let parsed = if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
        serde_json::from_str(&text).map_err(|error| format!("line {}: invalid JSON", error.line()))
    } else {
        toml::from_str(&text).map_err(|error| toml_problem(&text, &error))
    };
    match parsed.map_err(|problem| format!("{}: {problem}", path.display()))? {
        Value::Object(members) => Ok(members),
        _ => Err(format!("{}: use an object with the members of a data source", path.display()).into()),
    }
}

/// Resolves `@FILE` and `env:NAME`.
fn value_of(name: &str, value: &str) -> Result<String, Failure> {
    if let Some(file) = value.strip_prefix('@') {
        let text = std::fs::read_to_string(file).map_err(|error| format!("--set {name}: {file}: {error}"))?;
        return Ok(text.trim_end_matches(['\r', '\n']).to_owned());
    }
    match value.strip_prefix("env:") {
        Some(variable) => {
            std::env::var(variable).map_err(|_| format!("--set {name}: {variable} is not set").into())
        }
        None => Ok(value.to_owned()),
    }
}

/// Returns a number for members that are numbers by their name. Keys may consist of digits.
fn typed(name: &str, value: String) -> Value {
    match value.parse::<u64>() {
        Ok(number) if name.ends_with("-seconds") => number.into(),
        _ => value.into(),
    }
}

impl SourceCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        connect::run(async {
            match self.command {
                Command::Create { name, content, test, connect } => {
                    create(name, &content, test, &connect).await
                }
                Command::List { report, connect } => list(&connect.client(Access::Read)?, report).await,
                Command::Show { name, connect } => {
                    let shown: Value = connect.client(Access::Read)?.get(&path(&name)?, &[]).await?;
                    outln!("{shown:#}");
                    Ok(())
                }
                Command::Test { name, target, content, connect } => {
                    let client = connect.client(Access::Admin)?;
                    test(&client, name.as_deref(), &content, &target).await
                }
                Command::Update { name, content, connect } => update(&name, &content, &connect).await,
                Command::Delete { name, connect } => {
                    let client = connect.client(Access::Admin)?;
                    client.send_json(Method::DELETE, &path(&name)?, &[], &Value::Null).await?;
                    outln!("deleted data source {name}");
                    Ok(())
                }
            }
        })
    }
}

/// Returns the path of a data source. The name is checked, as it becomes a part of the path.
fn path(name: &str) -> Result<String, Failure> {
    logship_config::data_source::check_name(name)?;
    Ok(format!("/sources/{name}"))
}

async fn create(name: String, content: &Content, test: bool, connect: &Connect) -> Result<(), Failure> {
    logship_config::data_source::check_name(&name)?;
    let mut members = content.members(Map::new())?;
    members.insert("name".into(), name.as_str().into());
    let (client, source) = (connect.client(Access::Admin)?, Value::Object(members));
    if test {
        show_checks(&client.send_json(Method::POST, "/sources", &[("type", "test")], &source).await?)?;
    }
    client.send_json(Method::POST, "/sources", &[], &source).await?;
    outln!("created data source {name}");
    Ok(())
}

async fn update(name: &str, content: &Content, connect: &Connect) -> Result<(), Failure> {
    if content.is_empty() {
        return Err("nothing to change: give --file, --type, --description or --set".into());
    }
    let (client, path) = (connect.client(Access::Admin)?, path(name)?);
    let mut shown: Map<String, Value> = client.get(&path, &[]).await?;
    for added in ["origin", "createTime", "lastModifyTime"] {
        shown.remove(added);
    }
    let members = content.members(shown)?;
    client.send_json(Method::PUT, &path, &[], &Value::Object(members)).await?;
    outln!("updated data source {name}");
    Ok(())
}

async fn list(client: &Client, report: Report) -> Result<(), Failure> {
    let found: Value = client.get("/sources", &[]).await?;
    if report == Report::Json {
        outln!("{:#}", found["sources"]);
        return Ok(());
    }
    let row = |source: &Value| {
        let text = |name: &str| source[name].as_str().unwrap_or_default().to_owned();
        ["name", "type", "origin", "endpoint", "project", "description"].map(text).to_vec()
    };
    let rows = found["sources"].as_array().into_iter().flatten().map(row).collect();
    outln!("{}", table::render(&["name", "type", "from", "endpoint", "project", "description"], rows));
    Ok(())
}

async fn test(
    client: &Client,
    name: Option<&str>,
    content: &Content,
    target: &Target,
) -> Result<(), Failure> {
    let Target { logstore, table, partition } = target;
    let parameters = [("logstore", logstore), ("table", table), ("partition", partition)];
    let set = parameters.into_iter().filter_map(|(parameter, value)| Some((parameter, value.as_deref()?)));
    let query: Vec<_> = [("type", "test")].into_iter().chain(set).collect();
    let checks = match name {
        Some(name) if content.is_empty() => {
            client.send_json(Method::POST, &path(name)?, &query, &json!({})).await?
        }
        Some(_) => return Err("give a name, or the members of a data source, but not both".into()),
        None => {
            let source = Value::Object(content.members(Map::new())?);
            client.send_json(Method::POST, "/sources", &query, &source).await?
        }
    };
    show_checks(&checks)
}

/// Prints the checks of a data source. Fails if one that jobs and rules need has not passed.
fn show_checks(checks: &Value) -> Result<(), Failure> {
    let row = |check: &Value| {
        let text = |name: &str| check[name].as_str().unwrap_or_default().to_owned();
        let is_optional = check["required"] == false && check["result"] != "passed";
        let result = if is_optional { format!("{} (optional)", text("result")) } else { text("result") };
        vec![text("attempt"), text("permission"), result, text("message")]
    };
    let list: Vec<&Value> = checks["checks"].as_array().into_iter().flatten().collect();
    let rows = list.iter().map(|check| row(check)).collect();
    outln!("{}", table::render(&["attempt", "permission", "result", "message"], rows));
    if checks["ok"] == true {
        return Ok(());
    }
    let is_missing = |check: &&&Value| check["required"] == true && check["result"] == "denied";
    let mut missing: Vec<_> =
        list.iter().filter(is_missing).filter_map(|check| check["permission"].as_str()).collect();
    missing.dedup();
    match missing[..] {
        [] => Err("the data source can't be used: see the failed attempts".into()),
        _ => Err(format!("the key lacks {}", missing.join(", ")).into()),
    }
}
