//! Cluster: the processes of a job find each other.
//!
//! Promises: all have met within the time that is given, or an error says who has not; processes that do not belong together
//! (another job, other numbers of processes or threads) say so and don't start. A process with a lower number listens, one
//! with a higher number connects, as in timely. From when they have met on, each watches over the others ([`pulse`]).

mod heartbeat;

pub(crate) use heartbeat::Heartbeat;

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};
use timely::WorkerConfig;
use timely::communication::allocator::zero_copy::initialize::{CommsGuard, initialize_networking_from_sockets};
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

/// What two processes have a connection for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    /// What workers send each other.
    Data,
    /// That they live.
    Heartbeat,
}

const LANES: [Lane; 2] = [Lane::Data, Lane::Heartbeat];

/// Connects to all other processes, and watches over them from then on: one that is not heard of for `peer_timeout` is lost.
///
/// # Errors
/// Not all have been met within `timeout`, or one does not belong.
pub fn connect(peers: &Peers, timeout: Duration, peer_timeout: Duration) -> Result<Cluster, ClusterError> {
    let (deadline, own) = (Instant::now() + timeout, &peers.addresses[peers.process]);
    let listen = |error: std::io::Error| ClusterError::Listen {
        process: peers.process,
        address: own.clone(),
        reason: error.to_string(),
    };
    let listener = TcpListener::bind(&own[..]).map_err(listen)?;
    listener.set_nonblocking(true).map_err(listen)?;
    // By lane, then by process.
    let mut sockets: [Vec<Option<TcpStream>>; 2] = LANES.map(|_| peers.addresses.iter().map(|_| None).collect());
    let unmet = |sockets: &[Vec<Option<TcpStream>>; 2]| -> Vec<usize> {
        let others = (0..peers.addresses.len()).filter(|process| *process != peers.process);
        others.filter(|process| sockets.iter().any(|lane| lane[*process].is_none())).collect()
    };
    while !unmet(&sockets).is_empty() {
        for lane in LANES {
            for (process, socket) in sockets[lane as usize].iter_mut().enumerate().take(peers.process) {
                if socket.is_none() {
                    *socket = peers.call(process, lane, deadline)?;
                }
            }
        }
        while let Ok((stream, _)) = listener.accept() {
            if let Some((process, lane, stream)) = peers.answer(stream, deadline)? {
                sockets[lane as usize][process] = Some(stream);
            }
        }
        let missing = unmet(&sockets);
        if missing.is_empty() {
            break;
        }
        if Instant::now() >= deadline {
            let name = |process: &usize| format!("process {process} at `{}`", peers.addresses[*process]);
            let missing = missing.iter().map(name).collect::<Vec<_>>().join(", ");
            return Err(ClusterError::Missing { process: peers.process, missing, timeout });
        }
        std::thread::sleep(AGAIN);
    }
    let [sockets, pulses] = sockets;
    let pulses = pulses.into_iter().zip(&peers.addresses).enumerate();
    let pulses = pulses.filter_map(|(process, (stream, address))| Some((process, address.clone(), stream?)));
    let heartbeat = Heartbeat::start(pulses.collect(), peer_timeout).map_err(listen)?;
    Ok(Cluster { process: peers.process, sockets, heartbeat })
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
    fn call(&self, process: usize, lane: Lane, deadline: Instant) -> Result<Option<TcpStream>, ClusterError> {
        let address = &self.addresses[process];
        let left = deadline.saturating_duration_since(Instant::now()).max(AGAIN);
        let called = address[..].to_socket_addrs().and_then(|mut addresses| {
            let address = addresses.next().ok_or(ErrorKind::AddrNotAvailable)?;
            let mut stream = TcpStream::connect_timeout(&address, left)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(left))?;
            stream.write_all(&self.greeting())?;
            stream.write_all(&(self.process as u32).to_le_bytes())?;
            stream.write_all(&[lane as u8])?;
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
    fn answer(
        &self,
        mut stream: TcpStream,
        deadline: Instant,
    ) -> Result<Option<(usize, Lane, TcpStream)>, ClusterError> {
        let left = deadline.saturating_duration_since(Instant::now()).clamp(AGAIN, Duration::from_secs(1));
        let mut said = [0; 29];
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
        let process = u32::from_le_bytes(said[24..28].try_into().expect("four bytes")) as usize;
        let Some(lane) = LANES.into_iter().find(|lane| *lane as u8 == said[28]) else { return Ok(None) };
        if said[..24] != self.greeting() || process <= self.process || process >= self.addresses.len() {
            let address = self.addresses.get(process).cloned().unwrap_or_default();
            return Err(ClusterError::Unlike { process, address });
        }
        Ok(Some((process, lane, stream)))
    }
}

/// Runs the workers of this process. Beside them there are the threads of their connections.
pub(crate) fn execute(
    process: usize,
    sockets: Vec<Option<TcpStream>>,
    threads: usize,
    logic: impl Fn(&mut Worker) + Send + Sync + 'static,
) -> Result<(WorkerGuards<()>, CommsGuard), String> {
    let hooks = Hooks::default();
    let builders = ProcessBuilder::new_typed_vector(threads, hooks.refill.clone(), hooks.spill.clone());
    let (builders, connections) = initialize_networking_from_sockets(builders, sockets, process, threads, hooks)
        .map_err(|error| error.to_string())?;
    let builders = builders.into_iter().map(AllocatorBuilder::Tcp).collect();
    let workers = timely::execute::execute_from(builders, Box::new(()), WorkerConfig::default(), logic)?;
    Ok((workers, connections))
}

/// The other processes of a job, connected.
pub struct Cluster {
    /// Which one this is.
    pub(crate) process: usize,
    /// Streams to the others, by process; `None` at its own place.
    pub(crate) sockets: Vec<Option<TcpStream>>,
    pub(crate) heartbeat: Heartbeat,
}
