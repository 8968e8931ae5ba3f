//! Keys of fields that would pass for a property of the log or its group.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::types::LogBatch;

/// The prefix that turns a reserved key into the key of a field.
pub const FIELD_PREFIX: &str = "__field__:";

/// Returns true if a key names a property of a log or its group: its time, topic, source or a tag.
pub fn is_reserved(key: &str) -> bool {
    key.starts_with("__")
        && (matches!(key, "__time__" | "__time_ns_part__" | "__topic__" | "__source__")
            || key.starts_with("__tag__:"))
}

/// Returns the key under which stages see a field: `__field__:KEY` if its key is reserved, else its key. Whoever writes
/// a log chooses the keys of its fields, and must not be able to forge the log's time or source.
pub fn field_key(key: &str) -> Cow<'_, str> {
    if is_reserved(key) { format!("{FIELD_PREFIX}{key}").into() } else { key.into() }
}

impl LogBatch {
    /// Renames the fields with reserved keys, which a transformer may have made. Keys stay distinct.
    pub fn rename_reserved_fields(&mut self) {
        if !self.keys.iter().any(|key| is_reserved(key)) {
            return;
        }
        let (mut indices, mut keys) = (HashMap::new(), Vec::with_capacity(self.keys.len()));
        let mut index_of = |key: String| {
            *indices.entry(key).or_insert_with_key(|key| {
                keys.push(key.clone());
                keys.len() as u32 - 1
            })
        };
        let renamed: Vec<u32> = self.keys.iter().map(|key| index_of(field_key(key).into_owned())).collect();
        self.field_keys.iter_mut().for_each(|key| *key = renamed[*key as usize]);
        self.keys = keys;
    }
}

#[cfg(test)]
mod tests {
    use crate::batch::{BatchBuilder, LogGroup};

    const KEYS: [&str; 5] = ["__time__", "a", "__tag__:host", "__field__:__time__", "__tag__"];
    const RENAMED: [&str; 5] =
        ["__field__:__time__", "a", "__field__:__tag__:host", "__field__:__time__", "__tag__"];

    #[test]
    fn builder_and_transformed_batches_rename_reserved_fields() {
        let mut builder = BatchBuilder::default();
        let group = builder.group(&LogGroup { topic: String::new(), source: String::new(), tags: vec![] });
        for _ in 0..2 {
            KEYS.iter().for_each(|key| builder.field(key, b"v"));
            builder.end_log(group, 1, 0);
        }
        let mut batch = builder.take();
        for log in 0..2 {
            assert_eq!(batch.log_fields(log).map(|(key, _)| key).collect::<Vec<_>>(), RENAMED);
        }
        batch.keys = KEYS.map(str::to_owned).to_vec();
        batch.field_keys = (0..5).chain(0..5).collect();
        batch.rename_reserved_fields();
        assert_eq!(batch.check(), Ok(()));
        assert_eq!(batch.log_fields(1).map(|(key, _)| key).collect::<Vec<_>>(), RENAMED);
    }
}
