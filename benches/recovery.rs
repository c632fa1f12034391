//! What recovery costs: a start after kill -9, checkpoints while events flow, and a start after an hour of downtime.
//!
//! All with 1 M users in the state, each in the ledger of the sync, from file to file. Aims: after kill -9 the ledger is
//! served within 2 s and the job is live within 10 s; checkpoints cost less than 10 % and make no epoch longer than 50 ms.
//! Times are taken from the program's log, its `/metrics` and `/proc`.
//!
//! ```text
//! cargo bench --bench recovery                                       # what is in docs/BENCHMARKS.md
//! cargo bench --bench recovery -- --part restart
//! cargo bench --bench recovery -- --part cost --rounds 5 --every 2
//! cargo bench --bench recovery -- --part live
//! cargo bench --bench recovery -- --part changes --users 10000000    # a checkpoint of all keys, and of 1 % of them
//! cargo bench --bench recovery -- --part downtime --users 100000     # needs `faketime`: the job ran an hour ago
//! ```

// A benchmark's figures are its output.
#![allow(clippy::print_stdout)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::net::TcpStream;
use std::ops::Sub;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The port of the API.
const PORT: u16 = 18_417;
/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(300);
/// An hour, ms.
const HOUR: u64 = 3_600_000;

struct Flags {
    part: String,
    users: u64,
    /// Messages of each turn of `cost`.
    events: u64,
    rounds: usize,
    /// From one checkpoint to the next, s, where there are many.
    every: u64,
    /// Messages a second of `live` and `downtime`.
    rate: u64,
}

fn main() {
    let flags = flags();
    for (part, run) in [
        ("restart", restart as fn(&Flags)),
        ("cost", cost),
        ("live", live),
        ("changes", changes),
        ("downtime", downtime),
    ] {
        if flags.part == "all" || flags.part == part {
            run(&flags);
        }
    }
}

fn flags() -> Flags {
    let part = "all".to_owned();
    let mut flags = Flags { part, users: 1_000_000, events: 3_000_000, rounds: 3, every: 5, rate: 1_000 };
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    while let Some(flag) = args.next() {
        let value = args.next().unwrap_or_else(|| panic!("`{flag}` wants a value"));
        let number = || value.parse().unwrap_or_else(|_| panic!("`{flag}` wants a number"));
        match flag.as_str() {
            "--part" => flags.part.clone_from(&value),
            "--users" => flags.users = number(),
            "--events" => flags.events = number(),
            "--rounds" => flags.rounds = number() as usize,
            "--every" => flags.every = number(),
            "--rate" => flags.rate = number(),
            _ => panic!("`{flag}` is none of --part, --users, --events, --rounds, --every, --rate"),
        }
    }
    flags
}

// --- The job and its events ---

/// A job in a folder of its own, and the file that it reads.
struct Place {
    folder: PathBuf,
    events: BufWriter<File>,
    written: u64,
}

impl Place {
    /// `audiences`: lines of the job file.
    fn new(name: &str, audiences: &str) -> Place {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("recovery-{name}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("the folder for the data can be made");
        let events = File::create(folder.join("events.jsonl")).expect("the folder can be written");
        let place = Place { folder, events: BufWriter::with_capacity(1 << 20, events), written: 0 };
        place.job(audiences, "1h");
        place
    }

    fn job(&self, audiences: &str, checkpoint_every: &str) {
        let job = format!(
            "job: recovery
sources: {{web: {{file: {{path: events.jsonl, follow: true}}, format: segment}}}}
models: {{users: {{key: user_id, members: any}}}}
events:
  joined: {{source: web, type: track, name: Joined, model: users}}
  viewed: {{source: web, type: track, name: Viewed, model: users}}
  bought: {{source: web, type: track, name: Bought, model: users}}
audiences:
{audiences}syncs: {{crm: {{to: {{file: {{path: changes.jsonl}}}}}}}}
state: {{url: state, checkpoint_every: {checkpoint_every}}}
api: {{listen: \"127.0.0.1:{PORT}\"}}
"
        );
        fs::write(self.folder.join("job.yaml"), job).expect("the folder can be written");
    }

    /// Appends a message of some 300 bytes.
    fn event(&mut self, what: &str, user: u64, timestamp: u64) {
        write_event(&mut self.events, self.written, what, user, timestamp);
        self.written += 1;
    }

    fn flush(&mut self) {
        self.events.flush().expect("the folder can be written");
    }

    /// Everybody joins, in the hour before `end`.
    fn all_join(&mut self, users: u64, end: u64) {
        for user in 0..users {
            self.event("Joined", user, end - (users - user) * HOUR / users);
        }
        self.flush();
    }

    /// Brings it to where all have joined, are committed and are in a checkpoint; tells how long it took to go live. Each has
    /// viewed so many times.
    fn prepare(&mut self, users: u64, views: u64) -> Duration {
        self.all_join(users, now() - HOUR);
        for number in 0..users * views {
            self.event("Viewed", number * 7_368_787 % users, now() - HOUR / 2);
        }
        self.flush();
        let run = Run::start(&self.folder);
        let took = run.says("live after");
        run.checkpoint(1);
        run.stop();
        took
    }
}

fn write_event(to: &mut impl Write, id: u64, what: &str, user: u64, timestamp: u64) {
    writeln!(
        to,
        r#"{{"anonymousId":"{id:016x}-a2b1","context":{{"app":{{"name":"Shop","version":"5.4.1"}},"ip":"10.8.0.1","library":{{"name":"analytics.js","version":"2.11.1"}},"locale":"en-US"}},"messageId":"m-{id}","type":"track","event":"{what}","properties":{{"category":"shoes","sku":"S-1234","currency":"EUR"}},"timestamp":{timestamp},"userId":"user-{user:07}"}}"#
    )
    .expect("it can be written");
}

const JOINED: &str = "  members: {model: users, where: {performed: joined, within: 30d}}\n";

/// Who views is in them or not after the first few times, as it is in a job that has run for a while.
const VIEWERS: &str = "  members: {model: users, where: {performed: joined, within: 30d}}
  viewers: {model: users, where: {performed: viewed, within: 4h}}
  keen: {model: users, where: {performed: viewed, at_least: 3, within: 6h}}
  idle: {model: users, where: {all: [{performed: viewed, at_least: 2, within: 24h}, {not: {performed: bought, within: 24h}}]}}
";

fn now() -> u64 {
    jiff::Timestamp::now().as_millisecond() as u64
}

// --- A running job ---

struct Run {
    child: Child,
    since: Instant,
    said: Arc<Mutex<Vec<(Duration, String)>>>,
}

impl Run {
    fn start(folder: &Path) -> Run {
        Run::start_as(Command::new(env!("CARGO_BIN_EXE_usher")), folder)
    }

    fn start_as(mut command: Command, folder: &Path) -> Run {
        let since = Instant::now();
        let mut child = command
            .args(["run", "job.yaml"])
            .env("USHER_LOG", "info,usher_dataflow=debug")
            .current_dir(folder)
            .stderr(Stdio::piped())
            .spawn()
            .expect("usher starts");
        let stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let said: Arc<Mutex<Vec<(Duration, String)>>> = Arc::default();
        let hears = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                hears.lock().expect("nobody panics with it").push((since.elapsed(), line));
            }
        });
        Run { child, since, said }
    }

    fn all(&self) -> String {
        let said = self.said.lock().expect("nobody panics with it");
        said.iter().map(|(_, line)| format!("{line}\n")).collect()
    }

    fn find(&self, what: &str, nth: usize) -> Option<(Duration, String)> {
        let said = self.said.lock().expect("nobody panics with it");
        said.iter().filter(|(_, line)| line.contains(what)).nth(nth).cloned()
    }

    fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let since = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(since.elapsed() < PATIENCE, "it never came to `{what}`:\n{}", self.all());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// When it said something first.
    fn says(&self, what: &str) -> Duration {
        self.until(what, || self.find(what, 0)).0
    }

    /// Waits for so many checkpoints in all; tells the log line of the last.
    fn checkpoint(&self, count: usize) -> String {
        self.until("checkpoint", || self.find(" checkpoint took_ms", count - 1)).1
    }

    /// How many checkpoints it has made.
    fn checkpoints(&self) -> usize {
        self.all().matches(" checkpoint took_ms").count()
    }

    /// When an answer is there that somebody who was committed of is a member.
    fn serves(&self) -> Duration {
        self.until("a lookup", || {
            let answer = get("/v1/audiences/users/user-0000007")?;
            answer.contains("\"members\"").then(|| self.since.elapsed())
        })
    }

    /// The most memory it ever had, bytes.
    fn peak(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("Linux tells");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
    }

    /// Ms of processor that it has used.
    fn used(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        let fields: Vec<&str> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
        (fields[11].parse::<u64>().expect("a number") + fields[12].parse::<u64>().expect("a number")) * 10
    }

    fn kill(mut self) {
        self.child.kill().expect("the child is ours");
        self.child.wait().expect("the child is ours");
    }

    /// Stops it, and tells what it said.
    fn stop(mut self) -> String {
        let killed = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(killed.is_ok_and(|status| status.success()));
        let ended = self.child.wait().expect("the child is ours");
        assert!(ended.success(), "{}", self.all());
        std::thread::sleep(Duration::from_millis(50));
        self.all()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", PORT)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{PORT}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/1.1 200").then_some(answer)
}

/// How many epochs took how long, of all workers since the start.
#[derive(Clone, Copy)]
struct Epochs {
    all: u64,
    over_30_ms: u64,
    over_50_ms: u64,
    over_100_ms: u64,
}

impl Epochs {
    fn now() -> Epochs {
        let metrics = get("/metrics").expect("the API answers");
        let value = |name: &str| {
            let line = metrics.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
            line.rsplit(' ').next().and_then(|n| n.parse::<f64>().ok()).expect("a number") as u64
        };
        let all = value("usher_epoch_seconds_count");
        let over = |bound: &str| all - value(&format!("usher_epoch_seconds_bucket{{le=\"{bound}\"}}"));
        Epochs { all, over_30_ms: over("0.03"), over_50_ms: over("0.05"), over_100_ms: over("0.1") }
    }
}

impl Sub for Epochs {
    type Output = Epochs;

    fn sub(self, before: Epochs) -> Epochs {
        Epochs {
            all: self.all - before.all,
            over_30_ms: self.over_30_ms - before.over_30_ms,
            over_50_ms: self.over_50_ms - before.over_50_ms,
            over_100_ms: self.over_100_ms - before.over_100_ms,
        }
    }
}

impl std::fmt::Display for Epochs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Epochs { all, over_30_ms, over_50_ms, over_100_ms } = self;
        write!(f, "{all} epochs, longer than 30 ms: {over_30_ms}, 50 ms: {over_50_ms}, 100 ms: {over_100_ms}")
    }
}

fn lag(said: &str) -> &str {
    said.lines().find(|line| line.starts_with("max lag since live")).unwrap_or("it was never live")
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

// --- The parts ---

/// Kill -9 with everybody in the state and committed; start again.
fn restart(flags: &Flags) {
    let users = flags.users;
    let mut place = Place::new("restart", JOINED);
    let first = place.prepare(users, 0);
    println!(
        "restart: {users} users join; live the first time, with all committed, after {:.1} s",
        first.as_secs_f64()
    );
    let (mut serve, mut go_live) = (Vec::new(), Vec::new());
    for _ in 0..flags.rounds {
        let run = Run::start(&place.folder);
        let (serves, live) = (run.serves().as_secs_f64(), run.says("live after").as_secs_f64());
        let made = run.checkpoint(1);
        let made = made.rsplit("checkpoint ").next().unwrap_or_default();
        let peak = run.peak() as f64 / 1e9;
        println!(
            "restart: serves the ledgers after {serves:.2} s, live after {live:.2} s, peak {peak:.2} GB; checkpoint {made}"
        );
        serve.push(serves);
        go_live.push(live);
        run.kill();
    }
    println!("restart: medians {:.2} s and {:.2} s", median(&mut serve), median(&mut go_live));
}

/// Messages read as fast as they can be, with many checkpoints and with none after the first.
fn cost(flags: &Flags) {
    let (users, mut ratios) = (flags.users, Vec::new());
    let mut place = Place::new("cost", VIEWERS);
    place.prepare(users, 3);
    let mut rng = fastrand::Rng::with_seed(7);
    let every = [format!("{}s", flags.every), "1h".to_owned()];
    let new = place.folder.join("new.jsonl");
    for round in 0..flags.rounds {
        let mut rates = [0.0; 2];
        // One after the other, and the other way round in the next round.
        for turn in [round % 2, 1 - round % 2] {
            let mut messages =
                BufWriter::with_capacity(1 << 20, File::create(&new).expect("the folder can be written"));
            let at = now();
            for number in 0..flags.events {
                let what = if rng.u32(0..20) == 0 { "Bought" } else { "Viewed" };
                write_event(&mut messages, place.written + number, what, rng.u64(0..users), at);
            }
            place.written += flags.events;
            messages.flush().expect("the folder can be written");
            place.flush();
            let place_of_last = {
                let length = |path: &Path| fs::metadata(path).expect("it was written").len();
                // Any position in the last line but its first is behind all others.
                length(&place.folder.join("events.jsonl")) + length(&new) - 1
            };

            place.job(VIEWERS, &every[turn]);
            let run = Run::start(&place.folder);
            run.says("live after");
            run.checkpoint(1);
            let (used, made, epochs) = (run.used(), run.checkpoints(), Epochs::now());
            let since = Instant::now();
            let mut messages = File::open(&new).expect("it was written");
            std::io::copy(&mut messages, place.events.get_mut()).expect("the folder can be written");
            // Answered when all that stands before has taken effect.
            let last =
                format!("/v1/audiences/users/user-0000007?after=web:events.jsonl:{place_of_last}&timeout_ms=50000");
            run.until("all is reflected", || get(&last));
            let took = since.elapsed().as_secs_f64();
            let (used, epochs, made) =
                ((run.used() - used) as f64 / 1e3, Epochs::now() - epochs, run.checkpoints() - made);
            let peak = run.peak() as f64 / 1e9;
            let said = run.stop();
            rates[turn] = flags.events as f64 / took;
            println!(
                "cost: every {}: {:.0} k/s, {took:.1} s, {used:.1} s of processor, {made} checkpoints, peak {peak:.2} GB; {epochs}; {}",
                every[turn],
                rates[turn] / 1e3,
                lag(&said)
            );
        }
        ratios.push(rates[0] / rates[1]);
    }
    println!("cost: with a checkpoint each {}, {:.3} of the rate without", every[0], median(&mut ratios));
}

/// Messages as they come, with many checkpoints and without: how far behind the clock does it get?
fn live(flags: &Flags) {
    let mut place = Place::new("live", VIEWERS);
    place.prepare(flags.users, 3);
    let mut rng = fastrand::Rng::with_seed(11);
    for every in ["1h".to_owned(), format!("{}s", flags.every)] {
        place.job(VIEWERS, &every);
        let run = Run::start(&place.folder);
        run.says("live after");
        run.checkpoint(1);
        let (since, used, epochs, mut sent) = (Instant::now(), run.used(), Epochs::now(), 0);
        while since.elapsed() < Duration::from_secs(20) {
            let due = (since.elapsed().as_secs_f64() * flags.rate as f64) as u64;
            while sent < due {
                place.event("Viewed", rng.u64(0..flags.users), now());
                sent += 1;
            }
            place.flush();
            std::thread::sleep(Duration::from_millis(5));
        }
        let (used, epochs, made) = ((run.used() - used) as f64 / 1e3, Epochs::now() - epochs, run.checkpoints());
        let said = run.stop();
        println!("live: every {every}: {made} checkpoints, {used:.1} s of processor in 20 s; {epochs}; {}", lag(&said));
    }
}

/// What a checkpoint of all keys costs, and one after 1 % of them have changed.
fn changes(flags: &Flags) {
    let mut place = Place::new("changes", VIEWERS);
    place.prepare(flags.users, 0);
    place.job(VIEWERS, "10s");
    let run = Run::start(&place.folder);
    run.says("live after");
    let used = run.used();
    let all = Written::of(&run.checkpoint(1), run.used() - used);
    let mut rng = fastrand::Rng::with_seed(5);
    for _ in 0..flags.users / 100 {
        place.event("Viewed", rng.u64(0..flags.users), now());
    }
    place.flush();
    let end = fs::metadata(place.folder.join("events.jsonl")).expect("it was written").len() - 1;
    let reflected = format!("/v1/audiences/users/user-0000007?after=web:events.jsonl:{end}&timeout_ms=5000");
    run.until("all is reflected", || get(&reflected));
    assert_eq!(run.checkpoints(), 1, "1 % changed within the time between two checkpoints");
    let used = run.used();
    let changed = Written::of(&run.checkpoint(2), run.used() - used);
    let part = |of: fn(&Written) -> u64| of(&changed) as f64 / of(&all) as f64;
    println!("changes: all {} keys: {all}; 1 %: {changed}", flags.users);
    println!("changes: {:.3} of the processor time, {:.3} of the bytes", part(|of| of.used), part(|of| of.bytes));
    run.kill();
    let run = Run::start(&place.folder);
    println!("changes: live again after {:.2} s", run.says("live after").as_secs_f64());
}

/// What a checkpoint took.
struct Written {
    bytes: u64,
    /// Ms from its mark to the published manifest.
    took: u64,
    /// Ms of processor.
    used: u64,
}

impl Written {
    /// Reads the log's line of a checkpoint.
    fn of(line: &str, used: u64) -> Written {
        let value = |name: &str| {
            let value = line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in `{line}`"))
        };
        Written { bytes: value("written"), took: value("took_ms"), used }
    }
}

impl std::fmt::Display for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Written { bytes, took, used } = self;
        write!(f, "{bytes} bytes, {used} ms of processor, {took} ms")
    }
}

/// What a process has in its environment to which it is an hour ago.
fn an_hour_ago() -> Option<Vec<(String, String)>> {
    // `faketime` itself would stand between us and the process.
    let output = Command::new("faketime").args(["-m", "--exclude-monotonic", "-f", "-1h", "env"]).output().ok()?;
    let variables = String::from_utf8_lossy(&output.stdout).into_owned();
    let ours = variables.lines().filter(|line| line.contains("FAKETIME") || line.starts_with("LD_PRELOAD="));
    // Memory that it shares with its own process.
    let ours = ours.filter(|line| !line.starts_with("FAKETIME_SHARED="));
    Some(
        ours.filter_map(|line| line.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
    )
}

/// A job that was down for an hour, in which events came and the windows of half of all users ended.
fn downtime(flags: &Flags) {
    let Some(an_hour_ago) = an_hour_ago() else {
        return println!("downtime: not measured: `faketime` is not installed (in a package of that name)");
    };
    let audiences = format!(
        "{JOINED}  recent: {{model: users, where: {{performed: viewed, within: 1h}}}}
  buyers: {{model: users, where: {{performed: bought, at_least: 3, within: 30m}}}}\n"
    );
    let mut place = Place::new("downtime", &audiences);
    let (users, down) = (flags.users, now() - HOUR);
    place.all_join(users, down - HOUR);
    let viewed = users / 2;
    for number in 0..viewed {
        // Their windows end in the hour that the job is down.
        place.event("Viewed", number, down - HOUR + 120_000 + number * (HOUR - 120_000) / viewed);
    }
    place.flush();
    let mut then = Command::new(env!("CARGO_BIN_EXE_usher"));
    then.envs(an_hour_ago);
    let run = Run::start_as(then, &place.folder);
    run.says("live after");
    run.checkpoint(1);
    let before = run.peak() as f64 / 1e9;
    let said = run.stop();
    println!("downtime: an hour ago: {}", said.lines().find(|line| line.starts_with("ledger ")).unwrap_or_default());

    let mut rng = fastrand::Rng::with_seed(9);
    let events = flags.rate * 3_600;
    for number in 0..events {
        place.event("Bought", rng.u64(0..users), down + number * HOUR / events);
    }
    place.flush();
    let run = Run::start(&place.folder);
    let live = run.says("live after").as_secs_f64();
    run.checkpoint(1);
    let (peak, epochs) = (run.peak() as f64 / 1e9, Epochs::now());
    let said = run.stop();
    let ledger = said.lines().find(|line| line.starts_with("ledger ")).unwrap_or_default();
    println!(
        "downtime: {events} events; live after {live:.1} s, peak {peak:.2} GB (before: {before:.2} GB); {epochs}; {ledger}; {}",
        lag(&said)
    );
}
