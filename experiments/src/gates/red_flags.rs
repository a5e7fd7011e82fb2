//! Red flags, and the control that must raise those of A1/A0 and of disjoint scaling.
//!
//! Question: would this harness have caught the predecessor? A flag of the engine under test needs no measuring of its
//! own: it is a gate's figure held to a wider threshold ([`super::table`]). What is measured here is the control,
//! `sharded-txn`, which works as the predecessor did; if those flags stayed down, a flag that is down would mean
//! nothing. Its B/A1 stays near 1, since its A1 is a transaction already.
//! Method: the control is a side of the same campaigns; its ratios are held to the same thresholds. Where the machine
//! has fewer than the four processors that the scaling flag asks for, the control is held to the same share of linear
//! at the most threads there are.
//! Command: `cargo test --test m4_red_flags --release -- --nocapture`.

#![forbid(unsafe_code)]

use crate::engines::sharded_txn::ShardedTxn;
use crate::engines::{Engine, Operation};
use crate::gates::Context;
use crate::gates::bed::Task;
use crate::gates::campaign::{Campaign, Metric};
use crate::gates::facade_tax::RATIOS;
use crate::gates::table;
use crate::harness::stats::{Direction, Estimate, Verdict, judge};
use crate::report::markdown::Section;
use crate::report::units;

const CONTROL: &str = ShardedTxn::NAME;

/// Threads that the scaling flag asks for.
const FLAG_THREADS: usize = 4;

/// The section of the report that shows the control.
pub const CONTROL_TITLE: &str = "The control: the predecessor's way of working";

/// Which flags of the predecessor the control raised on a store of 100 k keys.
pub fn control_tax(context: &mut Context, campaign: &Campaign) {
    for (name, above, below) in RATIOS {
        let Some(flag) = table::find(&format!("{name}_100k_red_flag")) else {
            continue;
        };
        let ratio = campaign.ratio(Task::alone(CONTROL, above), Task::alone(CONTROL, below), Metric::Mean);
        let remark = if name == "a1_a0" {
            "the predecessor stood at 1472x"
        } else {
            ""
        };
        push(
            context,
            flag.name,
            flag.direction,
            flag.threshold.unwrap_or(f64::NAN),
            ratio,
            remark,
        );
    }
}

/// Whether the control's threads stood in one another's way.
pub fn control_scaling(context: &mut Context, campaign: &Campaign, most: usize) {
    let threads = most.min(FLAG_THREADS);
    let Some(flag) = table::find("disjoint_scaling_4t_100k_red_flag") else {
        return;
    };
    if threads < 2 {
        return;
    }
    let put = Task::alone(CONTROL, Operation::FacadePut);
    let ratio = campaign.ratio(put.threads(threads), put, Metric::Rate);
    let threshold = flag.threshold.unwrap_or(f64::NAN) * threads as f64 / FLAG_THREADS as f64;
    let name = format!("{CONTROL_SCALING}, {threads} threads over one");
    let remark = if threads == FLAG_THREADS {
        "1 k keys per thread; the predecessor stood at 0.20x"
    } else {
        "1 k keys per thread; the flag's share of linear, for want of four processors; the predecessor stood at 0.20x \
         with four"
    };
    push(context, &name, flag.direction, threshold, ratio, remark);
}

fn push(
    context: &mut Context,
    name: &str,
    direction: Direction,
    threshold: f64,
    ratio: Result<Estimate, String>,
    remark: &str,
) {
    let bound = if direction == Direction::AtMost { "<=" } else { ">=" };
    let (measured, word) = match ratio {
        Ok(estimate) => {
            let word = match judge(direction, threshold, &estimate) {
                Verdict::Pass => "down",
                Verdict::Fail => RISEN,
                _ => "inconclusive",
            };
            (
                format!(
                    "{} [{}, {}]",
                    units::value(estimate.median, "ratio"),
                    units::digits(estimate.low),
                    units::digits(estimate.high)
                ),
                word.to_owned(),
            )
        }
        Err(reason) => ("-".to_owned(), format!("invalid: {reason}")),
    };
    let row = vec![
        name.to_owned(),
        format!("{bound} {}", units::value(threshold, "ratio")),
        measured,
        word,
        remark.to_owned(),
    ];
    if let Some(section) = context
        .sections
        .iter_mut()
        .find(|section| section.title == CONTROL_TITLE)
    {
        section.rows.push(row);
    } else {
        context.sections.push(Section {
            title: CONTROL_TITLE.to_owned(),
            text: format!(
                "`{CONTROL}` wraps every operation in a transaction over a deep clone, as the predecessor did. The flags \
                 of A1/A0, of B/A0 and of disjoint scaling are expected to rise; were they down, a flag that is down \
                 would prove nothing. B/A1 stays near 1: its A1 is a transaction already."
            ),
            header: ["flag", "stays down if", "measured [95 %]", "flag is", "remark"]
                .map(str::to_owned)
                .to_vec(),
            rows: vec![row],
        });
    }
}

/// How the name of the control's row about scaling begins.
pub const CONTROL_SCALING: &str = "disjoint puts";

/// The word for a flag of the control that rose.
pub const RISEN: &str = "RAISED, as expected";
