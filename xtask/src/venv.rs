use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::workspace::Workspace;
use crate::{apt, command, files};

const REQUIREMENTS: &str = "tests/requirements.txt";

/// Returns a Python with the packages of tests/requirements.txt. Creates the environment in target/venv if it is
/// missing, and again if the file has changed.
pub(crate) fn python(workspace: &Workspace) -> Result<PathBuf> {
    if let Some(python) = up_to_date(workspace)? {
        return Ok(python);
    }
    let venv = workspace.target("venv");
    println!("creating {} with the packages of {REQUIREMENTS}", workspace.relative(&venv).display());
    create(workspace).or_else(|_| {
        // Debian's Python lacks the module that creates environments.
        apt::install(&["python3-venv"], "create a Python environment for the tests")?;
        create(workspace)
    })?;
    let python = venv.join("bin/python");
    let requirements = workspace.path(REQUIREMENTS);
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
    command::run(workspace.command(&python).args(install).arg(&requirements))
        .context("cannot install the tests' Python packages; check the connection to PyPI or a mirror")?;
    // Last, so that an interrupted installation is repeated.
    fs::copy(&requirements, venv.join("requirements.txt"))?;
    Ok(python)
}

/// Returns the Python if its packages are up to date.
pub(crate) fn up_to_date(workspace: &Workspace) -> Result<Option<PathBuf>> {
    let venv = workspace.target("venv");
    let requirements = workspace.path(REQUIREMENTS);
    let wanted =
        fs::read(&requirements).with_context(|| format!("cannot read {}", requirements.display()))?;
    let installed = fs::read(venv.join("requirements.txt")).is_ok_and(|installed| installed == wanted);
    let python = venv.join("bin/python");
    Ok((installed && python.exists()).then_some(python))
}

fn create(workspace: &Workspace) -> Result<()> {
    let venv = workspace.target("venv");
    files::remove_dir(&venv)?;
    command::read(workspace.command("python3").args(["-m", "venv"]).arg(&venv)).map(drop)
}
