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
    /// A whole number from `least` to `most`.
    Whole {
        /// The least.
        least: u32,
        /// The greatest.
        most: u32,
    },
    /// A string that is not shown, and keeps its `${VAR}`.
    Secret,
    /// A string, number or boolean, as text; whether it is a secret is told by its name.
    Setting,
    /// A template. Its text is read elsewhere.
    Template,
    /// The name of a topic of Kafka.
    Topic,
    /// `host:port`.
    Address,
    /// `earliest`, `latest`, or a time in ms since the epoch.
    Start,
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
    /// A list that is not empty and has nothing twice, or one element of it.
    OneOrMore(&'static Shape),
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
    lacking("column", "live", "`live` columns are"),
    lacking("performed", "sum", "`sum` in `performed` is"),
    lacking("performed", "avg", "`avg` in `performed` is"),
    lacking("performed", "min", "`min` in `performed` is"),
    lacking("performed", "max", "`max` in `performed` is"),
    lacking("performed", "distinct", "`distinct` in `performed` is"),
    lacking("condition", "sequence", "`sequence` conditions are"),
    lacking("destination", "webhook", "`webhook` syncs are"),
];

/// The whole file.
pub(crate) static JOB: Record = Record {
    what: "job",
    keys: &[
        required("job", &Shape::Id, "The job's name: an id."),
        optional("sources", &SOURCES, "Streams of messages, by id."),
        optional("models", &MODELS, "Tables of the warehouse, by id."),
        optional("events", &EVENTS, "Named, typed views on the messages of a source, by id."),
        optional("audiences", &AUDIENCES, "Trees of conditions over one model, by id."),
        optional("syncs", &SYNCS, "Where changes of audiences are sent, by id."),
        optional(
            "dead_letters",
            &DEAD_LETTERS,
            "Where messages go that can't be read. Default: counted and sampled in the log.",
        ),
        optional("state", &STATE, "Where durable state is kept. Default: `./usher-state/<job>`."),
        optional("api", &API, "The HTTP API. Default: there is none."),
        optional("cluster", &CLUSTER, "How the processes of a cluster wait for each other."),
        optional("limits", &LIMITS, "Bounds."),
    ],
    rules: &[],
};

static SOURCES: Shape = Shape::Entries { of: &Shape::Record(&SOURCE), ids: true };
static SOURCE: Record = Record {
    what: "source",
    keys: &[
        optional("file", &Shape::Record(&FILE_SOURCE), "Files of lines; each file is a partition."),
        optional("kafka", &Shape::Record(&KAFKA_SOURCE), "Topics of Kafka; each of their partitions is one."),
        required("format", &FORMAT, "The messages' wire format."),
        optional(
            "start",
            &Shape::Start,
            "Where a first start reads Kafka from: `earliest`, `latest`, or a time, RFC 3339 or ms since the epoch. Default: what fills the longest window.",
        ),
    ],
    rules: &[Rule::ExactlyOne(&["file", "kafka"]), Rule::Needs("start", "kafka")],
};
static KAFKA_SOURCE: Record = Record {
    what: "kafka source",
    keys: &[
        BROKERS,
        required("topic", &Shape::OneOrMore(&Shape::Topic), "The topic, or a list of topics."),
        PROPERTIES,
    ],
    rules: &[],
};
const BROKERS: Key = required("brokers", &Shape::Text, "`host:port`, comma separated.");
const TOPIC: Key = required("topic", &Shape::Topic, "The topic.");
const PROPERTIES: Key = optional(
    "properties",
    &Shape::Entries { of: &Shape::Setting, ids: false },
    "Handed to librdkafka as they are. Where the name contains password, secret, token or key, the value is never shown.",
);
static FILE_SOURCE: Record = Record {
    what: "file source",
    keys: &[
        required("path", &Shape::Text, "A file, folder or glob, relative to the job file's folder; .gz and .zst too."),
        optional("follow", &Shape::Boolean, "Go on reading what is appended.").default("false"),
    ],
    rules: &[],
};

static FORMAT: Shape =
    Shape::Short { scalar: &Shape::Choice { what: "message format", words: FORMATS }, long: &JSON_FORMAT };
const FORMATS: &[&str] = &["segment", "rudderstack", "hightouch", "snowplow_tsv", "snowplow_json", "json"];
static JSON_FORMAT: Record = Record {
    what: "message format",
    keys: &[optional("json", &Shape::Record(&JSON_PATHS), "Any JSON: where its parts are.")],
    rules: &[Rule::ExactlyOne(&["json"])],
};
static JSON_PATHS: Record = Record {
    what: "json format",
    keys: &[
        optional("type", &Shape::Path, "The path of the message's type."),
        optional("name", &Shape::Path, "The path of the event's name."),
        optional("key", &Shape::Path, "The path of the key of the parent model."),
        optional("time", &Shape::Path, "The path of the event's time."),
        optional("id", &Shape::Path, "The path of the message id."),
        optional("properties", &Shape::Path, "The path of the properties. Default: the message itself."),
    ],
    rules: &[],
};

static MODELS: Shape = Shape::Entries { of: &Shape::Record(&MODEL), ids: true };
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
        optional("refresh", &Shape::Refresh, "How often it is pulled: a duration of at least 1s, or `manual`.")
            .default("24h"),
        optional(
            "columns",
            &Shape::Entries { of: &COLUMN, ids: false },
            "Types of columns. What is not declared has the file's type.",
        ),
        optional("belongs_to", &Shape::Record(&BELONGS_TO), "The model whose rows its rows belong to."),
        optional(
            "members",
            &Shape::Choice { what: "`members`", words: &["known", "any"] },
            "Who can be a member: keys of the snapshot only (default), or any key of which something is known (default without `parquet`).",
        ),
    ],
    rules: &[Rule::Needs("parquet", "key"), Rule::Needs("refresh", "parquet"), Rule::Needs("belongs_to", "parquet")],
};
static COLUMN_TYPE: Shape = Shape::Choice { what: "type", words: COLUMN_TYPES };
/// The types, in the order of [`crate::ColumnType`].
pub(crate) const COLUMN_TYPES: &[&str] =
    &["string", "integer", "number", "boolean", "timestamp", "date", "list<string>", "list<integer>", "list<number>"];
static COLUMN: Shape = Shape::Short {
    scalar: &COLUMN_TYPE,
    long: &Record { what: "column", keys: &[required("type", &COLUMN_TYPE, "The column's type.")], rules: &[] },
};
static BELONGS_TO: Record = Record {
    what: "`belongs_to`",
    keys: &[
        required("model", &Shape::Reference(Kind::Model), "The parent model's id."),
        required("foreign_key", &Shape::Text, "The column that holds the parent's key."),
    ],
    rules: &[],
};

static EVENTS: Shape = Shape::Entries { of: &Shape::Record(&EVENT), ids: true };
static EVENT: Record = Record {
    what: "event",
    keys: &[
        optional("label", &Shape::Text, "Its name, for people."),
        optional("description", &Shape::Text, "What it is, for people."),
        required("source", &Shape::Reference(Kind::Source), "The source's id."),
        optional("type", &Shape::Text, "The messages' type. Default: any."),
        optional("name", &Shape::Text, "The messages' name. Default: any."),
        required("model", &Shape::Reference(Kind::Model), "The parent model's id."),
        optional("foreign_key", &Shape::Path, "The path of the parent model's key. Default: the format's user id."),
        optional("timestamp", &Shape::Path, "The path of the time. Default: the format's event time."),
        optional("properties", &Shape::Entries { of: &PROPERTY, ids: false }, "Columns, by name."),
    ],
    rules: &[],
};
static PROPERTY: Shape = Shape::Short {
    scalar: &COLUMN_TYPE,
    long: &Record {
        what: "property",
        keys: &[
            optional("path", &Shape::Path, "Where in the message it is. Default: `properties.` and its name."),
            required("type", &COLUMN_TYPE, "Its type."),
        ],
        rules: &[],
    },
};

static AUDIENCES: Shape = Shape::Entries { of: &Shape::Record(&AUDIENCE), ids: true };
static AUDIENCE: Record = Record {
    what: "audience",
    keys: &[
        optional("name", &Shape::Text, "Its name, for people. Default: its id."),
        optional("description", &Shape::Text, "What it is, for people."),
        required("model", &Shape::Reference(Kind::Model), "The parent model's id."),
        required("where", &CONDITION, "Who belongs."),
    ],
    rules: &[],
};

/// A condition, which holds conditions.
pub(crate) static CONDITION: Shape = Shape::OneOf {
    what: "condition",
    records: &[&ALL, &ANY, &NOT, &OTHER_AUDIENCE, &PROPERTY_CONDITION, &PERFORMED, &RELATED],
};
static CONDITIONS: Shape = Shape::List { of: &CONDITION, least: 0, most: usize::MAX, unique: false };
static ALL: Record =
    Record { what: "all", keys: &[required("all", &CONDITIONS, "All hold; of none: true.")], rules: &[] };
static ANY: Record =
    Record { what: "any", keys: &[required("any", &CONDITIONS, "At least one holds; of none: false.")], rules: &[] };
static NOT: Record = Record { what: "not", keys: &[required("not", &CONDITION, "It does not hold.")], rules: &[] };
static OTHER_AUDIENCE: Record = Record {
    what: "audience condition",
    keys: &[required("audience", &Shape::Reference(Kind::Audience), "The key is in that audience at the same time.")],
    rules: &[],
};
static PROPERTY_CONDITION: Record = Record {
    what: "property condition",
    keys: &[required("property", &Shape::Predicate, "A predicate on the key's row of the model. No row: false.")],
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
        required("within", &Shape::Duration { least: 1_000, most: 90 * 86_400_000 }, "The window, from 1s to 90d."),
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
        optional("sum", &Shape::Text, "Compare the sum of this column. Default: the number of rows."),
        optional("avg", &Shape::Text, "Compare the mean of this column."),
        optional("min", &Shape::Text, "Compare the least value of this column."),
        optional("max", &Shape::Text, "Compare the greatest value of this column."),
        optional("distinct", &Shape::Text, "Compare the number of distinct values of this column."),
        AT_LEAST,
        AT_MOST,
        MORE_THAN,
        LESS_THAN,
        EXACTLY,
        BETWEEN,
    ],
    rules: &[Rule::AtMostOne("aggregate", &["sum", "avg", "min", "max", "distinct"]), ONE_COMPARISON],
};
const AT_LEAST: Key = optional("at_least", &Shape::Number, "n or more. Without any comparison: 1 or more.");
const AT_MOST: Key = optional("at_most", &Shape::Number, "n or less.");
const MORE_THAN: Key = optional("more_than", &Shape::Number, "More than n.");
const LESS_THAN: Key = optional("less_than", &Shape::Number, "Less than n.");
const EXACTLY: Key = optional("exactly", &Shape::Number, "Exactly n.");
const BETWEEN: Key = optional(
    "between",
    &Shape::List { of: &Shape::Number, least: 2, most: 2, unique: false },
    "From the first to the second, both included.",
);
const ONE_COMPARISON: Rule =
    Rule::AtMostOne("comparison", &["at_least", "at_most", "more_than", "less_than", "exactly", "between"]);

static SYNCS: Shape = Shape::Entries { of: &Shape::Record(&SYNC), ids: true };
static SYNC: Record = Record {
    what: "sync",
    keys: &[
        optional("description", &Shape::Text, "What it is, for people."),
        optional(
            "audiences",
            &Shape::List { of: &Shape::Reference(Kind::Audience), least: 1, most: usize::MAX, unique: true },
            "The audiences whose changes are sent. Default: all.",
        ),
        optional(
            "send",
            &Shape::List {
                of: &Shape::Choice { what: "`send`", words: &["entry", "exit"] },
                least: 1,
                most: usize::MAX,
                unique: true,
            },
            "Which changes.",
        )
        .default("[entry, exit]"),
        optional(
            "format",
            &Shape::Choice { what: "sync format", words: &["usher", "cloudevents", "segment"] },
            "The messages' format.",
        )
        .default("usher"),
        optional(
            "include",
            &Shape::List { of: &Shape::Text, least: 1, most: usize::MAX, unique: true },
            "Columns of the member's row that messages carry. Default: none.",
        ),
        optional(
            "event_names",
            &Shape::Record(&EVENT_NAMES),
            "What messages call an entry and an exit. Default: as the format does.",
        ),
        optional(
            "fields",
            &Shape::Entries { of: &Shape::Template, ids: false },
            "Templates by the dotted path of the field that each fills.",
        ),
        optional("backfill", &Shape::Boolean, "A new sync is told of every member; else only of what changes.")
            .default("true"),
        optional(
            "on_remove",
            &Shape::Choice { what: "`on_remove`", words: &["exit", "forget"] },
            "What becomes of the members of an audience that the sync no longer has.",
        )
        .default("exit"),
        required("to", &Shape::Record(&DESTINATION), "Where to."),
        optional(
            "partitions",
            &Shape::Whole { least: 1, most: PARTITIONS_MAX },
            "Creates Kafka's topic with so many partitions where it is missing. Default: it must be there.",
        ),
        optional(
            "delivery",
            &Shape::Choice { what: "`delivery`", words: &["exactly_once", "at_least_once"] },
            "How often a change may come. Default: `exactly_once` with Kafka, else `at_least_once`.",
        ),
        optional(
            "commit_every",
            &Shape::Duration { least: 1, most: COMMIT_EVERY_MAX },
            "How often transactions of Kafka are committed. Default: 100ms.",
        ),
    ],
    rules: &[],
};
/// More partitions than any topic has; what is typed beyond is a slip.
const PARTITIONS_MAX: u32 = 100_000;
/// ms. Kafka rolls a transaction back that is open for a minute, unless told otherwise.
const COMMIT_EVERY_MAX: u64 = 30_000;
static EVENT_NAMES: Record = Record {
    what: "`event_names`",
    keys: &[
        optional("entry", &Shape::Text, "What messages call an entry."),
        optional("exit", &Shape::Text, "What messages call an exit."),
    ],
    rules: &[],
};
static DESTINATION: Record = Record {
    what: "destination",
    keys: &[
        optional("file", &Shape::Record(&FILE_TARGET), "Appends lines to a file."),
        optional("kafka", &Shape::Record(&KAFKA_TARGET), "Messages in a topic of Kafka."),
        optional("stdout", &Shape::Record(&STDOUT), "Prints lines: `stdout: {}`."),
    ],
    rules: &[Rule::ExactlyOne(&["file", "kafka", "stdout"])],
};
static KAFKA_TARGET: Record = Record { what: "kafka topic", keys: &[BROKERS, TOPIC, PROPERTIES], rules: &[] };
static STDOUT: Record = Record { what: "stdout", keys: &[], rules: &[] };
static FILE_TARGET: Record = Record {
    what: "file",
    keys: &[required("path", &Shape::Text, "The file, relative to the job file's folder.")],
    rules: &[],
};

static DEAD_LETTERS: Shape = Shape::Record(&Record {
    what: "dead letters",
    keys: &[
        optional("file", &Shape::Record(&FILE_TARGET), "Appends lines to a file."),
        optional("kafka", &Shape::Record(&KAFKA_TARGET), "Messages in a topic of Kafka."),
    ],
    rules: &[Rule::ExactlyOne(&["file", "kafka"])],
});

static STATE: Shape = Shape::Record(&Record {
    what: "state",
    keys: &[
        required("url", &Shape::Text, "`file://`, `s3://`, …; or a folder, relative to the job file's."),
        optional(
            "checkpoint_every",
            &Shape::Duration { least: 100, most: u64::MAX },
            "How often state is written, at least 100ms.",
        )
        .default("60s"),
    ],
    rules: &[],
});

static API: Shape = Shape::Record(&Record {
    what: "api",
    keys: &[
        required("listen", &Shape::Address, "`host:port`. Without `keys` it must be of this machine alone."),
        optional(
            "keys",
            &Shape::List { of: &Shape::Record(&API_KEY), least: 1, most: usize::MAX, unique: false },
            "Who may ask. Default: anybody on this machine.",
        ),
        optional(
            "rate_limit",
            &Shape::Whole { least: 1, most: u32::MAX },
            "Requests per second and key. Default: any number.",
        ),
    ],
    rules: &[],
});
static API_KEY: Record = Record {
    what: "api key",
    keys: &[
        required("token", &Shape::Secret, "What the bearer sends. It is never shown."),
        optional(
            "can",
            &Shape::List {
                of: &Shape::Choice { what: "`can`", words: &["read", "admin"] },
                least: 1,
                most: usize::MAX,
                unique: true,
            },
            "What the bearer may do.",
        )
        .default("[read]"),
    ],
    rules: &[],
};

static CLUSTER: Shape = Shape::Record(&Record {
    what: "cluster",
    keys: &[
        optional(
            "connect_timeout",
            &Shape::Duration { least: 100, most: u64::MAX },
            "How long a process waits to meet all others, at least 100ms.",
        )
        .default("15s"),
        optional(
            "peer_timeout",
            &Shape::Duration { least: 100, most: u64::MAX },
            "How long a process may not be heard of, at least 100ms.",
        )
        .default("30s"),
    ],
    rules: &[],
});

static LIMITS: Shape = Shape::Record(&Record {
    what: "limits",
    keys: &[
        optional(
            "future_skew",
            &Shape::Duration { least: 0, most: u64::MAX },
            "How far ahead of the clock an event may be.",
        )
        .default("5m"),
        optional("message_bytes", &Shape::Size, "The longest message.").default("1MiB"),
    ],
    rules: &[],
});

const fn required(name: &'static str, shape: &'static Shape, doc: &'static str) -> Key {
    Key { name, shape, required: true, default: None, doc }
}

const fn optional(name: &'static str, shape: &'static Shape, doc: &'static str) -> Key {
    Key { name, shape, required: false, default: None, doc }
}

const fn lacking(inside: &'static str, name: &'static str, called: &'static str) -> Unavailable {
    Unavailable { inside, name, called }
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

/// Whether a setting of that name is a secret.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["password", "secret", "token", "key"].iter().any(|word| name.contains(word))
}

/// Whether what stands at a path of the file is not quoted, whatever is wrong with it: it may be a secret.
pub(crate) fn is_discreet(path: &str) -> bool {
    path.starts_with("api.keys") || path.contains("kafka.properties")
}

/// The features this version lacks inside of a record or choice.
pub(crate) fn unavailable(inside: &str) -> impl Iterator<Item = &'static Unavailable> {
    UNAVAILABLE.iter().filter(move |unavailable| unavailable.inside == inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All records and the names of all choices, each once.
    fn walk(
        shape: &'static Shape,
        records: &mut Vec<&'static Record>,
        choices: &mut Vec<(&'static str, &'static [&'static str])>,
    ) {
        match shape {
            Shape::Choice { what, words } => choices.push((what, words)),
            Shape::List { of, .. } | Shape::Entries { of, .. } | Shape::OneOrMore(of) => walk(of, records, choices),
            Shape::Record(record) => walk_record(record, records, choices),
            Shape::OneOf { what, records: kinds } => {
                choices.push((what, &[]));
                kinds.iter().for_each(|kind| walk_record(kind, records, choices));
            }
            Shape::Short { scalar, long } => {
                walk(scalar, records, choices);
                walk_record(long, records, choices);
            }
            _ => {}
        }
    }

    fn walk_record(
        record: &'static Record,
        records: &mut Vec<&'static Record>,
        choices: &mut Vec<(&'static str, &'static [&'static str])>,
    ) {
        if !records.iter().any(|seen| std::ptr::eq(*seen, record)) {
            records.push(record);
            record.keys.iter().for_each(|key| walk(key.shape, records, choices));
        }
    }

    #[test]
    fn what_is_unavailable_belongs_somewhere_and_is_not_there() {
        let (mut records, mut choices) = (Vec::new(), Vec::new());
        walk_record(&JOB, &mut records, &mut choices);
        for Unavailable { inside, name, .. } in UNAVAILABLE {
            let homes: Vec<_> = records.iter().filter(|record| record.what == *inside).collect();
            let words: Vec<_> = choices.iter().filter(|(what, _)| what == inside).collect();
            assert!(homes.len() + words.len() > 0, "there is no `{inside}` for `{name}`");
            assert!(homes.iter().all(|record| record.key(name).is_none()), "`{name}` is there");
            assert!(words.iter().all(|(_, words)| !words.contains(name)), "`{name}` is there");
        }
    }

    #[test]
    fn every_rule_is_about_keys_that_are_there_and_every_key_is_explained() {
        let (mut records, mut choices) = (Vec::new(), Vec::new());
        walk_record(&JOB, &mut records, &mut choices);
        assert!(records.len() > 20);
        for record in records {
            for rule in record.rules {
                let keys = match rule {
                    Rule::ExactlyOne(keys) | Rule::AtMostOne(_, keys) => keys.to_vec(),
                    Rule::Needs(key, other) => vec![*key, *other],
                };
                assert!(keys.iter().all(|key| record.key(key).is_some()), "{}: {keys:?}", record.what);
            }
            assert!(record.keys.iter().all(|key| key.doc.ends_with(['.', '`'])), "{}", record.what);
        }
    }
}
