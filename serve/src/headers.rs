//! The headers of answers that carry time: `Usher-As-Of` and `Usher-Recovering`.
//!
//! `Usher-As-Of` is the time that an answer is as of, RFC 3339 in UTC with milliseconds. `Usher-Recovering: true` marks an
//! answer from the ledgers, given before the job is live.

use axum::body::Bytes;
use axum::http::header::{HeaderMap, HeaderName, HeaderValue};
use usher_core::membership_index::AsOf;

/// The time that an answer is as of.
pub(crate) const AS_OF: HeaderName = HeaderName::from_static("usher-as-of");

/// Present while the job recovers: the answer comes from the ledgers of the syncs.
pub(crate) const RECOVERING: HeaderName = HeaderName::from_static("usher-recovering");

/// Sets both headers for an answer as of `as_of`.
pub(crate) fn put_as_of(headers: &mut HeaderMap, as_of: AsOf) {
    headers.insert(AS_OF, time_header(as_of.time));
    if as_of.recovering {
        headers.insert(RECOVERING, HeaderValue::from_static("true"));
    }
}

/// Returns the header value of a time, given in ms since the epoch.
pub(crate) fn time_header(time: u64) -> HeaderValue {
    let mut text = Vec::with_capacity(24);
    usher_core::time::write_time(&mut text, time);
    HeaderValue::from_maybe_shared(Bytes::from(text)).expect("a time is ASCII")
}

/// Returns the time of an `Usher-As-Of` in ms since the epoch; `None` if it is not a time from 1970 on.
pub(crate) fn parse_time(text: &str) -> Option<u64> {
    u64::try_from(usher_core::time::parse_timestamp(text)?).ok()
}
