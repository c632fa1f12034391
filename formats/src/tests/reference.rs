//! The reader again, the obvious way: parse everything into a tree, look paths up one by one, check what was found.

use std::borrow::Cow;

use usher_config::{Format, Found, Path, Step};

use crate::{Fields, Needed};

/// What the reader must answer. None: broken.
#[derive(Debug, PartialEq)]
pub struct Answers<'a> {
    pub kind: Option<Found<'a>>,
    pub name: Option<Found<'a>>,
    pub key: Option<Found<'a>>,
    pub id: Option<Found<'a>>,
    /// What the time is made of, by the rule's order.
    pub times: Option<Vec<Found<'a>>>,
    pub paths: Vec<Option<Found<'a>>>,
}

impl<'a> Answers<'a> {
    /// What the reader answers, which does not show what its time is made of: `times` is in its place.
    pub fn of(fields: &Fields<'a>, paths: usize, times: Vec<Found<'a>>) -> Answers<'a> {
        let sound = |value: Needed| fields.broken([value]).is_none();
        Answers {
            kind: sound(Needed::Kind).then(|| fields.kind().clone()),
            name: sound(Needed::Name).then(|| fields.name().clone()),
            key: sound(Needed::Key).then(|| fields.key().clone()),
            id: sound(Needed::Id).then(|| fields.id().clone()),
            times: sound(Needed::Time).then_some(times),
            paths: (0..paths).map(|i| sound(Needed::Path(i)).then(|| fields.get(i).clone())).collect(),
        }
    }
}

/// None: malformed.
pub fn decode<'a>(format: &Format, paths: &[Path], message: &'a [u8]) -> Option<Answers<'a>> {
    let message = message.strip_prefix(b"\xef\xbb\xbf").unwrap_or(message);
    let tree = object(std::str::from_utf8(message).ok()?)?;
    let key = |name: &str| Path(vec![Step::Key(name.to_owned())]);
    let one = |path: &Path| found(&tree, &path.0);
    let all;
    let (kind, name, id, user, times);
    match format {
        Format::Json(json) => {
            let given = |path: &Option<Path>| path.as_ref().map_or(Some(Found::Nothing), one);
            (kind, name) = (given(&json.kind), given(&json.name));
            (user, id) = (given(&json.key), given(&json.id));
            times = given(&json.time).map(|time| vec![time]);
            let object = json.properties.clone().unwrap_or(Path(Vec::new()));
            all = paths
                .iter()
                .map(|path| match path.0.split_first() {
                    Some((Step::Key(first), rest)) if first == "properties" => {
                        found(&tree, &[&object.0, rest].concat())
                    }
                    _ => one(path),
                })
                .collect();
        }
        _ => {
            kind = one(&key("type"));
            let is = |names: &[&str]| names.iter().any(|name| kind == Some(Found::Text((*name).into())));
            name = one(&key(if is(&["page", "screen"]) { "name" } else { "event" }));
            user = one(&key("userId"));
            id = one(&key("messageId"));
            times = ["timestamp", "receivedAt", "sentAt", "originalTimestamp"]
                .iter()
                .map(|name| one(&key(name)))
                .collect::<Option<Vec<_>>>();
            all = paths
                .iter()
                .map(|path| {
                    if !is(&["identify", "group"]) || path.0.first() != key("properties").0.first() {
                        return one(path);
                    }
                    let mut traits = vec![vec!["traits"]];
                    if *format == Format::Rudderstack {
                        traits.push(vec!["context", "traits"]);
                    }
                    let mut places = vec![path.clone()];
                    for names in traits {
                        let steps = names.iter().map(|name| Step::Key((*name).to_owned()));
                        places.push(Path(steps.chain(path.0[1..].iter().cloned()).collect()));
                    }
                    let has = |path: &Path| {
                        let star = path.0.iter().position(|step| *step == Step::All).unwrap_or(path.0.len());
                        at(&tree, &path.0[..star]).is_some()
                    };
                    places.iter().find(|path| has(path)).map_or(Some(Found::Nothing), one)
                })
                .collect();
        }
    }
    Some(Answers { kind, name, key: user, id, times, paths: all })
}

/// The tree of a text that is one object.
pub fn object(text: &str) -> Option<Tree<'_>> {
    let mut parser = Parser { chars: text.char_indices().collect(), at: 0, text };
    parser.blank();
    let tree = parser.value(1)?;
    parser.blank();
    (parser.at == parser.chars.len() && matches!(tree.shape, Shape::Object(_))).then_some(tree)
}

#[derive(Clone)]
pub struct Tree<'a> {
    pub text: &'a str,
    pub shape: Shape<'a>,
}

#[derive(Clone)]
pub enum Shape<'a> {
    Object(Vec<(&'a str, Tree<'a>)>),
    Array(Vec<Tree<'a>>),
    Text,
    Word,
}

struct Parser<'a> {
    text: &'a str,
    chars: Vec<(usize, char)>,
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).map(|(_, char)| *char)
    }

    fn byte(&self) -> usize {
        self.chars.get(self.at).map_or(self.text.len(), |(byte, _)| *byte)
    }

    fn blank(&mut self) {
        while self.peek().is_some_and(|char| " \t\r\n".contains(char)) {
            self.at += 1;
        }
    }

    fn eat(&mut self, char: char) -> Option<()> {
        self.blank();
        (self.peek()? == char).then(|| self.at += 1)
    }

    fn string(&mut self) -> Option<&'a str> {
        let start = self.byte();
        self.eat('"')?;
        loop {
            match self.peek()? {
                '"' => break,
                '\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Some(&self.text[start..self.byte()])
    }

    fn value(&mut self, level: usize) -> Option<Tree<'a>> {
        self.blank();
        let start = self.byte();
        let shape = match self.peek()? {
            '"' => {
                self.string()?;
                Shape::Text
            }
            '{' if level <= 128 => {
                self.at += 1;
                let mut members = Vec::new();
                if self.eat('}').is_none() {
                    loop {
                        self.blank();
                        let name = self.string()?;
                        self.eat(':')?;
                        members.push((name, self.value(level + 1)?));
                        if self.eat('}').is_some() {
                            break;
                        }
                        self.eat(',')?;
                    }
                }
                Shape::Object(members)
            }
            '[' if level <= 128 => {
                self.at += 1;
                let mut elements = Vec::new();
                if self.eat(']').is_none() {
                    loop {
                        elements.push(self.value(level + 1)?);
                        if self.eat(']').is_some() {
                            break;
                        }
                        self.eat(',')?;
                    }
                }
                Shape::Array(elements)
            }
            _ => {
                let word = |char: char| char.is_ascii_alphanumeric() || "+-._".contains(char);
                while self.peek().is_some_and(word) {
                    self.at += 1;
                }
                if self.byte() == start {
                    return None;
                }
                Shape::Word
            }
        };
        Some(Tree { text: &self.text[start..self.byte()], shape })
    }
}

/// None: broken.
pub fn found<'a>(tree: &Tree<'a>, path: &[Step]) -> Option<Found<'a>> {
    if path.contains(&Step::All) {
        let before = path.iter().take_while(|step| **step != Step::All).count();
        return Some(match at(tree, &path[..before]) {
            Some(Tree { shape: Shape::Array(_), .. }) => {
                let mut all = Vec::new();
                each(tree, path, &mut all)?;
                Found::Compound(format!("[{}]", all.join(",")).into())
            }
            _ => Found::Nothing,
        });
    }
    at(tree, path).map_or(Some(Found::Nothing), value)
}

pub fn at<'t, 'a>(tree: &'t Tree<'a>, path: &[Step]) -> Option<&'t Tree<'a>> {
    let Some((step, rest)) = path.split_first() else {
        return Some(tree);
    };
    let next = match (step, &tree.shape) {
        (Step::Key(key), Shape::Object(members)) => {
            let named =
                |raw: &str| string(&raw.replace(|c: char| c < ' ', "?")).map(|name| name.unwrap_or_else(|it| it));
            &members.iter().rev().find(|(raw, _)| named(raw).is_some_and(|name| name == *key))?.1
        }
        (Step::Index(index), Shape::Array(elements)) => elements.get(*index)?,
        _ => return None,
    };
    at(next, rest)
}

fn each(tree: &Tree<'_>, path: &[Step], all: &mut Vec<String>) -> Option<()> {
    let before = path.iter().take_while(|step| **step != Step::All).count();
    match (at(tree, &path[..before]), path.get(before)) {
        (None, _) => {}
        (Some(end), None) => {
            if value(end)? != Found::Nothing {
                all.push(strict(end));
            }
        }
        (Some(list), Some(_)) => {
            if let Shape::Array(elements) = &list.shape {
                for element in elements {
                    each(element, &path[before + 1..], all)?;
                }
            }
        }
    }
    Some(())
}

fn value<'a>(tree: &Tree<'a>) -> Option<Found<'a>> {
    match &tree.shape {
        Shape::Text => string(tree.text).map(|string| match string {
            Ok(text) => Found::Text(Cow::Owned(text)),
            Err(mended) => Found::Mended(mended),
        }),
        Shape::Word => match tree.text {
            "true" => Some(Found::Boolean(true)),
            "false" => Some(Found::Boolean(false)),
            "null" => Some(Found::Nothing),
            "NaN" | "Infinity" | "-Infinity" => Some(Found::NotFinite),
            // A raw value is checked to the letter and not read, so that it may be of any size.
            text => serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok().then_some(Found::Number(text)),
        },
        Shape::Object(members) => {
            for (name, member) in members {
                let _ = string(name)?;
                value(member)?;
            }
            Some(Found::Compound(Cow::Owned(strict(tree))))
        }
        Shape::Array(elements) => {
            for element in elements {
                value(element)?;
            }
            Some(Found::Compound(Cow::Owned(strict(tree))))
        }
    }
}

/// The text of a string, an error with U+FFFD for halves of surrogate pairs. None: broken.
pub fn string(quoted: &str) -> Option<Result<String, String>> {
    let mut units = Vec::new();
    let mut chars = quoted[1..quoted.len() - 1].chars();
    while let Some(char) = chars.next() {
        let char = match char {
            '\\' => match chars.next()? {
                'u' => {
                    let digits: String = chars.by_ref().take(4).collect();
                    if digits.len() < 4 || !digits.chars().all(|digit| digit.is_ascii_hexdigit()) {
                        return None;
                    }
                    units.push(u16::from_str_radix(&digits, 16).ok()?);
                    continue;
                }
                char @ ('"' | '\\' | '/') => char,
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                _ => return None,
            },
            '\0'..' ' => return None,
            char => char,
        };
        units.extend_from_slice(char.encode_utf16(&mut [0; 2]));
    }
    Some(String::from_utf16(&units).map_err(|_| String::from_utf16_lossy(&units)))
}

/// The text of a sound value as strict JSON.
pub fn strict(tree: &Tree<'_>) -> String {
    let mut parts = Vec::new();
    odd_parts(tree, &mut parts);
    let mut text = tree.text.to_owned();
    for (part, strict) in parts.into_iter().rev() {
        // A list that was put together has its elements elsewhere, and is strict.
        let at = (part.as_ptr() as usize).wrapping_sub(tree.text.as_ptr() as usize);
        if at < tree.text.len() {
            text.replace_range(at..at + part.len(), &strict);
        }
    }
    text
}

/// Adds the parts that are not strict JSON, in order, and what stands for them.
fn odd_parts<'a>(tree: &Tree<'a>, parts: &mut Vec<(&'a str, String)>) {
    let odd_string = |quoted: &'a str, parts: &mut Vec<(&'a str, String)>| {
        if let Some(Err(mended)) = string(quoted) {
            parts.push((quoted, serde_json::to_string(&mended).expect("a string")));
        }
    };
    match &tree.shape {
        Shape::Text => odd_string(tree.text, parts),
        Shape::Word => {
            if value(tree) == Some(Found::NotFinite) {
                parts.push((tree.text, "{}".to_owned()));
            }
        }
        Shape::Object(members) => {
            for (name, member) in members {
                odd_string(name, parts);
                odd_parts(member, parts);
            }
        }
        Shape::Array(elements) => elements.iter().for_each(|element| odd_parts(element, parts)),
    }
}
