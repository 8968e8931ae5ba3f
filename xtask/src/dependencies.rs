//! The dependencies of the program and of its stages, by `cargo metadata` and `Cargo.lock`.
//!
//! The test of this file checks their licences and sources by the rules of `deny.toml`, without the internet.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::command;
use crate::workspace::Workspace;

/// A package that is part of the program.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    /// The SPDX expression of its licence.
    pub(crate) license: String,
    /// The registry that it comes from. `None` for a package of this repository.
    #[cfg_attr(not(test), expect(dead_code, reason = "only the rules use it"))]
    pub(crate) source: Option<String>,
    /// The SHA-256 of its archive.
    pub(crate) checksum: Option<String>,
    pub(crate) repository: Option<String>,
    /// The ids of the packages that it links.
    pub(crate) dependencies: BTreeSet<String>,
}

/// The packages that the program and its built-in stages link, by cargo's id.
pub(crate) fn packages(workspace: &Workspace) -> Result<BTreeMap<String, Package>> {
    let mut cargo = workspace.cargo();
    cargo.args(["metadata", "--locked", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&command::read(&mut cargo)?)?;
    let lock = fs::read_to_string(workspace.path("Cargo.lock")).context("cannot read Cargo.lock")?;
    let checksums = checksums(&lock);
    let all: BTreeMap<&str, &Value> =
        list(&metadata["packages"]).map(|each| (text(&each["id"]), each)).collect();
    let links: BTreeMap<&str, BTreeSet<String>> =
        list(&metadata["resolve"]["nodes"]).map(|node| (text(&node["id"]), links(node))).collect();
    let components = workspace.path("components");
    let is_root = |package: &Value| {
        text(&package["name"]) == "logship"
            || text(&package["manifest_path"]).starts_with(&*components.to_string_lossy())
    };
    let members = list(&metadata["workspace_members"]).map(text);
    let mut queue: Vec<&str> = members.filter(|id| is_root(all[id])).collect();
    let mut found = BTreeMap::new();
    while let Some(id) = queue.pop() {
        let package = all.get(id).with_context(|| format!("cargo metadata lacks {id}"))?;
        let dependencies = links.get(id).cloned().unwrap_or_default();
        if !found.contains_key(id) {
            queue.extend(dependencies.iter().map(|id| *all.get_key_value(id.as_str()).expect("listed").0));
            found.insert(id.to_owned(), read(package, dependencies, &checksums));
        }
    }
    Ok(found)
}

fn read(
    package: &Value,
    dependencies: BTreeSet<String>,
    checksums: &BTreeMap<(String, String), String>,
) -> Package {
    let (name, version) = (text(&package["name"]).to_owned(), text(&package["version"]).to_owned());
    let optional = |key: &str| package[key].as_str().map(str::to_owned);
    Package {
        license: text(&package["license"]).replace('/', " OR "),
        source: optional("source"),
        repository: optional("repository"),
        checksum: checksums.get(&(name.clone(), version.clone())).cloned(),
        name,
        version,
        dependencies,
    }
}

/// The ids of the packages that a node of the graph links. Build scripts and tests are not part of the program.
fn links(node: &Value) -> BTreeSet<String> {
    let is_linked = |dependency: &&Value| list(&dependency["dep_kinds"]).any(|kind| kind["kind"].is_null());
    list(&node["deps"]).filter(is_linked).map(|dependency| text(&dependency["pkg"]).to_owned()).collect()
}

/// The checksums in `Cargo.lock`, by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let value = |block: &str, key: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""))?;
        Some(line.trim_end_matches('"').to_owned())
    };
    let package =
        |block| Some(((value(block, "name")?, value(block, "version")?), value(block, "checksum")?));
    lock.split("[[package]]").filter_map(package).collect()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The strings of a list in `deny.toml`.
    fn strings(rules: &str, list: &str) -> Vec<String> {
        let begin = rules.find(&format!("\n{list} = [")).expect(list);
        let content = rules[begin..].split_once('[').unwrap().1.split_once(']').unwrap().0;
        content.split('"').skip(1).step_by(2).map(str::to_owned).collect()
    }

    /// True if an SPDX expression can be satisfied by the allowed licences. `AND` binds closer than `OR`.
    fn is_allowed(expression: &str, allowed: &[String]) -> bool {
        let expression = expression.trim();
        if let Some((begin, end)) = parentheses(expression) {
            let inner = if is_allowed(&expression[begin + 1..end], allowed) { &allowed[0] } else { "no" };
            return is_allowed(
                &format!("{}{inner}{}", &expression[..begin], &expression[end + 1..]),
                allowed,
            );
        }
        let mut alternatives = expression.split(" OR ");
        alternatives.any(|all| all.split(" AND ").all(|one| allowed.iter().any(|name| name == one.trim())))
    }

    /// The first innermost pair of parentheses.
    fn parentheses(expression: &str) -> Option<(usize, usize)> {
        let end = expression.find(')')?;
        Some((expression[..end].rfind('(')?, end))
    }

    #[test]
    fn evaluates_licence_expressions() {
        let allowed = ["MIT".to_owned(), "Apache-2.0 WITH LLVM-exception".to_owned()];
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("GPL-3.0 OR MIT", true),
            ("GPL-3.0 AND MIT", false),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("Apache-2.0", false),
            ("(GPL-3.0 OR MIT) AND MIT", true),
            ("(GPL-3.0 OR MIT) AND GPL-3.0", false),
            ("MIT AND (GPL-3.0 AND MIT)", false),
            ("", false),
        ] {
            assert_eq!(is_allowed(expression, &allowed), expected, "{expression}");
        }
    }

    #[test]
    fn dependencies_have_allowed_licences_and_sources() {
        let workspace = Workspace::find().unwrap();
        let rules = fs::read_to_string(workspace.path("deny.toml")).unwrap();
        let licenses = strings(&rules, "allow");
        let registries = strings(&rules, "allow-registry");
        let packages = packages(&workspace).unwrap();
        assert!(packages.len() > 200, "{}", packages.len());
        for name in ["wasmtime", "rusqlite", "parquet"] {
            assert!(packages.values().any(|package| package.name == name), "{name}");
        }
        for (id, package) in &packages {
            assert!(is_allowed(&package.license, &licenses), "{id}: {:?}", package.license);
            if let Some(source) = &package.source {
                let registry = source.strip_prefix("registry+").unwrap_or(source);
                assert!(registries.iter().any(|allowed| allowed == registry), "{id}: {source}");
                assert!(package.checksum.is_some(), "{id} has no checksum");
            }
        }
    }
}
