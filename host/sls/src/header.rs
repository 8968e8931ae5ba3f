//! Headers that logship adds to the API of Log Service. Its clients ignore them.

/// The header with a member's totals since its start: a JSON object.
pub const SENT_HEADER: &str = "x-logship-sent";

/// A header of a pull's reply with the position of its first group. It is past the cursor if logs were deleted. An
/// extension of logship.
pub const FIRST_POSITION_HEADER: &str = "x-logship-first";

/// The header that identifies a put, as `CLIENT:SEQUENCE`: a repeated put is stored once.
pub const PUT_ID_HEADER: &str = "x-logship-put-id";

/// The header that confirms the deletion of a Logstore or project with logs: its name.
pub const CONFIRM_HEADER: &str = "x-logship-confirm";

/// A header with the host that a request is signed for. Signatures of version 1 cover headers of this form, but not
/// `Host`. A request whose `Host` differs is rejected.
pub const SIGNED_HOST_HEADER: &str = "x-log-host";
