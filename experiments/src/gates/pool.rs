//! Gate 5, the version pool: what the store holds does not drift while its keys are overwritten.
//!
//! Question: after warm-up, does a long overwriting run leave the memory in use and the versions that wait to be
//! freed where they were, or does either creep?
//! Method: as many threads as there are processors, two at most, overwrite a run of their own each through the
//! key-value facade. After a warm-up the first thread takes [`SAMPLES`] samples at equal distances of its own
//! operations, while all run: what the process holds more than before the store was opened, by the allocator's meter,
//! and the engine's own count of retired versions that are not freed. The median of the last quarter is compared with
//! that of the first, so that one sample taken at a bad moment decides nothing. The pool keeps its size if the two
//! differ, in either direction, by at most [`BYTES_PER_KEY`] bytes for each key of the store and by at most one
//! pending version for every [`KEYS_PER_PENDING`] keys. A run that drifts while a thread had less than half of its
//! processor decides nothing. Nothing is timed; the updates are checked like those of a timed slice.
//! Command: `experiments gates --only 5`.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};

use crate::allocations::{self, Meter};
use crate::engines::{Engine, EngineError, Layer, Operation};
use crate::gates::Context;
use crate::gates::bed::{Bed, DISTURBED_SHARE, Task};
use crate::gates::campaign::DISTURBED;
use crate::gates::counted::NOT_COUNTING;
use crate::gates::memory::METERED_ALREADY;
use crate::gates::sheet::Figure;
use crate::gates::table::K100;
use crate::harness::stats::median;
use crate::harness::threads::Work;

/// Name of the measure.
const MEASURE: &str = "version_pool_stable";

/// Samples of a run; a quarter of them is compared with another.
pub const SAMPLES: usize = 64;

/// How far the memory in use may drift, for each key. A store holds well over a hundred bytes for each.
pub const BYTES_PER_KEY: f64 = 2.0;

/// Keys for each pending version by which their number may drift.
pub const KEYS_PER_PENDING: f64 = 100.0;

/// How long the measured run is, in multiples of the operations over which allocations are counted; its warm-up is
/// one.
const LENGTH: u64 = 4;

/// What one look at a running store found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// Bytes that the process holds more than before the store was opened, as requested.
    pub bytes: i64,
    /// Versions that are retired and not yet freed, if the engine counts them.
    pub pending: Option<u64>,
}

/// Measures whether the version pool keeps its size.
///
/// # Errors
///
/// Returns what the engine refused while it was opened or loaded.
pub fn measure<S: Engine>(context: &mut Context) -> Result<(), EngineError> {
    if !context.sheet.wants(MEASURE) {
        return Ok(());
    }
    let figure = if allocations::is_counting() {
        match Meter::begin() {
            Some(meter) => overwrite::<S>(context, &meter)?,
            None => Figure::not_measurable(METERED_ALREADY),
        }
    } else {
        Figure::not_measurable(NOT_COUNTING)
    };
    context.sheet.record(MEASURE, figure);
    Ok(())
}

fn overwrite<S: Engine>(context: &Context, meter: &Meter) -> Result<Figure, EngineError> {
    let effort = context.options.effort;
    context.options.progress.say("version pool: overwriting");
    let threads = context.processors.min(2);
    let (keys, seed) = (effort.keys_for(K100), context.options.seed);
    let bed = Bed::<S>::new(keys, threads, &[Layer::Facade], effort, &context.clock, seed)?;
    let task = Task::alone(S::NAME, Operation::FacadePut).threads(threads);
    let warm_up = effort.counted_operations;
    let measured = LENGTH * effort.counted_operations;
    let look = || Look {
        bytes: meter.held().requested,
        pending: bed.engine().pending_versions(),
    };
    let watched = AtomicBool::new(true);
    let distance = (measured / SAMPLES as u64).max(1);
    let looks = bed.drive_counted(task, warm_up + measured, |thread, work| Watching {
        work,
        part: if thread == 0 {
            Part::Looks {
                look,
                _until_dropped: Watched(&watched),
            }
        } else {
            Part::Goes(&watched)
        },
        until_next: warm_up + distance,
        distance,
        looks: Vec::with_capacity(2 * SAMPLES),
    });
    Ok(match looks {
        Ok(run) => {
            let figure = judge(&run.reports.concat(), keys * threads, measured * threads as u64);
            unless_disturbed(figure, run.processor_share)
        }
        Err(reason) => Figure::invalid(reason.to_string()),
    })
}

/// Says that the watching is over when it is dropped, by a panic too, so that nobody goes on for ever.
struct Watched<'a>(&'a AtomicBool);

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        // ORDERING: Relaxed, the flag publishes nothing; it only has to be seen some time.
        self.0.store(false, Ordering::Relaxed);
    }
}

/// What a thread of the run does besides its work.
enum Part<'a, L> {
    /// Takes the samples.
    Looks { look: L, _until_dropped: Watched<'a> },
    /// Goes on until the last sample was taken: a thread that ends gives back what it holds, which is no drift.
    Goes(&'a AtomicBool),
}

/// Operations that a thread does beyond its own between two looks at whether it may end.
const FURTHER: u64 = 256;

/// Takes samples while its work goes on, or lets its work go on while samples are taken.
struct Watching<'a, W, L> {
    work: W,
    part: Part<'a, L>,
    until_next: u64,
    distance: u64,
    looks: Vec<Look>,
}

impl<W: Work, L: Fn() -> Look> Work for Watching<'_, W, L> {
    type Report = (W::Report, Vec<Look>);

    fn run(&mut self, mut operations: u64) {
        while operations >= self.until_next {
            self.work.run(self.until_next);
            operations -= self.until_next;
            self.until_next = self.distance;
            if let Part::Looks { look, .. } = &self.part {
                self.looks.push(look());
            }
        }
        self.work.run(operations);
        self.until_next -= operations;
    }

    fn finish(mut self) -> Self::Report {
        if let Part::Goes(watched) = self.part {
            // ORDERING: Relaxed, see `Watched`.
            while watched.load(Ordering::Relaxed) {
                self.work.run(FURTHER);
            }
        }
        (self.work.finish(), self.looks)
    }
}

/// Takes back a failure that the machine may have caused: a thread that loses its processor while it holds a guard
/// keeps versions pending, for as long as it waits.
fn unless_disturbed(figure: Figure, processor_share: f64) -> Figure {
    let failed = figure.result.as_ref().is_ok_and(|estimate| estimate.median < 1.0);
    if failed && processor_share < DISTURBED_SHARE {
        let share = processor_share * 100.0;
        return Figure::invalid(format!(
            "{DISTURBED}, a thread had its processor for {share:.0} % of the time: {}",
            figure.note
        ));
    }
    figure
}

/// Compares the first quarter with the last.
#[must_use]
pub fn judge(looks: &[Look], keys: usize, operations: u64) -> Figure {
    let quarter = looks.len() / 4;
    let parts = (&looks[..quarter], &looks[looks.len() - quarter..]);
    let middles = |pick: fn(&Look) -> Option<f64>| {
        let of = |part: &[Look]| median(&part.iter().filter_map(pick).collect::<Vec<_>>());
        of(parts.0).zip(of(parts.1))
    };
    if looks.len() < SAMPLES {
        return Figure::invalid(format!("{} samples were taken, not {SAMPLES}", looks.len()));
    }
    let Some(bytes) = middles(|look| Some(look.bytes as f64)) else {
        return Figure::invalid("no samples were taken");
    };
    let pending = middles(|look| look.pending.map(|pending| pending as f64));
    let keys = keys as f64;
    let (bytes_allowed, pending_allowed) = (BYTES_PER_KEY * keys, keys / KEYS_PER_PENDING);
    let drift = |(first, last): (f64, f64)| last - first;
    let holds = drift(bytes).abs() <= bytes_allowed && pending.is_none_or(|pair| drift(pair).abs() <= pending_allowed);
    let versions = pending.map_or_else(
        || "the engine counts no pending versions".to_owned(),
        |(first, last)| format!("pending versions {first:.0} to {last:.0} (tolerance {pending_allowed:.0})"),
    );
    let note = format!(
        "medians of the first and last quarter of {operations} overwrites: {:.0} to {:.0} bytes held (drift {:+.0}, \
         tolerance {bytes_allowed:.0}); {versions}",
        bytes.0,
        bytes.1,
        drift(bytes)
    );
    Figure::statement(holds, note)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of 1,000 keys whose `n`th sample is `look(n)`.
    fn judged(look: impl Fn(i64) -> (i64, Option<u64>)) -> Figure {
        let looks: Vec<Look> = (0..SAMPLES as i64)
            .map(|number| {
                let (bytes, pending) = look(number);
                Look { bytes, pending }
            })
            .collect();
        judge(&looks, 1_000, 64_000)
    }

    fn holds(figure: &Figure) -> Option<bool> {
        figure.result.as_ref().ok().map(|estimate| estimate.median == 1.0)
    }

    // Goal: either quantity fails the line alone, upwards and downwards, and noise does not. Method: samples that
    // creep by more than the tolerance (2,000 bytes, 10 versions) over the run, and samples that only jump.
    #[test]
    fn drift_fails_and_noise_does_not() {
        let steady = judged(|number| (100_000 + number % 3 * 900, Some(50 + number as u64 % 5)));
        assert_eq!(holds(&steady), Some(true), "{}", steady.note);
        for creeping in [
            judged(|number| (100_000 + number * 60, Some(50))),
            judged(|number| (100_000 - number * 60, Some(50))),
            judged(|number| (100_000, Some(50 + number as u64))),
            judged(|number| (100_000, Some(200 - number as u64))),
        ] {
            assert_eq!(holds(&creeping), Some(false), "{}", creeping.note);
        }
        let spike = judged(|number| {
            if number == 60 {
                (900_000, Some(9_000))
            } else {
                (100_000, Some(50))
            }
        });
        assert_eq!(holds(&spike), Some(true), "{}", spike.note);
        let uncounted = judged(|number| (100_000 + number * 60, None));
        assert_eq!(holds(&uncounted), Some(false), "{}", uncounted.note);
    }

    // Goal: a busy machine excuses a failure and nothing else, and a calm one excuses nothing.
    #[test]
    fn only_a_disturbed_machine_excuses_drift() {
        let steady = || judged(|_| (100_000, Some(50)));
        let creeping = || judged(|number| (100_000 + number * 60, Some(50)));
        assert_eq!(holds(&unless_disturbed(creeping(), 0.9)), Some(false));
        let excused = unless_disturbed(creeping(), 0.3).result.expect_err("no figure");
        assert!(excused.reason.starts_with(DISTURBED), "{}", excused.reason);
        assert_eq!(holds(&unless_disturbed(steady(), 0.3)), Some(true));
        assert!(unless_disturbed(judge(&[], 1, 0), 0.9).result.is_err());
    }

    #[test]
    fn too_few_samples_are_no_figure() {
        let look = Look {
            bytes: 1,
            pending: None,
        };
        assert!(judge(&[], 1_000, 0).result.is_err());
        assert!(judge(&[look; SAMPLES - 1], 1_000, 0).result.is_err());
    }
}
