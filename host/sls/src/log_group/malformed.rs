/// A message that can't be read, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset} of the message: {reason}. The sender must encode it by the schema of Log Service")]
pub struct Malformed {
    /// Bytes from the beginning of the outermost message.
    pub offset: usize,
    /// What is wrong there.
    pub reason: Reason,
}

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The bytes end within a field.
    #[error("the message ends within a field")]
    Truncated,
    /// A number of more than 64 bits.
    #[error("a number is longer than 64 bits")]
    Varint,
    /// A length goes past the end of what holds the field.
    #[error("a field is longer than what holds it")]
    Length,
    /// No field has this number.
    #[error("{number} is no number of a field")]
    FieldNumber {
        /// The number.
        number: u64,
    },
    /// Fields may not be encoded like this.
    #[error("field {number} has wire type {wire_type}, which it can't have")]
    WireType {
        /// The field.
        number: u32,
        /// The wire type, 0 to 7.
        wire_type: u8,
    },
    /// The message lacks a field; the offset is that of the message.
    #[error("there is no {field}, which every {message} must have")]
    Missing {
        /// The name of the message.
        message: &'static str,
        /// The name of the field.
        field: &'static str,
    },
    /// No compression has this number.
    #[error("{number} is no compression: none is 0, deflate 1, lz4 2, zstd 3")]
    Compression {
        /// The number.
        number: u64,
    },
    /// A size that can't be.
    #[error("{size} is no size")]
    Size {
        /// The number, as it is on the wire.
        size: u64,
    },
    /// More logs than can be counted.
    #[error("there are more than 4,294,967,295 logs")]
    TooMany,
}
