//! How the messages of a log's records are written.

use super::block;
use crate::messages::Messages;
use std::collections::HashMap;
use std::sync::Arc;
use usher_core::catalog::Catalog;
use usher_core::ledger::LedgerAudience;

/// How messages are written, by what blocks say of audiences: the job's, and one for each audience that it no longer has.
pub(crate) struct Formats {
    sync: usher_config::Sync,
    catalog: Arc<Catalog>,
    messages: Arc<Messages>,
    known: HashMap<Box<[u8]>, (Arc<Messages>, u32)>,
}

impl Formats {
    pub fn new(sync: usher_config::Sync, catalog: Arc<Catalog>) -> Formats {
        let messages = Arc::new(Messages::of(&sync, Arc::clone(&catalog)));
        Formats { sync, catalog, messages, known: HashMap::new() }
    }

    /// Returns the first audience of the sync, or of the job, as blocks have it, and its id.
    pub fn first(&self) -> Option<(Vec<u8>, String)> {
        let of_sync = self.sync.audiences.iter().find_map(|id| self.catalog.index(id));
        let index = of_sync.or_else(|| (!self.catalog.is_empty()).then_some(0))?;
        let audience = self.catalog.audience(index);
        Some((block::definition(&audience), audience.id))
    }

    /// Returns how messages of an audience are written, and what they call it, by what a block says of it.
    pub fn audience(&mut self, definition: &[u8]) -> (Arc<Messages>, u32) {
        if let Some(known) = self.known.get(definition) {
            return known.clone();
        }
        let audience = block::audience(definition);
        let found = match self.catalog.index(&audience.id) {
            Some(index) => (Arc::clone(&self.messages), index),
            None => {
                let LedgerAudience { id, name, model } = &audience;
                let catalog = Catalog::new(self.catalog.job(), [(&id[..], &name[..], &model[..])]);
                (Arc::new(Messages::of(&self.sync, Arc::new(catalog))), 0)
            }
        };
        self.known.insert(definition.into(), found.clone());
        found
    }
}
