"""Workloads of a job that runs: latency from an append to the change, a burst of expiry, users that keep coming, and a pull of a large snapshot.

Changes are seen by notices of the file system as they are written, so a look costs no time in between. What appends and what watches shares the machine with the program.
Each workload returns points: `figures` (name to value), and what its plot needs.
"""

import ctypes
import http.client
import importlib.util
import json
import math
import multiprocessing
import os
import random
import re
import select
import signal
import subprocess
import sys
import threading
import time

import data

# Messages are appended so often at most, s: finer than the job's own tick would cost more than it shows.
SLICE = 0.001
PATIENCE = 300
IN_MODIFY = 2
KEY = re.compile(rb'"key":"user-0*(\d+)"')
# Upper bounds of the histograms, ms: 10 a decade.
BOUNDS = [10 ** (step / 10) for step in range(-5, 41)]


class Running:
    """`usher run` of a job in a folder, from when it is live until it is stopped."""

    def __init__(self, program, folder, job, workers=1):
        (folder / "job.yaml").write_text(job)
        self.lines, self.more = [], threading.Condition()
        command = [program, "run", "job.yaml", "-w", str(workers)]
        self.process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        self.url = self.says(r"api on http://(\S+)")
        self.says(r"live after")

    def read(self):
        for line in self.process.stderr:
            with self.more:
                self.lines.append(line)
                self.more.notify_all()
        with self.more:
            self.lines.append(None)
            self.more.notify_all()

    def says(self, pattern):
        """Awaits a line of the log, and returns what the pattern's group matches in it."""
        def found():
            matches = (re.search(pattern, line) for line in self.lines if line)
            return next((match[match.re.groups] for match in matches if match), None) or (None in self.lines and "ended")

        with self.more:
            match = self.more.wait_for(found, PATIENCE)
        assert match and match != "ended", "the program did not come to `%s`:\n%s" % (pattern, "".join(filter(None, self.lines)))
        return match

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection(self.url)
        connection.request(method, path, body and json.dumps(body), {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        text = answer.read().decode()
        assert answer.status < 300, (path, answer.status, text)
        return text

    def metric(self, name):
        return float(re.search(rf"^{re.escape(name)} (\S+)$", self.ask("GET", "/metrics"), re.MULTILINE)[1])

    def epochs(self):
        """How many epochs there were, and how many of them were longer than some times, ms."""
        text = self.ask("GET", "/metrics")
        buckets = {float(bound): int(count) for bound, count in re.findall(r'usher_epoch_seconds_bucket\{le="([^"]+)"\} (\d+)', text)}
        return {bound * 1_000: buckets[math.inf] - count for bound, count in buckets.items() if bound < math.inf} | {0: buckets[math.inf]}

    def used(self):
        """Processor time, s."""
        return self.metric("process_cpu_seconds_total")

    def peak(self):
        """The most memory so far, bytes."""
        status = open(f"/proc/{self.process.pid}/status").read()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1_024

    def stop(self):
        """Stops it, and returns the greatest lag since it was live, ms, by its own account."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE) == 0, "".join(filter(None, self.lines))
        self.reader.join()
        log = "".join(filter(None, self.lines))
        number, unit = re.search(r"max lag since live: ([\d.,]+) (ms|s)", log).groups()
        return float(number.replace(",", "")) * (1 if unit == "ms" else 1_000)

    def end(self):
        """Ends it, if it runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Tail:
    """The changes that are appended to a file: when each user of a number was seen first, by the monotonic clock, ns."""

    def __init__(self, path, count):
        path.touch()
        self.file = open(path, "rb")
        self.seen = [0] * count
        self.found, self.rest = 0, b""
        libc = ctypes.CDLL(None, use_errno=True)
        self.notices = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self.notices >= 0 and libc.inotify_add_watch(self.notices, os.fsencode(path), IN_MODIFY) >= 0, os.strerror(ctypes.get_errno())
        self.poll = select.poll()
        self.poll.register(self.notices, select.POLLIN)

    def until(self, done):
        """Reads what comes until `done` returns true, which is looked at ten times a second at least."""
        while not done():
            if self.poll.poll(100):
                os.read(self.notices, 1 << 16)
            chunk = self.file.read()
            if chunk:
                now = time.monotonic_ns()
                *lines, self.rest = (self.rest + chunk).split(b"\n")
                for line in lines:
                    number = int(KEY.search(line)[1])
                    if not self.seen[number]:
                        self.seen[number] = now
                        self.found += 1

    def close(self):
        os.close(self.notices)
        self.file.close()


def append(path, sent, rate, until):
    """Appends page views to a file: see `paced`."""
    out = os.open(path, os.O_WRONLY | os.O_APPEND)
    paced(sent, rate, until, lambda lines: os.write(out, "".join(f"{line}\n" for line in lines).encode()))
    os.close(out)


def paced(sent, rate, until, write):
    """Writes a page view, dated now, of each user from 0, so many a second, as long as `until` lasts; notes when each was written, in `sent`."""
    rng = random.Random(4)
    heads = [data.head(rng) for _ in range(256)]
    page = '"type":"page","name":"Page","properties":{"path":"/","title":"Our shop","category":"hats"},'
    start, number = time.monotonic_ns(), 0
    while number < len(sent) and time.monotonic_ns() < until.value:
        due = min(int((time.monotonic_ns() - start) * rate / 1e9), len(sent))
        date = int(time.time() * 1_000)
        lines = [f'{heads[n % 256]}"messageId":"p-{n}",{page}"timestamp":{date},"userId":"user-{n:09}"}}' for n in range(number, due)]
        sent[number:due] = [time.monotonic_ns()] * (due - number)
        if lines:
            write(lines)
        number = due
        time.sleep(SLICE)


class Probes:
    """Page views of new users that a process appends, and the changes that they make, for `seconds` or until `finish` is called."""

    def __init__(self, events, changes, rate, seconds):
        count = int(rate * seconds)
        context = multiprocessing.get_context("fork")
        self.sent = context.RawArray("q", count)
        self.until = context.Value("q", time.monotonic_ns() + int(seconds * 1e9), lock=False)
        events.touch()
        self.tail = Tail(changes, count)
        self.writer = context.Process(target=append, args=(events, self.sent, rate, self.until))
        self.writer.start()

    def watch(self, seconds):
        """Watches for so long."""
        until = time.monotonic() + seconds
        self.tail.until(lambda: time.monotonic() >= until)

    def finish(self):
        """Ends the appends, awaits the last change, and returns when each was appended, s by the monotonic clock, and its latency, ms."""
        self.until.value = min(self.until.value, time.monotonic_ns())
        self.writer.join()
        assert self.writer.exitcode == 0, "the writer of probes failed"
        count, until = sum(1 for at in self.sent if at), time.monotonic() + PATIENCE
        self.tail.until(lambda: self.tail.found >= count or time.monotonic() > until)
        self.tail.close()
        assert self.tail.found == count, f"{self.tail.found} of {count} changes came"
        return [(sent / 1e9, (seen - sent) / 1e6) for sent, seen in zip(self.sent, self.tail.seen) if sent]


def percentile(values, percent):
    """Of sorted values."""
    return values[min(int(len(values) * percent / 100), len(values) - 1)]


def figures(latencies):
    """Percentiles of latencies, ms."""
    values = sorted(latencies)
    return {"p50_ms": percentile(values, 50), "p99_ms": percentile(values, 99), "p99.9_ms": percentile(values, 99.9), "most_ms": values[-1]}


def timeline(took, start, each):
    """Of each span of so many seconds the slowest: when it was appended, s since `start`, and its latency, ms. More could not be told apart in a plot."""
    kept = {}
    for at, ms in took:
        kept[at // each] = max(kept.get(at // each, (at, 0)), (at, ms), key=lambda point: point[1])
    return [(round(at - start, 3), round(ms, 2)) for at, ms in kept.values()]


def histogram(latencies):
    """How many are at most each of the bounds and more than the one before; the last has those beyond."""
    counts = [0] * (len(BOUNDS) + 1)
    for value in latencies:
        counts[next((at for at, bound in enumerate(BOUNDS) if value <= bound), len(BOUNDS))] += 1
    return counts


JOB = """job: bench
sources:
  web: {{file: {{path: events.jsonl, follow: true}}, format: segment}}
  probe: {{file: {{path: probe.jsonl, follow: true}}, format: segment}}
models: {{users: {{{model}}}}}
events:
  viewed: {{source: web, type: page, model: users}}
  probed: {{source: probe, type: page, model: users}}
audiences:
  viewers: {{model: users, where: {{{viewers}}}}}
  probed: {{model: users, where: {{performed: probed, within: 24h}}}}
syncs:
  all: {{audiences: [viewers], to: {{file: {{path: changes.jsonl}}}}}}
  probes: {{audiences: [probed], to: {{file: {{path: probes.jsonl}}}}}}
api: {{listen: "127.0.0.1:0"}}
state: {{url: state, checkpoint_every: 1h}}
"""


def latency(program, folder, options):
    """Page views of new users at a fixed rate, each of which makes an entry."""
    rate, seconds, warm = options.rate, options.seconds, 2
    for name in ("events.jsonl", "probe.jsonl"):
        (folder / name).touch()
    run = Running(program, folder, JOB.format(model="key: user_id, members: any", viewers="performed: viewed, within: 24h"))
    try:
        used, probes = run.used(), Probes(folder / "probe.jsonl", folder / "probes.jsonl", rate, seconds + warm)
        probes.watch(seconds + warm)
        took = after(warm, probes.finish())
        used = run.used() - used
        lag = run.stop()
    finally:
        run.end()
    found = figures(took) | {"max_lag_ms": lag, "cores": used / (seconds + warm)}
    points = [{"series": "file to file", "x": rate, "figures": found, "histogram": histogram(took)}]
    if options.kafka:
        place = folder / "kafka"
        place.mkdir()
        points.append(latency_between_topics(program, place, options, warm))
    return points


def after(warm, measured):
    """The latencies of what was written later than `warm` s after the first."""
    return [ms for at, ms in measured if at >= measured[0][0] + warm]


BETWEEN_TOPICS = """job: {name}
sources: {{web: {{kafka: {{brokers: "{brokers}", topic: {name}-events}}, format: segment}}}}
models: {{users: {{key: user_id, members: any}}}}
events: {{viewed: {{source: web, type: page, model: users}}}}
audiences: {{viewers: {{model: users, where: {{performed: viewed, within: 24h}}}}}}
syncs: {{all: {{to: {{kafka: {{brokers: "{brokers}", topic: {name}-changes}}}}}}}}
api: {{listen: "127.0.0.1:0"}}
state: {{url: state, checkpoint_every: 1h}}
"""


def produce(brokers, topic, sent, rate, until):
    """Sends page views to a topic: see `paced`."""
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": brokers, "linger.ms": 0, "acks": "all"})

    def write(lines):
        for line in lines:
            producer.produce(topic, line)
        producer.poll(0)

    paced(sent, rate, until, write)
    producer.flush()


def latency_between_topics(program, folder, options, warm):
    """The same between two topics of 4 partitions: from when a message is handed to a producer until a `read_committed` consumer has the change."""
    try:
        from confluent_kafka import Consumer, TopicPartition
        from confluent_kafka.admin import AdminClient, NewTopic
    except ImportError:
        sys.exit("`--kafka` needs pip install confluent-kafka")
    rate, seconds, name = options.rate, options.seconds + warm, f"bench-{time.time_ns()}"
    topics = [f"{name}-events", f"{name}-changes"]
    admin = AdminClient({"bootstrap.servers": options.kafka})
    for made in admin.create_topics([NewTopic(topic, 4, 1) for topic in topics]).values():
        made.result(PATIENCE)
    run = Running(program, folder, BETWEEN_TOPICS.format(name=name, brokers=options.kafka))
    try:
        consumer = Consumer({"bootstrap.servers": options.kafka, "group.id": name, "isolation.level": "read_committed", "fetch.wait.max.ms": 5})
        consumer.assign([TopicPartition(topics[1], partition, 0) for partition in range(4)])
        context = multiprocessing.get_context("fork")
        sent = context.RawArray("q", rate * seconds)
        until = context.Value("q", time.monotonic_ns() + seconds * 1_000_000_000, lock=False)
        used, writer = run.used(), context.Process(target=produce, args=(options.kafka, topics[0], sent, rate, until))
        writer.start()
        seen, found, last = [0] * len(sent), 0, time.monotonic()
        # To the end of the writer, and then to the last change.
        while writer.is_alive() or found < len(sent) - sent[:].count(0):
            message = consumer.poll(0.1)
            if message:
                number, last = int(KEY.search(message.value())[1]), time.monotonic()
                found += not seen[number]
                seen[number] = seen[number] or time.monotonic_ns()
            assert time.monotonic() < last + PATIENCE, "changes are missing"
        writer.join()
        assert writer.exitcode == 0, "the writer failed"
        consumer.close()
        took = after(warm, [(at / 1e9, (end - at) / 1e6) for at, end in zip(sent, seen) if at])
        used = run.used() - used
        lag = run.stop()
    finally:
        run.end()
        for gone in admin.delete_topics(topics).values():
            gone.result(PATIENCE)
    found = figures(took) | {"max_lag_ms": lag, "cores": used / seconds}
    return {"series": "topic to topic", "x": rate, "figures": found, "histogram": histogram(took)}


def burst(program, folder, options):
    """So many windows that end within one second, while probes are appended: how long is a probe delayed, and an epoch?"""
    windows, within, lead, later = options.burst, 600, 20 + options.burst / 20_000, 15
    ends = int(time.time() + lead) + 1
    with open(folder / "events.jsonl", "w") as out:
        for n in range(windows):
            out.write(f'{{"type":"page","userId":"key-{n}","messageId":"m{n}","timestamp":{(ends - within) * 1_000 + n * 1_000 // windows}}}\n')
    (folder / "probe.jsonl").touch()
    run = Running(program, folder, JOB.format(model="key: user_id, members: any", viewers=f"performed: viewed, within: {within}s"))
    try:
        before = 5
        assert time.time() < ends - before, f"the start took longer than {lead - before:.0f} s: the burst is over"
        time.sleep(ends - before - time.time())
        run_epochs, used = run.epochs(), run.used()
        # When the burst begins, by the clock of the probes.
        begin = time.monotonic() + ends - time.time()
        probes = Probes(folder / "probe.jsonl", folder / "probes.jsonl", 200, before + later)
        probes.watch(before + later)
        took = [(at - begin, ms) for at, ms in probes.finish()]
        epochs = {bound: count - run_epochs[bound] for bound, count in run.epochs().items()}
        used = run.used() - used
        exits = run.metric('usher_audience_exits_total{audience="viewers"}')
        assert exits == windows, f"{exits} of {windows} windows have ended"
        written = os.stat(folder / "changes.jsonl").st_mtime - ends
        lag = run.stop()
    finally:
        run.end()
    during = [ms for at, ms in took if 0 <= at < max(written, 1)]
    calm = sorted(ms for at, ms in took if at < 0)
    found = figures(during) | {
        "p99_before_ms": percentile(calm, 99),
        "most_before_ms": calm[-1],
        "epochs_over_100_ms": epochs[100],
        "epochs_over_50_ms": epochs[50],
        "epochs_over_30_ms": epochs[30],
        "epochs": epochs[0],
        "all_exits_written_s": written,
        "max_lag_ms": lag,
        "cpu_seconds": used,
    }
    return [{"series": "burst", "x": windows, "figures": found, "timeline": timeline(took, 0, 0.02)}]


def appear(path, users, rate):
    """Appends a page view, dated now, of each of so many users, so many a second."""
    out, start, number = os.open(path, os.O_WRONLY | os.O_APPEND), time.monotonic(), 0
    while number < users:
        due, date = min(int((time.monotonic() - start) * rate), users), int(time.time() * 1_000)
        lines = [f'{{"type":"page","userId":"key-{n:09}","messageId":"m{n}","timestamp":{date}}}\n' for n in range(number, due)]
        os.write(out, "".join(lines).encode())
        number = due
        time.sleep(2 * SLICE)
    os.close(out)


def growth(program, folder, options):
    """Users come that no event has named before, while probes are appended: does the growth of the state delay a probe?"""
    users, rate, before, later = options.users, 100_000, 3, 3
    for name in ("events.jsonl", "probe.jsonl"):
        (folder / name).touch()
    run = Running(program, folder, JOB.format(model="key: user_id, members: any", viewers="performed: viewed, at_least: 2, within: 24h"))
    try:
        run_epochs, used = run.epochs(), run.used()
        probes = Probes(folder / "probe.jsonl", folder / "probes.jsonl", 200, 2 * (before + users / rate + later))
        probes.watch(before)
        begin, writer = time.monotonic(), multiprocessing.get_context("fork").Process(target=appear, args=(folder / "events.jsonl", users, rate))
        writer.start()
        probes.tail.until(lambda: not writer.is_alive())
        probes.watch(later)
        assert writer.exitcode == 0, "the writer of users failed"
        took = [(at - begin, ms) for at, ms in probes.finish()]
        epochs = {bound: count - run_epochs[bound] for bound, count in run.epochs().items()}
        used, peak, lag = run.used() - used, run.peak(), run.stop()
        keys = int(run.says(r"members; ([0-9,]+) keys").replace(",", ""))
        assert keys == users + len(took), f"{keys} keys are held of {users} users and {len(took)} probes"
    finally:
        run.end()
    found = figures([ms for at, ms in took if at >= 0]) | {
        "p99_before_ms": percentile(sorted(ms for at, ms in took if at < 0), 99),
        "epochs_over_100_ms": epochs[100],
        "epochs_over_50_ms": epochs[50],
        "epochs_over_30_ms": epochs[30],
        "epochs": epochs[0],
        "max_lag_ms": lag,
        "cpu_seconds": used,
        "peak_bytes": peak,
    }
    return [{"series": "growth", "x": users, "figures": found, "timeline": timeline(took, 0, 0.1)}]


# Columns that the job reads. Of the second version 1 % of the rows have another value.
TABLE = """import duckdb
duckdb.sql("set enable_progress_bar = false")
duckdb.sql('''copy (select printf('user-%09d', i) as user_id, case when {other} and hash(i) % 100 = 0 then 1000 else 0 end + (i * 7919 % 100003) / 100.0 :: double as ltv,
  ['de', 'fr', 'us', 'gb', 'es', 'it', 'nl', 'pl'][i % 8 + 1] as country from range({rows}) t(i)) to '{path}' (format parquet)''')
"""
SCAN = """import duckdb, sys, time
duckdb.sql("pragma threads=1")
duckdb.sql("set enable_progress_bar = false")
for _ in range(int(sys.argv[2])):
    since = time.monotonic()
    duckdb.sql(f"select count(user_id), sum(strlen(user_id)), sum(ltv), count(country), sum(strlen(country)) from '{sys.argv[1]}'").fetchall()
    print(time.monotonic() - since)
"""


class Pull(threading.Thread):
    """Requests a pull, and asks until it has ended and its keys have been switched to; `number` counts from the first pull of the run."""

    def __init__(self, run, number):
        super().__init__(daemon=True)
        self.run_, self.number, self.newest, self.ended = run, number, None, 0.0
        self.start()

    def run(self):
        self.run_.ask("POST", "/v1/models/users/pulls", {"extent": "full"})
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            pulls = json.loads(self.run_.ask("GET", "/v1/models/users/pulls"))["pulls"]
            assert pulls[0]["status"] in ("running", "succeeded"), pulls[0]
            if len(pulls) == self.number and pulls[0]["status"] == "succeeded" and pulls[0]["changed_keys"] is not None:
                self.newest, self.ended = pulls[0], time.monotonic()
                return
            time.sleep(0.02)


def pull(program, folder, options):
    """A Parquet file is pulled again, 1 % of whose rows have changed, while events come; DuckDB scans the same columns before and after."""
    rows, versions, rate = options.rows, [], 1_000
    if importlib.util.find_spec("duckdb") is None:
        sys.exit("`pull` needs DuckDB: pip install duckdb")
    for other in (False, True):
        path = options.data / f"duckdb-{rows}-{other}.parquet"
        data.once(path, lambda part: subprocess.run([sys.executable, "-c", TABLE.format(other=other, rows=rows, path=part)], check=True))
        versions.append(path)

    def scan():
        output = subprocess.run([sys.executable, "-c", SCAN, str(versions[0]), "3"], check=True, capture_output=True, text=True).stdout
        return sorted(map(float, output.split()))[1]

    def put(version):
        os.symlink(versions[version], folder / "next.parquet")
        os.replace(folder / "next.parquet", folder / "users.parquet")

    scans = [scan()]
    put(0)
    for name in ("events.jsonl", "probe.jsonl"):
        (folder / name).touch()
    since = time.monotonic()
    model = "parquet: users.parquet, key: user_id, refresh: manual, columns: {ltv: number, country: string}"
    run = Running(program, folder, JOB.format(model=model, viewers="property: \"ltv >= 990 and country = 'de'\""))
    try:
        first = time.monotonic() - since
        probes, start = Probes(folder / "probe.jsonl", folder / "probes.jsonl", rate, 120), time.monotonic()
        probes.watch(8)
        pulls, pulled, read, used = [], [], [], []
        for version in (1, 0, 1):
            put(version)
            before, cpu = time.monotonic(), run.used()
            asked = Pull(run, len(pulls) + 2)
            probes.tail.until(lambda: not asked.is_alive())
            newest = asked.newest
            assert newest, "the pull has not ended"
            pulls.append(asked.ended - before)
            used.append(run.used() - cpu)
            pulled.append((before, asked.ended))
            read.append(newest["duration_ms"] / 1_000)
            changed = newest["changed_keys"]
            probes.watch(5)
        took = probes.finish()
        peak, lag = run.peak(), run.stop()
    finally:
        run.end()
    scans.append(scan())
    meanwhile = [ms for at, ms in took if any(begin <= at <= end for begin, end in pulled)]
    calm = sorted(ms for at, ms in took if start + 2 < at < pulled[0][0])
    middle = lambda values: sorted(values)[len(values) // 2]
    found = figures(meanwhile) | {
        "p99_before_ms": percentile(calm, 99),
        "seconds": middle(pulls),
        "read_seconds": middle(read),
        "cpu_seconds": middle(used),
        "start_seconds": first,
        "scan_seconds": sum(scans) / 2,
        "times_the_scan": middle(pulls) / (sum(scans) / 2),
        "peak_bytes": peak,
        "max_lag_ms": lag,
    }
    spans = [(begin - start, end - start) for begin, end in pulled]
    return [{"series": "pull", "x": rows, "figures": found, "changed_keys": changed, "timeline": timeline(took, start, 0.02), "pulls": spans}]


LIVE = {f.__name__: f for f in (latency, burst, growth, pull)}
