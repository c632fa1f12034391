//! `usher pull`: makes a running job pull a model now.

use super::print;
use crate::client::{Client, Connection};
use crate::exit::Exit;
use serde_json::json;

/// Requests a pull; does not wait for its end.
pub fn pull(connection: &Connection, model: &str, full: bool) -> Result<(), Exit> {
    let client = Client::new(connection)?;
    let extent = if full { "full" } else { "partial" };
    let answer = client.post(&["v1", "models", model, "pulls"], &json!({ "extent": extent }))?;
    if connection.json {
        return print(&format!("{}\n", answer.body));
    }
    print(&format!("accepted a pull of `{model}`; `usher status` shows when it is done\n"))
}
