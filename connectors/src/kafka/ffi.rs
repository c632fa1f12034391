//! The one place with unsafe code: partitions' own queues, read in batches, and what topics are.
//!
//! The safe interface of the `rdkafka` crate hands out one message at a time, and tells nothing of a topic's id. This wraps
//! what is missing of librdkafka's C interface, and no more. Promises: no pointer leaves this file; messages live as long as
//! the batch that they are borrowed from; queues and topics go before their client.
#![allow(unsafe_code)]

use super::client::{Problem, Reader, problem};
use rdkafka::ClientContext;
use rdkafka::bindings as c;
use rdkafka::client::Client;
use rdkafka::error::RDKafkaErrorCode;
use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;
use usher_core::source::{Body, HEAD_BYTES, Headers, MessageBatch, Record};

/// The most messages of a batch: their pointers are 32 KiB.
const BATCH_MESSAGES: usize = 4096;

/// A partition of a topic that is fetched into a queue of its own, from an offset on.
pub(super) struct Fetched {
    topic: *mut c::rd_kafka_topic_t,
    queue: *mut c::rd_kafka_queue_t,
    partition: i32,
    /// Dropped last: nothing above may outlive it.
    client: Arc<Reader>,
}

// SAFETY: librdkafka's clients, topics and queues may be used from any thread; the pointers are this value's own.
unsafe impl Send for Fetched {}

impl Fetched {
    /// Starts to fetch `partition` of `topic` from `offset` on.
    pub(super) fn start(client: Arc<Reader>, topic: &str, partition: i32, offset: i64) -> Fetched {
        let name = CString::new(topic).expect("a topic's name has no NUL");
        // SAFETY: the client lives as long as the topic, the name as long as the call; no settings means the client's.
        let topic = unsafe { c::rd_kafka_topic_new(client.native(), name.as_ptr(), ptr::null_mut()) };
        assert!(!topic.is_null(), "a client with valid settings can name any topic");
        // SAFETY: the client lives as long as the queue.
        let queue = unsafe { c::rd_kafka_queue_new(client.native()) };
        let fetched = Fetched { topic, queue, partition, client };
        fetched.fetch(offset);
        fetched
    }

    /// Who fetches it.
    pub(super) fn reader(&self) -> &Reader {
        &self.client
    }

    /// Fetches from another offset on; what is in the queue is forgotten.
    pub(super) fn restart(&self, offset: i64) {
        // SAFETY: the topic is alive. It may no longer be fetched, which is an error that changes nothing.
        unsafe { c::rd_kafka_consume_stop(self.topic, self.partition) };
        self.fetch(offset);
    }

    fn fetch(&self, offset: i64) {
        // SAFETY: topic and queue are alive.
        let result = unsafe { c::rd_kafka_consume_start_queue(self.topic, self.partition, offset, self.queue) };
        // It fails for a client of a group, and for places that are no offset: neither is ours.
        assert_eq!(result, 0, "partition {} can't be fetched from {offset}", self.partition);
    }

    /// Moves at most `most` messages into `batch`: those that are there or come within `wait`, in ms.
    pub(super) fn take(&self, batch: &mut Batch, most: usize, wait: Duration) {
        batch.clear();
        let most = most.clamp(1, BATCH_MESSAGES);
        batch.messages.reserve(most);
        // SAFETY: the vector has room for so many pointers, which is what a `Message` is, and as many as are told are written.
        // Each is then owned by the batch.
        unsafe {
            let taken = c::rd_kafka_consume_batch_queue(
                self.queue,
                ms(wait),
                batch.messages.as_mut_ptr().cast::<*mut _>(),
                most,
            );
            batch.messages.set_len(usize::try_from(taken).unwrap_or(0));
        }
    }

    /// The end of the partition as the last answer of its broker had it.
    pub(super) fn end(&self) -> Option<i64> {
        let (mut low, mut high) = (0, 0);
        // SAFETY: client and topic are alive, the name is the topic's own, and both numbers are written.
        let error = unsafe {
            let name = c::rd_kafka_topic_name(self.topic);
            c::rd_kafka_get_watermark_offsets(self.client.native(), name, self.partition, &mut low, &mut high)
        };
        (error == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
    }
}

impl Drop for Fetched {
    fn drop(&mut self) {
        // SAFETY: each is destroyed once, before the client; messages that are still out hold their own references.
        unsafe {
            c::rd_kafka_consume_stop(self.topic, self.partition);
            c::rd_kafka_queue_destroy(self.queue);
            c::rd_kafka_topic_destroy(self.topic);
        }
    }
}

/// Messages that were taken out of a queue.
#[derive(Debug, Default)]
pub(super) struct Batch {
    messages: Vec<Message>,
}

// SAFETY: messages may be read and destroyed by any thread, one at a time.
unsafe impl Send for Batch {}

impl Batch {
    pub(super) fn messages(&self) -> &[Message] {
        &self.messages
    }

    pub(super) fn clear(&mut self) {
        for message in self.messages.drain(..) {
            // SAFETY: the message came from a queue, and goes with the vector's entry.
            unsafe { c::rd_kafka_message_destroy(message.0) };
        }
    }
}

impl MessageBatch for Batch {
    fn record(&self, place: usize, message_bytes: usize) -> Option<Record<'_>> {
        self.messages[place].record(message_bytes)
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A message, or an event of its partition, in a batch.
#[derive(Debug)]
#[repr(transparent)]
pub(super) struct Message(*mut c::rd_kafka_message_t);

/// What stands in a place of a partition's queue.
pub(super) enum Taken<'a> {
    /// A message.
    Message(&'a Message),
    /// The end of the partition as it is now; the next message will be here or later.
    End(i64),
    /// The place that was asked for is not there any more, or not yet.
    OutOfRange,
    /// Something else.
    Error(RDKafkaErrorCode),
}

impl Message {
    fn raw(&self) -> &c::rd_kafka_message_t {
        // SAFETY: a batch holds live messages only, and this borrows from it.
        unsafe { &*self.0 }
    }

    /// What it is.
    pub(super) fn taken(&self) -> Taken<'_> {
        use c::rd_kafka_resp_err_t as E;
        match self.raw().err {
            E::RD_KAFKA_RESP_ERR_NO_ERROR => Taken::Message(self),
            E::RD_KAFKA_RESP_ERR__PARTITION_EOF => Taken::End(self.raw().offset),
            E::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET => Taken::OutOfRange,
            other => Taken::Error(other.into()),
        }
    }

    /// As a source's record, if it is a message.
    fn record(&self, message_bytes: usize) -> Option<Record<'_>> {
        let Taken::Message(message) = self.taken() else { return None };
        let body = match message.value() {
            Some(value) if value.len() > message_bytes => {
                Body::TooLarge { head: &value[..value.len().min(HEAD_BYTES)], length: value.len() as u64 }
            }
            Some(value) if !value.iter().all(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')) => Body::Bytes(value),
            _ => Body::Blank,
        };
        // An offset is never negative.
        let headers: Option<&dyn Headers> = Some(message);
        Some(Record { position: message.offset() as u64, timestamp: message.timestamp(), headers, body })
    }

    /// Its offset.
    pub(super) fn offset(&self) -> i64 {
        self.raw().offset
    }

    /// Its value; none: a tombstone.
    pub(super) fn value(&self) -> Option<&[u8]> {
        self.bytes(self.raw().payload, self.raw().len)
    }

    /// Its key.
    pub(super) fn key(&self) -> Option<&[u8]> {
        self.bytes(self.raw().key, self.raw().key_len)
    }

    fn bytes(&self, at: *mut c_void, length: usize) -> Option<&[u8]> {
        // SAFETY: where the pointer is not null, so many bytes are there for as long as the message.
        (!at.is_null()).then(|| unsafe { std::slice::from_raw_parts(at.cast::<u8>(), length) })
    }

    /// The time that it was given by its producer or its broker, ms since the epoch.
    pub(super) fn timestamp(&self) -> Option<u64> {
        // SAFETY: the message is alive; the kind of time is not asked for.
        let time = unsafe { c::rd_kafka_message_timestamp(self.0, ptr::null_mut()) };
        u64::try_from(time).ok()
    }
}

impl Headers for Message {
    fn get(&self, name: &str) -> Option<&[u8]> {
        let name = CString::new(name).ok()?;
        let (mut headers, mut value, mut length) = (ptr::null_mut(), ptr::null(), 0);
        // SAFETY: the message is alive, and its headers and their values live as long as it does. They are read at the first
        // call, which changes the message: no two threads have it, since it is neither `Send` nor `Sync`.
        unsafe {
            let ok = c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
            if c::rd_kafka_message_headers(self.0, &mut headers) != ok
                || c::rd_kafka_header_get_last(headers, name.as_ptr(), &mut value, &mut length) != ok
                || value.is_null()
            {
                return None;
            }
            Some(std::slice::from_raw_parts(value.cast::<u8>(), length))
        }
    }
}

/// What a cluster says of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Described {
    /// Its id in base64; none: the broker is older than ids (Kafka 2.8).
    pub(super) id: Option<String>,
    /// How many partitions it has.
    pub(super) partitions: i32,
}

/// Asks what topics are, in the order of `topics`; none: there is no such topic. Creates nothing.
pub(super) fn describe<C: ClientContext>(
    client: &Client<C>,
    topics: &[&str],
    timeout: Duration,
) -> Result<Vec<Option<Described>>, Problem> {
    let names: Vec<CString> = topics.iter().map(|name| CString::new(*name).expect("no NUL")).collect();
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let client = client.native_ptr();
    // SAFETY: the client is alive; everything made here is destroyed here, in the order that the interface asks for; the arrays of the result are
    // read while its event lives; names and counts are as told.
    unsafe {
        let queue = c::rd_kafka_queue_new(client);
        let options = c::rd_kafka_AdminOptions_new(client, c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
        let mut error = [0; 256];
        c::rd_kafka_AdminOptions_set_request_timeout(options, ms(timeout), error.as_mut_ptr(), error.len());
        let asked = c::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        c::rd_kafka_DescribeTopics(client, asked, options, queue);
        c::rd_kafka_TopicCollection_destroy(asked);
        c::rd_kafka_AdminOptions_destroy(options);
        // The request ends by its own timeout.
        let event = c::rd_kafka_queue_poll(queue, -1);
        c::rd_kafka_queue_destroy(queue);
        let code = c::rd_kafka_event_error(event);
        let result = if code == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            let mut count = 0;
            let found =
                c::rd_kafka_DescribeTopics_result_topics(c::rd_kafka_event_DescribeTopics_result(event), &mut count);
            let found = std::slice::from_raw_parts(found, count);
            topics
                .iter()
                .map(|name| found.iter().map(|at| described(*at)).find(|(n, _)| n == name))
                .map(|found| match found {
                    None => Ok(None),
                    Some((_, Ok(described))) => Ok(Some(described)),
                    Some((_, Err(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic))) => {
                        Ok(None)
                    }
                    Some((name, Err(code))) => Err(problem(code, &format!("topic `{name}`"))),
                })
                .collect()
        } else {
            Err(problem(code.into(), "the cluster's topics"))
        };
        c::rd_kafka_event_destroy(event);
        result
    }
}

/// As the interface has times.
fn ms(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}

/// Reads a topic's description.
///
/// # Safety
///
/// `topic` belongs to a live result.
unsafe fn described(topic: *const c::rd_kafka_TopicDescription_t) -> (String, Result<Described, RDKafkaErrorCode>) {
    // SAFETY: as the caller promises; strings are NUL-terminated and copied.
    unsafe {
        let name = CStr::from_ptr(c::rd_kafka_TopicDescription_name(topic)).to_string_lossy().into_owned();
        let error = c::rd_kafka_TopicDescription_error(topic);
        let code = c::rd_kafka_error_code(error);
        if code != c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return (name, Err(code.into()));
        }
        let mut partitions = 0;
        c::rd_kafka_TopicDescription_partitions(topic, &mut partitions);
        let id = c::rd_kafka_TopicDescription_topic_id(topic);
        let known = !id.is_null()
            && (c::rd_kafka_Uuid_least_significant_bits(id), c::rd_kafka_Uuid_most_significant_bits(id)) != (0, 0);
        let id = known.then(|| CStr::from_ptr(c::rd_kafka_Uuid_base64str(id)).to_string_lossy().into_owned());
        (name, Ok(Described { id, partitions: i32::try_from(partitions).expect("as Kafka counts them") }))
    }
}
