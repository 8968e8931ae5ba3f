//! The profile of the tests: that of the program, with the project's own packages unoptimized and checked.
//!
//! Dependencies are those of the program, so that wasmtime is built once. The packages of the workspace are built a second
//! time, which without optimization takes a third of the time, and finds overflows.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::workspace::Workspace;
use crate::{files, packages};

/// The settings of each package.
const SETTINGS: &str = "opt-level = 0\ncodegen-units = 16\ndebug-assertions = true\noverflow-checks = true\n";

/// Writes the settings to a file for cargo's option `--config`. Returns its path.
pub(crate) fn write(workspace: &Workspace) -> Result<PathBuf> {
    let mut text = String::new();
    for package in packages::packages(workspace, &workspace.path("Cargo.toml"))? {
        let name = package["name"].as_str().unwrap_or_default();
        writeln!(text, "[profile.release.package.{name}]\n{SETTINGS}")?;
    }
    let file = workspace.target("tests/profile.toml");
    files::make_dir(&workspace.target("tests"))?;
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}
