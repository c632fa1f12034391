//! Canonical forms: what two conditions that mean the same have in common, as ranges and as text.
//!
//! A change of a text here changes fingerprints, and with them the identity of state: raise the `v1` in it.

use crate::plan::{AudienceIx, Expr, Fact};
use crate::predicate::Predicate;
use std::collections::BTreeSet;
use usher_config::{Aggregate, ColumnType, Comparison, Decimal, Event, Members, Model, Path, Property, Step};

/// Returns the counts for which a comparison holds, as the least and the greatest; one that no count fulfils is 1 to 0.
/// The greatest is `None` if there is no bound.
pub fn count_range(comparison: &Comparison) -> (u64, Option<u64>) {
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

/// Returns [`count_range`] as a comparison.
pub(super) fn count_comparison(comparison: &Comparison) -> Comparison {
    let decimal = |n: u64| Decimal::from(n as i64);
    match count_range(comparison) {
        (least, None) => Comparison::AtLeast(decimal(least)),
        (least, Some(most)) => Comparison::Between(decimal(least), decimal(most)),
    }
}

/// Returns an aggregate's name in the job file.
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

/// Returns the canonical text of a model's fact that a key is in the snapshot.
pub(super) fn known_text(model: &str) -> String {
    format!("known v1 model={}", quoted(model))
}

/// Returns the canonical text of a `property` condition.
///
/// `live` is what it has of live columns.
pub(super) fn property_text(model: &str, predicate: &Predicate, live: &str) -> String {
    format!("property v1 model={} {}{live}", quoted(model), typed(predicate))
}

/// Returns the canonical text of a `performed` condition; the counts are those of [`count_range`].
pub(super) fn performed_text(
    event: &Event,
    filter: Option<&Predicate>,
    (least, most): (u64, Option<u64>),
    within: u64,
) -> String {
    let most = most.map_or(String::new(), |most| most.to_string());
    let filter = filter_text(event, filter);
    format!("performed v1 {} count={least}..{most} within={within}{filter}", event_text(event))
}

/// Returns the canonical text of where a property is, with the unit that its numbers are in.
pub(super) fn place_text(property: &Property) -> String {
    let unit = property.unit.map_or(String::new(), |unit| format!(" in {}", unit.name()));
    format!("{}{unit}", path_text(&property.path))
}

/// Returns the canonical text of a filter on an event, with a space before it; empty if there is none.
pub(super) fn filter_text(event: &Event, filter: Option<&Predicate>) -> String {
    filter.map_or(String::new(), |filter| {
        let paths = filter.columns.iter().map(|(name, _)| place_text(&event.properties[name]) + ",");
        format!(" paths=[{}] {}", paths.collect::<String>(), typed(filter))
    })
}

/// Returns the canonical text of a `performed` condition on an aggregate of a column.
pub(super) fn aggregated_text(
    event: &Event,
    filter: Option<&Predicate>,
    aggregate: &Aggregate,
    comparison: &Comparison,
    within: u64,
) -> String {
    let column = aggregate.column().expect("the count is no aggregate of a column");
    let property = &event.properties[column];
    format!(
        "performed v1 {} {} of={} {} within={within}{}",
        event_text(event),
        aggregate_text(aggregate, Some(property.column_type)),
        place_text(property),
        comparison_text(comparison),
        filter_text(event, filter),
    )
}

/// Returns the canonical text of events that pass a filter.
pub(super) fn filtered_text(event: &Event, filter: Option<&Predicate>) -> String {
    format!("{}{}", event_text(event), filter_text(event, filter))
}

/// Returns the canonical text of a `sequence` condition: steps as [`filtered_text`], with the number of their event where there
/// are several that differ only in what their conditions share, and with their `after`, and exclusions, sorted.
pub(super) fn sequence_text(steps: &[(String, Option<u64>)], without: &BTreeSet<String>, within: u64) -> String {
    let step = |(of, after): &(String, Option<u64>)| match after {
        Some(after) => format!("({of} after={after})"),
        None => format!("({of})"),
    };
    let steps: String = steps.iter().map(step).collect();
    let without: String = without.iter().map(|of| format!("({of})")).collect();
    format!("sequence v1 within={within} steps=[{steps}] without=[{without}]")
}

/// Returns whether another event has the messages of an event and reads the columns of a filter alike: with that filter both have one
/// [`filtered_text`].
pub(super) fn is_alike(event: &Event, other: &Event, filter: Option<&Predicate>) -> bool {
    let mut columns = filter.iter().flat_map(|filter| &filter.columns);
    event_text(other) == event_text(event)
        && columns.all(|(name, _)| other.properties.get(name) == event.properties.get(name))
}

/// Returns the canonical text of a `related` condition on the rows of `model`, which belongs to another one.
pub(super) fn related_text(
    id: &str,
    model: &Model,
    (aggregate, column_type): (&Aggregate, Option<ColumnType>),
    comparison: &Comparison,
    filter: Option<&Predicate>,
) -> String {
    let belongs_to = model.belongs_to.as_ref().expect("a related model belongs to another");
    format!(
        "related v1 model={} of={} by={} key={} {} {}{}",
        quoted(id),
        quoted(&belongs_to.model),
        quoted(&belongs_to.foreign_key),
        quoted(&model.key),
        aggregate_text(aggregate, column_type),
        comparison_text(comparison),
        filter.map_or(String::new(), |filter| format!(" {}", typed(filter))),
    )
}

/// Returns the canonical text of an audience; `audience` has the fingerprints of those that it mentions.
pub(super) fn audience_text(
    model: &str,
    members: Members,
    expr: &Expr,
    facts: &[Fact],
    audience: &dyn Fn(AudienceIx) -> [u8; 16],
) -> String {
    let members = match members {
        Members::Known => "known",
        Members::Any => "any",
    };
    format!("audience v1 model={} members={members} {}", quoted(model), expr_text(expr, facts, audience))
}

/// Returns the canonical text of an expression over fingerprints: sorted by those, so that no index or id shows.
fn expr_text(expr: &Expr, facts: &[Fact], audience: &dyn Fn(AudienceIx) -> [u8; 16]) -> String {
    let list = |children: &[Expr]| {
        let mut texts: Vec<String> = children.iter().map(|child| expr_text(child, facts, audience)).collect();
        texts.sort();
        texts.join(" ")
    };
    match expr {
        Expr::All(children) => format!("all({})", list(children)),
        Expr::Any(children) => format!("any({})", list(children)),
        Expr::Not(child) => format!("not({})", expr_text(child, facts, audience)),
        Expr::Fact(ix) => format!("fact:{}", hex(&facts[*ix as usize].fingerprint)),
        Expr::Audience(ix) => format!("audience:{}", hex(&audience(*ix))),
    }
}

/// Returns the canonical text of an aggregate with its column's type.
fn aggregate_text(aggregate: &Aggregate, column_type: Option<ColumnType>) -> String {
    match aggregate.column().zip(column_type) {
        Some((column, column_type)) => {
            format!("{}({}:{})", aggregate_name(aggregate), quoted(column), column_type)
        }
        None => aggregate_name(aggregate).to_string(),
    }
}

/// Returns the canonical text of a comparison: thresholds in units of 10^-9.
fn comparison_text(comparison: &Comparison) -> String {
    match comparison {
        Comparison::AtLeast(n) => format!("at_least={}", n.raw()),
        Comparison::AtMost(n) => format!("at_most={}", n.raw()),
        Comparison::MoreThan(n) => format!("more_than={}", n.raw()),
        Comparison::LessThan(n) => format!("less_than={}", n.raw()),
        Comparison::Exactly(n) => format!("exactly={}", n.raw()),
        Comparison::Between(a, b) => format!("between={}..{}", a.raw(), b.raw()),
    }
}

/// Returns the canonical text of an event's definition, without its id and without its `where`, which is part of its
/// conditions.
pub(super) fn event_text(event: &Event) -> String {
    let text = |text: &Option<String>| text.as_deref().map_or("-".to_string(), quoted);
    // A list of one is as before there were lists.
    let list = |texts: &[String]| match texts {
        [] => "-".to_string(),
        [one] => quoted(one),
        many => format!("[{}]", many.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(",")),
    };
    let path = |path: &Option<Path>| path.as_ref().map_or("-".to_string(), path_text);
    format!(
        "source={} type={} name={} model={} key={} time={}",
        list(&event.sources),
        text(&event.kind),
        list(&event.names),
        quoted(&event.model),
        path(&event.foreign_key),
        path(&event.timestamp),
    )
}

/// Returns the canonical text of a path.
fn path_text(path: &Path) -> String {
    let steps = path.0.iter().map(|step| match step {
        Step::Key(key) => format!(".{}", quoted(key)),
        Step::Index(index) => format!("[{index}]"),
        Step::All => "[*]".to_string(),
    });
    steps.collect()
}

/// Returns the canonical text of a predicate with its columns' types.
fn typed(predicate: &Predicate) -> String {
    let columns: Vec<String> =
        predicate.columns.iter().map(|(name, column_type)| format!("{}:{}", quoted(name), column_type)).collect();
    format!("columns=[{}] where={}", columns.join(","), quoted(&predicate.text))
}

/// Returns a string in quotes, as JSON: unlike `Debug`'s, the same with every compiler.
pub(super) fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string is always JSON")
}

/// Returns the first 16 bytes of the SHA-256 of a canonical text.
pub(super) fn fingerprint(text: &str) -> [u8; 16] {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(text.as_bytes());
    digest[..16].try_into().expect("a SHA-256 is longer than 16 bytes")
}

/// Returns bytes as lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
