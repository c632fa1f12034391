"""Messages that name their schemas, and a registry that answers well, badly, late or not at all: an HTTP server in this process, so that each
answer can be decided. Messages are written by hand, as the clients of registries write them."""

import json
import random
import socket
import struct
import threading
import time
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from confluent_kafka import Producer

from common import BROKERS, Folder, create, now, rfc3339, unique, until
from encoders import AVRO, PARTS, PROTOBUF, avro, encoded, job, protobuf, random_events, replayed, write

GUID = uuid.UUID("89791e3b-0102-0304-0506-0708090a0b0c")
SCHEMAS = {
    "/schemas/types": ["JSON", "PROTOBUF", "AVRO"],
    "/schemas/ids/1": {"schema": json.dumps(AVRO)},
    f"/schemas/guids/{GUID}": {"schema": json.dumps(AVRO)},
    "/schemas/ids/2": {"schema": PROTOBUF, "schemaType": "PROTOBUF", "references": [{"name": "parts.proto", "subject": "parts", "version": 1}]},
    "/subjects/parts/versions/1": {"schema": PARTS, "schemaType": "PROTOBUF", "subject": "parts", "version": 1, "id": 9},
    "/schemas/ids/3": {"schema": '{"type": "object"}', "schemaType": "JSON"},
}


def evolved():
    """The Avro schema with a field more in front, and one by another type's name, in another order."""
    fields = [{"name": "newer", "type": "long"}, *(field for field in reversed(AVRO["fields"]) if field["name"] != "properties"),
              {"name": "properties", "type": "shop.Properties"}]
    return {"type": "record", "name": "Event", "namespace": "shop", "fields": fields}


def evolved_avro(event):
    """A message of that schema: the parts of one of the first schema, in the other order."""
    parts = avro(event, parts=True)
    return b"\x0e" + b"".join(reversed(parts[:-1])) + parts[-1]


SCHEMAS["/schemas/ids/4"] = {
    "schema": json.dumps(evolved()),
    "references": [{"name": "shop.Properties", "subject": "properties", "version": 2}],
}
SCHEMAS["/subjects/properties/versions/2"] = {"schema": json.dumps(AVRO["fields"][-1]["type"] | {"namespace": "shop"})}


class Registry:
    """A registry. `answers` has a body by path, or (status, body); what is not there is answered with 404."""

    def __init__(self, answers, port=0):
        self.answers, self.requests, self.authorization = dict(answers), [], set()
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                registry.requests.append(self.path)
                registry.authorization.add(self.headers.get("authorization"))
                answer = registry.answers.get(self.path, (404, {"error_code": 40403, "message": "Schema not found"}))
                if callable(answer):
                    answer = answer()
                status, body = answer if isinstance(answer, tuple) else (200, answer)
                body = body.encode() if isinstance(body, str) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def numbered(id, message, indexes=b""):
    return b"\0" + struct.pack(">I", id) + indexes + message


def in_header(id, indexes=b""):
    value = b"\1" + id.bytes if isinstance(id, uuid.UUID) else b"\0" + struct.pack(">I", id)
    return [("__value_schema_id", value + indexes)]


def peeked(folder):
    """By type and name, how many messages there are, and the events that they match."""
    code, out, said = folder.run("peek", "job.yaml", "web", "--messages", "10000", "--json")
    assert code == 0, said
    found = json.loads(out)
    assert found["unreadable"] == 0, found
    return sorted((kind["type"], kind["name"] or "", kind["messages"], kind["events"]) for kind in found["kinds"])


def the_same_events_give_the_same_changes(rng):
    name = unique("registry")
    registry = Registry(SCHEMAS)
    events = list(random_events(rng, 1_500))
    half = len(events) // 2
    plain = [(encoded(event), []) for event in events]
    ways = {
        "avro-prefix": ("avro", [(numbered(1, avro(event)), []) for event in events]),
        "avro-header": ("avro", [(avro(event), in_header(1)) for event in events]),
        "avro-guid": ("avro", [(avro(event), in_header(GUID)) for event in events]),
        "avro-evolved": ("avro", [(numbered(1, avro(event)), []) for event in events[:half]] + [(numbered(4, evolved_avro(event)), []) for event in events[half:]]),
        # The first message of the file, in both ways.
        "protobuf-prefix": ("protobuf", [(numbered(2, protobuf(event), rng.choice([b"\0", b"\2\0"])), []) for event in events]),
        "protobuf-header": ("protobuf", [(protobuf(event), in_header(2, b"\0")) for event in events]),
        "json-prefix": ("json_schema", [(numbered(3, encoded(event)), []) for event in events]),
        "json-header": ("json_schema", [(encoded(event), in_header(3)) for event in events]),
    }
    write(f"{name}-json", plain)
    expected = replayed(Folder(job("encodings", f"{name}-json", "format: segment")))
    ways_shown = []
    for way, (encoding, records) in ways.items():
        topic = f"{name}-{way}"
        write(topic, records)
        folder = Folder(job("encodings", topic, f"format: segment, encoding: {encoding}, registry: {{url: '{registry.url}'}}"))
        found = replayed(folder)
        assert found[1] == expected[1], f"{way}: {found[1]}, but {expected[1]}"
        assert found[0] == expected[0], f"{way} gives other changes"
        if way.endswith("prefix"):
            ways_shown.append(peeked(folder))
    assert ways_shown[0] == ways_shown[1] == ways_shown[2], ways_shown
    assert registry.requests.count("/schemas/ids/1") == 4, "each replay requests a schema once, and so does a peek"
    changes = expected[0].count(b"\n")
    assert changes > 150, changes
    registry.close()
    print(f"{len(events)} events, {changes} changes, each in {len(ways)} ways by a registry")


def bad_messages_are_dead_letters_with_their_reasons():
    name = unique("bad")
    circle = {"schema": '"string"', "references": [{"name": "x", "subject": "x", "version": 1}]}
    registry = Registry(SCHEMAS | {
        "/schemas/ids/50": circle,
        "/subjects/x/versions/1": circle,
        "/schemas/ids/51": {"schema": '"string"', "references": [{"name": "x", "subject": "gone", "version": 1}]},
        "/schemas/ids/52": {"schema": '{"type": "record", "name": "E", "fields": [{"name": "a", "type": "nowhere"}]}'},
        "/schemas/ids/53": {"schema": "message M { optional group G = 1 {} }", "schemaType": "PROTOBUF"},
        "/schemas/ids/54": {"schema": "<xml>", "schemaType": "XML"},
        "/schemas/ids/55": {"schema": '["null", "string", "long", "double"]'},
    })
    event = next(random_events(random.Random(2), 1)) | {"userId": "u-1", "type": "track", "event": "Bought"}
    good = numbered(1, avro(event))
    bad = [
        (numbered(99, avro(event)), [], "unknown_schema", "schema 99: the registry has no schema of this id"),
        (avro(event), in_header(uuid.UUID(int=7)), "unknown_schema", "schema 00000000-0000-0000-0000-000000000007: the registry has no schema of this id"),
        (numbered(50, b"x"), [], "unknown_schema", "schema 50: the schema's references form a circle: `x` 1 → `x` 1"),
        (numbered(51, b"x"), [], "unknown_schema", "schema 51: the schema refers to version 1 of `gone`, which the registry does not have"),
        (numbered(52, b"x"), [], "unknown_schema", "schema 52: it can't be read: "),
        (numbered(54, b"x"), [], "unknown_schema", "schema 54: the schema is of the type `XML`, which is not read"),
        (numbered(55, b"\2\2x"), [], "unknown_schema", "schema 55: it can't be read: its type is no record"),
        (numbered(2, protobuf(event), b"\0"), [], "malformed", "its schema 2 is in Protobuf, and the source's `encoding` is not"),
        (numbered(3, encoded(event)), [], "malformed", "its schema 3 is in JSON Schema, and the source's `encoding` is not"),
        (good[:-1], [], "malformed", "does not fit its schema: "),
        (good + b"\0", [], "malformed", "does not fit its schema: "),
        (b"\0\0\0\0", [], "malformed", "it names no schema"),
        (b"\1\0\0\0", [], "malformed", "it names no schema"),
        (encoded(event), [], "malformed", "it names no schema"),
        (good, [("__value_schema_id", b"\7")], "malformed", "it names no schema"),
    ]
    topic = f"{name}-avro"
    write(topic, [(good, []), *((value, headers) for value, headers, _, _ in bad), (None, []), (good, [])])
    folder = Folder(job("bad", topic, f"format: segment, encoding: avro, registry: {{url: '{registry.url}'}}"))
    code, _, said = folder.run("replay", "job.yaml", "--now", "2026-12-01T00:00:00Z", "--dead-letters", "dead.jsonl")
    assert code == 0, said
    assert "read 18 = matched 2 + skipped 1 (blank 1) + dead letters 15 (malformed 8, unknown_schema 7)" in said, said
    letters = [json.loads(line) for line in (folder.path / "dead.jsonl").read_text().splitlines()]
    assert len(letters) == len(bad), letters
    for position, (letter, (_, _, reason, detail)) in enumerate(zip(letters, bad), 1):
        assert (letter["position"], letter["reason"]) == (position, reason) and letter["detail"].startswith(detail), letter

    topic = f"{name}-protobuf"
    indexes = [(b"\2\2", "an index of a message that its file does not have"), (b"\2", "which message of its file it is does not end"), (b"\1", "which message of its file it is does not end"), (b"\x80", "which message of its file it is does not end")]
    write(topic, [(numbered(2, b"", of), []) for of, _ in indexes] + [(numbered(53, b"", b"\0"), [])])
    folder = Folder(job("bad", topic, f"format: segment, encoding: protobuf, registry: {{url: '{registry.url}'}}"))
    code, _, said = folder.run("replay", "job.yaml", "--now", "2026-12-01T00:00:00Z", "--dead-letters", "dead.jsonl")
    letters = [json.loads(line) for line in (folder.path / "dead.jsonl").read_text().splitlines()]
    assert code == 0 and [letter["reason"] for letter in letters] == ["malformed"] * 4 + ["unknown_schema"], (said, letters)
    for letter, (_, detail) in zip(letters, indexes):
        assert letter["detail"].startswith(f"does not fit its schema: {detail}"), letter
    assert "groups are not read" in letters[-1]["detail"], letters[-1]
    registry.close()


LIVE = """
job: {name}
sources:
  web: {{kafka: {{brokers: "{brokers}", topic: {topic}}}, format: segment, encoding: avro, registry: {{url: "{url}", username: ann, password: "${{REGISTRY_PASSWORD:-hush}}"}}, start: earliest}}
  other: {{kafka: {{brokers: "{brokers}", topic: {other}}}, format: segment, start: earliest}}
models: {{users: {{key: user_id}}}}
events:
  bought: {{source: web, type: track, name: Bought, model: users, properties: {{revenue: number}}}}
  clicked: {{source: other, type: track, name: clicked, model: users}}
audiences:
  buyers: {{model: users, where: {{performed: bought, within: 1h}}, incomplete: send}}
  clickers: {{model: users, where: {{performed: clicked, within: 1h}}, incomplete: send}}
syncs: {{log: {{to: {{file: {{path: changes.jsonl}}}}}}}}
dead_letters: {{file: {{path: dead.jsonl}}}}
api: {{listen: "127.0.0.1:{port}"}}
state: {{url: state, checkpoint_every: 200ms}}
"""


class Live:
    """A job whose one source has a registry, and the other has not."""

    def __init__(self, registry):
        name = unique("live")
        self.web, self.other = f"{name}-web", f"{name}-other"
        create(self.web, 1)
        create(self.other, 1)
        self.producer = Producer({"bootstrap.servers": BROKERS, "linger.ms": 1})
        self.api = free_port()
        self.folder = Folder(LIVE.format(name=name, brokers=BROKERS, topic=self.web, other=self.other, url=registry.url, port=self.api))
        self.sent = 0

    def bought(self, key, id, write=avro):
        self.sent += 1
        event = {"type": "track", "event": "Bought", "userId": key, "messageId": f"m-{self.sent}", "ms": now(), "properties": {"revenue": 1.0, "tags": []}}
        self.producer.produce(self.web, numbered(id, write(event)))
        assert self.producer.flush(60) == 0

    def clicked(self, key):
        message = {"type": "track", "event": "clicked", "userId": key, "messageId": key, "timestamp": rfc3339(now())}
        self.producer.produce(self.other, json.dumps(message).encode())
        assert self.producer.flush(60) == 0

    def members(self):
        log = self.folder.path / "changes.jsonl"
        lines = log.read_text().splitlines() if log.exists() else []
        return {change["key"] for change in map(json.loads, lines) if change["type"] == "entry"}

    def source(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.api}/v1/sources", timeout=30) as answer:
            return next(source for source in json.load(answer)["sources"] if source["id"] == "web")

    def enters(self, key):
        until(f"`{key}` enters", lambda: key in self.members())


def free_port():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


def a_source_waits_for_its_registry_and_no_other_source_does():
    """Every way of not answering, in one run: what waits is read when the registry answers, and nothing is a dead letter for it."""
    registry = Registry(SCHEMAS)
    port = registry.port
    live = Live(registry)
    run = live.folder.start()
    run.live()
    live.bought("first", 1)
    live.enters("first")
    assert live.source()["state"] == "ok" and live.source()["schemas"] == [{"id": "1", "type": "avro", "error": None}], live.source()
    slow = threading.Event()

    def hang():
        slow.wait(60)
        return SCHEMAS["/schemas/ids/1"]

    ways = {
        20: lambda: registry.answers.__setitem__("/schemas/ids/20", (500, {})),
        21: lambda: registry.answers.__setitem__("/schemas/ids/21", (200, "<html>please log in</html>")),
        22: lambda: registry.answers.__setitem__("/schemas/ids/22", (502, "<html>bad gateway</html>")),
        23: lambda: registry.answers.__setitem__("/schemas/ids/23", hang),
    }
    for id, spoil in ways.items():
        spoil()
        live.bought(f"waiting-{id}", id)
        live.clicked(f"other-{id}")
        live.enters(f"other-{id}")
        if id != 23:
            until("it says that it waits", lambda: live.source()["state"] == "waiting: registry")
            assert f"the registry at `{registry.url}` answers" in live.source()["last_error"], live.source()
        assert f"waiting-{id}" not in live.members()
        registry.answers[f"/schemas/ids/{id}"] = SCHEMAS["/schemas/ids/1"]
        if id == 23:
            slow.set()
        live.enters(f"waiting-{id}")
        until("it goes on", lambda: live.source()["state"] == "ok")
    registry.close()
    live.bought("waiting-away", 24)
    live.clicked("other-away")
    live.enters("other-away")
    until("it says that it waits", lambda: live.source()["state"] == "waiting: registry")
    # What has a known schema waits behind it: a partition is read in order.
    live.bought("behind", 1)
    live.clicked("other-behind")
    live.enters("other-behind")
    assert not {"waiting-away", "behind"} & live.members()
    registry = Registry(SCHEMAS | {"/schemas/ids/24": SCHEMAS["/schemas/ids/1"]}, port)
    live.enters("waiting-away")
    live.enters("behind")
    said = run.said()
    # Once for each outage: that which hung was none.
    assert said.count("the source waits for the schema") == 4, said
    assert said.count("the registry answers again") == 4, said
    assert "hush" not in said and registry.authorization == {"Basic YW5uOmh1c2g="}, registry.authorization
    dead = live.folder.path / "dead.jsonl"
    assert not dead.exists() or dead.read_text() == "", dead.read_text()
    run.process.terminate()
    assert run.process.wait(60) == 0, run.said()
    registry.close()

    # A start needs no registry for what has been seen.
    run = live.folder.start()
    run.live()
    live.bought("again", 24)
    live.enters("again")
    assert {schema["id"] for schema in live.source()["schemas"]} == {"1", "20", "21", "22", "23", "24"}, live.source()
    # What has not been seen waits; a kill and a start later it is read.
    live.bought("new", 30)
    until("it says that it waits", lambda: live.source()["state"] == "waiting: registry")
    run.process.kill()
    run.process.wait()
    registry = Registry(SCHEMAS | {"/schemas/ids/30": SCHEMAS["/schemas/ids/4"]}, port)
    run = live.folder.start()
    run.live()
    live.bought("evolved", 30, evolved_avro)
    live.enters("evolved")
    assert "new" not in live.members()
    until("its bytes are of another schema", lambda: "malformed" in dead.read_text())
    assert registry.requests.count("/schemas/ids/30") == 1 and "/schemas/ids/1" not in registry.requests, registry.requests
    run.process.kill()
    run.process.wait()
    registry.close()


def a_registry_that_is_away_for_30_s_is_exit_3_at_a_first_start_and_under_replay():
    registry = Registry(SCHEMAS)
    live = Live(registry)
    live.bought("one", 1)
    registry.close()
    ran = {}

    def start(command, *flags):
        begin = time.monotonic()
        ran[command] = (*live.folder.run(command, "job.yaml", *flags), time.monotonic() - begin)

    # A registry that is there at the start, and then answers nothing.
    spoiled = Registry(SCHEMAS | {"/schemas/ids/1": (500, "")})
    half = Live(spoiled)
    half.bought("one", 1)

    def later():
        begin = time.monotonic()
        ran["later"] = (*half.folder.run("replay", "job.yaml"), time.monotonic() - begin)

    threads = [threading.Thread(target=start, args=("run",)), threading.Thread(target=start, args=("replay", "--now", "2030-01-01T00:00:00Z")), threading.Thread(target=later)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for way, (code, out, said, took) in ran.items():
        assert code == 3 and out == b"", f"{way}: {code}\n{said}"
        assert "source `web`: the registry at `http://127.0.0.1:" in said and "hint: see that `registry.url`" in said, f"{way}: {said}"
        assert took > 25, f"{way}: after {took} s"
        assert "hush" not in said, said
    assert not (live.folder.path / "changes.jsonl").exists() or not live.members()


def check_compares_the_latest_schema_with_the_paths():
    name = unique("check")
    create(name, 1)
    # It lacks `messageId`, which no event names; and calls `revenue` otherwise.
    document = {"type": "object", "properties": {"properties": {"$ref": "#/$defs/p"}, "context": {"type": "object", "additionalProperties": True}},
                "$defs": {"p": {"type": "object", "properties": {"revenu": {"type": "number"}, "tags": {"type": "array", "items": {"type": "string"}}}}}}
    renamed = json.loads(json.dumps(AVRO).replace('"revenue"', '"revenu"'))
    languages = {
        "avro": {"schema": json.dumps(renamed)},
        "protobuf": {"schema": PROTOBUF, "schemaType": "PROTOBUF", "references": [{"name": "parts.proto", "subject": "parts", "version": 1}]},
        "json_schema": {"schema": json.dumps(document), "schemaType": "JSON"},
    }
    for encoding, schema in languages.items():
        registry = Registry(SCHEMAS | {f"/subjects/{name}-value/versions/latest": schema | {"version": 3, "id": 5}, "/subjects/parts/versions/1": {"schema": PARTS.replace("revenue", "revenu"), "schemaType": "PROTOBUF"}})
        folder = Folder(job("checked", name, f"format: segment, encoding: {encoding}, registry: {{url: 'http://ann:hush@127.0.0.1:{registry.port}'}}").replace("tags: ", "channel: {path: context.channel, type: string}, tags: " if encoding == "json_schema" else "tags: "))
        code, _, said = folder.run("check", "job.yaml")
        assert code == 0 and registry.requests == [], "without `--connect` nothing is requested: " + said
        code, _, said = folder.run("check", "job.yaml", "--connect")
        assert code == 2, said
        assert f"the latest schema of `{name}-value` has no `properties.revenue`" in said and "did you mean `revenu`?" in said, said
        assert said.count("has no `") == 1 and "hush" not in said, said
        folder.write((folder.path / "job.yaml").read_text().replace("revenue: number", "revenue: {path: properties.revenu, type: number}"))
        code, _, said = folder.run("check", "job.yaml", "--connect")
        assert code == 0, said
        registry.answers[f"/subjects/{name}-value/versions/latest"] = {"schema": "true", "schemaType": "JSON"} if encoding != "json_schema" else {"schema": json.dumps(AVRO)}
        code, _, said = folder.run("check", "job.yaml", "--connect")
        assert code == 2 and "hint: set `encoding: " in said, said
        del registry.answers[f"/subjects/{name}-value/versions/latest"]
        code, _, said = folder.run("check", "job.yaml", "--connect")
        assert code == 0 and f"the registry has no subject `{name}-value`" in said, said
        registry.close()
        code, _, said = folder.run("check", "job.yaml", "--connect")
        assert code == 3 and "does not answer" in said and "hush" not in said, said


def a_plan_keeps_the_variables_of_secrets():
    folder = Folder(LIVE.format(name="plan", brokers=BROKERS, topic="a", other="b", url="http://${REGISTRY_USER:-bob}:${REGISTRY_SECRET:-quiet}@127.0.0.1:1", port=1))
    code, _, said = folder.run("compile", "job.yaml", "-o", "job.plan")
    assert code == 0, said
    plan = (folder.path / "job.plan").read_bytes()
    assert b"${REGISTRY_PASSWORD" in plan and b"${REGISTRY_SECRET" in plan, "the variables are gone"
    explained = folder.run("explain", "job.plan")
    assert explained[0] == 0 and b"quiet" not in explained[1] and b"hush" not in explained[1], explained


rng = random.Random(11)
the_same_events_give_the_same_changes(rng)
bad_messages_are_dead_letters_with_their_reasons()
check_compares_the_latest_schema_with_the_paths()
a_plan_keeps_the_variables_of_secrets()
a_source_waits_for_its_registry_and_no_other_source_does()
a_registry_that_is_away_for_30_s_is_exit_3_at_a_first_start_and_under_replay()
