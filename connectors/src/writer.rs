//! The sink of files and of stdout.
//!
//! Formats and writes on a thread of its own. [`Sink::write`] waits while more than [`QUEUE_CHANGES`] changes are
//! queued or being written: memory stays bounded however large an epoch is.

use crate::messages::Messages;
use crate::queued_writer::{Item, QueuedWriter};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use usher_core::change::{Changes, Filter};
use usher_core::sink::{Sink, SinkError, Standing, Written};

/// Changes that may wait to be written: 65,536, with usual keys some 4 MB.
const QUEUE_CHANGES: usize = 65_536;
/// Changes handed to the thread at once: 1,024, so that it starts while an epoch is still being queued.
const BATCH_CHANGES: usize = 1024;

/// Writes the message of each entry and exit, one on a line.
pub struct Writer {
    queue: QueuedWriter<Batch>,
    messages: Arc<Messages>,
    until: u64,
}

/// Some changes of an epoch.
struct Batch {
    changes: Changes,
    messages: Arc<Messages>,
}

impl Writer {
    /// Writes to `target`; `to` is its name in errors.
    pub fn new(to: &str, target: impl Write + Send + 'static, messages: impl Into<Messages>) -> Writer {
        let (queue, messages) = (QueuedWriter::start(to, target), Arc::new(messages.into()));
        Writer { queue, messages, until: 0 }
    }

    /// Replaces the content of the file at `path`, which is created where it is missing; its folder must exist.
    pub fn create(path: &Path, messages: impl Into<Messages>) -> Result<Writer, SinkError> {
        let to = name(path);
        let file = File::create(path).map_err(|error| SinkError::new(&to, "opened", &error))?;
        Ok(Writer::new(&to, file, messages))
    }

    /// Prints.
    pub fn stdout(messages: impl Into<Messages>) -> Writer {
        Writer::new("stdout", io::stdout(), messages)
    }
}

impl Sink for Writer {
    fn write(&mut self, epoch: &Changes, until: u64) -> Result<(), SinkError> {
        let filter = Filter::all();
        let mut sent = epoch.iter().filter(|change| filter.sends(change)).peekable();
        while sent.peek().is_some() {
            let mut changes = Changes::new();
            for change in sent.by_ref().take(BATCH_CHANGES) {
                changes.push_from(epoch, change);
            }
            let messages = Arc::clone(&self.messages);
            self.queue.push(Batch { changes, messages }, QUEUE_CHANGES)?;
        }
        self.until = until;
        self.queue.error().map_or(Ok(()), Err)
    }

    fn committed(&self) -> u64 {
        self.until
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.queue.finish()
    }

    fn standing(&self) -> Arc<dyn Standing> {
        self.queue.standing()
    }
}

impl Item for Batch {
    fn weight(&self) -> usize {
        self.changes.len()
    }

    fn format(&self, out: &mut Vec<u8>, written: &mut Written) {
        for change in &self.changes {
            self.messages.write(out, change, self.changes.texts(change));
            out.push(b'\n');
            written.count(change.kind);
        }
    }
}

/// Opens a file of lines to append to, and gives its name for errors.
///
/// A last line without newline is ended, so that the next one is a line of its own.
pub(crate) fn open_to_append(path: &Path) -> Result<(String, File), SinkError> {
    let to = name(path);
    let failed = |error: io::Error| SinkError::new(&to, "opened", &error);
    let mut file = OpenOptions::new().append(true).create(true).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    // One that can only be appended to is taken as it is.
    if metadata.is_file()
        && metadata.len() > 0
        && let Ok(mut written) = File::open(path)
    {
        let mut last = [0];
        written.seek(SeekFrom::End(-1)).map_err(failed)?;
        written.read_exact(&mut last).map_err(failed)?;
        if last != *b"\n" {
            file.write_all(b"\n").map_err(failed)?;
        }
    }
    Ok((to, file))
}

fn name(path: &Path) -> String {
    format!("`{}`", path.display())
}

#[cfg(test)]
mod tests;
