//! The device under a database that keeps something: where it lives, what a sync costs bare, and what a crash leaves.
//!
//! | module | owns |
//! |---|---|
//! | [`directory`] | a directory of a measurement's own, removed with it; a copy of one that is in use |
//! | [`medium`] | which file system and which device that is, without saying where |
//! | [`place`] | where an engine keeps what it is told, and what the next life finds there after a crash |
//! | [`counted`] | a storage that counts its syncs, their bytes and their time |
//! | [`bare`] | the same bytes written and synced without any engine |
//!
//! A figure about a device is one about the load on it, too: `harness::load` says what others took.
#![forbid(unsafe_code)]

pub mod bare;
pub mod counted;
pub mod directory;
#[cfg(test)]
pub(crate) mod lying;
pub mod medium;
pub mod place;
mod wrapped;
