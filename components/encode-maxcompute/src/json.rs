//! Values of nested types, from JSON text: `[1,2]`, `{"a":1}`.

use serde::de::IgnoredAny;

use crate::array::{Array, Data};
use crate::convert::{Rules, shown};
use crate::types::Type;

/// Returns true if a text is JSON.
pub(crate) fn is_valid(text: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(text).is_ok()
}

/// Appends a value of a nested type.
///
/// # Errors
/// The reason why it does not convert. The array may have a part of the value then.
pub(crate) fn append(rules: &Rules, array: &mut Array, data_type: &Type, text: &[u8]) -> Result<(), String> {
    let Some(json) = std::str::from_utf8(text).ok().filter(|_| is_valid(text)) else {
        return Err(format!("{} is not JSON", shown(text)));
    };
    // An empty item of a list is no null: only the value of a field is.
    let rules = Rules { empty_is_null: false, ..*rules };
    append_json(&rules, array, data_type, json.trim_ascii())
}

/// Appends a value of valid JSON.
fn append_json(rules: &Rules, array: &mut Array, data_type: &Type, json: &str) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{} is not {what}", shown(json.as_bytes())));
    if json == "null" {
        array.push_null();
        return Ok(());
    }
    match data_type {
        Type::Array(item) | Type::Vector(item, _) => {
            let Some(items) = json.strip_prefix('[') else { return wrong("a JSON array") };
            let items: Vec<&str> = split(items).collect();
            if let Type::Vector(_, length) = data_type
                && items.len() != *length
            {
                return wrong(&format!("a JSON array of {length} items"));
            }
            append_list(array, |list| items.iter().try_for_each(|json| append_json(rules, list, item, json)))
        }
        Type::Map(key_type, value_type) => {
            let Some(members) = json.strip_prefix('{') else { return wrong("a JSON object") };
            append_list(array, |entries| {
                split(members).try_for_each(|member| {
                    let (key, value) = key_and_value(member)?;
                    let Data::Struct(columns) = &mut entries.data else { return Ok(()) };
                    rules.append_text(&mut columns[0], key_type, key.as_bytes())?;
                    append_json(rules, &mut columns[1], value_type, value)?;
                    entries.valid.push(1);
                    Ok(())
                })
            })
        }
        Type::Struct(fields) => {
            let Some(members) = json.strip_prefix('{') else { return wrong("a JSON object") };
            let members = split(members).map(key_and_value).collect::<Result<Vec<_>, _>>()?;
            let Data::Struct(columns) = &mut array.data else { return Ok(()) };
            for ((name, field_type), column) in fields.iter().zip(columns) {
                let found = members.iter().rev().find(|(key, _)| key.eq_ignore_ascii_case(name));
                append_json(rules, column, field_type, found.map_or("null", |(_, json)| json))
                    .map_err(|reason| format!("field {name}: {reason}"))?;
            }
            array.valid.push(1);
            Ok(())
        }
        _ if json.starts_with('"') => rules.append_text(array, data_type, string(json)?.as_bytes()),
        // A number, a boolean, or for a text any JSON.
        _ => rules.append_text(array, data_type, json.as_bytes()),
    }
}

fn append_list(
    array: &mut Array,
    append: impl FnOnce(&mut Array) -> Result<(), String>,
) -> Result<(), String> {
    let Data::List(ends, items) = &mut array.data else { return Ok(()) };
    append(items)?;
    ends.push(items.len() as i32);
    array.valid.push(1);
    Ok(())
}

/// Splits the items or members of valid JSON, which follows its `[` or `{`.
fn split(mut rest: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let end = item_end(rest.as_bytes());
        let item = rest[..end].trim_ascii();
        let closed = matches!(rest.as_bytes()[end], b']' | b'}');
        rest = if closed { &rest[end..] } else { &rest[end + 1..] };
        // After the last item, what is left is the closing bracket.
        (!item.is_empty()).then_some(item)
    })
}

/// Returns the end of the first item: its comma, or the closing bracket of the list.
fn item_end(json: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < json.len() {
        match json[at] {
            b'"' => at = string_end(json, at),
            b'[' | b'{' => depth += 1,
            b']' | b'}' if depth == 0 => break,
            b']' | b'}' => depth -= 1,
            b',' if depth == 0 => break,
            _ => {}
        }
        at += 1;
    }
    at
}

/// Returns the index of the quote that ends the string that begins at `at`.
fn string_end(json: &[u8], mut at: usize) -> usize {
    loop {
        at += 1;
        match json.get(at) {
            Some(b'\\') => at += 1,
            Some(b'"') | None => return at,
            _ => {}
        }
    }
}

/// Splits a member of an object.
fn key_and_value(member: &str) -> Result<(String, &str), String> {
    let end = string_end(member.as_bytes(), 0) + 1;
    let value = member[end..].trim_ascii().strip_prefix(':').unwrap_or_default();
    Ok((string(&member[..end])?, value.trim_ascii()))
}

/// Reads a JSON string. Valid JSON may still have half a surrogate pair in one.
fn string(json: &str) -> Result<String, String> {
    serde_json::from_str(json).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_items_at_the_outer_level() {
        let items = |json: &str| split(&json[1..]).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(items(r#"[ 1 , "a,]\"" , [2,{"b":[]}] ]"#), ["1", r#""a,]\"""#, r#"[2,{"b":[]}]"#]);
        assert!(items("[]").is_empty() && items("{ }").is_empty());
        assert_eq!(key_and_value(r#""a\"b" : {"c":1}"#), Ok(("a\"b".to_owned(), r#"{"c":1}"#)));
        assert!(key_and_value(r#""\ud800":1"#).is_err());
    }
}
