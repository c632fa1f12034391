//! The templates of a sync's `fields` (SPEC §1): text with `{{ … }}` in it, rendered for each change.
//!
//! A template that is one expression and nothing else, `{{ row.ltv }}`, gives its value, type and all; any other gives a
//! text. Null and what is missing are null, or nothing in a text. A template that fails on a change (`{{ row.plan | upper }}`
//! of a plan that is null) is null: one odd row does not stop a sync.
//!
//! Templates see what [`Context`] has and nothing else: no files, no clock. [`check`] finds, before anything runs, what can't be
//! read and names that nothing has.

use minijinja::value::{Serde, Value};
use minijinja::{Environment, ErrorKind, Output, State, context};
use usher_config::{Problem, Text, nearest};

/// What a template sees of a change.
pub(super) struct Context<'a> {
    /// The member's key.
    pub key: &'a str,
    /// The columns that the sync includes.
    pub row: serde_json::Map<String, serde_json::Value>,
    /// The same before an update; empty of an entry or exit.
    pub previous_row: serde_json::Map<String, serde_json::Value>,
    /// The message's id.
    pub id: &'a str,
    /// `entry`, `exit` or `update`.
    pub kind: &'a str,
    /// RFC 3339.
    pub at: &'a str,
    /// The cause.
    pub reason: &'a str,
    /// The audience's id.
    pub audience_id: &'a str,
    /// The audience's name.
    pub audience_name: &'a str,
    /// The parent model's id.
    pub model: &'a str,
    /// The job's name.
    pub job: &'a str,
}

/// The names that [`Context`] has in templates, but for `row`, `previous_row` and `audience`.
const SINGLE: [&str; 7] = ["key", "id", "type", "at", "reason", "model", "job"];
/// What an audience has.
const AUDIENCE: [&str; 2] = ["id", "name"];

/// The templates of one sync, by number.
#[derive(Debug)]
pub(crate) struct Templates {
    environment: Environment<'static>,
}

impl Templates {
    /// Templates in the order of `texts`; the error has the number of one that can't be read.
    pub fn new<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Templates, (usize, minijinja::Error)> {
        let mut environment = environment();
        for (number, text) in texts.enumerate() {
            let text = text.to_owned();
            if is_expression(&environment, &text) {
                let text = text.trim().to_owned();
                environment.add_template_owned(value_name(number), text).map_err(|error| (number, error))?;
            }
            environment.add_template_owned(text_name(number), text).map_err(|error| (number, error))?;
        }
        Ok(Templates { environment })
    }

    /// The template of a url's path and query: what it puts in is percent-encoded.
    pub fn of_url(text: &str) -> Result<Templates, minijinja::Error> {
        let mut environment = environment();
        environment.add_template_owned(URL_NAME, text.to_owned())?;
        Ok(Templates { environment })
    }

    /// What the template of a url gives; none: it failed.
    pub fn url(&self, context: &Value) -> Option<String> {
        self.environment.get_template(URL_NAME).expect("it was added").render(context).ok()
    }

    /// What template `number` gives, as JSON.
    pub fn json(&self, number: usize, context: &Value) -> String {
        match self.environment.get_template(&value_name(number)) {
            Ok(template) => template.render(context).unwrap_or_else(|_| "null".to_owned()),
            Err(_) => match self.text(number, context) {
                Some(text) => serde_json::Value::from(text).to_string(),
                None => "null".to_owned(),
            },
        }
    }

    /// What template `number` gives as text; none: it failed.
    pub fn text(&self, number: usize, context: &Value) -> Option<String> {
        self.environment.get_template(&text_name(number)).expect("each was added").render(context).ok()
    }
}

impl Context<'_> {
    /// As templates see it.
    pub fn value(self) -> Value {
        context! {
            key => self.key,
            row => Value::from(Serde(self.row)),
            previous_row => Value::from(Serde(self.previous_row)),
            id => self.id,
            type => self.kind,
            at => self.at,
            reason => self.reason,
            audience => context! { id => self.audience_id, name => self.audience_name },
            model => self.model,
            job => self.job,
        }
    }
}

/// The name of the template whose only expression is written as JSON.
fn value_name(number: usize) -> String {
    format!("value {number}")
}

/// The name of the template of a url.
const URL_NAME: &str = "url";

/// The name of the template that is written as text.
fn text_name(number: usize) -> String {
    format!("text {number}")
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_formatter(|out: &mut Output, state: &mut State, value: &Value| {
        if state.name().starts_with("value ") {
            let json = serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned());
            return out.write_str(&json).map_err(Into::into);
        }
        if state.name() == URL_NAME && !value.is_none() && !value.is_undefined() {
            return out.write_str(&percent_encoded(&value.to_string())).map_err(Into::into);
        }
        match value.is_none() {
            true => Ok(()),
            false => minijinja::escape_formatter(out, state, value),
        }
    });
    super::filters::add(&mut environment);
    environment
}

/// Returns a text as it stands in a url, whatever part: all but letters, digits and `-._~` is encoded.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// Whether a template is `{{ expression }}` and nothing else.
fn is_expression(environment: &Environment, text: &str) -> bool {
    let inside = text.trim().strip_prefix("{{").and_then(|text| text.strip_suffix("}}"));
    inside.is_some_and(|inside| {
        let inside = inside.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']);
        environment.compile_expression_owned(inside.to_owned()).is_ok()
    })
}

/// What is wrong with the templates of a sync that includes these columns.
pub(crate) fn check<'a>(texts: impl Iterator<Item = &'a Text>, include: &[&str]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for text in texts {
        match Templates::new(std::iter::once(text.value.as_str())) {
            Err((_, error)) => {
                let reason = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
                let problem = Problem::new(&text.place, format!("this template can't be read: {reason}"));
                problems.push(problem.hint("templates are written as in `{{ row.plan }}`"));
            }
            Ok(templates) => {
                let found = problems.len();
                names(&templates, text, include, &mut problems);
                if problems.len() == found {
                    problems.extend(unknown_filter(&templates, text, include));
                }
            }
        }
    }
    problems
}

/// Reports the names that nothing has.
fn names(templates: &Templates, text: &Text, include: &[&str], problems: &mut Vec<Problem>) {
    let template = templates.environment.get_template(&text_name(0)).expect("it was added");
    let globals: Vec<&str> = templates.environment.globals().map(|(name, _)| name).collect();
    let mut names: Vec<String> = template.undeclared_variables(true).into_iter().collect();
    names.sort();
    for name in names {
        let mut parts = name.split('.');
        let first = parts.next().expect("a split has a first part");
        let (known, inner): (Vec<&str>, &str) = match (first, parts.next()) {
            ("row" | "previous_row", Some(column)) => (include.to_vec(), column),
            ("audience", Some(part)) => (AUDIENCE.to_vec(), part),
            ("row" | "previous_row" | "audience", None) => continue,
            (first, _) if globals.contains(&first) => continue,
            (first, None) if SINGLE.contains(&first) => continue,
            (first, Some(_)) if SINGLE.contains(&first) => {
                let message = format!("`{name}` is nothing: `{first}` is a single value");
                problems.push(Problem::new(&text.place, message));
                continue;
            }
            (first, _) => (SINGLE.iter().copied().chain(["row", "previous_row", "audience"]).collect(), first),
        };
        if known.contains(&inner) {
            continue;
        }
        let problem = Problem::new(&text.place, format!("nothing is called `{name}` in templates"));
        problems.push(match nearest(inner, known.iter().copied()) {
            Some(near) => problem.hint(format!("did you mean `{near}`?")),
            None if first == "row" || first == "previous_row" => {
                problem.hint("a row has the columns that the sync's `include` names")
            }
            None => problem.hint(
                "there are `key`, `row`, `previous_row`, `id`, `type`, `at`, `reason`, `audience`, `model` and `job`",
            ),
        });
    }
}

/// Reports a filter, test or function that there is not, where a row of nulls comes across it.
fn unknown_filter(templates: &Templates, text: &Text, include: &[&str]) -> Option<Problem> {
    let nulls = || include.iter().map(|column| ((*column).to_owned(), serde_json::Value::Null)).collect();
    let context = Context {
        key: "key",
        row: nulls(),
        previous_row: nulls(),
        id: "00000000000000000000000000000000",
        kind: "entry",
        at: "2026-11-23T10:00:00.123Z",
        reason: "event",
        audience_id: "audience",
        audience_name: "Audience",
        model: "model",
        job: "job",
    };
    let template = templates.environment.get_template(&text_name(0)).expect("it was added");
    let error = template.render(context.value()).err()?;
    let unknown =
        matches!(error.kind(), ErrorKind::UnknownFilter | ErrorKind::UnknownTest | ErrorKind::UnknownFunction);
    let reason = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    unknown.then(|| Problem::new(&text.place, format!("this template can't be rendered: {reason}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use usher_config::Place;

    fn rendered(template: &str) -> String {
        let row =
            serde_json::json!({"plan": "pro", "ltv": 12.5, "vip": true, "tags": ["a", "b"], "none": null, "n": 3});
        let serde_json::Value::Object(row) = row else { panic!("an object") };
        let context = Context {
            key: "u-\"1\"",
            row,
            previous_row: serde_json::Map::new(),
            id: "00ff",
            kind: "entry",
            at: "2026-11-23T10:00:00.123Z",
            reason: "event",
            audience_id: "vip",
            audience_name: "<Very> important",
            model: "users",
            job: "shop",
        };
        Templates::new(std::iter::once(template)).unwrap().json(0, &context.value())
    }

    #[test]
    fn one_expression_keeps_its_type_and_anything_else_is_text() {
        for (template, expected) in [
            ("{{ key }}", r#""u-\"1\"""#),
            ("{{ row.ltv }}", "12.5"),
            (" {{- row.n -}} \n", "3"),
            ("{{ row.n + 1 }}", "4"),
            ("{{ row.vip }}", "true"),
            ("{{ type == 'exit' }}", "false"),
            ("{{ row.tags }}", r#"["a","b"]"#),
            ("{{ row.none }}", "null"),
            ("{{ row.missing }}", "null"),
            ("{{ {'a': {'b': row.n}} }}", r#"{"a":{"b":3}}"#),
            ("{{ '}} {{' }}", r#""}} {{""#),
            ("{{ audience.name }}", r#""<Very> important""#),
            ("{{ row.plan | upper }}", r#""PRO""#),
            ("{{ row.none | abs }}", "null"),
            ("n{{ row.n }}", r#""n3""#),
            ("{{ row.n }}{{ row.n }}", r#""33""#),
            ("{{ row.n }} ", "3"),
            ("3", r#""3""#),
            ("true", r#""true""#),
            ("", r#""""#),
            ("[{{ row.none }}{{ row.missing }}]", r#""[]""#),
            ("{% if row.vip %}{{ audience.id }}/{{ model }}{% endif %}", r#""vip/users""#),
            ("{% for tag in row.tags %}{{ tag }};{% endfor %}", r#""a;b;""#),
            ("x{{ row.none | abs }}", "null"),
        ] {
            assert_eq!(rendered(template), expected, "{template}");
        }
    }

    #[test]
    fn what_templates_cannot_mean_is_found_before_anything_runs() {
        let problems = |template: &str| {
            let text = Text { value: template.to_owned(), place: Place::default() };
            let problems = check(std::iter::once(&text), &["email", "plan"]);
            problems.into_iter().map(|p| format!("{}; {}", p.message, p.hint.unwrap_or_default())).collect::<Vec<_>>()
        };
        for template in [
            "{{ row.plan }}",
            "{{ row }}",
            "{{ row['plan'] }}",
            "{{ audience.id }}{{ audience.name }}{{ audience }}",
            "{{ key }}{{ id }}{{ type }}{{ at }}{{ reason }}{{ model }}{{ job }}",
            "{% for name in row %}{{ name }}{% endfor %}",
            "{% set x = key %}{{ x }}",
            "{% for i in range(3) %}{{ i }}{% endfor %}",
            "{{ row.plan | upper }}",
            "{{ row.plan.city }}",
            "",
        ] {
            assert_eq!(problems(template), Vec::<String>::new(), "{template}");
        }
        let all: Vec<String> = [
            "{{ key",
            "{{ key }} {% if %}",
            "{{ kye }}",
            "{{ row.emial }}{{ row.phone }}",
            "{{ audience.title }}",
            "{{ key.length }}",
            "{{ now() }}",
            "{{ key | uper }}",
            "{{ key is evn }}",
            "{% include 'secrets' %}",
        ]
        .iter()
        .flat_map(|template| problems(template))
        .collect();
        insta::assert_snapshot!(all.join("\n"));
    }
}
