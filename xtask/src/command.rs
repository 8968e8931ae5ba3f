use std::borrow::Cow;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Runs the command with inherited standard streams.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start `{}`", line(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status}); its output is above", line(command));
    }
    Ok(())
}

/// Prints the command line, then runs the command.
pub(crate) fn show(command: &mut Command) -> Result<()> {
    println!("$ {}", line(command));
    run(command)
}

/// Runs the command, and returns its trimmed standard output.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start `{}`", line(command)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed ({}):\n{}", line(command), output.status, stderr.trim_end());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Runs the command, prints its standard output line by line, and returns it.
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
        bail!("`{}` failed ({status}); its output is above", line(command));
    }
    Ok(text)
}

/// Runs the command without output. Returns true if it succeeds within the time limit; kills it otherwise.
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
    // Fails if the command has ended in the meantime.
    let _ = child.kill();
    let _ = child.wait();
    false
}

/// Formats the command as a shell command line.
pub(crate) fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| quote(&word.to_string_lossy()).into_owned()).collect::<Vec<_>>().join(" ")
}

fn quote(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', r"'\''")).into()
}

/// Removes the variables that `cargo run` sets. Inherited, they would rerun build scripts, and point children to
/// another toolchain's libraries.
pub(crate) fn remove_cargo_env(command: &mut Command) {
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
    fn formats_command_lines() {
        let mut command = Command::new("logship");
        command.args(["ship", "--partition", "%Y/%m/%d", "it's a\tb", ""]);
        assert_eq!(line(&command), "logship ship --partition %Y/%m/%d 'it'\\''s a\tb' ''");
    }

    #[test]
    fn kills_command_at_time_limit() {
        let start = Instant::now();
        assert!(!succeeds(Command::new("sleep").arg("30"), Duration::from_millis(100)));
        assert!(start.elapsed() < Duration::from_secs(10));
        assert!(succeeds(&mut Command::new("true"), Duration::from_secs(10)));
        assert!(!succeeds(&mut Command::new("no-such-program-of-ours"), Duration::from_secs(10)));
    }
}
