//! The Logstore service: the API of Log Service with its own store.
//!
//! # Layout
//! - [`config`]: settings; [`keys`]: access keys and their grants; [`server`]: connections and TLS.
//! - This file: routes requests; `call`: authenticated requests; `reply`: responses.
//! - `memory_budget`: memory that requests share; `idle_timeout`: closes idle connections.
//! - `manage`: projects, logstores, shards; `put`, `ingest`: write logs; `pull`: cursors, read logs.
//! - `groups`: consumer groups; `consumer_stats`: statistics of their members.
//! - `shippers`, `tasks`: rules and their tasks.
//! - `stages`: the stage catalog; `rule_checker`: checks rules before a change; `previews`: previews of a stage.
//! - `metrics`: metrics for Prometheus.

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
pub(crate) mod consumer_stats;
mod groups;
mod idle_timeout;
mod ingest;
pub mod keys;
mod manage;
mod memory_budget;
pub mod metrics;
pub mod metrics_endpoint;
mod previews;
mod pull;
mod put;
mod reply;
mod rule_checker;
pub mod server;
mod shippers;
mod stages;
mod tasks;

use call::Call;
pub use call::{ALL_PROJECTS, MAX_COMPONENT_BYTES};
use consumer_stats::ConsumerStats;
use keys::{Access, Grant, Key, KeyFile, Keys, KeysError};
use logship_config::service::Config;
use logship_config::stage_name::is_digest;
use memory_budget::MemoryBudget;
use reply::{Reply, response, store_error};
use rule_checker::ServiceRules;

use logship_delivery::engine::Shipper;
use logship_delivery::events::consumer::DeadLetterLocation;
use logship_delivery::events::rules::Rules;
use logship_registry::Registry;
use logship_registry::catalog::StageCatalog;
use logship_registry::folder_watcher::FolderWatcher;
use logship_runtime::engine::Engine;
use logship_runtime::wasi::WasiAllowlist;

/// The service. Share it with [`Arc`].
#[derive(Debug)]
pub struct Service {
    config: Config,
    store: Arc<Store>,
    shipper: Arc<Shipper>,
    siem: Arc<Rules>,
    stage_catalog: Arc<StageCatalog>,
    folder_watcher: Arc<FolderWatcher>,
    store_clock: StoreClock,
    keys: Keys,
    metrics: PrometheusHandle,
    /// The memory of received bodies.
    body_budget: MemoryBudget,
    /// The memory of decompressed bodies.
    decompressed_budget: MemoryBudget,
    /// The memory of replies.
    reply_budget: MemoryBudget,
    consumer_stats: ConsumerStats,
    /// False during shutdown.
    ready: watch::Sender<bool>,
    /// Allows one preview at a time.
    preview_permit: Arc<Semaphore>,
    /// The number of requests in progress.
    active: AtomicUsize,
    connections: AtomicUsize,
}

/// Increments a counter until it is dropped.
struct CountGuard<'a>(&'a AtomicUsize);

impl<'a> CountGuard<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for CountGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The store's clock, with `Debug`.
struct StoreClock(Clock);

impl std::fmt::Debug for StoreClock {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Clock")
    }
}

impl std::ops::Deref for StoreClock {
    type Target = Clock;

    fn deref(&self) -> &Clock {
        &self.0
    }
}

/// Why the service can't start.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The store can't be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys can't be read.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The metrics recorder can't be installed.
    #[error("can't install the metrics recorder: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    /// The destination of dead letters is invalid.
    #[error("dead-letters: {0}")]
    DeadLetters(#[from] logship_sink::object::SinkError),
    /// The spool folder can't be created.
    #[error("can't create the spool folder (shipping.spool): {0}")]
    Spool(std::io::Error),
}

impl Service {
    /// Opens the store and the keys of the data directory. The first start creates both, with one admin key. Stages run in
    /// `engine`. Must be called within a Tokio runtime.
    pub fn open(config: Config, engine: Engine) -> Result<Self, ServiceError> {
        let options = Options {
            groups: config.limits.consumer_groups,
            shards: config.limits.shards,
            ..Options::default()
        };
        let clock = Arc::clone(&options.clock);
        // Before any stage is loaded, because loading registers the stage's metrics.
        let metrics = metrics::install()?;
        let store = Arc::new(Store::open(&config.data, options)?);
        let file = KeyFile::within(&config.data);
        if !file.path().exists() {
            let grant = Grant { project: "*".into(), access: Access::Admin };
            let key = Key::new(vec![grant], "created at the first start", clock() / 1_000_000);
            tracing::info!(id = key.id, file = %file.path().display(), "created the first access key; its secret is in the file");
            file.change(|keys| {
                keys.push(key);
                Ok(())
            })?;
        }
        let components = config.data.join("stages");
        let watched = config.stages.folder.clone().unwrap_or_else(|| components.clone());
        let allowlist = WasiAllowlist::of(config.stages.allow_wasi.clone());
        let registry =
            Registry::for_store(engine, components, Arc::clone(&store)).with_wasi_allowlist(allowlist);
        let dead_letters =
            DeadLetterLocation::resolve(None, &config, config.data.join("dead-letters")).open(&config)?;
        let hold_after = config.shipping.hold_after_tasks;
        let siem = Rules::new(
            Arc::clone(&store),
            registry.clone(),
            config.receivers.clone(),
            dead_letters,
            hold_after,
        );
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
        let checker = Arc::new(ServiceRules { shipper: Arc::clone(&shipper), siem: Arc::clone(&siem) });
        let runtime = tokio::runtime::Handle::current();
        let stage_catalog = Arc::new(StageCatalog::new(Arc::clone(&store), registry, checker, runtime));
        let folder_watcher =
            Arc::new(FolderWatcher::new(watched, Arc::clone(&stage_catalog), Arc::clone(&store)));
        let budget = || MemoryBudget::new(config.limits.bodies_bytes, config.limits.stall());
        Ok(Self {
            body_budget: budget(),
            decompressed_budget: budget(),
            reply_budget: budget(),
            keys: Keys::open(file)?,
            metrics,
            store,
            shipper,
            siem,
            stage_catalog,
            folder_watcher,
            store_clock: StoreClock(clock),
            ready: watch::Sender::new(true),
            consumer_stats: ConsumerStats::default(),
            preview_permit: Arc::new(Semaphore::new(1)),
            active: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            config,
        })
    }

    /// Returns why a rule can't ship, or none if it can.
    pub(crate) fn pause_reason(&self, rule: i64) -> Option<String> {
        self.shipper.problem(rule).or_else(|| self.siem.problem(rule))
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
        let active = CountGuard::begin(&self.active);
        let result = self.dispatch(request, peer, &mut operation).await;
        drop(active);
        let (code, seconds) =
            (result.as_ref().map_or_else(|error| error.code.as_str(), |_| "OK"), begun.elapsed());
        metrics::record_request(operation, code, seconds.as_secs_f64());
        match &result {
            Ok(_) => tracing::debug!(%peer, %method, path, operation, ?seconds, request_id),
            Err(error) if error.status() >= 500 => {
                tracing::error!(%peer, %method, path, operation, %error, request_id);
            }
            Err(error) => tracing::info!(%peer, %method, path, operation, %error, request_id),
        }
        // Close the connection of an unauthenticated client.
        let is_authenticated = !matches!(&result, Err(error) if error.status() == 401);
        response(result, &request_id, is_authenticated && *self.ready.borrow())
    }

    /// Waits until the service shuts down.
    async fn wait_for_shutdown(&self) {
        // The sender is in `self`, so waiting can't fail.
        let _ = self.ready.subscribe().wait_for(|ready| !ready).await;
    }

    /// Waits until no request has been in progress for half a second.
    async fn wait_until_idle(&self) {
        const IDLE_CHECKS: u32 = 5;
        let mut idle = 0;
        while idle < IDLE_CHECKS {
            tokio::time::sleep(Duration::from_millis(100)).await;
            idle = if self.active.load(Ordering::Relaxed) == 0 { idle + 1 } else { 0 };
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

    /// Routes a request to its handler, after checking the access that it needs.
    async fn route(self: &Arc<Self>, call: &Call, operation: &mut &'static str) -> Result<Reply, ApiError> {
        use Access::{Admin, Read, Write};
        let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
        let mut named = |name: &'static str| *operation = name;
        let catalog = self.store.catalog();
        match (&call.method, path.as_slice()) {
            (&Method::GET, ["metrics"]) => {
                named("metrics");
                call.check_access(ALL_PROJECTS, Read)?;
                return self.show_metrics().await;
            }
            (&Method::GET, ["stages"]) => {
                named("list stages");
                call.check_access(ALL_PROJECTS, Read)?;
                return stages::list(self).await;
            }
            (&Method::POST, ["stages"]) => {
                named("add stage");
                call.check_access(ALL_PROJECTS, Admin)?;
                return stages::add(self, call).await;
            }
            (&Method::GET, ["stages", name]) if !is_digest(name) => {
                named("show stage");
                call.check_access(ALL_PROJECTS, Read)?;
                return stages::show(self, name).await;
            }
            (&Method::PUT, ["stages", name]) => {
                named("change stage");
                call.check_access(ALL_PROJECTS, Admin)?;
                return stages::change(self, call, name).await;
            }
            (&Method::DELETE, ["stages", name]) => {
                named("remove stage");
                call.check_access(ALL_PROJECTS, Admin)?;
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
            let message =
                "the request has no project: put it before the host name, as in PROJECT.logs.example.org";
            ApiError::new(ErrorCode::ParameterInvalid, message)
        };
        let project = call.project.as_deref().ok_or_else(missing)?;
        let access = |access| {
            call.check_access(project, access)?;
            catalog.project(project).map_err(store_error)
        };
        let logstore = |name: &str, needed| -> Result<&Arc<Logstore>, ApiError> {
            access(needed)?
                .logstores
                .get(name)
                .ok_or_else(|| store_error(StoreError::NoLogstore(name.into())))
        };
        let shard = |logstore: &Arc<Logstore>, number: &str| {
            let number = number.parse().map_err(|_| {
                ApiError::new(ErrorCode::ParameterInvalid, format!("shard {number:?} is not a number"))
            })?;
            logstore.shard(number).cloned().map_err(store_error)
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
                self.store.delete_project(project).await.map_err(store_error)?;
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
                self.store.delete_logstore(project, name).await.map_err(store_error)?;
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
                    other => Err(unknown_type(other, "cursor, cursor_time or log")),
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
                self.store.delete_group(logstore(name, Read)?, group).await.map_err(store_error)?;
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
                    other => Err(unknown_type(other, "heartbeat or checkpoint")),
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
                self.store.delete_rule(logstore(name, Admin)?, rule).await.map_err(store_error)?;
                Ok(Reply::empty())
            }
            (&Method::POST, ["logstores", name, "shipper", rule, "trials"]) => {
                named("try stage");
                // The request may carry a component, as when a stage is added.
                call.check_access(ALL_PROJECTS, Admin)?;
                previews::run(self, call, logstore(name, Read)?, rule).await
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
                let message = format!("{method} /{} is not a request of this API", path.join("/"));
                Err(ApiError::new(ErrorCode::ParameterInvalid, message))
            }
        }
    }

    fn readiness(&self) -> Result<Reply, ApiError> {
        if !self.store.is_alive() {
            return Err(ApiError::new(
                ErrorCode::ServerBusy,
                "the store accepts no more logs: see the server's log for the reason, and restart it",
            ));
        }
        if *self.ready.borrow() {
            return Ok(Reply { body: "ready\n".into(), ..Reply::default() });
        }
        Err(ApiError::new(ErrorCode::ServerBusy, "the service is shutting down"))
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
    ApiError::new(ErrorCode::ParameterInvalid, format!("type={kind} is unknown: use {known}"))
}

/// Runs blocking or long work on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let failed = |error| {
        tracing::error!(%error, "a request's blocking thread failed");
        ApiError::new(ErrorCode::InternalServerError, "the request failed: the server's log has the reason")
    };
    tokio::task::spawn_blocking(work).await.map_err(failed)?
}

/// A random request ID of 24 hexadecimal digits, as Log Service's.
fn request_id() -> String {
    format!("{:024X}", fastrand::u128(..1 << 96))
}
