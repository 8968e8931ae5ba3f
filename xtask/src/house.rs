//! The architecture of `host/`: which crate imports which, checked and drawn.
//!
//! Each crate imports only crates of lower floors, and the top-level modules of a crate form no circle. The test of
//! this file checks both; `cargo xtask house` prints the picture and writes it into `host/README.md`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::packages::packages;
use crate::workspace::Workspace;
use crate::{files, modules};

/// The floors of the house, from the ground up. A crate imports only crates of lower floors.
const FLOORS: &[&[&str]] = &[
    &["logship-feature-graph", "logship-guard", "logship-listener", "logship-sls", "logship-wasm"],
    &["logship-batch", "logship-logstore"],
    &["logship-config", "logship-client", "logship-source", "logship-spin-runtime"],
    &["logship-runtime", "logship-sink"],
    &["logship-registry"],
    &["logship-delivery"],
    &["logship-server"],
    &["logship"],
];

const README: &str = "host/README.md";
const BEGIN: &str = "<!-- crates: cargo xtask house -->\n";
const END: &str = "<!-- /crates -->";

/// A crate below `host/`.
#[derive(Debug)]
struct Crate {
    name: String,
    folder: PathBuf,
    description: String,
    /// The crates of the host that it imports, by name.
    imports: BTreeSet<String>,
    lines: usize,
}

/// Prints the picture of the crates and writes it into `host/README.md`.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let crates = crates(workspace)?;
    check(&crates)?;
    let picture = picture(workspace, &crates);
    print!("{picture}");
    let path = workspace.path(README);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    fs::write(&path, with_picture(&text, &picture)?)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Fails if a crate imports a crate of its own or a higher floor, or if modules of a crate form a circle.
fn check(crates: &[Crate]) -> Result<()> {
    let mut problems = vec![];
    for importer in crates {
        let Some(floor) = floor(&importer.name) else {
            problems.push(format!("{} has no floor: add it to FLOORS in xtask/src/house.rs", importer.name));
            continue;
        };
        for imported in &importer.imports {
            if floor_or_top(imported) >= floor {
                problems.push(format!("{} imports {imported}, which is not on a lower floor", importer.name));
            }
        }
        let imports = modules::imports(&importer.folder.join("src"))?;
        if let Some(circle) = modules::circle(&imports) {
            problems.push(format!(
                "{}: modules import each other in a circle: {}",
                importer.name,
                circle.join(" -> ")
            ));
        }
    }
    if problems.is_empty() { Ok(()) } else { bail!("{}", problems.join("\n")) }
}

fn floor(name: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&name))
}

/// The floor of an imported crate; a crate without a floor counts as the highest.
fn floor_or_top(name: &str) -> usize {
    floor(name).unwrap_or(usize::MAX)
}

/// The crates below `host/`, from the ground up.
fn crates(workspace: &Workspace) -> Result<Vec<Crate>> {
    let host = workspace.path("host");
    let mut crates = vec![];
    for package in packages(workspace, &workspace.path("Cargo.toml"))? {
        let manifest = Path::new(package["manifest_path"].as_str().context("a package without a manifest")?);
        let folder = manifest.parent().context("a manifest without a folder")?;
        if !folder.starts_with(&host) {
            continue;
        }
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        let is_normal = |dependency: &&Value| dependency["kind"].is_null() && dependency["path"].is_string();
        crates.push(Crate {
            name: package["name"].as_str().unwrap_or_default().to_owned(),
            folder: folder.to_owned(),
            description: package["description"].as_str().unwrap_or_default().to_owned(),
            imports: dependencies
                .filter(is_normal)
                .filter_map(|dependency| dependency["name"].as_str().map(str::to_owned))
                .collect(),
            lines: lines(&folder.join("src"))?,
        });
    }
    crates.sort_by_key(|each| (floor(&each.name), each.name.clone()));
    Ok(crates)
}

fn lines(folder: &Path) -> Result<usize> {
    let mut lines = 0;
    for file in files::walk(folder)? {
        if file.extension().is_some_and(|extension| extension == "rs") {
            lines += fs::read_to_string(&file)?.lines().count();
        }
    }
    Ok(lines)
}

/// The picture: a crate a line, the program on top, each with the crates that it imports itself.
fn picture(workspace: &Workspace, crates: &[Crate]) -> String {
    let mut text = String::from("| crate | lines | job | imports |\n|---|---:|---|---|\n");
    for each in crates.iter().rev() {
        let folder = workspace
            .relative(&each.folder)
            .strip_prefix("host")
            .unwrap_or(&each.folder)
            .display()
            .to_string();
        let imports: Vec<_> = each.imports.iter().map(|name| format!("`{}`", short(name))).collect();
        let Crate { description, lines, .. } = each;
        text +=
            &format!("| [`{folder}`]({folder}/src) | {lines} | {description} | {} |\n", imports.join(" "));
    }
    text
}

fn short(name: &str) -> &str {
    name.strip_prefix("logship-").unwrap_or(name)
}

fn with_picture(text: &str, picture: &str) -> Result<String> {
    let (before, rest) = text.split_once(BEGIN).with_context(|| format!("{README} has no line {BEGIN:?}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("{README} has no line {END:?}"))?;
    Ok(format!("{before}{BEGIN}{picture}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_crate_imports_upward_and_no_modules_form_a_circle() {
        let workspace = Workspace::find().unwrap();
        let crates = crates(&workspace).unwrap();
        assert!(crates.len() >= 10, "{crates:?}");
        check(&crates).unwrap();
    }

    #[test]
    fn readme_shows_the_crates_as_they_are() {
        let workspace = Workspace::find().unwrap();
        let text = fs::read_to_string(workspace.path(README)).unwrap();
        // Line counts change with each commit and are refreshed by the command only.
        let shape = |text: &str| {
            let rows = text.lines().filter(|line| line.starts_with("| [`"));
            rows.map(|row| {
                let cells: Vec<_> = row.split('|').collect();
                format!("{}|{}|{}", cells[1], cells[3], cells[4])
            })
            .collect::<Vec<_>>()
        };
        let picture = picture(&workspace, &crates(&workspace).unwrap());
        let (_, rest) = text.split_once(BEGIN).unwrap();
        let (shown, _) = rest.split_once(END).unwrap();
        assert_eq!(shape(shown), shape(&picture), "run `cargo xtask house`");
    }

    fn each(name: &str, imports: &[&str]) -> Crate {
        let imports = imports.iter().map(|&name| name.to_owned()).collect();
        let folder = PathBuf::from("/nowhere");
        Crate { name: name.into(), folder, description: String::new(), imports, lines: 0 }
    }

    #[test]
    fn an_upward_import_is_refused() {
        assert!(check(&[each("logship-delivery", &["logship-sink", "logship-sls"])]).is_ok());
        let problem = check(&[each("logship-sink", &["logship-delivery"])]).unwrap_err().to_string();
        assert!(problem.contains("logship-sink imports logship-delivery"), "{problem}");
        let problem = check(&[each("logship-new", &[])]).unwrap_err().to_string();
        assert!(problem.contains("no floor"), "{problem}");
    }
}
