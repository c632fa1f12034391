//! stderr: log lines, messages, the progress bar, colours; the latter two only on a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Returns whether stderr is a terminal.
pub fn stderr_is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Sends the libraries' log lines to stderr.
pub fn log_to_stderr() {
    // The object store's client logs each retry with its url, which may be a signed one.
    let filter = EnvFilter::try_from_env("USHER_LOG").unwrap_or_else(|_| EnvFilter::new("info,object_store=warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(stderr_is_terminal())
        .with_target(false)
        .init();
}

/// Prints a line on stderr; does nothing where stderr is closed.
pub fn print_stderr(line: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Returns `text` in bold red on a terminal, else as it is.
pub fn bold_red(text: &str) -> String {
    if stderr_is_terminal() { format!("\x1b[1;31m{text}\x1b[0m") } else { text.to_owned() }
}

/// Returns a bar for a long read of so many bytes; without a terminal it draws nothing.
pub fn progress(bytes: u64) -> ProgressBar {
    let target = if stderr_is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {binary_bytes_per_sec} {msg}")
        .expect("the template is right");
    ProgressBar::with_draw_target(Some(bytes), target).with_style(style)
}
