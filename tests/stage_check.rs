//! `logship stage check` finds what is wrong: each check is failed by a stage that was made for it.

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use logship::conformance::{self, Report, Settings};
use logship::engine::{Engine, Limits};
use logship::registry::Registry;

/// What each act of the encoder fails: these checks, and no others unless there is a `…`.
const ENCODER: [(&str, &str); 40] = [
    ("behave", ""),
    ("trap", "keeps-to-its-room takes-one-log keeps-memory-flat …"),
    ("recurse", "keeps-to-its-room …"),
    ("allocate", "keeps-to-its-room …"),
    ("grow", "keeps-to-its-room …"),
    ("loop", "keeps-to-its-room"),
    ("loop-of-fills", "keeps-to-its-room"),
    ("loop-of-calls", "keeps-to-its-room"),
    ("reject", "keeps-to-its-room …"),
    ("too-large", "keeps-to-its-room …"),
    ("trap-at-end", "keeps-to-its-room finishes-without-a-chunk …"),
    ("giant", "answers-in-proportion"),
    ("count-chunks", "gives-the-same-bytes-for-other-cuts"),
    ("count-all", "gives-the-same-bytes-again …"),
    ("count-objects", "keeps-objects-apart gives-the-same-bytes-for-other-cuts"),
    ("count-given-up", "goes-on-when-one-is-given-up"),
    ("leak", "keeps-memory-flat"),
    ("size-of-nothing", "tells-its-size"),
    ("size-of-twice", "tells-its-size"),
    ("size-that-falls", "tells-its-size"),
    ("size-that-counts", "tells-its-size"),
    ("trust", BROKEN),
    ("trap-on-broken", BROKEN),
    ("trap-on-empty", "takes-an-empty-batch gives-the-same-bytes-for-other-cuts"),
    ("trap-on-one-log", "takes-one-log …"),
    ("trap-on-no-fields", "takes-a-log-without-fields"),
    ("trap-on-empty-key", "takes-empty-values"),
    ("trap-on-duplicate-keys", "takes-duplicate-keys"),
    ("trap-on-invalid-utf8", "takes-invalid-utf-8"),
    ("trap-on-control-characters", "takes-control-characters"),
    ("trap-on-wide-characters", "takes-wide-characters"),
    ("trap-on-odd-numbers", "takes-odd-numbers"),
    ("trap-on-time-zero", "takes-times-at-the-edge"),
    ("trap-on-many-groups", "takes-many-groups"),
    ("trap-on-many-keys", "takes-65536-keys"),
    ("trap-on-large-value", "takes-a-value-of-16-mb"),
    ("describe-another", "describes-itself"),
    ("ignore-settings", "refuses-an-unknown-setting"),
    ("ignore-json", "refuses-what-is-no-json"),
    ("hide-setting", "refuses-an-unknown-setting"),
];

/// The checks with batches that break an invariant.
const BROKEN: &str = "refuses-times-too-few refuses-nanos-too-few refuses-nanos-too-large refuses-groups-too-few \
    refuses-a-group-outside refuses-a-key-outside refuses-values-too-few refuses-field-ends-that-fall \
    refuses-field-ends-outside refuses-value-ends-that-fall refuses-value-ends-outside refuses-values-left-over";

const FORMATTER: [(&str, &str); 11] = [
    ("behave", ""),
    ("ends-beyond", "keeps-to-its-room takes-one-log …"),
    ("ends-that-fall", "keeps-to-its-room …"),
    ("too-few", "keeps-to-its-room …"),
    ("logs-beyond", "keeps-to-its-room takes-one-log …"),
    ("logs-that-fall", "keeps-to-its-room …"),
    ("line-feeds", "adds-no-separator"),
    ("no-json", "makes-events"),
    ("no-event", "makes-events"),
    ("sulk", "goes-on-after-a-refusal"),
    ("trust", "refuses-times-too-few refuses-nanos-too-few …"),
];

const COMPRESSOR: [(&str, &str); 7] = [
    ("count", "is-what-it-is-called"),
    ("double", "compresses is-what-it-is-called gives-the-same-bytes-for-other-cuts"),
    ("trap-on-empty", "takes-an-empty-chunk is-what-it-is-called gives-the-same-bytes-for-other-cuts"),
    ("trap-on-one-byte", "takes-one-byte is-what-it-is-called"),
    ("trap-on-noise", "takes-noise …"),
    ("trap-on-large", "takes-a-chunk-of-16-mb …"),
    ("too-large", "keeps-to-its-room compresses …"),
];

const RENDERER: [(&str, &str); 14] = [
    ("behave", ""),
    (
        "trust-prefix",
        "takes-no-prefix takes-a-prefix-that-climbs takes-a-prefix-of-slashes takes-control-characters \
         takes-a-long-prefix",
    ),
    ("trust-partition", "takes-no-partition"),
    ("trap-on-a-cut-directive", "takes-an-unknown-directive"),
    ("leave-the-number-out", "gives-different-keys"),
    ("count", "gives-the-same-key-again"),
    ("trap-on-no-prefix", "takes-no-prefix"),
    ("trap-on-no-partition", "takes-no-partition"),
    ("trap-on-no-names", "takes-no-names"),
    ("trap-on-control-characters", "takes-control-characters"),
    ("trap-on-wide-characters", "takes-wide-characters"),
    ("trap-on-the-last-number", "takes-times-at-the-edge"),
    ("leak", "keeps-memory-flat"),
    ("loop", "takes-its-configuration"),
];

/// A registry whose stages may take so long.
fn registry(deadline: Duration) -> Registry {
    let limits = Limits { deadline, ..Limits::default() };
    Registry::new(Engine::new(limits, Some(&support::cache())).unwrap())
}

fn check(registry: &Registry, component: &Path, act: &str) -> Report {
    let config = format!("{{\"act\":\"{act}\"}}");
    // A kilobyte of each is seen to leak from some thousands on.
    let chunks = if act == "leak" { 4_000 } else { 200 };
    let settings = Settings { config: Some(config), speed: false, chunks, ..Settings::default() };
    conformance::check(registry, &component.display().to_string(), &settings)
}

/// Runs each act, and gives the names of all checks that were seen, and of those that failed.
fn run(stage: &str, acts: &[(&str, &str)]) -> (BTreeSet<String>, BTreeSet<String>) {
    let component = support::example(stage);
    let (patient, impatient) = (registry(Duration::from_secs(60)), registry(Duration::from_millis(300)));
    let (mut seen, mut all_failed, mut wrong) = (BTreeSet::new(), BTreeSet::new(), String::new());
    for (act, expected) in acts {
        let registry = if act.starts_with("loop") { &impatient } else { &patient };
        let report = check(registry, &component, act);
        let failed: BTreeSet<_> = report.failed().map(str::to_owned).collect();
        let open = expected.ends_with('…');
        let expected = expected.split_whitespace().filter(|name| *name != "…").map(str::to_owned);
        let expected: BTreeSet<_> = expected.collect();
        let right = if open { failed.is_superset(&expected) } else { failed == expected };
        if !right {
            wrong += &format!("{act} should fail {expected:?}, and here it is\n{report}\n");
        }
        seen.extend(report.findings.into_iter().map(|finding| finding.check));
        all_failed.extend(failed);
    }
    assert!(wrong.is_empty(), "{wrong}");
    (seen, all_failed)
}

/// The checks that none of the acts failed.
fn unfailed(stage: &str, acts: &[(&str, &str)]) -> Vec<String> {
    let (seen, failed) = run(stage, acts);
    seen.difference(&failed).cloned().collect()
}

#[test]
fn each_check_of_an_encoder_is_failed_by_name() {
    // What is left has tests of its own below and beside the code.
    let left =
        ["describes-its-configuration", "is-fast-enough", "keeps-the-contract", "takes-its-configuration"];
    assert_eq!(unfailed("misbehaving-stage", &ENCODER), left);
}

#[test]
fn each_check_of_a_formatter_is_failed_by_name() {
    let left = unfailed("misbehaving-formatter", &FORMATTER);
    for check in ["adds-no-separator", "makes-events", "goes-on-after-a-refusal", "keeps-to-its-room"] {
        assert!(left.iter().all(|left| left != check), "{check}");
    }
}

#[test]
fn each_check_of_a_compressor_is_failed_by_name() {
    let left = unfailed("misbehaving-compressor", &COMPRESSOR);
    for check in ["compresses", "is-what-it-is-called", "takes-noise", "takes-a-chunk-of-16-mb"] {
        assert!(left.iter().all(|left| left != check), "{check}");
    }
}

#[test]
fn each_check_of_a_renderer_is_failed_by_name() {
    let left = unfailed("misbehaving-renderer", &RENDERER);
    let shared = [
        "describes-its-configuration",
        "describes-itself",
        "is-fast-enough",
        "keeps-the-contract",
        "keeps-to-its-room",
        "refuses-an-unknown-setting",
        "refuses-what-is-no-json",
    ];
    assert_eq!(left, shared, "checks that it shares with encoders, and that were failed there");
}

fn stage_check(args: &[&str]) -> Output {
    support::logship().args(["stage", "check"]).args(args).output().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8([&*output.stdout, &output.stderr].concat()).unwrap()
}

#[test]
fn a_stage_that_is_slower_than_asked_for_fails() {
    let stage = support::example("misbehaving-renderer").display().to_string();
    let slow = ["--config", r#"{"act":"dawdle"}"#, &stage];
    let output = stage_check(&slow);
    assert!(
        output.status.success() && told(&output).contains("of the speed of object-path"),
        "{}",
        told(&output)
    );
    let output = stage_check(&[&["--least-speed", "0.5"], &slow[..]].concat());
    let told = told(&output);
    assert!(!output.status.success() && told.contains("FAIL  is-fast-enough"), "{told}");
    assert!(told.contains("but --least-speed is 0.5"), "{told}");
}

#[test]
fn what_is_no_stage_fails_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.wasm");
    std::fs::write(&path, "no component").unwrap();
    let output = stage_check(&[path.to_str().unwrap()]);
    let told = told(&output);
    assert!(!output.status.success() && told.contains("FAIL  keeps-the-contract"), "{told}");
    assert!(told.contains("it is not WebAssembly"), "{told}");
}

#[test]
fn a_configuration_that_is_needed_is_asked_for() {
    let stage = support::example("constant-path").display().to_string();
    let output = stage_check(&[&stage]);
    let without = told(&output);
    assert!(!output.status.success() && without.contains("FAIL  takes-its-configuration"), "{without}");
    assert!(without.contains("give one: --config"), "{without}");

    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.json");
    std::fs::write(&config, r#"{ "key": "always/this" }"#).unwrap();
    let output = stage_check(&[&stage, "--config", &format!("@{}", config.display())]);
    let with = told(&output);
    assert!(!output.status.success() && with.ends_with("failed: gives-different-keys\n"), "{with}");

    let output = stage_check(&[&stage, "--config", "[]"]);
    assert!(!output.status.success() && told(&output).contains("not a JSON object"), "{}", told(&output));
}

#[test]
fn build_servers_read_what_failed() {
    let folder = tempfile::tempdir().unwrap();
    let junit = folder.path().join("report.xml");
    let stage = support::example("misbehaving-stage").display().to_string();
    let output = stage_check(&[
        &stage,
        "--config",
        r#"{"act":"trap-on-invalid-utf8"}"#,
        "--junit",
        junit.to_str().unwrap(),
    ]);
    assert!(!output.status.success(), "{}", told(&output));
    let text = std::fs::read_to_string(&junit).unwrap();
    let report = quick_junit::Report::deserialize_from_str(&text).unwrap();
    assert_eq!((report.failures, report.errors), (1, 0), "{text}");
    assert_eq!(report.tests, report.test_suites[0].test_cases.len());
    let failed = text.split("<testcase ").find(|case| case.contains("<failure")).unwrap();
    assert!(failed.contains(r#"name="takes-invalid-utf-8""#), "{failed}");
    assert!(failed.contains("values that are not UTF-8") && failed.contains("trapped"), "{failed}");
    assert!(failed.contains("The contract says: A stage encodes every log"), "{failed}");
}
