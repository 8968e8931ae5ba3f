//! Trials of stages: tasks made once more with another one, and compared.

use logship::preview::{Candidate, PreviewLimits, PreviewError, TaskPreview, SkipReason, Verdict};

use super::*;

#[test]
fn a_trial_makes_the_objects_that_the_tasks_made_and_writes_none() {
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
    let tried = test.preview_stage(&encode_json, 100).unwrap();
    assert_eq!(tried.len(), tasks.len());
    for tried in &tried {
        let compared = tried.result.as_ref().unwrap();
        assert_eq!((tried.verdict(), compared.reproduced), (Verdict::Same, Some(true)), "{tried:?}");
        let manifest = tasks.iter().find(|task| task.id == tried.task).unwrap().manifest.clone().unwrap();
        let made = compared.new.as_ref().unwrap().made.clone().unwrap();
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
fn a_trial_tells_of_tasks_whose_logs_are_no_more() {
    let mut test = Test::new(1);
    test.create(&rule());
    test.put(0, 3, 10);
    test.pass_and_ship(300 * SECOND);
    test.pass(26 * HOUR);
    let shard = Arc::clone(test.logstore().shard(0).unwrap());
    let (begin, waited) = (shard.begin(), Instant::now());
    while shard.begin() == begin {
        assert!(waited.elapsed().as_secs() < 30, "the time to live is over");
        std::thread::sleep(Duration::from_millis(20));
    }
    test.put(0, 3, 10);
    test.pass_and_ship(300 * SECOND);
    let tried = test.preview_stage(&support::example("encode-logfmt"), 20).unwrap();
    assert_eq!(tried.iter().map(TaskPreview::verdict).collect::<Vec<_>>(), [Verdict::Different, Verdict::Skipped]);
    assert!(matches!(tried[1].result, Err(SkipReason::Expired { .. })), "{tried:?}");
    // And of those that no time was left for.
    let extent = PreviewLimits { last: 20, until: Instant::now() };
    let stage = test.shipper.registry().stage(None, "encode-json").unwrap();
    let (logstore, candidate) = (test.logstore(), Candidate { stage, transform: None });
    let tried = test.shipper.preview_stage(&logstore, logstore.rule("to-lake").unwrap(), &candidate, extent);
    assert!(tried.unwrap().iter().all(|tried| matches!(tried.result, Err(SkipReason::NoTime))));
}
