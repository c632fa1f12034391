//! Answers for the whole job, gathered from all its processes: sizes, and the stream of changes.
//!
//! Each process has the sizes and changes of its own keys. The process that a client asks sends the same request to the others,
//! with the client's key; a forwarded request is answered with the own part. Sizes are summed, as of the earliest of their times.
//! Streams are merged in the order of arrival; the id of a merged event is the ids of the last events of all processes, in the
//! order of their numbers, so that a client may resume at any process.
//!
//! Promises: a part is never presented as the whole. If a process is missing, a sum is answered 502 or 503, and a stream ends
//! with an event `lost` that names the process. Holds one unfinished event per process; what a client does not read waits in
//! the processes.

use super::Peers;
use super::forward::is_forwarded;
use crate::problem::Problem;
use crate::sse::{Event, EventReader, RESET};
use axum::body::Bytes;
use axum::http::{HeaderMap, Uri};
use futures::StreamExt;
use futures::future::join_all;
use futures::stream::{BoxStream, Stream, select_all, unfold};
use serde::Deserialize;
use std::io::Write;
use std::time::Duration;
use usher_core::api::AudienceState;
use usher_core::membership_index::{AsOf, Count};

/// An id of no run: a stream that resumes after it begins with `reset`.
const OF_NO_RUN: &str = "0-0";

/// Events that are sent at once at most.
const AT_ONCE: usize = 256;

/// How long a process may send nothing: three times as long as the pause between its comments.
const SILENCE: Duration = Duration::from_secs(45);

/// The processes that answer a request.
pub(crate) struct Parts {
    /// The number of this process.
    pub(crate) own: usize,
    /// Numbers and addresses of the others. Empty if only the own part is wanted, or if it is the whole.
    pub(crate) others: Vec<(usize, String)>,
}

#[derive(Deserialize)]
struct PeerAudiences {
    audiences: Vec<PeerAudience>,
}

#[derive(Deserialize)]
struct PeerAudience {
    id: String,
    size: u64,
    entries: u64,
    exits: u64,
    held: u64,
}

impl Peers {
    /// Returns the processes that answer a request with these headers.
    pub(crate) fn parts(&self, headers: &HeaderMap) -> Parts {
        if is_forwarded(headers) {
            return Parts { own: 0, others: Vec::new() };
        }
        let processes = self.api.processes();
        let own = processes.iter().position(Option::is_none).expect("this process is one of them");
        let other = |(process, address): (usize, Option<String>)| Some((process, address?));
        Parts { own, others: processes.into_iter().enumerate().filter_map(other).collect() }
    }

    /// Returns the addresses and answers of the other processes to the same request, each with its part.
    ///
    /// # Errors
    /// 502, 503 or 429 if a process does not answer with its part.
    pub(crate) async fn part_bodies(&self, uri: &Uri, headers: &HeaderMap) -> Result<Vec<(String, Bytes)>, Problem> {
        let Parts { others, .. } = self.parts(headers);
        let requests = others.iter().map(|(_, peer)| self.forward.part(peer, uri, headers, self.patience));
        let replies = others.iter().zip(join_all(requests).await);
        replies.map(|((_, peer), reply)| Ok((peer.clone(), reply?.body))).collect()
    }

    /// Returns the time that sizes and counts are as of, `None` before there is any, and for each audience that is `asked` for its sizes,
    /// entries and exits, and the number of keys that are held. `states` are theirs in this process.
    ///
    /// The ledgers are in one process and cover all keys: if a process still serves them, that is the answer.
    ///
    /// # Errors
    /// 502 if a process does not answer or has other audiences, 503 if only some are live.
    pub(crate) async fn counts(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
        asked: &[u32],
        states: &[AudienceState],
    ) -> Result<(Option<AsOf>, Vec<(Count, u64)>), Problem> {
        let (own_as_of, counts) = (self.index.as_of(), self.index.counts());
        let own = asked.iter().zip(states).map(|(audience, state)| (counts[*audience as usize], state.held));
        let mut sums: Vec<(Count, u64)> = own.collect();
        if own_as_of.is_some_and(|as_of| as_of.recovering) {
            return Ok((own_as_of, sums));
        }
        let mut times = vec![own_as_of.map(|as_of| as_of.time)];
        let Parts { others, .. } = self.parts(headers);
        let requests = others.iter().map(|(_, peer)| self.forward.part(peer, uri, headers, self.patience));
        for ((_, peer), reply) in others.iter().zip(join_all(requests).await) {
            let reply = reply?;
            let wrong = || Problem::peer(format!("`{peer}` has other audiences"));
            let PeerAudiences { audiences } = serde_json::from_slice(&reply.body).map_err(|_| wrong())?;
            let is_same =
                |(their, audience): (&PeerAudience, &u32)| their.id == self.index.audiences()[*audience as usize].id;
            if audiences.len() != asked.len() || !audiences.iter().zip(asked).all(is_same) {
                return Err(wrong());
            }
            let theirs = audiences
                .into_iter()
                .map(|PeerAudience { size, entries, exits, held, .. }| (Count { size, entries, exits }, held));
            if let (Some(time), true) = (reply.time, reply.recovering) {
                return Ok((Some(AsOf { time, recovering: true }), theirs.collect()));
            }
            times.push(reply.time);
            for ((sum, sum_held), (count, held)) in sums.iter_mut().zip(theirs) {
                sum.size += count.size;
                sum.entries += count.entries;
                sum.exits += count.exits;
                *sum_held += held;
            }
        }
        match times.iter().flatten().min() {
            None => Ok((None, sums)),
            Some(_) if times.contains(&None) => Err(Problem::unavailable("not all processes of the job are live yet")),
            Some(time) => Ok((Some(AsOf { time: *time, recovering: false }), sums)),
        }
    }

    /// Returns the streams of all processes as one, once each of them has begun.
    ///
    /// `own_events` are those of this process; `last_ids` are, by process, the events after which to go on.
    ///
    /// # Errors
    /// 502, 503 or 429 if a process does not answer with a stream.
    pub(crate) async fn follow(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
        parts: Parts,
        own_events: BoxStream<'static, Bytes>,
        last_ids: Vec<Option<String>>,
    ) -> Result<impl Stream<Item = Bytes> + use<>, Problem> {
        let Parts { own, others } = parts;
        let mut readers = vec![(own, EventReader::new(own_events))];
        let requests = others.iter().map(|(process, peer)| {
            self.forward.follow(peer, uri, headers, last_ids[*process].as_deref(), self.patience)
        });
        for ((process, _), reply) in others.iter().zip(join_all(requests).await) {
            let chunks = unfold(reply?, |mut reply| async move {
                let chunk = tokio::time::timeout(SILENCE, reply.chunk()).await.ok()?.ok()??;
                Some((chunk, reply))
            });
            readers.push((*process, EventReader::new(chunks.boxed())));
        }
        let mut merged = Merged { own, last_ids: vec![String::new(); last_ids.len()], ended: false };
        let mut missed = false;
        for (process, reader) in &mut readers {
            // A stream begins with an id, or with `reset` if changes were missed. In that case the client's own id stays in
            // place, so that it leads to a `reset` again.
            let first = tokio::time::timeout(self.patience, reader.next()).await.ok().flatten();
            let first =
                first.ok_or_else(|| Problem::peer(format!("the stream of process {process} does not begin")))?;
            missed |= first.id.is_none();
            merged.last_ids[*process] =
                first.id.or_else(|| last_ids[*process].clone()).unwrap_or_else(|| OF_NO_RUN.to_owned());
        }
        let mut head = Vec::new();
        if missed {
            head.extend_from_slice(RESET);
        }
        write!(head, "id: {}\n\n", merged.id()).expect("writing to memory");
        let events = readers.into_iter().map(|(process, reader)| {
            let events = unfold(Some(reader), |reader| async move {
                let mut reader = reader?;
                match reader.next().await {
                    Some(event) => Some((Some(event), Some(reader))),
                    None => Some((None, None)),
                }
            });
            events.map(move |event| (process, event)).boxed()
        });
        let events = select_all(events).ready_chunks(AT_ONCE);
        let chunks = unfold((merged, events), |(mut merged, mut events)| async move {
            if merged.ended {
                return None;
            }
            let mut out = Vec::new();
            for (process, event) in events.next().await? {
                merged.write(process, event, &mut out);
            }
            Some((Bytes::from(out), (merged, events)))
        });
        Ok(futures::stream::once(std::future::ready(Bytes::from(head))).chain(chunks))
    }
}

/// Splits a client's `Last-Event-ID` by process: the event after which each is to go on. Without an id, each begins now.
///
/// An id of fewer or more processes than there are is of no run.
pub(crate) fn split_id(id: Option<&str>, processes: usize) -> Vec<Option<String>> {
    let Some(id) = id else { return vec![None; processes] };
    let ids: Vec<_> = id.split('.').map(|id| Some(id.to_owned())).collect();
    if ids.len() == processes { ids } else { vec![Some(OF_NO_RUN.to_owned()); processes] }
}

/// Where a merged stream is.
struct Merged {
    own: usize,
    /// By process, the id of its last event.
    last_ids: Vec<String>,
    ended: bool,
}

impl Merged {
    fn id(&self) -> String {
        self.last_ids.join(".")
    }

    /// Appends the next event of a process; `None` ends the stream.
    fn write(&mut self, process: usize, event: Option<Event>, out: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        match event {
            Some(Event { id, lines }) => {
                if let Some(id) = id {
                    self.last_ids[process] = id;
                    writeln!(out, "id: {}", self.id()).expect("writing to memory");
                }
                out.extend_from_slice(lines.as_bytes());
                out.push(b'\n');
            }
            // The own stream ends with the server, without an event, as the stream of a single process does.
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
    fn an_id_is_of_as_many_processes_as_there_are() {
        let some = |ids: &[&str]| ids.iter().map(|id| Some((*id).to_owned())).collect::<Vec<_>>();
        assert_eq!(split_id(None, 2), [None, None]);
        assert_eq!(split_id(Some("7-1.8-2"), 2), some(&["7-1", "8-2"]));
        assert_eq!(split_id(Some("7-1"), 1), some(&["7-1"]));
        assert_eq!(split_id(Some("7-1.8-2"), 1), some(&["0-0"]));
        assert_eq!(split_id(Some("7-1"), 2), some(&["0-0", "0-0"]));
    }

    #[test]
    fn events_are_whole_however_they_come_and_a_lost_process_is_named() {
        let text = "id: 7-1\n\nid: 7-2\nevent: entry\ndata: {\"key\":\"ä\"}\n\n: alive\nid: 7-2\n\nid: 7-3\nev";
        for size in 1..text.len() {
            let chunks: Vec<Bytes> = text.as_bytes().chunks(size).map(Bytes::copy_from_slice).collect();
            let mut reader = EventReader::new(futures::stream::iter(chunks).boxed());
            let mut merged = Merged { own: 0, last_ids: vec!["6-5".to_owned(), "7-0".to_owned()], ended: false };
            let mut out = Vec::new();
            while !merged.ended {
                let event = reader.next().now_or_never().expect("all chunks are there");
                merged.write(1, event, &mut out);
            }
            let want = "id: 6-5.7-1\n\nid: 6-5.7-2\nevent: entry\ndata: {\"key\":\"ä\"}\n\nid: 6-5.7-2\n: alive\n\n\
                event: lost\ndata: {\"process\":1}\n\n";
            assert_eq!(String::from_utf8(out).expect("text"), want);
        }
    }
}
