//! A ledger that moves: where it is as a topic, how it is taken over from there, and how one that was kept elsewhere is taken in.

use super::batch::BATCH_CHANGES;
use super::limits::Limits;
use super::open::{begin_anew, client_settings, mark_ledger, read_ledger, read_marked, read_sent};
use super::reconcile::uncommitted;
use super::sender::Sender;
use super::{KEEPER, SyncSpec, position};
use crate::kafka::Variable;
use crate::kafka::client::{PATIENCE, REQUEST, Reader, retry};
use crate::kafka::ffi;
use crate::kafka::ledger::{self, LedgerTopic};
use crate::moved::{MovedLedger, refused};
use rdkafka::consumer::Consumer;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use usher_config::{KafkaTarget, Setting};
use usher_core::ledger::Ledger;
use usher_core::sink::{LedgerPosition, SinkError};

/// How long the id of a cluster is waited for: a client that has an answer of its brokers has it.
const CLUSTER_ID: Duration = Duration::from_secs(5);
/// What to do about brokers that have the ledger.
const BEGIN_ANEW: &str = "see that these brokers run, or start the ledger anew with `usher resend JOB SYNC`: all members are then sent again";

/// Where a ledger is that is a topic: [`LedgerPosition::place`], as JSON.
#[derive(Serialize, Deserialize)]
struct Place {
    /// The id of the cluster, if the brokers have said it.
    cluster: Option<String>,
    /// How the brokers are reached. A secret that is no `${VAR}` is left out.
    to: KafkaTarget,
}

/// Returns the place of a sync's ledger.
pub(super) fn place(spec: &SyncSpec<'_>, reader: &Reader) -> String {
    let mut to = spec.target.clone();
    to.kafka.properties.retain(|_, setting| !matches!(setting, Setting::Secret(secret) if secret.is_literal()));
    serde_json::to_string(&Place { cluster: cluster(reader), to }).expect("strings and numbers have a JSON form")
}

fn cluster(reader: &Reader) -> Option<String> {
    reader.base().client().fetch_cluster_id(CLUSTER_ID)
}

/// Returns whether a ledger was noted elsewhere than with the brokers of a sync: with another keeper, or with brokers of other addresses that
/// are another cluster.
pub(super) fn is_elsewhere(spec: &SyncSpec<'_>, noted: &LedgerPosition, reader: &Reader) -> bool {
    if noted.keeper != KEEPER {
        return true;
    }
    let Ok(Place { cluster: known, to }) = serde_json::from_str(&noted.place) else { return false };
    to.kafka.brokers != spec.target.kafka.brokers
        && known.is_some_and(|known| cluster(reader).is_some_and(|found| found != known))
}

/// A sync whose ledger was noted in a topic, and how far it was.
pub struct NotedTopic<'a> {
    /// The job's name.
    pub job: &'a str,
    /// The sync's id.
    pub id: &'a str,
    /// The sync.
    pub sync: &'a usher_config::Sync,
    /// What the latest checkpoint has noted.
    pub noted: &'a LedgerPosition,
}

impl NotedTopic<'_> {
    /// Takes over the ledger, and fences the process that had it. The topic stays. `incarnation` is the random number of this process.
    ///
    /// # Errors
    /// It is not known where the topic is; its brokers are away or refuse; it is gone, or behind what was noted.
    pub fn take_over(&self, incarnation: u64, variable: Variable<'_>) -> Result<MovedLedger, SinkError> {
        self.with(|spec| take(&SyncSpec { incarnation, ..*spec }, self.noted, variable))
    }

    /// Reads the ledger while a process may write to it. Changes nothing, and fences no process.
    ///
    /// # Errors
    /// It is not known where the topic is; its brokers are away or refuse.
    pub fn read(&self, variable: Variable<'_>) -> Result<Ledger, SinkError> {
        self.with(|spec| read_ledger(spec, None, variable))
    }

    /// Calls `read` with the sync as it was.
    fn with<T>(&self, read: impl FnOnce(&SyncSpec<'_>) -> Result<T, SinkError>) -> Result<T, SinkError> {
        let NotedTopic { job, id, sync, noted } = *self;
        let Ok(Place { to, .. }) = serde_json::from_str(&noted.place) else {
            return Err(refused(
                id,
                "it is a topic, and the state, which an earlier version wrote, does not say of which brokers"
                    .to_owned(),
                "start the job once with the `to` that the sync had before, or start the ledger anew with `usher resend JOB SYNC`: all members are then sent again",
            ));
        };
        let spec = SyncSpec { job, id, index: 0, sync, target: &to, incarnation: 0, noted: None };
        read(&spec).map_err(|error| match error {
            SinkError::Failed { reason, .. } => {
                let topic = ledger::topic(job, id);
                refused(id, format!("topic `{topic}` of `{}`: {reason}", to.kafka.brokers), BEGIN_ANEW)
            }
            error => error,
        })
    }
}

fn take(spec: &SyncSpec<'_>, noted: &LedgerPosition, variable: Variable<'_>) -> Result<MovedLedger, SinkError> {
    let failed = |problem| spec.failed("opened", problem);
    let configs = client_settings(spec, variable).map_err(failed)?;
    let reader = Arc::new(Reader::start(&configs[1], spec.context(), |_| ()).map_err(failed)?);
    let (client, name) = (reader.base().client(), ledger::topic(spec.job, spec.id));
    let described = retry(reader.context(), PATIENCE, || ffi::describe(client, &[&name], REQUEST)).map_err(failed)?;
    let Some(topic) = described.into_iter().next().flatten() else {
        return Err(behind(spec, 0, noted));
    };
    let limits = Limits::of_client(&configs[0]);
    // Nothing is sent to the target, which may be gone.
    let (mut sender, deadline) = mark_ledger(spec, configs, limits, (Arc::clone(&reader), topic.clone(), topic))?;
    let mut found = read_marked(spec, (&sender, deadline), &reader)?;
    if found.progress.batch < noted.at {
        return Err(behind(spec, found.progress.batch, noted));
    }
    if !found.pending.is_empty() {
        return Err(refused(
            spec.id,
            format!("an earlier version has left {} messages that may not have been sent", found.pending.len()),
            "start the job once with the `to` that the sync had before, which sends them",
        ));
    }
    if found.sent.is_some() {
        let all = uncommitted(&sender.own.reader_config, spec.context()).map_err(failed)?;
        read_sent(&all, spec, &mut found).map_err(failed)?;
    }
    if found.resend {
        sender.take_ledger(&found);
        begin_anew(spec, &mut sender, &found.ledger, deadline)?;
        return Ok(MovedLedger::new(found.ledger.begun_anew(), Vec::new()));
    }
    let LedgerTopic { ledger, members, .. } = found;
    let (mut rows, mut member) = (Vec::with_capacity(ledger.len()), Vec::new());
    for (audience, key) in ledger.iter() {
        ledger::member_key(&mut member, &ledger.audiences[audience as usize].id, key);
        rows.push(Arc::clone(&members[&member[..]]));
    }
    let (members, brokers) = (ledger.len(), &spec.target.kafka.brokers);
    tracing::info!(sync = spec.id, members, topic = %name, %brokers, "the ledger is taken over from where the sync had it before");
    Ok(MovedLedger::new(ledger, rows))
}

/// Returns the error of a topic that lacks what was noted.
fn behind(spec: &SyncSpec<'_>, batch: u64, noted: &LedgerPosition) -> SinkError {
    let (found, noted) = (position(batch, "").to_string(), noted.to_string());
    SinkError::Behind { sync: spec.id.to_owned(), found, noted }
}

/// Puts the memberships of a ledger that was kept elsewhere in the place of those that were found. The count of batches goes on.
pub(super) fn take_in(
    sender: &mut Sender,
    found: &mut LedgerTopic,
    moved: MovedLedger,
    deadline: Instant,
) -> Result<(), SinkError> {
    let members: Vec<_> = moved.iter().collect();
    let stay: HashSet<(&str, &str)> = members.iter().map(|(audience, key, _)| (&audience.id[..], *key)).collect();
    let before = found.ledger.iter().map(|(audience, key)| (&found.ledger.audiences[audience as usize].id[..], key));
    let gone: Vec<(&str, &str)> = before.filter(|member| !stay.contains(member)).collect();
    for gone in gone.chunks(BATCH_CHANGES) {
        sender.commit_before(deadline, |sender| sender.send_forgotten(gone))?;
    }
    let mut progress = sender.progress;
    progress.clock = progress.clock.max(moved.ledger.clock);
    progress.batch += 1;
    // A ledger to which nothing was committed has no batch of its own.
    progress.began = if moved.ledger.any { progress.began } else { progress.batch };
    for members in members.chunks(BATCH_CHANGES) {
        sender.commit_before(deadline, |sender| sender.send_moved(members, progress.clock))?;
        let named = members.iter().map(|(audience, ..)| (audience.id.clone(), (*audience).clone()));
        sender.audiences.extend(named);
    }
    sender.commit_before(deadline, |sender| sender.send_begun(&progress))?;
    sender.progress = progress;
    found.members.clear();
    for (audience, key, row) in moved.iter() {
        let mut member = Vec::new();
        ledger::member_key(&mut member, &audience.id, key);
        found.members.insert(member.into(), Arc::clone(row));
    }
    found.ledger = moved.ledger;
    found.ledger.clock = progress.clock;
    Ok(())
}
