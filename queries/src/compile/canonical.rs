//! Canonical forms: what two conditions that mean the same have in common, as ranges and as text.
//!
//! Whatever changes a text here changes fingerprints, and with them the identity of state: raise the `v1` in it.

use crate::predicate::Predicate;
use usher_config::{Aggregate, ColumnType, Comparison, Decimal, Event, Path, Step};

/// The counts that compare so, as the least and the greatest; a comparison that no count fulfils is 1 to 0.
pub(super) fn count_range(comparison: &Comparison) -> (u64, Option<u64>) {
    const ONE: i128 = 1_000_000_000;
    /// No key has more rows or events than this: a greater threshold is no bound above and unreachable below.
    const GREATEST: i128 = i64::MAX as i128;
    let floor = |n: &Decimal| n.raw().div_euclid(ONE);
    let ceiling = |n: &Decimal| -((-n.raw()).div_euclid(ONE));
    let (least, most) = match comparison {
        Comparison::AtLeast(n) => (ceiling(n), None),
        Comparison::MoreThan(n) => (floor(n) + 1, None),
        Comparison::AtMost(n) => (0, Some(floor(n))),
        Comparison::LessThan(n) => (0, Some(ceiling(n) - 1)),
        Comparison::Exactly(n) => (ceiling(n), Some(floor(n))),
        Comparison::Between(a, b) => (ceiling(a), Some(floor(b))),
    };
    let (least, most) = (least.max(0), most.filter(|most| *most < GREATEST));
    if least > GREATEST || most.is_some_and(|most| most < least) {
        return (1, Some(0));
    }
    (least as u64, most.map(|most| most as u64))
}

/// [`count_range`] as a comparison.
pub(super) fn count_comparison(comparison: &Comparison) -> Comparison {
    let decimal = |n: u64| Decimal::from(n as i64);
    match count_range(comparison) {
        (least, None) => Comparison::AtLeast(decimal(least)),
        (least, Some(most)) => Comparison::Between(decimal(least), decimal(most)),
    }
}

/// The column that an aggregate takes.
pub(crate) fn column_of(aggregate: &Aggregate) -> Option<&str> {
    match aggregate {
        Aggregate::Count => None,
        Aggregate::Sum(column)
        | Aggregate::Avg(column)
        | Aggregate::Min(column)
        | Aggregate::Max(column)
        | Aggregate::Distinct(column) => Some(column),
    }
}

/// An aggregate's name in the job file.
pub(crate) fn aggregate_name(aggregate: &Aggregate) -> &'static str {
    match aggregate {
        Aggregate::Count => "count",
        Aggregate::Sum(_) => "sum",
        Aggregate::Avg(_) => "avg",
        Aggregate::Min(_) => "min",
        Aggregate::Max(_) => "max",
        Aggregate::Distinct(_) => "distinct",
    }
}

/// The canonical text of an aggregate with its column's type.
pub(super) fn aggregate_text(aggregate: &Aggregate, column_type: Option<ColumnType>) -> String {
    match column_of(aggregate).zip(column_type) {
        Some((column, column_type)) => {
            format!("{}({}:{})", aggregate_name(aggregate), quoted(column), column_type)
        }
        None => aggregate_name(aggregate).to_string(),
    }
}

/// The canonical text of a comparison: thresholds in units of 10^-9.
pub(super) fn comparison_text(comparison: &Comparison) -> String {
    match comparison {
        Comparison::AtLeast(n) => format!("at_least={}", n.raw()),
        Comparison::AtMost(n) => format!("at_most={}", n.raw()),
        Comparison::MoreThan(n) => format!("more_than={}", n.raw()),
        Comparison::LessThan(n) => format!("less_than={}", n.raw()),
        Comparison::Exactly(n) => format!("exactly={}", n.raw()),
        Comparison::Between(a, b) => format!("between={}..{}", a.raw(), b.raw()),
    }
}

/// The canonical text of what an event is, whatever its id.
pub(super) fn event_text(event: &Event) -> String {
    let text = |text: &Option<String>| text.as_deref().map_or("-".to_string(), quoted);
    let path = |path: &Option<Path>| path.as_ref().map_or("-".to_string(), path_text);
    format!(
        "source={} type={} name={} model={} key={} time={}",
        quoted(&event.source),
        text(&event.kind),
        text(&event.name),
        quoted(&event.model),
        path(&event.foreign_key),
        path(&event.timestamp),
    )
}

/// The canonical text of a path.
pub(super) fn path_text(path: &Path) -> String {
    let steps = path.0.iter().map(|step| match step {
        Step::Key(key) => format!(".{}", quoted(key)),
        Step::Index(index) => format!("[{index}]"),
        Step::All => "[*]".to_string(),
    });
    steps.collect()
}

/// The canonical text of a predicate with its columns' types.
pub(super) fn typed(predicate: &Predicate) -> String {
    let columns: Vec<String> =
        predicate.columns.iter().map(|(name, column_type)| format!("{}:{}", quoted(name), column_type)).collect();
    format!("columns=[{}] where={}", columns.join(","), quoted(&predicate.text))
}

/// A string in quotes, as JSON: unlike `Debug`'s, the same with every compiler.
pub(super) fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string is always JSON")
}

/// The first 16 bytes of the SHA-256 of a canonical text.
pub(super) fn fingerprint(text: &str) -> [u8; 16] {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(text.as_bytes());
    digest[..16].try_into().expect("a SHA-256 is longer than 16 bytes")
}

/// Bytes as lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
