//! `/v1/audiences/{parent_model_id}/…`: the audiences of one key or of many, and why a key is in them or not.
//!
//! Lookups are answered from the index, never from a worker, and their JSON is written by hand: they are by far the most
//! frequent requests.
//!
//! **Who answers.** While the job is live, each key has one owner among the processes, and a request for a key of another
//! process is forwarded to it. Before that, the ledgers of the syncs are in one process, which answers for all keys. The job may
//! go live at any moment, so the owner is asked for again after the index was read: an answer from the ledgers stands, an
//! answer about a key that another process owns does not.

use crate::app::{Answer, App, PathOf, QueryOf, Shared};
use crate::body::{is_json, json, json_text, parse_json, read_body};
use crate::headers::{AS_OF, put_as_of, time_header};
use crate::peers::forward::is_forwarded;
use crate::problem::{Problem, ProblemBody};
use axum::extract::{Path, Query, Request, State};
use axum::http::header::HeaderMap;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use usher_core::api::Explanation;
use usher_core::membership_index::{AsOf, Reflected};
use utoipa::{IntoParams, ToSchema};

/// Ids of a batch at most (SPEC §7).
const IDS_MAX: usize = 1000;

/// How long `after` waits if the request gives no `timeout_ms`, ms.
const TIMEOUT_MS: u64 = 5_000;

/// How long `after` waits at most, ms: proxies give up after a minute.
const TIMEOUT_MS_MAX: u64 = 55_000;

/// The audiences of a user.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "written by hand; this is its description")]
pub(crate) struct Membership {
    /// The model's id.
    parent_model_id: String,
    /// The user's key.
    user_id: String,
    /// Ids of the audiences that the user is in, sorted.
    audience_ids: Vec<String>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct LookupQuery {
    /// `source:partition:offset`: waits until the event at this offset is reflected in membership.
    #[param(nullable = false, pattern = "^[A-Za-z_][A-Za-z0-9_-]*:.*:[0-9]{1,18}$")]
    after: Option<String>,
    /// How long to wait for it, ms; 5000 by default.
    #[param(minimum = 0, maximum = 55000, nullable = false)]
    timeout_ms: Option<u64>,
}

/// The audiences of a user
///
/// An unknown user is in no audience.
#[utoipa::path(
    get,
    path = "/v1/audiences/{parent_model_id}/{user_id}",
    tag = "membership",
    params(
        ("parent_model_id" = String, Path, description = "A model of the job"),
        ("user_id" = String, Path, description = "The user's key, percent-encoded"),
        LookupQuery
    ),
    responses(
        (status = 200, description = "The audiences, sorted", body = Membership,
            headers(("Usher-As-Of" = String, description = "The time that the answer is as of, RFC 3339 with ms"))),
        (status = 404, description = "The job has no such model, or no such source as in `after`", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 504, description = "The event of `after` is not reflected within `timeout_ms`", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(crate) async fn lookup(
    State(app): Shared,
    path: PathOf<(String, String)>,
    query: QueryOf<LookupQuery>,
    uri: Uri,
    headers: HeaderMap,
) -> Answer {
    let Path((model, user)) = path?;
    lookup_one(&app, &model, &user, query?.0, &uri, &headers).await
}

/// The audiences of the user whose id is `lookup`
#[utoipa::path(
    get,
    path = "/v1/audiences/{parent_model_id}/lookup",
    tag = "membership",
    params(("parent_model_id" = String, Path, description = "A model of the job"), LookupQuery),
    responses(
        (status = 200, description = "The audiences, sorted", body = Membership),
        (status = 404, description = "The job has no such model, or no such source as in `after`", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 504, description = "The event of `after` is not reflected within `timeout_ms`", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(crate) async fn lookup_of_lookup(
    State(app): Shared,
    path: PathOf<String>,
    query: QueryOf<LookupQuery>,
    uri: Uri,
    headers: HeaderMap,
) -> Answer {
    let Path(model) = path?;
    lookup_one(&app, &model, "lookup", query?.0, &uri, &headers).await
}

async fn lookup_one(app: &App, model: &str, user: &str, query: LookupQuery, uri: &Uri, headers: &HeaderMap) -> Answer {
    let index = app.model(model)?;
    let timeout_ms = query.timeout_ms.unwrap_or(TIMEOUT_MS);
    if timeout_ms > TIMEOUT_MS_MAX {
        return Err(Problem::wrong(format!("`timeout_ms` is at most {TIMEOUT_MS_MAX}")));
    }
    let until = Instant::now() + Duration::from_millis(timeout_ms);
    let (as_of, audiences) = loop {
        let left = until.saturating_duration_since(Instant::now());
        if let Some(peer) = app.api.owner(model, user) {
            let response = app.peers.ask_owner(&peer, uri, headers, app.patience + left).await?;
            // The owner changes when this process goes live, which may have been just now: then the loop goes round again.
            if response.status() != StatusCode::LOOP_DETECTED || app.api.owner(model, user).as_ref() == Some(&peer) {
                return Ok(response);
            }
        }
        if let Some(after) = &query.after {
            wait_until_reflected(app, after, left).await?;
        }
        let found = app.index.lookup(index, user).ok_or_else(Problem::no_answer)?;
        // An answer from the ledgers stands for any key. Otherwise the job may have gone live meanwhile, and another process
        // may own the key.
        if found.0.recovering || app.api.owner(model, user).is_none() {
            break found;
        }
    };
    let mut body = Vec::with_capacity(96 + model.len() + user.len() + 24 * audiences.len());
    write_membership(&mut body, &app.quoted_ids, model, user, &audiences);
    Ok(as_of_response(as_of, body))
}

/// Waits until the event that `after` names is reflected in the index.
async fn wait_until_reflected(app: &App, after: &str, timeout: Duration) -> Result<(), Problem> {
    let parsed = after.split_once(':').and_then(|(source, rest)| {
        let (partition, offset) = rest.rsplit_once(':')?;
        // `parse` would accept a sign.
        let digits = offset.bytes().all(|byte| byte.is_ascii_digit());
        Some((source, partition, offset.parse::<u64>().ok().filter(|_| digits)?))
    });
    let Some((source, partition, offset)) = parsed else {
        return Err(Problem::wrong("`after` is `source:partition:offset`"));
    };
    match app.index.wait_for(source, partition, offset, timeout).await {
        Reflected::Yes => Ok(()),
        Reflected::UnknownSource => Err(Problem::unknown("source", source, app.index.sources().iter())),
        Reflected::NotYet => Err(Problem::not_reflected(format!(
            "offset {offset} of `{partition}` of `{source}` was not reflected within {} ms",
            timeout.as_millis()
        ))),
    }
}

/// Users to look up.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LookupBody {
    /// Their keys.
    #[schema(max_items = 1000)]
    user_ids: Vec<String>,
}

/// The audiences of up to 1,000 users, at one time
///
/// The answers are in the order of the ids in the request.
#[utoipa::path(
    post,
    path = "/v1/audiences/{parent_model_id}/lookup",
    tag = "membership",
    params(("parent_model_id" = String, Path, description = "A model of the job")),
    request_body = LookupBody,
    responses(
        (status = 200, description = "The audiences of each user", body = Vec<Membership>,
            headers(("Usher-As-Of" = String, description = "The time that all answers are as of"))),
        (status = 404, description = "The job has no such model", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 413, description = "More than 1,000 ids or 1 MiB", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 415, description = "Not `application/json`", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 422, description = "JSON of another shape", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(crate) async fn lookup_all(State(app): Shared, path: PathOf<String>, request: Request) -> Answer {
    let Path(model) = path?;
    let index = app.model(&model)?;
    if !is_json(request.headers()) {
        return Err(Problem::media_type());
    }
    let (uri, headers) = (request.uri().clone(), request.headers().clone());
    let LookupBody { user_ids } = parse_json(&read_body(request, app.patience).await?)?;
    if user_ids.len() > IDS_MAX {
        return Err(Problem::too_large(format!("{} ids; at most {IDS_MAX} at once", user_ids.len())));
    }
    let own = app.index.lookup_all(index, &user_ids);
    let answers = own.is_some();
    let nothing = || (AsOf { time: u64::MAX, recovering: false }, vec![Arc::from([]); user_ids.len()]);
    let (as_of, found) = own.unwrap_or_else(nothing);
    // Owners are asked for after the index was read: answers from the ledgers stand for any key, and the job may go live at
    // any time.
    let mut of_peers: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (place, user) in user_ids.iter().enumerate().filter(|_| !as_of.recovering) {
        if let Some(peer) = app.api.owner(&model, user) {
            of_peers.entry(peer).or_default().push(place);
        }
    }
    let owned_by_peers: usize = of_peers.values().map(Vec::len).sum();
    if !answers && (owned_by_peers < user_ids.len() || user_ids.is_empty() || is_forwarded(&headers)) {
        return Err(Problem::no_answer());
    }
    if owned_by_peers > 0 {
        let batch = SharedBatch { model, user_ids, as_of, found, of_peers };
        return batch.complete(&app, &uri, &headers).await;
    }
    let mut body = Vec::with_capacity(2 + found.len() * 128);
    body.push(b'[');
    for (user, audiences) in user_ids.iter().zip(&found) {
        if body.len() > 1 {
            body.push(b',');
        }
        write_membership(&mut body, &app.quoted_ids, &model, user, audiences);
    }
    body.push(b']');
    Ok(as_of_response(as_of, body))
}

/// A batch of which other processes own a part.
struct SharedBatch {
    model: String,
    user_ids: Vec<String>,
    /// The time of `found`.
    as_of: AsOf,
    /// The answers of this process, by place in the batch. Those to ids of other processes are to be replaced.
    found: Vec<Arc<[u32]>>,
    /// By the `host:port` of a process: the places of the ids that it owns.
    of_peers: BTreeMap<String, Vec<usize>>,
}

impl SharedBatch {
    /// Asks each process for its ids, and answers for all, as of the earliest time.
    async fn complete(self, app: &App, uri: &Uri, headers: &HeaderMap) -> Answer {
        let SharedBatch { model, user_ids, mut as_of, found, of_peers } = self;
        let mut answers: Vec<Box<RawValue>> = Vec::with_capacity(user_ids.len());
        for (user, audiences) in user_ids.iter().zip(&found) {
            let mut one = Vec::new();
            write_membership(&mut one, &app.quoted_ids, &model, user, audiences);
            let one = String::from_utf8(one).expect("JSON is UTF-8");
            answers.push(RawValue::from_string(one).expect("it is JSON"));
        }
        let requests = of_peers.iter().map(|(peer, places)| {
            let ids: Vec<&String> = places.iter().map(|place| &user_ids[*place]).collect();
            let body = serde_json::json!({ "user_ids": ids }).to_string();
            app.peers.lookup_all(peer, uri, headers, body)
        });
        for (places, reply) in of_peers.values().zip(join_all(requests).await) {
            let reply = reply?;
            if reply.answers.len() != places.len() {
                return Err(Problem::peer("the number of its answers differs from the number of ids in the request"));
            }
            for (place, answer) in places.iter().zip(reply.answers) {
                answers[*place] = answer;
            }
            as_of.time = as_of.time.min(reply.as_of.time);
            as_of.recovering |= reply.as_of.recovering;
        }
        let body = serde_json::to_vec(&answers).expect("JSON has a JSON form");
        Ok(as_of_response(as_of, body))
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExplainQuery {
    /// Explains only this audience, which must be an audience of the model.
    #[param(nullable = false)]
    audience: Option<String>,
}

/// Why a user is in audiences or not
#[utoipa::path(
    get,
    path = "/v1/audiences/{parent_model_id}/{user_id}/explain",
    tag = "membership",
    params(
        ("parent_model_id" = String, Path, description = "A model of the job"),
        ("user_id" = String, Path, description = "The user's key, percent-encoded"),
        ExplainQuery
    ),
    responses(
        (status = 200, description = "The tree of conditions of each audience", body = Explanation),
        (status = 404, description = "The job has no such model or audience, or has seen nothing of the user",
            body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(crate) async fn explain(
    State(app): Shared,
    path: PathOf<(String, String)>,
    query: QueryOf<ExplainQuery>,
    uri: Uri,
    headers: HeaderMap,
) -> Answer {
    let (Path((model, user)), Query(query)) = (path?, query?);
    app.model(&model)?;
    if let Some(audience) = &query.audience {
        let index = app.audience(audience)?;
        if app.index.audiences()[index as usize].model != model {
            let of_model = app.index.audiences().iter().filter(|audience| audience.model == model);
            return Err(Problem::unknown("audience", audience, of_model.map(|audience| &audience.id)));
        }
    }
    if let Some(peer) = app.api.owner(&model, &user) {
        return app.peers.ask_owner(&peer, &uri, &headers, app.patience).await;
    }
    let explanation = app.in_time(app.api.explain(&model, &user, query.audience.as_deref())).await?;
    let mut response = json(StatusCode::OK, &explanation);
    response.headers_mut().insert(AS_OF, time_header(explanation.as_of.0));
    Ok(response)
}

/// Appends `{"parent_model_id":…,"user_id":…,"audience_ids":[…]}`.
fn write_membership(out: &mut Vec<u8>, quoted_ids: &[String], model: &str, user: &str, audiences: &[u32]) {
    // An id of the job needs no escapes.
    out.extend_from_slice(br#"{"parent_model_id":""#);
    out.extend_from_slice(model.as_bytes());
    out.extend_from_slice(br#"","user_id":"#);
    serde_json::to_writer(&mut *out, user).expect("a string has a JSON form");
    out.extend_from_slice(br#","audience_ids":["#);
    for (ix, audience) in audiences.iter().enumerate() {
        if ix > 0 {
            out.push(b',');
        }
        out.extend_from_slice(quoted_ids[*audience as usize].as_bytes());
    }
    out.extend_from_slice(b"]}");
}

fn as_of_response(as_of: AsOf, body: Vec<u8>) -> Response {
    let mut response = json_text(StatusCode::OK, body);
    put_as_of(response.headers_mut(), as_of);
    response
}
