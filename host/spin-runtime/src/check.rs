//! Checks an application before it starts. Reports all problems, with the lines of the manifest.

use std::collections::BTreeSet;

use crate::compose::{ComponentFile, ComposeError, Interfaces, compose, import_matches, unresolved};
use crate::lines::Lines;
use crate::manifest::{Component, Manifest};
use crate::report::Report;
use crate::shape;

/// The first version of Spin that runs components with the final WASI 0.3.
pub const LEAST_SPIN: (u32, u32) = (4, 1);

/// The interface of HTTP handlers. Spin 4.0 has a release candidate of it.
const HTTP_HANDLER: &str = "wasi:http/handler@0.3.0";

/// The interface of Redis subscribers.
const REDIS_SUBSCRIBER: &str = "spin:redis/inbound-redis@3.0.0";

/// Checks an application. `overrides` returns values of variables from the command line or the environment.
pub fn check(manifest: &Manifest, overrides: &impl Fn(&str) -> Option<String>) -> Report {
    let (mut report, lines) = (Report::default(), Lines::of(&manifest.text));
    shape::check(manifest, &lines, &mut report);
    for (name, component) in &manifest.component {
        check_settings(manifest, &lines, name, component, overrides, &mut report);
        check_files(manifest, &lines, name, component, &mut report);
    }
    for (index, trigger) in manifest.trigger.redis.iter().enumerate() {
        let line = lines.line(&["trigger", "redis", &index.to_string()]);
        match manifest.redis(trigger, overrides) {
            Err(problem) => report.add(line, problem),
            Ok((address, _)) if !address.starts_with("redis://") && !address.starts_with("rediss://") => {
                report.add(line, format!("the address {address:?} is no Redis: use redis://HOST:PORT"));
            }
            Ok(_) => {}
        }
    }
    report.problems.sort_by_key(|problem| problem.line);
    report
}

/// Checks the variables and the hosts of a component.
fn check_settings(
    manifest: &Manifest,
    lines: &Lines<'_>,
    name: &str,
    component: &Component,
    overrides: &impl Fn(&str) -> Option<String>,
    report: &mut Report,
) {
    for (variable, value) in manifest.each_variable(component, overrides) {
        if let Err(problem) = value {
            let line = lines.line(&["component", name, "variables", variable]);
            report.add(line, format!("component {name}: {variable}: {problem}"));
        }
    }
    for (index, (entry, host)) in manifest.each_host(component, overrides).enumerate() {
        if let Err(problem) = host {
            let line = lines.line(&["component", name, "allowed_outbound_hosts", &index.to_string()]);
            let origin = if entry.contains("{{") { format!(" (from {entry:?})") } else { String::new() };
            report.add(line, format!("component {name}: {problem}{origin}"));
        }
    }
}

/// Checks the files of a component and of its dependencies.
fn check_files(
    manifest: &Manifest,
    lines: &Lines<'_>,
    name: &str,
    component: &Component,
    report: &mut Report,
) {
    let source_line = lines.line(&["component", name, "source"]);
    let dependency_line = |import: &str| lines.line(&["component", name, "dependencies", import]);
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
            check_trigger(manifest, source_line, name, &source, &interfaces, report);
            (Some(source), interfaces.imports)
        }
        (_, Some(Err(error))) => {
            report.add(source_line, error.to_string());
            (None, vec![])
        }
        _ => (None, vec![]),
    };
    for (import, dependency) in &component.dependencies {
        let line = dependency_line(import);
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
    for import in &imports {
        let served: Vec<_> =
            component.dependencies.keys().filter(|wanted| import_matches(import, wanted)).collect();
        if let [_, second, ..] = *served {
            let text = format!("component {name}: several dependencies provide {import}: remove {second:?}");
            report.add(dependency_line(second), text);
        }
    }
    let is_served =
        |import: &String| component.dependencies.keys().any(|wanted| import_matches(import, wanted));
    let missing: BTreeSet<&String> = unresolved(&imports, is_served).collect();
    for import in missing {
        let (line, import) = (dependency_line(import), import.clone());
        report.add(line, ComposeError::UnresolvedImport { socket: socket.path.clone(), import }.to_string());
    }
}

/// Checks that a component has the interface of its triggers, in a version that Spin has.
fn check_trigger(
    manifest: &Manifest,
    line: Option<usize>,
    name: &str,
    source: &ComponentFile,
    interfaces: &Interfaces,
    report: &mut Report,
) {
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
