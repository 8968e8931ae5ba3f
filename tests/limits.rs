//! Limits of the program: memory, full disks, kills and signals.

mod support;

use std::io::Write;
use std::mem::MaybeUninit;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Returns a numbered line of about 330 bytes.
fn line(number: u64) -> String {
    let noise = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!(
        r#"{{"__time__":{},"__topic__":"t","__source__":"10.0.0.{}","n":"{number}","request_id":"{noise:016x}{:016x}","path":"/api/v1/things/{}","agent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Safari/537.36","status":200,"bytes":{},"referer":"https://example.org/a/rather/long/path/{}"}}"#,
        1_700_000_000 + number / 1000,
        number % 8,
        noise.rotate_left(17),
        noise % 977,
        noise % 65_521,
        noise % 31
    )
}

/// Starts the program, and writes lines to its standard input until it closes the pipe.
fn ship_lines(command: &mut Command, lines: u64) -> Child {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = move || {
        for first in (0..lines).step_by(1000) {
            let text: String = (first..(first + 1000).min(lines)).map(|number| line(number) + "\n").collect();
            if stdin.write_all(text.as_bytes()).is_err() {
                return;
            }
        }
    };
    thread::spawn(writer);
    child
}

/// Returns the number of the log in each line of the object.
fn numbers(object: &Path) -> Vec<u64> {
    let text = fs::read_to_string(object).unwrap();
    assert!(text.ends_with('\n'), "{} is truncated", object.display());
    let number = |line: &str| {
        let log: serde_json::Value = serde_json::from_str(line).expect("a complete line");
        log["n"].as_str().expect("a number").parse().unwrap()
    };
    text.lines().map(number).collect()
}

/// Waits for a child. Returns its exit status and its own peak memory in MiB, without other children of this process.
fn peak(child: Child) -> (ExitStatus, i64) {
    let (mut status, mut usage) = (0, MaybeUninit::<libc::rusage>::zeroed());
    // SAFETY: both pointers are valid, and no other code waits for the child.
    let ended = unsafe { libc::wait4(child.id() as i32, &mut status, 0, usage.as_mut_ptr()) };
    assert_eq!(ended, child.id() as i32);
    // SAFETY: `rusage` is initialized with zeros, and any bytes are valid.
    let usage = unsafe { usage.assume_init() };
    (ExitStatus::from_raw(status), usage.ru_maxrss / 1024)
}

#[test]
fn large_object_needs_little_memory() {
    let out = tempfile::tempdir().unwrap();
    for format in [&["--format", "json"][..], &["--format", "parquet"]] {
        let mut command = support::logship();
        command
            .args(["ship", "-", "--compression", "snappy", "--size", "256", "--to"])
            .arg(out.path())
            .args(format);
        let (status, peak) = peak(ship_lines(&mut command, 900_000));
        assert!(status.success(), "{format:?}: {status}");
        assert!(peak < 200, "{format:?} took {peak} MiB");
    }
    let largest =
        support::objects(out.path()).iter().map(|path| path.metadata().unwrap().len()).max().unwrap();
    assert!(largest > 30 << 20, "the objects are large: {largest}");
}

#[test]
fn objects_reach_but_never_exceed_size() {
    let out = tempfile::tempdir().unwrap();
    let mut command = support::logship();
    command.args([
        "ship",
        "-",
        "--size",
        "5",
        "--shards",
        "2",
        "--shard-by",
        "n",
        "--report",
        "json",
        "--to",
    ]);
    let output = ship_lines(command.arg(out.path()), 100_000).wait_with_output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let objects = report["objects"].as_array().unwrap();
    assert!(objects.len() >= 6, "{report:#}");
    for shard in 0..2 {
        let of_shard: Vec<_> = objects.iter().filter(|object| object["shard"] == shard).collect();
        let (last, full) = of_shard.split_last().unwrap();
        assert!(
            full.iter()
                .all(|object| (4_900_000..=5_000_000).contains(&object["raw_bytes"].as_u64().unwrap())),
            "{report:#}"
        );
        assert!(last["raw_bytes"].as_u64().unwrap() <= 5_000_000);
    }
    let mut seen: Vec<_> = support::objects(out.path()).iter().flat_map(|object| numbers(object)).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..100_000).collect::<Vec<_>>(), "each log is shipped once");
}

#[test]
fn kill_leaves_only_complete_objects() {
    let mut complete = 0;
    for round in 0..25 {
        let out = tempfile::tempdir().unwrap();
        let mut command = support::logship();
        let mut child =
            ship_lines(command.args(["ship", "-", "--size", "5", "--to"]).arg(out.path()), 200_000);
        // Odd rounds are killed between or after objects, at any speed of the machine.
        let deadline = Instant::now() + Duration::from_secs(60);
        while round % 2 == 1 && support::objects(out.path()).is_empty() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        thread::sleep(Duration::from_millis(20 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let mut seen: Vec<_> =
            support::objects(out.path()).iter().flat_map(|object| numbers(object)).collect();
        seen.sort_unstable();
        let count = seen.len() as u64;
        assert_eq!(seen, (0..count).collect::<Vec<_>>(), "one shard is shipped in order");
        complete += u64::from(count > 0);
    }
    assert!(complete > 3, "too few processes were killed after their first object: {complete}");
}

#[test]
fn sigterm_ships_read_logs() {
    let out = tempfile::tempdir().unwrap();
    let mut command = support::logship();
    command.args(["ship", "-", "--to"]).arg(out.path()).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let text: String = (0..50).map(|number| line(number) + "\n").collect();
    stdin.write_all(text.as_bytes()).unwrap();
    thread::sleep(Duration::from_millis(1500));
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    // The input stays open, without more logs.
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && error.contains("stopped by a signal: everything up to -:50 was shipped"),
        "{error}"
    );
    drop(stdin);
    assert_eq!(numbers(&support::objects(out.path())[0]), (0..50).collect::<Vec<_>>());
}

#[test]
fn full_disk_fails_without_partial_object() {
    let disk = tempfile::tempdir().unwrap();
    let mount = |args: &[&str]| Command::new(args[0]).args(&args[1..]).arg(disk.path()).status();
    let mounted = mount(&["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs"]);
    if !mounted.is_ok_and(|status| status.success()) {
        // Only root can mount a small disk. Otherwise a limit of the file size replaces it.
        return file_size_limit_fails_without_partial_object();
    }
    let mut command = support::logship();
    let child = ship_lines(command.args(["ship", "-", "--size", "5", "--to"]).arg(disk.path()), 100_000);
    let output = child.wait_with_output().unwrap();
    let objects = support::files(disk.path());
    let complete: Vec<_> = objects.iter().map(|object| numbers(object).len()).collect();
    assert!(mount(&["umount"]).unwrap().success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("no space left to write") && !output.status.success(), "{error}");
    assert_eq!(complete.len(), 2, "two objects of 5 MB fit on a disk of 12 MB: {objects:?}");
}

fn file_size_limit_fails_without_partial_object() {
    let out = tempfile::tempdir().unwrap();
    let program = support::logship().get_program().to_owned();
    let mut command = Command::new("sh");
    // If the signal is ignored, the write fails with an error.
    command.args(["-c", "trap '' XFSZ; ulimit -f 4096; exec \"$@\"", "sh"]).arg(program);
    let child = ship_lines(command.args(["ship", "-", "--to"]).arg(out.path()), 100_000);
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("can't write") && !output.status.success(), "{error}");
    assert_eq!(support::files(out.path()), Vec::<std::path::PathBuf>::new());
}

#[test]
fn rejects_world_writable_cache() {
    use std::os::unix::fs::PermissionsExt;
    let out = tempfile::tempdir().unwrap();
    let cache = out.path().join("cache");
    fs::create_dir(&cache).unwrap();
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o777)).unwrap();
    let output =
        support::logship().args(["stage", "list", "--built-in", "--cache"]).arg(&cache).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("chmod go-w"), "{error}");
}

#[test]
fn exits_when_standard_output_is_closed() {
    let mut child = support::logship()
        .args(["stage", "inspect", "siem-hec"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.signal(), Some(Signal::SIGPIPE as i32), "{:?}", output.status);
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}
