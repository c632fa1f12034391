//! The keys of models, and the types of columns.

use super::value::EveryDuration;
use super::{
    BOOLEAN, Choice, DESCRIPTION, Duration, Entries, Fields, Key, LOCATION, REFRESH, Record, Reference, Rule, SHARE,
    Section, Short, TEXT, Type, by_name, choice, optional, record, reference, required, short, whole,
};
use crate::{ColumnType, Location, Members, Refresh, Share};
use usher_core::time::Unit;

pub(crate) static PARQUET: Key<Location> = optional(
    "parquet",
    LOCATION,
    "Path, folder, glob or url (s3, gs, az, http, https) of its Parquet files. Without it and `delta`: keys come from \
     events only.",
);
pub(crate) static DELTA: Key<Short<Location>> = optional(
    "delta",
    short(&TABLE_URL, &DELTA_RECORD),
    "Path or url (s3, gs, az, http, https) of its Delta table, in place of `parquet`, or a mapping that also says \
     which version is read.",
);
pub(crate) static KEY: Key<String> = optional("key", TEXT, "The column of the key.");
pub(crate) static REFRESH_EVERY: Key<Refresh> =
    optional("refresh", REFRESH, "How often it is pulled: a duration of at least 1s, or `manual`.")
        .default(EveryDuration(Duration::hours(24)));
pub(crate) static MAX_EXITS: Key<Share> = optional(
    "max_exits",
    SHARE,
    "A pull by which more than this share of the members of an audience would leave is held (default: no limit). \
     Audiences with fewer than 20 members do not count.",
);
pub(crate) static MIN_ROWS: Key<u32> = optional(
    "min_rows",
    whole(0, u32::MAX),
    "A pull with fewer rows is held (default: 1 where the last pull had any).",
);
pub(crate) static FORCE_FILES: Key<bool> = optional(
    "force_files",
    BOOLEAN,
    "Whether all files in the folder of a Delta, Iceberg or Hudi table are read as plain files, whatever the table says.",
)
.default(false);
pub(crate) static COLUMNS: Key<Entries<Short<ColumnType>>> =
    optional("columns", by_name(&COLUMN), "Types of columns. What is not declared has the file's type.");
pub(crate) static BELONGS_TO: Key<Fields> =
    optional("belongs_to", record(&BELONGS_TO_RECORD), "The model whose rows its rows belong to.");
pub(crate) static MEMBERS: Key<Members> = optional(
    "members",
    choice(),
    "Who can be a member: keys of the snapshot only (default), or any key of a row or an event \
     (default without `parquet` and `delta`).",
);

/// A model.
pub(crate) static RECORD: Record = Record {
    what: "model",
    keys: &[
        &DESCRIPTION,
        &PARQUET,
        &DELTA,
        &KEY,
        &REFRESH_EVERY,
        &MAX_EXITS,
        &MIN_ROWS,
        &FORCE_FILES,
        &COLUMNS,
        &BELONGS_TO,
        &MEMBERS,
    ],
    rules: &[
        Rule::AtMostOne("location of rows", &[&PARQUET, &DELTA]),
        Rule::Needs(&PARQUET, &KEY),
        Rule::Needs(&DELTA, &KEY),
        Rule::NeedsOneOf(&REFRESH_EVERY, &[&PARQUET, &DELTA]),
        Rule::NeedsOneOf(&MAX_EXITS, &[&PARQUET, &DELTA]),
        Rule::NeedsOneOf(&MIN_ROWS, &[&PARQUET, &DELTA]),
        Rule::Needs(&FORCE_FILES, &PARQUET),
        Rule::NeedsOneOf(&BELONGS_TO, &[&PARQUET, &DELTA]),
    ],
};

static TABLE_URL: Type<Location> = LOCATION;

pub(crate) static URL: Key<Location> = required("url", LOCATION, "Path or url of the table's folder.");
pub(crate) static VERSION: Key<u32> =
    optional("version", whole(0, u32::MAX), "The version that is read. Without it and `timestamp`: the newest.");
pub(crate) static AT: Key<String> =
    optional("timestamp", TEXT, "A time: the newest version that was committed then or before is read.");

static DELTA_RECORD: Record =
    Record { what: "`delta`", keys: &[&URL, &VERSION, &AT], rules: &[Rule::AtMostOne("version", &[&VERSION, &AT])] };

static COLUMN: Type<Short<ColumnType>> = short(&COLUMN_TYPE, &COLUMN_RECORD);

/// The type of a column or of a property.
pub(crate) static COLUMN_TYPE: Type<ColumnType> = choice();

pub(crate) static TYPE: Key<ColumnType> = required("type", choice(), "The column's type.");

pub(crate) static LIVE: Key<Fields> = optional(
    "live",
    record(&LIVE_RECORD),
    "The value of a key is that of the last such event, where that is newer than the snapshot's.",
);

static COLUMN_RECORD: Record = Record { what: "column", keys: &[&TYPE, &LIVE], rules: &[] };

pub(crate) static LIVE_EVENT: Key<Reference> =
    required("event", reference(Section::Event), "The id of an event of this model.");
pub(crate) static LIVE_PROPERTY: Key<String> =
    required("property", TEXT, "The event's property with the value. It has the type of the column.");

static LIVE_RECORD: Record = Record { what: "`live`", keys: &[&LIVE_EVENT, &LIVE_PROPERTY], rules: &[] };

pub(crate) static PARENT: Key<Reference> = required("model", reference(Section::Model), "The parent model's id.");
pub(crate) static FOREIGN_KEY: Key<String> = required("foreign_key", TEXT, "The column that holds the parent's key.");

static BELONGS_TO_RECORD: Record = Record { what: "`belongs_to`", keys: &[&PARENT, &FOREIGN_KEY], rules: &[] };

impl Choice for Members {
    const WHAT: &'static str = "`members`";
    const ALL: &'static [Members] = &[Members::Known, Members::Any];

    fn word(self) -> &'static str {
        match self {
            Members::Known => "known",
            Members::Any => "any",
        }
    }
}

impl Choice for Unit {
    const WHAT: &'static str = "unit";
    const ALL: &'static [Unit] = &Unit::ALL;

    fn word(self) -> &'static str {
        self.name()
    }
}

impl Choice for ColumnType {
    const WHAT: &'static str = "type";
    const ALL: &'static [ColumnType] = &ColumnType::ALL;

    fn word(self) -> &'static str {
        self.name()
    }
}
