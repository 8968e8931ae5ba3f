//! One suite for every component of a kind, whoever made it: what `wit/` asks of stages. And what the host
//! makes of components that are none.

mod support;

use std::collections::BTreeSet;
use std::fs;

use logship::batch::{BatchBuilder, LogBatch, LogGroup, Tag};
use logship::engine::{Engine, Limits};
use logship::registry::Registry;
use logship::stage::{CompressorStage, EncoderStage, FormatterStage, Kind, Request, Stage, StageError};
use support::{WORLD, dummy};
use wit_component::DecodedWasm;

fn engine() -> Engine {
    Engine::new(Limits::default(), Some(&support::cache())).unwrap()
}

/// Every component of a kind: those that are built in, and the examples.
fn stages() -> Vec<Stage> {
    let engine = engine();
    let examples = ["encode-logfmt", "siem-cef", "siem-leef"].map(support::example);
    let paths = support::components().into_iter().chain(examples);
    paths
        .map(|path| Stage::load(&engine, &path.display().to_string(), &fs::read(&path).unwrap()).unwrap())
        .collect()
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
        let allowed = match Stage::load(&engine(), "", &fs::read(&path).unwrap()).unwrap().kind() {
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
    ];
    assert_eq!(names, expected.into());
    for name in names {
        assert_eq!(registry.stage(None, name).unwrap().identity().name(), name);
    }
}

/// Logs that are hard on an encoder.
fn hostile() -> LogBatch {
    let mut builder = BatchBuilder::default();
    let group = |topic: &str, tags: &[(&str, &str)]| LogGroup {
        topic: topic.into(),
        source: "10.0.0.1".into(),
        tags: tags.iter().map(|&(key, value)| Tag { key: key.into(), value: value.into() }).collect(),
    };
    let groups = [
        builder.group(&group("plain", &[])),
        builder.group(&group("\"quoted\",\n", &[("host", "a\tb"), ("host", "twice")])),
        builder.group(&group("", &[("é", "\0")])),
    ];
    let values: [&[u8]; 12] = [
        b"",
        b"plain",
        b"a,b\"c\"\r\nd",
        b"\0\x01\x1f\x7f",
        b"\xff\xfe",
        "né…€😀".as_bytes(),
        b"-12",
        b"1e999",
        b" 7 ",
        b"true",
        b"NaN",
        b"\xf0\x9f\x98",
    ];
    for (log, value) in values.iter().cycle().take(60).enumerate() {
        builder.field("a", value);
        if log % 3 != 0 {
            builder.field(&format!("key {}", log % 5), values[(log * 7) % values.len()]);
        }
        if log % 4 == 0 {
            builder.field("a", b"again");
        }
        builder.end_log(groups[log % 3], if log % 2 == 0 { log as u32 } else { u32::MAX }, 0);
    }
    builder.end_log(groups[0], 0, 0);
    builder.field("large", &vec![b'x'; 4 << 20]);
    builder.end_log(groups[1], 7, 999_999_999);
    for key in 0..65_536 {
        builder.field(&format!("k{key}"), b"v");
    }
    builder.end_log(groups[2], 8, 0);
    builder.take()
}

/// A configuration that the encoder takes: with columns, where it asks for them.
fn config(stage: &EncoderStage) -> String {
    let schema: serde_json::Value = serde_json::from_str(&stage.description().config_schema).unwrap();
    let keys = ["a", "key 1", "__time__", "__topic__", "__tag__:host", "large", "k65535"];
    let asks =
        schema["required"].as_array().is_some_and(|required| required.iter().any(|key| *key == "columns"));
    if !asks {
        return String::new();
    }
    let plain = serde_json::json!({ "columns": keys }).to_string();
    let typed: Vec<_> = keys.iter().map(|key| serde_json::json!({ "key": key })).collect();
    if stage.open(&plain).is_ok() { plain } else { serde_json::json!({ "columns": typed }).to_string() }
}

fn encode(stage: &EncoderStage, config: &str, batch: &LogBatch, logs_a_chunk: usize) -> (Vec<u8>, u64) {
    let mut object = stage.open(config).unwrap();
    let mut bytes = vec![];
    for first in (0..batch.len()).step_by(logs_a_chunk) {
        let chunk = batch.slice(first..(first + logs_a_chunk).min(batch.len()));
        bytes.extend(object.push(&chunk).unwrap());
    }
    let size = object.size().unwrap();
    bytes.extend(object.finish().unwrap());
    (bytes, size)
}

#[test]
fn encoders_keep_the_contract() {
    let hostile = hostile();
    for stage in
        stages().iter().filter_map(|stage| if let Stage::Encoder(stage) = stage { Some(stage) } else { None })
    {
        let name = stage.identity().name();
        let config = config(stage);
        let whole = encode(stage, &config, &hostile, hostile.len());
        for logs_a_chunk in [hostile.len(), 1, 7] {
            let again = encode(stage, &config, &hostile, logs_a_chunk);
            assert!(again.0 == whole.0, "{name}: the bytes depend on the cuts or on chance");
        }
        assert!(
            whole.1 >= whole.0.len() as u64,
            "{name}: {} bytes, and size said {}",
            whole.0.len(),
            whole.1
        );

        let mut object = stage.open(&config).unwrap();
        object.push(&BatchBuilder::default().take()).unwrap();
        object.finish().unwrap();

        let mut broken = hostile.clone();
        broken.value_ends[0] = u32::MAX;
        let refused = stage.open(&config).unwrap().push(&broken);
        assert!(matches!(refused, Err(StageError::InvalidBatch { .. })), "{name}: {refused:?}");

        let unknown = stage.open(r#"{"no such member": 1}"#).unwrap_err();
        assert!(
            matches!(&unknown, StageError::Config { .. }) && unknown.to_string().contains("no such member"),
            "{name}: {unknown}"
        );
        let text = stage.open("{").unwrap_err();
        assert!(matches!(text, StageError::Config { .. }), "{name}: {text}");
    }
}

/// The messages of a batch, in chunks of so many logs, and how many each chunk has.
fn format(stage: &FormatterStage, batch: &LogBatch, logs_a_chunk: usize) -> Vec<Vec<u8>> {
    let mut session = stage.open("").unwrap();
    let mut all = vec![];
    for first in (0..batch.len()).step_by(logs_a_chunk) {
        let chunk = batch.slice(first..(first + logs_a_chunk).min(batch.len()));
        let messages = session.push(&chunk).unwrap();
        let begins = std::iter::once(0).chain(messages.ends.iter().copied());
        let cut = begins.zip(&messages.ends);
        all.extend(cut.map(|(begin, &end)| messages.bytes[begin as usize..end as usize].to_vec()));
    }
    all
}

#[test]
fn formatters_keep_the_contract() {
    let hostile = hostile();
    for stage in stages()
        .iter()
        .filter_map(|stage| if let Stage::Formatter(stage) = stage { Some(stage) } else { None })
    {
        let name = stage.identity().name();
        let whole = format(stage, &hostile, hostile.len());
        assert_eq!(whole.len(), hostile.len(), "{name}: a message for each log");
        assert!(whole.iter().all(|message| !message.is_empty() && !message.contains(&b'\n')), "{name}");
        for logs_a_chunk in [1, 7] {
            let again = format(stage, &hostile, logs_a_chunk);
            assert!(again == whole, "{name}: the messages depend on the cuts or on chance");
        }
        let mut session = stage.open("").unwrap();
        assert!(session.push(&BatchBuilder::default().take()).unwrap().ends.is_empty(), "{name}");
        let mut broken = hostile.clone();
        broken.value_ends[0] = u32::MAX;
        let refused = session.push(&broken);
        assert!(matches!(refused, Err(StageError::InvalidBatch { .. })), "{name}: {refused:?}");
        assert_eq!(
            session.push(&hostile).unwrap().ends.len(),
            hostile.len(),
            "{name} goes on after a refusal"
        );
        let unknown = stage.open(r#"{"no such member": 1}"#).unwrap_err();
        assert!(
            matches!(&unknown, StageError::Config { .. }) && unknown.to_string().contains("no such member"),
            "{name}: {unknown}"
        );
    }
}

fn compress(stage: &CompressorStage, bytes: &[u8], chunk: usize) -> Vec<u8> {
    let mut object = stage.open("").unwrap();
    let body: Vec<u8> = bytes.chunks(chunk).flat_map(|chunk| object.push(chunk).unwrap()).collect();
    let ending = object.finish().unwrap();
    [ending.header, body, ending.trailer].concat()
}

#[test]
fn compressors_keep_the_contract() {
    let mut noise = 1_u64;
    let mut random = || {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (noise >> 33) as u8
    };
    let random: Vec<u8> = (0..300_000).map(|_| random()).collect();
    let text = "the quick brown fox jumps over the lazy dog. ".repeat(50_000).into_bytes();
    for stage in stages()
        .iter()
        .filter_map(|stage| if let Stage::Compressor(stage) = stage { Some(stage) } else { None })
    {
        let name = stage.identity().name();
        for bytes in [&b""[..], b"x", &random, &text] {
            let whole = compress(stage, bytes, usize::MAX);
            for chunk in [1 << 16, 100_003, 700_000] {
                assert!(compress(stage, bytes, chunk) == whole, "{name}: the bytes depend on the cuts");
            }
        }
        assert!(compress(stage, &text, 1 << 19).len() < text.len() / 10, "{name} compresses");
        let mut object = stage.open("").unwrap();
        let body = object.push(&text).unwrap().len();
        let ending = object.finish().unwrap();
        assert_eq!(
            ending.header.len(),
            stage.description().header_room as usize,
            "{name}: {body} bytes and a header"
        );
        assert!(matches!(stage.open(r#"{"no such member": 1}"#), Err(StageError::Config { .. })), "{name}");
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
    Stage::load(&engine(), "it.wasm", bytes).unwrap_err().to_string()
}

#[test]
fn what_the_contract_does_not_know_is_refused_by_name() {
    let trapping = refused(&dummy(|text| text));
    assert!(trapping.contains("it.wasm") && trapping.contains("trapped: wasm `unreachable`"), "{trapping}");

    let version = refused(&dummy(|text| text.replace("1.0.0", "2.1.0")));
    assert!(
        version.contains(
            "exports logship:encode/encoder@2.1.0, and this logship speaks logship:encode/encoder@1.0.0"
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
        imports.contains("a stage has no imports, and this component wants log, test:dummy/clock"),
        "{imports}"
    );

    let world = "package test:dummy; interface other { run: func(); } world encoder { export other; }";
    let stranger = refused(&dummy(|text| text.replace(WORLD, world)));
    assert!(stranger.contains("not a stage: it exports test:dummy/other"), "{stranger}");
}

#[test]
fn more_than_the_contract_asks_for_does_no_harm() {
    // It gets as far as being asked what it is, and traps there as every dummy does.
    let newer = refused(&dummy(|text| {
        text.replace("size: func() -> u64;", "size: func() -> u64; more: func();").replace("1.0.0", "1.1.0")
    }));
    assert!(newer.contains("trapped"), "{newer}");
}
