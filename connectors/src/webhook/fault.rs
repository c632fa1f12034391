//! Whose fault an answer is (SPEC §5).

/// What an answer says of the changes of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The destination has them.
    Delivered,
    /// The destination can't take anything now: nothing is dropped.
    Endpoint,
    /// It can't take anything now because it gets too much.
    Throttled,
    /// It does not want anything, ever.
    Gone,
    /// It does not take these.
    Refused,
}

/// Returns what a status says. Redirects are not followed: they are the endpoint's fault.
pub(super) fn verdict(status: u16) -> Verdict {
    match status {
        200..=299 => Verdict::Delivered,
        410 => Verdict::Gone,
        429 => Verdict::Throttled,
        401 | 403 | 404 | 407 | 408 | 425 => Verdict::Endpoint,
        400..=499 => Verdict::Refused,
        _ => Verdict::Endpoint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_somebodys_fault_or_nobodys() {
        for (statuses, expected) in [
            (&[200, 201, 202, 204, 207, 299][..], Verdict::Delivered),
            (
                &[300, 301, 302, 304, 307, 308, 401, 403, 404, 407, 408, 425, 500, 501, 502, 503, 504, 599, 100, 999],
                Verdict::Endpoint,
            ),
            (&[429], Verdict::Throttled),
            (&[410], Verdict::Gone),
            (&[400, 402, 405, 406, 409, 411, 413, 414, 415, 422, 423, 426, 431, 451, 499], Verdict::Refused),
        ] {
            for status in statuses {
                assert_eq!(verdict(*status), expected, "{status}");
            }
        }
    }
}
