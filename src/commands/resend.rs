//! `usher resend`: asks for a sync's ledger that begins anew.
//!
//! Promises: the request is durable when this returns, and takes effect once, at the next start of the job; a job that runs is not
//! disturbed.

use crate::exit::Exit;
use crate::open::{self, load};
use crate::terminal::print_stderr;
use std::path::Path;

/// Asks for a ledger of the sync `id` that begins anew.
pub fn resend(job: &Path, id: &str) -> Result<(), Exit> {
    let loaded = load(job)?;
    let syncs = &loaded.plan.job.syncs;
    let Some(index) = syncs.keys().position(|known| known == id) else {
        let known: Vec<String> = syncs.keys().map(|id| format!("`{id}`")).collect();
        let hint = match usher_config::nearest(id, syncs.keys().map(String::as_str)) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("the job's syncs are {}", known.join(", ")),
        };
        return Err(Exit::wrong(format_args!("`{}` has no sync `{id}`", job.display())).hint(hint));
    };
    open::resend_sync(&loaded, index, id)?;
    print_stderr(format_args!(
        "the ledger of sync `{id}` begins anew at the next start: all members are then sent again"
    ));
    Ok(())
}
