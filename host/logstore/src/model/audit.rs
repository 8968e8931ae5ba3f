//! Records of the audit log: who changed what, from where, with which outcome.

use logship_sls::compression::{CompressError, Compression};
use logship_sls::log_group::{Header, LogGroupBuilder};

use super::NewGroup;

/// The project of the audit log. It belongs to the service.
pub const AUDIT_PROJECT: &str = "logship-audit";

/// The logstore of the audit log.
pub const AUDIT_LOGSTORE: &str = "audit";

/// The longest value of a record, in bytes. Requests have longer names than objects.
const MAX_VALUE: usize = 1024;

/// What an operation changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AuditTarget {
    /// A project.
    Project,
    /// A logstore, and its shards.
    Logstore,
    /// A shipping rule.
    Rule,
    /// A consumer group.
    Group,
    /// The checkpoint of a consumer group in a shard.
    Checkpoint {
        /// The number of the shard.
        shard: u32,
    },
    /// A stage.
    Stage,
    /// A data source.
    Source,
    /// A job.
    Job,
    /// Something that the store does not describe.
    #[default]
    Other,
}

/// A record of the audit log. Empty values are left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditRecord {
    /// The name of the operation.
    pub operation: String,
    /// `OK`, or the code of the error.
    pub outcome: String,
    /// The ID of the access key, or the name of another actor.
    pub who: String,
    /// The address of the client.
    pub address: String,
    /// The project.
    pub project: String,
    /// The logstore.
    pub logstore: String,
    /// The kind of the changed object.
    pub target: AuditTarget,
    /// The name of the changed object.
    pub object: String,
    /// The parameters of the operation.
    pub detail: String,
    /// The object before the change, as JSON. Configurations are digests.
    pub before: String,
    /// The object after the change.
    pub after: String,
    /// The names of the changed members of a configuration.
    pub changed: String,
    /// The error.
    pub message: String,
}

impl AuditRecord {
    /// Encodes the record as a log group of one log.
    pub(crate) fn encode(&self, now: u64) -> Result<NewGroup, CompressError> {
        let (seconds, nanos) = ((now / 1_000_000) as u32, (now % 1_000_000) as u32 * 1000);
        let mut group = LogGroupBuilder::new(&Header { topic: Some(b"audit"), ..Header::default() });
        let mut log = group.begin_log(seconds, Some(nanos));
        for (name, value) in self.fields() {
            log.field(name, cut(value));
        }
        log.end_log();
        let raw = group.finish();
        let (size, body) = (raw.len() as u32, Compression::Lz4.compress(&raw)?.into());
        Ok(NewGroup { body, size, logs: 1, newest: seconds })
    }

    fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let fields = [
            ("operation", &self.operation),
            ("outcome", &self.outcome),
            ("who", &self.who),
            ("address", &self.address),
            ("project", &self.project),
            ("logstore", &self.logstore),
            ("object", &self.object),
            ("detail", &self.detail),
            ("before", &self.before),
            ("after", &self.after),
            ("changed", &self.changed),
            ("message", &self.message),
        ];
        fields.into_iter().map(|(name, value)| (name, value.as_str())).filter(|(_, value)| !value.is_empty())
    }
}

fn cut(value: &str) -> &str {
    &value[..value.floor_char_boundary(MAX_VALUE)]
}
