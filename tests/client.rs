//! `usher lookup`, `usher pull` and `usher status` against a served API, and without one.

#[path = "../serve/tests/api/memory.rs"]
#[allow(dead_code)]
mod memory;

use crate::support::rows::usher;
use memory::Memory;
use usher_serve::{Key, Options, Server, bind};

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn ask(url: &str, key: Option<&str>, args: &[&str]) -> Ran {
    let mut command = usher(std::path::Path::new("."), args);
    command.env("USHER_URL", url).env_remove("USHER_API_KEY");
    if let Some(key) = key {
        command.env("USHER_API_KEY", key);
    }
    let output = command.output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the program prints text");
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn serve(memory: &Memory, keys: &[(&str, bool)]) -> (Server, String) {
    let listener = bind("127.0.0.1:0", 0).unwrap();
    let keys = keys.iter().map(|(token, admin)| Key { token: (*token).to_owned(), read: true, admin: *admin });
    let options = Options { keys: keys.collect(), ..Options::default() };
    let server = Server::start(options, memory.index.clone(), memory.api(), listener).unwrap();
    let url = format!("http://{}", server.address());
    (server, url)
}

#[test]
fn a_running_job_can_be_asked() {
    let memory = Memory::live();
    memory.change(&[("seen", "..", true)]);
    let (_server, url) = serve(&memory, &[]);
    let found = ask(&url, None, &["lookup", "users", "u-42"]);
    assert_eq!(
        found.stdout,
        "`u-42` of `users` is in 2 audiences, as of 2026-11-23T10:00:00.002Z\n  high_intent\n  seen\n"
    );
    assert_eq!((found.code, &found.stderr[..]), (Some(0), ""));
    let found = ask(&url, None, &["lookup", "users", "a/b ü", "--json"]);
    assert_eq!(found.stdout, "{\"audience_ids\":[],\"parent_model_id\":\"users\",\"user_id\":\"a/b ü\"}\n");
    assert!(ask(&format!("{url}/"), None, &["lookup", "users", ".."]).stdout.contains("is in 1 audience,"));
    let status = ask(&url, None, &["status"]);
    assert!(status.stdout.starts_with("live, as of 2026-11-23T10:00:00.002Z\n\naudience"), "{}", status.stdout);
    assert!(status.stdout.contains("complete at 2026-11-23T10:00:01.000Z"), "{}", status.stdout);
    let status: serde_json::Value =
        serde_json::from_str(&ask(&url, None, &["status", "--json"]).stdout).expect("it is JSON");
    assert_eq!((&status["ready"], &status["syncs"][0]["id"]), (&true.into(), &"crm".into()));
    assert_eq!((&status["sources"][0]["matched"], &status["events"][0]["matched"]), (&8.into(), &8.into()));
    assert_eq!(ask(&url, None, &["pull", "users", "--full"]).code, Some(0));
    let waited = ask(&url, None, &["pull", "users", "--accept", "--wait"]);
    assert_eq!(
        (waited.code, &waited.stdout[..]),
        (Some(0), "pulled `users`: 2 rows in 0.012 s\n"),
        "{}",
        waited.stderr
    );
    let busy = ask(&url, None, &["pull", "accounts"]);
    assert_eq!(busy.code, Some(1));
    assert!(busy.stderr.contains("409 Conflict: a pull of `accounts` is running"), "{}", busy.stderr);
    let unknown = ask(&url, None, &["lookup", "nothing", "u-42"]);
    assert_eq!(unknown.code, Some(2));
    assert_eq!(unknown.stderr, "error: no model `nothing`; there are `accounts`, `users`\n");
}

#[test]
fn a_key_is_asked_for_by_name() {
    let (_server, url) = serve(&Memory::live(), &[("sesame", false)]);
    let refused = ask(&url, None, &["status"]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("requires a key\nhint: set USHER_API_KEY"), "{}", refused.stderr);
    let refused = ask(&url, Some("wrong-one"), &["status"]);
    assert!(refused.stderr.contains("does not accept the key") && !refused.stderr.contains("wrong-one"));
    assert_eq!(ask(&url, Some("sesame"), &["status"]).code, Some(0));
    let refused = ask(&url, Some("sesame"), &["pull", "users"]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("`can` of the key lacks `admin`"), "{}", refused.stderr);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "sesame\n").unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(ask(&url, None, &["lookup", "users", "x", "--key-file", file]).code, Some(0));
    assert_eq!(ask(&url, None, &["lookup", "users", "x", "--key-file", "nowhere"]).code, Some(2));
}

#[test]
fn who_is_away_is_said() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let away = ask(&url, None, &["status"]);
    assert_eq!(away.code, Some(3));
    assert!(away.stderr.contains("no API answers at `http://127.0.0.1:"), "{}", away.stderr);
    assert!(away.stderr.contains("hint: check that the job is running"), "{}", away.stderr);
    for wrong in ["nowhere", "ftp://localhost", "http://"] {
        assert_eq!(ask(wrong, None, &["status"]).code, Some(2), "{wrong}");
    }
    let (_server, url) = serve(&Memory::live(), &[]);
    let deeper = ask(&format!("{url}/v1"), None, &["lookup", "users", "x"]);
    assert_eq!(deeper.code, Some(2));
    assert!(deeper.stderr.contains("hint: give `--url` as the job prints it"), "{}", deeper.stderr);
    let secret = ask(&url.replace("http:", "https:"), None, &["status"]);
    assert_eq!(secret.code, Some(3));
    assert!(secret.stderr.contains("hint: the API of a job speaks http"), "{}", secret.stderr);
}
