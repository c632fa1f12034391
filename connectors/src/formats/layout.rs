//! What a source's messages are read for, compiled: the wanted paths as one tree, and the format's rules.
//!
//! Slots are the tree's nodes in preorder, so that a subtree is a range of slots: that is how a repeated key
//! takes back all that its former value gave. Behind them follows a slot for each path with `[*]`.

use std::collections::BTreeMap;

use usher_config::{Format, Path, Step};

use super::scan::head;

/// Where a found value is kept.
pub(super) type Slot = u32;

/// How the bytes are laid out.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wire {
    Json,
}

#[derive(Debug)]
pub(super) struct Layout {
    pub(super) wire: Wire,
    /// The tree, in preorder; the root is the message itself.
    pub(super) nodes: Vec<Node>,
    pub(super) stars: Vec<Star>,
    /// How many slots there are.
    pub(super) slots: usize,
    /// By the index of the path given to [`Decoder::new`](super::Decoder::new).
    pub(super) paths: Vec<Place>,
    pub(super) kind: Option<Slot>,
    pub(super) name: NameRule,
    pub(super) key: Option<Slot>,
    pub(super) id: Option<Slot>,
    pub(super) time: TimeRule,
}

/// Where a path of the job ends.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) slot: Slot,
    /// Where it ends in messages whose properties are called traits.
    pub(super) traits: Option<Slot>,
}

#[derive(Debug)]
pub(super) enum NameRule {
    One(Option<Slot>),
    ByKind { event: Slot, name: Slot },
}

#[derive(Debug)]
pub(super) enum TimeRule {
    One(Option<Slot>),
    Segment { timestamp: Slot, received: Slot, sent: Slot, original: Slot },
}

/// A path with `[*]`: what remains of it at the node of its first `[*]`.
#[derive(Debug)]
pub(super) struct Star {
    pub(super) node: Slot,
    pub(super) rest: Vec<Step>,
    pub(super) slot: Slot,
    need: Need,
}

/// Who needs a value.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Need {
    /// Nobody: paths lead through it.
    #[default]
    Through,
    /// Messages whose properties are called traits.
    Traits,
    /// All messages.
    Always,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) need: Need,
    /// A path with `[*]` has its first here: if the value is an array, its text is kept.
    pub(super) star: bool,
    /// The first node behind this one's subtree.
    pub(super) end: Slot,
    members: Vec<Member>,
    /// `members` are sorted by length: those of names of n bytes start at `starts[n]`, all longer ones in the last.
    starts: [u32; LONG + 2],
    /// Wanted elements, by index.
    pub(super) elements: Vec<(usize, Slot)>,
}

#[derive(Debug)]
struct Member {
    head: u64,
    tail: u64,
    name: Box<str>,
    node: Slot,
}

/// Names of so many bytes and more share a bucket.
const LONG: usize = 40;

/// The last eight bytes of a longer name.
#[inline(always)]
fn tail(bytes: &[u8], from: usize, len: usize) -> u64 {
    if len > 8 { head(bytes, from + len - 8, 8) } else { 0 }
}

impl Node {
    /// The node of the member whose name is `bytes[from..to]`.
    #[inline(always)]
    pub(super) fn member(&self, bytes: &[u8], from: usize, to: usize) -> Option<Slot> {
        let len = to - from;
        let bucket = len.min(LONG);
        let (start, end) = (self.starts[bucket], self.starts[bucket + 1]);
        if start == end {
            return None;
        }
        let head = head(bytes, from, len);
        let same = |member: &&Member| {
            // Names of up to 16 bytes are their two ends; a call to compare more costs more than all of this.
            member.head == head
                && (len <= 8 || member.tail == tail(bytes, from, len))
                && (len <= 16 || *member.name.as_bytes() == bytes[from..to])
        };
        self.members[start as usize..end as usize].iter().find(same).map(|member| member.node)
    }

    #[inline]
    pub(super) fn has_members(&self) -> bool {
        !self.members.is_empty()
    }
}

impl Layout {
    pub(super) fn new(format: &Format, paths: &[Path]) -> Layout {
        let mut draft = Draft::default();
        let key = |name: &str| vec![Step::Key(name.to_owned())];
        let mut own = Vec::new();
        match format {
            Format::Segment | Format::Rudderstack | Format::Hightouch => {
                own.extend(SEGMENT.iter().map(|name| Some(key(name))));
            }
            Format::SnowplowTsv | Format::SnowplowJson => panic!("refused by the job file's reader"),
            Format::Json(json) => {
                let given = [&json.kind, &json.name, &json.key, &json.id, &json.time];
                own.extend(given.map(|path| path.as_ref().map(|path| path.0.clone())));
            }
        }
        let family = !matches!(format, Format::Json(_));
        let resolved: Vec<_> = paths
            .iter()
            .map(|path| match path.0.split_first() {
                Some((Step::Key(first), rest)) if first == "properties" => {
                    let under = |object: &[Step]| [object, rest].concat();
                    match format {
                        Format::Json(json) => {
                            let object = json.properties.as_ref().map_or(&[][..], |path| &path.0);
                            (under(object), None)
                        }
                        _ => (path.0.clone(), Some(under(&key("traits")))),
                    }
                }
                _ => (path.0.clone(), None),
            })
            .collect();
        for steps in own.iter().flatten() {
            draft.add(steps, Need::Always);
        }
        for (steps, traits) in &resolved {
            draft.add(steps, Need::Always);
            if let Some(steps) = traits {
                draft.add(steps, Need::Traits);
            }
        }
        let mut layout = Layout {
            wire: Wire::Json,
            nodes: Vec::new(),
            stars: Vec::new(),
            slots: 0,
            paths: Vec::new(),
            kind: None,
            name: NameRule::One(None),
            key: None,
            id: None,
            time: TimeRule::One(None),
        };
        layout.flatten(&draft);
        layout.slots = layout.nodes.len();
        for star in &mut layout.stars {
            star.slot = layout.slots as Slot;
            layout.slots += 1;
        }
        let at: Vec<_> = own.iter().map(|path| path.as_ref().map(|path| layout.slot_of(path))).collect();
        (layout.kind, layout.key, layout.id) = (at[0], at[2], at[3]);
        let all = |slots: &[Option<Slot>]| slots.iter().copied().collect::<Option<Vec<_>>>();
        (layout.name, layout.time) = match all(&at).as_deref() {
            Some(&[_, event, _, _, name, timestamp, received, sent, original]) if family => {
                (NameRule::ByKind { event, name }, TimeRule::Segment { timestamp, received, sent, original })
            }
            _ => (NameRule::One(at[1]), TimeRule::One(at[4])),
        };
        layout.paths = resolved
            .iter()
            .map(|(steps, traits)| Place {
                slot: layout.slot_of(steps),
                traits: traits.as_ref().map(|steps| layout.slot_of(steps)),
            })
            .collect();
        layout
    }

    /// A broken value at `slot` spoils the message; `traits`: its properties are called traits.
    pub(super) fn needs(&self, slot: Slot, traits: bool) -> bool {
        let need = match self.nodes.get(slot as usize) {
            Some(node) => node.need,
            None => self.stars[slot as usize - self.nodes.len()].need,
        };
        need == Need::Always || traits && need == Need::Traits
    }

    fn flatten(&mut self, draft: &Draft) -> Slot {
        let slot = self.nodes.len();
        self.nodes.push(Node {
            need: draft.need,
            star: !draft.stars.is_empty(),
            end: 0,
            members: Vec::new(),
            starts: [0; LONG + 2],
            elements: Vec::new(),
        });
        for (rest, need) in &draft.stars {
            self.stars.push(Star { node: slot as Slot, rest: rest.clone(), slot: 0, need: *need });
        }
        let mut members = Vec::new();
        for (name, child) in &draft.members {
            members.push(Member {
                head: head(name.as_bytes(), 0, name.len()),
                tail: tail(name.as_bytes(), 0, name.len()),
                name: name.as_str().into(),
                node: self.flatten(child),
            });
        }
        members.sort_by_key(|member| member.name.len());
        let starts = std::array::from_fn(|len| match len {
            0..=LONG => members.partition_point(|member| member.name.len() < len) as u32,
            _ => members.len() as u32,
        });
        let elements: Vec<_> = draft.elements.iter().map(|(index, child)| (*index, self.flatten(child))).collect();
        let end = self.nodes.len() as Slot;
        let node = &mut self.nodes[slot];
        (node.members, node.starts, node.elements, node.end) = (members, starts, elements, end);
        slot as Slot
    }

    /// The slot of a path that was added.
    fn slot_of(&self, path: &[Step]) -> Slot {
        let mut at = 0;
        for (i, step) in path.iter().enumerate() {
            let node = &self.nodes[at as usize];
            at = match step {
                Step::Key(name) => node.member(name.as_bytes(), 0, name.len()),
                Step::Index(index) => node.elements.iter().find(|(each, _)| each == index).map(|(_, node)| *node),
                Step::All => {
                    let star = self.stars.iter().find(|star| star.node == at && star.rest == path[i..]);
                    return star.expect("the path with `[*]` was added").slot;
                }
            }
            .expect("the path was added");
        }
        at
    }
}

/// What the Segment family defines, in the order that [`Layout::new`] counts on.
const SEGMENT: [&str; 9] =
    ["type", "event", "userId", "messageId", "name", "timestamp", "receivedAt", "sentAt", "originalTimestamp"];

/// The tree while paths are added.
#[derive(Default)]
struct Draft {
    need: Need,
    members: BTreeMap<String, Draft>,
    elements: BTreeMap<usize, Draft>,
    stars: Vec<(Vec<Step>, Need)>,
}

impl Draft {
    fn add(&mut self, path: &[Step], need: Need) {
        match path.split_first() {
            None if self.need != Need::Always => self.need = need,
            None => {}
            Some((Step::Key(name), rest)) => {
                self.members.entry(name.clone()).or_default().add(rest, need);
            }
            Some((Step::Index(index), rest)) => self.elements.entry(*index).or_default().add(rest, need),
            Some((Step::All, _)) => match self.stars.iter_mut().find(|(rest, _)| rest == path) {
                Some((_, known)) if *known != Need::Always => *known = need,
                Some(_) => {}
                None => self.stars.push((path.to_vec(), need)),
            },
        }
    }
}
