//! Paths with `[*]`: all of a list, the plain way.
//!
//! Few jobs have them, so they are read in a second walk over the array's text, one path at a time. What is
//! not there, or null, adds nothing to the list.

use serde_json::Value;
use std::collections::BTreeMap;
use usher_config::Step;
use usher_core::source::BYTE_ORDER_MARK;

use super::json::Scan;
use super::scan::Marks;
use super::snowplow::COLUMNS;
use super::strings::unescape;

/// The elements at the end of `path`, as the text of a JSON array. At `at` is a well structured value.
///
/// None, with the scan's error: one of them is broken.
pub(super) fn collect(scan: &mut Scan<'_, '_>, at: usize, path: &[Step]) -> Option<String> {
    let mut found = String::from("[");
    follow(scan, at, path, &mut found)?;
    found.push(']');
    Some(found)
}

/// Adds the elements at the end of `path` to a JSON array that lacks its bracket.
pub(super) fn follow(scan: &mut Scan<'_, '_>, at: usize, path: &[Step], found: &mut String) -> Option<()> {
    let Some((step, rest)) = path.split_first() else {
        let text = scan.strict(at)?;
        if text != "null" {
            if found.len() > 1 {
                found.push(',');
            }
            found.push_str(&text);
        }
        return Some(());
    };
    match step {
        Step::All => {
            for (_, at) in elements(scan, at, b'[')? {
                follow(scan, at, rest, found)?;
            }
        }
        Step::Index(index) => {
            if let Some((_, at)) = elements(scan, at, b'[')?.get(*index) {
                follow(scan, *at, rest, found)?;
            }
        }
        Step::Key(key) => {
            let named = |name: &str| unescape(name).is_some_and(|name| name.text == *key);
            // The last of a repeated key counts.
            if let Some((_, at)) = elements(scan, at, b'{')?.iter().rfind(|(name, _)| named(name)) {
                follow(scan, *at, rest, found)?;
            }
        }
    }
    Some(())
}

/// Returns the members of a message that is one object, as text by name; of a repeated name the last. `None` if the message is no
/// object, or is broken.
#[cold]
pub(super) fn members(text: &str) -> Option<BTreeMap<String, &str>> {
    let mut marks = Marks::default();
    marks.refill(text.as_bytes());
    let mut scan = Scan::new(text, &marks);
    let start = scan.blank(0);
    let end = scan.skip::<false>(start, 0)?;
    if scan.byte(start) != b'{' || scan.blank(end) < text.len() {
        return None;
    }
    let mut members = BTreeMap::new();
    for (name, at) in elements(&mut scan, start, b'{')? {
        let end = scan.skip::<false>(at, 0)?;
        members.insert(unescape(name)?.text, &text[at..end]);
    }
    Some(members)
}

/// Returns a message as JSON, as a job reads it: what SDKs write though JSON does not have it is mended, and a row of Snowplow's
/// becomes an object of its columns that have a value. `None` if it is neither one value of JSON nor such a row.
#[cold]
pub fn to_json(message: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(message.strip_prefix(BYTE_ORDER_MARK).unwrap_or(message)).ok()?;
    let columns: Vec<&str> = text.split('\t').collect();
    if columns.len() == COLUMNS.len() && !text.starts_with('{') {
        let with_value = COLUMNS.into_iter().zip(columns).filter(|(_, value)| !value.is_empty());
        return Some(with_value.map(|(name, value)| (name.to_owned(), Value::from(value))).collect());
    }
    let mut marks = Marks::default();
    marks.refill(text.as_bytes());
    let mut scan = Scan::new(text, &marks);
    let start = scan.blank(0);
    let end = scan.skip::<false>(start, 0)?;
    if scan.blank(end) < text.len() {
        return None;
    }
    serde_json::from_str(&scan.strict(start)?).ok()
}

/// Where the elements of an array or the members of an object are, with their names; none of another value.
fn elements<'a>(scan: &mut Scan<'a, '_>, at: usize, bracket: u8) -> Option<Vec<(&'a str, usize)>> {
    let mut all = Vec::new();
    if scan.byte(at) != bracket {
        return Some(all);
    }
    let mut at = scan.blank(at + 1);
    // `{` and `}`, `[` and `]` are two apart.
    while scan.byte(at) != bracket + 2 {
        let mut name = "";
        if bracket == b'{' {
            let end = scan.skip_string(at)?;
            name = &scan.text[at..end];
            at = scan.colon(end)?;
        }
        all.push((name, at));
        at = scan.skip::<false>(at, 0)?;
        at = scan.blank(at);
        if scan.byte(at) == b',' {
            at = scan.blank(at + 1);
        }
    }
    Some(all)
}
