//! Checks the form of a manifest: its triggers, and the names of its settings.

use std::collections::BTreeSet;

use crate::lines::Lines;
use crate::manifest::Manifest;
use crate::report::Report;

/// The kinds of triggers that call functions here.
const TRIGGERS: [&str; 2] = ["http", "redis"];

/// The settings of components in Spin.
const COMPONENT_SETTINGS: [&str; 17] = [
    "ai_models",
    "allowed_http_hosts",
    "allowed_outbound_hosts",
    "build",
    "dependencies",
    "dependencies_inherit_configuration",
    "description",
    "environment",
    "exclude_files",
    "files",
    "key_value_stores",
    "profile",
    "source",
    "sqlite_databases",
    "targets",
    "tool",
    "variables",
];

/// Reports problems of the manifest's form.
pub(crate) fn check(manifest: &Manifest, lines: &Lines<'_>, report: &mut Report) {
    check_triggers(manifest, lines, report);
    check_names(manifest, lines, report);
}

fn check_triggers(manifest: &Manifest, lines: &Lines<'_>, report: &mut Report) {
    let kinds = lines.keys(&["trigger"]);
    for kind in kinds.iter().filter(|kind| !TRIGGERS.contains(kind)) {
        let text = format!(
            "trigger.{kind} is not checked, and `logship function serve` ignores it: it has HTTP and Redis triggers"
        );
        report.advise(lines.line(&["trigger", kind]), text);
    }
    if manifest.trigger.http.is_empty() && manifest.trigger.redis.is_empty() {
        let text = "the application has no HTTP or Redis trigger, so nothing calls it: add [[trigger.http]]";
        report.add(lines.line(&["trigger"]), text);
    }
    let mut routes = BTreeSet::new();
    for (index, trigger) in manifest.trigger.http.iter().enumerate() {
        let (route, line) = (&trigger.route, lines.line(&["trigger", "http", &index.to_string(), "route"]));
        if !is_route(route) {
            let text = format!(
                "the route {route:?} is invalid: begin it with \"/\", and use \"...\" only as its last segment"
            );
            report.add(line, text);
        }
        if !routes.insert(route) {
            report.advise(
                line,
                format!("another trigger has the route {route:?}: one of them is never called"),
            );
        }
    }
    if !manifest.trigger.http.is_empty() && !manifest.trigger.redis.is_empty() {
        let text = "this application has HTTP and Redis triggers: if Spin loses Redis, it exits, and HTTP calls fail too; put the Redis trigger into an application of its own";
        report.advise(lines.line(&["trigger", "redis", "0"]), text.into());
    }
}

/// Returns true if requests can match a route.
fn is_route(route: &str) -> bool {
    let path = route.strip_suffix("/...").unwrap_or(route);
    (route.starts_with('/')) && !path.split('/').any(|segment| segment == "..." || segment == ":")
}

fn check_names(manifest: &Manifest, lines: &Lines<'_>, report: &mut Report) {
    for name in manifest.variables.keys().filter(|name| !is_variable(name)) {
        let text = format!(
            "the variable {name:?} has a name that Spin rejects: use a-z, 0-9 and single underscores, and begin with a letter"
        );
        report.add(lines.line(&["variables", name]), text);
    }
    for component in manifest.component.keys() {
        for setting in lines.keys(&["component", component]) {
            if !COMPONENT_SETTINGS.contains(&setting) {
                let text = format!("component {component}: unknown setting {setting}: is it misspelled?");
                report.advise(lines.line(&["component", component, setting]), text);
            }
        }
    }
}

/// Returns true if Spin accepts the name of a variable.
fn is_variable(name: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    name.starts_with(|first: char| first.is_ascii_lowercase()) && name.split('_').all(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_routes_and_variables() {
        for (route, is_valid) in
            [("/", true), ("/...", true), ("/v1/:rule", true), ("/a/...", true), ("a", false), ("", false)]
        {
            assert_eq!(is_route(route), is_valid, "{route}");
        }
        assert!(!is_route("/a/.../b") && !is_route("/:/a"));
        assert!(is_variable("s3_access_key_id") && is_variable("a1"));
        for name in ["", "A", "1a", "a-b", "a__b", "_a", "a_"] {
            assert!(!is_variable(name), "{name}");
        }
    }
}
