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

/// The first log's `__time__`: 2025-10-09 08:53:20 UTC. Fixed, so that a sample is the same always.
const START: u64 = 1_760_000_000;
/// What the times of a sample span, whatever its size.
const SPAN: u64 = 3600;

/// Logs of one kind, made one after the other.
pub(crate) trait Source {
    /// The source whose logs a seed decides.
    fn new(rng: Rng) -> Self;
    /// Appends a line for a log of that `__time__`.
    fn push(&mut self, out: &mut Vec<u8>, time: u64);
}

/// Writes access.ndjson and app.ndjson, `lines` together: four access logs for each log of the
/// application. The same arguments give the same bytes.
pub(crate) fn generate(dir: &Path, lines: u64, seed: u64) -> Result<()> {
    files::make_dir(dir)?;
    let app = lines / 5;
    write::<Access>(&dir.join(ACCESS), lines - app, seed)?;
    // Not the same stream of random numbers for both.
    write::<App>(&dir.join(APP), app, !seed)
}

/// Whether a sample stands in the folder.
pub(crate) fn is_in(dir: &Path) -> bool {
    [ACCESS, APP].iter().all(|name| dir.join(name).exists())
}

/// Writes a file of one kind.
pub(crate) fn write<S: Source>(path: &Path, lines: u64, seed: u64) -> Result<()> {
    const BUFFER: usize = 1 << 20;
    let failed = || format!("cannot write {}", path.display());
    // Renamed when whole: a sample that was broken off is not taken for one.
    let half = path.with_extension("part");
    let mut file = File::create(&half).with_context(failed)?;
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
    fs::rename(&half, path).with_context(failed)
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
    fn a_seed_decides_every_byte() {
        assert_eq!(lines::<Access>(1), lines::<Access>(1));
        assert_eq!(lines::<App>(1), lines::<App>(1));
        assert_ne!(lines::<Access>(1), lines::<Access>(2));
    }

    #[test]
    fn every_line_is_an_object_with_the_reserved_members() {
        for line in lines::<Access>(3).iter().chain(&lines::<App>(3)) {
            let log: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(log["__time__"].as_u64().unwrap() >= START);
            for key in ["__topic__", "__source__", "__tag__:__hostname__"] {
                assert!(!log[key].as_str().unwrap().is_empty(), "{key} in {line}");
            }
        }
    }

    #[test]
    fn an_access_log_has_ten_fields_of_about_250_bytes() {
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
    fn logs_of_the_application_have_what_is_hard_to_ship() {
        let text = lines::<App>(5).concat();
        for part in [r#"\""#, r"\n", r"\t", "支付", "é", "🚀", r#""user":null"#, r#""context":{"#] {
            assert!(text.contains(part), "{part}");
        }
        assert!(lines::<App>(5).iter().any(|line| !line.contains(r#""user""#)));
    }
}
