//! Asks other processes of the job, with the caller's own key, and hands on what they say: the one that owns a key, or each for its part.
//!
//! A request is forwarded once: one that comes with `Usher-Forwarded` and would go on is a disagreement on who owns what (508).

use crate::problem::Problem;
use crate::routes::{AS_OF, RECOVERING, parse_time};
use axum::body::{Body, Bytes};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde_json::value::RawValue;
use std::time::Duration;

const FORWARDED: HeaderName = HeaderName::from_static("usher-forwarded");

/// How long a peer may take to accept a connection: it is on the same network.
const CONNECT: Duration = Duration::from_secs(2);

/// Headers of a peer's answer that are handed on.
const HANDED_ON: [HeaderName; 5] = [CONTENT_TYPE, AS_OF, RECOVERING, WWW_AUTHENTICATE, RETRY_AFTER];

pub(crate) struct Forward {
    client: reqwest::Client,
}

impl Forward {
    pub(crate) fn new() -> Forward {
        let client = super::http_client().connect_timeout(CONNECT).build();
        Forward { client: client.expect("a client without TLS needs nothing of the system") }
    }

    /// The answer of `peer`, a `host:port`, to the same request.
    pub(crate) async fn get(
        &self,
        peer: &str,
        uri: &Uri,
        headers: &HeaderMap,
        patience: Duration,
    ) -> Result<Response, Problem> {
        let theirs = send(self.client.get(url(peer, uri)).timeout(patience), peer, headers).await?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = theirs.status();
        for name in &HANDED_ON {
            if let Some(value) = theirs.headers().get(name) {
                response.headers_mut().insert(name.clone(), value.clone());
            }
        }
        *response.body_mut() = theirs.bytes().await.map_err(|error| gone(peer, &error))?.into();
        Ok(response)
    }

    /// What `peer` answers for its part to the same request, the time of it, if it has one, and whether the peer is recovering.
    pub(crate) async fn part(
        &self,
        peer: &str,
        uri: &Uri,
        headers: &HeaderMap,
        patience: Duration,
    ) -> Result<(Bytes, Option<u64>, bool), Problem> {
        let theirs = good(peer, send(self.client.get(url(peer, uri)).timeout(patience), peer, headers).await?)?;
        let (time, recovering) = (as_of(&theirs), theirs.headers().contains_key(RECOVERING));
        let bytes = theirs.bytes().await.map_err(|error| gone(peer, &error))?;
        Ok((bytes, time, recovering))
    }

    /// A stream of `peer`'s part, which goes on after its event `place`, or begins now. `patience` is for its beginning.
    pub(crate) async fn follow(
        &self,
        peer: &str,
        uri: &Uri,
        headers: &HeaderMap,
        place: Option<&str>,
        patience: Duration,
    ) -> Result<reqwest::Response, Problem> {
        let mut request = self.client.get(url(peer, uri));
        if let Some(place) = place {
            request = request.header("last-event-id", place);
        }
        match tokio::time::timeout(patience, send(request, peer, headers)).await {
            Ok(theirs) => good(peer, theirs?),
            Err(_) => Err(Problem::peer(format!("`{peer}` does not answer in time"))),
        }
    }

    /// The answers of `peer` to a batch, their time, and whether the peer is recovering.
    pub(crate) async fn lookup_all(
        &self,
        peer: &str,
        uri: &Uri,
        headers: &HeaderMap,
        body: String,
        patience: Duration,
    ) -> Result<(Vec<Box<RawValue>>, u64, bool), Problem> {
        let request = self.client.post(url(peer, uri)).header(CONTENT_TYPE, "application/json").body(body);
        let theirs = good(peer, send(request.timeout(patience), peer, headers).await?)?;
        let time =
            as_of(&theirs).ok_or_else(|| Problem::peer(format!("`{peer}` does not say what its answer is as of")))?;
        let recovering = theirs.headers().contains_key(RECOVERING);
        let bytes = theirs.bytes().await.map_err(|error| gone(peer, &error))?;
        let answers = serde_json::from_slice(&bytes).map_err(|_| Problem::peer(format!("`{peer}` answers no list")))?;
        Ok((answers, time, recovering))
    }
}

fn url(peer: &str, uri: &Uri) -> String {
    format!("http://{peer}{}", uri.path_and_query().map_or("/", |path| path.as_str()))
}

/// Whether another process asks: it wants the part of this one.
pub(crate) fn is_forwarded(headers: &HeaderMap) -> bool {
    headers.contains_key(FORWARDED)
}

fn as_of(theirs: &reqwest::Response) -> Option<u64> {
    theirs.headers().get(AS_OF).and_then(|value| value.to_str().ok()).and_then(parse_time)
}

/// An answer that can be used; what will be one later says so here too.
fn good(peer: &str, theirs: reqwest::Response) -> Result<reqwest::Response, Problem> {
    match theirs.status() {
        StatusCode::OK => Ok(theirs),
        StatusCode::SERVICE_UNAVAILABLE => Err(Problem::not_yet(format!("`{peer}` can't answer now"))),
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
    request.send().await.map_err(|error| gone(peer, &error))
}

fn gone(peer: &str, error: &reqwest::Error) -> Problem {
    let how = if error.is_timeout() { "in time" } else { "" };
    Problem::peer(format!("`{peer}` does not answer {how}").trim_end())
}
