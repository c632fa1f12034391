//! The other processes of the job: requests that are forwarded to one of them, and answers that are gathered from all.
//!
//! A key has one owner among the processes; sizes and changes are spread over all of them. A client may ask any process:
//! [`Peers`] asks the others, with the client's own key.

pub(crate) mod forward;
pub(crate) mod gather;

pub use forward::http_client;

use crate::problem::Problem;
use axum::body::Bytes;
use axum::http::header::HeaderMap;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use forward::{BatchReply, Forward, is_forwarded};
use std::sync::Arc;
use std::time::Duration;
use usher_core::api::Api;
use usher_core::membership_index::MembershipIndex;

/// The other processes, as this one sees them.
pub(crate) struct Peers {
    index: Arc<MembershipIndex>,
    api: Arc<dyn Api>,
    forward: Forward,
    /// How long a process may take to answer.
    patience: Duration,
}

impl Peers {
    /// Returns the peers of the process with this index and API.
    pub(crate) fn new(index: Arc<MembershipIndex>, api: Arc<dyn Api>, patience: Duration) -> Peers {
        Peers { index, api, forward: Forward::new(), patience }
    }

    /// Forwards a request to `peer`, the owner of its key, or, while this process is not live, the process with the ledgers.
    ///
    /// # Errors
    /// 503 if this process is not live and the request would go round in a circle: processes go live one after the other, and
    /// for a moment each takes the other for the owner. 502 or 508 as [`Forward::get`].
    pub(crate) async fn ask_owner(
        &self,
        peer: &str,
        uri: &Uri,
        headers: &HeaderMap,
        patience: Duration,
    ) -> Result<Response, Problem> {
        let live = || self.index.as_of().is_some();
        if is_forwarded(headers) && !live() {
            return Err(Problem::no_answer());
        }
        let response = self.forward.get(peer, uri, headers, patience).await?;
        if response.status() == StatusCode::LOOP_DETECTED && !live() {
            return Err(Problem::no_answer());
        }
        Ok(response)
    }

    /// Returns the answer of `peer`, the process that delivers, to the same request.
    ///
    /// # Errors
    /// 502 or 508 as [`Forward::get`].
    pub(crate) async fn get(&self, peer: &str, uri: &Uri, headers: &HeaderMap) -> Result<Response, Problem> {
        self.forward.get(peer, uri, headers, self.patience).await
    }

    /// Returns the answer of `peer`, the process that delivers, to the same request with its body.
    ///
    /// # Errors
    /// As [`Peers::get`].
    pub(crate) async fn post(
        &self,
        peer: &str,
        uri: &Uri,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response, Problem> {
        self.forward.post(peer, uri, headers, body, self.patience).await
    }

    /// Returns the answer of `peer`, the first process, to a request for what the plan in `body` does.
    ///
    /// # Errors
    /// As [`Peers::get`], without a time limit for the answer.
    pub(crate) async fn diff(
        &self,
        peer: &str,
        uri: &Uri,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response, Problem> {
        self.forward.post_bytes(peer, uri, headers, body).await
    }

    /// Asks `peer` for the ids in `body`, a batch that it owns.
    ///
    /// # Errors
    /// As [`Forward::lookup_all`].
    pub(crate) async fn lookup_all(
        &self,
        peer: &str,
        uri: &Uri,
        headers: &HeaderMap,
        body: String,
    ) -> Result<BatchReply, Problem> {
        self.forward.lookup_all(peer, uri, headers, body, self.patience).await
    }
}
