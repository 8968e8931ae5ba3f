//! The delivery of shards: batches are formatted, sent with several in flight, and confirmed in order.

use std::future::pending;
use std::ops::AddAssign;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::dead_letter::{DeadLetter, DeadLetters, Origin};
use crate::engine::stream::{on_thread, stopped};
use crate::events::chunk::Chunk;
use crate::events::format::Formatted;
use crate::events::formatters::Formatters;
use logship_sink::backoff::Backoff;
use logship_sink::event::{EventSink, RejectedMessage};
use logship_sink::gate::{Gate, Start};

/// Target size of a batch, in bytes of logs. Log groups are not split, so a batch may be larger.
pub(crate) const BATCH_BYTES: usize = 4 << 20;

/// Batches of a shard that are prefetched behind the oldest undelivered one.
const PREFETCH: usize = 4;

/// The delivery of shards to a receiver. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) receiver: Arc<dyn EventSink>,
    pub(crate) dead_letters: Arc<DeadLetters>,
    /// Memory budget for the batches of all shards, in KiB.
    pub(crate) memory: Arc<Semaphore>,
    /// The formatters of batches that have none of their own.
    pub(crate) formatters: Arc<Formatters>,
    /// Totals of all shards.
    pub(super) total: Arc<Mutex<Sent>>,
}

/// Interval of checks for a failing stage while stopping.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Retry delay of a stage with an open circuit breaker.
const OPEN_CIRCUIT_DELAY: Duration = Duration::from_secs(300);

/// Default memory budget for in-flight logs, in bytes.
const MEMORY_BUDGET: usize = 64 << 20;

fn budget(bytes: usize) -> Arc<Semaphore> {
    // The largest batch always fits.
    Arc::new(Semaphore::new((bytes >> 10).max(2 * (BATCH_BYTES >> 10))))
}

/// A permit for the memory of an in-flight batch.
#[derive(Debug)]
pub(crate) struct MemoryPermit(OwnedSemaphorePermit);

/// A batch of logs of a shard.
#[derive(Debug)]
pub(crate) struct InFlightBatch<Mark> {
    pub(crate) chunks: Vec<Chunk>,
    /// The batch's identity for the shard's reader and checkpoint store.
    pub(crate) mark: Mark,
    pub(crate) memory: MemoryPermit,
    /// The formatters of this batch, if not the default ones.
    pub(crate) formatters: Option<Arc<Formatters>>,
}

/// Counts of sent data.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Sent {
    /// Received messages.
    pub messages: u64,
    /// Bytes of logs.
    pub raw: u64,
    /// Bytes of messages.
    pub bytes: u64,
    /// Dead letters.
    pub dead: u64,
    /// Retries.
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

/// The shard was reassigned or deleted.
#[derive(Debug)]
pub(crate) struct ShardRevoked;

/// A reader of a shard.
pub(crate) trait Reader: Send {
    type Mark: Send + 'static;

    /// Waits for the next batch and for memory. `None` at the end of the shard.
    fn next(
        &mut self,
        memory: &Arc<Semaphore>,
    ) -> impl Future<Output = Result<Option<InFlightBatch<Self::Mark>>, ShardRevoked>> + Send;
}

/// A store for the checkpoints of a shard.
pub(crate) trait CheckpointStore<Mark>: Send {
    /// Saves a checkpoint after the delivery of a batch.
    fn save(&mut self, mark: Mark, sent: Sent) -> impl Future<Output = Result<(), ShardRevoked>> + Send;
}

/// A delivery. `None` if it has not started before the end.
type PendingDelivery = Pin<Box<dyn Future<Output = Option<Sent>> + Send>>;

impl Delivery {
    /// Creates a delivery to a receiver.
    pub(crate) fn new(
        receiver: Arc<dyn EventSink>,
        formatters: Formatters,
        dead_letters: Arc<DeadLetters>,
    ) -> Self {
        let (formatters, total, memory) = (Arc::new(formatters), Arc::default(), budget(MEMORY_BUDGET));
        Self { receiver, dead_letters, memory, formatters, total }
    }

    /// Sets the memory budget, in bytes.
    pub(crate) fn with_memory_budget(self, bytes: usize) -> Self {
        Self { memory: budget(bytes), ..self }
    }

    /// Totals of all shards.
    pub(crate) fn total(&self) -> Sent {
        let total = *self.total.lock().unwrap_or_else(PoisonError::into_inner);
        Sent { retries: self.receiver.health().retries(), ..total }
    }

    /// Delivers the logs of a shard until its end, or until `stop`. Batches that have started are still delivered after
    /// `stop`; the others are not sent.
    pub(crate) async fn run<R: Reader>(
        &self,
        origin: &Origin,
        mut reader: R,
        mut checkpoints: impl CheckpointStore<R::Mark>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), ShardRevoked> {
        let (sender, mut batches) = mpsc::channel::<(R::Mark, PendingDelivery, MemoryPermit)>(PREFETCH);
        let reading = async {
            let (sender, gate) = (sender, Gate::default());
            for number in 0.. {
                let batch = tokio::select! {
                    () = stopped(&mut stop) => break,
                    batch = reader.next(&self.memory) => batch?,
                };
                let Some(InFlightBatch { chunks, mark, memory, formatters }) = batch else { break };
                let formatters = formatters.as_ref().unwrap_or(&self.formatters);
                // A failing stage may fail until it is replaced, which stops this delivery.
                let formatted = tokio::select! {
                    () = stopped_while_failing(&mut stop, formatters) => break,
                    formatted = self.format(chunks, formatters) => formatted,
                };
                let start = gate.start(number);
                let delivery = self.clone().deliver(origin.clone(), formatted, start, stop.clone());
                let delivery: PendingDelivery = if self.receiver.is_ordered() {
                    Box::pin(delivery)
                } else {
                    let running = AbortOnDrop(tokio::spawn(delivery));
                    Box::pin(running.join())
                };
                if sender.send((mark, delivery, memory)).await.is_err() {
                    break;
                }
            }
            Ok(())
        };
        let writing = async {
            while let Some((mark, delivery, memory)) = batches.recv().await {
                let Some(sent) = delivery.await else {
                    // None of the later batches has started.
                    batches.close();
                    break;
                };
                drop(memory);
                self.count(origin, sent);
                checkpoints.save(mark, sent).await?;
            }
            Ok(())
        };
        tokio::try_join!(reading, writing).map(drop)
    }

    /// Formats chunks. Retries a failing stage. A batch with formatters of its own falls back to the default ones when
    /// their circuit breaker opens.
    async fn format(
        &self,
        chunks: Vec<Chunk>,
        formatters: &Arc<Formatters>,
    ) -> Vec<(Formatted, Vec<DeadLetter>)> {
        let mut all = Vec::with_capacity(chunks.len());
        for chunk in chunks.into_iter().map(Arc::new) {
            let mut backoff = Backoff::default();
            loop {
                let formatters = if formatters.breaker().is_open() { &self.formatters } else { formatters };
                match formatters.format(&chunk).await {
                    Ok(formatted) => break all.push(formatted),
                    // Falls back to the default formatters without a delay.
                    Err(error)
                        if formatters.breaker().is_open() && !Arc::ptr_eq(formatters, &self.formatters) =>
                    {
                        self.receiver
                            .health()
                            .record_failure(formatters.failure_message(&error), Duration::ZERO);
                    }
                    Err(error) => {
                        let wait = if formatters.breaker().is_open() {
                            OPEN_CIRCUIT_DELAY
                        } else {
                            backoff.next_delay()
                        };
                        self.receiver.health().record_failure(formatters.failure_message(&error), wait);
                        sleep(wait).await;
                    }
                }
            }
        }
        all
    }

    /// Delivers messages in order, and saves the rejected ones as dead letters. Returns `None` if `stop` came before the
    /// delivery has started.
    async fn deliver(
        self,
        origin: Origin,
        formatted: Vec<(Formatted, Vec<DeadLetter>)>,
        start: Start,
        mut stop: watch::Receiver<bool>,
    ) -> Option<Sent> {
        let (chunks, dead): (Vec<Formatted>, Vec<Vec<DeadLetter>>) = formatted.into_iter().unzip();
        let events: Vec<_> = chunks.iter().map(Formatted::events).collect();
        let delivered = async {
            let rejected = self.receiver.deliver(&events, &start).await;
            // A batch of dead letters only sends nothing.
            start.begin().await;
            rejected
        };
        let rejected = tokio::select! {
            biased;
            () = stopped_before_start(&mut stop, &start) => return None,
            rejected = delivered => rejected,
        };
        let mut dead: Vec<DeadLetter> = dead.into_iter().flatten().collect();
        let messages: usize = chunks.iter().map(Formatted::len).sum();
        let bytes_of = |rejected: &RejectedMessage| {
            chunks[rejected.chunk].bytes(rejected.message..rejected.message + 1).len() as u64
        };
        let bytes_rejected: u64 = rejected.iter().map(bytes_of).sum();
        let mut sent = Sent {
            messages: (messages - rejected.len()) as u64,
            bytes: chunks.iter().map(|chunk| chunk.messages.bytes.len() as u64).sum::<u64>() - bytes_rejected,
            raw: chunks.iter().map(Formatted::raw_bytes).sum(),
            dead: 0,
            retries: 0,
        };
        dead.extend(rejected.into_iter().map(|rejected| {
            let (chunk, message) = (&chunks[rejected.chunk], rejected.message);
            DeadLetter::of_message(chunk.position(message), chunk.bytes(message..message + 1), rejected)
        }));
        sent.dead = dead.len() as u64;
        if !dead.is_empty() {
            self.save_dead_letters(origin, dead).await;
        }
        Some(sent)
    }

    /// Saves dead letters, with retries until it succeeds.
    async fn save_dead_letters(&self, origin: Origin, dead: Vec<DeadLetter>) {
        let reason = dead.first().map(|letter| letter.reason.clone()).unwrap_or_default();
        tracing::warn!(
            rule = origin.rule,
            shard = origin.shard,
            count = dead.len(),
            reason,
            "events were rejected permanently and are kept as dead letters"
        );
        let (mut backoff, time) = (Backoff::default(), now());
        let (origin, dead) = (Arc::new(origin), Arc::new(dead));
        loop {
            let (letters, origin, dead) =
                (Arc::clone(&self.dead_letters), Arc::clone(&origin), Arc::clone(&dead));
            let Err(error) = on_thread(move || letters.save(&origin, time, &dead)).await else { return };
            let wait = backoff.next_delay();
            self.receiver.health().record_failure(format!("can't save dead letters: {error}"), wait);
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
        // `service/metrics.rs` describes these names.
        metrics::counter!("logship_siem_events_total", &labels).increment(sent.messages);
        metrics::counter!("logship_siem_bytes_total", &labels).increment(sent.bytes);
        metrics::counter!("logship_siem_logs_bytes_total", &labels).increment(sent.raw);
        metrics::counter!("logship_siem_dead_letters_total", &labels).increment(sent.dead);
    }
}

impl MemoryPermit {
    /// Waits for the memory of the largest batch.
    pub(crate) async fn take(memory: &Arc<Semaphore>) -> Self {
        let permit = Arc::clone(memory).acquire_many_owned((BATCH_BYTES >> 10) as u32).await;
        Self(permit.expect("the semaphore is never closed"))
    }

    /// Releases the memory beyond `bytes`.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let needed = (bytes >> 10).max(64);
        drop(self.0.split(self.0.num_permits().saturating_sub(needed)));
    }
}

/// A Tokio task that is aborted on drop.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> AbortOnDrop<T> {
    async fn join(mut self) -> T {
        match (&mut self.0).await {
            Ok(done) => done,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Waits for `stop` and a failing stage. Messages of a working stage are delivered even after `stop`.
async fn stopped_while_failing(stop: &mut watch::Receiver<bool>, formatters: &Formatters) {
    stopped(stop).await;
    while !formatters.breaker().is_failing() {
        sleep(POLL_INTERVAL).await;
    }
}

/// Waits for `stop`, and closes the gate. Returns only if the batch has not started.
async fn stopped_before_start(stop: &mut watch::Receiver<bool>, start: &Start) {
    stopped(stop).await;
    start.close();
    if !start.is_refused() {
        pending().await
    }
}

/// The current time in Unix seconds.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}
