//! Deletion vectors: which rows of a file are deleted, as a bitmap in the log or in a file of its own.
//!
//! Promises: a vector has as many rows as the log says, and in a file its checksum is right. The bitmap itself is the crate
//! `roaring`'s, in the portable format that the protocol names.

use std::sync::Arc;

use arrow_array::{BooleanArray, RecordBatch};
use arrow_schema::ArrowError;
use arrow_select::filter::filter_record_batch;
use roaring::RoaringTreemap;
use usher_core::warehouse::SnapshotError;

use super::actions::DeletionVector;
use super::damaged;
use super::folder::Folder;
use crate::parquet::cast::uuid;

/// What a vector in the protocol's format starts with.
const MAGIC: u32 = 1_681_511_377;

/// Length and checksum around a vector in a file.
const LENGTH_BYTES: usize = 4;
const SUM_BYTES: usize = 4;

/// The rows of a file that are deleted, by their number in it.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::parquet) struct Deleted(Arc<RoaringTreemap>);

impl Deleted {
    /// Reads a vector; `fetched` holds the last file that was read.
    ///
    /// # Errors
    /// It can't be read, or it is damaged.
    pub(super) fn read(
        vector: &DeletionVector,
        folder: &Folder<'_>,
        fetched: &mut Option<(String, bytes::Bytes)>,
    ) -> Result<Deleted, SnapshotError> {
        let path = match &vector.storage_type[..] {
            "i" => {
                let at = folder.shown("_delta_log");
                let bytes = z85(&vector.path_or_inline_dv).filter(|bytes| bytes.len() >= vector.size_in_bytes);
                let bytes = bytes.ok_or_else(|| damaged(&at, "a deletion vector in the log is no text of base 85"))?;
                return of_bytes(&bytes[..vector.size_in_bytes], vector.cardinality)
                    .map_err(|what| damaged(&at, format!("a deletion vector in the log is damaged: {what}")));
            }
            "u" => {
                let path = relative(&vector.path_or_inline_dv);
                path.ok_or_else(|| damaged(&folder.shown("_delta_log"), "a deletion vector's file has no name"))?
            }
            "p" => vector.path_or_inline_dv.clone(),
            other => {
                let what = format!("a deletion vector is stored as `{other}`, which is not known");
                return Err(damaged(&folder.shown("_delta_log"), what));
            }
        };
        if fetched.as_ref().is_none_or(|(name, _)| *name != path) {
            *fetched = Some((path.clone(), folder.whole_file(&path)?));
        }
        let (_, file) = fetched.as_ref().expect("it was just fetched");
        let at = folder.shown_file(&path);
        let offset = vector.offset.and_then(|offset| usize::try_from(offset).ok()).unwrap_or(0);
        in_file(file, offset, vector)
            .map_err(|what| damaged(&at, format!("the deletion vector at byte {offset} is damaged: {what}")))
    }

    /// Returns all of a file's first `rows` rows but those that are deleted here and not in `before`.
    pub(super) fn all_but_new(&self, before: Option<&Deleted>, rows: u64) -> Deleted {
        let new = before.map_or_else(|| (*self.0).clone(), |before| &*self.0 - &*before.0);
        let mut all = RoaringTreemap::new();
        all.insert_range(0..rows);
        Deleted(Arc::new(all - new))
    }

    /// Returns whether all of these rows are deleted; true if there are none.
    pub(in crate::parquet) fn covers(&self, rows: std::ops::Range<u64>) -> bool {
        let before = |row: u64| row.checked_sub(1).map_or(0, |last| self.0.rank(last));
        before(rows.end) - before(rows.start) >= rows.end - rows.start
    }

    /// Returns the number of deleted rows.
    pub(in crate::parquet) fn count(&self) -> u64 {
        self.0.len()
    }

    /// Returns the rows of a batch, whose first is the file's row `first`, that are not deleted.
    pub(in crate::parquet) fn without(&self, first: u64, batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
        let rows = first..first + batch.num_rows() as u64;
        let keep: BooleanArray = rows.map(|row| Some(!self.0.contains(row))).collect();
        if keep.false_count() == 0 { Ok(batch) } else { filter_record_batch(&batch, &keep) }
    }
}

/// Reads a vector of a file. The error says what is wrong.
fn in_file(file: &[u8], offset: usize, vector: &DeletionVector) -> Result<Deleted, String> {
    let short = || format!("the file ends before it: it has {} bytes", file.len());
    let number = |at: usize| file.get(at..)?.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
    let length = number(offset).ok_or_else(short)?;
    if usize::try_from(length).ok() != Some(vector.size_in_bytes) {
        return Err(format!("it has {length} bytes, and the log says {}", vector.size_in_bytes));
    }
    let start = offset + LENGTH_BYTES;
    let end = start.checked_add(vector.size_in_bytes).filter(|end| end + SUM_BYTES <= file.len()).ok_or_else(short)?;
    let mut sum = flate2::Crc::new();
    sum.update(&file[start..end]);
    if number(end) != Some(sum.sum()) {
        return Err("its checksum is wrong".to_owned());
    }
    of_bytes(&file[start..end], vector.cardinality)
}

/// Reads the bytes of a vector. The error says what is wrong.
fn of_bytes(bytes: &[u8], count: u64) -> Result<Deleted, String> {
    let (magic, bitmap) = bytes.split_first_chunk::<4>().ok_or("it is empty")?;
    if u32::from_le_bytes(*magic) != MAGIC {
        return Err("it is in another format".to_owned());
    }
    let rows = RoaringTreemap::deserialize_from(bitmap).map_err(|error| error.to_string())?;
    match rows.len() {
        len if len == count => Ok(Deleted(Arc::new(rows))),
        len => Err(format!("it has {len} rows, and the log says {count}")),
    }
}

/// Returns the path of a vector's file below the table's folder: a prefix, and 20 characters that are a UUID.
fn relative(text: &str) -> Option<String> {
    const UUID_CHARACTERS: usize = 20;
    let (prefix, encoded) = text.split_at_checked(text.len().checked_sub(UUID_CHARACTERS)?)?;
    let name = format!("deletion_vector_{}.bin", uuid(&z85(encoded)?));
    Some(if prefix.is_empty() { name } else { format!("{prefix}/{name}") })
}

/// Decodes a text of base 85 in the alphabet of ZeroMQ: five characters are four bytes.
fn z85(text: &str) -> Option<Vec<u8>> {
    const DIGITS: &[u8; 85] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";
    let digit = |byte: &u8| DIGITS.iter().position(|digit| digit == byte).map(|at| at as u64);
    let mut bytes = Vec::with_capacity(text.len() / 5 * 4);
    for five in text.as_bytes().chunks(5) {
        let number = five.iter().map(digit).try_fold(0, |number, digit| Some(number * 85 + digit?))?;
        bytes.extend(u32::try_from(number).ok().filter(|_| five.len() == 5)?.to_be_bytes());
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector in the protocol's format.
    fn bytes(rows: impl IntoIterator<Item = u64>) -> Vec<u8> {
        let mut bytes = MAGIC.to_le_bytes().to_vec();
        rows.into_iter().collect::<RoaringTreemap>().serialize_into(&mut bytes).expect("a vector is written");
        bytes
    }

    fn vector(bytes: &[u8], count: u64) -> DeletionVector {
        DeletionVector {
            storage_type: "u".to_owned(),
            path_or_inline_dv: String::new(),
            offset: Some(1),
            size_in_bytes: bytes.len(),
            cardinality: count,
        }
    }

    #[test]
    fn base_85_is_as_the_protocol_has_it() {
        // The example of ZeroMQ's RFC 32, and that of the Delta protocol.
        assert_eq!(z85("HelloWorld"), Some(vec![0x86, 0x4F, 0xD2, 0x6F, 0xB5, 0x59, 0xF7, 0x5B]));
        assert_eq!(
            relative("ab^-aqEH.-t@S}K{vb[*k^"),
            Some("ab/deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin".to_owned())
        );
        assert_eq!((z85("Hell"), z85("Hell~"), z85("#####"), relative("short")), (None, None, None, None));
    }

    #[test]
    fn a_vector_is_read_whole_or_not_at_all() {
        // An array, a run and a bitmap, and numbers beyond 32 bits.
        let rows: Vec<u64> = (0..9).map(|n| n * n).chain(70_000..90_000).chain([1 << 33, (1 << 33) + 5]).collect();
        let data = bytes(rows.iter().copied());
        let mut file = vec![1];
        file.extend(u32::try_from(data.len()).expect("a small vector").to_be_bytes());
        file.extend(&data);
        let mut sum = flate2::Crc::new();
        sum.update(&data);
        file.extend(sum.sum().to_be_bytes());
        let vector = vector(&data, rows.len() as u64);
        let deleted = in_file(&file, 1, &vector).expect("the vector is right");
        assert_eq!(deleted.0.iter().collect::<Vec<_>>(), rows);

        let wrong = |file: &[u8], offset, vector: &DeletionVector| in_file(file, offset, vector).expect_err("damage");
        assert_eq!(wrong(&file, 1, &DeletionVector { cardinality: 3, ..vector.clone() }), {
            format!("it has {} rows, and the log says 3", rows.len())
        });
        assert!(wrong(&file, 2, &vector).starts_with("it has "));
        let short = &file[..file.len() - 1];
        assert_eq!(wrong(short, 1, &vector), format!("the file ends before it: it has {} bytes", short.len()));
        for at in 5..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert_eq!(wrong(&changed, 1, &vector), "its checksum is wrong", "{at}");
        }
        assert_eq!(of_bytes(&[], 0), Err("it is empty".to_owned()));
        assert_eq!(of_bytes(&[0; 8], 0), Err("it is in another format".to_owned()));
        for end in (4..data.len()).step_by(7) {
            assert!(of_bytes(&data[..end], rows.len() as u64).is_err(), "{end}");
        }
    }
}
