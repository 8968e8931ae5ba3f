//! The logs of the checks: ordinary logs, hostile logs, and batches that violate an invariant.

use std::ops::Range;

use logship_batch::batch::{BatchBuilder, LogBatch, LogGroup, Tag};

/// Keys of ordinary logs.
const KEYS: [&str; 8] = ["method", "path", "status", "bytes", "latency", "host", "user_agent", "request_id"];

/// Keys and metadata fields for the columns of a stage that requires columns.
pub(super) const COLUMNS: [&str; 12] = [
    "__time__",
    "__topic__",
    "__source__",
    "__tag__:host",
    "a",
    "b",
    "method",
    "path",
    "status",
    "user_agent",
    "request_id",
    "k65535",
];

/// Returns `count` access logs of about 250 bytes, the same at every call.
pub(super) fn access_logs(count: usize) -> LogBatch {
    let mut builder = BatchBuilder::default();
    for number in 0..count as u64 {
        let noise = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let pick = |from: &[&'static str]| from[(noise >> 40) as usize % from.len()];
        let values = [
            pick(&["GET", "GET", "GET", "POST", "PUT", "DELETE"]).to_owned(),
            format!("/api/v1/products/{}?page={}", noise % 5_003, noise % 17),
            (if noise.is_multiple_of(19) { "404" } else { "200" }).to_owned(),
            (noise % 48_611).to_string(),
            format!("0.{:03}", noise % 997),
            pick(&["www.example.com", "api.example.com", "img.example.net"]).to_owned(),
            pick(&[
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/142.0 Safari/537.36",
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:141.0) Gecko/20100101 Firefox/141.0",
                "curl/8.14.1",
            ])
            .to_owned(),
            format!("{noise:016x}{:016x}", noise.rotate_left(23)),
        ];
        for (key, value) in KEYS.iter().zip(&values) {
            builder.field(key, value.as_bytes());
        }
        let source = format!("10.0.3.{}", number / 100 % 8);
        let group = builder.group(&group("nginx_access", &source, &[("host", "web-1")]));
        builder.end_log(group, 1_760_000_000 + (number / 300) as u32, 0);
    }
    builder.take()
}

/// Returns a batch without logs.
pub(super) fn empty() -> LogBatch {
    BatchBuilder::default().take()
}

/// Returns logs without fields.
pub(super) fn empty_logs(count: u32) -> LogBatch {
    let mut batch = access_logs(1);
    batch.times = (1..=count).collect();
    batch.nanos.clear();
    batch.log_groups = vec![0; count as usize];
    batch.field_ends = batch.log_groups.clone();
    (batch.field_keys, batch.value_ends, batch.values) = (vec![], vec![], vec![]);
    batch
}

/// A valid batch that may break a careless stage.
pub(super) struct Hostile {
    /// The name of the check.
    pub(super) check: &'static str,
    /// Description of the batch.
    pub(super) what: &'static str,
    /// The logs.
    pub(super) batch: LogBatch,
}

/// Returns logs that are valid but that a careless stage does not expect.
pub(super) fn hostile() -> Vec<Hostile> {
    let value = |value: &[u8]| logs(&[&[("a", value)]]);
    let case = |check, what, batch| Hostile { check, what, batch };
    vec![
        case("takes-an-empty-batch", "a batch without logs", empty()),
        case("takes-one-log", "a batch of one log", value(b"one")),
        case("takes-a-log-without-fields", "a log with a time and no fields", logs(&[&[]])),
        case("takes-empty-values", "an empty key and an empty value", logs(&[&[("a", b""), ("", b"")]])),
        case(
            "takes-duplicate-keys",
            "a log that has the key \"a\" three times",
            logs(&[&[("a", b"1"), ("b", b"2"), ("a", b"3"), ("a", b"1")]]),
        ),
        case("takes-invalid-utf-8", "values that are not UTF-8", invalid_utf8()),
        case("takes-control-characters", "quotes, separators and control characters", controls()),
        case("takes-wide-characters", "characters of two to four bytes", value("né…€😀\u{2028}".as_bytes())),
        case("takes-odd-numbers", "texts that resemble numbers", numbers()),
        case("takes-times-at-the-edge", "the first and the last second, and nanoseconds", times()),
        case("takes-many-groups", "4,096 log groups whose logs alternate", many_groups()),
        case("takes-65536-keys", "a log of 65,536 fields, each with a key of its own", many_keys()),
        case("takes-a-value-of-16-mb", "a log with a value of 16 MB", value(&vec![b'x'; 16 << 20])),
    ]
}

/// The reserved names that are keys of fields in [`reserved_fields`].
pub(super) const RESERVED_KEYS: [&str; 6] =
    ["__time__", "__time_ns_part__", "__topic__", "__source__", "__tag__:host", "__tag__:zone"];

/// Returns logs whose fields have reserved keys. The group has a tag `host`, and none called `zone`.
pub(super) fn reserved_fields() -> LogBatch {
    let mut builder = BatchBuilder::default();
    let group = builder.group(&group("topic", "10.0.0.1", &[("host", "web-1")]));
    // The builder renames reserved keys, so they are set afterwards.
    let keys: Vec<_> = (0..RESERVED_KEYS.len()).map(|number| format!("key{number}")).collect();
    for (second, order) in (1_760_000_000..).zip([false, true]) {
        builder.field("a", b"1");
        let mut fields: Vec<_> = keys.iter().zip(0..).collect();
        fields.sort_by_key(|(_, number)| if order { -number } else { *number });
        for (key, number) in fields {
            builder.field(key, format!("forged-{number}").as_bytes());
        }
        builder.end_log(group, second, 1);
    }
    let mut batch = builder.take();
    for key in &mut batch.keys {
        if let Some(place) = keys.iter().position(|known| known == key) {
            *key = RESERVED_KEYS[place].to_owned();
        }
    }
    batch
}

/// Returns logs that repeat keys, in a group that repeats a tag.
pub(super) fn repeated_keys() -> LogBatch {
    let mut builder = BatchBuilder::default();
    let group = builder.group(&group("topic", "10.0.0.1", &[("host", "web-1"), ("host", "web-2")]));
    for keys in [["a", "a", "b"], ["a", "b", "a"], ["b", "a", "a"]] {
        keys.iter().zip(["1", "2", "3"]).for_each(|(key, value)| builder.field(key, value.as_bytes()));
        builder.end_log(group, 1_760_000_000, 0);
    }
    builder.take()
}

/// Concatenates the logs of several batches.
pub(super) fn concat<'a>(batches: impl IntoIterator<Item = &'a LogBatch>) -> LogBatch {
    rebuilt(batches.into_iter().map(|batch| (batch, 0..batch.len())))
}

/// Returns some logs of a batch, with only their keys and groups.
pub(super) fn slice(batch: &LogBatch, logs: Range<usize>) -> LogBatch {
    rebuilt([(batch, logs)])
}

fn rebuilt<'a>(parts: impl IntoIterator<Item = (&'a LogBatch, Range<usize>)>) -> LogBatch {
    let mut builder = BatchBuilder::default();
    for (batch, logs) in parts {
        for log in logs {
            for (key, value) in batch.log_fields(log) {
                builder.field(key, value);
            }
            let group = builder.group(&batch.groups[batch.log_groups[log] as usize]);
            builder.end_log(group, batch.times[log], batch.nanos.get(log).copied().unwrap_or(0));
        }
    }
    builder.take()
}

/// A batch that violates an invariant of `log-batch`.
pub(super) struct Broken {
    /// The name of the check.
    pub(super) check: &'static str,
    /// Description of the violation.
    pub(super) what: &'static str,
    /// The batch.
    pub(super) batch: LogBatch,
}

/// Returns one batch for each invariant, which violates only this one.
pub(super) fn broken() -> Vec<Broken> {
    let case = |check, what, corrupt: fn(&mut LogBatch)| {
        let mut batch = access_logs(3);
        batch.nanos = vec![1, 2, 3];
        corrupt(&mut batch);
        Broken { check, what, batch }
    };
    vec![
        case("refuses-times-too-few", "times of fewer logs than field-ends", |batch| {
            batch.times.pop();
        }),
        case("refuses-nanos-too-few", "nanos of some logs only", |batch| {
            batch.nanos.pop();
        }),
        case("refuses-nanos-too-large", "nanos of one second", |batch| {
            batch.nanos[1] = 1_000_000_000;
        }),
        case("refuses-groups-too-few", "log-groups of fewer logs than times", |batch| {
            batch.log_groups.pop();
        }),
        case("refuses-a-group-outside", "log-groups with an index outside groups", |batch| {
            batch.log_groups[1] = u32::MAX;
        }),
        case("refuses-a-key-outside", "field-keys with an index outside keys", |batch| {
            batch.field_keys[5] = batch.keys.len() as u32;
        }),
        case("refuses-values-too-few", "value-ends of fewer fields than field-keys", |batch| {
            batch.value_ends.pop();
        }),
        case("refuses-field-ends-that-fall", "field-ends that decrease", |batch| {
            batch.field_ends.swap(0, 1);
        }),
        case("refuses-field-ends-outside", "field-ends beyond the fields", |batch| {
            batch.field_ends[2] += 1;
        }),
        case("refuses-value-ends-that-fall", "value-ends that decrease", |batch| {
            batch.value_ends.swap(3, 4);
        }),
        case("refuses-value-ends-outside", "value-ends beyond the values", |batch| {
            *batch.value_ends.last_mut().expect("there are fields") += 1;
        }),
        case("refuses-values-left-over", "values after the last value-end", |batch| {
            batch.values.push(b'x');
        }),
    ]
}

fn group(topic: &str, source: &str, tags: &[(&str, &str)]) -> LogGroup {
    let tags = tags.iter().map(|&(key, value)| Tag { key: key.into(), value: value.into() });
    LogGroup { topic: topic.into(), source: source.into(), tags: tags.collect() }
}

/// Returns logs of one group, one second apart.
fn logs(logs: &[&[(&str, &[u8])]]) -> LogBatch {
    let mut builder = BatchBuilder::default();
    let group = builder.group(&group("topic", "10.0.0.1", &[]));
    for (second, fields) in (1_760_000_000..).zip(logs) {
        for (key, value) in *fields {
            builder.field(key, value);
        }
        builder.end_log(group, second, 0);
    }
    builder.take()
}

fn invalid_utf8() -> LogBatch {
    // An invalid byte, a truncated character, a surrogate, an overlong slash, and a character split over two
    // values.
    logs(&[
        &[("a", b"\xff\xfe"), ("b", b"\xf0\x9f\x98")],
        &[("a", b"\xed\xa0\x80"), ("b", b"\xc0\xaf")],
        &[("a", b"plain \xe2\x82"), ("b", b"\xac plain")],
    ])
}

fn controls() -> LogBatch {
    let mut builder = BatchBuilder::default();
    let texts =
        ["a,b\"c\"\r\nd", "\0\u{1}\u{1f}\u{7f}\u{85}", "\t'`\\ \n", "]]> <&> ${x} %s", "\u{feff}\u{202e}"];
    for text in texts {
        builder.field("a", text.as_bytes());
        builder.field(text, b"value");
        let group = builder.group(&group(text, text, &[("host", text), ("host", "twice"), (text, "tag")]));
        builder.end_log(group, 1_760_000_000, 0);
    }
    builder.take()
}

fn numbers() -> LogBatch {
    let texts = [
        "-12",
        "1e999",
        " 7 ",
        "true",
        "NaN",
        "-0",
        "0x10",
        "9223372036854775808",
        "1.0",
        "+1",
        "inf",
        "1_000",
        "null",
    ];
    let fields: Vec<[(&str, &[u8]); 2]> =
        texts.iter().map(|text| [("a", text.as_bytes()), ("status", text.as_bytes())]).collect();
    logs(&fields.iter().map(<[_; 2]>::as_slice).collect::<Vec<_>>())
}

fn times() -> LogBatch {
    let mut builder = BatchBuilder::default();
    let group = builder.group(&group("", "", &[]));
    for (time, nanos) in [(0, 0), (u32::MAX, 999_999_999), (7, 1), (1_760_000_000, 0)] {
        builder.field("a", b"at the edge");
        builder.end_log(group, time, nanos);
    }
    builder.take()
}

fn many_groups() -> LogBatch {
    let mut builder = BatchBuilder::default();
    for number in 0..8_192_u32 {
        let source = format!("10.0.{}.{}", number % 4_096 / 256, number % 256);
        let group = builder.group(&group("topic", &source, &[("host", &source)]));
        builder.field("a", b"v");
        builder.end_log(group, 1_760_000_000, 0);
    }
    builder.take()
}

fn many_keys() -> LogBatch {
    let mut builder = BatchBuilder::default();
    let group = builder.group(&group("topic", "10.0.0.1", &[]));
    for key in 0..65_536 {
        builder.field(&format!("k{key}"), b"v");
    }
    builder.end_log(group, 1_760_000_000, 0);
    builder.take()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the invariants of `log-batch`, as its documentation lists them.
    fn is_valid(batch: &LogBatch) -> bool {
        let (logs, fields) = (batch.times.len(), batch.field_keys.len());
        let covers =
            |ends: &[u32], all: usize| ends.is_sorted() && ends.last().map_or(0, |&end| end as usize) == all;
        let within = |indices: &[u32], count: usize| indices.iter().all(|&index| (index as usize) < count);
        batch.log_groups.len() == logs
            && batch.field_ends.len() == logs
            && [0, logs].contains(&batch.nanos.len())
            && batch.nanos.iter().all(|&nanos| nanos < 1_000_000_000)
            && batch.value_ends.len() == fields
            && covers(&batch.field_ends, fields)
            && covers(&batch.value_ends, batch.values.len())
            && within(&batch.log_groups, batch.groups.len())
            && within(&batch.field_keys, batch.keys.len())
    }

    #[test]
    fn hostile_batches_are_valid_and_broken_ones_are_not() {
        assert!(is_valid(&access_logs(1_000)));
        for Hostile { check, batch, .. } in hostile() {
            assert!(is_valid(&batch), "{check}");
        }
        assert!(is_valid(&concat(hostile().iter().map(|hostile| &hostile.batch))));
        assert!(is_valid(&reserved_fields()) && is_valid(&repeated_keys()));
        assert!(RESERVED_KEYS.iter().all(|key| reserved_fields().keys.iter().any(|known| known == key)));
        for Broken { check, batch, .. } in broken() {
            assert!(!is_valid(&batch), "{check}");
        }
    }

    #[test]
    fn concat_keeps_all_logs() {
        let cases = hostile();
        let all = concat(cases.iter().map(|hostile| &hostile.batch));
        assert_eq!(all.len(), cases.iter().map(|hostile| hostile.batch.len()).sum::<usize>());
        assert!(all.log_fields(all.len() - 1).any(|(_, value)| value.len() == 16 << 20));
    }
}
