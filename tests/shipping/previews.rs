//! Previews: past tasks are repeated with another stage, and compared.

use logship_delivery::preview::{Candidate, PreviewError, PreviewLimits, SkipReason, TaskPreview, Verdict};

use super::*;

#[test]
fn preview_reproduces_objects_and_writes_nothing() {
    let mut test = Test::new(2);
    test.create(&rule());
    let encode_json = support::component("encode-json");
    assert!(matches!(test.preview_stage(&encode_json, 20), Err(PreviewError::NoTasks(_))));
    for shard in 0..2 {
        // Several chunks, and objects that end within a log group.
        for _ in 0..3 {
            test.put(shard, 3_000, 1000);
        }
    }
    test.pass_and_ship(300 * SECOND);
    let (before, tasks) = (support::files(test.data.path()), test.tasks());
    assert!(tasks.len() >= 4 && tasks.iter().any(|task| task.end.log > 0), "{tasks:?}");
    let previews = test.preview_stage(&encode_json, 100).unwrap();
    assert_eq!(previews.len(), tasks.len());
    for preview in &previews {
        let comparison = preview.result.as_ref().unwrap();
        assert_eq!((preview.verdict(), comparison.reproduced), (Verdict::Same, Some(true)), "{preview:?}");
        let manifest = tasks.iter().find(|task| task.id == preview.task).unwrap().manifest.clone().unwrap();
        let made = comparison.new.as_ref().unwrap().made.clone().unwrap();
        assert_eq!(
            (made.rows, made.raw_bytes, made.stored_bytes, made.sha256),
            (manifest.rows, manifest.raw_bytes, manifest.stored_bytes, manifest.sha256)
        );
    }
    assert_eq!(test.verdicts(&support::example("encode-logfmt"), 2), [Verdict::Different; 2]);
    assert_eq!(test.tasks().len(), tasks.len());
    assert_eq!(support::files(test.data.path()), before);
}

#[test]
fn preview_skips_tasks_with_expired_logs() {
    let mut test = Test::new(1);
    test.create(&rule());
    test.put(0, 3, 10);
    test.pass_and_ship(300 * SECOND);
    test.pass(26 * HOUR);
    let shard = Arc::clone(test.logstore().shard(0).unwrap());
    let (begin, started) = (shard.begin(), Instant::now());
    while shard.begin() == begin {
        assert!(started.elapsed().as_secs() < 30, "the logs did not expire");
        std::thread::sleep(Duration::from_millis(20));
    }
    test.put(0, 3, 10);
    test.pass_and_ship(300 * SECOND);
    let previews = test.preview_stage(&support::example("encode-logfmt"), 20).unwrap();
    assert_eq!(
        previews.iter().map(TaskPreview::verdict).collect::<Vec<_>>(),
        [Verdict::Different, Verdict::Skipped]
    );
    assert!(matches!(previews[1].result, Err(SkipReason::Expired { .. })), "{previews:?}");
    // Tasks after the deadline are skipped, too.
    let limits = PreviewLimits { last: 20, until: Instant::now() };
    let stage = test.engine.registry().stage(None, "encode-json").unwrap();
    let (logstore, candidate) = (test.logstore(), Candidate { stage, transform: None });
    let previews = test.engine.preview(&logstore, logstore.rule("to-lake").unwrap(), &candidate, limits);
    assert!(previews.unwrap().iter().all(|preview| matches!(preview.result, Err(SkipReason::NoTime))));
}
