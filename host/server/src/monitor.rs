//! The state of the service: health, readiness, metrics.

use std::sync::Arc;

use logship_logstore::{Health, Logstore, ShippingRule, Store};
use logship_sls::error::{ApiError, ErrorCode};
use metrics::{counter, gauge};

use crate::operation::Operation;
use crate::reply::Reply;
use crate::{Service, blocking};

/// Performs an operation that shows the state of the service.
pub(crate) async fn answer(service: &Arc<Service>, operation: Operation<'_>) -> Result<Reply, ApiError> {
    match operation {
        Operation::Ready => readiness(service),
        Operation::ShowMetrics => show_metrics(service).await,
        _ => Ok(Reply { body: "ok\n".into(), ..Reply::default() }),
    }
}

fn readiness(service: &Service) -> Result<Reply, ApiError> {
    if !service.store.is_alive() {
        return Err(ApiError::new(
            ErrorCode::ServerBusy,
            "the store accepts no more logs: see the server's log for the reason, and restart it",
        ));
    }
    match service.store.health() {
        Health::Good => {}
        Health::Failing(reason) => {
            let message = format!("puts fail: {reason}. The service goes on when the disk takes data again");
            return Err(ApiError::new(ErrorCode::ServerBusy, message));
        }
        Health::Refusing(reason) => {
            let message = format!("the store refuses writes until a restart: {reason}");
            return Err(ApiError::new(ErrorCode::ServerBusy, message));
        }
    }
    if let Some(seconds) = service.store.clock_ahead() {
        let message = format!(
            "the clock is {seconds} seconds ahead of the last known time: expired logs are kept until it is set back, or confirmed with `logship store confirm --clock`"
        );
        return Err(ApiError::new(ErrorCode::ServerBusy, message));
    }
    if *service.ready.borrow() {
        return Ok(Reply { body: "ready\n".into(), ..Reply::default() });
    }
    Err(ApiError::new(ErrorCode::ServerBusy, "the service is shutting down"))
}

async fn show_metrics(service: &Arc<Service>) -> Result<Reply, ApiError> {
    let service = Arc::clone(service);
    let text = blocking(move || Ok(render(&service))).await?;
    Ok(Reply { content_type: Some("text/plain; version=0.0.4"), body: text.into(), ..Reply::default() })
}

/// Renders the metrics in Prometheus' text format. Blocks on the disk.
fn render(service: &Service) -> String {
    export_store(&service.store);
    export_requests(service);
    for logstore in service.store.catalog().logstores() {
        export_logstore(service, logstore);
    }
    service.stage_catalog.registry().engine().export_stage_metrics();
    service.metrics.run_upkeep();
    service.metrics.render()
}

fn export_store(store: &Store) {
    gauge!("logship_store_bytes").set(store.size() as f64);
    let generation = store.generation();
    gauge!("logship_store_generation").set(f64::from(generation.number));
    gauge!("logship_store_lost_groups").set(generation.lost_groups as f64);
    let ahead = store.clock_ahead();
    gauge!("logship_clock_unconfirmed").set(f64::from(u8::from(ahead.is_some())));
    gauge!("logship_clock_ahead_seconds").set(ahead.unwrap_or(0) as f64);
}

/// Exports connections, memory of requests, and quotas.
fn export_requests(service: &Service) {
    gauge!("logship_connections").set(service.connections.count() as f64);
    counter!("logship_connections_replaced_total").absolute(service.connections.replaced());
    for (name, budget) in [("bodies", &service.body_budget), ("replies", &service.reply_budget)] {
        let (used, evicted) = budget.usage();
        gauge!("logship_memory_bytes", "of" => name).set(used as f64);
        counter!("logship_evicted_requests_total", "of" => name).absolute(evicted);
    }
    service.quotas.export_metrics(&service.keys.get(), (service.store_clock)());
}

fn export_logstore(service: &Service, logstore: &Logstore) {
    for shard in &logstore.shards {
        let groups = shard.groups_between(shard.begin(), shard.end());
        gauge!("logship_shard_groups", &shard_labels(logstore, shard.number)).set(groups as f64);
    }
    for rule in logstore.rules.values() {
        export_rule(service, logstore, rule);
    }
    for group in logstore.groups.keys() {
        // Skip what is being deleted.
        for status in service.store.group_status(logstore, group).unwrap_or_default() {
            let mut labels = shard_labels(logstore, status.checkpoint.shard);
            labels.push(("group", group.clone()));
            gauge!("logship_group_behind_groups", &labels).set(status.unread_groups as f64);
            gauge!("logship_group_lag_seconds", &labels).set(status.lag_seconds as f64);
        }
    }
}

fn export_rule(service: &Service, logstore: &Logstore, rule: &ShippingRule) {
    // Skip what is being deleted.
    let progress = service.store.progress(rule).unwrap_or_default();
    for shard in &logstore.shards {
        let mut labels = shard_labels(logstore, shard.number);
        labels.push(("rule", rule.name.clone()));
        let at = progress.get(&shard.number).map_or(shard.begin(), |progress| progress.checkpoint.cursor);
        let waiting = shard.groups_between(at, shard.end());
        let oldest = service.store.backlog(shard, at, 1).unwrap_or_default().oldest;
        let lag = if oldest == 0 { 0 } else { service.now().saturating_sub(oldest) };
        gauge!("logship_ship_waiting_groups", &labels).set(waiting as f64);
        gauge!("logship_ship_lag_seconds", &labels).set(lag as f64);
    }
    let labels = [
        ("project", logstore.project.clone()),
        ("logstore", logstore.name.clone()),
        ("rule", rule.name.clone()),
    ];
    let is_paused = service.pause_reason(rule.number()).is_some();
    gauge!("logship_rule_held", &labels).set(f64::from(u8::from(is_paused)));
}

fn shard_labels(logstore: &Logstore, shard: u32) -> Vec<(&'static str, String)> {
    vec![
        ("project", logstore.project.clone()),
        ("logstore", logstore.name.clone()),
        ("shard", shard.to_string()),
    ]
}
