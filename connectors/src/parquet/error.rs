//! Errors of disks, stores and the Parquet reader as [`SnapshotError`]s.
//!
//! An error names the file or location, what happened, and what to do. It does not name the model; the caller adds it. Query
//! strings and user names of urls never appear in one.

use std::io;
use usher_core::warehouse::{SnapshotError, SnapshotErrorKind};

use parquet::errors::ParquetError;

use super::cast::Refused;

const NO_CREDENTIALS: &str = "there are no credentials for the store";

pub(crate) const DAMAGED: &str = "the file is damaged; write it again";

pub(crate) const NOT_ENCRYPTED: &str = "write it without Parquet's encryption";

pub(crate) const FROM_ENVIRONMENT: &str =
    "the store's credentials are taken from the environment: AWS_*, GOOGLE_* or AZURE_*";

/// Returns the error of a local file system.
pub(crate) fn of_io(at: &str, error: &io::Error) -> SnapshotError {
    match error.kind() {
        io::ErrorKind::NotFound => SnapshotError::new(SnapshotErrorKind::Missing, at, "no such file or folder"),
        io::ErrorKind::PermissionDenied => SnapshotError::new(SnapshotErrorKind::Denied, at, "access is denied")
            .hint("the user that runs the job needs read access to the file and its folders"),
        _ => SnapshotError::new(SnapshotErrorKind::Network, at, format!("reading failed: {error}")),
    }
}

/// Returns the error of an object store, without the url, which may hold a signature.
pub(crate) fn of_store(at: &str, error: &object_store::Error) -> SnapshotError {
    use SnapshotErrorKind::*;
    let answer = answer(error);
    match error {
        // A listing says so with a plain error, a read with the one of a missing file.
        _ if answer.ends_with("(NoSuchBucket)") => SnapshotError::new(Missing, at, "no such bucket"),
        _ if answer == NO_CREDENTIALS => SnapshotError::new(Denied, at, answer).hint(FROM_ENVIRONMENT),
        object_store::Error::NotFound { .. } => SnapshotError::new(Missing, at, "no such file"),
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            let hint = match at.starts_with("http") {
                true => "the url must be readable as it is, by its signature or `user:password@`",
                false => FROM_ENVIRONMENT,
            };
            SnapshotError::new(Denied, at, format!("access is denied: {answer}")).hint(hint)
        }
        object_store::Error::Precondition { .. } => replaced(at),
        object_store::Error::NotSupported { .. } => {
            SnapshotError::new(Network, at, "the server ignores `Range` and sends whole files")
                .hint("Parquet is read in ranges; serve it from a server that answers them with 206")
        }
        _ => SnapshotError::new(Network, at, answer),
    }
}

/// Returns the Parquet reader's error of a page; an error of the disk or the network below it keeps its own words.
pub(crate) fn of_page(at: &str, row_group: usize, error: &ParquetError) -> SnapshotError {
    below(at, error).unwrap_or_else(|| {
        let what = format!("row group {row_group} can't be decoded: {}", plain(error));
        SnapshotError::new(SnapshotErrorKind::Unreadable, at, what).hint(DAMAGED)
    })
}

/// Returns the error of a row group whose rows are not as many as the footer says.
pub(crate) fn of_rows(at: &str, row_group: usize, read: i64, said: i64) -> SnapshotError {
    let what = format!("row group {row_group} has {read} rows, and the footer says that it has {said}");
    SnapshotError::new(SnapshotErrorKind::Unreadable, at, what).hint(DAMAGED)
}

/// Returns the error of something that Parquet allows and this program does not read.
pub(crate) fn unsupported(at: &str, what: impl Into<String>, hint: &str) -> SnapshotError {
    SnapshotError::new(SnapshotErrorKind::Unsupported, at, what).hint(hint)
}

/// Returns the Parquet reader's error of a footer.
pub(crate) fn of_footer(at: &str, error: &ParquetError) -> SnapshotError {
    below(at, error).unwrap_or_else(|| {
        if error.to_string().contains("encrypted footer") {
            return unsupported(at, "the file is encrypted, which is not supported", NOT_ENCRYPTED);
        }
        let what = format!("the Parquet footer can't be read: {}", plain(error));
        SnapshotError::new(SnapshotErrorKind::NotParquet, at, what)
            .hint("the file is truncated, still being written, or in another format")
    })
}

/// Returns why a store can't be set up.
pub(crate) fn of_client(at: &str, error: &dyn std::error::Error) -> SnapshotError {
    // What is outside only repeats the store's name.
    let inner = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    let what = format!("the store can't be set up: {}", lower(&inner));
    SnapshotError::new(SnapshotErrorKind::Location, at, what)
}

/// Returns the error of a file that is no longer the one that was listed.
pub(crate) fn replaced(at: &str) -> SnapshotError {
    SnapshotError::new(SnapshotErrorKind::Replaced, at, "the file was replaced while it was read")
        .hint("the next pull reads the new one")
}

/// The error of disk or store that the Parquet reader passed on, if it is one.
fn below(at: &str, error: &ParquetError) -> Option<SnapshotError> {
    let ParquetError::External(cause) = error else {
        return None;
    };
    if let Some(cause) = cause.downcast_ref::<SnapshotError>() {
        return Some(cause.clone());
    }
    if let Some(Refused { what }) = cause.downcast_ref() {
        return Some(SnapshotError::new(SnapshotErrorKind::Unreadable, at, what).hint("cast it in the export"));
    }
    cause
        .downcast_ref::<io::Error>()
        .filter(|cause| cause.kind() != io::ErrorKind::UnexpectedEof)
        .map(|cause| of_io(at, cause))
}

/// The reader's words without the names of their enums, which may be inside each other.
fn plain(error: &ParquetError) -> String {
    let text = error.to_string();
    let mut text = text.trim_end_matches('.');
    while let Some((first, rest)) = text.split_once(": ")
        && ["Parquet error", "EOF", "NYI", "Arrow", "External"].contains(&first)
    {
        text = rest;
    }
    text.to_owned()
}

/// What the other side answered: the status and its reason, or why there was no answer.
fn answer(error: &object_store::Error) -> String {
    // The types of the request's errors can't be named from outside; their texts can, and hold no url.
    const STATUS: &str = "Server returned non-2xx status code: ";
    const REDIRECT: &str = "Received redirect without LOCATION";
    // Without credentials in the environment a client asks the machine's cloud for some; most machines are in none.
    const METADATA: [&str; 4] = ["/latest/api/token", "/latest/meta-data", "/computeMetadata/", "/metadata/identity"];
    let mut cause: &dyn std::error::Error = error;
    loop {
        let text = cause.to_string();
        if METADATA.iter().any(|path| text.contains(path)) {
            return NO_CREDENTIALS.to_owned();
        }
        if let Some(answer) = text.strip_prefix(STATUS) {
            return status_line(answer);
        }
        if text.starts_with(REDIRECT) {
            return "the server redirects to nowhere; is the region the bucket's?".to_owned();
        }
        match cause.source() {
            Some(source) => cause = source,
            None => {
                // Only some innermost texts end with the url, which may be signed.
                let text = text.split(" for url").next().unwrap_or(&text);
                return format!("no answer: {}", lower(text));
            }
        }
    }
}

/// `503 Service Unavailable`, with the code of an S3 or Azure error document where there is one.
fn status_line(answer: &str) -> String {
    let (status, body) = answer.split_once(": ").unwrap_or((answer, ""));
    let code = body.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    match code {
        Some((code, _)) => format!("the server answered {status} ({code})"),
        None => format!("the server answered {status}"),
    }
}

fn lower(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_lowercase().chain(chars).collect())
}
