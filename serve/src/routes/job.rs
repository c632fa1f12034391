//! `GET /v1/job`: what runs, and what the client may do with it.

use crate::app::{Answer, Shared};
use crate::auth::Access;
use crate::body::json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::HeaderMap;
use serde::Serialize;
use usher_core::api::JobReport;
use utoipa::ToSchema;

/// What runs, and what the client may do.
#[derive(Serialize, ToSchema)]
pub(crate) struct JobAnswer {
    #[serde(flatten)]
    report: JobReport,
    /// What the key of the request allows.
    access: Access,
    /// Whether the console offers to change something, if the key allows it.
    console_actions: bool,
}

/// What runs: the plan as text, versions and state
#[utoipa::path(get, path = "/v1/job", tag = "job",
    responses((status = 200, description = "The job", body = JobAnswer)))]
pub(crate) async fn job(State(app): Shared, headers: HeaderMap) -> Answer {
    let console_actions = app.console.is_some_and(|console| console.actions);
    let answer = JobAnswer { report: app.api.job(), access: app.access(&headers), console_actions };
    Ok(json(StatusCode::OK, &answer))
}
