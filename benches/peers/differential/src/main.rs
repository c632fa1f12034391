//! The audience as a good user of differential dataflow would write it with the library's own operators.
//!
//! `differential-peer [-w N] [--epoch MS] [--out FILE] FILE...` reads files of Segment messages, one partition each, to their end
//! and writes who viewed the pricing page three times within four hours: an entry or an exit a line, dated to the ms.
//!
//! A view is put in at the time at which it takes effect (the greatest timestamp that its file had so far) and taken back four hours
//! after it happened. `distinct` by message removes repeats, `threshold` over the count of the rest decides membership. Worker W
//! of N reads the files W, W + N, ... , the one that is furthest behind first, and its input follows the least of them, in
//! steps of `--epoch` ms. What a step holds is still dated to the ms.
//!
//! Promises the memberships that the data has at each ms. Refuses, with a panic, what is no JSON object with a timestamp.

use differential_dataflow::input::InputSession;
use differential_dataflow::operators::ThresholdTotal;
use serde::Deserialize;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use timely::dataflow::operators::probe::Handle as ProbeHandle;

/// How long a view counts, ms.
const WINDOW: u64 = 4 * 3_600_000;
/// How many views within it make a member.
const AT_LEAST: isize = 3;

#[derive(Clone)]
struct Flags {
    workers: usize,
    epoch_ms: u64,
    out: String,
    files: Vec<String>,
}

fn flags() -> Flags {
    let mut flags = Flags { workers: 1, epoch_ms: 60_000, out: "/dev/stdout".into(), files: Vec::new() };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(|| panic!("`{arg}` wants a value"));
        match &arg[..] {
            "-w" => flags.workers = value().parse().expect("`-w` is a number"),
            "--epoch" => flags.epoch_ms = value().parse().expect("`--epoch` is a number"),
            "--out" => flags.out = value(),
            _ => flags.files.push(arg),
        }
    }
    assert!(!flags.files.is_empty(), "name the files");
    flags
}

/// What the audience needs of a message.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<&'a str>,
    #[serde(borrow)]
    user_id: Option<&'a str>,
    #[serde(borrow)]
    message_id: Option<&'a str>,
    #[serde(borrow)]
    timestamp: &'a str,
    #[serde(borrow)]
    properties: Option<Properties<'a>>,
}

#[derive(Deserialize)]
struct Properties<'a> {
    #[serde(borrow)]
    path: Option<&'a str>,
}

/// A file that is read message by message.
struct Partition {
    lines: BufReader<File>,
    line: Vec<u8>,
    /// The greatest timestamp so far.
    clock: u64,
    messages: u64,
}

/// A view of the pricing page: of whom, in which message, and when it happened.
struct View {
    user: String,
    message: String,
    timestamp: u64,
}

impl Partition {
    fn open(path: &str) -> Partition {
        let file = File::open(path).unwrap_or_else(|error| panic!("`{path}`: {error}"));
        Partition { lines: BufReader::with_capacity(1 << 20, file), line: Vec::new(), clock: 0, messages: 0 }
    }

    /// Reads a message; `None` at the end. Within, the view that it is, if it is one.
    fn next(&mut self) -> Option<Option<View>> {
        self.line.clear();
        if self.lines.read_until(b'\n', &mut self.line).expect("the file can be read") == 0 {
            return None;
        }
        let message: Message<'_> = serde_json::from_slice(&self.line).expect("a message is JSON");
        let time: jiff::Timestamp = message.timestamp.parse().expect("a timestamp");
        let timestamp = u64::try_from(time.as_millisecond()).expect("a time after 1970");
        self.clock = self.clock.max(timestamp);
        self.messages += 1;
        let path = message.properties.and_then(|properties| properties.path);
        let (Some("page"), Some("/pricing"), Some(user)) = (message.kind, path, message.user_id) else {
            return Some(None);
        };
        let message = message.message_id.expect("a view has an id").to_owned();
        Some(Some(View { user: user.to_owned(), message, timestamp }))
    }
}

fn main() {
    let flags = flags();
    let since = Instant::now();
    let out = File::create(&flags.out).unwrap_or_else(|error| panic!("`{}`: {error}", flags.out));
    let out = Arc::new(Mutex::new(BufWriter::new(out)));
    let workers = (Arc::clone(&out), flags.clone());
    let config = timely::Config::process(flags.workers);
    let guards = timely::execute(config, move |worker| {
        let (out, flags) = (Arc::clone(&workers.0), &workers.1);
        let mut input: InputSession<u64, (String, String), isize> = InputSession::new();
        let probe = ProbeHandle::new();
        worker.dataflow(|scope| {
            input
                .to_collection(scope)
                .distinct_total()
                .map(|(user, _)| user)
                .threshold_total(|_, count| isize::from(*count >= AT_LEAST))
                .inspect(move |(user, at, diff)| {
                    let kind = if *diff > 0 { "entry" } else { "exit" };
                    let mut out = out.lock().expect("no worker panics with the lock");
                    writeln!(out, r#"{{"type":"{kind}","key":"{user}","at":{at}}}"#).expect("the file can be written");
                })
                .probe_with(&probe);
        });
        let mine = flags.files.iter().skip(worker.index()).step_by(worker.peers());
        let mut partitions: Vec<Partition> = mine.map(|path| Partition::open(path)).collect();
        let mut messages = 0;
        while let Some(least) = (0..partitions.len()).min_by_key(|&i| partitions[i].clock) {
            let partition = &mut partitions[least];
            // Until it is no longer the one that is furthest behind, or a step is full.
            let until = partition.clock.max(*input.time()) + flags.epoch_ms;
            let ended = loop {
                match partition.next() {
                    None => break true,
                    Some(Some(view)) if view.timestamp + WINDOW > partition.clock => {
                        let ends = view.timestamp + WINDOW;
                        let view = (view.user, view.message);
                        input.update_at(view.clone(), partition.clock, 1);
                        input.update_at(view, ends, -1);
                    }
                    Some(_) => {}
                }
                if partition.clock >= until {
                    break false;
                }
            };
            if ended {
                messages += partitions.swap_remove(least).messages;
            }
            let clock = partitions.iter().map(|partition| partition.clock).min();
            if let Some(clock) = clock
                && clock >= *input.time() + flags.epoch_ms
            {
                input.advance_to(clock);
                input.flush();
                worker.step();
            }
        }
        input.close();
        worker.step_or_park_while(None, || !probe.done());
        messages
    })
    .expect("the workers start");
    let messages: u64 = guards.join().into_iter().map(|messages| messages.expect("a worker ends")).sum();
    out.lock().expect("no worker panics with the lock").flush().expect("the file can be written");
    eprintln!(r#"{{"messages":{messages},"seconds":{:.3}}}"#, since.elapsed().as_secs_f64());
}
