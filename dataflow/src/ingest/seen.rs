//! What came in: for each event of the job how many messages it matched, and of the messages that nothing matched which types and
//! names they have.
//!
//! Each worker keeps one [`Seen`] for each source. Matched messages cost a count; unmatched ones a look-up in a table of at most
//! [`NAMES`] names, and after the first [`ALL_COUNTED`] only one in [`SAMPLED`] counts, for all of them. Of the messages that are
//! refused for a reason, of those without a key, and of those that match nothing, the first is kept by its look.
//!
//! Which unmatched messages count depends on how many came before. Where a chunk is decoded out of order, a [`Seen`] of its own notes all of
//! them ([`Seen::of_chunk`]), and [`Seen::append`] then counts them as if they had come one by one.

use crate::time::Time;
use std::collections::HashMap;
use usher_core::api::UnmatchedName;
use usher_core::dead_letters::DeadLetterReason;
use usher_formats::Look;

/// The most names that are counted apart.
const NAMES: usize = 100;
/// The longest name, bytes; of longer ones the beginning counts.
const NAME_BYTES: usize = 100;
/// Unmatched messages that are all counted.
const ALL_COUNTED: u64 = 10_000;
/// Beyond them, one in so many is.
const SAMPLED: u64 = 64;

/// What came in of one source, or of all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// By event of the plan; shorter if later ones matched nothing.
    events: Vec<EventSeen>,
    /// Messages that no event matched.
    unmatched: u64,
    /// By type, U+0000 and name.
    names: HashMap<String, u64>,
    /// Messages whose names are beyond [`NAMES`].
    others: u64,
    /// What the first message looks like that no event matched.
    sample: Option<Look>,
    /// What the first message looks like that has no key.
    keyless: Option<Look>,
    /// The first message of each reason, and the reason's detail.
    refused: [Option<Refused>; DeadLetterReason::ALL.len()],
    /// The name at hand.
    name: String,
    /// Of a chunk: the names of all unmatched messages, which are counted when it is appended.
    noted: Option<Noted>,
}

/// Names in the order of their messages.
#[derive(Clone, Debug, Default)]
struct Noted {
    /// Type, U+0000 and name of each; nothing of a message that has neither.
    text: String,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Noted {
    fn push(&mut self, kind: Option<&str>, name: Option<&str>) {
        if kind.is_some() || name.is_some() {
            push_name(&mut self.text, kind, name);
        }
        self.ends.push(self.text.len());
    }

    /// Returns the names; an empty one of a message that has neither type nor name.
    fn names(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.text[start..*end])
    }
}

/// What matched an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EventSeen {
    /// Messages, repeats included.
    pub(crate) matched: u64,
    /// The greatest timestamp.
    pub(crate) last: Option<Time>,
}

/// A message that was refused.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) look: Look,
    pub(crate) detail: String,
}

impl Seen {
    /// Counts a message that matches an event of the plan.
    #[inline]
    pub(crate) fn matched(&mut self, event: u16, timestamp: Time) {
        let event = usize::from(event);
        if event >= self.events.len() {
            self.events.resize(event + 1, EventSeen::default());
        }
        let seen = &mut self.events[event];
        seen.matched += 1;
        seen.last = seen.last.max(Some(timestamp));
    }

    /// Returns what a chunk is decoded into before what was seen of the chunks before it is known.
    pub(crate) fn of_chunk() -> Seen {
        Seen { noted: Some(Noted::default()), ..Seen::default() }
    }

    /// Counts a message of a type and name that no event matches.
    pub(crate) fn unmatched(&mut self, kind: Option<&str>, name: Option<&str>, message: &[u8]) {
        if let Some(noted) = &mut self.noted {
            self.sample.get_or_insert_with(|| Look::of(message));
            return noted.push(kind, name);
        }
        let Some(weight) = self.weigh_unmatched() else { return };
        if self.sample.is_none() {
            self.sample = Some(Look::of(message));
        }
        if kind.is_none() && name.is_none() {
            return;
        }
        let mut text = std::mem::take(&mut self.name);
        text.clear();
        push_name(&mut text, kind, name);
        self.count_name(&text, weight);
        self.name = text;
    }

    /// Counts an unmatched message; returns for how many its name counts, if it does.
    fn weigh_unmatched(&mut self) -> Option<u64> {
        self.unmatched += 1;
        match self.unmatched {
            0..=ALL_COUNTED => Some(1),
            count if count.is_multiple_of(SAMPLED) => Some(SAMPLED),
            _ => None,
        }
    }

    /// Counts a type, U+0000 and name.
    fn count_name(&mut self, text: &str, weight: u64) {
        let has_room = self.names.len() < NAMES;
        match self.names.get_mut(text) {
            Some(count) => *count += weight,
            None if has_room => drop(self.names.insert(text.to_owned(), weight)),
            None => self.others += weight,
        }
    }

    /// Notes a message that has no key.
    pub(crate) fn keyless(&mut self, message: &[u8]) {
        self.keyless.get_or_insert_with(|| Look::of(message));
    }

    /// Notes a message that is refused.
    pub(crate) fn refused(&mut self, reason: DeadLetterReason, detail: &str, message: &[u8]) {
        self.refused[reason as usize]
            .get_or_insert_with(|| Refused { look: Look::of(message), detail: detail.to_owned() });
    }

    /// Adds what another worker has seen.
    pub(crate) fn add(&mut self, other: &Seen) {
        self.unmatched += other.unmatched;
        self.others += other.others;
        for (name, count) in &other.names {
            *self.names.entry(name.clone()).or_default() += count;
        }
        self.add_looks(other);
    }

    /// Appends what was seen of the next chunk ([`Seen::of_chunk`]): as if its messages had been counted here.
    pub(crate) fn append(&mut self, chunk: &Seen) {
        for name in chunk.noted.iter().flat_map(Noted::names) {
            if let Some(weight) = self.weigh_unmatched()
                && !name.is_empty()
            {
                self.count_name(name, weight);
            }
        }
        self.add_looks(chunk);
    }

    /// Adds what matched, and the first messages of each kind where there are none yet.
    fn add_looks(&mut self, other: &Seen) {
        let length = self.events.len().max(other.events.len());
        self.events.resize(length, EventSeen::default());
        for (all, one) in self.events.iter_mut().zip(&other.events) {
            all.matched += one.matched;
            all.last = all.last.max(one.last);
        }
        self.sample = self.sample.take().or_else(|| other.sample.clone());
        self.keyless = self.keyless.take().or_else(|| other.keyless.clone());
        for (all, one) in self.refused.iter_mut().zip(&other.refused) {
            *all = all.take().or_else(|| one.clone());
        }
    }

    /// Returns what matched an event of the plan.
    pub(crate) fn event(&self, event: usize) -> EventSeen {
        self.events.get(event).copied().unwrap_or_default()
    }

    /// Returns the types and names that no event matched, the most frequent first.
    pub(crate) fn names(&self) -> Vec<UnmatchedName> {
        let mut names: Vec<(&str, u64)> = self.names.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        names.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        names.truncate(NAMES);
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let named = names.into_iter().map(|(text, count)| {
            let (kind, name) = text.split_once('\0').expect("a type and a name");
            UnmatchedName { kind: given(kind), name: given(name), count }
        });
        named.collect()
    }

    /// Returns what the first message looks like that no event matched.
    pub(crate) fn sample(&self) -> Option<&Look> {
        self.sample.as_ref()
    }

    /// Returns what the first message looks like that had no key.
    pub(crate) fn first_keyless(&self) -> Option<&Look> {
        self.keyless.as_ref()
    }

    /// Returns the first message that was refused for a reason.
    pub(crate) fn first_refused(&self, reason: DeadLetterReason) -> Option<&Refused> {
        self.refused[reason as usize].as_ref()
    }
}

/// Appends a type, U+0000 and name, their beginnings.
fn push_name(text: &mut String, kind: Option<&str>, name: Option<&str>) {
    text.push_str(cut(kind.unwrap_or_default()));
    text.push('\0');
    text.push_str(cut(name.unwrap_or_default()));
}

/// Returns the beginning of a name.
fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_counted_up_to_a_bound_and_beyond_it_sampled() {
        let mut seen = Seen::default();
        for message in 0..1_000_000u64 {
            seen.unmatched(Some("track"), Some(&format!("name {}", message % 2)), b"{}");
        }
        let counts: Vec<u64> = seen.names().iter().map(|name| name.count).collect();
        assert_eq!(counts.iter().sum::<u64>(), 10_000 + 64 * (1_000_000 / 64 - 10_000 / 64), "{counts:?}");
        for name in 0..1_000_000 {
            seen.unmatched(None, Some(&format!("other {name}")), b"{}");
        }
        assert_eq!(seen.names().len(), NAMES);
        assert!(seen.others > 900_000);
        let mut long = Seen::default();
        let message = format!(r#"{{"text":"{}","type":"page","userId":"a"}}"#, "x".repeat(100_000));
        long.unmatched(Some(&"é".repeat(200)), None, message.as_bytes());
        assert_eq!(long.names()[0].kind.as_deref(), Some(&*"é".repeat(50)));
        assert_eq!(long.sample(), Some(&Look::Segment("page".to_owned())), "the whole message is looked at");
    }

    #[test]
    fn chunks_append_to_what_one_after_the_other_would_have_been() {
        let mut random = fastrand::Rng::with_seed(8);
        let (mut one_by_one, mut appended, mut chunk) = (Seen::default(), Seen::default(), Seen::of_chunk());
        for message in 0..60_000u64 {
            let (kind, name) = (["track", "page", ""][random.usize(..3)], format!("name {}", random.u8(..)));
            let kind = random.bool().then_some(kind);
            let name = random.bool().then_some(&name[..]);
            let text = format!(r#"{{"type":"{}","userId":"{message}"}}"#, kind.unwrap_or_default());
            for seen in [&mut one_by_one, &mut chunk] {
                match message % 7 {
                    0 => seen.matched((message % 3) as u16, message),
                    1 if message > 20_000 => seen.keyless(text.as_bytes()),
                    2 if message > 30_000 => seen.refused(DeadLetterReason::BadKey, kind.unwrap_or("none"), b"{}"),
                    _ => seen.unmatched(kind, name, text.as_bytes()),
                }
            }
            if random.u8(..) == 0 {
                appended.append(&std::mem::replace(&mut chunk, Seen::of_chunk()));
            }
        }
        appended.append(&chunk);
        let all = |seen: &Seen| {
            let (names, events) = (seen.names(), (0..3).map(|event| seen.event(event)).collect::<Vec<_>>());
            let looks = (seen.sample().cloned(), seen.first_keyless().cloned());
            let refused = seen.first_refused(DeadLetterReason::BadKey).map(|refused| refused.detail.clone());
            (names, seen.unmatched, seen.others, events, looks, refused)
        };
        assert_eq!(all(&one_by_one), all(&appended));
        assert!(appended.others > 0 && appended.unmatched > 2 * ALL_COUNTED);
        assert_eq!(appended.names.len(), NAMES);
    }

    #[test]
    fn what_workers_have_seen_adds_up() {
        let (mut one, mut two) = (Seen::default(), Seen::default());
        one.matched(2, 70);
        two.matched(0, 50);
        two.matched(2, 60);
        one.unmatched(Some("page"), None, b"a\tb");
        two.unmatched(Some("page"), None, b"second");
        two.unmatched(Some("track"), Some("Seen"), b"third");
        two.refused(DeadLetterReason::BadKey, "why", b"fourth");
        one.add(&two);
        assert_eq!(one.event(0), EventSeen { matched: 1, last: Some(50) });
        assert_eq!(one.event(2), EventSeen { matched: 2, last: Some(70) });
        assert_eq!(one.event(9), EventSeen::default());
        let name = |kind: &str, name: Option<&str>, count| UnmatchedName {
            kind: Some(kind.to_owned()),
            name: name.map(str::to_owned),
            count,
        };
        assert_eq!(one.names(), [name("page", None, 2), name("track", Some("Seen"), 1)]);
        assert_eq!(one.sample(), Some(&Look::Row(2)));
        assert_eq!(one.first_refused(DeadLetterReason::BadKey).map(|refused| refused.detail.as_str()), Some("why"));
    }
}
