//! Asks the process that owns a key, with the caller's own key, and hands on what it says.
//!
//! A request is forwarded once: one that comes with `Usher-Forwarded` and would go on is a disagreement on who owns what (508).

use super::problem::Problem;
use super::routes::{AS_OF, RECOVERING, parse_time};
use axum::body::Body;
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

pub(super) struct Forward {
    client: reqwest::Client,
}

impl Forward {
    pub(super) fn new() -> Forward {
        let client = reqwest::Client::builder().no_proxy().connect_timeout(CONNECT).build();
        Forward { client: client.expect("a client without TLS needs nothing of the system") }
    }

    /// The answer of `peer`, a `host:port`, to the same request.
    pub(super) async fn get(
        &self,
        peer: &str,
        uri: &Uri,
        headers: &HeaderMap,
        patience: Duration,
    ) -> Result<Response, Problem> {
        let request = self.client.get(url(peer, uri));
        let theirs = send(request, peer, headers, patience).await?;
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

    /// The answers of `peer` to a batch, their time, and whether the peer is recovering.
    pub(super) async fn lookup_all(
        &self,
        peer: &str,
        uri: &Uri,
        headers: &HeaderMap,
        body: String,
        patience: Duration,
    ) -> Result<(Vec<Box<RawValue>>, u64, bool), Problem> {
        let request = self.client.post(url(peer, uri)).header(CONTENT_TYPE, "application/json").body(body);
        let theirs = send(request, peer, headers, patience).await?;
        if theirs.status() != StatusCode::OK {
            return Err(Problem::peer(format!("`{peer}` answers {}", theirs.status())));
        }
        let time = theirs.headers().get(AS_OF).and_then(|value| value.to_str().ok()).and_then(parse_time);
        let time = time.ok_or_else(|| Problem::peer(format!("`{peer}` does not say what its answer is as of")))?;
        let recovering = theirs.headers().contains_key(RECOVERING);
        let bytes = theirs.bytes().await.map_err(|error| gone(peer, &error))?;
        let answers = serde_json::from_slice(&bytes).map_err(|_| Problem::peer(format!("`{peer}` answers no list")))?;
        Ok((answers, time, recovering))
    }
}

fn url(peer: &str, uri: &Uri) -> String {
    format!("http://{peer}{}", uri.path_and_query().map_or("/", |path| path.as_str()))
}

async fn send(
    request: reqwest::RequestBuilder,
    peer: &str,
    headers: &HeaderMap,
    patience: Duration,
) -> Result<reqwest::Response, Problem> {
    if headers.contains_key(FORWARDED) {
        return Err(Problem::circle());
    }
    let mut request = request.header(FORWARDED, "1").timeout(patience);
    if let Some(key) = headers.get(AUTHORIZATION) {
        request = request.header(AUTHORIZATION, key);
    }
    request.send().await.map_err(|error| gone(peer, &error))
}

fn gone(peer: &str, error: &reqwest::Error) -> Problem {
    let how = if error.is_timeout() { "in time" } else { "" };
    Problem::peer(format!("`{peer}` does not answer {how}").trim_end())
}
