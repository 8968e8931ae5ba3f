//! Each check of `logship stage check` fails for a stage that violates it.

use crate::support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use logship_registry::Registry;
use logship_registry::conformance;
use logship_registry::conformance::{Report, Settings};
use logship_runtime::engine::{Engine, Limits};

/// The acts of the encoder, with the checks that each fails. `…` stands for any further checks.
const ENCODER: [(&str, &str); 42] = [
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
    ("trap-on-duplicate-keys", "takes-duplicate-keys writes-each-member-once"),
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
    ("forge", "shows-no-reserved-field"),
    ("repeat-members", "writes-each-member-once"),
];

/// The checks with batches that violate an invariant.
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

/// Returns a registry whose stages have this deadline.
fn registry(deadline: Duration) -> Registry {
    let limits = Limits { deadline, ..Limits::default() };
    Registry::new(Engine::new(limits, Some(&support::cache())).unwrap())
}

fn check(registry: &Registry, component: &Path, act: &str) -> Report {
    let config = format!("{{\"act\":\"{act}\"}}");
    // A leak of a kilobyte per chunk needs some thousands of chunks to show.
    let chunks = if act == "leak" { 4_000 } else { 200 };
    let settings = Settings { config: Some(config), speed: false, chunks, ..Settings::default() };
    conformance::check(registry, &component.display().to_string(), &settings)
}

/// Runs each act. Returns the names of all checks, and of the failed checks.
fn run_acts(stage: &str, acts: &[(&str, &str)]) -> (BTreeSet<String>, BTreeSet<String>) {
    let component = support::example(stage);
    let (long_deadline, short_deadline) =
        (registry(Duration::from_secs(60)), registry(Duration::from_millis(300)));
    let (mut seen, mut all_failed, mut wrong) = (BTreeSet::new(), BTreeSet::new(), String::new());
    for (act, expected) in acts {
        let registry = if act.starts_with("loop") { &short_deadline } else { &long_deadline };
        let report = check(registry, &component, act);
        let failed: BTreeSet<_> = report.failed().map(str::to_owned).collect();
        let allows_more = expected.ends_with('…');
        let expected = expected.split_whitespace().filter(|name| *name != "…").map(str::to_owned);
        let expected: BTreeSet<_> = expected.collect();
        let matches = if allows_more { failed.is_superset(&expected) } else { failed == expected };
        if !matches {
            wrong += &format!("{act} should fail {expected:?}, but the report is\n{report}\n");
        }
        seen.extend(report.findings.into_iter().map(|finding| finding.check));
        all_failed.extend(failed);
    }
    assert!(wrong.is_empty(), "{wrong}");
    (seen, all_failed)
}

/// Returns the checks that no act fails.
fn checks_without_failure(stage: &str, acts: &[(&str, &str)]) -> Vec<String> {
    let (seen, failed) = run_acts(stage, acts);
    seen.difference(&failed).cloned().collect()
}

#[test]
fn acts_fail_all_encoder_checks() {
    // These checks have their own tests, below and in the library.
    let untested =
        ["describes-its-configuration", "is-fast-enough", "keeps-the-contract", "takes-its-configuration"];
    assert_eq!(checks_without_failure("misbehaving-stage", &ENCODER), untested);
}

#[test]
fn acts_fail_formatter_checks() {
    let untested = checks_without_failure("misbehaving-formatter", &FORMATTER);
    for check in ["adds-no-separator", "makes-events", "goes-on-after-a-refusal", "keeps-to-its-room"] {
        assert!(untested.iter().all(|name| name != check), "{check}");
    }
}

#[test]
fn acts_fail_compressor_checks() {
    let untested = checks_without_failure("misbehaving-compressor", &COMPRESSOR);
    for check in ["compresses", "is-what-it-is-called", "takes-noise", "takes-a-chunk-of-16-mb"] {
        assert!(untested.iter().all(|name| name != check), "{check}");
    }
}

#[test]
fn acts_fail_all_renderer_checks() {
    let untested = checks_without_failure("misbehaving-renderer", &RENDERER);
    let shared = [
        "describes-its-configuration",
        "describes-itself",
        "is-fast-enough",
        "keeps-the-contract",
        "keeps-to-its-room",
        "refuses-an-unknown-setting",
        "refuses-what-is-no-json",
    ];
    assert_eq!(untested, shared, "checks shared with encoders, whose acts fail them");
}

fn stage_check(args: &[&str]) -> Output {
    support::logship().args(["stage", "check"]).args(args).output().unwrap()
}

fn output_text(output: &Output) -> String {
    String::from_utf8([&*output.stdout, &output.stderr].concat()).unwrap()
}

#[test]
fn slow_stage_fails_speed_check() {
    let stage = support::example("misbehaving-renderer").display().to_string();
    let slow = ["--config", r#"{"act":"dawdle"}"#, &stage];
    let output = stage_check(&slow);
    assert!(
        output.status.success() && output_text(&output).contains("of the speed of object-path"),
        "{}",
        output_text(&output)
    );
    let output = stage_check(&[&["--least-speed", "0.5"], &slow[..]].concat());
    let text = output_text(&output);
    assert!(!output.status.success() && text.contains("FAIL  is-fast-enough"), "{text}");
    assert!(text.contains("but --least-speed is 0.5"), "{text}");
}

#[test]
fn non_component_fails_contract_check() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.wasm");
    std::fs::write(&path, "no component").unwrap();
    let output = stage_check(&[path.to_str().unwrap()]);
    let text = output_text(&output);
    assert!(!output.status.success() && text.contains("FAIL  keeps-the-contract"), "{text}");
    assert!(text.contains("it is not WebAssembly"), "{text}");
}

#[test]
fn requires_configuration() {
    let stage = support::example("constant-path").display().to_string();
    let output = stage_check(&[&stage]);
    let without = output_text(&output);
    assert!(!output.status.success() && without.contains("FAIL  takes-its-configuration"), "{without}");
    assert!(without.contains("give one: --config"), "{without}");

    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.json");
    std::fs::write(&config, r#"{ "key": "always/this" }"#).unwrap();
    let output = stage_check(&[&stage, "--config", &format!("@{}", config.display())]);
    let with = output_text(&output);
    assert!(!output.status.success() && with.ends_with("failed: gives-different-keys\n"), "{with}");

    let output = stage_check(&[&stage, "--config", "[]"]);
    assert!(
        !output.status.success() && output_text(&output).contains("not a JSON object"),
        "{}",
        output_text(&output)
    );
}

#[test]
fn junit_report_names_failed_check() {
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
    assert!(!output.status.success(), "{}", output_text(&output));
    let text = std::fs::read_to_string(&junit).unwrap();
    let report = quick_junit::Report::deserialize_from_str(&text).unwrap();
    assert_eq!((report.failures, report.errors), (1, 0), "{text}");
    assert_eq!(report.tests, report.test_suites[0].test_cases.len());
    let failed = text.split("<testcase ").find(|case| case.contains("<failure")).unwrap();
    assert!(failed.contains(r#"name="takes-invalid-utf-8""#), "{failed}");
    assert!(failed.contains("values that are not UTF-8") && failed.contains("trapped"), "{failed}");
    assert!(failed.contains("The contract says: A stage encodes every log"), "{failed}");
}
