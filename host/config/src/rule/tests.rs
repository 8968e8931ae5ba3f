use super::*;

fn problem(change: impl FnOnce(&mut Rule)) -> Option<String> {
    let mut rule = Rule::default();
    change(&mut rule);
    rule.check().err().map(|error| error.to_string())
}

#[test]
fn ranges_match_the_specification() {
    for (size, right) in [(4, false), (5, true), (256, true), (257, false), (0, false)] {
        assert_eq!(problem(|rule| rule.size_mb = size).is_none(), right, "{size} MB");
    }
    for (time, right) in [(299, false), (300, true), (900, true), (901, false)] {
        assert_eq!(problem(|rule| rule.time_seconds = time).is_none(), right, "{time} s");
    }
    for (open, right) in [(0, false), (1, true), (64, true), (65, false)] {
        assert_eq!(problem(|rule| rule.open_partitions = open).is_none(), right, "{open} partitions");
    }
    assert_eq!(problem(|rule| rule.size_mb = 257).unwrap(), "rule: size_mb: 257 is out of range: 5-256 MB");
}

#[test]
fn names_match_the_specification() {
    let long = "a".repeat(63);
    for name in ["abc", "a-b", "a_1", "0a0", &long] {
        assert_eq!(problem(|rule| rule.name = name.into()), None, "{name}");
    }
    let longer = "a".repeat(64);
    for name in ["", "ab", "-ab", "ab-", "_ab", "aBc", "a b", "a/b", "äbc", &longer] {
        assert!(problem(|rule| rule.name = name.into()).unwrap().contains("name"), "{name}");
    }
}

#[test]
fn file_errors_have_problem_and_position() {
    let folder = "/etc/logship";
    let parse = |text: &str| Rule::parse(text, Path::new("/etc/logship/rule.toml"));
    let rule = parse("prefix = 'p'\ntime_zone = '+08:00'\ncompression = { type = 'gzip', level = 9 }\ntransform = ['./t.wasm', { type = 'fields', drop = ['a'] }]\n[stages]\nencoder = './x.wasm'\n").unwrap();
    assert_eq!((rule.prefix.as_str(), rule.size_mb), ("p", 256));
    assert_eq!(rule.compression.settings["level"], 9);
    assert_eq!(rule.time_zone.offset(chrono::DateTime::UNIX_EPOCH), 28_800);
    assert!(rule.stages.encoder.unwrap().starts_with(folder));
    let [from_file, built_in] = &rule.transform[..] else { panic!("{:?}", rule.transform) };
    assert!(from_file.name.starts_with(folder) && from_file.settings.is_empty());
    assert_eq!((built_in.name.as_str(), built_in.settings["drop"][0].as_str()), ("fields", Some("a")));
    assert!(
        problem(|rule| rule.transform = vec![StageSpec::named("fields"); 9]).unwrap().contains("8 at most")
    );
    for (text, expected) in [
        ("size = 5", "unknown field `size`"),
        ("size_mb = 'big'", "line 1"),
        ("time_zone = 'Mars'", "no time zone"),
        ("[format]\ncolumns = []", "a name, or a table with `type`"),
        ("name = ", "line 1"),
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("rule.toml"), "{error}");
    }
}

#[test]
fn time_zone_follows_daylight_saving() {
    let zone: TimeZone = "Europe/Berlin".parse().unwrap();
    let at = |text: &str| zone.offset(text.parse().unwrap());
    assert_eq!((at("2026-01-01T00:00:00Z"), at("2026-07-01T00:00:00Z")), (3600, 7200));
}
