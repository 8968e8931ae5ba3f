//! A client of OCI registries: pulls and pushes artifacts.
//!
//! It uses logship's HTTP client and five requests of the OCI distribution protocol. It limits the size of replies and
//! checks digests.

use std::env;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use docker_credential::{CredentialRetrievalError, DockerCredential};
use http_auth::parse_challenges;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, WWW_AUTHENTICATE,
};
use reqwest::{Method, Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;

use crate::oci::artifact;
use crate::oci::artifact::Artifact;
use crate::oci::{OciError, Reference};

/// The timeout for connecting, and for a registry that sends nothing.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The timeout for a request with its whole body and reply.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(600);

/// The largest manifest, token or message, in bytes: the limit of registries for manifests.
const MAX_TEXT_BYTES: usize = 4 << 20;

/// Docker Hub: its name in references, its host, and its key in Docker's configuration.
const DOCKER: &str = "docker.io";
const DOCKER_HOST: &str = "registry-1.docker.io";
const DOCKER_KEY: &str = "https://index.docker.io/v1/";

/// The credentials for a registry.
#[derive(Clone, Default)]
pub enum Credentials {
    /// The credentials of the user's Docker configuration, or none if it has none.
    #[default]
    Docker,
    /// A user with a password or a token.
    Basic(String, String),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Docker => f.write_str("Docker"),
            Self::Basic(user, _) => f.debug_tuple("Basic").field(user).finish_non_exhaustive(),
        }
    }
}

/// A client for one artifact.
pub struct RegistryClient {
    reference: Reference,
    http: reqwest::Client,
    base: Url,
    /// User and password.
    user: Option<(String, String)>,
    /// The `Authorization` header of each request, after the registry's challenge.
    authorization: Option<HeaderValue>,
}

/// A pulled component.
#[derive(Debug)]
pub struct Pulled {
    /// The component.
    pub component: Vec<u8>,
    /// The reference, with the digest of the manifest.
    pub source: String,
}

/// A request, cloneable because it is sent again after an authentication challenge.
#[derive(Clone)]
struct RegistryRequest {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Bytes,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl RegistryClient {
    /// Creates a client for `reference`. Plain HTTP is used only for registries on this machine, or with `plain`.
    ///
    /// # Errors
    /// Fails if the user's credentials can't be read.
    pub fn new(reference: Reference, credentials: &Credentials, plain: bool) -> Result<Self, OciError> {
        // Fails if another caller installed the same provider already.
        let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
        let user = user(reference.registry(), credentials)?;
        let plain = plain || reference.is_loopback();
        let host = if reference.registry() == DOCKER { DOCKER_HOST } else { reference.registry() };
        let base = format!("{}://{host}/v2/{}/", if plain { "http" } else { "https" }, reference.name);
        let base = Url::parse(&base).map_err(|error| OciError::Reference {
            text: reference.to_string(),
            reason: error.to_string(),
        })?;
        // Registries redirect to blob storage. A redirect to plain HTTP is not followed.
        let http = reqwest::Client::builder()
            .connect_timeout(IDLE_TIMEOUT)
            .read_timeout(IDLE_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .https_only(!plain)
            .user_agent(concat!("logship/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|source| OciError::Connection { reference: reference.to_string(), source })?;
        Ok(Self { reference, http, base, user, authorization: None })
    }

    /// Pulls the component, of at most `limit` bytes, and checks its digests.
    ///
    /// # Errors
    /// Fails if the artifact is missing or not a component, is too large, or does not match its digest.
    pub async fn pull(&mut self, limit: usize) -> Result<Pulled, OciError> {
        let mut request =
            self.request(Method::GET, &format!("manifests/{}", self.reference.digest_or_tag()))?;
        let accept = HeaderValue::from_str(&artifact::accept_header());
        request.headers.extend(accept.ok().map(|accept| (ACCEPT, accept)));
        let manifest = self.send(request).await?;
        let manifest = self.read(manifest, "manifest", MAX_TEXT_BYTES).await?;
        let digest = artifact::sha256(&manifest);
        if let Some(expected) = &self.reference.digest {
            self.check_digest("manifest", expected, &digest)?;
        }
        let layer = artifact::component_layer(&self.reference, &manifest)?;
        if layer.size > limit as u64 {
            return Err(self.too_large("layer", limit));
        }
        let blob = self.request(Method::GET, &format!("blobs/{}", layer.digest))?;
        let blob = self.send(blob).await?;
        let component = self.read(blob, "layer", limit).await?;
        self.check_digest("layer", &layer.digest, &artifact::sha256(&component))?;
        Ok(Pulled { component, source: self.reference.with_digest(&digest) })
    }

    /// Pushes an artifact. Returns its reference, with the digest of the manifest.
    ///
    /// # Errors
    /// Fails if the registry rejects the artifact.
    pub async fn push(&mut self, artifact: Artifact) -> Result<String, OciError> {
        let Some(tag) = self.reference.tag.clone().filter(|_| self.reference.digest.is_none()) else {
            let reason = "push to a tag, without a digest: the content determines the digest".into();
            return Err(OciError::Reference { text: self.reference.to_string(), reason });
        };
        self.push_blob(artifact.layer, &artifact.layer_digest).await?;
        self.push_blob(artifact.config, &artifact.config_digest).await?;
        let mut request = self.request(Method::PUT, &format!("manifests/{tag}"))?;
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static(artifact::MANIFEST));
        request.body = artifact.manifest.into();
        self.send(request).await?;
        Ok(self.reference.with_digest(&artifact.digest))
    }

    async fn push_blob(&mut self, blob: Vec<u8>, digest: &str) -> Result<(), OciError> {
        let begin = self.request(Method::POST, "blobs/uploads/")?;
        let begun = self.send(begin).await?;
        let location = begun.headers().get(LOCATION).and_then(|location| location.to_str().ok());
        let mut url = location.and_then(|location| begun.url().join(location).ok()).ok_or_else(|| {
            self.bad_status(begun.status(), "its reply has no upload URL (header Location)".into())
        })?;
        url.query_pairs_mut().append_pair("digest", digest);
        let headers =
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))]);
        self.send(RegistryRequest { method: Method::PUT, url, headers, body: blob.into() }).await.map(drop)
    }

    fn request(&self, method: Method, path: &str) -> Result<RegistryRequest, OciError> {
        let url = self.base.join(path).map_err(|error| OciError::Reference {
            text: format!("{}{path}", self.base),
            reason: error.to_string(),
        })?;
        Ok(RegistryRequest { method, url, headers: HeaderMap::new(), body: Bytes::new() })
    }

    /// Sends a request, authenticates if challenged, and returns the reply if it is a success.
    async fn send(&mut self, request: RegistryRequest) -> Result<Response, OciError> {
        let mut reply = self.send_once(request.clone()).await?;
        if reply.status() == StatusCode::UNAUTHORIZED && self.authorization.is_none() {
            self.authorize(&reply, &request.method).await?;
            reply = self.send_once(request).await?;
        }
        let status = reply.status();
        match status.as_u16() {
            200..300 => Ok(reply),
            401 | 403 => Err(self.unauthorized()),
            _ => {
                let body = self.read(reply, "reply", MAX_TEXT_BYTES).await?;
                Err(self.bad_status(status, message(&body)))
            }
        }
    }

    async fn send_once(&self, request: RegistryRequest) -> Result<Response, OciError> {
        let is_own = request.url.origin() == self.base.origin();
        let mut request =
            self.http.request(request.method, request.url).headers(request.headers).body(request.body);
        // Blob storage on another host must not get the registry's credentials.
        if let Some(authorization) = self.authorization.as_ref().filter(|_| is_own) {
            request = request.header(AUTHORIZATION, authorization);
        }
        request.send().await.map_err(|source| self.failed(source))
    }

    /// Answers the registry's authentication challenge and keeps the `Authorization` header.
    async fn authorize(&mut self, reply: &Response, method: &Method) -> Result<(), OciError> {
        let header = reply.headers().get(WWW_AUTHENTICATE).and_then(|header| header.to_str().ok());
        let challenges = parse_challenges(header.unwrap_or_default()).unwrap_or_default();
        let challenge =
            |scheme: &str| challenges.iter().find(|challenge| challenge.scheme.eq_ignore_ascii_case(scheme));
        let credentials = match (challenge("bearer"), challenge("basic"), &self.user) {
            (Some(challenge), ..) => {
                let parameter = |name: &str| {
                    let found = challenge.params.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
                    found.map(|(_, value)| value.to_unescaped())
                };
                let realm = parameter("realm").and_then(|realm| Url::parse(&realm).ok());
                let realm = realm.ok_or_else(|| {
                    self.bad_status(reply.status(), "its challenge has no token URL (realm)".into())
                })?;
                format!("Bearer {}", self.token(realm, parameter("service"), method).await?)
            }
            (None, Some(_), Some((user, password))) => basic(user, password),
            _ => return Err(self.unauthorized()),
        };
        let mut header = HeaderValue::from_str(&credentials).map_err(|_| self.unauthorized())?;
        header.set_sensitive(true);
        self.authorization = Some(header);
        Ok(())
    }

    /// Requests a token from the registry's token server.
    async fn token(
        &self,
        mut realm: Url,
        service: Option<String>,
        method: &Method,
    ) -> Result<String, OciError> {
        let actions = if method == Method::GET { "pull" } else { "pull,push" };
        let scope = format!("repository:{}:{actions}", self.reference.name);
        realm.query_pairs_mut().append_pair("scope", &scope);
        if let Some(service) = service {
            realm.query_pairs_mut().append_pair("service", &service);
        }
        let mut request = self.http.get(realm);
        if let Some((user, password)) = &self.user {
            request = request.basic_auth(user, Some(password));
        }
        let reply = request.send().await.map_err(|source| self.failed(source))?;
        let status = reply.status();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(self.unauthorized());
        }
        let body = self.read(reply, "reply", MAX_TEXT_BYTES).await?;
        if !status.is_success() {
            return Err(self.bad_status(status, message(&body)));
        }
        let token: Option<Token> = serde_json::from_slice(&body).ok();
        let token = token.and_then(|token| token.token.or(token.access_token));
        token.ok_or_else(|| self.bad_status(status, "the token server's reply has no token".into()))
    }

    /// Reads the body of a reply, up to `limit` bytes.
    async fn read(&self, mut reply: Response, part: &'static str, limit: usize) -> Result<Vec<u8>, OciError> {
        let mut bytes = vec![];
        while let Some(chunk) = reply.chunk().await.map_err(|source| self.failed(source))? {
            if chunk.len() > limit - bytes.len() {
                return Err(self.too_large(part, limit));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    fn check_digest(&self, part: &'static str, expected: &str, found: &str) -> Result<(), OciError> {
        if expected == found {
            return Ok(());
        }
        let (expected, found) = (expected.to_owned(), found.to_owned());
        Err(OciError::Digest { reference: self.reference.to_string(), part, expected, found })
    }

    fn failed(&self, source: reqwest::Error) -> OciError {
        OciError::Connection { reference: self.reference.to_string(), source: source.without_url() }
    }

    fn bad_status(&self, status: StatusCode, message: String) -> OciError {
        OciError::Status { reference: self.reference.to_string(), status: status.as_u16(), message }
    }

    fn too_large(&self, part: &'static str, limit: usize) -> OciError {
        OciError::TooLarge { reference: self.reference.to_string(), part, limit }
    }

    fn unauthorized(&self) -> OciError {
        let who = match &self.user {
            Some((user, _)) => format!("user {user:?}"),
            None => "requests without credentials".into(),
        };
        OciError::Unauthorized {
            reference: self.reference.to_string(),
            registry: self.reference.registry.clone(),
            who,
        }
    }
}

/// The user and password for a registry, or none.
fn user(registry: &str, credentials: &Credentials) -> Result<Option<(String, String)>, OciError> {
    if let Credentials::Basic(user, password) = credentials {
        return Ok(Some((user.clone(), password.clone())));
    }
    let unusable = |reason: &str| OciError::Credentials { registry: registry.into(), reason: reason.into() };
    let Some(path) = docker_config() else { return Ok(None) };
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|error| unusable(&error.to_string()))?,
    };
    let server = if registry == DOCKER { DOCKER_KEY } else { registry };
    match docker_credential::get_credential_from_reader(BufReader::new(file), server) {
        Ok(DockerCredential::UsernamePassword(user, password)) => Ok(Some((user, password))),
        Ok(DockerCredential::IdentityToken(_)) => {
            Err(unusable("logship does not support identity tokens; log in with a password"))
        }
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(None),
        // A credential helper without credentials for the registry.
        Err(CredentialRetrievalError::HelperFailure { stdout, .. })
            if stdout.contains("credentials not found") =>
        {
            Ok(None)
        }
        Err(error) => Err(unusable(&error.to_string())),
    }
}

/// The path of Docker's `config.json`.
fn docker_config() -> Option<PathBuf> {
    let own = || env::var_os("HOME").map(|home| Path::new(&home).join(".docker"));
    let folder = env::var_os("DOCKER_CONFIG").map(PathBuf::from).or_else(own)?;
    Some(folder.join("config.json"))
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    format!("Basic {encoded}")
}

/// A registry's error message, as one line.
fn message(body: &[u8]) -> String {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let errors = json["errors"].as_array().into_iter().flatten();
    let messages: Vec<_> = errors
        .filter_map(|error| {
            error["message"].as_str().filter(|text| !text.is_empty()).or(error["code"].as_str())
        })
        .collect();
    if messages.is_empty() {
        return String::from_utf8_lossy(&body[..body.len().min(200)]).trim().to_owned();
    }
    messages.join("; ")
}
