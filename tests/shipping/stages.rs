//! Stages of rules: pinned components of tasks, failures, and garbage collection.

use std::sync::atomic::Ordering;

use logship_runtime::stage::Kind;

use super::*;

#[test]
fn trap_fails_only_its_task() {
    let mut test = Test::new(1);
    let stages = test.data.path().join("stages");
    fs::create_dir_all(&stages).unwrap();
    fs::copy(support::example("misbehaving-stage"), stages.join("mine.wasm")).unwrap();
    let mut bad = Rule { name: "bad-one".into(), prefix: "bad".into(), ..rule() };
    bad.stages.encoder = Some("mine".into());
    bad.format = serde_json::from_value(json!({ "type": "mine", "act": "trap" })).unwrap();
    test.create(&bad);
    test.create(&rule());
    test.put(0, 3, 10);
    test.pass_and_ship(300 * SECOND);
    let (failed, good): (Vec<_>, Vec<_>) = test.tasks().into_iter().partition(|task| task.rule == "bad-one");
    assert_eq!((failed.len(), failed[0].status, good[0].status), (1, Status::Failed, Status::Success));
    assert_eq!(failed[0].code, "InternalServerError");
    assert!(failed[0].message.contains("sha256:"), "{}", failed[0].message);
    test.assert_each_log_once();
}

#[test]
fn task_keeps_stage_after_its_alias_is_removed() {
    let mut test = Test::new(1);
    let stages = test.data.path().join("stages");
    fs::create_dir_all(&stages).unwrap();
    fs::copy(support::example("encode-logfmt"), stages.join("mine.wasm")).unwrap();
    let mut rule = Rule { format: StageSpec::named("logfmt"), ..rule() };
    rule.stages.encoder = Some("mine".into());
    test.create(&rule);
    test.put(0, 3, 10);
    test.hide_bucket();
    test.pass_and_ship(300 * SECOND);
    fs::remove_file(stages.join("mine.wasm")).unwrap();
    test.show_bucket();
    let test = test.restart();
    test.pass_and_ship(15 * MINUTE);
    assert_eq!(test.statuses(), [Status::Success]);
    let object = fs::read_to_string(test.bucket().join(&test.tasks()[0].object)).unwrap();
    assert!(object.lines().count() == 3 && object.contains("n=2"), "{object}");
    let mut test = test;
    test.put(0, 3, 10);
    test.pass_and_ship(300 * SECOND);
    assert_eq!(test.tasks().len(), 1, "the rule has no such stage any more");
    let problem = test.engine.problem(test.logstore().rule("to-lake").unwrap().number()).unwrap();
    assert!(problem.contains("mine"), "{problem}");
}

#[test]
fn fused_pipeline_writes_same_objects() {
    let mut test = Test::new(1);
    let stages = test.data.path().join("stages");
    fs::create_dir_all(&stages).unwrap();
    let mut compose = support::logship();
    compose.args(["compose", "--compressor", "compress-snappy", "--output"]).arg(stages.join("fused.wasm"));
    assert!(compose.output().unwrap().status.success());
    let separate = Rule { compression: StageSpec::named("snappy"), ..rule() };
    let mut fused = Rule { name: "fused-one".into(), prefix: "fused".into(), ..rule() };
    fused.stages.pipeline = Some("fused".into());
    test.create(&separate);
    test.create(&fused);
    test.put(0, 30, 100);
    test.hide_bucket();
    test.pass_and_ship(300 * SECOND);
    assert_eq!(test.statuses(), [Status::Failed, Status::Failed]);
    fs::remove_file(stages.join("fused.wasm")).unwrap();
    test.show_bucket();
    test.pass_and_ship(15 * MINUTE);
    assert_eq!(test.statuses(), [Status::Success, Status::Success]);
    let objects: Vec<_> =
        test.tasks().iter().map(|task| fs::read(test.bucket().join(&task.object)).unwrap()).collect();
    assert!(test.tasks().iter().all(|task| task.object.ends_with(".snappy")));
    assert!(!objects[0].is_empty() && objects[0] == objects[1]);
}

#[test]
fn stage_metrics_count_calls_and_failures() {
    let mut test = Test::new(1);
    let engine = test.engine.registry().engine().clone();
    let failing = serde_json::from_value(json!({ "type": "none", "act": "trap" })).unwrap();
    let stages = test.data.path().join("stages");
    fs::create_dir_all(&stages).unwrap();
    fs::copy(support::example("misbehaving-stage"), stages.join("mine.wasm")).unwrap();
    let custom = logship_config::rule::Stages { encoder: Some("mine".into()), ..Default::default() };
    test.create(&Rule { format: failing, stages: custom, ..rule() });
    test.put(0, 3, 10);
    test.pass_and_ship(300 * SECOND);
    assert_eq!(test.statuses(), [Status::Failed]);
    let stage = test.engine.registry().stage(None, "mine").unwrap();
    let metrics = engine.stage_metrics_snapshot(stage.identity().digest(), Kind::Encoder).unwrap();
    let failures: Vec<_> = metrics
        .failures()
        .map(|(cause, count)| (cause.as_str(), count))
        .filter(|(_, count)| *count > 0)
        .collect();
    assert_eq!(failures, [("trap", 1)]);
    assert!(metrics.calls > 1 && metrics.seconds > 0.0 && metrics.memory >= 1 << 16, "{metrics:?}");
    assert_eq!(engine.stage_metrics_snapshot(stage.identity().digest(), Kind::Renderer), None);
}

#[test]
fn unused_components_are_collected() {
    let mut test = Test::new(1);
    let stages = test.data.path().join("stages");
    fs::create_dir_all(&stages).unwrap();
    fs::copy(support::example("encode-logfmt"), stages.join("mine.wasm")).unwrap();
    let custom = logship_config::rule::Stages { encoder: Some("mine".into()), ..Default::default() };
    test.create(&Rule { stages: custom, ..rule() });
    test.put(0, 3, 10);
    test.pass_and_ship(300 * SECOND);
    let digest = test.engine.registry().stage(None, "mine").unwrap().identity().digest().to_owned();
    let file = stages.join(format!("sha256/{digest}.wasm"));
    let delete_tasks = |test: &Test| {
        let now = test.now.load(Ordering::Relaxed);
        test.runtime.block_on(test.store.delete_old_tasks(now, now)).unwrap();
    };
    // The rule uses another stage, and no alias points to the component.
    test.update(&rule());
    fs::remove_file(stages.join("mine.wasm")).unwrap();
    let mut test = test.restart();
    test.engine.collect_garbage();
    assert!(file.exists(), "a task needs it");
    test.put(0, 3, 10);
    test.pass_and_ship(300 * SECOND);
    test.engine.collect_garbage();
    assert!(file.exists(), "the previous task needs it");
    test.pass(SECOND);
    delete_tasks(&test);
    test.engine.collect_garbage();
    assert!(!file.exists(), "no task needs it");
    assert!(test.stored_components() > 0, "the rule needs the others");
}
