//! Sizes as the job file writes them: `512KiB 1MiB 2GiB`, or a plain number of bytes.

/// Units, largest first, with their bytes.
const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// Parses a size. Returns bytes.
///
/// The error is the end of a sentence about the text: "`1MB` is not a size".
pub fn parse(text: &str) -> Result<u64, String> {
    let (number, size) = UNITS
        .iter()
        .find_map(|(unit, size)| text.strip_suffix(unit).map(|number| (number, *size)))
        .unwrap_or((text, 1));
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("`{text}` is not a size"));
    }
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(size))
        .ok_or_else(|| format!("`{text}` is too large a size"))
}

/// Writes a number of bytes with the largest unit that divides it: `1MiB`, `1536`.
pub fn format(bytes: u64) -> String {
    match UNITS.iter().find(|(_, size)| bytes != 0 && bytes.is_multiple_of(*size)) {
        Some((unit, size)) => format!("{}{unit}", bytes / size),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_numbers_with_a_binary_unit_or_plain_bytes() {
        for (text, bytes, written) in [
            ("512KiB", 512 << 10, "512KiB"),
            ("1MiB", 1 << 20, "1MiB"),
            ("2GiB", 2 << 30, "2GiB"),
            ("1024KiB", 1 << 20, "1MiB"),
            ("1500", 1500, "1500"),
            ("0", 0, "0"),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
            assert_eq!(format(bytes), written);
        }
    }

    #[test]
    fn anything_else_is_refused_with_the_reason() {
        for text in ["", "MiB", "1MB", "1 MiB", "1.5MiB", "-1", "1mib", "1KiB2"] {
            assert_eq!(parse(text), Err(format!("`{text}` is not a size")));
        }
        for text in ["18446744073709551616", "18014398509481984KiB"] {
            assert_eq!(parse(text), Err(format!("`{text}` is too large a size")));
        }
    }
}
