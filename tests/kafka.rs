//! `usher run` between topics of a real Apache Kafka, killed, cut off and refused.
//!
//! What happens is told by programs of their own in `tests/kafka`, in Python with confluent-kafka: a client and a reckoning of
//! membership that share nothing with the engine. Each test starts one of them with a broker and passes where it does. Where Java,
//! Maven, Python or confluent-kafka can't be had the tests say so on stdout, and pass.
//!
//! `USHER_KILLS` sets how often jobs are killed (10), `USHER_OUTAGE` how long brokers are away, s (4).

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

/// Past the test harness, which keeps what passing tests print.
fn say(what: &str) {
    let _ = writeln!(std::io::stdout(), "{what}");
}

fn skipped(why: &str) {
    say(&format!("tests of a real Kafka are not run: {why}"));
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
fn holds(broker: Option<&Broker>, scenario: &str, flags: &[&str]) {
    let (Some(broker), Some(python)) = (broker, PYTHON.as_ref()) else { return };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka").join(scenario);
    let mut command = Command::new(python);
    command.arg("-B").arg(file).args(flags).envs(&broker.variables);
    command.env("USHER", env!("CARGO_BIN_EXE_usher"));
    command.env("KAFKA_SCRIPT", script()).env("KAFKA_FOLDER", &broker.folder);
    let Output { status, stdout, stderr } = command.output().expect("Python was there before");
    assert!(status.success(), "{}\n{}", text(&stdout), text(&stderr));
    say(text(&stdout).trim_end());
}

fn kills() -> String {
    std::env::var("USHER_KILLS").unwrap_or_else(|_| "10".to_owned())
}

#[test]
fn changes_from_topic_to_topic_are_those_of_the_events_and_of_a_replay() {
    holds(SHARED.as_ref(), "end_to_end.py", &[]);
}

#[test]
fn a_cold_start_reads_as_far_back_as_the_longest_window() {
    holds(SHARED.as_ref(), "history.py", &[]);
}

#[test]
fn new_partitions_are_read_from_their_start() {
    holds(SHARED.as_ref(), "partitions.py", &[]);
}

#[test]
fn what_can_not_be_opened_or_gone_on_from_is_refused() {
    holds(SHARED.as_ref(), "refusals.py", &[]);
}

/// Runs a scenario that stops and starts its broker.
fn holds_alone(name: &str, scenario: &str) {
    let own = if PYTHON.is_some() { Broker::start(name) } else { None };
    holds(own.as_ref(), scenario, &[]);
    if let Some(own) = own {
        let down = Command::new(script()).arg("down").arg(&own.folder).status();
        assert!(down.expect("bash runs scripts").success());
    }
}

#[test]
fn brokers_that_go_away_and_come_back_lose_nothing() {
    holds_alone("outage", "outage.py");
}

#[test]
fn a_topic_that_has_lost_its_end_is_refused() {
    holds_alone("loss", "loss.py");
}

#[test]
fn a_killed_job_tells_each_change_once() {
    holds(SHARED.as_ref(), "kills.py", &["--kills", &kills()]);
}

#[test]
fn two_processes_of_which_one_is_killed_tell_each_change_once() {
    holds(SHARED.as_ref(), "kills.py", &["--kills", &kills(), "--processes", "2"]);
}

#[test]
fn at_least_once_misses_nothing_when_it_is_killed() {
    holds(SHARED.as_ref(), "kills.py", &["--kills", &kills(), "--delivery", "at_least_once"]);
}
