//! stderr: log lines, messages, the progress bar, colours; the latter two only on a terminal.
//!
//! With [`LogFormat::Json`] everything on stderr is one object a line: `timestamp`, `level`, `message`, and the fields of a log line.

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

/// How lines on stderr are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs: one object a line.
    Json,
}

/// Whether lines are written as JSON. Set once, before the first line.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// Returns whether lines are written as JSON.
pub fn is_json() -> bool {
    IS_JSON.load(Ordering::Relaxed)
}

/// Returns whether stderr is a terminal for people.
pub fn stderr_is_terminal() -> bool {
    !is_json() && std::io::stderr().is_terminal()
}

const LEVELS: &str =
    "write a level (`error`, `warn`, `info`, `debug`, `trace`, `off`), or levels by crate: `info,usher_dataflow=debug`";

/// Returns whether stderr takes colours: it is a terminal, and NO_COLOR is not set.
fn has_colours() -> bool {
    stderr_is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Sends the libraries' log lines to stderr, and decides how all lines are written.
pub fn log_to_stderr(format: LogFormat) {
    // The object store's client logs each retry with its url, which may be a signed one.
    const DEFAULT: &str = "info,object_store=warn";
    IS_JSON.store(format == LogFormat::Json, Ordering::Relaxed);
    let wanted = std::env::var("USHER_LOG").ok();
    let (filter, error) = match targets(wanted.as_deref().unwrap_or(DEFAULT)) {
        Ok(filter) => (filter, None),
        Err(error) => (DEFAULT.parse().expect("the default is right"), Some(error)),
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    match format {
        LogFormat::Text => {
            tracing_subscriber::registry().with(lines.with_ansi(has_colours()).with_filter(filter)).init();
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
            tracing_subscriber::registry().with(lines.with_filter(filter)).init();
        }
    }
    if let Some(error) = error {
        let wanted = wanted.unwrap_or_default();
        tracing::warn!(hint = LEVELS, "USHER_LOG is `{wanted}`: {error}; the default is used");
    }
}

/// Reads levels. A word alone is a level: as the name of a crate it would switch off all others.
fn targets(text: &str) -> Result<Targets, String> {
    let is_level = |word: &str| word.parse::<LevelFilter>().is_ok();
    match text.split(',').map(str::trim).find(|part| !part.is_empty() && !part.contains('=') && !is_level(part)) {
        Some(part) => Err(format!("`{part}` is no level")),
        None => text.parse::<Targets>().map_err(|error| error.to_string()),
    }
}

/// Prints a line on stderr; does nothing where stderr is closed.
pub fn print_stderr(line: impl Display) {
    let _ = match is_json() {
        true => write_json("INFO", &line.to_string(), None),
        // In one write: whoever reads it reads whole lines.
        false => std::io::stderr().write_all(format!("{line}\n").as_bytes()),
    };
}

/// Prints what went wrong on stderr, and what to do about it; does nothing where stderr is closed.
pub fn print_error(message: impl Display, hint: Option<&str>) {
    if is_json() {
        let _ = write_json("ERROR", &message.to_string(), hint);
        return;
    }
    print_stderr(format_args!("{} {message}", bold_red("error:")));
    if let Some(hint) = hint {
        print_stderr(format_args!("hint: {hint}"));
    }
}

fn write_json(level: &str, message: &str, hint: Option<&str>) -> std::io::Result<()> {
    let mut line = json!({ "timestamp": format!("{:.6}", jiff::Timestamp::now()), "level": level, "message": message });
    if let Some(hint) = hint {
        line["hint"] = hint.into();
    }
    // One write a line: threads of the log write too.
    std::io::stderr().write_all(format!("{line}\n").as_bytes())
}

/// Returns `text` in bold red on a terminal, else as it is.
fn bold_red(text: &str) -> String {
    if has_colours() { format!("\x1b[1;31m{text}\x1b[0m") } else { text.to_owned() }
}

/// Returns a bar for a long read of so many bytes; without a terminal it draws nothing.
pub fn progress(bytes: u64) -> ProgressBar {
    let target = if stderr_is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {binary_bytes_per_sec} {msg}")
        .expect("the template is right");
    ProgressBar::with_draw_target(Some(bytes), target).with_style(style)
}
