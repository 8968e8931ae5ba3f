use super::*;

/// Returns the losses of a batch, as `COLUMN COUNT EXAMPLE: REASON`.
fn losses(config: &str, batch: &Batch) -> Vec<String> {
    let mut encoder = ParquetEncoder::open(config).unwrap();
    encoder.push(batch).unwrap();
    let told = |loss: Loss| format!("{} {} {}: {}", loss.column, loss.count, loss.example, loss.reason);
    encoder.take_losses().into_iter().map(told).collect()
}

#[test]
fn values_that_do_not_fit_are_counted_by_column() {
    let batch = BatchBuilder::new()
        .log(
            1,
            &[("s", "x"), ("b", "maybe"), ("i", "2147483648"), ("l", "9223372036854775808"), ("f", "1e39")],
        )
        .log(2, &[("b", ""), ("i", "1.0"), ("l", "-"), ("d", "NaN")])
        .log(3, &[("b", "true"), ("i", "1"), ("l", "1"), ("f", "0.1"), ("d", "0.1")])
        .log(4, &[("l", "1"), ("l", "2"), ("other", "1"), ("other", "2")])
        .build();
    let expected = [
        "l 3 1: is not the last value of its key",
        "b 2 maybe: is not a boolean",
        "i 2 2147483648: is not an int32",
        "f 1 1e39: is not a finite float",
        "d 1 NaN: is not a finite double",
    ];
    assert_eq!(losses(ALL_TYPES, &batch), expected);
    let missing = BatchBuilder::new().log(1, &[]).log(2, &[("s", "")]).build();
    assert_eq!(losses(ALL_TYPES, &missing), [] as [&str; 0]);
    let late = BatchBuilder::new().log(2_147_483_648, &[]).build();
    let time = r#"{"columns": [{"key": "__time__", "type": "int32"}]}"#;
    assert_eq!(losses(time, &late), ["__time__ 1 2147483648: is not an int32"]);
}

#[test]
fn digits_that_a_number_does_not_keep_are_lost() {
    for value in
        ["9007199254740993", "12345678901234567.89", "0.1000000000000000000000001", "18446744073709551615"]
    {
        let batch = BatchBuilder::new().log(1, &[("d", value)]).build();
        assert_eq!(losses(ALL_TYPES, &batch), [format!("d 1 {value}: has more digits than a double keeps")]);
        let row = rows(encode(ALL_TYPES, &[batch])).remove(0);
        assert_eq!(row[5], Field::Double(value.parse().unwrap()), "the nearest number is kept");
    }
    for value in [
        "9007199254740992",
        "9223372036854775808",
        "12345678901234567000",
        "100000000000000000000000000000",
        "0.30000000000000004",
        "0.10000000000000000555",
        "1.7976931348623157e308",
        "-2.2250738585072014E-308",
        "0.000000000000000000000000000000000001",
    ] {
        let batch = BatchBuilder::new().log(1, &[("d", value)]).build();
        assert_eq!(losses(ALL_TYPES, &batch), [] as [&str; 0], "{value}");
    }
    let float = |value| losses(ALL_TYPES, &BatchBuilder::new().log(1, &[("f", value)]).build());
    assert_eq!(float("16777217"), ["f 1 16777217: has more digits than a float keeps"]);
    assert_eq!(float("0.123456789012345678"), [] as [&str; 0], "a float is known to round fractions");
}

#[test]
fn rejects_column_has_the_values_that_do_not_fit() {
    let config = r#"{"columns": [{"key": "i", "type": "int32"}, {"key": "d", "type": "double"}], "rejects_column": "_rejects"}"#;
    let mut batch = BatchBuilder::new();
    for log in 0..600 {
        batch = match log {
            299 => batch.log_bytes(log, &[("d", b"a \"quoted\"\n\xff"), ("i", b"")]),
            _ => batch.log(log, &[("i", "1"), ("d", "0.5")]),
        };
    }
    let found = rows(encode(config, &[batch.build()]));
    for (log, row) in found.iter().enumerate() {
        let expected = match log {
            299 => [Field::Null, Field::Null, text("{\"i\":\"\",\"d\":\"a \\\"quoted\\\"\\n\u{fffd}\"}")],
            _ => [Field::Int(1), Field::Double(0.5), Field::Null],
        };
        assert_eq!(row[..], expected, "log {log}");
    }
    let error = ParquetEncoder::open(&config.replace("_rejects", "d")).unwrap_err().to_string();
    assert!(error.starts_with("rejects_column: \"d\" is also columns[1]"), "{error}");
    let error = ParquetEncoder::open(&config.replace("_rejects", "")).unwrap_err().to_string();
    assert!(error.starts_with("rejects_column: empty name"), "{error}");
}
