//! The API over real connections: the answer of each route, and the refusal of bad requests.

#[path = "api/memory.rs"]
mod memory;

use memory::{Memory, START};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};
use usher_serve::{Console, Key, Options, ServeError, Server, bind};

/// A server, and a client of it.
struct Api {
    server: Server,
    address: SocketAddr,
    client: Client,
}

struct Client {
    runtime: tokio::runtime::Runtime,
    http: reqwest::Client,
}

#[derive(Debug)]
struct Reply {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The status, and the name of the problem.
    fn problem(&self) -> (u16, String) {
        let body = self.json();
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(body["status"], self.status);
        assert!(body["title"].is_string() && body["detail"].is_string());
        let kind = body["type"].as_str().unwrap();
        (self.status, kind.strip_prefix("urn:usher:problem:").unwrap().to_owned())
    }
}

impl Client {
    fn new() -> Client {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Client { runtime, http: reqwest::Client::builder().no_proxy().build().unwrap() }
    }

    fn send(&self, request: reqwest::RequestBuilder) -> Reply {
        self.runtime.block_on(async {
            let response = request.send().await.unwrap();
            let headers = response.headers().iter();
            let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
            Reply { status: response.status().as_u16(), headers, body: response.text().await.unwrap() }
        })
    }
}

fn serve(memory: &Memory, options: Options) -> Api {
    let listener = bind("127.0.0.1:0", 0).unwrap();
    let server = Server::start(options, memory.index.clone(), memory.api(), listener).unwrap();
    Api { address: server.address(), server, client: Client::new() }
}

impl Api {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn get(&self, path: &str) -> Reply {
        self.client.send(self.client.http.get(self.url(path)))
    }

    fn get_with(&self, path: &str, name: &str, value: &str) -> Reply {
        self.client.send(self.client.http.get(self.url(path)).header(name, value))
    }

    fn post(&self, path: &str, kind: &str, body: impl Into<reqwest::Body>) -> Reply {
        self.client.send(self.client.http.post(self.url(path)).header("content-type", kind).body(body))
    }

    fn lookup_all(&self, ids: &[&str]) -> Reply {
        self.post("/v1/audiences/users/lookup", "application/json", json!({ "user_ids": ids }).to_string())
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        // A test that hangs ends.
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }
}

fn live() -> (Memory, Api) {
    let memory = Memory::live();
    let api = serve(&memory, Options::default());
    (memory, api)
}

fn key(token: &str, read: bool, admin: bool) -> Key {
    Key { token: token.to_owned(), read, admin }
}

#[test]
fn a_lookup_has_the_audiences_sorted_and_its_time() {
    let (_memory, api) = live();
    let reply = api.get("/v1/audiences/users/u-42");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body, r#"{"parent_model_id":"users","user_id":"u-42","audience_ids":["high_intent","seen"]}"#);
    assert_eq!(reply.headers["content-type"], "application/json");
    assert_eq!(reply.headers["usher-as-of"], "2026-11-23T10:00:00.001Z");
    assert!(!reply.headers.contains_key("usher-recovering"));
    let reply = api.get("/v1/audiences/users/unknown");
    assert_eq!(reply.json(), json!({"parent_model_id": "users", "user_id": "unknown", "audience_ids": []}));
    // The same key in another model is a different key.
    assert_eq!(api.get("/v1/audiences/users/a").json()["audience_ids"], json!([]));
    assert_eq!(api.get("/v1/audiences/accounts/a").json()["audience_ids"], json!(["big"]));
    let reply = api.get("/v1/audiences/nothing/u-42");
    assert_eq!(reply.problem(), (404, "unknown_model".to_owned()));
    assert_eq!(reply.json()["detail"], "no model `nothing`; there are `accounts`, `users`");
}

#[test]
fn any_key_can_be_asked_for() {
    let (memory, api) = live();
    let long = "ab".repeat(5 * 1024);
    let keys = ["a/b", "../x", "💜 é", "a%2Fb", "a b+c&d?e#f", "lookup", "explain", "\"\\\u{1}", "\u{0}", "."];
    let changes: Vec<_> = keys.iter().map(|key| ("seen", *key, true)).collect();
    memory.change(&changes);
    for key in keys.iter().copied().chain([&long[..]]) {
        // Every byte is encoded, so that dots are not a path.
        let encoded: String = key.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let raw = format!("GET /v1/audiences/users/{encoded} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let mut stream = api.connect();
        stream.write_all(raw.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let body: Value = serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
        let expected = if key == long { json!([]) } else { json!(["seen"]) };
        assert_eq!((&body["user_id"], &body["audience_ids"]), (&json!(key), &expected));
        assert_eq!(api.lookup_all(&[key]).json()[0], body);
    }
    assert_eq!(api.get("/v1/audiences/users/lookup").json()["audience_ids"], json!(["seen"]));
    assert_eq!(api.get("/v1/audiences/users/lookup/explain").json()["user_id"], "lookup");
    assert_eq!(api.get("/v1/audiences/users/explain/explain").json()["user_id"], "explain");
    assert_eq!(api.get("/v1/audiences/users/%FF").problem().0, 400);
    assert_eq!(api.get("/v1/audiences/users/").problem().0, 404);
    assert_eq!(api.get("/v1/audiences/users/a/b").problem().0, 404);
}

#[test]
fn a_batch_is_answered_in_its_order_at_one_time() {
    let (memory, api) = live();
    let reply = api.lookup_all(&["u-7", "unknown", "u-42", "u-7"]);
    assert_eq!(reply.status, 200);
    let of = |user: &str, ids: &[&str]| json!({"parent_model_id": "users", "user_id": user, "audience_ids": ids});
    let seen = of("u-7", &["seen"]);
    assert_eq!(reply.json(), json!([seen, of("unknown", &[]), of("u-42", &["high_intent", "seen"]), seen]));
    assert_eq!(reply.headers["usher-as-of"], "2026-11-23T10:00:00.001Z");
    assert_eq!(api.lookup_all(&[]).body, "[]");
    memory.change(&[("seen", "u-7", false)]);
    assert_eq!(api.lookup_all(&["u-7"]).json(), json!([of("u-7", &[])]));
}

#[test]
fn a_batch_that_is_wrong_is_refused() {
    let (_memory, api) = live();
    let path = "/v1/audiences/users/lookup";
    let ids: Vec<String> = (0..1001).map(|id| id.to_string()).collect();
    let ids: Vec<&str> = ids.iter().map(|id| &id[..]).collect();
    assert_eq!(api.lookup_all(&ids[..1000]).json().as_array().unwrap().len(), 1000);
    assert_eq!(api.lookup_all(&ids).problem(), (413, "too_large".to_owned()));
    let json = "application/json";
    assert_eq!(api.post(path, json, vec![b' '; (1 << 20) + 1]).problem().0, 413);
    for broken in ["", "{", "{\"user_ids\":[\"a\"]} x", "{\"user_ids\":[\"\\ud800\"]}", "\u{1}"] {
        assert_eq!(api.post(path, json, broken).problem(), (400, "bad_request".to_owned()), "{broken}");
    }
    assert_eq!(api.post(path, json, vec![b'"', 0xff, b'"']).problem().0 / 100, 4);
    for shape in ["[]", "{}", "null", "{\"user_ids\":null}", "{\"user_ids\":[1]}", "{\"user_ids\":[],\"more\":1}"] {
        assert_eq!(api.post(path, json, shape).problem().0, 422, "{shape}");
    }
    let body = "{\"user_ids\":[]}";
    for kind in ["text/plain", "application/xml", "application/jsonx", ""] {
        assert_eq!(api.post(path, kind, body).problem(), (415, "unsupported_media_type".to_owned()), "{kind}");
    }
    for kind in ["application/json; charset=utf-8", "Application/JSON"] {
        assert_eq!(api.post(path, kind, body).status, 200, "{kind}");
    }
    assert_eq!(api.post("/v1/audiences/nothing/lookup", json, body).problem().0, 404);
    // A list of fields is not an object.
    for (path, body) in [("audiences/users/lookup", r#" [["u-1"]]"#), ("models/users/pulls", "[]")] {
        let reply = api.post(&format!("/v1/{path}"), "application/json", body);
        assert_eq!(reply.problem(), (422, "wrong_shape".to_owned()), "{path}");
    }
}

#[test]
fn another_method_is_refused_with_the_allowed_ones() {
    let (_memory, api) = live();
    for (method, path, allow) in [
        (Method::POST, "/v1/audiences/users/u-42", "GET,HEAD"),
        (Method::DELETE, "/v1/audiences/users/u-42", "GET,HEAD"),
        (Method::PUT, "/v1/audiences/users/lookup", "GET,HEAD,POST"),
        (Method::PATCH, "/v1/models/users/pulls", "GET,HEAD,POST"),
        (Method::POST, "/healthz", "GET,HEAD"),
    ] {
        let reply = api.client.send(api.client.http.request(method, api.url(path)));
        assert_eq!(reply.problem(), (405, "method_not_allowed".to_owned()));
        assert_eq!(reply.headers["allow"], allow, "{path}");
    }
    let reply = api.client.send(api.client.http.head(api.url("/v1/audiences/users/u-42")));
    assert_eq!((reply.status, &reply.body[..]), (200, ""));
    assert_eq!(api.get("/v1/nothing").problem(), (404, "not_found".to_owned()));
}

#[test]
fn keys_allow_what_their_scopes_name() {
    let memory = Memory::live();
    let keys = vec![key("reader", true, false), key("boss", true, true), key("robot", false, true)];
    let api = serve(&memory, Options { keys, ..Options::default() });
    let lookup = "/v1/audiences/users/u-42";
    for open in ["/healthz", "/readyz", "/"] {
        assert_eq!(api.get(open).status, 200, "{open}");
    }
    for closed in [lookup, "/metrics", "/openapi.json", "/v1/models", "/v1/changes", "/v1/nothing"] {
        let reply = api.get(closed);
        assert_eq!(reply.problem(), (401, "unauthorized".to_owned()), "{closed}");
        assert_eq!(reply.headers["www-authenticate"], "Bearer realm=\"usher\"");
    }
    for wrong in ["Bearer readerx", "Bearer reade", "Bearer boss reader", "Basic reader", "Bearer", "reader"] {
        assert_eq!(api.get_with(lookup, "authorization", wrong).problem().0, 401, "{wrong}");
    }
    let wrong = api.get_with(lookup, "authorization", "Bearer secret-of-another");
    assert!(wrong.headers["www-authenticate"].contains("invalid_token"));
    assert!(!wrong.body.contains("secret-of-another"));
    for right in ["Bearer reader", "bearer  reader", "Bearer boss"] {
        assert_eq!(api.get_with(lookup, "authorization", right).status, 200, "{right}");
    }
    assert_eq!(api.get_with("/v1/nothing", "authorization", "Bearer reader").problem().0, 404);
    assert_eq!(api.get_with(lookup, "authorization", "Bearer robot").problem(), (403, "insufficient_scope".to_owned()));
    let pull = |token: &str| {
        let request = api.client.http.post(api.url("/v1/models/users/pulls"));
        api.client.send(request.header("authorization", format!("Bearer {token}")))
    };
    let refused = pull("reader");
    assert_eq!(refused.problem(), (403, "insufficient_scope".to_owned()));
    assert!(refused.headers["www-authenticate"].contains("scope=\"admin\""));
    assert_eq!(pull("boss").status, 202);
    assert_eq!(pull("robot").status, 202);
    // With keys, any host name is accepted.
    let named = api.client.http.get(api.url(lookup)).header("host", "usher.example.com");
    assert_eq!(api.client.send(named.header("authorization", "Bearer reader")).status, 200);
}

#[test]
fn without_keys_only_this_machine_may_use_the_api() {
    let (memory, api) = live();
    let lookup = "/v1/audiences/users/u-42";
    for (name, value, status) in [
        ("host", "attacker.example", 403),
        ("host", "attacker.example:8080", 403),
        ("host", "localhost:8080", 200),
        ("host", "[::1]:8080", 200),
        ("origin", "http://attacker.example", 403),
        ("origin", "null", 403),
        ("origin", "http://localhost:3000", 200),
    ] {
        assert_eq!(api.get_with(lookup, name, value).status, status, "{name}: {value}");
    }
    let listener = bind("0.0.0.0:0", 0).unwrap();
    let refused = Server::start(Options::default(), memory.index.clone(), memory.api(), listener);
    let Err(error @ ServeError::Open { .. }) = refused else { panic!("it is served") };
    assert_eq!(error.hint(), "give `api.keys`, or listen on 127.0.0.1");
}

#[test]
fn ports_are_counted_up_by_process_and_a_taken_one_is_named() {
    let first = bind("127.0.0.1:0", 0).unwrap();
    let port = first.local_addr().unwrap().port();
    let error = bind(&format!("127.0.0.1:{}", port - 1), 1).unwrap_err();
    assert!(error.to_string().contains(&format!("`127.0.0.1:{}`", port - 1)), "{error}");
    for wrong in ["localhost", "localhost:x", "localhost:70000", ":", "127.0.0.1:65535"] {
        assert!(matches!(bind(wrong, 1), Err(ServeError::Listen { .. })), "{wrong}");
    }
}

#[test]
fn a_client_above_the_rate_gets_the_time_to_retry_after() {
    let memory = Memory::live();
    let keys = vec![key("one", true, false), key("two", true, false)];
    let rate_limit = NonZeroU32::new(2);
    let api = serve(&memory, Options { keys, rate_limit, ..Options::default() });
    let ask = |token: &str| api.get_with("/v1/audiences/users/u-42", "authorization", &format!("Bearer {token}"));
    let limited = (0..100).map(|_| ask("one")).find(|reply| reply.status != 200).expect("100 are more than 2 a second");
    assert_eq!(limited.problem(), (429, "rate_limited".to_owned()));
    assert_eq!(limited.headers["retry-after"], "1");
    assert_eq!(ask("two").status, 200);
    assert_eq!(api.get("/healthz").status, 200);
}

#[test]
fn a_slow_client_is_disconnected() {
    let memory = Memory::live();
    let soon = Duration::from_millis(200);
    let api = serve(&memory, Options { idle: soon, patience: soon, ..Options::default() });
    // One sends nothing, one half a head, and one a head without a body.
    let mut silent = api.connect();
    let mut half = api.connect();
    half.write_all(b"GET /v1/audiences/users/u-42 HTTP/1.1\r\nHost: loc").unwrap();
    let mut bodiless = api.connect();
    bodiless
        .write_all(
            b"POST /v1/audiences/users/lookup HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
              Content-Length: 100\r\n\r\n{\"user",
        )
        .unwrap();
    let mut text = Vec::new();
    silent.read_to_end(&mut text).unwrap();
    half.read_to_end(&mut text).unwrap();
    assert_eq!(String::from_utf8(text).unwrap(), "");
    let mut text = String::new();
    bodiless.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 408") && text.contains("slow_request"), "{text}");
    assert_eq!(api.get("/v1/audiences/users/u-42").status, 200);
}

#[test]
fn a_client_that_does_not_read_is_disconnected() {
    let memory = Memory::live();
    let api = serve(&memory, Options { idle: Duration::from_millis(300), ..Options::default() });
    let mut stream = api.connect();
    stream.write_all(b"GET /v1/changes HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut head = [0; 16];
    stream.read_exact(&mut head).unwrap();
    // More than the sockets' buffers hold.
    let keys: Vec<String> = (0..60_000).map(|key| format!("{key}-{}", "x".repeat(1000))).collect();
    let changes: Vec<_> = keys.iter().map(|key| ("seen", &key[..], true)).collect();
    memory.change(&changes);
    // Only a server that has closed makes a write fail.
    let give_up = Instant::now() + Duration::from_secs(60);
    while stream.write_all(b" ").is_ok() {
        assert!(Instant::now() < give_up, "the connection is still there");
        std::thread::yield_now();
    }
    assert_eq!(api.get("/healthz").status, 200);
}

#[test]
fn idle_connections_cost_no_answers_and_too_many_are_refused() {
    let memory = Memory::live();
    let api = serve(&memory, Options { connections: 200, ..Options::default() });
    // One connection is the client's own.
    assert_eq!(api.get("/healthz").status, 200);
    let mut idle: Vec<TcpStream> = (0..199).map(|_| api.connect()).collect();
    assert_eq!(api.get("/v1/audiences/users/u-42").status, 200);
    let mut refused = api.connect();
    let mut text = String::new();
    refused.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 503"), "{text}");
    assert_eq!(api.get("/v1/audiences/users/u-42").status, 200);
    // The open connections still work.
    for stream in &mut idle {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    }
}

#[test]
fn bytes_that_are_not_http_do_no_harm() {
    let (_memory, api) = live();
    for bytes in [&b"\x16\x03\x01\x02\x00\x01"[..], b"GET\r\n\r\n", b"\r\n\r\n\r\n \r\n", b"GET / HTTP/9.9\r\n\r\n"] {
        let mut stream = api.connect();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _reset = stream.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
    }
    let mut stream = api.connect();
    let _closed = stream.write_all(format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100_000)).as_bytes());
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 431");
    assert_eq!(api.get("/healthz").status, 200);
}

#[test]
fn a_lookup_waits_until_what_was_written_is_reflected() {
    let (memory, api) = live();
    let path = |after: &str, ms: u64| format!("/v1/audiences/users/new?after={after}&timeout_ms={ms}");
    memory.index.reflect("web", "in/a:b.jsonl", 100, memory.now());
    let after = "web:in%2Fa%3Ab.jsonl:99";
    assert_eq!(api.get(&path(after, 0)).status, 200);
    let after = "web:in%2Fa%3Ab.jsonl:100";
    let late = api.get(&path(after, 10));
    assert_eq!(late.problem(), (504, "not_reflected".to_owned()));
    // The event at 100 takes effect with the next epoch.
    memory.index.reflect("web", "in/a:b.jsonl", 150, memory.now() + 1);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let client = Client::new();
            client.send(client.http.get(api.url(&path(after, 50_000))))
        });
        memory.change(&[("seen", "new", true)]);
        assert_eq!(asked.join().unwrap().json()["audience_ids"], json!(["seen"]));
    });
    assert_eq!(api.get(&path("tv:x:1", 1)).problem(), (404, "unknown_source".to_owned()));
    for (after, ms) in
        [("web", 1), ("web:x", 1), ("web:x:y", 1), ("web:x:-1", 1), ("web:x:%2B1", 1), ("web:x:1", 55_001)]
    {
        assert_eq!(api.get(&path(after, ms)).problem().0, 400, "{after} {ms}");
    }
    assert_eq!(api.get("/v1/audiences/users/new?timeout_ms=soon").problem().0, 400);
}

#[test]
fn a_job_that_recovers_answers_from_the_ledgers() {
    let memory = Memory::new();
    let api = serve(&memory, Options::default());
    let lookup = "/v1/audiences/users/u";
    assert_eq!(api.get(lookup).problem(), (503, "unavailable".to_owned()));
    assert_eq!(api.lookup_all(&["u"]).problem().0, 503);
    let reply = api.get("/readyz");
    assert_eq!((reply.status, reply.json()["ready"].clone()), (503, json!(false)));
    let seen = memory.index.catalog().index("seen").unwrap();
    memory.index.load_ledger(START - 60_000, [(seen, "u")], 1);
    let reply = api.get(lookup);
    assert_eq!(reply.json()["audience_ids"], json!(["seen"]));
    assert_eq!(reply.headers["usher-as-of"], "2026-11-23T09:59:00.000Z");
    assert_eq!(reply.headers["usher-recovering"], "true");
    memory.change(&[("high_intent", "u", true)]);
    let reply = api.get(lookup);
    assert_eq!(reply.json()["audience_ids"], json!(["high_intent"]));
    assert!(!reply.headers.contains_key("usher-recovering"));
    assert_eq!(api.get("/healthz").status, 200);
}

#[test]
fn audiences_models_syncs_and_members_are_listed() {
    let (memory, api) = live();
    let audiences = api.get("/v1/audiences").json();
    assert_eq!(
        audiences["audiences"][2],
        json!({"id": "seen", "name": "seen", "model": "users", "owner": "growth", "tags": ["web", "q4"], "size": 2,
            "entries": 2, "exits": 0,
            "freshness": "Current", "windows": {"complete": false, "complete_at": "2026-11-23T10:00:01.000Z"}, "held": 3})
    );
    let listed = api.get("/v1/audiences?ids=seen,big").json();
    assert_eq!(listed["audiences"], json!([audiences["audiences"][2], audiences["audiences"][0]]));
    assert_eq!(api.get("/v1/audiences?ids=").json()["audiences"], json!([]));
    assert_eq!(api.get("/v1/audiences?ids=seen,nothing").problem(), (404, "unknown_audience".to_owned()));
    let models = api.get("/v1/models").json();
    assert_eq!(models["models"][1]["id"], "users");
    assert_eq!(models["models"][1]["last_pull"], "2026-11-23T10:00:00.000Z");
    assert_eq!(api.get("/v1/syncs").json()["syncs"][0]["waiting"], 2);
    let event = &api.get("/v1/events").json()["events"][0];
    assert_eq!((&event["matched"], &event["last_seen"]), (&json!(8), &json!("2026-11-23T10:00:00.000Z")));
    assert_eq!(event["near"], json!(["order completed"]));
    let source = &api.get("/v1/sources").json()["sources"][0];
    assert_eq!(source["unmatched"], json!([{"type": "track", "name": "order completed", "count": 2}]));
    assert_eq!(source["partitions"][0]["position"], 1000);
    let explained = api.get("/v1/audiences/users/u-42/explain?audience=high_intent").json();
    assert_eq!(explained["audiences"].as_array().unwrap().len(), 1);
    assert_eq!(explained["audiences"][0]["condition"]["threshold"], "at_least 3");
    assert_eq!(api.get("/v1/audiences/users/u-42/explain?audience=big").problem().0, 404);
    assert_eq!(api.get("/v1/audiences/users/unknown/explain").problem().0, 404);
    // Pages hold each member once.
    let keys: Vec<String> = (0..25).map(|key| format!("m{key:02}")).collect();
    memory.change(&keys.iter().map(|key| ("big", &key[..], true)).collect::<Vec<_>>());
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let after = cursor.map_or(String::new(), |cursor: String| format!("&cursor={cursor}"));
        let page = api.get(&format!("/v1/members/big?limit=10{after}")).json();
        found.extend(page["members"].as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned()));
        match &page["next_cursor"] {
            Value::Null => break,
            next => cursor = Some(next.as_str().unwrap().to_owned()),
        }
    }
    assert_eq!(found.len(), 26);
    assert_eq!(api.get("/v1/members/big?cursor=").json()["members"][0], "a");
    for wrong in ["limit=0", "limit=1001", "limit=x"] {
        assert_eq!(api.get(&format!("/v1/members/big?{wrong}")).problem().0, 400, "{wrong}");
    }
    assert_eq!(api.get("/v1/members/nothing").problem(), (404, "unknown_audience".to_owned()));
    let definition = api.get("/v1/definitions/seen");
    assert_eq!(definition.headers["usher-as-of"], "2026-11-23T10:00:00.002Z");
    assert_eq!(definition.json()["condition"]["keys"], 2);
    assert_eq!(definition.json()["leaving_by_minute"].as_array().unwrap().len(), 60);
    assert_eq!(api.get("/v1/definitions/nothing").problem(), (404, "unknown_audience".to_owned()));
    let job = api.get("/v1/job").json();
    assert_eq!((&job["job"], &job["plan"]), (&json!("shop"), &json!("job shop\n")));
    assert_eq!((&job["access"], &job["console_actions"]), (&json!({"read": true, "admin": true}), &json!(true)));
}

#[test]
fn sizes_over_time_are_those_of_the_index() {
    let (_memory, api) = live();
    let begun = Instant::now();
    let sizes = loop {
        let sizes = api.get("/v1/sizes/seen").json();
        if sizes["hour"]["until"].is_string() {
            break sizes;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{sizes}");
    };
    assert_eq!(sizes["hour"]["until"], "2026-11-23T10:00:00.000Z");
    assert_eq!((&sizes["hour"]["sizes"], &sizes["day"]["sizes"]), (&json!([2]), &json!([2])));
    assert_eq!((&sizes["hour"]["step_ms"], &sizes["day"]["step_ms"]), (&json!(10_000), &json!(60_000)));
    let many = api.get("/v1/sizes?ids=seen,big").json();
    assert_eq!(many["audiences"][0], json!({"id": "seen", "sizes": [2], "entries": null, "exits": null}));
    assert_eq!((&many["audiences"][1]["id"], &many["audiences"][1]["sizes"]), (&json!("big"), &json!([1])));
    assert_eq!(api.get("/v1/sizes").json()["audiences"].as_array().unwrap().len(), 3);
    assert_eq!(api.get("/v1/sizes?ids=").json()["audiences"], json!([]));
    for unknown in ["/v1/sizes/nothing", "/v1/sizes?ids=seen,nothing"] {
        assert_eq!(api.get(unknown).problem(), (404, "unknown_audience".to_owned()));
    }
    let many = vec!["seen"; 1001].join(",");
    assert_eq!(api.get(&format!("/v1/sizes?ids={many}")).problem().0, 413);
}

#[test]
fn the_console_needs_no_key_and_runs_nothing_but_its_own_files() {
    let memory = Memory::live();
    let keys = vec![key("reader", true, false), key("boss", true, true)];
    let console = Some(Console { actions: false });
    let api = serve(&memory, Options { keys, console, ..Options::default() });
    let shell = api.get("/");
    assert_eq!((shell.status, &shell.headers["content-type"][..]), (200, "text/html; charset=utf-8"));
    let policy = &shell.headers["content-security-policy"];
    assert!(policy.starts_with("default-src 'none'; script-src 'self'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(shell.headers["cache-control"], "no-cache");
    let etag = shell.headers["etag"].clone();
    assert_eq!(api.get_with("/", "if-none-match", &etag).status, 304);
    assert_eq!(api.get_with("/", "if-none-match", &format!("\"other\", W/\"x\", {etag}")).status, 304);
    let file = shell.body.split('"').find(|part| part.ends_with("/main.js")).expect("the shell names its module");
    let plain = api.get(file);
    assert_eq!((plain.status, &plain.headers["content-type"][..]), (200, "text/javascript; charset=utf-8"));
    assert!(plain.headers["cache-control"].contains("immutable") && !plain.headers.contains_key("content-encoding"));
    let compressed = api.client.http.get(api.url(file)).header("accept-encoding", "br;q=1.0, gzip;q=0.8");
    let (encoding, length) = api.client.runtime.block_on(async {
        let answer = compressed.send().await.unwrap();
        (answer.headers()["content-encoding"].clone(), answer.bytes().await.unwrap().len())
    });
    assert_eq!(encoding, "gzip");
    assert!(length < plain.body.len());
    for absent in ["/console/0000/main.js", &file.replace("main.js", "index.html"), &file.replace("main.js", "x")] {
        assert_eq!(api.get(absent).problem(), (404, "not_found".to_owned()), "{absent}");
    }
    // What the data needs a key for, it does.
    assert_eq!(api.get("/v1/job").problem().0, 401);
    for (token, admin) in [("reader", false), ("boss", true)] {
        let job = api.get_with("/v1/job", "authorization", &format!("Bearer {token}")).json();
        assert_eq!((&job["access"], &job["console_actions"]), (&json!({"read": true, "admin": admin}), &json!(false)));
    }
}

#[test]
fn a_console_can_be_switched_off() {
    let memory = Memory::live();
    let file = serve(&memory, Options::default()).get("/").body;
    let file = file.split('"').find(|part| part.ends_with("/main.js")).expect("the shell names its module").to_owned();
    let api = serve(&memory, Options { console: None, ..Options::default() });
    assert!(api.get("/").body.contains("/openapi.json"));
    assert_eq!(api.get(&file).problem().0, 404);
}

#[test]
fn a_pull_can_be_requested() {
    let (_memory, api) = live();
    let path = "/v1/models/users/pulls";
    assert_eq!(api.get(path).json(), json!({"pulls": []}));
    let reply = api.client.send(api.client.http.post(api.url(path)));
    let accepted = json!({"model_id": "users", "extent": "partial", "number": 1});
    assert_eq!((reply.status, reply.json()), (202, accepted));
    assert_eq!(reply.headers["location"], path);
    let reply = api.post(path, "application/json", r#"{"extent":"full"}"#);
    assert_eq!((reply.status, reply.json()["extent"].clone()), (202, json!("full")));
    let pulls = api.get(path).json();
    assert_eq!((&pulls["pulls"][0]["number"], &pulls["pulls"][0]["extent"]), (&json!(2), &json!("full")));
    assert_eq!(pulls["pulls"][1]["trigger"], "request");
    assert_eq!(api.post(path, "application/json", "null").json()["extent"], "partial");
    assert_eq!(api.post(path, "application/json", r#"{"extent":"some"}"#).problem().0, 422);
    assert_eq!(api.post(path, "text/plain", "full").problem().0, 415);
    assert_eq!(api.post("/v1/models/accounts/pulls", "", "").problem(), (409, "conflict".to_owned()));
    assert_eq!(api.post("/v1/models/nothing/pulls", "", "").problem().0, 404);
}

#[test]
fn dead_letters_of_an_audience_that_the_job_lacks_are_refused_if_there_are_none() {
    let (_memory, api) = live();
    for order in ["redeliver", "drop"] {
        let order = |audience: &str| {
            let path = format!("/v1/syncs/crm/dead_letters/{order}");
            api.post(&path, "application/json", json!({ "audience": audience }).to_string())
        };
        assert_eq!((order("seen").status, order("seen").json()["dead_letters"].clone()), (202, json!(0)));
        assert_eq!((order("removed").status, order("removed").json()["dead_letters"].clone()), (202, json!(1)));
        assert_eq!(order("nothing").problem(), (404, "unknown_audience".to_owned()));
    }
}

/// A follower of the changes.
struct Follower {
    stream: std::io::BufReader<TcpStream>,
}

impl Follower {
    fn new(api: &Api, query: &str, last: Option<&str>) -> Follower {
        let mut stream = api.connect();
        let last = last.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        // HTTP/1.0 has no chunks.
        write!(stream, "GET /v1/changes{query} HTTP/1.0\r\nHost: localhost\r\n{last}\r\n").unwrap();
        let mut follower = Follower { stream: std::io::BufReader::new(stream) };
        let head = follower.event();
        assert!(head.contains_key("content-type: text/event-stream"), "{head:?}");
        follower
    }

    /// Returns the fields of the next event, by name: the lines up to an empty one.
    fn event(&mut self) -> BTreeMap<String, String> {
        use std::io::BufRead;
        let mut fields = BTreeMap::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            match line.trim_end() {
                "" => return fields,
                line => match line.split_once(": ").filter(|(name, _)| ["id", "event", "data"].contains(name)) {
                    Some((name, value)) => fields.insert(name.to_owned(), value.to_owned()),
                    None => fields.insert(line.to_owned(), String::new()),
                },
            };
        }
    }

    /// Returns kind, audience and key of the next event.
    fn change(&mut self) -> (String, String, String) {
        let event = self.event();
        let data: Value = serde_json::from_str(&event["data"]).unwrap();
        assert_eq!(data["job"], "shop");
        (
            event["event"].clone(),
            data["audience_id"].as_str().unwrap().to_owned(),
            data["key"].as_str().unwrap().to_owned(),
        )
    }
}

fn change(kind: &str, audience: &str, key: &str) -> (String, String, String) {
    (kind.to_owned(), audience.to_owned(), key.to_owned())
}

#[test]
fn changes_can_be_followed_and_resumed() {
    let (memory, api) = live();
    let mut all = Follower::new(&api, "", None);
    let start = all.event()["id"].clone();
    let mut seen = Follower::new(&api, "?audience=seen&key=k", None);
    seen.event();
    memory.change(&[("high_intent", "k", true), ("seen", "k", true), ("seen", "l", true)]);
    memory.change(&[("seen", "k", false)]);
    assert_eq!(all.change(), change("entry", "high_intent", "k"));
    let second = all.event();
    assert_eq!(all.change(), change("entry", "seen", "l"));
    assert_eq!(all.change(), change("exit", "seen", "k"));
    assert_eq!(seen.change(), change("entry", "seen", "k"));
    assert_eq!(seen.change(), change("exit", "seen", "k"));
    // A client that reconnects resumes after its last event, or after the first id.
    let mut resumed = Follower::new(&api, "", Some(&second["id"]));
    resumed.event();
    assert_eq!(resumed.change(), change("entry", "seen", "l"));
    let mut resumed = Follower::new(&api, "", Some(&start));
    resumed.event();
    assert_eq!(resumed.change(), change("entry", "high_intent", "k"));
    // An id of another run can't be resumed after.
    let mut other = Follower::new(&api, "?audience=seen", Some("123-4"));
    assert_eq!(other.event()["event"], "reset");
    assert_eq!(other.change(), change("entry", "seen", "k"));
    assert_eq!(api.get_with("/v1/changes", "last-event-id", "x").problem().0, 400);
    assert_eq!(api.get("/v1/changes?audience=nothing").problem().0, 404);
    // A stop ends the streams.
    api.server.stop();
    let mut rest = Vec::new();
    all.stream.read_to_end(&mut rest).unwrap();
}

#[test]
fn many_followers_are_written_to_in_rounds() {
    let (memory, api) = live();
    let mut followers: Vec<Follower> = (0..100).map(|_| Follower::new(&api, "", None)).collect();
    followers.iter_mut().for_each(|follower| drop(follower.event()));
    let before = Instant::now();
    memory.change(&[("seen", "k", true)]);
    assert_eq!(followers[0].change(), change("entry", "seen", "k"));
    memory.change(&[("seen", "l", true)]);
    memory.change(&[("seen", "k", false)]);
    assert_eq!(followers[0].change(), change("entry", "seen", "l"));
    assert!(before.elapsed() >= Duration::from_millis(4), "0.04 ms for each follower");
    for follower in &mut followers[1..] {
        assert_eq!(follower.change(), change("entry", "seen", "k"));
        assert_eq!(follower.change(), change("entry", "seen", "l"));
        assert_eq!(follower.change(), change("exit", "seen", "k"));
    }
}

#[test]
fn requests_for_keys_of_another_process_are_forwarded_to_it() {
    let (one, two) = (Memory::live(), Memory::live());
    let keys = || vec![key("k", true, false)];
    let (first, second) = (
        serve(&one, Options { keys: keys(), ..Options::default() }),
        serve(&two, Options { keys: keys(), ..Options::default() }),
    );
    // The first owns the keys that begin with 1, the second the rest.
    let (here, there) = (first.address.to_string(), second.address.to_string());
    one.owned_by(move |key| (!key.starts_with('1')).then(|| there.clone()));
    two.owned_by(move |key| key.starts_with('1').then(|| here.clone()));
    one.change(&[("seen", "1/a", true)]);
    two.change(&[("high_intent", "2/b", true)]);
    two.change(&[("seen", "2/b", true)]);
    let ask = |api: &Api, path: &str| api.get_with(path, "authorization", "Bearer k");
    for api in [&first, &second] {
        assert_eq!(ask(api, "/v1/audiences/users/1%2Fa").json()["audience_ids"], json!(["seen"]));
        let reply = ask(api, "/v1/audiences/users/2%2Fb");
        assert_eq!(reply.json()["audience_ids"], json!(["high_intent", "seen"]));
        assert_eq!(reply.headers["usher-as-of"], "2026-11-23T10:00:00.003Z");
        assert_eq!(ask(api, "/v1/audiences/users/2%2Fb/explain").json()["user_id"], "2/b");
        let request = api.client.http.post(api.url("/v1/audiences/users/lookup")).header("authorization", "Bearer k");
        let request = request.header("content-type", "application/json");
        let batch = api.client.send(request.body(json!({"user_ids": ["2/b", "1/a", "2/c"]}).to_string()));
        let ids: Vec<Value> = batch.json().as_array().unwrap().iter().map(|one| one["audience_ids"].clone()).collect();
        assert_eq!(ids, [json!(["high_intent", "seen"]), json!(["seen"]), json!([])]);
        assert_eq!(batch.headers["usher-as-of"], "2026-11-23T10:00:00.002Z");
        assert_eq!(api.get("/v1/audiences/users/2%2Fb").problem().0, 401);
    }
    // Each takes the other for the owner.
    let (here, there) = (first.address.to_string(), second.address.to_string());
    one.owned_by(move |_| Some(there.clone()));
    two.owned_by(move |_| Some(here.clone()));
    assert_eq!(ask(&first, "/v1/audiences/users/x").problem(), (508, "loop".to_owned()));
    second.server.stop();
    assert_eq!(ask(&first, "/v1/audiences/users/x").problem(), (502, "peer".to_owned()));
}

/// Serves two processes of one job, each with the address of the other.
fn both(memories: [&Memory; 2]) -> [Api; 2] {
    let apis = memories.map(|memory| serve(memory, Options::default()));
    let [first, second] = apis.each_ref().map(|api| Some(api.address.to_string()));
    memories[0].one_of(vec![None, second]);
    memories[1].one_of(vec![first, None]);
    apis
}

#[test]
fn sizes_are_those_of_all_processes() {
    let (one, two) = (Memory::live(), Memory::new());
    let [first, second] = both([&one, &two]);
    let sizes = |api: &Api| {
        let reply = api.get("/v1/audiences");
        let counts = reply.json()["audiences"].as_array().unwrap().clone();
        let counts = counts.iter().map(|of| (of["size"].as_u64().unwrap(), of["exits"].as_u64().unwrap())).collect();
        (reply.headers.get("usher-as-of").cloned().unwrap_or_default(), counts)
    };
    // There are no sums until all processes are live.
    for api in [&first, &second] {
        assert_eq!(api.get("/v1/audiences").problem(), (503, "unavailable".to_owned()));
    }
    two.change(&[("seen", "x", true), ("big", "b", true)]);
    one.change(&[("seen", "u-7", false)]);
    let at = |ms: u64| format!("2026-11-23T10:00:00.{ms:03}Z");
    for api in [&first, &second] {
        assert_eq!(sizes(api), (at(1), vec![(2, 0), (1, 0), (2, 1)]));
    }
    // A forwarded request is answered with the own part.
    let part = second.get_with("/v1/audiences", "usher-forwarded", "1").json();
    assert_eq!((&part["audiences"][0]["size"], &part["audiences"][1]["size"]), (&json!(1), &json!(0)));
    second.server.stop();
    assert_eq!(first.get("/v1/audiences").problem(), (502, "peer".to_owned()));
}

#[test]
fn the_ledgers_of_one_process_answer_for_all_keys() {
    let (one, two) = (Memory::new(), Memory::new());
    one.index.load_ledger(START - 5, [(2, "k"), (2, "l")], 1);
    for api in &both([&one, &two]) {
        let reply = api.get("/v1/audiences");
        assert_eq!(reply.json()["audiences"][2]["size"], 2);
        assert_eq!(reply.headers["usher-as-of"], "2026-11-23T09:59:59.995Z");
        assert_eq!(reply.headers["usher-recovering"], "true");
    }
}

#[test]
fn before_all_are_live_the_ledgers_answer_and_then_the_owner_of_the_key() {
    let (one, two) = (Memory::new(), Memory::new());
    let [first, second] = both([&one, &two]);
    let addresses = [&first, &second].map(|api| api.address.to_string());
    // As in a job: the first process has the ledgers, and answers until a process is live; the second owns all keys.
    let owner = |memory: &Memory, own: usize| {
        let (index, addresses) = (memory.index.clone(), addresses.clone());
        memory.owned_by(move |_| {
            let owner = match index.as_of() {
                Some(as_of) if as_of.recovering => own,
                None => 0,
                Some(_) => 1,
            };
            (owner != own).then(|| addresses[owner].clone())
        });
    };
    owner(&one, 0);
    owner(&two, 1);
    let lookup = "/v1/audiences/users/k";
    for api in [&first, &second] {
        assert_eq!(api.get(lookup).problem().0, 503);
        assert_eq!(api.lookup_all(&["k"]).problem().0, 503);
    }
    one.index.load_ledger(START - 5, [(2, "k")], 1);
    for api in [&first, &second] {
        for reply in [api.get(lookup), api.lookup_all(&["k"])] {
            assert!(reply.body.contains("\"audience_ids\":[\"seen\"]"), "{}", reply.body);
            assert_eq!(reply.headers["usher-recovering"], "true");
        }
    }
    // A request that waits while the job goes live is answered by the owner.
    std::thread::scope(|scope| {
        let asked = [&first, &second].map(|api| {
            let url = api.url(&format!("{lookup}?after=web:e:1&timeout_ms=50000"));
            scope.spawn(move || {
                let client = Client::new();
                client.send(client.http.get(url))
            })
        });
        std::thread::sleep(Duration::from_millis(50));
        one.change(&[("big", "o", true)]);
        // The first is live, the second not yet.
        assert_eq!(first.get(lookup).problem().0, 503);
        assert_eq!(second.get(lookup).problem().0, 503);
        two.change(&[("high_intent", "k", true)]);
        for memory in [&one, &two] {
            memory.index.reflect("web", "e", 2, START);
        }
        for asked in asked {
            let reply = asked.join().unwrap();
            assert_eq!(reply.json()["audience_ids"], json!(["high_intent"]), "{}", reply.body);
            assert!(!reply.headers.contains_key("usher-recovering"));
        }
    });
}

#[test]
fn the_changes_of_all_processes_are_followed_at_any_and_resumed_at_any_other() {
    let (one, two) = (Memory::live(), Memory::live());
    let [first, second] = both([&one, &two]);
    let mut at_first = Follower::new(&first, "?audience=seen", None);
    let start = at_first.event()["id"].clone();
    assert_eq!(start, format!("{START}-0.{START}-0"));
    let mut at_second = Follower::new(&second, "", None);
    at_second.event();
    // One change after the other, so that there is one order.
    let mut ids = Vec::new();
    for (memory, key) in [(&one, "a"), (&two, "b"), (&one, "c")] {
        memory.change(&[("seen", key, true), ("high_intent", key, true)]);
        let event = at_first.event();
        assert!(event["data"].contains(&format!("\"key\":\"{key}\"")), "{event:?}");
        ids.push(event["id"].clone());
        for _ in 0..2 {
            assert_eq!(at_second.change().2, key);
        }
    }
    // After `b`, at the other process than the one that gave the id.
    let mut resumed = Follower::new(&second, "?audience=seen", Some(&ids[1]));
    resumed.event();
    assert_eq!(resumed.change(), change("entry", "seen", "c"));
    // Ids of another run, or of a job with another number of processes, lead to a reset.
    for id in [format!("7-1.{START}-1"), format!("{START}-1"), format!("{START}-1.{START}-1.{START}-1")] {
        let mut reset = Follower::new(&first, "", Some(&id));
        assert_eq!(reset.event()["event"], "reset", "{id}");
        assert!(reset.event()["id"].contains('.'));
    }
    for wrong in ["x", "1-1.x", "1-1.", "."] {
        assert_eq!(first.get_with("/v1/changes", "last-event-id", wrong).problem().0, 400, "{wrong}");
    }
    // A process that stops is named, and the stream ends: a part is never presented as the whole.
    second.server.stop();
    let lost = at_first.event();
    assert_eq!((&lost["event"][..], &lost["data"][..]), ("lost", "{\"process\":1}"));
    at_first.stream.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(first.get("/v1/changes").problem(), (502, "peer".to_owned()));
}

#[test]
fn metrics_have_the_counters_of_server_index_and_job() {
    let (_memory, api) = live();
    api.get("/v1/audiences/users/u-42");
    api.get("/v1/audiences/nothing/u-42");
    let reply = api.get("/metrics");
    assert_eq!(reply.status, StatusCode::OK.as_u16());
    assert!(reply.headers["content-type"].starts_with("text/plain; version=0.0.4"));
    let route = "/v1/audiences/{parent_model_id}/{user_id}";
    for line in [
        &format!("usher_api_requests_total{{route=\"{route}\",status=\"200\"}} 1")[..],
        &format!("usher_api_requests_total{{route=\"{route}\",status=\"404\"}} 1"),
        "usher_audience_members{audience=\"seen\"} 2",
        "usher_dead_letters_total{reason=\"malformed\",source=\"web\"} 1",
        "usher_model_freshness{freshness=\"Current\",model=\"users\"} 1",
        "usher_pulls_total{model=\"users\",status=\"failed\"} 2",
        "usher_pulls_total{model=\"users\",status=\"held\"} 1",
        "usher_sync_waiting{sync=\"crm\"} 2",
        "usher_sync_oldest_waiting_seconds{sync=\"crm\"} 0",
        "usher_checkpoints_failed_total 0",
        "usher_checkpoint_age_seconds 2.5",
        "usher_checkpoint_duration_seconds 0.015",
        "usher_clock_ahead_seconds 1.5",
        "usher_partition_lag_seconds{partition=\"a \\\"quoted\\\"\\\\name\\n\",source=\"web\"} 0.25",
        "usher_build_info{commit=\"\",features=\"\",librdkafka=\"\",version=\"\"} 1",
        "usher_partition_lag_messages{partition=\"a \\\"quoted\\\"\\\\name\\n\",source=\"web\"} 3",
        "usher_live 1",
        "usher_event_matched_total{event=\"bought\"} 8",
        "usher_event_repeats_total{event=\"bought\"} 1",
        "usher_event_last_seen_timestamp_seconds{event=\"bought\"} 1795428000",
        "usher_damaged_files{source=\"web\"} 2",
        "usher_state_bytes 4096",
    ] {
        assert!(reply.body.lines().any(|found| found == line), "no {line} in\n{}", reply.body);
    }
}

#[test]
fn each_metric_is_described_in_the_docs_and_no_other_is() {
    let (_memory, api) = live();
    api.get("/v1/audiences/users/u-42");
    assert_eq!(api.post("/v1/models/users/pulls", "application/json", "{}").status, 202);
    let answered: BTreeSet<String> = (api.get("/metrics").body.lines())
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| line.replace(' ', " | "))
        .collect();
    let docs = include_str!("../../docs/METRICS.md");
    let described: BTreeSet<String> = (docs.lines())
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|row| row.split(" | ").take(2).map(|cell| cell.trim_end_matches('`')).collect::<Vec<_>>().join(" | "))
        .filter(|row| ["counter", "gauge", "histogram"].iter().any(|kind| row.ends_with(kind)))
        .collect();
    assert_eq!(described, answered);
}

#[test]
fn an_edit_is_worked_out_for_admins_by_the_first_process() {
    let (memory, second) = (Memory::live(), Memory::live());
    let keys = || vec![key("reader", true, false), key("admin", true, true)];
    let options = || Options { keys: keys(), ..Options::default() };
    let (first, other) = (serve(&memory, options()), serve(&second, options()));
    second.one_of(vec![Some(first.address.to_string()), None]);
    let post = |api: &Api, query: &str, who: &str, body: Vec<u8>| {
        let request = api.client.http.post(api.url(&format!("/v1/diff{query}")));
        api.client.send(request.header("authorization", format!("Bearer {who}")).body(body))
    };
    assert_eq!(post(&first, "", "reader", b"plan".to_vec()).problem(), (403, "insufficient_scope".to_owned()));
    for (query, read) in [("", false), ("?read=true", true), ("?read=false", false)] {
        for api in [&first, &other] {
            let reply = post(api, query, "admin", b"plan".to_vec());
            assert_eq!(reply.status, 200, "{}", reply.body);
            assert_eq!(reply.json()["state"]["as_of"], "plan");
            assert_eq!(reply.json()["state"]["read"], read);
        }
    }
    assert_eq!(post(&first, "?raed=true", "admin", b"plan".to_vec()).status, 400);
    assert_eq!(post(&first, "", "admin", Vec::new()).status, 400);
    // A plan may be larger than other bodies, and has a bound too.
    assert_eq!(post(&first, "", "admin", vec![b'x'; 2 << 20]).status, 200);
    // It is refused by its length, before it is sent.
    let mut stream = TcpStream::connect(first.address).unwrap();
    let length = (16 << 20) + 1;
    write!(
        stream,
        "POST /v1/diff HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer admin\r\nContent-Length: {length}\r\n\r\n"
    )
    .unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 413");
}

#[test]
fn the_description_is_served() {
    let (_memory, api) = live();
    let document = api.get("/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["components"]["securitySchemes"].is_null());
    let explained = &document["components"]["schemas"]["ExplainedCondition"]["properties"]["conditions"];
    assert_eq!(explained["items"]["$ref"], "#/components/schemas/ExplainedCondition");
}
