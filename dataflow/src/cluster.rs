//! Cluster: the processes of a job find each other.
//!
//! Promises: all have met within the time that is given, or an error says who has not; processes that do not belong together
//! (another job, other numbers of processes or threads) say so and don't start. A process with a lower number listens, one
//! with a higher number connects, as in timely.

use crate::job::Cluster;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};
use timely::WorkerConfig;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::allocator::{AllocatorBuilder, ProcessBuilder};
use timely::communication::{Hooks, WorkerGuards};
use timely::worker::Worker;
use xxhash_rust::xxh3::xxh3_64;

/// How long until it is tried again to reach a process that is not there yet.
const AGAIN: Duration = Duration::from_millis(50);
/// What a connection begins with.
const MAGIC: [u8; 8] = *b"usher/01";

/// Who this process is among the others.
#[derive(Clone, Debug)]
pub struct Peers {
    /// `host:port` of each process, this one's too.
    pub addresses: Vec<String>,
    /// Which one this is.
    pub process: usize,
    /// Worker threads of each.
    pub threads: usize,
    /// What they must agree on: the job.
    pub job: Vec<u8>,
}

/// Why a cluster did not come together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// This process can't listen.
    #[error("process {process} can't listen on `{address}`: {reason}")]
    Listen {
        /// This process.
        process: usize,
        /// Its address.
        address: String,
        /// The system's words.
        reason: String,
    },
    /// Some were not met in time.
    #[error("process {process} has not met {missing} within {} s", .timeout.as_secs_f64())]
    Missing {
        /// This process.
        process: usize,
        /// The others, with their addresses.
        missing: String,
        /// How long it waited.
        timeout: Duration,
    },
    /// One is of another job, or was started with other numbers.
    #[error("process {process} at `{address}` was started with another job, or other `-n` or `-w`")]
    Unlike {
        /// The other process.
        process: usize,
        /// Its address.
        address: String,
    },
}

impl ClusterError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            ClusterError::Listen { .. } => "line p of the host file is the address of process p: each has its own",
            ClusterError::Missing { .. } => {
                "start all processes at about the same time, with the same host file; `cluster.connect_timeout` says how long to wait"
            }
            ClusterError::Unlike { .. } => "start all processes with the same job, `-n` and `-w`",
        }
    }
}

/// Connects to all other processes.
///
/// # Errors
/// Not all have been met in time, or one does not belong.
pub fn connect(peers: &Peers, timeout: Duration) -> Result<Vec<Option<TcpStream>>, ClusterError> {
    let (deadline, own) = (Instant::now() + timeout, &peers.addresses[peers.process]);
    let listen = |error: std::io::Error| ClusterError::Listen {
        process: peers.process,
        address: own.clone(),
        reason: error.to_string(),
    };
    let listener = TcpListener::bind(&own[..]).map_err(listen)?;
    listener.set_nonblocking(true).map_err(listen)?;
    let mut sockets: Vec<Option<TcpStream>> = peers.addresses.iter().map(|_| None).collect();
    while (0..sockets.len()).any(|process| process != peers.process && sockets[process].is_none()) {
        for process in 0..peers.process {
            if sockets[process].is_none() {
                sockets[process] = peers.call(process, deadline)?;
            }
        }
        while let Ok((stream, _)) = listener.accept() {
            if let Some((process, stream)) = peers.answer(stream, deadline)? {
                sockets[process] = Some(stream);
            }
        }
        if Instant::now() >= deadline {
            let missing = (0..sockets.len()).filter(|process| *process != peers.process && sockets[*process].is_none());
            let missing: Vec<String> =
                missing.map(|process| format!("process {process} at `{}`", peers.addresses[process])).collect();
            return Err(ClusterError::Missing { process: peers.process, missing: missing.join(", "), timeout });
        }
        std::thread::sleep(AGAIN);
    }
    Ok(sockets)
}

impl Peers {
    /// What both ends of a connection must say alike.
    fn greeting(&self) -> [u8; 24] {
        let mut greeting = [0; 24];
        greeting[..8].copy_from_slice(&MAGIC);
        greeting[8..16].copy_from_slice(&xxh3_64(&self.job).to_le_bytes());
        greeting[16..20].copy_from_slice(&(self.addresses.len() as u32).to_le_bytes());
        greeting[20..].copy_from_slice(&(self.threads as u32).to_le_bytes());
        greeting
    }

    /// Connects to a process with a lower number; none: it is not there yet.
    fn call(&self, process: usize, deadline: Instant) -> Result<Option<TcpStream>, ClusterError> {
        let address = &self.addresses[process];
        let left = deadline.saturating_duration_since(Instant::now()).max(AGAIN);
        let called = address[..].to_socket_addrs().and_then(|mut addresses| {
            let address = addresses.next().ok_or(ErrorKind::AddrNotAvailable)?;
            let mut stream = TcpStream::connect_timeout(&address, left)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(left))?;
            stream.write_all(&self.greeting())?;
            stream.write_all(&(self.process as u32).to_le_bytes())?;
            let mut answer = [0; 24];
            stream.read_exact(&mut answer)?;
            stream.set_read_timeout(None)?;
            Ok((stream, answer))
        });
        match called {
            Ok((_, answer)) if answer != self.greeting() => {
                Err(ClusterError::Unlike { process, address: address.clone() })
            }
            Ok((stream, _)) => Ok(Some(stream)),
            Err(_) => Ok(None),
        }
    }

    /// Answers a process with a higher number; none: somebody else called.
    fn answer(&self, mut stream: TcpStream, deadline: Instant) -> Result<Option<(usize, TcpStream)>, ClusterError> {
        let left = deadline.saturating_duration_since(Instant::now()).clamp(AGAIN, Duration::from_secs(1));
        let mut said = [0; 28];
        let answered = stream
            .set_nonblocking(false)
            .and_then(|()| stream.set_nodelay(true))
            .and_then(|()| stream.set_read_timeout(Some(left)))
            .and_then(|()| stream.read_exact(&mut said))
            .and_then(|()| stream.write_all(&self.greeting()))
            .and_then(|()| stream.set_read_timeout(None));
        if answered.is_err() || said[..8] != MAGIC {
            return Ok(None);
        }
        let process = u32::from_le_bytes(said[24..].try_into().expect("four bytes")) as usize;
        if said[..24] != self.greeting() || process <= self.process || process >= self.addresses.len() {
            let address = self.addresses.get(process).cloned().unwrap_or_default();
            return Err(ClusterError::Unlike { process, address });
        }
        Ok(Some((process, stream)))
    }
}

/// Runs the workers of this process.
pub(crate) fn execute(
    cluster: Cluster,
    threads: usize,
    logic: impl Fn(&mut Worker) + Send + Sync + 'static,
) -> Result<WorkerGuards<()>, String> {
    let hooks = Hooks::default();
    let builders = ProcessBuilder::new_typed_vector(threads, hooks.refill.clone(), hooks.spill.clone());
    let (builders, guard) =
        initialize_networking_from_sockets(builders, cluster.sockets, cluster.process, threads, hooks)
            .map_err(|error| error.to_string())?;
    let builders = builders.into_iter().map(AllocatorBuilder::Tcp).collect();
    timely::execute::execute_from(builders, Box::new(guard), WorkerConfig::default(), logic)
}
