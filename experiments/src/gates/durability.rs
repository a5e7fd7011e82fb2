//! Gate 1: what a put costs, with the durability that was asked for.
//!
//! Question: does one put through the engine keep its bound, and what does durability add?
//! Method: one thread overwrites uniform keys of a loaded store, the other processors kept busy; the mean of a slice is
//! its time over its operations, and the rate is the same slice's. So far the engine keeps everything in memory;
//! every line about a log says that it is not built.
//! Command: `experiments gates --only 1`.

#![forbid(unsafe_code)]

use crate::engines::{Engine, Operation};
use crate::gates::Context;
use crate::gates::bed::Task;
use crate::gates::campaign::{Campaign, Metric};
use crate::gates::layers::{BASELINES, HASH_MAP, SKIPLIST, Size};
use crate::gates::sheet::Figure;

/// Lines whose part of the engine does not exist yet, with the reason.
const UNBUILT: [(&str, &str); 9] = [
    ("buffered_put_mean_100k", NO_LOG),
    ("buffered_put_ratio_100k", NO_LOG),
    ("buffered_rate_1t_100k", NO_LOG),
    ("strict_keeps_acknowledged", NO_LOG),
    ("strict_put_ratio_1t", NO_LOG),
    ("strict_scaling_16t", NO_LOG),
    ("durability_override", NO_OVERRIDE),
    ("durability_override_cost", NO_OVERRIDE),
    (
        "shutdown_keeps_data",
        "in memory, nothing is promised across a shutdown; decided once there is a log",
    ),
];

const NO_LOG: &str = "the log does not exist yet; the engine keeps everything in memory";
const NO_OVERRIDE: &str = "there is one durability mode so far, so there is nothing to override";

/// Fills in the lines whose part of the engine does not exist yet.
pub fn unbuilt(context: &mut Context) {
    for (measure, reason) in UNBUILT {
        context.sheet.record(measure, Figure::not_built(reason));
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
