"""Brokers that go away and come back, twice, in the middle of it: nothing is lost, the order per key is kept, memory stays, and
waiting costs little processor time. A job that is
stopped while they are away ends all the same, and the next start sends what was not sent.

`USHER_OUTAGE` sets how long they are away, s. `KAFKA_SCRIPT` and `KAFKA_FOLDER` say how they are stopped and started: they are
this scenario's own.
"""

import os
import random
import shutil
import threading
import time

from common import Audience, Changes, Events, Folder, check_dates, create, job, members_at, now, turn, unique, until

AUDIENCES = {
    "clicked": Audience(("clicked", 1, 1000, True)),
    "twice": Audience(("clicked", 2, 2000, True)),
    "idle": Audience(("bought", 1, 3_600_000, True), ("clicked", 1, 1500, False)),
}
AWAY = float(os.environ.get("USHER_OUTAGE", "4"))
KEYS = 400
# The program itself takes some 40 MiB; clients' buffers for a handful of brokers' connections are below this.
GROWTH_MIB = 48
# Processor time of a debug build while the brokers are away, as a share of one core. Clients that look for them without a pause take over half.
SHARE = 0.4


def main():
    name = unique("outage")
    source, target = f"{name}-events", f"{name}-changes"
    create(source, 4)
    create(target, 3)
    folder = Folder(job(name, source, AUDIENCES, {"crm": (target, "")}))
    run = folder.start("-w", "2")
    run.live()
    reader, events, stopping = Changes(target), Events(source), threading.Event()
    chance = random.Random(3)

    def produce():
        while not stopping.wait(0.01):
            for _ in range(4):
                events.send((f"u-{chance.randrange(KEYS)}", "bought" if chance.random() < 0.1 else "clicked", now()))

    writer = threading.Thread(target=produce)
    writer.start()

    def alive():
        code = run.process.poll()
        assert code is None, f"it ended with {code}:\n{run.said()}"

    def flows():
        """Changes of what happens now come."""
        since = now()
        until("changes flow", lambda: alive() or reader.poll() and reader.all[-1]["ms"] > since)

    try:
        flows()
        time.sleep(2)
        rss, shares = [run.rss_mib()], []
        for _ in range(2):
            turn("stop")
            end, used = time.monotonic() + AWAY, run.cpu_seconds()
            while time.monotonic() < end:
                reader.poll(0.1)
                alive()
            shares.append((run.cpu_seconds() - used) / AWAY)
            rss.append(run.rss_mib())
            turn("start")
            flows()
            rss.append(run.rss_mib())
    finally:
        stopping.set()
        writer.join()
    events.flush()
    settled = max(event[2] for event in events.taken) + 3000
    until("all windows have ended", lambda: alive() or reader.poll() and False or now() > settled)
    expected = members_at(AUDIENCES, events.taken, settled)
    until("the reader has seen who belongs", lambda: alive() or reader.poll() and False or reader.members() == expected)
    rss.append(run.rss_mib())
    run.stop()
    reader.to_the_end()
    assert reader.members() == expected
    expired = check_dates(AUDIENCES, reader.all, events.taken)
    assert max(rss) - rss[0] < GROWTH_MIB, f"memory grew: {rss}"
    assert max(shares) < SHARE, f"shares of a core while the brokers were away: {shares}"
    figures = " ".join(f"{mib:.0f}" for mib in rss)
    print(f"2 outages of {AWAY:.0f} s: {len(events.taken)} events, {len(reader.all)} changes in order, {expired} by expiry to the ms, {len(expected)} members; RSS in MiB: {figures}; share of a core meanwhile: {max(shares):.2f}; lost transactions sent again: {run.said().count('the brokers have lost committed batches')}")
    shutil.rmtree(folder.path)


def stopped_while_they_are_away(delivery):
    name = unique("away")
    source, target = f"{name}-events", f"{name}-changes"
    create(source, 1)
    create(target, 1)
    folder = Folder(job(name, source, {"clicked": Audience(("clicked", 1, 4000, True))}, {"crm": (target, f", delivery: {delivery}")}))
    reader, events = Changes(target, delivery == "exactly_once"), Events(source)
    run = folder.start()
    run.live()
    for number in range(100):
        events.send((f"u-{number}", "clicked", now()))
    events.flush()
    until("all have entered", lambda: reader.poll() and False or len(reader.all) == 100)
    turn("stop")
    # Their exits can't be sent.
    settled = max(event[2] for event in events.taken) + 4500
    until("all windows have ended", lambda: now() > settled)
    begun = time.monotonic()
    run.stop()
    took = time.monotonic() - begun
    assert "did not accept all changes before shutdown" in run.said(), run.said()
    assert took < 60, took
    turn("start")
    run = folder.start()
    until("all have left", lambda: reader.poll() and False or len(reader.all) == 200)
    run.live()
    run.stop()
    reader.to_the_end()
    assert len(reader.all) == 200 and reader.members() == set()
    print(f"stopped while brokers are away, {delivery}: in {took:.0f} s")
    shutil.rmtree(folder.path)


main()
for delivery in ("exactly_once", "at_least_once"):
    stopped_while_they_are_away(delivery)
