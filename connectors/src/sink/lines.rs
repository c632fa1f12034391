//! Changes as JSON, one a line, to a file or to stdout.
//!
//! A thread formats and writes; [`LineSink::write`] hands it a batch and returns. Promises: a line can be read as soon as
//! nothing more is waiting behind it; at most [`QUEUE`] batches wait. An error stops the thread and is told by the next
//! call.

use super::{Catalog, Changes, Filter, Sink, SinkError, write_message};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;

/// Batches that may wait. A batch is what one worker tells at a time, some thousands of changes.
const QUEUE: usize = 16;
/// How much is formatted before it is written.
const BUFFER: usize = 256 << 10;

/// A sink of lines.
pub struct LineSink {
    queue: Option<SyncSender<Arc<Changes>>>,
    thread: Option<JoinHandle<Result<(), SinkError>>>,
    filter: Filter,
}

impl LineSink {
    /// Appends to a file, made where it is missing.
    ///
    /// # Errors
    /// It can't be opened.
    pub fn append(path: &Path, catalog: Arc<Catalog>, filter: Filter) -> Result<LineSink, SinkError> {
        let file = OpenOptions::new().append(true).create(true).open(path).map_err(|error| SinkError::file(path, &error))?;
        Ok(LineSink::start(path.to_owned(), file, catalog, filter))
    }

    /// Replaces a file's content.
    ///
    /// # Errors
    /// It can't be opened.
    pub fn replace(path: &Path, catalog: Arc<Catalog>, filter: Filter) -> Result<LineSink, SinkError> {
        let file = File::create(path).map_err(|error| SinkError::file(path, &error))?;
        Ok(LineSink::start(path.to_owned(), file, catalog, filter))
    }

    /// Prints on stdout.
    pub fn stdout(catalog: Arc<Catalog>, filter: Filter) -> LineSink {
        LineSink::start(PathBuf::from("stdout"), io::stdout(), catalog, filter)
    }

    fn start(path: PathBuf, to: impl Write + Send + 'static, catalog: Arc<Catalog>, filter: Filter) -> LineSink {
        let (queue, batches) = sync_channel(QUEUE);
        let passes = filter.clone();
        let thread = std::thread::Builder::new()
            .name("lines".to_owned())
            .spawn(move || write_all(to, &batches, &catalog, &passes).map_err(|error| SinkError::file(&path, &error)))
            .expect("the system can start a thread");
        LineSink { queue: Some(queue), thread: Some(thread), filter }
    }

    /// What stopped the thread.
    fn error(&mut self) -> Result<(), SinkError> {
        self.queue = None;
        match self.thread.take() {
            Some(thread) => thread.join().expect("the thread of a sink does not panic"),
            None => Ok(()),
        }
    }
}

impl Sink for LineSink {
    fn write(&mut self, changes: &Arc<Changes>) -> Result<(), SinkError> {
        if !changes.iter().any(|change| self.filter.passes(change)) {
            return Ok(());
        }
        match &self.queue {
            Some(queue) if queue.send(Arc::clone(changes)).is_ok() => Ok(()),
            _ => self.error(),
        }
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.error()
    }
}

fn write_all(mut to: impl Write, batches: &Receiver<Arc<Changes>>, catalog: &Catalog, filter: &Filter) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(2 * BUFFER);
    loop {
        let changes = match batches.try_recv() {
            Ok(changes) => changes,
            Err(TryRecvError::Empty) => {
                to.write_all(&buffer)?;
                to.flush()?;
                buffer.clear();
                match batches.recv() {
                    Ok(changes) => changes,
                    Err(_) => return Ok(()),
                }
            }
            Err(TryRecvError::Disconnected) => {
                to.write_all(&buffer)?;
                return to.flush();
            }
        };
        for change in changes.iter().filter(|change| filter.passes(change)) {
            write_message(&mut buffer, catalog, &changes, change);
            if buffer.len() >= BUFFER {
                to.write_all(&buffer)?;
                buffer.clear();
            }
        }
    }
}
