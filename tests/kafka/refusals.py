"""What can't be gone on from, or opened, is refused: exit code 3, with what is there, what was expected, and what to do."""

import json
import shutil
import time

from confluent_kafka import Producer

import common
from common import Audience, Changes, Events, Folder, create, delete, job, members_at, now, refused, unique, until

AUDIENCES = {"clicked": Audience(("clicked", 1, 3_600_000, True))}


def a_topic_made_anew():
    name = unique("anew")
    source, target = f"{name}-events", f"{name}-changes"
    create(source, 2)
    create(target, 1)
    folder = Folder(job(name, source, AUDIENCES, {"crm": (target, "")}, checkpoint_every="200ms"))
    events, reader = Events(source), Changes(target)
    run = folder.start(log="info,usher_dataflow=debug")
    run.live()
    for number in range(40):
        events.send((f"u-{number}", "clicked", now()), partition=number % 2)
    events.flush()
    until("all have entered", lambda: reader.poll() and False or len(reader.all) == 40)
    # The one that may have begun before is followed by one that has them all.
    made = run.checkpoints()
    until("their events are in a checkpoint", lambda: run.checkpoints() >= made + 2)
    run.stop()
    delete(source)
    create(source, 2)
    said = refused(folder, "is of another topic of that name", "and ends at 0", "the state has read `topic ", "` up to 20", "--restart-sources")
    again = Events(source)
    again.send(("u-new", "clicked", now()), partition=1)
    again.flush()
    run = folder.start("--restart-sources", log="info,usher_dataflow=debug")
    run.live()
    until("the new topic is read", lambda: reader.poll() and False or len(reader.all) == 41)
    # The state is of the new topic from the next checkpoint on.
    made = run.checkpoints()
    until("that is in a checkpoint", lambda: run.checkpoints() >= made + 2)
    run.stop()
    # What was held of it stays held, and the new one is gone on from.
    run = folder.start()
    run.live()
    run.stop()
    reader.to_the_end()
    assert len(reader.all) == 41 and reader.members() == members_at(AUDIENCES, events.taken + again.taken, now())
    shutil.rmtree(folder.path)
    return said


def a_topic_that_is_missing():
    name = unique("missing")
    source, target = f"{name}-events", f"{name}-changes"
    create(source, 1)
    folder = Folder(job(name, source[:-1], AUDIENCES, {"crm": (target, ", partitions: 1")}))
    refused(folder, f"has no topic `{source[:-1]}`", f"there is `{source}`")
    folder.write(job(name, source, AUDIENCES, {"crm": (f"{name}-nowhere", "")}))
    said = refused(folder, f"has no topic `{name}-nowhere`", "partitions: N")
    shutil.rmtree(folder.path)
    return said


def brokers_that_do_not_answer():
    name = unique("away")
    folder = Folder(job(name, name, AUDIENCES, {}).replace(common.BROKERS, "127.0.0.1:1").replace("syncs:\n", ""))
    begun = time.monotonic()
    said = refused(folder, "`127.0.0.1:1` did not answer within 30 s", "see that the brokers run")
    assert 25 < time.monotonic() - begun < 45
    shutil.rmtree(folder.path)
    return said


def a_log_that_would_forget():
    name = unique("forgets")
    source, target = f"{name}-events", f"{name}-changes"
    create(source, 1)
    create(target, 1)
    create(f"usher.{name}.crm.ledger", 1, cleanup_policy="delete")
    folder = Folder(job(name, source, AUDIENCES, {"crm": (target, "")}))
    said = refused(folder, f"usher.{name}.crm.ledger", "`cleanup.policy=delete`", "`compact`")
    shutil.rmtree(folder.path)
    return said


def a_log_that_is_someone_elses():
    name = unique("strange")
    source, target = f"{name}-events", f"{name}-changes"
    create(source, 1)
    create(target, 1)
    ledger = f"usher.{name}.crm.ledger"
    create(ledger, 1, cleanup_policy="compact")
    producer = Producer({"bootstrap.servers": common.BROKERS})
    producer.produce(ledger, json.dumps({"version": 99, "run": 1, "turn": 1, "clock": 1}), "!committed")
    assert producer.flush(30) == 0
    folder = Folder(job(name, source, AUDIENCES, {"crm": (target, "")}))
    said = refused(folder, "its format is version 99; this version reads up to 3")
    shutil.rmtree(folder.path)
    return said


for claim in (a_topic_made_anew, a_topic_that_is_missing, a_log_that_would_forget, a_log_that_is_someone_elses, brokers_that_do_not_answer):
    said = claim()
    print(f"{claim.__name__}: {next(line for line in said.splitlines() if line.startswith('error'))}")
