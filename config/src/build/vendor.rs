//! Builds destinations by name.

use super::{Builder, owned, text, webhook};
use crate::schema::vendor as keys;
use crate::schema::webhook as delivery_keys;
use crate::schema::{AnyKey, Entries, Fields, Key, destination as to_keys, sync as sync_keys};
use crate::{
    Batch, CustomerioRequest, CustomerioShape, PlacedSecret, Region, Secret, VendorApi, VendorTarget, WebhookTarget,
};
use std::collections::{BTreeMap, BTreeSet};
use usher_core::suggest::nearest;

/// Returns the key and the fields of the destination by name that a sync goes to; `None` if it goes elsewhere.
pub(super) fn named(to: &Fields) -> Option<(&'static str, &Fields)> {
    let vendors: [&'static Key<Fields>; 5] =
        [&to_keys::SEGMENT, &to_keys::RUDDERSTACK, &to_keys::BRAZE, &to_keys::ITERABLE, &to_keys::CUSTOMERIO];
    vendors.into_iter().find_map(|key| Some((key.name(), to.get(key)?)))
}

impl<'a> Builder<'a> {
    /// Builds a destination by name, of a sync with the fields `sync` and these audiences.
    pub(super) fn vendor(
        &mut self,
        (name, fields): (&'static str, &'a Fields),
        sync: &'a Fields,
        audiences: &BTreeSet<&str>,
    ) -> Option<WebhookTarget> {
        let is = |key: &dyn AnyKey| name == key.name();
        let (api, key) = if is(&to_keys::SEGMENT) || is(&to_keys::RUDDERSTACK) {
            let (call, id_type) = (fields.get(&keys::CALL)?, fields.get(&keys::SEGMENT_ID_TYPE)?);
            let api = match is(&to_keys::SEGMENT) {
                true => VendorApi::Segment { call, id_type },
                false => VendorApi::Rudderstack { call, id_type },
            };
            (api, &keys::WRITE_KEY)
        } else if is(&to_keys::BRAZE) {
            let (shape, id_type) = (fields.get(&keys::BRAZE_SHAPE)?, fields.get(&keys::BRAZE_ID_TYPE)?);
            (VendorApi::Braze { shape, id_type }, &keys::API_KEY)
        } else if is(&to_keys::ITERABLE) {
            let lists = self.lists(fields, &keys::LISTS, audiences)?;
            (VendorApi::Iterable { lists, id_type: fields.get(&keys::ITERABLE_ID_TYPE)? }, &keys::API_KEY)
        } else {
            let site_id = owned(fields, &keys::SITE_ID)?;
            let shape = match fields.has(&keys::SEGMENTS) {
                true => CustomerioRequest::Segments(self.lists(fields, &keys::SEGMENTS, audiences)?),
                false => CustomerioRequest::People(
                    fields.get(&keys::CUSTOMERIO_SHAPE).unwrap_or(CustomerioShape::Attributes),
                ),
            };
            let id_type = fields.get(&keys::CUSTOMERIO_ID_TYPE)?;
            (VendorApi::Customerio { site_id, shape, id_type }, &keys::API_KEY)
        };
        self.check_vendor(&api, fields, sync);
        let key = webhook::secret_or(fields, key, "key");
        let url = match api.host(Region::Us) {
            None => webhook::secret_or(fields, &keys::OWN_URL, webhook::SOME_URL),
            Some(_) if fields.has(&keys::URL) => webhook::secret_or(fields, &keys::URL, webhook::SOME_URL),
            Some(us) => {
                let region = fields.get(&keys::REGION);
                let host = region.and_then(|region| api.host(region)).unwrap_or(us);
                PlacedSecret { secret: Secret(host.to_owned()), place: key.place.clone() }
            }
        };
        let batch = self.vendor_batch(&api, fields);
        let mode = fields.get(&keys::MODE).unwrap_or_else(|| api.mode());
        let rate = fields.get(&delivery_keys::RATE_LIMIT).or(api.limits().rate);
        // A template says something only of an attribute.
        let attribute = if api.has_attribute() { text(fields, &keys::ATTRIBUTE) } else { None };
        let vendor = VendorTarget { api, key, id: text(fields, &keys::ID), attribute };
        Some(webhook::vendor_target(fields, url, batch?, rate, mode, vendor))
    }

    /// Reports keys of the sync and of its destination that say nothing there.
    fn check_vendor(&mut self, api: &VendorApi, fields: &'a Fields, sync: &'a Fields) {
        let (name, vendor) = (api.name(), api.vendor());
        if let (true, Some(place)) = (sync.has(&sync_keys::FORMAT), sync.place(&sync_keys::FORMAT)) {
            let message = format!("`format` is for messages, and `{name}` has requests of its own");
            self.report_with_hint(place, message, "leave it out; `fields` sets what a request has of each change");
        }
        if let (false, Some(place)) = (api.is_event(), sync.place(&sync_keys::EVENT_NAMES)) {
            let message = format!("`event_names` is for events, and this sync sets what {vendor} holds of people");
            self.report(place, message);
        }
        let attribute: Option<&dyn AnyKey> = match api {
            VendorApi::Iterable { .. } => None,
            _ => Some(&keys::ATTRIBUTE),
        };
        if let (false, Some(place)) = (api.has_attribute(), attribute.and_then(|key| fields.place(key))) {
            let message = "`attribute` names an attribute of people, and this sync sets none";
            self.report(place, message);
        }
        if let VendorApi::Customerio { shape: CustomerioRequest::Segments(_), .. } = api {
            let only_ids: [&dyn AnyKey; 2] = [&sync_keys::FIELDS, &sync_keys::INCLUDE];
            for key in only_ids {
                // Columns are there for the templates of `id` too.
                let is_used = key.name() == sync_keys::INCLUDE.name() && fields.has(&keys::ID);
                if let (false, Some(place)) = (is_used, sync.place(key)) {
                    let message =
                        format!("`{}` has no place in a request of `segments`, which has ids only", key.name());
                    self.report(place, message);
                }
            }
        }
    }

    /// Builds the list of each audience. Reports an audience of the sync without one. Others may have one too: members of an audience
    /// that was removed leave its list.
    fn lists(
        &mut self,
        fields: &'a Fields,
        key: &Key<Entries<u32>>,
        audiences: &BTreeSet<&str>,
    ) -> Option<BTreeMap<String, u32>> {
        let mut lists = BTreeMap::new();
        let mut whole = true;
        for entry in fields.entries(key) {
            match entry.item {
                Some(list) => drop(lists.insert(entry.name.to_owned(), list.value)),
                None => whole = false,
            }
        }
        if whole && let Some(missing) = audiences.iter().find(|id| !lists.contains_key(**id)) {
            let place = fields.place(key)?;
            let message = format!("`{}` has nothing for the audience `{missing}`", key.name());
            let others = lists.keys().map(String::as_str).filter(|id| !audiences.contains(id));
            let hint = match nearest(missing, others) {
                Some(near) => format!("`{near}` is no audience of this sync; did you mean `{missing}`?"),
                None => format!("add `{missing}: ID`, or name the sync's `audiences`"),
            };
            self.report_with_hint(place, message, hint);
            return None;
        }
        whole.then_some(lists)
    }

    /// Builds how changes are put together. Reports more than the vendor takes.
    fn vendor_batch(&mut self, api: &VendorApi, fields: &'a Fields) -> Option<Batch> {
        let limits = api.limits();
        let batch = fields.get(&keys::BATCH);
        let changes = batch.and_then(|batch| batch.at(&keys::BATCH_CHANGES));
        let bytes = batch.and_then(|batch| batch.at(&keys::BATCH_BYTES));
        let mut whole = true;
        if let Some(at) = changes.as_ref().filter(|changes| changes.value > limits.changes) {
            let message = format!("{} takes at most {} changes in a request", api.vendor(), limits.changes);
            self.report(at.place, message);
            whole = false;
        }
        if let Some(at) = bytes.as_ref().filter(|bytes| bytes.value > limits.bytes) {
            let message = format!("{} takes at most {} bytes in a request", api.vendor(), limits.bytes);
            self.report(at.place, message);
            whole = false;
        }
        whole.then_some(Batch {
            changes: changes.map_or(limits.changes, |changes| changes.value),
            bytes: bytes.map_or(limits.bytes, |bytes| bytes.value),
            wait: batch
                .and_then(|batch| batch.get(&delivery_keys::BATCH_WAIT))
                .unwrap_or(delivery_keys::BATCH_WAIT_DEFAULT.ms()),
        })
    }
}
