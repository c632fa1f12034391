//! Job files: any text is a job or has problems; a job is compiled, or has problems too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use usher_queries::{Schemas, check_salvage, compile};

fuzz_target!(|text: &str| {
    let variable = |name: &str| (name.len() % 2 == 0).then(|| name.to_lowercase());
    match usher_config::parse_or_salvage(text, "job.yaml", "/".as_ref(), &variable, &|_| Ok(Vec::new())) {
        Ok(job) => {
            let _ = compile(&job, "job.yaml", &Schemas::new());
        }
        Err(broken) => {
            let _ = broken.problems.to_string();
            if let Some(salvage) = broken.salvage {
                let _ = check_salvage(&salvage, &Schemas::new());
            }
        }
    }
});
