//! A tree of nodes against the file's shape: what fits becomes typed items, what does not becomes problems.
//!
//! Goes on after every problem. An item that is reported is missing from the result, so that whoever reads on can tell
//! "not there" from "there but wrong" by [`Fields::has`] and need not report anything twice.

use crate::schema::{self, Key, Record, Rule, Shape};
use crate::suggest::{and_list, nearest, or_list};
use crate::yaml::{self, Entry, Kind, Node};
use crate::{Decimal, Path, Place, Problem, duration, size};

/// A value of the shape it should have.
#[derive(Debug)]
pub(crate) struct Item {
    /// Where it stands.
    pub place: Place,
    /// The value.
    pub value: Value,
}

/// The value of an [`Item`].
#[derive(Debug)]
pub(crate) enum Value {
    Text(String),
    Path(Path),
    /// A duration.
    Milliseconds(u64),
    Bytes(u64),
    Number(Decimal),
    Boolean(bool),
    Whole(u32),
    /// As written, its `${VAR}` not substituted.
    Secret(String),
    /// A value for librdkafka: its text, and the text as written.
    Setting(String, String),
    /// A time, ms since the epoch.
    Time(u64),
    Choice(&'static str),
    List(Vec<Item>),
    Record(Fields),
    Entries(Vec<Named>),
}

/// An entry under a key of the author's.
#[derive(Debug)]
pub(crate) struct Named {
    /// The key.
    pub name: String,
    /// Where the key stands.
    pub place: Place,
    /// The value; none: reported.
    pub item: Option<Item>,
}

/// The fields of a record that are right, defaults filled in.
#[derive(Debug)]
pub(crate) struct Fields {
    /// Whose fields.
    pub record: &'static Record,
    /// Keys that stand in the file, right or wrong.
    written: Vec<String>,
    /// By key.
    items: Vec<(&'static str, Item)>,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.what)
    }
}

impl Fields {
    /// Whether the file gives that key, rightly or not.
    pub fn has(&self, key: &str) -> bool {
        self.written.iter().any(|written| written == key)
    }

    /// The item under a key, if it is right.
    pub fn get(&self, key: &str) -> Option<&Item> {
        assert!(self.record.key(key).is_some(), "a {} has no key `{key}`", self.record.what);
        self.items.iter().find(|(name, _)| *name == key).map(|(_, item)| item)
    }

    /// The name of its first key: which of the kinds of a [`Shape::OneOf`] it is.
    pub fn kind(&self) -> &'static str {
        self.record.keys[0].name
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        match &self.get(key)?.value {
            Value::Text(text) => Some(text),
            other => panic!("`{key}` is a text in the shape, not {other:?}"),
        }
    }

    pub fn path(&self, key: &str) -> Option<&Path> {
        match &self.get(key)?.value {
            Value::Path(path) => Some(path),
            other => panic!("`{key}` is a path in the shape, not {other:?}"),
        }
    }

    pub fn choice(&self, key: &str) -> Option<&'static str> {
        match &self.get(key)?.value {
            Value::Choice(word) => Some(word),
            _ => None,
        }
    }

    pub fn milliseconds(&self, key: &str) -> Option<u64> {
        match &self.get(key)?.value {
            Value::Milliseconds(ms) => Some(*ms),
            _ => None,
        }
    }

    pub fn bytes(&self, key: &str) -> Option<u64> {
        match &self.get(key)?.value {
            Value::Bytes(bytes) => Some(*bytes),
            other => panic!("`{key}` is a size in the shape, not {other:?}"),
        }
    }

    pub fn whole(&self, key: &str) -> Option<u32> {
        match &self.get(key)?.value {
            Value::Whole(number) => Some(*number),
            other => panic!("`{key}` is a whole number in the shape, not {other:?}"),
        }
    }

    pub fn boolean(&self, key: &str) -> Option<bool> {
        match &self.get(key)?.value {
            Value::Boolean(value) => Some(*value),
            other => panic!("`{key}` is a boolean in the shape, not {other:?}"),
        }
    }

    pub fn record(&self, key: &str) -> Option<&Fields> {
        match &self.get(key)?.value {
            Value::Record(fields) => Some(fields),
            _ => None,
        }
    }

    pub fn entries(&self, key: &str) -> &[Named] {
        match self.get(key).map(|item| &item.value) {
            Some(Value::Entries(entries)) => entries,
            None => &[],
            Some(other) => panic!("`{key}` is a mapping in the shape, not {other:?}"),
        }
    }

    pub fn list(&self, key: &str) -> Option<&[Item]> {
        match &self.get(key)?.value {
            Value::List(items) => Some(items),
            other => panic!("`{key}` is a list in the shape, not {other:?}"),
        }
    }
}

/// Reads the whole file's record.
pub(crate) fn job(node: &Node, problems: &mut Vec<Problem>) -> Option<Fields> {
    match (Checker { problems }).record(&schema::JOB, node, "") {
        Some(Value::Record(fields)) => Some(fields),
        _ => None,
    }
}

struct Checker<'a> {
    problems: &'a mut Vec<Problem>,
}

impl Checker<'_> {
    fn say(&mut self, place: Place, message: impl Into<String>) -> Option<Value> {
        self.problems.push(Problem::new(&place, message));
        None
    }

    fn say_with_hint(&mut self, place: Place, message: impl Into<String>, hint: Option<String>) -> Option<Value> {
        let problem = Problem::new(&place, message);
        self.problems.push(match hint {
            Some(hint) => problem.hint(hint),
            None => problem,
        });
        None
    }

    fn item(&mut self, shape: &'static Shape, node: &Node, path: &str) -> Option<Item> {
        let value = self.value(shape, node, path)?;
        Some(Item { place: node.place(path), value })
    }

    fn value(&mut self, shape: &'static Shape, node: &Node, path: &str) -> Option<Value> {
        if matches!(node.kind, Kind::Broken) {
            return None;
        }
        match shape {
            Shape::Text | Shape::Reference(_) | Shape::Predicate => {
                let text = self.text(node, path)?;
                if text.trim().is_empty() {
                    return self.say(node.place(path), "must not be empty");
                }
                Some(Value::Text(text.to_owned()))
            }
            Shape::Id => {
                let text = self.text(node, path)?;
                self.id(text, node.place(path))?;
                Some(Value::Text(text.to_owned()))
            }
            Shape::Path => {
                let text = self.text(node, path)?;
                match Path::parse(text) {
                    Ok(parsed) => Some(Value::Path(parsed)),
                    Err(reason) => {
                        let hint = "a path is written as in `a.\"odd name\"[0].b`";
                        self.say_with_hint(node.place(path), reason, Some(hint.to_owned()))
                    }
                }
            }
            Shape::Duration { least, most } => self.duration(node, path, *least, *most),
            Shape::Refresh => match &node.kind {
                Kind::Text { text, .. } if text == "manual" => Some(Value::Choice("manual")),
                _ => self.duration(node, path, 1_000, u64::MAX),
            },
            Shape::Size => self.size(node, path),
            Shape::Number => self.number(node, path),
            Shape::Whole { least, most } => self.whole(node, path, *least, *most),
            Shape::Secret => match &node.kind {
                Kind::Text { text, written } if !text.trim().is_empty() => {
                    Some(Value::Secret(written.as_ref().unwrap_or(text).clone()))
                }
                Kind::Text { .. } => self.say(node.place(path), "must not be empty"),
                _ => self.say_with_hint(node.place(path), "must be a string", Some("put it in quotes".to_owned())),
            },
            Shape::Setting => match &node.kind {
                Kind::Text { text, written } => {
                    Some(Value::Setting(text.clone(), written.as_ref().unwrap_or(text).clone()))
                }
                Kind::Number(text) => Some(Value::Setting(text.clone(), text.clone())),
                Kind::Boolean(value) => Some(Value::Setting(value.to_string(), value.to_string())),
                _ => {
                    let message = format!("must be a string, number or boolean, not {}", describe(node, path));
                    self.say(node.place(path), message)
                }
            },
            Shape::Template => Some(Value::Text(self.text(node, path)?.to_owned())),
            Shape::Topic => self.topic(node, path),
            Shape::Address => self.address(node, path),
            Shape::Start => self.start(node, path),
            Shape::OneOrMore(of) => match &node.kind {
                Kind::List(_) => self.list(of, 1, usize::MAX, true, node, path),
                _ => self.item(of, node, path).map(|item| Value::List(vec![item])),
            },
            Shape::Boolean => match &node.kind {
                Kind::Boolean(value) => Some(Value::Boolean(*value)),
                Kind::Text { text, written: Some(_) } if matches!(yaml::resolve(text), Some(Kind::Boolean(_))) => {
                    Some(Value::Boolean(text.eq_ignore_ascii_case("true")))
                }
                _ => self.say(node.place(path), format!("must be `true` or `false`, not {}", describe(node, path))),
            },
            Shape::Choice { what, words } => self.choice(what, words, node, path),
            Shape::List { of, least, most, unique } => self.list(of, *least, *most, *unique, node, path),
            Shape::Record(record) => self.record(record, node, path),
            Shape::OneOf { what, records } => self.one_of(what, records, node, path),
            Shape::Entries { of, ids } => self.entries(of, *ids, node, path),
            Shape::Short { scalar, long } => match &node.kind {
                Kind::Mapping(_) => self.record(long, node, path),
                _ => self.value(scalar, node, path),
            },
        }
    }

    fn text<'n>(&mut self, node: &'n Node, path: &str) -> Option<&'n str> {
        match &node.kind {
            Kind::Text { text, .. } => return Some(text),
            Kind::Number(text) => {
                let hint = format!("put it in quotes: `\"{text}\"`");
                self.say_with_hint(
                    node.place(path),
                    format!("must be a string, not {}", describe(node, path)),
                    Some(hint),
                );
            }
            Kind::Boolean(value) => {
                let hint = format!("put it in quotes: `\"{value}\"`");
                self.say_with_hint(
                    node.place(path),
                    format!("must be a string, not {}", describe(node, path)),
                    Some(hint),
                );
            }
            _ => {
                self.say(node.place(path), format!("must be a string, not {}", describe(node, path)));
            }
        }
        None
    }

    fn id(&mut self, text: &str, place: Place) -> Option<()> {
        let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
        if text.starts_with(letter) && text.chars().all(|c| letter(c) || c.is_ascii_digit() || c == '-') {
            return Some(());
        }
        let hint = "an id has letters, digits, `_` and `-`, and starts with a letter or `_`";
        self.say_with_hint(place, format!("`{text}` is not an id"), Some(hint.to_owned()));
        None
    }

    fn duration(&mut self, node: &Node, path: &str, least: u64, most: u64) -> Option<Value> {
        let hint = || Some("durations are written as in `250ms 30s 5m 4h 7d 1h30m`".to_owned());
        let parsed = match &node.kind {
            Kind::Text { text, .. } => duration::parse(text),
            Kind::Number(text) => Err(format!("`{text}` has no unit")),
            _ => Err(format!("must be a duration, not {}", describe(node, path))),
        };
        match parsed {
            Err(reason) => self.say_with_hint(node.place(path), reason, hint()),
            Ok(ms) if ms < least => self.say(node.place(path), format!("must be at least {}", duration::format(least))),
            Ok(ms) if ms > most => self.say(node.place(path), format!("must be at most {}", duration::format(most))),
            Ok(ms) => Some(Value::Milliseconds(ms)),
        }
    }

    fn size(&mut self, node: &Node, path: &str) -> Option<Value> {
        let parsed = match &node.kind {
            Kind::Text { text, .. } | Kind::Number(text) => size::parse(text),
            _ => Err(format!("must be a size, not {}", describe(node, path))),
        };
        match parsed {
            Err(reason) => {
                let hint = "sizes are written as in `512KiB 1MiB 2GiB`, or as a number of bytes";
                self.say_with_hint(node.place(path), reason, Some(hint.to_owned()))
            }
            Ok(0) => self.say(node.place(path), "must be at least 1"),
            Ok(bytes) => Some(Value::Bytes(bytes)),
        }
    }

    fn number(&mut self, node: &Node, path: &str) -> Option<Value> {
        let text = match &node.kind {
            Kind::Number(text) => text,
            Kind::Text { text, written: Some(_) } if matches!(yaml::resolve(text), Some(Kind::Number(_))) => text,
            Kind::Text { text, .. } if Decimal::parse(text).is_some() => {
                let hint = format!("leave out the quotes: `{text}`");
                return self.say_with_hint(
                    node.place(path),
                    format!("must be a number, not {}", describe(node, path)),
                    Some(hint),
                );
            }
            _ => {
                return self.say(node.place(path), format!("must be a number, not {}", describe(node, path)));
            }
        };
        match Decimal::parse(text) {
            Some(number) => Some(Value::Number(number)),
            None => self.say(node.place(path), format!("`{text}` is not a decimal number from -1e28 to 1e28")),
        }
    }

    fn whole(&mut self, node: &Node, path: &str, least: u32, most: u32) -> Option<Value> {
        let Value::Number(number) = self.number(node, path)? else { panic!("a number is read as one") };
        let whole = number.to_i64().filter(|_| number.is_whole()).and_then(|number| u32::try_from(number).ok());
        match whole.filter(|number| (least..=most).contains(number)) {
            Some(number) => Some(Value::Whole(number)),
            None => {
                self.say(node.place(path), format!("must be a whole number from {least} to {most}, not `{number}`"))
            }
        }
    }

    fn topic(&mut self, node: &Node, path: &str) -> Option<Value> {
        let text = self.text(node, path)?;
        let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if text.trim().is_empty() {
            return self.say(node.place(path), "must not be empty");
        }
        if text.len() > TOPIC_BYTES_MAX || matches!(text, "." | "..") || !text.chars().all(letter) {
            let hint = format!("a topic has up to {TOPIC_BYTES_MAX} letters, digits, `.`, `_` and `-`");
            return self.say_with_hint(node.place(path), format!("`{text}` is not a topic"), Some(hint));
        }
        Some(Value::Text(text.to_owned()))
    }

    fn address(&mut self, node: &Node, path: &str) -> Option<Value> {
        let text = self.text(node, path)?;
        let host = text.rsplit_once(':').and_then(|(host, port)| port.parse::<u16>().is_ok().then_some(host));
        let bracketed = |host: &str| host.starts_with('[') && host.ends_with(']');
        match host {
            Some(host) if !host.trim().is_empty() && (bracketed(host) || !host.contains(':')) => {
                Some(Value::Text(text.to_owned()))
            }
            _ => {
                let hint = "an address is written as in `127.0.0.1:8080`, `localhost:8080` or `[::1]:8080`";
                self.say_with_hint(node.place(path), format!("`{text}` is not an address"), Some(hint.to_owned()))
            }
        }
    }

    fn start(&mut self, node: &Node, path: &str) -> Option<Value> {
        let time = match &node.kind {
            Kind::Text { text, .. } if text == "earliest" => return Some(Value::Choice("earliest")),
            Kind::Text { text, .. } if text == "latest" => return Some(Value::Choice("latest")),
            Kind::Text { text, .. } => time(text),
            Kind::Number(text) => text.parse().ok(),
            _ => None,
        };
        match time {
            Some(ms) => Some(Value::Time(ms)),
            None => {
                let message = format!("must be `earliest`, `latest` or a time, not {}", describe(node, path));
                let hint = "a time is RFC 3339, as in `2026-11-23T10:00:00Z`, or ms since the epoch, from 1970 on";
                self.say_with_hint(node.place(path), message, Some(hint.to_owned()))
            }
        }
    }

    fn choice(&mut self, what: &'static str, words: &'static [&'static str], node: &Node, path: &str) -> Option<Value> {
        let text = self.text(node, path)?;
        if let Some(word) = words.iter().find(|word| **word == text) {
            return Some(Value::Choice(word));
        }
        if let Some(unavailable) = schema::unavailable(what).find(|unavailable| unavailable.name == text) {
            return self.unavailable(unavailable.called, node.place(path));
        }
        let all = words.iter().copied().chain(schema::unavailable(what).map(|unavailable| unavailable.name));
        let hint = match nearest(text, all) {
            Some(word) => format!("did you mean `{word}`?"),
            None => format!("it is one of {}", or_list(words)),
        };
        self.say_with_hint(node.place(path), format!("unknown {what} `{text}`"), Some(hint))
    }

    fn unavailable(&mut self, called: &str, place: Place) -> Option<Value> {
        self.say(place, format!("{called} not available in this version"))
    }

    fn list(
        &mut self,
        of: &'static Shape,
        least: usize,
        most: usize,
        unique: bool,
        node: &Node,
        path: &str,
    ) -> Option<Value> {
        let Kind::List(nodes) = &node.kind else {
            return self.say(node.place(path), format!("must be a list, not {}", describe(node, path)));
        };
        if nodes.len() < least || nodes.len() > most {
            let message = match (least, most) {
                _ if least == most => format!("must have {least} elements, not {}", nodes.len()),
                _ => "must not be empty".to_owned(),
            };
            return self.say(node.place(path), message);
        }
        let mut seen: Vec<&str> = Vec::new();
        let mut items = Vec::new();
        for (index, inner) in nodes.iter().enumerate() {
            let inner_path = yaml::element(path, index);
            match &inner.kind {
                Kind::Text { text, .. } if unique && seen.contains(&text.as_str()) => {
                    self.say(inner.place(&inner_path), format!("`{text}` is listed twice"));
                    continue;
                }
                Kind::Text { text, .. } if unique => seen.push(text),
                _ => {}
            }
            items.extend(self.item(of, inner, &inner_path));
        }
        if items.len() < least {
            return None;
        }
        Some(Value::List(items))
    }

    fn entries(&mut self, of: &'static Shape, ids: bool, node: &Node, path: &str) -> Option<Value> {
        let entries = self.mapping(node, path)?;
        let mut named = Vec::new();
        for entry in entries {
            let inner_path = yaml::child(path, &entry.key);
            if ids {
                self.id(&entry.key, entry.place(&inner_path));
            } else if entry.key.is_empty() {
                self.say(entry.place(&inner_path), "a name must not be empty");
            }
            let item = self.item(of, &entry.value, &inner_path);
            named.push(Named { name: entry.key.clone(), place: entry.place(&inner_path), item });
        }
        Some(Value::Entries(named))
    }

    /// The entries of a mapping; nothing at all counts as an empty one.
    fn mapping<'n>(&mut self, node: &'n Node, path: &str) -> Option<&'n [Entry]> {
        match &node.kind {
            Kind::Mapping(entries) => Some(entries),
            Kind::Null => Some(&[]),
            Kind::Broken => None,
            _ => {
                self.say(node.place(path), format!("must be a mapping, not {}", describe(node, path)));
                None
            }
        }
    }

    fn one_of(
        &mut self,
        what: &'static str,
        records: &'static [&'static Record],
        node: &Node,
        path: &str,
    ) -> Option<Value> {
        let entries = self.mapping(node, path)?;
        let lacking = |entry: &Entry| schema::unavailable(what).find(|unavailable| unavailable.name == entry.key);
        if let Some((entry, unavailable)) = entries.iter().find_map(|entry| Some((entry, lacking(entry)?))) {
            return self.unavailable(unavailable.called, entry.place(&yaml::child(path, &entry.key)));
        }
        let is_there = |record: &&&Record| entries.iter().any(|entry| entry.key == record.keys[0].name);
        let there: Vec<_> = records.iter().filter(is_there).collect();
        match there.as_slice() {
            [record] => self.record(record, node, path),
            [] => {
                let kinds: Vec<&str> = records.iter().map(|record| record.keys[0].name).collect();
                let all = || kinds.iter().copied().chain(schema::unavailable(what).map(|unavailable| unavailable.name));
                for entry in entries {
                    let known = records.iter().any(|record| record.key(&entry.key).is_some());
                    if let (false, Some(kind)) = (known, nearest(&entry.key, all())) {
                        let place = entry.place(&yaml::child(path, &entry.key));
                        let hint = format!("did you mean `{kind}`?");
                        return self.say_with_hint(place, format!("unknown key `{}`", entry.key), Some(hint));
                    }
                }
                self.say(node.place(path), format!("a {what} has one of {}", or_list(&kinds)))
            }
            _ => {
                let kinds: Vec<&str> = there.iter().map(|record| record.keys[0].name).collect();
                let hint = "put them into a list under `all` or `any`";
                let message = format!("a {what} is of one kind, and this one has {}", and_list(&kinds));
                self.say_with_hint(node.place(path), message, Some(hint.to_owned()))
            }
        }
    }

    fn record(&mut self, record: &'static Record, node: &Node, path: &str) -> Option<Value> {
        let entries = self.mapping(node, path)?;
        let mut fields = Fields { record, written: Vec::new(), items: Vec::new() };
        // What this version lacks may be what a rule asks for, so rules wait until it is gone.
        let mut lacking = false;
        for entry in entries {
            fields.written.push(entry.key.clone());
            let inner_path = yaml::child(path, &entry.key);
            if let Some(key) = record.key(&entry.key) {
                if let Some(item) = self.item(key.shape, &entry.value, &inner_path) {
                    fields.items.push((key.name, item));
                }
                continue;
            }
            let place = entry.place(&inner_path);
            match schema::unavailable(record.what).find(|unavailable| unavailable.name == entry.key) {
                Some(unavailable) => {
                    lacking = true;
                    self.unavailable(unavailable.called, place);
                }
                // A key that is only misspelt is not missing.
                None => fields.written.extend(self.unknown_key(record, entry, place).map(str::to_owned)),
            }
        }
        for key in record.keys {
            if !fields.has(key.name) {
                self.absent(key, &mut fields, node.place(path));
            }
        }
        if !lacking {
            for rule in record.rules {
                self.rule(rule, &fields, node, path);
            }
        }
        Some(Value::Record(fields))
    }

    /// Reports a key that the record does not have; the key of its own that was meant, if that can be told.
    fn unknown_key(&mut self, record: &'static Record, entry: &Entry, place: Place) -> Option<&'static str> {
        let known = || record.keys.iter().map(|key| key.name);
        if let Shape::OneOf { records, .. } = &schema::CONDITION
            && records.iter().any(|other| std::ptr::eq(*other, record))
            && records.iter().any(|other| other.key(&entry.key).is_some())
        {
            let message = format!("`{}` does not go with `{}`", entry.key, record.keys[0].name);
            self.say(place, message);
            return None;
        }
        let all = known().chain(schema::unavailable(record.what).map(|unavailable| unavailable.name));
        let meant = nearest(&entry.key, all);
        let hint = match meant {
            Some(key) => Some(format!("did you mean `{key}`?")),
            None if record.keys.is_empty() => None,
            None => Some(format!("the keys here are {}", and_list(&known().collect::<Vec<_>>()))),
        };
        self.say_with_hint(place, format!("unknown key `{}`", entry.key), hint);
        known().find(|key| Some(*key) == meant)
    }

    /// Reports a key that is missing, or fills in its default.
    fn absent(&mut self, key: &'static Key, fields: &mut Fields, place: Place) {
        if key.required {
            let missing = format!("`{}` is missing", key.name);
            self.say(place, missing);
        } else if let Some(default) = key.default {
            let node = yaml::parse(default, self.problems).expect("a default is YAML");
            let value = self.value(key.shape, &node, &place.path).expect("a default fits its shape");
            fields.items.push((key.name, Item { place, value }));
        }
    }

    fn rule(&mut self, rule: &Rule, fields: &Fields, node: &Node, path: &str) {
        let there =
            |keys: &[&'static str]| -> Vec<&str> { keys.iter().copied().filter(|key| fields.has(key)).collect() };
        match rule {
            Rule::ExactlyOne(keys) => match there(keys).as_slice() {
                [_] => {}
                [] if keys.len() == 1 => {
                    self.say(node.place(path), format!("`{}` is missing", keys[0]));
                }
                [] => {
                    self.say(node.place(path), format!("one of {} is missing", or_list(keys)));
                }
                many => {
                    let message = format!("only one of {} may stand here", and_list(many));
                    self.say(node.place(path), message);
                }
            },
            Rule::AtMostOne(what, keys) => {
                let there = there(keys);
                if there.len() > 1 {
                    let message = format!("only one {what} may stand here, not {}", and_list(&there));
                    self.say(node.place(path), message);
                }
            }
            Rule::Needs(key, other) => {
                if fields.has(key) && !fields.has(other) {
                    self.say(node.place(path), format!("`{key}` needs `{other}`, which is missing"));
                }
            }
        }
    }
}

/// A time in ms since the epoch: RFC 3339, without a zone in UTC, or a number; none: it is none, or before 1970.
fn time(text: &str) -> Option<u64> {
    let in_utc = |time: jiff::civil::DateTime| jiff::tz::TimeZone::UTC.to_timestamp(time);
    let ms = match text.parse::<i64>() {
        Ok(ms) => ms,
        Err(_) => match text.parse::<jiff::Timestamp>() {
            Ok(time) => time.as_millisecond(),
            Err(_) => text.parse().and_then(in_utc).ok()?.as_millisecond(),
        },
    };
    u64::try_from(ms).ok()
}

/// The longest name that Kafka gives a topic.
const TOPIC_BYTES_MAX: usize = 249;

/// A node in the words of a message.
fn describe(node: &Node, path: &str) -> String {
    match &node.kind {
        Kind::Boolean(_) | Kind::Number(_) | Kind::Text { .. } if schema::is_discreet(path) => {
            "a single value".to_owned()
        }
        Kind::Null => "nothing".to_owned(),
        Kind::Boolean(value) => format!("`{value}`"),
        Kind::Number(text) => format!("the number `{text}`"),
        Kind::Text { text, .. } => format!("the string `{text}`"),
        Kind::List(_) => "a list".to_owned(),
        Kind::Mapping(_) => "a mapping".to_owned(),
        Kind::Broken => unreachable!("a broken node is not described, it is reported already"),
    }
}
