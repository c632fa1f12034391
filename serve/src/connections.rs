//! Accepts connections, a bounded number, and lets none of them sit there for ever.
//!
//! A connection ends when it is idle for too long, takes too long to send headers, or does not read what it is sent. Above
//! the bound a connection is answered 503 and closed, so that the job always finds a file descriptor for its own files.

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

/// Connections where the system does not say how many files may be open.
const CONNECTIONS_UNKNOWN: usize = 512;

/// How long to wait for a file descriptor when all are taken: whoever frees one does not say so.
const NO_FILES: Duration = Duration::from_millis(100);

/// What is sent where there are too many connections.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\
Content-Type: application/problem+json\r\nContent-Length: 138\r\n\r\n\
{\"type\":\"urn:usher:problem:connections\",\"title\":\"Too many connections\",\"status\":503,\"detail\":\"close those that are not needed, and retry\"}";

/// How many, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) connections: usize,
    pub(super) idle: Duration,
}

/// Half of the files that the process may open: the job needs files too.
pub(super) fn affordable() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    match line.and_then(|line| line.split_whitespace().next()) {
        Some("unlimited") => usize::MAX,
        Some(files) => files.parse().map_or(CONNECTIONS_UNKNOWN, |files: usize| files / 2),
        None => CONNECTIONS_UNKNOWN,
    }
}

/// Serves until `stopping`; then ends when all connections have.
pub(super) async fn accept(listener: TcpListener, router: Router, bounds: Bounds, mut stopping: watch::Receiver<bool>) {
    let room = u32::try_from(bounds.connections).unwrap_or(u32::MAX).min(Semaphore::MAX_PERMITS as u32).max(1);
    let free = Arc::new(Semaphore::new(room as usize));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stopping) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            // The connection was gone before it was taken.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => {
                tracing::warn!(%error, "a connection to the API can't be accepted");
                tokio::time::sleep(NO_FILES).await;
                continue;
            }
        };
        match free.clone().try_acquire_owned() {
            // What fits the socket's buffer is sent; nobody waits for the client.
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

/// Waits until the server is to stop.
pub(super) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _gone_too = stopping.wait_for(|stop| *stop).await;
}

async fn serve(stream: TcpStream, router: Router, idle: Duration, mut stopping: watch::Receiver<bool>) {
    // Answers are written at once and should leave at once.
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
        // Clients go away as they like.
        tracing::debug!(%error, "a connection to the API ended");
    }
}

/// A stream whose writes fail when nothing of them can be written for too long.
struct Impatient {
    stream: TcpStream,
    idle: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Impatient {
    fn watch<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
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
        self.watch(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.watch(context, written)
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
    fn the_refusal_has_the_length_that_it_says() {
        let text = std::str::from_utf8(TOO_MANY).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{}", body.len());
        serde_json::from_str::<serde_json::Value>(body).unwrap();
    }
}
