//! What each process of a job knows of its own keys only, put together: sizes, and the stream of changes.
//!
//! Whoever is asked asks the others the same, with the caller's key; a request that was forwarded is answered with the own part.
//! Sizes are summed, at the least of their times. Streams are merged in the order of arrival; an event's id is the ids of the
//! last events of all processes, by number, so that any process can go on after it. Promises: nothing is said as if it were the
//! whole when a part is missing: a sum is 502 or 503, a stream ends with an event `lost` that names the process. Holds
//! one unfinished event per process; what a client does not read waits in the processes.

use super::forward::is_forwarded;
use crate::problem::Problem;
use crate::routes::App;
use axum::body::Bytes;
use axum::http::{HeaderMap, Uri};
use futures::StreamExt;
use futures::future::join_all;
use futures::stream::{BoxStream, Stream, select_all, unfold};
use serde::Deserialize;
use std::io::Write;
use std::time::Duration;
use usher_core::membership_index::{AsOf, Count};

/// An id that is of no run: whoever goes on after it is told that changes were missed.
const OF_NO_RUN: &str = "0-0";

/// Events that are handed on at once at most.
const AT_ONCE: usize = 256;

/// How long a process may say nothing: three times as long as it does while nothing happens.
const SILENCE: Duration = Duration::from_secs(45);

/// This process's number and the others, with theirs; no others where the own part is asked for, or is all there is.
pub(crate) fn parts(app: &App, headers: &HeaderMap) -> (usize, Vec<(usize, String)>) {
    if is_forwarded(headers) {
        return (0, Vec::new());
    }
    let processes = app.api.processes();
    let own = processes.iter().position(Option::is_none).expect("this process is one of them");
    let other = |(process, address): (usize, Option<String>)| Some((process, address?));
    (own, processes.into_iter().enumerate().filter_map(other).collect())
}

#[derive(Deserialize)]
struct TheirAudiences {
    audiences: Vec<TheirCount>,
}

#[derive(Deserialize)]
struct TheirCount {
    id: String,
    size: u64,
    entries: u64,
    exits: u64,
}

/// Sizes, entries and exits of the job's audiences, by audience, and what they are as of; none: of nothing yet.
///
/// What was told is known whole to one process, so where one still serves it, that is the answer.
pub(crate) async fn counts(app: &App, uri: &Uri, headers: &HeaderMap) -> Result<(Option<AsOf>, Vec<Count>), Problem> {
    let (own_as_of, mut sum) = (app.index.as_of(), app.index.counts());
    if own_as_of.is_some_and(|as_of| as_of.recovering) {
        return Ok((own_as_of, sum));
    }
    let mut times = vec![own_as_of.map(|as_of| as_of.time)];
    let (_, others) = parts(app, headers);
    let asked = others.iter().map(|(_, peer)| app.forward.part(peer, uri, headers, app.patience));
    for ((_, peer), answered) in others.iter().zip(join_all(asked).await) {
        let (body, time, recovering) = answered?;
        let wrong = || Problem::peer(format!("`{peer}` does not know the same audiences"));
        let theirs: TheirAudiences = serde_json::from_slice(&body).map_err(|_| wrong())?;
        let mut counts = Vec::with_capacity(sum.len());
        for audience in app.index.audiences() {
            let their = theirs.audiences.iter().find(|their| their.id == audience.id).ok_or_else(wrong)?;
            counts.push(Count { size: their.size, entries: their.entries, exits: their.exits });
        }
        if let (Some(time), true) = (time, recovering) {
            return Ok((Some(AsOf { time, recovering }), counts));
        }
        times.push(time);
        for (sum, count) in sum.iter_mut().zip(counts) {
            sum.size += count.size;
            sum.entries += count.entries;
            sum.exits += count.exits;
        }
    }
    match times.iter().flatten().min() {
        None => Ok((None, sum)),
        Some(_) if times.contains(&None) => Err(Problem::not_yet("not all processes of the job are live yet")),
        Some(time) => Ok((Some(AsOf { time: *time, recovering: false }), sum)),
    }
}

/// Where each process is to go on, by the `Last-Event-ID` of a caller; none: now. An id of fewer or more processes is of no run.
pub(crate) fn places(id: Option<&str>, processes: usize) -> Vec<Option<String>> {
    let Some(id) = id else { return vec![None; processes] };
    let places: Vec<_> = id.split('.').map(|place| Some(place.to_owned())).collect();
    if places.len() == processes { places } else { vec![Some(OF_NO_RUN.to_owned()); processes] }
}

/// Events of one process, as it sends them.
struct Part {
    process: usize,
    stream: BoxStream<'static, Bytes>,
    begun: Vec<u8>,
}

/// An event, or a comment.
struct Event {
    id: Option<String>,
    /// Its other lines.
    lines: String,
}

impl Part {
    /// The next event, whole; none: the process has ended, or sends what is none.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.begun.windows(2).position(|two| two == b"\n\n") {
                let text: Vec<u8> = self.begun.drain(..end + 2).collect();
                let mut event = Event { id: None, lines: String::new() };
                for line in std::str::from_utf8(&text).ok()?.trim_end().split('\n') {
                    match line.strip_prefix("id: ") {
                        Some(id) => event.id = Some(id.to_owned()),
                        None => event.lines.extend([line, "\n"]),
                    }
                }
                return Some(event);
            }
            self.begun.extend_from_slice(&self.stream.next().await?);
        }
    }
}

/// The streams of all processes as one.
///
/// `own` are this process's events, and its number; `place` is where each is to go on. Answers once all of them have begun.
pub(crate) async fn follow(
    app: &App,
    uri: &Uri,
    headers: &HeaderMap,
    (process, own): (usize, BoxStream<'static, Bytes>),
    others: Vec<(usize, String)>,
    place: Vec<Option<String>>,
) -> Result<impl Stream<Item = Bytes> + use<>, Problem> {
    let mut parts = vec![Part { process, stream: own, begun: Vec::new() }];
    let asked = others
        .iter()
        .map(|(process, peer)| app.forward.follow(peer, uri, headers, place[*process].as_deref(), app.patience));
    for ((process, _), answered) in others.iter().zip(join_all(asked).await) {
        let chunks = unfold(answered?, |mut theirs| async move {
            let chunk = tokio::time::timeout(SILENCE, theirs.chunk()).await.ok()?.ok()??;
            Some((chunk, theirs))
        });
        parts.push(Part { process: *process, stream: chunks.boxed(), begun: Vec::new() });
    }
    let mut together = Together { own: process, places: vec![String::new(); place.len()], ended: false };
    let mut missed = false;
    for part in &mut parts {
        // A greeting, which is an id, or word that changes were missed; then the caller's place stays, and says so again.
        let first = tokio::time::timeout(app.patience, part.next()).await.ok().flatten();
        let first = first.ok_or_else(|| Problem::peer(format!("process {} does not begin", part.process)))?;
        missed |= first.id.is_none();
        together.places[part.process] =
            first.id.or_else(|| place[part.process].clone()).unwrap_or_else(|| OF_NO_RUN.to_owned());
    }
    let mut greeting = Vec::new();
    if missed {
        greeting.extend_from_slice(crate::changes::RESET);
    }
    write!(greeting, "id: {}\n\n", together.id()).expect("writing to memory");
    let events = parts.into_iter().map(|part| {
        let process = part.process;
        let events = unfold(Some(part), |part| async move {
            let mut part = part?;
            match part.next().await {
                Some(event) => Some((Some(event), Some(part))),
                None => Some((None, None)),
            }
        });
        events.map(move |event| (process, event)).boxed()
    });
    let merged =
        unfold((together, select_all(events).ready_chunks(AT_ONCE)), |(mut together, mut events)| async move {
            if together.ended {
                return None;
            }
            let mut out = Vec::new();
            for (process, event) in events.next().await? {
                together.take(process, event, &mut out);
            }
            Some((Bytes::from(out), (together, events)))
        });
    Ok(futures::stream::once(std::future::ready(Bytes::from(greeting))).chain(merged))
}

struct Together {
    own: usize,
    /// By process, the id of its last event.
    places: Vec<String>,
    ended: bool,
}

impl Together {
    fn id(&self) -> String {
        self.places.join(".")
    }

    fn take(&mut self, process: usize, event: Option<Event>, out: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        match event {
            Some(Event { id, lines }) => {
                if let Some(id) = id {
                    self.places[process] = id;
                    writeln!(out, "id: {}", self.id()).expect("writing to memory");
                }
                out.extend_from_slice(lines.as_bytes());
                out.push(b'\n');
            }
            // The own stream ends with the server, as one that is alone does.
            None => {
                self.ended = true;
                if process != self.own {
                    write!(out, "event: lost\ndata: {{\"process\":{process}}}\n\n").expect("writing to memory");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn a_place_is_of_as_many_processes_as_there_are() {
        let some = |places: &[&str]| places.iter().map(|place| Some((*place).to_owned())).collect::<Vec<_>>();
        assert_eq!(places(None, 2), [None, None]);
        assert_eq!(places(Some("7-1.8-2"), 2), some(&["7-1", "8-2"]));
        assert_eq!(places(Some("7-1"), 1), some(&["7-1"]));
        assert_eq!(places(Some("7-1.8-2"), 1), some(&["0-0"]));
        assert_eq!(places(Some("7-1"), 2), some(&["0-0", "0-0"]));
    }

    #[test]
    fn events_are_whole_however_they_come_and_a_lost_process_is_named() {
        let text = "id: 7-1\n\nid: 7-2\nevent: entry\ndata: {\"key\":\"ä\"}\n\n: alive\nid: 7-2\n\nid: 7-3\nev";
        for size in 1..text.len() {
            let chunks: Vec<Bytes> = text.as_bytes().chunks(size).map(Bytes::copy_from_slice).collect();
            let mut part = Part { process: 1, stream: futures::stream::iter(chunks).boxed(), begun: Vec::new() };
            let mut together = Together { own: 0, places: vec!["6-5".to_owned(), "7-0".to_owned()], ended: false };
            let mut out = Vec::new();
            while !together.ended {
                let event = part.next().now_or_never().expect("nothing is waited for");
                together.take(1, event, &mut out);
            }
            let want = "id: 6-5.7-1\n\nid: 6-5.7-2\nevent: entry\ndata: {\"key\":\"ä\"}\n\nid: 6-5.7-2\n: alive\n\n\
                event: lost\ndata: {\"process\":1}\n\n";
            assert_eq!(String::from_utf8(out).expect("text"), want);
        }
    }
}
