//! What `usher diff --read` returns as of a time is what a start at that time sends: random edits of random jobs.
//!
//! `USHER_FORESEE=0..250 cargo test --test usher foresee` tries 500 edits.

use super::*;
use std::collections::BTreeMap;
use usher_dataflow::StartDifference;

/// Edits of a job.
const EDITS: usize = 2;

/// Entries and exits, by sync and audience.
type Counts = BTreeMap<(String, String), (u64, u64)>;

impl Simulation {
    /// Changes the job file in one of several ways; returns whether it is another sound job then.
    fn edit_somehow(&mut self) -> bool {
        let lines: Vec<&str> = self.sample.job.lines().collect();
        let is_audience =
            |line: &&str| line.starts_with("  ") && line.contains(": {model: ") && line.contains(", where: ");
        let audiences: Vec<usize> = (0..lines.len()).filter(|line| is_audience(&lines[*line])).collect();
        if audiences.is_empty() {
            return false;
        }
        let at = audiences[self.random.usize(0..audiences.len())];
        let other = audiences[self.random.usize(0..audiences.len())];
        let condition = |line: usize| lines[line].split_once(", where: ").map_or("", |(_, of)| &of[..of.len() - 1]);
        let (head, of) = (lines[at].split_once(", where: ").map_or("", |(head, _)| head), condition(at));
        let replaced = |line: String| {
            let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            lines[at] = line;
            lines.join("\n") + "\n"
        };
        let window = |rng: &mut fastrand::Rng| format!("\"within\":\"{}s\"", [1, 2, 5, 10, 30, 60][rng.usize(0..6)]);
        let new = match self.random.u8(0..8) {
            0 => replaced(String::new()),
            1 => replaced(lines[at].replacen(": {", "_renamed: {", 1)),
            2 => replaced(format!("{head}, where: {{\"all\": [{of}, {}]}}}}", condition(other))),
            3 => replaced(format!("{head}, where: {{\"any\": [{of}, {}]}}}}", condition(other))),
            4 => replaced(format!("{head}, where: {{\"all\": [{of}, {{\"not\": {}}}]}}}}", condition(other))),
            5 => {
                let id = head.trim_start().split(':').next().unwrap_or_default();
                self.sample.job.replace("more: {to:", &format!("more: {{audiences: [{id}], to:"))
            }
            6 => replaced(format!("{}\n{}", lines[at], lines[other].replacen(": {", "_copy: {", 1))),
            _ => {
                let (from, to) = (window(&mut self.random), window(&mut self.random));
                self.sample.job.replacen(&from, &to, 1)
            }
        };
        let parsed = usher_config::parse(&new, "job.yaml", self.folder.path(), &|_| None).ok();
        let plan = parsed.and_then(|job| usher_queries::compile(&job, "job.yaml", &usher_queries::Schemas::new()).ok());
        match plan {
            Some(plan) if new != self.sample.job => {
                (self.plan, self.sample.job) = (plan, new);
                true
            }
            _ => false,
        }
    }

    /// Waits until it is known what a start at `clock` sends.
    fn difference(&self, job: &Job, clock: i64) -> StartDifference {
        let (mut now, since) = (clock as u64, Instant::now());
        loop {
            if let Some(difference) = job.status.take_start_difference() {
                return difference;
            }
            assert!(since.elapsed() < PATIENCE && !job.thread.is_finished(), "{}", job.progress());
            now += u64::from(job.life.has_read_all() && job.status.clock() + 1 >= now);
            self.world.set_clock(now);
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Returns what was sent up to a time, behind the messages that were there; and whether each sample was.
    fn sent(&self, before: &[usize], difference: &StartDifference) -> (Counts, bool) {
        let (mut counts, mut samples) = (Counts::new(), true);
        for (sync, (id, before)) in self.plan.job.syncs.keys().zip(before).enumerate() {
            let messages = self.world.messages(sync);
            let sent: Vec<_> = messages[*before..].iter().filter(|message| message.at <= difference.at).collect();
            for message in &sent {
                let count = counts.entry((id.clone(), message.audience.clone())).or_default();
                *if message.entered { &mut count.0 } else { &mut count.1 } += 1;
            }
            for of in difference.audiences.iter().filter(|of| of.sync == *id) {
                samples &= of.samples.iter().all(|sample| {
                    let is = |message: &&&crate::support::world::Message| {
                        (&message.audience, &message.key, message.entered) == (&of.audience, &sample.key, sample.enters)
                    };
                    sent.iter().any(|message| is(&message))
                });
            }
        }
        (counts, samples)
    }
}

fn counts(difference: &StartDifference) -> Counts {
    let of = difference.audiences.iter();
    of.map(|of| ((of.sync.clone(), of.audience.clone()), (of.entries, of.exits))).collect()
}

#[test]
fn what_is_foreseen_as_of_a_time_is_what_a_start_at_that_time_sends() {
    let (mut edits, mut compared, mut entries, mut exits) = (0, 0, 0, 0);
    let seeds = seeds("USHER_FORESEE", 60);
    let few = seeds.clone().count() < 60;
    for seed in seeds {
        let mut simulation = Simulation::new(seed, Rules::default());
        let world = Arc::clone(&simulation.world);
        let mut clock = simulation.sample.flags.now - 60_000;
        world.set_clock(clock as u64);
        simulation.append(clock);
        for edit in 0..EDITS {
            let job = simulation.start().unwrap_or_else(|what| panic!("seed {seed}: {what}"));
            let (job, rested) = simulation.rest(job, clock).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
            let job = match simulation.random.bool() {
                true => simulation.kill(job).expect("it can be killed"),
                false => {
                    simulation.stop(&job, rested..i64::MAX).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
                    job
                }
            };
            let _ = job.thread.join().expect("it does not panic");
            clock = rested + simulation.random.i64(500..25_000);
            world.set_clock(clock as u64);
            simulation.append(clock);
            if !(0..20).any(|_| simulation.edit_somehow()) {
                continue;
            }
            edits += 1;
            let before: Vec<usize> =
                (0..simulation.plan.job.syncs.len()).map(|sync| world.messages(sync).len()).collect();

            let job = simulation.start_for(Purpose::Foresee).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
            let foreseen = simulation.difference(&job, clock);
            job.status.abort();
            job.thread.join().expect("it does not panic").unwrap_or_else(|failure| panic!("seed {seed}: {failure:?}"));
            let unchanged: Vec<usize> =
                (0..simulation.plan.job.syncs.len()).map(|sync| world.messages(sync).len()).collect();
            assert_eq!(unchanged, before, "seed {seed}: nothing is sent");

            world.set_clock(clock as u64);
            let job = simulation.start().unwrap_or_else(|what| panic!("seed {seed}: {what}"));
            let started = simulation.difference(&job, clock);
            world.ask_to_commit(true);
            world.set_clock(started.at + REST as u64);
            let since = Instant::now();
            while !job.life.has_committed(started.at + 1) {
                assert!(since.elapsed() < PATIENCE, "seed {seed}: {}", job.progress());
                std::thread::sleep(Duration::from_micros(200));
            }
            let (sent, samples) = simulation.sent(&before, &started);
            // A thread that the system holds up may see the clock later.
            if foreseen.at == started.at {
                let what =
                    || format!("seed {seed}, edit {edit}, at {clock}\n{}\n{}", simulation.sample.job, world.notes());
                assert_eq!(counts(&foreseen), sent, "{}", what());
                assert!(samples, "{foreseen:?} has members that did not change: {}", what());
                compared += 1;
                entries += sent.values().map(|(entries, _)| entries).sum::<u64>();
                exits += sent.values().map(|(_, exits)| exits).sum::<u64>();
            }
            clock = started.at as i64 + REST;
            simulation.stop(&job, clock..i64::MAX).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
            simulation.join(job).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
            clock = world_clock(&world);
            simulation.append(clock);
        }
    }
    assert!(compared * 10 >= edits * 8 && (edits > 20 || few), "{compared} of {edits} edits were compared");
    assert!(entries > 50 && exits > 50 || few, "{entries} entries, {exits} exits");
}

/// Returns where the clock is.
fn world_clock(world: &World) -> i64 {
    use usher_core::clock::Clock;
    world.now() as i64
}
