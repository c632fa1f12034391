//! Requests to one other process of the job, with the client's own key: the owner of a key, or each process for its part.
//!
//! Promises: a request is forwarded once. One that carries `Usher-Forwarded` and would be forwarded again is refused (508):
//! the processes disagree on who owns the key.

use crate::headers::{AS_OF, RECOVERING, parse_time};
use crate::problem::Problem;
use axum::body::{Body, Bytes};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde_json::value::RawValue;
use std::time::Duration;
use usher_core::membership_index::AsOf;

/// Marks a request that comes from another process.
const FORWARDED: HeaderName = HeaderName::from_static("usher-forwarded");

/// How long a process may take to accept a connection: it is on the same network.
const CONNECT: Duration = Duration::from_secs(2);

/// Headers of another process's answer that the client gets.
const PASSED_ON: [HeaderName; 5] = [CONTENT_TYPE, AS_OF, RECOVERING, WWW_AUTHENTICATE, RETRY_AFTER];

/// Returns the builder of an HTTP client for the API of this or another process. It uses no proxy.
pub fn http_client() -> reqwest::ClientBuilder {
    // The client needs a provider of TLS even if it speaks plain HTTP only. A second installation changes nothing.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy()
}

/// The answer of a process for its part of the job.
pub(super) struct PartReply {
    pub(super) body: Bytes,
    /// `Usher-As-Of`, in ms since the epoch; `None` if the process has no answer yet.
    pub(super) time: Option<u64>,
    /// Whether the answer comes from the ledgers.
    pub(super) recovering: bool,
}

/// The answers of a process to a batch of ids.
pub(crate) struct BatchReply {
    /// In the order of the ids.
    pub(crate) answers: Vec<Box<RawValue>>,
    /// The time of all of them.
    pub(crate) as_of: AsOf,
}

/// The HTTP client for the other processes.
pub(super) struct Forward {
    client: reqwest::Client,
}

impl Forward {
    /// Returns a client without connections.
    pub(super) fn new() -> Forward {
        let client = http_client().connect_timeout(CONNECT).build();
        Forward { client: client.expect("a client without TLS needs nothing of the system") }
    }

    /// Returns the answer of `peer`, a `host:port`, to the same request, whatever its status.
    ///
    /// # Errors
    /// 508 if the request was forwarded already, 502 if `peer` does not answer within `patience`.
    pub(super) async fn get(
        &self,
        peer: &str,
        uri: &Uri,
        headers: &HeaderMap,
        patience: Duration,
    ) -> Result<Response, Problem> {
        passed_on(peer, send(self.client.get(url(peer, uri)).timeout(patience), peer, headers).await?).await
    }

    /// Returns the answer of `peer` to the same request with a body of JSON, whatever its status.
    ///
    /// # Errors
    /// As [`Forward::get`].
    pub(super) async fn post(
        &self,
        peer: &str,
        uri: &Uri,
        headers: &HeaderMap,
        body: Bytes,
        patience: Duration,
    ) -> Result<Response, Problem> {
        let mut request = self.client.post(url(peer, uri)).timeout(patience);
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        passed_on(peer, send(request, peer, headers).await?).await
    }

    /// Returns the answer of `peer` to the same request with a body of bytes, whatever its status and however long it takes.
    ///
    /// # Errors
    /// 508 if the request was forwarded already, 502 if `peer` can't be reached.
    pub(super) async fn post_bytes(
        &self,
        peer: &str,
        uri: &Uri,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response, Problem> {
        let request = self.client.post(url(peer, uri)).header(CONTENT_TYPE, "application/octet-stream").body(body);
        passed_on(peer, send(request, peer, headers).await?).await
    }

    /// Returns the answer of `peer` to the same request, for its part of the job.
    ///
    /// # Errors
    /// As [`Forward::get`]; 502, 503 or 429 if the answer is not 200.
    pub(super) async fn part(
        &self,
        peer: &str,
        uri: &Uri,
        headers: &HeaderMap,
        patience: Duration,
    ) -> Result<PartReply, Problem> {
        let reply = success(peer, send(self.client.get(url(peer, uri)).timeout(patience), peer, headers).await?)?;
        let (time, recovering) = (as_of(&reply), reply.headers().contains_key(RECOVERING));
        let body = reply.bytes().await.map_err(|error| no_reply(peer, &error))?;
        Ok(PartReply { body, time, recovering })
    }

    /// Returns the stream of `peer`'s changes after the event with the id `last_id`; `None`: from now on. `patience` bounds
    /// the wait for the head of the answer only.
    ///
    /// # Errors
    /// As [`Forward::part`].
    pub(super) async fn follow(
        &self,
        peer: &str,
        uri: &Uri,
        headers: &HeaderMap,
        last_id: Option<&str>,
        patience: Duration,
    ) -> Result<reqwest::Response, Problem> {
        let mut request = self.client.get(url(peer, uri));
        if let Some(last_id) = last_id {
            request = request.header("last-event-id", last_id);
        }
        match tokio::time::timeout(patience, send(request, peer, headers)).await {
            Ok(reply) => success(peer, reply?),
            Err(_) => Err(Problem::peer(format!("`{peer}` does not answer in time"))),
        }
    }

    /// Returns the answers of `peer` to a batch of ids, the JSON of which is `body`.
    ///
    /// # Errors
    /// As [`Forward::part`]; 502 if the answer has no time or is not a list.
    pub(super) async fn lookup_all(
        &self,
        peer: &str,
        uri: &Uri,
        headers: &HeaderMap,
        body: String,
        patience: Duration,
    ) -> Result<BatchReply, Problem> {
        let request = self.client.post(url(peer, uri)).header(CONTENT_TYPE, "application/json").body(body);
        let reply = success(peer, send(request.timeout(patience), peer, headers).await?)?;
        let time =
            as_of(&reply).ok_or_else(|| Problem::peer(format!("the answer of `{peer}` has no `Usher-As-Of`")))?;
        let recovering = reply.headers().contains_key(RECOVERING);
        let bytes = reply.bytes().await.map_err(|error| no_reply(peer, &error))?;
        let answers = serde_json::from_slice(&bytes)
            .map_err(|_| Problem::peer(format!("the answer of `{peer}` is not a list")))?;
        Ok(BatchReply { answers, as_of: AsOf { time, recovering } })
    }
}

/// Returns the answer of another process as this one's.
async fn passed_on(peer: &str, reply: reqwest::Response) -> Result<Response, Problem> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = reply.status();
    for name in &PASSED_ON {
        if let Some(value) = reply.headers().get(name) {
            response.headers_mut().insert(name.clone(), value.clone());
        }
    }
    *response.body_mut() = reply.bytes().await.map_err(|error| no_reply(peer, &error))?.into();
    Ok(response)
}

fn url(peer: &str, uri: &Uri) -> String {
    format!("http://{peer}{}", uri.path_and_query().map_or("/", |path| path.as_str()))
}

/// Returns whether another process sent the request: it wants the part of this one only.
pub(crate) fn is_forwarded(headers: &HeaderMap) -> bool {
    headers.contains_key(FORWARDED)
}

fn as_of(reply: &reqwest::Response) -> Option<u64> {
    reply.headers().get(AS_OF).and_then(|value| value.to_str().ok()).and_then(parse_time)
}

/// Returns the answer if it is 200. What the client may retry (503, 429) stays so; the rest is 502.
fn success(peer: &str, reply: reqwest::Response) -> Result<reqwest::Response, Problem> {
    match reply.status() {
        StatusCode::OK => Ok(reply),
        StatusCode::SERVICE_UNAVAILABLE => Err(Problem::unavailable(format!("`{peer}` is not available yet"))),
        StatusCode::TOO_MANY_REQUESTS => Err(Problem::rate(1)),
        status => Err(Problem::peer(format!("`{peer}` answers {status}"))),
    }
}

async fn send(request: reqwest::RequestBuilder, peer: &str, headers: &HeaderMap) -> Result<reqwest::Response, Problem> {
    if is_forwarded(headers) {
        return Err(Problem::circle());
    }
    let mut request = request.header(FORWARDED, "1");
    if let Some(key) = headers.get(AUTHORIZATION) {
        request = request.header(AUTHORIZATION, key);
    }
    request.send().await.map_err(|error| no_reply(peer, &error))
}

fn no_reply(peer: &str, error: &reqwest::Error) -> Problem {
    let how = if error.is_timeout() { "in time" } else { "" };
    Problem::peer(format!("`{peer}` does not answer {how}").trim_end())
}
