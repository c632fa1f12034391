"""Three brokers: leaders, coordinator and controller killed with -9 in turn, a rolling restart, and all frozen: each change is sent once.

    three.py [--short] [--frozen SECONDS]

A producer writes all the time, a read_committed reader checks each change as it comes: entry and exit alternate, no id comes twice,
no change is dated before the one before. In the end the members that it has seen are those that the events imply. The job never
ends. `THREE_SCRIPT` and `THREE_FOLDER` say how brokers are ended and started. `--short` is for every test run: two kills, a restart
of one broker, and all frozen for some seconds, with a transaction timeout that is shorter.
"""

import argparse
import os
import random
import shutil
import subprocess
import threading
import time

import common
from common import ADMIN, Audience, Changes, Events, Folder, check_dates, create, job, members_at, now, unique, until

AUDIENCES = {
    "clicked": Audience(("clicked", 1, 1000, True)),
    "twice": Audience(("clicked", 2, 2000, True)),
    "buyers": Audience(("bought", 1, 3_600_000, True)),
}
KEYS = 150
EVENTS_A_SECOND = 100


def node(verb, which):
    subprocess.run([os.environ["THREE_SCRIPT"], verb, os.environ["THREE_FOLDER"], str(which)], check=True, stdout=subprocess.DEVNULL)


def leader(topic, partition=0):
    return ADMIN.list_topics(timeout=30).topics[topic].partitions[partition].leader


def coordinator(transactional_id):
    """Which broker coordinates transactions: the leader of the partition of Java's hash of the id."""
    partitions = ADMIN.list_topics(timeout=30).topics["__transaction_state"].partitions
    hashed = 0
    for character in transactional_id:
        hashed = (31 * hashed + ord(character)) & 0xFFFFFFFF
    signed = hashed - (1 << 32) if hashed >= 1 << 31 else hashed
    return partitions[(signed & 0x7FFFFFFF) % len(partitions)].leader


def controller():
    return ADMIN.describe_cluster(request_timeout=30).result().controller.id


def in_sync(topics):
    found = ADMIN.list_topics(timeout=30).topics
    return all(len(part.isrs) == 3 for topic in topics for part in found[topic].partitions.values())


def main():
    flags = argparse.ArgumentParser()
    flags.add_argument("--short", action="store_true")
    flags.add_argument("--frozen", type=float)
    flags = flags.parse_args()
    frozen = flags.frozen or (8.0 if flags.short else 90.0)
    name = unique("three")
    source, target = f"{name}-events", f"{name}-changes"
    create(source, 4)
    create(target, 3)
    text = job(name, source, AUDIENCES, {"crm": (target, ", commit_every: 20ms")})
    if flags.short:
        # Shorter than the brokers are frozen.
        text = text.replace(f"topic: {target}}}", f"topic: {target}, properties: {{transaction.timeout.ms: '5000'}}}}")
    folder = Folder(text)
    run = folder.start("-w", "2")
    run.live()
    reader, events, stopping, failed = Changes(target), Events(source), threading.Event(), []
    ledger = f"usher.{name}.crm.ledger"

    def produce():
        chance, begun, sent = random.Random(5), time.monotonic(), 0
        while not stopping.wait(0.02):
            due = int((time.monotonic() - begun) * EVENTS_A_SECOND)
            for _ in range(due - sent):
                events.send((f"u-{chance.randrange(KEYS)}", "bought" if chance.random() < 0.1 else "clicked", now()))
            sent = due

    def read():
        try:
            while not stopping.is_set():
                reader.poll()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=produce), threading.Thread(target=read)]
    for thread in threads:
        thread.start()

    def flows():
        """Changes of what happens from now on come, and the job is the same."""
        since = now()

        def flowing():
            if failed:
                raise failed[0]
            assert run.process.poll() is None, run.said()
            return reader.all and any(change["ms"] > since for change in reader.all[-50:])

        until("changes flow", flowing, patience=180)

    def whole():
        until("all replicas are in sync", lambda: in_sync([source, target, ledger, "__transaction_state"]), patience=180)

    done = []
    try:
        flows()
        kills = [("target's leader", lambda: leader(target)), ("coordinator", lambda: coordinator(f"usher.{name}.crm"))]
        if not flags.short:
            kills += [("source's leader", lambda: leader(source)), ("ledger's leader", lambda: leader(ledger)), ("controller", controller)]
        for what, which in kills:
            broker = which()
            node("kill", broker)
            flows()
            node("start", broker)
            whole()
            flows()
            done.append(f"{what} killed")
        for broker in [2] if flags.short else [1, 2, 3]:
            node("stop", broker)
            flows()
            node("start", broker)
            whole()
        done.append("rolling restart")
        node("freeze", "all")
        time.sleep(frozen)
        node("thaw", "all")
        flows()
        done.append(f"all frozen for {frozen:.0f} s")
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
        if failed:
            run.kill()
    if failed:
        raise failed[0]
    events.flush()
    settled = max(event[2] for event in events.taken) + 3000
    until("all windows have ended", lambda: now() > settled)
    expected = members_at(AUDIENCES, events.taken, settled)
    until("the reader has seen who belongs", lambda: reader.poll() and False or reader.members() == expected, patience=180)
    run.stop()
    reader.to_the_end()
    assert reader.members() == expected
    expired = check_dates(AUDIENCES, reader.all, events.taken)
    print(f"{', '.join(done)}: {len(events.taken)} events, {len(reader.all)} changes once each, {expired} by expiry to the ms")
    shutil.rmtree(folder.path)


main()
