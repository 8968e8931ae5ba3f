//! A bucket of an object store, accessed through OpenDAL.

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

use crate::object::{ObjectInfo, ObjectSink, Provenance, SinkError};
use crate::staged_file::{FinishedFile, StagedFile};
use logship_config::object_store::{Addressing, ObjectStoreConfig};

/// Part size of multipart uploads, in bytes. Two parts are uploaded concurrently, which bounds the memory per
/// object.
const PART_BYTES: usize = 8 << 20;
const CONCURRENT_PARTS: usize = 2;

/// Retries of a request within one attempt of the task.
const RETRIES: usize = 2;

/// Connect timeout.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Default read timeout of a request, in seconds.
const DEFAULT_TIMEOUT_SECONDS: u64 = 60;

/// Timeout for the probe of a new rule's destination.
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);

/// Maximum number of idle connections to a store.
const MAX_IDLE_CONNECTIONS: usize = 2;

/// Time that sent data may stay unacknowledged (`TCP_USER_TIMEOUT`).
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

/// The kind of an object store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// Amazon S3, or a compatible store.
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
    /// Folder of staged files.
    spool: PathBuf,
    conditional: bool,
}

impl Bucket {
    /// Opens the bucket `name` of a store. Assumes `role` if it is not empty. `spool` is the folder of staged
    /// files.
    pub fn open(
        kind: StoreKind,
        remote: &ObjectStoreConfig,
        name: &str,
        role: &str,
        spool: &Path,
        runtime: Handle,
    ) -> Result<Self, SinkError> {
        let role = if role.is_empty() { remote.role.as_deref().unwrap_or_default() } else { role };
        let operator = match kind {
            StoreKind::S3 => s3(remote, name, role),
            StoreKind::Oss => oss(remote, name, role),
        };
        let operator = operator.map_err(|error| SinkError::Settings(error.to_string()))?;
        let transport = HttpTransporter::new(ReqwestTransport::new(client(remote)?));
        let operator = operator
            .with_context(OperationContext::new().with_http_transport(transport))
            .layer(RetryLayer::new().with_max_times(RETRIES).with_jitter());
        let conditional = remote.conditional_writes.unwrap_or(true);
        Ok(Self { operator, name: name.to_owned(), runtime, spool: spool.to_owned(), conditional })
    }

    /// Converts an error of the store and keeps the store's message.
    fn failure(&self, key: &str, error: opendal::Error) -> SinkError {
        let details = error_chain(&error);
        let message = format!("bucket {}: {details}", self.name);
        let has = |word: &str| details.contains(word);
        // The stores report a wrong endpoint by different errors, some with status 403.
        let wrong_endpoint = ["PermanentRedirect", "AuthorizationHeaderMalformed", "specified endpoint"];
        if has("NoSuchBucket") || has("InvalidBucketName") || wrong_endpoint.into_iter().any(has) {
            return SinkError::NoBucket(message);
        }
        match error.kind() {
            ErrorKind::ConditionNotMatch => SinkError::Exists(format!("{key} (bucket {})", self.name)),
            ErrorKind::PermissionDenied => SinkError::Denied(message),
            // No key, or a role that can't be assumed. Only the audit trail of the role's owner has STS's
            // reason: the library falls back to other credentials and drops the error.
            _ if has("credential") && !has("error sending request") => SinkError::Denied(message),
            _ => SinkError::Unavailable(message),
        }
    }
}

impl ObjectSink for Bucket {
    /// Begins an object. All of it is staged locally before the upload, because its header, row count and
    /// digest are known only at the end.
    fn begin(&self, _: &str, header_room: usize) -> Result<StagedFile, SinkError> {
        StagedFile::create(&self.spool, header_room).map_err(|error| SinkError::io(&self.spool, error))
    }

    fn publish(
        &self,
        file: FinishedFile,
        key: &str,
        media_type: &str,
        provenance: &Provenance,
    ) -> Result<(), SinkError> {
        let failed = |error| self.failure(key, error);
        let metadata = provenance.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let writer = self.operator.writer_with(key).chunk(PART_BYTES).concurrent(CONCURRENT_PARTS);
        let writer = writer.content_type(media_type).user_metadata(metadata);
        let writer = if self.conditional { writer.if_not_exists(true) } else { writer };
        let mut writer = self.runtime.block_on(writer.into_future()).map_err(failed)?;
        let mut sent = 0;
        let mut send = || -> Result<(), SinkError> {
            while sent < file.bytes {
                let chunk =
                    file.read_at(sent, PART_BYTES).map_err(|error| SinkError::io(&self.spool, error))?;
                sent += chunk.len() as u64;
                self.runtime.block_on(writer.write(chunk)).map_err(failed)?;
            }
            self.runtime.block_on(writer.close()).map(drop).map_err(failed)
        };
        let result = send();
        if result.is_err() {
            // Parts of an unfinished upload are invisible and cost money. A failed abort does not replace the
            // first error.
            if let Err(error) = self.runtime.block_on(writer.abort()) {
                tracing::debug!(key, %error, "failed to abort an upload");
            }
        }
        result
    }

    fn find(&self, key: &str) -> Result<Option<ObjectInfo>, SinkError> {
        let read = async {
            let size = self.operator.stat(key).await?.content_length();
            let (mut hash, mut at) = (Sha256::new(), 0);
            while at < size {
                let chunk = self.operator.read_with(key).range(at..size.min(at + PART_BYTES as u64)).await?;
                at += chunk.len() as u64;
                chunk.for_each(|bytes| hash.update(&bytes));
            }
            Ok::<_, opendal::Error>(ObjectInfo { bytes: size, sha256: hex::encode(hash.finalize()) })
        };
        match self.runtime.block_on(read) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failure(key, error)),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, SinkError> {
        let listed = self.runtime.block_on(self.operator.list_with(prefix).recursive(true).into_future());
        let listed = listed.map_err(|error| self.failure(prefix, error))?;
        Ok(listed
            .iter()
            .filter(|entry| entry.metadata().is_file())
            .map(|entry| entry.path().to_owned())
            .collect())
    }

    fn read(&self, key: &str) -> Result<Vec<u8>, SinkError> {
        let read = self.runtime.block_on(self.operator.read(key));
        read.map(|bytes| bytes.to_vec()).map_err(|error| self.failure(key, error))
    }

    fn delete(&self, key: &str) -> Result<(), SinkError> {
        self.runtime.block_on(self.operator.delete(key)).map_err(|error| self.failure(key, error))
    }

    /// Checks that objects can be written: writes an empty object and deletes it, if allowed. Table readers
    /// ignore a name that begins with a dot.
    fn probe(&self, prefix: &str) -> Result<(), SinkError> {
        let slash = if prefix.is_empty() || prefix.ends_with('/') { "" } else { "/" };
        let key = format!("{prefix}{slash}.logship-probe");
        let probe = async {
            let write = self.operator.write_with(&key, Vec::<u8>::new()).if_not_exists(self.conditional);
            match write.user_metadata([("logship-probe".to_owned(), "1".to_owned())]).await {
                // Left by an earlier probe that could not delete it.
                Err(error) if error.kind() == ErrorKind::ConditionNotMatch => Ok(()),
                written => written.map(drop),
            }
        };
        let probed = self.runtime.block_on(tokio::time::timeout(PROBE_TIMEOUT, probe));
        match probed {
            Ok(probed) => probed.map_err(|error| self.failure(&key, error))?,
            Err(_) => {
                let problem =
                    format!("bucket {}: no answer within {} seconds", self.name, PROBE_TIMEOUT.as_secs());
                return Err(SinkError::Unavailable(problem));
            }
        }
        let deleted = self.runtime.block_on(tokio::time::timeout(PROBE_TIMEOUT, self.operator.delete(&key)));
        if !matches!(deleted, Ok(Ok(()))) {
            tracing::debug!(key, "failed to delete the probe object");
        }
        Ok(())
    }
}

/// Returns an error and its causes. The store's own message comes first.
fn error_chain(error: &opendal::Error) -> String {
    let mut text = store_message(error.message());
    if text.is_empty() {
        // A response to HEAD has no body.
        text = format!("the store rejected the request ({})", error.kind());
    }
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Extracts the store's error code and message from OpenDAL's rendering of the response.
fn store_message(message: &str) -> String {
    let field = |name: &str| {
        let (_, rest) = message.split_once(&format!("{name}: \""))?;
        rest.split_once("\", ").or_else(|| rest.split_once("\" }")).map(|(value, _)| value)
    };
    match (field("code"), field("message")) {
        (Some(code), Some(text)) => format!("{code}: {text}"),
        _ => message.to_owned(),
    }
}

fn s3(remote: &ObjectStoreConfig, bucket: &str, role: &str) -> opendal::Result<Operator> {
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
        builder = builder.role_arn(role).role_session_name(ROLE_SESSION_NAME);
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

fn oss(remote: &ObjectStoreConfig, bucket: &str, role: &str) -> opendal::Result<Operator> {
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
    builder = builder.role_arn(role).role_session_name(ROLE_SESSION_NAME);
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

/// The role session name in the owner's audit trail.
const ROLE_SESSION_NAME: &str = "logship";

/// Builds the HTTP client for a store or a function.
pub fn client(remote: &ObjectStoreConfig) -> Result<reqwest::Client, SinkError> {
    // The first caller installs the provider. If another one is installed, it is as good.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    let wrong = |what: &str, error: &dyn fmt::Display| SinkError::Settings(format!("{what}: {error}"));
    let timeout = match remote.timeout_seconds.unwrap_or(DEFAULT_TIMEOUT_SECONDS) {
        seconds @ 1..=3600 => Duration::from_secs(seconds),
        other => return Err(wrong("timeout-seconds", &format_args!("{other} is out of range: 1-3600"))),
    };
    let mut client =
        reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(timeout).tcp_nodelay(true);
    // A store never redirects. Following a redirect would send the token to another host.
    client = client.redirect(reqwest::redirect::Policy::none()).tcp_user_timeout(TCP_USER_TIMEOUT);
    client = client.pool_max_idle_per_host(MAX_IDLE_CONNECTIONS).pool_idle_timeout(CONNECT_TIMEOUT);
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
    use super::store_message;

    #[test]
    fn keeps_store_message() {
        let s3 = r#"S3Error { code: "NoSuchBucket", message: "The specified bucket does not exist", resource: "/b", request_id: "1" }"#;
        assert_eq!(store_message(s3), "NoSuchBucket: The specified bucket does not exist");
        let last = r#"OssError { code: "AccessDenied", message: "no, \"never\"" }"#;
        assert_eq!(store_message(last), r#"AccessDenied: no, \"never\""#);
        assert_eq!(store_message("connection refused"), "connection refused");
    }
}
