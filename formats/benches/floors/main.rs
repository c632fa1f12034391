//! Reads a file of Segment messages, one a line, in the least that it takes, as a process of its own: a floor of any program that reads them.
//!
//! ```text
//! cargo bench --profile dist -p usher-formats --bench floors -- FILE serde   # by `serde_json`, into borrowed fields
//! cargo bench --profile dist -p usher-formats --bench floors -- FILE walk    # by this crate's decoder, for the format's own fields
//! ```
//!
//! `scripts/bench` runs it in turns with the programs that it measures. Prints nothing, and panics if a message is not JSON.

#[allow(dead_code)]
mod reading;

use std::path::Path;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [file, "serde"] => reading::serde(Path::new(file)),
        [file, "walk"] => reading::walk(Path::new(file)),
        _ => panic!("wants FILE and `serde` or `walk`"),
    }
}
