//! How many messages a second one core reads: ours against `serde_json` into borrowed fields, and the same messages in Avro and in Protobuf.
//!
//! Ten fields of Segment messages of some 860 bytes, varied in order of magnitude as traffic is: pages and tracks, two
//! user agents, ids and urls of several lengths. Prints the median of five runs of each. Both add up what they
//! read, and the sums must agree, so that neither skips its work.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use encode::Shape;
use serde::Deserialize;
use serde_json::Value;
use usher_config::{Format, Found, Path, Step};
use usher_formats::{Decoder, Fields};

mod encode;

fn main() -> std::io::Result<()> {
    let text = messages(1_000);
    let json: Vec<&[u8]> = text.trim_ascii_end().split(|byte| *byte == b'\n').collect();
    let values: Vec<Value> = json.iter().map(|message| serde_json::from_slice(message).expect("it is JSON")).collect();
    let mut shape = Shape::default();
    values.iter().for_each(|value| shape.add(value));
    let in_avro = |value: &Value| {
        let mut out = Vec::new();
        shape.to_avro(value, &mut out);
        out
    };
    let in_protobuf = |value: &Value| {
        let mut out = Vec::new();
        shape.to_protobuf(value.as_object().expect("an object"), &mut out);
        out
    };
    let avro: Vec<Vec<u8>> = values.iter().map(in_avro).collect();
    let protobuf: Vec<Vec<u8>> = values.iter().map(in_protobuf).collect();
    let avro: Vec<&[u8]> = avro.iter().map(Vec::as_slice).collect();
    let protobuf: Vec<&[u8]> = protobuf.iter().map(Vec::as_slice).collect();
    let mut file = "syntax = \"proto3\"; ".to_owned();
    shape.protobuf("Message", &mut file);
    let of_avro = decoder().in_avro(&shape.avro(&mut 0).to_string(), &[]).expect("a sound schema");
    let of_protobuf = decoder().in_protobuf(&file, &BTreeMap::new(), "Message").expect("a sound schema");
    let of_json = decoder();

    let mut out = std::io::stdout().lock();
    let runs: [(&str, &[&[u8]], Run); 8] = [
        ("decode", &json, &|messages| decode(&of_json, messages)),
        ("serde_json, borrowed fields", &json, &borrowed),
        ("decode and event time", &json, &|messages| timed(&of_json, messages)),
        ("simdutf8 alone", &json, &valid),
        ("Avro, decode", &avro, &|messages| decode(&of_avro, messages)),
        ("Avro, and event time", &avro, &|messages| timed(&of_avro, messages)),
        ("Protobuf, decode", &protobuf, &|messages| decode(&of_protobuf, messages)),
        ("Protobuf, and event time", &protobuf, &|messages| timed(&of_protobuf, messages)),
    ];
    let sum = decode(&of_json, &json);
    let sums = [borrowed(&json), decode(&of_avro, &avro), decode(&of_protobuf, &protobuf)];
    assert_eq!(sums, [sum; 3], "all read the same values");
    let sum = timed(&of_json, &json);
    assert_eq!([timed(&of_avro, &avro), timed(&of_protobuf, &protobuf)], [sum; 2], "all read the same times");
    // In turns, so that whatever else the machine does meets all of them.
    let mut rates = [const { Vec::new() }; 8];
    for _ in 0..5 {
        for ((_, messages, run), rates) in runs.iter().zip(&mut rates) {
            let start = spent();
            for _ in 0..ROUNDS {
                std::hint::black_box(run(messages));
            }
            rates.push((ROUNDS * messages.len()) as f64 / (spent() - start).as_secs_f64());
        }
    }
    for ((what, messages, _), rates) in runs.iter().zip(&mut rates) {
        rates.sort_by(f64::total_cmp);
        let (rate, bytes) = (rates[2], messages.iter().map(|message| message.len()).sum::<usize>() / messages.len());
        let (millions, nanos, bandwidth) = (rate / 1e6, 1e9 / rate, rate * bytes as f64 / 1e9);
        writeln!(
            out,
            "{what:28} {bytes:4} bytes, {millions:6.2} M messages/s, {nanos:4.0} ns each, {bandwidth:5.2} GB/s"
        )?;
    }
    let times = |one: usize, other: usize| rates[one][2] / rates[other][2];
    writeln!(out, "decode is {:.2} times as fast as serde_json", times(0, 1))?;
    writeln!(out, "Avro is {:.2} times as fast as JSON, with event times {:.2} times", times(4, 0), times(5, 2))?;
    writeln!(out, "Protobuf is {:.2} times as fast as JSON, with event times {:.2} times", times(6, 0), times(7, 2))
}

/// Reads a batch, and returns something of what it read.
type Run<'r> = &'r dyn Fn(&[&[u8]]) -> usize;

/// How often the batch is read between two looks at the clock.
const ROUNDS: usize = 600;

fn valid(messages: &[&[u8]]) -> usize {
    let valid = |message: &&&[u8]| simdutf8::basic::from_utf8(message).is_ok();
    messages.iter().filter(valid).count()
}

/// The processor time of this thread where the system tells it, so that a busy machine does not show; else wall time.
fn spent() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let ledger = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = ledger.and_then(|ledger| ledger.split(' ').next()?.parse().ok());
    nanos.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

fn decoder() -> Decoder {
    let path = |steps: &[&str]| Path(steps.iter().map(|step| Step::Key((*step).to_owned())).collect());
    let paths = [
        path(&["properties", "path"]),
        path(&["properties", "revenue"]),
        path(&["properties", "currency"]),
        path(&["context", "channel"]),
    ];
    Decoder::new(&Format::Segment, &paths)
}

fn decode(decoder: &Decoder, messages: &[&[u8]]) -> usize {
    let mut fields = Fields::default();
    let mut sum = 0;
    for message in messages {
        decoder.decode(message, None, &mut fields).expect("a well-formed message");
        sum += [fields.kind(), fields.name(), fields.key(), fields.id()].map(length).iter().sum::<usize>();
        sum += (0..4).map(|i| length(fields.get(i))).sum::<usize>();
    }
    sum
}

fn timed(decoder: &Decoder, messages: &[&[u8]]) -> usize {
    let mut fields = Fields::default();
    let mut sum = 0;
    for message in messages {
        decoder.decode(message, None, &mut fields).expect("a well-formed message");
        sum += fields.time(None).expect("a time") as usize & 0xff;
    }
    sum
}

fn length(found: &Found<'_>) -> usize {
    match found {
        Found::Text(text) => text.len(),
        Found::Number(_) | Found::Double(_) => 1,
        _ => 0,
    }
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "userId")]
    user_id: Cow<'a, str>,
    #[serde(borrow, rename = "messageId")]
    message_id: Cow<'a, str>,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow)]
    properties: Properties<'a>,
    #[serde(borrow)]
    context: Context<'a>,
}

#[derive(Deserialize)]
struct Properties<'a> {
    #[serde(borrow)]
    path: Option<Cow<'a, str>>,
    revenue: Option<f64>,
    #[serde(borrow)]
    currency: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Context<'a> {
    #[serde(borrow)]
    channel: Option<Cow<'a, str>>,
}

fn borrowed(messages: &[&[u8]]) -> usize {
    let mut sum = 0;
    for message in messages {
        let message: Message = serde_json::from_slice(message).expect("a well-formed message");
        let name = if message.kind == "page" { &message.name } else { &message.event };
        let given = |text: &Option<Cow<'_, str>>| text.as_ref().map_or(0, |text| text.len());
        sum += message.kind.len() + given(name) + message.user_id.len() + message.message_id.len();
        sum += given(&message.properties.path) + given(&message.properties.currency);
        sum += given(&message.context.channel) + usize::from(message.properties.revenue.is_some());
        sum += message.timestamp.len() - message.timestamp.len();
    }
    sum
}

/// Lines, as a source has them in memory when it has read a batch.
fn messages(count: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    let agents = [
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/119.0.0.0 Safari/537.36",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.1 Mobile/15E148 Safari/604.1",
    ];
    let paths = ["/", "/pricing", "/products/wool-socks", "/blog/2026/11/how-we-ship"];
    let names = ["Order Completed", "Product Viewed", "Cart Viewed", "Signed Up"];
    (0..count)
        .map(|_| {
            let path = paths[random.usize(..paths.len())];
            let ms = random.u64(0..86_400_000);
            let (hour, minute) = (ms / 3_600_000, ms / 60_000 % 60);
            let time = format!("2026-11-23T{hour:02}:{minute:02}:{:02}.{:03}Z", ms / 1000 % 60, ms % 1000);
            let what = if random.bool() {
                format!(
                    r#""type":"page","name":"Home","properties":{{"path":"{path}","title":"The shop of socks","referrer":"","search":"?utm_source=mail&n={}","url":"https://shop.example.com{path}"}}"#,
                    random.u32(..1000)
                )
            } else {
                format!(
                    r#""type":"track","event":"{}","properties":{{"order_id":"o-{}","revenue":{}.{:02},"currency":"EUR","coupon":null,"products":[{{"sku":"S-{}","quantity":{},"price":12.5}}]}}"#,
                    names[random.usize(..names.len())],
                    random.u32(..1_000_000),
                    random.u32(..500),
                    random.u32(..100),
                    random.u32(..10_000),
                    random.u32(1..5)
                )
            };
            format!(
                r#"{{"anonymousId":"{:08x}-91a7-{:012x}","channel":"browser","context":{{"ip":"{}.{}.8.8","library":{{"name":"analytics.js","version":"2.11.1"}},"locale":"en-US","channel":"web","page":{{"path":"{path}","referrer":"","search":"","title":"Shop","url":"https://shop.example.com{path}"}},"userAgent":"{}"}},"integrations":{{}},"messageId":"ajs-{:032x}",{what},"originalTimestamp":"{time}","sentAt":"{time}","receivedAt":"{time}","timestamp":"{time}","userId":"u-{}","version":2}}"#,
                random.u32(..),
                random.u64(..1 << 48),
                random.u8(..),
                random.u8(..),
                agents[random.usize(..agents.len())],
                random.u128(..),
                random.u32(..2_000_000),
            )
            + "\n"
        })
        .collect::<String>()
        .into_bytes()
}
