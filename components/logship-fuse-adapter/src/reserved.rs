use std::collections::HashMap;

/// Renames the fields with reserved keys, which a transformer may have made: between fused stages, there is no host to
/// do it. `keys` has each distinct key, `field_keys` the index of each field's key. Keys stay distinct.
pub fn rename_reserved_fields(keys: &mut Vec<String>, field_keys: &mut [u32]) {
    if !keys.iter().any(|key| is_reserved(key)) {
        return;
    }
    let (mut indices, mut distinct) = (HashMap::new(), Vec::with_capacity(keys.len()));
    let mut index_of = |key: String| {
        *indices.entry(key).or_insert_with_key(|key| {
            distinct.push(key.clone());
            distinct.len() as u32 - 1
        })
    };
    let field_key = |key: String| if is_reserved(&key) { format!("__field__:{key}") } else { key };
    let renamed: Vec<u32> = keys.drain(..).map(|key| index_of(field_key(key))).collect();
    // An index out of range stays out of range, so that the stage rejects it.
    field_keys.iter_mut().for_each(|key| *key = renamed.get(*key as usize).copied().unwrap_or(u32::MAX));
    *keys = distinct;
}

/// Returns true if a key names a property of a log or its group.
fn is_reserved(key: &str) -> bool {
    matches!(key, "__time__" | "__time_ns_part__" | "__topic__" | "__source__") || key.starts_with("__tag__:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renamed_keys_stay_distinct() {
        let mut keys = ["a", "__time__", "__field__:__time__", "__tag__:k"].map(str::to_owned).to_vec();
        let mut fields = [3, 2, 1, 0, 9];
        rename_reserved_fields(&mut keys, &mut fields);
        assert_eq!(keys, ["a", "__field__:__time__", "__field__:__tag__:k"]);
        assert_eq!(fields, [2, 1, 1, 0, u32::MAX]);
    }
}
