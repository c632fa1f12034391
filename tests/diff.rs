//! `usher diff`: what an edit does is printed before it is made, whether the job runs or not, and nothing is changed by that.

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
