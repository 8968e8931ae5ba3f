//! `logship job new`: asks for everything that a job needs.

use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;

use clap::Args;
use logship_config::job::Job;
use logship_config::job::mapping::ReaderColumn;
use logship_config::job::schedule::Schedule;
use logship_config::job::template::Template;
use logship_server::keys::Access;
use serde_json::{Map, Value, json};

use super::create::create;
use crate::commands::connect::Connect;
use crate::commands::{Failure, output};
use crate::print::outln;

/// The options of `job new`.
#[derive(Debug, Args)]
pub(super) struct New {
    /// Writes the script to this file, and creates no job.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    connect: Connect,
}

impl New {
    pub(super) async fn run(self) -> Result<(), Failure> {
        outln!("An empty answer takes the value in brackets.");
        let job = questions()?;
        let script = serde_json::to_value(&job)?;
        outln!("\n{script:#}\n");
        if let Some(file) = &self.output {
            output::write(file, format!("{script:#}\n").as_bytes())?;
            outln!("wrote {}; create the job with `logship job create -f {0}`", file.display());
            return Ok(());
        }
        if question("Create this job? y or n", Some("y"), |text| one_of(text, &["y", "n"]))? == "n" {
            outln!("no job was created");
            return Ok(());
        }
        create(&self.connect.client(Access::Admin)?, &job, false).await
    }
}

/// Asks the questions of a job, in the order of the wizard.
fn questions() -> Result<Job, Failure> {
    let name = question("Name of the job", None, |text| {
        logship_config::job::check_name(text).map(|()| text.to_owned()).map_err(|error| error.to_string())
    })?;
    outln!("\nSource");
    let datasource = question("Data source of the logs; empty: this service", Some(""), any)?;
    let logstore = question("Logstore", None, any)?;
    let begin =
        question("Begin of the range, yyyyMMddHHmmss or an expression", Some("${startTime}"), template)?;
    let end = question("End of the range, exclusive", Some("${endTime}"), template)?;
    outln!("\nTarget");
    let target = question("Data source of the table", None, any)?;
    let table = question("Table", None, template)?;
    let partition =
        question("Partition, such as pt=${bizdate}; empty: the table has none", Some(""), template)?;
    let truncate = question("Replace the rows of the partition before? y or n", Some("y"), |text| {
        one_of(text, &["y", "n"])
    })?;
    outln!("\nMapping");
    let keys = question(
        "Fields of the logs, with commas between; *: those with the names of the columns",
        Some("*"),
        list,
    )?;
    let same = if keys.contains('\'') || keys.contains('$') { None } else { Some(keys.as_str()) };
    let columns = question("Columns of the table, in the same order", same, list)?;
    outln!("\nLimits");
    let mbps = question("Largest rate, in MB of logs a second; empty: none", Some(""), number)?;
    let concurrent = question("Shards at the same time", Some("1"), number)?;
    let record = question("Allowed dirty rows; empty: any number", Some(""), number)?;
    let (every, zone, parameters) = schedule_questions(&[&begin, &end, &partition, &table])?;
    let mut script = json!({
        "type": "job",
        "version": "1.0",
        "name": name,
        "configuration": {
            "reader": { "plugin": "loghub", "parameter": {
                "datasource": datasource, "logstore": logstore,
                "beginDateTime": begin, "endDateTime": end, "column": split(&keys) } },
            "writer": { "plugin": "odps", "parameter": {
                "datasource": target, "table": table, "truncate": truncate == "y", "partition": partition,
                "column": split(&columns) } },
            "setting": { "speed": { "mbps": mbps, "concurrent": concurrent }, "errorLimit": { "record": record } },
        },
        "parameters": parameters,
        "timeZone": zone,
    });
    if let Some(every) = every {
        script["schedule"] = json!({ "everyMinutes": every });
    }
    let job: Job = serde_json::from_value(script)?;
    job.check()?;
    Ok(job)
}

/// The interval in minutes, the time zone, and the parameters.
type Scheduling = (Option<u64>, String, Map<String, Value>);

/// Asks for the schedule, and for the values of the parameters that the texts name.
fn schedule_questions(texts: &[&str]) -> Result<Scheduling, Failure> {
    outln!("\nSchedule");
    let every = question("Interval in minutes, 5 or more; empty: runs only on request", Some(""), |text| {
        if text.is_empty() {
            return Ok(String::new());
        }
        let minutes = text.parse().map_err(|_| format!("{text:?} is no number"))?;
        Schedule::every(minutes).check().map(|()| text.to_owned()).map_err(|error| error.to_string())
    })?;
    let zone = question("Time zone", Some("UTC"), |text| {
        text.parse::<logship_batch::time_zone::TimeZone>().map(|zone| zone.to_string())
    })?;
    let mut parameters = Map::new();
    for (name, default) in
        [("startTime", "$[yyyymmddhh24miss-10/24/60]"), ("endTime", "$[yyyymmddhh24miss-5/24/60]")]
    {
        if !every.is_empty() && texts.iter().any(|text| text.contains(&format!("${{{name}}}"))) {
            parameters
                .insert(name.into(), question(&format!("Value of {name}"), Some(default), template)?.into());
        }
    }
    Ok((every.parse().ok(), zone, parameters))
}

/// Asks until the answer is valid.
fn question(
    text: &str,
    default: Option<&str>,
    check: impl Fn(&str) -> Result<String, String>,
) -> Result<String, Failure> {
    loop {
        let shown = default.map(|default| format!(" [{default}]")).unwrap_or_default();
        let mut stdout = std::io::stdout();
        write!(stdout, "{text}{shown}: ")?;
        stdout.flush()?;
        let mut line = String::new();
        if std::io::stdin().lock().read_line(&mut line)? == 0 {
            return Err("the input ended before the last question: answer all of them, or use `logship job create -f`".into());
        }
        let answer = line.trim();
        let answer = if answer.is_empty() { default.unwrap_or_default() } else { answer };
        if answer.is_empty() && default.is_none() {
            outln!("an answer is needed");
            continue;
        }
        match check(answer) {
            Ok(answer) => return Ok(answer),
            Err(problem) => outln!("{problem}"),
        }
    }
}

fn any(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

fn template(text: &str) -> Result<String, String> {
    Template::parse(text).map(|_| text.to_owned())
}

fn number(text: &str) -> Result<String, String> {
    match text.is_empty() || text.parse::<u64>().is_ok() {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} is no number")),
    }
}

fn one_of(text: &str, answers: &[&str]) -> Result<String, String> {
    match answers.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(format!("answer {}", answers.join(" or "))),
    }
}

fn list(text: &str) -> Result<String, String> {
    split(text).iter().try_for_each(|column| ReaderColumn::parse(column).map(drop))?;
    Ok(text.to_owned())
}

/// Splits a list at its commas, but not within quotes.
fn split(text: &str) -> Vec<String> {
    let (mut parts, mut is_quoted) = (vec![String::new()], false);
    for letter in text.chars() {
        is_quoted ^= letter == '\'';
        match (letter, parts.last_mut()) {
            (',', _) if !is_quoted => parts.push(String::new()),
            (letter, Some(last)) => last.push(letter),
            _ => {}
        }
    }
    parts.iter().map(|part| part.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_lists_outside_of_quotes() {
        assert_eq!(split("a, 'b,c' ,d"), ["a", "'b,c'", "d"]);
        assert_eq!(split("*"), ["*"]);
        assert!(list("a,now()").unwrap_err().contains("Not identified"));
    }
}
