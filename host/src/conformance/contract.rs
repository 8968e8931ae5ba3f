//! Sentences of `wit/` that the checks rest on, word for word: what a failed check shows its reader.

/// Where no sentence of the contract is behind a check, but the one who asked for it.
pub(super) const ASKED_FOR: &str = "(asked for by --least-speed)";

pub(super) const NO_IMPORTS: &str = "it has no imports except the types of `logship:batch`";
pub(super) const CONFIG_TEXT: &str = "`config` is JSON text, an object; the empty string stands for `{}`.";
pub(super) const CONFIG_CHECKED: &str = "A stage checks it in `open`, refuses a member that it does not know, and describes it by a JSON Schema in `describe`.";
pub(super) const DESCRIPTION: &str = "Gives the same at every call.";
pub(super) const ROOM: &str = "An instance may have 256 MiB of linear memory, and a call may take 10 seconds, unless the operator says otherwise.";
pub(super) const PURITY: &str = "The same configuration and the same logs in the same order give the same bytes, whatever the cuts between chunks.";
pub(super) const SEVERAL_OBJECTS: &str = "Several objects may be open in one instance at the same time.";
pub(super) const GIVEN_UP: &str =
    "After an error, or when the object is given up, the resource is dropped without `finish`.";
pub(super) const CHUNKS: &str = "A chunk is whole logs, some 0.5-1 MB of them as a rule; it may be one log, or none, and a single log of up to 64 MiB makes a larger one.";
pub(super) const NO_PANIC: &str = "Whatever a log holds, the stage encodes it or returns an error.";
pub(super) const BROKEN: &str = "A stage that meets a broken invariant returns `invalid-batch`.";
pub(super) const BOUNDED_MEMORY: &str =
    "A stage keeps a few chunks at most (a columnar format: one row group), however large the object.";
pub(super) const IN_PROPORTION: &str =
    "What a stage returns is of the order of what it was given: some times its size, not hundreds of times.";
pub(super) const SIZE: &str = "Bytes that the object would have if it were finished now, *uncompressed*: what the host measures against the shipping size.";
pub(super) const FEWER: &str = "Compressors: the bytes of an object in, fewer bytes out.";
pub(super) const COMPRESSION: &str = "The compression by which a rule asks for it: `snappy`.";
pub(super) const NO_SEPARATOR: &str = "The host frames them; a formatter adds no separator.";
pub(super) const HEC: &str = "HTTP Event Collector: each message one JSON event, many in a request.";
pub(super) const SYSLOG: &str = "Syslog: each message a datagram, or an octet-counted frame of a stream.";
pub(super) const LOG_ALONE: &str = "What becomes of a log depends on the configuration and on that log alone, with its group: not on the logs around it, nor on batches that came before.";
pub(super) const LAWFUL_KEY: &str = "The object's key within its bucket: UTF-8, 1 to 1,023 bytes, no `/` or `\\` at its beginning, no empty, `.` or `..` level, no control character.";
pub(super) const DIFFERENT_KEYS: &str =
    "Different tasks must get different keys, so `creation-time` and `number` belong in it.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_says_so() {
        let files = [
            include_str!("../../../wit/stages.wit"),
            include_str!("../../../wit/deps/batch/batch.wit"),
            include_str!("../../../wit/deps/encode/encode.wit"),
            include_str!("../../../wit/deps/compress/compress.wit"),
            include_str!("../../../wit/deps/siem/siem.wit"),
            include_str!("../../../wit/deps/object-path/object-path.wit"),
            include_str!("../../../wit/deps/transform/transform.wit"),
        ];
        let words = |text: &str| text.replace("///", " ").split_whitespace().collect::<Vec<_>>().join(" ");
        let said = files.map(words).join(" ");
        for sentence in [
            NO_IMPORTS,
            CONFIG_TEXT,
            CONFIG_CHECKED,
            DESCRIPTION,
            ROOM,
            PURITY,
            SEVERAL_OBJECTS,
            GIVEN_UP,
            CHUNKS,
            NO_PANIC,
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
            LAWFUL_KEY,
            DIFFERENT_KEYS,
        ] {
            assert!(said.contains(sentence), "{sentence}");
        }
    }
}
