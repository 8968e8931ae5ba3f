//! Comments in JSON scripts.

/// Replaces `//` and `/* */` comments by spaces, so that lines and columns stay. Texts in quotes are no comments.
pub(super) fn without_comments(script: &str) -> String {
    let mut output = String::with_capacity(script.len());
    let mut rest = script;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => {
                let length = text_length(rest);
                output.push_str(&rest[..length]);
                length
            }
            '/' if rest.starts_with("//") => {
                let length = rest.find('\n').unwrap_or(rest.len());
                blank(&mut output, &rest[..length]);
                length
            }
            '/' if rest.starts_with("/*") => match rest[2..].find("*/") {
                Some(end) => {
                    blank(&mut output, &rest[..end + 4]);
                    end + 4
                }
                // An unterminated comment stays, and is an error of JSON.
                None => {
                    output.push_str(rest);
                    rest.len()
                }
            },
            other => {
                output.push(other);
                other.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    output
}

/// Returns the length of the text that begins with a quote, with both quotes.
fn text_length(rest: &str) -> usize {
    let mut is_escaped = false;
    for (index, letter) in rest.char_indices().skip(1) {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return index + 1,
            _ => {}
        }
    }
    rest.len()
}

fn blank(output: &mut String, comment: &str) {
    output.extend(comment.chars().map(|letter| if letter == '\n' { '\n' } else { ' ' }));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn removes_comments_and_keeps_lines() {
        let script =
            "{ // a \"comment\"\n \"a\": \"http://x/*y*/\", /* of\ntwo lines */ \"b\\\"//\": 1 } // end";
        let clean = without_comments(script);
        assert_eq!(clean.lines().count(), script.lines().count());
        let value: serde_json::Value = serde_json::from_str(&clean).unwrap();
        assert_eq!(value, serde_json::json!({ "a": "http://x/*y*/", "b\"//": 1 }));
        assert!(serde_json::from_str::<serde_json::Value>(&without_comments("{} /* open")).is_err());
    }

    proptest! {
        #[test]
        fn json_without_comments_stays(value in ".*", script in ".*") {
            let json = serde_json::json!({ "a": value }).to_string();
            prop_assert_eq!(without_comments(&json), json);
            prop_assert_eq!(without_comments(&script).lines().count(), script.lines().count());
        }
    }
}
