//! Benchmark of the Logstore service and its storage format: `cargo xtask bench service`.
//!
//! The client shares the machine with the server, so it does as little work as possible: it signs requests before the
//! measurement, and discards replies. Standard output is a section of BENCHMARKS.md.

mod store;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use logship_batch::log_group::log_groups;
use logship_batch::parser::{Parser, Settings};
use logship_bench::{line, median};
use logship_sls::signature::{AccessKey, Request, v1};

/// The same allocator as the program's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 5;
/// Number of logs in a group of 1 MB.
const LARGE: usize = 3_000;
/// Number of logs in a group of 4 KB.
const SMALL: usize = 11;
const LARGE_GROUPS: usize = 300;
const SMALL_GROUPS: usize = 50_000;
const LARGE_CONNECTIONS: usize = 4;
const SMALL_CONNECTIONS: usize = 64;

fn main() {
    let folder = scratch_folder();
    let large: Vec<Vec<u8>> = (0..24).map(|index| group(index * LARGE..(index + 1) * LARGE)).collect();
    let small: Vec<Vec<u8>> = (0..512).map(|index| group(index * SMALL..(index + 1) * SMALL)).collect();
    // `-- forms`, `-- ship` or `-- service` runs only this part.
    let part = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let is_selected = |name| part.as_deref().is_none_or(|part| part == name);
    if is_selected("forms") {
        store::storage_formats(folder.path(), &large);
    }
    if is_selected("ship") {
        store::ship(folder.path(), &large);
    }
    if is_selected("service") {
        service(folder.path(), &large, &small);
    }
}

/// Creates a temporary folder on the project's disk, as the system's temporary folder may be in memory.
fn scratch_folder() -> tempfile::TempDir {
    tempfile::tempdir_in(program().parent().expect("a folder")).expect("a folder")
}

/// Returns the path of the program.
fn program() -> PathBuf {
    let current = std::env::current_exe().expect("a path");
    current.ancestors().nth(2).expect("a target folder").join("logship")
}

/// Returns a log group of access logs.
fn group(lines: Range<usize>) -> Vec<u8> {
    let settings = Settings { time_field: None, default_time: (0, 0), shards: 1, shard_field: String::new() };
    let lines: String = lines.map(|number| line(number as u64) + "\n").collect();
    // A log group has only one source.
    let lines = lines.replace(r#""__source__":"10.0.3."#, r#""__source__":"10.0.3.1","host_number":""#);
    let parsed = Parser::new(settings).parse(lines.as_bytes());
    log_groups(&parsed.batches[0].1, "").remove(0)
}

/// A running service, with an access key.
struct Server {
    child: Child,
    address: String,
    key: (String, String),
}

impl Server {
    fn start(data: &Path) -> Self {
        let mut child = Command::new(program())
            .args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--data"])
            .arg(data)
            .stderr(Stdio::piped())
            .spawn()
            .expect("cargo build --release makes the program");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe"));
        let address = loop {
            let mut line = String::new();
            assert!(lines.read_line(&mut line).expect("a line") > 0, "the service ended");
            let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            if let Some(url) = line["url"].as_str() {
                break url.strip_prefix("http://").expect("plain HTTP").to_owned();
            }
        };
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        let output = Command::new(program())
            .args(["key", "create", "--allow", "admin", "--data"])
            .arg(data)
            .output()
            .expect("a key");
        let output = String::from_utf8(output.stdout).expect("text");
        let value = |name: &str| {
            let line = output.lines().find_map(|line| line.strip_prefix(name));
            line.expect("a key").to_owned()
        };
        std::thread::sleep(std::time::Duration::from_millis(1100));
        Self { child, address, key: (value("SLS_AK_ID="), value("SLS_AK_KEY=")) }
    }

    /// Returns the bytes of a signed request.
    fn request(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Vec<u8> {
        let query: Vec<(String, String)> =
            query.iter().map(|&(key, value)| (key.into(), value.into())).collect();
        let mut all = vec![("host", "bench.127.0.0.1"), ("x-log-apiversion", "0.6.0")];
        all.extend(headers);
        let request = Request { method, path, query: &query, headers: &all, body };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs();
        let key = AccessKey { id: &self.key.0, secret: &self.key.1 };
        let signed = v1::sign(&key, &request, now);
        let mut target = path.to_owned();
        if !query.is_empty() {
            target = format!("{target}?{}", logship_sls::query::encode(&query));
        }
        let mut head = format!("{method} {target} HTTP/1.1\r\ncontent-length: {}\r\n", body.len());
        let signed = signed.iter().map(|(name, value)| (*name, value.as_str()));
        for (name, value) in all.iter().copied().chain(signed) {
            head += &format!("{name}: {value}\r\n");
        }
        [head.as_bytes(), b"\r\n", body].concat()
    }

    fn put(&self, logstore: &str, group: &[u8]) -> Vec<u8> {
        let size = group.len().to_string();
        let headers = [
            ("content-type", "application/x-protobuf"),
            ("x-log-bodyrawsize", size.as_str()),
            ("x-log-compresstype", "lz4"),
        ];
        self.request(
            "POST",
            &format!("/logstores/{logstore}/shards/lb"),
            &[],
            &headers,
            &store::compress(group),
        )
    }

    fn create_logstore(&self, logstore: &str, shards: usize) {
        let json = [("content-type", "application/json")];
        let mut connection = Connection::new(&self.address);
        connection.send(&self.request("POST", "/", &[], &json, br#"{"projectName":"bench"}"#), true);
        let body = format!(r#"{{"logstoreName":"{logstore}","ttl":1,"shardCount":{shards}}}"#);
        connection.send(&self.request("POST", "/logstores", &[], &json, body.as_bytes()), false);
    }

    /// Sends `count` requests over the given number of connections, cycling through `requests`. Returns the seconds
    /// taken.
    fn send_all(&self, requests: &[Vec<u8>], count: usize, connections: usize) -> f64 {
        let next = AtomicUsize::new(0);
        let mut open: Vec<Connection> = (0..connections).map(|_| Connection::new(&self.address)).collect();
        seconds(|| {
            std::thread::scope(|scope| {
                for connection in &mut open {
                    let next = &next;
                    scope.spawn(move || {
                        loop {
                            let index = next.fetch_add(1, Ordering::Relaxed);
                            if index >= count {
                                break;
                            }
                            connection.send(&requests[index % requests.len()], false);
                        }
                    });
                }
            });
        })
    }

    /// Pulls a shard from beginning to end. Returns the bytes before compression, and on the wire.
    fn pull(&self, logstore: &str, shard: usize, encoding: &str) -> (usize, usize) {
        let path = format!("/logstores/{logstore}/shards/{shard}");
        let mut connection = Connection::new(&self.address);
        let begin = self.request("GET", &path, &[("type", "cursor"), ("from", "begin")], &[], b"");
        let (_, body) = connection.send(&begin, false);
        let reply: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        let mut cursor = reply["cursor"].as_str().expect("a cursor").to_owned();
        let (mut raw, mut wire) = (0, 0);
        loop {
            let query = [("type", "log"), ("cursor", cursor.as_str()), ("count", "1000")];
            let request = self.request("GET", &path, &query, &[("accept-encoding", encoding)], b"");
            let (head, body) = connection.send(&request, false);
            let size: usize = header(&head, "x-log-bodyrawsize").parse().expect("a size");
            if size == 0 {
                return (raw, wire);
            }
            raw += size;
            wire += body.len();
            cursor = header(&head, "x-log-cursor").to_owned();
        }
    }

    /// Returns the server's peak memory, in MiB.
    fn peak_memory(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a size");
        line.trim().trim_end_matches(" kB").trim().parse::<f64>().expect("a number") / 1024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A keep-alive connection.
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn new(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        Self(BufReader::with_capacity(64 << 10, stream))
    }

    /// Sends a request, and returns the reply's head and body.
    fn send(&mut self, request: &[u8], may_fail: bool) -> (String, Vec<u8>) {
        self.0.get_mut().write_all(request).expect("sent");
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.0.read_line(&mut head).expect("a reply") > 0, "the connection ended");
        }
        let mut body = vec![0; header(&head, "content-length").parse().expect("a length")];
        self.0.read_exact(&mut body).expect("a body");
        assert!(may_fail || head.starts_with("HTTP/1.1 200"), "{head}{}", String::from_utf8_lossy(&body));
        (head, body)
    }
}

fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(other, _)| *other == name).map_or("0", |(_, value)| value)
}

/// The results of all rounds.
#[derive(Default)]
struct Figures {
    large: Vec<f64>,
    large_plain: Vec<f64>,
    small: Vec<f64>,
    small_plain: Vec<f64>,
    pull: Vec<f64>,
    pull_plain: Vec<f64>,
    memory: f64,
}

fn service(folder: &Path, large: &[Vec<u8>], small: &[Vec<u8>]) {
    let mut figures = Figures::default();
    let raw = |groups: &[Vec<u8>]| groups.iter().map(Vec::len).sum::<usize>() as f64 / groups.len() as f64;
    for round in 0..ROUNDS {
        let data = folder.join(format!("data{round}"));
        // Writes of 1 MB per second are MB/s.
        figures.large_plain.push(write_plain(folder, 1_000_000, LARGE_GROUPS));
        figures.small_plain.push(write_plain(folder, 4_096, 2_000));
        let server = Server::start(&data);
        server.create_logstore("large", 4);
        server.create_logstore("small", 8);
        let requests: Vec<Vec<u8>> = large.iter().map(|group| server.put("large", group)).collect();
        let seconds_large = server.send_all(&requests, LARGE_GROUPS, LARGE_CONNECTIONS);
        figures.large.push(LARGE_GROUPS as f64 * raw(large) / seconds_large / 1e6);
        let requests: Vec<Vec<u8>> = small.iter().map(|group| server.put("small", group)).collect();
        figures.small.push(SMALL_GROUPS as f64 / server.send_all(&requests, SMALL_GROUPS, SMALL_CONNECTIONS));
        for (encoding, figure) in [("lz4", &mut figures.pull), ("", &mut figures.pull_plain)] {
            let mut pulled = 0;
            let elapsed =
                seconds(|| pulled = (0..4).map(|shard| server.pull("large", shard, encoding).0).sum());
            figure.push(pulled as f64 / elapsed / 1e6);
        }
        figures.memory = figures.memory.max(server.peak_memory());
        drop(server);
        fs::remove_dir_all(&data).expect("removed");
        eprintln!("round {}/{ROUNDS} of the service", round + 1);
    }
    let Figures { large: ingest, large_plain, small: groups, small_plain, pull, pull_plain, memory } =
        figures;
    println!(
        "The service on loopback, client and server on the same {} cores, requests are signed and compressed by LZ4; every put is \
         on disk (`fdatasync`) before its reply. MB are those before compression. Medians of {ROUNDS} rounds.\n",
        std::thread::available_parallelism().map_or(1, usize::from)
    );
    println!("| | |\n|---|---:|");
    println!(
        "| puts of {:.2} MB, {LARGE_CONNECTIONS} connections | {:.0} MB/s |",
        raw(large) / 1e6,
        median(ingest.clone())
    );
    println!(
        "| plain writes of 1 MB, each with `fdatasync`, same disk | {:.0} MB/s |",
        median(large_plain.clone())
    );
    println!("| puts/plain writes | {:.2} |", median(ingest) / median(large_plain));
    println!(
        "| puts of {:.1} KB, {SMALL_CONNECTIONS} connections | {:.0} groups/s |",
        raw(small) / 1e3,
        median(groups.clone())
    );
    println!(
        "| plain writes of 4 KB, each with `fdatasync`, same disk | {:.0} writes/s |",
        median(small_plain.clone())
    );
    println!("| puts/plain writes | {:.2} |", median(groups) / median(small_plain));
    println!("| pulls, LZ4, one connection | {:.0} MB/s |", median(pull));
    println!("| pulls, uncompressed, one connection | {:.0} MB/s |", median(pull_plain));
    println!("| peak memory of the server | {memory:.0} MiB |");
}

/// Writes blocks to a file, and syncs each before the next. Returns the writes per second.
fn write_plain(folder: &Path, bytes: usize, count: usize) -> f64 {
    let path = folder.join("plain");
    let block: Vec<u8> = (0..bytes).map(|index| (index.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    let mut file = File::create(&path).expect("a file");
    let elapsed = seconds(|| {
        for _ in 0..count {
            file.write_all(&block).expect("written");
            file.sync_data().expect("on disk");
        }
    });
    fs::remove_file(path).expect("removed");
    count as f64 / elapsed
}

fn seconds(work: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    work();
    begun.elapsed().as_secs_f64()
}
