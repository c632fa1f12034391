//! What people see on stderr: log lines, progress, colours; the latter two only on a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Whether somebody looks at stderr.
pub fn is_watched() -> bool {
    std::io::stderr().is_terminal()
}

/// Sends the libraries' log lines to stderr.
pub fn log_to_stderr() {
    // The object store's client logs each retry with its url, which may be a signed one.
    let filter = EnvFilter::try_from_env("USHER_LOG").unwrap_or_else(|_| EnvFilter::new("info,object_store=warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(is_watched())
        .with_target(false)
        .init();
}

/// Prints a line on stderr. A closed stderr is nobody's loss.
pub fn say(line: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// `text` in bold red, on a terminal.
pub fn alarm(text: &str) -> String {
    if is_watched() { format!("\x1b[1;31m{text}\x1b[0m") } else { text.to_owned() }
}

/// A bar for a long read; it draws nothing where nobody looks.
pub fn progress(bytes: u64) -> ProgressBar {
    let target = if is_watched() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {binary_bytes_per_sec} {msg}")
        .expect("the template is right");
    ProgressBar::with_draw_target(Some(bytes), target).with_style(style)
}
