//! The suite of object sinks.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use logship_config::destination::DestinationConfig;
use logship_sink::error::SinkError;
use logship_sink::object::{BucketLocation, ObjectInfo, ObjectSink};
use logship_sink::open;
use logship_sink::staged_file::FinishedFile;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The bucket of each store.
pub(crate) const BUCKET: &str = "lake";

/// A store with an empty bucket [`BUCKET`].
pub(crate) trait Store: Send + Sync {
    /// Starts the store. `runtime` runs its server.
    fn start(runtime: &Runtime) -> Self;

    /// Returns settings that may do all.
    fn config(&self) -> DestinationConfig;

    /// Returns settings with a wrong key, if the store has keys.
    fn wrong_key(&self) -> Option<DestinationConfig>;

    /// Returns all keys in the bucket, in any order, as the store has them.
    fn keys(&self) -> Vec<String>;

    /// Returns the names of unfinished uploads.
    fn unfinished(&self) -> Vec<String>;
}

/// A store, and the sink of its bucket.
pub(crate) struct Tested<S> {
    store: S,
    sink: Box<dyn ObjectSink>,
    runtime: Runtime,
    spool: TempDir,
}

impl<S: Store> Tested<S> {
    pub(crate) fn start() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let store = S::start(&runtime);
        let spool = tempfile::tempdir().unwrap();
        let sink = open_bucket(&store.config(), BUCKET, &runtime, spool.path());
        Self { store, sink, runtime, spool }
    }

    fn open(&self, config: &DestinationConfig, bucket: &str) -> Box<dyn ObjectSink> {
        open_bucket(config, bucket, &self.runtime, self.spool.path())
    }

    fn probe(&self, sink: &dyn ObjectSink, prefix: &str) -> Result<(), SinkError> {
        self.runtime.block_on(sink.probe(prefix))
    }

    /// The keys in the bucket, sorted.
    fn keys(&self) -> Vec<String> {
        let mut keys = self.store.keys();
        keys.sort();
        keys
    }

    fn assert_no_leftovers(&self) {
        assert_eq!(self.store.unfinished(), Vec::<String>::new(), "unfinished uploads");
        assert_eq!(fs::read_dir(self.spool.path()).unwrap().count(), 0, "staged files");
    }
}

fn open_bucket(
    config: &DestinationConfig,
    bucket: &str,
    runtime: &Runtime,
    spool: &Path,
) -> Box<dyn ObjectSink> {
    let runtime = runtime.handle().clone();
    open::object_sink(config, &BucketLocation { bucket, role: "", spool, runtime, must_exist: true }).unwrap()
}

/// Stages an object.
fn stage(sink: &dyn ObjectSink, key: &str, content: &[u8]) -> Result<FinishedFile, SinkError> {
    let mut staged = sink.begin(key, 0)?;
    // In pieces, as stages write.
    content.chunks(1 << 20).for_each(|piece| staged.write(piece).unwrap());
    Ok(staged.finish(b"").unwrap())
}

fn publish(sink: &dyn ObjectSink, key: &str, content: &[u8]) -> Result<(), SinkError> {
    let provenance = vec![("logship-task", "7".to_owned())];
    sink.publish(stage(sink, key, content)?, key, "application/x-ndjson", &provenance)
}

fn info(content: &[u8]) -> ObjectInfo {
    ObjectInfo { bytes: content.len() as u64, sha256: hex::encode(Sha256::digest(content)), heads: None }
}

/// Content of `bytes` bytes in which no two parts are equal.
fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

/// Two parts of an upload, and three. The last part is shorter.
const TWO_PARTS: usize = (8 << 20) + 12_345;
const THREE_PARTS: usize = (16 << 20) + 12_345;

pub(crate) fn object_appears_at_once<S: Store>(tested: &Tested<S>) {
    let content = content(TWO_PARTS);
    let staged = stage(&*tested.sink, "a/b.json", &content).unwrap();
    assert_eq!(tested.sink.find("a/b.json").unwrap(), None);
    assert_eq!(tested.keys(), Vec::<String>::new());
    let (is_published, watcher) = (AtomicBool::new(false), tested.open(&tested.store.config(), BUCKET));
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut seen = 0;
            while !is_published.load(Ordering::Relaxed) {
                if let Some(found) = watcher.find("a/b.json").unwrap() {
                    assert_eq!(found, info(&content), "a part of the object is visible");
                    seen += 1;
                }
            }
            seen
        });
        let published = tested.sink.publish(staged, "a/b.json", "text/plain", &vec![]);
        is_published.store(true, Ordering::Relaxed);
        published.unwrap();
        watch.join().unwrap();
    });
    assert_eq!(tested.sink.find("a/b.json").unwrap(), Some(info(&content)));
    assert_eq!(tested.keys(), ["a/b.json"]);
    tested.assert_no_leftovers();
}

pub(crate) fn object_is_never_overwritten<S: Store>(tested: &Tested<S>) {
    let large = content(TWO_PARTS);
    let small = content(100);
    for (key, first) in [("empty", &[][..]), ("small", &small), ("large", &large)] {
        publish(&*tested.sink, key, first).unwrap();
        // Also an equal one: the caller decides with `find`.
        for second in [&b"second"[..], &large, first] {
            let error = publish(&*tested.sink, key, second).unwrap_err();
            assert!(matches!(error, SinkError::Exists(_)), "{key}: {error:?}");
            assert!(error.to_string().contains(key), "{error}");
        }
        assert_eq!(tested.sink.find(key).unwrap(), Some(info(first)), "{key}");
    }
    tested.assert_no_leftovers();
}

pub(crate) fn find_returns_size_and_digest<S: Store>(tested: &Tested<S>) {
    assert_eq!(tested.sink.find("none").unwrap(), None);
    assert_eq!(tested.sink.find("no/folder/none").unwrap(), None);
    for bytes in [0, 1, 70_000] {
        let key = format!("dt=2026-01-01/{bytes}");
        publish(&*tested.sink, &key, &content(bytes)).unwrap();
        assert_eq!(tested.sink.find(&key).unwrap(), Some(info(&content(bytes))));
    }
    assert_eq!(tested.sink.find("dt=2026-01-01/").ok().flatten(), None, "a folder is no object");
}

pub(crate) fn list_returns_keys_of_prefix<S: Store>(tested: &Tested<S>) {
    let list = |prefix: &str| {
        let mut keys = tested.sink.list(prefix).unwrap();
        keys.sort();
        keys
    };
    assert_eq!(list(""), Vec::<String>::new());
    let keys = ["a/1", "a/2", "a/b/c/3", "ab/4", "b/5", "b/6", "b/7", "b/8", "top"];
    keys.iter().for_each(|key| publish(&*tested.sink, key, key.as_bytes()).unwrap());
    assert_eq!(list(""), keys);
    assert_eq!(list("a/"), ["a/1", "a/2", "a/b/c/3"]);
    assert_eq!(list("a/b/"), ["a/b/c/3"]);
    assert_eq!(list("b/"), ["b/5", "b/6", "b/7", "b/8"]);
    assert_eq!(list("none/"), Vec::<String>::new());
}

pub(crate) fn object_is_read_and_deleted<S: Store>(tested: &Tested<S>) {
    let content = content(100_000);
    publish(&*tested.sink, "a/kept", b"kept").unwrap();
    publish(&*tested.sink, "a/gone", &content).unwrap();
    assert!(tested.sink.read("a/gone").unwrap() == content);
    tested.sink.delete("a/gone").unwrap();
    assert_eq!(tested.sink.find("a/gone").unwrap(), None);
    tested.sink.read("a/gone").unwrap_err();
    assert_eq!(tested.keys(), ["a/kept"]);
    publish(&*tested.sink, "a/gone", b"new").unwrap();
    assert_eq!(tested.sink.read("a/gone").unwrap(), b"new");
}

pub(crate) fn probe_leaves_nothing<S: Store>(tested: &Tested<S>) {
    for prefix in ["", "a/", "a/b", "a/"] {
        tested.probe(&*tested.sink, prefix).unwrap();
        assert_eq!(tested.keys(), Vec::<String>::new(), "after the probe of {prefix:?}");
    }
    tested.assert_no_leftovers();
}

pub(crate) fn missing_bucket_is_reported<S: Store>(tested: &Tested<S>) {
    let sink = tested.open(&tested.store.config(), "missing");
    for error in [tested.probe(&*sink, "").unwrap_err(), publish(&*sink, "key", b"x").unwrap_err()] {
        assert!(matches!(error, SinkError::NoBucket(_)), "{error:?}");
        assert!(error.to_string().contains("missing"), "{error}");
        assert_eq!(error.code(), "InvalidOssBucket");
    }
    tested.assert_no_leftovers();
}

pub(crate) fn wrong_key_is_denied<S: Store>(tested: &Tested<S>) {
    let Some(config) = tested.store.wrong_key() else { return };
    let sink = tested.open(&config, BUCKET);
    let large = content(TWO_PARTS);
    for error in [
        tested.probe(&*sink, "").unwrap_err(),
        publish(&*sink, "key", b"x").unwrap_err(),
        publish(&*sink, "key", &large).unwrap_err(),
        sink.find("key").unwrap_err(),
        sink.list("").unwrap_err(),
        sink.read("key").unwrap_err(),
    ] {
        assert!(matches!(error, SinkError::Denied(_)), "{error:?}");
        assert!(error.to_string().contains(BUCKET), "{error}");
        assert_eq!(error.code(), "UnAuthorized");
    }
    assert_eq!(tested.keys(), Vec::<String>::new());
    tested.assert_no_leftovers();
}

pub(crate) fn header_precedes_body<S: Store>(tested: &Tested<S>) {
    for (room, header) in [(0, ""), (4, "four"), (4, ""), (4, "longer"), (0, "x")] {
        let key = format!("{room}-{header}");
        let mut staged = tested.sink.begin(&key, room).unwrap();
        staged.write(b"bo").unwrap();
        staged.write(b"dy").unwrap();
        let file = staged.finish(header.as_bytes()).unwrap();
        let expected = format!("{header}body").into_bytes();
        assert_eq!((file.bytes, &file.sha256), (expected.len() as u64, &info(&expected).sha256));
        tested.sink.publish(file, &key, "text/plain", &vec![]).unwrap();
        assert_eq!(tested.sink.read(&key).unwrap(), expected, "{header:?} in a room of {room}");
    }
    tested.assert_no_leftovers();
}

pub(crate) fn object_of_several_parts_is_complete<S: Store>(tested: &Tested<S>) {
    // Ends at and after the end of a part.
    for bytes in [8 << 20, (8 << 20) + 1, THREE_PARTS] {
        let (key, content) = (format!("parts/{bytes}"), content(bytes));
        publish(&*tested.sink, &key, &content).unwrap();
        assert_eq!(tested.sink.find(&key).unwrap(), Some(info(&content)), "{bytes} bytes");
        assert!(tested.sink.read(&key).unwrap() == content, "{bytes} bytes");
    }
    tested.assert_no_leftovers();
}

pub(crate) fn odd_keys_are_kept<S: Store>(tested: &Tested<S>) {
    let mut keys = [
        "dt=2026-01-01/hour=07/0_1.json",
        "with space/a b",
        "plus+and&and=equals",
        "percent%41",
        "colon:at@comma,semicolon;",
        "(round)[square]{curly}",
        "quote'double\"",
        "tilde~star*bang!dollar$",
        "less<more>",
        "größe/日志/🚢",
        "question?hash#",
    ];
    keys.sort_unstable();
    for key in keys {
        publish(&*tested.sink, key, key.as_bytes()).unwrap_or_else(|error| panic!("{key}: {error}"));
        assert_eq!(tested.sink.find(key).unwrap(), Some(info(key.as_bytes())), "{key}");
        assert_eq!(tested.sink.read(key).unwrap(), key.as_bytes(), "{key}");
    }
    assert_eq!(tested.keys(), keys);
    let mut listed = tested.sink.list("").unwrap();
    listed.sort();
    assert_eq!(listed, keys);
    keys.iter().for_each(|key| tested.sink.delete(key).unwrap());
    assert_eq!(tested.keys(), Vec::<String>::new());
}

pub(crate) fn dropped_object_leaves_nothing<S: Store>(tested: &Tested<S>) {
    let mut staged = tested.sink.begin("a/half", 4).unwrap();
    staged.write(&content(TWO_PARTS)).unwrap();
    drop(staged);
    drop(stage(&*tested.sink, "a/finished", b"of no use").unwrap());
    assert_eq!(tested.keys(), Vec::<String>::new());
    tested.assert_no_leftovers();
}

pub(crate) fn sink_has_kind_and_name<S: Store>(tested: &Tested<S>, kind: &str) {
    assert_eq!(tested.sink.kind(), kind);
    assert!(tested.sink.name().ends_with(BUCKET), "{}", tested.sink.name());
    assert!(!format!("{:?}", tested.sink).contains("secret"));
}

/// Runs the suite against a [`Store`] whose sink has this kind.
macro_rules! object_sink_tests {
    ($store:ty, $kind:literal) => {
        $crate::object_suite::object_sink_tests!(@ $store:
            object_appears_at_once object_is_never_overwritten find_returns_size_and_digest
            list_returns_keys_of_prefix object_is_read_and_deleted probe_leaves_nothing missing_bucket_is_reported
            wrong_key_is_denied header_precedes_body object_of_several_parts_is_complete odd_keys_are_kept
            dropped_object_leaves_nothing);

        #[test]
        fn sink_has_kind_and_name() {
            $crate::object_suite::sink_has_kind_and_name(&$crate::object_suite::Tested::<$store>::start(), $kind);
        }
    };
    (@ $store:ty: $($test:ident)*) => {
        $(
            #[test]
            fn $test() {
                $crate::object_suite::$test(&$crate::object_suite::Tested::<$store>::start());
            }
        )*
    };
}
pub(crate) use object_sink_tests;
