//! The API of a running job answers what the oracle computes: on random jobs, at any moment, and its forecasts come
//! true.
//!
//! `USHER_SERVE=0..2000 cargo test --release --test usher api_oracle` runs more seeds than every test run's.

use crate::oracle::{compile, write};
use crate::simulator::{SKEW, warehouses};
use crate::support::rows::seeds;
use crate::support::world::{FakeSource, Life, Rules, World};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use usher_config::Members;
use usher_connectors::dead_letters::DeadLetterWriter;
use usher_core::api::{Api, ApiError, CountedCondition, ExplainedCondition, Explanation};
use usher_core::clock::Clock;
use usher_core::membership_index::MembershipIndex;
use usher_core::source::Source;
use usher_dataflow::{ApiSetup, Failure, JobApi, OpenedJob, Span, Status, Time};
use usher_queries::oracle::{self, Flags, History};
use usher_queries::plan::{FactKind, InheritedColumn, ModelPlan, Plan};
use usher_queries::testing::generator::Sample;

/// How long a job runs on after a step, ms.
const REST: i64 = 20;
/// Far more than any step takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// Keys of samples, and one that no sample has.
const KEYS: [&str; 13] = ["u0", "7", "u1", "u2", "u3", "u5", "u6", "u7", "nobody", "a0", "a1", "a2", "a9"];

/// A job that runs and can be asked.
struct Served {
    plan: Plan,
    world: Arc<World>,
    life: Arc<Life>,
    engine: Arc<JobApi>,
    published: Arc<MembershipIndex>,
    status: Arc<Status>,
    thread: JoinHandle<Result<(), Failure>>,
    runtime: tokio::runtime::Runtime,
}

struct Fixed(Time);

impl Clock for Fixed {
    fn now(&self) -> Time {
        self.0
    }
}

impl Served {
    fn start(plan: &Plan, folder: &Path, world: &Arc<World>, span: Span, now: Option<i64>, workers: usize) -> Served {
        let life = world.new_life();
        let clock: Arc<dyn Clock> = match now {
            Some(now) => Arc::new(Fixed(now as u64)),
            None => Arc::clone(world) as Arc<dyn Clock>,
        };
        let setup = ApiSetup {
            clock: Arc::clone(&clock),
            workers,
            process: 0,
            addresses: vec!["localhost:0".to_owned()],
            run: 1,
            differ: None,
        };
        let engine = Arc::new(JobApi::new(plan, setup));
        let readiness = engine.readiness();
        assert_eq!((readiness.ready, readiness.detail.as_deref()), (false, Some("the job is being opened")));
        let mut sources: Vec<(String, Box<dyn Source>)> = Vec::new();
        for id in plan.job.sources.keys() {
            sources.push((id.clone(), Box::new(FakeSource::new(&life, id))));
        }
        let opened = OpenedJob {
            plan: plan.clone(),
            span,
            clock,
            sources,
            warehouses: warehouses(plan, folder),
            sinks: Vec::new(),
            catalog: Arc::new(plan.job.catalog()),
            recovery: None,
            cluster: None,
            dead_letters: Arc::new(
                DeadLetterWriter::open(None, folder, &|_| None).expect("the log takes dead letters"),
            ),
            api: Some(Arc::clone(&engine)),
            workers,
            cores: 2 * workers,
        };
        let audiences = plan.models.iter().map(|model| model.audiences.len()).sum();
        let status = Status::new(workers, audiences);
        life.end_with(Arc::clone(&status));
        let thread = {
            let status = Arc::clone(&status);
            std::thread::spawn(move || usher_dataflow::run(opened, &status))
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let (plan, world, published) = (plan.clone(), Arc::clone(world), engine.index());
        Served { plan, world, life, engine, published, status, thread, runtime }
    }

    fn as_of(&self) -> i64 {
        self.published.as_of().map_or(0, |as_of| as_of.time as i64)
    }

    /// All (audience, key) as lookups have them, and as of when; none: not live.
    fn look_up(&self) -> Option<(i64, BTreeSet<(String, String)>)> {
        let mut found: Option<(i64, BTreeSet<(String, String)>)> = None;
        for model in self.plan.models.iter().filter(|model| !model.audiences.is_empty()) {
            let index = self.published.model(&model.id).expect("a model of the job");
            let (as_of, audiences) = self.published.lookup_all(index, &KEYS)?;
            let (time, all) = found.get_or_insert((as_of.time as i64, BTreeSet::new()));
            if *time != as_of.time as i64 {
                // The clock has moved on between two models.
                return self.look_up();
            }
            for (key, audiences) in KEYS.iter().zip(audiences) {
                let id = |index: &u32| self.published.audiences()[*index as usize].id.clone();
                all.extend(audiences.iter().map(|index| (id(index), (*key).to_owned())));
            }
        }
        found
    }

    /// Waits until all that was appended has been read, and everything before `clock` + [`REST`] is published.
    fn rest(&self, clock: i64) -> Result<i64, String> {
        let since = Instant::now();
        let wait = |what: &str| {
            if since.elapsed() > PATIENCE || self.thread.is_finished() {
                return Err(format!("the job does not {what}: it is at {}", self.as_of()));
            }
            std::thread::sleep(Duration::from_micros(200));
            Ok(())
        };
        while !self.life.has_read_all() {
            wait("read on")?;
        }
        let (rested, mut now) = (clock + REST, clock);
        while !self.status.live() && now + 1 < rested {
            // A job is live a moment after the clock at which it had read everything.
            now += i64::from(self.status.clock() as i64 + 1 >= now);
            self.world.set_clock(now as u64);
            wait("go live")?;
        }
        self.world.set_clock(rested as u64);
        while self.as_of() < rested - 1 {
            wait("come to rest")?;
        }
        Ok(rested - 1)
    }

    /// All members of an audience, page by page, once the arrangement that is listed is as of `as_of`: it follows the index.
    fn members(&self, audience: &str, limit: usize, as_of: i64) -> Result<BTreeSet<(String, String)>, String> {
        let (mut members, mut cursor) = (BTreeSet::new(), None::<String>);
        let since = Instant::now();
        loop {
            let page = self.runtime.block_on(self.engine.members(audience, cursor.as_deref(), limit));
            let page = page.map_err(|error| format!("members of {audience}: {error}"))?;
            if (page.as_of.0 as i64) < as_of {
                if since.elapsed() > PATIENCE {
                    return Err(format!("members of {audience} stay as of {}", page.as_of.0));
                }
                std::thread::yield_now();
                continue;
            }
            if page.keys.len() > limit {
                return Err(format!("{} members on a page of {limit}", page.keys.len()));
            }
            for key in page.keys {
                if !members.insert((audience.to_owned(), key.clone())) {
                    return Err(format!("{key} is listed twice in {audience}"));
                }
            }
            match page.next_cursor {
                Some(next) => cursor = Some(next),
                None => return Ok(members),
            }
        }
    }

    fn explain(&self, model: &str, key: &str) -> Result<Explanation, ApiError> {
        self.runtime.block_on(self.engine.explain(model, key, None))
    }

    fn end(self) -> Result<(), String> {
        self.status.stop();
        let result = self.thread.join().map_err(|_| "the job panicked".to_owned())?;
        result.map_err(|failure| format!("the job failed: {failure:?}"))
    }
}

fn difference(found: &BTreeSet<(String, String)>, want: &BTreeSet<(String, String)>) -> String {
    let (much, little) = (found.difference(want), want.difference(found));
    format!("too much: {:?}, too little: {:?}", much.collect::<Vec<_>>(), little.collect::<Vec<_>>())
}

/// A sample and what is needed to run it in memory.
fn make(seed: u64) -> (Sample, Plan, tempfile::TempDir, Arc<World>) {
    let mut sample = Sample::new(seed);
    for file in &mut sample.files {
        // Of copies with other timestamps it depends on the moment of reading which one counts.
        for message in &mut file.messages {
            let timestamp = message.timestamp;
            message.id.iter_mut().for_each(|id| write!(id, "@{timestamp}").expect("a string"));
        }
    }
    let folder = tempfile::tempdir().expect("a folder for the test");
    write(&sample, folder.path());
    let plan = compile(&sample, folder.path());
    let world = World::new(seed, Rules::default());
    for file in &sample.files {
        world.add_partition(&file.source, &file.path);
    }
    (sample, plan, folder, world)
}

/// Looks members up while a replay runs; returns at how many times.
fn at_any_moment(seed: u64) -> Result<usize, String> {
    let (sample, plan, folder, world) = make(seed);
    for file in &sample.files {
        world.append(&file.source, &file.path, file.messages.iter().map(|message| message.line()).collect());
    }
    let present = sample.flags.now + SKEW;
    let greatest = |file: &usher_queries::testing::generator::EventFile| {
        file.messages.iter().map(|message| message.timestamp).filter(|timestamp| *timestamp <= present).max()
    };
    // A partition in memory never ends: the clock stops at the first that has nothing more.
    let Some(end) = sample.files.iter().map(greatest).min().flatten().map(|end| end - 1) else { return Ok(0) };
    let first = |file: &usher_queries::testing::generator::EventFile| {
        let dated = file.messages.iter().map(|message| message.timestamp);
        dated.into_iter().find(|timestamp| *timestamp <= present)
    };
    let from = sample.flags.from.filter(|from| *from <= end);
    let start = from.or_else(|| sample.files.iter().filter_map(first).min()).expect("there is an end");
    if start > end {
        return Ok(0);
    }
    let workers = 1 + seed as usize % 3;
    let span = Span::Replay { from: from.map(|from| from as u64), until: None };
    let served = Served::start(&plan, folder.path(), &world, span, Some(sample.flags.now), workers);
    let since = Instant::now();
    let mut seen: BTreeMap<i64, BTreeSet<(String, String)>> = BTreeMap::new();
    while served.as_of() < end {
        if let Some((as_of, found)) = served.look_up() {
            match seen.get(&as_of) {
                Some(before) if *before != found => {
                    return Err(format!("at {as_of}, now so and now so: {}", difference(&found, before)));
                }
                _ => drop(seen.insert(as_of, found)),
            }
        }
        if since.elapsed() > PATIENCE {
            let (live, clock, keys) = (served.status.live(), served.status.clock(), served.status.keys());
            return Err(format!(
                "the replay, from {from:?}, is at {clock} of {start} to {end}, live: {live}, {keys} keys"
            ));
        }
        std::thread::yield_now();
    }
    seen.extend(served.look_up());
    served.status.abort();
    served.end()?;
    let history = sample.history(&plan);
    for (as_of, found) in &seen {
        let want = oracle::members(&plan, &history, sample.flags.now, *as_of);
        if *found != want {
            return Err(format!("as of {as_of}, {workers} workers: {}", difference(found, &want)));
        }
    }
    Ok(seen.len())
}

/// What is found in all live runs.
#[derive(Default)]
struct Found {
    members: usize,
    explained: usize,
    /// Memberships that change by themselves, and of events that wait.
    changes: usize,
    /// Those of keys with an event that waits and sets a live column.
    by_traits: usize,
    pages: usize,
    /// Keys that meet conditions, conditions inside others, and members that leave by themselves within an hour.
    counted: [u64; 3],
}

/// Runs a sample live; at each rest, all that can be asked is asked.
fn live(seed: u64, found: &mut Found) -> Result<(), String> {
    let (mut sample, plan, folder, world) = make(seed);
    let mut random = fastrand::Rng::with_seed(seed ^ 0xa11);
    let end = sample.flags.now;
    sample.files.iter_mut().for_each(|file| file.messages.retain(|message| message.timestamp <= end));
    let mut clock = end - 100_000;
    world.set_clock(clock as u64);
    let served = Served::start(&plan, folder.path(), &world, Span::Live, None, random.usize(1..=3));
    // The models are pulled at the start, which is over before the clock moves.
    served.rest(clock).map_err(|what| format!("at the start: {what}"))?;
    let pulled = Some(clock);
    let mut appended = vec![0; sample.files.len()];
    for step in 0..random.usize(3..=8) {
        clock += match random.u8(0..4) {
            0 => random.i64(REST..=200),
            1 | 2 => random.i64(200..=8_000),
            _ => random.i64(5_000..=40_000),
        };
        // First the clock: what is read before it is moved would be of a future that is too far away.
        world.set_clock(clock as u64);
        let ahead = if random.bool() { random.i64(0..SKEW) } else { 0 };
        for (index, file) in sample.files.iter().enumerate() {
            let new = file.messages[appended[index]..].iter().take_while(|message| message.timestamp <= clock + ahead);
            let lines: Vec<String> = new.map(|message| message.line()).collect();
            appended[index] += lines.len();
            world.append(&file.source, &file.path, lines);
        }
        let as_of = served.rest(clock).map_err(|what| format!("step {step}: {what}"))?;
        let mut read = sample.clone();
        for (file, appended) in read.files.iter_mut().zip(&appended) {
            file.messages.truncate(*appended);
            // Under a live clock an event counts from its own time on, whatever comes before it.
            file.messages.sort_by_key(|message| message.timestamp);
        }
        let history = History { pulled, ..read.history(&plan) };
        let dated = read.files.iter().flat_map(|file| &file.messages);
        if dated.into_iter().all(|message| message.timestamp <= as_of) && random.u8(0..3) == 0 {
            check_definitions(&served, as_of, found).map_err(|what| format!("step {step} at {as_of}: {what}"))?;
        }
        check(&served, &history, as_of, found).map_err(|what| format!("step {step} at {as_of}: {what}"))?;
    }
    served.end()
}

fn check(served: &Served, history: &History, as_of: i64, found: &mut Found) -> Result<(), String> {
    let (plan, now) = (&served.plan, as_of + SKEW);
    let want = oracle::members(plan, history, now, as_of);
    let (time, members) = served.look_up().ok_or("it is not live")?;
    if (time, &members) != (as_of, &want) {
        return Err(format!("as of {time}: {}", difference(&members, &want)));
    }
    let mut listed = BTreeSet::new();
    for (audience, count) in served.published.audiences().iter().zip(served.published.counts()) {
        let members = served.members(&audience.id, 2, as_of)?;
        if count.size as usize != members.len() || count.entries - count.exits != count.size {
            return Err(format!("{}: {count:?}, but {} are listed", audience.id, members.len()));
        }
        found.pages += members.len() / 2;
        listed.extend(members);
    }
    if listed != want {
        return Err(format!("listed: {}", difference(&listed, &want)));
    }
    // What comes by itself: the oracle's changes after now, of a history that has nothing more.
    let flags = Flags { from: Some(as_of), until: Some(as_of + 1_000_000_000), now };
    let mut first: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    let changes = oracle::changes(plan, history, flags);
    // For the oracle there is no time before the first message.
    let timeless = history.partitions.iter().all(|partition| partition.messages.is_empty());
    for change in changes.iter().filter(|change| change.at > as_of) {
        first.entry((&change.audience, &change.key)).or_insert(change.at);
    }
    for model in plan.models.iter().filter(|model| !model.audiences.is_empty()) {
        for key in KEYS {
            let explained = match served.explain(&model.id, key) {
                Ok(explained) => explained,
                Err(ApiError::NotFound(_)) => {
                    let ids = model.audiences.iter().map(|audience| (audience.id.clone(), key.to_owned()));
                    let mut known = ids.enumerate().filter(|(index, member)| {
                        // Nothing is claimed of rows that only point to it.
                        let will = first.contains_key(&(&member.0[..], &member.1[..])) && is_foreseen(model, *index);
                        want.contains(member) || will
                    });
                    match known.next() {
                        Some((_, member)) => return Err(format!("nothing is known of {key}, but {member:?}")),
                        None => continue,
                    }
                }
                Err(error) => return Err(format!("explain {key}: {error}")),
            };
            if explained.as_of.0 as i64 != as_of || explained.audiences.len() != model.audiences.len() {
                return Err(format!("explain {key}: {explained:?}"));
            }
            for (index, audience) in explained.audiences.iter().enumerate() {
                let id = (&audience.audience_id[..], key);
                let is_member = want.contains(&(id.0.to_owned(), key.to_owned()));
                let (member, changes_at) = (audience.member, audience.changes_at.map(|at| at.0 as i64));
                // Nothing is claimed of what windows of other keys decide.
                let claims = changes_at.is_some() || is_foreseen(model, index);
                let forecast = timeless || !claims || changes_at == first.get(&id).copied();
                if member != is_member || !forecast {
                    let (will, history) = (first.get(&id), &changes);
                    let its: Vec<_> = history.iter().filter(|c| c.key == key && c.audience == id.0).collect();
                    return Err(format!("{id:?}: {audience:#?}\nbut member {is_member}, changes {will:?}: {its:?}"));
                }
                // A key that is in the snapshot, or may be known from events alone, belongs where the condition holds.
                if (explained.in_snapshot || is_member) && audience.condition.holds != is_member {
                    return Err(format!("{id:?}: {audience:#?}"));
                }
                found.explained += 1;
                found.changes += usize::from(changes_at.is_some());
                found.by_traits +=
                    usize::from(changes_at.is_some() && waits_for_traits(plan, history, (&model.id, key), as_of));
            }
        }
    }
    found.members += want.len();
    Ok(())
}

/// Returns whether all that decides an audience is of the key itself, or does not change by itself.
fn is_foreseen(model: &ModelPlan, audience: usize) -> bool {
    let (mut foreseen, mut mentioned) = (true, Vec::new());
    let mut fact = |fact: u32| {
        foreseen &= match &model.facts[fact as usize].kind {
            FactKind::Tallied { timed, .. } => !timed,
            FactKind::Property(predicate) if !predicate.of_parents.is_empty() => {
                let rows = model.rows.as_ref().expect("rows that read columns of parents are kept");
                let is_read = |of: &&InheritedColumn| predicate.of_parents.contains(&of.column);
                let moves = rows.parent.is_none_or(|parent| parent.live.is_some());
                !moves && !rows.inherited.iter().filter(is_read).any(|of| of.is_live)
            }
            _ => true,
        };
    };
    model.audiences[audience].expr.leaves(&mut fact, &mut |audience| mentioned.push(audience as usize));
    foreseen && mentioned.into_iter().all(|audience| is_foreseen(model, audience))
}

/// Returns whether an event of a key sets a live column after `as_of`.
fn waits_for_traits(plan: &Plan, history: &History, (model, key): (&str, &str), as_of: i64) -> bool {
    let messages = history.partitions.iter().flat_map(|partition| &partition.messages);
    let later = messages.filter(|message| message.timestamp.is_some_and(|timestamp| timestamp > as_of));
    later.flat_map(|message| &message.occurrences).any(|occurrence| {
        let event = &plan.events[occurrence.event as usize];
        occurrence.key == key && !event.traits.is_empty() && plan.models[event.model as usize].id == model
    })
}

/// Counts, over all keys, what explain has of each; nothing waits for its time.
fn check_definitions(served: &Served, as_of: i64, found: &mut Found) -> Result<(), String> {
    for model in served.plan.models.iter().filter(|model| !model.audiences.is_empty()) {
        let explained = KEYS.iter().filter_map(|key| served.explain(&model.id, key).ok());
        let may_be_members: Vec<Explanation> =
            explained.filter(|explained| explained.in_snapshot || model.members == Members::Any).collect();
        for (index, audience) in model.audiences.iter().enumerate() {
            let definition = served.runtime.block_on(served.engine.definition(&audience.id));
            let definition = definition.map_err(|error| format!("definition of {}: {error}", audience.id))?;
            let of_keys: Vec<&ExplainedCondition> =
                may_be_members.iter().map(|explained| &explained.audiences[index].condition).collect();
            let is_fresh = definition.counted_at.0 as i64 == as_of;
            count(&definition.condition, &of_keys, is_fresh, found)
                .map_err(|what| format!("{}: {what}", audience.id))?;
            if definition.as_of.0 as i64 != as_of {
                return Err(format!("{definition:?}"));
            }
            if !is_fresh {
                continue;
            }
            let mut leaving = vec![0; 60];
            for explained in may_be_members.iter().map(|explained| &explained.audiences[index]) {
                if let (true, Some(at)) = (explained.member, explained.changes_at)
                    && let Some(minute) = leaving.get_mut((at.0 as i64 - as_of - 1) as usize / 60_000)
                {
                    *minute += 1;
                    found.counted[2] += 1;
                }
            }
            if definition.leaving_by_minute != leaving {
                return Err(format!("{}: {:?} leave, not {leaving:?}", audience.id, definition.leaving_by_minute));
            }
        }
    }
    Ok(())
}

/// Counts the keys that meet a condition and those inside it. `is_fresh`: those inside which others are, were counted now.
fn count(
    counted: &CountedCondition,
    of_keys: &[&ExplainedCondition],
    is_fresh: bool,
    found: &mut Found,
) -> Result<(), String> {
    let keys = of_keys.iter().filter(|condition| condition.holds).count() as u64;
    let is_fact = counted.conditions.is_empty() && !matches!(&counted.kind[..], "all" | "any" | "audience");
    if (is_fact || is_fresh) && counted.keys != keys {
        return Err(format!("{} of {} keys meet {}, not {}", keys, of_keys.len(), counted.text, counted.keys));
    }
    found.counted[0] += keys;
    if counted.kind == "related" {
        // What is inside is about keys of another model, of which this one's explanations have nothing.
        return Ok(());
    }
    for (index, inside) in counted.conditions.iter().enumerate() {
        found.counted[1] += 1;
        let of_keys: Vec<&ExplainedCondition> = of_keys.iter().map(|condition| &condition.conditions[index]).collect();
        count(inside, &of_keys, is_fresh, found)?;
    }
    Ok(())
}

#[test]
fn lookups_are_membership_as_of_their_time_at_any_moment_of_a_run() {
    let mut times = 0;
    for seed in seeds("USHER_SERVE", 100) {
        times += at_any_moment(seed).unwrap_or_else(|what| panic!("seed {seed}: {what}\n{}", Sample::new(seed).job));
    }
    assert!(times > 0, "the seeds reach what they are for");
}

#[test]
fn a_live_job_answers_what_is_so_and_what_it_forecasts_happens() {
    let mut found = Found::default();
    for seed in seeds("USHER_SERVE", 100) {
        live(seed, &mut found).unwrap_or_else(|what| panic!("seed {seed}: {what}\n{}", Sample::new(seed).job));
    }
    let Found { members, explained, changes, by_traits, pages, counted } = found;
    assert!(counted.iter().all(|count| *count > 0), "{counted:?} keys, conditions inside others, members that leave");
    let reached = members > 0 && pages > 0 && explained > 0 && changes > 0 && by_traits > 0;
    assert!(
        reached,
        "{members} members, {pages} more pages, {explained} explained, {changes} of them change by themselves, \
         {by_traits} where an event waits that sets a live column"
    );
}
