//! The packages of a workspace.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::command;
use crate::workspace::Workspace;

/// Returns the packages in the workspace of a manifest, as `cargo metadata` describes them.
pub(crate) fn packages(workspace: &Workspace, manifest: &Path) -> Result<Vec<Value>> {
    let mut cargo = workspace.cargo();
    cargo.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]).arg(manifest);
    let mut metadata: Value = serde_json::from_str(&command::read(&mut cargo)?)?;
    let packages = metadata["packages"].as_array_mut().context("cargo metadata lists no packages")?;
    Ok(std::mem::take(packages))
}
