//! A filled checklist, for people ([`checklist`], [`markdown`]) and for programs ([`json`], [`percentiles`]); and what
//! the questions need besides: tables as [`csv`], plots as [`svg`].
//!
//! Reports only show: every verdict was drawn in [`crate::gates::sheet`], and no number is made here.

#![forbid(unsafe_code)]

pub mod checklist;
pub mod csv;
pub mod json;
pub mod markdown;
pub mod percentiles;
pub mod progress;
pub mod svg;
pub mod units;
