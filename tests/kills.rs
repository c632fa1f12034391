//! A job under load that is killed again and again, in one process and in two: its changes are those of a job without
//! kills.
//!
//! `USHER_KILLS=100 cargo test --release --test usher kills -- --nocapture` kills more often than the ten times of every
//! test run, and prints the figures.

use crate::support::process::{Process, members, now, parse, pass, start_all, until};
use crate::support::rows::run;
use crate::support::shop::{CRM, Shop, job, without_marks};
use std::collections::VecDeque;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const AUDIENCES: &str = "
  active: {model: users, where: {performed: viewed, within: 1s}}
  often: {model: users, where: {performed: viewed, at_least: 20, within: 5s}}
  keen: {model: users, where: {performed: bought, at_least: 3, within: 1h}}
  calm: {model: users, where: {all: [{property: ltv > 15}, {not: {performed: bought, within: 2s}}]}}
";

/// The longest of the windows that end within the test, ms.
const LONGEST: i64 = 5_000;

fn kills() -> u64 {
    std::env::var("USHER_KILLS").map_or(10, |text| text.parse().expect("USHER_KILLS is a number"))
}

/// Appends events until `over`; counts them in `written`.
fn load(events: &Path, seed: u64, over: &AtomicBool, written: &AtomicU64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut file = std::fs::OpenOptions::new().append(true).open(events).expect("the shop has events");
    let mut number = 0;
    let mut recent: VecDeque<String> = VecDeque::new();
    while !over.load(Ordering::Relaxed) {
        let mut lines = String::new();
        for _ in 0..random.u64(1..20) {
            // Now and then one comes again, or late.
            let line = if !recent.is_empty() && random.u8(0..20) == 0 {
                recent[random.usize(0..recent.len())].clone()
            } else {
                let what = if random.u8(0..10) == 0 { "Bought" } else { "Viewed" };
                let at = now() - if random.u8(0..10) == 0 { random.i64(0..1_500) } else { 0 };
                // At each moment some are away, so that windows end.
                let away = now() / 1_500 % 3;
                let user = std::iter::repeat_with(|| random.i64(0..10)).find(|user| user % 3 != away);
                let user = user.expect("it goes on until one is found");
                format!(
                    "{{\"type\":\"track\",\"event\":\"{what}\",\"userId\":\"u-{user}\",\"messageId\":\"l{number}\",\"timestamp\":{at}}}\n"
                )
            };
            lines += &line;
            recent.push_front(line);
            recent.truncate(20);
            number += 1;
        }
        file.write_all(lines.as_bytes()).expect("the file can be written");
        written.store(number, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn killed_again_and_again(seed: u64, processes: usize) {
    let shop = Shop::new(&job(AUDIENCES, CRM));
    let mut random = fastrand::Rng::with_seed(seed);
    let (over, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let events = shop.path("events.jsonl");
    let since = Instant::now();
    let (mut live, mut longest) = (0, Duration::ZERO);
    std::thread::scope(|scope| {
        // Also when something below panics.
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _over = Over(&over);
        scope.spawn(|| load(&events, seed, &over, &written));
        for _ in 0..kills() {
            let started = Instant::now();
            let mut running = start_all(shop.folder(), processes, if random.bool() { "1" } else { "2" });
            // Before it is live, at that moment, or after a while.
            if random.u8(0..4) > 0 {
                running.iter_mut().for_each(|process| process.wait_for("live after"));
                live += 1;
                longest = longest.max(started.elapsed());
            }
            std::thread::sleep(Duration::from_millis(random.u64(0..700)));
            running.swap_remove(random.usize(0..processes)).kill();
            for (code, stderr) in running.into_iter().map(Process::ends) {
                assert!(code == Some(1) || code == Some(3), "one that has lost the other ends with {code:?}: {stderr}");
                assert!(!stderr.contains("panicked"), "{stderr}");
            }
        }
    });
    let process = shop.live(&[]);
    pass(now() + LONGEST + 100);
    shop.wait_until_committed(&process);
    let text = || std::fs::read_to_string(shop.path("changes.jsonl")).expect("it is there");
    until(&|| "its last line is whole".to_owned(), || text().ends_with('\n'));
    process.stop();
    let changes = without_marks(shop.changes());
    let replayed = run(shop.folder(), &["replay", "job.yaml", "--until", &now().to_string()]);
    assert_eq!(replayed.code, Some(0), "{}", replayed.stderr);
    let want = members(&without_marks(parse(&replayed.stdout)));
    let got = members(&changes);
    if got != want {
        let wrong: Vec<_> = got.symmetric_difference(&want).collect();
        panic!("seed {seed}, in {}: {wrong:?}", shop.keep().display());
    }
    assert!(changes.len() > 20 && live > 0, "there was something to kill");
    println!(
        "{} kills of {processes} process(es), seed {seed}: {} events, {} changes, live again after at most {:.1} s; {:.0} s",
        kills(),
        written.load(Ordering::Relaxed),
        changes.len(),
        longest.as_secs_f64(),
        since.elapsed().as_secs_f64()
    );
}

#[test]
fn one_process() {
    killed_again_and_again(1, 1);
}

#[test]
fn two_processes() {
    killed_again_and_again(2, 2);
}
