//! A path into a message, and the value at its end.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A dotted path: `a."total billed"[0].b`, `[*]` for all of a list, `headers.NAME` for a Kafka header.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Path(pub Vec<Step>);

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Step {
    /// The member of an object by name.
    Key(String),
    /// The element of an array by index, from 0.
    Index(usize),
    /// All elements of an array.
    All,
}

/// The value at the end of a path, borrowed from the message if possible.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Found<'a> {
    /// Nothing, or null.
    #[default]
    Nothing,
    /// `true` or `false`.
    Boolean(bool),
    /// A number as written.
    Number(&'a str),
    /// An integer, of an encoding that has them.
    Integer(i64),
    /// A finite number, likewise.
    Double(f64),
    /// A number that neither of them holds, in decimal digits.
    Decimal(String),
    /// A time, ms since the epoch, of an encoding that has times.
    Timestamp(i64),
    /// A day, likewise: its midnight in UTC, ms since the epoch.
    Date(i64),
    /// A string, escapes resolved.
    Text(Cow<'a, str>),
    /// A string in which halves of surrogate pairs are replaced by U+FFFD. It can't be a key.
    Mended(String),
    /// `NaN` or an infinity, which JSON does not have: present, but no value of any type.
    NotFinite,
    /// An object or array, as JSON text.
    Compound(Cow<'a, str>),
    /// Bytes that are not UTF-8: a header of a message may have any.
    NotUtf8,
}

impl Path {
    /// Parses a path: names separated by dots, `"…"` around odd ones, `[0]` and `[*]` behind them.
    ///
    /// Inside quotes `\"` is a quote and `\\` a backslash. The error is a clause about the text:
    /// "`a..b` has an empty step".
    pub fn parse(text: &str) -> Result<Path, String> {
        let mut steps = Vec::new();
        let mut rest = text;
        loop {
            let (name, tail) = parse_name(text, rest)?;
            steps.push(Step::Key(name));
            rest = tail;
            while let Some(inside) = rest.strip_prefix('[') {
                let (index, tail) =
                    inside.split_once(']').ok_or_else(|| format!("`{text}` has a `[` without its `]`"))?;
                steps.push(match index {
                    "*" => Step::All,
                    _ if index.bytes().all(|byte| byte.is_ascii_digit()) => Step::Index(
                        index.parse().map_err(|_| format!("`{text}` has the index `{index}`, which is no number"))?,
                    ),
                    _ => {
                        return Err(format!("`{text}` has the index `{index}`, which is no number"));
                    }
                });
                rest = tail;
            }
            match rest.strip_prefix('.') {
                Some(tail) => rest = tail,
                None if rest.is_empty() => return Ok(Path(steps)),
                None => return Err(format!("`{text}` goes on after a step with `{rest}`")),
            }
        }
    }

    /// Returns the name of the header that a path `headers.NAME` refers to: all steps after `headers`. `None` for any
    /// other path.
    pub fn header(&self) -> Option<String> {
        let (Step::Key(first), names) = self.0.split_first()? else {
            return None;
        };
        let name = |step: &Step| match step {
            Step::Key(name) => Some(name.clone()),
            Step::Index(_) | Step::All => None,
        };
        let names: Option<Vec<String>> = names.iter().map(name).collect();
        names.filter(|names| first == HEADERS && !names.is_empty()).map(|names| names.join("."))
    }

    /// Returns whether its first step is `headers` and another follows.
    pub(crate) fn is_in_headers(&self) -> bool {
        self.0.len() > 1 && matches!(&self.0[0], Step::Key(first) if first == HEADERS)
    }
}

/// The first step of a header's path.
const HEADERS: &str = "headers";

/// Returns the name at the start of `rest` and the remaining text; `text` is the whole path.
fn parse_name<'a>(text: &str, rest: &'a str) -> Result<(String, &'a str), String> {
    if let Some(quoted) = rest.strip_prefix('"') {
        let mut name = String::new();
        let mut characters = quoted.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => return Ok((name, &quoted[at + 1..])),
                '\\' => match characters.next() {
                    Some((_, escaped @ ('"' | '\\'))) => name.push(escaped),
                    _ => {
                        return Err(format!("`{text}` has a `\\` before something else than `\"` and `\\`"));
                    }
                },
                _ => name.push(character),
            }
        }
        return Err(format!("`{text}` has a quote that is not closed"));
    }
    let end = rest.find(['.', '[']).unwrap_or(rest.len());
    let (name, tail) = rest.split_at(end);
    if name.is_empty() {
        return Err(format!("`{text}` has an empty step"));
    }
    if !is_plain(name) {
        return Err(format!("`{text}` has the step `{name}`, which needs quotes"));
    }
    Ok((name.to_owned(), tail))
}

/// Returns whether a path has a name without quotes.
fn is_plain(name: &str) -> bool {
    let odd = |c: char| matches!(c, '.' | '[' | ']' | '"' | '\\') || c.is_whitespace() || c.is_control();
    !name.is_empty() && !name.contains(odd)
}

/// Returns a name as a path writes it: in quotes if it needs them.
pub(crate) fn write_name(name: &str) -> Cow<'_, str> {
    if is_plain(name) {
        return Cow::Borrowed(name);
    }
    Cow::Owned(format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")))
}

impl fmt::Display for Path {
    /// As [`Path::parse`] reads it, with quotes only where they are needed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(name) => write!(f, "{}{}", if at == 0 { "" } else { "." }, write_name(name))?,
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::All => f.write_str("[*]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_names_indexes_and_stars() {
        let key = |name: &str| Step::Key(name.to_owned());
        assert_eq!(
            Path::parse(r#"a."total billed"[0].b[*][2]"#),
            Ok(Path(vec![key("a"), key("total billed"), Step::Index(0), key("b"), Step::All, Step::Index(2)]))
        );
        assert_eq!(Path::parse("userId"), Ok(Path(vec![key("userId")])));
        assert_eq!(Path::parse("headers.x-user"), Ok(Path(vec![key("headers"), key("x-user")])));
        assert_eq!(Path::parse(r#""a\"b\\c.d""#), Ok(Path(vec![key(r#"a"b\c.d"#)])));
    }

    #[test]
    fn a_header_has_the_name_that_follows() {
        let header = |text: &str| Path::parse(text).expect("a path").header();
        assert_eq!(header("headers.x-user").as_deref(), Some("x-user"));
        assert_eq!(header("headers.a.b").as_deref(), Some("a.b"));
        assert_eq!(header("headers.\"a.b c\"").as_deref(), Some("a.b c"));
        for text in ["headers", "headers.a[0]", "headers[0].a", "properties.headers.a", "Headers.a"] {
            assert_eq!(header(text), None, "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "`` has an empty step"),
            ("a..b", "`a..b` has an empty step"),
            ("a.", "`a.` has an empty step"),
            ("[0]", "`[0]` has an empty step"),
            ("a b", "`a b` has the step `a b`, which needs quotes"),
            ("a[0", "`a[0` has a `[` without its `]`"),
            ("a[]", "`a[]` has the index ``, which is no number"),
            ("a[-1]", "`a[-1]` has the index `-1`, which is no number"),
            (
                "a[99999999999999999999]",
                "`a[99999999999999999999]` has the index `99999999999999999999`, which is no number",
            ),
            ("a[0]b", "`a[0]b` goes on after a step with `b`"),
            ("\"a\"b", "`\"a\"b` goes on after a step with `b`"),
            ("\"a", "`\"a` has a quote that is not closed"),
            ("\"a\\n\"", "`\"a\\n\"` has a `\\` before something else than `\"` and `\\`"),
        ] {
            assert_eq!(Path::parse(text), Err(reason.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back_as_the_same_path() {
        let seed = 11;
        let mut random = fastrand::Rng::with_seed(seed);
        let letters: Vec<char> = "ab.[]\"\\ 0*é".chars().collect();
        for _ in 0..5_000 {
            let steps = (0..random.usize(1..5)).map(|at| match random.u8(0..4) {
                0 if at > 0 => Step::Index(random.usize(..)),
                1 if at > 0 => Step::All,
                _ => Step::Key((0..random.usize(0..5)).map(|_| letters[random.usize(..letters.len())]).collect()),
            });
            let path = Path(steps.collect());
            assert_eq!(Path::parse(&path.to_string()), Ok(path.clone()), "seed {seed}, {path}");
        }
    }
}
