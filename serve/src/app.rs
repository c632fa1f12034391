//! What all handlers share ([`App`]), and what happens around every request ([`authorize_and_count`]).
//!
//! [`App`] holds the index, the port to the job, the other processes, and the bounds of the server. It checks ids of models and
//! audiences, and waits for the job no longer than `patience`.

use crate::auth::{Access, Auth, Scope, is_open};
use crate::console::Console;
use crate::metrics::ServerMetrics;
use crate::options::Options;
use crate::peers::Peers;
use crate::problem::Problem;
use crate::sizes::Sizes;
use axum::body::Bytes;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{MatchedPath, Path, Query, Request, State};
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};
use usher_core::api::{Api, ApiError};
use usher_core::membership_index::{MembershipIndex, ModelIndex};

/// Followers of changes at most: each looks at every change.
const FOLLOWERS_MAX: usize = 256;

/// What the turn of a follower is behind that of the one before. A write takes some 30 µs, and what the job does meanwhile would wait for all of
/// them: 3 ms, with 100 followers at once.
const TURN: Duration = Duration::from_micros(40);

/// Audiences of a list at most.
pub(crate) const LIST_MAX: usize = 1000;

/// How long the answer of an idle job waits for its clock: several times what an epoch without events takes.
const FRESHEN: Duration = Duration::from_millis(20);

/// The state of the server. Shared by all handlers.
pub(crate) struct App {
    /// Membership, for lookups.
    pub(crate) index: Arc<MembershipIndex>,
    /// The port to the job, for everything else.
    pub(crate) api: Arc<dyn Api>,
    /// The other processes of the job.
    pub(crate) peers: Peers,
    /// How long a body may take to arrive, and the job to answer.
    pub(crate) patience: Duration,
    /// Becomes `true` when the server stops.
    pub(crate) stopping: watch::Receiver<bool>,
    /// One permit per follower of the changes.
    pub(crate) followers: Arc<Semaphore>,
    /// Numbers followers.
    pub(crate) numbers: AtomicU32,
    /// Sizes over time.
    pub(crate) sizes: Sizes,
    /// How the console is served; `None` for no console.
    pub(crate) console: Option<Console>,
    /// The counters of the server.
    pub(crate) metrics: ServerMetrics,
    /// The OpenAPI document, as JSON.
    pub(crate) openapi: Bytes,
    /// By audience: its id as a JSON string.
    pub(crate) quoted_ids: Vec<String>,
    auth: Auth,
}

/// The state, as handlers take it.
pub(crate) type Shared = State<Arc<App>>;
/// What handlers return.
pub(crate) type Answer = Result<Response, Problem>;
/// Parameters in the path, or why they can't be read.
pub(crate) type PathOf<T> = Result<Path<T>, PathRejection>;
/// Parameters in the query, or why they can't be read.
pub(crate) type QueryOf<T> = Result<Query<T>, QueryRejection>;

impl App {
    /// Returns how many clients follow the changes.
    fn following(&self) -> u32 {
        (FOLLOWERS_MAX - self.followers.available_permits()) as u32
    }

    /// Returns within what time a change is written to all followers.
    pub(crate) fn round(&self) -> Duration {
        TURN * self.following()
    }

    /// Returns after what part of [`App::round`] the follower of a number is written to.
    pub(crate) fn turn(&self, follower: u32) -> Duration {
        TURN * (follower % self.following().max(1))
    }

    /// Returns the state of a server with `options`, which serves `openapi` as its description.
    pub(crate) fn new(
        options: Options,
        index: Arc<MembershipIndex>,
        api: Arc<dyn Api>,
        stopping: watch::Receiver<bool>,
        openapi: Bytes,
    ) -> App {
        let quoted = |id: &str| serde_json::Value::from(id).to_string();
        App {
            auth: Auth::new(&options.keys, options.rate_limit),
            quoted_ids: index.audiences().iter().map(|audience| quoted(&audience.id)).collect(),
            openapi,
            sizes: Sizes::new(),
            console: options.console,
            metrics: ServerMetrics::new(&index, &options.build),
            peers: Peers::new(index.clone(), api.clone(), options.patience),
            index,
            api,
            stopping,
            followers: Arc::new(Semaphore::new(FOLLOWERS_MAX)),
            numbers: AtomicU32::new(0),
            patience: options.patience,
        }
    }

    /// Returns what the key of a request allows.
    pub(crate) fn access(&self, headers: &HeaderMap) -> Access {
        self.auth.access(headers)
    }

    /// Returns the model with this id.
    ///
    /// # Errors
    /// 404 if the job has no such model.
    pub(crate) fn model(&self, id: &str) -> Result<ModelIndex, Problem> {
        self.index.model(id).ok_or_else(|| {
            let known = self.api.models();
            Problem::unknown("model", id, known.into_iter().map(|model| model.id))
        })
    }

    /// Returns the index of the audience with this id.
    ///
    /// # Errors
    /// 404 if the job has no such audience.
    pub(crate) fn audience(&self, id: &str) -> Result<u32, Problem> {
        let audiences = self.index.audiences();
        match audiences.binary_search_by(|audience| audience.id[..].cmp(id)) {
            Ok(index) => Ok(index as u32),
            Err(_) => Err(Problem::unknown("audience", id, audiences.iter().map(|audience| &audience.id))),
        }
    }

    /// Returns the audiences of a list of ids, which are separated by commas.
    ///
    /// # Errors
    /// 413 if the list is longer than [`LIST_MAX`], 404 if the job has not all of them.
    pub(crate) fn audiences(&self, ids: &str) -> Result<Vec<u32>, Problem> {
        let ids: Vec<&str> = ids.split(',').filter(|_| !ids.is_empty()).collect();
        if ids.len() > LIST_MAX {
            return Err(Problem::too_large(format!("a list has at most {LIST_MAX} ids")));
        }
        ids.into_iter().map(|id| self.audience(id)).collect()
    }

    /// Returns the `host:port` of the process that delivers to webhooks; `None` if it is this one.
    pub(crate) fn deliverer(&self) -> Option<String> {
        self.api.processes().into_iter().next().flatten()
    }

    /// Waits for an answer of the job, at most for `patience`.
    ///
    /// # Errors
    /// 503 if the job does not answer in time, else the problem that the job reports.
    pub(crate) async fn in_time<T>(&self, answer: BoxFuture<'static, Result<T, ApiError>>) -> Result<T, Problem> {
        match tokio::time::timeout(self.patience, answer).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Problem::unavailable(format!("the job did not answer within {:?}", self.patience))),
        }
    }
}

impl App {
    /// Has the clock of an idle job go on, and waits until answers are as of then.
    async fn freshen(&self) {
        if self.api.wake()
            && let Some(as_of) = self.index.as_of().filter(|as_of| !as_of.recovering)
        {
            self.index.wait_past(as_of.time, FRESHEN).await;
        }
    }
}

/// Checks that the client may make the request, passes it to its handler, and counts the answer.
pub(crate) async fn authorize_and_count(State(app): Shared, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let path = request.uri().path();
    let is_order = ["/v1/models/", "/v1/syncs/", "/v1/diff"].iter().any(|start| path.starts_with(start));
    let scope = match *request.method() {
        Method::POST if is_order => Scope::Admin,
        _ => Scope::Read,
    };
    let allowed = app.auth.check_local(request.uri(), request.headers()).and_then(|()| match is_open(path) {
        true => Ok(()),
        false => app.auth.check(request.headers(), scope),
    });
    let response = match allowed {
        Ok(()) => {
            if path.starts_with("/v1/") {
                app.freshen().await;
            }
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    };
    app.metrics.count(route.as_ref().map_or("none", MatchedPath::as_str), response.status(), start.elapsed());
    response
}
