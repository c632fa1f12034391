"""A real registry and its clients' own serializers: the same events as JSON, Avro, Protobuf and JSON Schema, with ids in the prefix and in the header,
give the same changes, byte for byte; one changes its schema in the middle. With NPM_WRITER, a folder with `@kafkajs/confluent-schema-registry`, that
one's too."""

import base64
import json
import os
import random
import subprocess

from confluent_kafka.schema_registry import SchemaRegistryClient, topic_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2

from common import Folder, unique
from encoders import AVRO, encoded, job, random_events, replayed, segment, write

URL = os.environ["REGISTRY_URL"]
# By default the client waits for an answer without end, and asks for the subject of each message.
CLIENT = SchemaRegistryClient({"url": URL, "timeout": 30})
BY_TOPIC = {"subject.name.strategy": topic_subject_name_strategy}
DOCUMENT = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "title": "Event",
    "type": "object",
    "properties": {
        **{name: {"type": ["string", "null"]} for name in ("type", "event", "userId", "messageId", "timestamp")},
        "properties": {"type": "object", "properties": {"revenue": {"type": ["number", "null"]}, "tags": {"type": "array", "items": {"type": "string"}}}},
    },
}


def header_ids(payload, context, schema_id):
    """Puts the number of a schema in the header; the client's own writes GUIDs, which this registry does not have."""
    context.headers.append(("__value_schema_id", schema_id.id_to_bytes()))
    return payload


def with_unneeded(event):
    message = {name: value for name, value in event.items() if name not in ("ms", "timestamp")}
    return {**message, "timestamp": event["ms"], "unneeded": {"x": 0.5, "y": ["z"]}}


def descriptors():
    """The messages of two files, one of which imports the other; the event is the second message of its file."""
    file = descriptor_pb2.FileDescriptorProto
    field = descriptor_pb2.FieldDescriptorProto
    parts = file(name="parts.proto", package="shop.parts", syntax="proto2")
    properties = parts.message_type.add(name="Properties")
    properties.field.add(name="revenue", number=1, type=field.TYPE_DOUBLE, label=field.LABEL_OPTIONAL)
    properties.field.add(name="tags", number=2, type=field.TYPE_STRING, label=field.LABEL_REPEATED)
    event = file(name="event.proto", package="shop", syntax="proto3", dependency=["google/protobuf/timestamp.proto", "parts.proto"])
    event.message_type.add(name="Other").field.add(name="type", number=9, type=field.TYPE_INT64, label=field.LABEL_OPTIONAL)
    of = event.message_type.add(name="Event")
    kind = of.enum_type.add(name="Kind")
    kind.value.add(name="track", number=0)
    kind.value.add(name="page", number=1)
    of.field.add(name="type", number=1, type=field.TYPE_ENUM, type_name=".shop.Event.Kind", label=field.LABEL_OPTIONAL)
    of.oneof_decl.add(name="_event")
    of.field.add(name="event", number=2, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL, oneof_index=0, proto3_optional=True)
    of.field.add(name="user_id", number=3, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    of.field.add(name="message_id", json_name="messageId", number=4, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    of.field.add(name="timestamp", number=5, type=field.TYPE_MESSAGE, type_name=".google.protobuf.Timestamp", label=field.LABEL_OPTIONAL)
    entry = of.nested_type.add(name="UnneededEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    entry.field.add(name="value", number=2, type=field.TYPE_DOUBLE, label=field.LABEL_OPTIONAL)
    of.field.add(name="unneeded", number=6, type=field.TYPE_MESSAGE, type_name=".shop.Event.UnneededEntry", label=field.LABEL_REPEATED)
    of.field.add(name="properties", number=7, type=field.TYPE_MESSAGE, type_name=".shop.parts.Properties", label=field.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(parts)
    pool.Add(event)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Event"))


def protobuf_message(of, event):
    message = of(user_id=event["userId"] or "", message_id=event["messageId"] or "")
    message.type = 0 if event["type"] == "track" else 1
    if event["event"] is not None:
        message.event = event["event"]
    message.timestamp.seconds, message.timestamp.nanos = event["ms"] // 1000, event["ms"] % 1000 * 1_000_000
    message.unneeded["x"] = 0.5
    if event["properties"]["revenue"] is not None:
        message.properties.revenue = event["properties"]["revenue"]
    message.properties.tags.extend(event["properties"]["tags"])
    return message


def serialized(topic, serializer, messages):
    for message in messages:
        context = SerializationContext(topic, MessageField.VALUE, [])
        value = serializer(message, context)
        yield value, context.headers


rng = random.Random(23)
name = unique("real")
events = list(random_events(rng, 1_000))
half = len(events) // 2
write(f"{name}-json", [(encoded(event), []) for event in events])
expected = replayed(Folder(job("encodings", f"{name}-json", "format: segment")))
changes = expected[0].count(b"\n")
assert changes > 100, changes

newer = json.loads(json.dumps(AVRO))
newer["fields"].insert(0, {"name": "newer", "type": "long", "default": 7})
newer["fields"].reverse()
message = descriptors()
ways = 0
for place, conf in {"prefix": BY_TOPIC, "header": {**BY_TOPIC, "schema.id.serializer": header_ids}}.items():
    deprecated = {"use.deprecated.format": False}
    avro = AvroSerializer(CLIENT, json.dumps(AVRO), conf=conf)
    evolved = AvroSerializer(CLIENT, json.dumps(newer), conf=conf)
    document = JSONSerializer(json.dumps(DOCUMENT), CLIENT, conf=conf)
    protobuf = ProtobufSerializer(message, CLIENT, {**deprecated, **conf})
    topics = {encoding: f"{name}-{encoding}-{place}" for encoding in ("avro", "json_schema", "protobuf")}
    parts = [with_unneeded(event) for event in events]
    records = {
        "avro": [*serialized(topics["avro"], avro, parts[:half]), *serialized(topics["avro"], evolved, ({**part, "newer": 3} for part in parts[half:]))],
        "json_schema": list(serialized(topics["json_schema"], document, map(segment, events))),
        "protobuf": list(serialized(topics["protobuf"], protobuf, (protobuf_message(message, event) for event in events))),
    }
    for encoding, topic in topics.items():
        write(topic, records[encoding])
        folder = Folder(job("encodings", topic, f"format: segment, encoding: {encoding}, registry: {{url: '{URL}'}}"))
        found = replayed(folder)
        assert found[1] == expected[1], f"{encoding}, {place}: {found[1]}, but {expected[1]}"
        assert found[0] == expected[0], f"{encoding}, {place}: other changes"
        ways += 1
        code, _, said = folder.run("check", "job.yaml", "--connect")
        assert code == 0 and "the registry has no subject" not in said, said
        folder.write((folder.path / "job.yaml").read_text().replace("revenue: number", "revenue: {path: properties.revenu, type: number}"))
        code, _, said = folder.run("check", "job.yaml", "--connect")
        assert code == 2 and f"the latest schema of `{topic}-value` has no `properties.revenu`" in said and "did you mean `revenue`?" in said, said
    ids = {value[1:5] for value, _ in records["avro"]} if place == "prefix" else {headers[0][1] for _, headers in records["avro"]}
    assert len(ids) == 2, f"{place}: the schema has changed in the middle"
print(f"{len(events)} events, {changes} changes, each in {ways} ways by Apicurio Registry and its clients' serializers")


def by_npm():
    """What the package of npm serializes, by encoding."""
    parts = [with_unneeded(event) for event in events]
    flat = 'syntax = "proto3"; package shop; message Event { string type = 1; optional string event = 2; string userId = 3; string messageId = 4; string timestamp = 5; }'
    plain = [{key: value or "" for key, value in segment(event).items() if key != "properties"} for event in events]
    asked = {
        "avro": ([json.dumps(AVRO), json.dumps(newer)], [parts[:half], [{**part, "newer": 3} for part in parts[half:]]]),
        "json_schema": ([json.dumps(DOCUMENT)], [list(map(segment, events))]),
        "protobuf": ([flat], [plain]),
    }
    asked = {encoding: {"subject": f"{name}-npm-{encoding}-value", "schemas": schemas, "messages": messages} for encoding, (schemas, messages) in asked.items()}
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "npm_writer.mjs")
    ran = subprocess.run(["node", script], input=json.dumps({"url": URL, "encodings": asked}), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return {encoding: [base64.b64decode(value) for value in values] for encoding, values in json.loads(ran.stdout).items()}


if os.environ.get("NPM_WRITER"):
    written = by_npm()
    for encoding, values in written.items():
        topic = f"{name}-npm-{encoding}"
        write(topic, [(value, []) for value in values])
        folder = Folder(job("encodings", topic, f"format: segment, encoding: {encoding}, registry: {{url: '{URL}'}}"))
        found = replayed(folder)
        if encoding == "protobuf":
            # The package leaves out which message of the file it is, which the format has and all other readers expect: nothing is read as something else.
            assert not found[0] and f"dead letters {len(events):,} (malformed {len(events):,})" in found[1], found[1]
            continue
        assert found[1] == expected[1], f"{encoding} by npm: {found[1]}, but {expected[1]}"
        assert found[0] == expected[0], f"{encoding} by npm: other changes"
    assert len({value[1:5] for value in written["avro"]}) == 2, "the schema has changed in the middle"
    print("the same by @kafkajs/confluent-schema-registry: Avro and JSON Schema; its Protobuf is refused")

# What it does not have is a dead letter.
topic = f"{name}-unknown"
write(topic, [(b"\0\0\1\0\0x", []), (b"\0\xff\xff\xff\xffx", [])])
folder = Folder(job("encodings", topic, f"format: segment, encoding: avro, registry: {{url: '{URL}'}}"))
code, _, said = folder.run("replay", "job.yaml", "--now", "2026-12-01T00:00:00Z")
assert code == 0 and "dead letters 2 (unknown_schema 2)" in said, said
