"""A cold start reads from as far back as the longest window reaches, not from the beginning (SPEC §6).

The topic holds three days; the job's longest window has 24 hours. The offsets that reading starts from are in the log. A replay with `--from`
reads as far back, but for a source that sets a live column: its latest value counts, however old it is.
"""

import json
import random
import re
import shutil

from common import BROKERS, Audience, Changes, Events, Folder, create, job, members_at, now, rfc3339, unique, until

HOUR = 3_600_000
AUDIENCES = {
    "today": Audience(("clicked", 3, 24 * HOUR, True)),
    "lately": Audience(("clicked", 1, HOUR, True)),
    "buyers": Audience(("bought", 1, 24 * HOUR, True), ("clicked", 2, 6 * HOUR, False)),
}
SKEW = 300_000


def main():
    name = unique("history")
    source, target = f"{name}-events", f"{name}-changes"
    # Retention looks at the messages' own times.
    create(source, 4, retention_ms=-1)
    create(target, 3)
    chance = random.Random(7)
    begin = now() - 72 * HOUR
    # None so near to a window's edge that the time of the start decides.
    edges = (HOUR, 6 * HOUR, 24 * HOUR)
    times = (chance.randrange(begin, begin + 72 * HOUR) for _ in range(30_000))
    clear = sorted(ts for ts in times if all(abs(begin + 72 * HOUR - ts - edge) > 240_000 for edge in edges))
    planned = [(f"u-{chance.randrange(2000)}", "bought" if chance.random() < 0.1 else "clicked", ts) for ts in clear]
    events = Events(source)
    for event in planned:
        events.send(event)
    events.flush()

    folder = Folder(job(name, source, AUDIENCES, {"crm": (target, "")}))
    run = folder.start("-w", "2")
    said = run.live()
    live = now()
    starts = {int(p): int(o) for p, o in re.findall(r"partition=(\d+) offset=(\d+)", said)}
    assert len(starts) == 4, said
    since = live - 24 * HOUR - SKEW
    for number, start in starts.items():
        of = sorted((event for event in events.taken if event[3] == number), key=lambda event: event[4])
        # The start was a little earlier than when it said so.
        first = next(event[4] for event in of if event[2] >= since)
        earlier = next(event[4] for event in of if event[2] >= since - 90_000)
        assert earlier <= start <= first, f"partition {number}: starts at {start}, not in {earlier}..={first}"
        assert start > 0
    read = sum(1 for event in events.taken if event[4] >= starts[event[3]])
    counted = int(re.search(r"live after [\d.]+ s: (\d+) messages read", said).group(1))
    assert counted == read, f"{counted} messages were read, {read} lie behind the offsets"
    assert read < len(planned) * 0.36

    expected = members_at(AUDIENCES, planned, live)
    reader = Changes(target)
    until("all have entered", lambda: reader.poll() and False or len(reader.all) >= len(expected))
    run.stop()
    reader.to_the_end()
    assert reader.members() == expected
    assert all(change["type"] == "entry" and change["reason"] == "definition" for change in reader.all)
    print(f"{len(planned)} messages of three days, {read} read from offsets {[starts[p] for p in sorted(starts)]}; {len(expected)} members when live")
    shutil.rmtree(folder.path)
    live_columns(name)


def live_columns(name):
    source = f"{name}-live"
    create(source, 1, retention_ms=-1)
    events, ago = Events(source), lambda hours: now() - hours * HOUR
    events.send(("p", "pro", ago(400)))
    events.send(("q", "free", ago(12)))
    events.flush()
    folder = Folder(
        f"""
job: {name}
sources:
  web: {{kafka: {{brokers: '{BROKERS}', topic: {source}}}, format: {{json: {{key: userId, time: timestamp, id: messageId}}}}}}
models: {{users: {{key: id, columns: {{plan: {{type: string, live: {{event: named, property: event}}}}}}}}}}
events: {{named: {{source: web, model: users, properties: {{event: string}}}}}}
audiences: {{pro: {{model: users, where: {{property: "plan = 'pro'"}}}}}}
"""
    )
    code, changes, said = folder.run("replay", "job.yaml", "--from", rfc3339(ago(24)))
    assert code == 0, said
    found = [(change["type"], change["key"]) for change in map(json.loads, changes.splitlines())]
    assert found == [("entry", "p")], said
    shutil.rmtree(folder.path)


main()
