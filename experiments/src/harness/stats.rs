//! From the figures of single rounds to one estimate, and from an estimate to a verdict.
//!
//! Every measure is taken once per round, and the rounds of all sides are interleaved (A B C A B C ...), so
//! what disturbs the machine for a second disturbs every side. A ratio is therefore formed *within* each round
//! and summarised afterwards ([`paired_ratio`]), never as a ratio of two summaries.
//!
//! The summary is the median of the rounds with a percentile-bootstrap 95 % interval. The resampling is seeded,
//! so that the same rounds give the same interval on every machine. With `n` rounds the widest interval that a
//! bootstrap of the median can give is the range of the rounds, which covers the true median with probability
//! `1 - 2^(1-n)`: 96.9 % for six rounds, and less than 95 % for five. [`MINIMUM_ROUNDS`] is that bound, and
//! a verdict on fewer rounds is `inconclusive`, whatever the rounds say.
//!
//! Invariants:
//!
//! 1. `low <= median <= high` in every [`Estimate`], and all three are finite.
//! 2. A verdict is `pass` only if the interval's worse end passes, and `fail` only if its better end fails.

#![forbid(unsafe_code)]

use serde::Serialize;

/// Fewest rounds from which a bootstrap of the median can reach 95 % coverage.
pub const MINIMUM_ROUNDS: usize = 6;

/// Bootstrap resamples; the interval's ends are then stable to well under the rounds' own spread.
const RESAMPLES: usize = 2_000;

/// A median over rounds with its 95 % bootstrap interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Median of the rounds.
    pub median: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end of the 95 % interval.
    pub high: f64,
    /// Rounds that it was made from.
    pub rounds: usize,
    /// Whether it was counted and not sampled, so that no number of rounds is too small; only [`Estimate::exact`] sets it.
    pub exact: bool,
}

impl Estimate {
    /// An exact figure: a count, or something that is not sampled. Its interval is itself.
    #[must_use]
    pub fn exact(value: f64, rounds: usize) -> Self {
        Self {
            median: value,
            low: value,
            high: value,
            rounds,
            exact: true,
        }
    }
}

/// Which side of a threshold is the good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The measure must reach the threshold.
    AtLeast,
    /// The measure must not exceed the threshold.
    AtMost,
    /// A statement that is true or not; there is no number.
    Holds,
    /// A figure that nothing is asked of: it has no threshold.
    Shown,
}

impl Direction {
    /// The name used in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AtLeast => "at_least",
            Self::AtMost => "at_most",
            Self::Holds => "holds",
            Self::Shown => "shown",
        }
    }
}

/// What became of one line of the checklist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The interval's worse end passes.
    Pass,
    /// The interval's better end fails.
    Fail,
    /// The interval straddles the threshold, or there were too few rounds.
    Inconclusive,
    /// This machine (or this way of calling) cannot decide it.
    NotMeasurable,
    /// Its part of the engine does not exist yet.
    NotBuilt,
    /// The figure is none: an update was lost, a thread starved, or the machine was too disturbed.
    Invalid,
    /// The figure stands for itself: there is no threshold to hold it to.
    Shown,
}

impl Verdict {
    /// The name used in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Inconclusive => "inconclusive",
            Self::NotMeasurable => "not_measurable",
            Self::NotBuilt => "not_built",
            Self::Invalid => "invalid",
            Self::Shown => "shown",
        }
    }

    /// The word shown to people.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::Inconclusive => "inconclusive",
            Self::NotMeasurable => "not measurable here",
            Self::NotBuilt => "not built",
            Self::Invalid => "INVALID",
            Self::Shown => "shown",
        }
    }
}

/// Returns the median, or `None` without values or with one that is not finite.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let mut sorted = values.to_vec();
    Some(median_in_place(&mut sorted))
}

/// Returns the median of finite, non-empty `values`, reordering them.
fn median_in_place(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) {
        f64::midpoint(values[middle - 1], values[middle])
    } else {
        values[middle]
    }
}

/// Returns the median of `values` with its seeded percentile-bootstrap 95 % interval.
///
/// `None` without values, or with one that is not finite.
#[must_use]
pub fn bootstrap_median(values: &[f64], seed: u64) -> Option<Estimate> {
    let centre = median(values)?;
    let mut random = SplitMix64(seed);
    let mut resample = vec![0.0; values.len()];
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            for slot in &mut resample {
                *slot = values[random.below(values.len())];
            }
            median_in_place(&mut resample)
        })
        .collect();
    medians.sort_unstable_by(f64::total_cmp);
    Some(Estimate {
        median: centre,
        low: percentile(&medians, 0.025).min(centre),
        high: percentile(&medians, 0.975).max(centre),
        rounds: values.len(),
        exact: false,
    })
}

/// Returns the ratio `numerator / denominator`, formed within each round, as a median with its interval.
///
/// `None` if the sides have different numbers of rounds, none at all, or a denominator that is not positive.
#[must_use]
pub fn paired_ratio(numerator: &[f64], denominator: &[f64], seed: u64) -> Option<Estimate> {
    if numerator.len() != denominator.len() || denominator.iter().any(|value| *value <= 0.0) {
        return None;
    }
    let ratios: Vec<f64> = numerator
        .iter()
        .zip(denominator)
        .map(|(over, under)| over / under)
        .collect();
    bootstrap_median(&ratios, seed)
}

/// Says what `estimate` proves about a threshold.
#[must_use]
pub fn judge(direction: Direction, threshold: f64, estimate: &Estimate) -> Verdict {
    if estimate.rounds < MINIMUM_ROUNDS && !estimate.exact {
        return Verdict::Inconclusive;
    }
    let (worse, better) = match direction {
        Direction::Shown => return Verdict::Shown,
        Direction::AtLeast => (estimate.low - threshold, estimate.high - threshold),
        Direction::AtMost => (threshold - estimate.high, threshold - estimate.low),
        // A statement is judged by whoever checked it, with 1 for true and 0 for false.
        Direction::Holds => (estimate.low - 1.0, estimate.high - 1.0),
    };
    if worse >= 0.0 {
        Verdict::Pass
    } else if better < 0.0 {
        Verdict::Fail
    } else {
        Verdict::Inconclusive
    }
}

/// Returns the element nearest below the given fraction of a sorted, non-empty slice.
fn percentile(sorted: &[f64], fraction: f64) -> f64 {
    let last = sorted.len() - 1;
    let position = (fraction * last as f64).round() as usize;
    sorted[position.min(last)]
}

/// The smallest generator that resamples well; its whole state is the seed.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `bound`, by multiplication; the bias is below 2^-50 for any round count.
    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_takes_the_middle_or_the_mean_of_two() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&[1.0, f64::NAN]), None);
        assert_eq!(median(&[1.0, f64::INFINITY]), None);
    }

    #[test]
    fn bootstrap_is_deterministic_in_its_seed() {
        let rounds = [10.0, 12.0, 11.0, 14.0, 9.0, 13.0, 10.5];
        assert_eq!(bootstrap_median(&rounds, 7), bootstrap_median(&rounds, 7));
        let one = bootstrap_median(&rounds, 1).expect("rounds are finite");
        assert!(one.low <= one.median && one.median <= one.high);
        assert_eq!(one.rounds, 7);
    }

    #[test]
    fn equal_rounds_have_an_interval_of_one_point() {
        let estimate = bootstrap_median(&[5.0; 9], 3).expect("rounds are finite");
        assert_eq!(
            estimate,
            Estimate {
                median: 5.0,
                low: 5.0,
                high: 5.0,
                rounds: 9,
                exact: false,
            }
        );
    }

    // Goal: the interval is a 95 % one. Method: the exact bootstrap distribution of the median of nine
    // distinct values is known from order statistics: P(median <= 3rd) = P(Binomial(9, 3/9) >= 5) = 0.145, and
    // P(median <= 2nd) = P(Binomial(9, 2/9) >= 5) = 0.030, P(median <= 1st) = 0.0013; so the 2.5 % point is
    // the second smallest, and by symmetry the 97.5 % point the second largest.
    #[test]
    fn interval_of_nine_distinct_rounds_is_the_known_one() {
        let rounds = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
        for seed in 0..5 {
            let estimate = bootstrap_median(&rounds, seed).expect("rounds are finite");
            assert_eq!(estimate.median, 5.0);
            assert!((2.0..=3.0).contains(&estimate.low), "low {}", estimate.low);
            assert!((7.0..=8.0).contains(&estimate.high), "high {}", estimate.high);
        }
    }

    // Goal: a disturbance that hits a whole round leaves the ratio alone, which a ratio of medians would not.
    #[test]
    fn ratio_is_formed_within_each_round() {
        let machine = [1.0, 1.0, 4.0, 1.0, 4.0, 4.0, 1.0];
        let over: Vec<f64> = machine.iter().map(|speed| speed * 30.0).collect();
        let under: Vec<f64> = machine.iter().map(|speed| speed * 10.0).collect();
        let ratio = paired_ratio(&over, &under, 11).expect("rounds are paired");
        assert_eq!((ratio.median, ratio.low, ratio.high), (3.0, 3.0, 3.0));
        assert_eq!(paired_ratio(&over, &under[1..], 11), None);
        assert_eq!(paired_ratio(&over, &[0.0; 7], 11), None);
    }

    #[test]
    fn verdict_looks_at_the_worse_end() {
        let between = Estimate {
            median: 2.0,
            low: 1.7,
            high: 2.2,
            rounds: 9,
            exact: false,
        };
        assert_eq!(judge(Direction::AtLeast, 1.6, &between), Verdict::Pass);
        assert_eq!(judge(Direction::AtLeast, 1.8, &between), Verdict::Inconclusive);
        assert_eq!(judge(Direction::AtLeast, 2.3, &between), Verdict::Fail);
        assert_eq!(judge(Direction::AtMost, 2.3, &between), Verdict::Pass);
        assert_eq!(judge(Direction::AtMost, 1.8, &between), Verdict::Inconclusive);
        assert_eq!(judge(Direction::AtMost, 1.6, &between), Verdict::Fail);
    }

    #[test]
    fn too_few_rounds_prove_nothing() {
        let few = Estimate {
            median: 9.0,
            low: 8.0,
            high: 10.0,
            rounds: MINIMUM_ROUNDS - 1,
            exact: false,
        };
        assert_eq!(judge(Direction::AtLeast, 1.0, &few), Verdict::Inconclusive);
        assert_eq!(judge(Direction::AtMost, 0.0, &Estimate::exact(0.0, 1)), Verdict::Pass);
        assert_eq!(judge(Direction::AtMost, 0.0, &Estimate::exact(1e-9, 1)), Verdict::Fail);
    }

    // Goal: an interval of one point is no substitute for rounds. Method: one round, and a few equal ones, have such an
    // interval; they decide nothing, on either side of a threshold.
    #[test]
    fn equal_rounds_and_one_round_prove_nothing_while_they_are_few() {
        for rounds in 1..MINIMUM_ROUNDS {
            let estimate = bootstrap_median(&vec![5.0; rounds], 3).expect("rounds are finite");
            assert_eq!((estimate.low, estimate.high, estimate.exact), (5.0, 5.0, false));
            assert_eq!(judge(Direction::AtLeast, 1.0, &estimate), Verdict::Inconclusive);
            assert_eq!(judge(Direction::AtMost, 1.0, &estimate), Verdict::Inconclusive);
        }
        let enough = bootstrap_median(&[5.0; MINIMUM_ROUNDS], 3).expect("rounds are finite");
        assert_eq!(judge(Direction::AtLeast, 1.0, &enough), Verdict::Pass);
    }

    #[test]
    fn statements_hold_or_do_not() {
        assert_eq!(judge(Direction::Holds, 0.0, &Estimate::exact(1.0, 1)), Verdict::Pass);
        assert_eq!(judge(Direction::Holds, 0.0, &Estimate::exact(0.0, 1)), Verdict::Fail);
    }

    // Goal: a figure without a threshold is never called met. Method: values on both sides of every number that a
    // threshold could have stood for, and too few rounds.
    #[test]
    fn figure_without_a_threshold_is_shown_and_not_judged() {
        for value in [-1.0, 0.0, 0.5, 1.0, 1e9] {
            assert_eq!(judge(Direction::Shown, 1.0, &Estimate::exact(value, 1)), Verdict::Shown);
        }
        let few = bootstrap_median(&[1.0; 2], 3).expect("rounds are finite");
        assert_eq!(judge(Direction::Shown, 1.0, &few), Verdict::Inconclusive);
    }

    #[test]
    fn names_are_those_of_the_files() {
        let names: Vec<&str> = [
            Verdict::Pass,
            Verdict::Fail,
            Verdict::Inconclusive,
            Verdict::NotMeasurable,
            Verdict::NotBuilt,
            Verdict::Invalid,
            Verdict::Shown,
        ]
        .iter()
        .map(|verdict| verdict.as_str())
        .collect();
        assert_eq!(
            names,
            [
                "pass",
                "fail",
                "inconclusive",
                "not_measurable",
                "not_built",
                "invalid",
                "shown"
            ]
        );
        assert_eq!(
            serde_json::to_string(&Verdict::NotBuilt).expect("plain enum"),
            "\"not_built\""
        );
        assert_eq!(
            serde_json::to_string(&Direction::AtLeast).expect("plain enum"),
            "\"at_least\""
        );
    }
}
