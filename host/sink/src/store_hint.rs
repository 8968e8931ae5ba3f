//! Hints for the errors of object stores: the setting that helps.

use logship_config::object_store::{Checksum, ObjectStoreConfig};

/// The settings that an error can be about.
#[derive(Debug)]
pub(crate) struct Hints {
    pub(crate) is_conditional: bool,
    pub(crate) checksum: Checksum,
    /// The endpoint, if it has no scheme.
    pub(crate) bare_endpoint: Option<String>,
}

impl Hints {
    pub(crate) fn new(config: &ObjectStoreConfig, checksum: Checksum) -> Self {
        let endpoint = &config.endpoint;
        let is_bare = !endpoint.is_empty() && !endpoint.contains("://");
        Self {
            is_conditional: config.conditional_writes.unwrap_or(true),
            checksum,
            bare_endpoint: is_bare.then(|| endpoint.clone()),
        }
    }

    /// Returns a problem with the hint for it, if there is one.
    pub(crate) fn add_to(&self, problem: String) -> String {
        match self.hint(&problem) {
            Some(hint) => format!("{problem}. {hint}"),
            None => problem,
        }
    }

    fn hint(&self, problem: &str) -> Option<String> {
        let says = |words: &[&str]| words.iter().any(|word| problem.contains(word));
        if says(&["RequestTimeTooSkewed", "RequestExpired"]) {
            return Some("Set this machine's clock: it differs from the store's".into());
        }
        // The bytes were damaged on their way.
        if says(&["BadDigest", "ContentChecksumMismatch"]) {
            return None;
        }
        let is_unsupported = says(&["501 Not Implemented", "NotImplemented"]);
        let is_checksum = says(&["x-amz-checksum", "x-amz-sdk-checksum", "Content-MD5", "ChecksumAlgorithm"]);
        let is_condition = says(&["If-None-Match", "if-none-match", "onditional"]);
        match (self.checksum, &self.bare_endpoint) {
            (Checksum::None, _) if is_checksum => {
                Some("The store requires checksums, as buckets with Object Lock do: remove checksum = \"none\" from the destination".into())
            }
            (Checksum::Crc32c, _) if is_checksum => Some(
                "If the store does not support these checksums, set checksum = \"md5\" in the destination".into(),
            ),
            _ if is_unsupported && (self.is_conditional || is_condition) => Some(
                "If the store does not support conditional writes (If-None-Match), set conditional-writes = false in the destination".into(),
            ),
            (_, Some(endpoint)) if says(&["error sending request", "send http request"]) => Some(format!(
                "The endpoint {endpoint:?} has no scheme, so https:// was used: write http://{endpoint} if the store has no TLS"
            )),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(checksum: Checksum, endpoint: &str, problem: &str) -> String {
        let config = ObjectStoreConfig { endpoint: endpoint.into(), ..ObjectStoreConfig::default() };
        Hints::new(&config, checksum).add_to(problem.into())
    }

    #[test]
    fn names_the_setting_that_helps() {
        let unsupported = "501 Not Implemented: NotImplemented: A header you provided implies functionality that is not implemented";
        assert!(hint(Checksum::Crc32c, "http://s", unsupported).contains("conditional-writes = false"));
        let header =
            "InvalidArgument: Unsupported header 'x-amz-checksum-crc32c' received for this API call.";
        assert!(hint(Checksum::Crc32c, "http://s", header).contains("checksum = \"md5\""));
        let locked = "InvalidRequest: Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters";
        assert!(hint(Checksum::None, "http://s", locked).contains("remove checksum"));
        let damaged = "BadDigest: The Content-MD5 you specified did not match what we received.";
        assert_eq!(hint(Checksum::Md5, "http://s", damaged), damaged);
        let skewed = "RequestTimeTooSkewed: The difference between the request time and the current time is too large.";
        assert!(hint(Checksum::Crc32c, "http://s", skewed).contains("clock"));
    }

    #[test]
    fn endpoint_without_scheme_is_named_when_connecting_fails() {
        let failed = "error sending request: invalid peer certificate";
        assert!(hint(Checksum::Crc32c, "minio:9000", failed).contains("write http://minio:9000"));
        assert_eq!(hint(Checksum::Crc32c, "https://minio:9000", failed), failed);
        assert_eq!(hint(Checksum::Crc32c, "", failed), failed);
    }
}
