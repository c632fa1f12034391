//! Prometheus' own tool on what a running job answers, and on the alerts in `docs/alerts.yml`.
//!
//! `scripts/promtool get` gets the tool. Where it is missing the tests print that they are skipped and pass; if `USHER_REQUIRE` names
//! `promtool` they fail.

use crate::support::process::{now, until};
use crate::support::receiver::{Receiver, get_text, port};
use crate::support::shop::{CRM, Shop, job};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// How `scripts/promtool` ends without a tool.
const MISSING: i32 = 69;

/// Runs `scripts/promtool`; returns its exit code and what it printed, `None` if there is no tool.
fn promtool(command: &str, input: &str) -> Option<(i32, String)> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/promtool");
    let mut child = Command::new(script)
        .arg(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("bash runs scripts");
    // Without a tool nobody reads.
    let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
    let Output { status, stdout, stderr } = child.wait_with_output().expect("the child is ours");
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    match status.code() {
        Some(MISSING) => {
            let required = std::env::var("USHER_REQUIRE").unwrap_or_default();
            assert!(required.split(',').all(|name| name != "promtool"), "USHER_REQUIRE names promtool, but: {said}");
            println!("skipped: {}", said.trim_end());
            None
        }
        code => Some((code.expect("it ends by itself"), said)),
    }
}

#[test]
fn promtool_finds_nothing_in_the_metrics_of_a_running_job() {
    let receiver = Receiver::willing();
    let hook = format!("  hook: {{to: {{webhook: {{url: \"{}\"}}}}}}\n", receiver.url());
    let audiences = "  seen: {model: users, where: {performed: viewed, within: 1h}}\n";
    let shop = Shop::new(&(job(audiences, &format!("{CRM}{hook}")) + "api: {listen: \"127.0.0.1:0\"}\n"));
    let process = shop.live(&[]);
    shop.wait_until_committed(&process);
    shop.checkpointed(&process);
    let metrics = || get_text(port(&process), "/metrics");
    let value = |name: &str| -> f64 {
        let metrics = metrics();
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in\n{metrics}"))
    };
    until(&metrics, || metrics().contains("usher_sync_delivered_total{sync=\"hook\"} "));
    assert!(value("usher_checkpoint_age_seconds") < 60.0);
    // Whole seconds of the machine's start make it a little early.
    let age = now() as f64 / 1e3 - value("process_start_time_seconds");
    assert!((-2.0..120.0).contains(&age), "{age}");
    let as_of = value("usher_as_of_timestamp_seconds");
    until(&metrics, || value("usher_as_of_timestamp_seconds") > as_of);
    let metrics = metrics();
    assert!(metrics.contains(concat!("version=\"", env!("CARGO_PKG_VERSION"), "\"} 1")), "{metrics}");
    if let Some((code, said)) = promtool("metrics", &metrics) {
        assert!(code == 0 && said.is_empty(), "{said}\n{metrics}");
        // The tool does find what is wrong.
        let (code, _) = promtool("metrics", &metrics.replace("_total", "_count")).expect("it was there before");
        assert_ne!(code, 0);
    }
}

#[test]
fn the_alerts_fire_when_their_tests_say_so() {
    if let Some((code, said)) = promtool("rules", "") {
        assert!(code == 0 && !said.contains("FAILED"), "{said}");
    }
    // Each alert has a row in the docs and a test.
    let read = |file: &str| {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(file)).expect("docs have it")
    };
    let (rules, docs, tests) = (read("alerts.yml"), read("METRICS.md"), read("alerts.test.yml"));
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim_start().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10);
    for alert in &alerts {
        assert!(docs.contains(&format!("| `{alert}` |")), "{alert} is not in METRICS.md");
        assert!(tests.contains(&format!("alertname: {alert}\n")), "{alert} has no test");
    }
    assert_eq!(docs.lines().filter(|line| line.starts_with("| `Usher")).count(), alerts.len());
    // They ask for what there is.
    let is_metric = |word: &&str| word.starts_with("usher_") || word.starts_with("process_");
    let of_name = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    for name in rules.lines().flat_map(|line| line.split(of_name)).filter(is_metric) {
        assert!(docs.contains(&format!("| `{name}` |")), "{name} is no metric");
    }
}
