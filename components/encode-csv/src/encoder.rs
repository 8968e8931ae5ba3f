use logship_stage::columns::{Cell, Columns};
use logship_stage::encode::Description;
use logship_stage::{Batch, Encoder, Loss, Losses, Output, Result, Text, config};

use crate::field::{Fields, Quoting};
use crate::{Config, InvalidUtf8};

/// An open CSV object.
#[derive(Debug)]
pub struct CsvEncoder {
    columns: Columns,
    dialect: Dialect,
    /// The header line, until it is returned.
    header: Vec<u8>,
    /// The size of the header and the lines so far, in bytes.
    size: u64,
    /// The output bytes per byte of values in the last push, in sixteenths.
    expansion: usize,
    losses: Losses,
}

impl Encoder for CsvEncoder {
    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            format: "csv".into(),
            suffix: ".csv".into(),
            media_type: "text/csv".into(),
            config_schema: config::schema::<Config>(),
            compressions: vec![],
        }
    }

    fn open(text: &str) -> Result<Self> {
        let config: Config = config::parse(text)?;
        config.check()?;
        let columns = Columns::new(config.columns.iter().map(String::as_str))?;
        let dialect = Dialect::of(&config);
        let mut header = dialect.fields(Output::default(), &[], true);
        if config.header {
            let names: Vec<_> = config.columns.iter().map(|key| Cell::Bytes(key.as_bytes())).collect();
            dialect.push_line(&mut header, &names);
        }
        let header = header.out.into_bytes();
        let losses = Losses::default();
        Ok(Self { columns, dialect, size: header.len() as u64, header, expansion: 32, losses })
    }

    fn push(&mut self, batch: &Batch) -> Result<Vec<u8>> {
        self.columns.count_repeats(batch, &mut self.losses);
        let values = &batch.raw().values;
        let header = std::mem::take(&mut self.header);
        let lines = (self.columns.len() + 16) * batch.len();
        let mut out = Output::with_capacity(header.len() + values.len() / 16 * self.expansion + lines);
        out.push(&header);
        let utf8 = self.dialect.invalid_utf8 == InvalidUtf8::Keep || batch.values_are_utf8();
        let mut fields = self.dialect.fields(out, values, utf8);
        self.columns.for_each_row(batch, |_, cells| {
            self.dialect.push_line(&mut fields, cells);
            Ok(())
        })?;
        let bytes = fields.out.into_bytes();
        self.expansion = (bytes.len() / (values.len() / 16).max(1)).clamp(4, 64) + 1;
        self.size += (bytes.len() - header.len()) as u64;
        Ok(bytes)
    }

    fn take_losses(&mut self) -> Vec<Loss> {
        self.losses.take()
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn finish(self) -> Result<Vec<u8>> {
        Ok(self.header)
    }
}

/// The CSV dialect.
#[derive(Debug)]
struct Dialect {
    quoting: Quoting,
    null: Vec<u8>,
    /// The null text, padded for fast appending.
    missing: Text,
    invalid_utf8: InvalidUtf8,
}

/// The line that PostgreSQL treats as the end of the data.
const END_OF_DATA: &[u8] = b"\\.";

impl Dialect {
    fn of(config: &Config) -> Self {
        Self {
            // `Config::check` made sure that both are ASCII.
            quoting: Quoting { delimiter: config.delimiter as u8, quote: config.quote as u8 },
            null: config.null.clone().into_bytes(),
            missing: Text::from(config.null.as_bytes()),
            invalid_utf8: config.invalid_utf8,
        }
    }

    fn fields<'a>(&self, out: Output, values: &'a [u8], utf8: bool) -> Fields<'a> {
        Fields { out, quoting: self.quoting, values, utf8 }
    }

    /// Appends a line.
    #[inline(never)]
    fn push_line(&self, fields: &mut Fields<'_>, cells: &[Cell<'_>]) {
        let start = fields.out.len();
        let is_only_cell = cells.len() == 1;
        let is_fast = fields.utf8 && !is_only_cell;
        let mut left = cells;
        while !left.is_empty() {
            if is_fast {
                left = &left[fields.push_fast(left, self.null.len())..];
            }
            if let Some((cell, others)) = left.split_first() {
                self.push_cell(fields, is_only_cell, cell);
                fields.out.push_byte(self.quoting.delimiter);
                left = others;
            }
        }
        // The line break replaces the delimiter after the last field.
        fields.out.truncate(fields.out.len() - 1);
        if fields.out.len() == start {
            fields.push_quoted(b"");
        }
        fields.out.push_byte(b'\n');
    }

    /// Appends any cell.
    #[inline(never)]
    fn push_cell(&self, fields: &mut Fields<'_>, is_only_cell: bool, cell: &Cell<'_>) {
        match *cell {
            Cell::Missing => fields.out.push_text(&self.missing),
            // Numbers need the same checks as texts: the delimiter may be a digit.
            Cell::Number(number) => self.push_value(fields, itoa::Buffer::new().format(number).as_bytes()),
            Cell::Bytes(END_OF_DATA) if is_only_cell => fields.push_quoted(END_OF_DATA),
            Cell::Bytes(value) if fields.utf8 || simdutf8::basic::from_utf8(value).is_ok() => {
                self.push_value(fields, value);
            }
            Cell::Bytes(value) => self.push_value(fields, String::from_utf8_lossy(value).as_bytes()),
        }
    }

    fn push_value(&self, fields: &mut Fields<'_>, value: &[u8]) {
        if value == self.null { fields.push_quoted(value) } else { fields.push(value) }
    }
}

#[cfg(test)]
mod tests {
    use logship_stage::BatchBuilder;
    use proptest::prelude::*;

    use super::*;

    fn encode(config: &str, batch: &Batch) -> Vec<u8> {
        let mut encoder = CsvEncoder::open(config).unwrap();
        let before = encoder.size();
        let first = encoder.push(batch).unwrap();
        assert!(before == 0 || first.len() as u64 > before || batch.is_empty());
        assert_eq!(encoder.size(), first.len() as u64);
        assert_eq!(encoder.finish().unwrap(), b"");
        first
    }

    fn encode_text(config: &str, batch: &Batch) -> String {
        String::from_utf8(encode(config, batch)).unwrap()
    }

    /// One log with the field `a`.
    fn a(value: &str) -> Batch {
        BatchBuilder::new().log(1, &[("a", value)]).build()
    }

    #[test]
    fn columns_keep_their_order() {
        let batch = BatchBuilder::new()
            .group("nginx", "10.0.0.1", &[("host", "web,1")])
            .log(1_484_913_043, &[("z", "1"), ("a", "x"), ("z", "2")])
            .nanos(5)
            .group("", "", &[])
            .log(0, &[("b", "not a column")])
            .build();
        let config = r#"{"columns":
            ["z", "__time__", "__time_ns_part__", "__topic__", "__source__", "__tag__:host"]}"#;
        let expected = "2,1484913043,5,nginx,10.0.0.1,\"web,1\"\n,0,0,\"\",\"\",\n";
        assert_eq!(encode_text(config, &batch), expected);
    }

    #[test]
    fn quotes_fields_with_delimiter_quote_or_line_break() {
        let quoted = |value| encode_text(r#"{"columns": ["a", "b"]}"#, &a(value));
        assert_eq!(quoted("plain; 'text'\t"), "plain; 'text'\t,\n");
        assert_eq!(quoted("x,y"), "\"x,y\",\n");
        assert_eq!(quoted("say \"no\""), "\"say \"\"no\"\"\",\n");
        assert_eq!(quoted("two\nlines"), "\"two\nlines\",\n");
        assert_eq!(quoted("\r"), "\"\r\",\n");
        let other = r#"{"columns": ["a", "b"], "delimiter": "\t", "quote": "'"}"#;
        assert_eq!(encode_text(other, &a("it's, \"so\"")), "'it''s, \"so\"'\t\n");
        let digits = r#"{"columns": ["__time__", "a"], "delimiter": "1"}"#;
        assert_eq!(encode_text(digits, &a("x")), "\"1\"1x\n");
    }

    #[test]
    fn null_differs_from_equal_value() {
        let two = |null: &str, value: &str| {
            encode_text(&format!(r#"{{"columns": ["a", "b"], "null": "{null}"}}"#), &a(value))
        };
        assert_eq!(two("", ""), "\"\",\n");
        assert_eq!(two(r"\\N", ""), ",\\N\n");
        assert_eq!(two(r"\\N", r"\N"), "\"\\N\",\\N\n");
        let zero = r#"{"columns": ["__time_ns_part__", "a"], "null": "0"}"#;
        let batch = BatchBuilder::new().log(1, &[]).nanos(0).log(1, &[]).build();
        assert_eq!(encode_text(zero, &batch), "\"0\",0\n\"0\",0\n");
    }

    #[test]
    fn single_column_has_no_blank_line_or_end_of_data() {
        let batch = BatchBuilder::new().log(1, &[]).log(1, &[("a", "")]).log(1, &[("a", "\\.")]).build();
        assert_eq!(encode_text(r#"{"columns": ["a"]}"#, &batch), "\"\"\n\"\"\n\"\\.\"\n");
        assert_eq!(encode_text(r#"{"columns": ["a"], "null": "-"}"#, &batch), "-\n\"\"\n\"\\.\"\n");
        assert_eq!(encode_text(r#"{"columns": ["a", "b"]}"#, &a("\\.")), "\\.,\n");
    }

    #[test]
    fn writes_header_once_even_without_logs() {
        let config = r#"{"columns": ["a,b", "__time__"], "header": true}"#;
        let mut encoder = CsvEncoder::open(config).unwrap();
        assert_eq!(encoder.push(&a("")).unwrap(), b"\"a,b\",__time__\n,1\n");
        assert_eq!(encoder.push(&a("")).unwrap(), b",1\n");
        assert_eq!(encoder.size(), 21);
        assert_eq!(encoder.finish().unwrap(), b"");
        let encoder = CsvEncoder::open(config).unwrap();
        assert_eq!(encoder.size(), 15);
        assert_eq!(encoder.finish().unwrap(), b"\"a,b\",__time__\n".to_vec());
    }

    #[test]
    fn replaces_or_keeps_invalid_utf8() {
        let batch = BatchBuilder::new().log_bytes(1, &[("a", b"x\xff,y"), ("b", "né".as_bytes())]).build();
        let config = r#"{"columns": ["a", "b"]}"#;
        assert_eq!(encode_text(config, &batch), "\"x\u{fffd},y\",né\n");
        let keep = r#"{"columns": ["a", "b"], "invalid_utf8": "keep"}"#;
        assert_eq!(encode(keep, &batch), b"\"x\xff,y\",n\xc3\xa9\n");
    }

    #[test]
    fn rejects_unreadable_dialects_by_setting() {
        let rejected = |config: &str| {
            let config = config.replacen('{', r#"{"columns": ["a"], "#, 1);
            CsvEncoder::open(&config).unwrap_err().to_string()
        };
        for path in ["delimiter", "quote"] {
            for value in [r"\n", r"\r", r"\u0000", "é", "ab", ""] {
                let error = rejected(&format!(r#"{{"{path}": "{value}"}}"#));
                assert!(error.starts_with(&format!("{path}: ")), "{error}");
            }
        }
        assert_eq!(rejected(r#"{"delimiter": "\""}"#), "quote: '\"' is also the delimiter; choose another");
        for null in [",", r#"\""#, r"a\nb"] {
            assert!(rejected(&format!(r#"{{"null": "{null}"}}"#)).starts_with("null: "));
        }
        assert!(rejected(r#"{"escape": "x"}"#).contains("unknown field `escape`"));
        assert!(CsvEncoder::open("").unwrap_err().to_string().starts_with("columns: no columns"));
        assert!(
            CsvEncoder::open(r#"{"columns": ["a", "a"]}"#).unwrap_err().to_string().starts_with("columns[1]")
        );
    }

    #[test]
    fn schema_requires_columns() {
        let schema = CsvEncoder::describe().config_schema;
        assert!(schema.contains(r#""required":["columns"]"#), "{schema}");
    }

    /// Generates hostile values.
    fn value() -> impl Strategy<Value = Vec<u8>> {
        let hostile = prop::sample::select(vec![
            &b","[..],
            b"\"",
            b"\r",
            b"\n",
            b"'",
            b"\\",
            b" ",
            b"N",
            b"x",
            b"\xff",
            "é".as_bytes(),
        ]);
        prop_oneof![prop::collection::vec(hostile, 0..40).prop_map(|parts| parts.concat()), any::<Vec<u8>>()]
    }

    proptest! {
        #[test]
        fn output_round_trips_through_another_reader(
            logs in prop::collection::vec(
                (any::<u32>(), prop::option::of(value()), prop::option::of(value())), 0..8,
            ),
            (delimiter, quote) in
                prop::sample::select(vec![(',', '"'), ('\t', '\''), ('|', '\\'), ('x', 'N'), ('1', '0')]),
            null_text in prop::sample::select(vec!["", "-", "4294967295", " "]),
            columns in prop::sample::select(vec![
                vec!["a"], vec!["b", "__time__"], vec!["a", "b"], vec!["__time__", "a", "gone", "b"],
            ]),
            keep: bool, header: bool,
        ) {
            prop_assume!(!null_text.contains([delimiter, quote]));
            let config = serde_json::json!({
                "columns": columns, "delimiter": delimiter, "quote": quote, "null": null_text, "header": header,
                "invalid_utf8": if keep { "keep" } else { "replace" },
            });
            let mut encoder = CsvEncoder::open(&config.to_string()).unwrap();
            let mut text = vec![];
            let mut expected: Vec<Vec<Vec<u8>>> = vec![];
            if header {
                expected.push(columns.iter().map(|key| key.as_bytes().to_vec()).collect());
            }
            for (time, a, b) in &logs {
                let fields: Vec<_> = [("a", a), ("b", b)]
                    .into_iter()
                    .filter_map(|(key, value)| Some((key, value.as_deref()?)))
                    .collect();
                text.extend(encoder.push(&BatchBuilder::new().log_bytes(*time, &fields).build()).unwrap());
                expected.push(columns.iter().map(|&column| match (column, a, b) {
                    ("__time__", _, _) => time.to_string().into_bytes(),
                    ("a", Some(value), _) | ("b", _, Some(value)) if keep => value.clone(),
                    ("a", Some(value), _) | ("b", _, Some(value)) => {
                        String::from_utf8_lossy(value).into_owned().into_bytes()
                    }
                    _ => null_text.as_bytes().to_vec(),
                }).collect());
            }
            prop_assert_eq!(encoder.size(), (text.len() + encoder.header.len()) as u64);
            text.extend(encoder.finish().unwrap());
            let mut reader = csv::ReaderBuilder::new()
                .has_headers(false)
                .delimiter(delimiter as u8)
                .quote(quote as u8)
                .from_reader(&text[..]);
            let read: Vec<Vec<Vec<u8>>> = reader
                .byte_records()
                .map(|record| record.unwrap().iter().map(<[u8]>::to_vec).collect())
                .collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn output_is_independent_of_batch_boundaries(
            values in prop::collection::vec(prop::option::of(value()), 0..20), cut in 0..20usize,
        ) {
            let batch = |values: &[Option<Vec<u8>>]| {
                let log = |builder: BatchBuilder, value: &Option<Vec<u8>>| match value {
                    Some(value) => builder.log_bytes(1, &[("a", value)]),
                    None => builder.log_bytes(1, &[]),
                };
                values.iter().fold(BatchBuilder::new(), log).build()
            };
            let mut encoder = CsvEncoder::open(r#"{"columns": ["a", "__time__"]}"#).unwrap();
            let at_once = encoder.push(&batch(&values)).unwrap();
            let (before, others) = values.split_at(cut.min(values.len()));
            let mut encoder = CsvEncoder::open(r#"{"columns": ["a", "__time__"]}"#).unwrap();
            let parts = [encoder.push(&batch(before)).unwrap(), encoder.push(&batch(others)).unwrap()].concat();
            prop_assert_eq!(at_once, parts);
        }
    }
}
