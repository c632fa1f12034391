//! `GET /v1/changes`: changes as server-sent events, as they are published.
//!
//! An event is `entry` or `exit`, its data the default message (SPEC §5), its id one that `Last-Event-ID` takes to go on after
//! it. The last 65,536 changes are kept. Who asks for what is not kept any more, or with an id of an earlier run, first gets an
//! event `reset`: changes were missed, look membership up; then what is kept. Without `Last-Event-ID` it begins now. While nothing
//! happens a comment is sent, and with a filter the id moves on. Of several processes each has the changes of its own keys; whoever is
//! asked merges them ([`super::peers::gather`]).

use super::connections::stopped;
use super::peers::gather;
use super::problem::{Problem, ProblemBody};
use super::routes::App;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
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
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use usher_core::catalog::Catalog;
use usher_core::change::Changes;
use usher_core::membership_index::{ChangesAfter, Interest, Recent};
use usher_core::message::write_message;
use utoipa::IntoParams;

/// How often something is sent, so that proxies keep the connection and a client that is gone is noticed.
const ALIVE: Duration = Duration::from_secs(15);

/// Changes were missed.
pub(super) const RESET: &[u8] = b"event: reset\ndata: {\"missed\":true}\n\n";

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
/// Server-sent events `entry` and `exit` with the default message, `reset` where changes were missed, and `lost` where the stream ends
/// because a process of the job can't be heard.
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
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(ChangesQuery { audience, key }) = query?;
    let audience = audience.map(|id| app.audience(&id)).transpose()?;
    let recent = app.index.recent();
    let id = headers.get("last-event-id").map(|id| id.to_str().unwrap_or_default());
    if id.is_some_and(|id| id.split('.').any(|place| recent.number(place).is_none())) {
        return Err(Problem::wrong("`Last-Event-ID` is none of this API's"));
    }
    let permit = app.followers.clone().try_acquire_owned();
    let permit = permit.map_err(|_| Problem::not_yet("too many follow the changes"))?;
    let (process, others) = gather::parts(&app, &headers);
    let places = gather::places(id, others.len() + 1);
    let after = match &places[process] {
        None => Some(recent.last()),
        Some(place) => recent.number(place).flatten(),
    };
    let own =
        Follower { app: app.clone(), interest: Interest { audience, key }, after, greeted: false, _permit: permit };
    let own = own.events();
    let body = match others.is_empty() {
        true => Body::from_stream(own.map(Ok::<Bytes, Infallible>)),
        false => {
            let all = gather::follow(&app, &uri, &headers, (process, own), others, places).await?;
            Body::from_stream(all.map(Ok::<Bytes, Infallible>))
        }
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

struct Follower {
    app: Arc<App>,
    interest: Interest,
    after: Option<u64>,
    greeted: bool,
    _permit: OwnedSemaphorePermit,
}

impl Follower {
    /// The changes of this process.
    fn events(self) -> BoxStream<'static, Bytes> {
        let next = |mut follower: Follower| async move { Some((follower.next().await?, follower)) };
        unfold(self, next).boxed()
    }

    /// The next events; none: the server stops.
    async fn next(&mut self) -> Option<Bytes> {
        let app = self.app.clone();
        let recent = app.index.recent();
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
            write_events(&mut out, app.index.catalog(), recent, &since);
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
            // Ends with a newline, and has no other.
            write_message(out, catalog, message, &change.key);
        }
        out.push(b'\n');
    }
}
