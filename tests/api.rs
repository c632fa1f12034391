//! `usher run` with an API: every route of a job that runs.

use crate::live::{Running, buy, users};
use crate::support::rows::{numbers, run, strings, usher, write_parquet};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

const JOB: &str = "
job: shop
sources: {web: {file: {path: events.jsonl, follow: true}, format: segment}}
models:
  users: {parquet: users.parquet, key: user_id, refresh: manual}
  visitors: {key: visitor_id}
events: {bought: {source: web, type: track, name: Bought, model: users}}
audiences:
  buyers:
    name: Buyers of late
    model: users
    where: {all: [{performed: bought, at_least: 2, within: 1h}, {not: {performed: bought, at_least: 9, within: 1h}}]}
  rich: {model: users, where: {property: ltv > 15}}
syncs: {log: {to: {file: {path: changes.jsonl}}}}
state: {url: state}
api: {listen: \"127.0.0.1:0\", keys: [{token: \"${USHER_TEST_TOKEN:-sesame}\", can: [read, admin]}]}
";

/// How long anything is waited for: far more than it takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

struct Api {
    running: Running,
    url: String,
    http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

struct Reply {
    status: u16,
    as_of: Option<String>,
    recovering: bool,
    body: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

impl Api {
    fn start(folder: &Path, workers: &str) -> Api {
        Api::of(Running::start(folder, workers))
    }

    fn of(running: Running) -> Api {
        let line = running.wait_for("api on ");
        let url = line.split("api on ").nth(1).expect("the url comes after it").trim().to_owned();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Api { running, url, http: usher_serve::http_client().build().expect("a client"), runtime }
    }

    fn send(&self, request: reqwest::RequestBuilder) -> Reply {
        self.runtime.block_on(async {
            let response = request.bearer_auth("sesame").send().await.expect("it answers");
            let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
            let (as_of, recovering) = (header("usher-as-of"), header("usher-recovering").is_some());
            let status = response.status().as_u16();
            Reply { status, as_of, recovering, body: response.text().await.expect("a body") }
        })
    }

    fn get(&self, path: &str) -> Reply {
        self.send(self.http.get(format!("{}{path}", self.url)))
    }

    fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(self.http.post(format!("{}{path}", self.url)).json(body))
    }

    /// Waits for an answer that is as it should be.
    fn until(&self, path: &str, so: impl Fn(&Reply) -> bool) -> Reply {
        let since = Instant::now();
        loop {
            let reply = self.get(path);
            if so(&reply) {
                return reply;
            }
            assert!(since.elapsed() < PATIENCE, "{path} still answers {} {}", reply.status, reply.body);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn live(&self) {
        let ready = self.until("/readyz", |reply| {
            assert!(reply.status == 200 || reply.json()["detail"].is_string(), "{}", reply.body);
            reply.status == 200
        });
        assert_eq!(ready.json(), json!({"ready": true}));
    }

    fn audiences_of(&self, user: &str) -> Value {
        self.get(&format!("/v1/audiences/users/{user}")).json()["audience_ids"].clone()
    }
}

fn shop() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder for the test");
    std::fs::write(folder.path().join("job.yaml"), JOB).expect("the folder can be written");
    users(folder.path(), &[10.0, 20.0]);
    folder
}

/// The next events of a stream, as (event, data).
fn events(api: &Api, path: &str) -> impl Iterator<Item = (String, Value)> + use<> {
    events_after(api, path, None).map(|(_, event, data)| (event, data))
}

/// The next events of a stream after one of it, as (id, event, data).
fn events_after(api: &Api, path: &str, last: Option<&str>) -> impl Iterator<Item = (String, String, Value)> + use<> {
    let mut stream = TcpStream::connect(api.url.strip_prefix("http://").expect("a url")).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    let last = last.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sesame\r\n{last}\r\n")
        .expect("it reads");
    let mut lines = BufReader::new(stream).lines();
    // An id without an event is the greeting: from now on nothing is missed.
    let greeted = lines.any(|line| line.expect("it goes on").starts_with("id: "));
    assert!(greeted, "the stream ended before it began");
    std::iter::from_fn(move || {
        let (mut id, mut event) = (String::new(), None);
        loop {
            let line = lines.next()?.expect("the stream goes on");
            if let Some(of) = line.strip_prefix("id: ") {
                id = of.to_owned();
            } else if let Some(name) = line.strip_prefix("event: ") {
                event = Some(name.to_owned());
            } else if let (Some(name), Some(data)) = (&event, line.strip_prefix("data: ")) {
                return Some((id, name.clone(), serde_json::from_str(data).expect("data is JSON")));
            }
        }
    })
}

#[test]
fn a_running_job_answers_on_every_route() {
    let folder = shop();
    let api = Api::start(folder.path(), "2");
    api.live();
    assert_eq!(api.audiences_of("b"), json!(["rich"]));
    let position = std::fs::metadata(folder.path().join("events.jsonl")).map_or(0, |file| file.len());
    assert_eq!(position, 0);
    let mut changes = events(&api, "/v1/changes?audience=buyers");
    let first = buy(folder.path(), "a");
    let second_at = std::fs::metadata(folder.path().join("events.jsonl")).expect("it is written").len();
    let second = buy(folder.path(), "a");

    // Read your writes: the second purchase is a line that starts where the first ended.
    let after = format!("/v1/audiences/users/a?after=web:events.jsonl:{second_at}&timeout_ms=30000");
    let reply = api.get(&after);
    assert_eq!((reply.status, &reply.json()["audience_ids"]), (200, &json!(["buyers"])), "{}", reply.body);
    let as_of: jiff::Timestamp = reply.as_of.expect("a time").parse().expect("a time");
    assert!(as_of.as_millisecond() >= second && !reply.recovering);
    let (event, data) = changes.next().expect("a change");
    assert_eq!(
        (&event[..], &data["key"], &data["audience_name"], &data["reason"]),
        ("entry", &json!("a"), &json!("Buyers of late"), &json!("event"))
    );
    assert_eq!(api.get("/v1/audiences/users/a?after=web:events.jsonl:999999&timeout_ms=10").status, 504);

    let batch = api.post("/v1/audiences/users/lookup", &json!({"user_ids": ["b", "nobody", "a"]}));
    let ids: Vec<Value> = batch.json().as_array().unwrap().iter().map(|of| of["audience_ids"].clone()).collect();
    assert_eq!(ids, [json!(["rich"]), json!([]), json!(["buyers"])]);

    let explained = api.get("/v1/audiences/users/a/explain?audience=buyers").json();
    let buyers = &explained["audiences"][0];
    let leaves_at = |ms: i64| json!(crate::support::rows::rfc3339(ms + 3_600_000).replace("+00:00", "Z"));
    assert_eq!((&explained["in_snapshot"], &buyers["member"]), (&json!(true), &json!(true)));
    assert_eq!(buyers["changes_at"], leaves_at(first));
    let bought = &buyers["condition"]["conditions"][0];
    assert_eq!(bought["text"], "performed: bought, at_least: 2, within: 1h");
    assert_eq!(
        (&bought["threshold"], &bought["value"], &bought["holds"]),
        (&json!("at_least 2"), &json!("2 or more"), &json!(true))
    );
    assert_eq!(bought["events"].as_array().unwrap().len(), 2);
    assert_eq!(buyers["condition"]["conditions"][1]["conditions"][0]["value"], 2);
    assert_eq!(buyers["condition"]["conditions"][1]["changes_at"], Value::Null);
    assert_eq!(api.get("/v1/audiences/users/nobody/explain").status, 404);
    assert_eq!(
        api.get("/v1/audiences/users/b/explain").json()["audiences"][1]["condition"]["text"],
        "property: ltv > 15"
    );

    let members = api.get("/v1/members/rich?limit=1").json();
    assert_eq!((&members["members"], &members["next_cursor"]), (&json!(["b"]), &Value::Null), "{members}");
    assert_eq!(api.get("/v1/members/rich?cursor=nonsense").status, 400);

    let audiences = api.get("/v1/audiences").json();
    let buyers = &audiences["audiences"][0];
    assert_eq!((&buyers["id"], &buyers["size"], &buyers["entries"]), (&json!("buyers"), &json!(1), &json!(1)));
    assert_eq!((&buyers["freshness"], &buyers["windows"]["complete"]), (&json!("Current"), &json!(true)));

    // A change is delivered a moment after it is committed.
    let syncs = api.until("/v1/syncs", |reply| reply.json()["syncs"][0]["delivered"] == 2).json();
    assert_eq!((&syncs["syncs"][0]["id"], &syncs["syncs"][0]["committed"]), (&json!("log"), &json!(2)));

    let metrics =
        api.until("/metrics", |reply| reply.body.contains("usher_partition_position{partition=\"events.jsonl\"")).body;
    for line in [
        "usher_audience_members{audience=\"buyers\"} 1",
        "usher_live 1",
        "usher_model_freshness{freshness=\"Current\",model=\"users\"} 1",
        "usher_messages_matched_total{source=\"web\"} 2",
        "usher_epoch_seconds_count",
    ] {
        assert!(metrics.contains(line), "no `{line}` in\n{metrics}");
    }
    assert_eq!(api.get("/healthz").status, 200);
    drop(changes);
    api.running.stop("-TERM");
}

/// Where Python or its prometheus-client is missing, that is stderr, and the test passes.
#[test]
fn the_metrics_are_read_by_the_parser_of_prometheus() {
    let folder = shop();
    let api = Api::start(folder.path(), "1");
    api.live();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/metrics");
    match std::process::Command::new("python3").arg(script).args([&api.url[..], "sesame"]).output() {
        Ok(read) => {
            let stderr = [read.stdout, read.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
            assert!(read.status.success(), "{stderr}");
            println!("{stderr}");
        }
        Err(error) => println!("skipped: python3 can't be started: {error}"),
    }
    api.running.stop("-TERM");
}

#[test]
fn a_pull_is_asked_for_and_seen() {
    let folder = shop();
    let api = Api::start(folder.path(), "1");
    api.live();
    let models = api.get("/v1/models").json();
    let users_model = &models["models"][0];
    assert_eq!((&users_model["id"], &users_model["freshness"]), (&json!("users"), &json!("Current")));
    assert_eq!((&users_model["refresh"], &users_model["rows"]), (&json!("manual"), &json!(2)));
    assert_eq!((&users_model["next_pull"], &models["models"][1]["refresh"]), (&Value::Null, &json!("never")));
    assert_eq!(models["models"][1]["freshness"], Value::Null, "a model without Parquet has no freshness");

    let pull = |body: Value| {
        let reply = api.post("/v1/models/users/pulls", &body);
        assert_eq!(reply.status, 202, "{}", reply.body);
    };
    let ended = |count: usize| {
        let reply = api.until("/v1/models/users/pulls", |reply| {
            let pulls = reply.json();
            let pulls = pulls["pulls"].as_array().expect("a list").clone();
            pulls.len() == count
                && pulls[0]["status"] != "running"
                && pulls[0]["error"].is_null() != pulls[0]["changed_keys"].is_null()
        });
        reply.json()["pulls"][0].clone()
    };
    assert_eq!(ended(1)["trigger"], "start");
    // Nothing has changed: nothing is read.
    pull(json!({}));
    let skipped = ended(2);
    assert_eq!(
        (&skipped["extent"], &skipped["trigger"], &skipped["changed_keys"]),
        (&json!("partial"), &json!("request"), &json!(0))
    );
    users(folder.path(), &[30.0, 20.0]);
    pull(json!({}));
    let read = ended(3);
    assert_eq!((&read["extent"], &read["changed_keys"], &read["rows"]), (&json!("full"), &json!(1), &json!(2)));
    api.until("/v1/audiences/users/a", |reply| reply.json()["audience_ids"] == json!(["rich"]));
    pull(json!({"extent": "full"}));
    assert_eq!(ended(4)["changed_keys"], 0);
    std::fs::write(folder.path().join("users.parquet"), "half a file").expect("the folder can be written");
    pull(json!({}));
    assert!(ended(5)["error"].is_string());
    let stale = api.get("/v1/models").json()["models"][0].clone();
    assert_eq!((&stale["freshness"], &stale["rows"]), (&json!("Stale"), &json!(2)));
    assert_eq!(api.audiences_of("a"), json!(["rich"]), "the last good snapshot stays in force");
    assert_eq!(api.post("/v1/models/visitors/pulls", &json!({})).status, 409);
    assert_eq!(api.get("/v1/audiences").json()["audiences"][1]["freshness"], "Stale");
    api.running.stop("-INT");
}

/// A file that is written anew: of the same keys, with a key more and one less, in another order, and with a key twice.
#[test]
fn a_file_that_is_written_anew_changes_the_users_that_differ() {
    const USERS: usize = 20_000;
    let folder = shop();
    let write = |rows: &[(usize, f64)]| {
        let keys: Vec<String> = rows.iter().map(|(user, _)| format!("user-{user}")).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let ltv: Vec<f64> = rows.iter().map(|(_, ltv)| *ltv).collect();
        // Put in place whole: the job must not read half of it.
        let (new, file) = (folder.path().join("users.new"), folder.path().join("users.parquet"));
        write_parquet(&new, vec![("user_id", strings(&keys)), ("ltv", numbers(&ltv))]);
        std::fs::rename(new, file).expect("the folder can be written");
    };
    let mut rows: Vec<(usize, f64)> = (0..USERS).map(|user| (user, (user % 20) as f64)).collect();
    write(&rows);
    let api = Api::start(folder.path(), "2");
    api.live();
    // Each worker adds the keys that it has switched, so what is expected is awaited.
    let ended = |count: usize, is_expected: &dyn Fn(&Value) -> bool| {
        api.until("/v1/models/users/pulls", |reply| {
            let pulls = &reply.json()["pulls"];
            let is_last = pulls.as_array().is_some_and(|pulls| pulls.len() == count);
            is_last && pulls[0]["status"] != "running" && is_expected(&pulls[0])
        })
    };
    let pull = |rows: &[(usize, f64)]| {
        write(rows);
        assert_eq!(api.post("/v1/models/users/pulls", &json!({})).status, 202);
    };
    let check = |count: usize, rows: &[(usize, f64)], changed: usize, sent: Option<usize>| {
        pull(rows);
        let expected = [json!(rows.len()), json!(rows.len()), json!(changed)];
        ended(count, &|pull| ["rows", "rows_read", "changed_keys"].map(|of| pull[of].clone()) == expected);
        sent.iter().for_each(|sent| drop(api.running.wait_for(&format!(" sent={sent} "))));
        for (user, ltv) in rows.iter().step_by(97) {
            let rich = if *ltv > 15.0 { json!(["rich"]) } else { json!([]) };
            api.until(&format!("/v1/audiences/users/user-{user}"), |reply| reply.json()["audience_ids"] == rich);
        }
        let rich = rows.iter().filter(|(_, ltv)| *ltv > 15.0).count();
        api.until("/v1/audiences", |reply| reply.json()["audiences"][1]["size"] == json!(rich));
    };
    ended(1, &|pull| pull["rows"] == json!(USERS));
    // Values: three of which one condition changes, and as many that none sees.
    for user in [0, 9_700, 19_400] {
        rows[user].1 = 100.0 - rows[user].1;
        rows[user + 1].1 += 0.5;
    }
    check(2, &rows, 3, Some(3));
    // One more at the end, and in the middle one less: all behind it move.
    rows.push((USERS, 50.0));
    check(3, &rows, 1, Some(1 + USERS % 8_192));
    rows.remove(10_000);
    check(4, &rows, 1, None);
    assert_eq!(api.audiences_of("user-10000"), json!([]));
    rows.reverse();
    rows[97].1 = 16.0;
    check(5, &rows, 1, Some(USERS));
    rows.push(rows[3]);
    pull(&rows);
    let twice = format!("user-{}", rows[3].0);
    ended(6, &|pull| pull["error"].as_str().is_some_and(|error| error.contains(&twice)));
    rows.pop();
    rows[0].1 = 1.0;
    check(7, &rows, 1, Some(1));
    api.running.stop("-INT");
}

const DELTA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/connectors/src/parquet/tests/delta/timed");

/// Copies a version of a Delta table, and its file, into the folder `lake`.
fn commit(folder: &Path, version: u32) {
    let table = folder.join("lake");
    std::fs::create_dir_all(table.join("_delta_log")).expect("a folder");
    for name in [format!("_delta_log/{version:020}.json"), format!("{version}.parquet")] {
        std::fs::copy(Path::new(DELTA).join(&name), table.join(&name)).expect("a copy");
    }
}

/// A shop whose users are the first version of a Delta table.
fn lake(refresh: &str) -> tempfile::TempDir {
    let folder = shop();
    commit(folder.path(), 0);
    let job = JOB.replace("parquet: users.parquet", "delta: lake").replace("ltv > 15", "ltv >= 2.5");
    let job = job.replace("refresh: manual", &format!("refresh: {refresh}"));
    std::fs::write(folder.path().join("job.yaml"), job).expect("the folder can be written");
    folder
}

#[test]
fn a_table_without_a_new_version_is_looked_at_once_in_each_refresh() {
    let folder = lake("1s");
    let since = Instant::now();
    let api = Api::start(folder.path(), "1");
    api.live();
    // One that is under way has no version yet.
    let ended = |least: usize| {
        let ended = |reply: &Reply| {
            let pulls = reply.json()["pulls"].as_array().expect("a list").clone();
            pulls.into_iter().filter(|pull| pull["status"] != "running").collect::<Vec<_>>()
        };
        ended(&api.until("/v1/models/users/pulls", |reply| ended(reply).len() >= least))
    };
    let second = ended(2)[0].clone();
    assert_eq!((&second["trigger"], &second["version"]), (&json!("schedule"), &json!(0)));
    std::thread::sleep(Duration::from_millis(1_500));
    // It goes on.
    let (found, elapsed) = (ended(3).len() as u64, since.elapsed());
    assert!(found <= elapsed.as_secs() + 2, "{found} pulls in {elapsed:?}");
    api.running.stop("-TERM");
}

#[test]
fn a_version_of_a_delta_table_is_pulled_once() {
    let folder = lake("manual");
    let (from, table) = (Path::new(DELTA), folder.path().join("lake"));
    let commit = |version: u32| commit(folder.path(), version);
    let api = Api::start(folder.path(), "2");
    api.live();
    let pulled = |count: usize, extent: &str, is_so: &dyn Fn(&Value) -> bool| {
        if count > 1 {
            assert_eq!(api.post("/v1/models/users/pulls", &json!({"extent": extent})).status, 202);
        }
        let reply = api.until("/v1/models/users/pulls", |reply| {
            let pulls = reply.json()["pulls"].as_array().expect("a list").clone();
            pulls.len() == count && is_so(&pulls[0])
        });
        reply.json()["pulls"][0].clone()
    };
    // Each worker adds the keys that it has switched.
    let pull = |count: usize, extent: &str, expected: Value| {
        pulled(count, extent, &|pull| {
            json!([pull["version"], pull["extent"], pull["rows"], pull["rows_read"], pull["changed_keys"]]) == expected
        })
    };
    pull(1, "full", json!([0, "full", 2, 2, 2]));
    // The version is in force: nothing is read.
    pull(2, "full", json!([0, "partial", 2, 0, 0]));
    commit(1);
    // What was added is read.
    pull(3, "partial", json!([1, "partial", 4, 2, 2]));
    assert_eq!(api.get("/v1/models").json()["models"][0]["version"], 1);
    api.until("/v1/audiences/users/u-11", |reply| reply.json()["audience_ids"] == json!(["rich"]));
    // The next version's file is not there.
    std::fs::copy(
        from.join("_delta_log/00000000000000000002.json"),
        table.join("_delta_log/00000000000000000002.json"),
    )
    .expect("a copy");
    let failed = pulled(4, "full", &|pull| pull["error"].is_string());
    let error = failed["error"].as_str().expect("it failed");
    assert!(error.ends_with("lake/2.parquet`: the file is gone, and version 2 of the table names it"), "{error}");
    assert_eq!(api.get("/v1/models").json()["models"][0]["version"], 1, "the last good version stays in force");
    commit(2);
    pull(5, "full", json!([2, "full", 6, 6, 2]));
    api.running.stop("-INT");
}

/// Two ports, one after the other, that were free a moment ago.
fn two_ports() -> u16 {
    loop {
        let first = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = first.local_addr().expect("an address").port();
        if port < u16::MAX && std::net::TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}

#[test]
fn any_process_of_a_cluster_answers_for_all() {
    let folder = shop();
    let (api_port, first, second) = (two_ports(), two_ports(), two_ports());
    let job = JOB.replace("127.0.0.1:0", &format!("127.0.0.1:{api_port}"));
    std::fs::write(folder.path().join("job.yaml"), job).expect("the folder can be written");
    std::fs::write(folder.path().join("hosts"), format!("127.0.0.1:{first}\n127.0.0.1:{second}\n")).expect("a file");
    let start = |process| Running::with(folder.path(), &["-w", "2", "-n", "2", "-p", process, "-h", "hosts"]);
    let both = [start("0"), start("1")].map(Api::of);
    assert_eq!(both[1].url, format!("http://127.0.0.1:{}", api_port + 1));
    both.iter().for_each(Api::live);
    let mut followed = both.each_ref().map(|api| events_after(api, "/v1/changes?audience=buyers", None));
    let mut last = 0;
    for user in ["a", "b"] {
        for _ in 0..2 {
            last = std::fs::metadata(folder.path().join("events.jsonl")).map_or(0, |file| file.len());
            buy(folder.path(), user);
        }
    }
    for api in &both {
        // Whoever reads the file, and whoever owns the keys.
        for (user, audiences) in [("a", json!(["buyers"])), ("b", json!(["buyers", "rich"]))] {
            let path = format!("/v1/audiences/users/{user}?after=web:events.jsonl:{last}&timeout_ms=30000");
            let reply = api.get(&path);
            assert_eq!((reply.status, &reply.json()["audience_ids"]), (200, &audiences), "{}", reply.body);
            let explained = api.get(&format!("/v1/audiences/users/{user}/explain?audience=buyers")).json();
            assert_eq!(explained["audiences"][0]["member"], true);
        }
        let (mut members, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = api.get(&format!("/v1/members/buyers?limit=1&cursor={cursor}")).json();
            members
                .extend(page["members"].as_array().expect("a list").iter().map(|key| key.as_str().unwrap().to_owned()));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = next.to_owned(),
                None => break,
            }
        }
        members.sort();
        assert_eq!(members, ["a", "b"]);
        let sizes = api.get("/v1/audiences");
        let counts = |index: usize| {
            let audience = &sizes.json()["audiences"][index];
            (audience["size"].as_u64().expect("a number"), audience["entries"].as_u64().expect("a number"))
        };
        assert_eq!((counts(0), counts(1)), ((2, 2), (1, 1)), "{}", sizes.body);
        assert!(sizes.as_of.is_some() && !sizes.recovering);
        api.until("/v1/syncs", |reply| reply.json()["syncs"][0]["delivered"] == 3);
    }
    // The stream of each has the changes of both, and each goes on where the other was.
    let mut ids = Vec::new();
    for (changes, other) in followed.iter_mut().zip(both.iter().rev()) {
        let [first, second] = [changes.next(), changes.next()].map(|change| change.expect("a change"));
        let mut keys = [&first, &second].map(|(_, event, data)| (event.clone(), data["key"].clone()));
        keys.sort_by_key(|(_, key)| key.to_string());
        assert_eq!(keys, ["a", "b"].map(|key| ("entry".to_owned(), json!(key))));
        let resumed = events_after(other, "/v1/changes?audience=buyers", Some(&first.0)).next().expect("a change");
        assert_eq!(resumed.2, second.2, "after {}", first.0);
        ids.push(second.0);
    }
    assert_eq!(ids[0], ids[1], "two streams that have all changes are at the same id, whichever process serves them");
    users(folder.path(), &[30.0, 20.0]);
    assert_eq!(both[1].post("/v1/models/users/pulls", &json!({})).status, 202);
    for api in &both {
        api.until("/v1/models/users/pulls", |reply| reply.json()["pulls"][0]["changed_keys"] == 1);
        api.until("/v1/audiences/users/a", |reply| reply.json()["audience_ids"] == json!(["buyers", "rich"]));
    }
    let [first, second] = both;
    first.running.stop("-TERM");
    second.running.wait_for("read ");
}

#[test]
fn a_cursor_of_members_from_before_a_restart_is_refused() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    std::fs::write(folder.path().join("job.yaml"), JOB).expect("it can be written");
    users(folder.path(), &[10.0, 20.0]);
    for user in ["a", "a", "b", "b"] {
        buy(folder.path(), user);
    }
    let page = |api: &Api, cursor: &str| api.get(&format!("/v1/members/buyers?limit=1&cursor={cursor}"));
    let api = Api::start(folder.path(), "3");
    api.running.wait_for("live after");
    let first = page(&api, "").json();
    let cursor = first["next_cursor"].as_str().expect("there are two").to_owned();
    assert_eq!(page(&api, &cursor).json()["members"].as_array().map(Vec::len), Some(1));
    api.running.stop("-TERM");
    let api = Api::start(folder.path(), "1");
    api.running.wait_for("live after");
    let reply = page(&api, &cursor);
    assert!(
        reply.status == 400 && reply.body.contains("the cursor is of an earlier run: start over"),
        "{}",
        reply.body
    );
    assert_eq!(page(&api, "").status, 200);
    api.running.stop("-TERM");
}

#[test]
fn an_api_that_can_not_be_opened_is_said() {
    let folder = shop();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let write = |job: String| std::fs::write(folder.path().join("job.yaml"), job).expect("the folder can be written");
    write(JOB.replace("127.0.0.1:0", &address));
    let ran = run(folder.path(), &["run", "job.yaml"]);
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("the API can't listen on `{address}`")), "{}", ran.stderr);
    assert!(!folder.path().join("state").exists(), "nothing was taken over");
    write(JOB.replace("${USHER_TEST_TOKEN:-sesame}", "${USHER_TEST_NO_TOKEN}"));
    let output = usher(folder.path(), &["run", "job.yaml"]).output().expect("the program starts");
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("USHER_TEST_NO_TOKEN"), "{stderr}");
}
