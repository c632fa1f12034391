//! `GET /v1/changes`: entries and exits as server-sent events, as they are published.
//!
//! An event is `entry` or `exit`; its data is the default message (SPEC §5); its id, sent as `Last-Event-ID`, resumes after
//! it. Without `Last-Event-ID` the stream begins now. The last 65,536 changes are kept: a client that resumes after an older one,
//! or after an id of another run, first gets an event `reset`, which means that changes were missed and membership has to be
//! looked up, and then the changes that are kept. While nothing happens, a comment with the latest id is sent.
//!
//! Many followers are written to in turns, and what changes within a round of them ([`App::round`]) is written together.
//!
//! Each process has the changes of its own keys; the process that a client asks merges them (see [`crate::peers::gather`]).

use crate::app::{Answer, App, QueryOf, Shared};
use crate::connections::stopped;
use crate::peers::gather::split_id;
use crate::problem::{Problem, ProblemBody};
use crate::sse::RESET;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::Uri;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use axum::response::Response;
use futures::StreamExt;
use futures::stream::{BoxStream, unfold};
use serde::Deserialize;
use std::convert::Infallible;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;
use usher_core::catalog::Catalog;
use usher_core::change::Changes;
use usher_core::membership_index::{ChangesAfter, Interest, Recent};
use usher_core::message::write_message;
use utoipa::IntoParams;

/// How often something is sent at least: proxies keep the connection, and a client that is gone is noticed.
const ALIVE: Duration = Duration::from_secs(15);

/// What is written together, at least where there is so much.
const WRITE_BYTES: usize = 1 << 16;

/// Timers go by the ms.
const TICK: Duration = Duration::from_millis(1);

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ChangesQuery {
    /// Only changes of this audience.
    #[param(nullable = false)]
    audience: Option<String>,
    /// Only changes of this key.
    #[param(nullable = false)]
    key: Option<String>,
}

/// Follow the changes
///
/// Server-sent events: `entry` and `exit` with the default message; `reset` if changes were missed; `lost`, the last event of the
/// stream, if a process of the job can no longer be reached.
#[utoipa::path(
    get,
    path = "/v1/changes",
    tag = "membership",
    params(
        ChangesQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "Resumes after this event", nullable = false)
    ),
    responses(
        (status = 200, description = "A stream without end", body = String, content_type = "text/event-stream"),
        (status = 404, description = "The job has no such audience", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(crate) async fn changes(State(app): Shared, query: QueryOf<ChangesQuery>, uri: Uri, headers: HeaderMap) -> Answer {
    let Query(ChangesQuery { audience, key }) = query?;
    let audience = audience.map(|id| app.audience(&id)).transpose()?;
    let recent = app.index.recent();
    let id = headers.get("last-event-id").map(|id| id.to_str().unwrap_or_default());
    if id.is_some_and(|id| id.split('.').any(|of_process| recent.number(of_process).is_none())) {
        return Err(Problem::wrong("`Last-Event-ID` is not an id of this API"));
    }
    let permit = app.followers.clone().try_acquire_owned();
    let permit = permit.map_err(|_| Problem::unavailable("too many clients follow the changes"))?;
    let parts = app.peers.parts(&headers);
    let last_ids = split_id(id, parts.others.len() + 1);
    let after = match &last_ids[parts.own] {
        None => Some(recent.last()),
        Some(id) => recent.number(id).flatten(),
    };
    let interest = Interest { audience, key };
    let number = app.numbers.fetch_add(1, Relaxed);
    let own =
        Follower { app: app.clone(), number, interest, after, begun: false, written: None, _permit: permit }.events();
    let body = if parts.others.is_empty() {
        Body::from_stream(own.map(Ok::<Bytes, Infallible>))
    } else {
        let all = app.peers.follow(&uri, &headers, parts, own, last_ids).await?;
        Body::from_stream(all.map(Ok::<Bytes, Infallible>))
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// A stream of this process's changes.
struct Follower {
    app: Arc<App>,
    number: u32,
    interest: Interest,
    /// The number of the last change that was looked at; `None`: begin with the oldest.
    after: Option<u64>,
    begun: bool,
    /// When changes were last written; `None` while there are more.
    written: Option<Instant>,
    _permit: OwnedSemaphorePermit,
}

impl Follower {
    fn events(self) -> BoxStream<'static, Bytes> {
        let next = |mut follower: Follower| async move { Some((follower.next().await?, follower)) };
        unfold(self, next).boxed()
    }

    /// Returns the next events; `None` if the server stops.
    async fn next(&mut self) -> Option<Bytes> {
        let app = self.app.clone();
        let recent = app.index.recent();
        let mut stopping = app.stopping.clone();
        let mut out = Vec::new();
        if !self.begun {
            self.begun = true;
            // An id without an event: a client that loses the connection before the first event resumes here.
            if let Some(after) = self.after {
                write!(out, "id: {}\n\n", recent.id(after)).expect("writing to memory");
                return Some(out.into());
            }
        }
        if let Some(written) = self.written {
            wait_until(written + app.round(), &mut stopping).await;
        }
        loop {
            let since = recent.since(self.after, &self.interest);
            self.after = Some(since.last);
            write_events(&mut out, app.index.catalog(), recent, &since);
            if since.more && out.len() < WRITE_BYTES {
                // Other tasks may run between two looks.
                tokio::task::yield_now().await;
                continue;
            }
            if !out.is_empty() {
                // Who is behind does not wait.
                self.written = (!since.more).then(Instant::now);
                return Some(out.into());
            }
            let last = since.last;
            tokio::select! {
                () = recent.wait(last) => {}
                () = tokio::time::sleep(ALIVE) => {
                    write!(out, ": alive\nid: {}\n\n", recent.id(last)).expect("writing to memory");
                    return Some(out.into());
                }
                () = stopped(&mut stopping) => return None,
            }
            wait_until(Instant::now() + app.turn(self.number), &mut stopping).await;
        }
    }
}

/// Waits until a time, or until the server stops: what there is by then is written all the same. A time that is nearer than a tick of the
/// timers is not waited for: a few followers are all written to at once.
async fn wait_until(time: Instant, stopping: &mut watch::Receiver<bool>) {
    if time < Instant::now() + TICK {
        return;
    }
    tokio::select! {
        () = tokio::time::sleep_until(time) => {}
        () = stopped(stopping) => {}
    }
}

fn write_events(out: &mut Vec<u8>, catalog: &Catalog, recent: &Recent, since: &ChangesAfter) {
    if since.missed {
        out.extend_from_slice(RESET);
    }
    let mut one = Changes::new();
    for (number, change) in &since.changes {
        one.clear();
        one.push(change.at, change.audience, change.kind, change.reason, &change.key);
        write!(out, "id: {}\nevent: {}\ndata: ", recent.id(*number), change.kind.name()).expect("writing to memory");
        for message in &one {
            // A message ends with its only newline.
            write_message(out, catalog, message, &change.key);
        }
        out.push(b'\n');
    }
}
