//! How many messages a second one core reads: ours against `serde_json` into borrowed fields.
//!
//! Ten fields of Segment messages of some 860 bytes, varied in order of magnitude as traffic is: pages and tracks, two
//! user agents, ids and urls of several lengths. Prints the median of five runs of each. Both add up what they
//! read, and the sums must agree, so that neither skips its work.

use std::borrow::Cow;
use std::io::Write;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde::Deserialize;
use usher_config::{Format, Found, Path, Step};
use usher_connectors::formats::{Decoder, Fields};

fn main() -> std::io::Result<()> {
    let messages = messages(4_000);
    let bytes: usize = messages.iter().map(Vec::len).sum();
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{} messages, {} bytes each",
        messages.len(),
        bytes / messages.len()
    )?;
    let mut report = |what: &str, run: &dyn Fn(&[Vec<u8>]) -> usize| {
        let mut rates = Vec::new();
        let mut sum = 0;
        for _ in 0..5 {
            let start = spent();
            for _ in 0..100 {
                sum = run(&messages);
            }
            rates.push(100.0 * messages.len() as f64 / (spent() - start).as_secs_f64() / 1e6);
        }
        rates.sort_by(f64::total_cmp);
        writeln!(
            out,
            "{what:32} {:5.2} M messages/s, {:4.0} ns each, {:4.2} GB/s",
            rates[2],
            1e3 / rates[2],
            rates[2] * 1e6 * (bytes / messages.len()) as f64 / 1e9,
        )?;
        std::io::Result::Ok(sum)
    };
    let ours = report("decode", &decode)?;
    let theirs = report("serde_json, borrowed fields", &borrowed)?;
    assert_eq!(ours, theirs, "both read the same values");
    report("decode and event time", &timed)?;
    report("simdutf8 alone", &|messages| {
        messages
            .iter()
            .filter(|message| simdutf8::basic::from_utf8(message).is_ok())
            .count()
    })?;
    Ok(())
}

/// The processor time of this thread where the system tells it, so that a busy machine does not show; else wall time.
fn spent() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|told| told.split(' ').next()?.parse().ok());
    nanos.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

fn decoder() -> Decoder {
    let path = |steps: &[&str]| {
        Path(
            steps
                .iter()
                .map(|step| Step::Key((*step).to_owned()))
                .collect(),
        )
    };
    let paths = [
        path(&["properties", "path"]),
        path(&["properties", "revenue"]),
        path(&["properties", "currency"]),
        path(&["context", "channel"]),
    ];
    Decoder::new(&Format::Segment, &paths)
}

fn decode(messages: &[Vec<u8>]) -> usize {
    let decoder = decoder();
    let mut fields = Fields::default();
    let mut sum = 0;
    for message in messages {
        decoder
            .decode(message, &mut fields)
            .expect("a well-formed message");
        sum += [fields.kind(), fields.name(), fields.key(), fields.id()]
            .map(length)
            .iter()
            .sum::<usize>();
        sum += (0..4).map(|i| length(fields.get(i))).sum::<usize>();
    }
    sum
}

fn timed(messages: &[Vec<u8>]) -> usize {
    let decoder = decoder();
    let mut fields = Fields::default();
    let mut sum = 0;
    for message in messages {
        decoder
            .decode(message, &mut fields)
            .expect("a well-formed message");
        sum += fields.time(None).expect("a time") as usize & 0xff;
    }
    sum
}

fn length(found: &Found<'_>) -> usize {
    match found {
        Found::Text(text) => text.len(),
        Found::Number(_) => 1,
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

fn borrowed(messages: &[Vec<u8>]) -> usize {
    let mut sum = 0;
    for message in messages {
        let message: Message = serde_json::from_slice(message).expect("a well-formed message");
        let name = if message.kind == "page" {
            &message.name
        } else {
            &message.event
        };
        let given = |text: &Option<Cow<'_, str>>| text.as_ref().map_or(0, |text| text.len());
        sum += message.kind.len() + given(name) + message.user_id.len() + message.message_id.len();
        sum += given(&message.properties.path) + given(&message.properties.currency);
        sum += given(&message.context.channel) + usize::from(message.properties.revenue.is_some());
        sum += message.timestamp.len() - message.timestamp.len();
    }
    sum
}

fn messages(count: usize) -> Vec<Vec<u8>> {
    let mut random = fastrand::Rng::with_seed(7);
    let agents = [
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/119.0.0.0 Safari/537.36",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.1 Mobile/15E148 Safari/604.1",
    ];
    let paths = [
        "/",
        "/pricing",
        "/products/wool-socks",
        "/blog/2026/11/how-we-ship",
    ];
    let names = [
        "Order Completed",
        "Product Viewed",
        "Cart Viewed",
        "Signed Up",
    ];
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
                r#"{{"anonymousId":"{:08x}-91a7-4f0e-b1c3-{:012x}","channel":"browser","context":{{"ip":"{}.{}.8.8","library":{{"name":"analytics.js","version":"2.11.1"}},"locale":"en-US","channel":"web","page":{{"path":"{path}","referrer":"","search":"","title":"Shop","url":"https://shop.example.com{path}"}},"screen":{{"width":1920,"height":1080,"density":2}},"userAgent":"{}"}},"integrations":{{"All":true,"Mixpanel":false}},"messageId":"ajs-{:032x}",{what},"originalTimestamp":"{time}","sentAt":"{time}","receivedAt":"{time}","timestamp":"{time}","userId":"u-{}","version":2}}"#,
                random.u32(..),
                random.u64(..1 << 48),
                random.u8(..),
                random.u8(..),
                agents[random.usize(..agents.len())],
                random.u128(..),
                random.u32(..2_000_000),
            )
            .into_bytes()
        })
        .collect()
}
