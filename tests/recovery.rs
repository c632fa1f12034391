//! A restart is invisible: one history with five ways to run it, and a job file that changes between runs.

use crate::support::process::{Change, Process, members, now, parse, pass, until};
use crate::support::rows::run;
use crate::support::shop::{CRM, Shop, job, with_accounts, with_anybody, without_marks};
use std::collections::BTreeSet;
use std::io::Write;

const AUDIENCES: &str = "
  buyers: {model: users, where: {performed: bought, within: 2s}}
  keen: {model: users, where: {performed: viewed, at_least: 3, within: 1h}}
  rich: {model: users, where: {property: ltv > 15}}
  calm: {model: users, where: {all: [{audience: rich}, {not: {performed: bought, within: 2s}}]}}
  ripe: {model: users, where: {all: [{audience: rich}, {audience: keen}]}}
  sold: {model: users, where: {sequence: [{performed: viewed}, {performed: bought}], within: 1h}}
  swayed: {model: users, where: {sequence: [{performed: viewed}, {performed: viewed, after: 1h}, {performed: bought}], without: [{performed: bought}], within: 1h}}
  served: {model: users, where: {all: [{property: accounts.tier = 'gold'}, {audience: keen}]}}
  eager: {model: accounts, where: {related: users, whose: {performed: viewed, at_least: 3, within: 1h}, at_least: 3}}
  dear: {model: accounts, where: {related: users, where: ltv > 15, whose: {audience: keen}, sum: ltv, between: [50, 70]}}
  lively: {model: accounts, where: {related: users, whose: {performed: bought, within: 2s}}}
";

/// ms of `buyers`.
const WINDOW: i64 = 2_000;

/// How a run of the job ends, after a part of the history.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// It does not: the same run takes the next part.
    GoesOn,
    /// By SIGTERM.
    Stopped,
    /// By SIGKILL, when all is committed and in a checkpoint.
    Killed,
    /// The same; and the next begins when windows have ended.
    KilledForLong,
    /// By SIGKILL, while it reads.
    KilledReading,
    /// By SIGKILL, before it is live.
    KilledStarting,
}

/// What happens in each part.
const PARTS: [&[(&str, &str)]; 6] = [
    &[("Viewed", "u-0"), ("Viewed", "u-0"), ("Viewed", "u-0"), ("Bought", "u-1")],
    &[("Bought", "u-5"), ("Viewed", "u-2"), ("Viewed", "u-2")],
    &[("Viewed", "u-2"), ("Bought", "u-5")],
    &[("Bought", "u-3"), ("Viewed", "u-1"), ("Viewed", "u-1"), ("Viewed", "u-1"), ("Viewed", "u-4")],
    &[("Bought", "u-4"), ("Viewed", "u-4"), ("Bought", "u-4"), ("Viewed", "u-4")],
    &[("Bought", "u-0"), ("Viewed", "u-6")],
];

/// Who is in what in the end, when the windows of seconds are over.
fn in_the_end() -> BTreeSet<(String, String)> {
    let rich = (2..10).flat_map(|user| [("rich", user), ("calm", user)]);
    let keen = [0, 1, 2, 4].map(|user| ("keen", user));
    let ripe = [2, 4].map(|user| ("ripe", user));
    // `u-1` bought before the first look, `u-4` between two.
    let sequences = [("sold", 0), ("sold", 4), ("swayed", 0)];
    // They are of `a-0`, which is gold.
    let served = [0, 1, 2, 4].map(|user| ("served", user));
    let all = rich.chain(keen).chain(ripe).chain(sequences).chain(served);
    let users = all.map(|(audience, user)| (audience.to_owned(), format!("u-{user}")));
    // Of the account's five users four are keen, of whom `u-2` and `u-4` are rich, with 60 together.
    users
        .chain([("eager", "a-0"), ("dear", "a-0")].map(|(audience, key)| (audience.to_owned(), key.to_owned())))
        .collect()
}

/// Lives through the history; `runs` are the arguments of each part's run, and how that ends.
fn live_through(runs: [(&[&str], Ending); 6]) -> Vec<Change> {
    let shop = Shop::new(&with_accounts(&job(AUDIENCES, CRM)));
    let mut bought: Vec<(String, i64)> = Vec::new();
    let mut running: Option<Process> = None;
    let compiled = run(shop.folder(), &["compile", "job.yaml", "-o", "job.plan"]);
    assert_eq!(compiled.code, Some(0), "{}", compiled.stderr);
    for (part, (args, ending)) in PARTS.iter().zip(runs) {
        // What a job that is down does not see happens just before it starts.
        let mut happen = || {
            for (what, user) in *part {
                let at = shop.happens(what, user);
                if *what == "Bought" {
                    bought.push(((*user).to_owned(), at));
                }
            }
        };
        let start = || Process::start(shop.folder(), &[&["run"], args].concat());
        let process = match running.take() {
            Some(process) => {
                happen();
                process
            }
            None => {
                happen();
                start()
            }
        };
        match ending {
            Ending::GoesOn => {
                shop.wait_until_committed(&process);
                running = Some(process);
            }
            Ending::Stopped => {
                shop.wait_until_committed(&process);
                shop.checkpointed(&process);
                process.stop();
            }
            Ending::Killed => {
                shop.wait_until_committed(&process);
                shop.checkpointed(&process);
                process.kill();
            }
            Ending::KilledForLong => {
                shop.wait_until_committed(&process);
                shop.checkpointed(&process);
                process.kill();
                pass(now() + WINDOW + 100);
            }
            Ending::KilledReading => {
                let mut process = process;
                process.wait_for("live after");
                process.kill();
            }
            Ending::KilledStarting => process.kill(),
        }
    }
    let process = running.unwrap_or_else(|| shop.live(&[]));
    pass(now() + WINDOW);
    shop.wait_until_committed(&process);
    process.stop();
    let all = shop.changes();
    assert!(members(&all).len() > in_the_end().len(), "marks are members too");
    let changes = without_marks(all);
    assert_eq!(members(&changes), in_the_end());
    // An exit whose window ended keeps its date; an entry only where the job was there.
    let by_itself = |change: &&Change| {
        let exit = change.audience == "buyers" && !change.entered;
        exit || change.audience == "calm" && change.entered && change.reason == "expiry"
    };
    let left: Vec<_> = changes.iter().filter(|change| change.audience == "lively" && !change.entered).collect();
    assert!(!left.is_empty(), "an account leaves when the window of its user ends");
    for change in left {
        let ended = bought.iter().any(|(_, at)| at + WINDOW == change.at);
        assert!(ended && change.reason == "expiry", "it is dated exactly as its user's: {change:?}, {bought:?}");
    }
    for change in changes.iter().filter(by_itself) {
        let ended = bought.iter().any(|(user, at)| *user == change.key && at + WINDOW == change.at);
        assert!(ended && change.reason == "expiry", "it is dated exactly ts + within: {change:?}, {bought:?}");
    }
    for change in changes.iter().filter(|change| change.audience == "calm" && change.entered) {
        assert!(["definition", "expiry", "recovery"].contains(&&change.reason[..]), "{change:?}");
    }
    // A replay of the same events ends with the same members.
    let replayed = run(shop.folder(), &["replay", "job.yaml", "--until", &now().to_string()]);
    assert_eq!(replayed.code, Some(0), "{}", replayed.stderr);
    assert_eq!(members(&without_marks(parse(&replayed.stdout))), in_the_end());
    changes
}

/// The changes of some audience, as text.
fn texts(changes: &[Change], audience: &str) -> Vec<String> {
    changes.iter().filter(|change| change.audience == audience).map(Change::text).collect()
}

const JOB: &[&str] = &["job.yaml"];

#[test]
fn a_history_run_straight() {
    let changes = live_through([(JOB, Ending::GoesOn); 6]);
    assert_eq!(texts(&changes, "ripe"), ["entry ripe u-2 event", "entry ripe u-4 event"]);
    assert_eq!(texts(&changes, "rich").len(), 8);
    assert!(texts(&changes, "rich").iter().all(|text| text.ends_with(" definition")));
}

#[test]
fn a_history_with_kills_where_it_hurts() {
    let changes = live_through([
        (JOB, Ending::KilledStarting),
        (JOB, Ending::KilledForLong),
        (JOB, Ending::KilledReading),
        (JOB, Ending::Killed),
        (JOB, Ending::KilledForLong),
        (JOB, Ending::Killed),
    ]);
    let rich = texts(&changes, "rich");
    assert!(rich.len() == 8 && rich.iter().all(|text| text.ends_with(" definition")), "{rich:?}");
}

#[test]
fn a_history_with_other_numbers_of_workers() {
    let workers = |number: &'static str| -> &'static [&'static str] {
        match number {
            "1" => &["job.yaml", "-w", "1"],
            "2" => &["job.yaml", "-w", "2"],
            _ => &["job.yaml", "-w", "3"],
        }
    };
    live_through([
        (workers("1"), Ending::Killed),
        (workers("2"), Ending::KilledForLong),
        (workers("3"), Ending::KilledReading),
        (workers("1"), Ending::Stopped),
        (workers("3"), Ending::Killed),
        (workers("2"), Ending::Killed),
    ]);
}

#[test]
fn a_history_from_a_plan() {
    let plan: &[&str] = &["job.plan"];
    live_through([
        (plan, Ending::Killed),
        (JOB, Ending::KilledForLong),
        (plan, Ending::Stopped),
        (plan, Ending::KilledReading),
        (plan, Ending::Killed),
        (JOB, Ending::GoesOn),
    ]);
}

const KEEN: &str = "  keen: {model: users, where: {performed: viewed, at_least: 3, within: 1h}}\n";
const RICH: &str = "  rich: {model: users, where: {property: ltv > 75}}\n";
const VIEWERS: &str = "  viewers: {model: users, where: {performed: viewed, at_least: 2, within: 1h}}\n";
const MAIL: &str = "  mail: {audiences: [keen], to: {file: {path: mail.jsonl}}}\n";

/// Runs an edited job for a while; returns the changes that each file got meanwhile, sorted as text.
fn meanwhile(shop: &Shop, job: &str, files: &[&str], happen: impl FnOnce()) -> Vec<Vec<String>> {
    shop.job(job);
    let changes = |file: &&str| without_marks(crate::support::process::changes(&shop.path(file)));
    let before: Vec<usize> = files.iter().map(|file| changes(file).len()).collect();
    let process = shop.live(&[]);
    happen();
    shop.wait_until_committed(&process);
    shop.checkpointed(&process);
    process.stop();
    files
        .iter()
        .zip(before)
        .map(|(file, before)| {
            let all = changes(file);
            members(&all);
            let mut new: Vec<String> = all[before..].iter().map(Change::text).collect();
            new.sort();
            new
        })
        .collect()
}

#[test]
fn audiences_of_a_job_change_between_runs() {
    let shop = Shop::new("");
    let crm = &["changes.jsonl"];
    let base = job(&format!("{KEEN}{RICH}"), CRM);
    let changes = meanwhile(&shop, &base, crm, || {
        for (user, times) in [("u-0", 3), ("u-1", 2)] {
            shop.happens_often("Viewed", user, times);
        }
    });
    assert_eq!(changes[0], ["entry keen u-0 event", "entry rich u-8 definition", "entry rich u-9 definition"]);
    assert_eq!(meanwhile(&shop, &base, crm, || {})[0], [""; 0], "a start with nothing new commits nothing");

    let added = job(&format!("{KEEN}{RICH}{VIEWERS}"), CRM);
    let changes = meanwhile(&shop, &added, crm, || {});
    assert_eq!(changes[0], ["entry viewers u-0 definition", "entry viewers u-1 definition"]);

    let longer = added.replace("at_least: 3, within: 1h", "at_least: 3, within: 2h");
    assert_eq!(meanwhile(&shop, &longer, crm, || {})[0], [""; 0], "another window, the same members");

    let easier = longer.replace("at_least: 3", "at_least: 2");
    assert_eq!(meanwhile(&shop, &easier, crm, || {})[0], ["entry keen u-1 definition"]);

    // Back, in one step.
    let changes = meanwhile(&shop, &base, crm, || {});
    assert_eq!(changes[0], ["exit keen u-1 definition", "exit viewers u-0 definition", "exit viewers u-1 definition"]);

    // Added and removed again without exits.
    let forgets = "  crm: {on_remove: forget, to: {file: {path: changes.jsonl}}}\n";
    let changes = meanwhile(&shop, &job(&format!("{KEEN}{RICH}{VIEWERS}"), forgets), crm, || {});
    assert_eq!(changes[0].len(), 2);
    assert_eq!(meanwhile(&shop, &job(&format!("{KEEN}{RICH}"), forgets), crm, || {})[0], [""; 0]);
    assert_eq!(meanwhile(&shop, &base, crm, || {})[0], [""; 0], "what is forgotten stays so");
}

#[test]
fn syncs_of_a_job_change_between_runs() {
    let shop = Shop::new("");
    let audiences = format!("{KEEN}{RICH}");
    let all = &["changes.jsonl", "mail.jsonl", "late.jsonl"];
    let none = [""; 0];
    meanwhile(&shop, &job(&audiences, CRM), all, || shop.happens_often("Viewed", "u-0", 3));

    let changes = meanwhile(&shop, &job(&audiences, &format!("{CRM}{MAIL}")), all, || {});
    assert_eq!(
        (&changes[0][..], &changes[1][..]),
        (&none.map(str::to_owned)[..], &["entry keen u-0 definition".to_owned()][..])
    );

    let late = "  late: {backfill: false, to: {file: {path: late.jsonl}}}\n";
    let three = job(&audiences, &format!("{CRM}{MAIL}{late}"));
    let changes = meanwhile(&shop, &three, all, || {});
    assert_eq!(changes, [none, none, none], "only what changes from now on");
    let changes = meanwhile(&shop, &three, all, || shop.happens_often("Viewed", "u-9", 3));
    assert_eq!(changes, [["entry keen u-9 event"]; 3]);

    // Mail carries a column now.
    let include = MAIL.replace("audiences:", "include: [ltv], audiences:");
    let three = job(&audiences, &format!("{CRM}{include}{late}"));
    let changes = meanwhile(&shop, &three, all, || shop.happens_often("Viewed", "u-3", 3));
    assert_eq!(changes, [["entry keen u-3 event"]; 3]);
    let mail = crate::support::process::changes(&shop.path("mail.jsonl"));
    assert_eq!(mail.last().expect("there is a change").row["ltv"], 30.0, "{mail:?}");

    // Mail is gone, and back.
    let changes = meanwhile(&shop, &job(&audiences, CRM), all, || {});
    assert_eq!(changes, [none, none, none]);
    let changes = meanwhile(&shop, &three, all, || {});
    assert_eq!(changes, [none, none, none], "a sync that comes back goes on from its ledger");
}

#[test]
fn the_snapshot_of_a_model_changes_between_runs() {
    let shop = Shop::new("");
    let crm = &["changes.jsonl"];
    let base = job(&format!("{KEEN}{RICH}"), CRM);
    meanwhile(&shop, &base, crm, || {});
    shop.users("others.parquet", &[80.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 5.0, 90.0]);
    let others = base.replace("users.parquet", "others.parquet");
    assert_eq!(meanwhile(&shop, &others, crm, || {})[0], ["entry rich u-0 recovery", "exit rich u-8 recovery"]);
    assert_eq!(meanwhile(&shop, &base, crm, || {})[0], ["entry rich u-8 recovery", "exit rich u-0 recovery"]);
}

#[test]
fn an_exit_keeps_its_window_s_end_and_reason_if_its_audience_is_edited_meanwhile() {
    let crm = &["changes.jsonl"];
    let either = |ltv: u32| {
        let of = format!(
            "  either: {{model: users, where: {{any: [{{performed: bought, within: 2s}}, {{property: ltv > {ltv}}}]}}}}\n"
        );
        job(&(of + "  follows: {model: users, where: {audience: either}}\n"), CRM)
    };
    let shop = Shop::new("");
    let mut bought = 0;
    meanwhile(&shop, &either(85), crm, || bought = shop.happens("Bought", "u-1"));
    pass(bought + WINDOW);
    // `u-8` enters by the edit.
    let expected = [
        "entry either u-8 definition",
        "entry follows u-8 definition",
        "exit either u-1 expiry",
        "exit follows u-1 expiry",
    ];
    assert_eq!(meanwhile(&shop, &either(75), crm, || {})[0], expected);
    let exits = without_marks(shop.changes()).into_iter().filter(|change| !change.entered);
    assert_eq!(exits.map(|exit| exit.at).collect::<Vec<_>>(), [bought + WINDOW; 2]);
}

#[test]
fn a_pull_that_fell_due_while_the_job_was_down_belongs_to_what_a_start_sends() {
    let shop = Shop::new("");
    let crm = &["changes.jsonl"];
    let gilded = "  gilded: {model: users, where: {all: [{property: accounts.tier = 'gold'}, {property: ltv > 15}]}}\n";
    let wealthy = "  wealthy: {model: accounts, where: {related: users, where: ltv > 15, at_least: 5}}\n";
    let job = with_accounts(&job(&format!("{RICH}{gilded}{wealthy}"), CRM));
    let job = job.replace("key: user_id", "key: user_id, refresh: 1s");
    meanwhile(&shop, &job, crm, || {});
    let others = [80.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 5.0, 10.0];
    shop.users("users.parquet", &others);
    pass(now() + 1_000);
    let expected = [
        "entry gilded u-0 recovery",
        "entry rich u-0 recovery",
        "exit rich u-8 recovery",
        "exit rich u-9 recovery",
        "exit wealthy a-1 recovery",
    ];
    assert_eq!(meanwhile(&shop, &job, crm, || {})[0], expected);
}

#[test]
fn a_file_that_comes_while_the_job_is_down_is_read_from_its_start() {
    for follow in ["true", "false"] {
        let folder = job(KEEN, CRM)
            .replace("path: events.jsonl", "path: events")
            .replace("follow: true", &format!("follow: {follow}"));
        let shop = Shop::new(&folder);
        let part = |name: &str, user: &str, times: usize| {
            shop.happens_often("Viewed", user, times);
            std::fs::create_dir_all(shop.path("events")).expect("the folder can be written");
            std::fs::rename(shop.path("events.jsonl"), shop.path("events").join(name)).expect("it can be renamed");
        };
        part("b.jsonl", "u-0", 3);
        let process = shop.live(&[]);
        shop.checkpointed(&process);
        process.stop();
        // Before the other in the order of arrival, so that ranks are others too.
        part("a.jsonl", "u-1", 3);
        let process = shop.live(&[]);
        shop.checkpointed(&process);
        process.stop();
        let process = shop.live(&[]);
        process.stop();
        let changes: Vec<String> = shop.changes().iter().map(Change::text).collect();
        assert_eq!(changes, ["entry keen u-0 definition", "entry keen u-1 recovery"], "follow: {follow}");
    }
}

#[test]
fn a_file_that_was_waited_for_and_comes_is_no_other_than_was_read() {
    let shop = Shop::new(&job(KEEN, CRM));
    // It may have been made with the shop.
    let _ = std::fs::remove_file(shop.path("events.jsonl"));
    let process = shop.live(&[]);
    shop.checkpointed(&process);
    process.stop();
    let process = shop.live(&[]);
    shop.happens_often("Viewed", "u-0", 3);
    shop.wait_until_committed(&process);
    let stderr = process.stop();
    assert!(stderr.contains("the file is not there yet"), "{stderr}");
    assert!(!stderr.contains("is not the one that was read"), "{stderr}");
    assert_eq!(texts(&shop.changes(), "keen").len(), 1);
    // One that takes the place of what was read is.
    std::fs::remove_file(shop.path("events.jsonl")).expect("it is there");
    shop.happens_often("Viewed", "u-1", 3);
    let process = shop.live(&[]);
    shop.wait_until_committed(&process);
    assert!(process.stop().contains("is not the one that was read"), "it warns that this is another file");
}

#[test]
fn a_log_that_is_rotated_in_a_followed_folder_is_read_once_over_restarts() {
    let of_logs = job(KEEN, CRM)
        .replace("sources: {", "sources: {logs: {file: {path: logs, follow: true}, format: segment}, ")
        .replace("viewed: {source: web", "viewed: {source: logs");
    for workers in ["1", "2"] {
        let shop = Shop::new(&of_logs);
        std::fs::create_dir(shop.path("logs")).expect("the folder can be written");
        let lines = std::cell::Cell::new(0);
        // Without ids: what is read twice counts twice.
        let views = |name: &str, user: &str, times: usize| {
            let line = format!(r#"{{"type":"track","event":"Viewed","userId":"{user}","timestamp":{}}}"#, now());
            let file = std::fs::OpenOptions::new().append(true).create(true).open(shop.path("logs").join(name));
            let written = file.and_then(|mut file| file.write_all(format!("{line}\n").repeat(times).as_bytes()));
            written.expect("the folder can be written");
            lines.set(lines.get() + times as u64);
        };
        let rotate = || {
            let name = |n: u32| {
                shop.path("logs").join(format!("events.log{}", if n == 0 { String::new() } else { format!(".{n}") }))
            };
            let last = (0..).find(|n| !name(*n).exists()).expect("there are few");
            (0..last).rev().for_each(|n| std::fs::rename(name(n), name(n + 1)).expect("it can be renamed"));
        };
        let wait_for = |process: &Process, user: &str| {
            let is_keen = || texts(&shop.changes(), "keen").iter().any(|text| text.contains(user));
            until(&|| format!("{user} enters\n{}", process.stderr()), is_keen);
        };
        let args = ["-w", workers];
        let mut read = 0;
        views("events.log", "u-0", 2);
        let process = shop.live(&args);
        rotate();
        views("events.log", "u-1", 3);
        wait_for(&process, "u-1");
        rotate();
        views("events.log", "u-2", 3);
        wait_for(&process, "u-2");
        read += read_in_all(&process.stop());
        let process = shop.live(&args);
        views("events.log.1", "u-3", 3);
        wait_for(&process, "u-3");
        shop.checkpointed(&process);
        process.kill();
        views("events.log", "u-4", 2);
        views("events.log.2", "u-4", 1);
        rotate();
        views("events.log", "u-5", 3);
        let process = shop.live(&args);
        read += 3 + read_in_all(&process.stop());
        let process = shop.live(&args);
        read += read_in_all(&process.stop());
        let entered = texts(&shop.changes(), "keen");
        let expected = ["u-1", "u-2", "u-3", "u-4", "u-5"];
        assert_eq!(entered.len(), expected.len(), "{entered:?}");
        assert!(expected.iter().all(|user| entered.iter().any(|text| text.contains(user))), "{entered:?}");
        assert_eq!(read, lines.get(), "each line is read by one of the runs, once");
    }
}

/// Returns how many messages the closing line counts as read.
fn read_in_all(stderr: &str) -> u64 {
    let number = stderr.lines().rev().find_map(|line| line.split_once("read ")?.1.split_once(" = matched"));
    let number = number.unwrap_or_else(|| panic!("no closing line:\n{stderr}")).0;
    number.replace(',', "").parse().expect("a number")
}

/// Starts it with only one checkpoint of its own accord, lets much happen, and stops it in the midst of it; twice.
fn stopped(start: impl Fn(&Shop) -> Vec<Process>) {
    let rarely = with_accounts(&job(AUDIENCES, CRM)).replace("checkpoint_every: 250ms", "checkpoint_every: 1h");
    let shop = Shop::new(&with_anybody(&rarely));
    let (mut happened, mut read) = (0, 0);
    for round in 0..3 {
        let mut processes = start(&shop);
        processes.iter_mut().for_each(|process| process.wait_for("live after"));
        if round < 2 {
            shop.wait_until_committed(&processes[0]);
            for user in 0..500 {
                shop.happens("Viewed", &format!("u-{}", user % 7));
            }
            happened += 501;
        }
        let last = processes.len() - 1;
        processes[last].signal("TERM");
        for process in processes {
            let (code, stderr) = process.ends();
            assert_eq!(code, Some(0), "{stderr}");
            assert!(!stderr.contains("was not made in time"), "{stderr}");
            read += read_in_all(&stderr);
        }
    }
    assert_eq!(read, happened, "each message is read by one of the runs, once");
    let keen = members(&shop.changes()).into_iter().filter(|(audience, _)| audience == "keen").count();
    assert_eq!(keen, 7);
}

#[test]
fn a_job_that_is_stopped_reads_nothing_again() {
    stopped(|shop| vec![shop.run(&[])]);
}

#[test]
fn a_job_of_several_workers_that_is_stopped_reads_nothing_again() {
    stopped(|shop| vec![shop.run(&["-w", "2"])]);
}

#[test]
fn a_job_of_several_processes_that_is_stopped_reads_nothing_again() {
    stopped(|shop| crate::support::process::start_all(shop.folder(), 2, "2"));
}

#[test]
fn a_job_that_is_stopped_and_can_not_write_its_state_ends_well_or_at_once_at_a_second_signal() {
    let shop = Shop::new(&with_accounts(&job(AUDIENCES, CRM)));
    let (manifests, away) = (shop.path("state/manifests"), shop.path("state/away"));
    for again in [false, true] {
        let mut process = shop.live(&[]);
        shop.happens_often("Viewed", "u-1", 3);
        shop.wait_until_committed(&process);
        shop.checkpointed(&process);
        std::fs::rename(&manifests, &away).expect("it can be renamed");
        std::fs::write(&manifests, "no folder").expect("it can be written");
        let since = std::time::Instant::now();
        process.signal("TERM");
        if again {
            std::thread::sleep(std::time::Duration::from_millis(1_200));
            process.signal("TERM");
        } else {
            process.wait_for("was not made in time");
        }
        let (code, stderr) = process.ends();
        assert_eq!(code, Some(i32::from(again)), "{stderr}");
        assert!(!again || since.elapsed().as_secs() < 10, "it ends at once");
        std::fs::remove_file(&manifests).expect("it is there");
        std::fs::rename(&away, &manifests).expect("it can be renamed");
    }
    let process = shop.live(&[]);
    shop.wait_until_committed(&process);
    process.stop();
    let keen = members(&shop.changes()).into_iter().filter(|(audience, _)| audience == "keen").count();
    assert_eq!(keen, 1);
}

/// How many expire together.
const MANY: usize = 20_000;

#[test]
fn many_windows_that_end_while_the_job_is_down_end_when_they_did() {
    many_windows("KILL");
}

#[test]
fn many_windows_that_end_while_the_job_is_frozen_end_when_they_did() {
    many_windows("STOP");
}

fn many_windows(signal: &str) {
    let audiences = "  active: {model: anybody, where: {performed: seen, within: 4s}}\n";
    let shop = Shop::new(&with_anybody(&job(audiences, CRM)));
    let process = shop.live(&[]);
    let mut lines = String::new();
    let first = now() - 1_000;
    for key in 0..MANY {
        let at = first + (key % 1_000) as i64;
        lines += &format!(
            "{{\"type\":\"track\",\"event\":\"Seen\",\"userId\":\"{key}\",\"messageId\":\"s{key}\",\"timestamp\":{at}}}\n"
        );
    }
    let mut events = std::fs::OpenOptions::new().append(true).open(shop.path("events.jsonl")).expect("it is there");
    std::io::Write::write_all(&mut events, lines.as_bytes()).expect("it can be written");
    shop.wait_until_committed(&process);
    assert_eq!(members(&without_marks(shop.changes())).len(), MANY);
    let process = if signal == "KILL" {
        process.kill();
        pass(first + 1_000 + 4_000 + 1_000);
        shop.live(&[])
    } else {
        process.signal(signal);
        pass(first + 1_000 + 4_000 + 1_000);
        process.signal("CONT");
        process
    };
    shop.wait_until_committed(&process);
    process.stop();
    let changes = without_marks(shop.changes());
    assert_eq!(members(&changes).len(), 0);
    let exits: Vec<&Change> = changes.iter().filter(|change| !change.entered).collect();
    assert_eq!(exits.len(), MANY);
    for exit in exits {
        let key: usize = exit.key.parse().expect("a number");
        assert_eq!((exit.at, &exit.reason[..]), (first + (key % 1_000) as i64 + 4_000, "expiry"), "{exit:?}");
    }
}
