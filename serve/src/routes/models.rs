//! `/v1/models`: the models of the job, their snapshots and pulls, and a pull on request.

use crate::app::{Answer, PathOf, Shared};
use crate::body::{is_json, json, parse_json, read_body};
use crate::problem::{Problem, ProblemBody};
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, LOCATION};
use serde::Serialize;
use usher_core::api::{Extent, ModelStatus, Pull, PullOrder};
use utoipa::ToSchema;

/// Models.
#[derive(Serialize, ToSchema)]
pub(crate) struct Models {
    /// Ordered by id.
    models: Vec<ModelStatus>,
}

/// The models of the job and the freshness of their snapshots
#[utoipa::path(get, path = "/v1/models", tag = "job",
    responses((status = 200, description = "The models, by id", body = Models)))]
pub(crate) async fn models(State(app): Shared) -> Answer {
    Ok(json(StatusCode::OK, &Models { models: app.api.models() }))
}

/// Pulls.
#[derive(Serialize, ToSchema)]
pub(crate) struct Pulls {
    /// The newest first.
    pulls: Vec<Pull>,
}

/// The latest pulls of a model
#[utoipa::path(
    get,
    path = "/v1/models/{id}/pulls",
    tag = "job",
    params(("id" = String, Path, description = "A model of the job")),
    responses(
        (status = 200, description = "The pulls, the newest first", body = Pulls),
        (status = 404, description = "The job has no such model", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(crate) async fn pulls(State(app): Shared, path: PathOf<String>) -> Answer {
    let Path(model) = path?;
    app.model(&model)?;
    Ok(json(StatusCode::OK, &Pulls { pulls: app.api.pulls(&model) }))
}

/// A pull that was accepted.
#[derive(Serialize, ToSchema)]
pub(crate) struct PullAccepted {
    /// The model's id.
    model_id: String,
    /// How much the pull reads.
    extent: Extent,
    /// The number that it gets, or a smaller one if others begin before it.
    number: u64,
}

/// Pull a model now
///
/// Answers when the pull is accepted, not when it has ended: the list of pulls shows how it ends.
#[utoipa::path(
    post,
    path = "/v1/models/{id}/pulls",
    tag = "job",
    params(("id" = String, Path, description = "A model of the job")),
    request_body = Option<PullOrder>,
    responses(
        (status = 202, description = "Accepted", body = PullAccepted),
        (status = 404, description = "The job has no such model", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 409, description = "A pull is running or was asked for, or the model has nothing to pull", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 415, description = "Not `application/json`", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 422, description = "JSON of another shape", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(crate) async fn pull_now(State(app): Shared, path: PathOf<String>, request: Request) -> Answer {
    let Path(model) = path?;
    app.model(&model)?;
    let has_json_type = is_json(request.headers());
    let body = read_body(request, app.patience).await?;
    let order = match &body[..] {
        [] => PullOrder::default(),
        _ if !has_json_type => return Err(Problem::media_type()),
        // The OpenAPI document allows `null`.
        body => parse_json::<Option<PullOrder>>(body)?.unwrap_or_default(),
    };
    let number = app.in_time(app.api.pull_now(&model, order)).await?;
    let location = format!("/v1/models/{model}/pulls");
    let mut response = json(StatusCode::ACCEPTED, &PullAccepted { model_id: model, extent: order.extent, number });
    response.headers_mut().insert(LOCATION, HeaderValue::from_str(&location).expect("an id of the job is ASCII"));
    Ok(response)
}
