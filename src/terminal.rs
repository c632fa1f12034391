//! stderr: log lines, messages, the progress bar, colours; the latter two only on a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

/// Returns whether stderr is a terminal.
pub fn stderr_is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

const LEVELS: &str =
    "write a level (`error`, `warn`, `info`, `debug`, `trace`, `off`), or levels by crate: `info,usher_dataflow=debug`";

/// Returns whether stderr takes colours: it is a terminal, and NO_COLOR is not set.
fn has_colours() -> bool {
    stderr_is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Sends the libraries' log lines to stderr.
pub fn log_to_stderr() {
    // The object store's client logs each retry with its url, which may be a signed one.
    const DEFAULT: &str = "info,object_store=warn";
    let wanted = std::env::var("USHER_LOG").ok();
    let filter = wanted.as_deref().unwrap_or(DEFAULT).parse::<Targets>();
    if let Err(error) = &filter {
        let wanted = wanted.as_deref().unwrap_or(DEFAULT);
        print_stderr(format_args!("USHER_LOG is `{wanted}`: {error}; the default is used\n  hint: {LEVELS}"));
    }
    let filter = filter.unwrap_or_else(|_| DEFAULT.parse().expect("the default is right"));
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(has_colours()).with_target(false);
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
}

/// Prints a line on stderr; does nothing where stderr is closed.
pub fn print_stderr(line: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Returns `text` in bold red on a terminal, else as it is.
pub fn bold_red(text: &str) -> String {
    if has_colours() { format!("\x1b[1;31m{text}\x1b[0m") } else { text.to_owned() }
}

/// Returns a bar for a long read of so many bytes; without a terminal it draws nothing.
pub fn progress(bytes: u64) -> ProgressBar {
    let target = if stderr_is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {binary_bytes_per_sec} {msg}")
        .expect("the template is right");
    ProgressBar::with_draw_target(Some(bytes), target).with_style(style)
}
