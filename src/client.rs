//! A client of a running job's API, for the commands that use it.

use crate::exit::Exit;
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;
use usher_core::edit::EditReport;

/// The API's default address.
const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// How long an answer may take: longer than the server's own limit, which gives a reason.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How long an edit may take to be worked out: sources may hold much.
const DIFF_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// How to reach the API.
#[derive(Debug, clap::Args)]
pub struct Connection {
    /// The API's address (default: $USHER_URL, else http://127.0.0.1:8080).
    #[arg(long)]
    pub url: Option<String>,
    /// A file that contains a key of the API (default: the key in $USHER_API_KEY).
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// A connection to the API.
pub struct Client {
    url: Url,
    key: Option<String>,
    http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

/// A successful answer.
pub struct Answer {
    /// The answer's `Usher-As-Of`, if it has one.
    pub as_of: Option<String>,
    /// The body.
    pub body: Value,
}

impl Client {
    /// Reads the address and the key; sends nothing yet.
    pub fn new(connection: &Connection) -> Result<Client, Exit> {
        let url = connection.url.clone().or_else(|| variable("USHER_URL")).unwrap_or_else(|| DEFAULT_URL.to_owned());
        let wrong = |reason: &str| {
            Exit::wrong(format_args!("`{url}` is not the url of an API: {reason}"))
                .hint("give one like http://127.0.0.1:8080".to_owned())
        };
        let url = Url::parse(&url).map_err(|error| wrong(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("it begins with neither `http://` nor `https://`"));
        }
        let key = match &connection.key_file {
            None => variable("USHER_API_KEY"),
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| {
                    Exit::wrong(format_args!("the key file `{}` can't be read: {error}", path.display()))
                })?;
                Some(text.trim().to_owned())
            }
        };
        let failed = |error: &dyn std::fmt::Display| Exit::failed(format_args!("no connection can be made: {error}"));
        let http = usher_serve::http_client().timeout(TIMEOUT).build().map_err(|error| failed(&error))?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| failed(&error))?;
        Ok(Client { url, key, http, runtime })
    }

    /// Sends a GET to a path, given as segments.
    pub fn get(&self, path: &[&str]) -> Result<Answer, Exit> {
        self.send(self.request(Method::GET, path, &[]))
    }

    /// Sends a GET to a path, given as segments, with a query.
    pub fn get_with(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Answer, Exit> {
        self.send(self.request(Method::GET, path, query))
    }

    /// Sends a POST with `body` to a path, given as segments.
    pub fn post(&self, path: &[&str], body: &Value) -> Result<Answer, Exit> {
        self.send(self.request(Method::POST, path, &[]).json(body))
    }

    /// Sends a POST without a body to a path, given as segments. The body of an answer without one is null.
    pub fn post_nothing(&self, path: &[&str]) -> Result<Answer, Exit> {
        self.send(self.request(Method::POST, path, &[]))
    }

    /// Sends a plan file to `/v1/diff`; waits for as long as it takes.
    pub fn diff(&self, plan: Vec<u8>, read: bool) -> Result<EditReport, Exit> {
        let query: &[(&str, &str)] = if read { &[("read", "true")] } else { &[] };
        let request = self.request(Method::POST, &["v1", "diff"], query).timeout(DIFF_TIMEOUT);
        let answer = self.send(request.header("content-type", "application/octet-stream").body(plan))?;
        serde_json::from_value(answer.body).map_err(|error| self.foreign(&format!("its report can't be read: {error}")))
    }

    /// Returns the answer of `/readyz`, whatever its status.
    pub fn readiness(&self) -> Result<Value, Exit> {
        let (_, _, text) = self.exchange(self.request(Method::GET, &["readyz"], &[]))?;
        self.parse(&text)
    }

    fn request(&self, method: Method, path: &[&str], query: &[(&str, &str)]) -> RequestBuilder {
        let mut url = self.url.clone();
        url.path_segments_mut().expect("a url of http has a path").pop_if_empty().extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.http.request(method, url);
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    fn send(&self, request: RequestBuilder) -> Result<Answer, Exit> {
        let (status, as_of, text) = self.exchange(request)?;
        if status == StatusCode::NO_CONTENT {
            return Ok(Answer { as_of, body: Value::Null });
        }
        if status.is_success() {
            return Ok(Answer { as_of, body: self.parse(&text)? });
        }
        let problem: Value = serde_json::from_str(&text).unwrap_or_default();
        let Some(detail) = problem["detail"].as_str() else {
            return Err(self.foreign(&format!("it answers {status}")));
        };
        Err(match status {
            StatusCode::UNAUTHORIZED => {
                let how = if self.key.is_some() { "does not accept the key" } else { "requires a key" };
                Exit::wrong(format_args!("the API at `{}` {how}", self.url))
                    .hint("set USHER_API_KEY, or give `--key-file`".to_owned())
            }
            StatusCode::FORBIDDEN => Exit::wrong(format_args!("the API at `{}` refuses: {detail}", self.url)),
            StatusCode::NOT_FOUND if detail.starts_with("no route") => Exit::wrong(detail)
                .hint("give `--url` as the job prints it at the start (`api on ...`), without a path".to_owned()),
            StatusCode::NOT_FOUND => Exit::wrong(detail),
            _ => Exit::failed(format_args!("the API at `{}` answers {status}: {detail}", self.url)),
        })
    }

    fn exchange(&self, request: RequestBuilder) -> Result<(StatusCode, Option<String>, String), Exit> {
        let answered = self.runtime.block_on(async {
            let response = request.send().await?;
            let as_of = response.headers().get("usher-as-of").and_then(|time| time.to_str().ok()).map(str::to_owned);
            Ok((response.status(), as_of, response.text().await?))
        });
        answered.map_err(|error: reqwest::Error| {
            let reason = match std::iter::successors(std::error::Error::source(&error), |cause| cause.source()).last() {
                Some(cause) => cause.to_string(),
                None => error.to_string(),
            };
            let hint = match self.url.scheme() {
                "https" => "the API of a job speaks http; https is for a proxy before it",
                _ => "check that the job is running and has an `api`; `--url` or USHER_URL sets the address",
            };
            Exit::not_opened(format_args!("no API answers at `{}`: {reason}", self.url)).hint(hint.to_owned())
        })
    }

    fn parse(&self, text: &str) -> Result<Value, Exit> {
        serde_json::from_str(text).map_err(|_| self.foreign("its answer is not JSON"))
    }

    fn foreign(&self, why: &str) -> Exit {
        Exit::failed(format_args!("what answers at `{}` is not usher's API: {why}", self.url))
    }
}

/// Returns an environment variable; `None` if it is not set or empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
