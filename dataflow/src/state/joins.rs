//! Joins: what follows for a key's row from the rows that it belongs to, and who reads the row as such a one.
//!
//! Computes, row by row and ms by ms in order, the flips of facts that read columns of parents, and the values to send to the workers whose
//! rows belong to this one. Promises: what is sent of a key to a worker is what its rows read from the ms on at which they first pointed
//! there, each change once. [`super::rows`] has the rows, [`super::parents`] what is known of others. Refuses to say up to when all is known
//! that a join needs; [`super::epoch`] does.

use super::keyed::KeyedState;
use super::parents::{Interest, ParentValues, Readers};
use super::rows::RowState;
use crate::time::{Slot, Time};
use std::rc::Rc;
use usher_queries::plan::ModelPlan;

/// What happens to a key at a ms of a join, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Joined {
    /// A worker no longer reads its row, for rows of this model.
    Ends { child: u32, worker: u32 },
    /// Its row may have changed, or what it reads of its parent.
    Changes,
    /// A worker begins to read its row, for rows of this model.
    Begins { child: u32, worker: u32 },
}

/// A key, and what happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct JoinItem {
    pub(crate) time: Time,
    pub(crate) joined: Joined,
    pub(crate) slot: Slot,
}

/// Returns, by model, over how many steps its rows read columns of parents: 0 if they read none.
pub(crate) fn depths(models: &[ModelPlan]) -> Vec<usize> {
    fn depth(models: &[ModelPlan], of: usize) -> usize {
        let rows = models[of].rows.as_ref().filter(|rows| !rows.inherited.is_empty());
        // Models belong to each other in no circle.
        rows.and_then(|rows| rows.parent).map_or(0, |parent| depth(models, parent.model as usize) + 1)
    }
    (0..models.len()).map(|model| depth(models, model)).collect()
}

/// Returns who may read rows of a model as those of parents: a part for each model whose rows do.
pub(crate) fn readers(models: &[ModelPlan], of: usize) -> Vec<Readers> {
    let reads = |(child, model): (usize, &ModelPlan)| {
        let rows = model.rows.as_ref().filter(|rows| !rows.inherited.is_empty())?;
        let columns = rows.inherited.iter().map(|inherited| inherited.of as usize).collect();
        (rows.parent?.model as usize == of).then(|| Readers::new(child as u32, columns))
    };
    models.iter().enumerate().filter_map(reads).collect()
}

impl KeyedState {
    /// Sets who may read rows of this model as those of parents.
    pub(crate) fn set_readers(&mut self, readers: Vec<Readers>) {
        if let Some(rows) = &mut self.rows {
            rows.set_readers(readers);
        }
    }

    /// Takes in values of a parent, in order of time.
    pub(crate) fn take_parent(&mut self, values: ParentValues) {
        let rows = self.rows.as_mut().expect("rows that read columns of parents are kept");
        rows.take_parent(values);
    }

    /// Returns what a worker's interest in a key of this model comes to.
    pub(crate) fn interested(&mut self, interest: Interest) -> JoinItem {
        let Interest { time, key_hash, key, child, worker, begins, .. } = interest;
        let slot = self.intern(key_hash, &key);
        let joined = if begins { Joined::Begins { child, worker } } else { Joined::Ends { child, worker } };
        JoinItem { time, joined, slot }
    }

    /// Takes which rows may have changed before a time, or what they read of their parents.
    pub(crate) fn rows_to_join(&mut self, limit: Time) -> impl Iterator<Item = JoinItem> + use<> {
        let rows = self.rows.as_mut().map_or_else(Vec::new, |rows| rows.take_changed(limit));
        rows.into_iter().map(|(time, slot)| JoinItem { time, joined: Joined::Changes, slot })
    }

    /// Does what happens to a key at a ms.
    pub(crate) fn join(&mut self, item: &JoinItem) {
        let JoinItem { time, joined, slot } = *item;
        let keys = Rc::clone(self.keys());
        let keys = keys.borrow();
        let rows = self.rows.as_mut().expect("rows are kept that belong to others or that others belong to");
        match joined {
            Joined::Ends { child, worker } => {
                rows.end_reading(slot, child, worker);
                self.idle.push(slot);
            }
            Joined::Changes => rows.join((slot, keys.key(slot)), time, (&mut self.properties, &mut self.flips)),
            Joined::Begins { child, worker } => rows.begin_reading((slot, keys.key(slot)), time, (child, worker)),
        }
    }

    /// Fires the next timer due by `through` of facts that read columns of parents; returns whether one was due.
    pub(crate) fn fire_joined(&mut self, through: Time) -> bool {
        self.properties.fire(through, true, &mut self.flips)
    }

    /// Takes what is to be asked of the owners of parents.
    pub(crate) fn take_interests(&mut self) -> Vec<Interest> {
        self.rows.as_mut().map_or_else(Vec::new, RowState::take_interests)
    }

    /// Takes the values that workers are to be sent.
    pub(crate) fn take_parent_values(&mut self) -> Vec<ParentValues> {
        self.rows.as_mut().map_or_else(Vec::new, RowState::take_values)
    }

    /// Takes note that rows are restored as of a time.
    pub(crate) fn begin_joins(&mut self, time: Time) {
        self.rows.iter_mut().for_each(|rows| rows.begin_joins(time));
    }

    /// Forgets how rows and their parents were before they changed in this epoch; the next one begins at `until`.
    pub(crate) fn end_joins(&mut self, until: Time) {
        self.rows.iter_mut().for_each(|rows| rows.end_joins(until));
    }
}
