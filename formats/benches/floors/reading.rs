//! The floors of a workload of messages in a file: what reading them takes with nothing behind it.
//!
//! The canonical benchmark prints them beside its figures; `main.rs` runs one as a whole process. A file is read in chunks, and not kept.

use std::fs;
use std::hint::black_box;
use std::path::Path;

/// How many lines a file has.
pub fn count_lines(path: &Path) -> u64 {
    let mut lines = 0;
    each_chunk(path, |chunk| lines += memchr::memchr_iter(b'\n', chunk).count() as u64);
    lines
}

/// The whole lines of a file, a chunk at a time.
fn each_chunk(path: &Path, mut work: impl FnMut(&[u8])) {
    use std::io::Read;
    let mut file = fs::File::open(path).expect("the events are there");
    let mut buffer = vec![0; 256 << 10];
    let mut start = 0;
    loop {
        let read = file.read(&mut buffer[start..]).expect("the events can be read");
        if read == 0 {
            return;
        }
        let end = start + read;
        let whole = memchr::memrchr(b'\n', &buffer[..end]).map_or(0, |at| at + 1);
        work(&buffer[..whole]);
        buffer.copy_within(whole..end, 0);
        start = end - whole;
    }
}

fn each_line(path: &Path, mut work: impl FnMut(&[u8])) {
    each_chunk(path, |chunk| {
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', chunk) {
            work(&chunk[start..end]);
            start = end + 1;
        }
    });
}

/// Reads each message by `serde_json`, into nine borrowed fields.
pub fn serde(events: &Path) {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Message<'a> {
        #[serde(rename = "type", borrow)]
        kind: Option<&'a str>,
        #[serde(borrow)]
        event: Option<&'a str>,
        #[serde(borrow)]
        name: Option<&'a str>,
        #[serde(borrow)]
        user_id: Option<&'a str>,
        #[serde(borrow)]
        message_id: Option<&'a str>,
        #[serde(borrow)]
        timestamp: Option<&'a str>,
        #[serde(borrow)]
        properties: Option<Properties<'a>>,
    }
    #[derive(serde::Deserialize)]
    struct Properties<'a> {
        #[serde(borrow)]
        path: Option<&'a str>,
        #[serde(borrow)]
        category: Option<&'a str>,
        revenue: Option<f64>,
    }
    each_line(events, |line| {
        let message: Message<'_> = serde_json::from_slice(line).expect("the messages are JSON");
        let properties = message.properties.as_ref().map(|p| (p.path, p.category, p.revenue));
        black_box((
            message.kind,
            message.event,
            message.name,
            message.user_id,
            message.message_id,
            message.timestamp,
            properties,
        ));
    });
}

/// Reads each message by this crate's decoder, for the format's own fields and no other.
pub fn walk(events: &Path) {
    use usher_config::Format;
    use usher_formats::{Decoder, Fields};
    let decoder = Decoder::new(&Format::Segment, &[]);
    each_chunk(events, |chunk| {
        let mut fields = Fields::default();
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', chunk) {
            black_box(decoder.decode(&chunk[start..end], None, &mut fields)).expect("the messages are JSON");
            start = end + 1;
        }
    });
}
