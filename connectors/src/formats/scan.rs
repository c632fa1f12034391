//! Eight bytes at a time: where a string stops, and the head of a name as a number.

const ONES: u64 = 0x0101_0101_0101_0101;
const TOPS: u64 = 0x8080_8080_8080_8080;

/// The top bit of each byte below `n` (up to 128); above the lowest set bit there may be false ones.
#[inline]
fn below(word: u64, n: u64) -> u64 {
    word.wrapping_sub(ONES * n) & !word & TOPS
}

/// The first byte at or after `from` that is a quote or a backslash, or with `CONTROL` a control character.
#[inline(always)]
pub(super) fn string_stop<const CONTROL: bool>(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(eight) = bytes.get(at..at + 8) {
        let word = u64::from_le_bytes(eight.try_into().expect("eight bytes"));
        let quote = below(word ^ (ONES * b'"' as u64), 1);
        let backslash = below(word ^ (ONES * b'\\' as u64), 1);
        let mut stops = quote | backslash;
        if CONTROL {
            stops |= below(word, 0x20);
        }
        if stops != 0 {
            return Some(at + stops.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let stop = |byte: &u8| matches!(byte, b'"' | b'\\') || CONTROL && *byte < 0x20;
    bytes.get(at..)?.iter().position(stop).map(|i| at + i)
}

/// The first eight bytes of the `len` bytes at `from`, zeros behind what is shorter.
#[inline(always)]
pub(super) fn head(bytes: &[u8], from: usize, len: usize) -> u64 {
    if let Some(eight) = bytes.get(from..from + 8) {
        let word = u64::from_le_bytes(eight.try_into().expect("eight bytes"));
        if len >= 8 {
            word
        } else {
            word & ((1 << (len * 8)) - 1)
        }
    } else {
        let mut eight = [0; 8];
        let len = len.min(8);
        eight[..len].copy_from_slice(&bytes[from..from + len]);
        u64::from_le_bytes(eight)
    }
}
