//! Reads what a job says of a webhook: finds what is wrong with it, and opens it. Connects to nothing.

use super::address::Addresses;
use super::queue::BatchBounds;
use super::request::{OWN_HEADERS, Requests};
use super::schedule::Schedule;
use super::signature::Key;
use super::target::{Target, TargetError};
use super::vendor::Vendor;
use crate::messages::template::{self, Templates};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Client, Method, redirect};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use url::Host;
use usher_config::{Place, PlacedSecret, Problem, Rate, Sync, SyncTo, Text, WebhookMode, WebhookTarget};
use usher_core::clock::Clock;
use usher_core::sink::SinkError;

/// Connections that are not used are closed after so long: below what servers keep them open, so that few are reset.
const IDLE: Duration = Duration::from_secs(20);
/// How long a check waits for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What the variables of proxies are called.
const PROXY_VARIABLES: [&str; 6] = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// Returns the value of an environment variable by its name.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// How a sync sends requests.
pub(crate) struct Opened {
    /// The sync's id, for the log.
    pub(super) id: String,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) requests: Arc<Requests>,
    pub(super) client: Client,
    pub(super) limiter: Option<DefaultDirectRateLimiter>,
    pub(super) schedule: Schedule,
    pub(super) batch: Option<BatchBounds>,
    pub(super) concurrency: usize,
    pub(super) keep: u64,
    pub(super) keep_bytes: u64,
    pub(super) is_state: bool,
    /// Whether the sync sends updates: columns are part of what a destination holds.
    pub(super) sends_updates: bool,
}

/// Returns what is wrong with a sync that goes to a webhook; nothing if it goes elsewhere. A secret whose variable is not set is
/// checked when the sync is opened.
pub fn check(sync: &Sync, variable: Lookup) -> Vec<Problem> {
    match &sync.to {
        SyncTo::Webhook(target) => requests(sync, target, variable, Missing::Pass).1,
        SyncTo::File(_) | SyncTo::Stdout | SyncTo::Kafka(_) => Vec::new(),
    }
}

/// Opens the webhook of the sync `id`; paths are relative to `folder`.
///
/// # Errors
///
/// What [`check`] finds, and a file of certificates that can't be read.
pub(crate) fn open(
    id: &str,
    sync: &Sync,
    target: &WebhookTarget,
    folder: &Path,
    variable: Lookup,
    clock: Arc<dyn Clock>,
) -> Result<Opened, SinkError> {
    let requests = checked(sync, target, variable)?;
    let client = client(&requests.target, target, folder, variable)?;
    Ok(Opened {
        id: id.to_owned(),
        clock,
        requests: Arc::new(requests),
        client,
        limiter: target.rate.and_then(limiter),
        schedule: Schedule {
            first: Duration::from_millis(target.retry.first),
            most: Duration::from_millis(target.retry.most),
        },
        batch: target.batch.map(|batch| BatchBounds {
            changes: batch.changes as usize,
            bytes: usize::try_from(batch.bytes).unwrap_or(usize::MAX),
            wait: Duration::from_millis(batch.wait),
        }),
        concurrency: target.concurrency as usize,
        keep: target.keep,
        keep_bytes: target.keep_bytes,
        is_state: target.mode == WebhookMode::State,
        sends_updates: sync.send_update,
    })
}

/// Checks that the webhook of a sync can be opened and connected to; nothing is sent. A destination behind a proxy is not connected to.
/// Succeeds for a sync that goes elsewhere.
///
/// # Errors
///
/// What [`check`] finds; a file of certificates that can't be read; a name that is not resolved, an address that is refused, a port
/// where nobody listens.
pub fn connect(sync: &Sync, folder: &Path, variable: Lookup) -> Result<(), SinkError> {
    let SyncTo::Webhook(target) = &sync.to else { return Ok(()) };
    let requests = checked(sync, target, variable)?;
    let to = &requests.target;
    client(to, target, folder, variable)?;
    if !to.is_loopback() && PROXY_VARIABLES.iter().any(|name| variable(name).is_some()) {
        return Ok(());
    }
    let failed = |reason: String| SinkError::Failed {
        to: format!("`{}`", to.shown()),
        action: "connected to",
        reason,
        hint: "see that the endpoint is up and that this machine may reach it",
    };
    let addresses = Addresses { deny_private: target.deny_private, proxies: [].into() };
    let found: Vec<SocketAddr> = to.address().to_socket_addrs().map_err(|error| failed(error.to_string()))?.collect();
    let mut last = "its name has no address".to_owned();
    for address in found {
        let tried = match addresses.denied(address.ip()) {
            Some(denied) => Err(denied.to_string()),
            None => TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).map_err(|error| error.to_string()),
        };
        match tried {
            Ok(_) => return Ok(()),
            Err(reason) => last = reason,
        }
    }
    Err(failed(last))
}

/// Reads how requests are written; the error is the first of what is wrong with that.
fn checked(sync: &Sync, target: &WebhookTarget, variable: Lookup) -> Result<Requests, SinkError> {
    let (requests, problems) = requests(sync, target, variable, Missing::Report);
    requests.filter(|_| problems.is_empty()).ok_or_else(|| {
        let reason = problems.first().map_or_else(|| "it is wrong".to_owned(), |problem| problem.message.clone());
        let hint = "`usher check` names its place";
        SinkError::Failed { to: "the webhook".to_owned(), action: "opened", reason, hint }
    })
}

/// Returns a limiter that lets a fiftieth of a second's requests come at once.
fn limiter(rate: Rate) -> Option<DefaultDirectRateLimiter> {
    let number = u64::from(rate.number);
    let period = Duration::from_nanos(rate.unit_ms * 1_000_000 / number);
    let burst = u32::try_from(number * 1_000 / rate.unit_ms / 50).unwrap_or(u32::MAX);
    let burst = NonZero::new(burst).unwrap_or(NonZero::<u32>::MIN);
    Some(RateLimiter::direct(Quota::with_period(period)?.allow_burst(burst)))
}

fn client(to: &Target, target: &WebhookTarget, folder: &Path, variable: Lookup) -> Result<Client, SinkError> {
    // Another part of the program may have installed it: the same.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let hosts = PROXY_VARIABLES.iter().filter_map(|name| variable(name)).filter_map(|proxy| {
        let url = url::Url::parse(&proxy).or_else(|_| url::Url::parse(&format!("http://{proxy}"))).ok()?;
        url.host_str().map(str::to_owned)
    });
    let addresses = Addresses { deny_private: target.deny_private, proxies: hosts.collect() };
    let mut builder = Client::builder()
        .redirect(redirect::Policy::none())
        .timeout(Duration::from_millis(target.timeout))
        .dns_resolver(Arc::new(addresses))
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(target.concurrency as usize)
        .user_agent(concat!("usher/", env!("CARGO_PKG_VERSION")));
    if to.is_loopback() {
        // A proxy would take its own machine for this one.
        builder = builder.no_proxy();
    }
    if let Some(ca) = &target.ca {
        let path = folder.join(&ca.value);
        let failed = |reason: String| SinkError::Failed {
            to: format!("`{}`", path.display()),
            action: "opened",
            reason,
            hint: "`ca` is a file of certificates in PEM, relative to the job file's folder",
        };
        let pem = std::fs::read(&path).map_err(|error| failed(error.to_string()))?;
        let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| failed(error.to_string()))?;
        if certificates.is_empty() {
            return Err(failed("it holds no certificate".to_owned()));
        }
        builder = builder.tls_certs_only(certificates);
    }
    builder.build().map_err(|error| SinkError::Failed {
        to: format!("`{}`", to.shown()),
        action: "opened",
        reason: super::describe(&error),
        hint: "see that this machine has certificates of authorities, or give `ca`",
    })
}

/// Reads how requests are written, and finds what is wrong with that.
fn requests(
    sync: &Sync,
    target: &WebhookTarget,
    variable: Lookup,
    missing: Missing,
) -> (Option<Requests>, Vec<Problem>) {
    let variable = Variables { lookup: variable, missing };
    let mut problems = Vec::new();
    let include: Vec<&str> = sync.include.iter().map(|column| column.value.as_str()).collect();
    let to = url(target, &include, variable, &mut problems);
    let keys = target.secrets.iter().filter_map(|secret| key(secret, variable, &mut problems)).collect();
    let is_batch = target.batch.is_some();
    let mut headers = headers(target, variable, &mut problems);
    if !headers.contains_key(CONTENT_TYPE) {
        let content_type = match &target.body {
            Some(_) => "application/json",
            None => Requests::content_type(sync.format, is_batch),
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    let vendor = vendor(sync, target, variable, (&include, &mut headers), &mut problems);
    let body = target.body.as_ref().and_then(|body| {
        problems.extend(template::check(std::iter::once(body), &include));
        Templates::new(std::iter::once(body.value.as_str())).ok()
    });
    if target.retry.first > target.retry.most {
        let problem = Problem::new(&target.url.place, "`retry.first` is longer than `retry.most`");
        problems.push(problem.hint("the first retry waits `first`, doubled each time up to `most`"));
    }
    let method = Method::from_bytes(target.method.name().as_bytes()).expect("it is one of those that HTTP has");
    let requests =
        to.map(|to| Requests { target: to, method, headers, keys, body, is_batch, gzip: target.gzip, vendor });
    (requests, problems)
}

/// Reads how requests of a destination by name are written, and adds the header with its key.
fn vendor(
    sync: &Sync,
    target: &WebhookTarget,
    variable: Variables<'_>,
    (include, headers): (&[&str], &mut HeaderMap),
    problems: &mut Vec<Problem>,
) -> Option<Vendor> {
    let vendor = target.vendor.as_ref()?;
    let name = vendor.api.vendor();
    let own = Vendor::own_names(&vendor.api);
    for column in sync.include.iter().filter(|column| own.contains(&column.value.as_str())) {
        let message = format!("`{}` is not for a column to set: {name} has its own meaning for it", column.value);
        problems.push(Problem::new(&column.place, message));
    }
    let found = template::check(vendor.id.iter().chain(&vendor.attribute), include);
    let is_written = found.is_empty();
    problems.extend(found);
    let key = variable.resolved(&vendor.key, problems);
    if let Some(key) = key {
        match Vendor::authorization(&vendor.api, key.trim()) {
            Some((header, value)) => drop(headers.insert(header, value)),
            None => problems.push(Problem::new(&vendor.key.place, "this key has characters that headers can't have")),
        }
    }
    is_written.then(|| Vendor::new(vendor))
}

/// What becomes of a secret whose variable is not set.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Report,
    Pass,
}

/// The variables of secrets.
#[derive(Clone, Copy)]
struct Variables<'a> {
    lookup: Lookup<'a>,
    missing: Missing,
}

impl Variables<'_> {
    /// Reads a secret.
    fn resolved(self, secret: &PlacedSecret, problems: &mut Vec<Problem>) -> Option<String> {
        match secret.secret.resolve(self.lookup) {
            Ok(text) => Some(text),
            Err(reason) => {
                if self.missing == Missing::Report {
                    problems.push(Problem::new(&secret.place, reason));
                }
                None
            }
        }
    }
}

fn url(
    target: &WebhookTarget,
    include: &[&str],
    variable: Variables<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Target> {
    let text = variable.resolved(&target.url, problems)?;
    let place = &target.url.place;
    let to = match Target::read(&text) {
        Ok(to) => to,
        Err(error) => {
            let hint = match error {
                TargetError::NoUrl(_) => "write it as in `https://crm.example.com/hooks/usher`",
                TargetError::HostTemplate => "templates make path and query: `https://crm.example.com/users/{{ key }}`",
                TargetError::Template(_) => "templates are written as in `{{ row.plan }}`",
                TargetError::Scheme(_) => "write it as in `https://crm.example.com/hooks/usher`",
            };
            problems.push(Problem::new(place, error.to_string()).hint(hint));
            return None;
        }
    };
    if to.has_templates() && target.vendor.is_some() {
        problems.push(Problem::new(place, "the host of a destination by name has no templates"));
    } else if to.has_user_or_query() && target.vendor.is_some() {
        let problem = Problem::new(place, "the host of a destination by name has no query and no user");
        problems.push(problem.hint("write scheme, host and path only, as in `https://proxy.example.com/crm`"));
    } else if to.has_templates() {
        problems.extend(template::check(std::iter::once(&Text { value: text, place: place.clone() }), include));
        if target.batch.is_some() {
            let problem = Problem::new(place, "a batch has one url, and this one differs by change");
            problems.push(problem.hint("leave out `batch`, or the templates"));
        }
    }
    if !to.is_https() && !to.is_loopback() && !target.allow_http {
        let problem =
            Problem::new(place, format!("`{}` would get changes that anybody on the way can read", to.shown()));
        problems.push(problem.hint("use `https`, or set `allow_http: true`"));
    }
    let literal = match to.host() {
        Host::Domain(_) => None,
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
    };
    let addresses = Addresses { deny_private: target.deny_private, proxies: [].into() };
    if let Some(denied) = literal.and_then(|address| addresses.denied(address)) {
        problems.push(Problem::new(place, denied.to_string()));
    }
    Some(to)
}

fn key(secret: &PlacedSecret, variable: Variables<'_>, problems: &mut Vec<Problem>) -> Option<Key> {
    let text = variable.resolved(secret, problems)?;
    match Key::read(&text) {
        Ok(key) => Some(key),
        Err(reason) => {
            let problem = Problem::new(&secret.place, format!("this is not a secret of webhooks: {reason}"));
            problems.push(problem.hint("make one with `echo whsec_$(openssl rand -base64 32)`"));
            None
        }
    }
}

fn headers(target: &WebhookTarget, variable: Variables<'_>, problems: &mut Vec<Problem>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, secret) in &target.headers {
        let report = |problems: &mut Vec<Problem>, place: &Place, message: String| {
            problems.push(Problem::new(place, message));
        };
        let Some(value) = variable.resolved(secret, problems) else { continue };
        let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
            report(problems, &secret.place, format!("`{name}` is not the name of a header"));
            continue;
        };
        if OWN_HEADERS.contains(&header.as_str()) {
            report(problems, &secret.place, format!("`{name}` is not for `headers` to set"));
            continue;
        }
        match HeaderValue::from_str(&value) {
            Ok(mut value) => {
                value.set_sensitive(true);
                headers.insert(header, value);
            }
            Err(_) => {
                report(problems, &secret.place, format!("the value of `{name}` has characters that headers can't have"))
            }
        }
    }
    headers
}
