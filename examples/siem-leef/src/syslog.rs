use chrono::DateTime;

/// The syslog severity for each LEEF severity; these begin at 1.
const SYSLOG: [u8; 11] = [7, 7, 6, 6, 5, 4, 4, 3, 2, 1, 0];

/// The RFC 3164 header without a tag, which LEEF does not use: `<14>Jan 20 11:50:43 web-1 `.
pub(crate) struct SyslogHeader {
    facility: u8,
    hostname: String,
    /// The time of `text`. Consecutive logs often have the same time.
    seconds: Option<u32>,
    text: String,
}

impl SyslogHeader {
    pub(crate) fn new(facility: u8, hostname: &str) -> Self {
        let hostname = hostname.replace(|character: char| !character.is_ascii_graphic(), "_");
        Self { facility, hostname, seconds: None, text: String::new() }
    }

    /// Appends the header for a time, in Unix seconds, and a LEEF severity, if any.
    pub(crate) fn push(&mut self, out: &mut Vec<u8>, seconds: u32, severity: Option<u8>) {
        if self.seconds != Some(seconds) {
            let time = DateTime::from_timestamp(seconds.into(), 0).unwrap_or_default();
            self.text = format!("{} {} ", time.format("%b %e %H:%M:%S"), self.hostname);
            self.seconds = Some(seconds);
        }
        let pri = self.facility * 8 + severity.map_or(6, |severity| SYSLOG[usize::from(severity)]);
        out.extend_from_slice(format!("<{pri}>").as_bytes());
        out.extend_from_slice(self.text.as_bytes());
    }
}
