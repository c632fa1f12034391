//! Problems: the errors of the API, as `application/problem+json` (RFC 9457) with `type`, `title`, `status` and `detail`.
//!
//! `type` is `urn:usher:problem:NAME`; names are stable. `title` is the same for all problems of one name, `detail` describes
//! this one and names what the client asked for. Refuses: to show a key of the API.

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use usher_core::api::ApiError;
use utoipa::ToSchema;

/// Characters of a client's text that a problem repeats at most.
const SHOWN_CHARS: usize = 200;

/// Ids that a problem lists at most.
const SHOWN_IDS: usize = 20;

/// The body of a problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// `urn:usher:problem:NAME`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem, in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time.
    pub detail: String,
}

/// A problem, as handlers return it. Each constructor is one `type`.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    name: &'static str,
    title: &'static str,
    detail: String,
    /// A header of the answer. Boxed: most answers are not problems, and each has room for one.
    header: Option<Box<(HeaderName, HeaderValue)>>,
}

impl Problem {
    fn new(status: StatusCode, name: &'static str, title: &'static str, detail: impl Into<String>) -> Problem {
        Problem { status, name, title, detail: detail.into(), header: None }
    }

    fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Problem {
        self.header = Some(Box::new((name, value)));
        self
    }

    /// 400: the request is malformed.
    pub(crate) fn wrong(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "bad_request", "The request can't be understood", detail)
    }

    /// 422: the body is JSON of another shape.
    pub(crate) fn wrong_shape(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "wrong_shape", "The body has the wrong shape", detail)
    }

    /// 401: the request has no key, or, if a key was `given`, one that the job does not have.
    pub(crate) fn unauthorized(given: bool) -> Problem {
        let (detail, challenge) = match given {
            false => ("send a key of `api.keys` as `Authorization: Bearer …`", "Bearer realm=\"usher\""),
            true => ("the key is not one of `api.keys`", "Bearer realm=\"usher\", error=\"invalid_token\""),
        };
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "A key is required", detail)
            .with_header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    /// 403: the key lacks `scope`.
    pub(crate) fn scope(scope: &'static str) -> Problem {
        let challenge = format!("Bearer realm=\"usher\", error=\"insufficient_scope\", scope=\"{scope}\"");
        Problem::new(
            StatusCode::FORBIDDEN,
            "insufficient_scope",
            "The key does not allow this request",
            format!("`can` of the key lacks `{scope}`"),
        )
        .with_header(WWW_AUTHENTICATE, HeaderValue::from_str(&challenge).expect("it is ASCII"))
    }

    /// 403: there are no keys, and the request comes from another machine.
    pub(crate) fn foreign(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, "foreign", "Without keys, only this machine may use the API", detail)
    }

    /// 404: no route has this path.
    pub(crate) fn no_route(path: &str) -> Problem {
        let path: String = path.chars().take(SHOWN_CHARS).collect();
        Problem::new(StatusCode::NOT_FOUND, "not_found", "Not found", format!("no route `{path}`"))
    }

    /// 404: the job has no `what` (`model`, `source`, `sync` or `audience`) with this id; it has those in `known`.
    pub(crate) fn unknown(what: &str, id: &str, known: impl Iterator<Item = impl AsRef<str>>) -> Problem {
        let id: String = id.chars().take(SHOWN_CHARS).collect();
        let known: Vec<String> = known.take(SHOWN_IDS).map(|id| format!("`{}`", id.as_ref())).collect();
        let (name, title) = match what {
            "model" => ("unknown_model", "The job has no such model"),
            "source" => ("unknown_source", "The job has no such source"),
            "sync" => ("unknown_sync", "The job has no such sync"),
            _ => ("unknown_audience", "The job has no such audience"),
        };
        let detail = format!("no {what} `{id}`; there are {}", known.join(", "));
        Problem::new(StatusCode::NOT_FOUND, name, title, detail)
    }

    /// 405: the route has no such method. The router adds the header `Allow`.
    pub(crate) fn method() -> Problem {
        Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "The route has no such method",
            "the header `Allow` has the methods of the route",
        )
    }

    /// 413: the body or the batch is too large.
    pub(crate) fn too_large(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "The request is too large", detail)
    }

    /// 415: the body is not declared as JSON.
    pub(crate) fn media_type() -> Problem {
        Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "The type of the body is not supported",
            "send JSON with `Content-Type: application/json`",
        )
    }

    /// 408: the body did not arrive in time.
    pub(crate) fn slow_body() -> Problem {
        Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "slow_request",
            "The request arrived too slowly",
            "the body did not arrive in time",
        )
    }

    /// 429: above the rate; retry after `seconds`.
    pub(crate) fn rate(seconds: u64) -> Problem {
        Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limited",
            "Too many requests",
            "the key makes more requests than `api.rate_limit` allows",
        )
        .with_header(RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// 503: the job or the server can't answer now; retry after a second.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "The job can't answer now", detail)
            .with_header(RETRY_AFTER, HeaderValue::from(1))
    }

    /// 503: there is no membership to answer from yet.
    pub(crate) fn no_answer() -> Problem {
        Problem::unavailable("the job is not live yet, and there is no ledger to answer from")
    }

    /// 504: the event of `after` is not reflected in time.
    pub(crate) fn not_reflected(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::GATEWAY_TIMEOUT, "not_reflected", "The event is not reflected yet", detail)
    }

    /// 502: another process does not answer, or not as expected.
    pub(crate) fn peer(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_GATEWAY, "peer", "Another process of the job does not answer", detail)
    }

    /// 508: a forwarded request would be forwarded again.
    pub(crate) fn circle() -> Problem {
        Problem::new(
            StatusCode::LOOP_DETECTED,
            "loop",
            "Processes disagree on the owner of the key",
            "a forwarded request would be forwarded again; check that all processes run the same job with the same host file",
        )
    }
}

impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Problem {
        match error {
            ApiError::NotFound(detail) => Problem::new(StatusCode::NOT_FOUND, "not_found", "Not found", detail),
            ApiError::Wrong(detail) => Problem::wrong(detail),
            ApiError::Conflict(detail) => {
                Problem::new(StatusCode::CONFLICT, "conflict", "The job can't do this now", detail)
            }
            ApiError::Unavailable(detail) => Problem::unavailable(detail),
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
