//! The simulator: a job starts and dies at moments that a seed draws, and downstream must see no difference.
//!
//! A seed draws a job with a history ([`Sample`]), worker counts, moments of death, edits of the job, and what goes
//! wrong with the store and with acknowledgements. Sources, syncs, store and clock are fakes in memory ([`world`])
//! behind the seams that the real ones stand behind. After every step, once the job has come to rest, everything that
//! downstream has received is checked: entries and exits alternate, no id comes twice, and the members are the
//! oracle's.
//!
//! The same seed draws the same steps, and what is logged of them is the same for every run; between two rests threads
//! run as they run. `USHER_SIMULATE=0..10000 cargo test --release --test usher simulator` runs more seeds than every
//! test run's.

mod foresee;

use crate::oracle::{compile, write};
use crate::support::rows::seeds;
use crate::support::world::{FakeSource, Life, Rules, World};
use std::fmt::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use usher_connectors::dead_letters::DeadLetterWriter;
use usher_connectors::parquet::ParquetWarehouse;
use usher_core::clock::Clock;
use usher_core::sink::Sink;
use usher_core::source::Source;
use usher_core::store::Store;
use usher_core::warehouse::Warehouse;
use usher_dataflow::{Failure, OpenedJob, Purpose, Recovery, Span, Status};
use usher_queries::oracle;
use usher_queries::plan::Plan;
use usher_queries::testing::generator::Sample;

/// `limits.future_skew` of the samples, ms.
pub const SKEW: i64 = 10_000;
/// How long a job that has read everything runs on before it is looked at, ms.
const REST: i64 = 20;
/// The longest window of the samples, ms.
const LONGEST: i64 = 60_000;
/// Far more than any step takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a run of a seed comes to.
struct Run {
    log: String,
    deaths: u64,
    edits: u64,
    stops: u64,
    committed: usize,
    incomplete: (u64, u64),
}

/// A job that runs.
struct Job {
    life: Arc<Life>,
    status: Arc<Status>,
    thread: JoinHandle<Result<(), Failure>>,
}

impl Job {
    fn progress(&self) -> String {
        format!("live: {}, clock: {}, committed: {:?}", self.status.live(), self.status.clock(), self.life.committed())
    }
}

struct Simulation {
    /// Draws the steps.
    random: fastrand::Rng,
    /// Draws what differs from life to life: how many lives a step takes depends on threads.
    chance: fastrand::Rng,
    /// Draws which lives end by a stop.
    ends: fastrand::Rng,
    seed: u64,
    sample: Sample,
    world: Arc<World>,
    folder: tempfile::TempDir,
    plan: Plan,
    /// Up to where each file has been appended.
    appended: Vec<usize>,
    log: String,
    edits: u64,
    deaths: u64,
    stops: u64,
    /// Messages dated before it were deleted before the first start.
    kept_since: Option<i64>,
    /// What was checked while windows were incomplete, and who was held.
    incomplete: (u64, u64),
    /// When the pull began that is in force, if live columns make that matter.
    pulled: Option<i64>,
    /// Whether a start goes on from the machine's clock where the state's is ahead of it.
    clock_from_now: bool,
}

impl Simulation {
    fn new(seed: u64, rules: Rules) -> Simulation {
        let mut random = fastrand::Rng::with_seed(seed ^ 0x5eed);
        let mut sample = Sample::new(seed);
        let end = sample.flags.now;
        for file in &mut sample.files {
            // Of copies with other timestamps it depends on the moment of reading which one counts.
            for message in &mut file.messages {
                let timestamp = message.timestamp;
                message.id.iter_mut().for_each(|id| write!(id, "@{timestamp}").expect("a string"));
            }
            file.messages.retain(|message| message.timestamp <= end);
            // A value that an event sets is held against the start of the first pull, which is not known to the ms.
            let start = end - 100_000;
            let doubtful = |at: i64| (start..start + 2 * REST).contains(&at) || at >= end;
            file.messages
                .retain(|message| !["identify", "group"].contains(&message.kind) || !doubtful(message.timestamp));
            // Of late messages it depends on when they are read what came and went before.
            if seed.is_multiple_of(2) {
                file.messages.sort_by_key(|message| message.timestamp);
            }
        }
        let folder = tempfile::tempdir().expect("a folder for the test");
        sample.job.push_str("syncs:\n  all: {to: {stdout: {}}}\n  more: {to: {file: {path: more.jsonl}}}\n");
        write(&sample, folder.path());
        let plan = compile(&sample, folder.path());
        let world = World::new(random.u64(..), rules);
        let appended = vec![0; sample.files.len()];
        for file in &sample.files {
            world.add_partition(&file.source, &file.path);
        }
        let chance = fastrand::Rng::with_seed(random.u64(..));
        let ends = fastrand::Rng::with_seed(seed ^ 0x57_0b);
        Simulation {
            random,
            chance,
            ends,
            seed,
            sample,
            world,
            folder,
            plan,
            appended,
            log: String::new(),
            edits: 0,
            deaths: 0,
            stops: 0,
            kept_since: None,
            incomplete: (0, 0),
            pulled: None,
            clock_from_now: false,
        }
    }

    /// Draws from when on messages are kept: windows are incomplete at the start.
    fn with_retention(mut self) -> Simulation {
        let since = self.sample.flags.now - 100_000 - self.chance.i64(0..30_000);
        self.kept_since = Some(since);
        self.world.keep_since(since as u64);
        self
    }

    fn run(mut self) -> Result<Run, String> {
        let from = self.sample.flags.now - 100_000;
        let mut clock = from;
        let steps = self.random.usize(4..=12);
        self.world.set_clock(clock as u64);
        let mut job = self.start()?;
        self.await_first_pull(&job, clock)?;
        let mut zombies: Vec<Job> = Vec::new();
        for step in 0..steps {
            let before = clock + REST;
            clock += match self.random.u8(0..4) {
                0 => self.random.i64(REST..=200),
                1 | 2 => self.random.i64(200..=8_000),
                _ => self.random.i64(5_000..=40_000),
            };
            // Dates are held against histories that are read by their own clocks: while a job catches up.
            let down = self.random.u8(0..4) == 0 || self.seed.is_multiple_of(2);
            if down && self.ends.u8(0..3) == 0 {
                self.stop(&job, before..clock)?;
            } else if down {
                job = self.kill(job)?;
            } else if self.random.u8(0..2) == 0 {
                self.world.die_after(self.random.u64(1..=40));
            }
            let replaced = !down && self.random.u8(0..6) == 0;
            let edit = self.random.u8(0..5) == 0;
            // The clock first: nothing is of a future that a job which runs would refuse.
            self.world.set_clock(clock as u64);
            self.append(clock);
            if edit {
                job = self.kill(job)?;
                self.edit();
            }
            if replaced && !edit {
                // The running job goes on until it finds that it has been replaced.
                let new = self.start()?;
                zombies.push(std::mem::replace(&mut job, new));
            } else if !job.life.is_alive() || down || edit {
                self.join(job)?;
                job = self.start()?;
                if self.random.bool() {
                    self.world.die_after(self.random.u64(1..=40));
                }
            }
            let rested;
            (job, rested) = self.rest(job, clock)?;
            self.check(rested - 1, step)?;
            writeln!(self.log, "{step} {clock} {:?}, {} edits", self.appended, self.edits).expect("a string");
        }
        self.stop(&job, clock + REST..i64::MAX)?;
        self.join(job)?;
        for zombie in zombies {
            zombie.status.abort();
            // However it ended, it has sent nothing.
            let _ = zombie.thread.join();
        }
        let committed = self.world.committed_in_all();
        Ok(Run {
            log: self.log,
            deaths: self.deaths,
            edits: self.edits,
            stops: self.stops,
            committed,
            incomplete: self.incomplete,
        })
    }

    /// Waits until the first pull is in a checkpoint, if live columns make it matter when it began: no life pulls again.
    fn await_first_pull(&mut self, job: &Job, clock: i64) -> Result<(), String> {
        if !self.sample.job.contains("live:") {
            return Ok(());
        }
        self.world.ask_to_commit(true);
        let (mut now, since) = (clock as u64, Instant::now());
        while job.status.checkpoints().made == 0 {
            // A job is live a moment after the clock at which it had read everything.
            now = (now + u64::from(job.status.clock() + 1 >= now)).min((clock + REST) as u64);
            self.world.set_clock(now);
            if since.elapsed() > PATIENCE || job.thread.is_finished() {
                return Err(format!("the first checkpoint is not made: {}", job.progress()));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    /// Returns what has happened, of a sample with what was appended.
    fn history(&self, sample: &Sample) -> oracle::History {
        oracle::History { pulled: self.pulled, ..sample.history(&self.plan) }
    }

    /// Ends it as SIGTERM does, while the clock goes on. Where nothing dies meanwhile, all that it has read is in its
    /// last checkpoint.
    fn stop(&mut self, job: &Job, mut clock: Range<i64>) -> Result<(), String> {
        job.status.stop();
        let since = Instant::now();
        while !job.thread.is_finished() {
            if let Some(now) = clock.next() {
                self.world.set_clock(now as u64);
            }
            if since.elapsed() > PATIENCE {
                return Err(format!("the job does not stop: {}", job.progress()));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        self.stops += u64::from(job.life.is_alive());
        Ok(())
    }

    /// Ends it as kill -9 does.
    fn kill(&mut self, job: Job) -> Result<Job, String> {
        job.life.die();
        job.status.abort();
        Ok(job)
    }

    fn join(&mut self, job: Job) -> Result<(), String> {
        let result = job.thread.join().map_err(|_| "the job panicked".to_owned())?;
        let died = !job.life.is_alive();
        self.deaths += u64::from(died);
        match result {
            Err(failure) if !died => Err(format!("the job failed: {failure:?}")),
            _ => Ok(()),
        }
    }

    /// Appends what comes until `clock`, and now and then something of the future.
    fn append(&mut self, clock: i64) {
        let ahead = if self.random.u8(0..3) == 0 { self.random.i64(0..SKEW) } else { 0 };
        for (index, file) in self.sample.files.iter().enumerate() {
            let from = self.appended[index];
            let new = file.messages[from..].iter().take_while(|message| message.timestamp <= clock + ahead);
            let new: Vec<_> = new.collect();
            self.appended[index] += new.len();
            let kept = new.into_iter().filter(|message| self.kept_since.is_none_or(|since| message.timestamp >= since));
            let lines: Vec<String> = kept.map(usher_queries::testing::generator::SampleMessage::line).collect();
            self.world.append(&file.source, &file.path, lines);
        }
    }

    /// Changes the job file: windows get other lengths, which are other conditions.
    fn edit(&mut self) {
        let windows = ["1s", "2s", "5s", "10s", "30s", "60s"];
        let (from, to) = (windows[self.random.usize(0..6)], windows[self.random.usize(0..6)]);
        let (from, to) = (format!("\"within\":\"{from}\""), format!("\"within\":\"{to}\""));
        if self.sample.job.contains(&from) && from != to {
            self.sample.job = self.sample.job.replacen(&from, &to, 1);
            self.plan = compile(&self.sample, self.folder.path());
            self.edits += 1;
        }
    }

    fn start(&mut self) -> Result<Job, String> {
        self.start_for(Purpose::Run)
    }

    fn start_for(&mut self, purpose: Purpose) -> Result<Job, String> {
        let workers = self.chance.usize(1..=3);
        let life = self.world.new_life();
        let now = self.world.now() as i64;
        self.pulled.get_or_insert(now);
        self.world.note(format!("life {} starts with {workers} workers", life.number()));
        let store: Arc<dyn Store> = Arc::new(life.store());
        let job = &self.plan.job;
        let claim = match purpose {
            Purpose::Run => usher_dataflow::claim(&*store, &job.name, life.number()),
            Purpose::Foresee | Purpose::ForeseeByState => {
                usher_dataflow::before(&*store, &job.name).map(|state| state.manifest)
            }
        };
        let claim = claim.map_err(|error| error.to_string())?;
        let syncs = if purpose == Purpose::Run { 0..job.syncs.len() } else { 0..0 };
        syncs.clone().for_each(|sync| life.fence(sync));
        let ledgers: Vec<_> = (0..job.syncs.len()).map(|sync| self.world.ledger(sync, job)).collect();
        let in_ledgers: Vec<_> = ledgers.iter().flat_map(|ledger| ledger.audiences.iter().cloned()).collect();
        let catalog = Arc::new(job.catalog().with_removed(&in_ledgers));
        let sinks: Vec<Box<dyn Sink>> = syncs.map(|sync| life.sink(sync, job, &catalog)).collect();
        let mut sources: Vec<(String, Box<dyn Source>)> = Vec::new();
        for id in self.plan.job.sources.keys() {
            sources.push((id.clone(), Box::new(FakeSource::new(&life, id))));
        }
        let opened = OpenedJob {
            plan: self.plan.clone(),
            span: Span::Live,
            clock: Arc::clone(&self.world) as Arc<dyn Clock>,
            sources,
            warehouses: warehouses(&self.plan, self.folder.path()),
            sinks,
            catalog,
            recovery: Some(Recovery {
                purpose,
                store,
                incarnation: life.number(),
                claim: Some(claim),
                ledgers,
                checkpoint_every: Duration::from_millis(self.chance.u64(1..=60)),
                restart_sources: false,
                clock_from_now: self.clock_from_now,
            }),
            cluster: None,
            api: None,
            dead_letters: Arc::new(
                DeadLetterWriter::open(None, self.folder.path(), &|_| None).expect("the log takes dead letters"),
            ),
            workers,
            cores: 2 * workers,
        };
        let audiences = self.plan.models.iter().map(|model| model.audiences.len()).sum();
        let status = Status::new(workers, audiences);
        life.end_with(Arc::clone(&status));
        let thread = {
            let status = Arc::clone(&status);
            std::thread::spawn(move || usher_dataflow::run(opened, &status))
        };
        Ok(Job { life, status, thread })
    }

    /// Waits until all that was appended has been read and everything before the clock is committed; starts the job
    /// again where it dies meanwhile.
    ///
    /// Returns up to when, exclusive: a little later for each life that may have come to where the one before it did.
    fn rest(&mut self, mut job: Job, clock: i64) -> Result<(Job, i64), String> {
        let mut rested = (clock + REST) as u64;
        let mut since = Instant::now();
        let mut dies = self.random.u8(0..4) == 0;
        loop {
            self.world.ask_to_commit(false);
            self.world.set_clock(clock as u64);
            while !job.life.has_read_all() {
                if job.thread.is_finished() {
                    break;
                }
                if since.elapsed() > PATIENCE {
                    return Err(format!("the job does not read on: {}", job.progress()));
                }
                std::thread::sleep(Duration::from_micros(200));
            }
            // A little later all that was read has taken effect, and a job that has just started is live.
            let mut now = clock as u64;
            while !job.status.live() && now + 1 < rested && !job.thread.is_finished() {
                // A job is live a moment after the clock at which it had read everything.
                now += u64::from(job.status.clock() + 1 >= now);
                self.world.set_clock(now);
                if since.elapsed() > PATIENCE {
                    return Err(format!("the job does not go live: {}", job.progress()));
                }
                std::thread::sleep(Duration::from_micros(200));
            }
            // Some checkpoints are made while syncs have not committed.
            std::thread::sleep(Duration::from_millis(self.chance.u64(0..30)));
            if std::mem::take(&mut dies) {
                job.life.die();
                job.status.abort();
            }
            self.world.ask_to_commit(true);
            self.world.set_clock(rested);
            while !job.life.has_committed(rested) && !job.thread.is_finished() {
                if since.elapsed() > PATIENCE {
                    return Err(format!(
                        "the job does not come to rest by {rested}: {}\n{}",
                        job.progress(),
                        self.world.notes()
                    ));
                }
                std::thread::sleep(Duration::from_micros(200));
            }
            if job.life.has_committed(rested) && job.life.has_read_all() {
                return Ok((job, rested as i64));
            }
            self.join(job)?;
            job = self.start()?;
            rested += 3;
            since = Instant::now();
        }
    }

    fn check(&mut self, clock: i64, step: usize) -> Result<(), String> {
        let mut sample = self.sample.clone();
        for (file, appended) in sample.files.iter_mut().zip(&self.appended) {
            file.messages.truncate(*appended);
            // Under a live clock an event counts from its own time on, whatever comes before it.
            file.messages.sort_by_key(|message| message.timestamp);
            file.messages.retain(|message| self.kept_since.is_none_or(|since| message.timestamp >= since));
        }
        if let Some(since) = self.kept_since.filter(|since| clock < since + LONGEST) {
            return self.check_incomplete(&sample, clock, since);
        }
        let want = oracle::members(&self.plan, &self.history(&sample), clock + SKEW, clock);
        for (sync, id) in self.plan.job.syncs.keys().enumerate() {
            let members = self.world.check(sync).map_err(|what| format!("sync {id}: {what}"))?;
            if members != want {
                let wrong: Vec<_> = members.symmetric_difference(&want).collect();
                let key = &wrong[0].1;
                let events = sample.files.iter().flat_map(|file| &file.messages).map(|message| message.line());
                let events: Vec<String> = events.filter(|line| line.contains(&format!("{key:?}"))).collect();
                return Err(format!(
                    "sync {id}: {wrong:?} are {} in step {step} at {clock}\n{}committed of it:\n{}\nits events:\n{}",
                    if members.contains(wrong[0]) { "members who should not be" } else { "no members but should be" },
                    self.log,
                    self.world.notes(),
                    events.join("\n")
                ));
            }
        }
        if self.edits == 0 && self.seed.is_multiple_of(2) && self.kept_since.is_none() {
            self.check_dates(&sample, clock)?;
        }
        Ok(())
    }
}

impl Simulation {
    /// While windows are incomplete all are members who would enter at a start now, and nobody is whose conditions do not hold.
    /// Who else is one depends on who was before. An audience that mentions others follows who is a member of those.
    fn check_incomplete(&mut self, sample: &Sample, clock: i64, since: i64) -> Result<(), String> {
        let history = self.history(sample);
        let holding = oracle::members(&self.plan, &history, clock + SKEW, clock);
        let admitted = oracle::members_since(&self.plan, &history, clock + SKEW, clock, since);
        let mentions = |id: &str| {
            let mut mentions = false;
            let audiences = self.plan.models.iter().flat_map(|model| &model.audiences);
            let of = audiences.filter(|audience| audience.id == id);
            of.for_each(|audience| audience.expr.leaves(&mut |_| (), &mut |_| mentions = true));
            mentions
        };
        for (sync, id) in self.plan.job.syncs.keys().enumerate() {
            let members = self.world.check(sync).map_err(|what| format!("sync {id}: {what}"))?;
            let missing: Vec<_> = admitted.difference(&members).collect();
            let wrong: Vec<_> = members.difference(&holding).filter(|(audience, _)| !mentions(audience)).collect();
            if !missing.is_empty() || !wrong.is_empty() {
                let (log, notes) = (&self.log, self.world.notes());
                return Err(format!(
                    "sync {id}: {missing:?} should be members, {wrong:?} should not, at {clock} since {since}\n{log}{notes}"
                ));
            }
            self.incomplete.1 += holding.difference(&members).count() as u64;
        }
        self.incomplete.0 += 1;
        Ok(())
    }

    /// The exit of a membership whose window ended while the job was down has the reason `expiry` and the window's end as its time.
    fn check_dates(&self, sample: &Sample, clock: i64) -> Result<(), String> {
        let flags = oracle::Flags { from: None, until: Some(clock), now: clock + SKEW };
        let changes = oracle::changes(&self.plan, &self.history(sample), flags);
        for (sync, id) in self.plan.job.syncs.keys().enumerate() {
            for exit in self.world.recovered_exits(sync) {
                let of = |change: &&oracle::Change| (&change.audience, &change.key) == (&exit.audience, &exit.key);
                let before = changes.iter().filter(of).rfind(|change| change.at <= exit.at as i64);
                if let Some(change) = before
                    && !change.entry
                    && change.reason == oracle::Reason::Expiry
                {
                    let notes = self.world.notes();
                    let lives = notes
                        .lines()
                        .filter(|line| line.contains(&format!("{:?}", exit.key)) || line.contains("starts"));
                    let events = sample.files.iter().flat_map(|file| &file.messages).map(|message| message.line());
                    let events: Vec<String> = events.filter(|line| line.contains(&format!("{:?}", exit.key))).collect();
                    return Err(format!(
                        "sync {id}: {exit:?} should be {change:?}\n{}{}\nits events:\n{}",
                        self.log,
                        lives.collect::<Vec<_>>().join("\n"),
                        events.join("\n")
                    ));
                }
            }
        }
        Ok(())
    }
}

pub fn warehouses(plan: &Plan, folder: &Path) -> Vec<Option<Box<dyn Warehouse>>> {
    let open = |parquet: &str| -> Box<dyn Warehouse> {
        Box::new(ParquetWarehouse::new(parquet, folder).expect("a path is a warehouse"))
    };
    plan.models.iter().map(|model| model.snapshot.as_ref().map(|snapshot| open(&snapshot.parquet))).collect()
}

fn simulate(seed: u64, rules: Rules) -> Result<Run, String> {
    let simulation = Simulation::new(seed, rules);
    let (seed, job) = (simulation.seed, simulation.sample.job.clone());
    simulation.run().map_err(|what| format!("seed {seed}: {what}\n{job}"))
}

/// Runs seeds until one of them fails.
fn first_failure(rules: Rules) -> Option<String> {
    (0..200).find_map(|seed| simulate(seed, rules).err())
}

/// Waits until something of a job holds, while the clock goes on from `clock`; returns where it is then.
fn ticks_until(world: &World, job: &Job, mut clock: i64, holds: impl Fn(&Job) -> bool) -> i64 {
    let since = Instant::now();
    while !holds(job) {
        assert!(since.elapsed() < PATIENCE && !job.thread.is_finished(), "{}", job.progress());
        world.set_clock(clock as u64);
        clock += 1;
        std::thread::sleep(Duration::from_micros(200));
    }
    clock
}

#[test]
fn a_state_whose_clock_is_ahead_waits_and_commits_nothing_when_it_is_stopped_and_goes_on_from_now_if_asked_to() {
    const HOUR: i64 = 3_600_000;
    let mut entries = 0;
    for seed in 0..8 {
        let mut simulation = Simulation::new(seed, Rules::default());
        let world = Arc::clone(&simulation.world);
        let clock = simulation.sample.flags.now;
        world.set_clock(clock as u64);
        simulation.append(clock);
        let job = simulation.start().expect("it starts");
        let (job, rested) = simulation.rest(job, clock).expect("it comes to rest");
        simulation.check(rested - 1, 0).unwrap_or_else(|what| panic!("{what}"));
        simulation.stop(&job, rested..i64::MAX).expect("it stops");
        simulation.join(job).expect("it ends well");
        let committed = world.committed_in_all();
        entries += committed;

        // The machine's clock is an hour back.
        world.set_clock((clock - HOUR) as u64);
        let job = simulation.start().expect("it starts");
        let now =
            ticks_until(&world, &job, clock - HOUR, |job| job.life.has_read_all() && job.status.clock_ahead() > 0);
        assert!((HOUR as u64 - 60_000..=HOUR as u64 + 60_000).contains(&job.status.clock_ahead()), "seed {seed}");
        assert!(!job.status.live(), "seed {seed}");
        simulation.stop(&job, now..clock - 60_000).expect("it stops");
        simulation.join(job).expect("it ends well");
        assert_eq!(world.committed_in_all(), committed, "seed {seed}: nothing is committed ahead of time");

        simulation.clock_from_now = true;
        world.set_clock((clock - HOUR) as u64);
        let job = simulation.start().expect("it starts");
        let now = ticks_until(&world, &job, clock - HOUR, |job| job.status.live());
        let dated_ahead = world.dated_after(rested as u64);
        simulation.stop(&job, now..clock).expect("it stops");
        simulation.join(job).expect("it ends well");
        assert_eq!(dated_ahead, 0, "seed {seed}");
        assert!(now < clock - HOUR + 60_000, "seed {seed}: it waits for nothing");
    }
    assert!(entries > 0, "some seed has members");
}

#[test]
fn while_windows_are_incomplete_nobody_enters_whose_membership_could_come_from_missing_events() {
    let (mut deaths, mut edits, mut committed, mut incomplete) = (0, 0, 0, (0, 0));
    for seed in seeds("USHER_SIMULATE", 60) {
        let simulation = Simulation::new(seed, Rules::default()).with_retention();
        let job = simulation.sample.job.clone();
        let run = simulation.run().unwrap_or_else(|what| panic!("seed {seed}: {what}\n{job}"));
        (deaths, edits, committed) = (deaths + run.deaths, edits + run.edits, committed + run.committed);
        incomplete = (incomplete.0 + run.incomplete.0, incomplete.1 + run.incomplete.1);
    }
    let reached = deaths > 0 && edits > 0 && committed > 0 && incomplete.0 > 20 && incomplete.1 > 20;
    assert!(reached, "{deaths} deaths, {edits} edits, {committed} changes, (looks, held): {incomplete:?}");
}

#[test]
fn what_rows_read_of_parents_is_restored_with_them() {
    // One ledger is ahead of another here, so the first epoch begins later than the time as of which rows are restored. Rows that were joined
    // as of the later time gave an exit a wrong date (seed 5816, in half of its runs). A worker that joined rows before other workers had
    // restored theirs ended the job (169, in a sixth of its runs; 3081, seldom).
    for seed in [5816, 169, 3081].repeat(4) {
        simulate(seed, Rules::default()).unwrap_or_else(|what| panic!("{what}"));
    }
}

#[test]
fn a_job_that_is_not_fenced_is_noticed() {
    let what = first_failure(Rules { fence: false, ..Rules::default() }).expect("a replaced job sends something twice");
    assert!(what.contains("came twice") || what.contains("does not alternate") || what.contains("members"), "{what}");
}

#[test]
fn a_manifest_before_the_commit_is_noticed() {
    let what = first_failure(Rules { report_after_commit: false, ..Rules::default() }).expect("an exit loses its date");
    assert!(what.contains("should be"), "{what}");
}

#[test]
fn downstream_sees_no_difference_when_a_job_dies() {
    let (mut deaths, mut edits, mut stops, mut committed) = (0, 0, 0, 0);
    for seed in seeds("USHER_SIMULATE", 200) {
        let run = simulate(seed, Rules::default()).unwrap_or_else(|what| panic!("{what}"));
        (deaths, edits, stops, committed) =
            (deaths + run.deaths, edits + run.edits, stops + run.stops, committed + run.committed);
    }
    let again = |seed| simulate(seed, Rules::default()).unwrap_or_else(|what| panic!("{what}")).log;
    assert_eq!(again(7), again(7), "a seed is logged the same each time");
    let reached = deaths > 0 && edits > 0 && stops > 0 && committed > 0;
    assert!(
        reached || seeds("USHER_SIMULATE", 200).count() < 20,
        "{deaths} deaths, {edits} edits, {stops} stops, {committed} changes"
    );
}
