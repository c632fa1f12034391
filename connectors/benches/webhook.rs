//! What a webhook sends a second to an nginx on this machine that answers 204, beside a bare loop that signs and sends the same
//! bodies; 64 requests on their way. nginx must be there (Debian: nginx).
//!
//! `cargo bench -p usher-connectors --bench webhook`

#![allow(clippy::print_stdout)]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};
use usher_connectors::outbox::{LogSpec, open_webhook};
use usher_core::catalog::Catalog;
use usher_core::change::{ChangeKind, Changes, Reason};
use usher_core::clock::Clock;
use usher_core::message::{MessageId, write_default};

const PORT: u16 = 18_204;
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const CONCURRENCY: usize = 64;

struct Now;

impl Clock for Now {
    fn now(&self) -> u64 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.expect("it is after 1970").as_millis() as u64
    }
}

/// nginx, until it is dropped.
struct Nginx(Child);

impl Nginx {
    fn start(folder: &Path) -> Option<Nginx> {
        let at = folder.display();
        let paths =
            ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|name| format!("{name}_temp_path {at}/{name};"));
        let http = format!(
            "access_log off; keepalive_requests 100000000; {} server {{ listen 127.0.0.1:{PORT}; location / {{ return 204; }} }}",
            paths.join(" ")
        );
        let conf = format!(
            "daemon off; worker_processes 1; pid {at}/pid; error_log {at}/error.log; events {{ worker_connections 1024; }} http {{ {http} }}"
        );
        std::fs::write(folder.join("nginx.conf"), conf).expect("the folder can be written");
        let child = Command::new("nginx").arg("-p").arg(folder).args(["-c", "nginx.conf"]).spawn().ok()?;
        let nginx = Nginx(child);
        for _ in 0..500 {
            if TcpStream::connect(("127.0.0.1", PORT)).is_ok() {
                return Some(nginx);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("nginx does not listen");
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its master ends its worker.
        let _ended = Command::new("kill").arg(self.0.id().to_string()).status();
        let _waited = self.0.wait();
    }
}

fn catalog() -> Arc<Catalog> {
    Arc::new(Catalog::new("bench", [("buyers", "Buyers", "users")]))
}

/// So many entries.
fn changes(many: u64) -> Changes {
    let mut changes = Changes::new();
    for n in 0..many {
        changes.push(1_795_428_000_000 + n, 0, ChangeKind::Entry, Reason::Event, &format!("user-{n:09}"));
    }
    changes
}

/// Sends bodies one by one, signed, and returns how many a second.
fn bare(bodies: &[(String, Vec<u8>)]) -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    // Another part of the process may have installed it: the same.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().pool_max_idle_per_host(CONCURRENCY).no_proxy().build().expect("a client");
    let key = STANDARD.decode(&SECRET["whsec_".len()..]).expect("base64");
    let send = |(id, body): &(String, Vec<u8>)| {
        let timestamp = (Now.now() / 1_000).to_string();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes a key of any length");
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        let request = client.post(format!("http://127.0.0.1:{PORT}/hook")).header("content-type", "application/json");
        let request = request.header("webhook-id", id).header("webhook-timestamp", timestamp);
        let request = request.header("webhook-signature", signature).body(body.clone()).send();
        async move { assert_eq!(request.await.expect("nginx answers").status(), 204) }
    };
    let began = Instant::now();
    runtime.block_on(async {
        let mut on_their_way = FuturesUnordered::new();
        for body in bodies {
            if on_their_way.len() == CONCURRENCY {
                on_their_way.next().await;
            }
            on_their_way.push(send(body));
        }
        while on_their_way.next().await.is_some() {}
    });
    bodies.len() as f64 / began.elapsed().as_secs_f64()
}

/// Has a sync send changes, and returns how many a second.
fn webhook(folder: &Path, settings: &str, all: &Changes) -> f64 {
    let job = format!(
        "job: bench
models: {{users: {{parquet: u, key: id}}}}
audiences: {{buyers: {{name: Buyers, model: users, where: {{property: a}}}}}}
syncs: {{crm: {{to: {{webhook: {{url: \"http://127.0.0.1:{PORT}/hook\", secret: {SECRET}, concurrency: {CONCURRENCY}{settings}}}}}}}}}"
    );
    let job = usher_config::parse(&job, "job.yaml", folder, &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
    let sync = &job.syncs["crm"];
    let usher_config::SyncTo::Webhook(target) = &sync.to else { unreachable!("the job says so") };
    let spec = LogSpec { id: "crm", index: 0, sync, folder, incarnation: 1, noted: None };
    let opened = open_webhook(&spec, target, (folder, &|_| None), Arc::new(Now)).expect("it opens");
    let mut sink = (opened.start)(catalog());
    let began = Instant::now();
    sink.write(all, u64::MAX).expect("it is written");
    while sink.status().delivered != Some(all.len() as u64) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let rate = all.len() as f64 / began.elapsed().as_secs_f64();
    sink.finish().expect("all is delivered");
    rate
}

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(_nginx) = Nginx::start(folder.path()) else {
        println!("not run: there is no nginx");
        return;
    };
    let all = changes(100_000);
    let catalog = catalog();
    let body = |change: &usher_core::change::Change| {
        let (entry, mut body) = (catalog.entry(change.audience), Vec::new());
        let id = MessageId::of(entry, change, all.key(change));
        write_default(&mut body, entry, change, all.key(change), &id);
        (id.as_str().to_owned(), body)
    };
    let bodies: Vec<(String, Vec<u8>)> = all.iter().map(body).collect();
    for round in 0..3 {
        let bare = bare(&bodies);
        let single = webhook(&folder.path().join(format!("single-{round}")), "", &all);
        let batches = webhook(&folder.path().join(format!("batch-{round}")), ", batch: {changes: 100}", &all);
        println!(
            "round {round}: bare {bare:.0} requests/s, single {single:.0} ({:.2} of it), batches of 100 {batches:.0} changes/s",
            single / bare
        );
    }
}
