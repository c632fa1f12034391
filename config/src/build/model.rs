//! Builds models.

use super::circles::circles;
use super::{Builder, owned};
use crate::schema::model as keys;
use crate::schema::{DESCRIPTION, Fields, Form};
use crate::{BelongsTo, ColumnType, DeltaTable, Members, Model, Parquet, Place, Refresh, TableVersion};
use usher_core::time::parse_setting;

impl<'a> Builder<'a> {
    pub(super) fn model(&mut self, id: &'a str, place: &'a Place, fields: &'a Fields) -> Option<Model> {
        let has_parquet = fields.has(&keys::PARQUET) || fields.has(&keys::DELTA);
        let members = match fields.at(&keys::MEMBERS) {
            Some(members) if members.value == Members::Known && !has_parquet => {
                let message = format!("the model `{id}` has no `parquet`, so none of its keys would be known");
                self.report_with_hint(members.place, message, "give it `parquet` or `delta`, or leave out `members`");
                return None;
            }
            Some(members) => members.value,
            None if has_parquet => Members::Known,
            None => Members::Any,
        };
        let belongs_to = match fields.get(&keys::BELONGS_TO) {
            None => None,
            Some(belongs_to) => {
                let model = self.refer(belongs_to, &keys::PARENT);
                Some(BelongsTo { model: model?.to_owned(), foreign_key: owned(belongs_to, &keys::FOREIGN_KEY)? })
            }
        };
        let columns = fields.entries(&keys::COLUMNS).into_iter().map(|entry| {
            let column_type = column_type(entry.item?.value)?;
            Some((entry.name.to_owned(), column_type))
        });
        Some(Model {
            place: place.clone(),
            description: owned(fields, &DESCRIPTION),
            parquet: if has_parquet { Some(self.parquet(fields)?) } else { None },
            key: owned(fields, &keys::KEY).unwrap_or_default(),
            refresh: fields.get(&keys::REFRESH_EVERY).unwrap_or(Refresh::Manual),
            max_exits: fields.get(&keys::MAX_EXITS),
            min_rows: fields.get(&keys::MIN_ROWS),
            force_files: fields.get(&keys::FORCE_FILES).unwrap_or(false),
            columns: columns.collect::<Option<_>>()?,
            belongs_to,
            members,
        })
    }

    /// Builds where a model's Parquet is.
    fn parquet(&mut self, fields: &Fields) -> Option<Parquet> {
        let table = match fields.get(&keys::DELTA) {
            None => return Some(Parquet::Files(owned(fields, &keys::PARQUET)?)),
            Some(Form::Short(url)) => DeltaTable { url: url.to_owned(), at: TableVersion::Newest },
            Some(Form::Long(long)) => {
                let at = match (long.get(&keys::VERSION), long.at(&keys::AT)) {
                    (Some(version), _) => TableVersion::Number(version),
                    (None, None) => TableVersion::Newest,
                    (None, Some(time)) => match parse_setting(time.value) {
                        Some(ms) => TableVersion::Time(ms),
                        None => {
                            let message = format!("`{}` is not a time", time.value);
                            self.report_with_hint(time.place, message, "write RFC 3339, as in `2026-11-23T10:00:00Z`");
                            return None;
                        }
                    },
                };
                DeltaTable { url: owned(long, &keys::URL)?, at }
            }
        };
        if table.url.contains('*') {
            let place = fields.at(&keys::DELTA)?.place;
            let message = format!("`{}` has a wildcard, and a table is one folder", table.url);
            self.report_with_hint(place, message, "write the folder that holds `_delta_log`");
            return None;
        }
        Some(Parquet::Delta(table))
    }

    /// Reports models that belong to themselves, directly or through others.
    pub(super) fn check_model_circles(&mut self) {
        let edges = self.models.iter().filter_map(|(id, fields)| {
            let parent = (*fields)?.get(&keys::BELONGS_TO)?.at(&keys::PARENT)?;
            Some((*id, vec![(parent.value.id.as_str(), parent.place.clone())]))
        });
        for (circle, place) in circles(&edges.collect()) {
            self.report(&place, format!("models belong to each other in a circle: {circle}"));
        }
    }
}

/// Returns the id of the model that a model belongs to.
pub(super) fn parent(model: &Fields) -> Option<&str> {
    Some(&model.get(&keys::BELONGS_TO)?.get(&keys::PARENT)?.id)
}

/// Returns the declared type of a column of a model.
pub(super) fn declared_type(model: &Fields, column: &str) -> Option<ColumnType> {
    let columns = model.entries(&keys::COLUMNS);
    let entry = columns.into_iter().find(|entry| entry.name == column)?;
    column_type(entry.item?.value)
}

fn column_type(form: Form<'_, ColumnType>) -> Option<ColumnType> {
    match form {
        Form::Short(column_type) => Some(column_type),
        Form::Long(long) => long.get(&keys::TYPE),
    }
}
