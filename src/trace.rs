//! Per-layer timing behind the `perf-trace` feature, and its absence without it.
//!
//! A layer brackets its work with [`Trace::span`]; the guard that it returns records the time between its making
//! and its drop. With the feature, the two ends are raw readings of the time-stamp counter, made nanoseconds by
//! quanta's calibration, and land in an HdrHistogram of this thread and layer. Without the feature [`Trace`] and
//! [`Span`] have no size, no drop and no code: `tests/perf_trace_absent.rs` looks for traces of it in a binary.
//!
//! The trace is owned by the store that it times, so two databases in one process do not mix. Each thread has its
//! own histograms, under a mutex that only the owner takes while it works; [`Trace::merged`] takes each for a
//! moment to copy it. That mutex may make a traced thread wait for a reader of the figures: tracing is the one
//! part of the engine that is not lock-free, which is a reason why it is not in an ordinary build.
//!
//! A span costs two readings of the counter, one uncontended lock and one histogram entry, some tens of
//! nanoseconds, of which about half falls inside the span. Spans are meant to lie beside one another: a span
//! within a span is counted in both, and then the layers' sum exceeds the whole.
#![forbid(unsafe_code)]

/// Where an operation spends its time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Layer {
    /// Opening a snapshot. Closing one is not timed.
    Snapshot,
    /// Finding a key's chain in the index, or inserting one.
    IndexSearch,
    /// Linking a version into its chain, for oneself or for another thread: the exchange on the head, whether it
    /// succeeds or not, and no more. Making the version lies outside.
    Install,
    /// Drawing a commit timestamp and deciding the caller's own put or transaction. Deciding what another thread left
    /// undecided is not timed.
    Decide,
    /// Cutting off and retiring versions that no snapshot can see.
    Truncate,
}

impl Layer {
    /// All layers, in the order in which a put meets them.
    pub const ALL: [Self; 5] = [
        Self::Snapshot,
        Self::IndexSearch,
        Self::Install,
        Self::Decide,
        Self::Truncate,
    ];

    /// Returns the name that reports print.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::IndexSearch => "index_search",
            Self::Install => "install",
            Self::Decide => "decide",
            Self::Truncate => "truncate",
        }
    }
}

#[cfg(not(feature = "perf-trace"))]
pub use self::absent::{Span, Trace};
#[cfg(feature = "perf-trace")]
pub use self::recording::{Span, Trace};

#[cfg(not(feature = "perf-trace"))]
mod absent {
    use std::marker::PhantomData;

    use super::Layer;

    /// Records nothing: the `perf-trace` feature is off.
    #[derive(Debug, Default)]
    pub struct Trace(());

    impl Trace {
        /// Returns a trace that records nothing.
        #[inline(always)]
        #[must_use]
        pub fn new() -> Self {
            Self(())
        }

        /// Does nothing.
        #[inline(always)]
        #[must_use = "a span ends where it is dropped"]
        pub fn span(&self, _layer: Layer) -> Span<'_> {
            Span(PhantomData)
        }
    }

    /// Times nothing: the `perf-trace` feature is off.
    #[derive(Debug)]
    pub struct Span<'t>(PhantomData<&'t Trace>);

    impl Span<'_> {
        /// Does nothing.
        #[inline(always)]
        pub fn end(self) {}
    }

    const _: () = {
        assert!(size_of::<Trace>() == 0);
        assert!(size_of::<Span<'_>>() == 0);
        assert!(!std::mem::needs_drop::<Trace>());
        assert!(!std::mem::needs_drop::<Span<'_>>());
    };
}

#[cfg(feature = "perf-trace")]
mod recording {
    use std::fmt;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use hdrhistogram::Histogram;
    use quanta::Clock;

    use super::Layer;
    use crate::sync::PerThread;

    /// Longest time that a histogram tells apart, in nanoseconds: ten seconds. Longer ones are counted as this.
    const LONGEST_NS: u64 = 10_000_000_000;

    /// Decimal digits that a recorded time keeps.
    const SIGNIFICANT_DIGITS: u8 = 3;

    /// The histograms of one thread, in the order of [`Layer::ALL`].
    type Histograms = [Histogram<u64>; Layer::ALL.len()];

    fn empty_histogram() -> Histogram<u64> {
        Histogram::new_with_bounds(1, LONGEST_NS, SIGNIFICANT_DIGITS).expect("the constant bounds are valid")
    }

    fn lock(histograms: &Mutex<Histograms>) -> MutexGuard<'_, Histograms> {
        // A panic while it is held leaves at worst one entry out.
        histograms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The times of every layer of one store, kept per thread and merged on demand.
    pub struct Trace {
        clock: Clock,
        threads: PerThread<Mutex<Histograms>>,
    }

    impl Trace {
        /// Returns an empty trace. The first one of a process calibrates the time-stamp counter, which takes a
        /// noticeable fraction of a second.
        #[must_use]
        pub fn new() -> Self {
            Self {
                clock: Clock::new(),
                threads: PerThread::new(),
            }
        }

        /// Begins to time `layer` on this thread, until the span is dropped.
        #[inline]
        #[must_use = "a span ends where it is dropped"]
        pub fn span(&self, layer: Layer) -> Span<'_> {
            Span {
                trace: self,
                layer,
                start: self.clock.raw(),
            }
        }

        /// Returns the times of each layer, in nanoseconds, of all threads together since the last
        /// [`reset`](Self::reset).
        #[must_use]
        pub fn merged(&self) -> Vec<(Layer, Histogram<u64>)> {
            let mut merged: Vec<_> = Layer::ALL.into_iter().map(|layer| (layer, empty_histogram())).collect();
            for thread in self.threads.iter() {
                let histograms = lock(thread);
                for ((_, sum), part) in merged.iter_mut().zip(histograms.iter()) {
                    sum.add(part).expect("all histograms have the same bounds");
                }
            }
            merged
        }

        /// Forgets all times, such as those of a warm-up.
        pub fn reset(&self) {
            for thread in self.threads.iter() {
                for histogram in lock(thread).iter_mut() {
                    histogram.reset();
                }
            }
        }

        fn record(&self, layer: Layer, start: u64, end: u64) {
            let elapsed_ns = self.clock.delta_as_nanos(start, end);
            let thread = self
                .threads
                .get_or(|| Mutex::new(std::array::from_fn(|_| empty_histogram())));
            lock(thread)[layer as usize].saturating_record(elapsed_ns);
        }
    }

    impl Default for Trace {
        fn default() -> Self {
            Self::new()
        }
    }

    impl fmt::Debug for Trace {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Trace").finish_non_exhaustive()
        }
    }

    /// Times one stretch of one layer's work; it ends when this is dropped.
    #[derive(Debug)]
    pub struct Span<'t> {
        trace: &'t Trace,
        layer: Layer,
        /// The time-stamp counter when the span began.
        start: u64,
    }

    impl Span<'_> {
        /// Ends the span here.
        pub fn end(self) {}
    }

    impl Drop for Span<'_> {
        #[inline]
        fn drop(&mut self) {
            let end = self.trace.clock.raw();
            self.trace.record(self.layer, self.start, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_numbered_as_listed() {
        for (number, layer) in Layer::ALL.into_iter().enumerate() {
            assert_eq!(layer as usize, number, "{}", layer.name());
        }
    }

    /// Two threads record while a third merges; nothing is lost, and the layers are kept apart.
    #[cfg(feature = "perf-trace")]
    #[test]
    fn spans_of_all_threads_are_merged() {
        const SPANS: u64 = 2_000;
        let trace = Trace::new();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..SPANS {
                        trace.span(Layer::Install).end();
                        let _span = trace.span(Layer::Decide);
                    }
                });
            }
            for _ in 0..20 {
                assert_eq!(trace.merged().len(), Layer::ALL.len());
            }
        });
        for (layer, times) in trace.merged() {
            let expected = if matches!(layer, Layer::Install | Layer::Decide) {
                2 * SPANS
            } else {
                0
            };
            assert_eq!(times.len(), expected, "{}", layer.name());
        }
        trace.reset();
        assert!(trace.merged().iter().all(|(_, times)| times.is_empty()));
    }

    /// A span around a sleep of 2 ms is read as between 2 ms and, on however busy a machine, 2 s.
    #[cfg(feature = "perf-trace")]
    #[test]
    fn times_are_nanoseconds() {
        let trace = Trace::new();
        let span = trace.span(Layer::Snapshot);
        std::thread::sleep(std::time::Duration::from_millis(2));
        span.end();
        let longest_ns = trace.merged()[Layer::Snapshot as usize].1.max();
        assert!((1_990_000..2_000_000_000).contains(&longest_ns), "{longest_ns} ns");
    }
}
