//! The one-thread comparisons: every layer of every engine on a store of one size, all in one run.
//!
//! Question: what does one operation cost, layer by layer, beside the locked baselines and the floors?
//! Method: one campaign per store size; its sides are puts and gets of each layer of each engine, the tails (each
//! operation timed) and the snapshots. One thread works, the other processors run private loops. The gates' own files
//! draw their figures from the campaign.
//! Command: `experiments gates --only 1,2,4`.

#![forbid(unsafe_code)]

use crate::engines::floors::{CrossbeamSkipList, HashMapFloor};
use crate::engines::locked::{M3, M3Cheap};
use crate::engines::sharded::Sharded;
use crate::engines::sharded_txn::ShardedTxn;
use crate::engines::{Engine, EngineError, Layer, Operation};
use crate::gates::bed::{Bed, Sample, Task};
use crate::gates::campaign::{Campaign, Metric};
use crate::gates::table::{ENTRIES, K1, K100, M1};
use crate::gates::{Context, durability, facade_tax, hot_path, infrastructure, red_flags};
use crate::harness::rounds::Side;
use crate::report::markdown::Section;
use crate::report::units;

/// Name of the raw skiplist.
pub const SKIPLIST: &str = CrossbeamSkipList::NAME;

/// Name of the raw hash map.
pub const HASH_MAP: &str = HashMapFloor::NAME;

/// Name of the control, the predecessor's way of working.
pub const CONTROL: &str = ShardedTxn::NAME;

/// The engines that stand beside the one under test.
pub const BASELINES: [&str; 4] = [M3::NAME, M3Cheap::NAME, Sharded::NAME, CONTROL];

/// A store size of the checklist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// 1 k keys.
    One,
    /// 100 k keys, which decide.
    Hundred,
    /// 1 M keys.
    Million,
}

impl Size {
    /// The ending of the measures' names.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::One => "1k",
            Self::Hundred => "100k",
            Self::Million => "1m",
        }
    }

    fn keys(self) -> u64 {
        match self {
            Self::One => K1,
            Self::Hundred => K100,
            Self::Million => M1,
        }
    }

    /// The measures that this size's campaign must fill in.
    fn measures(self) -> Vec<&'static str> {
        let is_scaling = |measure: &str| measure.starts_with("disjoint_") || measure.starts_with("same_key_");
        let mut measures: Vec<&str> = ENTRIES
            .iter()
            .filter(|entry| entry.keys == Some(self.keys()))
            .map(crate::gates::table::Entry::measure)
            .filter(|measure| !is_scaling(measure))
            .collect();
        if self == Self::Hundred {
            measures.extend(["locked_baseline_same_run", "sharded_baseline_same_run"]);
        }
        measures.sort_unstable();
        measures.dedup();
        measures
    }
}

/// Measures the sizes that selected lines look at, and fills those lines in.
///
/// # Errors
///
/// Returns what an engine refused while it was opened or loaded.
pub fn measure<S: Engine>(context: &mut Context) -> Result<(), EngineError> {
    for size in [Size::Hundred, Size::One, Size::Million] {
        let open = |measure: &&str| context.sheet.wants(measure) && context.sheet.figure(measure).is_none();
        if size.measures().iter().any(open) {
            measure_size::<S>(context, size)?;
        }
    }
    Ok(())
}

fn measure_size<S: Engine>(context: &mut Context, size: Size) -> Result<(), EngineError> {
    let effort = context.options.effort;
    let title = format!("layers, {} keys", units::keys(effort.keys_for(size.keys()) as u64));
    context.options.progress.say(&format!("{title}: loading"));
    let subject: Bed<S> = open(context, size, &[Layer::Storage, Layer::Engine, Layer::Facade])?;
    let skiplist: Bed<CrossbeamSkipList> = open(context, size, &[Layer::Storage])?;
    let baselines = match size {
        Size::Million if !effort.baselines_on_1m => None,
        _ => Some(Baselines::open(context, size)?),
    };
    let mut sides = subject.sides(&subject_tasks::<S>(size));
    sides.extend(skiplist.sides(&floor_tasks(SKIPLIST)));
    if let Some(baselines) = &baselines {
        sides.extend(baselines.sides(size));
    }
    let rounds = if size == Size::Hundred {
        effort.rounds
    } else {
        effort.shown_rounds
    };
    let mut campaign = Campaign::new(context.options.seed);
    campaign.run(&title, rounds, sides, &context.options.progress);
    context.note_pinning(&campaign);

    if size == Size::Million {
        hot_path::snapshot_allocations(context, &subject);
    }
    fill::<S>(context, &campaign, size);
    Ok(())
}

fn open<E: Engine>(context: &Context, size: Size, layers: &[Layer]) -> Result<Bed<E>, EngineError> {
    let effort = context.options.effort;
    Bed::new(
        effort.keys_for(size.keys()),
        1,
        layers,
        effort,
        &context.clock,
        context.options.seed,
    )
}

/// Everything that stands beside the engine, apart from the skiplist, which every size has.
struct Baselines {
    hash_map: Bed<HashMapFloor>,
    cheap: Bed<M3Cheap>,
    sharded: Bed<Sharded>,
    /// Engines that clone the whole map for an operation: on 1 M keys one operation would fill a slice.
    cloning: Option<(Bed<M3>, Bed<ShardedTxn>)>,
}

impl Baselines {
    fn open(context: &Context, size: Size) -> Result<Self, EngineError> {
        let layers = [Layer::Storage, Layer::Facade];
        let cloning = match size {
            Size::Million => None,
            _ => Some((open(context, size, &layers)?, open(context, size, &layers)?)),
        };
        Ok(Self {
            hash_map: open(context, size, &[Layer::Storage])?,
            cheap: open(context, size, &layers)?,
            sharded: open(context, size, &layers)?,
            cloning,
        })
    }

    fn sides(&self, size: Size) -> Vec<(Task, Side<'_, Sample>)> {
        let mut sides = self.hash_map.sides(&floor_tasks(HASH_MAP));
        sides.extend(self.cheap.sides(&baseline_tasks(M3Cheap::NAME, size)));
        sides.extend(self.sharded.sides(&baseline_tasks(Sharded::NAME, size)));
        if let Some((m3, control)) = &self.cloning {
            sides.extend(m3.sides(&baseline_tasks(M3::NAME, size)));
            sides.extend(control.sides(&baseline_tasks(CONTROL, size)));
        }
        sides
    }
}

/// Draws every figure that the campaign of this size gives.
fn fill<S: Engine>(context: &mut Context, campaign: &Campaign, size: Size) {
    durability::fill::<S>(context, campaign, size);
    hot_path::fill::<S>(context, campaign, size);
    facade_tax::fill::<S>(context, campaign, size);
    if size == Size::Hundred {
        infrastructure::fill(context, campaign);
        red_flags::control_tax(context, campaign);
    }
    context.sections.push(section(campaign, size));
}

fn subject_tasks<S: Engine>(size: Size) -> Vec<Task> {
    let mut tasks: Vec<Task> = [
        Operation::StoragePut,
        Operation::EnginePut,
        Operation::FacadePut,
        Operation::TransactionPut,
        Operation::StorageGet,
        Operation::EngineGet,
        Operation::FacadeGet,
    ]
    .map(|operation| Task::alone(S::NAME, operation))
    .to_vec();
    match size {
        Size::One => {}
        Size::Hundred => tasks.extend(hot_path::tail_tasks(S::NAME)),
        Size::Million => {
            tasks.extend(hot_path::tail_tasks(S::NAME));
            tasks.extend(hot_path::snapshot_tasks(S::NAME));
        }
    }
    tasks
}

fn baseline_tasks(engine: &'static str, size: Size) -> Vec<Task> {
    let mut tasks: Vec<Task> = [
        Operation::StoragePut,
        Operation::FacadePut,
        Operation::TransactionPut,
        Operation::FacadeGet,
    ]
    .map(|operation| Task::alone(engine, operation))
    .to_vec();
    match size {
        Size::One => {}
        Size::Hundred => tasks.extend(hot_path::tail_tasks(engine)),
        Size::Million => {
            tasks.retain(|task| task.operation != Operation::TransactionPut);
            tasks.extend(hot_path::tail_tasks(engine));
            tasks.extend(hot_path::snapshot_tasks(engine));
        }
    }
    tasks
}

fn floor_tasks(floor: &'static str) -> Vec<Task> {
    [Operation::StoragePut, Operation::StorageGet]
        .map(|operation| Task::alone(floor, operation))
        .to_vec()
}

/// The means of every layer, as a table: an engine a row, an operation a column.
fn section(campaign: &Campaign, size: Size) -> Section {
    let operations: Vec<Operation> = Operation::ALL
        .into_iter()
        .filter(|operation| {
            campaign
                .tasks()
                .any(|task| task.operation == *operation && task.threads == 1)
        })
        .collect();
    let mut engines: Vec<&'static str> = campaign.tasks().map(|task| task.engine).collect();
    engines.dedup();
    let rows = engines
        .iter()
        .map(|engine| {
            let cells = operations.iter().map(|operation| {
                let task = Task::alone(engine, *operation);
                if !campaign.tasks().any(|known| *known == task) {
                    return String::new();
                }
                campaign
                    .estimate(task, Metric::Mean)
                    .map_or_else(|_| "invalid".to_owned(), |estimate| units::value(estimate.median, "ns"))
            });
            std::iter::once((*engine).to_owned()).chain(cells).collect()
        })
        .collect();
    let header = std::iter::once("engine".to_owned()).chain(operations.iter().map(|name| name.name().to_owned()));
    Section {
        title: format!(
            "Layers on {} keys, one thread, mean of an operation",
            units::keys(size.keys())
        ),
        text: String::new(),
        header: header.collect(),
        rows,
    }
}
