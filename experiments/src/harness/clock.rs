//! Times single operations with the processor's time-stamp counter, calibrated against the system's clock.
//!
//! The clock states what it costs to ask, measured when it is made, so that a reader can see how much of a short
//! operation's time is the clock's own; nothing is ever subtracted. Where the counter is not usable (it must tick at
//! one rate on every processor), quanta falls back to the system's monotonic clock, and [`TickClock::source`] says
//! so.
#![forbid(unsafe_code)]

use std::hint::black_box;

/// How often the clock is asked, in pairs, to find its own cost.
const COST_SAMPLES: usize = 20_001;

/// A calibrated clock. Clones share the calibration.
#[derive(Clone, Debug)]
pub struct TickClock {
    clock: quanta::Clock,
    nanoseconds_per_tick: f64,
    cost_ns: f64,
}

impl TickClock {
    /// Calibrates the clock (once per process, some tens of milliseconds) and measures its cost.
    #[must_use]
    pub fn new() -> Self {
        const WIDE: u64 = 1 << 40;
        let clock = quanta::Clock::new();
        let nanoseconds_per_tick = clock.delta_as_nanos(0, WIDE) as f64 / WIDE as f64;
        let mut calibrated = Self {
            clock,
            nanoseconds_per_tick,
            cost_ns: 0.0,
        };
        calibrated.cost_ns = calibrated.measure_cost();
        calibrated
    }

    /// Returns the counter. Meaningful only as a difference, through [`nanoseconds`](Self::nanoseconds).
    #[inline]
    #[must_use]
    pub fn ticks(&self) -> u64 {
        self.clock.raw()
    }

    /// Converts a difference of two [`ticks`](Self::ticks) to nanoseconds; zero if they are out of order.
    #[inline]
    #[must_use]
    pub fn nanoseconds(&self, from: u64, to: u64) -> u64 {
        (to.saturating_sub(from) as f64 * self.nanoseconds_per_tick) as u64
    }

    /// Converts nanoseconds to ticks, for deadlines.
    #[must_use]
    pub fn ticks_in(&self, nanoseconds: u64) -> u64 {
        (nanoseconds as f64 / self.nanoseconds_per_tick) as u64
    }

    /// Returns the mean time between two consecutive calls of [`ticks`](Self::ticks), in nanoseconds: what each
    /// timed operation is too long by.
    #[must_use]
    pub fn cost_ns(&self) -> f64 {
        self.cost_ns
    }

    /// Names what ticks: `time-stamp counter` with its rate, or `monotonic clock`.
    #[must_use]
    pub fn source(&self) -> String {
        if (self.nanoseconds_per_tick - 1.0).abs() < 1e-9 {
            "monotonic clock".to_owned()
        } else {
            format!("time-stamp counter, {:.3} GHz", 1.0 / self.nanoseconds_per_tick)
        }
    }

    fn measure_cost(&self) -> f64 {
        // Batches, and the median of them: one interrupt must not become part of the cost.
        const BATCHES: usize = 41;
        let per_batch = COST_SAMPLES / BATCHES;
        let mut costs: Vec<f64> = (0..BATCHES)
            .map(|_| {
                let start = self.ticks();
                for _ in 0..per_batch {
                    black_box(self.ticks());
                }
                (self.ticks() - start) as f64 * self.nanoseconds_per_tick / (per_batch + 1) as f64
            })
            .collect();
        costs.sort_by(f64::total_cmp);
        costs[BATCHES / 2]
    }
}

impl Default for TickClock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    // Goal: the calibration is right, not merely consistent. Method: a sleep, timed by both clocks; the bound is
    // loose since a disturbed machine may interrupt between the two readings.
    #[test]
    fn ticks_agree_with_the_system_clock() {
        let clock = TickClock::new();
        let (wall, start) = (Instant::now(), clock.ticks());
        std::thread::sleep(Duration::from_millis(30));
        let (measured, wall) = (
            clock.nanoseconds(start, clock.ticks()) as f64,
            wall.elapsed().as_nanos() as f64,
        );
        assert!(
            (measured / wall - 1.0).abs() < 0.2,
            "{measured} ns by ticks, {wall} ns by the system"
        );
    }

    #[test]
    fn the_cost_is_measured_and_the_source_named() {
        let clock = TickClock::new();
        assert!(clock.cost_ns() > 0.0);
        assert!(!clock.source().is_empty());
        assert_eq!(clock.nanoseconds(9, 3), 0);
    }
}
