//! Paths with `[*]`: all of a list, the plain way.
//!
//! Few jobs have them, so they are read in a second walk over the array's text, one path at a time. What is
//! not there, or null, adds nothing to the list.

use usher_config::Step;

use super::json::Scan;
use super::malformed::Malformed;

/// The elements at the end of `path`, as the text of a JSON array. `text` is a well structured value.
pub(super) fn collect(text: &str, path: &[Step]) -> Result<String, Malformed> {
    let mut found = String::from("[");
    follow(text, path, &mut found)?;
    found.push(']');
    Ok(found)
}

fn follow(text: &str, path: &[Step], found: &mut String) -> Result<(), Malformed> {
    let Some((step, rest)) = path.split_first() else {
        let mut scan = Scan::new(text);
        scan.skip::<true>(0, 0).ok_or(scan.error)?;
        if text != "null" {
            if found.len() > 1 {
                found.push(',');
            }
            found.push_str(text);
        }
        return Ok(());
    };
    match step {
        Step::All => {
            for element in elements(text, b'[')? {
                follow(element.1, rest, found)?;
            }
        }
        Step::Index(index) => {
            if let Some(element) = elements(text, b'[')?.get(*index) {
                follow(element.1, rest, found)?;
            }
        }
        Step::Key(key) => {
            let named =
                |name: &str| serde_json::from_str::<String>(name).is_ok_and(|name| name == *key);
            // The last of a repeated key counts.
            if let Some(member) = elements(text, b'{')?.iter().rfind(|(name, _)| named(name)) {
                follow(member.1, rest, found)?;
            }
        }
    }
    Ok(())
}

/// The elements of an array or the members of an object, with their names; none of another value.
fn elements(text: &str, bracket: u8) -> Result<Vec<(&str, &str)>, Malformed> {
    let mut all = Vec::new();
    let mut scan = Scan::new(text);
    if scan.byte(0) != bracket {
        return Ok(all);
    }
    let mut at = scan.blank(1);
    while scan.byte(at) != bracket + 2 {
        let mut name = "";
        if bracket == b'{' {
            let end = scan.skip_string(at).ok_or(scan.error)?;
            name = &text[at..end];
            at = scan.colon(end).ok_or(scan.error)?;
        }
        let end = scan.skip::<false>(at, 0).ok_or(scan.error)?;
        all.push((name, &text[at..end]));
        at = scan.blank(end);
        if scan.byte(at) == b',' {
            at = scan.blank(at + 1);
        }
    }
    Ok(all)
}
