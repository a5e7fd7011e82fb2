//! The timed loops of the comparisons: one thread's session, its orders of keys, and a count of what it did.
//!
//! The operation is chosen once per batch. A value is the drive's tag plus the number of the operation, so that all
//! values of all threads and rounds differ; what is read is summed up, weighted by key, at a multiplication and an
//! addition per operation, the same for every side.
#![forbid(unsafe_code)]

use std::hint::black_box;

use super::contenders::{Operation, SCAN_LENGTH, Session};
use crate::engines::EngineError;
use crate::harness::threads::Work;
use crate::workload::Stream;
use crate::workload::verify::term;

/// What a thread reads and writes, in which order.
#[derive(Clone, Debug)]
pub struct Streams {
    /// Keys to read.
    pub reads: Stream,
    /// Which of the thread's own keys to write.
    pub writes: Stream,
    /// The thread's first own key.
    pub first: usize,
    /// From one of its own keys to the next.
    pub step: usize,
}

impl Streams {
    /// Returns the key that is the thread's `own`th.
    #[inline]
    #[must_use]
    pub fn key(&self, own: usize) -> usize {
        self.first + own * self.step
    }
}

/// What a thread did, warm-up included, and what it met.
#[derive(Debug)]
pub struct Report {
    /// Operations since the drive was made.
    pub operations: u64,
    /// The values it wrote are `tag + 1, tag + 2, ...`.
    pub tag: u64,
    /// Attempts at transactions that were aborted.
    pub aborts: u64,
    /// Reads that found nothing; on a loaded store, lost records.
    pub missing: u64,
    /// Sum of [`term`] over what was read.
    pub checksum: u64,
    /// The first error; nothing was done after it.
    pub error: Option<EngineError>,
}

impl Report {
    /// Says what went wrong while it ran.
    ///
    /// # Errors
    ///
    /// Returns the reason.
    pub fn sound(&self) -> Result<(), String> {
        match &self.error {
            Some(error) => Err(format!("an operation failed: {error}")),
            None if self.missing > 0 => Err(format!(
                "{} reads found nothing under keys that are there",
                self.missing
            )),
            None => Ok(()),
        }
    }
}

/// Runs one operation over its streams.
#[derive(Debug)]
pub struct Drive<S> {
    session: S,
    operation: Operation,
    streams: Streams,
    report: Report,
}

impl<S: Session> Drive<S> {
    /// Makes a drive over fresh streams, with a tag that no other thread, side or round uses.
    #[must_use]
    pub fn new(session: S, operation: Operation, streams: Streams, tag: u64) -> Self {
        let report = Report {
            operations: 0,
            tag,
            aborts: 0,
            missing: 0,
            checksum: 0,
            error: None,
        };
        Self {
            session,
            operation,
            streams,
            report,
        }
    }

    /// Repeats `step` until it fails.
    #[inline]
    fn repeat(
        &mut self,
        operations: u64,
        mut step: impl FnMut(&mut S, &mut Streams, &mut Report) -> Result<(), EngineError>,
    ) {
        for _ in 0..operations {
            if let Err(error) = step(&mut self.session, &mut self.streams, &mut self.report) {
                self.report.error = Some(error);
                return;
            }
            self.report.operations += 1;
        }
    }
}

/// Takes what a get returned into the report.
#[inline]
fn took(report: &mut Report, key: usize, found: Option<u64>) {
    match found {
        Some(value) => report.checksum = report.checksum.wrapping_add(term(key, value)),
        None => report.missing += 1,
    }
}

/// The value of the operation that comes next.
#[inline]
fn next_value(report: &Report) -> u64 {
    report.tag.wrapping_add(report.operations + 1)
}

impl<S: Session> Work for Drive<S> {
    type Report = Report;

    fn run(&mut self, operations: u64) {
        // After an error the thread idles to the end of the slice, which is no figure any more.
        if self.report.error.is_some() {
            return;
        }
        match self.operation {
            Operation::Get | Operation::HotGet => self.repeat(operations, |session, streams, report| {
                let key = streams.reads.advance();
                took(report, key, session.get(key)?);
                Ok(())
            }),
            Operation::Overwrite => self.repeat(operations, |session, streams, report| {
                let own = streams.writes.advance();
                session.put(streams.key(own), next_value(report))
            }),
            Operation::Insert => self.repeat(operations, |session, streams, report| {
                let own = streams.writes.advance();
                session.insert(streams.key(own), next_value(report))
            }),
            Operation::Scan => self.repeat(operations, |session, streams, report| {
                let key = streams.reads.advance();
                let scanned = session.scan(key, SCAN_LENGTH)?;
                took(report, key, Some(scanned.digest.wrapping_add(scanned.entries)));
                Ok(())
            }),
            Operation::ReadWrite => self.repeat(operations, |session, streams, report| {
                let (read, own) = (streams.reads.advance(), streams.writes.advance());
                let (found, aborts) = session.read_write(read, streams.key(own), next_value(report))?;
                report.aborts += aborts;
                report.missing += u64::from(black_box(found).is_none());
                Ok(())
            }),
            Operation::Contended => self.repeat(operations, |session, streams, report| {
                let own = streams.writes.advance();
                report.aborts += session.increment(streams.key(own))?;
                Ok(())
            }),
        }
    }

    fn finish(self) -> Report {
        self.report
    }
}
