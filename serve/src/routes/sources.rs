//! `GET /v1/sources`, `GET /v1/events`: what came in, and what of it the events of the job are.

use crate::app::{Answer, Shared};
use crate::body::json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use usher_core::api::{EventReport, SourceReport};
use utoipa::ToSchema;

/// Sources.
#[derive(Serialize, ToSchema)]
pub(crate) struct Sources {
    /// Ordered by id.
    sources: Vec<SourceReport>,
}

/// Events.
#[derive(Serialize, ToSchema)]
pub(crate) struct Events {
    /// Ordered by id.
    events: Vec<EventReport>,
}

/// The sources of the job and what came in of them
///
/// Counts are those of the process that answers, since its start.
#[utoipa::path(get, path = "/v1/sources", tag = "job",
    responses((status = 200, description = "The sources, by id", body = Sources)))]
pub(crate) async fn sources(State(app): Shared) -> Answer {
    Ok(json(StatusCode::OK, &Sources { sources: app.api.sources() }))
}

/// The events of the job and what matched them
///
/// Counts are those of the process that answers, since its start.
#[utoipa::path(get, path = "/v1/events", tag = "job",
    responses((status = 200, description = "The events, by id", body = Events)))]
pub(crate) async fn events(State(app): Shared) -> Answer {
    Ok(json(StatusCode::OK, &Events { events: app.api.events() }))
}
