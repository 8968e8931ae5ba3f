//! What S3 and OSS answer, beyond success: each answer becomes an error that says what to do. And what they get: a checksum
//! with each upload and part.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ETAG, HeaderMap};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use logship_config::destination::DestinationConfig;
use logship_config::object_store::{Addressing, Checksum, ObjectStoreConfig};
use logship_sink::error::SinkError;
use logship_sink::object::{BucketLocation, ObjectSink};
use logship_sink::open;
use opendal::raw::format_content_md5;
use tokio::runtime::Runtime;

use crate::server;

/// The answer to each PUT.
#[derive(Debug, Clone, Copy)]
struct Reply {
    status: u16,
    code: &'static str,
    headers: &'static [(&'static str, &'static str)],
}

const OK: Reply = Reply { status: 200, code: "", headers: &[] };

/// The code of a reply whose completion of an upload fails after the headers: with status 200, as S3 does.
const LATE: &str = "late";

/// The code of a reply with a page of a proxy as its body.
const PAGE: &str = "page";

/// The status and the body of the answers to an upload in parts: to its begin, and to its end.
type Parts = [(u16, &'static str); 2];

const BEGUN: &str = "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>";
const COMPLETED: &str = "<CompleteMultipartUploadResult><ETag>\"1\"</ETag></CompleteMultipartUploadResult>";
const FAILED: &str = "<?xml version=\"1.0\"?>\n<Error xmlns=\"x\"><Code>InternalError</Code><Message>the message</Message></Error>";

/// An upload or a part that the store got.
struct Upload {
    headers: HeaderMap,
    body: Bytes,
}

/// A store that keeps the uploads.
struct FakeStore {
    runtime: Runtime,
    endpoint: String,
    uploads: Arc<Mutex<Vec<Upload>>>,
}

impl FakeStore {
    fn start(reply: Reply) -> Self {
        let completed = if reply.code == LATE { FAILED } else { COMPLETED };
        Self::start_with(reply, [(200, BEGUN), (200, completed)])
    }

    fn start_with(reply: Reply, parts: Parts) -> Self {
        let (runtime, uploads) = (Runtime::new().unwrap(), Arc::<Mutex<Vec<Upload>>>::default());
        let (listener, address) = server::listen(&runtime);
        let shared = Arc::clone(&uploads);
        let service = service_fn(move |request| {
            let uploads = Arc::clone(&shared);
            async move { Ok::<_, Infallible>(answer(request, reply, parts, &uploads).await) }
        });
        runtime.spawn(server::serve(listener, service));
        Self { runtime, endpoint: format!("http://{address}"), uploads }
    }

    fn settings(&self) -> ObjectStoreConfig {
        ObjectStoreConfig {
            endpoint: self.endpoint.clone(),
            addressing: Some(Addressing::Path),
            access_key_id: Some("id".into()),
            access_key_secret: Some("secret".into()),
            ..ObjectStoreConfig::default()
        }
    }

    fn open(&self, config: &DestinationConfig) -> Result<Box<dyn ObjectSink>, SinkError> {
        let (spool, runtime) = (std::env::temp_dir(), self.runtime.handle().clone());
        open::object_sink(
            config,
            &BucketLocation { bucket: "lake", role: "", spool: &spool, runtime, must_exist: true },
        )
    }

    /// Publishes an object of some MiB.
    fn publish(&self, config: &DestinationConfig, mebibytes: usize) -> Result<(), SinkError> {
        let sink = self.open(config)?;
        let mut staged = sink.begin("a/b", 0).unwrap();
        (0..mebibytes).for_each(|number| staged.write(&vec![number as u8; 1 << 20]).unwrap());
        sink.publish(staged.finish(b"").unwrap(), "a/b", "text/plain", &vec![])
    }

    /// Returns a header of each upload.
    fn checksums(&self, name: &str) -> Vec<Option<String>> {
        let header = |upload: &Upload| Some(upload.headers.get(name)?.to_str().unwrap().to_owned());
        self.uploads.lock().unwrap().iter().map(header).collect()
    }

    /// Returns the MD5 of each upload.
    fn digests(&self) -> Vec<Option<String>> {
        let uploads = self.uploads.lock().unwrap();
        uploads.iter().map(|upload| Some(format_content_md5(&upload.body))).collect()
    }
}

async fn answer(
    request: Request<Incoming>,
    reply: Reply,
    [begun, completed]: Parts,
    uploads: &Mutex<Vec<Upload>>,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let query = head.uri.query().unwrap_or_default().to_owned();
    let (status, text) = match head.method {
        Method::PUT => {
            uploads.lock().unwrap().push(Upload { headers: head.headers, body });
            return put_answer(reply);
        }
        Method::POST if query.contains("uploadId") => completed,
        Method::POST => begun,
        _ => (200, ""),
    };
    Response::builder().status(status).body(Full::new(text.into())).unwrap()
}

fn put_answer(reply: Reply) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(reply.status);
    if reply.code != "no ETag" {
        response = response.header(ETAG, "\"1\"");
    }
    for (name, value) in reply.headers {
        response = response.header(*name, *value);
    }
    let text = match reply.code {
        "" | LATE => String::new(),
        PAGE => "<html><body>refused</body></html>".into(),
        code => format!("<Error><Code>{code}</Code><Message>the message</Message></Error>"),
    };
    response.body(Full::new(text.into())).unwrap()
}

fn both(settings: &ObjectStoreConfig) -> [DestinationConfig; 2] {
    [DestinationConfig::S3(settings.clone()), DestinationConfig::Oss(settings.clone())]
}

#[test]
fn s3_gets_a_crc32c_with_each_upload_and_part() {
    let store = FakeStore::start(OK);
    let config = DestinationConfig::S3(store.settings());
    store.publish(&config, 0).unwrap();
    store.publish(&config, 1).unwrap();
    store.publish(&config, 20).unwrap();
    let sums = store.checksums("x-amz-checksum-crc32c");
    assert_eq!(sums.len(), 5, "an empty object, one of a part, and three parts");
    assert!(sums.iter().all(Option::is_some), "{sums:?}");
    assert_eq!(sums[0].as_deref(), Some("AAAAAA=="));
}

#[test]
fn md5_fits_each_upload_and_part() {
    for (number, config) in [0, 1].into_iter().enumerate() {
        let store = FakeStore::start(OK);
        let settings = ObjectStoreConfig { checksum: Some(Checksum::Md5), ..store.settings() };
        // Default of OSS.
        let settings = if number == 1 { store.settings() } else { settings };
        let config = &both(&settings)[config];
        store.publish(config, 0).unwrap();
        store.publish(config, 20).unwrap();
        assert_eq!(store.checksums("content-md5"), store.digests());
        assert_eq!(store.digests().len(), 4);
    }
}

#[test]
fn no_checksum_if_turned_off() {
    let store = FakeStore::start(OK);
    let settings = ObjectStoreConfig { checksum: Some(Checksum::None), ..store.settings() };
    both(&settings).iter().for_each(|config| store.publish(config, 20).unwrap());
    for name in ["content-md5", "x-amz-checksum-crc32c"] {
        assert!(store.checksums(name).iter().all(Option::is_none), "{name}");
    }
}

#[test]
fn oss_has_no_crc32c() {
    let store = FakeStore::start(OK);
    let settings = ObjectStoreConfig { checksum: Some(Checksum::Crc32c), ..store.settings() };
    let error = store.publish(&DestinationConfig::Oss(settings), 0).unwrap_err();
    assert!(error.to_string().contains("use md5"), "{error}");
}

/// Asserts the code and some words of the error of an upload to both stores.
fn assert_error(reply: Reply, code: &str, words: &[&str]) {
    // Temporary failures of parts are retried for seconds.
    let sizes: &[usize] = if matches!(reply.status, 500 | 503) { &[0] } else { &[0, 9] };
    for &mebibytes in sizes {
        let store = FakeStore::start(reply);
        for config in both(&store.settings()) {
            let error = store.publish(&config, mebibytes).unwrap_err();
            assert_eq!(error.code(), code, "{reply:?}: {error}");
            for word in words {
                assert!(error.to_string().contains(word), "{reply:?}: {error}");
            }
        }
    }
}

#[test]
fn wrong_credentials_are_unauthorized_with_any_status() {
    for (status, code) in [
        (400, "ExpiredToken"),
        (403, "ExpiredToken"),
        (400, "InvalidToken"),
        (400, "TokenRefreshRequired"),
        (403, "InvalidAccessKeyId"),
        (403, "SignatureDoesNotMatch"),
        (403, "SecurityTokenExpired"),
        (403, "AccessDenied"),
        (401, "Unauthorized"),
    ] {
        assert_error(Reply { status, code, headers: &[] }, "UnAuthorized", &[code]);
    }
    let skewed = Reply { status: 403, code: "RequestTimeTooSkewed", headers: &[] };
    assert_error(skewed, "UnAuthorized", &["RequestTimeTooSkewed", "clock"]);
}

#[test]
fn redirects_name_their_target() {
    let headers = &[
        ("location", "https://lake.s3.eu-west-1.amazonaws.com/a?sig=1"),
        ("x-amz-bucket-region", "eu-west-1"),
    ];
    for (status, code) in [(307, "TemporaryRedirect"), (301, "PermanentRedirect"), (302, ""), (308, "")] {
        let words =
            ["https://lake.s3.eu-west-1.amazonaws.com/a", "eu-west-1", "set `endpoint` and `region`", code];
        assert_error(Reply { status, code, headers }, "InvalidOssBucket", &words);
    }
    assert_error(Reply { status: 307, code: "", headers: &[] }, "InvalidOssBucket", &["another endpoint"]);
}

#[test]
fn missing_feature_names_the_setting() {
    for code in ["NotImplemented", ""] {
        let words = ["501 Not Implemented", "conditional-writes = false"];
        assert_error(Reply { status: 501, code, headers: &[] }, "InternalServerError", &words);
    }
}

#[test]
fn page_of_a_proxy_is_no_upload() {
    assert_error(Reply { status: 200, code: "no ETag", headers: &[] }, "InternalServerError", &["A proxy"]);
}

/// Publishes an object to both stores. Returns the errors, and the number of uploads of each.
fn failures(reply: Reply, parts: Parts, mebibytes: usize) -> Vec<(SinkError, usize)> {
    let fails = |number: usize| {
        let store = FakeStore::start_with(reply, parts);
        let error = store.publish(&both(&store.settings())[number], mebibytes).unwrap_err();
        let uploads = store.uploads.lock().unwrap().len();
        (error, uploads)
    };
    (0..2).map(fails).collect()
}

const PARTS: Parts = [(200, BEGUN), (200, COMPLETED)];

#[test]
fn object_that_exists_is_told_from_other_conflicts() {
    for (status, code) in [
        (412, "PreconditionFailed"),
        (412, "412 Precondition Failed"),
        (412, ""),
        (409, "FileAlreadyExists"),
        (409, "FileImmutable"),
        (409, "ObjectAlreadyExists"),
    ] {
        for (error, _) in failures(Reply { status, code, headers: &[] }, PARTS, 0) {
            assert!(matches!(error, SinkError::Exists(_)), "{status} {code}: {error}");
        }
    }
    // Without permission to read, such an answer must not count as the task's object.
    for (status, code) in [(412, PAGE), (412, "Blocked"), (409, PAGE), (409, ""), (409, "InvalidBucketState")]
    {
        for (error, _) in failures(Reply { status, code, headers: &[] }, PARTS, 0) {
            assert!(matches!(error, SinkError::Unavailable(_)), "{status} {code}: {error}");
        }
    }
}

#[test]
fn conflict_with_a_concurrent_request_is_repeated() {
    for code in ["ConditionalRequestConflict", "OperationAborted", ""] {
        for (error, uploads) in failures(Reply { status: 409, code, headers: &[] }, PARTS, 0) {
            assert!(matches!(error, SinkError::Unavailable(_)), "{code}: {error}");
            assert!(error.to_string().contains("409 Conflict"), "{error}");
            assert_eq!(uploads, 3, "{code}");
        }
    }
}

#[test]
fn completion_tells_an_object_that_exists() {
    let body = |code: &str| -> &'static str { format!("<Error><Code>{code}</Code></Error>").leak() };
    for (status, code) in [(412, "PreconditionFailed"), (409, "FileAlreadyExists")] {
        for (error, _) in failures(OK, [(200, BEGUN), (status, body(code))], 9) {
            assert!(matches!(error, SinkError::Exists(_)), "{status} {code}: {error}");
        }
    }
    // The store forgets the parts.
    let conflict = [(200, BEGUN), (409, body("ConditionalRequestConflict"))];
    for (error, uploads) in failures(OK, conflict, 9) {
        assert!(matches!(error, SinkError::Unavailable(_)), "{error}");
        assert_eq!(uploads, 2);
    }
}

#[test]
fn answers_of_others_to_an_upload_in_parts_are_no_success() {
    for page in [
        "",
        "<html>Sign in</html>",
        "{}",
        "<InitiateMultipartUploadResult><UploadId/></InitiateMultipartUploadResult>",
    ] {
        for (error, uploads) in failures(OK, [(200, page), (200, COMPLETED)], 9) {
            assert!(error.to_string().contains("A proxy"), "{page}: {error}");
            assert_eq!(uploads, 0, "a part without an upload would replace the object");
        }
        for (error, _) in failures(OK, [(200, BEGUN), (200, page)], 9) {
            assert!(error.to_string().contains("A proxy"), "{page}: {error}");
        }
    }
}

#[test]
fn upload_that_fails_with_status_200_is_no_success() {
    let reply = Reply { status: 200, code: "InternalError", headers: &[] };
    for (error, _) in failures(reply, PARTS, 0) {
        assert!(error.to_string().contains("200 OK with an error: InternalError"), "{error}");
    }
}

#[test]
fn completion_that_fails_with_status_200_is_no_success() {
    let store = FakeStore::start(Reply { status: 200, code: LATE, headers: &[] });
    for config in both(&store.settings()) {
        let error = store.publish(&config, 9).unwrap_err();
        assert_eq!(error.code(), "InternalServerError", "{error}");
        assert!(error.to_string().contains("InternalError"), "{error}");
    }
}

#[test]
fn other_failures_keep_the_words_of_the_store() {
    for (status, code) in
        [(503, "SlowDown"), (500, "InternalError"), (400, "BadDigest"), (400, "RequestTimeout")]
    {
        let reply = Reply { status, code, headers: &[] };
        assert_error(reply, "InternalServerError", &[code, "the message"]);
    }
}

#[test]
fn endpoint_without_scheme_is_https_and_says_so() {
    let store = FakeStore::start(OK);
    let bare = store.endpoint.trim_start_matches("http://").to_owned();
    for config in both(&ObjectStoreConfig { endpoint: bare.clone(), ..store.settings() }) {
        let error = store.publish(&config, 0).unwrap_err().to_string();
        assert!(error.contains("has no scheme") && error.contains(&format!("http://{bare}")), "{error}");
    }
    for config in both(&ObjectStoreConfig { endpoint: "s3://lake".into(), ..store.settings() }) {
        let error = store.publish(&config, 0).unwrap_err().to_string();
        assert!(error.contains("begins with s3://"), "{error}");
    }
}
