//! The id of a put, in the header `x-logship-put-id`: a repeated put is stored once.

use logship_logstore::PutId;
use logship_sls::error::{ApiError, ErrorCode};
use logship_sls::header::PUT_ID_HEADER;
use sha2::{Digest, Sha256};

use crate::call::Call;

/// The longest header, in bytes.
const MAX_BYTES: usize = 128;

/// The characters between the client and the sequence. The documented one is the colon.
const SEPARATORS: [char; 6] = [':', ',', '/', ';', '-', ' '];

/// The id of a put whose content is not known yet.
#[derive(Debug)]
pub(crate) struct UnfinishedId {
    key: String,
    client: String,
    sequence: i64,
    /// Of the query, which selects the shard and the field with the time.
    digest: Sha256,
}

impl UnfinishedId {
    /// Reads the header, if the request has it.
    pub(crate) fn of(call: &Call) -> Result<Option<Self>, ApiError> {
        let mut values = call.headers.get_all(PUT_ID_HEADER).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let text = value.to_str().ok().filter(|_| values.next().is_none());
        let (client, sequence) = text.and_then(parse).ok_or_else(|| {
            let message = format!(
                "{PUT_ID_HEADER} must be one CLIENT:SEQUENCE of at most {MAX_BYTES} characters, such as web-1:42"
            );
            ApiError::new(ErrorCode::ParameterInvalid, message)
        })?;
        let mut digest = Sha256::new();
        for text in call.query.pairs().iter().flat_map(|(name, value)| [name, value]) {
            digest.update((text.len() as u64).to_le_bytes());
            digest.update(text);
        }
        digest.update(u64::MAX.to_le_bytes());
        Ok(Some(Self { key: call.key.id.clone(), client, sequence, digest }))
    }

    /// Returns the id of a put with this content.
    pub(crate) fn finish(self, content: &[u8]) -> PutId {
        let Self { key, client, sequence, digest: hash } = self;
        let mut digest = [0; 16];
        digest.copy_from_slice(&hash.chain_update(content).finalize()[..16]);
        PutId { key, client, sequence, digest }
    }
}

/// Returns the client and the sequence. A text without a sequence is a client with one put.
fn parse(text: &str) -> Option<(String, i64)> {
    let text = text.trim();
    if text.is_empty() || text.len() > MAX_BYTES || text.contains(|letter: char| letter.is_control()) {
        return None;
    }
    let (client, number) = text.rsplit_once(SEPARATORS).unwrap_or((text, ""));
    let client = client.trim_end_matches(SEPARATORS);
    // 7 and 07 must not be the same sequence.
    let is_number =
        number.bytes().all(|byte| byte.is_ascii_digit()) && (number == "0" || !number.starts_with('0'));
    match number.parse() {
        Ok(sequence) if is_number && !client.is_empty() => Some((client.to_owned(), sequence)),
        _ => Some((text.to_owned(), 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn parses_client_and_sequence() {
        let long = "x".repeat(128);
        for (text, client, sequence) in [
            ("web-1:42", "web-1", 42),
            ("web-1, 42", "web-1", 42),
            (" a/0 ", "a", 0),
            ("a:07", "a:07", 0),
            ("a:+7", "a:+7", 0),
            ("a:9223372036854775807", "a", i64::MAX),
            ("a:9223372036854775808", "a:9223372036854775808", 0),
            ("6ba7b810-9dad-11d1-80b4-00c04fd430c8", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", 0),
            (":1", ":1", 0),
            ("42", "42", 0),
            (&long, &long, 0),
        ] {
            assert_eq!(parse(text), Some((client.to_owned(), sequence)), "{text}");
        }
        for text in ["", "  ", "a\t1", &"x".repeat(129)] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
