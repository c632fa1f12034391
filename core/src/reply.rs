//! What every answer of the running job is made of: refusals, times, futures. Reached through [`crate::api`].

use crate::time::write_time;
pub use futures::future::BoxFuture;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};

/// Why the job refuses a request. Each text is the detail of the problem that the client gets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// What was asked for does not exist. 404.
    #[error("{0}")]
    NotFound(String),
    /// The request is malformed, as a cursor may be. 400.
    #[error("{0}")]
    Wrong(String),
    /// The job can't do this now: a pull is running, or the model is never pulled. 409.
    #[error("{0}")]
    Conflict(String),
    /// The job is not live yet, or stops. 503.
    #[error("{0}")]
    Unavailable(String),
}

/// A time, in ms since the epoch. Shown as RFC 3339 in UTC with ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = Vec::with_capacity(24);
        write_time(&mut text, self.0);
        f.write_str(std::str::from_utf8(&text).expect("digits are UTF-8"))
    }
}

impl Serialize for Moment {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl utoipa::PartialSchema for Moment {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String);
        text.format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))).into()
    }
}

impl ToSchema for Moment {}
