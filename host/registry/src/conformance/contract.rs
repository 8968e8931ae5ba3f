//! Sentences of `wit/` that the checks are based on, word for word. A failed check shows its sentence.

/// For the speed check: it is based on a command-line option and not on the contract.
pub(super) const MIN_SPEED: &str = "(asked for by --least-speed)";

pub(super) const NO_IMPORTS: &str = "it has no imports except the types of `logship:batch`";
pub(super) const CONFIG_TEXT: &str = "`config` is JSON text, an object; the empty string means `{}`.";
pub(super) const CONFIG_CHECKED: &str =
    "A stage validates it in `open`, rejects unknown keys, and describes it by a JSON Schema in `describe`.";
pub(super) const DESCRIPTION: &str = "Returns the same value at every call.";
pub(super) const ROOM: &str =
    "By default an instance may use 256 MiB of linear memory, and a call may take 10 seconds.";
pub(super) const PURITY: &str = "The same configuration and the same logs in the same order give the same bytes, independent of chunk boundaries.";
pub(super) const SEVERAL_OBJECTS: &str = "Several objects may be open in one instance at the same time.";
pub(super) const DISCARD: &str =
    "After an error, or when the host abandons the object, it drops the resource without calling `finish`.";
pub(super) const CHUNKS: &str = "A chunk has complete logs, usually 0.5-1 MB. It may have one log or none, and a single log of up to 64 MiB makes a larger chunk.";
pub(super) const NO_PANIC: &str = "A stage encodes every log or returns an error, whatever the log contains.";
pub(super) const RESERVED: &str = "No output shows a field under a reserved name.";
pub(super) const ONCE: &str = "A JSON object has no member twice, even if a log repeats a key.";
pub(super) const BROKEN: &str = "A stage that finds a broken invariant returns `invalid-batch`.";
pub(super) const BOUNDED_MEMORY: &str = "A stage buffers a few chunks at most (a columnar format: one row group), independent of the object's size.";
pub(super) const IN_PROPORTION: &str =
    "The output of a stage is at most some times as large as its input, not hundreds of times.";
pub(super) const SIZE: &str = "Returns the object's *uncompressed* size in bytes if it were finished now.";
pub(super) const FEWER: &str = "Compressors: the bytes of an object in, fewer bytes out.";
pub(super) const COMPRESSION: &str = "The value of a rule's `compression` that selects this stage: `snappy`.";
pub(super) const NO_SEPARATOR: &str = "The host frames them; a formatter adds no separator.";
pub(super) const HEC: &str = "HTTP Event Collector: each message is one JSON event; a request has many.";
pub(super) const SYSLOG: &str = "Syslog: each message is a datagram, or an octet-counted frame of a stream.";
pub(super) const LOG_ALONE: &str = "The result for a log depends only on the configuration, the log and its group. It must not depend on adjacent logs or earlier batches.";
pub(super) const POSITIONS: &str =
    "The positions of a batch's logs in the Logstore. The lists have one element per log.";
pub(super) const PROTOCOLS: &str =
    "The key `protocol` of the configuration selects one; without it, the first one is used.";
pub(super) const TABLE_CHECKED: &str = "Only this call rejects a configuration or a table, so that an invalid one is found when the rule or job is created, or when the table changes.";
pub(super) const DIRTY: &str =
    "A row encoder reports each value that does not convert to the type of its column.";
pub(super) const VALID_KEY: &str = "Returns the object's key in its bucket: UTF-8, 1 to 1,023 bytes, without a leading `/` or `\\`, without empty, `.` or `..` levels, without control characters.";
pub(super) const DIFFERENT_KEYS: &str =
    "Different tasks must get different keys, so include `creation-time` and `number`.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_in_the_contract() {
        let files = [
            include_str!("../../../../wit/stages.wit"),
            include_str!("../../../../wit/deps/batch/batch.wit"),
            include_str!("../../../../wit/deps/encode/encode.wit"),
            include_str!("../../../../wit/deps/compress/compress.wit"),
            include_str!("../../../../wit/deps/rows/rows.wit"),
            include_str!("../../../../wit/deps/siem/siem.wit"),
            include_str!("../../../../wit/deps/object-path/object-path.wit"),
            include_str!("../../../../wit/deps/transform/transform.wit"),
        ];
        let words = |text: &str| text.replace("///", " ").split_whitespace().collect::<Vec<_>>().join(" ");
        let described = files.map(words).join(" ");
        for sentence in [
            NO_IMPORTS,
            CONFIG_TEXT,
            CONFIG_CHECKED,
            DESCRIPTION,
            ROOM,
            PURITY,
            SEVERAL_OBJECTS,
            DISCARD,
            CHUNKS,
            NO_PANIC,
            RESERVED,
            ONCE,
            BROKEN,
            BOUNDED_MEMORY,
            IN_PROPORTION,
            SIZE,
            FEWER,
            COMPRESSION,
            NO_SEPARATOR,
            HEC,
            SYSLOG,
            LOG_ALONE,
            POSITIONS,
            PROTOCOLS,
            TABLE_CHECKED,
            DIRTY,
            VALID_KEY,
            DIFFERENT_KEYS,
        ] {
            assert!(described.contains(sentence), "{sentence}");
        }
    }
}
