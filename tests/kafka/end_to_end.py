"""From a topic to a topic: every change is the one that the events imply, dated to the ms, and a replay gives the same (SPEC §1, §2).

Events are dated some seconds ahead, so that each is known before it takes effect, however busy the machine: then the changes of a
live run are determined to the ms. The replay of the topic, and of files of the same messages, has to give the same bytes.
"""

import json
import random
import shutil

from common import Audience, Changes, Events, Folder, body, changes_of, create, job, members_at, now, unique, until

AUDIENCES = {
    "clicked": Audience(("clicked", 1, 1000, True)),
    "twice": Audience(("clicked", 2, 1500, True)),
    "idle": Audience(("bought", 1, 3_600_000, True), ("clicked", 1, 1200, False)),
}
PARTITIONS = 4


def main():
    name = unique("end-to-end")
    source, target = f"{name}-events", f"{name}-changes"
    create(source, PARTITIONS)
    syncs = {"crm": (target, ", partitions: 3")}
    folder = Folder(job(name, source, AUDIENCES, syncs))
    run = folder.start("-w", "2")
    run.live()
    reader = Changes(target)

    chance = random.Random(42)
    start = now() + 4000
    planned = []
    for _ in range(1200):
        key = f"u-{chance.randrange(60)}"
        planned.append((key, "bought" if chance.random() < 0.15 else "clicked", start + chance.randrange(5000)))
    # Some come twice.
    planned = sorted(set(planned), key=lambda event: event[2])
    planned = sorted(planned + planned[::17], key=lambda event: event[2])
    events = Events(source)
    for event in planned:
        # A key's events go to one partition; each partition's times ascend.
        events.send(event, partition=int(event[0][2:]) % PARTITIONS)
    events.flush()
    assert now() < start, "the machine is too slow: events were written after their time"

    # By then all but the hour's windows have ended.
    end = planned[-1][2] + 1500
    expected = [change for change in changes_of(AUDIENCES, planned) if change[0] <= end]
    until("all changes have come", lambda: reader.poll() and False or len(reader.all) >= len(expected))
    run.stop()
    reader.to_the_end()
    found = sorted((change["ms"], change["audience_id"], change["key"], change["type"]) for change in reader.all)
    assert found == expected, f"{len(found)} changes of {len(expected)}; first apart: {next(pair for pair in zip(found, expected) if pair[0] != pair[1])}"
    assert reader.members() == members_at(AUDIENCES, planned, end)

    # The same from files: a partition each, in the same order.
    (folder.path / "partitions").mkdir()
    for number in range(PARTITIONS):
        taken = sorted((event for event in events.taken if event[3] == number), key=lambda event: event[4])
        (folder.path / "partitions" / f"{number:05}.jsonl").write_bytes(b"".join(body(event) + b"\n" for event in taken))
    kafka = (folder.path / "job.yaml").read_text()
    line = next(line for line in kafka.split("\n") if line.startswith("  web:"))
    (folder.path / "files.yaml").write_text(kafka.replace(line, "  web: {file: {path: partitions}, format: segment}"))
    flags = ["--now", str(end), "--until", str(end)]
    outputs = []
    for of, workers in (("job.yaml", "1"), ("job.yaml", "3"), ("files.yaml", "2")):
        code, out, said = folder.run("replay", of, "-w", workers, *flags)
        assert code == 0, said
        outputs.append(out)
    assert outputs[0] == outputs[1] == outputs[2], "a replay of the topic and one of files differ"
    replayed = {change["id"]: change for change in map(json.loads, outputs[0].splitlines())}
    assert len(replayed) == len(expected)
    sent = {change["id"] for change in reader.all}
    assert sent == set(replayed), "a live run and a replay give the same changes, with the same ids"
    exits = sum(kind == "exit" for *_, kind in expected)
    print(f"{len(planned)} messages, {len(expected)} changes, of them {exits} exits, each at its ms; three replays of {len(outputs[0])} bytes alike")
    shutil.rmtree(folder.path)


main()
