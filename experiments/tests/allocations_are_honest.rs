//! The lines about memory can fail, each for its own reason, and pass for an engine that deserves it.
//!
//! The engine here is `sharded`, which overwrites in place and so asks for no memory in steady state, with one
//! [`Fault`]: something that it does with memory at every operation. Its snapshots are of nothing, and the checks of
//! the contents, which other tests are about, find what they expect.

#![forbid(unsafe_code)]

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use experiments::allocations::CountingAllocator;
use experiments::engines::broken::Broken;
use experiments::engines::sharded::Sharded;
use experiments::engines::unlatched::Unlatched;
use experiments::engines::{Engine, EngineError, Layer, Operation, Session};
use experiments::gates::campaign::DISTURBED;
use experiments::gates::sheet::{Outcome, exit_status};
use experiments::gates::{Context, Effort, Options, counted as counting, memory, pool};
use experiments::harness::environment::available_processors;
use experiments::harness::stats::Verdict;
use experiments::report::markdown::Section;
use experiments::workload::KeySet;
use unlatched::RunId;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// A block of a size that no allocator hands out for less.
type Block = Box<[u64; 8]>;

const BLOCK_BYTES: f64 = 64.0;

/// Bytes per key that may differ from run to run: the map's one large block, which mimalloc rounds by up to 64 KiB as it
/// finds room for it, over the keys of the smaller store; and a little that the test's own harness obtains meanwhile.
const NOISE_BYTES: f64 = 4.0;

/// Blocks that a fault may keep or give back: more than any run here has operations.
const STOCK: usize = 200_000;

/// What an engine does with memory at every operation.
trait Fault: Send + Sync + 'static {
    fn new() -> Self;

    fn strike(&self);

    fn pending_versions(&self) -> Option<u64> {
        None
    }
}

/// Does nothing.
struct Nothing;

impl Fault for Nothing {
    fn new() -> Self {
        Self
    }

    fn strike(&self) {}
}

/// Obtains a block and gives it back.
struct Passes;

impl Fault for Passes {
    fn new() -> Self {
        Self
    }

    fn strike(&self) {
        drop(black_box(Block::new([0; 8])));
    }
}

/// Gives back one of the blocks that it obtained when it was opened.
struct GivesBack(Mutex<Vec<Block>>);

impl Fault for GivesBack {
    fn new() -> Self {
        Self(Mutex::new((0..STOCK).map(|_| Block::new([0; 8])).collect()))
    }

    fn strike(&self) {
        drop(self.0.lock().expect("no panic").pop());
    }
}

/// Obtains a block and keeps it.
struct Keeps(Mutex<Vec<Block>>);

impl Fault for Keeps {
    fn new() -> Self {
        Self(Mutex::new(Vec::with_capacity(STOCK)))
    }

    fn strike(&self) {
        self.0.lock().expect("no panic").push(Block::new([0; 8]));
    }
}

/// Retires a version and never frees it, or says so.
struct Retires(AtomicU64);

impl Fault for Retires {
    fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    fn strike(&self) {
        // ORDERING: Relaxed, only the count matters.
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn pending_versions(&self) -> Option<u64> {
        // ORDERING: Relaxed, see `strike`.
        Some(self.0.load(Ordering::Relaxed))
    }
}

/// [`Sharded`] with a fault.
struct Faulty<F> {
    inner: Sharded,
    fault: F,
}

impl<F: Fault> Engine for Faulty<F> {
    const NAME: &'static str = "faulty";

    type Space = (<Sharded as Engine>::Space, usize);

    type Session<'a> = FaultySession<'a, F>;

    fn open() -> Result<Self, EngineError> {
        Ok(Self {
            inner: Sharded::open()?,
            fault: F::new(),
        })
    }

    fn space(&self, run: RunId, keys: Arc<KeySet>) -> Self::Space {
        let count = keys.len();
        (self.inner.space(run, keys), count)
    }

    fn session<'a>(&'a self, space: &'a Self::Space) -> Result<FaultySession<'a, F>, EngineError> {
        Ok(FaultySession {
            inner: self.inner.session(&space.0)?,
            fault: &self.fault,
            keys: space.1,
        })
    }

    fn supports(_: Operation) -> bool {
        true
    }

    fn layers_share_records() -> bool {
        true
    }

    fn pending_versions(&self) -> Option<u64> {
        self.fault.pending_versions()
    }
}

struct FaultySession<'a, F> {
    inner: <Sharded as Engine>::Session<'a>,
    fault: &'a F,
    keys: usize,
}

impl<F: Fault> FaultySession<'_, F> {
    fn put(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        self.fault.strike();
        self.inner.storage_put(key, value)
    }

    fn get(&mut self, key: usize) -> Result<Option<u64>, EngineError> {
        self.fault.strike();
        self.inner.storage_get(key)
    }
}

impl<F: Fault> Session for FaultySession<'_, F> {
    fn storage_put(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        self.put(key, value)
    }

    fn storage_get(&mut self, key: usize) -> Result<Option<u64>, EngineError> {
        self.get(key)
    }

    fn engine_put(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        self.put(key, value)
    }

    fn engine_get(&mut self, key: usize) -> Result<Option<u64>, EngineError> {
        self.get(key)
    }

    fn facade_put(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        self.put(key, value)
    }

    fn facade_get(&mut self, key: usize) -> Result<Option<u64>, EngineError> {
        self.get(key)
    }

    fn transaction_put(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        self.put(key, value)
    }

    fn increment(&mut self, key: usize) -> Result<u64, EngineError> {
        self.inner.increment(key)
    }

    fn snapshot(&mut self) -> Result<(), EngineError> {
        self.fault.strike();
        Ok(())
    }

    fn overwrite_under_snapshot(
        &mut self,
        _: usize,
        old: u64,
        new: u64,
    ) -> Result<(Option<u64>, Option<u64>), EngineError> {
        Ok((Some(old), Some(new)))
    }

    fn counted_only(&mut self, operation: Operation, key: usize, value: u64) -> Result<Option<u64>, EngineError> {
        if operation.is_get() {
            return self.get(key);
        }
        self.put(key, value)?;
        if operation.puts_successor() {
            self.inner.storage_put((key + 1) % self.keys, value)?;
        }
        Ok(None)
    }

    fn under_snapshot(
        &mut self,
        body: &mut dyn FnMut(&mut Self) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        body(self)
    }

    fn load(&mut self, layer: Layer, key: usize, value: u64) -> Result<(), EngineError> {
        self.fault.strike();
        self.inner.load(layer, key, value)
    }

    fn read(&mut self, layer: Layer, key: usize) -> Result<Option<u64>, EngineError> {
        self.inner.read(layer, key)
    }
}

/// Meters follow the whole process, so that tests which use one take turns with all others here.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts the hot path of an engine; nothing is timed.
fn counted<S: Engine>() -> Vec<Outcome> {
    let _turn = turn();
    let mut options = Options::new(Effort::TINY);
    options.selection.gates = vec!["2".to_owned()];
    let mut context = Context::new(options);
    counting::measure::<S>(&mut context).expect("it opens");
    let counted = |line: &Outcome| line.entry.id.starts_with("allocations_");
    context.sheet.outcomes().into_iter().filter(counted).collect()
}

/// The smallest effort, on stores so large that what the test's own harness obtains meanwhile does not show.
const WEIGHED: Effort = Effort {
    keys: [64, 20_000, 40_000],
    ..Effort::TINY
};

/// What weighing an engine gave.
struct Weighed {
    outcomes: Vec<Outcome>,
    sections: Vec<Section>,
}

fn weighed<S: Engine>() -> Weighed {
    let _turn = turn();
    let mut context = Context::new(Options::new(WEIGHED));
    memory::measure::<S>(&mut context);
    pool::measure::<S>(&mut context).expect("it opens");
    Weighed {
        outcomes: context.sheet.outcomes(),
        sections: context.sections,
    }
}

/// What a line that was counted must come out as; the threads of some are more than this machine has processors.
fn expected(line: &Outcome, verdict: Verdict) -> Verdict {
    let threads = line.entry.threads.expect("every line about allocations says how many");
    if threads > available_processors() {
        Verdict::NotMeasurable
    } else {
        verdict
    }
}

fn line<'r>(report: &'r Weighed, id: &str) -> &'r Outcome {
    let found = report.outcomes.iter().find(|line| line.entry.id == id);
    found.expect("it is selected")
}

// Goal: a count of zero can be reached, so that a count above it says something of the engine and not of the harness.
#[test]
fn engine_without_fault_is_counted_at_zero() {
    let lines = counted::<Faulty<Nothing>>();
    assert!(lines.len() > 16, "{} lines", lines.len());
    for line in &lines {
        assert_eq!(
            line.verdict,
            expected(line, Verdict::Pass),
            "{}: {}",
            line.entry.id,
            line.reason
        );
    }
    assert_eq!(exit_status(&lines), 0);
}

fn fails_every_line<F: Fault>() {
    let lines = counted::<Faulty<F>>();
    for line in &lines {
        assert_eq!(
            line.verdict,
            expected(line, Verdict::Fail),
            "{}: {}",
            line.entry.id,
            line.reason
        );
        let measured = line.measured.unwrap_or(1.0);
        assert!((1.0..1.01).contains(&measured), "{}: {measured}", line.entry.id);
    }
    assert_eq!(exit_status(&lines), 1);
}

// Goal: every line about allocations, red flags included, fails for an engine that allocates, on one thread and on
// two.
#[test]
fn engine_that_allocates_fails_every_line() {
    fails_every_line::<Passes>();
}

// Goal: memory that only goes is seen as well as memory that only comes.
#[test]
fn engine_that_only_frees_or_only_allocates_fails_every_line() {
    fails_every_line::<GivesBack>();
    fails_every_line::<Keeps>();
}

// Goal: no count of an engine that loses updates or makes up its reads is a figure.
#[test]
fn counts_of_a_broken_engine_are_invalid() {
    for line in counted::<Broken>() {
        assert_eq!(
            line.verdict,
            expected(&line, Verdict::Invalid),
            "{}: {}",
            line.entry.id,
            line.reason
        );
        assert_eq!(line.measured, None, "{}", line.entry.id);
    }
}

// Goal: the engine itself is counted, whatever it comes to, and is accused of nothing else.
#[test]
fn engine_itself_is_counted_on_every_line() {
    for line in counted::<Unlatched>() {
        let known = line.verdict == Verdict::NotMeasurable || line.measured.is_some();
        assert!(known, "{}: {}", line.entry.id, line.reason);
    }
}

// Goal: the pool's line fails when memory creeps either way, when pending versions creep, and not otherwise.
#[test]
fn pool_that_creeps_is_not_stable() {
    let verdict = |report: &Weighed| {
        let line = line(report, "version_pool_stable");
        (line.verdict, line.reason.clone())
    };
    let steady = verdict(&weighed::<Faulty<Nothing>>());
    assert_eq!(steady.0, Verdict::Pass, "{}", steady.1);
    let busy = verdict(&weighed::<Faulty<Passes>>());
    assert_eq!(busy.0, Verdict::Pass, "{}", busy.1);
    for (verdict, reason) in [
        verdict(&weighed::<Faulty<Keeps>>()),
        verdict(&weighed::<Faulty<GivesBack>>()),
        verdict(&weighed::<Faulty<Retires>>()),
    ] {
        let disturbed = verdict == Verdict::Invalid && reason.starts_with(DISTURBED);
        assert!(verdict == Verdict::Fail || disturbed, "{verdict:?}: {reason}");
    }
    let (verdict, reason) = verdict(&weighed::<Broken>());
    assert_eq!(verdict, Verdict::Invalid, "{reason}");
    assert!(reason.contains("lost update"), "{reason}");
}

// Goal: memory is shown and not judged; a block more per key and per version is seen as that; the baselines stand
// beside.
// Method: the same engine with and without a fault that keeps a block whenever a key is loaded.
#[test]
fn memory_is_weighed_to_the_block() {
    let (lean, fat) = (weighed::<Faulty<Nothing>>(), weighed::<Faulty<Keeps>>());
    let bytes = |report: &Weighed, id: &str| {
        let line = line(report, id);
        assert_eq!(line.verdict, Verdict::Shown, "{id}: {}", line.reason);
        line.measured.expect("a shown figure is one")
    };
    for size in ["100k", "1m"] {
        for part in ["key", "key_requested", "version", "version_requested"] {
            let id = format!("memory_{part}_{size}_shown");
            let more = bytes(&fat, &id) - bytes(&lean, &id);
            // The sharded map hashes its run's name alike in both, so that nothing else differs.
            assert!((more - BLOCK_BYTES).abs() < NOISE_BYTES, "{id}: {more} bytes more");
        }
        for part in ["version", "version_requested"] {
            let in_place = bytes(&lean, &format!("memory_{part}_{size}_shown"));
            assert!(in_place.abs() < NOISE_BYTES, "{part}: {in_place} bytes");
        }
        let key = bytes(&lean, &format!("memory_key_{size}_shown"));
        let requested = bytes(&lean, &format!("memory_key_requested_{size}_shown"));
        assert!(requested > 48.0, "a record holds its key: {requested}");
        assert!(key >= requested, "rounding takes nothing away: {key} < {requested}");
        let beside = &line(&lean, &format!("memory_key_{size}_shown")).engines;
        for engine in ["m3", "m3-cheap", "sharded"] {
            assert!(beside.contains_key(engine), "{engine} is missing: {beside:?}");
        }
    }
    let section = lean.sections.iter().find(|section| section.title == memory::TITLE);
    assert_eq!(section.expect("the table is there").rows.len(), 8);
}

// Goal: an engine that loses what it was given is not praised for holding little.
#[test]
fn memory_of_a_broken_engine_is_invalid() {
    let report = weighed::<Broken>();
    for line in report
        .outcomes
        .iter()
        .filter(|line| line.entry.id.starts_with("memory_"))
    {
        assert_eq!(line.verdict, Verdict::Invalid, "{}", line.entry.id);
        assert!(line.reason.contains("lost update"), "{}", line.reason);
    }
}

// Goal: the engine itself is weighed: more than the value alone for a key, and for a version.
#[test]
fn memory_of_the_engine_itself_is_shown() {
    let report = weighed::<Unlatched>();
    for part in ["key", "key_requested", "version", "version_requested"] {
        for size in ["100k", "1m"] {
            let line = line(&report, &format!("memory_{part}_{size}_shown"));
            assert_eq!(line.verdict, Verdict::Shown, "{}", line.reason);
            assert!(line.measured.is_some_and(|bytes| bytes > 8.0), "{:?}", line.measured);
        }
    }
}
