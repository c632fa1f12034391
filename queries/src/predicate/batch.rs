//! Evaluation on a batch: each expression once, over whole columns.
//!
//! Columns of numbers and times are slices with a mask of valid rows, truth is two masks (true, false; a row in neither
//! is null), text is read from its Arrow array in place.

use super::scalar::{clock, finite, has, integers, length, lower, numbers, trim, upper};
use super::tree::{Arithmetic, Compare, ItemValues, Items, Literal, Node};
use crate::value::element_type;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMillisecondType};
use arrow_array::{Array, ArrayRef, BooleanArray, ListArray, StringArray};
use std::borrow::Cow;
use usher_config::ColumnType;

/// Evaluates a condition on `rows` rows.
pub(crate) fn holds(
    root: &Node,
    types: &[(String, ColumnType)],
    columns: &[ArrayRef],
    rows: usize,
    now: i64,
) -> BooleanArray {
    assert_eq!(columns.len(), types.len(), "a batch has one array for each of its predicate's columns");
    for (column, (name, _)) in columns.iter().zip(types) {
        assert_eq!(column.len(), rows, "column `{name}` has another length than its batch");
    }
    BooleanArray::from(Batch { types, columns, rows, now }.truths(root).yes)
}

struct Batch<'b> {
    types: &'b [(String, ColumnType)],
    columns: &'b [ArrayRef],
    rows: usize,
    now: i64,
}

/// The values of an expression, row by row.
enum Vector<'b> {
    /// Null in every row.
    Null,
    Boolean(Truths),
    Integer(Values<'b, i64>),
    Number(Values<'b, f64>),
    Time(Values<'b, i64>),
    Text(Texts<'b>),
    List(&'b ListArray, ColumnType),
}

/// Truth in three values: a row that is neither true nor false is null.
struct Truths {
    yes: Vec<bool>,
    no: Vec<bool>,
}

/// Fixed-size values and which of them are valid; the others are arbitrary.
struct Values<'b, T: Clone> {
    values: Cow<'b, [T]>,
    /// All are valid if `None`.
    valid: Option<Vec<bool>>,
}

enum Texts<'b> {
    Array(&'b StringArray),
    Same(&'b str),
    Owned(Vec<Option<String>>),
}

impl Texts<'_> {
    #[inline]
    fn at(&self, row: usize) -> Option<&str> {
        match self {
            Texts::Array(array) => array.is_valid(row).then(|| array.value(row)),
            Texts::Same(text) => Some(text),
            Texts::Owned(texts) => texts[row].as_deref(),
        }
    }
}

impl<T: Copy> Values<'_, T> {
    #[inline]
    fn is_valid(&self, row: usize) -> bool {
        self.valid.as_ref().is_none_or(|valid| valid[row])
    }

    fn collect(values: impl Iterator<Item = Option<T>>, nothing: T) -> Self {
        let mut valid = Vec::new();
        let values = values.map(|value| {
            valid.push(value.is_some());
            value.unwrap_or(nothing)
        });
        let values = Cow::Owned(values.collect());
        Values { values, valid: Some(valid) }
    }

    fn map<U: Copy>(&self, nothing: U, function: impl Fn(T) -> Option<U>) -> Values<'static, U> {
        Values::collect(
            self.values.iter().enumerate().map(|(row, value)| if self.is_valid(row) { function(*value) } else { None }),
            nothing,
        )
    }

    /// Returns the truth of a test where both are valid, null elsewhere.
    fn test(&self, other: &Values<'_, T>, test: impl Fn(T, T) -> bool) -> Truths {
        let mut yes: Vec<bool> =
            self.values.iter().zip(&*other.values).map(|(left, right)| test(*left, *right)).collect();
        let mut no: Vec<bool> = yes.iter().map(|yes| !yes).collect();
        for valid in [&self.valid, &other.valid].into_iter().flatten() {
            mask(&mut yes, valid);
            mask(&mut no, valid);
        }
        Truths { yes, no }
    }
}

fn mask(truths: &mut [bool], valid: &[bool]) {
    for (truth, valid) in truths.iter_mut().zip(valid) {
        *truth &= valid;
    }
}

impl Truths {
    fn collect(truths: impl Iterator<Item = Option<bool>>) -> Truths {
        let (yes, no) = truths.map(|truth| (truth == Some(true), truth == Some(false))).unzip();
        Truths { yes, no }
    }

    fn at(&self, row: usize) -> Option<bool> {
        (self.yes[row] || self.no[row]).then_some(self.yes[row])
    }

    fn not(self) -> Truths {
        Truths { yes: self.no, no: self.yes }
    }

    fn and(mut self, other: &Truths) -> Truths {
        mask(&mut self.yes, &other.yes);
        for (no, other) in self.no.iter_mut().zip(&other.no) {
            *no |= other;
        }
        self
    }
}

impl<'b> Batch<'b> {
    fn every(&self, truth: Option<bool>) -> Truths {
        Truths { yes: vec![truth == Some(true); self.rows], no: vec![truth == Some(false); self.rows] }
    }

    /// Evaluates a condition.
    fn truths(&self, node: &'b Node) -> Truths {
        match self.vector(node) {
            Vector::Boolean(truths) => truths,
            Vector::Null => self.every(None),
            _ => unreachable!("the typing lets only conditions stand here"),
        }
    }

    fn vector(&self, node: &'b Node) -> Vector<'b> {
        Vector::Boolean(match node {
            Node::Column(column) => {
                let (name, column_type) = &self.types[*column as usize];
                return read(&self.columns[*column as usize], *column_type, name);
            }
            Node::Literal(literal) => return self.literal(literal),
            Node::ToNumber(operand) => {
                return match self.vector(operand) {
                    Vector::Integer(values) => Vector::Number(Values {
                        values: values.values.iter().map(|integer| *integer as f64).collect(),
                        valid: values.valid,
                    }),
                    _ => Vector::Null,
                };
            }
            Node::Negate(operand) => {
                return match self.vector(operand) {
                    Vector::Integer(values) => Vector::Integer(values.map(0, i64::checked_neg)),
                    Vector::Number(values) => Vector::Number(values.map(0.0, |number| Some(-number))),
                    _ => Vector::Null,
                };
            }
            Node::Abs(operand) => {
                return match self.vector(operand) {
                    Vector::Integer(values) => Vector::Integer(values.map(0, i64::checked_abs)),
                    Vector::Number(values) => Vector::Number(values.map(0.0, |number| Some(number.abs()))),
                    _ => Vector::Null,
                };
            }
            Node::Arithmetic(arithmetic, left, right) => {
                return self.arithmetic(*arithmetic, left, right);
            }
            Node::Concat(left, right) => {
                let (Some(left), Some(right)) = (self.texts(left), self.texts(right)) else {
                    return Vector::Null;
                };
                let both = |row| Some([left.at(row)?, right.at(row)?].concat());
                return Vector::Text(Texts::Owned((0..self.rows).map(both).collect()));
            }
            Node::Coalesce(nodes) => return self.coalesce(nodes),
            Node::Lower(operand) => return self.change(operand, lower),
            Node::Upper(operand) => return self.change(operand, upper),
            Node::Trim(operand) => return self.change(operand, trim),
            Node::Length(operand) => {
                let Some(texts) = self.texts(operand) else {
                    return Vector::Null;
                };
                let lengths = (0..self.rows).map(|row| texts.at(row).map(length));
                return Vector::Integer(Values::collect(lengths, 0));
            }
            Node::Compare(compare, left, right) => self.compare(*compare, &self.vector(left), &self.vector(right)),
            Node::Clock(compare, operand, offset) => match self.vector(operand) {
                Vector::Time(values) => {
                    let clock = clock(self.now, *offset);
                    let test = |time| Some(compare.holds(&i128::from(time), &clock));
                    Truths::collect(self.each(&values, test))
                }
                _ => self.every(None),
            },
            Node::Distinct(left, right) => {
                let (left, right) = (self.vector(left), self.vector(right));
                let equal = self.compare(Compare::Equal, &left, &right);
                let (left, right) = (self.nulls(&left), self.nulls(&right));
                let distinct = |row| Some(!(equal.yes[row] || (left[row] && right[row])));
                Truths::collect((0..self.rows).map(distinct))
            }
            Node::Between(operand, low, high) => {
                let operand = self.vector(operand);
                let above = self.compare(Compare::LessEqual, &self.vector(low), &operand);
                above.and(&self.compare(Compare::LessEqual, &operand, &self.vector(high)))
            }
            Node::In(operand, items) => self.found(&self.vector(operand), items),
            Node::Like(operand, like) => self.test(operand, |text| like.matches(text)),
            Node::LikeEach { operand, pattern, escape, insensitive } => {
                let (Some(texts), Some(patterns)) = (self.texts(operand), self.texts(pattern)) else {
                    return Vector::Null;
                };
                let test = |row| super::like::matches_once(texts.at(row)?, patterns.at(row)?, *escape, *insensitive);
                Truths::collect((0..self.rows).map(test))
            }
            Node::RegexpMatches(operand, regexp) => self.test(operand, |text| regexp.matches(text)),
            Node::StartsWith(whole, part) => self.test_both(whole, part, |whole, part| whole.starts_with(part)),
            Node::EndsWith(whole, part) => self.test_both(whole, part, |whole, part| whole.ends_with(part)),
            Node::Contains(whole, part) => self.test_both(whole, part, |whole, part| whole.contains(part)),
            Node::ListContains(list, element) => self.list_contains(list, element),
            Node::IsNull(operand) => {
                let yes = self.nulls(&self.vector(operand));
                Truths { no: yes.iter().map(|null| !null).collect(), yes }
            }
            Node::Not(operand) => self.truths(operand).not(),
            Node::All(nodes) => nodes.iter().fold(self.every(Some(true)), |all, node| all.and(&self.truths(node))),
            Node::Any(nodes) => {
                // By De Morgan: not all of the opposites.
                let none = nodes.iter().fold(self.every(Some(true)), |none, node| none.and(&self.truths(node).not()));
                none.not()
            }
        })
    }

    fn literal(&self, literal: &'b Literal) -> Vector<'b> {
        match literal {
            Literal::Null => Vector::Null,
            Literal::Boolean(boolean) => Vector::Boolean(self.every(Some(*boolean))),
            Literal::Integer(integer) => Vector::Integer(self.same(*integer)),
            Literal::Number(number) => Vector::Number(self.same(*number)),
            Literal::Text(text) => Vector::Text(Texts::Same(text)),
            Literal::Time(time) => Vector::Time(self.same(*time)),
        }
    }

    fn same<T: Copy>(&self, value: T) -> Values<'b, T> {
        Values { values: Cow::Owned(vec![value; self.rows]), valid: None }
    }

    fn each<T: Copy>(
        &self,
        values: &Values<'_, T>,
        test: impl Fn(T) -> Option<bool>,
    ) -> impl Iterator<Item = Option<bool>> {
        (0..self.rows).map(move |row| if values.is_valid(row) { test(values.values[row]) } else { None })
    }

    /// Returns the texts of an expression. `None` if all are null.
    fn texts(&self, node: &'b Node) -> Option<Texts<'b>> {
        match self.vector(node) {
            Vector::Text(texts) => Some(texts),
            Vector::Null => None,
            _ => unreachable!("the typing lets only text stand here"),
        }
    }

    fn test(&self, operand: &'b Node, test: impl Fn(&str) -> bool) -> Truths {
        let Some(texts) = self.texts(operand) else {
            return self.every(None);
        };
        Truths::collect((0..self.rows).map(|row| texts.at(row).map(&test)))
    }

    fn test_both(&self, whole: &'b Node, part: &'b Node, test: impl Fn(&str, &str) -> bool) -> Truths {
        let (Some(whole), Some(part)) = (self.texts(whole), self.texts(part)) else {
            return self.every(None);
        };
        Truths::collect((0..self.rows).map(|row| Some(test(whole.at(row)?, part.at(row)?))))
    }

    fn change(&self, operand: &'b Node, change: impl Fn(Cow<'_, str>) -> Cow<'_, str>) -> Vector<'b> {
        let Some(texts) = self.texts(operand) else {
            return Vector::Null;
        };
        let changed = |row| texts.at(row).map(|text| change(Cow::Borrowed(text)).into_owned());
        Vector::Text(Texts::Owned((0..self.rows).map(changed).collect()))
    }

    fn arithmetic(&self, arithmetic: Arithmetic, left: &'b Node, right: &'b Node) -> Vector<'b> {
        match (self.vector(left), self.vector(right)) {
            (Vector::Null, _) | (_, Vector::Null) => Vector::Null,
            (Vector::Integer(left), Vector::Integer(right)) => {
                Vector::Integer(self.combine(&left, &right, 0, |left, right| integers(arithmetic, left, right)))
            }
            (Vector::Number(left), Vector::Number(right)) => {
                Vector::Number(self.combine(&left, &right, 0.0, |left, right| numbers(arithmetic, left, right)))
            }
            _ => unreachable!("the typing brings operands of arithmetic to one type"),
        }
    }

    fn combine<T: Copy>(
        &self,
        left: &Values<'_, T>,
        right: &Values<'_, T>,
        nothing: T,
        function: impl Fn(T, T) -> Option<T>,
    ) -> Values<'b, T> {
        let both = |row| {
            let valid = left.is_valid(row) && right.is_valid(row);
            if valid { function(left.values[row], right.values[row]) } else { None }
        };
        Values::collect((0..self.rows).map(both), nothing)
    }

    fn compare(&self, compare: Compare, left: &Vector<'b>, right: &Vector<'b>) -> Truths {
        match (left, right) {
            (Vector::Null, _) | (_, Vector::Null) => self.every(None),
            (Vector::Integer(left), Vector::Integer(right)) | (Vector::Time(left), Vector::Time(right)) => {
                compare_values(compare, left, right)
            }
            (Vector::Number(left), Vector::Number(right)) => compare_values(compare, left, right),
            (Vector::Text(Texts::Array(array)), Vector::Text(Texts::Same(text)))
            | (Vector::Text(Texts::Same(text)), Vector::Text(Texts::Array(array)))
                if matches!(compare, Compare::Equal | Compare::Unequal) =>
            {
                let equal = equal(array, text);
                if compare == Compare::Equal { equal } else { equal.not() }
            }
            (Vector::Text(left), Vector::Text(right)) => {
                let both = |row| Some(compare.holds(left.at(row)?, right.at(row)?));
                Truths::collect((0..self.rows).map(both))
            }
            (Vector::Boolean(left), Vector::Boolean(right)) => {
                let both = |row| Some(compare.holds(&left.at(row)?, &right.at(row)?));
                Truths::collect((0..self.rows).map(both))
            }
            _ => unreachable!("the typing brings both sides of a comparison to one type"),
        }
    }

    fn found(&self, operand: &Vector<'b>, items: &Items) -> Truths {
        let answer = |found| items.answer(found);
        match (operand, &items.values) {
            (Vector::Null, _) => self.every(None),
            (Vector::Text(texts), ItemValues::Text(_)) => {
                Truths::collect((0..self.rows).map(|row| answer(items.has_text(texts.at(row)?))))
            }
            (Vector::Integer(values), ItemValues::Integer(items)) | (Vector::Time(values), ItemValues::Time(items)) => {
                Truths::collect(self.each(values, |value| answer(has(items, &value))))
            }
            (Vector::Number(values), ItemValues::Number(items)) => {
                Truths::collect(self.each(values, |value| answer(has(items, &value))))
            }
            (Vector::Boolean(truths), ItemValues::Boolean(items)) => {
                Truths::collect((0..self.rows).map(|row| answer(has(items, &truths.at(row)?))))
            }
            _ => unreachable!("the typing brings `in`'s items to the operand's type"),
        }
    }

    fn list_contains(&self, list: &'b Node, element: &'b Node) -> Truths {
        let (Vector::List(list, element_type), element) = (self.vector(list), self.vector(element)) else {
            return self.every(None);
        };
        let elements = read(list.values(), element_type, "element");
        // Whether the element at an index is the one looked for in a row, which is not null.
        let same: Box<dyn Fn(usize, usize) -> bool> = match (elements, &element) {
            (_, Vector::Null) => return self.every(None),
            (Vector::Text(elements), Vector::Text(wanted)) => {
                Box::new(move |index, row| elements.at(index).is_some() && elements.at(index) == wanted.at(row))
            }
            (Vector::Integer(elements), Vector::Integer(wanted)) => {
                Box::new(move |index, row| elements.is_valid(index) && elements.values[index] == wanted.values[row])
            }
            (Vector::Integer(elements), Vector::Number(wanted)) => Box::new(move |index, row| {
                elements.is_valid(index) && elements.values[index] as f64 == wanted.values[row]
            }),
            (Vector::Number(elements), Vector::Number(wanted)) => {
                Box::new(move |index, row| elements.is_valid(index) && elements.values[index] == wanted.values[row])
            }
            _ => unreachable!("the typing lets a list be searched for its elements' type only"),
        };
        let missing = self.nulls(&element);
        Truths::collect((0..self.rows).map(|row| {
            if list.is_null(row) || missing[row] {
                return None;
            }
            let (from, to) = (list.value_offsets()[row] as usize, list.value_offsets()[row + 1] as usize);
            Some((from..to).any(|index| same(index, row)))
        }))
    }

    fn coalesce(&self, nodes: &'b [Node]) -> Vector<'b> {
        let vectors = nodes.iter().map(|node| self.vector(node)).collect::<Vec<_>>();
        let rows = 0..self.rows;
        match vectors.iter().find(|vector| !matches!(vector, Vector::Null)) {
            None => Vector::Null,
            Some(Vector::Boolean(_)) => Vector::Boolean(Truths::collect(rows.map(|row| {
                vectors.iter().find_map(
                    |vector| {
                        if let Vector::Boolean(truths) = vector { truths.at(row) } else { None }
                    },
                )
            }))),
            Some(Vector::Text(_)) => {
                let first = |row| {
                    let text = vectors.iter().find_map(|vector| match vector {
                        Vector::Text(texts) => texts.at(row),
                        _ => None,
                    });
                    text.map(str::to_owned)
                };
                Vector::Text(Texts::Owned(rows.map(first).collect()))
            }
            Some(Vector::Integer(_)) => Vector::Integer(first_valid(&vectors, rows, 0, |vector| match vector {
                Vector::Integer(values) => Some(values),
                _ => None,
            })),
            Some(Vector::Number(_)) => Vector::Number(first_valid(&vectors, rows, 0.0, |vector| match vector {
                Vector::Number(values) => Some(values),
                _ => None,
            })),
            Some(Vector::Time(_)) => Vector::Time(first_valid(&vectors, rows, 0, |vector| match vector {
                Vector::Time(values) => Some(values),
                _ => None,
            })),
            Some(Vector::List(..) | Vector::Null) => {
                unreachable!("the typing lets no lists stand here")
            }
        }
    }

    /// Returns which rows are null.
    fn nulls(&self, vector: &Vector<'_>) -> Vec<bool> {
        let of = |valid: &Option<Vec<bool>>| match valid {
            Some(valid) => valid.iter().map(|valid| !valid).collect(),
            None => vec![false; self.rows],
        };
        match vector {
            Vector::Null => vec![true; self.rows],
            Vector::Boolean(truths) => (0..self.rows).map(|row| truths.at(row).is_none()).collect(),
            Vector::Integer(values) | Vector::Time(values) => of(&values.valid),
            Vector::Number(values) => of(&values.valid),
            Vector::Text(texts) => (0..self.rows).map(|row| texts.at(row).is_none()).collect(),
            Vector::List(list, _) => (0..self.rows).map(|row| list.is_null(row)).collect(),
        }
    }
}

fn first_valid<'v, 'b: 'v, T: Copy + 'v>(
    vectors: &'v [Vector<'b>],
    rows: std::ops::Range<usize>,
    nothing: T,
    values: impl Fn(&'v Vector<'b>) -> Option<&'v Values<'b, T>>,
) -> Values<'static, T> {
    let candidates = vectors.iter().filter_map(values).collect::<Vec<_>>();
    let first = |row: usize| candidates.iter().find(|values| values.is_valid(row)).map(|values| values.values[row]);
    Values::collect(rows.map(first), nothing)
}

/// Compares row by row, with one loop for each comparison, so that the choice is not made in each row.
fn compare_values<T: Copy + PartialOrd>(compare: Compare, left: &Values<'_, T>, right: &Values<'_, T>) -> Truths {
    match compare {
        Compare::Equal => left.test(right, |left, right| left == right),
        Compare::Unequal => left.test(right, |left, right| left != right),
        Compare::Less => left.test(right, |left, right| left < right),
        Compare::LessEqual => left.test(right, |left, right| left <= right),
        Compare::Greater => left.test(right, |left, right| left > right),
        Compare::GreaterEqual => left.test(right, |left, right| left >= right),
    }
}

/// Returns whether each of some texts is `text`; null where it is null. A text is compared by its length and its first bytes, and read whole only where these are
/// the same.
fn equal(array: &StringArray, text: &str) -> Truths {
    let (bytes, head) = (array.value_data(), text.len().min(8));
    let (mask_of_head, mut wanted) = (u64::MAX.checked_shr(64 - 8 * head as u32).unwrap_or(0), [0; 8]);
    wanted[..head].copy_from_slice(&text.as_bytes()[..head]);
    let wanted = u64::from_le_bytes(wanted);
    let is_text = |ends: &[i32]| {
        let (from, to) = (ends[0] as usize, ends[1] as usize);
        if to - from != text.len() {
            return false;
        }
        match bytes[from..].first_chunk::<8>() {
            Some(first) if u64::from_le_bytes(*first) & mask_of_head != wanted => false,
            Some(_) if head == text.len() => true,
            // Others than a few at the end of the column have 8 bytes behind their start.
            _ => bytes[from..to] == *text.as_bytes(),
        }
    };
    let mut yes: Vec<bool> = array.value_offsets().windows(2).map(is_text).collect();
    let mut no: Vec<bool> = yes.iter().map(|yes| !yes).collect();
    if let Some(nulls) = array.nulls() {
        let valid: Vec<bool> = nulls.iter().collect();
        mask(&mut yes, &valid);
        mask(&mut no, &valid);
    }
    Truths { yes, no }
}

/// Reads a column in its canonical Arrow type.
fn read<'b>(array: &'b ArrayRef, column_type: ColumnType, name: &str) -> Vector<'b> {
    let wrong = || -> ! { panic!("column `{name}` is {column_type:?}, its array {:?}", array.data_type()) };
    let valid = || array.nulls().map(|nulls| nulls.iter().collect::<Vec<bool>>());
    match column_type {
        ColumnType::Boolean => {
            let array = array.as_boolean_opt().unwrap_or_else(|| wrong());
            Vector::Boolean(Truths::collect(array.iter()))
        }
        ColumnType::Integer => {
            let array = array.as_primitive_opt::<Int64Type>().unwrap_or_else(|| wrong());
            Vector::Integer(Values { values: Cow::Borrowed(array.values()), valid: valid() })
        }
        ColumnType::Number => {
            let numbers = array.as_primitive_opt::<Float64Type>().unwrap_or_else(|| wrong());
            let values = Values { values: Cow::Borrowed(&**numbers.values()), valid: valid() };
            if values.values.iter().all(|number| number.is_finite()) {
                return Vector::Number(values);
            }
            Vector::Number(values.map(0.0, finite))
        }
        ColumnType::Timestamp | ColumnType::Date => {
            let array = array.as_primitive_opt::<TimestampMillisecondType>().unwrap_or_else(|| wrong());
            Vector::Time(Values { values: Cow::Borrowed(array.values()), valid: valid() })
        }
        ColumnType::String => Vector::Text(Texts::Array(array.as_string_opt::<i32>().unwrap_or_else(|| wrong()))),
        ColumnType::ListString | ColumnType::ListInteger | ColumnType::ListNumber => {
            let element = element_type(column_type).expect("a list has elements");
            Vector::List(array.as_list_opt::<i32>().unwrap_or_else(|| wrong()), element)
        }
    }
}
