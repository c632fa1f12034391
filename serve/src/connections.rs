//! Connections: their number is bounded, and so is the time that each may stay idle.
//!
//! Promises: a connection ends if it is idle for too long, takes too long to send headers, or does not read what was sent to it.
//! Refuses: connections above the bound, which are answered 503 and closed, so that the job always finds a file descriptor for
//! its own files.

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, Sleep};

/// Bytes of a request's line and headers: a key of 1,024 bytes, percent-encoded, many times.
const HEAD_BYTES: usize = 64 * 1024;

/// Connections at most if the limit of open files is not known.
const CONNECTIONS_UNKNOWN: usize = 512;

/// Pause before the next attempt when no file descriptor is free: there is no notification when one is.
const NO_FILES: Duration = Duration::from_millis(100);

/// The answer to a connection above the bound.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\
Content-Type: application/problem+json\r\nContent-Length: 138\r\n\r\n\
{\"type\":\"urn:usher:problem:connections\",\"title\":\"Too many connections\",\"status\":503,\"detail\":\"close those that are not needed, and retry\"}";

/// The bounds of connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Connections at most.
    pub(crate) connections: usize,
    /// How long a connection may be idle.
    pub(crate) idle: Duration,
}

/// Returns half of the number of files that the process may open: the job needs files too.
pub(crate) fn affordable() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    match line.and_then(|line| line.split_whitespace().next()) {
        Some("unlimited") => usize::MAX,
        Some(files) => files.parse().map_or(CONNECTIONS_UNKNOWN, |files: usize| files / 2),
        None => CONNECTIONS_UNKNOWN,
    }
}

/// Serves connections of `listener` until `stopping`; returns when all connections have ended.
pub(crate) async fn accept(listener: TcpListener, router: Router, bounds: Bounds, mut stopping: watch::Receiver<bool>) {
    let room = u32::try_from(bounds.connections).unwrap_or(u32::MAX).min(Semaphore::MAX_PERMITS as u32).max(1);
    let free = Arc::new(Semaphore::new(room as usize));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stopping) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            // The client closed the connection before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => {
                tracing::warn!(%error, "a connection to the API can't be accepted");
                tokio::time::sleep(NO_FILES).await;
                continue;
            }
        };
        match free.clone().try_acquire_owned() {
            // What fits the socket's buffer is sent; the server does not wait for the client.
            Err(_) => drop(stream.try_write(TOO_MANY)),
            Ok(permit) => {
                let connection = serve(stream, router.clone(), bounds.idle, stopping.clone());
                tokio::spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
        }
    }
    drop(listener);
    let _all = free.acquire_many(room).await;
}

/// Waits until the server stops.
pub(crate) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _gone_too = stopping.wait_for(|stop| *stop).await;
}

async fn serve(stream: TcpStream, router: Router, idle: Duration, mut stopping: watch::Receiver<bool>) {
    // An answer is written in one piece and is to be sent at once.
    let _ = stream.set_nodelay(true);
    let stream = TokioIo::new(Impatient { stream, idle, stalled: None });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(idle)
        .max_header_size(HEAD_BYTES)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(stream, TowerToHyperService::new(router));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // A client may close its connection at any time.
        tracing::debug!(%error, "a connection to the API ended");
    }
}

/// A stream whose writes fail if the client reads nothing for `idle`.
struct Impatient {
    stream: TcpStream,
    idle: Duration,
    /// Set while a write waits: fires when `idle` is over.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Impatient {
    /// Passes on the result of a write; an error if writes have been waiting for `idle`.
    fn limit<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let idle = self.idle;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + idle)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Impatient {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buf)
    }
}

impl AsyncWrite for Impatient {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.limit(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.limit(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::TOO_MANY;

    #[test]
    fn the_refusal_has_the_length_of_its_header() {
        let text = std::str::from_utf8(TOO_MANY).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{}", body.len());
        serde_json::from_str::<serde_json::Value>(body).unwrap();
    }
}
