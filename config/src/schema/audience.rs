//! The keys of audiences.

use super::condition::condition;
use super::{
    BOOLEAN, Choice, DESCRIPTION, Fields, Key, List, Record, Reference, Section, TEXT, choice, optional, reference,
    required, set,
};
use crate::Incomplete;

pub(crate) static NAME: Key<String> = optional("name", TEXT, "Its name, for people. Default: its id.");
pub(crate) static MODEL: Key<Reference> = required("model", reference(Section::Model), "The parent model's id.");
pub(crate) static INCOMPLETE: Key<Incomplete> = optional(
    "incomplete",
    choice(),
    "Whether keys whose membership could come from events that a window does not have yet are held back, or sent at once.",
)
.default(Incomplete::Hold);
pub(crate) static WHERE: Key<Fields> = required("where", condition(), "The condition of membership.");

pub(crate) static OWNER: Key<String> = optional("owner", TEXT, "Who is responsible for it, for people.");
pub(crate) static TAGS: Key<List<String>> = optional("tags", set(&TEXT), "Words to find it by, for people.");
pub(crate) static ENABLED: Key<bool> =
    optional("enabled", BOOLEAN, "Whether the job has it: `false` is as if it were removed from the file.")
        .default(true);

/// An audience.
pub(crate) static RECORD: Record = Record {
    what: "audience",
    keys: &[&NAME, &DESCRIPTION, &OWNER, &TAGS, &ENABLED, &MODEL, &INCOMPLETE, &WHERE],
    rules: &[],
};

impl Choice for Incomplete {
    const WHAT: &'static str = "`incomplete`";
    const ALL: &'static [Incomplete] = &[Incomplete::Hold, Incomplete::Send];

    fn word(self) -> &'static str {
        match self {
            Incomplete::Hold => "hold",
            Incomplete::Send => "send",
        }
    }
}
