//! Targets and claims: what must come out, and what became of it.
//!
//! A target is an aim: met, missed, or undecided. A claim decides the exit status. Both are judged as the gates are: by
//! the interval's worse end, and never from a figure that was spoilt.
#![forbid(unsafe_code)]

use serde::Serialize;

use crate::gates::sheet::Figure;
use crate::harness::stats::{Direction, Verdict, judge};
use crate::report::units;

/// What a verdict does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// What must hold; its failure fails the run.
    Claim,
    /// What the engine is built to reach; never alters the exit status.
    Aim,
}

impl Kind {
    /// The name used in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Claim => "claim",
            Self::Aim => "aim",
        }
    }
}

/// What must come out.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Unique within the answer.
    pub id: String,
    /// [`Kind::Aim`] for a target, [`Kind::Claim`] for a claim.
    pub kind: Kind,
    /// For people.
    pub name: String,
    /// Keys in the store.
    pub keys: usize,
    /// Threads.
    pub threads: usize,
    /// Unit of threshold and measure, as in the checklist.
    pub unit: &'static str,
    /// Which side of the threshold is the good one.
    pub direction: Direction,
    /// The threshold.
    pub threshold: f64,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What must come out.
    pub target: Target,
    /// The median, if there is one.
    pub measured: Option<f64>,
    /// Its 95 % interval.
    pub ci95: Option<[f64; 2]>,
    /// What became of it.
    pub verdict: Verdict,
    /// Why, where the numbers alone don't say.
    pub reason: String,
    /// Rounds, or looks, that it was made from.
    pub rounds: usize,
}

/// A side that did something wrong, so that it has no figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Its name.
    pub engine: String,
    /// What it did.
    pub reason: String,
    /// Whether it is this engine or a part of it, and not something that it is compared with.
    pub ours: bool,
}

impl Target {
    /// Draws the outcome from a figure.
    #[must_use]
    pub fn judge(self, figure: Figure) -> Outcome {
        let mut drawn = Outcome {
            target: self,
            measured: None,
            ci95: None,
            verdict: Verdict::Invalid,
            reason: figure.note,
            rounds: figure.rounds,
        };
        match figure.result {
            Ok(estimate) => {
                drawn.measured = Some(estimate.median);
                drawn.ci95 = Some([estimate.low, estimate.high]);
                drawn.verdict = judge(drawn.target.direction, drawn.target.threshold, &estimate);
            }
            Err(obstacle) => {
                drawn.verdict = obstacle.verdict;
                drawn.reason = obstacle.reason;
            }
        }
        drawn
    }
}

impl Outcome {
    /// Lets either of two ways of reaching a target do. What the other way came to goes into the reason.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        let note = format!("{} {}: {}", other.target.name, threshold(&other.target), shown(&other));
        self.reason = [self.reason, note]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("; ");
        self.verdict = either(self.verdict, other.verdict);
        self
    }

    /// The word for people: a target is met or missed, a claim holds or fails.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match (self.target.kind, self.verdict) {
            (Kind::Aim, Verdict::Pass) => "met",
            (Kind::Aim, Verdict::Fail) => "missed",
            (_, verdict) => verdict.label(),
        }
    }
}

/// Passes if one does; fails if both do, or the one that could be measured; else is undecided.
fn either(one: Verdict, other: Verdict) -> Verdict {
    use Verdict::{Fail, Inconclusive, Pass};
    match (one, other) {
        (Pass, _) | (_, Pass) => Pass,
        (Inconclusive, _) | (_, Inconclusive) => Inconclusive,
        (Fail, Fail) => Fail,
        (Fail, undecided) | (undecided, _) => undecided,
    }
}

/// Formats a threshold: `>= 5.00x`.
#[must_use]
pub fn threshold(target: &Target) -> String {
    let bound = units::value(target.threshold, target.unit);
    match target.direction {
        Direction::AtLeast => format!(">= {bound}"),
        Direction::AtMost => format!("<= {bound}"),
        Direction::Holds => "holds".to_owned(),
        Direction::Shown => "none".to_owned(),
    }
}

/// Formats what was measured with its interval.
#[must_use]
pub fn shown(outcome: &Outcome) -> String {
    let value = |value| units::value(value, outcome.target.unit);
    match (outcome.measured, outcome.ci95) {
        (Some(median), Some([low, high])) if low < high => {
            format!("{} [{}, {}]", value(median), value(low), value(high))
        }
        (Some(median), _) => value(median),
        _ => "-".to_owned(),
    }
}

/// Returns the exit status: 1 if a claim failed or this engine is at fault, else 2 if a claim is undecided, another side
/// is at fault, or a figure was `spoilt` by the machine's other load, else 0. Targets never alter it.
#[must_use]
pub fn exit_status(outcomes: &[Outcome], faults: &[Fault], spoilt: bool) -> u8 {
    let claims = || outcomes.iter().filter(|outcome| outcome.target.kind != Kind::Aim);
    if claims().any(|claim| claim.verdict == Verdict::Fail) || faults.iter().any(|fault| fault.ours) {
        1
    } else if claims().any(|claim| matches!(claim.verdict, Verdict::Invalid | Verdict::Inconclusive))
        || !faults.is_empty()
        || spoilt
    {
        2
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::stats::Estimate;

    fn target(kind: Kind, threshold: f64) -> Target {
        Target {
            id: "t".to_owned(),
            kind,
            name: "ratio".to_owned(),
            keys: 10,
            threads: 1,
            unit: "ratio",
            direction: Direction::AtLeast,
            threshold,
        }
    }

    fn between(low: f64, high: f64) -> Figure {
        Figure::measured(Estimate {
            median: f64::midpoint(low, high),
            low,
            high,
            rounds: 9,
            exact: false,
        })
    }

    // Goal: the worse end of the interval decides. Method: the same threshold against intervals around it.
    #[test]
    fn verdict_is_that_of_the_worse_end() {
        let verdict = |low, high| target(Kind::Aim, 5.0).judge(between(low, high)).verdict;
        assert_eq!(verdict(5.0, 6.0), Verdict::Pass);
        assert_eq!(verdict(4.9, 6.0), Verdict::Inconclusive);
        assert_eq!(verdict(4.0, 4.9), Verdict::Fail);
        let few = Figure::measured(Estimate {
            rounds: 3,
            ..Estimate {
                median: 9.0,
                low: 9.0,
                high: 9.0,
                rounds: 3,
                exact: false,
            }
        });
        assert_eq!(target(Kind::Aim, 5.0).judge(few).verdict, Verdict::Inconclusive);
    }

    #[test]
    fn spoilt_figure_leaves_no_number() {
        let outcome = target(Kind::Aim, 5.0).judge(Figure::invalid("lost update"));
        assert_eq!(
            (outcome.verdict, outcome.measured, outcome.ci95),
            (Verdict::Invalid, None, None)
        );
        assert_eq!(outcome.reason, "lost update");
        let absent = target(Kind::Aim, 5.0).judge(Figure::not_measurable("not built"));
        assert_eq!(absent.verdict, Verdict::NotMeasurable);
    }

    #[test]
    fn either_way_will_do_and_both_must_fail() {
        let outcome = |low, high| target(Kind::Aim, 1.9).judge(between(low, high));
        let share = |low, high| {
            Target {
                threshold: 0.95,
                ..target(Kind::Aim, 0.95)
            }
            .judge(between(low, high))
        };
        assert_eq!(outcome(1.5, 1.6).or(share(0.96, 0.99)).verdict, Verdict::Pass);
        assert_eq!(outcome(1.9, 2.0).or(share(0.5, 0.6)).verdict, Verdict::Pass);
        assert_eq!(outcome(1.5, 1.6).or(share(0.9, 0.97)).verdict, Verdict::Inconclusive);
        let missed = outcome(1.5, 1.6).or(share(0.5, 0.6));
        assert_eq!(missed.verdict, Verdict::Fail);
        assert!(missed.reason.contains(">= 0.95x"), "{}", missed.reason);
        let half = outcome(1.5, 1.6).or(target(Kind::Aim, 0.95).judge(Figure::invalid("no ceiling")));
        assert_eq!(
            half.verdict,
            Verdict::Invalid,
            "nobody knows whether the other way would have done"
        );
    }

    // Goal: precedence of the exit status. Method: every kind of outcome alone and together.
    #[test]
    fn exit_status_follows_claims_and_faults_alone() {
        let aim = target(Kind::Aim, 5.0).judge(between(1.0, 2.0));
        let claim = |low, high| target(Kind::Claim, 5.0).judge(between(low, high));
        let fault = |ours| Fault {
            engine: "e".to_owned(),
            reason: "r".to_owned(),
            ours,
        };
        assert_eq!(exit_status(&[aim.clone(), claim(5.0, 6.0)], &[], false), 0);
        assert_eq!(exit_status(&[claim(1.0, 2.0)], &[fault(false)], true), 1);
        assert_eq!(exit_status(std::slice::from_ref(&aim), &[fault(true)], false), 1);
        assert_eq!(exit_status(&[claim(4.0, 6.0)], &[], false), 2);
        assert_eq!(exit_status(std::slice::from_ref(&aim), &[fault(false)], false), 2);
        assert_eq!(exit_status(&[aim], &[], true), 2);
        assert_eq!(
            exit_status(&[target(Kind::Claim, 1.0).judge(Figure::invalid(""))], &[], false),
            2
        );
        assert_eq!(
            exit_status(
                &[target(Kind::Claim, 1.0).judge(Figure::not_measurable(""))],
                &[],
                false
            ),
            0
        );
    }
}
