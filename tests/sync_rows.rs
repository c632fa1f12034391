//! What exits and updates carry of a member's row, whatever happened to the row, the audience, the sync and the process since.

use crate::support::process::{Change, Process, changes, members, now, pass, until};
use crate::support::rows::{numbers, strings, write_parquet};
use crate::support::shop::{Shop, job, without_marks};
use serde_json::{Value, json};

/// A user: key, lifetime value, plan.
type User = (&'static str, f64, &'static str);

const RICH: &str = "  rich: {model: users, where: {property: ltv >= 100}}\n";
const BUYERS: &str = "  buyers: {model: users, where: {performed: bought, within: 1h}}\n";

/// A sync to `changes.jsonl`; `keys` are those that it has besides.
fn sync(keys: &str) -> String {
    format!("  crm: {{{keys}, to: {{file: {{path: changes.jsonl}}}}}}\n")
}

/// Replaces the users, at one moment; those who mark how far a job is stay.
fn write_users(shop: &Shop, users: &[User]) {
    let marks: Vec<String> = (0..60).map(|mark| format!("m-{mark}")).collect();
    let keys: Vec<&str> = users.iter().map(|user| user.0).chain(marks.iter().map(String::as_str)).collect();
    let pad = |of: Vec<f64>| [of, vec![0.0; marks.len()]].concat();
    let plans: Vec<&str> = users.iter().map(|user| user.2).chain(marks.iter().map(|_| "none")).collect();
    let ltv = numbers(&pad(users.iter().map(|user| user.1).collect()));
    let new = shop.path("users.new");
    write_parquet(&new, vec![("user_id", strings(&keys)), ("ltv", ltv), ("plan", strings(&plans))]);
    std::fs::rename(new, shop.path("users.parquet")).expect("it can be renamed");
}

/// Runs an edited job until all is committed; returns the changes that it has made meanwhile, sorted by audience and key, and stderr.
fn run_once(shop: &Shop, job: &str, happen: impl FnOnce(&Process)) -> (Vec<Change>, String) {
    shop.job(&job.replace("key: user_id}", "key: user_id, refresh: 1s}"));
    let before = without_marks(shop.changes()).len();
    // At a start a pull is made only if it is due.
    pass(now() + 1_000);
    let process = shop.live(&[]);
    happen(&process);
    shop.wait_until_committed(&process);
    shop.checkpointed(&process);
    let stderr = process.stop();
    let all = without_marks(shop.changes());
    members(&all);
    let mut new = all[before..].to_vec();
    new.sort_by(|a, b| (&a.audience, &a.key, a.at).cmp(&(&b.audience, &b.key, b.at)));
    (new, stderr)
}

/// Changes as text, each with its row.
fn texts(changes: &[Change]) -> Vec<String> {
    changes.iter().map(|change| format!("{} {}", change.text(), change.row)).collect()
}

/// What a pull that is due at a start changes: it is in force when the job goes live, or just after.
fn of_due_pull(texts: Vec<String>) -> Vec<String> {
    texts.into_iter().map(|text| text.replace(" snapshot ", " recovery ")).collect()
}

fn row(ltv: f64, plan: &str) -> Value {
    json!({"ltv": ltv, "plan": plan})
}

#[test]
fn an_exit_carries_the_row_of_its_entry_whatever_became_of_row_audience_and_process() {
    let shop = Shop::new("");
    let crm = sync("include: [ltv, plan]");
    let base = job(&format!("{RICH}{BUYERS}"), &crm);
    write_users(&shop, &[("u-1", 100.0, "free"), ("u-2", 200.0, "free"), ("u-3", 300.0, "pro"), ("u-4", 1.0, "free")]);
    let (entered, _) = run_once(&shop, &base, |_| {
        shop.happens("Bought", "u-4");
    });
    assert_eq!(
        texts(&entered),
        [
            format!("entry buyers u-4 event {}", row(1.0, "free")),
            format!("entry rich u-1 definition {}", row(100.0, "free")),
            format!("entry rich u-2 definition {}", row(200.0, "free")),
            format!("entry rich u-3 definition {}", row(300.0, "pro")),
        ]
    );

    // While it is down u-1 becomes poor, u-2 has another plan, u-3 is deleted.
    write_users(&shop, &[("u-1", 50.0, "pro"), ("u-2", 201.0, "pro"), ("u-4", 2.0, "pro")]);
    let (left, stderr) = run_once(&shop, &base, |_| ());
    let exits = [
        format!("exit rich u-1 recovery {}", row(100.0, "free")),
        format!("exit rich u-3 recovery {}", row(300.0, "pro")),
    ];
    assert_eq!(of_due_pull(texts(&left)), exits);
    assert!(stderr.contains(" entries, 2 exits, "), "{stderr}");

    // Renamed: what leaves has what it entered with, what enters has the row.
    let renamed = base.replace("rich:", "wealthy:");
    let (moved, stderr) = run_once(&shop, &renamed, |_| ());
    let expected = [
        format!("exit rich u-2 definition {}", row(200.0, "free")),
        format!("entry wealthy u-2 definition {}", row(201.0, "pro")),
    ];
    assert_eq!(texts(&moved), expected);
    assert!(
        stderr.contains("2 entries, 1 exits, "),
        "the mark and u-2; the exit of a removed audience counts: {stderr}"
    );

    // Removed, and the sync includes another column: the ledger has the others.
    let removed = job("", &sync("include: [plan, user_id, ltv]"));
    let (left, _) = run_once(&shop, &removed, |_| ());
    let with_id = |key: &str, ltv: f64, plan: &str| json!({"ltv": ltv, "plan": plan, "user_id": key});
    let expected = [
        format!("exit buyers u-4 definition {}", with_id("u-4", 1.0, "free")),
        format!("exit wealthy u-2 definition {}", with_id("u-2", 201.0, "pro")),
    ];
    assert_eq!(texts(&left), expected);
}

#[test]
fn an_exit_of_a_running_job_carries_the_row_of_its_entry() {
    let shop = Shop::new("");
    write_users(&shop, &[("u-1", 100.0, "free"), ("u-2", 100.0, "free")]);
    let both =
        format!("{}{}", sync("include: [plan]"), sync("").replace("crm: {,", "all: {").replace("changes", "all"));
    let (new, _) = run_once(&shop, &job(RICH, &both), |process| {
        shop.wait_until_committed(process);
        write_users(&shop, &[("u-1", 99.0, "pro")]);
        until(&|| "both leave".to_owned(), || members(&without_marks(shop.changes())).is_empty());
    });
    let plan = json!({"plan": "free"});
    let expected = [
        format!("entry rich u-1 definition {plan}"),
        format!("exit rich u-1 snapshot {plan}"),
        format!("entry rich u-2 definition {plan}"),
        format!("exit rich u-2 snapshot {plan}"),
    ];
    assert_eq!(texts(&new), expected);
    let all = without_marks(changes(&shop.path("all.jsonl")));
    assert_eq!(all.len(), 4);
    assert!(all.iter().all(|change| change.row == Value::Null), "a sync without columns carries none");
}

/// Updates as text, with both rows.
fn updates(changes: &[Change]) -> Vec<String> {
    let updates = changes.iter().filter(|change| change.updated);
    updates.map(|change| format!("{} {} -> {}", change.text(), change.previous_row, change.row)).collect()
}

#[test]
fn an_update_is_sent_where_included_columns_of_a_member_change_while_it_runs_and_while_it_is_down() {
    let shop = Shop::new("");
    let crm = sync("send: [entry, exit, update], include: [plan]");
    let quiet = sync("include: [plan]").replace("crm", "quiet").replace("changes", "quiet");
    let base = job(&format!("{RICH}{BUYERS}"), &format!("{crm}{quiet}"));
    write_users(&shop, &[("u-1", 100.0, "free"), ("u-2", 100.0, "free"), ("u-3", 100.0, "free"), ("u-4", 1.0, "free")]);
    let (new, stderr) = run_once(&shop, &base, |process| {
        shop.happens("Bought", "u-1");
        shop.wait_until_committed(process);
        // u-1 changes its plan, u-2 what is not included, u-3 leaves and u-4 enters at this moment.
        write_users(
            &shop,
            &[("u-1", 100.0, "pro"), ("u-2", 101.0, "free"), ("u-3", 1.0, "pro"), ("u-4", 100.0, "pro")],
        );
        until(&|| "u-4 enters".to_owned(), || shop.changes().iter().any(|change| change.key == "u-4"));
    });
    let (free, pro) = (json!({"plan": "free"}), json!({"plan": "pro"}));
    let expected = ["buyers", "rich"].map(|audience| format!("update {audience} u-1 snapshot {free} -> {pro}"));
    assert_eq!(updates(&new), expected);
    let of = |key: &str| texts(&new.iter().filter(|change| change.key == key).cloned().collect::<Vec<_>>());
    assert_eq!(of("u-3")[1], format!("exit rich u-3 snapshot {free}"));
    assert_eq!(of("u-4"), [format!("entry rich u-4 snapshot {pro}")]);
    assert!(stderr.contains("7 entries, 1 exits, "), "updates are neither: {stderr}");

    // Down: what is the same in the end is no update.
    write_users(&shop, &[("u-1", 100.0, "team"), ("u-2", 101.0, "free"), ("u-3", 1.0, "pro"), ("u-4", 500.0, "pro")]);
    let (new, _) = run_once(&shop, &base, |_| ());
    let team = json!({"plan": "team"});
    let expected = ["buyers", "rich"].map(|audience| format!("update {audience} u-1 recovery {pro} -> {team}"));
    assert_eq!(of_due_pull(updates(&new)), expected);
    assert_eq!(new.len(), 2);
    assert_eq!(run_once(&shop, &base, |_| ()).0, [], "a start with nothing new updates nothing");

    // Another `include`: a column that the ledger does not have was not there.
    let wider = base.replacen("include: [plan]", "include: [ltv]", 1);
    let (new, _) = run_once(&shop, &wider, |_| ());
    let was = json!({"ltv": null});
    let expected = [("buyers", 1, 100.0), ("rich", 1, 100.0), ("rich", 2, 101.0), ("rich", 4, 500.0)]
        .map(|(audience, user, ltv)| format!("update {audience} u-{user} definition {was} -> {}", json!({"ltv": ltv})));
    assert_eq!(updates(&new), expected);

    let quiet = without_marks(changes(&shop.path("quiet.jsonl")));
    members(&quiet);
    assert!(updates(&quiet).is_empty(), "a sync receives updates only where `send` has them");
    // It has committed none either: the row of its exit is that of the entry.
    write_users(&shop, &[("u-2", 101.0, "free")]);
    run_once(&shop, &wider, |_| ());
    let quiet = without_marks(changes(&shop.path("quiet.jsonl")));
    let exits = quiet.iter().filter(|change| !change.entered && change.key == "u-1");
    assert_eq!(exits.map(|exit| &exit.row).collect::<Vec<_>>(), [&free, &free]);
    let crm = without_marks(shop.changes());
    let exits = crm.iter().filter(|change| !change.entered && !change.updated && change.key == "u-1");
    assert_eq!(exits.map(|exit| &exit.row).collect::<Vec<_>>(), [&json!({"ltv": 100.0}), &json!({"ltv": 100.0})]);
}

#[test]
fn the_closing_line_counts_each_membership_that_leaves_a_removed_audience_once() {
    let shop = Shop::new("");
    write_users(&shop, &[("u-1", 100.0, "free"), ("u-2", 100.0, "free")]);
    let second = sync("include: [plan]").replace("crm", "second").replace("changes", "second");
    let syncs = format!("{}{second}", sync("include: [plan]"));
    let (_, stderr) = run_once(&shop, &job(RICH, &syncs), |_| ());
    assert!(stderr.contains("3 entries, 0 exits, 3 members"), "with the mark: {stderr}");
    let (left, stderr) = run_once(&shop, &job("", &syncs), |_| ());
    assert_eq!(left.len(), 2);
    assert!(stderr.contains("1 entries, 2 exits, 2 members"), "{stderr}");
    // A sync that is new, beside one that is not.
    let third = second.replace("second", "third");
    let (_, stderr) = run_once(&shop, &job(RICH, &format!("{syncs}{third}")), |_| ());
    assert!(stderr.contains(" entries, 0 exits, 5 members"), "{stderr}");
}
