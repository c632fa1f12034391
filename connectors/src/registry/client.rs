//! Requests to a registry, and what their answers mean.

use super::Lookup;
use crate::webhook::target::is_loopback;
use percent_encoding::percent_decode_str;
use reqwest::{StatusCode, redirect};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use url::Url;
use usher_core::schemas::{Reference, Schema, SchemaId, SchemaKind};
use usher_core::source::SourceError;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer, bytes: schemas of registries are some KiB, and at most a few MiB.
const ANSWER_MAX: usize = 16 << 20;
/// Schemas that one may refer to, those that they refer to included.
const REFERENCES_MAX: usize = 1_000;

/// A client of one registry.
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    username: Option<String>,
    password: Option<String>,
    /// Its address without what may be secret.
    pub(super) shown: String,
    /// Whether it has answered as a registry does.
    answered: AtomicBool,
}

/// Why there is no schema. Each is a clause about the registry or the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The registry does not have it.
    Missing(String),
    /// It can't be used, whatever is answered later.
    Unusable(String),
    /// The registry refuses the user.
    Refused(String),
    /// There is no answer of a registry.
    Away(String),
}

impl Fault {
    /// Returns a clause whose subject is the registry, or the schema.
    pub(super) fn reason(&self) -> &str {
        match self {
            Fault::Missing(reason) | Fault::Unusable(reason) | Fault::Refused(reason) | Fault::Away(reason) => reason,
        }
    }

    pub(super) fn hint(&self) -> &'static str {
        match self {
            Fault::Refused(_) => "set `username` and `password` of the source's `registry`",
            Fault::Unusable(_) => "register the schema with all that it refers to",
            Fault::Missing(_) | Fault::Away(_) => {
                "see that `registry.url` is the address of a registry that is compatible with Confluent's, and that this machine may reach it"
            }
        }
    }
}

/// Reads the address of a registry. The error does not quote it.
pub(super) fn base(text: &str) -> Result<Url, String> {
    let url = Url::parse(text.trim()).map_err(|error| format!("this is not a url: {error}"))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        scheme => Err(format!("a registry is read by `https` or `http`, not `{scheme}`")),
    }
}

/// A version of a subject.
type Version = (String, i64);
/// A schema of an answer: its language, its text, and what it refers to, by name.
type Read = (SchemaKind, String, Vec<(String, Version)>);

impl Client {
    pub(super) fn new(
        source: &str,
        registry: &usher_config::Registry,
        variable: Lookup<'_>,
    ) -> Result<Client, SourceError> {
        let failed = |url: &str, reason: String| SourceError::Registry {
            id: source.to_owned(),
            url: url.to_owned(),
            reason,
            hint: "`usher check` names its place",
        };
        let text =
            registry.url.secret.resolve(variable).map_err(|reason| failed("…", format!("has no url: {reason}")))?;
        let mut base = base(&text).map_err(|reason| failed("…", format!("has no url: {reason}")))?;
        let shown = format!("{}{}", base.origin().ascii_serialization(), base.path().trim_end_matches('/'));
        let password = registry.password.as_ref().map(|password| password.secret.resolve(variable)).transpose();
        let password = password.map_err(|reason| failed(&shown, format!("has no password: {reason}")))?;
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let of_url = (!base.username().is_empty()).then(|| decoded(base.username()));
        let (username, password) = match (&registry.username, of_url) {
            (Some(username), _) => (Some(username.clone()), password),
            (None, Some(username)) => (Some(username), base.password().map(decoded)),
            (None, None) => (None, None),
        };
        // A url of http takes both.
        let _ = base.set_username("");
        let _ = base.set_password(None);
        // Another part of the program may have installed it: the same.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .timeout(TIMEOUT)
            // Nobody looks after a connection between two requests, which are minutes apart.
            .pool_max_idle_per_host(0)
            .user_agent(concat!("usher/", env!("CARGO_PKG_VERSION")));
        if base.host().is_some_and(|host| is_loopback(&host)) {
            // A proxy would take its own machine for this one.
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| failed(&shown, format!("can't be asked: {error}")))?;
        Ok(Client { http, base, username, password, shown, answered: AtomicBool::new(false) })
    }

    /// Returns a name for the registry, which its address gives.
    pub(super) fn name(&self) -> String {
        format!("{:016x}", xxhash_rust::xxh3::xxh3_64(self.shown.as_bytes()))
    }

    pub(super) fn error(&self, source: &str, fault: Fault) -> SourceError {
        let hint = fault.hint();
        let (Fault::Missing(reason) | Fault::Unusable(reason) | Fault::Refused(reason) | Fault::Away(reason)) = fault;
        SourceError::Registry { id: source.to_owned(), url: self.shown.clone(), reason, hint }
    }

    /// Requests whether the registry is there.
    pub(super) async fn probe(&self) -> Result<(), Fault> {
        match self.get(&["schemas", "types"]).await {
            // One that lacks the route is there.
            Ok(_) | Err(Fault::Missing(_) | Fault::Unusable(_)) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// Requests the schema of an id, with all that it refers to.
    pub(super) async fn schema(&self, id: SchemaId) -> Result<Schema, Fault> {
        let text = id.to_string();
        let found = match id {
            SchemaId::Number(_) => self.get(&["schemas", "ids", &text]).await,
            SchemaId::Guid(_) => self.get(&["schemas", "guids", &text]).await,
        };
        let answer = match found {
            Ok(answer) => answer,
            Err(Fault::Missing(_)) => return Err(Fault::Missing("the registry has no schema of this id".to_owned())),
            Err(fault) => return Err(fault),
        };
        self.whole(answer, None).await
    }

    /// Requests the latest schema of a subject, with all that it refers to.
    pub(super) async fn latest(&self, subject: &str) -> Result<Schema, Fault> {
        let answer = self.get(&["subjects", subject, "versions", "latest"]).await?;
        self.whole(answer, Some(subject)).await
    }

    /// Reads an answer with a schema, and requests all that it refers to.
    async fn whole(&self, answer: Value, subject: Option<&str>) -> Result<Schema, Fault> {
        let (kind, text, to) = read(&answer)?;
        let version = answer["version"].as_i64();
        // What is to be read next, from the last one on: a schema, whose references come first, or the end of one.
        enum Step {
            Enter(String, Version),
            Leave(Reference),
        }
        // The versions around the one at hand, and all that have been read.
        let mut around: Vec<Version> =
            subject.zip(version).map(|(subject, version)| (subject.to_owned(), version)).into_iter().collect();
        let mut seen: Vec<Version> = Vec::new();
        let mut references = Vec::new();
        let mut left: Vec<Step> = to.into_iter().rev().map(|(name, version)| Step::Enter(name, version)).collect();
        while let Some(step) = left.pop() {
            let (name, version) = match step {
                Step::Leave(reference) => {
                    around.pop();
                    references.push(reference);
                    continue;
                }
                Step::Enter(name, version) => (name, version),
            };
            if around.contains(&version) {
                let circle: Vec<String> =
                    around.iter().chain([&version]).map(|(subject, number)| format!("`{subject}` {number}")).collect();
                return Err(Fault::Unusable(format!("the schema's references form a circle: {}", circle.join(" → "))));
            }
            if seen.contains(&version) {
                continue;
            }
            if seen.len() >= REFERENCES_MAX {
                return Err(Fault::Unusable(format!("the schema refers to more than {REFERENCES_MAX} others")));
            }
            seen.push(version.clone());
            let answer = match self.get(&["subjects", &version.0, "versions", &version.1.to_string()]).await {
                Err(Fault::Missing(_)) => {
                    let (subject, number) = version;
                    return Err(Fault::Unusable(format!(
                        "the schema refers to version {number} of `{subject}`, which the registry does not have"
                    )));
                }
                answer => answer?,
            };
            let (_, text, to) = read(&answer)?;
            around.push(version);
            left.push(Step::Leave(Reference { name, text }));
            left.extend(to.into_iter().rev().map(|(name, version)| Step::Enter(name, version)));
        }
        Ok(Schema { kind, text, references })
    }

    /// Requests a path.
    async fn get(&self, path: &[&str]) -> Result<Value, Fault> {
        let away = |reason: String| Err(Fault::Away(reason));
        let mut url = self.base.clone();
        url.path_segments_mut().expect("a url of http has a path").pop_if_empty().extend(path);
        let mut request =
            self.http.get(url).header("accept", "application/vnd.schemaregistry.v1+json, application/json");
        if let Some(username) = &self.username {
            request = request.basic_auth(username, self.password.as_ref());
        }
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return away(format!("does not answer: {}", crate::webhook::describe(&error))),
        };
        let status = response.status();
        let mut bytes = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if bytes.len() + chunk.len() <= ANSWER_MAX => bytes.extend_from_slice(&chunk),
                Ok(Some(_)) => return away(format!("answers with more than {} MiB", ANSWER_MAX >> 20)),
                Ok(None) => break,
                Err(error) => return away(format!("does not answer to its end: {}", crate::webhook::describe(&error))),
            }
        }
        let json: Option<Value> = serde_json::from_slice(&bytes).ok();
        let is_html = bytes.trim_ascii_start().starts_with(b"<");
        match (status, json) {
            (status, Some(json)) if status.is_success() => {
                self.answered.store(true, Ordering::Relaxed);
                Ok(json)
            }
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => {
                Err(Fault::Refused(format!("refuses the user: {status}")))
            }
            (StatusCode::NOT_FOUND, json) => {
                // A page of something else says nothing about a schema, unless the registry is known to be there.
                if is_html && json.is_none() && !self.answered.load(Ordering::Relaxed) {
                    return away(format!("answers {status} with HTML, as no registry does"));
                }
                Err(Fault::Missing(format!("answers {status}")))
            }
            // A GUID that is none, of a registry that has no GUIDs.
            (StatusCode::UNPROCESSABLE_ENTITY, Some(_)) => Err(Fault::Missing(format!("answers {status}"))),
            (status, _) if status.is_success() && is_html => away("answers with HTML, not with JSON".to_owned()),
            (status, _) if status.is_success() => away("answers with something else than JSON".to_owned()),
            (status, _) => away(format!("answers {status}")),
        }
    }
}

/// Reads a schema of an answer.
fn read(answer: &Value) -> Result<Read, Fault> {
    let Some(text) = answer["schema"].as_str() else {
        return Err(Fault::Away("answers with JSON that has no `schema`".to_owned()));
    };
    let kind = answer["schemaType"].as_str().unwrap_or("AVRO");
    let Some(language) = SchemaKind::of_registry(kind) else {
        return Err(Fault::Unusable(format!("the schema is of the type `{kind}`, which is not read")));
    };
    let references = answer["references"].as_array().into_iter().flatten().map(|reference| {
        let part = |name: &str| reference[name].as_str().map(str::to_owned);
        Some((part("name")?, (part("subject")?, reference["version"].as_i64()?)))
    });
    let references: Option<Vec<_>> = references.collect();
    let references = references
        .ok_or_else(|| Fault::Unusable("the schema has a reference without name, subject or version".to_owned()))?;
    Ok((language, text.to_owned(), references))
}
