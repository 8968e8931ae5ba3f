use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use logship_batch::reserved::field_key;
use logship_sls::cursor::Cursor;
use logship_sls::log_group::{LogGroupView, LogView, groups};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;
use tokio::sync::mpsc;

use super::Failure;
use super::connect::{self, Connect};
use logship_client::{Client, ClientError};
use logship_server::keys::Access;

/// Prints the logs of a logstore as they arrive, one JSON object per line.
#[derive(Debug, Args)]
pub(super) struct TailCommand {
    /// The logstore to read.
    logstore: String,
    /// Starts at logs received since this time: begin, end, or a Unix time.
    #[arg(long, value_name = "WHEN", default_value = "end")]
    from: String,
    /// Prints the existing logs and exits.
    #[arg(long)]
    no_follow: bool,
    /// Exits after this many logs.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    #[command(flatten)]
    connect: Connect,
}

/// The longest time, in seconds, that the service waits for logs before it replies.
const LONG_POLL_SECONDS: u32 = 20;

/// The poll interval of a service without long polling.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

impl TailCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        let client = Arc::new(self.connect.client(Access::Read)?);
        connect::run(async {
            let (sender, mut lines) = mpsc::channel(8);
            let path = format!("/logstores/{}/shards", self.logstore);
            let shards: Vec<Value> = client.get(&path, &[]).await?;
            for shard in shards.iter().filter_map(|shard| shard["shardID"].as_u64()) {
                let cursor = client.cursor(&self.logstore, shard as u32, &self.from).await?;
                let (client, logstore, sender) = (Arc::clone(&client), self.logstore.clone(), sender.clone());
                let follow = !self.no_follow;
                tokio::spawn(async move {
                    let result = tail(&client, &logstore, shard as u32, cursor, follow, &sender).await;
                    if let Err(error) = result {
                        // The receiver may be closed already.
                        let _ = sender.send(Err(error)).await;
                    }
                });
            }
            drop(sender);
            self.print(&mut lines).await
        })
    }

    async fn print(
        &self,
        lines: &mut mpsc::Receiver<Result<Vec<String>, ClientError>>,
    ) -> Result<(), Failure> {
        let mut left = self.count.unwrap_or(u64::MAX);
        let mut out = std::io::stdout().lock();
        while let Some(lines) = lines.recv().await {
            for line in lines? {
                if left == 0 {
                    return Ok(());
                }
                left -= 1;
                match writeln!(out, "{line}") {
                    // Exits when standard output is closed.
                    Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
                    written => written?,
                }
            }
            out.flush()?;
            if left == 0 {
                return Ok(());
            }
        }
        Ok(())
    }
}

async fn tail(
    client: &Client,
    logstore: &str,
    shard: u32,
    mut cursor: Cursor,
    follow: bool,
    lines: &mpsc::Sender<Result<Vec<String>, ClientError>>,
) -> Result<(), ClientError> {
    while !lines.is_closed() {
        let started = tokio::time::Instant::now();
        let pulled = client.pull(logstore, shard, cursor, if follow { LONG_POLL_SECONDS } else { 0 }).await?;
        if pulled.groups == 0 && !follow {
            return Ok(());
        }
        if pulled.groups == 0 && started.elapsed() < POLL_INTERVAL {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        cursor = pulled.next;
        let mut shown = vec![];
        for group in groups(&pulled.list) {
            let group = group.map_err(logship_sls::error::ApiError::from)?;
            let view = LogGroupView::parse(group).map_err(logship_sls::error::ApiError::from)?;
            shown.extend(show(&view));
        }
        if lines.send(Ok(shown)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Returns the logs of a group as JSON, with the group's topic, source and tags.
fn show<'a>(view: &'a LogGroupView<'a>) -> impl Iterator<Item = String> + 'a {
    // Serialization can't fail: all keys and values are strings or numbers.
    view.logs().map(move |log| serde_json::to_string(&Shown { view, log }).unwrap_or_default())
}

/// A log with its fields in order. The values of a repeated key are an array: a member must not occur twice.
struct Shown<'a> {
    view: &'a LogGroupView<'a>,
    log: LogView<'a>,
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = String::from_utf8_lossy;
        let mut shown = serializer.serialize_map(None)?;
        shown.serialize_entry("__time__", &self.log.time())?;
        shown.serialize_entry("__topic__", &text(self.view.topic()))?;
        shown.serialize_entry("__source__", &text(self.view.source()))?;
        let tags =
            self.view.tags().iter().map(|(key, value)| (format!("__tag__:{}", text(key)), text(value)));
        for (key, values) in distinct(tags) {
            // Of repeated tags, the last one counts.
            shown.serialize_entry(&key, values.last().unwrap_or(&text(b"")))?;
        }
        let fields = self.log.fields().map(|(key, value)| (field_key(&text(key)).into_owned(), text(value)));
        for (key, values) in distinct(fields) {
            match &values[..] {
                [value] => shown.serialize_entry(&key, value)?,
                values => shown.serialize_entry(&key, values)?,
            }
        }
        shown.end()
    }
}

/// Returns each key once, at its first place, with all its values.
fn distinct<'v>(members: impl Iterator<Item = (String, Cow<'v, str>)>) -> Vec<(String, Vec<Cow<'v, str>>)> {
    let (mut distinct, mut places) = (Vec::<(String, Vec<_>)>::new(), HashMap::new());
    for (key, value) in members {
        match places.get(&key) {
            Some(&place) => distinct[place as usize].1.push(value),
            None => {
                places.insert(key.clone(), distinct.len() as u32);
                distinct.push((key, vec![value]));
            }
        }
    }
    distinct
}

#[cfg(test)]
mod tests {
    use logship_sls::log_group::{Header, LogGroupBuilder};

    use super::*;

    #[test]
    fn no_member_occurs_twice_or_is_forged() {
        let tags: [(&[u8], &[u8]); 2] = [(b"host", b"a"), (b"host", b"b")];
        let header = Header { topic: Some(b"t"), source: Some(b"10.0.0.1"), machine_uuid: None, tags: &tags };
        let mut group = LogGroupBuilder::new(&header);
        let mut log = group.begin_log(7, None);
        for (key, value) in [("__source__", "forged"), ("a", "1"), ("a", "2"), ("__tag__:host", "forged")] {
            log.field(key, value.as_bytes());
        }
        log.end_log();
        let bytes = group.finish();
        let view = LogGroupView::parse(&bytes).unwrap();
        let own = r#"{"__time__":7,"__topic__":"t","__source__":"10.0.0.1","__tag__:host":"b","#;
        let fields = r#""__field__:__source__":"forged","a":["1","2"],"__field__:__tag__:host":"forged"}"#;
        assert_eq!(show(&view).collect::<Vec<_>>(), [format!("{own}{fields}")]);
    }
}
