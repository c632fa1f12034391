//! `usher members`: prints the members of an audience of a running job.

use super::print;
use crate::client::{Client, Connection};
use crate::exit::Exit;
use serde_json::json;

/// Members that one request asks for: the most that the API gives.
const PAGE: &str = "1000";

/// Prints all members, one a line; with `json` one object a line.
pub fn members(connection: &Connection, audience: &str) -> Result<(), Exit> {
    let client = Client::new(connection)?;
    let mut cursor = String::new();
    loop {
        let answer = client.get_with(&["v1", "members", audience], &[("limit", PAGE), ("cursor", &cursor)])?;
        let mut text = String::new();
        for key in answer.body["members"].as_array().into_iter().flatten() {
            if connection.json {
                text += &format!("{}\n", json!({ "key": key }));
            } else {
                text += &format!("{}\n", key.as_str().unwrap_or_default());
            }
        }
        print(&text)?;
        match answer.body["next_cursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => return Ok(()),
        }
    }
}
