//! The store: its generations, and what its operator confirms.

use std::sync::Arc;

use logship_logstore::{Generation, Unshipped};
use logship_sls::error::{ApiError, ErrorCode};
use serde::Deserialize;
use serde_json::{Value, json};

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
            "waitingRules": rules,
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
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum UnshippedChoice {
    Ship,
    Skip,
}

/// Confirms the current generation: rules that wait for an operator go on.
pub(crate) async fn confirm(service: &Service, call: &Call) -> Result<Reply, ApiError> {
    let body: Confirmation = body(call, ErrorCode::PostBodyInvalid)?;
    let Some(unshipped) = body.unshipped else {
        let message = "the body must have unshipped: \"ship\" or \"skip\"";
        return Err(ApiError::new(ErrorCode::PostBodyInvalid, message));
    };
    let unshipped = match unshipped {
        UnshippedChoice::Ship => Unshipped::Ship,
        UnshippedChoice::Skip => Unshipped::Skip,
    };
    let rules = service.store.confirm_generation(unshipped).await.map_err(store_error)?;
    service.delivery.wake();
    tracing::info!(rules, ?unshipped, "the generation of the store was confirmed");
    Ok(Reply::json(&json!({ "rules": rules })))
}
