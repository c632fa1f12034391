//! Why a key is in audiences or not, and when that will change by itself.
//!
//! Computes, from the forecast of a key's facts, each written condition's truth now and the first later time at which it differs:
//! facts flip at times that are known, so membership is worked out at each of these. Assumes that nothing else happens: no event
//! but those that wait for their time, and no pull. Where windows of other keys decide a condition, inside `whose`, it is not worked out when
//! that condition, and what it stands in, will change.

use super::Inner;
use crate::state::forecast::Forecast;
use crate::state::windows::Shown;
use crate::time::Time;
use std::collections::BTreeSet;
use usher_core::api::{ExplainedAudience, ExplainedCondition, Moment};
use usher_queries::conditions::{Decided, Written};
use usher_queries::plan::ModelPlan;

/// Times of events that are shown of one condition: the newest so many.
const EVENTS_SHOWN: usize = 100;

/// A key's facts and memberships from one time on.
struct Moments {
    /// The first is now.
    at: Vec<Time>,
    /// By moment, then fact.
    facts: Vec<Vec<bool>>,
    /// By moment, then audience.
    members: Vec<Vec<bool>>,
}

impl Moments {
    /// `held`: by audience, until when the key is held for it, if it is.
    fn new(model: &ModelPlan, forecast: &[Forecast], held: &[Option<Time>], now: Time) -> Moments {
        let mut flips: BTreeSet<Time> = forecast.iter().flat_map(|fact| &fact.flips).copied().collect();
        flips.extend(held.iter().flatten());
        let mut moments = Moments { at: Vec::new(), facts: Vec::new(), members: Vec::new() };
        for at in [now].into_iter().chain(flips) {
            let truth = |fact: &Forecast| fact.truth ^ (fact.flips.partition_point(|flip| *flip <= at) % 2 == 1);
            let facts: Vec<bool> = forecast.iter().map(truth).collect();
            moments.at.push(at);
            let mut members = model.evaluate(|fact| facts[fact as usize]);
            for (member, held) in members.iter_mut().zip(held) {
                *member &= held.is_none_or(|until| at >= until);
            }
            moments.members.push(members);
            moments.facts.push(facts);
        }
        moments
    }

    /// The first time at which `truth`, by moment, is not as it is now.
    fn change(&self, truth: impl Fn(usize) -> bool) -> Option<Moment> {
        let now = truth(0);
        (1..self.at.len()).find(|moment| truth(*moment) != now).map(|moment| Moment(self.at[moment]))
    }

    fn holds(&self, written: &Written, moment: usize) -> bool {
        match written.decided {
            Decided::All => written.inside.iter().all(|of| self.holds(of, moment)),
            Decided::Any => written.inside.iter().any(|of| self.holds(of, moment)),
            Decided::Not => !self.holds(&written.inside[0], moment),
            Decided::Fact(fact) => self.facts[moment][fact as usize],
            Decided::Audience(audience) => self.members[moment][audience as usize],
        }
    }

    /// Whether the times at which a condition changes are known.
    fn is_foreseen(written: &Written, model: &ModelPlan, forecast: &[Forecast]) -> bool {
        match written.decided {
            Decided::All | Decided::Any | Decided::Not => {
                written.inside.iter().all(|of| Moments::is_foreseen(of, model, forecast))
            }
            Decided::Fact(fact) => !forecast[fact as usize].unforeseen,
            Decided::Audience(audience) => foresees_audience(model, audience as usize, forecast),
        }
    }

    fn condition(&self, written: &Written, model: &ModelPlan, forecast: &[Forecast]) -> ExplainedCondition {
        let fact = match written.decided {
            Decided::Fact(fact) => Some(&forecast[fact as usize]),
            _ => None,
        };
        // Whether rows meet what is inside `whose` is not of this key.
        let inside = if fact.is_some() { &[][..] } else { &written.inside };
        let events = fact.and_then(|fact| fact.events.as_ref());
        ExplainedCondition {
            kind: written.kind.to_owned(),
            text: written.text.clone(),
            holds: self.holds(written, 0),
            value: fact.and_then(|fact| fact.value.as_ref()).map(|value| match value {
                Shown::Count(count) => (*count).into(),
                Shown::CountOrMore(count) => format!("{count} or more").into(),
                Shown::Total(total) => total.clone().into(),
            }),
            threshold: written.threshold.clone(),
            events: events.map_or_else(Vec::new, |events| {
                events[events.len().saturating_sub(EVENTS_SHOWN)..].iter().map(|at| Moment(*at)).collect()
            }),
            changes_at: (self.change(|moment| self.holds(written, moment)))
                .filter(|_| Moments::is_foreseen(written, model, forecast)),
            conditions: inside.iter().map(|of| self.condition(of, model, forecast)).collect(),
        }
    }
}

/// Returns whether the times at which a membership changes are known: those of all facts that decide it.
fn foresees_audience(model: &ModelPlan, audience: usize, forecast: &[Forecast]) -> bool {
    Inner::facts(model, audience).into_iter().all(|fact| !forecast[fact as usize].unforeseen)
}

/// Explains the audiences of a model for a key with this outlook at `now`; `only`: one of them, by index. `held`: by audience, until
/// when the key is held for it, if it is.
pub(crate) fn explain(
    model: &ModelPlan,
    written: &[Written],
    (forecast, held): (&[Forecast], &[Option<Time>]),
    now: Time,
    only: Option<usize>,
) -> Vec<ExplainedAudience> {
    let moments = Moments::new(model, forecast, held, now);
    let audiences = model.audiences.iter().zip(written).enumerate();
    let asked = audiences.filter(|(index, _)| only.is_none_or(|only| only == *index));
    asked
        .map(|(index, (audience, written))| ExplainedAudience {
            audience_id: audience.id.clone(),
            audience_name: audience.name.clone(),
            member: moments.members[0][index],
            changes_at: (moments.change(|moment| moments.members[moment][index]))
                .filter(|_| foresees_audience(model, index, forecast)),
            condition: moments.condition(written, model, forecast),
        })
        .collect()
}
