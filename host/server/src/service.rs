//! The service: its state, and how it opens.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use logship_listener::{ConnectionLimits, Connections, Timeouts};
use logship_logstore::{AuditScope, Clock, Options, Store, StoreError};
use logship_sls::error::{ApiError, ErrorCode};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use crate::backup_state::BackupState;
use crate::consumer_stats::ConsumerStats;
use crate::fair_budget::FairBudget;
use crate::keys::{self, ALL_PROJECTS, Access, Grant, KeyFile, Keys, KeysError};
use crate::memory_budget::MemoryBudget;
use crate::metrics;
use crate::quotas::Quotas;
use crate::refusals::Refusals;
use crate::rule_checker::ServiceRules;
use logship_config::maxcompute_rule::ODPS;
use logship_config::service::{Config, Limits};
use logship_config::shipper_config;
use logship_config::siem_rule::SIEM;
use logship_config::table_store_rule::OTS;
use logship_delivery::dead_letter::DeadLetters;
use logship_delivery::engine::DeliveryEngine;
use logship_delivery::events::Events;
use logship_delivery::events::consumer::DeadLetterLocation;
use logship_delivery::objects::Objects;
use logship_delivery::rows::jobs::Jobs;
use logship_delivery::rows::jobs::destination::SourceTables;
use logship_delivery::rows::jobs::encoder::StageBlocks;
use logship_delivery::rows::maxcompute::MaxComputeRows;
use logship_delivery::rows::resend::Resender;
use logship_delivery::rows::{ServiceSources, Sources, TableStoreRules};
use logship_registry::Registry;
use logship_registry::catalog::StageCatalog;
use logship_registry::folder_watcher::FolderWatcher;
use logship_runtime::engine::Engine;
use logship_runtime::wasi::WasiAllowlist;
use logship_wasm::private_folder::{self, FolderError};

/// The service. Share it with [`Arc`].
#[derive(Debug)]
pub struct Service {
    pub(crate) config: Config,
    pub(crate) store: Arc<Store>,
    pub(crate) delivery: Arc<DeliveryEngine>,
    /// The synchronization jobs.
    pub(crate) jobs: Arc<Jobs>,
    /// Puts dirty rows back into their tables.
    pub(crate) resender: Resender,
    pub(crate) sources: Arc<ServiceSources>,
    pub(crate) stage_catalog: Arc<StageCatalog>,
    pub(crate) folder_watcher: Arc<FolderWatcher>,
    pub(crate) store_clock: StoreClock,
    pub(crate) keys: Keys,
    pub(crate) metrics: PrometheusHandle,
    /// The memory of received bodies.
    pub(crate) body_budget: Arc<FairBudget>,
    /// The memory of decompressed bodies.
    pub(crate) decompressed_budget: MemoryBudget,
    /// The memory of replies.
    pub(crate) reply_budget: Arc<FairBudget>,
    pub(crate) quotas: Quotas,
    pub(crate) consumer_stats: ConsumerStats,
    /// Failed attempts, for the audit log.
    pub(crate) refusals: Refusals,
    /// The last backup since the start.
    pub(crate) backup: Mutex<Option<BackupState>>,
    /// False during shutdown.
    pub(crate) ready: watch::Sender<bool>,
    /// Limits the checks of data sources at a time.
    pub(crate) source_check_permits: Semaphore,
    /// Allows one preview at a time.
    pub(crate) preview_permit: Arc<Semaphore>,
    /// The number of requests in progress.
    pub(crate) active: AtomicUsize,
    pub(crate) connections: Connections,
}

/// The number of checks of data sources at a time.
const SOURCE_CHECKS: usize = 4;

/// Why the service can't start.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The store can't be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A folder whose content is run or trusted is not private.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The keys can't be read.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The metrics recorder can't be installed.
    #[error("can't install the metrics recorder: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    /// The destination of dead letters is invalid.
    #[error("dead-letters: {0}")]
    DeadLetters(#[from] logship_sink::error::SinkError),
    /// The spool folder can't be created.
    #[error("can't create the spool folder (shipping.spool): {0}")]
    Spool(std::io::Error),
}

fn store_options(config: &Config) -> Options {
    let Limits { consumer_groups: groups, shards, put_ids, .. } = config.limits;
    Options {
        groups,
        shards,
        put_ids,
        undo_seconds: config.deletion.undo_seconds(),
        clock_step: config.retention.clock_step_seconds * 1_000_000,
        delete_unshipped: config.retention.delete_unshipped,
        shipped_targets: vec![shipper_config::OSS, SIEM, OTS, ODPS],
        ..Options::default()
    }
}

/// Returns the data sources of the settings and of the projects.
fn data_sources(config: &Config, store: &Arc<Store>) -> ServiceSources {
    let (own, scopes) = (config.allow_own_destinations, config.scopes.clone());
    ServiceSources::new(config.sources.clone(), scopes, own, Arc::clone(store))
}

/// Opens the dead letters of the settings.
fn dead_letters(config: &Config) -> Result<DeadLetters, ServiceError> {
    let location = DeadLetterLocation::resolve(None, config, config.data.join("dead-letters"));
    Ok(location.open(config)?)
}

/// Creates the synchronization jobs.
fn jobs(
    config: &Config,
    registry: &Registry,
    store: &Arc<Store>,
    sources: &Arc<ServiceSources>,
) -> Result<Jobs, ServiceError> {
    let letters = Arc::new(dead_letters(config)?);
    let sources: Arc<dyn Sources> = Arc::<ServiceSources>::clone(sources);
    let (own, runtime) = (Arc::clone(store), Handle::current());
    let blocks = Arc::new(StageBlocks::new(registry.clone(), own, Arc::clone(&sources), runtime));
    let destinations = Arc::new(SourceTables(Arc::clone(&sources)));
    let retry = (config.shipping.retry_seconds, config.shipping.retry_for_seconds);
    Ok(Jobs::new(Arc::clone(store), sources, destinations, blocks, letters, retry))
}

/// Creates the rules that write rows.
fn row_rules(
    config: &Config,
    registry: &Registry,
    sources: &Arc<ServiceSources>,
    runtime: &Handle,
) -> Result<(TableStoreRules, MaxComputeRows), ServiceError> {
    let (own, rejected) = (config.allow_own_destinations, dead_letters(config)?);
    let sources: Arc<dyn Sources> = Arc::<ServiceSources>::clone(sources);
    let dirty = Arc::new(dead_letters(config)?);
    let maxcompute = MaxComputeRows::new(registry.clone(), Arc::clone(&sources), dirty, own, runtime.clone());
    let tables = TableStoreRules::new(registry.clone(), sources, own, rejected, runtime.clone());
    Ok((tables, maxcompute))
}

/// Creates the resender of dirty rows.
fn resender(
    config: &Config,
    registry: &Registry,
    (store, sources): (&Arc<Store>, &Arc<ServiceSources>),
    jobs: &Arc<Jobs>,
    runtime: &Handle,
) -> Result<Resender, ServiceError> {
    let (tables, maxcompute) = row_rules(config, registry, sources, runtime)?;
    let owners = (tables, maxcompute, Arc::clone(jobs));
    let letters = dead_letters(config)?;
    Ok(Resender::new(Arc::clone(store), registry.clone(), letters, owners, runtime.clone()))
}

/// Creates the engine that delivers to the destinations and receivers of the settings.
fn delivery(
    config: &Config,
    registry: &Registry,
    (store, sources): (&Arc<Store>, &Arc<ServiceSources>),
    runtime: &Handle,
) -> Result<DeliveryEngine, ServiceError> {
    let (tables, maxcompute) = row_rules(config, registry, sources, runtime)?;
    let hold_after = config.shipping.hold_after_tasks;
    let events = Events::new(registry.clone(), config.receivers.clone(), dead_letters(config)?, hold_after)
        .with_scopes(config.scopes.clone());
    let (destinations, settings) = (config.destinations(), &config.shipping);
    let objects = Objects::new(registry.clone(), destinations, settings, &config.data, runtime.clone())
        .map_err(ServiceError::Spool)?
        .with_scopes(config.scopes.clone(), config.allow_own_destinations);
    Ok(DeliveryEngine::new(Arc::clone(store), registry.clone(), settings.clone(), runtime.clone())
        .with_batches(objects)
        .with_batches(tables)
        .with_batches(maxcompute)
        .with_streams(events))
}

impl Service {
    /// Opens the store and the keys of the data directory. The first start creates both, with one admin key. Stages run in
    /// `engine`. Must be called within a Tokio runtime.
    pub fn open(config: Config, engine: Engine) -> Result<Self, ServiceError> {
        let options = store_options(&config);
        let clock = Arc::clone(&options.clock);
        // Before any stage is loaded, because loading registers the stage's metrics.
        let metrics = metrics::install()?;
        if config.data.exists() {
            private_folder::check(&config.data)?;
        }
        let store = Arc::new(Store::open(&config.data, options)?);
        let file = key_file(&config.data, clock() / 1_000_000)?;
        let components = config.data.join("stages");
        private_folder::create(&components)?;
        let watched = config.stages.folder.clone().unwrap_or_else(|| components.clone());
        private_folder::check_provided(&watched)?;
        let allowlist = WasiAllowlist::of(config.stages.allow_wasi.clone());
        let registry =
            Registry::for_store(engine, components, Arc::clone(&store)).with_wasi_allowlist(allowlist);
        let runtime = Handle::current();
        let sources = Arc::new(data_sources(&config, &store));
        let delivery = Arc::new(delivery(&config, &registry, (&store, &sources), &runtime)?);
        let jobs = Arc::new(jobs(&config, &registry, &store, &sources)?);
        let resender = resender(&config, &registry, (&store, &sources), &jobs, &runtime)?;
        let checker = Arc::new(ServiceRules(Arc::clone(&delivery)));
        let stage_catalog = Arc::new(StageCatalog::new(Arc::clone(&store), registry, checker, runtime));
        let folder_watcher =
            Arc::new(FolderWatcher::new(watched, Arc::clone(&stage_catalog), Arc::clone(&store)));
        let (bytes, stall) = (config.limits.bodies_bytes, config.limits.stall());
        let quotas = Quotas::open(config.quota.clone(), &config.data, clock());
        Ok(Self {
            body_budget: FairBudget::new(bytes, config.limits.body_bytes(), stall),
            decompressed_budget: MemoryBudget::new(bytes, stall),
            reply_budget: FairBudget::new(bytes, config.limits.group_bytes, stall),
            quotas,
            keys: Keys::open(file)?,
            metrics,
            store,
            delivery,
            resender,
            sources,
            jobs,
            stage_catalog,
            folder_watcher,
            store_clock: StoreClock(clock),
            backup: Mutex::default(),
            ready: watch::Sender::new(true),
            consumer_stats: ConsumerStats::default(),
            refusals: Refusals::default(),
            source_check_permits: Semaphore::new(SOURCE_CHECKS),
            preview_permit: Arc::new(Semaphore::new(1)),
            active: AtomicUsize::new(0),
            connections: connections(&config.limits),
            config,
        })
    }

    /// Returns why a rule can't ship, or none if it can.
    pub(crate) fn pause_reason(&self, rule: i64) -> Option<String> {
        self.delivery.problem(rule)
    }

    /// Waits until the service shuts down.
    pub(crate) async fn wait_for_shutdown(&self) {
        // The sender is in `self`, so waiting can't fail.
        let _ = self.ready.subscribe().wait_for(|ready| !ready).await;
    }

    /// Waits until no request has been in progress for half a second.
    pub(crate) async fn wait_until_idle(&self) {
        const IDLE_CHECKS: u32 = 5;
        let mut idle = 0;
        while idle < IDLE_CHECKS {
            tokio::time::sleep(Duration::from_millis(100)).await;
            idle = if self.active.load(Ordering::Relaxed) == 0 { idle + 1 } else { 0 };
        }
    }

    /// Returns the current time in Unix seconds.
    pub(crate) fn now(&self) -> u64 {
        (self.store_clock)() / 1_000_000
    }
}

/// Returns the table of connections. One key can't take all places, so others always find one.
fn connections(limits: &Limits) -> Connections {
    let total = limits.connections;
    let connection_limits = ConnectionLimits {
        total,
        per_address: limits.connections_per_address,
        per_key: (total - total / KEPT_CONNECTIONS).max(1),
    };
    Connections::new(connection_limits, Timeouts { stall: limits.stall(), idle: limits.idle() })
}

/// The fraction of connections that one key can't take, unless it is an admin key of all projects.
const KEPT_CONNECTIONS: usize = 8;

/// Returns the key file of a data directory. Creates it with one admin key if there is none.
fn key_file(data: &Path, now: u64) -> Result<KeyFile, KeysError> {
    let file = KeyFile::within(data);
    if !file.path().exists() {
        let grant = Grant { project: ALL_PROJECTS.into(), access: Access::Admin };
        let key = keys::create(vec![grant], "created at the first start", now);
        tracing::info!(id = key.id, file = %file.path().display(), "created the first access key; its secret is in the file");
        file.change(|keys| {
            keys.push(key);
            Ok(())
        })?;
    }
    Ok(file)
}

/// Increments a counter until it is dropped.
pub(crate) struct CountGuard<'a>(&'a AtomicUsize);

impl<'a> CountGuard<'a> {
    pub(crate) fn begin(count: &'a AtomicUsize) -> Self {
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
pub(crate) struct StoreClock(Clock);

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

/// Runs blocking or long work on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let failed = |error| {
        tracing::error!(%error, "a request's blocking thread failed");
        ApiError::new(ErrorCode::InternalServerError, "the request failed: the server's log has the reason")
    };
    tokio::task::spawn_blocking(AuditScope::inherit(work)).await.map_err(failed)?
}
