//! `usher pull`: a model of a running job is pulled now.

use super::print;
use crate::client::{Client, Connection};
use crate::exit::Exit;
use serde_json::json;

/// Asks for a pull; does not wait for its end.
pub fn pull(connection: &Connection, model: &str, full: bool) -> Result<(), Exit> {
    let client = Client::new(connection)?;
    let extent = if full { "full" } else { "partial" };
    let answer = client.post(&["v1", "models", model, "pulls"], &json!({ "extent": extent }))?;
    if connection.json {
        return print(&format!("{}\n", answer.body));
    }
    print(&format!("a pull of `{model}` has been accepted; `usher status` shows how new it is\n"))
}
