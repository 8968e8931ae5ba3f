use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};
use nix::unistd::Uid;

use crate::command;

const APT: &str = "/usr/bin/apt-get";

/// Installs Debian packages, to do what `purpose` says.
///
/// # Errors
/// On another system, or without the right to install: they say what to install by hand.
pub(crate) fn install(packages: &[&str], purpose: &str) -> Result<()> {
    let names = packages.join(" ");
    if !Path::new(APT).exists() {
        bail!("to {purpose}, this needs what Debian has as {names}; install it and try again");
    }
    println!("installing {names}, to {purpose}");
    let done = command::run(apt().args(["update", "-qq"])).and_then(|()| {
        command::run(apt().args(["install", "-y", "-qq", "--no-install-recommends"]).args(packages))
    });
    match done {
        Ok(()) => Ok(()),
        Err(error) => bail!("{error}\nto {purpose}, install {names} by hand and try again"),
    }
}

fn apt() -> Command {
    let mut command = Command::new(if Uid::effective().is_root() { "env" } else { "sudo" });
    command.args(["DEBIAN_FRONTEND=noninteractive", APT]);
    command
}
