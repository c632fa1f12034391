//! Builds the destinations of messages: files and Kafka.

use super::owned;
use crate::schema::destination as keys;
use crate::schema::{At, Fields, is_secret};
use crate::{DeadLettersTo, FileTarget, Kafka, Secret, Setting};
use std::collections::BTreeMap;

/// Builds a Kafka cluster of the fields of a source or a target.
pub(super) fn kafka(fields: &Fields) -> Option<Kafka> {
    let (mut properties, mut places) = (BTreeMap::new(), BTreeMap::new());
    for entry in fields.entries(&keys::PROPERTIES) {
        places.insert(entry.name.to_owned(), entry.place.clone());
        // A wrong value was reported, and hides no other property.
        let Some(At { value: setting, .. }) = entry.item else { continue };
        let setting = match is_secret(entry.name) {
            true => Setting::Secret(Secret(setting.written.clone())),
            false => Setting::Plain(setting.text.clone()),
        };
        properties.insert(entry.name.to_owned(), setting);
    }
    Some(Kafka { brokers: owned(fields, &keys::BROKERS)?, properties, places })
}

pub(super) fn file(fields: &Fields) -> Option<FileTarget> {
    Some(FileTarget { path: owned(fields, &keys::FILE_PATH)? })
}

pub(super) fn dead_letters(fields: &Fields) -> Option<DeadLettersTo> {
    match fields.get(&keys::KAFKA) {
        Some(target) => Some(DeadLettersTo::Kafka { kafka: kafka(target)?, topic: owned(target, &keys::TOPIC_NAME)? }),
        None => Some(DeadLettersTo::File(file(fields.get(&keys::FILE)?)?)),
    }
}
