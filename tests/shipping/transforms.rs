//! Rules with transformers.

use super::*;

#[test]
fn filtered_logs_do_not_count_towards_size() {
    let mut test = Test::new(1);
    test.create(&transformed(json!({ "where": { "n": { "matches": "[02468]$" } }, "set": { "more": "x" } })));
    // 40 MB of logs. The transform filters half of them.
    for _ in 0..57 {
        test.put(0, 700, 1000);
    }
    test.pass_and_ship(0);
    let manifests: Vec<_> = test.tasks().iter().map(|task| task.manifest.clone().unwrap()).collect();
    assert!(manifests.len() >= 3, "{manifests:?}");
    for manifest in &manifests {
        assert!((4_500_000..=5_000_000).contains(&manifest.raw_bytes), "{manifests:?}");
        assert_eq!(manifest.raw_bytes, manifest.stored_bytes);
    }
    test.pass_and_ship(300 * SECOND);
    assert_eq!(test.shipped(), (0..test.logs).step_by(2).collect::<Vec<_>>());
    let rows: u64 = test.tasks().iter().map(|task| task.manifest.as_ref().unwrap().rows).sum();
    assert_eq!(rows, test.logs / 2);
}

#[test]
fn filtering_all_logs_writes_no_object() {
    let mut test = Test::new(1);
    test.create(&transformed(json!({ "where": { "n": "3" } })));
    test.put(0, 3, 10);
    test.pass_and_ship(300 * SECOND);
    let task = test.tasks().remove(0);
    assert_eq!(
        (task.status, task.manifest.clone()),
        (Status::Success, Some(ObjectManifest::default())),
        "{task:?}"
    );
    assert!(test.shipped().is_empty());
    assert!(!test.bucket().join(&task.object).exists());
    let progress = |test: &Test| test.store.progress(test.logstore().rule("to-lake").unwrap()).unwrap()[&0];
    assert_eq!(progress(&test).checkpoint, task.end);
    // The task needs no bucket, because it writes no object.
    test.hide_bucket();
    let mut test = test.restart();
    test.put(0, 2, 10);
    test.show_bucket();
    test.pass_and_ship(300 * SECOND);
    assert_eq!(test.statuses(), [Status::Success, Status::Success]);
    assert_eq!(test.shipped(), [3]);
}

#[test]
fn open_task_keeps_transforms() {
    let mut test = Test::new(1);
    test.create(&transformed(json!({ "drop": ["filler"], "hash": ["__topic__"], "set": { "by": "old" } })));
    test.put(0, 3, 10);
    test.hide_bucket();
    test.pass_and_ship(300 * SECOND);
    assert_eq!(test.statuses(), [Status::Failed]);
    test.update(&transformed(json!({ "set": { "by": "new" } })));
    test.show_bucket();
    let test = test.restart();
    test.pass_and_ship(15 * MINUTE);
    let task = test.tasks().remove(0);
    assert_eq!((task.status, task.attempts), (Status::Success, 2), "{task:?}");
    let object = fs::read_to_string(test.bucket().join(&task.object)).unwrap();
    assert_eq!(
        object.lines().next().unwrap(),
        r#"{"__time__":7,"__topic__":"","__source__":"","n":"0","by":"old"}"#
    );
}

#[test]
fn split_log_stays_in_one_object() {
    let mut test = Test::new(1);
    let stages = test.data.path().join("stages");
    fs::create_dir_all(&stages).unwrap();
    fs::copy(support::example("misbehaving-transform"), stages.join("mine.wasm")).unwrap();
    let split = serde_json::from_value(json!({ "type": "mine", "act": "split" })).unwrap();
    test.create(&Rule { transform: vec![split, StageSpec::named("fields")], ..rule() });
    test.put(0, 9_000, 1000);
    // The two logs made of it exceed the size, and get their own object.
    test.put(0, 1, 3_000_000);
    test.put(0, 10, 10);
    test.pass_and_ship(300 * SECOND);
    let twice: Vec<u64> = (0..test.logs).flat_map(|log| [log, log]).collect();
    assert_eq!(test.shipped(), twice);
    for task in test.tasks() {
        let object = fs::read_to_string(test.bucket().join(&task.object)).unwrap();
        let lines: Vec<&str> = object.lines().collect();
        let number =
            |line: &str| line.split(r#""n":""#).nth(1).unwrap().split('"').next().unwrap().to_owned();
        assert!(lines.chunks(2).all(|two| number(two[0]) == number(two[1])), "{}", task.object);
        assert!(task.manifest.unwrap().raw_bytes <= 5_000_000 || lines.len() == 2);
    }
}
