"""Makes `cases.jsonl`: random messages of `shop.proto`, written by Google's Protobuf, and what stands at random paths.

    pip install protobuf grpcio-tools
    python make.py > cases.jsonl

A line has the bytes in hexadecimal, the paths and, by path, what is found, as in `../avro/make.py`. It is computed from the message, not from its
bytes. Some messages are two, one after the other, which a reader must merge; some have fields of a newer schema.
"""

import base64
import importlib
import json
import pathlib
import random
import struct
import sys
import tempfile

from google.protobuf import json_format, struct_pb2, timestamp_pb2
from google.protobuf.descriptor import FieldDescriptor as F
from grpc_tools import protoc

here = pathlib.Path(__file__).parent
rng = random.Random(20261127)

with tempfile.TemporaryDirectory() as out:
    well_known = pathlib.Path(importlib.import_module("grpc_tools").__file__).parent / "_proto"
    assert protoc.main(["", f"-I{here}", f"-I{well_known}", f"--python_out={out}", "shop.proto", "parts.proto"]) == 0
    sys.path.insert(0, out)
    shop = importlib.import_module("shop_pb2")

NAMES = ["a", "b", "c", "ü"]


def text():
    return "".join(rng.choice("ab\"\\é\n😀") for _ in range(rng.randint(0, 5)))


def scalar(field):
    match field.type:
        case F.TYPE_DOUBLE:
            return rng.choice([0.0, 0.5, -2.0, 1e300, rng.uniform(-1, 1)])
        case F.TYPE_FLOAT:
            return struct.unpack("<f", struct.pack("<f", rng.uniform(-1e6, 1e6)))[0]
        case F.TYPE_INT32 | F.TYPE_SINT32 | F.TYPE_SFIXED32:
            return rng.choice([0, -1, rng.randint(-(2**31), 2**31 - 1)])
        case F.TYPE_UINT32 | F.TYPE_FIXED32:
            return rng.choice([0, 1, rng.randint(0, 2**32 - 1)])
        case F.TYPE_INT64 | F.TYPE_SINT64 | F.TYPE_SFIXED64:
            return rng.choice([0, -1, 2**63 - 1, -(2**63), rng.randint(-(2**40), 2**40)])
        case F.TYPE_UINT64 | F.TYPE_FIXED64:
            return rng.choice([0, 1, 2**64 - 1, rng.randint(0, 2**40)])
        case F.TYPE_BOOL:
            return rng.random() < 0.5
        case F.TYPE_STRING:
            return text()
        case F.TYPE_BYTES:
            return rng.randbytes(rng.randint(0, 5))
        case F.TYPE_ENUM:
            return rng.choice([value.number for value in field.enum_type.values] + [77])
    raise ValueError(field.type)


def any_value(value, depth):
    match rng.randint(0, 5 if depth else 3):
        case 0:
            value.null_value = 0
        case 1:
            value.number_value = rng.choice([0.0, 1.5, -3.0])
        case 2:
            value.string_value = text()
        case 3:
            value.bool_value = rng.random() < 0.5
        case 4:
            value.struct_value.SetInParent()
            any_struct(value.struct_value, depth - 1)
        case 5:
            value.list_value.SetInParent()
            for _ in range(rng.randint(0, 3)):
                any_value(value.list_value.values.add(), depth - 1)


def any_struct(struct_, depth):
    for name in rng.sample(NAMES, rng.randint(0, 3)):
        any_value(struct_.fields[name], depth)


def fill(message, depth):
    full_name = message.DESCRIPTOR.full_name
    if full_name == "google.protobuf.Struct":
        return any_struct(message, 2)
    if full_name == "google.protobuf.Value":
        return any_value(message, 2)
    if full_name == "google.protobuf.ListValue":
        for _ in range(rng.randint(0, 3)):
            any_value(message.values.add(), 1)
        return
    if full_name in ("google.protobuf.Timestamp", "google.protobuf.Duration"):
        message.seconds, message.nanos = rng.randint(0, 2 * 10**9), rng.randint(0, 10**9 - 1)
        return
    for field in message.DESCRIPTOR.fields:
        if rng.random() < 0.4:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            container = getattr(message, field.name)
            key, value = field.message_type.fields_by_name["key"], field.message_type.fields_by_name["value"]
            for _ in range(rng.randint(0, 3)):
                name = rng.choice(NAMES) if key.type == F.TYPE_STRING else rng.choice([True, False]) if key.type == F.TYPE_BOOL else rng.randint(-3, 3)
                if value.message_type is None:
                    container[name] = scalar(value)
                elif depth:
                    container[name].Clear()
                    fill(container[name], depth - 1)
        elif field.is_repeated:
            for _ in range(rng.randint(0, 3)):
                if field.message_type is None:
                    getattr(message, field.name).append(scalar(field))
                elif depth:
                    fill(getattr(message, field.name).add(), depth - 1)
        elif field.message_type is None:
            setattr(message, field.name, scalar(field))
        elif depth:
            getattr(message, field.name).SetInParent()
            fill(getattr(message, field.name), depth - 1)


class Record(dict):
    """Members by name."""


def found_scalar(field, value):
    match field.type:
        case F.TYPE_DOUBLE | F.TYPE_FLOAT:
            return {"double": value}
        case F.TYPE_BOOL:
            return {"boolean": value}
        case F.TYPE_STRING:
            return {"text": value}
        case F.TYPE_BYTES:
            return {"text": base64.b64encode(value).decode()}
        case F.TYPE_ENUM:
            named = field.enum_type.values_by_number.get(value)
            return {"text": named.name} if named else {"integer": str(value)}
    return {"decimal" if value >= 2**63 else "integer": str(value)}


def found_value(value):
    match value.WhichOneof("kind"):
        case "number_value":
            return {"double": value.number_value}
        case "string_value":
            return {"text": value.string_value}
        case "bool_value":
            return {"boolean": value.bool_value}
        case "struct_value":
            return found_message(value.struct_value)
        case "list_value":
            return found_message(value.list_value)
    return None


def found_message(message):
    full_name = message.DESCRIPTOR.full_name
    match full_name:
        case "google.protobuf.Timestamp":
            return {"timestamp": message.seconds * 1000 + message.nanos // 1_000_000}
        case "google.protobuf.Duration":
            nanos = message.seconds * 10**9 + message.nanos
            return {"decimal": f"{nanos // 10**9}.{nanos % 10**9:09}"}
        case "google.protobuf.Struct":
            return Record({name: found_value(value) for name, value in message.fields.items()})
        case "google.protobuf.Value":
            return found_value(message)
        case "google.protobuf.ListValue":
            return [found_value(value) for value in message.values]
    if full_name.startswith("google.protobuf.") and full_name.endswith("Value"):
        return found_scalar(message.DESCRIPTOR.fields[0], message.value)
    found = Record()
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            of = field.message_type.fields_by_name["value"]
            key = lambda name: str(name).lower() if isinstance(name, bool) else str(name)
            found[field.name] = Record(
                {key(name): found_message(item) if of.message_type else found_scalar(of, item) for name, item in value.items()}
            )
        elif field.is_repeated:
            found[field.name] = [found_message(item) if field.message_type else found_scalar(field, item) for item in value]
        elif field.has_presence and not message.HasField(field.name):
            continue
        else:
            found[field.name] = found_message(value) if field.message_type else found_scalar(field, value)
    return found


def as_json(found):
    if found is None:
        return None
    if isinstance(found, list):
        return [as_json(item) for item in found]
    if isinstance(found, Record):
        return {name: as_json(item) for name, item in found.items()}
    (kind, value), = found.items()
    match kind:
        case "integer":
            return int(value)
        case "decimal":
            return float(value)
        case "timestamp":
            return timestamp_pb2.Timestamp(seconds=value // 1000).ToJsonString().replace("Z", f".{value % 1000:03}Z")
    return value


def next_of(found, step):
    if step.startswith("["):
        index = int(step[1:-1])
        return found[index] if isinstance(found, list) and index < len(found) else None
    return found.get(step) if isinstance(found, Record) else None


def collect(found, path):
    if found is None:
        return []
    if not path:
        return [as_json(found)]
    if path[0] == "[*]":
        return [one for item in found for one in collect(item, path[1:])] if isinstance(found, list) else []
    return collect(next_of(found, path[0]), path[1:])


def at(found, path):
    for index, step in enumerate(path):
        if step == "[*]":
            return {"json": collect(found, path[index:])} if isinstance(found, list) else None
        found = next_of(found, step)
        if found is None:
            return None
    return {"json": as_json(found)} if isinstance(found, (list, Record)) else found


def random_path(found):
    path = []
    while not path or rng.random() < 0.85:
        if isinstance(found, list) and path:
            path.append(rng.choice(["[0]", "[1]", "[*]"]))
            found = found[0] if found else None
        elif isinstance(found, Record) and found:
            step = rng.choice(list(found))
            path.append(step)
            found = found[step]
        else:
            path = path or [rng.choice(NAMES)]
            break
    return path


for _ in range(400):
    message = shop.Event()
    fill(message, 3)
    data = message.SerializeToString()
    if rng.random() < 0.2:
        more = shop.Event()
        fill(more, 2)
        # Of a message that is given twice the reader takes the lists of the last.
        for field in shop.Event.DESCRIPTOR.fields:
            if field.message_type is not None and not field.is_repeated:
                more.ClearField(field.name)
        data += more.SerializeToString()
        message = shop.Event.FromString(data)
    if rng.random() < 0.3:
        data += rng.choice([b"\xfa\x06\x03new", b"\xf8\x06\x05", b"\xfd\x06\x01\x02\x03\x04", b"\xfb\x06\x08\x01\xfc\x06"])
        shop.Event.FromString(data)
    found = found_message(message)
    paths = []
    for _ in range(6):
        path = random_path(found)
        if path not in paths:
            paths.append(path)
    # The deepest message that it has must fit the reader's bound.
    json_format.MessageToJson(message)
    print(json.dumps({"paths": paths, "bytes": data.hex(), "found": [at(found, path) for path in paths]}, separators=(",", ":"), ensure_ascii=False))
