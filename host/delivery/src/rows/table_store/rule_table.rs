//! The table of a rule as it is now, for dirty rows of its tasks.

use logship_config::table_store_rule::{TableStoreRule, WriteMode};
use logship_sink::sink::Sink as _;
use logship_sink::table_store::{Stop, TableStore, Write};

use crate::engine::error::{PlanError, TaskError};
use crate::engine::work::RuleSpec;
use crate::rows::RowEncoding;
use crate::rows::table_store::encoding::{self, ShardName};
use crate::rows::table_store::rule::TableStoreRules;
use crate::rows::table_store::table;

/// The table of a rule.
#[derive(Debug)]
pub(crate) struct RuleTable {
    rule: TableStoreRule,
    /// The stages of the rule, for a shard.
    pub(crate) encoding: RowEncoding,
    /// The instance.
    pub(crate) sink: TableStore,
}

impl TableStoreRules {
    /// Opens the stages of a rule for a shard, and checks its table.
    ///
    /// # Errors
    /// If the rule is wrong, or does not fit its table.
    pub(crate) async fn table_of_rule(
        &self,
        spec: RuleSpec<'_>,
        shard: u32,
        stop: Stop<'_>,
    ) -> Result<RuleTable, TaskError> {
        let rule = TableStoreRule::of(spec.name, spec.configuration).map_err(PlanError::from)?;
        let sink = self.sink(spec.project, &rule)?;
        let name = ShardName { project: spec.project, logstore: spec.logstore, shard };
        let stages = (rule.encoder(), &rule.transform[..]);
        let encoding = encoding::open(&self.registry, stages, &rule, &name).map_err(PlanError::from)?;
        table::ensure(&sink, &rule, stop).await?;
        Ok(RuleTable { rule, encoding, sink })
    }
}

impl RuleTable {
    /// Returns the name of the table for people.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.sink.name(), self.rule.table)
    }

    /// Returns how rows are written: in order.
    pub(crate) fn write(&self) -> Write<'_> {
        Write { table: &self.rule.table, is_update: self.rule.write == WriteMode::Update, requests: 1 }
    }
}
