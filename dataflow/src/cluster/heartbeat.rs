//! Heartbeat: how the processes of a job know of each other that they live.
//!
//! Each says so to each other, on a connection of its own and from a thread of its own, so that a worker that is busy for long
//! is not taken for dead. Promises: where a process ends before it has come to the job's end, freezes or fails, all others
//! fail within the timeout, with the number of the lost one and, if it could still send it, the reason.
//!
//! On the connection: `a`, alive; `e`, the job has come to its end; `f`, length (u16, little endian) and text, why it failed.

use crate::failure::{Failure, FailureKind};
use crate::status::Status;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use usher_core::lock::lock;

/// How often processes say that they live, unless the timeout is short.
const SAY_ALIVE: Duration = Duration::from_millis(500);
/// How often it is looked what others have said.
const LOOK: Duration = Duration::from_millis(20);
/// A longer reason is cut: it is for a line of a log.
const REASON_BYTES: usize = 1_000;

/// Watches over the other processes.
pub(crate) struct Heartbeat {
    shared: Arc<Mutex<Shared>>,
    /// What is said last.
    last: Sender<Last>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// The job, once it runs.
    status: Option<Arc<Status>>,
    /// Why the job must end, if that was before it ran.
    lost: Option<Failure>,
}

enum Last {
    End,
    Failed(String),
}

struct Peer {
    process: usize,
    address: String,
    stream: TcpStream,
    /// What was read and not understood yet.
    said: Vec<u8>,
    heard: Instant,
    ended: bool,
}

impl Heartbeat {
    /// Starts to listen and to speak. `peers`: number, address and connection.
    pub(crate) fn start(peers: Vec<(usize, String, TcpStream)>, timeout: Duration) -> std::io::Result<Heartbeat> {
        let now = Instant::now();
        let mut all = Vec::new();
        for (process, address, stream) in peers {
            stream.set_nonblocking(true)?;
            all.push(Peer { process, address, stream, said: Vec::new(), heard: now, ended: false });
        }
        let shared = Arc::new(Mutex::new(Shared::default()));
        let (last, orders) = channel();
        let thread = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("heartbeat".to_owned())
                .spawn(move || run(all, timeout, &shared, &orders))?
        };
        Ok(Heartbeat { shared, last, thread: Some(thread) })
    }

    /// The job runs: what happens to others from now on ends it, as does what has happened already.
    pub(crate) fn attach(&self, status: &Arc<Status>) {
        let mut shared = lock(&self.shared);
        shared.status = Some(Arc::clone(status));
        if let Some(lost) = shared.lost.take() {
            status.fail(lost);
        }
    }

    /// Says that the job has come to its end, or why it failed.
    pub(crate) fn end(&self, result: Result<(), &Failure>) {
        // The thread may have ended, with all others gone.
        let _ = self.last.send(match result {
            Ok(()) => Last::End,
            Err(failure) => Last::Failed(failure.message.clone()),
        });
    }
}

impl Drop for Heartbeat {
    /// Waits until the last has been said.
    fn drop(&mut self) {
        let (gone, _) = channel();
        drop(std::mem::replace(&mut self.last, gone));
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the thread of the heartbeat does not panic");
        }
    }
}

fn run(mut peers: Vec<Peer>, timeout: Duration, shared: &Mutex<Shared>, orders: &Receiver<Last>) {
    let every = SAY_ALIVE.min(timeout / 4);
    let mut said: Option<Instant> = None;
    loop {
        if said.is_none_or(|said| said.elapsed() >= every) {
            said = Some(Instant::now());
            peers.iter_mut().for_each(|peer| peer.say(b"a"));
        }
        let lost: Vec<String> = peers.iter_mut().filter_map(|peer| peer.hear(timeout)).collect();
        if let Some(message) = lost.into_iter().next() {
            let hint = format!(
                "restart all processes together; one that is not heard of for `cluster.peer_timeout`, {} s, is lost",
                timeout.as_secs_f64()
            );
            let failure = Failure { kind: FailureKind::Peer, message, hint: Some(hint) };
            let mut shared = lock(shared);
            match &shared.status {
                Some(status) => status.fail(failure),
                None => shared.lost = shared.lost.take().or(Some(failure)),
            }
        }
        match orders.recv_timeout(LOOK) {
            Ok(Last::End) => return peers.iter_mut().for_each(|peer| peer.say(b"e")),
            Ok(Last::Failed(reason)) => {
                let mut reason = reason;
                reason.truncate(reason.floor_char_boundary(REASON_BYTES));
                let mut words = vec![b'f'];
                words.extend((reason.len() as u16).to_le_bytes());
                words.extend(reason.as_bytes());
                return peers.iter_mut().for_each(|peer| peer.say(&words));
            }
            Err(RecvTimeoutError::Timeout) => {}
            // It could not even be opened: the end of the connection says so.
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

impl Peer {
    fn say(&mut self, words: &[u8]) {
        // One that does not take it is found out by what it does not say.
        let _ = self.stream.write_all(words);
    }

    /// Hears what it has said; tells, once, why it is lost, if it is.
    fn hear(&mut self, timeout: Duration) -> Option<String> {
        if self.ended {
            return None;
        }
        let Peer { process, address, .. } = &*self;
        let (process, address) = (*process, address.clone());
        let mut bytes = [0; 1 << 10];
        let gone = loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => break true,
                Ok(read) => {
                    self.heard = Instant::now();
                    self.said.extend(&bytes[..read]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break true,
            }
        };
        let alive = self.said.iter().take_while(|word| **word == b'a').count();
        self.said.drain(..alive);
        match &self.said[..] {
            [b'e', ..] => {
                self.ended = true;
                None
            }
            [b'f', low, high, reason @ ..] if reason.len() >= usize::from(u16::from_le_bytes([*low, *high])) => {
                self.ended = true;
                Some(format!("process {process} at `{address}` has failed: {}", String::from_utf8_lossy(reason)))
            }
            _ if gone => {
                self.ended = true;
                Some(format!("process {process} at `{address}` is gone"))
            }
            _ if self.heard.elapsed() > timeout => {
                self.ended = true;
                let ms = self.heard.elapsed().as_millis();
                Some(format!("process {process} at `{address}` has not been heard of for {ms} ms"))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A peer that is watched, and our end of what it says.
    fn watched() -> (Peer, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let ours = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
        let (stream, _) = listener.accept().expect("it was called");
        stream.set_nonblocking(true).expect("it can be set");
        let (process, address) = (3, "there:1".to_owned());
        (Peer { process, address, stream, said: Vec::new(), heard: Instant::now(), ended: false }, ours)
    }

    fn heard(peer: &mut Peer) -> String {
        let since = Instant::now();
        loop {
            match peer.hear(Duration::from_secs(60)) {
                Some(lost) => return lost,
                None if peer.ended => return "ended".to_owned(),
                None => assert!(since.elapsed() < Duration::from_secs(30), "nothing is heard"),
            }
        }
    }

    #[test]
    fn who_ends_well_is_not_lost_and_who_ends_otherwise_is() {
        let (mut peer, mut ours) = watched();
        ours.write_all(b"aae").expect("it is connected");
        drop(ours);
        assert_eq!(heard(&mut peer), "ended");

        let (mut peer, mut ours) = watched();
        ours.write_all(b"aa").expect("it is connected");
        drop(ours);
        assert_eq!(heard(&mut peer), "process 3 at `there:1` is gone");

        let (mut peer, mut ours) = watched();
        ours.write_all(b"af\x04\x00full").expect("it is connected");
        assert_eq!(heard(&mut peer), "process 3 at `there:1` has failed: full");
        assert_eq!(peer.hear(Duration::ZERO), None, "that is said once");
    }

    #[test]
    fn who_is_silent_for_too_long_is_lost() {
        let (mut peer, _ours) = watched();
        assert_eq!(peer.hear(Duration::from_secs(60)), None);
        let lost = peer.hear(Duration::ZERO).expect("any time is too long");
        assert!(lost.starts_with("process 3 at `there:1` has not been heard of for "), "{lost}");
    }
}
