//! Many bytes at a time: where the quotes of a message are, and the head of a name as a number.

use wide::u8x64;

const BLOCK: usize = 64;

/// Where a message's strings start and end, found in one pass over its bytes before the walk.
///
/// The walk asks for hundreds of string ends. Out of a bitmap each is a shift and a count, whatever the string's
/// length, where a loop would mispredict its last round nearly every time.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks {
    /// A bit per byte: a quote without a backslash before it. Two words of zeros behind the end.
    quotes: Vec<u64>,
    /// There is neither a backslash nor a control character in all of the message.
    pub(super) plain: bool,
}

impl Marks {
    pub(super) fn refill(&mut self, bytes: &[u8]) {
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        // Blanks, because they are not special.
        let mut last = [b' '; BLOCK];
        last[..rest.len()].copy_from_slice(rest);
        let (mut plain, mut escaped) = (true, false);
        self.quotes.clear();
        self.quotes.extend(blocks.iter().chain([&last]).map(|block| quotes(block, &mut plain, &mut escaped)));
        self.quotes.extend([0, 0]);
        self.plain = plain;
    }

    /// The quotes of the 64 bytes from `from` on, a bit each.
    #[inline(always)]
    pub(super) fn window(&self, from: usize) -> u64 {
        let (word, bit) = (from / 64, from % 64);
        match self.quotes.get(word..word + 2) {
            Some(pair) => pair[0] >> bit | pair[1] << 1 << (63 - bit),
            None => 0,
        }
    }

    /// The first quote at or after `from`, which is none of the 64 bytes from there on.
    #[inline(never)]
    pub(super) fn far(&self, from: usize) -> Option<usize> {
        let word = from / 64 + 1;
        let mut words = self.quotes.get(word..)?.iter().enumerate();
        let (far, quotes) = words.find(|(_, quotes)| **quotes != 0)?;
        Some((word + far) * 64 + quotes.trailing_zeros() as usize)
    }
}

/// The quotes of a block without a backslash before them, a bit each. `plain`: see [`Marks::plain`]. `escaped`: a backslash before the block's
/// first byte, which has none before it.
#[inline(always)]
fn quotes(block: &[u8; BLOCK], plain: &mut bool, escaped: &mut bool) -> u64 {
    let quotes = bits(block, b'"');
    let special = |byte: &u8| *byte == b'\\' || *byte < b' ';
    // Not `any`: it would stop at the first, and so look at one byte at a time.
    if block.iter().fold(false, |any, byte| any | special(byte)) || *escaped {
        *plain = false;
        return quotes & unescaped(block, escaped);
    }
    quotes
}

/// The bytes of a block without a backslash before them, a bit each.
#[cold]
#[inline(never)]
fn unescaped(block: &[u8; BLOCK], escaped: &mut bool) -> u64 {
    let mut unescaped = !0;
    if *escaped {
        unescaped = !1;
    }
    let mut backslashes = bits(block, b'\\') & unescaped;
    *escaped = false;
    while backslashes != 0 {
        let next = backslashes.trailing_zeros() + 1;
        *escaped = next == 64;
        let escaped = 1u64.checked_shl(next).unwrap_or(0);
        unescaped &= !escaped;
        backslashes &= (backslashes - 1) & !escaped;
    }
    unescaped
}

/// Counts the tabs of `bytes`, and puts the places of the first ones into `places`.
pub(super) fn tabs(bytes: &[u8], places: &mut [usize]) -> usize {
    let mut count = 0;
    let mut note = |from: usize, mut tabs: u64| {
        while tabs != 0 {
            if let Some(place) = places.get_mut(count) {
                *place = from + tabs.trailing_zeros() as usize;
            }
            count += 1;
            tabs &= tabs - 1;
        }
    };
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    for (i, block) in blocks.iter().enumerate() {
        note(i * BLOCK, bits(block, b'\t'));
    }
    let mut last = [0; BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    note(blocks.len() * BLOCK, bits(&last, b'\t'));
    count
}

/// Which bytes are `wanted`, the first lowest.
#[inline(always)]
fn bits(block: &[u8; BLOCK], wanted: u8) -> u64 {
    u8x64::new(*block).simd_eq(wanted).to_bitmask()
}

/// The string is what it looks like: no escapes, no control characters.
#[inline]
pub(super) fn is_plain(string: &[u8]) -> bool {
    !string.iter().any(|byte| *byte == b'\\' || *byte < b' ')
}

/// The first eight bytes of the `len` bytes at `from`, zeros behind what is shorter.
#[inline(always)]
pub(super) fn head(bytes: &[u8], from: usize, len: usize) -> u64 {
    if let Some(eight) = bytes.get(from..from + 8) {
        let word = u64::from_le_bytes(eight.try_into().expect("eight bytes"));
        if len >= 8 { word } else { word & ((1 << (len * 8)) - 1) }
    } else {
        let mut eight = [0; 8];
        let len = len.min(8);
        eight[..len].copy_from_slice(&bytes[from..from + len]);
        u64::from_le_bytes(eight)
    }
}
