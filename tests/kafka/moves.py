"""A sync whose `to` changes from a topic to a file, to a webhook and back: its ledger follows it, so only the difference is sent, also where the job
is killed before its next checkpoint. What waits for an earlier destination is not dropped unasked.
"""

import json
import shutil

from common import BROKERS, Audience, Changes, Events, Folder, create, job, now, refused, unique, until

AUDIENCES = {"clicked": Audience(("clicked", 1, 3_600_000, True))}


def main():
    name = unique("moves")
    source, target = f"{name}-events", f"{name}-changes"
    create(source, 2)
    create(target, 2)
    to_topic = job(name, source, AUDIENCES, {"crm": (target, "")}, checkpoint_every="1h")
    topic = f"kafka: {{brokers: '{BROKERS}', topic: {target}}}"
    assert topic in to_topic

    def to(what):
        return to_topic.replace(topic, what)

    folder, reader, events = Folder(to_topic), Changes(target), Events(source)
    lines = folder.path / "changes.jsonl"

    def send(first, end):
        for number in range(first, end):
            events.send((f"u-{number}", "clicked", now()))
        events.flush()

    def in_topic():
        reader.poll()
        return [change["key"] for change in reader.all]

    def in_file():
        return [json.loads(line)["key"] for line in lines.read_text().splitlines()] if lines.exists() else []

    def users(first, end):
        return sorted(f"u-{number}" for number in range(first, end))

    def comes(what, read, expected, run):
        until(what, lambda: run.process.poll() is None and len(read()) >= len(expected))
        assert sorted(read()) == expected, f"{what}: {sorted(read())}"

    run = folder.start()
    run.live()
    send(0, 50)
    comes("the first come into the topic", in_topic, users(0, 50), run)
    run.stop()

    # The edit is worked out as the start does it.
    send(50, 60)
    folder.write(to("file: {path: changes.jsonl}"))
    code, out, said = folder.run("diff", "job.yaml", "--state", "state", "--read", "--json")
    assert code == 0, said
    [difference] = json.loads(out)["state"]["differences"]
    assert (difference["members"], difference["entries"], difference["exits"]) == (50, 10, 0), out
    run = folder.start()
    comes("what is new comes into the file", in_file, users(50, 60), run)
    run.live()
    assert "the ledger is taken over" in run.said(), run.said()
    run.kill()
    # No checkpoint was made since.
    send(60, 70)
    run = folder.start()
    comes("what is new comes into the file, once", in_file, users(50, 70), run)
    run.live()
    assert "the ledger is taken over" not in run.said(), run.said()
    run.stop()

    # Back.
    folder.write(to_topic)
    send(70, 80)
    run = folder.start()
    comes("what is new comes into the topic", in_topic, sorted(users(0, 50) + users(70, 80)), run)
    run.live()
    run.kill()
    send(80, 90)
    run = folder.start()
    comes("what is new comes into the topic, once", in_topic, sorted(users(0, 50) + users(70, 90)), run)
    run.live()
    run.stop()
    assert in_file() and sorted(in_file()) == users(50, 70)

    # Nobody listens there.
    folder.write(to("webhook: {url: 'http://127.0.0.1:9/'}"))
    send(90, 95)
    run = folder.start()
    run.live()
    run.stop()
    folder.write(to_topic)
    refused(folder, "the ledger of sync `crm` can't be taken over: 5 changes wait", "usher resend")
    code, _, said = folder.run("resend", "job.yaml", "crm")
    assert code == 0, said
    reader.exactly_once = False
    seen = len(in_topic())
    run = folder.start()
    until("all members come into the topic", lambda: run.process.poll() is None and len(in_topic()) >= seen + 95)
    run.live()
    run.stop()
    reader.to_the_end()
    assert sorted(change["key"] for change in reader.all[seen:]) == users(0, 95)
    print(f"a ledger that moves from a topic to a file, to a webhook and back: {len(reader.all)} messages, {len(in_file())} lines")
    shutil.rmtree(folder.path)


main()
