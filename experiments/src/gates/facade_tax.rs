//! Gate 4: what the layers add to one put.
//!
//! Question: how much dearer is a put through the key-value facade (A1), or inside an explicit transaction (B), than a
//! versioned storage write (A0)? The predecessor's A1 was 1472 times its A0.
//! Method: the three operations are sides of one comparison, on one engine and one store, and the ratio is formed
//! within each round. A0 is shown beside the floors, so that a slow A0 can't flatter the ratio. Every engine's own
//! ratio is beside it; `sharded-txn` is the predecessor's way of working.
//! Command: `experiments gates --only 4`.

#![forbid(unsafe_code)]

use crate::engines::{Engine, Operation};
use crate::gates::Context;
use crate::gates::bed::Task;
use crate::gates::campaign::{Campaign, Metric};
use crate::gates::layers::{BASELINES, SKIPLIST, Size};
use crate::gates::sheet::Figure;
use crate::report::units;

/// The ratios: name, dearer operation, cheaper operation.
pub const RATIOS: [(&str, Operation, Operation); 3] = [
    ("a1_a0", Operation::FacadePut, Operation::StoragePut),
    ("b_a1", Operation::TransactionPut, Operation::FacadePut),
    ("b_a0", Operation::TransactionPut, Operation::StoragePut),
];

/// Fills in the ratios on a store of one size.
pub fn fill<S: Engine>(context: &mut Context, campaign: &Campaign, size: Size) {
    let note = floors_note::<S>(campaign);
    for (name, above, below) in RATIOS {
        let ratio = |engine| campaign.ratio(Task::alone(engine, above), Task::alone(engine, below), Metric::Mean);
        let mut figure = match ratio(S::NAME) {
            Ok(estimate) => Figure::measured(estimate),
            Err(reason) => Figure::invalid(reason),
        };
        for engine in BASELINES {
            figure = figure.beside(engine, ratio(engine).ok());
        }
        context
            .sheet
            .record(&format!("{name}_{}", size.suffix()), figure.noting(note.clone()));
    }
}

fn floors_note<S: Engine>(campaign: &Campaign) -> String {
    let mean = |engine, operation| {
        campaign
            .estimate(Task::alone(engine, operation), Metric::Mean)
            .map_or_else(|_| "?".to_owned(), |estimate| units::value(estimate.median, "ns"))
    };
    format!(
        "A0 {}, floor: skiplist lookup {}",
        mean(S::NAME, Operation::StoragePut),
        mean(SKIPLIST, Operation::StorageGet)
    )
}
