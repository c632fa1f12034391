"""What the scenarios share: an independent client of the brokers, the program as a process, and what audiences must be.

Each scenario is a program that ends with 0 where all it claims held, and else with an assertion. The environment names the
brokers (`KAFKA_BROKERS`) and the program (`USHER`). Nothing here is taken from the engine: membership is computed from the events
as SPEC.md §2 and §3 say, the slow obvious way, and messages are written and read by confluent-kafka.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from datetime import datetime
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

BROKERS = os.environ["KAFKA_BROKERS"]
USHER = os.environ["USHER"]
# Of topics: three where there are three brokers.
REPLICAS = len(BROKERS.split(","))
# How long anything is waited for: far more than it takes on a busy machine.
PATIENCE = 90.0


def now():
    return time.time_ns() // 1_000_000


def until(what, condition, patience=PATIENCE, every=0.02):
    """Waits for a condition, and gives what it gave."""
    end = time.monotonic() + patience
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"in {patience:.0f} s never: {what}"
        time.sleep(every)


def unique(name):
    return f"{name}-{os.getpid()}-{random.randrange(1 << 32):08x}"


# --- The brokers ---


ADMIN = AdminClient({"bootstrap.servers": BROKERS})


def create(topic, partitions, **config):
    new = NewTopic(topic, partitions, REPLICAS, config={name.replace("_", "."): str(value) for name, value in config.items()})
    ADMIN.create_topics([new])[topic].result(30)
    until(f"topic {topic} is known", lambda: topic in ADMIN.list_topics(timeout=10).topics)


def delete(topic):
    ADMIN.delete_topics([topic])[topic].result(30)
    until(f"topic {topic} is gone", lambda: topic not in ADMIN.list_topics(timeout=10).topics)


def widen(topic, partitions):
    ADMIN.create_partitions([NewPartitions(topic, partitions)])[topic].result(30)


def body(event):
    """A Segment track of (key, name, ms)."""
    key, name, at = event[:3]
    message = {"type": "track", "event": name, "userId": key, "messageId": event_id(event), "timestamp": rfc3339(at)}
    return json.dumps(message).encode()


def event_id(event):
    return "{}/{}/{}".format(*event[:3])


def rfc3339(ms):
    return datetime.utcfromtimestamp(ms // 1000).strftime("%Y-%m-%dT%H:%M:%S") + f".{ms % 1000:03d}Z"


def parse_time(text):
    return round(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000)


class Events:
    """Writes events to a topic, and remembers those that the brokers took."""

    def __init__(self, topic):
        self.topic = topic
        self.taken = []
        self.producer = Producer({"bootstrap.servers": BROKERS, "enable.idempotence": True, "linger.ms": 2, "message.timeout.ms": 300_000})

    def send(self, event, partition=None, timestamp=None):
        """`event`: (key, name, ms)."""

        def taken(error, message):
            assert error is None, error
            self.taken.append((*event, message.partition(), message.offset()))

        place = {} if partition is None else {"partition": partition}
        self.producer.produce(self.topic, body(event), event[0], timestamp=timestamp or event[2], on_delivery=taken, **place)
        self.producer.poll(0)

    def flush(self):
        left = self.producer.flush(PATIENCE)
        assert left == 0, f"{left} events were not taken"


class Changes:
    """Reads the changes that are committed to a topic, and keeps an eye on what must always hold."""

    def __init__(self, topic, exactly_once=True):
        self.topic, self.exactly_once = topic, exactly_once
        self.all = []
        self.ids = set()
        self.repeats = 0
        self.latest = {}
        self.partition_of = {}
        self.consumer = Consumer({
            "bootstrap.servers": BROKERS,
            "group.id": unique("check"),
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 20,
            "reconnect.backoff.max.ms": 1000,
        })
        partitions = self.consumer.list_topics(topic, timeout=30).topics[topic].partitions
        self.consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
        self.partitions = len(partitions)

    def poll(self, seconds=0.1):
        """Takes what has come; tells whether there was anything."""
        messages = self.consumer.consume(1000, timeout=seconds)
        for message in messages:
            if message.error():
                # Clients wait for brokers that are away.
                assert message.error().retriable() or message.error().code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT), message.error()
                continue
            self.take(message)
        return bool(messages)

    def take(self, message):
        change = json.loads(message.value())
        key, audience = change["key"], change["audience_id"]
        assert message.key().decode() == key, change
        headers = {name: value.decode() for name, value in message.headers()}
        assert (headers["id"], headers["audience"], headers["type"]) == (change["id"], audience, change["type"]), headers
        assert self.partition_of.setdefault(key, message.partition()) == message.partition(), f"`{key}` is in two partitions"
        change["ms"] = parse_time(change["at"])
        before = self.latest.get((audience, key))
        if self.exactly_once:
            assert change["id"] not in self.ids, f"comes twice: {change}, after {before}"
            entered = before is not None and before["type"] == "entry"
            assert (change["type"] == "entry") != entered, f"does not alternate: {change}, after {before}"
            assert before is None or before["ms"] < change["ms"], f"goes back: {change}, after {before}"
        elif change["id"] in self.ids:
            self.repeats += 1
        self.ids.add(change["id"])
        self.latest[audience, key] = change
        self.all.append(change)

    def members(self):
        """What a reader takes for the membership: (audience, key)."""
        return {which for which, change in self.latest.items() if change["type"] == "entry"}

    def to_the_end(self):
        """Takes all that is committed now."""
        ends = {}
        for number in range(self.partitions):
            _, ends[number] = self.consumer.get_watermark_offsets(TopicPartition(self.topic, number), timeout=30)
        idle = time.monotonic()
        while time.monotonic() - idle < 1.5:
            if self.poll(0.2):
                idle = time.monotonic()
            places = self.consumer.position([TopicPartition(self.topic, number) for number in ends])
            if all(place.offset >= ends[place.partition] for place in places):
                break


# --- What audiences must be ---


class Audience:
    """Conditions that all must hold: (event, at least, within ms, wanted)."""

    def __init__(self, *conditions):
        self.conditions = conditions

    def yaml(self):
        terms = []
        for event, at_least, within, wanted in self.conditions:
            term = f"{{performed: {event}, at_least: {at_least}, within: {within}ms}}"
            terms.append(term if wanted else f"{{not: {term}}}")
        return f"{{model: users, where: {{all: [{', '.join(terms)}]}}}}"

    def holds(self, times, at):
        """`times`: of each event, those of one key. An event counts while ts <= at < ts + within."""
        for event, at_least, within, wanted in self.conditions:
            count = sum(1 for ts in times.get(event, ()) if ts <= at < ts + within)
            if (count >= at_least) != wanted:
                return False
        return True

    def moments(self, times):
        """When it may change."""
        every = {ts for event, _, _, _ in self.conditions for ts in times.get(event, ())}
        every |= self.ends(times)
        return sorted(every)

    def ends(self, times):
        return {ts + within for event, _, within, _ in self.conditions for ts in times.get(event, ())}


def times_by_key(events):
    times = defaultdict(lambda: defaultdict(set))
    for key, name, at, *_ in events:
        times[key][name].add(at)
    return times


def members_at(audiences, events, at):
    times = times_by_key(events)
    return {(id, key) for id, audience in audiences.items() for key in times if audience.holds(times[key], at)}


def changes_of(audiences, events):
    """All changes that the events imply where each is known before it takes effect: (ms, audience, key, type)."""
    changes = []
    for key, times in times_by_key(events).items():
        for id, audience in audiences.items():
            entered = False
            for at in audience.moments(times):
                holds = audience.holds(times, at)
                if holds != entered:
                    entered = holds
                    changes.append((at, id, key, "entry" if holds else "exit"))
    return sorted(changes)


def check_dates(audiences, changes, events):
    """Each change by expiry is dated with the end of a window, to the ms; gives how many there were."""
    ends = {key: {id: audience.ends(times) for id, audience in audiences.items()} for key, times in times_by_key(events).items()}
    expired = [change for change in changes if change["reason"] == "expiry"]
    for change in expired:
        assert change["ms"] in ends[change["key"]][change["audience_id"]], f"no window ended then: {change}"
    return len(expired)


# --- The program ---


class Folder:
    """A folder with a job, and the program run in it."""

    def __init__(self, job):
        self.path = Path(tempfile.mkdtemp(prefix="usher-test-"))
        (self.path / "job.yaml").write_text(job)
        self.runs = 0

    def write(self, job):
        (self.path / "job.yaml").write_text(job)

    def start(self, *args, log="info"):
        self.runs += 1
        return Run(self.path, self.path / f"stderr-{self.runs}", ["run", "job.yaml", *args], log)

    def run(self, *args, timeout=120):
        """Runs it to its end: (exit code, stdout, stderr)."""
        done = subprocess.run([USHER, *args], cwd=self.path, env=environment("info"), capture_output=True, timeout=timeout)
        return done.returncode, done.stdout, done.stderr.decode()


def refused(folder, *words, flags=()):
    """The job can't be opened or gone on from: exit code 3, and what is said of it, with all of `words` and a hint."""
    code, _, said = folder.run("run", "job.yaml", *flags)
    assert code == 3, f"it ended with {code}:\n{said}"
    for word in ("hint: ", *words):
        assert word in said, f"it does not say `{word}`:\n{said}"
    return said


def turn(verb):
    """Stops, kills or starts the broker, where it is the scenario's own: `KAFKA_SCRIPT` and `KAFKA_FOLDER` say how."""
    subprocess.run([os.environ["KAFKA_SCRIPT"], verb, os.environ["KAFKA_FOLDER"]], check=True, stdout=subprocess.DEVNULL)


def environment(log):
    return {**os.environ, "USHER_LOG": log}


class Run:
    def __init__(self, folder, log, args, level):
        self.log = log
        with open(log, "wb") as stderr:
            self.process = subprocess.Popen([USHER, *args], cwd=folder, env=environment(level), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr)

    def said(self):
        return self.log.read_text(errors="replace")

    def says(self, what, patience=PATIENCE):
        def look():
            said = self.said()
            if what in said:
                return said
            code = self.process.poll()
            assert code is None, f"it ended with {code} and never said `{what}`:\n{said}"
            return None

        try:
            return until(f"it says `{what}`", look, patience)
        except AssertionError:
            print(self.said()[-4000:], file=sys.stderr)
            raise

    def live(self):
        return self.says("live after")

    def checkpoints(self):
        """How many it has made, where its log tells."""
        return self.said().count(" checkpoint took_ms")

    def rss_mib(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def cpu_seconds(self):
        """Processor time of all threads since the start."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        """A clean stop."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE)
        assert code == 0, f"it ended with {code}:\n{self.said()}"

    def ends_with(self, code):
        found = self.process.wait(PATIENCE)
        assert found == code, f"it ended with {found}:\n{self.said()}"
        return self.said()


def job(name, topic, audiences, syncs, more="", checkpoint_every="1s", source="", events=("clicked", "bought")):
    """A job file. `syncs`: {id: (topic, more of the sync's settings)}."""
    lines = [f"job: {name}", "sources:", f"  web: {{kafka: {{brokers: '{BROKERS}', topic: {topic}}}, format: segment{source}}}"]
    lines += ["models: {users: {key: user_id}}", "events:"]
    lines += [f"  {event}: {{source: web, type: track, name: {event}, model: users}}" for event in events]
    lines += ["audiences:", *(f"  {id}: {audience.yaml()}" for id, audience in audiences.items())]
    lines += ["syncs:", *(f"  {id}: {{to: {{kafka: {{brokers: '{BROKERS}', topic: {to}}}}}{settings}}}" for id, (to, settings) in syncs.items())]
    lines += [f"state: {{url: state, checkpoint_every: {checkpoint_every}}}", more]
    return "\n".join(lines) + "\n"
