//! Requests of destinations by name against what the vendors' own connector code sends for the same changes
//! (`testdata/requests.json`, written by `scripts/destinations`), and how answers are read.

use super::super::open;
use super::super::queue::Change;
use super::super::request::{Audience, Content, Requests};
use super::super::run;
use super::*;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;
use usher_config::{SyncTo, WebhookTarget};
use usher_core::catalog::Catalog;
use usher_core::change::Reason;
use usher_core::clock::Clock;
use usher_core::time::parse_timestamp;

#[derive(Debug)]
struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> u64 {
        1_795_428_000_000
    }
}

fn file(name: &str) -> Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/webhook/vendor/testdata").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The sync of a job whose sync has these members, as JSON.
fn sync(members: Value) -> usher_config::Sync {
    let mut sync = json!({"audiences": ["vip", "new"]});
    sync.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    let audience = json!({"model": "users", "where": {"property": "plan = 'pro'"}});
    let job = json!({
        "job": "shop", "models": {"users": {"parquet": "u", "key": "id"}},
        "audiences": {"vip": audience, "new": audience}, "syncs": {"s": sync},
    });
    let read = usher_config::parse(&job.to_string(), "job.yaml", std::path::Path::new("."), &|_| None);
    read.unwrap_or_else(|problems| panic!("{job}\n{problems}")).syncs["s"].clone()
}

fn target(sync: &usher_config::Sync) -> &WebhookTarget {
    match &sync.to {
        SyncTo::Webhook(target) => target,
        to => panic!("{to:?}"),
    }
}

struct Opened {
    requests: Arc<Requests>,
    client: reqwest::Client,
    audiences: Vec<Audience>,
}

fn opened(sync: &usher_config::Sync, audiences: &Value) -> Opened {
    assert_eq!(crate::messages::Messages::check(sync), []);
    let opened =
        open::open("crm", sync, target(sync), std::path::Path::new("."), &|_| None, Arc::new(Stopped)).unwrap();
    let audiences: Vec<_> = audiences.as_object().unwrap().iter().collect();
    let catalog = audiences.iter().map(|(id, name)| (id.as_str(), name.as_str().unwrap(), "users"));
    let messages = Arc::new(crate::messages::Messages::of(sync, Arc::new(Catalog::new("shop", catalog))));
    let audience = |index| Audience { messages: Arc::clone(&messages), index };
    Opened {
        requests: opened.requests,
        client: opened.client,
        audiences: (0..audiences.len() as u32).map(audience).collect(),
    }
}

impl Opened {
    fn content(&self, changes: &[Arc<Change>]) -> Result<Content, (usize, Unwritable)> {
        self.requests.content(changes, |change| &self.audiences[change.audience as usize])
    }
}

fn change(value: &Value, audiences: &Value, row: &Value) -> Arc<Change> {
    let text = |name: &str| value[name].as_str().unwrap();
    let kind = match text("type") {
        "entry" => ChangeKind::Entry,
        "exit" => ChangeKind::Exit,
        _ => ChangeKind::Update,
    };
    let audience = audiences.as_object().unwrap().keys().position(|id| id == text("audience")).unwrap();
    Arc::new(Change {
        number: 0,
        dead_letter: None,
        forced: false,
        sent: true,
        audience: audience as u32,
        group: 0,
        membership: 0,
        kind,
        reason: if text("reason") == "expiry" { Reason::Expiry } else { Reason::Event },
        at: parse_timestamp(text("at")).unwrap() as u64,
        key: text("key").into(),
        row: if row.is_null() { "".into() } else { row.to_string().into() },
        previous_row: "".into(),
        since: Instant::now(),
        bytes: 0,
    })
}

/// Numbers as JSON compares them: 1000 is 1000.0.
fn normal(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64().unwrap()),
        Value::Array(items) => items.iter().map(normal).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), normal(value))).collect::<serde_json::Map<_, _>>().into()
        }
        other => other.clone(),
    }
}

#[test]
fn requests_are_those_of_the_vendors_own_connectors() {
    let (cases, requests) = (file("cases.json"), file("requests.json"));
    let audiences = &cases["audiences"];
    for case in cases["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let sync = sync(json!({"to": case["to"], "include": case["include"]}));
        let opened = opened(&sync, audiences);
        let row = |change: &Value| cases["people"][change["key"].as_str().unwrap()].clone();
        let changes = case["changes"].as_array().unwrap().iter();
        let changes: Vec<_> = changes.map(|one| change(one, audiences, &row(one))).collect();
        let content = opened.content(&changes).unwrap();
        let request = opened.requests.attempt(&opened.client, &content, 1_795_428_000_000).unwrap();
        let theirs = &requests[name];
        assert_eq!(
            (request.method().as_str(), request.url().as_str()),
            (theirs["method"].as_str().unwrap(), theirs["url"].as_str().unwrap()),
            "{name}"
        );
        for (header, value) in theirs["headers"].as_object().unwrap() {
            assert_eq!(request.headers()[header.as_str()].to_str().unwrap(), value.as_str().unwrap(), "{name}");
        }
        assert!(!request.headers().keys().any(|header| header.as_str().starts_with("webhook-")), "{name}");
        let ours: Value = serde_json::from_slice(&content.body).unwrap();
        assert_eq!(normal(&ours), normal(&theirs["body"]), "{name}");
    }
    assert_eq!(cases["cases"].as_array().unwrap().len(), requests.as_object().unwrap().len());
}

/// The body of a request of one change.
fn body(members: Value, one: &Value, row: &Value) -> Result<(String, Value), Unwritable> {
    let audiences = json!({"new": "New", "vip": "Very important"});
    let opened = opened(&sync(members), &audiences);
    let content = opened.content(&[change(one, &audiences, row)]).map_err(|(_, reason)| reason)?;
    let request = opened.requests.attempt(&opened.client, &content, 0).unwrap();
    Ok((request.url().to_string(), serde_json::from_slice(&content.body).unwrap()))
}

fn one(kind: &str) -> Value {
    json!({"type": kind, "audience": "vip", "key": "u-1", "at": "2026-11-23T10:00:00.123Z", "reason": "event"})
}

#[test]
fn segments_of_customerio_have_ids_only_and_a_url_per_segment_and_direction() {
    let to = json!({"to": {"customerio": {
        "site_id": "s", "api_key": "k", "segments": {"vip": 7, "new": 8}, "id_type": "email", "id": "{{ row.email }}",
    }}, "include": ["email"]});
    let row = json!({"email": "ann@example.com"});
    let (url, sent) = body(to.clone(), &one("entry"), &row).unwrap();
    assert_eq!(url, "https://track.customer.io/api/v1/segments/7/add_customers?id_type=email");
    assert_eq!(sent, json!({"ids": ["ann@example.com"]}));
    let (url, _) = body(to, &one("exit"), &row).unwrap();
    assert_eq!(url, "https://track.customer.io/api/v1/segments/7/remove_customers?id_type=email");
}

#[test]
fn fields_are_set_in_what_a_change_becomes_and_null_is_left_out() {
    let to = json!({"to": {"braze": {"api_key": "k", "url": "https://rest.iad-01.braze.com/base/"}}, "include": ["email", "phone"],
        "fields": {"email_hash": "{{ row.email | normalize_email | sha256 }}", "phone_hash": "{{ row.phone | sha256 }}",
                   "_update_existing_only": "{{ true }}"}});
    let (url, sent) = body(to, &one("update"), &json!({"email": "a@b.c", "phone": " "})).unwrap();
    assert_eq!(url, "https://rest.iad-01.braze.com/base/users/track");
    let user = &sent["attributes"][0];
    assert_eq!((&user["vip"], &user["_update_existing_only"]), (&json!(true), &json!(true)));
    assert_eq!(user["email_hash"].as_str().unwrap().len(), 64);
    assert!(user.get("phone_hash").is_none(), "nothing is never hashed, nor sent: {user}");
}

#[test]
fn a_column_of_the_attributes_name_does_not_set_it_again() {
    for (to, of) in [
        (json!({"braze": {"api_key": "k", "url": "https://b.example", "attribute": "plan"}}), "attributes"),
        (json!({"customerio": {"site_id": "s", "api_key": "k", "attribute": "plan"}}), "batch"),
        (json!({"segment": {"write_key": "k", "as": "identify", "attribute": "plan"}}), "batch"),
    ] {
        let audiences = json!({"new": "New", "vip": "Very important"});
        let opened = opened(&sync(json!({"to": to, "include": ["plan", "ltv"]})), &audiences);
        let row = json!({"plan": "pro", "ltv": 5});
        let content = opened.content(&[change(&one("entry"), &audiences, &row)]).unwrap();
        let text = String::from_utf8(content.body).unwrap();
        assert_eq!(text.matches("\"plan\":").count(), 1, "{of}: {text}");
        assert!(text.contains("\"plan\":true") && text.contains("\"ltv\":5"), "{of}: {text}");
    }
}

#[test]
fn a_change_without_an_id_or_a_list_or_too_large_is_not_sent() {
    let by_email = json!({"to": {"braze": {"api_key": "k", "url": "https://b.example", "id_type": "email",
        "id": "{{ row.email | normalize_email }}"}}, "include": ["email"]});
    for row in [json!({"email": null}), json!({"email": " "}), json!({"email": "ann at home"}), Value::Null] {
        assert_eq!(body(by_email.clone(), &one("entry"), &row), Err(Unwritable::NoId), "{row}");
    }
    let lists = json!({"to": {"iterable": {"api_key": "k", "lists": {"vip": 1}}}, "audiences": ["vip"]});
    let of_removed =
        json!({"type": "exit", "audience": "new", "key": "u-1", "at": "2026-11-23T10:00:00Z", "reason": "event"});
    assert_eq!(body(lists, &of_removed, &Value::Null), Err(Unwritable::NoList("new".to_owned())));
    let large = json!({"to": {"segment": {"write_key": "k"}}, "include": ["bio"]});
    let bytes = match body(large, &one("entry"), &json!({"bio": "x".repeat(32_000)})) {
        Err(Unwritable::TooLarge(bytes, 32_000)) => bytes,
        other => panic!("{other:?}"),
    };
    assert!(bytes > 32_000);
}

#[test]
fn changes_of_a_request_are_of_one_list_and_direction() {
    let vendor = |to: Value| Vendor::new(target(&sync(json!({"to": to}))).vendor.as_ref().unwrap());
    let lists = vendor(json!({"iterable": {"api_key": "k", "lists": {"vip": 1, "new": 2}}}));
    let groups = [(0, ChangeKind::Entry), (0, ChangeKind::Exit), (1, ChangeKind::Entry), (1, ChangeKind::Exit)];
    let groups: std::collections::BTreeSet<u32> = groups.into_iter().map(|(at, kind)| lists.group(at, kind)).collect();
    assert_eq!(groups.len(), 4);
    assert_eq!(lists.group(1, ChangeKind::Entry), lists.group(1, ChangeKind::Update));
    let attributes = vendor(json!({"braze": {"api_key": "k", "url": "https://b.example"}}));
    assert_eq!(attributes.group(0, ChangeKind::Entry), attributes.group(1, ChangeKind::Exit));
}

#[test]
fn an_answer_says_which_items_were_refused() {
    let ids = ["Ann@Example.com", "b", "c"].map(str::to_owned);
    let read = |to: Value, kind, answer: &str| {
        Vendor::new(target(&sync(json!({"to": to}))).vendor.as_ref().unwrap()).read(&ids, kind, answer.as_bytes())
    };
    let refused = |places: &[(usize, &str)]| {
        Some(Reading::Refused(places.iter().map(|(place, reason)| (*place, (*reason).to_owned())).collect()))
    };
    let (entry, exit) = (ChangeKind::Entry, ChangeKind::Exit);
    let braze = json!({"braze": {"api_key": "k", "url": "https://b.example"}});
    let iterable = json!({"iterable": {"api_key": "k", "lists": {"vip": 1, "new": 2}}});
    let customerio = json!({"customerio": {"site_id": "s", "api_key": "k"}});
    let segments = json!({"customerio": {"site_id": "s", "api_key": "k", "segments": {"vip": 1, "new": 2}}});
    let segment = json!({"segment": {"write_key": "k"}});
    for (to, kind, answer, expected) in [
        (&braze, entry, r#"{"attributes_processed": 3, "message": "success"}"#, Some(Reading::Delivered)),
        (
            &braze,
            entry,
            r#"{"message": "success", "errors": [
                {"type": "'external_id' is too long", "input_array": "attributes", "index": 2},
                {"type": "bad", "input_array": "attributes", "index": 0}, {"type": "again", "input_array": "attributes", "index": 0}
            ]}"#,
            refused(&[(0, "bad"), (2, "'external_id' is too long")]),
        ),
        // Of another array, or beyond it: which of ours is not known.
        (&braze, entry, r#"{"errors": [{"type": "x", "input_array": "events", "index": 0}]}"#, Some(Reading::Unnamed)),
        (
            &braze,
            entry,
            r#"{"errors": [{"type": "x", "input_array": "attributes", "index": 9}]}"#,
            Some(Reading::Unnamed),
        ),
        (&braze, entry, r#"{"errors": ["x"]}"#, Some(Reading::Unnamed)),
        (&braze, entry, "", Some(Reading::Delivered)),
        (&braze, entry, r#"{"message": "succ"#, None),
        (&iterable, entry, r#"{"successCount": 3, "failCount": 0, "failedUpdates": {}}"#, Some(Reading::Delivered)),
        (
            &iterable,
            entry,
            r#"{"successCount": 1, "failCount": 2, "failedUpdates": {"invalidEmails": ["ann@example.com"], "forgottenUserIds": ["c"]}}"#,
            refused(&[(0, "invalidEmails"), (2, "forgottenUserIds")]),
        ),
        (
            &iterable,
            exit,
            r#"{"failCount": 2, "failedUpdates": {"notFoundEmails": ["ann@example.com"], "forgottenUserIds": ["c"]}}"#,
            Some(Reading::Delivered),
        ),
        (&iterable, entry, r#"{"failCount": 1, "failedUpdates": {}}"#, Some(Reading::Unnamed)),
        // Of a name that is none of ours, which of ours is meant is not known.
        (
            &iterable,
            entry,
            r#"{"failCount": 1, "failedUpdates": {"invalidEmails": ["other@x"]}}"#,
            Some(Reading::Unnamed),
        ),
        (&customerio, entry, "{}", Some(Reading::Delivered)),
        (
            &customerio,
            entry,
            r#"{"errors": [{"batch_index": 1, "reason": "required", "field": "identifiers", "message": "id is missing"}]}"#,
            refused(&[(1, "identifiers: id is missing")]),
        ),
        (&customerio, entry, r#"{"errors": [{"reason": "parse"}]}"#, Some(Reading::Unnamed)),
        (&segments, entry, "not json", Some(Reading::Delivered)),
        (&segment, entry, "OK", Some(Reading::Delivered)),
    ] {
        assert_eq!(read(to.clone(), kind, answer), expected, "{answer}");
    }
}

#[test]
fn braze_says_when_it_takes_requests_again() {
    let vendor = |to: Value| Vendor::new(target(&sync(json!({"to": to}))).vendor.as_ref().unwrap());
    let headers = |value: &str| {
        HeaderMap::from_iter([(HeaderName::from_static("x-ratelimit-reset"), HeaderValue::from_str(value).unwrap())])
    };
    let braze = vendor(json!({"braze": {"api_key": "k", "url": "https://b.example"}}));
    assert_eq!(braze.asks_to_wait(&headers("1795428003"), 1_795_428_000_500), Some(Duration::from_millis(2_500)));
    assert_eq!(braze.asks_to_wait(&headers("1"), 1_795_428_000_500), Some(Duration::ZERO));
    assert_eq!(braze.asks_to_wait(&headers("soon"), 0), None);
    let segment = vendor(json!({"segment": {"write_key": "k"}}));
    assert_eq!(segment.asks_to_wait(&headers("1795428003"), 0), None);
}

/// What an answer of a status and these headers asks to wait.
fn asked_to_wait(requests: &Requests, status: u16, headers: &str) -> Option<Duration> {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n{headers}\r\n");
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let _read = stream.read(&mut request).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let retry_after = runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let response = client.get(url).send().await.unwrap();
        run::answer(response, 1_795_428_000_500, requests).await.retry_after
    });
    server.join().unwrap();
    retry_after
}

#[test]
fn the_limit_of_braze_counts_where_it_answers_too_many_requests_and_nowhere_else() {
    let sync = sync(json!({"to": {"braze": {"api_key": "k", "url": "https://b.example"}}}));
    let opened = opened(&sync, &json!({"new": "New", "vip": "Very important"}));
    let reset = "x-ratelimit-reset: 1795431600\r\n";
    assert_eq!(asked_to_wait(&opened.requests, 429, reset), Some(Duration::from_millis(3_599_500)));
    for status in [201, 401, 500, 503] {
        assert_eq!(asked_to_wait(&opened.requests, status, reset), None, "{status}");
    }
    let both = format!("retry-after: 7\r\n{reset}");
    assert_eq!(asked_to_wait(&opened.requests, 503, &both), Some(Duration::from_secs(7)));
}
