use super::super::{Header, LogGroupBuilder};
use super::*;

fn parse(bytes: &[u8]) -> Result<LogGroupView<'_>, Reason> {
    LogGroupView::parse(bytes).map_err(|malformed| malformed.reason)
}

/// Encoded by aliyun-log-python-sdk 0.9.52.
const PYTHON: &str = "0a1c0880e2cfaa0612080a016b1203ff007612050a016b12002515cd5b070a0608ffffffff0f1a0174220831302e302e302e312a016d320a0a04686f737412026831";

#[test]
fn python_sdk_group_round_trips() {
    let bytes = hex::decode(PYTHON).unwrap();
    let view = parse(&bytes).unwrap();
    assert_eq!((view.topic(), view.source(), view.machine_uuid()), (&b"t"[..], &b"10.0.0.1"[..], &b"m"[..]));
    assert_eq!(view.tags(), [(&b"host"[..], &b"h1"[..])]);
    assert_eq!((view.log_count(), view.newest_time()), (2, Some(u32::MAX)));
    let header = Header {
        topic: Some(view.topic()),
        source: Some(view.source()),
        machine_uuid: Some(view.machine_uuid()),
        tags: view.tags(),
    };
    let mut copy = LogGroupBuilder::new(&header);
    for log in view.logs() {
        let mut builder = copy.begin_log(log.time(), log.nanos());
        log.fields().for_each(|(key, value)| builder.field(key, value));
        builder.end_log();
    }
    assert_eq!(hex::encode(copy.finish()), PYTHON);
    let fields: Vec<_> = view.logs().flat_map(|log| log.fields()).collect();
    assert_eq!(fields, [(&b"k"[..], &b"\xff\0v"[..]), (&b"k"[..], &b""[..])]);
}

#[test]
fn last_value_wins_and_unknown_fields_are_skipped() {
    let log = b"\x12\x08\x0a\x01x\x0a\x01k\x12\x00\x08\x01\x08\x02\x25\x07\0\0\0\x25\x08\0\0\0\x48\x96\x01\x1a\x01v";
    let bytes = [
        b"\x1a\x01a\x0a",
        &[log.len() as u8][..],
        log,
        b"\x1a\x01b\x7a\x02zz\x79abcdefgh\x7dabcd\x12\x03cat\xf8\x01\x05",
    ]
    .concat();
    let view = parse(&bytes).unwrap();
    assert_eq!(view.topic(), b"b");
    let logs: Vec<_> = view.logs().collect();
    assert_eq!((logs.len(), logs[0].time(), logs[0].nanos()), (1, 2, Some(8)));
    assert_eq!(logs[0].fields().collect::<Vec<_>>(), [(&b"k"[..], &b""[..])]);
}

#[test]
fn empty_group_has_no_time() {
    let view = parse(b"").unwrap();
    assert_eq!((view.log_count(), view.newest_time()), (0, None));
}

#[test]
fn truncates_times_to_32_bits() {
    let view = parse(b"\x0a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01").unwrap();
    assert_eq!(view.newest_time(), Some(u32::MAX));
}

#[test]
fn errors_have_offset_and_reason() {
    let wire = |number, wire_type| Reason::WireType { number, wire_type };
    let missing = |message, field| Reason::Missing { message, field };
    let cases: [(&[u8], usize, Reason); 16] = [
        (b"\x0a", 1, Reason::Truncated),
        (b"\x0a\x05\x08", 1, Reason::Length),
        (b"\x0a\x03\x12\x02\x0a", 3, Reason::Length),
        (b"\x0a\x00", 2, missing("Log", "Time")),
        (b"\x0a\x02\x08\x80", 3, Reason::Truncated),
        (b"\x0a\x02\x25\x01", 3, Reason::Truncated),
        (b"\x0a\x06\x08\x01\x12\x02\x12\x00", 6, missing("Content", "Key")),
        (b"\x0a\x06\x08\x01\x12\x02\x0a\x00", 6, missing("Content", "Value")),
        (b"\x32\x02\x0a\x00", 2, missing("LogTag", "Value")),
        (b"\x08\x01", 1, wire(1, 0)),
        (b"\x0a\x02\x0d\x01", 3, wire(1, 5)),
        (b"\x7b\x7c", 1, wire(15, 3)),
        (b"\x7e", 1, wire(15, 6)),
        (b"\x00\x01", 1, Reason::FieldNumber { number: 0 }),
        (b"\x80\x80\x80\x80\x80\x01", 0, Reason::FieldNumber { number: 1 << 32 }),
        (b"\x0a\x0c\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02\x00", 3, Reason::Varint),
    ];
    for (bytes, offset, reason) in cases {
        assert_eq!(LogGroupView::parse(bytes).map(|_| ()), Err(Malformed { offset, reason }), "{bytes:02x?}");
    }
}
