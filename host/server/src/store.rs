//! The store: its generations, what its operator confirms, and its backups.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use logship_logstore::{Generation, Unshipped};
use logship_sls::error::{ApiError, ErrorCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::backup::back_up as copy_everything;
use crate::backup_state::BackupState;
use crate::call::Call;
use crate::manage::body;
use crate::reply::{Reply, store_error};
use crate::{Service, blocking};

/// Shows the generations of the store. The last one is the current one.
pub(crate) async fn show(service: &Arc<Service>) -> Result<Reply, ApiError> {
    let service = Arc::clone(service);
    blocking(move || {
        let generations = service.store.generations().map_err(store_error)?;
        let catalog = service.store.catalog();
        let rules = catalog.logstores().flat_map(|logstore| {
            let waits = |number| service.store.waits_for_generation(number);
            let waiting = logstore.rules.values().filter(move |rule| waits(rule.number()));
            waiting.map(
                |rule| json!({ "project": logstore.project, "logstore": logstore.name, "rule": rule.name }),
            )
        });
        let rules: Vec<Value> = rules.collect();
        Ok(Reply::json(&json!({
            "generations": generations.iter().map(show_generation).collect::<Vec<_>>(),
            "clockAheadSeconds": service.store.clock_ahead(),
            "clockSettlesInSeconds": service.store.clock_settles_in(),
            "waitingRules": rules,
            "backup": service.backup.lock().unwrap_or_else(PoisonError::into_inner).as_ref(),
        })))
    })
    .await
}

fn show_generation(generation: &Generation) -> Value {
    json!({
        "number": generation.number,
        "token": generation.token,
        "began": generation.began,
        "reason": generation.reason.as_str(),
        "lostGroups": generation.lost_groups,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Confirmation {
    unshipped: Option<UnshippedChoice>,
    #[serde(default)]
    clock: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum UnshippedChoice {
    Ship,
    Skip,
}

/// Confirms the clock, or the current generation: rules that wait for an operator go on.
pub(crate) async fn confirm(service: &Service, call: &Call) -> Result<Reply, ApiError> {
    let Confirmation { unshipped, clock } = body(call, ErrorCode::PostBodyInvalid)?;
    if unshipped.is_none() && !clock {
        let message = "the body must have unshipped: \"ship\" or \"skip\", or clock: true";
        return Err(ApiError::new(ErrorCode::PostBodyInvalid, message));
    }
    if clock {
        service.store.confirm_clock();
        tracing::info!("the clock was confirmed");
    }
    let mut rules = 0;
    if let Some(unshipped) = unshipped {
        let unshipped = match unshipped {
            UnshippedChoice::Ship => Unshipped::Ship,
            UnshippedChoice::Skip => Unshipped::Skip,
        };
        rules = service.store.confirm_generation(unshipped).await.map_err(store_error)?;
        tracing::info!(rules, ?unshipped, "the generation of the store was confirmed");
    }
    service.delivery.wake();
    Ok(Reply::json(&json!({ "rules": rules })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BackupRequest {
    directory: PathBuf,
}

/// Begins a backup to a directory on the machine of the service. `show` has its state.
pub(crate) fn back_up(service: &Arc<Service>, call: &Call) -> Result<Reply, ApiError> {
    let BackupRequest { directory } = body(call, ErrorCode::PostBodyInvalid)?;
    let state =
        |status| BackupState { directory: directory.clone(), status, message: String::new(), bytes: 0 };
    let mut current = service.backup.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(running) = current.as_ref().filter(|backup| backup.status == "running") {
        let message = format!("a backup to {} is running: wait for its end", running.directory.display());
        return Err(ApiError::new(ErrorCode::ParameterInvalid, message));
    }
    *current = Some(state("running"));
    drop(current);
    let (service, done, failed) = (Arc::clone(service), state("done"), state("failed"));
    tokio::task::spawn_blocking(move || {
        let ended = run_backup(&service, &directory, done, failed);
        *service.backup.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended);
    });
    Ok(Reply::empty())
}

fn run_backup(
    service: &Arc<Service>,
    directory: &Path,
    done: BackupState,
    failed: BackupState,
) -> BackupState {
    // A panic must not leave a backup that runs for ever.
    let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| copy_everything(service, directory)));
    match made {
        Ok(Ok(manifest)) => {
            let bytes = manifest.files.iter().map(|file| file.bytes).sum();
            tracing::info!(directory = %directory.display(), bytes, "made a backup");
            BackupState { bytes, ..done }
        }
        Ok(Err(error)) => {
            tracing::error!(directory = %directory.display(), %error, "a backup failed");
            BackupState { message: error.to_string(), ..failed }
        }
        Err(_) => {
            BackupState { message: "the backup panicked: please report this bug of logship".into(), ..failed }
        }
    }
}
