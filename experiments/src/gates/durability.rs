//! Gate 1: what a put costs, with the durability that was asked for, and what that durability is worth.
//!
//! Question: does one put through the engine keep its bound, what does each durability add, and is it kept?
//! Method, in memory: one thread overwrites uniform keys of a loaded store, the other processors kept busy; the mean of a
//! slice is its time over its operations, and the rate is the same slice's.
//!
//! Method, durable: databases in directories of their own, on the disk that `--dir` names. The processors that the
//! threads of a slice leave free are left to the database's own threads, for all sides alike.
//!
//! | measure | sides, interleaved |
//! |---|---|
//! | buffered | key-value puts in memory and buffered, by one thread and two |
//! | strict | puts by one thread and by several, and the same bytes written and synced bare, into blocks written before |
//! | override | a put with each durability into a database of each (`overrides`) |
//!
//! What is promised is tried besides: `kept` crashes and shuts down, `overrides` goes through the pairs of modes.
//!
//! A sync beside other load measures the load: one side of each comparison rests and looks how busy others are
//! ([`quiet`]), and a thread that had to wait for a processor after the device had answered spoils its round. On a file
//! system in memory a sync is none, and nothing that waits for one is measured.
//! Command: `experiments gates --only 1`.

#![forbid(unsafe_code)]

use std::num::NonZeroUsize;
use std::path::Path;

use unlatched::Durability;

use crate::disk::bare::{Bare, Way};
use crate::disk::medium::Medium;
use crate::disk::place::Place;
use crate::engines::durable::Durable;
use crate::engines::{Engine, EngineError, Layer, Operation};
use crate::gates::bed::{Bed, Manner, Sample, Task};
use crate::gates::campaign::{Campaign, Metric};
use crate::gates::hot_path::too_few;
use crate::gates::layers::{BASELINES, HASH_MAP, SKIPLIST, Size};
use crate::gates::sheet::Figure;
use crate::gates::table::K100;
use crate::gates::{Context, Effort, quiet};
use crate::harness::rounds::{Round, Side};
use crate::harness::threads::run;
use crate::report::markdown::Section;
use crate::report::units;
use crate::workload::puts::bytes_of_a_put;

#[cfg(test)]
mod flawed;
pub mod kept;
mod overrides;

/// The names of an engine's durable sides.
const IN_MEMORY: &str = "in-memory";
const BUFFERED: &str = "buffered";
const STRICT: &str = "strict";

/// The name of the side that rests.
const OTHERS: &str = "other-load";

/// Threads whose puts share syncs.
const GROUPS: [usize; 3] = [2, 4, 16];

/// Bytes of the file into which the bare floor writes.
const BARE_BYTES: usize = 16 << 20;

/// Measures that wait for the device.
const WAITING: [&str; 2] = ["strict_put_ratio_1t", "strict_scaling_16t"];

/// Measures of buffered puts.
const BUFFERED_MEASURES: [&str; 4] = [
    "buffered_put_mean_100k",
    "buffered_put_ratio_100k",
    "buffered_rate_1t_100k",
    "buffered_scaling_2t_100k",
];

/// Tries what needs no clock: whether each durability keeps what it promises.
pub fn untimed<D: Durable>(context: &mut Context) {
    type Check = fn(&Context) -> Result<String, kept::Trouble>;
    let checks: [(&str, &str, Check); 3] = [
        ("strict_keeps_acknowledged", "crashes", |context| {
            let options = &context.options;
            kept::strict::<D>(&options.directory(), options.effort.trials, options.seed)
        }),
        ("shutdown_keeps_data", "shutdowns", |context| {
            let options = &context.options;
            kept::shutdown::<D>(&options.directory(), options.effort.trials, options.seed)
        }),
        ("durability_override", "overrides", |context| {
            overrides::promises::<D>(context.options.seed)
        }),
    ];
    for (measure, title, check) in checks {
        if context.sheet.wants(measure) {
            context.options.progress.say(&format!("{title}: trying"));
            let figure = kept::statement(check(context));
            record(context, measure, figure);
        }
    }
}

/// Measures what durability costs, and fills in the lines about it.
///
/// # Errors
///
/// What an engine refused while it was opened or loaded.
pub fn measure<D: Durable>(context: &mut Context) -> Result<(), EngineError> {
    let mut sections = Vec::new();
    if context.sheet.wants_any(&BUFFERED_MEASURES) {
        sections.extend(buffered::<D>(context)?);
    }
    if context.sheet.wants_any(&WAITING) {
        sections.extend(strict::<D>(context)?);
    }
    if !sections.is_empty() {
        context.sections.push(table(context, sections));
    }
    if context.sheet.wants("durability_override_cost") {
        overrides::cost::<D>(context)?;
    }
    Ok(())
}

/// Writes a figure without the place of the directory in its words.
fn record(context: &mut Context, measure: &str, figure: Figure) {
    let figure = without_place(figure, &context.options.directory());
    context.sheet.record(measure, figure);
}

fn without_place(mut figure: Figure, directory: &Path) -> Figure {
    let mut places = vec![directory.to_path_buf()];
    places.extend(directory.canonicalize());
    for place in places {
        let place = place.to_string_lossy();
        figure.note = figure.note.replace(&*place, "DIR");
        if let Err(obstacle) = &mut figure.result {
            obstacle.reason = obstacle.reason.replace(&*place, "DIR");
        }
    }
    figure
}

fn put(engine: &'static str, operation: Operation, threads: usize) -> Task {
    Task::alone(engine, operation).threads(threads)
}

/// Measures buffered puts beside puts in memory.
fn buffered<D: Durable>(context: &mut Context) -> Result<Vec<Vec<String>>, EngineError> {
    let effort = context.options.effort;
    let threads = context.processors.min(2);
    let place = Place::mapped(&context.options.directory())?;
    let bed = |engine: D, name| -> Result<Bed<D>, EngineError> {
        let keys = effort.keys_for(K100);
        let bed = Bed::over(
            engine,
            keys,
            threads,
            &[Layer::Facade],
            effort,
            &context.clock,
            context.options.seed,
        )?;
        Ok(bed.named(name).manner(|_| Manner::HAS_HELPERS))
    };
    context.options.progress.say("buffered: loading");
    let in_memory = bed(D::open()?, IN_MEMORY)?;
    let kept = bed(D::open_at(&place, Durability::BUFFERED)?, BUFFERED)?;
    let mut sides = vec![(others_task(), quiet::side(effort.slice))];
    for threads in 1..=threads {
        for (bed, name) in [(&in_memory, IN_MEMORY), (&kept, BUFFERED)] {
            sides.extend(bed.sides(&[put(name, Operation::FacadePut, threads)]));
        }
    }
    let mut campaign = Campaign::new(context.options.seed);
    campaign.run("buffered", effort.rounds, sides, &context.options.progress);
    context.note_pinning(&campaign);
    fill_buffered(context, &campaign, threads);
    Ok(rows(&campaign, &[IN_MEMORY, BUFFERED]))
}

fn fill_buffered(context: &mut Context, campaign: &Campaign, threads: usize) {
    let task = |name, threads| put(name, Operation::FacadePut, threads);
    let beside = |metric| {
        let in_memory = campaign.estimate(task(IN_MEMORY, 1), metric);
        quiet::drawn(campaign, others_task(), || campaign.estimate(task(BUFFERED, 1), metric))
            .beside(IN_MEMORY, in_memory.ok())
    };
    let scaling = |name| campaign.ratio(task(name, 2), task(name, 1), Metric::Rate);
    let scaled = if threads < 2 {
        Figure::not_measurable(too_few(2, threads))
    } else {
        quiet::drawn(campaign, others_task(), || scaling(BUFFERED)).beside(IN_MEMORY, scaling(IN_MEMORY).ok())
    };
    let ratio = quiet::drawn(campaign, others_task(), || {
        campaign.ratio(task(BUFFERED, 1), task(IN_MEMORY, 1), Metric::Mean)
    });
    let load = quiet::note(campaign, others_task());
    for (measure, figure) in
        BUFFERED_MEASURES
            .into_iter()
            .zip([beside(Metric::Mean), ratio, beside(Metric::Rate), scaled])
    {
        record(context, measure, figure.noting(load.clone()));
    }
}

/// Measures strict puts beside the same bytes written and synced bare.
fn strict<D: Durable>(context: &mut Context) -> Result<Vec<Vec<String>>, EngineError> {
    let directory = context.options.directory();
    if Medium::of(&directory).is_some_and(|medium| medium.in_memory) {
        let reason = "the directory is on a file system in memory, where a sync is none; choose a disk with --dir";
        for measure in WAITING {
            record(context, measure, Figure::not_measurable(reason));
        }
        return Ok(Vec::new());
    }
    let effort = Effort {
        slice: context.options.effort.strict_slice,
        ..context.options.effort
    };
    let most = GROUPS[GROUPS.len() - 1];
    // So many keys in all, whoever writes them.
    let keys = (effort.keys_for(K100) / most).max(1);
    context.options.progress.say("strict: loading");
    let bytes = bytes_of_a_put::<D>(&directory, size_of::<u64>())?;
    let bare = Bare::new(&directory, BARE_BYTES)?;
    let place = Place::mapped(&directory)?;
    let bed = Bed::over(
        D::open_at(&place, Durability::Strict)?,
        keys,
        most,
        &[Layer::Engine],
        effort,
        &context.clock,
        context.options.seed,
    )?;
    // What the load has left to do is not to be done beside the first slices.
    bed.engine().flush()?;
    let bed = bed.named(STRICT).manner(|threads| match threads {
        1 => Manner::WAITS_ALONE,
        _ => Manner::WAITS,
    });
    let mut sides = vec![(others_task(), quiet::side(effort.slice))];
    for threads in std::iter::once(1).chain(GROUPS) {
        sides.extend(bed.sides(&[put(STRICT, Operation::EnginePut, threads)]));
        if threads == 1 {
            sides.push(bare_side(&bare, bytes, effort));
        }
    }
    let mut campaign = Campaign::new(context.options.seed);
    campaign.run("strict", effort.rounds, sides, &context.options.progress);
    fill_strict(context, &campaign, bytes);
    Ok(rows(&campaign, &[Way::WriteAndSync.name(), STRICT]))
}

fn bare_task() -> Task {
    put(Way::WriteAndSync.name(), Operation::EnginePut, 1)
}

fn bare_side(bare: &Bare, bytes: usize, effort: Effort) -> (Task, Side<'_, Sample>) {
    let measure = move |round: Round| {
        let plan = Manner::WAITS_ALONE.plan(effort.plan(round, 0));
        let outcome = run(&plan, NonZeroUsize::MIN, |_| {
            Ok::<_, std::convert::Infallible>(bare.writer(Way::WriteAndSync, bytes, 0, 1))
        });
        let Ok(outcome) = outcome;
        let mut sample = Sample::held_to(&outcome, Manner::WAITS_ALONE.least_share);
        if let Some(error) = outcome.threads.iter().find_map(|thread| thread.report.error.as_ref()) {
            sample.mark_wrong(error);
        }
        sample
    };
    (bare_task(), Side::new("bare write and sync", measure))
}

fn others_task() -> Task {
    put(OTHERS, Operation::EnginePut, 1)
}

fn fill_strict(context: &mut Context, campaign: &Campaign, bytes: usize) {
    let strict = |threads| put(STRICT, Operation::EnginePut, threads);
    let load = quiet::note(campaign, others_task());
    let ratio = quiet::drawn(campaign, others_task(), || {
        campaign.ratio(strict(1), bare_task(), Metric::Mean)
    });
    let latency = |task| {
        campaign
            .estimate(task, Metric::Mean)
            .map_or_else(|_| "?".to_owned(), |mean| units::value(mean.median, "ns"))
    };
    let note = format!(
        "{} against {} for the same {bytes} bytes; {load}",
        latency(strict(1)),
        latency(bare_task())
    );
    record(context, WAITING[0], ratio.noting(note));
    let scaling = quiet::drawn(campaign, others_task(), || {
        campaign.ratio(strict(GROUPS[GROUPS.len() - 1]), strict(1), Metric::Rate)
    });
    record(context, WAITING[1], scaling.noting(load));
}

/// A row of the table for every side of these names.
fn rows(campaign: &Campaign, names: &[&str]) -> Vec<Vec<String>> {
    let mut tasks: Vec<Task> = campaign
        .tasks()
        .filter(|task| names.contains(&task.engine))
        .copied()
        .collect();
    tasks.sort_by_key(|task| (names.iter().position(|name| *name == task.engine), task.threads));
    let is_quiet = quiet::check(campaign, others_task());
    let cell = |task, metric, unit| {
        let estimate = is_quiet.clone().and_then(|()| campaign.estimate(task, metric));
        estimate.map_or_else(
            |_| "invalid".to_owned(),
            |estimate| {
                format!(
                    "{} [{}, {}]",
                    units::value(estimate.median, unit),
                    units::value(estimate.low, unit),
                    units::value(estimate.high, unit)
                )
            },
        )
    };
    tasks
        .into_iter()
        .map(|task| {
            vec![
                task.engine.to_owned(),
                task.operation.name().to_owned(),
                task.threads.to_string(),
                cell(task, Metric::Mean, "ns"),
                cell(task, Metric::Rate, "ops/s"),
            ]
        })
        .collect()
}

fn table(context: &Context, rows: Vec<Vec<String>>) -> Section {
    let medium = Medium::of(&context.options.directory());
    let medium = medium.map_or_else(|| "an unknown device".to_owned(), |medium| medium.to_string());
    Section {
        title: "What durability costs".to_owned(),
        text: format!(
            "Databases on {medium}. The mean is that of an operation as its thread sees it, the rate that of all threads \
             together."
        ),
        header: ["durability", "operation", "threads", "mean [95 %]", "rate [95 %]"]
            .map(str::to_owned)
            .to_vec(),
        rows,
    }
}

/// Fills in the lines about a put in memory.
pub fn fill<S: Engine>(context: &mut Context, campaign: &Campaign, size: Size) {
    let put = Task::alone(S::NAME, Operation::EnginePut);
    let measure = format!("put_direct_mean_{}", size.suffix());
    context.sheet.record(
        &measure,
        beside_puts(campaign.figure(put, Metric::Mean), campaign, Metric::Mean),
    );
    if size == Size::Hundred {
        let rate = beside_puts(campaign.figure(put, Metric::Rate), campaign, Metric::Rate);
        context.sheet.record("in_memory_rate_1t_100k", rate);
    }
}

/// Adds what the baselines and the floors need for a put on the same store.
fn beside_puts(mut figure: Figure, campaign: &Campaign, metric: Metric) -> Figure {
    for engine in BASELINES {
        figure = figure.beside(
            engine,
            campaign
                .estimate(Task::alone(engine, Operation::FacadePut), metric)
                .ok(),
        );
    }
    for floor in [SKIPLIST, HASH_MAP] {
        figure = figure.beside(
            floor,
            campaign
                .estimate(Task::alone(floor, Operation::StoragePut), metric)
                .ok(),
        );
    }
    figure
}
