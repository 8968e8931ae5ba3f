//! The Logstore service: the API of Log Service, on a store of its own.
//!
//! # Layout
//! - [`config`]: settings; [`keys`]: access keys and what they open; [`server`]: connections and TLS.
//! - `call`: a request and who sent it; `reply`: what is answered; this file: which request does what.
//! - `room`: memory that requests share; `patience`: how long connections may do nothing.
//! - `manage`: projects, logstores, shards; `put`, `ingest`: logs in; `pull`: cursors, logs out;
//!   `groups`: consumer groups; `shippers`, `tasks`: rules and what they shipped; `stages`: what names of stages stand
//!   for, `users`: the rules that use them, `trials`: what another one would change; `metrics`: what Prometheus reads.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use logship_logstore::{Clock, Logstore, Options, Store, StoreError};
use logship_sls::error::{ApiError, ErrorCode};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::{Semaphore, watch};

mod call;
pub mod config;
mod groups;
mod ingest;
pub mod keys;
mod manage;
pub(crate) mod members;
pub(crate) mod metrics;
mod patience;
mod pull;
mod put;
mod reply;
mod room;
pub mod server;
mod shippers;
mod stages;
mod tasks;
mod trials;
mod users;

use call::Call;
pub(crate) use call::{EVERYWHERE, LARGEST_COMPONENT};
use config::Config;
use keys::{Access, Grant, Key, KeyFile, Keys, KeysError};
use members::Members;
use reply::{Reply, refuse, response};
use room::Room;
use users::RuleUsers;

use crate::engine::Engine;
use crate::registry::Registry;
use crate::registry::book::Book;
use crate::registry::folder::Folder;
use crate::shipping::Shipper;
use crate::siem::consumer::Place;
use crate::siem::rules::Rules;
use crate::wasi::Allowance;

/// The service. Share it by [`Arc`].
#[derive(Debug)]
pub struct Service {
    config: Config,
    store: Arc<Store>,
    shipper: Arc<Shipper>,
    siem: Arc<Rules>,
    book: Arc<Book>,
    folder: Arc<Folder>,
    store_clock: ClockOf,
    keys: Keys,
    metrics: PrometheusHandle,
    /// Room for bodies as they come, for bodies unpacked, and for replies.
    bodies: Room,
    unpacked: Room,
    replies: Room,
    /// What the members of consumer groups tell.
    members: Members,
    /// Whether it takes requests: not while it ends.
    ready: watch::Sender<bool>,
    /// One trial of a stage at a time.
    trials: Arc<Semaphore>,
    /// Requests that are being answered.
    active: AtomicUsize,
    connections: AtomicUsize,
}

/// Something that is counted as long as it is there, however it ends.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A clock that can be shown.
struct ClockOf(Clock);

impl std::fmt::Debug for ClockOf {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Clock")
    }
}

impl std::ops::Deref for ClockOf {
    type Target = Clock;

    fn deref(&self) -> &Clock {
        &self.0
    }
}

/// Why the service does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The metrics.
    #[error("can't count: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    /// Where dead letters are to be kept.
    #[error("dead-letters: {0}")]
    DeadLetters(#[from] crate::destination::DestinationError),
    /// The folder of objects on their way.
    #[error("can't make a folder for objects on their way (shipping.spool): {0}")]
    Spool(std::io::Error),
}

impl Service {
    /// Opens the store and the keys of the data directory. The first time both are made, with one key for everything.
    /// Stages run in `engine`. To be called within a runtime.
    pub fn open(config: Config, engine: Engine) -> Result<Self, ServiceError> {
        let options = Options {
            groups: config.limits.consumer_groups,
            shards: config.limits.shards,
            ..Options::default()
        };
        let clock = Arc::clone(&options.clock);
        // Before any stage is loaded: what is counted of it goes there.
        let metrics = metrics::install()?;
        let store = Arc::new(Store::open(&config.data, options)?);
        let file = KeyFile::within(&config.data);
        if !file.path().exists() {
            let grant = Grant { project: "*".into(), access: Access::Admin };
            let key = Key::new(vec![grant], "made at the first start", clock() / 1_000_000);
            tracing::info!(id = key.id, file = %file.path().display(), "made the first access key; its secret is in the file");
            file.change(|keys| {
                keys.push(key);
                Ok(())
            })?;
        }
        let kept = config.data.join("stages");
        let watched = config.stages.folder.clone().unwrap_or_else(|| kept.clone());
        let allowance = Allowance::of(config.stages.allow_wasi.clone());
        let registry = Registry::of(engine, kept, Arc::clone(&store)).allowing(allowance);
        let letters = Place::of(None, &config, config.data.join("dead-letters")).open(&config)?;
        let hold_after = config.shipping.hold_after_tasks;
        let siem =
            Rules::new(Arc::clone(&store), registry.clone(), config.receivers.clone(), letters, hold_after);
        let shipper = Shipper::new(
            Arc::clone(&store),
            registry.clone(),
            config.destinations(),
            config.shipping.clone(),
            &config.data,
            tokio::runtime::Handle::current(),
        )
        .map_err(ServiceError::Spool)?;
        let (shipper, siem) = (Arc::new(shipper), Arc::new(siem));
        let users = Arc::new(RuleUsers { shipper: Arc::clone(&shipper), siem: Arc::clone(&siem) });
        let runtime = tokio::runtime::Handle::current();
        let book = Arc::new(Book::new(Arc::clone(&store), registry, users, runtime));
        let folder = Arc::new(Folder::new(watched, Arc::clone(&book), Arc::clone(&store)));
        let room = || Room::new(config.limits.bodies_bytes, config.limits.stall());
        Ok(Self {
            bodies: room(),
            unpacked: room(),
            replies: room(),
            keys: Keys::open(file)?,
            metrics,
            store,
            shipper,
            siem,
            book,
            folder,
            store_clock: ClockOf(clock),
            ready: watch::Sender::new(true),
            members: Members::default(),
            trials: Arc::new(Semaphore::new(1)),
            active: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            config,
        })
    }

    /// What keeps a rule from shipping, if anything does.
    pub(crate) fn why_held(&self, rule: i64) -> Option<String> {
        self.shipper.why_held(rule).or_else(|| self.siem.problem(rule))
    }

    /// Answers a request.
    pub(crate) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: IpAddr,
    ) -> Response<Full<Bytes>> {
        let begun = Instant::now();
        let request_id = request_id();
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let mut operation = "unknown";
        let active = Counted::begin(&self.active);
        let result = self.dispatch(request, peer, &mut operation).await;
        drop(active);
        let (code, seconds) =
            (result.as_ref().map_or_else(|error| error.code.as_str(), |_| "OK"), begun.elapsed());
        metrics::answered(operation, code, seconds.as_secs_f64());
        match &result {
            Ok(_) => tracing::debug!(%peer, %method, path, operation, ?seconds, request_id),
            Err(error) if error.status() >= 500 => {
                tracing::error!(%peer, %method, path, operation, %error, request_id);
            }
            Err(error) => tracing::info!(%peer, %method, path, operation, %error, request_id),
        }
        // Who is not known has no use of a connection that is kept.
        let known = !matches!(&result, Err(error) if error.status() == 401);
        response(result, &request_id, known && *self.ready.borrow())
    }

    /// Waits until the service ends.
    async fn ended(&self) {
        // The sender is here, so there is no other outcome.
        let _ = self.ready.subscribe().wait_for(|ready| !ready).await;
    }

    /// Waits until no request is being answered for a while.
    async fn quiet(&self) {
        const WHILE: u32 = 5;
        let mut quiet = 0;
        while quiet < WHILE {
            tokio::time::sleep(Duration::from_millis(100)).await;
            quiet = if self.active.load(Ordering::Relaxed) == 0 { quiet + 1 } else { 0 };
        }
    }

    async fn dispatch(
        self: &Arc<Self>,
        request: Request<Incoming>,
        peer: IpAddr,
        operation: &mut &'static str,
    ) -> Result<Reply, ApiError> {
        let open = self.config.open_metrics;
        match request.uri().path() {
            "/healthz" => {
                *operation = "health";
                return Ok(Reply { body: "ok\n".into(), ..Reply::default() });
            }
            "/readyz" => {
                *operation = "ready";
                return self.readiness();
            }
            "/metrics" if open => {
                *operation = "metrics";
                return self.show_metrics().await;
            }
            _ => {}
        }
        let call = Call::receive(self, request, peer).await?;
        self.route(&call, operation).await
    }

    /// Which request does what. What a key has to open for it stands beside each.
    async fn route(self: &Arc<Self>, call: &Call, operation: &mut &'static str) -> Result<Reply, ApiError> {
        use Access::{Admin, Read, Write};
        let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
        let mut named = |name: &'static str| *operation = name;
        let catalog = self.store.catalog();
        match (&call.method, path.as_slice()) {
            (&Method::GET, ["metrics"]) => {
                named("metrics");
                call.check_access(EVERYWHERE, Read)?;
                return self.show_metrics().await;
            }
            (&Method::GET, ["stages"]) => {
                named("list stages");
                call.check_access(EVERYWHERE, Read)?;
                return stages::list(self).await;
            }
            (&Method::POST, ["stages"]) => {
                named("add stage");
                call.check_access(EVERYWHERE, Admin)?;
                return stages::add(self, call).await;
            }
            (&Method::GET, ["stages", name]) if !stages::is_digest(name) => {
                named("show stage");
                call.check_access(EVERYWHERE, Read)?;
                return stages::show(self, name).await;
            }
            (&Method::PUT, ["stages", name]) => {
                named("change stage");
                call.check_access(EVERYWHERE, Admin)?;
                return stages::change(self, call, name).await;
            }
            (&Method::DELETE, ["stages", name]) => {
                named("remove stage");
                call.check_access(EVERYWHERE, Admin)?;
                return stages::remove(self, call, name).await;
            }
            (&Method::POST, ["ingest", project, logstore]) => {
                named("ingest");
                call.check_access(project, Write)?;
                return ingest::ingest(self, call, project, logstore).await;
            }
            (&Method::GET, []) if call.project.is_none() => {
                named("list projects");
                return manage::list_projects(&catalog, call);
            }
            (&Method::POST, []) => {
                named("create project");
                return manage::create_project(self, call).await;
            }
            _ => {}
        }
        let missing = || {
            let message = "no project: the host's name has to begin with one, as in PROJECT.logs.example.org";
            ApiError::new(ErrorCode::ParameterInvalid, message)
        };
        let project = call.project.as_deref().ok_or_else(missing)?;
        let access = |access| {
            call.check_access(project, access)?;
            catalog.project(project).map_err(refuse)
        };
        let logstore = |name: &str, needed| -> Result<&Arc<Logstore>, ApiError> {
            access(needed)?.logstores.get(name).ok_or_else(|| refuse(StoreError::NoLogstore(name.into())))
        };
        let shard = |logstore: &Arc<Logstore>, number: &str| {
            let number = number.parse().map_err(|_| {
                ApiError::new(ErrorCode::ParameterInvalid, format!("{number} is no number of a shard"))
            })?;
            logstore.shard(number).cloned().map_err(refuse)
        };
        let kind = call.query.get("type").unwrap_or_default();
        match (&call.method, path.as_slice()) {
            (&Method::GET, []) => {
                named("show project");
                Ok(Reply::json(&manage::show_project(access(Read)?)))
            }
            (&Method::PUT, []) => {
                named("update project");
                access(Admin)?;
                manage::update_project(self, call, project).await
            }
            (&Method::DELETE, []) => {
                named("delete project");
                access(Admin)?;
                self.store.delete_project(project).await.map_err(refuse)?;
                Ok(Reply::empty())
            }
            (&Method::GET, ["logstores"]) => {
                named("list logstores");
                manage::list_logstores(access(Read)?, call)
            }
            (&Method::POST, ["logstores"]) => {
                named("create logstore");
                access(Admin)?;
                manage::create_logstore(self, call, project).await
            }
            (&Method::GET, ["logstores", name]) => {
                named("show logstore");
                Ok(Reply::json(&manage::show_logstore(logstore(name, Read)?)))
            }
            (&Method::PUT, ["logstores", name]) => {
                named("update logstore");
                manage::update_logstore(self, call, project, logstore(name, Admin)?).await
            }
            (&Method::DELETE, ["logstores", name]) => {
                named("delete logstore");
                logstore(name, Admin)?;
                self.store.delete_logstore(project, name).await.map_err(refuse)?;
                Ok(Reply::empty())
            }
            // The Go SDK posts to the logstore itself.
            (&Method::POST, ["logstores", name] | ["logstores", name, "shards", "lb" | "route"]) => {
                named("put");
                access(Write)?;
                put::put(self, call, project, name).await
            }
            (&Method::GET, ["logstores", name, "shards"]) => {
                named("list shards");
                let shards = logstore(name, Read)?.shards.iter().map(|shard| manage::show_shard(shard));
                Ok(Reply::json(&shards.collect()))
            }
            (&Method::POST, ["logstores", name, "shards", number]) => {
                named("split or merge");
                let number = shard(logstore(name, Admin)?, number)?.number;
                manage::reshard(self, call, project, name, number).await
            }
            (&Method::GET, ["logstores", name, "shards", number]) => {
                let shard = shard(logstore(name, Read)?, number)?;
                match kind {
                    "cursor" => {
                        named("cursor");
                        pull::cursor(self, call, &shard).await
                    }
                    "cursor_time" => {
                        named("cursor time");
                        pull::cursor_time(self, call, &shard).await
                    }
                    "log" | "logs" => {
                        named("pull");
                        pull::pull(self, call, project, name, &shard).await
                    }
                    other => Err(unknown_type(other, "cursor, cursor_time and log")),
                }
            }
            (&Method::GET, ["logstores", name, "consumergroups"]) => {
                named("list groups");
                Ok(groups::list(logstore(name, Read)?))
            }
            (&Method::POST, ["logstores", name, "consumergroups"]) => {
                named("create group");
                groups::create(self, call, logstore(name, Read)?).await
            }
            (&Method::PUT, ["logstores", name, "consumergroups", group]) => {
                named("update group");
                groups::update(self, call, logstore(name, Read)?, group).await
            }
            (&Method::DELETE, ["logstores", name, "consumergroups", group]) => {
                named("delete group");
                self.store.delete_group(logstore(name, Read)?, group).await.map_err(refuse)?;
                Ok(Reply::empty())
            }
            (&Method::GET, ["logstores", name, "consumergroups", group]) if kind == "status" => {
                named("group status");
                groups::status(self, logstore(name, Read)?, group).await
            }
            (&Method::GET, ["logstores", name, "consumergroups", group]) => {
                named("checkpoints");
                groups::checkpoints(self, call, logstore(name, Read)?, group).await
            }
            (&Method::POST, ["logstores", name, "consumergroups", group]) => {
                let logstore = logstore(name, Read)?;
                match kind {
                    "heartbeat" => {
                        named("heartbeat");
                        groups::heartbeat(self, call, logstore, group).await
                    }
                    "checkpoint" => {
                        named("save checkpoint");
                        groups::save_checkpoint(self, call, logstore, group).await
                    }
                    other => Err(unknown_type(other, "heartbeat and checkpoint")),
                }
            }
            (&Method::GET, ["logstores", name, "shipper"]) => {
                named("list shippers");
                shippers::list(logstore(name, Read)?, call)
            }
            (&Method::POST, ["logstores", name, "shipper"]) => {
                named("create shipper");
                shippers::create(self, call, logstore(name, Admin)?).await
            }
            (&Method::GET, ["logstores", name, "shipper", rule]) => {
                named("show shipper");
                shippers::show(self, logstore(name, Read)?, rule).await
            }
            (&Method::PUT, ["logstores", name, "shipper", rule]) => {
                named("update shipper");
                shippers::update(self, call, logstore(name, Admin)?, rule).await
            }
            (&Method::DELETE, ["logstores", name, "shipper", rule]) => {
                named("delete shipper");
                self.store.delete_rule(logstore(name, Admin)?, rule).await.map_err(refuse)?;
                Ok(Reply::empty())
            }
            (&Method::POST, ["logstores", name, "shipper", rule, "trials"]) => {
                named("try stage");
                // Its component may be anybody's, as one that is added.
                call.check_access(EVERYWHERE, Admin)?;
                trials::run(self, call, logstore(name, Read)?, rule).await
            }
            (&Method::GET, ["logstores", name, "shipper", rule, "tasks"]) => {
                named("list tasks");
                tasks::of_shipper(self, call, logstore(name, Read)?, rule).await
            }
            (&Method::PUT, ["logstores", name, "shipper", rule, "tasks"]) => {
                named("retry tasks");
                tasks::retry_of_shipper(self, call, logstore(name, Admin)?, rule).await
            }
            (&Method::GET, ["tasks"]) => {
                named("list tasks");
                access(Read)?;
                tasks::list(self, call, project).await
            }
            (&Method::PUT, ["tasks"]) => {
                named("retry tasks");
                access(Admin)?;
                tasks::retry(self, call, project).await
            }
            (&Method::GET, ["tasks", id]) => {
                named("show task");
                access(Read)?;
                tasks::show(self, project, id, kind == "verify").await
            }
            (&Method::GET, ["stages", digest]) => {
                named("fetch stage");
                access(Read)?;
                shippers::stage(self, digest).await
            }
            (method, _) => {
                let message = format!("{method} /{} is nothing that this service does", path.join("/"));
                Err(ApiError::new(ErrorCode::ParameterInvalid, message))
            }
        }
    }

    fn readiness(&self) -> Result<Reply, ApiError> {
        if !self.store.is_alive() {
            return Err(ApiError::new(
                ErrorCode::ServerBusy,
                "the store takes no more logs: see the log, and restart",
            ));
        }
        if *self.ready.borrow() {
            return Ok(Reply { body: "ready\n".into(), ..Reply::default() });
        }
        Err(ApiError::new(ErrorCode::ServerBusy, "the service is ending"))
    }

    async fn show_metrics(self: &Arc<Self>) -> Result<Reply, ApiError> {
        let service = Arc::clone(self);
        let text = blocking(move || Ok(metrics::render(&service))).await?;
        Ok(Reply { content_type: Some("text/plain; version=0.0.4"), body: text.into(), ..Reply::default() })
    }

    fn now(&self) -> u64 {
        (self.store_clock)() / 1_000_000
    }
}

fn unknown_type(kind: &str, known: &str) -> ApiError {
    ApiError::new(ErrorCode::ParameterInvalid, format!("type={kind} is none of {known}"))
}

/// Runs what blocks on the disk, or takes long, where it holds up nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let failed = |error| {
        tracing::error!(%error, "a request failed on a thread of its own");
        ApiError::new(ErrorCode::InternalServerError, "the request failed: the server's log has the reason")
    };
    tokio::task::spawn_blocking(work).await.map_err(failed)?
}

/// 24 digits, as clients know them.
fn request_id() -> String {
    format!("{:024X}", fastrand::u128(..1 << 96))
}
