//! The query of a URL.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// All but what a URL may have anywhere: RFC 3986's unreserved characters.
pub(crate) const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The decoded keys and values of a query, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

/// A query that is no text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} in the query is not UTF-8 when it is decoded. Encode text as UTF-8, then by percent signs")]
pub struct InvalidQuery {
    /// The key or value, shortened.
    pub text: String,
}

impl Query {
    /// Decodes what stands behind the `?` of a URL: percent signs, and `+` as a space. A percent sign that isn't
    /// followed by two hexadecimal digits stays.
    ///
    /// # Errors
    /// When a decoded key or value isn't UTF-8.
    pub fn parse(raw: &str) -> Result<Self, InvalidQuery> {
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(key)?, decode(value)?))
        };
        let pairs = raw.split('&').filter(|pair| !pair.is_empty()).map(pair).collect::<Result<_, _>>()?;
        Ok(Self { pairs })
    }

    /// The value of the first pair with the key `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
    }

    /// All keys and values, in their order.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }
}

/// The query of a URL that has these keys and values.
pub fn encode<K: AsRef<str>, V: AsRef<str>>(pairs: &[(K, V)]) -> String {
    let pair = |(key, value): &(K, V)| {
        let [key, value] = [key.as_ref(), value.as_ref()].map(|text| utf8_percent_encode(text, RESERVED));
        format!("{key}={value}")
    };
    pairs.iter().map(pair).collect::<Vec<_>>().join("&")
}

fn decode(text: &str) -> Result<String, InvalidQuery> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded.map(|text| text.into_owned()).map_err(|_| InvalidQuery { text: text.chars().take(40).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded_in_order() {
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
    fn what_is_no_text_is_refused() {
        assert_eq!(Query::parse("a=1&b=%ff"), Err(InvalidQuery { text: "%ff".into() }));
        assert!(Query::parse("%c3=1").is_err());
    }
}
