//! The console: static files, embedded as they are served.
//!
//! The files are in `serve/console/`: ES modules, a stylesheet, a shell. Their addresses contain a hash of all of them, so that
//! browsers keep them for ever and never mix two versions; only the shell, which names that hash, is asked for again. They are
//! compressed once, when the first is asked for. Promises: nothing but these files runs in the page, by its
//! `Content-Security-Policy`; a file is sent with `ETag`, and not sent to who has it.

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap,
    HeaderName, HeaderValue, IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::Response;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use std::io::Write;
use std::sync::LazyLock;

/// What the page may load and do: its own files, and requests to its own server. No inline code, no inline style.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// The file that `/` answers with.
const SHELL: &str = "index.html";
/// In the shell, what stands for the hash of all files.
const PLACEHOLDER: &str = "{version}";
/// Bytes of the hash in addresses.
const HASH_BYTES: usize = 8;

macro_rules! files {
    ($($name:literal)*) => {
        &[$(($name, include_bytes!(concat!("../console/", $name)))),*]
    };
}

/// The files, by name.
const FILES: &[(&str, &[u8])] = files! {
    "index.html" "style.css" "icon.svg"
    "main.js" "dom.js" "api.js" "stream.js" "format.js" "charts.js" "parts.js"
    "overview.js" "audiences.js" "audience.js" "person.js" "models.js" "syncs.js" "sources.js" "job.js"
};

/// How the console is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Console {
    /// Whether it offers what changes something, to those whose key allows it.
    pub actions: bool,
}

/// A file as it is sent.
struct Asset {
    name: &'static str,
    kind: HeaderValue,
    etag: HeaderValue,
    plain: Bytes,
    compressed: Bytes,
}

/// All files, and their hash.
struct Assets {
    version: String,
    files: Vec<Asset>,
}

static ASSETS: LazyLock<Assets> = LazyLock::new(|| {
    let mut hash = Sha256::new();
    for (name, bytes) in FILES {
        hash.update(name);
        hash.update(bytes);
    }
    let version = hex(&hash.finalize()[..HASH_BYTES]);
    let asset = |(name, bytes): &(&'static str, &'static [u8])| {
        let plain = match *name {
            SHELL => Bytes::from(String::from_utf8_lossy(bytes).replace(PLACEHOLDER, &version)),
            _ => Bytes::from_static(bytes),
        };
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&plain).expect("writing to memory");
        let compressed = encoder.finish().expect("writing to memory").into();
        let etag = format!("\"{}\"", hex(&Sha256::digest(&plain)[..HASH_BYTES]));
        let etag = HeaderValue::try_from(etag).expect("digits are ASCII");
        Asset { name, kind: HeaderValue::from_static(kind(name)), etag, plain, compressed }
    };
    Assets { files: FILES.iter().map(asset).collect(), version }
});

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the type of a file by its name.
fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, end)| end) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

/// Returns the answer with the shell.
pub(crate) fn shell(headers: &HeaderMap) -> Response {
    let shell = ASSETS.files.iter().find(|asset| asset.name == SHELL).expect("it is one of the files");
    answer(shell, headers, "no-cache")
}

/// Returns the answer with a file of a version; `None` if there is no such file.
pub(crate) fn file(version: &str, name: &str, headers: &HeaderMap) -> Option<Response> {
    let asset = ASSETS.files.iter().find(|asset| asset.name == name && name != SHELL)?;
    (version == ASSETS.version).then(|| answer(asset, headers, "public, max-age=31536000, immutable"))
}

fn answer(asset: &Asset, headers: &HeaderMap, keep: &'static str) -> Response {
    let has = |name: HeaderName, what: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|value| value.split(';').next().unwrap_or("").trim() == what)
    };
    let mut response = Response::new(Body::empty());
    let to_client = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (VARY, "accept-encoding"),
        (CACHE_CONTROL, keep),
    ] {
        to_client.insert(name, HeaderValue::from_static(value));
    }
    to_client.insert(ETAG, asset.etag.clone());
    if has(IF_NONE_MATCH, asset.etag.to_str().expect("digits are ASCII")) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    to_client.insert(CONTENT_TYPE, asset.kind.clone());
    let body = if has(ACCEPT_ENCODING, "gzip") {
        to_client.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        asset.compressed.clone()
    } else {
        asset.plain.clone()
    };
    *response.body_mut() = body.into();
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// All files together, compressed: what a browser loads once.
    const COMPRESSED_MAX: usize = 150_000;

    #[test]
    fn every_file_of_the_folder_is_embedded() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/console");
        let files = std::fs::read_dir(folder).expect("the folder is there");
        let files: BTreeSet<String> =
            files.map(|file| file.expect("it can be read").file_name().into_string().expect("UTF-8")).collect();
        let embedded: BTreeSet<String> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(files, embedded);
    }

    #[test]
    fn all_files_together_are_small() {
        let bytes: usize = ASSETS.files.iter().map(|asset| asset.compressed.len()).sum();
        assert!(bytes < COMPRESSED_MAX, "{bytes}");
    }

    #[test]
    fn the_shell_has_the_pages_of_main() {
        let text = |name: &str| {
            let (_, bytes) = FILES.iter().find(|(file, _)| *file == name).expect("it is one of the files");
            std::str::from_utf8(bytes).expect("it is text")
        };
        let (_, pages) = text("main.js").split_once("const PAGES = [\n").expect("main.js lists the pages");
        let (pages, _) = pages.split_once("\n];").expect("the list ends");
        let links = pages.lines().map(|page| {
            let parts: Vec<&str> = page.split('\'').collect();
            format!("<li><a href=\"#/{}\">{}</a></li>", parts[1], parts[3])
        });
        let shell: Vec<&str> = text(SHELL).lines().map(str::trim).filter(|line| line.starts_with("<li>")).collect();
        assert_eq!(shell, links.collect::<Vec<String>>());
    }

    #[test]
    fn modules_name_only_files_that_are_there_and_no_markup_is_written() {
        for (name, bytes) in FILES.iter().filter(|(name, _)| name.ends_with(".js")) {
            let text = std::str::from_utf8(bytes).expect("a module is text");
            for part in text.split(" from '").skip(1) {
                let module = part.split('\'').next().expect("a split has a first part").trim_start_matches("./");
                assert!(FILES.iter().any(|(file, _)| *file == module), "{name} names {module}");
            }
            for sink in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"] {
                assert!(!text.contains(sink), "{name} has {sink}");
            }
        }
    }
}
