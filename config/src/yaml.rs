//! The file as a tree of nodes with their places, before the schema gives it a meaning.
//!
//! YAML 1.2 with its core schema, of which JSON is a subset. Numbers keep their text. Aliases are followed; merge keys
//! (`<<`) are not part of YAML 1.2. Parsing ends on any input: nesting, the number of nodes and the expansion of
//! aliases are bounded, and the tree is built without recursion. A syntax error is one problem; each repeated key is
//! one, and its first value counts. A key that is a list or mapping is one too, and is left out with its value; so is a tag
//! that has no meaning, whose value is [`Kind::Broken`].

use std::collections::HashMap;
use std::rc::Rc;

use granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, Tag};

use crate::{Place, Problem};

/// The deepest nesting of lists and mappings: far beyond any job, far within any stack.
const DEPTH_MAX: usize = 128;
/// The most nodes, aliases unfolded: some 30,000 audiences.
const NODES_MAX: usize = 1_000_000;

/// A value with its position.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    /// As [`Place::file`].
    pub file: Rc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1, in characters.
    pub column: u32,
    /// The value.
    pub kind: Kind,
}

/// The kinds of values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Nothing, or `null`.
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// A number as written.
    Number(String),
    /// A string.
    Text {
        /// The text.
        text: String,
        /// The text of the file, if a variable was substituted. Such a text is read as a number or boolean if the
        /// schema asks for one.
        written: Option<String>,
    },
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the file, each key once.
    Mapping(Vec<Entry>),
    /// A value with a problem that is already reported.
    Broken,
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    /// As [`Place::file`].
    pub file: Rc<str>,
    /// The key.
    pub key: String,
    /// The key's line, from 1.
    pub line: u32,
    /// The key's column, from 1.
    pub column: u32,
    /// The value.
    pub value: Node,
}

impl Node {
    /// Returns its place, given its path.
    pub fn place(&self, path: &str) -> Place {
        Place { file: self.file.as_ref().to_owned(), path: path.to_owned(), line: self.line, column: self.column }
    }
}

impl Entry {
    /// Returns the place of the key, given its path.
    pub fn place(&self, path: &str) -> Place {
        Place { file: self.file.as_ref().to_owned(), path: path.to_owned(), line: self.line, column: self.column }
    }
}

/// Returns the path of a value of a mapping.
pub(crate) fn child(path: &str, key: &str) -> String {
    let dot = if path.is_empty() { "" } else { "." };
    format!("{path}{dot}{}", crate::path::write_name(key))
}

/// Returns the path of an element of a list.
pub(crate) fn element(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

/// Parses the one document of `text`, which is that of `file` ([`Place::file`]). Problems that parsing goes on after
/// are pushed to `problems`; the error is the one that ends it.
pub(crate) fn parse(text: &str, file: &str, problems: &mut Vec<Problem>) -> Result<Node, Problem> {
    let before = problems.len();
    let parsed = parse_file(text, &Rc::from(file), problems);
    problems[before..].iter_mut().for_each(|problem| file.clone_into(&mut problem.place.file));
    parsed.map_err(|mut problem| {
        file.clone_into(&mut problem.place.file);
        problem
    })
}

fn parse_file(text: &str, file: &Rc<str>, problems: &mut Vec<Problem>) -> Result<Node, Problem> {
    let options = granit_parser::options! { flow_nesting_limit: DEPTH_MAX, block_nesting_limit: DEPTH_MAX };
    let file = Rc::clone(file);
    let mut builder =
        Builder { file: Rc::clone(&file), open: Vec::new(), anchors: HashMap::new(), nodes: 0, root: None, problems };
    let mut documents = 0;
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| syntax_problem(error, text))?;
        let at = Position::of(&span.start);
        match event {
            Event::DocumentStart(..) => {
                documents += 1;
                if documents > 1 {
                    return Err(at.problem("a job file is one document, and here a second one starts"));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let kind = scalar(text.into_owned(), style, tag.as_deref()).unwrap_or_else(|tag| {
                    builder.refuse_tag(tag, at);
                    Kind::Broken
                });
                builder.node(kind, at, anchor)?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                refused(tag.as_deref(), "seq").into_iter().for_each(|tag| builder.refuse_tag(tag, at));
                builder.start(Kind::List(Vec::new()), at, anchor)?;
            }
            Event::MappingStart(_, anchor, tag) => {
                refused(tag.as_deref(), "map").into_iter().for_each(|tag| builder.refuse_tag(tag, at));
                builder.start(Kind::Mapping(Vec::new()), at, anchor)?;
            }
            Event::SequenceEnd | Event::MappingEnd => builder.end()?,
            Event::Alias(anchor) => builder.alias(anchor, at)?,
            _ => {}
        }
    }
    Ok(builder.root.unwrap_or(Node { file, line: 1, column: 1, kind: Kind::Null }))
}

/// A line and column, from 1.
#[derive(Clone, Copy)]
struct Position {
    line: u32,
    column: u32,
}

impl Position {
    fn of(marker: &Marker) -> Position {
        let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Position { line: narrow(marker.line()), column: narrow(marker.col() + 1) }
    }

    fn place(self) -> Place {
        Place { line: self.line, column: self.column, ..Place::default() }
    }

    fn problem(self, message: impl Into<String>) -> Problem {
        Problem::new(&self.place(), message)
    }
}

fn syntax_problem(error: ScanError, text: &str) -> Problem {
    let at = Position::of(error.marker());
    if matches!(error.kind(), ErrorKind::RecursionLimitExceeded) {
        return at.problem(too_deep());
    }
    let problem = at.problem(format!("this is not YAML: {}", error.info()));
    match text.lines().nth(at.line as usize - 1) {
        Some(line) if line.contains("${") => problem.hint("inside of `{}` and `[]`, put quotes around `${...}`"),
        _ => problem,
    }
}

fn too_deep() -> String {
    format!("lists and mappings are nested deeper than {DEPTH_MAX} levels")
}

/// A collection that is not yet closed.
struct Open {
    node: Node,
    anchor: usize,
    /// The key whose value comes next.
    key: Option<Key>,
    /// The lines of the keys so far.
    lines: HashMap<String, u32>,
    /// Whether an entry is left out for its key.
    has_gap: bool,
}

/// A key of a mapping.
enum Key {
    Text(String, Position),
    /// One that is reported; its value is left out.
    Broken,
}

/// The part of the tree that is parsed.
struct Builder<'a> {
    file: Rc<str>,
    open: Vec<Open>,
    /// Anchored nodes by the parser's number.
    anchors: HashMap<usize, Node>,
    nodes: usize,
    root: Option<Node>,
    problems: &'a mut Vec<Problem>,
}

impl Builder<'_> {
    /// Adds a scalar: as a key if one is due, else as a value.
    fn node(&mut self, kind: Kind, at: Position, anchor: usize) -> Result<(), Problem> {
        let node = Node { file: Rc::clone(&self.file), line: at.line, column: at.column, kind };
        self.count(1, at)?;
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        self.place(node, at)
    }

    fn start(&mut self, kind: Kind, at: Position, anchor: usize) -> Result<(), Problem> {
        if self.open.len() == DEPTH_MAX {
            return Err(at.problem(too_deep()));
        }
        self.count(1, at)?;
        let node = Node { file: Rc::clone(&self.file), line: at.line, column: at.column, kind };
        self.open.push(Open { node, anchor, key: None, lines: HashMap::new(), has_gap: false });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Problem> {
        let Open { mut node, anchor, has_gap, .. } = self.open.pop().expect("the parser closes only what it opened");
        if has_gap && node.kind == Kind::Mapping(Vec::new()) {
            node.kind = Kind::Broken;
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let at = Position { line: node.line, column: node.column };
        self.place(node, at)
    }

    fn alias(&mut self, anchor: usize, at: Position) -> Result<(), Problem> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(at.problem("this alias refers to a value that contains it"));
        };
        let (nodes, depth) = measure(node);
        if self.open.len() + depth > DEPTH_MAX {
            return Err(at.problem(too_deep()));
        }
        let node = node.clone();
        self.count(nodes, at)?;
        self.place(node, at)
    }

    fn count(&mut self, nodes: usize, at: Position) -> Result<(), Problem> {
        self.nodes += nodes;
        if self.nodes > NODES_MAX {
            return Err(at.problem(format!("the file has more than {NODES_MAX} values, aliases unfolded")));
        }
        Ok(())
    }

    fn is_key_due(&self) -> bool {
        self.open.last().is_some_and(|open| matches!(open.node.kind, Kind::Mapping(_)) && open.key.is_none())
    }

    /// Adds a complete node to the innermost open collection.
    fn place(&mut self, node: Node, at: Position) -> Result<(), Problem> {
        if self.is_key_due() {
            let key = self.key(node.kind, at);
            self.open.last_mut().expect("a key is due in it").key = Some(key);
            return Ok(());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.node.kind {
            Kind::List(list) => list.push(node),
            Kind::Mapping(entries) => {
                let Key::Text(key, key_at) = open.key.take().expect("a value follows its key") else {
                    open.has_gap = true;
                    return Ok(());
                };
                match open.lines.get(&key) {
                    None => {
                        open.lines.insert(key.clone(), key_at.line);
                        let file = Rc::clone(&self.file);
                        entries.push(Entry { file, key, line: key_at.line, column: key_at.column, value: node });
                    }
                    Some(line) => {
                        let message = format!("the key `{key}` is given twice, first on line {line}");
                        let path = child(&path(&self.open), &key);
                        self.problems.push(Problem::new(&Place { path, ..key_at.place() }, message));
                    }
                }
            }
            _ => unreachable!("only lists and mappings are opened"),
        }
        Ok(())
    }

    /// Reads a key; `404` and `true` are keys like any other. Reports a list or mapping.
    fn key(&mut self, kind: Kind, at: Position) -> Key {
        match kind {
            Kind::Text { text, .. } | Kind::Number(text) => Key::Text(text, at),
            Kind::Boolean(value) => Key::Text(value.to_string(), at),
            Kind::Null => Key::Text("null".to_owned(), at),
            Kind::List(_) | Kind::Mapping(_) => {
                self.report(at, "a key must be a string, not a list or mapping");
                Key::Broken
            }
            Kind::Broken => Key::Broken,
        }
    }

    fn refuse_tag(&mut self, tag: &Tag, at: Position) {
        self.report(at, format!("the tag `{}` has no meaning in a job file", tag.original()));
    }

    /// Reports a problem of the value or key that comes next, after which parsing goes on.
    fn report(&mut self, at: Position, message: impl Into<String>) {
        let path = path(&self.open);
        self.problems.push(Problem::new(&Place { path, ..at.place() }, message));
    }
}

/// Returns the path of what comes next in the innermost of these collections; that of the collection itself if it is a key.
fn path(open: &[Open]) -> String {
    open.iter().fold(String::new(), |path, open| match (&open.node.kind, &open.key) {
        (Kind::List(list), _) => element(&path, list.len()),
        (_, Some(Key::Text(key, _))) => child(&path, key),
        (_, Some(Key::Broken) | None) => path,
    })
}

/// Returns the number of nodes in a tree, and its depth. The tree is no deeper than [`DEPTH_MAX`].
fn measure(node: &Node) -> (usize, usize) {
    let join = |(nodes, depth): (usize, usize), inner: &Node| {
        let (more, inner_depth) = measure(inner);
        (nodes + more, depth.max(1 + inner_depth))
    };
    match &node.kind {
        Kind::List(list) => list.iter().fold((1, 1), join),
        Kind::Mapping(entries) => entries.iter().map(|entry| &entry.value).fold((1, 1), join),
        _ => (1, 0),
    }
}

/// Returns the kind of a scalar by YAML's core schema; the error is a tag that has no meaning.
fn scalar(text: String, style: ScalarStyle, tag: Option<&Tag>) -> Result<Kind, &Tag> {
    let plain = matches!(style, ScalarStyle::Plain);
    let string = match tag {
        None => !plain,
        Some(tag) => match tag.core_suffix() {
            Some("str") => true,
            Some("int" | "float" | "bool" | "null") => false,
            _ => return Err(tag),
        },
    };
    if string {
        return Ok(Kind::Text { text, written: None });
    }
    Ok(resolve(&text).unwrap_or(Kind::Text { text, written: None }))
}

/// Returns the kind of a plain scalar; `None` if it is a string.
pub(crate) fn resolve(text: &str) -> Option<Kind> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Some(Kind::Null),
        "true" | "True" | "TRUE" => Some(Kind::Boolean(true)),
        "false" | "False" | "FALSE" => Some(Kind::Boolean(false)),
        _ => is_number(text).then(|| Kind::Number(text.to_owned())),
    }
}

/// Returns whether the core schema reads a plain scalar as a number, the forms without a decimal value (`0x1F`, `.inf`)
/// included.
fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return !digits.is_empty() && digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    whole.len() + fraction.len() > 0
        && digits(whole)
        && digits(fraction)
        && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(exponent))
}

/// Returns the tag of a collection that is not that of YAML's core schema.
fn refused<'t>(tag: Option<&'t Tag>, core: &str) -> Option<&'t Tag> {
    tag.filter(|tag| tag.core_suffix() != Some(core))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Node {
        let mut problems = Vec::new();
        let node = parse(text, "", &mut problems).unwrap_or_else(|problem| panic!("{text}: {problem:?}"));
        assert_eq!(problems, [], "{text}");
        node
    }

    fn refused(text: &str) -> Problem {
        parse(text, "", &mut Vec::new()).expect_err("not refused")
    }

    /// The tree as JSON, numbers as `#text`.
    fn plain(node: &Node) -> serde_json::Value {
        match &node.kind {
            Kind::Null => serde_json::Value::Null,
            Kind::Boolean(value) => (*value).into(),
            Kind::Number(text) => format!("#{text}").into(),
            Kind::Text { text, .. } => text.as_str().into(),
            Kind::List(list) => list.iter().map(plain).collect(),
            Kind::Mapping(entries) => entries
                .iter()
                .map(|entry| (entry.key.clone(), plain(&entry.value)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            Kind::Broken => unreachable!("a parsed tree has no broken node"),
        }
    }

    #[test]
    fn numbers_keep_their_text_and_quotes_make_strings() {
        let node = read("[1.10, 1e3, -5, .5, 0x1F, .inf, '1', \"true\", yes, no, ~, true, 1h, 12:30, 1_000, '']");
        let expected = serde_json::json!([
            "#1.10", "#1e3", "#-5", "#.5", "#0x1F", "#.inf", "1", "true", "yes", "no", null, true, "1h", "12:30",
            "1_000", ""
        ]);
        assert_eq!(plain(&node), expected);
    }

    #[test]
    fn json_is_read_as_it_is() {
        let long = "k".repeat(900);
        let text = format!(
            "{{\"a\":1,\"b\":[true,null,{{}}],\n\t\"c\":\"x\\u00e9\\n\\/\\\"\", \"d\" : {{\"{long}\":\"//\"}},\"e\":\"\\ud83d\\ude00\"}}"
        );
        let expected: serde_json::Value =
            serde_json::from_str(&text.replace("\"a\":1", "\"a\":\"#1\"")).expect("valid JSON");
        assert_eq!(plain(&read(&text)), expected);
    }

    #[test]
    fn every_key_and_value_has_its_line_and_column_in_characters() {
        let node = read("é:\n  - ключ: {x: 1}\n  - |\n    block\n");
        let Kind::Mapping(entries) = &node.kind else { panic!("a mapping") };
        let Kind::List(list) = &entries[0].value.kind else { panic!("a list") };
        let Kind::Mapping(inner) = &list[0].kind else { panic!("a mapping") };
        let Kind::Mapping(innermost) = &inner[0].value.kind else { panic!("a mapping") };
        let position = |node: &Node| (node.line, node.column);
        assert_eq!(position(&list[0]), (2, 5));
        assert_eq!(position(&inner[0].value), (2, 11));
        assert_eq!((innermost[0].line, innermost[0].column), (2, 12));
        assert_eq!(position(&innermost[0].value), (2, 15));
        assert_eq!(position(&list[1]), (4, 5), "a block's place is that of its text");
    }

    #[test]
    fn an_alias_is_what_it_names() {
        assert_eq!(
            plain(&read("a: &x {b: 1}\nc: *x\n&k d: *k\n")),
            serde_json::json!({"a": {"b": "#1"}, "c": {"b": "#1"}, "d": "d"})
        );
        assert_eq!(refused("a: &x [*x]").message, "this alias refers to a value that contains it");
        assert!(refused("a: *nowhere").message.starts_with("this is not YAML"));
    }

    #[test]
    fn a_repeated_key_is_a_problem_with_its_path_and_the_first_counts() {
        let mut problems = Vec::new();
        let node = parse("a:\n  - x\n  - {b: {c: 1, d: 2, c: 3}}\na: 4\n", "", &mut problems).expect("readable");
        assert_eq!(plain(&node), serde_json::json!({"a": ["x", {"b": {"c": "#1", "d": "#2"}}]}));
        let shown: Vec<_> = problems.iter().map(|problem| (problem.place.path.as_str(), problem.place.line)).collect();
        assert_eq!(shown, [("a[1].b.c", 3), ("a", 4)]);
        assert_eq!(problems[0].message, "the key `c` is given twice, first on line 3");
    }

    #[test]
    fn nesting_beyond_128_levels_is_a_problem_and_no_crash() {
        let deep = |levels: usize, open: &str, close: &str| open.repeat(levels) + "1" + &close.repeat(levels);
        read(&deep(128, "[", "]"));
        read(&deep(128, "{\"a\":", "}"));
        let block = |levels: usize| (0..levels).map(|level| format!("{}a:\n", " ".repeat(level))).collect::<String>();
        read(&block(128));
        let texts = [
            deep(129, "[", "]"),
            deep(100_000, "[", "]"),
            deep(100_000, "{\"a\":", "}"),
            deep(100_000, "[", ""),
            deep(50_000, "[{\"a\":", "}]"),
            deep(100_000, "- ", ""),
            block(129),
            block(5_000),
            format!("a: &x {}\nb: {}", deep(100, "[", "]"), deep(100, "[", "]").replace('1', "*x")),
        ];
        for text in texts {
            assert_eq!(refused(&text).message, "lists and mappings are nested deeper than 128 levels");
        }
    }

    #[test]
    fn an_alias_bomb_is_a_problem_and_no_crash() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..30 {
            let alias = format!("*a{}", level - 1);
            text += &format!("a{level}: &a{level} [{}]\n", vec![alias; 10].join(", "));
        }
        assert_eq!(refused(&text).message, "the file has more than 1000000 values, aliases unfolded");
    }

    #[test]
    fn a_key_that_is_no_string_and_a_tag_hide_nothing_that_follows() {
        let text = "a: !secret x\nb:\n  [c]: 1\n  d: 2\ne:\n  - {{ f }}\n  - !list [g: {h: 2, h: 3}]\n? {i: 1, i: 2}\n: 4\na: 5\n";
        let mut problems = Vec::new();
        let node = parse(text, "", &mut problems).expect("readable");
        let Kind::Mapping(entries) = &node.kind else { panic!("a mapping") };
        let keys: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, ["a", "b", "e"]);
        assert_eq!(entries[0].value.kind, Kind::Broken);
        assert_eq!(plain(&entries[1].value), serde_json::json!({"d": "#2"}));
        let Kind::List(list) = &entries[2].value.kind else { panic!("a list") };
        assert_eq!(list[0].kind, Kind::Broken, "nothing is left of it");
        assert_eq!(plain(&list[1]), serde_json::json!([{"g": {"h": "#2"}}]));
        let shown: Vec<String> = problems
            .iter()
            .map(|Problem { place, message, .. }| format!("{} {}: {message}", place.line, place.path))
            .collect();
        let expected = [
            "1 a: the tag `!secret` has no meaning in a job file",
            "3 b: a key must be a string, not a list or mapping",
            "6 e[0]: a key must be a string, not a list or mapping",
            "7 e[1]: the tag `!list` has no meaning in a job file",
            "7 e[1][0].g.h: the key `h` is given twice, first on line 7",
            "8 i: the key `i` is given twice, first on line 8",
            "8 : a key must be a string, not a list or mapping",
            "10 a: the key `a` is given twice, first on line 1",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn what_a_job_file_cannot_be_is_refused_with_its_place() {
        let problem = refused("a: 1\n---\nb: 2\n");
        assert_eq!((problem.place.line, problem.place.column), (2, 1));
        assert_eq!(problem.message, "a job file is one document, and here a second one starts");
        assert_eq!(read("").kind, Kind::Null);
        assert_eq!(plain(&read("\u{feff}a: !!str 1")), serde_json::json!({"a": "1"}));
    }
}
