//! Typed items become the job: what one part says is held against the others.
//!
//! References lead somewhere, conditions fit the model they are about, nothing goes round in a circle. Each part is checked
//! whole even where it can't be built, so that all problems come at once; what an earlier step has reported is not reported
//! again. Predicates are not read here, nor is any file.

use crate::schema::{COLUMN_TYPES, Kind, Shape, is_secret};
use crate::suggest::{nearest, or_list};
use crate::typed::{Fields, Item, Named, Value};
use crate::{
    Aggregate, Api, ApiKey, Audience, BelongsTo, Cluster, ColumnType, Comparison, Condition, ConditionKind,
    DeadLettersTo, Decimal, Delivery, Event, FileTarget, Format, Job, JsonPaths, Kafka, KafkaTarget, Limits, Members,
    Model, OnRemove, Path, Place, Problem, Property, Refresh, Secret, Setting, Source, SourceFrom, Start, State, Step,
    Sync, SyncFormat, SyncTo, Text,
};
use std::collections::{BTreeMap, BTreeSet};

/// The keys of aggregates.
const AGGREGATES: [&str; 5] = ["sum", "avg", "min", "max", "distinct"];
/// The largest threshold of a count: what a key may have to remember is bounded by it.
const COUNT_MAX: i64 = 1_000_000_000;
/// ms between commits of transactions, where a sync does not say it: soon enough for people, rare enough for Kafka.
const COMMIT_EVERY: u64 = 100;

/// What could be built of a job.
pub(crate) struct Built {
    /// The job; where it is not `whole`, what could be read of it: its audiences have only such conditions, all together, as
    /// hold a predicate that can be read.
    pub(crate) job: Job,
    /// Nothing is missing.
    pub(crate) whole: bool,
}

/// Builds the job; what is missing of it is reported.
pub(crate) fn job(file: &Fields, folder: &std::path::Path, problems: &mut Vec<Problem>) -> Built {
    let mut reader = Reader {
        sources: index(file, "sources"),
        models: index(file, "models"),
        events: index(file, "events"),
        audiences: index(file, "audiences"),
        mentions: BTreeMap::new(),
        leaves: BTreeMap::new(),
        problems,
    };
    let mut whole = true;
    let sources = reader.all(file, "sources", Reader::source, &mut whole);
    let models = reader.all(file, "models", Reader::model, &mut whole);
    reader.model_circles();
    let events = reader.all(file, "events", Reader::event, &mut whole);
    let mut audiences = reader.all(file, "audiences", Reader::audience, &mut whole);
    reader.audience_circles();
    let syncs = reader.all(file, "syncs", Reader::sync, &mut whole);
    let name = file.text("job").map(str::to_owned);
    whole &= name.is_some();
    let dead_letters = file.record("dead_letters").and_then(dead_letters);
    let state = file.record("state").and_then(state);
    let api = file.get("api").and_then(|item| reader.api(item));
    let cluster = file.record("cluster").and_then(cluster).unwrap_or_default();
    reader.changes_come_back(&sources, &syncs, dead_letters.as_ref(), file);
    let limits = file.record("limits").and_then(limits).unwrap_or_default();
    if !whole {
        audiences = reader.salvage(&models, &events);
    }
    let name = name.unwrap_or_default();
    let job = Job {
        name,
        folder: folder.to_owned(),
        sources,
        models,
        events,
        audiences,
        syncs,
        dead_letters,
        state,
        api,
        cluster,
        limits,
    };
    Built { job, whole }
}

/// What one section declares, by id; none: it is wrong and reported.
type Index<'a> = BTreeMap<&'a str, Option<&'a Fields>>;

fn index<'a>(file: &'a Fields, key: &str) -> Index<'a> {
    file.entries(key).iter().map(|named| (named.name.as_str(), fields(named))).collect()
}

fn fields(named: &Named) -> Option<&Fields> {
    match &named.item.as_ref()?.value {
        Value::Record(fields) => Some(fields),
        other => panic!("an entry of a section is a record in the shape, not {other:?}"),
    }
}

struct Reader<'a> {
    sources: Index<'a>,
    models: Index<'a>,
    events: Index<'a>,
    audiences: Index<'a>,
    /// Which audience mentions which others, and where.
    mentions: Mentions<'a>,
    /// By audience: its model, and the conditions that hold a predicate, as far as they can be read.
    leaves: BTreeMap<&'a str, (&'a str, Vec<Condition>)>,
    problems: &'a mut Vec<Problem>,
}

/// Edges between ids, each with its place.
type Mentions<'a> = BTreeMap<&'a str, Vec<(&'a str, Place)>>;

/// What a condition is about.
#[derive(Clone, Copy)]
struct Scope<'a> {
    /// The audience's id.
    audience: &'a str,
    /// The parent model's id, if it exists.
    model: Option<&'a str>,
}

impl<'a> Reader<'a> {
    fn say(&mut self, place: &Place, message: impl Into<String>) {
        self.problems.push(Problem::new(place, message));
    }

    fn say_with_hint(&mut self, place: &Place, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(Problem::new(place, message).hint(hint));
    }

    /// Reads each entry of a section that can be built; `whole` is no longer so where one can't.
    fn all<T>(
        &mut self,
        file: &'a Fields,
        key: &str,
        read: impl Fn(&mut Self, &'a str, &'a Place, &'a Fields) -> Option<T>,
        whole: &mut bool,
    ) -> BTreeMap<String, T> {
        let mut things = BTreeMap::new();
        for named in file.entries(key) {
            match fields(named).and_then(|fields| read(self, &named.name, &named.place, fields)) {
                Some(thing) => drop(things.insert(named.name.clone(), thing)),
                None => *whole = false,
            }
        }
        things
    }

    /// Remembers a condition with a predicate, whatever else is wrong around it.
    fn leaf(&mut self, scope: Scope<'a>, place: &Place, kind: ConditionKind) {
        if let Some(model) = scope.model {
            let (_, leaves) = self.leaves.entry(scope.audience).or_insert((model, Vec::new()));
            leaves.push(Condition { place: place.clone(), kind });
        }
    }

    /// Audiences of nothing but the conditions whose predicates can be read against what could be built.
    fn salvage(self, models: &BTreeMap<String, Model>, events: &BTreeMap<String, Event>) -> BTreeMap<String, Audience> {
        let mut audiences = BTreeMap::new();
        for (id, (model, mut leaves)) in self.leaves {
            leaves.retain(|leaf| match &leaf.kind {
                ConditionKind::Property(_) => models.get(model).is_some_and(|model| model.parquet.is_some()),
                ConditionKind::Performed { event, .. } => events.get(event).is_some_and(|event| event.model == model),
                ConditionKind::Related { model: rows, .. } => {
                    models.get(rows).is_some_and(|rows| rows.parquet.is_some())
                }
                other => panic!("{other:?} holds no predicate"),
            });
            let kind = ConditionKind::All(leaves);
            let condition = Condition { place: Place::default(), kind };
            let (name, model) = (id.to_owned(), model.to_owned());
            let audience = Audience { place: Place::default(), name, description: None, model, condition };
            audiences.insert(id.to_owned(), audience);
        }
        audiences
    }

    /// The id under `key`, if there is something of that id; else that is reported.
    fn refer(&mut self, fields: &'a Fields, key: &str) -> Option<&'a str> {
        let item = fields.get(key)?;
        match fields.record.key(key).map(|key| key.shape) {
            Some(Shape::Reference(kind)) => self.refer_item(*kind, item),
            _ => panic!("`{key}` is no reference in the shape"),
        }
    }

    fn refer_item(&mut self, kind: Kind, item: &'a Item) -> Option<&'a str> {
        let index = match kind {
            Kind::Source => &self.sources,
            Kind::Model => &self.models,
            Kind::Event => &self.events,
            Kind::Audience => &self.audiences,
        };
        let Value::Text(id) = &item.value else { panic!("a reference is a text in the shape, not {:?}", item.value) };
        if index.contains_key(id.as_str()) {
            return Some(id);
        }
        let hint = nearest(id, index.keys().copied()).map(|near| format!("did you mean `{near}`?"));
        let mut problem = Problem::new(&item.place, format!("unknown {} `{id}`", kind.noun()));
        problem.hint = hint;
        self.problems.push(problem);
        None
    }

    fn source(&mut self, id: &'a str, place: &'a Place, fields: &'a Fields) -> Option<Source> {
        if let Some(paths) = fields.record("format").and_then(|long| long.record("json")) {
            for key in ["type", "name", "key", "time", "id", "properties"] {
                self.header(paths.path(key).zip(paths.get(key).map(|item| &item.place)), id, fields);
            }
            if let Some(place) = paths.path("properties").and_then(Path::header).and(paths.get("properties")) {
                self.say(&place.place, "a header is a single value, and `properties` says where an object is");
            }
        }
        let from = match fields.record("kafka") {
            Some(fields) => {
                let topics: BTreeSet<&str> = fields.list("topic")?.iter().map(text_of).collect();
                SourceFrom::Kafka { kafka: kafka(fields)?, topics: topics.into_iter().map(str::to_owned).collect() }
            }
            None => {
                let file = fields.record("file")?;
                SourceFrom::File { path: file.text("path")?.to_owned(), follow: file.boolean("follow")? }
            }
        };
        let start = match fields.get("start").map(|item| &item.value) {
            None => Start::Window,
            Some(Value::Choice("earliest")) => Start::Earliest,
            Some(Value::Choice(_)) => Start::Latest,
            Some(Value::Time(ms)) => Start::Time(*ms),
            Some(other) => panic!("`start` is a word or a time in the shape, not {other:?}"),
        };
        Some(Source { place: place.clone(), from, format: format(fields)?, start })
    }

    /// Reports a path to a header where the source has none, and one into a header.
    fn header(&mut self, path: Option<(&Path, &Place)>, id: &str, source: &Fields) {
        let Some((path, place)) = path.filter(|(path, _)| path.is_in_headers()) else {
            return;
        };
        if source.has("file") && !source.has("kafka") {
            let message = format!("`{path}` is a header of Kafka, and the source `{id}` reads files");
            self.say_with_hint(place, message, "say where it is in the message itself");
        } else if path.header().is_none() {
            self.say_with_hint(
                place,
                format!("`{path}` goes into a header, which is a single value"),
                "a header is written as in `headers.NAME`",
            );
        }
    }

    fn model(&mut self, id: &'a str, place: &'a Place, fields: &'a Fields) -> Option<Model> {
        let has_parquet = fields.has("parquet");
        let members = match fields.choice("members") {
            Some("known") if !has_parquet => {
                let place = &fields.get("members").expect("it was just read").place;
                let hint = "give it `parquet`, or leave out `members`";
                self.say_with_hint(
                    place,
                    format!("the model `{id}` has no `parquet`, so none of its keys would be known"),
                    hint,
                );
                return None;
            }
            Some("known") => Members::Known,
            Some(_) => Members::Any,
            None if has_parquet => Members::Known,
            None => Members::Any,
        };
        let belongs_to = match fields.record("belongs_to") {
            None => None,
            Some(belongs_to) => {
                let model = self.refer(belongs_to, "model");
                Some(BelongsTo { model: model?.to_owned(), foreign_key: belongs_to.text("foreign_key")?.to_owned() })
            }
        };
        let columns = fields.entries("columns").iter().map(|named| {
            let column_type = column_type(named.item.as_ref()?)?;
            Some((named.name.clone(), column_type))
        });
        Some(Model {
            place: place.clone(),
            description: owned(fields, "description"),
            parquet: owned(fields, "parquet"),
            key: owned(fields, "key").unwrap_or_default(),
            refresh: match fields.milliseconds("refresh") {
                Some(ms) => Refresh::Every(ms),
                None => Refresh::Manual,
            },
            columns: columns.collect::<Option<_>>()?,
            belongs_to,
            members,
        })
    }

    /// Reports models that belong to themselves, by whatever detour.
    fn model_circles(&mut self) {
        let edges = self.models.iter().filter_map(|(id, fields)| {
            let belongs_to = (*fields)?.record("belongs_to")?;
            let place = &belongs_to.get("model")?.place;
            Some((*id, vec![(belongs_to.text("model")?, place.clone())]))
        });
        for (circle, place) in circles(&edges.collect()) {
            self.say(&place, format!("models belong to each other in a circle: {circle}"));
        }
    }

    fn event(&mut self, id: &'a str, place: &'a Place, fields: &'a Fields) -> Option<Event> {
        let source = self.refer(fields, "source");
        let model = self.refer(fields, "model");
        if let Some(source) = source {
            self.json_says_enough(id, place, fields, source);
            self.headers_are_there(fields, source);
        }
        let properties = fields.entries("properties").iter().map(|named| {
            let item = named.item.as_ref()?;
            let path = match &item.value {
                Value::Record(long) if long.has("path") => long.path("path")?.clone(),
                _ => Path(vec![Step::Key("properties".to_owned()), Step::Key(named.name.clone())]),
            };
            Some((named.name.clone(), Property { path, column_type: column_type(item)? }))
        });
        let properties: Option<_> = properties.collect();
        Some(Event {
            place: place.clone(),
            label: owned(fields, "label"),
            description: owned(fields, "description"),
            source: source?.to_owned(),
            kind: owned(fields, "type"),
            name: owned(fields, "name"),
            model: model?.to_owned(),
            foreign_key: fields.path("foreign_key").cloned(),
            timestamp: fields.path("timestamp").cloned(),
            properties: properties?,
        })
    }

    /// Reports the event's paths to headers that its source does not have.
    fn headers_are_there(&mut self, fields: &'a Fields, source: &str) {
        let Some(Some(source_fields)) = self.sources.get(source).copied() else {
            return;
        };
        let own = ["foreign_key", "timestamp"].map(|key| fields.path(key).zip(fields.get(key).map(|item| &item.place)));
        let properties = fields.entries("properties").iter().map(|named| match &named.item.as_ref()?.value {
            Value::Record(long) => long.path("path").zip(long.get("path").map(|item| &item.place)),
            _ => None,
        });
        for path in own.into_iter().chain(properties) {
            self.header(path, source, source_fields);
        }
    }

    /// Reports an event that its source's `json` format can't serve: it would never match, or never have a key.
    fn json_says_enough(&mut self, id: &str, place: &Place, fields: &Fields, source: &str) {
        let Some(Some(source_fields)) = self.sources.get(source) else {
            return;
        };
        let Some(format) = source_fields.get("format") else {
            return;
        };
        let gives = |key: &str| match &format.value {
            Value::Choice(word) => *word != "json",
            Value::Record(long) => long.record("json").is_none_or(|paths| paths.has(key)),
            other => panic!("a format is a word or a record in the shape, not {other:?}"),
        };
        for key in ["type", "name"] {
            if let Some(item) = fields.get(key).filter(|_| !gives(key)) {
                let message = format!(
                    "the format of the source `{source}` gives no `{key}`, so the event `{id}` would never match"
                );
                self.say_with_hint(
                    &item.place,
                    message,
                    format!("say where it is: `format: {{json: {{{key}: PATH}}}}`"),
                );
            }
        }
        if !fields.has("foreign_key") && !gives("key") {
            let message = format!(
                "the event `{id}` has no `foreign_key`, and the format of the source `{source}` gives no `key`"
            );
            self.say(place, message);
        }
    }

    fn audience(&mut self, id: &'a str, place: &'a Place, fields: &'a Fields) -> Option<Audience> {
        let model = self.refer(fields, "model");
        let condition = match fields.get("where") {
            Some(item) => self.condition(item, Scope { audience: id, model }),
            None => None,
        };
        Some(Audience {
            place: place.clone(),
            name: owned(fields, "name").unwrap_or_else(|| id.to_owned()),
            description: owned(fields, "description"),
            model: model?.to_owned(),
            condition: condition?,
        })
    }

    fn condition(&mut self, item: &'a Item, scope: Scope<'a>) -> Option<Condition> {
        let Value::Record(fields) = &item.value else {
            panic!("a condition is a record in the shape, not {:?}", item.value)
        };
        let kind = match fields.kind() {
            "all" => ConditionKind::All(self.conditions(fields.list("all")?, scope)?),
            "any" => ConditionKind::Any(self.conditions(fields.list("any")?, scope)?),
            "not" => ConditionKind::Not(Box::new(self.condition(fields.get("not")?, scope)?)),
            "audience" => ConditionKind::Audience(self.mention(fields.get("audience")?, scope)?),
            "property" => ConditionKind::Property(self.property(fields, scope)?),
            "performed" => self.performed(fields, scope)?,
            "related" => self.related(fields, scope)?,
            other => panic!("`{other}` is a kind of condition in the shape that nothing reads"),
        };
        Some(Condition { place: item.place.clone(), kind })
    }

    fn conditions(&mut self, items: &'a [Item], scope: Scope<'a>) -> Option<Vec<Condition>> {
        let conditions: Vec<_> = items.iter().map(|item| self.condition(item, scope)).collect();
        conditions.into_iter().collect()
    }

    fn mention(&mut self, item: &'a Item, scope: Scope<'a>) -> Option<String> {
        let id = self.refer_item(Kind::Audience, item)?;
        self.mentions.entry(scope.audience).or_default().push((id, item.place.clone()));
        let other = self.audiences[id].and_then(|fields| fields.text("model"));
        if let (Some(model), Some(other)) = (scope.model, other)
            && model != other
        {
            let message = format!("the audience `{id}` is of the model `{other}`, this one of `{model}`");
            self.say(&item.place, message);
        }
        Some(id.to_owned())
    }

    fn property(&mut self, fields: &'a Fields, scope: Scope<'a>) -> Option<Text> {
        let predicate = text(fields, "property")?;
        if let Some((id, model)) = self.scope_model(scope)
            && !model.has("parquet")
        {
            let message = format!("the model `{id}` has no `parquet`, so its keys have no properties");
            let hint = "give the model `parquet`, or test what the key did with `performed`";
            self.say_with_hint(&predicate.place, message, hint);
        }
        self.leaf(scope, &predicate.place, ConditionKind::Property(predicate.clone()));
        Some(predicate)
    }

    fn performed(&mut self, fields: &'a Fields, scope: Scope<'a>) -> Option<ConditionKind> {
        let event = self.refer(fields, "performed");
        if let (Some(event), Some(model)) = (event, scope.model)
            && let Some(other) = self.events[event].and_then(|fields| fields.text("model"))
            && other != model
        {
            let place = &fields.get("performed").expect("it was just read").place;
            let message = format!("the event `{event}` is of the model `{other}`, the audience of `{model}`");
            self.say(place, message);
        }
        // An aggregate is refused in this version, and what it is compared with need not be a count.
        let counts = !AGGREGATES.iter().any(|key| fields.has(key));
        let comparison = self.comparison(fields, counts);
        if let (Some(event), Some(filter)) = (event, text(fields, "where")) {
            let place = filter.place.clone();
            let kind = ConditionKind::Performed {
                event: event.to_owned(),
                filter: Some(filter),
                aggregate: Aggregate::Count,
                comparison: Comparison::AtLeast(Decimal::from(1)),
                within: 1_000,
            };
            self.leaf(scope, &place, kind);
        }
        Some(ConditionKind::Performed {
            event: event?.to_owned(),
            filter: text(fields, "where"),
            aggregate: Aggregate::Count,
            comparison: comparison?,
            within: fields.milliseconds("within")?,
        })
    }

    fn related(&mut self, fields: &'a Fields, scope: Scope<'a>) -> Option<ConditionKind> {
        let model = self.refer(fields, "related");
        if let (Some(model), Some(parent)) = (model, scope.model) {
            let item = fields.get("related").expect("it was just read");
            self.belongs(model, parent, &item.place);
        }
        let aggregate = match AGGREGATES.into_iter().find(|key| fields.has(key)) {
            None => Aggregate::Count,
            Some(key) => {
                let item = fields.get(key)?;
                let column = fields.text(key)?.to_owned();
                let declared = model.and_then(|model| self.models[model]).and_then(|fields| declared(fields, &column));
                if let Some(declared) = declared
                    && key != "distinct"
                    && !matches!(declared, ColumnType::Integer | ColumnType::Number)
                {
                    let message =
                        format!("`{key}` takes an integer or number, and `{column}` is declared as `{declared}`");
                    self.say(&item.place, message);
                }
                match key {
                    "sum" => Aggregate::Sum(column),
                    "avg" => Aggregate::Avg(column),
                    "min" => Aggregate::Min(column),
                    "max" => Aggregate::Max(column),
                    _ => Aggregate::Distinct(column),
                }
            }
        };
        let counts = matches!(aggregate, Aggregate::Count | Aggregate::Distinct(_));
        let comparison = self.comparison(fields, counts);
        if let Some(model) = model {
            let kind = ConditionKind::Related {
                model: model.to_owned(),
                filter: text(fields, "where"),
                aggregate: aggregate.clone(),
                comparison: Comparison::AtLeast(Decimal::from(1)),
            };
            self.leaf(scope, &fields.get("related").expect("it was just read").place, kind);
        }
        Some(ConditionKind::Related {
            model: model?.to_owned(),
            filter: text(fields, "where"),
            aggregate,
            comparison: comparison?,
        })
    }

    /// Reports a related model that does not belong to the audience's.
    fn belongs(&mut self, model: &'a str, parent: &'a str, place: &Place) {
        let parent_of = |fields: &Option<&'a Fields>| (*fields)?.record("belongs_to")?.text("model");
        let Some(fields) = self.models[model] else {
            return;
        };
        // A broken `belongs_to` is reported where it stands.
        let broken = fields.has("belongs_to") && parent_of(&Some(fields)).is_none();
        if broken || parent_of(&Some(fields)) == Some(parent) {
            return;
        }
        let belonging: Vec<&str> =
            self.models.iter().filter(|(_, fields)| parent_of(fields) == Some(parent)).map(|(id, _)| *id).collect();
        let message = format!("the model `{model}` does not belong to `{parent}`, the audience's model");
        match belonging.as_slice() {
            [] => self.say_with_hint(
                place,
                message,
                format!("give it `belongs_to: {{model: {parent}, foreign_key: COLUMN}}`"),
            ),
            _ => self.say_with_hint(place, message, format!("to `{parent}` belongs {}", or_list(&belonging))),
        }
    }

    /// The comparison of a `performed` or `related`; of counts, only with what a count can be.
    fn comparison(&mut self, fields: &'a Fields, counts: bool) -> Option<Comparison> {
        let keys = ["at_least", "at_most", "more_than", "less_than", "exactly", "between"];
        let Some(key) = keys.into_iter().find(|key| fields.has(key)) else {
            return Some(Comparison::AtLeast(Decimal::from(1)));
        };
        let item = fields.get(key)?;
        let items = match &item.value {
            Value::List(items) => items.as_slice(),
            _ => std::slice::from_ref(item),
        };
        let mut numbers = Vec::new();
        for item in items {
            let Value::Number(number) = item.value else { panic!("a threshold is a number, not {:?}", item.value) };
            if counts && !(number.is_whole() && (Decimal::from(0)..=Decimal::from(COUNT_MAX)).contains(&number)) {
                let message =
                    format!("a count is compared with a whole number from 0 to {COUNT_MAX}, not with `{number}`");
                self.say(&item.place, message);
                return None;
            }
            numbers.push(number);
        }
        Some(match (key, numbers.as_slice()) {
            ("at_least", [n]) => Comparison::AtLeast(*n),
            ("at_most", [n]) => Comparison::AtMost(*n),
            ("more_than", [n]) => Comparison::MoreThan(*n),
            ("less_than", [n]) => Comparison::LessThan(*n),
            ("exactly", [n]) => Comparison::Exactly(*n),
            ("between", [a, b]) if a <= b => Comparison::Between(*a, *b),
            ("between", [a, b]) => {
                let hint = format!("write `[{b}, {a}]`");
                self.say_with_hint(&item.place, format!("nothing lies between `{a}` and `{b}`"), hint);
                return None;
            }
            (key, numbers) => panic!("`{key}` has {} thresholds in the shape", numbers.len()),
        })
    }

    /// The scope's model, where it exists and is readable.
    fn scope_model(&self, scope: Scope<'a>) -> Option<(&'a str, &'a Fields)> {
        let id = scope.model?;
        Some((id, self.models[id]?))
    }

    /// Reports audiences that depend on themselves, by whatever detour.
    fn audience_circles(&mut self) {
        for (circle, place) in circles(&std::mem::take(&mut self.mentions)) {
            self.say(&place, format!("audiences depend on each other in a circle: {circle}"));
        }
    }

    fn sync(&mut self, _id: &'a str, place: &'a Place, fields: &'a Fields) -> Option<Sync> {
        let audiences: BTreeSet<&str> = match fields.list("audiences") {
            Some(items) => items.iter().filter_map(|item| self.refer_item(Kind::Audience, item)).collect(),
            None => self.audiences.keys().copied().collect(),
        };
        let to = fields.record("to")?;
        let sends = |word: &str| {
            let mut words = fields.list("send").unwrap_or_default().iter();
            words.any(|item| matches!(item.value, Value::Choice(choice) if choice == word))
        };
        self.kafka_only(fields, to);
        let templates = self.templates(fields);
        let include = fields.list("include").unwrap_or_default().iter();
        let names = |key: &str| owned(fields.record("event_names")?, key);
        Some(Sync {
            place: place.clone(),
            description: owned(fields, "description"),
            audiences: audiences.into_iter().map(str::to_owned).collect(),
            send_entry: sends("entry"),
            send_exit: sends("exit"),
            format: match fields.choice("format")? {
                "usher" => SyncFormat::Usher,
                "cloudevents" => SyncFormat::Cloudevents,
                "segment" => SyncFormat::Segment,
                other => panic!("`{other}` is a sync format in the shape that nothing reads"),
            },
            include: include.map(|item| Text { value: text_of(item).to_owned(), place: item.place.clone() }).collect(),
            entry_name: names("entry"),
            exit_name: names("exit"),
            fields: templates?,
            backfill: fields.boolean("backfill")?,
            on_remove: match fields.choice("on_remove")? {
                "exit" => OnRemove::Exit,
                _ => OnRemove::Forget,
            },
            to: match to.record("kafka") {
                Some(target) => SyncTo::Kafka(KafkaTarget {
                    kafka: kafka(target)?,
                    topic: owned(target, "topic")?,
                    partitions: fields.whole("partitions"),
                    delivery: match fields.choice("delivery") {
                        Some("at_least_once") => Delivery::AtLeastOnce,
                        _ => Delivery::ExactlyOnce,
                    },
                    commit_every: fields.milliseconds("commit_every").unwrap_or(COMMIT_EVERY),
                }),
                None if to.has("stdout") => SyncTo::Stdout,
                None => SyncTo::File(file_target(to.record("file")?)?),
            },
        })
    }

    /// Reports what only a sync to Kafka can do, of one that goes elsewhere.
    fn kafka_only(&mut self, fields: &'a Fields, to: &'a Fields) {
        if to.has("kafka") {
            if let (Some("at_least_once"), Some(item)) = (fields.choice("delivery"), fields.get("commit_every")) {
                let message = "`commit_every` is about transactions, and `delivery: at_least_once` has none";
                self.say(&item.place, message);
            }
            return;
        }
        let Some(other) = ["file", "stdout"].into_iter().find(|key| to.has(key)) else {
            return;
        };
        for key in ["partitions", "commit_every"] {
            if let Some(item) = fields.get(key) {
                self.say(&item.place, format!("`{key}` is for `kafka`, and this sync goes to `{other}`"));
            }
        }
        if let (Some("exactly_once"), Some(item)) = (fields.choice("delivery"), fields.get("delivery")) {
            let message = format!("`exactly_once` takes transactions of Kafka, and this sync goes to `{other}`");
            let hint = "leave it out: each change comes at least once, and its `id` tells a repeat";
            self.say_with_hint(&item.place, message, hint);
        }
    }

    /// The templates of a sync by the field that each fills; none: one is wrong.
    fn templates(&mut self, fields: &'a Fields) -> Option<BTreeMap<String, Text>> {
        let mut templates = BTreeMap::new();
        let mut filled: Vec<Path> = Vec::new();
        let mut whole = true;
        for named in fields.entries("fields") {
            let path = match Path::parse(&named.name) {
                Ok(path) if path.0.iter().all(|step| matches!(step, Step::Key(_))) => path,
                Ok(_) => {
                    self.say(&named.place, format!("`{}` is no field: it goes into a list", named.name));
                    whole = false;
                    continue;
                }
                Err(reason) => {
                    self.say_with_hint(&named.place, reason, "a field is written as in `properties.\"odd name\"`");
                    whole = false;
                    continue;
                }
            };
            let clash = |other: &&Path| path.0.starts_with(&other.0) || other.0.starts_with(&path.0);
            if let Some(other) = filled.iter().find(clash) {
                let message = format!("the fields `{path}` and `{other}` are one, or one lies in the other");
                self.say(&named.place, message);
                whole = false;
                continue;
            }
            match &named.item {
                None => whole = false,
                Some(item) => {
                    let text = Text { value: text_of(item).to_owned(), place: item.place.clone() };
                    templates.insert(path.to_string(), text);
                }
            }
            filled.push(path);
        }
        whole.then_some(templates)
    }

    fn api(&mut self, item: &'a Item) -> Option<Api> {
        let Value::Record(fields) = &item.value else { panic!("`api` is a record in the shape, not {:?}", item.value) };
        let listen = fields.text("listen");
        if let Some(listen) = listen.filter(|listen| !fields.has("keys") && !is_loopback(listen)) {
            let place = &fields.get("listen").expect("it was just read").place;
            let message = format!("without `keys` the API is for this machine alone, and others can reach `{listen}`");
            let hint = "listen on `127.0.0.1`, or give `keys: [{token: \"${TOKEN}\", can: [read]}]`";
            self.say_with_hint(place, message, hint);
        }
        let keys = fields.list("keys").unwrap_or_default().iter().map(|item| {
            let Value::Record(key) = &item.value else {
                panic!("a key is a record in the shape, not {:?}", item.value)
            };
            let Value::Secret(token) = &key.get("token")?.value else { panic!("a token is a secret in the shape") };
            let can = |word: &str| {
                let mut words = key.list("can").unwrap_or_default().iter();
                words.any(|item| matches!(item.value, Value::Choice(choice) if choice == word))
            };
            Some(ApiKey { token: Secret(token.clone()), read: can("read"), admin: can("admin") })
        });
        Some(Api {
            place: item.place.clone(),
            keys: keys.collect::<Option<_>>()?,
            listen: listen?.to_owned(),
            rate_limit: fields.whole("rate_limit"),
        })
    }

    /// Reports topics that the job writes and reads: what it says would come back to it.
    fn changes_come_back(
        &mut self,
        sources: &BTreeMap<String, Source>,
        syncs: &BTreeMap<String, Sync>,
        dead_letters: Option<&DeadLettersTo>,
        file: &'a Fields,
    ) {
        let place = |fields: Option<&'a Fields>| Some(&fields?.record("kafka")?.get("topic")?.place);
        let syncs_file = file.entries("syncs").iter().filter_map(|named| Some((&named.name, fields(named)?)));
        let places: BTreeMap<_, _> = syncs_file.map(|(id, fields)| (id, place(fields.record("to")))).collect();
        let mut written = Vec::new();
        for (id, sync) in syncs {
            if let (SyncTo::Kafka(target), Some(place)) = (&sync.to, places[id]) {
                written.push((&target.kafka, &target.topic, place));
            }
        }
        if let (Some(DeadLettersTo::Kafka { kafka, topic }), Some(place)) =
            (dead_letters, place(file.record("dead_letters")))
        {
            written.push((kafka, topic, place));
        }
        for (cluster, topic, place) in written {
            let reads = sources.iter().find(|(_, source)| match &source.from {
                SourceFrom::Kafka { kafka, topics } => kafka.brokers == cluster.brokers && topics.contains(topic),
                SourceFrom::File { .. } => false,
            });
            if let Some((id, _)) = reads {
                self.say(
                    place,
                    format!("the topic `{topic}` is read by the source `{id}`: what is sent would come back"),
                );
            }
        }
    }
}

fn owned(fields: &Fields, key: &str) -> Option<String> {
    fields.text(key).map(str::to_owned)
}

fn text(fields: &Fields, key: &str) -> Option<Text> {
    Some(Text { value: fields.text(key)?.to_owned(), place: fields.get(key)?.place.clone() })
}

/// A text in a list.
fn text_of(item: &Item) -> &str {
    match &item.value {
        Value::Text(text) => text,
        other => panic!("a text in the shape, not {other:?}"),
    }
}

fn kafka(fields: &Fields) -> Option<Kafka> {
    let properties = fields.entries("properties").iter().map(|named| {
        let Value::Setting(text, written) = &named.item.as_ref()?.value else {
            panic!("a property of Kafka is a setting in the shape")
        };
        let setting = match is_secret(&named.name) {
            true => Setting::Secret(Secret(written.clone())),
            false => Setting::Plain(text.clone()),
        };
        Some((named.name.clone(), setting))
    });
    Some(Kafka { properties: properties.collect::<Option<_>>()?, brokers: owned(fields, "brokers")? })
}

fn dead_letters(fields: &Fields) -> Option<DeadLettersTo> {
    match fields.record("kafka") {
        Some(target) => Some(DeadLettersTo::Kafka { kafka: kafka(target)?, topic: owned(target, "topic")? }),
        None => Some(DeadLettersTo::File(file_target(fields.record("file")?)?)),
    }
}

fn state(fields: &Fields) -> Option<State> {
    Some(State { url: owned(fields, "url")?, checkpoint_every: fields.milliseconds("checkpoint_every")? })
}

fn cluster(fields: &Fields) -> Option<Cluster> {
    Some(Cluster {
        connect_timeout: fields.milliseconds("connect_timeout")?,
        peer_timeout: fields.milliseconds("peer_timeout")?,
    })
}

/// Whether nobody but this machine can reach an address. Of a name only `localhost` is known to be so.
fn is_loopback(listen: &str) -> bool {
    let host = listen.rsplit_once(':').map_or(listen, |(host, _)| host);
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn file_target(fields: &Fields) -> Option<FileTarget> {
    Some(FileTarget { path: owned(fields, "path")? })
}

fn limits(fields: &Fields) -> Option<Limits> {
    Some(Limits { future_skew: fields.milliseconds("future_skew")?, message_bytes: fields.bytes("message_bytes")? })
}

fn format(fields: &Fields) -> Option<Format> {
    let path = |paths: &Fields, key: &str| paths.path(key).cloned();
    match fields.choice("format") {
        Some("segment") => Some(Format::Segment),
        Some("rudderstack") => Some(Format::Rudderstack),
        Some("hightouch") => Some(Format::Hightouch),
        Some("snowplow_tsv") => Some(Format::SnowplowTsv),
        Some("snowplow_json") => Some(Format::SnowplowJson),
        Some("json") => {
            let none = JsonPaths { kind: None, name: None, key: None, time: None, id: None, properties: None };
            Some(Format::Json(none))
        }
        Some(other) => panic!("`{other}` is a format in the shape that nothing reads"),
        None => {
            let paths = fields.record("format")?.record("json")?;
            Some(Format::Json(JsonPaths {
                kind: path(paths, "type"),
                name: path(paths, "name"),
                key: path(paths, "key"),
                time: path(paths, "time"),
                id: path(paths, "id"),
                properties: path(paths, "properties"),
            }))
        }
    }
}

/// The type of a column or property, written short or long.
fn column_type(item: &Item) -> Option<ColumnType> {
    let word = match &item.value {
        Value::Choice(word) => word,
        Value::Record(long) => long.choice("type")?,
        other => panic!("a type is a word or a record in the shape, not {other:?}"),
    };
    ColumnType::parse(word)
}

fn declared(model: &Fields, column: &str) -> Option<ColumnType> {
    let named = model.entries("columns").iter().find(|named| named.name == column)?;
    column_type(named.item.as_ref()?)
}

impl ColumnType {
    /// In the order of [`COLUMN_TYPES`].
    const ALL: [ColumnType; 9] = [
        ColumnType::String,
        ColumnType::Integer,
        ColumnType::Number,
        ColumnType::Boolean,
        ColumnType::Timestamp,
        ColumnType::Date,
        ColumnType::ListString,
        ColumnType::ListInteger,
        ColumnType::ListNumber,
    ];

    /// Reads a type as the job file writes it: `list<string>`.
    pub fn parse(word: &str) -> Option<ColumnType> {
        COLUMN_TYPES.iter().position(|known| *known == word).map(|at| ColumnType::ALL[at])
    }
}

impl std::fmt::Display for ColumnType {
    /// As the job file writes it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(COLUMN_TYPES[ColumnType::ALL.iter().position(|known| known == self).expect("all are there")])
    }
}

/// The circles in a graph: as text, beginning with the least id on it, and the place of the mention that leaves that id.
///
/// A walk in depth that reports each mention that leads back to where it came from. No recursion: a chain may be as
/// long as the file.
fn circles(edges: &Mentions) -> Vec<(String, Place)> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for start in edges.keys().copied() {
        // The ids on the way, each with the number of its mentions that are followed.
        let mut way = vec![(start, 0)];
        let mut on_way = BTreeSet::from([start]);
        if !seen.insert(start) {
            continue;
        }
        while let Some((id, followed)) = way.last_mut() {
            let Some((target, _)) = edges.get(id).and_then(|mentions| mentions.get(*followed)) else {
                on_way.remove(id);
                way.pop();
                continue;
            };
            *followed += 1;
            if on_way.contains(target) {
                found.push(circle(edges, &way, target));
            } else if seen.insert(target) {
                on_way.insert(target);
                way.push((target, 0));
            }
        }
    }
    found
}

/// The circle that closes where the end of `way` mentions `target`, which is on it.
fn circle(edges: &Mentions, way: &[(&str, usize)], target: &str) -> (String, Place) {
    let first = way.iter().position(|(id, _)| *id == target).expect("the target is on the way");
    let ids = &way[first..];
    let least = (0..ids.len()).min_by_key(|at| ids[*at].0).expect("a circle is not empty");
    let mut names: Vec<String> = (0..ids.len()).map(|at| format!("`{}`", ids[(least + at) % ids.len()].0)).collect();
    names.push(names[0].clone());
    let (id, followed) = ids[least];
    (names.join(" -> "), edges[id][followed - 1].1.clone())
}
