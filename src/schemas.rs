//! The schemas of models whose columns are not all declared: read from their files, and kept with the state.
//!
//! A start at which a model's files can't be read goes on with the schema that the run before has kept, as it does with that run's snapshot. Holds
//! nothing. Refuses a schema that was kept of other files.

use crate::exit::Exit;
use crate::open::warehouse;
use crate::terminal::print_stderr;
use usher_config::{ColumnType, Job, Parquet, Salvage};
use usher_connectors::parquet::FoundType;
use usher_connectors::state_store::Objects;
use usher_core::store::StoreError;
use usher_core::warehouse::SnapshotError;
use usher_queries::{Schemas, needs_schema, salvage_needs_schema};

/// The columns of a model's files, as in [`Schemas`].
pub type Columns = Vec<(String, Result<ColumnType, String>)>;

/// A schema as it is kept, in JSON: where the model's files are, the identity of [`usher_config::Parquet`], and their columns.
type KeptSchema = (String, Columns);

/// The footers of a model's files that are read for its schema.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Footers {
    /// That of the first file, by path.
    First,
    All,
}

/// Reads the schemas that a job needs; `kept` gives one that can't be read, by its model.
pub fn read(job: &Job, footers: Footers, kept: &dyn Fn(&str) -> Option<Columns>) -> Result<Schemas, Exit> {
    let mut schemas = Schemas::new();
    for model in needs_schema(job) {
        let columns = schema(job, &model, footers).or_else(|error| {
            let message = format!("the schema of model `{model}` can't be read: {}", error.message());
            let Some(columns) = kept(&model) else { return Err(Exit::not_opened(message).hint(error.hint)) };
            print_stderr(format_args!("warning: {message}; it is taken to be that of the last run"));
            Ok(columns)
        })?;
        schemas.insert(model, columns);
    }
    Ok(schemas)
}

/// Reads the schemas that the parts of a broken job need. Of one that can't be read, it is noted that the model may have
/// other columns than those that are declared.
pub fn read_for_salvage(salvage: &mut Salvage) -> Schemas {
    let mut schemas = Schemas::new();
    for model in salvage_needs_schema(salvage) {
        match schema(&salvage.job, &model, Footers::All) {
            Ok(columns) => drop(schemas.insert(model, columns)),
            Err(_) => salvage.gaps.models.entry(model).or_default().others = true,
        }
    }
    schemas
}

/// Reads the schema of a model.
fn schema(job: &Job, model: &str, footers: Footers) -> Result<Columns, SnapshotError> {
    let warehouse = warehouse(&job.models[model], &job.folder)?;
    let schema = match footers {
        // A column without a value there has its type in another file.
        Footers::First => match warehouse.schema()? {
            schema if schema.has_null() => warehouse.whole_schema()?,
            schema => schema,
        },
        Footers::All => warehouse.whole_schema()?,
    };
    let columns = schema.names().map(|name| {
        let found = match schema.column(name) {
            Some(FoundType::Known(column_type)) => Ok(column_type),
            // What has no value anywhere is compared as text is, unless it is declared.
            Some(FoundType::Null) => Ok(ColumnType::String),
            Some(FoundType::Unsupported(found)) => Err(found),
            None => Err("any of several, whose names differ by case".to_owned()),
        };
        (name.to_owned(), found)
    });
    Ok(columns.collect())
}

/// Keeps the schemas of a job's models for its next start.
///
/// # Errors
/// The store can't be read or written.
pub fn keep(store: &Objects, job: &Job, schemas: &Schemas) -> Result<(), StoreError> {
    for (model, columns) in schemas {
        let Some(parquet) = place(job, model) else { continue };
        let schema: KeptSchema = (parquet, columns.clone());
        if find(store, model)?.as_ref() != Some(&schema) {
            let name = name(model);
            store.remove_schema(&name)?;
            store.put_schema(&name, &serde_json::to_vec(&schema).expect("plain data"))?;
        }
    }
    Ok(())
}

/// Returns the schema of a model that was kept, if its files still are where they were.
pub fn kept(store: &Objects, job: &Job, model: &str) -> Option<Columns> {
    let (parquet, columns) = find(store, model).ok()??;
    (Some(parquet) == place(job, model)).then_some(columns)
}

fn find(store: &Objects, model: &str) -> Result<Option<KeptSchema>, StoreError> {
    let name = name(model);
    let found = store.schemas(&name)?.into_iter().find(|(found, _)| *found == name);
    Ok(found.and_then(|(_, content)| serde_json::from_slice(&content).ok()))
}

/// Where the files of a model are.
fn place(job: &Job, model: &str) -> Option<String> {
    job.models.get(model)?.parquet.as_ref().map(Parquet::identity)
}

/// The name under which the schema of a model is kept. Those of registries begin with a hash.
fn name(model: &str) -> String {
    format!("model-{model}")
}
