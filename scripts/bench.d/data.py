"""What the workloads of `scripts/bench` read: files of Segment messages, and snapshots of users in Parquet.

The same numbers give the same bytes. A file is written once, under a name that its numbers give, and is used again. Messages have some 920 bytes, as those of the
canonical benchmark. Uses the standard library alone: a snapshot is plain Parquet, without compression, dictionaries or nulls.
"""

import dataclasses
import math
import multiprocessing
import os
import random
import struct
import time

# 2026-11-01T00:00:00Z, s. No event of a replay is later than `NOW`.
START = 1_793_491_200
NOW = "2026-12-01T00:00:00Z"
EULER = 0.5772156649
COUNTRIES = ["de", "fr", "us", "gb", "es", "it", "nl", "pl"]
CATEGORIES = ["shoes", "coats", "hats", "bags", "socks"]
PATHS = ["/pricing", "/", "/sale", "/help"]
# Of 100 messages so many are pages and so many tracks of each name.
KINDS = [(50, None), (20, "Product Added"), (20, "Product Viewed"), (6, "Checkout Started"), (4, "Order Completed")]
# How many different heads and bodies the messages are put together from.
HEADS, BODIES = 2_048, 4_096
CHUNK = 10_000
ROWS_OF_A_GROUP = 100_000


@dataclasses.dataclass(frozen=True)
class Events:
    """A file of messages over `span` seconds, of users that Zipf's law with exponent 1 draws.

    Of all messages the share `late` comes up to 10 minutes late, and the share `twice` comes again right after the next message. The share `of_bots` is of
    `bots` users, each alike.
    """

    count: int
    users: int
    late: float = 0.0
    twice: float = 0.0
    bots: int = 0
    of_bots: float = 0.0
    span: int = 7_200

    def path(self, folder):
        """The file, which is written if it is not there."""
        numbers = "-".join(f"{value:g}" if isinstance(value, float) else str(value) for value in dataclasses.astuple(self))
        return once(folder / f"events-{numbers}.jsonl", self.write)

    def write(self, path):
        rng = random.Random(2)
        heads, bodies = [head(rng) for _ in range(HEADS)], [body(rng) for _ in range(BODIES)]
        seconds = [time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(START + second)) for second in range(self.span)]
        millis = [f"{ms:03}Z" for ms in range(1_000)]
        uniform, exp, users, bots = rng.random, math.exp, self.users, self.bots
        ln = math.log(users) + EULER
        step = self.span * 1_000 / self.count
        held = None
        with open(path, "wb") as out:
            for first in range(0, self.count, CHUNK):
                lines = []
                for number in range(first, min(first + CHUNK, self.count)):
                    at = int(number * step)
                    if self.late and uniform() < self.late:
                        at = max(0, at - int(uniform() * 600_000))
                    if bots and uniform() < self.of_bots:
                        user = int(uniform() * bots)
                    else:
                        user = min(int(exp(uniform() * ln - EULER)), users - 1)
                    # Names are scattered, as ids of users are.
                    user = user * 7_368_787 % users
                    date = seconds[at // 1_000] + millis[at % 1_000]
                    draw = int(uniform() * HEADS * BODIES)
                    line = (
                        f'{heads[draw % HEADS]}"messageId":"m-{number:010}-655083bf",{bodies[draw // HEADS]}"receivedAt":"{date}","sentAt":"{date}",'
                        f'"originalTimestamp":"{date}","timestamp":"{date}","userId":"user-{user:07}","version":2}}\n'
                    )
                    lines.append(line)
                    if held:
                        lines.append(held)
                        held = None
                    if self.twice and uniform() < self.twice:
                        held = line
                out.write("".join(lines).encode())


@dataclasses.dataclass(frozen=True)
class Orders:
    """A file of `each` orders of each user, within an hour."""

    users: int
    each: int

    def path(self, folder):
        """The file, which is written if it is not there."""
        return once(folder / f"orders-{self.users}-{self.each}.jsonl", self.write)

    def write(self, path):
        rng = random.Random(3)
        count = self.users * self.each
        with open(path, "w") as out:
            for number in range(count):
                out.write(
                    f'{{"type":"track","event":"Ordered","userId":"user-{number % self.users:07}","messageId":"m{number}","timestamp":{START * 1_000 + number * 3_600_000 // count},'
                    f'"properties":{{"revenue":{rng.randrange(100)},"sku":"s{rng.randrange(1_000)}"}}}}\n'
                )


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A Parquet file of so many users: `user_id`, `ltv` from 0 to 1,000, `country`, one of 8."""

    users: int

    def path(self, folder):
        """The file, which is written if it is not there."""
        return once(folder / f"users-{self.users}.parquet", self.write)

    def write(self, path):
        rng = random.Random(1)
        with open(path, "wb") as out:
            parquet = Parquet(out, [("user_id", TEXT), ("ltv", DOUBLE), ("country", TEXT)])
            for first in range(0, self.users, ROWS_OF_A_GROUP):
                rows = range(first, min(first + ROWS_OF_A_GROUP, self.users))
                ids = text_column(b"user-%07d" % user for user in rows)
                values = struct.pack(f"<{len(rows)}d", *(int(rng.random() * 100_000) / 100 for _ in rows))
                countries = text_column(COUNTRIES[user % len(COUNTRIES)].encode() for user in rows)
                parquet.group(len(rows), [ids, values, countries])
            parquet.close()


def once(path, write):
    """Has a process of its own write a file whole, if it is not there: what it allocates is not in the peak of later children of this process."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name("part-" + path.name)
        writer = multiprocessing.get_context("fork").Process(target=write, args=(part,))
        writer.start()
        writer.join()
        assert writer.exitcode == 0, f"{path} could not be written"
        os.rename(part, path)
    return path


def head(rng):
    id = rng.getrandbits(64)
    return (
        f'{{"anonymousId":"{id:016x}-a2b1","context":{{"active":true,"app":{{"name":"Shop","version":"5.4.{rng.randrange(50)}","build":"3.0.1.545"}},'
        '"campaign":{"name":"Autumn Sale","source":"Newsletter","medium":"email","term":"warm coats","content":"image link"},'
        '"device":{"id":"B5372DB0-C21E-11E4-8DFC-AA07A5B093DB","manufacturer":"Apple","model":"iPhone15,2","type":"ios"},'
        f'"ip":"10.8.{rng.randrange(256)}.{rng.randrange(256)}","library":{{"name":"analytics.js","version":"2.11.1"}},"locale":"en-US",'
        '"timezone":"Europe/Amsterdam","userAgent":"Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X)"},'
    )


def body(rng):
    name = rng.choices([name for _, name in KINDS], [share for share, _ in KINDS])[0]
    category, price = rng.choice(CATEGORIES), rng.randrange(100, 30_000)
    if name is None:
        what = f'"type":"page","name":"Page","properties":{{"path":"{rng.choice(PATHS)}","title":"Our shop","category":"{category}","referrer":"https://search.example/?q=coats"}}'
    else:
        what = f'"type":"track","event":"{name}","properties":{{"category":"{category}","sku":"S-{price}","revenue":{price / 100:.2f},"currency":"EUR"}}'
    return what + ',"integrations":{"All":true,"Mixpanel":false},'


# --- Parquet: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift, in Thrift's compact protocol ---

DOUBLE, TEXT = 5, 6
UTF8, REQUIRED, PLAIN, RLE, UNCOMPRESSED, DATA_PAGE = 0, 0, 0, 3, 0, 0


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def thrift(value):
    """A value's type in the compact protocol, and its bytes: `int` (one type for i32 and i64 would be wrong: see `I32`), text, lists, structs as `{id: value}`."""
    if isinstance(value, I32):
        return 5, varint(value << 1)
    if isinstance(value, int):
        return 6, varint(value << 1)
    if isinstance(value, str):
        return 8, varint(len(value.encode())) + value.encode()
    if isinstance(value, list):
        items = [thrift(item) for item in value]
        size = len(items)
        kind = items[0][0]
        return 9, (bytes([size << 4 | kind]) if size < 15 else bytes([0xF0 | kind]) + varint(size)) + b"".join(item for _, item in items)
    out, last = bytearray(), 0
    for id, field in value.items():
        kind, encoded = thrift(field)
        out += bytes([id - last << 4 | kind]) + encoded
        last = id
    return 12, bytes(out) + b"\0"


class I32(int):
    """A number that the schema has as i32; none is negative."""


def text_column(values):
    """Values of text, each after its length."""
    return b"".join([len(value).to_bytes(4, "little") + value for value in values])


class Parquet:
    """Writes a file of required columns, a page of each in a row group."""

    def __init__(self, out, columns):
        self.out, self.columns, self.groups, self.rows = out, columns, [], 0
        out.write(b"PAR1")

    def group(self, rows, columns):
        """Writes a row group, of each column's plain values."""
        chunks, size = [], 0
        for (name, kind), values in zip(self.columns, columns):
            length = I32(len(values))
            page = {1: I32(DATA_PAGE), 2: length, 3: length, 5: {1: I32(rows), 2: I32(PLAIN), 3: I32(RLE), 4: I32(RLE)}}
            at, header = self.out.tell(), thrift(page)[1]
            self.out.write(header + values)
            total = len(header) + len(values)
            size += total
            meta = {1: I32(kind), 2: [I32(PLAIN)], 3: [name], 4: I32(UNCOMPRESSED), 5: rows, 6: total, 7: total, 9: at}
            chunks.append({2: at, 3: meta})
        self.groups.append({1: chunks, 2: size, 3: rows})
        self.rows += rows

    def close(self):
        """Writes the footer."""
        schema = [{4: "users", 5: I32(len(self.columns))}]
        for name, kind in self.columns:
            column = {1: I32(kind), 3: I32(REQUIRED), 4: name}
            schema.append({**column, 6: I32(UTF8)} if kind == TEXT else column)
        footer = thrift({1: I32(1), 2: schema, 3: self.rows, 4: self.groups})[1]
        self.out.write(footer + len(footer).to_bytes(4, "little") + b"PAR1")
