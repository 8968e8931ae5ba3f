//! Checks all components of this repository with the checks of `logship stage check`, and how the host rejects
//! invalid components.

use crate::support;

use std::collections::BTreeSet;
use std::fs;

use logship_batch::batch::{BatchBuilder, LogBatch, LogGroup};
use logship_registry::Registry;
use logship_registry::conformance;
use logship_registry::conformance::Settings;
use logship_runtime::engine::{Engine, Limits};
use logship_runtime::stage::{Kind, Request, Stage};
use logship_runtime::wasi::WasiAllowlist;
use sha2::{Digest as _, Sha256};
use support::{WORLD, dummy};
use wit_component::DecodedWasm;

fn engine() -> Engine {
    Engine::new(Limits::default(), Some(&support::cache())).unwrap()
}

#[test]
fn components_import_no_functions() {
    for path in support::components() {
        let DecodedWasm::Component(resolve, world) =
            wit_component::decode(&fs::read(&path).unwrap()).unwrap()
        else {
            panic!("{} is not a component", path.display());
        };
        let imports: Vec<_> =
            resolve.worlds[world].imports.keys().map(|import| resolve.name_world_key(import)).collect();
        let allowed =
            match Stage::load(&engine(), "", &fs::read(&path).unwrap(), &WasiAllowlist::None).unwrap().kind()
            {
                Kind::Encoder | Kind::Formatter | Kind::RowEncoder | Kind::Transformer | Kind::Pipeline => {
                    vec!["logship:batch/types@1.0.0".to_owned()]
                }
                Kind::Compressor | Kind::Renderer => vec![],
            };
        assert_eq!(imports, allowed, "{}", path.display());
        for interface in
            resolve.interfaces.iter().filter(|(_, interface)| interface.name.as_deref() == Some("types"))
        {
            assert!(interface.1.functions.is_empty(), "the `types` interface has no functions");
        }
    }
}

#[test]
fn built_in_names_match_stages() {
    let registry = Registry::new(engine());
    let names: BTreeSet<_> = Registry::built_in().collect();
    let expected = [
        "compress-gzip",
        "compress-snappy",
        "compress-zstd",
        "encode-csv",
        "encode-json",
        "encode-maxcompute",
        "encode-parquet",
        "object-path",
        "rows-tablestore",
        "siem-hec",
        "siem-syslog",
        "transform-fields",
    ];
    assert_eq!(names, expected.into());
    for name in names {
        assert_eq!(registry.stage(None, name).unwrap().identity().name(), name);
    }
}

/// The settings of `logship stage check`, with fewer chunks.
fn few_chunks() -> Settings {
    Settings { speed: false, chunks: 500, ..Settings::default() }
}

#[test]
fn components_pass_conformance_checks() {
    let registry = Registry::new(engine());
    let examples = ["encode-logfmt", "siem-cef", "siem-leef"].map(support::example);
    for path in support::components().into_iter().chain(examples) {
        let report = conformance::check(&registry, &path.display().to_string(), &few_chunks());
        assert!(report.passed(), "{report}");
        assert!(report.findings.len() >= 20, "{report}");
    }
}

#[test]
fn transform_fields_passes_conformance_checks_with_each_setting() {
    let registry = Registry::new(engine());
    for config in [
        r#"{"where":[{"a":{"matches":"^[a-z]"}},{"__topic__":"plain"}],"unless":{"key 1":["","plain"]}}"#,
        r#"{"parse":{"a":"key-value","key 1":"json"},"rename":{"a":"b","key 2":"a"},"set":{"env":"x","a":{"from":"large"}}}"#,
        r#"{"mask":{"*":"[0-9a-f]+","__tag__:host":{"matches":"(.)$","with":"<$1>"}},"hash":["a","__source__"],"hash_key":"k"}"#,
        r#"{"keep":["a","k7","k65535"],"drop":["k7","__topic__","__tag__:é"]}"#,
    ] {
        let settings = Settings { config: Some(config.into()), ..few_chunks() };
        let report = conformance::check(&registry, "transform-fields", &settings);
        assert!(report.passed(), "{config}\n{report}");
    }
}

#[test]
fn rejects_invalid_batch_from_transformer() {
    let bytes = fs::read(support::example("misbehaving-transform")).unwrap();
    let Stage::Transformer(stage) = Stage::load(&engine(), "it.wasm", &bytes, &WasiAllowlist::None).unwrap()
    else {
        panic!("it is a transformer");
    };
    let push = |act: &str, batch: &LogBatch| {
        stage.open(&format!(r#"{{"act":"{act}"}}"#)).unwrap().push(batch).map_err(|error| error.to_string())
    };
    let mut builder = BatchBuilder::default();
    let group = builder.group(&LogGroup { topic: "t".into(), source: String::new(), tags: vec![] });
    for log in 0..3 {
        builder.field("key", b"value");
        builder.end_log(group, log, 0);
    }
    let batch = builder.take();
    assert_eq!(push("behave", &batch).unwrap().batch.values, batch.values);
    let split = push("split", &batch).unwrap();
    assert_eq!((split.batch.len(), split.logs), (6, vec![0, 0, 1, 1, 2, 2]));
    for (act, problem) in [
        ("values", "returned an invalid batch: value-ends do not cover the values"),
        ("keys", "returned an invalid batch: field-keys has an index outside keys"),
        ("key-twice", "returned an invalid batch: keys contains a duplicate"),
        ("missing", "returned an invalid batch: the number of logs changed"),
        ("falling", "returned an invalid batch: `logs` is not sorted"),
        ("trap", "trapped"),
    ] {
        let error = push(act, &batch).unwrap_err();
        assert!(
            error.starts_with("stage misbehaving-transform (sha256:") && error.contains(problem),
            "{error}"
        );
    }
}

#[test]
fn compressor_header_fills_reserved_room() {
    let registry = Registry::new(engine());
    let text = "the quick brown fox jumps over the lazy dog. ".repeat(50_000).into_bytes();
    for name in Registry::built_in().filter(|name| name.starts_with("compress-")) {
        let stage = registry.compressor(name).unwrap();
        let mut object = stage.open("").unwrap();
        object.push(&text).unwrap();
        assert_eq!(object.finish().unwrap().header.len(), stage.description().header_room as usize, "{name}");
    }
}

#[test]
fn renders_keys_of_specification() {
    let renderer = Registry::new(engine()).renderer("object-path").unwrap();
    let id = "1484913043351525351_2850008";
    let request = |prefix: &str, partition_format: &str, suffix: &str| Request {
        rule: "rule".into(),
        project: String::new(),
        logstore: String::new(),
        shard: 0,
        prefix: prefix.into(),
        partition_format: partition_format.into(),
        partition_time: 1_484_913_043_351_525_351,
        utc_offset: 28_800,
        creation_time: 1_484_913_043_351_525_351,
        number: 2_850_008,
        suffix: suffix.into(),
    };
    for (prefix, partition, suffix, expected) in [
        ("test-table", "%Y/%m/%d/%H/%M", "", "test-table/2017/01/20/19/50_ID"),
        (
            "log_ship_oss_example",
            "year=%Y/mon=%m/day=%d/log_%H%M%s",
            ".parquet",
            "log_ship_oss_example/year=2017/mon=01/day=20/log_195043_ID.parquet",
        ),
        ("log_ship_oss_example", "ds=%Y%m%d/%H", ".snappy", "log_ship_oss_example/ds=20170120/19_ID.snappy"),
        ("log_ship_oss_example", "%Y%m%d/", "", "log_ship_oss_example/20170120/_ID"),
        ("log_ship_oss_example", "%Y%m%d%H", "", "log_ship_oss_example/2017012019_ID"),
    ] {
        assert_eq!(
            renderer.render("", &request(prefix, partition, suffix)).unwrap(),
            expected.replace("ID", id)
        );
    }
}

fn load_error(bytes: &[u8]) -> String {
    load_error_with(bytes, &WasiAllowlist::None)
}

fn load_error_with(bytes: &[u8], allowlist: &WasiAllowlist) -> String {
    Stage::load(&engine(), "it.wasm", bytes, allowlist).unwrap_err().to_string()
}

#[test]
fn rejects_components_outside_contract() {
    let trap = load_error(&dummy(|text| text));
    assert!(trap.contains("it.wasm") && trap.contains("trapped: wasm `unreachable`"), "{trap}");

    let version = load_error(&dummy(|text| text.replace("1.0.0", "2.1.0")));
    assert!(
        version.contains(
            "exports logship:encode/encoder@2.1.0, but this logship requires logship:encode/encoder@1.0.0"
        ),
        "{version}"
    );

    let missing = load_error(&dummy(|text| text.replace("size: func() -> u64;", "length: func() -> u32;")));
    assert!(missing.ends_with("  - size: func() -> u64;\n  + length: func() -> u32;"), "{missing}");

    let field = load_error(&dummy(|text| text.replace("log-groups: list<u32>,", "")));
    assert!(field.ends_with("  - log-groups: list<u32>,"), "{field}");

    let world = "package test:dummy; interface clock { now: func() -> u64; } world encoder { import clock; import log: func(text: string); export logship:encode/encoder@1.0.0; }";
    let imports = load_error(&dummy(|text| text.replace(WORLD, world)));
    assert!(
        imports
            .contains("a stage must not import anything, but this component imports log, test:dummy/clock"),
        "{imports}"
    );

    // The WASI allowlist does not allow other imports.
    assert_eq!(load_error_with(&dummy(|text| text.replace(WORLD, world)), &WasiAllowlist::All), imports);

    let world = "package test:dummy; interface other { run: func(); } world encoder { export other; }";
    let other = load_error(&dummy(|text| text.replace(WORLD, world)));
    assert!(other.contains("not a stage: it exports test:dummy/other"), "{other}");
}

#[test]
fn allowlist_controls_wasi() {
    let with_clock = |version: &str| {
        let interface = format!(
            "package wasi:clocks@{version} {{ interface wall-clock {{ record datetime {{ seconds: u64, nanoseconds: u32 }} now: func() -> datetime; }} }}"
        );
        let world = format!(
            "package test:dummy; world encoder {{ import wasi:clocks/wall-clock@{version}; export logship:encode/encoder@1.0.0; }} {interface}"
        );
        dummy(|text| text.replace(WORLD, &world))
    };
    let old = with_clock("0.2.0");
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(&old)));
    for allowlist in [WasiAllowlist::None, WasiAllowlist::of(["other".to_owned()])] {
        let error = load_error_with(&old, &allowlist);
        let has_run = error.contains("trapped");
        // An allowlist of names needs the component's own name: the host calls `describe`, and the dummy traps.
        assert_eq!(has_run, allowlist != WasiAllowlist::None, "{error}");
    }
    let error = load_error(&old);
    assert!(
        error.contains("this component imports wasi:clocks/wall-clock@0.2.0")
            && error.contains("--allow-wasi")
            && error.contains("[stages] allow-wasi"),
        "{error}"
    );
    for allowlist in [WasiAllowlist::All, WasiAllowlist::of([digest])] {
        let error = load_error_with(&old, &allowlist);
        assert!(error.contains("trapped: wasm `unreachable`"), "{error}");
    }
    // WASI 0.3 is asynchronous, and stages are not.
    let new = load_error_with(&with_clock("0.3.0"), &WasiAllowlist::All);
    assert!(new.contains("imports wasi:clocks/wall-clock@0.3.0. Build it for"), "{new}");
}

#[test]
fn accepts_newer_minor_version() {
    // The host accepts the types and calls `describe`, which traps in every dummy.
    let newer = load_error(&dummy(|text| {
        text.replace("size: func() -> u64;", "size: func() -> u64; more: func();").replace("1.0.0", "1.1.0")
    }));
    assert!(newer.contains("trapped"), "{newer}");
}
