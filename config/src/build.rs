//! The checked fields become the job: each part is checked against the others.
//!
//! References resolve, conditions fit the model that they are about, models and audiences do not depend on themselves.
//! Each part is checked whole even if it can't be built, so that all problems are reported at once; what an earlier
//! step reported is not reported again. Predicates are not parsed here, and no file is opened: what can be parsed and
//! compared with columns in spite of problems is the [`Salvage`].
//!
//! Each file of `build/` builds one section, by the keys of the file of the same name in `schema/`.

mod audience;
mod circles;
mod condition;
mod destination;
mod event;
mod location;
mod model;
mod process;
mod source;
mod sync;
mod vendor;
mod webhook;

use std::collections::{BTreeMap, BTreeSet};

use usher_core::suggest::nearest;

use crate::schema::{At, Entries, Fields, Key, Reference, Section, audience as audience_keys, job};
use crate::{Audience, Fragment, Gap, Gaps, Includes, Job, Place, Problem, Salvage, Text};
use circles::Edges;

/// What could be built of a job.
pub(crate) struct Built {
    /// The job; if it is not `whole`, what there is of it.
    pub(crate) salvage: Salvage,
    /// Whether nothing is missing.
    pub(crate) whole: bool,
}

/// Builds the job of a file, and reports each problem.
pub(crate) fn job(file: &Fields, folder: &std::path::Path, problems: &mut Vec<Problem>) -> Built {
    let mut builder = Builder {
        sources: declared(file, &job::SOURCES),
        models: declared(file, &job::MODELS),
        events: declared(file, &job::EVENTS),
        audiences: declared(file, &job::AUDIENCES),
        mentions: BTreeMap::new(),
        fragments: BTreeMap::new(),
        includes: Vec::new(),
        gaps: Gaps::default(),
        problems,
    };
    let mut whole = true;
    let mut sources = builder.all(file, &job::SOURCES, Builder::source, &mut whole);
    let models =
        builder.all(file, &job::MODELS, |job, id, place, fields| Some(job.model(id, place, fields)), &mut whole);
    builder.note_models_that_are_wrong_as_a_whole();
    builder.check_model_circles();
    let events =
        builder.all(file, &job::EVENTS, |job, id, place, fields| Some(job.event(id, place, fields)), &mut whole);
    builder.read_traits_from_the_start(&mut sources, &models, &events);
    let audiences = builder.all(file, &job::AUDIENCES, Builder::audience, &mut whole);
    let audiences: BTreeMap<_, _> = audiences.into_iter().filter_map(|(id, audience)| Some((id, audience?))).collect();
    builder.check_audience_circles();
    let syncs = builder.all(file, &job::SYNCS, Builder::sync, &mut whole);
    let name = owned(file, &job::NAME);
    whole &= name.is_some();
    let dead_letters = file.get(&job::DEAD_LETTERS).and_then(destination::dead_letters);
    let state = file.get(&job::STATE).and_then(process::state);
    let api = file.at(&job::API).and_then(|api| builder.api(api));
    let cluster = file.get(&job::CLUSTER).and_then(process::cluster).unwrap_or_default();
    builder.check_feedback(&sources, &syncs, dead_letters.as_ref(), file);
    builder.check_locations(file);
    builder.check_files(file);
    let limits = file.get(&job::LIMITS).and_then(process::limits).unwrap_or_default();
    whole &= builder.gaps.is_empty();
    let audience_models = builder.models_of_others(&audiences);
    let (mut fragments, includes, gaps) = (builder.fragments, builder.includes, builder.gaps);
    fragments.retain(|id, _| !audiences.contains_key(*id));
    let fragments = fragments.into_values().flatten().collect();
    let job = Job {
        name: name.unwrap_or_default(),
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
    Built { salvage: Salvage { job, fragments, audience_models, includes, gaps }, whole }
}

/// The entries of a section by id; `None` for an entry that is wrong and reported.
type Declared<'a> = BTreeMap<&'a str, Option<&'a Fields>>;

fn declared<'a>(file: &'a Fields, section: &Key<Entries<Fields>>) -> Declared<'a> {
    file.entries(section).into_iter().map(|entry| (entry.name, entry.item.map(|item| item.value))).collect()
}

/// Builds the parts of a job, and collects the problems.
struct Builder<'a> {
    sources: Declared<'a>,
    models: Declared<'a>,
    events: Declared<'a>,
    audiences: Declared<'a>,
    /// By audience: the audiences that its condition mentions.
    mentions: Edges<'a>,
    /// By audience: its conditions with predicates or aggregated columns.
    fragments: BTreeMap<&'a str, Vec<Fragment>>,
    /// What the syncs include that could not be built.
    includes: Vec<Includes>,
    /// What is wrong in the models and events so far.
    gaps: Gaps,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Builder<'a> {
    fn report(&mut self, place: &Place, message: impl Into<String>) {
        self.problems.push(Problem::new(place, message));
    }

    fn report_with_hint(&mut self, place: &Place, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(Problem::new(place, message).hint(hint));
    }

    /// Builds each entry of a section that can be built; clears `whole` if one can't.
    fn all<T>(
        &mut self,
        file: &'a Fields,
        section: &Key<Entries<Fields>>,
        build: impl Fn(&mut Self, &'a str, &'a Place, &'a Fields) -> Option<T>,
        whole: &mut bool,
    ) -> BTreeMap<String, T> {
        let mut built = BTreeMap::new();
        for entry in file.entries(section) {
            match entry.item.and_then(|item| build(self, entry.name, entry.place, item.value)) {
                Some(part) => drop(built.insert(entry.name.to_owned(), part)),
                None => *whole = false,
            }
        }
        built
    }

    /// Returns the id under a key. Reports an id that does not exist.
    fn refer(&mut self, fields: &'a Fields, key: &Key<Reference>) -> Option<&'a str> {
        fields.at(key).and_then(|reference| self.resolve(&reference))
    }

    /// Returns the id of a reference. Reports an id that does not exist.
    fn resolve(&mut self, reference: &At<'a, &'a Reference>) -> Option<&'a str> {
        let Reference { section, id } = reference.value;
        let declared = match section {
            Section::Source => &self.sources,
            Section::Model => &self.models,
            Section::Event => &self.events,
            Section::Audience => &self.audiences,
        };
        if declared.contains_key(id.as_str()) {
            if *section == Section::Audience && !self.is_enabled(id) {
                let message = format!("the audience `{id}` has `enabled: false`, which is as if it were removed");
                let hint = "remove what refers to it, or enable it";
                self.report_with_hint(reference.place, message, hint);
                return None;
            }
            return Some(id);
        }
        let hint = nearest(id, declared.keys().copied()).map(|near| format!("did you mean `{near}`?"));
        let mut problem = Problem::new(reference.place, format!("unknown {} `{id}`", section.noun()));
        problem.hint = hint;
        self.problems.push(problem);
        None
    }

    /// Notes the models of which nothing is known but their ids.
    fn note_models_that_are_wrong_as_a_whole(&mut self) {
        for (id, _) in self.models.iter().filter(|(_, fields)| fields.is_none()) {
            Gap { others: true, ..Gap::default() }.note(id, &mut self.gaps.models);
        }
    }

    /// Returns the models of the audiences that are not among those `built`, as far as they are known.
    fn models_of_others(&self, built: &BTreeMap<String, Audience>) -> BTreeMap<String, String> {
        let others = self.audiences.iter().filter(|(id, _)| !built.contains_key(**id));
        let models = others.filter_map(|(id, fields)| {
            let model = &fields.as_ref()?.get(&audience_keys::MODEL)?.id;
            self.models.contains_key(model.as_str()).then(|| ((*id).to_owned(), model.clone()))
        });
        models.collect()
    }

    /// Returns whether the job has an audience of the file: one that is wrong counts as enabled.
    fn is_enabled(&self, audience: &str) -> bool {
        entry(&self.audiences, audience).and_then(|fields| fields.get(&audience_keys::ENABLED)).unwrap_or(true)
    }
}

/// Returns the fields of an entry; `None` if there is no such entry, or if it is wrong and reported.
fn entry<'a>(declared: &Declared<'a>, id: &str) -> Option<&'a Fields> {
    declared.get(id).copied().flatten()
}

/// Returns the parts that could be built by name, and the names of the others.
fn sorted_out<T>(parts: impl Iterator<Item = (String, Option<T>)>) -> (BTreeMap<String, T>, BTreeSet<String>) {
    let (mut built, mut wrong) = (BTreeMap::new(), BTreeSet::new());
    for (name, part) in parts {
        match part {
            Some(part) => drop(built.insert(name, part)),
            None => drop(wrong.insert(name)),
        }
    }
    (built, wrong)
}

fn owned(fields: &Fields, key: &Key<String>) -> Option<String> {
    fields.get(key).map(str::to_owned)
}

/// Returns the text under a key with its place.
fn text(fields: &Fields, key: &Key<String>) -> Option<Text> {
    fields.at(key).map(placed)
}

fn placed(text: At<'_, &str>) -> Text {
    Text { value: text.value.to_owned(), place: text.place.clone() }
}
