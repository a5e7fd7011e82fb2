//! The sheet that measuring fills: one figure per measure, and from them one outcome per line of the checklist.
//!
//! A figure is either an estimate or an obstacle (not built, not measurable here, invalid) with its reason; it
//! can't be both, so that no verdict is ever drawn from a figure that was spoilt. A selected line without
//! any figure is `invalid`: a checklist never passes by leaving something out.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use crate::gates::table::{ENTRIES, Entry, Kind};
use crate::harness::stats::{Estimate, Verdict, judge};

/// Why there is no estimate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// `NotBuilt`, `NotMeasurable` or `Invalid`.
    pub verdict: Verdict,
    /// The reason, for people.
    pub reason: String,
}

/// What one measure came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// The estimate, or what stood in its way.
    pub result: Result<Estimate, Obstacle>,
    /// The estimate is sound but this machine can't decide a threshold above the given value.
    pub decidable_up_to: Option<(f64, String)>,
    /// What a fitted model predicts; never decides.
    pub prediction: Option<f64>,
    /// The same measure of the other engines in the same run.
    pub engines: BTreeMap<String, f64>,
    /// Something that a reader should know.
    pub note: String,
    /// Rounds made, whatever came of them.
    pub rounds: usize,
}

impl Figure {
    /// A figure with an estimate.
    #[must_use]
    pub fn measured(estimate: Estimate) -> Self {
        Self {
            result: Ok(estimate),
            decidable_up_to: None,
            prediction: None,
            engines: BTreeMap::new(),
            note: String::new(),
            rounds: estimate.rounds,
        }
    }

    /// A statement that was checked.
    #[must_use]
    pub fn statement(holds: bool, note: impl Into<String>) -> Self {
        let estimate = Estimate::exact(f64::from(u8::from(holds)), 1);
        Self {
            note: note.into(),
            ..Self::measured(estimate)
        }
    }

    fn without(verdict: Verdict, reason: impl Into<String>) -> Self {
        let obstacle = Obstacle {
            verdict,
            reason: reason.into(),
        };
        Self {
            result: Err(obstacle),
            decidable_up_to: None,
            prediction: None,
            engines: BTreeMap::new(),
            note: String::new(),
            rounds: 0,
        }
    }

    /// Its part of the engine does not exist yet.
    #[must_use]
    pub fn not_built(reason: impl Into<String>) -> Self {
        Self::without(Verdict::NotBuilt, reason)
    }

    /// This machine, or this way of calling, can't decide it.
    #[must_use]
    pub fn not_measurable(reason: impl Into<String>) -> Self {
        Self::without(Verdict::NotMeasurable, reason)
    }

    /// The run was spoilt.
    #[must_use]
    pub fn invalid(reason: impl Into<String>) -> Self {
        Self::without(Verdict::Invalid, reason)
    }

    /// Adds the same measure of another engine.
    #[must_use]
    pub fn beside(mut self, engine: &str, estimate: Option<Estimate>) -> Self {
        if let Some(estimate) = estimate {
            self.engines.insert(engine.to_owned(), estimate.median);
        }
        self
    }

    /// Adds something that a reader should know.
    #[must_use]
    pub fn noting(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }
}

/// One line of the checklist, filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The line.
    pub entry: &'static Entry,
    /// The median, if there is one.
    pub measured: Option<f64>,
    /// Its 95 % interval.
    pub ci95: Option<[f64; 2]>,
    /// What became of it.
    pub verdict: Verdict,
    /// Why, where the numbers alone don't say.
    pub reason: String,
    /// What a fitted model predicts.
    pub prediction: Option<f64>,
    /// The same measure of the other engines.
    pub engines: BTreeMap<String, f64>,
    /// Rounds made.
    pub rounds: usize,
}

/// Which lines of the checklist a run is about.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Numbers of the gates; empty for all.
    pub gates: Vec<String>,
    /// Only red flags.
    pub red_flags_only: bool,
}

impl Selection {
    /// Returns whether the line is asked for.
    #[must_use]
    pub fn includes(&self, entry: &Entry) -> bool {
        (self.gates.is_empty() || self.gates.iter().any(|gate| gate == entry.gate))
            && (!self.red_flags_only || entry.kind == Kind::RedFlag)
    }

    /// Returns whether any line that is asked for looks at this measure.
    #[must_use]
    pub fn wants(&self, measure: &str) -> bool {
        ENTRIES
            .iter()
            .any(|entry| entry.measure() == measure && self.includes(entry))
    }
}

/// The figures of one run.
#[derive(Debug, Default)]
pub struct Sheet {
    /// Which lines are asked for.
    pub selection: Selection,
    figures: BTreeMap<&'static str, Figure>,
}

impl Sheet {
    /// An empty sheet for the selected lines.
    #[must_use]
    pub fn new(selection: Selection) -> Self {
        Self {
            selection,
            figures: BTreeMap::new(),
        }
    }

    /// Returns whether any selected line looks at this measure.
    #[must_use]
    pub fn wants(&self, measure: &str) -> bool {
        self.selection.wants(measure)
    }

    /// Returns whether any selected line looks at one of these measures.
    #[must_use]
    pub fn wants_any(&self, measures: &[&str]) -> bool {
        measures.iter().any(|measure| self.wants(measure))
    }

    /// Writes the figure of a measure.
    ///
    /// # Panics
    ///
    /// If no line of the checklist looks at the measure, or it has a figure already: a slip in this program.
    pub fn record(&mut self, measure: &str, figure: Figure) {
        let name = ENTRIES.iter().map(Entry::measure).find(|known| *known == measure);
        let Some(name) = name else {
            panic!("no line of the checklist looks at {measure}")
        };
        let earlier = self.figures.insert(name, figure);
        assert!(earlier.is_none(), "{measure} was measured twice");
    }

    /// Returns the figure of a measure.
    #[must_use]
    pub fn figure(&self, measure: &str) -> Option<&Figure> {
        self.figures.get(measure)
    }

    /// Draws the outcome of every selected line, in the table's order.
    #[must_use]
    pub fn outcomes(&self) -> Vec<Outcome> {
        ENTRIES
            .iter()
            .filter(|entry| self.selection.includes(entry))
            .map(|entry| outcome(entry, self.figures.get(entry.measure())))
            .collect()
    }
}

fn outcome(entry: &'static Entry, figure: Option<&Figure>) -> Outcome {
    let Some(figure) = figure else {
        let missing = Figure::invalid("no measurement was made: a defect of this program");
        return outcome(entry, Some(&missing));
    };
    let mut drawn = Outcome {
        entry,
        measured: None,
        ci95: None,
        verdict: Verdict::Invalid,
        reason: figure.note.clone(),
        prediction: figure.prediction,
        engines: figure.engines.clone(),
        rounds: figure.rounds,
    };
    match &figure.result {
        Ok(estimate) => {
            drawn.measured = Some(estimate.median);
            drawn.ci95 = Some([estimate.low, estimate.high]);
            drawn.verdict = judge(entry.direction, entry.threshold.unwrap_or(1.0), estimate);
            if let (Some((ceiling, why)), Some(threshold)) = (&figure.decidable_up_to, entry.threshold)
                && *ceiling < threshold
            {
                drawn.verdict = Verdict::NotMeasurable;
                drawn.reason.clone_from(why);
            }
        }
        Err(obstacle) => {
            drawn.verdict = obstacle.verdict;
            drawn.reason.clone_from(&obstacle.reason);
        }
    }
    drawn
}

/// Returns the exit status of a filled checklist: 1 if a gate or red flag failed, else 2 if one is undecided, else 0.
#[must_use]
pub fn exit_status(outcomes: &[Outcome]) -> u8 {
    let deciding = || outcomes.iter().filter(|outcome| outcome.entry.kind != Kind::Aim);
    if deciding().any(|outcome| outcome.verdict == Verdict::Fail) {
        1
    } else if deciding().any(|outcome| matches!(outcome.verdict, Verdict::Invalid | Verdict::Inconclusive)) {
        2
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(low: f64, median: f64, high: f64) -> Estimate {
        Estimate {
            median,
            low,
            high,
            rounds: 9,
            exact: false,
        }
    }

    fn filled(measure: &str, figure: Figure) -> Vec<Outcome> {
        let mut sheet = Sheet::new(Selection::default());
        sheet.record(measure, figure);
        sheet
            .outcomes()
            .into_iter()
            .filter(|line| line.entry.measure() == measure)
            .collect()
    }

    fn verdicts(lines: &[Outcome]) -> Vec<(Kind, Verdict)> {
        lines.iter().map(|line| (line.entry.kind, line.verdict)).collect()
    }

    #[test]
    fn one_figure_decides_gate_aim_and_red_flag() {
        let lines = filled("b_a1_100k", Figure::measured(estimate(5.9, 6.0, 6.1)));
        assert_eq!(
            verdicts(&lines),
            [
                (Kind::Gate, Verdict::Fail),
                (Kind::Aim, Verdict::Fail),
                (Kind::RedFlag, Verdict::Pass)
            ]
        );
    }

    // Goal: a machine whose own ceiling is below a threshold decides neither way, not even "pass".
    #[test]
    fn ceiling_below_the_threshold_decides_nothing() {
        for median in [1.2, 3.5] {
            let mut figure = Figure::measured(estimate(median - 0.1, median, median + 0.1));
            figure.decidable_up_to = Some((2.6, "the machine's own ceiling is 2.6x".to_owned()));
            let lines = filled("disjoint_scaling_4t_100k", figure);
            assert_eq!(lines[0].verdict, Verdict::NotMeasurable);
            assert_eq!(lines[0].measured, Some(median));
            assert!(lines[0].reason.contains("ceiling"));
            let flag = if median > 2.5 { Verdict::Pass } else { Verdict::Fail };
            assert_eq!((lines[1].entry.kind, lines[1].verdict), (Kind::RedFlag, flag));
        }
    }

    #[test]
    fn obstacles_leave_no_number_behind() {
        let lines = filled("version_pool_stable", Figure::not_built("no pool"));
        assert_eq!(
            (lines[0].verdict, lines[0].measured, lines[0].ci95),
            (Verdict::NotBuilt, None, None)
        );
        assert_eq!(lines[0].reason, "no pool");
    }

    #[test]
    fn selected_line_without_a_figure_is_invalid() {
        let sheet = Sheet::new(Selection {
            gates: vec!["4".to_owned()],
            red_flags_only: false,
        });
        let lines = sheet.outcomes();
        assert!(
            lines
                .iter()
                .all(|line| line.entry.gate == "4" && line.verdict == Verdict::Invalid)
        );
        assert_eq!(exit_status(&lines), 2);
    }

    #[test]
    fn selection_reaches_the_measures_of_red_flags() {
        let flags = Selection {
            gates: Vec::new(),
            red_flags_only: true,
        };
        assert!(flags.wants("a1_a0_100k") && flags.wants("allocations_hot_path_100k"));
        assert!(!flags.wants("allocations_put_100k") && !flags.wants("a1_a0_1m"));
    }

    // Goal: precedence of the exit status, and that aims never alter it. Method: lines with hand-set verdicts.
    #[test]
    fn exit_status_follows_gates_and_red_flags_alone() {
        let line = |id: &str, verdict| {
            let entry = crate::gates::table::find(id).expect("an id of the table");
            Outcome {
                verdict,
                ..outcome(entry, None)
            }
        };
        let gate = |verdict| line("put_direct_mean_100k", verdict);
        let flag = |verdict| line("a1_a0_100k_red_flag", verdict);
        let aim = |verdict| line("a1_a0_100k_aim", verdict);
        use Verdict::{Fail, Inconclusive, Invalid, NotBuilt, NotMeasurable, Pass};
        assert_eq!(exit_status(&[gate(Pass), aim(Fail), aim(Invalid)]), 0);
        assert_eq!(exit_status(&[gate(NotBuilt), gate(NotMeasurable), flag(Pass)]), 0);
        assert_eq!(exit_status(&[gate(Pass), flag(Fail)]), 1);
        assert_eq!(exit_status(&[gate(Inconclusive), gate(Fail)]), 1);
        assert_eq!(exit_status(&[gate(Inconclusive), flag(Pass)]), 2);
        assert_eq!(exit_status(&[gate(Pass), flag(Invalid)]), 2);
    }

    #[test]
    #[should_panic(expected = "no line of the checklist")]
    fn unknown_measure_is_a_slip() {
        Sheet::default().record("put_maen_100k", Figure::not_built(""));
    }
}
