//! Destinations that rules define themselves. Their endpoint can be any server, so its answers stay within the service:
//! an error tells only what kind it is.

use futures_util::future::BoxFuture;
use logship_sink::error::SinkError;
use logship_sink::object::{ObjectInfo, ObjectSink, Provenance};
use logship_sink::sink::Sink;
use logship_sink::staged_file::{FinishedFile, StagedFile};

/// The sink of a destination that a rule defines.
#[derive(Debug)]
pub(super) struct OwnDestination(pub(super) Box<dyn ObjectSink>);

/// The error codes of object stores that users need, and no server can fill with other data.
const KNOWN_CODES: [&str; 12] = [
    "AccessDenied",
    "AuthorizationHeaderMalformed",
    "EntityTooLarge",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidBucketName",
    "InvalidToken",
    "NoSuchBucket",
    "PermanentRedirect",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "SlowDown",
];

/// Removes the server's own words from an error. The service's log has them.
fn without_answer(error: SinkError) -> SinkError {
    let known = |text: &str| {
        let code = KNOWN_CODES.iter().find(|code| text.contains(*code));
        code.map(|code| format!(" ({code})")).unwrap_or_default()
    };
    let hidden = |text: &str, problem: &str| {
        tracing::info!(error = text, "a destination of a rule's own failed");
        format!("{problem}{}", known(text))
    };
    match error {
        SinkError::NoBucket(text) => {
            SinkError::NoBucket(hidden(&text, "the store has no such bucket, or has it in another region"))
        }
        SinkError::Denied(text) => {
            SinkError::Denied(hidden(&text, "the store rejects the credentials, or they lack the permission"))
        }
        SinkError::Unavailable(text) => {
            let problem = "the endpoint is unreachable, or does not answer as an object store: the service's log has its answer";
            SinkError::Unavailable(hidden(&text, problem))
        }
        other => other,
    }
}

impl Sink for OwnDestination {
    fn kind(&self) -> &'static str {
        self.0.kind()
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn probe<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move { self.0.probe(prefix).await.map_err(without_answer) })
    }
}

impl ObjectSink for OwnDestination {
    fn begin(&self, key: &str, header_room: usize) -> Result<StagedFile, SinkError> {
        self.0.begin(key, header_room).map_err(without_answer)
    }

    fn publish(
        &self,
        file: FinishedFile,
        key: &str,
        media_type: &str,
        provenance: &Provenance,
    ) -> Result<(), SinkError> {
        self.0.publish(file, key, media_type, provenance).map_err(without_answer)
    }

    fn find(&self, key: &str) -> Result<Option<ObjectInfo>, SinkError> {
        self.0.find(key).map_err(without_answer)
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, SinkError> {
        self.0.list(prefix).map_err(without_answer)
    }

    fn read(&self, key: &str) -> Result<Vec<u8>, SinkError> {
        self.0.read(key).map_err(without_answer)
    }

    fn delete(&self, key: &str) -> Result<(), SinkError> {
        self.0.delete(key).map_err(without_answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_servers_are_hidden_but_known_codes_stay() {
        let secret = "bucket b: 200 <html>internal admin page, token=hunter2</html>";
        for error in [
            SinkError::NoBucket(secret.into()),
            SinkError::Denied(secret.into()),
            SinkError::Unavailable(secret.into()),
        ] {
            let text = without_answer(error).to_string();
            assert!(!text.contains("hunter2") && !text.contains("html"), "{text}");
        }
        let text = without_answer(SinkError::Denied("InvalidAccessKeyId: hunter2".into())).to_string();
        assert!(text.ends_with("(InvalidAccessKeyId)") && !text.contains("hunter2"), "{text}");
        let exists = without_answer(SinkError::Exists("a/b".into()));
        assert!(exists.to_string().starts_with("a/b already exists"));
    }
}
