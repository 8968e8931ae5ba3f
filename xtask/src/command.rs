use std::borrow::Cow;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Runs the command with our standard streams.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start `{}`", line(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status}); what it said stands above", line(command));
    }
    Ok(())
}

/// Runs the command, printing its line before.
pub(crate) fn show(command: &mut Command) -> Result<()> {
    println!("$ {}", line(command));
    run(command)
}

/// What the command prints, without white space around it.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start `{}`", line(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed ({}):\n{}", line(command), output.status, said.trim_end());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// What the command prints, which is passed through line by line as well.
pub(crate) fn tee(command: &mut Command) -> Result<String> {
    let child = command.stdout(Stdio::piped()).spawn();
    let mut child = child.with_context(|| format!("cannot start `{}`", line(command)))?;
    let mut text = String::new();
    for output in BufReader::new(child.stdout.take().expect("piped above")).lines() {
        let output = output?;
        println!("{output}");
        text += &output;
        text.push('\n');
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("`{}` failed ({status}); what it said stands above", line(command));
    }
    Ok(text)
}

/// Whether the command succeeds within the limit. It is quiet, and stopped when the time is up.
pub(crate) fn succeeds(command: &mut Command, limit: Duration) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return false };
    let end = Instant::now() + limit;
    while Instant::now() < end {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) => thread::sleep(Duration::from_millis(50)),
            Err(_) => break,
        }
    }
    // It may have ended since: then there is nothing to stop.
    let _ = child.kill();
    let _ = child.wait();
    false
}

/// The command as one would type it.
pub(crate) fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| quoted(&word.to_string_lossy()).into_owned()).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', r"'\''")).into()
}

/// Takes out what `cargo run` set for us: passed on, it makes build scripts run again and shows
/// another toolchain's libraries to the children.
pub(crate) fn clear_what_cargo_set(command: &mut Command) {
    const PREFIXES: [&str; 4] = ["CARGO_PKG_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_MANIFEST_"];
    const NAMES: [&str; 5] =
        ["CARGO", "CARGO_PRIMARY_PACKAGE", "OUT_DIR", "LD_LIBRARY_PATH", "RUST_RECURSION_COUNT"];
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if NAMES.contains(&&*text) || PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_can_be_typed() {
        let mut command = Command::new("logship");
        command.args(["ship", "--partition", "%Y/%m/%d", "it's a\tb", ""]);
        assert_eq!(line(&command), "logship ship --partition %Y/%m/%d 'it'\\''s a\tb' ''");
    }

    #[test]
    fn a_command_that_takes_too_long_is_stopped() {
        let start = Instant::now();
        assert!(!succeeds(Command::new("sleep").arg("30"), Duration::from_millis(100)));
        assert!(start.elapsed() < Duration::from_secs(10));
        assert!(succeeds(&mut Command::new("true"), Duration::from_secs(10)));
        assert!(!succeeds(&mut Command::new("no-such-program-of-ours"), Duration::from_secs(10)));
    }
}
