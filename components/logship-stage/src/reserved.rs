//! Keys of fields that would pass for a property of the log or its group.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::LogBatch;

/// The prefix that turns a reserved key into the key of a field.
pub const FIELD_PREFIX: &str = "__field__:";

/// Returns true if a key names a property of a log or its group: its time, topic, source or a tag.
pub fn is_reserved(key: &str) -> bool {
    key.starts_with("__")
        && (matches!(key, "__time__" | "__time_ns_part__" | "__topic__" | "__source__")
            || key.starts_with("__tag__:"))
}

/// Returns the key under which a field may be written: `__field__:KEY` if its key is reserved, else its key.
///
/// ```
/// use logship_stage::field_key;
///
/// assert_eq!(field_key("status"), "status");
/// assert_eq!(field_key("__source__"), "__field__:__source__");
/// ```
pub fn field_key(key: &str) -> Cow<'_, str> {
    if is_reserved(key) { format!("{FIELD_PREFIX}{key}").into() } else { key.into() }
}

/// Renames the reserved keys of a batch. Keys stay distinct.
pub(crate) fn rename_fields(batch: &mut LogBatch) {
    if batch.keys.iter().any(|key| is_reserved(key)) {
        rename(batch);
    }
}

#[cold]
fn rename(batch: &mut LogBatch) {
    let mut indices = HashMap::new();
    let mut keys = Vec::with_capacity(batch.keys.len());
    let mut index_of = |key: String| {
        *indices.entry(key).or_insert_with_key(|key| {
            keys.push(key.clone());
            keys.len() as u32 - 1
        })
    };
    let new: Vec<u32> = batch.keys.iter().map(|key| index_of(field_key(key).into_owned())).collect();
    batch.field_keys.iter_mut().for_each(|key| *key = new[*key as usize]);
    batch.keys = keys;
}

#[cfg(test)]
mod tests {
    use crate::BatchBuilder;

    #[test]
    fn fields_with_reserved_keys_are_renamed_and_keys_stay_distinct() {
        let keys = [
            "__time__",
            "a",
            "__tag__:host",
            "__tag__:",
            "__field__:__time__",
            "__time_ns_part__",
            "__topic__",
            "__source__",
            "__tag__",
            "__time",
        ];
        let fields: Vec<_> = keys.iter().map(|key| (*key, "v")).collect();
        let batch = BatchBuilder::new().log(1, &fields).log(2, &[("__time__", "v")]).build();
        let log = |log: usize| {
            let logs: Vec<_> = batch.groups().flat_map(|group| group.logs()).collect();
            logs[log].fields().map(|field| field.key().to_owned()).collect::<Vec<_>>()
        };
        let expected = [
            "__field__:__time__",
            "a",
            "__field__:__tag__:host",
            "__field__:__tag__:",
            "__field__:__time__",
            "__field__:__time_ns_part__",
            "__field__:__topic__",
            "__field__:__source__",
            "__tag__",
            "__time",
        ];
        assert_eq!(log(0), expected);
        assert_eq!(log(1), ["__field__:__time__"]);
        assert_eq!(batch.raw().keys.len(), keys.len() - 1, "two fields share a key now");
    }
}
