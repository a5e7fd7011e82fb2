//! How busy others keep the machine, found by resting.
//!
//! While this process does nothing, whatever the processors do is others' work: their share is the number to know beside
//! a latency that waits for the device, since a thread that is woken by it must then wait for a processor too. Load
//! averages do not tell, because they remember this program's own slices for minutes.
#![forbid(unsafe_code)]

use std::fs;
use std::thread;
use std::time::Duration;

/// Ticks that the processors spent, all together, since the machine started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    busy: u64,
    idle: u64,
}

/// Rests for so long and returns the share of all processors' time that others took meanwhile; `None` where the system
/// does not tell. What a hypervisor took away counts as taken.
#[must_use]
pub fn share_of_others(rest: Duration) -> Option<f64> {
    let before = Ticks::now();
    thread::sleep(rest);
    before?.share_since(Ticks::now()?)
}

impl Ticks {
    fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// Reads the first line of `/proc/stat`: user, nice, system, idle, waiting for a device, interrupts, soft
    /// interrupts, stolen, and what is counted in the first two already.
    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().next()?.strip_prefix("cpu ")?;
        let numbers: Vec<u64> = line
            .split_whitespace()
            .map_while(|number| number.parse().ok())
            .collect();
        let [user, nice, system, idle, waiting, interrupts, soft, stolen, ..] = numbers[..] else {
            return None;
        };
        Some(Self {
            busy: user + nice + system + interrupts + soft + stolen,
            idle: idle + waiting,
        })
    }

    fn share_since(self, later: Self) -> Option<f64> {
        let busy = later.busy.saturating_sub(self.busy);
        let all = busy + later.idle.saturating_sub(self.idle);
        (all > 0).then(|| busy as f64 / all as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_is_what_was_busy_of_all_that_passed() {
        let before = Ticks::parse("cpu  100 20 30 400 50 1 2 3 0 0\ncpu0 1 1 1 1\n").expect("a line of the kernel's");
        assert_eq!(before, Ticks { busy: 156, idle: 450 });
        let later = Ticks::parse("cpu  110 20 35 480 52 1 2 6 9 9\n").expect("a line of the kernel's");
        assert_eq!(before.share_since(later), Some(18.0 / 100.0));
        assert_eq!(before.share_since(before), None);
        for other in ["", "cpu0 1 2 3 4 5 6 7 8", "cpu  1 2 x 4 5 6 7 8", "cpu  1 2 3"] {
            assert_eq!(Ticks::parse(other), None, "{other}");
        }
    }

    // Goal: it tells load. Method: every processor busy for as long as the probe rests.
    #[test]
    fn busy_processors_show() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let stop = AtomicBool::new(false);
        let share = thread::scope(|scope| {
            for _ in 0..crate::harness::environment::available_processors() {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            let share = share_of_others(Duration::from_millis(300));
            stop.store(true, Ordering::Relaxed);
            share
        });
        if let Some(share) = share {
            assert!((0.3..=1.0).contains(&share), "{share}");
        }
    }
}
