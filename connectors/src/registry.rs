//! A schema registry that is compatible with Confluent's: the schemas that the messages of a source name.
//!
//! A source's schemas are requested by a thread of their own, one after the other, so that neither a slow registry nor one that is
//! away delays anything but the partitions whose next message needs one. Promises:
//!
//! * A schema is requested once, and kept for ever: an id never changes its schema. Those of a job with state are kept with it
//!   ([`Objects::put_schema`]), so that a start needs no registry for what it has seen.
//! * What a registry does not have (404), and a schema whose references are missing or form a circle, is requested anew after [`AGAIN`]; until
//!   then there is none.
//! * No answer, an answer of another status, and one that is no answer of a registry (HTML) are no statement about an id: it is requested again,
//!   [`FIRST_PAUSE`] later, doubled up to [`LONGEST_PAUSE`]. The log has that once for an id, and once more when it is over.
//! * A source that was never read with this registry waits at most [`PATIENCE`] for it when it is opened, and so does a bounded reading later.
//!
//! | module | is |
//! |---|---|
//! | `client` | the requests, and what their answers mean |

mod client;

use crate::state_store::Objects;
use client::{Client, Fault};
use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use usher_config::{Encoding, Job, Problem};
use usher_core::lock::lock;
use usher_core::schemas::{Schema, SchemaId, Schemas, SchemasReport};
use usher_core::source::SourceError;

/// How long a registry that is away is waited for where it has to be there: as long as brokers are.
const PATIENCE: Duration = Duration::from_secs(30);
/// After so long a schema that could not be had is requested anew: it may have been registered late.
const AGAIN: Duration = Duration::from_secs(300);
/// The first pause before a request is repeated; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause before a request is repeated.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Returns the value of an environment variable by its name.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The registry of a source, as the job has it.
pub struct RegistrySpec<'a> {
    /// The source's id.
    pub id: &'a str,
    /// Where it is.
    pub registry: &'a usher_config::Registry,
    /// Whether the source is read to its end: then a registry that is away ends the reading.
    pub bounded: bool,
    /// Where schemas are kept; `None`: nowhere.
    pub kept: Option<Arc<Objects>>,
}

/// The schemas of a source.
pub struct Registry {
    shared: Arc<Shared>,
}

struct Shared {
    id: String,
    client: Client,
    bounded: bool,
    kept: Option<Arc<Objects>>,
    state: Mutex<State>,
    /// Something was requested, or it has ended.
    stirred: Condvar,
}

#[derive(Default)]
struct State {
    settled: HashMap<SchemaId, Settled>,
    wanted: Vec<Wanted>,
    wakes: Vec<Arc<dyn Fn() + Send + Sync>>,
    ended: bool,
}

/// What is known of an id.
enum Settled {
    Known(Arc<Schema>),
    /// Why there is none, and since when that is known.
    Without(Arc<str>, Instant),
}

/// Whether there is a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Known,
    Without,
    /// That is not known yet.
    Requested,
}

/// An id that is to be requested.
struct Wanted {
    id: SchemaId,
    due: Instant,
    pause: Duration,
    away: Option<Away>,
}

/// Since when the registry gives no answer about an id, and why.
struct Away {
    since: Instant,
    fault: Fault,
}

/// Returns what is wrong with the registries of a job. A secret whose variable is not set is checked when the source is opened.
pub fn check(job: &Job, variable: Lookup<'_>) -> Vec<Problem> {
    let registries = job.sources.values().filter_map(|source| match &source.encoding {
        Encoding::Registered { registry, .. } => Some(registry),
        Encoding::Json | Encoding::Avro(_) | Encoding::Protobuf { .. } => None,
    });
    let wrong = registries.filter_map(|registry| {
        let reason = client::base(&registry.url.secret.resolve(variable).ok()?).err()?;
        let hint = "write it as in `https://registry.example.com:8081`";
        Some(Problem::new(&registry.url.place, reason).hint(hint))
    });
    wrong.collect()
}

impl Registry {
    /// Opens the registry of a source. One of which no schema is kept has to answer.
    ///
    /// # Errors
    /// Its url is none, or it is away.
    pub fn open(spec: &RegistrySpec<'_>, variable: Lookup<'_>) -> Result<Arc<Registry>, SourceError> {
        Registry::open_within(PATIENCE, spec, variable)
    }

    fn open_within(
        patience: Duration,
        spec: &RegistrySpec<'_>,
        variable: Lookup<'_>,
    ) -> Result<Arc<Registry>, SourceError> {
        let client = Client::new(spec.id, spec.registry, variable)?;
        let mut state = State::default();
        if let Some(kept) = &spec.kept {
            state.settled = restore(spec.id, kept, &client);
        }
        let runtime = runtime();
        if state.settled.is_empty() {
            wait(&runtime, &client, patience).map_err(|fault| client.error(spec.id, fault))?;
        }
        let shared = Arc::new(Shared {
            id: spec.id.to_owned(),
            client,
            bounded: spec.bounded,
            kept: spec.kept.clone(),
            state: Mutex::new(state),
            stirred: Condvar::new(),
        });
        let of_thread = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("registry".to_owned())
            .spawn(move || of_thread.run(&runtime))
            .expect("the system can start a thread");
        Ok(Arc::new(Registry { shared }))
    }

    /// Returns the latest schema of a subject; `None` if the registry has no such subject.
    ///
    /// # Errors
    /// The registry's url is none, it is away, or the schema can't be had with all that it refers to.
    pub fn latest(spec: &RegistrySpec<'_>, subject: &str, variable: Lookup<'_>) -> Result<Option<Schema>, SourceError> {
        let client = Client::new(spec.id, spec.registry, variable)?;
        match runtime().block_on(client.latest(subject)) {
            Ok(schema) => Ok(Some(schema)),
            Err(Fault::Missing(_)) => Ok(None),
            Err(fault) => Err(client.error(spec.id, fault)),
        }
    }

    /// Returns what is known of an id; requests its schema if that is nothing.
    pub(crate) fn standing(&self, id: SchemaId) -> Standing {
        let mut state = lock(&self.shared.state);
        match state.settled.get(&id) {
            Some(Settled::Known(_)) => return Standing::Known,
            Some(Settled::Without(_, at)) if at.elapsed() < AGAIN => return Standing::Without,
            Some(Settled::Without(..)) | None => {}
        }
        if state.wanted.iter().all(|wanted| wanted.id != id) {
            state.wanted.push(Wanted { id, due: Instant::now(), pause: FIRST_PAUSE, away: None });
            self.shared.stirred.notify_all();
        }
        Standing::Requested
    }

    /// Has `wake` called, from any thread, whenever something is settled.
    pub(crate) fn wake_with(&self, wake: Arc<dyn Fn() + Send + Sync>) {
        lock(&self.shared.state).wakes.push(wake);
    }

    /// Returns why the reading can't go on: it is bounded, and the registry has been away for too long.
    pub(crate) fn failure(&self) -> Option<SourceError> {
        let state = lock(&self.shared.state);
        let away = state.away().filter(|away| self.shared.bounded && away.since.elapsed() >= PATIENCE)?;
        Some(self.shared.client.error(&self.shared.id, away.fault.clone()))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        lock(&self.shared.state).ended = true;
        self.shared.stirred.notify_all();
    }
}

impl Schemas for Registry {
    fn find(&self, id: SchemaId) -> Option<Result<Arc<Schema>, Arc<str>>> {
        match lock(&self.shared.state).settled.get(&id)? {
            Settled::Known(schema) => Some(Ok(Arc::clone(schema))),
            Settled::Without(reason, _) => Some(Err(Arc::clone(reason))),
        }
    }

    fn report(&self) -> SchemasReport {
        let state = lock(&self.shared.state);
        let seen = state.settled.iter().map(|(id, settled)| match settled {
            Settled::Known(schema) => (*id, Ok(schema.kind)),
            Settled::Without(reason, _) => (*id, Err(reason.to_string())),
        });
        let mut seen: Vec<_> = seen.collect();
        seen.sort_by_key(|(id, _)| *id);
        let waiting = state.away().map(|away| self.shared.client.error(&self.shared.id, away.fault.clone()));
        SchemasReport { waiting: waiting.map(|error| error.to_string()), seen }
    }
}

impl State {
    /// Returns what has been waited for for the longest, where the registry gives no answer.
    fn away(&self) -> Option<&Away> {
        self.wanted.iter().filter_map(|wanted| wanted.away.as_ref()).min_by_key(|away| away.since)
    }
}

impl Shared {
    /// Requests what is wanted, until the source is closed.
    fn run(&self, runtime: &Runtime) {
        while let Some(id) = self.next() {
            match runtime.block_on(self.client.schema(id)) {
                Ok(schema) => {
                    self.keep(id, &schema);
                    self.settle(id, Settled::Known(Arc::new(schema)));
                }
                Err(Fault::Missing(reason) | Fault::Unusable(reason)) => {
                    tracing::warn!(source = %self.id, registry = %self.client.shown, schema = %id, "{reason}: its messages are dead letters");
                    self.settle(id, Settled::Without(reason.into(), Instant::now()));
                }
                Err(fault) => self.note_away(id, fault),
            }
        }
    }

    /// Waits for the next id that is due; `None` if the source is closed.
    fn next(&self) -> Option<SchemaId> {
        let mut state = lock(&self.state);
        loop {
            if state.ended {
                return None;
            }
            let now = Instant::now();
            let next = state.wanted.iter().min_by_key(|wanted| wanted.due).map(|wanted| (wanted.id, wanted.due));
            state = match next {
                Some((id, due)) if due <= now => return Some(id),
                Some((_, due)) => {
                    let waited = self.stirred.wait_timeout(state, due - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.stirred.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn settle(&self, id: SchemaId, settled: Settled) {
        let mut state = lock(&self.state);
        let at = state.wanted.iter().position(|wanted| wanted.id == id);
        let away = at.and_then(|at| state.wanted.swap_remove(at).away);
        state.settled.insert(id, settled);
        if let Some(away) = away {
            let seconds = away.since.elapsed().as_secs();
            tracing::info!(source = %self.id, registry = %self.client.shown, schema = %id, seconds, "the registry answers again");
            let now = Instant::now();
            state.wanted.iter_mut().for_each(|wanted| wanted.due = now);
        }
        let wakes = state.wakes.clone();
        drop(state);
        wakes.iter().for_each(|wake| wake());
    }

    fn note_away(&self, id: SchemaId, fault: Fault) {
        let mut state = lock(&self.state);
        let wanted = state.wanted.iter_mut().find(|wanted| wanted.id == id).expect("it is wanted until it is settled");
        wanted.due = Instant::now() + wanted.pause;
        wanted.pause = (wanted.pause * 2).min(LONGEST_PAUSE);
        match &mut wanted.away {
            Some(away) => away.fault = fault,
            None => {
                let (reason, hint) = (fault.reason(), fault.hint());
                tracing::warn!(
                    source = %self.id, registry = %self.client.shown, schema = %id,
                    "the registry {reason}: the source waits for the schema\n  hint: {hint}"
                );
                wanted.away = Some(Away { since: Instant::now(), fault });
            }
        }
    }

    /// Keeps a schema with the state.
    fn keep(&self, id: SchemaId, schema: &Schema) {
        let Some(kept) = &self.kept else { return };
        let content = serde_json::to_vec(schema).expect("a schema is plain data");
        if let Err(error) = kept.put_schema(&format!("{}-{id}", self.client.name()), &content) {
            tracing::warn!(source = %self.id, schema = %id, reason = %error, "the schema is not kept: the next start requests it anew");
        }
    }
}

/// Reads the schemas that are kept. What can't be read is requested anew.
fn restore(source: &str, kept: &Objects, client: &Client) -> HashMap<SchemaId, Settled> {
    let prefix = format!("{}-", client.name());
    let found = kept.schemas(&prefix).unwrap_or_else(|error| {
        tracing::warn!(source, reason = %error, "the schemas that were kept can't be read: they are requested anew");
        Vec::new()
    });
    let schemas = found.into_iter().filter_map(|(name, content)| {
        let id = parse(name.strip_prefix(&prefix)?)?;
        match serde_json::from_slice(&content) {
            Ok(schema) => Some((id, Settled::Known(Arc::new(schema)))),
            Err(reason) => {
                tracing::warn!(source, schema = %id, %reason, "the schema that was kept can't be read: it is requested anew");
                // Else the one that is had anew would not be kept.
                if let Err(reason) = kept.remove_schema(&name) {
                    tracing::warn!(source, schema = %id, %reason, "the schema that was kept can't be removed");
                }
                None
            }
        }
    });
    schemas.collect()
}

/// Reads an id as it is shown.
fn parse(text: &str) -> Option<SchemaId> {
    if let Ok(number) = text.parse() {
        return Some(SchemaId::Number(number));
    }
    let digits = text.replace('-', "");
    let guid = u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32)?;
    Some(SchemaId::Guid(guid.to_be_bytes()))
}

/// Waits until the registry answers.
fn wait(runtime: &Runtime, client: &Client, patience: Duration) -> Result<(), Fault> {
    let (began, mut pause) = (Instant::now(), FIRST_PAUSE);
    loop {
        match runtime.block_on(client.probe()) {
            Ok(()) => return Ok(()),
            Err(fault @ Fault::Refused(_)) => return Err(fault),
            Err(fault) if began.elapsed() + pause >= patience => return Err(fault),
            Err(_) => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("the system has what a runtime needs")
}

#[cfg(test)]
mod tests;
