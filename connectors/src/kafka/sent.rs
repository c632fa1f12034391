//! What a process without transactions has sent and not noted in its ledger: found by the next one.
//!
//! Without transactions a message is sent before the ledger has its change, so a process that is killed leaves messages of which
//! the ledger knows nothing. Each message says in a header of which batch it is, and what the ledger needs of its change:
//!
//! ```text
//! usher    shop.crm 9f1c27ab00000001 1207 1763895600123 {"plan":"pro"}
//! ```
//!
//! job and sync, the incarnation of the process, the batch, the time of the change in ms since the epoch, and the row if the sync
//! includes columns. A record of the ledger, `!sent`, has the offsets from which on the topic may have messages that the ledger lacks; a process that
//! ends in order removes it.
//!
//! Promises: [`read`] gives all of the sync's messages from there up to the ends that it returns, in their order. What was deleted before it was
//! read, with its records or with its whole topic, is named in the log.

use super::client::{REQUEST, Reader, all_ends, retry};
use super::error::Problem;
use super::ffi::{self, Message};
use super::ledger::read_between;
use rdkafka::consumer::Consumer;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use usher_core::change::ChangeKind;
use usher_core::source::Headers;

/// The name of the header.
pub(super) const HEADER: &str = "usher";

/// From where on a topic may have messages that the ledger lacks: the value of `!sent`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SentFrom {
    /// The process whose committed batches the ledger has: 16 hexadecimal digits.
    pub(super) by: String,
    pub(super) topic: String,
    /// The topic's id, as the brokers show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    /// By partition; one that is missing came later.
    pub(super) ends: BTreeMap<i32, i64>,
}

impl SentFrom {
    /// Returns the value of the record.
    pub(super) fn value(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers have a JSON form")
    }

    /// Returns whether the ledger has a message, if it has the batches up to `committed`.
    pub(super) fn is_in_ledger(&self, message: &SentMessage, committed: u64) -> bool {
        self.by == message.incarnation && message.batch <= committed
    }
}

/// Replaces the content of `out` with the header of a change's message.
pub(super) fn write_header(out: &mut String, sync: &str, incarnation: u64, batch: u64, at: u64, row: &str) {
    out.clear();
    let separator = if row.is_empty() { "" } else { " " };
    write!(out, "{sync} {incarnation:016x} {batch} {at}{separator}{row}").expect("a string takes all");
}

/// A message that was sent, and what the ledger has of its change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SentMessage {
    pub(super) incarnation: String,
    pub(super) batch: u64,
    pub(super) at: u64,
    pub(super) audience: String,
    pub(super) key: String,
    /// False of an exit only.
    pub(super) entered: bool,
    /// JSON; empty if the sync includes no columns.
    pub(super) row: String,
}

impl SentMessage {
    /// Returns a message of the sync; `None` if it is another's.
    fn of(message: &Message, sync: &str) -> Option<SentMessage> {
        let text = |bytes: &[u8]| str::from_utf8(bytes).ok().map(str::to_owned);
        let header = text(message.get(HEADER)?)?;
        let mut parts = header.splitn(5, ' ');
        if parts.next() != Some(sync) {
            return None;
        }
        let incarnation = parts.next()?.to_owned();
        let (batch, at) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(SentMessage {
            incarnation,
            batch,
            at,
            audience: text(message.get("audience")?)?,
            key: text(message.key()?)?,
            entered: message.get("type")? != ChangeKind::Exit.name().as_bytes(),
            row: parts.next().unwrap_or_default().to_owned(),
        })
    }
}

/// Gives `take` the messages of a sync, `JOB.SYNC`, that its topic has from somewhere on, partition by partition. Returns where the partitions
/// ended: none if the topic is gone. `reader` reads transactions that are open as well: of others there may be some in the topic. Waits for brokers as
/// long as `patience`.
pub(super) fn read(
    reader: &Arc<Reader>,
    sync: &str,
    from: &SentFrom,
    patience: Duration,
    mut take: impl FnMut(i32, SentMessage),
) -> Result<BTreeMap<i32, i64>, Problem> {
    let (client, topic) = (reader.base().client(), &from.topic[..]);
    let described = retry(reader.context(), patience, || ffi::describe(client, &[topic], REQUEST))?.pop().flatten();
    let Some(described) = described.filter(|found| from.id.is_none() || found.id == from.id) else {
        tracing::warn!(
            sync,
            topic,
            "the topic was deleted, and the job had not stopped cleanly: which of its last messages were sent is not known"
        );
        return Ok(BTreeMap::new());
    };
    let partitions = (0..described.partitions).map(|partition| (0, partition));
    let ends = retry(reader.context(), patience, || all_ends(reader.base(), &[topic], partitions.clone()))?;
    for (&(_, partition), &(low, end)) in &ends {
        let first = from.ends.get(&partition).copied().unwrap_or(low);
        if first < low {
            tracing::warn!(
                sync,
                topic,
                partition,
                from = first,
                first = low,
                "messages were deleted, and the job had not stopped cleanly: those of them that were its last are not known"
            );
        }
        read_between(reader, (topic, partition), (first.max(low), end), patience, |message| {
            SentMessage::of(message, sync).into_iter().for_each(|message| take(partition, message));
            Ok(())
        })?;
    }
    Ok(ends.into_iter().map(|((_, partition), (_, end))| (partition, end)).collect())
}

/// Puts messages, given partition by partition, in the order in which they count: that of the topic within a partition, where a message that was
/// sent again has an earlier batch than those before it; of batches between partitions, for a key moves to another one where the topic gets more.
pub(super) fn in_order(sent: Vec<(i32, SentMessage)>) -> Vec<SentMessage> {
    let mut greatest: BTreeMap<i32, u64> = BTreeMap::new();
    let placed = sent.into_iter().map(|(partition, message)| {
        let greatest = greatest.entry(partition).or_default();
        *greatest = message.batch.max(*greatest);
        (*greatest, message)
    });
    let mut placed: Vec<(u64, SentMessage)> = placed.collect();
    // Stable.
    placed.sort_by_key(|(batch, _)| *batch);
    placed.into_iter().map(|(_, message)| message).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(batch: u64, key: &str, entered: bool) -> SentMessage {
        let text = str::to_owned;
        SentMessage {
            incarnation: text("1"),
            batch,
            at: 1,
            audience: text("a"),
            key: text(key),
            entered,
            row: text(""),
        }
    }

    #[test]
    fn a_header_says_of_whom_a_message_is_and_has_the_row_as_it_is() {
        let mut header = String::new();
        write_header(&mut header, "shop.crm", 0x9f1c_27ab_0000_0001, 1207, 1_763_895_600_123, "");
        assert_eq!(header, "shop.crm 9f1c27ab00000001 1207 1763895600123");
        write_header(&mut header, "shop.crm", 1, 2, 3, r#"{"plan":"a b"}"#);
        assert_eq!(header, r#"shop.crm 0000000000000001 2 3 {"plan":"a b"}"#);
    }

    #[test]
    fn what_was_sent_again_counts_where_the_topic_has_it_and_batches_are_in_order_between_partitions() {
        let entry = || message(4, "u-1", true);
        let exit = || message(5, "u-1", false);
        // The entry came again behind the exit.
        assert_eq!(in_order(vec![(0, entry()), (0, exit()), (0, entry())]), [entry(), exit(), entry()]);
        // The key has moved to a partition that is read first.
        assert_eq!(in_order(vec![(0, exit()), (1, entry())]), [entry(), exit()]);
    }
}
