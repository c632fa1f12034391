//! Durations as the job file writes them: `250ms 30s 5m 4h 7d`, `1h30m`.
//!
//! Whole numbers with a unit, largest unit first, each unit once. No duration is longer than 36,500 days, so the sum of
//! any clock and a duration is far within 64 bits.

/// Units, largest first, with their ms.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
/// The longest duration, ms: 36,500 days.
const LONGEST: u64 = 36_500 * 86_400_000;

/// Parses a duration. Returns ms.
///
/// The error is the end of a sentence about the text: "`5` has no unit".
pub fn parse(text: &str) -> Result<u64, String> {
    let mut total = 0u64;
    let mut rest = text;
    let mut units = UNITS.iter();
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return Err(format!("`{text}` is not a duration"));
        }
        let (number, tail) = rest.split_at(digits);
        let unit_length = tail.bytes().take_while(|byte| !byte.is_ascii_digit()).count();
        let (unit, tail) = tail.split_at(unit_length);
        if unit.is_empty() {
            return Err(format!("`{text}` has no unit"));
        }
        let Some((_, size)) = units.find(|(name, _)| *name == unit) else {
            return Err(match UNITS.iter().any(|(name, _)| *name == unit) {
                true => format!("`{text}` does not have its units in order, largest first and each once"),
                false => format!("`{text}` is not a duration"),
            });
        };
        total = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(*size))
            .and_then(|part| total.checked_add(part))
            .filter(|total| *total <= LONGEST)
            .ok_or_else(|| format!("`{text}` is longer than {}", format(LONGEST)))?;
        rest = tail;
    }
    Ok(total)
}

/// Writes `ms` with the largest units that fit: `1h30m`, `7d`, `0s`.
pub fn format(ms: u64) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut rest = ms;
    let mut text = String::new();
    for (unit, size) in UNITS {
        if rest >= size {
            text += &format!("{}{unit}", rest / size);
            rest %= size;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_numbers_with_units_largest_first() {
        for (text, ms) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("5m", 300_000),
            ("4h", 14_400_000),
            ("7d", 604_800_000),
            ("1h30m", 5_400_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("1m5ms", 60_005),
            ("0s", 0),
            ("36500d", LONGEST),
        ] {
            assert_eq!(parse(text), Ok(ms), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "is empty"),
            ("5", "`5` has no unit"),
            ("1h30", "`1h30` has no unit"),
            ("h", "`h` is not a duration"),
            ("1.5h", "`1.5h` is not a duration"),
            ("5 m", "`5 m` is not a duration"),
            ("-5m", "`-5m` is not a duration"),
            ("5w", "`5w` is not a duration"),
            ("5M", "`5M` is not a duration"),
            ("30m1h", "`30m1h` does not have its units in order, largest first and each once"),
            ("1h1h", "`1h1h` does not have its units in order, largest first and each once"),
            ("36501d", "`36501d` is longer than 36500d"),
            ("99999999999999999999s", "`99999999999999999999s` is longer than 36500d"),
        ] {
            assert_eq!(parse(text), Err(reason.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back_as_the_same_duration() {
        let seed = 3;
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..5_000 {
            let ms = random.u64(0..=LONGEST) / 10u64.pow(random.u32(0..15));
            assert_eq!(parse(&format(ms)), Ok(ms), "seed {seed}");
        }
        assert_eq!(format(5_400_000), "1h30m");
        assert_eq!(format(86_400_000), "1d");
        assert_eq!(format(0), "0s");
    }
}
