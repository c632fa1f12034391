//! What predicates mean: tables of every operator and function, the canonical text, and the problems.
//!
//! Every truth is checked with both evaluations, of the predicate as it was parsed and as it was read back from bytes.

use arrow_array::ArrayRef;
use std::collections::BTreeMap;
use usher_config::{ColumnType, Place, Problem, Text};
use usher_queries::Value;
use usher_queries::predicate::{Evaluator, NoParents, Now, Predicate};

#[path = "predicate/batch.rs"]
mod batch;
#[path = "predicate/oracle.rs"]
mod oracle;

const COLUMNS: [(&str, ColumnType); 16] = [
    ("b", ColumnType::Boolean),
    ("c", ColumnType::Boolean),
    ("d", ColumnType::Date),
    ("i", ColumnType::Integer),
    ("j", ColumnType::Integer),
    ("li", ColumnType::ListInteger),
    ("ln", ColumnType::ListNumber),
    ("ls", ColumnType::ListString),
    ("ltv", ColumnType::Number),
    ("n", ColumnType::Number),
    ("path", ColumnType::String),
    ("s", ColumnType::String),
    ("t", ColumnType::Timestamp),
    ("u", ColumnType::Timestamp),
    ("total billed", ColumnType::Number),
    ("x.y", ColumnType::String),
];

fn parse(text: &str, now: Now) -> Result<Predicate, Vec<Problem>> {
    let place = Place { path: "audiences.a.where.property".into(), line: 3, column: 5, ..Place::default() };
    let column = |name: &str| COLUMNS.iter().find(|(known, _)| *known == name).map(|(_, column_type)| *column_type);
    let known = COLUMNS.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>();
    let parsed =
        Predicate::parse(&Text { value: text.to_owned(), place: place.clone() }, &column, &known, &NoParents, now);
    for problem in parsed.as_ref().err().into_iter().flatten() {
        assert_eq!(problem.place, place);
    }
    parsed
}

#[track_caller]
fn predicate(text: &str) -> Predicate {
    match parse(text, Now::Allowed) {
        Ok(predicate) => predicate,
        Err(problems) => panic!("{text}: {problems:?}"),
    }
}

/// A row by name; a column that is missing is null.
type Row = BTreeMap<&'static str, Value<'static>>;

fn row<const N: usize>(values: [(&'static str, Value<'static>); N]) -> Row {
    BTreeMap::from(values)
}

fn string(text: &str) -> Value<'static> {
    Value::String(text.to_owned().into())
}

fn values(predicate: &Predicate, row: &Row) -> Vec<Value<'static>> {
    predicate.columns.iter().map(|(name, _)| row.get(name.as_str()).cloned().unwrap_or(Value::Null)).collect()
}

/// Returns the truth, which all evaluations agree on.
#[track_caller]
fn holds(predicate: &Predicate, row: &Row, now: i64) -> bool {
    let values = values(predicate, row);
    let evaluator = Evaluator::new(predicate);
    let one = evaluator.holds(&values, now);
    let arrays: Vec<ArrayRef> = batch::columns(&predicate.columns, &[values.clone(), values.clone()]);
    let both = evaluator.holds_batch(&arrays, 2, now);
    assert_eq!(both.iter().collect::<Vec<_>>(), [Some(one), Some(one)], "{}: a batch differs", predicate.text);
    let bytes = bincode::serialize(predicate).unwrap();
    let back: Predicate = bincode::deserialize(&bytes).unwrap();
    assert_eq!(&back, predicate);
    assert_eq!(Evaluator::new(&back).holds(&values, now), one, "{}: read back, it differs", predicate.text);
    one
}

/// Asserts truth in three values: true, false (its `not` is true), or null (neither is).
#[track_caller]
fn truth(text: &str, row: &Row, expected: Option<bool>) {
    let positive = holds(&predicate(text), row, 0);
    let negative = holds(&predicate(&format!("not ({text})")), row, 0);
    let found = match (positive, negative) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        (false, false) => None,
        (true, true) => panic!("{text} and its opposite both hold"),
    };
    assert_eq!(found, expected, "{text} for {row:?}");
}

/// Asserts the truth of texts without columns.
#[track_caller]
fn truths(table: &[(&str, Option<bool>)]) {
    for (text, expected) in table {
        truth(text, &Row::new(), *expected);
    }
}

const TRUE: Option<bool> = Some(true);
const FALSE: Option<bool> = Some(false);
const NULL: Option<bool> = None;

#[test]
fn comparisons_are_of_one_type_and_null_if_a_side_is() {
    truths(&[
        ("1 = 1", TRUE),
        ("1 <> 1", FALSE),
        ("1 != 2", TRUE),
        ("1 < 2", TRUE),
        ("2 <= 1", FALSE),
        ("1.5 > 1", TRUE),
        ("1 >= 1.0", TRUE),
        ("'a' < 'b'", TRUE),
        ("'B' < 'a'", TRUE),
        ("'é' > 'z'", TRUE),
        ("'' < 'a'", TRUE),
        ("'it''s' = 'it''s'", TRUE),
        ("true > false", TRUE),
        ("null = null", NULL),
        ("1 = null", NULL),
        ("null < 'a'", NULL),
        ("9007199254740993 = 9007199254740992", FALSE),
        ("9007199254740993 = 9007199254740992.0", TRUE),
        ("-0.0 = 0.0", TRUE),
        ("1e3 = 1000", TRUE),
        ("1e999 = 1e999", NULL),
        ("1 is distinct from 1", FALSE),
        ("1 is distinct from 1.5", TRUE),
        ("null is distinct from null", FALSE),
        ("'a' is distinct from null", TRUE),
        ("null is not distinct from null", TRUE),
        ("null is null", TRUE),
        ("1 is not null", TRUE),
        ("(null = 1) is null", TRUE),
    ]);
}

#[test]
fn and_or_not_are_sqls_of_three_values() {
    truths(&[
        ("true and null", NULL),
        ("null and false", FALSE),
        ("null and true", NULL),
        ("null or true", TRUE),
        ("false or null", NULL),
        ("null or null", NULL),
        ("not null", NULL),
        ("not true or true", TRUE),
        ("not (true or true)", FALSE),
        ("false and false or true", TRUE),
        ("false and (false or true)", FALSE),
        ("not 1 = 2", TRUE),
    ]);
    truth("b", &row([("b", Value::Boolean(true))]), TRUE);
    truth("b", &row([("b", Value::Boolean(false))]), FALSE);
    truth("b", &Row::new(), NULL);
    truth("b and c", &row([("b", Value::Boolean(false))]), FALSE);
}

#[test]
fn integers_are_of_64_bits_and_overflow_is_null() {
    truths(&[
        ("7 / 2 = 3.5", TRUE),
        ("7 / 0 is null", TRUE),
        ("0.0 / 0 is null", TRUE),
        ("7 % 3 = 1", TRUE),
        ("-7 % 3 = -1", TRUE),
        ("7 % -3 = 1", TRUE),
        ("-7.5 % 2 = -1.5", TRUE),
        ("7 % 0 is null", TRUE),
        ("7.0 % 0 is null", TRUE),
        ("9223372036854775807 + 1 is null", TRUE),
        ("9223372036854775807 + 1.0 = 9223372036854775808.0", TRUE),
        ("-9223372036854775808 - 1 is null", TRUE),
        ("-9223372036854775808 * -1 is null", TRUE),
        ("- -9223372036854775808 is null", TRUE),
        ("-9223372036854775808 % -1 = 0", TRUE),
        ("abs(-9223372036854775808) is null", TRUE),
        ("1e308 * 10 is null", TRUE),
        ("1 + 2 * 3 = 7", TRUE),
        ("(1 + 2) * 3 = 9", TRUE),
        ("10 - 3 - 2 = 5", TRUE),
        ("8 / 4 / 2 = 1", TRUE),
        ("1 + null is null", TRUE),
        ("+1 = 1", TRUE),
        ("abs(-2) = 2", TRUE),
        ("abs(-2.5) = 2.5", TRUE),
        ("abs(null) is null", TRUE),
    ]);
    let integers = row([("i", Value::Integer(i64::MIN)), ("j", Value::Integer(7))]);
    truth("-i is null", &integers, TRUE);
    truth("i - j is null", &integers, TRUE);
    truth("-j = -7", &integers, TRUE);
    truth("j / 2 = 3.5", &integers, TRUE);
    truth("- -j = 7", &integers, TRUE);
    truth("i + n is null", &integers, TRUE);
    // A number that is NaN or infinite is null.
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        truth("n is null", &row([("n", Value::Number(number))]), TRUE);
    }
    truth("n = 0", &row([("n", Value::Number(-0.0))]), TRUE);
    truth("n in (0, 1)", &row([("n", Value::Number(-0.0))]), TRUE);
}

#[test]
fn in_and_between_are_the_comparisons_they_stand_for() {
    truths(&[
        ("1 in (1, 2)", TRUE),
        ("3 in (1, 2)", FALSE),
        ("3 in (1, null)", NULL),
        ("1 in (1, null)", TRUE),
        ("null in (1)", NULL),
        ("null in (null)", NULL),
        ("3 not in (1, 2)", TRUE),
        ("3 not in (1, null)", NULL),
        ("1 not in (1, null)", FALSE),
        ("1 in (1.0, 2.5)", TRUE),
        ("-1 in (-1, 2)", TRUE),
        ("'b' in ('c', 'a', 'b', 'a')", TRUE),
        ("true in (false)", FALSE),
        ("date '2026-11-23' in ('2026-11-23', '2026-11-24 10:00:00Z')", TRUE),
        ("2 between 1 and 3", TRUE),
        ("1 between 1 and 1", TRUE),
        ("0 between 1 and 3", FALSE),
        ("2 between 3 and 1", FALSE),
        ("2 between 1 and 2.5", TRUE),
        ("0 between 1 and null", FALSE),
        ("2 between 1 and null", NULL),
        ("4 not between 1 and 3", TRUE),
        ("4 between null and 3", FALSE),
        ("null between 1 and 3", NULL),
        ("'b' between 'a' and 'c'", TRUE),
    ]);
}

#[test]
fn a_literal_with_a_point_takes_no_digits_from_the_integers_beside_it() {
    let large = row([("i", Value::Integer(9_007_199_254_740_992)), ("j", Value::Integer(9_007_199_254_740_993))]);
    truth("i in (1, 2.5, 9007199254740993)", &large, FALSE);
    truth("j in (1, 2.5, 9007199254740993)", &large, TRUE);
    truth("j in (1, 2.5, 9007199254740992)", &large, FALSE);
    truth("j in (1, 9007199254740992.0)", &large, TRUE);
    truth("i in (2.5, 9007199254740993, null)", &large, NULL);
    truth("j not in (2.5, 9007199254740993, null)", &large, FALSE);
    truth("i in (1e999, 9007199254740993)", &large, NULL);
    truth("i between 9007199254740993 and 1e17", &large, FALSE);
    truth("j between 9007199254740993 and 1e17", &large, TRUE);
    truth("i between 0.5 and j", &large, TRUE);
    truth("j between 0.5 and i", &large, FALSE);
    truths(&[
        ("9007199254740992 in (9007199254740993, 0.5)", FALSE),
        ("-9007199254740993 in (0.5, -9007199254740993)", TRUE),
        ("-9007199254740992 in (0.5, -9007199254740993)", FALSE),
    ]);
    let text = |text| predicate(text).text;
    assert_eq!(text("i in (2.5, 1, 9007199254740993)"), "i in (1, 9007199254740993) or i in (2.5)");
    // The text of what doubles hold exactly is as it was.
    assert_eq!(text("i in (2.5, 1)"), "i in (1.0, 2.5)");
    assert_eq!(text("n in (2.5, 9007199254740993)"), "n in (2.5, 9007199254740992.0)");
    // What is only null makes no number of what stands beside it.
    assert_eq!(text("0.0 * abs(null) is null"), "0.0 * abs(null) is null");
}

#[test]
fn like_has_two_wildcards_and_only_the_escape_that_is_given() {
    truths(&[
        ("'pricing' like 'pri%'", TRUE),
        ("'pricing' like '%ing'", TRUE),
        ("'pricing' like '%ici%'", TRUE),
        ("'pricing' like 'p%g'", TRUE),
        ("'pricing' like 'p%x'", FALSE),
        ("'pricing' like 'pricin_'", TRUE),
        ("'pricing' like 'pricing_'", FALSE),
        ("'pricing' like 'PRICING'", FALSE),
        ("'pricing' not like 'PRICING'", TRUE),
        ("'pricing' ilike 'PRI%'", TRUE),
        ("'pricing' not ilike 'PRI%'", FALSE),
        ("'' like '%'", TRUE),
        ("'' like '_'", FALSE),
        ("'' like ''", TRUE),
        ("'é' like '_'", TRUE),
        ("'日本' like '__'", TRUE),
        ("'日本' like '_'", FALSE),
        ("'a\\b' like 'a\\b'", TRUE),
        ("'a\\b' like 'a\\%'", TRUE),
        ("'100%' like '100!%' escape '!'", TRUE),
        ("'1000' like '100!%' escape '!'", FALSE),
        ("'a_b' like 'a!_b' escape '!'", TRUE),
        ("'a!b' like 'a!!b' escape '!'", TRUE),
        ("'a%b' like 'a%%b' escape '%'", TRUE),
        ("'aab' like '%ab'", TRUE),
        ("'abcabd' like '%ab_'", TRUE),
        ("'aXbXc' like 'a%b%c'", TRUE),
        ("'ÄÖ' ilike 'äö'", TRUE),
        ("'ΟΔΟΣ' ilike 'οδος'", TRUE),
        ("'ΟΔΟΣΑ' ilike 'οδος%'", TRUE),
        ("'İ' ilike '_'", TRUE),
        ("'A!' ilike 'a!!' escape '!'", TRUE),
        ("null like 'a'", NULL),
        ("'a' like null", NULL),
    ]);
    let both = row([("s", string("a%")), ("path", string("a%c"))]);
    truth("path like s", &both, TRUE);
    truth("path like s || 'x'", &both, FALSE);
    truth("path ilike upper(s)", &both, TRUE);
    truth("path like s || '!' escape '!'", &both, NULL);
    truth("s like 'a!%' escape '!'", &both, TRUE);
}

#[test]
fn functions_of_text_are_null_for_null() {
    truths(&[
        ("lower('ÀB') = 'àb'", TRUE),
        ("upper('straße') = 'STRASSE'", TRUE),
        ("lower('I') = 'i'", TRUE),
        ("length('日本') = 2", TRUE),
        ("length('') = 0", TRUE),
        ("trim('  a b ') = 'a b'", TRUE),
        ("trim('\ta\n') = '\ta\n'", TRUE),
        ("trim('\u{a0}a') = 'a'", FALSE),
        ("'a' || 'b' || 'c' = 'abc'", TRUE),
        ("'a' || null is null", TRUE),
        ("coalesce(null, 1, 2) = 1", TRUE),
        ("coalesce(null, 1.5, 2) = 1.5", TRUE),
        ("coalesce(null, null) is null", TRUE),
        ("coalesce('a') = 'a'", TRUE),
        ("coalesce(null = 1, true)", TRUE),
        ("starts_with('/pricing', '/pri')", TRUE),
        ("ends_with('/pricing', 'ing')", TRUE),
        ("contains('/pricing', 'ric')", TRUE),
        ("contains('a', 'A')", FALSE),
        ("starts_with(null, 'a')", NULL),
        ("contains('a', null)", NULL),
        ("regexp_matches('/pricing/2', 'ing/[0-9]')", TRUE),
        ("regexp_matches('/pricing', '^pri')", FALSE),
        ("regexp_matches('É', '(?i)é')", TRUE),
        ("regexp_matches(null, 'a')", NULL),
        ("lower(null) is null", TRUE),
        ("length(null) is null", TRUE),
        ("LOWER('A') = 'a' AND Trim(' ') = ''", TRUE),
    ]);
    let text = row([("s", string("  MiXed ")), ("i", Value::Integer(2)), ("b", Value::Boolean(false))]);
    truth("lower(trim(s)) || '!' = 'mixed!'", &text, TRUE);
    truth("trim('  ' || s) = 'MiXed'", &text, TRUE);
    truth("length(s) = 8", &text, TRUE);
    truth("coalesce(path, s) = s", &text, TRUE);
    truth("coalesce(n, i) = 2", &text, TRUE);
    truth("coalesce(b, true)", &text, FALSE);
    truth("coalesce(c, b, true)", &text, FALSE);
    truth("coalesce(t, '2026-01-01') = date '2026-01-01'", &text, TRUE);
    truth("regexp_matches(s, 'M.X')", &text, TRUE);
}

#[test]
fn a_list_contains_its_elements_and_never_null() {
    let lists = row([
        ("ls", Value::List(vec![string("a"), Value::Null, string("b")])),
        ("li", Value::List(vec![Value::Integer(1), Value::Null])),
        ("ln", Value::List(vec![Value::Number(1.0), Value::Number(2.5), Value::Number(f64::NAN)])),
        ("s", string("b")),
        ("i", Value::Integer(1)),
    ]);
    truth("list_contains(ls, 'a')", &lists, TRUE);
    truth("list_contains(ls, s)", &lists, TRUE);
    truth("list_contains(ls, 'c')", &lists, FALSE);
    truth("list_contains(ls, null)", &lists, NULL);
    truth("list_contains(li, 1)", &lists, TRUE);
    truth("list_contains(li, 1.0)", &lists, TRUE);
    truth("list_contains(li, 0)", &lists, FALSE);
    truth("list_contains(ln, i)", &lists, TRUE);
    truth("list_contains(ln, 2.5)", &lists, TRUE);
    truth("list_contains(ln, 0)", &lists, FALSE);
    truth("list_contains(ls, path)", &lists, NULL);
    truth("list_contains(ls, 'a')", &Row::new(), NULL);
    truth("list_contains(ls, 'a')", &row([("ls", Value::List(vec![]))]), FALSE);
    truth("ls is null", &Row::new(), TRUE);
    truth("ls is not null", &lists, TRUE);
}

#[test]
fn times_compare_to_the_ms_and_a_date_is_its_midnight() {
    truths(&[
        ("date '1970-01-02' = timestamp '1970-01-02 00:00:00Z'", TRUE),
        ("timestamp '1970-01-01 00:00:00.0019' = timestamp '1970-01-01T00:00:00.001Z'", TRUE),
        ("timestamp '1970-01-01 02:00:00+02:00' = '1970-01-01'", TRUE),
        ("timestamp '1970-01-01' < '1970-01-01 00:00:00.001'", TRUE),
    ]);
    let times = row([("t", Value::Timestamp(86_400_000)), ("d", Value::Date(86_400_000))]);
    truth("t = d", &times, TRUE);
    truth("t = '1970-01-02'", &times, TRUE);
    truth("d = '1970-01-02T00:00:00Z'", &times, TRUE);
    truth("'1970-01-01' < t", &times, TRUE);
    truth("t between '1970-01-01' and '1970-01-02'", &times, TRUE);
    truth("d in ('1970-01-02')", &times, TRUE);
    truth("t is distinct from '1970-01-02'", &times, FALSE);
    truth("t > u", &times, NULL);
}

#[test]
fn a_comparison_with_now_flips_at_its_moments() {
    let at = |time| row([("t", Value::Timestamp(time)), ("d", Value::Date(time)), ("b", Value::Boolean(true))]);
    let table: &[(&str, &[i64])] = &[
        ("t > now() - interval '1 second'", &[6000]),
        ("t >= now() - interval '1 second'", &[6001]),
        ("t < now() - interval '1 second'", &[6001]),
        ("t <= now() - interval '1 second'", &[6000]),
        ("t = now() - interval '1 second'", &[6000, 6001]),
        ("t <> now() - interval '1 second'", &[6000, 6001]),
        ("t > now()", &[5000]),
        ("now() < t", &[5000]),
        ("d < now() + interval '2 seconds'", &[3001]),
        ("not t > now()", &[5000]),
        ("t > now() and t < now() + interval '1 s'", &[4001, 5000]),
        ("t between now() - interval '1 s' and now() + interval '1 s'", &[4000, 6001]),
        ("t not between now() - interval '1 s' and '9999-01-01'", &[6001]),
        ("t > now() or b", &[]),
        ("u > now()", &[]),
        ("t > now() and not t > now()", &[]),
        ("b", &[]),
    ];
    for (text, moments) in table {
        let predicate = predicate(text);
        assert_eq!(predicate.mentions_now(), text.contains("now"), "{text}");
        let row = at(5000);
        let evaluator = Evaluator::new(&predicate);
        assert_eq!(evaluator.moments(&values(&predicate, &row)), *moments, "{text}");
        let mut changes = Vec::new();
        for now in 3000..7000 {
            if holds(&predicate, &row, now) != evaluator.holds(&values(&predicate, &row), now - 1) {
                changes.push(now);
            }
        }
        assert_eq!(changes, *moments, "{text}, walked");
    }
    // At the ends of time nothing overflows.
    for time in [i64::MIN, i64::MAX] {
        for text in ["t > now() - interval '9 weeks'", "t >= now() + interval '9 weeks'", "t = now()"] {
            let predicate = predicate(text);
            let values = values(&predicate, &at(time));
            let evaluator = Evaluator::new(&predicate);
            for moment in evaluator.moments(&values) {
                assert_ne!(evaluator.holds(&values, moment - 1), evaluator.holds(&values, moment), "{text}");
            }
            evaluator.holds(&values, i64::MIN);
            evaluator.holds(&values, i64::MAX);
        }
    }
}

#[track_caller]
fn canonical(text: &str, expected: &str) {
    let once = predicate(text);
    assert_eq!(once.text, expected);
    let twice = predicate(&once.text);
    assert_eq!(twice, once, "{text}");
}

#[test]
fn what_differs_in_spelling_has_one_text() {
    canonical("path='/pricing'", "path = '/pricing'");
    canonical("  ( ( path ) = ('/pricing') ) ", "path = '/pricing'");
    canonical("'/pricing' = path", "path = '/pricing'");
    canonical("\"path\" = 'it''s'", "path = 'it''s'");
    canonical("300 < ltv", "ltv > 300");
    canonical("ltv > 300.0", "ltv > 300");
    canonical("ltv > 300.50", "ltv > 300.5");
    canonical("i > 300.0", "i > 300.0");
    canonical("i in (3, 1, 2, 1, null)", "i in (1, 2, 3, null)");
    canonical("i in (1.0, 2)", "i in (1.0, 2.0)");
    canonical("n not in (2.0)", "n not in (2)");
    canonical("i != 5 AND (b AND (NOT c))", "b and i <> 5 and not c");
    canonical("c or (b or c) or b", "b or c");
    canonical("b and b", "b");
    canonical("b and (c or path is null)", "b and (c or path is null)");
    canonical("not not b", "b");
    canonical("not (path is null)", "path is not null");
    canonical("not (b = c)", "not b = c");
    canonical("not (b or c)", "not (b or c)");
    canonical("n > m".replace('m', "ltv").as_str(), "ltv < n");
    canonical("7 / 2 > n", "7 / 2 < n".replace("7 / 2 < n", "7 / 2 > n").as_str());
    canonical("i + 1.0 > n", "i + 1.0 > n");
    canonical("i - (j - 1) = 2", "i - (j - 1) = 2");
    canonical("(i - j) - 1 = 2", "i - j - 1 = 2");
    canonical("-(i + j) < - -i", "- -i > -(i + j)");
    canonical("s LIKE 'a%' ESCAPE '!'", "s like 'a%' escape '!'");
    canonical("not s ilike 'a'", "s not ilike 'a'");
    canonical("t > '2026-11-23'", "t > date '2026-11-23'");
    canonical("t > timestamp '2026-11-23 01:00:00+01:00'", "t > date '2026-11-23'");
    canonical("t > '2026-11-23 10:00:00.5'", "t > timestamp '2026-11-23T10:00:00.5Z'");
    canonical("t > now() - interval '1 week'", "t > now() - interval '7 days'");
    canonical("NOW() - INTERVAL '60m' <= t", "t >= now() - interval '1 hour'");
    canonical("t < now() + interval '0 s'", "t < now()");
    canonical("t < now() + interval '1 day 1 ms'", "t < now() + interval '86400001 milliseconds'");
    canonical("t between now() - interval '1 d' and now()", "t <= now() and t >= now() - interval '1 day'");
    canonical("\"total billed\" > 1 and \"x.y\" = ''", "\"total billed\" > 1 and \"x.y\" = ''");
    canonical("COALESCE(n, 0) between 1.0 and 2", "coalesce(n, 0) between 1 and 2");
    canonical("list_contains(ln, 2.0)", "list_contains(ln, 2)");
    canonical("list_contains(li, 2.0)", "list_contains(li, 2.0)");
    canonical("2 is distinct from n", "n is distinct from 2");
    canonical("b = (c = b)", "b = (b = c)");
    assert_eq!(
        predicate("s = path and ltv > 1").columns.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        ["ltv", "path", "s"]
    );
}

#[test]
fn any_word_may_name_a_column() {
    use sqlparser::keywords::ALL_KEYWORDS;
    let mut quoted = Vec::new();
    for word in ALL_KEYWORDS.iter().chain(&["naïve", "über", "a b", "a\"b", "1st", "a-b"]) {
        for word in [word.to_lowercase(), word.to_string()] {
            let column = |name: &str| (name == word).then_some(ColumnType::Integer);
            let parse = |text: String| {
                let text = Text { value: text, place: Place::default() };
                Predicate::parse(&text, &column, std::slice::from_ref(&word), &NoParents, Now::Allowed)
            };
            let quote = format!("\"{}\"", word.replace('"', "\"\""));
            let name = [&word, &quote].into_iter().find(|name| {
                let text = format!(
                    "({name} + {name} > 1) and not {name} = 2 and abs({name}) - {name} = 3 and {name} in (1)\
                     and {name} is not null and ({name}) between {name} and {name} and coalesce({name}, 2) = {name}"
                );
                parse(text).is_ok_and(|predicate| {
                    let again = parse(predicate.text.clone())
                        .unwrap_or_else(|problems| panic!("{}: {problems:?}", predicate.text));
                    assert_eq!(again, predicate);
                    !predicate.columns.is_empty()
                })
            });
            match name {
                Some(name) if *name == word => {}
                Some(_) => quoted.push(word),
                None => panic!("`{word}` can't name a column"),
            }
        }
    }
    quoted.retain(|word| word.chars().all(|char| char.is_ascii_lowercase()));
    let words =
        "all and any between distinct escape exists false ilike in is like null or returning select some true with";
    assert_eq!(quoted.join(" "), words);
}

/// Returns the problems of a text, one a line.
fn problems(text: &str, now: Now) -> String {
    let problems = parse(text, now).expect_err(text);
    let line = |problem: &Problem| match &problem.hint {
        Some(hint) => format!("{}; hint: {hint}", problem.message),
        None => problem.message.clone(),
    };
    problems.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn problems_say_what_where_and_what_to_do() {
    let texts = [
        "",
        "  ",
        "ltx > 300 and pth = 'a' or foo(b)",
        "b = ltx",
        "LTV > 300",
        "path = \"/pricing\"",
        "path = 5",
        "ltv > '300'",
        "b = 'true'",
        "s + 1 > 2",
        "i || 'a' = 'b'",
        "ltv",
        "ltv and b",
        "not s",
        "t > 'yesterday'",
        "date '2026-02-30' = d",
        "timestamp 'x' = t",
        "t > 5",
        "i = 99999999999999999999",
        "path like 'a!' escape '!'",
        "path like 'a' escape 'ab'",
        "regexp_matches(path, '(')",
        "regexp_matches(path, s)",
        "list_contains(path, 'a')",
        "list_contains(ls, 5)",
        "contains(ls, 'a')",
        "ls = 'a'",
        "lower()",
        "lower(s, s) = 'a'",
        "lower(distinct s) = 'a'",
        "lowr(s) = 'a'",
        "count(*) > 1",
        "i in (j)",
        "i in (select 1)",
        "i in ()",
        "b is true",
        "i == 1",
        "b && c",
        "i ! = 1",
        "t > now() - 7d",
        "t > now() - 30 ms",
        "cast(i as text) = 'a'",
        "i::text = 'a'",
        "case when b then c else b end",
        "exists (select 1)",
        "i = (select 1)",
        "s similar to 'a'",
        "s ~ 'a'",
        "i ^ 2 = 4",
        "i & 1 = 1",
        "i not null",
        "i is unknown",
        "i = any (1)",
        "s like any ('a')",
        "x.y = 'a'",
        "u.s = 'a'",
        "s = $1",
        "s = E'a'",
        "s = $$a$$",
        "s = x'00'",
        "i = 0x10",
        "i = 0xffffffffffffffffff",
        "i is 3",
        "i is not 3",
        "i is",
        "coalesce() = 1",
        "starts_with(s)",
        "i between 1",
        "i between 1 or 2",
        "i in (1 2)",
        "i in 1",
        "i = 1 j = 2",
        "i = 1, 2",
        "i = ",
        "i like",
        "i =! 1",
        "i === 1",
        "`i` = 1",
        "[i] = 1",
        "i = :p",
        "i = ?",
        "i = @p",
        "i = #1",
        "i = 1 \\ 2",
        "i = {}",
        "s->'a' = 1",
        "ls[0] = 'a'",
        "i = 1_000",
        "i = 1.2.3",
        "d = date 2026-11-23",
        "\"s = 'a'",
        "i = 1 {{",
        "s like 'a' escape",
        "i not 5",
        "not",
        "i > 1 and",
        "if(b, 1, 2) = 1",
        "t > now() - interval 7 days",
        "t > now() - interval '7'",
        "t > now() - interval '99999999999999999999 days'",
        "t > now() - interval '106751991168 days'",
        "t > now() - interval '106751991167 days' - interval '1 day'",
        "t > now() - '7 days'",
        "s = 'a' -- comment",
        "s = 'a' /* comment */",
        "s = 'a';",
        "s = 'a",
        "s = 'a' )",
        "(s = 'a'",
        "b and",
        "and b",
        "b and or c",
        "s = 'a' 'b'",
        "i > 1\n  and ltx > 2",
        "(i, j) = (1, 2)",
        "interval '1 day' > t",
        "t > t + interval '1 day'",
        "t + interval '1 day' > now()",
        "t > now() - interval '1 month'",
        "t > now() - interval '-1 day'",
        "t > now() - interval '1.5 days'",
        "t > now() - interval '1' day",
        "t > now() - 5",
        "i > now()",
        "now() > now()",
        "lower(now()) = 'a'",
        "coalesce(t, u) > now()",
        "current_timestamp > t",
        "t at time zone 'UTC' > u",
        "trim(leading 'x' from s) = 'a'",
        "substring(s from 1) = 'a'",
        "now",
        "é = 1",
    ];
    let report = texts.map(|text| format!("{text}\n    {}\n", problems(text, Now::Allowed).replace('\n', "\n    ")));
    insta::assert_snapshot!(report.concat());
}

#[test]
fn now_in_performed_points_to_within() {
    let report =
        ["t > now() - interval '7 days'", "b and t between now() - interval '1 d' and ltx", "lower(now()) = s"];
    let report = report.map(|text| format!("{text}\n    {}\n", problems(text, Now::Refused).replace('\n', "\n    ")));
    insta::assert_snapshot!(report.concat());
    assert!(parse("t > '2026-01-01'", Now::Refused).is_ok());
}

#[test]
fn depth_and_length_are_bounded_not_the_stack() {
    let many = 100_000;
    let deep = |open: &str, middle: &str, close: &str| [&open.repeat(many), middle, &close.repeat(many)].concat();
    for text in [
        deep("(", "b", ")"),
        deep("(", "", ""),
        deep("not ", "b", ""),
        deep("- ", "1", "") + " = 1",
        deep("lower(", "s", ")") + " = 's'",
        deep("b and (", "b", ")"),
        deep("i in (", "1", ")"),
        deep("", "b", " and b"),
        deep("", "b", " = b"),
        deep("", "i", " + 1") + " = 1",
        deep("", "b", " is null"),
        deep("", "b", " is distinct from b"),
        deep("", "b", " xor b"),
        deep("", "s", "::text"),
        deep("", "s", " collate a"),
        deep("", "s", ".a"),
        deep("", "s", "[1]"),
        deep("case when ", "b", " then b end"),
        deep("interval ", "'1'", ""),
    ] {
        let problems = parse(&text, Now::Allowed).expect_err("too deep");
        assert!(problems[0].message.chars().count() < 200, "{}", problems[0].message);
    }
    // What is within the bounds works, on a thread with little stack, too.
    let work = || {
        let terms = (0..900).map(|term| format!("s = 't{term}'")).collect::<Vec<_>>();
        let predicate = predicate(&terms.join(" or "));
        assert!(holds(&predicate, &row([("s", string("t899"))]), 0));
        assert!(!holds(&predicate, &row([("s", string("t900"))]), 0));
        let sum = predicate_of_depth("i", " + i", 46, " = 0");
        assert!(holds(&sum, &row([("i", Value::Integer(0))]), 0));
        let parentheses = format!("{}b{}", "(".repeat(100), ")".repeat(100));
        assert!(holds(&self::predicate(&parentheses), &row([("b", Value::Boolean(true))]), 0));
        let items = (0..50_000).map(|item| format!("'{item}'")).collect::<Vec<_>>().join(", ");
        let among = self::predicate(&format!("s in ({items})"));
        assert!(holds(&among, &row([("s", string("49999"))]), 0));
    };
    std::thread::Builder::new().stack_size(1 << 20).spawn(work).unwrap().join().unwrap();
}

#[test]
fn texts_of_a_batch_are_equal_as_they_are_one_by_one() {
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..500 {
        // Few letters, and lengths around the 8 bytes that are compared first.
        let mut text =
            |most| (0..random.usize(0..most)).map(|_| if random.u8(0..9) == 0 { 'é' } else { 'a' }).collect();
        let most = [2, 4, 9, 12, 20][round % 5];
        let (wanted, texts): (String, Vec<String>) = (text(most), (0..40).map(|_| text(most)).collect());
        let texts: Vec<Option<&str>> =
            texts.iter().enumerate().map(|(row, text)| (row % 7 > 0).then_some(&text[..])).collect();
        let array: ArrayRef = std::sync::Arc::new(texts.iter().copied().collect::<arrow_array::StringArray>());
        let from = round % 3;
        for (written, equal) in [("=", true), ("<>", false)] {
            let evaluator = Evaluator::new(&predicate(&format!("s {written} '{wanted}'")));
            let found = evaluator.holds_batch(&[array.slice(from, 40 - from)], 40 - from, 0);
            let expected = texts[from..].iter().map(|text| Some(text.is_some_and(|text| (text == wanted) == equal)));
            assert!(found.iter().eq(expected), "round {round}: {written} {wanted:?} of {texts:?}");
        }
    }
}

fn predicate_of_depth(first: &str, step: &str, steps: usize, last: &str) -> Predicate {
    predicate(&[first, &step.repeat(steps), last].concat())
}

#[test]
fn no_text_is_a_panic() {
    let words = [
        "(",
        ")",
        ",",
        "=",
        "<>",
        "<",
        "+",
        "-",
        "*",
        "/",
        "%",
        "||",
        "and",
        "or",
        "not",
        "in",
        "between",
        "like",
        "ilike",
        "escape",
        "is",
        "null",
        "distinct",
        "from",
        "true",
        "'a'",
        "''",
        "1",
        "1.5",
        "1e3",
        "date",
        "timestamp",
        "interval",
        "'7 days'",
        "'2026-11-23'",
        "now",
        "lower",
        "coalesce",
        "list_contains",
        "trim",
        "abs",
        "i",
        "n",
        "s",
        "t",
        "b",
        "ls",
        "\"x.y\"",
        ".",
        "[",
        "]",
        "::",
        ":",
        ";",
        "case",
        "when",
        "end",
        "select",
        "cast",
        "as",
        "text",
        "'",
        "\"",
        "--",
        "@",
        "#",
        "$",
        "~",
        "?",
        "{",
        "}",
        "!",
        "é",
        "\n",
        "any",
        "all",
        "exists",
        "array",
        "struct",
    ];
    let seed = 42;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut parsed = 0;
    for _ in 0..30_000 {
        let count = random.usize(1..12);
        let text = (0..count).map(|_| words[random.usize(..words.len())]).collect::<Vec<_>>().join(" ");
        match parse(&text, Now::Allowed) {
            Ok(once) => {
                parsed += 1;
                let twice = parse(&once.text, Now::Allowed);
                assert_eq!(twice.as_ref(), Ok(&once), "seed {seed}: {text}");
            }
            Err(problems) => assert!(!problems.is_empty(), "seed {seed}: {text}"),
        }
    }
    assert!(parsed > 20, "sometimes it is a predicate: {parsed}");
}

#[test]
fn an_evaluator_may_go_to_another_thread() {
    fn goes<T: Send>() {}
    goes::<Evaluator>();
    goes::<Predicate>();
}

/// Prints what a predicate costs: `cargo test --release -p usher-queries --test predicate -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
#[allow(clippy::print_stderr)]
fn cost_of_a_predicate() {
    let row = row([
        ("path", string("/pricing")),
        ("ltv", Value::Number(350.0)),
        ("i", Value::Integer(5)),
        ("s", string("Hello World")),
        ("t", Value::Timestamp(1_000_000)),
    ]);
    for text in [
        "path = '/pricing'",
        "path = '/pricing' and ltv > 300 and i in (1, 2, 5)",
        "path like '/pri%'",
        "s ilike '%world'",
        "regexp_matches(path, '^/pri')",
        "ltv * 2 + i > 600",
        "t > now() - interval '7 days'",
    ] {
        let predicate = predicate(text);
        let evaluator = Evaluator::new(&predicate);
        let values = values(&predicate, &row);
        // The least of many short runs: a longer one would measure the machine's other work, too.
        let least = |rows: usize, run: &dyn Fn()| {
            let runs = (0..300).map(|_| {
                let begin = std::time::Instant::now();
                run();
                begin.elapsed().as_nanos()
            });
            runs.min().expect("there are runs") as f64 / rows as f64
        };
        let rows = 8192;
        let arrays = batch::columns(&predicate.columns, &vec![values.clone(); rows]);
        let one = least(rows, &|| {
            for now in 0..rows as i64 {
                assert!(std::hint::black_box(&evaluator).holds(std::hint::black_box(&values), now));
            }
        });
        let batch = least(rows, &|| {
            std::hint::black_box(evaluator.holds_batch(std::hint::black_box(&arrays), rows, 0));
        });
        eprintln!("{one:6.1} ns a row, {batch:6.1} ns in a batch: {text}");
    }
}
