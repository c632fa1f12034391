//! `GET /v1/members/{audience_id}`: the members of an audience, in pages.
//!
//! Pages come from the job and have a time of their own; a cursor is the job's and opaque here.

use crate::app::{Answer, PathOf, QueryOf, Shared};
use crate::body::json;
use crate::headers::{AS_OF, time_header};
use crate::problem::{Problem, ProblemBody};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Members of a page if the request gives no `limit`.
const PAGE: usize = 100;

/// Members of a page at most.
const PAGE_MAX: usize = 1000;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct MembersQuery {
    /// `next_cursor` of the previous page.
    #[param(nullable = false, pattern = "^([0-9a-f]{1,8}-[0-9a-f]{1,8})?$")]
    cursor: Option<String>,
    /// Members of a page; 100 by default.
    #[param(minimum = 1, maximum = 1000, nullable = false)]
    limit: Option<usize>,
}

/// A page of members.
#[derive(Serialize, ToSchema)]
pub(crate) struct Members {
    /// The audience's id.
    audience_id: String,
    /// Their keys.
    members: Vec<String>,
    /// The cursor of the next page; null on the last page.
    next_cursor: Option<String>,
}

/// The members of an audience, in pages
#[utoipa::path(
    get,
    path = "/v1/members/{audience_id}",
    tag = "membership",
    params(("audience_id" = String, Path, description = "An audience of the job"), MembersQuery),
    responses(
        (status = 200, description = "A page", body = Members),
        (status = 404, description = "The job has no such audience", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(crate) async fn members(State(app): Shared, path: PathOf<String>, query: QueryOf<MembersQuery>) -> Answer {
    let (Path(audience), Query(MembersQuery { cursor, limit })) = (path?, query?);
    app.audience(&audience)?;
    let limit = limit.unwrap_or(PAGE);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Problem::wrong(format!("`limit` is from 1 to {PAGE_MAX}")));
    }
    let cursor = cursor.as_deref().filter(|cursor| !cursor.is_empty());
    let page = app.in_time(app.api.members(&audience, cursor, limit)).await?;
    let members = Members { audience_id: audience, members: page.keys, next_cursor: page.next_cursor };
    let mut response = json(StatusCode::OK, &members);
    response.headers_mut().insert(AS_OF, time_header(page.as_of.0));
    Ok(response)
}
