//! The keys of what the process itself needs: durable state, the HTTP API, the cluster, limits.

use super::{
    ADDRESS, BOOLEAN, Bytes, Choice, Choices, Duration, Fields, Key, LOCATION, List, Record, SECRET, SIZE, Short, Type,
    choices, duration, list, optional, record, required, short, whole,
};
use crate::{Cluster, Limits, Location, Secret};

/// ms. The least interval of checkpoints and the least timeout: a shorter one costs more work than it is worth.
const LEAST_MS: u64 = 100;

pub(crate) static URL: Key<Location> =
    required("url", LOCATION, "`file://`, `s3://`, …; or a folder, relative to the job file's.");
pub(crate) static CHECKPOINT_EVERY: Key<Duration> =
    optional("checkpoint_every", duration(LEAST_MS, u64::MAX), "How often state is written, at least 100ms.")
        .default(Duration::seconds(60));

/// Where durable state is kept.
pub(crate) static STATE: Record = Record { what: "state", keys: &[&URL, &CHECKPOINT_EVERY], rules: &[] };

pub(crate) static LISTEN: Key<String> =
    required("listen", ADDRESS, "`host:port`. Without `keys` it must be an address that only this machine can reach.");
pub(crate) static KEYS: Key<List<Fields>> = optional(
    "keys",
    list(&KEY, 1, usize::MAX),
    "The tokens that are accepted. Default: none is needed on this machine.",
);
pub(crate) static RATE_LIMIT: Key<u32> =
    optional("rate_limit", whole(1, u32::MAX), "Requests per second and key. Default: any number.");

pub(crate) static CONSOLE: Key<Short<bool>> = optional(
    "console",
    short(&BOOLEAN, &CONSOLE_RECORD),
    "Whether a console for browsers is at `/`, and what it offers. Default: true.",
);

/// The HTTP API.
pub(crate) static API: Record = Record { what: "api", keys: &[&LISTEN, &KEYS, &RATE_LIMIT, &CONSOLE], rules: &[] };

pub(crate) static CONSOLE_ACTIONS: Key<bool> =
    optional("actions", BOOLEAN, "Whether it offers what changes something, to bearers who `can` `admin`.")
        .default(true);
static CONSOLE_RECORD: Record = Record { what: "console", keys: &[&CONSOLE_ACTIONS], rules: &[] };

pub(crate) static TOKEN: Key<Secret> = required("token", SECRET, "What the bearer sends. It is never shown.");
pub(crate) static CAN: Key<Choices<Permission>> =
    optional("can", choices(), "What the bearer may do.").default(&[Permission::Read]);

static KEY: Type<Fields> = record(&KEY_RECORD);
static KEY_RECORD: Record = Record { what: "api key", keys: &[&TOKEN, &CAN], rules: &[] };

/// What the bearer of a token may do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permission {
    Read,
    Admin,
}

impl Choice for Permission {
    const WHAT: &'static str = "`can`";
    const ALL: &'static [Permission] = &[Permission::Read, Permission::Admin];

    fn word(self) -> &'static str {
        match self {
            Permission::Read => "read",
            Permission::Admin => "admin",
        }
    }
}

const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::seconds(15);
const PEER_TIMEOUT_DEFAULT: Duration = Duration::seconds(30);

pub(crate) static CONNECT_TIMEOUT: Key<Duration> = optional(
    "connect_timeout",
    duration(LEAST_MS, u64::MAX),
    "How long a process waits for a connection to all others, at least 100ms.",
)
.default(CONNECT_TIMEOUT_DEFAULT);
pub(crate) static PEER_TIMEOUT: Key<Duration> = optional(
    "peer_timeout",
    duration(LEAST_MS, u64::MAX),
    "How long a process may send nothing before it counts as lost, at least 100ms.",
)
.default(PEER_TIMEOUT_DEFAULT);

/// How the processes of a cluster wait for each other.
pub(crate) static CLUSTER: Record = Record { what: "cluster", keys: &[&CONNECT_TIMEOUT, &PEER_TIMEOUT], rules: &[] };

impl Default for Cluster {
    fn default() -> Cluster {
        Cluster { connect_timeout: CONNECT_TIMEOUT_DEFAULT.ms(), peer_timeout: PEER_TIMEOUT_DEFAULT.ms() }
    }
}

const FUTURE_SKEW_DEFAULT: Duration = Duration::minutes(5);
const MESSAGE_BYTES_DEFAULT: Bytes = Bytes(1 << 20);

pub(crate) static FUTURE_SKEW: Key<Duration> =
    optional("future_skew", duration(0, u64::MAX), "How far ahead of the clock an event may be.")
        .default(FUTURE_SKEW_DEFAULT);
pub(crate) static MESSAGE_BYTES: Key<Bytes> =
    optional("message_bytes", SIZE, "The longest message.").default(MESSAGE_BYTES_DEFAULT);

/// Bounds.
pub(crate) static LIMITS: Record = Record { what: "limits", keys: &[&FUTURE_SKEW, &MESSAGE_BYTES], rules: &[] };

impl Default for Limits {
    fn default() -> Limits {
        Limits { future_skew: FUTURE_SKEW_DEFAULT.ms(), message_bytes: MESSAGE_BYTES_DEFAULT.0 }
    }
}
