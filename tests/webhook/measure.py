"""Measures webhooks: from an order to the request that suppresses its user; what an endpoint that hangs costs another sync; and how many
changes a second go to an nginx that answers 204, while the worker reads other events.

    measure.py latency [--seconds N] [--rate N]        orders a second
    measure.py isolation [--seconds N] [--rate N]      changes a second; needs a broker (KAFKA_BROKERS) and confluent_kafka
    measure.py throughput [--seconds N] [--rate N]     other events a second; needs nginx
"""

import argparse
import collections
import datetime
import json
import os
import pathlib
import socket
import sys
import tempfile
import threading
import time
import urllib.request

from common import Job, Nginx, Receiver, ends_within, free_port, percentile, start, until

SUPPRESSION = """
job: shop
sources: {{web: {{file: {{path: events.jsonl, follow: true}}, format: segment}}}}
models: {{users: {{key: user_id, members: any}}}}
events:
  viewed: {{source: web, type: track, name: Viewed, model: users}}
  ordered: {{source: web, type: track, name: Ordered, model: users}}
audiences:
  buyers:
    model: users
    where: {{all: [{{performed: viewed, within: 1h}}, {{not: {{performed: ordered, within: 5m}}}}]}}
syncs:
  crm: {{to: {{webhook: {{url: "http://127.0.0.1:{port}/hook"}}}}}}
state: {{url: state}}
api: {{listen: "127.0.0.1:0"}}
"""


class Appender:
    """Appends events at a rate, and keeps when each was appended, ms since the epoch."""

    def __init__(self, path):
        self.file, self.appended, self.number = path.open("a"), {}, 0

    def append(self, name, user):
        self.number += 1
        at = time.time() * 1_000
        event = {"type": "track", "event": name, "userId": user, "messageId": f"e{self.number}", "timestamp": int(at)}
        # Before it may be read.
        self.appended[(name, user)] = at
        self.file.write(json.dumps(event) + "\n")

    def at_rate(self, name, users, rate):
        began = time.monotonic()
        for number, user in enumerate(users):
            ahead = number / rate - (time.monotonic() - began)
            if ahead > 0:
                self.file.flush()
                time.sleep(ahead)
            self.append(name, user)
        self.file.flush()


def latency(folder, args):
    receiver = Receiver()
    job = Job(folder, "{stdout: {}}")
    (folder / "job.yaml").write_text(SUPPRESSION.format(port=receiver.port))
    job.start()
    users = [f"u-{number}" for number in range(args.seconds * args.rate)]
    events = Appender(folder / "events.jsonl")
    events.at_rate("Viewed", users, 10 * args.rate)
    job.wait_until_delivered(len(users))
    events.at_rate("Ordered", users, args.rate)
    job.wait_until_delivered(2 * len(users))
    exits = [(message, at) for message, at in zip(receiver.messages, receiver.times) if message["type"] == "exit"]
    assert len(exits) == len(users)
    times = [at - events.appended[("Ordered", message["key"])] for message, at in exits]
    job.stop()
    figures = {f"p{int(share * 1000) / 10:g}": round(percentile(times, share), 1) for share in (0.5, 0.9, 0.99, 0.999)}
    print(f"order to webhook, {args.rate} orders/s for {args.seconds} s, ms: {figures}")


class Hanging:
    """Takes connections and requests, and answers nothing."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port, self.open = self.listener.getsockname()[1], []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                self.open.append(self.listener.accept()[0])
            except OSError:
                return

    def stop(self):
        # A thread that waits in `accept` keeps a listener that is only closed.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self.open:
            connection.close()


# Each `Bought` is an entry and, a second later, an exit; `Kept` is an entry that lasts.
FLICKER = """
job: {topic}
sources: {{web: {{file: {{path: events.jsonl, follow: true}}, format: segment}}}}
models: {{users: {{key: user_id, members: any}}}}
events:
  bought: {{source: web, type: track, name: Bought, model: users}}
  kept: {{source: web, type: track, name: Kept, model: users}}
audiences: {{buyers: {{model: users, where: {{any: [{{performed: bought, within: 1s}}, {{performed: kept, within: 7d}}]}}}}}}
syncs:
  stream: {{to: {{kafka: {{brokers: "{brokers}", topic: {topic}}}}}, partitions: 1}}
  crm: {{to: {webhook}}}
state: {{url: state}}
api: {{listen: "127.0.0.1:0"}}
"""
# Requests a second to the endpoint that comes back, and changes in each.
DRAIN = (100, 100)
# How much more an endpoint that hangs may cost the other sync.
ISOLATION = 1.2


class Stream:
    """A job that sends changes to a topic, and to a webhook if there is one; keeps how long each took to a reader of the topic."""

    def __init__(self, folder, rate, topic, webhook):
        from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

        brokers = os.environ["KAFKA_BROKERS"]
        self.job = Job(folder, "{stdout: {}}")
        text = FLICKER.format(brokers=brokers, topic=topic, webhook=webhook or "{file: {path: changes.jsonl}}")
        (folder / "job.yaml").write_text(text)
        self.job.start()
        self.events = Appender(folder / "events.jsonl")
        self.rate, self.users = rate // 2, [f"u-{number}" for number in range(2 * rate)]
        self.bought, self.times, self.seen, self.memory = 0, [], 0, []
        self.consumer = Consumer({"bootstrap.servers": brokers, "group.id": topic, "isolation.level": "read_committed"})
        self.consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        self.over = False
        self.thread = threading.Thread(target=self.consume, daemon=True)
        self.thread.start()

    def consume(self):
        while not self.over:
            for message in self.consumer.consume(1_000, 0.05):
                assert message.error() is None, message.error()
                at = time.time() * 1_000
                value = json.loads(message.value())
                due = self.events.appended[("Bought", value["key"])]
                if value["type"] == "exit":
                    due = datetime.datetime.fromisoformat(value["at"]).timestamp() * 1_000
                self.times.append(at - due)
                self.seen += 1

    def run(self, seconds):
        """Has each user of a ring enter and leave every four seconds, and waits until the topic has all of it."""
        for _ in range(seconds):
            part = [self.users[number % len(self.users)] for number in range(self.bought, self.bought + self.rate)]
            self.events.at_rate("Bought", part, self.rate)
            self.bought += len(part)
            self.memory.append(self.job.memory())
        self.wait_for(2 * self.bought)

    def keep(self):
        """Has all users enter, to stay. Returns how many changes there are then."""
        for user in self.users:
            self.events.append("Kept", user)
        self.events.file.flush()
        self.wait_for(2 * self.bought + len(self.users))
        return self.seen

    def wait_for(self, changes):
        until(lambda: f"the topic has all: {self.seen} of {changes}", lambda: self.seen >= changes)

    def stop(self):
        self.over = True
        self.thread.join()
        self.consumer.close()
        self.job.stop()


def isolation(folder, args):
    p99 = {}
    for name in ("without", "changes", "state"):
        hanging = Hanging()
        settings = f"mode: {name}, timeout: 5s, retry: {{first: 100ms, most: 2s}}, rate: {DRAIN[0]}/s, batch: {{changes: {DRAIN[1]}, wait: 50ms}}"
        webhook = f'{{webhook: {{url: "http://127.0.0.1:{hanging.port}/hook", {settings}}}}}' if name != "without" else None
        stream = Stream(folder / name, args.rate, f"isolation-{name}-{os.getpid()}", webhook)
        stream.run(args.seconds)
        # The first seconds warm up.
        steady, memory = stream.times[2 * args.rate :], stream.memory
        p50, p99[name] = percentile(steady, 0.5), percentile(steady, 0.99)
        early, late = memory[len(memory) // 3] >> 20, memory[-1] >> 20
        what = "no webhook" if webhook is None else f"a webhook of `mode: {name}` that hangs"
        print(f"{what}: {args.rate} changes/s to a topic for {args.seconds} s: p50 {p50:.0f} ms, p99 {p99[name]:.0f} ms", flush=True)
        print(f"  resident {early} MiB after a third, {late} MiB at the end")
        assert late <= 1.15 * early + 16, "memory grows"
        if webhook is not None:
            drain(stream, hanging, name)
        stream.stop()
    worst = max(p99["changes"], p99["state"]) / p99["without"]
    print(f"p99 with an endpoint that hangs: {worst:.2f} of that without")
    if worst > ISOLATION:
        sys.exit(f"webhook-measure: failed: more than {ISOLATION}")
    print("webhook-measure: ok")


def drain(stream, hanging, mode):
    """Lets the endpoint come back, and checks what it gets."""
    committed = stream.keep()
    sync = stream.job.sync()
    assert sync["state"] == "open" and sync["delivered"] == 0 and sync["waiting"] + sync["superseded"] == committed, sync
    hanging.stop()
    receiver = Receiver(hanging.port)
    began = time.monotonic()
    all_settled = lambda: stream.job.sync()["waiting"] == 0  # noqa: E731: a condition
    until(lambda: f"all is delivered: {stream.job.sync()}", all_settled, patience=900)
    took, sync, got = time.monotonic() - began, stream.job.sync(), len(receiver.messages)
    assert sync["delivered"] + sync["superseded"] == committed and sync["dead_letters"] == 0, sync
    assert receiver.held() == {("buyers", user) for user in stream.users}, "what the receiver holds"
    counts = {name: sync[name] for name in ("committed", "delivered", "superseded")}
    print(f"  back: {got} changes came in {took:.1f} s, {got / took:.0f} a second, each key in order: {counts}", flush=True)
    # The rate's first second may begin at once.
    assert got <= DRAIN[0] * DRAIN[1] * (took + 1), "faster than its rate"
    if mode == "state":
        times = collections.Counter(message["key"] for message in receiver.messages)
        assert max(times.values()) == 1 and sync["superseded"] == committed - len(stream.users), sync
        print("  at most one change of each membership")


BUSY = """
job: shop
sources: {{web: {{file: {{path: events.jsonl, follow: true}}, format: segment}}}}
models: {{users: {{key: user_id, members: any}}}}
events:
  bought: {{source: web, type: track, name: Bought, model: users}}
  viewed: {{source: web, type: track, name: Viewed, model: users}}
audiences:
  buyers: {{model: users, where: {{performed: bought, within: 7d}}}}
  never: {{model: users, where: {{performed: viewed, at_least: 1000000, within: 10s}}}}
syncs:
  crm: {{to: {{webhook: {{url: "http://127.0.0.1:{port}/hook", secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", concurrency: 64{settings}}}}}}}
state: {{url: state}}
api: {{listen: "127.0.0.1:0"}}
"""

# Appends so many views a second to a file, of 100,000 users, until it is killed.
VIEWS = """
import sys, time
path, rate = sys.argv[1], int(sys.argv[2])
began, number, part = time.monotonic(), 0, rate // 20
with open(path, "a") as file:
    while True:
        at = int(time.time() * 1_000)
        file.write("".join(
            f'{{"type":"track","event":"Viewed","userId":"v-{n % 100_000}","messageId":"v{n}","timestamp":{at}}}\\n'
            for n in range(number, number + part)))
        file.flush()
        number += part
        time.sleep(max(0, number / rate - (time.monotonic() - began)))
"""


def throughput(folder, args):
    port = free_port()
    nginx = Nginx(folder / "nginx", f"server {{ listen 127.0.0.1:{port}; location / {{ return 204; }} }}").wait_for(port)
    for name, many, settings in (("single requests", 100_000, ""), ("batches of 100", 400_000, ", batch: {changes: 100}")):
        at = folder / name.split()[0]
        job = Job(at, "{stdout: {}}")
        (at / "job.yaml").write_text(BUSY.format(port=port, settings=settings))
        job.start()
        order(job, "pause")
        job.buy(f"u-{number}" for number in range(many))
        until(lambda: f"all wait: {job.sync()}", lambda: job.sync()["waiting"] == many)
        events = at / "events.jsonl"
        before = matched(job)
        views = start([sys.executable, "-c", VIEWS, str(events), str(args.rate)])
        until("views are read", lambda: matched(job) > before + 2 * args.rate)
        before, since = matched(job), time.monotonic()
        order(job, "resume")
        until(lambda: f"all is delivered: {job.sync()}", lambda: job.sync()["waiting"] == 0)
        took = time.monotonic() - since
        read = (matched(job) - before) / took
        sync = job.sync()
        assert sync["delivered"] == many and sync["dead_letters"] == 0, sync
        views.kill()
        print(f"{name}: {many / took:.0f} changes/s, while {read:.0f} other events/s were read ({many} changes, {took:.1f} s)", flush=True)
        job.process.kill()
    nginx.stop()
    print("webhook-measure: ok; beside a bare loop: cargo bench -p usher-connectors --bench webhook")


def order(job, what):
    request = urllib.request.Request(f"{job.url}/v1/syncs/crm/{what}", b"", method="POST")
    urllib.request.urlopen(request).read()


def matched(job):
    """How many messages the job has used."""
    with urllib.request.urlopen(f"{job.url}/v1/sources") as answer:
        return sum(source["matched"] for source in json.load(answer)["sources"])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["latency", "isolation", "throughput"])
    parser.add_argument("--seconds", type=int, default=None)
    parser.add_argument("--rate", type=int, default=None)
    args = parser.parse_args()
    args.rate = args.rate or {"latency": 100, "isolation": 5_000, "throughput": 100_000}[args.what]
    args.seconds = args.seconds or {"latency": 30, "isolation": 120, "throughput": 0}[args.what]
    ends_within(600 + 10 * args.seconds, "webhook-measure")
    with tempfile.TemporaryDirectory(prefix="webhook-measure-") as folder:
        globals()[args.what](pathlib.Path(folder), args)


if __name__ == "__main__":
    main()
