//! `/v1/diff`: what an edit of the job does. The first process of the job works it out, which has the ledgers: another one passes the
//! request on.

use crate::app::{Answer, QueryOf, Shared};
use crate::body::{json, read_plan};
use crate::problem::ProblemBody;
use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use serde::Deserialize;
use usher_core::edit::EditReport;
use utoipa::IntoParams;

/// How the edit is worked out.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct DiffQuery {
    /// Whether sources and models are read, as a start reads them. Without it the last checkpoint alone counts.
    #[serde(default)]
    read: bool,
}

/// What an edit of the job does: audiences, events and syncs that differ, and who would enter and leave at a start
///
/// Needs a key with `admin`, since what the plan names is opened: its sources and models with `read`, and the ledgers of its syncs.
/// Nothing is sent or changed. Takes as long, and as much memory, as a start of the edited job.
#[utoipa::path(post, path = "/v1/diff", tag = "job",
    params(DiffQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream",
        description = "The edited job, as a plan file of `usher compile`, at most 16 MiB"),
    responses(
        (status = 200, description = "What it does", body = EditReport),
        (status = 400, description = "The body is no plan that could follow", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 409, description = "Another edit is being worked out, or the job keeps no state", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 413, description = "The plan is too large", body = ProblemBody,
            content_type = "application/problem+json")
    ))]
pub(crate) async fn diff(State(app): Shared, query: QueryOf<DiffQuery>, request: Request) -> Answer {
    let Query(DiffQuery { read }) = query?;
    let (uri, headers) = (request.uri().clone(), request.headers().clone());
    let plan = read_plan(request, app.patience).await?;
    match app.deliverer() {
        Some(peer) => app.peers.diff(&peer, &uri, &headers, plan).await,
        // No time limit: it takes as long as a start does, and ends when the client leaves.
        None => Ok(json(StatusCode::OK, &app.api.diff(plan.to_vec(), read).await?)),
    }
}
