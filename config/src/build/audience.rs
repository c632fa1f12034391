//! Builds audiences.

use super::circles::circles;
use super::condition::Scope;
use super::{Builder, owned};
use crate::schema::audience as keys;
use crate::schema::{DESCRIPTION, Fields};
use crate::{Audience, Place};

impl<'a> Builder<'a> {
    /// Builds an audience: `Some(None)` for one that is not enabled, of which nothing but its keys is checked.
    pub(super) fn audience(&mut self, id: &'a str, place: &'a Place, fields: &'a Fields) -> Option<Option<Audience>> {
        if !self.is_enabled(id) {
            return Some(None);
        }
        let model = self.refer(fields, &keys::MODEL);
        let scope = Scope { audience: id, model, in_whose: false };
        let condition = fields.at(&keys::WHERE).and_then(|condition| {
            let built = self.condition(&condition, scope);
            built.filter(|_| condition.value.is_whole())
        });
        Some(Some(Audience {
            place: place.clone(),
            name: owned(fields, &keys::NAME).unwrap_or_else(|| id.to_owned()),
            description: owned(fields, &DESCRIPTION),
            owner: owned(fields, &keys::OWNER),
            tags: fields.list(&keys::TAGS).into_iter().map(|tag| tag.value.to_owned()).collect(),
            model: model?.to_owned(),
            incomplete: fields.get(&keys::INCOMPLETE)?,
            condition: condition?,
        }))
    }

    /// Reports audiences that depend on themselves, directly or through others.
    pub(super) fn check_audience_circles(&mut self) {
        for (circle, place) in circles(&std::mem::take(&mut self.mentions)) {
            self.report(&place, format!("audiences depend on each other in a circle: {circle}"));
        }
    }
}
