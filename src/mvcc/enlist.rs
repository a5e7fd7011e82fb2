//! How a write asks for a record in a log before anything of it can be seen.
//!
//! The store knows no log. A write that is to survive brings an [`Enlist`], which the store calls with the write's bytes
//! *before* it links a version: what is reachable from a chain has its record copied. In return whoever reads the log may
//! ask the store how such a write stands, by the word [`Enlisted`] that the log kept. A write that brings [`Unlisted`] has
//! no record, and the calls vanish at compile time.
//!
//! # Invariants
//!
//! 1. From a successful `enlist` on, a put's version belongs to its chain *and* to the log: it is not freed by unwinding,
//!    and its owner retires it only after `withdraw`.
//! 2. A transaction's descriptor counts its place in the log as one reference, which `release_enlisted` gives back.
//! 3. The log asks only about places that are not done, while pinned in this store. A committed put stays allocated until
//!    then, because nothing newer than the durable cut is pruned; an aborted one because whoever aborts it either is the
//!    log's reader, pinned, or has withdrawn it first. One that gets no record is retired too: whoever poisons the log may
//!    just have read its place.
#![forbid(unsafe_code)]

use std::convert::Infallible;

use crate::reclaim::Guard;
use crate::types::Enlisted;
pub use crate::types::Fate;

/// Gives a write its record.
pub trait Enlist {
    /// Whether there is a log at all.
    const ENLISTS: bool;

    /// Why a write can have no record.
    type Error;

    /// Where the record is.
    type Place<'g>
    where
        Self: 'g;

    /// Appends the record of `what`, which writes these keys and values, `None` deleting. On failure nothing of it is in
    /// the log.
    ///
    /// # Errors
    ///
    /// Whatever the log says.
    fn enlist<'g, 'w>(
        &mut self,
        what: Enlisted,
        writes: impl Iterator<Item = (&'w [u8], Option<&'w [u8]>)> + Clone,
        guard: &'g impl Guard,
    ) -> Result<Self::Place<'g>, Self::Error>
    where
        Self: 'g;

    /// Takes back the record of a write that is aborted and was never linked.
    fn withdraw<'g>(&mut self, what: Enlisted, place: Self::Place<'g>)
    where
        Self: 'g;
}

/// Writes nothing to any log.
#[derive(Clone, Copy, Debug)]
pub struct Unlisted;

impl Enlist for Unlisted {
    const ENLISTS: bool = false;

    type Error = Infallible;

    type Place<'g> = ();

    #[inline(always)]
    fn enlist<'g, 'w>(
        &mut self,
        _what: Enlisted,
        _writes: impl Iterator<Item = (&'w [u8], Option<&'w [u8]>)> + Clone,
        _guard: &'g impl Guard,
    ) -> Result<(), Infallible>
    where
        Self: 'g,
    {
        Ok(())
    }

    #[inline(always)]
    fn withdraw<'g>(&mut self, _what: Enlisted, _place: ())
    where
        Self: 'g,
    {
    }
}

/// Why a single write was not made.
#[derive(Debug)]
pub enum Refused<J, E> {
    /// The condition does not hold: what was found instead.
    Judged(J),
    /// It got no record.
    NoRecord(E),
}
