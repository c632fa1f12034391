//! `GET /v1/changes`: changes as server-sent events, as they are published.
//!
//! An event is `entry` or `exit`, its data the default message (SPEC §5), its id one that `Last-Event-ID` takes to go on after
//! it. The last 65,536 changes are kept. Who asks for what is not kept any more, or with an id of an earlier run, first gets an
//! event `reset`: changes were missed, look membership up; then what is kept. Without `Last-Event-ID` it begins now. While nothing
//! happens a comment is sent, and with a filter the id moves on.

use super::connections::stopped;
use super::problem::{Problem, ProblemBody};
use super::routes::App;
use crate::published::{Interest, Recent, Since};
use crate::sink::{Catalog, Changes, write_message};
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use axum::response::Response;
use serde::Deserialize;
use std::convert::Infallible;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::IntoParams;

/// How often something is sent, so that proxies keep the connection and a client that is gone is noticed.
const ALIVE: Duration = Duration::from_secs(15);

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ChangesQuery {
    /// Only changes of this audience.
    #[param(nullable = false)]
    audience: Option<String>,
    /// Only changes of this key.
    #[param(nullable = false)]
    key: Option<String>,
}

/// Follow the changes
///
/// Server-sent events `entry` and `exit` with the default message, and `reset` where changes were missed.
#[utoipa::path(
    get,
    path = "/v1/changes",
    tag = "membership",
    params(
        ChangesQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "Goes on after this event", nullable = false)
    ),
    responses(
        (status = 200, description = "A stream that does not end", body = String, content_type = "text/event-stream"),
        (status = 404, description = "No such audience", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn changes(
    State(app): State<Arc<App>>,
    query: Result<Query<ChangesQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(ChangesQuery { audience, key }) = query?;
    let audience = audience.map(|id| app.audience(&id)).transpose()?;
    let recent = app.published.recent();
    let after = match headers.get("last-event-id").map(|id| id.to_str().unwrap_or_default()) {
        None => Some(recent.last()),
        Some(id) => recent.number(id).ok_or_else(|| Problem::wrong("`Last-Event-ID` is none of this API's"))?,
    };
    let place = app.followers.clone().try_acquire_owned();
    let place = place.map_err(|_| Problem::not_yet("too many follow the changes"))?;
    let follower = Follower { app, interest: Interest { audience, key }, after, greeted: false, _place: place };
    let events = futures::stream::unfold(follower, |mut follower| async move {
        let events = follower.next().await?;
        Some((Ok::<Bytes, Infallible>(events), follower))
    });
    let mut response = Response::new(Body::from_stream(events));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

struct Follower {
    app: Arc<App>,
    interest: Interest,
    after: Option<u64>,
    greeted: bool,
    _place: OwnedSemaphorePermit,
}

impl Follower {
    /// The next events; none: the server stops.
    async fn next(&mut self) -> Option<Bytes> {
        let app = self.app.clone();
        let recent = app.published.recent();
        let mut stopping = app.stopping.clone();
        let mut out = Vec::new();
        if !self.greeted {
            self.greeted = true;
            // An id without an event: who loses the connection before the first event goes on from here.
            if let Some(after) = self.after {
                write!(out, "id: {}\n\n", recent.id(after)).expect("writing to memory");
                return Some(out.into());
            }
        }
        loop {
            let since = recent.since(self.after, &self.interest);
            self.after = Some(since.last);
            write_events(&mut out, app.published.catalog(), recent, &since);
            if !out.is_empty() {
                return Some(out.into());
            }
            if since.more {
                // Others should have a turn between stretches that hold nothing of interest.
                tokio::task::yield_now().await;
                continue;
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
        }
    }
}

fn write_events(out: &mut Vec<u8>, catalog: &Catalog, recent: &Recent, since: &Since) {
    if since.missed {
        out.extend_from_slice(b"event: reset\ndata: {\"missed\":true}\n\n");
    }
    let mut one = Changes::new();
    for (number, change) in &since.changes {
        one.clear();
        one.push(change.at, change.audience, change.kind, change.reason, &change.key);
        write!(out, "id: {}\nevent: {}\ndata: ", recent.id(*number), change.kind.name()).expect("writing to memory");
        for message in &one {
            // Ends with a newline, and has no other.
            write_message(out, catalog, message, &change.key);
        }
        out.push(b'\n');
    }
}
