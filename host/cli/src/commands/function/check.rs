//! `logship function check`.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use logship_spin_runtime::check::{LEAST_SPIN, check};
use logship_spin_runtime::manifest::Manifest;
use logship_spin_runtime::report::{Problem, Report};

use super::variables::VariableOptions;
use crate::commands::Failure;
use crate::commands::ship::count;
use crate::print::outln;

/// Checks an application before it starts: files, stages, variables, hosts, and the version of Spin.
///
/// Reports all problems, each with its line. Fails if there are any.
#[derive(Debug, Args)]
pub(in crate::commands) struct CheckCommand {
    /// The application's manifest.
    #[arg(value_name = "FILE", default_value = "spin.toml")]
    application: PathBuf,
    #[command(flatten)]
    variables: VariableOptions,
    /// The version of Spin that runs the application, such as that of SpinKube's shim. By default, that of the
    /// installed `spin`.
    #[arg(long, value_name = "VERSION")]
    spin: Option<String>,
}

impl CheckCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        let manifest = Manifest::read(&self.application)?;
        let mut report = check(&manifest, &|name: &str| self.variables.value(name));
        let spin = self.check_spin(&mut report)?;
        for Problem { line, text } in &report.problems {
            outln!("{}: {text}", place(&self.application, *line));
        }
        for Problem { line, text } in &report.advice {
            outln!("{}: advice: {text}", place(&self.application, *line));
        }
        match report.problems.len() {
            0 => {
                outln!("{}: no problems{spin}", self.application.display());
                Ok(())
            }
            problems => {
                let problems = count(problems as u64, "problem");
                Err(format!("{}: {problems}", self.application.display()).into())
            }
        }
    }

    /// Compares Spin's version with the one that the components need. Returns a description of it.
    fn check_spin(&self, report: &mut Report) -> Result<String, Failure> {
        let Some(component) = report.needs_least_spin.first() else { return Ok(String::new()) };
        let (major, minor) = LEAST_SPIN;
        let (version, origin) = match &self.spin {
            Some(version) => (version.clone(), "--spin"),
            None => match installed_spin() {
                Some(version) => (version, "the installed `spin`"),
                None => return Ok(format!("; it needs Spin {major}.{minor} or later")),
            },
        };
        let parsed = parse_version(&version)
            .ok_or_else(|| format!("{origin}: can't read the version {version:?}: use MAJOR.MINOR.PATCH"))?;
        if parsed < LEAST_SPIN {
            let text = format!(
                "Spin {version} ({origin}) can't run {}: it has no wasi:http/handler@0.3.0, which needs Spin {major}.{minor} or later",
                component.display()
            );
            report.problems.push(Problem { line: None, text });
        }
        Ok(format!("; Spin {version} can run it"))
    }
}

/// Returns the version that `spin --version` prints: `spin 4.1.0 (…)`.
fn installed_spin() -> Option<String> {
    let output = Command::new("spin").arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().nth(1).map(str::to_owned)
}

/// Returns the major and the minor version.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.trim().trim_start_matches('v').split('.');
    let number = |part: &str| part.split(['-', '+']).next()?.parse().ok();
    Some((number(parts.next()?)?, parts.next().map_or(Some(0), number)?))
}

fn place(file: &Path, line: Option<usize>) -> String {
    line.map_or_else(|| file.display().to_string(), |line| format!("{}:{line}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_versions() {
        for (text, version) in [
            ("4.0.2", (4, 0)),
            ("4.1.0-pre0", (4, 1)),
            ("v3.6", (3, 6)),
            ("5", (5, 0)),
            ("4.10.1+x", (4, 10)),
        ] {
            assert_eq!(parse_version(text), Some(version), "{text}");
        }
        assert!(["", "x", "4.x", "-1"].iter().all(|text| parse_version(text).is_none()));
    }
}
