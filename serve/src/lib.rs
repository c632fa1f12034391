//! The HTTP edge: the membership API (SPEC §7), on threads of its own beside the workers.
//!
//! [`bind`] opens the port, [`Server::start`] serves a [`MembershipIndex`] and an [`Api`] on it, [`Server::stop`] ends it. Lookups
//! are answered from the index and never wait for a worker. `docs/API.md` has every route.
//!
//! | module | is |
//! |---|---|
//! | `routes`, `app`, `openapi` | the handlers by group, their shared state, and the description of the API derived from them |
//! | `auth`, `connections`, `options` | who may use the API, how many at once, and for how long |
//! | `peers`, `sse` | the other processes of the job: forwarded requests, gathered answers, merged streams |
//! | `body`, `headers`, `problem` | the parts of requests and answers |
//! | `console`, `sizes` | the files of the console, and sizes over time |
//! | `metrics` | counters, and the text of `/metrics` |
//!
//! Promises: a client costs a bounded amount of memory and time: headers up to 64 KiB, bodies up to 1 MiB, 1,000 ids, a number
//! of connections that leaves files for the job, time limits for headers, bodies, and clients that do not read. Keys are compared
//! in constant time and never logged. Without keys the server listens on loopback only and answers only requests that name this
//! machine: a web page can't use the API from a browser. Refuses to start: without keys on another address.

mod app;
mod auth;
mod body;
mod connections;
mod console;
mod headers;
mod metrics;
mod openapi;
mod options;
mod peers;
mod problem;
mod process;
mod routes;
mod sizes;
mod sse;

pub use console::Console;
pub use openapi::document;
pub use options::{Build, Key, Options};
pub use peers::http_client;
pub use problem::ProblemBody;

use app::App;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use usher_core::api::Api;
use usher_core::membership_index::MembershipIndex;

/// Connections that may wait to be accepted: enough for all clients to reconnect at once after a restart.
const BACKLOG: u32 = 4096;

/// How long open requests may take after the stop.
const GRACE: Duration = Duration::from_secs(5);

/// Why the API can't be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServeError {
    /// The address is malformed or in use.
    #[error("the API can't listen on `{listen}`: {reason}")]
    Listen {
        /// The address, as given.
        listen: String,
        /// The reason that the system gives.
        reason: String,
    },
    /// There are no keys, and the address can be reached from other machines.
    #[error("the API has no keys, and `{address}` can be reached from other machines")]
    Open {
        /// The address.
        address: SocketAddr,
    },
    /// A token is empty or malformed, or that of another key.
    #[error("the token of `api.keys[{ix}]` can't be used: {reason}")]
    Key {
        /// Its index in `api.keys`.
        ix: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The system refuses to start threads.
    #[error("the API's threads can't be started: {0}")]
    Threads(String),
}

impl ServeError {
    /// Returns what the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            ServeError::Listen { .. } => {
                "end the process that has the port, which may be this job itself, or give `api.listen` as `host:port` with a free port"
            }
            ServeError::Open { .. } => "give `api.keys`, or listen on 127.0.0.1",
            ServeError::Key { .. } => "set the variable that the token names; each key has a token of its own",
            ServeError::Threads(_) => "raise the limits of the process",
        }
    }
}

/// Opens `listen`, a `host:port`, for process number `process` of the job: on the port plus the number.
///
/// Port 0 is any free port.
///
/// # Errors
/// [`ServeError::Listen`] if the address is malformed, can't be resolved, or is in use.
pub fn bind(listen: &str, process: u16) -> Result<TcpListener, ServeError> {
    let failed = |reason: String| ServeError::Listen { listen: listen.to_owned(), reason };
    let (host, port) = listen.rsplit_once(':').ok_or_else(|| failed("the port is missing".to_owned()))?;
    let port: u16 = port.parse().map_err(|_| failed(format!("`{port}` is not a port")))?;
    let port = match port {
        0 => 0,
        port => {
            port.checked_add(process).ok_or_else(|| failed("the port of the last process is too high".to_owned()))?
        }
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let addresses = (host, port).to_socket_addrs().map_err(|error| failed(error.to_string()))?;
    // A socket of tokio's, because the standard library's has a short backlog.
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
    // After a restart, connections of the previous process may still be closing.
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
    /// Serves on `listener` until the server is stopped.
    ///
    /// # Errors
    /// [`ServeError::Open`] without keys on an address that other machines can reach, [`ServeError::Threads`] if threads can't be
    /// started.
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
            let document = openapi::document(!options.keys.is_empty()).to_json().expect("the document has a JSON form");
            let app = App::new(options, index, api, stopping.clone(), document.into());
            let app = Arc::new(app);
            runtime.spawn({
                let (app, stopping) = (app.clone(), stopping.clone());
                async move { app.sizes.follow(&app.index, stopping).await }
            });
            let router = routes::router(app);
            runtime.spawn(connections::accept(listener, router, bounds, stopping))
        };
        Ok(Server { address, runtime, stop, accepting })
    }

    /// Returns the address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting connections, gives open requests 5 seconds to end, and ends.
    pub fn stop(self) {
        self.stop.send_replace(true);
        let _late = self.runtime.block_on(async { tokio::time::timeout(GRACE, self.accepting).await });
        self.runtime.shutdown_background();
    }
}
