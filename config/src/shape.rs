//! The shape of a job file: the one list of its keys.
//!
//! Reading, "did you mean" and the JSON Schema all follow [`JOB`] and the tables below it; nothing else names the keys
//! there are. [`UNAVAILABLE`] lists what the language has and this version has not: those keys are refused by name. When
//! a feature arrives, its line leaves that list and its key joins a table here.

/// What a value may be.
pub(crate) enum Shape {
    /// A string that is not empty.
    Text,
    /// A string that is an id: of the job itself.
    Id,
    /// The id of something in the file; that it exists is checked where it is read.
    Reference(Kind),
    /// A predicate. Its text is read elsewhere.
    Predicate,
    /// A path into a message.
    Path,
    /// A duration in ms, from `least` to `most`.
    Duration {
        /// ms.
        least: u64,
        /// ms.
        most: u64,
    },
    /// A duration of at least a second, or `manual`.
    Refresh,
    /// A number of bytes, at least 1.
    Size,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// One of some words.
    Choice {
        /// What is chosen, as messages and [`UNAVAILABLE`] call it.
        what: &'static str,
        /// The words.
        words: &'static [&'static str],
    },
    /// A list.
    List {
        /// Of what.
        of: &'static Shape,
        /// The fewest elements.
        least: usize,
        /// The most elements.
        most: usize,
        /// No element twice.
        unique: bool,
    },
    /// A mapping with these keys.
    Record(&'static Record),
    /// A mapping that is one of several, told apart by their first keys.
    OneOf {
        /// What it is, as messages and [`UNAVAILABLE`] call it.
        what: &'static str,
        /// The kinds.
        records: &'static [&'static Record],
    },
    /// A mapping whose keys the author chooses.
    Entries {
        /// What a value is.
        of: &'static Shape,
        /// The keys are ids; else any text.
        ids: bool,
    },
    /// A scalar, or a mapping that says more.
    Short {
        /// The scalar.
        scalar: &'static Shape,
        /// The mapping.
        long: &'static Record,
    },
}

/// The things of a file that are named by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Source,
    Model,
    Event,
    Audience,
}

/// A mapping with fixed keys.
pub(crate) struct Record {
    /// What it is, as messages and [`UNAVAILABLE`] call it.
    pub what: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
    /// What must hold between its keys.
    pub rules: &'static [Rule],
}

/// A key of a record.
pub(crate) struct Key {
    /// As written.
    pub name: &'static str,
    /// Its value.
    pub shape: &'static Shape,
    /// It can't be left out.
    pub required: bool,
    /// The value where it is left out, as YAML.
    pub default: Option<&'static str>,
    /// What it is, for the schema.
    pub doc: &'static str,
}

/// What must hold between keys.
pub(crate) enum Rule {
    /// Exactly one of them is there.
    ExactlyOne(&'static [&'static str]),
    /// At most one of them is there; they are called so.
    AtMostOne(&'static str, &'static [&'static str]),
    /// Where the first is, the second is too.
    Needs(&'static str, &'static str),
}

/// A feature of the language that this version lacks.
pub(crate) struct Unavailable {
    /// The record or choice it belongs to.
    pub inside: &'static str,
    /// The key or word.
    pub name: &'static str,
    /// What the message calls it.
    pub called: &'static str,
}

/// All that is refused by name.
pub(crate) const UNAVAILABLE: &[Unavailable] = &[
    lacking("job", "api", "`api` is"),
    lacking("job", "state", "`state` is"),
    lacking("job", "cluster", "`cluster` is"),
    lacking("source", "kafka", "`kafka` sources are"),
    lacking("source", "start", "`start` of sources is"),
    lacking(
        "message format",
        "snowplow_tsv",
        "the format `snowplow_tsv` is",
    ),
    lacking(
        "message format",
        "snowplow_json",
        "the format `snowplow_json` is",
    ),
    lacking("column", "live", "`live` columns are"),
    lacking("performed", "sum", "`sum` in `performed` is"),
    lacking("performed", "avg", "`avg` in `performed` is"),
    lacking("performed", "min", "`min` in `performed` is"),
    lacking("performed", "max", "`max` in `performed` is"),
    lacking("performed", "distinct", "`distinct` in `performed` is"),
    lacking("condition", "sequence", "`sequence` conditions are"),
    lacking("destination", "kafka", "`kafka` syncs are"),
    lacking("destination", "webhook", "`webhook` syncs are"),
    lacking("sync format", "cloudevents", "the format `cloudevents` is"),
    lacking("sync format", "segment", "the format `segment` of syncs is"),
    lacking("sync", "include", "`include` of syncs is"),
    lacking("sync", "event_names", "`event_names` of syncs is"),
    lacking("sync", "fields", "`fields` of syncs is"),
    lacking("sync", "backfill", "`backfill` of syncs is"),
    lacking("sync", "on_remove", "`on_remove` of syncs is"),
    lacking("sync", "partitions", "`partitions` of syncs is"),
    lacking("sync", "delivery", "`delivery` of syncs is"),
    lacking("sync", "commit_every", "`commit_every` of syncs is"),
    lacking("dead letters", "kafka", "`kafka` dead letters are"),
];

/// The whole file.
pub(crate) static JOB: Record = Record {
    what: "job",
    keys: &[
        required("job", &Shape::Id, "The job's name: an id."),
        optional("sources", &SOURCES, "Streams of messages, by id."),
        optional("models", &MODELS, "Tables of the warehouse, by id."),
        optional(
            "events",
            &EVENTS,
            "Named, typed views on the messages of a source, by id.",
        ),
        optional(
            "audiences",
            &AUDIENCES,
            "Trees of conditions over one model, by id.",
        ),
        optional(
            "syncs",
            &SYNCS,
            "Where changes of audiences are sent, by id.",
        ),
        optional(
            "dead_letters",
            &DEAD_LETTERS,
            "Where messages go that can't be read. Default: counted and sampled in the log.",
        ),
        optional("limits", &LIMITS, "Bounds."),
    ],
    rules: &[],
};

static SOURCES: Shape = Shape::Entries {
    of: &Shape::Record(&SOURCE),
    ids: true,
};
static SOURCE: Record = Record {
    what: "source",
    keys: &[
        optional(
            "file",
            &Shape::Record(&FILE_SOURCE),
            "Files of lines; each file is a partition.",
        ),
        required("format", &FORMAT, "The messages' wire format."),
    ],
    rules: &[Rule::ExactlyOne(&["file"])],
};
static FILE_SOURCE: Record = Record {
    what: "file source",
    keys: &[
        required(
            "path",
            &Shape::Text,
            "A file, folder or glob, relative to the job file's folder; .gz and .zst too.",
        ),
        optional("follow", &Shape::Boolean, "Go on reading what is appended.").default("false"),
    ],
    rules: &[],
};

static FORMAT: Shape = Shape::Short {
    scalar: &Shape::Choice {
        what: "message format",
        words: &["segment", "rudderstack", "hightouch", "json"],
    },
    long: &JSON_FORMAT,
};
static JSON_FORMAT: Record = Record {
    what: "message format",
    keys: &[optional(
        "json",
        &Shape::Record(&JSON_PATHS),
        "Any JSON: where its parts are.",
    )],
    rules: &[Rule::ExactlyOne(&["json"])],
};
static JSON_PATHS: Record = Record {
    what: "json format",
    keys: &[
        optional("type", &Shape::Path, "The path of the message's type."),
        optional("name", &Shape::Path, "The path of the event's name."),
        optional(
            "key",
            &Shape::Path,
            "The path of the key of the parent model.",
        ),
        optional("time", &Shape::Path, "The path of the event's time."),
        optional("id", &Shape::Path, "The path of the message id."),
        optional(
            "properties",
            &Shape::Path,
            "The path of the properties. Default: the message itself.",
        ),
    ],
    rules: &[],
};

static MODELS: Shape = Shape::Entries {
    of: &Shape::Record(&MODEL),
    ids: true,
};
static MODEL: Record = Record {
    what: "model",
    keys: &[
        optional("description", &Shape::Text, "What it is, for people."),
        optional(
            "parquet",
            &Shape::Text,
            "Path, folder, glob or url (s3, gs, az, http, https) of its Parquet files. Without: keys are known from events only.",
        ),
        optional("key", &Shape::Text, "The column of the key."),
        optional(
            "refresh",
            &Shape::Refresh,
            "How often it is pulled: a duration of at least 1s, or `manual`.",
        )
        .default("24h"),
        optional(
            "columns",
            &Shape::Entries {
                of: &COLUMN,
                ids: false,
            },
            "Types of columns. What is not declared has the file's type.",
        ),
        optional(
            "belongs_to",
            &Shape::Record(&BELONGS_TO),
            "The model whose rows its rows belong to.",
        ),
        optional(
            "members",
            &Shape::Choice {
                what: "`members`",
                words: &["known", "any"],
            },
            "Who can be a member: keys of the snapshot only (default), or any key of which something is known (default without `parquet`).",
        ),
    ],
    rules: &[
        Rule::Needs("parquet", "key"),
        Rule::Needs("refresh", "parquet"),
        Rule::Needs("belongs_to", "parquet"),
    ],
};
static COLUMN_TYPE: Shape = Shape::Choice {
    what: "type",
    words: COLUMN_TYPES,
};
/// The types, in the order of [`crate::ColumnType`].
pub(crate) const COLUMN_TYPES: &[&str] = &[
    "string",
    "integer",
    "number",
    "boolean",
    "timestamp",
    "date",
    "list<string>",
    "list<integer>",
    "list<number>",
];
static COLUMN: Shape = Shape::Short {
    scalar: &COLUMN_TYPE,
    long: &Record {
        what: "column",
        keys: &[required("type", &COLUMN_TYPE, "The column's type.")],
        rules: &[],
    },
};
static BELONGS_TO: Record = Record {
    what: "`belongs_to`",
    keys: &[
        required(
            "model",
            &Shape::Reference(Kind::Model),
            "The parent model's id.",
        ),
        required(
            "foreign_key",
            &Shape::Text,
            "The column that holds the parent's key.",
        ),
    ],
    rules: &[],
};

static EVENTS: Shape = Shape::Entries {
    of: &Shape::Record(&EVENT),
    ids: true,
};
static EVENT: Record = Record {
    what: "event",
    keys: &[
        optional("label", &Shape::Text, "Its name, for people."),
        optional("description", &Shape::Text, "What it is, for people."),
        required(
            "source",
            &Shape::Reference(Kind::Source),
            "The source's id.",
        ),
        optional("type", &Shape::Text, "The messages' type. Default: any."),
        optional("name", &Shape::Text, "The messages' name. Default: any."),
        required(
            "model",
            &Shape::Reference(Kind::Model),
            "The parent model's id.",
        ),
        optional(
            "foreign_key",
            &Shape::Path,
            "The path of the parent model's key. Default: the format's user id.",
        ),
        optional(
            "timestamp",
            &Shape::Path,
            "The path of the time. Default: the format's event time.",
        ),
        optional(
            "properties",
            &Shape::Entries {
                of: &PROPERTY,
                ids: false,
            },
            "Columns, by name.",
        ),
    ],
    rules: &[],
};
static PROPERTY: Shape = Shape::Short {
    scalar: &COLUMN_TYPE,
    long: &Record {
        what: "property",
        keys: &[
            optional(
                "path",
                &Shape::Path,
                "Where in the message it is. Default: `properties.` and its name.",
            ),
            required("type", &COLUMN_TYPE, "Its type."),
        ],
        rules: &[],
    },
};

static AUDIENCES: Shape = Shape::Entries {
    of: &Shape::Record(&AUDIENCE),
    ids: true,
};
static AUDIENCE: Record = Record {
    what: "audience",
    keys: &[
        optional(
            "name",
            &Shape::Text,
            "Its name, for people. Default: its id.",
        ),
        optional("description", &Shape::Text, "What it is, for people."),
        required(
            "model",
            &Shape::Reference(Kind::Model),
            "The parent model's id.",
        ),
        required("where", &CONDITION, "Who belongs."),
    ],
    rules: &[],
};

/// A condition, which holds conditions.
pub(crate) static CONDITION: Shape = Shape::OneOf {
    what: "condition",
    records: &[
        &ALL,
        &ANY,
        &NOT,
        &OTHER_AUDIENCE,
        &PROPERTY_CONDITION,
        &PERFORMED,
        &RELATED,
    ],
};
static CONDITIONS: Shape = Shape::List {
    of: &CONDITION,
    least: 0,
    most: usize::MAX,
    unique: false,
};
static ALL: Record = Record {
    what: "all",
    keys: &[required("all", &CONDITIONS, "All hold; of none: true.")],
    rules: &[],
};
static ANY: Record = Record {
    what: "any",
    keys: &[required(
        "any",
        &CONDITIONS,
        "At least one holds; of none: false.",
    )],
    rules: &[],
};
static NOT: Record = Record {
    what: "not",
    keys: &[required("not", &CONDITION, "It does not hold.")],
    rules: &[],
};
static OTHER_AUDIENCE: Record = Record {
    what: "audience condition",
    keys: &[required(
        "audience",
        &Shape::Reference(Kind::Audience),
        "The key is in that audience at the same time.",
    )],
    rules: &[],
};
static PROPERTY_CONDITION: Record = Record {
    what: "property condition",
    keys: &[required(
        "property",
        &Shape::Predicate,
        "A predicate on the key's row of the model. No row: false.",
    )],
    rules: &[],
};
static PERFORMED: Record = Record {
    what: "performed",
    keys: &[
        required(
            "performed",
            &Shape::Reference(Kind::Event),
            "The event's id: how many of them lie in the window is compared.",
        ),
        optional("where", &Shape::Predicate, "Which of them. Default: all."),
        AT_LEAST,
        AT_MOST,
        MORE_THAN,
        LESS_THAN,
        EXACTLY,
        BETWEEN,
        required(
            "within",
            &Shape::Duration {
                least: 1_000,
                most: 90 * 86_400_000,
            },
            "The window, from 1s to 90d.",
        ),
    ],
    rules: &[ONE_COMPARISON],
};
static RELATED: Record = Record {
    what: "related",
    keys: &[
        required(
            "related",
            &Shape::Reference(Kind::Model),
            "The id of a model that belongs to the audience's: an aggregate over the key's rows is compared.",
        ),
        optional("where", &Shape::Predicate, "Which rows. Default: all."),
        optional(
            "sum",
            &Shape::Text,
            "Compare the sum of this column. Default: the number of rows.",
        ),
        optional("avg", &Shape::Text, "Compare the mean of this column."),
        optional(
            "min",
            &Shape::Text,
            "Compare the least value of this column.",
        ),
        optional(
            "max",
            &Shape::Text,
            "Compare the greatest value of this column.",
        ),
        optional(
            "distinct",
            &Shape::Text,
            "Compare the number of distinct values of this column.",
        ),
        AT_LEAST,
        AT_MOST,
        MORE_THAN,
        LESS_THAN,
        EXACTLY,
        BETWEEN,
    ],
    rules: &[
        Rule::AtMostOne("aggregate", &["sum", "avg", "min", "max", "distinct"]),
        ONE_COMPARISON,
    ],
};
const AT_LEAST: Key = optional(
    "at_least",
    &Shape::Number,
    "n or more. Without any comparison: 1 or more.",
);
const AT_MOST: Key = optional("at_most", &Shape::Number, "n or less.");
const MORE_THAN: Key = optional("more_than", &Shape::Number, "More than n.");
const LESS_THAN: Key = optional("less_than", &Shape::Number, "Less than n.");
const EXACTLY: Key = optional("exactly", &Shape::Number, "Exactly n.");
const BETWEEN: Key = optional(
    "between",
    &Shape::List {
        of: &Shape::Number,
        least: 2,
        most: 2,
        unique: false,
    },
    "From the first to the second, both included.",
);
const ONE_COMPARISON: Rule = Rule::AtMostOne(
    "comparison",
    &[
        "at_least",
        "at_most",
        "more_than",
        "less_than",
        "exactly",
        "between",
    ],
);

static SYNCS: Shape = Shape::Entries {
    of: &Shape::Record(&SYNC),
    ids: true,
};
static SYNC: Record = Record {
    what: "sync",
    keys: &[
        optional("description", &Shape::Text, "What it is, for people."),
        optional(
            "audiences",
            &Shape::List {
                of: &Shape::Reference(Kind::Audience),
                least: 1,
                most: usize::MAX,
                unique: true,
            },
            "The audiences whose changes are sent. Default: all.",
        ),
        optional(
            "send",
            &Shape::List {
                of: &Shape::Choice {
                    what: "`send`",
                    words: &["entry", "exit"],
                },
                least: 1,
                most: usize::MAX,
                unique: true,
            },
            "Which changes.",
        )
        .default("[entry, exit]"),
        optional(
            "format",
            &Shape::Choice {
                what: "sync format",
                words: &["usher"],
            },
            "The messages' format.",
        )
        .default("usher"),
        required("to", &Shape::Record(&DESTINATION), "Where to."),
    ],
    rules: &[],
};
static DESTINATION: Record = Record {
    what: "destination",
    keys: &[
        optional(
            "file",
            &Shape::Record(&FILE_TARGET),
            "Appends lines to a file.",
        ),
        optional(
            "stdout",
            &Shape::Record(&STDOUT),
            "Prints lines: `stdout: {}`.",
        ),
    ],
    rules: &[Rule::ExactlyOne(&["file", "stdout"])],
};
static STDOUT: Record = Record {
    what: "stdout",
    keys: &[],
    rules: &[],
};
static FILE_TARGET: Record = Record {
    what: "file",
    keys: &[required(
        "path",
        &Shape::Text,
        "The file, relative to the job file's folder.",
    )],
    rules: &[],
};

static DEAD_LETTERS: Shape = Shape::Record(&Record {
    what: "dead letters",
    keys: &[optional(
        "file",
        &Shape::Record(&FILE_TARGET),
        "Appends lines to a file.",
    )],
    rules: &[Rule::ExactlyOne(&["file"])],
});

static LIMITS: Shape = Shape::Record(&Record {
    what: "limits",
    keys: &[
        optional(
            "future_skew",
            &Shape::Duration {
                least: 0,
                most: u64::MAX,
            },
            "How far ahead of the clock an event may be.",
        )
        .default("5m"),
        optional("message_bytes", &Shape::Size, "The longest message.").default("1MiB"),
    ],
    rules: &[],
});

const fn required(name: &'static str, shape: &'static Shape, doc: &'static str) -> Key {
    Key {
        name,
        shape,
        required: true,
        default: None,
        doc,
    }
}

const fn optional(name: &'static str, shape: &'static Shape, doc: &'static str) -> Key {
    Key {
        name,
        shape,
        required: false,
        default: None,
        doc,
    }
}

const fn lacking(inside: &'static str, name: &'static str, called: &'static str) -> Unavailable {
    Unavailable {
        inside,
        name,
        called,
    }
}

impl Key {
    const fn default(mut self, yaml: &'static str) -> Key {
        self.default = Some(yaml);
        self
    }
}

impl Record {
    /// The key of that name.
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

impl Kind {
    /// One of them, in messages.
    pub fn noun(self) -> &'static str {
        match self {
            Kind::Source => "source",
            Kind::Model => "model",
            Kind::Event => "event",
            Kind::Audience => "audience",
        }
    }
}

/// The features this version lacks inside of a record or choice.
pub(crate) fn unavailable(inside: &str) -> impl Iterator<Item = &'static Unavailable> {
    UNAVAILABLE
        .iter()
        .filter(move |unavailable| unavailable.inside == inside)
}
