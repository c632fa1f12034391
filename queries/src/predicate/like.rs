//! `like` and `ilike`: patterns of text, `%` for any text and `_` for one code point.
//!
//! A pattern is read once; the common shapes (`'x'`, `'x%'`, `'%x'`, `'%x%'`) are plain searches. `ilike` compares
//! code point with code point by their lower case (a final sigma is a sigma), so that `_` is one code point of the text
//! there, too. A pattern that ends with its escape character is refused.

use serde::{Deserialize, Serialize};

/// A pattern that has been read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub(crate) struct Like {
    pub(crate) written: Written,
    shape: Shape,
}

/// A pattern as it stands in the text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Written {
    pub(crate) pattern: String,
    pub(crate) escape: Option<char>,
    pub(crate) insensitive: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Shape {
    Exactly(String),
    Starts(String),
    Ends(String),
    Contains(String),
    Pieces(Vec<Piece>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Piece {
    One(char),
    AnyOne,
    AnyText,
}

impl TryFrom<Written> for Like {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Like, &'static str> {
        let pieces = pieces(&written).ok_or("a pattern ends with its escape character")?;
        let shape = if written.insensitive { None } else { plain(&pieces) }.unwrap_or(Shape::Pieces(pieces));
        Ok(Like { written, shape })
    }
}

impl From<Like> for Written {
    fn from(like: Like) -> Written {
        like.written
    }
}

impl Like {
    /// Returns whether the whole text matches the pattern.
    pub(crate) fn matches(&self, text: &str) -> bool {
        match &self.shape {
            Shape::Exactly(whole) => text == whole,
            Shape::Starts(start) => text.starts_with(start.as_str()),
            Shape::Ends(end) => text.ends_with(end.as_str()),
            Shape::Contains(part) => text.contains(part.as_str()),
            Shape::Pieces(pieces) => walk(pieces, text, self.written.insensitive),
        }
    }
}

/// Does what [`Like::matches`] does, with a pattern that is read just now. `None` if it is refused.
pub(crate) fn matches_once(text: &str, pattern: &str, escape: Option<char>, insensitive: bool) -> Option<bool> {
    let pieces = pieces(&Written { pattern: pattern.to_owned(), escape, insensitive })?;
    Some(walk(&pieces, text, insensitive))
}

fn pieces(written: &Written) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut chars = written.pattern.chars();
    while let Some(char) = chars.next() {
        pieces.push(match char {
            _ if Some(char) == written.escape => Piece::One(lowered(chars.next()?, written.insensitive)),
            '%' => Piece::AnyText,
            '_' => Piece::AnyOne,
            _ => Piece::One(lowered(char, written.insensitive)),
        });
    }
    Some(pieces)
}

/// Returns the shape of a pattern whose `%` are only at its ends.
fn plain(pieces: &[Piece]) -> Option<Shape> {
    let before = pieces.iter().take_while(|piece| **piece == Piece::AnyText).count();
    let rest = &pieces[before..];
    let after = rest.iter().rev().take_while(|piece| **piece == Piece::AnyText).count();
    let text = rest[..rest.len() - after].iter().map(|piece| match piece {
        Piece::One(char) => Some(*char),
        Piece::AnyOne | Piece::AnyText => None,
    });
    let text = text.collect::<Option<String>>()?;
    Some(match (before > 0, after > 0) {
        (false, false) => Shape::Exactly(text),
        (false, true) => Shape::Starts(text),
        (true, false) if text.is_empty() => Shape::Contains(text),
        (true, false) => Shape::Ends(text),
        (true, true) => Shape::Contains(text),
    })
}

/// Compares text and pattern side by side; where they differ, the last `%` takes one code point more.
///
/// Only the last `%` is kept: what was matched up to it is as short as it can be.
fn walk(pieces: &[Piece], text: &str, insensitive: bool) -> bool {
    let (mut piece, mut at) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let next = text[at..].chars().next();
        match (pieces.get(piece), next) {
            (Some(Piece::AnyText), _) => {
                piece += 1;
                retry = Some((piece, at));
                continue;
            }
            (None, None) => return true,
            (Some(Piece::AnyOne), Some(char)) => {
                piece += 1;
                at += char.len_utf8();
                continue;
            }
            (Some(Piece::One(piece_char)), Some(char)) if *piece_char == lowered(char, insensitive) => {
                piece += 1;
                at += char.len_utf8();
                continue;
            }
            _ => {}
        }
        let Some((after, from)) = retry else {
            return false;
        };
        let Some(skipped) = text[from..].chars().next() else {
            return false;
        };
        (piece, at) = (after, from + skipped.len_utf8());
        retry = Some((piece, at));
    }
}

/// Returns the lower case of a code point.
///
/// `İ` is the one code point whose lower case is two; it stays as it is, equal to itself only.
fn lowered(char: char, insensitive: bool) -> char {
    if !insensitive {
        return char;
    }
    let mut lower = char.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some('ς'), None) => 'σ',
        (Some(one), None) => one,
        _ => char,
    }
}
