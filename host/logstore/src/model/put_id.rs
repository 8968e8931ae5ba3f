//! Identified puts: a repeated one stores nothing.

/// The identity of a put. The client chooses its name and sequence; an access key has its own clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutId {
    /// The ID of the access key.
    pub key: String,
    /// The name of the client.
    pub client: String,
    /// The number of the put, which increases with each put of the client.
    pub sequence: i64,
    /// A digest of the request. A repetition has the same one.
    pub digest: [u8; 16],
}

/// The result of an identified put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredPut {
    /// The position of its first log group.
    pub position: u64,
    /// True if an earlier put stored the log groups.
    pub is_repeated: bool,
}
