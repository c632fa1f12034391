//! One walk over a JSON message.
//!
//! Where wanted paths lead, names are looked up in the layout's tree; all else is skipped by [`Scan::skip`],
//! which checks structure: brackets that pair, strings that end, names, colons, commas, and a word (letters,
//! digits, `+ - . _`) where a value must be. A needed value is checked to JSON's letter, but for what `strings.rs` takes.

use std::borrow::Cow;

use usher_config::Found;

use super::layout::{Layout, Slot};
use super::malformed::{Malformed, What};
use super::scan::{Marks, is_plain};
use super::shapes::{Shapes, Then};
use super::snowplow::Parts;
use super::strings::{is_not_finite, mend, unescape};
use super::{DEPTH_MAX, Fields, star};

/// Reads one message into `fields`, which is cleared and sized for `layout`.
pub(super) fn walk<'a>(layout: &Layout, message: &'a [u8], fields: &mut Fields<'a>) -> Result<(), Malformed> {
    over(layout, utf8(message)?, fields, |walk| {
        // What an envelope has beside the message may be in its place already.
        if !walk.fields.known.are_likely() || walk.fields.met.iter().any(|word| *word != 0) {
            return walk.message();
        }
        let mut known = std::mem::take(&mut walk.fields.known);
        let mut read = walk.read_known(known.shapes());
        if read.is_some() {
            known.hit();
        } else {
            read = walk.message();
            if read.is_some() {
                known.miss(layout, &mut walk.scan, &walk.fields.met);
            }
        }
        walk.fields.known = known;
        read
    })
}

/// Walks `text` as `run` does.
#[inline(always)]
pub(super) fn over<'a>(
    layout: &Layout,
    text: &'a str,
    fields: &mut Fields<'a>,
    run: impl for<'w> FnOnce(&mut Walk<'a, 'w>) -> Option<()>,
) -> Result<(), Malformed> {
    let mut marks = std::mem::take(&mut fields.marks);
    marks.refill(text.as_bytes());
    let mut walk = Walk { scan: Scan::new(text, &marks), layout, fields, parts: Parts::default() };
    let walked = run(&mut walk);
    if walked.is_some() {
        walk.stars();
    }
    let error = walk.scan.error;
    fields.marks = marks;
    walked.ok_or(error)
}

pub(super) fn utf8(message: &[u8]) -> Result<&str, Malformed> {
    simdutf8::basic::from_utf8(message).map_err(|_| {
        let at = std::str::from_utf8(message).map_or_else(|error| error.valid_up_to(), str::len);
        Malformed { what: What::NotUtf8, at }
    })
}

pub(super) struct Walk<'a, 'w> {
    pub(super) scan: Scan<'a, 'w>,
    pub(super) layout: &'w Layout,
    pub(super) fields: &'w mut Fields<'a>,
    pub(super) parts: Parts,
}

impl<'a> Walk<'a, '_> {
    /// Reads the message by its shape, if that is known. None: it is not, and nothing of the message is noted.
    #[inline(never)]
    fn read_known(&mut self, shapes: &Shapes) -> Option<()> {
        let (mut at, mut step) = (0, 0);
        let shape = loop {
            let Some(next) = shapes.step(step) else { break None };
            if !shapes.is_at(next, self.scan.bytes, at) {
                step = next.other;
                continue;
            }
            let value = at + next.len as usize;
            let end = match (next.then, self.scan.byte(value)) {
                (Then::End(shape), _) if value == self.scan.bytes.len() => break Some(shape),
                (Then::Skipped(depth), b'[') => self.scan.skip::<false>(value, depth as usize),
                // An object or array there is of another shape, whose step has more bytes.
                (Then::End(_), _) | (_, b'{' | b'[') => {
                    step = next.other;
                    continue;
                }
                (Then::Needed(slot), b'"') => self.string(slot, value, Ahead::default()),
                (Then::Unneeded | Then::Skipped(_), b'"') => self.scan.skip_string(value),
                (then, _) => {
                    let end = self.scan.skip_word(value);
                    if let (Then::Needed(slot), Some(end)) = (then, end) {
                        self.word(slot, value, end);
                    }
                    end
                }
            };
            let Some(end) = end else { break None };
            (at, step) = (end, next.next);
        };
        match shape {
            Some(shape) => {
                self.fields.met.copy_from_slice(&shapes.met[shape as usize]);
                Some(())
            }
            None => {
                self.fields.forget(self.layout, 0);
                None
            }
        }
    }

    fn message(&mut self) -> Option<()> {
        let start = self.scan.blank(0);
        if self.scan.byte(start) != b'{' {
            return self.scan.fail(What::NotOneObject, start);
        }
        let end = self.value(0, start, 0, Ahead::default())?;
        let rest = self.scan.blank(end);
        if rest != self.scan.bytes.len() {
            return self.scan.fail(What::NotOneObject, rest);
        }
        Some(())
    }

    /// The paths with `[*]`, whose arrays the walk has passed.
    fn stars(&mut self) {
        for each in &self.layout.stars {
            let list = self.fields.lists.iter().find(|(slot, _)| *slot == each.node);
            let Some((_, at)) = list else { continue };
            match star::collect(&mut self.scan, *at, &each.rest) {
                Some(found) => fill(self.place(each.slot), Found::Compound(Cow::Owned(found))),
                None => self.fields.broken.push((each.slot, self.scan.error)),
            }
        }
        self.fields.lists.clear();
    }

    /// The value at `at`, `depth` levels deep, where wanted paths lead. All of these answer where it ends.
    #[inline(always)]
    pub(super) fn value(&mut self, slot: Slot, at: usize, depth: usize, ahead: Ahead) -> Option<usize> {
        let layout = self.layout;
        let node = &layout.nodes[slot as usize];
        self.fields.meet(layout, slot);
        let wanted = node.needed;
        let end = match self.scan.byte(at) {
            b'"' => {
                if wanted {
                    return self.string(slot, at, ahead);
                }
                self.scan.skip_value(at, ahead)?
            }
            b'{' => {
                let end = if node.has_members() {
                    self.object::<false>(slot, at, depth)?
                } else {
                    self.scan.skip::<false>(at, depth)?
                };
                if wanted {
                    self.compound(slot, at);
                }
                end
            }
            b'[' => {
                let end = if node.elements.is_empty() {
                    self.scan.skip::<false>(at, depth)?
                } else {
                    self.array(slot, at, depth)?
                };
                if wanted {
                    self.compound(slot, at);
                }
                if node.star {
                    self.fields.lists.push((slot, at));
                }
                end
            }
            _ => {
                let end = self.scan.skip_word(at)?;
                if wanted {
                    self.word(slot, at, end);
                }
                end
            }
        };
        Some(end)
    }

    /// `EVENT`: it is an event of Snowplow's, some of whose members are more than values.
    #[inline(never)]
    pub(super) fn object<const EVENT: bool>(&mut self, slot: Slot, at: usize, depth: usize) -> Option<usize> {
        if depth == DEPTH_MAX {
            return self.scan.fail(What::TooDeep, at);
        }
        let layout = self.layout;
        let node = &layout.nodes[slot as usize];
        let mut at = self.scan.blank(at + 1);
        if self.scan.byte(at) == b'}' {
            return Some(at + 1);
        }
        loop {
            if self.scan.byte(at) != b'"' {
                return self.scan.fail(What::Expected("a name"), at);
            }
            let (end, ahead) = self.scan.skip_name(at)?;
            let name = at;
            let mut child = if self.scan.has_no_escape(at, end) {
                node.member(self.scan.bytes, at + 1, end - 1)
            } else {
                // A name whose escapes stand for nothing is nobody's name.
                let name = unescape(&self.scan.text[at..end]);
                name.and_then(|name| node.member(name.text.as_bytes(), 0, name.text.len()))
            };
            at = self.scan.colon(end)?;
            if EVENT {
                child = self.part(name, end, at, child);
            }
            at = match child {
                Some(child) => self.value(child, at, depth + 1, ahead)?,
                None if self.scan.byte(at) == b'"' => self.scan.skip_value(at, ahead)?,
                None => self.scan.skip::<false>(at, depth + 1)?,
            };
            at = self.scan.blank(at);
            match self.scan.byte(at) {
                b',' => at = self.scan.blank(at + 1),
                b'}' => return Some(at + 1),
                _ => return self.scan.fail(What::Expected("`,` or `}`"), at),
            }
        }
    }

    #[inline(never)]
    fn array(&mut self, slot: Slot, at: usize, depth: usize) -> Option<usize> {
        if depth == DEPTH_MAX {
            return self.scan.fail(What::TooDeep, at);
        }
        let layout = self.layout;
        let node = &layout.nodes[slot as usize];
        let mut at = self.scan.blank(at + 1);
        if self.scan.byte(at) == b']' {
            return Some(at + 1);
        }
        for index in 0.. {
            let wanted = node.elements.iter().find(|(each, _)| *each == index);
            at = match wanted {
                None => self.scan.skip::<false>(at, depth + 1)?,
                Some((_, child)) => self.value(*child, at, depth + 1, Ahead::default())?,
            };
            at = self.scan.blank(at);
            match self.scan.byte(at) {
                b',' => at = self.scan.blank(at + 1),
                b']' => return Some(at + 1),
                _ => break,
            }
        }
        self.scan.fail(What::Expected("`,` or `]`"), at)
    }

    /// A needed string.
    #[inline(always)]
    fn string(&mut self, slot: Slot, at: usize, ahead: Ahead) -> Option<usize> {
        let end = self.scan.skip_value(at, ahead)?;
        if self.scan.has_no_escape(at, end) {
            let text = &self.scan.text[at + 1..end - 1];
            fill(self.place(slot), Found::Text(Cow::Borrowed(text)));
        } else {
            self.escaped(slot, at, end);
        }
        Some(end)
    }

    #[cold]
    fn escaped(&mut self, slot: Slot, at: usize, end: usize) {
        match unescape(&self.scan.text[at..end]) {
            Some(string) if string.mended => fill(self.place(slot), Found::Mended(string.text)),
            Some(string) => fill(self.place(slot), Found::Text(Cow::Owned(string.text))),
            None => self.broken(slot, What::BrokenString, at),
        }
    }

    /// A needed number, `true`, `false` or `null`.
    #[inline]
    fn word(&mut self, slot: Slot, at: usize, end: usize) {
        match &self.scan.text[at..end] {
            "null" => {}
            "true" => fill(self.place(slot), Found::Boolean(true)),
            "false" => fill(self.place(slot), Found::Boolean(false)),
            word if is_number(word.as_bytes()) => fill(self.place(slot), Found::Number(word)),
            word if is_not_finite(word) => fill(self.place(slot), Found::NotFinite),
            _ => self.broken(slot, What::BrokenNumber, at),
        }
    }

    /// A needed object or array, known to be well structured.
    #[inline(never)]
    fn compound(&mut self, slot: Slot, at: usize) {
        match self.scan.strict(at) {
            Some(text) => fill(self.place(slot), Found::Compound(text)),
            None => self.fields.broken.push((slot, self.scan.error)),
        }
    }

    #[inline(always)]
    pub(super) fn place(&mut self, slot: Slot) -> &mut Found<'a> {
        &mut self.fields.found[slot as usize]
    }

    #[cold]
    fn broken(&mut self, slot: Slot, what: What, at: usize) {
        self.fields.broken.push((slot, Malformed { what, at }));
    }
}

/// Puts what is found in its place, which is empty.
#[inline(always)]
pub(super) fn fill<'a>(place: &mut Found<'a>, found: Found<'a>) {
    let before = std::mem::replace(place, found);
    debug_assert_eq!(before, Found::Nothing, "cleared before, or by `forget`");
    // Nothing is there to drop. If the compiler had to look, the new value would be built aside and copied.
    std::mem::forget(before);
}

/// Quotes that were seen with the one before them, so that they need not be looked for.
///
/// A name and its value together are mostly shorter than what is seen at once.
#[derive(Clone, Copy, Default)]
pub(super) struct Ahead {
    /// The byte that the lowest bit stands for.
    from: usize,
    quotes: u64,
}

/// A message's text, and what last went wrong with it.
pub(super) struct Scan<'a, 'w> {
    pub(super) text: &'a str,
    pub(super) bytes: &'a [u8],
    marks: &'w Marks,
    pub(super) error: Malformed,
    /// A strict skip has passed something that is to be mended.
    odd: bool,
}

impl<'a, 'w> Scan<'a, 'w> {
    pub(super) fn new(text: &'a str, marks: &'w Marks) -> Scan<'a, 'w> {
        Scan { text, bytes: text.as_bytes(), marks, error: Malformed { what: What::NotOneObject, at: 0 }, odd: false }
    }

    #[cold]
    pub(super) fn fail<T>(&mut self, what: What, at: usize) -> Option<T> {
        self.error = Malformed { what, at };
        None
    }

    /// The byte there; behind the end 0, which JSON has nowhere outside a string.
    #[inline(always)]
    pub(super) fn byte(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(0)
    }

    /// The first byte from `at` on that is not white space.
    #[inline(always)]
    pub(super) fn blank(&self, at: usize) -> usize {
        if self.byte(at) > b' ' { at } else { self.blanks(at) }
    }

    #[inline(never)]
    fn blanks(&self, mut at: usize) -> usize {
        while matches!(self.byte(at), b' ' | b'\n' | b'\r' | b'\t') {
            at += 1;
        }
        at
    }

    /// Where the value behind the colon starts.
    #[inline(always)]
    pub(super) fn colon(&mut self, at: usize) -> Option<usize> {
        let at = self.blank(at);
        if self.byte(at) != b':' {
            return self.fail(What::Expected("`:`"), at);
        }
        Some(self.blank(at + 1))
    }

    /// The end of the string that starts at `at`, whatever its escapes.
    #[inline(always)]
    pub(super) fn skip_string(&mut self, at: usize) -> Option<usize> {
        Some(self.skip_name(at)?.0)
    }

    /// The end of the string that starts at `at`, and the quotes seen behind it.
    #[inline(always)]
    fn skip_name(&mut self, at: usize) -> Option<(usize, Ahead)> {
        let from = at + 1;
        let window = self.marks.window(from);
        if window == 0 {
            return match self.marks.far(from) {
                Some(quote) => Some((quote + 1, Ahead::default())),
                None => self.fail(What::Expected("`\"`"), self.bytes.len()),
            };
        }
        let quotes = window & (window - 1);
        Some((from + window.trailing_zeros() as usize + 1, Ahead { from, quotes }))
    }

    /// The end of the string that starts at `at`, where `ahead` starts with its quotes, if it has any.
    #[inline(always)]
    fn skip_value(&mut self, at: usize, ahead: Ahead) -> Option<usize> {
        let behind = ahead.quotes & ahead.quotes.wrapping_sub(1);
        if behind != 0 {
            return Some(ahead.from + behind.trailing_zeros() as usize + 1);
        }
        self.skip_string(at)
    }

    /// The string from `at` to `end`, quotes included, stands for itself.
    #[inline(always)]
    pub(super) fn has_no_escape(&self, at: usize, end: usize) -> bool {
        self.marks.plain || is_plain(&self.bytes[at + 1..end - 1])
    }

    /// What the string from `at` to `end`, quotes included, says; none: its escapes stand for nothing.
    pub(super) fn string(&self, at: usize, end: usize) -> Option<Cow<'a, str>> {
        let quoted = &self.text[at..end];
        if self.has_no_escape(at, end) {
            return Some(Cow::Borrowed(&quoted[1..quoted.len() - 1]));
        }
        unescape(quoted).map(|string| Cow::Owned(string.text))
    }

    /// The text of the value at `at` as strict JSON; none: it is broken.
    pub(super) fn strict(&mut self, at: usize) -> Option<Cow<'a, str>> {
        self.odd = false;
        let end = self.skip::<true>(at, 0)?;
        let text = &self.text[at..end];
        Some(if self.odd { Cow::Owned(mend(text)) } else { Cow::Borrowed(text) })
    }

    /// The end of the word that starts at `at`.
    #[inline(always)]
    pub(super) fn skip_word(&mut self, at: usize) -> Option<usize> {
        let mut end = at;
        while WORD[self.byte(end) as usize] {
            end += 1;
        }
        if end == at {
            return self.fail(What::Expected("a value"), at);
        }
        Some(end)
    }

    /// The end of the value at `at`, which is `depth` levels deep. `STRICT`: it is also JSON to the letter.
    pub(super) fn skip<const STRICT: bool>(&mut self, at: usize, depth: usize) -> Option<usize> {
        let mut at = at;
        // The objects and arrays that are open here, a bit each, the innermost lowest: 1 is an object.
        let mut open = 0u128;
        let mut level = depth;
        let mut ahead = Ahead::default();
        loop {
            match self.byte(at) {
                b'"' => {
                    let end = self.skip_value(at, ahead)?;
                    if STRICT {
                        self.check_string(at, end)?;
                    }
                    at = end;
                }
                bracket @ (b'{' | b'[') => {
                    if level == DEPTH_MAX {
                        return self.fail(What::TooDeep, at);
                    }
                    let first = self.blank(at + 1);
                    // `{` and `}`, `[` and `]` are two apart.
                    if self.byte(first) == bracket + 2 {
                        at = first + 1;
                    } else {
                        level += 1;
                        open = open << 1 | u128::from(bracket == b'{');
                        (at, ahead) = match bracket {
                            b'{' => self.name::<STRICT>(first)?,
                            _ => (first, Ahead::default()),
                        };
                        continue;
                    }
                }
                _ => {
                    let end = self.skip_word(at)?;
                    if STRICT {
                        self.check_word(at, end)?;
                    }
                    at = end;
                }
            }
            // Behind a value.
            loop {
                if level == depth {
                    return Some(at);
                }
                at = self.blank(at);
                let object = open & 1 == 1;
                match self.byte(at) {
                    b',' => {
                        at = self.blank(at + 1);
                        ahead = Ahead::default();
                        if object {
                            (at, ahead) = self.name::<STRICT>(at)?;
                        }
                        break;
                    }
                    b'}' if object => {}
                    b']' if !object => {}
                    _ if object => return self.fail(What::Expected("`,` or `}`"), at),
                    _ => return self.fail(What::Expected("`,` or `]`"), at),
                }
                at += 1;
                level -= 1;
                open >>= 1;
            }
        }
    }

    /// A name and its colon: where the value starts.
    #[inline(always)]
    fn name<const STRICT: bool>(&mut self, at: usize) -> Option<(usize, Ahead)> {
        if self.byte(at) != b'"' {
            return self.fail(What::Expected("a name"), at);
        }
        let (end, ahead) = self.skip_name(at)?;
        if STRICT {
            self.check_string(at, end)?;
        }
        Some((self.colon(end)?, ahead))
    }

    fn check_string(&mut self, at: usize, end: usize) -> Option<()> {
        if self.has_no_escape(at, end) {
            return Some(());
        }
        match unescape(&self.text[at..end]) {
            Some(string) => {
                self.odd |= string.mended;
                Some(())
            }
            None => self.fail(What::BrokenString, at),
        }
    }

    fn check_word(&mut self, at: usize, end: usize) -> Option<()> {
        match &self.text[at..end] {
            "true" | "false" | "null" => Some(()),
            word if is_number(word.as_bytes()) => Some(()),
            word if is_not_finite(word) => {
                self.odd = true;
                Some(())
            }
            _ => self.fail(What::BrokenNumber, at),
        }
    }
}

/// JSON's grammar of numbers.
pub(super) fn is_number(text: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits(text);
    if whole == 0 || whole > 1 && text[0] == b'0' {
        return false;
    }
    let mut text = &text[whole..];
    if let [b'.', fraction @ ..] = text {
        let length = digits(fraction);
        if length == 0 {
            return false;
        }
        text = &fraction[length..];
    }
    if let [b'e' | b'E', exponent @ ..] = text {
        let exponent = match exponent {
            [b'+' | b'-', digits @ ..] => digits,
            digits => digits,
        };
        let length = digits(exponent);
        return length > 0 && length == exponent.len();
    }
    text.is_empty()
}

/// What a number, `true`, `false` or `null` is written with, and what is taken for one where it is not needed.
const WORD: [bool; 256] = {
    let mut word = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let char = byte as u8;
        word[byte] = char.is_ascii_alphanumeric() || matches!(char, b'+' | b'-' | b'.' | b'_');
        byte += 1;
    }
    word
};
