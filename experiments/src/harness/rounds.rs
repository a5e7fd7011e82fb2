//! Interleaves the sides of a comparison round by round, so that a slow minute of the machine hits all alike.
//!
//! The order is A B C A B C and never changes; the number of rounds is given beforehand and nothing here can add
//! one. A side gets the round's index (to rotate processors) and a seed that depends on the seed of the whole and
//! on the round alone, so that all sides of a round walk the same keys.
#![forbid(unsafe_code)]

use crate::workload::random::split_mix;

/// What a side is told about the round it runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// Counts from zero.
    pub index: usize,
    /// The same for every side of this round.
    pub seed: u64,
}

/// One side of a comparison: a name, and what measures it once.
pub struct Side<'a, T> {
    /// What the side is called in results.
    pub name: String,
    measure: Box<dyn FnMut(Round) -> T + 'a>,
}

impl<'a, T> Side<'a, T> {
    /// Names a measurement. `measure` runs once a round; it returns one sample, whatever that is.
    pub fn new(name: impl Into<String>, measure: impl FnMut(Round) -> T + 'a) -> Self {
        Self {
            name: name.into(),
            measure: Box::new(measure),
        }
    }
}

impl<T> std::fmt::Debug for Side<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Side").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What one side gave, in the order of the rounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Samples<T> {
    /// The side's name.
    pub name: String,
    /// One sample per round.
    pub values: Vec<T>,
}

impl<T> Samples<T> {
    /// Turns each sample into another, keeping name and order.
    pub fn map<U>(&self, convert: impl FnMut(&T) -> U) -> Samples<U> {
        Samples {
            name: self.name.clone(),
            values: self.values.iter().map(convert).collect(),
        }
    }
}

/// Divides two sides round by round: the ratio of each round, never the ratio of two medians.
#[must_use]
pub fn ratios(above: &Samples<f64>, below: &Samples<f64>) -> Vec<f64> {
    above
        .values
        .iter()
        .zip(&below.values)
        .map(|(above, below)| above / below)
        .collect()
}

/// Runs every side once per round, in the order given, and returns their samples in that order.
pub fn interleave<T>(rounds: usize, seed: u64, sides: &mut [Side<'_, T>]) -> Vec<Samples<T>> {
    interleave_observed(rounds, seed, sides, |_, _| {})
}

/// Like [`interleave`], calling `observe(round index, side's name)` before each measurement, for a progress bar.
pub fn interleave_observed<T>(
    rounds: usize,
    seed: u64,
    sides: &mut [Side<'_, T>],
    mut observe: impl FnMut(usize, &str),
) -> Vec<Samples<T>> {
    let mut samples: Vec<Samples<T>> = sides
        .iter()
        .map(|side| Samples {
            name: side.name.clone(),
            values: Vec::with_capacity(rounds),
        })
        .collect();
    for index in 0..rounds {
        let round = Round {
            index,
            seed: split_mix(seed ^ split_mix(index as u64)),
        };
        for (side, samples) in sides.iter_mut().zip(&mut samples) {
            observe(index, &side.name);
            samples.values.push((side.measure)(round));
        }
    }
    samples
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    // Goal: the order is A B C A B C and every side of a round has its seed. Method: log the calls.
    #[test]
    fn sides_take_turns_and_share_the_seed_of_the_round() {
        let log = RefCell::new(Vec::new());
        let mut sides: Vec<Side<'_, u64>> = ["a", "b", "c"]
            .into_iter()
            .map(|name| {
                let log = &log;
                Side::new(name, move |round| {
                    log.borrow_mut().push((round.index, name));
                    round.seed
                })
            })
            .collect();
        let samples = interleave(2, 7, &mut sides);
        let order = [(0, "a"), (0, "b"), (0, "c"), (1, "a"), (1, "b"), (1, "c")];
        assert_eq!(*log.borrow(), order);
        assert_eq!(samples[0].values, samples[2].values);
        assert_ne!(samples[0].values[0], samples[0].values[1]);
        assert_eq!(samples[1].name, "b");
    }

    #[test]
    fn the_same_seed_gives_the_same_rounds() {
        let seeds = |seed| interleave(3, seed, &mut [Side::new("only", |round: Round| round.seed)]);
        assert_eq!(seeds(1), seeds(1));
        assert_ne!(seeds(1), seeds(2));
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let side = |values: &[f64]| Samples {
            name: String::new(),
            values: values.to_vec(),
        };
        assert_eq!(ratios(&side(&[2.0, 9.0]), &side(&[1.0, 3.0])), [2.0, 3.0]);
    }
}
