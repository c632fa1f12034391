"""The same events as JSON, in batches, as binary CloudEvents, in Avro and in Protobuf give the same changes, byte for byte; and batches are each
read once across kills."""

import json
import random

from confluent_kafka import Producer

from common import BROKERS, Folder, create, now, rfc3339, unique, until
from encoders import AVRO, PARTS, PROTOBUF, avro, encoded, job, protobuf, random_events, replayed, segment, write


def peeked(folder):
    """By type and name: how many messages there are, the events that they match, and the paths with values. Fields of Protobuf have two names."""
    code, out, said = folder.run("peek", "job.yaml", "web", "--messages", "10000", "--json")
    assert code == 0, said
    found = json.loads(out)
    assert found["unreadable"] == 0, found
    return {(kind["type"], kind["name"]): (kind["messages"], kind["events"], {path["path"].replace("_", "").lower() for path in kind["paths"]}) for kind in found["kinds"]}


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
    expected = shown = None
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
        kinds = peeked(folder)
        shown = shown or kinds
        assert {kind: seen[:2] for kind, seen in kinds.items()} == {kind: seen[:2] for kind, seen in shown.items()}, f"{way} shows {kinds}"
        lacking = {kind: paths - kinds[kind][2] for kind, (_, _, paths) in shown.items()}
        assert not any(lacking.values()), f"{way} does not show {lacking}"
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
