//! A registry in the test's process, which answers as each test has it.

use super::*;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use usher_config::{Place, PlacedSecret, Secret};
use usher_core::schemas::{Reference, SchemaKind};

/// An answer: status and body; `None` closes the connection.
type Answer = Option<(u16, String)>;

/// Requests: their paths, and the values of `authorization`.
type Requests = Arc<Mutex<Vec<(String, String)>>>;

/// Serves until the process ends. Returns the url, and the requests so far.
fn serve(answer: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) -> (String, Requests) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let requests = Requests::default();
    let (seen, answer) = (Arc::clone(&requests), Arc::new(answer));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let Some(Ok(first)) = lines.next() else { return };
                let mut headers = lines.map_while(Result::ok).take_while(|line| !line.is_empty());
                let authorization = headers.find_map(|line| line.strip_prefix("authorization: ").map(str::to_owned));
                let path = first.split(' ').nth(1).unwrap().to_owned();
                let number = {
                    let mut seen = lock(&seen);
                    seen.push((path.clone(), authorization.unwrap_or_default()));
                    seen.iter().filter(|(of, _)| *of == path).count()
                };
                if let Some((status, body)) = answer(&path, number) {
                    let length = body.len();
                    write!(
                        stream,
                        "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                    )
                    .unwrap();
                }
            });
        }
    });
    (url, requests)
}

fn of(url: &str) -> usher_config::Registry {
    let url = PlacedSecret { secret: Secret(url.to_owned()), place: Place::default() };
    usher_config::Registry { url, username: None, password: None }
}

fn open(url: &str) -> Result<Arc<Registry>, SourceError> {
    open_with(&of(url), None)
}

fn open_with(registry: &usher_config::Registry, kept: Option<Arc<Objects>>) -> Result<Arc<Registry>, SourceError> {
    let spec = RegistrySpec { id: "web", registry, bounded: true, kept };
    Registry::open_within(Duration::from_millis(300), &spec, &|name| (name == "SECRET").then(|| "hush:/&=@".to_owned()))
}

/// Waits until something is known of an id.
fn find(registry: &Registry, id: u32) -> Result<Arc<Schema>, String> {
    let id = SchemaId::Number(id);
    let began = Instant::now();
    while registry.standing(id) == Standing::Requested {
        assert!(began.elapsed() < Duration::from_secs(60), "nothing is settled");
        std::thread::sleep(Duration::from_millis(2));
    }
    registry.find(id).unwrap().map_err(|reason| reason.to_string())
}

/// Waits until the registry counts as away, and returns why.
fn away(registry: &Registry) -> String {
    let began = Instant::now();
    loop {
        if let Some(waiting) = registry.report().waiting {
            return waiting;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "it never counts as away");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn ok(body: &str) -> Answer {
    Some((200, body.to_owned()))
}

const MISSING: &str = r#"{"error_code":40403,"message":"Schema not found"}"#;

#[test]
fn a_schema_is_requested_once_with_all_that_it_refers_to() {
    let (url, requests) = serve(|path, _| match path {
        "/base/schemas/types" => ok(r#"["AVRO"]"#),
        "/base/schemas/ids/7" => ok(
            r#"{"schemaType":"PROTOBUF","schema":"a","references":[{"name":"b.proto","subject":"b/ü","version":2},{"name":"c.proto","subject":"c","version":1}]}"#,
        ),
        "/base/subjects/b%2F%C3%BC/versions/2" => {
            ok(r#"{"schemaType":"PROTOBUF","schema":"b","references":[{"name":"c.proto","subject":"c","version":1}]}"#)
        }
        "/base/subjects/c/versions/1" => ok(r#"{"schemaType":"PROTOBUF","schema":"c"}"#),
        other => panic!("{other}"),
    });
    let registry = open(&format!("{url}/base/")).unwrap();
    let reference = |name: &str, text: &str| Reference { name: name.to_owned(), text: text.to_owned() };
    let references = vec![reference("c.proto", "c"), reference("b.proto", "b")];
    let expected = Schema { kind: SchemaKind::Protobuf, text: "a".to_owned(), references };
    assert_eq!(*find(&registry, 7).unwrap(), expected, "each stands behind what it refers to itself");
    let before = lock(&requests).len();
    assert_eq!(*find(&registry, 7).unwrap(), expected);
    assert_eq!((before, lock(&requests).len()), (4, 4));
    assert_eq!(registry.report().seen, [(SchemaId::Number(7), Ok(SchemaKind::Protobuf))]);
}

#[test]
fn what_the_registry_does_not_have_or_forms_a_circle_is_settled_with_its_reason() {
    let (url, _) = serve(|path, _| match path {
        "/schemas/ids/2" => ok(r#"{"schema":"\"string\"","references":[{"name":"x","subject":"x","version":1}]}"#),
        "/subjects/x/versions/1" => ok(r#"{"schema":"1","references":[{"name":"y","subject":"y","version":3}]}"#),
        "/subjects/y/versions/3" => ok(r#"{"schema":"2","references":[{"name":"x","subject":"x","version":1}]}"#),
        "/schemas/ids/3" => ok(r#"{"schema":"1","references":[{"name":"z","subject":"z","version":9}]}"#),
        "/schemas/ids/4" => ok(r#"{"schema":"1","schemaType":"THRIFT"}"#),
        "/schemas/ids/5" => ok(r#"{"schema":"1","references":[{"name":"z"}]}"#),
        "/schemas/ids/6" => Some((404, String::new())),
        _ => Some((404, MISSING.to_owned())),
    });
    let registry = open(&url).unwrap();
    for (id, reason) in [
        (1, "the registry has no schema of this id"),
        (2, "the schema's references form a circle: `x` 1 → `y` 3 → `x` 1"),
        (3, "the schema refers to version 9 of `z`, which the registry does not have"),
        (4, "the schema is of the type `THRIFT`, which is not read"),
        (5, "the schema has a reference without name, subject or version"),
        (6, "the registry has no schema of this id"),
    ] {
        assert_eq!(find(&registry, id).unwrap_err(), reason);
    }
    assert_eq!(registry.report().waiting, None);
}

#[test]
fn no_answer_of_a_registry_says_nothing_about_an_id() {
    for (answer, reason) in [
        (Some((500, "{}".to_owned())), "answers 500 Internal Server Error"),
        (Some((503, "<html>".to_owned())), "answers 503 Service Unavailable"),
        (Some((302, String::new())), "answers 302 Found"),
        (Some((429, String::new())), "answers 429 Too Many Requests"),
        (Some((200, "<html>login</html>".to_owned())), "answers with HTML, not with JSON"),
        (Some((200, "hello".to_owned())), "answers with something else than JSON"),
        (Some((200, "{}".to_owned())), "answers with JSON that has no `schema`"),
        (Some((401, "{}".to_owned())), "refuses the user: 401 Unauthorized"),
        (None, "does not answer"),
    ] {
        // The schema comes with the fourth answer.
        let (url, requests) = serve(move |path, number| match path {
            "/schemas/types" => ok("[]"),
            _ if number < 4 => answer.clone(),
            _ => ok(r#"{"schema":"\"string\""}"#),
        });
        let registry = open(&url).unwrap();
        registry.standing(SchemaId::Number(1));
        let waiting = away(&registry);
        assert!(waiting.contains(&format!("source `web`: the registry at `{url}` {reason}")), "{waiting}");
        assert_eq!(find(&registry, 1).unwrap().text, "\"string\"");
        assert_eq!(registry.report().waiting, None);
        assert_eq!(lock(&requests).iter().filter(|(path, _)| path == "/schemas/ids/1").count(), 4);
    }
}

#[test]
fn a_page_of_html_with_404_is_of_no_registry_until_one_has_answered() {
    let (url, _) = serve(|path, number| match (path, number) {
        ("/schemas/ids/1", 1) => ok(r#"{"schema":"\"string\""}"#),
        _ => Some((404, "<!DOCTYPE html>".to_owned())),
    });
    let error = open(&url).err().unwrap().to_string();
    assert!(error.ends_with("answers 404 Not Found with HTML, as no registry does"), "{error}");
    let (url, _) = serve(|path, _| match path {
        "/schemas/ids/1" => ok(r#"{"schema":"\"string\""}"#),
        "/schemas/types" => ok("[]"),
        _ => Some((404, "<!DOCTYPE html>".to_owned())),
    });
    let registry = open(&url).unwrap();
    find(&registry, 1).unwrap();
    assert_eq!(find(&registry, 2).unwrap_err(), "the registry has no schema of this id");
}

#[test]
fn one_id_that_is_not_answered_holds_up_no_other() {
    let (url, _) = serve(|path, _| match path {
        "/schemas/types" => ok("[]"),
        "/schemas/ids/1" => Some((500, String::new())),
        _ => ok(r#"{"schema":"\"string\""}"#),
    });
    let registry = open(&url).unwrap();
    registry.standing(SchemaId::Number(1));
    away(&registry);
    find(&registry, 2).unwrap();
    assert_eq!(registry.standing(SchemaId::Number(1)), Standing::Requested);
    assert!(registry.report().waiting.is_some(), "an answer about another id is none about this one");
}

#[test]
fn a_first_start_needs_the_registry_and_one_with_kept_schemas_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let kept = Arc::new(Objects::open("state", folder.path(), 0).unwrap());
    let guid = [0xab; 16];
    let (url, _) = serve(|path, _| match path {
        "/schemas/types" => ok("[]"),
        "/schemas/ids/1" => ok(r#"{"schema":"\"string\""}"#),
        "/schemas/guids/abababab-abab-abab-abab-abababababab" => ok(r#"{"schema":"\"long\""}"#),
        _ => Some((404, MISSING.to_owned())),
    });
    let registry = open_with(&of(&url), Some(Arc::clone(&kept))).unwrap();
    find(&registry, 1).unwrap();
    find(&registry, 2).unwrap_err();
    while registry.standing(SchemaId::Guid(guid)) == Standing::Requested {
        std::thread::sleep(Duration::from_millis(2));
    }
    drop(registry);
    // The port is closed, as far as anybody knows.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = open_with(&of(&format!("http://{gone}")), Some(Arc::clone(&kept))).err().unwrap();
    assert!(error.to_string().contains("does not answer"), "{error}");
    for name in std::fs::read_dir(folder.path().join("state/schemas")).unwrap() {
        let name = name.unwrap().file_name().into_string().unwrap();
        let content = kept.schemas(&name).unwrap().pop().unwrap().1;
        let other = Client::new("web", &of(&format!("http://{gone}")), &|_| None).unwrap().name();
        kept.put_schema(&format!("{other}-{}", name.split_once('-').unwrap().1), &content).unwrap();
    }
    let registry = open_with(&of(&format!("http://{gone}")), Some(kept)).unwrap();
    assert_eq!(find(&registry, 1).unwrap().text, "\"string\"");
    assert_eq!(registry.find(SchemaId::Guid(guid)).unwrap().unwrap().text, "\"long\"");
    assert_eq!(registry.find(SchemaId::Number(2)), None, "what is not there is not kept");
}

#[test]
fn a_damaged_schema_that_is_kept_is_requested_anew() {
    let folder = tempfile::tempdir().unwrap();
    let kept = Arc::new(Objects::open("state", folder.path(), 0).unwrap());
    let (url, requests) = serve(|path, _| match path {
        "/schemas/types" => ok("[]"),
        _ => ok(r#"{"schema":"\"string\""}"#),
    });
    find(&open_with(&of(&url), Some(Arc::clone(&kept))).unwrap(), 1).unwrap();
    let file = std::fs::read_dir(folder.path().join("state/schemas")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    for expected in [4, 4] {
        find(&open_with(&of(&url), Some(Arc::clone(&kept))).unwrap(), 1).unwrap();
        assert_eq!(lock(&requests).len(), expected, "it is kept again");
    }
}

#[test]
fn a_schema_that_is_kept_and_is_none_is_requested_anew_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let kept = Arc::new(Objects::open("state", folder.path(), 0).unwrap());
    let (url, requests) = serve(|path, _| match path {
        "/schemas/types" => ok("[]"),
        _ => ok(r#"{"schema":"\"string\""}"#),
    });
    let name = format!("{}-1", Client::new("web", &of(&url), &|_| None).unwrap().name());
    kept.put_schema(&name, br#"{"kind":"Thrift"}"#).unwrap();
    for expected in [2, 2] {
        find(&open_with(&of(&url), Some(Arc::clone(&kept))).unwrap(), 1).unwrap();
        assert_eq!(lock(&requests).len(), expected, "it is kept again");
    }
}

#[test]
fn a_schema_that_the_first_version_kept_stays_readable() {
    let folder = tempfile::tempdir().unwrap();
    let kept = Arc::new(Objects::open("state", folder.path(), 0).unwrap());
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let registry = of(&format!("http://{gone}"));
    let name = format!("{}-7", Client::new("web", &registry, &|_| None).unwrap().name());
    let schemas = folder.path().join("state/schemas");
    std::fs::create_dir_all(&schemas).unwrap();
    std::fs::write(schemas.join(name), include_bytes!("../state_store/testdata/schema.v1")).unwrap();
    let registry = open_with(&registry, Some(kept)).unwrap();
    let text = r#"syntax = "proto3"; import "parts.proto"; message Event { Part part = 1; }"#.to_owned();
    let part = r#"syntax = "proto3"; message Part { string id = 1; }"#.to_owned();
    let references = vec![Reference { name: "parts.proto".to_owned(), text: part }];
    assert_eq!(*find(&registry, 7).unwrap(), Schema { kind: SchemaKind::Protobuf, text, references });
}

#[test]
fn user_and_password_are_sent_and_never_shown() {
    let (url, requests) = serve(|path, _| match path {
        "/schemas/types" => ok("[]"),
        _ => Some((403, String::new())),
    });
    let placed = |text: &str| PlacedSecret { secret: Secret(text.to_owned()), place: Place::default() };
    let given = usher_config::Registry {
        url: placed(&url),
        username: Some("ann".to_owned()),
        password: Some(placed("${SECRET}")),
    };
    let in_url = of(&url.replace("http://", "http://ann:hush%3A%2F&%3D%40@"));
    for registry in [given, in_url] {
        let registry = open_with(&registry, None).unwrap();
        registry.standing(SchemaId::Number(1));
        let waiting = away(&registry);
        assert!(waiting.ends_with("refuses the user: 403 Forbidden") && !waiting.contains("hush"), "{waiting}");
    }
    use base64::Engine as _;
    let expected = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode("ann:hush:/&=@"));
    let requests = lock(&requests);
    assert!(requests.iter().all(|(_, authorization)| *authorization == expected), "{requests:?}");
    let missing = usher_config::Registry { password: Some(placed("${OTHER}")), ..of(&url) };
    let error = open_with(&missing, None).err().unwrap().to_string();
    assert!(error.contains("OTHER"), "{error}");
}

#[test]
fn an_address_that_is_none_is_refused_without_being_quoted() {
    for (text, reason) in
        [("registry", "this is not a url"), ("ftp://u:p@host", "a registry is read by `https` or `http`, not `ftp`")]
    {
        let error = client::base(text).unwrap_err();
        assert!(error.contains(reason) && !error.contains("u:p"), "{error}");
    }
}
