//! Shapes of JSON messages: all of a message but its values, so that the next message of the same shape is compared and not parsed.
//!
//! The messages of a source have few shapes: the same library writes the same names in the same order. Between two values they have the same bytes.
//! [`Walk::read_known`](super::json::Walk::read_known) compares these bytes, up to 16 at once, where the walk reads names, looks them up, and
//! checks colons, commas and brackets; what it takes of each value is what the walk takes. The method is that of Mison's speculation (Li et al.,
//! *Mison: A Fast JSON Parser for Data Analytics*, VLDB 2017), which keeps such shapes as a tree too.
//!
//! Promises: a message that is read by a shape gives what the walk gives, because the walk has read a message with the same bytes around its values. A message of
//! no known shape is walked, and its shape is learned. What is kept for a layout is bounded: the first [`SHAPES_MAX`] shapes, and a few 100 KiB.
//!
//! Refuses: shapes with a repeated name, an escape in a name, a needed object or array, or a path into an array. Such messages are always walked.

use std::sync::{Arc, Mutex};

use usher_core::lock::lock;

use super::json::Scan;
use super::layout::{Layout, Slot};

/// Shapes of a layout, at most.
pub(super) const SHAPES_MAX: usize = 64;
/// Steps of all shapes of a layout, at most: 64 bytes each.
const STEPS_MAX: usize = 8192;
/// Bytes around the values of all shapes of a layout, at most: 256 KiB.
const TEXTS_MAX: usize = 256 << 10;
/// Two for each message of no known shape, less one for each that has one, at which a reader, who reads one lot of messages, looks for none any more: to
/// look in vain takes up to twice what a shape saves.
const MISSES: u32 = 128;
/// Messages of which a reader has learned nothing, at which it learns no more: to learn takes as long as to walk.
const UNLEARNED: u32 = 16;
/// No step.
const NONE: u32 = u32::MAX;

/// What may stand behind the bytes of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// A needed string or word.
    Needed(Slot),
    /// A string or word that nobody needs. An array there has elements that a path leads to.
    Unneeded,
    /// A string, a word or an array that nobody needs, so many levels deep.
    Skipped(u8),
    /// The end of the message: of which shape.
    End(u16),
}

/// The bytes before a value, and what may follow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// The first and the last 16 bytes; of fewer than 32 they overlap, of fewer than 16 only eight of each count.
    first: [u8; 16],
    last: [u8; 16],
    /// Where all of them are, if they are fewer than eight or more than 32, in [`Shapes::texts`].
    text: u32,
    pub(super) len: u32,
    pub(super) then: Then,
    /// The step behind the value.
    pub(super) next: u32,
    /// The step to try in the place of this one.
    pub(super) other: u32,
}

/// The known shapes of a layout: a tree of steps.
#[derive(Clone, Debug, Default)]
pub(super) struct Shapes {
    steps: Vec<Step>,
    texts: Vec<u8>,
    /// By shape, the nodes that its messages have, a bit each.
    pub(super) met: Vec<Box<[u64]>>,
}

/// The shapes of a layout of which no message was read.
static EMPTY: Shapes = Shapes { steps: Vec::new(), texts: Vec::new(), met: Vec::new() };

impl Shapes {
    /// Returns a step; 0 is the first of all. None if there is none.
    #[inline(always)]
    pub(super) fn step(&self, step: u32) -> Option<&Step> {
        self.steps.get(step as usize)
    }

    /// Returns whether the bytes of a step are at `at`.
    #[inline(always)]
    pub(super) fn is_at(&self, step: &Step, bytes: &[u8], at: usize) -> bool {
        let len = step.len as usize;
        let Some(found) = bytes.get(at..at + len) else { return false };
        if let (Some(first), Some(last)) = (found.first_chunk::<16>(), found.last_chunk::<16>()) {
            let same = (number(first) ^ number(&step.first)) | (number(last) ^ number(&step.last)) == 0;
            return same && (len <= 32 || self.text(step) == found);
        }
        if let (Some(first), Some(last)) = (found.first_chunk::<8>(), found.last_chunk::<8>()) {
            return first[..] == step.first[..8] && last[..] == step.last[..8];
        }
        self.text(step) == found
    }

    fn text(&self, step: &Step) -> &[u8] {
        &self.texts[step.text as usize..][..step.len as usize]
    }

    /// Returns whether a shape of so many steps and bytes can be added.
    fn has_room(&self, steps: usize, bytes: usize) -> bool {
        let is_small = self.steps.len() + steps <= STEPS_MAX && self.texts.len() + bytes <= TEXTS_MAX;
        is_small && self.met.len() < SHAPES_MAX
    }

    /// Adds a shape: its steps, the bytes behind the last value, and the nodes that its messages have.
    fn add(&mut self, shape: &[(&[u8], Then)], end: &[u8], met: &[u64]) {
        let last = (end, Then::End(self.met.len() as u16));
        let mut before = None;
        for (text, then) in shape.iter().copied().chain([last]) {
            before = Some(self.step_behind(before, text, then));
        }
        self.met.push(met.into());
    }

    /// Returns the step with these bytes behind another one, which is added if it is not there.
    fn step_behind(&mut self, before: Option<usize>, text: &[u8], then: Then) -> usize {
        let first = before.map_or(if self.steps.is_empty() { NONE } else { 0 }, |before| self.steps[before].next);
        let (mut at, mut last) = (first, None);
        while let Some(step) = self.steps.get(at as usize) {
            if step.then == then && self.text(step) == text {
                return at as usize;
            }
            last = Some(at as usize);
            at = step.other;
        }
        let new = self.steps.len();
        match (last, before) {
            (Some(last), _) => self.steps[last].other = new as u32,
            (None, Some(before)) => self.steps[before].next = new as u32,
            (None, None) => {}
        }
        let (mut head, mut tail) = ([0; 16], [0; 16]);
        let of_chunk = if text.len() < 16 { 8 } else { 16 };
        if text.len() >= 8 {
            head[..of_chunk].copy_from_slice(&text[..of_chunk]);
            tail[..of_chunk].copy_from_slice(&text[text.len() - of_chunk..]);
        }
        let at = self.texts.len() as u32;
        self.texts.extend_from_slice(text);
        self.steps.push(Step {
            first: head,
            last: tail,
            text: at,
            len: text.len() as u32,
            then,
            next: NONE,
            other: NONE,
        });
        new
    }
}

#[inline(always)]
fn number(bytes: &[u8; 16]) -> u128 {
    u128::from_le_bytes(*bytes)
}

/// The shapes of a layout, which all who read messages by it share.
#[derive(Debug, Default)]
pub(super) struct SharedShapes(Mutex<Arc<Shapes>>);

/// The shapes that one reader of messages knows.
#[derive(Clone, Debug, Default)]
pub(super) struct KnownShapes {
    /// None before it has a layout: to take the value costs no allocation.
    shapes: Option<Arc<Shapes>>,
    /// See [`MISSES`].
    missed: u32,
    /// See [`UNLEARNED`].
    unlearned: u32,
}

impl KnownShapes {
    pub(super) fn of(shared: &SharedShapes) -> KnownShapes {
        KnownShapes { shapes: Some(Arc::clone(&lock(&shared.0))), ..KnownShapes::default() }
    }

    #[inline(always)]
    pub(super) fn shapes(&self) -> &Shapes {
        self.shapes.as_deref().unwrap_or(&EMPTY)
    }

    /// Returns whether a message is likely to have one.
    #[inline(always)]
    pub(super) fn are_likely(&self) -> bool {
        self.missed < MISSES
    }

    #[inline(always)]
    pub(super) fn hit(&mut self) {
        self.missed = self.missed.saturating_sub(1);
    }

    /// Takes a message that had none of them and was walked, and learns its shape, unless there are enough. `met`: the nodes that it has, a bit each.
    #[cold]
    #[inline(never)]
    pub(super) fn miss(&mut self, layout: &Layout, scan: &mut Scan<'_, '_>, met: &[u64]) {
        self.missed += 2;
        if self.unlearned == UNLEARNED || !self.shapes().has_room(1, 0) {
            return;
        }
        self.unlearned += 1;
        let mut shape = Shape { layout, met: vec![0; met.len()], values: Vec::new() };
        let start = scan.blank(0);
        if shape.value(scan, Some(0), start, 0).is_none() {
            return;
        }
        let mut from = 0;
        let mut steps = Vec::with_capacity(shape.values.len());
        for (start, end, then) in shape.values {
            steps.push((&scan.bytes[from..start], then));
            from = end;
        }
        let mut shared = lock(&layout.shapes.0);
        // What others have learned meanwhile may have it.
        let is_latest = self.shapes.as_ref().is_some_and(|known| Arc::ptr_eq(&*shared, known));
        if is_latest && shared.has_room(steps.len() + 1, scan.bytes.len()) {
            Arc::make_mut(&mut *shared).add(&steps, &scan.bytes[from..], met);
            self.unlearned -= 1;
        }
        self.shapes = Some(Arc::clone(&shared));
    }
}

/// The shape of a message that the walk has read.
struct Shape<'l> {
    layout: &'l Layout,
    /// Nodes that have a value, a bit each.
    met: Vec<u64>,
    /// Where values start and end.
    values: Vec<(usize, usize, Then)>,
}

impl Shape<'_> {
    /// Takes the value at `at`, of that node if it has one; returns where it ends. None: the message has no shape.
    fn value(&mut self, scan: &mut Scan<'_, '_>, slot: Option<Slot>, at: usize, depth: usize) -> Option<usize> {
        let node = slot.map(|slot| &self.layout.nodes[slot as usize]);
        if let Some(slot) = slot {
            let (word, bit) = (&mut self.met[slot as usize / 64], 1 << (slot % 64));
            if *word & bit != 0 {
                return None;
            }
            *word |= bit;
        }
        let needed = node.is_some_and(|node| node.needed);
        let into = node.is_some_and(|node| node.star || !node.elements.is_empty());
        let end = match scan.byte(at) {
            b'{' if needed => return None,
            b'{' => return self.object(scan, slot, at, depth),
            b'[' if needed || into => return None,
            b'[' => scan.skip::<false>(at, depth)?,
            b'"' => scan.skip_string(at)?,
            _ => scan.skip_word(at)?,
        };
        let then = match slot {
            Some(slot) if needed => Then::Needed(slot),
            _ if into => Then::Unneeded,
            _ => Then::Skipped(depth as u8),
        };
        self.values.push((at, end, then));
        Some(end)
    }

    fn object(&mut self, scan: &mut Scan<'_, '_>, slot: Option<Slot>, at: usize, depth: usize) -> Option<usize> {
        let mut at = scan.blank(at + 1);
        while scan.byte(at) == b'"' {
            let end = scan.skip_string(at)?;
            if !scan.has_no_escape(at, end) {
                return None;
            }
            let child = slot.and_then(|slot| self.layout.nodes[slot as usize].member(scan.bytes, at + 1, end - 1));
            let value = scan.colon(end)?;
            at = self.value(scan, child, value, depth + 1)?;
            at = scan.blank(at);
            if scan.byte(at) == b',' {
                at = scan.blank(at + 1);
            }
        }
        Some(at + 1)
    }
}
