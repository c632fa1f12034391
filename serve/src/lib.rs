//! The HTTP edge: the membership API (SPEC §7), on threads of its own beside the workers.
//!
//! [`bind`] opens the port, [`Server::start`] serves on it from a [`MembershipIndex`] index and an [`Api`], [`Server::stop`] ends
//! it. Lookups are answered from the index and never wait for a worker. `docs/API.md` has every route.
//!
//! Promises: what a client sends costs a bounded amount of memory and time: headers up to 64 KiB, bodies up to 1 MiB, 1,000 ids,
//! a bound on connections that leaves files for the job, time limits for headers, bodies, and readers that do not read.
//! Keys are compared in constant time and never logged. Without keys only loopback is served, and only to requests that name it:
//! a page of the web can't ask in a browser's name. Refuses to start: without keys on another address.

mod auth;
mod changes;
mod connections;
mod metrics;
mod openapi;
mod peers;
mod problem;
mod routes;

pub use openapi::document;
pub use peers::http_client;
pub use problem::ProblemBody;

use std::fmt;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use usher_core::api::Api;
use usher_core::membership_index::MembershipIndex;

/// Connections that may wait to be accepted: a burst of clients that come back after a restart.
const BACKLOG: u32 = 4096;

/// Connections at most, whatever the system allows: some 10 KiB each.
const CONNECTIONS_MAX: usize = 20_000;

/// How long requests in hand may take after the stop, and with them the end of the process.
const GRACE: Duration = Duration::from_secs(5);

/// How the API is served.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who may ask; none: whoever is on this machine.
    pub keys: Vec<Key>,
    /// Requests per second and key; none: any number.
    pub rate_limit: Option<NonZeroU32>,
    /// Connections at most. One more is answered 503 and closed.
    pub connections: usize,
    /// How long a connection may be idle, or take to send a request's headers, or not read what it is sent.
    pub idle: Duration,
    /// How long a body may take to come, and the job to answer.
    pub patience: Duration,
    /// Threads that serve.
    pub threads: usize,
}

/// A bearer.
#[derive(Clone)]
pub struct Key {
    /// What the bearer sends.
    pub token: String,
    /// May read.
    pub read: bool,
    /// May change something.
    pub admin: bool,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key {{ token: …, read: {}, admin: {} }}", self.read, self.admin)
    }
}

impl Default for Options {
    /// No keys, and bounds that suit most.
    fn default() -> Options {
        Options {
            keys: Vec::new(),
            rate_limit: None,
            connections: connections::affordable().min(CONNECTIONS_MAX),
            // Longer than the pools of common clients keep a connection unused, so that it is them who close.
            idle: Duration::from_secs(120),
            patience: Duration::from_secs(10),
            threads: 2,
        }
    }
}

/// Why the API can't be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServeError {
    /// The address is no address, or taken.
    #[error("the API can't listen on `{listen}`: {reason}")]
    Listen {
        /// As asked for.
        listen: String,
        /// The system's words.
        reason: String,
    },
    /// There are no keys, and others could ask.
    #[error("the API has no keys, and `{address}` is not only for this machine")]
    Open {
        /// Where it was to listen.
        address: SocketAddr,
    },
    /// A key has no text.
    #[error("the token of `api.keys[{ix}]` can't be used: {reason}")]
    Key {
        /// Which.
        ix: usize,
        /// Why.
        reason: String,
    },
    /// The system gives no threads.
    #[error("the API's threads can't be started: {0}")]
    Threads(String),
}

impl ServeError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            ServeError::Listen { .. } => {
                "end what has the port, which may be this job itself, or give `api.listen` as `host:port` with a port that is free"
            }
            ServeError::Open { .. } => "give `api.keys`, or listen on 127.0.0.1",
            ServeError::Key { .. } => "set the variable that the token names",
            ServeError::Threads(_) => "raise the limits of the process",
        }
    }
}

/// Opens `listen`, a `host:port`, for process `process` of several: on the port plus its number.
///
/// Port 0 is any free one.
pub fn bind(listen: &str, process: u16) -> Result<TcpListener, ServeError> {
    let failed = |reason: String| ServeError::Listen { listen: listen.to_owned(), reason };
    let (host, port) = listen.rsplit_once(':').ok_or_else(|| failed("it has no port".to_owned()))?;
    let port: u16 = port.parse().map_err(|_| failed(format!("`{port}` is no port")))?;
    let port = match port {
        0 => 0,
        port => {
            port.checked_add(process).ok_or_else(|| failed("the port of the last process is too high".to_owned()))?
        }
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let addresses = (host, port).to_socket_addrs().map_err(|error| failed(error.to_string()))?;
    // A socket of tokio's: the standard library's has a short backlog.
    let runtime = Builder::new_current_thread().enable_io().build().map_err(|error| failed(error.to_string()))?;
    let mut reason = "the host has no address".to_owned();
    for address in addresses {
        match runtime.block_on(async { listen_on(address) }) {
            Ok(listener) => return Ok(listener),
            Err(error) => reason = error.to_string(),
        }
    }
    Err(failed(reason))
}

fn listen_on(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
    };
    // A restart finds connections of its predecessor that are still closing.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

/// A running server.
pub struct Server {
    address: SocketAddr,
    runtime: Runtime,
    stop: watch::Sender<bool>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Serves on `listener` until it is stopped.
    pub fn start(
        options: Options,
        index: Arc<MembershipIndex>,
        api: Arc<dyn Api>,
        listener: TcpListener,
    ) -> Result<Server, ServeError> {
        let failed = |error: std::io::Error| ServeError::Threads(error.to_string());
        let address = listener.local_addr().map_err(failed)?;
        if options.keys.is_empty() && !address.ip().is_loopback() {
            return Err(ServeError::Open { address });
        }
        listener.set_nonblocking(true).map_err(failed)?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(options.threads)
            .thread_name("usher-api")
            .enable_all()
            .build()
            .map_err(failed)?;
        let (stop, stopping) = watch::channel(false);
        let accepting = {
            let _inside = runtime.enter();
            let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
            let bounds = connections::Bounds { connections: options.connections, idle: options.idle };
            let app = routes::App::new(options, index, api, stopping.clone());
            let router = routes::router(Arc::new(app));
            runtime.spawn(connections::accept(listener, router, bounds, stopping))
        };
        tracing::info!(%address, "the API is served");
        Ok(Server { address, runtime, stop, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts no more, finishes the requests in hand within 5 seconds, and ends.
    pub fn stop(self) {
        self.stop.send_replace(true);
        let _late = self.runtime.block_on(async { tokio::time::timeout(GRACE, self.accepting).await });
        self.runtime.shutdown_background();
    }
}
