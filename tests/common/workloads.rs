//! Concurrent workloads that check themselves, over anything that stores versions: the database, and the store beneath it with each
//! index, collector and clock.
//!
//! Every workload does a fixed amount of work from a seed, asserts only what must hold in every interleaving, and returns what the
//! store counted. It prints nothing, since printing allocates.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use unlatched::internals::{
    Chain, CrossbeamIndex, EpochReclaim, HyalineReclaim, LimboReclaim, ReaderDriven, SkipList, TICK, VersionedStore,
    Write, WriterDriven,
};
use unlatched::{Database, Error, Key, RunId, Stats, Timestamp, TypeTag};

use crate::common::{Random, stumble};

const RUN: RunId = RunId::from_bytes([4; 16]);

/// Reads a key of a snapshot.
pub(crate) type Read<'r> = dyn Fn(&str) -> Option<Vec<u8>> + 'r;

/// What a transaction writes: sorted by key, each once.
pub(crate) type Writes = Vec<(String, Option<Vec<u8>>)>;

/// A store of versions under test.
pub(crate) trait Engine: Sync {
    fn open() -> Self;
    fn put(&self, key: &str, value: &[u8]) -> Timestamp;
    fn get(&self, key: &str) -> Option<(Vec<u8>, Timestamp)>;
    fn delete(&self, key: &str) -> bool;
    fn cas(&self, key: &str, expected: Timestamp, value: &[u8]) -> Result<Timestamp, Timestamp>;
    fn snapshot<T>(&self, look: impl FnOnce(&Read<'_>) -> T) -> T;
    /// Runs one transaction; returns whether it committed, that is, met no conflict.
    fn transact(&self, body: impl FnOnce(&Read<'_>) -> Writes) -> bool;
    fn sweep(&self) -> u64;
    fn stats(&self) -> Stats;
}

impl Engine for Database {
    fn open() -> Self {
        Self::in_memory().expect("open")
    }

    fn put(&self, key: &str, value: &[u8]) -> Timestamp {
        self.put(RUN, key, value).expect("put")
    }

    fn get(&self, key: &str) -> Option<(Vec<u8>, Timestamp)> {
        self.get_with(RUN, key, |value, timestamp| (value.to_vec(), timestamp))
            .expect("get")
    }

    fn delete(&self, key: &str) -> bool {
        self.delete(RUN, key).expect("delete")
    }

    fn cas(&self, key: &str, expected: Timestamp, value: &[u8]) -> Result<Timestamp, Timestamp> {
        self.cas(RUN, key, expected, value).map_err(|error| match error {
            Error::VersionMismatch { actual, .. } => actual,
            other => panic!("{other}"),
        })
    }

    fn snapshot<T>(&self, look: impl FnOnce(&Read<'_>) -> T) -> T {
        let snapshot = self.snapshot().expect("snapshot");
        look(&|key| snapshot.get(RUN, key).expect("get"))
    }

    fn transact(&self, body: impl FnOnce(&Read<'_>) -> Writes) -> bool {
        let result = self.transaction(RUN, |txn| {
            let shared = std::cell::RefCell::new(txn);
            let writes = body(&|key| shared.borrow_mut().get(key).expect("get"));
            let txn = shared.into_inner();
            for (key, value) in writes {
                match value {
                    Some(value) => txn.put(key, value)?,
                    None => drop(txn.delete(key)?),
                }
            }
            Ok(())
        });
        match result {
            Ok(()) => true,
            Err(Error::Conflict { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    }

    fn sweep(&self) -> u64 {
        self.sweep()
    }

    fn stats(&self) -> Stats {
        self.stats()
    }
}

fn encoded(key: &str) -> Key {
    Key::new(&RUN, TypeTag::Raw, key.as_bytes())
}

/// The store over one index, one collector and one clock.
macro_rules! engine {
    ($name:ident, $index:ident, $reclaim:ty, $clock:ty) => {
        pub(crate) type $name = VersionedStore<$index<Chain>, $reclaim, $clock>;

        impl Engine for $name {
            fn open() -> Self {
                Self::new()
            }

            fn put(&self, key: &str, value: &[u8]) -> Timestamp {
                self.put(&encoded(key), value)
            }

            fn get(&self, key: &str) -> Option<(Vec<u8>, Timestamp)> {
                self.get_with(&encoded(key), |value, timestamp| (value.to_vec(), timestamp))
            }

            fn delete(&self, key: &str) -> bool {
                self.delete(&encoded(key)).is_some()
            }

            fn cas(&self, key: &str, expected: Timestamp, value: &[u8]) -> Result<Timestamp, Timestamp> {
                self.compare_and_put(&encoded(key), expected, value.len(), |bytes| {
                    bytes.copy_from_slice(value);
                })
            }

            fn snapshot<T>(&self, look: impl FnOnce(&Read<'_>) -> T) -> T {
                let snapshot = self.open_snapshot();
                let at = snapshot.timestamp();
                let result = look(&|key| self.get_at(&encoded(key), at, |value, _| value.to_vec()));
                self.close_snapshot(&snapshot);
                result
            }

            fn transact(&self, body: impl FnOnce(&Read<'_>) -> Writes) -> bool {
                let snapshot = self.open_snapshot();
                let at = snapshot.timestamp();
                let writes = body(&|key| self.get_at(&encoded(key), at, |value, _| value.to_vec()));
                let writes = writes.into_iter().map(|(key, value)| Write {
                    key: encoded(&key),
                    value: value.map(Vec::into_boxed_slice),
                });
                let writes: Vec<Write> = writes.collect();
                let result = self.commit(&snapshot, writes.as_slice());
                self.close_snapshot(&snapshot);
                result.is_ok()
            }

            fn sweep(&self) -> u64 {
                self.collect_garbage()
            }

            fn stats(&self) -> Stats {
                self.stats()
            }
        }
    };
}

engine!(EpochReaderDriven, CrossbeamIndex, EpochReclaim, ReaderDriven);
engine!(EpochWriterDriven, CrossbeamIndex, EpochReclaim, WriterDriven);
engine!(LimboReaderDriven, SkipList, LimboReclaim, ReaderDriven);
engine!(LimboWriterDriven, SkipList, LimboReclaim, WriterDriven);
engine!(SkipListEpoch, SkipList, EpochReclaim, WriterDriven);
engine!(SkipListHyaline, SkipList, HyalineReclaim, ReaderDriven);

/// Says whether the work that a watcher looks at is done.
pub(crate) struct Done<'d>(&'d AtomicBool);

impl Done<'_> {
    pub(crate) fn is_done(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

pub(crate) type Worker<'w> = Box<dyn FnOnce() + Send + 'w>;
pub(crate) type Watcher<'w> = Box<dyn FnOnce(&Done<'_>) + Send + 'w>;

/// Runs workers, and watchers beside them until the last worker is done, each on a thread of its own. All threads have
/// ended, their thread-local state included, when this returns.
///
/// Each of them stumbles at steps drawn from `seed`, so that operations overlap even on few processors.
pub(crate) fn run(seed: u64, workers: Vec<Worker<'_>>, watchers: Vec<Watcher<'_>>) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let done = &done;
        let mut handles = Vec::new();
        for (stream, worker) in (0..).zip(workers) {
            handles.push(scope.spawn(move || {
                stumble(seed, stream);
                worker();
            }));
        }
        let mut watching = Vec::new();
        for (stream, watcher) in (100..).zip(watchers) {
            watching.push(scope.spawn(move || {
                stumble(seed, stream);
                watcher(&Done(done));
            }));
        }
        // All are joined before a panic of any goes on: a watcher must not watch for ever.
        let mut results: Vec<_> = handles.into_iter().map(thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Release);
        results.extend(watching.into_iter().map(thread::ScopedJoinHandle::join));
        for result in results {
            if let Err(panic) = result {
                std::panic::resume_unwind(panic);
            }
        }
    });
}

/// Returns a watcher that sweeps.
pub(crate) fn sweeper<E: Engine>(engine: &E) -> Watcher<'_> {
    Box::new(|done| {
        while !done.is_done() {
            engine.sweep();
            thread::yield_now();
        }
    })
}

/// Returns a watcher that opens one snapshot at once, and reads all of `keys` again and again: they must never change.
pub(crate) fn repeater<'e, E: Engine>(engine: &'e E, keys: &'e [String]) -> Watcher<'e> {
    Box::new(|done| {
        engine.snapshot(|read| {
            let look = || keys.iter().map(|key| read(key)).collect::<Vec<_>>();
            let first = look();
            while !done.is_done() {
                assert!(look() == first, "a long-lived snapshot repeats");
                thread::yield_now();
            }
            assert!(look() == first, "a long-lived snapshot repeats");
        });
    })
}

fn number(value: &[u8]) -> u64 {
    u64::from_le_bytes(value.try_into().expect("eight bytes"))
}

/// Returns the number under a key, and its timestamp; zero if it is absent.
fn counted<E: Engine>(engine: &E, key: &str) -> (u64, Timestamp) {
    engine
        .get(key)
        .map_or((0, Timestamp::ABSENT), |(value, timestamp)| (number(&value), timestamp))
}

fn numbered(count: usize) -> Vec<String> {
    // Every third is longer than what a node of the index holds inline.
    let name = |number| format!("{number:04}{}", "-".repeat(if number % 3 == 0 { 60 } else { 0 }));
    (0..count).map(name).collect()
}

/// Counters incremented by `threads`, in turns by compare and swap and by transactions. No increment may be lost, and what a thread
/// swaps in has a greater timestamp than what it saw.
pub(crate) fn counters<E: Engine>(engine: &E, threads: usize, increments: usize, seed: u64) -> Stats {
    let keys = numbered(3);
    let increment = |key: &str, by_transaction: bool| {
        if by_transaction {
            return engine.transact(|read| {
                let next = read(key).map_or(0, |value| number(&value)) + 1;
                vec![(key.to_owned(), Some(next.to_le_bytes().to_vec()))]
            });
        }
        let (count, seen) = counted(engine, key);
        match engine.cas(key, seen, &(count + 1).to_le_bytes()) {
            Ok(swapped) => {
                assert!(swapped > seen);
                true
            }
            Err(actual) => {
                assert!(actual > seen, "only something newer is in the way");
                false
            }
        }
    };
    let worker = |thread: usize| {
        let (keys, increment) = (&keys, &increment);
        let worker: Worker<'_> = Box::new(move || {
            let mut random = Random::new(seed, thread as u64);
            for _ in 0..increments {
                let (key, by_transaction) = (&keys[random.below(keys.len())], random.below(2) == 0);
                while !increment(key, by_transaction) {}
            }
        });
        worker
    };
    let monotone: Watcher<'_> = Box::new(|done| {
        let mut last = vec![(0, Timestamp::ABSENT); keys.len()];
        while !done.is_done() {
            for (key, last) in keys.iter().zip(&mut last) {
                let now = counted(engine, key);
                assert!(now.1 >= last.1 && now.0 >= last.0 && (now.1 > last.1) == (now.0 > last.0));
                *last = now;
            }
        }
    });
    run(
        seed,
        (0..threads).map(worker).collect(),
        vec![monotone, sweeper(engine)],
    );
    let total: u64 = keys.iter().map(|key| counted(engine, key).0).sum();
    assert_eq!(total, (threads * increments) as u64, "no increment is lost");
    assert_clean(engine, &keys)
}

const ACCOUNTS: usize = 8;
const DEPOSIT: u64 = 20;

/// Money moved between accounts by transactions of two keys. An account without money is deleted, and comes back with the
/// next deposit. Every snapshot must show the same total, the long-lived one always the same accounts.
pub(crate) fn bank<E: Engine>(engine: &E, threads: usize, transfers: usize, seed: u64) -> Stats {
    let accounts = numbered(ACCOUNTS);
    for account in &accounts {
        engine.put(account, &DEPOSIT.to_le_bytes());
    }
    let balance = |read: &Read<'_>, account: &str| read(account).map_or(0, |value| number(&value));
    let total = |read: &Read<'_>| accounts.iter().map(|account| balance(read, account)).sum::<u64>();
    let encode = |balance: u64| (balance != 0).then(|| balance.to_le_bytes().to_vec());
    let worker = |thread: usize| {
        let accounts = &accounts;
        let worker: Worker<'_> = Box::new(move || {
            let mut random = Random::new(seed, thread as u64);
            for _ in 0..transfers {
                let from = random.below(ACCOUNTS);
                let to = (from + 1 + random.below(ACCOUNTS - 1)) % ACCOUNTS;
                let amount = 1 + random.next() % DEPOSIT;
                let transfer = |read: &Read<'_>| {
                    let (rich, poor) = (balance(read, &accounts[from]), balance(read, &accounts[to]));
                    let amount = amount.min(rich);
                    let mut writes = vec![
                        (accounts[from].clone(), encode(rich - amount)),
                        (accounts[to].clone(), encode(poor + amount)),
                    ];
                    writes.sort();
                    writes
                };
                while !engine.transact(transfer) {}
            }
        });
        worker
    };
    let auditor: Watcher<'_> = Box::new(|done| {
        while !done.is_done() {
            let seen = engine.snapshot(|read| (total(read), total(read)));
            assert_eq!(seen, (ACCOUNTS as u64 * DEPOSIT, ACCOUNTS as u64 * DEPOSIT));
        }
    });
    let watchers = vec![auditor, repeater(engine, &accounts), sweeper(engine)];
    run(seed, (0..threads).map(worker).collect(), watchers);
    assert_eq!(engine.snapshot(total), ACCOUNTS as u64 * DEPOSIT);
    assert_clean(engine, &accounts)
}

/// Insertions of absent keys and deletions, by `threads` on the same few keys, beside a sweeper that removes the dead ones. Of
/// each key, insertions and deletions alternate, so their numbers differ by one at most; and its timestamps increase through every removal.
pub(crate) fn inserts_and_deletes<E: Engine>(engine: &E, threads: usize, rounds: usize, seed: u64) -> Stats {
    let keys = numbered(4);
    let balance: Vec<_> = keys.iter().map(|_| std::sync::atomic::AtomicI64::new(0)).collect();
    let worker = |thread: usize| {
        let (keys, balance) = (&keys, &balance);
        let worker: Worker<'_> = Box::new(move || {
            let mut random = Random::new(seed, thread as u64);
            let mut newest = vec![Timestamp::ABSENT; keys.len()];
            for _ in 0..rounds {
                let at = random.below(keys.len());
                let key = &keys[at];
                if random.below(2) == 0 {
                    let content = vec![at as u8; random.below(200)];
                    if let Ok(inserted) = engine.cas(key, Timestamp::ABSENT, &content) {
                        assert!(
                            inserted > newest[at],
                            "a key's timestamps increase, also if it was removed"
                        );
                        newest[at] = inserted;
                        balance[at].fetch_add(1, Ordering::Relaxed);
                    }
                } else if engine.delete(key) {
                    balance[at].fetch_sub(1, Ordering::Relaxed);
                }
                if let Some((value, timestamp)) = engine.get(key) {
                    assert!(timestamp >= newest[at], "a reader does not go back");
                    assert!(value.iter().all(|byte| *byte == at as u8), "a value is what was put");
                    newest[at] = timestamp;
                }
            }
        });
        worker
    };
    // Snapshots of short life: a long one would keep every dead key.
    let visitor: Watcher<'_> = Box::new(|done| {
        while !done.is_done() {
            engine.snapshot(|read| {
                let look = || keys.iter().map(|key| read(key)).collect::<Vec<_>>();
                let first = look();
                thread::yield_now();
                assert!(look() == first, "a snapshot repeats");
            });
            thread::yield_now();
        }
    });
    let watchers = vec![visitor, sweeper(engine)];
    run(seed, (0..threads).map(worker).collect(), watchers);
    for (key, balance) in keys.iter().zip(balance) {
        assert_eq!(balance.into_inner(), i64::from(engine.get(key).is_some()), "{key}");
    }
    assert_clean(engine, &keys)
}

/// One key inserted and deleted again and again by one thread, which removes it from the index as it goes and moves the clock no
/// more than that needs: its timestamps increase, else a compare and swap could take a new value for an old one.
pub(crate) fn reinsertions<E: Engine>(engine: &E, rounds: usize) -> Stats {
    let mut last = Timestamp::ABSENT;
    for _ in 0..rounds {
        let inserted = engine.cas("k", Timestamp::ABSENT, b"again").expect("it is absent");
        assert!(inserted > last, "a key's timestamps increase through its removal");
        last = inserted;
        assert!(engine.delete("k"));
    }
    assert_clean(engine, &["k".to_owned()])
}

/// One key overwritten around as often as a tick has timestamps, then seen by a snapshot, then overwritten and swept: the snapshot
/// keeps its version, also when its timestamp is exactly that of the version.
pub(crate) fn full_ticks<E: Engine>(engine: &E) -> Stats {
    for extra in 0..4 {
        for number in 0..TICK - 2 + extra {
            engine.put("k", &number.to_le_bytes());
        }
        engine.snapshot(|read| {
            let first = read("k");
            assert_eq!(first.as_deref().map(number), Some(TICK - 3 + extra));
            for _ in 0..3 {
                engine.put("k", &u64::MAX.to_le_bytes());
                engine.sweep();
                assert_eq!(read("k"), first, "a sweep takes nothing from a snapshot");
            }
        });
    }
    assert_clean(engine, &["k".to_owned()])
}

/// Each thread writes, deletes and reads keys of its own, interleaved in the index with those of the others, against a map of its
/// own; all of them also write one common key.
pub(crate) fn disjoint<E: Engine>(engine: &E, threads: usize, rounds: usize, seed: u64) -> Stats {
    let keys = numbered(40 * threads);
    let worker = |thread: usize| {
        let keys = &keys;
        let worker: Worker<'_> = Box::new(move || {
            let mut random = Random::new(seed, thread as u64);
            let mut own: HashMap<&str, (Vec<u8>, Timestamp)> = HashMap::new();
            let mut last = Timestamp::ABSENT;
            for round in 0..rounds {
                let key = &keys[random.below(40) * threads + thread];
                match random.below(4) {
                    0 => assert_eq!(engine.delete(key), own.remove(key.as_str()).is_some()),
                    1 => assert_eq!(engine.get(key).as_ref(), own.get(key.as_str())),
                    _ => {
                        let value = vec![random.next() as u8; random.below(3_000)];
                        let put = engine.put(key, &value);
                        let before = own.insert(key, (value, put));
                        assert!(before.is_none_or(|(_, before)| before < put));
                    }
                }
                if round % 8 == 0 {
                    let put = engine.put("common", &(thread as u64).to_le_bytes());
                    assert!(put > last);
                    last = engine.get("common").expect("nobody deletes it").1;
                    assert!(last >= put, "a write is seen once it has returned");
                }
            }
            for key in keys.iter().skip(thread).step_by(threads) {
                assert_eq!(engine.get(key).as_ref(), own.get(key.as_str()), "{key}");
            }
        });
        worker
    };
    let watchers = vec![repeater(engine, &keys), sweeper(engine)];
    run(seed, (0..threads).map(worker).collect(), watchers);
    let all: Vec<_> = keys.iter().cloned().chain(["common".to_owned()]).collect();
    assert_clean(engine, &all)
}

/// At rest, a sweep leaves one version of each of `keys` that exists, and nearly everything that was retired is freed: what a
/// collector still keeps in its batches does not grow with the work.
pub(crate) fn assert_clean<E: Engine>(engine: &E, keys: &[String]) -> Stats {
    let mut live = 0;
    for key in keys {
        if let Some((value, timestamp)) = engine.get(key) {
            // A version that an aborted transaction left at the head goes with the next write.
            engine.cas(key, timestamp, &value).expect("nobody else writes");
            live += 1;
        }
    }
    engine.sweep();
    let stats = engine.stats();
    assert_eq!((stats.live_versions, stats.open_snapshots), (live, 0), "{stats:?}");
    // Reads pin, and pinning is what moves a collector.
    for _ in 0..4_000 {
        engine.get("no such key");
    }
    let stats = engine.stats();
    assert!(stats.pending_versions <= KEPT_BY_COLLECTORS, "{stats:?}");
    stats
}

/// Retired objects that collectors may keep in the batches of some thirty threads, ended ones included.
const KEPT_BY_COLLECTORS: u64 = 2_000;
