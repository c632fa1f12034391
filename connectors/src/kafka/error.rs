//! Problems with a cluster: what an error code of librdkafka means, whether to retry, and what to do about it.
//!
//! Promises: the text names the topic or the brokers, never the value of a setting, which may be secret.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// Why a cluster can't be used, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) reason: String,
    pub(super) hint: &'static str,
    /// Whether a retry may succeed.
    pub(super) transient: bool,
}

impl Problem {
    /// Returns a problem that no retry solves.
    pub(super) fn permanent(reason: String, hint: &'static str) -> Problem {
        Problem { reason, hint, transient: false }
    }

    /// Returns what a code of librdkafka means for `what`: a topic, or the brokers.
    pub(super) fn of_code(code: RDKafkaErrorCode, what: &str) -> Problem {
        use RDKafkaErrorCode as E;
        let (hint, transient) = match code {
            E::Authentication | E::SaslAuthenticationFailed => {
                ("`properties` need the right `sasl.mechanism`, `sasl.username` and `sasl.password`", false)
            }
            E::SSL => ("`properties` need the `ssl.ca.location` of whoever signed the brokers' certificates", false),
            E::TopicAuthorizationFailed => (
                "allow the user of `properties` to describe and read a source's topics, and to describe, read and write a sync's",
                false,
            ),
            E::ClusterAuthorizationFailed | E::TransactionalIdAuthorizationFailed | E::GroupAuthorizationFailed => (
                "allow the user of `properties` to do so; a sync needs to write with the transactional id `usher.JOB.SYNC`",
                false,
            ),
            E::InvalidTopic => ("topics have letters, digits, `.`, `_` and `-` in their names, at most 249", false),
            E::MessageSizeTooLarge => (
                "raise the topic's `max.message.bytes`, or allow the user of `properties` to describe the topic's settings",
                false,
            ),
            E::PolicyViolation => ("ask whoever runs the cluster to create the topic", false),
            E::UnsupportedVersion | E::UnsupportedFeature => ("use brokers of Kafka 2.5 or later", false),
            E::Resolve => ("see that the names in `brokers` are right and resolve on this machine", true),
            _ => ("see that the brokers run, and that `brokers` and `security.protocol` are right", true),
        };
        let reason = match code {
            E::OperationTimedOut | E::RequestTimedOut => "there is no answer".to_owned(),
            code => without_prefix(&code.to_string()),
        };
        Problem { reason: format!("{what}: {reason}"), hint, transient }
    }

    /// Returns what an error of librdkafka means for `what`.
    pub(super) fn of_error(error: &KafkaError, what: &str) -> Problem {
        Problem::of_code(code(error), what)
    }

    /// Returns the problem of a client that could not be created.
    pub(super) fn not_created(error: &KafkaError) -> Problem {
        let hint =
            "TLS and SCRAM need usher built with `--features tls`; librdkafka's CONFIGURATION.md has all settings";
        Problem::permanent(format!("`properties`: {error}"), hint)
    }
}

/// Returns the code of an error.
pub(super) fn code(error: &KafkaError) -> RDKafkaErrorCode {
    error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)
}

/// Returns whether a code says that the brokers take nothing more from a producer: a newer one of its transactional id has
/// come, or a transaction took too long.
pub(super) fn is_fenced(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as E;
    matches!(code, E::Fenced | E::ProducerFenced | E::InvalidProducerEpoch)
}

/// Returns whether a code says that a right is missing.
pub(super) fn is_authorization(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as E;
    matches!(
        code,
        E::TopicAuthorizationFailed
            | E::ClusterAuthorizationFailed
            | E::TransactionalIdAuthorizationFailed
            | E::GroupAuthorizationFailed
    )
}

/// Returns librdkafka's description of a code without its prefixes.
fn without_prefix(text: &str) -> String {
    let text = text.split_once(" (").map_or(text, |(_, rest)| rest.strip_suffix(')').unwrap_or(rest));
    text.strip_prefix("Local: ").or(text.strip_prefix("Broker: ")).unwrap_or(text).to_lowercase()
}
