//! The plan as text, for people and for comparison in tests.
//!
//! Per model: what is read of its rows, each audience's tree of conditions, and each fact with the audiences that share
//! it and the state it holds; then the events with what is read of their messages. The text depends on the plan alone:
//! the same job gives the same bytes. A fact is named by the first 8 digits of its fingerprint.

use crate::compile::canonical::{aggregate_name, count_range, hex};
use crate::plan::{
    AudiencePlan, EventFilter, EventPlan, Expr, Fact, FactKind, InheritedColumn, LivePlan, ModelPlan, Plan,
    SequenceStep, TraitPlan,
};
use crate::predicate::Predicate;
use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use usher_config::{Aggregate, Comparison, Members, Path, duration, nearest, some_of};

/// The requested audience is not in the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownAudience {
    /// The requested id.
    pub id: String,
    /// The nearest id of the job, if one is near.
    pub closest: Option<String>,
    /// Some ids of the job; `None` if it has no audience.
    pub some: Option<String>,
}

impl fmt::Display for UnknownAudience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown audience `{}`", self.id)?;
        match (&self.closest, &self.some) {
            (Some(closest), _) => write!(f, "\n  hint: did you mean `{closest}`?"),
            (None, Some(some)) => write!(f, "\n  hint: audiences of the job: {some}"),
            (None, None) => Ok(()),
        }
    }
}

impl std::error::Error for UnknownAudience {}

/// Explains the whole plan, or the part of it that `audience` needs: those that it mentions, their facts, models and
/// events.
///
/// # Errors
///
/// Returns an error if the job has no such audience.
pub fn explain(plan: &Plan, audience: Option<&str>) -> Result<String, UnknownAudience> {
    let requested = match audience {
        None => None,
        Some(id) if plan.job.audiences.contains_key(id) => Some(id),
        Some(id) => {
            let ids = || plan.job.audiences.keys().map(String::as_str);
            let (closest, some) = (nearest(id, ids()).map(str::to_string), some_of(ids()));
            return Err(UnknownAudience { id: id.to_string(), closest, some });
        }
    };
    let mut text = Explained { plan, out: String::new() };
    text.job(requested).expect("writing to a string");
    Ok(text.out)
}

struct Explained<'a> {
    plan: &'a Plan,
    out: String,
}

impl Explained<'_> {
    fn job(&mut self, requested: Option<&str>) -> fmt::Result {
        writeln!(self.out, "job {}", self.plan.job.name)?;
        let mut models = BTreeSet::new();
        let mut events = BTreeSet::new();
        let scopes = self.scopes(requested);
        for (ix, Scope { audiences, facts }) in scopes.iter().enumerate() {
            let model = &self.plan.models[ix];
            if requested.is_none() || !audiences.is_empty() {
                models.insert(ix);
            }
            for fact in facts {
                match &model.facts[*fact].kind {
                    FactKind::Related { model, .. } | FactKind::Tallied { model, .. } => {
                        models.extend([*model as usize])
                    }
                    FactKind::Property(predicate) => {
                        let named = predicate.of_parents.iter().flat_map(|of| &of.models);
                        models.extend(named.filter_map(|id| self.plan.models.iter().position(|of| of.id == *id)));
                    }
                    kind => events.extend(kind.events().into_iter().map(|event| event as usize)),
                }
            }
        }
        for ix in models {
            self.model(&self.plan.models[ix], &scopes[ix])?;
        }
        for (ix, event) in self.plan.events.iter().enumerate() {
            if requested.is_none() || events.contains(&ix) {
                self.event(event)?;
            }
        }
        Ok(())
    }

    /// Returns what of each model is explained: also the facts of rows that decide whether they count for facts of other models.
    fn scopes(&self, requested: Option<&str>) -> Vec<Scope> {
        let mut scopes: Vec<Scope> = self.plan.models.iter().map(|model| Scope::of(model, requested)).collect();
        let of_model =
            |(ix, scope): (usize, &Scope)| scope.facts.iter().map(move |fact| (ix, *fact)).collect::<Vec<_>>();
        let mut next: Vec<(usize, usize)> = scopes.iter().enumerate().flat_map(of_model).collect();
        while let Some((ix, fact)) = next.pop() {
            let FactKind::Tallied { model: child, .. } = self.plan.models[ix].facts[fact].kind else { continue };
            let facts = &mut scopes[child as usize].facts;
            let mut add = |of: u32| next.extend(facts.insert(of as usize).then_some((child as usize, of as usize)));
            self.plan.contribution(child as usize, fact as u32).counts.leaves(&mut add, &mut |_| ());
        }
        scopes
    }

    /// Returns the facts of its parent's keys that a fact of a row decides, with their model.
    fn counts_in(&self, model: &ModelPlan, fact: usize) -> Option<String> {
        let rows = model.rows.as_ref()?;
        let parent = &self.plan.models[rows.parent.as_ref()?.model as usize];
        let decided = rows.contributions.iter().filter(|of| {
            let mut found = false;
            of.counts.leaves(&mut |ix| found |= ix as usize == fact, &mut |_| ());
            found
        });
        let facts: Vec<String> = decided.map(|of| short(&parent.facts[of.fact as usize].fingerprint)).collect();
        (!facts.is_empty()).then(|| format!("{} of {}", facts.join(", "), parent.id))
    }

    fn model(&mut self, model: &ModelPlan, scope: &Scope) -> fmt::Result {
        let members = match model.members {
            Members::Known => "keys of the snapshot",
            Members::Any => "any known key",
        };
        writeln!(self.out, "\nmodel {}: members are {members}", model.id)?;
        match &model.snapshot {
            None if self.plan.job.models[&model.id].parquet.is_some() => {
                writeln!(self.out, "  not read: no audience is about its keys and no condition about its rows")?;
            }
            None => writeln!(self.out, "  no snapshot: known from events only")?,
            Some(snapshot) => {
                let parquet = self.plan.job.models[&model.id].parquet.as_ref();
                writeln!(self.out, "  reads {}", parquet.expect("a model with a snapshot has Parquet"))?;
                writeln!(self.out, "    key {}", snapshot.key)?;
                if let Some((parent, foreign_key)) = &snapshot.parent {
                    writeln!(self.out, "    foreign key {foreign_key} of {}", self.plan.models[*parent as usize].id)?;
                }
                for (name, column_type) in &snapshot.columns {
                    writeln!(self.out, "    column {name} {}", column_type)?;
                }
                for (name, column_type) in &snapshot.include {
                    writeln!(self.out, "    message column {name} {}", column_type)?;
                }
            }
        }
        for live in model.rows.iter().flat_map(|rows| &rows.live) {
            let (column, event) = (self.live_column(model, live), &self.plan.events[live.event as usize].id);
            writeln!(self.out, "  live column {column}: {} of {event}, where that is newer", live.property)?;
        }
        for InheritedColumn { column, .. } in model.rows.iter().flat_map(|rows| &rows.inherited) {
            writeln!(self.out, "  column of a parent {column} {}", column.column_type)?;
        }
        for ix in &scope.audiences {
            let audience = &model.audiences[*ix];
            write!(self.out, "\n  audience {}", audience.id)?;
            if audience.name != audience.id {
                write!(self.out, " \"{}\"", audience.name)?;
            }
            writeln!(self.out, " {}", short(&audience.fingerprint))?;
            self.tree(model, &audience.expr, 2)?;
        }
        for ix in &scope.facts {
            let fact = &model.facts[*ix];
            writeln!(self.out, "\n  fact {}", self.fact(model, fact))?;
            let users: Vec<&str> = model.audiences.iter().filter(|a| mentions(a, *ix)).map(|a| a.id.as_str()).collect();
            let users = users.into_iter().map(str::to_owned).chain(self.counts_in(model, *ix));
            writeln!(self.out, "    in {}", users.collect::<Vec<_>>().join(", "))?;
            writeln!(self.out, "    holds {}", state(self.plan, fact))?;
        }
        Ok(())
    }

    /// Returns a live column's name.
    fn live_column(&self, model: &ModelPlan, live: &LivePlan) -> String {
        let rows = model.rows.as_ref().expect("a model with a live column keeps rows");
        rows.columns[live.column as usize].0.clone()
    }

    fn tree(&mut self, model: &ModelPlan, expr: &Expr, depth: usize) -> fmt::Result {
        write!(self.out, "{:indent$}", "", indent = 2 * depth)?;
        match expr {
            Expr::All(parts) if parts.is_empty() => writeln!(self.out, "true"),
            Expr::Any(parts) if parts.is_empty() => writeln!(self.out, "false"),
            Expr::All(parts) => {
                writeln!(self.out, "all")?;
                parts.iter().try_for_each(|part| self.tree(model, part, depth + 1))
            }
            Expr::Any(parts) => {
                writeln!(self.out, "any")?;
                parts.iter().try_for_each(|part| self.tree(model, part, depth + 1))
            }
            Expr::Not(part) => {
                writeln!(self.out, "not")?;
                self.tree(model, part, depth + 1)
            }
            Expr::Fact(ix) => {
                let fact = self.fact(model, &model.facts[*ix as usize]);
                writeln!(self.out, "{fact}")
            }
            Expr::Audience(ix) => {
                writeln!(self.out, "audience {}", model.audiences[*ix as usize].id)
            }
        }
    }

    /// Returns a fact's short fingerprint and its condition, with the names of the job.
    fn fact(&self, model: &ModelPlan, fact: &Fact) -> String {
        let filtered = |filter: Option<&Predicate>| filter.map_or(String::new(), |p| format!(" where {}", p.text));
        let condition = match &fact.kind {
            FactKind::Known => format!("known in the snapshot of {}", model.id),
            FactKind::Property(predicate) => format!("property {}", predicate.text),
            FactKind::Performed { event, filter, within, least, most } => {
                let event = &self.plan.events[*event as usize];
                let filter = filtered(event.filters[*filter as usize].predicate.as_ref());
                format!("performed {}{filter}, {} within {}", event.id, count(*least, *most), duration::format(*within))
            }
            FactKind::Aggregated { event, filter, within, aggregate, comparison, .. } => {
                let event = &self.plan.events[*event as usize];
                let filter = filtered(event.filters[*filter as usize].predicate.as_ref());
                let column = aggregate.column().expect("the count is no aggregate of a column");
                let (what, compared) = (aggregate_name(aggregate), compared(comparison));
                let within = duration::format(*within);
                format!("performed {}{filter}, {what} of {column} {compared} within {within}", event.id)
            }
            FactKind::Sequence { steps, without, within } => self.sequence(steps, without, *within),
            FactKind::Tallied { model: child, aggregate, comparison, .. } => {
                self.tallied(model, fact, *child as usize, aggregate, comparison)
            }
            FactKind::Related { model, filter, aggregate, comparison, .. } => {
                let model = &self.plan.models[*model as usize].id;
                let what = match aggregate.column() {
                    None => String::new(),
                    Some(column) => format!("{} of {column} ", aggregate_name(aggregate)),
                };
                format!("related {model}{}, {what}{}", filtered(filter.as_ref()), compared(comparison))
            }
        };
        format!("{} {condition}", short(&fact.fingerprint))
    }

    /// Describes a sequence, step by step.
    fn sequence(&self, steps: &[SequenceStep], without: &[EventFilter], within: u64) -> String {
        let of = |of: &EventFilter| {
            let event = &self.plan.events[of.event as usize];
            let filter = event.filters[of.filter as usize].predicate.as_ref();
            format!("{}{}", event.id, filter.map_or(String::new(), |filter| format!(" where {}", filter.text)))
        };
        let step = |step: &SequenceStep| match step.after {
            Some(after) => format!("{} at most {} later", of(&step.of), duration::format(after)),
            None => of(&step.of),
        };
        let steps: Vec<String> = steps.iter().map(step).collect();
        let mut text = format!("sequence {}", steps.join(", then "));
        if !without.is_empty() {
            let without: Vec<String> = without.iter().map(of).collect();
            write!(text, ", without {}", without.join(" or ")).expect("writing to a string");
        }
        write!(text, ", within {}", duration::format(within)).expect("writing to a string");
        text
    }

    /// Describes a condition over the rows of a model, each of which counts where conditions of its own key hold.
    fn tallied(
        &self,
        of: &ModelPlan,
        fact: &Fact,
        child: usize,
        aggregate: &Aggregate,
        comparison: &Comparison,
    ) -> String {
        let what = match aggregate.column() {
            None => String::new(),
            Some(column) => format!("{} of {column} ", aggregate_name(aggregate)),
        };
        let ix = of.facts.iter().position(|known| known.fingerprint == fact.fingerprint).expect("a fact of the model");
        let contribution = self.plan.contribution(child, ix as u32);
        let child = &self.plan.models[child];
        let mut counts = Vec::new();
        let mut add = |fact: u32| counts.push(short(&child.facts[fact as usize].fingerprint));
        contribution.counts.leaves(&mut add, &mut |_| ());
        format!("related {} where {} decide, {what}{}", child.id, counts.join(", "), compared(comparison))
    }

    fn event(&mut self, event: &EventPlan) -> fmt::Result {
        let plan = self.plan;
        writeln!(self.out, "\nevent {}", event.id)?;
        let kind = event.kind.as_deref().unwrap_or("any");
        let names: Vec<String> = event.names.iter().map(|name| format!("\"{name}\"")).collect();
        let name = if names.is_empty() { "any".to_string() } else { names.join(" or ") };
        writeln!(self.out, "  messages of {}: type {kind}, name {name}", event.sources.join(", "))?;
        let key = event.foreign_key.as_ref().map_or("the format's user id".to_string(), Path::to_string);
        writeln!(self.out, "  key of {}: {key}", plan.models[event.model as usize].id)?;
        let time = event.timestamp.as_ref().map_or("the format's event time".to_string(), Path::to_string);
        writeln!(self.out, "  time: {time}")?;
        for column in &event.columns {
            writeln!(self.out, "  reads {} as {} {}", column.path, column.name, column.column_type)?;
        }
        for filter in &event.filters {
            let passing = filter.predicate.as_ref().map_or("all of them".to_string(), |p| format!("where {}", p.text));
            let facts: BTreeSet<usize> =
                filter.facts.iter().map(|position| event.facts[*position as usize] as usize).collect();
            let facts = facts.into_iter();
            let facts: Vec<String> =
                facts.map(|ix| short(&plan.models[event.model as usize].facts[ix].fingerprint)).collect();
            writeln!(self.out, "  decides {}: {passing}", facts.join(", "))?;
        }
        for TraitPlan { live, column } in &event.traits {
            let model = &plan.models[event.model as usize];
            let live = model.rows.as_ref().map(|rows| &rows.live[*live as usize]).expect("its model keeps rows");
            let name = self.live_column(model, live);
            let passing = event.shared.as_ref().map_or(String::new(), |p| format!(" where {}", p.text));
            writeln!(self.out, "  sets {name} of {} to {}{passing}", model.id, event.columns[*column as usize].name)?;
        }
        if event.filters.is_empty() && event.traits.is_empty() {
            writeln!(self.out, "  decides nothing")?;
        }
        Ok(())
    }
}

/// The part of a model that is explained: the indexes of audiences and facts.
struct Scope {
    audiences: BTreeSet<usize>,
    facts: BTreeSet<usize>,
}

impl Scope {
    fn of(model: &ModelPlan, requested: Option<&str>) -> Scope {
        let mut audiences = BTreeSet::new();
        let mut facts = BTreeSet::new();
        let wanted = |audience: &AudiencePlan| requested.is_none_or(|requested| audience.id == requested);
        let mut next: Vec<usize> = (0..model.audiences.len()).filter(|ix| wanted(&model.audiences[*ix])).collect();
        while let Some(ix) = next.pop() {
            if audiences.insert(ix) {
                let mut add = |fact| {
                    facts.insert(fact as usize);
                };
                model.audiences[ix].expr.leaves(&mut add, &mut |audience| next.push(audience as usize));
            }
        }
        Scope { audiences, facts }
    }
}

/// Returns whether an audience's own condition mentions a fact.
fn mentions(audience: &AudiencePlan, fact: usize) -> bool {
    let mut found = false;
    audience.expr.leaves(&mut |ix| found |= ix as usize == fact, &mut |_| ());
    found
}

/// Describes the state that is kept per key for a fact.
fn state(plan: &Plan, fact: &Fact) -> String {
    let moments = |filter: Option<&Predicate>| {
        if filter.is_some_and(Predicate::mentions_now) { ", and the times at which now() changes it" } else { "" }
    };
    match &fact.kind {
        FactKind::Known => "1 bit per key".to_string(),
        FactKind::Property(predicate) => {
            let of_parents = match predicate.of_parents[..] {
                [] => "",
                _ => "; on each worker, of each row that others belong to, what they read of it",
            };
            format!("1 bit per key{}{of_parents}", moments(Some(predicate)))
        }
        FactKind::Related { filter, aggregate, .. } => {
            let each = match aggregate {
                Aggregate::Count => "one count",
                Aggregate::Distinct(_) => "one hash of each related row's value",
                _ => "one number of each related row",
            };
            format!("1 bit and {each} per key{}", moments(filter.as_ref()))
        }
        FactKind::Tallied { aggregate, .. } => {
            let each = match aggregate {
                Aggregate::Count => "one count",
                Aggregate::Sum(_) | Aggregate::Avg(_) => "one sum",
                _ => "the values of related rows, each with its count,",
            };
            format!("1 bit and {each} per key; of each related row what it contributes")
        }
        FactKind::Aggregated { event, filter, aggregate, comparison, .. } => {
            let rises = plan.events[*event as usize].sum_only_rises(*filter, aggregate);
            aggregated_state(aggregate, comparison, rises)
        }
        FactKind::Sequence { without, .. } => {
            let or_excluded = if without.is_empty() { "" } else { " or is excluded" };
            format!("time and steps of each event per key in the window that matches one{or_excluded}, one timer")
        }
        FactKind::Performed { least, most: Some(most), .. } if most < least => "nothing: no count does".to_string(),
        FactKind::Performed { .. } => match fact.kind.newest().expect("performed counts the newest") {
            0 => "nothing: any count does".to_string(),
            1 => "the newest timestamp per key, one timer".to_string(),
            newest => format!("the newest {newest} timestamps per key, one timer"),
        },
    }
}

/// Describes the state that is kept per key for an aggregate of events, and its bound. `rises`: more events can only raise it.
fn aggregated_state(aggregate: &Aggregate, comparison: &Comparison, rises: bool) -> String {
    match (aggregate, comparison) {
        (Aggregate::Sum(_), Comparison::AtLeast(_) | Comparison::MoreThan(_)) if rises => {
            "time and value of the newest events in the window whose sum is enough, and their sum, per key, one timer"
                .to_string()
        }
        (Aggregate::Sum(_) | Aggregate::Avg(_), _) => {
            "time and value of each event in the window with a value, and their sum, per key, one timer".to_string()
        }
        (Aggregate::Distinct(_), comparison) => match count_range(comparison) {
            (least, Some(most)) if most < least => "nothing: no count does".to_string(),
            (0, None) => "nothing: any count does".to_string(),
            (least, most) => {
                let newest = most.map_or(least, |most| most + 1);
                format!("the newest timestamp of each of the newest {newest} values per key, one timer")
            }
        },
        (Aggregate::Max(_), Comparison::AtLeast(_) | Comparison::MoreThan(_))
        | (Aggregate::Min(_), Comparison::AtMost(_) | Comparison::LessThan(_)) => {
            "the newest event per key whose value is enough, one timer".to_string()
        }
        _ => "the newest event per key whose value holds, and the newest whose value breaks it, one timer".to_string(),
    }
}

/// Returns the first 8 digits of a fingerprint.
fn short(fingerprint: &[u8; 16]) -> String {
    hex(&fingerprint[..4])
}

/// Describes a range of counts.
fn count(least: u64, most: Option<u64>) -> String {
    match most {
        None => format!("at least {least}"),
        Some(most) if most < least => "never".to_string(),
        Some(most) if most == least => format!("exactly {least}"),
        Some(most) if least == 0 => format!("at most {most}"),
        Some(most) => format!("between {least} and {most}"),
    }
}

/// Describes a comparison.
fn compared(comparison: &Comparison) -> String {
    match comparison {
        Comparison::AtLeast(n) => format!("at least {n}"),
        Comparison::AtMost(n) => format!("at most {n}"),
        Comparison::MoreThan(n) => format!("more than {n}"),
        Comparison::LessThan(n) => format!("less than {n}"),
        Comparison::Exactly(n) => format!("exactly {n}"),
        Comparison::Between(least, most) => {
            format!("between {least} and {most}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fixtures::*;
    use crate::{Schemas, compile};
    use usher_config::Job;

    fn shop() -> Job {
        let viewed = |n| performed_where("priced", "path = '/pricing'", at_least(n), 4 * HOUR);
        let sum = Comparison::MoreThan(usher_config::Decimal::parse("99.5").expect("a decimal"));
        let mut job = job(&[
            (
                "keen",
                "users",
                all([viewed(3), property("ltv > 300"), not(performed("ordered", at_least(1), 5 * MINUTE))]),
            ),
            (
                "rich",
                "users",
                any([
                    property("ltv > 300"),
                    related(Some("status = 'paid'"), Aggregate::Sum("amount".into()), sum),
                    related(Some("due < now()"), Aggregate::Count, at_least(1)),
                ]),
            ),
            ("seen", "visitors", performed("visited", between(1, 2), 90 * SECOND)),
            ("target", "users", any([all([audience("keen"), property("trial_ends > now()")]), all([])])),
        ]);
        job.audiences.get_mut("keen").expect("an audience").name = "Keen on prices".to_string();
        job.syncs.insert("crm".to_string(), sync(&["keen"], &["plan"]));
        job
    }

    #[test]
    fn the_whole_plan() {
        let plan = compile(&shop(), "job.yaml", &Schemas::new()).expect("a sound job");
        insta::assert_snapshot!(explain(&plan, None).expect("the whole plan"));
    }

    #[test]
    fn an_aggregate_of_events_names_the_state_that_it_keeps() {
        let n = usher_config::Decimal::from;
        let column = || "revenue".to_string();
        let audiences = [
            ("a_sum", Aggregate::Sum(column()), Comparison::AtLeast(n(100))),
            ("b_most", Aggregate::Max(column()), Comparison::AtLeast(n(100))),
            ("c_all_small", Aggregate::Max(column()), Comparison::LessThan(n(100))),
            ("d_least", Aggregate::Min(column()), Comparison::Exactly(n(7))),
            ("e_prices", Aggregate::Distinct(column()), Comparison::Between(n(2), n(3))),
        ];
        let mut audiences: Vec<_> = audiences
            .map(|(id, aggregate, comparison)| (id, "users", performed_of("ordered", aggregate, comparison, 4 * HOUR)))
            .into();
        let mut rises = performed_of("ordered", Aggregate::Sum(column()), Comparison::MoreThan(n(50)), 4 * HOUR);
        if let usher_config::ConditionKind::Performed { filter, .. } = &mut rises.kind {
            *filter = Some(crate::testing::fixtures::text("revenue > 0"));
        }
        audiences.push(("f_rises", "users", rises));
        let plan =
            compile(&crate::testing::fixtures::job(&audiences), "job.yaml", &Schemas::new()).expect("a sound job");
        let text = explain(&plan, None).expect("the whole plan");
        let facts = text.lines().filter(|line| line.starts_with("  fact ") || line.starts_with("    holds "));
        let expected = [
            "performed ordered, sum of revenue at least 100 within 4h",
            "time and value of each event in the window with a value, and their sum, per key, one timer",
            "performed ordered where revenue > 0, sum of revenue more than 50 within 4h",
            "time and value of the newest events in the window whose sum is enough, and their sum, per key, one timer",
            "performed ordered, max of revenue at least 100 within 4h",
            "the newest event per key whose value is enough, one timer",
            "performed ordered, max of revenue less than 100 within 4h",
            "the newest event per key whose value holds, and the newest whose value breaks it, one timer",
            "performed ordered, min of revenue exactly 7 within 4h",
            "performed ordered, distinct of revenue between 2 and 3 within 4h",
            "the newest timestamp of each of the newest 4 values per key, one timer",
        ];
        let facts = facts.collect::<Vec<_>>().join("\n");
        for expected in expected {
            assert!(facts.contains(expected), "`{expected}` is not in:\n{facts}");
        }
    }

    #[test]
    fn a_sequence_is_explained_step_by_step_with_the_state_that_it_keeps() {
        let steps = || {
            [
                step("priced", Some("path = '/cart'"), None),
                step("priced", None, Some(90 * SECOND)),
                step("ordered", None, None),
            ]
        };
        let audiences = [
            ("plain", "users", sequence(steps(), &[], DAY)),
            ("without", "users", sequence(steps(), &["ordered"], DAY)),
        ];
        let job = crate::testing::fixtures::job(&audiences);
        let plan = compile(&job, "job.yaml", &Schemas::new()).expect("a sound job");
        let text = explain(&plan, None).expect("the whole plan");
        let steps = "sequence priced where path = '/cart', then priced at most 1m30s later, then ordered";
        for expected in [
            &format!(
                "{steps}, within 1d\n    in plain\n    holds time and steps of each event per key in the window that matches one, one timer\n"
            ),
            &format!(
                "{steps}, without ordered, within 1d\n    in without\n    holds time and steps of each event per key in the window that matches one or is excluded, one timer\n"
            ),
        ] {
            assert!(text.contains(expected), "`{expected}` is not in:\n{text}");
        }
    }

    #[test]
    fn one_audience_with_what_it_mentions() {
        let plan = compile(&shop(), "job.yaml", &Schemas::new()).expect("a sound job");
        insta::assert_snapshot!(explain(&plan, Some("target")).expect("an audience of the job"));
    }

    #[test]
    fn an_unknown_audience_gets_a_near_one_as_a_hint() {
        let plan = compile(&shop(), "job.yaml", &Schemas::new()).expect("a sound job");
        let error = explain(&plan, Some("tarqet")).expect_err("no such audience");
        assert_eq!(error.to_string(), "unknown audience `tarqet`\n  hint: did you mean `target`?");
        assert_eq!(explain(&plan, Some("xyzzy")).expect_err("no such audience").closest, None);
    }
}
