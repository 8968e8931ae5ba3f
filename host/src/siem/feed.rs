use std::ops::AddAssign;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::backoff::Backoff;
use super::dead_letter::{DeadLetter, DeadLetters, Origin};
use super::format::{Formatted, Formatting};
use super::load::Chunk;
use super::receiver::{Receiver, Refused};
use crate::registry::Registry;
use crate::rule::Choice;
use crate::stage::{FormatterStage, Identity, StageError, Transport};
use crate::transforms::{TransformError, Transforms};

/// Bytes of logs of a load at most, as a rule: a log group is not cut.
pub(crate) const LOAD: usize = 4 << 20;

/// Loads of a shard that are read ahead of the oldest that is not delivered.
const AHEAD: usize = 4;

/// Where the logs of shards go. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Outlet {
    pub(crate) receiver: Arc<Receiver>,
    pub(crate) dead_letters: Arc<DeadLetters>,
    /// Room for loads, of all shards: in KiB.
    pub(crate) room: Arc<Semaphore>,
    /// What formats, unless a load says otherwise.
    pub(crate) formatters: Arc<Formatters>,
    /// What was sent in all.
    total: Arc<Mutex<Sent>>,
}

/// Instances of stages: no more than there are cores, whatever the number of shards.
#[derive(Debug)]
pub(crate) struct Formatters {
    transforms: Transforms,
    stage: Arc<FormatterStage>,
    /// The stage's configuration.
    config: Arc<str>,
    idle: Mutex<Vec<Formatting>>,
    busy: Semaphore,
    /// Where it fails, one shard tries it at a time.
    probe: Semaphore,
    /// Times in a row that it failed.
    failures: AtomicUsize,
    /// Times in a row that it fails until it is tried now and then only; none: never.
    hold_after: Option<usize>,
}

/// How often it is looked whether a stage fails that is to make room for another.
const LOOK: Duration = Duration::from_millis(50);

/// How often a stage is tried that failed every time.
const HELD: Duration = Duration::from_secs(300);

impl Formatters {
    /// Those of stages whose configurations are checked.
    pub(crate) fn new(
        registry: &Registry,
        transport: Transport,
        transforms: &[Choice],
        stage: &str,
        mut config: Map<String, Value>,
        hold_after: Option<usize>,
    ) -> Result<Self, OutletError> {
        let transforms = Transforms::new(registry, transforms)?;
        let stage = registry.formatter(stage)?;
        let found = stage.description().transport;
        if found != transport {
            let stage = stage.identity().name().to_owned();
            return Err(OutletError::Transport { stage, found: word(found), wanted: word(transport) });
        }
        name_host(&stage, &mut config);
        let config: Arc<str> = Value::from(config).to_string().into();
        stage.open(&config)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            transforms,
            stage,
            config,
            idle: Mutex::default(),
            busy: Semaphore::new(cores),
            probe: Semaphore::new(1),
            failures: AtomicUsize::new(0),
            hold_after,
        })
    }

    /// What transforms the logs before.
    pub(crate) fn transforms(&self) -> &Transforms {
        &self.transforms
    }

    /// Which stage it is that formats.
    pub(crate) fn identity(&self) -> &Identity {
        self.stage.identity()
    }

    /// Formats by these stages.
    pub(crate) fn formatting(&self) -> Formatting {
        Formatting::new(self.transforms.clone(), Arc::clone(&self.stage), Arc::clone(&self.config))
    }

    /// Whether it failed at the last time.
    pub(crate) fn is_failing(&self) -> bool {
        self.failures.load(Ordering::Relaxed) > 0
    }

    /// Whether it failed so often that it is tried now and then only.
    fn is_held(&self) -> bool {
        self.hold_after.is_some_and(|most| self.failures.load(Ordering::Relaxed) >= most)
    }

    /// What is told of a failure.
    fn told(&self, error: &StageError) -> String {
        let (failures, stage) =
            (self.failures.load(Ordering::Relaxed), error.stage().unwrap_or(self.identity()));
        match self.is_held() {
            false => error.to_string(),
            true => format!(
                "{} {} failed {failures} times, one after the other; nothing is lost. Another version, or logship stage rollback, goes on where it was. The last one: {error}",
                stage.name(),
                stage.version(),
            ),
        }
    }

    async fn format(&self, chunk: &Arc<Chunk>) -> Result<(Formatted, Vec<DeadLetter>), StageError> {
        let _permit = self.busy.acquire().await;
        let _probe = if self.is_failing() { Some(self.probe.acquire().await) } else { None };
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let before = idle().pop();
        let mut formatting = before.unwrap_or_else(|| self.formatting());
        let chunk = Arc::clone(chunk);
        let work = move || {
            let result = formatting.format(&chunk);
            (result, formatting)
        };
        let (result, formatting) = on_thread(work).await;
        idle().push(formatting);
        match &result {
            Ok(_) => self.failures.store(0, Ordering::Relaxed),
            Err(_) => drop(self.failures.fetch_add(1, Ordering::Relaxed)),
        }
        result
    }
}

/// Why nothing can be brought to a receiver.
#[derive(Debug, thiserror::Error)]
pub enum OutletError {
    /// The stage that formats.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// A stage that transforms.
    #[error(transparent)]
    Transform(#[from] TransformError),
    /// The stage formats for another kind of receiver.
    #[error("stage {stage} formats for {found}, and the receiver takes {wanted}")]
    Transport {
        /// The stage's name.
        stage: String,
        /// What carries its messages.
        found: &'static str,
        /// What the receiver takes.
        wanted: &'static str,
    },
}

/// Bytes of logs on their way, unless it is said otherwise.
const ROOM: usize = 64 << 20;

fn room(bytes: usize) -> Arc<Semaphore> {
    // A load of the largest size always has a place.
    Arc::new(Semaphore::new((bytes >> 10).max(2 * (LOAD >> 10))))
}

fn word(transport: Transport) -> &'static str {
    match transport {
        Transport::Hec => "HEC",
        Transport::Syslog => "syslog",
    }
}

/// Messages come from this host, where the stage can say so and nobody says otherwise: a stage knows no host.
fn name_host(stage: &FormatterStage, config: &mut Map<String, Value>) {
    let schema: Value = serde_json::from_str(&stage.description().config_schema).unwrap_or_default();
    let is_said = config.keys().any(|member| member == "hostname");
    if stage.description().transport == Transport::Syslog
        && !schema["properties"]["hostname"].is_null()
        && !is_said
    {
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        config.insert("hostname".into(), name.into());
    }
}

/// Room for a load that is on its way.
#[derive(Debug)]
pub(crate) struct Room(OwnedSemaphorePermit);

/// Logs of a shard.
#[derive(Debug)]
pub(crate) struct Load<Mark> {
    pub(crate) chunks: Vec<Chunk>,
    /// What the shard's own reader and ledger know it by.
    pub(crate) mark: Mark,
    pub(crate) room: Room,
    /// What formats them, if it is something else than what formats the others.
    pub(crate) formatters: Option<Arc<Formatters>>,
}

/// What was sent of a load.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Sent {
    /// Messages that were received.
    pub messages: u64,
    /// Bytes of logs.
    pub raw: u64,
    /// Bytes of messages.
    pub bytes: u64,
    /// Dead letters.
    pub dead: u64,
    /// Times that the receiver took nothing.
    pub retries: u64,
}

impl AddAssign for Sent {
    fn add_assign(&mut self, more: Self) {
        self.messages += more.messages;
        self.raw += more.raw;
        self.bytes += more.bytes;
        self.dead += more.dead;
        self.retries += more.retries;
    }
}

/// The shard is somebody else's now, or is no more.
#[derive(Debug)]
pub(crate) struct Gone;

/// Reads a shard.
pub(crate) trait Reader: Send {
    type Mark: Send + 'static;

    /// The next logs, as soon as there are some and room for them. None when there never will be any.
    fn next(
        &mut self,
        room: &Arc<Semaphore>,
    ) -> impl Future<Output = Result<Option<Load<Self::Mark>>, Gone>> + Send;
}

/// Writes down how far a shard is.
pub(crate) trait Ledger<Mark>: Send {
    /// All logs up to the end of a load are where they belong.
    fn done(&mut self, mark: Mark, sent: Sent) -> impl Future<Output = Result<(), Gone>> + Send;
}

type Delivery = Pin<Box<dyn Future<Output = Sent> + Send>>;

impl Outlet {
    /// One to a receiver.
    pub(crate) fn new(
        receiver: Arc<Receiver>,
        formatters: Formatters,
        dead_letters: Arc<DeadLetters>,
    ) -> Self {
        let (formatters, total, room) = (Arc::new(formatters), Arc::default(), room(ROOM));
        Self { receiver, dead_letters, room, formatters, total }
    }

    /// With room for so many bytes of logs on their way.
    pub(crate) fn within(self, bytes: usize) -> Self {
        Self { room: room(bytes), ..self }
    }

    /// What was sent in all.
    pub(crate) fn total(&self) -> Sent {
        let total = *self.total.lock().unwrap_or_else(PoisonError::into_inner);
        Sent { retries: self.receiver.retries(), ..total }
    }

    /// Brings the logs of a shard to the receiver, until there will be no more, or until `stop`: then what is on its
    /// way is still delivered.
    pub(crate) async fn feed<R: Reader>(
        &self,
        origin: &Origin,
        mut reader: R,
        mut ledger: impl Ledger<R::Mark>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), Gone> {
        let (sender, mut loads) = mpsc::channel::<(R::Mark, Delivery, Room)>(AHEAD);
        let reading = async {
            let sender = sender;
            loop {
                let load = tokio::select! {
                    () = told(&mut stop) => break,
                    load = reader.next(&self.room) => load?,
                };
                let Some(Load { chunks, mark, room, formatters }) = load else { break };
                let formatters = formatters.as_ref().unwrap_or(&self.formatters);
                // A stage that fails may do so until another one takes its place, which is when this is told.
                let formatted = tokio::select! {
                    () = told_of_failing(&mut stop, formatters) => break,
                    formatted = self.format(chunks, formatters) => formatted,
                };
                let delivery = self.clone().deliver(origin.clone(), formatted);
                let delivery: Delivery = if self.receiver.is_ordered() {
                    Box::pin(delivery)
                } else {
                    let running = Running(tokio::spawn(delivery));
                    Box::pin(running.end())
                };
                if sender.send((mark, delivery, room)).await.is_err() {
                    break;
                }
            }
            Ok(())
        };
        let writing = async {
            while let Some((mark, delivery, room)) = loads.recv().await {
                let sent = delivery.await;
                drop(room);
                self.count(origin, sent);
                ledger.done(mark, sent).await?;
            }
            Ok(())
        };
        tokio::try_join!(reading, writing).map(drop)
    }

    /// Formats chunks. A stage that fails is tried again: its messages are as good as the receiver's. One that was to
    /// format what was begun with it, and fails every time, leaves that to the one that formats now.
    async fn format(
        &self,
        chunks: Vec<Chunk>,
        formatters: &Arc<Formatters>,
    ) -> Vec<(Formatted, Vec<DeadLetter>)> {
        let mut all = Vec::with_capacity(chunks.len());
        for chunk in chunks.into_iter().map(Arc::new) {
            let mut backoff = Backoff::default();
            loop {
                let formatters = if formatters.is_held() { &self.formatters } else { formatters };
                match formatters.format(&chunk).await {
                    Ok(formatted) => break all.push(formatted),
                    // It is left to the one that formats now, which need not wait.
                    Err(error) if formatters.is_held() && !Arc::ptr_eq(formatters, &self.formatters) => {
                        self.receiver.fails(formatters.told(&error), Duration::ZERO);
                    }
                    Err(error) => {
                        let wait = if formatters.is_held() { HELD } else { backoff.next() };
                        self.receiver.fails(formatters.told(&error), wait);
                        sleep(wait).await;
                    }
                }
            }
        }
        all
    }

    /// Delivers messages, in order, and keeps those that are refused.
    async fn deliver(self, origin: Origin, formatted: Vec<(Formatted, Vec<DeadLetter>)>) -> Sent {
        let (chunks, dead): (Vec<Formatted>, Vec<Vec<DeadLetter>>) = formatted.into_iter().unzip();
        let refused = self.receiver.deliver(&chunks).await;
        let mut dead: Vec<DeadLetter> = dead.into_iter().flatten().collect();
        let messages: usize = chunks.iter().map(Formatted::len).sum();
        let bytes_of = |refused: &Refused| {
            chunks[refused.chunk].bytes(refused.message..refused.message + 1).len() as u64
        };
        let bytes_refused: u64 = refused.iter().map(bytes_of).sum();
        let mut sent = Sent {
            messages: (messages - refused.len()) as u64,
            bytes: chunks.iter().map(|chunk| chunk.messages.bytes.len() as u64).sum::<u64>() - bytes_refused,
            raw: chunks.iter().map(Formatted::raw_bytes).sum(),
            dead: 0,
            retries: 0,
        };
        dead.extend(
            refused.into_iter().map(|refused| DeadLetter::of_message(&chunks[refused.chunk], refused)),
        );
        sent.dead = dead.len() as u64;
        if !dead.is_empty() {
            self.keep(origin, dead).await;
        }
        sent
    }

    /// Keeps dead letters, however often that fails.
    async fn keep(&self, origin: Origin, dead: Vec<DeadLetter>) {
        let reason = dead.first().map(|letter| letter.reason.clone()).unwrap_or_default();
        tracing::warn!(
            rule = origin.rule,
            shard = origin.shard,
            count = dead.len(),
            reason,
            "events were refused for good, and are kept as dead letters"
        );
        let (mut backoff, time) = (Backoff::default(), now());
        let (origin, dead) = (Arc::new(origin), Arc::new(dead));
        loop {
            let (letters, origin, dead) =
                (Arc::clone(&self.dead_letters), Arc::clone(&origin), Arc::clone(&dead));
            let Err(error) = on_thread(move || letters.keep(&origin, time, &dead)).await else { return };
            let wait = backoff.next();
            self.receiver.fails(format!("dead letters can't be kept: {error}"), wait);
            sleep(wait).await;
        }
    }

    fn count(&self, origin: &Origin, sent: Sent) {
        *self.total.lock().unwrap_or_else(PoisonError::into_inner) += sent;
        let labels = [
            ("project", origin.project.clone()),
            ("logstore", origin.logstore.clone()),
            ("rule", origin.rule.clone()),
        ];
        // The same names as in `service/metrics.rs`, which says what they are.
        metrics::counter!("logship_siem_events_total", &labels).increment(sent.messages);
        metrics::counter!("logship_siem_bytes_total", &labels).increment(sent.bytes);
        metrics::counter!("logship_siem_logs_bytes_total", &labels).increment(sent.raw);
        metrics::counter!("logship_siem_dead_letters_total", &labels).increment(sent.dead);
    }
}

impl Room {
    /// Room for the largest load. Waits until there is some.
    pub(crate) async fn take(room: &Arc<Semaphore>) -> Self {
        let permit = Arc::clone(room).acquire_many_owned((LOAD >> 10) as u32).await;
        Self(permit.expect("nobody closes it"))
    }

    /// Gives back what `bytes` of logs do not need.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let needed = (bytes >> 10).max(64);
        drop(self.0.split(self.0.num_permits().saturating_sub(needed)));
    }
}

/// A task that ends when nobody waits for it any more.
struct Running<T>(JoinHandle<T>);

impl<T> Running<T> {
    async fn end(mut self) -> T {
        match (&mut self.0).await {
            Ok(done) => done,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Waits until it is told to stop while a stage fails. What it formats is delivered, whatever is told.
async fn told_of_failing(stop: &mut watch::Receiver<bool>, formatters: &Formatters) {
    told(stop).await;
    while !formatters.is_failing() {
        sleep(LOOK).await;
    }
}

/// Waits until it is told to stop.
pub(crate) async fn told(stop: &mut watch::Receiver<bool>) {
    // Also when nobody is left to tell.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Does work that blocks.
pub(crate) async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends: nothing comes after this.
            Err(_) => std::future::pending().await,
        },
    }
}

/// The present in Unix seconds.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}
