use logship_stage::BatchBuilder;
use proptest::prelude::*;

use super::*;

fn batch() -> Batch {
    BatchBuilder::new()
        .group("nginx", "10.0.0.1", &[("host", "web-1"), ("zone", "a"), ("host", "web-2")])
        .log(1, &[("level", "info"), ("user", "ann"), ("path", "/a?card=4111111111111111"), ("user", "bob")])
        .log(2, &[("level", "debug"), ("path", "/b")])
        .group("app", "10.0.0.2", &[])
        .log(3, &[("level", "error"), ("message", r#"{"code": 5, "text": "no\nroom", "more": {"a": [1]}}"#)])
        .log_bytes(4, &[("user", b"\xff card=4111111111111111"), ("level", b"")])
        .log(5, &[])
        .build()
}

/// Renders each output log with its input index, topic, source, tags and fields.
fn transform(config: &str, batch: Batch) -> Vec<String> {
    rendered(FieldsTransformer::open(config).unwrap().push(batch).unwrap())
}

fn rendered(transformed: Transformed) -> Vec<String> {
    let Transformed { batch, logs } = transformed;
    let batch = Batch::new(batch).unwrap();
    let mut rendered = vec![];
    for group in batch.groups() {
        let tags: String = group.tags().iter().map(|tag| format!(" {}:{}", tag.key, tag.value)).collect();
        for log in group.logs() {
            let from = logs.get(log.index()).map_or(log.index(), |&log| log as usize);
            let fields = log
                .fields()
                .map(|field| format!(" {}={}", field.key(), String::from_utf8_lossy(field.value())));
            let fields: String = fields.collect();
            rendered.push(format!("{from} {} {}{tags} |{fields}", group.topic(), group.source()));
        }
    }
    rendered
}

fn kept_logs(config: &str) -> Vec<u32> {
    let logs = transform(config, batch());
    logs.iter().map(|log| log.split(' ').next().unwrap().parse().unwrap()).collect()
}

fn error_of(config: &str) -> String {
    FieldsTransformer::open(config).unwrap_err().to_string()
}

#[test]
fn empty_configuration_changes_nothing() {
    assert_eq!(transform("", batch()), rendered(Transformed::same(batch())));
}

#[test]
fn conditions_filter_logs() {
    for (config, expected) in [
        (r#"{"where":{"level":"info"}}"#, &[0][..]),
        (r#"{"where":{"level":["info","error"]}}"#, &[0, 2]),
        (r#"{"where":{"level":""}}"#, &[3, 4]),
        (r#"{"unless":{"level":""}}"#, &[0, 1, 2]),
        (r#"{"where":{"path":{"matches":"^/."}}}"#, &[0, 1]),
        (r#"{"where":{"path":{"matches":"^/."},"level":"debug"}}"#, &[1]),
        (r#"{"where":[{"path":"/b"},{"level":"error"}]}"#, &[1, 2]),
        (r#"{"where":{"__topic__":"nginx"},"unless":{"level":"debug"}}"#, &[0]),
        (r#"{"where":{"__tag__:host":"web-2"}}"#, &[0, 1]),
        (r#"{"where":{"__source__":{"matches":"\\.2$"}}}"#, &[2, 3, 4]),
        (r#"{"where":{"user":"bob"}}"#, &[0]),
        (r#"{"where":{"user":"ann"}}"#, &[]),
        (r#"{"where":{"no such":"x"}}"#, &[]),
        (r#"{"unless":{"no such":"x"}}"#, &[0, 1, 2, 3, 4]),
    ] {
        assert_eq!(kept_logs(config), expected, "{config}");
    }
}

#[test]
fn numbers_and_booleans_mean_their_texts() {
    let batch = || BatchBuilder::new().log(1, &[("status", "200"), ("ok", "true"), ("t", "0.5")]).build();
    for config in [
        r#"{"where":{"status":200,"ok":true,"t":0.5}}"#,
        r#"{"where":{"status":[404,200],"ok":[true],"t":["x",0.5]}}"#,
    ] {
        assert_eq!(transform(config, batch()).len(), 1, "{config}");
    }
    assert_eq!(transform(r#"{"set":{"n":7,"t":-1.5}}"#, batch()), ["0   | status=200 ok=true n=7 t=-1.5"]);
}

#[test]
fn keeps_drops_and_renames_fields() {
    assert_eq!(
        transform(r#"{"keep":["path","user"]}"#, batch())[0],
        "0 nginx 10.0.0.1 host:web-1 zone:a host:web-2 | user=ann path=/a?card=4111111111111111 user=bob"
    );
    let dropped = transform(r#"{"drop":["path","__source__","__tag__:host"]}"#, batch());
    assert_eq!(dropped[0], "0 nginx  zone:a | level=info user=ann user=bob");
    assert_eq!(dropped[4], "4 app  |");
    // `drop` applies to the new key.
    assert_eq!(
        transform(r#"{"rename":{"user":"who","path":"level"},"drop":["path"]}"#, batch())[0],
        "0 nginx 10.0.0.1 host:web-1 zone:a host:web-2 | level=info who=ann level=/a?card=4111111111111111 who=bob"
    );
    assert_eq!(
        transform(r#"{"rename":{"level":"user"},"keep":["user"]}"#, batch())[3],
        "3 app 10.0.0.2 | user=\u{fffd} card=4111111111111111 user="
    );
}

#[test]
fn sets_values_at_the_end() {
    let set = r#"{"set":{"env":"prod","user":{"from":"__tag__:host"},"__topic__":"t","__tag__:zone":"b","host":{"from":"level"}}}"#;
    let transformed = transform(set, batch());
    assert_eq!(
        transformed[0],
        "0 t 10.0.0.1 host:web-1 host:web-2 zone:b | level=info path=/a?card=4111111111111111 env=prod host=info user=web-2"
    );
    // The tag is missing, so the user stays; an empty level counts as missing.
    assert_eq!(transformed[3], "3 t 10.0.0.2 zone:b | user=\u{fffd} card=4111111111111111 level= env=prod");
    assert_eq!(transform(r#"{"set":{"a":"1"},"drop":["a"]}"#, batch())[4], "4 app 10.0.0.2 |");
    assert_eq!(
        transform(r#"{"set":{"__topic__":{"from":"__source__"},"__source__":""}}"#, batch())[4],
        "4 10.0.0.2  |"
    );
}

#[test]
fn masks_and_hashes_values() {
    let mask = r#"{"mask":{"*":"\\b\\d{16}\\b","__source__":{"matches":"(\\d+)\\.\\d+$","with":"$1.0"},"user":"^a"}}"#;
    let transformed = transform(mask, batch());
    assert_eq!(
        transformed[0],
        "0 nginx 10.0.0.0 host:web-1 zone:a host:web-2 | level=info user=***nn path=/a?card=*** user=bob"
    );
    assert_eq!(transformed[3], "3 app 10.0.0.0 | user=\u{fffd} card=*** level=");
    // https://csrc.nist.gov/csrc/media/projects/cryptographic-standards-and-guidelines/documents/examples/sha256.pdf
    let abc =
        || BatchBuilder::new().group("", "abc", &[("t", "abc")]).log(1, &[("a", "abc"), ("b", "")]).build();
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(
        transform(r#"{"hash":["a","b","__source__","__tag__:t"]}"#, abc()),
        [format!("0  {digest} t:{digest} | a={digest} b=")]
    );
    // RFC 4231, test case 2.
    let data = BatchBuilder::new().log(1, &[("a", "what do ya want for nothing?")]).build();
    assert_eq!(
        transform(r#"{"hash":["a"],"hash_key":"Jefe"}"#, data),
        ["0   | a=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"]
    );
    // Set values are redacted too, and masked values are hashed.
    assert_eq!(
        transform(
            r#"{"set":{"a":"xyz","b":{"from":"__source__"}},"mask":{"a":{"matches":"xyz","with":"abc"}},"hash":["a","b"],"drop":["__tag__:t"]}"#,
            abc()
        ),
        [format!("0  abc | a={digest} b={digest}")]
    );
}

#[test]
fn merges_equal_groups() {
    let batch = BatchBuilder::new()
        .group("t", "10.0.0.1", &[])
        .log(1, &[("a", "1")])
        .group("t", "10.0.0.2", &[])
        .log(2, &[("a", "2")])
        .build();
    let mut transformer = FieldsTransformer::open(r#"{"drop":["__source__"]}"#).unwrap();
    let transformed = transformer.push(batch).unwrap();
    assert_eq!(
        (transformed.batch.groups.len(), transformed.batch.log_groups, transformed.logs.len()),
        (1, vec![0, 0], 0)
    );
}

#[test]
fn parsed_fields_replace_their_field() {
    let parsed = transform(
        r#"{"parse":{"message":"json"},"rename":{"text":"said"},"where":{"level":"error"}}"#,
        batch(),
    );
    assert_eq!(parsed, ["2 app 10.0.0.2 | level=error code=5 said=no\nroom more={\"a\": [1]}"]);
    let parsed = transform(
        r#"{"parse":{"message":{"as":"json","prefix":"m."},"user":"json"},"keep":["m.code","user"]}"#,
        batch(),
    );
    assert_eq!(parsed[2], "2 app 10.0.0.2 | m.code=5");
    assert_eq!(parsed[3], "3 app 10.0.0.2 | user=\u{fffd} card=4111111111111111");
}

#[test]
fn parsed_fields_forge_nothing_and_nulls_are_no_fields() {
    let forged = r#"{"__time__":1,"__source__":"forged","__tag__:host":"forged","user":null,"name":"null"}"#;
    let batch = || BatchBuilder::new().group("t", "10.0.0.1", &[]).log(7, &[("m", forged)]).build();
    let fields = "__field__:__time__=1 __field__:__source__=forged __field__:__tag__:host=forged name=null";
    assert_eq!(transform(r#"{"parse":{"m":"json"}}"#, batch()), [format!("0 t 10.0.0.1 | {fields}")]);
    let dropped = r#"{"parse":{"m":"json"},"drop":["__field__:__source__","name"],"rename":{"__field__:__time__":"at"}}"#;
    assert_eq!(transform(dropped, batch()), ["0 t 10.0.0.1 | at=1 __field__:__tag__:host=forged"]);
}

/// A key that a log repeats 100,000 times must not be searched for each of its fields.
#[test]
fn work_grows_with_the_fields_and_not_with_their_square() {
    let seconds = |count: usize| {
        let fields = vec![("a", "1"); count];
        let mut transformer = FieldsTransformer::open(r#"{"set":{"a":{"from":"b"}}}"#).unwrap();
        let batch = BatchBuilder::new().log(1, &fields).build();
        let started = std::time::Instant::now();
        assert_eq!(transformer.push(batch).unwrap().batch.field_keys.len(), count);
        started.elapsed().as_secs_f64()
    };
    // A square would take 256 times as long. Short runs are noisy, so the bound is loose.
    let (few, many) = (seconds(10_000), seconds(160_000));
    assert!(many < 100.0 * few.max(0.001), "{few} s, then {many} s");
}

#[test]
fn rejects_invalid_configurations_by_setting() {
    for (config, expected) in [
        (r#"{"droop":[]}"#, "droop: unknown field `droop`"),
        (r#"{"drop":"a"}"#, "drop: invalid type"),
        (r#"{"drop":[""]}"#, r#"drop[0]: "" is not a source of values"#),
        (r#"{"drop":["__time__"]}"#, r#"drop[0]: "__time__" is not"#),
        (r#"{"keep":["a","__source__"]}"#, "keep[1]: topic, source and tags are always kept"),
        (r#"{"hash":["__tag__:"]}"#, "hash[0]: "),
        (r#"{"hash_key":"k"}"#, "hash_key: it has no effect"),
        (r#"{"hash_key":"","hash":["a"]}"#, "hash_key: is empty"),
        (r#"{"mask":{"ip":"("}}"#, "mask.ip: the pattern '(' is invalid: unclosed group"),
        (r#"{"mask":{"ip":{"matches":"a","wit":"b"}}}"#, "mask.ip.wit: unknown field"),
        (r#"{"mask":{"ip":{"with":"b"}}}"#, "mask.ip: missing field `matches`"),
        (r#"{"mask":{"ip":["a"]}}"#, "mask.ip: invalid type: sequence, expected a pattern, or a table"),
        (r#"{"mask":{"__time__":"a"}}"#, "mask.__time__: "),
        (r#"{"where":{"a":{"matches":"["}}}"#, "where.a.matches: the pattern"),
        (r#"{"where":[{"a":"b"},{"a":{"match":"b"}}]}"#, "where[1].a.match: unknown field"),
        (
            r#"{"where":{"a":null}}"#,
            "where.a: invalid type: null, expected a text, a list of texts, or a table",
        ),
        (r#"{"where":{"a":["b",[]]}}"#, "where.a[1]: a text, a number, true or false"),
        (r#"{"unless":{}}"#, "unless: has no conditions"),
        (r#"{"unless":[{"a":"b"},{}]}"#, "unless[1]: has no conditions"),
        (r#"{"where":"a"}"#, "where: invalid type: string \"a\", expected a table of conditions"),
        (r#"{"rename":{"__topic__":"t"}}"#, "rename.__topic__: only fields can be renamed"),
        (r#"{"rename":{"a":"__source__"}}"#, "rename.a: only fields can be renamed"),
        (r#"{"set":{"__time__":"7"}}"#, "set.__time__: "),
        (r#"{"set":{"a":{"form":"b"}}}"#, "set.a.form: unknown field"),
        (r#"{"set":{"a":{"from":"__time__"}}}"#, "set.a.from: "),
        (r#"{"set":{"__source__":{"from":"host"}}}"#, r#"set.__source__.from: "host" is a field"#),
        (r#"{"parse":{"m":"xml"}}"#, r#"parse.m: unknown format "xml"; use json or key-value"#),
        (r#"{"parse":{"m":{"as":"xml"}}}"#, "parse.m.as: unknown variant `xml`"),
        (r#"{"parse":{"m":{"as":"json","separator":","}}}"#, "parse.m.separator: it has no effect"),
        (r#"{"parse":{"m":{"as":"key-value","separator":""}}}"#, "parse.m.separator: is empty"),
        (r#"{"parse":{"__source__":"json"}}"#, "parse.__source__: only fields can be parsed"),
    ] {
        let error = error_of(config);
        assert!(error.starts_with(expected), "{config}: {error}");
    }
}

#[test]
fn schema_has_all_settings() {
    let schema: serde_json::Value =
        serde_json::from_str(&FieldsTransformer::describe().config_schema).unwrap();
    let properties: Vec<_> = schema["properties"].as_object().unwrap().keys().collect();
    assert_eq!(properties.len(), 10, "{properties:?}");
    assert_eq!(schema["additionalProperties"], false);
}

type Fields = Vec<(String, Vec<u8>)>;

/// Generates logs with few keys and values, so that keys repeat and conditions match.
fn some_logs() -> impl Strategy<Value = Vec<(u8, Fields)>> {
    let value = prop_oneof![Just(b"a".to_vec()), Just(b"b 12".to_vec()), any::<Vec<u8>>()];
    let fields = prop::collection::vec(("[a-d]", value), 0..6);
    prop::collection::vec((0..3_u8, fields), 0..20)
}

fn build_batch(logs: &[(u8, Fields)]) -> Batch {
    let mut builder = BatchBuilder::new();
    for (group, fields) in logs {
        let fields: Vec<_> = fields.iter().map(|(key, value)| (key.as_str(), value.as_slice())).collect();
        // Groups are deduplicated below.
        builder = builder.group(&format!("t{group}"), "s", &[]).log_bytes(7, &fields);
    }
    let mut raw = builder.build().into_raw();
    let mut distinct = vec![];
    raw.log_groups = raw
        .groups
        .iter()
        .map(|group| match distinct.iter().position(|known| known == group) {
            Some(position) => position as u32,
            None => {
                distinct.push(group.clone());
                distinct.len() as u32 - 1
            }
        })
        .collect();
    raw.groups = distinct;
    Batch::new(raw).unwrap()
}

proptest! {
    /// Compares with a simple implementation that works field by field, without dictionaries.
    #[test]
    fn matches_simple_implementation(logs in some_logs()) {
        let config = r#"{"unless":{"a":"a"},"rename":{"b":"c"},"set":{"d":"x","e":{"from":"a"}},
            "mask":{"c":{"matches":"[0-9]+","with":"N"}},"drop":["a","__topic__"]}"#;
        let transformed = transform(config, build_batch(&logs));
        let mut expected = vec![];
        for (index, (_, fields)) in logs.iter().enumerate() {
            let last = |key: &str| fields.iter().rev().find(|(known, _)| known == key).map(|(_, value)| value);
            if last("a").is_some_and(|value| value == b"a") {
                continue;
            }
            let mut text = format!("{index}  s |");
            for (_, value) in fields.iter().filter(|(key, _)| key != "a" && key != "d") {
                let (mut masked, mut in_digits) = (vec![], false);
                for &byte in value {
                    match byte.is_ascii_digit() {
                        true if !in_digits => masked.push(b'N'),
                        true => {}
                        false => masked.push(byte),
                    }
                    in_digits = byte.is_ascii_digit();
                }
                text += &format!(" c={}", String::from_utf8_lossy(&masked));
            }
            text += " d=x";
            if let Some(value) = last("a").filter(|value| !value.is_empty()) {
                text += &format!(" e={}", String::from_utf8_lossy(value));
            }
            expected.push(text);
        }
        prop_assert_eq!(transformed, expected);
    }

    #[test]
    fn output_is_independent_of_batch_boundaries(logs in some_logs(), cut in 0..20_usize) {
        let config = r#"{"where":[{"b":{"matches":"^[a-z]"}},{"__topic__":"t1"}],"parse":{"d":"key-value"},
            "rename":{"a":"b"},"hash":["c"],"mask":{"*":"a"},"keep":["b","c"]}"#;
        let cut = cut.min(logs.len());
        let mut transformer = FieldsTransformer::open(config).unwrap();
        let mut cut_up = vec![];
        for (logs, first) in [(&logs[..cut], 0), (&logs[cut..], cut)] {
            for log in rendered(transformer.push(build_batch(logs)).unwrap()) {
                let (index, rest) = log.split_once(' ').unwrap();
                cut_up.push(format!("{} {rest}", index.parse::<usize>().unwrap() + first));
            }
        }
        prop_assert_eq!(transform(config, build_batch(&logs)), cut_up);
    }
}
