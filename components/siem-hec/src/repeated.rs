use std::collections::HashMap;

use logship_stage::Log;
use logship_stage::escape::json_string;

use crate::json_fields;

/// Returns the members of an object for a log that repeats a key. The values of a repeated key become an array, which
/// Splunk reads as a multivalue field: a member must not occur twice. `is_json` tells the JSON fields by key index.
pub(crate) fn members(log: &Log<'_>, is_json: Option<&[bool]>) -> Vec<u8> {
    let (mut members, mut places) = (Vec::<(&str, Vec<Vec<u8>>)>::new(), HashMap::new());
    for field in log.fields() {
        let json = is_json.filter(|is_json| is_json[field.key_index()]);
        let value = json.and_then(|_| json_fields::json(field.value()));
        let value = value.unwrap_or_else(|| json_string(field.value()));
        let place = *places.entry(field.key_index()).or_insert(members.len());
        match members.get_mut(place) {
            Some((_, values)) => values.push(value),
            None => members.push((field.key(), vec![value])),
        }
    }
    let member = |(key, values): (&str, Vec<Vec<u8>>)| {
        let values =
            if values.len() > 1 { [b"[", &*values.join(&b','), b"]"].concat() } else { values.concat() };
        [json_string(key.as_bytes()), values].join(&b':')
    };
    members.into_iter().map(member).collect::<Vec<_>>().join(&b',')
}
