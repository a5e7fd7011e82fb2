//! A side that rests and looks how busy others are: what is to be known beside a time that waits for a device.
//!
//! Where a processor is busy, a thread that a device has woken waits for the scheduler's tick, and a sync of a tenth of a
//! millisecond is measured as four. So each comparison with such times has one more side, which does nothing and looks what
//! share of the processors others have meanwhile. Where that is over [`QUIET_SHARE`] in too many rounds, that side is as
//! disturbed as any other would be, and no figure that depends on a device is drawn beside it.
#![forbid(unsafe_code)]

use std::fmt::Display;
use std::time::Duration;

use crate::gates::bed::{Defect, Sample};
use crate::gates::campaign::{Campaign, Metric, figure};
use crate::gates::sheet::Figure;
use crate::harness::environment::Environment;
use crate::harness::load::share_of_others;
use crate::harness::rounds::{Round, Side};
use crate::harness::stats::{Estimate, median};
use crate::report::units;

/// The share of the processors that others may have.
pub const QUIET_SHARE: f64 = 0.1;

/// The shortest rest that tells: the system counts a processor's time in hundredths of a second.
const SHORTEST_REST: Duration = Duration::from_millis(50);

/// The side that rests, for about as long as the others work. Its rate is the share of the processors that was left.
pub fn side<'a>(rest: Duration) -> Side<'a, Sample> {
    let measure = move |_: Round| match share_of_others(rest.max(SHORTEST_REST)) {
        Some(share) => sample(share),
        None => Sample::failed(&"the system does not tell how busy the processors are"),
    };
    Side::new("looking at other load", measure)
}

/// What it is to have seen others have a share.
pub(crate) fn sample(share: f64) -> Sample {
    let defect = (share > QUIET_SHARE).then(|| {
        Defect::Disturbed(format!(
            "others had {:.0} % of the processors while a sync was to be timed",
            share * 100.0
        ))
    });
    Sample {
        rate: 1.0 - share,
        mean_ns: f64::NAN,
        latency: None,
        operations: 0,
        aborts: 0,
        pinned: false,
        defect,
    }
}

/// Says whether the machine was quiet enough, by the side `rests` of a campaign.
///
/// # Errors
///
/// Returns why it was not.
pub fn check<T: Copy + Ord + Display>(campaign: &Campaign<T>, rests: T) -> Result<(), String> {
    campaign.estimate(rests, Metric::Rate).map(drop)
}

/// Draws a figure, unless others were too busy for it.
pub fn drawn<T: Copy + Ord + Display>(
    campaign: &Campaign<T>,
    rests: T,
    estimate: impl FnOnce() -> Result<Estimate, String>,
) -> Figure {
    figure(check(campaign, rests).and_then(|()| estimate()))
}

/// Says how busy others were, and how the scheduler was set.
#[must_use]
pub fn note<T: Copy + Ord + Display>(campaign: &Campaign<T>, rests: T) -> String {
    let samples = campaign.samples(rests);
    let shares: Vec<f64> = samples.iter().map(|sample| 1.0 - sample.rate).collect();
    let share = median(&shares).map_or_else(|| "?".to_owned(), |share| units::value(share, "share"));
    let scheduling = Environment::capture(None).scheduling;
    let average = scheduling
        .load_average
        .map_or_else(|| "?".to_owned(), |[one, ..]| units::digits(one));
    let autogroup = match scheduling.autogroup_enabled {
        Some(true) => "on",
        Some(false) => "off",
        None => "unknown",
    };
    format!(
        "others had {share} of the processors, load average {average}, autogroup {autogroup}, class {}",
        scheduling.class.unwrap_or("unknown")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::Operation;
    use crate::gates::bed::Task;
    use crate::harness::stats::Verdict;

    fn timed(mean_ns: f64) -> Sample {
        Sample { mean_ns, ..sample(0.0) }
    }

    // Goal: a sync beside other load is no figure. Method: the same ratio, with others at rest, busy in two rounds of eight,
    // busy in three, and unknown.
    #[test]
    fn figure_beside_other_load_is_invalid() {
        let [above, below, rests] = ["above", "below", "rests"].map(|name| Task::alone(name, Operation::EnginePut));
        let ratio = |others: Vec<Sample>| -> Figure {
            let campaign = Campaign::of([
                (above, vec![timed(220.0); 8]),
                (below, vec![timed(200.0); 8]),
                (rests, others),
            ]);
            drawn(&campaign, rests, || campaign.ratio(above, below, Metric::Mean))
        };
        let seen = |shares: &[f64]| ratio(shares.iter().map(|share| sample(*share)).collect());
        let measured = |figure: Figure| figure.result.map(|estimate| estimate.median).ok();
        assert_eq!(measured(seen(&[0.02; 8])), Some(1.1));
        let mut shares = [0.02, 0.02, 0.5, 0.0, 0.02, 0.9, 0.02, 0.02];
        assert_eq!(measured(seen(&shares)), Some(1.1));
        shares[0] = 0.11;
        let spoilt = seen(&shares).result.expect_err("others were busy");
        assert_eq!(spoilt.verdict, Verdict::Invalid);
        assert!(spoilt.reason.contains("others had 11 %"), "{}", spoilt.reason);
        let unknown = ratio(vec![Sample::failed(&"the system does not tell"); 8]);
        assert_eq!(unknown.result.expect_err("nobody knows").verdict, Verdict::Invalid);
    }
}
