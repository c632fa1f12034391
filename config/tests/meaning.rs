//! Hints go by what a key means, not by its letters.

use std::path::Path;

fn problem(condition: &str) -> String {
    let job = format!(
        "job: j\nsources: {{web: {{file: {{path: e}}, format: segment}}}}\nmodels:\n  users: {{parquet: u, key: id}}\n  orders: {{parquet: o, key: id, belongs_to: {{model: users, foreign_key: u}}}}\nevents: {{seen: {{source: web, type: page, model: users}}}}\naudiences:\n  a: {{model: users, where: {condition}}}\n"
    );
    usher_config::parse(&job, "job.yaml", Path::new("."), &|_| None).expect_err("it is wrong").to_string()
}

#[test]
fn a_key_of_another_language_gets_the_one_that_means_the_same() {
    for (condition, key, hint) in [
        ("{and: [{property: a}]}", "and", "write `all: [CONDITION, …]`"),
        ("{or: [{property: a}]}", "or", "write `any: [CONDITION, …]`"),
        ("{not_performed: seen}", "not_performed", "write `not: {performed: EVENT, within: DURATION}`"),
        ("{never: seen}", "never", "write `not: {performed: EVENT, within: DURATION}`"),
        ("{none: [{property: a}]}", "none", "write `not: {any: [CONDITION, …]}`"),
        ("{segment: b}", "segment", "write `audience: ID`"),
        ("{attribute: plan}", "attribute", "write a predicate, as in `property: plan = 'pro'`"),
        ("{performed: seen, within: 1h, count: 3}", "count", "write `at_least: N`, or another comparison"),
        ("{funnel: [seen, seen], within: 1h}", "funnel", "write `sequence: [{performed: EVENT}, {performed: EVENT}]`"),
        ("{performed: seen, last: 7d, within: 1h}", "last", "write `within: DURATION`, as in `within: 7d`"),
    ] {
        let found = problem(condition);
        assert!(found.contains(&format!("unknown key `{key}`\n  hint: {hint}")), "{condition}: {found}");
    }
    assert!(problem("{al: []}").contains("hint: did you mean `all`?"), "a misspelt key is still found by its letters");
}

#[test]
fn every_refusal_of_a_condition_quotes_the_value_and_names_the_next_step() {
    for (condition, message, hint) in [
        ("\"ltv > 3\"", "must be a mapping, not the string `ltv > 3`", "write a predicate as `property: ltv > 3`"),
        ("[{property: a}]", "must be a mapping, not a list", "put the list under `all:` or `any:`"),
        ("{performed: seen}", "`within` is missing", "as in `within: 7d`"),
        ("{performed: seen, within: 91d}", "must be at most 90d, not `91d`", ""),
        ("{performed: seen, within: 5ms}", "must be at least 1s, not `5ms`", ""),
        ("{related: orders, within: 7d}", "`within` does not go with `related`", "rows have no time of their own"),
        ("{property: a, within: 7d}", "`within` does not go with `property`", "compare a column with the clock"),
        ("{performed: seen, within: 1h, <<: {}}", "merge keys (`<<`) are not read", "write the keys out"),
        ("{}", "and this one has nothing", "as in `property: plan = 'pro'`"),
        ("{at_least: 3}", "and this one has `at_least`", "as in `property: plan = 'pro'`"),
    ] {
        let found = problem(condition);
        assert!(found.contains(message), "{condition}: {found}");
        assert!(hint.is_empty() || found.contains(&format!("hint: {hint}")), "{condition}: {found}");
    }
}

#[test]
fn an_address_that_is_a_number_is_not_sent_in_a_circle() {
    let found = usher_config::parse("job: j\napi: {listen: 8080}", "job.yaml", Path::new("."), &|_| None);
    let found = found.expect_err("it is wrong").to_string();
    assert!(
        found.contains("`8080` is not an address\n  hint: an address is written as in `127.0.0.1:8080`"),
        "{found}"
    );
}

#[test]
fn what_is_wrong_inside_whose_is_refused_at_its_place_with_the_next_step() {
    let job = |audiences: &str| {
        let head = "job: j\nsources: {web: {file: {path: e}, format: segment}}\nmodels:\n  accounts: {parquet: a, key: id}\n  users: {parquet: u, key: id, belongs_to: {model: accounts, foreign_key: a}}\n  orders: {parquet: o, key: id, belongs_to: {model: users, foreign_key: u}}\nevents:\n  seen: {source: web, type: page, model: users}\n  visited: {source: web, type: page, model: accounts}\naudiences:\n";
        usher_config::parse(&format!("{head}{audiences}"), "job.yaml", Path::new("."), &|_| None)
    };
    let of = |whose: &str| {
        let found = job(&format!(
            "  a: {{model: accounts, where: {{related: users, whose: {whose}}}}}\n  b: {{model: accounts, where: {{performed: visited, within: 1h}}}}\n"
        ));
        found.expect_err("it is wrong").to_string()
    };
    for (whose, place, message) in [
        (
            "{performed: visited, within: 1h}",
            "whose",
            "is of the model `accounts`, this `whose` of `users`\n  hint: events of `users`: `seen`",
        ),
        (
            "{related: users}",
            "whose",
            "the model `users` does not belong to `users`, the model of this `whose`\n  hint: `orders` belongs to `users`",
        ),
        ("{audience: b}", "whose", "the audience `b` is of the model `accounts`, this one of `users`"),
        ("{performed: seen}", "whose", "`within` is missing"),
        (
            "{related: orders, whose: {performed: seen, within: 1h}}",
            "whose.whose",
            "is of the model `users`, this `whose` of `orders`\n  hint: declare an event with `model: orders`",
        ),
        ("\"seen\"", "whose", "must be a mapping, not the string `seen`"),
    ] {
        let found = of(whose);
        assert!(found.contains(&format!("audiences.a.where.{place}")) && found.contains(message), "{whose}: {found}");
    }
    let circle = job("  a: {model: users, where: {any: [{related: orders, whose: {property: x}}, {audience: a}]}}\n");
    assert!(circle.expect_err("it is wrong").to_string().contains("`a`"), "a circle is named");
}
