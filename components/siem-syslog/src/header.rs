use logship_stage::{Batch, Group, Log, Origin, Output, Place, Result, Text};

use crate::{Config, Facility, Rfc, Severity};

/// The part of a message before its text.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    rfc: Rfc,
    facility: (Facility, Option<Origin>),
    severity: (Severity, Option<Origin>),
    /// HOSTNAME, then APP-NAME, PROCID and MSGID (RFC 5424), or the tag and its PID (RFC 3164).
    words: Vec<Word>,
    /// The SD-ID, if messages have structured data.
    structured_data: Option<String>,
    /// The longest message in bytes, if limited.
    max_bytes: Option<usize>,
    bom: bool,
    /// True if it may differ between logs of one group.
    pub(crate) by_log: bool,
}

/// A word of the header.
#[derive(Debug, Clone)]
struct Word {
    constant: Text,
    from: Option<Origin>,
    kind: Kind,
}

/// The syntax of a word.
#[derive(Debug, Clone, Copy)]
struct Kind {
    max_len: usize,
    /// True for an RFC 3164 tag, which receivers end at a colon or a bracket.
    tag: bool,
}

/// The origins of a header's values, looked up in a batch: facility and severity, then the words.
#[derive(Debug)]
pub(crate) struct Places<'a>(Vec<Option<Place<'a>>>);

/// The longest RFC 5424 header without structured data, in bytes.
const MAX_HEADER: usize = 512;
/// The smallest limit for messages, in bytes: every receiver accepts messages of this size.
pub(crate) const MIN_MAX_BYTES: usize = 1024;

impl Header {
    pub(crate) fn of(config: &Config) -> Result<Self> {
        let is_rfc3164 = config.rfc == Rfc::Rfc3164;
        let from = |path: &str, origin: &Option<String>| {
            origin.as_deref().map(|origin| Origin::parse(path, origin)).transpose()
        };
        let word = |path, constant: &str, origin, max_len, tag| {
            let kind = Kind { max_len, tag };
            let mut out = Output::default();
            kind.push(&mut out, constant.as_bytes());
            Result::Ok(Word { constant: Text::from(out.as_bytes()), from: from(path, origin)?, kind })
        };
        let mut words = vec![
            word("hostname-from", &config.hostname, &config.hostname_from, 255, false)?,
            word("tag-from", &config.tag, &config.tag_from, if is_rfc3164 { 32 } else { 48 }, is_rfc3164)?,
            word(
                "procid-from",
                &config.procid,
                &config.procid_from,
                if is_rfc3164 { 32 } else { 128 },
                is_rfc3164,
            )?,
            word("msgid-from", &config.msgid, &config.msgid_from, 32, false)?,
        ];
        if is_rfc3164 {
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
            max_bytes: Some(config.max_bytes).filter(|&max| max > 0),
            bom: config.bom,
        })
    }

    pub(crate) fn places<'a>(&'a self, batch: &'a Batch) -> Places<'a> {
        let from = [&self.facility.1, &self.severity.1].into_iter();
        let from = from.chain(self.words.iter().map(|word| &word.from));
        Places(from.map(|from| Some(from.as_ref()?.within(batch))).collect())
    }

    /// Appends the part before the timestamp, for a log or for all logs of a group.
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

    /// Appends the words after the timestamp, for a log or for all logs of a group.
    pub(crate) fn push_words<'a>(
        &self,
        out: &mut Output,
        places: &Places<'a>,
        group: &Group<'a>,
        log: Option<&Log<'a>>,
    ) {
        for (index, (word, place)) in self.words.iter().zip(&places.0[2..]).enumerate() {
            // The third word of RFC 3164 is the tag's PID, in brackets, if there is one.
            let is_pid = self.rfc == Rfc::Rfc3164 && index == 2;
            let start = out.len();
            out.push_byte(if is_pid { b'[' } else { b' ' });
            match place.and_then(|place| place.value(group, log)) {
                Some(value) => word.kind.push(out, value),
                None => out.push_text(&word.constant),
            }
            if is_pid && out.len() == start + 2 && out.as_bytes().ends_with(b"-") {
                out.truncate(start);
            } else if is_pid {
                out.push_byte(b']');
            }
        }
    }

    /// Returns the part between the words and the text, for messages of a group.
    pub(crate) fn tail(&self, group: &Group<'_>) -> Text {
        if self.rfc == Rfc::Rfc3164 {
            return Text::from(b": ".as_slice());
        }
        let data = self.structured_data.as_ref().map(|id| structured_element(id, group));
        // Truncated structured data would be invalid, so it is omitted if it is too long.
        let data = data.filter(|data| self.max_bytes.is_none_or(|max| data.len() + MAX_HEADER <= max));
        let bom = if self.bom { "\u{feff}" } else { "" };
        Text::from(format!(" {} {bom}", data.as_deref().unwrap_or("-")).as_bytes())
    }
}

impl Kind {
    /// Appends a value as a word: printable ASCII, truncated to the maximum length, a dash for an empty value.
    #[inline(always)]
    fn push(self, out: &mut Output, value: &[u8]) {
        let fits = value.len().wrapping_sub(1) < self.max_len;
        if fits && value.iter().fold(true, |fits, &byte| fits & self.allows(byte)) {
            out.push_value(value);
        } else {
            self.push_sanitized(out, value);
        }
    }

    #[inline(never)]
    fn push_sanitized(self, out: &mut Output, value: &[u8]) {
        // More bytes cannot make more characters.
        let value = &value[..value.len().min(4 * self.max_len)];
        let start = out.len();
        for character in String::from_utf8_lossy(value).chars().take(self.max_len) {
            let byte = u8::try_from(character).ok().filter(|&byte| self.allows(byte));
            out.push_byte(byte.unwrap_or(b'_'));
        }
        if out.len() == start {
            out.push_byte(b'-');
        }
    }

    /// Returns true if the word may contain `byte`. RFC 5424 allows printable ASCII; tags may have letters, digits and
    /// common punctuation.
    #[inline(always)]
    fn allows(self, byte: u8) -> bool {
        byte.is_ascii_graphic() && (!self.tag || byte.is_ascii_alphanumeric() || b"-_./".contains(&byte))
    }
}

/// Returns topic, source and tags as an element of structured data.
fn structured_element(id: &str, group: &Group<'_>) -> String {
    let mut element = format!("[{}", sd_name(id));
    let mut push = |key: &str, value: &str| {
        element.push_str(&format!(" {}=\"", sd_name(key)));
        for character in value.chars() {
            if matches!(character, '"' | '\\' | ']') {
                element.push('\\');
            }
            match character {
                // A line break would split the message in two.
                '\n' => element.push_str("\\n"),
                '\r' => element.push_str("\\r"),
                '\0' => element.push_str("\\0"),
                character => element.push(character),
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
    for tag in group.distinct_tags() {
        // A tag may be called like the log's own topic or source, and must not pass for it.
        let name = if matches!(sd_name(&tag.key).as_str(), "topic" | "source") { "tag_" } else { "" };
        push(&format!("{name}{}", tag.key), &tag.value);
    }
    element.push(']');
    element
}

/// Returns an SD-NAME: a header word without the characters that end a name.
fn sd_name(text: &str) -> String {
    let mut out = Output::default();
    Kind { max_len: 32, tag: false }.push(&mut out, text.as_bytes());
    String::from_utf8_lossy(out.as_bytes()).replace(['=', ']', '"'], "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sanitized(text: &[u8], max_len: usize, tag: bool) -> String {
        let mut out = Output::default();
        Kind { max_len, tag }.push(&mut out, text);
        String::from_utf8(out.into_bytes()).unwrap()
    }

    #[test]
    fn tags_never_pass_for_topic_or_source() {
        let tags = [("source", "forged"), ("topic", "forged"), ("zone", "a"), ("zone", "b")];
        let batch = logship_stage::BatchBuilder::new().group("t", "10.0.0.1", &tags).log(1, &[]).build();
        let element = structured_element("id", &batch.groups().next().unwrap());
        let expected = r#"[id topic="t" source="10.0.0.1" tag_source="forged" tag_topic="forged" zone="b"]"#;
        assert_eq!(element, expected);
    }

    #[test]
    fn replaces_characters_not_allowed_in_headers() {
        assert_eq!(sanitized(b"", 5, false), "-");
        assert_eq!(sanitized("a b\né".as_bytes(), 10, false), "a_b__");
        assert_eq!(sanitized("ab\u{7f}é\0".as_bytes(), 10, false), "ab___");
        assert_eq!(sanitized("ééééé".as_bytes(), 3, false), "___");
        assert_eq!(sanitized(b"a\xff", 9, false), "a_");
        assert_eq!(sanitized(b"abcdef", 5, false), "abcde");
        assert_eq!(sanitized(b"abcde", 5, false), "abcde");
        assert_eq!(sanitized(b"app[7]: x", 32, true), "app_7___x");
        assert_eq!(sd_name("a=b]\"c d"), "a_b__c_d");
    }
}
