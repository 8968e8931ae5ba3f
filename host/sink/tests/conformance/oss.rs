//! The suite against a small server that speaks OSS. There is no OSS server in Rust, and s3s knows neither the
//! signatures nor the headers of OSS. This one checks the id of the key, not the signature: tests/kit/fakes/oss.py checks
//! signatures in the tests of the whole service.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, ETAG, RANGE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use logship_config::destination::DestinationConfig;
use logship_config::object_store::{Addressing, ObjectStoreConfig};
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;

use crate::object_suite::{BUCKET, Store, object_sink_tests};
use crate::server;

/// Keys in a page of a listing, so that listings have several.
const PAGE: usize = 3;

type Answer = Response<Full<Bytes>>;

/// Status, code and message of an error.
type Refusal = (StatusCode, &'static str, &'static str);

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Bytes>,
    /// Open uploads by id.
    uploads: HashMap<String, Upload>,
    next_id: usize,
}

struct Upload {
    key: String,
    parts: BTreeMap<usize, Bytes>,
}

/// A request with the parts that choose the operation.
struct Call {
    method: Method,
    key: String,
    query: HashMap<String, String>,
    range: Option<(usize, usize)>,
    forbids_overwrite: bool,
    body: Bytes,
}

impl State {
    fn answer(&mut self, call: &Call) -> Result<Answer, Refusal> {
        let has = |name: &str| call.query.contains_key(name);
        match call.method {
            Method::GET if has("list-type") => Ok(self.list(call)),
            Method::GET | Method::HEAD => self.get(call),
            Method::PUT if has("uploadId") => self.put_part(call),
            Method::PUT => {
                self.check_free(call)?;
                self.objects.insert(call.key.clone(), call.body.clone());
                Ok(with_etag(&call.body))
            }
            Method::POST if has("uploads") => {
                self.check_free(call)?;
                self.next_id += 1;
                let (id, key) = (self.next_id.to_string(), call.key.clone());
                self.uploads.insert(id.clone(), Upload { key, parts: BTreeMap::new() });
                Ok(xml(&format!(
                    "<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
                )))
            }
            Method::POST => self.complete(call),
            Method::DELETE if has("uploadId") => {
                self.uploads.remove(&call.query["uploadId"]).ok_or(NO_UPLOAD)?;
                Ok(empty(StatusCode::NO_CONTENT))
            }
            Method::DELETE => {
                self.objects.remove(&call.key);
                Ok(empty(StatusCode::NO_CONTENT))
            }
            _ => Err((StatusCode::NOT_IMPLEMENTED, "NotImplemented", "unknown operation")),
        }
    }

    fn check_free(&self, call: &Call) -> Result<(), Refusal> {
        match call.forbids_overwrite && self.objects.contains_key(&call.key) {
            true => Err((StatusCode::CONFLICT, "FileAlreadyExists", "The object already exists.")),
            false => Ok(()),
        }
    }

    fn get(&self, call: &Call) -> Result<Answer, Refusal> {
        let no_key = (StatusCode::NOT_FOUND, "NoSuchKey", "The specified key does not exist.");
        let object = self.objects.get(&call.key).ok_or(no_key)?;
        let (status, content) = match call.range {
            Some((first, last)) => {
                (StatusCode::PARTIAL_CONTENT, object.slice(first..object.len().min(last + 1)))
            }
            None => (StatusCode::OK, object.clone()),
        };
        let mut answer = with_etag(object);
        *answer.status_mut() = status;
        answer.headers_mut().insert(CONTENT_LENGTH, content.len().into());
        if call.method == Method::GET {
            *answer.body_mut() = Full::new(content);
        }
        Ok(answer)
    }

    fn put_part(&mut self, call: &Call) -> Result<Answer, Refusal> {
        let upload = self.uploads.get_mut(&call.query["uploadId"]).ok_or(NO_UPLOAD)?;
        upload.parts.insert(call.query["partNumber"].parse().unwrap(), call.body.clone());
        Ok(with_etag(&call.body))
    }

    fn complete(&mut self, call: &Call) -> Result<Answer, Refusal> {
        self.check_free(call)?;
        let upload = self.uploads.remove(&call.query["uploadId"]).ok_or(NO_UPLOAD)?;
        let text = String::from_utf8(call.body.to_vec()).unwrap();
        let numbers = text.split("<PartNumber>").skip(1).map(|rest| rest.split('<').next().unwrap());
        let parts: Option<Vec<_>> =
            numbers.map(|number| upload.parts.get(&number.parse().unwrap())).collect();
        let parts = parts.ok_or((StatusCode::BAD_REQUEST, "InvalidPart", "A part is missing."))?;
        let content: Vec<u8> = parts.into_iter().flatten().copied().collect();
        self.objects.insert(upload.key, content.into());
        Ok(xml("<CompleteMultipartUploadResult><ETag>\"1\"</ETag></CompleteMultipartUploadResult>"))
    }

    fn list(&self, call: &Call) -> Answer {
        let value = |name: &str| call.query.get(name).cloned().unwrap_or_default();
        let (prefix, after) = (value("prefix"), value("continuation-token"));
        let keys: Vec<_> =
            self.objects.iter().filter(|(key, _)| key.starts_with(&prefix) && **key > after).collect();
        let page = &keys[..keys.len().min(PAGE)];
        let listed = page.iter().map(|(key, content)| {
            format!(
                "<Contents><Key>{}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>\"1\"</ETag>\
                 <Size>{}</Size></Contents>",
                escaped(key),
                content.len()
            )
        });
        let listed: String = listed.collect();
        let more = match page.last().filter(|_| keys.len() > PAGE) {
            Some((key, _)) => format!("<NextContinuationToken>{}</NextContinuationToken>", escaped(key)),
            None => String::new(),
        };
        xml(&format!(
            "<ListBucketResult><Prefix>{}</Prefix><MaxKeys>{PAGE}</MaxKeys><EncodingType></EncodingType>\
             <IsTruncated>{}</IsTruncated><KeyCount>{}</KeyCount>{more}{listed}</ListBucketResult>",
            escaped(&prefix),
            keys.len() > PAGE,
            page.len()
        ))
    }
}

const NO_UPLOAD: Refusal = (StatusCode::NOT_FOUND, "NoSuchUpload", "The specified upload does not exist.");

async fn answer(state: &Mutex<State>, request: Request<Incoming>) -> Answer {
    let method = request.method().clone();
    let outcome = match checked(request).await {
        Ok(call) => state.lock().unwrap().answer(&call),
        Err(refusal) => Err(refusal),
    };
    outcome.unwrap_or_else(|(status, code, message)| {
        let text = format!(
            "<Error><Code>{code}</Code><Message>{message}</Message><RequestId>1</RequestId><HostId>h</HostId></Error>"
        );
        // A response to HEAD has no body.
        let mut answer = if method == Method::HEAD { empty(status) } else { xml(&text) };
        *answer.status_mut() = status;
        answer
    })
}

/// Checks the key and the bucket of a request.
async fn checked(request: Request<Incoming>) -> Result<Call, Refusal> {
    let header =
        |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let authorization = header(AUTHORIZATION.as_str());
    if !authorization.starts_with("OSS id:") {
        let message = "The OSS Access Key Id you provided does not exist in our records.";
        return Err((StatusCode::FORBIDDEN, "InvalidAccessKeyId", message));
    }
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().unwrap().into_owned();
    let path = decoded(request.uri().path());
    let (bucket, key) = path[1..].split_once('/').unwrap_or((&path[1..], ""));
    if bucket != BUCKET {
        return Err((StatusCode::NOT_FOUND, "NoSuchBucket", "The specified bucket does not exist."));
    }
    let query = request.uri().query().unwrap_or_default().split('&');
    let query = query.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let range = header(RANGE.as_str()).strip_prefix("bytes=").and_then(|range| range.split_once('-'));
    let call = Call {
        method: request.method().clone(),
        key: key.to_owned(),
        query: query.map(|(name, value)| (name.to_owned(), decoded(value))).collect(),
        range: range.map(|(first, last)| (first.parse().unwrap(), last.parse().unwrap_or(usize::MAX - 1))),
        forbids_overwrite: header("x-oss-forbid-overwrite") == "true",
        body: Bytes::new(),
    };
    Ok(Call { body: request.into_body().collect().await.unwrap().to_bytes(), ..call })
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn empty(status: StatusCode) -> Answer {
    Response::builder().status(status).body(Full::default()).unwrap()
}

fn xml(text: &str) -> Answer {
    Response::new(Full::new(Bytes::from(text.to_owned())))
}

fn with_etag(content: &[u8]) -> Answer {
    let etag = format!("\"{}\"", &hex::encode(Sha256::digest(content))[..32]);
    Response::builder().header(ETAG, etag).body(Full::default()).unwrap()
}

struct OssServer {
    state: Arc<Mutex<State>>,
    endpoint: String,
}

impl OssServer {
    fn config(&self, id: &str) -> DestinationConfig {
        DestinationConfig::Oss(ObjectStoreConfig {
            endpoint: self.endpoint.clone(),
            addressing: Some(Addressing::Path),
            access_key_id: Some(id.into()),
            access_key_secret: Some("secret".into()),
            ..ObjectStoreConfig::default()
        })
    }
}

impl Store for OssServer {
    fn start(runtime: &Runtime) -> Self {
        let (state, (listener, address)) = (Arc::<Mutex<State>>::default(), server::listen(runtime));
        let shared = Arc::clone(&state);
        let service = service_fn(move |request| {
            let state = Arc::clone(&shared);
            async move { Ok::<_, Infallible>(answer(&state, request).await) }
        });
        runtime.spawn(server::serve(listener, service));
        Self { state, endpoint: format!("http://{address}") }
    }

    fn config(&self) -> DestinationConfig {
        self.config("id")
    }

    fn wrong_key(&self) -> Option<DestinationConfig> {
        Some(self.config("unknown"))
    }

    fn keys(&self) -> Vec<String> {
        self.state.lock().unwrap().objects.keys().cloned().collect()
    }

    fn unfinished(&self) -> Vec<String> {
        self.state.lock().unwrap().uploads.values().map(|upload| upload.key.clone()).collect()
    }
}

object_sink_tests!(OssServer, "oss");
