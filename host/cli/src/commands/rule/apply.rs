//! Applies a file of rules.

use std::collections::{BTreeMap, BTreeSet};

use crate::print::outln;
use logship_client::Client;
use logship_config::rule_secrets;
use serde_json::Value;

use super::Probe;
use super::client::RuleClient;
use super::desired::DesiredRule;
use crate::commands::Failure;

/// Updates the rules of a service to match `rules`, and prints each change.
pub(super) async fn apply(
    client: Client,
    rules: Vec<DesiredRule>,
    dry_run: bool,
    prune: bool,
    probe: &Probe,
) -> Result<(), Failure> {
    let names = names_by_logstore(&rules)?;
    let client = RuleClient { client, logstore: String::new() };
    let mut update = Update { client, probe, dry_run, changed: 0 };
    for rule in &rules {
        update.apply(rule).await?;
    }
    for (logstore, names) in names.iter().filter(|_| prune) {
        update.prune(logstore, names).await?;
    }
    if dry_run && update.changed > 0 {
        outln!("nothing was changed: --dry-run");
    }
    Ok(())
}

/// Checks the rules, and returns their names by logstore.
fn names_by_logstore(rules: &[DesiredRule]) -> Result<BTreeMap<String, BTreeSet<String>>, Failure> {
    let mut wanted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for rule in rules {
        rule.check().map_err(|error| format!("{}: {error}", rule.name))?;
        rule.warn_of_columns();
        if rule.logstore.is_empty() {
            return Err(format!("{}: logstore is missing: name the logstore to ship", rule.name).into());
        }
        if !wanted.entry(rule.logstore.clone()).or_default().insert(rule.name.clone()) {
            return Err(format!("{}: the file has this rule twice", rule.name).into());
        }
    }
    Ok(wanted)
}

/// An update of a service's rules.
struct Update<'a> {
    client: RuleClient,
    probe: &'a Probe,
    dry_run: bool,
    /// Number of changed rules.
    changed: usize,
}

impl Update<'_> {
    /// Prints a change. Returns true if it is to be made.
    fn announce(&mut self, sign: char, logstore: &str, name: &str, change: &str) -> bool {
        let would = if self.dry_run { "would be " } else { "" };
        outln!("{sign} {logstore}/{name} {would}{change}");
        self.changed += 1;
        !self.dry_run
    }

    async fn apply(&mut self, rule: &DesiredRule) -> Result<(), Failure> {
        self.client.logstore.clone_from(&rule.logstore);
        let Some(shown) = self.client.get(&rule.name).await? else {
            if self.announce('+', &rule.logstore, &rule.name, "created") {
                self.client.create(rule, self.probe.query()).await?;
            }
            return Ok(());
        };
        let wanted = rule_secrets::mask(&rule.configuration());
        let difference = difference(&shown["targetConfiguration"], &wanted);
        if difference.is_empty() {
            outln!("  {}/{} is up to date", rule.logstore, rule.name);
            return Ok(());
        }
        let is_real = self.announce('~', &rule.logstore, &rule.name, "changed");
        difference.iter().for_each(|line| outln!("    {line}"));
        if is_real {
            self.client.update(rule, self.probe.query()).await?;
        }
        Ok(())
    }

    /// Deletes the rules of a logstore except those with `names`.
    async fn prune(&mut self, logstore: &str, names: &BTreeSet<String>) -> Result<(), Failure> {
        logstore.clone_into(&mut self.client.logstore);
        for name in self.client.names().await?.iter().filter(|name| !names.contains(*name)) {
            if self.announce('-', logstore, name, "deleted") {
                self.client.delete(name).await?;
            }
        }
        Ok(())
    }
}

/// Returns a line for each field that differs between two configurations.
fn difference(is: &Value, wanted: &Value) -> Vec<String> {
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    flatten("", is, &mut before);
    flatten("", wanted, &mut after);
    let fields: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differs = fields.into_iter().filter(|field| before.get(*field) != after.get(*field));
    differs
        .map(|field| match (before.get(field), after.get(field)) {
            (Some(before), Some(after)) => format!("{field}: {before} -> {after}"),
            (None, Some(after)) => format!("{field}: added {after}"),
            (before, _) => format!("{field}: removed {}", before.map_or("", String::as_str)),
        })
        .collect()
}

fn flatten(path: &str, value: &Value, fields: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(object) if !object.is_empty() || path.is_empty() => {
            for (name, value) in object {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(&path, value, fields);
            }
        }
        other => {
            fields.insert(path.to_owned(), other.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::difference;

    #[test]
    fn difference_lists_each_field() {
        let is = json!({ "a": 1, "b": { "c": [1], "d": "x" }, "gone": {} });
        let wanted = json!({ "a": 1, "b": { "c": [2], "d": "x", "new": true } });
        assert_eq!(difference(&is, &wanted), ["b.c: [1] -> [2]", "b.new: added true", "gone: removed {}"]);
        assert!(difference(&is, &is.clone()).is_empty());
    }
}
