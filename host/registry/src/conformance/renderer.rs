use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use crate::conformance::Settings;
use crate::conformance::contract;
use crate::conformance::suite::{At, Checked, Problem, Suite};
use logship_runtime::stage::{RendererStage, Request, StageError};

/// Keys rendered per round of the speed check.
const ROUND: u64 = 1_000;

/// Bytes that the language runtime may retain per call. The host uses an instance for each key.
const RETAINED_BYTES: usize = 512;

/// Returns the metadata of an ordinary object.
pub(super) fn ordinary() -> Request {
    Request {
        rule: "web-to-lake".into(),
        project: "shop".into(),
        logstore: "access".into(),
        shard: 3,
        prefix: "logs/access".into(),
        partition_format: "ds=%Y%m%d/%H".into(),
        partition_time: 1_484_913_043_351_525_351,
        utc_offset: 28_800,
        creation_time: 1_484_913_043_351_525_351,
        number: 2_850_008,
        suffix: ".snappy.parquet".into(),
    }
}

/// Returns the metadata of the same object for another task.
fn numbered(number: u64) -> Request {
    Request { number, creation_time: 1_484_913_043_351_525_351 + number, ..ordinary() }
}

/// Checks a renderer and compares it with the built-in one.
pub(super) fn check(
    suite: &mut Suite,
    stage: &RendererStage,
    config: &str,
    built_in: &Arc<RendererStage>,
    settings: &Settings,
) {
    suite.check("keeps-to-its-room", contract::ROOM, || {
        let mut instance = stage.instance()?;
        let started = Instant::now();
        let key = instance.render(config, &ordinary()).at(|| "an ordinary object".into())?;
        let (spent, memory) = (started.elapsed(), instance.memory() as f64 / f64::from(1 << 20));
        Ok(format!("{memory:.2} MiB of memory, and {:.2} ms for {key:?}", spent.as_secs_f64() * 1e3))
    });
    for (check, what, request) in hostile() {
        suite.check(check, contract::VALID_KEY, || match stage.render(config, &request) {
            Err(StageError::Config { path, reason, .. }) => Ok(format!("rejected: {path}: {reason}")),
            other => other.at(|| what.to_owned()).map(|key| format!("{:.80}", format!("{key:?}"))),
        });
    }
    suite.check("gives-the-same-key-again", contract::PURITY, || {
        let expected = stage.render(config, &ordinary())?;
        let mut instance = stage.instance()?;
        for number in 0..3 {
            let found = instance.render(config, &ordinary())?;
            if found != expected {
                let seen = format!("{expected:?} in one instance, and {found:?} as key {number} of another");
                return Err(Problem::new(seen));
            }
            instance.render(config, &numbered(number))?;
        }
        Ok(format!("{expected:?}"))
    });
    suite.check("gives-different-keys", contract::DIFFERENT_KEYS, || different(stage, config));
    suite.check("keeps-memory-flat", contract::BOUNDED_MEMORY, || {
        let mut instance = stage.instance()?;
        let mut memory = vec![];
        for number in 0..settings.chunks as u64 {
            instance.render(config, &numbered(number))?;
            memory.push(instance.memory());
        }
        crate::conformance::stream::flat(&memory, RETAINED_BYTES).at(|| "keys in one instance".into())
    });
    let timed = |stage: &RendererStage, config: &str| {
        let started = Instant::now();
        for number in 0..ROUND {
            stage.render(config, &numbered(number))?;
        }
        Ok::<_, StageError>(ROUND as f64 / started.elapsed().as_secs_f64() / 1e3)
    };
    crate::conformance::speed::check(suite, "thousand keys/s", built_in.identity().name(), settings, || {
        Ok((timed(stage, config)?, timed(built_in, "")?))
    });
}

/// Checks that tasks that differ in one value get different keys.
fn different(stage: &RendererStage, config: &str) -> Checked {
    let another = |change: fn(&mut Request)| {
        let mut request = ordinary();
        change(&mut request);
        request
    };
    let requests =
        [ordinary(), another(|request| request.number += 1), another(|request| request.creation_time += 1)];
    let mut keys = BTreeSet::new();
    for request in &requests {
        let key = stage.render(config, request)?;
        if !keys.insert(key.clone()) {
            return Err(Problem::new(format!("{key:?} for tasks of another creation-time or number")));
        }
    }
    Ok("for another creation-time, and for another number".into())
}

/// Returns metadata that a careless renderer does not expect. The renderer may reject it.
fn hostile() -> Vec<(&'static str, &'static str, Request)> {
    let case = |check, what, change: fn(&mut Request)| {
        let mut request = ordinary();
        change(&mut request);
        (check, what, request)
    };
    vec![
        case("takes-no-prefix", "an empty prefix", |request| request.prefix.clear()),
        case("takes-no-partition", "an empty partition format", |request| request.partition_format.clear()),
        case("takes-no-names", "a rule of files: no project, no Logstore, no suffix", |request| {
            request.project.clear();
            request.logstore.clear();
            request.suffix.clear();
        }),
        case("takes-a-prefix-that-climbs", "a prefix with `..` in it", |request| {
            request.prefix = "../../other/.".into();
        }),
        case("takes-a-prefix-of-slashes", "a prefix with slashes around and in it", |request| {
            request.prefix = "/a//b/".into();
        }),
        case("takes-control-characters", "a prefix and a rule with control characters", |request| {
            request.prefix = "a\nb\0".into();
            request.rule = "\u{7f}\r".into();
        }),
        case("takes-wide-characters", "a prefix of characters of two to four bytes", |request| {
            request.prefix = "né…€😀".into();
        }),
        case("takes-a-long-prefix", "a prefix of 1,023 bytes", |request| request.prefix = "x".repeat(1023)),
        case("takes-an-unknown-directive", "a partition format that ends within a directive", |request| {
            request.partition_format = "%Y/%Q/%".into();
        }),
        case("takes-times-at-the-edge", "the last nanosecond, and an offset beyond every zone", |request| {
            request.partition_time = u64::MAX;
            request.creation_time = u64::MAX;
            request.number = u64::MAX;
            request.utc_offset = i32::MIN;
        }),
    ]
}
