//! One job in several processes: how they find each other, and how all end when one does.

use crate::support::process::{PATIENCE, Process, hosts, make_pipe, members, now, pass, start_all};
use crate::support::shop::{CRM, Shop, job, without_marks};
use std::time::{Duration, Instant};

const AUDIENCES: &str = "
  buyers: {model: users, where: {performed: bought, within: 2s}}
  keen: {model: users, where: {performed: viewed, at_least: 3, within: 1h}}
  rich: {model: users, where: {property: ltv > 15}}
";

/// A shop whose processes wait so long for each other.
fn shop(connect: &str, peer: &str) -> Shop {
    let cluster = format!("cluster: {{connect_timeout: {connect}, peer_timeout: {peer}}}\n");
    Shop::new(&format!("{}{cluster}", job(AUDIENCES, CRM)))
}

fn process(shop: &Shop, args: &[&str]) -> Process {
    shop.run(&[&["-h", "hosts"], args].concat())
}

/// Waits until all end, each with `code` and without a panic; returns the stderr of each.
fn all_end(processes: Vec<Process>, code: i32) -> Vec<String> {
    let ended: Vec<(Option<i32>, String)> = processes.into_iter().map(Process::ends).collect();
    for (process, (ended, stderr)) in ended.iter().enumerate() {
        assert_eq!(*ended, Some(code), "process {process}: {stderr}");
        assert!(!stderr.contains("panicked") && !stderr.contains("bug"), "process {process}: {stderr}");
    }
    ended.into_iter().map(|(_, stderr)| stderr).collect()
}

fn all_live(processes: &mut [Process]) {
    processes.iter_mut().for_each(|process| process.wait_for("live after"));
}

#[test]
fn a_process_that_does_not_come_is_named() {
    let shop = shop("1s", "30s");
    hosts(shop.folder(), 3);
    let addresses = std::fs::read_to_string(shop.path("hosts")).expect("it was written");
    let missing = addresses.lines().nth(2).expect("there are three");
    let there = ["0", "1"].map(|p| process(&shop, &["-n", "3", "-p", p]));
    for stderr in all_end(there.into(), 3) {
        assert!(stderr.contains(&format!("has not met process 2 at `{missing}` within 1 s")), "{stderr}");
        assert!(stderr.contains("hint: "), "{stderr}");
    }
    assert!(!shop.path("state/manifests").exists(), "nothing was claimed");
}

#[test]
fn processes_that_do_not_belong_together_do_not_start() {
    for other in [&["-n", "2", "-p", "1", "-w", "2"][..], &["-n", "2", "-p", "1"][..]] {
        let shop = shop("10s", "30s");
        hosts(shop.folder(), 2);
        let first = process(&shop, &["-n", "2", "-p", "0"]);
        if !other.contains(&"-w") {
            // The first one has read the job when it listens.
            let address = std::fs::read_to_string(shop.path("hosts")).expect("it was written");
            let address = address.lines().next().expect("there are two").to_owned();
            crate::support::process::until(&|| first.stderr(), || std::net::TcpStream::connect(&address).is_ok());
            shop.job(&format!("{}cluster: {{connect_timeout: 10s}}\n", job(&AUDIENCES.replace("1h", "2h"), CRM)));
        }
        let second = process(&shop, other);
        for stderr in all_end(vec![first, second], 3) {
            assert!(stderr.contains("was started with another job, or other `-n` or `-w`"), "{stderr}");
        }
    }
}

#[test]
fn where_one_is_killed_all_end() {
    for killed in 0..3 {
        let shop = shop("30s", "30s");
        let mut processes = start_all(shop.folder(), 3, "1");
        all_live(&mut processes);
        shop.wait_until_committed(&processes[0]);
        processes.remove(killed).kill();
        let since = Instant::now();
        for stderr in all_end(processes, 1) {
            assert!(stderr.contains(&format!("process {killed} ")), "it names the process: {stderr}");
            assert!(stderr.contains("hint: restart all processes together"), "{stderr}");
        }
        assert!(since.elapsed() < Duration::from_secs(15), "that needs no timeout: {:?}", since.elapsed());
    }
}

#[test]
fn where_one_is_frozen_the_others_end() {
    for frozen in [0, 1] {
        let shop = shop("30s", "2s");
        let mut processes = start_all(shop.folder(), 3, "1");
        all_live(&mut processes);
        shop.wait_until_committed(&processes[0]);
        let still = processes.remove(frozen);
        still.signal("STOP");
        let since = Instant::now();
        for stderr in all_end(processes, 1) {
            assert!(stderr.contains(&format!("process {frozen} ")), "it names the process: {stderr}");
            assert!(stderr.contains("cluster.peer_timeout"), "{stderr}");
        }
        assert!(since.elapsed() < PATIENCE / 3);
        // When it thaws it finds itself alone.
        still.signal("CONT");
        all_end(vec![still], 1);
    }
}

#[test]
fn where_one_fails_all_end() {
    let shop = shop("30s", "30s");
    std::fs::remove_file(shop.path("users.parquet")).expect("it is there");
    let job = std::fs::read_to_string(shop.path("job.yaml")).expect("it is there");
    shop.job(&job.replace("key: user_id", "key: user_id, columns: {ltv: number}"));
    let since = Instant::now();
    let mut ended: Vec<(Option<i32>, String)> =
        start_all(shop.folder(), 2, "1").into_iter().map(Process::ends).collect();
    let (other, first) = (ended.pop().expect("two"), ended.pop().expect("two"));
    assert_eq!(first.0, Some(3), "{}", first.1);
    assert!(first.1.contains("`users` could not be pulled"), "{}", first.1);
    assert_eq!(other.0, Some(1), "{}", other.1);
    assert!(other.1.contains("process 0 ") && other.1.contains("hint: "), "{}", other.1);
    assert!(since.elapsed() < Duration::from_secs(25), "that needs no timeout: {:?}", since.elapsed());
}

#[test]
fn where_one_is_stopped_all_stop() {
    let shop = shop("30s", "30s");
    for stopped in 0..2 {
        let mut processes = start_all(shop.folder(), 2, "2");
        all_live(&mut processes);
        let user = format!("u-{stopped}");
        shop.happens_often("Viewed", &user, 3);
        processes[stopped].signal("TERM");
        all_end(processes, 0);
    }
    // What was read is committed, or is read again.
    let process = shop.live(&[]);
    shop.wait_until_committed(&process);
    process.stop();
    let keen = members(&shop.changes()).into_iter().filter(|(audience, _)| audience == "keen");
    assert_eq!(keen.map(|(_, key)| key).collect::<Vec<_>>(), ["u-0", "u-1"]);
}

#[test]
fn one_that_is_stopped_while_it_opens_the_job_does_not_fail_the_others() {
    let shop = shop("30s", "30s");
    // A pipe that is not read holds up whoever opens it to write.
    let pipe = shop.path("dead-letters");
    make_pipe(&pipe);
    let job = std::fs::read_to_string(shop.path("job.yaml")).expect("it is there");
    shop.job(&format!("{job}dead_letters: {{file: {{path: dead-letters}}}}\n"));
    let processes = start_all(shop.folder(), 2, "1");
    let have_met = || processes.iter().all(|process| process.has_thread("heartbeat"));
    crate::support::process::until(&|| "the processes meet".to_owned(), have_met);
    let stopped = &processes[1];
    stopped.signal("TERM");
    let says = || stopped.stderr().contains("stopping, with the other processes, as soon as the job is opened");
    crate::support::process::until(&|| stopped.stderr(), says);
    let reader = std::thread::spawn(move || std::fs::read(pipe));
    all_end(processes, 0);
    reader.join().expect("it does not panic").expect("the pipe is read to its end");
}

#[test]
fn the_numbers_of_processes_and_workers_change() {
    let shop = shop("30s", "30s");
    let mut bought = Vec::new();
    for (round, (processes, workers)) in [(1, "1"), (2, "1"), (1, "3"), (2, "2"), (3, "1")].into_iter().enumerate() {
        let mut running = start_all(shop.folder(), processes, workers);
        bought.push(shop.happens("Bought", &format!("u-{round}")));
        all_live(&mut running);
        for user in 0..4 {
            if user <= round {
                shop.happens("Viewed", &format!("u-{user}"));
            }
        }
        shop.wait_until_committed(&running[0]);
        if round % 2 == 0 {
            running[0].signal("TERM");
            all_end(running, 0);
        } else {
            running.into_iter().for_each(Process::kill);
        }
    }
    let process = shop.live(&[]);
    pass(now() + 2_000);
    shop.wait_until_committed(&process);
    process.stop();
    let changes = without_marks(shop.changes());
    let keen = members(&changes).into_iter().filter(|(audience, _)| audience == "keen");
    assert_eq!(keen.map(|(_, key)| key).collect::<Vec<_>>(), ["u-0", "u-1", "u-2"]);
    assert!(members(&changes).iter().all(|(audience, _)| audience != "buyers"));
    for exit in changes.iter().filter(|change| change.audience == "buyers" && !change.entered) {
        assert!(bought.iter().any(|at| at + 2_000 == exit.at), "{exit:?}");
    }
}
