//! What a sync was told, as records of a compacted topic: `usher.JOB.SYNC.told`, partition 0.
//!
//! ```text
//! key               value
//! !told             {"version":1,"run":3,"turn":1207,"clock":1763895600123}
//! !audience/ID      {"name":"…","model":"…"}
//! ID/KEY            ms since the epoch of the entry; a tombstone once the key has left
//! !pending/N        {"turn":1207,"audience":"…","key":"…","entered":true,"at":1763895600123,"headers":[…],"message":"…"}
//! ```
//!
//! No audience's id has a `!` or a `/` in it. `run` counts the processes that took the sync over, so that one that is fenced
//! knows whether another has come after it; `turn` counts what was told, so that it knows whether its last words arrived;
//! `clock` is the latest change's time. Written in the transaction of the changes themselves.
//!
//! Without transactions it may be that changes were sent and that was not told any more. So that nothing else is taken for sent
//! than what was, each is pending here before it goes: what is pending of a turn that was not told is sent again as it was.

use super::client::{Problem, Reader, insist, problem};
use super::ffi::{Batch, Fetched, Taken};
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
/// Before an audience's id, the key of its record.
const AUDIENCE: &str = "!audience/";
/// Before a number, the key of the record of a message that is about to be sent.
const PENDING: &str = "!pending/";

/// The topic's name.
pub(super) fn topic(job: &str, sync: &str) -> String {
    format!("usher.{job}.{sync}.ledger")
}

/// How far a sync was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    version: u32,
    pub(super) run: u64,
    pub(super) turn: u64,
    pub(super) clock: u64,
}

impl Default for Progress {
    fn default() -> Progress {
        Progress { version: VERSION, run: 0, turn: 0, clock: 0 }
    }
}

impl Progress {
    pub(super) fn value(&self) -> String {
        serde_json::to_string(self).expect("numbers have a JSON form")
    }
}

#[derive(Serialize, Deserialize)]
struct Described {
    name: String,
    model: String,
}

/// A message that is about to be sent, and what it says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Pending {
    /// The turn that it is told with.
    pub(super) turn: u64,
    pub(super) audience: String,
    pub(super) key: String,
    pub(super) entered: bool,
    pub(super) at: u64,
    pub(super) headers: Vec<(String, String)>,
    pub(super) message: String,
}

impl Pending {
    /// The record of the turn's message of that number.
    pub(super) fn record(&self, number: usize) -> (String, String) {
        (format!("{PENDING}{number}"), serde_json::to_string(self).expect("strings and numbers have a JSON form"))
    }
}

/// The record of an audience.
pub(super) fn audience_record(audience: &LedgerAudience) -> (String, String) {
    let described = Described { name: audience.name.clone(), model: audience.model.clone() };
    let value = serde_json::to_string(&described).expect("strings have a JSON form");
    (format!("{AUDIENCE}{}", audience.id), value)
}

/// Writes the key of the record of a membership.
pub(super) fn member_key(out: &mut Vec<u8>, audience: &str, key: &str) {
    out.clear();
    out.extend_from_slice(audience.as_bytes());
    out.push(b'/');
    out.extend_from_slice(key.as_bytes());
}

/// All that a sync was told.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) progress: Progress,
    pub(super) ledger: Ledger,
    /// The audiences that have a record.
    pub(super) audiences: BTreeMap<String, LedgerAudience>,
    /// Messages that may have been sent or not, in order. They count as told.
    pub(super) pending: Vec<Pending>,
}

/// Reads the topic to where it ends now.
///
/// The end is asked for here: whoever wrote before must have been fenced. Waits for brokers as long as `patience`.
pub(super) fn read(reader: &Arc<Reader>, topic: &str, patience: Duration) -> Result<Log, Problem> {
    let (low, end) = insist(reader.context(), patience, || reader.ends(topic, 0))?;
    let mut log = Log::default();
    let mut members: HashSet<Box<[u8]>, Xxh3DefaultBuilder> = HashSet::default();
    let mut pending: BTreeMap<u32, Pending> = BTreeMap::new();
    let fetched = Fetched::start(Arc::clone(reader), topic, 0, low);
    let mut batch = Batch::default();
    let (mut position, mut moved) = (low, Instant::now());
    while position < end {
        fetched.take(&mut batch, usize::MAX, Duration::ZERO);
        if batch.messages().is_empty() {
            fetched.take(&mut batch, 1, Duration::from_millis(100));
        }
        if moved.elapsed() > patience {
            let reason = format!("topic `{topic}`: reading stands at offset {position} of {end}");
            return Err(Problem { reason, hint: "see that the brokers run", passes: true });
        }
        for message in batch.messages() {
            match message.taken() {
                Taken::Message(message) => {
                    log.record(message.key().unwrap_or_default(), message.value(), &mut members, &mut pending)?;
                    position = message.offset() + 1;
                }
                Taken::End(at) => position = position.max(at),
                Taken::OutOfRange => {
                    let reason = format!("topic `{topic}` was cut while it was read");
                    return Err(Problem { reason, hint: "only the sync may write to its topic", passes: false });
                }
                Taken::Error(code) => {
                    let problem = problem(code, &format!("topic `{topic}`"));
                    if !problem.passes {
                        return Err(problem);
                    }
                    reader.context().complain(&problem.reason);
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

impl Log {
    fn record(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        members: &mut HashSet<Box<[u8]>, Xxh3DefaultBuilder>,
        pending: &mut BTreeMap<u32, Pending>,
    ) -> Result<(), Problem> {
        let unread = |reason: String| Problem {
            reason: format!("what the sync was told can't be read: {reason}"),
            hint: "give the job or the sync another name, or delete its topic `usher.JOB.SYNC.ledger`: all members are sent again",
            passes: false,
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
            let Described { name, model } = serde_json::from_slice(value).map_err(|error| unread(error.to_string()))?;
            self.audiences.insert(id.to_owned(), LedgerAudience { id: id.to_owned(), name, model });
        } else if let Some(number) = key.strip_prefix(PENDING) {
            let number = number.parse().map_err(|_| unread(format!("it has a record `{key}`")))?;
            pending.insert(number, serde_json::from_slice(value).map_err(|error| unread(error.to_string()))?);
        }
        Ok(())
    }

    /// Takes for told what was about to be sent after the last turn that was told.
    fn take_pending(&mut self, pending: BTreeMap<u32, Pending>, members: &mut HashSet<Box<[u8]>, Xxh3DefaultBuilder>) {
        let mut member = Vec::new();
        for pending in pending.into_values().filter(|pending| pending.turn > self.progress.turn) {
            member_key(&mut member, &pending.audience, &pending.key);
            match pending.entered {
                true => drop(members.insert(member.as_slice().into())),
                false => drop(members.remove(member.as_slice())),
            }
            self.progress.clock = self.progress.clock.max(pending.at);
            self.pending.push(pending);
        }
        self.progress.turn += u64::from(!self.pending.is_empty());
    }

    fn fill(&mut self, members: HashSet<Box<[u8]>, Xxh3DefaultBuilder>) {
        let mut members: Vec<Box<[u8]>> = members.into_iter().collect();
        members.sort_unstable();
        self.ledger.any = self.progress.turn > 0;
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
