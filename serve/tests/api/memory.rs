//! A job in memory, for the tests of the API: it has an index and answers as its test prescribes.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::sync::{Arc, Mutex, RwLock};
use usher_core::api::{BoxFuture, *};
use usher_core::catalog::Catalog;
use usher_core::change::{ChangeKind, Reason};
use usher_core::counts::{Counts, Skip};
use usher_core::dead_letters::DeadLetterReason;
use usher_core::delivery::{AttemptReport, DeadLetterPage, DeliveryOrder, DeliveryReply, Selection};
use usher_core::edit::{EditReport, StartReport};
use usher_core::membership_index::{IndexWriter, MembershipIndex};
use usher_core::sink;

/// Id, name and model of each audience, by id.
const AUDIENCES: [(&str, &str, &str); 3] =
    [("big", "Big ones", "accounts"), ("high_intent", "high_intent", "users"), ("seen", "seen", "users")];

/// The index with its writer, and the state that the API answers from.
pub struct Memory {
    pub index: Arc<MembershipIndex>,
    state: Arc<Mutex<State>>,
    owner: Arc<RwLock<Owner>>,
    processes: Arc<RwLock<Vec<Option<String>>>>,
}

/// Returns the address of the process that owns a key, `None` for this one. Without a function this process owns all keys.
type Owner = Option<Box<dyn Fn(&str) -> Option<String> + Send + Sync>>;

struct State {
    writer: IndexWriter,
    now: u64,
    /// By audience.
    members: BTreeMap<String, BTreeSet<String>>,
    pulls: Vec<Pull>,
    ready: bool,
}

/// 2026-11-23T10:00:00Z.
pub const START: u64 = 1_795_428_000_000;

impl Memory {
    pub fn new() -> Memory {
        let models = ["accounts", "users"].map(str::to_owned);
        let catalog = Catalog::new("shop", AUDIENCES);
        let index = Arc::new(MembershipIndex::new(catalog, models, ["web".to_owned()], 1, START));
        let state = State {
            writer: IndexWriter::new(index.clone(), 0),
            now: START,
            members: index.audiences().iter().map(|audience| (audience.id.clone(), BTreeSet::new())).collect(),
            pulls: Vec::new(),
            ready: false,
        };
        Memory {
            index,
            state: Arc::new(Mutex::new(state)),
            owner: Arc::default(),
            processes: Arc::new(RwLock::new(vec![None])),
        }
    }

    /// Returns a live job with some members.
    pub fn live() -> Memory {
        let memory = Memory::new();
        memory.change(&[
            ("high_intent", "u-42", true),
            ("seen", "u-42", true),
            ("seen", "u-7", true),
            ("big", "a", true),
        ]);
        memory.state.lock().unwrap().ready = true;
        memory
    }

    /// Applies entries (`true`) and exits (`false`) of (audience, key) in one epoch, one ms after the last.
    pub fn change(&self, changes: &[(&str, &str, bool)]) {
        let mut state = self.state.lock().unwrap();
        state.now += 1;
        let now = state.now;
        for (audience, key, enters) in changes {
            let audience_index = self.index.catalog().index(audience).expect("the job has the audience");
            let kind = if *enters { ChangeKind::Entry } else { ChangeKind::Exit };
            state.writer.publish(now, audience_index, kind, Reason::Event, key);
            let members = state.members.get_mut(*audience).expect("the job has the audience");
            if *enters {
                members.insert((*key).to_owned());
            } else {
                members.remove(*key);
            }
        }
        state.writer.close(now);
    }

    /// Returns the time of the latest epoch.
    pub fn now(&self) -> u64 {
        self.state.lock().unwrap().now
    }

    /// Sets the owners of keys.
    pub fn owned_by(&self, owner: impl Fn(&str) -> Option<String> + Send + Sync + 'static) {
        *self.owner.write().unwrap() = Some(Box::new(owner));
    }

    /// Sets the addresses of all processes; `None` is this one.
    pub fn one_of(&self, processes: Vec<Option<String>>) {
        *self.processes.write().unwrap() = processes;
    }

    /// Returns the port that the server asks.
    pub fn api(&self) -> Arc<dyn Api> {
        let (index, state) = (self.index.clone(), self.state.clone());
        Arc::new(MemoryApi { index, state, owner: self.owner.clone(), processes: self.processes.clone() })
    }
}

struct MemoryApi {
    index: Arc<MembershipIndex>,
    state: Arc<Mutex<State>>,
    owner: Arc<RwLock<Owner>>,
    processes: Arc<RwLock<Vec<Option<String>>>>,
}

fn attempt() -> AttemptReport {
    AttemptReport {
        time: Moment(1_000),
        id: "00ff".to_owned(),
        changes: 1,
        status: Some(503),
        latency_ms: 12,
        answer: "later".to_owned(),
    }
}

impl Api for MemoryApi {
    fn readiness(&self) -> Readiness {
        match self.state.lock().unwrap().ready {
            true => Readiness { ready: true, detail: None },
            false => Readiness { ready: false, detail: Some("the sources are being read".to_owned()) },
        }
    }

    fn models(&self) -> Vec<ModelStatus> {
        let model = |id: &str| ModelStatus {
            id: id.to_owned(),
            freshness: Some(Freshness::Current),
            refresh: "24h".to_owned(),
            last_pull: Some(Moment(START)),
            next_pull: Some(Moment(START + 86_400_000)),
            rows: Some(2),
            version: None,
            last_error: None,
            pulls: PullCounts { succeeded: 3, failed: 2, held: 1 },
        };
        vec![model("accounts"), model("users")]
    }

    fn pulls(&self, model: &str) -> Vec<Pull> {
        if model == "users" { self.state.lock().unwrap().pulls.clone() } else { Vec::new() }
    }

    fn pull_now(&self, model: &str, order: PullOrder) -> BoxFuture<'static, Result<u64, ApiError>> {
        if model == "accounts" {
            return Box::pin(ready(Err(ApiError::Conflict("a pull of `accounts` is running".to_owned()))));
        }
        let pulls = &mut self.state.lock().unwrap().pulls;
        let number = pulls.len() as u64 + 1;
        let pull = Pull {
            number,
            date: Moment(START + pulls.len() as u64),
            status: PullResult::Succeeded,
            trigger: Trigger::Request,
            extent: order.extent,
            version: None,
            duration_ms: Some(12),
            rows: Some(2),
            rows_read: Some(2),
            changed_keys: Some(0),
            error: None,
        };
        pulls.insert(0, pull);
        pulls.truncate(100);
        Box::pin(ready(Ok(number)))
    }

    fn audiences(&self, ids: Option<&[String]>) -> Vec<AudienceState> {
        let state = |id: &str| AudienceState {
            id: id.to_owned(),
            owner: (id == "seen").then(|| "growth".to_owned()),
            tags: if id == "seen" { vec!["web".to_owned(), "q4".to_owned()] } else { Vec::new() },
            freshness: Freshness::Current,
            held: 3,
            windows: Windows { complete: id != "seen", complete_at: (id == "seen").then_some(Moment(START + 1000)) },
        };
        match ids {
            Some(ids) => ids.iter().map(|id| state(id)).collect(),
            None => self.index.audiences().iter().map(|audience| state(&audience.id)).collect(),
        }
    }

    fn explain(
        &self,
        model: &str,
        key: &str,
        audience: Option<&str>,
    ) -> BoxFuture<'static, Result<Explanation, ApiError>> {
        let state = self.state.lock().unwrap();
        let known = state.members.values().any(|members| members.contains(key));
        if !known {
            return Box::pin(ready(Err(ApiError::NotFound(format!("no events or rows of `{key}`")))));
        }
        let explained = self
            .index
            .audiences()
            .iter()
            .filter(|entry| entry.model == model && audience.is_none_or(|audience| audience == entry.id))
            .map(|entry| {
                let member = state.members[&entry.id].contains(key);
                ExplainedAudience {
                    audience_id: entry.id.clone(),
                    audience_name: entry.name.clone(),
                    member,
                    changes_at: member.then_some(Moment(state.now + 1000)),
                    condition: ExplainedCondition {
                        kind: "performed".to_owned(),
                        text: "performed: viewed".to_owned(),
                        holds: member,
                        value: Some(3.into()),
                        threshold: Some("at_least 3".to_owned()),
                        events: Vec::new(),
                        changes_at: member.then_some(Moment(state.now + 1000)),
                        conditions: Vec::new(),
                    },
                }
            });
        let explanation = Explanation {
            parent_model_id: model.to_owned(),
            user_id: key.to_owned(),
            as_of: Moment(state.now),
            in_snapshot: true,
            live: Vec::new(),
            parents: Vec::new(),
            audiences: explained.collect(),
        };
        Box::pin(ready(Ok(explanation)))
    }

    fn members(
        &self,
        audience: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Page, ApiError>> {
        let state = self.state.lock().unwrap();
        let members = &state.members[audience];
        let mut left = members.iter().filter(|key| cursor.is_none_or(|cursor| key.as_str() > cursor));
        let keys: Vec<String> = left.by_ref().take(limit).cloned().collect();
        let next_cursor = left.next().and(keys.last().cloned());
        Box::pin(ready(Ok(Page { as_of: Moment(state.now), keys, next_cursor })))
    }

    fn definition(&self, audience: &str) -> BoxFuture<'static, Result<Definition, ApiError>> {
        let state = self.state.lock().unwrap();
        let leaf = CountedCondition {
            kind: "performed".to_owned(),
            text: "performed: viewed".to_owned(),
            threshold: Some("at_least 3".to_owned()),
            keys: state.members[audience].len() as u64,
            conditions: Vec::new(),
        };
        let definition = Definition {
            audience_id: audience.to_owned(),
            audience_name: audience.to_owned(),
            description: None,
            model: "users".to_owned(),
            syncs: vec!["crm".to_owned()],
            as_of: Moment(state.now),
            counted_at: Moment(state.now),
            condition: leaf,
            leaving_by_minute: vec![0; 60],
        };
        Box::pin(ready(Ok(definition)))
    }

    fn diff(&self, plan: Vec<u8>, read: bool) -> BoxFuture<'static, Result<EditReport, ApiError>> {
        let state = StartReport { as_of: String::from_utf8_lossy(&plan).into_owned(), read, ..StartReport::default() };
        let report = EditReport { state: Some(state), ..EditReport::default() };
        Box::pin(ready(if plan.is_empty() { Err(ApiError::Wrong("not a plan file".to_owned())) } else { Ok(report) }))
    }

    fn job(&self) -> JobReport {
        JobReport {
            job: "shop".to_owned(),
            version: "1.2.3".to_owned(),
            started_at: Moment(START),
            processes: 1,
            workers: 1,
            keys: 3,
            state_bytes: 4096,
            checkpoints: 0,
            checkpoint_ms: None,
            plan: "job shop\n".to_owned(),
        }
    }

    fn syncs(&self) -> Vec<SyncReport> {
        let status =
            sink::SyncStatus { committed: 5, waiting: 2, last_error: Some("away".to_owned()), ..Default::default() };
        vec![SyncReport::of("crm", &status)]
    }

    fn delivery(&self, sync: &str, order: DeliveryOrder) -> BoxFuture<'static, Result<DeliveryReply, ApiError>> {
        let reply = match order {
            DeliveryOrder::Attempts => DeliveryReply::Attempts(vec![attempt()]),
            DeliveryOrder::Test => DeliveryReply::Test(attempt()),
            DeliveryOrder::DeadLetters { from, limit } => {
                let next_cursor = (limit == 1).then(|| (from + 1).to_string());
                DeliveryReply::DeadLetters(DeadLetterPage { dead_letters: Vec::new(), next_cursor })
            }
            // Of the audience `removed`, which the job does not have, there is one.
            DeliveryOrder::Redeliver(Selection { audience: Some(audience), .. })
            | DeliveryOrder::Drop(Selection { audience: Some(audience), .. }) => {
                DeliveryReply::Count(u64::from(audience == "removed"))
            }
            DeliveryOrder::Redeliver(selection) | DeliveryOrder::Drop(selection) => match selection.ids {
                Some(ids) if ids == ["404"] => {
                    return Box::pin(ready(Err(ApiError::NotFound(format!("`{sync}` has no dead letter `404`")))));
                }
                ids => DeliveryReply::Count(ids.map_or(7, |ids| ids.len() as u64)),
            },
            DeliveryOrder::Pause | DeliveryOrder::Resume => DeliveryReply::Done,
        };
        Box::pin(ready(Ok(reply)))
    }

    fn metrics(&self) -> Metrics {
        let mut counts = Counts::default();
        (counts.read, counts.matched) = (10, 8);
        counts.skip(Skip::NoKey);
        counts.dead(DeadLetterReason::Malformed);
        let partition = PartitionMetrics {
            source: "web".to_owned(),
            partition: "a \"quoted\"\\name\n".to_owned(),
            position: 1000,
            lag_messages: Some(3),
            lag_ms: Some(250),
        };
        Metrics {
            messages: vec![("web".to_owned(), counts)],
            partitions: vec![partition],
            damaged_files: vec![("web".to_owned(), 2)],
            clock_ahead_ms: 1_500,
            state_bytes: 4096,
            checkpoints: CheckpointMetrics { made: 3, failed: 0, age_ms: Some(2_500), took_ms: Some(15) },
        }
    }

    fn events(&self) -> Vec<EventReport> {
        vec![EventReport {
            id: "bought".to_owned(),
            source: "web".to_owned(),
            matched: 8,
            repeats: 1,
            without_row: Some(3),
            last_seen: Some(Moment(1_795_428_000_000)),
            near: vec!["order completed".to_owned()],
        }]
    }

    fn sources(&self) -> Vec<SourceReport> {
        let name = UnmatchedName { kind: Some("track".to_owned()), name: Some("order completed".to_owned()), count: 2 };
        vec![SourceReport {
            id: "web".to_owned(),
            partitions: vec![PartitionReport {
                name: "events.jsonl".to_owned(),
                position: 1000,
                end: None,
                lag_messages: None,
                lag_ms: Some(5),
            }],
            read: 10,
            matched: 8,
            skipped: [("unmatched".to_owned(), 2)].into(),
            dead_letters: [].into(),
            unmatched: vec![name],
            damaged_files: vec!["it is damaged".to_owned()],
            state: "waiting: registry".to_owned(),
            last_error: Some("the registry does not answer".to_owned()),
            schemas: vec![
                SchemaReport { id: "7".to_owned(), kind: Some("avro".to_owned()), error: None },
                SchemaReport { id: "8".to_owned(), kind: None, error: Some("it is not there".to_owned()) },
            ],
        }]
    }

    fn owner(&self, _model: &str, key: &str) -> Option<String> {
        self.owner.read().unwrap().as_ref().and_then(|owner| owner(key))
    }

    fn processes(&self) -> Vec<Option<String>> {
        self.processes.read().unwrap().clone()
    }
}
