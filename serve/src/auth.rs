//! Who may ask, and how often.
//!
//! A key is compared by its SHA-256, with every key of the job, in constant time: neither a token's length nor how much of it
//! is right can be measured. Without keys nothing but loopback listens, and requests must name it in `Host` and `Origin`: a page
//! of the web whose name was pointed at this machine names itself there.

use super::Key;
use super::problem::Problem;
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, Uri};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::num::NonZeroU32;
use subtle::ConstantTimeEq;

/// What a request needs a key for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Read,
    Admin,
}

/// Lets requests pass.
pub(super) struct Auth {
    keys: Vec<Known>,
    /// Of all, without keys.
    limiter: Option<DefaultDirectRateLimiter>,
    clock: DefaultClock,
}

struct Known {
    digest: [u8; 32],
    read: bool,
    admin: bool,
    limiter: Option<DefaultDirectRateLimiter>,
}

impl Auth {
    pub(super) fn new(keys: &[Key], rate_limit: Option<NonZeroU32>) -> Auth {
        let limiter = || rate_limit.map(|limit| RateLimiter::direct(Quota::per_second(limit)));
        let known = |key: &Key| Known {
            digest: Sha256::digest(key.token.as_bytes()).into(),
            read: key.read,
            admin: key.admin,
            limiter: limiter(),
        };
        Auth { keys: keys.iter().map(known).collect(), limiter: limiter(), clock: DefaultClock::default() }
    }

    /// Whether keys are asked for.
    pub(super) fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Refuses who may not ask, whatever they ask for.
    pub(super) fn local(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        if self.has_keys() {
            return Ok(());
        }
        let host = match uri.authority() {
            Some(authority) => Some(authority.as_str().as_bytes()),
            None => headers.get(HOST).map(|host| host.as_bytes()),
        };
        if host.is_some_and(|host| !is_local(host)) {
            return Err(Problem::foreign("`Host` names another machine; ask for `localhost`, or give `api.keys`"));
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

    /// Refuses who has no key for `scope`, or asks too often.
    pub(super) fn check(&self, headers: &HeaderMap, scope: Scope) -> Result<(), Problem> {
        let limiter = if self.has_keys() {
            let token = headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
            let Some(token) = token else { return Err(Problem::unauthorized(false)) };
            let digest: [u8; 32] = Sha256::digest(token).into();
            let mut found = None;
            for known in &self.keys {
                if bool::from(known.digest.ct_eq(&digest)) {
                    found = Some(known);
                }
            }
            let Some(known) = found else { return Err(Problem::unauthorized(true)) };
            match scope {
                Scope::Read if !known.read => return Err(Problem::scope("read")),
                Scope::Admin if !known.admin => return Err(Problem::scope("admin")),
                Scope::Read | Scope::Admin => &known.limiter,
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

/// The token of an `Authorization` header.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let space = value.iter().position(|byte| *byte == b' ')?;
    let (scheme, token) = value.split_at(space);
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer") && !token.is_empty()).then_some(token)
}

/// Whether a `host` or `host:port` is this machine's own name for itself.
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
