use std::collections::{BTreeMap, HashMap};

/// The severities of the words of syslog.
const WORDS: [(&str, u8); 17] = [
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
    ("trace", 1),
];

/// Parses severities.
pub(crate) struct Severities(HashMap<String, u8>);

impl Severities {
    pub(crate) fn new(configured: &BTreeMap<String, u8>) -> Self {
        let configured = configured.iter().map(|(word, severity)| (word.to_lowercase(), *severity));
        let known = WORDS.map(|(word, severity)| (word.to_owned(), severity));
        Self(known.into_iter().chain(configured).collect())
    }

    /// Returns the severity in a value, 1-10, if it has one.
    pub(crate) fn of(&self, value: Option<&[u8]>) -> Option<u8> {
        let word = std::str::from_utf8(value?).ok()?.trim();
        let number = || word.parse().ok().filter(|number| (1..=10).contains(number));
        self.0.get(&word.to_lowercase()).copied().or_else(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_words_and_numbers() {
        let severities = Severities::new(&BTreeMap::from([("Blocked".into(), 9)]));
        for (value, severity) in [
            ("ERROR", Some(7)),
            (" blocked ", Some(9)),
            ("10", Some(10)),
            ("0", None),
            ("11", None),
            ("", None),
        ] {
            assert_eq!(severities.of(Some(value.as_bytes())), severity, "{value:?}");
        }
        assert_eq!((severities.of(None), severities.of(Some(b"\xff"))), (None, None));
    }
}
