use std::collections::{BTreeMap, HashMap};

/// The severities of the words of syslog and CEF.
const WORDS: [(&str, u8); 22] = [
    ("emerg", 10),
    ("emergency", 10),
    ("panic", 10),
    ("alert", 9),
    ("crit", 8),
    ("critical", 8),
    ("fatal", 8),
    ("err", 7),
    ("error", 7),
    ("warning", 5),
    ("warn", 5),
    ("notice", 4),
    ("info", 3),
    ("informational", 3),
    ("information", 3),
    ("debug", 1),
    ("trace", 0),
    // CEF's words for 0-3, 4-6, 7-8 and 9-10.
    ("low", 2),
    ("medium", 5),
    ("high", 8),
    ("very-high", 10),
    ("very high", 10),
];

/// Parses severities.
pub(crate) struct Severities {
    words: HashMap<String, u8>,
    default: u8,
}

impl Severities {
    pub(crate) fn new(default: u8, configured: &BTreeMap<String, u8>) -> Self {
        let configured = configured.iter().map(|(word, severity)| (word.to_lowercase(), *severity));
        let known = WORDS.map(|(word, severity)| (word.to_owned(), severity));
        Self { words: known.into_iter().chain(configured).collect(), default }
    }

    /// Returns the severity in a value, 0-10, or the default.
    pub(crate) fn of(&self, value: Option<&[u8]>) -> u8 {
        let found = || {
            let word = std::str::from_utf8(value?).ok()?.trim();
            let number = || word.parse().ok().filter(|number| *number <= 10);
            self.words.get(&word.to_lowercase()).copied().or_else(number)
        };
        found().unwrap_or(self.default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_words_and_numbers() {
        let severities = Severities::new(3, &BTreeMap::from([("Blocked".into(), 9), ("info".into(), 0)]));
        for (value, severity) in [
            ("ERROR", 7),
            (" Very-High ", 10),
            ("BLOCKED", 9),
            ("info", 0),
            ("10", 10),
            ("0", 0),
            ("11", 3),
            ("-1", 3),
            ("", 3),
            ("what", 3),
        ] {
            assert_eq!(severities.of(Some(value.as_bytes())), severity, "{value:?}");
        }
        assert_eq!((severities.of(None), severities.of(Some(b"\xff"))), (3, 3));
    }
}
