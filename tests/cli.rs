//! The command line: what each command prints, where, and how it exits.

use crate::support::process::{Process, make_pipe, until};
use crate::support::rows::{numbers, run, strings, usher, write_parquet};
use std::path::Path;
use std::process::Stdio;

const JOB: &str = "
job: shop
sources: {web: {file: {path: events.jsonl}, format: segment}}
models: {users: {parquet: users.parquet, key: user_id}}
events: {bought: {source: web, type: track, name: Bought, model: users}}
audiences:
  rich_buyers: {model: users, where: {all: [{performed: bought, within: 1h}, {property: ltv > 15}]}}
syncs: {out: {to: {file: {path: changes.jsonl}}}}
";

fn shop(folder: &Path) {
    std::fs::write(folder.join("job.yaml"), JOB).expect("the folder can be written");
    write_parquet(
        &folder.join("users.parquet"),
        vec![("user_id", strings(&["a", "b"])), ("ltv", numbers(&[10.0, 20.0]))],
    );
    let line =
        |user: &str, at: &str| format!(r#"{{"type":"track","event":"Bought","userId":"{user}","timestamp":"{at}"}}"#);
    let lines = [line("a", "2026-11-23T10:00:00Z"), line("b", "2026-11-23T10:00:01Z")].join("\n");
    std::fs::write(folder.join("events.jsonl"), lines).expect("the folder can be written");
}

#[test]
fn check_confirms_a_job_that_is_right() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    shop(folder.path());
    for args in [vec!["check", "job.yaml"], vec!["check", "job.yaml", "--connect"]] {
        let ran = run(folder.path(), &args);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{}", ran.stderr);
        assert!(ran.stderr.contains("ok: `job.yaml`: 1 audience over 2 conditions"), "{}", ran.stderr);
    }
    assert!(!folder.path().join("changes.jsonl").exists(), "the check leaves nothing behind");
}

/// Twelve mistakes: in keys, references, durations, sizes, types, and inside predicates.
const TWELVE: &str = "
job: shop
sources: {web: {file: {path: events.jsonl, folow: true}, format: segmnt}}
models: {users: {parquet: users.parquet, key: user_id, refresh: 1}}
events:
  bought: {source: web, type: track, name: Bought, model: users, properties: {price: number}}
  viewed: {source: app, type: page, model: users, properties: {path: sting}}
audiences:
  rich:
    model: users
    where:
      all:
        - {performed: bought, where: \"prise > 3\", within: 100d}
        - property: ltx > 15
        - {performed: boght, within: 1h}
        - {audience: poor}
  shy: {model: users, where: {performed: bought, at_least: 1, at_most: 2, within: 1h}}
limits: {message_bytes: 1XB}
";

#[test]
fn check_tells_all_problems_with_their_places() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    shop(folder.path());
    std::fs::write(folder.path().join("job.yaml"), TWELVE).expect("the folder can be written");
    let ran = run(folder.path(), &["check", "job.yaml"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""));
    assert_eq!(ran.stderr, include_str!("cli/twelve.txt"));
}

#[test]
fn a_typo_in_a_predicate_is_placed_and_guessed() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    shop(folder.path());
    let job = JOB.replace("ltv > 15", "ltx > 15");
    std::fs::write(folder.path().join("job.yaml"), job).expect("the folder can be written");
    let ran = run(folder.path(), &["check", "job.yaml"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("audiences.rich_buyers.where.all[1].property: "), "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: did you mean `ltv`?"), "{}", ran.stderr);
}

/// From Kafka to Kafka, with everything that messages can be asked for.
const STREAM: &str = "
job: stream
sources:
  web:
    kafka: {brokers: localhost:9092, topic: web, properties: {sasl.password: \"${KAFKA_PASSWORD:-hunter2}\"}}
    format: segment
models: {users: {parquet: users.parquet, key: user_id}}
events: {bought: {source: web, type: track, name: Bought, model: users}}
audiences: {buyers: {model: users, where: {performed: bought, within: 1h}}}
syncs:
  crm:
    to: {kafka: {brokers: localhost:9092, topic: crm}}
    format: segment
    include: [ltv]
    fields: {properties.value: \"{{ row.ltv }}\"}
api: {listen: \"127.0.0.1:8080\", keys: [{token: \"${USHER_API_KEY:-hunter3}\"}]}
state: {url: state}
";

#[test]
fn a_stream_is_checked_and_explained_and_its_plan_has_no_secret() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    shop(folder.path());
    let write = |text: &str| std::fs::write(folder.path().join("job.yaml"), text).expect("the folder can be written");
    write(STREAM);
    let ran = run(folder.path(), &["check", "job.yaml"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let ran = run(folder.path(), &["explain", "job.yaml"]);
    assert!(ran.stdout.contains("    message column ltv number\n"), "{}", ran.stdout);
    assert!(!ran.stdout.contains("hunter"), "{}", ran.stdout);
    let ran = run(folder.path(), &["compile", "job.yaml", "-o", "job.plan"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let plan = std::fs::read(folder.path().join("job.plan")).expect("it was written");
    let plan = String::from_utf8_lossy(&plan);
    assert!(plan.contains("${KAFKA_PASSWORD:-hunter2}") && plan.contains("${USHER_API_KEY:-hunter3}"));
    assert_eq!(run(folder.path(), &["check", "job.plan"]).code, Some(0));
    write(&STREAM.replace("\"${KAFKA_PASSWORD:-hunter2}\"", "hunter2"));
    assert_eq!(run(folder.path(), &["check", "job.yaml"]).code, Some(0));
    let ran = run(folder.path(), &["compile", "job.yaml", "-o", "job.plan"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("sources.web.kafka.properties.\"sasl.password\""), "{}", ran.stderr);
    assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
}

#[test]
fn columns_and_templates_that_are_wrong_are_found_with_their_places() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    shop(folder.path());
    let job = STREAM.replace("include: [ltv]", "include: [ltx]").replace("row.ltv", "row.lvt");
    std::fs::write(folder.path().join("job.yaml"), &job).expect("the folder can be written");
    let ran = run(folder.path(), &["check", "job.yaml"]);
    let expected = "error: 2 problems in `job.yaml`
job.yaml:14:15: syncs.crm.include[0]: unknown column `ltx`
  hint: did you mean `ltv`?
job.yaml:15:32: syncs.crm.fields.\"properties.value\": nothing is called `row.lvt` in templates
  hint: a row has the columns that the sync's `include` names
";
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(2), expected));
    // They are found beside other mistakes too.
    std::fs::write(folder.path().join("job.yaml"), job.replace("within: 1h", "within: 1x")).expect("the same");
    let ran = run(folder.path(), &["check", "job.yaml"]);
    assert!(ran.stderr.contains("nothing is called `row.lvt`"), "{}", ran.stderr);
}

#[test]
fn a_schema_that_cannot_be_read_hides_nothing_of_other_models() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    shop(folder.path());
    let orders = "  orders: {parquet: gone.parquet, key: id, belongs_to: {model: users, foreign_key: user_id}}\n";
    let job = JOB
        .replace(
            "models: {users: {parquet: users.parquet, key: user_id}}\n",
            &format!("models:\n  users: {{parquet: users.parquet, key: user_id, refresh: 1}}\n{orders}"),
        )
        .replace("ltv > 15}", "ltx > 15}, {related: orders, where: total > 1, sum: total, at_least: 1}");
    std::fs::write(folder.path().join("job.yaml"), job).expect("the folder can be written");
    let ran = run(folder.path(), &["check", "job.yaml"]);
    let expected = "error: 2 problems in `job.yaml`
job.yaml:5:58: models.users.refresh: `1` has no unit
  hint: durations are written as in `250ms 30s 5m 4h 7d 1h30m`
job.yaml:9:89: audiences.rich_buyers.where.all[1].property: unknown column `ltx` at column 1
  hint: did you mean `ltv`?
";
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(2), expected));
}

#[test]
fn every_example_is_right() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples");
    for entry in std::fs::read_dir(&examples).expect("the folder is there") {
        let name = entry.expect("the entry can be read").file_name();
        let ran = run(&examples, &["check", name.to_str().expect("a name in UTF-8")]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    }
}

#[test]
fn a_schema_that_cannot_be_read_is_exit_3() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    shop(folder.path());
    std::fs::remove_file(folder.path().join("users.parquet")).expect("it was written");
    let ran = run(folder.path(), &["check", "job.yaml"]);
    assert_eq!(ran.code, Some(3));
    assert!(
        ran.stderr
            .contains("error: the schema of model `users` can't be read: `users.parquet`: no such file or folder"),
        "{}",
        ran.stderr
    );
    let declared = JOB.replace("key: user_id}", "key: user_id, columns: {ltv: number}}");
    std::fs::write(folder.path().join("job.yaml"), declared).expect("the folder can be written");
    assert_eq!(run(folder.path(), &["check", "job.yaml"]).code, Some(0), "what is declared need not be looked up");
    assert_eq!(run(folder.path(), &["check", "job.yaml", "--connect"]).code, Some(3));
}

#[test]
fn a_job_that_is_not_there_is_exit_2() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let ran = run(folder.path(), &["run", "jop.yaml"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.starts_with("error: the job `jop.yaml` can't be read: "), "{}", ran.stderr);
    assert_eq!(run(folder.path(), &["runn"]).code, Some(2));
    assert_eq!(run(folder.path(), &["replay", "job.yaml", "--from", "tomorrow"]).code, Some(2));
}

#[test]
fn a_plan_runs_in_place_of_its_job() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    shop(folder.path());
    let from_job = run(folder.path(), &["replay", "job.yaml", "--now", "2026-11-24T00:00:00Z"]);
    assert_eq!(from_job.stdout.lines().count(), 1, "{}", from_job.stdout);
    assert_eq!(run(folder.path(), &["compile", "job.yaml", "-o", "shop.plan"]).code, Some(0));
    std::fs::remove_file(folder.path().join("job.yaml")).expect("it was written");
    let from_plan = run(folder.path(), &["replay", "shop.plan", "--now", "2026-11-24T00:00:00Z", "--out", "out.jsonl"]);
    assert_eq!((from_plan.code, from_plan.stdout.as_str()), (Some(0), ""), "{}", from_plan.stderr);
    assert_eq!(std::fs::read_to_string(folder.path().join("out.jsonl")).expect("it was written"), from_job.stdout);
    assert_eq!(run(folder.path(), &["check", "shop.plan"]).code, Some(0));
    let mut bytes = std::fs::read(folder.path().join("shop.plan")).expect("it was written");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(folder.path().join("shop.plan"), bytes).expect("the folder can be written");
    let damaged = run(folder.path(), &["replay", "shop.plan"]);
    assert_eq!(damaged.code, Some(2));
    assert!(damaged.stderr.contains("error: `shop.plan`: "), "{}", damaged.stderr);
}

#[test]
fn two_things_do_not_write_to_one_file() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    shop(folder.path());
    let job = format!("{JOB}dead_letters: {{file: {{path: ./changes.jsonl}}}}\n");
    std::fs::write(folder.path().join("job.yaml"), job).expect("the folder can be written");
    let ran = run(folder.path(), &["run", "job.yaml"]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("`dead_letters` writes to `./changes.jsonl`, which the sync `out` writes too"),
        "{}",
        ran.stderr
    );
}

#[test]
fn explain_shows_the_plan_on_stdout() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    shop(folder.path());
    let ran = run(folder.path(), &["explain", "job.yaml", "rich_buyers"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert!(ran.stdout.contains("rich_buyers") && ran.stdout.contains("ltv > 15"), "{}", ran.stdout);
    let ran = run(folder.path(), &["explain", "job.yaml", "rich_buyer"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""));
    assert!(ran.stderr.contains("rich_buyers"), "{}", ran.stderr);
}

#[test]
fn the_schema_is_json() {
    let ran = run(Path::new("."), &["schema"]);
    let schema: serde_json::Value = serde_json::from_str(&ran.stdout).expect("a schema is JSON");
    assert!(schema["properties"]["audiences"].is_object());
}

#[test]
fn a_full_disk_is_exit_1_with_the_path() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    shop(folder.path());
    let ran = run(folder.path(), &["replay", "job.yaml", "--now", "2026-11-24T00:00:00Z", "--out", "/dev/full"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("error: `/dev/full` can't be written: "), "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: free some space"), "{}", ran.stderr);
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    shop(folder.path());
    let mut child = usher(folder.path(), &["replay", "job.yaml", "--now", "2026-11-24T00:00:00Z"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("the child is ours").code(), Some(0));
}

/// A shop whose events come from a topic's worth of files and from one more, with a filter on the event.
#[test]
fn an_event_of_two_sources_two_names_and_a_filter_counts_repeats_once() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let path = folder.path();
    let line = |name: &str, id: &str, second: u32, price: u32| {
        let at = format!("2026-11-23T10:00:{second:02}Z");
        format!(
            r#"{{"type":"track","event":"{name}","messageId":"{id}","userId":"a","timestamp":"{at}","properties":{{"price":{price}}}}}"#
        ) + "\n"
    };
    // The second file repeats the first message, and a cheap one does not count.
    let old = line("Bought", "m1", 0, 30) + &line("Ordered", "m2", 1, 5);
    let new = line("Bought", "m1", 2, 30) + &line("Ordered", "m3", 3, 40) + &line("Else", "m4", 4, 50);
    std::fs::write(path.join("old.jsonl"), old).expect("the folder can be written");
    std::fs::write(path.join("new.jsonl"), new).expect("the folder can be written");
    let job = "
job: shop
include: more/*.yaml
sources:
  old: {file: {path: old.jsonl}, format: segment}
  new: {file: {path: new.jsonl}, format: segment}
models: {anybody: {}}
events:
  bought: {source: [old, new], type: track, name: [Bought, Ordered], where: price > 10, model: anybody,
    properties: {price: number}}
";
    let audiences = "audiences:
  one: {model: anybody, where: {performed: bought, exactly: 1, within: 1h}}
  two: {model: anybody, where: {performed: bought, at_least: 2, within: 1h}}
  three: {model: anybody, where: {performed: bought, at_least: 3, within: 1h}}
";
    std::fs::create_dir(path.join("more")).expect("the folder can be written");
    std::fs::write(path.join("more/audiences.yaml"), audiences).expect("the folder can be written");
    std::fs::write(path.join("job.yaml"), job).expect("the folder can be written");
    for workers in ["1", "2"] {
        let ran = run(path, &["replay", "job.yaml", "-w", workers, "--now", "2026-11-23T12:00:00Z"]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        let changes: Vec<String> = ran
            .stdout
            .lines()
            .map(|line| {
                let change: serde_json::Value = serde_json::from_str(line).expect("a change is JSON");
                let field = |name: &str| change[name].as_str().unwrap_or_default().to_owned();
                format!("{} {} {}", field("at"), field("type"), field("audience_id"))
            })
            .collect();
        let want = [
            "2026-11-23T10:00:00.000Z entry one",
            "2026-11-23T10:00:03.000Z exit one",
            "2026-11-23T10:00:03.000Z entry two",
        ];
        assert_eq!(changes, want, "{}", ran.stderr);
    }
}

#[test]
fn a_repeat_of_a_message_that_is_two_events_is_counted_once() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let path = folder.path();
    let job = "
job: shop
sources: {web: {file: {path: web.jsonl}, format: segment}, hist: {file: {path: hist.jsonl}, format: segment}}
models: {users: {columns: {plan: {type: string, live: {event: looked, property: plan}}}}, accs: {}}
events:
  looked: {source: [web, hist], type: track, name: A, model: users, properties: {plan: string}}
  of_account: {source: [web, hist], type: track, name: A, model: accs, foreign_key: properties.acc}
audiences:
  lookers: {model: users, where: {performed: looked, within: 20s}}
  on_plan: {model: users, where: {property: plan = 'pro'}}
  accounts: {model: accs, where: {performed: of_account, within: 40s}}
";
    std::fs::write(path.join("job.yaml"), job).expect("the folder can be written");
    let line = |number: u32, second: u32| {
        format!(
            r#"{{"type":"track","event":"A","messageId":"m-{number}","userId":"u-{number}","timestamp":"2026-11-23T10:00:{second:02}Z","properties":{{"plan":"pro","acc":"c-{number}"}}}}"#
        ) + "\n"
    };
    // The first two come again at once, the third while only its account is held, in a second file all of them once more.
    let web = line(0, 0) + &line(1, 0) + &line(2, 0) + &line(0, 1) + &line(1, 1) + &line(2, 30);
    let hist = line(0, 0) + &line(1, 0) + &line(2, 0);
    for (hist, read, repeats) in [("", 6, 3), (&hist[..], 9, 6)] {
        std::fs::write(path.join("web.jsonl"), &web).expect("the folder can be written");
        std::fs::write(path.join("hist.jsonl"), hist).expect("the folder can be written");
        for workers in ["1", "2", "3"] {
            let args =
                ["replay", "job.yaml", "-w", workers, "--now", "2026-11-23T12:00:00Z", "--summary", "summary.json"];
            let ran = run(path, &args);
            let expected = format!("read {read} = matched {read} + skipped 0 + dead letters 0; repeats {repeats};");
            assert!(ran.stderr.contains(&expected), "{workers} workers: {}", ran.stderr);
            let summary = std::fs::read(path.join("summary.json")).expect("it is written");
            let summary: serde_json::Value = serde_json::from_slice(&summary).expect("it is JSON");
            assert_eq!(summary["repeats"], repeats, "{summary}");
        }
    }
}

#[test]
fn a_replay_that_is_stopped_says_that_its_changes_are_not_all() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    shop(folder.path());
    // It does not end while somebody may write.
    let pipe = folder.path().join("pipe");
    make_pipe(&pipe);
    std::fs::write(folder.path().join("job.yaml"), JOB.replace("events.jsonl", "pipe")).expect("it can be written");
    let process = Process::start(folder.path(), &["replay", "job.yaml", "--now", "2026-11-24T00:00:00Z"]);
    let writer = std::fs::File::options().write(true).open(pipe).expect("it is opened to be read");
    until(&|| process.stderr(), || process.has_thread("job"));
    process.signal("INT");
    let (code, stderr) = process.ends();
    drop(writer);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("stopped before the end: the changes of what was not read are missing\n"), "{stderr}");
}

#[test]
fn a_replay_writes_dead_letters_only_where_its_flag_says() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    shop(folder.path());
    let job = format!("{JOB}dead_letters: {{file: {{path: dead.jsonl}}}}\n");
    std::fs::write(folder.path().join("job.yaml"), job).expect("the folder can be written");
    std::fs::write(folder.path().join("events.jsonl"), "{broken\n").expect("the folder can be written");
    let ran = run(folder.path(), &["replay", "job.yaml", "--now", "2026-11-23T12:00:00Z"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(!folder.path().join("dead.jsonl").exists(), "the job's dead letters are not touched");
    let work = folder.path().join("work");
    std::fs::create_dir(&work).expect("the folder can be written");
    for _ in 0..2 {
        let args = ["replay", "../job.yaml", "--now", "2026-11-23T12:00:00Z", "--dead-letters", "dead.jsonl"];
        assert_eq!(run(&work, &args).code, Some(0));
        let letters = std::fs::read_to_string(work.join("dead.jsonl")).expect("they are written");
        assert_eq!(letters.lines().count(), 1, "the file is replaced: {letters}");
    }
    let ran = run(&work, &["replay", "../job.yaml", "--dead-letters", "x", "--out", "x"]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("--out and --dead-letters both name `x`"), "{}", ran.stderr);
}

#[test]
fn check_finds_what_a_run_would_refuse() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    shop(folder.path());
    let kafka = |setting: &str| format!("kafka: {{brokers: \"127.0.0.1:1\", topic: t, properties: {{{setting}}}}}");
    for (from, to, want) in [
        (
            "path: changes.jsonl",
            "path: ./events.jsonl",
            "the sync `out` writes to `./events.jsonl`, which the source `web` reads",
        ),
        (
            "file: {path: events.jsonl}",
            &kafka("group.id: g"),
            "sources.web.kafka.properties.\"group.id\": `properties` can't set `group.id`",
        ),
        ("file: {path: events.jsonl}", &kafka("fetch.mni.bytes: 1"), "`properties.fetch.mni.bytes`: "),
        (
            "file: {path: changes.jsonl}",
            &kafka("acks: 1"),
            "syncs.out.to.kafka.properties.acks: `properties` can't set `acks`",
        ),
        ("job: shop", "job: shop\nstate: {url: \"redis://x\"}", "state can't be at `redis://`"),
    ] {
        let job = JOB.replacen(from, to, 1);
        assert_ne!(job, JOB, "{from} is in the job");
        std::fs::write(folder.path().join("job.yaml"), &job).expect("the folder can be written");
        for command in ["check", "run"] {
            let ran = run(folder.path(), &[command, "job.yaml"]);
            assert_eq!(ran.code, Some(2), "{command} {to}: {}", ran.stderr);
            assert!(ran.stderr.contains(want), "{command} {to}: {}", ran.stderr);
        }
    }
    // What is only not there yet is right.
    let followed = JOB.replace("{path: events.jsonl}", "{path: later.jsonl, follow: true}");
    std::fs::write(folder.path().join("job.yaml"), followed).expect("the folder can be written");
    let ran = run(folder.path(), &["check", "job.yaml", "--connect"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let state = JOB.replace("job: shop", "job: shop\nstate: {url: users.parquet/state}");
    std::fs::write(folder.path().join("job.yaml"), state).expect("the folder can be written");
    let ran = run(folder.path(), &["check", "job.yaml", "--connect"]);
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    assert!(ran.stderr.contains("the state store") && ran.stderr.contains("hint: "), "{}", ran.stderr);
    assert!(!folder.path().join("usher-state").exists(), "the check leaves nothing behind");
}

#[test]
fn check_prints_problems_as_json_for_programs_and_warns_of_what_is_never_true() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    shop(folder.path());
    std::fs::write(folder.path().join("job.yaml"), JOB.replace("ltv > 15", "ltv != null")).expect("it can be written");
    let ran = run(folder.path(), &["check", "job.yaml", "--json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let found: serde_json::Value = serde_json::from_str(&ran.stdout).expect("it is JSON");
    let message = "`ltv` is compared with null, which is never true";
    assert_eq!((&found["ok"], &found["problems"]), (&true.into(), &serde_json::json!([])));
    assert_eq!((&found["warnings"][0]["line"], &found["warnings"][0]["message"]), (&7.into(), &message.into()));
    let warning = "warning: job.yaml:7:89: audiences.rich_buyers.where.all[1].property: `ltv` is compared with null, \
                   which is never true\n  hint: write `ltv is not null`";
    assert!(ran.stderr.contains(warning), "{}", ran.stderr);
    std::fs::write(folder.path().join("job.yaml"), JOB.replace("ltv > 15", "ltx > 15")).expect("it can be written");
    let ran = run(folder.path(), &["check", "job.yaml", "--json"]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    let found: serde_json::Value = serde_json::from_str(&ran.stdout).expect("it is JSON");
    let problem = &found["problems"][0];
    assert_eq!((&found["ok"], &problem["line"], &problem["file"]), (&false.into(), &7.into(), &"job.yaml".into()));
    assert_eq!(problem["path"], "audiences.rich_buyers.where.all[1].property");
    assert!(problem["hint"].as_str().is_some_and(|hint| hint.contains("`ltv`")), "{problem}");
}

#[test]
fn what_the_job_reads_is_not_written_over() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    shop(folder.path());
    std::fs::create_dir(folder.path().join("warehouse")).expect("the folder can be written");
    let content = |name: &str| std::fs::read(folder.path().join(name)).expect("it is there");
    std::fs::rename(folder.path().join("users.parquet"), folder.path().join("warehouse/users.parquet"))
        .expect("it is there");
    let refused = |args: &[&str], reader: &str| {
        let before = ["job.yaml", "events.jsonl", "warehouse/users.parquet"].map(content);
        let ran = run(folder.path(), args);
        assert!(ran.code == Some(2) && ran.stderr.contains(reader), "{args:?}: {:?} {}", ran.code, ran.stderr);
        assert_eq!(["job.yaml", "events.jsonl", "warehouse/users.parquet"].map(content), before, "{args:?}");
    };
    std::os::unix::fs::symlink("warehouse", folder.path().join("linked")).expect("the folder can be written");
    let globs = ["warehouse/*.parquet", "./warehouse/*.parquet", "linked/../linked/u*.parquet", "w*"];
    for parquet in ["warehouse/users.parquet", "warehouse"].into_iter().chain(globs) {
        let job = JOB.replace("users.parquet", parquet);
        std::fs::write(folder.path().join("job.yaml"), &job).expect("it can be written");
        for (file, reader) in [
            ("events.jsonl", "which the source `web` reads"),
            ("warehouse/../events.jsonl", "which the source `web` reads"),
            ("warehouse/users.parquet", "which the model `users` reads"),
            ("./job.yaml", "which is the job file"),
        ] {
            for flag in ["--out", "--dead-letters", "--summary"] {
                refused(&["replay", "job.yaml", flag, file], reader);
            }
            refused(&["compile", "job.yaml", "-o", file], reader);
        }
        for (file, reader) in
            [("job.yaml", "which is the job file"), ("warehouse/users.parquet", "which the model `users` reads")]
        {
            std::fs::write(folder.path().join("job.yaml"), job.replace("changes.jsonl", file))
                .expect("it can be written");
            for command in ["check", "run"] {
                refused(&[command, "job.yaml"], &format!("sync `out` writes to `{file}`, {reader}"));
            }
            std::fs::write(folder.path().join("job.yaml"), &job).expect("it can be written");
        }
    }
    let ran = run(
        folder.path(),
        &["replay", "job.yaml", "--now", "2026-11-24T00:00:00Z", "--out", "warehouse/changes.jsonl"],
    );
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn user_and_query_of_a_url_are_in_no_plan_and_shown_nowhere() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let job = "
job: t
models:
  u: {parquet: \"${PQ}\", key: id, columns: {x: number}}
  v: {delta: \"${DL}\", key: id, columns: {x: number}}
audiences: {a: {model: u, where: {property: x > 3}}, b: {model: v, where: {property: x > 3}}}
state: {url: \"${ST}\"}
";
    std::fs::write(folder.path().join("job.yaml"), job).expect("it can be written");
    let ran = |args: &[&str], password: &str| {
        let url = |path: &str| format!("https://me:{password}@127.0.0.1:9/{path}?sig={password}");
        let mut program = usher(folder.path(), args);
        program.env("PQ", url("u.parquet")).env("DL", url("table")).env("ST", format!("s3://b/x?secret={password}"));
        let output = program.output().expect("the program starts");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).expect("it is text"))
    };
    let (code, said) = ran(&["compile", "job.yaml", "-o", "job.plan"], "hunter2");
    assert_eq!(code, Some(0), "{said}");
    let plan = std::fs::read(folder.path().join("job.plan")).expect("it was written");
    let plan = String::from_utf8_lossy(&plan).into_owned();
    assert!(plan.contains("${PQ}") && plan.contains("${DL}") && plan.contains("${ST}") && !plan.contains("hunter2"));
    for file in ["job.yaml", "job.plan"] {
        let (code, said) = ran(&["explain", file], "hunter2");
        assert!(code == Some(0) && said.contains("reads https://127.0.0.1:9/u.parquet\n"), "{said}");
        assert!(said.contains("reads delta https://127.0.0.1:9/table\n") && !said.contains("hunter2"), "{said}");
        // What is read is what the variables say now.
        let (code, said) = ran(&["replay", file], "swordfish");
        assert!(code == Some(3) && said.contains("127.0.0.1:9") && !said.contains("swordfish"), "{code:?} {said}");
    }
    for (key, url) in
        [("parquet: \"${PQ}\"", "parquet: \"https://h/u?sig=1\""), ("url: \"${ST}\"", "url: \"s3://me:pw@b/x\"")]
    {
        std::fs::write(folder.path().join("job.yaml"), job.replace(key, url)).expect("it can be written");
        let (code, said) = ran(&["compile", "job.yaml", "-o", "job.plan"], "hunter2");
        assert!(code == Some(2) && said.contains("${"), "{code:?} {said}");
    }
}

#[test]
fn two_keys_of_the_api_with_one_token_are_refused() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    shop(folder.path());
    let api = "api: {listen: \"127.0.0.1:0\", keys: [{token: a, can: [read]}, {token: b, can: [read]}, {token: a, can: [read, admin]}]}\n";
    std::fs::write(folder.path().join("job.yaml"), format!("{JOB}{api}")).expect("it can be written");
    let ran = run(folder.path(), &["run", "job.yaml"]);
    let message = "the token of `api.keys[2]` can't be used: `api.keys[0]` has the same";
    assert!(ran.code == Some(2) && ran.stderr.contains(message), "{:?} {}", ran.code, ran.stderr);
}

#[test]
fn the_version_has_what_the_program_was_built_from() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let ran = run(folder.path(), &["--version"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    let features = if cfg!(feature = "tls") { "features: tls" } else { "features: none" };
    assert_eq!(lines[0], concat!("usher ", env!("CARGO_PKG_VERSION")));
    assert!(lines[1].starts_with("commit: "), "{lines:?}");
    assert_eq!(lines[2], features);
    assert!(lines[3].starts_with("librdkafka: 2."), "{lines:?}");
    assert_eq!(run(folder.path(), &["-V"]).stdout.trim_end(), lines[0]);
}

#[test]
fn with_log_format_json_each_line_of_stderr_is_an_object() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    shop(folder.path());
    let parsed = |stderr: &str| -> Vec<serde_json::Value> {
        let object = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        stderr.lines().map(object).collect()
    };
    let ran = run(folder.path(), &["replay", "job.yaml", "--log-format", "json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let lines = parsed(&ran.stderr);
    for line in &lines {
        assert!(["timestamp", "level", "message"].iter().all(|name| line[name].is_string()), "{line}");
    }
    let has = |what: &dyn Fn(&serde_json::Value) -> bool| lines.iter().any(what);
    assert!(has(&|line| line["message"] == "pulled" && line["model"] == "users" && line["rows"] == 2), "{lines:?}");
    assert!(has(&|line| line["message"].as_str().is_some_and(|text| text.contains("1 entries"))), "{lines:?}");
    // Errors too, with the hint beside the message.
    std::fs::remove_file(folder.path().join("users.parquet")).expect("it is there");
    for command in ["replay", "run"] {
        let ran = run(folder.path(), &[command, "job.yaml", "--log-format", "json"]);
        assert_eq!(ran.code, Some(3), "{}", ran.stderr);
        let lines = parsed(&ran.stderr);
        let last = lines.last().expect("an error is printed");
        assert_eq!(last["level"], "ERROR");
        assert!(last["message"].is_string() && last["hint"].is_string(), "{last}");
    }
    assert_eq!(run(folder.path(), &["run", "job.yaml", "--log-format", "xml"]).code, Some(2));
}

#[test]
fn the_letter_h_of_run_is_help_without_a_value_and_completions_are_printed() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    for args in [&["run", "-h"][..], &["run", "job.yaml", "-h"], &["run", "--help"], &["check", "-h"]] {
        let ran = run(folder.path(), args);
        assert_eq!(ran.code, Some(0), "{args:?}: {}", ran.stderr);
        assert!(ran.stdout.contains("Usage: usher "), "{args:?}: {}", ran.stdout);
    }
    for shell in ["bash", "zsh", "fish"] {
        let ran = run(folder.path(), &["completions", shell]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert!(ran.stdout.contains("usher") && ran.stdout.contains("replay"), "{shell}");
    }
}

#[test]
fn a_log_level_that_is_none_is_a_warning_and_the_command_goes_on() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    shop(folder.path());
    for level in ["loud=x=y", "verbose", "info,bogus"] {
        let ran = usher(folder.path(), &["check", "job.yaml"]).env("USHER_LOG", level).output().expect("it runs");
        let stderr = String::from_utf8(ran.stderr).expect("it is text");
        assert_eq!(ran.status.code(), Some(0), "{stderr}");
        let warning = format!(" WARN USHER_LOG is `{level}`: ");
        assert!(stderr.contains(&warning) && stderr.contains("hint=\"write a level"), "{stderr}");
        assert!(!stderr.contains("error:"), "{stderr}");
    }
}

#[test]
fn diff_refuses_workers_where_the_job_that_runs_works_it_out() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    shop(folder.path());
    let ran = run(folder.path(), &["diff", "job.yaml", "--url", "http://127.0.0.1:9", "-w", "2"]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("cannot be used with"), "{}", ran.stderr);
    let ran = run(folder.path(), &["diff", "job.yaml", "--url", "http://127.0.0.1:9"]);
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
}
