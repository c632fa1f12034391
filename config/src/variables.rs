//! `${VAR}` and `${VAR:-default}` inside of string leaves.
//!
//! Substitution works on the tree, so the content of a variable can't change the structure of the file: keys, numbers
//! and all other values that are not strings stay as they are, and a substituted text is not substituted again. The
//! default applies if the variable is not set or empty; it ends at the next `}`. `$${` is a plain `${`. A `$` before
//! anything else is itself.

use crate::yaml::{self, Kind, Node};
use crate::{Place, Problem, schema};

/// Returns the value of a variable by its name; `None` if it is not set.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Substitutes in all string leaves of `node`, whose path is `path`.
///
/// A leaf also keeps the text of the file: a secret is stored as that text. A leaf that can't be substituted is
/// reported and left as [`Kind::Broken`]. The report does not quote any part of a value that may be a secret.
pub(crate) fn substitute(node: &mut Node, path: &str, variable: Lookup, problems: &mut Vec<Problem>) {
    let place = node.place("");
    match &mut node.kind {
        Kind::List(list) => {
            for (index, inner) in list.iter_mut().enumerate() {
                substitute(inner, &yaml::element(path, index), variable, problems);
            }
        }
        Kind::Mapping(entries) => {
            for entry in entries {
                substitute(&mut entry.value, &yaml::child(path, &entry.key), variable, problems);
            }
        }
        Kind::Text { text, written } if text.contains("${") => {
            let place = Place { path: path.to_owned(), ..place };
            match expand(text, &place, variable, schema::is_discreet(path)) {
                Ok(expanded) => *written = Some(std::mem::replace(text, expanded)),
                Err(found) => {
                    problems.extend(found);
                    node.kind = Kind::Broken;
                }
            }
        }
        _ => {}
    }
}

fn expand(text: &str, place: &Place, variable: Lookup, secret: bool) -> Result<String, Vec<Problem>> {
    let quote = |part: &str| if secret { "`${…".to_owned() } else { format!("`{part}") };
    let mut expanded = String::new();
    let mut problems = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            expanded += before;
            expanded += "${";
            rest = &from[2..];
            continue;
        }
        expanded += before;
        let Some((reference, after)) = from[2..].split_once('}') else {
            let message = format!("{}` has no closing `}}`", quote(from));
            problems.push(Problem::new(place, message).hint("write `$${` for a plain `${`"));
            break;
        };
        rest = after;
        let (name, default) = match reference.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (reference, None),
        };
        if !is_name(name) {
            let message = format!("{}}}` is not `${{VAR}}` or `${{VAR:-default}}`", quote(&format!("${{{reference}")));
            problems.push(Problem::new(place, message).hint("write `$${` for a plain `${`"));
            continue;
        }
        match (variable(name), default) {
            (Some(value), None) => expanded += &value,
            (Some(value), Some(_)) if !value.is_empty() => expanded += &value,
            (_, Some(default)) => expanded += default,
            (None, None) => problems.push(
                Problem::new(place, format!("the variable `{name}` is not set"))
                    .hint(format!("set it, or give a default: `${{{name}:-...}}`")),
            ),
        }
    }
    expanded += rest;
    if problems.is_empty() { Ok(expanded) } else { Err(problems) }
}

/// Substitutes in one text that was checked before. The error is a message about a variable that is not set now.
pub(crate) fn resolve(text: &str, variable: Lookup) -> Result<String, String> {
    expand(text, &Place::default(), variable, true).map_err(|problems| problems[0].message.clone())
}

/// Returns whether `text` has no `${VAR}`.
pub(crate) fn is_literal(text: &str) -> bool {
    !text.replace("$${", "").contains("${")
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, Vec<String>> {
        let variable = |name: &str| match name {
            "HOST" => Some("db".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICKY" => Some("${HOST}: }".to_owned()),
            _ => None,
        };
        expand(text, &Place::default(), &variable, false)
            .map_err(|problems| problems.into_iter().map(|problem| problem.message).collect())
    }

    #[test]
    fn variables_and_defaults_are_substituted_once() {
        for (text, expected) in [
            ("${HOST}:9092", "db:9092"),
            ("a${HOST}${HOST}b", "adbdbb"),
            ("${NONE:-localhost:9092}", "localhost:9092"),
            ("${HOST:-x}", "db"),
            ("${EMPTY}", ""),
            ("${EMPTY:-x}", "x"),
            ("${NONE:-}", ""),
            ("${NONE:-a:-b}", "a:-b"),
            ("${TRICKY}", "${HOST}: }"),
            ("$${HOST} costs $5 $HOST", "${HOST} costs $5 $HOST"),
        ] {
            assert_eq!(expanded(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn all_problems_of_one_text_are_reported() {
        let messages = |list: &[&str]| Err(list.iter().map(|message| message.to_string()).collect());
        assert_eq!(
            expanded("${A} ${HOST} ${B}"),
            messages(&["the variable `A` is not set", "the variable `B` is not set"])
        );
        assert_eq!(expanded("x ${HOST"), messages(&["`${HOST` has no closing `}`"]));
        assert_eq!(
            expanded("${a b}${}${1A}"),
            messages(&[
                "`${a b}` is not `${VAR}` or `${VAR:-default}`",
                "`${}` is not `${VAR}` or `${VAR:-default}`",
                "`${1A}` is not `${VAR}` or `${VAR:-default}`",
            ])
        );
    }

    #[test]
    fn no_part_of_a_secret_is_quoted() {
        for text in ["hunter${2", "hunter${2 2}", "hunter${2}"] {
            let problems = expand(text, &Place::default(), &|_| None, true).expect_err("no variable");
            assert!(problems.iter().all(|problem| !problem.message.contains('2')), "{problems:?}");
        }
        assert!(is_literal("hunter2") && is_literal("hunter$${2}"));
        assert!(!is_literal("${PASSWORD:-hunter2}") && !is_literal("$${a}${PASSWORD}"));
    }

    #[test]
    fn only_string_leaves_are_touched() {
        let text = "${K}: '${V}'\nlist: [\"${V}\", 1, true, {a: '${V}'}]\nplain: ${V}";
        let mut problems = Vec::new();
        let mut node = yaml::parse(text, "", &mut problems).expect("readable");
        substitute(&mut node, "", &|_| Some("x: [y]".to_owned()), &mut problems);
        assert_eq!(problems, []);
        let expected =
            yaml::parse("${K}: 'x: [y]'\nlist: ['x: [y]', 1, true, {a: 'x: [y]'}]\nplain: 'x: [y]'", "", &mut problems)
                .expect("readable");
        assert_eq!(texts(&node), texts(&expected));
    }

    fn texts(node: &Node) -> Vec<String> {
        match &node.kind {
            Kind::List(list) => list.iter().flat_map(texts).collect(),
            Kind::Mapping(entries) => {
                entries.iter().flat_map(|entry| [vec![entry.key.clone()], texts(&entry.value)].concat()).collect()
            }
            Kind::Text { text, .. } => vec![text.clone()],
            other => vec![format!("{other:?}")],
        }
    }

    #[test]
    fn a_missing_variable_is_reported_at_its_leaf() {
        let mut problems = Vec::new();
        let mut node = yaml::parse("a:\n  - b: x${NONE}", "", &mut problems).expect("readable");
        substitute(&mut node, "", &|_| None, &mut problems);
        assert_eq!(problems[0].place, Place { path: "a[0].b".to_owned(), line: 2, column: 8, ..Place::default() });
    }
}
