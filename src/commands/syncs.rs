//! `usher syncs`: prints how the syncs of a running job stand.

use super::print;
use super::status::table;
use crate::client::{Client, Connection};
use crate::exit::Exit;

/// Prints a table, or the answer as JSON.
pub fn syncs(connection: &Connection) -> Result<(), Exit> {
    let answer = Client::new(connection)?.get(&["v1", "syncs"])?;
    if connection.json {
        return print(&format!("{}\n", answer.body));
    }
    let columns = ["state", "committed", "delivered", "waiting", "superseded", "dead_letters", "retries", "last_error"];
    print(table("sync", &answer.body["syncs"], &columns).trim_start())
}
