//! Checks what a slice left behind, so that a figure made by losing updates never counts.
//!
//! Where only one thread wrote a key, the key must hold that thread's last value: it follows from the thread's
//! stream, tag and count ([`disjoint`]). Where several threads wrote one key, it must hold the last value of one of
//! them ([`same_key`]), which cannot show a lost update, since blind puts may be lost to one another rightly; so a
//! count made by increments goes with it, and it must be exact ([`counted`]).
#![forbid(unsafe_code)]

use super::drive::DriveReport;
use crate::engines::{EngineError, Layer, Session};

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
/// `period` is the period of the drive's stream, which must have been fresh.
#[must_use]
pub fn last_values(report: &DriveReport, period: &[u32]) -> Vec<(usize, u64)> {
    let length = period.len() as u64;
    let highest = period.iter().copied().max().unwrap_or(0) as usize;
    let mut seen = vec![false; highest + 1];
    let mut last = Vec::new();
    // Backwards from the last operation: what a whole period does not name was never written.
    for back in 0..report.operations.min(length) {
        let number = report.operations - back;
        let key = period[((number - 1) % length) as usize] as usize;
        if !std::mem::replace(&mut seen[key], true) {
            last.push((key, report.tag.wrapping_add(number)));
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
    for (key, expected) in last_values(report, period) {
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
    use crate::engines::Operation;

    fn report(operations: u64) -> DriveReport {
        DriveReport {
            operation: Operation::StoragePut,
            operations,
            tag: 100,
            conflicts: 0,
            missing: 0,
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
            for (key, value) in last_values(&report(operations), &period) {
                assert_eq!(derived[key].replace(value), None, "each key once");
            }
            assert_eq!(derived, played, "after {operations} operations");
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
