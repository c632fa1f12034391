//! Rows of Snowplow's: what splits into 131 columns, and only that, can be read; columns of text are what was split off.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use usher_config::{Format, Found};
use usher_fuzz::formats::Decoder;
use usher_fuzz::{paths, read, snowplow};

static ALL: LazyLock<(Decoder, usize)> = LazyLock::new(|| snowplow(Format::SnowplowTsv));
static TEXT: LazyLock<Decoder> =
    LazyLock::new(|| Decoder::new(&Format::SnowplowTsv, &paths(&["app_id", "page_url", "true_tstamp"])));

fuzz_target!(|bytes: &[u8]| {
    read(&ALL.0, ALL.1, bytes);
    // Few bytes make a row where those that are missing are put behind them.
    let tabs = bytes.iter().filter(|byte| **byte == b'\t').count();
    let mut row = bytes.to_vec();
    row.resize(bytes.len() + 130usize.saturating_sub(tabs), b'\t');
    read(&ALL.0, ALL.1, &row);
    let text = std::str::from_utf8(&row).ok();
    let columns: Option<Vec<_>> =
        text.map(|text| text.split('\t').collect()).filter(|columns: &Vec<_>| columns.len() == 131);
    let found = read(&TEXT, 3, &row);
    assert_eq!(found.is_some(), columns.is_some());
    if let (Some(found), Some(columns)) = (found, columns) {
        for (found, column) in found[4..].iter().zip([0, 29, 130]) {
            match found {
                Found::Nothing => assert_eq!(columns[column], ""),
                Found::Text(text) => assert_eq!(columns[column], text),
                other => panic!("{other:?} in a column of text"),
            }
        }
    }
});
