//! Checks what a slice left behind, so that a figure made by losing updates never counts.
//!
//! Where only one thread wrote a key, the key must hold that thread's last value: it follows from the thread's
//! stream, tag and count ([`disjoint`]). Where several threads wrote one key, it must hold the last value of one of
//! them ([`same_key`]), which cannot show a lost update, since blind puts may be lost to one another rightly; so a
//! count made by increments goes with it, and it must be exact ([`counted`]).
//!
//! Gets are checked by a [`Ledger`]: it knows the contents from what was loaded and written, never from the engine,
//! and so the sum that the gets of a stream must come to ([`gets`]). A snapshot must go on showing what was there
//! when it was taken ([`snapshot`]).
#![forbid(unsafe_code)]

use super::drive::DriveReport;
use crate::engines::{EngineError, Layer, Operation, Session};

/// Why a slice is no measurement.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// A key does not hold what was written last.
    #[error("lost update: key {key} holds {found:?}, but {expected} was written last ({wrong} keys are wrong)")]
    LostUpdate {
        /// The index of the first such key.
        key: usize,
        /// What was written last.
        expected: u64,
        /// What is there.
        found: Option<u64>,
        /// How many keys are wrong.
        wrong: usize,
    },
    /// A key holds a value that is the last of no thread.
    #[error("lost update: key {key} holds {found:?}, which is the last value of none of its {threads} writers")]
    Foreign {
        /// The key's index.
        key: usize,
        /// What is there.
        found: Option<u64>,
        /// How many threads wrote it.
        threads: usize,
    },
    /// A counter is not the number of increments that committed.
    #[error("lost update: counter {key} holds {found}, but {expected} increments committed")]
    Miscounted {
        /// The key's index.
        key: usize,
        /// Increments that committed, plus what was there before.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// A get found nothing under a key that was loaded.
    #[error("{missing} gets found nothing under keys that were loaded")]
    Missing {
        /// How many.
        missing: u64,
    },
    /// Gets returned something else than what was stored.
    #[error("wrong value: what {operations} gets returned is not what was stored (checksum {found}, not {expected})")]
    WrongValue {
        /// How many gets.
        operations: u64,
        /// What their checksum must be.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// Nobody knows what the gets should have returned.
    #[error("nothing is known about the contents that {operation} reads; load its layer first")]
    Unknown {
        /// What was done.
        operation: Operation,
    },
    /// A snapshot showed something else than what was there when it was taken, or hid a put from others.
    #[error(
        "wrong snapshot: it shows {seen:?} and not {expected}, and beside it {newest:?} is read after a put of {put}"
    )]
    WrongSnapshot {
        /// What was there when it was taken.
        expected: u64,
        /// What it shows.
        seen: Option<u64>,
        /// What was put while it was open.
        put: u64,
        /// What a get then returned.
        newest: Option<u64>,
    },
    /// An operation failed.
    #[error("an operation failed: {0}")]
    Failed(#[from] EngineError),
}

/// Returns the value that [`load`] gives a key.
#[must_use]
pub const fn loaded_value(key: usize) -> u64 {
    key as u64
}

/// Loads a layer: every key below `keys`, with [`loaded_value`].
///
/// # Errors
///
/// Returns the first error of the engine.
pub fn load(session: &mut impl Session, layer: Layer, keys: usize) -> Result<(), EngineError> {
    (0..keys).try_for_each(|key| session.load(layer, key, loaded_value(key)))
}

/// Takes the error of a report, and the gets that found nothing.
///
/// # Errors
///
/// Returns [`Invalid::Failed`] or [`Invalid::Missing`].
pub fn sound(report: &mut DriveReport) -> Result<(), Invalid> {
    if let Some(error) = report.error.take() {
        return Err(error.into());
    }
    if report.missing > 0 {
        return Err(Invalid::Missing {
            missing: report.missing,
        });
    }
    Ok(())
}

/// Works out the last value of every key that a drive wrote: `(key, value)`, each key once.
///
/// Its `operations` wrote `tag + 1, tag + 2, ...` over a stream that was fresh and has this `period`. If each also wrote
/// the key's successor, the period must name every key of the run, so that the last key, whose successor is the first,
/// is known from it.
#[must_use]
pub fn last_values(operations: u64, tag: u64, with_successors: bool, period: &[u32]) -> Vec<(usize, u64)> {
    let length = period.len() as u64;
    let highest = period.iter().copied().max().unwrap_or(0) as usize;
    let keys = highest + 1;
    let written = if with_successors { 2 } else { 1 };
    let mut seen = vec![false; keys];
    let mut last = Vec::new();
    // Backwards from the last operation: what a whole period does not name was never written.
    for back in 0..operations.min(length) {
        let number = operations - back;
        let key = period[((number - 1) % length) as usize] as usize;
        for key in (key..key + written).map(|key| key % keys) {
            if !std::mem::replace(&mut seen[key], true) {
                last.push((key, tag.wrapping_add(number)));
            }
        }
    }
    last
}

/// Checks the keys of a thread that was their only writer.
///
/// # Errors
///
/// Returns [`Invalid::LostUpdate`], or what the engine refused.
pub fn disjoint(session: &mut impl Session, report: &DriveReport, period: &[u32]) -> Result<(), Invalid> {
    let layer = report.operation.layer();
    let mut first = None;
    let mut wrong = 0;
    for (key, expected) in last_values(report.operations, report.tag, report.operation.puts_successor(), period) {
        let found = session.read(layer, key)?;
        if found != Some(expected) {
            wrong += 1;
            first = first.or(Some((key, expected, found)));
        }
    }
    match first {
        None => Ok(()),
        Some((key, expected, found)) => Err(Invalid::LostUpdate {
            key,
            expected,
            found,
            wrong,
        }),
    }
}

/// Returns what one get adds to a checksum. Every key has a weight of its own, and an odd one, so that neither one
/// changed value nor two exchanged ones leave the sum as it was.
#[inline]
#[must_use]
pub const fn term(key: usize, value: u64) -> u64 {
    value.wrapping_mul((key as u64) << 1 | 1)
}

/// What the keys of a layer must hold, kept beside the engine from what was loaded and written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    values: Vec<u64>,
}

impl Ledger {
    /// What [`load`] leaves.
    #[must_use]
    pub fn loaded(keys: usize) -> Self {
        Self {
            values: (0..keys).map(loaded_value).collect(),
        }
    }

    /// Notes what a thread wrote, over a stream that was fresh.
    pub fn note(&mut self, report: &DriveReport, period: &[u32]) {
        for (key, value) in last_values(report.operations, report.tag, report.operation.puts_successor(), period) {
            self.set(key, value);
        }
    }

    /// Returns the value of a key.
    ///
    /// # Panics
    ///
    /// If the ledger has no such key.
    #[must_use]
    pub fn value(&self, key: usize) -> u64 {
        self.values[key]
    }

    /// Notes one value.
    pub fn set(&mut self, key: usize, value: u64) {
        if let Some(slot) = self.values.get_mut(key) {
            *slot = value;
        }
    }

    /// Returns the checksum of the first `operations` gets of a fresh stream.
    ///
    /// # Panics
    ///
    /// If `period` is empty or names a key that the ledger has not.
    #[must_use]
    pub fn checksum(&self, operations: u64, period: &[u32]) -> u64 {
        let sum = |keys: &[u32]| {
            keys.iter()
                .map(|key| *key as usize)
                .fold(0_u64, |sum, key| sum.wrapping_add(term(key, self.values[key])))
        };
        let (whole, rest) = (operations / period.len() as u64, operations % period.len() as u64);
        whole
            .wrapping_mul(sum(period))
            .wrapping_add(sum(&period[..rest as usize]))
    }
}

/// Checks what gets returned over a stream that was fresh.
///
/// # Errors
///
/// Returns [`Invalid::WrongValue`].
pub fn gets(ledger: &Ledger, report: &DriveReport, period: &[u32]) -> Result<(), Invalid> {
    let expected = ledger.checksum(report.operations, period);
    if report.checksum == expected {
        Ok(())
    } else {
        Err(Invalid::WrongValue {
            operations: report.operations,
            expected,
            found: report.checksum,
        })
    }
}

/// Checks that a snapshot keeps showing a value while another is put, and that the other is read beside it.
///
/// # Errors
///
/// Returns [`Invalid::WrongSnapshot`], or what the engine refused.
pub fn snapshot(session: &mut impl Session, key: usize, old: u64) -> Result<(), Invalid> {
    let new = !old;
    let (seen, newest) = session.overwrite_under_snapshot(key, old, new)?;
    if (seen, newest) == (Some(old), Some(new)) {
        Ok(())
    } else {
        Err(Invalid::WrongSnapshot {
            expected: old,
            seen,
            put: new,
            newest,
        })
    }
}

/// Checks a key that several threads wrote, each over `Stream::constant(key)`.
///
/// # Errors
///
/// Returns [`Invalid::Foreign`], or what the engine refused.
pub fn same_key(session: &mut impl Session, key: usize, reports: &[DriveReport]) -> Result<(), Invalid> {
    let Some(layer) = reports.first().map(|report| report.operation.layer()) else {
        return Ok(());
    };
    let found = session.read(layer, key)?;
    let is_last = reports
        .iter()
        .any(|report| found == Some(report.tag.wrapping_add(report.operations)));
    if is_last {
        Ok(())
    } else {
        Err(Invalid::Foreign {
            key,
            found,
            threads: reports.len(),
        })
    }
}

/// Checks a counter that `increments` transactions added to, all threads and warm-ups together.
///
/// # Errors
///
/// Returns [`Invalid::Miscounted`], or what the engine refused.
pub fn counted(session: &mut impl Session, key: usize, before: u64, increments: u64) -> Result<(), Invalid> {
    let found = session.read(Layer::Facade, key)?.unwrap_or(0);
    let expected = before.wrapping_add(increments);
    if found == expected {
        Ok(())
    } else {
        Err(Invalid::Miscounted { key, expected, found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(operations: u64) -> DriveReport {
        DriveReport {
            operation: Operation::StoragePut,
            operations,
            tag: 100,
            conflicts: 0,
            missing: 0,
            checksum: 0,
            error: None,
            latency: None,
        }
    }

    // Goal: last values follow from the count. Method: play a small stream forwards and compare.
    #[test]
    fn last_values_are_those_of_playing_the_stream() {
        let period = [2, 0, 1, 2, 1, 0];
        for operations in 0..20_u64 {
            let mut played = [None; 3];
            for number in 1..=operations {
                played[period[((number - 1) % 6) as usize] as usize] = Some(100 + number);
            }
            let mut derived = [None; 3];
            for (key, value) in last_values(operations, 100, false, &period) {
                assert_eq!(derived[key].replace(value), None, "each key once");
            }
            assert_eq!(derived, played, "after {operations} operations");
        }
    }

    // Goal: an operation that writes two keys is followed on both. Method: the same, with successors; key 2's is key
    // 0.
    #[test]
    fn last_values_follow_puts_of_successors() {
        let period = [2, 0, 1, 2, 1, 0];
        for operations in 0..20_u64 {
            let mut played = [None; 3];
            for number in 1..=operations {
                let key = period[((number - 1) % 6) as usize] as usize;
                played[key] = Some(100 + number);
                played[(key + 1) % 3] = Some(100 + number);
            }
            let mut derived = [None; 3];
            for (key, value) in last_values(operations, 100, true, &period) {
                assert_eq!(derived[key].replace(value), None, "each key once");
            }
            assert_eq!(derived, played, "after {operations} operations");
        }
    }

    // Goal: the checksum is that of getting one by one, and no single change escapes it. Method: play a stream over
    // known contents, then with one value changed, two exchanged, and a constant for all.
    #[test]
    fn checksum_is_that_of_the_stream_and_sees_every_change() {
        let period = [2, 0, 1, 2, 1, 0];
        let mut ledger = Ledger::loaded(3);
        ledger.note(&report(4), &period);
        let contents = [102, 103, 104];
        let play = |contents: [u64; 3], operations: u64| {
            (0..operations)
                .map(|number| period[(number % 6) as usize] as usize)
                .fold(0_u64, |sum, key| sum.wrapping_add(term(key, contents[key])))
        };
        for operations in 0..20 {
            let mut got = report(operations);
            got.checksum = play(contents, operations);
            assert!(gets(&ledger, &got, &period).is_ok(), "after {operations} operations");
        }
        for wrong in [[102, 103, 105], [103, 102, 104], [104, 103, 102], [7; 3], [0; 3]] {
            let mut got = report(12);
            got.checksum = play(wrong, 12);
            let found = gets(&ledger, &got, &period);
            assert!(matches!(found, Err(Invalid::WrongValue { .. })), "{wrong:?}: {found:?}");
        }
    }

    #[test]
    fn errors_and_missing_records_make_a_report_unsound() {
        assert!(sound(&mut report(1)).is_ok());
        let mut missing = report(1);
        missing.missing = 3;
        assert!(matches!(sound(&mut missing), Err(Invalid::Missing { missing: 3 })));
        let mut failed = report(1);
        failed.error = Some(EngineError::RetriesExhausted { attempts: 5 });
        assert!(matches!(sound(&mut failed), Err(Invalid::Failed(_))));
    }
}
