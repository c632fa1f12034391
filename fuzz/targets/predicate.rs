//! Predicates: any text is one or has faults; the text of one is one, and has itself as its text; it holds or doesn't.
#![no_main]

use libfuzzer_sys::fuzz_target;
use usher_config::{ColumnType, Place, Text};
use usher_queries::Value;
use usher_queries::predicate::{Evaluator, NoParents, Now, Predicate};

const COLUMNS: [(&str, ColumnType); 7] = [
    ("s", ColumnType::String),
    ("i", ColumnType::Integer),
    ("n", ColumnType::Number),
    ("b", ColumnType::Boolean),
    ("t", ColumnType::Timestamp),
    ("d", ColumnType::Date),
    ("l", ColumnType::ListString),
];

fn parse(value: &str) -> Option<Predicate> {
    let text = Text { value: value.to_owned(), place: Place::default() };
    let column = |name: &str| COLUMNS.iter().find(|(known, _)| *known == name).map(|(_, column_type)| *column_type);
    let known: Vec<_> = COLUMNS.iter().map(|(name, _)| (*name).to_owned()).collect();
    Predicate::parse(&text, &column, &known, &NoParents, Now::Allowed).ok()
}

fuzz_target!(|text: &str| {
    let Some(predicate) = parse(text) else { return };
    let again = parse(&predicate.text).unwrap_or_else(|| panic!("`{}` is no predicate", predicate.text));
    assert_eq!(again.text, predicate.text);
    let evaluator = Evaluator::new(&predicate);
    let value = |column_type: ColumnType, odd: bool| match column_type {
        ColumnType::String => Value::String(if odd { "a%_é" } else { "" }.into()),
        ColumnType::Integer => Value::Integer(if odd { i64::MIN } else { 3 }),
        ColumnType::Number => Value::Number(if odd { -0.0 } else { 1e300 }),
        ColumnType::Boolean => Value::Boolean(odd),
        ColumnType::Timestamp => Value::Timestamp(if odd { i64::MAX } else { 0 }),
        ColumnType::Date => Value::Date(0),
        _ => Value::List(vec![Value::String("a".into()), Value::Null]),
    };
    for odd in [Some(false), Some(true), None] {
        let of = |(_, column_type): &(String, ColumnType)| odd.map_or(Value::Null, |odd| value(*column_type, odd));
        let row: Vec<_> = predicate.columns.iter().map(of).collect();
        for now in [0, i64::MAX] {
            evaluator.holds(&row, now);
        }
        evaluator.moments(&row);
    }
});
