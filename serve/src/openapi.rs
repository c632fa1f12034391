//! The OpenAPI document, derived from the handlers and their types.
//!
//! Promises: it describes every route and no other. A handler's comment is its summary and description; a field's comment is
//! the description of the field.

use crate::auth::{CONSOLE_FILE, OPEN};
use crate::problem::ProblemBody;
use crate::routes::{
    audiences, changes, definitions, diff, job, lookup, members, models, process, sizes, sources, syncs,
};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, PathItem, Ref, ResponseBuilder};
use utoipa::{OpenApi, openapi};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "usher",
        description = "Current audience membership. Errors are `application/problem+json` (RFC 9457).",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    paths(
        audiences::audiences,
        lookup::lookup_of_lookup,
        lookup::lookup_all,
        lookup::lookup,
        lookup::explain,
        members::members,
        definitions::definition,
        sizes::many_sizes,
        sizes::sizes,
        job::job,
        diff::diff,
        syncs::syncs,
        syncs::attempts,
        syncs::dead_letters,
        syncs::redeliver,
        syncs::drop,
        syncs::pause,
        syncs::resume,
        syncs::test,
        sources::sources,
        sources::events,
        changes::changes,
        models::models,
        models::pulls,
        models::pull_now,
        process::healthz,
        process::readyz,
        process::metrics,
        process::openapi_json,
        process::home,
        process::console_file
    ),
    components(schemas(ProblemBody))
)]
struct Document;

/// Returns the document. With `has_keys`, it declares the bearer scheme and which routes need no key.
pub fn document(has_keys: bool) -> openapi::OpenApi {
    let mut document = Document::openapi();
    for item in document.paths.paths.values_mut() {
        for operation in operations(item) {
            // Any route may answer 400, 401, 403, 429, 503.
            let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
            let default =
                ResponseBuilder::new().description("A problem").content("application/problem+json", problem).build();
            operation.responses.responses.insert("default".to_owned(), default.into());
        }
    }
    if has_keys {
        let components = document.components.get_or_insert_with(Default::default);
        components.add_security_scheme("key", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
        document.security = Some(vec![SecurityRequirement::new("key", [] as [&str; 0])]);
        for path in OPEN.into_iter().chain([CONSOLE_FILE]) {
            for operation in document.paths.paths.get_mut(path).into_iter().flat_map(operations) {
                operation.security = Some(vec![SecurityRequirement::default()]);
            }
        }
    }
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut openapi::path::Operation> {
    item.get.iter_mut().chain(item.post.iter_mut())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::routes;
    use std::collections::BTreeSet;

    #[test]
    fn the_document_has_every_route_and_no_other() {
        let document = document(true);
        let described: BTreeSet<&str> = document.paths.paths.keys().map(String::as_str).collect();
        let served: BTreeSet<&str> = routes().into_iter().map(|(path, _)| path).collect();
        assert_eq!(described, served);
    }
}
