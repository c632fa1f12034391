//! State that can't be gone on from is refused: with both facts, what to do, exit code 3, and the flag that decides
//! where one does. Nothing is committed, and the files are as before.

use crate::support::process::{members, until};
use crate::support::rows::run;
use crate::support::shop::{CRM, Shop, job, with_anybody, without_marks};
use std::fs;
use std::path::{Path, PathBuf};

const AUDIENCES: &str = "
  keen: {model: users, where: {performed: viewed, at_least: 3, within: 1h}}
  rich: {model: users, where: {property: ltv > 15}}
";

/// A shop whose job has run, and left a checkpoint.
fn closed() -> Shop {
    closed_after(&job(AUDIENCES, CRM))
}

fn closed_after(job: &str) -> Shop {
    let shop = Shop::new(job);
    for _ in 0..3 {
        shop.happens("Viewed", "u-1");
    }
    let process = shop.live(&[]);
    shop.checkpointed(&process);
    process.stop();
    assert!(!files(&shop.path("state/parts")).is_empty(), "it has state of keys");
    shop
}

/// The files of a folder, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("it can be read").path()).collect();
    files.sort();
    files
}

/// Starts the job, which must refuse with all of `expected` on stderr; returns its stderr.
fn refused(shop: &Shop, expected: &[&str]) -> String {
    let before = fs::read(shop.path("changes.jsonl")).unwrap_or_default();
    let (code, stderr) = shop.run(&[]).ends();
    assert_eq!(code, Some(3), "{stderr}");
    for what in expected.iter().chain(&["error: ", "hint: "]) {
        assert!(stderr.contains(what), "stderr lacks `{what}`:\n{stderr}");
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
    assert_eq!(fs::read(shop.path("changes.jsonl")).unwrap_or_default(), before, "nothing is committed");
    stderr
}

/// Starts the job, which must go on.
fn goes_on(shop: &Shop, args: &[&str]) {
    let process = shop.live(args);
    process.stop();
    members(&without_marks(shop.changes()));
}

/// Flips a bit in the middle of a file.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).expect("it is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(path, bytes).expect("it can be written");
}

#[test]
fn the_state_of_another_job() {
    let shop = closed();
    shop.job(&job(AUDIENCES, CRM).replace("job: shop", "job: bakery"));
    refused(&shop, &["`shop`", "`bakery`", "`state.url`"]);
    shop.job(&job(AUDIENCES, CRM));
    goes_on(&shop, &[]);
}

#[test]
fn a_newer_format() {
    let shop = closed();
    let manifest = files(&shop.path("state/manifests")).pop().expect("there is one");
    let bytes = fs::read(&manifest).expect("it is there");
    let mut newer = bytes.clone();
    newer[4] = 9;
    fs::write(&manifest, &newer).expect("it can be written");
    refused(&shop, &["format version 9", "reads up to 1", "run the version that wrote it"]);
    fs::write(&manifest, &bytes).expect("it can be written");
    goes_on(&shop, &[]);
}

#[test]
fn damaged_state() {
    let shop = closed();
    let manifest = files(&shop.path("state/manifests")).pop().expect("there is one");
    let bytes = fs::read(&manifest).expect("it is there");
    flip(&manifest);
    let name = manifest.file_name().expect("it has a name").to_string_lossy().into_owned();
    refused(&shop, &["is damaged", &name, "backup"]);
    fs::write(&manifest, &bytes).expect("it can be written");

    // Some may be of a checkpoint that did not come to its end, and of no matter.
    let parts = files(&shop.path("state/parts"));
    let bytes: Vec<Vec<u8>> = parts.iter().map(|part| fs::read(part).expect("it is there")).collect();
    parts.iter().for_each(|part| flip(part));
    refused(&shop, &["is damaged", "`parts/", "its checksum is another", "backup"]);
    parts.iter().for_each(|part| fs::remove_file(part).expect("it can be removed"));
    refused(&shop, &["is damaged", "`parts/", "it is missing", "backup"]);
    parts.iter().zip(&bytes).for_each(|(part, bytes)| fs::write(part, bytes).expect("it can be written"));
    goes_on(&shop, &[]);
}

#[test]
fn parts_that_are_those_of_an_earlier_checkpoint() {
    let shop = closed();
    let earlier = fs::read(files(&shop.path("state/parts")).pop().expect("there is one")).expect("it is there");
    let process = shop.live(&[]);
    shop.happens("Viewed", "u-2");
    shop.wait_until_committed(&process);
    process.stop();
    let parts = files(&shop.path("state/parts"));
    let bytes: Vec<Vec<u8>> = parts.iter().map(|part| fs::read(part).expect("it is there")).collect();
    parts.iter().for_each(|part| fs::write(part, &earlier).expect("it can be written"));
    refused(&shop, &["is damaged", "`parts/", "it is another part than the manifest names", "backup"]);
    let verified = run(shop.folder(), &["state", "verify", "state"]);
    assert_eq!(verified.code, Some(3), "{}", verified.stderr);
    assert!(verified.stderr.contains("is damaged"), "{}", verified.stderr);
    parts.iter().zip(&bytes).for_each(|(part, bytes)| fs::write(part, bytes).expect("it can be written"));
    goes_on(&shop, &[]);
}

#[test]
fn a_ledger_that_is_behind_the_checkpoint_until_it_is_to_begin_anew() {
    let shop = closed();
    let ledger = shop.path("state/ledger/crm");
    fs::remove_dir_all(&ledger).expect("it can be removed");
    for _ in 0..2 {
        refused(&shop, &["the ledger of sync `crm` is behind the checkpoint", "`usher resend JOB SYNC`"]);
    }
    let before = shop.changes().len();
    let resent = run(shop.folder(), &["resend", "cmr"]);
    assert_eq!(resent.code, Some(2), "{}", resent.stderr);
    assert!(resent.stderr.contains("did you mean `crm`?"), "{}", resent.stderr);
    let resent = run(shop.folder(), &["resend", "crm"]);
    assert_eq!(resent.code, Some(0), "{}", resent.stderr);
    let process = shop.live(&[]);
    shop.wait_until_committed(&process);
    process.stop();
    let anew = &shop.changes()[before..];
    assert_eq!(members(anew), members(&shop.changes()[..before]).into_iter().chain(members(anew)).collect());
    // It is asked for once.
    let count = shop.changes().len();
    let process = shop.live(&[]);
    process.stop();
    assert_eq!(shop.changes().len(), count);
}

#[test]
fn a_sync_that_is_removed_while_changes_wait_for_it() {
    let full = "  full: {audiences: [rich], to: {file: {path: /dev/full}}}\n";
    let shop = Shop::new(&job(AUDIENCES, &format!("{CRM}{full}")));
    let (code, stderr) = shop.run(&[]).ends();
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("No space left"), "{stderr}");
    shop.job(&job(AUDIENCES, CRM));
    refused(&shop, &["sync `full` was removed", "changes wait for it", "`--drop-sync full`"]);
    let (code, stderr) = shop.run(&["--drop-sync", "crm"]).ends();
    assert_eq!(code, Some(2), "a sync of the job is not dropped: {stderr}");
    goes_on(&shop, &["--drop-sync", "full"]);
    assert!(!shop.path("state/ledger/full").exists());
    goes_on(&shop, &[]);
}

#[test]
fn state_is_verified_only_while_nothing_uses_it() {
    let shop = closed();
    let verified = run(shop.folder(), &["state", "verify", "state", "--json"]);
    assert_eq!(verified.code, Some(0), "{}", verified.stderr);
    let found: serde_json::Value = serde_json::from_str(&verified.stdout).expect("it prints JSON");
    assert_eq!(found["job"], "shop");
    assert_eq!(found["models"][0]["id"], "users");
    assert!(found["models"][0]["keys"].as_u64().is_some_and(|keys| keys >= 10), "{found}");
    assert_eq!(found["ledgers"][0]["sync"], "crm");
    assert_eq!(found["ledgers"][0]["members"], members(&shop.changes()).len());
    assert_eq!(found["ledgers"][0]["waiting"], 0);
    let text = run(shop.folder(), &["state", "verify", "state"]);
    assert!(text.stdout.contains("job shop: checkpoint "), "{}", text.stdout);
    let process = shop.live(&[]);
    let verified = run(shop.folder(), &["state", "verify", "state"]);
    assert_eq!(verified.code, Some(3), "{}", verified.stderr);
    assert!(verified.stderr.contains("is in use by another process"), "{}", verified.stderr);
    process.stop();
    let verified = run(shop.folder(), &["state", "verify", "nowhere"]);
    assert_eq!(verified.code, Some(3), "{}", verified.stderr);
    assert!(!shop.path("nowhere").exists());
    goes_on(&shop, &[]);
}

#[test]
fn a_signal_while_the_job_is_opened_is_a_clean_stop() {
    let away = job(AUDIENCES, CRM)
        .replace("sources: {", "sources: {away: {kafka: {brokers: '127.0.0.1:1', topic: events}, format: segment}, ");
    let shop = Shop::new(&away);
    let mut process = shop.run(&[]);
    process.wait_for("waiting for kafka");
    process.stop();
}

#[test]
fn a_damaged_ledger() {
    let shop = closed();
    let log =
        files(&shop.path("state/ledger/crm")).into_iter().rfind(|path| path.extension().is_some_and(|e| e == "log"));
    let log = log.expect("there is one");
    let bytes = fs::read(&log).expect("it is there");
    flip(&log);
    refused(&shop, &["is damaged", "state/ledger/crm", "all members are sent again"]);
    // Its end is no longer there: that was delivered, so it is more than torn.
    fs::write(&log, &bytes[..bytes.len() - 5]).expect("it can be written");
    refused(&shop, &["is damaged", "state/ledger/crm"]);
    fs::write(&log, &bytes).expect("it can be written");
    goes_on(&shop, &[]);
}

#[test]
fn a_source_that_ends_before_where_it_was_read_to() {
    let once = job(AUDIENCES, CRM).replace("follow: true", "follow: false");
    let shop = closed_after(&once);
    let events = fs::read(shop.path("events.jsonl")).expect("it is there");
    let cut = events.len() / 3;
    let file = fs::OpenOptions::new().write(true).open(shop.path("events.jsonl")).expect("it is there");
    file.set_len(cut as u64).expect("it can be written");
    let (ends, read) = (format!("ends at {cut}"), format!("up to {}", events.len()));
    refused(&shop, &["`web`", "`events.jsonl`", &ends, &read, "--restart-sources"]);
    goes_on(&shop, &["--restart-sources"]);
}

#[test]
fn a_source_that_is_another_file_than_was_read() {
    let once = job(AUDIENCES, CRM).replace("follow: true", "follow: false");
    let shop = closed_after(&once);
    fs::rename(shop.path("events.jsonl"), shop.path("events.old")).expect("it can be renamed");
    for _ in 0..9 {
        shop.happens("Viewed", "u-2");
    }
    refused(&shop, &["`web`", "`events.jsonl`", "another file", "--restart-sources"]);
    goes_on(&shop, &["--restart-sources"]);
    let keen = members(&shop.changes()).into_iter().filter(|(audience, _)| audience == "keen");
    assert_eq!(keen.map(|(_, key)| key).collect::<Vec<_>>(), ["u-1", "u-2"], "all of the new file is read");
}

#[test]
fn state_that_another_process_uses() {
    let shop = Shop::new(&job(AUDIENCES, CRM));
    let process = shop.live(&[]);
    // Then it writes nothing more while the other one is refused.
    shop.wait_until_committed(&process);
    refused(&shop, &["is in use by another process", "process ", "stop the other process first"]);
    process.stop();
    goes_on(&shop, &[]);
}

#[test]
fn a_place_that_is_no_folder() {
    let shop = Shop::new(&job(AUDIENCES, CRM).replace("url: state", "url: job.yaml"));
    refused(&shop, &["`job.yaml` can't be opened", "may read and write there"]);
}

/// A small file system in memory, where the system lets us have one. It is gone when this is dropped.
struct Disk(PathBuf);

impl Disk {
    fn at(path: PathBuf, options: &str) -> Option<Disk> {
        fs::create_dir_all(&path).expect("the folder can be written");
        let args = ["-t", "tmpfs", "-o", options, "usher-test"];
        let mounted = std::process::Command::new("mount").args(args).arg(&path).output();
        if !mounted.is_ok_and(|mounted| mounted.status.success()) {
            println!("not tested: this user can't mount a file system");
            return None;
        }
        Some(Disk(path))
    }

    fn options(&self, options: &str) {
        let mounted = std::process::Command::new("mount").args(["-o", options]).arg(&self.0).status();
        assert!(mounted.is_ok_and(|status| status.success()), "it was mounted");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_folder_that_may_not_be_written() {
    let shop = Shop::new(&job(AUDIENCES, CRM));
    let Some(disk) = Disk::at(shop.path("state"), "size=4m") else { return };
    disk.options("remount,ro");
    refused(&shop, &["can't be opened", "Read-only file system", "may read and write there"]);
    disk.options("remount,rw");
    goes_on(&shop, &[]);
}

#[test]
fn a_disk_that_is_full() {
    let anybody = "  known: {model: anybody, where: {performed: seen, within: 7d}}\n";
    let shop = Shop::new(&with_anybody(&job(&format!("{AUDIENCES}{anybody}"), CRM)));
    let Some(disk) = Disk::at(shop.path("state"), "size=1m") else { return };
    let full = |full: bool| {
        let filler = disk.0.join("filler");
        if !full {
            return fs::remove_file(filler).expect("it can be removed");
        }
        let mut file = fs::File::create(filler).expect("it can be made");
        while std::io::Write::write(&mut file, &[7; 4096]).is_ok() {}
    };
    full(true);
    refused(&shop, &["No space left", "has room"]);
    full(false);
    let mut process = shop.live(&[]);
    shop.wait_until_committed(&process);
    full(true);
    // The ledger can't be written: the job ends, and commits nothing that it can't keep.
    let mut seen = 0;
    let notices = || {
        seen += 1;
        shop.happens("Seen", &format!("{seen:0900}"));
        process.has_ended()
    };
    until(&|| "it notices".to_owned(), notices);
    let (code, stderr) = process.ends();
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("No space left") && stderr.contains("hint: "), "{stderr}");
    full(false);
    let process = shop.live(&[]);
    shop.wait_until_committed(&process);
    process.stop();
    let known = members(&shop.changes()).into_iter().filter(|(audience, _)| audience == "known").count();
    assert_eq!(known, seen);
}
