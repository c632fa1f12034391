//! What was read of which file, for the next start: the identity of a partition.
//!
//! A partition is a name, and reads one file after the other: the one that has the name, and while it was rotated those that had it before.
//! A [`History`] has the file that is read now and the [`Stretch`]es of the partition that were read of files before, in order. So a file is found
//! again by what it is, whatever it is called by then, and a position leads to its place in the file that it was read of.
//!
//! Texts of earlier versions have no stretches, and the earliest no mark either.

use super::Identity;
use super::tail::Mark;
use std::fmt;

/// A part of a partition that was read of one file, and is not being read any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    pub file: Identity,
    /// Where the file's content would start in the partition, were all of it read here.
    pub base: u64,
    /// Where the stretch starts and ends in the partition.
    pub from: u64,
    pub to: u64,
    /// Where in the file reading stood at its end; `None` if that is not known.
    pub mark: Option<Mark>,
}

/// What was read of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// The file that was read last.
    pub file: Identity,
    /// Where its content starts in the partition, as in [`Stretch::base`].
    pub base: u64,
    /// Where in the file reading stood.
    pub mark: Option<Mark>,
    /// What was read before.
    pub past: Vec<Stretch>,
}

impl History {
    /// Reads the text of a record.
    pub fn parse(text: &str) -> Option<History> {
        let mut records = text.split(';');
        let current: Vec<&str> = records.next()?.split(':').collect();
        let (file, base, mark) = match current[..] {
            [device, inode, base] => (identity(device, inode)?, number(base)?, None),
            [device, inode, base, offset, hash] => {
                (identity(device, inode)?, number(base)?, Some(read_mark(offset, hash)?))
            }
            _ => return None,
        };
        let stretch = |text: &str| {
            let parts: Vec<&str> = text.split(':').collect();
            let (&[device, inode, base, from, to], rest) = parts.split_first_chunk::<5>()?;
            let mark = match rest {
                [] => None,
                [offset, hash] => Some(read_mark(offset, hash)?),
                _ => return None,
            };
            let (from, to) = (number(from)?, number(to)?);
            let stretch = Stretch { file: identity(device, inode)?, base: number(base)?, from, to, mark };
            (stretch.base <= from && from <= to).then_some(stretch)
        };
        Some(History { file, base, mark, past: records.map(stretch).collect::<Option<_>>()? })
    }

    /// Returns where in the partition begins what was read of the file that was read last, since it was turned to.
    pub fn from(&self) -> u64 {
        self.past.last().map_or(self.base, |last| last.to.max(self.base))
    }

    /// Returns whether something was read of the file that was read last, if reading stood at a position.
    pub fn is_read(&self, position: u64) -> bool {
        self.mark.map_or(position > self.base, |mark| mark.offset > 0)
    }

    /// Returns a position behind all that was read, as far as it is known: what comes instead of it has later ones.
    pub fn end(&self) -> u64 {
        self.from().max(self.base + self.mark.map_or(0, |mark| mark.offset))
    }

    /// Returns all files of which something was read, each with where it was left: what was read last comes last.
    pub fn files(&self) -> impl DoubleEndedIterator<Item = (Identity, Option<Mark>)> {
        let past = self.past.iter().map(|stretch| (stretch.file, stretch.mark));
        past.chain([(self.file, self.mark)])
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let History { file, base, mark, past } = self;
        write!(f, "{}:{}:{base}{}", file.0, file.1, Shown(*mark))?;
        past.iter().try_for_each(|stretch| write!(f, "{stretch}"))
    }
}

impl fmt::Display for Stretch {
    /// As it stands in a record, behind what is before it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stretch { file, base, from, to, mark } = self;
        write!(f, ";{}:{}:{base}:{from}:{to}{}", file.0, file.1, Shown(*mark))
    }
}

/// A mark as it is written behind other parts.
struct Shown(Option<Mark>);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |Mark { offset, hash }| write!(f, ":{offset}:{hash:016x}"))
    }
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}

fn identity(device: &str, inode: &str) -> Option<Identity> {
    Some((number(device)?, number(inode)?))
}

fn read_mark(offset: &str, hash: &str) -> Option<Mark> {
    Some(Mark { offset: number(offset)?, hash: u64::from_str_radix(hash, 16).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_all_versions_are_read_and_written_the_same() {
        let mark = |offset, hash| Some(Mark { offset, hash });
        let first = Stretch { file: (2049, 16), base: 0, from: 0, to: 900, mark: mark(900, 0xfeed) };
        let second = Stretch { file: (2049, 18), base: 850, from: 900, to: 950, mark: None };
        for (text, base, marked, past) in [
            ("2049:17:0", 0, None, vec![]),
            ("2049:17:40:200:00000000000000ff", 40, mark(200, 255), vec![]),
            (
                "2049:17:950:5:0000000000000001;2049:16:0:0:900:900:000000000000feed;2049:18:850:900:950",
                950,
                mark(5, 1),
                vec![first, second],
            ),
        ] {
            let record = History { file: (2049, 17), base, mark: marked, past };
            assert_eq!(History::parse(text), Some(record.clone()), "{text}");
            assert_eq!(record.to_string(), text);
        }
        for text in
            ["", "1:2", "1:2:x", "1:2:3:4", "1:2:3;", "1:2:3;4:5:6", "1:2:3;4:5:6:7:5", "1:2:3;4:5:8:7:9", "memory"]
        {
            assert_eq!(History::parse(text), None, "{text}");
        }
    }
}
