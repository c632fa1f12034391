//! Rows: what the edge found in a snapshot, on its way to the workers that own the keys.
//!
//! Of a row only what the job's conditions ask is sent: a bit per `property` fact, the contribution to each `related`
//! fact, and, where a condition speaks of `now()`, the moments at which its truth changes.

use crate::time::Time;
use serde::{Deserialize, Serialize};
use usher_queries::aggregate::Contribution;

/// Truth over all clock values: a start and the moments at which it turns.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Timeline {
    /// Truth before the first moment.
    pub(crate) first: bool,
    /// Ascending; truth turns at each.
    pub(crate) turns: Vec<i64>,
}

impl Timeline {
    pub(crate) fn at(&self, time: Time) -> bool {
        self.first ^ (self.passed(time) % 2 == 1)
    }

    /// The first turn after `time` that a clock can reach.
    pub(crate) fn next(&self, time: Time) -> Option<Time> {
        self.turns.get(self.passed(time)).and_then(|turn| Time::try_from(*turn).ok())
    }

    fn passed(&self, time: Time) -> usize {
        self.turns.partition_point(|turn| i128::from(*turn) <= i128::from(time))
    }
}

/// What the rows of a batch are to the model whose keys they name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Role {
    /// Rows of the model itself.
    Own,
    /// Rows that belong to its keys.
    Related,
}

/// A part of a pull for one worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rows {
    /// The worker it goes to.
    pub(crate) worker: u32,
    /// The model that was pulled, and which pull of it, from 1.
    pub(crate) pulled: u32,
    pub(crate) pull: u64,
    /// The model whose keys are named.
    pub(crate) model: u32,
    pub(crate) role: Role,
    heads: Vec<(u64, u32)>,
    keys: String,
    /// Own: what messages may carry of each row, if they carry anything, and where each ends.
    texts: String,
    text_ends: Vec<u32>,
    /// Own: the truth of the model's property facts, in their order, `stride` words a row.
    pub(crate) truths: Vec<u64>,
    /// (row, fact, truth) of property facts that speak of `now()`.
    pub(crate) timelines: Vec<(u32, u32, Timeline)>,
    /// (row, fact, contribution) to related facts.
    pub(crate) contributions: Vec<(u32, u32, Contribution)>,
    /// (row, fact, contribution, when) to related facts that speak of `now()`.
    pub(crate) timed: Vec<(u32, u32, Contribution, Timeline)>,
    /// The keys of the pulled model's rows, where nobody else would see one twice: fingerprint and end in `seen_keys`.
    pub(crate) seen: Vec<(u128, u32)>,
    seen_keys: String,
}

impl Rows {
    pub(crate) fn new(worker: u32, pulled: u32, pull: u64, model: u32, role: Role) -> Rows {
        Rows {
            worker,
            pulled,
            pull,
            model,
            role,
            heads: Vec::new(),
            keys: String::new(),
            texts: String::new(),
            text_ends: Vec::new(),
            truths: Vec::new(),
            timelines: Vec::new(),
            contributions: Vec::new(),
            timed: Vec::new(),
            seen: Vec::new(),
            seen_keys: String::new(),
        }
    }

    /// Adds a row of a key; tells its number in the batch.
    pub(crate) fn push(&mut self, key_hash: u64, key: &str) -> u32 {
        self.keys.push_str(key);
        let end = u32::try_from(self.keys.len()).expect("the keys of one batch stay under 4 GiB");
        self.heads.push((key_hash, end));
        self.heads.len() as u32 - 1
    }

    /// Where what messages may carry of the row just pushed is written; [`Rows::end_row`] ends it.
    pub(crate) fn row_text(&mut self) -> &mut String {
        &mut self.texts
    }

    pub(crate) fn end_row(&mut self) {
        self.text_ends.push(u32::try_from(self.texts.len()).expect("the texts of one batch stay under 4 GiB"));
    }

    /// What messages may carry of a row; empty where they carry nothing.
    pub(crate) fn text(&self, row: usize) -> &str {
        let Some(end) = self.text_ends.get(row) else { return "" };
        let start = if row == 0 { 0 } else { self.text_ends[row - 1] as usize };
        &self.texts[start..*end as usize]
    }

    pub(crate) fn len(&self) -> usize {
        self.heads.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.heads.is_empty() && self.seen.is_empty()
    }

    /// Adds a key of the pulled model, to be seen once.
    pub(crate) fn push_seen(&mut self, fingerprint: u128, key: &str) {
        self.seen_keys.push_str(key);
        let end = u32::try_from(self.seen_keys.len()).expect("the keys of one batch stay under 4 GiB");
        self.seen.push((fingerprint, end));
    }

    /// The text of the `i`-th key in `seen`.
    pub(crate) fn seen_key(&self, i: usize) -> &str {
        let start = if i == 0 { 0 } else { self.seen[i - 1].1 as usize };
        &self.seen_keys[start..self.seen[i].1 as usize]
    }

    /// The hash and key of a row.
    pub(crate) fn key(&self, row: usize) -> (u64, &str) {
        let start = if row == 0 { 0 } else { self.heads[row - 1].1 as usize };
        let (hash, end) = self.heads[row];
        (hash, &self.keys[start..end as usize])
    }
}
