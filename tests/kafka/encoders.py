"""Events in JSON, Avro and Protobuf, written by hand, and the job that reads them."""

import json
import struct

from confluent_kafka import Producer

from common import BROKERS, create, rfc3339

AVRO = {
    "type": "record",
    "name": "Event",
    "namespace": "shop",
    "fields": [
        {"name": "type", "type": {"type": "enum", "name": "Kind", "symbols": ["page", "track"]}},
        {"name": "unneeded", "type": {"type": "map", "values": ["null", "double", {"type": "array", "items": "string"}]}},
        {"name": "event", "type": ["null", "string"]},
        {"name": "userId", "type": ["null", "string"]},
        {"name": "messageId", "type": ["null", "string"]},
        {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "properties", "type": {"type": "record", "name": "Properties", "fields": [
            {"name": "revenue", "type": ["null", "double"]},
            {"name": "tags", "type": {"type": "array", "items": "string"}},
        ]}},
    ],
}
PROTOBUF = """
syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
import "parts.proto";
message Event {
  enum Kind { track = 0; page = 1; }
  Kind type = 1;
  optional string event = 2;
  string user_id = 3;
  string message_id = 4 [json_name = "messageId"];
  google.protobuf.Timestamp timestamp = 5;
  map<string, double> unneeded = 6;
  parts.Properties properties = 7;
}
"""
PARTS = 'syntax = "proto2"; package shop.parts; message Properties { optional double revenue = 1; repeated string tags = 2; }'


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytearray([value]))


def long(value):
    return varint(value << 1 if value >= 0 else (-value << 1) - 1)


def text(value):
    return long(len(value.encode())) + value.encode()


def optional(value, write):
    return long(0) if value is None else long(1) + write(value)


def double(value):
    return struct.pack("<d", value)


def avro(event, parts=False):
    """The bytes of an event; with `parts` those of each field."""
    kind = long(["page", "track"].index(event["type"]))
    unneeded = long(2) + text("x") + long(1) + double(0.5) + text("y") + long(2) + long(1) + text("z") + long(0) + long(0)
    tags = event["properties"]["tags"]
    listed = (long(len(tags)) + b"".join(map(text, tags)) if tags else b"") + long(0)
    fields = [
        kind,
        unneeded,
        optional(event["event"], text),
        optional(event["userId"], text),
        optional(event["messageId"], text),
        long(event["ms"]),
        optional(event["properties"]["revenue"], double) + listed,
    ]
    return fields if parts else b"".join(fields)


def field(number, wire, value):
    return varint(number << 3 | wire) + value


def sized(number, value):
    value = value.encode() if isinstance(value, str) else value
    return field(number, 2, varint(len(value)) + value)


def protobuf(event):
    kind = b"" if event["type"] == "track" else field(1, 0, varint(1))
    named = b"" if event["event"] is None else sized(2, event["event"])
    user = b"" if event["userId"] is None else sized(3, event["userId"])
    id = b"" if event["messageId"] is None else sized(4, event["messageId"])
    seconds, ms = divmod(event["ms"], 1000)
    at = field(1, 0, varint(seconds)) + field(2, 0, varint(ms * 1_000_000))
    revenue = event["properties"]["revenue"]
    properties = (b"" if revenue is None else field(1, 1, double(revenue))) + b"".join(sized(2, tag) for tag in event["properties"]["tags"])
    unneeded = sized(6, sized(1, "x") + field(2, 1, double(0.5)))
    # One that the schema does not have.
    newer = sized(99, "new")
    return kind + named + newer + user + id + sized(5, at) + unneeded + sized(7, properties)


def segment(event):
    message = {name: value for name, value in event.items() if name != "ms"}
    return {**message, "timestamp": rfc3339(event["ms"])}


def encoded(event):
    return json.dumps(segment(event)).encode()


EVENTS = """
events:
  bought: {source: web, type: track, name: Bought, model: users, properties: {revenue: number, tags: "list<string>"}}
  seen: {source: web, type: page, model: users}
audiences:
  buyers: {model: users, where: {performed: bought, at_least: 3, within: 20s}}
  rich: {model: users, where: {performed: bought, sum: revenue, more_than: 4, within: 15s}}
  tagged: {model: users, where: {performed: bought, where: "list_contains(tags, 'b')", within: 10s}}
  lookers: {model: users, where: {all: [{performed: seen, within: 30s}, {not: {performed: bought, within: 12s}}]}}
"""


def job(name, topic, source):
    kafka = f'kafka: {{brokers: "{BROKERS}", topic: {topic}}}'
    return f"job: {name}\nsources: {{web: {{{kafka}, {source}}}}}\nmodels: {{users: {{key: user_id}}}}\n{EVENTS}"


def random_events(rng, count):
    start = 1_795_428_000_000
    for number in range(count):
        yield {
            "type": rng.choice(["track", "track", "page"]),
            "event": rng.choice(["Bought", "Bought", "Sold", None]),
            "userId": rng.choice([None, *(f"u-{user}" for user in range(40))]),
            "messageId": f"m-{rng.randrange(number + 1)}",
            "ms": start + number * 50 + rng.randrange(400),
            "properties": {"revenue": rng.choice([None, 0.25, 1.5, 2.0]), "tags": rng.sample(["a", "b", "é"], rng.randrange(3))},
        }


def write(topic, records):
    create(topic, 1)
    producer = Producer({"bootstrap.servers": BROKERS, "enable.idempotence": True, "linger.ms": 5})
    for value, headers in records:
        while True:
            try:
                producer.produce(topic, value, headers=headers, partition=0)
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(60) == 0


def replayed(folder):
    code, out, said = folder.run("replay", "job.yaml", "--now", "2026-12-01T00:00:00Z")
    assert code == 0, said
    counts = next(line for line in said.splitlines() if " = matched " in line)
    return out, counts[counts.index("read "):]
