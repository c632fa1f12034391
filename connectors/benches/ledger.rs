//! What a sync on this machine costs: changes a second into the log, from a change to its line, and a start.
//!
//! `cargo bench -p usher-connectors --bench ledger`

#![allow(clippy::print_stdout)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use usher_connectors::outbox::{LogSpec, Outlet, open_local};
use usher_core::catalog::Catalog;
use usher_core::change::{ChangeKind, Changes, Reason};
use usher_core::sink::Sink;

fn sync() -> usher_config::Sync {
    usher_config::Sync {
        place: usher_config::Place::default(),
        description: None,
        audiences: (0..100).map(|n| format!("a{n:02}")).collect(),
        send_entry: true,
        send_exit: true,
        send_update: false,
        format: usher_config::SyncFormat::Usher,
        include: Vec::new(),
        entry_name: None,
        exit_name: None,
        update_name: None,
        fields: Default::default(),
        backfill: true,
        on_remove: usher_config::OnRemove::Exit,
        to: usher_config::SyncTo::Stdout,
    }
}

fn catalog() -> Arc<Catalog> {
    let ids: Vec<String> = (0..100).map(|n| format!("a{n:02}")).collect();
    Arc::new(Catalog::new("bench", ids.iter().map(|id| (&id[..], "An audience", "users"))))
}

fn start(folder: &Path, outlet: Outlet) -> (usize, Box<dyn Sink>) {
    let spec = LogSpec { id: "crm", index: 0, sync: &sync(), folder, incarnation: 1, noted: None };
    let opened = open_local(&spec, outlet).expect("the log opens");
    (opened.ledger.len(), (opened.start)(catalog()))
}

/// Appends 5 M changes in epochs of 10,000, as fast as the sink is ready.
fn throughput(folder: &Path) {
    let epochs: Vec<Changes> = (0..500_u64)
        .map(|epoch| {
            let mut changes = Changes::new();
            for n in epoch * 10_000..(epoch + 1) * 10_000 {
                // 1 M members enter, leave, …, and are in at the end.
                let kind = if (n / 1_000_000) % 2 == 0 { ChangeKind::Entry } else { ChangeKind::Exit };
                let user = n % 1_000_000;
                changes.push(n, (user % 100) as u32, kind, Reason::Event, &format!("user-{user:09}"));
            }
            changes
        })
        .collect();
    let (_, mut sink) = start(&folder.join("log"), Outlet::file(&folder.join("lines")).expect("a file"));
    let began = Instant::now();
    let mut encoding = Duration::ZERO;
    for (at, epoch) in epochs.iter().enumerate() {
        while !sink.ready() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let writing = Instant::now();
        sink.write(epoch, (at as u64 + 1) * 10_000).expect("it is written");
        encoding += writing.elapsed();
    }
    while sink.committed() < 5_000_000 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let ledger = began.elapsed();
    sink.finish().expect("it is delivered");
    let delivered = began.elapsed();
    let rate = |time: Duration| 5.0 / time.as_secs_f64();
    println!(
        "5 M changes: {:.2} M/s committed ({:.0} ns a change in `write`), {:.2} M/s delivered",
        rate(ledger),
        encoding.as_nanos() as f64 / 5e6,
        rate(delivered)
    );
}

/// Opens a log of 1 M memberships.
fn open(folder: &Path) {
    let began = Instant::now();
    let (ledger, mut sink) = start(&folder.join("log"), Outlet::file(&folder.join("lines")).expect("a file"));
    println!("a log of {ledger} memberships opens in {:?}", began.elapsed());
    sink.finish().expect("there is nothing to do");
}

/// One change every 10 ms, each timed until its line can be read.
fn latency(folder: &Path) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let (_, mut sink) = start(&folder.join("slow"), Outlet::stream("pipe", writer));
    let mut lines = BufReader::new(reader).lines();
    let mut times: Vec<Duration> = (0..300)
        .map(|at| {
            std::thread::sleep(Duration::from_millis(10));
            let mut changes = Changes::new();
            changes.push(at, 0, ChangeKind::Entry, Reason::Event, &format!("user-{at:09}"));
            let began = Instant::now();
            sink.write(&changes, at + 1).expect("it is written");
            lines.next().expect("a line").expect("text");
            began.elapsed()
        })
        .collect();
    sink.finish().expect("all is delivered");
    times.sort();
    println!("a change to its line: {:?} median, {:?} p99", times[150], times[297]);
}

fn main() {
    // Cargo calls a bench under `test` too, then only to see that it builds.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    // Beside the sources: a temporary folder may be memory, which syncs nothing.
    let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a folder");
    latency(folder.path());
    throughput(folder.path());
    open(folder.path());
}
