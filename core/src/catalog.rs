//! The audiences of a job as messages name them, and those that the job no longer has but a ledger still names.
//!
//! Promises: the job's audiences come first, ordered by id, and an index names the same audience for as long as the job runs.

use crate::ledger::LedgerAudience;
use std::collections::BTreeMap;

/// What messages say of a job's audiences, in the order of their ids: [`Change::audience`] is an index here.
///
/// Behind them there may be audiences that the job no longer has and a ledger still has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalog {
    job: String,
    audiences: Vec<CatalogEntry>,
    /// The number of audiences that the job has: the first.
    present: usize,
}

/// One audience, as messages name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogEntry {
    /// Its id.
    pub id: String,
    /// The name that people see.
    pub name: String,
    /// The id of its parent model.
    pub model: String,
    /// The part of a message between type and key.
    pub(crate) json: String,
    /// The part of the hashed text of an id before the key.
    pub(crate) hashed: Vec<u8>,
}

impl Catalog {
    /// Returns the catalog of a job's audiences, given as (id, name, model id) in any order.
    pub fn new<'a>(job: &str, audiences: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>) -> Catalog {
        let mut audiences: Vec<CatalogEntry> =
            audiences.into_iter().map(|(id, name, model)| CatalogEntry::new(job, id, name, model)).collect();
        audiences.sort_by(|a, b| a.id.cmp(&b.id));
        Catalog { job: job.to_string(), present: audiences.len(), audiences }
    }

    /// Returns the catalog with the audiences of `ledger` that the job no longer has, behind the job's, ordered by id and model.
    ///
    /// The job no longer has an audience if none has its id, or if one of another model has it.
    pub fn with_removed(mut self, ledger: &[LedgerAudience]) -> Catalog {
        // Ledgers may name one audience differently: the greatest name is taken.
        let mut removed: BTreeMap<(&str, &str), &str> = BTreeMap::new();
        for audience in ledger {
            let known = self.index(&audience.id).is_some_and(|index| self.entry(index).model == audience.model);
            if !known {
                let name = removed.entry((&audience.id, &audience.model)).or_insert(&audience.name);
                *name = (*name).max(&audience.name);
            }
        }
        let removed = removed.into_iter().map(|((id, model), name)| CatalogEntry::new(&self.job, id, name, model));
        let removed: Vec<CatalogEntry> = removed.collect();
        self.audiences.extend(removed);
        self
    }

    /// Returns the name of the job.
    pub fn job(&self) -> &str {
        &self.job
    }

    /// Returns the number of audiences, including those that the job no longer has.
    pub fn len(&self) -> usize {
        self.audiences.len()
    }

    /// Returns whether there are no audiences.
    pub fn is_empty(&self) -> bool {
        self.audiences.is_empty()
    }

    /// Returns the id of the audience at `index`.
    pub fn id(&self, index: u32) -> &str {
        &self.audiences[index as usize].id
    }

    /// Returns the number of audiences that the job has: the first.
    pub fn present(&self) -> usize {
        self.present
    }

    /// Returns the audience at `index`, as a ledger names it.
    pub fn audience(&self, index: u32) -> LedgerAudience {
        let CatalogEntry { id, name, model, .. } = &self.audiences[index as usize];
        LedgerAudience { id: id.clone(), name: name.clone(), model: model.clone() }
    }

    /// Returns the index of the job's audience `id`; `None` if the job has no such audience.
    pub fn index(&self, id: &str) -> Option<u32> {
        let found = self.audiences[..self.present].binary_search_by(|entry| entry.id[..].cmp(id));
        found.ok().map(|index| index as u32)
    }

    /// Returns the index of an audience of a ledger, by its id and model; the job's, or one that it no longer has.
    pub fn index_in_ledger(&self, ledger: &LedgerAudience) -> Option<u32> {
        let is = |entry: &CatalogEntry| entry.id == ledger.id && entry.model == ledger.model;
        match self.index(&ledger.id) {
            Some(index) if is(&self.audiences[index as usize]) => Some(index),
            _ => self.audiences[self.present..].iter().position(is).map(|at| (self.present + at) as u32),
        }
    }

    /// Returns the audience at `index`.
    pub fn entry(&self, index: u32) -> &CatalogEntry {
        &self.audiences[index as usize]
    }
}

impl CatalogEntry {
    fn new(job: &str, id: &str, name: &str, model: &str) -> CatalogEntry {
        let text = |text| serde_json::Value::from(text);
        let mut hashed = Vec::new();
        for part in [job, id] {
            hashed.extend((part.len() as u32).to_le_bytes());
            hashed.extend(part.as_bytes());
        }
        CatalogEntry {
            id: id.to_string(),
            name: name.to_string(),
            model: model.to_string(),
            json: format!(
                r#"","job":{},"audience_id":{},"audience_name":{},"model":{},"key":""#,
                text(job),
                text(id),
                text(name),
                text(model)
            ),
            hashed,
        }
    }
}
