//! `usher diff`: what an edit does is printed before it is made, whether the job runs or not, and nothing is changed by that.

use crate::support::process::{Change, changes, until};
use crate::support::receiver::port;
use crate::support::rows::{Ran, run};
use crate::support::shop::{CRM, Shop, job, without_marks};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const BEFORE: &str = "
  keen: {model: users, where: {performed: viewed, at_least: 3, within: 1h}}
  rich: {model: users, where: {property: ltv > 15}}
";

const AFTER: &str = "
  buyers: {model: users, where: {performed: bought, within: 1h}}
  eager: {model: users, where: {performed: viewed, at_least: 3, within: 1h}}
  rich: {model: users, name: The rich, where: {property: ltv > 55}}
";

/// Returns the names and contents of all files below a folder.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the folder is there") {
            let path = entry.expect("it can be read").path();
            match path.is_dir() {
                true => folders.push(path),
                false => drop(found.insert(path.clone(), std::fs::read(path).expect("the file is there"))),
            }
        }
    }
    found
}

/// A shop whose job has run; `u-1` is keen, eight users are rich, and `u-3` has bought something.
fn shop() -> Shop {
    let shop = Shop::new(&job(BEFORE, CRM));
    shop.happens_often("Viewed", "u-1", 3);
    shop.happens("Bought", "u-3");
    std::fs::write(shop.path("after.yaml"), job(AFTER, CRM)).expect("the folder can be written");
    shop
}

fn diff(shop: &Shop, args: &[&str]) -> Ran {
    run(shop.folder(), &[&["diff"], args].concat())
}

fn diffed(shop: &Shop, args: &[&str]) -> Value {
    let Ran { stdout, stderr, code } = diff(shop, &[args, &["--json"]].concat());
    assert_eq!(code, Some(0), "{stderr}");
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
}

/// Returns entries and exits by audience, in the sync `crm`, without those who mark how far the job is.
fn numbers(diff: &Value) -> Value {
    let differences = diff["state"]["differences"].as_array().expect("there is a state");
    let of = |of: &Value| (of["audience"].clone(), json!([of["entries"], of["exits"], of["members"]]));
    let of = differences.iter().map(of).filter(|(audience, _)| audience != "marked");
    of.map(|(audience, numbers)| (audience.as_str().expect("an id").to_owned(), numbers))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[test]
fn what_an_edit_does_is_what_the_next_start_sends() {
    let shop = shop();
    let process = shop.live(&[]);
    shop.wait_until_committed(&process);
    shop.checkpointed(&process);
    // The job runs.
    let while_it_runs = diffed(&shop, &["after.yaml"]);
    process.stop();
    let before = content(shop.folder());

    let by_state = diffed(&shop, &["after.yaml"]);
    assert_eq!(numbers(&while_it_runs), numbers(&by_state));
    let audiences = json!([
        {"id": "buyers", "change": "added", "same_conditions_as": []},
        {"id": "eager", "change": "added", "same_conditions_as": ["keen"]},
        {"id": "keen", "change": "removed", "same_conditions_as": ["eager"]},
        {"id": "rich", "change": "changed", "removed_conditions": [], "added_conditions": ["property: ltv > 55"]},
    ]);
    assert_eq!(by_state["audiences"], audiences, "a state has no names, and not the conditions of before");
    assert_eq!(numbers(&by_state), json!({"eager": [1, 0, 0], "keen": [0, 1, 1]}));
    assert_eq!(by_state["state"]["to_be_filled"], json!(["buyers", "rich"]));
    assert_eq!(by_state["filled"][0]["condition"], "performed: bought, within: 1h");
    assert_eq!(by_state["filled"][0]["from"], json!(["web: all that it holds"]));

    let with_old = diffed(&shop, &["job.yaml", "after.yaml"]);
    assert_eq!(with_old["audiences"][3]["removed_conditions"], json!(["property: ltv > 15"]));
    assert_eq!(with_old["audiences"][4], json!({"id": "rich", "change": "renamed", "from": "rich", "to": "The rich"}));
    assert_eq!(with_old["state"], Value::Null);

    let read = diffed(&shop, &["after.yaml", "--read"]);
    let expected = json!({"buyers": [1, 0, 0], "eager": [1, 0, 0], "keen": [0, 1, 1], "rich": [0, 4, 8]});
    assert_eq!(numbers(&read), expected);
    assert_eq!(read["state"]["to_be_filled"], json!([]));
    let of = |audience: &str| {
        let differences = read["state"]["differences"].as_array().expect("there is a state").iter();
        differences.into_iter().find(|of| of["audience"] == audience).expect("it differs")["samples"].clone()
    };
    assert_eq!(
        of("rich")[0],
        json!({"key": "u-2", "type": "exit", "reason": "definition", "condition": "property: ltv > 55"})
    );
    assert_eq!(
        of("buyers"),
        json!([{"key": "u-3", "type": "entry", "reason": "definition", "condition": "performed: bought, within: 1h"}])
    );
    assert_eq!(of("keen")[0]["condition"], "the audience is gone");
    assert_eq!(content(shop.folder()), before, "nothing is written");

    // What the start then sends.
    let sent_before = without_marks(shop.changes()).len();
    shop.job(&job(AFTER, CRM));
    let process = shop.live(&[]);
    shop.wait_until_committed(&process);
    let stderr = process.stop();
    let mut sent: BTreeMap<String, [u64; 2]> = BTreeMap::new();
    for change in &without_marks(shop.changes())[sent_before..] {
        sent.entry(change.audience.clone()).or_default()[usize::from(!change.entered)] += 1;
    }
    let sent: serde_json::Map<String, Value> =
        sent.into_iter().map(|(audience, [entries, exits])| (audience, json!([entries, exits]))).collect();
    assert_eq!(json!(sent), json!({"buyers": [1, 0], "eager": [1, 0], "keen": [0, 1], "rich": [0, 4]}));
    for line in [
        "audience eager: added, same conditions as `keen`",
        "  + property: ltv > 55",
        "window of 1h to be filled: performed: bought",
        "the start sends",
    ] {
        assert!(stderr.contains(line), "stderr lacks `{line}`:\n{stderr}");
    }
}

#[test]
fn lines_that_move_in_the_file_are_no_edit() {
    let hook = |team: &str| {
        format!(
            "  hook:\n    fields: {{a: '{{{{ key }}}}'}}\n    to:\n      webhook:\n        url: http://127.0.0.1:9/\n        \
             headers: {{X-Team: {team}}}\n        body: '{{{{ key }}}}'\n"
        )
    };
    let before = job(BEFORE, &(CRM.to_owned() + &hook("growth")));
    let shop = Shop::new(&before);
    let edit = |after: &str| {
        std::fs::write(shop.path("after.yaml"), after).expect("the folder can be written");
        diffed(&shop, &["job.yaml", "after.yaml"])["syncs"].clone()
    };
    assert_eq!(edit(&format!("# Moved.\n\n{before}")), json!([]));
    let after = job(BEFORE, &(CRM.to_owned() + &hook("sales")));
    assert_eq!(edit(&after), json!([{"id": "hook", "change": "changed", "keys": ["to"]}]));
}

#[test]
fn a_limit_of_exits_decides_the_exit_code_and_what_is_unknown_exceeds_it() {
    let shop = shop();
    let process = shop.live(&[]);
    shop.checkpointed(&process);
    process.stop();
    let ends = |args: &[&str]| {
        let Ran { stderr, code, .. } = diff(&shop, args);
        (code, stderr)
    };
    let (code, stderr) = ends(&["after.yaml", "--read", "--max-exits", "40%"]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("sync `crm`, audience `rich`: 4 of 8 members would leave"), "{stderr}");
    assert!(stderr.contains("audience `keen`: 1 of 1 members would leave"), "{stderr}");
    assert_eq!(ends(&["after.yaml", "--read", "--max-exits", "100%"]).0, Some(0));
    let (code, stderr) = ends(&["after.yaml", "--max-exits", "100%"]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("audience `rich`: how many members would leave is unknown without `--read`"), "{stderr}");
    let (code, stderr) = ends(&["job.yaml", "after.yaml", "--max-exits", "100%"]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("give `--state`"), "{stderr}");
    assert_eq!(ends(&["job.yaml", "--read", "--max-exits", "0%"]).0, Some(0), "without an edit nobody leaves");
    assert_eq!(ends(&["job.yaml", "after.yaml", "--read"]).0, Some(2));
}

#[test]
fn what_leaves_a_sync_is_counted_without_a_read_and_what_is_not_sent_is_not() {
    let mail = |audiences: &str| format!("  mail: {{audiences: [{audiences}], to: {{file: {{path: mail.jsonl}}}}}}\n");
    let before = job(BEFORE, &(CRM.to_owned() + &mail("rich, marked")));
    let shop = Shop::new(&before);
    let process = shop.live(&[]);
    shop.wait_until_committed(&process);
    shop.checkpointed(&process);
    process.stop();
    let edited = |job: &str| std::fs::write(shop.path("after.yaml"), job).expect("the folder can be written");
    let differences = |args: &[&str]| {
        let diff = diffed(&shop, args);
        let of = |of: &Value| json!([of["sync"], of["audience"], of["entries"], of["exits"]]);
        diff["state"]["differences"].as_array().expect("there is a state").iter().map(of).collect::<Vec<Value>>()
    };

    // The audience stays, and leaves a sync.
    edited(&job(BEFORE, &(CRM.to_owned() + &mail("keen, marked"))));
    let leaving = [json!(["mail", "rich", 0, 8])];
    assert_eq!(differences(&["after.yaml"]), leaving);
    assert_eq!(differences(&["after.yaml", "--read"]), leaving);
    assert_eq!(diff(&shop, &["after.yaml", "--max-exits", "5%"]).code, Some(1));

    // What a sync only notes in its ledger is not sent.
    let forgetful = CRM.replace("{to:", "{on_remove: forget, to:");
    let silent = "  silent: {backfill: false, to: {file: {path: silent.jsonl}}}\n";
    edited(&job(BEFORE.split("  rich").next().expect("it has one"), &(forgetful + &mail("marked") + silent)));
    for flags in [&[][..], &["--read"]] {
        assert_eq!(differences(&[&["after.yaml"], flags].concat()), leaving, "{flags:?}");
    }

    // What another snapshot says is unknown.
    shop.users("others.parquet", &[0.0; 10]);
    edited(&before.replace("users.parquet", "others.parquet"));
    let unknown = json!(["keen", "marked", "rich"]);
    assert_eq!(diffed(&shop, &["after.yaml"])["state"]["to_be_filled"], unknown, "only those with a row are members");
    assert_eq!(diff(&shop, &["after.yaml", "--max-exits", "5%"]).code, Some(1));
    assert_eq!(differences(&["after.yaml", "--read"]), [json!(["crm", "rich", 0, 8]), json!(["mail", "rich", 0, 8])]);

    // A ledger that is to begin anew has no members.
    let resent = run(shop.folder(), &["resend", "job.yaml", "mail"]);
    assert_eq!(resent.code, Some(0), "{}", resent.stderr);
    for flags in [&[][..], &["--read"]] {
        let entering = [json!(["mail", "marked", 1, 0]), json!(["mail", "rich", 8, 0])];
        assert_eq!(differences(&[&["job.yaml"], flags].concat()), entering, "{flags:?}");
    }
}

#[test]
fn the_job_that_runs_works_out_an_edit_that_is_posted_to_its_api() {
    let api = "api: {listen: \"127.0.0.1:0\"}\n";
    let shop = shop();
    shop.job(&(job(BEFORE, CRM) + api));
    std::fs::write(shop.path("after.yaml"), job(AFTER, CRM) + api).expect("the folder can be written");
    let process = shop.live(&[]);
    shop.wait_until_committed(&process);
    shop.checkpointed(&process);
    let url = format!("http://127.0.0.1:{}", port(&process));
    let before = without_marks(shop.changes());
    for flags in [&[][..], &["--read"]] {
        let posted = diffed(&shop, &[flags, &["after.yaml", "--url", &url]].concat());
        let here = diffed(&shop, &[flags, &["after.yaml"]].concat());
        assert_eq!(numbers(&posted), numbers(&here));
        assert_eq!(posted["state"]["to_be_filled"], here["state"]["to_be_filled"]);
        // The job knows more of itself than its state does.
        assert_eq!(posted["audiences"][3]["removed_conditions"], json!(["property: ltv > 15"]));
        assert_eq!(
            posted["audiences"][4],
            json!({"id": "rich", "change": "renamed", "from": "rich", "to": "The rich"})
        );
    }
    let of_two = diffed(&shop, &["after.yaml", "after.yaml", "--url", &url]);
    assert_eq!(of_two["audiences"], json!([]), "what the edit is compared with is the first job");
    assert_eq!(
        numbers(&of_two),
        numbers(&diffed(&shop, &["after.yaml", "--url", &url])),
        "what runs is the job at the url"
    );
    let Ran { stderr, code, .. } = diff(&shop, &["after.yaml", "--url", &url, "--read", "--max-exits", "40%"]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("sync `crm`, audience `rich`: 4 of 8 members would leave"), "{stderr}");
    let text = diff(&shop, &["after.yaml", "--url", &url, "--read"]).stdout;
    assert!(
        text.contains("  crm: rich: 0 enter, 4 leave, of 8 members\n    u-2 leaves (definition): property: ltv > 55\n"),
        "{text}"
    );
    // What can't follow is refused by name, and the job goes on.
    std::fs::write(shop.path("other.yaml"), job(AFTER, CRM).replace("job: shop", "job: other")).expect("as above");
    let Ran { stderr, code, .. } = diff(&shop, &["other.yaml", "--url", &url]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("the job that runs is `shop`, the plan is of `other`"), "{stderr}");
    shop.wait_until_committed(&process);
    assert_eq!(without_marks(shop.changes()), before, "nothing was sent");
    process.stop();
}

/// An audience at random, of one to three conditions whose windows do not end within the test.
fn condition(random: &mut fastrand::Rng) -> String {
    let one = |random: &mut fastrand::Rng| match random.u8(0..4) {
        0 => format!("{{property: ltv > {}}}", random.u8(0..10) * 10),
        1 => format!("{{not: {{performed: bought, within: {}h}}}}", random.u8(1..4)),
        _ => {
            let event = random.choice(["viewed", "bought"]).expect("there are two");
            let compared = random.choice(["at_least", "at_most", "exactly"]).expect("there are three");
            format!("{{performed: {event}, {compared}: {}, within: {}h}}", random.u8(0..4), random.u8(1..4))
        }
    };
    let conditions: Vec<String> = (0..random.usize(1..=3)).map(|_| one(random)).collect();
    let joined = random.choice(["all", "any"]).expect("there are two");
    format!("{{{joined}: [{}]}}", conditions.join(", "))
}

/// A job that is edited at random.
struct Edited {
    audiences: BTreeMap<String, String>,
    /// Of a second sync: its audiences; none: there is no second sync.
    other: Vec<String>,
    next: u32,
}

impl Edited {
    fn new(random: &mut fastrand::Rng) -> Edited {
        let mut new = Edited { audiences: BTreeMap::new(), other: Vec::new(), next: 0 };
        (0..3).for_each(|_| new.add(random));
        new
    }

    fn add(&mut self, random: &mut fastrand::Rng) {
        self.next += 1;
        self.audiences.insert(format!("a{}", self.next), condition(random));
    }

    fn edit(&mut self, random: &mut fastrand::Rng) {
        let ids: Vec<String> = self.audiences.keys().cloned().collect();
        let id = ids[random.usize(0..ids.len())].clone();
        match random.u8(0..5) {
            0 => self.add(random),
            1 if ids.len() > 1 => drop(self.audiences.remove(&id)),
            2 => {
                // Another id, the same conditions.
                let of = self.audiences.remove(&id).expect("it is one of them");
                self.next += 1;
                self.audiences.insert(format!("a{}", self.next), of);
            }
            3 => self.other = ids.into_iter().filter(|_| random.bool()).collect(),
            _ => drop(self.audiences.insert(id, condition(random))),
        }
        self.other.retain(|id| self.audiences.contains_key(id));
    }

    fn job(&self) -> String {
        let audiences = self.audiences.iter().map(|(id, of)| format!("  {id}: {{model: users, where: {of}}}\n"));
        let other = match &self.other[..] {
            [] => String::new(),
            ids => {
                format!("  other: {{audiences: [marked, {}], to: {{file: {{path: other.jsonl}}}}}}\n", ids.join(", "))
            }
        };
        job(&audiences.collect::<String>(), &format!("{CRM}{other}"))
    }
}

impl Edited {
    /// Waits until both syncs have written the changes of all events so far.
    ///
    /// The first mark may have the ms of an event before it, and come before that one's changes; the second comes later than both.
    fn settle(&self, shop: &Shop) {
        let files: &[&str] = if self.other.is_empty() { &["changes.jsonl"] } else { &["changes.jsonl", "other.jsonl"] };
        for _ in 0..2 {
            let mark = shop.mark();
            for file in files {
                let there =
                    || changes(&shop.path(file)).iter().any(|change| change.audience == "marked" && change.key == mark);
                until(&|| format!("{mark} comes to {file}"), there);
            }
        }
    }
}

/// Entries and exits that were sent behind the first `before` of the changes; those that a kill had repeated are none of them.
fn sent(changes: Vec<Change>, before: usize, sync: &str) -> BTreeMap<(String, String), [u64; 2]> {
    let mut sent: BTreeMap<(String, String), [u64; 2]> = BTreeMap::new();
    let changes = without_marks(changes);
    let (earlier, later) = changes.split_at(before);
    for change in later.iter().filter(|change| earlier.iter().all(|of| of.id != change.id)).cloned() {
        sent.entry((sync.to_owned(), change.audience)).or_default()[usize::from(!change.entered)] += 1;
    }
    sent
}

/// `USHER_EDITS=500 cargo test --test usher diff::what_is_printed` tries more.
#[test]
fn what_is_printed_of_random_edits_of_jobs_over_files_is_what_the_starts_send() {
    let edits: usize = std::env::var("USHER_EDITS").map_or(8, |count| count.parse().expect("a number"));
    let (mut entries, mut exits) = (0, 0);
    for seed in 0..edits.div_ceil(4) as u64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut edited = Edited::new(&mut random);
        let shop = Shop::new(&edited.job());
        for _ in 0..4 {
            for _ in 0..random.usize(0..30) {
                let what = random.choice(["Viewed", "Bought"]).expect("there are two");
                shop.happens(what, &format!("u-{}", random.u8(0..10)));
            }
            // What comes while the job runs, and what comes while it is down.
            let process = shop.live(&[]);
            for _ in 0..random.usize(0..10) {
                shop.happens("Viewed", &format!("u-{}", random.u8(0..10)));
            }
            edited.settle(&shop);
            let is_killed = random.bool();
            if is_killed {
                process.kill()
            } else {
                drop(process.stop())
            }
            for _ in 0..random.usize(0..10) {
                shop.happens("Bought", &format!("u-{}", random.u8(0..10)));
            }
            let other = || changes(&shop.path("other.jsonl"));
            let before = (without_marks(shop.changes()).len(), without_marks(other()).len());
            edited.edit(&mut random);
            std::fs::write(shop.path("after.yaml"), edited.job()).expect("the folder can be written");
            let report = diffed(&shop, &["after.yaml", "--read"]);
            let foreseen: BTreeMap<(String, String), [u64; 2]> = report["state"]["differences"]
                .as_array()
                .expect("there is a state")
                .iter()
                .filter(|of| of["audience"] != "marked")
                .map(|of| {
                    let text = |name: &str| of[name].as_str().expect("an id").to_owned();
                    let count = |name: &str| of[name].as_u64().expect("a number");
                    ((text("sync"), text("audience")), [count("entries"), count("exits")])
                })
                .collect();
            shop.job(&edited.job());
            // What was written when it was killed may not be acknowledged yet, and waits for a sync that the edit removes.
            let flags: &[&str] = if is_killed && edited.other.is_empty() { &["--drop-sync", "other"] } else { &[] };
            let process = shop.live(flags);
            edited.settle(&shop);
            process.stop();
            let mut found = sent(shop.changes(), before.0, "crm");
            found.extend(sent(other(), before.1, "other"));
            assert_eq!(foreseen, found, "seed {seed}: {report:#}");
            found.values().for_each(|[of_entries, of_exits]| {
                entries += of_entries;
                exits += of_exits;
            });
        }
    }
    println!("{} edits, {entries} entries, {exits} exits", edits.div_ceil(4) * 4);
    assert!(entries > 20 && exits > 5, "{entries} entries, {exits} exits");
}
