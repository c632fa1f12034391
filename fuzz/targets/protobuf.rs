//! A `.proto` file and a message, both any bytes: what is no schema is refused, and what is no message of it is malformed.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use usher_config::{Envelope, Format};
use usher_fuzz::formats::{Content, Decoder, Fields, imports};
use usher_fuzz::paths;

fuzz_target!(|input: (&str, &[u8])| {
    let (file, message) = input;
    let _ = imports(file);
    let wanted = paths(&["a", "a.a", "b[1]", "b[*].a", "properties.a", "op"]);
    for envelopes in [&[][..], &[Envelope::Batch], &[Envelope::Debezium], &[Envelope::Cloudevents, Envelope::Batch]] {
        let decoder = Decoder::new(&Format::Segment, &wanted).in_envelopes(envelopes);
        let Ok(decoder) = decoder.in_protobuf(file, &BTreeMap::new(), "M") else { return };
        let mut fields = Fields::default();
        let read: Result<(), ()> = decoder.unwrap(message, None, &mut fields, &mut |message, fields| {
            match message.content {
                Ok(Content::Message) => {
                    let _ = (fields.kind(), fields.name(), fields.key(), fields.id(), fields.time(Some(1)));
                    (0..6).for_each(|index| drop(fields.get(index).clone()));
                }
                Ok(Content::Blank) => {}
                Err(malformed) => assert!(malformed.at <= message.raw.len(), "{malformed}"),
            }
            Ok(())
        });
        assert_eq!(read, Ok(()));
    }
});
