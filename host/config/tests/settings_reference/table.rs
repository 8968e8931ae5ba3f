//! The table of a section's settings.

use serde_json::Value;

/// A row: a setting.
pub(crate) struct Row {
    pub(crate) name: String,
    kind: String,
    default: String,
    range: String,
    pub(crate) meaning: String,
}

/// Renders the settings of a schema as a Markdown table. `link` returns the anchor of a table's section, if it has one.
pub(crate) fn render(schema: &Value, order: &[&str], link: impl Fn(&str) -> Option<String>) -> String {
    let mut table = "| setting | type | default | range | meaning |\n|---|---|---|---|---|\n".to_owned();
    for Row { name, kind, default, range, meaning } in rows(schema, order) {
        let kind = match link(&name).filter(|_| kind == "table") {
            Some(anchor) => format!("[table](#{anchor})"),
            None => kind,
        };
        table += &format!("| `{name}` | {kind} | {default} | {range} | {} |\n", meaning.replace('|', "\\|"));
    }
    table
}

/// Returns the settings of a schema.
pub(crate) fn rows(schema: &Value, order: &[&str]) -> Vec<Row> {
    let properties = schema["properties"].as_object().unwrap();
    assert_eq!(order.len(), properties.len(), "the order names all settings: {order:?}");
    let required =
        |name: &str| schema["required"].as_array().into_iter().flatten().any(|other| other == name);
    order
        .iter()
        .map(|name| {
            let property = &properties[*name];
            let (meaning, stated_default) = split_default(&text(&property["description"]));
            let default = match stated_default {
                _ if required(name) => "required".into(),
                Some(stated) => stated,
                None => default(name, &property["default"]),
            };
            let target = resolve(schema, property);
            let kind = kind(schema, target);
            // A table has a section with the defaults of its settings.
            let default = if kind == "table" { String::new() } else { default };
            Row {
                name: (*name).to_owned(),
                kind,
                default,
                range: range(name, target, property),
                meaning: meaning + &values(target),
            }
        })
        .collect()
}

/// Returns a description as one line.
pub(crate) fn text(description: &Value) -> String {
    description.as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Splits a description into the meaning and the default that it states.
fn split_default(description: &str) -> (String, Option<String>) {
    const MARK: &str = "Default: ";
    let Some((meaning, rest)) = description.split_once(MARK) else { return (description.to_owned(), None) };
    let (default, rest) = rest.split_once(". ").unwrap_or((rest.trim_end_matches('.'), ""));
    (format!("{meaning}{rest}").trim().to_owned(), Some(default.to_owned()))
}

fn default(name: &str, value: &Value) -> String {
    match value {
        Value::Null => "none".into(),
        Value::String(text) if text.is_empty() => "none".into(),
        Value::String(text) => format!("`\"{text}\"`"),
        Value::Array(list) if list.is_empty() => "none".into(),
        Value::Number(number) => format!("`{number}`{}", unit(name, number.as_u64().unwrap_or_default())),
        other => format!("`{other}`"),
    }
}

/// Returns a number of bytes in a larger unit.
fn unit(name: &str, bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let fits =
        |&(shift, _): &(u32, &str)| name.ends_with("-bytes") && bytes > 0 && bytes.is_multiple_of(1 << shift);
    units
        .into_iter()
        .find(fits)
        .map(|(shift, unit)| format!(" ({} {unit})", bytes >> shift))
        .unwrap_or_default()
}

/// Follows references, and ignores the alternative `null` of optional settings.
fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    if let Some(reference) = schema["$ref"].as_str() {
        return resolve(root, root.pointer(reference.trim_start_matches('#')).unwrap());
    }
    let is_null = |schema: &&Value| schema["type"] != "null";
    for alternatives in ["anyOf", "allOf"] {
        let list: Vec<_> = schema[alternatives].as_array().into_iter().flatten().filter(is_null).collect();
        if let [single] = list[..] {
            return resolve(root, single);
        }
    }
    schema
}

fn kind(root: &Value, schema: &Value) -> String {
    if let Some(variants) = constants(schema) {
        return variants.iter().map(|(value, _)| format!("`{value}`")).collect::<Vec<_>>().join(", ");
    }
    if let Some(list) = schema["anyOf"].as_array() {
        return list.iter().map(|schema| kind(root, resolve(root, schema))).collect::<Vec<_>>().join(" or ");
    }
    let types = schema["type"].as_array().cloned().unwrap_or_else(|| vec![schema["type"].clone()]);
    let name = types.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or("table");
    match name {
        "array" => format!("list of {}", plural(&kind(root, resolve(root, &schema["items"])))),
        "object" => "table".into(),
        _ if schema["writeOnly"] == true => format!("{name}, secret"),
        name => name.into(),
    }
}

fn plural(kind: &str) -> String {
    kind.split(" or ").map(|kind| format!("{kind}s")).collect::<Vec<_>>().join(" or ")
}

/// Returns the values of an enum with their descriptions, if the schema is one.
fn constants(schema: &Value) -> Option<Vec<(&str, String)>> {
    let constant = |variant: &'_ Value| variant["const"].as_str().is_some();
    let variants = schema["oneOf"].as_array().filter(|variants| variants.iter().all(constant))?;
    let pair = |variant: &'_ Value| text(&variant["description"]);
    Some(variants.iter().map(|variant| (variant["const"].as_str().unwrap(), pair(variant))).collect())
}

fn values(schema: &Value) -> String {
    let values = constants(schema).unwrap_or_default();
    values.iter().map(|(value, meaning)| format!(" `{value}`: {meaning}")).collect()
}

/// Returns the range of a number, the length of a text or of a list.
fn range(name: &str, target: &Value, property: &Value) -> String {
    let limit = |keyword: &str| property[keyword].as_u64().or_else(|| target[keyword].as_u64());
    for (unit, least, most) in [
        ("", "minimum", "maximum"),
        (" characters", "minLength", "maxLength"),
        (" elements", "minItems", "maxItems"),
    ] {
        match (limit(least), limit(most)) {
            (Some(least), Some(most)) => return format!("{least}–{most}{unit}{}", self::unit(name, most)),
            (None, Some(most)) => return format!("at most {most}{unit}{}", self::unit(name, most)),
            (Some(least), None) if least > 0 => return format!("at least {least}{unit}"),
            _ => {}
        }
    }
    String::new()
}
