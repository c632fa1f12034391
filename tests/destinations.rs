//! Destinations by name against a receiver in the vendor's place: what is taken in part, what may go together, and what `check` finds.
//! That requests are the vendors' is the matter of `connectors/src/webhook/vendor/tests.rs`.

use crate::support::process::{Process, until};
use crate::support::receiver::{Fate, Receiver, Request, ask, port};
use crate::support::rows::run;
use crate::support::shop::{Shop, job};
use crate::webhooks::{number, sync};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Members by `ltv`, which is 10 times a user's number. Users that serve as marks are none.
const AUDIENCES: &str = "
  rich: {model: users, where: {property: ltv >= 50}}
  poor: {model: users, where: {property: \"ltv < 20 and user_id like 'u-%'\"}}
";
const RETRY: &str = "retry: {first: 20ms, most: 100ms}, batch: {wait: 50ms}";

/// A job with a sync `crm` to a destination by name, and an API. `settings` are those of the destination but for its host.
fn to(receiver: &Receiver, vendor: &str, settings: &str, sync: &str) -> String {
    let url = format!("http://127.0.0.1:{}/{vendor}", receiver.port);
    let to = format!("{{{vendor}: {{url: \"{url}\", {RETRY}, {settings}}}}}");
    job(AUDIENCES, &format!("  crm: {{audiences: [rich, poor], {sync} to: {to}}}\n"))
        + "api: {listen: \"127.0.0.1:0\"}\n"
}

fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap_or_else(|error| panic!("{error}: {request:?}"))
}

fn wait_until_settled(process: &Process) -> Value {
    let is_over = || {
        let report = sync(process);
        number(&report, "committed") >= 7 && number(&report, "waiting") == 0
    };
    until(&|| format!("all is settled: {}\n{}", sync(process), process.stderr()), is_over);
    sync(process)
}

/// The objects under a name in the bodies of requests.
fn items(requests: &[Request], name: &str) -> Vec<Value> {
    requests.iter().flat_map(|request| body(request)[name].as_array().cloned().unwrap_or_default()).collect()
}

#[test]
fn braze_takes_a_batch_in_part_and_what_it_refuses_is_a_dead_letter() {
    let receiver = Receiver::start(|request| {
        let users = body(request)["attributes"].as_array().cloned().unwrap_or_default();
        let of = |(index, user): (usize, &Value)| {
            (user["external_id"] == "u-7")
                .then(|| json!({"type": "no such user", "input_array": "attributes", "index": index}))
        };
        let errors: Vec<Value> = users.iter().enumerate().filter_map(of).collect();
        Fate::Answered(201, json!({"message": "success", "errors": errors}).to_string())
    });
    let shop = Shop::new(&to(&receiver, "braze", "api_key: secret-key", "include: [ltv],"));
    let process = shop.live(&[]);
    let report = wait_until_settled(&process);
    assert_eq!((number(&report, "delivered"), number(&report, "dead_letters")), (6, 1), "{report}");
    let requests = receiver.requests();
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for user in items(&requests, "attributes") {
        *times.entry(user["external_id"].as_str().expect("an id").to_owned()).or_default() += 1;
        let attributes: Vec<&String> = user.as_object().expect("a user").keys().collect();
        assert!(attributes.contains(&&"ltv".to_owned()), "{user}");
    }
    assert_eq!((times["u-7"], times["u-9"], times.len()), (3, 1, 7), "{times:?}");
    for request in &requests {
        assert_eq!(request.line, "POST /braze/users/track");
        assert_eq!(request.headers["authorization"], "Bearer secret-key");
        assert_eq!(request.headers["content-type"], "application/json");
    }
    let (_, page) = ask(port(&process), "GET", "/v1/syncs/crm/dead_letters", "");
    let letter = &page["dead_letters"][0];
    assert_eq!(
        (&letter["key"], &letter["answer"], &letter["status"]),
        (&json!("u-7"), &json!("no such user"), &json!(201))
    );
    // It is sent again, and taken.
    receiver.set(|_| Fate::Answered(201, "{\"message\": \"success\"}".to_owned()));
    assert_eq!(ask(port(&process), "POST", "/v1/syncs/crm/dead_letters/redeliver", "{\"all\": true}").0, 202);
    until(&|| format!("it goes: {}", sync(&process)), || number(&sync(&process), "delivered") == 7);
    let stderr = process.stop();
    assert!(!stderr.contains("secret-key"), "{stderr}");
}

#[test]
fn a_request_to_iterable_is_of_one_list() {
    let receiver = Receiver::start(|_| Fate::Answered(200, json!({"successCount": 1, "failCount": 0}).to_string()));
    let shop = Shop::new(&to(&receiver, "iterable", "api_key: k, lists: {rich: 7, poor: 8}", ""));
    let process = shop.live(&[]);
    wait_until_settled(&process);
    process.stop();
    let mut lists: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for request in receiver.requests() {
        assert_eq!((&request.line[..], &request.headers["api-key"][..]), ("POST /iterable/api/lists/subscribe", "k"));
        let body = body(&request);
        let subscribers = body["subscribers"].as_array().expect("subscribers").iter();
        let list = lists.entry(body["listId"].as_u64().expect("a list")).or_default();
        list.extend(subscribers.map(|user| user["userId"].as_str().expect("an id").to_owned()));
    }
    let set = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(lists[&7], set(&["u-5", "u-6", "u-7", "u-8", "u-9"]));
    assert_eq!(lists[&8], set(&["u-0", "u-1"]));
}

#[test]
fn an_answer_that_does_not_say_what_was_refused_halves_the_batch() {
    let receiver = Receiver::start(|request| {
        let has =
            body(request)["subscribers"].as_array().is_some_and(|all| all.iter().any(|user| user["userId"] == "u-6"));
        Fate::Answered(200, json!({"failCount": u8::from(has)}).to_string())
    });
    let shop = Shop::new(&to(&receiver, "iterable", "api_key: k, lists: {rich: 7, poor: 8}", ""));
    let process = shop.live(&[]);
    let report = wait_until_settled(&process);
    process.stop();
    assert_eq!((number(&report, "delivered"), number(&report, "dead_letters")), (6, 1), "{report}");
}

#[test]
fn an_answer_that_is_cut_is_tried_again() {
    let mut cut = true;
    let receiver = Receiver::start(move |_| {
        let body = if std::mem::take(&mut cut) { "{\"errors\": [" } else { "{}" };
        Fate::Answered(200, body.to_owned())
    });
    let shop = Shop::new(&to(&receiver, "customerio", "site_id: s, api_key: k", ""));
    let process = shop.live(&[]);
    let report = wait_until_settled(&process);
    process.stop();
    assert_eq!(number(&report, "delivered"), 7, "{report}");
    let requests = receiver.requests();
    assert_eq!(requests[0].body, requests[1].body);
    assert!(requests.iter().all(|request| request.line == "POST /customerio/api/v2/batch"));
    assert_eq!(items(&requests, "batch").len(), 14);
}

#[test]
fn segment_gets_tracks_and_a_change_without_an_id_is_a_dead_letter() {
    let receiver = Receiver::willing();
    let id = "id: \"{% if key != 'u-8' %}{{ key | upper }}{% endif %}\"";
    let settings = format!("write_key: wk, {id}, id_type: anonymousId");
    let shop = Shop::new(&to(
        &receiver,
        "segment",
        &settings,
        "event_names: {entry: Joined}, fields: {context.ip: \"{{ nobody }}\"},",
    ));
    // Templates know no `nobody`.
    let ran = run(shop.folder(), &["check", "job.yaml"]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    shop.job(&to(
        &receiver,
        "segment",
        &settings,
        "event_names: {entry: Joined}, fields: {context.source: \"{{ job }}\"},",
    ));
    let process = shop.live(&[]);
    let report = wait_until_settled(&process);
    assert_eq!((number(&report, "delivered"), number(&report, "dead_letters")), (6, 1), "{report}");
    let (_, page) = ask(port(&process), "GET", "/v1/syncs/crm/dead_letters", "");
    let letter = &page["dead_letters"][0];
    assert_eq!((&letter["key"], &letter["reason"]), (&json!("u-8"), &json!("unwritable")));
    assert!(letter["answer"].as_str().is_some_and(|answer| answer.contains("the id is empty")), "{letter}");
    process.stop();
    let requests = receiver.requests();
    assert!(requests.iter().all(|request| request.line == "POST /segment/v1/batch"));
    assert!(requests.iter().all(|request| request.headers["authorization"] == "Basic d2s6"));
    for track in items(&requests, "batch") {
        assert_eq!((&track["type"], &track["event"]), (&json!("track"), &json!("Joined")));
        assert!(track["anonymousId"].as_str().is_some_and(|id| id.starts_with("U-")), "{track}");
        assert_eq!((&track["context"]["source"], track.get("userId")), (&json!("shop"), None), "{track}");
    }
}

#[test]
fn what_is_wrong_with_a_destination_by_name_is_found_by_check() {
    let shop = Shop::new("");
    let (braze, iterable) =
        ("api_key: k, url: \"https://rest.iad-01.braze.com\"", "api_key: k, lists: {rich: 7, poor: 8}");
    for (vendor, settings, sync, expected) in [
        ("segment", "region: us", "", "`write_key` is missing"),
        ("segment", "write_key: k, region: us, url: \"https://a.example\"", "", "host"),
        ("segment", "write_key: k, batch: {changes: 2501}", "", "Segment takes at most 2500 changes in a request"),
        ("segment", "write_key: k, batch: {bytes: 1MiB}", "", "Segment takes at most 500000 bytes in a request"),
        ("segment", "write_key: k, attribute: x", "", "`attribute` names an attribute of people"),
        ("segment", "write_key: k", "format: usher,", "`segment` has requests of its own"),
        ("segment", "write_key: k, id: \"{{ row.email }}\"", "", "nothing is called `row.email`"),
        ("rudderstack", "write_key: k", "", "`url` is missing"),
        ("rudderstack", "write_key: k, url: \"http://a.example\"", "", "anybody on the way can read"),
        ("braze", "api_key: k", "", "`url` is missing"),
        ("braze", "api_key: k, url: \"https://{{ key }}.braze.com\"", "", "scheme and host can't have templates"),
        ("braze", "api_key: k, url: \"https://a.example/{{ key }}\"", "", "has no templates"),
        ("braze", "api_key: k, url: \"https://a.example/p?q=1\"", "", "has no query and no user"),
        ("braze", "api_key: k, url: \"https://a.example/p#f\"", "", "has no query and no user"),
        ("segment", "write_key: k, url: \"https://u:p@a.example\"", "", "has no query and no user"),
        ("braze", "api_key: k, url: \"https://169.254.169.254\"", "", "link-local"),
        ("braze", braze, "event_names: {entry: a},", "`event_names` is for events"),
        ("braze", braze, "delivery: exactly_once,", "this sync goes to `braze`"),
        ("braze", braze, "include: [external_id],", "Braze has its own meaning"),
        ("braze", "api_key: k, url: \"https://a.example\", id_type: user", "", "`user`"),
        ("iterable", "api_key: k", "", "`lists` is missing"),
        ("iterable", "api_key: k, lists: {rich: 7}", "", "`lists` has nothing for the audience `poor`"),
        ("iterable", "api_key: k, lists: {rich: 7, por: 8}", "", "did you mean `poor`?"),
        ("iterable", "api_key: k, lists: {rich: a, poor: 1}", "", "must be"),
        ("iterable", iterable, "format: segment,", "`iterable` has requests of its own"),
        ("customerio", "api_key: k", "", "`site_id` is missing"),
        ("customerio", "site_id: s, api_key: k, as: events, segments: {rich: 1, poor: 2}", "", "shape"),
        ("customerio", "site_id: s, api_key: k, segments: {rich: 1, poor: 2}", "include: [ltv],", "has ids only"),
    ] {
        shop.job(&job(
            AUDIENCES,
            &format!("  crm: {{audiences: [rich, poor], {sync} to: {{{vendor}: {{{settings}}}}}}}\n"),
        ));
        let ran = run(shop.folder(), &["check", "job.yaml"]);
        assert_eq!(ran.code, Some(2), "{vendor} {settings} {sync}: {}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{vendor} {settings} {sync}: {}", ran.stderr);
        assert!(ran.stderr.contains("syncs.crm."), "{}", ran.stderr);
    }
    for (vendor, settings, sync) in [
        ("braze", braze, "include: [ltv],"),
        ("iterable", iterable, ""),
        ("customerio", "site_id: s, api_key: k, region: eu, segments: {rich: 1, poor: 2, gone: 3}", ""),
        (
            "rudderstack",
            "write_key: k, url: \"https://rudder.example.com\", as: identify, attribute: \"in_{{ audience.id }}\"",
            "",
        ),
    ] {
        shop.job(&job(
            AUDIENCES,
            &format!("  crm: {{audiences: [rich, poor], {sync} to: {{{vendor}: {{{settings}}}}}}}\n"),
        ));
        let ran = run(shop.folder(), &["check", "job.yaml"]);
        assert_eq!(ran.code, Some(0), "{vendor} {settings}: {}", ran.stderr);
    }
}

#[test]
fn each_destination_is_compiled_to_a_plan_that_is_read() {
    let shop = Shop::new("");
    for to in [
        "segment: {write_key: \"${K:-k}\"}",
        "segment: {write_key: \"${K:-k}\", region: eu}",
        "iterable: {api_key: \"${K:-k}\", lists: {rich: 7, poor: 8}}",
        "customerio: {site_id: s, api_key: \"${K:-k}\", region: eu}",
        "segment: {write_key: \"${K:-k}\", url: \"https://proxy.example.com/in\"}",
        "webhook: {url: \"https://crm.example.com/hook\"}",
        "webhook: {url: \"${URL:-https://crm.example.com/hook?key=hidden}\", secret: \"${SECRET:-whsec_aGlkZGVuaGlkZGVuaGlkZGVuaGlkZGVu}\"}",
        "kafka: {brokers: \"127.0.0.1:1\", topic: out}",
        "file: {path: out.jsonl}",
        "stdout: {}",
    ] {
        shop.job(&job(AUDIENCES, &format!("  crm: {{audiences: [rich, poor], to: {{{to}}}}}\n")));
        let ran = run(shop.folder(), &["compile", "job.yaml", "-o", "plan"]);
        assert_eq!(ran.code, Some(0), "{to}: {}", ran.stderr);
        let ran = run(shop.folder(), &["check", "plan"]);
        assert_eq!(ran.code, Some(0), "{to}: {}", ran.stderr);
    }
    // Of an address its user and its query are secret.
    for url in ["https://me@proxy.example.com/in", "https://proxy.example.com/in?key=hidden"] {
        let to = format!("webhook: {{url: \"{url}\"}}");
        shop.job(&job(AUDIENCES, &format!("  crm: {{audiences: [rich, poor], to: {{{to}}}}}\n")));
        let ran = run(shop.folder(), &["compile", "job.yaml", "-o", "plan"]);
        assert_eq!(ran.code, Some(2), "{}", ran.stderr);
        assert!(ran.stderr.contains("`syncs.crm.to.webhook.url` is written in the job itself"), "{}", ran.stderr);
    }
}

#[test]
fn the_key_of_a_destination_is_in_no_plan_and_no_message() {
    let shop = Shop::new("");
    let settings =
        "api_key: \"${BRAZE_KEY:-very-secret}\", url: \"${BRAZE_URL:-https://rest.iad-01.braze.com/hidden}\"";
    shop.job(&job(AUDIENCES, &format!("  crm: {{to: {{braze: {{{settings}}}}}}}\n")));
    let ran = run(shop.folder(), &["compile", "job.yaml", "-o", "plan"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let plan = std::fs::read(shop.path("plan")).expect("the plan is there");
    assert!(String::from_utf8_lossy(&plan).contains("${BRAZE_KEY:-very-secret}"), "a plan keeps the variable");
    let ran = run(shop.folder(), &["explain", "plan"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(!ran.stdout.contains("secret") && !ran.stderr.contains("secret"), "{}{}", ran.stdout, ran.stderr);
    // A wrong one is not quoted.
    shop.job(&job(AUDIENCES, "  crm: {to: {braze: {api_key: [very-secret], url: [hidden]}}}\n"));
    let ran = run(shop.folder(), &["check", "job.yaml"]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(!ran.stderr.contains("secret") && !ran.stderr.contains("hidden]"), "{}", ran.stderr);
}
