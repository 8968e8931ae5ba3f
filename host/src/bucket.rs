//! A bucket of an object store, by way of OpenDAL.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use opendal::layers::RetryLayer;
use opendal::services::{Oss, S3};
use opendal::{ErrorKind, HttpTransporter, OperationContext, Operator};
use opendal_http_transport_reqwest::ReqwestTransport;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;

use crate::destination::{DestinationError, Found, Provenance};
use crate::part::{Part, Whole};

/// Objects are sent in parts of so many bytes, two at a time: no more of one is in memory.
const PART: usize = 8 << 20;
const PARTS: usize = 2;

/// How often a request is sent once more before the task has failed, which is tried again much later.
const RETRIES: usize = 2;

/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// Seconds to wait for the answer to a request, unless the settings say otherwise.
const ANSWER: u64 = 60;

/// How long a rule that is made waits for its destination.
const PROBE: Duration = Duration::from_secs(15);

/// Connections to a store that are kept while nothing is sent.
const IDLE: usize = 2;

/// How long a peer may leave what was sent to it unacknowledged.
const UNHEARD: Duration = Duration::from_secs(30);

/// How an object store is reached, and as whom.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Remote {
    /// Its URL, without the bucket: `https://oss-cn-hangzhou.aliyuncs.com`.
    pub endpoint: String,
    /// The region that requests are signed for; S3 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Whether the bucket stands in the host's name (`virtual`: OSS takes nothing else) or in the path (`path`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addressing: Option<Addressing>,
    /// Id of the access key. Without one, what the environment has: variables, profiles, the machine's role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// Its secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_secret: Option<String>,
    /// Token of a temporary key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_token: Option<String>,
    /// The role to assume with that key, unless the rule names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// What the role's owner asks for besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// Where roles are assumed; OSS only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sts_endpoint: Option<String>,
    /// URL of a proxy; by default those of the environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// File with certificates (PEM) of authorities to trust besides those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Whether the store knows writing on the condition that nothing is there yet; by default it is taken to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditional_writes: Option<bool>,
    /// Seconds to wait for the answer to a request; a part of 8 MiB has to be sent by then. By default 60.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
    /// How the store encrypts objects: `AES256` or `KMS`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<String>,
    /// The key that it does it with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption_key: Option<String>,
}

/// Where the name of the bucket stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Addressing {
    /// In the host's name.
    Virtual,
    /// In the path.
    Path,
}

/// Its secrets are not for logs.
impl fmt::Debug for Remote {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Remote");
        shown.field("endpoint", &self.endpoint).field("access_key_id", &self.access_key_id);
        shown.field("role", &self.role).finish_non_exhaustive()
    }
}

/// What kind of store it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// Amazon S3, or what speaks as it does.
    S3,
    /// Alibaba Cloud OSS.
    Oss,
}

/// A bucket of an object store. Its methods block.
#[derive(Debug)]
pub struct Bucket {
    operator: Operator,
    name: String,
    runtime: Handle,
    /// Where objects are until they are sent.
    spool: PathBuf,
    conditional: bool,
}

impl Bucket {
    /// The bucket `name` of a store, as `role` if there is one. `spool` is a folder for objects that are not sent yet.
    pub fn open(
        flavour: Flavour,
        remote: &Remote,
        name: &str,
        role: &str,
        spool: &Path,
        runtime: Handle,
    ) -> Result<Self, DestinationError> {
        let role = if role.is_empty() { remote.role.as_deref().unwrap_or_default() } else { role };
        let operator = match flavour {
            Flavour::S3 => s3(remote, name, role),
            Flavour::Oss => oss(remote, name, role),
        };
        let operator = operator.map_err(|error| DestinationError::Settings(error.to_string()))?;
        let transport = HttpTransporter::new(ReqwestTransport::new(client(remote)?));
        let operator = operator
            .with_context(OperationContext::new().with_http_transport(transport))
            .layer(RetryLayer::new().with_max_times(RETRIES).with_jitter());
        let conditional = remote.conditional_writes.unwrap_or(true);
        Ok(Self { operator, name: name.to_owned(), runtime, spool: spool.to_owned(), conditional })
    }

    /// Begins an object. It is whole on this machine before any of it is sent: its header, how many logs it has and
    /// what it hashes to are known only then.
    pub(crate) fn begin(&self, header_room: usize) -> Result<Part, DestinationError> {
        Part::within(&self.spool, header_room).map_err(|error| DestinationError::io(&self.spool, error))
    }

    /// Sends an object.
    pub(crate) fn publish(
        &self,
        whole: &Whole,
        key: &str,
        media_type: &str,
        provenance: &Provenance,
    ) -> Result<(), DestinationError> {
        let failed = |error| self.failure(key, error);
        let metadata = provenance.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let writer = self.operator.writer_with(key).chunk(PART).concurrent(PARTS);
        let writer = writer.content_type(media_type).user_metadata(metadata);
        let writer = if self.conditional { writer.if_not_exists(true) } else { writer };
        let mut writer = self.runtime.block_on(writer.into_future()).map_err(failed)?;
        let mut sent = 0;
        let mut send = || -> Result<(), DestinationError> {
            while sent < whole.bytes {
                let part =
                    whole.read_at(sent, PART).map_err(|error| DestinationError::io(&self.spool, error))?;
                sent += part.len() as u64;
                self.runtime.block_on(writer.write(part)).map_err(failed)?;
            }
            self.runtime.block_on(writer.close()).map(drop).map_err(failed)
        };
        let result = send();
        if result.is_err() {
            // Parts that were sent would be there unseen, and cost. What is said of the object stays the first error.
            if let Err(error) = self.runtime.block_on(writer.abort()) {
                tracing::debug!(key, %error, "an upload could not be called off");
            }
        }
        result
    }

    pub(crate) fn find(&self, key: &str) -> Result<Option<Found>, DestinationError> {
        let read = async {
            let size = self.operator.stat(key).await?.content_length();
            let (mut hash, mut at) = (Sha256::new(), 0);
            while at < size {
                let part = self.operator.read_with(key).range(at..size.min(at + PART as u64)).await?;
                at += part.len() as u64;
                part.for_each(|bytes| hash.update(&bytes));
            }
            Ok::<_, opendal::Error>(Found { bytes: size, sha256: hex::encode(hash.finalize()) })
        };
        match self.runtime.block_on(read) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failure(key, error)),
        }
    }

    /// The keys of all objects whose keys begin with `prefix`.
    pub(crate) fn list(&self, prefix: &str) -> Result<Vec<String>, DestinationError> {
        let listed = self.runtime.block_on(self.operator.list_with(prefix).recursive(true).into_future());
        let listed = listed.map_err(|error| self.failure(prefix, error))?;
        Ok(listed
            .iter()
            .filter(|entry| entry.metadata().is_file())
            .map(|entry| entry.path().to_owned())
            .collect())
    }

    /// The bytes of an object.
    pub(crate) fn read(&self, key: &str) -> Result<Vec<u8>, DestinationError> {
        let read = self.runtime.block_on(self.operator.read(key));
        read.map(|bytes| bytes.to_vec()).map_err(|error| self.failure(key, error))
    }

    /// Deletes an object.
    pub(crate) fn delete(&self, key: &str) -> Result<(), DestinationError> {
        self.runtime.block_on(self.operator.delete(key)).map_err(|error| self.failure(key, error))
    }

    /// Writes an empty object, as objects are written, and deletes it if it may. Readers of tables pass over a name with
    /// a dot in front.
    pub(crate) fn probe(&self, prefix: &str) -> Result<(), DestinationError> {
        let slash = if prefix.is_empty() || prefix.ends_with('/') { "" } else { "/" };
        let key = format!("{prefix}{slash}.logship-probe");
        let probe = async {
            let write = self.operator.write_with(&key, Vec::<u8>::new()).if_not_exists(self.conditional);
            match write.user_metadata([("logship-probe".to_owned(), "1".to_owned())]).await {
                // One that could not be deleted.
                Err(error) if error.kind() == ErrorKind::ConditionNotMatch => Ok(()),
                written => written.map(drop),
            }
        };
        let probed = self.runtime.block_on(tokio::time::timeout(PROBE, probe));
        match probed {
            Ok(probed) => probed.map_err(|error| self.failure(&key, error))?,
            Err(_) => {
                let silent = format!("bucket {}: no answer within {} seconds", self.name, PROBE.as_secs());
                return Err(DestinationError::Remote(silent));
            }
        }
        let deleted = self.runtime.block_on(tokio::time::timeout(PROBE, self.operator.delete(&key)));
        if !matches!(deleted, Ok(Ok(()))) {
            tracing::debug!(key, "the probe stays");
        }
        Ok(())
    }

    /// What an error of the store means here. Its own words are kept.
    fn failure(&self, key: &str, error: opendal::Error) -> DestinationError {
        let said = chain(&error);
        let whole = format!("bucket {}: {said}", self.name);
        let has = |word: &str| said.contains(word);
        // Asked at the wrong endpoint, the stores have different words for it, some of them a 403.
        let elsewhere = ["PermanentRedirect", "AuthorizationHeaderMalformed", "specified endpoint"];
        if has("NoSuchBucket") || has("InvalidBucketName") || elsewhere.into_iter().any(has) {
            return DestinationError::NoBucket(whole);
        }
        match error.kind() {
            ErrorKind::ConditionNotMatch => DestinationError::Exists(format!("{key} (bucket {})", self.name)),
            ErrorKind::PermissionDenied => DestinationError::Denied(whole),
            // No key at all, or a role that may not be assumed. What STS said is in its owner's audit trail only:
            // below, it is asked again elsewhere, and forgotten.
            _ if has("credential") && !has("error sending request") => DestinationError::Denied(whole),
            _ => DestinationError::Remote(whole),
        }
    }
}

/// What an error says, and what is behind it. The store's own words come first.
fn chain(error: &opendal::Error) -> String {
    let mut text = said(error.message());
    if text.is_empty() {
        // The answer to a request for a head has no body.
        text = format!("the store refused it ({})", error.kind());
    }
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        source = cause.source();
    }
    text
}

/// The code and the words of the store, out of OpenDAL's rendering of its reply.
fn said(message: &str) -> String {
    let field = |name: &str| {
        let (_, rest) = message.split_once(&format!("{name}: \""))?;
        rest.split_once("\", ").or_else(|| rest.split_once("\" }")).map(|(value, _)| value)
    };
    match (field("code"), field("message")) {
        (Some(code), Some(words)) => format!("{code}: {words}"),
        _ => message.to_owned(),
    }
}

fn s3(remote: &Remote, bucket: &str, role: &str) -> opendal::Result<Operator> {
    let mut builder = S3::default().bucket(bucket).region(remote.region.as_deref().unwrap_or("us-east-1"));
    if !remote.endpoint.is_empty() {
        builder = builder.endpoint(&remote.endpoint);
    }
    if remote.addressing == Some(Addressing::Virtual) {
        builder = builder.enable_virtual_host_style();
    }
    if let (Some(id), Some(secret)) = (&remote.access_key_id, &remote.access_key_secret) {
        builder = builder.access_key_id(id).secret_access_key(secret).disable_config_load();
    }
    if let Some(token) = &remote.security_token {
        builder = builder.session_token(token);
    }
    if !role.is_empty() {
        builder = builder.role_arn(role).role_session_name(SESSION);
    }
    if let Some(id) = &remote.external_id {
        builder = builder.external_id(id);
    }
    match (remote.encryption.as_deref(), &remote.encryption_key) {
        (Some("KMS"), Some(key)) => {
            builder = builder.server_side_encryption_with_customer_managed_kms_key(key)
        }
        (Some("KMS"), None) => builder = builder.server_side_encryption_with_aws_managed_kms_key(),
        (Some(_), _) => builder = builder.server_side_encryption_with_s3_key(),
        (None, _) => {}
    }
    Operator::new(builder)
}

fn oss(remote: &Remote, bucket: &str, role: &str) -> opendal::Result<Operator> {
    let mut builder = Oss::default().bucket(bucket).endpoint(&remote.endpoint);
    if remote.addressing == Some(Addressing::Path) {
        builder = builder.addressing_style("path");
    }
    if let (Some(id), Some(secret)) = (&remote.access_key_id, &remote.access_key_secret) {
        builder = builder.access_key_id(id).access_key_secret(secret);
    }
    if let Some(token) = &remote.security_token {
        builder = builder.security_token(token);
    }
    builder = builder.role_arn(role).role_session_name(SESSION);
    if let Some(id) = &remote.external_id {
        builder = builder.external_id(id);
    }
    if let Some(endpoint) = &remote.sts_endpoint {
        builder = builder.sts_endpoint(endpoint);
    }
    if let Some(encryption) = &remote.encryption {
        builder = builder.server_side_encryption(encryption);
    }
    if let Some(key) = &remote.encryption_key {
        builder = builder.server_side_encryption_key_id(key);
    }
    Operator::new(builder)
}

/// What sessions of an assumed role are called in its owner's audit trail.
const SESSION: &str = "logship";

/// What speaks to a store, or to something else that is reached as one is.
pub(crate) fn client(remote: &Remote) -> Result<reqwest::Client, DestinationError> {
    // The first to come installs it; another one of the same kind is as good.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    let wrong = |what: &str, error: &dyn fmt::Display| DestinationError::Settings(format!("{what}: {error}"));
    let answer = match remote.timeout_seconds.unwrap_or(ANSWER) {
        seconds @ 1..=3600 => Duration::from_secs(seconds),
        other => return Err(wrong("timeout-seconds", &format_args!("{other} is not from 1 to 3600"))),
    };
    let mut client =
        reqwest::Client::builder().connect_timeout(CONNECT).read_timeout(answer).tcp_nodelay(true);
    // A store does not send elsewhere; where a redirect says so, the token would go there too.
    client = client.redirect(reqwest::redirect::Policy::none()).tcp_user_timeout(UNHEARD);
    client = client.pool_max_idle_per_host(IDLE).pool_idle_timeout(CONNECT);
    if let Some(proxy) = &remote.proxy {
        client = client.proxy(reqwest::Proxy::all(proxy).map_err(|error| wrong("proxy", &error))?);
    }
    if let Some(file) = &remote.ca {
        let pem = std::fs::read(file).map_err(|error| wrong(&file.display().to_string(), &error))?;
        let certificates =
            reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| wrong("ca", &error))?;
        for certificate in certificates {
            client = client.add_root_certificate(certificate);
        }
    }
    client.build().map_err(|error| wrong("http", &error))
}

#[cfg(test)]
mod tests {
    use super::said;

    #[test]
    fn what_the_store_said_is_kept() {
        let s3 = r#"S3Error { code: "NoSuchBucket", message: "The specified bucket does not exist", resource: "/b", request_id: "1" }"#;
        assert_eq!(said(s3), "NoSuchBucket: The specified bucket does not exist");
        let last = r#"OssError { code: "AccessDenied", message: "no, \"never\"" }"#;
        assert_eq!(said(last), r#"AccessDenied: no, \"never\""#);
        assert_eq!(said("connection refused"), "connection refused");
    }
}
