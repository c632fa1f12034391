//! `usher lookup`: prints the audiences that a key is in, from a running job.

use super::print;
use crate::client::{Client, Connection};
use crate::exit::Exit;
use serde_json::json;

/// Prints the audiences of `key`.
pub fn lookup(connection: &Connection, model: &str, key: &str) -> Result<(), Exit> {
    let client = Client::new(connection)?;
    // As a batch of one: a path can't contain every key (`..`).
    let answer = client.post(&["v1", "audiences", model, "lookup"], &json!({ "user_ids": [key] }))?;
    let found = &answer.body[0];
    if connection.json {
        return print(&format!("{found}\n"));
    }
    let ids = found["audience_ids"].as_array().map_or(&[][..], |ids| ids);
    let as_of = answer.as_of.unwrap_or_default();
    let mut text = match ids {
        [] => format!("`{key}` of `{model}` is in no audience, as of {as_of}\n"),
        ids => format!(
            "`{key}` of `{model}` is in {} audience{}, as of {as_of}\n",
            ids.len(),
            if ids.len() == 1 { "" } else { "s" }
        ),
    };
    for id in ids {
        text += &format!("  {}\n", id.as_str().unwrap_or_default());
    }
    print(&text)
}
