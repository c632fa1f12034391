//! `usher pull`: makes a running job pull a model now.

use super::print;
use crate::client::{Client, Connection};
use crate::exit::Exit;
use serde_json::{Value, json};
use std::time::Duration;

/// How often the pulls are looked at while one is waited for.
const LOOK: Duration = Duration::from_millis(200);

/// What is asked of a pull.
pub struct Flags {
    pub full: bool,
    pub accept: bool,
    pub wait: bool,
}

/// Requests a pull; with `wait` waits for its end.
pub fn pull(connection: &Connection, model: &str, flags: Flags) -> Result<(), Exit> {
    let client = Client::new(connection)?;
    let path = ["v1", "models", model, "pulls"];
    let extent = if flags.full { "full" } else { "partial" };
    let answer = client.post(&path, &json!({ "extent": extent, "accept": flags.accept }))?;
    if !flags.wait {
        if connection.json {
            return print(&format!("{}\n", answer.body));
        }
        return print(&format!("accepted a pull of `{model}`; `usher status` shows when it is done\n"));
    }
    let number = |pull: &Value| pull["number"].as_u64();
    let accepted = number(&answer.body);
    let ended = loop {
        let pulls = client.get(&path)?.body;
        // One that was due serves a request, unless it is judged and the other is not.
        let serves = |pull: &&Value| number(pull) >= accepted && (!flags.accept || pull["trigger"] == "request");
        let newest = number(&pulls["pulls"][0]).unwrap_or(0);
        if accepted.is_some_and(|accepted| newest + 1 < accepted) {
            return Err(Exit::failed("the job was started again meanwhile, and what became of the pull is not known")
                .hint(format!("`usher status` shows when `{model}` was pulled last")));
        }
        match pulls["pulls"].as_array().into_iter().flatten().rfind(serves) {
            Some(pull) if pull["status"] != "running" => break pull.clone(),
            _ => std::thread::sleep(LOOK),
        }
    };
    if connection.json {
        print(&format!("{ended}\n"))?;
    }
    let text = |name: &str| ended[name].as_str().unwrap_or_default().to_owned();
    match &text("status")[..] {
        "succeeded" if connection.json => Ok(()),
        "succeeded" => {
            let number = |name: &str| ended[name].as_u64().unwrap_or(0);
            let (rows, ms) = (number("rows"), number("duration_ms"));
            let version = match ended["version"].as_u64() {
                Some(version) => format!(" of version {version}"),
                None => String::new(),
            };
            print(&format!("pulled `{model}`: {rows} rows{version} in {}.{:03} s\n", ms / 1000, ms % 1000))
        }
        "held" => Err(Exit::failed(format_args!("the pull of `{model}` is held: {}", text("error")))
            .hint(format!("`usher pull {model} --accept` takes it as it is"))),
        _ => Err(Exit::failed(format_args!("the pull of `{model}` failed: {}", text("error")))),
    }
}
