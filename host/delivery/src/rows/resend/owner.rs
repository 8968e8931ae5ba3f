//! The rule or the job of dead letters, and whether their rows are missing in its table.

use logship_config::maxcompute_rule::ODPS;
use logship_config::table_store_rule::OTS;
use logship_logstore::{ShippingRule, Status, StoreError};

use super::error::ResendError;
use super::maxcompute::Place;
use super::{Letters, Resender};
use crate::dead_letter::{Origin, RowWork};

/// The owner of dead letters.
pub(super) enum Owner {
    /// A rule of Table Store.
    TableStore(ShippingRule),
    /// A table of MaxCompute.
    MaxCompute(Box<Place>),
    /// Its logs were encoded again, so that they are rows or other dead letters now.
    Superseded,
}

/// Finds the owner of dead letters.
pub(super) fn find(resender: &Resender, letters: &Letters) -> Result<Owner, ResendError> {
    let Origin { project, logstore, rule: name, receiver, work, .. } = &letters.origin;
    if let Some(RowWork::Run { run }) = work {
        return Place::of_run(resender, letters, *run)
            .map(|place| place.map_or(Owner::Superseded, |place| Owner::MaxCompute(Box::new(place))));
    }
    let no_owner = || ResendError::NoOwner { name: name.clone(), table: receiver.clone() };
    let catalog = resender.store.catalog();
    let rule = catalog.logstore(project, logstore).and_then(|logstore| logstore.rule(name).cloned());
    let rule = rule.map_err(|_| no_owner())?;
    match (rule.target.as_str(), work) {
        (OTS, None) => Ok(Owner::TableStore(rule)),
        (ODPS, Some(RowWork::Task { task, plan })) => {
            if is_superseded(resender, (task, *plan))? {
                return Ok(Owner::Superseded);
            }
            let place = Place::of_rule(resender, letters, &rule)?;
            if place.table_name() != receiver.as_str() {
                return Err(no_owner());
            }
            Ok(Owner::MaxCompute(Box::new(place)))
        }
        (ODPS, None) => Err(ResendError::NoWork),
        _ => Err(no_owner()),
    }
}

/// Returns true if a task has encoded its logs again, with another plan than that of the letters.
///
/// # Errors
/// If the task has not succeeded: it may encode the logs again.
fn is_superseded(resender: &Resender, (id, plan): (&str, i64)) -> Result<bool, ResendError> {
    let task = match id.parse().and_then(|id| resender.store.task(id)) {
        Ok(task) => task,
        Err(StoreError::NoTask(_)) => return Err(ResendError::NoTask(id.into())),
        Err(error) => return Err(error.into()),
    };
    match task.status {
        Status::Success => Ok(task.plan != plan),
        _ => Err(ResendError::Unfinished(id.into())),
    }
}
