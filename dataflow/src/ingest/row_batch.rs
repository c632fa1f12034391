//! Batches of evaluated rows of a snapshot, on their way to the workers that own the keys.
//!
//! Of a row only what the job's conditions need is sent: a bit per `property` fact, the contribution to each `related` fact,
//! and, for a condition with `now()`, the moments at which its truth flips.

use crate::time::Time;
use serde::{Deserialize, Serialize};
use usher_queries::aggregate::Contribution;
use usher_queries::predicate::Evaluator;
use usher_queries::{StoredValue, Value};

/// Truth over all clock values: a start and the moments at which it flips.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Timeline {
    /// Truth before the first moment.
    pub(crate) first: bool,
    /// The moments, ms since the epoch, ascending.
    pub(crate) flips: Vec<i64>,
}

impl Timeline {
    /// Returns the truth of a predicate for these values of its columns.
    pub(crate) fn of(evaluator: &Evaluator, values: &[Value<'_>]) -> Timeline {
        let moments = evaluator.moments(values);
        let first = evaluator.holds(values, moments.first().map_or(0, |moment| moment.saturating_sub(1)));
        let mut truth = first;
        let mut flips = Vec::new();
        for moment in moments {
            if evaluator.holds(values, moment) != truth {
                truth = !truth;
                flips.push(moment);
            }
        }
        Timeline { first, flips }
    }

    /// Returns the truth at a time.
    pub(crate) fn at(&self, time: Time) -> bool {
        self.first ^ (self.passed(time) % 2 == 1)
    }

    /// Returns the first flip after `time` that a clock can reach.
    pub(crate) fn next(&self, time: Time) -> Option<Time> {
        self.flips.get(self.passed(time)).and_then(|flip| Time::try_from(*flip).ok())
    }

    /// Returns the number of flips at `time` and before.
    fn passed(&self, time: Time) -> usize {
        self.flips.partition_point(|flip| i128::from(*flip) <= i128::from(time))
    }
}

/// What the rows of a batch are to the model whose keys they name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Role {
    /// They are rows of the model itself.
    Own,
    /// They belong to rows of the model.
    Related,
}

/// A part of a pull for one worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RowBatch {
    /// The worker that owns the keys.
    pub(crate) worker: u32,
    /// The model that was pulled, and the number of the pull, from 1.
    pub(crate) pulled: u32,
    pub(crate) pull: u64,
    /// The model whose keys are named.
    pub(crate) model: u32,
    pub(crate) role: Role,
    /// The file that the rows are of, by its number in the snapshot.
    pub(crate) file: u32,
    /// About how many rows of the pull each owner gets.
    pub(crate) rows_per_owner: u64,
    /// Whether the rows are no longer in the table: only their keys are sent.
    pub(crate) gone: bool,
    /// The number by which a later pull may say that all its rows are gone; 0 if none will.
    pub(crate) number: u64,
    /// Per row: [`hash_key`](super::event_batch::hash_key) of its key, and the end of the key in `keys`.
    heads: Vec<(u64, u32)>,
    keys: String,
    /// Own: what messages may carry of each row, if anything, and where each text ends.
    texts: String,
    text_ends: Vec<u32>,
    /// Own: the truth of the model's property facts, in their order, `stride` words a row.
    pub(crate) truths: Vec<u64>,
    /// Own, of a model whose rows are kept: the columns of each row, in the order of the plan.
    pub(crate) values: Vec<StoredValue>,
    /// (row, fact, truth) of property facts with `now()`.
    pub(crate) timelines: Vec<(u32, u32, Timeline)>,
    /// (row, fact, contribution) to related facts.
    pub(crate) contributions: Vec<(u32, u32, Contribution)>,
    /// (row, fact, contribution, when) to related facts with `now()`.
    pub(crate) timed: Vec<(u32, u32, Contribution, Timeline)>,
    /// The keys of the pulled model's rows, if it has no keys of its own at which a repeated one shows: fingerprint and end in
    /// `seen_keys`.
    pub(crate) seen: Vec<(u128, u32)>,
    seen_keys: String,
}

impl RowBatch {
    /// Returns an empty batch.
    pub(crate) fn new(worker: u32, pulled: u32, pull: u64, model: u32, role: Role) -> RowBatch {
        RowBatch {
            worker,
            pulled,
            pull,
            model,
            role,
            file: 0,
            rows_per_owner: 0,
            gone: false,
            number: 0,
            heads: Vec::new(),
            keys: String::new(),
            texts: String::new(),
            text_ends: Vec::new(),
            truths: Vec::new(),
            values: Vec::new(),
            timelines: Vec::new(),
            contributions: Vec::new(),
            timed: Vec::new(),
            seen: Vec::new(),
            seen_keys: String::new(),
        }
    }

    /// Adds a row of a key. Returns its number in the batch.
    pub(crate) fn push(&mut self, key_hash: u64, key: &str) -> u32 {
        self.keys.push_str(key);
        let end = u32::try_from(self.keys.len()).expect("the keys of one batch stay under 4 GiB");
        self.heads.push((key_hash, end));
        self.heads.len() as u32 - 1
    }

    /// Adds what messages may carry of the row just pushed.
    pub(crate) fn push_text(&mut self, text: &str) {
        self.texts.push_str(text);
        self.text_ends.push(u32::try_from(self.texts.len()).expect("the texts of one batch stay under 4 GiB"));
    }

    /// Returns what messages may carry of a row; empty if they carry nothing.
    pub(crate) fn text(&self, row: usize) -> &str {
        let Some(end) = self.text_ends.get(row) else { return "" };
        let start = if row == 0 { 0 } else { self.text_ends[row - 1] as usize };
        &self.texts[start..*end as usize]
    }

    /// Returns the number of rows.
    pub(crate) fn len(&self) -> usize {
        self.heads.len()
    }

    /// Returns whether there is nothing to send.
    pub(crate) fn is_empty(&self) -> bool {
        self.heads.is_empty() && self.seen.is_empty()
    }

    /// Adds a key of the pulled model, to be checked for repeats.
    pub(crate) fn push_seen(&mut self, fingerprint: u128, key: &str) {
        self.seen_keys.push_str(key);
        let end = u32::try_from(self.seen_keys.len()).expect("the keys of one batch stay under 4 GiB");
        self.seen.push((fingerprint, end));
    }

    /// Returns the `i`-th key of `seen`.
    pub(crate) fn seen_key(&self, i: usize) -> &str {
        let start = if i == 0 { 0 } else { self.seen[i - 1].1 as usize };
        &self.seen_keys[start..self.seen[i].1 as usize]
    }

    /// Returns the hash and the key of a row.
    pub(crate) fn key(&self, row: usize) -> (u64, &str) {
        let start = if row == 0 { 0 } else { self.heads[row - 1].1 as usize };
        let (hash, end) = self.heads[row];
        (hash, &self.keys[start..end as usize])
    }
}
