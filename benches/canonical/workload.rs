//! The canonical workload's data and jobs, the same for the same numbers.

use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use fastrand::Rng;
use parquet::arrow::ArrowWriter;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

/// When the first event happens: 2026-11-01T00:00:00Z.
const START: u64 = 1_793_491_200_000;
/// How long the events take in all.
const SPAN: u64 = 2 * 3_600_000;

pub struct Workload {
    pub events: usize,
    pub users: usize,
}

pub struct Job {
    pub name: String,
    pub text: String,
    pub workers: usize,
}

const COUNTRIES: [&str; 8] = ["de", "fr", "us", "gb", "es", "it", "nl", "pl"];
const CATEGORIES: [&str; 5] = ["shoes", "coats", "hats", "bags", "socks"];
const TRACKS: [&str; 4] = ["Product Added", "Product Viewed", "Checkout Started", "Order Completed"];

impl Workload {
    pub fn write(&self, folder: &Path) {
        self.write_users(folder, 0);
        self.write_events(folder);
    }

    /// Writes the users whole, then moves them into place. In each version 1 % of them have another lifetime value.
    pub fn write_users(&self, folder: &Path, version: u32) {
        let mut rng = Rng::with_seed(1);
        let mut changed = Rng::with_seed(u64::from(version));
        let ids: StringArray = (0..self.users).map(|user| Some(format!("user-{user:07}"))).collect();
        let mut value = || {
            let value = f64::from(rng.u32(0..100_000)) / 100.0;
            let other = version > 0 && changed.u32(0..100) == 0;
            Some(if other { 1_000.0 - value } else { value })
        };
        let ltv: Float64Array = (0..self.users).map(|_| value()).collect();
        let countries: StringArray = (0..self.users).map(|user| Some(COUNTRIES[user % COUNTRIES.len()])).collect();
        let columns = [
            ("user_id", Arc::new(ids) as ArrayRef),
            ("ltv", Arc::new(ltv) as ArrayRef),
            ("country", Arc::new(countries) as ArrayRef),
        ];
        let batch = RecordBatch::try_from_iter(columns).expect("the columns are of one length");
        let file = File::create(folder.join("_users.parquet")).expect("the folder can be written");
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("the schema can be written");
        writer.write(&batch).expect("the file can be written");
        writer.close().expect("the file can be written");
        std::fs::rename(folder.join("_users.parquet"), folder.join("users.parquet"))
            .expect("the folder can be written");
    }

    fn write_events(&self, folder: &Path) {
        let mut rng = Rng::with_seed(2);
        let file = File::create(folder.join("events.jsonl")).expect("the folder can be written");
        let mut out = BufWriter::with_capacity(1 << 20, file);
        let mut previous = String::new();
        let mut line = String::new();
        for number in 0..self.events {
            let now = START + number as u64 * SPAN / self.events as u64;
            // 10 % come late, by up to ten minutes.
            let late = if rng.u32(0..10) == 0 { rng.u64(0..600_000) } else { 0 };
            line.clear();
            self.message(&mut rng, number, now.saturating_sub(late).max(START), &mut line);
            out.write_all(line.as_bytes()).expect("the file can be written");
            // 5 % come twice.
            if rng.u32(0..20) == 0 && !previous.is_empty() {
                out.write_all(previous.as_bytes()).expect("the file can be written");
            }
            std::mem::swap(&mut previous, &mut line);
        }
        out.flush().expect("the file can be written");
    }

    /// A user by Zipf's law with exponent 1, names scattered.
    fn user(&self, rng: &mut Rng) -> usize {
        const EULER: f64 = 0.577_215_664_9;
        let ln = (self.users as f64).ln() + EULER;
        let rank = ((rng.f64() * ln - EULER).exp() as usize).min(self.users - 1);
        rank.wrapping_mul(7_368_787) % self.users
    }

    /// Appends a message.
    pub fn message(&self, rng: &mut Rng, number: usize, timestamp: u64, line: &mut String) {
        let user = self.user(rng);
        let time = jiff::Timestamp::from_millisecond(timestamp as i64).expect("the time is of this century");
        let category = rng.choice(CATEGORIES).expect("there are some");
        let id = rng.u64(..);
        write!(
            line,
            r#"{{"anonymousId":"{id:016x}-a2b1","context":{{"active":true,"app":{{"name":"Shop","version":"5.4.{}","build":"3.0.1.545"}},"campaign":{{"name":"Autumn Sale","source":"Newsletter","medium":"email","term":"warm coats","content":"image link"}},"device":{{"id":"B5372DB0-C21E-11E4-8DFC-AA07A5B093DB","manufacturer":"Apple","model":"iPhone15,2","type":"ios"}},"ip":"10.8.{}.{}","library":{{"name":"analytics.js","version":"2.11.1"}},"locale":"en-US","timezone":"Europe/Amsterdam","userAgent":"Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X)"}},"messageId":"m-{number:010}-{id:08x}","#,
            rng.u32(0..50), rng.u32(0..256), rng.u32(0..256)
        )
        .expect("a string can be written");
        let price = rng.u32(100..30_000);
        let (cents, euros) = (price % 100, price / 100);
        let what = rng.u32(0..100);
        match what {
            0..50 => {
                let path = ["/pricing", "/", "/sale", "/help"][rng.usize(0..4)];
                write!(line, r#""type":"page","name":"Page","properties":{{"path":"{path}","title":"Our shop","category":"{category}","referrer":"https://search.example/?q=coats"}},"#)
            }
            _ => {
                let event = TRACKS[match what { 50..70 => 0, 70..90 => 1, 90..96 => 2, _ => 3 }];
                write!(line, r#""type":"track","event":"{event}","properties":{{"category":"{category}","sku":"S-{price}","revenue":{euros}.{cents:02},"currency":"EUR"}},"#)
            }
        }
        .expect("a string can be written");
        writeln!(
            line,
            r#""integrations":{{"All":true,"Mixpanel":false}},"receivedAt":"{time:.3}","sentAt":"{time:.3}","originalTimestamp":"{time:.3}","timestamp":"{time:.3}","userId":"user-{user:07}","version":2}}"#
        )
        .expect("a string can be written");
    }

    pub fn jobs(&self) -> Vec<Job> {
        let windows = ["5m", "30m", "1h", "6h", "24h"];
        let job = |name: &str, audiences: usize, windows: &[&str], workers: usize| Job {
            name: name.to_owned(),
            text: job_file(audiences, windows),
            workers,
        };
        vec![
            job("100-audiences", 100, &windows, 1),
            job("100-audiences-w2", 100, &windows, 2),
            job("10-audiences", 10, &windows, 1),
            job("1000-audiences", 1000, &windows, 1),
            job("5-minutes", 100, &["5m"], 1),
            job("30-days", 100, &["30d"], 1),
            Job { name: "20-counts".to_owned(), text: facts_file(&COUNTS, &windows), workers: 1 },
            Job { name: "20-aggregates".to_owned(), text: facts_file(&AGGREGATES, &windows), workers: 1 },
        ]
    }
}

/// Counts of the events that [`AGGREGATES`] aggregate, with the same predicates.
const COUNTS: [&str; 4] = [
    "{performed: product_added, at_least: 2, within: WINDOW}",
    "{performed: order_completed, where: \"category = 'shoes'\", at_least: 2, within: WINDOW}",
    "{performed: page_viewed, at_least: 3, within: WINDOW}",
    "{performed: product_added, where: \"revenue > 100\", at_least: 2, within: WINDOW}",
];

/// A sum, an average, a distinct count and a sequence.
const AGGREGATES: [&str; 4] = [
    "{performed: product_added, where: \"revenue >= 0\", sum: revenue, at_least: 300, within: WINDOW}",
    "{performed: order_completed, where: \"category = 'shoes'\", avg: revenue, between: [100, 200], within: WINDOW}",
    "{performed: page_viewed, distinct: category, at_least: 3, within: WINDOW}",
    "{sequence: [{performed: product_added, where: \"revenue > 100\"}, {performed: page_viewed, where: \"path = '/pricing'\"}], without: [{performed: order_completed}], within: WINDOW}",
];

/// The head of a job up to its events.
const HEAD: &str = "job: canonical
sources: {web: {file: {path: events.jsonl}, format: segment}}
models: {users: {parquet: users.parquet, key: user_id, columns: {ltv: number, country: string}}}
events:
  page_viewed: {source: web, type: page, model: users, properties: {path: string, category: string}}
";

/// An audience for each of some conditions in each of the windows.
fn facts_file(conditions: &[&str], windows: &[&str]) -> String {
    let mut text = format!(
        "{HEAD}  product_added: {{source: web, type: track, name: Product Added, model: users, properties: {{revenue: number}}}}
  order_completed: {{source: web, type: track, name: Order Completed, model: users, properties: {{revenue: number, category: string}}}}
audiences:
"
    );
    for (index, condition) in conditions.iter().enumerate() {
        for window in windows {
            let condition = condition.replace("WINDOW", window);
            writeln!(text, "  a{index}_{window}: {{model: users, where: {condition}}}")
                .expect("a string can be written");
        }
    }
    text
}

/// `audiences` audiences over 20 windowed conditions: each of three, one of them on the snapshot.
fn job_file(audiences: usize, windows: &[&str]) -> String {
    let mut conditions = Vec::new();
    let filters = [
        ("page_viewed", "where: \"path = '/pricing'\", at_least: 3"),
        ("page_viewed", "where: \"category = 'shoes' or category = 'hats'\", at_least: 2"),
        ("product_added", "at_least: 2"),
        ("order_completed", "where: \"revenue > 100\", at_least: 1"),
    ];
    for i in 0..20 {
        let (event, rest) = filters[i % 4];
        // One more each time where there are fewer windows than conditions to tell apart.
        let within = windows[i / 4 % windows.len()];
        let filter = if windows.len() == 1 {
            rest.replace("at_least: ", &format!("at_least: {}", i / 4 + 1))
        } else {
            rest.to_owned()
        };
        conditions.push(format!("{{performed: {event}, {filter}, within: {within}}}"));
    }
    let mut text = format!(
        "{HEAD}  product_added: {{source: web, type: track, name: Product Added, model: users}}
  order_completed: {{source: web, type: track, name: Order Completed, model: users, properties: {{revenue: number}}}}
audiences:
"
    );
    for a in 0..audiences {
        let (first, second) = (&conditions[a % 20], &conditions[(a * 7 + a / 20 + 3) % 20]);
        // Each audience is of a segment, as a marketer's are: one country, one of eight bands of lifetime value.
        let (country, band) = (COUNTRIES[a % 8], a / 8 % 8 * 125);
        writeln!(
            text,
            "  a{a:04}: {{model: users, where: {{all: [{first}, {{not: {second}}}, {{property: \"country = '{country}'\"}}, {{property: \"ltv >= {band} and ltv < {}\"}}]}}}}",
            band + 125
        )
        .expect("a string can be written");
    }
    text
}
