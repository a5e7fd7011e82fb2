//! Starts threads together, pins them, warms up, and counts what each does in one common window.
//!
//! ```text
//! make     arrive    warm-up              window                 finish
//! thread 0 ---|------|~~~~~~~~~~~~~~~~~~~~|======================|----
//! thread 1 -----|----|~~~~~~~~~~~~~~~~~~~~|======================|----
//! neighbour ..|xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx|
//! ```
//!
//! The last thread to arrive fixes the start; warm-up and window end by the clock and not by a signal, so that no
//! coordinator has to be scheduled among the threads it measures. A thread looks at the clock after a batch, whose
//! size it finds while warming up (about [`BATCH_TARGET`] of work), and reports its own count over its own time: a
//! window that ended late for one thread distorts nothing, and a starved thread is visible as a number.
//!
//! Threads are new for each slice. Starting them, making their work and finishing it lie outside the window.
//! Processors that the threads leave free may be kept busy by private loops, since a boosted clock or an idle
//! sibling would flatter a run with few threads.
#![forbid(unsafe_code)]

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

use super::ceiling::PrivateLoop;

/// How much work a thread does between two looks at the clock.
pub const BATCH_TARGET: Duration = Duration::from_micros(20);

/// Largest batch in operations, so that a batch of the cheapest operation stays short against any window.
const MAX_BATCH: u64 = 4_096;

/// How often an arriving thread spins before it gives its processor away.
const ARRIVAL_SPINS: u32 = 200;

/// What one thread does in a slice.
///
/// Implemented for every `FnMut(u64)`, which reports nothing.
pub trait Work {
    /// What is left after the slice: last values, a histogram, an error.
    type Report: Send;

    /// Does `operations` operations and nothing else. This is the timed loop.
    fn run(&mut self, operations: u64);

    /// Ends the warm-up: whatever was recorded so far is to be forgotten.
    fn warmed_up(&mut self) {}

    /// Gives the report, outside the window.
    fn finish(self) -> Self::Report;
}

impl<F: FnMut(u64)> Work for F {
    type Report = ();

    #[inline]
    fn run(&mut self, operations: u64) {
        self(operations);
    }

    fn finish(self) {}
}

/// How long a slice lasts after its warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slice {
    /// For a time, the same for every thread.
    Time(Duration),
    /// For a number of operations, of each thread.
    Operations(u64),
}

/// What the processors do that the threads leave free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbours {
    /// Nothing.
    Idle,
    /// The private loop of [`PrivateLoop`], each over a table of its own with this many keys.
    Busy {
        /// Keys of each table: choose what the measured threads work on.
        keys: usize,
    },
}

/// How to run one slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How long to measure.
    pub slice: Slice,
    /// How long to run first without counting; at least one batch runs in any case.
    pub warm_up: Duration,
    /// Whether to pin thread `i` to the `i`th allowed processor, wrapping around.
    pub pin: bool,
    /// Shifts the assignment of processors; give the round's index, and each processor takes its turn.
    pub rotation: usize,
    /// What the other processors do.
    pub neighbours: Neighbours,
}

impl Plan {
    /// A pinned, timed slice with a tenth of its time as warm-up and idle neighbours.
    #[must_use]
    pub fn timed(slice: Duration) -> Self {
        Self {
            slice: Slice::Time(slice),
            warm_up: slice / 10,
            pin: true,
            rotation: 0,
            neighbours: Neighbours::Idle,
        }
    }

    /// A pinned slice of so many operations per thread, without warm-up and with idle neighbours.
    #[must_use]
    pub fn counted(operations: u64) -> Self {
        Self {
            slice: Slice::Operations(operations),
            warm_up: Duration::ZERO,
            ..Self::timed(Duration::ZERO)
        }
    }

    /// Sets the warm-up.
    #[must_use]
    pub fn warm_up(mut self, warm_up: Duration) -> Self {
        self.warm_up = warm_up;
        self
    }

    /// Sets the rotation.
    #[must_use]
    pub fn rotation(mut self, rotation: usize) -> Self {
        self.rotation = rotation;
        self
    }

    /// Keeps the processors that are left free busy with private tables of `keys` keys.
    #[must_use]
    pub fn busy_neighbours(mut self, keys: usize) -> Self {
        self.neighbours = Neighbours::Busy { keys };
        self
    }
}

/// What one thread did within its window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadOutcome<R> {
    /// Operations in the window, warm-up excluded.
    pub operations: u64,
    /// Operations of the warm-up.
    pub warm_up_operations: u64,
    /// The window, by this thread's reading of the clock.
    pub elapsed: Duration,
    /// Time in the window for which the thread could have run and another had its processor. Waiting for a lock is not in
    /// it, where the system tells the two apart.
    pub waited: Duration,
    /// The processor that the thread is bound to; `None` if pinning was not asked for or was refused.
    pub pinned_to: Option<usize>,
    /// What the work reported.
    pub report: R,
}

impl<R> ThreadOutcome<R> {
    /// Returns this thread's rate.
    #[must_use]
    pub fn operations_per_second(&self) -> f64 {
        self.operations as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// Returns the share of the window in which no other thread had this one's processor while it could have run, from 0
    /// to 1.
    #[must_use]
    pub fn processor_share(&self) -> f64 {
        (1.0 - self.waited.as_secs_f64() / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)).clamp(0.0, 1.0)
    }
}

/// What all threads of a slice did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome<R> {
    /// In the order of the threads' indices.
    pub threads: Vec<ThreadOutcome<R>>,
    /// How many private loops kept other processors busy.
    pub neighbours: usize,
}

impl<R> Outcome<R> {
    /// Returns the sum of the threads' rates.
    #[must_use]
    pub fn operations_per_second(&self) -> f64 {
        self.threads.iter().map(ThreadOutcome::operations_per_second).sum()
    }

    /// Returns the operations of all threads together.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.threads.iter().map(|thread| thread.operations).sum()
    }

    /// Returns the mean time of one operation as a thread sees it, in nanoseconds.
    #[must_use]
    pub fn mean_ns(&self) -> f64 {
        let elapsed: f64 = self.threads.iter().map(|thread| thread.elapsed.as_secs_f64()).sum();
        elapsed * 1e9 / self.operations().max(1) as f64
    }

    /// Returns the first thread that did nothing, or less than `minimum_share` of the mean thread's operations.
    #[must_use]
    pub fn starved(&self, minimum_share: f64) -> Option<usize> {
        let mean = self.operations() as f64 / self.threads.len().max(1) as f64;
        self.threads
            .iter()
            .position(|thread| thread.operations == 0 || (thread.operations as f64) < minimum_share * mean)
    }

    /// Returns the smallest share of its window in which a thread had a processor.
    #[must_use]
    pub fn lowest_processor_share(&self) -> f64 {
        self.threads
            .iter()
            .map(ThreadOutcome::processor_share)
            .fold(1.0, f64::min)
    }

    /// Says whether every thread is bound to a processor.
    #[must_use]
    pub fn all_pinned(&self) -> bool {
        self.threads.iter().all(|thread| thread.pinned_to.is_some())
    }
}

/// Returns the processors that this process may use, or one (number 0) where that cannot be asked.
#[must_use]
pub fn allowed_processors() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else {
        return vec![0];
    };
    let allowed: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|&processor| set.is_set(processor))
        .collect();
    if allowed.is_empty() { vec![0] } else { allowed }
}

/// Binds the calling thread to `processor` and says whether the system agreed.
#[must_use]
pub fn pin_to(processor: usize) -> bool {
    if processor >= CpuSet::MAX_CPU {
        return false;
    }
    let mut set = CpuSet::new();
    set.set(processor);
    sched_setaffinity(None, &set).is_ok()
}

/// Runs one slice on `threads` threads and returns what each did.
///
/// `make` is called in each thread, with the thread's index, after pinning and before the common start; so what it
/// returns need not be `Send`.
///
/// # Errors
///
/// Returns the first error of `make`; no thread then measures anything.
///
/// # Panics
///
/// Passes on a panic of the work, once all threads have ended.
pub fn run<W, E, M>(plan: &Plan, threads: NonZeroUsize, make: M) -> Result<Outcome<W::Report>, E>
where
    W: Work,
    E: Send,
    M: Fn(usize) -> Result<W, E> + Sync,
{
    let allowed = allowed_processors();
    let place = |index: usize| allowed[(index + plan.rotation) % allowed.len()];
    let gate = StartGate::new(threads.get());
    let stop_neighbours = AtomicBool::new(false);
    let free = allowed.len().saturating_sub(threads.get());
    let (neighbours, keys) = match plan.neighbours {
        Neighbours::Idle => (0, 0),
        Neighbours::Busy { keys } => (free, keys),
    };
    std::thread::scope(|scope| {
        for neighbour in 0..neighbours {
            let processor = place(threads.get() + neighbour);
            let (stop, gate) = (&stop_neighbours, &gate);
            gate.expect_neighbour();
            scope.spawn(move || keep_busy(processor, keys, neighbour as u64, gate, stop));
        }
        let handles: Vec<_> = (0..threads.get())
            .map(|index| {
                let (gate, make, processor) = (&gate, &make, plan.pin.then(|| place(index)));
                scope.spawn(move || run_one(plan, index, processor, gate, make))
            })
            .collect();
        let joined: Vec<_> = handles.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        stop_neighbours.store(true, Ordering::Relaxed);
        let mut outcomes = Vec::with_capacity(joined.len());
        let mut failure = None;
        for outcome in joined {
            match outcome {
                Ok(Some(Ok(outcome))) => outcomes.push(outcome),
                Ok(Some(Err(error))) => failure = failure.or(Some(error)),
                Ok(None) => {}
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(Outcome {
                threads: outcomes,
                neighbours,
            }),
        }
    })
}

/// One measured thread; `None` if another failed before the start.
fn run_one<W: Work, E>(
    plan: &Plan,
    index: usize,
    processor: Option<usize>,
    gate: &StartGate,
    make: &(impl Fn(usize) -> Result<W, E> + Sync),
) -> Option<Result<ThreadOutcome<W::Report>, E>> {
    let ticket = gate.ticket();
    let pinned_to = processor.filter(|&processor| pin_to(processor));
    let mut work = match make(index) {
        Ok(work) => work,
        Err(error) => return Some(Err(error)),
    };
    let start = ticket.arrive()?;

    let (batch, warm_up_operations) = warm_up(&mut work, start + plan.warm_up, plan.slice);
    // Asked outside of what the work counts, since reading the answer allocates.
    let before = Schedule::now();
    work.warmed_up();
    let window = Instant::now();
    let mut operations = 0;
    match plan.slice {
        Slice::Time(time) => {
            let end = start + plan.warm_up + time;
            loop {
                work.run(batch);
                operations += batch;
                if Instant::now() >= end {
                    break;
                }
            }
        }
        Slice::Operations(wanted) => {
            while operations < wanted {
                let next = batch.min(wanted - operations);
                work.run(next);
                operations += next;
            }
        }
    }
    let elapsed = window.elapsed();
    let report = work.finish();
    let waited = before.waited_since(elapsed);
    Some(Ok(ThreadOutcome {
        operations,
        warm_up_operations,
        elapsed,
        waited,
        pinned_to,
        report,
    }))
}

/// Runs until `end` and finds the batch that takes about [`BATCH_TARGET`]. Returns it and the operations done.
fn warm_up(work: &mut impl Work, end: Instant, slice: Slice) -> (u64, u64) {
    // A counted slice without warm-up must do exactly its operations: nothing is run ahead of it.
    if matches!(slice, Slice::Operations(_)) && Instant::now() >= end {
        return (MAX_BATCH, 0);
    }
    let (mut batch, mut operations) = (1, 0);
    loop {
        let began = Instant::now();
        work.run(batch);
        operations += batch;
        let now = Instant::now();
        if now - began < BATCH_TARGET / 2 && batch < MAX_BATCH {
            batch *= 2;
        }
        if now >= end {
            return (batch, operations);
        }
    }
}

fn keep_busy(processor: usize, keys: usize, seed: u64, gate: &StartGate, stop: &AtomicBool) {
    // A refused pin is no loss: the scheduler then spreads the loops itself.
    let _pinned = pin_to(processor);
    let mut table = PrivateLoop::new(keys, seed);
    table.run(MAX_BATCH);
    gate.neighbour_ready();
    // ORDERING: Relaxed, the flag publishes nothing; it only has to be seen some time.
    while !stop.load(Ordering::Relaxed) {
        table.run(256);
    }
}

/// How much the calling thread has run, and how long it could have and did not.
#[derive(Clone, Copy)]
struct Schedule {
    ran: Duration,
    /// `None` where the system does not tell.
    waited: Option<Duration>,
}

impl Schedule {
    fn now() -> Self {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        // Nanoseconds on a processor, nanoseconds ready beside one, and time slices.
        let waited = std::fs::read_to_string("/proc/thread-self/schedstat")
            .ok()
            .and_then(|text| text.split_whitespace().nth(1)?.parse().ok());
        Self {
            ran: Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32),
            waited: waited.map(Duration::from_nanos),
        }
    }

    /// Returns how long the thread waited for a processor since, in a window of that length; where the system does not
    /// tell, all the time for which it did not run.
    fn waited_since(self, elapsed: Duration) -> Duration {
        let now = Self::now();
        match (self.waited, now.waited) {
            (Some(before), Some(after)) => after.saturating_sub(before),
            _ => elapsed.saturating_sub(now.ran.saturating_sub(self.ran)),
        }
    }
}

/// Holds threads back until all have arrived, or lets none through if one fails before it does.
struct StartGate {
    expected: usize,
    arrived: AtomicUsize,
    failed: AtomicBool,
    neighbours_missing: AtomicUsize,
    start: Mutex<Option<Instant>>,
}

impl StartGate {
    fn new(expected: usize) -> Self {
        Self {
            expected,
            arrived: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            neighbours_missing: AtomicUsize::new(0),
            start: Mutex::new(None),
        }
    }

    // ORDERING: all of the gate's words are Acquire/Release pairs on one word each. They order the start; what the
    // threads share otherwise was published by spawning them.
    fn expect_neighbour(&self) {
        self.neighbours_missing.fetch_add(1, Ordering::AcqRel);
    }

    fn neighbour_ready(&self) {
        self.neighbours_missing.fetch_sub(1, Ordering::AcqRel);
    }

    fn ticket(&self) -> Ticket<'_> {
        Ticket {
            gate: self,
            arrived: false,
        }
    }

    fn is_open(&self) -> bool {
        self.arrived.load(Ordering::Acquire) == self.expected && self.neighbours_missing.load(Ordering::Acquire) == 0
    }
}

/// A thread's promise to arrive; dropped without arriving, it releases the others with nothing to do.
struct Ticket<'g> {
    gate: &'g StartGate,
    arrived: bool,
}

impl Ticket<'_> {
    /// Waits for the others and returns the common start, or `None` if one of them failed.
    fn arrive(mut self) -> Option<Instant> {
        self.arrived = true;
        self.gate.arrived.fetch_add(1, Ordering::AcqRel);
        let mut spins = 0;
        while !self.gate.is_open() {
            if self.gate.failed.load(Ordering::Acquire) {
                return None;
            }
            spins += 1;
            if spins < ARRIVAL_SPINS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        // The first to look fixes the start for all; a poisoned lock would mean that reading a clock panicked.
        let mut start = self
            .gate
            .start
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        Some(*start.get_or_insert_with(Instant::now))
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if !self.arrived {
            self.gate.failed.store(true, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn count(threads: usize) -> NonZeroUsize {
        NonZeroUsize::new(threads).expect("not zero")
    }

    struct Counter {
        runs: u64,
        warmed_up_at: u64,
    }

    impl Work for Counter {
        type Report = (u64, u64);

        fn run(&mut self, operations: u64) {
            self.runs += operations;
        }

        fn warmed_up(&mut self) {
            self.warmed_up_at = self.runs;
        }

        fn finish(self) -> Self::Report {
            (self.runs, self.warmed_up_at)
        }
    }

    fn counter(_: usize) -> Result<Counter, Infallible> {
        Ok(Counter {
            runs: 0,
            warmed_up_at: 0,
        })
    }

    // Goal: the window counts what ran after the warm-up, on every thread, more threads than processors included.
    #[test]
    fn a_timed_slice_counts_the_window_and_not_the_warm_up() {
        let plan = Plan::timed(Duration::from_millis(20));
        let Ok(outcome) = run(&plan, count(5), counter);
        assert_eq!(outcome.threads.len(), 5);
        for thread in &outcome.threads {
            let (runs, warmed_up_at) = thread.report;
            assert!(thread.warm_up_operations > 0);
            assert_eq!(warmed_up_at, thread.warm_up_operations);
            assert_eq!(runs, thread.warm_up_operations + thread.operations);
        }
        assert!(outcome.operations_per_second() > 0.0);
        assert!(outcome.mean_ns() > 0.0);
    }

    #[test]
    fn a_counted_slice_does_exactly_its_operations() {
        let Ok(outcome) = run(&Plan::counted(10_007), count(3), counter);
        assert!(outcome.threads.iter().all(|thread| thread.operations == 10_007));
        assert!(outcome.threads.iter().all(|thread| thread.report == (10_007, 0)));
        assert_eq!(outcome.operations(), 30_021);
    }

    // Goal: an error before the start releases the others. Method: the last of three fails; a hang fails the test.
    #[test]
    fn an_error_while_making_stops_everyone() {
        let plan = Plan::timed(Duration::from_millis(1)).busy_neighbours(100);
        let result = run(
            &plan,
            count(3),
            |index| {
                if index == 2 { Err("no") } else { Ok(|_: u64| ()) }
            },
        );
        assert_eq!(result.err(), Some("no"));
    }

    #[test]
    fn a_panic_while_making_is_passed_on_and_hangs_nobody() {
        let plan = Plan::timed(Duration::from_millis(1));
        let result = std::panic::catch_unwind(|| {
            run::<Counter, Infallible, _>(&plan, count(2), |index| {
                assert!(index == 0, "planned");
                counter(index)
            })
        });
        assert!(result.is_err());
    }

    #[test]
    fn neighbours_fill_the_processors_left_over() {
        let plan = Plan::timed(Duration::from_millis(2)).busy_neighbours(64);
        let Ok(outcome) = run(&plan, count(1), counter);
        assert_eq!(outcome.neighbours, allowed_processors().len() - 1);
    }

    #[test]
    fn a_thread_without_operations_is_starved() {
        let thread = |operations| ThreadOutcome {
            operations,
            warm_up_operations: 0,
            elapsed: Duration::from_secs(1),
            waited: Duration::from_millis(500),
            pinned_to: None,
            report: (),
        };
        let fair = Outcome {
            threads: vec![thread(90), thread(110)],
            neighbours: 0,
        };
        assert_eq!(fair.starved(0.1), None);
        let idle = Outcome {
            threads: vec![thread(100), thread(0)],
            neighbours: 0,
        };
        assert_eq!(idle.starved(0.0), Some(1));
        let unfair = Outcome {
            threads: vec![thread(3), thread(197)],
            neighbours: 0,
        };
        assert_eq!(unfair.starved(0.1), Some(0));
        assert!((unfair.lowest_processor_share() - 0.5).abs() < 1e-9);
        assert!(!unfair.all_pinned());
    }
}
