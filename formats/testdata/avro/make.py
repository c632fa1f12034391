"""Makes `cases.jsonl`: random Avro schemas and values, written by fastavro, and what stands at random paths.

    pip install fastavro==1.13.1
    python make.py > cases.jsonl

A line has the schema, the paths, the bytes in hexadecimal and, by path, what is found: null, or one of
{"boolean", "integer", "double", "decimal", "text", "timestamp", "date", "json"} with its value. It is computed from the value that was
written, not from its bytes.
"""

import base64
import datetime
import decimal
import io
import json
import random
import struct
import uuid

import fastavro

rng = random.Random(20261127)
names = ["a", "b", "c", "d"]
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


class Schemas:
    """Schemas of one case: named types have names of their own."""

    def __init__(self):
        self.count = 0
        self.records = []

    def name(self, kind):
        self.count += 1
        return f"{kind}{self.count}"

    def record(self, depth):
        name = self.name("R")
        self.records.append(name)
        fields = [{"name": field, "type": self.any(depth - 1)} for field in rng.sample(names, rng.randint(1, 4))]
        if rng.random() < 0.15:
            fields.append({"name": "next", "type": ["null", name]})
        self.records.pop()
        return {"type": "record", "name": name, "fields": fields, "namespace": rng.choice(["", "x.y"])}

    def any(self, depth):
        kinds = ["null", "boolean", "int", "long", "float", "double", "bytes", "string", "date", "millis", "micros",
                 "decimal", "fixed_decimal", "uuid", "fixed_uuid", "fixed", "enum"]
        if depth > 0:
            kinds += ["record", "array", "map", "union"] * 3
        kind = rng.choice(kinds)
        match kind:
            case "date":
                return {"type": "int", "logicalType": "date"}
            case "millis" | "micros":
                return {"type": "long", "logicalType": rng.choice(["timestamp-", "local-timestamp-"]) + kind}
            case "decimal":
                return {"type": "bytes", "logicalType": "decimal", "precision": 76, "scale": rng.randint(0, 40)}
            case "fixed_decimal":
                return {"type": "fixed", "name": self.name("F"), "size": 12, "logicalType": "decimal", "precision": 28, "scale": 9}
            case "uuid":
                return {"type": "string", "logicalType": "uuid"}
            case "fixed_uuid":
                # fastavro does not know it: bytes are written.
                return {"type": "fixed", "name": self.name("U"), "size": 16, "logicalType": "uuid"}
            case "fixed":
                return {"type": "fixed", "name": self.name("F"), "size": rng.randint(0, 5)}
            case "enum":
                return {"type": "enum", "name": self.name("E"), "symbols": ["RED", "GREEN", "BLUE"]}
            case "record":
                return self.record(depth)
            case "array":
                return {"type": "array", "items": self.any(depth - 1)}
            case "map":
                return {"type": "map", "values": self.any(depth - 1)}
            case "union":
                # One that each value has one branch of.
                branches = rng.sample(["string", "long", "boolean", "array", "record"], rng.randint(1, 3))
                made = {"array": lambda: {"type": "array", "items": self.any(depth - 1)}, "record": lambda: self.record(depth)}
                branches = [made[branch]() if branch in made else branch for branch in branches]
                branches.insert(rng.randint(0, len(branches)), "null")
                return branches
        return kind


def text():
    return "".join(rng.choice("ab\"\\é\n😀") for _ in range(rng.randint(0, 5)))


class Written:
    """A value for fastavro, and what is found of it."""

    def __init__(self, value, found):
        self.value, self.found = value, found


def write(schema, known, depth=0):
    """Returns a random value of a schema."""
    if isinstance(schema, list):
        branch = rng.choice(schema)
        return write("null" if depth > 6 else branch, known, depth + 1)
    if isinstance(schema, str):
        schema = known.get(schema, {"type": schema})
    kind, logical = schema["type"], schema.get("logicalType")
    if kind in ("record", "enum", "fixed"):
        known[schema["name"]] = schema
    match (kind, logical):
        case ("null", _):
            return Written(None, None)
        case ("boolean", _):
            value = rng.random() < 0.5
            return Written(value, {"boolean": value})
        case ("int", "date"):
            days = rng.randint(-1000, 40000)
            return Written(days, {"date": days * 86_400_000})
        case ("long", str()):
            unit = 1 if logical.endswith("millis") else 1000
            raw = rng.randint(-(10**12), 2 * 10**12) * unit + rng.randint(0, unit - 1)
            return Written(raw, {"timestamp": raw // unit})
        case ("int", _):
            value = rng.choice([0, 1, -1, rng.randint(-(2**31), 2**31 - 1)])
            return Written(value, {"integer": str(value)})
        case ("long", _):
            value = rng.choice([0, 1, -1, 2**63 - 1, -(2**63), rng.randint(-(2**40), 2**40)])
            return Written(value, {"integer": str(value)})
        case ("float", _):
            value = struct.unpack("<f", struct.pack("<f", rng.uniform(-1e6, 1e6)))[0]
            return Written(value, {"double": value})
        case ("double", _):
            value = rng.choice([0.5, -2.0, 1e300, rng.uniform(-1, 1)])
            return Written(value, {"double": value})
        case ("bytes" | "fixed", "decimal"):
            digits = rng.randint(1, 28 if kind == "fixed" else 76)
            value = decimal.Decimal(rng.choice([0, 1]), decimal.Context(prec=100))
            value = decimal.Decimal((rng.randint(0, 1), [rng.randint(0, 9) for _ in range(digits)], -schema["scale"]))
            if value.is_zero():
                value = abs(value)
            return Written(value, {"decimal": f"{value:f}"})
        case ("string", "uuid"):
            value = uuid.UUID(int=rng.getrandbits(128))
            return Written(value, {"text": str(value)})
        case ("fixed", "uuid"):
            value = rng.randbytes(16)
            return Written(value, {"text": str(uuid.UUID(bytes=value))})
        case ("bytes", _):
            value = rng.randbytes(rng.randint(0, 5))
            return Written(value, {"text": base64.b64encode(value).decode()})
        case ("fixed", _):
            value = rng.randbytes(schema["size"])
            return Written(value, {"text": base64.b64encode(value).decode()})
        case ("string", _):
            value = text()
            return Written(value, {"text": value})
        case ("enum", _):
            value = rng.choice(schema["symbols"])
            return Written(value, {"text": value})
        case ("array", _):
            items = [write(schema["items"], known, depth + 1) for _ in range(rng.randint(0, 3) if depth < 6 else 0)]
            return Written([item.value for item in items], items)
        case ("map", _):
            keys = rng.sample(names, rng.randint(0, 3) if depth < 6 else 0)
            values = {key: write(schema["values"], known, depth + 1) for key in keys}
            return Written({key: item.value for key, item in values.items()}, values)
        case ("record", _):
            values = {field["name"]: write(field["type"], known, depth + 1) for field in schema["fields"]}
            return Written({key: item.value for key, item in values.items()}, values)
    raise ValueError(schema)


def as_json(found):
    """What is found as JSON, as the reader writes it."""
    if found is None:
        return None
    if isinstance(found, list):
        return [as_json(item.found) for item in found]
    if isinstance(found, dict) and all(isinstance(item, Written) for item in found.values()):
        return {key: as_json(item.found) for key, item in found.items()}
    (kind, value), = found.items()
    match kind:
        case "integer":
            return int(value)
        case "decimal":
            return float(value)
        case "timestamp":
            at = EPOCH + datetime.timedelta(milliseconds=value)
            return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{value % 1000:03}Z"
        case "date":
            return (EPOCH + datetime.timedelta(milliseconds=value)).strftime("%Y-%m-%d")
    return value


def collect(found, path):
    """What stands at the end of a path behind `[*]`, as JSON values; nulls are left out."""
    if not path:
        value = as_json(found)
        return [] if value is None else [value]
    step, rest = path[0], path[1:]
    if step == "[*]":
        return [one for item in found for one in collect(item.found, rest)] if isinstance(found, list) else []
    item = next_of(found, step)
    return [] if item is None else collect(item.found, rest)


def next_of(found, step):
    if step.startswith("["):
        index = int(step[1:-1])
        return found[index] if isinstance(found, list) and index < len(found) else None
    inside = isinstance(found, dict) and all(isinstance(item, Written) for item in found.values())
    return found.get(step) if inside else None


def at(found, path):
    for index, step in enumerate(path):
        if step == "[*]":
            return {"json": collect(found, path[index:])} if isinstance(found, list) else None
        item = next_of(found, step)
        if item is None:
            return None
        found = item.found
    inside = isinstance(found, list) or isinstance(found, dict) and all(isinstance(item, Written) for item in found.values())
    return {"json": as_json(found)} if inside else found


def random_path(found):
    path = []
    while rng.random() < 0.85:
        if isinstance(found, list) and rng.random() < 0.9:
            path.append(rng.choice(["[0]", "[1]", "[*]"]))
            if not found:
                continue
            found = found[min(len(found) - 1, rng.randint(0, 1))].found
        elif isinstance(found, dict) and found and all(isinstance(item, Written) for item in found.values()):
            step = rng.choice(list(found)) if rng.random() < 0.9 else rng.choice(names)
            path.append(step)
            found = found[step].found if step in found else None
        else:
            break
    return path or [rng.choice(names)]


for _ in range(500):
    schemas = Schemas()
    schema = schemas.record(3)
    parsed = fastavro.parse_schema(json.loads(json.dumps(schema)))
    # The named types that `next` refers to.
    known = {}
    written = write(schema, known)
    out = io.BytesIO()
    fastavro.schemaless_writer(out, parsed, written.value)
    paths = []
    for _ in range(6):
        path = random_path(written.found)
        if path not in paths and path[0] not in ("[0]", "[1]", "[*]"):
            paths.append(path)
    line = {
        "schema": schema,
        "paths": paths,
        "bytes": out.getvalue().hex(),
        "found": [at(written.found, path) for path in paths],
    }
    print(json.dumps(line, separators=(",", ":")))
