//! Stores and web servers, each against a real one: nginx and versitygw. Where one is not installed, its tests say so and pass.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use object_store::aws::AmazonS3Builder;
use object_store::{ObjectStoreExt, path::Path as Key};

use super::*;

/// Debian's place for the module that lists files by WebDAV.
const DAV_MODULE: &str = "/usr/lib/nginx/modules/ngx_http_dav_ext_module.so";

/// An nginx that serves a folder.
struct WebServer {
    process: Child,
    folder: tempfile::TempDir,
    port: u16,
    lists: bool,
}

impl WebServer {
    /// Starts one, if it is installed.
    fn start() -> Option<WebServer> {
        let program = ["nginx", "/usr/sbin/nginx"].into_iter().find(|program| {
            Command::new(program).arg("-v").stderr(Stdio::null()).status().is_ok_and(|status| status.success())
        });
        let Some(program) = program else {
            println!(
                "skipped: nginx is not installed; on Debian: apt-get install nginx-light libnginx-mod-http-dav-ext"
            );
            return None;
        };
        let lists = Path::new(DAV_MODULE).exists();
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("www")).expect("a folder");
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
        let temporary =
            ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|name| format!("{name}_temp_path tmp;")).concat();
        let conf = format!(
            "{module} daemon off; master_process off; pid pid; error_log error.log; events {{}}
             http {{ {temporary} log_format sent '$request_method $uri $status $body_bytes_sent'; access_log access.log sent;
               server {{ listen 127.0.0.1:{port}; root www; {dav}
                 location /denied/ {{ deny all; }}
                 location /login/ {{ return 401; }}
                 location /down/ {{ return 503; }}
                 location /whole/ {{ max_ranges 0; }} }} }}",
            module = if lists { format!("load_module {DAV_MODULE};") } else { String::new() },
            dav = if lists { "dav_ext_methods PROPFIND;" } else { "" },
        );
        fs::write(folder.path().join("conf"), conf).expect("the configuration is written");
        // nginx takes paths of a configuration from its prefix, but logs before it has read one to a fixed place.
        let process = Command::new(program)
            .arg("-p")
            .arg(folder.path())
            .args(["-c", "conf", "-e", "error.log"])
            .spawn()
            .expect("nginx starts");
        let server = WebServer { process, folder, port, lists };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(10), "nginx answers: {}", server.log("error.log"));
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(server)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("www").join(name)
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    fn said(&self, path: &str) -> (SnapshotErrorKind, String) {
        let error = pull(&self.url(path), Path::new("/"), &users()).and_then(|pull| read(&pull)).expect_err("it fails");
        (error.kind, error.to_string().replace(&format!("127.0.0.1:{}", self.port), "HOST"))
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_url_of_one_file_is_read_without_listing() {
    let Some(server) = WebServer::start() else {
        return;
    };
    let users_then: Vec<(String, f64)> = (0..20_000).map(|n| (format!("ü-{n}"), f64::from(n))).collect();
    let borrowed: Vec<(&str, f64)> = users_then.iter().map(|(key, ltv)| (&**key, *ltv)).collect();
    write_users(&server.file("a folder/u.parquet"), &borrowed);
    // A signature in the query is sent, and shown nowhere.
    let url = server.url("a%20folder/u.parquet?X-Signature=secret");
    let pull = pull(&url, Path::new("/"), &users()).expect("the file is served");
    assert_eq!(pull.pieces(), 20);
    assert_eq!(paths(&pull), [server.url("a%20folder/u.parquet")]);
    assert!(pull.files()[0].e_tag.is_some());
    assert_eq!(pairs(&pull), users_then.into_iter().map(|(key, ltv)| (key, Some(ltv))).collect::<Vec<_>>());
    let log = server.log("access.log");
    assert!(log.lines().all(|line| line.starts_with("GET /a folder/u.parquet 206 ")), "{log}");
}

#[test]
fn only_the_wanted_columns_travel() {
    let Some(server) = WebServer::start() else {
        return;
    };
    let mut rng = fastrand::Rng::with_seed(1);
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(0..5_000));
    let noise: ArrayRef = Arc::new(StringArray::from_iter_values(
        (0..5_000).map(|_| format!("{:x}{:x}", rng.u128(..), rng.u128(..)).repeat(4)),
    ));
    write(&server.file("wide.parquet"), &[("noise", noise), ("user_id", keys)], Compression::UNCOMPRESSED, 1_000_000);
    let wanted = wanted("user_id", &[]);
    let pull = pull(&server.url("wide.parquet"), Path::new("/"), &wanted).expect("the file is served");
    let rows: usize = read(&pull).expect("the rows").iter().map(|rows| rows.keys.len()).sum();
    assert_eq!(rows, 5_000);
    let sent: u64 =
        server.log("access.log").lines().filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum();
    assert!(pull.files()[0].size > 1_000_000 && sent < 200_000, "{sent} of {}", pull.files()[0].size);
}

#[test]
fn a_web_server_that_lists_is_a_folder() {
    let Some(server) = WebServer::start() else {
        return;
    };
    for file in ["users/b.parquet", "users/a/c d.parquet", "users/_x.parquet", "users/readme.txt", "other/e.parquet"] {
        write_users(&server.file(file), &[(file, 1.0)]);
    }
    if !server.lists {
        println!("skipped in part: nginx has no WebDAV module; on Debian: apt-get install libnginx-mod-http-dav-ext");
        let expected = "`http://HOST/users/`: listing failed: the server answered 405 Not Allowed\n  hint: only a server with WebDAV lists its files; give the url of one file";
        assert_eq!(server.said("users/"), (SnapshotErrorKind::Network, expected.to_owned()));
        return;
    }
    let found = |path: &str| {
        let pull = pull(&server.url(path), Path::new("/"), &users()).expect(path);
        pairs(&pull).into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert_eq!(found("users/"), ["users/a/c d.parquet", "users/b.parquet"]);
    assert_eq!(found("*/*.parquet"), ["other/e.parquet", "users/b.parquet"]);
}

#[test]
fn what_a_web_server_refuses_is_said_without_the_signature() {
    let Some(server) = WebServer::start() else {
        return;
    };
    write_users(&server.file("whole/u.parquet"), &[("a", 1.0)]);
    fs::write(server.file("text.parquet"), "user_id,ltv\na,1\n").expect("the file is written");
    let check = |path: &str, kind: SnapshotErrorKind, expected: &str| {
        assert_eq!(server.said(&format!("{path}?sig=secret")), (kind, format!("`http://HOST/{path}`: {expected}")));
    };
    check("missing.parquet", SnapshotErrorKind::Missing, "no such file");
    check(
        "denied/u.parquet",
        SnapshotErrorKind::Denied,
        "access is denied: the server answered 403 Forbidden\n  hint: the url must be readable as it is, by its signature or `user:password@`",
    );
    check(
        "login/u.parquet",
        SnapshotErrorKind::Denied,
        "access is denied: the server answered 401 Unauthorized\n  hint: the url must be readable as it is, by its signature or `user:password@`",
    );
    let start = Instant::now();
    check("down/u.parquet", SnapshotErrorKind::Network, "the server answered 503 Service Unavailable");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    check(
        "whole/u.parquet",
        SnapshotErrorKind::Network,
        "the server ignores `Range` and sends whole files\n  hint: Parquet is read in ranges; serve it from a server that answers them with 206",
    );
    check(
        "text.parquet",
        SnapshotErrorKind::NotParquet,
        "the Parquet footer can't be read: Invalid Parquet file. Corrupt footer\n  hint: the file is truncated, still being written, or in another format",
    );
}

#[test]
fn a_server_that_is_not_there_is_an_error_in_seconds() {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
    let start = Instant::now();
    let error = pull(&format!("http://me:secret@127.0.0.1:{port}/u.parquet?sig=secret"), Path::new("/"), &users())
        .expect_err("nobody listens");
    assert_eq!(
        error.to_string(),
        format!("`http://127.0.0.1:{port}/u.parquet`: no answer: connection refused (os error 111)")
    );
    assert_eq!(error.kind, SnapshotErrorKind::Network);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn a_served_file_replaced_after_the_pull_is_an_error_not_a_mixture() {
    let Some(server) = WebServer::start() else {
        return;
    };
    write_users(&server.file("u.parquet"), &[("a", 1.0)]);
    let pull = pull(&server.url("u.parquet"), Path::new("/"), &users()).expect("the first");
    write_users(&server.file("u.parquet"), &[("a", 1.0), ("b", 2.0)]);
    assert_eq!(pull.piece(0).err().expect("it is another file").kind, SnapshotErrorKind::Replaced);
}

/// Runs the ignored test `name` of this program with these variables, and no others of a store.
fn run_inside<'a>(name: &str, set: impl IntoIterator<Item = (&'a str, &'a str)>) {
    let ours = std::env::vars()
        .filter(|(name, _)| !["AWS_", "GOOGLE_", "AZURE_"].iter().any(|prefix| name.starts_with(prefix)));
    let test = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "--ignored", &format!("parquet::tests::remote::{name}")])
        .env_clear()
        .envs(ours)
        .envs(set)
        .output()
        .expect("this program runs");
    let said = String::from_utf8_lossy(&test.stdout);
    assert!(test.status.success() && said.contains("1 passed"), "{said}\n{}", String::from_utf8_lossy(&test.stderr));
}

/// An S3-compatible store, in a folder of its own.
struct Bucket {
    script: PathBuf,
    folder: tempfile::TempDir,
}

impl Bucket {
    /// Starts one, if it is installed, and tells the variables that reach it.
    fn start() -> Option<(Bucket, String)> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/s3");
        let bucket = Bucket { script, folder: tempfile::tempdir().expect("a folder") };
        let up = Command::new(&bucket.script)
            .arg("up")
            .arg(bucket.folder.path().join("s3"))
            .output()
            .expect("the script runs");
        if up.status.code() == Some(3) {
            println!("skipped: {}", String::from_utf8_lossy(&up.stderr));
            return None;
        }
        assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
        Some((bucket, String::from_utf8(up.stdout).expect("utf-8")))
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        let _ = Command::new(&self.script).arg("down").arg(self.folder.path().join("s3")).status();
    }
}

#[test]
fn a_bucket_is_read_with_the_usual_environment() {
    let Some((_bucket, environment)) = Bucket::start() else {
        return;
    };
    run_inside("inside_a_bucket", environment.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('=')));
}

#[test]
#[ignore = "run by `a_bucket_is_read_with_the_usual_environment`"]
fn inside_a_bucket() {
    if std::env::var_os("AWS_ENDPOINT").is_none() {
        println!("skipped: only of use inside the test that runs it");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let bucket = AmazonS3Builder::from_env().with_bucket_name("warehouse").build().expect("a client");
    let folder = tempfile::tempdir().expect("a folder");
    let upload = |key: &str, users: &[(&str, f64)]| {
        let file = folder.path().join("upload.parquet");
        write_users(&file, users);
        let bytes = fs::read(&file).expect("the file is read");
        runtime.block_on(bucket.put(&Key::from(key), bytes.into())).expect("the upload");
    };
    for key in [
        "users/b.parquet",
        "users/dt=1/a.parquet",
        "users/dt=2/a.parquet",
        "users/_tmp/x.parquet",
        "users2/x.parquet",
        "usersx.parquet",
    ] {
        upload(key, &[(key, 1.0)]);
    }
    let outcome = |written: &str| match pull(written, Path::new("/"), &users()) {
        Ok(pull) => paths(&pull).join(" "),
        Err(error) => error.to_string(),
    };
    let all = "s3://warehouse/users/b.parquet s3://warehouse/users/dt=1/a.parquet s3://warehouse/users/dt=2/a.parquet";
    assert_eq!(outcome("s3://warehouse/users/"), all);
    assert_eq!(outcome("s3://warehouse/users"), all);
    assert_eq!(outcome("s3://warehouse/usersx.parquet"), "s3://warehouse/usersx.parquet");
    assert_eq!(outcome("s3://warehouse/users?.parquet"), "s3://warehouse/usersx.parquet");
    assert_eq!(
        outcome("s3://warehouse/users/dt=*/a.parquet"),
        "s3://warehouse/users/dt=1/a.parquet s3://warehouse/users/dt=2/a.parquet"
    );
    assert_eq!(outcome("s3://warehouse/**/x.parquet"), "s3://warehouse/users2/x.parquet");
    assert_eq!(outcome("s3://warehouse/nobody.parquet"), "`s3://warehouse/nobody.parquet`: no such file");
    assert_eq!(
        outcome("s3://warehouse/nobody/"),
        "`s3://warehouse/nobody/`: no `*.parquet` file below this folder\n  hint: names with a leading `_` or `.` are skipped"
    );
    assert_eq!(outcome("s3://no-such-bucket/users/"), "`s3://no-such-bucket/users/`: no such bucket");

    let many: Vec<(String, f64)> = (0..30_000).map(|n| (format!("u-{n}"), f64::from(n))).collect();
    let many: Vec<(&str, f64)> = many.iter().map(|(key, ltv)| (&**key, *ltv)).collect();
    upload("many.parquet", &many);
    let pull = pull("s3://warehouse/many.parquet", Path::new("/"), &users()).expect("the object");
    assert_eq!(pull.pieces(), 30);
    assert_eq!(pairs(&pull), many.iter().map(|&(key, ltv)| (key.to_owned(), Some(ltv))).collect::<Vec<_>>());
    let schema =
        ParquetWarehouse::new("s3://warehouse/many.parquet", Path::new("/")).and_then(|warehouse| warehouse.schema());
    assert_eq!(schema.expect("a schema").column("LTV"), Some(FoundType::Known(ColumnType::Number)));

    // Of the same size, so that only the tag tells.
    let other: Vec<(&str, f64)> = many.iter().map(|&(key, ltv)| (key, -ltv)).collect();
    upload("many.parquet", &other);
    assert_eq!(pull.piece(3).err().expect("it is another object").kind, SnapshotErrorKind::Replaced);

    let stranger = AmazonS3Builder::from_env()
        .with_bucket_name("warehouse")
        .with_secret_access_key("wrong")
        .build()
        .expect("a client");
    let refused = runtime.block_on(stranger.get(&Key::from("many.parquet"))).expect_err("the secret is wrong");
    let error = error::of_store("s3://warehouse/many.parquet", &refused);
    assert_eq!(
        error.to_string(),
        "`s3://warehouse/many.parquet`: access is denied: the server answered 403 Forbidden (SignatureDoesNotMatch)\n  hint: the store's credentials are taken from the environment: AWS_*, GOOGLE_* or AZURE_*"
    );
}

#[test]
fn a_store_without_credentials_says_where_they_come_from() {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
    let nowhere = format!("http://127.0.0.1:{port}");
    run_inside(
        "inside_an_environment_without_credentials",
        [("AWS_METADATA_ENDPOINT", &*nowhere), ("AWS_ENDPOINT", &*nowhere)],
    );
}

#[test]
#[ignore = "run by `a_store_without_credentials_says_where_they_come_from`"]
fn inside_an_environment_without_credentials() {
    if std::env::var_os("AWS_ENDPOINT").is_none() {
        println!("skipped: only of use inside the test that runs it");
        return;
    }
    let said = |written: &str| {
        ParquetWarehouse::new(written, Path::new("/"))
            .and_then(|warehouse| warehouse.schema())
            .expect_err("no credentials")
            .to_string()
    };
    let hint = "\n  hint: the store's credentials are taken from the environment: AWS_*, GOOGLE_* or AZURE_*";
    assert_eq!(said("s3://b/u.parquet"), format!("`s3://b/u.parquet`: there are no credentials for the store{hint}"));
    assert_eq!(said("az://b/u/"), format!("`az://b/u/`: the store can't be set up: account must be specified{hint}"));
}

#[test]
fn stores_are_set_up_without_a_request() {
    // No credentials are looked at before the first request; a store that can't be named is refused.
    assert!(ParquetWarehouse::new("s3://bucket/users/", Path::new("/")).is_ok());
    let error = ParquetWarehouse::new("s3://bucket/a//b", Path::new("/")).expect_err("an empty name inside a path");
    assert_eq!(error.kind, SnapshotErrorKind::Location);
}

#[test]
fn a_debug_text_of_a_warehouse_holds_no_secret() {
    let warehouse =
        ParquetWarehouse::new("https://me:hunter2@example.com/u.parquet?sig=hunter2", Path::new("/")).expect("a url");
    let text = format!("{warehouse:?}");
    assert!(text.contains("example.com/u.parquet") && !text.contains("hunter2"), "{text}");
}
