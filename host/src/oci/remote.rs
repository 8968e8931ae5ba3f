//! A registry, which artifacts are pulled from and pushed to.
//!
//! It is spoken to by the HTTP client that the rest of logship has: of the distribution protocol five requests are
//! needed, and what a registry sends is bounded and checked here.

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

use super::artifact::{self, Artifact};
use super::{OciError, Place};

/// Time that a connection, and a registry that says nothing, may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Time that a request may take with all that it sends and receives.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Bytes that manifests, tokens and messages may have: what registries take as manifest.
const LARGEST_TEXT: usize = 4 << 20;

/// Where Docker's own registry is, and what Docker's configuration calls it.
const DOCKER: &str = "docker.io";
const DOCKER_HOST: &str = "registry-1.docker.io";
const DOCKER_KEY: &str = "https://index.docker.io/v1/";

/// Who asks.
#[derive(Clone, Default)]
pub enum Credentials {
    /// Whoever the user's Docker configuration says; nobody, where it says nothing.
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

/// A place in a registry, and who asks for it.
pub struct Remote {
    place: Place,
    http: reqwest::Client,
    base: Url,
    /// User and password.
    user: Option<(String, String)>,
    /// What the registry wanted to have with each request.
    authorization: Option<HeaderValue>,
}

/// What was pulled.
#[derive(Debug)]
pub struct Pulled {
    /// The component.
    pub component: Vec<u8>,
    /// Its place, with the digest of its manifest.
    pub source: String,
}

/// A request. It may have to be sent twice: a registry says then first who may send it.
#[derive(Clone)]
struct Ask {
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

impl Remote {
    /// Whom to ask for what is at `place`. Plain HTTP is spoken on this machine only, unless `plain`.
    ///
    /// # Errors
    /// When the user's credentials can't be read.
    pub fn new(place: Place, credentials: &Credentials, plain: bool) -> Result<Self, OciError> {
        // The first to come installs it; another one of the same kind is as good.
        let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
        let user = user(place.registry(), credentials)?;
        let plain = plain || place.is_loopback();
        let host = if place.registry() == DOCKER { DOCKER_HOST } else { place.registry() };
        let base = format!("{}://{host}/v2/{}/", if plain { "http" } else { "https" }, place.name);
        let base = Url::parse(&base)
            .map_err(|error| OciError::Place { text: place.to_string(), reason: error.to_string() })?;
        // Registries send on to where blobs are; nothing sends on to plain HTTP.
        let http = reqwest::Client::builder()
            .connect_timeout(PATIENCE)
            .read_timeout(PATIENCE)
            .timeout(TIMEOUT)
            .https_only(!plain)
            .user_agent(concat!("logship/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|source| OciError::Connection { place: place.to_string(), source })?;
        Ok(Self { place, http, base, user, authorization: None })
    }

    /// Pulls the component, of `limit` bytes at most. Its digests were checked.
    ///
    /// # Errors
    /// When there is none, or the registry does not give it whole.
    pub async fn pull(&mut self, limit: usize) -> Result<Pulled, OciError> {
        let mut ask = self.ask(Method::GET, &format!("manifests/{}", self.place.reference()))?;
        let accepted = HeaderValue::from_str(&artifact::accepted());
        ask.headers.extend(accepted.ok().map(|accepted| (ACCEPT, accepted)));
        let manifest = self.send(ask).await?;
        let manifest = self.read(manifest, "manifest", LARGEST_TEXT).await?;
        let digest = artifact::sha256(&manifest);
        if let Some(expected) = &self.place.digest {
            self.check("manifest", expected, &digest)?;
        }
        let layer = artifact::layer(&self.place, &manifest)?;
        if layer.size > limit as u64 {
            return Err(self.too_large("layer", limit));
        }
        let blob = self.ask(Method::GET, &format!("blobs/{}", layer.digest))?;
        let blob = self.send(blob).await?;
        let component = self.read(blob, "layer", limit).await?;
        self.check("layer", &layer.digest, &artifact::sha256(&component))?;
        Ok(Pulled { component, source: self.place.at(&digest) })
    }

    /// Pushes an artifact; returns its place, with the digest of its manifest.
    ///
    /// # Errors
    /// When the registry does not take it.
    pub async fn push(&mut self, artifact: Artifact) -> Result<String, OciError> {
        let Some(tag) = self.place.tag.clone().filter(|_| self.place.digest.is_none()) else {
            let reason = "it is pushed to a tag, and has its digest from what it is".into();
            return Err(OciError::Place { text: self.place.to_string(), reason });
        };
        self.push_blob(artifact.layer, &artifact.layer_digest).await?;
        self.push_blob(artifact.config, &artifact.config_digest).await?;
        let mut ask = self.ask(Method::PUT, &format!("manifests/{tag}"))?;
        ask.headers.insert(CONTENT_TYPE, HeaderValue::from_static(artifact::MANIFEST));
        ask.body = artifact.manifest.into();
        self.send(ask).await?;
        Ok(self.place.at(&artifact.digest))
    }

    async fn push_blob(&mut self, blob: Vec<u8>, digest: &str) -> Result<(), OciError> {
        let begin = self.ask(Method::POST, "blobs/uploads/")?;
        let begun = self.send(begin).await?;
        let location = begun.headers().get(LOCATION).and_then(|location| location.to_str().ok());
        let mut url = location.and_then(|location| begun.url().join(location).ok()).ok_or_else(|| {
            self.refused(begun.status(), "it does not say where to upload to (the header Location)".into())
        })?;
        url.query_pairs_mut().append_pair("digest", digest);
        let headers =
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))]);
        self.send(Ask { method: Method::PUT, url, headers, body: blob.into() }).await.map(drop)
    }

    fn ask(&self, method: Method, path: &str) -> Result<Ask, OciError> {
        let url = self.base.join(path).map_err(|error| OciError::Place {
            text: format!("{}{path}", self.base),
            reason: error.to_string(),
        })?;
        Ok(Ask { method, url, headers: HeaderMap::new(), body: Bytes::new() })
    }

    /// Sends a request; the reply if it is a good one.
    async fn send(&mut self, ask: Ask) -> Result<Response, OciError> {
        let mut reply = self.send_once(ask.clone()).await?;
        if reply.status() == StatusCode::UNAUTHORIZED && self.authorization.is_none() {
            self.authorize(&reply, &ask.method).await?;
            reply = self.send_once(ask).await?;
        }
        let status = reply.status();
        match status.as_u16() {
            200..300 => Ok(reply),
            401 | 403 => Err(self.unauthorized()),
            _ => {
                let said = self.read(reply, "answer", LARGEST_TEXT).await?;
                Err(self.refused(status, message(&said)))
            }
        }
    }

    async fn send_once(&self, ask: Ask) -> Result<Response, OciError> {
        let is_own = ask.url.origin() == self.base.origin();
        let mut request = self.http.request(ask.method, ask.url).headers(ask.headers).body(ask.body);
        // Who stores blobs for a registry need not know who uploads them.
        if let Some(authorization) = self.authorization.as_ref().filter(|_| is_own) {
            request = request.header(AUTHORIZATION, authorization);
        }
        request.send().await.map_err(|source| self.failed(source))
    }

    /// Finds out what a registry wants to have with requests, and has it.
    async fn authorize(&mut self, reply: &Response, method: &Method) -> Result<(), OciError> {
        let wanted = reply.headers().get(WWW_AUTHENTICATE).and_then(|wanted| wanted.to_str().ok());
        let challenges = parse_challenges(wanted.unwrap_or_default()).unwrap_or_default();
        let named =
            |scheme: &str| challenges.iter().find(|challenge| challenge.scheme.eq_ignore_ascii_case(scheme));
        let credentials = match (named("bearer"), named("basic"), &self.user) {
            (Some(challenge), ..) => {
                let parameter = |name: &str| {
                    let found = challenge.params.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
                    found.map(|(_, value)| value.to_unescaped())
                };
                let realm = parameter("realm").and_then(|realm| Url::parse(&realm).ok());
                let realm = realm.ok_or_else(|| {
                    self.refused(reply.status(), "it does not say where tokens are from (realm)".into())
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

    /// A token for the place, of whom the registry leaves it to.
    async fn token(
        &self,
        mut realm: Url,
        service: Option<String>,
        method: &Method,
    ) -> Result<String, OciError> {
        let actions = if method == Method::GET { "pull" } else { "pull,push" };
        let scope = format!("repository:{}:{actions}", self.place.name);
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
        let said = self.read(reply, "answer", LARGEST_TEXT).await?;
        if !status.is_success() {
            return Err(self.refused(status, message(&said)));
        }
        let token: Option<Token> = serde_json::from_slice(&said).ok();
        let token = token.and_then(|token| token.token.or(token.access_token));
        token.ok_or_else(|| self.refused(status, "there is no token in its answer".into()))
    }

    /// Reads what a reply has, up to `limit` bytes.
    async fn read(&self, mut reply: Response, what: &'static str, limit: usize) -> Result<Vec<u8>, OciError> {
        let mut bytes = vec![];
        while let Some(piece) = reply.chunk().await.map_err(|source| self.failed(source))? {
            if piece.len() > limit - bytes.len() {
                return Err(self.too_large(what, limit));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    fn check(&self, what: &'static str, expected: &str, found: &str) -> Result<(), OciError> {
        if expected == found {
            return Ok(());
        }
        let (expected, found) = (expected.to_owned(), found.to_owned());
        Err(OciError::Digest { place: self.place.to_string(), what, expected, found })
    }

    fn failed(&self, source: reqwest::Error) -> OciError {
        OciError::Connection { place: self.place.to_string(), source: source.without_url() }
    }

    fn refused(&self, status: StatusCode, message: String) -> OciError {
        OciError::Refused { place: self.place.to_string(), status: status.as_u16(), message }
    }

    fn too_large(&self, what: &'static str, limit: usize) -> OciError {
        OciError::TooLarge { place: self.place.to_string(), what, limit }
    }

    fn unauthorized(&self) -> OciError {
        let who = match &self.user {
            Some((user, _)) => format!("user {user:?}"),
            None => "who gives no credentials".into(),
        };
        OciError::Unauthorized { place: self.place.to_string(), registry: self.place.registry.clone(), who }
    }
}

/// The user and the password that a registry is told.
fn user(registry: &str, credentials: &Credentials) -> Result<Option<(String, String)>, OciError> {
    if let Credentials::Basic(user, password) = credentials {
        return Ok(Some((user.clone(), password.clone())));
    }
    let refused = |reason: &str| OciError::Credentials { registry: registry.into(), reason: reason.into() };
    let Some(path) = docker_config() else { return Ok(None) };
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|error| refused(&error.to_string()))?,
    };
    let server = if registry == DOCKER { DOCKER_KEY } else { registry };
    match docker_credential::get_credential_from_reader(BufReader::new(file), server) {
        Ok(DockerCredential::UsernamePassword(user, password)) => Ok(Some((user, password))),
        Ok(DockerCredential::IdentityToken(_)) => {
            Err(refused("it has an identity token, which logship does not use; log in with a password"))
        }
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(None),
        // So a helper says that it has none.
        Err(CredentialRetrievalError::HelperFailure { stdout, .. })
            if stdout.contains("credentials not found") =>
        {
            Ok(None)
        }
        Err(error) => Err(refused(&error.to_string())),
    }
}

/// Where Docker keeps who is logged in.
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

/// What a registry said, as one line.
fn message(said: &[u8]) -> String {
    let json: Value = serde_json::from_slice(said).unwrap_or_default();
    let errors = json["errors"].as_array().into_iter().flatten();
    let messages: Vec<_> = errors
        .filter_map(|error| {
            error["message"].as_str().filter(|text| !text.is_empty()).or(error["code"].as_str())
        })
        .collect();
    if messages.is_empty() {
        return String::from_utf8_lossy(&said[..said.len().min(200)]).trim().to_owned();
    }
    messages.join("; ")
}
