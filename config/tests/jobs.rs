//! The job that the text of a file stands for.

use std::path::Path as FilePath;
use usher_config::*;
use usher_core::time::Unit;

fn parse(text: &str) -> Result<Job, Problems> {
    usher_config::parse(text, "job.yaml", FilePath::new("/jobs"), &|name| match name {
        "COUNT" => Some("3".to_owned()),
        "FOLLOW" => Some("true".to_owned()),
        "PAGE" => Some("404".to_owned()),
        _ => None,
    })
}

fn job(text: &str) -> Job {
    parse(text).unwrap_or_else(|problems| panic!("{problems}"))
}

fn example(name: &str) -> Job {
    let path = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    job(&std::fs::read_to_string(path).expect("a readable example"))
}

fn place(path: &str, line: u32, column: u32) -> Place {
    Place { path: path.to_owned(), line, column, ..Place::default() }
}

fn decimal(text: &str) -> Decimal {
    Decimal::parse(text).expect("a number")
}

const BASE: &str = "
job: j
sources: {web: {file: {path: e.jsonl}, format: segment}}
models:
  users: {parquet: users/, key: id}
  orders: {parquet: orders/, key: id, belongs_to: {model: users, foreign_key: user_id}}
events: {viewed: {source: web, model: users}}
";

/// The condition of an audience of users.
fn condition(text: &str) -> ConditionKind {
    let job = job(&format!("{BASE}audiences: {{a: {{model: users, where: {text}}}}}"));
    job.audiences["a"].condition.kind.clone()
}

#[test]
fn a_model_is_in_files_or_in_a_delta_table() {
    let model = |text: &str| parse(&format!("job: j\nmodels: {{users: {{{text}, key: id}}}}"));
    let parquet = |text: &str| model(text).map(|job| job.models["users"].parquet.clone().expect("it has Parquet"));
    let delta = |at| Ok(Parquet::Delta(DeltaTable { url: "lake/users".into(), at }));
    assert_eq!(parquet("parquet: users/"), Ok(Parquet::Files("users/".into())));
    assert_eq!(parquet("delta: lake/users"), delta(TableVersion::Newest));
    assert_eq!(parquet("delta: {url: lake/users}"), delta(TableVersion::Newest));
    assert_eq!(parquet("delta: {url: lake/users, version: 12}"), delta(TableVersion::Number(12)));
    let at = delta(TableVersion::Time(1_793_491_200_000));
    assert_eq!(parquet("delta: {url: lake/users, timestamp: 2026-11-01T00:00:00Z}"), at);
    assert_eq!(parquet("delta: {url: lake/users, timestamp: 2026-11-01}"), at);
    let shown = |at| Parquet::Delta(DeltaTable { url: "t".into(), at }).to_string();
    assert_eq!(shown(TableVersion::Newest), "delta t");
    assert_eq!(shown(TableVersion::Number(3)), "delta t, version 3");
    let job = model("delta: lake/users, refresh: 5m, min_rows: 1").expect("a table is pulled as files are");
    assert_eq!((job.models["users"].members, job.models["users"].refresh), (Members::Known, Refresh::Every(300_000)));

    let refused = |text: &str, want: &str| {
        let problems = model(text).expect_err(text).to_string();
        assert!(problems.contains(want), "{text}: {problems}");
    };
    refused("delta: t, parquet: u", "only one location of rows may stand here, not `parquet` and `delta`");
    refused("delta: t, force_files: true", "`force_files` needs `parquet`, which is missing");
    refused("refresh: 5m", "`refresh` needs `parquet` or `delta`, which is missing");
    refused("delta: {url: t, version: 1, timestamp: 2026-11-01}", "only one version may stand here");
    refused("delta: {url: t, timestamp: lately}", "models.users.delta.timestamp: `lately` is not a time");
    refused("delta: {version: 1}", "`url` is missing");
    refused("delta: lake/*", "models.users.delta: `lake/*` has a wildcard, and a table is one folder");
    refused("delta: ~/t", "models.users.delta: `~/t` would be a folder with the name `~`");
    refused("delta: {url: \"ftp://h/t\"}", "models.users.delta.url: a snapshot can't be at `ftp://`");
    let keyless = parse("job: j\nmodels: {users: {delta: t}}").expect_err("no key").to_string();
    assert!(keyless.contains("`delta` needs `key`, which is missing"), "{keyless}");
}

#[test]
fn a_timestamp_may_have_a_unit_and_nothing_else_may() {
    let event =
        |property: &str| format!("{BASE}  bought: {{source: web, model: users, properties: {{at: {property}}}}}\n");
    let events = |property: &str| {
        event(property)
            .replace("events: {viewed: {source: web, model: users}}", "events:\n  viewed: {source: web, model: users}")
    };
    for (written, unit) in [
        ("timestamp", None),
        ("{type: timestamp}", None),
        ("{type: timestamp, unit: s}", Some(Unit::Seconds)),
        ("{type: timestamp, unit: ms}", Some(Unit::Millis)),
        ("{type: timestamp, unit: us}", Some(Unit::Micros)),
        ("{path: a.b, type: timestamp, unit: ns}", Some(Unit::Nanos)),
    ] {
        assert_eq!(job(&events(written)).events["bought"].properties["at"].unit, unit, "{written}");
    }
    let problem = |written: &str| parse(&events(written)).expect_err(written).to_string();
    let text = problem("{type: integer, unit: s}");
    assert!(text.contains("`unit` goes with `type: timestamp`, not with `integer`"), "{text}");
    let text = problem("{type: timestamp, unit: seconds}");
    assert!(text.contains("unknown unit `seconds`\n  hint: it is one of `s`, `ms`, `us` or `ns`"), "{text}");
}

#[test]
fn the_shop_is_read_as_written() {
    let job = example("shop.yaml");
    assert_eq!(job.name, "shop");
    assert_eq!(job.folder, FilePath::new("/jobs"));
    let web = &job.sources["web"];
    assert_eq!(web.from, SourceFrom::File { path: "events.jsonl".to_owned(), follow: true });
    assert_eq!((&web.format, &web.place), (&Format::Segment, &place("sources.web", 5, 3)));
    let users = &job.models["users"];
    assert_eq!(users.parquet, Some(Parquet::Files("warehouse/users/".into())));
    assert_eq!((users.refresh, users.members), (Refresh::Every(86_400_000), Members::Known));
    assert_eq!(users.columns["plan"], ColumnType::String);
    assert_eq!(job.models["orders"].belongs_to.as_ref().map(|parent| parent.model.as_str()), Some("users"));
    let viewed = &job.events["pricing_viewed"];
    assert_eq!((viewed.kind.as_deref(), viewed.names.as_slice()), (Some("page"), &[][..]));
    assert_eq!(viewed.foreign_key, Path::parse("userId").ok());
    assert_eq!(viewed.properties["path"].path.to_string(), "properties.path");
    assert_eq!(viewed.properties["channel"].path.to_string(), "context.channel");
    let audience = &job.audiences["high_intent"];
    assert_eq!(audience.name, "High-intent pricing visitors");
    let all = "audiences.high_intent.where.all";
    let expected = ConditionKind::All(vec![
        Condition {
            place: place(&format!("{all}[0]"), 39, 11),
            kind: ConditionKind::Performed {
                event: "pricing_viewed".to_owned(),
                filter: Some(Text {
                    value: "path = '/pricing'".to_owned(),
                    place: place(&format!("{all}[0].where"), 39, 46),
                }),
                aggregate: Aggregate::Count,
                comparison: Comparison::AtLeast(decimal("3")),
                within: 4 * 3_600_000,
            },
        },
        Condition {
            place: place(&format!("{all}[1]"), 40, 11),
            kind: ConditionKind::Property(Text {
                value: "ltv > 300".to_owned(),
                place: place(&format!("{all}[1].property"), 40, 21),
            }),
        },
        Condition {
            place: place(&format!("{all}[2]"), 41, 11),
            kind: ConditionKind::Not(Box::new(Condition {
                place: place(&format!("{all}[2].not"), 41, 16),
                kind: ConditionKind::Performed {
                    event: "order_completed".to_owned(),
                    filter: None,
                    aggregate: Aggregate::Count,
                    comparison: Comparison::AtLeast(decimal("1")),
                    within: 300_000,
                },
            })),
        },
    ]);
    assert_eq!(audience.condition.kind, expected);
    let crm = &job.syncs["crm"];
    assert_eq!(
        (crm.audiences.as_slice(), crm.send_entry, crm.send_exit),
        (["high_intent".to_owned()].as_slice(), true, true)
    );
    assert_eq!(job.syncs["log"].to, SyncTo::Stdout);
    assert_eq!(job.dead_letters, Some(DeadLettersTo::File(FileTarget { path: "dead-letters.jsonl".to_owned() })));
}

#[test]
fn what_is_left_out_has_its_default() {
    let job = job(&format!(
        "{BASE}
audiences:
  b: {{model: users, where: {{all: []}}}}
  a: {{model: users, where: {{any: []}}}}
syncs: {{s: {{to: {{stdout: }}}}}}
dead_letters: {{file: {{path: x}}}}
limits:
"
    ));
    assert_eq!(job.limits, Limits::default());
    assert_eq!(job.syncs["s"].audiences, ["a", "b"]);
    assert!(job.syncs["s"].send_entry && job.syncs["s"].send_exit);
    assert_eq!(job.audiences["a"].name, "a");
    assert_eq!(job.models["users"].refresh, Refresh::Every(86_400_000));
    assert_eq!(
        condition("{related: orders}"),
        ConditionKind::Related {
            model: "orders".to_owned(),
            filter: None,
            whose: None,
            aggregate: Aggregate::Count,
            aggregate_place: place("audiences.a.where", 8, 38),
            comparison: Comparison::AtLeast(decimal("1")),
        }
    );
}

#[test]
fn a_job_needs_only_a_name_and_no_syncs() {
    assert!(job("job: j").audiences.is_empty());
    assert!(job("job: j\nsources:\nmodels:\nevents:\naudiences:\nsyncs:\n").models.is_empty());
}

#[test]
fn a_model_without_parquet_takes_any_member() {
    let members = |model: &str| job(&format!("job: j\nmodels: {{users: {model}}}")).models["users"].members;
    assert_eq!(members("{}"), Members::Any);
    assert_eq!(members("{key: id, members: any}"), Members::Any);
    assert_eq!(members("{parquet: u/, key: id}"), Members::Known);
    assert_eq!(members("{parquet: u/, key: id, members: any}"), Members::Any);
    assert_eq!(members("{parquet: u/, key: id, members: known}"), Members::Known);
}

#[test]
fn thresholds_are_exact() {
    for (text, expected) in [
        ("at_least: 1.1", Comparison::AtLeast(decimal("1.1"))),
        ("at_most: 1e3", Comparison::AtMost(decimal("1000"))),
        ("more_than: 0.30000000000000004", Comparison::MoreThan(decimal("0.3"))),
        (
            "less_than: -12345678901234567890.123456789",
            Comparison::LessThan(decimal("-12345678901234567890.123456789")),
        ),
        ("exactly: 0", Comparison::Exactly(decimal("0"))),
        ("between: [-1.5, 2]", Comparison::Between(decimal("-1.5"), decimal("2"))),
    ] {
        match condition(&format!("{{related: orders, sum: total, {text}}}")) {
            ConditionKind::Related { comparison, aggregate, .. } => {
                assert_eq!((comparison, aggregate), (expected, Aggregate::Sum("total".to_owned())));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn windows_last_from_a_second_to_90_days() {
    let within = |text: &str| match condition(&format!("{{performed: viewed, within: {text}}}")) {
        ConditionKind::Performed { within, .. } => within,
        other => panic!("{other:?}"),
    };
    assert_eq!(within("1s"), 1_000);
    assert_eq!(within("1000ms"), 1_000);
    assert_eq!(within("1h30m"), 5_400_000);
    assert_eq!(within("90d"), 90 * 86_400_000);
}

#[test]
fn a_variable_can_stand_for_a_number_or_boolean_but_never_for_structure() {
    let text = format!(
        "{BASE}
audiences: {{a: {{model: users, where: {{performed: viewed, at_least: \"${{COUNT}}\", within: \"${{WINDOW:-4h}}\"}}}}}}
"
    )
    .replace("path: e.jsonl", "path: \"${PAGE}\", follow: \"${FOLLOW}\"");
    let job = job(&text);
    assert_eq!(job.sources["web"].from, SourceFrom::File { path: "404".to_owned(), follow: true });
    let ConditionKind::Performed { comparison, within, .. } = job.audiences["a"].condition.kind else {
        panic!("performed")
    };
    assert_eq!((comparison, within), (Comparison::AtLeast(decimal("3")), 4 * 3_600_000));
    let injected = usher_config::parse("job: j\nmodels: \"${X}\"", "job.yaml", FilePath::new("."), &|_| {
        Some("{a: {}}".to_owned())
    });
    let message = injected.expect_err("a string is no mapping").problems[0].message.clone();
    assert_eq!(message, "must be a mapping, not the string `{a: {}}`");
}

#[test]
fn an_odd_property_name_is_one_step_of_its_path() {
    let job = example("telemetry.json");
    let properties = &job.events["overheated"].properties;
    let path = |name: &str| properties[name].path.to_string();
    assert_eq!(path("total billed"), "properties.\"total billed\"");
    assert_eq!(path("first reading"), "data.readings[0].\"raw value\"");
    assert_eq!(path("codes"), "data.errors[*].code");
    assert_eq!(properties["codes"].column_type, ColumnType::ListInteger);
    let Format::Json(paths) = &job.sources["devices"].format else { panic!("json") };
    assert_eq!(paths.key, Path::parse("device.id").ok());
}

#[test]
fn json_and_yaml_of_the_same_content_are_the_same_job_but_for_places() {
    let json = "{\"job\":\"j\",\"models\":{\"users\":{\"parquet\":\"u/\",\"key\":\"id\",\"columns\":{\"a\":\"list<number>\"}}}}";
    let yaml = "job: j\nmodels:\n  users:\n    parquet: u/\n    key: id\n    columns:\n      a: list<number>\n";
    let (mut a, mut b) = (job(json), job(yaml));
    for job in [&mut a, &mut b] {
        job.models.values_mut().for_each(|model| model.place = Place::default());
    }
    assert_eq!(a, b);
}

#[test]
fn every_type_is_read_and_written_back() {
    for name in
        ["string", "integer", "number", "boolean", "timestamp", "date", "list<string>", "list<integer>", "list<number>"]
    {
        assert_eq!(ColumnType::parse(name).expect("a type").to_string(), name);
    }
    assert_eq!(ColumnType::parse("list<boolean>"), None);
}

#[test]
fn a_long_chain_of_audiences_is_no_circle_and_a_long_circle_is_one() {
    let chain = |last: &str| {
        let mut text = BASE.to_owned() + "audiences:\n";
        for at in 0..20_000 {
            text += &format!("  a{at}: {{model: users, where: {{audience: a{}}}}}\n", at + 1);
        }
        text + &format!(
            "  a20000: {{model: users, where: {{audience: {last}}}}}\n  z: {{model: users, where: {{all: []}}}}\n"
        )
    };
    assert_eq!(job(&chain("z")).audiences.len(), 20_002);
    let problems = parse(&chain("a7")).expect_err("a circle");
    assert_eq!(problems.problems.len(), 1);
    assert!(problems.problems[0].message.starts_with("audiences depend on each other in a circle: `a10` -> `a11`"));
}

#[test]
fn nesting_up_to_the_bound_is_read_and_beyond_it_refused() {
    let nested = |levels: usize| {
        format!(
            "{BASE}audiences: {{a: {{model: users, where: {}{{all: []}}{}}}}}",
            "{not: ".repeat(levels),
            "}".repeat(levels)
        )
    };
    assert_eq!(job(&nested(120)).audiences.len(), 1);
    for levels in [150, 100_000] {
        let problems = parse(&nested(levels)).expect_err("too deep");
        assert_eq!(problems.problems[0].message, "lists and mappings are nested deeper than 128 levels");
    }
}

#[test]
fn a_stream_is_read_as_written() {
    let job = example("streams.yaml");
    let SourceFrom::Kafka { kafka, topics } = &job.sources["web"].from else { panic!("kafka") };
    assert_eq!(
        (kafka.brokers.as_str(), topics.as_slice()),
        ("localhost:9092", ["app-events", "web-events"].map(String::from).as_slice())
    );
    assert_eq!(kafka.properties["fetch.wait.max.ms"], Setting::Plain("50".to_owned()));
    assert_eq!(kafka.properties["sasl.password"], Setting::Secret(Secret("${KAFKA_PASSWORD:-}".to_owned())));
    assert_eq!(job.sources["web"].start, Start::Time(1_793_491_200_000));
    assert_eq!((job.sources["site"].start, &job.sources["site"].format), (Start::Window, &Format::SnowplowTsv));
    assert_eq!(job.sources["device"].start, Start::Latest);
    let Format::Json(paths) = &job.sources["device"].format else { panic!("json") };
    assert_eq!(paths.key.as_ref().and_then(Path::header).as_deref(), Some("device-owner"));
    assert_eq!(job.events["priced"].properties["tenant"].path.header().as_deref(), Some("tenant"));
    let stream = &job.syncs["stream"];
    let SyncTo::Kafka(target) = &stream.to else { panic!("kafka") };
    assert_eq!((target.topic.as_str(), target.partitions), ("audience-changes", Some(12)));
    assert_eq!((target.delivery, target.commit_every), (Delivery::ExactlyOnce, 250));
    let crm = &job.syncs["crm"];
    assert_eq!((crm.format, crm.backfill, crm.on_remove), (SyncFormat::Segment, false, OnRemove::Forget));
    assert_eq!(crm.include.iter().map(|column| column.value.as_str()).collect::<Vec<_>>(), ["email", "plan"]);
    assert_eq!(crm.include[1].place, place("syncs.crm.include[1]", 54, 22));
    assert_eq!((crm.entry_name.as_deref(), crm.exit_name.as_deref()), (Some("Became keen"), Some("Cooled off")));
    let fields: Vec<_> = crm.fields.iter().map(|(field, text)| (field.as_str(), text.value.as_str())).collect();
    let expected = [
        ("properties.\"is member\"", "{{ type == 'entry' }}"),
        ("properties.member_of", "{{ audience.id }}"),
        ("userId", "{{ row.email }}"),
    ];
    assert_eq!(fields, expected);
    let SyncTo::Kafka(target) = &crm.to else { panic!("kafka") };
    assert_eq!(target.delivery, Delivery::AtLeastOnce);
    let api = job.api.as_ref().expect("an API");
    assert_eq!((api.listen.as_str(), api.rate_limit), ("0.0.0.0:8080", Some(500)));
    assert_eq!(api.keys.iter().map(|key| (key.read, key.admin)).collect::<Vec<_>>(), [(true, false), (true, true)]);
    let state = job.state.as_ref().expect("state");
    assert_eq!((state.url.shown(), state.checkpoint_every), ("file:///var/lib/usher/streams", 30_000));
    assert_eq!(job.cluster, Cluster::default());
    assert!(matches!(&job.dead_letters, Some(DeadLettersTo::Kafka { topic, .. }) if topic == "dead-letters"));
}

#[test]
fn a_destination_by_name_has_the_host_the_limits_and_the_mode_of_its_vendor() {
    let job = job(&format!(
        "{BASE}
audiences: {{a: {{model: users, where: {{performed: viewed, within: 1h}}}}}}
syncs:
  segment: {{to: {{segment: {{write_key: k}}}}}}
  identify: {{to: {{segment: {{write_key: k, region: eu, as: identify}}}}}}
  rudder: {{to: {{rudderstack: {{write_key: k, url: \"https://r.example\"}}}}}}
  braze: {{to: {{braze: {{api_key: k, url: \"https://b.example\"}}}}}}
  braze_events: {{to: {{braze: {{api_key: k, url: \"https://b.example\", as: events, mode: state, rate: 5/m}}}}}}
  iterable: {{to: {{iterable: {{api_key: k, region: eu, lists: {{a: 7}}, batch: {{changes: 10, wait: 2s}}}}}}}}
  customerio: {{to: {{customerio: {{site_id: s, api_key: \"${{PAGE}}\", url: \"https://c.example\"}}}}}}
  segments: {{to: {{customerio: {{site_id: s, api_key: k, segments: {{a: 8, gone: 9}}}}}}}}
"
    ));
    let of = |id: &str| {
        let SyncTo::Webhook(target) = &job.syncs[id].to else { panic!("{id}") };
        let vendor = target.vendor.as_ref().expect("a destination by name");
        let batch = target.batch.expect("batches");
        let rate = target.rate.map(|rate| (rate.number, rate.unit_ms));
        let url = target.url.secret.resolve(&|_| None).expect("no variable");
        (vendor.api.name(), url, target.mode, (batch.changes, batch.bytes, batch.wait), rate)
    };
    let (changes, state) = (WebhookMode::Changes, WebhookMode::State);
    let (second, text) = (1_000, |url: &str| url.to_owned());
    for (id, expected) in [
        (
            "segment",
            ("segment", text("https://api.segment.io"), changes, (2_500, 500_000, second), Some((1_000, second))),
        ),
        (
            "identify",
            (
                "segment",
                text("https://events.eu1.segmentapis.com"),
                state,
                (2_500, 500_000, second),
                Some((1_000, second)),
            ),
        ),
        ("rudder", ("rudderstack", text("https://r.example"), changes, (2_500, 4_000_000, second), None)),
        ("braze", ("braze", text("https://b.example"), state, (75, 4_000_000, second), Some((1_000, second)))),
        ("braze_events", ("braze", text("https://b.example"), state, (75, 4_000_000, second), Some((5, 60_000)))),
        (
            "iterable",
            ("iterable", text("https://api.eu.iterable.com"), state, (10, 4_000_000, 2_000), Some((5, second))),
        ),
        ("customerio", ("customerio", text("https://c.example"), state, (1_000, 500_000, second), Some((100, second)))),
        (
            "segments",
            ("customerio", text("https://track.customer.io"), state, (1_000, 500_000, second), Some((100, second))),
        ),
    ] {
        assert_eq!(of(id), expected, "{id}");
    }
    assert_eq!((job.syncs["segment"].format, job.syncs["identify"].format), (SyncFormat::Segment, SyncFormat::Usher));
    let secrets: Vec<String> = job.secrets().into_iter().map(|(path, _)| path).collect();
    for path in
        ["syncs.segment.to.segment.write_key", "syncs.customerio.to.customerio.api_key", "syncs.braze.to.braze.url"]
    {
        assert!(secrets.iter().any(|secret| secret == path), "{path}: {secrets:?}");
    }
}

#[test]
fn what_a_stream_leaves_out_has_its_default() {
    let job = job(&format!(
        "{BASE}
syncs:
  k: {{to: {{kafka: {{brokers: b, topic: t}}}}}}
  l: {{to: {{kafka: {{brokers: b, topic: t}}}}}}
  f: {{to: {{stdout: }}, delivery: at_least_once}}
api: {{listen: \"localhost:0\"}}
state: {{url: here}}
cluster: {{peer_timeout: 1s}}
"
    ));
    let SyncTo::Kafka(target) = &job.syncs["k"].to else { panic!("kafka") };
    assert_eq!((target.partitions, target.delivery, target.commit_every), (None, Delivery::ExactlyOnce, 100));
    assert!(target.kafka.properties.is_empty());
    let sync = &job.syncs["f"];
    assert_eq!((sync.format, sync.backfill, sync.on_remove), (SyncFormat::Usher, true, OnRemove::Exit));
    assert!(sync.include.is_empty() && sync.fields.is_empty() && sync.entry_name.is_none() && sync.exit_name.is_none());
    let api = job.api.as_ref().expect("an API");
    assert!(api.keys.is_empty() && api.rate_limit.is_none());
    assert_eq!(job.state, Some(State { url: "here".into(), checkpoint_every: 60_000 }));
    assert_eq!(job.cluster, Cluster { connect_timeout: 15_000, peer_timeout: 1_000 });
    let lone = parse("job: j").expect("a job");
    assert_eq!((lone.state, lone.api, lone.cluster), (None, None, Cluster::default()));
}

#[test]
fn updates_need_columns_and_an_audience_waits_for_its_windows_unless_it_sends_at_once() {
    let file = |send: &str, audience: &str| {
        format!(
            "job: shop
models: {{users: {{parquet: u, key: id}}}}
audiences: {{a: {{model: users, where: {{property: a}}{audience}}}}}
syncs: {{s: {{to: {{stdout: }}, send: [{send}], event_names: {{update: Changed}}}}}}"
        )
    };
    let with =
        job(&file("entry, update", ", incomplete: send").replace("send: [entry", "include: [plan], send: [entry"));
    let sync = &with.syncs["s"];
    assert_eq!((sync.send_entry, sync.send_exit, sync.send_update), (true, false, true));
    assert_eq!(sync.update_name.as_deref(), Some("Changed"));
    assert_eq!(with.audiences["a"].incomplete, Incomplete::Send);
    assert_eq!(job(&file("entry", "")).audiences["a"].incomplete, Incomplete::Hold);
    let problems = parse(&file("update", "")).expect_err("an update of no columns never comes");
    let found: Vec<_> =
        problems.problems.iter().map(|problem| (&problem.place.path[..], &problem.message[..])).collect();
    assert_eq!(found, [("syncs.s.send", "`send` has `update`, and the sync includes no columns")]);
}

#[test]
fn times_to_start_at_are_rfc_3339_or_ms() {
    let start = |text: &str| {
        let text =
            format!("job: j\nsources: {{a: {{kafka: {{brokers: b, topic: t}}, format: segment, start: {text}}}}}");
        job(&text).sources["a"].start
    };
    for (text, expected) in [
        ("earliest", Start::Earliest),
        ("latest", Start::Latest),
        ("2026-11-23T10:00:00.123Z", Start::Time(1_795_428_000_123)),
        ("2026-11-23T12:00:00+02:00", Start::Time(1_795_428_000_000)),
        ("2026-11-23 10:00:00", Start::Time(1_795_428_000_000)),
        ("2026-11-23", Start::Time(1_795_392_000_000)),
        ("1795428000000", Start::Time(1_795_428_000_000)),
        ("0", Start::Time(0)),
    ] {
        assert_eq!(start(text), expected, "{text}");
    }
}

#[test]
fn without_keys_the_api_listens_to_this_machine_alone() {
    let api = |text: &str| parse(&format!("job: j\napi: {{listen: \"{text}\"}}")).is_ok();
    for text in ["127.0.0.1:8080", "127.1.2.3:1", "[::1]:8080", "localhost:0"] {
        assert!(api(text), "{text}");
        assert!(parse(&format!("job: j\napi: {{listen: \"{text}\", keys: [{{token: t}}]}}")).is_ok(), "{text}");
    }
    for text in ["0.0.0.0:8080", "[::]:8080", "usher.example:8080", "10.0.0.1:80"] {
        assert!(!api(text), "{text}");
        assert!(parse(&format!("job: j\napi: {{listen: \"{text}\", keys: [{{token: t}}]}}")).is_ok(), "{text}");
    }
    for text in ["8080", ":8080", "localhost", "localhost:99999", "::1:8080", "a:b:1"] {
        let keyed = format!("job: j\napi: {{listen: \"{text}\", keys: [{{token: t}}]}}");
        assert!(!api(text) && parse(&keyed).is_err(), "{text}");
    }
}

/// A secret is identified by its place; its variable is looked up, and its content appears nowhere.
#[test]
fn a_secret_keeps_its_variable_and_is_shown_nowhere() {
    let text = |extra: &str| {
        format!(
            "job: j
sources:
  a:
    kafka: {{brokers: b, topic: t, properties: {{SASL.Password: \"x${{HIDDEN}}\", ssl.key.location: \"${{HIDDEN}}\", client.id: \"${{SHOWN}}\"}}}}
    format: segment
syncs: {{s: {{to: {{kafka: {{brokers: b, topic: u, properties: {{oauth.TOKEN: \"${{HIDDEN}}\"}}}}}}}}}}
dead_letters: {{kafka: {{brokers: b, topic: d, properties: {{client-secret: \"${{HIDDEN}}\"}}}}}}
api: {{listen: \"localhost:1\", keys: [{{token: \"${{HIDDEN}}\"}}, {{token: plain, can: [admin]}}]}}
{extra}"
        )
    };
    let variable = |name: &str| match name {
        "HIDDEN" => Some("hunter2".to_owned()),
        "SHOWN" => Some("usher".to_owned()),
        _ => None,
    };
    let parse = |text: &str| usher_config::parse(text, "job.yaml", FilePath::new("/jobs"), &variable);
    let job = parse(&text("")).unwrap_or_else(|problems| panic!("{problems}"));
    let secrets: Vec<_> = job.secrets().into_iter().map(|(path, secret)| (path, secret.is_literal())).collect();
    let expected = [
        ("sources.a.kafka.properties.\"SASL.Password\"", false),
        ("sources.a.kafka.properties.\"ssl.key.location\"", false),
        ("syncs.s.to.kafka.properties.\"oauth.TOKEN\"", false),
        ("dead_letters.kafka.properties.client-secret", false),
        ("api.keys[0].token", false),
        ("api.keys[1].token", true),
    ];
    assert_eq!(secrets, expected.map(|(path, literal)| (path.to_owned(), literal)));
    let SourceFrom::Kafka { kafka, .. } = &job.sources["a"].from else { panic!("kafka") };
    assert_eq!(kafka.properties["client.id"], Setting::Plain("usher".to_owned()));
    let Setting::Secret(secret) = &kafka.properties["SASL.Password"] else { panic!("a secret") };
    assert_eq!(secret.0, "x${HIDDEN}");
    assert_eq!(secret.resolve(&variable).as_deref(), Ok("xhunter2"));
    let shown = format!("{job:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("plain"), "{shown}");
    let bytes = bincode::serialize(&job).expect("a job is serialisable");
    assert!(!bytes.windows(7).any(|part| part == b"hunter2"));
    for (from, to) in [
        ("b, topic: t", "b, topic: \"\""),
        ("\"x${HIDDEN}\"", "{a: \"${HIDDEN}\"}"),
        ("{SASL.Password: \"x${HIDDEN}\"", "\"${HIDDEN}\"} #"),
        ("{token: \"${HIDDEN}\"}", "\"${HIDDEN}\""),
        ("{token: \"${HIDDEN}\"}", "{token: [\"${HIDDEN}\"]}"),
        ("[{token: \"${HIDDEN}\"}", "\"${HIDDEN}\" #"),
    ] {
        let broken = text("").replacen(from, to, 1);
        assert_ne!(broken, text(""), "{from} is in the job");
        let problems = parse(&broken).expect_err("it is broken").to_string();
        assert!(!problems.contains("hunter2"), "{problems}");
    }
    let problems = parse(&text("limits: {message_bytes: \"${NONE}\"}")).expect_err("a variable is missing");
    assert_eq!(problems.problems.len(), 1);
    let problems =
        usher_config::parse(&text(""), "job.yaml", FilePath::new("/jobs"), &|_| None).expect_err("all are missing");
    let places: Vec<_> = problems.problems.iter().map(|problem| problem.place.path.as_str()).collect();
    assert!(
        places.contains(&"api.keys[0].token") && places.contains(&"dead_letters.kafka.properties.client-secret"),
        "{places:?}"
    );
}

/// Cuts, doubles and swaps pieces of the examples: whatever comes out is a job or has problems with places in it.
#[test]
fn a_damaged_file_is_a_job_or_a_list_of_problems_and_never_a_panic() {
    let examples = ["minimal.yaml", "shop.yaml", "nested.yaml", "telemetry.json", "streams.yaml"].map(|name| {
        let path = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
        std::fs::read_to_string(path).expect("a readable example").chars().collect::<Vec<char>>()
    });
    let words = [
        "kafka", "${", "}", "{", "[", "]", ": ", "\n", "- ", "'", "\"", "&a ", "*a", "null", "1e9", "all", "not",
        "within", "é",
    ];
    let seed = 42;
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut jobs, mut refused) = (0, 0);
    for round in 0..4_000 {
        let mut text = examples[random.usize(..examples.len())].clone();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..text.len());
            let to = (at + random.usize(..20)).min(text.len());
            match random.u8(..3) {
                0 => drop(text.drain(at..to)),
                1 => {
                    let piece = text[at..to].to_vec();
                    let target = random.usize(..text.len());
                    text.splice(target..target, piece);
                }
                _ => drop(text.splice(at..at, words[random.usize(..words.len())].chars())),
            }
        }
        let text: String = text.into_iter().collect();
        let lines = text.lines().count() as u32 + 1;
        match parse(&text) {
            Ok(_) => jobs += 1,
            Err(problems) => {
                refused += 1;
                let inside = |problem: &Problem| (1..=lines).contains(&problem.place.line) && problem.place.column >= 1;
                assert!(problems.problems.iter().all(inside), "seed {seed}, round {round}:\n{text}\n{problems}");
                assert!(problems.problems.is_sorted_by_key(|problem| (problem.place.line, problem.place.column)));
            }
        }
    }
    assert!(jobs > 100 && refused > 1_000, "{jobs} jobs, {refused} refused");
}

#[test]
fn what_is_wrong_in_a_webhook_leaves_the_rest_of_it_to_check() {
    let salvage = |to: &str| {
        let text = format!("{BASE}syncs: {{crm: {{to: {{{to}}}}}}}");
        let broken = parse_or_salvage(&text, "job.yaml", FilePath::new("/jobs"), &|_| None, &|_| Ok(Vec::new()));
        let Broken { problems, salvage } = broken.expect_err("something is wrong");
        let to = salvage.expect("a mapping").job.syncs.remove("crm").expect("it could be built").to;
        let SyncTo::Webhook(target) = to else { panic!("it goes to a webhook") };
        let paths: Vec<String> = problems.problems.into_iter().map(|problem| problem.place.path).collect();
        (paths, target)
    };
    let (paths, target) = salvage(
        "webhook: {url: 5, secret: {}, timeout: soon, retry: {first: 1}, batch: {wait: x}, headers: {a: 1, \"b b\": x}}",
    );
    let at = |key: &str| format!("syncs.crm.to.webhook.{key}");
    assert_eq!(paths, ["url", "secret", "timeout", "retry.first", "batch.wait", "headers.a"].map(at));
    assert_eq!(target.headers.keys().collect::<Vec<_>>(), ["b b"]);
    let (paths, target) = salvage("segment: {write_key: 5, headers: {\"b b\": x}}");
    assert_eq!(paths, ["syncs.crm.to.segment.write_key"]);
    assert_eq!(target.headers.keys().collect::<Vec<_>>(), ["b b"]);
}

#[test]
fn a_property_of_kafka_has_its_place_which_is_no_part_of_the_cluster() {
    let kafka = |text: &str| {
        let text = format!("job: j\nsources:\n  web: {{kafka: {{brokers: b, topic: t, {text}}}, format: segment}}\n");
        let SourceFrom::Kafka { kafka, .. } = job(&text).sources["web"].from.clone() else { panic!("it is Kafka") };
        kafka
    };
    let (near, far) = (kafka("properties: {client.id: a}"), kafka("properties:   {client.id: a}"));
    let path = "sources.web.kafka.properties.\"client.id\"";
    assert_eq!((&near.places["client.id"], &far.places["client.id"]), (&place(path, 3, 52), &place(path, 3, 54)));
    assert_eq!(near, far);
    assert_ne!(near, kafka("properties: {client.id: b}"));
}
