//! Messages of every format, byte by byte; and that nothing an author may write breaks one.

use super::*;
use serde_json::Value;
use usher_core::change::{ChangeTexts, Changes, Reason};
use usher_core::message::write_message;

const ROW: &str = r#"{"email":"zoë@example.com","job":"cook","ltv":12345678901234567.25,"n":9007199254740993,"plan":"pro","tags":["a","b"]}"#;
/// The row before an update.
const PREVIOUS_ROW: &str = r#"{"ltv":1.5,"n":null,"plan":"free"}"#;
const AT: u64 = 1_795_428_000_123;

fn catalog() -> Arc<Catalog> {
    let audiences = [("high_intent", "High-intent \"pricing\" visitors", "users"), ("vip", "vip", "accounts")];
    Arc::new(Catalog::new("shop", audiences))
}

/// The sync that a job file's text says.
fn sync(text: &str) -> Sync {
    let file = format!(
        "job: shop
models: {{users: {{parquet: u, key: id}}}}
audiences: {{a: {{model: users, where: {{property: a}}}}}}
syncs: {{s: {{to: {{stdout: }}, {text}}}}}"
    );
    let job = usher_config::parse(&file, "job.yaml", std::path::Path::new("."), &|_| None);
    job.unwrap_or_else(|problems| panic!("{text}\n{problems}")).syncs["s"].clone()
}

fn entry_of_u_42() -> ChangeTexts<'static> {
    ChangeTexts { key: "u-42", row: ROW, previous_row: "" }
}

/// The messages of an entry with a row, of an exit without one, and of an update.
fn written(text: &str) -> String {
    let sync = sync(text);
    assert_eq!(Messages::check(&sync), [], "{text}");
    let messages = Messages::of(&sync, catalog());
    let mut changes = Changes::new();
    changes.push_to(Default::default(), AT, 0, ChangeKind::Entry, Reason::Event, entry_of_u_42());
    changes.push(AT + 1, 1, ChangeKind::Exit, Reason::Expiry, "Zoë \"\n\"");
    let update = ChangeTexts { previous_row: PREVIOUS_ROW, ..entry_of_u_42() };
    changes.push_to(Default::default(), AT + 2, 0, ChangeKind::Update, Reason::Snapshot, update);
    let mut out = Vec::new();
    for change in &changes {
        let id = messages.write(&mut out, change, changes.texts(change));
        out.push(b'\n');
        let headers = messages.headers(change, &id);
        let headers: Vec<_> =
            headers.map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value))).collect();
        out.extend_from_slice(format!("  {}\n", headers.join(" ")).as_bytes());
    }
    String::from_utf8(out).unwrap()
}

/// One format, in its plain form and with all that can be asked of it.
macro_rules! golden {
    ($name:ident, $($text:expr),+) => {
        #[test]
        fn $name() {
            let all = [$($text),+].map(|text| format!("{text}\n{}", written(text))).join("\n");
            insta::assert_snapshot!(all);
        }
    };
}

golden!(
    the_default_message_can_be_adapted,
    "format: usher",
    "include: [plan, ltv, n, email, missing]",
    "event_names: {entry: Entered}",
    "include: [plan, n], event_names: {update: Changed}, fields: {was: '{{ previous_row.plan }}', title: '{{ type }}'}",
    "event_names: {entry: Entered, exit: Left}, include: [plan, n], fields: {userId: '{{ key }}', audience_name: '{{ audience.name | upper }}', properties.plan: '{{ row.plan }}', properties.n: '{{ row.n }}', 'row.\"odd one\"': 'n={{ row.n }}', at: '{{ at[:10] }}'}"
);
golden!(
    a_cloud_event_has_the_change_as_its_data,
    "format: cloudevents",
    "format: cloudevents, include: [plan, tags, missing], event_names: {exit: com.example.left}, fields: {tenant: '{{ row.missing }}{{ row.plan }}', subject: '{{ row.plan }}', data.userId: '{{ key }}', source: '/{{ model }}'}"
);
golden!(
    a_track_call_has_columns_among_its_properties,
    "format: segment",
    "format: segment, include: [email, n], event_names: {entry: Became keen}, fields: {userId: '{{ row.email }}', properties.in: \"{{ type == 'entry' }}\", context.source: usher}"
);

#[test]
fn without_anything_asked_the_default_message_is_as_it_always_was() {
    let catalog = catalog();
    for seed in 0..500 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let key: String = (0..rng.usize(1..40)).map(|_| rng.char('\0'..'\u{2000}')).collect();
        let kind = *rng.choice(&[ChangeKind::Entry, ChangeKind::Exit]).unwrap();
        let mut changes = Changes::new();
        changes.push(rng.u64(0..253_402_300_800_000), rng.u32(0..2), kind, Reason::Trait, &key);
        let change = changes.iter().next().unwrap();
        let mut expected = Vec::new();
        write_message(&mut expected, &catalog, change, &key);
        for messages in [Messages::from(catalog.clone()), Messages::of(&sync("format: usher"), catalog.clone())] {
            let mut found = Vec::new();
            let id = messages.write(&mut found, change, ChangeTexts { key: &key, row: ROW, previous_row: "" });
            let message: Value = serde_json::from_slice(&found).unwrap();
            assert_eq!(message["id"], id.as_str(), "seed {seed}");
            found.push(b'\n');
            assert!(found == expected, "seed {seed}");
        }
        // Built piece by piece it is the same too.
        let messages = Messages::of(&sync("event_names: {entry: entry, exit: exit}"), catalog.clone());
        let mut found = Vec::new();
        messages.write(&mut found, change, ChangeTexts { key: &key, row: ROW, previous_row: "" });
        found.push(b'\n');
        assert!(found == expected, "seed {seed}");
    }
}

/// What CloudEvents 1.0 asks of an event in JSON: the attributes that must be there, their types and names, and no null.
#[test]
fn cloud_events_keep_the_rules_of_their_format() {
    for text in [
        "format: cloudevents",
        "format: cloudevents, include: [plan], event_names: {entry: a, exit: b}",
        "format: cloudevents, fields: {subject: '{{ row.x }}', type: '', source: '{{ row.x }}', tenant: '{{ row.plan }}', n: '{{ row.n }}', data.x: '{{ row.x }}'}, include: [x, plan, n]",
    ] {
        for line in written(text).lines().filter(|line| line.starts_with('{')) {
            let event: Value = serde_json::from_str(line).unwrap();
            assert_eq!(event["specversion"], "1.0");
            for required in ["id", "source", "type"] {
                assert!(event[required].as_str().is_some_and(|text| !text.is_empty()), "{required} of {line}");
            }
            assert!(event["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
            assert!(event["data"].is_object());
            for (name, value) in event.as_object().unwrap().iter().filter(|(name, _)| *name != "data") {
                assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()), "{name}");
                let text = value.as_str().unwrap_or_default();
                assert!(!text.is_empty() && !text.contains(char::is_control), "{name} of {line}");
            }
        }
    }
}

#[test]
fn what_a_format_has_no_room_for_is_found_before_anything_runs() {
    let all: Vec<String> = [
        "fields: {a: '{{ kye }}', b: '{{ row.plan }}', c: '{{'}",
        "format: cloudevents, fields: {specversion: '2', id: x, time: x, datacontenttype: x, subject.a: x, userId: x, data_base64: x, data: x}",
        "format: segment, include: [plan, job, model, previous_row], send: [update]",
    ]
    .iter()
    .flat_map(|text| Messages::check(&sync(text)))
    .map(|problem| format!("{}: {}; {}", problem.place.path, problem.message, problem.hint.unwrap_or_default()))
    .collect();
    let all = all.join("\n");
    insta::assert_snapshot!(all);
}

#[test]
fn whatever_an_author_writes_a_message_is_one_line_of_json() {
    let pieces = [
        "{{ key }}",
        "{{ row.plan }}",
        "{{ previous_row.plan }}",
        "{{ row.n / 0 }}",
        "{{ row }}",
        "{{",
        "}}",
        "{% if row.plan %}",
        "{% endif %}",
        "{% for x in row %}",
        "{% endfor %}",
        "{{ row.n | string }}",
        "{{ audience }}",
        "\n",
        "\"",
        "\\",
        "é",
        "'",
        "{#",
        "#}",
        "{{ range(3) }}",
        "{{ key | length }}",
        "{{ row.n * row.n * row.n * row.n }}",
        "{{ [row.ltv, none, undefined] }}",
        "{{ key.x }}",
        "{{ {} }}",
        "{{ row.tags | join(',') }}",
        "1",
        "{{- '' -}}",
    ];
    let seed = 5;
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut sound, mut refused) = (0, 0);
    for round in 0..3_000 {
        let mut one = sync(rng.choice(&["format: usher", "format: cloudevents", "format: segment"]).unwrap());
        let place = one.place.clone();
        let text = |value: String| Text { value, place: place.clone() };
        one.include = ["plan", "n", "ltv", "tags"].map(|name| text(name.to_owned())).to_vec();
        for field in ["data", "data.x", "id", "properties.\"odd\\\"\"", "tenant", "row.plan.a", "a.b.c"] {
            if rng.u8(0..3) == 0 {
                let template: String = (0..rng.usize(0..4)).map(|_| *rng.choice(&pieces).unwrap()).collect();
                one.fields.insert(field.to_owned(), text(template));
            }
        }
        if !Messages::check(&one).is_empty() {
            refused += 1;
            continue;
        }
        sound += 1;
        let messages = Messages::of(&one, catalog());
        let mut changes = Changes::new();
        changes.push_to(Default::default(), AT, 0, ChangeKind::Entry, Reason::Event, entry_of_u_42());
        changes.push(AT, 1, ChangeKind::Exit, Reason::Event, "u-\n");
        for change in &changes {
            let mut out = Vec::new();
            messages.write(&mut out, change, changes.texts(change));
            let found: Result<Value, _> = serde_json::from_slice(&out);
            let text = String::from_utf8_lossy(&out);
            assert!(found.is_ok_and(|value| value.is_object()), "seed {seed}, round {round}: {text}\n{:?}", one.fields);
            assert!(!out.contains(&b'\n'), "seed {seed}, round {round}: {text}");
        }
    }
    assert!(sound > 300 && refused > 300, "{sound} sound, {refused} refused");
}
