mod access;
mod app;
mod pick;
mod template;
mod text;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use fastrand::Rng;

use crate::files;
pub(crate) use access::Access;
use app::App;

/// The seed of the sample that demo, tests and benchmarks use.
pub(crate) const SEED: u64 = 1;

const ACCESS: &str = "access.ndjson";
const APP: &str = "app.ndjson";

/// The first log's `__time__`: 2025-10-09 08:53:20 UTC. Fixed, so that samples are reproducible.
const START: u64 = 1_760_000_000;
/// Time span of a sample of any size, in seconds.
const SPAN: u64 = 3600;

/// A generator of logs of one kind.
pub(crate) trait Source {
    /// Creates a source. The random number generator determines its logs.
    fn new(rng: Rng) -> Self;
    /// Appends a line with a log of the given `__time__`.
    fn push(&mut self, out: &mut Vec<u8>, time: u64);
}

/// Writes access.ndjson and app.ndjson, with `lines` logs in total: four access logs per application log. Equal
/// arguments give equal bytes.
pub(crate) fn generate(dir: &Path, lines: u64, seed: u64) -> Result<()> {
    files::make_dir(dir)?;
    let app = lines / 5;
    write::<Access>(&dir.join(ACCESS), lines - app, seed)?;
    // Uses different random numbers for both files.
    write::<App>(&dir.join(APP), app, !seed)
}

/// Returns true if the folder contains a sample.
pub(crate) fn exists(dir: &Path) -> bool {
    [ACCESS, APP].iter().all(|name| dir.join(name).exists())
}

/// Writes a file with logs of one kind.
pub(crate) fn write<S: Source>(path: &Path, lines: u64, seed: u64) -> Result<()> {
    const BUFFER: usize = 1 << 20;
    let failed = || format!("cannot write {}", path.display());
    // Renamed when complete, so that an interrupted sample is not used.
    let temporary = path.with_extension("part");
    let mut file = File::create(&temporary).with_context(failed)?;
    let mut source = S::new(Rng::with_seed(seed));
    let mut out = Vec::with_capacity(BUFFER + 4096);
    for line in 0..lines {
        source.push(&mut out, START + line * SPAN / lines);
        if out.len() >= BUFFER {
            file.write_all(&out).with_context(failed)?;
            out.clear();
        }
    }
    file.write_all(&out).with_context(failed)?;
    fs::rename(&temporary, path).with_context(failed)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn lines<S: Source>(seed: u64) -> Vec<String> {
        let mut source = S::new(Rng::with_seed(seed));
        let mut out = vec![];
        (0..5000).for_each(|line| source.push(&mut out, START + line));
        String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn seed_determines_every_byte() {
        assert_eq!(lines::<Access>(1), lines::<Access>(1));
        assert_eq!(lines::<App>(1), lines::<App>(1));
        assert_ne!(lines::<Access>(1), lines::<Access>(2));
    }

    #[test]
    fn every_line_is_an_object_with_reserved_fields() {
        for line in lines::<Access>(3).iter().chain(&lines::<App>(3)) {
            let log: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(log["__time__"].as_u64().unwrap() >= START);
            for key in ["__topic__", "__source__", "__tag__:__hostname__"] {
                assert!(!log[key].as_str().unwrap().is_empty(), "{key} in {line}");
            }
        }
    }

    #[test]
    fn access_logs_have_ten_fields_of_about_250_bytes() {
        let lines = lines::<Access>(4);
        let mut bytes = 0;
        for line in &lines {
            let log: serde_json::Map<String, Value> = serde_json::from_str(line).unwrap();
            let fields: Vec<_> = log.iter().filter(|(key, _)| !key.starts_with("__")).collect();
            assert_eq!(fields.len(), 10, "{line}");
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            bytes += fields.iter().map(|(key, value)| key.len() + text(value).len()).sum::<usize>();
        }
        let mean = bytes / lines.len();
        assert!((230..300).contains(&mean), "{mean}");
    }

    #[test]
    fn application_logs_have_edge_cases() {
        let text = lines::<App>(5).concat();
        for part in [r#"\""#, r"\n", r"\t", "支付", "é", "🚀", r#""user":null"#, r#""context":{"#] {
            assert!(text.contains(part), "{part}");
        }
        assert!(lines::<App>(5).iter().any(|line| !line.contains(r#""user""#)));
    }
}
