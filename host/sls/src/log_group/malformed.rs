/// A malformed protobuf message, with the position of the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset} of the message: {reason}. Encode the message by the schema of Log Service")]
pub struct Malformed {
    /// Offset from the start of the outermost message, in bytes.
    pub offset: usize,
    /// The error.
    pub reason: Reason,
}

/// An error in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The bytes end within a field.
    #[error("the message ends within a field")]
    Truncated,
    /// A varint has more than 64 bits.
    #[error("a number is longer than 64 bits")]
    Varint,
    /// A length exceeds the enclosing message.
    #[error("a field is longer than its message")]
    Length,
    /// A field number is invalid.
    #[error("field number {number} is invalid")]
    FieldNumber {
        /// The field number.
        number: u64,
    },
    /// A field has a wrong wire type.
    #[error("field {number} has the invalid wire type {wire_type}")]
    WireType {
        /// The field number.
        number: u32,
        /// The wire type, 0 to 7.
        wire_type: u8,
    },
    /// A message lacks a required field. The offset is the message's start.
    #[error("{message} lacks the required field {field}")]
    Missing {
        /// The name of the message.
        message: &'static str,
        /// The name of the field.
        field: &'static str,
    },
    /// The compression number is unknown.
    #[error("unknown compression {number}: use 0 (none), 1 (deflate), 2 (lz4) or 3 (zstd)")]
    Compression {
        /// The number.
        number: u64,
    },
    /// A size is negative or too large.
    #[error("the size {size} is invalid")]
    Size {
        /// The size as sent.
        size: u64,
    },
    /// The group has more than 2^32 - 1 logs.
    #[error("the group has more than 4,294,967,295 logs")]
    TooMany,
}
