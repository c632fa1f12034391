"""A topic that has lost its end: the same topic, but shorter than what the state has read of it. That is refused: exit code 3, where it
ends, how far it was read, and the flag that decides.

A topic gets shorter without being made anew where its only replica loses what it wrote last, with a disk. So it is done here: the
broker is killed, the end of the partition's file is cut off, and the broker is started again; it takes what is left for all there
was. `KAFKA_SCRIPT` and `KAFKA_FOLDER` say how that is done: the broker is this scenario's own.
"""

import os
import shutil
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

import common
from common import Audience, Changes, Events, Folder, create, job, members_at, now, refused, turn, unique, until

AUDIENCES = {"clicked": Audience(("clicked", 1, 3_600_000, True))}
READ = 40


def end(topic):
    consumer = Consumer({"bootstrap.servers": common.BROKERS, "group.id": "none"})
    try:
        return consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=30)[1]
    finally:
        consumer.close()


def main():
    name = unique("loss")
    source, target = f"{name}-events", f"{name}-changes"
    create(source, 1)
    create(target, 1)
    folder = Folder(job(name, source, AUDIENCES, {"crm": (target, "")}, checkpoint_every="1h"))
    events, reader = Events(source), Changes(target)
    run = folder.start()
    run.live()
    for number in range(READ):
        events.send((f"u-{number}", "clicked", now()), partition=0)
        # Each in a batch of its own, so that some are left.
        events.flush()
    until("all have entered", lambda: reader.poll() and False or len(reader.all) == READ)
    # As it stops, all that was read goes into a checkpoint.
    run.stop()
    turn("kill")
    log = Path(os.environ["KAFKA_FOLDER"]) / "data" / f"{source}-0" / "00000000000000000000.log"
    os.truncate(log, log.stat().st_size // 2)
    turn("start")
    left = until("the partition is there again", lambda: end(source))
    assert 0 < left < READ, left
    said = refused(folder, f"`{source},00000` ends at {left}, but the state has read up to {READ}", "--restart-sources")
    # With the flag it goes on from what is there; what was held of the rest stays held.
    again = Events(source)
    run = folder.start("--restart-sources")
    run.live()
    again.send(("u-new", "clicked", now()), partition=0)
    again.flush()
    until("what is new is read", lambda: reader.poll() and False or len(reader.all) == READ + 1)
    run.stop()
    run = folder.start()
    run.live()
    run.stop()
    reader.to_the_end()
    assert len(reader.all) == READ + 1 and reader.members() == members_at(AUDIENCES, events.taken + again.taken, now())
    print(next(line for line in said.splitlines() if line.startswith("error")))
    shutil.rmtree(folder.path)


main()
