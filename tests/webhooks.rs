//! Webhooks against a receiver that misbehaves, and with kills of the program: at rest the receiver holds what the API says,
//! each key came in order, and what came twice came with the same id.
//!
//! `USHER_KILLS=50 cargo test --release --test usher webhooks -- --nocapture` kills more often than every test run does.

use crate::support::process::{Process, members, now, parse, pass, until};
use crate::support::receiver::{Fate, Receiver, Request, ask, port};
use crate::support::rows::run;
use crate::support::shop::{Shop, job, without_marks};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const AUDIENCES: &str = "
  active: {model: users, where: {performed: viewed, within: 1s}}
  often: {model: users, where: {performed: viewed, at_least: 5, within: 3s}}
  keen: {model: users, where: {performed: bought, at_least: 3, within: 1h}}
";

/// The longest of the windows that end within the test, ms.
const LONGEST: i64 = 3_000;

/// A job with a sync `crm` to the receiver, and an API.
fn hooked(receiver: &Receiver, audiences: &str, settings: &str) -> String {
    let sync = format!("  crm: {{to: {{webhook: {{url: \"{}\", {settings}}}}}}}\n", receiver.url());
    job(audiences, &sync) + "api: {listen: \"127.0.0.1:0\"}\n"
}

/// The report of the sync `crm`.
pub fn sync(process: &Process) -> serde_json::Value {
    let (status, syncs) = ask(port(process), "GET", "/v1/syncs", "");
    assert_eq!(status, 200);
    syncs["syncs"][0].clone()
}

pub fn number(report: &serde_json::Value, name: &str) -> u64 {
    report[name].as_u64().unwrap_or_else(|| panic!("no {name} in {report}"))
}

/// Waits until a mark has gone through the job, and nothing waits any more.
fn wait_until_delivered(shop: &Shop, process: &Process, receiver: &Receiver) {
    let mark = shop.mark();
    let is_there = |message: &serde_json::Value| message["key"] == mark.as_str();
    until(&|| format!("{mark} comes: {}\n{}", sync(process), process.stderr()), || {
        receiver.taken().iter().any(is_there)
    });
    until(&|| format!("all is delivered: {}", sync(process)), || number(&sync(process), "waiting") == 0);
}

/// What must come in order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ordered {
    /// All changes of a key.
    Keys,
    /// Those of an audience and key: dead letters were sent again.
    Memberships,
}

/// What the receiver holds by what it got; panics if something came out of order.
fn folded(taken: &[serde_json::Value], ordered: Ordered) -> BTreeSet<(String, String)> {
    let mut held = BTreeSet::new();
    let mut last: BTreeMap<String, String> = BTreeMap::new();
    for message in taken {
        let text = |name: &str| message[name].as_str().unwrap_or_else(|| panic!("no {name} in {message}")).to_owned();
        let (audience, key, at) = (text("audience_id"), text("key"), text("at"));
        if audience == "marked" {
            continue;
        }
        // A repeat of the last one is no step back.
        let of = if ordered == Ordered::Keys { key.clone() } else { format!("{audience} {key}") };
        let before = last.insert(of, at.clone()).unwrap_or_default();
        assert!(before <= at, "{message} came after one of {before}");
        let place = (audience, key);
        match text("type").as_str() {
            "entry" => held.insert(place),
            _ => held.remove(&place),
        };
    }
    held
}

fn api_members(process: &Process, audiences: &[&str]) -> BTreeSet<(String, String)> {
    let mut all = BTreeSet::new();
    for audience in audiences {
        let (_, page) = ask(port(process), "GET", &format!("/v1/members/{audience}?limit=1000"), "");
        let keys = page["members"].as_array().expect("a page has members").iter();
        all.extend(keys.map(|key| ((*audience).to_owned(), key.as_str().expect("a key").to_owned())));
    }
    all
}

/// Answers at random, also badly, and refuses one change in five whenever it comes.
fn at_random(seed: u64) -> impl FnMut(&Request) -> Fate + Send {
    let mut random = fastrand::Rng::with_seed(seed);
    move |request| {
        let is_disliked = |message: &serde_json::Value| {
            let id = message["id"].as_str().expect("an id");
            u32::from_str_radix(&id[..4], 16).expect("hex digits").is_multiple_of(5)
        };
        if request.messages().iter().any(is_disliked) {
            return Fate::Refused(400, "");
        }
        match random.u8(0..100) {
            0..55 => Fate::Taken(*random.choice(&[200, 201, 204]).expect("there are three")),
            55..65 => Fate::TakenSilently,
            65..75 => Fate::Refused(500, ""),
            75..77 => Fate::Refused(503, "Retry-After: 1\n"),
            77..80 => Fate::Refused(429, ""),
            80..88 => Fate::Refused(400, ""),
            88..92 => Fate::Hang(500),
            _ => Fate::Reset,
        }
    }
}

fn kills() -> u64 {
    std::env::var("USHER_KILLS").map_or(20, |text| text.parse().expect("USHER_KILLS is a number"))
}

fn folds_to_what_the_job_says(seed: u64, settings: &str) {
    let receiver = Receiver::start(at_random(seed));
    let retry = "timeout: 300ms, retry: {first: 20ms, most: 300ms}, ";
    let shop = Shop::new(&hooked(&receiver, AUDIENCES, &format!("{retry}{settings}")));
    let mut random = fastrand::Rng::with_seed(seed);
    let over = AtomicBool::new(false);
    let since = Instant::now();
    std::thread::scope(|scope| {
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _over = Over(&over);
        let (path, over) = (shop.path("events.jsonl"), &over);
        scope.spawn(move || load(&path, seed, over));
        for _ in 0..kills() {
            let mut process = shop.run(&[]);
            if random.u8(0..5) > 0 {
                process.wait_for("live after");
            }
            std::thread::sleep(Duration::from_millis(random.u64(0..900)));
            process.kill();
        }
    });
    let process = shop.live(&[]);
    pass(now() + LONGEST + 100);
    receiver.set(|_| Fate::Taken(200));
    wait_until_delivered(&shop, &process, &receiver);
    folded(&receiver.taken(), Ordered::Keys);
    let report = sync(&process);
    let sum: u64 = ["delivered", "superseded", "dead_letters"].iter().map(|name| number(&report, name)).sum();
    assert_eq!(number(&report, "committed"), sum, "{report}");
    let dead = number(&report, "dead_letters");
    assert!(dead > 0, "{report}");
    let (status, again) = ask(port(&process), "POST", "/v1/syncs/crm/dead_letters/redeliver", "{\"all\": true}");
    assert_eq!((status, number(&again, "dead_letters")), (202, dead), "{again}");
    // Of one report: between two a dead letter may have become one that waits.
    let is_over = || {
        let report = sync(&process);
        ["waiting", "dead_letters"].iter().all(|name| number(&report, name) == 0)
    };
    until(&|| format!("dead letters go: {}", sync(&process)), is_over);
    let report = sync(&process);
    let sum: u64 = ["delivered", "superseded"].iter().map(|name| number(&report, name)).sum();
    assert_eq!(number(&report, "committed"), sum, "{report}");
    let held = folded(&receiver.taken(), Ordered::Memberships);
    let want = api_members(&process, &["active", "often", "keen"]);
    if held != want {
        let wrong: Vec<_> = held.symmetric_difference(&want).collect();
        panic!("seed {seed}, in {}: {wrong:?}", shop.keep().display());
    }
    process.stop();
    let requests = receiver.requests();
    // What came twice came with the same id: a message's is its change's, of one request that of the request.
    let mut by_id: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for request in &requests {
        let before = by_id.insert(request.headers["webhook-id"].clone(), request.body.clone());
        assert!(before.is_none_or(|before| before == request.body), "one id, one body");
    }
    println!(
        "{} kills, seed {seed}, {settings:?}: {} requests, {} messages, {report}; {:.0} s",
        kills(),
        requests.len(),
        receiver.taken().len(),
        since.elapsed().as_secs_f64()
    );
    assert!(requests.len() > 50, "there was something to deliver");
}

/// Appends events until `over`.
fn load(events: &std::path::Path, seed: u64, over: &AtomicBool) {
    use std::io::Write;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut file = std::fs::OpenOptions::new().append(true).open(events).expect("the shop has events");
    let mut number = 0;
    while !over.load(Ordering::Relaxed) {
        let what = if random.u8(0..10) == 0 { "Bought" } else { "Viewed" };
        // At each moment some are away, so that windows end.
        let away = now() / 1_500 % 3;
        let user = std::iter::repeat_with(|| random.i64(0..10)).find(|user| user % 3 != away).expect("one is found");
        let line = format!(
            "{{\"type\":\"track\",\"event\":\"{what}\",\"userId\":\"u-{user}\",\"messageId\":\"l{number}\",\"timestamp\":{}}}\n",
            now()
        );
        file.write_all(line.as_bytes()).expect("the file can be written");
        number += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_receiver_that_misbehaves_folds_to_what_the_job_says() {
    folds_to_what_the_job_says(1, "");
}

#[test]
fn a_receiver_of_batches_that_misbehaves_folds_to_what_the_job_says() {
    folds_to_what_the_job_says(2, "batch: {changes: 5, wait: 20ms}");
}

#[test]
fn a_receiver_of_differences_that_misbehaves_folds_to_what_the_job_says() {
    folds_to_what_the_job_says(3, "mode: state");
}

/// `buyers` come and go at once while the receiver is away.
const FLICKER: &str = "  flicker: {model: users, where: {performed: viewed, within: 1s}}\n";

#[test]
fn after_an_outage_in_state_mode_an_endpoint_gets_at_most_one_change_of_each_membership() {
    let receiver = Receiver::start(|_| Fate::Refused(503, ""));
    let shop = Shop::new(&hooked(&receiver, FLICKER, "mode: state, retry: {first: 20ms, most: 200ms}"));
    let process = shop.live(&[]);
    // The first that is probed may have been taken: it is not known. The others came and went.
    shop.happens("Viewed", "u-0");
    until(&|| "it is open".to_owned(), || sync(&process)["state"] == "open");
    for _ in 0..3 {
        for user in 1..10 {
            shop.happens("Viewed", &format!("u-{user}"));
        }
        pass(now() + 1_100);
    }
    let stayed = shop.happens("Viewed", "u-3");
    until(&|| "all is committed".to_owned(), || number(&sync(&process), "committed") >= 57);
    process.kill();
    let process = shop.live(&[]);
    assert!(number(&sync(&process), "waiting") > 0, "{}", sync(&process));
    receiver.set(|_| Fate::Taken(200));
    pass(stayed + 1_100);
    wait_until_delivered(&shop, &process, &receiver);
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    for message in receiver.taken() {
        *times.entry(message["key"].as_str().expect("a key").to_owned()).or_default() += 1;
    }
    times.retain(|key, _| key.starts_with("u-"));
    assert!(times.iter().all(|(key, times)| *times <= 1 + u32::from(key == "u-3")), "{times:?}");
    let report = sync(&process);
    assert!(number(&report, "superseded") >= 40, "{report}");
    assert_eq!(folded(&receiver.taken(), Ordered::Keys), BTreeSet::new());
    process.stop();
}

#[test]
fn requests_are_signed_by_all_secrets_and_carry_the_id_of_the_change() {
    let receiver = Receiver::willing();
    let old = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let new = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let settings =
        format!("secret: [\"{new}\", \"{old}\"], headers: {{X-Team: growth, Authorization: \"Bearer abc\"}}");
    let shop = Shop::new(&hooked(&receiver, "  rich: {model: users, where: {property: ltv > 75}}\n", &settings));
    let process = shop.live(&[]);
    wait_until_delivered(&shop, &process, &receiver);
    let stderr = process.stop();
    assert!(!stderr.contains("whsec_") && !stderr.contains("abc"), "{stderr}");
    let requests = receiver.requests();
    assert!(requests.len() >= 3);
    for request in requests {
        let [message] = &request.messages()[..] else { panic!("one message") };
        assert_eq!(request.line, "POST /hook");
        assert_eq!(request.headers["webhook-id"], message["id"].as_str().expect("an id"));
        assert_eq!(request.headers["content-type"], "application/json");
        assert_eq!((&request.headers["x-team"][..], &request.headers["authorization"][..]), ("growth", "Bearer abc"));
        let signatures: Vec<&str> = request.headers["webhook-signature"].split(' ').collect();
        assert_eq!(signatures.len(), 2);
        assert!(signatures.iter().all(|signature| signature.starts_with("v1,")));
        let timestamp: i64 = request.headers["webhook-timestamp"].parse().expect("seconds");
        assert!((now() / 1_000 - timestamp).abs() < 60);
    }
}

#[test]
fn what_an_endpoint_asks_to_wait_is_waited() {
    let asked = Arc::new(Mutex::new(None));
    let first = asked.clone();
    let receiver = Receiver::start(move |request| {
        let mut first = first.lock().expect("nobody panics with the lock");
        if first.is_none() {
            *first = Some(request.at);
            return Fate::Refused(503, "Retry-After: 2\n");
        }
        Fate::Taken(200)
    });
    let settings = "concurrency: 1, retry: {first: 10ms, most: 10ms}";
    let shop = Shop::new(&hooked(&receiver, "", settings));
    let process = shop.live(&[]);
    wait_until_delivered(&shop, &process, &receiver);
    process.stop();
    let requests = receiver.requests();
    let first = asked.lock().expect("nobody panics with the lock").expect("it was asked");
    assert!(requests[1].at - first >= Duration::from_secs(2), "{:?}", requests[1].at - first);
}

#[test]
fn what_an_endpoint_asks_to_wait_is_waited_over_a_kill() {
    let receiver = Receiver::willing();
    let shop = Shop::new(&hooked(&receiver, "  viewers: {model: users, where: {performed: viewed, within: 1h}}\n", ""));
    let mut refused = false;
    receiver.set(move |_| match std::mem::replace(&mut refused, true) {
        false => Fate::Refused(503, "Retry-After: 4\n"),
        true => Fate::Taken(200),
    });
    let process = shop.live(&[]);
    shop.happens("Viewed", "u-1");
    until(&|| sync(&process).to_string(), || {
        number(&sync(&process), "waiting") == 1 && sync(&process)["last_error"] != serde_json::Value::Null
    });
    process.kill();
    let process = shop.live(&[]);
    until(&|| sync(&process).to_string(), || receiver.taken().len() == 1);
    let requests = receiver.requests();
    let waited = requests[requests.len() - 1].at - requests[0].at;
    assert!(waited >= Duration::from_secs(4), "{waited:?}");
    process.stop();
}

#[test]
fn an_endpoint_that_is_gone_pauses_its_sync_across_restarts() {
    let receiver = Receiver::start(|_| Fate::Refused(410, ""));
    let shop = Shop::new(&hooked(&receiver, "  rich: {model: users, where: {property: ltv > 75}}\n", ""));
    let process = shop.live(&[]);
    until(&|| "it is paused".to_owned(), || sync(&process)["state"] == "paused");
    process.stop();
    let came = receiver.requests().len();
    let process = shop.live(&[]);
    assert_eq!(sync(&process)["state"], "paused");
    assert_eq!(number(&sync(&process), "waiting"), 2);
    assert_eq!(receiver.requests().len(), came);
    process.stop();
}

#[test]
fn a_batch_has_each_key_once_and_waits_for_others() {
    let receiver = Receiver::willing();
    let shop = Shop::new(&hooked(
        &receiver,
        "  rich: {model: users, where: {property: ltv >= 0}}\n  all: {model: users, where: {property: ltv < 1000}}\n",
        "batch: {changes: 50, wait: 100ms}, gzip: false",
    ));
    let process = shop.live(&[]);
    wait_until_delivered(&shop, &process, &receiver);
    process.stop();
    let requests = receiver.requests();
    assert!(requests.len() < 10, "{} requests", requests.len());
    for request in &requests {
        let messages = request.messages();
        let keys: BTreeSet<String> = messages.iter().map(|message| message["key"].to_string()).collect();
        assert_eq!(keys.len(), messages.len());
    }
    let taken = receiver.taken();
    let ids: BTreeSet<String> = taken.iter().map(|message| message["id"].to_string()).collect();
    assert_eq!(ids.len(), taken.len());
}

#[test]
fn templates_make_body_path_and_query() {
    let receiver = Receiver::willing();
    let shop = Shop::new("");
    let sync = format!(
        "  crm:\n    include: [ltv]\n    to:\n      webhook:\n        url: \"http://127.0.0.1:{}/users/{{{{ key }}}}?ltv={{{{ row.ltv }}}}\"\n        method: PUT\n        gzip: true\n        body: '{{\"who\": {{{{ key | sha256 | tojson }}}}, \"in\": {{{{ (type == \"entry\") | tojson }}}}}}'\n",
        receiver.port
    );
    shop.job(&job("  rich: {model: users, where: {property: ltv > 85}}\n", &sync));
    let process = shop.live(&[]);
    until(&|| "it comes".to_owned(), || !receiver.requests().is_empty());
    process.stop();
    let request = &receiver.requests()[0];
    assert_eq!(request.line, "PUT /users/u-9?ltv=90.0");
    assert_eq!(request.headers["content-encoding"], "gzip");
    let mut body = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&request.body[..]), &mut body).expect("gzip");
    // The SHA-256 of `u-9`.
    let hash = "086cd6f120b8c934031754b9cc9c2f4b48bcc64eaf1b2825896325d761f4a4fa";
    assert_eq!(body, format!("{{\"who\": \"{hash}\", \"in\": true}}"));
}

#[test]
fn what_has_waited_longer_than_it_is_kept_is_a_dead_letter() {
    let receiver = Receiver::start(|_| Fate::Refused(500, ""));
    let settings = "keep: 2s, retry: {first: 20ms, most: 200ms}";
    let shop = Shop::new(&hooked(&receiver, "  rich: {model: users, where: {property: ltv > 75}}\n", settings));
    let process = shop.live(&[]);
    until(&|| format!("they are given up: {}", sync(&process)), || number(&sync(&process), "dead_letters") == 2);
    let report = sync(&process);
    assert_eq!((number(&report, "waiting"), number(&report, "committed")), (0, 2), "{report}");
    process.stop();
    let process = shop.live(&[]);
    assert_eq!(number(&sync(&process), "dead_letters"), 2);
    process.stop();
}

#[test]
fn dead_letters_are_listed_sent_again_and_dropped() {
    let receiver = Receiver::start(|request| {
        let text = String::from_utf8_lossy(&request.body);
        if text.contains("\"u-8\"") || text.contains("\"u-9\"") { Fate::Refused(422, "") } else { Fate::Taken(200) }
    });
    let settings = "retry: {first: 10ms, most: 50ms}";
    let shop = Shop::new(&hooked(&receiver, "  rich: {model: users, where: {property: ltv > 65}}\n", settings));
    let process = shop.live(&[]);
    until(&|| format!("they are given up: {}", sync(&process)), || number(&sync(&process), "dead_letters") == 2);
    let tries = receiver.requests().iter().filter(|request| !request.is_taken()).count();
    assert_eq!(tries, 6, "three tries each");
    let port = port(&process);
    let (status, page) = ask(port, "GET", "/v1/syncs/crm/dead_letters?limit=1", "");
    assert_eq!(status, 200, "{page}");
    let first = page["dead_letters"][0].clone();
    assert_eq!((&first["reason"], &first["status"], &first["type"]), (&"refused".into(), &422.into(), &"entry".into()));
    assert_eq!(first["answer"], "not now ok");
    let cursor = page["next_cursor"].as_str().expect("there is another page");
    let (_, rest) = ask(port, "GET", &format!("/v1/syncs/crm/dead_letters?limit=1&cursor={cursor}"), "");
    assert_eq!(
        (rest["dead_letters"].as_array().map(Vec::len), &rest["next_cursor"]),
        (Some(1), &serde_json::Value::Null)
    );
    let (_, attempts) = ask(port, "GET", "/v1/syncs/crm/attempts", "");
    let (status, problem) = ask(port, "GET", "/v1/syncs/cmr/attempts", "");
    assert_eq!((status, &problem["type"]), (404, &"urn:usher:problem:unknown_sync".into()));
    assert!(attempts["attempts"].as_array().is_some_and(|attempts| attempts.len() >= 7), "{attempts}");
    // One is sent again, the other dropped.
    receiver.set(|_| Fate::Taken(200));
    let order = |what: &str, body: &str| ask(port, "POST", &format!("/v1/syncs/crm/dead_letters/{what}"), body);
    let of = |id: &serde_json::Value| format!("{{\"ids\": [{id}]}}");
    assert_eq!(order("redeliver", &of(&first["id"])).0, 202);
    let key = first["key"].as_str().expect("a key").to_owned();
    until(&|| format!("{key} comes"), || receiver.taken().iter().any(|message| message["key"] == key.as_str()));
    let (status, dropped) = order("drop", &of(&rest["dead_letters"][0]["id"]));
    assert_eq!((status, number(&dropped, "dead_letters")), (202, 1));
    assert_eq!(order("drop", &of(&first["id"])).0, 404);
    assert_eq!(order("drop", "{}").0, 422);
    until(&|| format!("one is left as dropped: {}", sync(&process)), || number(&sync(&process), "dead_letters") == 1);
    assert_eq!(ask(port, "GET", "/v1/syncs/crn/attempts", "").0, 404);
    process.stop();
}

#[test]
fn a_sync_is_paused_resumed_and_tested_by_hand() {
    let receiver = Receiver::willing();
    let shop = Shop::new(&hooked(&receiver, "", ""));
    let process = shop.live(&[]);
    let order = |process: &Process, what: &str| ask(port(process), "POST", &format!("/v1/syncs/crm/{what}"), "");
    assert_eq!(order(&process, "pause").0, 204);
    shop.mark();
    until(&|| "it is committed".to_owned(), || number(&sync(&process), "waiting") == 1);
    assert!(receiver.requests().is_empty());
    let (status, attempt) = order(&process, "test");
    assert_eq!((status, &attempt["status"]), (200, &200.into()), "{attempt}");
    assert_eq!(receiver.requests()[0].messages()[0]["key"], "usher-test");
    process.kill();
    let process = shop.live(&[]);
    assert_eq!(sync(&process)["state"], "paused");
    assert_eq!(order(&process, "resume").0, 204);
    until(&|| format!("it goes: {}", sync(&process)), || number(&sync(&process), "waiting") == 0);
    assert_eq!(sync(&process)["state"], "ok");
    process.stop();
}

#[test]
fn orders_to_a_sync_are_given_by_command() {
    let receiver = Receiver::start(|request| {
        let text = String::from_utf8_lossy(&request.body);
        if text.contains("\"u-8\"") || text.contains("\"u-9\"") { Fate::Refused(422, "") } else { Fate::Taken(200) }
    });
    let settings = "retry: {first: 10ms, most: 50ms}";
    let shop = Shop::new(&hooked(&receiver, "  rich: {model: users, where: {property: ltv > 65}}\n", settings));
    let process = shop.live(&[]);
    until(&|| format!("they are given up: {}", sync(&process)), || number(&sync(&process), "dead_letters") == 2);
    let url = format!("http://127.0.0.1:{}", port(&process));
    let order = |args: &[&str]| {
        let all = [&["syncs"][..], args, &["--url", &url[..]][..]].concat();
        let ran = run(shop.folder(), &all);
        (ran.code, ran.stdout, ran.stderr)
    };
    let (code, stdout, _) = order(&["pause", "crm"]);
    assert_eq!((code, &stdout[..], &sync(&process)["state"]), (Some(0), "`crm` is paused\n", &"paused".into()));
    let (code, stdout, stderr) = order(&["test", "crm"]);
    assert!(code == Some(0) && stdout.starts_with("answered 200 in "), "{stdout}{stderr}");
    let (_, stdout, _) = order(&["resume", "crm", "--json"]);
    assert_eq!(stdout, "{\"id\":\"crm\",\"order\":\"resume\"}\n");
    assert_eq!(sync(&process)["state"], "ok");
    let (_, stdout, _) = order(&["attempts", "crm"]);
    assert!(stdout.starts_with("attempt") && stdout.contains("422"), "{stdout}");
    let (_, stdout, _) = order(&["dead-letters", "crm", "--limit", "1"]);
    assert!(stdout.contains("refused") && stdout.contains("not now ok"), "{stdout}");
    let next = stdout.lines().last().and_then(|line| line.rsplit(' ').next()).expect("there is another page");
    let (_, rest, _) = order(&["dead-letters", "crm", "--cursor", next, "--json"]);
    let rest: serde_json::Value = serde_json::from_str(&rest).expect("it is JSON");
    let second = rest["dead_letters"][0]["id"].as_str().expect("an id").to_owned();
    receiver.set(|_| Fate::Taken(200));
    let (_, stdout, _) = order(&["redeliver", "crm", &second]);
    assert_eq!(stdout, "1 dead letter is sent again\n");
    until(&|| format!("it goes: {}", sync(&process)), || number(&sync(&process), "dead_letters") == 1);
    let (_, stdout, _) = order(&["drop", "crm", "--audience", "rich"]);
    assert_eq!(stdout, "1 dead letter is dropped\n");
    let (_, stdout, _) = order(&["drop", "crm", "--all"]);
    assert_eq!(stdout, "0 dead letters are dropped\n");
    // What can't be carried out is said.
    receiver.set(|_| Fate::Refused(500, ""));
    let (code, _, stderr) = order(&["test", "crm"]);
    assert!(code == Some(1) && stderr.contains("was answered 500"), "{stderr}");
    let (code, _, stderr) = order(&["redeliver", "crm", "77"]);
    assert!(code == Some(2) && stderr.contains("no dead letter `77`"), "{stderr}");
    let (code, _, stderr) = order(&["redeliver", "crm", "--audience", "rihc"]);
    assert!(code == Some(2) && stderr.contains("rihc"), "{stderr}");
    assert_eq!(order(&["pause", "crn"]).0, Some(2));
    for args in [&["drop", "crm"][..], &["drop", "crm", "1", "--all"], &["drop", "crm", "--all", "--audience", "rich"]]
    {
        assert_eq!(order(args).0, Some(2), "{args:?}");
    }
    let (code, stdout, _) = order(&[]);
    assert!(code == Some(0) && stdout.starts_with("sync"), "{stdout}");
    process.stop();
}

#[test]
fn the_oldest_change_waits_longer_at_each_look_and_the_closing_lines_count_what_waits() {
    let receiver = Receiver::start(|_| Fate::Refused(503, ""));
    let shop = Shop::new(&hooked(&receiver, AUDIENCES, "retry: {first: 1m}"));
    let process = shop.live(&[]);
    shop.mark();
    until(&|| process.stderr(), || number(&sync(&process), "retries") > 0 || !receiver.requests().is_empty());
    let oldest = || number(&sync(&process), "oldest_waiting_ms");
    let since = Instant::now();
    for _ in 0..10 {
        let before = oldest();
        until(&|| format!("the oldest waits for longer than {before} ms"), || oldest() > before);
    }
    // Nothing is tried for a minute, and the delivery looks around once a second.
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    let stderr = process.stop();
    assert!(stderr.contains("1 change still waits for sync `crm`"), "{stderr}");
}

#[test]
fn what_is_wrong_with_a_webhook_is_found_by_check() {
    let shop = Shop::new("");
    for (to, expected) in [
        ("url: \"http://crm.example.com/hook\"", "anybody on the way can read"),
        ("url: \"https://{{ key }}.example.com/\"", "scheme and host can't have templates"),
        ("url: \"ftp://example.com/\"", "not `ftp`"),
        ("url: \"crm\"", "this is not a url"),
        ("url: \"https://169.254.169.254/latest\"", "link-local"),
        ("url: \"https://10.0.0.1/\", deny_private: true", "a private address"),
        ("url: \"https://a.example/{{ row.plan }}\"", "nothing is called `row.plan`"),
        ("url: \"https://a.example/{{ key }}\", batch: {}", "a batch has one url"),
        ("url: \"https://a.example/\", secret: hello", "does not begin with `whsec_`"),
        ("url: \"https://a.example/\", headers: {\"a b\": c}", "not the name of a header"),
        ("url: \"https://a.example/\", headers: {Webhook-Id: c}", "not for `headers` to set"),
        ("url: \"https://a.example/\", body: \"{{ kye }}\"", "nothing is called `kye`"),
        ("url: \"https://a.example/\", retry: {first: 1h, most: 1s}", "`retry.first` is longer"),
    ] {
        shop.job(&job("", &format!("  crm: {{to: {{webhook: {{{to}}}}}}}\n")));
        let ran = run(shop.folder(), &["check", "job.yaml"]);
        assert_eq!(ran.code, Some(2), "{to}: {}", ran.stderr);
        let line = ran.stderr.lines().find(|line| line.contains(expected));
        let line = line.unwrap_or_else(|| panic!("{to}: {}", ran.stderr));
        assert!(line.contains("syncs.crm.to.webhook."), "{line}");
    }
    shop.job(&job("", "  crm: {to: {webhook: {url: \"https://a.example/{{ key }}?x=1\", allow_http: true}}}\n"));
    let ran = run(shop.folder(), &["check", "job.yaml"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn check_connects_to_a_webhook_and_sends_nothing() {
    let receiver = Receiver::willing();
    let shop = Shop::new(&hooked(&receiver, "", ""));
    let ran = run(shop.folder(), &["check", "job.yaml", "--connect"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(receiver.requests().is_empty());
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let url = format!("http://{}/secret-path", free.expect("there is a free port"));
    shop.job(&job("", &format!("  crm: {{to: {{webhook: {{url: \"{url}\"}}}}}}\n")));
    let ran = run(shop.folder(), &["check", "job.yaml", "--connect"]);
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    assert!(ran.stderr.contains("can't be connected to") && !ran.stderr.contains("secret-path"), "{}", ran.stderr);
}

#[test]
fn replay_sends_nothing() {
    let receiver = Receiver::willing();
    let shop = Shop::new(&hooked(&receiver, AUDIENCES, ""));
    shop.happens("Viewed", "u-1");
    let ran = run(shop.folder(), &["replay", "job.yaml"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(!members(&without_marks(parse(&ran.stdout))).is_empty() || !ran.stdout.is_empty());
    assert!(receiver.requests().is_empty());
}
