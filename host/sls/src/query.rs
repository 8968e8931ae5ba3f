//! URL queries.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// All characters except RFC 3986's unreserved ones.
pub(crate) const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A query's decoded key-value pairs, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

/// A query that is not UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} in the query doesn't decode to UTF-8: encode text as UTF-8, then percent-encode it")]
pub struct InvalidQuery {
    /// The key or value, truncated.
    pub text: String,
}

impl Query {
    /// Parses the part of a URL after `?`. Decodes percent-encoding, and `+` as a space. Keeps a percent sign that
    /// isn't followed by two hexadecimal digits.
    ///
    /// # Errors
    /// Fails if a decoded key or value isn't UTF-8.
    pub fn parse(raw: &str) -> Result<Self, InvalidQuery> {
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(key)?, decode(value)?))
        };
        let pairs = raw.split('&').filter(|pair| !pair.is_empty()).map(pair).collect::<Result<_, _>>()?;
        Ok(Self { pairs })
    }

    /// Returns the value of the first pair with the key `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
    }

    /// Returns all key-value pairs, in order.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }
}

/// Encodes key-value pairs as a URL query.
pub fn encode<K: AsRef<str>, V: AsRef<str>>(pairs: &[(K, V)]) -> String {
    let pair = |(key, value): &(K, V)| {
        let [key, value] = [key.as_ref(), value.as_ref()].map(|text| utf8_percent_encode(text, RESERVED));
        format!("{key}={value}")
    };
    pairs.iter().map(pair).collect::<Vec<_>>().join("&")
}

fn decode(text: &str) -> Result<String, InvalidQuery> {
    let with_spaces = text.replace('+', " ");
    let decoded = percent_decode_str(&with_spaces).decode_utf8();
    decoded.map(|text| text.into_owned()).map_err(|_| InvalidQuery { text: text.chars().take(40).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_pairs_in_order() {
        let query = Query::parse("key=a+b%2Bc%26d%3De%2F%C3%BC~%2A&empty=&none&&=v&key=2&%zz=1%").unwrap();
        let pairs: Vec<_> = query.pairs().iter().map(|(key, value)| (&**key, &**value)).collect();
        let expected =
            [("key", "a b+c&d=e/ü~*"), ("empty", ""), ("none", ""), ("", "v"), ("key", "2"), ("%zz", "1%")];
        assert_eq!(pairs, expected);
        assert_eq!(
            (query.get("key"), query.get("none"), query.get("x")),
            (Some(expected[0].1), Some(""), None)
        );
        assert_eq!(Query::parse(&encode(query.pairs())), Ok(query));
        assert_eq!(Query::parse(""), Ok(Query::default()));
    }

    #[test]
    fn rejects_invalid_utf8() {
        assert_eq!(Query::parse("a=1&b=%ff"), Err(InvalidQuery { text: "%ff".into() }));
        assert!(Query::parse("%c3=1").is_err());
    }
}
