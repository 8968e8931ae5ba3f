use super::*;

/// The script of the guide.
const GUIDE: &str = r#"{ "type": "job", "version": "1.0",
  "configuration": {
    "reader": { "plugin": "loghub", "parameter": {
      "datasource": "my_loghub", "logstore": "access", // the source
      "beginDateTime": "${startTime}", "endDateTime": "${endTime}",
      "batchSize": 256, "splitPk": "",
      "column": ["key1", "key2"] } },
    "writer": { "plugin": "odps", "parameter": {
      "datasource": "odps_first", "table": "ok", "truncate": true, "partition": "pt=${bizdate}",
      "column": ["key1", "key2"] } },
    "setting": { "speed": { "mbps": 8, "concurrent": 7 }, "errorLimit": { "record": "5" } } } }"#;

fn parse(script: &str) -> Result<Job, String> {
    let parsed = Job::parse(script, Path::new("folder/access_to_ok.json"));
    let checked = parsed.and_then(|job| job.check().map(|()| job));
    checked.map_err(|error| error.to_string())
}

fn problem(from: &str, to: &str) -> String {
    assert!(GUIDE.contains(from), "{from}");
    parse(&GUIDE.replacen(from, to, 1)).unwrap_err()
}

#[test]
fn accepts_the_script_of_the_guide() {
    let job = parse(GUIDE).unwrap();
    assert_eq!(job.name, "access_to_ok");
    assert_eq!((job.concurrent(), job.rate()), (7, Some(8_000_000)));
    assert_eq!((job.error_limit().record, job.error_limit().percentage), (Some(5), None));
    assert_eq!(job.reader().batch_size, Some(256));
    assert!(job.writer().truncate && job.warnings().is_empty());
    let stored = serde_json::to_string(&job).unwrap();
    assert_eq!(Job::parse(&stored, Path::new("x")).unwrap(), job);
}

#[test]
fn numbers_may_be_text_or_missing() {
    let texts = GUIDE.replace(
        "\"mbps\": 8, \"concurrent\": 7",
        "\"mbps\": \"1\", \"concurrent\": \"2\", \"dmu\": 1, \"throttle\": false",
    );
    let job = parse(&texts.replace("\"5\"", "\"\", \"percentage\": \"0.02\"")).unwrap();
    assert_eq!((job.concurrent(), job.rate()), (2, None));
    assert_eq!((job.error_limit().record, job.error_limit().percentage), (None, Some(0.02)));
    assert_eq!(job.warnings().len(), 1);
    let short = GUIDE
        .replace(", \"errorLimit\": { \"record\": \"5\" }", "")
        .replace("\"mbps\": 8, \"concurrent\": 7", "");
    let job = parse(&short).unwrap();
    assert_eq!((job.concurrent(), job.rate(), job.error_limit().record), (1, None, None));
}

#[test]
fn accepts_toml() {
    let script = r#"
        [configuration.reader]
        plugin = "loghub"
        [configuration.reader.parameter]
        logstore = "access"
        beginDateTime = "$[yyyymmddhh24miss-10/24/60]" # ten minutes ago
        endDateTime = "$[yyyymmddhh24miss-5/24/60]"
        column = "*"
        [configuration.writer]
        plugin = "odps"
        parameter = { datasource = "m", table = "t", column = ["*"] }
        [schedule]
        every-minutes = 5
        start = "next-day"
    "#;
    let job = Job::parse(script, Path::new("a.toml")).unwrap();
    job.check().unwrap();
    assert_eq!(job.reader().column, [ReaderColumn::All]);
    assert_eq!(job.schedule.unwrap().every_minutes, 5);
    let error =
        Job::parse(&script.replace("logstore", "logstor"), Path::new("a.toml")).unwrap_err().to_string();
    assert!(error.contains("a.toml") && error.contains("logstor") && error.contains("line 5"), "{error}");
}

#[test]
fn names_unknown_members_with_their_line() {
    for (from, to, expected) in [
        ("\"splitPk\"", "\"splitpk\"", ["line 6", "splitpk"]),
        ("\"mbps\"", "\"mbs\"", ["line 11", "mbs"]),
        ("\"truncate\"", "\"overwrite\"", ["line 9", "overwrite"]),
        ("\"configuration\"", "\"config\"", ["line 2", "config"]),
        ("\"loghub\"", "\"mysql\"", ["line 3", "mysql"]),
        ("\"odps\"", "\"ots\"", ["line 8", "ots"]),
        ("\"1.0\"", "\"2.0\"", ["line 1", "2.0"]),
        ("\"record\"", "\"records\"", ["line 11", "records"]),
        (
            "\"key1\", \"key2\"] } },\n    \"writer\"",
            "\"now()\", \"key2\"] } },\n    \"writer\"",
            ["line 7", "now(): Not identified"],
        ),
        ("\"batchSize\": 256", "\"batchSize\": \"many\"", ["line 6", "many"]),
        ("pt=${bizdate}", "pt=$[yyyymmddhhmi]", ["line 9", "`hh` is ambiguous"]),
        ("\"logstore\"", "\"logstore\": \"a\", \"logstore\"", ["line 4", "duplicate field"]),
    ] {
        let shown = problem(from, to);
        assert!(expected.iter().all(|part| shown.contains(part)), "{shown}");
    }
    assert!(problem("\"logstore\": \"access\",", "").contains("missing field `logstore`"));
}

#[test]
fn rejects_values_out_of_range() {
    for (from, to, expected) in [
        ("\"mbps\": 8", "\"mbps\": 0", "setting.speed.mbps: 0 is out of range"),
        ("\"concurrent\": 7", "\"concurrent\": 65", "concurrent: 65"),
        ("256", "1001", "batchSize: 1001"),
        ("\"record\": \"5\"", "\"percentage\": 2", "percentage: 2 is out of range"),
        ("\"access\"", "\" \"", "reader.logstore: is empty"),
        ("\"ok\"", "\"\"", "writer.table: is empty"),
        ("\"key1\", \"key2\"] } },\n    \"writer\"", "] } },\n    \"writer\"", "reader.column: is empty"),
        ("\"version\"", "\"name\": \"1x\", \"version\"", "name: \"1x\" is invalid"),
        ("\"version\"", "\"schedule\": {\"everyMinutes\": 4}, \"version\"", "everyMinutes: 4"),
    ] {
        let shown = problem(from, to);
        assert!(shown.contains(expected), "{shown}");
    }
}

#[test]
fn limits_dirty_rows_by_count_and_fraction() {
    let limit = |record, percentage| ErrorLimit { record, percentage };
    assert!(!limit(None, None).is_exceeded(1000, 1000));
    assert!(!limit(Some(0), None).is_exceeded(0, 10) && limit(Some(0), None).is_exceeded(1, 10));
    assert!(!limit(None, Some(0.02)).is_exceeded(2, 100) && limit(None, Some(0.02)).is_exceeded(3, 100));
    assert!(limit(Some(10), Some(0.0)).is_exceeded(1, 100));
}
