"""Of two instances of a job that start nearly at once, each with a state of its own, at most one goes on, and each change is sent once.

    duel.py [--rounds N] [--seed N]

In each round two instances of one job start, the second at a random moment within 2 s after the first, while events come. A
read_committed reader checks each change as it comes: entry and exit alternate, no id comes twice. Within a while one instance at
most lives; the other has ended with the reason. Then the one that lives is killed, or stopped.
"""

import argparse
import random
import shutil
import threading
import time

from common import Audience, Changes, Events, Folder, create, job, members_at, now, unique, until

AUDIENCES = {
    "clicked": Audience(("clicked", 1, 1000, True)),
    "twice": Audience(("clicked", 2, 1500, True)),
    "buyers": Audience(("bought", 1, 3_600_000, True)),
}
KEYS = 60
SPREAD = 2.0
SAYS = "is now another process's"


def main():
    flags = argparse.ArgumentParser()
    flags.add_argument("--rounds", type=int, default=4)
    flags.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    flags = flags.parse_args()
    print(f"seed {flags.seed}", flush=True)
    chance = random.Random(flags.seed)
    name = unique("duel")
    source, target = f"{name}-events", f"{name}-changes"
    create(source, 2)
    create(target, 3)
    text = job(name, source, AUDIENCES, {"crm": (target, ", commit_every: 20ms")}, checkpoint_every="500ms")
    reader, events, stopping, failed = Changes(target), Events(source), threading.Event(), []

    def produce():
        while not stopping.wait(0.01):
            name = "bought" if chance.random() < 0.1 else "clicked"
            events.send((f"u-{chance.randrange(KEYS)}", name, now()))

    def read():
        try:
            while not stopping.is_set():
                reader.poll()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=produce), threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    runs, folders, both_ended, offsets = [], [], 0, []
    try:
        for round in range(flags.rounds):
            # Half of the offsets are within the moment in which one opens its sync.
            offset = chance.uniform(0, SPREAD) if round % 2 else chance.uniform(0, 0.1)
            offsets.append(offset)
            pair = [Folder(text), Folder(text)]
            folders += pair
            first = pair[0].start("-w", str(chance.randint(1, 2)))
            time.sleep(offset)
            runs = [first, pair[1].start("-w", str(chance.randint(1, 2)))]

            def settled():
                if failed:
                    raise failed[0]
                alive = [run for run in runs if run.process.poll() is None]
                live = [run for run in alive if "live after" in run.said()]
                return len(alive) <= 1 and len(live) == len(alive)

            until(f"one of two lives, round {round}, offset {offset:.3f} s", settled)
            alive = [run for run in runs if run.process.poll() is None]
            both_ended += not alive
            for run in runs:
                if run not in alive:
                    assert run.process.returncode in (1, 3), run.said()
                    assert SAYS in run.said() and "hint: " in run.said(), run.said()
            for run in alive:
                # It commits on, alone.
                since = now()
                until("it sends changes", lambda: failed or any(change["ms"] > since for change in reader.all[-50:]))
                run.kill() if chance.random() < 0.5 else run.stop()
        folder = Folder(text)
        folders.append(folder)
        runs = [folder.start()]
        runs[0].live()
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
        if failed or len(runs) != 1:
            for run in runs:
                run.kill()
    if failed:
        raise failed[0]
    events.flush()
    at = max(event[2] for event in events.taken) + 2000
    until("all windows have ended", lambda: now() > at)
    expected = members_at(AUDIENCES, events.taken, at)
    until("the reader has seen who belongs", lambda: reader.poll() and False or reader.members() == expected)
    runs[0].stop()
    reader.to_the_end()
    assert reader.members() == expected
    for folder in folders:
        shutil.rmtree(folder.path)
    print(
        f"{flags.rounds} pairs, offsets up to {max(offsets):.2f} s: at most one of each lived, both ended {both_ended} times; "
        f"{len(events.taken)} events, {len(reader.all)} changes once each"
    )


main()
