//! The secrets in the configurations of rules of all kinds.

use std::sync::LazyLock;

use serde_json::Value;

use crate::secret::SecretPaths;
use crate::table_store_rule::TableStoreRule;
use crate::{maxcompute_rule, shipper_config};

/// The secrets of a kind of rules, and the pointers to the address that the secrets are for.
struct RuleSecrets {
    paths: SecretPaths,
    address: &'static [&'static str],
}

/// The secrets of rules of all kinds. No kind has another's members.
static SECRETS: LazyLock<[RuleSecrets; 3]> = LazyLock::new(|| {
    let objects = SecretPaths::of::<shipper_config::Configuration>();
    let rows = SecretPaths::of::<TableStoreRule>();
    [
        RuleSecrets { paths: objects, address: &["/logship/destination/endpoint"] },
        RuleSecrets { paths: rows, address: &["/connection/endpoint", "/connection/instance"] },
        RuleSecrets {
            paths: SecretPaths::of::<maxcompute_rule::Configuration>(),
            address: &[
                "/odpsEndpoint",
                "/odpsTunnelEndpoint",
                "/logship/connection/endpoint",
                "/logship/connection/tunnel-endpoint",
                "/logship/connection/sts-endpoint",
            ],
        },
    ]
});

/// Returns the configuration with masked secrets.
pub fn mask(configuration: &Value) -> Value {
    let mut masked = configuration.clone();
    SECRETS.iter().for_each(|kind| kind.paths.mask(&mut masked));
    masked
}

/// Replaces masked secrets in `configuration` with the secrets of `previous`, if both have the same address.
pub fn restore(configuration: &mut Value, previous: &Value) {
    for RuleSecrets { paths, address } in &*SECRETS {
        if address.iter().all(|part| configuration.pointer(part) == previous.pointer(part)) {
            paths.restore(configuration, previous);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_masked_and_restored() {
        let config = |secret: &str| json!({ "logship": { "destination": { "type": "s3", "access-key-secret": secret } } });
        let masked = mask(&config("s3cret"));
        assert_eq!(masked, config("***1ec1c26b"));
        let mut restored = masked;
        restore(&mut restored, &config("s3cret"));
        assert_eq!(restored, config("s3cret"));
        let mut changed = config("other");
        restore(&mut changed, &config("s3cret"));
        assert_eq!(changed, config("other"));
    }
}
