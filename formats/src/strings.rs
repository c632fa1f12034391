//! Strings and values of JSON as SDKs write them, where JSON itself has no text for them.
//!
//! A surrogate without its other half (`"\ud800"`) is U+FFFD. `NaN`, `Infinity` and `-Infinity` are words that stand for no
//! number. All other broken escapes, and raw control characters, make no string.

use std::borrow::Cow;

/// The words for numbers that are not finite.
const NOT_FINITE: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

/// Returns whether a word stands for a number that is not finite.
pub(super) fn is_not_finite(word: &str) -> bool {
    NOT_FINITE.contains(&word)
}

/// The text of a string.
pub(super) struct Unescaped {
    /// The text.
    pub(super) text: String,
    /// Whether halves of surrogate pairs were replaced.
    pub(super) mended: bool,
}

/// Returns what a string, quotes included, stands for. None if its escapes stand for nothing.
#[cold]
pub(super) fn unescape(quoted: &str) -> Option<Unescaped> {
    if let Ok(text) = serde_json::from_str(quoted) {
        return Some(Unescaped { text, mended: false });
    }
    let mut rest = quoted.strip_prefix('"')?.strip_suffix('"')?;
    let mut text = String::with_capacity(rest.len());
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let escape = rest[at..].get(..2)?;
        rest = &rest[at + 2..];
        text.push(match escape.as_bytes()[1] {
            b'u' => {
                let first = unit(&mut rest)?;
                let pair = rest.strip_prefix("\\u").and_then(|mut behind| {
                    let pair = char::decode_utf16([first, unit(&mut behind)?]).next()?.ok()?;
                    (u32::from(pair) > 0xffff).then_some((pair, behind))
                });
                match pair {
                    Some((pair, behind)) => {
                        rest = behind;
                        pair
                    }
                    None => char::from_u32(u32::from(first)).unwrap_or(char::REPLACEMENT_CHARACTER),
                }
            }
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            _ => return None,
        });
    }
    text.push_str(rest);
    let raw_control = quoted.bytes().any(|byte| byte < b' ');
    (!raw_control).then_some(Unescaped { text, mended: true })
}

/// Takes the four digits of a UTF-16 unit.
fn unit(rest: &mut &str) -> Option<u16> {
    let digits = rest.get(..4)?;
    *rest = &rest[4..];
    let hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    hexadecimal.then(|| u16::from_str_radix(digits, 16).ok())?
}

/// Returns the text of a sound value as strict JSON: halves of surrogate pairs are U+FFFD, and a number that is not finite is `{}`,
/// which no column takes.
#[cold]
pub(super) fn mend(value: &str) -> String {
    let mut mended = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(start) = rest.find(['"', 'N', 'I', '-']) {
        mended.push_str(&rest[..start]);
        rest = &rest[start..];
        let length = match rest.as_bytes()[0] {
            b'"' => {
                let end = end_of_string(rest);
                mended.push_str(&strict(&rest[..end]));
                end
            }
            _ => match NOT_FINITE.into_iter().find(|word| rest.starts_with(word)) {
                Some(word) => {
                    mended.push_str("{}");
                    word.len()
                }
                None => {
                    mended.push_str(&rest[..1]);
                    1
                }
            },
        };
        rest = &rest[length..];
    }
    mended.push_str(rest);
    mended
}

/// Returns a string, quotes included, as strict JSON.
fn strict(quoted: &str) -> Cow<'_, str> {
    match unescape(quoted) {
        Some(Unescaped { text, mended: true }) => {
            Cow::Owned(serde_json::to_string(&text).expect("a string is written to memory"))
        }
        _ => Cow::Borrowed(quoted),
    }
}

/// Returns the length of the string at the start of `text`, quotes included.
fn end_of_string(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(quoted: &str) -> Option<(String, bool)> {
        unescape(quoted).map(|unescaped| (unescaped.text, unescaped.mended))
    }

    #[test]
    fn half_of_a_surrogate_pair_is_the_replacement_character() {
        for (quoted, expected) in [
            (r#""\ud800""#, "\u{fffd}"),
            (r#""\udc00""#, "\u{fffd}"),
            (r#""a\ud83dz""#, "a\u{fffd}z"),
            (r#""\ud83d\n\"\\\/\b\f\r\té""#, "\u{fffd}\n\"\\/\u{8}\u{c}\r\té"),
            (r#""\ud83d\ud83d\ude00""#, "\u{fffd}😀"),
            (r#""\ude00\ud83d""#, "\u{fffd}\u{fffd}"),
            (r#""\ud83d\u0041""#, "\u{fffd}A"),
            (r#""\uD83D\\ude00""#, "\u{fffd}\\ude00"),
        ] {
            assert_eq!(text(quoted), Some((expected.to_owned(), true)), "{quoted}");
        }
        assert_eq!(text(r#""\ud83d\ude00""#), Some(("😀".to_owned(), false)));
    }

    #[test]
    fn other_broken_strings_stay_broken() {
        for quoted in
            [r#""\x""#, r#""\ud800\x""#, r#""\ud8""#, r#""\ud80g""#, r#""\u+800""#, "\"\\ud800\t\"", r#""\ud800\""#]
        {
            assert_eq!(text(quoted), None, "{quoted}");
        }
    }

    #[test]
    fn what_is_mended_is_strict_json() {
        for (value, expected) in [
            (r#"[1,NaN,-Infinity,Infinity,-2,"NaN"]"#, r#"[1,{},{},{},-2,"NaN"]"#),
            (r#"{"a":"\ud800","b\"":[-1.5e-3]}"#, "{\"a\":\"\u{fffd}\",\"b\\\"\":[-1.5e-3]}"),
            (r#"["\u00e9\\"]"#, r#"["\u00e9\\"]"#),
        ] {
            assert_eq!(mend(value), expected);
            assert!(serde_json::from_str::<serde_json::Value>(&mend(value)).is_ok(), "{value}");
        }
    }
}
