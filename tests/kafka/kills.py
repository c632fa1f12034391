"""Killed with -9 again and again, a job tells each change once (SPEC §5, §6).

    kills.py [--kills N] [--processes 1|2] [--delivery exactly_once|at_least_once] [--seed N]

A producer writes all the time; the job is killed at random moments of its start, its catching up and its commits, and started again
with another number of workers. A read_committed reader checks each change as it comes: entry and exit alternate, no id comes twice.
In the end the members that it has seen are those that the events imply. Prints the figures.
"""

import argparse
import random
import shutil
import socket
import threading
import time

from common import Audience, Changes, Events, Folder, PATIENCE, check_dates, create, job, members_at, now, unique, until

AUDIENCES = {
    "clicked": Audience(("clicked", 1, 1000, True)),
    "twice": Audience(("clicked", 2, 2000, True)),
    "both": Audience(("bought", 1, 3000, True), ("clicked", 1, 1000, True)),
    "idle": Audience(("bought", 1, 3_600_000, True), ("clicked", 1, 1500, False)),
    "buyers": Audience(("bought", 1, 3_600_000, True)),
}
# Enough that each commit has many changes, few enough that everybody comes and goes.
KEYS = 150
EVENTS_A_SECOND = 150


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Load:
    """Writes events of now, until it is stopped; some are dated a little later, and some come late."""

    def __init__(self, topic, seed):
        self.events = Events(topic)
        self.random = random.Random(seed)
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        begun, sent = time.monotonic(), 0
        while not self.stopping.wait(0.02):
            due = int((time.monotonic() - begun) * EVENTS_A_SECOND)
            for _ in range(due - sent):
                key = f"u-{self.random.randrange(KEYS)}"
                name = "bought" if self.random.random() < 0.1 else "clicked"
                shift = self.random.choice([0, 0, 0, 0, 0, 0, 300, -400])
                self.events.send((key, name, now() + shift))
            sent = due

    def stop(self):
        self.stopping.set()
        self.thread.join()
        self.events.flush()
        return self.events.taken


class Cluster:
    """The processes of a job."""

    def __init__(self, folder, processes, workers):
        self.runs = []
        if processes == 1:
            self.runs.append(folder.start("-w", str(workers)))
            return
        hosts = folder.path / "hosts"
        hosts.write_text("".join(f"127.0.0.1:{port}\n" for port in free_ports(processes)))
        for process in range(processes):
            self.runs.append(folder.start("-w", str(workers), "-n", str(processes), "-p", str(process), "-h", "hosts"))

    def alive(self):
        for run in self.runs:
            code = run.process.poll()
            assert code is None, f"it ended by itself with {code}:\n{run.said()}"

    def kill_one(self, which):
        """The others notice, and end."""
        killed = self.runs.pop(which)
        killed.kill()
        for other in self.runs:
            code = other.process.wait(PATIENCE)
            # 3: it had not yet met the one that is gone; 1: it lost it.
            assert code in (1, 3), f"a process that lost its peer ended with {code}:\n{other.said()}"


def main():
    flags = argparse.ArgumentParser()
    flags.add_argument("--kills", type=int, default=10)
    flags.add_argument("--processes", type=int, default=1)
    flags.add_argument("--delivery", default="exactly_once")
    flags.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    flags = flags.parse_args()
    print(f"seed {flags.seed}", flush=True)
    chance = random.Random(flags.seed)
    name = unique("kills")
    source, first, second = f"{name}-events", f"{name}-first", f"{name}-second"
    for topic, partitions in ((source, 4), (first, 3), (second, 1)):
        create(topic, partitions)
    exactly_once = flags.delivery == "exactly_once"
    first_every, second_every = (", commit_every: 20ms", ", commit_every: 100ms") if exactly_once else ("", "")
    delivery = f", delivery: {flags.delivery}"
    syncs = {"first": (first, delivery + first_every), "second": (second, delivery + second_every)}
    folder = Folder(job(name, source, AUDIENCES, syncs, checkpoint_every="1s", more="cluster: {connect_timeout: 5s, peer_timeout: 10s}"))
    readers = [Changes(topic, exactly_once) for topic in (first, second)]
    load = Load(source, flags.seed)
    before_live = went_live = 0
    stopping = threading.Event()

    def read(reader):
        while not stopping.is_set():
            reader.poll()

    failed = []

    def guarded(reader):
        try:
            read(reader)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(reader,)) for reader in readers]
    for thread in threads:
        thread.start()
    started = time.monotonic()
    cluster = None
    try:
        for kill in range(flags.kills):
            cluster = Cluster(folder, flags.processes, chance.randint(1, 3))
            if chance.random() < 0.6:
                cluster.runs[0].live()
            moment = time.monotonic() + chance.choice([chance.uniform(0.05, 0.5), chance.uniform(0.05, 3)])
            while time.monotonic() < moment:
                cluster.alive()
                time.sleep(min(0.05, max(0, moment - time.monotonic())))
            if failed:
                raise failed[0]
            live = "live after" in cluster.runs[0].said()
            before_live, went_live = before_live + (not live), went_live + live
            cluster.kill_one(chance.randrange(flags.processes))
            if flags.kills > 20 and kill % 10 == 9:
                print(f"{kill + 1} kills, {[len(reader.all) for reader in readers]} changes, {time.monotonic() - started:.0f} s", flush=True)
        cluster = Cluster(folder, flags.processes, chance.randint(1, 3))
        cluster.runs[0].live()
        events = load.stop()
        # All short windows have ended by then.
        settled = max(event[2] for event in events) + 4000
        until("all windows have ended", lambda: now() > settled)
        expected = members_at(AUDIENCES, events, settled)
        try:
            until("readers have seen who belongs", lambda: failed or all(reader.members() == expected for reader in readers), 60)
        except AssertionError:
            for reader in readers:
                found = reader.members()
                print("missing", sorted(expected - found)[:10], "too many", sorted(found - expected)[:10])
            raise
        for run in cluster.runs:
            cluster.alive()
        cluster.runs[0].process.terminate()
        for run in cluster.runs:
            code = run.process.wait(PATIENCE)
            assert code == 0, f"it ended with {code}:\n{run.said()}"
    finally:
        load.stopping.set()
        stopping.set()
        for thread in threads:
            thread.join()
        for run in cluster.runs if cluster else []:
            run.kill()
    if failed:
        raise failed[0]
    expired = 0
    for reader in readers:
        reader.to_the_end()
        assert reader.members() == expected
        if exactly_once:
            expired += check_dates(AUDIENCES, reader.all, events)
    changes = sum(len(reader.all) for reader in readers)
    recovered = sum(change["reason"] == "recovery" for reader in readers for change in reader.all)
    repeats = sum(reader.repeats for reader in readers)
    assert went_live > 0, "it was never live when it was killed"
    print(
        f"{flags.kills} kills of {flags.processes} process(es), {flags.delivery}: {before_live} before it was live, {went_live} after; "
        f"{len(events)} events, {changes} changes ({recovered} by recovery, {expired} by expiry, each dated to the ms), "
        f"{len(expected)} members in the end; missing 0, duplicate {repeats}; {time.monotonic() - started:.0f} s"
    )
    shutil.rmtree(folder.path)


main()
