"""Two programs beside each other, on a machine that is not even.

Where other machines share the host, the speed of one program changes by half within a minute, and runs in turns differ more than what they compare. So both run at the same
time, pinned to one core each, and change cores with each pair: what slows the machine slows both. The ratio of processor times within a pair is what counts; its error is that of
the mean over the pairs. The two share caches and memory, so each is slower than alone.
"""

import math
import os
import statistics
from concurrent.futures import ThreadPoolExecutor


def duel(start, pairs):
    """Runs `start(which, core)` for 0 and 1 at once, `pairs` times; returns the ratio of processor times (first over second), its standard error, and the ratio of memory."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    assert len(cores) == 2, "two cores are needed"
    logs, memory = [], []
    with ThreadPoolExecutor(2) as pool:
        for number in range(pairs):
            of = cores if number % 2 == 0 else cores[::-1]
            first, second = pool.map(start, (0, 1), of)
            logs.append(math.log(first["cpu_seconds"] / second["cpu_seconds"]))
            memory.append(first["peak_bytes"] / second["peak_bytes"])
    error = statistics.stdev(logs) / math.sqrt(pairs) if pairs > 1 else math.nan
    return math.exp(statistics.mean(logs)), error, statistics.median(memory)
