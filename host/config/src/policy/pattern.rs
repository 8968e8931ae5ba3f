//! Patterns of policies, in which `*` matches any text.

/// The first segments of resources.
const KINDS: [&str; 4] = ["project", "stage", "store", "metrics"];

/// Returns true if a text matches a pattern. A `*` matches any text, also an empty one, and also `/` and `:`.
///
/// The time is at most proportional to the product of both lengths, whatever the pattern.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut read) = (0, 0);
    // The position behind the last `*`, and the first byte of the text that it does not cover.
    let mut star: Option<(usize, usize)> = None;
    while read < text.len() {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            star = Some((at, read));
        } else if pattern.get(at) == Some(&text[read]) {
            at += 1;
            read += 1;
        } else if let Some((behind, covered)) = star {
            star = Some((behind, covered + 1));
            at = behind;
            read = covered + 1;
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

/// Checks a pattern of actions, such as `log:Get*`. The names of actions are checked by the service.
pub(super) fn check_action(pattern: &str) -> Result<(), String> {
    check_letters("Action", pattern, "_*:")?;
    let has_service = pattern.split_once(':').is_some_and(|(service, name)| {
        !service.is_empty() && !service.contains('*') && !name.is_empty() && !name.contains(':')
    });
    if pattern == "*" || has_service {
        return Ok(());
    }
    Err(format!("Action {pattern:?} is not SERVICE:NAME: use for example log:GetLogStore, log:Get* or *"))
}

/// Checks a pattern of resources, such as `acs:log:*:*:project/web/*`.
pub(super) fn check_resource(pattern: &str) -> Result<(), String> {
    check_letters("Resource", pattern, ":/*._-")?;
    let invalid = |problem: &str| {
        Err(format!(
            "Resource {pattern:?} {problem}: use *, or acs:log:REGION:ACCOUNT:PATH as in acs:log:*:*:project/web/logstore/access"
        ))
    };
    if pattern == "*" {
        return Ok(());
    }
    let parts: Vec<&str> = pattern.splitn(5, ':').collect();
    if parts[0] != "acs" {
        return invalid("does not begin with acs:");
    }
    if !matches!(parts.get(1), Some(&"log" | &"*")) {
        return invalid("is of another service than log");
    }
    match parts[..] {
        [_, _, _, _, path] => check_path(path).or_else(|problem| invalid(&problem)),
        // `acs:log:*` is everything, and `acs:log:*project/web` would be a riddle.
        [.., "*"] => Ok(()),
        _ => invalid("has too few parts"),
    }
}

fn check_path(path: &str) -> Result<(), String> {
    let kind = path.split('/').next().unwrap_or_default();
    if kind.contains('*') || KINDS.contains(&kind) {
        return Ok(());
    }
    Err(format!("has a path of the unknown kind {kind:?} ({})", KINDS.join(", ")))
}

fn check_letters(element: &str, pattern: &str, others: &str) -> Result<(), String> {
    let is_known = |letter: char| letter.is_ascii_alphanumeric() || others.contains(letter);
    match pattern.chars().find(|&letter| !is_known(letter)) {
        _ if pattern.is_empty() => Err(format!("{element} has an empty text")),
        None => Ok(()),
        Some('?') => Err(format!("{element} {pattern:?} has a ?: the only wildcard is *")),
        Some(letter) => Err(format!(
            "{element} {pattern:?} has the character {letter:?}: use letters, digits and {others}; replace placeholders by names"
        )),
    }
}

/// Returns true if a checked pattern of actions matches the name of an action. Case does not matter.
pub(super) fn matches_action(pattern: &str, action: &str) -> bool {
    matches(&pattern.to_ascii_lowercase(), &action.to_ascii_lowercase())
}

/// Returns true if a checked pattern of resources matches a path, such as `project/web`. A logship service has no
/// regions and accounts, so those of the pattern don't matter.
pub(super) fn matches_resource(pattern: &str, path: &str) -> bool {
    match pattern.splitn(5, ':').nth(4) {
        Some(pattern) => matches(pattern, path),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn star_matches_any_text_in_any_place() {
        for (pattern, text) in [
            ("*", ""),
            ("*", "a/b"),
            ("a*", "a"),
            ("*a", "banana"),
            ("a*c", "abc"),
            ("a**c", "ac"),
            ("*b*", "abc"),
            ("a*b*c", "a-b-b-c"),
            ("project/*/logstore/x", "project/p/logstore/x"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("a", ""),
            ("a*c", "abcd"),
            ("a*b*c", "a-c-b"),
            ("A", "a"),
            ("*a", "ab"),
            ("ab", "a*"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let (pattern, text) = ("*a".repeat(2000) + "b", "a".repeat(4000));
        let begun = Instant::now();
        assert!(!matches(&pattern, &text));
        assert!(begun.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn resources_ignore_region_and_account() {
        for pattern in
            ["acs:log:*:*:project/web", "acs:log:cn-hangzhou:1234:project/web", "acs:*:*:*:project/w*"]
        {
            check_resource(pattern).unwrap();
            assert!(matches_resource(pattern, "project/web"), "{pattern}");
            assert!(!matches_resource(pattern, "project/shop"), "{pattern}");
        }
        for pattern in ["*", "acs:*", "acs:log:*", "acs:log:*:*", "acs:log:*:*:*"] {
            check_resource(pattern).unwrap();
            assert!(matches_resource(pattern, "project/web/logstore/x"), "{pattern}");
        }
    }

    #[test]
    fn rejects_other_resources() {
        for (pattern, problem) in [
            ("", "empty"),
            ("project/web", "does not begin with acs:"),
            ("**", "does not begin with acs:"),
            ("acs", "of another service"),
            ("acs:oss:*:*:bucket", "of another service"),
            ("acs:l*:*:*:*", "of another service"),
            ("acs:log:*project/web", "too few parts"),
            ("acs:log:cn:1", "too few parts"),
            ("acs:log:*:*:", "unknown kind \"\""),
            ("acs:log:*:*:Project/web", "unknown kind \"Project\""),
            ("acs:log:*:*:/project/web", "unknown kind \"\""),
            ("acs:log:*:*:project/we?", "the only wildcard is *"),
            ("acs:log:*:*:project/<Project name>/*", "'<'"),
            ("acs:log:*:*:project/${projectName}", "'$'"),
            ("acs:log:*:*:project/web\n", "'\\n'"),
        ] {
            let error = check_resource(pattern).unwrap_err();
            assert!(error.contains(problem), "{pattern}: {error}");
        }
    }

    #[test]
    fn actions_have_a_service_and_no_case() {
        for action in ["*", "log:*", "log:Get*", "log:*Shards", "LOG:getlogstore"] {
            check_action(action).unwrap();
        }
        assert!(
            matches_action("LOG:get*", "log:GetLogStore") && !matches_action("log:Get", "log:GetLogStore")
        );
        for action in
            ["", "GetLogStore", "**", ":x", "log:", "*:Get", "l*:x", "log:a:b", "log:Get?", "log:Get Logs"]
        {
            check_action(action).unwrap_err();
        }
    }
}
