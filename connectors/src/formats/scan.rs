//! Many bytes at a time: where the quotes of a message are, and the head of a name as a number.

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
        self.quotes.clear();
        self.plain = true;
        let mut escaped = false;
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        for block in blocks {
            self.block(block, &mut escaped);
        }
        // Blanks, because they are not special.
        let mut last = [b' '; BLOCK];
        last[..rest.len()].copy_from_slice(rest);
        self.block(&last, &mut escaped);
        self.quotes.extend([0, 0]);
    }

    /// `escaped`: a backslash before the block's first byte.
    #[inline(always)]
    fn block(&mut self, block: &[u8; BLOCK], escaped: &mut bool) {
        let mut quotes = ones(&block.map(|byte| u8::from(byte == b'"')));
        let special = |byte: &u8| *byte == b'\\' || *byte < b' ';
        // Not `any`: it would stop at the first, and so look at one byte at a time.
        if block.iter().fold(false, |any, byte| any | special(byte)) || *escaped {
            quotes &= self.unescaped(block, escaped);
        }
        self.quotes.push(quotes);
    }

    #[cold]
    #[inline(never)]
    fn unescaped(&mut self, block: &[u8; BLOCK], escaped: &mut bool) -> u64 {
        self.plain = false;
        let mut unescaped = !0;
        if *escaped {
            unescaped = !1;
        }
        let mut backslashes = ones(&block.map(|byte| u8::from(byte == b'\\'))) & unescaped;
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

    /// The first quote at or after `from`.
    #[inline(always)]
    pub(super) fn quote(&self, from: usize) -> Option<usize> {
        let (word, bit) = (from / 64, from % 64);
        let pair = self.quotes.get(word..word + 2)?;
        // The 64 bits from `from` on, out of two words.
        let window = pair[0] >> bit | pair[1] << 1 << (63 - bit);
        if window != 0 {
            return Some(from + window.trailing_zeros() as usize);
        }
        self.far(word + 1)
    }

    #[inline(never)]
    fn far(&self, word: usize) -> Option<usize> {
        let words = self.quotes[word..].iter();
        let (far, quotes) = words.enumerate().find(|(_, quotes)| **quotes != 0)?;
        Some((word + far) * 64 + quotes.trailing_zeros() as usize)
    }
}

/// Bytes of 0 and 1 to bits, the first byte lowest.
#[inline(always)]
fn ones(bytes: &[u8; BLOCK]) -> u64 {
    let (words, _) = bytes.as_chunks::<8>();
    let mut bits = 0;
    for (i, word) in words.iter().enumerate() {
        // The product's top byte gathers the eight bits: byte k comes to bit 56 + k, and no two meet.
        let gathered = u64::from_le_bytes(*word).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        bits |= gathered << (8 * i);
    }
    bits
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
