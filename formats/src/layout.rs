//! What a source's messages are read for, compiled: the wanted paths as one tree, and the format's rules.
//!
//! Slots are the tree's nodes in preorder, so that a subtree is a range of slots: that is how a repeated key
//! takes back all that its former value gave. Behind them follows a slot for each path with `[*]`, and then one for
//! each header.

use std::collections::BTreeMap;

use usher_config::{Format, Path, Step};

use super::scan::head;
use super::shapes::SharedShapes;
use super::snowplow::{self, Snowplow};

/// Where a found value is kept.
pub(super) type Slot = u32;

/// How the bytes are laid out.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wire {
    Json,
    SnowplowJson,
    SnowplowTsv,
}

#[derive(Debug)]
pub(super) struct Layout {
    pub(super) wire: Wire,
    /// The tree, in preorder; the root is the message itself.
    pub(super) nodes: Vec<Node>,
    pub(super) stars: Vec<Star>,
    /// The wanted headers, by name.
    pub(super) headers: Vec<(String, Slot)>,
    /// The shapes that messages had.
    pub(super) shapes: SharedShapes,
    /// What Snowplow's formats know beyond the tree; of the others nothing.
    pub(super) snowplow: Snowplow,
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
    pub(super) own: End,
    /// Where it ends in messages whose properties are called traits, if it is not in the message's own properties: the first that the
    /// message has.
    pub(super) traits: Vec<End>,
}

/// The end of a path.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// Where its value is.
    pub(super) slot: Slot,
    /// The node that a message with the path has; of a path with `[*]` that of its first one.
    pub(super) node: Slot,
}

#[derive(Debug)]
pub(super) enum NameRule {
    One(Option<Slot>),
    /// `other` where the kind is one of `kinds`.
    ByKind {
        usual: Slot,
        other: Slot,
        kinds: &'static [&'static str],
    },
}

#[derive(Debug)]
pub(super) enum TimeRule {
    /// And its path.
    One(Option<(Slot, String)>),
    Segment {
        timestamp: Slot,
        received: Slot,
        sent: Slot,
        original: Slot,
    },
    Snowplow {
        derived: Slot,
        exact: Slot,
        collected: Slot,
        sent: Slot,
        created: Slot,
    },
}

impl TimeRule {
    /// The slots of all that a time may be made of.
    pub(super) fn slots(&self) -> Vec<Slot> {
        match self {
            TimeRule::One(one) => one.iter().map(|(slot, _)| *slot).collect(),
            TimeRule::Segment { timestamp, received, sent, original } => vec![*timestamp, *received, *sent, *original],
            TimeRule::Snowplow { derived, exact, collected, sent, created } => {
                vec![*derived, *exact, *collected, *sent, *created]
            }
        }
    }
}

/// A path with `[*]`: what remains of it at the node of its first `[*]`.
#[derive(Debug)]
pub(super) struct Star {
    pub(super) node: Slot,
    pub(super) rest: Vec<Step>,
    pub(super) slot: Slot,
}

#[derive(Debug)]
pub(super) struct Node {
    /// Somebody needs the value; else paths only lead through it.
    pub(super) needed: bool,
    /// A path with `[*]` has its first here: if the value is an array, its text is kept.
    pub(super) star: bool,
    /// The first node behind this one's subtree.
    pub(super) end: Slot,
    pub(super) members: Vec<Member>,
    /// `members` are sorted by length: those of names of n bytes start at `starts[n]`, all longer ones in the last.
    starts: [u32; LONG + 2],
    /// Wanted elements, by index.
    pub(super) elements: Vec<(usize, Slot)>,
}

#[derive(Debug)]
pub(super) struct Member {
    head: u64,
    tail: u64,
    pub(super) name: Box<str>,
    pub(super) node: Slot,
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

/// Where a value comes from.
enum Origin {
    Message(Vec<Step>),
    /// Of that name.
    Header(String),
}

impl Origin {
    fn key(name: &&str) -> Origin {
        Origin::Message(vec![Step::Key((*name).to_owned())])
    }

    /// Of a path as the job has it. `headers`: messages have headers, and `headers.NAME` is one of them.
    fn of(path: &[Step], headers: bool) -> Origin {
        match path.split_first() {
            Some((Step::Key(first), name)) if headers && first == "headers" && !name.is_empty() => {
                Origin::Header(header_name(name))
            }
            _ => Origin::Message(path.to_vec()),
        }
    }
}

/// What follows `headers.` as it was written, without quotes: names of headers have points.
fn header_name(steps: &[Step]) -> String {
    let mut name = String::new();
    for step in steps {
        match step {
            Step::Key(key) => {
                if !name.is_empty() {
                    name.push('.');
                }
                name.push_str(key);
            }
            Step::Index(index) => name.push_str(&format!("[{index}]")),
            Step::All => name.push_str("[*]"),
        }
    }
    name
}

impl Layout {
    /// `headers`: messages have headers.
    pub(super) fn new(format: &Format, headers: bool, paths: &[Path]) -> Layout {
        let (wire, own): (_, Vec<_>) = match format {
            Format::Segment | Format::Rudderstack | Format::Hightouch => {
                (Wire::Json, SEGMENT.iter().map(|name| Some(Origin::key(name))).collect())
            }
            Format::SnowplowTsv => (Wire::SnowplowTsv, SNOWPLOW.iter().map(|name| Some(Origin::key(name))).collect()),
            Format::SnowplowJson => (Wire::SnowplowJson, SNOWPLOW.iter().map(|name| Some(Origin::key(name))).collect()),
            Format::Json(json) => {
                let given = [&json.kind, &json.name, &json.key, &json.id, &json.time];
                (Wire::Json, given.map(|path| path.as_ref().map(|path| Origin::of(&path.0, headers))).into())
            }
        };
        // With them, where they are in messages whose properties are called traits.
        let resolved: Vec<_> = paths
            .iter()
            .map(|path| match path.0.split_first() {
                Some((Step::Key(first), rest)) if first == "properties" => match format {
                    Format::Json(json) => {
                        let object = json.properties.as_ref().map_or(&[][..], |path| &path.0);
                        (Origin::Message([object, rest].concat()), Vec::new())
                    }
                    Format::SnowplowTsv | Format::SnowplowJson => {
                        (Origin::Message(snowplow::property(path)), Vec::new())
                    }
                    Format::Segment | Format::Rudderstack | Format::Hightouch => {
                        let traits = traits_of(format).iter().map(|names| {
                            let names = names.iter().map(|name| Step::Key((*name).to_owned()));
                            Origin::Message(names.chain(rest.iter().cloned()).collect())
                        });
                        (Origin::Message(path.0.clone()), traits.collect())
                    }
                },
                _ => (Origin::of(&path.0, headers), Vec::new()),
            })
            .collect();
        let mut draft = Draft::default();
        let mut layout = Layout {
            wire,
            nodes: Vec::new(),
            stars: Vec::new(),
            headers: Vec::new(),
            shapes: SharedShapes::default(),
            snowplow: Snowplow::default(),
            slots: 0,
            paths: Vec::new(),
            kind: None,
            name: NameRule::One(None),
            key: None,
            id: None,
            time: TimeRule::One(None),
        };
        let always = own.iter().flatten().chain(resolved.iter().map(|(origin, _)| origin));
        for origin in always.chain(resolved.iter().flat_map(|(_, traits)| traits)) {
            match origin {
                Origin::Message(steps) => draft.add(steps),
                Origin::Header(name) if layout.headers.iter().any(|(known, _)| known == name) => {}
                Origin::Header(name) => layout.headers.push((name.clone(), 0)),
            }
        }
        layout.flatten(&draft);
        layout.slots = layout.nodes.len();
        let behind = layout.stars.iter_mut().map(|star| &mut star.slot);
        for slot in behind.chain(layout.headers.iter_mut().map(|(_, slot)| slot)) {
            *slot = layout.slots as Slot;
            layout.slots += 1;
        }
        let at: Vec<_> = own.iter().map(|origin| origin.as_ref().map(|origin| layout.slot_of(origin))).collect();
        (layout.kind, layout.key, layout.id) = (at[0], at[2], at[3]);
        let all = at.iter().copied().collect::<Option<Vec<_>>>();
        (layout.name, layout.time) = match (format, all.as_deref()) {
            (Format::Json(json), _) => {
                let path = json.time.as_ref().map(ToString::to_string);
                (NameRule::One(at[1]), TimeRule::One(at[4].zip(path)))
            }
            (_, Some(&[_, usual, _, _, other, derived, exact, collected, sent, created])) => {
                layout.snowplow = Snowplow::new(&layout);
                let name = NameRule::ByKind { usual, other, kinds: &["struct"] };
                (name, TimeRule::Snowplow { derived, exact, collected, sent, created })
            }
            (_, Some(&[_, usual, _, _, other, timestamp, received, sent, original])) => {
                let name = NameRule::ByKind { usual, other, kinds: &["page", "screen"] };
                (name, TimeRule::Segment { timestamp, received, sent, original })
            }
            _ => unreachable!("`SEGMENT` and `SNOWPLOW` are so long"),
        };
        layout.paths = resolved
            .iter()
            .map(|(origin, traits)| Place {
                own: layout.end_of(origin),
                traits: traits.iter().map(|origin| layout.end_of(origin)).collect(),
            })
            .collect();
        layout
    }

    /// The slot of what was added.
    fn slot_of(&self, origin: &Origin) -> Slot {
        match origin {
            Origin::Message(steps) => self.slot_of_path(steps),
            Origin::Header(name) => {
                let header = self.headers.iter().find(|(known, _)| known == name);
                header.expect("the header was added").1
            }
        }
    }

    fn end_of(&self, origin: &Origin) -> End {
        let slot = self.slot_of(origin);
        let star = (slot as usize).checked_sub(self.nodes.len()).and_then(|behind| self.stars.get(behind));
        End { slot, node: star.map_or(slot, |star| star.node) }
    }

    /// The node that a node is in, and its name there if it has one. None: it is the message itself.
    pub(super) fn parent(&self, slot: Slot) -> Option<(Slot, Option<&str>)> {
        self.nodes.iter().enumerate().find_map(|(parent, node)| {
            let member = node.members.iter().find(|member| member.node == slot).map(|member| Some(&*member.name));
            let element = node.elements.iter().find(|(_, element)| *element == slot).map(|_| None);
            Some((parent as Slot, member.or(element)?))
        })
    }

    /// The node of a member of the message itself.
    pub(super) fn root_member(&self, name: &str) -> Option<Slot> {
        self.nodes[0].member(name.as_bytes(), 0, name.len())
    }

    fn flatten(&mut self, draft: &Draft) -> Slot {
        let slot = self.nodes.len();
        self.nodes.push(Node {
            needed: draft.needed,
            star: !draft.stars.is_empty(),
            end: 0,
            members: Vec::new(),
            starts: [0; LONG + 2],
            elements: Vec::new(),
        });
        for rest in &draft.stars {
            self.stars.push(Star { node: slot as Slot, rest: rest.clone(), slot: 0 });
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

    fn slot_of_path(&self, path: &[Step]) -> Slot {
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

/// Where messages of a format of the Segment family have the traits of `identify` and `group`, the first first.
fn traits_of(format: &Format) -> &'static [&'static [&'static str]] {
    match format {
        // Its SDKs for Python and for mobiles write no `traits` into `identify`.
        Format::Rudderstack => &[&["traits"], &["context", "traits"]],
        _ => &[&["traits"]],
    }
}

/// What Snowplow defines, likewise.
const SNOWPLOW: [&str; 10] = [
    "event",
    "event_name",
    "user_id",
    "event_id",
    "se_action",
    "derived_tstamp",
    "true_tstamp",
    "collector_tstamp",
    "dvce_sent_tstamp",
    "dvce_created_tstamp",
];

/// The tree while paths are added.
#[derive(Default)]
struct Draft {
    needed: bool,
    members: BTreeMap<String, Draft>,
    elements: BTreeMap<usize, Draft>,
    stars: Vec<Vec<Step>>,
}

impl Draft {
    fn add(&mut self, path: &[Step]) {
        match path.split_first() {
            None => self.needed = true,
            Some((Step::Key(name), rest)) => self.members.entry(name.clone()).or_default().add(rest),
            Some((Step::Index(index), rest)) => self.elements.entry(*index).or_default().add(rest),
            Some((Step::All, _)) if self.stars.iter().any(|rest| rest == path) => {}
            Some((Step::All, _)) => self.stars.push(path.to_vec()),
        }
    }
}
