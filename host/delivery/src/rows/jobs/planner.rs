//! Makes the plans of runs.

use std::sync::Arc;

use logship_client::Client;
use logship_config::column_mapping::ColumnMapping;
use logship_config::data_source::Connection;
use logship_config::job::template::Context;
use logship_config::job::{Job, JobError, mapping};
use logship_logstore::{Shard, Store, StoreError};
use logship_sink::maxcompute::TableSchema;

use super::blocks::{BlockReaders, blocking};
use super::destination::{Destinations, Tables};
use super::error::RunError;
use super::plan::{RemoteSource, RunPlan, ShardRange, Window, block_layout};
use super::remote;
use super::target::Target;
use crate::rows::Sources;
use crate::rows::encode_maxcompute::utc_offset;

const SECONDS_OF_A_DAY: u64 = 86_400;

/// The parts of the service that make plans.
#[derive(Debug, Clone)]
pub(super) struct Planner {
    pub(super) store: Arc<Store>,
    pub(super) sources: Arc<dyn Sources>,
    pub(super) destinations: Arc<dyn Destinations>,
    pub(super) blocks: Arc<dyn BlockReaders>,
}

impl Planner {
    /// Makes the plan of a run of a job of `project`.
    ///
    /// # Errors
    /// If the job does not fit the Logstore or the table.
    pub(super) async fn plan(
        &self,
        project: &str,
        job: &Job,
        context: Context<'_>,
    ) -> Result<RunPlan, RunError> {
        let Target { window, table } = Target::evaluate(job, context)?;
        let reader = self.logs(project, job)?;
        let tables = self.destinations.open(project, &job.writer().datasource)?;
        let schema = tables.schema(&table.table).await?;
        check_partition(table.partition.as_deref(), &schema)?;
        let mapping = map_columns(job, &schema, context)?;
        let shards = self.ranges(&reader, &job.reader().logstore, window).await?;
        let largest = shards.iter().map(|range| range.bytes).max().unwrap_or(0);
        let (stride, block_bytes) = block_layout(shards.len(), largest);
        let plan = RunPlan {
            window,
            project: reader.project().to_owned(),
            remote: reader.remote(project, &job.reader().datasource),
            logstore: job.reader().logstore.clone(),
            shards,
            source: job.writer().datasource.clone(),
            table,
            schema,
            mapping,
            stage: self.blocks.stage()?,
            protocol: tables.protocol(),
            utc_offset: utc_offset(job.time_zone, context.scheduled),
            block_bytes,
            stride,
        };
        let (blocks, checked) = (Arc::clone(&self.blocks), plan.clone());
        blocking(move || blocks.check(&checked)).await?;
        Ok(plan)
    }

    /// Checks that retention has deleted no logs of the window of a plan. Without this check, they would be missing in its
    /// rows without a word.
    ///
    /// # Errors
    /// If logs of the window may be deleted.
    pub(super) async fn check_kept(&self, plan: &RunPlan, now: u64) -> Result<(), RunError> {
        if plan.remote.is_some() {
            return Ok(());
        }
        let (store, plan) = (Arc::clone(&self.store), plan.clone());
        blocking(move || check_kept(&store, &plan, now)).await
    }

    /// Opens the tables of a plan.
    pub(super) fn tables(&self, project: &str, source: &str) -> Result<Arc<dyn Tables>, RunError> {
        self.destinations.open(project, source)
    }

    /// Returns the place of the logs that a job reads.
    ///
    /// # Errors
    /// If its data source does not exist, or has no logs.
    pub(super) fn logs(&self, project: &str, job: &Job) -> Result<Logs, RunError> {
        find_logs(&*self.sources, project, &job.reader().datasource)
    }

    /// Returns the range of each shard that has logs in the window.
    async fn ranges(&self, logs: &Logs, logstore: &str, window: Window) -> Result<Vec<ShardRange>, RunError> {
        match logs {
            Logs::Remote { client, .. } => remote::ranges(client, logstore, window).await,
            Logs::Local(project) => {
                let (store, project, logstore) =
                    (Arc::clone(&self.store), project.clone(), logstore.to_owned());
                blocking(move || ranges(&store, &project, &logstore, window)).await
            }
        }
    }
}

/// The place of logs.
#[derive(Debug)]
pub(super) enum Logs {
    /// A project of this service.
    Local(String),
    /// A project of another service.
    Remote {
        /// The project.
        project: String,
        /// A client of it.
        client: Box<Client>,
    },
}

impl Logs {
    fn project(&self) -> &str {
        match self {
            Self::Local(project) | Self::Remote { project, .. } => project,
        }
    }

    fn remote(&self, project: &str, source: &str) -> Option<RemoteSource> {
        match self {
            Self::Local(_) => None,
            Self::Remote { .. } => Some(RemoteSource { project: project.into(), name: source.into() }),
        }
    }
}

/// Returns the project of this service that a data source has the logs of, if it has. Opens no client.
pub(super) fn local_project(sources: &dyn Sources, project: &str, name: &str) -> Option<String> {
    if name.is_empty() {
        return Some(project.to_owned());
    }
    match sources.get(project, name).ok()?.connection {
        Connection::LogHub(config) if !config.is_local() => None,
        Connection::LogHub(config) if config.project.is_empty() => Some(project.to_owned()),
        Connection::LogHub(config) => Some(config.project),
        _ => None,
    }
}

/// Returns the place of the logs of a data source. Without a name: the project itself.
///
/// # Errors
/// If the data source does not exist, or has no logs.
pub(super) fn find_logs(sources: &dyn Sources, project: &str, name: &str) -> Result<Logs, RunError> {
    if name.is_empty() {
        return Ok(Logs::Local(project.to_owned()));
    }
    let wrong = |problem: String| RunError::Source { name: name.into(), problem };
    let source = sources.get(project, name).map_err(|error| wrong(error.to_string()))?;
    if let Some(local) = local_project(sources, project, name) {
        return Ok(Logs::Local(local));
    }
    match source.connection {
        Connection::LogHub(config) => {
            let client = Box::new(remote::client(name, &config)?);
            Ok(Logs::Remote { project: config.project, client })
        }
        other => {
            let kind = other.kind();
            Err(wrong(format!("has the type {kind}, but a job reads from one of the type loghub")))
        }
    }
}

/// Returns the value of each column of the table.
pub(super) fn map_columns(
    job: &Job,
    schema: &TableSchema,
    context: Context<'_>,
) -> Result<ColumnMapping, JobError> {
    let names: Vec<String> = schema.columns.iter().map(|column| column.name.clone()).collect();
    let (reader, writer) = (&job.reader().column, &job.writer().column);
    mapping::pair(job.configuration.mapping, reader, writer, &names, context)
}

/// Checks that a partition names each partition column of the table.
fn check_partition(partition: Option<&str>, schema: &TableSchema) -> Result<(), JobError> {
    let level = |level: &str| level.split_once('=').map_or(level, |(name, _)| name).to_lowercase();
    let named: Vec<String> = partition.into_iter().flat_map(|text| text.split(',')).map(level).collect();
    let keys: Vec<String> = schema.partition_keys.iter().map(|key| key.name.to_lowercase()).collect();
    if named == keys {
        return Ok(());
    }
    let shown = |names: &[String]| names.iter().map(|name| format!("{name}=…")).collect::<Vec<_>>().join(",");
    let problem = match (keys.is_empty(), named.is_empty()) {
        (true, _) => "the table has no partitions: leave it empty".to_owned(),
        (_, true) => format!("is empty, but the table has partitions: write {}", shown(&keys)),
        _ => format!("has the columns {}, but the table has {}", shown(&named), shown(&keys)),
    };
    Err(JobError::member("writer.partition", problem))
}

/// Returns the range of each shard that has logs in the window. Blocks.
fn ranges(store: &Store, project: &str, logstore: &str, window: Window) -> Result<Vec<ShardRange>, RunError> {
    let catalog = store.catalog();
    let found = catalog.logstore(project, logstore)?;
    let range = |shard: &Arc<Shard>| -> Result<Option<ShardRange>, StoreError> {
        let begin = store.position_at(shard, window.begin)?;
        let end = store.position_at(shard, window.end)?;
        if shard.groups_between(begin, end) == 0 {
            return Ok(None);
        }
        let bytes = store.bytes_between(shard, begin, end)?;
        Ok(Some(ShardRange { shard: shard.number, begin, end, bytes }))
    };
    Ok(found.shards.iter().filter_map(|shard| range(shard).transpose()).collect::<Result<_, _>>()?)
}

/// Checks that retention has deleted no logs of the window of a plan. Blocks.
fn check_kept(store: &Store, plan: &RunPlan, now: u64) -> Result<(), RunError> {
    let catalog = store.catalog();
    let logstore = catalog.logstore(&plan.project, &plan.logstore)?;
    let begin = plan.window.begin;
    if begin >= now.saturating_sub(u64::from(logstore.ttl) * SECONDS_OF_A_DAY) {
        return Ok(());
    }
    for shard in &logstore.shards {
        let has_deleted = shard.groups_between(0, shard.begin()) > 0 && shard.last_received() >= begin;
        // All stored logs arrived in the window or later, so some of the deleted ones may have.
        if has_deleted && store.position_at(shard, begin)? == shard.begin() {
            return Err(RunError::MayBeExpired { shard: shard.number, begin });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use logship_sink::maxcompute::TableColumn;

    use super::*;

    #[test]
    fn partition_names_each_partition_column() {
        let key = |name: &str| TableColumn {
            name: name.into(),
            data_type: "string".into(),
            nullable: true,
            comment: String::new(),
        };
        let table = |keys: &[&str]| TableSchema {
            columns: vec![],
            partition_keys: keys.iter().map(|name| key(name)).collect(),
        };
        let problem = |partition: Option<&str>, keys: &[&str]| {
            check_partition(partition, &table(keys)).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(problem(None, &[]), "");
        assert_eq!(problem(Some("pt=1,HH=2"), &["pt", "hh"]), "");
        for (partition, keys, expected) in [
            (None, &["pt"][..], "write pt=…"),
            (Some("pt=1"), &[], "no partitions"),
            (Some("pt=1"), &["pt", "hh"], "has pt=…,hh=…"),
            (Some("hh=1,pt=1"), &["pt", "hh"], "has the columns hh=…,pt=…"),
        ] {
            let shown = problem(partition, keys);
            assert!(shown.contains(expected), "{shown}");
        }
    }
}
