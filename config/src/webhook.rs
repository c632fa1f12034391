//! A destination by HTTP, as a value.
//!
//! Its url, secrets and headers keep their `${VAR}`: they are read when the sync is opened, and never shown. What can be wrong
//! with them (a scheme, a host in a template, a secret that is none) `usher-connectors` finds, which has the variables.

use crate::{Place, Rate, Region, Secret, Text, VendorApi, VendorTarget};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A destination that changes are sent to by HTTP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WebhookTarget {
    /// Where requests go. Path and query may have templates.
    pub url: PlacedSecret,
    /// What signs requests. If empty, nothing is signed.
    pub secrets: Vec<PlacedSecret>,
    /// The method.
    pub method: HttpMethod,
    /// Headers of each request, by name.
    pub headers: BTreeMap<String, PlacedSecret>,
    /// A template of a change's body; `None`: its message.
    pub body: Option<Text>,
    /// ms from the start of a request to the end of its answer.
    pub timeout: u64,
    /// Requests on their way at the same time.
    pub concurrency: u32,
    /// Requests in a unit of time; `None`: any number.
    pub rate: Option<Rate>,
    /// How changes are put together; `None`: one change a request, at once.
    pub batch: Option<Batch>,
    /// When an attempt is made again.
    pub retry: Retry,
    /// How long a change waits at most, ms from its commit.
    pub keep: u64,
    /// How much of the ledger waits at most, bytes.
    pub keep_bytes: u64,
    /// What is sent after an outage.
    pub mode: WebhookMode,
    /// Whether bodies are compressed.
    pub gzip: bool,
    /// A file of certificates, in PEM, that sign the destination's; relative to the job's folder. `None`: the system's.
    pub ca: Option<Text>,
    /// Whether destinations in private networks are refused.
    pub deny_private: bool,
    /// Whether `http` is allowed to other machines than this one.
    pub allow_http: bool,
    /// Of a destination by name, whose API it is; `None`: a webhook.
    pub vendor: Option<VendorTarget>,
}

/// A secret, and its place. Equal where the secret is, wherever the file has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlacedSecret {
    /// The secret.
    pub secret: Secret,
    /// Its place.
    pub place: Place,
}

impl PartialEq for PlacedSecret {
    fn eq(&self, other: &PlacedSecret) -> bool {
        self.secret == other.secret
    }
}

/// How changes are put together in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Changes at most.
    pub changes: u32,
    /// Bytes of the body at most; a single change may be larger.
    pub bytes: u64,
    /// ms that a change waits for others at most.
    pub wait: u64,
}

/// When an attempt is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// ms to the first retry at most; doubled each time.
    pub first: u64,
    /// ms to any retry at most.
    pub most: u64,
}

/// The method of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum HttpMethod {
    Post,
    Put,
    Patch,
    Delete,
}

impl HttpMethod {
    /// Returns its name in requests.
    pub fn name(self) -> &'static str {
        match self {
            HttpMethod::Post => "POST",
            HttpMethod::Put => "PUT",
            HttpMethod::Patch => "PATCH",
            HttpMethod::Delete => "DELETE",
        }
    }
}

/// What is sent after an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WebhookMode {
    /// Every change.
    Changes,
    /// What differs from what the destination holds.
    State,
}

impl WebhookTarget {
    /// Returns the key of the destination.
    pub fn name(&self) -> &'static str {
        use crate::schema::{AnyKey, destination};
        self.vendor.as_ref().map_or(destination::WEBHOOK.name(), |vendor| vendor.api.name())
    }

    /// Returns its secrets, each with its path behind the [key](Self::name) of the destination. The vendor's own host is none.
    pub fn secrets(&self) -> Vec<(String, &Secret)> {
        use crate::schema::{AnyKey, vendor, webhook as keys};
        let key = self.vendor.as_ref().map(|target| {
            let name = match target.api {
                VendorApi::Segment { .. } | VendorApi::Rudderstack { .. } => vendor::WRITE_KEY.name(),
                _ => vendor::API_KEY.name(),
            };
            (name.to_owned(), &target.key.secret)
        });
        let is_own_host = self.vendor.as_ref().is_some_and(|target| {
            [Region::Us, Region::Eu].into_iter().any(|region| target.api.host(region) == Some(&self.url.secret.0[..]))
        });
        let url = (!is_own_host).then(|| (keys::URL.name().to_owned(), &self.url.secret));
        let many = self.secrets.len() > 1;
        let secrets = self.secrets.iter().enumerate().map(move |(at, secret)| {
            let name = keys::SECRET.name();
            (if many { format!("{name}[{at}]") } else { name.to_owned() }, &secret.secret)
        });
        let headers = self.headers.iter().map(|(name, value)| {
            let path = [keys::HEADERS.name(), &crate::path::write_name(name)].join(".");
            (path, &value.secret)
        });
        url.into_iter().chain(key).chain(secrets).chain(headers).collect()
    }
}
