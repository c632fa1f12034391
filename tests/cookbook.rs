//! The recipes of docs/COOKBOOK.md, run as they stand there: each gives the changes that the page shows, and no others.

use crate::support::rows::{run, write_parquet};
use arrow_array::{ArrayRef, BooleanArray, Float64Array, StringArray, TimestampMillisecondArray};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

const PAGE: &str = include_str!("../docs/COOKBOOK.md");

/// A heading's recipe: the audiences, and the lines of events and changes below them.
struct Recipe<'a> {
    name: &'a str,
    audiences: &'a str,
    lines: &'a str,
}

/// The text between the first ```` ```LANGUAGE ```` of `text` and its end, and what follows it.
fn block<'a>(text: &'a str, language: &str) -> (&'a str, &'a str) {
    let begin = format!("```{language}\n");
    let from = text.find(&begin).unwrap_or_else(|| panic!("no block of {language} in {text}")) + begin.len();
    let length = text[from..].find("```").expect("a block ends");
    (&text[from..from + length], &text[from + length + 3..])
}

fn recipes() -> Vec<Recipe<'static>> {
    let sections = PAGE.split("\n### ").skip(1);
    let recipe = |section: &'static str| {
        let (audiences, rest) = block(section, "yaml");
        let (lines, _) = block(rest, "");
        Recipe { name: section.lines().next().expect("a heading"), audiences, lines }
    };
    sections.map(recipe).collect()
}

/// Columns of the page's table whose first column is `key`.
fn table(key: &str) -> Vec<(&'static str, ArrayRef)> {
    let from = PAGE.find(&format!("| {key} |")).expect("the table is there");
    let rows = PAGE[from..].lines().take_while(|line| line.starts_with('|'));
    let rows: Vec<Vec<&str>> = rows.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect();
    let column = |at: usize| {
        let cells = || rows[2..].iter().map(move |row| Some(row[at]).filter(|cell| !cell.is_empty()));
        let column: ArrayRef = match rows[0][at] {
            name if name.ends_with("_at") => {
                Arc::new(cells().map(|cell| Some(ms(cell?))).collect::<TimestampMillisecondArray>())
            }
            "ltv" | "amount" => {
                Arc::new(cells().map(|cell| Some(cell?.parse().expect("a number"))).collect::<Float64Array>())
            }
            "newsletter" => Arc::new(cells().map(|cell| Some(cell? == "true")).collect::<BooleanArray>()),
            _ => Arc::new(cells().collect::<StringArray>()),
        };
        (rows[0][at], column)
    };
    (0..rows[0].len()).map(column).collect()
}

/// The Unix time of `2026-11-23 10:00`, in ms.
fn ms(text: &str) -> i64 {
    let time: jiff::Timestamp = format!("{}:00Z", text.replace(' ', "T")).parse().expect("a time of the page");
    time.as_millisecond()
}

/// The message of a line: `11-23 10:00  ada  "Product Added"  price=30`, `11-23 10:00  ada  page "Home"`,
/// `11-23 10:00  ada  identify "Ada"  plan=pro`.
fn message(line: &str, number: usize) -> String {
    let (head, rest) = line.split_once('"').expect("an event has a name in quotes");
    let (name, properties) = rest.split_once('"').expect("a name ends with a quote");
    let words: Vec<&str> = head.split_whitespace().collect();
    let property = |text: &str| {
        let (name, value) = text.split_once('=').expect("a property has a value");
        let value = if value.parse::<f64>().is_ok() { value.to_owned() } else { format!("{value:?}") };
        format!("{name:?}:{value}")
    };
    let properties: Vec<String> = properties.split_whitespace().map(property).collect();
    let what = match words[3..] {
        [] => format!(r#""type":"track","event":{name:?}"#),
        ["page"] => format!(r#""type":"page","name":{name:?}"#),
        // It has no name: the text in quotes is for people.
        ["identify"] => r#""type":"identify""#.to_owned(),
        _ => panic!("`{line}` is no event"),
    };
    let time = format!("2026-{}T{}:00Z", words[0], words[1]);
    let user = words[2];
    let values = if words[3..] == ["identify"] { "traits" } else { "properties" };
    format!(
        r#"{{"timestamp":"{time}","userId":"{user}","messageId":"m-{number}",{what},"{values}":{{{}}}}}"#,
        properties.join(",")
    )
}

/// Runs the recipe on its events; returns the lines with the changes that it made, in the order of time.
fn lines(folder: &Path, recipe: &Recipe) -> String {
    let (job, _) = block(PAGE, "yaml");
    let audiences = recipe.audiences.lines().map(|line| format!("  {line}\n")).collect::<String>();
    std::fs::write(folder.join("job.yaml"), format!("{job}audiences:\n{audiences}"))
        .expect("the folder can be written");
    write_parquet(&folder.join("users.parquet"), table("user_id"));
    write_parquet(&folder.join("orders.parquet"), table("order_id"));
    write_parquet(&folder.join("accounts.parquet"), table("account_id"));
    let events: Vec<&str> = recipe.lines.lines().filter(|line| line.contains('"')).collect();
    let messages: String = events.iter().enumerate().map(|(at, line)| message(line, at) + "\n").collect();
    std::fs::write(folder.join("events.jsonl"), messages).expect("the folder can be written");
    let ran = run(
        folder,
        &[
            "replay",
            "job.yaml",
            "--from=2026-11-23T00:00:00Z",
            "--until=2026-11-30T00:00:00Z",
            "--now=2026-11-30T00:00:00Z",
        ],
    );
    assert_eq!(ran.code, Some(0), "{}: {}", recipe.name, ran.stderr);
    assert!(ran.stderr.contains("mismatches 0"), "{}: {}", recipe.name, ran.stderr);
    let several = recipe.audiences.matches("model:").count() > 1;
    let mut by_time: BTreeMap<(String, u8), String> = BTreeMap::new();
    for line in events {
        let at = line[..11].to_owned();
        writeln!(by_time.entry((at, 0)).or_default(), "{line}").expect("text can be written");
    }
    for line in ran.stdout.lines() {
        let change: serde_json::Value = serde_json::from_str(line).expect("a change is JSON");
        let field = |name: &str| change[name].as_str().expect("a field of a change is text").to_owned();
        let at = field("at");
        assert!(at.ends_with(":00.000Z"), "{}: {at} is shown to the minute", recipe.name);
        let at = format!("{} {}", &at[5..10], &at[11..16]);
        let verb = if field("type") == "entry" { "enters" } else { "leaves" };
        let audience = if several { format!("{} ", field("audience_id")) } else { String::new() };
        let lines = by_time.entry((at.clone(), 1)).or_default();
        writeln!(lines, "{at}  {}  {verb} {audience}({})", field("key"), field("reason")).expect("text can be written");
    }
    by_time.into_values().collect()
}

#[test]
fn every_recipe_of_the_cookbook_makes_the_changes_that_it_shows() {
    let recipes = recipes();
    assert!(recipes.len() > 20);
    let mut wrong = String::new();
    for recipe in recipes {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let made = lines(folder.path(), &recipe);
        assert!(made.contains("enters"), "{} shows nobody who enters:\n{made}", recipe.name);
        if made != recipe.lines {
            write!(wrong, "### {}\n{made}\n", recipe.name).expect("text can be written");
        }
    }
    assert!(wrong.is_empty(), "these recipes make other changes than the page shows:\n{wrong}");
}
