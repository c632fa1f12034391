//! Rows of committed changes against a model that keeps every row as a value and looks each column up by name.

use super::*;
use serde_json::{Map, Value};
use usher_core::change::Recipients;

fn sync(include: &[&str]) -> usher_config::Sync {
    let file = format!(
        "job: shop
models: {{users: {{parquet: u, key: id}}}}
audiences: {{a: {{model: users, where: {{property: a}}}}}}
syncs: {{s: {{to: {{stdout: }}, {}}}}}",
        if include.is_empty() { String::new() } else { format!("include: [{}]", include.join(", ")) }
    );
    let job = usher_config::parse(&file, "job.yaml", std::path::Path::new("."), &|_| None);
    job.unwrap_or_else(|problems| panic!("{problems}")).syncs["s"].clone()
}

fn catalog() -> Catalog {
    Catalog::new("shop", [("a", "A", "users"), ("b", "B", "users")])
}

/// Commits a change as the ledger of a sync does; returns reason, row and previous row, or None if nothing is committed.
fn commit(
    rows: &mut CommittedRows,
    kind: ChangeKind,
    reason: Reason,
    audience: u32,
    key: &str,
    row: &str,
) -> Option<(Reason, String, String)> {
    let (mut changes, mut committed) = (Changes::new(), Changes::new());
    changes.push_to(Recipients::All, 7, audience, kind, reason, ChangeTexts { key, row, previous_row: "" });
    let is_committed = rows.commit(&changes, changes.iter().next().unwrap(), &catalog(), &mut committed);
    assert_eq!(committed.len(), usize::from(is_committed));
    let change = committed.iter().next()?;
    let texts = committed.texts(change);
    assert_eq!((change.at, change.audience, change.kind, texts.key), (7, audience, kind, key));
    Some((change.reason, texts.row.to_owned(), texts.previous_row.to_owned()))
}

const RECOVERY: Reason = Reason::Recovery;

#[test]
fn an_exit_has_the_columns_of_the_last_committed_change_and_else_those_of_the_row() {
    let mut rows = CommittedRows::new(&sync(&["email", "plan"]));
    let free = r#"{"email":"a@x","ltv":1,"plan":"free"}"#;
    let entry = commit(&mut rows, ChangeKind::Entry, Reason::Event, 0, "u-1", free).unwrap();
    assert_eq!(entry.1, r#"{"email":"a@x","plan":"free"}"#);
    // The row has changed since, and is gone in the end.
    for row in [r#"{"email":"b@x","ltv":1,"plan":"pro"}"#, ""] {
        let exit = commit(&mut rows, ChangeKind::Exit, Reason::Expiry, 0, "u-1", row).unwrap();
        assert_eq!(exit.1, entry.1);
        commit(&mut rows, ChangeKind::Entry, Reason::Event, 0, "u-1", free).unwrap();
    }
    // Another membership of the key, which the ledger has no row of.
    let exit = commit(&mut rows, ChangeKind::Exit, Reason::Definition, 1, "u-1", free).unwrap();
    assert_eq!(exit.1, entry.1);
    let exit = commit(&mut rows, ChangeKind::Exit, Reason::Definition, 1, "u-1", "").unwrap();
    assert_eq!(exit.1, r#"{"email":null,"plan":null}"#);
    // The ledger of a sync that included other columns: what it lacks is the row's, what it has is not.
    rows.restore("b", "u-1", r#"{"ltv":7,"plan":"trial"}"#);
    let exit = commit(&mut rows, ChangeKind::Exit, RECOVERY, 1, "u-1", free).unwrap();
    assert_eq!(exit.1, r#"{"email":"a@x","plan":"trial"}"#);
}

#[test]
fn an_update_is_committed_where_an_included_column_differs() {
    let mut rows = CommittedRows::new(&sync(&["plan"]));
    let row = |plan: &str, ltv: u32| format!(r#"{{"ltv":{ltv},"plan":{plan}}}"#);
    commit(&mut rows, ChangeKind::Entry, Reason::Event, 0, "u-1", &row("\"free\"", 1)).unwrap();
    let mut update = |plan, ltv| commit(&mut rows, ChangeKind::Update, RECOVERY, 0, "u-1", &row(plan, ltv));
    assert_eq!(update("\"free\"", 2), None);
    let changed = (RECOVERY, r#"{"plan":"pro"}"#.to_owned(), r#"{"plan":"free"}"#.to_owned());
    assert_eq!(update("\"pro\"", 2), Some(changed));
    assert_eq!(update("\"pro\"", 3), None);
    let exit = commit(&mut rows, ChangeKind::Exit, Reason::Event, 0, "u-1", &row("\"trial\"", 2)).unwrap();
    assert_eq!((exit.1, exit.2), (r#"{"plan":"pro"}"#.to_owned(), String::new()));
    // Another `include` than the ledger's is why it differs; where it does not, there is no update.
    rows.restore("a", "u-2", r#"{"ltv":1}"#);
    let update = commit(&mut rows, ChangeKind::Update, RECOVERY, 0, "u-2", &row("\"pro\"", 1)).unwrap();
    assert_eq!(update, (Reason::Definition, r#"{"plan":"pro"}"#.to_owned(), r#"{"plan":null}"#.to_owned()));
    rows.restore("a", "u-3", r#"{"ltv":1,"plan":null}"#);
    assert_eq!(commit(&mut rows, ChangeKind::Update, RECOVERY, 0, "u-3", &row("null", 2)), None);
    let mut without = CommittedRows::new(&sync(&[]));
    let entry = commit(&mut without, ChangeKind::Entry, Reason::Event, 0, "u-1", &row("null", 1)).unwrap();
    assert_eq!(entry.1, "");
    assert_eq!(commit(&mut without, ChangeKind::Update, RECOVERY, 0, "u-1", &row("1", 1)), None);
}

/// What the model keeps of a sync: by membership, the columns that were committed last.
type Model = BTreeMap<(u32, String), Map<String, Value>>;

fn object(text: &str) -> Map<String, Value> {
    if text.is_empty() { Map::new() } else { serde_json::from_str(text).unwrap() }
}

#[test]
fn rows_are_those_of_a_model_whatever_happens_and_across_restarts() {
    const COLUMNS: [&str; 4] = ["a", "b", "c d", "\"é\""];
    let (mut updates, mut same, mut restarts, mut lacking) = (0, 0, 0, 0);
    for seed in 0..200 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let some_include = |rng: &mut fastrand::Rng| -> Vec<String> {
            let mut columns = COLUMNS.to_vec();
            rng.shuffle(&mut columns);
            columns.truncate(rng.usize(1..=4));
            columns.into_iter().map(str::to_owned).collect()
        };
        let mut include = some_include(&mut rng);
        let started = |include: &[String]| CommittedRows { include: include.to_vec(), ..CommittedRows::default() };
        let mut rows = started(&include);
        let mut model = Model::new();
        for _ in 0..100 {
            let (audience, key) = (rng.u32(0..2), format!("u-{}", rng.u8(0..3)));
            let member = (audience, key.clone());
            let row: Map<String, Value> = if rng.u8(0..5) == 0 {
                Map::new()
            } else {
                COLUMNS.iter().map(|column| ((*column).to_owned(), Value::from(rng.u8(0..2)))).collect()
            };
            let text = if row.is_empty() { String::new() } else { Value::from(row.clone()).to_string() };
            let picked = |first: &Map<String, Value>, second: &Map<String, Value>| -> Map<String, Value> {
                let value = |name: &String| first.get(name).or(second.get(name)).cloned().unwrap_or(Value::Null);
                include.iter().map(|name| (name.clone(), value(name))).collect()
            };
            let none = Map::new();
            match (model.get(&member).cloned(), rng.u8(0..6)) {
                (_, 0) => {
                    // The next run reads the ledger, and may include other columns.
                    restarts += 1;
                    if rng.bool() {
                        include = some_include(&mut rng);
                    }
                    rows = started(&include);
                    for ((audience, key), row) in &model {
                        rows.restore(catalog().id(*audience), key, &Value::from(row.clone()).to_string());
                    }
                }
                (None, _) => {
                    let committed = commit(&mut rows, ChangeKind::Entry, Reason::Event, audience, &key, &text).unwrap();
                    assert_eq!(object(&committed.1), picked(&none, &row), "seed {seed}");
                    model.insert(member, picked(&none, &row));
                }
                (Some(before), 1 | 2) => {
                    let committed = commit(&mut rows, ChangeKind::Exit, Reason::Event, audience, &key, &text).unwrap();
                    lacking += u32::from(include.iter().any(|name| !before.contains_key(name)));
                    assert_eq!(object(&committed.1), picked(&before, &row), "seed {seed}");
                    model.remove(&member);
                }
                (Some(before), _) => {
                    let committed = commit(&mut rows, ChangeKind::Update, RECOVERY, audience, &key, &text);
                    let expected = picked(&none, &row);
                    if expected == picked(&before, &none) {
                        assert_eq!(committed, None, "seed {seed}");
                        same += 1;
                        continue;
                    }
                    let (reason, now, previous) = committed.unwrap();
                    assert_eq!((object(&now), object(&previous)), (expected.clone(), picked(&before, &none)));
                    let included: BTreeSet<&String> = include.iter().collect();
                    let same_columns = before.keys().collect::<BTreeSet<_>>() == included;
                    assert_eq!(reason == RECOVERY, same_columns, "seed {seed}");
                    model.insert(member, expected);
                    updates += 1;
                }
            }
            let texts: BTreeSet<&Arc<str>> = rows.members.values().collect();
            assert_eq!(rows.texts.0.len(), texts.len(), "seed {seed}: a text is held once, and as long as it is used");
        }
    }
    assert!(updates > 500 && same > 500 && restarts > 500 && lacking > 50, "{updates} {same} {restarts} {lacking}");
}
