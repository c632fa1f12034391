//! `GET /v1/syncs`: what was committed and delivered, and what waits.

use crate::app::{Answer, Shared};
use crate::body::json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use usher_core::api::SyncReport;
use utoipa::ToSchema;

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
