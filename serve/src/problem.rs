//! What went wrong, as `application/problem+json` (RFC 9457): `type`, `title`, `status`, `detail`.
//!
//! `type` is `urn:usher:problem:NAME`; names are stable. `title` says what kind of problem it is, `detail` what it is this
//! time, in words that name what was asked for and never a key of the API.

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use usher_core::api::ApiError;
use utoipa::ToSchema;

/// A problem's body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// `urn:usher:problem:NAME`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What kind of problem it is.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What it is this time.
    pub detail: String,
}

/// A problem, as handlers return it.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    name: &'static str,
    title: &'static str,
    detail: String,
    /// Boxed: answers are mostly none, and carry room for a problem.
    header: Option<Box<(HeaderName, HeaderValue)>>,
}

impl Problem {
    fn new(status: StatusCode, name: &'static str, title: &'static str, detail: impl Into<String>) -> Problem {
        Problem { status, name, title, detail: detail.into(), header: None }
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Problem {
        self.header = Some(Box::new((name, value)));
        self
    }

    pub(super) fn wrong(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "bad_request", "The request can't be understood", detail)
    }

    pub(super) fn wrong_shape(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "wrong_shape", "The body is not what is asked for", detail)
    }

    pub(super) fn unauthorized(given: bool) -> Problem {
        let (detail, challenge) = match given {
            false => ("send a key of `api.keys` as `Authorization: Bearer …`", "Bearer realm=\"usher\""),
            true => ("the key is none of `api.keys`", "Bearer realm=\"usher\", error=\"invalid_token\""),
        };
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "A key is needed", detail)
            .with(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    pub(super) fn scope(scope: &'static str) -> Problem {
        let challenge = format!("Bearer realm=\"usher\", error=\"insufficient_scope\", scope=\"{scope}\"");
        Problem::new(
            StatusCode::FORBIDDEN,
            "insufficient_scope",
            "The key may not do this",
            format!("the key's `can` lacks `{scope}`"),
        )
        .with(WWW_AUTHENTICATE, HeaderValue::from_str(&challenge).expect("it is ASCII"))
    }

    pub(super) fn foreign(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, "foreign", "Without keys only this machine may ask", detail)
    }

    pub(super) fn no_route(path: &str) -> Problem {
        let path: String = path.chars().take(200).collect();
        Problem::new(StatusCode::NOT_FOUND, "not_found", "There is nothing here", format!("no route `{path}`"))
    }

    pub(super) fn unknown(what: &str, id: &str, known: impl Iterator<Item = impl AsRef<str>>) -> Problem {
        let id: String = id.chars().take(200).collect();
        let known: Vec<String> = known.take(20).map(|id| format!("`{}`", id.as_ref())).collect();
        let (name, title) = match what {
            "model" => ("unknown_model", "The job has no such model"),
            "source" => ("unknown_source", "The job has no such source"),
            _ => ("unknown_audience", "The job has no such audience"),
        };
        let detail = format!("no {what} `{id}`; there are {}", known.join(", "));
        Problem::new(StatusCode::NOT_FOUND, name, title, detail)
    }

    pub(super) fn method(allow: &'static str) -> Problem {
        Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "The route has no such method",
            "see the header `Allow`",
        )
        .with(ALLOW, HeaderValue::from_static(allow))
    }

    /// As [`Problem::method`], where the router knows what is allowed.
    pub(super) fn method_of_route() -> Problem {
        Problem { header: None, ..Problem::method("") }
    }

    pub(super) fn too_large(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "The request is too large", detail)
    }

    pub(super) fn media_type() -> Problem {
        Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "The body's type is not known",
            "send JSON with `Content-Type: application/json`",
        )
    }

    pub(super) fn slow_body() -> Problem {
        Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "slow_request",
            "The request came too slowly",
            "the body did not come",
        )
    }

    pub(super) fn rate(seconds: u64) -> Problem {
        Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limited",
            "Too many requests",
            "the key asks more often than `api.rate_limit`",
        )
        .with(RETRY_AFTER, HeaderValue::from(seconds))
    }

    pub(super) fn not_yet(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "The job can't answer now", detail)
            .with(RETRY_AFTER, HeaderValue::from(1))
    }

    pub(super) fn not_reflected(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::GATEWAY_TIMEOUT, "not_reflected", "The event is not reflected yet", detail)
    }

    pub(super) fn peer(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_GATEWAY, "peer", "Another process of the job does not answer", detail)
    }

    pub(super) fn circle() -> Problem {
        Problem::new(
            StatusCode::LOOP_DETECTED,
            "loop",
            "Processes disagree on who owns the key",
            "a forwarded request was to be forwarded again; do all processes run the same job with the same host file?",
        )
    }
}

impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Problem {
        match error {
            ApiError::NotFound(detail) => {
                Problem::new(StatusCode::NOT_FOUND, "not_found", "There is nothing here", detail)
            }
            ApiError::Wrong(detail) => Problem::wrong(detail),
            ApiError::Conflict(detail) => Problem::new(StatusCode::CONFLICT, "conflict", "Not now", detail),
            ApiError::Unavailable(detail) => Problem::not_yet(detail),
        }
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Problem {
        Problem::wrong(format!("the path can't be read: {}", rejection.body_text()))
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Problem {
        Problem::wrong(rejection.body_text())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> axum::response::Response {
        let body = ProblemBody {
            kind: format!("urn:usher:problem:{}", self.name),
            title: self.title.to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
        };
        let body = serde_json::to_vec(&body).expect("strings and numbers have a JSON form");
        let mut response = Response::new(body.into());
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some((name, value)) = self.header.map(|header| *header) {
            response.headers_mut().insert(name, value);
        }
        response
    }
}
