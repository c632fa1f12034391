"""A change whose message is larger than the topic takes is a dead letter; all others come once, though the job is killed with -9 meanwhile.

Where the brokers do not show the topic's limit, such a message ends the job, and the client's own limit makes it a dead letter.
"""

import argparse
import json
import random
import shutil
import subprocess
import time

from confluent_kafka.admin import AclBinding, AclBindingFilter, AclOperation, AclPermissionType, ResourcePatternType, ResourceType

from common import ADMIN, USHER, Audience, Changes, Events, Folder, create, job, now, unique, until

AUDIENCES = {"clicked": Audience(("clicked", 1, 3_600_000, True))}
LIMIT = 8_000
API = 'api: {listen: "127.0.0.1:0"}'


# A message of a key that begins with `long` is too large for the topic.
FIELDS = """, fields: {pad: "{% if key is startingwith('long') %}{% for n in range(1000) %}0123456789{% endfor %}{% endif %}"}"""


def long_key(number):
    return f"long-{number}"


def asked(run, *order):
    """What a client of the job's API prints."""
    url = run.live().split("api on ")[1].split()[0]
    done = subprocess.run([USHER, "syncs", *order, "--json", "--url", url], capture_output=True, check=True, timeout=60)
    return json.loads(done.stdout)


def letters(run):
    found, cursor = [], ""
    while cursor is not None:
        page = asked(run, "dead-letters", "crm", "--limit", "20", "--cursor", cursor)
        found, cursor = found + page["dead_letters"], page["next_cursor"]
    return found


def killed(delivery, kills):
    name = unique("sizes")
    source, target = f"{name}-events", f"{name}-changes"
    create(source, 1)
    create(target, 2, max_message_bytes=LIMIT)
    once = delivery == "exactly_once"
    folder = Folder(job(name, source, AUDIENCES, {"crm": (target, f", delivery: {delivery}{FIELDS}")}, API))
    events, reader = Events(source), Changes(target, exactly_once=once)
    sent, too_long = 0, set()
    for kill in range(kills + 1):
        run = folder.start()
        if random.random() < 0.7 or kill == kills:
            run.live()
        until_when = time.monotonic() + random.uniform(0.2, 1.2)
        while time.monotonic() < until_when:
            key = long_key(sent) if sent % 10 == 9 else f"u-{sent}"
            events.send((key, "clicked", now()))
            too_long |= {key} if key.startswith("long") else set()
            sent += 1
            time.sleep(0.005)
        events.flush()
        if kill < kills:
            run.kill()
    small = sent - len(too_long)
    until("all that fit have come", lambda: reader.poll() and False or len(reader.ids) == small)

    def settled():
        sync = asked(run)["syncs"][0]
        return sync["waiting"] == 0 and sync["committed"] == sent and sync

    until("all is committed", settled)
    sync = settled()
    assert (sync["delivered"], sync["dead_letters"], sync["last_error"]) == (small, len(too_long), None), sync
    found = letters(run)
    assert sorted(letter["key"] for letter in found) == sorted(too_long), "each once, and no other"
    answers = {letter["answer"].split("bytes ")[1] for letter in found}
    assert answers == {f"is larger than the topic's `max.message.bytes`, {LIMIT - 61}"}, answers
    run.stop()
    # The next start sends nothing again, and lists the same.
    run = folder.start()
    assert letters(run) == found
    run.stop()
    reader.to_the_end()
    assert len(reader.ids) == small and (not once or len(reader.all) == small)
    shutil.rmtree(folder.path)
    return f"{kills} kills, {delivery}: {small} changes came, {len(too_long)} are dead letters, {reader.repeats} repeats"


def hidden():
    """The user may not describe the topic's settings."""
    name = unique("hidden")
    source, target = f"{name}-events", f"{name}-changes"
    create(source, 1)
    create(target, 1, max_message_bytes=LIMIT)

    def rule(operation, permission):
        return (ResourceType.TOPIC, target, ResourcePatternType.LITERAL, "User:ANONYMOUS", "*", operation, permission)

    everything = rule(AclOperation.ALL, AclPermissionType.ALLOW)
    describe = rule(AclOperation.DESCRIBE_CONFIGS, AclPermissionType.DENY)
    for one in (everything, describe):
        for made in ADMIN.create_acls([AclBinding(*one)]).values():
            made.result(30)
    # Brokers measure what is compressed.
    plain = f"{target}, properties: {{compression.type: none}}"
    folder = Folder(job(name, source, AUDIENCES, {"crm": (plain, FIELDS)}, API))
    events, reader = Events(source), Changes(target)
    run = folder.start()
    run.live()
    for key in ("u-1", long_key(1), "u-2"):
        events.send((key, "clicked", now()))
    events.flush()
    said = run.ends_with(1)
    assert long_key(1) in said and "describe the topic's settings" in said, said[-2_000:]
    own = f"{target}, properties: {{compression.type: none, message.max.bytes: {LIMIT - 500}}}"
    folder.write(job(name, source, AUDIENCES, {"crm": (own, FIELDS)}, API))
    run = folder.start()
    until("those that fit have come", lambda: reader.poll() and False or len(reader.all) == 2)
    found = until("it is listed", lambda: letters(run))
    assert [letter["key"] for letter in found] == [long_key(1)] and "the client's `message.max.bytes`" in found[0]["answer"]
    run.stop()
    for removed in ADMIN.delete_acls([AclBindingFilter(*describe)]).values():
        removed.result(30)
    shutil.rmtree(folder.path)
    return "a limit that is not shown: the job ends with 1, and goes on with a limit of its own"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=10)
    kills = parser.parse_args().kills
    for delivery in ("exactly_once", "at_least_once"):
        print(killed(delivery, kills))
    print(hidden())


main()
