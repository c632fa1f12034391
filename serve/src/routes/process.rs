//! The routes about the process: health, readiness, metrics, the description of the API, and a start page.

use crate::app::Shared;
use crate::body::{json, json_text};
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::Response;
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

/// Where to start
#[utoipa::path(get, path = "/", tag = "process",
    responses((status = 200, description = "A short text", body = String, content_type = "text/plain")))]
pub(crate) async fn home() -> &'static str {
    concat!(
        "usher ",
        env!("CARGO_PKG_VERSION"),
        "\n\nThe API is described at /openapi.json. There is no console yet.\n"
    )
}
