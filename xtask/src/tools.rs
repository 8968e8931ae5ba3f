//! Tools of others that the long tests run: `wac`, `wkg` and `wasmtime`. They are built once, from the crates registry.
//! Even with little optimization, their builds take 2, 4 and 8 minutes of a processor: too long for each commit.

use std::path::PathBuf;

use anyhow::Result;

use crate::command;
use crate::workspace::Workspace;

/// The version of wasmtime is that of the host. Its program gets what `wasmtime serve` with WASI 0.3 needs.
const TOOLS: [&[&str]; 3] = [
    &["wac-cli@0.12.0", "--no-default-features", "--features", "wit"],
    &["wkg@0.16.1"],
    &[
        "wasmtime-cli@48.0.8",
        "--no-default-features",
        "--features",
        "cache,component-model-async,cranelift,parallel-compilation,pooling-allocator,run,serve",
    ],
];

/// Installs the tools below the target directory, unless they are there. Returns their folder.
pub(crate) fn install(workspace: &Workspace) -> Result<PathBuf> {
    let root = workspace.target("tools");
    for tool in TOOLS {
        let mut cargo = workspace.cargo();
        cargo.args(["install", "--locked", "--root"]).arg(&root);
        cargo.arg("--target-dir").arg(root.join("build")).args(tool);
        command::show(&mut cargo)?;
    }
    Ok(root.join("bin"))
}
