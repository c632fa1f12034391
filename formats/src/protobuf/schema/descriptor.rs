//! Files as descriptors: `google.protobuf.FileDescriptorProto`, in base64, is what some clients register in place of a file's text.

use super::{DraftField, DraftMessage, Enum, Field, File, Kind, json_name};
use crate::binary::varint;

/// What is wrong with bytes that are no descriptor.
const NO_DESCRIPTOR: &str = "it is no descriptor of a file";

/// Returns the descriptor that a text is in base64; `None` if it is the text of a file.
pub(super) fn of_base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    let digits = text.trim_end_matches('=');
    if digits.is_empty() || !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for four in digits.as_bytes().chunks(4) {
        let mut bits = 0u32;
        for byte in four {
            bits = bits << 6
                | u32::from(match byte {
                    b'A'..=b'Z' => byte - b'A',
                    b'a'..=b'z' => byte - b'a' + 26,
                    b'0'..=b'9' => byte - b'0' + 52,
                    b'+' => 62,
                    b'/' => 63,
                    _ => return None,
                });
        }
        bits <<= 6 * (4 - four.len());
        bytes.extend_from_slice(&bits.to_be_bytes()[1..four.len()]);
    }
    Some(bytes)
}

/// Reads a descriptor.
///
/// # Errors
/// A clause about it.
pub(super) fn file(bytes: &[u8]) -> Result<File, String> {
    let (mut package, mut syntax, mut implicit) = (String::new(), "proto2".to_owned(), false);
    let (mut messages, mut enums) = (Vec::new(), Vec::new());
    let mut file = File::default();
    for (number, value) in fields(bytes)? {
        match (number, value) {
            (2, Value::Bytes(name)) => package = text(name)?,
            (3, Value::Bytes(import)) => file.imports.push(text(import)?),
            (4, Value::Bytes(message)) => messages.push(message),
            (5, Value::Bytes(of)) => enums.push(of),
            (8, Value::Bytes(options)) => implicit = has_implicit_presence(options, 50)?,
            (12, Value::Bytes(name)) => syntax = text(name)?,
            _ => {}
        }
    }
    if messages.is_empty() && enums.is_empty() && file.imports.is_empty() {
        return Err(NO_DESCRIPTOR.to_owned());
    }
    let presence = syntax != "proto3" && !implicit;
    for (index, bytes) in messages.into_iter().enumerate() {
        message(bytes, &package, &[index as u32], presence, &mut file)?;
    }
    for of in enums {
        file.enums.push(enumeration(of, &package)?);
    }
    Ok(file)
}

/// Adds a message, and those inside it, to a file. Returns its name if it is the entry of a map.
fn message(
    bytes: &[u8],
    scope: &str,
    place: &[u32],
    presence: bool,
    file: &mut File,
) -> Result<Option<String>, String> {
    let (mut name, mut is_entry) = (String::new(), false);
    let (mut own, mut nested, mut enums) = (Vec::new(), Vec::new(), Vec::new());
    for (number, value) in fields(bytes)? {
        match (number, value) {
            (1, Value::Bytes(of)) => name = text(of)?,
            (2, Value::Bytes(of)) => own.push(of),
            (3, Value::Bytes(of)) => nested.push(of),
            (4, Value::Bytes(of)) => enums.push(of),
            (7, Value::Bytes(options)) => {
                is_entry = fields(options)?.iter().any(|option| matches!(option, (7, Value::Varint(1))));
            }
            _ => {}
        }
    }
    let name = super::full_name(scope, &name);
    let mut entries = Vec::new();
    for (index, bytes) in nested.into_iter().enumerate() {
        let place = [place, &[index as u32]].concat();
        entries.extend(message(bytes, &name, &place, presence, file)?);
    }
    for of in enums {
        file.enums.push(enumeration(of, &name)?);
    }
    // Of an entry key and value have no presence.
    let presence = presence && !is_entry;
    let mut fields = own.into_iter().map(|bytes| field(bytes, presence)).collect::<Result<Vec<_>, _>>()?;
    for field in &mut fields {
        field.field.map = entries.iter().any(|entry| field.of.strip_prefix('.') == Some(entry));
    }
    file.messages.push(DraftMessage { name: name.clone(), fields, place: Some(place.to_vec()) });
    Ok(is_entry.then_some(name))
}

fn field(bytes: &[u8], presence: bool) -> Result<DraftField, String> {
    let (mut name, mut own_json_name, mut number, mut of) = (String::new(), None, 0, String::new());
    let (mut label, mut kind, mut oneof, mut is_optional, mut implicit) = (1, 0, None, false, false);
    for (part, value) in fields(bytes)? {
        match (part, value) {
            (1, Value::Bytes(given)) => name = text(given)?,
            (3, Value::Varint(given)) => number = given,
            (4, Value::Varint(given)) => label = given,
            (5, Value::Varint(given)) => kind = given,
            (6, Value::Bytes(given)) => of = text(given)?,
            (8, Value::Bytes(options)) => {
                implicit = has_implicit_presence(options, 21)?;
            }
            (9, Value::Varint(given)) => oneof = u32::try_from(given).ok(),
            (10, Value::Bytes(given)) => own_json_name = Some(text(given)?),
            (17, Value::Varint(given)) => is_optional = given == 1,
            _ => {}
        }
    }
    let scalar = match kind {
        1 => "double",
        2 => "float",
        3 => "int64",
        4 => "uint64",
        5 => "int32",
        6 => "fixed64",
        7 => "fixed32",
        8 => "bool",
        9 => "string",
        10 => return Err(format!("groups are not read, as the field `{name}` is one")),
        12 => "bytes",
        13 => "uint32",
        15 => "sfixed32",
        16 => "sfixed64",
        17 => "sint32",
        18 => "sint64",
        _ => "",
    };
    if !scalar.is_empty() {
        scalar.clone_into(&mut of);
    }
    let number = u32::try_from(number).ok().filter(|number| (1..1 << 29).contains(number));
    let number = number.ok_or_else(|| format!("the field `{name}` has a number out of range"))?;
    let json_name = own_json_name.unwrap_or_else(|| json_name(&name));
    let repeated = label == 3;
    let field = Field {
        number,
        name: name.into(),
        json_name: json_name.into(),
        kind: Kind::Bool,
        repeated,
        presence: !repeated && (oneof.is_some() || presence && !implicit),
        oneof: oneof.filter(|_| !is_optional),
        map: false,
    };
    Ok(DraftField { field, of })
}

fn enumeration(bytes: &[u8], scope: &str) -> Result<(String, Enum), String> {
    let (mut name, mut values) = (String::new(), Vec::new());
    for (number, value) in fields(bytes)? {
        match (number, value) {
            (1, Value::Bytes(of)) => name = text(of)?,
            (2, Value::Bytes(of)) => {
                let (mut value, mut of_value) = (0, String::new());
                for part in fields(of)? {
                    match part {
                        (1, Value::Bytes(name)) => of_value = text(name)?,
                        // Negative ones are of 64 bits.
                        (2, Value::Varint(number)) => value = number as i32,
                        _ => {}
                    }
                }
                values.push((value, of_value.into()));
            }
            _ => {}
        }
    }
    Ok((super::full_name(scope, &name), Enum { values }))
}

/// Returns whether options set `features.field_presence` to IMPLICIT; `features` is the number of the features among them.
fn has_implicit_presence(options: &[u8], features: u32) -> Result<bool, String> {
    let mut implicit = false;
    for (number, value) in fields(options)? {
        if let Value::Bytes(bytes) = value
            && number == features
        {
            for feature in fields(bytes)? {
                match feature {
                    (1, Value::Varint(presence)) => implicit = presence == 2,
                    (5, Value::Varint(2)) => return Err("delimited messages are not read".to_owned()),
                    _ => {}
                }
            }
        }
    }
    Ok(implicit)
}

/// A value of a descriptor.
#[derive(Clone, Copy, Debug)]
enum Value<'b> {
    Varint(u64),
    Bytes(&'b [u8]),
    /// Of a fixed length.
    Other,
}

/// Returns the fields of a message on the wire, by their numbers.
fn fields(bytes: &[u8]) -> Result<Vec<(u32, Value<'_>)>, String> {
    read_fields(bytes).ok_or_else(|| NO_DESCRIPTOR.to_owned())
}

fn read_fields(bytes: &[u8]) -> Option<Vec<(u32, Value<'_>)>> {
    let (mut at, mut fields) = (0, Vec::new());
    while at < bytes.len() {
        let tag = varint(bytes, &mut at)?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| *number > 0)?;
        let length = match tag & 7 {
            0 => {
                fields.push((number, Value::Varint(varint(bytes, &mut at)?)));
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(bytes, &mut at)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let value = bytes.get(at..at.checked_add(length)?)?;
        at += length;
        fields.push((number, if tag & 7 == 2 { Value::Bytes(value) } else { Value::Other }));
    }
    Some(fields)
}

fn text(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| NO_DESCRIPTOR.to_owned())
}
