//! The address and credentials of the Logstores of a project: in this service, another one, or Log Service itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::endpoint::check_endpoint;
use crate::error::SourceError;
use crate::secret::Secret;

/// The Logstores of a project, in LogHub.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct LogHubConfig {
    /// The URL of the service, without the project: `https://cn-hangzhou.log.aliyuncs.com`. Default: this service.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub endpoint: String,
    /// The project. Default: the project of the data source.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub project: String,
    /// The ID of the access key. Required with an endpoint.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub access_key_id: String,
    /// The secret of the access key.
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub access_key_secret: Secret,
    /// The security token of a temporary key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_token: Option<Secret>,
    /// The region, to sign requests with version 4. Default: version 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

impl LogHubConfig {
    /// Returns true if the Logstores are in this service.
    pub fn is_local(&self) -> bool {
        self.endpoint.is_empty()
    }

    /// Checks the values.
    ///
    /// # Errors
    /// The first invalid one.
    pub(crate) fn check(&self) -> Result<(), SourceError> {
        if self.is_local() {
            let has_key = !self.access_key_id.is_empty() || !self.access_key_secret.is_empty();
            if has_key || self.security_token.is_some() || self.region.is_some() {
                let problem =
                    "is missing: without it, the data source is a project of this service and needs no key";
                return Err(SourceError::field("endpoint", problem));
            }
            return Ok(());
        }
        check_endpoint("endpoint", &self.endpoint, false)?;
        if self.project.is_empty() {
            return Err(SourceError::field("project", "is missing: name the project of the endpoint"));
        }
        let is_label = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
        if !self.project.chars().all(is_label) {
            // The project becomes the first label of the host name.
            return Err(SourceError::field("project", "is invalid: use a-z, 0-9 and -"));
        }
        if self.access_key_id.is_empty() {
            return Err(SourceError::field("access-key-id", "is missing"));
        }
        if self.access_key_secret.is_empty() {
            return Err(SourceError::field("access-key-secret", "is missing"));
        }
        Ok(())
    }
}
