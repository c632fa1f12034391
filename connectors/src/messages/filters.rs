//! The filters of templates beside the usual ones: what destinations take of people is normalised, then hashed.
//!
//! An empty value stays empty: null, never the hash of nothing. Where null is written, a field is null and a text is empty.

use minijinja::{Environment, Value};
use sha2::{Digest, Sha256};

/// Digits of a number in E.164, without `+`.
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 7..=15;

pub(super) fn add(environment: &mut Environment<'static>) {
    environment.add_filter("sha256", |value: &Value| filled(value).map(|text| sha256(&text)));
    environment.add_filter("normalize_email", |value: &Value| filled(value).and_then(|text| email(&text)));
    environment.add_filter("normalize_phone", |value: &Value| filled(value).and_then(|text| phone(&text)));
}

/// Returns a value's text; `None` if it is null or blank.
fn filled(value: &Value) -> Option<String> {
    if value.is_none() || value.is_undefined() {
        return None;
    }
    let text = value.to_string();
    (!text.trim().is_empty()).then_some(text)
}

/// The SHA-256 of a text, in hex.
fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An address in lower case, without spaces around; `None` if it is none.
fn email(text: &str) -> Option<String> {
    let address = text.trim().to_lowercase();
    let (name, host) = address.rsplit_once('@')?;
    (!name.is_empty() && !host.is_empty() && !address.contains(char::is_whitespace)).then_some(address)
}

/// A number in E.164, `+` and digits; `None` if it is none: without `+` its country is not known.
fn phone(text: &str) -> Option<String> {
    let rest = text.trim().strip_prefix('+')?;
    if !rest.chars().all(|c| c.is_ascii_digit() || matches!(c, ' ' | '-' | '.' | '(' | ')' | '/' | '\u{a0}')) {
        return None;
    }
    let digits: String = rest.chars().filter(char::is_ascii_digit).collect();
    PHONE_DIGITS.contains(&digits.len()).then(|| format!("+{digits}"))
}

#[cfg(test)]
mod tests {
    use super::super::template::Templates;
    use minijinja::Value;

    fn rendered(template: &str) -> String {
        let context = minijinja::context! {
            email => "  Ann.B@Example.COM ", blank => "  ", none => Value::from(()), phone => "+49 (30) 901820", odd => "ann at home",
            local => "030 901820", number => 42,
        };
        Templates::new(std::iter::once(template)).unwrap().json(0, &context)
    }

    #[test]
    fn people_are_normalised_then_hashed() {
        for (template, expected) in [
            ("{{ email | normalize_email }}", r#""ann.b@example.com""#),
            ("{{ phone | normalize_phone }}", r#""+4930901820""#),
            ("{{ number | sha256 }}", r#""73475cb40a568e8da8a045ced110137e159f890ac4da883b6b17dc651b3a8049""#),
        ] {
            assert_eq!(rendered(template), expected, "{template}");
        }
        assert_eq!(rendered("{{ email | normalize_email | sha256 }}"), rendered("{{ 'ann.b@example.com' | sha256 }}"));
    }

    #[test]
    fn empty_values_are_never_hashed() {
        for template in [
            "{{ blank | sha256 }}",
            "{{ none | sha256 }}",
            "{{ missing | sha256 }}",
            "{{ odd | normalize_email | sha256 }}",
            "{{ local | normalize_phone | sha256 }}",
            "{{ blank | normalize_email }}",
        ] {
            assert_eq!(rendered(template), "null", "{template}");
        }
    }
}
