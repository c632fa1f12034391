//! Messages that name the schema that wrote them: a reader for each schema, compiled once.
//!
//! Promises: what a message names is found as [`named`] says; of Protobuf, which message of the file it is stands behind the id, as indexes from
//! the file inwards. A message that names no schema is malformed, and so is one whose schema is in another language than its source's; one
//! whose schema can't be had, or can't be read, is [`What::UnknownSchema`].

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use usher_config::{Envelope, SchemaKind};
use usher_core::lock::lock;
use usher_core::schemas::{HEADER, IdPlace, Schema, SchemaId, Schemas, named};
use usher_core::source::{BYTE_ORDER_MARK, Headers};

use super::Written;
use super::avro::AvroReader;
use super::binary::varint;
use super::envelope::InsideType;
use super::layout::Layout;
use super::malformed::{Malformed, What};
use super::protobuf::ProtobufReader;

/// How deep messages of Protobuf are in each other at most.
const INDEXES_MAX: usize = 32;
/// What is wrong with the indexes of a message.
const NO_INDEXES: &str = "which message of its file it is does not end";

/// The readers of a source's schemas.
#[derive(Debug)]
pub(super) struct Registered {
    kind: SchemaKind,
    schemas: Arc<dyn Schemas>,
    readers: Mutex<Readers>,
}

/// A reader, or a clause why there is none.
type Reader = Result<Arc<Written>, Arc<str>>;

#[derive(Debug, Default)]
struct Readers {
    by_id: HashMap<SchemaId, Reader>,
    /// That of the latest message: most have the schema of the one before.
    latest: Option<(SchemaId, Arc<Written>)>,
}

/// A message without its id, and how it is read.
pub(super) struct Unprefixed<'a> {
    pub(super) written: Arc<Written>,
    /// The type of what is outermost.
    pub(super) root: InsideType,
    pub(super) bytes: &'a [u8],
    /// Where these begin in the message.
    pub(super) start: usize,
}

impl Registered {
    pub(super) fn new(kind: SchemaKind, schemas: Arc<dyn Schemas>) -> Registered {
        Registered { kind, schemas, readers: Mutex::default() }
    }

    /// Finds how a message is read.
    pub(super) fn open<'a>(
        &self,
        message: &'a [u8],
        headers: Option<&'a dyn Headers>,
        layout: &Layout,
        envelopes: &[Envelope],
    ) -> Result<Unprefixed<'a>, Malformed> {
        let malformed = |what: What| Malformed { what, at: 0 };
        let header = headers.and_then(|headers| headers.get(HEADER));
        let named = named(message, header).ok_or(malformed(What::NoSchema))?;
        let written = self.reader(named.id, layout, envelopes).map_err(malformed)?;
        let (mut root, mut rest) = (0, named.rest);
        match &*written {
            Written::Avro(reader) => root = reader.root(),
            Written::Protobuf(reader) => {
                let mut place = [0; INDEXES_MAX];
                let place = indexes(&mut rest, &mut place).ok_or(malformed(What::Unfit(NO_INDEXES)))?;
                let unknown = malformed(What::Unfit("an index of a message that its file does not have"));
                root = reader.at(place).ok_or(unknown)?;
            }
            Written::Text | Written::Registered(_) => {}
        }
        let mut bytes = match named.place {
            IdPlace::Prefix => rest,
            IdPlace::Header => message,
        };
        if let Written::Text = *written {
            bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
        }
        Ok(Unprefixed { written, root, bytes, start: message.len() - bytes.len() })
    }

    /// Returns a clause why messages that name a schema can't be read; empty if they can.
    pub(super) fn why(&self, id: SchemaId) -> String {
        match lock(&self.readers).by_id.get(&id) {
            Some(Err(reason)) => reason.to_string(),
            _ => self.schemas.find(id).and_then(Result::err).map_or(String::new(), |reason| reason.to_string()),
        }
    }

    fn reader(&self, id: SchemaId, layout: &Layout, envelopes: &[Envelope]) -> Result<Arc<Written>, What> {
        let mut readers = lock(&self.readers);
        if let Some((latest, written)) = &readers.latest
            && *latest == id
        {
            return Ok(Arc::clone(written));
        }
        let known = match readers.by_id.get(&id) {
            Some(known) => known.clone(),
            None => {
                // What can't be had may be had later.
                let Some(Ok(schema)) = self.schemas.find(id) else { return Err(What::UnknownSchema(id)) };
                if schema.kind != self.kind {
                    return Err(What::OtherSchema(id, schema.kind));
                }
                let compiled = compile(&schema, layout, envelopes);
                let reader = compiled.map(Arc::new).map_err(|reason| format!("it can't be read: {reason}").into());
                readers.by_id.insert(id, Reader::clone(&reader));
                reader
            }
        };
        let written = known.map_err(|_| What::UnknownSchema(id))?;
        readers.latest = Some((id, Arc::clone(&written)));
        Ok(written)
    }
}

/// Returns the reader of a schema's messages.
///
/// # Errors
/// A clause about the schema.
pub(super) fn compile(schema: &Schema, layout: &Layout, envelopes: &[Envelope]) -> Result<Written, String> {
    Ok(match schema.kind {
        SchemaKind::Avro => {
            let references: Vec<&str> = schema.references.iter().map(|reference| &*reference.text).collect();
            Written::Avro(Arc::new(AvroReader::new(&schema.text, &references, layout, envelopes)?))
        }
        SchemaKind::Protobuf => {
            let files = schema.references.iter().map(|reference| (reference.name.clone(), reference.text.clone()));
            let files: BTreeMap<String, String> = files.collect();
            Written::Protobuf(Arc::new(ProtobufReader::new(&schema.text, &files, None, layout, envelopes)?))
        }
        SchemaKind::JsonSchema => Written::Text,
    })
}

/// Reads which message of a file it is: a count and so many indexes, from the file inwards; 0 is the first one of the file, and so is nothing.
fn indexes<'p>(bytes: &mut &[u8], place: &'p mut [u32; INDEXES_MAX]) -> Option<&'p [u32]> {
    if bytes.is_empty() {
        return Some(&place[..1]);
    }
    let mut at = 0;
    let mut next = || {
        let zigzag = varint(bytes, &mut at)?;
        u32::try_from(zigzag / 2).ok().filter(|_| zigzag.is_multiple_of(2))
    };
    let count = next()? as usize;
    for index in place.get_mut(..count)? {
        *index = next()?;
    }
    *bytes = &bytes[at..];
    Some(&place[..count.max(1)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_lead_from_the_file_inwards() {
        let read = |bytes: &[u8]| {
            let (mut rest, mut place) = (bytes, [0; INDEXES_MAX]);
            indexes(&mut rest, &mut place).map(|place| (place.to_vec(), bytes.len() - rest.len()))
        };
        assert_eq!(read(&[]), Some((vec![0], 0)));
        assert_eq!(read(&[0, 9]), Some((vec![0], 1)));
        assert_eq!(read(&[2, 2, 9]), Some((vec![1], 2)));
        assert_eq!(read(&[6, 0, 4, 0x80, 1, 9]), Some((vec![0, 2, 64], 5)));
        for wrong in [&[2][..], &[4, 0], &[1], &[2, 1], &[0x80], &[0x82, 1]] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }
}
