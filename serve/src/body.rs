//! Bodies: reads those of requests within bounds, and writes those of answers.
//!
//! A JSON body has `Content-Type: application/json` (else 415), at most 1 MiB (413), arrives in time (408), is JSON (400) and
//! has the expected shape (422).

use crate::problem::Problem;
use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use axum::response::Response;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Bytes of a body at most: 1,000 ids of 1,024 bytes fit.
const BODY_BYTES: usize = 1 << 20;

/// Bytes of a plan at most: far more than one of 1,000 audiences has.
const PLAN_BYTES: usize = 16 << 20;

/// How much is read of a body whose announced length is too large, before the refusal is sent: 4 MiB.
const DRAINED_BYTES: usize = 4 << 20;

/// Reads the body of a request, which has `patience` to arrive.
///
/// # Errors
/// 413 if the body is longer than [`BODY_BYTES`] or breaks off, 408 if it does not arrive in time.
pub(crate) async fn read_body(request: Request, patience: Duration) -> Result<Bytes, Problem> {
    read_at_most(BODY_BYTES, request, patience).await
}

/// Reads a plan, which has `patience` to arrive.
///
/// # Errors
/// As [`read_body`], with another bound.
pub(crate) async fn read_plan(request: Request, patience: Duration) -> Result<Bytes, Problem> {
    read_at_most(PLAN_BYTES, request, patience).await
}

async fn read_at_most(bound: usize, request: Request, patience: Duration) -> Result<Bytes, Problem> {
    let too_large = || Problem::too_large(format!("a body has at most {bound} bytes"));
    let body = request.into_body();
    if body.size_hint().exact().is_some_and(|length| length > bound as u64) {
        // A client that is still sending when the connection ends does not read the answer: a part is read and dropped.
        let _ = tokio::time::timeout(patience, to_bytes(body, DRAINED_BYTES)).await;
        return Err(too_large());
    }
    match tokio::time::timeout(patience, to_bytes(body, bound)).await {
        Err(_) => Err(Problem::slow_body()),
        Ok(Ok(body)) => Ok(body),
        // Too long without an announced length, or broken off. In the second case the client does not read the answer.
        Ok(Err(_)) => Err(too_large()),
    }
}

/// Returns whether the content type is JSON.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

/// Parses a body, which is a JSON object.
///
/// # Errors
/// 400 if the body is not JSON, 422 if it has another shape than `T`.
pub(crate) fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let parsed = serde_json::from_slice(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => Problem::wrong_shape(error.to_string()),
        _ => Problem::wrong(format!("the body is not JSON: {error}")),
    })?;
    // The parser accepts a list in place of an object, field by field.
    match body.trim_ascii_start().first() {
        Some(b'[') => Err(Problem::wrong_shape("the body is a list; expected an object")),
        _ => Ok(parsed),
    }
}

/// Returns an answer with `body` as JSON.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    json_text(status, serde_json::to_vec(body).expect("the value has a JSON form"))
}

/// Returns an answer with `body`, which is JSON already.
pub(crate) fn json_text(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
