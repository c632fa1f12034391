//! Snowplow's JSON: what the library takes can be read, but for what is named by schema with the library's answers.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use usher_config::{Format, Path, Step};
use usher_fuzz::formats::Decoder;
use usher_fuzz::{read, same, snowplow, snowplow_paths};

static PATHS: LazyLock<Vec<Path>> = LazyLock::new(snowplow_paths);
static DECODER: LazyLock<(Decoder, usize)> = LazyLock::new(|| snowplow(Format::SnowplowJson));

fuzz_target!(|message: &[u8]| {
    let found = read(&DECODER.0, DECODER.1, message);
    if let Some(value) = serde_json::from_slice::<Value>(message).ok().filter(Value::is_object) {
        let found = found.expect("the library takes it");
        for (path, found) in PATHS.iter().zip(&found[4..]) {
            // What is named by schema may be put together of other members.
            let by_schema = matches!(&path.0[0], Step::Key(first) if first == "properties" || first.contains("_a_b_1"));
            if !by_schema {
                same(found, &value, path);
            }
        }
    }
});
