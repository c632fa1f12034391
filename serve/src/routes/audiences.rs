//! `GET /v1/audiences`: the audiences of the job, with sizes over all its processes.

use crate::app::{Answer, Shared};
use crate::body::json;
use crate::headers::put_as_of;
use crate::problem::ProblemBody;
use axum::extract::State;
use axum::http::header::HeaderMap;
use axum::http::{StatusCode, Uri};
use serde::Serialize;
use std::collections::BTreeMap;
use usher_core::api::{AudienceState, Freshness, Windows};
use utoipa::ToSchema;

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

/// The audiences of the job
///
/// Sizes and counts are sums over all processes of the job; `Usher-As-Of` is the earliest of their times.
#[utoipa::path(get, path = "/v1/audiences", tag = "job",
    responses(
        (status = 200, description = "The audiences, by id", body = Audiences),
        (status = 502, description = "Another process of the job does not answer", body = ProblemBody,
            content_type = "application/problem+json")
    ))]
pub(crate) async fn audiences(State(app): Shared, uri: Uri, headers: HeaderMap) -> Answer {
    let (as_of, counts, held) = app.peers.counts(&uri, &headers).await?;
    let mut states: BTreeMap<String, AudienceState> =
        app.api.audiences().into_iter().map(|state| (state.id.clone(), state)).collect();
    let audiences = app.index.audiences().iter().zip(counts.into_iter().zip(held)).map(|(audience, (count, held))| {
        let state = states.remove(&audience.id).unwrap_or_else(|| AudienceState {
            id: audience.id.clone(),
            owner: None,
            tags: Vec::new(),
            freshness: Freshness::Pending,
            windows: Windows { complete: false, complete_at: None },
            held: 0,
        });
        AudienceStatus {
            id: audience.id.clone(),
            name: audience.name.clone(),
            model: audience.model.clone(),
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
