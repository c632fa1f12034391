"""Measures webhooks: from an order to the request that suppresses its user; and what an endpoint that hangs costs another sync.

    measure.py latency [--seconds N] [--rate N]
    measure.py isolation [--seconds N] [--rate N]     needs a broker (KAFKA_BROKERS) and confluent_kafka
"""

import argparse
import json
import os
import pathlib
import socket
import tempfile
import threading
import time

from common import Job, Receiver, percentile, until

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
        self.file.write(json.dumps(event) + "\n")
        self.appended[(name, user)] = at

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
        self.listener.close()
        for connection in self.open:
            connection.close()


def stream(folder, args, topic, webhook):
    """Sends `rate` changes a second to a topic, and to `webhook` if there is one. Returns the latencies and the job."""
    from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

    brokers = os.environ["KAFKA_BROKERS"]
    to_topic = f'{{kafka: {{brokers: "{brokers}", topic: {topic}}}}}'
    more = f"  stream: {{to: {to_topic}, partitions: 1}}"
    job = Job(folder, webhook or "{file: {path: changes.jsonl}}", more).start()
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": topic, "isolation.level": "read_committed"})
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    many = args.seconds * args.rate
    times, memory = [], []

    def consume():
        while len(times) < many:
            for message in consumer.consume(1_000, 0.05):
                assert message.error() is None, message.error()
                at = time.time() * 1_000
                # The change is dated by its event.
                value = json.loads(message.value())
                key = value["key"]
                times.append(at - events.appended[("Bought", key)])

    events = Appender(folder / "events.jsonl")
    thread = threading.Thread(target=consume)
    thread.start()
    for part in range(args.seconds):
        events.at_rate("Bought", (f"u-{number}" for number in range(part * args.rate, (part + 1) * args.rate)), args.rate)
        memory.append(job.memory())
    until(lambda: f"the topic has all: {len(times)} of {many}", lambda: len(times) >= many)
    thread.join()
    consumer.close()
    return times, memory, job


def isolation(folder, args):
    figures = {}
    for name in ("without", "with"):
        hanging = Hanging()
        settings = "timeout: 5s, retry: {first: 100ms, most: 2s}, batch: {changes: 100, wait: 50ms}"
        webhook = f'{{webhook: {{url: "http://127.0.0.1:{hanging.port}/hook", {settings}}}}}' if name == "with" else None
        topic = f"isolation-{name}-{os.getpid()}"
        times, memory, job = stream(folder / name, args, topic, webhook)
        # The first second warms up.
        steady = times[args.rate :]
        figures[name] = {f"p{int(share * 100)}": round(percentile(steady, share), 1) for share in (0.5, 0.99)}
        third = memory[len(memory) // 3]
        print(f"{name}: {args.rate} changes/s to a topic, ms: {figures[name]}; resident {third >> 20} MiB, at the end {memory[-1] >> 20} MiB")
        if name == "with":
            sync = job.sync()
            assert sync["state"] == "open" and sync["waiting"] == args.seconds * args.rate, sync
            hanging.stop()
            receiver = Receiver(hanging.port)
            began = time.monotonic()
            job.wait_until_delivered(args.seconds * args.rate)
            print(f"drained {args.seconds * args.rate} changes in {time.monotonic() - began:.1f} s")
            assert len(receiver.held()) == args.seconds * args.rate
        else:
            hanging.stop()
        job.stop()
    print(f"p99 with an endpoint that hangs: {figures['with']['p99'] / figures['without']['p99']:.2f} of that without")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["latency", "isolation"])
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--rate", type=int, default=None)
    args = parser.parse_args()
    args.rate = args.rate or {"latency": 100, "isolation": 5_000}[args.what]
    with tempfile.TemporaryDirectory(prefix="webhook-measure-") as folder:
        globals()[args.what](pathlib.Path(folder), args)


if __name__ == "__main__":
    main()
