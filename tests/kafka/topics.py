"""Topics that are deleted under a running job: a ledger ends it with the reason, another target is named, and `usher resend` sends all anew."""

import shutil

from common import Audience, Changes, Events, Folder, create, delete, job, now, refused, unique, until

AUDIENCES = {"clicked": Audience(("clicked", 1, 3_600_000, True))}
KEYS = 20


def started(name):
    source, target = f"{name}-events", f"{name}-changes"
    create(source, 1)
    create(target, 1)
    folder = Folder(job(name, source, AUDIENCES, {"crm": (target, "")}, checkpoint_every="200ms"))
    reader, events = Changes(target), Events(source)
    run = folder.start(log="info,usher_dataflow=debug")
    run.live()
    for number in range(KEYS):
        events.send((f"u-{number}", "clicked", now()))
    events.flush()
    until("all have entered", lambda: reader.poll() and False or len(reader.all) == KEYS)
    made = run.checkpoints()
    until("that is in a checkpoint", lambda: run.checkpoints() >= made + 2)
    return folder, run, reader


def entered_anew(folder, target):
    """The next start sends all members again, and only once."""
    code, _, said = folder.run("resend", "job.yaml", "crm")
    assert code == 0 and "begins anew" in said, said
    run = folder.start()
    run.live()
    reader = Changes(target)
    until("all have entered again", lambda: reader.poll() and False or len(reader.members()) == KEYS)
    run.stop()
    run = folder.start()
    run.live()
    run.stop()
    return reader


def a_ledger_that_is_deleted():
    name = unique("gone")
    folder, run, _ = started(name)
    delete(f"usher.{name}.crm.ledger")
    said = run.ends_with(1)
    assert "ledger of sync `crm`" in said and "it was deleted" in said and "usher resend" in said, said
    refused(folder, "the ledger of sync `crm` is behind the checkpoint", "usher resend")
    # The entries of before are in the target: what comes again has the same ids, so no alternation is asked for.
    code, _, said = folder.run("resend", "job.yaml", "crm")
    assert code == 0, said
    run = folder.start()
    run.live()
    reader = Changes(f"{name}-changes", exactly_once=False)
    until("all have entered again", lambda: reader.poll() and False or len(reader.all) == 2 * KEYS)
    run.stop()
    run = folder.start()
    run.live()
    run.stop()
    reader.to_the_end()
    assert len(reader.all) == 2 * KEYS
    shutil.rmtree(folder.path)


def a_target_that_is_another_topic():
    name = unique("other")
    target = f"{name}-changes"
    folder, run, _ = started(name)
    delete(target)
    create(target, 1)
    run.says("the topic is another one than the sync has written to")
    assert "usher resend JOB crm" in run.said(), run.said()
    run.stop()
    # It is said at each start, until all is sent anew.
    run = folder.start()
    run.says("the topic is another one than the sync has written to")
    run.live()
    run.stop()
    reader = entered_anew(folder, target)
    reader.to_the_end()
    assert len(reader.all) == KEYS
    run = folder.start()
    run.live()
    assert "another one" not in run.said(), run.said()
    run.stop()
    shutil.rmtree(folder.path)


def a_source_that_is_missing_creates_nothing():
    name = unique("nothing")
    folder = Folder(job(name, f"{name}-nowhere", AUDIENCES, {"crm": (f"{name}-changes", ", partitions: 1")}))
    refused(folder, f"has no topic `{name}-nowhere`")
    from common import ADMIN

    topics = ADMIN.list_topics(timeout=10).topics
    assert not [topic for topic in topics if name in topic], topics
    shutil.rmtree(folder.path)


for claim in (a_ledger_that_is_deleted, a_target_that_is_another_topic, a_source_that_is_missing_creates_nothing):
    claim()
    print(claim.__name__)
