//! Replays a task: recreates its objects from the service's logs and stages, with this program's pipeline.

use std::path::Path;

use crate::print::outln;
use logship_logstore::{LogPosition, TaskId};
use logship_sls::cursor::Cursor;
use logship_sls::log_group;
use serde_json::Value;

use super::Failure;
use logship_batch::batch::BatchBuilder;
use logship_client::Client;
use logship_config::rule::{Rule, Stages};
use logship_config::shipper_config;
use logship_config::stage_name::DIGEST_PREFIX;
use logship_delivery::objects::task_objects::{FinishedObjects, TaskObjects};
use logship_delivery::pipeline;
use logship_delivery::pipeline::Pipeline;
use logship_registry::Registry;
use logship_runtime::engine::Engine;
use logship_runtime::wasi::WasiAllowlist;
use logship_sink::directory::Directory;
use logship_source::shard_reader::{CHUNK_BYTES, Slice};

pub(super) async fn replay(client: &Client, engine: Engine, id: &str, to: &Path) -> Result<(), Failure> {
    let task: Value = client.get(&format!("/tasks/{id}"), &[]).await?;
    let plan = &task["plan"];
    let rule = shipper_config::to_rule(&text(&plan["shipperName"]), &plan["targetConfiguration"])?;
    let stages = tempfile::tempdir()?;
    fetch_stages(client, &rule, stages.path()).await?;
    // The service already decided which stages may import WASI.
    let registry =
        Registry::with_folder(engine, stages.path().to_owned()).with_wasi_allowlist(WasiAllowlist::All);
    let pipeline =
        Pipeline::new(&registry, &rule)?.for_logstore(&text(&plan["project"]), &text(&plan["logstore"]));
    let sink = Directory::new(to);
    let id: TaskId = id.parse()?;
    let shard = task["shard"].as_u64().unwrap_or(0) as u32;
    let pipeline_task = pipeline::Task { created: id.created, number: id.number, shard };
    let key = text(&task["object"]);
    let mut objects = TaskObjects::begin(&pipeline, &sink, pipeline_task, &key, rule.size())?;
    let mut logs = Logs {
        client,
        logstore: text(&task["logstore"]),
        shard,
        end: parse_position(&text(&task["end"]))?,
        pulled: Default::default(),
        builder: BatchBuilder::default(),
    };
    let mut position = parse_position(&text(&task["begin"]))?;
    while position < logs.end && !objects.is_full() {
        let slice = logs.next(position.cursor).await?;
        if slice.groups.first().is_none_or(|(first, _)| *first != position.cursor) {
            return Err(format!("the logs from cursor {position} on have expired").into());
        }
        let end = slice.logs_before(logs.end);
        let taken = objects.take(&slice.batch, position.log as usize..end)?;
        position = slice.place(taken);
        if taken < end {
            break;
        }
    }
    let expected = task["objects"].as_array().map(Vec::as_slice).unwrap_or_default();
    publish(objects.finish()?, &pipeline, to, shard, expected)
}

/// Downloads the components of a rule's stages that are pinned by digest.
async fn fetch_stages(client: &Client, rule: &Rule, folder: &Path) -> Result<(), Failure> {
    let Stages { encoder, compressor, renderer, pipeline } = &rule.stages;
    let pinned = [encoder, compressor, renderer, pipeline];
    let pinned = pinned.into_iter().flatten().chain(rule.transform.iter().map(|choice| &choice.name));
    std::fs::create_dir_all(folder.join("sha256"))?;
    for digest in pinned.filter_map(|stage| stage.strip_prefix(DIGEST_PREFIX)) {
        let bytes = client.bytes(&format!("/stages/{digest}")).await?;
        std::fs::write(folder.join(format!("sha256/{digest}.wasm")), bytes)?;
    }
    Ok(())
}

/// Writes the recreated objects, and compares them with the `expected` objects of the task.
fn publish(
    FinishedObjects { objects, filtered }: FinishedObjects,
    pipeline: &Pipeline,
    to: &Path,
    shard: u32,
    expected: &[Value],
) -> Result<(), Failure> {
    if objects.is_empty() {
        outln!("wrote nothing: the rule filtered out all {filtered} logs");
        return match expected.first() {
            None => Ok(()),
            Some(expected) => {
                Err(format!("the task has an object: sha256 {}", text(&expected["sha256"])).into())
            }
        };
    }
    let mut mismatches = vec![];
    for made in objects {
        let shipped = made.publish(pipeline, &Directory::new(to), shard, &vec![])?;
        let path = to.join(&shipped.object);
        outln!("wrote {}: {} logs, sha256 {}", path.display(), shipped.rows, shipped.sha256);
        let has_key = |expected: &&Value| expected["object"] == shipped.object;
        match expected.iter().find(has_key).map(|expected| text(&expected["sha256"])) {
            None if expected.is_empty() => outln!("the task has no object to compare with yet"),
            None => mismatches.push(format!("the task has no object {}", shipped.object)),
            Some(sha256) if sha256 == shipped.sha256 => outln!("identical to the task's object"),
            Some(sha256) => mismatches.push(format!("differs from the task's object: sha256 {sha256}")),
        }
    }
    if mismatches.is_empty() { Ok(()) } else { Err(mismatches.join("; ").into()) }
}

/// The text of a JSON value; empty if it is none.
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Parses `CURSOR` or `CURSOR+LOGS`.
fn parse_position(text: &str) -> Result<LogPosition, Failure> {
    let (cursor, log) = text.split_once('+').unwrap_or((text, "0"));
    Ok(LogPosition { cursor: cursor.parse()?, log: log.parse()? })
}

/// Reads the logs of a shard in the same slices as the service.
struct Logs<'a> {
    client: &'a Client,
    logstore: String,
    shard: u32,
    end: LogPosition,
    /// Pulled log groups that are not used yet.
    pulled: std::collections::VecDeque<Vec<u8>>,
    builder: BatchBuilder,
}

impl Logs<'_> {
    async fn next(&mut self, from: u64) -> Result<Slice, Failure> {
        let (mut groups, mut bytes, mut next) = (vec![], 0, from);
        while bytes < CHUNK_BYTES && next < self.end.end_cursor() {
            let Some(group) = self.pulled.pop_front() else {
                let pulled = self.client.pull(&self.logstore, self.shard, Cursor(next), 0).await?;
                for group in log_group::groups(&pulled.list) {
                    self.pulled.push_back(group?.to_vec());
                }
                if self.pulled.is_empty() || pulled.next.0 != next + pulled.groups as u64 {
                    return Err(format!("the logs from cursor {next} on have expired").into());
                }
                continue;
            };
            let before = self.builder.len();
            self.builder.log_group(&group)?;
            groups.push((next, (self.builder.len() - before) as u32));
            bytes += group.len();
            next += 1;
        }
        let receive_times = vec![0; groups.len()];
        Ok(Slice { batch: self.builder.take(), groups, receive_times, next })
    }
}
