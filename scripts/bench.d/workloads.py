"""The workloads that are replayed: each is a list of points, a job over a file of events and a snapshot."""

import dataclasses

import jobs
from data import Events, Orders, Snapshot

USERS = 100_000
# The share of the messages that come late and twice in the workloads of that name.
LATE, TWICE = 0.1, 0.05


@dataclasses.dataclass(frozen=True)
class Point:
    """One place of an axis, or one bar."""

    workload: str
    series: str
    x: float
    job: str
    events: object
    users: Snapshot
    workers: int = 1
    # How many (key, fact)s are there in the end: what the workload `memory` divides by.
    facts: int = 0



def zipf(n):
    return [Point("zipf", "zipf", 0, jobs.segments(100), Events(n, USERS), Snapshot(USERS))]


def bots(n):
    return [Point("bots", "bots", 0, jobs.segments(100), Events(n, USERS, bots=10, of_bots=0.5), Snapshot(USERS))]


def disorder(n):
    return [Point("disorder", "disorder", 0, jobs.segments(100), Events(n, USERS, late=LATE), Snapshot(USERS))]


def duplicates(n):
    return [Point("duplicates", "duplicates", 0, jobs.segments(100), Events(n, USERS, twice=TWICE), Snapshot(USERS))]


def audiences(n):
    points = beside_dormant(n, "audiences", "segment", (1, 10, 100, 1_000, 10_000))
    return [*points, *point_and_start("audiences", "over 20 conditions", 1, jobs.dormant(1, None), n)]


def thresholds(n):
    return beside_dormant(n, "thresholds", "threshold", (1, 100, 1_000, 10_000))


def conditions(n):
    # An event is held against each of them in turn, so fewer are enough.
    return beside_dormant(n // 10, "conditions", "condition", (1, 100, 1_000, 10_000))


def beside_dormant(n, workload, by, sizes):
    return [point for size in sizes for point in point_and_start(workload, f"by {by}", size, jobs.dormant(size, by), n)]


def point_and_start(workload, series, x, job, n):
    """A point, and the same job with one message: what the start takes of it."""
    return [Point(workload, series + of_start, x, job, Events(count, USERS), Snapshot(USERS)) for of_start, count in (("", n), (", start", 1))]


def changes(n):
    # With 10 audiences a message makes some 9 changes, of 250 bytes each.
    events, users = Events(n // 4, USERS), Snapshot(USERS)
    return [Point("changes", "audiences", count, jobs.flipping(count), events, users) for count in (0, 1, 2, 5, 10)]


def windows(n):
    events, users = Events(n, USERS), Snapshot(USERS)
    lengths = {"5m": 300, "24h": 86_400, "30d": 30 * 86_400}
    return [Point("windows", "seconds", seconds, jobs.segments(100, [name]), events, users) for name, seconds in lengths.items()]


def users(n):
    job = jobs.segments(100)
    points = []
    for count in (10_000, 100_000, 1_000_000, 5_000_000):
        points.append(Point("users", "all", count, job, Events(n, count), Snapshot(count)))
        # What of it the start takes: reading the snapshot.
        points.append(Point("users", "start", count, job, Events(1, count), Snapshot(count)))
    return points


def workers(n):
    events, users, job = Events(n, USERS), Snapshot(USERS), jobs.segments(100)
    return [Point("workers", "workers", count, job, events, users, workers=count) for count in (1, 2)]


def memory(n):
    keys, facts = max(n * 3 // 10, 10_000), 5
    snapshot = Snapshot(keys)
    points = [Point("memory", "no key", 0, jobs.keeping(None, 0), Orders(keys, 1), Snapshot(1))]
    for each in (1, 2, 8):
        events = Orders(keys, each)
        points.append(Point("memory", "no fact", each, jobs.keeping(None, 0), events, snapshot, facts=keys))
        points += [Point("memory", kind, each, jobs.keeping(condition, facts), events, snapshot, facts=keys * facts) for kind, condition in jobs.KINDS]
    return points


REPLAYED = {f.__name__: f for f in (zipf, bots, disorder, duplicates, audiences, thresholds, conditions, changes, windows, users, workers, memory)}
