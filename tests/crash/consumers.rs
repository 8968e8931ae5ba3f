//! Consumers of a group, whose shards go from hand to hand.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use logship::client::{Client, ClientError};
use reqwest::Method;
use serde_json::{Value, json};

use super::*;

pub(crate) async fn make_group(client: &Client, name: &str) {
    let body = json!({ "consumerGroup": name, "timeout": TIMEOUT_SECONDS, "order": false });
    let path = format!("/logstores/{LOGSTORE}/consumergroups");
    client.send_json(Method::POST, &path, &[], &body).await.unwrap();
}

pub(crate) async fn delete_group(client: &Client, name: &str) {
    client.send_json(Method::DELETE, &group_path(name), &[], &Value::Null).await.unwrap();
}

pub(crate) fn group_path(name: &str) -> String {
    format!("/logstores/{LOGSTORE}/consumergroups/{name}")
}

pub(crate) fn all_shards() -> Vec<u32> {
    (0..SHARDS).collect()
}

/// Says that the consumer is there, and what it may be working on. Returns what it shall own.
pub(crate) async fn heartbeat(
    client: &Client,
    group: &str,
    consumer: &str,
    shards: Vec<u32>,
) -> Result<Vec<u32>, ClientError> {
    let query = [("type", "heartbeat"), ("consumer", consumer)];
    let given = client.send_json(Method::POST, &group_path(group), &query, &shards.into()).await?;
    Ok(serde_json::from_value(given).unwrap())
}

/// Who works on which shard of the group whose shards go from hand to hand.
#[derive(Default)]
pub(crate) struct Owners(pub(crate) Mutex<BTreeMap<u32, u32>>);

impl Owners {
    /// One heartbeat, and the beginning of work.
    pub(crate) async fn ask(&self, client: &Client, consumer: u32) -> Result<Vec<u32>, ClientError> {
        let mine = self.of(consumer);
        let given = heartbeat(client, HANDOVER, &format!("consumer-{consumer}"), mine).await?;
        let mut owners = self.0.lock().unwrap();
        for &shard in &given {
            let owner = *owners.entry(shard).or_insert(consumer);
            assert_eq!(owner, consumer, "shard {shard} is given to two");
        }
        Ok(given)
    }

    pub(crate) fn of(&self, consumer: u32) -> Vec<u32> {
        let owners = self.0.lock().unwrap();
        owners.iter().filter(|&(_, owner)| *owner == consumer).map(|(shard, _)| *shard).collect()
    }

    /// Ends the consumer's work on shards other than these.
    pub(crate) fn finish(&self, consumer: u32, given: &[u32]) {
        self.0.lock().unwrap().retain(|shard, owner| *owner != consumer || given.contains(shard));
    }
}

/// A consumer that comes late, and takes its time to give up shards, until the service is gone.
pub(crate) async fn hand_over(client: Client, owners: Arc<Owners>, consumer: u32, mut random: Rng) {
    let mut pause = |most| tokio::time::sleep(Duration::from_millis(random.u64(..most)));
    pause(80).await;
    loop {
        let given = match owners.ask(&client, consumer).await {
            Ok(given) => given,
            Err(error) => return assert_gone(&error),
        };
        pause(10).await;
        owners.finish(consumer, &given);
        pause(10).await;
    }
}

/// After a restart: a newcomer gets nothing that another may be working on, and in the end each has one shard.
pub(crate) async fn settle(client: &Client, owners: &Owners, random: &mut Rng) {
    let newcomer = CONSUMERS;
    owners.ask(client, newcomer).await.unwrap();
    let mut consumers: Vec<_> = (0..=newcomer).collect();
    random.shuffle(&mut consumers);
    for _ in 0..8 {
        for &consumer in &consumers {
            let given = owners.ask(client, consumer).await.unwrap();
            owners.finish(consumer, &given);
        }
    }
    let counts: Vec<_> = consumers.iter().map(|&consumer| owners.of(consumer).len()).collect();
    assert_eq!(counts, [1; SHARDS as usize], "shards of {consumers:?}");
}
