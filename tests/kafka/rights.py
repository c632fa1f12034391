"""Rights that are taken away are named, in the log and in the sync's status, and nothing is lost when they are given back.

Messages that librdkafka removes from its queue because their transaction has failed are a consequence, which is not what is shown.
"""

import shutil

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from common import ADMIN, Audience, Changes, Events, Folder, create, job, now, unique, until

AUDIENCES = {"clicked": Audience(("clicked", 1, 3_600_000, True))}


def deny(topic):
    """Forbids to write a topic, and gives what allows it again."""

    def rule(operation, permission):
        return (ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, "User:ANONYMOUS", "*", operation, permission)

    # A topic with a rule needs one for everything that is allowed.
    everything = rule(AclOperation.ALL, AclPermissionType.ALLOW)
    write = rule(AclOperation.WRITE, AclPermissionType.DENY)
    for made in ADMIN.create_acls([AclBinding(*everything)]).values():
        made.result(30)
    for made in ADMIN.create_acls([AclBinding(*write)]).values():
        made.result(30)

    def allow():
        for removed in ADMIN.delete_acls([AclBindingFilter(*write)]).values():
            removed.result(30)

    return allow


def main():
    name = unique("rights")
    source, target = f"{name}-events", f"{name}-changes"
    create(source, 1)
    create(target, 1)
    folder = Folder(job(name, source, AUDIENCES, {"crm": (target, "")}))
    reader, events = Changes(target), Events(source)
    run = folder.start()
    run.live()
    sent = 0
    for topic in (target, f"usher.{name}.crm.ledger"):
        allow = deny(topic)
        before = len(run.said())

        def named():
            nonlocal sent
            events.send((f"u-{sent}", "clicked", now()))
            sent += 1
            said = run.said()[before:]
            return said if "authorization failed" in said else None

        said = until("the missing right is named", named)
        assert "purged" not in said, said
        assert "allow the user" in said, said
        allow()
        events.flush()
        until("all have entered", lambda: reader.poll() and False or len(reader.all) == sent)
    run.stop()
    reader.to_the_end()
    assert len(reader.all) == sent
    shutil.rmtree(folder.path)
    print(f"rights taken away twice: named, and {sent} changes once each when they were given back")


main()
