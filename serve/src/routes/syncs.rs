//! `/v1/syncs`: what was committed and delivered, what waits, and what an operator does about it. A webhook is delivered by the first
//! process of the job: another one passes the request on.

use crate::app::{Answer, App, PathOf, QueryOf, Shared};
use crate::body::{is_json, json, parse_json, read_body};
use crate::problem::{Problem, ProblemBody};
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use usher_core::api::SyncReport;
use usher_core::delivery::{AttemptReport, DeadLetterPage, DeliveryOrder, DeliveryReply, Selection};
use utoipa::{IntoParams, ToSchema};

/// Dead letters of a page at most.
const PAGE_MAX: usize = 1_000;
/// Dead letters of a page, unless the client says how many.
const PAGE: usize = 100;

/// Syncs.
#[derive(Serialize, ToSchema)]
pub(crate) struct Syncs {
    /// Ordered by id.
    syncs: Vec<SyncReport>,
}

/// The syncs of the job and their deliveries
#[utoipa::path(get, path = "/v1/syncs", tag = "job",
    responses((status = 200, description = "The syncs, by id", body = Syncs)))]
pub(crate) async fn syncs(State(app): Shared) -> Answer {
    Ok(json(StatusCode::OK, &Syncs { syncs: app.api.syncs() }))
}

/// Attempts.
#[derive(Serialize, ToSchema)]
pub(crate) struct Attempts {
    /// The newest first.
    attempts: Vec<AttemptReport>,
}

/// The last attempts of a sync to a webhook
#[utoipa::path(get, path = "/v1/syncs/{id}/attempts", tag = "job",
    params(("id" = String, Path, description = "A sync of the job")),
    responses(
        (status = 200, description = "The attempts, the newest first", body = Attempts),
        (status = 404, description = "The job has no such sync", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 409, description = "The sync goes to no webhook", body = ProblemBody,
            content_type = "application/problem+json")
    ))]
pub(crate) async fn attempts(State(app): Shared, path: PathOf<String>, request: Request) -> Answer {
    let Path(sync) = path?;
    ask(&app, &sync, DeliveryOrder::Attempts, request).await
}

/// Which page.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadLettersQuery {
    /// How many at most, to 1,000; 100 if it is left out.
    limit: Option<usize>,
    /// The cursor of the page before; empty: from the start.
    #[serde(default)]
    cursor: String,
}

/// The dead letters of a sync to a webhook, in pages
#[utoipa::path(get, path = "/v1/syncs/{id}/dead_letters", tag = "job",
    params(("id" = String, Path, description = "A sync of the job"), DeadLettersQuery),
    responses(
        (status = 200, description = "A page, the oldest first", body = DeadLetterPage),
        (status = 404, description = "The job has no such sync", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 409, description = "The sync goes to no webhook", body = ProblemBody,
            content_type = "application/problem+json")
    ))]
pub(crate) async fn dead_letters(
    State(app): Shared,
    path: PathOf<String>,
    query: QueryOf<DeadLettersQuery>,
    request: Request,
) -> Answer {
    let Path(sync) = path?;
    let Query(DeadLettersQuery { limit, cursor }) = query?;
    let from = match &cursor[..] {
        "" => 0,
        cursor => cursor.parse().map_err(|_| Problem::wrong(format!("`{cursor}` is not a cursor of dead letters")))?,
    };
    let limit = limit.unwrap_or(PAGE);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Problem::wrong(format!("`limit` is from 1 to {PAGE_MAX}, not {limit}")));
    }
    ask(&app, &sync, DeliveryOrder::DeadLetters { from, limit }, request).await
}

/// Pause a sync to a webhook: nothing is sent until it is resumed, after restarts too
#[utoipa::path(post, path = "/v1/syncs/{id}/pause", tag = "job",
    params(("id" = String, Path, description = "A sync of the job")),
    responses(
        (status = 204, description = "It is paused"),
        (status = 404, description = "The job has no such sync", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 409, description = "The sync goes to no webhook", body = ProblemBody,
            content_type = "application/problem+json")
    ))]
pub(crate) async fn pause(State(app): Shared, path: PathOf<String>, request: Request) -> Answer {
    let Path(sync) = path?;
    ask(&app, &sync, DeliveryOrder::Pause, request).await
}

/// Resume a sync to a webhook: it sends at once
#[utoipa::path(post, path = "/v1/syncs/{id}/resume", tag = "job",
    params(("id" = String, Path, description = "A sync of the job")),
    responses(
        (status = 204, description = "It is resumed"),
        (status = 404, description = "The job has no such sync", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 409, description = "The sync goes to no webhook", body = ProblemBody,
            content_type = "application/problem+json")
    ))]
pub(crate) async fn resume(State(app): Shared, path: PathOf<String>, request: Request) -> Answer {
    let Path(sync) = path?;
    ask(&app, &sync, DeliveryOrder::Resume, request).await
}

/// Send an example to a webhook now, whatever its state
///
/// An entry of the sync's first audience, of the key `usher-test`. It is not committed, and not tried again.
#[utoipa::path(post, path = "/v1/syncs/{id}/test", tag = "job",
    params(("id" = String, Path, description = "A sync of the job")),
    responses(
        (status = 200, description = "How it was answered", body = AttemptReport),
        (status = 404, description = "The job has no such sync", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 409, description = "The sync goes to no webhook", body = ProblemBody,
            content_type = "application/problem+json")
    ))]
pub(crate) async fn test(State(app): Shared, path: PathOf<String>, request: Request) -> Answer {
    let Path(sync) = path?;
    ask(&app, &sync, DeliveryOrder::Test, request).await
}

/// How many dead letters a request concerns.
#[derive(Serialize, ToSchema)]
pub(crate) struct Concerned {
    /// How many.
    dead_letters: u64,
}

/// Send dead letters of a webhook again
#[utoipa::path(post, path = "/v1/syncs/{id}/dead_letters/redeliver", tag = "job",
    params(("id" = String, Path, description = "A sync of the job")), request_body = Selection,
    responses(
        (status = 202, description = "They wait to be sent", body = Concerned),
        (status = 404, description = "The job has no such sync or audience, or the sync no such dead letter", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 409, description = "The sync goes to no webhook", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 415, description = "Not `application/json`", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 422, description = "JSON of another shape", body = ProblemBody,
            content_type = "application/problem+json")
    ))]
pub(crate) async fn redeliver(State(app): Shared, path: PathOf<String>, request: Request) -> Answer {
    let Path(sync) = path?;
    select(&app, &sync, DeliveryOrder::Redeliver, request).await
}

/// Drop dead letters of a webhook
#[utoipa::path(post, path = "/v1/syncs/{id}/dead_letters/drop", tag = "job",
    params(("id" = String, Path, description = "A sync of the job")), request_body = Selection,
    responses(
        (status = 202, description = "They are gone", body = Concerned),
        (status = 404, description = "The job has no such sync or audience, or the sync no such dead letter", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 409, description = "The sync goes to no webhook", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 415, description = "Not `application/json`", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 422, description = "JSON of another shape", body = ProblemBody,
            content_type = "application/problem+json")
    ))]
pub(crate) async fn drop(State(app): Shared, path: PathOf<String>, request: Request) -> Answer {
    let Path(sync) = path?;
    select(&app, &sync, DeliveryOrder::Drop, request).await
}

/// Carries out an order on the dead letters that the body selects.
async fn select(app: &App, sync: &str, order: fn(Selection) -> DeliveryOrder, request: Request) -> Answer {
    check(app, sync)?;
    let (uri, headers) = (request.uri().clone(), request.headers().clone());
    if !is_json(&headers) {
        return Err(Problem::media_type());
    }
    let body = read_body(request, app.patience).await?;
    let selection: Selection = parse_json(&body)?;
    let kinds = [selection.ids.is_some(), selection.audience.is_some(), selection.all];
    if kinds.iter().filter(|kind| **kind).count() != 1 {
        return Err(Problem::wrong_shape("give one of `ids`, `audience` and `all: true`"));
    }
    match app.deliverer() {
        Some(peer) => app.peers.post(&peer, &uri, &headers, body).await,
        None => {
            let audience = selection.audience.clone();
            let reply = app.in_time(app.api.delivery(sync, order(selection))).await?;
            // An audience that was removed may have left some.
            if let (DeliveryReply::Count(0), Some(audience)) = (&reply, audience) {
                app.audience(&audience)?;
            }
            Ok(answer(reply))
        }
    }
}

/// Carries out an order that has no body.
async fn ask(app: &App, sync: &str, order: DeliveryOrder, request: Request) -> Answer {
    check(app, sync)?;
    let (uri, headers) = (request.uri(), request.headers());
    match app.deliverer() {
        Some(peer) if request.method() == axum::http::Method::GET => app.peers.get(&peer, uri, headers).await,
        Some(peer) => app.peers.post(&peer, uri, headers, axum::body::Bytes::new()).await,
        None => carry_out(app, sync, order).await,
    }
}

/// Checks that the job has a sync.
fn check(app: &App, sync: &str) -> Result<(), Problem> {
    let known = app.api.syncs();
    match known.iter().any(|known| known.id == sync) {
        true => Ok(()),
        false => Err(Problem::unknown("sync", sync, known.into_iter().map(|known| known.id))),
    }
}

async fn carry_out(app: &App, sync: &str, order: DeliveryOrder) -> Answer {
    Ok(answer(app.in_time(app.api.delivery(sync, order)).await?))
}

fn answer(reply: DeliveryReply) -> Response {
    match reply {
        DeliveryReply::Attempts(attempts) => json(StatusCode::OK, &Attempts { attempts }),
        DeliveryReply::DeadLetters(page) => json(StatusCode::OK, &page),
        DeliveryReply::Test(attempt) => json(StatusCode::OK, &attempt),
        DeliveryReply::Count(dead_letters) => json(StatusCode::ACCEPTED, &Concerned { dead_letters }),
        DeliveryReply::Done => {
            let mut response = Response::new(axum::body::Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
    }
}
