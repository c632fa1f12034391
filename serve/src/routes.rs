//! The routes of SPEC §7: one table of paths and handlers, grouped in files by what they are about.
//!
//! | file | routes |
//! |---|---|
//! | [`lookup`] | the audiences of a key, or of many, and why it is in them |
//! | [`members`] | the members of an audience, in pages |
//! | [`changes`] | entries and exits as they happen |
//! | [`audiences`], [`models`], [`syncs`] | the parts of the job: sizes, snapshots and pulls, deliveries |
//! | [`definitions`], [`sizes`] | the conditions of an audience and who meets them, sizes over time |
//! | [`sources`] | what came in, and what matched the events of the job |
//! | [`job`], [`diff`] | what runs, and what an edit of it does |
//! | [`process`] | health, readiness, metrics, the description of the API, and the console |

pub(crate) mod audiences;
pub(crate) mod changes;
pub(crate) mod definitions;
pub(crate) mod diff;
pub(crate) mod job;
pub(crate) mod lookup;
pub(crate) mod members;
pub(crate) mod models;
pub(crate) mod process;
pub(crate) mod sizes;
pub(crate) mod sources;
pub(crate) mod syncs;

use crate::app::{App, authorize_and_count};
use crate::auth::CONSOLE_FILE;
use crate::problem::Problem;
use axum::Router;
use axum::http::Uri;
use axum::routing::{MethodRouter, get, post};
use std::sync::Arc;

/// Returns all routes: each path, and the handlers of its methods.
pub(crate) fn routes() -> Vec<(&'static str, MethodRouter<Arc<App>>)> {
    vec![
        ("/v1/audiences", get(audiences::audiences)),
        ("/v1/audiences/{parent_model_id}/lookup", get(lookup::lookup_of_lookup).post(lookup::lookup_all)),
        ("/v1/audiences/{parent_model_id}/{user_id}", get(lookup::lookup)),
        ("/v1/audiences/{parent_model_id}/{user_id}/explain", get(lookup::explain)),
        ("/v1/members/{audience_id}", get(members::members)),
        ("/v1/definitions/{audience_id}", get(definitions::definition)),
        ("/v1/sizes", get(sizes::many_sizes)),
        ("/v1/sizes/{audience_id}", get(sizes::sizes)),
        ("/v1/job", get(job::job)),
        ("/v1/diff", post(diff::diff)),
        ("/v1/syncs", get(syncs::syncs)),
        ("/v1/syncs/{id}/attempts", get(syncs::attempts)),
        ("/v1/syncs/{id}/dead_letters", get(syncs::dead_letters)),
        ("/v1/syncs/{id}/dead_letters/redeliver", post(syncs::redeliver)),
        ("/v1/syncs/{id}/dead_letters/drop", post(syncs::drop)),
        ("/v1/syncs/{id}/pause", post(syncs::pause)),
        ("/v1/syncs/{id}/resume", post(syncs::resume)),
        ("/v1/syncs/{id}/test", post(syncs::test)),
        ("/v1/sources", get(sources::sources)),
        ("/v1/events", get(sources::events)),
        ("/v1/changes", get(changes::changes)),
        ("/v1/models", get(models::models)),
        ("/v1/models/{id}/pulls", get(models::pulls).post(models::pull_now)),
        ("/healthz", get(process::healthz)),
        ("/readyz", get(process::readyz)),
        ("/metrics", get(process::metrics)),
        ("/openapi.json", get(process::openapi_json)),
        ("/", get(process::home)),
        (CONSOLE_FILE, get(process::console_file)),
    ]
}

/// Returns the router of all routes. Other paths are answered 404, other methods 405.
pub(crate) fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for (path, methods) in routes() {
        router = router.route(path, methods);
    }
    router
        .fallback(|uri: Uri| async move { Problem::no_route(uri.path()) })
        .method_not_allowed_fallback(|| async { Problem::method() })
        .layer(axum::middleware::from_fn_with_state(app.clone(), authorize_and_count))
        .with_state(app)
}
