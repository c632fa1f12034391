"""The same events as JSON, in batches, as binary CloudEvents, in Avro and in Protobuf give the same changes, byte for byte; and batches are each
read once across kills."""

import json
import random
import struct

from confluent_kafka import Producer

from common import BROKERS, Folder, create, now, rfc3339, unique, until

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


def avro(event):
    kind = long(["page", "track"].index(event["type"]))
    unneeded = long(2) + text("x") + long(1) + double(0.5) + text("y") + long(2) + long(1) + text("z") + long(0) + long(0)
    tags = event["properties"]["tags"]
    listed = (long(len(tags)) + b"".join(map(text, tags)) if tags else b"") + long(0)
    return b"".join([
        kind,
        unneeded,
        optional(event["event"], text),
        optional(event["userId"], text),
        optional(event["messageId"], text),
        long(event["ms"]),
        optional(event["properties"]["revenue"], double),
        listed,
    ])


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


def the_same_events_give_the_same_changes(rng):
    name = unique("encodings")
    events = list(random_events(rng, 2_000))
    alone = [(encoded(event), []) for event in events]
    batches, rest = [], events
    while rest:
        size = rng.randrange(1, 30)
        batches.append((json.dumps({"batch": [segment(event) for event in rest[:size]], "sentAt": "2020-01-01T00:00:00Z"}).encode(), []))
        rest = rest[size:]
    binary = [(value, [("ce_specversion", b"1.0"), ("ce_id", b"no"), ("ce_type", b"x"), ("ce_source", b"/"), ("content-type", b"application/json")]) for value, _ in alone]
    structured = [(json.dumps({"specversion": "1.0", "id": "no", "type": "x", "source": "/", "data": segment(event)}).encode(), [("content-type", b"application/cloudevents+json")]) for event in events]
    ways = {
        "json": (alone, "format: segment"),
        "batch": (batches, "format: segment, unwrap: batch"),
        "binary": (binary, "format: segment, unwrap: cloudevents"),
        "structured": (structured, "format: segment, unwrap: cloudevents"),
        "avro": ([(avro(event), []) for event in events], "format: segment, encoding: avro, schema: event.avsc"),
        "protobuf": ([(protobuf(event), []) for event in events], "format: segment, encoding: protobuf, schema: event.proto, message: shop.Event"),
    }
    expected = None
    for way, (records, source) in ways.items():
        topic = f"{name}-{way}"
        write(topic, records)
        folder = Folder(job("encodings", topic, source))
        (folder.path / "event.avsc").write_text(json.dumps(AVRO))
        (folder.path / "event.proto").write_text(PROTOBUF)
        (folder.path / "parts.proto").write_text(PARTS)
        found = replayed(folder)
        expected = expected or found
        assert found[1] == expected[1], f"{way}: {found[1]}, but {expected[1]}"
        assert found[0] == expected[0], f"{way} gives other changes"
    changes = expected[0].count(b"\n")
    assert changes > 200, changes
    print(f"{len(events)} events, {changes} changes, each in {len(ways)} ways")


def a_plan_needs_no_schema_files():
    name = unique("plan")
    topic = f"{name}-avro"
    write(topic, [(avro(event), []) for event in random_events(random.Random(1), 200)])
    folder = Folder(job("plan", topic, "format: segment, encoding: avro, schema: event.avsc"))
    (folder.path / "event.avsc").write_text(json.dumps(AVRO))
    expected = replayed(folder)
    code, _, said = folder.run("compile", "job.yaml", "-o", "job.plan")
    assert code == 0, said
    (folder.path / "event.avsc").unlink()
    code, out, said = folder.run("replay", "job.plan", "--now", "2026-12-01T00:00:00Z")
    assert (code, out) == (0, expected[0]), said
    code, _, said = folder.run("check", "job.yaml")
    assert code == 2 and "the schema `event.avsc` can't be used: No such file" in said, said


def a_path_that_the_schema_lacks_is_a_problem():
    folder = Folder(job("lacking", "none", "format: segment, encoding: avro, schema: event.avsc").replace("revenue: number,", "revenu: number,").replace("sum: revenue", "sum: revenu"))
    (folder.path / "event.avsc").write_text(json.dumps(AVRO))
    code, _, said = folder.run("check", "job.yaml")
    assert code == 2 and "the schema `event.avsc` has no `properties.revenu`" in said and "did you mean `revenue`?" in said, said


def bytes_that_do_not_fit_are_dead_letters():
    name = unique("unfit")
    events = list(random_events(random.Random(2), 50))
    good = [(avro(event), []) for event in events]
    bad = [(avro(events[0])[:-1], []), (avro(events[0]) + b"\0", []), (b"\0\0\0\0\1" + avro(events[0]), []), (encoded(events[0]), [])]
    topic = f"{name}-avro"
    write(topic, good[:25] + bad + good[25:])
    folder = Folder(job("unfit", topic, "format: segment, encoding: avro, schema: event.avsc"))
    (folder.path / "event.avsc").write_text(json.dumps(AVRO))
    code, _, said = folder.run("replay", "job.yaml", "--now", "2026-12-01T00:00:00Z", "--dead-letters", "dead.jsonl")
    assert code == 0, said
    letters = [json.loads(line) for line in (folder.path / "dead.jsonl").read_text().splitlines()]
    assert [(letter["reason"], letter["position"]) for letter in letters] == [("malformed", at) for at in range(25, 29)], letters
    assert all(letter["detail"].startswith("does not fit its schema: ") for letter in letters), letters


def batches_are_each_read_once_across_kills():
    """Elements have no ids: each is itself by its place in its batch."""
    name = unique("batches")
    topic = f"{name}-events"
    start = now()
    keys = [f"u-{number}" for number in range(40)]
    create(topic, 1)
    producer = Producer({"bootstrap.servers": BROKERS, "linger.ms": 1})
    audience = "{performed: clicked, exactly: 3, within: 1h}"
    text = f"""
job: {name}
sources: {{web: {{kafka: {{brokers: "{BROKERS}", topic: {topic}}}, format: segment, unwrap: batch, start: earliest}}}}
models: {{users: {{key: user_id}}}}
events: {{clicked: {{source: web, type: track, name: clicked, model: users}}}}
audiences: {{three: {{model: users, where: {audience}, incomplete: send}}}}
syncs: {{log: {{to: {{file: {{path: changes.jsonl}}}}}}}}
state: {{url: state, checkpoint_every: 200ms}}
"""
    folder = Folder(text)

    def send(round):
        # All of one batch in the same ms.
        batch = [{"type": "track", "event": "clicked", "userId": key, "timestamp": rfc3339(start + round)} for key in keys]
        producer.produce(topic, json.dumps({"batch": batch}).encode())
        assert producer.flush(60) == 0

    def members():
        log = folder.path / "changes.jsonl"
        lines = log.read_text().splitlines() if log.exists() else []
        latest = {change["key"]: change["type"] for change in map(json.loads, lines)}
        return {key for key, kind in latest.items() if kind == "entry"}

    for round in range(4):
        run = folder.start(log="info,usher_dataflow=debug")
        run.live()
        send(round)
        expected = set(keys) if round == 2 else set()
        until(f"after round {round} {len(expected)} are members", lambda: members() == expected)
        if round % 2:
            made = run.checkpoints()
            until("that is in a checkpoint", lambda: run.checkpoints() >= made + 2)
        run.process.kill()
        run.process.wait()


rng = random.Random(7)
the_same_events_give_the_same_changes(rng)
a_plan_needs_no_schema_files()
a_path_that_the_schema_lacks_is_a_problem()
bytes_that_do_not_fit_are_dead_letters()
batches_are_each_read_once_across_kills()
