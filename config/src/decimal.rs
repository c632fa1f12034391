//! Exact decimals: what sums and thresholds are made of.
//!
//! A [`Decimal`] is an integer number of 10^-9, between -10^28 and 10^28.

use serde::{Deserialize, Serialize};

/// An exact decimal with 9 fractional digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Decimal(i128);
