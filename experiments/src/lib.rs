//! Measures Unlatched: its gates, its baselines, and the questions about its design.
//!
//! Everything that a measurement needs is a library, so that the command line, the checklist's benches and
//! its red-flag test run the same code:
//!
//! | module | owns |
//! |---|---|
//! | [`harness`] | starting threads together, pinning, warming up, slices, rounds, the clock, statistics |
//! | [`disk`] | places for databases, copies of what a crash leaves, and what a sync costs bare |
//! | [`engines`] | one trait over the engine, the locked and sharded baselines, the floors, and a broken one |
//! | [`workload`] | keys, index streams and values made beforehand; driving a session; checking what it left |
//! | [`gates`] | the checklist: what is measured for each line, and the verdicts |
//! | [`questions`] | one file per question about the design, beside engines and indexes that others publish |
//! | [`report`] | results as tables, JSON, CSV, Markdown and plots |
//! | [`crash`] | lives that a crash ends, and the judge of what is found after it |
//! | [`replay`] | a recorded block trace as gets and puts |
//! | [`inspect`] | what a log's directory holds, and a rehearsal of its recovery |
//! | [`allocations`] | the allocator that counts |
//!
//! Unsafe code is in two files: [`allocations`], and with the feature `peers` the one that opens LMDB's memory map.
#![deny(unsafe_code)]

pub mod allocations;
pub mod crash;
pub mod disk;
pub mod engines;
pub mod gates;
pub mod harness;
pub mod inspect;
pub mod questions;
pub mod replay;
pub mod report;
pub mod workload;
