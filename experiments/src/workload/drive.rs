//! Drives a session: the timed loops of every gate, in one place.
//!
//! [`Drive`] counts operations and leaves timing to the slice around it. [`TimedDrive`] times each operation by
//! itself, closed-loop (the next starts when the last ended) or open-loop (each is due at a fixed time, and
//! lateness counts, so that a stall cannot hide the operations it delayed).
//!
//! The operation is chosen once per batch; the loop below it is compiled for that operation alone. A value is the
//! drive's tag plus the number of the operation, so that all values of all threads and rounds differ and the last
//! value of every key follows from the count ([`super::verify`]). What gets return is added up, weighted by key:
//! a multiplication and an addition in the loop, and afterwards no get can have returned anything but what was stored.
#![forbid(unsafe_code)]

use std::hint::black_box;

use hdrhistogram::Histogram;

use super::Stream;
use super::random::split_mix;
use super::verify;
use crate::engines::{EngineError, Operation, Session};
use crate::harness::clock::TickClock;
use crate::harness::threads::Work;

/// Longest time a histogram tells apart, in nanoseconds: a minute.
const HISTOGRAM_MAX_NS: u64 = 60_000_000_000;

/// Significant decimal digits of recorded times.
const HISTOGRAM_DIGITS: u8 = 3;

/// Makes the histogram in which times are recorded here: nanoseconds, up to a minute, three digits.
///
/// # Panics
///
/// Never: its bounds are constants that hdrhistogram accepts.
#[must_use]
pub fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, HISTOGRAM_MAX_NS, HISTOGRAM_DIGITS).expect("constant bounds are valid")
}

/// What a drive did, warm-up included, and what it met on the way.
#[derive(Debug)]
pub struct DriveReport {
    /// What it did.
    pub operation: Operation,
    /// Operations since the drive was made, warm-up included.
    pub operations: u64,
    /// The values it wrote are `tag + 1, tag + 2, ...`, in the order of its stream.
    pub tag: u64,
    /// Conflicts met by increments.
    pub conflicts: u64,
    /// Gets that found nothing; on a loaded store, lost records.
    pub missing: u64,
    /// Sum of [`verify::term`] over the keys and values that gets returned.
    pub checksum: u64,
    /// The first error; nothing was done after it.
    pub error: Option<EngineError>,
    /// The time of each operation after the warm-up, if they were timed.
    pub latency: Option<Histogram<u64>>,
}

/// Runs one operation over a stream of keys.
#[derive(Debug)]
pub struct Drive<S> {
    session: S,
    stream: Stream,
    report: DriveReport,
}

impl<S: Session> Drive<S> {
    /// Makes a drive. Give `stream` fresh (at its beginning) if the result is to be verified, and a seed that no
    /// other thread or round uses.
    #[must_use]
    pub fn new(session: S, operation: Operation, stream: Stream, seed: u64) -> Self {
        let report = DriveReport {
            operation,
            operations: 0,
            tag: split_mix(seed),
            conflicts: 0,
            missing: 0,
            checksum: 0,
            error: None,
            latency: None,
        };
        Self {
            session,
            stream,
            report,
        }
    }

    #[inline]
    fn repeat(&mut self, operations: u64, timer: &mut impl Timer) {
        if self.report.error.is_some() {
            return;
        }
        let done = match self.report.operation {
            Operation::StoragePut => self.puts(operations, timer, S::storage_put),
            Operation::EnginePut => self.puts(operations, timer, S::engine_put),
            Operation::FacadePut => self.puts(operations, timer, S::facade_put),
            Operation::TransactionPut => self.puts(operations, timer, S::transaction_put),
            Operation::StorageGet => self.gets(operations, timer, S::storage_get),
            Operation::EngineGet => self.gets(operations, timer, S::engine_get),
            Operation::FacadeGet => self.gets(operations, timer, S::facade_get),
            Operation::Increment => self.increments(operations, timer),
            Operation::Snapshot => self.snapshots(operations, timer),
            get @ Operation::GetInto => self.gets(operations, timer, |session, key| session.counted_only(get, key, 0)),
            put @ (Operation::DeletePut | Operation::CheckTwoPuts | Operation::GetPut | Operation::TwoGetsTwoPuts) => {
                self.puts(operations, timer, |session, key, value| {
                    session.counted_only(put, key, value).map(drop)
                })
            }
        };
        if let Err(error) = done {
            self.report.error = Some(error);
        }
    }

    #[inline]
    fn puts(
        &mut self,
        operations: u64,
        timer: &mut impl Timer,
        put: impl Fn(&mut S, usize, u64) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        for _ in 0..operations {
            let key = self.stream.advance();
            let number = self.report.operations + 1;
            let value = self.report.tag.wrapping_add(number);
            timer.time(|| put(&mut self.session, key, value))?;
            self.report.operations = number;
        }
        Ok(())
    }

    #[inline]
    fn gets(
        &mut self,
        operations: u64,
        timer: &mut impl Timer,
        get: impl Fn(&mut S, usize) -> Result<Option<u64>, EngineError>,
    ) -> Result<(), EngineError> {
        for _ in 0..operations {
            let key = self.stream.advance();
            match black_box(timer.time(|| get(&mut self.session, key))?) {
                Some(value) => self.report.checksum = self.report.checksum.wrapping_add(verify::term(key, value)),
                None => self.report.missing += 1,
            }
            self.report.operations += 1;
        }
        Ok(())
    }

    fn increments(&mut self, operations: u64, timer: &mut impl Timer) -> Result<(), EngineError> {
        for _ in 0..operations {
            let key = self.stream.advance();
            self.report.conflicts += timer.time(|| self.session.increment(key))?;
            self.report.operations += 1;
        }
        Ok(())
    }

    fn snapshots(&mut self, operations: u64, timer: &mut impl Timer) -> Result<(), EngineError> {
        for _ in 0..operations {
            timer.time(|| self.session.snapshot())?;
            self.report.operations += 1;
        }
        Ok(())
    }
}

impl<S: Session> Work for Drive<S> {
    type Report = DriveReport;

    fn run(&mut self, operations: u64) {
        self.repeat(operations, &mut Untimed);
    }

    fn finish(self) -> DriveReport {
        self.report
    }
}

/// When the next operation starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// When the last one ended.
    Closed,
    /// Every so many nanoseconds after the first, whether or not the last one ended; a time is counted from then.
    Open {
        /// Between two intended starts, in nanoseconds.
        interval_ns: u64,
    },
}

/// A [`Drive`] that times every operation.
#[derive(Debug)]
pub struct TimedDrive<S> {
    drive: Drive<S>,
    timer: OperationTimer,
}

impl<S: Session> TimedDrive<S> {
    /// Times what `drive` does.
    #[must_use]
    pub fn new(drive: Drive<S>, clock: TickClock, pace: Pace) -> Self {
        let interval = match pace {
            Pace::Closed => None,
            Pace::Open { interval_ns } => Some(clock.ticks_in(interval_ns).max(1)),
        };
        let timer = OperationTimer {
            clock,
            interval,
            due: None,
            latency: latency_histogram(),
        };
        Self { drive, timer }
    }
}

impl<S: Session> Work for TimedDrive<S> {
    type Report = DriveReport;

    fn run(&mut self, operations: u64) {
        self.drive.repeat(operations, &mut self.timer);
    }

    fn warmed_up(&mut self) {
        self.timer.latency.reset();
        self.timer.due = None;
    }

    fn finish(self) -> DriveReport {
        DriveReport {
            latency: Some(self.timer.latency),
            ..self.drive.report
        }
    }
}

/// What surrounds each operation.
trait Timer {
    fn time<T>(&mut self, operation: impl FnOnce() -> T) -> T;
}

struct Untimed;

impl Timer for Untimed {
    #[inline(always)]
    fn time<T>(&mut self, operation: impl FnOnce() -> T) -> T {
        operation()
    }
}

#[derive(Debug)]
struct OperationTimer {
    clock: TickClock,
    interval: Option<u64>,
    due: Option<u64>,
    latency: Histogram<u64>,
}

impl Timer for OperationTimer {
    #[inline]
    fn time<T>(&mut self, operation: impl FnOnce() -> T) -> T {
        let mut from = self.clock.ticks();
        if let Some(interval) = self.interval {
            let due = self.due.unwrap_or(from);
            self.due = Some(due + interval);
            while self.clock.ticks() < due {
                std::hint::spin_loop();
            }
            from = due;
        }
        let result = operation();
        let to = self.clock.ticks();
        self.latency.saturating_record(self.clock.nanoseconds(from, to).max(1));
        result
    }
}
