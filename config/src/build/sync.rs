//! Builds syncs.

use std::collections::{BTreeMap, BTreeSet};

use super::{Builder, destination, owned, placed, vendor, webhook};
use crate::schema::sync::{self as keys, Change};
use crate::schema::{AnyKey, At, DESCRIPTION, Fields, destination as to_keys, job};
use crate::{
    DeadLettersTo, Delivery, Includes, KafkaTarget, Path, Place, SegmentCall, Source, SourceFrom, Step, Sync,
    SyncFormat, SyncTo, Text, VendorApi,
};

impl<'a> Builder<'a> {
    pub(super) fn sync(&mut self, _id: &'a str, place: &'a Place, fields: &'a Fields) -> Option<Sync> {
        let references = fields.get(&keys::AUDIENCES);
        let audiences: BTreeSet<&str> = match &references {
            Some(audiences) => audiences.iter().filter_map(|reference| self.resolve(reference)).collect(),
            None => self.audiences.keys().copied().filter(|id| self.is_enabled(id)).collect(),
        };
        // One that does not exist is named too: without its model, what the sync includes can't be checked whole.
        let written = references.iter().flatten().map(|reference| reference.value.id.as_str());
        let named: BTreeSet<&str> = audiences.iter().copied().chain(written).collect();
        let named = named.into_iter().map(str::to_owned).collect();
        let built = self.sync_to(place, fields, &audiences);
        if built.is_none() {
            let columns = fields.list(&keys::INCLUDE).into_iter().map(placed).collect();
            self.includes.push(Includes { audiences: named, columns });
            return None;
        }
        built.map(|sync| Sync { audiences: named, ..sync })
    }

    /// Builds a sync but for its audiences.
    fn sync_to(&mut self, place: &'a Place, fields: &'a Fields, audiences: &BTreeSet<&str>) -> Option<Sync> {
        let to = fields.get(&keys::TO)?;
        self.check_kafka_only(fields, to);
        let templates = self.templates(fields);
        let send = fields.get(&keys::SEND).unwrap_or_default();
        if let (true, false, Some(place)) =
            (send.contains(&Change::Update), fields.has(&keys::INCLUDE), fields.place(&keys::SEND))
        {
            let message = "`send` has `update`, and the sync includes no columns";
            let hint = "name the columns in `include`: an update is sent when one of them changes";
            self.report_with_hint(place, message, hint);
        }
        let names = fields.get(&keys::EVENT_NAMES);
        let to = match vendor::named(to) {
            Some(named) => self.vendor(named, fields, audiences).map(|target| SyncTo::Webhook(Box::new(target))),
            None => destination(fields, to),
        };
        Some(Sync {
            place: place.clone(),
            description: owned(fields, &DESCRIPTION),
            audiences: Vec::new(),
            send_entry: send.contains(&Change::Entry),
            send_exit: send.contains(&Change::Exit),
            send_update: send.contains(&Change::Update),
            format: fields.get(&keys::FORMAT).map(|format| own_format(to.as_ref(), format))?,
            include: fields.list(&keys::INCLUDE).into_iter().map(placed).collect(),
            entry_name: names.and_then(|names| owned(names, &keys::ENTRY_NAME)),
            exit_name: names.and_then(|names| owned(names, &keys::EXIT_NAME)),
            update_name: names.and_then(|names| owned(names, &keys::UPDATE_NAME)),
            fields: templates?,
            backfill: fields.get(&keys::BACKFILL)?,
            on_remove: fields.get(&keys::ON_REMOVE)?,
            to: to?,
        })
    }

    /// Reports keys that only a sync to Kafka can have, if the sync has another destination.
    fn check_kafka_only(&mut self, fields: &'a Fields, to: &'a Fields) {
        let delivery = fields.at(&keys::DELIVERY);
        if to.has(&to_keys::KAFKA) {
            let place = fields.place(&keys::COMMIT_EVERY);
            if let (Some(Delivery::AtLeastOnce), Some(place)) = (delivery.map(|delivery| delivery.value), place) {
                let message = "`commit_every` is about transactions, and `delivery: at_least_once` has none";
                self.report(place, message);
            }
            return;
        }
        let Some(other) = to_keys::DESTINATION.keys.iter().find(|key| to.has(**key)).map(|key| key.name()) else {
            return;
        };
        let kafka_only: [&dyn AnyKey; 2] = [&keys::PARTITIONS, &keys::COMMIT_EVERY];
        for key in kafka_only {
            if let Some(place) = fields.place(key) {
                let key = key.name();
                self.report(place, format!("`{key}` is for `kafka`, and this sync goes to `{other}`"));
            }
        }
        if let Some(At { place, value: Delivery::ExactlyOnce }) = delivery {
            let message = format!("`exactly_once` needs transactions of Kafka, and this sync goes to `{other}`");
            let hint = "leave it out: each change comes at least once, and a repeated change has the same `id`";
            self.report_with_hint(place, message, hint);
        }
    }

    /// Builds the templates by the field that each fills; `None` if one is wrong.
    fn templates(&mut self, fields: &'a Fields) -> Option<BTreeMap<String, Text>> {
        let mut templates = BTreeMap::new();
        let mut filled: Vec<Path> = Vec::new();
        let mut whole = true;
        for entry in fields.entries(&keys::FIELDS) {
            let Some(path) = self.filled_field(entry.name, entry.place, &filled) else {
                whole = false;
                continue;
            };
            match entry.item {
                None => whole = false,
                Some(template) => drop(templates.insert(path.to_string(), placed(template))),
            }
            filled.push(path);
        }
        whole.then_some(templates)
    }

    /// Returns the path of the field that a template fills. Reports a path into a list and one that overlaps with a
    /// field in `filled`.
    fn filled_field(&mut self, name: &str, place: &Place, filled: &[Path]) -> Option<Path> {
        let path = match Path::parse(name) {
            Ok(path) => path,
            Err(reason) => {
                self.report_with_hint(place, reason, "a field is written as in `properties.\"odd name\"`");
                return None;
            }
        };
        if !path.0.iter().all(|step| matches!(step, Step::Key(_))) {
            self.report(place, format!("`{name}` is not a field: it leads into a list"));
            return None;
        }
        let overlaps = |other: &&Path| path.0.starts_with(&other.0) || other.0.starts_with(&path.0);
        if let Some(other) = filled.iter().find(overlaps) {
            self.report(place, format!("the fields `{path}` and `{other}` overlap"));
            return None;
        }
        Some(path)
    }

    /// Reports topics that the job both writes and reads: it would receive its own messages.
    pub(super) fn check_feedback(
        &mut self,
        sources: &BTreeMap<String, Source>,
        syncs: &BTreeMap<String, Sync>,
        dead_letters: Option<&DeadLettersTo>,
        file: &'a Fields,
    ) {
        let place = |to: &'a Fields| to.get(&to_keys::KAFKA)?.place(&to_keys::TOPIC_NAME);
        let entries = file.entries(&job::SYNCS).into_iter();
        let places: BTreeMap<&str, &Place> =
            entries.filter_map(|entry| Some((entry.name, place(entry.item?.value.get(&keys::TO)?)?))).collect();
        let mut written = Vec::new();
        for (id, sync) in syncs {
            if let (SyncTo::Kafka(target), Some(place)) = (&sync.to, places.get(id.as_str())) {
                written.push((&target.kafka, &target.topic, *place));
            }
        }
        if let (Some(DeadLettersTo::Kafka { kafka, topic }), Some(place)) =
            (dead_letters, file.get(&job::DEAD_LETTERS).and_then(place))
        {
            written.push((kafka, topic, place));
        }
        for (cluster, topic, place) in written {
            let reads = sources.iter().find(|(_, source)| match &source.from {
                SourceFrom::Kafka { kafka, topics } => kafka.brokers == cluster.brokers && topics.contains(topic),
                SourceFrom::File { .. } => false,
            });
            if let Some((id, _)) = reads {
                let message =
                    format!("the topic `{topic}` is read by the source `{id}`: the job would read its own messages");
                self.report(place, message);
            }
        }
    }
}

/// Returns the format of a destination that has one of its own, else that of the file.
fn own_format(to: Option<&SyncTo>, format: SyncFormat) -> SyncFormat {
    let vendor = match to {
        Some(SyncTo::Webhook(target)) => target.vendor.as_ref(),
        _ => None,
    };
    match vendor.map(|vendor| &vendor.api) {
        Some(VendorApi::Segment { call, .. } | VendorApi::Rudderstack { call, .. }) if *call == SegmentCall::Track => {
            SyncFormat::Segment
        }
        _ => format,
    }
}

fn destination(fields: &Fields, to: &Fields) -> Option<SyncTo> {
    if let Some(target) = to.get(&to_keys::KAFKA) {
        return Some(SyncTo::Kafka(KafkaTarget {
            kafka: destination::kafka(target)?,
            topic: owned(target, &to_keys::TOPIC_NAME)?,
            partitions: fields.get(&keys::PARTITIONS),
            delivery: fields.get(&keys::DELIVERY).unwrap_or(Delivery::ExactlyOnce),
            commit_every: fields.get(&keys::COMMIT_EVERY).unwrap_or(keys::COMMIT_EVERY_DEFAULT.ms()),
        }));
    }
    if to.has(&to_keys::STDOUT) {
        return Some(SyncTo::Stdout);
    }
    if let Some(target) = to.get(&to_keys::WEBHOOK) {
        return Some(SyncTo::Webhook(Box::new(webhook::target(target))));
    }
    Some(SyncTo::File(destination::file(to.get(&to_keys::FILE)?)?))
}
