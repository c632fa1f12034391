"""The page of plots: SVG written by hand, light and dark, and a README beside them with the command, the machine and a table under each plot.

A plot shows medians, with whiskers from least to most. Axes name their units; powers of ten are logarithmic.
"""

import dataclasses
import math
import pathlib

from live import BOUNDS

WHAT = {
    "zipf": "users drawn by Zipf's law (s = 1), in order, each message once",
    "bots": "the same, with half of all messages from 10 users",
    "disorder": "the same as `zipf`, with 10 % of the messages up to 10 minutes late",
    "duplicates": "the same as `zipf`, with 5 % of the messages twice",
    "audiences": "the same changes of one audience beside up to 10,000 that nobody enters, as no row has their segment",
    "thresholds": "the same, beside audiences that nobody enters as nobody reaches their threshold",
    "conditions": "the same, beside audiences that nobody enters as each has a condition of its own that no event meets",
    "changes": "more and more changes per message",
    "windows": "100 audiences with windows of 5 minutes, 24 hours and 30 days",
    "users": "more and more users, each with a row in the snapshot",
    "workers": "one worker and two",
    "memory": "bytes per key, and per key and fact",
    "latency": "from an append to a followed file, or a message to a topic, to the change in the output",
    "burst": "500,000 windows that end within one second, while probes are appended",
    "growth": "9,000,000 users come that no event has named before, while probes are appended",
    "pull": "a pull of a large Parquet file of which 1 % has changed, beside a scan by DuckDB, while events come",
}
STYLE = """
:root { --ink: #1f2328; --muted: #59636e; --grid: #d8dee4; --paper: #ffffff; --c0: #0969da; --c1: #bc4c00; --c2: #1a7f37; --c3: #8250df; --c4: #9a6700; --c5: #bf3989 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #f0f6fc; --muted: #9198a1; --grid: #3d444d; --paper: #0d1117; --c0: #4493f8; --c1: #f0883e; --c2: #3fb950; --c3: #ab7df8; --c4: #d29922; --c5: #f778ba }
}
text { font: 12px system-ui, sans-serif; fill: var(--ink) } .title { font-size: 14px; font-weight: 600 } .muted { fill: var(--muted) }
.paper { fill: var(--paper) } .grid { stroke: var(--grid); stroke-width: 1 } .line { fill: none; stroke-width: 2 } .whisker { stroke-width: 1.5 }
"""
COLORS = 6
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 360, 70, 20, 62, 52


@dataclasses.dataclass
class Axis:
    """An axis: its label with the unit, from and to, and where its ticks are."""

    label: str
    least: float
    most: float
    log: bool
    # Values and texts, in place of those that follow from the range.
    named: tuple = ()

    def at(self, value):
        """From 0 to 1."""
        scale = math.log10 if self.log else float
        return (scale(value) - scale(self.least)) / (scale(self.most) - scale(self.least))

    def ticks(self):
        if self.named:
            return self.named
        if self.log:
            first, last = math.ceil(math.log10(self.least) - 1e-9), math.floor(math.log10(self.most) + 1e-9)
            steps = (1,) if last - first >= 2 else (1, 2, 5)
            values = [step * 10.0**power for power in range(first - 1, last + 1) for step in steps]
            return [(value, short(value)) for value in values if self.least * 0.999 <= value <= self.most * 1.001]
        rough = (self.most - self.least) / 5
        unit = 10 ** math.floor(math.log10(rough))
        step = next(step * unit for step in (1, 2, 5, 10) if step * unit >= rough)
        first = math.ceil(self.least / step)
        return [(n * step, short(n * step)) for n in range(first, math.floor(self.most / step + 1e-9) + 1)]


def axis(label, values, log=False, zero=True, named=()):
    """An axis over values; with `zero` a linear one begins at 0."""
    least, most = min(values), max(values)
    if log:
        return Axis(label, least / 1.2, most * 1.3, True, named)
    least = 0 if zero else least
    return Axis(label, least, (most or 1) * 1.12, False, named)


def short(value):
    """A number of at most three digits, with a unit of thousands."""
    for unit, text in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit * 0.9995:
            return f"{value / unit:.3g}{text}"
    return f"{value:.3g}"


def escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;")


def frame(title, x, y, subtitle=""):
    """The opening of a plot: title, axes and grid."""
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{escape(title)}">',
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>',
        f'<text class="title" x="{LEFT}" y="20">{escape(title)}</text>',
        f'<text class="muted" x="{LEFT}" y="37">{escape(subtitle)}</text>',
        f'<text class="muted" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">{escape(x.label)}</text>',
        f'<text class="muted" transform="translate(16 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">{escape(y.label)}</text>',
    ]
    for value, text in y.ticks():
        at = down(y, value)
        out.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/><text class="muted" x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{text}</text>')
    for value, text in x.ticks():
        at = across(x, value)
        out.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/><text class="muted" x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{text}</text>')
    return out


def across(x, value):
    return LEFT + x.at(value) * (WIDTH - LEFT - RIGHT)


def down(y, value):
    return HEIGHT - BOTTOM - y.at(value) * (HEIGHT - TOP - BOTTOM)


def legend(names):
    """Names of series in one line, with their colours."""
    out, at = [], LEFT
    for number, name in enumerate(names):
        color = f"var(--c{number % COLORS})"
        out.append(f'<rect x="{at}" y="46" width="10" height="10" style="fill: {color}"/><text x="{at + 15}" y="55">{escape(name)}</text>')
        at += 15 + 7 * len(name) + 20
    return out


def lines(title, x, y, series, subtitle=""):
    """Series as `{name: [(x, {median, least, most})]}`."""
    out = frame(title, x, y, subtitle) + (legend(series) if len(series) > 1 else [])
    for number, points in enumerate(series.values()):
        color = f"style=\"stroke: var(--c{number % COLORS})\""
        path = " ".join(f"{across(x, at):.1f},{down(y, value['median']):.1f}" for at, value in points)
        out.append(f'<polyline class="line" {color} points="{path}"/>')
        for at, value in points:
            place, ends = across(x, at), [down(y, value[end]) for end in ("least", "most")]
            out.append(f'<line class="whisker" {color} x1="{place:.1f}" x2="{place:.1f}" y1="{ends[0]:.1f}" y2="{ends[1]:.1f}"/>')
            out.append(f'<circle cx="{place:.1f}" cy="{down(y, value["median"]):.1f}" r="4" style="fill: var(--c{number % COLORS})"/>')
            # Beside several lines numbers would cover each other: the table has them.
            if len(series) == 1:
                out.append(f'<text x="{place:.1f}" y="{min(ends) - 9:.1f}" text-anchor="middle" style="font-size: 11px">{short(value["median"])}</text>')
    return "\n".join([*out, "</svg>\n"])


def bars(title, y, groups, names, subtitle=""):
    """Groups of bars as `[(text, [{median, least, most}])]`, a bar of each name."""
    x = Axis("", 0, len(groups), False, tuple((number + 0.5, text) for number, (text, _) in enumerate(groups)))
    out = [line for line in frame(title, x, y, subtitle)] + (legend(names) if len(names) > 1 else [])
    for number, (_, values) in enumerate(groups):
        width = 0.7 / len(values)
        for place, value in enumerate(values):
            if value is None:
                continue
            left, right = (across(x, number + 0.15 + width * edge) for edge in (place, place + 0.9))
            top, middle = down(y, value["median"]), (left + right) / 2
            out.append(f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{HEIGHT - BOTTOM - top:.1f}" style="fill: var(--c{place % COLORS})"/>')
            ends = [down(y, value[end]) for end in ("least", "most")]
            out.append(f'<line class="whisker" style="stroke: var(--ink)" x1="{middle:.1f}" x2="{middle:.1f}" y1="{ends[0]:.1f}" y2="{ends[1]:.1f}"/>')
            out.append(f'<text x="{middle:.1f}" y="{min(ends) - 5:.1f}" text-anchor="middle" style="font-size: 11px">{short(value["median"])}</text>')
    return "\n".join([*out, "</svg>\n"])


def dots(title, x, y, points, spans=(), subtitle="", marks=()):
    """Single measurements as `[(x, y)]`; `spans` are shaded, `marks` are levels with a text."""
    out = frame(title, x, y, subtitle)
    for begin, end in spans:
        out.append(f'<rect x="{across(x, begin):.1f}" y="{TOP}" width="{across(x, end) - across(x, begin):.1f}" height="{HEIGHT - TOP - BOTTOM}" style="fill: var(--c1); opacity: 0.15"/>')
    for level, text in marks:
        at = down(y, level)
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" style="stroke: var(--c1); stroke-dasharray: 4 3"/><text x="{WIDTH - RIGHT - 4}" y="{at - 5:.1f}" text-anchor="end">{escape(text)}</text>')
    out += [f'<circle cx="{across(x, at):.1f}" cy="{down(y, value):.1f}" r="1.4" style="fill: var(--c0); opacity: 0.6"/>' for at, value in points]
    return "\n".join([*out, "</svg>\n"])


def steps(title, x, y, series, marks, subtitle=""):
    """Histograms as `{name: [(from, to, share)]}`, with vertical marks `(x, text)`."""
    out = frame(title, x, y, subtitle) + (legend(series) if len(series) > 1 else [])
    for number, boxes in enumerate(series.values()):
        for begin, end, share in boxes:
            left, right, top = across(x, begin), across(x, end), down(y, share)
            out.append(f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left - 1:.1f}" height="{HEIGHT - BOTTOM - top:.1f}" style="fill: var(--c{number % COLORS}); opacity: 0.7"/>')
    for number, (at, text) in enumerate(marks):
        place, beside = across(x, at), f'y="{TOP + 12 + 14 * (number % 4)}"'
        is_right = place > WIDTH * 0.8
        label = f'x="{place - 4:.1f}" text-anchor="end"' if is_right else f'x="{place + 4:.1f}"'
        out.append(f'<line x1="{place:.1f}" x2="{place:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" style="stroke: var(--ink); stroke-dasharray: 4 3"/><text {label} {beside}>{escape(text)}</text>')
    return "\n".join([*out, "</svg>\n"])


# --- The page ---


def page(results, folder, by_processor):
    """Writes all plots that the results have data for, and the page."""
    if by_processor:
        By.figure, By.unit, By.floor, By.of_floor = "cpu_seconds", "messages per s of processor", "floor_cpu_seconds", "of_floor_cpu"
        del By.seconds["seconds"]
    shared = "Other programs used the machine meanwhile, so speeds and the floor are by processor time, of all threads. "
    folder.mkdir(parents=True, exist_ok=True)
    machine, programs = results["machine"], results["programs"]
    named = "; ".join(", ".join([f"`{name}`", *(f"{key} {value}" if key == "commit" else value for key, value in version.items() if key in ("version", "commit"))]) for name, version in programs.items())
    text = [
        "# Plots of the benchmarks",
        "",
        "Written by `scripts/bench plot` from [results.json](results.json), which has each single run. [BENCHMARKS.md](../BENCHMARKS.md) has more, and what follows from it.",
        "",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, Linux {machine['kernel']}; {named}. "
        "Medians, with least and most as whiskers and in parentheses. Compare within a plot: all points of a plot were measured in turns, and speeds of "
        "machines differ, from hour to hour too. " + (shared if by_processor else "") + "The *floor* is reading the same file with `serde_json` into borrowed fields and nothing behind it, in the same rounds: a speed of 0.5 of the floor is half as fast as that.",
        "",
    ]
    for title, needs, draw in SECTIONS:
        have = {name: results["workloads"][name] for name in needs if name in results["workloads"]}
        if not have:
            continue
        files, words, table = draw({name: workload["points"] for name, workload in have.items()})
        text += [f"## {title}", "", words, ""]
        for name, svg in files.items():
            (folder / f"{name}.svg").write_text(svg)
            text += [f"![{title}]({name}.svg)", ""]
        text += [*table, ""]
        first = next(iter(have.values()))
        text += [f"`scripts/bench run {' '.join(have)} --runs {first['flags']['runs']}{flags_of(have, first['flags'])}`, {first['date']}", ""]
    (folder / "README.md").write_text("\n".join(text).rstrip() + "\n")


def flags_of(names, flags):
    used = {"latency": ("rate", "seconds"), "burst": ("burst",), "growth": ("users",), "pull": ("rows",)}
    shown = {flag for name in names for flag in used.get(name, ("messages",))}
    return "".join(f" --{flag} {flags[flag]}" for flag in sorted(shown))


def with_spread(value):
    return f"{short(value['median'])} ({short(value['least'])} to {short(value['most'])})"


class By:
    """What speeds are by: wall time, or processor time where the machine was shared with other programs."""

    figure, unit, floor, of_floor = "seconds", "messages/s", "floor_seconds", "of_floor"
    # Columns of a table.
    seconds = {"seconds": "s", "cpu_seconds": "s of processor"}


def rate(point):
    """Messages a second, with the ends the other way round."""
    seconds, messages = point["figures"][By.figure], point["messages"]
    return {"median": messages / seconds["median"], "least": messages / seconds["most"], "most": messages / seconds["least"]}


def table(header, rows):
    return ["| " + " | ".join(header) + " |", "|" + "---|" * len(header), *("| " + " | ".join(row) + " |" for row in rows)]


def replayed(names, points):
    """A table of replays: the point's names, then figures."""
    several = len({point["program"] for point in points}) > 1
    header = [*names, *(["program"] if several else []), By.unit, "of the floor", *By.seconds.values(), "peak MB", "changes"]
    rows = []
    for point in points:
        figures = point["figures"]
        rows.append(
            [
                *point["names"],
                *([point["program"]] if several else []),
                # One message is there to see what the start takes.
                short(rate(point)["median"]) if point["messages"] > 1 else "",
                with_spread(figures[By.of_floor]) if By.of_floor in figures else "",
                *(with_spread(figures[name]) for name in By.seconds),
                short(figures["peak_bytes"]["median"] / 1e6),
                short(point["changes"]),
            ]
        )
    return table(header, rows)


def labelled(point, *names):
    return {**point, "names": names}


def by_program(points, key=lambda point: point["series"]):
    """Points by series, and by program too where there are several."""
    several = len({point["program"] for point in points}) > 1
    series = {}
    for point in points:
        series.setdefault(key(point) + (f" ({point['program']})" if several else ""), []).append(point)
    return series


def speed_bars(title, points):
    """Speeds of replays as bars, with the floor beside them."""
    programs = list(dict.fromkeys(point["program"] for point in points))
    groups = []
    for names in dict.fromkeys(point["names"] for point in points):
        mine = [point for point in points if point["names"] == names]
        values = [next((rate(point) for point in mine if point["program"] == program), None) for program in programs]
        floor = mine[0]["figures"][By.floor]
        values.append({end: mine[0]["messages"] / floor[other] for end, other in (("median", "median"), ("least", "most"), ("most", "least"))})
        groups.append((" ".join(names), values))
    y = axis(By.unit, [value["most"] for _, values in groups for value in values if value])
    return bars(title, y, groups, [*programs, "floor: serde_json alone"])


def draw_events(workloads):
    points = [labelled(point, name) for name, points in workloads.items() for point in points]
    words = "100 audiences of two windowed conditions and a segment, 100,000 users, one worker. " + "; ".join(f"`{name}`: {WHAT[name]}" for name in workloads) + "."
    return {"events": speed_bars("Speed by kind of traffic", points)}, words, replayed(["traffic"], points)


def draw_audiences(workloads):
    points = [labelled(point, f"{point['x']:,}", point["series"]) for of in workloads.values() for point in of]
    whole, net, ends = {}, {}, ("median", "least", "most")
    for of_workload in workloads.values():
        for name, of in by_program(of_workload).items():
            if "start" in name:
                continue
            mine = {(point["series"], point["x"]): point["figures"]["cpu_seconds"] for point in of_workload if point["program"] == of[0]["program"]}
            start = lambda point: mine[point["series"] + ", start", point["x"]]["median"]
            one = next(point for point in of_workload if point["program"] == of[0]["program"])
            base = one["figures"]["cpu_seconds"]["median"]
            cost = lambda point, end: point["figures"]["cpu_seconds"][end]
            whole[name] = [(point["x"], {end: cost(point, end) / base for end in ends}) for point in of]
            if all((point["series"] + ", start", point["x"]) in mine for point in of):
                net[name] = [(point["x"], {end: max(cost(point, end) - start(point), 1e-3) / (base - start(one)) for end in ends}) for point in of]
    files = {}
    for file, series, what in (("audiences", whole, "whole replays"), ("audiences-events", net, "without the start: reading and compiling the job, the snapshot")):
        values = [value[end] for of in series.values() for _, value in of for end in ("least", "most")]
        x, y = axis("audiences", [1, 10_000], log=True), axis("times the processor time of 1 audience", values, log=True)
        files[file] = lines("The same changes, beside audiences that nobody enters", x, y, series, what)
    words = (
        "One audience changes, the same in all points; nobody enters the others, which are over the same 20 windowed conditions. `by segment`: each asks for a segment that no row has. "
        "`by threshold`: each asks for one of 20 counts that nobody reaches, and for a segment that rows have. `by condition`: each has a condition of its own that no event meets. "
        "`over 20 conditions`: one audience that mentions all 20, which is what the facts cost without the audiences. `start`: the same job with one message."
    )
    return files, words, replayed(["audiences", "nobody enters"], points)


def draw_changes(workloads):
    points = [labelled(point, f"{point['x']}") for point in workloads["changes"]]
    series = {name: [(point["changes"] / point["messages"], rate(point)) for point in of] for name, of in by_program(points, lambda point: "replay").items()}
    x = axis("changes per message", [at for of in series.values() for at, _ in of])
    y = axis(By.unit, [value["most"] for of in series.values() for _, value in of])
    words = "So many audiences of who has viewed a page in the last second: with each page view one enters them all, and leaves them a second later. Changes go to `/dev/null`."
    return {"changes": lines("Speed by changes per message", x, y, series)}, words, replayed(["audiences"], points)


def draw_windows(workloads):
    names = {300: "5 minutes", 86_400: "24 hours", 2_592_000: "30 days"}
    points = [labelled(point, names[point["x"]]) for point in workloads["windows"]]
    return {"windows": speed_bars("Speed by length of the windows", points)}, "100 audiences over 20 conditions, all with one window; messages of two hours.", replayed(["windows"], points)


def draw_users(workloads):
    points = [labelled(point, f"{point['x']:,}", point["series"]) for point in workloads["users"]]
    starts = {(point["x"], point["program"]): point["figures"][By.figure]["median"] for point in points if point["series"] == "start"}
    whole = [point for point in points if point["series"] == "all"]

    def net(point):
        seconds, start = point["figures"][By.figure], starts[point["x"], point["program"]]
        return {end: point["messages"] / max(seconds[other] - start, 1e-3) for end, other in (("median", "median"), ("least", "most"), ("most", "least"))}

    series = {name: [(point["x"], net(point)) for point in of] for name, of in by_program(whole, lambda point: "replay").items()}
    x = axis("users", [at for of in series.values() for at, _ in of], log=True)
    y = axis(By.unit, [value["most"] for of in series.values() for _, value in of])
    peaks = {name: [(point["x"], {end: point["figures"]["peak_bytes"][end] / 1e6 for end in ("median", "least", "most")}) for point in of] for name, of in by_program(whole, lambda point: "replay").items()}
    memory = axis("peak memory, MB", [value["most"] for of in peaks.values() for _, value in of] + [value["least"] for of in peaks.values() for _, value in of], log=True)
    files = {
        "users": lines("Speed by number of users", x, y, series, "without what the start takes"),
        "users-memory": lines("Peak memory by number of users", x, memory, peaks),
    }
    return files, "100 audiences; each user has a row in the snapshot, messages are by Zipf's law. `start`: the same job with one message, so reading the snapshot; the plot of the speed leaves it out.", replayed(["users", "what"], points)


def draw_workers(workloads):
    points = [labelled(point, f"{point['x']} worker{'s' if point['x'] > 1 else ''}") for point in workloads["workers"]]
    return {"workers": speed_bars("Speed by number of workers", points)}, "100 audiences, one file: one worker reads it, each owns its share of the keys.", replayed(["workers"], points)


def draw_memory(workloads):
    points = workloads["memory"]
    rows, groups = [], []
    program = points[0]["program"]
    mine = [point for point in points if point["program"] == program]
    peak = lambda point: point["figures"]["peak_bytes"]["median"]
    bases = {point["x"]: point for point in mine if point["series"] == "no fact"}
    empty = next(point for point in mine if point["series"] == "no key")
    keys = bases[1]["facts"]
    of_key = (peak(bases[1]) - peak(empty)) / keys
    sizes = sorted(bases)
    for kind in dict.fromkeys(point["series"] for point in mine if point["series"] not in ("no fact", "no key")):
        values = []
        for each in sizes:
            point = next(point for point in mine if (point["series"], point["x"]) == (kind, each))
            base = peak(bases[each])
            values.append({end: (point["figures"]["peak_bytes"][end] - base) / point["facts"] for end in ("median", "least", "most")})
        groups.append((kind, values))
        rows.append([kind, *(f"{value['median']:.0f}" for value in values)])
    y = axis("bytes per key and fact", [value["most"] for _, values in groups for value in values])
    names = [f"{each} event{'s' if each > 1 else ''} of each key" for each in sizes]
    words = (
        f"Peak memory of a replay with five facts of a kind, less that of one without a fact, by the number of events that each of {keys:,} keys has in the window; with what the allocator and growing tables take. "
        f"A key and its row take {of_key:.0f} bytes without any fact (with {keys:,} keys and one audience). `cargo bench --bench state` has more kinds."
    )
    return {"memory": bars("Memory per key and fact", y, groups, names)}, words, table(["bytes per key and fact", *names], rows)


def of_latency(point):
    figures = point["figures"]
    return [with_spread(figures[name]) for name in ("p50_ms", "p99_ms", "p99.9_ms", "most_ms")]


def draw_latency(workloads):
    points = workloads["latency"]
    bounds = [BOUNDS[0] / 10 ** 0.1, *BOUNDS]
    series = {}
    for name, of in by_program(points).items():
        counts, total = of[0]["histogram"], sum(of[0]["histogram"])
        series[name] = [(bounds[at], bounds[at + 1], 100 * count / total) for at, count in enumerate(counts[: len(BOUNDS)]) if count]
    boxes = [box for of in series.values() for box in of]
    x = Axis("ms from the append to the change in the output", min(box[0] for box in boxes) / 1.2, max(box[1] for box in boxes) * 1.2, True)
    y = axis("% of the changes", [box[2] for box in boxes])
    marks = [(points[0]["figures"][name]["median"], f"{name[:-3]} {points[0]['figures'][name]['median']:.3g} ms") for name in ("p50_ms", "p99_ms", "p99.9_ms")] if len(series) == 1 else []
    rows = [[name, short(of[0]["x"]), *of_latency(of[0]), f"{of[0]['figures']['cores']['median']:.2f}"] for name, of in by_program(points).items()]
    words = "Each message is an entry of a new user, and is appended within a millisecond of when it is due, with a few others. What appends and what watches the output use the same cores as the program."
    return {"latency": steps(f"Latency at {points[0]['x']:,} events a second", x, y, series, marks)}, words, table(["from, to", "events/s", "p50 ms", "p99 ms", "p99.9 ms", "most ms", "cores"], rows)


def draw_burst(workloads):
    point = workloads["burst"][0]
    figures = point["figures"]
    x = axis("s since the first window ended", [at for at, _ in point["timeline"]], zero=False)
    x.least = min(at for at, _ in point["timeline"])
    y = axis("latency of a probe, ms", [ms for _, ms in point["timeline"]] + [100], log=True)
    svg = dots(f"A burst of {point['x']:,} exits within one second", x, y, point["timeline"], [(0, 1)], "200 probes a second, events that make an entry; a dot is the slowest within 20 ms", [(100, "100 ms")])
    rows = []
    for each in workloads["burst"]:
        figures = each["figures"]
        count = lambda name: f"{figures[name]['median']:.0f} ({figures[name]['least']:.0f} to {figures[name]['most']:.0f})"
        rows.append([each["program"], with_spread(figures["p99_before_ms"]), *of_latency(each)[:2], with_spread(figures["most_ms"]), count("epochs_over_30_ms"), count("epochs_over_100_ms"), count("epochs"), with_spread(figures["all_exits_written_s"]), with_spread(figures["max_lag_ms"])])
    words = "Windows of 10 minutes, all of which end within the shaded second. An epoch's length is what `usher_epoch_seconds` of `/metrics` counts, from 5 s before the burst to 15 s after it."
    header = ["program", "p99 before, ms", "p50 in it, ms", "p99 in it", "most in it", "epochs over 30 ms", "over 100 ms", "epochs", "all exits written, s", "max lag, ms"]
    return {"burst": svg}, words, table(header, rows)


def draw_growth(workloads):
    point = workloads["growth"][0]
    x = axis("s since the first user came", [at for at, _ in point["timeline"]], zero=False)
    x.least = min(at for at, _ in point["timeline"])
    y = axis("latency of a probe, ms", [ms for _, ms in point["timeline"]] + [100], log=True)
    svg = dots(f"{point['x']:,} users that come while the job runs", x, y, point["timeline"], [], "200 probes a second, events that make an entry; a dot is the slowest within 100 ms", [(100, "100 ms")])
    rows = []
    for each in workloads["growth"]:
        figures = each["figures"]
        count = lambda name: f"{figures[name]['median']:.0f} ({figures[name]['least']:.0f} to {figures[name]['most']:.0f})"
        rows.append([each["program"], with_spread(figures["p99_before_ms"]), *of_latency(each)[:2], with_spread(figures["most_ms"]), *(count(f"epochs_over_{ms}_ms") for ms in (30, 50, 100)), count("epochs"), with_spread(figures["max_lag_ms"]), short(figures["peak_bytes"]["median"] / 1e6)])
    words = "100,000 users a second, each with one event, which counts in a window of 24 hours and makes no entry. No user is known before: tables grow from nothing."
    header = ["program", "p99 before, ms", "p50, ms", "p99", "most", "epochs over 30 ms", "over 50 ms", "over 100 ms", "epochs", "max lag, ms", "peak MB"]
    return {"growth": svg}, words, table(header, rows)


def draw_pull(workloads):
    point = workloads["pull"][0]
    x = axis("s", [at for at, _ in point["timeline"]])
    y = axis("latency of an event, ms", [max(ms, 0.1) for _, ms in point["timeline"]], log=True)
    some = [(at, max(ms, 0.1)) for at, ms in point["timeline"]]
    svg = dots(f"Events while {point['x']:,} rows are pulled", x, y, some, point["pulls"], "1,000 events a second; the shaded spans are pulls; a dot is the slowest event within 20 ms")
    rows = []
    for each in workloads["pull"]:
        figures = each["figures"]
        rows.append([each["program"], *(with_spread(figures[name]) for name in ("seconds", "cpu_seconds", "scan_seconds", "times_the_scan", "p99_before_ms", "p99_ms", "most_ms", "start_seconds")), short(figures["peak_bytes"]["median"] / 1e6)])
    words = (
        f"A Parquet file of {point['x']:,} rows (id, number, country; written by DuckDB) is replaced by one in which {point['changed_keys']:,} rows have another number, and pulled whole: from the request until its keys have been switched to. "
        "The scan is DuckDB's, with one thread: `count(user_id), sum(strlen(user_id)), sum(ltv), count(country), sum(strlen(country))` of the same file, the mean of before and after."
    )
    header = ["program", "pull, s", "processor, s", "DuckDB's scan, s", "times the scan", "event p99 before, ms", "p99 in pulls, ms", "most in pulls, ms", "start, s", "peak MB"]
    return {"pull": svg}, words, table(header, rows)


SECTIONS = [
    ("Kinds of traffic", ("zipf", "bots", "disorder", "duplicates"), draw_events),
    ("Audiences that nobody enters", ("audiences", "thresholds", "conditions"), draw_audiences),
    ("Changes per message", ("changes",), draw_changes),
    ("Length of windows", ("windows",), draw_windows),
    ("Users", ("users",), draw_users),
    ("Workers", ("workers",), draw_workers),
    ("Memory", ("memory",), draw_memory),
    ("Latency", ("latency",), draw_latency),
    ("A burst of expiry", ("burst",), draw_burst),
    ("Users that keep coming", ("growth",), draw_growth),
    ("A pull beside DuckDB", ("pull",), draw_pull),
]
