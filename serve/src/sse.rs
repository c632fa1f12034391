//! Server-sent events, as `GET /v1/changes` writes them and reads them from other processes.
//!
//! An event is lines up to an empty one. Written are `id`, `event` and `data`, and comments; an id may come without an event.
//! Holds one unfinished event per stream that is read.

use axum::body::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;

/// The event of a stream that has missed changes.
pub(crate) const RESET: &[u8] = b"event: reset\ndata: {\"missed\":true}\n\n";

/// An event or a comment.
pub(crate) struct Event {
    /// Its `id`, if it has one.
    pub(crate) id: Option<String>,
    /// Its other lines.
    pub(crate) lines: String,
}

/// Reads events from the chunks of a stream.
pub(crate) struct EventReader {
    chunks: BoxStream<'static, Bytes>,
    unfinished: Vec<u8>,
}

impl EventReader {
    /// Returns a reader of the events in `chunks`, which may end anywhere in an event.
    pub(crate) fn new(chunks: BoxStream<'static, Bytes>) -> EventReader {
        EventReader { chunks, unfinished: Vec::new() }
    }

    /// Returns the next whole event; `None` if the stream has ended or is not UTF-8.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.unfinished.windows(2).position(|two| two == b"\n\n") {
                let text: Vec<u8> = self.unfinished.drain(..end + 2).collect();
                let mut event = Event { id: None, lines: String::new() };
                for line in std::str::from_utf8(&text).ok()?.trim_end().split('\n') {
                    match line.strip_prefix("id: ") {
                        Some(id) => event.id = Some(id.to_owned()),
                        None => event.lines.extend([line, "\n"]),
                    }
                }
                return Some(event);
            }
            self.unfinished.extend_from_slice(&self.chunks.next().await?);
        }
    }
}
