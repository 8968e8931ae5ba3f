//! Log groups that are put, by writers at the same time, and what came of it.

use std::collections::BTreeSet;

use fastrand::Rng;
use logship::client::{Client, ClientError};
use logship_sls::error::ErrorCode;
use logship_sls::hash_key::HashKey;
use logship_sls::log_group::{Header, LogGroupBuilder, LogGroupView};
use tokio::task::JoinSet;

use super::*;

/// What one put brings. All of it follows from these numbers, so that what comes back is compared byte by byte.
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

    /// Half of them say where they belong; the others go to the shard whose turn it is.
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
            // A few are larger than a page of the database.
            let longest = if random.u8(..) < 8 { 8000 } else { 200 };
            let noise: String = (0..random.usize(..longest)).map(|_| random.alphanumeric()).collect();
            log.field("noise", noise);
            log.end_log();
        }
        group.finish()
    }

    /// The group of these bytes, which have to be all of it.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let view = LogGroupView::parse(bytes).unwrap();
        let log = view.logs().next().expect("a log");
        let (_, id) = log.fields().next().expect("its id");
        let id: Vec<u32> =
            str::from_utf8(id).unwrap().split('-').map(|number| number.parse().unwrap()).collect();
        let group = Self { writer: id[0], round: id[1], sequence: id[2] };
        assert!(bytes == group.encode(), "{group:?} is whole");
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

/// What came of puts.
#[derive(Default)]
pub(crate) struct Puts {
    pub(crate) acknowledged: Vec<Group>,
    /// These may be stored or not.
    pub(crate) unanswered: Vec<Group>,
    pub(crate) refused: usize,
}

impl Puts {
    pub(crate) fn add(&mut self, other: Self) {
        self.acknowledged.extend(other.acknowledged);
        self.unanswered.extend(other.unanswered);
        self.refused += other.refused;
    }

    /// Checks what was found of them: what was acknowledged once, and nothing that was refused.
    pub(crate) fn check(&self, mut found: Vec<Group>) {
        found.sort_unstable();
        let twice = found.windows(2).find(|pair| pair[0] == pair[1]);
        assert_eq!(twice, None, "stored twice");
        let missing = self.acknowledged.iter().find(|group| found.binary_search(group).is_err());
        assert_eq!(missing, None, "acknowledged, and gone");
        let expected: BTreeSet<_> = self.acknowledged.iter().chain(&self.unanswered).collect();
        let unexpected = found.iter().find(|group| !expected.contains(group));
        assert_eq!(unexpected, None, "refused, or of another round, and stored");
    }
}

/// Lets all writers write, each so many groups.
pub(crate) async fn write(client: &Client, round: u32, groups: u32) -> Puts {
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write_alone(client.clone(), writer, round, groups));
    }
    let mut all = Puts::default();
    writers.join_all().await.into_iter().for_each(|puts| all.add(puts));
    all
}

/// Puts until there is no room for the smallest of groups in any shard.
pub(crate) async fn fill(client: &Client) {
    write(client, 0, u32::MAX).await;
    let mut smallest = LogGroupBuilder::new(&Header::default());
    smallest.begin_log(0, None).end_log();
    let smallest = smallest.finish();
    let mut refused = 0;
    while refused < 2 * SHARDS {
        let put = client.put(LOGSTORE, &smallest, None).await;
        refused = if put.is_ok() { 0 } else { refused + 1 };
    }
}

/// Puts groups until the service is gone, or there seems to be no point in it.
pub(crate) async fn write_alone(client: Client, writer: u32, round: u32, groups: u32) -> Puts {
    let mut puts = Puts::default();
    for sequence in 0..groups {
        let group = Group { writer, round, sequence };
        match group.put(&client).await {
            Ok(()) => puts.acknowledged.push(group),
            Err(ClientError::Rejected(error)) if error.code == ErrorCode::InternalServerError => {
                puts.refused += 1;
                if puts.refused == 20 {
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

/// A service that is killed refuses nothing: the connection ends.
pub(crate) fn assert_gone(error: &ClientError) {
    assert!(matches!(error, ClientError::Connection { .. }), "{error}");
}
