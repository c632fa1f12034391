//! The routes of SPEC §7, each a function.
//!
//! Lookups are answered from the index and written by hand: they are what is asked a million times. What reads JSON takes
//! `application/json` only (415), up to 1 MiB (413), that is JSON (400) of the shape asked for (422).

use super::auth::{Auth, Scope};
use super::metrics::MetricsText;
use super::peers::forward::{Forward, is_forwarded};
use super::peers::gather;
use super::problem::{Problem, ProblemBody};
use super::{Options, changes, openapi};
use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{MatchedPath, Path, Query, Request, State};
use axum::http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use futures::future::{BoxFuture, join_all};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};
use usher_core::api::{
    Api, ApiError, Explanation, Extent, Freshness, ModelStatus, Pull, Readiness, SyncReport, Windows,
};
use usher_core::membership_index::{AsOf, MembershipIndex, ModelIndex, Reflected};
use utoipa::{IntoParams, ToSchema};

/// Ids of a batch at most (SPEC §7).
const IDS_MAX: usize = 1000;
/// Bytes of a body at most: 1,000 ids of 1,024 bytes fit.
const BODY_BYTES: usize = 1 << 20;
/// How much is taken of a body that says it is longer, before the answer: 4 MiB.
const TAKEN_BYTES: usize = 4 << 20;
/// How long `after` waits where nobody says, ms.
const TIMEOUT_MS: u64 = 5_000;
/// How long it waits at most: proxies give up after a minute.
const TIMEOUT_MS_MAX: u64 = 55_000;
/// Members of a page where nobody says, and at most.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1000;
/// Followers of changes at most: each looks at every change.
const FOLLOWERS_MAX: usize = 256;

/// What answers are as of.
pub(super) const AS_OF: HeaderName = HeaderName::from_static("usher-as-of");
/// There while the job recovers: the answer is what downstream was told last.
pub(super) const RECOVERING: HeaderName = HeaderName::from_static("usher-recovering");

/// What handlers need.
pub(super) struct App {
    pub(super) index: Arc<MembershipIndex>,
    pub(super) api: Arc<dyn Api>,
    pub(super) auth: Auth,
    pub(super) stopping: watch::Receiver<bool>,
    pub(super) followers: Arc<Semaphore>,
    pub(super) forward: Forward,
    pub(super) patience: Duration,
    metrics: MetricsText,
    openapi: Bytes,
    /// By audience: its id, quoted.
    quoted: Vec<String>,
}

type Shared = State<Arc<App>>;
type Answer = Result<Response, Problem>;
type PathOf<T> = Result<Path<T>, PathRejection>;
type QueryOf<T> = Result<Query<T>, QueryRejection>;

impl App {
    pub(super) fn new(
        options: Options,
        index: Arc<MembershipIndex>,
        api: Arc<dyn Api>,
        stopping: watch::Receiver<bool>,
    ) -> App {
        let auth = Auth::new(&options.keys, options.rate_limit);
        let document = openapi::document(auth.has_keys());
        let quoted = |id: &str| serde_json::Value::from(id).to_string();
        App {
            quoted: index.audiences().iter().map(|audience| quoted(&audience.id)).collect(),
            openapi: document.to_json().expect("the document has a JSON form").into(),
            metrics: MetricsText::new(&index),
            index,
            api,
            auth,
            stopping,
            followers: Arc::new(Semaphore::new(FOLLOWERS_MAX)),
            forward: Forward::new(),
            patience: options.patience,
        }
    }

    fn model(&self, id: &str) -> Result<ModelIndex, Problem> {
        self.index.model(id).ok_or_else(|| {
            let known = self.api.models();
            Problem::unknown("model", id, known.into_iter().map(|model| model.id))
        })
    }

    pub(super) fn audience(&self, id: &str) -> Result<u32, Problem> {
        let audiences = self.index.audiences();
        match audiences.binary_search_by(|audience| audience.id[..].cmp(id)) {
            Ok(index) => Ok(index as u32),
            Err(_) => Err(Problem::unknown("audience", id, audiences.iter().map(|audience| &audience.id))),
        }
    }

    /// Asks the process that owns a key, or while this one is not live that which knows what was told.
    ///
    /// One is live a moment before the other: then each names the other, and there is no answer yet.
    async fn ask_owner(&self, peer: &str, uri: &Uri, headers: &HeaderMap, patience: Duration) -> Answer {
        let live = || self.index.as_of().is_some();
        if is_forwarded(headers) && !live() {
            return Err(no_answer());
        }
        let response = self.forward.get(peer, uri, headers, patience).await?;
        if response.status() == StatusCode::LOOP_DETECTED && !live() {
            return Err(no_answer());
        }
        Ok(response)
    }

    /// Waits for the job, within bounds.
    async fn ask<T>(&self, answer: BoxFuture<'static, Result<T, ApiError>>) -> Result<T, Problem> {
        match tokio::time::timeout(self.patience, answer).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Problem::not_yet(format!("the job did not answer within {:?}", self.patience))),
        }
    }
}

/// All routes.
pub(super) fn routes() -> Vec<(&'static str, MethodRouter<Arc<App>>)> {
    vec![
        ("/v1/audiences", get(audiences)),
        ("/v1/audiences/{parent_model_id}/lookup", get(lookup_of_lookup).post(lookup_all)),
        ("/v1/audiences/{parent_model_id}/{user_id}", get(lookup)),
        ("/v1/audiences/{parent_model_id}/{user_id}/explain", get(explain)),
        ("/v1/members/{audience_id}", get(members)),
        ("/v1/syncs", get(syncs)),
        ("/v1/changes", get(changes::changes)),
        ("/v1/models", get(models)),
        ("/v1/models/{id}/pulls", get(pulls).post(pull_now)),
        ("/healthz", get(healthz)),
        ("/readyz", get(readyz)),
        ("/metrics", get(metrics)),
        ("/openapi.json", get(openapi_json)),
        ("/", get(home)),
    ]
}

/// Routes that need no key.
pub(super) const OPEN: [&str; 3] = ["/healthz", "/readyz", "/"];

pub(super) fn router(app: Arc<App>) -> axum::Router {
    let mut router = axum::Router::new();
    for (path, methods) in routes() {
        router = router.route(path, methods);
    }
    router
        .fallback(|uri: Uri| async move { Problem::no_route(uri.path()) })
        .method_not_allowed_fallback(|| async { Problem::method_of_route() })
        .layer(axum::middleware::from_fn_with_state(app.clone(), around))
        .with_state(app)
}

/// Around every request: who may ask, and what is counted.
async fn around(State(app): Shared, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let path = request.uri().path();
    let scope = match *request.method() {
        Method::POST if path.starts_with("/v1/models/") => Scope::Admin,
        _ => Scope::Read,
    };
    let allowed = app.auth.local(request.uri(), request.headers()).and_then(|()| match OPEN.contains(&path) {
        true => Ok(()),
        false => app.auth.check(request.headers(), scope),
    });
    let response = match allowed {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    app.metrics.answered(route.as_ref().map_or("none", MatchedPath::as_str), response.status(), start.elapsed());
    response
}

/// The audiences of a user.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "written by hand; this is its description")]
pub(super) struct Membership {
    /// As asked.
    parent_model_id: String,
    /// As asked.
    user_id: String,
    /// Ids of the audiences that the user is in, sorted.
    audience_ids: Vec<String>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct LookupQuery {
    /// `source:partition:offset`: waits until the event there is reflected.
    #[param(nullable = false, pattern = "^[A-Za-z_][A-Za-z0-9_-]*:.*:[0-9]{1,18}$")]
    after: Option<String>,
    /// How long to wait for it, ms; 5000 where it is not given.
    #[param(minimum = 0, maximum = 55000, nullable = false)]
    timeout_ms: Option<u64>,
}

/// The audiences of a user
///
/// An unknown user has none.
#[utoipa::path(
    get,
    path = "/v1/audiences/{parent_model_id}/{user_id}",
    tag = "membership",
    params(
        ("parent_model_id" = String, Path, description = "A model of the job"),
        ("user_id" = String, Path, description = "Its key, percent-encoded"),
        LookupQuery
    ),
    responses(
        (status = 200, description = "The audiences, sorted", body = Membership,
            headers(("Usher-As-Of" = String, description = "The time that the answer is as of, RFC 3339 with ms"))),
        (status = 404, description = "No such model, or source in `after`", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 504, description = "The event of `after` is not reflected within `timeout_ms`", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
async fn lookup(
    State(app): Shared,
    path: PathOf<(String, String)>,
    query: QueryOf<LookupQuery>,
    uri: Uri,
    headers: HeaderMap,
) -> Answer {
    let Path((model, user)) = path?;
    answer_lookup(&app, &model, &user, query?.0, &uri, &headers).await
}

/// The audiences of the user whose id is `lookup`
#[utoipa::path(
    get,
    path = "/v1/audiences/{parent_model_id}/lookup",
    tag = "membership",
    params(("parent_model_id" = String, Path, description = "A model of the job"), LookupQuery),
    responses(
        (status = 200, description = "The audiences, sorted", body = Membership),
        (status = 404, description = "No such model, or source in `after`", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 504, description = "The event of `after` is not reflected within `timeout_ms`", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
async fn lookup_of_lookup(
    State(app): Shared,
    path: PathOf<String>,
    query: QueryOf<LookupQuery>,
    uri: Uri,
    headers: HeaderMap,
) -> Answer {
    let Path(model) = path?;
    answer_lookup(&app, &model, "lookup", query?.0, &uri, &headers).await
}

async fn answer_lookup(
    app: &App,
    model: &str,
    user: &str,
    query: LookupQuery,
    uri: &Uri,
    headers: &HeaderMap,
) -> Answer {
    let index = app.model(model)?;
    let timeout_ms = query.timeout_ms.unwrap_or(TIMEOUT_MS);
    if timeout_ms > TIMEOUT_MS_MAX {
        return Err(Problem::wrong(format!("`timeout_ms` is at most {TIMEOUT_MS_MAX}")));
    }
    let until = Instant::now() + Duration::from_millis(timeout_ms);
    let (as_of, audiences) = loop {
        let left = until.saturating_duration_since(Instant::now());
        if let Some(peer) = app.api.owner(model, user) {
            let response = app.ask_owner(&peer, uri, headers, app.patience + left).await?;
            // Who owns the key turns when this process goes live, which may have been just now.
            if response.status() != StatusCode::LOOP_DETECTED || app.api.owner(model, user).as_ref() == Some(&peer) {
                return Ok(response);
            }
        }
        if let Some(after) = &query.after {
            wait_for(app, after, left).await?;
        }
        let found = app.index.lookup(index, user).ok_or_else(no_answer)?;
        // What was told is known here, whosever the key is; what holds is known to its owner, and the job may have gone live meanwhile.
        if found.0.recovering || app.api.owner(model, user).is_none() {
            break found;
        }
    };
    let mut body = Vec::with_capacity(96 + model.len() + user.len() + 24 * audiences.len());
    write_membership(&mut body, &app.quoted, model, user, &audiences);
    Ok(as_of_response(as_of, body))
}

async fn wait_for(app: &App, after: &str, timeout: Duration) -> Result<(), Problem> {
    let parsed = after.split_once(':').and_then(|(source, rest)| {
        let (partition, offset) = rest.rsplit_once(':')?;
        // `parse` would take a sign.
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

fn no_answer() -> Problem {
    Problem::not_yet("the job is not live yet, and nobody was told anything before")
}

/// `{"parent_model_id":…,"user_id":…,"audience_ids":[…]}`.
fn write_membership(out: &mut Vec<u8>, quoted: &[String], model: &str, user: &str, audiences: &[u32]) {
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
        out.extend_from_slice(quoted[*audience as usize].as_bytes());
    }
    out.extend_from_slice(b"]}");
}

fn as_of_response(as_of: AsOf, body: Vec<u8>) -> Response {
    let mut response = json_response(StatusCode::OK, body);
    put_as_of(&mut response, as_of);
    response
}

fn put_as_of(response: &mut Response, as_of: AsOf) {
    response.headers_mut().insert(AS_OF, time_header(as_of.time));
    if as_of.recovering {
        response.headers_mut().insert(RECOVERING, HeaderValue::from_static("true"));
    }
}

fn time_header(time: u64) -> HeaderValue {
    let mut text = Vec::with_capacity(24);
    usher_core::message::write_time(&mut text, time);
    HeaderValue::from_maybe_shared(Bytes::from(text)).expect("a time is ASCII")
}

fn json_response(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    json_response(status, serde_json::to_vec(body).expect("the value has a JSON form"))
}

/// The body, as far as it comes in time and is not too long.
async fn body(app: &App, request: Request) -> Result<Bytes, Problem> {
    let too_large = || Problem::too_large(format!("a body has at most {BODY_BYTES} bytes"));
    let body = request.into_body();
    if http_body_length(&body).is_some_and(|length| length > BODY_BYTES as u64) {
        // Whoever is still sending when the connection ends does not read the answer: a little is taken and dropped.
        let _ = tokio::time::timeout(app.patience, axum::body::to_bytes(body, TAKEN_BYTES)).await;
        return Err(too_large());
    }
    match tokio::time::timeout(app.patience, axum::body::to_bytes(body, BODY_BYTES)).await {
        Err(_) => Err(Problem::slow_body()),
        Ok(Ok(body)) => Ok(body),
        // Too long without having said so, or broken off: then nobody reads the answer.
        Ok(Err(_)) => Err(too_large()),
    }
}

fn http_body_length(body: &Body) -> Option<u64> {
    use axum::body::HttpBody;
    body.size_hint().exact()
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

/// What a body says, which is an object.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let parsed = serde_json::from_slice(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => Problem::wrong_shape(error.to_string()),
        _ => Problem::wrong(format!("the body is no JSON: {error}")),
    })?;
    // The parser takes a list for an object, field by field.
    match body.trim_ascii_start().first() {
        Some(b'[') => Err(Problem::wrong_shape("a list; an object is asked for")),
        _ => Ok(parsed),
    }
}

/// Users to look up.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LookupBody {
    /// Their keys.
    #[schema(max_items = 1000)]
    user_ids: Vec<String>,
}

/// The audiences of up to 1,000 users, at one time
///
/// One answer per id, in the order asked.
#[utoipa::path(
    post,
    path = "/v1/audiences/{parent_model_id}/lookup",
    tag = "membership",
    params(("parent_model_id" = String, Path, description = "A model of the job")),
    request_body = LookupBody,
    responses(
        (status = 200, description = "The audiences of each", body = Vec<Membership>,
            headers(("Usher-As-Of" = String, description = "The time that all answers are as of"))),
        (status = 404, description = "No such model", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "More than 1,000 ids or 1 MiB", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "Not `application/json`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "JSON of another shape", body = ProblemBody, content_type = "application/problem+json")
    )
)]
async fn lookup_all(State(app): Shared, path: PathOf<String>, request: Request) -> Answer {
    let Path(model) = path?;
    let index = app.model(&model)?;
    if !is_json(request.headers()) {
        return Err(Problem::media_type());
    }
    let (uri, headers) = (request.uri().clone(), request.headers().clone());
    let LookupBody { user_ids } = parse(&body(&app, request).await?)?;
    if user_ids.len() > IDS_MAX {
        return Err(Problem::too_large(format!("{} ids; at most {IDS_MAX} at once", user_ids.len())));
    }
    let own = app.index.lookup_all(index, &user_ids);
    let known = own.is_some();
    let nothing = || (AsOf { time: u64::MAX, recovering: false }, vec![Arc::from([]); user_ids.len()]);
    let (as_of, found) = own.unwrap_or_else(nothing);
    // After the look: what was told is known here, whosever the keys are, and the job may go live at any time.
    let mut of_peers: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (ix, user) in user_ids.iter().enumerate().filter(|_| !as_of.recovering) {
        if let Some(peer) = app.api.owner(&model, user) {
            of_peers.entry(peer).or_default().push(ix);
        }
    }
    let of_others: usize = of_peers.values().map(Vec::len).sum();
    if !known && (of_others < user_ids.len() || user_ids.is_empty() || is_forwarded(&headers)) {
        return Err(no_answer());
    }
    if of_others > 0 {
        return lookup_of_peers(&app, &model, user_ids, as_of, found, of_peers, &uri, &headers).await;
    }
    let mut body = Vec::with_capacity(2 + found.len() * 128);
    body.push(b'[');
    for (user, audiences) in user_ids.iter().zip(&found) {
        if body.len() > 1 {
            body.push(b',');
        }
        write_membership(&mut body, &app.quoted, &model, user, audiences);
    }
    body.push(b']');
    Ok(as_of_response(as_of, body))
}

/// A batch of which other processes own a part: theirs in the places of what this process does not know.
#[allow(clippy::too_many_arguments)]
async fn lookup_of_peers(
    app: &App,
    model: &str,
    user_ids: Vec<String>,
    mut as_of: AsOf,
    found: Vec<Arc<[u32]>>,
    of_peers: BTreeMap<String, Vec<usize>>,
    uri: &Uri,
    headers: &HeaderMap,
) -> Answer {
    let mut answers: Vec<Box<serde_json::value::RawValue>> = Vec::with_capacity(user_ids.len());
    for (user, audiences) in user_ids.iter().zip(&found) {
        let mut one = Vec::new();
        write_membership(&mut one, &app.quoted, model, user, audiences);
        let one = String::from_utf8(one).expect("JSON is UTF-8");
        answers.push(serde_json::value::RawValue::from_string(one).expect("it is JSON"));
    }
    let asked = of_peers.iter().map(|(peer, places)| {
        let ids: Vec<&String> = places.iter().map(|ix| &user_ids[*ix]).collect();
        let body = serde_json::json!({ "user_ids": ids }).to_string();
        app.forward.lookup_all(peer, uri, headers, body, app.patience)
    });
    for (places, answered) in of_peers.values().zip(join_all(asked).await) {
        let (theirs, time, recovering) = answered?;
        if theirs.len() != places.len() {
            return Err(Problem::peer("it answers for other ids than were asked for"));
        }
        for (place, answer) in places.iter().zip(theirs) {
            answers[*place] = answer;
        }
        as_of.time = as_of.time.min(time);
        as_of.recovering |= recovering;
    }
    let body = serde_json::to_vec(&answers).expect("JSON has a JSON form");
    Ok(as_of_response(as_of, body))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ExplainQuery {
    /// Only this audience, which is one of the model.
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
        ("user_id" = String, Path, description = "Its key, percent-encoded"),
        ExplainQuery
    ),
    responses(
        (status = 200, description = "Per audience the tree of conditions", body = Explanation),
        (status = 404, description = "No such model or audience, or nothing is known of the user", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
async fn explain(
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
        return app.ask_owner(&peer, &uri, &headers, app.patience).await;
    }
    let explanation = app.ask(app.api.explain(&model, &user, query.audience.as_deref())).await?;
    let mut response = json(StatusCode::OK, &explanation);
    response.headers_mut().insert(AS_OF, time_header(explanation.as_of.0));
    Ok(response)
}

/// An audience.
#[derive(Serialize, ToSchema)]
pub(super) struct AudienceStatus {
    /// Its id.
    id: String,
    /// What people see as its name.
    name: String,
    /// Its model's id.
    model: String,
    /// Members.
    size: u64,
    /// Entries since the start; who was a member at the start is one.
    entries: u64,
    /// Exits since the start.
    exits: u64,
    /// How new the oldest of the snapshots is that decide it.
    freshness: Freshness,
    /// Whether its windows are filled.
    windows: Windows,
}

/// Audiences.
#[derive(Serialize, ToSchema)]
pub(super) struct Audiences {
    /// By id.
    audiences: Vec<AudienceStatus>,
}

/// The audiences of the job
///
/// Of all processes of the job; `Usher-As-Of` is the earliest of their times.
#[utoipa::path(get, path = "/v1/audiences", tag = "job",
    responses(
        (status = 200, description = "By id", body = Audiences),
        (status = 502, description = "Another process of the job does not answer", body = ProblemBody,
            content_type = "application/problem+json")
    ))]
async fn audiences(State(app): Shared, uri: Uri, headers: HeaderMap) -> Answer {
    let (as_of, counts) = gather::counts(&app, &uri, &headers).await?;
    let states: BTreeMap<String, (Freshness, Windows)> =
        app.api.audiences().into_iter().map(|state| (state.id, (state.freshness, state.windows))).collect();
    let audiences = app.index.audiences().iter().zip(counts).map(|(audience, count)| {
        let unknown = (Freshness::Pending, Windows { complete: false, complete_at: None });
        let (freshness, windows) = states.get(&audience.id).copied().unwrap_or(unknown);
        AudienceStatus {
            id: audience.id.clone(),
            name: audience.name.clone(),
            model: audience.model.clone(),
            size: count.size,
            entries: count.entries,
            exits: count.exits,
            freshness,
            windows,
        }
    });
    let mut response = json(StatusCode::OK, &Audiences { audiences: audiences.collect() });
    if let Some(as_of) = as_of {
        put_as_of(&mut response, as_of);
    }
    Ok(response)
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct MembersQuery {
    /// `next_cursor` of the page before.
    #[param(nullable = false, pattern = "^([0-9a-f]{1,8}-[0-9a-f]{1,8})?$")]
    cursor: Option<String>,
    /// Members of a page; 100 where it is not given.
    #[param(minimum = 1, maximum = 1000, nullable = false)]
    limit: Option<usize>,
}

/// A page of members.
#[derive(Serialize, ToSchema)]
pub(super) struct Members {
    /// As asked.
    audience_id: String,
    /// Their keys.
    members: Vec<String>,
    /// For the next page; null: this is the last.
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
        (status = 404, description = "No such audience", body = ProblemBody, content_type = "application/problem+json")
    )
)]
async fn members(State(app): Shared, path: PathOf<String>, query: QueryOf<MembersQuery>) -> Answer {
    let (Path(audience), Query(MembersQuery { cursor, limit })) = (path?, query?);
    app.audience(&audience)?;
    let limit = limit.unwrap_or(PAGE);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Problem::wrong(format!("`limit` is from 1 to {PAGE_MAX}")));
    }
    let cursor = cursor.as_deref().filter(|cursor| !cursor.is_empty());
    let page = app.ask(app.api.members(&audience, cursor, limit)).await?;
    let members = Members { audience_id: audience, members: page.keys, next_cursor: page.next_cursor };
    let mut response = json(StatusCode::OK, &members);
    response.headers_mut().insert(AS_OF, time_header(page.as_of.0));
    Ok(response)
}

/// Syncs.
#[derive(Serialize, ToSchema)]
pub(super) struct Syncs {
    /// By id.
    syncs: Vec<SyncReport>,
}

/// How the syncs stand
#[utoipa::path(get, path = "/v1/syncs", tag = "job", responses((status = 200, description = "By id", body = Syncs)))]
async fn syncs(State(app): Shared) -> Answer {
    Ok(json(StatusCode::OK, &Syncs { syncs: app.api.syncs() }))
}

/// Models.
#[derive(Serialize, ToSchema)]
pub(super) struct Models {
    /// By id.
    models: Vec<ModelStatus>,
}

/// The models and how new their snapshots are
#[utoipa::path(get, path = "/v1/models", tag = "job", responses((status = 200, description = "By id", body = Models)))]
async fn models(State(app): Shared) -> Answer {
    Ok(json(StatusCode::OK, &Models { models: app.api.models() }))
}

/// Pulls.
#[derive(Serialize, ToSchema)]
pub(super) struct Pulls {
    /// The newest first.
    pulls: Vec<Pull>,
}

/// The pulls of a model
#[utoipa::path(
    get,
    path = "/v1/models/{id}/pulls",
    tag = "job",
    params(("id" = String, Path, description = "A model of the job")),
    responses(
        (status = 200, description = "The newest first", body = Pulls),
        (status = 404, description = "No such model", body = ProblemBody, content_type = "application/problem+json")
    )
)]
async fn pulls(State(app): Shared, path: PathOf<String>) -> Answer {
    let Path(model) = path?;
    app.model(&model)?;
    Ok(json(StatusCode::OK, &Pulls { pulls: app.api.pulls(&model) }))
}

/// What to pull.
#[derive(Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PullBody {
    /// `partial`, which is the default, skips files that did not change.
    #[serde(default)]
    #[schema(required = false)]
    extent: Extent,
}

/// A pull that was accepted.
#[derive(Serialize, ToSchema)]
pub(super) struct PullAccepted {
    /// As asked.
    model_id: String,
    /// As asked.
    extent: Extent,
}

/// Pull a model now
///
/// Answers when the pull is accepted, not when it is done: see the list of pulls.
#[utoipa::path(
    post,
    path = "/v1/models/{id}/pulls",
    tag = "job",
    params(("id" = String, Path, description = "A model of the job")),
    request_body = Option<PullBody>,
    responses(
        (status = 202, description = "Accepted", body = PullAccepted),
        (status = 404, description = "No such model", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "A pull is running, or the model has nothing to pull", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 415, description = "Not `application/json`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "JSON of another shape", body = ProblemBody, content_type = "application/problem+json")
    )
)]
async fn pull_now(State(app): Shared, path: PathOf<String>, request: Request) -> Answer {
    let Path(model) = path?;
    app.model(&model)?;
    let json_is_said = is_json(request.headers());
    let body = body(&app, request).await?;
    let PullBody { extent } = match &body[..] {
        [] => PullBody::default(),
        _ if !json_is_said => return Err(Problem::media_type()),
        // The description says that there may be none.
        body => parse::<Option<PullBody>>(body)?.unwrap_or_default(),
    };
    app.ask(app.api.pull_now(&model, extent)).await?;
    let location = format!("/v1/models/{model}/pulls");
    let mut response = json(StatusCode::ACCEPTED, &PullAccepted { model_id: model, extent });
    response.headers_mut().insert(LOCATION, HeaderValue::from_str(&location).expect("an id of the job is ASCII"));
    Ok(response)
}

/// Whether the process serves
#[utoipa::path(get, path = "/healthz", tag = "process",
    responses((status = 200, description = "It does", body = String, content_type = "text/plain")))]
async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether the job is live
#[utoipa::path(get, path = "/readyz", tag = "process",
    responses(
        (status = 200, description = "It is", body = Readiness),
        (status = 503, description = "Not yet", body = Readiness)
    ))]
async fn readyz(State(app): Shared) -> Response {
    let mut readiness = app.api.readiness();
    if readiness.ready && app.index.as_of().is_none_or(|as_of| as_of.recovering) {
        readiness = Readiness { ready: false, detail: Some("membership is being published".to_owned()) };
    }
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &readiness)
}

/// Metrics, in Prometheus' text format
#[utoipa::path(get, path = "/metrics", tag = "process",
    responses((status = 200, description = "Text format 0.0.4", body = String, content_type = "text/plain")))]
async fn metrics(State(app): Shared) -> Response {
    let text = app.metrics.text(&app.index, &*app.api);
    let mut response = Response::new(Body::from(text));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// This description
#[utoipa::path(get, path = "/openapi.json", tag = "process",
    responses((status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json")))]
async fn openapi_json(State(app): Shared) -> Response {
    json_response(StatusCode::OK, app.openapi.clone())
}

/// Where to begin
#[utoipa::path(get, path = "/", tag = "process",
    responses((status = 200, description = "A few words", body = String, content_type = "text/plain")))]
async fn home() -> &'static str {
    concat!(
        "usher ",
        env!("CARGO_PKG_VERSION"),
        "\n\nThe API is described at /openapi.json. There is no console yet.\n"
    )
}

/// A time that a peer sent.
pub(super) fn parse_time(text: &str) -> Option<u64> {
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok()
}
