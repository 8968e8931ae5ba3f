//! A bucket of an object store, accessed through OpenDAL: all that S3 and OSS share.

use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::BoxFuture;
use logship_config::object_store::{Checksum, ObjectStoreConfig};
use logship_config::secret::Secret;
use opendal::layers::RetryLayer;
use opendal::{ErrorKind, HttpTransporter, OperationContext, Operator};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;

use crate::error::SinkError;
use crate::http;
use crate::object::{BucketLocation, HEAD, HEAD_BEFORE, ObjectHeads, ObjectInfo, ObjectSink, Provenance};
use crate::sink::Sink;
use crate::staged_file::{FinishedFile, StagedFile};
use crate::store_hint::Hints;
use crate::store_transport::{REDIRECTS, ReloadedHttp, Sign, StoreTransport};
use crate::tls;

/// Part size of multipart uploads, in bytes. Two parts are uploaded concurrently, which bounds the memory per
/// object.
const PART_BYTES: usize = 8 << 20;
const CONCURRENT_PARTS: usize = 2;

/// Retries of a request within one attempt of the task, after errors that OpenDAL knows to be temporary.
const RETRIES: usize = 2;

/// Default read timeout of a request, in seconds.
const DEFAULT_TIMEOUT_SECONDS: u64 = 60;

/// Timeout for the probe of a new rule's destination.
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);

/// The role session name in the owner's audit trail.
pub(crate) const ROLE_SESSION_NAME: &str = "logship";

/// A kind of object store.
pub trait Store: Send + Sync + 'static {
    /// The kind, as `type` in the settings names it.
    const KIND: &'static str;

    /// Converts an error of a bucket at a key.
    fn error(bucket: &str, key: &str, error: &opendal::Error) -> SinkError;
}

/// A client of a bucket that is not connected to its transport yet.
pub(crate) struct Client {
    pub(crate) operator: Operator,
    /// Signs the requests; `None` if the operator does.
    pub(crate) signer: Option<Box<dyn Sign>>,
}

/// A bucket of an object store. The methods of [`ObjectSink`] block.
pub struct Bucket<S> {
    operator: Operator,
    name: String,
    runtime: Handle,
    /// Folder of staged files.
    spool: PathBuf,
    hints: Hints,
    store: PhantomData<S>,
}

impl<S: Store> fmt::Debug for Bucket<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Bucket")
            .field("kind", &S::KIND)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl<S: Store> Bucket<S> {
    /// Opens a bucket. `build` configures the requests to assume a role, unless it is empty.
    pub(crate) fn open(
        config: &ObjectStoreConfig,
        location: &BucketLocation<'_>,
        checksum: Checksum,
        build: impl FnOnce(&ObjectStoreConfig, &str, &str, &HttpTransporter) -> opendal::Result<Client>,
    ) -> Result<Self, SinkError> {
        check_endpoint(&config.endpoint)?;
        let role = match location.role {
            "" => config.role.as_deref().unwrap_or_default(),
            role => role,
        };
        let timeout = config.timeout_seconds.unwrap_or(DEFAULT_TIMEOUT_SECONDS);
        let client = http::client(timeout, config.proxy.as_ref().map(Secret::expose), config.ca.as_deref())?;
        let http = HttpTransporter::new(ReloadedHttp(client));
        let built = build(config, location.bucket, role, &http);
        let Client { operator, signer } = built.map_err(|error| SinkError::Settings(error.to_string()))?;
        let transport = StoreTransport { http, md5: checksum == Checksum::Md5, signer };
        let operator = operator
            .with_context(OperationContext::new().with_http_transport(HttpTransporter::new(transport)))
            .layer(RetryLayer::new().with_max_times(RETRIES).with_jitter());
        Ok(Self {
            operator,
            name: location.bucket.to_owned(),
            runtime: location.runtime.clone(),
            spool: location.spool.to_owned(),
            hints: Hints::new(config, checksum),
            store: PhantomData,
        })
    }

    fn failure(&self, key: &str, error: &opendal::Error) -> SinkError {
        match S::error(&self.name, key, error) {
            SinkError::Denied(problem) => SinkError::Denied(self.hints.add_to(problem)),
            SinkError::Unavailable(problem) => SinkError::Unavailable(self.hints.add_to(problem)),
            other => other,
        }
    }

    /// Writes an empty object and deletes it, if allowed. Table readers ignore a name that begins with a dot.
    async fn write_probe(&self, prefix: &str) -> Result<(), SinkError> {
        let slash = if prefix.is_empty() || prefix.ends_with('/') { "" } else { "/" };
        let key = format!("{prefix}{slash}.logship-probe");
        let probe = async {
            let write =
                self.operator.write_with(&key, Vec::<u8>::new()).if_not_exists(self.hints.is_conditional);
            match write.user_metadata([("logship-probe".to_owned(), "1".to_owned())]).await {
                // Left by an earlier probe that could not delete it.
                Err(error) if error.kind() == ErrorKind::ConditionNotMatch => Ok(()),
                written => written.map(drop),
            }
        };
        match tokio::time::timeout(PROBE_TIMEOUT, probe).await {
            Ok(probed) => probed.map_err(|error| self.failure(&key, &error))?,
            Err(_) => {
                let problem =
                    format!("bucket {}: no answer within {} seconds", self.name, PROBE_TIMEOUT.as_secs());
                return Err(SinkError::Unavailable(problem));
            }
        }
        let deleted = tokio::time::timeout(PROBE_TIMEOUT, self.operator.delete(&key)).await;
        if !matches!(deleted, Ok(Ok(()))) {
            tracing::debug!(key, "failed to delete the probe object");
        }
        Ok(())
    }
}

impl<S: Store> Sink for Bucket<S> {
    fn kind(&self) -> &'static str {
        S::KIND
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn probe<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(self.write_probe(prefix))
    }
}

impl<S: Store> ObjectSink for Bucket<S> {
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
        let failed = |error: opendal::Error| self.failure(key, &error);
        let metadata = provenance.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let writer = self.operator.writer_with(key).chunk(PART_BYTES).concurrent(CONCURRENT_PARTS);
        let writer = writer.content_type(media_type).user_metadata(metadata);
        let writer = if self.hints.is_conditional { writer.if_not_exists(true) } else { writer };
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
            let metadata = self.operator.stat(key).await?;
            if !metadata.is_file() {
                // A key that ends with a slash: OpenDAL finds a folder that is no object.
                return Ok(None);
            }
            let size = metadata.content_length();
            let heads = metadata.user_metadata().and_then(|values| {
                let value = |name| values.get(name).map(str::to_owned);
                Some(ObjectHeads { before: value(HEAD_BEFORE)?, after: value(HEAD)? })
            });
            let (mut hash, mut at) = (Sha256::new(), 0);
            while at < size {
                let chunk = self.operator.read_with(key).range(at..size.min(at + PART_BYTES as u64)).await?;
                at += chunk.len() as u64;
                chunk.for_each(|bytes| hash.update(&bytes));
            }
            let sha256 = hex::encode(hash.finalize());
            Ok::<_, opendal::Error>(Some(ObjectInfo { bytes: size, sha256, heads }))
        };
        match self.runtime.block_on(read) {
            Ok(found) => Ok(found),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failure(key, &error)),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, SinkError> {
        let listed = self.runtime.block_on(self.operator.list_with(prefix).recursive(true).into_future());
        let listed = listed.map_err(|error| self.failure(prefix, &error))?;
        Ok(listed
            .iter()
            .filter(|entry| entry.metadata().is_file())
            .map(|entry| entry.path().to_owned())
            .collect())
    }

    fn read(&self, key: &str) -> Result<Vec<u8>, SinkError> {
        let read = self.runtime.block_on(self.operator.read(key));
        read.map(|bytes| bytes.to_vec()).map_err(|error| self.failure(key, &error))
    }

    fn delete(&self, key: &str) -> Result<(), SinkError> {
        self.runtime.block_on(self.operator.delete(key)).map_err(|error| self.failure(key, &error))
    }
}

/// Checks the scheme of an endpoint.
fn check_endpoint(endpoint: &str) -> Result<(), SinkError> {
    match endpoint.split_once("://") {
        None | Some(("http" | "https", _)) => Ok(()),
        Some((scheme, _)) => Err(SinkError::Settings(format!(
            "endpoint {endpoint:?} begins with {scheme}://: write the store's URL, https:// or http://, without the bucket"
        ))),
    }
}

/// Returns an endpoint with a scheme. Default: https.
pub(crate) fn with_scheme(endpoint: &str) -> String {
    if endpoint.is_empty() || endpoint.contains("://") {
        endpoint.into()
    } else {
        format!("https://{endpoint}")
    }
}

/// Returns true if a name has 3-63 lowercase letters, digits and the bytes in `extra`, and begins and ends with a letter
/// or digit. A bucket's name becomes a part of a host name or of a path.
pub(crate) fn is_bucket_name(name: &str, extra: &[u8]) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (3..=63).contains(&name.len())
        && name.bytes().all(|byte| plain(byte) || extra.contains(&byte))
        && name.bytes().next().is_some_and(plain)
        && name.bytes().last().is_some_and(plain)
}

/// Returns the error of a rule's bucket with an invalid name.
pub(crate) fn invalid_name(name: &str) -> SinkError {
    let problem = format!(
        "{name:?} is not a valid bucket name: use 3-63 lowercase letters, digits and `-` (S3: also `.`)"
    );
    SinkError::rule("bucket", problem)
}

/// Converts an error that is the same for all stores, and keeps the store's message. `no_bucket` are words of a store
/// that has no such bucket.
pub(crate) fn convert(bucket: &str, key: &str, error: &opendal::Error, no_bucket: &[&str]) -> SinkError {
    let details = error_chain(error);
    let message = format!("bucket {bucket}: {details}");
    if details.contains(REDIRECTS) || no_bucket.iter().any(|word| details.contains(word)) {
        return SinkError::NoBucket(message);
    }
    if CREDENTIAL_ERRORS.iter().any(|code| details.starts_with(code)) {
        return SinkError::Denied(message);
    }
    match error.kind() {
        ErrorKind::ConditionNotMatch => SinkError::Exists(format!("{key} (bucket {bucket})")),
        ErrorKind::PermissionDenied => SinkError::Denied(message),
        // No key, or a role that can't be assumed. Only the audit trail of the role's owner has STS's
        // reason: the library falls back to other credentials and drops the error.
        _ if details.contains("credential") && !details.contains("error sending request") => {
            SinkError::Denied(message)
        }
        _ => SinkError::Unavailable(message),
    }
}

/// Codes of wrong or expired credentials. Some have status 400.
const CREDENTIAL_ERRORS: [&str; 10] = [
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
    "InvalidSecurity",
    "SecurityToken",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "RequestTimeTooSkewed",
    "RequestExpired",
    "AccessDenied",
];

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
    tls::explain(text)
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
