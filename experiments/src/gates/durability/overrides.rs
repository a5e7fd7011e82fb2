//! Durability for one operation: what it promises, and what it costs.
//!
//! **What it promises.** In a database of each mode, puts, deletes, inserts and transactions are made with each mode. Then a
//! crash that leaves nothing but what was durable: what was strict is there, and what was in memory is not. After a flush
//! and another such crash, what was buffered is there too, and what was in memory still is not. A database without a
//! place refuses to raise what it cannot keep.
//!
//! **What it costs.** One thread puts, with each mode, into a database of each mode, beside one that has this mode itself. The
//! nine ratios are in the table; the line holds if there are nine.
#![forbid(unsafe_code)]

use std::fmt;
use std::num::NonZeroUsize;

use unlatched::{Durability, RunId};

use super::kept::{LAZY, SEGMENT_BYTES, Trouble};
use crate::disk::place::Place;
use crate::engines::EngineError;
use crate::engines::durable::Durable;
use crate::gates::bed::Sample;
use crate::gates::campaign::{Campaign, Metric};
use crate::gates::sheet::Figure;
use crate::gates::table::K100;
use crate::gates::{Context, quiet};
use crate::harness::rounds::{Round, Side};
use crate::harness::stats::Estimate;
use crate::harness::threads::{Plan, run};
use crate::report::markdown::Section;
use crate::report::units;
use crate::workload::KeySet;
use crate::workload::puts::{Manner, Part, Puts};
use crate::workload::random::split_mix;

/// A mode, apart from its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mode {
    InMemory,
    Buffered,
    Strict,
}

impl Mode {
    const ALL: [Self; 3] = [Self::InMemory, Self::Buffered, Self::Strict];

    fn name(self) -> &'static str {
        match self {
            Self::InMemory => "in memory",
            Self::Buffered => "buffered",
            Self::Strict => "strict",
        }
    }

    /// The mode as databases have it.
    fn usual(self) -> Durability {
        match self {
            Self::InMemory => Durability::InMemory,
            Self::Buffered => Durability::BUFFERED,
            Self::Strict => Durability::Strict,
        }
    }

    /// The mode, buffered only as nothing flushes by itself.
    fn lazy(self) -> Durability {
        match self {
            Self::Buffered => LAZY,
            other => other.usual(),
        }
    }
}

const RUN: RunId = RunId::from_bytes([0x0d; 16]);

/// What an operation of each kind leaves under its key when it survives. Deletes leave nothing, of what was strict before.
const KINDS: [&str; 5] = ["put", "insert", "first", "second", "deleted"];

/// Keys of every kind.
const KEYS: usize = 50;

fn key(kind: &str, mode: Mode, number: usize) -> Vec<u8> {
    format!("{kind} {} {number}", mode.name()).into_bytes()
}

/// Tries every pair of modes; says what was tried.
pub(super) fn promises<D: Durable>(seed: u64) -> Result<String, Trouble> {
    for default in Mode::ALL {
        let place = Place::simulated(seed).segment_bytes(SEGMENT_BYTES);
        let engine = D::open_at(&place, default.lazy())?;
        for (mode, number) in each() {
            engine.put_as(&RUN, &key("deleted", mode, number), b"before", Durability::Strict)?;
        }
        // A strict cut covers what was buffered before it; that is why only the flush decides on that.
        for (mode, number) in each() {
            operate(&engine, mode, number)?;
        }
        // Even seeds: nothing survives but what was made durable.
        let at_once = D::open_at(&place.crash(seed << 1)?, default.lazy())?;
        expect(&at_once, default, Mode::Strict, true, "at once")?;
        expect(&at_once, default, Mode::InMemory, false, "at once")?;
        drop(at_once);
        engine.flush()?;
        let flushed = D::open_at(&place.crash(seed << 2)?, default.lazy())?;
        for mode in Mode::ALL {
            expect(&flushed, default, mode, mode != Mode::InMemory, "after a flush")?;
        }
    }
    refuses::<D>()?;
    Ok("puts, deletes, inserts and transactions in nine pairs of modes, each pair crashed at once and after a flush; a \
        database without a place refuses to raise"
        .to_owned())
}

/// Every mode, with every number of a key.
fn each() -> impl Iterator<Item = (Mode, usize)> {
    Mode::ALL
        .into_iter()
        .flat_map(|mode| (0..KEYS).map(move |number| (mode, number)))
}

fn operate<D: Durable>(engine: &D, mode: Mode, number: usize) -> Result<(), Trouble> {
    let durability = mode.lazy();
    let key = |kind| key(kind, mode, number);
    engine.put_as(&RUN, &key("put"), b"after", durability)?;
    engine.insert_as(&RUN, &key("insert"), b"after", durability)?;
    engine.transact_as(&RUN, &[&key("first"), &key("second")], b"after", durability)?;
    if engine.delete_as(&RUN, &key("deleted"), durability)? {
        Ok(())
    } else {
        Err(Trouble::Broken(format!("a delete {} found nothing", mode.name())))
    }
}

fn expect<D: Durable>(engine: &D, default: Mode, mode: Mode, survives: bool, when: &str) -> Result<(), Trouble> {
    let mut buffer = Vec::new();
    for kind in KINDS {
        for number in 0..KEYS {
            let is_there = engine.get_bytes(&RUN, &key(kind, mode, number), &mut buffer)?;
            if is_there != (survives != (kind == "deleted")) {
                let (mode, default) = (mode.name(), default.name());
                let found = if is_there { "there" } else { "not there" };
                return Err(Trouble::Broken(format!(
                    "{kind}, {mode}, in a database {default}: key {number} is {found} after a crash {when}"
                )));
            }
        }
    }
    Ok(())
}

fn refuses<D: Durable>() -> Result<(), Trouble> {
    let engine = D::open()?;
    for mode in [Mode::Buffered, Mode::Strict] {
        if engine.put_as(&RUN, b"raised", b"value", mode.usual()).is_ok() {
            return Err(Trouble::Broken(format!(
                "a database without a place took a put {} and cannot keep it",
                mode.name()
            )));
        }
    }
    Ok(())
}

/// A database, and the mode of what is put into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Pair {
    default: Mode,
    mode: Mode,
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "put {} into {}", self.mode.name(), self.default.name())
    }
}

/// A side of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    /// Looks how busy others are.
    Others,
    Put(Pair),
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Others => f.write_str("looking at other load"),
            Self::Put(pair) => pair.fmt(f),
        }
    }
}

/// Measures the nine pairs, and fills in the line and the table.
///
/// # Errors
///
/// What an engine refused while it was opened.
pub(super) fn cost<D: Durable>(context: &mut Context) -> Result<(), EngineError> {
    let effort = context.options.effort;
    let keys = KeySet::new(effort.keys_for(K100), context.options.seed);
    let mut engines = Vec::new();
    for default in Mode::ALL {
        let place = Place::mapped(&context.options.directory())?;
        let engine = D::open_at(&place, default.usual())?;
        let load = match default {
            Mode::InMemory => Durability::InMemory,
            _ => Durability::BUFFERED,
        };
        Puts::load(&engine, RUN, &keys, manner(load))?;
        engines.push((default, engine, place));
    }
    let slice = |mode: Mode| match mode {
        Mode::Strict => effort.strict_slice,
        _ => effort.slice,
    };
    let mut sides = vec![(Turn::Others, quiet::side(effort.slice))];
    for (default, engine, _) in &engines {
        for mode in Mode::ALL {
            let pair = Pair {
                default: *default,
                mode,
            };
            let keys = &keys;
            let measure = move |round: Round| {
                let plan = Plan::timed(slice(mode)).warm_up(effort.warm_up).rotation(round.index);
                measure(engine, keys, pair, plan, round)
            };
            sides.push((Turn::Put(pair), Side::new(pair.to_string(), measure)));
        }
    }
    let mut campaign = Campaign::new(context.options.seed);
    campaign.run(
        "durability of one put",
        effort.shown_rounds,
        sides,
        &context.options.progress,
    );
    context.sections.push(section(&campaign));
    context.sheet.record("durability_override_cost", figure(&campaign));
    Ok(())
}

fn measure<D: Durable>(engine: &D, keys: &KeySet, pair: Pair, plan: Plan, round: Round) -> Sample {
    let outcome = run(&plan, NonZeroUsize::MIN, |_| {
        let alone = Part { thread: 0, threads: 1 };
        // No other slice puts the same.
        let seed = round.seed ^ split_mix(pair.mode as u64);
        let puts = Puts::new(engine, RUN, keys, alone, manner(pair.mode.usual()), seed);
        Ok::<_, std::convert::Infallible>(puts)
    });
    let Ok(outcome) = outcome;
    let mut sample = Sample::of(&outcome);
    if let Some(wrong) = outcome.threads.iter().find_map(|thread| thread.report.wrong.as_ref()) {
        sample.mark_wrong(wrong);
    }
    sample
}

fn manner(durability: Durability) -> Manner {
    Manner {
        value_bytes: size_of::<u64>(),
        durability,
        timed: false,
    }
}

fn ratio(campaign: &Campaign<Turn>, pair: Pair) -> Result<Estimate, String> {
    let usual = Pair {
        default: pair.mode,
        ..pair
    };
    quiet::check(campaign, Turn::Others)?;
    campaign.ratio(Turn::Put(pair), Turn::Put(usual), Metric::Mean)
}

fn pairs() -> impl Iterator<Item = Pair> {
    Mode::ALL
        .into_iter()
        .flat_map(|default| Mode::ALL.map(|mode| Pair { default, mode }))
}

fn figure(campaign: &Campaign<Turn>) -> Figure {
    let mut costs = Vec::new();
    for pair in pairs() {
        match ratio(campaign, pair) {
            Ok(estimate) if pair.default != pair.mode => {
                costs.push(format!("{pair} {}", units::value(estimate.median, "ratio")));
            }
            Ok(_) => {}
            Err(reason) => return Figure::invalid(reason),
        }
    }
    Figure::statement(true, format!("over a database of that mode: {}", costs.join(", ")))
}

fn section(campaign: &Campaign<Turn>) -> Section {
    let row = |default: Mode| {
        let cells = Mode::ALL.map(|mode| {
            let pair = Pair { default, mode };
            let mean = campaign.estimate(Turn::Put(pair), Metric::Mean);
            match (mean, ratio(campaign, pair)) {
                (Ok(mean), Ok(ratio)) => format!(
                    "{}, {} [{}, {}]",
                    units::value(mean.median, "ns"),
                    units::value(ratio.median, "ratio"),
                    units::digits(ratio.low),
                    units::digits(ratio.high)
                ),
                _ => "invalid".to_owned(),
            }
        });
        std::iter::once(default.name().to_owned()).chain(cells).collect()
    };
    Section {
        title: "Durability of one put".to_owned(),
        text: "Mean of a put by one thread with the durability at the head of the column, into a database of the durability at \
               the head of the row; and how many times that of a database of the column's durability, with its 95 % interval."
            .to_owned(),
        header: std::iter::once("database")
            .chain(Mode::ALL.map(Mode::name))
            .map(str::to_owned)
            .collect(),
        rows: Mode::ALL.into_iter().map(row).collect(),
    }
}
