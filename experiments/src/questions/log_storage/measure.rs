//! The slices of the question about the log's storage: databases that are open together, the floors beside them, and the
//! turns that they take.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, PoisonError};

use unlatched::{Durability, RunId};

use super::{Group, Groups, MAPPED, Mode, POSITIONED, SEGMENTS, Task, VALUES, rests, settings};
use crate::disk::bare::{Bare, Way};
use crate::disk::counted::Tally;
use crate::disk::place::Place;
use crate::engines::EngineError;
use crate::engines::durable::Durable as _;
use crate::engines::unlatched::Unlatched;
use crate::gates::bed::Sample;
use crate::gates::campaign::Campaign;
use crate::gates::quiet;
use crate::harness::rounds::{Round, Side};
use crate::harness::threads::{Outcome as Ran, run};
use crate::questions::{Effort, Options};
use crate::workload::KeySet;
use crate::workload::puts::{Manner as PutManner, Part, Put, Puts, bytes_of_a_put};
use crate::workload::random::split_mix;

/// Bytes of the file into which the floors write.
const BARE_BYTES: usize = 16 << 20;

const RUN: RunId = RunId::from_bytes([0x15; 16]);

/// A database of one side and mode.
struct Kept {
    side: &'static str,
    mode: Mode,
    engine: Unlatched,
    tally: Tally,
    _place: Place,
}

impl Kept {
    fn open(side: &'static str, mode: Mode, segment_bytes: usize, options: &Options) -> Result<Self, EngineError> {
        let parent = options.directory();
        let place = match side {
            POSITIONED => Place::positioned(&parent)?,
            _ => Place::mapped(&parent)?,
        };
        let tally = Tally::default();
        let place = match mode {
            Mode::Strict => {
                let counting = tally.clone();
                place.through(Arc::new(move |storage| counting.count(storage)))
            }
            Mode::Buffered => place,
        };
        let place = place.segment_bytes(segment_bytes);
        Ok(Self {
            side,
            mode,
            engine: Unlatched::open_at(&place, mode.durability())?,
            tally,
            _place: place,
        })
    }

    /// Measures one slice.
    fn slice(&self, task: Task, effort: Effort, round: Round, keys: &KeySet, groups: &Groups) -> Sample {
        let manner = PutManner {
            value_bytes: task.setting.value_bytes,
            durability: task.setting.mode.durability(),
            timed: task.setting.mode == Mode::Strict,
        };
        let seed = round.seed ^ split_mix((task.setting.threads << 32 | task.setting.value_bytes) as u64);
        let before = self.tally.now();
        let outcome = run(&task.plan(effort, round), task.threads(), |thread| {
            let part = Part {
                thread,
                threads: task.setting.threads,
            };
            Ok::<_, Infallible>(Puts::new(&self.engine, RUN, keys, part, manner, seed))
        });
        let Ok(outcome) = outcome;
        let group = Group {
            commits: outcome.threads.iter().map(|thread| thread.report.operations).sum(),
            syncs: self.tally.now().since(before),
        };
        if self.mode == Mode::Strict {
            let mut groups = groups.lock().unwrap_or_else(PoisonError::into_inner);
            groups.entry(task).or_default().push(group);
        }
        let mut sample = sample(&task, outcome);
        // What is still to be made durable is not to be made so in another side's slice.
        if let Err(error) = self.engine.flush() {
            sample.mark_wrong(&error);
        }
        sample
    }
}

/// A slice's sample, with the time of each commit and what went wrong.
fn sample(task: &Task, outcome: Ran<Put>) -> Sample {
    let mut sample = Sample::held_to(&outcome, task.manner().least_share);
    let mut wrong = None;
    for thread in outcome.threads {
        wrong = wrong.or(thread.report.wrong);
        match (&mut sample.latency, thread.report.latency) {
            (Some(all), Some(own)) => {
                // Both have the same bounds, so that adding cannot fail.
                let _added = all.add(&own);
            }
            (none, own) => *none = own.or(none.take()),
        }
    }
    if let Some(wrong) = wrong {
        sample.mark_wrong(&wrong);
    }
    sample
}

/// Measures a bare slice.
fn bare_slice(bare: &Bare, way: Way, bytes: usize, task: &Task, effort: Effort, round: Round) -> Sample {
    let threads = task.setting.threads;
    let outcome = run(&task.plan(effort, round), task.threads(), |thread| {
        Ok::<_, Infallible>(bare.writer(way, bytes, thread, threads))
    });
    let Ok(outcome) = outcome;
    let mut sample = Sample::held_to(&outcome, task.manner().least_share);
    if let Some(error) = outcome.threads.iter().find_map(|thread| thread.report.error.as_ref()) {
        sample.mark_wrong(error);
    }
    sample
}

/// Measures all settings with segments of one length, interleaved.
pub(super) fn stage(
    keys: usize,
    segment_bytes: usize,
    options: &Options,
    samples: &mut Campaign<Task>,
    groups: &Groups,
) -> Result<(), EngineError> {
    let title = format!("log storage, {} MiB segments", segment_bytes >> 20);
    options.progress.say(&format!("{title}: loading"));
    let effort = options.effort;
    let names = KeySet::new(keys, options.seed);
    let mut kept = Vec::new();
    for mode in [Mode::Strict, Mode::Buffered] {
        for side in [MAPPED, POSITIONED].into_iter().filter(|side| options.wants(side)) {
            let one = Kept::open(side, mode, segment_bytes, options)?;
            let manner = PutManner {
                value_bytes: VALUES[0],
                durability: Durability::BUFFERED,
                timed: false,
            };
            Puts::load(&one.engine, RUN, &names, manner)?;
            one.engine.flush()?;
            kept.push(one);
        }
    }
    let parent = options.directory();
    let mut bytes = BTreeMap::new();
    for value_bytes in VALUES {
        bytes.insert(value_bytes, bytes_of_a_put::<Unlatched>(&parent, value_bytes)?);
    }
    let bare = Bare::new(&parent, BARE_BYTES)?;
    let mut turns = vec![(rests(keys, segment_bytes), quiet::side(effort.waiting_slice))];
    for setting in settings(options)
        .into_iter()
        .filter(|setting| setting.segment_bytes == segment_bytes)
    {
        for one in kept.iter().filter(|one| one.mode == setting.mode) {
            let task = Task {
                setting,
                keys,
                side: one.side,
            };
            let names = &names;
            let measure = move |round: Round| one.slice(task, effort, round, names, groups);
            turns.push((task, Side::new(task.to_string(), measure)));
        }
        // The floors have no segments.
        if setting.mode == Mode::Strict && segment_bytes == SEGMENTS[0] {
            for way in Way::ALL.into_iter().filter(|way| options.wants(way.name())) {
                let task = Task {
                    setting,
                    keys,
                    side: way.name(),
                };
                let (bare, bytes) = (&bare, bytes[&setting.value_bytes]);
                let measure = move |round: Round| bare_slice(bare, way, bytes, &task, effort, round);
                turns.push((task, Side::new(task.to_string(), measure)));
            }
        }
    }
    samples.run(&title, effort.rounds, turns, &options.progress);
    Ok(())
}
