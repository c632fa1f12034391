//! Authorization: which requests are allowed, and how often.
//!
//! Promises: the SHA-256 of a token is compared with that of every key, in constant time, so that neither the length of a
//! token nor the number of its right characters can be measured. Without keys, `Host` and `Origin` must name this machine: a web
//! page whose host name was pointed at this machine names its own host there. Refuses: requests without a key of the job
//! (401), without its scope (403), too many of them (429).

use crate::options::Key;
use crate::problem::Problem;
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, Uri};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::num::NonZeroU32;
use subtle::ConstantTimeEq;
use utoipa::ToSchema;

/// Routes that need no key.
pub(crate) const OPEN: [&str; 3] = ["/healthz", "/readyz", "/"];

/// The route of the files of the console, which need no key either.
pub(crate) const CONSOLE_FILE: &str = "/console/{version}/{file}";

/// Returns whether a path needs no key.
pub(crate) fn is_open(path: &str) -> bool {
    OPEN.contains(&path) || path.starts_with("/console/")
}

/// What the key of a request allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Access {
    /// To read.
    read: bool,
    /// To change something.
    admin: bool,
}

/// What a request needs a key for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// To read.
    Read,
    /// To change something.
    Admin,
}

/// The keys of the job and the rates of their use.
pub(crate) struct Auth {
    keys: Vec<HashedKey>,
    /// The rate of all requests, if there are no keys.
    limiter: Option<DefaultDirectRateLimiter>,
    clock: DefaultClock,
}

struct HashedKey {
    /// SHA-256 of the token.
    digest: [u8; 32],
    read: bool,
    admin: bool,
    limiter: Option<DefaultDirectRateLimiter>,
}

impl Auth {
    /// Returns the check of requests against `keys`, each of which may make `rate_limit` requests per second.
    pub(crate) fn new(keys: &[Key], rate_limit: Option<NonZeroU32>) -> Auth {
        let limiter = || rate_limit.map(|limit| RateLimiter::direct(Quota::per_second(limit)));
        let hashed = |key: &Key| HashedKey {
            digest: Sha256::digest(key.token.as_bytes()).into(),
            read: key.read,
            admin: key.admin,
            limiter: limiter(),
        };
        Auth { keys: keys.iter().map(hashed).collect(), limiter: limiter(), clock: DefaultClock::default() }
    }

    fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Checks that a request to a server without keys comes from this machine.
    ///
    /// # Errors
    /// 403 if there are no keys and `Host` or `Origin` names another machine.
    pub(crate) fn check_local(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        if self.has_keys() {
            return Ok(());
        }
        let host = match uri.authority() {
            Some(authority) => Some(authority.as_str().as_bytes()),
            None => headers.get(HOST).map(|host| host.as_bytes()),
        };
        if host.is_some_and(|host| !is_local(host)) {
            return Err(Problem::foreign("`Host` names another machine; use `localhost`, or give `api.keys`"));
        }
        let origin = headers.get(ORIGIN).map(|origin| origin.as_bytes());
        let of_a_page = |origin: &[u8]| {
            let host = origin.strip_prefix(b"http://").or(origin.strip_prefix(b"https://"));
            !host.is_some_and(is_local)
        };
        if origin.is_some_and(of_a_page) {
            return Err(Problem::foreign("`Origin` is a page of another machine; give `api.keys`"));
        }
        Ok(())
    }

    /// Returns the key of a request.
    ///
    /// # Errors
    /// 401 without a key of the job.
    fn key(&self, headers: &HeaderMap) -> Result<&HashedKey, Problem> {
        let token = headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
        let Some(token) = token else { return Err(Problem::unauthorized(false)) };
        let digest: [u8; 32] = Sha256::digest(token).into();
        let mut found = None;
        for key in &self.keys {
            if bool::from(key.digest.ct_eq(&digest)) {
                found = Some(key);
            }
        }
        found.ok_or_else(|| Problem::unauthorized(true))
    }

    /// Returns what the key of a request allows; without keys, everything.
    pub(crate) fn access(&self, headers: &HeaderMap) -> Access {
        if !self.has_keys() {
            return Access { read: true, admin: true };
        }
        self.key(headers)
            .map_or(Access { read: false, admin: false }, |key| Access { read: key.read, admin: key.admin })
    }

    /// Checks that a request has a key for `scope` and that the key is within its rate.
    ///
    /// # Errors
    /// 401 without a key of the job, 403 if the key lacks the scope, 429 above the rate.
    pub(crate) fn check(&self, headers: &HeaderMap, scope: Scope) -> Result<(), Problem> {
        let limiter = if self.has_keys() {
            let key = self.key(headers)?;
            match scope {
                Scope::Read if !key.read => return Err(Problem::scope("read")),
                Scope::Admin if !key.admin => return Err(Problem::scope("admin")),
                Scope::Read | Scope::Admin => &key.limiter,
            }
        } else {
            &self.limiter
        };
        let Some(limiter) = limiter else { return Ok(()) };
        limiter.check().map_err(|not_until| {
            let wait = not_until.wait_time_from(self.clock.now());
            Problem::rate(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
        })
    }
}

/// Returns the token of an `Authorization` header; `None` if the scheme is not `Bearer` or there is no token.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let space = value.iter().position(|byte| *byte == b' ')?;
    let (scheme, token) = value.split_at(space);
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer") && !token.is_empty()).then_some(token)
}

/// Returns whether a `host` or `host:port` is `localhost` or a loopback address.
fn is_local(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(address, _)| address),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_local() {
        for host in ["localhost", "LocalHost:8080", "127.0.0.1:1", "127.8.9.1", "[::1]:8080", "[::1]"] {
            assert!(is_local(host.as_bytes()), "{host}");
        }
        for host in
            ["", "example.com", "localhost.example.com:80", "10.0.0.1", "127.0.0.1.example.com", "[::2]:1", "[::1"]
        {
            assert_eq!(is_local(host.as_bytes()), host == "[::1", "{host}");
        }
    }

    #[test]
    fn a_bearer_is_a_scheme_and_a_token() {
        assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bearer  abc "), Some(&b"abc"[..]));
        for none in [&b"Bearer"[..], b"Bearer ", b"Basic abc", b"abc", b"Bearerabc"] {
            assert_eq!(bearer(none), None);
        }
    }
}
