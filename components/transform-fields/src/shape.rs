//! Settings with a short form. Unlike an untagged enum, errors in the long form have an exact path.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use logship_stage::JsonSchema;
use logship_stage::schemars::{Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{DeserializeOwned, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A setting that is a table or, in its short form, a text. A number or a boolean means its text.
pub trait Short: Sized {
    /// The accepted forms, for errors.
    const EXPECTED: &'static str;
    /// True if the short form may be a list of texts.
    const LIST: bool = false;

    /// Converts the short form: one text, or the texts of a list.
    ///
    /// # Errors
    /// The problem with the texts.
    fn of_texts(texts: Vec<String>) -> Result<Self, String>;
}

/// A setting as a table or in its short form.
#[derive(Debug, Clone)]
pub struct Either<T>(pub T);

impl<'de, T: Short + DeserializeOwned> Deserialize<'de> for Either<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Forms(PhantomData)).map(Self)
    }
}

impl<T: Short + JsonSchema> JsonSchema for Either<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}OrShort", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (text, table) =
            (json_schema!({ "type": ["string", "number", "boolean"] }), generator.subschema_for::<T>());
        if T::LIST {
            let list = json_schema!({ "type": "array", "items": text });
            return json_schema!({ "anyOf": [text, list, table] });
        }
        json_schema!({ "anyOf": [text, table] })
    }
}

struct Forms<T>(PhantomData<T>);

impl<'de, T: Short + DeserializeOwned> Visitor<'de> for Forms<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::of_texts(vec![text.to_owned()]).map_err(E::custom)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<T, E> {
        self.visit_str(if value { "true" } else { "false" })
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<T, A::Error> {
        if !T::LIST {
            return Err(A::Error::invalid_type(serde::de::Unexpected::Seq, &self));
        }
        let texts: Vec<Text> = Vec::deserialize(SeqAccessDeserializer::new(items))?;
        T::of_texts(texts.into_iter().map(String::from).collect()).map_err(A::Error::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(entries))
    }
}

/// A text of a list.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a text, a number, true or false")]
enum Text {
    Words(String),
    Number(serde_json::Number),
    Flag(bool),
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        match text {
            Text::Words(words) => words,
            Text::Number(number) => number.to_string(),
            Text::Flag(flag) => flag.to_string(),
        }
    }
}
