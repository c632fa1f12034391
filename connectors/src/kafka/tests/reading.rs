//! Topics as sources.

use super::broker::{Broker, broker, send, until, variable};
use crate::kafka::error::Problem;
use crate::kafka::{Bounds, KafkaSource, SourceSpec, partition_name};
use rdkafka::consumer::Consumer;
use rdkafka::producer::Producer;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use usher_config::{Kafka, Setting, Start};
use usher_core::source::{Body, Headers, Partition, PartitionId, Polled, Resume, Source, SourceError};

/// In the past: brokers refuse messages of the future.
const NOW: u64 = 1_700_000_000_000;
const PATIENCE: Duration = Duration::from_secs(30);

fn try_open(
    patience: Duration,
    kafka: &Kafka,
    topics: &[&str],
    start: Start,
    bounds: Option<Bounds>,
) -> Result<KafkaSource, Problem> {
    let topics: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
    let spec = SourceSpec {
        id: "web",
        kafka,
        topics: &topics,
        start,
        window_ms: 10_000,
        message_bytes: 1000,
        now: NOW,
        bounds,
        schemas: None,
    };
    KafkaSource::open_within(patience, &spec, &variable)
}

fn open(broker: &Broker, topics: &[&str], start: Start, bounds: Option<Bounds>) -> KafkaSource {
    try_open(PATIENCE, &broker.kafka(), topics, start, bounds).unwrap()
}

fn id(topic: &str, number: i32) -> PartitionId {
    PartitionId { source: "web".to_owned(), name: partition_name(topic, number) }
}

/// Where a partition starts.
fn start(source: &mut KafkaSource, topic: &str, number: i32) -> u64 {
    source.open(&id(topic, number), None).unwrap().position()
}

/// What comes until something holds of the partition, or it ends.
fn take_until(partition: &mut dyn Partition, holds: impl Fn(&dyn Partition) -> bool) -> Vec<(u64, String)> {
    let mut found = Vec::new();
    let mut ended = false;
    until("a partition is read", || {
        match partition.poll(64 << 10).unwrap() {
            Polled::Records(records) => {
                for record in records {
                    let text = match record.body {
                        Body::Bytes(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
                        Body::Blank => "blank".to_owned(),
                        Body::TooLarge { head, length } => format!("{length} bytes from {}", head[0]),
                    };
                    found.push((record.position, text));
                }
            }
            Polled::Idle => {}
            Polled::End => ended = true,
        }
        ended || holds(partition)
    });
    found
}

fn take_all(source: &mut KafkaSource, topic: &str, number: i32) -> Vec<(u64, String)> {
    let mut partition = source.open(&id(topic, number), None).unwrap();
    take_until(&mut *partition, |_| false)
}

fn texts(found: &[(u64, String)]) -> Vec<&str> {
    found.iter().map(|(_, text)| &text[..]).collect()
}

#[test]
fn a_bounded_source_reads_each_partition_to_its_end() {
    let Some(broker) = broker() else { return };
    broker.create("bounded-a", 2);
    broker.create("bounded", 1);
    let long = "x".repeat(1001);
    broker.produce("bounded-a", 0, &[(5, Some("one")), (6, None), (7, Some(" \r\n")), (8, Some(&long))]);
    broker.produce("bounded", 0, &[(5, Some("two"))]);
    let mut source = open(broker, &["bounded", "bounded-a"], Start::Window, Some(Bounds::default()));
    // What comes later is not read.
    broker.produce("bounded-a", 0, &[(9, Some("late"))]);
    assert_eq!(source.partitions(), [id("bounded", 0), id("bounded-a", 0), id("bounded-a", 1)]);
    assert_eq!(texts(&take_all(&mut source, "bounded", 0)), ["two"]);
    let found = take_all(&mut source, "bounded-a", 0);
    assert_eq!(texts(&found), ["one", "blank", "blank", "1001 bytes from 120"]);
    assert_eq!(found.iter().map(|(position, _)| *position).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(take_all(&mut source, "bounded-a", 1), []);
}

#[test]
fn messages_have_their_time_and_their_headers() {
    let Some(broker) = broker() else { return };
    broker.create("headers", 1);
    broker.produce("headers", 0, &[(123_456, Some("one"))]);
    let mut source = open(broker, &["headers"], Start::Earliest, None);
    let mut partition = source.open(&id("headers", 0), None).unwrap();
    assert!(!partition.caught_up());
    let mut times = Vec::new();
    until("the message comes", || {
        if let Polled::Records(records) = partition.poll(1000).unwrap() {
            times.extend(records.map(|record| record.timestamp));
        }
        !times.is_empty()
    });
    assert_eq!(times, [Some(123_456)]);
    assert!(partition.caught_up());
    assert_eq!((partition.progress(), partition.lag()), ((1, 1), Some(0)));

    let fetched = super::super::ffi::PartitionQueue::start(source.reader.clone(), "headers", 0, 0);
    let mut batch = super::super::ffi::FetchedBatch::default();
    until("the message comes again", || {
        fetched.take(&mut batch, 1, Duration::from_millis(10));
        !batch.messages().is_empty()
    });
    let message = &batch.messages()[0];
    assert_eq!(message.get("tenant"), Some(&b"last"[..]));
    assert_eq!(message.get("other"), None);
}

#[test]
fn compressed_messages_and_those_of_transactions_are_read_unless_rolled_back() {
    let Some(broker) = broker() else { return };
    broker.create("codecs", 1);
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        let producer = broker.producer(&[("compression.type", codec)]);
        (0..3).for_each(|_| send(&producer, "codecs", 0, 1, Some(&codec.repeat(50))));
        producer.flush(PATIENCE).unwrap();
    }
    let producer = broker.producer(&[("transactional.id", "codecs")]);
    producer.init_transactions(PATIENCE).unwrap();
    for (value, commit) in [("kept", true), ("rolled back", false), ("kept", true), ("rolled back", false)] {
        producer.begin_transaction().unwrap();
        send(&producer, "codecs", 0, 1, Some(value));
        producer.flush(PATIENCE).unwrap();
        if commit {
            producer.commit_transaction(PATIENCE).unwrap();
        } else {
            producer.abort_transaction(PATIENCE).unwrap();
        }
    }
    // An open transaction holds readers back: the end lies before it.
    producer.begin_transaction().unwrap();
    send(&producer, "codecs", 0, 1, Some("open"));
    producer.flush(PATIENCE).unwrap();
    let expected: Vec<String> = ["gzip", "snappy", "lz4", "zstd"]
        .iter()
        .flat_map(|codec| vec![codec.repeat(50); 3])
        .chain(["kept".to_owned(), "kept".to_owned()])
        .collect();
    let mut source = open(broker, &["codecs"], Start::Earliest, Some(Bounds::default()));
    assert_eq!(texts(&take_all(&mut source, "codecs", 0)), expected);
    let mut source = open(broker, &["codecs"], Start::Earliest, None);
    let mut partition = source.open(&id("codecs", 0), None).unwrap();
    assert_eq!(texts(&take_until(&mut *partition, |partition| partition.caught_up())), expected);
    producer.commit_transaction(PATIENCE).unwrap();
    assert_eq!(texts(&take_until(&mut *partition, |partition| partition.position() > 21)), ["open"]);
}

#[test]
fn reading_starts_where_the_job_says() {
    let Some(broker) = broker() else { return };
    broker.create("starts", 2);
    let now = NOW as i64;
    let times = [now - 30_000, now - 20_000, now - 10_000, now - 5_000, now];
    broker.produce("starts", 0, &times.map(|time| (time, Some("x"))));
    let starts = |by: Start, bounds: Option<Bounds>| {
        let mut source = open(broker, &["starts"], by, bounds);
        (start(&mut source, "starts", 0), start(&mut source, "starts", 1))
    };
    assert_eq!(starts(Start::Earliest, None), (0, 0));
    assert_eq!(starts(Start::Latest, None), (5, 0));
    assert_eq!(starts(Start::Window, None), (2, 0));
    assert_eq!(starts(Start::Time(NOW - 19_999), None), (2, 0));
    assert_eq!(starts(Start::Time(NOW + 1), None), (5, 0));
    assert_eq!(starts(Start::Window, Some(Bounds::default())), (0, 0));
    assert_eq!(starts(Start::Latest, Some(Bounds { from: Some(NOW + 5_000) })), (3, 0));
    // The end of an empty partition is where it was, whatever comes before it is read.
    let mut source = open(broker, &["starts"], Start::Time(NOW), None);
    broker.produce("starts", 1, &[(now + 1, Some("first"))]);
    let mut partition = source.open(&id("starts", 1), None).unwrap();
    assert!(partition.caught_up());
    assert_eq!(texts(&take_until(&mut *partition, |partition| partition.position() == 1)), ["first"]);
}

#[test]
fn reading_goes_on_where_it_stood_unless_the_topic_is_another_one() {
    let Some(broker) = broker() else { return };
    broker.create("resumed", 1);
    broker.produce("resumed", 0, &[(1, Some("a")), (1, Some("b")), (1, Some("c"))]);
    let mut source = open(broker, &["resumed"], Start::Latest, Some(Bounds::default()));
    let id = id("resumed", 0);
    let identity = source.open(&id, None).unwrap().identity();
    let resume = |position, identity: &str| Resume { position, identity: identity.to_owned() };
    let mut partition = source.open(&id, Some(&resume(1, &identity))).unwrap();
    assert_eq!(texts(&take_until(&mut *partition, |_| false)), ["b", "c"]);
    assert_eq!(partition.position(), 3);

    let refused = |source: &mut KafkaSource, from: &Resume| match source.open(&id, Some(from)) {
        Err(error @ SourceError::Unlike { .. }) => error.to_string(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was opened"),
    };
    let error = refused(&mut source, &resume(4, &identity));
    assert_eq!(error, "source `web`: `resumed,00000` ends at 3, but the state has read up to 4");

    // What was deleted before it was read is passed over.
    broker.delete_before("resumed", 0, 2);
    let mut source = open(broker, &["resumed"], Start::Latest, Some(Bounds::default()));
    let mut partition = source.open(&id, Some(&resume(1, &identity))).unwrap();
    assert_eq!(texts(&take_until(&mut *partition, |_| false)), ["c"]);

    broker.delete("resumed");
    until("the topic can be created anew", || {
        try_open(PATIENCE, &broker.kafka(), &["resumed"], Start::Latest, None).is_err()
    });
    broker.create("resumed", 1);
    broker.produce("resumed", 0, &[(1, Some("a")), (1, Some("b")), (1, Some("c"))]);
    let mut source = open(broker, &["resumed"], Start::Latest, None);
    let error = refused(&mut source, &resume(1, &identity));
    assert!(error.contains("is of another topic of that name, `topic ") && error.contains("and ends at 3"), "{error}");
    assert!(error.ends_with(&format!("but the state has read `{identity}` up to 1")), "{error}");
}

#[test]
fn what_is_deleted_while_it_is_waited_for_is_passed_over() {
    let Some(broker) = broker() else { return };
    broker.create("cut", 1);
    broker.produce("cut", 0, &[(1, Some("a")), (1, Some("b")), (1, Some("c"))]);
    let mut source = open(broker, &["cut"], Start::Earliest, None);
    broker.delete_before("cut", 0, 2);
    let mut partition = source.open(&id("cut", 0), None).unwrap();
    assert_eq!(texts(&take_until(&mut *partition, |partition| partition.caught_up())), ["c"]);
}

#[test]
fn new_partitions_are_found_and_read_from_their_start() {
    let Some(broker) = broker() else { return };
    broker.create("wider", 1);
    let mut source = open(broker, &["wider"], Start::Latest, None);
    assert_eq!(source.discover().unwrap(), []);
    broker.widen("wider", 3);
    until("new partitions are there for whoever writes", || {
        super::super::ffi::describe(source.reader.base().client(), &["wider"], PATIENCE).unwrap()[0]
            .as_ref()
            .is_some_and(|topic| topic.partitions == 3)
    });
    broker.produce("wider", 2, &[(1, Some("early"))]);
    let mut new = Vec::new();
    until("new partitions are found", || {
        new.extend(source.discover().unwrap());
        !new.is_empty()
    });
    assert_eq!(new, [id("wider", 1), id("wider", 2)]);
    assert_eq!(source.discover().unwrap(), []);
    let mut partition = source.open(&id("wider", 2), None).unwrap();
    assert_eq!(texts(&take_until(&mut *partition, |partition| partition.position() == 1)), ["early"]);
}

#[test]
fn many_messages_come_in_order_and_each_once() {
    let Some(broker) = broker() else { return };
    broker.create("many", 1);
    let producer = broker.producer(&[("compression.type", "lz4")]);
    for number in 0..50_000 {
        send(&producer, "many", 0, 1, Some(&format!("{{\"number\": {number}}}")));
    }
    producer.flush(PATIENCE).unwrap();
    let mut source = open(broker, &["many"], Start::Earliest, Some(Bounds::default()));
    let found = take_all(&mut source, "many", 0);
    assert_eq!(found.len(), 50_000);
    for (number, (position, text)) in found.iter().enumerate() {
        assert_eq!((*position, &text[..]), (number as u64, &format!("{{\"number\": {number}}}")[..]));
    }
}

#[test]
fn a_partition_that_was_behind_moves_to_the_client_of_the_others_and_misses_nothing() {
    let Some(broker) = broker() else { return };
    broker.create("moving", 2);
    let producer = broker.producer(&[("compression.type", "lz4")]);
    let fill = |numbers: Range<u64>| {
        numbers.for_each(|number| send(&producer, "moving", 0, 1, Some(&number.to_string())));
        producer.flush(PATIENCE).unwrap();
    };
    let check = |found: &[(u64, String)], expected: Range<u64>| {
        let expected: Vec<_> = expected.map(|number| (number, number.to_string())).collect();
        assert!(found == expected, "{} messages from {:?} on", found.len(), found.first());
    };
    fill(0..20_000);
    broker.produce("moving", 1, &[(1, Some("alone"))]);
    let mut source = open(broker, &["moving"], Start::Earliest, None);
    let mut behind = source.open(&id("moving", 0), None).unwrap();
    let mut near = source.open(&id("moving", 1), None).unwrap();
    assert_eq!(source.catching_up(), Some(1));
    assert_eq!(texts(&take_until(&mut *near, |near| near.caught_up())), ["alone"]);
    check(&take_until(&mut *behind, |behind| behind.caught_up()), 0..20_000);
    // So many have come meanwhile that it is behind again: it moves on the way.
    fill(20_000..45_000);
    until("the client knows of the new messages", || behind.lag() == Some(25_000));
    let mut found = take_until(&mut *behind, |behind| behind.position() > 20_000);
    assert_eq!(source.catching_up(), Some(1));
    found.extend(take_until(&mut *behind, |behind| behind.position() == 45_000));
    check(&found, 20_000..45_000);
    assert_eq!(source.catching_up(), Some(0));
    let woken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&woken);
    behind.wake_with(Arc::new(move || _ = count.fetch_add(1, Ordering::Relaxed)));
    assert!(matches!(behind.poll(64 << 10).unwrap(), Polled::Idle));
    let before = woken.load(Ordering::Relaxed);
    fill(45_000..45_002);
    until("the partition says that something has come", || woken.load(Ordering::Relaxed) > before);
    check(&take_until(&mut *behind, |behind| behind.position() == 45_002), 45_000..45_002);
}

#[test]
fn a_misspelt_topic_is_an_error_that_names_those_like_it() {
    let Some(broker) = broker() else { return };
    broker.create("pricing-events", 1);
    let problem = try_open(PATIENCE, &broker.kafka(), &["pricing-event"], Start::Latest, None).err().unwrap();
    let brokers = broker.variable("KAFKA_BROKERS");
    assert_eq!(problem.reason, format!("`{brokers}` has no topic `pricing-event`; there is `pricing-events`"));
    assert_eq!(problem.hint, "create the topic, or correct its name");
}

#[test]
fn brokers_that_are_not_there_are_waited_for_and_then_an_error() {
    // Nothing listens on the port of `tcpmux`.
    let kafka = Kafka { brokers: "127.0.0.1:1".to_owned(), ..Kafka::default() };
    let problem = try_open(Duration::from_secs(1), &kafka, &["web"], Start::Latest, None).err().unwrap();
    assert!(problem.reason.starts_with("`127.0.0.1:1` did not answer within 1 s: "), "{}", problem.reason);
    assert!(problem.hint.contains("see that the brokers run"), "{}", problem.hint);
}

#[test]
fn settings_that_promises_rest_on_are_refused() {
    let refused = |name: &str, value: &str| {
        let properties = [(name.to_owned(), Setting::Plain(value.to_owned()))];
        let kafka = Kafka { brokers: "127.0.0.1:1".to_owned(), properties: properties.into(), ..Kafka::default() };
        try_open(Duration::ZERO, &kafka, &["web"], Start::Latest, None).err().unwrap()
    };
    let problem = refused("isolation.level", "read_uncommitted");
    let why = "messages of transactions that were rolled back never count";
    assert_eq!(problem.reason, format!("`properties` can't set `isolation.level`: {why}"));
    let problem = refused("fetch.message.max.byte", "7");
    assert!(
        problem.reason.starts_with("`properties.fetch.message.max.byte`: No such configuration"),
        "{}",
        problem.reason
    );
    let problem = refused("fetch.message.max.bytes", "many");
    assert!(problem.reason.starts_with("`properties.fetch.message.max.bytes`: "), "{}", problem.reason);
}
