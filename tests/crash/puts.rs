//! Log groups of concurrent writers, and the results of their puts.

use std::collections::BTreeSet;

use fastrand::Rng;
use logship_client::{Client, ClientError};
use logship_sls::error::ErrorCode;
use logship_sls::hash_key::HashKey;
use logship_sls::log_group::{Header, LogGroupBuilder, LogGroupView};
use tokio::task::JoinSet;

use super::*;

/// The log group of one put. Its bytes are a function of these numbers, so that tests can compare them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Group {
    pub(crate) writer: u32,
    pub(crate) round: u32,
    pub(crate) sequence: u32,
}

impl Group {
    pub(crate) fn random(self) -> Rng {
        let Self { writer, round, sequence } = self;
        Rng::with_seed(u64::from(writer) << 56 | u64::from(round) << 32 | u64::from(sequence))
    }

    pub(crate) fn logs(self) -> u32 {
        self.random().u32(1..=20)
    }

    /// Half of the groups have a hash key. The others go to shards in turn.
    pub(crate) fn hash_key(self) -> Option<HashKey> {
        let mut random = self.random();
        random.bool().then(|| HashKey(random.u128(..)))
    }

    pub(crate) fn encode(self) -> Vec<u8> {
        let Self { writer, round, sequence } = self;
        let mut random = self.random();
        let mut group = LogGroupBuilder::new(&Header { topic: Some(b"crash"), ..Header::default() });
        for index in 0..self.logs() {
            let mut log = group.begin_log(1_700_000_000 + sequence, None);
            log.field("id", format!("{writer}-{round}-{sequence}-{index}"));
            // Some logs are larger than a database page.
            let longest = if random.u8(..) < 8 { 8000 } else { 200 };
            let noise: String = (0..random.usize(..longest)).map(|_| random.alphanumeric()).collect();
            log.field("noise", noise);
            log.end_log();
        }
        group.finish()
    }

    /// Parses a group, and checks that its bytes are complete.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let view = LogGroupView::parse(bytes).unwrap();
        let log = view.logs().next().expect("a log");
        let (_, id) = log.fields().next().expect("an id");
        let id: Vec<u32> =
            str::from_utf8(id).unwrap().split('-').map(|number| number.parse().unwrap()).collect();
        let group = Self { writer: id[0], round: id[1], sequence: id[2] };
        assert!(bytes == group.encode(), "{group:?} is complete");
        group
    }

    pub(crate) async fn put(self, client: &Client) -> Result<(), ClientError> {
        let key = self.hash_key().map(|key| key.to_string());
        client.put(LOGSTORE, &self.encode(), key.as_deref()).await
    }
}

pub(crate) fn logs(groups: &[Group]) -> u64 {
    groups.iter().map(|group| u64::from(group.logs())).sum()
}

/// The results of puts.
#[derive(Default)]
pub(crate) struct Puts {
    pub(crate) acknowledged: Vec<Group>,
    /// The groups without a response: stored or not.
    pub(crate) unanswered: Vec<Group>,
    pub(crate) rejected: usize,
}

impl Puts {
    pub(crate) fn add(&mut self, other: Self) {
        self.acknowledged.extend(other.acknowledged);
        self.unanswered.extend(other.unanswered);
        self.rejected += other.rejected;
    }

    /// Checks the stored groups: each acknowledged group once, and no rejected one.
    pub(crate) fn check(&self, mut found: Vec<Group>) {
        found.sort_unstable();
        let twice = found.windows(2).find(|pair| pair[0] == pair[1]);
        assert_eq!(twice, None, "stored twice");
        let missing = self.acknowledged.iter().find(|group| found.binary_search(group).is_err());
        assert_eq!(missing, None, "acknowledged, but missing");
        let expected: BTreeSet<_> = self.acknowledged.iter().chain(&self.unanswered).collect();
        let unexpected = found.iter().find(|group| !expected.contains(group));
        assert_eq!(unexpected, None, "rejected or from another round, but stored");
    }
}

/// Runs all writers. Each puts at most `groups` groups.
pub(crate) async fn write(client: &Client, round: u32, groups: u32) -> Puts {
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write_alone(client.clone(), writer, round, groups));
    }
    let mut all = Puts::default();
    writers.join_all().await.into_iter().for_each(|puts| all.add(puts));
    all
}

/// Puts groups until no shard accepts even the smallest one.
pub(crate) async fn fill(client: &Client) {
    write(client, 0, u32::MAX).await;
    let mut smallest = LogGroupBuilder::new(&Header::default());
    smallest.begin_log(0, None).end_log();
    let smallest = smallest.finish();
    let mut rejected = 0;
    while rejected < 2 * SHARDS {
        let put = client.put(LOGSTORE, &smallest, None).await;
        rejected = if put.is_ok() { 0 } else { rejected + 1 };
    }
}

/// Puts groups until the service is gone or has rejected 20 of them.
pub(crate) async fn write_alone(client: Client, writer: u32, round: u32, groups: u32) -> Puts {
    let mut puts = Puts::default();
    for sequence in 0..groups {
        let group = Group { writer, round, sequence };
        match group.put(&client).await {
            Ok(()) => puts.acknowledged.push(group),
            Err(ClientError::Rejected(error)) if error.code == ErrorCode::InternalServerError => {
                puts.rejected += 1;
                if puts.rejected == 20 {
                    break;
                }
            }
            Err(error) => {
                assert_gone(&error);
                puts.unanswered.push(group);
                break;
            }
        }
    }
    puts
}

/// Asserts that the connection ended: a killed service sends no error response.
pub(crate) fn assert_gone(error: &ClientError) {
    assert!(matches!(error, ClientError::Connection { .. }), "{error}");
}
