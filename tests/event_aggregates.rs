//! Aggregates of the values that events carry, from the text of a message to the change: numbers at their limits, and many values.

use crate::support::rows::{run, strings, write_parquet};
use std::path::Path;

/// A job over one source with these audiences of users `u` and `v`.
fn write(folder: &Path, audiences: &str, properties: &[String]) {
    let job = format!(
        "job: shop
sources: {{web: {{file: {{path: events.jsonl}}, format: segment}}}}
models: {{users: {{parquet: users.parquet, key: user_id, columns: {{}}}}}}
events:
  ordered: {{source: web, type: track, name: Ordered, model: users, properties: {{revenue: number, items: integer, sku: string}}}}
audiences:
{audiences}"
    );
    std::fs::write(folder.join("job.yaml"), job).expect("the folder can be written");
    let line = |(i, properties): (usize, &String)| {
        let time = usher_core::time::timestamp(1_763_892_000_000 + i as i64).expect("a time of our days");
        format!(
            "{{\"type\":\"track\",\"event\":\"Ordered\",\"userId\":\"u\",\"messageId\":\"m{i}\",\"timestamp\":\"{time}\",\
             \"properties\":{properties}}}\n"
        )
    };
    let lines: String = properties.iter().enumerate().map(line).collect();
    std::fs::write(folder.join("events.jsonl"), lines).expect("the folder can be written");
    write_parquet(&folder.join("users.parquet"), vec![("user_id", strings(&["u"]))]);
}

/// Replays messages with these properties; returns the audiences that the user is in at the end, and the mismatches.
fn members(audiences: &str, properties: &[String]) -> (Vec<String>, u64) {
    let folder = tempfile::tempdir().expect("a folder for the test");
    write(folder.path(), audiences, properties);
    let ran = run(folder.path(), &["replay", "job.yaml", "--now", "2027-01-01T00:00:00Z", "--summary", "summary.json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let mut members: Vec<String> = Vec::new();
    for line in ran.stdout.lines() {
        let change: serde_json::Value = serde_json::from_str(line).expect("a change is JSON");
        let audience = change["audience_id"].as_str().expect("an audience has an id").to_owned();
        match change["type"].as_str() {
            Some("entry") => members.push(audience),
            _ => members.retain(|other| *other != audience),
        }
    }
    members.sort();
    let summary = std::fs::read_to_string(folder.path().join("summary.json")).expect("the replay writes its summary");
    let summary: serde_json::Value = serde_json::from_str(&summary).expect("the summary is JSON");
    (members, summary["mismatches"].as_u64().expect("a count"))
}

fn audience(id: &str, condition: &str) -> String {
    format!("  {id}: {{model: users, where: {{performed: ordered, {condition}, within: 1d}}}}\n")
}

fn revenues(numbers: &[&str]) -> Vec<String> {
    numbers.iter().map(|number| format!("{{\"revenue\":{number}}}")).collect()
}

#[test]
fn a_number_counts_as_it_is_written_to_nine_digits() {
    let audiences = [
        audience("a_tenths", "sum: revenue, exactly: 1"),
        audience("b_not_more", "sum: revenue, more_than: 1"),
        audience("c_average", "avg: revenue, exactly: 0.1"),
    ];
    let (found, mismatches) = members(&audiences.concat(), &revenues(&["0.1"; 10]));
    assert_eq!((found, mismatches), (vec!["a_tenths".to_owned(), "c_average".to_owned()], 0));

    // As doubles both are 12345678901234567000 and 0.1.
    let long = ["12345678901234567890.123456789", "0.1000000000000000055511151231257827021181"];
    let exactly = audience("a", "sum: revenue, exactly: 12345678901234567890.223456789");
    let (found, mismatches) = members(&exactly, &revenues(&long));
    assert_eq!((found, mismatches), (vec!["a".to_owned()], 0));
}

#[test]
fn a_number_beyond_the_range_is_null_and_a_mismatch() {
    let audiences = [
        audience("a_sum", "sum: revenue, exactly: 5"),
        audience("b_max", "max: revenue, exactly: 5"),
        audience("c_min", "min: revenue, exactly: 5"),
        audience("d_count", "at_least: 6"),
        audience("e_none", "avg: revenue, less_than: 5"),
    ];
    let numbers = ["1e300", "-1e300", "1e999", "\"NaN\"", "\"Infinity\"", "5", "null"];
    let (found, mismatches) = members(&audiences.concat(), &revenues(&numbers));
    assert_eq!(found, ["a_sum", "b_max", "c_min", "d_count"]);
    assert_eq!(mismatches, 5, "a null is none");
}

#[test]
fn of_nothing_a_sum_is_zero_and_an_extreme_value_and_an_average_are_null() {
    let conditions = ["sum: items, exactly: 0", "distinct: items, at_most: 0"];
    let null = ["avg: items, at_most: 0", "min: items, at_least: -1", "max: items, between: [-9, 9]"];
    let audiences: String = conditions
        .iter()
        .chain(&null)
        .enumerate()
        .map(|(i, condition)| audience(&format!("a{i}"), condition))
        .collect();
    let (found, _) = members(&audiences, &revenues(&["1", "2"]));
    assert_eq!(found, ["a0", "a1"]);
}

#[test]
fn ten_thousand_distinct_values_of_one_user_are_counted_exactly() {
    let skus: Vec<String> = (0..20_000).map(|i| format!("{{\"sku\":\"s{}\"}}", i % 10_000)).collect();
    let audiences = [
        audience("a", "distinct: sku, exactly: 10000"),
        audience("b", "distinct: sku, at_least: 10000"),
        audience("c", "distinct: sku, more_than: 10000"),
        audience("d", "exactly: 20000"),
    ];
    let (found, _) = members(&audiences.concat(), &skus);
    assert_eq!(found, ["a", "b", "d"]);
}

#[test]
fn what_an_aggregate_can_not_take_is_refused_at_its_place_with_a_hint() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    for (condition, problem) in [
        ("sum: sku, at_least: 1", "`sum` takes an integer or number, and `sku` is declared as `string`\n    hint: "),
        ("sum: revenu, at_least: 1", "the event `ordered` has no property `revenu`\n    hint: did you mean `revenue`?"),
        (
            "sum: revenue",
            "`sum: revenue` is compared with nothing\n    hint: add a comparison: `sum: revenue, at_least: 100`",
        ),
        ("avg: revenue, between: [9, 1]", "nothing lies between `9` and `1`\n    hint: write `[1, 9]`"),
        (
            "distinct: sku, at_least: 1.5",
            "a count is compared with a whole number from 0 to 1000000000, not with `1.5`",
        ),
        ("sum: revenue, max: revenue, at_least: 1", "only one aggregate may stand here, not `sum` and `max`"),
    ] {
        write(folder.path(), &audience("a", condition), &[]);
        let ran = run(folder.path(), &["check", "job.yaml"]);
        assert_eq!(ran.code, Some(2), "{condition}: {}", ran.stderr);
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(squeezed(&ran.stderr).contains(&squeezed(problem)), "{condition}: {}", ran.stderr);
        assert!(ran.stderr.contains("job.yaml:7:"), "{condition}: {}", ran.stderr);
    }
}
