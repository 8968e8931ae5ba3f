//! Checks an application before it starts. Reports all problems, with the lines of the manifest.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::compose::{ComponentFile, ComposeError, Interfaces, compose, import_matches, unresolved};
use crate::manifest::{Component, Manifest};

/// The first version of Spin that runs components with the final WASI 0.3.
pub const LEAST_SPIN: (u32, u32) = (4, 1);

/// The interface of HTTP handlers. Spin 4.0 has a release candidate of it.
const HTTP_HANDLER: &str = "wasi:http/handler@0.3.0";

/// The interface of Redis subscribers.
const REDIS_SUBSCRIBER: &str = "spin:redis/inbound-redis@3.0.0";

/// A problem of an application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line of the manifest.
    pub line: Option<usize>,
    /// The problem, and its fix.
    pub text: String,
}

/// The result of a check.
#[derive(Debug, Default)]
pub struct Report {
    /// The problems that prevent a start, or fail calls.
    pub problems: Vec<Problem>,
    /// Advice about settings that work.
    pub advice: Vec<Problem>,
    /// The components that need [`LEAST_SPIN`].
    pub needs_least_spin: Vec<PathBuf>,
}

impl Report {
    fn add(&mut self, line: Option<usize>, text: impl Into<String>) {
        self.problems.push(Problem { line, text: text.into() });
    }
}

/// Checks an application. `overrides` returns values of variables from the command line or the environment.
pub fn check(manifest: &Manifest, overrides: &impl Fn(&str) -> Option<String>) -> Report {
    let mut report = Report::default();
    for (name, component) in &manifest.component {
        check_settings(manifest, name, component, overrides, &mut report);
        check_files(manifest, name, component, &mut report);
    }
    for trigger in &manifest.trigger.redis {
        if let Err(problem) = manifest.redis(trigger, overrides) {
            report.add(manifest.line("[[trigger.redis]]", "channel"), problem);
        }
    }
    report.problems.sort_by_key(|problem| problem.line);
    if !manifest.trigger.http.is_empty() && !manifest.trigger.redis.is_empty() {
        let text = "this application has HTTP and Redis triggers: if Spin loses Redis, it exits, and HTTP calls fail too; put the Redis trigger into an application of its own";
        let line = manifest.line("[[trigger.redis]]", "[[trigger.redis]]");
        report.advice.push(Problem { line, text: text.into() });
    }
    report
}

/// Checks the variables and the hosts of a component.
fn check_settings(
    manifest: &Manifest,
    name: &str,
    component: &Component,
    overrides: &impl Fn(&str) -> Option<String>,
    report: &mut Report,
) {
    let section = format!("[component.{name}.variables]");
    for (variable, value) in manifest.each_variable(component, overrides) {
        if let Err(problem) = value {
            report.add(manifest.line(&section, variable), format!("component {name}: {variable}: {problem}"));
        }
    }
    for (entry, host) in manifest.each_host(component, overrides) {
        if let Err(problem) = host {
            let line = manifest.line(&format!("[component.{name}]"), "allowed_outbound_hosts");
            let origin = if entry.contains("{{") { format!(" (from {entry:?})") } else { String::new() };
            report.add(line, format!("component {name}: {problem}{origin}"));
        }
    }
}

/// Checks the files of a component and of its dependencies.
fn check_files(manifest: &Manifest, name: &str, component: &Component, report: &mut Report) {
    let section = format!("[component.{name}]");
    let source_line = manifest.line(&section, "source");
    let dependencies = format!("[component.{name}.dependencies]");
    let source = match ComponentFile::read(&manifest.resolve(&component.source)) {
        Ok(file) => Some(file),
        Err(error) => {
            report.add(source_line, missing(&error));
            None
        }
    };
    let interfaces = source.as_ref().map(Interfaces::of);
    let (socket, imports) = match (source, interfaces) {
        (Some(source), Some(Ok(interfaces))) => {
            check_trigger(manifest, name, &source, &interfaces, report);
            (Some(source), interfaces.imports)
        }
        (_, Some(Err(error))) => {
            report.add(source_line, error.to_string());
            (None, vec![])
        }
        _ => (None, vec![]),
    };
    for (import, dependency) in &component.dependencies {
        let line = manifest.line(&dependencies, &format!("\"{import}\""));
        match ComponentFile::read(&manifest.resolve(&dependency.path)) {
            Err(error) => report.add(line, missing(&error)),
            Ok(file) => {
                let Some(socket) = &socket else { continue };
                // The other imports are checked separately.
                if let Err(error) = compose(socket, &[(import.clone(), file)], |_| true) {
                    report.add(line, error.to_string());
                }
            }
        }
    }
    let Some(socket) = &socket else { return };
    let line = manifest.line(&dependencies, &dependencies).or(source_line);
    for import in &imports {
        let served: Vec<_> =
            component.dependencies.keys().filter(|wanted| import_matches(import, wanted)).collect();
        if let [_, second, ..] = *served {
            let text = format!("component {name}: several dependencies provide {import}: remove {second:?}");
            report.add(manifest.line(&dependencies, &format!("\"{second}\"")), text);
        }
    }
    let is_served =
        |import: &String| component.dependencies.keys().any(|wanted| import_matches(import, wanted));
    let missing: BTreeSet<&String> = unresolved(&imports, is_served).collect();
    for import in missing {
        let import = import.clone();
        report.add(line, ComposeError::UnresolvedImport { socket: socket.path.clone(), import }.to_string());
    }
}

/// Checks that a component has the interface of its triggers, in a version that Spin has.
fn check_trigger(
    manifest: &Manifest,
    name: &str,
    source: &ComponentFile,
    interfaces: &Interfaces,
    report: &mut Report,
) {
    let line = manifest.line(&format!("[component.{name}]"), "source");
    let file = source.path.display();
    let all = || interfaces.exports.iter().chain(&interfaces.imports);
    if let Some(candidate) = all().find(|name| name.starts_with("wasi:") && name.contains("-rc-")) {
        let text = format!(
            "{file} has {candidate}, a release candidate that only Spin 4.0 runs: build it for WASI 0.3.0 (spin-sdk 7), which needs Spin {}.{}",
            LEAST_SPIN.0, LEAST_SPIN.1
        );
        report.add(line, text);
        return;
    }
    // A later patch of the interface fits as well.
    let exports = |wanted: &str| {
        let series = wanted.trim_end_matches(|char: char| char != '.');
        interfaces.exports.iter().any(|export| export.starts_with(series))
    };
    let by_http = manifest.trigger.http.iter().any(|trigger| trigger.component == name);
    let by_redis = manifest.trigger.redis.iter().any(|trigger| trigger.component == name);
    for (is_called, interface, kind) in
        [(by_http, HTTP_HANDLER, "an HTTP"), (by_redis, REDIS_SUBSCRIBER, "a Redis")]
    {
        if is_called && !exports(interface) {
            let text = format!(
                "{file} doesn't export {interface}, so {kind} trigger can't call it; its exports are {}",
                interfaces.exports.join(", ")
            );
            report.add(line, text);
        }
    }
    if all().any(|name| name.starts_with("wasi:") && name.contains("@0.3.")) {
        report.needs_least_spin.push(source.path.clone());
    }
}

/// Describes a file that can't be read.
fn missing(error: &ComposeError) -> String {
    format!("{error}: build the components with `cargo xtask build`, or correct the path")
}
