//! Finds, among many predicates over rows of the same columns, those that can hold for a row.
//!
//! A predicate that requires that a column equals a text or an integer (`column = literal`, `column in (literals)`, alone or joined
//! by `and`) is found by the value of the column; others are candidates for each row. So a row costs what can hold for it, not
//! what there is. Promises that each predicate that holds is a candidate; candidates still have to be evaluated.

use super::Evaluator;
use super::tree::{Compare, ItemValues, Literal, Node};
use crate::Value;
use hashbrown::HashMap;

/// So many predicates must require a column before its value is looked up: a lookup costs about as much as to evaluate some of them.
const LEAST: usize = 6;

/// Predicates by what they require; a predicate is named by its position.
#[derive(Debug, Default)]
pub struct PredicateIndex {
    /// Those that are candidates for each row.
    always: Vec<u32>,
    by_value: Vec<ByValue>,
}

/// The predicates that require values of one column.
#[derive(Debug, Default)]
struct ByValue {
    /// The column's position in a row.
    column: usize,
    texts: HashMap<String, Vec<u32>>,
    integers: HashMap<i64, Vec<u32>>,
}

/// The values of which a column must have one.
enum Required<'p> {
    Texts(&'p [String]),
    Integers(&'p [i64]),
}

impl PredicateIndex {
    /// Enters predicates, each with the positions in a row of the columns that it reads; `None` is one that holds for each row.
    pub fn new<'p>(predicates: impl Iterator<Item = Option<(&'p Evaluator, &'p [usize])>>) -> PredicateIndex {
        let required: Vec<Vec<(usize, Required<'p>)>> = predicates
            .map(|of| match of {
                Some((evaluator, columns)) => required(&evaluator.root)
                    .into_iter()
                    .map(|(column, values)| (columns[column as usize], values))
                    .collect(),
                None => Vec::new(),
            })
            .collect();
        let mut uses: HashMap<usize, usize> = HashMap::new();
        required.iter().flatten().for_each(|(column, _)| *uses.entry(*column).or_default() += 1);
        let mut index = PredicateIndex::default();
        for (position, required) in (0..).zip(&required) {
            let most_used = required
                .iter()
                .filter(|(column, _)| uses[column] >= LEAST)
                .max_by_key(|(column, _)| (uses[column], *column));
            let Some((column, values)) = most_used else {
                index.always.push(position);
                continue;
            };
            let by_value = index.of_column(*column);
            match values {
                Required::Texts(texts) => {
                    texts.iter().for_each(|text| by_value.texts.entry(text.clone()).or_default().push(position));
                }
                Required::Integers(integers) => {
                    integers.iter().for_each(|integer| by_value.integers.entry(*integer).or_default().push(position));
                }
            }
        }
        index
    }

    fn of_column(&mut self, column: usize) -> &mut ByValue {
        let known = self.by_value.iter().position(|of| of.column == column);
        let at = known.unwrap_or_else(|| {
            self.by_value.push(ByValue { column, ..ByValue::default() });
            self.by_value.len() - 1
        });
        &mut self.by_value[at]
    }

    /// Returns the positions of the predicates that can hold for a row, each once, in no order.
    pub fn candidates<'i>(&'i self, row: &'i [Value<'_>]) -> impl Iterator<Item = usize> + 'i {
        self.always().chain(self.found(row))
    }

    /// Returns the positions of the predicates that are candidates for each row.
    pub fn always(&self) -> impl Iterator<Item = usize> + '_ {
        self.always.iter().map(|position| *position as usize)
    }

    /// Returns the positions of the other predicates that can hold for a row, of which only the values of [`columns`] are read.
    ///
    /// [`columns`]: PredicateIndex::columns
    pub fn found<'i>(&'i self, row: &'i [Value<'_>]) -> impl Iterator<Item = usize> + 'i {
        let found = self.by_value.iter().filter_map(|of| match &row[of.column] {
            Value::String(text) => of.texts.get(&**text),
            Value::Integer(integer) => of.integers.get(integer),
            _ => None,
        });
        found.flatten().map(|position| *position as usize)
    }

    /// Returns the positions in a row of the columns by whose values predicates are found.
    pub fn columns(&self) -> impl Iterator<Item = usize> + '_ {
        self.by_value.iter().map(|of| of.column)
    }
}

/// Returns the columns of which a condition requires values, with these.
fn required(node: &Node) -> Vec<(u32, Required<'_>)> {
    match node {
        Node::All(parts) => parts.iter().flat_map(required).collect(),
        Node::Compare(Compare::Equal, left, right) => match (&**left, &**right) {
            (Node::Column(column), Node::Literal(Literal::Text(text))) => {
                vec![(*column, Required::Texts(std::slice::from_ref(text)))]
            }
            (Node::Column(column), Node::Literal(Literal::Integer(integer))) => {
                vec![(*column, Required::Integers(std::slice::from_ref(integer)))]
            }
            _ => Vec::new(),
        },
        Node::In(operand, items) => match (&**operand, &items.values) {
            (Node::Column(column), ItemValues::Text(texts)) => vec![(*column, Required::Texts(texts))],
            (Node::Column(column), ItemValues::Integer(integers)) => vec![(*column, Required::Integers(integers))],
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predicate::{NoParents, Now, Predicate};
    use fastrand::Rng;
    use usher_config::{ColumnType, Place, Text};

    const COLUMNS: [(&str, ColumnType); 3] =
        [("page", ColumnType::String), ("amount", ColumnType::Number), ("step", ColumnType::Integer)];

    fn predicate(text: &str) -> Predicate {
        let of = |name: &str| COLUMNS.iter().find(|(column, _)| *column == name).map(|(_, of)| *of);
        let text = Text { value: text.to_owned(), place: Place::default() };
        Predicate::parse(&text, &of, &[], &NoParents, Now::Refused).expect("the predicate is right")
    }

    fn random_text(random: &mut Rng) -> String {
        let page = random.u32(0..12);
        let part = match random.u32(0..8) {
            0..3 => format!("page = 'p{page}'"),
            3 => format!("page in ('p{page}', 'p{}', null)", random.u32(0..12)),
            4 => format!("step = {}", random.u32(0..4)),
            5 => format!("{} = step", random.u32(0..4)),
            6 => format!("page <> 'p{page}' or amount > 3"),
            _ => format!("amount >= {}", random.u32(0..5)),
        };
        if random.u32(0..5) < 2 { format!("({part}) and ({})", random_text(random)) } else { part }
    }

    fn random_row(random: &mut Rng) -> Vec<Value<'static>> {
        let row = [
            Value::String(format!("p{}", random.u32(0..12)).into()),
            Value::Number(f64::from(random.u32(0..6))),
            Value::Integer(random.i64(0..5)),
        ];
        row.map(|value| if random.u32(0..10) == 0 { Value::Null } else { value }).into()
    }

    /// Whatever is required, the predicates that hold are among the candidates, and none is named twice.
    #[test]
    fn candidates_contain_what_holds() {
        let mut left_out = 0;
        for seed in 0..200 {
            let random = &mut Rng::with_seed(seed);
            let predicates: Vec<Predicate> = (0..random.u32(1..60)).map(|_| predicate(&random_text(random))).collect();
            let at = |name: &str| COLUMNS.iter().position(|(column, _)| *column == name).expect("a column");
            let columns = |of: &Predicate| of.columns.iter().map(|(name, _)| at(name)).collect::<Vec<usize>>();
            let prepared: Vec<(Evaluator, Vec<usize>)> =
                predicates.iter().map(|of| (Evaluator::new(of), columns(of))).collect();
            let index =
                PredicateIndex::new(prepared.iter().map(|(evaluator, columns)| Some((evaluator, &columns[..]))));
            for _ in 0..20 {
                let row = random_row(random);
                let mut candidates: Vec<usize> = index.candidates(&row).collect();
                left_out += prepared.len() - candidates.len();
                candidates.sort_unstable();
                assert!(candidates.is_sorted_by(|a, b| a < b), "seed {seed}: {row:?} names one twice");
                for (position, (evaluator, columns)) in prepared.iter().enumerate() {
                    let own: Vec<Value<'_>> = columns.iter().map(|column| row[*column].clone()).collect();
                    assert!(
                        !evaluator.holds(&own, 0) || candidates.contains(&position),
                        "seed {seed}: {} holds for {row:?} and is no candidate",
                        predicates[position].text
                    );
                }
            }
        }
        assert!(left_out > 10_000, "few predicates were left out by a value: {left_out}");
    }
}
