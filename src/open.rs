//! Opens things: from a path on the command line to a plan, and from a plan to its sources, snapshots, syncs and state.

use crate::commands::folders;
use crate::exit::Exit;
use crate::overwrite;
use crate::schemas::{self, Columns, Footers};
use crate::terminal::print_stderr;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use usher_config::{
    Broken, DeadLettersTo, Encoding, Event, FileTarget, Included, Job, Location, Model, Parquet, Place, Problem,
    Problems, SourceFrom, Sync, SyncTo,
};
use usher_connectors::dead_letters::DeadLetterWriter;
use usher_connectors::file::{hold_at_most, open_files};
use usher_connectors::kafka::{self, Bounds, KafkaSource, NotedTopic, SourceSpec, SyncSpec, WrongSetting};
use usher_connectors::messages::Messages;
use usher_connectors::moved::NotedLedger;
use usher_connectors::outbox::{
    LogSpec, Outlet, open_local, open_webhook, read_content, read_ledger, resend_local, take_log,
};
use usher_connectors::parquet::ParquetWarehouse;
use usher_connectors::registry::{self, Registry, RegistrySpec};
use usher_connectors::state_store::Objects;
use usher_connectors::webhook;
use usher_core::dead_letters::DeadLetters;
use usher_core::ledger::Ledger;
use usher_core::sink::{LedgerPosition, OpenedSync};
use usher_core::source::Source;
use usher_core::warehouse::{SnapshotError, SnapshotErrorKind, Warehouse};
use usher_dataflow::{Span, Time};
use usher_formats::{Decoder, Lacking};
use usher_queries::plan::Plan;
use usher_queries::{Schemas, plan_file};

/// Ms from one checkpoint to the next, unless the job sets it.
const CHECKPOINT_EVERY: u64 = 60_000;
/// Files that a process without a limit may have open.
const FILES_MAX: u64 = 1 << 20;

/// The machine's clock.
pub struct WallClock;

impl usher_core::clock::Clock for WallClock {
    fn now(&self) -> Time {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |since| since.as_millis() as Time)
    }

    fn runs(&self) -> bool {
        true
    }
}

/// A clock that stands still.
pub struct FixedClock(pub Time);

impl usher_core::clock::Clock for FixedClock {
    fn now(&self) -> Time {
        self.0
    }
}

/// Returns how many threads of this process can run at once.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Raises the limit of open files to what the system allows this process, and leaves half of it for all but files of sources.
pub fn raise_limit_of_files() {
    let limit = getrlimit(Resource::Nofile);
    // A refusal leaves what there is.
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).is_ok();
    let files = if raised { limit.maximum } else { limit.current };
    hold_at_most(usize::try_from(files.unwrap_or(FILES_MAX).min(FILES_MAX) / 2).unwrap_or(0));
}

/// Lets each large table of keys have 4 GiB of address space, in which it grows without moving. Not where the address space or the data of
/// the process is limited, or where the system counts all that may be written as if it were: there other allocations would fail.
pub fn reserve_for_tables() {
    const ROOM: usize = 4 << 30;
    let is_strict = std::fs::read_to_string("/proc/sys/vm/overcommit_memory").is_ok_and(|mode| mode.trim() == "2");
    let is_limited = [Resource::As, Resource::Data].into_iter().any(|of| getrlimit(of).current.is_some());
    if !is_limited && !is_strict {
        usher_dataflow::reserve_for_tables(ROOM);
    }
}

/// A plan, and the folder that its paths are relative to.
#[derive(Clone)]
pub struct Loaded {
    pub plan: Plan,
    pub folder: PathBuf,
}

/// Reads a job file or a plan. Reads nothing else but the schemas of models whose columns are not all declared.
pub fn load(path: &Path) -> Result<Loaded, Exit> {
    load_with(path, &|_, _, _| None).map(|(loaded, _)| loaded)
}

/// Reads a job file or a plan to run it, and returns the schemas that it needed. One that can't be read now is the one that an earlier run has
/// kept with its state, if the model still is where it was.
pub fn load_to_run(path: &Path) -> Result<(Loaded, Schemas), Exit> {
    load_with(path, &|job, folder, model| {
        let store = Objects::open_to_read(&state_place(job, folder, None).ok()?.url, folder).ok()?;
        schemas::kept(&store, job, model)
    })
}

fn load_with(path: &Path, kept: &dyn Fn(&Job, &Path, &str) -> Option<Columns>) -> Result<(Loaded, Schemas), Exit> {
    let bytes = std::fs::read(path).map_err(|error| {
        Exit::wrong(format_args!("the job `{}` can't be read: {error}", path.display()))
            .hint("give the path of a job file or of a plan made by `usher compile`".to_owned())
    })?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
    if plan_file::is_plan(&bytes) {
        let mut plan =
            plan_file::decode(&bytes).map_err(|error| Exit::wrong(format_args!("`{}`: {error}", path.display())))?;
        plan.job.folder.clone_from(&folder);
        let problems = messages(&plan.job);
        if !problems.is_empty() {
            return Err(Problems::new(&path.display().to_string(), problems).into());
        }
        return Ok((Loaded { plan, folder }, Schemas::new()));
    }
    let file = path.display().to_string();
    let text = String::from_utf8(bytes).map_err(|error| {
        Exit::wrong(format_args!("`{file}` is not text: byte {} is not UTF-8", error.utf8_error().valid_up_to()))
    })?;
    let include = |glob: &str| included(&folder, glob);
    match usher_config::parse_or_salvage(&text, &file, &folder, &variable, &include) {
        Ok(mut job) => {
            read_schemas(&mut job, &folder);
            let (plan, schemas) = plan_with(&job, &file, &|model| kept(&job, &folder, model))?;
            Ok((Loaded { plan, folder }, schemas))
        }
        Err(Broken { mut problems, salvage }) => {
            // Predicates are read apart; their problems are reported too.
            if let Some(mut salvage) = salvage {
                let schemas = schemas::read_for_salvage(&mut salvage);
                read_schemas(&mut salvage.job, &folder);
                problems.problems.extend(usher_queries::check_salvage(&salvage, &schemas));
                problems.problems.extend(messages(&salvage.job));
                problems = Problems::new(&file, problems.problems);
            }
            Err(problems.into())
        }
    }
}

/// Returns the files of a glob relative to a folder, by name. The error is a reason without the glob.
fn included(folder: &Path, glob: &str) -> Result<Vec<Included>, String> {
    let base = glob::Pattern::escape(&folder.display().to_string());
    let pattern = Path::new(&base).join(glob).display().to_string();
    let paths = glob::glob(&pattern).map_err(|error| format!("it is not a glob: {}", error.msg))?;
    let mut files = Vec::new();
    for path in paths {
        let path = path.map_err(|error| error.to_string())?;
        if path.is_dir() {
            continue;
        }
        let file = path.strip_prefix(folder).unwrap_or(&path).display().to_string();
        let text = std::fs::read_to_string(&path).map_err(|error| format!("`{file}`: {error}"))?;
        files.push(Included { file, text });
    }
    files.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(files)
}

/// Reads the schemas of a job's sources. What can't be read stays empty: [`source_schemas`] reports it.
fn read_schemas(job: &mut Job, folder: &Path) {
    for source in job.sources.values_mut() {
        match &mut source.encoding {
            Encoding::Json | Encoding::Registered { .. } => {}
            Encoding::Avro(schema) => {
                schema.text = std::fs::read_to_string(folder.join(&schema.path)).unwrap_or_default()
            }
            Encoding::Protobuf { schema, .. } => {
                let path = folder.join(&schema.path);
                schema.text = std::fs::read_to_string(&path).unwrap_or_default();
                let beside = path.parent().unwrap_or(folder);
                let mut unread = usher_formats::imports(&schema.text).unwrap_or_default();
                while let Some(import) = unread.pop() {
                    // Relative to the file, or to the job's folder. One that is in neither is reported by its name.
                    let found = [beside, folder].iter().find_map(|at| std::fs::read_to_string(at.join(&import)).ok());
                    let Some(text) = found.filter(|_| !schema.imports.contains_key(&import)) else { continue };
                    unread.extend(usher_formats::imports(&text).unwrap_or_default());
                    schema.imports.insert(import, text);
                }
            }
        }
    }
}

/// Returns the paths into the messages of a source that events of it alone have, with their events.
fn paths_into<'j>(job: &'j Job, source: &str) -> Vec<(&'j Event, &'j usher_config::Path)> {
    let events = job.events.values().filter(|event| event.sources == [source]);
    let paths = events.flat_map(|event| {
        let own = [&event.foreign_key, &event.timestamp].into_iter().flatten();
        own.chain(event.properties.values().map(|property| &property.path)).map(move |path| (event, path))
    });
    paths.collect()
}

/// Returns paths without their events.
fn only(paths: &[(&Event, &usher_config::Path)]) -> Vec<usher_config::Path> {
    paths.iter().map(|(_, path)| (*path).clone()).collect()
}

/// Returns the problems of paths that a schema has nothing for.
fn lacking(lacking: &Lacking, paths: &[(&Event, &usher_config::Path)], schema: &str) -> Vec<Problem> {
    let problem = |(index, near): &(usize, Option<String>)| {
        let (event, path) = &paths[*index];
        let problem = Problem::new(&event.place, format!("{schema} has no `{path}`"));
        match near {
            Some(near) => problem.hint(format!("did you mean `{near}`?")),
            None => problem.hint("give the path of a field of the schema"),
        }
    };
    lacking.iter().map(problem).collect()
}

/// Compares the latest schemas in the registries of a job's sources with the paths of the job.
///
/// # Errors
/// A registry does not answer, a schema can't be read, or it has nothing for a path of the job; `file` is the job file.
pub fn check_registries(loaded: &Loaded, file: &Path) -> Result<(), Exit> {
    let job = &loaded.plan.job;
    let mut problems = Vec::new();
    for (id, source) in &job.sources {
        let (SourceFrom::Kafka { topics, .. }, Encoding::Registered { kind, registry }) =
            (&source.from, &source.encoding)
        else {
            continue;
        };
        let paths = paths_into(job, id);
        for topic in topics {
            let subject = format!("{topic}-value");
            let spec = RegistrySpec { id, registry, bounded: false, kept: None };
            let Some(schema) = Registry::latest(&spec, &subject, &variable)? else {
                print_stderr(format_args!(
                    "source `{id}`: the registry has no subject `{subject}`, so the paths of its events are not compared with a schema"
                ));
                continue;
            };
            let latest = format!("the latest schema of `{subject}`");
            if schema.kind != *kind {
                let message = format!("{latest} is in {}, and `encoding` is {}", schema.kind, kind.word());
                let hint = format!("set `encoding: {}`", schema.kind.word());
                problems.push(Problem::new(&source.place, message).hint(hint));
                continue;
            }
            match Decoder::lacking_in(source, &only(&paths), &schema) {
                Ok(found) => problems.extend(lacking(&found, &paths, &latest)),
                Err(reason) => problems.push(Problem::new(&source.place, format!("{latest} can't be read: {reason}"))),
            }
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Problems::new(&file.display().to_string(), problems).into()) }
}

/// Returns what is wrong with the schemas of a job's sources.
fn source_schemas(job: &Job) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (id, source) in &job.sources {
        let Some(schema) = source.encoding.schema() else { continue };
        let paths = paths_into(job, id);
        let wrong = match schema.text.is_empty() {
            true => match std::fs::read_to_string(job.folder.join(&schema.path)) {
                Ok(_) => "it is empty".to_owned(),
                Err(error) => error.to_string(),
            },
            false => match Decoder::of(source, &only(&paths), None) {
                Ok(decoder) => {
                    problems.extend(lacking(&decoder.lacking(), &paths, &format!("the schema `{}`", schema.path)));
                    continue;
                }
                Err(reason) => reason,
            },
        };
        let message = format!("the schema `{}` can't be used: {wrong}", schema.path);
        let hint = match source.encoding {
            Encoding::Protobuf { .. } => {
                "give a `.proto` file; files that it imports lie beside it, or in the job's folder"
            }
            _ => "give a file with the schema of Avro as JSON, relative to the job file's folder",
        };
        problems.push(Problem::new(&schema.place, message).hint(hint));
    }
    problems
}

/// Compiles a job with the schemas that it needs.
pub fn plan(job: &Job, file: &str) -> Result<Plan, Exit> {
    plan_with(job, file, &|_| None).map(|(plan, _)| plan)
}

/// Compiles a job with the schemas that it needs, and returns these too. `kept` gives one that can't be read.
fn plan_with(job: &Job, file: &str, kept: &dyn Fn(&str) -> Option<Columns>) -> Result<(Plan, Schemas), Exit> {
    let mut schemas = schemas::read(job, Footers::First, kept)?;
    let mut compiled = usher_queries::compile(job, file, &schemas);
    if compiled.is_err() {
        // A column that the first file lacks may be in another.
        schemas = schemas::read(job, Footers::All, kept)?;
        compiled = usher_queries::compile(job, file, &schemas);
    }
    let mut problems = messages(job);
    match compiled {
        Ok(plan) if problems.is_empty() => Ok((plan, schemas)),
        Ok(_) => Err(Problems::new(file, problems).into()),
        Err(found) => {
            problems.extend(found.problems);
            Err(Problems::new(file, problems).into())
        }
    }
}

/// Returns the problems in the messages of a job's syncs, in the settings of its Kafka clients, and in the schemas of its sources.
fn messages(job: &Job) -> Vec<Problem> {
    let problems = |sync| Messages::check(sync).into_iter().chain(webhook::check(sync, &variable));
    let messages = job.syncs.values().flat_map(problems);
    messages.chain(kafka_settings(job)).chain(source_schemas(job)).chain(registry::check(job, &variable)).collect()
}

/// Returns the settings that the clients of a job can't have: those that usher sets itself, and those that librdkafka
/// does not know. A secret whose variable is not set is checked at the start.
fn kafka_settings(job: &Job) -> Vec<Problem> {
    let sources = job.sources.iter().filter_map(|(id, source)| match &source.from {
        SourceFrom::Kafka { kafka, .. } => Some((format!("sources.{id}.kafka"), &source.place, kafka)),
        SourceFrom::File { .. } => None,
    });
    let syncs = job.syncs.iter().filter_map(|(id, sync)| match &sync.to {
        SyncTo::Kafka(target) => Some((format!("syncs.{id}.to.kafka"), &sync.place, &target.kafka)),
        SyncTo::File(_) | SyncTo::Stdout | SyncTo::Webhook(_) => None,
    });
    let top = Place { line: 1, column: 1, ..Place::default() };
    let dead_letters = job.dead_letters.iter().filter_map(|to| match to {
        DeadLettersTo::Kafka { kafka, .. } => Some(("dead_letters.kafka".to_owned(), &top, kafka)),
        DeadLettersTo::File(_) => None,
    });
    let mut problems = Vec::new();
    for (path, place, cluster) in sources.chain(syncs).chain(dead_letters) {
        for WrongSetting { name, reason, hint } in kafka::check_settings(cluster, &variable) {
            // A plan has no places of properties.
            let place =
                cluster.places.get(name).cloned().unwrap_or_else(|| Place { path: path.clone(), ..place.clone() });
            problems.push(Problem::new(&place, reason).hint(hint));
        }
    }
    problems
}

/// Prints what of a job is probably not meant; `file` is the job file as the user gave it.
pub fn print_warnings(plan: &Plan, file: &Path) {
    let Problems { file, problems } = warnings(plan, file);
    for warning in problems {
        let one = Problems { file: file.clone(), problems: vec![warning] };
        print_stderr(format_args!("warning: {}", one.to_string().trim_end()));
    }
}

/// Returns what of a job is probably not meant so.
pub fn warnings(plan: &Plan, file: &Path) -> Problems {
    Problems { file: file.display().to_string(), problems: usher_queries::warnings(plan) }
}

/// Returns the value of the environment variable `name`, for `${VAR}` in secrets.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Returns how far back messages count, ms: the longest window plus the skew that clocks may have.
fn window_ms(plan: &Plan) -> u64 {
    let facts = plan.models.iter().flat_map(|model| &model.facts);
    facts.filter_map(|fact| fact.kind.window()).max().unwrap_or(0) + plan.job.limits.future_skew
}

/// Returns whether an event of a source sets a live column.
fn sets_live(plan: &Plan, source: &String) -> bool {
    plan.events.iter().any(|event| !event.traits.is_empty() && event.sources.contains(source))
}

/// The sources of a job, by id.
pub type Sources = Vec<(String, Box<dyn Source>)>;

/// Checks that every source is there, and opens none of them.
pub fn check_sources(loaded: &Loaded) -> Result<(), Exit> {
    for (id, source) in &loaded.plan.job.sources {
        match &source.from {
            SourceFrom::File { path, follow } => {
                open_files(id, path, &loaded.folder, *follow, loaded.plan.job.limits.message_bytes)?;
            }
            SourceFrom::Kafka { kafka, topics } => kafka::check_source(id, kafka, topics, &variable)?,
        }
    }
    Ok(())
}

/// Opens every source at the time `now`. With `bounds` each has an end. `kept` has the schemas that messages have named.
pub fn open_sources(
    loaded: &Loaded,
    bounds: Option<Bounds>,
    now: Time,
    kept: Option<&Arc<Objects>>,
) -> Result<Sources, Exit> {
    let (job, to_the_end) = (&loaded.plan.job, bounds.is_some());
    let mut sources = Vec::new();
    for (id, source) in &job.sources {
        let opened: Box<dyn Source> = match &source.from {
            SourceFrom::File { path, follow } => {
                Box::new(open_files(id, path, &loaded.folder, *follow && !to_the_end, job.limits.message_bytes)?)
            }
            SourceFrom::Kafka { kafka, topics } => {
                let schemas = match &source.encoding {
                    Encoding::Registered { registry, .. } => {
                        let spec = RegistrySpec { id, registry, bounded: to_the_end, kept: kept.cloned() };
                        Some(Registry::open(&spec, &variable)?)
                    }
                    Encoding::Json | Encoding::Avro(_) | Encoding::Protobuf { .. } => None,
                };
                // The latest value of a live column counts, however old it is.
                let bounds = match sets_live(&loaded.plan, id) {
                    true => bounds.map(|_| Bounds { from: None }),
                    false => bounds,
                };
                let spec = SourceSpec {
                    schemas,
                    id,
                    kafka,
                    topics,
                    start: source.start,
                    window_ms: window_ms(&loaded.plan),
                    message_bytes: usize::try_from(job.limits.message_bytes).unwrap_or(usize::MAX),
                    now,
                    bounds,
                };
                Box::new(KafkaSource::open(&spec, &variable)?)
            }
        };
        sources.push((id.clone(), opened));
    }
    Ok(sources)
}

/// Describes the sync `id`, which is the job's `index`-th and goes to Kafka.
fn sync_spec<'a>(loaded: &'a Loaded, index: usize, id: &'a str, target: &'a usher_config::KafkaTarget) -> SyncSpec<'a> {
    let job = &loaded.plan.job;
    SyncSpec { job: &job.name, id, index: index as u16, sync: &job.syncs[id], target, incarnation: 0, noted: None }
}

/// Describes the sync `id`, whose ledger was noted in a topic.
fn noted_topic<'a>(loaded: &'a Loaded, id: &'a str, noted: &'a LedgerPosition) -> NotedTopic<'a> {
    let job = &loaded.plan.job;
    NotedTopic { job: &job.name, id, sync: &job.syncs[id], noted }
}

/// Opens the sync `id`, which is the job's `index`-th; `ledger` is the folder of the ledgers on this machine. `noted` is the
/// position of its ledger in the latest checkpoint: one that was kept elsewhere is taken over.
pub fn open_sync(
    loaded: &Loaded,
    index: usize,
    id: &str,
    ledger: &Path,
    incarnation: u64,
    noted: Option<&LedgerPosition>,
) -> Result<OpenedSync, Exit> {
    let sync = &loaded.plan.job.syncs[id];
    let folder = &ledger.join(id);
    let take_over = || match noted {
        Some(noted) if noted.keeper == kafka::KEEPER => {
            noted_topic(loaded, id, noted).take_over(incarnation, &variable)
        }
        Some(noted) => take_log(id, folder, incarnation, noted),
        None => unreachable!("only a ledger that was noted is taken over"),
    };
    let noted = noted.map(|position| NotedLedger { position, take_over: &take_over });
    let spec = LogSpec { id, index: index as u16, sync, folder, incarnation, noted };
    Ok(match &sync.to {
        SyncTo::Kafka(target) => {
            let spec = SyncSpec { incarnation, noted, ..sync_spec(loaded, index, id, target) };
            kafka::open_sync(&spec, &variable)?
        }
        SyncTo::File(target) => open_local(&spec, Outlet::file(&loaded.folder.join(&target.path))?)?,
        SyncTo::Stdout => open_local(&spec, Outlet::stdout())?,
        SyncTo::Webhook(target) => open_webhook(&spec, target, (&loaded.folder, &variable), Arc::new(WallClock))?,
    })
}

/// Asks for a ledger of the sync `id`, the job's `index`-th, that begins anew at the next start.
pub fn resend_sync(loaded: &Loaded, index: usize, id: &str) -> Result<(), Exit> {
    match &loaded.plan.job.syncs[id].to {
        SyncTo::Kafka(target) => Ok(kafka::resend_sync(&sync_spec(loaded, index, id, target), &variable)?),
        SyncTo::File(_) | SyncTo::Stdout | SyncTo::Webhook(_) => {
            Ok(resend_local(&state_place(&loaded.plan.job, &loaded.folder, None)?.ledger.join(id))?)
        }
    }
}

/// Refuses a job from which a sync was removed while changes wait for it; `dropped` are syncs whose changes are dropped.
///
/// Syncs to Kafka have no changes that are committed and wait.
pub fn settle_removed_syncs(loaded: &Loaded, state: &State, dropped: &[String]) -> Result<(), Exit> {
    let syncs = &loaded.plan.job.syncs;
    if let Some(id) = dropped.iter().find(|id| syncs.contains_key(*id)) {
        return Err(Exit::wrong(format_args!("--drop-sync {id}: the job has the sync `{id}`"))
            .hint("remove the sync from the job first".to_owned()));
    }
    let found = folders(&state.ledger)?;
    // No error: the flag may still be there at the next start.
    for id in dropped.iter().filter(|id| !found.iter().any(|(known, _)| known == *id)) {
        let removed = found.iter().map(|(known, _)| &known[..]).filter(|known| !syncs.contains_key(*known));
        let near = usher_config::nearest(id, removed).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        print_stderr(format_args!("note: --drop-sync {id}: no sync of that name has a ledger on this machine{near}"));
    }
    for (id, folder) in found {
        if syncs.contains_key(&id) {
            continue;
        }
        if dropped.contains(&id) {
            std::fs::remove_dir_all(&folder)
                .map_err(|error| Exit::not_opened(format_args!("`{}` can't be removed: {error}", folder.display())))?;
            print_stderr(format_args!("the ledger of sync `{id}`, which was removed, is dropped"));
            continue;
        }
        let waiting = read_content(&folder)?.map_or(0, |log| log.waiting);
        if waiting > 0 {
            return Err(Exit::not_opened(format_args!("sync `{id}` was removed, and {waiting} changes wait for it"))
                .hint(format!("put the sync back until they are delivered, or drop them with `--drop-sync {id}`")));
        }
    }
    Ok(())
}

/// Where a job's state is kept.
pub struct State {
    /// The store.
    pub store: Arc<Objects>,
    /// Its url or folder.
    pub place: String,
    /// The folder of the ledgers on this machine.
    pub ledger: PathBuf,
    /// From one checkpoint to the next.
    pub checkpoint_every: Duration,
}

impl State {
    /// Returns its place for people: a folder as an absolute path, a url without what may be secret in it.
    pub fn shown(&self) -> String {
        match self.place.split_once("://") {
            None | Some(("file", _)) => {
                let folder = self.ledger.parent().unwrap_or(&self.ledger);
                std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()).display().to_string()
            }
            Some((scheme, rest)) => {
                let rest = rest.split(['?', '#']).next().unwrap_or_default();
                format!("{scheme}://{}", rest.rsplit_once('@').map_or(rest, |(_, rest)| rest))
            }
        }
    }
}

/// A job's places, none of them opened.
struct StatePlace {
    /// The store's url, or its folder, relative to the job's.
    url: String,
    /// The folder of the ledgers on this machine.
    ledger: PathBuf,
}

/// Checks that the state of a job can be opened. Takes no lock and leaves nothing behind.
pub fn check_state(loaded: &Loaded) -> Result<(), Exit> {
    let url = state_place(&loaded.plan.job, &loaded.folder, None)?.url;
    let folder = match url.split_once("://") {
        None => loaded.folder.join(&url),
        Some(("file", path)) => PathBuf::from(path),
        Some(_) => return Ok(Objects::open(&url, &loaded.folder, 0).map(drop)?),
    };
    let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    tempfile::tempfile_in(there).map_err(|error| {
        Exit::not_opened(format_args!("the state store `{}` can't be opened: {error}", folder.display()))
            .hint("give `state.url` a folder that this user may read and write".to_owned())
    })?;
    Ok(())
}

/// Returns where the state of a job is; at `url`, a path being relative to the working folder, if it is given.
fn state_place(job: &Job, folder: &Path, url: Option<&str>) -> Result<StatePlace, Exit> {
    let own = folder.join("usher-state").join(&job.name);
    let own = std::path::absolute(&own).unwrap_or(own);
    let url = match (url, &job.state) {
        (Some(url), _) if url.contains("://") => url.to_owned(),
        (Some(path), _) => std::path::absolute(path).map_or(path.to_owned(), |path| path.display().to_string()),
        (None, Some(state)) => state.url.resolve(&variable).map_err(|reason| {
            Exit::not_opened(format_args!("`state.url` can't be used: {reason}")).hint("set the variable".to_owned())
        })?,
        (None, None) => own.display().to_string(),
    };
    // The ledger of a sync without Kafka stays on this machine.
    let ledger = match url.strip_prefix("file://") {
        Some(path) => PathBuf::from(path),
        None if url.contains("://") => own,
        None => folder.join(&url),
    };
    Ok(StatePlace { url, ledger: ledger.join("ledger") })
}

/// Returns where the state of a job is, as a url or an absolute path.
pub fn state_url(loaded: &Loaded) -> Result<String, Exit> {
    let url = state_place(&loaded.plan.job, &loaded.folder, None)?.url;
    Ok(if url.contains("://") { url } else { loaded.folder.join(url).display().to_string() })
}

/// Opens the state of a job, in `process` of its processes.
pub fn open_state(loaded: &Loaded, process: usize) -> Result<State, Exit> {
    let StatePlace { url, ledger } = state_place(&loaded.plan.job, &loaded.folder, None)?;
    let store = Arc::new(Objects::open(&url, &loaded.folder, process)?);
    let checkpoint_every = loaded.plan.job.state.as_ref().map_or(CHECKPOINT_EVERY, |state| state.checkpoint_every);
    let checkpoint_every = Duration::from_millis(checkpoint_every);
    Ok(State { store, place: url, ledger, checkpoint_every })
}

/// Opens the state of a job to read it, whether the job runs or not. `url` is where it is, if the job at hand does not have it. Also returns the
/// folder of the ledgers on this machine.
pub fn read_state(loaded: &Loaded, url: Option<&str>) -> Result<(Arc<Objects>, PathBuf), Exit> {
    let StatePlace { url, ledger } = state_place(&loaded.plan.job, &loaded.folder, url)?;
    Ok((Arc::new(Objects::open_to_read(&url, &loaded.folder)?), ledger))
}

/// Reads the ledger of each of the job's syncs, whether the job runs or not. `folder` is that of the ledgers on this machine; `noted` are the positions of
/// the ledgers in the latest checkpoint.
pub fn read_ledgers(
    loaded: &Loaded,
    folder: &Path,
    noted: &BTreeMap<String, LedgerPosition>,
) -> Result<Vec<Ledger>, Exit> {
    let read = |(index, (id, sync)): (usize, (&String, &Sync))| -> Result<Ledger, Exit> {
        let (noted, local) = (noted.get(id), || read_ledger(&folder.join(id)));
        Ok(match (&sync.to, noted) {
            (SyncTo::Kafka(_), Some(noted)) if noted.keeper != kafka::KEEPER => local()?.unwrap_or_default(),
            (SyncTo::Kafka(target), noted) => {
                kafka::read_ledger(&sync_spec(loaded, index, id, target), noted, &variable)?
            }
            (_, Some(noted)) if noted.keeper == kafka::KEEPER => noted_topic(loaded, id, noted).read(&variable)?,
            (SyncTo::File(_) | SyncTo::Stdout | SyncTo::Webhook(_), _) => local()?.unwrap_or_default(),
        })
    };
    loaded.plan.job.syncs.iter().enumerate().map(read).collect()
}

/// Returns a random number that identifies this start.
pub fn incarnation() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // Keyed by the system's randomness.
    let mut hasher = std::hash::RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish()
}

/// Checks that everything that goes to Kafka can be opened. Changes nothing.
pub fn check_kafka(loaded: &Loaded) -> Result<(), Exit> {
    let job = &loaded.plan.job;
    for (index, (id, sync)) in job.syncs.iter().enumerate() {
        if let SyncTo::Kafka(target) = &sync.to {
            kafka::check_sync(&sync_spec(loaded, index, id, target), &variable)?;
        }
    }
    if let Some(DeadLettersTo::Kafka { kafka, topic }) = &job.dead_letters {
        kafka::check_dead_letters(kafka, topic, &variable)?;
    }
    Ok(())
}

/// Returns the warehouse of each model of the plan, in order; `None` for a model without Parquet.
pub fn open_warehouses(loaded: &Loaded) -> Result<Vec<Option<Box<dyn Warehouse>>>, Exit> {
    let open = |model: &str| -> Result<Box<dyn Warehouse>, SnapshotError> {
        Ok(Box::new(warehouse(&loaded.plan.job.models[model], &loaded.folder)?))
    };
    let models = loaded.plan.models.iter();
    Ok(models.map(|model| model.snapshot.as_ref().map(|_| open(&model.id)).transpose()).collect::<Result<_, _>>()?)
}

/// Returns the warehouse of a model with Parquet.
pub fn warehouse(model: &Model, folder: &Path) -> Result<ParquetWarehouse, SnapshotError> {
    let resolve = |location: &Location| {
        let unset = |reason: String| SnapshotError::new(SnapshotErrorKind::Location, location.shown(), &reason);
        location.resolve(&variable).map_err(|reason| unset(reason).hint("set the variable"))
    };
    match model.parquet.as_ref().expect("only a model with Parquet is read") {
        Parquet::Files(files) => Ok(ParquetWarehouse::new(&resolve(files)?, folder)?.force_files(model.force_files)),
        Parquet::Delta(table) => ParquetWarehouse::delta(&resolve(&table.url)?, table.at, folder),
    }
}

/// Refuses files that are written twice, and files that the job in `job_file` reads.
pub fn refuse_shared_files(loaded: &Loaded, job_file: &Path) -> Result<(), Exit> {
    let job = &loaded.plan.job;
    let same = |a: &str, b: &str| loaded.folder.join(a) == loaded.folder.join(b);
    let syncs = job.syncs.iter().filter_map(|(id, sync)| match &sync.to {
        SyncTo::File(target) => Some((format!("sync `{id}`"), &target.path)),
        SyncTo::Stdout | SyncTo::Kafka(_) | SyncTo::Webhook(_) => None,
    });
    let dead = job.dead_letters.iter().filter_map(|to| match to {
        DeadLettersTo::File(target) => Some(("`dead_letters`".to_owned(), &target.path)),
        DeadLettersTo::Kafka { .. } => None,
    });
    let written: Vec<(String, &String)> = syncs.chain(dead).collect();
    for (i, (what, path)) in written.iter().enumerate() {
        let earlier = written[..i].iter().find(|(_, other)| same(path, other)).map(|(what, _)| what.clone());
        let earlier = earlier.map(|other| format!("{other} writes too"));
        if let Some(other) = earlier.or_else(|| overwrite::reader_of(loaded, job_file, Path::new(path))) {
            return Err(Exit::wrong(format_args!("{what} writes to `{path}`, which {other}"))
                .hint("give it a file of its own".to_owned()));
        }
    }
    Ok(())
}

/// Opens the dead letters. Refuses files that are written twice, and files that the job in `job_file` reads.
pub fn open_dead_letters(loaded: &Loaded, job_file: &Path) -> Result<Arc<dyn DeadLetters>, Exit> {
    refuse_shared_files(loaded, job_file)?;
    let opened = DeadLetterWriter::open(loaded.plan.job.dead_letters.as_ref(), &loaded.folder, &variable);
    Ok(Arc::new(opened?))
}

/// Opens dead letters that go to a file of the working folder, which is emptied; `None`: samples go to the log.
pub fn open_dead_letters_at(file: Option<&Path>) -> Result<Arc<dyn DeadLetters>, Exit> {
    let target = file.map(|file| DeadLettersTo::File(FileTarget { path: file.display().to_string() }));
    if let Some(file) = file {
        std::fs::File::create(file).map_err(|error| {
            Exit::not_opened(format_args!("the dead letters `{}` can't be written: {error}", file.display()))
                .hint("give a path in a folder that exists and may be written".to_owned())
        })?;
    }
    Ok(Arc::new(DeadLetterWriter::open(target.as_ref(), Path::new(""), &variable)?))
}

/// Returns the span of a replay; refuses `from` after `until`.
pub fn replay_span(from: Option<Time>, until: Option<Time>) -> Result<Span, Exit> {
    match (from, until) {
        (Some(from), Some(until)) if from > until => {
            Err(Exit::wrong("--from is later than --until").hint("swap the two".to_owned()))
        }
        _ => Ok(Span::Replay { from, until }),
    }
}
