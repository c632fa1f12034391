"""New partitions are read from their start: those that come while the job runs, and those that came while it was down."""

import shutil

from common import Audience, Changes, Events, Folder, create, job, members_at, now, unique, until, widen

AUDIENCES = {"clicked": Audience(("clicked", 1, 3_600_000, True))}


def main():
    name = unique("partitions")
    source, target = f"{name}-events", f"{name}-changes"
    create(source, 1)
    create(target, 1)
    folder = Folder(job(name, source, AUDIENCES, {"crm": (target, "")}))
    events, reader = Events(source), Changes(target)

    def send(partition):
        for number in range(5):
            # Its partition is chosen here; a new one has to be known to the client.
            events.send((f"u-{partition}-{number}", "clicked", now()), partition=partition)
        events.flush()

    def seen():
        reader.poll()
        return reader.members() == members_at(AUDIENCES, events.taken, now())

    run = folder.start("-w", "2")
    run.live()
    send(0)
    until("the first partition is read", seen)
    widen(source, 3)
    events.flush()
    events = after(events)
    send(1)
    send(2)
    until("partitions that came while it ran are read", seen)
    run.stop()

    widen(source, 5)
    events = after(events)
    send(3)
    send(1)
    run = folder.start("-w", "1")
    run.live()
    until("a partition that came while it was down is read from its start", seen)
    send(4)
    until("as is one that was empty then", seen)
    run.kill()

    widen(source, 6)
    events = after(events)
    send(5)
    send(4)
    run = folder.start("-w", "3")
    run.live()
    until("and one that came while it was killed", seen)
    run.stop()
    reader.to_the_end()
    assert len(reader.all) == len(events.taken) - 10, "nobody entered twice"
    print(f"{len(events.taken)} messages in 6 partitions, of which 5 came later; {len(reader.all)} changes")
    shutil.rmtree(folder.path)


def after(events):
    """A producer that knows of the new partitions, with what was taken so far."""
    new = Events(events.topic)
    new.taken = events.taken
    return new


main()
