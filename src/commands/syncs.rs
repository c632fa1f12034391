//! `usher syncs`: prints how the syncs of a running job stand, and gives orders to their deliveries.

use super::print;
use super::status::table;
use crate::args::{DeadLetterSelection, SyncOrder};
use crate::client::{Answer, Client, Connection};
use crate::exit::Exit;
use serde_json::{Value, json};

/// Prints a table, or the answer as JSON.
pub fn syncs(connection: &Connection) -> Result<(), Exit> {
    let answer = Client::new(connection)?.get(&["v1", "syncs"])?;
    if connection.json {
        return print_json(&answer.body);
    }
    let columns = ["state", "committed", "delivered", "waiting", "superseded", "dead_letters", "retries", "last_error"];
    print(table("sync", &answer.body["syncs"], &columns).trim_start())
}

/// Carries out an order.
pub fn order(order: SyncOrder) -> Result<(), Exit> {
    match order {
        SyncOrder::Pause { sync, connection } => {
            post(&connection, &sync, "pause")?;
            said(&connection, &json!({ "id": sync, "order": "pause" }), format!("`{sync}` is paused"))
        }
        SyncOrder::Resume { sync, connection } => {
            post(&connection, &sync, "resume")?;
            said(&connection, &json!({ "id": sync, "order": "resume" }), format!("`{sync}` is resumed"))
        }
        SyncOrder::Test { sync, connection } => test(&connection, &sync),
        SyncOrder::Attempts { sync, connection } => attempts(&connection, &sync),
        SyncOrder::DeadLetters { sync, limit, cursor, connection } => {
            dead_letters(&connection, &sync, limit.into(), &cursor)
        }
        SyncOrder::Redeliver { selection, force, connection } => {
            let many = select(&connection, &selection, "redeliver", force)?;
            said(&connection, &json!({ "dead_letters": many }), format!("{} sent again", letters(many)))
        }
        SyncOrder::Drop { selection, connection } => {
            let many = select(&connection, &selection, "drop", false)?;
            said(&connection, &json!({ "dead_letters": many }), format!("{} dropped", letters(many)))
        }
    }
}

fn post(connection: &Connection, sync: &str, what: &str) -> Result<Answer, Exit> {
    Client::new(connection)?.post_nothing(&["v1", "syncs", sync, what])
}

fn test(connection: &Connection, sync: &str) -> Result<(), Exit> {
    let attempt = post(connection, sync, "test")?.body;
    if connection.json {
        print_json(&attempt)?;
    }
    let answer = attempt["answer"].as_str().unwrap_or_default().trim();
    match attempt["status"].as_u64() {
        Some(200..=299) if connection.json => Ok(()),
        Some(status @ 200..=299) => print(&format!("answered {status} in {} ms: {answer}\n", attempt["latency_ms"])),
        Some(status) => Err(Exit::failed(format_args!("the example of `{sync}` was answered {status}: {answer}"))),
        None => Err(Exit::failed(format_args!("the example of `{sync}` was not answered: {answer}"))),
    }
}

fn attempts(connection: &Connection, sync: &str) -> Result<(), Exit> {
    let answer = Client::new(connection)?.get(&["v1", "syncs", sync, "attempts"])?;
    if connection.json {
        return print_json(&answer.body);
    }
    let columns = ["time", "changes", "status", "latency_ms", "answer"];
    print(table("attempt", &answer.body["attempts"], &columns).trim_start())
}

fn dead_letters(connection: &Connection, sync: &str, limit: usize, cursor: &str) -> Result<(), Exit> {
    let query = [("limit", &limit.to_string()[..]), ("cursor", cursor)];
    let page = Client::new(connection)?.get_with(&["v1", "syncs", sync, "dead_letters"], &query)?.body;
    if connection.json {
        return print_json(&page);
    }
    let columns = ["time", "reason", "status", "type", "audience_id", "key", "again", "answer"];
    print(table("dead letter", &page["dead_letters"], &columns).trim_start())?;
    match page["next_cursor"].as_str() {
        Some(next) => print(&format!("\nmore: usher syncs dead-letters {sync} --cursor {next}\n")),
        None => Ok(()),
    }
}

/// Gives an order about dead letters. Returns how many it concerns.
fn select(connection: &Connection, selection: &DeadLetterSelection, what: &str, force: bool) -> Result<u64, Exit> {
    let mut body = match selection {
        DeadLetterSelection { audience: Some(audience), .. } => json!({ "audience": audience }),
        DeadLetterSelection { all: true, .. } => json!({ "all": true }),
        DeadLetterSelection { ids, .. } => json!({ "ids": ids }),
    };
    if force {
        body["force"] = true.into();
    }
    let path = ["v1", "syncs", &selection.sync, "dead_letters", what];
    Ok(Client::new(connection)?.post(&path, &body)?.body["dead_letters"].as_u64().unwrap_or_default())
}

fn letters(many: u64) -> String {
    match many {
        1 => "1 dead letter is".to_owned(),
        many => format!("{many} dead letters are"),
    }
}

fn said(connection: &Connection, body: &Value, text: String) -> Result<(), Exit> {
    if connection.json { print_json(body) } else { print(&format!("{text}\n")) }
}

fn print_json(body: &Value) -> Result<(), Exit> {
    print(&format!("{body}\n"))
}
