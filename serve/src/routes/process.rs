//! The routes about the process: health, readiness, metrics, the description of the API, and the console.

use crate::app::{Answer, PathOf, Shared};
use crate::body::{json, json_text};
use crate::console;
use crate::problem::{Problem, ProblemBody};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use usher_core::api::Readiness;

/// Whether the process serves
#[utoipa::path(get, path = "/healthz", tag = "process",
    responses((status = 200, description = "The process serves", body = String, content_type = "text/plain")))]
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether the job is live
#[utoipa::path(get, path = "/readyz", tag = "process",
    responses(
        (status = 200, description = "The job is live", body = Readiness),
        (status = 503, description = "The job is not live yet", body = Readiness)
    ))]
pub(crate) async fn readyz(State(app): Shared) -> Response {
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
pub(crate) async fn metrics(State(app): Shared) -> Response {
    let text = app.metrics.text(&app.index, &*app.api);
    let mut response = Response::new(Body::from(text));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// This description
#[utoipa::path(get, path = "/openapi.json", tag = "process",
    responses((status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json")))]
pub(crate) async fn openapi_json(State(app): Shared) -> Response {
    json_text(StatusCode::OK, app.openapi.clone())
}

/// The console
///
/// A page for browsers; without a console, a short text.
#[utoipa::path(get, path = "/", tag = "process",
    responses((status = 200, description = "A page", body = String, content_type = "text/html")))]
pub(crate) async fn home(State(app): Shared, headers: HeaderMap) -> Response {
    match app.console {
        Some(_) => console::shell(&headers),
        None => {
            concat!("usher ", env!("CARGO_PKG_VERSION"), "\n\nThe API is described at /openapi.json.\n").into_response()
        }
    }
}

/// A file of the console
///
/// Its address contains a hash of all files of the console: what is there never changes.
#[utoipa::path(
    get,
    path = "/console/{version}/{file}",
    tag = "process",
    params(("version" = String, Path, description = "The hash of all files"), ("file" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "The file", body = String, content_type = "text/javascript"),
        (status = 404, description = "There is no such file, or the job has no console", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(crate) async fn console_file(
    State(app): Shared,
    path: PathOf<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Answer {
    let Path((version, file)) = path?;
    let file = app.console.and_then(|_| console::file(&version, &file, &headers));
    file.ok_or_else(|| Problem::no_route(uri.path()))
}
