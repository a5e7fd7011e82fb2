//! Gate 5, memory: what a store holds per key and per version.
//!
//! Question: how many bytes does one more key cost, and one more version of it, beside the baselines?
//! Method: keys and names are made beforehand. A meter of the allocator ([`Meter`]) follows the whole process while
//! one thread opens an empty store, loads every key once and, where the engine has snapshots, overwrites every key
//! once while a snapshot holds what was there. Bytes per key are what the loading added, bytes per version what the
//! overwriting added, each over the number of keys; nothing is swept in between. Each is given twice: as mimalloc
//! rounds every block (its usable size), which is what the memory really costs, and as the engine requested it.
//! Afterwards every key must hold what was written last. Keys have 24 bytes, values 8, through the engine without a
//! facade; a baseline keeps the same records whichever layer writes them, and what `m3` holds for a snapshot is a
//! clone of the whole map. A block of megabytes, such as a hash map's table, may be rounded otherwise in another run.
//! There is no threshold: the figures are shown. Nothing is timed.
//! Command: `experiments gates --only 5`.

#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::allocations::{self, Held, Meter};
use crate::engines::locked::{M3, M3Cheap};
use crate::engines::sharded::Sharded;
use crate::engines::{Engine, EngineError, Layer, Operation, Session};
use crate::gates::Context;
use crate::gates::counted::NOT_COUNTING;
use crate::gates::sheet::Figure;
use crate::gates::table::{K100, M1};
use crate::harness::stats::Estimate;
use crate::report::markdown::Section;
use crate::report::units;
use crate::workload::verify::{self, loaded_value};
use crate::workload::{KeySet, run_id};

/// The sizes with lines about memory, and how the names of their measures end.
const SIZES: [(u64, &str); 2] = [(K100, "100k"), (M1, "1m")];

/// Why a meter could not begin.
pub const METERED_ALREADY: &str = "something else in this process follows the allocator";

/// What a store of one engine weighs.
#[derive(Clone, Copy, Debug)]
struct Weight {
    keys: usize,
    /// What loading every key added.
    loading: Held,
    /// What one more version of every key added, if the engine has snapshots that hold the old ones.
    overwriting: Option<Held>,
}

/// An engine's name with its weight, or why it has none.
type Weighed = (&'static str, Result<Weight, String>);

/// Which of the four figures of a [`Weight`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Key,
    KeyRequested,
    Version,
    VersionRequested,
}

impl Part {
    const ALL: [Self; 4] = [Self::Key, Self::KeyRequested, Self::Version, Self::VersionRequested];

    fn stem(self) -> &'static str {
        match self {
            Self::Key => "memory_key",
            Self::KeyRequested => "memory_key_requested",
            Self::Version => "memory_version",
            Self::VersionRequested => "memory_version_requested",
        }
    }

    fn note(self) -> &'static str {
        match self {
            Self::Key | Self::Version => "each block as mimalloc rounds it",
            Self::KeyRequested | Self::VersionRequested => "each block as it was requested",
        }
    }

    /// Returns the bytes, if the engine has them.
    fn of(self, weight: &Weight) -> Option<f64> {
        let bytes = match self {
            Self::Key => weight.loading.usable,
            Self::KeyRequested => weight.loading.requested,
            Self::Version => weight.overwriting?.usable,
            Self::VersionRequested => weight.overwriting?.requested,
        };
        Some(bytes as f64 / weight.keys as f64)
    }
}

/// Weighs the engine and the baselines, and fills in the lines about memory.
pub fn measure<S: Engine>(context: &mut Context) {
    for (size, suffix) in SIZES {
        let names = Part::ALL.map(|part| format!("{}_{suffix}", part.stem()));
        if !names.iter().any(|name| context.sheet.wants(name)) {
            continue;
        }
        if !allocations::is_counting() {
            for name in names {
                context.sheet.record(&name, Figure::not_measurable(NOT_COUNTING));
            }
            continue;
        }
        let keys = context.options.effort.keys_for(size);
        let said = format!("memory, {} keys: weighing", units::keys(keys as u64));
        context.options.progress.say(&said);
        let names_of_keys = Arc::new(KeySet::new(keys, context.options.seed));
        let subject = weighed::<S>(context, &names_of_keys);
        let baselines = [
            weighed::<M3>(context, &names_of_keys),
            weighed::<M3Cheap>(context, &names_of_keys),
            weighed::<Sharded>(context, &names_of_keys),
        ];
        for (part, name) in Part::ALL.into_iter().zip(names) {
            context.sheet.record(&name, figure(part, &subject, &baselines));
        }
        add_rows(context, size, std::iter::once(&subject).chain(&baselines));
    }
}

fn figure(part: Part, subject: &Weighed, baselines: &[Weighed]) -> Figure {
    let estimate = |weighed: &Weighed| {
        let bytes = weighed.1.as_ref().ok().and_then(|weight| part.of(weight));
        bytes.map(|bytes| Estimate::exact(bytes, 1))
    };
    let figure = match (&subject.1, estimate(subject)) {
        (Err(reason), _) => Figure::invalid(reason.clone()),
        (Ok(_), None) => Figure::not_built(format!("{} has no snapshots that hold versions", subject.0)),
        (Ok(_), Some(estimate)) => Figure::measured(estimate).noting(part.note()),
    };
    baselines
        .iter()
        .fold(figure, |figure, baseline| figure.beside(baseline.0, estimate(baseline)))
}

fn weighed<E: Engine>(context: &Context, names: &Arc<KeySet>) -> Weighed {
    (E::NAME, weigh::<E>(names, context.options.seed))
}

fn weigh<E: Engine>(names: &Arc<KeySet>, seed: u64) -> Result<Weight, String> {
    let keys = names.len();
    let engine = E::open().map_err(|error| error.to_string())?;
    let space = engine.space(run_id(seed, 0), Arc::clone(names));
    let meter = Meter::begin().ok_or_else(|| METERED_ALREADY.to_owned())?;
    let (weight, added) = load_and_overwrite(&engine, &space, keys, &meter).map_err(|error| error.to_string())?;
    let mut session = engine.session(&space).map_err(|error| error.to_string())?;
    for key in 0..keys {
        let expected = loaded_value(key).wrapping_add(added);
        let found = session.read(Layer::Engine, key).map_err(|error| error.to_string())?;
        if found != Some(expected) {
            return Err(format!(
                "lost update: key {key} holds {found:?}, but {expected} was written last"
            ));
        }
    }
    Ok(weight)
}

/// Loads and overwrites; returns the weight, and what overwriting added to every value.
fn load_and_overwrite<E: Engine>(
    engine: &E,
    space: &E::Space,
    keys: usize,
    meter: &Meter,
) -> Result<(Weight, u64), EngineError> {
    let mut session = engine.session(space)?;
    let empty = meter.held();
    verify::load(&mut session, Layer::Engine, keys)?;
    let loaded = meter.held();
    let mut weight = Weight {
        keys,
        loading: loaded.since(empty),
        overwriting: None,
    };
    if !E::supports(Operation::Snapshot) {
        return Ok((weight, 0));
    }
    session.under_snapshot(&mut |session| {
        (0..keys).try_for_each(|key| session.engine_put(key, loaded_value(key).wrapping_add(1)))?;
        weight.overwriting = Some(meter.held().since(loaded));
        Ok(())
    })?;
    Ok((weight, 1))
}

/// Title of the table that shows all engines beside one another.
pub const TITLE: &str = "Memory, bytes per key and per version";

fn add_rows<'a>(context: &mut Context, size: u64, weighed: impl Iterator<Item = &'a Weighed>) {
    let rows = weighed.map(|(engine, weight)| {
        let cells = Part::ALL.map(|part| match weight {
            Ok(weight) => part
                .of(weight)
                .map_or_else(|| "-".to_owned(), |bytes| units::value(bytes, "bytes")),
            Err(_) => "invalid".to_owned(),
        });
        let row: Vec<String> = [(*engine).to_owned(), units::keys(size)]
            .into_iter()
            .chain(cells)
            .collect();
        row
    });
    if let Some(section) = context.sections.iter_mut().find(|section| section.title == TITLE) {
        section.rows.extend(rows);
        return;
    }
    let section = Section {
        title: TITLE.to_owned(),
        text: "Keys of 24 bytes, values of 8. Rounded: the usable size of each block as mimalloc hands it out; \
               requested: what the engine asked for. A version is one more of every key while a snapshot holds the old \
               ones; `m3` clones its whole map for that, and `sharded` has no snapshots."
            .to_owned(),
        header: [
            "engine",
            "keys",
            "key, rounded",
            "key, requested",
            "version, rounded",
            "version, requested",
        ]
        .map(str::to_owned)
        .to_vec(),
        rows: rows.collect(),
    };
    context.sections.push(section);
}
