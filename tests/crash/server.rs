//! The service as a process that tests kill.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use logship_client::{Client, Endpoint};
use logship_server::keys::KeyFile;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use super::*;

/// A process that is killed on drop, even if the test fails.
pub(crate) struct KillOnDrop(pub(crate) Child);

impl KillOnDrop {
    /// Kills the process without a shutdown. Idempotent.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A running service.
pub(crate) struct Server {
    pub(crate) child: KillOnDrop,
    pub(crate) client: Client,
}

pub(crate) fn serve(data: &Path) -> Command {
    let mut command = support::logship();
    command.args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--data"]).arg(data);
    command
}

impl Server {
    /// Starts the service, and waits until it serves.
    pub(crate) fn start(command: &mut Command, data: &Path) -> Self {
        let mut child = KillOnDrop(command.stderr(Stdio::piped()).spawn().unwrap());
        // A failed test shows the log.
        let log = BufReader::new(child.0.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut log = log.inspect(|line| eprintln!("{line}"));
        let url = log.find_map(|line| serving(&line)).expect("the service listens");
        thread::spawn(move || log.for_each(drop));
        let key = KeyFile::within(data).read().unwrap().remove(0);
        let url = url.parse().unwrap();
        let endpoint = Endpoint {
            url,
            key_id: key.id,
            secret: key.secret.expose().to_owned(),
            token: None,
            region: None,
        };
        Self { child, client: Client::new(endpoint, PROJECT).unwrap() }
    }
}

/// Returns the URL, if the log line has it.
pub(crate) fn serving(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    (line["message"] == "serving").then(|| line["url"].as_str().unwrap().to_owned())
}

/// Starts the service. Some starts are killed before the service listens.
pub(crate) fn restart(data: &Path, random: &mut Rng) -> Server {
    while random.u8(..4) == 0 {
        let _started = KillOnDrop(serve(data).stderr(Stdio::null()).spawn().unwrap());
        thread::sleep(Duration::from_millis(random.u64(..30)));
    }
    Server::start(&mut serve(data), data)
}

/// Checks the database while the service runs: the last connection to close it would recover the write-ahead log.
pub(crate) fn check_integrity(data: &Path) {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags(data.join("logstore.db"), flags).unwrap();
    let found: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(found, "ok");
}
