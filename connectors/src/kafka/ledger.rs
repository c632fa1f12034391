//! The ledger of a sync as records of a compacted topic: `usher.JOB.SYNC.ledger`, partition 0.
//!
//! ```text
//! key               value
//! !committed        {"version":1,"run":3,"batch":1207,"clock":1763895600123}
//! !audience/ID      {"name":"…","model":"…"}
//! ID/KEY            ms since the epoch of the entry; a tombstone after the exit
//! !pending/N        {"batch":1207,"audience":"…","key":"…","entered":true,"at":1763895600123,"headers":[…],"message":"…"}
//! ```
//!
//! The id of an audience contains neither `!` nor `/`. `run` counts the processes that opened the sync: a fenced process
//! compares it to detect its successor. `batch` counts committed batches: a process compares it to find out whether its latest
//! commit succeeded. `clock` is the time of the latest change. With transactions all of these records are in the transaction
//! of the messages.
//!
//! Without transactions a process may end after it has sent messages and before it has committed them here. So each message is
//! first written here as pending; at the next start the pending messages of a batch that was not committed are sent again,
//! unchanged, with the same ids.

use super::client::{Reader, retry};
use super::error::Problem;
use super::ffi::{FetchedBatch, PartitionQueue, Taken};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use usher_core::ledger::{Ledger, LedgerAudience};
use xxhash_rust::xxh3::Xxh3DefaultBuilder;

/// The version of the records' format.
const VERSION: u32 = 1;
/// The key of the record of progress.
pub(super) const PROGRESS: &str = "!committed";
/// The prefix of the key of an audience's record; the audience's id follows.
const AUDIENCE: &str = "!audience/";
/// The prefix of the key of a pending message's record; a number follows.
const PENDING: &str = "!pending/";

/// Returns the topic's name.
pub(super) fn topic(job: &str, sync: &str) -> String {
    format!("usher.{job}.{sync}.ledger")
}

/// How far a sync has been committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    version: u32,
    /// How many processes have opened the sync.
    pub(super) run: u64,
    /// How many batches have been committed.
    pub(super) batch: u64,
    /// The time of the latest change, ms since the epoch.
    pub(super) clock: u64,
}

impl Default for Progress {
    fn default() -> Progress {
        Progress { version: VERSION, run: 0, batch: 0, clock: 0 }
    }
}

impl Progress {
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

/// A message that is about to be sent, and the change that it carries.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Pending {
    /// The batch that commits it.
    pub(super) batch: u64,
    pub(super) audience: String,
    pub(super) key: String,
    pub(super) entered: bool,
    pub(super) at: u64,
    pub(super) headers: Vec<(String, String)>,
    pub(super) message: String,
}

impl Pending {
    /// Returns the record, as key and value, of the batch's message of that number.
    pub(super) fn record(&self, number: usize) -> (String, String) {
        (format!("{PENDING}{number}"), serde_json::to_string(self).expect("strings and numbers have a JSON form"))
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

/// The content of the topic.
#[derive(Debug, Default)]
pub(super) struct LedgerTopic {
    pub(super) progress: Progress,
    pub(super) ledger: Ledger,
    /// The audiences that have a record.
    pub(super) audiences: BTreeMap<String, LedgerAudience>,
    /// Messages that may have been sent or not, in order. `progress` and `ledger` count them as committed.
    pub(super) pending: Vec<Pending>,
}

/// Reads the topic up to its current end. Waits for brokers as long as `patience`.
///
/// The end is requested here, so earlier writers must be fenced before this is called.
pub(super) fn read(reader: &Arc<Reader>, topic: &str, patience: Duration) -> Result<LedgerTopic, Problem> {
    let (low, end) = retry(reader.context(), patience, || reader.ends(topic, 0))?;
    let mut log = LedgerTopic::default();
    let mut members: HashSet<Box<[u8]>, Xxh3DefaultBuilder> = HashSet::default();
    let mut pending: BTreeMap<u32, Pending> = BTreeMap::new();
    let fetched = PartitionQueue::start(Arc::clone(reader), topic, 0, low);
    let mut batch = FetchedBatch::default();
    let (mut position, mut moved) = (low, Instant::now());
    while position < end {
        fetched.take(&mut batch, usize::MAX, Duration::ZERO);
        if batch.messages().is_empty() {
            fetched.take(&mut batch, 1, Duration::from_millis(100));
        }
        if moved.elapsed() > patience {
            let reason = format!("topic `{topic}`: reading has stopped at offset {position} of {end}");
            return Err(Problem { reason, hint: "see that the brokers run", transient: true });
        }
        for message in batch.messages() {
            match message.taken() {
                Taken::Message(message) => {
                    log.record(message.key().unwrap_or_default(), message.value(), &mut members, &mut pending)?;
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
    log.take_pending(pending, &mut members);
    log.fill(members);
    Ok(log)
}

impl LedgerTopic {
    /// Applies one record.
    fn record(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        members: &mut HashSet<Box<[u8]>, Xxh3DefaultBuilder>,
        pending: &mut BTreeMap<u32, Pending>,
    ) -> Result<(), Problem> {
        let unread = |reason: String| {
            Problem::permanent(
                format!("the sync's ledger can't be read: {reason}"),
                "give the job or the sync another name, or delete its topic `usher.JOB.SYNC.ledger`: all entries are sent again",
            )
        };
        let key = str::from_utf8(key).map_err(|error| unread(error.to_string()))?;
        if !key.starts_with('!') {
            if !key.contains('/') {
                return Err(unread(format!("it has a record `{key}`")));
            }
            match value {
                Some(_) if members.contains(key.as_bytes()) => {}
                Some(_) => drop(members.insert(key.as_bytes().into())),
                None => drop(members.remove(key.as_bytes())),
            }
            return Ok(());
        }
        let Some(value) = value else { return Ok(()) };
        if key == PROGRESS {
            let found: serde_json::Value = serde_json::from_slice(value).map_err(|error| unread(error.to_string()))?;
            if found["version"].as_u64().is_none_or(|version| version > u64::from(VERSION)) {
                let found = &found["version"];
                return Err(unread(format!("its format is version {found}; this version reads up to {VERSION}")));
            }
            self.progress = serde_json::from_value(found).map_err(|error| unread(error.to_string()))?;
        } else if let Some(id) = key.strip_prefix(AUDIENCE) {
            let AudienceValue { name, model } =
                serde_json::from_slice(value).map_err(|error| unread(error.to_string()))?;
            self.audiences.insert(id.to_owned(), LedgerAudience { id: id.to_owned(), name, model });
        } else if let Some(number) = key.strip_prefix(PENDING) {
            let number = number.parse().map_err(|_| unread(format!("it has a record `{key}`")))?;
            pending.insert(number, serde_json::from_slice(value).map_err(|error| unread(error.to_string()))?);
        }
        Ok(())
    }

    /// Counts the pending messages of the batch after the last committed one as committed.
    fn take_pending(&mut self, pending: BTreeMap<u32, Pending>, members: &mut HashSet<Box<[u8]>, Xxh3DefaultBuilder>) {
        let mut member = Vec::new();
        for pending in pending.into_values().filter(|pending| pending.batch > self.progress.batch) {
            member_key(&mut member, &pending.audience, &pending.key);
            match pending.entered {
                true => drop(members.insert(member.as_slice().into())),
                false => drop(members.remove(member.as_slice())),
            }
            self.progress.clock = self.progress.clock.max(pending.at);
            self.pending.push(pending);
        }
        self.progress.batch += u64::from(!self.pending.is_empty());
    }

    /// Fills the ledger with the memberships.
    fn fill(&mut self, members: HashSet<Box<[u8]>, Xxh3DefaultBuilder>) {
        let mut members: Vec<Box<[u8]>> = members.into_iter().collect();
        members.sort_unstable();
        self.ledger.any = self.progress.batch > 0;
        self.ledger.clock = self.progress.clock;
        let mut latest: Option<(&str, u32)> = None;
        for member in &members {
            let member = str::from_utf8(member).expect("records are strings");
            let (id, key) = member.split_once('/').expect("memberships have a `/`");
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
