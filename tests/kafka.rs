//! `usher run` between topics of a real Apache Kafka, killed, cut off and refused.
//!
//! Each scenario is a Python program in `tests/kafka`, with confluent-kafka and a computation of membership that share
//! no code with the engine. Each test starts one with a broker and passes if it passes. Where Java, Maven, Python or
//! confluent-kafka are missing, the tests print that they are skipped and pass; if `USHER_REQUIRE` names `kafka`
//! (`kafka,s3`), they fail. So does the test of a real schema registry where `scripts/registry` can't start one; its name is `registry`.
//!
//! `USHER_KILLS` sets how often jobs are killed (10), `USHER_DUELS` how many pairs of instances start at once (4; 30 is thorough),
//! `USHER_OUTAGE` how long brokers are away, s (4).

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

/// The client that scenarios are written with; newer ones will do.
const CLIENT: &str = "confluent-kafka>=2.8";

/// A broker, which ends with this process.
struct Broker {
    folder: PathBuf,
    /// What `scripts/kafka up` prints.
    variables: HashMap<String, String>,
}

/// The one that tests share.
static SHARED: LazyLock<Option<Broker>> = LazyLock::new(|| Broker::start("shared"));

/// A Python that has confluent-kafka: the system's, or one of an environment that is made once.
static PYTHON: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let system = PathBuf::from("python3");
    if has_client(&system) {
        return Some(system);
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
    let own = folder.join("bin/python");
    if has_client(&own) {
        return Some(own);
    }
    let ran = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
    if !ran(Command::new("python3").args(["-m", "venv"]).arg(&folder)) {
        skipped("there is no Python 3 with `venv`");
        return None;
    }
    if !ran(Command::new(&own).args(["-m", "pip", "install", "--quiet", CLIENT])) {
        skipped("pip could not get confluent-kafka");
        return None;
    }
    Some(own)
});

/// Returns a Python whose confluent-kafka has the serializers of registries: the system's, or one of an environment that is made once.
fn python_with_serializers() -> Option<PathBuf> {
    let has_serializers = |python: &Path| {
        let imports = "import confluent_kafka.schema_registry.avro, confluent_kafka.schema_registry.protobuf, \
             confluent_kafka.schema_registry.json_schema";
        Command::new(python).args(["-c", imports]).output().is_ok_and(|output| output.status.success())
    };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-registry");
    let own = folder.join("bin/python");
    if let Some(found) = [Path::new("python3"), &own].into_iter().find(|python| has_serializers(python)) {
        return Some(found.to_owned());
    }
    let ran = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
    let is_made = ran(Command::new("python3").args(["-m", "venv"]).arg(&folder))
        && ran(Command::new(&own).args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "confluent-kafka[avro,protobuf,json]>=2.10",
        ]));
    (is_made && has_serializers(&own)).then_some(own)
}

/// Returns a folder with npm's client of registries, which is made once; `None` where npm can't get it.
fn npm_writer() -> Option<PathBuf> {
    const PACKAGE: &str = "@kafkajs/confluent-schema-registry";
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("npm-registry");
    let is_there = || folder.join("node_modules").join(PACKAGE).is_dir();
    if !is_there() {
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-fund", "--no-audit", "--prefix"]).arg(&folder);
        let _ = npm.arg(format!("{PACKAGE}@4.1.0")).output();
    }
    is_there().then_some(folder)
}

/// Prints past the test harness, which hides the output of passing tests.
fn print(what: &str) {
    let _ = writeln!(std::io::stdout(), "{what}");
}

/// Prints that tests are skipped. Panics if `USHER_REQUIRE` names `kafka`.
fn skipped(why: &str) {
    skipped_of("kafka", "a real Kafka", why);
}

fn skipped_of(name: &str, what: &str, why: &str) {
    let required = std::env::var("USHER_REQUIRE").unwrap_or_default();
    assert!(required.split(',').all(|of| of != name), "USHER_REQUIRE names {name}, but it is skipped: {why}");
    print(&format!("tests of {what} are not run: {why}"));
}

fn has_client(python: &Path) -> bool {
    Command::new(python).args(["-c", "import confluent_kafka"]).output().is_ok_and(|output| output.status.success())
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/kafka")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Broker {
    fn start(name: &str) -> Option<Broker> {
        let folder = std::env::temp_dir().join(format!("usher-kafka-tests-{}-{name}", std::process::id()));
        let mut up = Command::new(script());
        up.arg("up")
            .arg(&folder)
            .env("USHER_KAFKA_FOR", std::process::id().to_string())
            .env("USHER_KAFKA_HEAP", "512m");
        let Output { status, stdout, stderr } = up.output().expect("bash runs scripts");
        if status.code() == Some(3) {
            skipped(&text(&stderr));
            return None;
        }
        assert!(status.success(), "{}", text(&stderr));
        let stdout = text(&stdout);
        let variables = stdout.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Some(Broker { folder, variables })
    }
}

/// Runs a scenario to its end.
fn passes(broker: Option<&Broker>, scenario: &str, flags: &[&str]) {
    let (Some(broker), Some(python)) = (broker, PYTHON.as_ref()) else { return };
    passes_with(broker, python, scenario, flags, &[]);
}

fn passes_with(broker: &Broker, python: &Path, scenario: &str, flags: &[&str], variables: &[(&str, &str)]) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka").join(scenario);
    let mut command = Command::new(python);
    command.arg("-B").arg(file).args(flags).envs(&broker.variables).envs(variables.iter().copied());
    command.env("USHER", env!("CARGO_BIN_EXE_usher"));
    command.env("KAFKA_SCRIPT", script()).env("KAFKA_FOLDER", &broker.folder);
    let Output { status, stdout, stderr } = command.output().expect("Python was there before");
    assert!(status.success(), "{}\n{}", text(&stdout), text(&stderr));
    print(text(&stdout).trim_end());
}

fn kills() -> String {
    std::env::var("USHER_KILLS").unwrap_or_else(|_| "10".to_owned())
}

#[test]
fn changes_from_topic_to_topic_are_those_of_the_events_and_of_a_replay() {
    passes(SHARED.as_ref(), "end_to_end.py", &[]);
}

#[test]
fn a_cold_start_reads_as_far_back_as_the_longest_window() {
    passes(SHARED.as_ref(), "history.py", &[]);
}

#[test]
fn the_same_events_in_any_encoding_and_envelope_give_the_same_changes() {
    passes(SHARED.as_ref(), "encodings.py", &[]);
}

#[test]
fn messages_that_name_their_schemas_are_read_whatever_the_registry_answers() {
    passes(SHARED.as_ref(), "registry.py", &[]);
}

#[test]
fn what_clients_of_a_real_registry_write_gives_the_changes_of_the_same_events_in_json() {
    let Some(broker) = SHARED.as_ref() else { return };
    let skipped = |why: &str| skipped_of("registry", "a real schema registry", why);
    let Some(python) = python_with_serializers() else {
        return skipped("pip could not get confluent-kafka with its serializers");
    };
    let folder = std::env::temp_dir().join(format!("usher-registry-tests-{}", std::process::id()));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/registry");
    let mut up = Command::new(&script);
    up.arg("up").arg(&folder).env("USHER_REGISTRY_FOR", std::process::id().to_string());
    let Output { status, stdout, stderr } = up.output().expect("bash runs scripts");
    if status.code() == Some(3) {
        return skipped(text(&stderr).trim_end());
    }
    assert!(status.success(), "{}", text(&stderr));
    let stdout = text(&stdout);
    let url = stdout.trim().strip_prefix("export REGISTRY_URL=").expect("it prints the url");
    let npm = npm_writer().map(|folder| folder.display().to_string());
    if npm.is_none() {
        print("npm could not get its client of registries: only those of PyPI write");
    }
    let variables = [("REGISTRY_URL", url), ("NPM_WRITER", npm.as_deref().unwrap_or_default())];
    passes_with(broker, &python, "real_registry.py", &[], &variables);
    let down = Command::new(&script).arg("down").arg(&folder).status();
    assert!(down.expect("bash runs scripts").success());
}

#[test]
fn new_partitions_are_read_from_their_start() {
    passes(SHARED.as_ref(), "partitions.py", &[]);
}

#[test]
fn what_can_not_be_opened_or_gone_on_from_is_refused() {
    passes(SHARED.as_ref(), "refusals.py", &[]);
}

#[test]
fn rights_that_are_taken_away_are_named_and_nothing_is_lost() {
    passes(SHARED.as_ref(), "rights.py", &[]);
}

#[test]
fn messages_that_are_too_large_are_dead_letters_once_each_though_the_job_is_killed() {
    passes(SHARED.as_ref(), "sizes.py", &["--kills", &kills()]);
}

#[test]
fn a_ledger_follows_its_sync_from_a_topic_to_a_file_and_back() {
    passes(SHARED.as_ref(), "moves.py", &[]);
}

#[test]
fn topics_that_are_deleted_are_named_with_what_to_do() {
    passes(SHARED.as_ref(), "topics.py", &[]);
}

/// Runs a scenario that stops and starts its broker.
fn passes_alone(name: &str, scenario: &str) {
    let own = if PYTHON.is_some() { Broker::start(name) } else { None };
    passes(own.as_ref(), scenario, &[]);
    if let Some(own) = own {
        let down = Command::new(script()).arg("down").arg(&own.folder).status();
        assert!(down.expect("bash runs scripts").success());
    }
}

#[test]
fn brokers_that_go_away_and_come_back_lose_nothing() {
    passes_alone("outage", "outage.py");
}

#[test]
fn a_topic_that_has_lost_its_end_is_refused() {
    passes_alone("loss", "loss.py");
}

#[test]
fn of_two_instances_that_start_at_once_at_most_one_goes_on() {
    let rounds = std::env::var("USHER_DUELS").unwrap_or_else(|_| "4".to_owned());
    passes(SHARED.as_ref(), "duel.py", &["--rounds", &rounds]);
}

#[test]
fn of_three_brokers_any_may_be_killed_restarted_or_frozen() {
    let Some(python) = PYTHON.as_ref() else { return };
    if SHARED.is_none() {
        return;
    }
    let bin = python.parent().filter(|bin| !bin.as_os_str().is_empty());
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/three-brokers"));
    command.args(["test", "--short"]).env("USHER", env!("CARGO_BIN_EXE_usher"));
    if let Some(bin) = bin {
        command.env("PATH", format!("{}:{path}", bin.display()));
    }
    let Output { status, stdout, stderr } = command.output().expect("bash runs scripts");
    assert!(status.success(), "{}\n{}", text(&stdout), text(&stderr));
    print(text(&stdout).trim_end());
}

#[test]
fn a_killed_job_commits_each_change_once() {
    passes(SHARED.as_ref(), "kills.py", &["--kills", &kills()]);
}

#[test]
fn two_processes_of_which_one_is_killed_commit_each_change_once() {
    passes(SHARED.as_ref(), "kills.py", &["--kills", &kills(), "--processes", "2"]);
}

#[test]
fn at_least_once_misses_nothing_when_it_is_killed() {
    passes(SHARED.as_ref(), "kills.py", &["--kills", &kills(), "--delivery", "at_least_once"]);
}
