//! The list of the components in the program, in CycloneDX's format.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::dependencies::{Package, packages};
use crate::workspace::Workspace;

/// Writes the list to a file. Equal dependencies give equal files.
pub(crate) fn run(workspace: &Workspace, to: &Path) -> Result<()> {
    let packages = packages(workspace)?;
    let (program, parts): (Vec<_>, Vec<_>) = packages.values().partition(|package| package.name == "logship");
    let program = program.first().context("the workspace has no package logship")?;
    let links = packages.values().map(|package| {
        let depends_on: Vec<String> =
            package.dependencies.iter().map(|id| reference(&packages[id])).collect();
        json!({ "ref": reference(package), "dependsOn": depends_on })
    });
    let list = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": component(program, "application") },
        "components": parts.iter().map(|package| component(package, "library")).collect::<Vec<_>>(),
        "dependencies": links.collect::<Vec<_>>(),
    });
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    fs::write(to, serde_json::to_string_pretty(&list)? + "\n")
        .with_context(|| format!("cannot write {}", to.display()))?;
    println!("{}: {} components", to.display(), parts.len());
    Ok(())
}

fn component(package: &Package, kind: &str) -> Value {
    let mut component = json!({
        "type": kind,
        "bom-ref": reference(package),
        "name": package.name,
        "version": package.version,
        "licenses": [{ "expression": package.license }],
        "purl": reference(package),
    });
    if let Some(checksum) = &package.checksum {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    if let Some(repository) = &package.repository {
        component["externalReferences"] = json!([{ "type": "vcs", "url": repository }]);
    }
    component
}

/// The package URL, by which vulnerability scanners find a package.
fn reference(package: &Package) -> String {
    format!("pkg:cargo/{}@{}", package.name, package.version)
}
