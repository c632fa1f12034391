//! The ledger of a sync as records of a compacted topic: `usher.JOB.SYNC.ledger`, partition 0.
//!
//! ```text
//! key               value
//! !owner            {"incarnation":"9f1c27ab00000001"}
//! !committed        {"version":3,"run":3,"batch":1207,"clock":1763895600123}
//! !target           the id of the topic that the messages go to, as the brokers show it
//! !resend           {}; a tombstone once the ledger has begun anew
//! !audience/ID      {"name":"…","model":"…"}
//! ID/KEY            of a membership: ms since the epoch of its last change; if the sync includes columns
//!                   {"at":1763895600123,"row":{"plan":"pro"}}; a tombstone after the exit
//! !dead/N           {"time":…,"audience":"…","key":"…","kind":"Entry","cause":"Event","at":…,"row":"{…}","reason":"…"}: a
//!                   change whose message is larger than Kafka takes; N counts from 0, and the last 10,000 are kept
//! !sent             {"by":"9f1c27ab00000001","topic":"…","id":"…","ends":{"0":4711}}: from these offsets on the topic may have
//!                   messages of which the ledger knows nothing ([`super::sent`]); a tombstone once it has none
//! !pending/N        {"batch":1207,"audience":"…","key":"…","entered":true,"at":1763895600123,"row":"…","headers":[…],
//!                   "message":"…"}; `entered` is false of an exit only, `row` is the JSON of the row or is missing
//! ```
//!
//! Version 1 has no rows. Version 3 is that of syncs without transactions: versions 1 and 2 have no `!sent`, and version 3 writes no `!pending/N`.
//!
//! The id of an audience contains neither `!` nor `/`. `!owner` is the mark of the process that the ledger belongs to: each
//! process writes its random incarnation there before it reads the ledger, and one that is fenced compares it to detect its
//! successor. `run` counts the processes that opened the sync; versions without `!owner` compare that. `batch` counts committed
//! batches: a process compares it to find out whether its latest commit succeeded, and a checkpoint notes it as the ledger's
//! position. `clock` is the time of the latest change. `began`, where it is not 0, is the `batch` after which the ledger was
//! begun anew. `delivered` and `dead_letters`, where they are not 0, count changes since the first of them. With transactions
//! all of these records are in the transaction of the messages.
//!
//! `!resend` asks for a ledger that begins anew: the next process to open the sync forgets the memberships, and keeps the
//! count of batches and the clock.
//!
//! Without transactions a process may end after it has sent messages and before it has committed them here. The next one reads
//! them from their topic. Up to version 2 each message was first written here as pending; those of batches that were not
//! committed are sent again, unchanged, with the same ids.

use super::client::{Reader, retry};
use super::error::Problem;
use super::ffi::{FetchedBatch, Message, PartitionQueue, Taken};
use super::sent::{SentFrom, SentMessage};
use crate::committed_rows::RowTexts;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use usher_core::api::Moment;
use usher_core::change::{Change, ChangeKind, ChangeTexts, Reason};
use usher_core::delivery::DeadLetterReport;
use usher_core::ledger::{Ledger, LedgerAudience};
use xxhash_rust::xxh3::Xxh3DefaultBuilder;

/// The version of the records' format, …
pub(super) const VERSION: u32 = 3;
/// … and of those with transactions, which are written as they were before `!sent`.
pub(super) const VERSION_OF_TRANSACTIONS: u32 = 2;
/// The key of the record of the process that the ledger belongs to.
pub(super) const OWNER: &str = "!owner";
/// The key of the record that asks for a ledger that begins anew.
pub(super) const RESEND: &str = "!resend";
/// The key of the record of the topic that the messages go to.
pub(super) const TARGET: &str = "!target";
/// The key of the record of progress.
pub(super) const PROGRESS: &str = "!committed";
/// The prefix of the key of an audience's record; the audience's id follows.
const AUDIENCE: &str = "!audience/";
/// The prefix of the key of a dead letter's record; its number follows.
const DEAD: &str = "!dead/";
/// Dead letters that are kept.
const DEAD_KEPT: u64 = 10_000;
/// Bytes of the row that a dead letter keeps: all of them are in memory.
const DEAD_TEXT_BYTES: usize = 16 << 10;
/// Bytes of the key of a dead letter that does not fit into the ledger otherwise.
const DEAD_KEY_BYTES: usize = 256;
/// The key of the record of where messages may be that the ledger lacks.
pub(super) const SENT: &str = "!sent";
/// The prefix of the key of a pending message's record; a number follows.
const PENDING: &str = "!pending/";

/// Returns the topic's name.
pub(super) fn topic(job: &str, sync: &str) -> String {
    format!("usher.{job}.{sync}.ledger")
}

/// How far a sync has been committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    pub(super) version: u32,
    /// How many processes have opened the sync.
    pub(super) run: u64,
    /// How many batches have been committed.
    pub(super) batch: u64,
    /// The time of the latest change, ms since the epoch.
    pub(super) clock: u64,
    /// The batch after which the ledger was begun anew; 0 if it never was.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) began: u64,
    /// Changes whose messages were committed, since the ledger began; by a version before it had this, none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) delivered: u64,
    /// Changes whose messages were larger than Kafka takes, counted likewise.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) dead_letters: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Default for Progress {
    fn default() -> Progress {
        Progress { version: VERSION, run: 0, batch: 0, clock: 0, began: 0, delivered: 0, dead_letters: 0 }
    }
}

/// The mark of a process that the ledger belongs to, or belonged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) incarnation: u64,
    /// Where it is in the topic: of two marks the later one is that of the owner.
    pub(super) offset: i64,
}

/// The value of the owner's record.
#[derive(Serialize, Deserialize)]
struct OwnerValue {
    /// 16 hexadecimal digits: JSON's numbers lose digits of such long ones in some readers.
    incarnation: String,
}

/// Returns the value of the owner's record.
pub(super) fn owner_value(incarnation: u64) -> String {
    let value = OwnerValue { incarnation: format!("{incarnation:016x}") };
    serde_json::to_string(&value).expect("strings have a JSON form")
}

impl Progress {
    /// Returns whether it is of the same batch of the same run.
    pub(super) fn is_at(&self, other: &Progress) -> bool {
        let place = |progress: &Progress| (progress.run, progress.batch, progress.clock, progress.began);
        place(self) == place(other)
    }

    /// Returns the value of the record of progress.
    pub(super) fn value(&self) -> String {
        serde_json::to_string(self).expect("numbers have a JSON form")
    }
}

/// The value of an audience's record.
#[derive(Serialize, Deserialize)]
struct AudienceValue {
    name: String,
    model: String,
}

/// A message that was about to be sent, and the change that it carries.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Pending {
    /// The batch that commits it.
    pub(super) batch: u64,
    pub(super) audience: String,
    pub(super) key: String,
    pub(super) entered: bool,
    pub(super) at: u64,
    #[serde(default)]
    pub(super) row: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) message: String,
}

/// A change whose message is larger than Kafka takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DeadLetter {
    /// When it was given up, by the job's clock, ms since the epoch.
    pub(super) time: u64,
    pub(super) audience: String,
    pub(super) key: String,
    pub(super) kind: ChangeKind,
    /// Of the change.
    pub(super) cause: Reason,
    pub(super) at: u64,
    /// JSON; empty if it is too large or there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    row: String,
    /// Why the message was not sent.
    pub(super) reason: String,
}

impl DeadLetter {
    /// Returns that of a change of an audience at `time`, ms since the epoch.
    pub(super) fn new(
        time: u64,
        change: &Change,
        audience: &str,
        texts: ChangeTexts<'_>,
        reason: String,
    ) -> DeadLetter {
        DeadLetter {
            time,
            audience: audience.to_owned(),
            key: texts.key.to_owned(),
            kind: change.kind,
            cause: change.reason,
            at: change.at,
            row: if texts.row.len() <= DEAD_TEXT_BYTES { texts.row.to_owned() } else { String::new() },
            reason,
        }
    }

    /// Returns the value of its record: without the row, and with a key that is cut, where it does not fit otherwise.
    pub(super) fn value(&mut self, fits: impl Fn(&str) -> bool) -> String {
        let value = |letter: &DeadLetter| serde_json::to_string(letter).expect("strings and numbers have a JSON form");
        if !fits(&value(self)) {
            self.row.clear();
        }
        if !fits(&value(self)) {
            self.key.truncate(self.key.floor_char_boundary(DEAD_KEY_BYTES));
        }
        value(self)
    }

    /// Returns it as the API shows it.
    pub(super) fn report(&self, number: u64) -> DeadLetterReport {
        DeadLetterReport {
            id: number.to_string(),
            time: Moment(self.time),
            reason: "refused".to_owned(),
            status: None,
            answer: self.reason.clone(),
            again: false,
            kind: self.kind.name().to_owned(),
            audience_id: self.audience.clone(),
            key: self.key.clone(),
            at: Moment(self.at),
            row: serde_json::from_str(&self.row).ok(),
        }
    }
}

/// Returns the key of the record of a dead letter, and that of the record that goes for it, if one does.
pub(super) fn dead_keys(number: u64) -> (String, Option<String>) {
    let key = |number: u64| format!("{DEAD}{number}");
    (key(number), number.checked_sub(DEAD_KEPT).map(key))
}

/// Dead letters by their numbers: the last that are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DeadLettersOfLedger(BTreeMap<u64, DeadLetter>);

impl DeadLettersOfLedger {
    pub(super) fn insert(&mut self, number: u64, letter: DeadLetter) {
        self.0.insert(number, letter);
        while self.0.len() as u64 > DEAD_KEPT {
            self.0.pop_first();
        }
    }

    /// Returns those from a number on.
    pub(super) fn from(&self, number: u64) -> impl Iterator<Item = (u64, &DeadLetter)> {
        self.0.range(number..).map(|(number, letter)| (*number, letter))
    }
}

/// Returns the record of an audience, as key and value.
pub(super) fn audience_record(audience: &LedgerAudience) -> (String, String) {
    let described = AudienceValue { name: audience.name.clone(), model: audience.model.clone() };
    let value = serde_json::to_string(&described).expect("strings have a JSON form");
    (format!("{AUDIENCE}{}", audience.id), value)
}

/// Replaces the content of `out` with the key of a membership's record.
pub(super) fn member_key(out: &mut Vec<u8>, audience: &str, key: &str) {
    out.clear();
    out.extend_from_slice(audience.as_bytes());
    out.push(b'/');
    out.extend_from_slice(key.as_bytes());
}

/// Returns audience and key of a membership's record.
pub(super) fn member(record: &[u8]) -> (&str, &str) {
    let record = str::from_utf8(record).expect("records are strings");
    record.split_once('/').expect("memberships have a `/`")
}

/// Returns the value of a membership's record.
pub(super) fn member_value(at: u64, row: &str) -> String {
    match row {
        "" => at.to_string(),
        row => format!(r#"{{"at":{at},"row":{row}}}"#),
    }
}

/// Returns the row in the value of a membership's record; empty if it has none. An error if the value is nothing of the kind.
fn row_of(value: &[u8]) -> Result<&str, serde_json::Error> {
    #[derive(Deserialize)]
    struct MemberValue<'a> {
        #[serde(borrow)]
        row: &'a RawValue,
    }
    match value.first() {
        Some(b'{') => Ok(serde_json::from_slice::<MemberValue<'_>>(value)?.row.get()),
        _ => Ok(""),
    }
}

/// Memberships by the keys of their records, with their rows; a row is empty if the sync includes no columns.
pub(super) type Members = HashMap<Box<[u8]>, Arc<str>, Xxh3DefaultBuilder>;

/// The content of the topic.
#[derive(Debug, Default)]
pub(super) struct LedgerTopic {
    /// The mark of the process that the ledger belongs to. None before the first that marks it.
    pub(super) owner: Option<Mark>,
    /// The mark before it, of another process, where it is still in the topic.
    pub(super) previous: Option<Mark>,
    /// Whether the ledger is to begin anew.
    pub(super) resend: bool,
    /// The id of the topic that the messages have gone to. None before it was noted.
    pub(super) target: Option<String>,
    pub(super) progress: Progress,
    pub(super) ledger: Ledger,
    /// The memberships of `ledger`.
    pub(super) members: Members,
    /// The audiences that have a record.
    pub(super) audiences: BTreeMap<String, LedgerAudience>,
    pub(super) dead_letters: DeadLettersOfLedger,
    /// The offset up to which the topic was read.
    pub(super) end: i64,
    /// Messages that may have been sent or not, in order. `progress` and `ledger` count them as committed.
    pub(super) pending: Vec<Pending>,
    /// From where on a topic may have messages that the ledger lacks. None if it lacks none.
    pub(super) sent: Option<SentFrom>,
}

/// Reads the topic up to its current end. Waits for brokers as long as `patience`.
///
/// The end is requested here, so earlier writers must be fenced before this is called.
pub(super) fn read(reader: &Arc<Reader>, topic: &str, patience: Duration) -> Result<LedgerTopic, Problem> {
    let (low, end) = retry(reader.context(), patience, || reader.ends(topic, 0))?;
    let mut log = LedgerTopic { end, ..LedgerTopic::default() };
    let mut rows = RowTexts::default();
    let mut pending: BTreeMap<u32, Pending> = BTreeMap::new();
    read_between(reader, (topic, 0), (low, end), patience, |message| {
        let key = message.key().unwrap_or_default();
        log.record(message.offset(), key, message.value(), &mut rows, &mut pending)
    })?;
    log.take_pending(pending, &mut rows);
    log.fill();
    Ok(log)
}

/// Returns the latest mark between two offsets. None if no mark is there.
pub(super) fn mark_between(
    reader: &Arc<Reader>,
    topic: &str,
    between: (i64, i64),
    patience: Duration,
) -> Result<Option<Mark>, Problem> {
    let mut log = LedgerTopic::default();
    read_between(reader, (topic, 0), between, patience, |message| match message.key() {
        Some(key) if key == OWNER.as_bytes() => {
            log.record(message.offset(), key, message.value(), &mut RowTexts::default(), &mut BTreeMap::new())
        }
        _ => Ok(()),
    })?;
    Ok(log.owner)
}

/// Calls `take` for each committed message of a partition between two offsets. Ends with a problem if nothing comes for as
/// long as `patience`: a transaction may be open there.
pub(super) fn read_between(
    reader: &Arc<Reader>,
    (topic, partition): (&str, i32),
    (from, end): (i64, i64),
    patience: Duration,
    mut take: impl FnMut(&Message) -> Result<(), Problem>,
) -> Result<(), Problem> {
    if from >= end {
        return Ok(());
    }
    let fetched = PartitionQueue::start(Arc::clone(reader), topic, partition, from);
    let mut batch = FetchedBatch::default();
    let (mut position, mut moved) = (from, Instant::now());
    while position < end {
        fetched.take(&mut batch, usize::MAX, Duration::ZERO);
        if batch.messages().is_empty() {
            fetched.take(&mut batch, 1, Duration::from_millis(100));
        }
        if moved.elapsed() > patience {
            let reason =
                format!("topic `{topic}`, partition {partition}: reading has stopped at offset {position} of {end}");
            return Err(Problem { reason, hint: "see that the brokers run", transient: true });
        }
        for message in batch.messages() {
            match message.taken() {
                Taken::Message(message) => {
                    take(message)?;
                    position = message.offset() + 1;
                }
                Taken::End(at) => position = position.max(at),
                Taken::OutOfRange => {
                    let reason = format!("topic `{topic}`: records were deleted while it was read");
                    return Err(Problem::permanent(reason, "only the sync may write to its topic"));
                }
                Taken::Error(code) => {
                    let problem = Problem::of_code(code, &format!("topic `{topic}`"));
                    if !problem.transient {
                        return Err(problem);
                    }
                    reader.context().report(&problem.reason);
                    continue;
                }
            }
            moved = Instant::now();
        }
    }
    Ok(())
}

impl LedgerTopic {
    /// Applies the record at an offset.
    fn record(
        &mut self,
        offset: i64,
        key: &[u8],
        value: Option<&[u8]>,
        rows: &mut RowTexts,
        pending: &mut BTreeMap<u32, Pending>,
    ) -> Result<(), Problem> {
        let unread = |reason: String| {
            Problem::permanent(
                format!("the sync's ledger can't be read: {reason}"),
                "give the job or the sync another name, or delete its topic `usher.JOB.SYNC.ledger` and run `usher resend JOB SYNC`: all members are sent again",
            )
        };
        let key = str::from_utf8(key).map_err(|error| unread(error.to_string()))?;
        if !key.starts_with('!') {
            if !key.contains('/') {
                return Err(unread(format!("it has a record `{key}`")));
            }
            let row = value.map(row_of).transpose().map_err(|error| unread(error.to_string()))?;
            self.set_member(key.as_bytes(), row, rows);
            return Ok(());
        }
        if key == RESEND {
            self.resend = value.is_some();
        } else if key == SENT && value.is_none() {
            self.sent = None;
        }
        let Some(value) = value else { return Ok(()) };
        if key == OWNER {
            let OwnerValue { incarnation } =
                serde_json::from_slice(value).map_err(|error| unread(error.to_string()))?;
            let incarnation = u64::from_str_radix(&incarnation, 16).map_err(|error| unread(error.to_string()))?;
            if let Some(before) = self.owner.filter(|before| before.incarnation != incarnation) {
                self.previous = Some(before);
            }
            self.owner = Some(Mark { incarnation, offset });
        } else if key == TARGET {
            self.target = Some(String::from_utf8_lossy(value).into_owned());
        } else if key == PROGRESS {
            let found: serde_json::Value = serde_json::from_slice(value).map_err(|error| unread(error.to_string()))?;
            if found["version"].as_u64().is_none_or(|version| version > u64::from(VERSION)) {
                let found = &found["version"];
                return Err(unread(format!("its format is version {found}; this version reads up to {VERSION}")));
            }
            self.progress = serde_json::from_value(found).map_err(|error| unread(error.to_string()))?;
        } else if key == SENT {
            self.sent = Some(serde_json::from_slice(value).map_err(|error| unread(error.to_string()))?);
        } else if let Some(id) = key.strip_prefix(AUDIENCE) {
            let AudienceValue { name, model } =
                serde_json::from_slice(value).map_err(|error| unread(error.to_string()))?;
            self.audiences.insert(id.to_owned(), LedgerAudience { id: id.to_owned(), name, model });
        } else if let Some(number) = key.strip_prefix(DEAD) {
            let number = number.parse().map_err(|_| unread(format!("it has a record `{key}`")))?;
            let letter = serde_json::from_slice(value).map_err(|error| unread(error.to_string()))?;
            self.dead_letters.insert(number, letter);
        } else if let Some(number) = key.strip_prefix(PENDING) {
            let number = number.parse().map_err(|_| unread(format!("it has a record `{key}`")))?;
            pending.insert(number, serde_json::from_slice(value).map_err(|error| unread(error.to_string()))?);
        }
        Ok(())
    }

    /// Takes up what a record has of a membership: its row, or None after an exit.
    fn set_member(&mut self, member: &[u8], row: Option<&str>, rows: &mut RowTexts) {
        let before = match (self.members.get_mut(member), row) {
            (Some(known), Some(row)) => Some(std::mem::replace(known, rows.share(row))),
            (None, Some(row)) => self.members.insert(member.into(), rows.share(row)),
            (_, None) => self.members.remove(member),
        };
        if let Some(before) = before {
            rows.release(before);
        }
    }

    /// Counts the pending messages of the batches after the last committed one as committed.
    fn take_pending(&mut self, pending: BTreeMap<u32, Pending>, rows: &mut RowTexts) {
        let mut member = Vec::new();
        let committed = self.progress.batch;
        let mut pending: Vec<Pending> = pending.into_values().filter(|pending| pending.batch > committed).collect();
        // Stable: those of a batch are in the order of their numbers.
        pending.sort_by_key(|pending| pending.batch);
        for pending in pending {
            member_key(&mut member, &pending.audience, &pending.key);
            self.set_member(&member, pending.entered.then_some(&pending.row), rows);
            self.progress.clock = self.progress.clock.max(pending.at);
            self.progress.batch = pending.batch;
            self.pending.push(pending);
        }
        self.progress.delivered += self.pending.len() as u64;
    }

    /// Counts those of the messages that a topic has as committed which the ledger lacks. Returns them.
    pub(super) fn take_sent(&mut self, mut sent: Vec<SentMessage>) -> Vec<SentMessage> {
        let Some(from) = &self.sent else { return Vec::new() };
        sent.retain(|message| !from.is_in_ledger(message, self.progress.batch));
        let (mut member, mut rows) = (Vec::new(), RowTexts::default());
        for message in &sent {
            member_key(&mut member, &message.audience, &message.key);
            self.set_member(&member, message.entered.then_some(&message.row), &mut rows);
            self.progress.clock = self.progress.clock.max(message.at);
            self.progress.batch = self.progress.batch.max(message.batch);
        }
        self.progress.delivered += sent.len() as u64;
        self.fill();
        sent
    }

    /// Fills the ledger with the memberships.
    fn fill(&mut self) {
        self.ledger = Ledger::default();
        let mut members: Vec<&[u8]> = self.members.keys().map(|member| &**member).collect();
        members.sort_unstable();
        self.ledger.any = self.progress.batch > self.progress.began;
        self.ledger.clock = self.progress.clock;
        let mut latest: Option<(&str, u32)> = None;
        for member in members {
            let (id, key) = self::member(member);
            let index = match latest {
                Some((known, index)) if known == id => index,
                _ => {
                    let unnamed = || LedgerAudience { id: id.to_owned(), name: id.to_owned(), model: String::new() };
                    self.ledger.audience(self.audiences.get(id).cloned().unwrap_or_else(unnamed))
                }
            };
            latest = Some((id, index));
            self.ledger.push(index, key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads records, one a line: key, a tab, value; no tab: a tombstone.
    fn read(records: &str) -> LedgerTopic {
        let (mut log, mut rows, mut pending) = (LedgerTopic::default(), RowTexts::default(), BTreeMap::new());
        for (offset, record) in (0..).zip(records.lines()) {
            let (key, value) = match record.split_once('\t') {
                Some((key, value)) => (key, Some(value.as_bytes())),
                None => (record, None),
            };
            log.record(offset, key.as_bytes(), value, &mut rows, &mut pending)
                .unwrap_or_else(|error| panic!("{}", error.reason));
        }
        log.take_pending(pending, &mut rows);
        log.fill();
        log
    }

    /// Returns audience, its name, key and row of each membership.
    fn members(log: &LedgerTopic) -> Vec<[String; 4]> {
        let named = |(audience, key): (u32, &str)| {
            let LedgerAudience { id, name, .. } = &log.ledger.audiences[audience as usize];
            let mut member = Vec::new();
            member_key(&mut member, id, key);
            [id.clone(), name.clone(), key.to_owned(), log.members[&member[..]].to_string()]
        };
        log.ledger.iter().map(named).collect()
    }

    fn member(id: &str, name: &str, key: &str, row: &str) -> [String; 4] {
        [id, name, key, row].map(str::to_owned)
    }

    #[test]
    fn records_of_the_first_version_stay_readable() {
        let log = read(include_str!("testdata/ledger.v1.tsv"));
        assert_eq!(log.owner, None);
        assert_eq!((log.progress.run, log.progress.batch, log.progress.clock), (3, 1208, 1_763_895_600_456));
        assert_eq!(members(&log), [member("keen", "Keen", "u/1", ""), member("rich", "rich", "u-3", "")]);
        assert_eq!(log.pending.len(), 1);
        assert_eq!((&log.pending[0].key[..], log.pending[0].entered), ("u-3", true));
        assert!(log.ledger.any);
    }

    #[test]
    fn records_of_the_second_version_stay_readable() {
        let log = read(include_str!("testdata/ledger.v2.tsv"));
        let expected = [
            member("a", "A", "u-1", r#"{"plan":"team","ltv":12.5}"#),
            member("a", "A", "u-4", ""),
            member("b", "B", "u-6", r#"{"plan":null}"#),
            member("b", "B", "u/2 \"é\"", r#"{"plan":"pro"}"#),
        ];
        assert_eq!(members(&log), expected);
        assert!(log.ledger.any && log.pending.len() == 2);
        assert_eq!((log.progress.run, log.progress.batch, log.ledger.clock), (3, 8, 1_763_895_600_200));
    }

    #[test]
    fn pending_messages_of_several_batches_are_sent_again_in_the_order_of_their_changes() {
        // As the second version wrote them: N counts from 0, 20,000 or 40,000, in turns from batch to batch.
        let pending = |batch: u64, key: &str, entered: bool| {
            format!(
                r#"{{"batch":{batch},"audience":"a","key":"{key}","entered":{entered},"at":{batch},"headers":[],"message":"{{}}"}}"#
            )
        };
        for committed in 0..5 {
            let mut records = format!("{PROGRESS}\t{}\n", Progress { batch: committed, ..Progress::default() }.value());
            for (batch, number, key, entered) in [
                (1, 20_000, "u-1", true),
                (1, 20_001, "u-2", true),
                (2, 40_000, "u-2", false),
                (3, 0, "u-2", true),
                (4, 20_000, "u-3", true),
                (4, 20_001, "u-4", true),
            ] {
                records += &format!("{PENDING}{number}\t{}\n", pending(batch, key, entered));
            }
            let log = read(&records);
            let again: Vec<(u64, &str)> = log.pending.iter().map(|pending| (pending.batch, &*pending.key)).collect();
            // The fourth takes the keys of the first, which is committed by then.
            let all = [(2, "u-2"), (3, "u-2"), (4, "u-3"), (4, "u-4")];
            assert_eq!(again, all[[0, 0, 1, 2, 4][committed as usize]..], "{committed}");
            assert_eq!(log.progress.batch, 4);
        }
    }

    #[test]
    fn records_of_the_third_version_stay_readable() {
        let mut log = read(include_str!("testdata/ledger.v3.tsv"));
        let from = SentFrom {
            by: "9f1c27ab00000001".to_owned(),
            topic: "segments".to_owned(),
            id: Some("x1hUQ3sNTk2pNxXcGQ8dVw".to_owned()),
            ends: [(0, 4711), (3, 12)].into(),
        };
        let written: serde_json::Value = serde_json::from_str(&from.value()).unwrap();
        assert_eq!(log.sent.as_ref(), Some(&from));
        assert_eq!(serde_json::from_value::<SentFrom>(written).unwrap(), from);
        assert_eq!(members(&log), [member("a", "A", "u-1", ""), member("a", "A", "u-2", "")]);
        let sent = |incarnation: &str, batch, key: &str, entered, row: &str| SentMessage {
            incarnation: incarnation.to_owned(),
            batch,
            at: 1_763_895_600_000 + batch,
            audience: "a".to_owned(),
            key: key.to_owned(),
            entered,
            row: row.to_owned(),
        };
        let of = |key: &str, batch, entered| sent("9f1c27ab00000001", batch, key, entered, "");
        // What the ledger has is not taken twice; a process before may have counted on from other batches.
        let other = sent("00000000000000aa", 2, "u-4", true, r#"{"plan":"pro"}"#);
        let all =
            vec![other.clone(), of("u-2", 7, false), of("u-1", 8, false), of("u-3", 9, true), of("u-3", 9, false)];
        let taken = log.take_sent(all);
        assert_eq!(taken, [other, of("u-1", 8, false), of("u-3", 9, true), of("u-3", 9, false)]);
        assert_eq!(members(&log), [member("a", "A", "u-2", ""), member("a", "A", "u-4", r#"{"plan":"pro"}"#)]);
        let Progress { batch, clock, delivered, .. } = log.progress;
        assert_eq!((batch, clock, delivered), (9, 1_763_895_600_123, 15));
        assert_eq!(log.ledger.clock, clock);

        let ended = read(concat!(include_str!("testdata/ledger.v3.tsv"), "!sent"));
        assert_eq!(ended.sent, None);
    }

    #[test]
    fn records_of_owners_and_of_ledgers_that_begin_anew_stay_readable() {
        let log = read(include_str!("testdata/ledger.v1-owner.tsv"));
        let owner = Mark { incarnation: 0x9f1c_27ab_0000_0001, offset: 1 };
        assert_eq!((log.owner, log.previous), (Some(owner), Some(Mark { incarnation: 7, offset: 0 })));
        assert_eq!(log.target.as_deref(), Some("x1hUQ3sNTk2pNxXcGQ8dVw"));
        assert!(log.resend);
        assert_eq!((log.progress.batch, log.progress.began), (1300, 1300));
        assert!(!log.ledger.any);
        let begun = read(
            "!resend\t{}\n!resend\n!committed\t{\"version\":1,\"run\":3,\"batch\":1301,\"clock\":1,\"began\":1300}",
        );
        assert!(!begun.resend && begun.ledger.any);
    }

    #[test]
    fn of_several_marks_the_latest_is_the_owners_and_the_one_before_is_known() {
        let marks = [7, 7, 8, 9, 9].map(|incarnation| format!("!owner\t{}", owner_value(incarnation)));
        let log = read(&marks.join("\n"));
        let previous = Mark { incarnation: 8, offset: 2 };
        assert_eq!((log.owner, log.previous), (Some(Mark { incarnation: 9, offset: 4 }), Some(previous)));
    }

    #[test]
    fn records_are_written_as_they_were_in_the_third_version() {
        let progress = Progress { run: 3, batch: 1207, clock: 1_763_895_600_123, ..Progress::default() };
        assert_eq!(progress.value(), r#"{"version":3,"run":3,"batch":1207,"clock":1763895600123}"#);
        assert_eq!(owner_value(0x9f1c_27ab_0000_0001), r#"{"incarnation":"9f1c27ab00000001"}"#);
        let audience = LedgerAudience { id: "keen".to_owned(), name: "Keen".to_owned(), model: "users".to_owned() };
        let record = ("!audience/keen".to_owned(), r#"{"name":"Keen","model":"users"}"#.to_owned());
        assert_eq!(audience_record(&audience), record);
        assert_eq!(member_value(1_763_895_600_123, ""), "1763895600123");
        assert_eq!(member_value(7, r#"{"plan":"pro"}"#), r#"{"at":7,"row":{"plan":"pro"}}"#);
    }

    #[test]
    fn dead_letters_and_counts_are_read_as_they_were_written() {
        let letter = |number: u64| DeadLetter {
            time: 5,
            audience: "a".to_owned(),
            key: format!("u-{number}"),
            kind: ChangeKind::Entry,
            cause: Reason::Event,
            at: 4,
            row: r#"{"plan":"pro"}"#.to_owned(),
            reason: "it is too large".to_owned(),
        };
        let value_of = |number| letter(number).value(|_| true);
        let value = value_of(0);
        let expected = r#"{"time":5,"audience":"a","key":"u-0","kind":"Entry","cause":"Event","at":4,"row":"{\"plan\":\"pro\"}","reason":"it is too large"}"#;
        assert_eq!(value, expected);
        let progress = Progress { delivered: 7, dead_letters: 2, ..Progress::default() };
        let records = format!("!committed\t{}\n!dead/0\t{value}\n!dead/1\t{}\n!dead/0", progress.value(), value_of(1));
        let log = read(&records);
        assert_eq!((log.progress.delivered, log.progress.dead_letters), (7, 2));
        assert_eq!(log.dead_letters.from(1).collect::<Vec<_>>(), [(1, &letter(1))]);
        let report = letter(1).report(1);
        assert_eq!((&report.id[..], &report.answer[..]), ("1", "it is too large"));
        assert_eq!(report.row, Some(serde_json::json!({"plan": "pro"})));
        let mut kept = DeadLettersOfLedger::default();
        (0..DEAD_KEPT + 5).for_each(|number| kept.insert(number, letter(number)));
        assert_eq!(kept.from(0).next().map(|(number, _)| number), Some(5));
        let mut long = DeadLetter { key: "é".repeat(1_000), ..letter(2) };
        let short = long.value(|value| value.len() < 600);
        assert!(short.len() < 600 && long.row.is_empty() && long.key == "é".repeat(DEAD_KEY_BYTES / 2), "{short}");
        assert_eq!(dead_keys(DEAD_KEPT + 4), ("!dead/10004".to_owned(), Some("!dead/4".to_owned())));
    }

    #[test]
    fn a_value_is_read_as_it_was_written() {
        for row in ["", "{}", r#"{"plan":"{\"at\":1}","n":null}"#] {
            assert_eq!(row_of(member_value(1_763_895_600_123, row).as_bytes()).unwrap(), row);
        }
        assert!(row_of(b"{").is_err());
    }
}
