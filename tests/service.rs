//! Raw requests to the service, valid and invalid.

use crate::support;

use std::io::{Read, Write};
use std::net::TcpStream;

use logship_sls::compression::Compression;
use logship_sls::log_group::{Header, LogGroupBuilder, groups};
use serde_json::{Value, json};
use support::service::{Answer, Service};

/// Returns a log group of `logs` logs.
fn group(logs: usize) -> Vec<u8> {
    let mut builder = LogGroupBuilder::new(&Header { topic: Some(b"t"), ..Header::default() });
    for number in 0..logs {
        let mut log = builder.begin_log(1_700_000_000, None);
        log.field("n", number.to_string());
        log.end_log();
    }
    builder.finish()
}

/// Starts a service with the project `pro` and its Logstore `logs` of two shards.
fn service() -> Service {
    let service = Service::start(&[]);
    service.ask("POST", "/", "", &json!({ "projectName": "pro" })).good();
    service
        .ask("POST", "/logstores", "", &json!({ "logstoreName": "logs", "ttl": 1, "shardCount": 2 }))
        .good();
    service
}

fn put(service: &Service, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    service.send("POST", "/logstores/logs/shards/lb", "", headers, body)
}

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");

#[test]
fn rejects_invalid_body_and_stores_nothing() {
    let service = service();
    let raw = group(3);
    let size = raw.len().to_string();
    let compressed = Compression::Lz4.compress(&raw).unwrap();
    let lz4 = ("x-log-compresstype", "lz4");
    for (status, code, headers, body) in [
        (400, "MissingContentType", &[][..], &raw[..]),
        (415, "InvalidContentType", &[("content-type", "text/plain")], &raw),
        (400, "PostBodyInvalid", &[PROTOBUF], b"garbage"),
        (400, "PostBodyInvalid", &[PROTOBUF], &raw[..raw.len() - 1]),
        (400, "InvalidBodyRawSize", &[PROTOBUF, ("x-log-bodyrawsize", "1")], &raw),
        (400, "InvalidBodyRawSize", &[PROTOBUF, lz4, ("x-log-bodyrawsize", "many")], &compressed),
        (400, "MissingBodyRawSize", &[PROTOBUF, lz4], &compressed),
        (
            400,
            "InvalidCompressType",
            &[PROTOBUF, ("x-log-compresstype", "rar"), ("x-log-bodyrawsize", "9")],
            &compressed,
        ),
        (
            400,
            "PostBodyUncompressError",
            &[PROTOBUF, lz4, ("x-log-bodyrawsize", size.as_str())],
            b"\xff\xfe\xfd no",
        ),
        (400, "PostBodyUncompressError", &[PROTOBUF, lz4, ("x-log-bodyrawsize", "20")], &compressed),
        (400, "PostBodyTooLarge", &[PROTOBUF, lz4, ("x-log-bodyrawsize", "4294967295")], &compressed),
        (400, "PostBodyTooLarge", &[PROTOBUF, lz4, ("x-log-bodyrawsize", "10485761")], &compressed),
    ] {
        let answer = put(&service, headers, body);
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{headers:?}: {answer:?}");
    }
    for shard in 0..2 {
        let status = service.ask(
            "GET",
            &format!("/logstores/logs/shards/{shard}"),
            "type=cursor&from=begin",
            &Value::Null,
        );
        let end = service.ask(
            "GET",
            &format!("/logstores/logs/shards/{shard}"),
            "type=cursor&from=end",
            &Value::Null,
        );
        assert_eq!(status.json(), end.json(), "something was stored in shard {shard}");
    }
}

#[test]
fn compressions_return_same_log_group() {
    let service = service();
    let raw = group(100);
    let size = raw.len().to_string();
    let hash = [("x-log-hashkey", "00000000000000000000000000000001")];
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd, Compression::Deflate] {
        let body = compression.compress(&raw).unwrap();
        let mut headers = vec![PROTOBUF, ("x-log-bodyrawsize", size.as_str()), hash[0]];
        if compression != Compression::None {
            headers.push(("x-log-compresstype", compression.name()));
        }
        put(&service, &headers, &body).good();
    }
    for encoding in ["", "lz4", "zstd", "deflate"] {
        let query = "type=log&cursor=".to_owned() + &service.cursor("logs", 0, "begin") + "&count=1000";
        let answer = service
            .send("GET", "/logstores/logs/shards/0", &query, &[("accept-encoding", encoding)], b"")
            .good();
        let size: usize = answer.header("x-log-bodyrawsize").parse().unwrap();
        let compression = Compression::from_header(answer.header("x-log-compresstype")).unwrap();
        assert_eq!(compression.name(), encoding);
        let list = compression.decompress(&answer.body, size, size).unwrap();
        let pulled: Vec<_> = groups(&list).map(Result::unwrap).collect();
        assert_eq!(pulled, [&raw[..]; 4], "{encoding}");
        assert_eq!(answer.header("x-log-count"), "4");
        assert_eq!(answer.header("x-log-cursor"), service.cursor("logs", 0, "end"));
    }
}

#[test]
fn invalid_requests_have_error_codes() {
    let service = service();
    let end = service.cursor("logs", 0, "end");
    for (status, code, method, path, query) in [
        (404, "LogStoreNotExist", "GET", "/logstores/x/shards", ""),
        (404, "ShardNotExist", "GET", "/logstores/logs/shards/7", "type=cursor&from=begin"),
        (400, "ParameterInvalid", "GET", "/logstores/logs/shards/x", "type=cursor&from=begin"),
        (400, "ParameterInvalid", "GET", "/logstores/logs/shards/0", "type=cursor"),
        (400, "ParameterInvalid", "GET", "/logstores/logs/shards/0", "type=cursor&from=soon"),
        (400, "ParameterInvalid", "GET", "/logstores/logs/shards/0", "type=nothing"),
        (400, "InvalidCursor", "GET", "/logstores/logs/shards/0", "type=log&cursor=!!"),
        // The cursor 18446744073709551615.
        (
            400,
            "InvalidCursor",
            "GET",
            "/logstores/logs/shards/0",
            "type=log&cursor=MTg0NDY3NDQwNzM3MDk1NTE2MTU%3D",
        ),
        (400, "InvalidCursor", "GET", "/logstores/logs/shards/0", "type=cursor_time&cursor=MA%3D%3D"),
        (
            400,
            "ParameterInvalid",
            "GET",
            "/logstores/logs/shards/0",
            &format!("type=log&cursor={end}&count=0"),
        ),
        (
            400,
            "ParameterInvalid",
            "GET",
            "/logstores/logs/shards/0",
            &format!("type=log&cursor={end}&count=1001"),
        ),
        (
            400,
            "ParameterInvalid",
            "GET",
            "/logstores/logs/shards/0",
            &format!("type=log&cursor={end}&query=error"),
        ),
        (400, "ParameterInvalid", "POST", "/logstores/logs/shards/0", "action=split&key=zz"),
        (400, "ParameterInvalid", "POST", "/logstores/logs/shards/1", "action=merge"),
        (404, "ConsumerGroupNotExist", "GET", "/logstores/logs/consumergroups/g", ""),
        (400, "ParameterInvalid", "GET", "/nothing", ""),
    ] {
        let answer = service.send(method, path, query, &[], b"");
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{method} {path}?{query}: {answer:?}"
        );
        assert_eq!(answer.header("x-log-requestid").len(), 24);
    }
    for (code, path, body) in [
        ("LogStoreInfoInvalid", "/logstores", json!({ "logstoreName": "", "ttl": 1, "shardCount": 2 })),
        ("LogStoreInfoInvalid", "/logstores", json!({ "logstoreName": "abc", "ttl": 0, "shardCount": 2 })),
        ("LogStoreInfoInvalid", "/logstores", json!({ "logstoreName": "abc", "ttl": 1, "shardCount": 0 })),
        (
            "LogStoreInfoInvalid",
            "/logstores",
            json!({ "logstoreName": "abc", "ttl": 1, "maxSplitShard": 257 }),
        ),
        ("LogStoreAlreadyExist", "/logstores", json!({ "logstoreName": "logs", "ttl": 1, "shardCount": 2 })),
        ("ParameterInvalid", "/", json!({ "projectName": "NO" })),
        ("ProjectAlreadyExist", "/", json!({ "projectName": "pro" })),
        ("JsonInfoInvalid", "/logstores/logs/consumergroups", json!({ "consumerGroup": "g" })),
        ("JsonInfoInvalid", "/logstores/logs/consumergroups", json!([])),
    ] {
        let answer = service.ask("POST", path, "", &body);
        assert_eq!((answer.status, answer.code().as_str()), (400, code), "{path} {body}: {answer:?}");
    }
}

#[test]
fn keys_are_limited_to_their_permissions() {
    let service = service();
    let raw = group(1);
    let begin = service.cursor("logs", 0, "begin");
    let pull = format!("type=log&cursor={begin}");
    let write = service.with_key(&["--allow", "write=pro"]);
    put(&write, &[PROTOBUF], &raw).good();
    assert_eq!(write.send("GET", "/logstores/logs/shards/0", &pull, &[], b"").code(), "Unauthorized");
    assert_eq!(write.send("DELETE", "/logstores/logs", "", &[], b"").code(), "Unauthorized");
    let read = service.with_key(&["--allow", "read"]);
    read.send("GET", "/logstores/logs/shards/0", &pull, &[], b"").good();
    assert_eq!(put(&read, &[PROTOBUF], &raw).code(), "Unauthorized");
    assert_eq!(read.ask("POST", "/logstores", "", &json!({ "logstoreName": "new" })).code(), "Unauthorized");
    let other = service.with_key(&["--allow", "admin=other"]);
    let rejected = other.send("GET", "/logstores/logs", "", &[], b"");
    assert_eq!((rejected.status, rejected.code().as_str()), (401, "Unauthorized"));
    let projects = other.send_to("127.0.0.1", "GET", "/", "", &[], b"").good().json();
    assert_eq!(projects["total"], 0, "a key lists only its own projects: {projects}");
}

#[test]
fn malformed_requests_do_not_affect_others() {
    let service = service();
    let address = service.address();
    let ask = |text: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        // The server may close the connection after malformed bytes.
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    let line = |answer: String| answer.lines().next().unwrap_or_default().to_owned();
    assert!(line(ask("\0\0\0\r\n\r\n")).contains("400"));
    assert!(line(ask("GET / HTTP/1.1\r\nconnection: close\r\n\r\n")).contains("400"), "no Host");
    let anonymous = ask("GET /logstores HTTP/1.1\r\nhost: pro.x\r\nconnection: close\r\n\r\n");
    assert!(anonymous.contains("401") && anonymous.contains("Unauthorized"), "{anonymous}");
    let huge = "POST /logstores/logs/shards/lb HTTP/1.1\r\nhost: pro.x\r\nconnection: close\r\ncontent-length: 1099511627776\r\n";
    assert!(ask(&format!("{huge}\r\n")).contains("401"), "authentication precedes all other checks");
    let key = service.basic();
    let answer = ask(&format!("{huge}authorization: {key}\r\n\r\n"));
    assert!(answer.contains("PostBodyTooLarge"), "{answer}");
    assert!(ask("GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ends_with("ok\n"));
    assert!(ask("GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ends_with("ready\n"));
    assert!(ask("GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").contains("401"));
    let metrics = ask(&format!(
        "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: {key}\r\n\r\n"
    ));
    assert!(
        metrics.contains("logship_requests_total{operation=\"create logstore\",code=\"OK\"} 1"),
        "{metrics}"
    );
}

#[test]
fn pull_with_wait_returns_new_logs() {
    let service = service();
    let query = format!("type=log&cursor={}&wait=30", service.cursor("logs", 0, "end"));
    std::thread::scope(|scope| {
        let waiting =
            scope.spawn(|| service.send("GET", "/logstores/logs/shards/0", &query, &[], b"").good());
        // The pull returns the log, whether it starts before or after the put.
        let headers = [PROTOBUF, ("x-log-hashkey", "00000000000000000000000000000000")];
        put(&service, &headers, &group(1)).good();
        assert_eq!(waiting.join().unwrap().header("x-log-count"), "1");
    });
}

#[test]
fn rejects_invalid_settings() {
    let folder = tempfile::tempdir().unwrap();
    let (file, data) = (folder.path().join("logship.toml"), folder.path().join("data"));
    for (text, expected) in [
        ("listen = 7", "listen"),
        ("lissten = \"127.0.0.1:1\"", "unknown field `lissten`"),
        ("[limits]\ngroup-bytes = 1", "limits.group-bytes = 1 is out of range"),
        ("[tls]\ncertificate = \"none.pem\"\nkey = \"none.key\"", "none.pem"),
    ] {
        std::fs::write(&file, text).unwrap();
        let output = support::logship()
            .arg("serve")
            .arg("--config")
            .arg(&file)
            .arg("--data")
            .arg(&data)
            .output()
            .unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && message.contains(expected), "{text}: {message}");
    }
    // The distributed file has the defaults.
    let example = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/logship.toml");
    let read = logship_config::service::Config::parse(&std::fs::read_to_string(&example).unwrap(), &example)
        .unwrap();
    let default = logship_config::service::Config::default();
    assert_eq!(
        format!("{:?}", (read.listen, read.limits, read.open_metrics)),
        format!("{:?}", (default.listen, default.limits, default.open_metrics))
    );
}

#[test]
fn rejects_component_with_imports() {
    let service = service();
    let world = "package test:dummy; interface sockets { send: func(text: string); } world encoder { import sockets; export logship:encode/encoder@1.0.0; }";
    let component = support::dummy(|text| text.replace(support::WORLD, world));
    let send = |path: &str, query: &str| {
        service.send("POST", path, query, &[("content-type", "application/wasm")], &component)
    };
    let logfmt = std::fs::read(support::example("encode-logfmt")).unwrap();
    service.send("POST", "/stages", "name=mine", &[], &logfmt).good();
    let before = service.ask("GET", "/stages", "", &Value::Null).json();
    for query in ["name=other", "name=mine", "name=mine&swap=true", "name=encode-json&swap=true"] {
        let rejected = send("/stages", query);
        let message = rejected.json()["errorMessage"].as_str().unwrap().to_owned();
        assert_eq!((rejected.status, rejected.code().as_str()), (400, "ParameterInvalid"), "{query}");
        assert!(
            message
                .contains("a stage must not import anything, but this component imports test:dummy/sockets"),
            "{message}"
        );
    }
    assert_eq!(service.ask("GET", "/stages", "", &Value::Null).json(), before);
}
