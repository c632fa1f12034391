//! `GET /v1/audiences`: the audiences of the job, with sizes over all its processes.

use crate::app::{Answer, QueryOf, Shared};
use crate::body::json;
use crate::headers::put_as_of;
use crate::problem::ProblemBody;
use axum::extract::{Query, State};
use axum::http::header::HeaderMap;
use axum::http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use usher_core::api::{Freshness, Windows};
use usher_core::membership_index::AudienceEntry;
use utoipa::{IntoParams, ToSchema};

/// An audience.
#[derive(Serialize, ToSchema)]
pub(crate) struct AudienceStatus {
    /// Its id.
    id: String,
    /// Its name, as people see it.
    name: String,
    /// The id of its model.
    model: String,
    /// Who is responsible for it.
    owner: Option<String>,
    /// Words to find it by.
    tags: Vec<String>,
    /// Number of members.
    size: u64,
    /// Entries since the start of the job, including one for each member at the start.
    entries: u64,
    /// Exits since the start of the job.
    exits: u64,
    /// The freshness of the oldest snapshot that the audience depends on.
    freshness: Freshness,
    /// Whether its windows are filled.
    windows: Windows,
    /// Keys that do not enter before windows are filled: their membership could come from events that are missing.
    held: u64,
}

/// Audiences.
#[derive(Serialize, ToSchema)]
pub(crate) struct Audiences {
    /// Ordered by id.
    audiences: Vec<AudienceStatus>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct AudiencesQuery {
    /// Ids of audiences, separated by commas, at most 1,000; without it all of the job.
    #[param(nullable = false)]
    ids: Option<String>,
}

/// The audiences of the job
///
/// Sizes and counts are sums over all processes of the job; `Usher-As-Of` is the earliest of their times.
#[utoipa::path(get, path = "/v1/audiences", tag = "job",
    params(AudiencesQuery),
    responses(
        (status = 200, description = "The audiences, by id, or in the order of `ids`", body = Audiences),
        (status = 404, description = "The job has no such audience", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 502, description = "Another process of the job does not answer", body = ProblemBody,
            content_type = "application/problem+json")
    ))]
pub(crate) async fn audiences(
    State(app): Shared,
    query: QueryOf<AudiencesQuery>,
    uri: Uri,
    headers: HeaderMap,
) -> Answer {
    let Query(AudiencesQuery { ids }) = query?;
    let listed = ids.map(|ids| app.audiences(&ids)).transpose()?;
    let all = app.index.audiences();
    let id = |audience: &u32| all[*audience as usize].id.clone();
    let states = app.api.audiences(listed.as_ref().map(|of| of.iter().map(id).collect::<Vec<String>>()).as_deref());
    let asked = listed.unwrap_or_else(|| (0..all.len() as u32).collect());
    let (as_of, sums) = app.peers.counts(&uri, &headers, &asked, &states).await?;
    let audiences = asked.iter().zip(states).zip(sums).map(|((audience, state), (count, held))| {
        let AudienceEntry { id, name, model, .. } = &all[*audience as usize];
        AudienceStatus {
            id: id.clone(),
            name: name.clone(),
            model: model.clone(),
            size: count.size,
            entries: count.entries,
            exits: count.exits,
            owner: state.owner,
            tags: state.tags,
            freshness: state.freshness,
            windows: state.windows,
            held,
        }
    });
    let mut response = json(StatusCode::OK, &Audiences { audiences: audiences.collect() });
    if let Some(as_of) = as_of {
        put_as_of(response.headers_mut(), as_of);
    }
    Ok(response)
}
