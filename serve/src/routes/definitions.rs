//! `GET /v1/definitions/{audience_id}`: the conditions of an audience, and how many keys meet each.

use crate::app::{Answer, PathOf, Shared};
use crate::body::json;
use crate::headers::{AS_OF, time_header};
use crate::problem::ProblemBody;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use usher_core::api::Definition;

/// The conditions of an audience, and how many keys meet each
///
/// Conditions on events and rows are counted as keys meet them; `all`, `any`, `not` and conditions on audiences, and the members
/// that leave by themselves, at most once a second, and so seldom that they take at most a fiftieth of the workers' time.
#[utoipa::path(
    get,
    path = "/v1/definitions/{audience_id}",
    tag = "membership",
    params(("audience_id" = String, Path, description = "An audience of the job")),
    responses(
        (status = 200, description = "The tree of conditions with its counts", body = Definition),
        (status = 404, description = "The job has no such audience", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(crate) async fn definition(State(app): Shared, path: PathOf<String>) -> Answer {
    let Path(audience) = path?;
    app.audience(&audience)?;
    let definition = app.in_time(app.api.definition(&audience)).await?;
    let mut response = json(StatusCode::OK, &definition);
    response.headers_mut().insert(AS_OF, time_header(definition.as_of.0));
    Ok(response)
}
