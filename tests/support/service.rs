//! A running service, and raw requests to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use tempfile::TempDir;

use super::logship;

/// A service and a key. Several keys can share one service.
pub(crate) struct Service {
    running: Arc<Running>,
    key: String,
}

struct Running {
    child: Child,
    address: String,
    data: TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn good(self) -> Self {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        self
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Returns the error code.
    pub(crate) fn code(&self) -> String {
        assert_ne!(self.status, 200, "the request succeeded: {}", String::from_utf8_lossy(&self.body));
        self.json()["errorCode"].as_str().unwrap().to_owned()
    }
}

impl Service {
    /// Starts a service with an empty store and a key with all permissions.
    pub(crate) fn start(args: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut command = logship();
        command.args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--data"]).arg(data.path());
        let mut child = command.args(args).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "the service exited");
            let line: Value = serde_json::from_str(&line).unwrap();
            if let Some(url) = line["url"].as_str() {
                break url.rsplit_once('/').unwrap().1.to_owned();
            }
        };
        // The log is drained, so that the service never blocks.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        let keys: toml::Table =
            std::fs::read_to_string(data.path().join("keys.toml")).unwrap().parse().unwrap();
        let first = &keys["key"][0];
        let key = format!("{}:{}", first["id"].as_str().unwrap(), first["secret"].as_str().unwrap());
        Self { running: Arc::new(Running { child, address, data }), key }
    }

    /// Returns the same service with a new key.
    pub(crate) fn with_key(&self, args: &[&str]) -> Self {
        let made = Command::new(env!("CARGO_BIN_EXE_logship"))
            .args(["key", "create", "--data"])
            .arg(self.running.data.path())
            .args(args)
            .output()
            .unwrap();
        let made = String::from_utf8(made.stdout).unwrap();
        let value = |name| made.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let key = format!("{}:{}", value("SLS_AK_ID="), value("SLS_AK_KEY="));
        let service = Self { running: Arc::clone(&self.running), key };
        // A running service accepts a new key within a second.
        while service.send_to("127.0.0.1", "GET", "/", "", &[], b"").status == 401 {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        service
    }

    /// Returns the peak memory of the service, in MiB.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.running.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }

    pub(crate) fn address(&self) -> String {
        self.running.address.clone()
    }

    /// Returns the value of the `authorization` header.
    pub(crate) fn basic(&self) -> String {
        format!("Basic {}", BASE64_STANDARD.encode(&self.key))
    }

    /// Sends a request with a JSON body to the project `pro`. `null` is an empty body.
    pub(crate) fn ask(&self, method: &str, path: &str, query: &str, body: &Value) -> Answer {
        let body = if body.is_null() { vec![] } else { body.to_string().into_bytes() };
        self.send(method, path, query, &[("content-type", "application/json")], &body)
    }

    /// Sends a request to the project `pro`.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        query: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        self.send_to("pro.127.0.0.1", method, path, query, headers, body)
    }

    pub(crate) fn send_to(
        &self,
        host: &str,
        method: &str,
        path: &str,
        query: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut stream = TcpStream::connect(&self.running.address).unwrap();
        let mark = if query.is_empty() { "" } else { "?" };
        let mut head = format!(
            "{method} {path}{mark}{query} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\nauthorization: {}\r\ncontent-length: {}\r\n",
            self.basic(),
            body.len()
        );
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all(&[head.as_bytes(), b"\r\n", body].concat()).unwrap();
        let mut bytes = vec![];
        stream.read_to_end(&mut bytes).unwrap();
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let header =
            |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
        Answer { status, headers: head.lines().filter_map(header).collect(), body: bytes[end..].to_vec() }
    }

    /// Returns a cursor of a shard, encoded for a query.
    pub(crate) fn cursor(&self, logstore: &str, shard: u32, from: &str) -> String {
        let path = format!("/logstores/{logstore}/shards/{shard}");
        let answer = self.send("GET", &path, &format!("type=cursor&from={from}"), &[], b"").good();
        answer.json()["cursor"].as_str().unwrap().to_owned()
    }
}
