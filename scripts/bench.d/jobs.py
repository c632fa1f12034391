"""The jobs of the workloads, as text. Events are those of `data.py`."""

from data import COUNTRIES

WINDOWS = ["5m", "30m", "1h", "6h", "24h"]

HEAD = """job: bench
sources: {web: {file: {path: events.jsonl}, format: segment}}
models: {users: {parquet: users.parquet, key: user_id, columns: {ltv: number, country: string}}}
events:
  page_viewed: {source: web, type: page, model: users, properties: {path: string, category: string}}
  product_added: {source: web, type: track, name: Product Added, model: users, properties: {revenue: number}}
  order_completed: {source: web, type: track, name: Order Completed, model: users, properties: {revenue: number}}
audiences:
"""

FILTERS = [
    ("page_viewed", "where: \"path = '/pricing'\"", 3),
    ("page_viewed", "where: \"category = 'shoes' or category = 'hats'\"", 2),
    ("product_added", None, 2),
    ("order_completed", 'where: "revenue > 100"', 1),
]


def performed(event, where, at_least, within):
    return f"{{performed: {event}, {where + ', ' if where else ''}at_least: {at_least}, within: {within}}}"


def twenty(windows=WINDOWS):
    """20 conditions, each of another filter and window; where there are fewer windows, of other thresholds."""
    return [
        performed(event, where, least + (number if len(windows) == 1 else 0), windows[number % len(windows)])
        for number in range(5)
        for event, where, least in FILTERS
    ]


def audience(name, *conditions):
    return f"  {name}: {{model: users, where: {{all: [{', '.join(conditions)}]}}}}\n"


def of_two(number, conditions):
    """Two of the conditions, the second one negated: those of an audience of this number."""
    return conditions[number % 20], f"{{not: {conditions[(number * 7 + number // 20 + 3) % 20]}}}"


def segment(country, band):
    return f"{{property: \"country = '{country}'\"}}", f'{{property: "ltv >= {band} and ltv < {band + 125}"}}'


def segments(count, windows=WINDOWS):
    """Audiences of two of 20 conditions and one of 64 segments: the canonical job."""
    conditions = twenty(windows)
    each = (audience(f"a{n:05}", *of_two(n, conditions), *segment(COUNTRIES[n % 8], n // 8 % 8 * 125)) for n in range(count))
    return HEAD + "".join(each)


def dormant(count, by):
    """One audience whose members change, and `count` - 1 that nobody enters, over the same 20 conditions.

    Nobody enters them by the segment (a country that no row has, one of 64, and a band of `ltv`), by a threshold that nobody reaches (one of 20 counts), or since each has a
    condition of its own that no event meets (`by`: segment, threshold, condition). `by` is None for one audience over all 20 conditions: what the facts cost without the other audiences.
    """
    conditions = twenty()
    if by is None:
        return HEAD + audience("active", f"{{any: [{', '.join(conditions)}]}}", '{property: "country = \'de\'"}', conditions[0])
    out = [HEAD, audience("active", '{property: "country = \'de\'"}', conditions[0])]
    for n in range(count - 1):
        if by == "segment":
            never = segment(f"x{n % 64}", n // 8 % 8 * 125)
        elif by == "threshold":
            event, where, _ = FILTERS[n % 4]
            never = performed(event, where, 1_000_000, WINDOWS[n // 4 % 5]), *segment(COUNTRIES[n % 8], n // 8 % 8 * 125)
        else:
            never = (performed("page_viewed", f"where: \"path = '/campaign-{n}'\"", 1, "24h"),)
        out.append(audience(f"d{n:05}", *of_two(n, conditions), *never))
    return "".join(out)


def flipping(audiences):
    """So many audiences whose members change with nearly each page view: who has viewed a page in the last second. With none, one that nobody enters."""
    active = "{performed: page_viewed, within: 1s}"
    if audiences == 0:
        return HEAD + audience("a0", active, "{property: \"country = 'x'\"}")
    return HEAD + "".join(f"  a{n}: {{model: users, where: {active}}}\n" for n in range(audiences))


# A kind of state, and a condition that keeps it. `N` is another number in each fact, so that no two are one.
KINDS = [
    ("count, 1 or more", "{performed: ordered, at_least: 1, within: Ns}"),
    ("count, 3 or more", "{performed: ordered, at_least: 3, within: Ns}"),
    ("sum, at least", "{performed: ordered, sum: revenue, at_least: 1000000, within: Ns}"),
    ("distinct, 3 or more", "{performed: ordered, distinct: sku, at_least: 3, within: Ns}"),
    ("sequence", '{sequence: [{performed: ordered, where: "revenue > 40"}, {performed: ordered, where: "revenue < 0"}], within: Ns}'),
]


def keeping(condition, facts):
    """So many facts of a kind, in audiences that nobody is in: what is measured is what the facts keep, not members."""
    head = """job: bench
sources: {web: {file: {path: events.jsonl}, format: segment}}
models: {users: {parquet: users.parquet, key: user_id, columns: {ltv: number, country: string}}}
events:
  ordered: {source: web, type: track, name: Ordered, model: users, properties: {revenue: number, sku: string}}
audiences:
"""
    never = "{property: \"country = 'x'\"}"
    if not condition:
        return head + f"  a0: {{model: users, where: {never}}}\n"
    return head + "".join(audience(f"a{n}", condition.replace("Ns", f"{86_400 + n}s"), never) for n in range(facts))
