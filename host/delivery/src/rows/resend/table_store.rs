//! Writes the rows of dead letters to Table Store. Repeatable: the rows have the same keys.

use std::collections::BTreeSet;
use std::time::Instant;

use logship_logstore::ShippingRule;

use super::encode::Transformed;
use super::error::ResendError;
use super::{Letters, Outcome, Resender, logs};
use crate::engine::work::RuleSpec;
use crate::rows::encode::select;
use crate::rows::table_store::write::separate;

pub(super) fn write(
    resender: &Resender,
    letters: &Letters,
    rule: &ShippingRule,
    deadline: Instant,
) -> Result<Outcome, ResendError> {
    let origin = &letters.origin;
    let stop = || Instant::now() >= deadline;
    let spec = RuleSpec::of(&origin.project, &origin.logstore, rule);
    let opened = resender.tables.table_of_rule(spec, origin.shard, &stop);
    let table = resender.wait(deadline, opened)?;
    if table.name() != origin.receiver {
        return Err(ResendError::NoOwner { name: origin.rule.clone(), table: origin.receiver.clone() });
    }
    let logstore = Some((origin.project.as_str(), origin.logstore.as_str()));
    let logs = logs::read(&resender.store, logstore, letters, &BTreeSet::new());
    let mut made = Transformed::new(&table.encoding, letters, &logs)?;
    let mut encoder = table.encoding.open_encoder()?;
    let mut written = 0;
    for piece in std::mem::take(&mut made.pieces) {
        let own = piece.origins.as_deref().map(|origins| select(&logs.positions, origins));
        let rows = encoder.push(&piece.batch, own.as_ref().unwrap_or(&logs.positions))?;
        made.add_dirty(&piece, &rows.dirty);
        let separated = separate(&rows)?;
        let refused = resender.wait(deadline, table.sink.write(table.write(), separated, &stop))?;
        written += separated.ends.len() - refused.len();
        for row in refused {
            let letter = made.letter(&piece, &rows, row.row);
            made.refuse(letter, (&row.error.code, row.error.message.clone()), vec![]);
        }
    }
    Ok(made.outcome(written))
}
