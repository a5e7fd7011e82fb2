//! What a database is opened with: its durability, and how often a transaction is tried again.
//!
//! Fields are private and set by chained setters, so that a new option breaks nobody; [`Options::validate`] is the
//! one place that judges them, and `open` the one place that calls it. Every default is a named constant here, and
//! documentation links to it instead of repeating its value.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::error::{Error, Result};

/// How long a [`Durability::Buffered`] commit waits at most before it is written out, unless set otherwise.
pub const DEFAULT_FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// How many [`Durability::Buffered`] commits may be pending before they are written out, unless set otherwise.
pub const DEFAULT_MAX_PENDING_WRITES: usize = 1_000;

/// How often [`RetryConfig::new`] tries a transaction again after its first attempt. A conflict means that another
/// transaction committed, so one that loses this often is starved by design of its application, not by chance.
pub const DEFAULT_MAX_RETRIES: u32 = 32;

/// The shortest pause of [`RetryConfig::new`]: about the shortest that a sleep of the operating system lasts.
pub const DEFAULT_BASE_DELAY: Duration = Duration::from_micros(50);

/// The longest pause of [`RetryConfig::new`].
pub const DEFAULT_MAX_DELAY: Duration = Duration::from_millis(10);

/// The length of a segment of the log, in bytes, unless set otherwise. A longer one is rolled less often, and takes longer
/// to make and to recover.
pub const DEFAULT_SEGMENT_BYTES: usize = 16 << 20;

/// The shortest segment, in bytes.
pub const LEAST_SEGMENT_BYTES: usize = 8 << 10;

/// The longest segment, in bytes.
pub const GREATEST_SEGMENT_BYTES: usize = 1 << 30;

/// How many bytes of log are written before a checkpoint is taken, unless set otherwise.
pub const DEFAULT_CHECKPOINT_BYTES: u64 = 256 << 20;

/// What survives a crash, and when a commit is acknowledged.
///
/// Visibility does not depend on it: in every mode a commit is seen by others as soon as it is decided, and reads
/// never wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Durability {
    /// Nothing survives the process. Nothing is written, and no commit waits for anything.
    InMemory,
    /// A commit is acknowledged when it is decided, and written out later. A crash of the machine loses at most what was
    /// pending, and what survives is exactly the state at one moment of the order of commits. (A crash of the process
    /// alone loses less: what the operating system was given is written out by it.)
    Buffered {
        /// The longest time after which a flush begins that covers a commit; greater than zero. Of a database that
        /// met several intervals the shortest counts.
        flush_interval: Duration,
        /// Pending commits that make a flush due early; at least one. A writer that finds twice as many pending waits, so
        /// that the loss is bounded by that and one commit for each other thread.
        max_pending_writes: usize,
    },
    /// A commit is acknowledged once it would survive a crash.
    Strict,
}

impl Durability {
    /// [`Durability::Buffered`] with [`DEFAULT_FLUSH_INTERVAL`] and [`DEFAULT_MAX_PENDING_WRITES`].
    pub const BUFFERED: Self = Self::Buffered {
        flush_interval: DEFAULT_FLUSH_INTERVAL,
        max_pending_writes: DEFAULT_MAX_PENDING_WRITES,
    };

    /// Refuses what cannot be kept.
    pub(crate) fn validate(self) -> Result<()> {
        if let Self::Buffered {
            flush_interval,
            max_pending_writes,
        } = self
        {
            if flush_interval.is_zero() {
                let text = "flush_interval is zero; set at least a microsecond, or use strict durability";
                return Err(Error::InvalidOptions(text.to_owned()));
            }
            if max_pending_writes == 0 {
                let text = "max_pending_writes is zero; set at least 1, or use strict durability";
                return Err(Error::InvalidOptions(text.to_owned()));
            }
        }
        Ok(())
    }

    /// The name that messages print.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::InMemory => "in-memory",
            Self::Buffered { .. } => "buffered",
            Self::Strict => "strict",
        }
    }
}

/// How a database behaves, as its builder collects it.
#[derive(Clone, Debug)]
pub struct Options {
    durability: Durability,
    segment_bytes: usize,
    checkpoint_bytes: Option<u64>,
    background: bool,
}

impl Options {
    /// The durability of options that name none: losing data must be asked for.
    pub const DEFAULT_DURABILITY: Durability = Durability::Strict;

    /// Returns options with every default.
    #[must_use]
    pub fn new() -> Self {
        Self {
            durability: Self::DEFAULT_DURABILITY,
            segment_bytes: DEFAULT_SEGMENT_BYTES,
            checkpoint_bytes: Some(DEFAULT_CHECKPOINT_BYTES),
            background: true,
        }
    }

    /// Sets what survives a crash.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Keeps nothing beyond the process: [`Durability::InMemory`].
    #[must_use]
    pub fn in_memory(self) -> Self {
        self.durability(Durability::InMemory)
    }

    /// Sets the length of a segment of the log, in bytes: rounded up to a page, between [`LEAST_SEGMENT_BYTES`] and
    /// [`GREATEST_SEGMENT_BYTES`].
    #[must_use]
    pub fn segment_bytes(mut self, segment_bytes: usize) -> Self {
        self.segment_bytes = segment_bytes;
        self
    }

    /// Sets after how many bytes of log a checkpoint is taken by itself; `None` for never.
    #[must_use]
    pub fn checkpoint_bytes(mut self, checkpoint_bytes: Option<u64>) -> Self {
        self.checkpoint_bytes = checkpoint_bytes;
        self
    }

    /// Sets whether threads of the database's own flush, make segments and take checkpoints. Without them whoever needs
    /// one of these does it itself, and buffered commits are made durable by [`flush`](crate::Database::flush) and by the
    /// bound on pending writes alone: for runs that must be repeatable step by step.
    #[must_use]
    pub fn background(mut self, background: bool) -> Self {
        self.background = background;
        self
    }

    /// Returns the length of a segment in bytes.
    pub(crate) fn chosen_segment_bytes(&self) -> usize {
        self.segment_bytes
    }

    /// Returns after how many bytes of log a checkpoint is taken.
    pub(crate) fn chosen_checkpoint_bytes(&self) -> Option<u64> {
        self.checkpoint_bytes
    }

    /// Returns whether there are threads of the database's own.
    pub(crate) fn chosen_background(&self) -> bool {
        self.background
    }

    /// Returns the durability that is set.
    #[must_use]
    pub fn chosen_durability(&self) -> Durability {
        self.durability
    }

    /// Judges the options as a whole.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOptions`], saying which option is wrong and what to set instead.
    pub fn validate(&self) -> Result<()> {
        self.durability.validate()?;
        if !(LEAST_SEGMENT_BYTES..=GREATEST_SEGMENT_BYTES).contains(&self.segment_bytes) {
            return Err(Error::InvalidOptions(format!(
                "segment_bytes is {}; set {LEAST_SEGMENT_BYTES} to {GREATEST_SEGMENT_BYTES}",
                self.segment_bytes
            )));
        }
        if self.checkpoint_bytes == Some(0) {
            let text = "checkpoint_bytes is zero; set at least 1, or None for no checkpoints";
            return Err(Error::InvalidOptions(text.to_owned()));
        }
        Ok(())
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

/// How often, and after what pauses, a transaction that met a conflict runs again.
///
/// The first retry follows at once: a conflict means that the other transaction is already committed, so there is
/// nothing to wait for. If that fails too, the key is contended, and the pauses double from the base delay to the
/// greatest delay, each one jittered so that two that collided part.
///
/// ```
/// use unlatched::RetryConfig;
///
/// let patient = RetryConfig::new().with_max_retries(100).with_base_delay_ms(1).with_max_delay_ms(50);
/// assert_eq!(patient.max_retries(), 100);
/// assert_eq!(RetryConfig::no_retry().max_retries(), 0);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryConfig {
    max_retries: u32,
    base_delay: Duration,
    max_delay: Duration,
}

impl RetryConfig {
    /// Returns [`DEFAULT_MAX_RETRIES`], [`DEFAULT_BASE_DELAY`] and [`DEFAULT_MAX_DELAY`].
    #[must_use]
    pub const fn new() -> Self {
        Self {
            max_retries: DEFAULT_MAX_RETRIES,
            base_delay: DEFAULT_BASE_DELAY,
            max_delay: DEFAULT_MAX_DELAY,
        }
    }

    /// Returns a configuration under which the first conflict is final.
    #[must_use]
    pub const fn no_retry() -> Self {
        Self::new().with_max_retries(0)
    }

    /// Sets how often a transaction runs again after its first attempt.
    #[must_use]
    pub const fn with_max_retries(mut self, max_retries: u32) -> Self {
        self.max_retries = max_retries;
        self
    }

    /// Sets the shortest pause, in milliseconds; zero never pauses.
    #[must_use]
    pub const fn with_base_delay_ms(mut self, base_delay_ms: u64) -> Self {
        self.base_delay = Duration::from_millis(base_delay_ms);
        self
    }

    /// Sets the longest pause, in milliseconds. It wins over a base delay that is longer.
    #[must_use]
    pub const fn with_max_delay_ms(mut self, max_delay_ms: u64) -> Self {
        self.max_delay = Duration::from_millis(max_delay_ms);
        self
    }

    /// Returns how often a transaction runs again after its first attempt.
    #[must_use]
    pub const fn max_retries(&self) -> u32 {
        self.max_retries
    }

    /// Returns how long to sleep before retry number `retry`, counted from 1; zero is not to sleep at all.
    ///
    /// A pure function: the same `seed` gives the same pauses, different seeds different ones. No pause is shorter
    /// than the base delay, since a shorter sleep is not to be had, nor longer than the greatest delay.
    pub(crate) fn delay_before(&self, retry: u32, seed: u64) -> Duration {
        if retry <= 1 || self.base_delay.is_zero() {
            return Duration::ZERO;
        }
        let doublings = (retry - 1).min(u32::BITS - 1);
        let ceiling = self.base_delay.saturating_mul(1 << doublings).min(self.max_delay);
        let floor = (ceiling / 2).max(self.base_delay).min(ceiling);
        // The jitter is a 32-bit fraction of the room between floor and ceiling.
        let room_ns = (ceiling - floor).as_nanos();
        let fraction = u128::from(scramble(seed ^ u64::from(retry)) >> 32);
        let jitter_ns = (room_ns * fraction) >> 32;
        floor + Duration::from_nanos(u64::try_from(jitter_ns).unwrap_or(u64::MAX)).min(ceiling - floor)
    }
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// Spreads the bits of `seed` over a whole word, so that neighbouring seeds give unrelated numbers: the finisher
/// of the SplitMix64 generator (Steele, Lea and Flood, OOPSLA 2014).
const fn scramble(seed: u64) -> u64 {
    let word = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_cannot_be_are_refused_by_name() {
        assert!(Options::new().validate().is_ok());
        for bytes in [0, LEAST_SEGMENT_BYTES - 1, GREATEST_SEGMENT_BYTES + 1] {
            let error = Options::new().segment_bytes(bytes).validate().expect_err("impossible");
            assert!(error.to_string().contains("segment_bytes"), "{error}");
        }
        let error = Options::new()
            .checkpoint_bytes(Some(0))
            .validate()
            .expect_err("without end");
        assert!(error.to_string().contains("checkpoint_bytes"), "{error}");
    }

    #[test]
    fn an_unbounded_buffer_is_refused_by_name() {
        let never = Durability::Buffered {
            flush_interval: Duration::ZERO,
            max_pending_writes: 1,
        };
        let none = Durability::Buffered {
            flush_interval: DEFAULT_FLUSH_INTERVAL,
            max_pending_writes: 0,
        };
        for (durability, name) in [(never, "flush_interval"), (none, "max_pending_writes")] {
            let error = Options::new()
                .durability(durability)
                .validate()
                .expect_err("contradicts itself");
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn the_first_retry_follows_at_once() {
        assert_eq!(RetryConfig::new().delay_before(1, 7), Duration::ZERO);
        assert_eq!(
            RetryConfig::new().with_base_delay_ms(0).delay_before(9, 7),
            Duration::ZERO
        );
    }

    /// Every pause of every seed lies between base and greatest delay, and pauses double until they reach it.
    #[test]
    fn pauses_double_within_their_bounds() {
        let config = RetryConfig::new().with_base_delay_ms(1).with_max_delay_ms(20);
        for seed in 0..200 {
            for (retry, least_ms, most_ms) in [
                (2, 1, 2),
                (3, 2, 4),
                (4, 4, 8),
                (5, 8, 16),
                (6, 10, 20),
                (u32::MAX, 10, 20),
            ] {
                let pause = config.delay_before(retry, seed);
                assert!(
                    pause >= Duration::from_millis(least_ms),
                    "retry {retry}, seed {seed}: {pause:?}"
                );
                assert!(
                    pause <= Duration::from_millis(most_ms),
                    "retry {retry}, seed {seed}: {pause:?}"
                );
            }
        }
    }

    #[test]
    fn pauses_depend_on_the_seed_alone() {
        let config = RetryConfig::new();
        assert_eq!(config.delay_before(5, 1), config.delay_before(5, 1));
        assert_ne!(config.delay_before(5, 1), config.delay_before(5, 2));
    }

    #[test]
    fn the_greatest_delay_wins() {
        let config = RetryConfig::new().with_base_delay_ms(50).with_max_delay_ms(3);
        assert_eq!(config.delay_before(4, 0), Duration::from_millis(3));
        let endless = RetryConfig::new()
            .with_base_delay_ms(u64::MAX)
            .with_max_delay_ms(u64::MAX);
        assert_eq!(endless.delay_before(40, 3), Duration::from_millis(u64::MAX));
    }
}
