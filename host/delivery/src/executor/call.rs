//! A call of a function, and its answer.

use logship_logstore::{Heads, LostValues};
use logship_sink::staged_file::FinishedFile;
use logship_source::group_list::GroupList;

/// A call of a function.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    /// The task's id.
    pub(crate) task: String,
    /// The key of its object.
    pub(crate) key: &'a str,
    /// The shard of the logs.
    pub(crate) shard: u32,
    /// The cursors of the logs.
    pub(crate) range: String,
    /// The project of the Logstore.
    pub(crate) project: &'a str,
    /// The Logstore.
    pub(crate) logstore: &'a str,
    /// The specification of the object.
    pub(crate) spec: &'a str,
    /// The heads of the shard's chain before and after the logs.
    pub(crate) heads: Option<Heads>,
    /// The logs.
    pub(crate) logs: GroupList,
}

/// The answer of a function.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Size before compression, in bytes.
    pub(crate) raw_bytes: u64,
    /// Size of the object, in bytes.
    pub(crate) stored_bytes: u64,
    /// SHA-256 of the object, in hexadecimal.
    pub(crate) sha256: String,
    /// The stages that made it: name and version of each.
    pub(crate) stages: String,
    /// The values of the logs that the object cannot hold. Older functions don't tell.
    pub(crate) lost: LostValues,
    /// The object, unless the function delivered it.
    pub(crate) object: Option<FinishedFile>,
}
