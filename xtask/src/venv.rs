use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::workspace::Workspace;
use crate::{apt, command, files};

const REQUIREMENTS: &str = "tests/requirements.txt";

/// A Python with the packages of tests/requirements.txt. Made in target/venv when it is missing, or
/// when the file has changed since.
pub(crate) fn python(workspace: &Workspace) -> Result<PathBuf> {
    if let Some(python) = ready(workspace)? {
        return Ok(python);
    }
    let venv = workspace.target("venv");
    println!("making {}, with the packages of {REQUIREMENTS}", workspace.relative(&venv).display());
    make(workspace).or_else(|_| {
        // Debian's Python comes without the part that makes environments.
        apt::install(&["python3-venv"], "make a Python environment for the tests")?;
        make(workspace)
    })?;
    let python = venv.join("bin/python");
    let requirements = workspace.path(REQUIREMENTS);
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
    command::run(workspace.command(&python).args(install).arg(&requirements))
        .context("the tests' Python packages could not be installed; is PyPI, or a mirror, in reach?")?;
    // Last, so that an installation that was broken off is made again.
    fs::copy(&requirements, venv.join("requirements.txt"))?;
    Ok(python)
}

/// The Python, if nothing is to be done for it.
pub(crate) fn ready(workspace: &Workspace) -> Result<Option<PathBuf>> {
    let venv = workspace.target("venv");
    let requirements = workspace.path(REQUIREMENTS);
    let wanted =
        fs::read(&requirements).with_context(|| format!("cannot read {}", requirements.display()))?;
    let installed = fs::read(venv.join("requirements.txt")).is_ok_and(|installed| installed == wanted);
    let python = venv.join("bin/python");
    Ok((installed && python.exists()).then_some(python))
}

fn make(workspace: &Workspace) -> Result<()> {
    let venv = workspace.target("venv");
    files::remove_dir(&venv)?;
    command::read(workspace.command("python3").args(["-m", "venv"]).arg(&venv)).map(drop)
}
