//! What a store promises, held against each kind: a folder, a bucket of a real server, memory.

// A reason for skipping is for whoever reads a run.
#![allow(clippy::print_stdout)]

use super::*;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use usher_core::store::{Store, StoreError};

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// The contract, on an empty store that two processes share.
fn examine(one: &dyn Store, other: &dyn Store) {
    assert_eq!(one.latest(), Ok(None));
    let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let stored = one.put_part("a.1", &content).expect("a part");
    assert!(stored > 36);
    assert_eq!(one.put_part("a.1", &content), Ok(stored));
    let error = one.put_part("a.1", b"other").expect_err("the name is taken").to_string();
    assert!(error.ends_with("can't be written: `parts/a.1` is there, with other content"), "{error}");
    one.put_part("b.1", b"").expect("an empty part");
    assert!(other.get_part("a.1") == Ok(content));
    assert_eq!(other.get_part("b.1"), Ok(Vec::new()));
    let error = other.get_part("c.1").expect_err("no such part").to_string();
    assert!(error.contains("`parts/c.1`") && error.ends_with("is damaged: it is missing"), "{error}");

    one.publish(1, b"one 1").expect("the first manifest");
    one.publish(1, b"one 1").expect("its own manifest is known again");
    assert_eq!(other.latest(), Ok(Some((1, b"one 1".to_vec()))));
    let superseded = |result: Result<(), StoreError>| match result {
        Err(StoreError::Superseded { number, .. }) => number,
        other => panic!("{other:?}"),
    };
    assert_eq!(superseded(other.publish(1, b"other 1")), 1);
    one.publish(10, b"one 10").expect("any greater number");
    assert_eq!(superseded(one.publish(9, b"one 9")), 10);
    assert_eq!(one.latest(), Ok(Some((10, b"one 10".to_vec()))));

    one.collect(&names(&["b.1"]), 10).expect("a collection");
    assert_eq!(one.latest(), Ok(Some((10, b"one 10".to_vec()))));
    assert!(one.get_part("a.1").is_err());
    assert_eq!(one.get_part("b.1"), Ok(Vec::new()));

    // Taking over: one that still runs neither publishes nor removes anything.
    other.publish(11, b"other 11").expect("the next manifest");
    other.put_part("c.1", b"c").expect("a part");
    assert_eq!(superseded(one.publish(11, b"one 11")), 11);
    assert_eq!(superseded(one.collect(&names(&[]), 10)), 11);
    assert_eq!(other.get_part("b.1"), Ok(Vec::new()));
    assert_eq!(other.get_part("c.1"), Ok(b"c".to_vec()));

    // Of many that come at once, one gets a number.
    let came: Vec<_> = std::thread::scope(|scope| {
        let come = |n: u8| scope.spawn(move || one.publish(12, &[n]).is_ok());
        let threads: Vec<_> = (0..8).map(come).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert_eq!(came.iter().filter(|&&came| came).count(), 1, "{came:?}");
    let winner = came.iter().position(|&came| came).expect("a winner") as u8;
    assert_eq!(one.latest(), Ok(Some((12, vec![winner]))));
}

#[test]
fn a_folder_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let open = |process| Objects::open("a/state", folder.path(), process).unwrap();
    examine(&open(0), &open(1));
    let again = Objects::open(&format!("file://{}/a/state", folder.path().display()), Path::new("/"), 0).unwrap();
    assert_eq!(again.latest().unwrap().unwrap().0, 12);
    // Nothing is left of the writing.
    let mut left: Vec<_> =
        fs::read_dir(folder.path().join("a/state")).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["lock-0", "lock-1", "manifests", "parts", "schemas"]);
}

#[test]
fn memory_keeps_the_contract() {
    let store = MemoryStore::new();
    examine(&store, &store.clone());
}

#[test]
fn a_bucket_that_answers_badly_keeps_the_contract() {
    let store = Arc::new(object_store::memory::InMemory::new());
    let open = |seed| {
        let flaky = flaky::Flaky { inner: store.clone(), rng: fastrand::Rng::with_seed(seed).into() };
        Objects::over("test://", Box::new(remote::Bucket::over(Box::new(flaky))))
    };
    examine(&open(1), &open(2));
}

#[test]
fn a_second_process_gets_an_error_that_names_who_holds_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let first = Objects::open("state", folder.path(), 0).unwrap();
    let error = Objects::open("state", folder.path(), 0).err().expect("it is locked");
    let pid = std::process::id();
    assert_eq!(error.to_string(), format!("the state in `state` is in use by another process: process {pid}"));
    drop(first);
    Objects::open("state", folder.path(), 0).unwrap();
}

#[test]
fn what_was_damaged_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let store = Objects::open("state", folder.path(), 0).unwrap();
    store.put_part("p", b"content").unwrap();
    store.publish(3, b"m").unwrap();
    let manifest = folder.path().join("state/manifests/00000000000000000003");
    let whole = fs::read(&manifest).unwrap();
    fs::write(&manifest, &whole[..whole.len() - 1]).unwrap();
    let error = store.latest().unwrap_err();
    assert_eq!(
        error.to_string(),
        "`manifests/00000000000000000003` in `state` is damaged: its body has 9 bytes, not 10"
    );
    assert_eq!(
        error.hint(),
        "restore it from a backup, or start anew with another `state.url`: all members are sent again"
    );
    let part = folder.path().join("state/parts/p");
    let mut flipped = fs::read(&part).unwrap();
    *flipped.last_mut().unwrap() ^= 1;
    fs::write(&part, &flipped).unwrap();
    let error = store.get_part("p").unwrap_err();
    assert_eq!(error.to_string(), "`parts/p` in `state` is damaged: its checksum is another");
    flipped[4] = 9;
    fs::write(&part, &flipped).unwrap();
    let error = store.get_part("p").unwrap_err();
    assert_eq!(error.to_string(), "`parts/p` in `state` has format version 9; this version reads up to 1");
}

#[test]
fn leftovers_of_a_crash_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    drop(Objects::open("state", folder.path(), 0).unwrap());
    for leftover in ["new-0-7", "new-1-7"] {
        fs::write(folder.path().join("state").join(leftover), "half").unwrap();
    }
    let _store = Objects::open("state", folder.path(), 0).unwrap();
    assert!(!folder.path().join("state/new-0-7").exists());
    // Another process of the cluster may just be writing it.
    assert!(folder.path().join("state/new-1-7").exists());
}

#[test]
fn places_that_keep_no_state_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let said = |url: &str| Objects::open(url, folder.path(), 0).err().expect(url).to_string();
    assert_eq!(
        said("https://me:secret@host/state?sig=secret"),
        "the state in `https://host/state` can't be opened: a web server keeps no state; give a folder, `s3://`, `gs://` or `az://`"
    );
    assert_eq!(said("s3://bucket/state*"), "the state in `s3://bucket` can't be opened: a place has no wildcards");
    assert_eq!(said("ftp://bucket"), "the state in `ftp://` can't be opened: an unknown kind of url");
    assert_eq!(said("file"), "the state in `file` can't be opened: File exists (os error 17)");
}

#[test]
fn faults_come_as_scripted() {
    let store = MemoryStore::new();
    store.fault(Call::Publish, 1, Fault::LostAnswer);
    store.publish(1, b"a").unwrap();
    assert!(store.publish(2, b"b").is_err());
    assert_eq!(store.latest(), Ok(Some((2, b"b".to_vec()))));
    store.publish(2, b"b").expect("its own");

    store.fault(Call::PutPart, 0, Fault::Cut(10));
    assert!(store.put_part("p", b"content").is_err());
    assert!(matches!(store.get_part("p"), Err(StoreError::Damaged { .. })));

    store.fault(Call::GetPart, 0, Fault::Refused);
    assert!(matches!(store.get_part("p"), Err(StoreError::Failed { action: "read", .. })));

    store.fault(Call::PutPart, 0, Fault::Held);
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| store.put_part("q", b""));
        while store.held() == 0 {
            std::thread::yield_now();
        }
        assert!(!store.parts().contains("q"));
        store.release();
        slow.join().unwrap().unwrap();
    });
    assert_eq!(store.parts(), names(&["p", "q"]));
}

/// An S3-compatible store, in a folder of its own.
struct Server {
    script: PathBuf,
    folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new(&self.script).arg("down").arg(self.folder.path().join("s3")).status();
    }
}

#[test]
fn a_bucket_of_a_server_keeps_the_contract() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/s3");
    let server = Server { script, folder: tempfile::tempdir().unwrap() };
    let up = Command::new(&server.script).arg("up").arg(server.folder.path().join("s3")).output().unwrap();
    if up.status.code() == Some(3) {
        println!("skipped: {}", String::from_utf8_lossy(&up.stderr));
        return;
    }
    let environment = String::from_utf8(up.stdout).unwrap();
    let inside = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture", "state_store::tests::inside_a_bucket"])
        .envs(environment.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('=')))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&inside.stdout);
    assert!(
        inside.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&inside.stderr)
    );
}

#[test]
#[ignore = "run by `a_bucket_of_a_server_keeps_the_contract`"]
fn inside_a_bucket() {
    if std::env::var_os("AWS_ENDPOINT").is_none() {
        println!("skipped: only of use inside the test that runs it");
        return;
    }
    let open = |url: &str| Objects::open(url, Path::new("/"), 0);
    examine(&open("s3://warehouse/a/state").unwrap(), &open("s3://warehouse/a/state/").unwrap());
    examine(&open("s3://warehouse").unwrap(), &open("s3://warehouse").unwrap());
    assert_eq!(
        open("s3://no-such-bucket/state").err().unwrap().to_string(),
        "the state in `s3://no-such-bucket/state` can't be opened: no such bucket"
    );
}

/// A bucket whose requests fail, before or after they are done.
mod flaky {
    use async_trait::async_trait;
    use futures::stream::BoxStream;
    use object_store::memory::InMemory;
    use object_store::path::Path;
    use object_store::*;
    use std::fmt;
    use std::sync::{Arc, Mutex};

    #[derive(Debug)]
    pub struct Flaky {
        pub inner: Arc<InMemory>,
        pub rng: Mutex<fastrand::Rng>,
    }

    impl Flaky {
        /// Fails one time in four: twice as likely as not, the request was done.
        async fn answer<T>(&self, request: impl Future<Output = Result<T>>) -> Result<T> {
            let failed = Error::Generic { store: "test", source: "no answer".into() };
            let fault = self.rng.lock().expect("no panic").u8(..8);
            match fault {
                0 => Err(failed),
                1 | 2 => request.await.and(Err(failed)),
                _ => request.await,
            }
        }
    }

    impl fmt::Display for Flaky {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("flaky")
        }
    }

    #[async_trait]
    impl ObjectStore for Flaky {
        async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
            self.answer(self.inner.put_opts(path, payload, options)).await
        }

        async fn put_multipart_opts(
            &self,
            path: &Path,
            options: PutMultipartOptions,
        ) -> Result<Box<dyn MultipartUpload>> {
            self.inner.put_multipart_opts(path, options).await
        }

        async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
            self.answer(self.inner.get_opts(path, options)).await
        }

        fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
            self.inner.delete_stream(paths)
        }

        fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
            self.inner.list(prefix)
        }

        async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
            self.inner.list_with_delimiter(prefix).await
        }

        async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
            self.inner.copy_opts(from, to, options).await
        }
    }
}
