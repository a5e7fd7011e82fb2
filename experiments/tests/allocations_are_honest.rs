//! The lines about allocations can fail, each for its own reason, and pass for an engine that deserves it.
//!
//! The engine here is `sharded`, which overwrites in place and so asks for no memory in steady state, with one
//! [`Fault`]: something that it does with memory at every operation. Its snapshots are of nothing, and the checks of
//! the contents, which other tests are about, find what they expect.

#![forbid(unsafe_code)]

use std::hint::black_box;
use std::sync::{Arc, Mutex};

use experiments::allocations::CountingAllocator;
use experiments::engines::broken::Broken;
use experiments::engines::sharded::Sharded;
use experiments::engines::unlatched::Unlatched;
use experiments::engines::{Engine, EngineError, Layer, Operation, Session};
use experiments::gates::sheet::{Outcome, exit_status};
use experiments::gates::{Effort, Options, run};
use experiments::harness::environment::available_processors;
use experiments::harness::stats::Verdict;
use experiments::workload::KeySet;
use unlatched::RunId;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// A block of a size that no allocator hands out for less.
type Block = Box<[u64; 8]>;

/// Blocks that a fault may keep or give back: more than any run here has operations.
const STOCK: usize = 200_000;

/// What an engine does with memory at every operation.
trait Fault: Send + Sync + 'static {
    fn new() -> Self;

    fn strike(&self);
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

/// Counts the hot path of an engine; nothing is timed.
fn counted<S: Engine>() -> Vec<Outcome> {
    let mut options = Options::new(Effort::TINY);
    options.selection.gates = vec!["2".to_owned()];
    options.timed = false;
    let report = run::<S>(options).expect("it opens");
    let counted = |line: &Outcome| line.entry.id.starts_with("allocations_");
    report.outcomes.into_iter().filter(counted).collect()
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
