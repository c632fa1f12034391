//! `usher explain`: the plan as text.

use crate::exit::Exit;
use crate::open::load;
use std::path::Path;

/// Prints the plan, or the part of it that one audience uses.
pub fn explain(path: &Path, audience: Option<&str>) -> Result<(), Exit> {
    let loaded = load(path)?;
    let text = usher_queries::explain::explain(&loaded.plan, audience).map_err(Exit::wrong)?;
    super::print(&text)
}
