//! `GET /v1/sizes`, `GET /v1/sizes/{audience_id}`: sizes over time, of all processes of the job.

use crate::app::{Answer, App, LIST_MAX, PathOf, QueryOf, Shared};
use crate::body::json;
use crate::headers::parse_time;
use crate::problem::{Problem, ProblemBody};
use crate::sizes::{MINUTE, STEP, Series};
use axum::extract::{Path, Query, State};
use axum::http::header::HeaderMap;
use axum::http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use usher_core::api::Moment;
use utoipa::{IntoParams, ToSchema};

/// Steps of 10 s in a minute.
const STEPS: usize = (MINUTE / STEP) as usize;

/// Sizes at equal distances.
#[derive(Serialize, ToSchema)]
pub(crate) struct SizeSeries {
    /// The time of the last size; null if there is none yet.
    until: Option<Moment>,
    /// From one size to the next, ms.
    step_ms: u64,
    /// The sizes, the newest last; null where the job was not live.
    sizes: Vec<Option<u64>>,
    /// By step of the last hour: the entries since the step before. Empty for the last day.
    entries: Vec<Option<u64>>,
    /// By step of the last hour: the exits since the step before. Empty for the last day.
    exits: Vec<Option<u64>>,
}

impl SizeSeries {
    fn of(series: Series, step_ms: u64) -> SizeSeries {
        let Series { until, sizes, entries, exits } = series;
        SizeSeries { until: until.map(Moment), step_ms, sizes, entries, exits }
    }
}

/// The sizes of an audience over time.
#[derive(Serialize, ToSchema)]
pub(crate) struct AudienceSizes {
    /// The audience's id.
    audience_id: String,
    /// The last hour by 10 s.
    hour: SizeSeries,
    /// The last day by minute.
    day: SizeSeries,
}

/// The sizes of an audience over time
///
/// Kept in memory since the start of the process, summed over all processes of the job.
#[utoipa::path(
    get,
    path = "/v1/sizes/{audience_id}",
    tag = "membership",
    params(("audience_id" = String, Path, description = "An audience of the job")),
    responses(
        (status = 200, description = "The last hour and the last day", body = AudienceSizes),
        (status = 404, description = "The job has no such audience", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 502, description = "Another process of the job does not answer", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(crate) async fn sizes(State(app): Shared, path: PathOf<String>, uri: Uri, headers: HeaderMap) -> Answer {
    let Path(id) = path?;
    let audience = app.audience(&id)?;
    let (mut hour, mut day) = (app.sizes.hour(audience), app.sizes.day(audience));
    for (peer, body) in app.peers.part_bodies(&uri, &headers).await? {
        let theirs: PeerSizes = parse(&peer, &body)?;
        hour.add(theirs.hour.into_series(), STEP);
        day.add(theirs.day.into_series(), MINUTE);
    }
    let (hour, day) = (SizeSeries::of(hour, STEP), SizeSeries::of(day, MINUTE));
    Ok(json(StatusCode::OK, &AudienceSizes { audience_id: id, hour, day }))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct SizesQuery {
    /// Ids of audiences, separated by commas, at most 1,000; without it the first 1,000 of the job.
    #[param(nullable = false)]
    ids: Option<String>,
}

/// The last hour of an audience, in short.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct ShortSizes {
    /// The audience's id.
    id: String,
    /// The sizes, the newest last; null where the job was not live.
    sizes: Vec<Option<u64>>,
    /// Entries in the last minute; null if that is not known yet.
    entries: Option<u64>,
    /// Exits in the last minute; null if that is not known yet.
    exits: Option<u64>,
}

/// The last hour of audiences, in short.
#[derive(Serialize, ToSchema)]
pub(crate) struct ManySizes {
    /// The time of the last size; null if there is none yet.
    until: Option<Moment>,
    /// From one size to the next, ms.
    step_ms: u64,
    /// In the order of the request.
    audiences: Vec<ShortSizes>,
}

/// The sizes of audiences in the last hour, by minute
///
/// Kept in memory since the start of the process, summed over all processes of the job.
#[utoipa::path(
    get,
    path = "/v1/sizes",
    tag = "membership",
    params(SizesQuery),
    responses(
        (status = 200, description = "The last hour of each", body = ManySizes),
        (status = 404, description = "The job has no such audience", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 502, description = "Another process of the job does not answer", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(crate) async fn many_sizes(State(app): Shared, query: QueryOf<SizesQuery>, uri: Uri, headers: HeaderMap) -> Answer {
    let Query(SizesQuery { ids }) = query?;
    let audiences: Vec<u32> = match ids {
        None => (0..app.index.audiences().len().min(LIST_MAX) as u32).collect(),
        Some(ids) => app.audiences(&ids)?,
    };
    let mut hours: Vec<Series> = audiences.iter().map(|audience| own_hour(&app, *audience)).collect();
    for (peer, body) in app.peers.part_bodies(&uri, &headers).await? {
        let theirs: PeerManySizes = parse(&peer, &body)?;
        if theirs.audiences.len() != hours.len() {
            return Err(Problem::peer(format!("`{peer}` has other audiences")));
        }
        for (hour, ShortSizes { sizes, entries, exits, .. }) in hours.iter_mut().zip(theirs.audiences) {
            let until = theirs.until.as_deref().and_then(parse_time);
            hour.add(Series { until, sizes, entries: vec![entries], exits: vec![exits] }, MINUTE);
        }
    }
    let until = hours.iter().find_map(|hour| hour.until).map(Moment);
    let audiences = audiences.into_iter().zip(hours).map(|(audience, hour)| {
        let id = app.index.audiences()[audience as usize].id.clone();
        let last = |list: &[Option<u64>]| list.last().copied().flatten();
        ShortSizes { id, entries: last(&hour.entries), exits: last(&hour.exits), sizes: hour.sizes }
    });
    Ok(json(StatusCode::OK, &ManySizes { until, step_ms: MINUTE, audiences: audiences.collect() }))
}

/// Returns the last hour of an audience in this process by minute, with entries and exits of the last minute only.
fn own_hour(app: &App, audience: u32) -> Series {
    let Series { until, sizes, entries, exits } = app.sizes.hour(audience);
    let last_minute = |list: &[Option<u64>]| {
        let steps = list.get(list.len().checked_sub(STEPS)?..)?;
        steps.iter().copied().sum::<Option<u64>>()
    };
    let (entries, exits) = (vec![last_minute(&entries)], vec![last_minute(&exits)]);
    // Those at the distance of a minute, back from the last.
    let mut by_minute: Vec<Option<u64>> = sizes.into_iter().rev().step_by(STEPS).collect();
    by_minute.reverse();
    Series { until, sizes: by_minute, entries, exits }
}

#[derive(Deserialize)]
struct PeerManySizes {
    until: Option<String>,
    audiences: Vec<ShortSizes>,
}

#[derive(Deserialize)]
struct PeerSizes {
    hour: PeerSeries,
    day: PeerSeries,
}

#[derive(Deserialize)]
struct PeerSeries {
    until: Option<String>,
    sizes: Vec<Option<u64>>,
    entries: Vec<Option<u64>>,
    exits: Vec<Option<u64>>,
}

impl PeerSeries {
    fn into_series(self) -> Series {
        let PeerSeries { until, sizes, entries, exits } = self;
        Series { until: until.as_deref().and_then(parse_time), sizes, entries, exits }
    }
}

fn parse<'b, T: Deserialize<'b>>(peer: &str, body: &'b [u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|_| Problem::peer(format!("the answer of `{peer}` has another shape")))
}
