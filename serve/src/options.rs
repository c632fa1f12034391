//! How the API is served: keys, bounds and time limits.

use crate::connections;
use crate::console::Console;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// Connections at most, whatever the system allows: each takes some 10 KiB.
const CONNECTIONS_MAX: usize = 20_000;

/// What the program was built from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Build {
    /// The version.
    pub version: String,
    /// The commit; empty if it is not known.
    pub commit: String,
    /// The features that are built in, separated by commas.
    pub features: String,
    /// The version of librdkafka.
    pub librdkafka: String,
}

/// How the API is served.
#[derive(Clone, Debug)]
pub struct Options {
    /// The keys that clients may use. Without keys, clients on this machine need none and others are refused.
    pub keys: Vec<Key>,
    /// Requests per second and key; `None` for no limit.
    pub rate_limit: Option<NonZeroU32>,
    /// How the console is served; `None` for no console.
    pub console: Option<Console>,
    /// Connections at most. Further ones are answered 503 and closed.
    pub connections: usize,
    /// How long a connection may be idle, take to send the headers of a request, or not read what was sent to it.
    pub idle: Duration,
    /// How long a body may take to arrive, and the job to answer.
    pub patience: Duration,
    /// Threads of the server.
    pub threads: usize,
    /// What the program was built from, for the metrics.
    pub build: Build,
}

/// A key of the API, with what it allows.
#[derive(Clone)]
pub struct Key {
    /// The bearer token that the client sends.
    pub token: String,
    /// Whether the key allows to read.
    pub read: bool,
    /// Whether the key allows to change something.
    pub admin: bool,
}

impl fmt::Debug for Key {
    /// Leaves the token out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key {{ token: …, read: {}, admin: {} }}", self.read, self.admin)
    }
}

impl Default for Options {
    /// Returns options without keys, with bounds that suit most jobs.
    fn default() -> Options {
        Options {
            keys: Vec::new(),
            rate_limit: None,
            console: Some(Console { actions: true }),
            connections: connections::affordable().min(CONNECTIONS_MAX),
            // Longer than the pools of common clients keep a connection unused, so that the client closes it.
            idle: Duration::from_secs(120),
            patience: Duration::from_secs(10),
            threads: 2,
            build: Build::default(),
        }
    }
}
