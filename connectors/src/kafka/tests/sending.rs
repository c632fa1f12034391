//! Topics as destinations.

use super::broker::{Broker, DEADLINE, Seen, broker, until, variable};
use crate::dead_letters::DeadLetterWriter;
use crate::kafka::sink::mark_sync;
use crate::kafka::{NotedTopic, SyncSpec, check_sync, open_sync, read_ledger, resend_sync};
use crate::moved::{MovedLedger, NotedLedger};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use usher_config::{DeadLettersTo, Delivery, Kafka, KafkaTarget, OnRemove, Setting, Sync, SyncFormat, SyncTo};
use usher_core::catalog::Catalog;
use usher_core::change::{ChangeKind, ChangeTexts, Changes, Reason, Recipients};
use usher_core::dead_letters::{DeadLetter, DeadLetterReason, DeadLetters};
use usher_core::delivery::{DeadLetterReport, DeliveryOrder, DeliveryReply};
use usher_core::ledger::{Ledger, LedgerAudience};
use usher_core::sink::{LedgerPosition, OpenedSync, Sink, SinkError};
use usher_core::source::PartitionId;

fn target(kafka: Kafka, topic: &str) -> KafkaTarget {
    KafkaTarget {
        kafka,
        topic: topic.to_owned(),
        partitions: Some(3),
        delivery: Delivery::ExactlyOnce,
        commit_every: 20,
    }
}

fn sync() -> Sync {
    Sync {
        place: usher_config::Place::default(),
        description: None,
        audiences: vec!["a".to_owned(), "b".to_owned()],
        send_entry: true,
        send_exit: true,
        send_update: false,
        format: SyncFormat::Usher,
        include: Vec::new(),
        entry_name: None,
        exit_name: None,
        update_name: None,
        fields: BTreeMap::default(),
        backfill: true,
        on_remove: OnRemove::Exit,
        to: SyncTo::Stdout,
    }
}

/// The job of a topic is named after it: tests don't meet.
fn spec<'a>(sync: &'a Sync, target: &'a KafkaTarget, noted: Option<&'a LedgerPosition>) -> SyncSpec<'a> {
    let incarnation = fastrand::u64(..);
    let noted = noted.map(|position| NotedLedger { position, take_over: &|| panic!("it is kept here") });
    SyncSpec { job: &target.topic, id: "crm", index: 0, sync, target, incarnation, noted }
}

fn try_open(target: &KafkaTarget) -> Result<OpenedSync, SinkError> {
    open_sync(&spec(&sync(), target, None), &variable)
}

fn catalog(job: &str) -> Arc<Catalog> {
    Arc::new(Catalog::new(job, [("a", "A", "users"), ("b", "B", "users")]))
}

fn open(target: &KafkaTarget) -> (Ledger, Box<dyn Sink>) {
    let opened = try_open(target).unwrap();
    (opened.ledger, (opened.start)(catalog(&target.topic)))
}

fn wait_committed(sink: &dyn Sink, until_time: u64) {
    until("it is committed", || sink.committed() >= until_time);
}

fn one(at: u64, audience: u32, kind: ChangeKind, key: &str) -> Changes {
    let mut changes = Changes::new();
    changes.push(at, audience, kind, Reason::Event, key);
    changes
}

/// What was committed, as audience and key.
fn memberships(ledger: &Ledger) -> BTreeSet<(String, String)> {
    ledger.iter().map(|(audience, key)| (ledger.audiences[audience as usize].id.clone(), key.to_owned())).collect()
}

/// What messages add up to. Entries and exits of a key alternate, in its partition's order.
fn added_up(seen: &[Seen]) -> BTreeSet<(String, String)> {
    let mut members = BTreeSet::new();
    let mut homes = BTreeMap::new();
    for message in seen {
        let value: serde_json::Value = serde_json::from_str(message.value.as_ref().unwrap()).unwrap();
        assert_eq!(value["key"], message.key);
        assert_eq!(value["id"], message.headers["id"]);
        assert_eq!(value["type"], message.headers["type"]);
        assert_eq!(value["audience_id"], message.headers["audience"]);
        assert_eq!(*homes.entry(message.key.clone()).or_insert(message.partition), message.partition);
        let member = (message.headers["audience"].clone(), message.key.clone());
        let changed = match &message.headers["type"][..] {
            "entry" => members.insert(member),
            _ => members.remove(&member),
        };
        assert!(changed, "{message:?}");
    }
    members
}

/// Entries and exits in turn for some keys: `count` epochs, of one change each, from `first` on.
fn write_epochs(sink: &mut dyn Sink, first: u64, count: u64) {
    for epoch in first..first + count {
        let key = format!("u-{}", epoch % 7);
        let kind = if epoch / 7 % 2 == 0 { ChangeKind::Entry } else { ChangeKind::Exit };
        sink.write(&one(epoch, 0, kind, &key), epoch + 1).unwrap();
    }
}

#[test]
fn changes_and_their_ledger_are_committed_together() {
    let Some(broker) = broker() else { return };
    let target = target(broker.kafka(), "together");
    let (ledger, mut sink) = open(&target);
    assert_eq!(ledger, Ledger::default());
    let mut changes = Changes::new();
    changes.push(10, 0, ChangeKind::Entry, Reason::Event, "u-1");
    changes.push(11, 1, ChangeKind::Entry, Reason::Event, "u/2 \"é\"");
    changes.push(12, 0, ChangeKind::Entry, Reason::Event, "u-3");
    changes.push(13, 0, ChangeKind::Exit, Reason::Expiry, "u-1");
    changes.push_to(Recipients::LedgerOnly(0), 14, 1, ChangeKind::Entry, Reason::Event, ChangeTexts::of_key("u-4"));
    changes.push_to(Recipients::Only(7), 15, 1, ChangeKind::Entry, Reason::Event, ChangeTexts::of_key("u-5"));
    sink.write(&changes, 20).unwrap();
    wait_committed(&*sink, 20);
    let standing = sink.status();
    assert_eq!((standing.written.entries, standing.written.exits, standing.committed, standing.waiting), (3, 1, 4, 0));
    let seen = broker.read("together");
    assert_eq!(seen.len(), 4);
    let bytes: usize = seen.iter().map(|message| message.value.as_ref().unwrap().len()).sum();
    assert_eq!(standing.written.bytes, bytes as u64);
    let text = |audience: &str, key: &str| (audience.to_owned(), key.to_owned());
    assert_eq!(added_up(&seen), [text("a", "u-3"), text("b", "u/2 \"é\"")].into());
    // Time goes on without changes, at once.
    sink.write(&Changes::new(), 30).unwrap();
    assert_eq!(sink.committed(), 30);
    sink.finish().unwrap();
    drop(sink);
    let (ledger, _) = open(&target);
    assert!(ledger.any);
    assert_eq!(ledger.clock, 14);
    assert_eq!(memberships(&ledger), [text("a", "u-3"), text("b", "u/2 \"é\""), text("b", "u-4")].into());
    assert_eq!(ledger.audiences[0].name, "A");
    assert_eq!(ledger.audiences[0].model, "users");
}

#[test]
fn the_ledger_keeps_the_rows_that_exits_and_updates_carry() {
    let Some(broker) = broker() else { return };
    for (delivery, topic) in [(Delivery::ExactlyOnce, "rows"), (Delivery::AtLeastOnce, "rows-at-least-once")] {
        let target = KafkaTarget { delivery, ..target(broker.kafka(), topic) };
        let plan = usher_config::Text { value: "plan".to_owned(), place: usher_config::Place::default() };
        let sync = Sync { include: vec![plan], send_update: true, ..sync() };
        // Each change is of a run of its own.
        for (at, kind, row) in [
            (1, ChangeKind::Entry, r#"{"ltv":1,"plan":"free"}"#),
            (3, ChangeKind::Update, r#"{"ltv":2,"plan":"free"}"#),
            (5, ChangeKind::Update, r#"{"ltv":2,"plan":"pro"}"#),
            (7, ChangeKind::Exit, ""),
        ] {
            let mut sink = (open_sync(&spec(&sync, &target, None), &variable).unwrap().start)(catalog(topic));
            let mut changes = Changes::new();
            let texts = ChangeTexts { key: "u-1", row, previous_row: "" };
            changes.push_to(Recipients::All, at, 0, kind, Reason::Snapshot, texts);
            sink.write(&changes, at + 1).unwrap();
            wait_committed(&*sink, at + 1);
            sink.finish().unwrap();
        }
        let messages = broker.read(topic).into_iter().map(|seen| {
            let value: serde_json::Value = serde_json::from_str(&seen.value.unwrap()).unwrap();
            format!("{} {} {}", value["type"], value["row"]["plan"], value["previous_row"]["plan"])
        });
        let expected = [r#""entry" "free" null"#, r#""update" "pro" "free""#, r#""exit" "pro" null"#];
        assert_eq!(messages.collect::<Vec<_>>(), expected, "{topic}");
    }
}

#[test]
fn a_sync_that_had_nothing_to_tell_is_not_new_again() {
    let Some(broker) = broker() else { return };
    let target = target(broker.kafka(), "quiet");
    let (ledger, mut sink) = open(&target);
    assert!(!ledger.any);
    drop(open(&target));
    // This one was fenced before it had seen anything.
    until("it is said", || sink.write(&Changes::new(), 5).is_err());
    let (ledger, mut sink) = open(&target);
    assert!(!ledger.any);
    sink.write(&Changes::new(), 5).unwrap();
    wait_committed(&*sink, 5);
    drop(sink);
    assert!(open(&target).0.any);
}

#[test]
fn an_older_process_can_write_nothing_more() {
    let Some(broker) = broker() else { return };
    let target = target(broker.kafka(), "fenced");
    let (_, mut old) = open(&target);
    old.write(&one(1, 0, ChangeKind::Entry, "u-1"), 2).unwrap();
    wait_committed(&*old, 2);
    let (ledger, mut new) = open(&target);
    assert_eq!(ledger.len(), 1);
    let mut error = None;
    until("the older one ends", || {
        error = old.write(&one(3, 0, ChangeKind::Entry, "u-2"), 4).err();
        error.is_some()
    });
    let error = error.unwrap();
    assert!(matches!(error, SinkError::Superseded { .. }), "{error}");
    assert_eq!(old.finish(), Err(error));
    new.write(&one(5, 0, ChangeKind::Exit, "u-1"), 6).unwrap();
    wait_committed(&*new, 6);
    let kinds: Vec<_> = broker.read("fenced").iter().map(|message| message.headers["type"].clone()).collect();
    assert_eq!(kinds, ["entry", "exit"]);
}

#[test]
fn of_processes_that_open_a_sync_at_once_at_most_one_goes_on() {
    let Some(broker) = broker() else { return };
    // Nothing came twice: entries and exits alternate.
    duel(&target(broker.kafka(), "duel"));
    added_up(&broker.read("duel"));
}

#[test]
fn a_mark_that_came_after_its_own_is_not_taken_for_the_one_before() {
    let Some(broker) = broker() else { return };
    let target = target(broker.kafka(), "late");
    // It has marked the ledger, and not read it yet, when another process takes the ledger over and writes.
    let sync = sync();
    let late = spec(&sync, &target, None);
    let marked = mark_sync(&late, &variable).unwrap();
    let (_, mut other) = open(&target);
    other.write(&one(1, 0, ChangeKind::Entry, "u-1"), 2).unwrap();
    wait_committed(&*other, 2);
    let error = marked.open(&late).err();
    assert!(matches!(error, Some(SinkError::Superseded { .. })), "{error:?}");
    other.write(&one(3, 0, ChangeKind::Exit, "u-1"), 4).unwrap();
    wait_committed(&*other, 4);
    let kinds: Vec<_> = broker.read("late").iter().map(|message| message.headers["type"].clone()).collect();
    assert_eq!(kinds, ["entry", "exit"]);
}

#[test]
fn of_processes_without_transactions_at_most_one_goes_on() {
    let Some(broker) = broker() else { return };
    let mut target = target(broker.kafka(), "duel-plain");
    target.delivery = Delivery::AtLeastOnce;
    duel(&target);
}

/// Opens a sync three times at once, again and again.
fn duel(target: &KafkaTarget) {
    // Longer than the mark in the ledger is not looked at.
    let looks = std::time::Duration::from_secs(5);
    for round in 0..4 {
        let open_after = |wait: u64| {
            std::thread::sleep(std::time::Duration::from_millis(wait));
            try_open(target).map(|opened| (memberships(&opened.ledger), (opened.start)(catalog(&target.topic))))
        };
        let open_after = &open_after;
        let waits = [0, 0, fastrand::u64(..40)];
        let mut opened: Vec<_> = std::thread::scope(|scope| {
            let threads = waits.map(|wait| scope.spawn(move || open_after(wait)));
            threads.map(|thread| thread.join().unwrap()).into()
        });
        // Each that was opened goes on writing until it ends or has committed.
        let at = round * 10 + 1;
        let since = std::time::Instant::now();
        let mut went_on = 0;
        for opened in &mut opened {
            let (members, sink) = match opened {
                Ok(opened) => opened,
                Err(error) => {
                    assert!(matches!(error, SinkError::Superseded { .. }), "{error}");
                    continue;
                }
            };
            let kind = match members.is_empty() {
                true => ChangeKind::Entry,
                false => ChangeKind::Exit,
            };
            let ended = |sink: &mut Box<dyn Sink>| sink.write(&Changes::new(), at + 1).err();
            let mut error = sink.write(&one(at, 0, kind, "u-1"), at + 1).err();
            until("it has committed or ended", || {
                error = error.take().or_else(|| ended(sink));
                error.is_some() || sink.committed() > at && since.elapsed() > looks
            });
            match error {
                Some(error) => assert!(matches!(error, SinkError::Superseded { .. }), "{error}"),
                None => went_on += 1,
            }
        }
        assert!(went_on <= 1, "{went_on} processes went on with one ledger, waits {waits:?}");
    }
}

#[test]
fn an_idle_process_ends_when_another_has_taken_its_ledger() {
    let Some(broker) = broker() else { return };
    for delivery in [Delivery::ExactlyOnce, Delivery::AtLeastOnce] {
        let mut target = target(broker.kafka(), &format!("idle-{delivery:?}").to_lowercase());
        target.delivery = delivery;
        let (_, mut old) = open(&target);
        old.write(&one(1, 0, ChangeKind::Entry, "u-1"), 2).unwrap();
        wait_committed(&*old, 2);
        let (ledger, mut new) = open(&target);
        assert_eq!(ledger.len(), 1);
        let mut error = None;
        until("the older one ends", || {
            error = old.write(&Changes::new(), 3).err();
            error.is_some()
        });
        assert!(matches!(error, Some(SinkError::Superseded { .. })), "{error:?}");
        new.write(&one(5, 0, ChangeKind::Exit, "u-1"), 6).unwrap();
        wait_committed(&*new, 6);
    }
}

/// Without transactions its records stand on both sides of the other's mark.
#[test]
fn a_busy_process_ends_when_another_has_taken_its_ledger() {
    let Some(broker) = broker() else { return };
    let mut target = target(broker.kafka(), "busy");
    target.delivery = Delivery::AtLeastOnce;
    let (_, mut old) = open(&target);
    let mut at = 1;
    let mut write = |sink: &mut Box<dyn Sink>| {
        at += 1;
        let kind = if at % 2 == 0 { ChangeKind::Entry } else { ChangeKind::Exit };
        sink.write(&one(at, 0, kind, "u-1"), at + 1).err().map_or_else(|| Ok(at + 1), Err)
    };
    for _ in 0..10 {
        let until = write(&mut old).unwrap();
        wait_committed(&*old, until);
    }
    let (_, new) = open(&target);
    let mut error = None;
    until("the older one ends", || {
        error = write(&mut old).err();
        error.is_some()
    });
    assert!(matches!(error, Some(SinkError::Superseded { .. })), "{error:?}");
    drop(new);
}

#[test]
fn a_ledger_that_is_behind_the_checkpoint_is_refused_until_it_is_to_begin_anew() {
    let Some(broker) = broker() else { return };
    let target = target(broker.kafka(), "behind");
    let (_, mut sink) = open(&target);
    sink.write(&one(1, 0, ChangeKind::Entry, "u-1"), 2).unwrap();
    wait_committed(&*sink, 2);
    let noted = sink.position().unwrap();
    drop(sink);
    let sync = sync();
    assert_eq!(open_sync(&spec(&sync, &target, Some(&noted)), &variable).unwrap().ledger.len(), 1);
    let ahead = LedgerPosition { at: noted.at + 5, ..noted.clone() };
    let error = open_sync(&spec(&sync, &target, Some(&ahead)), &variable).err().unwrap();
    assert!(matches!(&error, SinkError::Behind { sync, .. } if sync == "crm"), "{error}");
    assert!(error.hint().contains("usher resend"), "{}", error.hint());

    resend_sync(&spec(&sync, &target, None), &variable).unwrap();
    let opened = open_sync(&spec(&sync, &target, Some(&ahead)), &variable).unwrap();
    assert!(!opened.ledger.any && opened.ledger.is_empty());
    assert_eq!(opened.ledger.clock, 1);
    // It is asked for once, and what was noted before is not ahead of it.
    let opened = open_sync(&spec(&sync, &target, Some(&ahead)), &variable).unwrap();
    assert!(!opened.ledger.any && opened.ledger.is_empty());
    let mut sink = (opened.start)(catalog("behind"));
    sink.write(&one(3, 0, ChangeKind::Entry, "u-2"), 4).unwrap();
    wait_committed(&*sink, 4);
    assert!(sink.position().unwrap().at > ahead.at);
    drop(sink);
    let (ledger, _) = open(&target);
    assert!(ledger.any);
    assert_eq!(memberships(&ledger), [("a".to_owned(), "u-2".to_owned())].into());
}

/// A ledger to which nothing was committed, not before a time.
fn new_at(clock: u64) -> Ledger {
    let mut ledger = Ledger::default();
    ledger.clock = clock;
    ledger
}

/// Two members with a row each, as they were kept elsewhere.
fn moved() -> MovedLedger {
    let mut ledger = new_at(77);
    ledger.any = true;
    for (id, name, key) in [("a", "A", "u-1"), ("b", "B before", "ü/2")] {
        let audience = LedgerAudience { id: id.to_owned(), name: name.to_owned(), model: "users".to_owned() };
        let audience = ledger.audience(audience);
        ledger.push(audience, key);
    }
    MovedLedger::new(ledger, vec![r#"{"plan":"pro"}"#.into(), "".into()])
}

#[test]
fn a_ledger_that_was_kept_elsewhere_is_taken_in_with_its_rows_until_the_checkpoint_knows() {
    let Some(broker) = broker() else { return };
    for (delivery, topic) in [(Delivery::ExactlyOnce, "taken-in"), (Delivery::AtLeastOnce, "taken-in-at-least-once")] {
        let target = KafkaTarget { delivery, ..target(broker.kafka(), topic) };
        // What an earlier time has left counts no more.
        let (_, mut sink) = open(&target);
        for (at, key) in [(1, "u-1"), (2, "u-7")] {
            sink.write(&one(at, 0, ChangeKind::Entry, key), at + 1).unwrap();
        }
        wait_committed(&*sink, 3);
        drop(sink);
        let plan = usher_config::Text { value: "plan".to_owned(), place: usher_config::Place::default() };
        let sync = Sync { include: vec![plan], ..sync() };
        let elsewhere = LedgerPosition { keeper: "outbox".to_owned(), at: 4_000, place: String::new() };
        let noted = Some(NotedLedger { position: &elsewhere, take_over: &|| Ok(moved()) });
        let opened = |noted| open_sync(&SyncSpec { noted, ..spec(&sync, &target, None) }, &variable).unwrap();
        for _ in 0..2 {
            assert_eq!(opened(noted).ledger, moved().ledger);
        }
        let taken = opened(noted);
        let here = taken.position.clone();
        let mut sink = (taken.start)(catalog(topic));
        let mut exit = Changes::new();
        let texts = ChangeTexts { key: "u-1", row: r#"{"plan":"free"}"#, previous_row: "" };
        exit.push_to(Recipients::All, 90, 0, ChangeKind::Exit, Reason::Expiry, texts);
        sink.write(&exit, 91).unwrap();
        wait_committed(&*sink, 91);
        drop(sink);
        // Its row is that of the ledger.
        let seen = broker.read(topic);
        assert_eq!(seen.len(), 3);
        let exit = seen.iter().find(|message| message.headers["type"] == "exit").unwrap();
        assert!(exit.value.as_ref().unwrap().contains(r#"{"plan":"pro"}"#), "{exit:?}");

        let again = open_sync(&spec(&sync, &target, Some(&here)), &variable).unwrap();
        assert_eq!(memberships(&again.ledger), [("b".to_owned(), "ü/2".to_owned())].into());
        let named: Vec<&str> = again.ledger.audiences.iter().map(|audience| &audience.name[..]).collect();
        assert_eq!((named, again.ledger.clock), (vec!["B before"], 90));
    }
}

#[test]
fn a_ledger_is_taken_over_from_its_topic_also_where_the_target_is_gone() {
    let Some(broker) = broker() else { return };
    for (delivery, topic) in [(Delivery::ExactlyOnce, "taken"), (Delivery::AtLeastOnce, "taken-at-least-once")] {
        let target = KafkaTarget { delivery, ..target(broker.kafka(), topic) };
        let sync = sync();
        let (_, mut old) = open(&target);
        for (at, key) in [(1, "u-1"), (2, "u-2")] {
            old.write(&one(at, at as u32 - 1, ChangeKind::Entry, key), at + 1).unwrap();
        }
        wait_committed(&*old, 3);
        let noted = old.position().unwrap();
        let of = |noted| NotedTopic { job: topic, id: "crm", sync: &sync, noted };
        assert_eq!(of(&noted).read(&variable).unwrap().len(), 2);
        let taken = of(&noted).take_over(5, &variable).unwrap();
        assert_eq!((taken.ledger.any, taken.ledger.clock), (true, 2));
        let expected = [("a".to_owned(), "u-1".to_owned()), ("b".to_owned(), "u-2".to_owned())];
        assert_eq!(memberships(&taken.ledger), expected.into());
        // The process that had it ends.
        let mut at = 10;
        let mut error = None;
        until("the older one ends", || {
            at += 1;
            error = old
                .write(&one(at, 0, if at % 2 == 0 { ChangeKind::Entry } else { ChangeKind::Exit }, "u-3"), at + 1)
                .err();
            error.is_some()
        });
        assert!(matches!(error, Some(SinkError::Superseded { .. })), "{error:?}");
        drop(old);

        broker.delete(topic);
        assert!(of(&noted).take_over(6, &variable).unwrap().ledger.any);
        let ahead = LedgerPosition { at: noted.at + 1_000, ..noted.clone() };
        let error = of(&ahead).take_over(7, &variable).unwrap_err();
        assert!(matches!(&error, SinkError::Behind { .. }), "{error}");
        let unplaced = LedgerPosition { place: String::new(), ..noted.clone() };
        let error = of(&unplaced).take_over(8, &variable).unwrap_err();
        assert!(
            error.to_string().starts_with("the ledger of sync `crm` can't be taken over: it is a topic"),
            "{error}"
        );
        broker.delete(&format!("usher.{topic}.crm.ledger"));
        until("it is gone", || matches!(of(&noted).take_over(9, &variable), Err(SinkError::Behind { .. })));
    }
}

#[test]
fn a_ledger_that_is_to_begin_anew_begins_anew_where_it_moves_to() {
    let Some(broker) = broker() else { return };
    let (target, sync) = (target(broker.kafka(), "taken-anew"), sync());
    let (_, mut sink) = open(&target);
    sink.write(&one(1, 0, ChangeKind::Entry, "u-1"), 2).unwrap();
    wait_committed(&*sink, 2);
    let noted = sink.position().unwrap();
    drop(sink);
    resend_sync(&spec(&sync, &target, None), &variable).unwrap();
    for incarnation in [5, 6] {
        let of = NotedTopic { job: "taken-anew", id: "crm", sync: &sync, noted: &noted };
        let taken = of.take_over(incarnation, &variable).unwrap();
        assert_eq!(taken.ledger, new_at(1));
    }
}

#[test]
fn brokers_of_other_addresses_are_elsewhere_where_they_are_another_cluster() {
    let Some(broker) = broker() else { return };
    let (target, sync) = (target(broker.kafka(), "elsewhere"), sync());
    let (_, mut sink) = open(&target);
    sink.write(&one(1, 0, ChangeKind::Entry, "u-1"), 2).unwrap();
    wait_committed(&*sink, 2);
    let noted = sink.position().unwrap();
    drop(sink);
    let mut place: serde_json::Value = serde_json::from_str(&noted.place).unwrap();
    let at = |place: &serde_json::Value| LedgerPosition { place: place.to_string(), ..noted.clone() };
    // Another address of the same cluster.
    place["to"]["kafka"]["brokers"] = serde_json::json!("localhost:1,localhost:2");
    assert_eq!(open_sync(&spec(&sync, &target, Some(&at(&place))), &variable).unwrap().ledger.len(), 1);
    assert!(place["cluster"].as_str().is_some_and(|cluster| !cluster.is_empty()), "{place}");
    // Of another cluster, whose brokers are away.
    place["cluster"] = serde_json::json!("another");
    let other = at(&place);
    let noted = NotedLedger { position: &other, take_over: &|| Ok(moved()) };
    let opened = open_sync(&SyncSpec { noted: Some(noted), ..spec(&sync, &target, None) }, &variable).unwrap();
    assert_eq!(opened.ledger, moved().ledger);
    // The same addresses are the same place: a cluster that was set up anew has lost the ledger.
    let mut place: serde_json::Value = serde_json::from_str(&opened.position.place).unwrap();
    place["cluster"] = serde_json::json!("before");
    let before = LedgerPosition { at: 1_000, ..at(&place) };
    let error = open_sync(&spec(&sync, &target, Some(&before)), &variable).err().unwrap();
    assert!(matches!(&error, SinkError::Behind { .. }), "{error}");
}

#[test]
fn a_ledger_topic_that_is_deleted_ends_the_sync_with_what_to_do() {
    let Some(broker) = broker() else { return };
    let target = target(broker.kafka(), "deleted");
    let (_, mut sink) = open(&target);
    sink.write(&one(1, 0, ChangeKind::Entry, "u-1"), 2).unwrap();
    wait_committed(&*sink, 2);
    broker.delete("usher.deleted.crm.ledger");
    let mut error = None;
    until("it ends", || {
        error = sink.write(&Changes::new(), 3).err();
        error.is_some()
    });
    let error = error.unwrap();
    assert!(error.to_string().contains("`usher.deleted.crm.ledger`"), "{error}");
    assert!(error.to_string().contains("it was deleted"), "{error}");
    assert!(error.hint().contains("usher resend"), "{}", error.hint());
}

/// Bytes that are not to be compressed.
fn noise(bytes: usize) -> String {
    std::iter::repeat_with(fastrand::alphanumeric).take(bytes).collect()
}

/// Returns the destination as `topic`, uncompressed: brokers measure what is compressed.
fn uncompressed(broker: &Broker, topic: &str, delivery: Delivery) -> KafkaTarget {
    let mut target = target(broker.kafka(), topic);
    target.delivery = delivery;
    target.kafka.properties.insert("compression.type".to_owned(), Setting::Plain("none".to_owned()));
    target
}

/// Returns what a topic has of a sync; of what was sent twice only the first, which only comes without transactions.
fn sent_to(broker: &Broker, topic: &str, delivery: Delivery) -> Vec<Seen> {
    let (mut seen, mut ids) = (broker.read(topic), BTreeSet::new());
    seen.retain(|message| message.headers.contains_key("id"));
    seen.retain(|message| ids.insert(message.headers["id"].clone()) || delivery == Delivery::ExactlyOnce);
    seen
}

/// Writes 402 changes, of which two are too large for the topic and all others together too, and goes on.
fn refuses_messages(topic: &str, delivery: Delivery) {
    let Some(broker) = broker() else { return };
    broker.create_with(topic, 2, &[("max.message.bytes", "20000")]);
    let target = uncompressed(broker, topic, delivery);
    let (_, mut sink) = open(&target);
    let large = [(5, noise(30_000)), (25, noise(50_000))];
    let mut changes = Changes::new();
    let mut expected = BTreeSet::new();
    for number in 0..400 {
        let key = format!("u-{number}");
        changes.push(1, 0, ChangeKind::Entry, Reason::Event, &key);
        expected.insert(("a".to_owned(), key));
        for (_, key) in large.iter().filter(|(at, _)| *at == number) {
            changes.push(1, 1, ChangeKind::Entry, Reason::Event, key);
        }
    }
    sink.write(&changes, 2).unwrap();
    wait_committed(&*sink, 2);
    let standing = sink.status();
    let counts = (standing.committed, standing.delivered, standing.dead_letters, standing.waiting);
    assert_eq!(counts, (402, Some(400), 2, 0), "{standing:?}");
    assert_eq!((standing.written.changes(), standing.last_error), (400, None));
    // Later changes of the same key go on.
    let mut later = one(3, 0, ChangeKind::Entry, "later");
    later.push(3, 1, ChangeKind::Exit, Reason::Expiry, &large[0].1);
    expected.insert(("a".to_owned(), "later".to_owned()));
    sink.write(&later, 4).unwrap();
    wait_committed(&*sink, 4);
    assert_eq!(added_up(&sent_to(broker, topic, delivery)), expected);
    let listed = letters(&*sink);
    let keys: Vec<&str> = listed.iter().map(|letter| &letter.key[..]).collect();
    assert_eq!(keys, [&large[0].1[..], &large[1].1, &large[0].1]);
    for letter in &listed {
        assert_eq!(letter.reason, "refused");
        assert!(letter.answer.ends_with("is larger than the topic's `max.message.bytes`, 19939"), "{}", letter.answer);
    }
    let kinds: Vec<&str> = listed.iter().map(|letter| &letter.kind[..]).collect();
    assert_eq!(kinds, ["entry", "entry", "exit"]);
    sink.finish().unwrap();
    drop(sink);
    // The next process has them, and the memberships, of which nothing is sent again.
    let (ledger, sink) = open(&target);
    expected.insert(("b".to_owned(), large[1].1.clone()));
    assert_eq!(memberships(&ledger), expected, "a change is in the ledger, whether its message was sent or not");
    let standing = sink.status();
    assert_eq!((standing.committed, standing.delivered, standing.dead_letters), (404, Some(401), 3));
    assert_eq!(letters(&*sink), listed);
}

/// Lowers the limit of a topic while a sync sends to it.
fn takes_only_smaller_messages_later(topic: &str, delivery: Delivery) {
    let Some(broker) = broker() else { return };
    broker.create_with(topic, 1, &[("max.message.bytes", "40000")]);
    let target = uncompressed(broker, topic, delivery);
    let (_, mut sink) = open(&target);
    // It is in the message too.
    let key = noise(15_000);
    sink.write(&one(1, 0, ChangeKind::Entry, &key), 2).unwrap();
    wait_committed(&*sink, 2);
    assert_eq!(sink.status().delivered, Some(1));
    broker.set(topic, "max.message.bytes", "8000");
    let plain = broker.producer(&[]);
    until("the broker refuses", || {
        let before = broker.read(topic).len();
        let probe = noise(20_000);
        plain.send(BaseRecord::to(topic).key("probe").payload(&probe)).map_err(|(error, _)| error).unwrap();
        plain.flush(DEADLINE).unwrap();
        broker.read(topic).len() == before
    });
    // A message beyond both limits has them read again, at most every 10 s: what is lower then is found all the same when a batch is refused.
    let (since, mut at, mut large) = (Instant::now(), 2, 0);
    while since.elapsed() < Duration::from_secs(11) {
        sink.write(&one(at, 0, ChangeKind::Entry, &noise(30_000)), at + 1).unwrap();
        wait_committed(&*sink, at + 1);
        (at, large) = (at + 1, large + 1);
        std::thread::sleep(Duration::from_secs(1));
    }
    // So many that the first of them are refused while others are still handed over.
    let many = 45_000;
    let mut changes = Changes::new();
    for number in 0..many {
        changes.push(at, 0, ChangeKind::Entry, Reason::Event, &format!("u-{number}"));
    }
    changes.push(at, 0, ChangeKind::Exit, Reason::Expiry, &key);
    sink.write(&changes, at + 1).unwrap();
    wait_committed(&*sink, at + 1);
    let standing = sink.status();
    let counts = (standing.committed, standing.delivered, standing.dead_letters);
    assert_eq!(counts, (many + 2 + large, Some(many + 1), 1 + large), "{standing:?}");
    assert_eq!(sent_to(broker, topic, delivery).len() as u64, many + 1);
    assert_eq!(letters(&*sink).last().map(|letter| &letter.kind[..]), Some("exit"));
}

fn letters(sink: &dyn Sink) -> Vec<DeadLetterReport> {
    let delivery = sink.delivery().expect("a topic lists its dead letters");
    let order = |order| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(delivery.order(order))
    };
    assert!(order(DeliveryOrder::Pause).is_err());
    let mut letters = Vec::new();
    let mut from = 0;
    loop {
        let Ok(DeliveryReply::DeadLetters(page)) = order(DeliveryOrder::DeadLetters { from, limit: 2 }) else {
            panic!("a page of dead letters")
        };
        letters.extend(page.dead_letters);
        match page.next_cursor {
            Some(next) => from = next.parse().unwrap(),
            None => return letters,
        }
    }
}

#[test]
fn a_message_that_kafka_refuses_is_a_dead_letter_and_all_others_are_committed_once() {
    refuses_messages("refused-once", Delivery::ExactlyOnce);
}

#[test]
fn without_transactions_a_message_that_kafka_refuses_is_a_dead_letter_too() {
    refuses_messages("refused", Delivery::AtLeastOnce);
}

#[test]
fn a_topic_that_takes_only_smaller_messages_later_gets_all_others_once() {
    takes_only_smaller_messages_later("smaller-once", Delivery::ExactlyOnce);
}

#[test]
fn without_transactions_a_topic_that_takes_only_smaller_messages_later_gets_all_others() {
    takes_only_smaller_messages_later("smaller", Delivery::AtLeastOnce);
}

#[test]
fn a_topic_whose_limit_is_raised_takes_larger_messages_soon_and_all_of_them_after_a_resend() {
    let Some(broker) = broker() else { return };
    broker.create_with("raised", 1, &[("max.message.bytes", "2000")]);
    let target = target(broker.kafka(), "raised");
    let (_, mut sink) = open(&target);
    let key = noise(6_000);
    let mut turns = (1..).zip([ChangeKind::Entry, ChangeKind::Exit].into_iter().cycle());
    let mut turn = |sink: &mut dyn Sink| {
        let (at, kind) = turns.next().unwrap();
        sink.write(&one(at, 0, kind, &key), at + 1).unwrap();
        wait_committed(sink, at + 1);
        (at, sink.status().delivered, kind)
    };
    assert_eq!(turn(&mut *sink), (1, Some(0), ChangeKind::Entry));
    broker.set("raised", "max.message.bytes", "20000");
    let mut last = (0, None, ChangeKind::Entry);
    until("a larger message is taken", || {
        last = turn(&mut *sink);
        last.1 == Some(1)
    });
    sink.finish().unwrap();
    assert_eq!(sink.status().dead_letters, last.0 - 1);
    drop(sink);
    resend_sync(&spec(&sync(), &target, None), &variable).unwrap();
    let (ledger, mut sink) = open(&target);
    assert!(ledger.is_empty());
    turn(&mut *sink);
    let standing = sink.status();
    assert_eq!((standing.delivered, standing.dead_letters), (Some(2), last.0 - 1));
}

#[test]
fn what_is_visible_and_what_is_a_dead_letter_is_what_the_ledger_counts_whenever_it_ends() {
    let Some(broker) = broker() else { return };
    broker.create_with("refused-ended", 3, &[("max.message.bytes", "20000")]);
    let target = target(broker.kafka(), "refused-ended");
    let long: Vec<String> = (0..30).map(|_| noise(30_000)).collect();
    let (mut refused, mut rounds_with_both) = (0, 0);
    for round in 0..5 {
        let (ledger, mut sink) = open(&target);
        let (members, seen, letters) = (memberships(&ledger), broker.read("refused-ended"), letters(&*sink));
        let standing = sink.status();
        assert_eq!((standing.delivered, standing.dead_letters), (Some(seen.len() as u64), letters.len() as u64));
        let is_long = |(_, key): &(String, String)| key.len() == 30_000;
        let (refused_members, sent): (BTreeSet<_>, BTreeSet<_>) = members.iter().cloned().partition(is_long);
        assert_eq!(sent, added_up(&seen));
        let mut folded = BTreeSet::new();
        for letter in &letters {
            let member = (letter.audience_id.clone(), letter.key.clone());
            assert!(
                if letter.kind == "entry" { folded.insert(member) } else { folded.remove(&member) },
                "{}",
                letter.id
            );
        }
        assert_eq!(folded, refused_members);
        rounds_with_both += u64::from(letters.len() > refused);
        refused = letters.len();
        let mut changes = Changes::new();
        for number in 0..30_000 {
            let key = format!("u-{number}");
            for key in [Some(&key), long.get(number / 1_000).filter(|_| number % 1_000 == 0)].into_iter().flatten() {
                let is_member = members.contains(&("a".to_owned(), key.clone()));
                changes.push(
                    round,
                    0,
                    if is_member { ChangeKind::Exit } else { ChangeKind::Entry },
                    Reason::Event,
                    key,
                );
            }
        }
        let before = standing.delivered;
        sink.write(&changes, round + 1).unwrap();
        // Somewhere in the middle, with a transaction open or not.
        until("some are committed", || sink.status().delivered > before);
        drop(sink);
    }
    assert!(rounds_with_both >= 3, "{rounds_with_both}");
}

#[test]
fn a_row_that_is_too_large_is_a_dead_letter_and_not_in_the_ledger() {
    let Some(broker) = broker() else { return };
    let target = target(broker.kafka(), "large-row");
    let text = usher_config::Text { value: "bio".to_owned(), place: usher_config::Place::default() };
    let sync = Sync { include: vec![text], ..sync() };
    let opened = open_sync(&spec(&sync, &target, None), &variable).unwrap();
    let mut sink = (opened.start)(catalog(&target.topic));
    let mut changes = Changes::new();
    let row = format!(r#"{{"bio":"{}"}}"#, noise(1_200_000));
    let texts = ChangeTexts { key: "u-1", row: &row, previous_row: "" };
    changes.push_to(Default::default(), 1, 0, ChangeKind::Entry, Reason::Event, texts);
    let texts = ChangeTexts { key: "u-2", row: r#"{"bio":"short"}"#, previous_row: "" };
    changes.push_to(Default::default(), 1, 0, ChangeKind::Entry, Reason::Event, texts);
    sink.write(&changes, 2).unwrap();
    wait_committed(&*sink, 2);
    assert_eq!((sink.status().delivered, sink.status().dead_letters), (Some(1), 1));
    assert_eq!(letters(&*sink)[0].row, None);
    sink.finish().unwrap();
    drop(sink);
    let opened = open_sync(&spec(&sync, &target, None), &variable).unwrap();
    assert_eq!(memberships(&opened.ledger).len(), 2);
}

#[test]
fn what_a_process_had_begun_when_it_ended_is_never_visible() {
    let Some(broker) = broker() else { return };
    let target = target(broker.kafka(), "begun");
    let (_, mut sink) = open(&target);
    sink.write(&one(1, 0, ChangeKind::Entry, "u-1"), 2).unwrap();
    wait_committed(&*sink, 2);
    drop(sink);
    // As the sync itself, up to the commit.
    let producer = broker.producer(&[("transactional.id", "usher.begun.crm")]);
    producer.init_transactions(DEADLINE).unwrap();
    producer.begin_transaction().unwrap();
    for (topic, key) in [("begun", "u-2"), ("usher.begun.crm.ledger", "a/u-2")] {
        producer.send(BaseRecord::to(topic).key(key).payload("7")).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(DEADLINE).unwrap();
    drop(producer);
    let (ledger, _) = open(&target);
    assert_eq!(memberships(&ledger), [("a".to_owned(), "u-1".to_owned())].into());
    assert_eq!(broker.read("begun").len(), 1);
}

#[test]
fn what_is_visible_is_what_the_ledger_has_whenever_it_ends() {
    ends_at_any_time("ended", Delivery::ExactlyOnce);
}

#[test]
fn without_transactions_what_was_sent_is_what_the_next_ledger_has_whenever_it_ends() {
    ends_at_any_time("ended-plain", Delivery::AtLeastOnce);
}

fn ends_at_any_time(topic: &str, delivery: Delivery) {
    let Some(broker) = broker() else { return };
    let target = KafkaTarget { delivery, ..target(broker.kafka(), topic) };
    for round in 0..4 {
        let (ledger, mut sink) = open(&target);
        assert_eq!(memberships(&ledger), added_up(&broker.read(topic)));
        let mut changes = Changes::new();
        let members = memberships(&ledger);
        for number in 0..30_000 {
            let key = format!("u-{number}");
            let kind =
                if members.contains(&("a".to_owned(), key.clone())) { ChangeKind::Exit } else { ChangeKind::Entry };
            changes.push(round, 0, kind, Reason::Event, &key);
        }
        let before = sink.status().delivered;
        sink.write(&changes, round + 1).unwrap();
        // Somewhere in the middle, with a transaction open or not, with messages underway or not.
        until("some are committed", || sink.status().delivered > before);
        drop(sink);
    }
    let (ledger, _) = open(&target);
    assert_eq!(memberships(&ledger), added_up(&broker.read(topic)));
}

/// Returns the record `!sent` of a ledger as it was written each time; none: it was removed.
fn sent_records(broker: &Broker, topic: &str) -> Vec<Option<serde_json::Value>> {
    let records = broker.read(&format!("usher.{topic}.crm.ledger")).into_iter().filter(|record| record.key == "!sent");
    records.map(|record| record.value.map(|value| serde_json::from_str(&value).unwrap())).collect()
}

/// The header by which a message of an earlier process is found.
fn header(topic: &str, batch: u64, row: &str) -> String {
    format!("{topic}.crm 00000000000000aa {batch} 7{row}")
}

/// Sends a message as a process without transactions does: of audience `a`.
fn send_by_hand(broker: &Broker, topic: &str, kind: &str, key: &str, header: &str) {
    let headers = [("id", "0"), ("audience", "a"), ("type", kind), ("usher", header)];
    let headers = headers
        .iter()
        .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(*value) }));
    let producer = broker.producer(&[]);
    let sent = producer.send(BaseRecord::to(topic).partition(0).key(key).payload("{}").headers(headers));
    sent.map_err(|(error, _)| error).unwrap();
    producer.flush(DEADLINE).unwrap();
}

#[test]
fn a_start_takes_into_its_ledger_what_the_topic_has_of_the_sync_alone() {
    let Some(broker) = broker() else { return };
    let topic = "taken";
    let target = KafkaTarget { delivery: Delivery::AtLeastOnce, ..target(broker.kafka(), topic) };
    let (_, mut sink) = open(&target);
    sink.write(&one(1, 0, ChangeKind::Entry, "u-1"), 2).unwrap();
    wait_committed(&*sink, 2);
    let delivered = sink.status().delivered.unwrap();
    // It is killed: nothing is removed from the ledger.
    drop(sink);
    for (kind, key, header) in [
        ("entry", "u-2", header(topic, 9, "")),
        ("exit", "u-1", header(topic, 10, "")),
        ("entry", "u-3", header(topic, 10, r#" {"plan":"a b"}"#)),
        ("entry", "u-4", header("taken-too", 10, "")),
        ("entry", "u-5", "nothing of ours".to_owned()),
    ] {
        send_by_hand(broker, topic, kind, key, &header);
    }
    let member = |key: &str| ("a".to_owned(), key.to_owned());
    let expected: BTreeSet<_> = [member("u-2"), member("u-3")].into();
    let sync = sync();
    assert_eq!(memberships(&read_ledger(&spec(&sync, &target, None), None, &variable).unwrap()), expected);
    let (ledger, mut sink) = open(&target);
    assert_eq!((memberships(&ledger), ledger.clock), (expected.clone(), 7));
    assert_eq!(sink.status().delivered, Some(delivered + 3));
    sink.finish().unwrap();
    let sent = sent_records(broker, topic);
    assert_eq!(sent.len(), 2, "late messages may come: {sent:?}");
    assert_eq!(sent[1].as_ref().unwrap()["topic"], topic);
    // With transactions the next process reads them likewise, and the record is gone.
    let target = KafkaTarget { delivery: Delivery::ExactlyOnce, ..target };
    assert_eq!(memberships(&open(&target).0), expected);
    assert_eq!(sent_records(broker, topic).pop(), Some(None));
}

#[test]
fn a_process_that_stops_leaves_nothing_to_look_for() {
    let Some(broker) = broker() else { return };
    let target = KafkaTarget { delivery: Delivery::AtLeastOnce, ..target(broker.kafka(), "stopped") };
    let (_, mut sink) = open(&target);
    sink.write(&one(1, 0, ChangeKind::Entry, "u-1"), 2).unwrap();
    sink.finish().unwrap();
    assert_eq!(sent_records(broker, "stopped").iter().map(Option::is_some).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn a_process_that_stops_after_another_has_come_leaves_the_others_record() {
    let Some(broker) = broker() else { return };
    let target = KafkaTarget { delivery: Delivery::AtLeastOnce, ..target(broker.kafka(), "overtaken") };
    let (_, mut old) = open(&target);
    old.write(&one(1, 0, ChangeKind::Entry, "u-1"), 2).unwrap();
    wait_committed(&*old, 2);
    let (_, new) = open(&target);
    let _ = old.finish();
    let by =
        |record: &Option<serde_json::Value>| record.as_ref().map(|record| record["by"].as_str().unwrap().to_owned());
    let records: Vec<_> = sent_records(broker, "overtaken").iter().map(by).collect();
    assert!(records.len() == 2 && records.iter().all(Option::is_some) && records[0] != records[1], "{records:?}");
    drop(new);
}

#[test]
fn a_message_of_an_earlier_process_that_arrives_late_ends_the_process_and_is_in_the_next_ledger() {
    let Some(broker) = broker() else { return };
    let topic = "arrives-late";
    let target = KafkaTarget { delivery: Delivery::AtLeastOnce, ..target(broker.kafka(), topic) };
    drop(open(&target));
    let (_, mut sink) = open(&target);
    send_by_hand(broker, topic, "entry", "u-1", &header(topic, 1, ""));
    let mut at = 10;
    let mut error = None;
    until("it ends", || {
        at += 2;
        error = sink.write(&one(at, 0, ChangeKind::Entry, &format!("u-{at}")), at + 1).err();
        error.is_some()
    });
    let error = error.unwrap();
    assert!(error.to_string().contains("messages of an earlier process have arrived"), "{error}");
    assert!(error.hint().starts_with("start again"), "{}", error.hint());
    drop(sink);
    let (ledger, _) = open(&target);
    assert!(memberships(&ledger).contains(&("a".to_owned(), "u-1".to_owned())));
    assert_eq!(memberships(&ledger).len(), broker.read(topic).len());
}

#[test]
fn a_first_fill_is_many_short_transactions_and_is_read_back() {
    let Some(broker) = broker() else { return };
    let target = target(broker.kafka(), "fill");
    let (_, mut sink) = open(&target);
    let count = 200_000;
    let mut changes = Changes::new();
    for number in 0..count {
        changes.push(1, number % 2, ChangeKind::Entry, Reason::Event, &format!("u-{number}"));
    }
    sink.write(&changes, 2).unwrap();
    sink.finish().unwrap();
    assert_eq!(sink.committed(), 2);
    drop(sink);
    let (ledger, _) = open(&target);
    assert_eq!(ledger.len(), count as usize);
    assert_eq!(broker.read("fill").len(), count as usize);
    let turns: Vec<String> = broker
        .read("usher.fill.crm.ledger")
        .into_iter()
        .filter(|record| record.key == "!committed")
        .map(|record| record.value.unwrap())
        .collect();
    // One each at both starts, and full batches of 49,152 changes.
    assert_eq!(turns.len(), 2 + 5, "{turns:?}");
}

#[test]
fn batches_that_only_the_ledger_has_lost_are_committed_again_and_not_sent_again() {
    let Some(broker) = broker() else { return };
    let target = target(broker.kafka(), "lost");
    let ledger_topic = "usher.lost.crm.ledger";
    let (_, mut sink) = open(&target);
    for (at, key) in [(1, "u-1"), (3, "u-2"), (5, "u-3")] {
        sink.write(&one(at, 0, ChangeKind::Entry, key), at + 1).unwrap();
        wait_committed(&*sink, at + 1);
    }
    // As if the log ended with the first of them; what was sent is still there, so that what comes again is seen.
    let progress = || {
        let mut records = broker.read(ledger_topic).into_iter().filter(|record| record.key == "!committed");
        serde_json::from_str::<serde_json::Value>(&records.next_back().unwrap().value.unwrap()).unwrap()
    };
    let mut first = progress();
    let last = first["batch"].as_u64().unwrap();
    first["batch"] = (last - 2).into();
    let producer = broker.producer(&[]);
    let first = first.to_string();
    producer
        .send(BaseRecord::to(ledger_topic).partition(0).key("!committed").payload(&first))
        .map_err(|(e, _)| e)
        .unwrap();
    producer.flush(DEADLINE).unwrap();
    // And as if its producer had come to an end.
    broker.producer(&[("transactional.id", "usher.lost.crm")]).init_transactions(DEADLINE).unwrap();
    sink.write(&one(7, 0, ChangeKind::Exit, "u-1"), 8).unwrap();
    wait_committed(&*sink, 8);
    assert_eq!(progress()["batch"], last + 1);
    let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for message in broker.read("lost") {
        let what = format!("{} {}", message.headers["type"], message.key);
        ids.entry(what.clone()).or_default().insert(message.headers["id"].clone());
        *times.entry(what).or_default() += 1;
    }
    // The ledger had lost them, and the target had not: they do not come again.
    let expected = [("entry u-1", 1), ("entry u-2", 1), ("entry u-3", 1), ("exit u-1", 1)];
    assert_eq!(times, expected.map(|(what, count)| (what.to_owned(), count)).into());
    assert!(ids.values().all(|ids| ids.len() == 1), "{ids:?}");
    sink.finish().unwrap();
    drop(sink);
    let text = |key: &str| ("a".to_owned(), key.to_owned());
    assert_eq!(memberships(&open(&target).0), [text("u-2"), text("u-3")].into());
}

/// How often the broker is killed in an outage.
const KILLS: usize = 2;

/// The brokers are away for longer than a transaction may take, with one of it under way.
fn outage(delivery: Delivery) {
    let name = format!("outage-{delivery:?}").to_lowercase();
    let Some(broker) = Broker::start(&name) else { return };
    let mut target = target(broker.kafka(), &name);
    target.delivery = delivery;
    if delivery == Delivery::ExactlyOnce {
        let short = Setting::Plain("2000".to_owned());
        target.kafka.properties.insert("transaction.timeout.ms".to_owned(), short);
    }
    // One transaction after the other: a kill meets one that is being committed.
    target.commit_every = 0;
    let (_, mut sink) = open(&target);
    let mut count = 0;
    let mut write = |sink: &mut dyn Sink, epochs| {
        write_epochs(sink, count, epochs);
        count += epochs;
        count
    };
    for round in 0..KILLS {
        let written = write(&mut *sink, 100);
        wait_committed(&*sink, written);
        std::thread::scope(|scope| {
            let killed = scope.spawn(|| broker.turn("kill"));
            while !killed.is_finished() {
                let written = write(&mut *sink, 1);
                until("it is committed, or killed", || sink.committed() >= written || killed.is_finished());
            }
        });
        let written = write(&mut *sink, 100);
        if round == 0 {
            until("the sync says that it waits", || {
                let standing = sink.status();
                standing.waiting > 0 && standing.retries > 0 && standing.last_error.is_some()
            });
        }
        assert!(sink.committed() < written);
        broker.turn("start");
    }
    let count = write(&mut *sink, 100);
    wait_committed(&*sink, count);
    assert_eq!(sink.status().last_error, None);
    sink.finish().unwrap();
    let seen = broker.read(&name);
    let expected: BTreeSet<_> = (0..7)
        .filter(|key| (0..count).rfind(|epoch| epoch % 7 == *key).is_some_and(|epoch| epoch / 7 % 2 == 0))
        .map(|key| ("a".to_owned(), format!("u-{key}")))
        .collect();
    let (ledger, _) = open(&target);
    assert_eq!(memberships(&ledger), expected);
    let ids: BTreeSet<_> = seen.iter().map(|message| message.headers["id"].clone()).collect();
    assert_eq!(ids.len() as u64, count);
    // An idempotent producer repeats nothing either while its process lives.
    assert_eq!(seen.len() as u64, count);
    assert_eq!(added_up(&seen), expected);
    broker.turn("down");
}

#[test]
fn each_change_comes_once_though_the_broker_was_killed() {
    outage(Delivery::ExactlyOnce);
}

#[test]
fn nothing_is_lost_without_transactions_though_the_broker_was_killed() {
    outage(Delivery::AtLeastOnce);
}

#[test]
fn a_ledger_topic_that_forgets_is_refused() {
    let Some(broker) = broker() else { return };
    broker.create_with("usher.forgets.crm.ledger", 1, &[("cleanup.policy", "delete")]);
    let target = target(broker.kafka(), "forgets");
    let error = try_open(&target).err().unwrap();
    assert!(error.to_string().contains("has `cleanup.policy=delete`"), "{error}");
    assert!(error.hint().contains("`compact`"));
}

#[test]
fn a_missing_topic_is_an_error_that_names_the_key_that_creates_it() {
    let Some(broker) = broker() else { return };
    let mut target = target(broker.kafka(), "not-there");
    let sync = sync();
    let check = |target: &KafkaTarget| check_sync(&spec(&sync, target, None), &variable);
    check(&target).unwrap();
    target.partitions = None;
    let error = check(&target).unwrap_err();
    assert!(error.to_string().contains("has no topic `not-there`"), "{error}");
    assert!(error.hint().contains("`partitions: N`"));
    assert_eq!(try_open(&target).err().unwrap(), error);
}

#[test]
fn dead_letters_are_messages_keyed_by_their_source() {
    let Some(broker) = broker() else { return };
    let to = DeadLettersTo::Kafka { kafka: broker.kafka(), topic: "dead".to_owned() };
    let open = || DeadLetterWriter::open(Some(&to), Path::new("."), &variable);
    let error = open().err().unwrap();
    assert!(error.to_string().contains("has no topic `dead`"), "{error}");
    broker.create("dead", 1);
    let letters = open().unwrap();
    let partition = PartitionId { source: "web".to_owned(), name: "web-events,00003".to_owned() };
    for position in 0..1000 {
        letters
            .write(&DeadLetter {
                partition: &partition,
                position,
                element: None,
                reason: DeadLetterReason::Malformed,
                detail: "no JSON object",
                raw: b"\xff",
                length: 1,
            })
            .unwrap();
    }
    letters.finish().unwrap();
    let seen = broker.read("dead");
    assert_eq!(seen.len(), 1000);
    assert!(seen.iter().all(|message| message.key == "web"));
    let value: serde_json::Value = serde_json::from_str(seen[7].value.as_ref().unwrap()).unwrap();
    assert_eq!(value["position"], 7);
    assert_eq!(value["partition"], "web-events,00003");
    assert_eq!(value["raw_base64"], "/w==");
}

#[cfg(any(feature = "tls", feature = "tls-vendored"))]
#[test]
fn users_are_known_by_their_password_over_tls() {
    use crate::kafka::{KafkaSource, SourceSpec};
    use std::time::Instant;
    use usher_config::Start;
    let Some(broker) = broker() else { return };
    let target = target(broker.secure(), "secure");
    let (_, mut sink) = open(&target);
    sink.write(&one(1, 0, ChangeKind::Entry, "u-1"), 2).unwrap();
    sink.finish().unwrap();
    assert_eq!(broker.read("secure").len(), 1);

    let topics = ["secure".to_owned()];
    let source = |kafka: &Kafka, variable: &dyn Fn(&str) -> Option<String>| {
        let (id, start) = ("web", Start::Earliest);
        let spec = SourceSpec {
            id,
            kafka,
            topics: &topics,
            start,
            window_ms: 0,
            message_bytes: 1000,
            now: 0,
            bounds: None,
            schemas: None,
        };
        KafkaSource::open(&spec, variable).map(drop)
    };
    source(&target.kafka, &variable).unwrap();
    let since = Instant::now();
    let error = source(&target.kafka, &|_| Some("wrong".to_owned())).unwrap_err();
    assert!(error.to_string().to_lowercase().contains("authentication"), "{error}");
    assert!(error.hint().contains("`sasl.password`"), "{error}");
    let error = source(&target.kafka, &|_| None).unwrap_err();
    assert!(error.to_string().contains("`properties.sasl.password`: "), "{error}");
    let mut unknown = target.kafka.clone();
    unknown.properties.remove("ssl.ca.location");
    let error = source(&unknown, &variable).unwrap_err();
    assert!(error.hint().contains("`ssl.ca.location`"), "{error}: {}", error.hint());
    // None of them is worth another try.
    assert!(since.elapsed() < super::super::client::PATIENCE, "{:?}", since.elapsed());
}
