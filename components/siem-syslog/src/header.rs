use logship_stage::{Batch, Group, Log, Origin, Output, Place, Result, Text};

use crate::{Config, Facility, Rfc, Severity};

/// What stands before the text of a message.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    rfc: Rfc,
    facility: (Facility, Option<Origin>),
    severity: (Severity, Option<Origin>),
    /// HOSTNAME, and after RFC 5424 APP-NAME, PROCID and MSGID, after RFC 3164 the tag and its PID.
    words: Vec<Word>,
    /// The SD-ID, if there is structured data.
    structured_data: Option<String>,
    /// The longest message, where that is limited.
    max_bytes: Option<usize>,
    bom: bool,
    /// Whether it differs within a group.
    pub(crate) by_log: bool,
}

/// A word of the header.
#[derive(Debug, Clone)]
struct Word {
    constant: Text,
    from: Option<Origin>,
    kind: Kind,
}

/// What a word may be.
#[derive(Debug, Clone, Copy)]
struct Kind {
    longest: usize,
    /// Whether that is what receivers take for a tag of RFC 3164, which ends at a colon or a bracket.
    tag: bool,
}

/// Where the words of a header are in a batch, PRI's two before them.
#[derive(Debug)]
pub(crate) struct Places<'a>(Vec<Option<Place<'a>>>);

/// Bytes of the longest header after RFC 5424 without its structured data.
const LONGEST: usize = 512;
/// The least that messages may be limited to: what any receiver takes.
pub(crate) const LEAST_MAX_BYTES: usize = 1024;

impl Header {
    pub(crate) fn of(config: &Config) -> Result<Self> {
        let old = config.rfc == Rfc::Rfc3164;
        let from = |path: &str, name: &Option<String>| {
            name.as_deref().map(|name| Origin::parse(path, name)).transpose()
        };
        let word = |path, constant: &str, name, longest, tag| {
            let kind = Kind { longest, tag };
            let mut out = Output::default();
            kind.push(&mut out, constant.as_bytes());
            Result::Ok(Word { constant: Text::from(out.as_bytes()), from: from(path, name)?, kind })
        };
        let mut words = vec![
            word("hostname-from", &config.hostname, &config.hostname_from, 255, false)?,
            word("tag-from", &config.tag, &config.tag_from, if old { 32 } else { 48 }, old)?,
            word("procid-from", &config.procid, &config.procid_from, if old { 32 } else { 128 }, old)?,
            word("msgid-from", &config.msgid, &config.msgid_from, 32, false)?,
        ];
        if old {
            words.truncate(3);
        }
        let facility = (config.facility, from("facility-from", &config.facility_from)?);
        let severity = (config.severity, from("severity-from", &config.severity_from)?);
        let all = [&facility.1, &severity.1].into_iter().chain(words.iter().map(|word| &word.from));
        let by_log = all.flatten().any(Origin::is_by_log);
        Ok(Self {
            rfc: config.rfc,
            by_log,
            facility,
            severity,
            words,
            structured_data: config.structured_data.then(|| config.sd_id.clone()),
            max_bytes: Some(config.max_bytes).filter(|&most| most > 0),
            bom: config.bom,
        })
    }

    pub(crate) fn places<'a>(&'a self, batch: &'a Batch) -> Places<'a> {
        let from = [&self.facility.1, &self.severity.1].into_iter();
        let from = from.chain(self.words.iter().map(|word| &word.from));
        Places(from.map(|from| Some(from.as_ref()?.within(batch))).collect())
    }

    /// Appends what stands before the timestamp: of a log, or of all logs of a group.
    pub(crate) fn push_pri<'a>(
        &self,
        out: &mut Output,
        places: &Places<'a>,
        group: &Group<'a>,
        log: Option<&Log<'a>>,
    ) {
        let text = |place: usize| std::str::from_utf8(places.0[place]?.value(group, log)?).ok();
        let facility = text(0).and_then(Facility::parse).unwrap_or(self.facility.0);
        let severity = text(1).and_then(Severity::parse).unwrap_or(self.severity.0);
        out.push_byte(b'<');
        out.push_value(itoa::Buffer::new().format(facility.pri(severity)).as_bytes());
        out.push_value(if self.rfc == Rfc::Rfc3164 { b">" } else { b">1 " });
    }

    /// Appends the words behind the timestamp: of a log, or of all logs of a group.
    pub(crate) fn push_words<'a>(
        &self,
        out: &mut Output,
        places: &Places<'a>,
        group: &Group<'a>,
        log: Option<&Log<'a>>,
    ) {
        for (index, (word, place)) in self.words.iter().zip(&places.0[2..]).enumerate() {
            // The third after RFC 3164 is the tag's, in brackets, where there is one.
            let pid = self.rfc == Rfc::Rfc3164 && index == 2;
            let begin = out.len();
            out.push_byte(if pid { b'[' } else { b' ' });
            match place.and_then(|place| place.value(group, log)) {
                Some(value) => word.kind.push(out, value),
                None => out.push_text(&word.constant),
            }
            if pid && out.len() == begin + 2 && out.as_bytes().ends_with(b"-") {
                out.truncate(begin);
            } else if pid {
                out.push_byte(b']');
            }
        }
    }

    /// What stands between the words and the text, in messages of a group.
    pub(crate) fn tail(&self, group: &Group<'_>) -> Text {
        if self.rfc == Rfc::Rfc3164 {
            return Text::from(b": ".as_slice());
        }
        let data = self.structured_data.as_ref().map(|id| structured(id, group));
        // Structured data that is cut is none, and longer than the message it can't be.
        let data = data.filter(|data| self.max_bytes.is_none_or(|most| data.len() + LONGEST <= most));
        let bom = if self.bom { "\u{feff}" } else { "" };
        Text::from(format!(" {} {bom}", data.as_deref().unwrap_or("-")).as_bytes())
    }
}

impl Kind {
    /// Appends a value as such a word: printable ASCII, not too much, and a dash for nothing.
    #[inline(always)]
    fn push(self, out: &mut Output, value: &[u8]) {
        let fits = value.len().wrapping_sub(1) < self.longest;
        if fits && value.iter().fold(true, |fits, &byte| fits & self.takes(byte)) {
            out.push_value(value);
        } else {
            self.push_made_fit(out, value);
        }
    }

    #[inline(never)]
    fn push_made_fit(self, out: &mut Output, value: &[u8]) {
        // More bytes than that do not become more characters.
        let value = &value[..value.len().min(4 * self.longest)];
        let begin = out.len();
        for letter in String::from_utf8_lossy(value).chars().take(self.longest) {
            let byte = u8::try_from(letter).ok().filter(|&byte| self.takes(byte));
            out.push_byte(byte.unwrap_or(b'_'));
        }
        if out.len() == begin {
            out.push_byte(b'-');
        }
    }

    /// What RFC 5424 allows in a header; in a tag, letters and digits, and what everybody has besides.
    #[inline(always)]
    fn takes(self, byte: u8) -> bool {
        byte.is_ascii_graphic() && (!self.tag || byte.is_ascii_alphanumeric() || b"-_./".contains(&byte))
    }
}

/// Topic, source and tags as an element of structured data.
fn structured(id: &str, group: &Group<'_>) -> String {
    let mut element = format!("[{}", name(id));
    let mut push = |key: &str, value: &str| {
        element.push_str(&format!(" {}=\"", name(key)));
        for letter in value.chars() {
            if matches!(letter, '"' | '\\' | ']') {
                element.push('\\');
            }
            match letter {
                // No message is two.
                '\n' => element.push_str("\\n"),
                '\r' => element.push_str("\\r"),
                '\0' => element.push_str("\\0"),
                letter => element.push(letter),
            }
        }
        element.push('"');
    };
    if !group.topic().is_empty() {
        push("topic", group.topic());
    }
    if !group.source().is_empty() {
        push("source", group.source());
    }
    group.tags().iter().for_each(|tag| push(&tag.key, &tag.value));
    element.push(']');
    element
}

/// An SD-NAME: as in a header, without what ends it.
fn name(text: &str) -> String {
    let mut out = Output::default();
    Kind { longest: 32, tag: false }.push(&mut out, text.as_bytes());
    String::from_utf8_lossy(out.as_bytes()).replace(['=', ']', '"'], "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made_fit(text: &[u8], longest: usize, tag: bool) -> String {
        let mut out = Output::default();
        Kind { longest, tag }.push(&mut out, text);
        String::from_utf8(out.into_bytes()).unwrap()
    }

    #[test]
    fn what_a_header_can_not_hold_is_replaced() {
        assert_eq!(made_fit(b"", 5, false), "-");
        assert_eq!(made_fit("a b\né".as_bytes(), 10, false), "a_b__");
        assert_eq!(made_fit("ab\u{7f}é\0".as_bytes(), 10, false), "ab___");
        assert_eq!(made_fit("ééééé".as_bytes(), 3, false), "___");
        assert_eq!(made_fit(b"a\xff", 9, false), "a_");
        assert_eq!(made_fit(b"abcdef", 5, false), "abcde");
        assert_eq!(made_fit(b"abcde", 5, false), "abcde");
        assert_eq!(made_fit(b"app[7]: x", 32, true), "app_7___x");
        assert_eq!(name("a=b]\"c d"), "a_b__c_d");
    }
}
