//! The only unsafe code: a queue for each partition, read in batches, and descriptions of topics.
//!
//! The safe interface of the `rdkafka` crate returns one message at a time and no topic ids. This file wraps the missing part
//! of librdkafka's C interface, and no more. Promises: no pointer leaves this file; messages live as long as the batch that
//! they are borrowed from; queues and topics are destroyed before their client.
#![allow(unsafe_code)]

use super::client::Reader;
use super::error::Problem;
use rdkafka::ClientContext;
use rdkafka::bindings as c;
use rdkafka::client::Client;
use rdkafka::error::RDKafkaErrorCode;
use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use usher_core::source::{Body, HEAD_BYTES, Headers, MessageBatch, Record, is_too_large};

/// The most messages of a batch: their pointers are 32 KiB.
const BATCH_MESSAGES: usize = 4096;

/// A partition of a topic that is fetched from an offset on, into a queue of its own.
pub(super) struct PartitionQueue {
    topic: *mut c::rd_kafka_topic_t,
    queue: *mut c::rd_kafka_queue_t,
    partition: i32,
    /// What the queue calls when it is no longer empty. Its address stays as long as the queue may call it.
    waking: Option<Box<Waking>>,
    /// Dropped last: nothing above may outlive it.
    client: Arc<Reader>,
}

/// What a queue calls, and whether it has since the last look.
struct Waking {
    wake: Arc<dyn Fn() + Send + Sync>,
    called: AtomicBool,
}

/// Called by librdkafka's threads when a queue is no longer empty.
extern "C" fn on_message(_: *mut c::rd_kafka_t, waking: *mut c_void) {
    // SAFETY: the pointer is that of a `Waking` that lives until the queue has ceased to call it.
    let waking = unsafe { &*waking.cast::<Waking>() };
    waking.called.store(true, Ordering::Release);
    (waking.wake)();
}

// SAFETY: librdkafka's clients, topics and queues may be used from any thread; the pointers are this value's own.
unsafe impl Send for PartitionQueue {}

impl PartitionQueue {
    /// Starts to fetch `partition` of `topic` from `offset` on.
    pub(super) fn start(client: Arc<Reader>, topic: &str, partition: i32, offset: i64) -> PartitionQueue {
        let name = CString::new(topic).expect("a topic's name has no NUL");
        // SAFETY: the client lives as long as the topic, the name as long as the call; no settings means the client's.
        let topic = unsafe { c::rd_kafka_topic_new(client.native(), name.as_ptr(), ptr::null_mut()) };
        assert!(!topic.is_null(), "a client with valid settings can name any topic");
        // SAFETY: the client lives as long as the queue.
        let queue = unsafe { c::rd_kafka_queue_new(client.native()) };
        let fetched = PartitionQueue { topic, queue, partition, waking: None, client };
        fetched.fetch(offset);
        fetched
    }

    /// Has `wake` called whenever the queue is no longer empty. It must not call librdkafka, which holds the queue's lock.
    pub(super) fn wake_with(&mut self, wake: Arc<dyn Fn() + Send + Sync>) {
        // The queue may have entries already.
        let waking = self.waking.insert(Box::new(Waking { wake, called: AtomicBool::new(true) }));
        let opaque = ptr::from_ref::<Waking>(waking).cast_mut().cast();
        // SAFETY: the queue is alive; what is called is valid until `drop` has ended the calls.
        unsafe { c::rd_kafka_queue_cb_event_enable(self.queue, Some(on_message), opaque) };
    }

    /// Returns whether the queue may have entries. Must be followed by a [`PartitionQueue::take`] if it has.
    pub(super) fn may_have_some(&self) -> bool {
        self.waking.as_ref().is_none_or(|waking| waking.called.swap(false, Ordering::AcqRel))
    }

    /// Notes that more entries may be in the queue than were taken.
    pub(super) fn has_more(&self) {
        if let Some(waking) = &self.waking {
            waking.called.store(true, Ordering::Release);
        }
    }

    /// Returns the client that fetches the partition.
    pub(super) fn reader(&self) -> &Reader {
        &self.client
    }

    /// Fetches from another offset on; messages in the queue are dropped.
    pub(super) fn restart(&self, offset: i64) {
        self.stop();
        self.fetch(offset);
    }

    /// Fetches no more; messages in the queue are dropped.
    pub(super) fn stop(&self) {
        // SAFETY: the topic is alive. It may no longer be fetched, which is an error that changes nothing.
        unsafe { c::rd_kafka_consume_stop(self.topic, self.partition) };
    }

    fn fetch(&self, offset: i64) {
        // SAFETY: topic and queue are alive.
        let result = unsafe { c::rd_kafka_consume_start_queue(self.topic, self.partition, offset, self.queue) };
        // It fails for a client with a group, and for logical offsets: we use neither.
        assert_eq!(result, 0, "partition {} can't be fetched from {offset}", self.partition);
    }

    /// Moves at most `most` messages into `batch`: those that are queued or arrive within `wait`.
    pub(super) fn take(&self, batch: &mut FetchedBatch, most: usize, wait: Duration) {
        batch.clear();
        let most = most.clamp(1, BATCH_MESSAGES);
        batch.messages.reserve(most);
        // SAFETY: a `Message` is a pointer, the vector has room for `most` of them, and the call returns how many it has
        // written. Each is then owned by the batch.
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

    /// Returns the end of the partition by its broker's latest answer. None if there was no answer yet.
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

impl Drop for PartitionQueue {
    fn drop(&mut self) {
        // SAFETY: each is destroyed once, before the client; messages in batches hold their own references.
        // The queue's lock is held while it calls: once the calls are disabled, none is under way.
        unsafe {
            c::rd_kafka_queue_cb_event_enable(self.queue, None, ptr::null_mut());
            c::rd_kafka_consume_stop(self.topic, self.partition);
            c::rd_kafka_queue_destroy(self.queue);
            c::rd_kafka_topic_destroy(self.topic);
        }
    }
}

/// Messages taken out of a queue.
#[derive(Debug, Default)]
pub(super) struct FetchedBatch {
    messages: Vec<Message>,
}

// SAFETY: messages may be read and destroyed by any thread, one at a time.
unsafe impl Send for FetchedBatch {}

impl FetchedBatch {
    pub(super) fn messages(&self) -> &[Message] {
        &self.messages
    }

    pub(super) fn clear(&mut self) {
        self.keep_last(0);
    }

    /// Drops all but the last `count` entries.
    pub(super) fn keep_last(&mut self, count: usize) {
        let gone = self.messages.len().saturating_sub(count);
        for message in self.messages.drain(..gone) {
            // SAFETY: the message came from a queue, and its entry is removed from the vector.
            unsafe { c::rd_kafka_message_destroy(message.0) };
        }
    }
}

impl MessageBatch for FetchedBatch {
    fn record(&self, place: usize, message_bytes: usize) -> Option<Record<'_>> {
        self.messages[place].record(message_bytes)
    }
}

impl Drop for FetchedBatch {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A message, or an event of its partition, in a batch.
#[derive(Debug)]
#[repr(transparent)]
pub(super) struct Message(*mut c::rd_kafka_message_t);

/// What an entry of a partition's queue is.
pub(super) enum Taken<'a> {
    /// A message.
    Message(&'a Message),
    /// The current end of the partition: the next message has this offset or a greater one.
    End(i64),
    /// The requested offset does not exist any more, or not yet.
    OutOfRange,
    /// An error of the partition.
    Error(RDKafkaErrorCode),
}

impl Message {
    fn raw(&self) -> &c::rd_kafka_message_t {
        // SAFETY: a batch holds live messages only, and this borrows from it.
        unsafe { &*self.0 }
    }

    /// Returns what the entry is.
    pub(super) fn taken(&self) -> Taken<'_> {
        use c::rd_kafka_resp_err_t as E;
        match self.raw().err {
            E::RD_KAFKA_RESP_ERR_NO_ERROR => Taken::Message(self),
            E::RD_KAFKA_RESP_ERR__PARTITION_EOF => Taken::End(self.raw().offset),
            E::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET => Taken::OutOfRange,
            other => Taken::Error(other.into()),
        }
    }

    /// Returns the message as a source's record. None if the entry is no message.
    fn record(&self, message_bytes: usize) -> Option<Record<'_>> {
        let Taken::Message(message) = self.taken() else { return None };
        let body = message.body(message_bytes)?;
        let headers: Option<&dyn Headers> = Some(message);
        // An offset is never negative.
        Some(Record { position: message.offset() as u64, timestamp: message.timestamp(), headers, body })
    }

    /// Returns the value as a record's body. None if the entry is no message.
    pub(super) fn body(&self, message_bytes: usize) -> Option<Body<'_>> {
        let Taken::Message(message) = self.taken() else { return None };
        Some(match message.value() {
            Some(value) if is_too_large(value, message_bytes) => {
                Body::TooLarge { head: &value[..value.len().min(HEAD_BYTES)], length: value.len() as u64 }
            }
            Some(value) if !value.iter().all(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')) => Body::Bytes(value),
            _ => Body::Blank,
        })
    }

    /// Returns the offset.
    pub(super) fn offset(&self) -> i64 {
        self.raw().offset
    }

    /// Returns the value. None for a tombstone.
    pub(super) fn value(&self) -> Option<&[u8]> {
        self.bytes(self.raw().payload, self.raw().len)
    }

    /// Returns the key, if there is one.
    pub(super) fn key(&self) -> Option<&[u8]> {
        self.bytes(self.raw().key, self.raw().key_len)
    }

    fn bytes(&self, at: *mut c_void, length: usize) -> Option<&[u8]> {
        // SAFETY: a pointer that is not null points to `length` bytes that live as long as the message.
        (!at.is_null()).then(|| unsafe { std::slice::from_raw_parts(at.cast::<u8>(), length) })
    }

    /// Returns the time set by the producer or the broker, ms since the epoch.
    pub(super) fn timestamp(&self) -> Option<u64> {
        // SAFETY: the message is alive; a null pointer means that the kind of time is not wanted.
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

/// A topic as the cluster describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TopicDescription {
    /// The id in base64. None if the broker is older than ids (Kafka 2.8).
    pub(super) id: Option<String>,
    /// The number of partitions.
    pub(super) partitions: i32,
}

/// Requests the descriptions of topics, in the order of `topics`; None for a topic that does not exist. Creates nothing.
pub(super) fn describe<C: ClientContext>(
    client: &Client<C>,
    topics: &[&str],
    timeout: Duration,
) -> Result<Vec<Option<TopicDescription>>, Problem> {
    let names: Vec<CString> = topics.iter().map(|name| CString::new(*name).expect("no NUL")).collect();
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let client = client.native_ptr();
    // SAFETY: the client is alive; everything created here is destroyed here, in the order that the interface requires; the
    // arrays of the result are read while its event lives, with the length that the interface returns.
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
                    Some((name, Err(code))) => Err(Problem::of_code(code, &format!("topic `{name}`"))),
                })
                .collect()
        } else {
            Err(Problem::of_code(code.into(), "the cluster's topics"))
        };
        c::rd_kafka_event_destroy(event);
        result
    }
}

/// Converts to the unit of the interface.
fn ms(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}

/// Reads a topic's description.
///
/// # Safety
///
/// `topic` belongs to a live result.
unsafe fn described(
    topic: *const c::rd_kafka_TopicDescription_t,
) -> (String, Result<TopicDescription, RDKafkaErrorCode>) {
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
        (
            name,
            Ok(TopicDescription {
                id,
                partitions: i32::try_from(partitions).expect("Kafka counts partitions in 31 bits"),
            }),
        )
    }
}
