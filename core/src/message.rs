//! The default message of a change (SPEC §5), one JSON object on one line.
//!
//! The fields and their order are fixed:
//! `{"id","type","job","audience_id","audience_name","model","key","at","reason"}`.
//!
//! `id` is 32 hex digits: the first 16 bytes of the BLAKE3 of
//!
//! ```text
//! job, audience id, key   each as its length in bytes (4 bytes, little endian) and its UTF-8
//! type                    1 byte: 0 entry, 1 exit, 2 update
//! at                      8 bytes, little endian: ms since the epoch
//! ```
//!
//! so that the same change has the same id on any run. Lengths go first so that no two changes have one encoding.
//! Whoever changes the format of ids gives all changes others: what is sent again is then new to a destination that recognises changes by them. Promises: one message is one line.

use crate::catalog::{Catalog, CatalogEntry};
use crate::change::{Change, ChangeKind};
use crate::time::write_time;

/// A change's identity: 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageId([u8; 32]);

impl MessageId {
    /// Returns the id of `change` of `key`.
    pub fn of(audience: &CatalogEntry, change: &Change, key: &str) -> MessageId {
        let hash = hash(audience, change, key);
        let mut digits = [0; 32];
        for (at, byte) in hash.iter().enumerate() {
            digits[2 * at] = digit(byte >> 4);
            digits[2 * at + 1] = digit(byte & 15);
        }
        MessageId(digits)
    }

    /// Returns the digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hex digits are ASCII")
    }
}

/// Appends the message of `change` of `key`, with a newline.
pub fn write_message(out: &mut Vec<u8>, catalog: &Catalog, change: &Change, key: &str) {
    let audience = catalog.entry(change.audience);
    write_default(out, audience, change, key, &MessageId::of(audience, change, key));
    out.push(b'\n');
}

/// Appends the message of `change` of `key`, whose id is `id`, without a newline.
pub fn write_default(out: &mut Vec<u8>, audience: &CatalogEntry, change: &Change, key: &str, id: &MessageId) {
    out.reserve(160 + audience.json.len() + key.len());
    out.extend_from_slice(br#"{"id":""#);
    out.extend_from_slice(&id.0);
    out.extend_from_slice(br#"","type":""#);
    out.extend_from_slice(change.kind.name().as_bytes());
    out.extend_from_slice(audience.json.as_bytes());
    write_escaped(out, key);
    out.extend_from_slice(br#"","at":""#);
    write_time(out, change.at);
    out.extend_from_slice(br#"","reason":""#);
    out.extend_from_slice(change.reason.name().as_bytes());
    out.extend_from_slice(b"\"}");
}

fn hash(audience: &CatalogEntry, change: &Change, key: &str) -> [u8; 16] {
    let kind = match change.kind {
        ChangeKind::Entry => [0],
        ChangeKind::Exit => [1],
        ChangeKind::Update => [2],
    };
    let length = (key.len() as u32).to_le_bytes();
    let parts = [&audience.hashed[..], &length, key.as_bytes(), &kind, &change.at.to_le_bytes()];
    // Put together first: the hash is fastest over one piece.
    let mut piece = [0; 256];
    let mut at = 0;
    let fits = parts.iter().all(|part| {
        let room = piece.get_mut(at..at + part.len());
        at += part.len();
        room.map(|room| room.copy_from_slice(part)).is_some()
    });
    let hash = if fits {
        blake3::hash(&piece[..at])
    } else {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(part);
        }
        hasher.finalize()
    };
    hash.as_bytes()[..16].try_into().expect("BLAKE3 has 32 bytes")
}

/// A hex digit.
fn digit(value: u8) -> u8 {
    b"0123456789abcdef"[usize::from(value)]
}

/// Appends `text` as the inside of a JSON string.
pub fn write_escaped(out: &mut Vec<u8>, text: &str) {
    // All bytes are looked at, without a way out: so the compiler compares many at once.
    if text.bytes().fold(false, |found, byte| found | (byte < b' ') | (byte == b'"') | (byte == b'\\')) {
        let quoted = serde_json::Value::from(text).to_string();
        out.extend_from_slice(&quoted.as_bytes()[1..quoted.len() - 1]);
    } else {
        out.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Changes, Reason};
    use crate::ledger::LedgerAudience;

    fn catalog() -> Catalog {
        Catalog::new(
            "shop",
            [("vip", "\"Very\" important", "accounts"), ("high_intent", "High-intent pricing visitors", "users")],
        )
    }

    fn message(catalog: &Catalog, changes: &Changes) -> String {
        let mut out = Vec::new();
        for change in changes {
            write_message(&mut out, catalog, change, changes.key(change));
        }
        String::from_utf8(out).unwrap()
    }

    /// Computes an id as it is defined.
    fn id(job: &str, audience: &str, key: &str, kind: u8, at: u64) -> String {
        let mut encoded = Vec::new();
        for part in [job, audience, key] {
            encoded.extend((part.len() as u32).to_le_bytes());
            encoded.extend(part.bytes());
        }
        encoded.push(kind);
        encoded.extend(at.to_le_bytes());
        let hash = *blake3::hash(&encoded).as_bytes();
        hash[..16].iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn messages_and_their_ids_stay_as_they_are() {
        let catalog = catalog();
        let mut changes = Changes::new();
        let at = 1_795_428_000_123;
        changes.push(at, 0, ChangeKind::Entry, Reason::Event, "u-42");
        changes.push(at, 0, ChangeKind::Exit, Reason::Expiry, "u-42");
        changes.push(0, 1, ChangeKind::Exit, Reason::Recovery, "Zoë \"\\\n\u{1}/");
        insta::assert_snapshot!(message(&catalog, &changes));
    }

    #[test]
    fn any_message_is_as_defined() {
        let catalog = catalog();
        for seed in 0..2000 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let length = rng.usize(0..if seed % 10 == 0 { 1024 } else { 30 });
            let key: String = (0..length).map(|_| rng.char('\0'..'\u{2000}')).collect();
            let at = rng.u64(0..253_402_300_800_000);
            let (kind, name) = *rng
                .choice(&[(ChangeKind::Entry, "entry"), (ChangeKind::Exit, "exit"), (ChangeKind::Update, "update")])
                .unwrap();
            let (audience, audience_id) = *rng.choice(&[(0, "high_intent"), (1, "vip")]).unwrap();
            let mut changes = Changes::new();
            changes.push(at, audience, kind, Reason::Trait, &key);
            let text = message(&catalog, &changes);
            let found: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(text.matches('\n').count(), 1, "seed {seed}");
            assert_eq!(found["id"], id("shop", audience_id, &key, kind as u8, at), "seed {seed}");
            assert_eq!(found["key"], key, "seed {seed}");
            assert_eq!(found["type"], name, "seed {seed}");
            let time = jiff::Timestamp::from_millisecond(at as i64).unwrap();
            assert_eq!(found["at"], format!("{time:.3}"), "seed {seed}");
        }
    }

    #[test]
    fn audiences_that_a_job_no_longer_has_stand_behind_its_own() {
        let own = || Catalog::new("shop", [("vip", "Very important", "users"), ("big", "big", "accounts")]);
        let ledger = |id: &str, name: &str, model: &str| LedgerAudience {
            id: id.to_string(),
            name: name.to_string(),
            model: model.to_string(),
        };
        let (gone, moved) = (ledger("a", "A", "users"), ledger("big", "Big", "users"));
        let renamed = ledger("vip", "Important", "users");
        let catalog = own().with_removed(&[moved.clone(), renamed.clone(), gone.clone(), ledger("a", "", "users")]);
        assert_eq!((catalog.len(), catalog.present()), (4, 2));
        assert_eq!((0..4).map(|index| catalog.id(index)).collect::<Vec<_>>(), ["big", "vip", "a", "big"]);
        assert_eq!((catalog.index("vip"), catalog.index("big"), catalog.index("a")), (Some(1), Some(0), None));
        let indexes = [&gone, &moved, &renamed].map(|audience| catalog.index_in_ledger(audience));
        assert_eq!(indexes, [Some(2), Some(3), Some(1)]);
        assert_eq!(catalog.index_in_ledger(&ledger("b", "B", "users")), None);
        let mut changes = Changes::new();
        changes.push(0, 2, ChangeKind::Exit, Reason::Definition, "u-1");
        assert!(message(&catalog, &changes).contains(r#""audience_id":"a","audience_name":"A","model":"users""#));
        assert_eq!(own().with_removed(&[]), own());
    }

    #[test]
    fn a_catalog_is_in_the_order_of_ids() {
        let catalog = catalog();
        assert_eq!((catalog.id(0), catalog.id(1)), ("high_intent", "vip"));
        assert_eq!((catalog.index("vip"), catalog.index("unknown")), (Some(1), None));
    }
}
