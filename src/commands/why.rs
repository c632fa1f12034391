//! `usher why`: prints why a key is in audiences or not, from a running job.

use super::print;
use crate::client::{Client, Connection};
use crate::exit::Exit;
use serde_json::Value;
use std::fmt::Write;

/// Prints the conditions of one audience or of all of the model, with their values for `key`.
pub fn why(connection: &Connection, model: &str, key: &str, audience: Option<&str>) -> Result<(), Exit> {
    if matches!(key, "." | "..") {
        return Err(Exit::wrong(format_args!("the key `{key}` can't be asked for: a url has no such part"))
            .hint("`usher lookup` takes any key".to_owned()));
    }
    let client = Client::new(connection)?;
    let query: Vec<(&str, &str)> = audience.map(|audience| ("audience", audience)).into_iter().collect();
    let answer = client.get_with(&["v1", "audiences", model, key, "explain"], &query)?;
    if connection.json {
        return print(&format!("{}\n", answer.body));
    }
    print(&text(&answer.body))
}

/// Returns an explanation for people: an audience a paragraph, its conditions indented, a mark for what holds.
fn text(explanation: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut text = format!(
        "`{}` of `{}`, as of {}",
        word(&explanation["user_id"]),
        word(&explanation["parent_model_id"]),
        word(&explanation["as_of"])
    );
    if explanation["in_snapshot"] == false {
        text += "; it has no row in the snapshot";
    }
    text.push('\n');
    for live in explanation["live"].as_array().into_iter().flatten() {
        let (column, value, at) = (word(&live["column"]), &live["value"], word(&live["at"]));
        let origin = if live["origin"] == "event" { "set by an event of" } else { "in the snapshot since the pull of" };
        writeln!(text, "  {column} is {value}, {origin} {at}").expect("writing to a string");
    }
    for parent in explanation["parents"].as_array().into_iter().flatten() {
        let (column, value) = (word(&parent["column"]), &parent["value"]);
        match parent["key"].as_str() {
            Some(key) => writeln!(text, "  {column} is {value}: the row belongs to `{key}`"),
            None => writeln!(text, "  {column} is {value}: the row belongs to none"),
        }
        .expect("writing to a string");
    }
    for audience in explanation["audiences"].as_array().into_iter().flatten() {
        let member = if audience["member"] == true { "is in" } else { "is not in" };
        write!(text, "\n{member} {}", word(&audience["audience_id"])).expect("writing to a string");
        if audience["audience_name"] != audience["audience_id"] {
            write!(text, " ({})", word(&audience["audience_name"])).expect("writing to a string");
        }
        if let Some(at) = audience["changes_at"].as_str() {
            let turn = if audience["member"] == true { "leaves" } else { "enters" };
            write!(text, "; {turn} by itself at {at}").expect("writing to a string");
        }
        text.push('\n');
        condition(&audience["condition"], 1, &mut text);
    }
    text
}

/// Writes a condition and those inside, one a line.
fn condition(of: &Value, depth: usize, text: &mut String) {
    let mark = if of["holds"] == true { "yes" } else { "no " };
    write!(text, "{:indent$}{mark} {}", "", of["text"].as_str().unwrap_or_default(), indent = 2 * depth)
        .expect("writing to a string");
    match (&of["value"], of["threshold"].as_str()) {
        (Value::Null, _) => {}
        (value, threshold) => {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let wanted =
                threshold.map_or(String::new(), |threshold| format!(", wanted {}", threshold.replace('_', " ")));
            write!(text, "  [{value}{wanted}]").expect("writing to a string");
        }
    }
    if let Some(at) = of["changes_at"].as_str() {
        write!(text, "  until {at}").expect("writing to a string");
    }
    text.push('\n');
    for inner in of["conditions"].as_array().into_iter().flatten() {
        condition(inner, depth + 1, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_explanation_shows_each_value_with_its_threshold_and_when_it_changes() {
        let explanation = json!({"parent_model_id": "users", "user_id": "u-1", "as_of": "T", "in_snapshot": true,
            "live": [{"column": "plan", "value": "pro", "at": "T0", "origin": "event"},
                {"column": "seats", "value": null, "at": "T2", "origin": "snapshot"}],
            "parents": [{"column": "accounts.tier", "key": "a-1", "value": "gold"},
                {"column": "accounts.seats", "key": null, "value": null}],
            "audiences": [{"audience_id": "keen", "audience_name": "Keen ones", "member": true, "changes_at": "T1",
                "condition": {"kind": "all", "text": "all", "holds": true, "value": null, "threshold": null, "conditions": [
                    {"text": "performed: seen, within: 1h", "holds": true, "value": "3 or more", "threshold": "at_least 3",
                        "changes_at": "T1", "conditions": []},
                    {"text": "property: ltv > 3", "holds": false, "value": null, "threshold": null, "conditions": []}]}}]});
        assert_eq!(
            text(&explanation),
            "`u-1` of `users`, as of T
  plan is \"pro\", set by an event of T0
  seats is null, in the snapshot since the pull of T2
  accounts.tier is \"gold\": the row belongs to `a-1`
  accounts.seats is null: the row belongs to none

is in keen (Keen ones); leaves by itself at T1
  yes all
    yes performed: seen, within: 1h  [3 or more, wanted at least 3]  until T1
    no  property: ltv > 3
"
        );
    }
}
