use super::*;
use crate::batch::{LogGroup, Tag};

fn settings() -> Settings {
    Settings { time_field: None, default_time: (7, 0), shards: 1, shard_field: "__source__".into() }
}

fn parse(settings: Settings, text: &[u8]) -> Parsed {
    Parser::new(settings).parse(text)
}

fn fields(batch: &LogBatch, log: usize) -> Vec<(String, String)> {
    let one = batch.slice(log..log + 1);
    let mut start = 0;
    let field = |(&key, &end): (&u32, &u32)| {
        let value = String::from_utf8(one.values[start..end as usize].to_vec()).unwrap();
        start = end as usize;
        (one.keys[key as usize].clone(), value)
    };
    one.field_keys.iter().zip(&one.value_ends).map(field).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[test]
fn reserved_keys_are_extracted_and_others_kept_as_text() {
    let line = br#" {"a":"x\n\"\u00e9","__time__":9,"n":1.50,"__topic__":"t","big":123456789012345678901,"o": {"k" : [1, 2]} ,"z":null,"b":true,"__source__":"s","__tag__:h":"v","a":"","\u0061b":"k"} "#;
    let parsed = parse(settings(), line);
    assert_eq!(parsed.rejects, []);
    let batch = &parsed.batches[0].1;
    assert_eq!((batch.times[0], batch.nanos.len()), (9, 0));
    let tags = vec![Tag { key: "h".into(), value: "v".into() }];
    assert_eq!(batch.groups, [LogGroup { topic: "t".into(), source: "s".into(), tags }]);
    let expected = [
        ("a", "x\n\"é"),
        ("n", "1.50"),
        ("big", "123456789012345678901"),
        ("o", r#"{"k" : [1, 2]}"#),
        ("b", "true"),
        ("a", ""),
        ("ab", "k"),
    ];
    assert_eq!(fields(batch, 0), pairs(&expected));
}

#[test]
fn rejects_bad_lines_and_keeps_the_others() {
    let cases: [(&[u8], &str); 15] = [
        (b"[1]", "not a JSON object"),
        (b"plain text", "not a JSON object"),
        (b"{\"a\":1", "not JSON at byte"),
        (b"{\"a\":1}}", "trailing characters"),
        (b"{}x", "trailing characters"),
        (b"{\"a\":}", ""),
        (b"{\"a\":01}", ""),
        (b"{\"a\":\"\\x\"}", ""),
        (b"{\"a\":\"\x01\"}", ""),
        (b"{\"a\":{\"b\":tru}}", ""),
        (b"{\"a\":\"\xff\"}", "byte 7 is not UTF-8"),
        (b"{\"__time__\":\"noon\"}", "is not a time"),
        (b"{\"a\":\"\\ud800\"}", ""),
        (b"{\"__time_ns_part__\":1e9}", "number of nanoseconds"),
        (b"{\"a\":1} {\"b\":}", ""),
    ];
    for (line, expected) in cases {
        let text = [b"{\"a\":\"1\"}\n\n", line, b"\r\n{\"a\":\"2\"}"].concat();
        let parsed = parse(settings(), &text);
        let shown = String::from_utf8_lossy(line);
        assert_eq!(parsed.rejects.len(), 1, "{shown}");
        let reject = &parsed.rejects[0];
        assert!(reject.reason.contains(expected) && !reject.reason.is_empty(), "{shown}: {}", reject.reason);
        assert_eq!((reject.line, &reject.text), (2, &[line, b"\r"].concat()), "{shown}");
        assert_eq!((parsed.lines, parsed.batches[0].1.len()), (4, 2), "{shown}");
        assert_eq!(fields(&parsed.batches[0].1, 1), pairs(&[("a", "2")]), "{shown}");
    }
}

#[test]
fn rejects_deep_nesting_but_ignores_brackets_in_strings() {
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(200_000), "]".repeat(200_000));
    let flat = format!("{{\"a\":\"{}\",\"b\":{}1{}}}", "[{".repeat(500), "[".repeat(127), "]".repeat(127));
    let parse_both = move || parse(settings(), format!("{deep}\n{flat}\n").as_bytes());
    // Without optimization, the JSON reader needs more stack than the threads of tests have.
    let thread = std::thread::Builder::new().stack_size(16 << 20).spawn(parse_both).unwrap();
    let parsed = thread.join().unwrap();
    assert_eq!(parsed.rejects.len(), 1);
    assert_eq!(parsed.rejects[0].reason, "values are nested deeper than 128");
    assert_eq!(parsed.batches[0].1.len(), 1);
}

#[test]
fn empty_object_is_a_log_without_fields() {
    let parsed = parse(settings(), b"{}\n{ }\n");
    assert_eq!(parsed.rejects, []);
    assert_eq!(parsed.batches[0].1.times, [7, 7]);
}

#[test]
fn reads_time_from_configured_field() {
    let named = Settings { time_field: Some("ts".into()), ..settings() };
    let parsed = parse(named, b"{\"ts\":\"2017-01-20T19:50:43.5+08:00\",\"__time__\":1}\n{\"x\":1}\n");
    let batch = &parsed.batches[0].1;
    assert_eq!((batch.times[0], batch.nanos[0]), (1_484_913_043, 500_000_000));
    assert_eq!(fields(batch, 0), pairs(&[("ts", "2017-01-20T19:50:43.5+08:00")]));
    assert_eq!(parsed.rejects[0].reason, "field \"ts\" with the time is missing");
}

#[test]
fn same_value_selects_same_shard() {
    let sharded = Settings { shards: 4, shard_field: "user".into(), ..settings() };
    let text: String = (0..200).map(|i| format!("{{\"user\":\"u{}\",\"n\":{i}}}\n", i % 20)).collect();
    let parsed = parse(sharded, text.as_bytes());
    assert_eq!(parsed.batches.len(), 4);
    let mut seen = std::collections::HashMap::new();
    for (shard, batch) in &parsed.batches {
        let mut last = None;
        for log in 0..batch.len() {
            let log = fields(batch, log);
            assert_eq!(*seen.entry(log[0].1.clone()).or_insert(*shard), *shard);
            let number: u32 = log[1].1.parse().unwrap();
            assert!(last.replace(number) < Some(number), "order within a shard");
        }
    }
    assert_eq!(seen.len(), 20);
}

#[test]
fn accepts_same_damaged_lines_as_serde_json() {
    let valid_line =
        r#"{"a":"x\n\u00e9 \"q\"","n":-1.50e3,"t":true,"o":{"k":[1,{"z":null}]},"e":"","é":"\ud83d\ude00"}"#;
    let noise = b"{}[]\",:\\0e.-tn \x01\xc3\xff";
    let mut random = fastrand::Rng::with_seed(7);
    let (mut logs, mut rejects) = (0, 0);
    for _ in 0..30_000 {
        let mut line = valid_line.as_bytes().to_vec();
        for _ in 0..random.usize(0..3) {
            let at = random.usize(0..line.len());
            match random.u8(0..3) {
                0 => line[at] = noise[random.usize(0..noise.len())],
                1 => drop(line.remove(at)),
                _ => line.insert(at, noise[random.usize(0..noise.len())]),
            }
        }
        let parsed = parse(settings(), &line);
        let shown = String::from_utf8_lossy(&line).into_owned();
        let json = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&line);
        match (parsed.batches.first(), json) {
            (Some((_, batch)), Ok(json)) => {
                logs += 1;
                for (key, value) in fields(batch, 0) {
                    if let Some(serde_json::Value::String(text)) = json.get(&key) {
                        let last = fields(batch, 0).into_iter().rfind(|(other, _)| *other == key).unwrap();
                        assert_eq!(last.1, *text, "{shown}");
                    }
                    assert!(json.contains_key(&key) && value.len() < line.len(), "{shown}");
                }
            }
            (None, Err(_)) => {
                rejects += 1;
                assert_eq!(parsed.rejects.len(), 1, "{shown}");
                assert_eq!(parsed.rejects[0].text, line, "{shown}");
            }
            (ours, theirs) => panic!("{shown}: a log: {}, JSON: {theirs:?}", ours.is_some()),
        }
    }
    assert!(logs > 1000 && rejects > 1000, "{logs} logs, {rejects} rejects");
}

#[test]
fn null_is_no_value() {
    let lines = br#"{"a":null,"b":"null","c":[null],"__topic__":null,"__source__":null,"__tag__:t":null,"__time__":null,"__time_ns_part__":null}
{"user":"x","user":null}
"#;
    let parsed = parse(settings(), lines);
    assert_eq!(parsed.rejects, []);
    let batch = &parsed.batches[0].1;
    assert_eq!(fields(batch, 0), pairs(&[("b", "null"), ("c", "[null]")]));
    assert_eq!(fields(batch, 1), pairs(&[("user", "x")]));
    assert_eq!(batch.groups, [LogGroup { topic: String::new(), source: String::new(), tags: vec![] }]);
    assert_eq!(batch.times, [7, 7], "the default time");
    let named = Settings { time_field: Some("ts".into()), ..settings() };
    assert_eq!(parse(named, b"{\"ts\":null}").rejects[0].reason, "field \"ts\" with the time is missing");
    let sharded = |text: &[u8]| {
        parse(Settings { shards: 64, shard_field: "user".into(), ..settings() }, text).batches[0].0
    };
    assert_eq!(sharded(b"{\"user\":null}"), sharded(b"{}"));
    assert_ne!(sharded(b"{\"user\":\"null\"}"), sharded(b"{}"));
}

#[test]
fn line_of_several_objects_is_several_logs_or_none() {
    let parsed = parse(
        settings(),
        b"{\"a\":1}{\"a\":2} {\"a\":3}\r\n{\"a\":4}{\"a\":}\n{\"a\":5}\xef\xbb\xbf{\"a\":6}\n{\"a\":7}{}x",
    );
    let batch = &parsed.batches[0].1;
    let values: Vec<_> = (0..batch.len()).map(|log| fields(batch, log)[0].1.clone()).collect();
    assert_eq!(values, ["1", "2", "3", "5", "6"]);
    let rejected: Vec<_> = parsed.rejects.iter().map(|reject| (reject.line, reject.text.len())).collect();
    assert_eq!(rejected, [(1, 13), (3, 10)]);
    assert_eq!(parsed.lines, 4);
}

#[test]
fn skips_byte_order_marks_at_lines() {
    let parsed = parse(
        settings(),
        b"\xef\xbb\xbf{\"a\":1}\n\x1e\xef\xbb\xbf\xef\xbb\xbf {\"a\":2}\n\xef\xbb\xbf\r\n\xef\xbb\xbf",
    );
    assert_eq!((parsed.rejects.len(), parsed.batches[0].1.len()), (0, 2));
}

#[test]
fn tells_zero_bytes_and_keeps_logs_around_them() {
    let parsed = parse(settings(), b"{\"a\":1}\n\0\0\0{\"a\":2}\n{\"a\":3}\0\0\n\0\0x\n\0\0\0\0");
    assert_eq!(parsed.batches[0].1.len(), 3);
    let rejects: Vec<_> = parsed.rejects.iter().map(|reject| (reject.line, &reject.text[..])).collect();
    assert_eq!(rejects, [(1, &b""[..]), (2, b""), (3, b"\0\0x"), (4, b"")]);
    assert_eq!(parsed.rejects[3].reason, "zero bytes, as a crash leaves them: 4");
}

fn all_fields(parsed: &Parsed) -> Vec<Vec<(String, String)>> {
    let batches = parsed.batches.iter().map(|(_, batch)| batch);
    batches.flat_map(|batch| (0..batch.len()).map(|log| fields(batch, log))).collect()
}

#[test]
fn values_that_are_not_lines_are_logs() {
    let text =
        b"[\n  {\n \"a\": 1,\n \"o\": {\n\"k\": 2}\n },\n  {\"a\": \"x\ny\"},\n 5,\n {\"a\": 3}\n]\n{\"b\":";
    let parsed = Parser::new(settings()).parse_values(text);
    let expected = [pairs(&[("a", "1"), ("o", "{ \"k\": 2}")]), pairs(&[("a", "3")])];
    assert_eq!(all_fields(&parsed), expected);
    let rejects: Vec<_> = parsed.rejects.iter().map(|reject| (reject.line, &reject.text[..])).collect();
    let expected: [(usize, &[u8]); 4] = [(6, b"{\"a\": \"x"), (7, b"y\"}"), (8, b"5"), (11, b"{\"b\":")];
    assert_eq!(rejects, expected);
    assert_eq!(parsed.lines, 11);
}

#[test]
fn rows_of_csv_are_logs() {
    let header = CsvHeader::parse(b"__time__,user,__tag__:host,note\n", true).unwrap().unwrap().0;
    let rows = b"5,ann,h,\"a, \"\"b\"\"\nc\"\r\n,bob,,\"\"\n\nnoon,x,y,z\n1,2\n6,\"open,h,n\n8,joe,,\n\0\0\0";
    let parsed = Parser::new(settings()).parse_rows(rows, &header);
    let expected = [
        pairs(&[("user", "ann"), ("note", "a, \"b\"\nc")]),
        pairs(&[("user", "bob"), ("note", "")]),
        pairs(&[("user", "joe")]),
    ];
    assert_eq!(all_fields(&parsed), expected);
    let batch = &parsed.batches[0].1;
    assert_eq!((&batch.times[..], batch.groups.len()), (&[5, 7, 8][..], 2));
    let rejects: Vec<_> = parsed.rejects.iter().map(|reject| (reject.line, &reject.reason[..])).collect();
    assert_eq!(rejects[0].0, 4);
    assert!(rejects[0].1.contains("is not a time"), "{rejects:?}");
    let expected = [
        (5, "the row has 2 fields, the header has 4"),
        (6, "a quote is not closed"),
        (8, "zero bytes, as a crash leaves them: 3"),
    ];
    assert_eq!(rejects[1..], expected);
}

#[test]
fn lines_of_text_are_logs() {
    let text = b"\xef\xbb\xbfNov 30 x\r\n\n  indented\n\0\0\n\xff latin\nlast";
    let parsed = Parser::new(settings()).parse_text(text, "message");
    let batch = &parsed.batches[0].1;
    let values: Vec<_> = (0..batch.len()).map(|log| batch.log_fields(log).next().unwrap()).collect();
    let expected: [&[u8]; 4] = [b"Nov 30 x", b"  indented", b"\xff latin", b"last"];
    assert_eq!(values, expected.map(|value| ("message", value)));
    assert_eq!((parsed.lines, parsed.rejects.len(), parsed.rejects[0].line), (6, 1, 3));
}
