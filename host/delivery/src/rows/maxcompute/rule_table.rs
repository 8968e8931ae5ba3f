//! The table of a rule as it is now, for dirty rows of its tasks.

use logship_config::maxcompute::Protocol;
use logship_sink::maxcompute::{MaxCompute, TableRef, TableSchema};

use super::error::failure;
use super::route::Route;
use super::rule::MaxComputeRows;
use crate::engine::error::TaskError;
use crate::engine::work::RuleSpec;
use crate::rows::encode::RowEncoding;

/// The table of a rule.
#[derive(Debug)]
pub(crate) struct RuleTable {
    /// The stages of the rule, with the columns of the table.
    pub(crate) encoding: RowEncoding,
    /// The partitions of logs.
    pub(crate) route: Route,
    /// The table.
    pub(crate) table: TableRef,
    /// Its columns.
    pub(crate) schema: TableSchema,
    /// Its project.
    pub(crate) sink: MaxCompute,
    /// The format of blocks.
    pub(crate) protocol: Protocol,
}

impl MaxComputeRows {
    /// Reads the table of a rule, and opens the rule's stages for it.
    ///
    /// # Errors
    /// If the table can't be read, or the rule does not fit it.
    pub(crate) async fn table_of_rule(&self, spec: RuleSpec<'_>) -> Result<RuleTable, TaskError> {
        let plan = self.plan(spec)?;
        let sink = self.open(spec.project, &plan.current)?;
        let table = plan.table();
        let schema = sink.table(&table.table).await.map_err(failure)?;
        let encoding = plan.encoding(&schema)?;
        let route = Route::new(&plan.planned.odps, &schema)?;
        let protocol = plan.planned.protocol;
        Ok(RuleTable { encoding, route, table, schema, sink, protocol })
    }
}
