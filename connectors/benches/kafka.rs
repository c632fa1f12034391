//! The program between two topics of a real Kafka, beside what Kafka itself does in the same run.
//!
//! `latency`: messages at a constant rate, each of which is an entry; from when one was due to be sent until a read_committed
//! consumer has the change, beside the same without the program in between (with transactions where it has some, committed as
//! often), and without transactions beside a relay: a consumer that hands each message to a producer, and does nothing else. Rounds take turns, once the
//! broker is warm; a first one, in which it still compiles what the other ways of the messages use, does not count. `--delivery NAME`, `--rate N` and `--way NAME`
//! leave out the others. `backlog`: the
//! canonical messages, read to their end, from Kafka to Kafka, from file to file, and only read.
//!
//! ```text
//! cargo build --profile dist
//! USHER=target/dist/usher cargo bench --profile dist -p usher-connectors --bench kafka -- latency
//! USHER=target/dist/usher cargo bench --profile dist -p usher-connectors --bench kafka -- backlog --events 5000000
//! ```
//!
//! The program is that in `USHER`, else `target/release/usher`. Needs Java and Maven, as `scripts/kafka` does, and 8 GB of memory; broker, program and clients share the machine.

// A benchmark's figures are its output.
#![allow(clippy::print_stdout)]

#[path = "../../benches/canonical/workload.rs"]
#[allow(dead_code)]
mod workload;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use usher_config::{Kafka, Start};
use usher_connectors::kafka::{Bounds, KafkaSource, SourceSpec};
use usher_core::source::{Polled, Source};

/// How messages go from topic to topic: by nothing in between, by a relay, by the program.
const WAYS: [&str; 3] = ["bare", "relay", "usher"];
/// Partitions of topics.
const PARTITIONS: i32 = 4;
/// What Kafka's documentation has a broker run with (<https://kafka.apache.org/41/operations/java-version>), beside what `scripts/kafka` has already. With
/// a heap of 1 GiB the collector stops the broker every 1.5 to 3 s, which alone may be more than a hundredth of the messages.
const JAVA: &str = "-Xms6g -Xmx6g -XX:MetaspaceSize=96m -XX:InitiatingHeapOccupancyPercent=35 -XX:G1HeapRegionSize=16M \
                    -XX:MinMetaspaceFreeRatio=50 -XX:MaxMetaspaceFreeRatio=80 -XX:+ExplicitGCInvokesConcurrent";
/// How long a topic grows by less than a fiftieth each 50 ms before all counts as committed.
const SETTLED: Duration = Duration::from_secs(1);
/// How long the broker is warmed.
const WARM_BROKER: Duration = Duration::from_secs(30);
/// How long a new topic may have no leaders.
const LEADERS: Duration = Duration::from_secs(30);
/// What is sent before it counts: connections, the first transactions, caches.
const WARM: Duration = Duration::from_secs(2);

struct Flags {
    what: String,
    events: usize,
    users: usize,
    seconds: u64,
    rounds: usize,
    commit_every: u64,
    deliveries: Vec<String>,
    rates: Vec<u64>,
    /// [`WAYS`], or one of them.
    ways: Vec<String>,
}

struct Broker {
    folder: PathBuf,
    address: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn main() {
    let flags = flags();
    let unknown = flags.ways.iter().find(|way| !WAYS.contains(&&way[..]));
    assert!(unknown.is_none(), "`--way` knows {WAYS:?}, not {unknown:?}");
    let broker = Broker::up();
    match &flags.what[..] {
        "latency" => latency(&broker, &flags),
        "backlog" => backlog(&broker, &flags),
        other => panic!("`{other}` is neither `latency` nor `backlog`"),
    }
}

fn flags() -> Flags {
    let mut flags = Flags {
        what: "latency".into(),
        events: 5_000_000,
        users: 1_000_000,
        seconds: 10,
        rounds: 3,
        commit_every: 100,
        deliveries: ["at_least_once", "exactly_once"].map(String::from).to_vec(),
        rates: vec![5_000, 50_000],
        ways: WAYS.map(String::from).to_vec(),
    };
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    while let Some(arg) = args.next() {
        let mut value = || args.next().expect("a value");
        let mut number = || value().parse::<u64>().expect("a number");
        match &arg[..] {
            "--events" => flags.events = number() as usize,
            "--users" => flags.users = number() as usize,
            "--seconds" => flags.seconds = number(),
            "--rounds" => flags.rounds = number() as usize,
            "--commit-every" => flags.commit_every = number(),
            "--rate" => flags.rates = vec![number()],
            "--delivery" => flags.deliveries = vec![value()],
            "--way" => flags.ways = vec![value()],
            _ => flags.what = arg,
        }
    }
    flags
}

impl Broker {
    fn up() -> Broker {
        let folder = std::env::temp_dir().join(format!("usher-bench-kafka-{}", std::process::id()));
        let up = Command::new(root().join("scripts/kafka"))
            .arg("up")
            .arg(&folder)
            .env("USHER_KAFKA_JAVA", JAVA)
            .output()
            .expect("the script runs");
        assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
        let said = String::from_utf8_lossy(&up.stdout).into_owned();
        let of = |name: &str| {
            let line = said.lines().find_map(|line| line.trim_start_matches("export ").strip_prefix(name));
            line.and_then(|rest| rest.strip_prefix('=')).map(|value| value.trim_matches(['\'', '"', ';']).to_owned())
        };
        let address = of("KAFKA_BROKERS").unwrap_or_else(|| panic!("no KAFKA_BROKERS in {said}"));
        Broker { folder, address }
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.address);
        config
    }

    fn topic(&self, name: &str) {
        let admin: AdminClient<DefaultClientContext> = self.config().create().expect("a client");
        let topic = NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1)).set("retention.ms", "-1");
        let created = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime")
            .block_on(admin.create_topics([&topic], &AdminOptions::new()));
        created.expect("the broker answers")[0].as_ref().expect("the topic is made");
        // It has its leaders a moment later.
        let (consumer, since): (BaseConsumer, _) = (self.config().create().expect("a consumer"), Instant::now());
        for partition in 0..PARTITIONS {
            while let Err(error) = consumer.fetch_watermarks(name, partition, Duration::from_secs(10)) {
                assert!(since.elapsed() < LEADERS, "topic `{name}` has no leader of partition {partition}: {error}");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// A consumer of all of a topic from its end on.
    fn tail(&self, topic: &str) -> BaseConsumer {
        let consumer: BaseConsumer = self
            .config()
            .set("group.id", "none")
            .set("enable.auto.commit", "false")
            .set("fetch.queue.backoff.ms", "2")
            .create()
            .expect("a consumer");
        let mut all = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            let (_, end) =
                consumer.fetch_watermarks(topic, partition, Duration::from_secs(10)).expect("the broker answers");
            all.add_partition_offset(topic, partition, Offset::Offset(end)).expect("an offset");
        }
        consumer.assign(&all).expect("partitions are assigned");
        consumer
    }

    /// How many offsets a topic has.
    fn length(&self, consumer: &BaseConsumer, topic: &str) -> i64 {
        let ends = (0..PARTITIONS).map(|partition| {
            consumer.fetch_watermarks(topic, partition, Duration::from_secs(10)).expect("the broker answers").1
        });
        ends.sum()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = Command::new(root().join("scripts/kafka")).arg("down").arg(&self.folder).output();
    }
}

/// The program on a job in a folder, until it is dropped.
struct Usher {
    child: Child,
    live: std::sync::mpsc::Receiver<String>,
}

impl Usher {
    fn start(folder: &Path, job: &str, workers: usize) -> Usher {
        std::fs::write(folder.join("job.yaml"), job).expect("the folder can be written");
        let program = std::env::var_os("USHER").map_or_else(|| root().join("target/release/usher"), PathBuf::from);
        let mut child = Command::new(program)
            .current_dir(folder)
            .args(["run", "job.yaml", "-w", &workers.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("`cargo build --release` has built the program, or USHER names one");
        let stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let (said, live) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if line.starts_with("live after") {
                    let _ = said.send(line);
                } else if line.starts_with("error") || line.starts_with("hint") {
                    println!("{line}");
                }
            }
        });
        Usher { child, live }
    }

    fn wait_live(&self) -> String {
        self.live.recv().expect("the job goes live")
    }

    fn peak_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let kb = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        kb.and_then(|kb| kb.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
    }
}

impl Drop for Usher {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

fn micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros() as u64
}

/// Waits until all has arrived: the crate's own `flush`, which a commit begins with, looks every 100 ms only.
fn arrive(producer: &BaseProducer) {
    while producer.in_flight_count() > 0 {
        producer.poll(Duration::ZERO);
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Sends at a constant rate; what a message says is when it was due.
fn send(producer: &BaseProducer, topic: &str, rate: u64, time: Duration, commit_every: Option<Duration>, usher: bool) {
    let (start, since) = (micros(), Instant::now());
    let mut sent = 0;
    let mut committed = Instant::now();
    if commit_every.is_some() {
        producer.begin_transaction().expect("a transaction begins");
    }
    let mut value = String::new();
    while since.elapsed() < time {
        let due = since.elapsed().as_micros() as u64 * rate / 1_000_000;
        while sent < due {
            let at = start + sent * 1_000_000 / rate;
            let key = format!("{at}-{sent}");
            value.clear();
            if usher {
                let time = jiff::Timestamp::from_millisecond((at / 1000) as i64).expect("a time");
                std::fmt::Write::write_fmt(&mut value, format_args!(
                    r#"{{"type":"track","event":"Bought","messageId":"{key}","userId":"{key}","timestamp":"{time:.3}","properties":{{"revenue":10.5,"currency":"EUR","category":"coats"}}}}"#
                )).expect("a string");
            } else {
                value.push_str(&"x".repeat(220));
            }
            loop {
                match producer.send(BaseRecord::to(topic).key(&key[..]).payload(&value[..])) {
                    Ok(()) => break,
                    Err(_) => producer.poll(Duration::from_millis(1)),
                }
            }
            sent += 1;
        }
        producer.poll(Duration::ZERO);
        if let Some(every) = commit_every
            && committed.elapsed() >= every
        {
            arrive(producer);
            producer.commit_transaction(Duration::from_secs(30)).expect("a transaction is committed");
            producer.begin_transaction().expect("a transaction begins");
            committed = Instant::now();
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    if commit_every.is_some() {
        producer.commit_transaction(Duration::from_secs(30)).expect("a transaction is committed");
    } else {
        producer.flush(Duration::from_secs(30)).expect("everything arrives");
    }
}

/// Consumes until it is asked to stop; returns what lay between due and here, µs, without the warm-up.
fn receive(consumer: &BaseConsumer, from: u64, stop: &AtomicBool) -> Vec<u64> {
    let mut latencies = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let Some(message) = consumer.poll(Duration::from_millis(50)) else { continue };
        let message = message.expect("a message");
        let now = micros();
        let key = std::str::from_utf8(message.key().expect("a key")).expect("text");
        let due: u64 = key.split('-').next().expect("a time").parse().expect("a time");
        if due >= from {
            latencies.push(now.saturating_sub(due));
        }
    }
    latencies
}

/// Hands each message of a topic on to another as it comes, the least that any program between the two does.
fn relay(consumer: &BaseConsumer, producer: &BaseProducer, to: &str, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let Some(message) = consumer.poll(Duration::from_millis(1)) else { continue };
        let message = message.expect("a message");
        let (key, payload) = (message.key().expect("a key"), message.payload().expect("a payload"));
        while producer.send(BaseRecord::to(to).key(key).payload(payload)).is_err() {
            producer.poll(Duration::from_millis(1));
        }
        producer.poll(Duration::ZERO);
    }
}

fn percentiles(latencies: &mut [u64]) -> (f64, f64) {
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize] as f64 / 1000.0;
    (at(0.5), at(0.99))
}

/// Sends and consumes as much as has the broker's code compiled: a broker that has just started takes a hundred times as long.
fn warm(broker: &Broker) {
    broker.topic("warm");
    let consumer = broker.tail("warm");
    let mut config = broker.config();
    config.set("linger.ms", "1").set("acks", "all").set("compression.type", "lz4");
    let producer: BaseProducer = config.create().expect("a producer");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| receive(&consumer, u64::MAX, &stop));
        send(&producer, "warm", 20_000, WARM_BROKER, None, false);
        stop.store(true, Ordering::Relaxed);
    });
}

fn latency(broker: &Broker, flags: &Flags) {
    let every = Duration::from_millis(flags.commit_every);
    println!("{} s a round, {} rounds; ms from due to consumed", flags.seconds, flags.rounds);
    warm(broker);
    for delivery in &flags.deliveries {
        for rate in flags.rates.iter().copied() {
            let transactional = (*delivery == "exactly_once").then_some(every);
            let mut figures: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
            for round in 0..=flags.rounds {
                // A relay with transactions would need the offsets that it has read in them.
                for way in
                    flags.ways.iter().map(|way| &way[..]).filter(|way| transactional.is_none() || *way != "relay")
                {
                    let name = format!("{way}-{delivery}-{rate}-{round}");
                    let (events, changes) = (format!("{name}-events"), format!("{name}-changes"));
                    broker.topic(&changes);
                    let folder = tempfile::tempdir().expect("a folder");
                    if way != "bare" {
                        broker.topic(&events);
                    }
                    let usher = (way == "usher").then(|| {
                        let commit = transactional.map_or(String::new(), |every| {
                            format!(", commit_every: {}ms", every.as_millis())
                        });
                        let job = format!(
                            "job: {name}\nsources: {{web: {{kafka: {{brokers: \"{b}\", topic: {events}}}, format: segment}}}}\n\
                             models: {{visitors: {{key: id}}}}\n\
                             events: {{bought: {{source: web, type: track, name: Bought, model: visitors}}}}\n\
                             audiences: {{buyers: {{model: visitors, where: {{performed: bought, within: 10m}}}}}}\n\
                             syncs: {{out: {{to: {{kafka: {{brokers: \"{b}\", topic: {changes}}}}}, delivery: {delivery}{commit}}}}}\n",
                            b = broker.address
                        );
                        let usher = Usher::start(folder.path(), &job, 1);
                        usher.wait_live();
                        usher
                    });
                    let consumer = broker.tail(&changes);
                    let relayed = (way == "relay").then(|| broker.tail(&events));
                    let mut config = broker.config();
                    config.set("linger.ms", "1").set("acks", "all").set("compression.type", "lz4");
                    let commits = if usher.is_some() { None } else { transactional };
                    if commits.is_some() {
                        config.set("transactional.id", &name);
                    }
                    let producer: BaseProducer = config.create().expect("a producer");
                    if commits.is_some() {
                        producer.init_transactions(Duration::from_secs(30)).expect("transactions are begun");
                    }
                    let relaying: Option<BaseProducer> =
                        relayed.is_some().then(|| config.create().expect("a producer"));
                    let stop = Arc::new(AtomicBool::new(false));
                    let from = micros() + WARM.as_micros() as u64;
                    let mut latencies = std::thread::scope(|scope| {
                        let received = scope.spawn(|| receive(&consumer, from, &stop));
                        if let (Some(from), Some(by)) = (&relayed, &relaying) {
                            scope.spawn(|| relay(from, by, &changes, &stop));
                        }
                        let to = if way == "bare" { &changes } else { &events };
                        let time = WARM + Duration::from_secs(flags.seconds);
                        send(&producer, to, rate, time, commits, usher.is_some());
                        std::thread::sleep(Duration::from_secs(1));
                        stop.store(true, Ordering::Relaxed);
                        received.join().expect("the consumer ends")
                    });
                    let expected = rate * flags.seconds;
                    let came = latencies.len() as u64;
                    let (p50, p99) = percentiles(&mut latencies);
                    let counts = if round == 0 { ", not counted" } else { "" };
                    println!("  {name}: {came} of {expected}, p50 {p50:.1}, p99 {p99:.1}{counts}");
                    if round > 0 {
                        figures.entry(way).or_default().push((p50, p99));
                    }
                }
            }
            let median = |way: &str| {
                let mut p50: Vec<f64> = figures[way].iter().map(|f| f.0).collect();
                let mut p99: Vec<f64> = figures[way].iter().map(|f| f.1).collect();
                p50.sort_by(f64::total_cmp);
                p99.sort_by(f64::total_cmp);
                (p50[p50.len() / 2], p99[p99.len() / 2])
            };
            // With one way alone there is nothing to compare.
            if flags.ways.len() < WAYS.len() {
                continue;
            }
            let (bare, usher) = (median("bare"), median("usher"));
            println!(
                "{delivery} at {rate}/s: usher p50 {:.1} p99 {:.1}; bare p50 {:.1} p99 {:.1}; p99 {:.2}x",
                usher.0,
                usher.1,
                bare.0,
                bare.1,
                usher.1 / bare.1
            );
            if figures.contains_key("relay") {
                let relay = median("relay");
                println!("  a relay: p50 {:.1} p99 {:.1}; p99 {:.2}x", relay.0, relay.1, relay.1 / bare.1);
            }
        }
    }
}

/// Writes the messages to a topic and to as many files as it has partitions.
fn fill(broker: &Broker, folder: &Path, flags: &Flags) -> usize {
    let workload = workload::Workload { events: flags.events, users: flags.users };
    workload.write_users(folder, 0);
    broker.topic("backlog");
    let producer: BaseProducer = broker
        .config()
        .set("linger.ms", "20")
        .set("compression.type", "lz4")
        .set("batch.num.messages", "10000")
        .create()
        .expect("a producer");
    let mut files: Vec<BufWriter<File>> = (0..PARTITIONS)
        .map(|n| {
            BufWriter::with_capacity(1 << 20, File::create(folder.join(format!("events-{n}.jsonl"))).expect("a file"))
        })
        .collect();
    let mut random = fastrand::Rng::with_seed(2);
    let (now, mut line) = (micros() / 1000, String::new());
    let span = 2 * 3_600_000;
    for number in 0..flags.events {
        let at = now - span + number as u64 * span / flags.events as u64;
        line.clear();
        workload.message(&mut random, number, at, &mut line);
        let partition = random.usize(0..PARTITIONS as usize);
        files[partition].write_all(line.as_bytes()).expect("the file can be written");
        let message = line.trim_end();
        loop {
            let record: BaseRecord<'_, [u8], str> =
                BaseRecord::to("backlog").payload(message).partition(partition as i32);
            match producer.send(record.timestamp(at as i64)) {
                Ok(()) => break,
                Err(_) => producer.poll(Duration::from_millis(1)),
            }
        }
    }
    producer.flush(Duration::from_secs(120)).expect("everything arrives");
    files.iter_mut().for_each(|file| file.flush().expect("the file can be written"));
    flags.events
}

fn backlog(broker: &Broker, flags: &Flags) {
    let folder = tempfile::tempdir().expect("a folder");
    let count = fill(broker, folder.path(), flags);
    let text = workload::Workload { events: flags.events, users: flags.users }.jobs().swap_remove(0).text;
    println!("{count} messages, {} users, 100 audiences, {} rounds", flags.users, flags.rounds);
    for round in 0..flags.rounds {
        println!("round {round}");
        only_read(broker, count);
        for workers in [1, 2] {
            for delivery in ["at_least_once", "exactly_once"] {
                let name = format!("{delivery}-{workers}-{round}");
                let changes = format!("{name}-changes");
                broker.topic(&changes);
                let job =
                    text.replace("job: canonical", &format!("job: {name}\nstate: {{url: state-{name}}}")).replace(
                        "file: {path: events.jsonl}",
                        &format!("kafka: {{brokers: \"{}\", topic: backlog}}", broker.address),
                    );
                let job = format!(
                    "{job}syncs: {{out: {{to: {{kafka: {{brokers: \"{}\", topic: {changes}}}}}, delivery: {delivery}}}}}\n",
                    broker.address
                );
                let since = Instant::now();
                let usher = Usher::start(folder.path(), &job, workers);
                let live = usher.wait_live();
                // Everybody who belongs has been committed when hardly anything comes any more: windows go on ending.
                let consumer = broker.tail(&changes);
                let (mut length, mut ledger) = (0, since.elapsed());
                while since.elapsed() < ledger + SETTLED {
                    let now = broker.length(&consumer, &changes);
                    if now - length > now / 50 {
                        ledger = since.elapsed();
                    }
                    length = now;
                    std::thread::sleep(Duration::from_millis(50));
                }
                report(&format!("kafka to kafka, {delivery}, -w {workers}"), count, ledger, &live, usher.peak_bytes());
            }
        }
        for workers in [1, 2] {
            let job = text
                .replace(
                    "job: canonical",
                    &format!("job: files-{workers}-{round}\nstate: {{url: state-files-{workers}-{round}}}"),
                )
                .replace("path: events.jsonl", "path: events-*.jsonl");
            let job = format!("{job}syncs: {{out: {{to: {{file: {{path: out-{workers}-{round}.jsonl}}}}}}}}\n");
            let since = Instant::now();
            let usher = Usher::start(folder.path(), &job, workers);
            let live = usher.wait_live();
            report(&format!("file to file, -w {workers}"), count, since.elapsed(), &live, usher.peak_bytes());
        }
    }
}

fn only_read(broker: &Broker, count: usize) {
    let kafka = Kafka { brokers: broker.address.clone(), ..Kafka::default() };
    let since = Instant::now();
    let spec = SourceSpec {
        id: "web",
        kafka: &kafka,
        topics: &["backlog".to_owned()],
        start: Start::Earliest,
        window_ms: 0,
        message_bytes: 1 << 20,
        now: micros() / 1000,
        bounds: Some(Bounds::default()),
        schemas: None,
    };
    let mut source = KafkaSource::open(&spec, &|_| None).expect("the source opens");
    let ids = source.partitions();
    let mut partitions: Vec<_> = ids.iter().map(|id| source.open(id, None).expect("the partition opens")).collect();
    let mut read = 0;
    while !partitions.is_empty() {
        let mut idle = true;
        partitions.retain_mut(|partition| match partition.poll(256 << 10).expect("it is read") {
            Polled::Records(records) => {
                read += records.count();
                idle = false;
                true
            }
            Polled::Idle => true,
            Polled::End => false,
        });
        if idle {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
    assert_eq!(read, count, "all is read");
    report("only reading the topic, one thread", count, since.elapsed(), "", 0);
}

fn report(what: &str, count: usize, time: Duration, live: &str, peak: u64) {
    let rate = count as f64 / time.as_secs_f64() / 1e6;
    let peak = if peak > 0 { format!(", peak {:.2} GB", peak as f64 / 1e9) } else { String::new() };
    println!("  {what:<42} {rate:.2} M/s ({:.1} s{peak}) {live}", time.as_secs_f64());
}
