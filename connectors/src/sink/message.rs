//! The default message of a change (SPEC §5), one JSON object on one line.
//!
//! The fields and their order are fixed:
//! `{"id","type","job","audience_id","audience_name","model","key","at","reason"}`.
//!
//! `id` is 32 hex digits: the first 16 bytes of the SHA-256 of
//!
//! ```text
//! job, audience id, key   each as its length in bytes (4 bytes, little endian) and its UTF-8
//! type                    1 byte: 0 entry, 1 exit
//! at                      8 bytes, little endian: ms since the epoch
//! ```
//!
//! so that the same change has the same id on any run. Lengths go first so that no two changes have one encoding.
//! It never changes: destinations know changes by it.

use super::{Change, ChangeKind, ToldAudience};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// What messages say of a job's audiences, in the order of their ids: [`Change::audience`] is an index here.
///
/// Behind them there may be audiences that the job no longer has, of which exits are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalog {
    job: String,
    audiences: Vec<Entry>,
    /// How many of them the job has.
    present: usize,
}

/// What messages say of one audience.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) model: String,
    /// What messages have between type and key.
    json: String,
    /// What ids are computed from, before the key.
    hashed: Vec<u8>,
}

impl Catalog {
    /// A job's audiences, given as (id, name, model id) in any order.
    pub fn new<'a>(job: &str, audiences: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>) -> Catalog {
        let mut audiences: Vec<Entry> =
            audiences.into_iter().map(|(id, name, model)| Entry::new(job, id, name, model)).collect();
        audiences.sort_by(|a, b| a.id.cmp(&b.id));
        Catalog { job: job.to_string(), present: audiences.len(), audiences }
    }

    /// The audiences of `job`.
    pub fn of(job: &usher_config::Job) -> Catalog {
        let audiences = job.audiences.iter();
        Catalog::new(&job.name, audiences.map(|(id, audience)| (&id[..], &audience.name[..], &audience.model[..])))
    }

    /// The audiences of `job`, and behind them, by id and model, those of `told` that it no longer has: none of that id, or one
    /// of another model.
    pub fn with_removed(job: &usher_config::Job, told: &[ToldAudience]) -> Catalog {
        let mut catalog = Catalog::of(job);
        // Syncs may have been told of one audience by different names.
        let mut removed = BTreeMap::new();
        for audience in told {
            let known = job.audiences.get(&audience.id).is_some_and(|known| known.model == audience.model);
            if !known {
                let name = removed.entry((&audience.id, &audience.model)).or_insert(&audience.name);
                *name = (*name).max(&audience.name);
            }
        }
        let removed = removed.into_iter().map(|((id, model), name)| Entry::new(&job.name, id, name, model));
        catalog.audiences.extend(removed);
        catalog
    }

    /// The job's name.
    pub fn job(&self) -> &str {
        &self.job
    }

    /// How many audiences, those that the job no longer has included.
    pub fn len(&self) -> usize {
        self.audiences.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.audiences.is_empty()
    }

    /// The id of the audience at `index`.
    pub fn id(&self, index: u32) -> &str {
        &self.audiences[index as usize].id
    }

    /// How many of them the job has: the first.
    pub fn present(&self) -> usize {
        self.present
    }

    /// The audience at `index`, as a sync is told of it.
    pub fn audience(&self, index: u32) -> ToldAudience {
        let Entry { id, name, model, .. } = &self.audiences[index as usize];
        ToldAudience { id: id.clone(), name: name.clone(), model: model.clone() }
    }

    /// The index of the job's audience `id`.
    pub fn index(&self, id: &str) -> Option<u32> {
        let found = self.audiences[..self.present].binary_search_by(|entry| entry.id[..].cmp(id));
        found.ok().map(|index| index as u32)
    }

    /// The index of an audience as it was told, by its id and model; the job's, or one that it no longer has.
    pub fn index_told(&self, told: &ToldAudience) -> Option<u32> {
        let is = |entry: &Entry| entry.id == told.id && entry.model == told.model;
        match self.index(&told.id) {
            Some(index) if is(&self.audiences[index as usize]) => Some(index),
            _ => self.audiences[self.present..].iter().position(is).map(|at| (self.present + at) as u32),
        }
    }

    /// What messages say of the audience at `index`.
    pub(super) fn entry(&self, index: u32) -> &Entry {
        &self.audiences[index as usize]
    }
}

impl Entry {
    fn new(job: &str, id: &str, name: &str, model: &str) -> Entry {
        let text = |text| serde_json::Value::from(text);
        let mut hashed = Vec::new();
        for part in [job, id] {
            hashed.extend((part.len() as u32).to_le_bytes());
            hashed.extend(part.as_bytes());
        }
        Entry {
            id: id.to_string(),
            name: name.to_string(),
            model: model.to_string(),
            json: format!(
                r#"","job":{},"audience_id":{},"audience_name":{},"model":{},"key":""#,
                text(job),
                text(id),
                text(name),
                text(model)
            ),
            hashed,
        }
    }
}

/// A change's identity: 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageId([u8; 32]);

impl MessageId {
    /// The id of `change` of `key`.
    pub(super) fn of(audience: &Entry, change: &Change, key: &str) -> MessageId {
        let hash = hash(audience, change, key);
        let mut digits = [0; 32];
        for (at, byte) in hash.iter().enumerate() {
            digits[2 * at] = digit(byte >> 4);
            digits[2 * at + 1] = digit(byte & 15);
        }
        MessageId(digits)
    }

    /// Its digits.
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

/// Appends the default message.
pub(super) fn write_default(out: &mut Vec<u8>, audience: &Entry, change: &Change, key: &str, id: &MessageId) {
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

fn hash(audience: &Entry, change: &Change, key: &str) -> [u8; 16] {
    // Put together first: the hash is fastest over one piece.
    let mut hashed = [0; 256];
    let mut length = 0;
    let mut hash = Sha256::new();
    let kind = match change.kind {
        ChangeKind::Entry => [0],
        ChangeKind::Exit => [1],
    };
    for part in
        [&audience.hashed[..], &(key.len() as u32).to_le_bytes(), key.as_bytes(), &kind, &change.at.to_le_bytes()]
    {
        if let Some(room) = hashed.get_mut(length..length + part.len()) {
            room.copy_from_slice(part);
            length += part.len();
        } else {
            hash.update(&hashed[..length]);
            hash.update(part);
            length = 0;
        }
    }
    hash.update(&hashed[..length]);
    let hash = hash.finalize();
    hash[..16].try_into().expect("SHA-256 has 32 bytes")
}

/// A hex digit.
fn digit(value: u8) -> u8 {
    b"0123456789abcdef"[usize::from(value)]
}

/// The inside of a JSON string.
pub(super) fn write_escaped(out: &mut Vec<u8>, text: &str) {
    if text.bytes().any(|b| b < b' ' || b == b'"' || b == b'\\') {
        let quoted = serde_json::Value::from(text).to_string();
        out.extend_from_slice(&quoted.as_bytes()[1..quoted.len() - 1]);
    } else {
        out.extend_from_slice(text.as_bytes());
    }
}

/// RFC 3339 in UTC with milliseconds: `2026-11-23T10:00:00.123Z`.
pub(crate) fn write_time(out: &mut Vec<u8>, at: u64) {
    let (days, ms) = (at / 86_400_000, at % 86_400_000);
    let (year, month, day) = civil(days);
    if year > 9999 {
        // Beyond RFC 3339; ISO 8601 has a sign there.
        out.extend_from_slice(format!("+{year}").as_bytes());
    } else {
        write_digits::<4>(out, year);
    }
    for (before, value) in
        [(b'-', month), (b'-', day), (b'T', ms / 3_600_000), (b':', ms / 60_000 % 60), (b':', ms / 1000 % 60)]
    {
        out.push(before);
        write_digits::<2>(out, value);
    }
    out.push(b'.');
    write_digits::<3>(out, ms % 1000);
    out.push(b'Z');
}

/// The last `N` decimal digits of `value`.
fn write_digits<const N: usize>(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit += (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&digits);
}

/// Year, month and day of the Gregorian calendar, `days` after 1970-01-01.
///
/// Howard Hinnant's `civil_from_days`: years start in March, so that the leap day is a year's last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::{Changes, Reason};

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

    /// `id` as its definition says it.
    fn id(job: &str, audience: &str, key: &str, kind: u8, at: u64) -> String {
        let mut encoded = Vec::new();
        for part in [job, audience, key] {
            encoded.extend((part.len() as u32).to_le_bytes());
            encoded.extend(part.bytes());
        }
        encoded.push(kind);
        encoded.extend(at.to_le_bytes());
        let hash = Sha256::digest(encoded);
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
    fn any_message_is_what_its_definition_says() {
        let catalog = catalog();
        for seed in 0..2000 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let length = rng.usize(0..if seed % 10 == 0 { 1024 } else { 30 });
            let key: String = (0..length).map(|_| rng.char('\0'..'\u{2000}')).collect();
            let at = rng.u64(0..253_402_300_800_000);
            let (kind, name) = *rng.choice(&[(ChangeKind::Entry, "entry"), (ChangeKind::Exit, "exit")]).unwrap();
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
        let text = "job: shop
models: {users: {}, accounts: {}}
events: {seen: {source: web, model: users}, used: {source: web, model: accounts}}
sources: {web: {file: {path: a}, format: segment}}
audiences:
  vip: {name: Very important, model: users, where: {performed: seen, within: 1h}}
  big: {model: accounts, where: {performed: used, within: 1h}}
";
        let job = usher_config::parse(text, "job.yaml", std::path::Path::new("."), &|_| None).unwrap();
        let told = |id: &str, name: &str, model: &str| ToldAudience {
            id: id.to_string(),
            name: name.to_string(),
            model: model.to_string(),
        };
        let (gone, moved) = (told("a", "A", "users"), told("big", "Big", "users"));
        let renamed = told("vip", "Important", "users");
        let catalog =
            Catalog::with_removed(&job, &[moved.clone(), renamed.clone(), gone.clone(), told("a", "", "users")]);
        assert_eq!((catalog.len(), catalog.present()), (4, 2));
        assert_eq!((0..4).map(|index| catalog.id(index)).collect::<Vec<_>>(), ["big", "vip", "a", "big"]);
        assert_eq!((catalog.index("vip"), catalog.index("big"), catalog.index("a")), (Some(1), Some(0), None));
        let indexes = [&gone, &moved, &renamed].map(|audience| catalog.index_told(audience));
        assert_eq!(indexes, [Some(2), Some(3), Some(1)]);
        assert_eq!(catalog.index_told(&told("b", "B", "users")), None);
        let mut changes = Changes::new();
        changes.push(0, 2, ChangeKind::Exit, Reason::Definition, "u-1");
        assert!(message(&catalog, &changes).contains(r#""audience_id":"a","audience_name":"A","model":"users""#));
        assert_eq!(Catalog::with_removed(&job, &[]), Catalog::of(&job));
    }

    #[test]
    fn a_catalog_is_in_the_order_of_ids() {
        let catalog = catalog();
        assert_eq!((catalog.id(0), catalog.id(1)), ("high_intent", "vip"));
        assert_eq!((catalog.index("vip"), catalog.index("nobody")), (Some(1), None));
    }
}
