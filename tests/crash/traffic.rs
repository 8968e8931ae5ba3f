//! The concurrent clients of the service.

use std::sync::Arc;

use fastrand::Rng;
use logship_client::Client;
use tokio::task::JoinSet;

use super::*;

/// The concurrent clients: writers, readers of shards, and consumers.
pub(crate) struct Traffic {
    pub(crate) puts: tokio::task::JoinHandle<Puts>,
    pub(crate) shards: JoinSet<(u32, Seen)>,
    pub(crate) consumers: JoinSet<()>,
    pub(crate) owners: Arc<Owners>,
}

/// The responses to all clients.
pub(crate) struct Responses {
    pub(crate) puts: Puts,
    pub(crate) shards: Vec<Seen>,
    pub(crate) owners: Arc<Owners>,
}

impl Traffic {
    pub(crate) async fn start(client: &Client, round: u32, shards: &[Shard], random: &mut Rng) -> Self {
        let assigned = heartbeat(client, STEADY, STEADY, all_shards()).await.unwrap();
        assert_eq!(assigned, all_shards(), "the only consumer keeps all shards");
        if round > 0 {
            delete_group(client, HANDOVER).await;
        }
        create_group(client, HANDOVER).await;
        let writing = client.clone();
        let mut traffic = Self {
            puts: tokio::spawn(async move { write(&writing, round, u32::MAX).await }),
            shards: JoinSet::new(),
            consumers: JoinSet::new(),
            owners: Arc::default(),
        };
        for shard in shards {
            traffic.shards.spawn(consume(client.clone(), shard.number, shard.end()));
        }
        for consumer in 0..CONSUMERS {
            let owners = Arc::clone(&traffic.owners);
            traffic.consumers.spawn(hand_over(client.clone(), owners, consumer, random.fork()));
        }
        traffic
    }

    /// Waits until all clients have lost the service.
    pub(crate) async fn end(self) -> Responses {
        self.consumers.join_all().await;
        let mut shards = self.shards.join_all().await;
        shards.sort_by_key(|(shard, _)| *shard);
        Responses {
            puts: self.puts.await.unwrap(),
            shards: shards.into_iter().map(|(_, seen)| seen).collect(),
            owners: self.owners,
        }
    }
}
