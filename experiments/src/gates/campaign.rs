//! Runs the sides of a comparison interleaved, keeps their samples, and draws figures from them.
//!
//! A figure is drawn only from sides without a defect: one wrong sample (a lost update, a failed operation, a starved
//! thread) makes every figure of that side `invalid`, and so does a machine that disturbed more than a quarter of the
//! rounds. A single disturbed round stays in: the median and its interval are there for that.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::Display;

use hdrhistogram::Histogram;

use crate::gates::bed::{Defect, Sample, Task};
use crate::gates::sheet::Figure;
use crate::harness::rounds::{Side, interleave_observed};
use crate::harness::stats::{Estimate, bootstrap_median, paired_ratio};
use crate::report::progress::Progress;

/// Share of disturbed rounds above which a side is no measurement.
const DISTURBED_ROUNDS: f64 = 0.25;

/// How the reason of a side begins that was disturbed too often, and that another run may mend.
pub const DISTURBED: &str = "the machine was too disturbed";

/// What is looked at in a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Operations per second, all threads.
    Rate,
    /// Mean nanoseconds per operation.
    Mean,
    /// 99th percentile over mean, of operations timed one by one.
    TailP99,
    /// 99.9th percentile over mean, of operations timed one by one.
    TailP999,
}

/// The samples of one or several comparisons, by side: `T` is what tells sides apart.
#[derive(Debug)]
pub struct Campaign<T = Task> {
    seed: u64,
    samples: BTreeMap<T, Vec<Sample>>,
}

impl<T: Copy + Ord + Display> Campaign<T> {
    /// An empty campaign; the seed is that of the whole run.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            samples: BTreeMap::new(),
        }
    }

    /// A campaign whose rounds are made up.
    #[cfg(test)]
    pub(crate) fn of(samples: impl IntoIterator<Item = (T, Vec<Sample>)>) -> Self {
        Self {
            seed: 1,
            samples: samples.into_iter().collect(),
        }
    }

    /// Runs the sides, interleaved, and keeps their samples.
    pub fn run(&mut self, title: &str, rounds: usize, sides: Vec<(T, Side<'_, Sample>)>, progress: &Progress) {
        let (tasks, mut sides): (Vec<T>, Vec<Side<'_, Sample>>) = sides.into_iter().unzip();
        let bar = progress.stage(title, rounds * sides.len());
        let samples = interleave_observed(rounds, self.seed, &mut sides, |round, side| {
            bar.step(&format!("round {} of {rounds}: {side}", round + 1));
        });
        bar.finish();
        for (task, samples) in tasks.into_iter().zip(samples) {
            self.samples.insert(task, samples.values);
        }
    }

    /// Returns the sides that were run.
    pub fn tasks(&self) -> impl Iterator<Item = &T> {
        self.samples.keys()
    }

    /// Returns the samples of a side in the order of the rounds, sound or not.
    #[must_use]
    pub fn samples(&self, task: T) -> &[Sample] {
        self.samples.get(&task).map_or(&[], Vec::as_slice)
    }

    /// Returns how many samples were taken, and of how many every thread was bound to a processor.
    #[must_use]
    pub fn pinned(&self) -> (usize, usize) {
        let all = self.samples.values().flatten();
        (all.clone().count(), all.filter(|sample| sample.pinned).count())
    }

    /// Returns in how many rounds a side ran, if none of them was wrong.
    ///
    /// # Errors
    ///
    /// Returns the reason that makes the side invalid.
    pub fn completed(&self, task: T) -> Result<usize, String> {
        self.sound(task).map(<[Sample]>::len)
    }

    fn sound(&self, task: T) -> Result<&[Sample], String> {
        let samples = self.samples.get(&task).ok_or_else(|| format!("{task} was not run"))?;
        let wrong = samples.iter().find_map(|sample| match &sample.defect {
            Some(Defect::Wrong(reason) | Defect::Starved(reason)) => Some(reason),
            _ => None,
        });
        match wrong {
            Some(reason) => Err(format!("{task}: {reason}")),
            None => Ok(samples),
        }
    }

    /// Returns one value per round, or why there are none.
    ///
    /// # Errors
    ///
    /// Returns the reason that makes the side invalid.
    pub fn values(&self, task: T, metric: Metric) -> Result<Vec<f64>, String> {
        let samples = self.sound(task)?;
        let disturbed: Vec<&String> = samples
            .iter()
            .filter_map(|sample| match &sample.defect {
                Some(Defect::Disturbed(reason)) => Some(reason),
                _ => None,
            })
            .collect();
        if disturbed.len() as f64 > DISTURBED_ROUNDS * samples.len() as f64 {
            return Err(format!(
                "{DISTURBED} in {} of {} rounds: {}; stop other work and run again",
                disturbed.len(),
                samples.len(),
                disturbed[0]
            ));
        }
        let values: Vec<f64> = samples.iter().map(|sample| metric.of(sample)).collect();
        if values.iter().all(|value| value.is_finite() && *value > 0.0) {
            Ok(values)
        } else {
            Err(format!("{task}: a slice completed no operation"))
        }
    }

    /// Returns the estimate of one metric of one side.
    ///
    /// # Errors
    ///
    /// Returns the reason that makes the side invalid.
    pub fn estimate(&self, task: T, metric: Metric) -> Result<Estimate, String> {
        let values = self.values(task, metric)?;
        bootstrap_median(&values, self.seed).ok_or_else(|| "no rounds were made".to_owned())
    }

    /// Returns the estimate of a ratio of two sides, formed within each round.
    ///
    /// # Errors
    ///
    /// Returns the reason that makes a side invalid.
    pub fn ratio(&self, above: T, below: T, metric: Metric) -> Result<Estimate, String> {
        let (above, below) = (self.values(above, metric)?, self.values(below, metric)?);
        paired_ratio(&above, &below, self.seed).ok_or_else(|| "no rounds were made".to_owned())
    }

    /// Returns the ratio of two sides in each round.
    ///
    /// # Errors
    ///
    /// Returns the reason that makes a side invalid.
    pub fn ratios(&self, above: T, below: T, metric: Metric) -> Result<Vec<f64>, String> {
        let (above, below) = (self.values(above, metric)?, self.values(below, metric)?);
        Ok(above.iter().zip(&below).map(|(above, below)| above / below).collect())
    }

    /// Returns the seed of the whole run.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns the figure of one metric of one side, or an invalid one.
    #[must_use]
    pub fn figure(&self, task: T, metric: Metric) -> Figure {
        figure(self.estimate(task, metric))
    }

    /// Returns the figure of a ratio, or an invalid one.
    #[must_use]
    pub fn ratio_figure(&self, above: T, below: T, metric: Metric) -> Figure {
        figure(self.ratio(above, below, metric))
    }

    /// Returns the times of single operations of all rounds of a side.
    #[must_use]
    pub fn latency(&self, task: T) -> Option<Histogram<u64>> {
        let mut merged: Option<Histogram<u64>> = None;
        for latency in self
            .samples
            .get(&task)?
            .iter()
            .filter_map(|sample| sample.latency.as_ref())
        {
            match &mut merged {
                None => merged = Some(latency.clone()),
                // All were made with the same bounds, so that adding cannot fail.
                Some(sum) => sum.add(latency).unwrap_or(()),
            }
        }
        merged
    }
}

/// Turns an estimate, or the reason that there is none, into a figure.
#[must_use]
pub fn figure(estimate: Result<Estimate, String>) -> Figure {
    match estimate {
        Ok(estimate) => Figure::measured(estimate),
        Err(reason) => Figure::invalid(reason),
    }
}

impl Metric {
    fn of(self, sample: &Sample) -> f64 {
        let tail = |quantile: f64| {
            sample.latency.as_ref().map_or(f64::NAN, |latency| {
                latency.value_at_quantile(quantile) as f64 / latency.mean()
            })
        };
        match self {
            Self::Rate => sample.rate,
            Self::Mean => sample.mean_ns,
            Self::TailP99 => tail(0.99),
            Self::TailP999 => tail(0.999),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::Operation;
    use crate::gates::sheet::Obstacle;
    use crate::harness::stats::Verdict;

    fn sample(mean_ns: f64, defect: Option<Defect>) -> Sample {
        Sample {
            rate: 1e9 / mean_ns,
            mean_ns,
            latency: None,
            operations: 1_000,
            aborts: 0,
            pinned: true,
            defect,
        }
    }

    fn campaign(sides: &[(Task, Vec<Sample>)]) -> Campaign {
        Campaign::of(sides.iter().cloned())
    }

    fn task(engine: &'static str) -> Task {
        Task::alone(engine, Operation::FacadePut)
    }

    #[test]
    fn one_wrong_round_spoils_every_figure_of_its_side() {
        let mut samples = vec![sample(100.0, None); 8];
        samples.push(sample(50.0, Some(Defect::Wrong("lost update: key 3".to_owned()))));
        let campaign = campaign(&[(task("a"), samples), (task("b"), vec![sample(10.0, None); 9])]);
        for figure in [
            campaign.figure(task("a"), Metric::Mean),
            campaign.ratio_figure(task("a"), task("b"), Metric::Mean),
            campaign.ratio_figure(task("b"), task("a"), Metric::Rate),
        ] {
            let Err(Obstacle { verdict, reason }) = figure.result else {
                panic!("a figure was drawn")
            };
            assert_eq!(verdict, Verdict::Invalid);
            assert!(reason.contains("lost update"), "{reason}");
        }
        assert!(campaign.figure(task("b"), Metric::Mean).result.is_ok());
    }

    #[test]
    fn some_disturbance_is_the_medians_business_and_much_is_invalid() {
        let disturbed = || sample(900.0, Some(Defect::Disturbed("30 %".to_owned())));
        let mut few = vec![sample(100.0, None); 7];
        few.push(disturbed());
        let mut many = vec![sample(100.0, None); 5];
        many.extend([disturbed(), disturbed(), disturbed()]);
        let campaign = campaign(&[(task("few"), few), (task("many"), many)]);
        let estimate = campaign
            .estimate(task("few"), Metric::Mean)
            .expect("one disturbed round of eight");
        assert_eq!(estimate.median, 100.0);
        assert!(
            campaign
                .estimate(task("many"), Metric::Mean)
                .expect_err("too many")
                .contains("disturbed")
        );
    }

    #[test]
    fn side_that_did_not_run_or_did_nothing_is_no_figure() {
        let campaign = campaign(&[(task("idle"), vec![sample(f64::INFINITY, None); 9])]);
        assert!(campaign.values(task("idle"), Metric::Rate).is_err());
        assert!(
            campaign
                .values(task("absent"), Metric::Rate)
                .expect_err("absent")
                .contains("was not run")
        );
    }
}
