//! The lines of a manifest's settings, for messages.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The positions of a manifest's settings, however they are written: as sections, inline tables or dotted keys.
pub(crate) struct Lines<'a> {
    text: &'a str,
    root: Option<Spanned<DeTable<'a>>>,
}

impl<'a> Lines<'a> {
    /// Reads the positions. A text that is no TOML has none.
    pub(crate) fn of(text: &'a str) -> Self {
        Self { text, root: DeTable::parse(text).ok() }
    }

    /// Returns the line of a setting, or of the innermost one around it that is there. The path has the keys of tables
    /// and the indices of arrays.
    pub(crate) fn line(&self, path: &[&str]) -> Option<usize> {
        let mut found = None;
        let mut table = Some(self.root.as_ref()?.get_ref());
        let mut array = None;
        for step in path {
            let (start, value) = if let Some(table) = table {
                let Some((key, value)) = table.iter().find(|(key, _)| key.get_ref() == *step) else { break };
                (key.span().start, value)
            } else {
                let item =
                    array.and_then(|array: &[Spanned<DeValue<'a>>]| array.get(step.parse::<usize>().ok()?));
                let Some(item) = item else { break };
                (item.span().start, item)
            };
            found = Some(start);
            table = value.get_ref().as_table();
            array = match value.get_ref() {
                DeValue::Array(array) => Some(&**array),
                _ => None,
            };
        }
        let before = self.text.get(..found?)?;
        Some(before.matches('\n').count() + 1)
    }

    /// Returns the keys of a table.
    pub(crate) fn keys(&self, path: &[&str]) -> Vec<&str> {
        let Some(root) = &self.root else { return vec![] };
        let mut table = root.get_ref();
        for step in path {
            let inner = table.iter().find(|(key, _)| key.get_ref() == *step);
            let Some(inner) = inner.and_then(|(_, value)| value.get_ref().as_table()) else { return vec![] };
            table = inner;
        }
        table.keys().map(|key| &**key.get_ref()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
x = """
[component.a]
source = "no"
"""
[[trigger.http]]
route = "/a"
[[trigger.http]]
route = "/b"
[ component . "a" ]   # a comment
source = "s"
hosts = [
    "first",
    "second",
]
variables.bb = "1"
variables.b = "2"
[component.a.dependencies]
'p:q/r@1' = { path = "f" }
[other]
inline = { deep = { key = 1 } }
"#;

    #[test]
    fn finds_lines_of_settings_in_any_form() {
        for text in [TEXT.to_owned(), TEXT.replace('\n', "\r\n")] {
            let lines = Lines::of(&text);
            for (path, line) in [
                (&["component", "a", "source"][..], 11),
                (&["component", "a", "hosts", "1"], 14),
                (&["component", "a", "variables", "bb"], 16),
                (&["component", "a", "variables", "b"], 17),
                (&["component", "a", "dependencies", "p:q/r@1"], 19),
                (&["component", "a", "none", "deeper"], 10),
                (&["trigger", "http", "0", "route"], 7),
                (&["trigger", "http", "1"], 8),
                (&["other", "inline", "deep", "key"], 21),
            ] {
                assert_eq!(lines.line(path), Some(line), "{path:?}");
            }
            assert_eq!(lines.line(&["none"]), None);
            assert_eq!(lines.keys(&["component", "a"]), ["dependencies", "hosts", "source", "variables"]);
        }
        assert_eq!(Lines::of("= ").line(&["a"]), None);
    }
}
