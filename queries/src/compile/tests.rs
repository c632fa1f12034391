//! What compiling promises: identity, order, canonical forms, and problems.

use super::canonical::count_range;
use super::{Schemas, check_salvage, compile, needs_schema};
use crate::plan::{EXCLUDED, Expr, Fact, FactKind, ModelPlan, Plan};
use crate::testing::fixtures::*;
use std::collections::BTreeSet;
use usher_config::{
    Aggregate, Broken, ColumnType, Comparison, Condition, ConditionKind, Decimal, Event, Job, Place, Problems,
    SequenceStep,
};

fn plan(audiences: &[(&str, &str, Condition)]) -> Plan {
    compile(&job(audiences), "job.yaml", &Schemas::new()).unwrap_or_else(|problems| panic!("{problems}"))
}

fn problems(audiences: &[(&str, &str, Condition)]) -> String {
    compile(&job(audiences), "job.yaml", &Schemas::new()).expect_err("something is wrong").to_string()
}

fn model<'p>(plan: &'p Plan, id: &str) -> &'p ModelPlan {
    plan.models.iter().find(|model| model.id == id).expect("a model of the job")
}

/// Returns the expression of the only audience, without `known`.
fn expr_of(condition: Condition) -> Expr {
    let plan = plan(&[("a", "users", condition)]);
    let Expr::All(parts) = &model(&plan, "users").audiences[0].expr else { panic!("known is not outermost") };
    assert_eq!(parts[0], Expr::Fact(0));
    Expr::All(parts[1..].to_vec())
}

fn priced(n: i64) -> Condition {
    performed("priced", at_least(n), HOUR)
}

#[test]
fn equal_conditions_of_different_audiences_are_one_fact() {
    let more_than = Comparison::MoreThan(Decimal::from(2));
    let plan = plan(&[
        ("a", "users", priced(3)),
        ("b", "users", not(performed("priced", more_than, HOUR))),
        ("c", "users", any([priced(3), priced(4)])),
    ]);
    let users = model(&plan, "users");
    assert_eq!(users.facts.len(), 3, "known, at least 3, at least 4");
    assert_eq!(users.facts[0].kind, FactKind::Known);
    let priced = plan.events.iter().find(|event| event.id == "priced").expect("an event");
    assert_eq!(priced.filters.len(), 1);
    assert_eq!((&priced.facts, &priced.filters[0].facts), (&vec![1, 2], &vec![0, 1]));
}

#[test]
fn neither_ids_of_audiences_nor_their_order_move_a_fact() {
    let conditions =
        || [priced(1), performed("ordered", exactly(0), MINUTE), related(None, Aggregate::Count, at_least(2))];
    let [a, b, c] = conditions();
    let one = plan(&[("a", "users", a), ("b", "users", b), ("c", "users", c)]);
    let [a, b, c] = conditions();
    let other = plan(&[("z", "users", a), ("y", "users", b), ("x", "users", c)]);
    assert_eq!(model(&one, "users").facts, model(&other, "users").facts);
    assert_eq!(one.events, other.events);
    let fingerprints = |plan: &Plan| {
        let users = model(plan, "users");
        users.audiences.iter().map(|audience| audience.fingerprint).collect::<BTreeSet<_>>()
    };
    assert_eq!(fingerprints(&one), fingerprints(&other), "an audience's identity is its meaning, not its id");
}

#[test]
fn every_comparison_of_a_count_becomes_a_range() {
    let decimal = |text: &str| Decimal::parse(text).expect("a decimal");
    let never = (1, Some(0));
    for (comparison, expected) in [
        (at_least(3), (3, None)),
        (at_least(0), (0, None)),
        (at_least(-1), (0, None)),
        (Comparison::AtLeast(decimal("2.5")), (3, None)),
        (Comparison::MoreThan(decimal("2")), (3, None)),
        (Comparison::MoreThan(decimal("2.5")), (3, None)),
        (Comparison::MoreThan(decimal("-2.5")), (0, None)),
        (at_most(2), (0, Some(2))),
        (at_most(0), (0, Some(0))),
        (at_most(-1), never),
        (Comparison::LessThan(decimal("3")), (0, Some(2))),
        (Comparison::LessThan(decimal("2.5")), (0, Some(2))),
        (Comparison::LessThan(decimal("0")), never),
        (exactly(2), (2, Some(2))),
        (Comparison::Exactly(decimal("2.5")), never),
        (between(1, 4), (1, Some(4))),
        (between(4, 1), never),
        (Comparison::Between(decimal("0.5"), decimal("1.5")), (1, Some(1))),
        (Comparison::AtLeast(decimal("10000000000000000000000000000")), never),
        (Comparison::AtMost(decimal("10000000000000000000000000000")), (0, None)),
    ] {
        assert_eq!(count_range(&comparison), expected, "{comparison:?}");
    }
}

#[test]
fn expressions_are_flat_sorted_and_without_repeats_or_constants() {
    let [x, y] = [Expr::Fact(1), Expr::Fact(2)];
    let both = Expr::All(vec![x.clone(), y.clone()]);
    assert_eq!(expr_of(all([priced(2), all([priced(1), all([priced(2)])]), all([])])), both);
    assert_eq!(expr_of(not(not(all([priced(1), priced(2)])))), both);
    assert_eq!(
        expr_of(any([priced(2), any([priced(1), any([])]), priced(1)])),
        Expr::All(vec![Expr::Any(vec![x.clone(), y])])
    );
    assert_eq!(expr_of(any([priced(1)])), Expr::All(vec![x.clone()]));
    let [always, never] = [Expr::All(vec![]), Expr::Any(vec![])];
    assert_eq!(expr_of(any([not(any([])), all([])])), always);
    assert_eq!(expr_of(all([any([]), not(all([]))])), Expr::All(vec![never.clone()]));
    let beside = "conditions beside a constant still give reasons";
    assert_eq!(
        expr_of(all([any([priced(1), not(any([]))])])),
        Expr::All(vec![Expr::Any(vec![always, x.clone()])]),
        "{beside}"
    );
    assert_eq!(expr_of(all([priced(1), any([])])), Expr::All(vec![never, x]), "{beside}");
    assert_eq!(expr_of(all([])), Expr::All(vec![]));
}

#[test]
fn the_default_is_the_truth_for_a_key_of_which_nothing_is_known() {
    for (condition, default) in [
        (priced(1), false),
        (priced(0), true),
        (performed("priced", at_most(0), HOUR), true),
        (performed("priced", Comparison::LessThan(Decimal::from(0)), HOUR), false),
        (related(None, Aggregate::Count, at_most(3)), true),
        (related(None, Aggregate::Sum("amount".into()), exactly(0)), true),
        (related(None, Aggregate::Sum("amount".into()), at_least(1)), false),
        (related(None, Aggregate::Avg("amount".into()), at_most(3)), false),
        (related(None, Aggregate::Distinct("status".into()), at_most(0)), true),
    ] {
        let plan = plan(&[("a", "users", condition.clone())]);
        assert_eq!(model(&plan, "users").facts[1].default, default, "{condition:?}");
    }
}

#[test]
fn an_audiences_fingerprint_covers_what_it_mentions() {
    let with_base = |condition| {
        let plan = plan(&[("base", "users", condition), ("top", "users", not(audience("base")))]);
        model(&plan, "users").audiences[1].fingerprint
    };
    assert_eq!(with_base(priced(1)), with_base(all([priced(1), priced(1)])));
    assert_ne!(with_base(priced(1)), with_base(priced(2)));
}

#[test]
fn audiences_come_after_those_they_mention() {
    let plan = plan(&[("a", "users", audience("c")), ("b", "users", priced(1)), ("c", "users", not(audience("b")))]);
    assert_eq!(model(&plan, "users").order, [1, 2, 0]);
}

#[test]
fn two_events_of_one_definition_share_their_facts_whatever_they_are_called() {
    let mut twice = job(&[("a", "users", priced(1)), ("b", "users", performed("also_priced", at_least(1), HOUR))]);
    let mut also = twice.events["priced"].clone();
    also.label = Some("Looked at the price".to_string());
    also.properties.extend([property_at("more", ColumnType::Integer)]);
    twice.events.insert("also_priced".to_string(), also);
    let plan = compile(&twice, "job.yaml", &Schemas::new()).expect("a sound job");
    let users = model(&plan, "users");
    assert_eq!(users.facts.len(), 2);
    assert_eq!(users.audiences[0].fingerprint, users.audiences[1].fingerprint);
    let facts: Vec<(&str, usize)> = plan.events.iter().map(|event| (event.id.as_str(), event.facts.len())).collect();
    assert_eq!(facts, [("also_priced", 1), ("ordered", 0), ("priced", 0), ("visited", 0)]);

    twice.events.get_mut("also_priced").expect("an event").kind = None;
    let plan = compile(&twice, "job.yaml", &Schemas::new()).expect("a sound job");
    assert_eq!(model(&plan, "users").facts.len(), 3, "another definition is another event");
}

#[test]
fn only_models_that_something_needs_are_read() {
    let read = |audiences: &[(&str, &str, Condition)]| {
        let plan = plan(audiences);
        plan.models.iter().filter(|m| m.snapshot.is_some()).map(|m| m.id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(read(&[]), [""; 0]);
    assert_eq!(read(&[("a", "users", priced(1))]), ["users"]);
    assert_eq!(read(&[("a", "visitors", performed("visited", at_least(1), HOUR))]), [""; 0]);
    let sum = [("a", "users", related(None, Aggregate::Sum("amount".into()), at_least(1)))];
    assert_eq!(read(&sum), ["orders", "users"]);
    let plan = plan(&sum);
    let orders = model(&plan, "orders").snapshot.as_ref().expect("orders are read");
    assert_eq!(orders.columns, [("amount".to_string(), ColumnType::Number)]);
    assert_eq!(orders.parent, Some((1, "customer_id".to_string())));
    assert_eq!(model(&plan, "users").snapshot.as_ref().expect("users are read").parent, None);
}

#[test]
fn an_audience_of_anyone_that_needs_nothing_known_is_a_problem() {
    let visited = |comparison| performed("visited", comparison, HOUR);
    plan(&[("seen", "visitors", visited(at_least(1)))]);
    plan(&[("seen", "visitors", any([])), ("unseen", "users", not(property("ltv > 1")))]);
    assert_eq!(
        problems(&[
            ("seen", "visitors", visited(at_least(1))),
            ("unseen", "visitors", not(audience("seen"))),
            ("idle", "visitors", visited(at_most(3))),
        ]),
        "job.yaml:20:3: audiences.unseen: audience `unseen` would hold for a key of which nothing is known\n  \
         hint: add a condition that only something known can fulfil, such as a `performed`, or give the model \
         `parquet` and `members: known`\n\
         job.yaml:30:3: audiences.idle: audience `idle` would hold for a key of which nothing is known\n  \
         hint: add a condition that only something known can fulfil, such as a `performed`, or give the model \
         `parquet` and `members: known`\n"
    );
}

#[test]
fn an_audience_of_anyone_is_a_problem_whatever_is_wrong_with_predicates() {
    let text = problems(&[
        ("idle", "visitors", not(performed_where("visited", "pat = '/'", at_least(1), HOUR))),
        ("rich", "users", property("ltx > 1")),
    ]);
    let expected = [
        "audiences.idle: audience `idle` would hold for a key of which nothing is known",
        "unknown column `ltx` at column 1",
        "unknown column `pat` at column 1",
    ];
    assert!(expected.iter().all(|problem| text.contains(problem)), "{text}");
}

/// Returns a job file with this condition on keys of `users`, beside an audience of `visitors`.
fn job_file(condition: &str) -> String {
    format!(
        "job: shop
sources: {{web: {{file: {{path: events.jsonl}}, format: segment}}}}
models:
  users: {{parquet: users.parquet, key: user_id, columns: {{ltv: number}}}}
  orders: {{parquet: orders.parquet, key: order_id, columns: {{amount: number}}, \
         belongs_to: {{model: users, foreign_key: customer_id}}}}
  visitors: {{key: visitor_id}}
events:
  priced: {{source: web, type: page, model: users}}
  visited: {{source: web, type: page, model: visitors}}
audiences:
  base: {{model: visitors, where: {{performed: visited, within: 1h}}}}
  target: {{model: users, where: {condition}}}
"
    )
}

#[test]
fn config_refuses_what_compiling_asserts() {
    let read = |condition: &str| usher_config::parse(&job_file(condition), "job.yaml", ".".as_ref(), &|_| None);
    let sound = read("{performed: priced, within: 1h}").expect("a sound job");
    compile(&sound, "job.yaml", &Schemas::new()).expect("a sound job");
    for (condition, problem) in [
        ("{audience: bass}", "unknown audience `bass`\n  hint: did you mean `base`?"),
        ("{audience: base}", "the audience `base` is of the model `visitors`, this one of `users`"),
        ("{not: {audience: target}}", "audiences depend on each other in a circle: `target` -> `target`"),
        ("{performed: prised, within: 1h}", "unknown event `prised`\n  hint: did you mean `priced`?"),
        ("{performed: visited, within: 1h}", "the event `visited` is of the model `visitors`, the audience of `users`"),
        ("{performed: priced, sum: amount, at_least: 1, within: 1h}", "the event `priced` has no property `amount`"),
        ("{related: order}", "unknown model `order`\n  hint: did you mean `orders`?"),
        ("{related: visitors}", "the model `visitors` does not belong to `users`, the audience's model"),
    ] {
        let problems = read(condition).expect_err(condition).to_string();
        assert!(problems.contains(problem), "{condition}: {problems}");
    }
}

#[test]
#[should_panic(expected = "config refuses audiences that depend on each other in a circle: {\"a\", \"b\", \"c\"}")]
fn a_job_that_config_did_not_check_is_a_bug() {
    plan(&[
        ("c", "users", audience("a")),
        ("a", "users", not(audience("b"))),
        ("b", "users", any([audience("a"), priced(1)])),
    ]);
}

#[test]
fn all_that_is_wrong_is_reported_at_once_in_the_files_order() {
    let at = |line, mut condition: Condition| {
        condition.place = Place { path: format!("line{line}"), line, column: 1, ..Place::default() };
        if let ConditionKind::Related { aggregate_place, .. } = &mut condition.kind {
            *aggregate_place = Place { path: format!("line{line}.column"), column: 30, ..condition.place.clone() };
        }
        condition
    };
    let predicate_at = |line, text: &str| {
        let mut condition = at(line, property(text));
        let ConditionKind::Property(predicate) = &mut condition.kind else { panic!("`property` makes no other kind") };
        predicate.place = condition.place.clone();
        condition
    };
    assert_eq!(
        problems(&[
            ("z", "users", at(6, related(None, Aggregate::Sum("status".into()), at_least(1)))),
            ("y", "users", at(5, related(None, Aggregate::Max("amonut".into()), at_least(1)))),
            ("x", "users", all([predicate_at(4, "ltv = 'x'"), predicate_at(2, "ltx > 300 and pro")])),
            ("w", "users", any([priced(1), predicate_at(3, "plan =")])),
            ("target", "users", at(1, priced(1))),
        ]),
        "job.yaml:2:1: line2: unknown column `ltx` at column 1\n  hint: did you mean `ltv`?\n\
         job.yaml:2:1: line2: unknown column `pro` at column 15\n  hint: columns: `ltv`, `plan` and `trial_ends`\n\
         job.yaml:3:1: line3: expected an expression, found the end\n\
         job.yaml:4:1: line4: `=` takes one type, found number and string at column 7\n  \
         hint: numbers have no quotes: `5`\n\
         job.yaml:5:30: line5.column: unknown column `amonut`\n  hint: did you mean `amount`?\n\
         job.yaml:6:30: line6.column: `sum` takes integers and numbers, and column `status` is string\n"
    );
}

/// Returns all that is wrong with a job file, whether that is found before it is compiled or then.
fn found(text: &str) -> Vec<String> {
    let files: usher_config::Include = &|_| Ok(Vec::new());
    let problems = match usher_config::parse_or_salvage(text, "job.yaml", ".".as_ref(), &|_| None, files) {
        Ok(job) => compile(&job, "job.yaml", &Schemas::new()).expect_err("something is wrong").problems,
        Err(Broken { problems, salvage }) => {
            let salvage = salvage.expect("the file is a mapping");
            [problems.problems, check_salvage(&salvage, &Schemas::new())].concat()
        }
    };
    let problems = Problems::new("job.yaml", problems).problems;
    problems.iter().map(|problem| format!("{}: {}", problem.place.path, problem.message)).collect()
}

#[test]
fn a_wrong_column_of_an_aggregate_is_reported_at_the_column_whatever_else_is_wrong() {
    let text = "
job: shop
models:
  accounts: {parquet: a/, key: id, columns: {size: integer}}
  users: {parquet: u/, key: id, columns: {name: string, tags: list<string>}, belongs_to: {model: accounts, foreign_key: a}}
audiences:
  b:
    model: accounts
    where:
      all:
        - {related: users, sum: nmae, at_least: 1}
        - {related: users, distinct: nope, at_least: 1}
        - {related: users, sum: accounts.size, at_least: 1}
        - {related: users, whose: {related: users}, at_least: 1}
";
    let alone = text.replace("        - {related: users, whose: {related: users}, at_least: 1}\n", "");
    let expected = [
        "audiences.b.where.all[0].sum: unknown column `nmae`",
        "audiences.b.where.all[1].distinct: unknown column `nope`",
        "audiences.b.where.all[2].sum: `accounts.size` is a column of a parent, which only predicates read: an aggregate \
         takes a column of the rows themselves",
    ];
    assert_eq!(found(&alone), expected);
    let with_another = [&expected[..], &["limit: unknown key `limit`"]].concat();
    assert_eq!(found(&(alone + "limit: {}\n")), with_another);
    let related = "audiences.b.where.all[3].whose.related: the model `users` does not belong to `users`, the model of this \
                   `whose`";
    assert_eq!(found(text), [&expected[..], &[related]].concat());
}

#[test]
fn audiences_of_unknown_keys_are_reported_beside_other_problems() {
    let text = "
job: shop
sources: {web: {file: {path: e.jsonl}, format: segment}}
models: {users: {}}
events: {a: {source: web, model: users}}
audiences:
  a: {model: users, where: {not: {performed: a, within: 1h}}}
  b: {model: users, where: {all: []}}
  c: {model: users, where: {any: []}}
  d: {model: users, where: {performed: a, at_most: 0, within: 1h}}
  f: {model: users, where: {not: {audience: c}}}
";
    let unknown = |id: &str| format!("audiences.{id}: audience `{id}` would hold for a key of which nothing is known");
    let expected = ["a", "b", "d", "f"].map(unknown);
    assert_eq!(found(text), expected);
    let with = |more: &str, problems: &[&str]| {
        let problems: Vec<String> = problems.iter().map(|problem| (*problem).to_owned()).collect();
        assert_eq!(found(&format!("{text}{more}")), [&expected[..], &problems].concat(), "{more}");
    };
    with("limit: {}\n", &["limit: unknown key `limit`"]);
    let nope = "audiences.g.where.audience: unknown audience `nope`";
    with("  g: {model: users, where: {audience: nope}}\n", &[nope]);
    // Whether these hold is decided by audiences that can't be judged.
    let not_judged = "  g: {model: users, where: {audience: nope}}\n  h: {model: users, where: {not: {audience: g}}}\n";
    with(not_judged, &[nope]);
    let element = "  g: {model: users, where: {all: [{performd: a, within: 1h}]}}\n";
    with(element, &["audiences.g.where.all[0].performd: unknown key `performd`"]);
    let two = "  g: {model: users, where: {performed: a, at_least: 0, at_most: 3, within: 1h}}\n";
    with(two, &["audiences.g.where: only one comparison may stand here, not `at_least` and `at_most`"]);
    let circle = "  g: {model: users, where: {not: {audience: h}}}\n  h: {model: users, where: {audience: g}}\n";
    with(circle, &["audiences.g.where.not.audience: audiences depend on each other in a circle: `g` -> `h` -> `g`"]);
}

#[test]
fn a_wrong_column_hides_no_other_problem_of_its_model() {
    let found = found(
        "
job: shop
sources: {web: {file: {path: e.jsonl}, format: segment}}
models:
  accounts: {parquet: a/, key: id, columns: {size: integer, plan: sting}}
  users:
    parquet: u/
    key: id
    belongs_to: {model: accounts, foreign_key: account_id}
    columns:
      plan: {type: string, live: {event: identfied, property: plan}}
      seats: {type: number, live: {event: identified, property: seats}}
      city: text
events:
  identified: {source: web, model: users, where: pln = 'pro', properties: {plan: string, seats: integer, at: tmestamp}}
audiences:
  a: {model: users, where: {property: accounts.nope > 1}}
  b: {model: users, where: {property: companies.size > 1}}
  c: {model: accounts, where: {related: users, sum: accounts.size, at_least: 1}}
  d: {model: users, where: {property: plan > 1}}
  e: {model: users, where: {performed: identified, where: plan > 1, within: 1h}}
  f: {model: accounts, where: {related: users, sum: seat, at_least: 1}}
  # All of these only follow from what is wrong with the columns.
  g: {model: users, where: {property: seats = 'x' or city > 1 or accounts.plan > 1}}
  h: {model: accounts, where: {related: users, where: city > 1, sum: city, at_least: 1}}
  i: {model: users, where: {performed: identified, where: at > 1, within: 1h}}
syncs:
  out: {audiences: [a, nope], include: [town], to: {stdout: {}}}
  crm: {audiences: [a], include: [city, town], to: {stdout: {}}}
",
    );
    let expected = [
        "models.accounts.columns.plan: unknown type `sting`",
        "models.users.columns.plan.live.event: unknown event `identfied`",
        "models.users.columns.seats.live.property: the column `seats` is declared as `number`, and the property `seats` of \
         the event `identified` as `integer`",
        "models.users.columns.city: unknown type `text`",
        "events.identified.where: unknown column `pln` at column 1",
        "events.identified.properties.at: unknown type `tmestamp`",
        "audiences.a.where.property: model `accounts` has no column `nope` at column 10",
        "audiences.b.where.property: `users` does not belong to `companies` at column 1",
        "audiences.c.where.sum: `accounts.size` is a column of a parent, which only predicates read: an aggregate takes a \
         column of the rows themselves",
        "audiences.d.where.property: `>` takes one type, found string and integer at column 8",
        "audiences.e.where.where: `>` takes one type, found string and integer at column 8",
        "audiences.f.where.sum: unknown column `seat`",
        "syncs.out.audiences[1]: unknown audience `nope`",
        // No model has it, so that of the unknown audience does not either.
        "syncs.out.include[0]: unknown column `town`",
        "syncs.crm.include[1]: unknown column `town`",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_broken_audience_or_destination_hides_nothing_of_what_a_sync_includes() {
    let found = found(
        "
job: shop
sources: {web: {file: {path: e.jsonl}, format: segment}}
models:
  accounts: {parquet: a/, key: id, columns: {size: integer}}
  users: {parquet: u/, key: id, columns: {name: string}}
  pages: [p/]
events:
  seen: {source: web, model: users}
audiences:
  a: {model: users, where: {performed: seen, at_least: 1}}
  b: {model: users, where: {performed: seen, at_least: 1, within: soon}}
  c: {model: user, where: {performed: seen, at_least: 1, within: 1h}}
syncs:
  all: {include: [name, nam, size], to: {stdout: {}}}
  one: {audiences: [b], include: [name, size], to: {stdout: {}}}
  any: {audiences: [c], include: [name, size, nope], to: {stdout: {}}}
  web: {audiences: [b], include: [name, sizes], to: {webhook: {url: 5}}}
  log: {audiences: [b], include: [name, sizes], to: {file: {}}}
",
    );
    let expected = [
        "models.pages: must be a mapping, not a list",
        "audiences.a.where: `within` is missing",
        "audiences.b.where.within: `soon` is not a duration",
        "audiences.c.model: unknown model `user`",
        "syncs.one.include[1]: unknown column `size`",
        "syncs.web.include[1]: unknown column `sizes`",
        "syncs.web.to.webhook.url: must be a string",
        "syncs.log.include[1]: unknown column `sizes`",
        "syncs.log.to.file: `path` is missing",
    ];
    // The audience `c` may be of `pages`, of whose columns nothing is known.
    assert_eq!(found, expected);
}

#[test]
fn nothing_is_said_of_columns_where_what_they_belong_to_is_wrong() {
    let found = found(
        "
job: shop
sources: {web: {file: {path: e.jsonl}, format: segment}}
models:
  accounts: {parquet: a/, key: id, columns: [size]}
  users: {parquet: u/, key: id, columns: {name: string}, belongs_to: {model: acounts, foreign_key: account_id}}
  carts: {parquet: [c/], key: id, belongs_to: {model: users, foreign_key: user_id}}
  pages: [p/]
  guests: {location: g/}
events:
  seen: {source: web, model: pages, properties: [path]}
audiences:
  a: {model: accounts, where: {property: size > 'x'}}
  b: {model: users, where: {property: accounts.size > 1}}
  c: {model: users, where: {related: carts, where: size > 1, sum: amount, at_least: 1}}
  d: {model: pages, where: {any: [{property: size > 1}, {performed: seen, where: page > 1, within: 1h}]}}
  e: {model: users, where: {any: [{related: orders, where: amount > 1}, {performed: sen, where: page > 1, within: 1h}]}}
  f: {model: user, where: {property: size > 1}}
  g: {model: users, where: {any: [{related: orders, where: amount >}, {performed: sen, where: page >, within: 1h}]}}
  h: {model: guests, where: {all: []}}
",
    );
    let expected = [
        "models.accounts.columns: must be a mapping, not a list",
        "models.users.belongs_to.model: unknown model `acounts`",
        "models.carts.parquet: must be a string, not a list",
        "models.pages: must be a mapping, not a list",
        "models.guests.location: unknown key `location`",
        "events.seen.properties: must be a mapping, not a list",
        "audiences.e.where.any[0].related: unknown model `orders`",
        "audiences.e.where.any[1].performed: unknown event `sen`",
        "audiences.f.model: unknown model `user`",
        "audiences.g.where.any[0].related: unknown model `orders`",
        "audiences.g.where.any[0].where: expected an expression, found the end",
        "audiences.g.where.any[1].performed: unknown event `sen`",
        "audiences.g.where.any[1].where: expected an expression, found the end",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_parent_is_read_where_the_column_of_an_aggregate_names_it() {
    let of = job(&[("a", "users", related(None, Aggregate::Sum("users.city".into()), at_least(1)))]);
    assert_eq!(needs_schema(&of), BTreeSet::from(["orders".to_string(), "users".to_string()]));
    let schemas = Schemas::from([("users".to_string(), vec![("city".to_string(), Ok(ColumnType::String))])]);
    let text = compile(&of, "job.yaml", &schemas).expect_err("an aggregate reads no parent").to_string();
    assert!(text.contains("`users.city` is a column of a parent"), "{text}");
}

#[test]
fn the_predicates_of_a_job_with_other_problems_are_checked_and_nothing_else_is_reported() {
    let text = job_file("{all: [{audience: target}, {property: ltx > 1}, {related: visitors}]}");
    let broken = usher_config::parse_or_salvage(&text, "job.yaml", ".".as_ref(), &|_| None, &|_| Ok(Vec::new()))
        .expect_err("a circle");
    let salvage = broken.salvage.expect("all of it can be read");
    let found: Vec<String> = check_salvage(&salvage, &Schemas::new()).into_iter().map(|p| p.message).collect();
    assert_eq!(found, ["unknown column `ltx` at column 1"]);
}

#[test]
fn columns_that_are_not_declared_have_their_files_type() {
    let mut bare = job(&[("a", "users", related(None, Aggregate::Sum("total".into()), at_least(1)))]);
    assert_eq!(needs_schema(&bare), BTreeSet::from(["orders".to_string()]));
    let schema = |columns: &[(&str, Result<ColumnType, &str>)]| {
        let column =
            |(name, found): &(&str, Result<ColumnType, &str>)| (name.to_string(), found.map_err(str::to_string));
        let columns = columns.iter().map(column).collect();
        Schemas::from([("orders".to_string(), columns)])
    };
    let typed = |job: &Job, schemas: &Schemas| -> Result<ColumnType, String> {
        let plan = compile(job, "job.yaml", schemas).map_err(|problems| problems.to_string())?;
        Ok(model(&plan, "orders").snapshot.as_ref().expect("orders are read").columns[0].1)
    };
    assert_eq!(typed(&bare, &schema(&[("total", Ok(ColumnType::Integer))])), Ok(ColumnType::Integer));
    assert_eq!(typed(&bare, &schema(&[("Total", Ok(ColumnType::Integer))])), Ok(ColumnType::Integer));
    let twice = schema(&[("Total", Ok(ColumnType::Integer)), ("TOTAL", Ok(ColumnType::Integer))]);
    assert!(typed(&bare, &twice).expect_err("not unique").contains("unknown column `total`"));
    let error = typed(&bare, &schema(&[("total", Err("Time64(µs)"))])).expect_err("no type");
    let expected = "column `total` of model `orders` is of type `Time64(µs)`, which is not supported\n  hint: cast it in the export";
    assert!(error.contains(expected), "{error}");
    let orders = bare.models.get_mut("orders").expect("a model");
    orders.columns.insert("total".to_string(), ColumnType::Number);
    assert_eq!(needs_schema(&bare), BTreeSet::new());
    assert_eq!(typed(&bare, &schema(&[("total", Err("struct"))])), Ok(ColumnType::Number), "what is declared wins");
    // It is not the same column in another case, which would not be live and have another type.
    let mut other = job(&[("a", "users", related(None, Aggregate::Sum("TOTAL".into()), at_least(1)))]);
    other.models.get_mut("orders").expect("a model").columns.insert("total".to_string(), ColumnType::Number);
    let error = typed(&other, &schema(&[("total", Ok(ColumnType::Integer))])).expect_err("it is declared otherwise");
    assert!(error.contains("unknown column `TOTAL`\n  hint: did you mean `total`?"), "{error}");
    assert_eq!(typed(&other, &schema(&[("TOTAL", Ok(ColumnType::Integer))])), Ok(ColumnType::Integer));
}

#[test]
fn equal_predicates_are_one_filter_however_they_are_written() {
    let plan = plan(&[
        ("a", "users", performed_where("priced", "path = '/pricing'", at_least(1), HOUR)),
        ("b", "users", performed_where("priced", "( path='/pricing' )", at_least(1), HOUR)),
        ("c", "users", performed_where("priced", "path = '/pricing'", at_least(2), HOUR)),
        ("d", "users", priced(1)),
        ("e", "users", property("ltv>300 AND plan = 'pro'")),
        ("f", "users", property("ltv > 300 and plan = 'pro'")),
    ]);
    let event = plan.events.iter().find(|event| event.id == "priced").expect("an event");
    let columns: Vec<String> = event.columns.iter().map(|column| column.path.to_string()).collect();
    assert_eq!(columns, ["properties.path"]);
    let filters: Vec<(bool, usize)> =
        event.filters.iter().map(|filter| (filter.predicate.is_some(), filter.facts.len())).collect();
    assert_eq!(filters, [(false, 1), (true, 2)]);
    for (position, fact) in event.facts.iter().enumerate() {
        let FactKind::Performed { filter, .. } = model(&plan, "users").facts[*fact as usize].kind else {
            panic!("an event decides performed facts only")
        };
        assert!(event.filters[filter as usize].facts.contains(&(position as u32)), "both ways agree");
    }
    assert_eq!(model(&plan, "users").facts.len(), 5);
    let users = model(&plan, "users").snapshot.as_ref().expect("users are read");
    let columns: Vec<&str> = users.columns.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(columns, ["ltv", "plan"]);
}

#[test]
fn predicates_are_checked_against_the_columns_there_are() {
    let text = problems(&[("a", "users", property("ltx > 300")), ("b", "users", property("ltv = 'x'"))]);
    assert!(text.contains("`ltx`") && text.contains("`ltv`"), "{text}");
    let text = problems(&[("a", "users", performed_where("priced", "pat = '/'", at_least(1), HOUR))]);
    assert!(text.contains("`pat`") && text.contains("`path`"), "{text}");
    let text = problems(&[("a", "users", performed_where("priced", "path > now()", at_least(1), HOUR))]);
    assert!(text.contains("within"), "{text}");
}

#[test]
fn a_predicate_on_an_undeclared_column_needs_the_schema_of_its_model() {
    let mut job = job(&[
        ("a", "users", any([property("ltv > 300"), property("lower(email) like '%@example.com'")])),
        ("b", "users", related(Some("amount > 1"), Aggregate::Count, at_least(1))),
    ]);
    assert_eq!(needs_schema(&job), BTreeSet::from(["users".to_string()]));
    let email = ("email".to_string(), Ok(ColumnType::String));
    let schemas = Schemas::from([("users".to_string(), vec![email.clone()])]);
    compile(&job, "job.yaml", &schemas).expect("its type is known");
    let binary = Schemas::from([("users".to_string(), vec![("email".to_string(), Err("struct".to_string()))])]);
    let text = compile(&job, "job.yaml", &binary).expect_err("no type").to_string();
    assert!(text.contains("column `email` of model `users` is of type `struct`, which is not supported"), "{text}");
    let close = Schemas::from([("users".to_string(), vec![("e_mail".to_string(), email.1)])]);
    let text = compile(&job, "job.yaml", &close).expect_err("no such column").to_string();
    assert!(text.contains("did you mean `e_mail`"), "{text}");
    job.models.get_mut("users").expect("a model").parquet = None;
    assert_eq!(needs_schema(&job), BTreeSet::new(), "there is no file to have a schema");
}

#[test]
fn a_snapshot_reads_what_syncs_with_an_audience_of_its_model_include() {
    let mut job = job(&[("a", "users", priced(1)), ("b", "visitors", performed("visited", at_least(1), HOUR))]);
    job.syncs.insert("one".to_string(), sync(&["a"], &["plan", "email"]));
    job.syncs.insert("two".to_string(), sync(&["a", "b"], &["plan", "ltv"]));
    assert_eq!(needs_schema(&job), BTreeSet::from(["users".to_string()]), "the type of `email` is not declared");
    let schemas = Schemas::from([("users".to_string(), vec![("email".to_string(), Ok(ColumnType::String))])]);
    let plan = compile(&job, "job.yaml", &schemas).unwrap_or_else(|problems| panic!("{problems}"));
    let snapshot = model(&plan, "users").snapshot.as_ref().expect("users are read");
    let expected = [("email", ColumnType::String), ("ltv", ColumnType::Number), ("plan", ColumnType::String)];
    assert_eq!(snapshot.include, expected.map(|(name, column_type)| (name.to_string(), column_type)));
    assert_eq!(snapshot.columns, [], "no condition reads any of them");
    let without = Job { syncs: Default::default(), ..job };
    assert_eq!(needs_schema(&without), BTreeSet::new());
    assert_eq!(compile(&without, "job.yaml", &schemas).expect("a sound job").models[2].facts, plan.models[2].facts);
}

#[test]
fn a_column_that_no_model_of_a_sync_has_is_reported_with_its_place() {
    let mut job = job(&[("a", "users", priced(1)), ("b", "visitors", performed("visited", at_least(1), HOUR))]);
    job.syncs.insert("one".to_string(), sync(&["a"], &["plan", "plam", "avatar", "amount"]));
    job.syncs.insert("two".to_string(), sync(&["b"], &["plan"]));
    let schemas = Schemas::from([("users".to_string(), vec![("avatar".to_string(), Err("map".to_string()))])]);
    let problems = compile(&job, "job.yaml", &schemas).expect_err("they are wrong").to_string();
    let expected = "\
job.yaml:100:1: syncs.s.include[0]: no audience of this sync is of a model with `parquet`, so no message has `plan`
job.yaml:100:2: syncs.s.include[1]: unknown column `plam`
  hint: did you mean `plan`?
job.yaml:100:3: syncs.s.include[2]: column `avatar` of model `users` is of type `map`, which is not supported
  hint: cast it in the export
job.yaml:100:4: syncs.s.include[3]: unknown column `amount`
  hint: columns: `avatar`, `ltv`, `plan` and `trial_ends`
";
    assert_eq!(problems, expected);
}

/// The facts of one audience of users, without `known`.
fn facts_of(condition: Condition) -> Vec<[u8; 16]> {
    model(&plan(&[("a", "users", condition)]), "users").facts[1..].iter().map(|fact| fact.fingerprint).collect()
}

#[test]
fn equal_sequences_are_one_fact_however_they_are_written() {
    let steps = |after| [step("priced", None, None), step("ordered", None, after)];
    let one = facts_of(sequence(steps(None), &["ordered", "priced"], HOUR));
    assert_eq!(
        one,
        facts_of(sequence(steps(None), &["priced", "ordered", "priced"], HOUR)),
        "exclusions have no order"
    );
    assert_eq!(one, facts_of(sequence(steps(Some(HOUR - 1)), &["ordered", "priced"], HOUR)), "it limits nothing");
    for other in [
        sequence(steps(Some(HOUR - 2)), &["ordered", "priced"], HOUR),
        sequence(steps(None), &["ordered"], HOUR),
        sequence(steps(None), &["ordered", "priced"], HOUR + 1),
        sequence([step("ordered", None, None), step("priced", None, None)], &["ordered", "priced"], HOUR),
        sequence([step("priced", Some("path = 'a'"), None), step("ordered", None, None)], &["ordered", "priced"], HOUR),
    ] {
        assert_ne!(one, facts_of(other));
    }
}

#[test]
fn steps_on_two_names_of_one_event_are_of_the_first() {
    let mut job = job(&[("a", "users", sequence([step("priced", None, None), step("viewed", None, None)], &[], HOUR))]);
    let priced = job.events["priced"].clone();
    job.events.insert("viewed".to_string(), priced);
    let plan = compile(&job, "job.yaml", &Schemas::new()).expect("a sound job");
    let FactKind::Sequence { steps, .. } = &model(&plan, "users").facts[1].kind else { panic!("it is a sequence") };
    assert_eq!(steps[0], steps[1]);
    assert_eq!(plan.events[steps[0].of.event as usize].id, "priced");
}

#[test]
fn steps_on_events_that_differ_in_what_their_conditions_share_are_of_each() {
    let facts = |steps: [SequenceStep; 2], without: &[&str]| {
        let mut job = job(&[("a", "users", sequence(steps, without, HOUR))]);
        let priced = job.events["priced"].clone();
        let of = |shared: &str| Event { filter: Some(text(shared)), ..priced.clone() };
        // The same, written in other ways.
        for (id, shared) in [("here", "path = '/a'"), ("here_too", "path='/a'"), ("there", "path = '/b'")] {
            job.events.insert(id.to_owned(), of(shared));
        }
        let plan = compile(&job, "job.yaml", &Schemas::new()).unwrap_or_else(|problems| panic!("{problems}"));
        let fact = model(&plan, "users").facts[1].clone();
        let FactKind::Sequence { steps, .. } = fact.kind else { panic!("it is a sequence") };
        let ids = steps.iter().map(|step| plan.events[step.of.event as usize].id.clone());
        (ids.collect::<Vec<_>>(), fact.fingerprint)
    };
    let (ids, two) = facts([step("here", None, None), step("there", None, None)], &[]);
    assert_eq!(ids, ["here", "there"]);
    let (ids, also_two) = facts([step("here_too", None, None), step("there", None, None)], &[]);
    assert_eq!((ids, also_two), (vec!["here".to_owned(), "there".to_owned()], two));
    let of = |shared| step("priced", Some(shared), None);
    let (ids, one) = facts([of("path = '/a'"), of("path = '/b'")], &[]);
    assert_eq!(ids, ["priced", "priced"]);
    assert_ne!(one, two, "messages with one id are one of it");
    assert_ne!(facts([of("path = '/a'"), step("there", None, None)], &[]).1, one);
    // Of one event each it makes no difference where the filter is written.
    let ends = |first| [first, step("ordered", None, None)];
    assert_eq!(facts(ends(of("path = '/a'")), &[]).1, facts(ends(step("here", None, None)), &[]).1);
    assert_eq!(
        facts(ends(step("here", None, None)), &["here"]).1,
        facts(ends(step("here_too", None, None)), &["here"]).1
    );
    assert_ne!(facts(ends(of("path = '/a'")), &["here"]).1, facts(ends(step("here", None, None)), &["here"]).1);
}

#[test]
fn all_positions_of_a_sequence_at_an_event_stand_in_one_block_with_their_roles() {
    let filters: Vec<String> = (0..30).map(|n| format!("path = 'p{n}'")).collect();
    let alone = |n: usize| performed_where("priced", &filters[n], at_least(1), HOUR + n as i64);
    let long = |offset: usize, within| {
        let of = |n: usize| step("priced", Some(&filters[offset + n]), None);
        sequence([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12].map(of), &["priced", "ordered"], within)
    };
    for singles in 1..30 {
        let mut audiences: Vec<(String, Condition)> = (0..singles).map(|n| (format!("a{n}"), alone(n))).collect();
        audiences.extend((0..12).map(|n| (format!("s{n}"), long(n, HOUR + n as i64))));
        let audiences: Vec<(&str, &str, Condition)> =
            audiences.iter().map(|(id, condition)| (id.as_str(), "users", condition.clone())).collect();
        let plan = plan(&audiences);
        let index = plan.events.iter().position(|event| event.id == "priced").expect("an event");
        let (event, facts) = (&plan.events[index], &model(&plan, "users").facts);
        let roles = event.roles(index as u32, facts);
        let mut sequences = 0;
        for (fact, Fact { kind, .. }) in facts.iter().enumerate() {
            let FactKind::Sequence { .. } = kind else { continue };
            let positions: Vec<usize> =
                (0..event.facts.len()).filter(|position| event.facts[*position] as usize == fact).collect();
            assert_eq!(positions.len(), 14, "a position for each filter");
            assert!(positions.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{positions:?}");
            assert_eq!(positions[0] / 64, positions[13] / 64, "{positions:?}");
            let all = positions.iter().fold(0, |all, position| all | roles[*position].bits);
            assert_eq!(all, EXCLUDED | ((1 << 13) - 1));
            sequences += 1;
        }
        assert_eq!(sequences, 12);
    }
}

#[test]
fn the_way_to_a_column_of_a_parent_is_part_of_a_conditions_identity() {
    let valued = || job(&[("a", "users", related(Some("users.ltv > 7"), Aggregate::Count, at_least(1)))]);
    let fact = |job: &Job| {
        let plan = compile(job, "job.yaml", &Schemas::new()).unwrap_or_else(|problems| panic!("{problems}"));
        let orders = model(&plan, "orders").rows.clone().expect("rows that read columns of parents are kept");
        assert_eq!(orders.inherited.iter().map(|of| of.column.to_string()).collect::<Vec<_>>(), ["users.ltv"]);
        let users = model(&plan, "users").rows.clone().expect("rows that others read are kept");
        assert_eq!(users.columns[orders.inherited[0].of as usize].0, "ltv");
        model(&plan, "users").facts[1].fingerprint
    };
    let plain = fact(&valued());
    assert_eq!(plain, fact(&valued()));
    let mut by_another = valued();
    let orders = by_another.models.get_mut("orders").and_then(|orders| orders.belongs_to.as_mut());
    orders.expect("orders belong to users").foreign_key = "buyer_id".to_owned();
    assert_ne!(fact(&by_another), plain, "another foreign key");
    let mut live = valued();
    set_live(&mut live, "users", &["ltv"]);
    assert_ne!(fact(&live), plain, "events set the column");
    let quoted = [("a", "users", related(Some("\"users.ltv\" > 7"), Aggregate::Count, at_least(1)))];
    assert!(
        problems(&quoted).contains("unknown column `users.ltv`"),
        "in one pair of quotes it is a column of the row"
    );
}

#[test]
fn a_column_of_a_parent_that_is_not_declared_needs_the_parents_schema() {
    let mut of = job(&[("a", "users", related(Some("users.city = 'Bonn'"), Aggregate::Count, at_least(1)))]);
    assert_eq!(needs_schema(&of), BTreeSet::from(["users".to_owned()]));
    of.models.get_mut("users").expect("users").columns.insert("city".to_owned(), ColumnType::String);
    assert_eq!(needs_schema(&of), BTreeSet::new());
}
