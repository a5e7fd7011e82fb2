//! Models of the engine's protocols: each runs two or three threads with one or two operations each, in every
//! interleaving and with every value that the memory orderings allow a load to return, up to a bound on preemptions.
//!
//! The models are the files under `tests/`, one for each source file with atomics. They exist in builds with
//! `--cfg loom` alone, which `cargo loom` makes; in an ordinary build this crate has one test, which runs that very
//! build with a small bound. `README.md` says how to read a failure and how to add a model.
#![forbid(unsafe_code)]

#[cfg(loom)]
pub mod log;
#[cfg(loom)]
mod runner;
#[cfg(loom)]
mod store;

#[cfg(loom)]
pub use self::runner::{model, occurs};
#[cfg(loom)]
pub use self::store::{Held, ModelStore, Shared, Stop, commit, delete, get, get_at, key, new_store, put, spawn, tidy};
