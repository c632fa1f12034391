//! Rates as the job file writes them: `100/s`, `60/m`, `1000/h`.

use serde::{Deserialize, Serialize};
use std::fmt;

/// So many in a unit of time, at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// How many.
    pub number: u32,
    /// ms of the unit: a second, a minute or an hour.
    pub unit_ms: u64,
}

/// Units, with their ms.
const UNITS: [(&str, u64); 3] = [("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

impl Rate {
    /// Reads a rate. None if it is none.
    pub fn parse(text: &str) -> Option<Rate> {
        let (number, unit) = text.split_once('/')?;
        let unit_ms = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let number = number.parse().ok().filter(|number| *number > 0)?;
        Some(Rate { number, unit_ms })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|(_, ms)| *ms == self.unit_ms).map_or("s", |(name, _)| name);
        write!(f, "{}/{unit}", self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_whole_number_in_a_unit_of_time() {
        for (text, number, unit_ms) in [("100/s", 100, 1_000), ("1/m", 1, 60_000), ("5000/h", 5_000, 3_600_000)] {
            assert_eq!(Rate::parse(text), Some(Rate { number, unit_ms }));
            assert_eq!(Rate { number, unit_ms }.to_string(), text);
        }
        for text in ["", "100", "0/s", "/s", "1.5/s", "-1/s", "10/d", "10 /s", "4294967296/s"] {
            assert_eq!(Rate::parse(text), None, "{text}");
        }
    }
}
