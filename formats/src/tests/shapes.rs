//! Messages that have the shape of an earlier one, or nearly: a reader that knows shapes reads them as one that has read nothing before.

use fastrand::Rng;
use usher_config::Path;

use super::fuzz::{NAMES, jobs, mutate, pick, value};
use super::seeded;
use crate::shapes::SHAPES_MAX;
use crate::{Content, Decoder, Fields, Malformed};

#[test]
fn a_known_shape_changes_nothing_of_what_is_read() {
    let mut rng = seeded(fastrand::u64(..));
    let mut hits = 0;
    for lot in 0..300 {
        let jobs = jobs();
        let (format, paths) = &jobs[rng.usize(..jobs.len())];
        let decoder = Decoder::new(format, paths);
        let shapes: Vec<u64> = (0..rng.usize(1..12)).map(|_| rng.u64(..)).collect();
        let messages: Vec<_> = (0..100).map(|_| message(&mut rng, shapes[lot % shapes.len()], &shapes)).collect();
        let mut fields = Fields::default();
        for message in &messages {
            let steps = fields.known.shapes().met.len();
            let read = all(&decoder.decode(message, None, &mut fields), paths, &fields);
            hits += usize::from(steps > 0 && fields.known.shapes().met.len() == steps);
            let (afresh, mut fresh) = (Decoder::new(format, paths), Fields::default());
            let expected = all(&afresh.decode(message, None, &mut fresh), paths, &fresh);
            assert_eq!(read, expected, "lot {lot}: {}", message.escape_ascii());
        }
    }
    assert!(hits > 1_000, "{hits}");
}

/// What a message gave, as text.
fn all(verdict: &Result<Content, Malformed>, paths: &[Path], fields: &Fields<'_>) -> String {
    if verdict.is_err() {
        return format!("{verdict:?}");
    }
    let found: Vec<_> = (0..paths.len()).map(|i| fields.get(i)).collect();
    let own = [fields.kind(), fields.name(), fields.key(), fields.id()];
    format!("{verdict:?} {own:?} {found:?} {:?} {:?} {:?}", fields.time(None), fields.met, fields.broken)
}

/// A message of one of the shapes, or nearly.
fn message(rng: &mut Rng, usual: u64, shapes: &[u64]) -> Vec<u8> {
    let shape = if rng.bool() { usual } else { shapes[rng.usize(..shapes.len())] };
    let mut text = String::new();
    object(&mut Rng::with_seed(shape), rng, &mut text, 4);
    let mut bytes = text.into_bytes();
    if rng.u32(..4) == 0 {
        mutate(rng, &mut bytes);
    }
    bytes
}

/// An object with the names and the spaces of `shape`, and values of `rng`.
fn object(shape: &mut Rng, rng: &mut Rng, text: &mut String, depth: usize) {
    text.push('{');
    for member in 0..shape.usize(..7) {
        let space = pick(shape, &["", "", "", " ", "\n  "]);
        *text += &format!("{}{space}\"{}\":{space}", if member > 0 { "," } else { "" }, pick(shape, NAMES));
        match shape.u32(..8) {
            0..3 if depth > 0 => object(shape, rng, text, depth - 1),
            // Of another kind now and then.
            _ if rng.u32(..30) == 0 => value(rng, text, 2),
            3 => *text += ["[]", "[1]", "[1,\"]\",{\"a\":[2]}]"][rng.usize(..3)],
            4 => *text += &rng.i32(..).to_string(),
            5 => *text += pick(rng, &["true", "false", "null"]),
            _ => value(rng, text, 0),
        }
    }
    text.push('}');
}

#[test]
fn an_object_in_the_place_of_null_is_another_shape() {
    let decoder = Decoder::new(&jobs()[0].0, &[]);
    let mut fields = Fields::default();
    let shapes = [r#"{"c":null,"d":1}"#, r#"{"c":{"e":"x"},"d":1}"#, r#"{"c":{},"d":1}"#, r#"{"c":[{}],"d":1}"#];
    for (known, message) in [(1, 0), (2, 1), (3, 2), (3, 0), (3, 1), (3, 2), (3, 3)] {
        decoder.decode(shapes[message].as_bytes(), None, &mut fields).unwrap();
        assert_eq!(fields.known.shapes().met.len(), known, "{}", shapes[message]);
    }
}

#[test]
fn what_one_reader_learns_all_know_and_none_learns_again() {
    let decoder = Decoder::new(&jobs()[0].0, &[]);
    let (mut first, mut second) = (Fields::default(), Fields::default());
    // Both begin with nothing.
    for fields in [&mut first, &mut second] {
        assert!(decoder.decode(b"{", None, fields).is_err());
    }
    for fields in [&mut first, &mut second, &mut Fields::default()] {
        for _ in 0..3 {
            decoder.decode(br#"{"c":1}"#, None, fields).unwrap();
            assert_eq!(fields.known.shapes().met.len(), 1);
        }
    }
}

#[test]
fn so_many_shapes_are_kept_at_most() {
    let decoder = Decoder::new(&jobs()[0].0, &[]);
    let messages: Vec<_> = (0..SHAPES_MAX * 2).map(|n| format!(r#"{{"a{n}":1,"b":[{n}],"c":"x"}}"#)).collect();
    for _ in 0..3 {
        for lot in messages.chunks(10) {
            let mut fields = Fields::default();
            for message in lot {
                decoder.decode(message.as_bytes(), None, &mut fields).unwrap();
            }
            let shapes = fields.known.shapes();
            assert!(shapes.met.len() <= SHAPES_MAX, "{}", shapes.met.len());
        }
    }
    let mut fields = Fields::default();
    decoder.decode(b"{}", None, &mut fields).unwrap();
    assert_eq!(fields.known.shapes().met.len(), SHAPES_MAX);
}
