//! Consumers of a group whose shards move between them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use logship_client::{Client, ClientError};
use reqwest::Method;
use serde_json::{Value, json};

use super::*;

pub(crate) async fn create_group(client: &Client, name: &str) {
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

/// Sends a heartbeat with the shards that the consumer owns. Returns the shards that the service assigns to it.
pub(crate) async fn heartbeat(
    client: &Client,
    group: &str,
    consumer: &str,
    shards: Vec<u32>,
) -> Result<Vec<u32>, ClientError> {
    let query = [("type", "heartbeat"), ("consumer", consumer)];
    let assigned = client.send_json(Method::POST, &group_path(group), &query, &shards.into()).await?;
    Ok(serde_json::from_value(assigned).unwrap())
}

/// The owner of each shard of the group [`HANDOVER`].
#[derive(Default)]
pub(crate) struct Owners(pub(crate) Mutex<BTreeMap<u32, u32>>);

impl Owners {
    /// Sends a heartbeat, and records the assigned shards.
    pub(crate) async fn ask(&self, client: &Client, consumer: u32) -> Result<Vec<u32>, ClientError> {
        let owned = self.shards_of(consumer);
        let assigned = heartbeat(client, HANDOVER, &format!("consumer-{consumer}"), owned).await?;
        let mut owners = self.0.lock().unwrap();
        for &shard in &assigned {
            let owner = *owners.entry(shard).or_insert(consumer);
            assert_eq!(owner, consumer, "shard {shard} is assigned to two consumers");
        }
        Ok(assigned)
    }

    pub(crate) fn shards_of(&self, consumer: u32) -> Vec<u32> {
        let owners = self.0.lock().unwrap();
        owners.iter().filter(|&(_, owner)| *owner == consumer).map(|(shard, _)| *shard).collect()
    }

    /// Releases all shards of the consumer except the given ones.
    pub(crate) fn release(&self, consumer: u32, assigned: &[u32]) {
        self.0.lock().unwrap().retain(|shard, owner| *owner != consumer || assigned.contains(shard));
    }
}

/// Runs a consumer that joins late and releases shards slowly, until the service is gone.
pub(crate) async fn hand_over(client: Client, owners: Arc<Owners>, consumer: u32, mut random: Rng) {
    let mut pause = |most| tokio::time::sleep(Duration::from_millis(random.u64(..most)));
    pause(80).await;
    loop {
        let assigned = match owners.ask(&client, consumer).await {
            Ok(assigned) => assigned,
            Err(error) => return assert_gone(&error),
        };
        pause(10).await;
        owners.release(consumer, &assigned);
        pause(10).await;
    }
}

/// Checks assignments after a restart: a new consumer never gets an owned shard, and in the end each consumer has one.
pub(crate) async fn settle(client: &Client, owners: &Owners, random: &mut Rng) {
    let newcomer = CONSUMERS;
    owners.ask(client, newcomer).await.unwrap();
    let mut consumers: Vec<_> = (0..=newcomer).collect();
    random.shuffle(&mut consumers);
    for _ in 0..8 {
        for &consumer in &consumers {
            let assigned = owners.ask(client, consumer).await.unwrap();
            owners.release(consumer, &assigned);
        }
    }
    let counts: Vec<_> = consumers.iter().map(|&consumer| owners.shards_of(consumer).len()).collect();
    assert_eq!(counts, [1; SHARDS as usize], "shards of {consumers:?}");
}
