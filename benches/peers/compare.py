#!/usr/bin/env python3
"""Compares the changes of two peers: JSON objects, one a line, with `type`, `key`, `at` and, where there are several, `audience_id`.

    benches/peers/compare.py A B                    the same changes to the ms, in any order?
    benches/peers/compare.py A B --members-at TIME  the same members at that time (Unix ms)? B may have begun later than A

`at` is Unix ms or RFC 3339. Ends with 0 where they are the same, else with 1 and examples. Reads both files into memory.
"""

import argparse
import collections
import datetime
import json
import sys

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def ms(at):
    """Returns a time as Unix ms, exactly."""
    if isinstance(at, int):
        return at
    return (datetime.datetime.fromisoformat(at.replace("Z", "+00:00")) - EPOCH) // datetime.timedelta(milliseconds=1)


def changes(path):
    """Yields the changes of a file: (audience, key, type, ms). The only audience is the same for all."""
    with open(path, encoding="utf-8") as lines:
        for change in map(json.loads, lines):
            yield change.get("audience_id", "viewers"), change["key"], change["type"], ms(change["at"])


def read(path):
    """Returns how often each change is in a file."""
    return collections.Counter(changes(path))


def members(path, *times):
    """Returns, for each time, the memberships, (audience, key), after all changes of a file up to it; a second entry without an exit is an error."""
    balances = [(until, collections.Counter()) for until in times]
    for audience, key, kind, at in changes(path):
        for until, balance in balances:
            if at <= until:
                balance[audience, key] += 1 if kind == "entry" else -1
    for _, balance in balances:
        for membership, count in balance.items():
            if count not in (0, 1):
                raise ValueError(f"{membership} has {count} more entries than exits")
    return [{membership for membership, count in balance.items() if count} for _, balance in balances]


def difference(a, b):
    """Returns in words how two collections differ; an empty text where they do not."""
    only_a, only_b = a - b, b - a
    if not only_a and not only_b:
        return ""
    return f"{len(only_a)} only in the first, such as {sorted(only_a)[:3]}; {len(only_b)} only in the second, such as {sorted(only_b)[:3]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a")
    parser.add_argument("b")
    parser.add_argument("--members-at", type=int, metavar="TIME")
    flags = parser.parse_args()
    if flags.members_at is None:
        a, b, what = read(flags.a), read(flags.b), "changes"
    else:
        [a], [b], what = members(flags.a, flags.members_at), members(flags.b, flags.members_at), "members"
    found = difference(a, b)
    if found:
        sys.exit(found)
    total = sum(a.values()) if isinstance(a, collections.Counter) else len(a)
    print(f"the same {total} {what}")


if __name__ == "__main__":
    main()
