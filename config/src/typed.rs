//! The tree of nodes against the schema: what fits becomes typed values, the rest becomes problems.
//!
//! The checker goes on after every problem. A value that is reported is missing from the result, so that a later step
//! can distinguish "left out" from "wrong" by [`Fields::has`] and does not report it again.

use usher_core::suggest::{and_list, nearest, or_list};
use usher_core::time::parse_setting;

use crate::schema::{self, AnyKey, Fields, Item, Named, RawSetting, Record, Reference, Rule, Section, Shape, Value};
use crate::yaml::{self, Entry, Kind, Node};
use crate::{Decimal, Location, Path, Place, Problem, Rate, Refresh, Secret, Share, Start, duration, size};

/// The longest name of a topic, by Kafka's rules.
const TOPIC_BYTES_MAX: usize = 249;

/// Checks the whole file; `None` if it is not a mapping.
pub(crate) fn job(node: &Node, problems: &mut Vec<Problem>) -> Option<Fields> {
    Checker { problems, unread: 0 }.record(&schema::job::RECORD, node, "")
}

struct Checker<'a> {
    problems: &'a mut Vec<Problem>,
    /// The number of values so far that could not be read, which was reported before.
    unread: usize,
}

impl Checker<'_> {
    /// Reports a problem. Returns `None` in place of the wrong value.
    fn report(&mut self, place: Place, message: impl Into<String>) -> Option<Value> {
        self.problems.push(Problem::new(&place, message));
        None
    }

    /// Reports a problem with a hint. Returns `None` in place of the wrong value.
    fn report_with_hint(&mut self, place: Place, message: impl Into<String>, hint: impl Into<String>) -> Option<Value> {
        self.problems.push(Problem::new(&place, message).hint(hint));
        None
    }

    /// Returns the number of wrong values so far.
    fn wrong(&self) -> usize {
        self.problems.len() + self.unread
    }

    fn item(&mut self, shape: &Shape, node: &Node, path: &str) -> Option<Item> {
        let value = self.value(shape, node, path)?;
        Some(Item { place: node.place(path), value })
    }

    fn value(&mut self, shape: &Shape, node: &Node, path: &str) -> Option<Value> {
        if matches!(node.kind, Kind::Broken) {
            self.unread += 1;
            return None;
        }
        match shape {
            Shape::Text | Shape::Predicate => self.filled_text(node, path).map(Value::Text),
            Shape::Reference(section) => {
                let id = self.filled_text(node, path)?;
                Some(Value::Reference(Reference { section: *section, id }))
            }
            Shape::Id => {
                let text = self.text(node, path)?;
                self.id(text, node.place(path))?;
                Some(Value::Text(text.to_owned()))
            }
            Shape::Path => self.path(node, path),
            Shape::Duration { least, most } => self.duration(node, path, *least, *most).map(Value::Milliseconds),
            Shape::Refresh => match &node.kind {
                Kind::Text { text, .. } if text == "manual" => Some(Value::Refresh(Refresh::Manual)),
                _ => self.duration(node, path, 1_000, u64::MAX).map(|ms| Value::Refresh(Refresh::Every(ms))),
            },
            Shape::Size => self.size(node, path),
            Shape::Share => self.share(node, path),
            Shape::Rate => self.rate(node, path),
            Shape::Number => self.number(node, path).map(Value::Number),
            Shape::Whole { least, most } => self.whole(node, path, *least, *most),
            Shape::Secret | Shape::SecretUrl => self.secret(node, path),
            Shape::Location => self.location(node, path),
            Shape::Setting => self.setting(node, path),
            Shape::Template => Some(Value::Text(self.text(node, path)?.to_owned())),
            Shape::Topic => self.topic(node, path),
            Shape::Address => self.address(node, path),
            Shape::Start => self.start(node, path),
            Shape::OneOrMore(of) => match &node.kind {
                Kind::List(_) => self.list(of, 1, usize::MAX, true, node, path),
                _ => self.item(of, node, path).map(|item| Value::List(vec![item])),
            },
            Shape::Boolean => self.boolean(node, path),
            Shape::Choice { what, words } => self.choice(what, &words(), node, path),
            Shape::List { of, least, most, unique } => self.list(of, *least, *most, *unique, node, path),
            Shape::Record(record) => self.record(record, node, path).map(Value::Record),
            Shape::OneOf { what, records } => self.one_of(what, records, node, path),
            Shape::Entries { of, ids } => self.entries(of, *ids, node, path),
            Shape::Short { scalar, long } => match &node.kind {
                Kind::Mapping(_) => self.record(long, node, path).map(Value::Record),
                _ => self.value(scalar, node, path),
            },
        }
    }

    fn filled_text(&mut self, node: &Node, path: &str) -> Option<String> {
        let text = self.text(node, path)?;
        if text.trim().is_empty() {
            self.report(node.place(path), "must not be empty");
            return None;
        }
        Some(text.to_owned())
    }

    fn path(&mut self, node: &Node, path: &str) -> Option<Value> {
        match Path::parse(self.text(node, path)?) {
            Ok(parsed) => Some(Value::Path(parsed)),
            Err(reason) => {
                let hint = "a path is written as in `a.\"odd name\"[0].b`";
                self.report_with_hint(node.place(path), reason, hint)
            }
        }
    }

    fn secret(&mut self, node: &Node, path: &str) -> Option<Value> {
        match &node.kind {
            Kind::Text { text, written } if !text.trim().is_empty() => {
                Some(Value::Secret(Secret(written.as_ref().unwrap_or(text).clone())))
            }
            Kind::Text { .. } => self.report(node.place(path), "must not be empty"),
            _ => self.report_with_hint(node.place(path), "must be a string", "put it in quotes"),
        }
    }

    fn location(&mut self, node: &Node, path: &str) -> Option<Value> {
        let text = self.filled_text(node, path)?;
        let Kind::Text { written, .. } = &node.kind else { unreachable!("it is a text") };
        Some(Value::Location(Location::new(&text, written.as_deref())))
    }

    fn setting(&mut self, node: &Node, path: &str) -> Option<Value> {
        let setting = match &node.kind {
            Kind::Text { text, written } => {
                RawSetting { text: text.clone(), written: written.as_ref().unwrap_or(text).clone() }
            }
            Kind::Number(text) => RawSetting { text: text.clone(), written: text.clone() },
            Kind::Boolean(value) => RawSetting { text: value.to_string(), written: value.to_string() },
            _ => {
                let message = format!("must be a string, number or boolean, not {}", describe(node, path));
                return self.report(node.place(path), message);
            }
        };
        Some(Value::Setting(setting))
    }

    fn boolean(&mut self, node: &Node, path: &str) -> Option<Value> {
        match &node.kind {
            Kind::Boolean(value) => Some(Value::Boolean(*value)),
            Kind::Text { text, written: Some(_) } if matches!(yaml::resolve(text), Some(Kind::Boolean(_))) => {
                Some(Value::Boolean(text.eq_ignore_ascii_case("true")))
            }
            _ => self.report(node.place(path), format!("must be `true` or `false`, not {}", describe(node, path))),
        }
    }

    fn text<'n>(&mut self, node: &'n Node, path: &str) -> Option<&'n str> {
        match &node.kind {
            Kind::Text { text, .. } => return Some(text),
            Kind::Number(text) => {
                let hint = format!("put it in quotes: `\"{text}\"`");
                self.report_with_hint(
                    node.place(path),
                    format!("must be a string, not {}", describe(node, path)),
                    hint,
                );
            }
            Kind::Boolean(value) => {
                let hint = format!("put it in quotes: `\"{value}\"`");
                self.report_with_hint(
                    node.place(path),
                    format!("must be a string, not {}", describe(node, path)),
                    hint,
                );
            }
            _ => {
                self.report(node.place(path), format!("must be a string, not {}", describe(node, path)));
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
        self.report_with_hint(place, format!("`{text}` is not an id"), hint);
        None
    }

    fn duration(&mut self, node: &Node, path: &str, least: u64, most: u64) -> Option<u64> {
        let parsed = match &node.kind {
            Kind::Text { text, .. } => duration::parse(text),
            Kind::Number(text) => Err(format!("`{text}` has no unit")),
            _ => Err(format!("must be a duration, not {}", describe(node, path))),
        };
        match parsed {
            Err(reason) => {
                let hint = "durations are written as in `250ms 30s 5m 4h 7d 1h30m`";
                self.report_with_hint(node.place(path), reason, hint);
                None
            }
            Ok(ms) if ms < least => {
                let message = format!("must be at least {}, not `{}`", duration::format(least), duration::format(ms));
                self.report(node.place(path), message);
                None
            }
            Ok(ms) if ms > most => {
                let message = format!("must be at most {}, not `{}`", duration::format(most), duration::format(ms));
                self.report(node.place(path), message);
                None
            }
            Ok(ms) => Some(ms),
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
                self.report_with_hint(node.place(path), reason, hint)
            }
            Ok(0) => self.report(node.place(path), "must be at least 1"),
            Ok(bytes) => Some(Value::Bytes(bytes)),
        }
    }

    fn share(&mut self, node: &Node, path: &str) -> Option<Value> {
        let share = match &node.kind {
            Kind::Text { text, .. } => Share::parse(text),
            _ => None,
        };
        match share {
            Some(share) => Some(Value::Share(share)),
            None => {
                let message = format!("must be a share, not {}", describe(node, path));
                let hint = "a share is written as in `20%` or `0.5%`, from `0%` to `100%`";
                self.report_with_hint(node.place(path), message, hint)
            }
        }
    }

    fn rate(&mut self, node: &Node, path: &str) -> Option<Value> {
        let rate = match &node.kind {
            Kind::Text { text, .. } => Rate::parse(text),
            _ => None,
        };
        match rate {
            Some(rate) => Some(Value::Rate(rate)),
            None => {
                let message = format!("must be a rate, not {}", describe(node, path));
                let hint = "a rate is written as in `100/s`, `60/m` or `1000/h`";
                self.report_with_hint(node.place(path), message, hint)
            }
        }
    }

    fn number(&mut self, node: &Node, path: &str) -> Option<Decimal> {
        let text = match &node.kind {
            Kind::Number(text) => text,
            Kind::Text { text, written: Some(_) } if matches!(yaml::resolve(text), Some(Kind::Number(_))) => text,
            kind => {
                let message = format!("must be a number, not {}", describe(node, path));
                match kind {
                    Kind::Text { text, .. } if Decimal::parse(text).is_some() => {
                        self.report_with_hint(node.place(path), message, format!("leave out the quotes: `{text}`"))
                    }
                    _ => self.report(node.place(path), message),
                };
                return None;
            }
        };
        let number = Decimal::parse(text);
        if number.is_none() {
            self.report(node.place(path), format!("`{text}` is not a decimal number from -1e28 to 1e28"));
        } else if !Decimal::is_exact(text) {
            let message = format!("`{text}` has more than 9 digits behind the point");
            self.report_with_hint(node.place(path), message, "values are compared with 9 of them");
            return None;
        }
        number
    }

    fn whole(&mut self, node: &Node, path: &str, least: u32, most: u32) -> Option<Value> {
        let number = self.number(node, path)?;
        let whole = number.to_i64().and_then(|number| u32::try_from(number).ok());
        match whole.filter(|number| (least..=most).contains(number)) {
            Some(number) => Some(Value::Whole(number)),
            None => {
                self.report(node.place(path), format!("must be a whole number from {least} to {most}, not `{number}`"))
            }
        }
    }

    fn topic(&mut self, node: &Node, path: &str) -> Option<Value> {
        let text = self.text(node, path)?;
        let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if text.trim().is_empty() {
            return self.report(node.place(path), "must not be empty");
        }
        if text.len() > TOPIC_BYTES_MAX || matches!(text, "." | "..") || !text.chars().all(letter) {
            let hint = format!("a topic has up to {TOPIC_BYTES_MAX} letters, digits, `.`, `_` and `-`");
            return self.report_with_hint(node.place(path), format!("`{text}` is not a topic"), hint);
        }
        Some(Value::Text(text.to_owned()))
    }

    fn address(&mut self, node: &Node, path: &str) -> Option<Value> {
        let hint = "an address is written as in `127.0.0.1:8080`, `localhost:8080` or `[::1]:8080`";
        if let Kind::Number(text) = &node.kind {
            return self.report_with_hint(node.place(path), format!("`{text}` is not an address"), hint);
        }
        let text = self.text(node, path)?;
        let host = text.rsplit_once(':').and_then(|(host, port)| port.parse::<u16>().is_ok().then_some(host));
        let bracketed = |host: &str| host.starts_with('[') && host.ends_with(']');
        match host {
            Some(host) if !host.trim().is_empty() && (bracketed(host) || !host.contains(':')) => {
                Some(Value::Text(text.to_owned()))
            }
            _ => self.report_with_hint(node.place(path), format!("`{text}` is not an address"), hint),
        }
    }

    fn start(&mut self, node: &Node, path: &str) -> Option<Value> {
        let time = match &node.kind {
            Kind::Text { text, .. } if text == "earliest" => return Some(Value::Start(Start::Earliest)),
            Kind::Text { text, .. } if text == "latest" => return Some(Value::Start(Start::Latest)),
            Kind::Text { text, .. } | Kind::Number(text) => parse_setting(text),
            _ => None,
        };
        match time {
            Some(ms) => Some(Value::Start(Start::Time(ms))),
            None => {
                let message = format!("must be `earliest`, `latest` or a time, not {}", describe(node, path));
                let hint =
                    "a time is RFC 3339, as in `2026-11-23T10:00:00Z`, or Unix time in seconds or ms, from 1970 on";
                self.report_with_hint(node.place(path), message, hint)
            }
        }
    }

    fn choice(&mut self, what: &'static str, words: &[&'static str], node: &Node, path: &str) -> Option<Value> {
        let text = self.text(node, path)?;
        if let Some(word) = words.iter().copied().find(|word| *word == text) {
            return Some(Value::Choice(word));
        }
        let hint = match nearest(text, words.iter().copied()) {
            Some(word) => format!("did you mean `{word}`?"),
            None => format!("it is one of {}", or_list(words)),
        };
        self.report_with_hint(node.place(path), format!("unknown {what} `{text}`"), hint)
    }

    fn list(&mut self, of: &Shape, least: usize, most: usize, unique: bool, node: &Node, path: &str) -> Option<Value> {
        let Kind::List(nodes) = &node.kind else {
            return self.report(node.place(path), format!("must be a list, not {}", describe(node, path)));
        };
        if nodes.len() < least || nodes.len() > most {
            let message = match nodes.len() {
                count if least == most => format!("must have {least} elements, not {count}"),
                0 if least == 1 => "must not be empty".to_owned(),
                count if count < least => format!("must have at least {least} elements, not {count}"),
                count => format!("must have at most {most} elements, not {count}"),
            };
            return match shorter_form(of, nodes) {
                Some(hint) => self.report_with_hint(node.place(path), message, hint),
                None => self.report(node.place(path), message),
            };
        }
        let mut seen: Vec<&str> = Vec::new();
        let mut items = Vec::new();
        for (index, inner) in nodes.iter().enumerate() {
            let inner_path = yaml::element(path, index);
            match &inner.kind {
                Kind::Text { text, .. } if unique && seen.contains(&text.as_str()) => {
                    self.report(inner.place(&inner_path), format!("`{text}` is listed twice"));
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

    fn entries(&mut self, of: &Shape, ids: bool, node: &Node, path: &str) -> Option<Value> {
        let entries = self.mapping(node, path)?;
        let mut named = Vec::new();
        for entry in entries {
            let inner_path = yaml::child(path, &entry.key);
            if ids {
                self.id(&entry.key, entry.place(&inner_path));
            } else if entry.key.is_empty() {
                self.report(entry.place(&inner_path), "a name must not be empty");
            }
            let item = self.item(of, &entry.value, &inner_path);
            named.push(Named { name: entry.key.clone(), place: entry.place(&inner_path), item });
        }
        Some(Value::Entries(named))
    }

    /// Returns the entries of a mapping. An empty value counts as an empty mapping.
    fn mapping<'n>(&mut self, node: &'n Node, path: &str) -> Option<&'n [Entry]> {
        match &node.kind {
            Kind::Mapping(entries) => Some(entries),
            Kind::Null => Some(&[]),
            Kind::Broken => None,
            _ => {
                self.report(node.place(path), format!("must be a mapping, not {}", describe(node, path)));
                None
            }
        }
    }

    /// Reports what stands for a step or an event of `without` and is no mapping: an event's id alone.
    fn step_of_text(&mut self, record: &'static Record, node: &Node, path: &str) -> Option<()> {
        use schema::condition::{EXCLUDED_RECORD, STEP_RECORD};
        let Kind::Text { text, .. } = &node.kind else { return None };
        if !std::ptr::eq(record, &STEP_RECORD) && !std::ptr::eq(record, &EXCLUDED_RECORD) {
            return None;
        }
        let message = format!("must be a mapping, not {}", describe(node, path));
        self.report_with_hint(node.place(path), message, format!("write `{{performed: {text}}}`"));
        Some(())
    }

    fn one_of(
        &mut self,
        what: &'static str,
        records: &'static [&'static Record],
        node: &Node,
        path: &str,
    ) -> Option<Value> {
        let hint = match &node.kind {
            Kind::Text { text, .. } => Some(format!("write a predicate as `property: {text}`")),
            Kind::List(_) => Some("put the list under `all:` or `any:`".to_owned()),
            _ => None,
        };
        if let Some(hint) = hint {
            return self.report_with_hint(
                node.place(path),
                format!("must be a mapping, not {}", describe(node, path)),
                hint,
            );
        }
        let entries = self.mapping(node, path)?;
        let is_there = |record: &&&Record| entries.iter().any(|entry| entry.key == record.leading_key());
        let there: Vec<_> = records.iter().filter(is_there).collect();
        match there.as_slice() {
            [record] => self.record(record, node, path).map(Value::Record),
            [] => self.none_of(what, records, entries, node.place(path), path),
            _ => {
                let kinds: Vec<&str> = there.iter().map(|record| record.leading_key()).collect();
                let hint = "put them into a list under `all` or `any`";
                let message = format!("a {what} is of one kind, and this one has {}", and_list(&kinds));
                self.report_with_hint(node.place(path), message, hint)
            }
        }
    }

    /// Reports a mapping that is none of several records: its first key that may be misspelt, else the list of the
    /// records.
    fn none_of(
        &mut self,
        what: &'static str,
        records: &[&'static Record],
        entries: &[Entry],
        place: Place,
        path: &str,
    ) -> Option<Value> {
        let kinds: Vec<&str> = records.iter().map(|record| record.leading_key()).collect();
        for entry in entries {
            if let Some(hint) = meaning(&entry.key) {
                let place = entry.place(&yaml::child(path, &entry.key));
                return self.report_with_hint(place, format!("unknown key `{}`", entry.key), hint);
            }
            let known = records.iter().any(|record| record.key(&entry.key).is_some());
            if let (false, Some(kind)) = (known, nearest(&entry.key, kinds.iter().copied())) {
                let place = entry.place(&yaml::child(path, &entry.key));
                let hint = format!("did you mean `{kind}`?");
                return self.report_with_hint(place, format!("unknown key `{}`", entry.key), hint);
            }
        }
        let found: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
        let found = if found.is_empty() { "nothing".to_owned() } else { and_list(&found) };
        let hint = "as in `property: plan = 'pro'` or `{performed: EVENT, within: 7d}`";
        self.report_with_hint(place, format!("a {what} has one of {}, and this one has {found}", or_list(&kinds)), hint)
    }

    fn record(&mut self, record: &'static Record, node: &Node, path: &str) -> Option<Fields> {
        if self.step_of_text(record, node, path).is_some() {
            return None;
        }
        let entries = self.mapping(node, path)?;
        let before = self.wrong();
        let mut fields = Fields::new(record);
        for entry in entries {
            let inner_path = yaml::child(path, &entry.key);
            if let Some(key) = record.key(&entry.key) {
                fields.write(key.name());
                if let Some(item) = self.item(key.shape(), &entry.value, &inner_path) {
                    fields.insert(key.name(), item);
                }
                continue;
            }
            let place = entry.place(&inner_path);
            // A key that is only misspelt is not missing.
            if let Some(meant) = self.unknown_key(record, entry, place) {
                fields.write(meant);
            }
        }
        for key in record.keys {
            if !fields.has(*key) {
                self.absent(*key, &mut fields, node.place(path));
            }
        }
        for rule in record.rules {
            self.rule(rule, &fields, node.place(path));
        }
        if self.wrong() > before {
            fields.mark_broken();
        }
        Some(fields)
    }

    /// Reports a key that the record does not have. Returns the name of the record's key that was probably meant.
    fn unknown_key(&mut self, record: &'static Record, entry: &Entry, place: Place) -> Option<&'static str> {
        let conditions = &schema::condition::RECORDS;
        if conditions.iter().any(|other| std::ptr::eq(*other, record))
            && conditions.iter().any(|other| other.key(&entry.key).is_some())
        {
            let leading = record.leading_key();
            let message = format!("`{}` does not go with `{leading}`", entry.key);
            let hint = match (entry.key.as_str(), leading) {
                ("within", "related") => "rows have no time of their own: name a column, as in `where: at > now() - \
                                          interval '7 days'`"
                    .to_owned(),
                ("within", "property") => {
                    "compare a column with the clock, as in `property: at > now() - interval '7 days'`".to_owned()
                }
                ("where", "property") => "join the two with `and` in one predicate".to_owned(),
                _ => format!("give each a condition of its own, in a list under `all`: `{leading}` has {}", {
                    let names: Vec<&str> = record.names().collect();
                    and_list(&names)
                }),
            };
            self.report_with_hint(place, message, hint);
            return None;
        }
        if entry.key == "<<" {
            let hint = "write the keys out; an alias can stand for a whole value";
            self.report_with_hint(place, "merge keys (`<<`) are not read", hint);
            return None;
        }
        if let Some(hint) = step_hint(record, entry) {
            self.report_with_hint(place, format!("`{}` does not go with {}", entry.key, record.what), hint);
            return None;
        }
        let is_condition = conditions.iter().any(|other| std::ptr::eq(*other, record));
        if let Some(hint) = meaning(&entry.key).filter(|_| is_condition) {
            self.report_with_hint(place, format!("unknown key `{}`", entry.key), hint);
            return None;
        }
        let meant = nearest(&entry.key, record.names());
        let message = format!("unknown key `{}`", entry.key);
        match meant {
            Some(key) => self.report_with_hint(place, message, format!("did you mean `{key}`?")),
            None if record.keys.is_empty() => self.report(place, message),
            None => {
                let hint = format!("the keys here are {}", and_list(&record.names().collect::<Vec<_>>()));
                self.report_with_hint(place, message, hint)
            }
        };
        record.names().find(|name| Some(*name) == meant)
    }

    /// Reports a key that is missing, or fills in its default.
    fn absent(&mut self, key: &'static dyn AnyKey, fields: &mut Fields, place: Place) {
        if key.is_required() {
            let message = format!("`{}` is missing", key.name());
            match example(key.name(), key.shape()) {
                Some(hint) => self.report_with_hint(place, message, hint),
                None => self.report(place, message),
            };
        } else if let Some(value) = key.default_value() {
            fields.insert(key.name(), Item { place, value });
        }
    }

    fn rule(&mut self, rule: &Rule, fields: &Fields, place: Place) {
        let names = |keys: &[&'static dyn AnyKey]| -> Vec<&str> { keys.iter().map(|key| key.name()).collect() };
        let there = |keys: &[&'static dyn AnyKey]| -> Vec<&str> {
            keys.iter().filter(|key| fields.has(**key)).map(|key| key.name()).collect()
        };
        match rule {
            Rule::ExactlyOne(keys) => match (there(keys).as_slice(), names(keys).as_slice()) {
                ([_], _) => {}
                ([], [only]) => {
                    self.report(place, format!("`{only}` is missing"));
                }
                ([], all) => {
                    let hint = format!("write one of them here, as in `{}: …`", all[0]);
                    self.report_with_hint(place, format!("one of {} is missing", or_list(all)), hint);
                }
                (many, _) => {
                    let hint = format!("keep one of them, as `{}`, and remove the rest", many[0]);
                    self.report_with_hint(place, format!("only one of {} may stand here", and_list(many)), hint);
                }
            },
            Rule::AtMostOne(what, keys) => {
                let there = there(keys);
                if there.len() > 1 {
                    self.report(place, format!("only one {what} may stand here, not {}", and_list(&there)));
                }
            }
            Rule::Needs(key, other) => {
                if fields.has(*key) && !fields.has(*other) {
                    self.report(place, format!("`{}` needs `{}`, which is missing", key.name(), other.name()));
                }
            }
            Rule::NeedsOneOf(key, others) => {
                if fields.has(*key) && there(others).is_empty() {
                    let others = or_list(&names(others));
                    self.report(place, format!("`{}` needs {others}, which is missing", key.name()));
                }
            }
        }
    }
}

/// Returns what to write in place of a list that is too short: a sequence of one step is a `performed`.
fn shorter_form(of: &Shape, nodes: &[Node]) -> Option<String> {
    let (Shape::Record(record), [node]) = (of, nodes) else { return None };
    let Kind::Mapping(entries) = &node.kind else { return None };
    let event = entries.iter().find(|entry| entry.key == "performed")?;
    match &event.value.kind {
        Kind::Text { text, .. } if std::ptr::eq(*record, &schema::condition::STEP_RECORD) => {
            Some(format!("for a single event write `performed: {text}` with `within`, or add the step that follows"))
        }
        _ => None,
    }
}

/// Returns what to write for a key of another condition in a step or `without`; `None` if it is none of those.
fn step_hint(record: &'static Record, entry: &Entry) -> Option<String> {
    use schema::condition::{EXCLUDED_RECORD, RECORDS, STEP_RECORD};
    let is_step = std::ptr::eq(record, &STEP_RECORD);
    if !is_step && !std::ptr::eq(record, &EXCLUDED_RECORD) {
        return None;
    }
    let value = match &entry.value.kind {
        Kind::Text { text, .. } | Kind::Number(text) => text.as_str(),
        _ => "…",
    };
    let key = entry.key.as_str();
    Some(match key {
        "within" => format!(
            "the window is of the whole sequence: write `within: {value}` beside `sequence`; a step's `after` limits how much \
             later it is than the one before"
        ),
        "after" => format!(
            "`without` is about all that lies between the first and the last step: write `after: {value}` on a step"
        ),
        _ if RECORDS.iter().any(|other| other.key(key).is_some()) => {
            let single = if is_step { "a step is one event: repeat the step" } else { "a single event is too much" };
            format!("{single}; `{key}: {value}` goes with a `performed` of its own, beside the sequence under `all`")
        }
        _ => return None,
    })
}

/// Returns what to write for a key that other languages have for the same thing: letters alone would lead elsewhere,
/// `and` to `any`. `None` if the key is none of these.
fn meaning(key: &str) -> Option<&'static str> {
    Some(match key.to_ascii_lowercase().as_str() {
        "and" | "every" | "must" | "all_of" => "write `all: [CONDITION, …]`",
        "or" | "some" | "should" | "any_of" | "one_of" => "write `any: [CONDITION, …]`",
        "none" | "none_of" | "neither" | "nor" => "write `not: {any: [CONDITION, …]}`",
        "must_not" | "except" | "exclude" | "unless" => "write `not: CONDITION`",
        "not_performed" | "never" | "never_performed" | "did_not" | "did_not_perform" | "not_done" | "didnt" => {
            "write `not: {performed: EVENT, within: DURATION}`"
        }
        "not_in" | "not_audience" | "not_in_audience" => "write `not: {audience: ID}`",
        "event" | "did" | "done" | "has_done" | "has_performed" | "triggered" => {
            "write `performed: EVENT` with `within: DURATION`"
        }
        "segment" | "cohort" | "member_of" | "in_audience" => "write `audience: ID`",
        "attribute" | "trait" | "column" | "field" | "sql" | "predicate" | "user_property" => {
            "write a predicate, as in `property: plan = 'pro'`"
        }
        "relation" | "relationship" | "has_many" | "join" => {
            "write `related: MODEL`, of a model that belongs to this one"
        }
        "minimum" | "at_min" | "min_count" | "gte" | "count" | "times" => "write `at_least: N`, or another comparison",
        "maximum" | "at_max" | "max_count" | "lte" => "write `at_most: N`",
        "steps" | "funnel" | "then" | "followed_by" | "in_order" => {
            "write `sequence: [{performed: EVENT}, {performed: EVENT}]` with `within: DURATION`"
        }
        "after" | "gap" => "write `after: DURATION` on a step of a `sequence`",
        "last" | "window" | "lookback" | "during" | "in_the_last" => "write `within: DURATION`, as in `within: 7d`",
        _ => return None,
    })
}

/// Returns what to write for a key that is missing; `None` if its name is enough.
fn example(name: &str, shape: &Shape) -> Option<String> {
    Some(match shape {
        Shape::Duration { .. } => format!("as in `{name}: 7d`"),
        Shape::Reference(section @ (Section::Event | Section::Audience)) => {
            format!("give the id of an {}", section.noun())
        }
        Shape::Reference(section) => format!("give the id of a {}", section.noun()),
        Shape::OneOrMore(of) => return example(name, of),
        Shape::Choice { words, .. } => format!("it is one of {}", or_list(&words())),
        Shape::Short { scalar, .. } => return example(name, scalar),
        Shape::OneOf { .. } => format!("as in `{name}: {{property: plan = 'pro'}}`"),
        Shape::Address => format!("as in `{name}: \"127.0.0.1:8080\"`"),
        Shape::Secret => format!("as in `{name}: ${{TOKEN}}`"),
        Shape::SecretUrl => format!("as in `{name}: https://api.example.com`"),
        Shape::Id => format!("as in `{name}: shop`"),
        Shape::Topic => format!("as in `{name}: web-events`"),
        Shape::Record(record) => format!("as in `{name}: {{{}: …}}`", record.leading_key()),
        _ => return None,
    })
}

/// Describes a node for a message, without quoting what may be a secret.
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
        Kind::Broken => "a value that could not be read".to_owned(),
    }
}
