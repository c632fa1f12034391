//! What could be read of a job file with problems, for finding more of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Condition, Job, Text};

/// The parts of a broken job that could be built, and what is not known of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Salvage {
    /// The parts that could be built: models and events without what is wrong in them, audiences only as a whole. It
    /// must not be run.
    pub job: Job,
    /// The conditions with predicates or aggregated columns of the audiences that could not be built.
    pub fragments: Vec<Fragment>,
    /// The models of the audiences that could not be built, by the audience's id, as far as they are known.
    pub audience_models: BTreeMap<String, String>,
    /// What the syncs include that could not be built.
    pub includes: Vec<Includes>,
    /// What is wrong in the models and events of the job.
    pub gaps: Gaps,
}

/// The columns that a sync includes.
#[derive(Clone, Debug, PartialEq)]
pub struct Includes {
    /// The ids of the sync's audiences, those that do not exist too.
    pub audiences: Vec<String>,
    /// The columns.
    pub columns: Vec<Text>,
}

/// A condition of which only its predicates and its aggregated column can be checked: the rest of it stands for what may
/// be wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Fragment {
    /// The model of the keys that it is about; empty if that is wrong.
    pub model: String,
    /// The condition. An event or a model of it is empty if that is wrong.
    pub condition: Condition,
}

/// What is wrong in models and events, by id. It was reported, and what only follows from it is no other problem.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gaps {
    /// Of the models of a job.
    pub models: BTreeMap<String, Gap>,
    /// Of the events of a job.
    pub events: BTreeMap<String, Gap>,
}

/// What is wrong in a model or an event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gap {
    /// The columns or properties whose type is wrong or in doubt.
    pub columns: BTreeSet<String>,
    /// Whether it may have other columns or properties than those that are known.
    pub others: bool,
    /// Whether the model that it belongs to is not known.
    pub parent: bool,
}

impl Gaps {
    /// Returns whether nothing is wrong.
    pub(crate) fn is_empty(&self) -> bool {
        self.models.is_empty() && self.events.is_empty()
    }
}

impl Gap {
    /// Adds what is wrong in a model or event to `gaps`, if anything is.
    pub(crate) fn note(self, id: &str, gaps: &mut BTreeMap<String, Gap>) {
        if self == Gap::default() {
            return;
        }
        let gap = gaps.entry(id.to_owned()).or_default();
        gap.columns.extend(self.columns);
        gap.others |= self.others;
        gap.parent |= self.parent;
    }
}
