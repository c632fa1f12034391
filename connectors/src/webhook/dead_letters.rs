//! Changes that were given up: with the reason and the last answer, to be listed, sent again or dropped.
//!
//! A folder of files of JSON lines, `NUMBER.jsonl` (20 digits) beginning with the dead letter of that number: dead letters, and what
//! became of them. What is written survives the end of the process at once, and that of the machine after [`DeadLetters::sync`]. They are
//! kept for 30 days and up to 10 GiB; then the oldest go, a file at a time, counted.
//!
//! In memory: some 100 bytes for each. A start reads the files.

use super::queue::Death;
use crate::outbox::files::{damaged, refused};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use usher_core::api::Moment;
use usher_core::change::{ChangeKind, Reason};
use usher_core::delivery::DeadLetterReport;
use usher_core::ledger::LedgerAudience;
use usher_core::sink::SinkError;

/// How long dead letters are kept, ms.
const KEEP: u64 = 30 * 86_400_000;
/// How many bytes of them are kept.
const KEEP_BYTES: u64 = 10 << 30;
/// A file is ended at so many bytes: what is removed at once.
const FILE_BYTES: u64 = 16 << 20;

/// A change that was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DeadLetter {
    /// Its number in the log.
    pub log_number: u64,
    /// When it was given up, ms since the epoch.
    pub time: u64,
    pub death: Death,
    /// The status of the last answer, if there was one.
    pub status: Option<u16>,
    /// The first of its body, or why there was none.
    pub answer: String,
    pub audience: LedgerAudience,
    pub kind: ChangeKind,
    pub reason: Reason,
    pub at: u64,
    pub key: String,
    pub row: String,
    pub previous_row: String,
}

impl DeadLetter {
    /// Returns what identifies its audience and key.
    pub fn membership(&self) -> u128 {
        crate::committed_rows::membership(&self.audience.id, &self.key)
    }

    /// Returns it as the API shows it.
    pub fn report(&self, number: u64, again: bool) -> DeadLetterReport {
        let reason = match self.death {
            Death::Refused => "refused",
            Death::Expired => "expired",
            Death::Unwritable => "unwritable",
        };
        DeadLetterReport {
            id: number.to_string(),
            time: Moment(self.time),
            reason: reason.to_owned(),
            status: self.status,
            answer: self.answer.clone(),
            again,
            kind: self.kind.name().to_owned(),
            audience_id: self.audience.id.clone(),
            key: self.key.clone(),
            at: Moment(self.at),
            row: serde_json::from_str(&self.row).ok(),
        }
    }
}

/// A line of a file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    DeadLetter(u64, Box<DeadLetter>),
    /// It was delivered, superseded, dropped, or is another dead letter now.
    Gone(u64),
    /// It is to be sent again; `true`: even if a later change of its membership was delivered.
    Again(u64, bool),
    /// A later change of its membership was delivered.
    Overtaken(u64),
}

/// What is known of one without reading it.
#[derive(Clone, Copy, Debug)]
struct Known {
    file: u64,
    offset: u64,
    bytes: u64,
    membership: u128,
    log_number: u64,
    is_overtaken: bool,
    again: Option<bool>,
}

/// A file.
#[derive(Clone, Copy, Debug, Default)]
struct Segment {
    bytes: u64,
    /// Of its last dead letter, ms since the epoch.
    last: u64,
    /// Dead letters that are not gone.
    there: u64,
}

/// The dead letters of one sync.
#[derive(Debug)]
pub(super) struct DeadLetters {
    folder: PathBuf,
    segments: BTreeMap<u64, Segment>,
    /// The last of the files; `None` until something is written.
    file: Option<File>,
    next: u64,
    known: BTreeMap<u64, Known>,
    by_membership: HashMap<u128, Vec<u64>>,
    /// Those that are being sent again.
    again: u64,
    is_synced: bool,
    /// Those that went by age or size, since the start.
    pub expired: u64,
}

impl DeadLetters {
    /// Reads the folder, which is made with the first dead letter.
    pub fn open(folder: &Path) -> Result<DeadLetters, SinkError> {
        let mut all = DeadLetters {
            folder: folder.to_owned(),
            segments: BTreeMap::new(),
            file: None,
            next: 0,
            known: BTreeMap::new(),
            by_membership: HashMap::new(),
            again: 0,
            is_synced: true,
            expired: 0,
        };
        let entries = match std::fs::read_dir(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(all),
            entries => entries.map_err(refused(folder, "read"))?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let name = entry.map_err(refused(folder, "read"))?.file_name();
            files.extend(name.to_string_lossy().strip_suffix(".jsonl").and_then(|stem| stem.parse::<u64>().ok()));
        }
        files.sort_unstable();
        for (at, &file) in files.iter().enumerate() {
            all.read(file, at + 1 == files.len())?;
        }
        if let Some(&file) = files.last() {
            let path = all.path(file);
            all.file = Some(File::options().append(true).open(&path).map_err(refused(&path, "opened"))?);
        }
        Ok(all)
    }

    /// Returns how many of them are being sent again.
    pub fn again(&self) -> u64 {
        self.again
    }

    /// Adds one. Returns its number.
    pub fn add(&mut self, letter: &DeadLetter) -> Result<u64, SinkError> {
        let number = self.next;
        if self.segments.last_key_value().is_none_or(|(_, segment)| segment.bytes >= FILE_BYTES) {
            crate::disk::create_folder(&self.folder).map_err(refused(&self.folder, "written"))?;
            let path = self.path(number);
            let file = File::options().append(true).create(true).open(&path).map_err(refused(&path, "written"))?;
            crate::disk::sync_folder_of(&path).map_err(refused(&path, "written"))?;
            self.sync()?;
            self.file = Some(file);
            self.segments.insert(number, Segment::default());
        }
        let line = Line::DeadLetter(number, Box::new(letter.clone()));
        let (file, offset, bytes) = self.write(&line)?;
        self.take(number, letter, file, offset, bytes);
        Ok(number)
    }

    /// Returns the number behind the greatest of a change in the log that is a dead letter.
    pub fn next_log_number(&self) -> u64 {
        self.known.values().map(|known| known.log_number + 1).max().unwrap_or(0)
    }

    /// Reads one; `None` if there is none of this number.
    pub fn get(&self, number: u64) -> Result<Option<DeadLetter>, SinkError> {
        let Some(known) = self.known.get(&number) else { return Ok(None) };
        let path = self.path(known.file);
        let failed = refused(&path, "read");
        let mut file = File::open(&path).map_err(&failed)?;
        file.seek(SeekFrom::Start(known.offset)).map_err(&failed)?;
        let mut line = vec![0; known.bytes as usize];
        file.read_exact(&mut line).map_err(&failed)?;
        match serde_json::from_slice(&line) {
            Ok(Line::DeadLetter(_, letter)) => Ok(Some(*letter)),
            _ => Err(damaged(&path, format!("there is no dead letter at byte {}", known.offset))),
        }
    }

    /// Returns the numbers of those from a number on.
    pub fn numbers(&self, from: u64) -> impl Iterator<Item = u64> {
        self.known.range(from..).map(|(number, _)| *number)
    }

    /// Returns whether a later change of its membership was delivered.
    pub fn is_overtaken(&self, number: u64) -> bool {
        self.known.get(&number).is_some_and(|known| known.is_overtaken)
    }

    /// Returns the numbers of those that are being sent again, and whether they are forced.
    pub fn sent_again(&self) -> Vec<(u64, bool)> {
        self.known.iter().filter_map(|(number, known)| Some((*number, known.again?))).collect()
    }

    /// Returns the numbers of those whose change `is_settled` does not know: their file was written, and no more.
    pub fn not_settled(&self, is_settled: impl Fn(u64) -> bool) -> Vec<u64> {
        let not_settled = self.known.iter().filter(|(_, known)| !is_settled(known.log_number));
        not_settled.map(|(number, _)| *number).collect()
    }

    /// Takes it that one is to be sent again. Returns whether it was not already.
    pub fn send_again(&mut self, number: u64, forced: bool) -> Result<bool, SinkError> {
        match self.known.get_mut(&number) {
            Some(known) if known.again.is_none() => known.again = Some(forced),
            _ => return Ok(false),
        }
        self.again += 1;
        self.write(&Line::Again(number, forced))?;
        Ok(true)
    }

    /// Removes one.
    pub fn remove(&mut self, number: u64) -> Result<(), SinkError> {
        if self.known.contains_key(&number) {
            self.write(&Line::Gone(number))?;
            self.forget(number);
        }
        Ok(())
    }

    /// Takes it that a change of a membership was delivered, which overtakes the earlier ones.
    pub fn overtake(&mut self, membership: u128, log_number: u64) -> Result<(), SinkError> {
        let Some(numbers) = self.by_membership.get(&membership) else { return Ok(()) };
        for number in numbers.clone() {
            let known = self.known.get_mut(&number).expect("both tables have it");
            if known.log_number < log_number && !known.is_overtaken {
                known.is_overtaken = true;
                self.write(&Line::Overtaken(number))?;
            }
        }
        Ok(())
    }

    /// Removes files that are too old, too much, or of nothing that is there.
    pub fn sweep(&mut self, now: u64) -> Result<(), SinkError> {
        while self.segments.len() > 1 {
            let total: u64 = self.segments.values().map(|segment| segment.bytes).sum();
            let (&file, segment) = self.segments.first_key_value().expect("there are two");
            let is_old = segment.last.saturating_add(KEEP) < now;
            if segment.there > 0 && !is_old && total <= KEEP_BYTES {
                break;
            }
            let numbers: VecDeque<u64> =
                self.known.iter().filter(|(_, known)| known.file == file).map(|(number, _)| *number).collect();
            self.expired += numbers.len() as u64;
            numbers.into_iter().for_each(|number| self.forget(number));
            let path = self.path(file);
            crate::disk::remove(&path).map_err(refused(&path, "written"))?;
            self.segments.remove(&file);
        }
        Ok(())
    }

    /// Makes what was written survive the end of the machine.
    pub fn sync(&mut self) -> Result<(), SinkError> {
        if let (false, Some(file)) = (self.is_synced, &self.file) {
            file.sync_data().map_err(refused(&self.folder, "written"))?;
        }
        self.is_synced = true;
        Ok(())
    }

    fn path(&self, file: u64) -> PathBuf {
        self.folder.join(format!("{file:020}.jsonl"))
    }

    /// Writes a line. Returns its file, its offset, and its length without the newline.
    fn write(&mut self, line: &Line) -> Result<(u64, u64, u64), SinkError> {
        let mut text = serde_json::to_vec(line).expect("a line has only texts and numbers");
        text.push(b'\n');
        let mut last = self.segments.last_entry().expect("a line follows a dead letter");
        let (name, offset) = (*last.key(), last.get().bytes);
        last.get_mut().bytes += text.len() as u64;
        let file = self.file.as_mut().expect("it is opened with its segment");
        file.write_all(&text).map_err(refused(&self.folder, "written"))?;
        self.is_synced = false;
        Ok((name, offset, text.len() as u64 - 1))
    }

    fn take(&mut self, number: u64, letter: &DeadLetter, file: u64, offset: u64, bytes: u64) {
        let membership = letter.membership();
        let known =
            Known { file, offset, bytes, membership, log_number: letter.log_number, is_overtaken: false, again: None };
        self.known.insert(number, known);
        self.by_membership.entry(membership).or_default().push(number);
        self.next = number + 1;
        if let Some(segment) = self.segments.get_mut(&file) {
            segment.there += 1;
            segment.last = segment.last.max(letter.time);
        }
    }

    fn forget(&mut self, number: u64) {
        let Some(known) = self.known.remove(&number) else { return };
        self.again -= u64::from(known.again.is_some());
        if let Some(segment) = self.segments.get_mut(&known.file) {
            segment.there -= 1;
        }
        if let Some(numbers) = self.by_membership.get_mut(&known.membership) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.by_membership.remove(&known.membership);
            }
        }
    }

    /// Reads a file; the last one may end in a line that a crash has torn, which is cut off.
    fn read(&mut self, file: u64, is_last: bool) -> Result<(), SinkError> {
        let path = self.path(file);
        let failed = refused(&path, "read");
        let mut lines = BufReader::new(File::open(&path).map_err(&failed)?);
        self.segments.insert(file, Segment::default());
        let (mut offset, mut line) = (0, Vec::new());
        loop {
            line.clear();
            let read = lines.read_until(b'\n', &mut line).map_err(&failed)? as u64;
            if read == 0 {
                break;
            }
            let parsed = match line.strip_suffix(b"\n") {
                Some(line) => serde_json::from_slice(line).ok(),
                None => None,
            };
            match parsed {
                Some(Line::DeadLetter(number, letter)) => self.take(number, &letter, file, offset, read - 1),
                Some(Line::Gone(number)) => self.forget(number),
                Some(Line::Again(number, forced)) => {
                    if let Some(known) = self.known.get_mut(&number) {
                        self.again += u64::from(known.again.is_none());
                        known.again = Some(forced);
                    }
                }
                Some(Line::Overtaken(number)) => {
                    if let Some(known) = self.known.get_mut(&number) {
                        known.is_overtaken = true;
                    }
                }
                None if is_last && line.last() != Some(&b'\n') => {
                    tracing::warn!(path = %path.display(), "the last line was torn by a crash, and is cut off");
                    let cut = File::options().write(true).open(&path).and_then(|file| file.set_len(offset));
                    cut.map_err(refused(&path, "written"))?;
                    break;
                }
                None => return Err(damaged(&path, format!("there is no line of dead letters at byte {offset}"))),
            }
            offset += read;
        }
        self.segments.get_mut(&file).expect("it was just inserted").bytes = offset;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(log_number: u64, key: &str) -> DeadLetter {
        DeadLetter {
            log_number,
            time: 1_000 + log_number,
            death: Death::Refused,
            status: Some(422),
            answer: "no \"such\" field\n".to_owned(),
            audience: LedgerAudience { id: "vips".to_owned(), name: "VIPs".to_owned(), model: "users".to_owned() },
            kind: ChangeKind::Entry,
            reason: Reason::Event,
            at: 5,
            key: key.to_owned(),
            row: "{\"plan\":null}".to_owned(),
            previous_row: String::new(),
        }
    }

    #[test]
    fn dead_letters_are_kept_with_what_became_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dead_letters");
        let mut letters = DeadLetters::open(&path).unwrap();
        for (number, key) in [(3, "a"), (4, "b"), (9, "a")] {
            letters.add(&letter(number, key)).unwrap();
        }
        assert!(letters.send_again(0, true).unwrap());
        assert!(!letters.send_again(0, false).unwrap(), "once");
        letters.remove(1).unwrap();
        letters.overtake(letter(0, "a").membership(), 9).unwrap();
        drop(letters);
        // A line that a crash has torn.
        let file = path.join("00000000000000000000.jsonl");
        let mut bytes = std::fs::read(&file).unwrap();
        bytes.extend_from_slice(b"{\"gone\":");
        std::fs::write(&file, bytes).unwrap();
        let mut letters = DeadLetters::open(&path).unwrap();
        assert_eq!(letters.numbers(0).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(letters.get(0).unwrap(), Some(letter(3, "a")));
        assert_eq!(letters.get(1).unwrap(), None);
        assert_eq!(letters.get(2).unwrap(), Some(letter(9, "a")));
        assert_eq!((letters.is_overtaken(0), letters.is_overtaken(2)), (true, false));
        assert_eq!(letters.sent_again(), [(0, true)]);
        assert_eq!(letters.not_settled(|number| number < 9), [2]);
        assert_eq!(letters.add(&letter(10, "c")).unwrap(), 3);
    }

    #[test]
    fn lines_of_this_version_stay_readable() {
        let folder = tempfile::tempdir().unwrap();
        let lines = concat!(
            r#"{"dead_letter":[0,{"log_number":3,"time":1003,"death":"refused","status":422,"answer":"no \"such\" field\n","#,
            r#""audience":{"id":"vips","name":"VIPs","model":"users"},"kind":"Entry","reason":"Event","at":5,"key":"a","#,
            r#""row":"{\"plan\":null}","previous_row":""}]}"#,
            "\n{\"again\":[0,false]}\n{\"overtaken\":0}\n{\"gone\":7}\n"
        );
        let path = folder.path().join("00000000000000000000.jsonl");
        std::fs::write(&path, lines).unwrap();
        let mut letters = DeadLetters::open(folder.path()).unwrap();
        assert_eq!(letters.get(0).unwrap(), Some(letter(3, "a")));
        assert_eq!((letters.is_overtaken(0), letters.sent_again()), (true, vec![(0, false)]));
        letters.add(&letter(3, "a")).unwrap();
        let first = lines.lines().next().unwrap();
        let added = std::fs::read_to_string(&path).unwrap();
        assert_eq!(added.lines().last().unwrap(), first.replace("[0,", "[1,"), "lines are written so");
    }

    #[test]
    fn the_oldest_go_by_age_a_file_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let mut letters = DeadLetters::open(folder.path()).unwrap();
        letters.add(&letter(0, "a")).unwrap();
        letters.segments.get_mut(&0).unwrap().bytes = FILE_BYTES;
        letters.add(&letter(1, "b")).unwrap();
        letters.sweep(KEEP).unwrap();
        assert_eq!(letters.numbers(0).count(), 2);
        letters.sweep(1_001 + KEEP).unwrap();
        assert_eq!((letters.numbers(0).collect::<Vec<_>>(), letters.expired), (vec![1], 1));
        assert!(!folder.path().join("00000000000000000000.jsonl").exists());
    }
}
