//! Builds conditions.

use usher_core::suggest::or_list;

use super::event::declared_property;
use super::model::{declared_type, has_live_columns, parent};
use super::{Builder, entry, text};
use crate::schema::condition as keys;
use crate::schema::{AnyKey, At, Fields, Key, Reference, audience, event, model};
use crate::{
    Aggregate, ColumnType, Comparison, Condition, ConditionKind, Decimal, EventMatch, Fragment, Place, SequenceStep,
    Text, duration, nearest,
};

/// The largest threshold of a count. It bounds what is stored per key.
const COUNT_MAX: i64 = 1_000_000_000;

/// A key that is one of several, and the constructor that takes its value.
type Alternative<T, V> = (&'static Key<T>, fn(T) -> V);

/// The aggregates of a column.
const AGGREGATES: [Alternative<String, Aggregate>; 5] = [
    (&keys::SUM, Aggregate::Sum),
    (&keys::AVG, Aggregate::Avg),
    (&keys::MIN, Aggregate::Min),
    (&keys::MAX, Aggregate::Max),
    (&keys::DISTINCT, Aggregate::Distinct),
];

/// The audience that a condition belongs to.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    /// The audience's id.
    pub audience: &'a str,
    /// The parent model's id, if it exists.
    pub model: Option<&'a str>,
    /// Whether the condition is inside `whose`, about keys of a related model.
    pub in_whose: bool,
}

impl<'a> Builder<'a> {
    pub(super) fn condition(&mut self, condition: &At<'a, &'a Fields>, scope: Scope<'a>) -> Option<Condition> {
        let fields = condition.value;
        let kind = if fields.has(&keys::ALL) {
            ConditionKind::All(self.conditions(fields.get(&keys::ALL)?, scope)?)
        } else if fields.has(&keys::ANY) {
            ConditionKind::Any(self.conditions(fields.get(&keys::ANY)?, scope)?)
        } else if fields.has(&keys::NOT) {
            ConditionKind::Not(Box::new(self.condition(&fields.at(&keys::NOT)?, scope)?))
        } else if fields.has(&keys::AUDIENCE) {
            ConditionKind::Audience(self.mention(&fields.at(&keys::AUDIENCE)?, scope)?)
        } else if fields.has(&keys::PROPERTY) {
            ConditionKind::Property(self.property(fields, scope)?)
        } else if fields.has(&keys::PERFORMED) {
            self.performed(condition, scope)?
        } else if fields.has(&keys::SEQUENCE) {
            self.sequence(fields, scope)?
        } else {
            self.related(condition, scope)?
        };
        Some(Condition { place: condition.place.clone(), kind })
    }

    /// Builds all conditions, even if one of them is wrong.
    fn conditions(&mut self, all: Vec<At<'a, &'a Fields>>, scope: Scope<'a>) -> Option<Vec<Condition>> {
        let conditions: Vec<_> = all.iter().map(|condition| self.condition(condition, scope)).collect();
        conditions.into_iter().collect()
    }

    fn mention(&mut self, reference: &At<'a, &'a Reference>, scope: Scope<'a>) -> Option<String> {
        let id = self.resolve(reference)?;
        self.mentions.entry(scope.audience).or_default().push((id, reference.place.clone()));
        let other = entry(&self.audiences, id).and_then(|fields| fields.get(&audience::MODEL));
        if let (Some(model), Some(other)) = (scope.model, other)
            && model != other.id
        {
            let message = format!("the audience `{id}` is of the model `{}`, this one of `{model}`", other.id);
            self.report(reference.place, message);
            return None;
        }
        Some(id.to_owned())
    }

    fn property(&mut self, fields: &'a Fields, scope: Scope<'a>) -> Option<Text> {
        let predicate = text(fields, &keys::PROPERTY)?;
        if let Some(id) = scope.model
            && let Some(model) = entry(&self.models, id)
            && !model.has(&model::PARQUET)
            && !model.has(&model::DELTA)
            && !has_live_columns(model)
        {
            let message =
                format!("the model `{id}` has no `parquet` and no live column, so its keys have no properties");
            let hint = "give the model `parquet` or `delta`, or test what the key did with `performed`";
            self.report_with_hint(&predicate.place, message, hint);
            return None;
        }
        self.keep(scope, &predicate.place, ConditionKind::Property(predicate.clone()));
        Some(predicate)
    }

    fn performed(&mut self, condition: &At<'a, &'a Fields>, scope: Scope<'a>) -> Option<ConditionKind> {
        let (place, fields) = (condition.place, condition.value);
        let event = self.event_of(fields, &keys::PERFORMED, scope);
        let aggregate = aggregate(condition).map(|aggregate| aggregate.value);
        let comparison = aggregate.as_ref().and_then(|aggregate| self.comparison(fields, aggregate, place));
        let declared = |column: &str| declared_property(entry(&self.events, event?)?, column);
        let declared = aggregate.as_ref().and_then(|aggregate| declared(aggregate.column()?));
        let aggregate = aggregate.filter(|aggregate| self.takes(fields, aggregate, declared));
        self.check_aggregated_property(fields, event);
        let filter = self.filter_of(fields, event, scope);
        Some(ConditionKind::Performed {
            event: event?.to_owned(),
            filter,
            aggregate: aggregate?,
            comparison: comparison?,
            within: fields.get(&keys::WITHIN)?,
        })
    }

    /// Returns the event under a key. Reports one that does not exist or is of another model than the audience's.
    fn event_of(&mut self, fields: &'a Fields, key: &Key<Reference>, scope: Scope<'a>) -> Option<&'a str> {
        let reference = fields.at(key)?;
        let event = self.resolve(&reference)?;
        if let Some(model) = scope.model
            && let Some(other) = entry(&self.events, event).and_then(|fields| fields.get(&event::MODEL))
            && other.id != model
        {
            if scope.in_whose {
                let message = format!("the event `{event}` is of the model `{}`, this `whose` of `{model}`", other.id);
                let is_of = |fields: &'a Fields| fields.get(&event::MODEL).is_some_and(|of| of.id == model);
                let events = self.events.iter().filter(|(_, fields)| fields.is_some_and(is_of));
                let events: Vec<&str> = events.map(|(id, _)| *id).collect();
                let hint = match events.as_slice() {
                    [] => format!("declare an event with `model: {model}`"),
                    events => format!("events of `{model}`: {}", or_list(events)),
                };
                self.report_with_hint(reference.place, message, hint);
                return None;
            }
            let message = format!("the event `{event}` is of the model `{}`, the audience of `{model}`", other.id);
            self.report(reference.place, message);
            return None;
        }
        Some(event)
    }

    /// Returns which events a condition is about: its predicate, which is kept as a fragment.
    fn filter_of(&mut self, fields: &'a Fields, event: Option<&'a str>, scope: Scope<'a>) -> Option<Text> {
        let filter = text(fields, &keys::WHICH_EVENTS);
        if let Some(filter) = &filter {
            let kind = ConditionKind::Performed {
                event: event.unwrap_or_default().to_owned(),
                filter: Some(filter.clone()),
                aggregate: Aggregate::Count,
                comparison: one_or_more(),
                within: 1_000,
            };
            self.keep(scope, &filter.place, kind);
        }
        filter
    }

    /// Builds all steps, even if one of them is wrong.
    fn sequence(&mut self, fields: &'a Fields, scope: Scope<'a>) -> Option<ConditionKind> {
        let mut steps: Vec<Option<SequenceStep>> = Vec::new();
        for step in fields.list(&keys::SEQUENCE) {
            let of = self.event_match(step.value, scope);
            let after = step.value.get(&keys::AFTER);
            if steps.is_empty() && step.value.has(&keys::AFTER) {
                let place = step.value.place(&keys::AFTER).unwrap_or(step.place);
                if let Some(after) = after.map(duration::format) {
                    let hint =
                        format!("put `after: {after}` on the step that comes at most {after} later than this one");
                    self.report_with_hint(place, "the first step has no step before it to come `after`", hint);
                }
                steps.push(None);
            } else {
                let is_sound = after.is_some() || !step.value.has(&keys::AFTER);
                steps.push(of.filter(|_| is_sound).map(|of| SequenceStep { of, after }));
            }
        }
        let without = fields.list(&keys::WITHOUT);
        let without: Vec<_> = without.iter().map(|of| self.event_match(of.value, scope)).collect();
        if !fields.has(&keys::SEQUENCE) || steps.is_empty() {
            return None;
        }
        Some(ConditionKind::Sequence {
            steps: steps.into_iter().collect::<Option<_>>()?,
            without: without.into_iter().collect::<Option<_>>()?,
            within: fields.get(&keys::WITHIN)?,
        })
    }

    /// Builds what events a step or `without` is about; `None` if a part of it is wrong and reported.
    fn event_match(&mut self, fields: &'a Fields, scope: Scope<'a>) -> Option<EventMatch> {
        let event = self.event_of(fields, &keys::STEP_EVENT, scope);
        let filter = self.filter_of(fields, event, scope);
        let is_sound = filter.is_some() || !fields.has(&keys::WHICH_EVENTS);
        Some(EventMatch { event: event.filter(|_| is_sound)?.to_owned(), filter })
    }

    fn related(&mut self, condition: &At<'a, &'a Fields>, scope: Scope<'a>) -> Option<ConditionKind> {
        let (place, fields) = (condition.place, condition.value);
        let reference = fields.at(&keys::RELATED);
        let rows = reference.as_ref().and_then(|reference| self.resolve(reference));
        let rows = match (&reference, rows, scope.model) {
            (Some(reference), Some(rows), Some(parent)) => {
                self.belongs(rows, parent, scope, reference.place).then_some(rows)
            }
            (_, rows, _) => rows,
        };
        let of = aggregate(condition);
        let comparison = of.as_ref().and_then(|of| self.comparison(fields, &of.value, place));
        let declared = |column: &str| declared_type(entry(&self.models, rows?)?, column);
        let declared = of.as_ref().and_then(|of| declared(of.value.column()?));
        let of = of.filter(|of| self.takes(fields, &of.value, declared));
        let filter = text(fields, &keys::WHICH_ROWS);
        let (aggregate, aggregate_place) = match &of {
            Some(At { place, value }) => (value.clone(), *place),
            None => (Aggregate::Count, place),
        };
        let kind = ConditionKind::Related {
            model: rows.unwrap_or_default().to_owned(),
            filter: filter.clone(),
            whose: None,
            aggregate,
            aggregate_place: aggregate_place.clone(),
            comparison: one_or_more(),
        };
        self.keep(scope, place, kind);
        let inner = Scope { audience: scope.audience, model: rows, in_whose: true };
        let whose = fields.at(&keys::WHOSE).map(|whose| self.condition(&whose, inner).map(Box::new));
        let whose = match (whose, fields.has(&keys::WHOSE)) {
            (Some(whose), _) => Some(whose?),
            (None, false) => None,
            (None, true) => return None,
        };
        let At { place, value: aggregate } = of?;
        Some(ConditionKind::Related {
            model: rows?.to_owned(),
            filter,
            whose,
            aggregate,
            aggregate_place: place.clone(),
            comparison: comparison?,
        })
    }

    /// Returns whether an aggregate takes its column as it is `declared`. Reports one that it does not take.
    fn takes(&mut self, fields: &'a Fields, aggregate: &Aggregate, declared: Option<ColumnType>) -> bool {
        let Some(declared) = declared.filter(|declared| !aggregate.takes(*declared)) else {
            return true;
        };
        let (key, _) = AGGREGATES.into_iter().find(|(key, _)| fields.has(*key)).expect("the count takes no column");
        let At { place, value: column } = fields.at(key).expect("a column that is declared has a name");
        let takes = if matches!(aggregate, Aggregate::Distinct(_)) { "no lists" } else { "an integer or number" };
        let message = format!("`{}` takes {takes}, and `{column}` is declared as `{declared}`", key.name());
        if declared.is_list() {
            self.report(place, message);
        } else {
            let hint = format!("declare `{column}` as `number`, or count its values: `distinct: {column}`");
            self.report_with_hint(place, message, hint);
        }
        false
    }

    /// Reports an aggregated property that the event does not have.
    fn check_aggregated_property(&mut self, fields: &'a Fields, event: Option<&'a str>) {
        let Some((id, declared)) = event.and_then(|id| Some((id, entry(&self.events, id)?))) else {
            return;
        };
        let Some((key, _)) = AGGREGATES.into_iter().find(|(key, _)| fields.has(*key)) else {
            return;
        };
        let Some(At { place, value: column }) = fields.at(key) else {
            return;
        };
        let names: Vec<&str> = declared.entries(&event::PROPERTIES).iter().map(|entry| entry.name).collect();
        if !names.contains(&column) {
            let message = format!("the event `{id}` has no property `{column}`");
            let hint = match nearest(column, names) {
                Some(close) => format!("did you mean `{close}`?"),
                None => format!("declare it at the event: `properties: {{{column}: number}}`"),
            };
            self.report_with_hint(place, message, hint);
        }
    }

    /// Returns whether a related model belongs to the audience's. Reports one that does not.
    fn belongs(&mut self, rows: &'a str, model: &'a str, scope: Scope<'a>, place: &Place) -> bool {
        let Some(fields) = entry(&self.models, rows) else {
            return true;
        };
        // A wrong `belongs_to` was reported at its own place.
        let wrong = fields.has(&model::BELONGS_TO) && parent(fields).is_none();
        if wrong || parent(fields) == Some(model) {
            return true;
        }
        let belongs = |fields: &Option<&'a Fields>| fields.and_then(parent) == Some(model);
        let belonging: Vec<&str> =
            self.models.iter().filter(|(_, fields)| belongs(fields)).map(|(id, _)| *id).collect();
        let whose = if scope.in_whose { "the model of this `whose`" } else { "the audience's model" };
        let message = format!("the model `{rows}` does not belong to `{model}`, {whose}");
        let hint = match belonging.as_slice() {
            [] => format!("give it `belongs_to: {{model: {model}, foreign_key: COLUMN}}`"),
            _ => format!("{} belongs to `{model}`", or_list(&belonging)),
        };
        self.report_with_hint(place, message, hint);
        false
    }

    /// Builds the comparison of an aggregate. Reports a threshold that no count can have, and an aggregate that is
    /// compared with nothing; only the count has a default.
    fn comparison(&mut self, fields: &'a Fields, aggregate: &Aggregate, place: &Place) -> Option<Comparison> {
        let counts = matches!(aggregate, Aggregate::Count | Aggregate::Distinct(_));
        let single: [Alternative<Decimal, Comparison>; 5] = [
            (&keys::AT_LEAST, Comparison::AtLeast),
            (&keys::AT_MOST, Comparison::AtMost),
            (&keys::MORE_THAN, Comparison::MoreThan),
            (&keys::LESS_THAN, Comparison::LessThan),
            (&keys::EXACTLY, Comparison::Exactly),
        ];
        if let Some((key, comparison)) = single.into_iter().find(|(key, _)| fields.has(*key)) {
            return self.threshold(&fields.at(key)?, counts).map(comparison);
        }
        if !fields.has(&keys::BETWEEN) {
            if let Some((key, _)) = AGGREGATES.into_iter().find(|(key, _)| fields.has(*key)) {
                let (key, column) = (key.name(), fields.get(key)?);
                let message = format!("`{key}: {column}` is compared with nothing");
                self.report_with_hint(place, message, format!("add a comparison: `{key}: {column}, at_least: 100`"));
                return None;
            }
            return Some(one_or_more());
        }
        let At { place, value: bounds } = fields.at(&keys::BETWEEN)?;
        let bounds: Option<Vec<Decimal>> = bounds.iter().map(|bound| self.threshold(bound, counts)).collect();
        match bounds?.as_slice() {
            [least, most] if least <= most => Some(Comparison::Between(*least, *most)),
            [least, most] => {
                let message = format!("nothing lies between `{least}` and `{most}`");
                self.report_with_hint(place, message, format!("write `[{most}, {least}]`"));
                None
            }
            _ => None,
        }
    }

    fn threshold(&mut self, threshold: &At<'_, Decimal>, counts: bool) -> Option<Decimal> {
        let number = threshold.value;
        if counts && !(number.is_whole() && (Decimal::from(0)..=Decimal::from(COUNT_MAX)).contains(&number)) {
            let message = format!("a count is compared with a whole number from 0 to {COUNT_MAX}, not with `{number}`");
            self.report(threshold.place, message);
            return None;
        }
        Some(number)
    }

    /// Keeps a condition with a predicate or an aggregated column as a fragment, whatever is wrong around it.
    fn keep(&mut self, scope: Scope<'a>, place: &Place, kind: ConditionKind) {
        let model = scope.model.unwrap_or_default().to_owned();
        let fragment = Fragment { model, condition: Condition { place: place.clone(), kind } };
        self.fragments.entry(scope.audience).or_default().push(fragment);
    }
}

/// Returns the aggregate of a `performed` or `related`, at the place of its column; for the count at that of the
/// condition. `None` if the column is wrong and reported.
fn aggregate<'a>(condition: &At<'a, &'a Fields>) -> Option<At<'a, Aggregate>> {
    let fields = condition.value;
    let Some((key, aggregate)) = AGGREGATES.into_iter().find(|(key, _)| fields.has(*key)) else {
        return Some(At { place: condition.place, value: Aggregate::Count });
    };
    let At { place, value: column } = fields.at(key)?;
    Some(At { place, value: aggregate(column.to_owned()) })
}

/// The comparison of a condition that has none.
fn one_or_more() -> Comparison {
    Comparison::AtLeast(Decimal::from(1))
}
