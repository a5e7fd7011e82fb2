//! How anything is measured here: the parts, and the order in which a measurement uses them.
//!
//! 1. [`environment`] writes down the machine and how disturbed it is.
//! 2. [`rounds::interleave`] runs the sides of a comparison in turn, A B C A B C, a number of rounds fixed beforehand.
//! 3. Each side of a round is one slice: [`threads::run`] starts its threads together, pins them, warms up,
//!    counts what each did in a common window, and keeps the processors it does not use busy.
//! 4. [`ceiling`] is a side like any other: threads that share nothing, the most that this machine can scale.
//! 5. [`clock`] times single operations where a distribution is wanted, and knows its own cost.
//! 6. [`load`] says how busy others are, where a figure waits for a device.
//! 7. [`stats`] turns the rounds into a median with an interval.
#![forbid(unsafe_code)]

pub mod ceiling;
pub mod clock;
pub mod environment;
pub mod load;
pub mod rounds;
pub mod stats;
pub mod threads;
