//! Claims about Snowplow's events, on fixtures of our own; and random ones, read twice.

use std::collections::BTreeMap;

use fastrand::Rng;
use usher_config::{Format, Found, Path, Step};

use super::fuzz::{STRINGS, mutate, object, pick, value};
use super::reference::{self, Answers, Shape, Tree};
use super::{UNREADABLE, compound, decode_as, outcome, paths, seeded, text, wrong_as};
use crate::snowplow::COLUMNS;
use crate::time;
use crate::{Decoder, Fields, NamedTime};

const ROWS: &str = include_str!("../../testdata/snowplow/events.tsv");
const EVENTS: &str = include_str!("../../testdata/snowplow/events.jsonl");
const LOSSLESS: &str = include_str!("../../testdata/snowplow/events_lossless.jsonl");

/// The same events in the three forms that they come in.
fn forms() -> [(Format, Vec<&'static str>); 3] {
    [
        (Format::SnowplowTsv, ROWS.lines().collect()),
        (Format::SnowplowJson, EVENTS.lines().collect()),
        (Format::SnowplowJson, LOSSLESS.lines().collect()),
    ]
}

/// A row that has something in some columns.
fn row(filled: &[(&str, &str)]) -> String {
    let of = |name: &&str| filled.iter().find(|(column, _)| column == name).map_or("", |(_, value)| value);
    for (column, _) in filled {
        assert!(COLUMNS.contains(column), "{column} is a column");
    }
    COLUMNS.iter().map(of).collect::<Vec<_>>().join("\t")
}

fn get(wanted: &str, row: &str) -> String {
    format!("{:?}", decode_as(&Format::SnowplowTsv, &[wanted], row).get(0))
}

fn wrong(wanted: &[&str], message: impl AsRef<[u8]>) -> String {
    wrong_as(&Format::SnowplowTsv, wanted, message.as_ref())
}

#[test]
fn kind_name_key_id_and_time_are_columns_in_all_forms() {
    let expected = [
        ("page_view", "page_view", text("u-1"), "c6ef3124-b53a-4b13-a233-0088f79dcbcb", 1795428000150),
        ("unstruct", "order_paid", text("u-2"), "5a305bf5-32fc-40d9-b0e8-66052f0f2c96", 1795428299000),
        ("struct", "add_to_cart", Found::Nothing, "be9520e7-16a5-4d4e-afa1-8e269f99a1cf", 1795428359007),
    ];
    for (format, messages) in forms() {
        for (message, (kind, name, key, id, time)) in messages.iter().zip(&expected) {
            let fields = decode_as(&format, &[], message);
            assert_eq!(*fields.kind(), text(kind));
            assert_eq!(*fields.name(), text(name));
            assert_eq!(fields.key(), key);
            assert_eq!(*fields.id(), text(id));
            assert_eq!(outcome(fields.time(Some(7))), Ok(*time), "{message}");
        }
    }
}

#[test]
fn one_path_reads_all_forms() {
    let lists = "unstruct_event_com_acme_shop_order_paid_2.lines.[*].sku";
    for (at, wanted, expected) in [
        (0, "page_urlpath", text("/pricing")),
        (0, "geo_city", text("Zürich")),
        (0, "useragent", text("Mozilla/5.0 (X11; \"odd\" \\ agent)")),
        (0, "refr_term", Found::Nothing),
        (0, "br_cookies", Found::Boolean(true)),
        (0, "dvce_ismobile", Found::Boolean(false)),
        (0, "br_features_pdf", Found::Nothing),
        (0, "contexts_com_acme_product_1.[0].sku", text("S-1")),
        (0, "contexts_com_acme_product_1.[1].price", Found::Number("7")),
        (0, "contexts_com_acme_product_1.[2].price", Found::Nothing),
        (0, "contexts_com_acme_product_1.[1].tags.[0]", text("warm")),
        (0, "contexts_com_acme_product_1.[0].tags.[*]", compound(r#"["warm","wool"]"#)),
        (0, "contexts_com_acme_product_1.[*].sku", compound(r#"["S-1","S-2"]"#)),
        (0, "contexts_com_acme_product_1.[*].tags.[1]", compound(r#"["wool","wool"]"#)),
        (0, "contexts_com_acme_product_1.[*].none", compound("[]")),
        (0, "contexts_com_acme_product_2.[*].sku", Found::Nothing),
        (0, "contexts_com_acme_product_1.sku", Found::Nothing),
        (0, "properties.contexts_com_acme_product_1.[1].sku", text("S-2")),
        (0, "contexts_com_snowplowanalytics_snowplow_web_page_1.[0].id", text("5a305bf5-32fc-40d9-b0e8-66052f0f2c95")),
        (0, "contexts_com_snowplowanalytics_snowplow_ua_parser_context_1.[0].useragentFamily", text("Firefox")),
        (0, "properties.revenue", Found::Nothing),
        (0, "properties", Found::Nothing),
        (1, "properties.revenue", Found::Number("49.95")),
        (1, "properties.coupon", Found::Nothing),
        (1, "properties.note", text("café\t\"9\"")),
        (1, "properties.lines.[1].n", Found::Number("1")),
        (1, "properties.lines.[*].n", compound("[2,1]")),
        (1, "unstruct_event_com_acme_shop_order_paid_2.revenue", Found::Number("49.95")),
        (1, "unstruct_event_com_acme_shop_order_paid_1.revenue", Found::Nothing),
        (1, lists, compound(r#"["S-1","S-9"]"#)),
        (2, "se_value", text("2.0")),
        (2, "se_category", text("cart")),
        (2, "none", Found::Nothing),
    ] {
        for (format, messages) in forms() {
            let fields = decode_as(&format, &["app_id", wanted, "platform"], messages[at]);
            let found = match fields.get(1) {
                // A row has no types.
                Found::Number(number) if matches!(expected, Found::Text(_)) => text(number),
                found => found.clone(),
            };
            assert_eq!(found, expected, "{wanted} of {format:?} {at}");
            assert_eq!([fields.get(0), fields.get(2)], [&text("shop"), &text("web")]);
        }
    }
}

#[test]
fn the_data_is_found_under_its_schema_and_as_properties_at_once() {
    let wanted = [
        "unstruct_event_com_acme_shop_order_paid_2.revenue",
        "properties.revenue",
        "properties.lines.[0].sku",
        "properties.lines.[*].sku",
        "properties.note",
    ];
    for (format, messages) in forms() {
        let fields = decode_as(&format, &wanted, messages[1]);
        assert_eq!([fields.get(0), fields.get(1)], [&Found::Number("49.95"); 2]);
        assert_eq!(*fields.get(2), text("S-1"));
        assert_eq!(*fields.get(3), compound(r#"["S-1","S-9"]"#));
        assert_eq!(*fields.get(4), text("café\t\"9\""));
    }
}

#[test]
fn the_json_of_a_column_is_reached_as_it_stands_there() {
    for (format, messages) in [forms()[0].clone(), forms()[2].clone()] {
        let schema = "contexts.data.[1].schema";
        let fields = decode_as(&format, &[schema, "derived_contexts.data.[*].data.useragentFamily"], messages[0]);
        assert_eq!(*fields.get(0), text("iglu:com.acme/Product/jsonschema/1-0-2"));
        assert_eq!(*fields.get(1), compound(r#"["Firefox"]"#));
        let wanted = ["unstruct_event.data.data.revenue", "properties.revenue", "unstruct_event.schema"];
        let fields = decode_as(&format, &wanted, messages[1]);
        assert_eq!([fields.get(0), fields.get(1)], [&Found::Number("49.95"); 2]);
        assert_eq!(*fields.get(2), text("iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0"));
    }
    let contexts = r#"{ "schema":"x", "data": [] }"#;
    assert_eq!(
        *decode_as(&Format::SnowplowTsv, &["contexts"], &row(&[("contexts", contexts)])).get(0),
        compound(contexts)
    );
}

#[test]
fn what_is_attached_is_one_list_of_both_columns() {
    let entity = |n: u32| format!(r#"{{"schema":"iglu:a/b/jsonschema/1-0-0","data":{{"n":{n}}}}}"#);
    let list = |of: &[u32]| {
        let entities: Vec<_> = of.iter().map(|n| entity(*n)).collect();
        format!(r#"{{"schema":"iglu:x/contexts/jsonschema/1-0-0","data":[{}]}}"#, entities.join(" , "))
    };
    let row = row(&[("contexts", &list(&[1, 2])), ("derived_contexts", &list(&[3]))]);
    let wanted = ["contexts_a_b_1", "contexts_a_b_1.[2].n", "contexts_a_b_1.[*].n", "contexts_a_b_1.[*]"];
    let fields = decode_as(&Format::SnowplowTsv, &wanted, &row);
    assert_eq!(*fields.get(0), compound(r#"[{"n":1},{"n":2},{"n":3}]"#));
    assert_eq!(*fields.get(1), Found::Number("3"));
    assert_eq!(*fields.get(2), compound("[1,2,3]"));
    assert_eq!(*fields.get(3), compound(r#"[{"n":1},{"n":2},{"n":3}]"#));
}

#[test]
fn a_schema_is_named_as_the_sdks_name_it() {
    for (schema, name) in [
        ("iglu:com.acme/product/jsonschema/1-0-2", "contexts_com_acme_product_1"),
        (r"iglu:com.acme\/product\/jsonschema\/1-0-2", "contexts_com_acme_product_1"),
        ("iglu:org.schema/WebPage/jsonschema/1-0-0", "contexts_org_schema_web_page_1"),
        ("iglu:com.Acme-shop/orderPaid-now/jsonschema/12-0-0", "contexts_com_acme_shop_order_paid_now_12"),
        ("iglu:a/HTTPRequest_Log.Item/jsonschema/1-0-0", "contexts_a_httprequest_log_item_1"),
        ("iglu:a/x9Y/jsonschema/1-0-0", "contexts_a_x9_y_1"),
    ] {
        let contexts = format!(r#"{{"data":[{{"schema":"{schema}","data":1}}]}}"#);
        assert_eq!(get(&format!("{name}.[0]"), &row(&[("contexts", &contexts)])), r#"Number("1")"#, "{schema}");
    }
    for schema in
        ["com.acme/b/jsonschema/1-0-0", "iglu:a/b/1-0-0", "iglu:a/b/jsonschema/x-0-0", "iglu:a/b/c/1-0-0/d", ""]
    {
        let contexts = format!(r#"{{"data":[{{"schema":"{schema}","data":1}}]}}"#);
        assert_eq!(get("contexts_a_b_1.[0]", &row(&[("contexts", &contexts)])), "Nothing", "{schema}");
    }
}

#[test]
fn a_wrapper_of_another_shape_holds_nothing() {
    for contexts in
        ["{}", r#"{"data":{}}"#, r#"{"data":[1,null,{},{"schema":1,"data":2}]}"#, r#"{"data":[],"data":null}"#]
    {
        let row = row(&[("contexts", contexts), ("unstruct_event", contexts)]);
        assert_eq!(get("contexts_a_b_1", &row), "Nothing", "{contexts}");
        assert_eq!(get("properties.a", &row), "Nothing", "{contexts}");
    }
    let event = r#"{"data":{"schema":"iglu:a/b/jsonschema/1-0-0","data":[1]}}"#;
    assert_eq!(get("properties", &row(&[("unstruct_event", event)])), "Nothing");
    assert_eq!(get("unstruct_event_a_b_1.[0]", &row(&[("unstruct_event", event)])), r#"Number("1")"#);
}

#[test]
fn a_null_beside_the_events_own_data_is_not_its_data() {
    let message = r#"{"unstruct_event_a_b_1":null,"unstruct_event_a_c_1":{"n":1},"unstruct_event_a_d_1":null,
        "properties":{"n":2}}"#;
    assert_eq!(*decode_as(&Format::SnowplowJson, &["properties.n"], message).get(0), Found::Number("1"));
}

#[test]
fn a_flag_that_is_none_is_text() {
    for (flag, found) in
        [("1", "Boolean(true)"), ("0", "Boolean(false)"), ("2", r#"Text("2")"#), ("true", r#"Text("true")"#)]
    {
        assert_eq!(get("br_features_silverlight", &row(&[("br_features_silverlight", flag)])), found);
    }
}

#[test]
fn the_event_time_falls_back_in_order() {
    let ten = 1795428000000;
    let (derived, exact) = (("derived_tstamp", "2026-11-23 10:00:00"), ("true_tstamp", "2026-11-23 10:00:01.000"));
    let collected = ("collector_tstamp", "2026-11-23 10:00:02");
    let (sent, created) =
        (("dvce_sent_tstamp", "2026-11-23 11:00:01"), ("dvce_created_tstamp", "2026-11-23 11:00:00.5"));
    for (filled, time) in [
        (vec![derived, exact, collected, sent, created], Ok(ten)),
        (vec![exact, collected, sent, created], Ok(ten + 1000)),
        (vec![collected, sent, created], Ok(ten + 1500)),
        (vec![collected, sent], Ok(ten + 2000)),
        (vec![collected, created], Ok(ten + 2000)),
        (vec![collected], Ok(ten + 2000)),
        (vec![sent, created], Ok(7)),
        (vec![], Ok(7)),
        (vec![("derived_tstamp", "soon"), collected], Err(UNREADABLE)),
        (vec![collected, ("dvce_sent_tstamp", "soon"), created], Err(UNREADABLE)),
    ] {
        assert_eq!(outcome(decode_as(&Format::SnowplowTsv, &[], &row(&filled)).time(Some(7))), time, "{filled:?}");
    }
}

#[test]
fn a_byte_order_mark_before_a_row_and_a_line_end_behind_it_are_no_part_of_it() {
    let (first, last) = (("app_id", "shop"), ("true_tstamp", "2026-11-23 10:00:00"));
    let plain = row(&[first, last]);
    for shown in ["\u{feff}ROW", "ROW\n", "ROW\r\n", "\u{feff}ROW\r\n"] {
        let message = shown.replace("ROW", &plain);
        let fields = decode_as(&Format::SnowplowTsv, &["app_id"], &message);
        assert_eq!(*fields.get(0), text("shop"), "{shown}");
        assert_eq!(fields.time(None), Ok(1795428000000), "{shown}");
    }
    let empty_last = format!("{}\n", row(&[first, ("collector_tstamp", "2026-11-23 10:00:00")]));
    assert_eq!(decode_as(&Format::SnowplowTsv, &[], &empty_last).time(None), Ok(1795428000000));
}

#[test]
fn a_row_has_131_columns_in_utf8() {
    assert_eq!(wrong(&[], "\t".repeat(130)), "");
    assert_eq!(wrong(&[], "\t".repeat(129)), "not a row of 131 columns: it has 130");
    assert_eq!(wrong(&[], "\t".repeat(131)), "not a row of 131 columns: it has 132");
    assert_eq!(wrong(&[], "no row"), "not a row of 131 columns: it has 1");
    assert_eq!(wrong(&[], "{}"), "not a row of 131 columns: it has 1");
    assert_eq!(wrong(&[], format!("{}x", "y\t".repeat(500))), "not a row of 131 columns: it has 501");
    let mut bytes = "\t".repeat(130).into_bytes();
    bytes.insert(3, 0xff);
    assert_eq!(wrong(&[], bytes), "not UTF-8 at byte 3");
}

#[test]
fn a_broken_json_column_is_malformed_where_it_is_needed() {
    let start = row(&[("app_id", "shop")]).find("shop").map(|_| "shop".len() + 52).expect("52 columns before");
    let deep = format!(r#"{{"data":{}1{}}}"#, "[".repeat(127), "]".repeat(127));
    let deeper = format!(r#"{{"data":{}1{}}}"#, "[".repeat(128), "]".repeat(128));
    for (contexts, at, error) in [
        ("[]", 0, "not one JSON object"),
        ("{} {}", 3, "not one JSON object"),
        ("{\"a\":1", 6, "not JSON: expected `,` or `}`"),
        ("{\"a\":\"x}", 8, "not JSON: expected `\"`"),
        ("{\"data\":[1,}", 11, "not JSON: expected a value"),
        ("x", 0, "not one JSON object"),
        (" {\"a\":1} ", 0, ""),
        (deep.as_str(), 0, ""),
        (deeper.as_str(), 135, "deeper than 128 levels"),
        (r#"{"data":[{"schema":"iglu:a/b/c/1-0-0","data":{"n":01}}]}"#, 50, "broken number or literal"),
        (r#"{"data":[{"schema":"iglu:a/other/c/1-0-0","data":{"n":01}}]}"#, 0, ""),
    ] {
        let message = row(&[("app_id", "shop"), ("contexts", contexts)]);
        let expected = if error.is_empty() { String::new() } else { format!("{error} at byte {}", start + at) };
        assert_eq!(wrong(&["contexts_a_b_1.[0].n"], &message), expected, "{contexts}");
        assert_eq!(wrong(&["page_url", "properties.a"], &message), "", "nobody needs {contexts}");
    }
    // It ends with its column.
    let row = row(&[("contexts", "{\"a\":\""), ("se_category", "\"}")]);
    assert_ne!(wrong(&["contexts"], &row), "");
}

#[test]
fn random_events_are_read_as_the_obvious_reader_reads_them() {
    compare(fastrand::u64(..), 20_000);
}

fn compare(seed: u64, rounds: usize) {
    let mut rng = seeded(seed);
    let jobs: Vec<_> = jobs()
        .into_iter()
        .flat_map(|paths| [Format::SnowplowTsv, Format::SnowplowJson].map(|format| (format, paths.clone())))
        .map(|(format, paths)| (Decoder::new(&format, &paths), format, paths))
        .collect();
    let mut met = BTreeMap::new();
    for round in 0..rounds {
        let (decoder, format, paths) = &jobs[rng.usize(..jobs.len())];
        let message = message(&mut rng, format);
        let mut fields = Fields::default();
        if rng.bool() {
            // Left over from another message.
            let leftover = if *format == Format::SnowplowTsv { ROWS } else { EVENTS };
            let _ = decoder.decode(leftover.lines().next().expect("a line").as_bytes(), None, &mut fields);
        }
        let verdict = decoder.decode(&message, None, &mut fields);
        let expected = obvious(format, paths, &message);
        let shown = || format!("seed {seed}, round {round}, {format:?} {paths:?}, {}", message.escape_ascii());
        let mut note = |what: String| *met.entry(format!("{format:?} {what}")).or_insert(0) += 1;
        match (&verdict, &expected) {
            (Ok(_), Some(expected)) => {
                let got = Answers::of(&fields, paths.len(), expected.times.clone().unwrap_or_default());
                assert_eq!(got, *expected, "{}", shown());
                if let Some(times) = &expected.times {
                    let [derived, exact, collected, sent, created] = &times[..] else { unreachable!("five times") };
                    let named = |path, found| NamedTime { path, found };
                    let time = time::of_snowplow(
                        named("derived_tstamp", derived),
                        named("true_tstamp", exact),
                        named("collector_tstamp", collected),
                        named("dvce_sent_tstamp", sent),
                        named("dvce_created_tstamp", created),
                    );
                    assert_eq!(fields.time(None), time, "{}", shown());
                }
                for (_, malformed) in &fields.broken {
                    assert!(malformed.at <= message.len(), "{}", shown());
                    note(format!("{:?}", malformed.what));
                }
                let found = got.paths.iter().map(|found| found.as_ref().unwrap_or(&Found::Nothing));
                for (path, found) in paths.iter().zip(found).filter(|(_, found)| **found != Found::Nothing) {
                    note(format!("{path} is {}", format!("{found:?}").split('(').next().unwrap_or_default()));
                }
            }
            (Err(malformed), None) => {
                assert!(malformed.at <= message.len(), "{}", shown());
                note(format!("{:?}", malformed.what).split('(').next().unwrap_or_default().to_owned());
            }
            _ => panic!("{verdict:?}, but {expected:?}: {}", shown()),
        }
    }
    for what in [
        "SnowplowTsv Columns",
        "SnowplowTsv BrokenString",
        "SnowplowTsv BrokenNumber",
        "SnowplowTsv NotOneObject",
        "SnowplowTsv NotUtf8",
        "SnowplowTsv br_cookies is Boolean",
        "SnowplowJson NotUtf8",
        "SnowplowJson BrokenString",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain(["SnowplowTsv", "SnowplowJson"].into_iter().flat_map(|format| {
        [
            "contexts_com_acme_product_1[0].a is Text",
            "contexts_com_acme_product_1[1] is Compound",
            "contexts_com_acme_product_1[*].a is Compound",
            "contexts_com_acme_product_1[*].list[*] is Compound",
            "contexts_com_acme_product_1 is Compound",
            "properties.a is Text",
            "properties is Compound",
            "contexts.data[0].schema is Text",
            "unstruct_event is Compound",
            "page_url is Text",
        ]
        .map(|what| format!("{format} {what}"))
    })) {
        assert!(met.contains_key(&what), "seed {seed}: never {what} in {met:?}");
    }
}

fn jobs() -> Vec<Vec<Path>> {
    let mut all = paths(&[
        "contexts_com_acme_product_1.[0].a",
        "contexts_com_acme_product_1.[1]",
        "contexts_com_acme_product_1.[*].a",
        "contexts_com_acme_product_1.[*].list.[*]",
        "contexts_com_acme_product_1.[0].list.[*].a",
        "contexts_com_acme_product_1",
        "contexts_com_acme_product_1.a",
        "contexts_com_acme_web_page_2.[0]",
        "unstruct_event_com_acme_product_1",
        "unstruct_event_com_acme_web_page_2.a",
        "properties.a",
        "properties.list.[*].a",
        "properties",
        "contexts.data.[0].schema",
        "contexts.data.[*].data.a",
        "contexts",
        "unstruct_event",
        "derived_contexts.data.[0].data",
        "page_url",
        "page_url.x",
        "br_cookies",
        "none",
    ]);
    let few = paths(&["properties.a", "properties.contexts_com_acme_product_1.[0].a", "page_url"]);
    let by_schema = all[..10].to_vec();
    let raw = all[13..18].to_vec();
    let entity_only = vec![all.remove(2)];
    vec![all, few, by_schema, raw, entity_only, Vec::new(), paths(&["br_cookies", "page_url"])]
}

const SCHEMAS: &[&str] = &[
    "iglu:com.acme/Product/jsonschema/1-0-0",
    "iglu:com.acme/product/jsonschema/1-2-0",
    r"iglu:com.acme\/product/jsonschema/1-0-1",
    "iglu:com-acme/webPage/jsonschema/2-0-0",
    "iglu:com.acme/web_page/jsonschema/2-0-0",
    "iglu:com.acme/other/jsonschema/1-0-0",
    "iglu:com.acme/product",
    "",
    "\\x",
];

fn message(rng: &mut Rng, format: &Format) -> Vec<u8> {
    let mut bytes = match format {
        Format::SnowplowTsv => random_row(rng),
        _ => random_object(rng),
    }
    .into_bytes();
    if rng.u32(..4) == 0 {
        for _ in 0..rng.usize(1..4) {
            mutate(rng, &mut bytes);
        }
    }
    bytes
}

fn random_row(rng: &mut Rng) -> String {
    let count = if rng.u32(..30) == 0 { rng.usize(125..140) } else { COLUMNS.len() };
    let mut columns = Vec::new();
    for i in 0..count {
        columns.push(match COLUMNS.get(i) {
            Some(&"contexts" | &"derived_contexts") if rng.u32(..3) > 0 => wrapper(rng, true),
            Some(&"unstruct_event") if rng.u32(..3) > 0 => wrapper(rng, false),
            Some(name) if name.ends_with("_tstamp") => time_of_day(rng),
            Some(&"event") => pick(rng, &["struct", "page_view", "unstruct", ""]).to_owned(),
            _ if rng.u32(..3) == 0 => pick(rng, STRINGS).to_owned(),
            _ if rng.u32(..3) == 0 => rng.u32(..3).to_string(),
            _ => String::new(),
        });
    }
    // White space of JSON that is a tab would divide nearly all.
    if rng.u32(..20) > 0 {
        columns.iter_mut().for_each(|column| *column = column.replace('\t', " "));
    }
    columns.join("\t")
}

fn random_object(rng: &mut Rng) -> String {
    let mut members = Vec::new();
    for _ in 0..rng.usize(..12) {
        let mut text = String::new();
        let name = match rng.u32(..9) {
            0 => {
                let name = pick(rng, &["contexts", "derived_contexts"]);
                text = wrapper(rng, true);
                name
            }
            1 => {
                text = wrapper(rng, false);
                pick(rng, &["unstruct_event", "unstruct\\u005fevent"])
            }
            2 => {
                let name = pick(
                    rng,
                    &["unstruct_event_com_acme_product_1", "unstruct_event_com_acme_web_page_2", "properties"],
                );
                value(rng, &mut text, 3);
                name
            }
            3 => {
                let name = pick(rng, &["contexts_com_acme_product_1", "contexts_com_acme_web_page_2"]);
                let count = rng.usize(..3);
                let objects: Vec<_> = (0..count).map(|_| random_data(rng)).collect();
                text = format!("[{}]", objects.join(","));
                name
            }
            4 => {
                text = format!("\"{}\"", time_of_day(rng).replace(' ', "T"));
                pick(
                    rng,
                    &["derived_tstamp", "true_tstamp", "collector_tstamp", "dvce_sent_tstamp", "dvce_created_tstamp"],
                )
            }
            5 => {
                text = format!("\"{}\"", pick(rng, &["struct", "page_view", "unstruct"]));
                "event"
            }
            _ => {
                let name =
                    pick(rng, &["event_name", "se_action", "user_id", "event_id", "page_url", "br_cookies", "none"]);
                value(rng, &mut text, 2);
                name
            }
        };
        members.push(format!("\"{name}\":{text}"));
    }
    format!("{{{}}}", members.join(", "))
}

fn time_of_day(rng: &mut Rng) -> String {
    match rng.u32(..8) {
        0..4 => String::new(),
        4 => "soon".to_owned(),
        _ => format!("2026-11-23 10:{:02}:{:02}.{:03}", rng.u32(..60), rng.u32(..60), rng.u32(..1000)),
    }
}

fn random_data(rng: &mut Rng) -> String {
    let mut text = String::new();
    if rng.u32(..8) > 0 {
        object(rng, &mut text, 2)
    } else {
        value(rng, &mut text, 2)
    }
    text
}

/// What stands in a column of JSON: mostly a list of described objects, or one.
fn wrapper(rng: &mut Rng, list: bool) -> String {
    let mut members = Vec::new();
    let count = if rng.u32(..12) > 0 { 1 } else { rng.usize(..3) };
    for _ in 0..count {
        let data = if rng.u32(..20) == 0 {
            random_data(rng)
        } else if list {
            let entities: Vec<_> = (0..rng.usize(..6)).map(|_| described(rng)).collect();
            format!("[{}]", entities.join(","))
        } else {
            described(rng)
        };
        members.push(format!("\"data\":{data}"));
    }
    if rng.bool() {
        members.push(format!("\"schema\":\"{}\"", pick(rng, SCHEMAS)));
    }
    rng.shuffle(&mut members);
    format!("{{{}}}", members.join(","))
}

fn described(rng: &mut Rng) -> String {
    let mut members = Vec::new();
    for _ in 0..if rng.u32(..12) > 0 { 1 } else { rng.usize(..3) } {
        members.push(format!("\"data\":{}", random_data(rng)));
    }
    for _ in 0..if rng.u32(..12) > 0 { 1 } else { rng.usize(..3) } {
        let schema = if rng.bool() { pick(rng, &SCHEMAS[..4]) } else { pick(rng, SCHEMAS) };
        members.push(format!("\"schema\":\"{schema}\""));
    }
    if rng.u32(..12) == 0 {
        members.push(format!("\"data\\u0061\":{}", random_data(rng)));
    }
    rng.shuffle(&mut members);
    format!("{{ {}}}", members.join(" ,"))
}

/// The reader again, the obvious way: make of an event the JSON object that the SDKs would, and look paths up in it.
fn obvious<'a>(format: &Format, paths: &[Path], message: &'a [u8]) -> Option<Answers<'a>> {
    let message = message.strip_prefix(b"\xef\xbb\xbf").unwrap_or(message);
    let message = std::str::from_utf8(message).ok()?;
    let meant: Vec<_> = paths.iter().map(meant).collect();
    let members = match format {
        Format::SnowplowTsv => members_of_row(&meant, message)?,
        _ => members_of_object(message)?,
    };
    let tree = Tree { text: "", shape: Shape::Object(members) };
    let one = |name: &str| reference::found(&tree, &[Step::Key(name.to_owned())]);
    let kind = one("event");
    let times = ["derived_tstamp", "true_tstamp", "collector_tstamp", "dvce_sent_tstamp", "dvce_created_tstamp"];
    Some(Answers {
        name: one(if kind == Some(text("struct")) { "se_action" } else { "event_name" }),
        kind,
        key: one("user_id"),
        id: one("event_id"),
        times: times.iter().map(|name| one(name)).collect(),
        paths: meant.iter().map(|path| reference::found(&tree, &path.0)).collect(),
    })
}

fn meant(path: &Path) -> Path {
    match &path.0[..] {
        [Step::Key(first), Step::Key(second), ..] if first == "properties" && second.starts_with("contexts_") => {
            Path(path.0[1..].to_vec())
        }
        _ => path.clone(),
    }
}

type Members<'a> = Vec<(&'a str, Tree<'a>)>;

/// In quotes, for as long as the test runs.
fn quoted(text: &str) -> &'static str {
    serde_json::to_string(text).expect("a string is JSON").leak()
}

fn said(quoted: &str) -> Option<String> {
    reference::string(quoted).map(|text| text.unwrap_or_else(|mended| mended))
}

fn members_of_row<'a>(paths: &[Path], text: &'a str) -> Option<Members<'a>> {
    let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    let columns: Vec<_> = text.split('\t').collect();
    if columns.len() != 131 {
        return None;
    }
    let starts = |with: &str| {
        let first = |path: &Path| matches!(&path.0[0], Step::Key(first) if first.starts_with(with));
        paths.iter().any(first)
    };
    let mut members = Vec::new();
    let (mut wrappers, mut event) = (Vec::new(), None);
    for (name, value) in COLUMNS.iter().zip(columns) {
        let flag = name.starts_with("br_features_") || ["br_cookies", "dvce_ismobile"].contains(name);
        let tree = match (*name, value) {
            (_, "") => continue,
            ("contexts" | "derived_contexts", _) => {
                if !starts("contexts_") && !paths.iter().any(|path| path.0[0] == Step::Key((*name).to_owned())) {
                    continue;
                }
                let tree = reference::object(value)?;
                wrappers.push(tree.clone());
                tree
            }
            ("unstruct_event", _) => {
                if !starts("unstruct_event") && !starts("properties") {
                    continue;
                }
                let tree = reference::object(value)?;
                event = Some(tree.clone());
                tree
            }
            (_, "0") if flag => Tree { text: "false", shape: Shape::Word },
            (_, "1") if flag => Tree { text: "true", shape: Shape::Word },
            _ => Tree { text: quoted(value), shape: Shape::Text },
        };
        members.push((quoted(name), tree));
    }
    add_lists(&wrappers, &mut members);
    add_event(event.as_ref(), &mut members);
    Some(members)
}

fn members_of_object(text: &str) -> Option<Members<'_>> {
    let Shape::Object(mut members) = reference::object(text)?.shape else {
        unreachable!("it was asked for an object");
    };
    members.retain(|(name, _)| said(name).as_deref() != Some("properties"));
    let last = |wanted: &str| {
        let found = members.iter().rfind(|(name, _)| said(name).as_deref() == Some(wanted));
        found.map(|(_, tree)| tree).filter(|tree| matches!(tree.shape, Shape::Object(_))).cloned()
    };
    let wrappers: Vec<_> = ["contexts", "derived_contexts"].into_iter().filter_map(last).collect();
    let event = last("unstruct_event");
    let by_schema = members.iter().rfind(|(name, tree)| {
        said(name).is_some_and(|name| name.starts_with("unstruct_event_")) && matches!(tree.shape, Shape::Object(_))
    });
    let by_schema = by_schema.map(|(_, tree)| tree.clone());
    add_lists(&wrappers, &mut members);
    add_event(event.as_ref(), &mut members);
    members.extend(by_schema.map(|tree| (quoted("properties"), tree)));
    Some(members)
}

/// The schema's parts and the data of a described object.
fn parts<'a>(tree: &Tree<'a>) -> Option<([String; 3], Tree<'a>)> {
    let member = |name: &str| reference::at(tree, &[Step::Key(name.to_owned())]);
    let (schema, data) = (member("schema")?, member("data")?);
    let Shape::Text = schema.shape else {
        return None;
    };
    let schema = said(schema.text)?;
    let [vendor, name, _, version] = schema.strip_prefix("iglu:")?.split('/').collect::<Vec<_>>()[..] else {
        return None;
    };
    let under = snake_case(name);
    let model = version.split('-').next()?;
    Some(([vendor.replace(['.', '-'], "_").to_lowercase(), under, model.to_owned()], data.clone()))
}

/// A `_` before each capital that follows what is neither a capital nor `_`.
fn snake_case(name: &str) -> String {
    let chars: Vec<_> = name.replace(['.', '-'], "_").chars().collect();
    let mut snake = String::new();
    for (i, char) in chars.iter().enumerate() {
        if i > 0 && char.is_ascii_uppercase() && !chars[i - 1].is_ascii_uppercase() && chars[i - 1] != '_' {
            snake.push('_');
        }
        snake.push(char.to_ascii_lowercase());
    }
    snake
}

fn is_there(members: &Members<'_>, wanted: &str) -> bool {
    members.iter().any(|(name, _)| said(name).as_deref() == Some(wanted))
}

fn add_lists<'a>(wrappers: &[Tree<'a>], members: &mut Members<'a>) {
    let mut lists: BTreeMap<String, Vec<Tree<'a>>> = BTreeMap::new();
    for wrapper in wrappers {
        let Some(Tree { shape: Shape::Array(list), .. }) = reference::at(wrapper, &[Step::Key("data".to_owned())])
        else {
            continue;
        };
        for (name, data) in list.iter().filter_map(parts) {
            lists.entry(format!("contexts_{}", name.join("_"))).or_default().push(data);
        }
    }
    for (name, list) in lists {
        if !is_there(members, &name) {
            let text = format!("[{}]", list.iter().map(reference::strict).collect::<Vec<_>>().join(",")).leak();
            members.push((quoted(&name), Tree { text, shape: Shape::Array(list) }));
        }
    }
}

fn add_event<'a>(wrapper: Option<&Tree<'a>>, members: &mut Members<'a>) {
    let described = wrapper.and_then(|wrapper| reference::at(wrapper, &[Step::Key("data".to_owned())]));
    let Some(described) = described else {
        return;
    };
    if let Some((name, data)) = parts(described) {
        let name = format!("unstruct_event_{}", name.join("_"));
        if !is_there(members, &name) {
            members.push((quoted(&name), data));
        }
    }
    let data = reference::at(described, &[Step::Key("data".to_owned())]);
    if let Some(data @ Tree { shape: Shape::Object(_), .. }) = data {
        members.push((quoted("properties"), data.clone()));
    }
}
