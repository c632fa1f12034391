//! The demo's shop: its warehouse, its job, and the events of its visitors.

use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use fastrand::Rng;
use parquet::arrow::ArrowWriter;
use serde_json::json;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The shop's job: seven audiences with windows short enough to see people leave.
pub const JOB: &str = include_str!("job.yaml");

/// Users in the warehouse.
const USERS: usize = 200;
/// From one event to the next.
const PACE: Duration = Duration::from_millis(10);

/// Writes the warehouse, the job file and an empty file of events.
pub fn write(folder: &Path) -> io::Result<()> {
    std::fs::write(folder.join("job.yaml"), JOB)?;
    File::create(folder.join("events.jsonl"))?;
    write_tables(folder)
}

/// Writes a file of so many events, the last of now.
pub fn write_events(path: &Path, count: u64) -> io::Result<()> {
    let mut rng = Rng::with_seed(2);
    let mut file = io::BufWriter::new(File::create_new(path)?);
    for number in 1..=count {
        let ago = PACE * u32::try_from(count - number).unwrap_or(u32::MAX);
        writeln!(file, "{}", message(&mut rng, number, jiff::Timestamp::now() - ago))?;
    }
    file.flush()
}

/// Writes the warehouse.
pub fn write_tables(folder: &Path) -> io::Result<()> {
    let mut rng = Rng::with_seed(1);
    std::fs::create_dir(folder.join("warehouse"))?;
    let ids: Vec<String> = (0..USERS).map(user).collect();
    let plans: Vec<&str> =
        (0..USERS).map(|_| rng.choice(["free", "pro", "enterprise"]).expect("there are plans")).collect();
    let spent: Vec<f64> = (0..USERS).map(|_| f64::from(rng.u32(0..100_000)) / 100.0).collect();
    let users = RecordBatch::try_from_iter([
        ("user_id", Arc::new(StringArray::from(ids.clone())) as ArrayRef),
        ("plan", Arc::new(StringArray::from(plans)) as ArrayRef),
        ("ltv", Arc::new(Float64Array::from(spent)) as ArrayRef),
    ]);
    write_parquet(&folder.join("warehouse/users.parquet"), users.expect("the columns are of one length"))?;
    let orders: Vec<String> = (0..USERS * 2).map(|order| format!("o-{order}")).collect();
    let customers: Vec<&str> = orders.iter().map(|_| ids[rng.usize(0..USERS)].as_str()).collect();
    let amounts: Vec<f64> = orders.iter().map(|_| f64::from(rng.u32(500..60_000)) / 100.0).collect();
    let orders = RecordBatch::try_from_iter([
        ("order_id", Arc::new(StringArray::from(orders.clone())) as ArrayRef),
        ("customer_id", Arc::new(StringArray::from(customers)) as ArrayRef),
        ("amount", Arc::new(Float64Array::from(amounts)) as ArrayRef),
    ]);
    write_parquet(&folder.join("warehouse/orders.parquet"), orders.expect("the columns are of one length"))
}

fn write_parquet(path: &Path, batch: RecordBatch) -> io::Result<()> {
    let mut writer = ArrowWriter::try_new(File::create(path)?, batch.schema(), None)?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(())
}

fn user(number: usize) -> String {
    format!("u-{number}")
}

/// Appends events until `closing`: mostly good messages, some broken, some late, some twice.
pub fn visit(events: &Path, closing: &AtomicBool) -> io::Result<()> {
    let mut rng = Rng::with_seed(2);
    let mut file = OpenOptions::new().append(true).open(events)?;
    let mut number = 0u64;
    while !closing.load(Ordering::Relaxed) {
        number += 1;
        let line = message(&mut rng, number, jiff::Timestamp::now());
        let line = match rng.u32(0..100) {
            // A proxy cut it off.
            0 => line[..line.len() / 2].to_owned(),
            // A client that got no answer, and sent it again.
            1..=4 => format!("{line}\n{line}"),
            _ => line,
        };
        writeln!(file, "{line}")?;
        std::thread::sleep(PACE);
    }
    Ok(())
}

/// Returns a Segment message. Few visitors send most of them.
fn message(rng: &mut Rng, number: u64, now: jiff::Timestamp) -> String {
    let visitor = (rng.f64().powi(2) * USERS as f64) as usize;
    let late = match rng.u32(0..20) {
        // A phone that was in a tunnel.
        0 => Duration::from_millis(rng.u64(500..4_000)),
        _ => Duration::ZERO,
    };
    let time = now - late;
    let mut message = json!({
        "messageId": format!("m-{number}"),
        "timestamp": format!("{time:.3}"),
        "userId": user(visitor),
        "context": {"library": {"name": "usher-demo"}},
    });
    let more = match rng.u32(0..100) {
        0..40 => json!({"type": "page", "name": "Pricing", "properties": {"path": "/pricing"}}),
        40..75 => json!({"type": "page", "name": "Home", "properties": {"path": "/"}}),
        75..90 => json!({"type": "track", "event": "Product Added", "properties": {"price": rng.u32(5..200)}}),
        90..97 => json!({"type": "track", "event": "Order Completed", "properties": {"revenue": rng.u32(5..500)}}),
        // A visitor who has not logged in, and a time that is none.
        97..99 => json!({"type": "page", "name": "Home", "userId": null}),
        _ => json!({"type": "page", "name": "Home", "timestamp": "yesterday"}),
    };
    if let (Some(message), serde_json::Value::Object(more)) = (message.as_object_mut(), more) {
        message.extend(more);
    }
    message.to_string()
}
