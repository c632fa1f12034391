//! Two threads that read a topic to its end and parse its messages by hand, and do nothing with them.
//!
//! `floor BROKERS TOPIC [THREADS]` prints a JSON object: messages, seconds, and how many views of the pricing page there are. A
//! thread has a consumer of its own with every THREADSth partition; messages are taken from librdkafka's queue in batches, where they lie.
//!
//! Parses what the Flink peer parses, in the same walk. Refuses, with a panic, what is no JSON object with a timestamp.

use rdkafka::bindings as c;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::ptr;
use std::time::{Duration, Instant};

/// The most messages of a batch.
const BATCH: usize = 4096;
/// How long the broker may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, brokers, topic, rest @ ..] = &args[..] else { panic!("usage: floor BROKERS TOPIC [THREADS]") };
    let threads: usize = rest.first().map_or(2, |count| count.parse().expect("a number of threads"));
    let since = Instant::now();
    let read: Vec<Read> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|i| scope.spawn(move || read(brokers, topic, i, threads))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread ends")).collect()
    });
    let messages: i64 = read.iter().map(|read| read.messages).sum();
    let views: i64 = read.iter().map(|read| read.views).sum();
    let seconds = since.elapsed().as_secs_f64();
    println!(r#"{{"messages":{messages},"views":{views},"seconds":{seconds:.3}}}"#);
}

/// What a thread has read.
struct Read {
    messages: i64,
    views: i64,
    /// The sum of all times: so that reading them is not left out.
    times: u64,
}

fn read(brokers: &str, topic: &str, thread: usize, threads: usize) -> Read {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "floor")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // The default is a second, in which nothing is fetched once the queue is full.
        .set("fetch.queue.backoff.ms", "2")
        .set("queued.max.messages.kbytes", "32768")
        .set("fetch.message.max.bytes", "4194304")
        .create()
        .expect("a consumer");
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT).expect("the broker answers");
    let partitions = metadata.topics()[0].partitions().len();
    let mut mine = TopicPartitionList::new();
    let mut left = 0;
    for partition in (thread..partitions).step_by(threads) {
        let partition = i32::try_from(partition).expect("a number of Kafka's");
        let (low, high) = consumer.fetch_watermarks(topic, partition, TIMEOUT).expect("the broker answers");
        left += high - low;
        mine.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&mine).expect("partitions are assigned");
    let mut read = Read { messages: 0, views: 0, times: 0 };
    let mut batch: Vec<*mut c::rd_kafka_message_t> = vec![ptr::null_mut(); BATCH];
    // SAFETY: the client lives until the end of this function.
    let queue = unsafe { c::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
    while read.messages < left {
        // SAFETY: the batch has room for as many pointers as it says; each message is read before it is destroyed, once.
        let taken = unsafe { c::rd_kafka_consume_batch_queue(queue, 100, batch.as_mut_ptr(), BATCH) };
        for &message in &batch[..usize::try_from(taken).expect("the queue can be read")] {
            // SAFETY: as above.
            let bytes = unsafe {
                assert_eq!((*message).err, c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR, "a message, no error");
                std::slice::from_raw_parts((*message).payload.cast::<u8>(), (*message).len)
            };
            let found = parse(bytes);
            read.messages += 1;
            read.views += i64::from(found.page && found.pricing && !found.user.is_empty() && !found.id.is_empty());
            read.times = read.times.wrapping_add(found.timestamp);
            // SAFETY: as above.
            unsafe { c::rd_kafka_message_destroy(message) };
        }
    }
    assert!(read.messages == 0 || read.times > 0, "messages have times");
    // SAFETY: the queue is destroyed once, before its client.
    unsafe { c::rd_kafka_queue_destroy(queue) };
    read
}

/// What the audience needs of a message.
#[derive(Default)]
struct Found<'a> {
    page: bool,
    pricing: bool,
    user: &'a [u8],
    id: &'a [u8],
    timestamp: u64,
}

fn parse(text: &[u8]) -> Found<'_> {
    let mut found = Found::default();
    let end = members(text, 0, |name, from| match name {
        b"type" => {
            let end = value(text, from);
            found.page = &text[from..end] == b"\"page\"";
            end
        }
        b"userId" => {
            let end = value(text, from);
            found.user = &text[from + 1..end - 1];
            end
        }
        b"messageId" => {
            let end = value(text, from);
            found.id = &text[from + 1..end - 1];
            end
        }
        b"timestamp" => {
            let end = value(text, from);
            found.timestamp = time(&text[from + 1..end - 1]);
            end
        }
        b"properties" => members(text, from, |name, from| {
            let end = value(text, from);
            if name == b"path" {
                found.pricing = &text[from..end] == b"\"/pricing\"";
            }
            end
        }),
        _ => value(text, from),
    });
    assert!(end <= text.len() && found.timestamp > 0, "a message has a timestamp");
    found
}

/// Walks over the members of the object at `at`; `member` returns where a member's value ends. Returns where the object does.
fn members<'a>(text: &'a [u8], at: usize, mut member: impl FnMut(&'a [u8], usize) -> usize) -> usize {
    assert_eq!(text[at], b'{', "an object");
    let mut at = space(text, at + 1);
    while text[at] == b'"' {
        let end = end_of_string(text, at + 1);
        let colon = space(text, end + 1);
        assert_eq!(text[colon], b':', "a member has a value");
        let from = space(text, colon + 1);
        at = space(text, member(&text[at + 1..end], from));
        if text[at] != b',' {
            break;
        }
        at = space(text, at + 1);
    }
    assert_eq!(text[at], b'}', "an object ends");
    at + 1
}

fn space(text: &[u8], mut at: usize) -> usize {
    while matches!(text[at], b' ' | b'\n' | b'\r' | b'\t') {
        at += 1;
    }
    at
}

/// Returns where the value at `at` ends.
fn value(text: &[u8], mut at: usize) -> usize {
    match text[at] {
        b'"' => end_of_string(text, at + 1) + 1,
        b'{' | b'[' => {
            let mut depth = 0;
            loop {
                match text[at] {
                    b'"' => at = end_of_string(text, at + 1),
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => {
                        depth -= 1;
                        if depth == 0 {
                            return at + 1;
                        }
                    }
                    _ => {}
                }
                at += 1;
            }
        }
        _ => {
            while !matches!(text[at], b',' | b'}' | b']' | b' ' | b'\n') {
                at += 1;
            }
            at
        }
    }
}

/// Returns where the closing quote of the string is whose text begins at `at`; looks at eight bytes at a time.
fn end_of_string(text: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    const QUOTES: u64 = ONES * b'"' as u64;
    const SLASHES: u64 = ONES * b'\\' as u64;
    while let Some(word) = text.get(at..at + 8) {
        let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
        let (quotes, slashes) = (word ^ QUOTES, word ^ SLASHES);
        let hits = (quotes.wrapping_sub(ONES) & !quotes | slashes.wrapping_sub(ONES) & !slashes) & HIGHS;
        if hits == 0 {
            at += 8;
            continue;
        }
        at += hits.trailing_zeros() as usize / 8;
        if text[at] == b'"' {
            return at;
        }
        at += 2;
    }
    while text[at] != b'"' {
        at += if text[at] == b'\\' { 2 } else { 1 };
    }
    at
}

/// Returns a time such as `2026-11-01T00:00:00.000Z` as ms of its month and day, which is all that a floor needs.
fn time(text: &[u8]) -> u64 {
    assert!(text.len() == 24 && text[23] == b'Z', "a time as SDKs write it");
    let two = |at: usize| u64::from(text[at] - b'0') * 10 + u64::from(text[at + 1] - b'0');
    let days = two(5) * 31 + two(8);
    let minutes = (days * 24 + two(11)) * 60 + two(14);
    (minutes * 60 + two(17)) * 1000 + u64::from(text[20] - b'0') * 100 + two(21)
}
