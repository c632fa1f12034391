//! Ledgers that follow their syncs: the ledger belongs to a sync's id (SPEC §5), and is kept in a topic of its brokers or in a folder, as `to`
//! says. Where `to` changes so that it is kept elsewhere, a start takes it over from where the latest checkpoint has noted it.
//!
//! Promises: what was committed there counts as committed here, with its rows. Where it is taken from stays as it is, and is not written by an
//! earlier process any more. A start that is killed before the checkpoint has noted the new place takes it over once more: nothing is committed
//! there before.
//!
//! Refuses: a ledger with changes that wait for the earlier destination, which nobody would send.

use std::sync::Arc;
use usher_core::ledger::{Ledger, LedgerAudience};
use usher_core::sink::{LedgerPosition, SinkError};

/// What the latest checkpoint has noted of a sync's ledger.
#[derive(Clone, Copy)]
pub struct NotedLedger<'a> {
    /// How far it was, and where.
    pub position: &'a LedgerPosition,
    /// Takes it over from there. Called where it is to be kept elsewhere now, and is not to begin anew.
    pub take_over: &'a dyn Fn() -> Result<MovedLedger, SinkError>,
}

/// A ledger that is taken over from elsewhere.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct MovedLedger {
    pub(crate) ledger: Ledger,
    /// By membership, in the order of `ledger`; empty if it has no row.
    pub(crate) rows: Vec<Arc<str>>,
}

/// Audience, key and row of a membership.
pub(crate) type MovedMember<'a> = (&'a LedgerAudience, &'a str, &'a Arc<str>);

impl MovedLedger {
    /// Returns a ledger with the rows of its memberships, in their order.
    pub(crate) fn new(ledger: Ledger, rows: Vec<Arc<str>>) -> MovedLedger {
        assert_eq!(ledger.len(), rows.len(), "each membership has a row, which may be empty");
        MovedLedger { ledger, rows }
    }

    /// Returns it as it begins anew.
    pub(crate) fn begun_anew(self) -> MovedLedger {
        MovedLedger { ledger: self.ledger.begun_anew(), rows: Vec::new() }
    }

    /// Returns the memberships.
    pub(crate) fn iter(&self) -> impl Iterator<Item = MovedMember<'_>> {
        let members = self.ledger.iter().zip(&self.rows);
        members.map(|((audience, key), row)| (&self.ledger.audiences[audience as usize], key, row))
    }
}

/// Returns the error of a ledger that can't be taken over.
pub(crate) fn refused(sync: &str, reason: String, hint: &'static str) -> SinkError {
    SinkError::Failed { to: format!("the ledger of sync `{sync}`"), action: "taken over", reason, hint }
}
