use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
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

/// Runs the commands, two at a time. What each one says goes to its file, and is printed when it has ended. All are run,
/// also when one fails.
pub(crate) fn show_in_pairs(commands: Vec<(Command, PathBuf)>) -> Result<()> {
    let left = Mutex::new(commands.into_iter());
    let failed = Mutex::new(vec![]);
    let next = || left.lock().expect("nobody panics with it").next();
    let work = || {
        while let Some((mut command, file)) = next() {
            if let Err(error) = show_at_end(&mut command, &file) {
                failed.lock().expect("nobody panics with it").push(format!("{error:#}"));
            }
        }
    };
    thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(work))));
    let failed = failed.into_inner().expect("nobody panics with it");
    if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("\n")) }
}

fn show_at_end(command: &mut Command, file: &Path) -> Result<()> {
    let line = line(command);
    println!("$ {line} > {}", file.display());
    // No pipe: what it leaves running, if it fails, would keep that open.
    let said = File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
    let ended = run(command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said));
    let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    println!("$ {line}\n{}", String::from_utf8_lossy(&text));
    ended
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
    fn all_of_many_are_run_and_each_failure_is_told() {
        let folder = std::env::temp_dir().join(format!("logship-xtask-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let echo = |name: &str| (Command::new("echo"), folder.join(name));
        let programs = ["false", "no-such-program-of-ours"];
        let wrong = programs.map(|program| (Command::new(program), folder.join(program)));
        let commands = wrong.into_iter().chain([echo("a"), echo("b"), echo("c")]).collect();
        let error = show_in_pairs(commands).unwrap_err().to_string();
        assert!(error.contains("`false` failed") && error.contains("cannot start `no-such"), "{error}");
        assert!(["a", "b", "c"].iter().all(|name| fs::read(folder.join(name)).unwrap() == b"\n"));
        assert!(show_in_pairs(vec![echo("d")]).is_ok());
        fs::remove_dir_all(&folder).unwrap();
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
