//! The JSON scanner against the library's parser: what the library takes, the scanner takes, with equal answers.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use usher_config::{Format, JsonPaths, Path};
use usher_fuzz::formats::Decoder;
use usher_fuzz::{paths, read, same};

static PATHS: LazyLock<Vec<Path>> = LazyLock::new(|| {
    paths(&[
        "a",
        "a.a",
        "a[0]",
        "a[1].a",
        "b.\"c d\"",
        "l[*]",
        "l[*].a",
        "l[*].l[*].a",
        "type",
        "messageId",
        "context.page.path",
    ])
});
static DECODERS: LazyLock<[Decoder; 2]> = LazyLock::new(|| {
    let path = |text: &str| Some(Path::parse(text).expect("a path"));
    let json = JsonPaths {
        kind: path("type"),
        name: path("a.a"),
        key: path("a[0]"),
        time: path("t"),
        id: None,
        properties: path("a"),
    };
    [Format::Segment, Format::Json(json)].map(|format| Decoder::new(&format, &PATHS))
});

fuzz_target!(|message: &[u8]| {
    let library = serde_json::from_slice::<Value>(message).ok().filter(Value::is_object);
    for decoder in &*DECODERS {
        let found = read(decoder, PATHS.len(), message);
        if let Some(value) = &library {
            let found = found.expect("the library takes it");
            for (path, found) in PATHS.iter().zip(&found[4..]) {
                same(found, value, path);
            }
        }
    }
});
