//! The engine against a plain ordered map that keeps every version.
//!
//! proptest draws sequences of operations: single writes, conditional writes, snapshots with point reads and scans from
//! both ends, transactions that overlap in every order, sweeps. Each is done to the engine and to the model, and every
//! answer must agree: values, timestamps' order, conflicts down to the key they name, statistics, and how many versions
//! a sweep leaves. Everything happens in one order. Transactions run on threads of their own, because two that overlap
//! freely cannot be nested closures, but each step waits for its answer.
#![forbid(unsafe_code)]

#[allow(dead_code, reason = "each test binary uses a part of it")]
mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Scope, ScopedJoinHandle};

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use unlatched::{Database, Error, Result, RunId, Snapshot, Timestamp, Transaction};

/// Name spaces: two neighbours, and one whose every byte is 255, so that its range has no end above it.
const RUNS: [RunId; 3] = [
    RunId::from_bytes([1; 16]),
    RunId::from_bytes([2; 16]),
    RunId::from_bytes([255; 16]),
];

/// Transactions that may be open together.
const AGENTS: usize = 2;

/// Keys that meet often: of one byte to far past what a node holds inline, each a prefix of another or ending in 255.
fn key(number: usize) -> Vec<u8> {
    const LENGTHS: [usize; 9] = [1, 2, 3, 30, 31, 32, 33, 200, 3_000];
    match number {
        0..9 => vec![b'a'; LENGTHS[number]],
        9 => vec![0],
        10 => vec![255],
        11 => vec![255; 40],
        12 => b"ab".to_vec(),
        _ => format!("key/{number:04}").into_bytes(),
    }
}

/// Keys that operations on one key choose from; [`Op::Fill`] reaches more.
const KEYS: usize = 18;

/// A value of `length` bytes.
#[derive(Clone, Copy, Debug)]
struct Content {
    length: usize,
    first: u8,
}

impl Content {
    fn bytes(self) -> Vec<u8> {
        (0..self.length).map(|at| self.first.wrapping_add(at as u8)).collect()
    }
}

#[derive(Clone, Debug)]
enum Op {
    Get(usize, usize),
    Put(usize, usize, Content),
    Delete(usize, usize),
    /// With the right expectation or a wrong one.
    Cas(usize, usize, bool, Content),
    /// Puts many numbered keys, more than a scan fetches at once.
    Fill(usize, usize, usize, Content),
    /// Deletes many numbered keys.
    Clear(usize, usize, usize),
    Open,
    Close(usize),
    Read(usize, usize, usize),
    ReadMany(usize, usize),
    Scan(usize, usize, Window, Walk),
    Agent(usize, Step),
    Sweep,
}

/// What a scan covers.
#[derive(Clone, Debug)]
enum Window {
    Range(Bound<usize>, Bound<usize>),
    Prefix(Vec<u8>),
}

/// How a scan is consumed: a bit says which end is next. After some records a write disturbs it.
#[derive(Clone, Copy, Debug)]
struct Walk {
    ends: u64,
    disturbed_after: usize,
    disturbed_key: usize,
    content: Content,
}

/// One step of a transaction.
#[derive(Clone, Debug)]
enum Step {
    Begin(usize),
    Get(usize),
    Put(usize, Content),
    Delete(usize),
    Cas(usize, bool, Content),
    Scan(Vec<u8>),
    Commit,
    Abort,
}

fn content() -> impl Strategy<Value = Content> {
    let length = prop_oneof![2 => Just(0), 6 => 1_usize..40, 1 => 40_usize..6_000];
    (length, any::<u8>()).prop_map(|(length, first)| Content { length, first })
}

fn prefix() -> impl Strategy<Value = Vec<u8>> {
    let prefixes: [&[u8]; 8] = [b"", b"a", b"aaaa", b"key/", b"key/00", b"\xff", b"\xff\xff", b"zz"];
    prop::sample::select(prefixes.map(<[u8]>::to_vec).to_vec())
}

fn bound() -> impl Strategy<Value = Bound<usize>> {
    prop_oneof![
        Just(Bound::Unbounded),
        (0..KEYS).prop_map(Bound::Included),
        (0..KEYS).prop_map(Bound::Excluded),
    ]
}

fn window() -> impl Strategy<Value = Window> {
    prop_oneof![
        (bound(), bound()).prop_map(|(from, to)| Window::Range(from, to)),
        prefix().prop_map(Window::Prefix),
    ]
}

fn walk() -> impl Strategy<Value = Walk> {
    let ends = prop_oneof![Just(0), Just(u64::MAX), any::<u64>()];
    (ends, 0_usize..100, 0..KEYS, content()).prop_map(|(ends, disturbed_after, disturbed_key, content)| Walk {
        ends,
        disturbed_after,
        disturbed_key,
        content,
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..RUNS.len()).prop_map(Step::Begin),
        4 => (0..KEYS).prop_map(Step::Get),
        8 => (0..KEYS, content()).prop_map(|(key, content)| Step::Put(key, content)),
        3 => (0..KEYS).prop_map(Step::Delete),
        3 => (0..KEYS, any::<bool>(), content()).prop_map(|(key, right, content)| Step::Cas(key, right, content)),
        2 => prefix().prop_map(Step::Scan),
        4 => Just(Step::Commit),
        1 => Just(Step::Abort),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let run = 0..RUNS.len();
    let many = (run.clone(), 0_usize..60, 50_usize..110);
    prop_oneof![
        6 => (run.clone(), 0..KEYS).prop_map(|(run, key)| Op::Get(run, key)),
        16 => (run.clone(), 0..KEYS, content()).prop_map(|(run, key, content)| Op::Put(run, key, content)),
        8 => (run.clone(), 0..KEYS).prop_map(|(run, key)| Op::Delete(run, key)),
        6 => (run.clone(), 0..KEYS, any::<bool>(), content())
            .prop_map(|(run, key, right, content)| Op::Cas(run, key, right, content)),
        1 => (many.clone(), content()).prop_map(|((run, first, count), content)| Op::Fill(run, first, count, content)),
        1 => many.prop_map(|(run, first, count)| Op::Clear(run, first, count)),
        5 => Just(Op::Open),
        4 => any::<usize>().prop_map(Op::Close),
        8 => (any::<usize>(), run.clone(), 0..KEYS).prop_map(|(which, run, key)| Op::Read(which, run, key)),
        2 => (any::<usize>(), run.clone()).prop_map(|(which, run)| Op::ReadMany(which, run)),
        6 => (any::<usize>(), run, window(), walk())
            .prop_map(|(which, run, window, walk)| Op::Scan(which, run, window, walk)),
        40 => (0..AGENTS, step()).prop_map(|(agent, step)| Op::Agent(agent, step)),
        3 => Just(Op::Sweep),
    ]
}

/// A version as the model keeps it.
struct Version {
    /// The number of its commit in the one order of everything.
    commit: u64,
    /// Where the engine told it.
    timestamp: Option<Timestamp>,
    value: Option<Vec<u8>>,
}

/// Every version of every key, oldest first.
#[derive(Default)]
struct Model {
    versions: BTreeMap<(usize, Vec<u8>), Vec<Version>>,
    /// Keys at whose head an aborted transaction has left a version.
    aborted_heads: BTreeSet<(usize, Vec<u8>)>,
    commits: u64,
    conflicts: u64,
}

impl Model {
    /// Returns the version of a key as of a commit.
    fn at(&self, run: usize, key: &[u8], commit: u64) -> Option<&Version> {
        let versions = self.versions.get(&(run, key.to_vec()))?;
        versions.iter().rev().find(|version| version.commit <= commit)
    }

    fn value_at(&self, run: usize, key: &[u8], commit: u64) -> Option<Vec<u8>> {
        self.at(run, key, commit)?.value.clone()
    }

    /// Returns what `cas` expects of a key as of a commit.
    fn timestamp_at(&self, run: usize, key: &[u8], commit: u64) -> Timestamp {
        match self.at(run, key, commit) {
            Some(version) if version.value.is_some() => version.timestamp.expect("values have known timestamps"),
            _ => Timestamp::ABSENT,
        }
    }

    /// Returns a run's records as of a commit.
    fn records(&self, run: usize, commit: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
        let keys = self.versions.keys().filter(|(of, _)| *of == run);
        keys.filter_map(|(_, key)| Some((key.clone(), self.value_at(run, key, commit)?)))
            .collect()
    }

    /// Adds a version of the commit that is being recorded.
    fn add(&mut self, run: usize, key: Vec<u8>, timestamp: Option<Timestamp>, value: Option<Vec<u8>>) {
        self.aborted_heads.remove(&(run, key.clone()));
        let versions = self.versions.entry((run, key)).or_default();
        let last = versions.iter().rev().find_map(|version| version.timestamp);
        assert!(timestamp.is_none() || timestamp > last, "a key's timestamps increase");
        versions.push(Version {
            commit: self.commits,
            timestamp,
            value,
        });
    }

    /// Returns the least and the greatest number of versions that a complete sweep may leave while the snapshots taken
    /// after the commits `held` are open: of each key its newest and those that a snapshot sees; nothing of a key whose
    /// tombstone everyone sees. Whether an old tombstone lies below newer versions depends on whether the key was
    /// removed in between.
    fn versions_after_sweep(&self, held: &[u64]) -> (u64, u64) {
        let (mut least, mut most) = (0, 0);
        for (key, versions) in &self.versions {
            let newest = versions.len() - 1;
            let seen_by = |held: &u64| versions.iter().rposition(|version| version.commit <= *held);
            let kept: BTreeSet<_> = held.iter().filter_map(seen_by).chain([newest]).collect();
            let is_tombstone = |at: usize| versions[at].value.is_none();
            if is_tombstone(newest) && kept.len() == 1 && held.iter().all(|held| *held >= versions[newest].commit) {
                continue;
            }
            let kept_count = kept.len() as u64 + u64::from(self.aborted_heads.contains(key));
            let oldest = *kept.first().expect("the newest is kept");
            most += kept_count;
            least += kept_count - u64::from(oldest != newest && is_tombstone(oldest));
        }
        (least, most)
    }
}

/// What an agent is asked to do with its transaction.
enum Work {
    Call(Box<dyn FnOnce(&mut Transaction<'_>) + Send>),
    Commit,
}

/// An open transaction on a thread of its own, and what the model knows of it.
struct Agent<'scope> {
    work: Sender<Work>,
    thread: ScopedJoinHandle<'scope, Result<()>>,
    run: usize,
    /// The last commit that it sees.
    sees: u64,
    writes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl<'scope> Agent<'scope> {
    fn begin<'env>(
        scope: &'scope Scope<'scope, 'env>,
        database: &'env Database,
        run: usize,
        sees: u64,
    ) -> (Self, Timestamp) {
        let (work, tasks): (Sender<Work>, Receiver<Work>) = channel();
        let (begun, timestamp) = channel();
        let thread = scope.spawn(move || {
            database.transaction(RUNS[run], |transaction| {
                begun.send(transaction.read_timestamp()).expect("the test waits for it");
                loop {
                    match tasks.recv() {
                        Ok(Work::Call(body)) => body(transaction),
                        Ok(Work::Commit) => return Ok(()),
                        Err(_) => return Err(Error::user("aborted by the test")),
                    }
                }
            })
        });
        let timestamp = timestamp.recv().expect("the transaction begins");
        let agent = Self {
            work,
            thread,
            run,
            sees,
            writes: BTreeMap::new(),
        };
        (agent, timestamp)
    }

    /// Runs `body` in the transaction.
    fn call<T: Send + 'static>(&self, body: impl FnOnce(&mut Transaction<'_>) -> T + Send + 'static) -> T {
        let (sender, answer) = channel();
        let call = Box::new(move |transaction: &mut Transaction<'_>| {
            let _ = sender.send(body(transaction));
        });
        self.work.send(Work::Call(call)).expect("the transaction is open");
        answer.recv().expect("the call returns")
    }

    fn value(&self, model: &Model, key: &[u8]) -> Option<Vec<u8>> {
        match self.writes.get(key) {
            Some(own) => own.clone(),
            None => model.value_at(self.run, key, self.sees),
        }
    }

    /// Does one step that leaves the transaction open, to both.
    fn step(&mut self, model: &Model, step: Step) {
        match step {
            Step::Get(number) => {
                let wanted = self.value(model, &key(number));
                let found = self.call(move |txn| (txn.exists(key(number)), txn.get(key(number))));
                assert_eq!(found.0.expect("exists"), wanted.is_some());
                assert_eq!(found.1.expect("get"), wanted);
            }
            Step::Put(number, content) => {
                self.call(move |txn| txn.put(key(number), content.bytes()))
                    .expect("put");
                self.writes.insert(key(number), Some(content.bytes()));
            }
            Step::Delete(number) => {
                let existed = self.value(model, &key(number)).is_some();
                assert_eq!(self.call(move |txn| txn.delete(key(number))).expect("delete"), existed);
                if existed {
                    self.writes.insert(key(number), None);
                }
            }
            Step::Cas(number, right, content) => {
                let actual = model.timestamp_at(self.run, &key(number), self.sees);
                let expected = if right { actual } else { wrong(actual) };
                let result = self.call(move |txn| txn.cas(key(number), expected, content.bytes()));
                match result {
                    Ok(()) => {
                        assert!(right && !self.writes.contains_key(&key(number)));
                        self.writes.insert(key(number), Some(content.bytes()));
                    }
                    Err(Error::InvalidOperation(_)) => assert!(self.writes.contains_key(&key(number))),
                    Err(Error::VersionMismatch { actual: found, .. }) => assert!(!right && found == actual),
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Scan(prefix) => {
                let mut records: BTreeMap<_, _> = model.records(self.run, self.sees).into_iter().collect();
                for (key, value) in &self.writes {
                    match value {
                        Some(value) => records.insert(key.clone(), value.clone()),
                        None => records.remove(key),
                    };
                }
                records.retain(|key, _| key.starts_with(&prefix));
                let found = self.call(move |txn| txn.scan_prefix(&prefix)).expect("scan");
                assert!(found == records.into_iter().collect::<Vec<_>>(), "a transaction's scan");
            }
            Step::Begin(_) | Step::Commit | Step::Abort => unreachable!("they do not leave it open"),
        }
        let writes = self.writes.len();
        assert_eq!(self.call(|txn| txn.write_count()), writes);
    }

    /// Aborts; nothing changes.
    fn abort(self) {
        drop(self.work);
        let result = self.thread.join().expect("no panic");
        assert!(matches!(result, Err(Error::User(_))), "{result:?}");
    }

    /// Commits, to both: the first write in key order that somebody has written since decides.
    fn commit(self, database: &Database, model: &mut Model) {
        self.work.send(Work::Commit).expect("the transaction is open");
        let result = self.thread.join().expect("no panic");
        let newest = |key: &Vec<u8>| model.at(self.run, key, u64::MAX).map_or(0, |version| version.commit);
        let conflict = self.writes.keys().position(|key| newest(key) > self.sees);
        let Some(conflict) = conflict else {
            result.expect("nothing in its way");
            if self.writes.is_empty() {
                return;
            }
            model.commits += 1;
            let mut timestamps = BTreeSet::new();
            for (key, value) in self.writes {
                let found = database.get_with(RUNS[self.run], &key, |_, ts| ts).expect("get");
                assert_eq!(found.is_some(), value.is_some());
                timestamps.extend(found);
                model.add(self.run, key, found, value);
            }
            assert!(timestamps.len() <= 1, "one transaction has one timestamp");
            return;
        };
        model.conflicts += 1;
        let mut keys = self.writes.into_keys();
        for linked in keys.by_ref().take(conflict) {
            model.aborted_heads.insert((self.run, linked));
        }
        let Err(Error::Conflict { key }) = result else {
            panic!("write number {conflict} is in conflict, but: {result:?}");
        };
        assert_eq!(key.run(), RUNS[self.run]);
        assert_eq!(
            Some(key.user_key()),
            keys.next().as_deref(),
            "the conflict names its key"
        );
    }
}

/// Returns a timestamp that is not `actual`.
fn wrong(actual: Timestamp) -> Timestamp {
    Timestamp::from_raw(if actual == Timestamp::ABSENT {
        7
    } else {
        actual.get() - 1
    })
}

/// The engine, the model, and what is open on both.
struct Pair<'env> {
    database: &'env Database,
    model: Model,
    snapshots: Vec<(Snapshot<'env>, u64)>,
}

impl Pair<'_> {
    fn put(&mut self, run: usize, key: Vec<u8>, value: Vec<u8>) {
        let timestamp = self.database.put(RUNS[run], &key, &value).expect("put");
        self.model.commits += 1;
        self.model.add(run, key, Some(timestamp), Some(value));
        let newest_snapshot = self.snapshots.iter().map(|(snapshot, _)| snapshot.timestamp()).max();
        assert!(
            newest_snapshot < Some(timestamp),
            "commits come after the snapshots before them"
        );
    }

    fn delete(&mut self, run: usize, key: Vec<u8>) {
        let existed = self.model.value_at(run, &key, u64::MAX).is_some();
        assert_eq!(self.database.delete(RUNS[run], &key).expect("delete"), existed);
        if existed {
            self.model.commits += 1;
            self.model.add(run, key, None, None);
        }
    }

    fn cas(&mut self, run: usize, key: Vec<u8>, right: bool, value: Vec<u8>) {
        let actual = self.model.timestamp_at(run, &key, u64::MAX);
        let expected = if right { actual } else { wrong(actual) };
        match self.database.cas(RUNS[run], &key, expected, &value) {
            Ok(timestamp) => {
                assert!(right, "a wrong expectation is refused");
                self.model.commits += 1;
                self.model.add(run, key, Some(timestamp), Some(value));
            }
            Err(Error::VersionMismatch {
                key: named,
                expected: told,
                actual: found,
            }) => {
                assert!(!right, "the right expectation is met");
                assert_eq!((named.user_key(), told, found), (key.as_slice(), expected, actual));
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Reads a key by every way there is to read it.
    fn get(&self, run: usize, key: &[u8]) {
        let (run_id, newest) = (RUNS[run], self.model.at(run, key, u64::MAX));
        let wanted = newest.and_then(|version| Some((version.value.clone()?, version.timestamp)));
        let found = self
            .database
            .get_with(run_id, key, |value, ts| (value.to_vec(), Some(ts)));
        assert_eq!(found.expect("get_with"), wanted);
        let (value, timestamp) = wanted.unzip();
        assert_eq!(self.database.get(run_id, key).expect("get"), value);
        let mut buffer = vec![9; 3];
        let found = self.database.get_into(run_id, key, &mut buffer).expect("get_into");
        assert_eq!(found, timestamp.flatten());
        assert_eq!(buffer, value.unwrap_or_default());
    }

    fn read(&self, which: usize, run: usize, key: &[u8]) {
        let (snapshot, sees) = &self.snapshots[which];
        let found = snapshot.get_with(RUNS[run], key, |value, ts| (value.to_vec(), ts));
        let found = found.expect("get_with");
        assert!(found.as_ref().is_none_or(|(_, ts)| *ts <= snapshot.timestamp()));
        assert_eq!(found.map(|(value, _)| value), self.model.value_at(run, key, *sees));
    }

    fn read_many(&self, which: usize, run: usize) {
        let (snapshot, sees) = &self.snapshots[which];
        let keys: Vec<_> = (0..KEYS).map(key).collect();
        let found = snapshot.get_many(RUNS[run], &keys).expect("get_many");
        let wanted = keys.iter().map(|key| self.model.value_at(run, key, *sees));
        assert!(found == wanted.collect::<Vec<_>>(), "many reads of one snapshot");
    }

    /// Consumes a scan from both ends, writing to the same run meanwhile.
    fn scan(&mut self, which: usize, run: usize, window: &Window, walk: Walk) {
        let (snapshot, sees) = self.snapshots.swap_remove(which);
        let mut wanted = self.model.records(run, sees);
        let mut scan = match window {
            Window::Prefix(prefix) => {
                wanted.retain(|(key, _)| key.starts_with(prefix));
                snapshot.prefix(RUNS[run], prefix)
            }
            Window::Range(from, to) => {
                let bounds = (from.map(key), to.map(key));
                wanted.retain(|(key, _)| is_within(key, &bounds));
                snapshot.range(RUNS[run], bounds)
            }
        };
        let mut wanted = wanted.into_iter();
        let mut ends = walk.ends;
        for taken in 0.. {
            if taken == walk.disturbed_after {
                self.put(run, key(walk.disturbed_key), walk.content.bytes());
                self.delete(run, key((walk.disturbed_key + 5) % KEYS));
            }
            let (found, wanted) = if ends & 1 == 0 {
                (scan.next(), wanted.next())
            } else {
                (scan.next_back(), wanted.next_back())
            };
            ends = ends.rotate_right(1);
            assert!(found == wanted, "record {taken}: {found:?} is not {wanted:?}");
            if found.is_none() {
                break;
            }
        }
        assert!(scan.next().is_none() && scan.next_back().is_none());
        drop(scan);
        self.snapshots.push((snapshot, sees));
    }

    /// Sweeps and compares what is left with the model. `begun` are the commits that open transactions see.
    fn sweep(&self, begun: &[u64]) {
        self.database.sweep();
        let held: Vec<_> = self
            .snapshots
            .iter()
            .map(|(_, sees)| *sees)
            .chain(begun.iter().copied())
            .collect();
        let (least, most) = self.model.versions_after_sweep(&held);
        let stats = self.database.stats();
        assert!(
            (least..=most).contains(&stats.live_versions),
            "{least} to {most} versions should be left, not {}",
            stats.live_versions
        );
        assert_eq!(stats.open_snapshots, held.len() as u64);
        assert_eq!(stats.commits, self.model.commits);
        assert_eq!(stats.conflicts, self.model.conflicts);
    }
}

fn is_within(key: &Vec<u8>, (from, to): &(Bound<Vec<u8>>, Bound<Vec<u8>>)) -> bool {
    let after = match from {
        Bound::Included(from) => key >= from,
        Bound::Excluded(from) => key > from,
        Bound::Unbounded => true,
    };
    let before = match to {
        Bound::Included(to) => key <= to,
        Bound::Excluded(to) => key < to,
        Bound::Unbounded => true,
    };
    after && before
}

/// Does one operation to both. Those that need a snapshot or a transaction which is not open do nothing.
fn apply<'scope, 'env>(
    pair: &mut Pair<'env>,
    agents: &mut [Option<Agent<'scope>>; AGENTS],
    scope: &'scope Scope<'scope, 'env>,
    op: Op,
) {
    let open = pair.snapshots.len().max(1);
    match op {
        Op::Get(run, number) => pair.get(run, &key(number)),
        Op::Put(run, number, content) => pair.put(run, key(number), content.bytes()),
        Op::Delete(run, number) => pair.delete(run, key(number)),
        Op::Cas(run, number, right, content) => pair.cas(run, key(number), right, content.bytes()),
        Op::Fill(run, first, count, content) => {
            (first..first + count).for_each(|number| pair.put(run, key(KEYS + number), content.bytes()));
        }
        Op::Clear(run, first, count) => (first..first + count).for_each(|number| pair.delete(run, key(KEYS + number))),
        Op::Open => {
            let snapshot = pair.database.snapshot().expect("snapshot");
            pair.snapshots.push((snapshot, pair.model.commits));
        }
        Op::Sweep => {
            let begun: Vec<_> = agents.iter().flatten().map(|agent| agent.sees).collect();
            pair.sweep(&begun);
        }
        Op::Agent(number, step) => match (agents[number].take(), step) {
            (None, Step::Begin(run)) => {
                let (agent, timestamp) = Agent::begin(scope, pair.database, run, pair.model.commits);
                let newest = pair
                    .model
                    .versions
                    .values()
                    .filter_map(|versions| versions.last()?.timestamp)
                    .max();
                assert!(newest <= Some(timestamp), "it sees what is committed");
                agents[number] = Some(agent);
            }
            (None, _) => {}
            (Some(agent), Step::Commit) => agent.commit(pair.database, &mut pair.model),
            (Some(agent), Step::Abort | Step::Begin(_)) => agent.abort(),
            (Some(mut agent), step) => {
                agent.step(&pair.model, step);
                agents[number] = Some(agent);
            }
        },
        _ if pair.snapshots.is_empty() => {}
        Op::Close(which) => drop(pair.snapshots.swap_remove(which % open)),
        Op::Read(which, run, number) => pair.read(which % open, run, &key(number)),
        Op::ReadMany(which, run) => pair.read_many(which % open, run),
        Op::Scan(which, run, window, walk) => pair.scan(which % open, run, &window, walk),
    }
}

/// Does all of `ops` to both, then closes everything: a sweep must leave one version of each key that has a value, but
/// for what aborted transactions left at heads, which the next write of the key bypasses.
fn run(ops: Vec<Op>) {
    let database = Database::in_memory().expect("open");
    std::thread::scope(|scope| {
        let mut pair = Pair {
            database: &database,
            model: Model::default(),
            snapshots: Vec::new(),
        };
        let mut agents = [const { None }; AGENTS];
        for op in ops {
            apply(&mut pair, &mut agents, scope, op);
        }
        for (which, (_, sees)) in pair.snapshots.iter().enumerate() {
            assert!(*sees <= pair.model.commits);
            (0..RUNS.len()).for_each(|run| pair.read_many(which, run));
        }
        agents.into_iter().flatten().for_each(Agent::abort);
        pair.snapshots.clear();
        for (run, key) in std::mem::take(&mut pair.model.aborted_heads) {
            pair.put(run, key, Vec::new());
        }
        pair.sweep(&[]);
        let live: usize = (0..RUNS.len()).map(|run| pair.model.records(run, u64::MAX).len()).sum();
        assert_eq!(database.stats().live_versions, live as u64);
    });
}

/// Goal: whatever is done in whatever order, the engine answers as a map that keeps every version would. Method: random
/// sequences, from a fixed seed.
#[test]
fn the_engine_agrees_with_a_map_of_every_version() {
    let config = ProptestConfig {
        cases: 1_000,
        rng_seed: RngSeed::Fixed(common::seed("model")),
        failure_persistence: None,
        max_shrink_iters: 4_000,
        ..ProptestConfig::default()
    };
    proptest!(config, |(ops in prop::collection::vec(op(), 1..150))| run(ops));
}
