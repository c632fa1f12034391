//! What is written of a change: SPEC §5's default message.

use super::{Change, ChangeKind, Changes};
use sha2::{Digest, Sha256};

/// What messages say of a job's audiences; their order is that of their ids.
#[derive(Clone, Debug)]
pub struct Catalog {
    job: String,
    audiences: Vec<Audience>,
}

#[derive(Clone, Debug)]
struct Audience {
    id: String,
    /// From the id of the audience to that of the key: what is the same in all its messages.
    middle: String,
}

impl Catalog {
    /// Of a job's name and its audiences: id, name, model id.
    pub fn new(job: &str, mut audiences: Vec<(String, String, String)>) -> Catalog {
        audiences.sort();
        let json = |text: &str| serde_json::to_string(text).expect("a string is JSON");
        let job_json = json(job);
        let audience = |(id, name, model): (String, String, String)| {
            let middle = format!(
                r#","job":{job_json},"audience_id":{},"audience_name":{},"model":{},"key":"#,
                json(&id),
                json(&name),
                json(&model)
            );
            Audience { id, middle }
        };
        Catalog { job: job.to_owned(), audiences: audiences.into_iter().map(audience).collect() }
    }

    /// How many audiences there are.
    pub fn len(&self) -> usize {
        self.audiences.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.audiences.is_empty()
    }
}

/// Which changes a sync sends.
#[derive(Clone, Debug)]
pub struct Filter {
    audiences: Vec<bool>,
    entries: bool,
    exits: bool,
}

impl Filter {
    /// All.
    pub fn all(catalog: &Catalog) -> Filter {
        Filter { audiences: vec![true; catalog.len()], entries: true, exits: true }
    }

    /// Those of some audiences, by id.
    pub fn new(catalog: &Catalog, ids: &[String], entries: bool, exits: bool) -> Filter {
        Filter { audiences: catalog.audiences.iter().map(|audience| ids.contains(&audience.id)).collect(), entries, exits }
    }

    /// Whether it lets a change through.
    pub fn passes(&self, change: &Change) -> bool {
        let kind = match change.kind {
            ChangeKind::Entry => self.entries,
            ChangeKind::Exit => self.exits,
        };
        kind && self.audiences[change.audience as usize]
    }
}

/// Appends a change's message, with a newline.
pub fn write_message(out: &mut Vec<u8>, catalog: &Catalog, changes: &Changes, change: &Change) {
    let audience = &catalog.audiences[change.audience as usize];
    let key = changes.key(change);
    out.extend_from_slice(br#"{"id":""#);
    out.extend_from_slice(&id(&catalog.job, &audience.id, key, change));
    out.extend_from_slice(br#"","type":""#);
    out.extend_from_slice(change.kind.as_str().as_bytes());
    out.push(b'"');
    out.extend_from_slice(audience.middle.as_bytes());
    serde_json::to_writer(&mut *out, key).expect("a vector can be written");
    out.extend_from_slice(br#","at":""#);
    out.extend_from_slice(&rfc3339(change.at));
    out.extend_from_slice(br#"","reason":""#);
    out.extend_from_slice(change.reason.as_str().as_bytes());
    out.extend_from_slice(b"\"}\n");
}

/// The id: 128 bits of SHA-256 over (job, audience, key, type, at), each with its length, in hexadecimal.
fn id(job: &str, audience: &str, key: &str, change: &Change) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [job, audience, key, change.kind.as_str()] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.update(change.at.to_le_bytes());
    let digest = hash.finalize();
    let mut hex = [0; 32];
    for (i, byte) in digest[..16].iter().enumerate() {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        hex[2 * i] = DIGITS[usize::from(byte >> 4)];
        hex[2 * i + 1] = DIGITS[usize::from(byte & 15)];
    }
    hex
}

/// A time as `2026-11-23T10:00:00.123Z`. The civil date is Howard Hinnant's `civil_from_days`
/// (<https://howardhinnant.github.io/date_algorithms.html>), for days from 1970 on.
fn rfc3339(ms: u64) -> [u8; 24] {
    let (days, of_day) = (ms / 86_400_000, ms % 86_400_000);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let mut out = *b"0000-00-00T00:00:00.000Z";
    let mut digits = |at: usize, width: usize, mut value: u64| {
        for i in (at..at + width).rev() {
            out[i] = b'0' + (value % 10) as u8;
            value /= 10;
        }
    };
    digits(0, 4, year);
    digits(5, 2, month);
    digits(8, 2, day);
    digits(11, 2, of_day / 3_600_000);
    digits(14, 2, of_day / 60_000 % 60);
    digits(17, 2, of_day / 1_000 % 60);
    digits(20, 3, of_day % 1_000);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::Reason;

    #[test]
    fn a_message_is_as_documented_and_its_id_never_changes() {
        let catalog = Catalog::new("shop", vec![("high_intent".into(), "High \"intent\"".into(), "users".into())]);
        let mut changes = Changes::default();
        changes.push(1_795_428_000_123, 0, ChangeKind::Entry, Reason::Event, "u-42\u{1F600}\n");
        let mut out = Vec::new();
        let change = *changes.iter().next().expect("one was pushed");
        write_message(&mut out, &catalog, &changes, &change);
        let want = "{\"id\":\"ID\",\"type\":\"entry\",\"job\":\"shop\",\"audience_id\":\"high_intent\",\
            \"audience_name\":\"High \\\"intent\\\"\",\"model\":\"users\",\"key\":\"u-42\u{1F600}\\n\",\
            \"at\":\"2026-11-23T10:00:00.123Z\",\"reason\":\"event\"}\n";
        let got = String::from_utf8(out).expect("messages are text");
        let id = got[7..39].to_owned();
        assert_eq!(got, want.replace("ID", &id));
        // Computed with another program over the same bytes.
        assert_eq!(id, "FROZEN");
    }

    #[test]
    fn times_are_those_of_a_library() {
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..20_000 {
            let ms = rng.u64(0..253_402_300_800_000);
            let want = jiff::Timestamp::from_millisecond(ms as i64).expect("a time before the year 10000");
            assert_eq!(String::from_utf8_lossy(&rfc3339(ms)), format!("{want:.3}"));
        }
    }
}
