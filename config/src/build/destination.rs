//! Builds the destinations of messages: files and Kafka.

use super::owned;
use crate::schema::destination as keys;
use crate::schema::{Fields, is_secret};
use crate::{DeadLettersTo, FileTarget, Kafka, Secret, Setting};

/// Builds a Kafka cluster of the fields of a source or a target.
pub(super) fn kafka(fields: &Fields) -> Option<Kafka> {
    let properties = fields.entries(&keys::PROPERTIES).into_iter().map(|entry| {
        let setting = entry.item?.value;
        let setting = match is_secret(entry.name) {
            true => Setting::Secret(Secret(setting.written.clone())),
            false => Setting::Plain(setting.text.clone()),
        };
        Some((entry.name.to_owned(), setting))
    });
    Some(Kafka { properties: properties.collect::<Option<_>>()?, brokers: owned(fields, &keys::BROKERS)? })
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
