//! Making the objects of a task once more: from the service's logs and stages, by the pipeline of this program.

use std::path::Path;

use logship_logstore::{Place, TaskId};
use logship_sls::cursor::Cursor;
use logship_sls::log_group;
use serde_json::Value;

use super::Failure;
use crate::batch::BatchBuilder;
use crate::client::Client;
use crate::destination::Destination;
use crate::directory::Directory;
use crate::engine::Engine;
use crate::pipeline::{self, Pipeline};
use crate::registry::{DIGEST, Registry};
use crate::rule::Stages;
use crate::source::{CHUNK, Slice};
use crate::target;
use crate::task_objects::{AllMade, TaskObjects};
use crate::wasi::Allowance;

pub(super) async fn replay(client: &Client, engine: Engine, id: &str, to: &Path) -> Result<(), Failure> {
    let task: Value = client.get(&format!("/tasks/{id}"), &[]).await?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let plan = &task["plan"];
    let rule = target::rule(&text(&plan["shipperName"]), &plan["targetConfiguration"])?;
    let stages = tempfile::tempdir()?;
    let Stages { encoder, compressor, renderer, pipeline } = &rule.stages;
    let pinned = [encoder, compressor, renderer, pipeline];
    let pinned = pinned.into_iter().flatten().chain(rule.transform.iter().map(|choice| &choice.name));
    for digest in pinned.filter_map(|stage| stage.strip_prefix(DIGEST)) {
        let bytes = client.bytes(&format!("/stages/{digest}")).await?;
        std::fs::create_dir_all(stages.path().join("sha256"))?;
        std::fs::write(stages.path().join(format!("sha256/{digest}.wasm")), bytes)?;
    }
    // What may import WASI, the service has decided.
    let registry = Registry::within(engine, stages.path().to_owned()).allowing(Allowance::Everybody);
    let pipeline = Pipeline::new(&registry, &rule)?.of(&text(&plan["project"]), &text(&plan["logstore"]));
    let destination = Destination::Directory(Directory::new(to));
    let id: TaskId = id.parse()?;
    let shard = task["shard"].as_u64().unwrap_or(0) as u32;
    let made_for = pipeline::Task { created: id.created, number: id.number, shard };
    let key = text(&task["object"]);
    let mut objects = TaskObjects::begin(&pipeline, &destination, made_for, &key, rule.size())?;
    let mut logs = Logs {
        client,
        logstore: text(&task["logstore"]),
        shard,
        end: place(&text(&task["end"]))?,
        pulled: Default::default(),
        builder: BatchBuilder::default(),
    };
    let mut at = place(&text(&task["begin"]))?;
    while at < logs.end && !objects.is_full() {
        let slice = logs.next(at.cursor).await?;
        if slice.groups.first().is_none_or(|(first, _)| *first != at.cursor) {
            return Err(
                format!("the logs from cursor {at} on are no more: their time to live is over").into()
            );
        }
        let end = slice.logs_before(logs.end);
        let taken = objects.take(&slice.batch, at.log as usize..end)?;
        at = slice.place(taken);
        if taken < end {
            break;
        }
    }
    let AllMade { objects, left_out } = objects.finish()?;
    let sealed = task["objects"].as_array().map(Vec::as_slice).unwrap_or_default();
    if objects.is_empty() {
        println!("wrote nothing: the rule left out all {left_out} logs");
        return match sealed.first() {
            None => Ok(()),
            Some(sealed) => {
                Err(format!("the task made an object: sha256 {}", text(&sealed["sha256"])).into())
            }
        };
    }
    let mut differ = vec![];
    for made in objects {
        let shipped = made.publish(&pipeline, &destination, shard, &vec![])?;
        let path = to.join(&shipped.object);
        println!("wrote {}: {} logs, sha256 {}", path.display(), shipped.rows, shipped.sha256);
        let is_it = |sealed: &&Value| sealed["object"] == shipped.object;
        match sealed.iter().find(is_it).map(|sealed| text(&sealed["sha256"])) {
            None if sealed.is_empty() => println!("the task has no object yet to compare it with"),
            None => differ.push(format!("the task made no {}", shipped.object)),
            Some(sha256) if sha256 == shipped.sha256 => println!("the same bytes as the task made"),
            Some(sha256) => differ.push(format!("the task made other bytes: sha256 {sha256}")),
        }
    }
    if differ.is_empty() { Ok(()) } else { Err(differ.join("; ").into()) }
}

/// `CURSOR`, or `CURSOR+LOGS`.
fn place(text: &str) -> Result<Place, Failure> {
    let (cursor, log) = text.split_once('+').unwrap_or((text, "0"));
    Ok(Place { cursor: cursor.parse()?, log: log.parse()? })
}

/// The logs of a shard, in the same slices as the service's own.
struct Logs<'a> {
    client: &'a Client,
    logstore: String,
    shard: u32,
    end: Place,
    /// Log groups that came with the last pull and are not used yet.
    pulled: std::collections::VecDeque<Vec<u8>>,
    builder: BatchBuilder,
}

impl Logs<'_> {
    async fn next(&mut self, from: u64) -> Result<Slice, Failure> {
        let (mut groups, mut bytes, mut next) = (vec![], 0, from);
        while bytes < CHUNK && next < self.end.behind() {
            let Some(group) = self.pulled.pop_front() else {
                let pulled = self.client.pull(&self.logstore, self.shard, Cursor(next), 0).await?;
                for group in log_group::groups(&pulled.list) {
                    self.pulled.push_back(group?.to_vec());
                }
                if self.pulled.is_empty() || pulled.next.0 != next + pulled.groups as u64 {
                    return Err(format!(
                        "the logs from cursor {next} on are no more: their time to live is over"
                    )
                    .into());
                }
                continue;
            };
            let before = self.builder.len();
            self.builder.log_group(&group)?;
            groups.push((next, (self.builder.len() - before) as u32));
            bytes += group.len();
            next += 1;
        }
        Ok(Slice { batch: self.builder.take(), groups, next, received: 0 })
    }
}
