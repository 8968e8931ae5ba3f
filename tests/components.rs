//! Every component that is built here keeps the contract, as `logship stage check` checks it. And what the host
//! makes of components that are none.

mod support;

use std::collections::BTreeSet;
use std::fs;

use logship::batch::{BatchBuilder, LogBatch, LogGroup};
use logship::conformance::{self, Settings};
use logship::engine::{Engine, Limits};
use logship::registry::Registry;
use logship::stage::{Kind, Request, Stage};
use logship::wasi::WasiAllowlist;
use sha2::{Digest as _, Sha256};
use support::{WORLD, dummy};
use wit_component::DecodedWasm;

fn engine() -> Engine {
    Engine::new(Limits::default(), Some(&support::cache())).unwrap()
}

#[test]
fn no_component_imports_anything_to_call() {
    for path in support::components() {
        let DecodedWasm::Component(resolve, world) =
            wit_component::decode(&fs::read(&path).unwrap()).unwrap()
        else {
            panic!("{} is no component", path.display());
        };
        let imports: Vec<_> =
            resolve.worlds[world].imports.keys().map(|import| resolve.name_world_key(import)).collect();
        let allowed =
            match Stage::load(&engine(), "", &fs::read(&path).unwrap(), &WasiAllowlist::None).unwrap().kind() {
                Kind::Encoder | Kind::Formatter | Kind::Transformer | Kind::Pipeline => {
                    vec!["logship:batch/types@1.0.0".to_owned()]
                }
                Kind::Compressor | Kind::Renderer => vec![],
            };
        assert_eq!(imports, allowed, "{}", path.display());
        for interface in
            resolve.interfaces.iter().filter(|(_, interface)| interface.name.as_deref() == Some("types"))
        {
            assert!(interface.1.functions.is_empty(), "the interface of types has nothing to call");
        }
    }
}

#[test]
fn every_name_that_is_built_in_is_that_of_its_stage() {
    let registry = Registry::new(engine());
    let names: BTreeSet<_> = Registry::built_in().collect();
    let expected = [
        "compress-gzip",
        "compress-snappy",
        "compress-zstd",
        "encode-csv",
        "encode-json",
        "encode-parquet",
        "object-path",
        "siem-hec",
        "siem-syslog",
        "transform-fields",
    ];
    assert_eq!(names, expected.into());
    for name in names {
        assert_eq!(registry.stage(None, name).unwrap().identity().name(), name);
    }
}

/// Checks as `logship stage check` makes them, of fewer chunks.
fn few_chunks() -> Settings {
    Settings { speed: false, chunks: 500, ..Settings::default() }
}

#[test]
fn every_component_keeps_the_contract() {
    let registry = Registry::new(engine());
    let examples = ["encode-logfmt", "siem-cef", "siem-leef"].map(support::example);
    for path in support::components().into_iter().chain(examples) {
        let report = conformance::check(&registry, &path.display().to_string(), &few_chunks());
        assert!(report.passed(), "{report}");
        assert!(report.findings.len() >= 20, "{report}");
    }
}

#[test]
fn transform_fields_keeps_the_contract_with_each_of_its_settings() {
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
fn what_a_transformer_gives_is_checked_by_the_host() {
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
fn the_header_of_an_object_has_the_room_that_was_kept_for_it() {
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
fn the_addresses_of_the_specification_are_rendered() {
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

fn refused(bytes: &[u8]) -> String {
    refused_with(bytes, &WasiAllowlist::None)
}

fn refused_with(bytes: &[u8], allowlist: &WasiAllowlist) -> String {
    Stage::load(&engine(), "it.wasm", bytes, allowlist).unwrap_err().to_string()
}

#[test]
fn what_the_contract_does_not_know_is_refused_by_name() {
    let trapping = refused(&dummy(|text| text));
    assert!(trapping.contains("it.wasm") && trapping.contains("trapped: wasm `unreachable`"), "{trapping}");

    let version = refused(&dummy(|text| text.replace("1.0.0", "2.1.0")));
    assert!(
        version.contains(
            "exports logship:encode/encoder@2.1.0, but this logship requires logship:encode/encoder@1.0.0"
        ),
        "{version}"
    );

    let lacking = refused(&dummy(|text| text.replace("size: func() -> u64;", "length: func() -> u32;")));
    assert!(lacking.ends_with("  - size: func() -> u64;\n  + length: func() -> u32;"), "{lacking}");

    let field = refused(&dummy(|text| text.replace("log-groups: list<u32>,", "")));
    assert!(field.ends_with("  - log-groups: list<u32>,"), "{field}");

    let world = "package test:dummy; interface clock { now: func() -> u64; } world encoder { import clock; import log: func(text: string); export logship:encode/encoder@1.0.0; }";
    let imports = refused(&dummy(|text| text.replace(WORLD, world)));
    assert!(
        imports.contains("a stage must not import anything, but this component imports log, test:dummy/clock"),
        "{imports}"
    );

    // To allow WASI is to allow nothing else.
    assert_eq!(refused_with(&dummy(|text| text.replace(WORLD, world)), &WasiAllowlist::All), imports);

    let world = "package test:dummy; interface other { run: func(); } world encoder { export other; }";
    let stranger = refused(&dummy(|text| text.replace(WORLD, world)));
    assert!(stranger.contains("not a stage: it exports test:dummy/other"), "{stranger}");
}

#[test]
fn wasi_is_for_those_that_it_is_allowed_to() {
    let of = |version: &str| {
        let interface = format!(
            "package wasi:clocks@{version} {{ interface wall-clock {{ record datetime {{ seconds: u64, nanoseconds: u32 }} now: func() -> datetime; }} }}"
        );
        let world = format!(
            "package test:dummy; world encoder {{ import wasi:clocks/wall-clock@{version}; export logship:encode/encoder@1.0.0; }} {interface}"
        );
        dummy(|text| text.replace(WORLD, &world))
    };
    let old = of("0.2.0");
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(&old)));
    for allowlist in [WasiAllowlist::None, WasiAllowlist::of(["other".to_owned()])] {
        let refused = refused_with(&old, &allowlist);
        let is_run = refused.contains("trapped");
        // A name may be the one that it gives itself: for that it is asked, and this one traps when it is.
        assert_eq!(is_run, allowlist != WasiAllowlist::None, "{refused}");
    }
    let refused_by_name = refused(&old);
    assert!(
        refused_by_name.contains("this component wants wasi:clocks/wall-clock@0.2.0")
            && refused_by_name.contains("--allow-wasi")
            && refused_by_name.contains("[stages] allow-wasi"),
        "{refused_by_name}"
    );
    for allowlist in [WasiAllowlist::All, WasiAllowlist::of([digest])] {
        let ran = refused_with(&old, &allowlist);
        assert!(ran.contains("trapped: wasm `unreachable`"), "{ran}");
    }
    // That of version 0.3 waits, and stages do not.
    let new = refused_with(&of("0.3.0"), &WasiAllowlist::All);
    assert!(new.contains("wants wasi:clocks/wall-clock@0.3.0. Build it for"), "{new}");
}

#[test]
fn more_than_the_contract_asks_for_does_no_harm() {
    // It gets as far as being asked what it is, and traps there as every dummy does.
    let newer = refused(&dummy(|text| {
        text.replace("size: func() -> u64;", "size: func() -> u64; more: func();").replace("1.0.0", "1.1.0")
    }));
    assert!(newer.contains("trapped"), "{newer}");
}
