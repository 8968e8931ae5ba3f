//! `logship compose`: a fused component returns the same bytes as its separate stages, and invalid compositions are
//! rejected.

use crate::support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use logship_batch::batch::{BatchBuilder, LogBatch, LogGroup};
use logship_guard::Guard;
use logship_guard::component::DEFAULT_BUDGET;
use logship_registry::Registry;
use logship_registry::conformance;
use logship_registry::conformance::Settings;
use logship_runtime::engine::{Engine, Limits};
use logship_runtime::stage::{Kind, StageError};

fn registry() -> Registry {
    Registry::new(Engine::new(Limits::default(), Some(&support::cache())).unwrap())
}

fn compose(options: &[&str], output: &Path) -> Output {
    support::logship().arg("compose").args(options).arg("--output").arg(output).output().unwrap()
}

/// Composes stages into a component.
fn composed(folder: &Path, name: &str, options: &[&str]) -> PathBuf {
    let path = folder.join(name);
    let output = compose(options, &path);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    path
}

/// Logs with a user and a message each. The user of every third log is `robot`.
fn logs() -> LogBatch {
    let mut builder = BatchBuilder::default();
    for source in ["a", "b"] {
        let group = builder.group(&LogGroup { topic: "t".into(), source: source.into(), tags: vec![] });
        for log in 0..30 {
            builder.field("user", if log % 3 == 0 { "robot" } else { "mary" }.as_bytes());
            builder.field("message", format!("card 4111111111111111, log {log}").as_bytes());
            builder.end_log(group, log, 0);
        }
    }
    builder.take()
}

const MASK: &str = r#"{"mask":{"message":"\\d{16}"},"hash":["user"]}"#;
const DROP: &str = r#"{"unless":{"user":"robot"}}"#;
const SET: &str = r#"{"set":{"env":"prod"}}"#;

#[test]
fn fused_formatter_returns_same_messages() {
    let (registry, folder) = (registry(), tempfile::tempdir().unwrap());
    let fields = || registry.transformer("transform-fields").unwrap();
    for formatter in ["siem-hec", "siem-syslog"] {
        let path = composed(
            folder.path(),
            &format!("{formatter}.wasm"),
            &["--transform", "transform-fields", "--transform", "transform-fields", "--formatter", formatter],
        );
        let fused = registry.formatter(path.to_str().unwrap()).unwrap();
        let alone = registry.formatter(formatter).unwrap();
        assert_eq!(fused.description().transport, alone.description().transport);
        let batch = logs();
        let dropped = fields().open(DROP).unwrap().push(&batch).unwrap();
        let masked = fields().open(MASK).unwrap().push(&dropped.batch).unwrap();
        let expected = alone.open("").unwrap().push(&masked.batch).unwrap();
        let config = format!(r#"{{"transform":[{DROP},{MASK}]}}"#);
        let found = fused.open(&config).unwrap().push(&batch).unwrap();
        assert_eq!((found.bytes, found.ends), (expected.bytes, expected.ends));
        // Messages refer to the input logs, before transforms.
        assert_eq!(found.logs, dropped.logs);
        assert_eq!(dropped.logs.len(), 40);
    }
}

#[test]
fn fused_pipeline_with_transformers_returns_same_bytes() {
    let (registry, folder) = (registry(), tempfile::tempdir().unwrap());
    let path = composed(
        folder.path(),
        "objects.wasm",
        &["--transform", "transform-fields", "--transform", "transform-fields", "--encoder", "encode-json"],
    );
    let fused = registry.fused(path.to_str().unwrap()).unwrap();
    let logship_runtime::stage::FusedBytes::Encoder(fused) = fused.bytes() else {
        panic!("the pipeline has a compressor")
    };
    let batch = logs();
    let fields = |config: &str, batch: &LogBatch| {
        registry.transformer("transform-fields").unwrap().open(config).unwrap().push(batch).unwrap().batch
    };
    let transformed = fields(SET, &fields(MASK, &batch));
    let expected = registry.encoder("encode-json").unwrap().open("").unwrap().push(&transformed).unwrap();
    let open = |config: &str| fused.open(config);
    let found = open(&format!(r#"{{"transform":[{MASK},{SET}]}}"#)).unwrap().push(&batch).unwrap();
    assert!(found == expected && String::from_utf8(found).unwrap().contains(r#""env":"prod""#));

    // A filtered log would be missing from the row counts.
    let error = open(&format!(r#"{{"transform":[{DROP}]}}"#)).unwrap().push(&batch).unwrap_err();
    let StageError::Rejected { log: 0, reason, .. } = &error else { panic!("{error}") };
    assert!(reason.contains("Do not fuse it"), "{reason}");

    for (config, path) in [
        (r#"{"transform":[{"masks":{}}]}"#, "transform[0].masks"),
        (r#"{"transform":[{},{"masks":{}}]}"#, "transform[1].masks"),
        (r#"{"transform":[{},{},{}]}"#, "transform"),
        (r#"{"transform":{}}"#, "transform"),
        (r#"{"nano":true}"#, "nano"),
    ] {
        match open(config) {
            Err(StageError::Config { path: found, .. }) => assert_eq!(found, path, "{config}"),
            other => panic!("{config}: {other:?}"),
        }
    }
}

#[test]
fn fused_components_pass_conformance_checks() {
    let (registry, folder) = (registry(), tempfile::tempdir().unwrap());
    let transform = ["--transform", "transform-fields"];
    for (name, stages) in [
        ("plain.wasm", &["--encoder", "encode-csv"][..]),
        ("packed.wasm", &["--encoder", "encode-json", "--compressor", "compress-gzip"]),
        (
            "objects.wasm",
            &["--encoder", "encode-json", "--compressor", "compress-snappy", transform[0], transform[1]],
        ),
        ("events.wasm", &["--formatter", "siem-hec", transform[0], transform[1]]),
    ] {
        let path = composed(folder.path(), name, stages);
        let settings = Settings { speed: false, chunks: 300, ..Settings::default() };
        let report = conformance::check(&registry, path.to_str().unwrap(), &settings);
        assert!(report.passed(), "{report}");
        let of_renderer = report.findings.iter().filter(|finding| finding.check.starts_with("renderer/"));
        assert!(name == "events.wasm" || of_renderer.count() > 10, "{report}");
    }
}

/// Stages with a budget, as those of others get it, return the same bytes and conform to their contract.
#[test]
fn guarded_stages_pass_conformance_checks() {
    let (registry, folder) = (registry(), tempfile::tempdir().unwrap());
    let guard = Guard { budget: Some(DEFAULT_BUDGET), memory: Some(256 << 20) };
    for (kind, name) in [
        (Kind::Encoder, "encode-json"),
        (Kind::Encoder, "encode-parquet"),
        (Kind::Compressor, "compress-gzip"),
        (Kind::Renderer, "object-path"),
        (Kind::Formatter, "siem-hec"),
        (Kind::Transformer, "transform-fields"),
    ] {
        let path = folder.path().join(format!("{name}.wasm"));
        let built_in = registry.read(Some(kind), name).unwrap();
        let guarded = guard.component(&built_in, &|_| false).unwrap();
        assert!(guarded.len() > built_in.len() * 11 / 10, "{name}");
        fs::write(&path, guarded).unwrap();
        let settings = Settings { speed: false, chunks: 300, ..Settings::default() };
        let report = conformance::check(&registry, path.to_str().unwrap(), &settings);
        assert!(report.passed(), "{report}");
    }
    let batch = logs();
    let bytes = |name: &str| registry.encoder(name).unwrap().open("").unwrap().push(&batch).unwrap();
    assert_eq!(bytes(folder.path().join("encode-json.wasm").to_str().unwrap()), bytes("encode-json"));
}

#[test]
fn rejects_invalid_composition_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("it.wasm");
    for (options, expected) in [
        (&["--formatter", "siem-hec"][..], "siem-hec is already one component"),
        (
            &["--formatter", "siem-hec", "--encoder", "encode-csv", "--transform", "transform-fields"],
            "siem-hec formats messages for a SIEM, but encode-csv is for objects: remove --encoder or --formatter",
        ),
        (&["--transform", "encode-csv"], "is an encoder, but a transformer is required"),
        (&["--encoder", "encode-parquet", "--compressor", "compress-gzip"], "compressed inside its format"),
        (&["--encoder", "encode-xml"], "encode-xml"),
    ] {
        let composed = compose(options, &output);
        let error = String::from_utf8(composed.stderr).unwrap();
        assert!(!composed.status.success() && error.contains(expected), "{options:?}: {error}");
        assert!(!fs::exists(&output).unwrap(), "{options:?}");
    }
}
