//! What the readers of binary encodings share: integers, numbers, and values as JSON.

use usher_config::Found;
use usher_core::time;

use super::Fields;
use super::json::Scan;
use super::layout::{Layout, Slot};
use super::scan::Marks;
use super::star;

/// Reads an unsigned integer of 7 bits a byte, the lowest first, at `at`. `None` if it does not end, or is beyond 64 bits.
#[inline(always)]
pub(super) fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let first = *bytes.get(*at)?;
    if first < 0x80 {
        *at += 1;
        return Some(first.into());
    }
    // As the lengths of most texts are that need more than one byte.
    match bytes.get(*at + 1) {
        Some(second) if *second < 0x80 => {
            *at += 2;
            Some(u64::from(first & 0x7f) | u64::from(*second) << 7)
        }
        _ => long_varint(bytes, at),
    }
}

/// Reads a text; `None` if it is not UTF-8.
#[inline(always)]
pub(super) fn text(bytes: &[u8]) -> Option<&str> {
    simdutf8::basic::from_utf8(bytes).ok()
}

#[cold]
fn long_varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for (index, byte) in bytes[*at..].iter().take(10).enumerate() {
        if index == 9 && *byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if *byte < 0x80 {
            *at += index + 1;
            return Some(value);
        }
    }
    None
}

/// A number, or what is found where it is none.
pub(super) fn number<'a>(number: f64) -> Found<'a> {
    if number.is_finite() { Found::Double(number) } else { Found::NotFinite }
}

/// Bytes as text.
pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for digit in 0..4 {
            let place = (bits >> (18 - 6 * digit)) as usize & 63;
            text.push(if digit <= three.len() { char::from(DIGITS[place]) } else { '=' });
        }
    }
    text
}

/// 16 bytes as a UUID with hyphens.
pub(super) fn uuid(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    text
}

/// Returns the number that a big-endian integer in two's complement is, in units of 10^-`scale`.
pub(super) fn decimal(bytes: &[u8], scale: usize) -> String {
    let negative = bytes.first().is_some_and(|first| *first >= 0x80);
    // The magnitude, in digits of 2^32, the highest first.
    let fill = if negative { 0xff } else { 0 };
    let mut padded = vec![fill; (4 - bytes.len() % 4) % 4];
    padded.extend_from_slice(bytes);
    let (words, _) = padded.as_chunks::<4>();
    let mut words: Vec<u32> = words.iter().map(|word| u32::from_be_bytes(*word)).collect();
    if negative {
        let mut carry = true;
        for word in words.iter_mut().rev() {
            let (negated, overflows) = (!*word).overflowing_add(u32::from(carry));
            (*word, carry) = (negated, overflows);
        }
    }
    // Digits of 10^9, the lowest first.
    let mut digits: Vec<u32> = Vec::new();
    while let Some(first) = words.iter().position(|word| *word != 0) {
        let mut rest = 0u64;
        for word in &mut words[first..] {
            let whole = rest << 32 | u64::from(*word);
            (*word, rest) = ((whole / 1_000_000_000) as u32, whole % 1_000_000_000);
        }
        digits.push(rest as u32);
    }
    let mut text: String = digits.iter().rev().map(|digit| format!("{digit:09}")).collect();
    let zeros = text.len() - text.trim_start_matches('0').len();
    text.drain(..zeros);
    if text.len() <= scale {
        text.insert_str(0, &"0".repeat(scale + 1 - text.len()));
    }
    if scale > 0 {
        text.insert(text.len() - scale, '.');
    }
    if negative {
        text.insert(0, '-');
    }
    text
}

/// Texts in JSON.
pub(super) trait Text {
    /// Adds a text as a JSON string.
    fn push_text(&mut self, text: &str);
}

impl Text for String {
    fn push_text(&mut self, text: &str) {
        self.push_str(&serde_json::Value::from(text).to_string());
    }
}

/// Writes a value without parts as JSON. A number that is not finite is `{}`, which no column takes.
pub(super) fn write_json(found: &Found<'_>, out: &mut String) {
    match found {
        Found::Nothing => out.push_str("null"),
        Found::Boolean(boolean) => out.push_str(if *boolean { "true" } else { "false" }),
        Found::Integer(integer) => out.push_str(&integer.to_string()),
        Found::Double(number) => out.push_str(&serde_json::Value::from(*number).to_string()),
        Found::Decimal(text) => out.push_str(text),
        Found::Text(text) => out.push_text(text),
        Found::Timestamp(ms) => out.push_text(&time::timestamp(*ms).unwrap_or_default()),
        Found::Date(ms) => out.push_text(&time::date(*ms).unwrap_or_default()),
        Found::Number(text) => out.push_str(text),
        Found::Compound(json) => out.push_str(json),
        Found::Mended(text) => out.push_text(text),
        Found::NotFinite | Found::NotUtf8 => out.push_str("{}"),
    }
}

/// Reads the paths with `[*]` that start at a node, whose value is this JSON.
pub(super) fn stars(layout: &Layout, slot: Slot, json: &str, fields: &mut Fields<'_>) {
    let mut marks = Marks::default();
    marks.refill(json.as_bytes());
    for star in layout.stars.iter().filter(|star| star.node == slot) {
        let list = star::collect(&mut Scan::new(json, &marks), 0, &star.rest);
        let list = list.expect("it has been written as JSON");
        fields.found[star.slot as usize] = Found::Compound(list.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_is_written_with_all_of_its_digits() {
        for (bytes, scale, expected) in [
            (&[][..], 0, "0"),
            (&[0], 2, "0.00"),
            (&[5], 2, "0.05"),
            (&[0xfb], 2, "-0.05"),
            (&[0x04, 0xd2], 2, "12.34"),
            (&[0xfb, 0x2e], 0, "-1234"),
            (&[0x80], 0, "-128"),
            (&[0x00, 0x80], 0, "128"),
            (&[0xff; 40], 3, "-0.001"),
            (&[0x80, 0, 0, 0], 9, "-2.147483648"),
        ] {
            assert_eq!(decimal(bytes, scale), expected);
        }
        // 10^76 - 1, of precision 76.
        let mut nines = vec![0u8; 32];
        for _ in 0..76 {
            let mut carry = 9u32;
            for byte in nines.iter_mut().rev() {
                let sum = u32::from(*byte) * 10 + carry;
                (*byte, carry) = (sum as u8, sum >> 8);
            }
        }
        assert_eq!(decimal(&nines, 38), format!("{}.{}", "9".repeat(38), "9".repeat(38)));
    }

    #[test]
    fn any_decimal_of_128_bits_is_the_integer_that_it_is() {
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..2_000 {
            let value = rng.i128(..) >> rng.u32(..128);
            assert_eq!(decimal(&value.to_be_bytes(), 0), value.to_string());
        }
    }

    #[test]
    fn bytes_are_base64() {
        for (bytes, expected) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(bytes.as_bytes()), expected);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
    }

    #[test]
    fn a_varint_ends_within_64_bits() {
        let read = |bytes: &[u8]| {
            let mut at = 0;
            varint(bytes, &mut at).map(|value| (value, at))
        };
        assert_eq!(read(&[0x7f]), Some((0x7f, 1)));
        assert_eq!(read(&[0x80, 1, 9]), Some((0x80, 2)));
        assert_eq!(read(&[[0xff; 9].as_slice(), &[1]].concat()), Some((u64::MAX, 10)));
        assert_eq!(read(&[[0xff; 9].as_slice(), &[2]].concat()), None);
        for wrong in [&[][..], &[0x80], &[0xff; 12]] {
            assert_eq!(read(wrong), None);
        }
    }
}
