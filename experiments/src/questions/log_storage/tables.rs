//! The tables of the question about the log's storage, and its file of commits and syncs.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Group, Mode, OTHERS, SEGMENTS, Task, quietly, sides};
use crate::gates::campaign::{Campaign, Metric};
use crate::harness::stats::Estimate;
use crate::questions::Options;
use crate::report::csv;
use crate::report::markdown::Section;
use crate::report::units;

/// What all rounds of a side came to, commits by syncs.
pub(super) fn group_of(groups: &BTreeMap<Task, Vec<Group>>, task: &Task) -> Option<(f64, Duration)> {
    let all = groups.get(task)?;
    let commits: u64 = all.iter().map(|group| group.commits).sum();
    let syncs: u64 = all.iter().map(|group| group.syncs.count).sum();
    let time: Duration = all.iter().map(|group| group.syncs.time).sum();
    let count = u32::try_from(syncs).ok().filter(|count| *count > 0)?;
    Some((commits as f64 / syncs as f64, time / count))
}

pub(super) fn section(
    mode: Mode,
    options: &Options,
    samples: &Campaign<Task>,
    groups: &BTreeMap<Task, Vec<Group>>,
) -> Section {
    let order = sides();
    let mut tasks: Vec<Task> = samples
        .tasks()
        .filter(|task| task.setting.mode == mode && task.side != OTHERS)
        .copied()
        .collect();
    tasks.sort_by_key(|task| {
        let setting = task.setting;
        let side = order.iter().position(|side| *side == task.side);
        (task.keys, setting.segment_bytes != SEGMENTS[0], setting, side)
    });
    let interval = |estimate: Result<Estimate, String>, unit| {
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
    let row = |task: &Task| {
        let task = *task;
        let metric = |metric| quietly(samples, task, || samples.estimate(task, metric));
        let mut row = vec![
            task.side.to_owned(),
            task.setting.threads.to_string(),
            format!("{} B", task.setting.value_bytes),
            format!("{} MiB", task.setting.segment_bytes >> 20),
            interval(metric(Metric::Mean), "ns"),
            interval(metric(Metric::Rate), "ops/s"),
        ];
        if mode == Mode::Strict {
            let latency = samples.latency(task).filter(|_| metric(Metric::Rate).is_ok());
            let quantile = |quantile| {
                latency.as_ref().map_or_else(
                    || "-".to_owned(),
                    |latency| units::value(latency.value_at_quantile(quantile) as f64, "ns"),
                )
            };
            let group = group_of(groups, &task);
            row.extend([
                quantile(0.5),
                quantile(0.99),
                group.map_or_else(|| "-".to_owned(), |(commits, _)| units::digits(commits)),
                group.map_or_else(
                    || "-".to_owned(),
                    |(_, sync)| units::value(sync.as_nanos() as f64, "ns"),
                ),
            ]);
        }
        row
    };
    let columns = ["side", "threads", "value", "segment", "mean [95 %]", "rate [95 %]"];
    let more = match mode {
        Mode::Strict => &["median", "99th percentile", "commits per sync", "mean sync"][..],
        Mode::Buffered => &[],
    };
    let text = match mode {
        Mode::Strict => {
            "The mean is that of a commit as its thread sees it, the rate that of all threads together. Commits per sync and \
             the mean sync are those of all rounds, warm-ups included."
        }
        Mode::Buffered => "With the bounds that buffered databases have by default.",
    };
    Section {
        title: format!("{} puts, {} round(s)", mode.name(), options.effort.rounds),
        text: text.to_owned(),
        header: columns.iter().chain(more).map(|column| (*column).to_owned()).collect(),
        rows: tasks.iter().map(row).collect(),
    }
}

pub(super) fn groups_as_csv(groups: &BTreeMap<Task, Vec<Group>>) -> String {
    let lines = groups.iter().flat_map(|(task, all)| {
        all.iter().enumerate().map(move |(round, group)| {
            vec![
                task.side.to_owned(),
                task.keys.to_string(),
                task.setting.threads.to_string(),
                task.setting.value_bytes.to_string(),
                task.setting.segment_bytes.to_string(),
                round.to_string(),
                group.commits.to_string(),
                group.syncs.count.to_string(),
                group.syncs.bytes.to_string(),
                group.syncs.new_bytes.to_string(),
                group.syncs.time.as_nanos().to_string(),
            ]
        })
    });
    let columns = [
        "side",
        "keys",
        "threads",
        "value_bytes",
        "segment_bytes",
        "round",
        "commits",
        "syncs",
        "synced_bytes",
        "new_bytes",
        "sync_ns",
    ];
    csv::render(&columns, lines)
}
