use logship_stage::object_path::{Description, Request};
use logship_stage::{Error, Renderer, Result, config};

use crate::{Config, partition};

/// The longest key that every object store accepts, in bytes.
const MAX_KEY: usize = 1023;

/// Renders keys from a rule's prefix and partition format.
#[derive(Debug)]
pub struct PathRenderer;

impl Renderer for PathRenderer {
    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            config_schema: config::schema::<Config>(),
        }
    }

    fn render(text: &str, request: &Request) -> Result<String> {
        config::parse::<Config>(text)?;
        let prefix = request.prefix.strip_suffix('/').unwrap_or(&request.prefix);
        check("prefix", &request.prefix, prefix)?;
        let format = &request.partition_format;
        let partition = partition::render(format, request.partition_time, request.utc_offset)?;

        let directory = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let separator = if format.is_empty() { "" } else { "_" };
        let (time, number, suffix) = (request.creation_time, request.number, &request.suffix);
        let file_name = format!("{partition}{separator}{time}_{number}{suffix}");
        check("partition-format", format, &file_name)?;
        let key = directory + &file_name;
        if key.len() > MAX_KEY {
            let reason =
                format!("the key has {} bytes, but at most {MAX_KEY} are allowed; shorten it", key.len());
            let longer = if prefix.len() > file_name.len() { "prefix" } else { "partition-format" };
            return Err(Error::config(longer, reason));
        }
        Ok(key)
    }
}

/// Rejects invalid levels of a key. `text` is the rule's setting at `path`, `levels` the rendered levels.
fn check(path: &str, text: &str, levels: &str) -> Result<()> {
    let rejected = |problem: &str| Err(Error::config(path, format!("{text:?} {problem}")));
    if text.starts_with(['/', '\\']) || levels.starts_with(['/', '\\']) {
        return rejected("begins with a slash; remove it");
    }
    if levels.chars().any(char::is_control) {
        return rejected("has a control character; remove it");
    }
    for level in levels.split('/') {
        match level {
            "" if !levels.is_empty() => {
                return rejected("has an empty level; write one / between two levels");
            }
            "." | ".." => return rejected("has a level . or ..; name the directory itself"),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A task created at 2017-01-20 19:50:43, +08:00.
    fn request(prefix: &str, partition_format: &str, suffix: &str) -> Request {
        Request {
            rule: "rule".into(),
            project: "project".into(),
            logstore: "logstore".into(),
            shard: 3,
            prefix: prefix.into(),
            partition_format: partition_format.into(),
            partition_time: 1_484_913_043_351_525_351,
            utc_offset: 28_800,
            creation_time: 1_484_913_043_351_525_351,
            number: 2_850_008,
            suffix: suffix.into(),
        }
    }

    fn render(prefix: &str, partition_format: &str, suffix: &str) -> Result<String> {
        PathRenderer::render("", &request(prefix, partition_format, suffix))
    }

    fn rejected(prefix: &str, partition_format: &str) -> String {
        render(prefix, partition_format, "").unwrap_err().to_string()
    }

    #[test]
    fn renders_the_examples_of_the_guide() {
        let cases = [
            ("test-table", "%Y/%m/%d/%H/%M", "", "test-table/2017/01/20/19/50_1484913043351525351_2850008"),
            (
                "log_ship_oss_example",
                "year=%Y/mon=%m/day=%d/log_%H%M%s",
                ".parquet",
                "log_ship_oss_example/year=2017/mon=01/day=20/log_195043_1484913043351525351_2850008.parquet",
            ),
            (
                "log_ship_oss_example",
                "ds=%Y%m%d/%H",
                ".snappy",
                "log_ship_oss_example/ds=20170120/19_1484913043351525351_2850008.snappy",
            ),
            (
                "log_ship_oss_example",
                "%Y%m%d/",
                "",
                "log_ship_oss_example/20170120/_1484913043351525351_2850008",
            ),
            (
                "log_ship_oss_example",
                "%Y%m%d%H",
                "",
                "log_ship_oss_example/2017012019_1484913043351525351_2850008",
            ),
        ];
        for (prefix, format, suffix, key) in cases {
            assert_eq!(render(prefix, format, suffix).unwrap(), key);
        }
    }

    #[test]
    fn prefix_and_partition_are_optional() {
        assert_eq!(render("", "%Y/%m", ".csv").unwrap(), "2017/01_1484913043351525351_2850008.csv");
        assert_eq!(render("a/b/", "", "").unwrap(), "a/b/1484913043351525351_2850008");
        assert_eq!(render("a/b/", "%Y", "").unwrap(), render("a/b", "%Y", "").unwrap());
        assert_eq!(render("", "", "").unwrap(), "1484913043351525351_2850008");
    }

    #[test]
    fn partition_time_may_differ_from_task_time() {
        let request = Request { partition_time: 0, utc_offset: -3_600, ..request("p", "%Y%m%d-%H", "") };
        let key = PathRenderer::render("", &request).unwrap();
        assert_eq!(key, "p/19691231-23_1484913043351525351_2850008");
    }

    #[test]
    fn rejects_invalid_keys_by_setting() {
        for prefix in ["/a", "/", "\\a", "a//b", "a//", "a/./b", "..", "a/..", "a\nb", "a/\u{7f}"] {
            assert!(rejected(prefix, "%Y").starts_with("prefix: "), "{prefix:?}");
        }
        for format in ["/%Y", "\\%Y", "%Y//%m", "%Y//", "./%Y", "%Y/../%m", "%Y\t", "%q", "%"] {
            assert!(rejected("a", format).starts_with("partition-format: "), "{format:?}");
            assert!(rejected("", format).starts_with("partition-format: "), "{format:?}");
        }
        assert_eq!(
            rejected("a//b", ""),
            r#"prefix: "a//b" has an empty level; write one / between two levels"#
        );
        assert!(PathRenderer::render(r#"{"a": 1}"#, &request("", "", "")).is_err());
    }

    #[test]
    fn rejects_keys_above_1023_bytes() {
        let id = "/1484913043351525351_2850008".len();
        let longest = "é".repeat((MAX_KEY - id) / 2) + "x";
        assert_eq!(render(&longest, "", "").unwrap().len(), MAX_KEY);
        assert!(rejected(&format!("{longest}x"), "").starts_with("prefix: the key has 1024 bytes"));
        assert!(rejected("a", &"%B".repeat(200)).starts_with("partition-format: the key has"));
    }

    proptest! {
        #[test]
        fn accepted_settings_give_valid_keys(
            prefix in r"[a./\\%é\n]{0,6}", format in r"[a./\\%YHq\t]{0,6}",
            partition_time: u64, utc_offset in -86_399..86_400i32,
        ) {
            let request = Request { partition_time, utc_offset, ..request(&prefix, &format, ".csv") };
            if let Ok(key) = PathRenderer::render("", &request) {
                prop_assert!(key.len() <= MAX_KEY && !key.starts_with('\\') && !key.contains(char::is_control));
                prop_assert!(key.split('/').all(|level| !["", ".", ".."].contains(&level)), "{key}");
                prop_assert!(key.starts_with(&prefix) && key.ends_with("1484913043351525351_2850008.csv"));
            }
        }
    }
}
