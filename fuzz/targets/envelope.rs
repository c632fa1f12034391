//! Envelopes of every kind, on any bytes: the ranges that are handed out are inside the record, and what is inside reads as it does alone.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use usher_config::{Envelope, Format};
use usher_fuzz::formats::{Content, Decoder, Fields};
use usher_fuzz::paths;

static DECODERS: LazyLock<Vec<Decoder>> = LazyLock::new(|| {
    use Envelope::{Batch, Cloudevents, Connect, Debezium};
    let wanted = paths(&["a", "a.a", "op", "context.page.path", "l[*].a"]);
    let all: [&[Envelope]; 6] =
        [&[Batch], &[Debezium], &[Connect], &[Cloudevents], &[Connect, Debezium], &[Cloudevents, Batch, Connect]];
    all.map(|envelopes| Decoder::new(&Format::Segment, &wanted).in_envelopes(envelopes)).into()
});

fuzz_target!(|record: &[u8]| {
    let alone = Decoder::new(&Format::Segment, &[]);
    for decoder in &*DECODERS {
        let mut next = 0;
        let read: Result<(), ()> = decoder.unwrap(record, None, &mut Fields::default(), &mut |message, fields| {
            if let Some(element) = message.element {
                assert_eq!(element.index, next);
                assert_eq!(&record[element.start..][..message.raw.len()], message.raw);
                next += 1;
            }
            match message.content {
                Ok(Content::Message) => {
                    let _ = (fields.kind(), fields.name(), fields.key(), fields.id(), fields.time(Some(1)));
                    (0..5).for_each(|index| drop(fields.get(index).clone()));
                    let inner = message.inner.trim_ascii();
                    assert!(alone.decode(inner, None, &mut Fields::default()).is_ok(), "it needs no more");
                }
                Ok(Content::Blank) => {}
                Err(malformed) => assert!(malformed.at <= message.raw.len(), "{malformed}"),
            }
            Ok(())
        });
        assert_eq!(read, Ok(()));
    }
});
