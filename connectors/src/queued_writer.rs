//! A thread that writes to one destination, fed through a bounded queue.
//!
//! Whoever gives an item waits only while the queue holds more than its bound. The thread takes all that is queued,
//! formats it, writes it and flushes: under load in large pieces, else each line at once. The first error ends it;
//! what was queued is dropped, and the error is given to whoever comes next.

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use usher_core::lock::{lock, wait};
use usher_core::sink::{SinkError, Standing, SyncStatus, Written};

/// Bytes formatted before they are written: 64 KiB, where a write's own cost no longer counts.
const PIECE_BYTES: usize = 64 << 10;

/// Something that can be queued.
pub trait Item: Send + 'static {
    /// Its part of the queue's bound.
    fn weight(&self) -> usize;

    /// Appends its bytes, and counts what it holds.
    fn format(&self, out: &mut Vec<u8>, written: &mut Written);
}

/// The queue and its thread. Dropped, it lets the thread write what is queued, and does not wait for it.
pub struct QueuedWriter<T: Item> {
    to: String,
    shared: Arc<Shared<T>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    /// Something was queued, or it is closed.
    filled: Condvar,
    /// There is room, or an error.
    emptied: Condvar,
}

struct State<T> {
    items: Vec<T>,
    /// Of the items queued and of those being written.
    weight: usize,
    closed: bool,
    error: Option<SinkError>,
    written: Written,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        lock(&self.state)
    }
}

impl<T: Item> Standing for Shared<T> {
    fn status(&self) -> SyncStatus {
        let state = self.lock();
        let last_error = state.error.as_ref().map(ToString::to_string);
        SyncStatus { written: state.written, last_error, ..SyncStatus::default() }
    }
}

impl<T: Item> QueuedWriter<T> {
    /// Starts the thread; `to` is the destination's name in errors.
    pub fn start(to: &str, target: impl Write + Send + 'static) -> QueuedWriter<T> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                items: Vec::new(),
                weight: 0,
                closed: false,
                error: None,
                written: Written::default(),
            }),
            filled: Condvar::new(),
            emptied: Condvar::new(),
        });
        let thread = {
            let (shared, to) = (shared.clone(), to.to_string());
            std::thread::Builder::new()
                .name("writer".to_string())
                .spawn(move || run(&shared, &to, target))
                .expect("the system can start a thread")
        };
        QueuedWriter { to: to.to_string(), shared, thread: Mutex::new(Some(thread)) }
    }

    /// Queues an item; waits while the queue would hold more than `bound` with it, and holds something.
    pub fn push(&self, item: T, bound: usize) -> Result<(), SinkError> {
        let weight = item.weight();
        let mut state = self.shared.lock();
        while state.error.is_none() && state.weight > 0 && state.weight + weight > bound {
            state = wait(&self.shared.emptied, state);
        }
        if let Some(error) = &state.error {
            return Err(error.clone());
        }
        assert!(!state.closed, "{} is written to after its end", self.to);
        state.items.push(item);
        state.weight += weight;
        self.shared.filled.notify_one();
        Ok(())
    }

    /// Waits until all is written, and ends the thread.
    pub fn finish(&self) -> Result<(), SinkError> {
        self.close();
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread
            && let Err(panic) = thread.join()
        {
            std::panic::resume_unwind(panic);
        }
        self.error().map_or(Ok(()), Err)
    }

    /// What went wrong so far.
    pub fn error(&self) -> Option<SinkError> {
        self.shared.lock().error.clone()
    }

    /// Returns a handle on what has been written, and on what went wrong.
    pub fn standing(&self) -> Arc<dyn Standing> {
        Arc::clone(&self.shared) as Arc<dyn Standing>
    }

    fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.filled.notify_one();
    }
}

impl<T: Item> Drop for QueuedWriter<T> {
    fn drop(&mut self) {
        self.close();
    }
}

fn run<T: Item>(shared: &Shared<T>, to: &str, mut target: impl Write) {
    let mut out = Vec::new();
    loop {
        let items = {
            let mut state = shared.lock();
            while state.items.is_empty() {
                if state.closed {
                    return;
                }
                state = wait(&shared.filled, state);
            }
            std::mem::take(&mut state.items)
        };
        if let Err(error) = write_all(&mut target, items, &mut out, shared) {
            let mut state = shared.lock();
            state.error = Some(SinkError::new(to, "written", &error));
            state.items.clear();
            shared.emptied.notify_all();
            return;
        }
    }
}

/// Writes and flushes `items`. Each piece is counted when it is written, and leaves room for others then.
fn write_all<T: Item>(
    target: &mut impl Write,
    items: Vec<T>,
    out: &mut Vec<u8>,
    shared: &Shared<T>,
) -> std::io::Result<()> {
    let mut items = items.into_iter().peekable();
    while items.peek().is_some() {
        out.clear();
        let (mut written, mut weight) = (Written::default(), 0);
        while out.len() < PIECE_BYTES
            && let Some(item) = items.next()
        {
            item.format(out, &mut written);
            weight += item.weight();
        }
        target.write_all(out)?;
        target.flush()?;
        let mut state = shared.lock();
        state.written.entries += written.entries;
        state.written.exits += written.exits;
        state.written.bytes += out.len() as u64;
        state.weight -= weight;
        shared.emptied.notify_all();
    }
    Ok(())
}
