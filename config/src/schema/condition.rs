//! The keys of conditions, which contain conditions.

use super::{
    AnyKey, Duration, Fields, Key, List, NUMBER, PREDICATE, Record, Reference, Rule, Section, TEXT, Type, duration,
    list, one_of, optional, record, reference, required,
};
use crate::Decimal;

/// A condition. It is a function because a constant can't contain itself.
pub(crate) const fn condition() -> Type<Fields> {
    one_of("condition", &RECORDS)
}

static CONDITION: Type<Fields> = condition();

/// The kinds of conditions.
pub(crate) static RECORDS: [&Record; 8] = [
    &ALL_RECORD,
    &ANY_RECORD,
    &NOT_RECORD,
    &AUDIENCE_RECORD,
    &PROPERTY_RECORD,
    &PERFORMED_RECORD,
    &RELATED_RECORD,
    &SEQUENCE_RECORD,
];

pub(crate) static ALL: Key<List<Fields>> =
    required("all", list(&CONDITION, 0, usize::MAX), "All hold; true if the list is empty.");
static ALL_RECORD: Record = Record { what: "all", keys: &[&ALL], rules: &[] };

pub(crate) static ANY: Key<List<Fields>> =
    required("any", list(&CONDITION, 0, usize::MAX), "At least one holds; false if the list is empty.");
static ANY_RECORD: Record = Record { what: "any", keys: &[&ANY], rules: &[] };

pub(crate) static NOT: Key<Fields> = required("not", condition(), "It does not hold.");
static NOT_RECORD: Record = Record { what: "not", keys: &[&NOT], rules: &[] };

pub(crate) static AUDIENCE: Key<Reference> =
    required("audience", reference(Section::Audience), "The key is in that audience at the same time.");
static AUDIENCE_RECORD: Record = Record { what: "audience condition", keys: &[&AUDIENCE], rules: &[] };

pub(crate) static PROPERTY: Key<String> = required(
    "property",
    PREDICATE,
    "A predicate on the key's row of the model. False if there is no row. `accounts.plan` is a column of the row that it belongs to, null if \
     there is none.",
);
static PROPERTY_RECORD: Record = Record { what: "property condition", keys: &[&PROPERTY], rules: &[] };

pub(crate) static PERFORMED: Key<Reference> = required(
    "performed",
    reference(Section::Event),
    "The event's id. An aggregate over its events in the window is compared.",
);
pub(crate) static WHICH_EVENTS: Key<String> = optional("where", PREDICATE, "Which of them. Default: all.");
pub(crate) static WITHIN: Key<Duration> =
    required("within", duration(1_000, Duration::days(90).ms()), "The window, from 1s to 90d.");
static PERFORMED_RECORD: Record = Record {
    what: "performed",
    keys: &[
        &PERFORMED,
        &WHICH_EVENTS,
        &SUM,
        &AVG,
        &MIN,
        &MAX,
        &DISTINCT,
        &AT_LEAST,
        &AT_MOST,
        &MORE_THAN,
        &LESS_THAN,
        &EXACTLY,
        &BETWEEN,
        &WITHIN,
    ],
    rules: &[ONE_AGGREGATE, ONE_COMPARISON],
};

pub(crate) static RELATED: Key<Reference> = required(
    "related",
    reference(Section::Model),
    "The id of a model that belongs to the audience's model. An aggregate over the key's rows is compared.",
);
pub(crate) static WHICH_ROWS: Key<String> = optional("where", PREDICATE, "Which rows. Default: all.");
pub(crate) static SUM: Key<String> =
    optional("sum", TEXT, "Compare the sum of this column. Default: the number of rows or events.");
pub(crate) static AVG: Key<String> = optional("avg", TEXT, "Compare the mean of this column.");
pub(crate) static MIN: Key<String> = optional("min", TEXT, "Compare the least value of this column.");
pub(crate) static MAX: Key<String> = optional("max", TEXT, "Compare the greatest value of this column.");
pub(crate) static DISTINCT: Key<String> =
    optional("distinct", TEXT, "Compare the number of distinct values of this column.");
pub(crate) static WHOSE: Key<Fields> =
    optional("whose", condition(), "A condition of that model, which the key of a row must meet. Default: none.");
static RELATED_RECORD: Record = Record {
    what: "related",
    keys: &[
        &RELATED,
        &WHICH_ROWS,
        &WHOSE,
        &SUM,
        &AVG,
        &MIN,
        &MAX,
        &DISTINCT,
        &AT_LEAST,
        &AT_MOST,
        &MORE_THAN,
        &LESS_THAN,
        &EXACTLY,
        &BETWEEN,
    ],
    rules: &[ONE_AGGREGATE, ONE_COMPARISON],
};

/// The most steps of a sequence, and the most kinds of events that its `without` lists: each is a bit of a matched event.
pub(crate) const STEPS_MAX: usize = 32;

pub(crate) static SEQUENCE: Key<List<Fields>> = required(
    "sequence",
    list(&STEP, 2, STEPS_MAX),
    "The steps, in order: two or more. One event for each, strictly later than the one before, all in the window.",
);
pub(crate) static WITHOUT: Key<List<Fields>> = optional(
    "without",
    list(&EXCLUDED, 0, STEPS_MAX),
    "None of these events lies between the first and the last event of the sequence.",
);
static SEQUENCE_RECORD: Record = Record { what: "sequence", keys: &[&SEQUENCE, &WITHOUT, &WITHIN], rules: &[] };

static STEP: Type<Fields> = record(&STEP_RECORD);
pub(crate) static STEP_EVENT: Key<Reference> =
    required("performed", reference(Section::Event), "The event's id: one event of this kind.");
pub(crate) static AFTER: Key<Duration> = optional(
    "after",
    duration(0, Duration::days(90).ms()),
    "The event is at most so much later than that of the step before. Not on the first step. Default: no limit but the window.",
);
pub(crate) static STEP_RECORD: Record =
    Record { what: "a step", keys: &[&STEP_EVENT, &WHICH_EVENTS, &AFTER], rules: &[] };

static EXCLUDED: Type<Fields> = record(&EXCLUDED_RECORD);
pub(crate) static EXCLUDED_RECORD: Record =
    Record { what: "`without`", keys: &[&STEP_EVENT, &WHICH_EVENTS], rules: &[] };

pub(crate) static AT_LEAST: Key<Decimal> =
    optional("at_least", NUMBER, "n or more. A count without any comparison: 1 or more.");
pub(crate) static AT_MOST: Key<Decimal> = optional("at_most", NUMBER, "n or less.");
pub(crate) static MORE_THAN: Key<Decimal> = optional("more_than", NUMBER, "More than n.");
pub(crate) static LESS_THAN: Key<Decimal> = optional("less_than", NUMBER, "Less than n.");
pub(crate) static EXACTLY: Key<Decimal> = optional("exactly", NUMBER, "Exactly n.");
pub(crate) static BETWEEN: Key<List<Decimal>> =
    optional("between", list(&NUMBER, 2, 2), "From the first to the second, both included.");
static AGGREGATES: [&dyn AnyKey; 5] = [&SUM, &AVG, &MIN, &MAX, &DISTINCT];
const ONE_AGGREGATE: Rule = Rule::AtMostOne("aggregate", &AGGREGATES);
static COMPARISONS: [&dyn AnyKey; 6] = [&AT_LEAST, &AT_MOST, &MORE_THAN, &LESS_THAN, &EXACTLY, &BETWEEN];
const ONE_COMPARISON: Rule = Rule::AtMostOne("comparison", &COMPARISONS);
