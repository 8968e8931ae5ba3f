use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};
use nix::unistd::Uid;

use crate::command;

const APT: &str = "/usr/bin/apt-get";

/// Installs Debian packages for a purpose.
///
/// # Errors
/// Fails on another system, or without the permission to install. The error names the packages to install by hand.
pub(crate) fn install(packages: &[&str], purpose: &str) -> Result<()> {
    let names = packages.join(" ");
    if !Path::new(APT).exists() {
        bail!("cannot {purpose}: install the equivalents of the Debian packages {names}, and try again");
    }
    println!("installing {names} to {purpose}");
    let result = command::run(apt().args(["update", "-qq"])).and_then(|()| {
        command::run(apt().args(["install", "-y", "-qq", "--no-install-recommends"]).args(packages))
    });
    match result {
        Ok(()) => Ok(()),
        Err(error) => bail!("{error}\nto {purpose}, install {names} by hand, and try again"),
    }
}

fn apt() -> Command {
    let mut command = Command::new(if Uid::effective().is_root() { "env" } else { "sudo" });
    command.args(["DEBIAN_FRONTEND=noninteractive", APT]);
    command
}
