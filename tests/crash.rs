//! The Logstore service under sudden death, and on a full disk: what it answered holds.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, fs, thread};

use fastrand::Rng;
use logship::client::{Client, ClientError, Endpoint};
use logship::service::keys::KeyFile;
use logship_sls::cursor::Cursor;
use logship_sls::error::ErrorCode;
use logship_sls::hash_key::{HashKey, HashRange};
use logship_sls::log_group::{self, Header, LogGroupBuilder, LogGroupView};
use reqwest::Method;
use rusqlite::{Connection, OpenFlags};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

const PROJECT: &str = "crash";
const LOGSTORE: &str = "logs";
const SHARDS: u32 = 4;
const ROUNDS: u32 = 100;
const WRITERS: u32 = 8;

/// One consumer has all shards of this group, for ever, and saves checkpoints.
const STEADY: &str = "steady";
/// Consumers of this group come one after the other, so that shards go from hand to hand.
const HANDOVER: &str = "handover";
const CONSUMERS: u32 = 3;
/// No consumer is taken for dead while a test runs.
const TIMEOUT_SECONDS: u32 = 86_400;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_survives_sudden_death() {
    let mut random = Rng::with_seed(seed());
    let data = tempfile::tempdir().unwrap();
    let mut server = restart(data.path(), &mut random);
    make_logstore(&server.client).await;
    let mut shards = shards(&server.client).await;
    let (begun, mut acknowledged, mut pulled) = (Instant::now(), 0, 0);
    for round in 0..ROUNDS {
        let traffic = Traffic::start(&server.client, round, &shards, &mut random).await;
        tokio::time::sleep(Duration::from_millis(random.u64(20..=300))).await;
        server.child.kill();
        let seen = traffic.end().await;
        assert_eq!(seen.puts.refused, 0);
        acknowledged += logs(&seen.puts.acknowledged);
        pulled += seen.shards.iter().map(|shard| logs(&shard.groups)).sum::<u64>();

        server = restart(data.path(), &mut random);
        let mut new = vec![];
        for (shard, seen) in shards.iter_mut().zip(&seen.shards) {
            new.extend(shard.verify(&server.client, seen, &mut random).await);
        }
        seen.puts.check(new);
        settle(&server.client, &seen.owners, &mut random).await;
        check_integrity(data.path());
    }
    let found = shards.iter().map(|shard| logs(&shard.groups)).sum::<u64>();
    println!(
        "{ROUNDS} rounds in {:.1?}: {acknowledged} logs acknowledged, {found} found, {pulled} pulled meanwhile",
        begun.elapsed(),
    );
    assert!(pulled > 0, "some positions were told before the service died");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_puts_and_nothing_else() {
    // The first has no room for the write-ahead log; the second has, but not to write it back.
    for room in [8 << 20, 40 << 20] {
        let disk = SmallDisk::new(room);
        let data = disk.data();
        let server = disk.serve();
        make_logstore(&server.client).await;
        let mut shards = shards(&server.client).await;
        let puts = write(&server.client, 0, u32::MAX).await;
        assert!(puts.refused > 0 && !puts.acknowledged.is_empty() && puts.unanswered.is_empty());
        puts.check(new_groups(&mut shards, &server.client).await);

        disk.make_room(&server);
        let puts = write(&server.client, 1, 50).await;
        assert_eq!((puts.refused, puts.acknowledged.len() as u32), (0, 50 * WRITERS));
        puts.check(new_groups(&mut shards, &server.client).await);

        drop(server);
        let server = Server::start(&mut serve(&data), &data);
        for shard in &shards {
            assert_eq!(shard.groups, shard.from(&server.client, shard.begin).await);
        }
        check_integrity(&data);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_gives_no_shard_to_two() {
    let disk = SmallDisk::new(8 << 20);
    let server = disk.serve();
    make_logstore(&server.client).await;
    make_group(&server.client, HANDOVER).await;
    fill(&server.client).await;
    let owners = Owners::default();
    for _ in 0..2 {
        // Refused or not: what a consumer is told holds.
        let _ = owners.ask(&server.client, 0).await;
    }
    disk.make_room(&server);
    drop(server);
    let server = Server::start(&mut serve(&disk.data()), &disk.data());
    owners.ask(&server.client, 1).await.unwrap();
}

/// Where random numbers begin: printed, so that the same test can be run again.
fn seed() -> u64 {
    let given = env::var("LOGSHIP_CRASH_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    println!("LOGSHIP_CRASH_SEED={seed}");
    seed
}

/// A process that is killed when the test is over, and also when it fails.
struct Killed(Child);

impl Killed {
    /// Gives it no chance to tidy up. The second time nothing happens.
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A service that runs.
struct Server {
    child: Killed,
    client: Client,
}

fn serve(data: &Path) -> Command {
    let mut command = support::logship();
    command.args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--data"]).arg(data);
    command
}

impl Server {
    /// Starts one, and waits until it serves.
    fn start(command: &mut Command, data: &Path) -> Self {
        let mut child = Killed(command.stderr(Stdio::piped()).spawn().unwrap());
        // Shown by a test that fails.
        let log = BufReader::new(child.0.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut log = log.inspect(|line| eprintln!("{line}"));
        let url = log.find_map(|line| serving(&line)).expect("it serves");
        thread::spawn(move || log.for_each(drop));
        let key = KeyFile::within(data).read().unwrap().remove(0);
        let url = url.parse().unwrap();
        let endpoint = Endpoint { url, key_id: key.id, secret: key.secret, token: None, region: None };
        Self { child, client: Client::new(endpoint, PROJECT).unwrap() }
    }
}

/// The URL, in the line of the log that has it.
fn serving(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    (line["message"] == "serving").then(|| line["url"].as_str().unwrap().to_owned())
}

/// Starts the service. Now and then it is killed before it serves, too.
fn restart(data: &Path, random: &mut Rng) -> Server {
    while random.u8(..4) == 0 {
        let _started = Killed(serve(data).stderr(Stdio::null()).spawn().unwrap());
        thread::sleep(Duration::from_millis(random.u64(..30)));
    }
    Server::start(&mut serve(data), data)
}

/// Beside the running service: the last to close a database would tidy up what a crash left.
fn check_integrity(data: &Path) {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags(data.join("logstore.db"), flags).unwrap();
    let found: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(found, "ok");
}

async fn make_logstore(client: &Client) {
    let logstore = json!({ "logstoreName": LOGSTORE, "ttl": 3650, "shardCount": SHARDS });
    for (path, body) in [("/", json!({ "projectName": PROJECT })), ("/logstores", logstore)] {
        client.send_json(Method::POST, path, &[], &body).await.unwrap();
    }
    make_group(client, STEADY).await;
    assert_eq!(heartbeat(client, STEADY, STEADY, vec![]).await.unwrap(), all_shards());
}

async fn make_group(client: &Client, name: &str) {
    let body = json!({ "consumerGroup": name, "timeout": TIMEOUT_SECONDS, "order": false });
    let path = format!("/logstores/{LOGSTORE}/consumergroups");
    client.send_json(Method::POST, &path, &[], &body).await.unwrap();
}

async fn delete_group(client: &Client, name: &str) {
    client.send_json(Method::DELETE, &group_path(name), &[], &Value::Null).await.unwrap();
}

fn group_path(name: &str) -> String {
    format!("/logstores/{LOGSTORE}/consumergroups/{name}")
}

fn all_shards() -> Vec<u32> {
    (0..SHARDS).collect()
}

/// What one put brings. All of it follows from these numbers, so that what comes back is compared byte by byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    writer: u32,
    round: u32,
    sequence: u32,
}

impl Group {
    fn random(self) -> Rng {
        let Self { writer, round, sequence } = self;
        Rng::with_seed(u64::from(writer) << 56 | u64::from(round) << 32 | u64::from(sequence))
    }

    fn logs(self) -> u32 {
        self.random().u32(1..=20)
    }

    /// Half of them say where they belong; the others go to the shard whose turn it is.
    fn hash_key(self) -> Option<HashKey> {
        let mut random = self.random();
        random.bool().then(|| HashKey(random.u128(..)))
    }

    fn encode(self) -> Vec<u8> {
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
    fn of(bytes: &[u8]) -> Self {
        let view = LogGroupView::parse(bytes).unwrap();
        let log = view.logs().next().expect("a log");
        let (_, id) = log.fields().next().expect("its id");
        let id: Vec<u32> =
            str::from_utf8(id).unwrap().split('-').map(|number| number.parse().unwrap()).collect();
        let group = Self { writer: id[0], round: id[1], sequence: id[2] };
        assert!(bytes == group.encode(), "{group:?} is whole");
        group
    }

    async fn put(self, client: &Client) -> Result<(), ClientError> {
        let key = self.hash_key().map(|key| key.to_string());
        client.put(LOGSTORE, &self.encode(), key.as_deref()).await
    }
}

fn logs(groups: &[Group]) -> u64 {
    groups.iter().map(|group| u64::from(group.logs())).sum()
}

/// What came of puts.
#[derive(Default)]
struct Puts {
    acknowledged: Vec<Group>,
    /// These may be stored or not.
    unanswered: Vec<Group>,
    refused: usize,
}

impl Puts {
    fn add(&mut self, other: Self) {
        self.acknowledged.extend(other.acknowledged);
        self.unanswered.extend(other.unanswered);
        self.refused += other.refused;
    }

    /// Checks what was found of them: what was acknowledged once, and nothing that was refused.
    fn check(&self, mut found: Vec<Group>) {
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
async fn write(client: &Client, round: u32, groups: u32) -> Puts {
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write_alone(client.clone(), writer, round, groups));
    }
    let mut all = Puts::default();
    writers.join_all().await.into_iter().for_each(|puts| all.add(puts));
    all
}

/// Puts until there is no room for the smallest of groups in any shard.
async fn fill(client: &Client) {
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
async fn write_alone(client: Client, writer: u32, round: u32, groups: u32) -> Puts {
    let mut puts = Puts::default();
    for sequence in 0..groups {
        let group = Group { writer, round, sequence };
        match group.put(&client).await {
            Ok(()) => puts.acknowledged.push(group),
            Err(ClientError::Refused(error)) if error.code == ErrorCode::InternalServerError => {
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
fn assert_gone(error: &ClientError) {
    assert!(matches!(error, ClientError::Connection { .. }), "{error}");
}

/// What is known of a shard.
struct Shard {
    number: u32,
    keys: HashRange,
    begin: u64,
    /// The groups from `begin` on, each at the next position.
    groups: Vec<Group>,
    /// The position that was told of a time.
    times: BTreeMap<u64, u64>,
}

async fn shards(client: &Client) -> Vec<Shard> {
    let mut shards = vec![];
    for (number, keys) in (0..).zip(HashRange::evenly(SHARDS)) {
        let begin = client.cursor(LOGSTORE, number, "begin").await.unwrap().0;
        shards.push(Shard { number, keys, begin, groups: vec![], times: BTreeMap::new() });
    }
    shards
}

/// The groups of all shards that weren't known yet.
async fn new_groups(shards: &mut [Shard], client: &Client) -> Vec<Group> {
    let mut new = vec![];
    for shard in shards {
        new.extend(shard.new_groups(client).await);
    }
    new
}

impl Shard {
    fn end(&self) -> u64 {
        self.begin + self.groups.len() as u64
    }

    /// All groups from a position on.
    async fn from(&self, client: &Client, position: u64) -> Vec<Group> {
        let mut groups = vec![];
        loop {
            let more = pull(client, self.number, position + groups.len() as u64, 0).await.unwrap();
            if more.is_empty() {
                return groups;
            }
            groups.extend(more);
        }
    }

    async fn new_groups(&mut self, client: &Client) -> Vec<Group> {
        let new = self.from(client, self.end()).await;
        let astray = new.iter().find(|group| group.hash_key().is_some_and(|key| !self.keys.contains(key)));
        assert_eq!(astray, None, "shard {} has other keys", self.number);
        self.groups.extend(&new);
        new
    }

    /// Checks after a restart that all is as it was told before. Returns the groups that are new.
    async fn verify(&mut self, client: &Client, seen: &Seen, random: &mut Rng) -> Vec<Group> {
        let new = self.new_groups(client).await;
        assert!(new.starts_with(&seen.groups), "shard {} has what was pulled, where it was", self.number);
        assert!(self.end() >= seen.end, "shard {} ends before {}", self.number, seen.end);
        let checkpoint = checkpoint(client, self.number).await;
        let told = [seen.saved, seen.saving];
        assert!(told.contains(&checkpoint), "shard {}: {checkpoint:?} is none of {told:?}", self.number);
        self.times.extend(seen.time);
        self.verify_anywhere(client, random).await;
        new
    }

    /// Checks some of the older positions, and what is told of older times.
    async fn verify_anywhere(&self, client: &Client, random: &mut Rng) {
        for _ in 0..2 {
            let index = random.usize(..=self.groups.len());
            let found = pull(client, self.number, self.begin + index as u64, 0).await.unwrap();
            assert!(self.groups[index..].starts_with(&found), "shard {} from {index} on", self.number);
        }
        if let Some((time, position)) = random.choice(&self.times) {
            let told = client.cursor(LOGSTORE, self.number, &time.to_string()).await.unwrap();
            assert_eq!(told.0, *position, "shard {} at {time}", self.number);
        }
    }
}

/// The groups from a position on, as many as a reply has.
async fn pull(client: &Client, shard: u32, from: u64, wait: u32) -> Result<Vec<Group>, ClientError> {
    let pulled = client.pull(LOGSTORE, shard, Cursor(from), wait).await?;
    let groups: Vec<_> = log_group::groups(&pulled.list).map(|group| Group::of(group.unwrap())).collect();
    assert_eq!(pulled.next.0, from + groups.len() as u64, "positions are consecutive");
    Ok(groups)
}

/// Where the steady group goes on with the shard, if it ever said so.
async fn checkpoint(client: &Client, shard: u32) -> Option<u64> {
    let shard = shard.to_string();
    let found: Value = client.get(&group_path(STEADY), &[("shard", &shard)]).await.unwrap();
    let cursor = found[0]["checkpoint"].as_str().expect("a checkpoint");
    (!cursor.is_empty()).then(|| Cursor::decode(cursor).unwrap().0)
}

async fn save_checkpoint(client: &Client, shard: u32, position: u64) -> Result<(), ClientError> {
    let body = json!({ "shard": shard, "checkpoint": Cursor(position).encode() });
    let query = [("type", "checkpoint"), ("consumer", STEADY), ("forceSuccess", "false")];
    client.send_json(Method::POST, &group_path(STEADY), &query, &body).await.map(drop)
}

/// What was told of a shard in a round.
#[derive(Debug)]
struct Seen {
    begin: u64,
    /// The groups from there on.
    groups: Vec<Group>,
    end: u64,
    /// A time, and its position.
    time: Option<(u64, u64)>,
    /// The last checkpoint that was acknowledged, and the last that was sent.
    saved: Option<u64>,
    saving: Option<u64>,
}

impl Seen {
    fn next(&self) -> u64 {
        self.begin + self.groups.len() as u64
    }

    /// Reads the shard, and saves how far it is, until the service is gone.
    async fn follow(&mut self, client: &Client, shard: u32) -> Result<(), ClientError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        self.time = Some((now, client.cursor(LOGSTORE, shard, &now.to_string()).await?.0));
        loop {
            let end = client.cursor(LOGSTORE, shard, "end").await?.0;
            assert!(end >= self.end.max(self.next()));
            self.end = end;
            self.groups.extend(pull(client, shard, self.next(), 1).await?);
            self.saving = Some(self.next());
            save_checkpoint(client, shard, self.next()).await?;
            self.saved = self.saving;
        }
    }
}

/// The steady group's consumer, with one of its shards.
async fn consume(client: Client, shard: u32, begin: u64) -> (u32, Seen) {
    let saved = checkpoint(&client, shard).await;
    let mut seen = Seen { begin, groups: vec![], end: begin, time: None, saved, saving: saved };
    assert_gone(&seen.follow(&client, shard).await.unwrap_err());
    (shard, seen)
}

/// Says that the consumer is there, and what it may be working on. Returns what it shall own.
async fn heartbeat(
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
struct Owners(Mutex<BTreeMap<u32, u32>>);

impl Owners {
    /// One heartbeat, and the beginning of work.
    async fn ask(&self, client: &Client, consumer: u32) -> Result<Vec<u32>, ClientError> {
        let mine = self.of(consumer);
        let given = heartbeat(client, HANDOVER, &format!("consumer-{consumer}"), mine).await?;
        let mut owners = self.0.lock().unwrap();
        for &shard in &given {
            let owner = *owners.entry(shard).or_insert(consumer);
            assert_eq!(owner, consumer, "shard {shard} is given to two");
        }
        Ok(given)
    }

    fn of(&self, consumer: u32) -> Vec<u32> {
        let owners = self.0.lock().unwrap();
        owners.iter().filter(|&(_, owner)| *owner == consumer).map(|(shard, _)| *shard).collect()
    }

    /// Ends the consumer's work on shards other than these.
    fn finish(&self, consumer: u32, given: &[u32]) {
        self.0.lock().unwrap().retain(|shard, owner| *owner != consumer || given.contains(shard));
    }
}

/// A consumer that comes late, and takes its time to give up shards, until the service is gone.
async fn hand_over(client: Client, owners: Arc<Owners>, consumer: u32, mut random: Rng) {
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
async fn settle(client: &Client, owners: &Owners, random: &mut Rng) {
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

/// Everybody who speaks to the service at once.
struct Traffic {
    puts: tokio::task::JoinHandle<Puts>,
    shards: JoinSet<(u32, Seen)>,
    consumers: JoinSet<()>,
    owners: Arc<Owners>,
}

/// What they were told.
struct Told {
    puts: Puts,
    shards: Vec<Seen>,
    owners: Arc<Owners>,
}

impl Traffic {
    async fn start(client: &Client, round: u32, shards: &[Shard], random: &mut Rng) -> Self {
        let kept = heartbeat(client, STEADY, STEADY, all_shards()).await.unwrap();
        assert_eq!(kept, all_shards(), "the only consumer keeps all shards");
        if round > 0 {
            delete_group(client, HANDOVER).await;
        }
        make_group(client, HANDOVER).await;
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

    /// Waits until all have noticed that the service is gone.
    async fn end(self) -> Told {
        self.consumers.join_all().await;
        let mut shards = self.shards.join_all().await;
        shards.sort_by_key(|(shard, _)| *shard);
        Told {
            puts: self.puts.await.unwrap(),
            shards: shards.into_iter().map(|(_, seen)| seen).collect(),
            owners: self.owners,
        }
    }
}

/// A disk that is full soon. Only root may make one; without, the size that a file may have is it.
struct SmallDisk {
    directory: TempDir,
    mounted: bool,
    room: u64,
}

impl SmallDisk {
    /// One with room for so many bytes. A filler takes the rest: more than enough to go on without it.
    fn new(room: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let filler = room + (16 << 20);
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={}", room + filler), "tmpfs"]).arg(directory.path());
        let mounted = mount.status().is_ok_and(|status| status.success());
        let disk = Self { directory, mounted, room };
        if mounted {
            fs::write(disk.filler(), vec![0; filler as usize]).unwrap();
        }
        disk
    }

    fn filler(&self) -> PathBuf {
        self.directory.path().join("filler")
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn serve(&self) -> Server {
        if self.mounted {
            return Server::start(&mut serve(&self.data()), &self.data());
        }
        // Ignored, the signal becomes an error of the write.
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]);
        let service = serve(&self.data());
        let server = Server::start(command.arg(service.get_program()).args(service.get_args()), &self.data());
        limit_files(&server, Some(self.room));
        server
    }

    fn make_room(&self, server: &Server) {
        if self.mounted {
            fs::remove_file(self.filler()).unwrap();
        } else {
            limit_files(server, getrlimit(Resource::Fsize).current);
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if self.mounted {
            // A panic here would hide why the test failed.
            let _ = Command::new("umount").arg(self.directory.path()).status();
        }
    }
}

/// Sets how many bytes a file of the service may have.
fn limit_files(server: &Server, current: Option<u64>) {
    let limit = Rlimit { current, maximum: getrlimit(Resource::Fsize).maximum };
    prlimit(Some(Pid::from_child(&server.child.0)), Resource::Fsize, limit).unwrap();
}
