//! Checkpoints of all revisions stay readable: `dataflow/testdata` holds bytes that were written once.

use super::manifest::REVISION;
use super::*;
use crate::control::message::StoredPart;
use crate::ingest::reader::PartitionProgress;
use crate::state::codec::KeyState;
use crate::state::part::{Encoder, ModelKeys, decode_part};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use usher_core::sink::LedgerPosition;
use usher_core::source::{PartitionId, Resume};
use usher_core::store::{Store, StoreError};

/// Of a file that was read behind another of its name.
const IDENTITY: &str = "2049:17:1000:234:00000000000000ff;2049:16:0:0:1000:1000:fedcba9876543210";

fn manifest() -> Manifest {
    let partition = |name: &str| PartitionId { source: "web".to_owned(), name: name.to_owned() };
    let resume = Resume { position: 1_234, identity: IDENTITY.to_owned() };
    Manifest {
        revision: REVISION,
        job: "shop".to_owned(),
        incarnation: 0xfeed_beef_0bad_cafe,
        clock: 1_795_600_800_123,
        partitions: vec![(0, partition("a.jsonl")), (1, partition("b.jsonl"))],
        progress: vec![PartitionProgress { rank: 1, id: partition("b.jsonl"), resume }],
        models: vec![
            ModelManifest {
                id: "users".to_owned(),
                facts: vec![[7; 16], [8; 16]],
                since: vec![0, 1_795_000_000_000],
                pull: Some(PullRecord {
                    parquet: "users/".to_owned(),
                    include: vec!["plan".to_owned()],
                    began: 1_795_600_000_000,
                    took: 250,
                    rows: 1_000_000,
                }),
                rows: RowsManifest {
                    columns: vec![("ltv".to_owned(), "number".to_owned()), ("plan".to_owned(), "string".to_owned())],
                    live: vec![[3; 16]],
                },
            },
            ModelManifest {
                id: "accounts".to_owned(),
                facts: vec![[9; 16]],
                since: vec![0],
                pull: None,
                rows: RowsManifest::default(),
            },
        ],
        audiences: vec![("keen".to_owned(), [1; 16])],
        parts: vec![StoredPart {
            shards: (255, 255),
            name: "00000000000000000003-00000000000000ff-1-000-255".to_owned(),
            bytes: 4_096,
            sum: Some(0x0123_4567_89ab_cdef),
        }],
        changed: vec![StoredPart {
            shards: (3, 255),
            name: "0000000004-000007-001-00000".to_owned(),
            bytes: 512,
            sum: Some(7),
        }],
        ledgers: vec![(
            "crm".to_owned(),
            LedgerPosition { keeper: "kafka".to_owned(), at: 1_207, place: r#"{"cluster":"a"}"#.to_owned() },
        )],
        failed_pulls: vec![(
            "users".to_owned(),
            FailedPull {
                parquet: "users/".to_owned(),
                began: 1_795_600_700_000,
                took: 12,
                failures: 3,
                reason: "no file matches".to_owned(),
            },
        )],
    }
}

/// The same as the sixth revision has it.
fn manifest_v6() -> Manifest {
    let mut manifest = manifest();
    manifest.ledgers[0].1.place.clear();
    manifest.progress[0].resume.identity = "2049:17:0".to_owned();
    manifest
}

/// The same as the fifth revision has it.
fn manifest_v5() -> Manifest {
    Manifest { failed_pulls: Vec::new(), ..manifest_v6() }
}

/// The same as the fourth revision has it.
fn manifest_v4() -> Manifest {
    let mut manifest = manifest_v5();
    manifest.changed.clear();
    manifest
}

/// The same as the third revision has it.
fn manifest_v3() -> Manifest {
    let mut manifest = manifest_v4();
    manifest.models[0].rows = RowsManifest::default();
    manifest
}

/// The same as the second revision has it.
fn manifest_v2() -> Manifest {
    let mut manifest = manifest_v3();
    manifest.models[0].since = vec![0, 0];
    manifest
}

/// The same as the first revision has it.
fn manifest_v1() -> Manifest {
    let mut manifest = manifest_v2();
    manifest.parts[0].sum = None;
    manifest.ledgers.clear();
    manifest
}

/// Keys of two models, one of them with everything that a key can have.
fn keys() -> Vec<Vec<KeyState>> {
    serde_json::from_value(keys_json()).expect("these are keys")
}

/// The same with keys that are forgotten.
fn part() -> Vec<ModelKeys> {
    let forgotten = [&["u-7", "ü"][..], &[]].map(|keys| keys.iter().map(|key| (*key).to_owned()).collect());
    let model = |(keys, forgotten)| ModelKeys { keys, forgotten };
    keys().into_iter().zip(forgotten).map(model).collect()
}

/// What a part of an earlier version has: no keys that are forgotten.
fn earlier(keys: Vec<Vec<KeyState>>) -> Result<Vec<ModelKeys>, String> {
    Ok(keys.into_iter().map(|keys| ModelKeys { keys, forgotten: Vec::new() }).collect())
}

fn keys_json() -> serde_json::Value {
    json!([
        [
            {
                "key": "u-42",
                "truths": [5],
                "windows": [[1, [{"timestamp": 1_795_600_800_000_u64, "arrival": (1_u64 << 48) | 99, "id": 7}]]],
                "clocked": [
                    [2, {"Row": {"first": true, "flips": [1_795_600_900_000_i64]}}],
                    [3, {"Aggregate": [
                        ["Row", {"first": false, "flips": []}],
                        [{"Number": 1_500_000_000}, {"first": false, "flips": [-1, 5]}],
                        ["Null", {"first": true, "flips": []}]
                    ]}]
                ],
                "row": "{\"plan\":\"pro\"}",
                "valued": [[4, [[{"timestamp": 1_795_600_700_000_u64, "arrival": 98, "id": 8}, -1_500_000_000]]]],
                "kept": {
                    "snapshot": ["Null", {"Boolean": true}, {"Integer": -1}, {"Number": 4_609_434_218_613_702_656_u64},
                        {"String": "pro"}, {"Timestamp": 5}, {"Date": 86_400_000}, {"List": ["Null", {"String": "a"}]}],
                    "dated": [1_795_600_000_000_u64, 1_795_500_000_000_u64],
                    "set": [{"live": 1, "timestamp": 1_795_600_600_000_u64, "values": [[97, 9, {"String": "free"}]]}]
                }
            },
            {"key": "é", "truths": [1], "windows": [], "clocked": [], "row": "", "valued": []}
        ],
        []
    ])
}

#[test]
fn a_manifest_of_the_first_revision_stays_readable_and_has_read_everything() {
    let bytes = include_bytes!("../../testdata/manifest.v1");
    assert_eq!(Manifest::decode(bytes), Ok(manifest_v1()));
}

#[test]
fn a_manifest_of_the_second_revision_stays_readable_and_has_read_everything() {
    let bytes = include_bytes!("../../testdata/manifest.v2");
    assert_eq!(Manifest::decode(bytes), Ok(manifest_v2()));
}

#[test]
fn a_manifest_of_the_third_revision_stays_readable_and_has_no_rows() {
    let bytes = include_bytes!("../../testdata/manifest.v3");
    assert_eq!(Manifest::decode(bytes), Ok(manifest_v3()));
}

#[test]
fn a_manifest_of_the_fourth_revision_stays_readable_and_has_all_keys() {
    let bytes = include_bytes!("../../testdata/manifest.v4");
    assert_eq!(Manifest::decode(bytes), Ok(manifest_v4()));
}

#[test]
fn a_manifest_of_the_fifth_revision_stays_readable_and_no_pull_has_failed() {
    let bytes = include_bytes!("../../testdata/manifest.v5");
    assert_eq!(Manifest::decode(bytes), Ok(manifest_v5()));
}

#[test]
fn a_manifest_of_the_sixth_revision_stays_readable_and_says_neither_places_of_ledgers_nor_files_of_before() {
    let bytes = include_bytes!("../../testdata/manifest.v6");
    assert_eq!(Manifest::decode(bytes), Ok(manifest_v6()));
}

#[test]
fn a_manifest_of_the_seventh_revision_stays_readable_and_is_written_the_same() {
    let bytes = include_bytes!("../../testdata/manifest.v7");
    assert_eq!(Manifest::decode(bytes), Ok(manifest()));
    assert_eq!(manifest().encode(), bytes, "the encoding has not changed");
}

#[test]
fn a_part_of_the_first_version_stays_readable() {
    let mut keys = keys();
    keys[0][0] = first_without(&["valued", "kept"]);
    assert_eq!(decode_part(include_bytes!("../../testdata/shard.v1")), earlier(keys));
}

#[test]
fn a_part_of_the_second_version_stays_readable() {
    let mut keys = keys();
    keys[0][0] = first_without(&["kept"]);
    assert_eq!(decode_part(include_bytes!("../../testdata/shard.v2")), earlier(keys));
}

#[test]
fn a_part_of_the_third_version_stays_readable() {
    assert_eq!(decode_part(include_bytes!("../../testdata/shard.v3")), earlier(keys()));
}

#[test]
fn a_part_of_the_fourth_version_stays_readable_and_is_written_the_same() {
    let bytes = include_bytes!("../../testdata/part.v4");
    assert_eq!(decode_part(bytes), Ok(part()));
    assert_eq!(encoded(), bytes, "the encoding has not changed");
}

fn encoded() -> Vec<u8> {
    let mut encoder = Encoder::new(2);
    for model in part() {
        encoder.model();
        model.keys.iter().for_each(|key| encoder.key(&key.view()));
        encoder.forgotten(&model.forgotten.iter().map(|key| &key[..]).collect::<Vec<_>>());
    }
    encoder.end().expect("there are keys")
}

/// The first key without what earlier versions had not.
fn first_without(lacking: &[&str]) -> KeyState {
    let mut key = keys_json()[0][0].clone();
    for name in lacking {
        key[*name] = if *name == "kept" { json!(null) } else { json!([]) };
    }
    serde_json::from_value(key).expect("this is a key")
}

/// A manifest and its parts.
struct Written {
    manifest: Manifest,
    parts: BTreeMap<String, Vec<u8>>,
}

impl Store for Written {
    fn put_part(&self, _: &str, _: &[u8]) -> Result<u64, StoreError> {
        unreachable!("it is only read")
    }

    fn get_part(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        Ok(self.parts[name].clone())
    }

    fn latest(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        Ok(Some((7, self.manifest.encode())))
    }

    fn publish(&self, _: u64, _: &[u8]) -> Result<(), StoreError> {
        unreachable!("it is only read")
    }

    fn collect(&self, _: &BTreeSet<String>, _: u64) -> Result<(), StoreError> {
        unreachable!("it is only read")
    }
}

#[test]
fn of_a_key_in_several_checkpoints_the_newest_counts() {
    let mut parts = BTreeMap::new();
    let mut part = |name: &str, keys: &[&str], forgotten: &[&str]| {
        let mut encoder = Encoder::new(2);
        encoder.model();
        for key in keys {
            let mut state = keys_json()[0][1].clone();
            state["key"] = json!(key);
            encoder.key(&serde_json::from_value::<KeyState>(state).expect("this is a key").view());
        }
        encoder.forgotten(forgotten);
        encoder.model();
        encoder.forgotten(&[]);
        let content = encoder.end().expect("there are keys");
        let stored = StoredPart { shards: (0, 255), name: name.to_owned(), bytes: 1, sum: Some(part::sum(&content)) };
        parts.insert(name.to_owned(), content);
        stored
    };
    let all = part("a", &["u-1", "u-2", "u-3", "u-5"], &[]);
    let changed = vec![part("b", &["u-2"], &["u-3", "u-5"]), part("c", &["u-3", "u-4"], &["u-1"])];
    let manifest = Manifest { parts: vec![all], changed, ..manifest() };
    let content = verify(&Written { manifest, parts }).expect("it is sound").expect("there is a state");
    let keys: Vec<u64> = content.models.iter().map(|model| model.keys).collect();
    assert_eq!((keys, content.parts, content.bytes), (vec![3, 0], 3, 3));
}

#[test]
#[ignore = "it writes the fixtures that the tests above read: once for each version"]
fn freeze_fixtures() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/manifest.v7");
    std::fs::write(path, manifest().encode()).expect("the folder is there");
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/part.v4"), encoded()).expect("the folder is there");
}

#[test]
fn another_revision_is_named_whatever_follows_it() {
    let mut bytes = manifest().encode();
    bytes[0] = 8;
    bytes.truncate(7);
    let error = Manifest::decode(&bytes).expect_err("it is of another revision");
    assert_eq!(error, ManifestError::Revision { found: 8 });
    assert_eq!(
        error.to_string(),
        "the state was written with revision `8` of its content, this version reads up to `7`"
    );
}
