"""Messages of protobuf, spoilt in their structure: what comes out is a sound message of a broken thing."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from tests.fuzz.mutations.blobs import mutate_bytes

_DOWNWARD = ("graph_def", "node", "library", "function", "node_def", "attr", "graph", "input", "initializer")
_NUMBERS = (-(1 << 63), -(1 << 31), -2, -1, 0, 1, 2, 3, 7, 255, 1 << 20, (1 << 31) - 1, 1 << 31, 1 << 40, (1 << 63) - 1)
_TYPES = (-1, 0, 1, 3, 7, 9, 10, 14, 20, 21, 23, 31, 99, 101, 120, 100000)
_FLOATS = (0.0, -1.0, float("nan"), float("inf"), 1e300)
_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, (1 << 64) - 1),
}


def mutate_message(message: Any, rng: random.Random) -> None:
    """Change one to five things somewhere in a message."""
    words = Words(message)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
        _descend(message, rng, words)


class Words:
    """Names that stand somewhere in a message, so that one may come to stand for another."""

    def __init__(self, message: Any) -> None:
        self._message, self._words = message, list[str]()

    def choose(self, rng: random.Random) -> str:
        """Return one of them."""
        if not self._words:
            self._words = sorted(set(_names(self._message))) or ["x"]
        return rng.choice(self._words)


def _names(message: Any, depth: int = 0) -> list[str]:
    found: list[str] = []
    for field, value in message.ListFields() if depth < 6 else ():
        if field.cpp_type == FieldDescriptor.CPPTYPE_STRING and field.type == FieldDescriptor.TYPE_STRING:
            found += [value] if isinstance(value, str) else list(value)
        elif _is_map(field):
            for key in list(value)[:40]:
                found += [key] if isinstance(key, str) else []
                if hasattr(value[key], "ListFields"):
                    found += _names(value[key], depth + 1)
        elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            for each in list(value)[:200] if _is_repeated(field) else [value]:
                found += _names(each, depth + 1)
    return found


def _is_repeated(field: Any) -> bool:
    return bool(field.label == FieldDescriptor.LABEL_REPEATED)


def _is_map(field: Any) -> bool:
    return bool(field.message_type is not None and field.message_type.GetOptions().map_entry)


def _descend(message: Any, rng: random.Random, words: Words) -> None:
    fields = [field for field, _ in message.ListFields()]
    if not fields or rng.random() < 0.03:
        fields = list(message.DESCRIPTOR.fields)
    if not fields:
        return
    if message.DESCRIPTOR.full_name == "tensorflow.AttrValue" and rng.random() < 0.4:
        _retype(message, rng, words)
        return
    if message.DESCRIPTOR.full_name == "tensorflow.TensorShapeProto" and rng.random() < 0.3:
        _reshape(message, rng)
        return
    field = rng.choices(fields, [6 if field.name in _DOWNWARD else 1 for field in fields])[0]
    value = getattr(message, field.name)
    if _is_map(field):
        _change_map(value, field, rng, words)
    elif _is_repeated(field):
        _change_list(value, field, rng, words)
    elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        if rng.random() < 0.08:
            message.ClearField(field.name)
        else:
            value.SetInParent()
            _descend(value, rng, words)
    elif rng.random() < 0.1:
        message.ClearField(field.name)
    else:
        with suppress(ValueError):  # a number that an enumeration of proto2 has not
            setattr(message, field.name, _scalar(field, value, rng, words))


def _change_map(value: Any, field: Any, rng: random.Random, words: Words) -> None:
    keys = sorted(value)
    kind = rng.random()
    values_field = field.message_type.fields_by_name["value"]
    is_message = values_field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE
    if not keys:
        return
    key = rng.choice(keys)
    if kind < 0.15:
        del value[key]
    elif kind < 0.3:
        other = rng.choice(keys) if rng.random() < 0.5 or not isinstance(key, str) else words.choose(rng)
        if is_message:
            value[other].CopyFrom(type(value[key]).FromString(value[key].SerializeToString()))
        else:
            value[other] = value[key]
    elif is_message:
        _descend(value[key], rng, words)
    else:
        value[key] = _scalar(values_field, value[key], rng, words)


def _change_list(value: Any, field: Any, rng: random.Random, words: Words) -> None:
    is_message = field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE
    kind = rng.random()
    if not len(value):
        value.add() if is_message else value.append(_scalar(field, None, rng, words))
        return
    place, other = rng.randrange(len(value)), rng.randrange(len(value))
    if kind < 0.08:
        del value[place]
    elif kind < 0.1:
        del value[:]
    elif kind < 0.16:
        value.append(value[place])
    elif kind < 0.22 and is_message:
        value[place].CopyFrom(type(value[other]).FromString(value[other].SerializeToString()))
    elif kind < 0.3 and not is_message:
        value[place], value[other] = value[other], value[place]
    elif kind < 0.4 and not is_message:
        value.append(_scalar(field, value[place], rng, words))
    elif is_message:
        _descend(value[place], rng, words)
    else:
        value[place] = _scalar(field, value[place], rng, words)


def _scalar(field: Any, value: Any, rng: random.Random, words: Words) -> Any:
    kind = field.cpp_type
    if kind in _INTEGERS:
        low, high = _INTEGERS[kind]
        return min(max(rng.choice((*_NUMBERS, (value or 0) + 1)), low), high)
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return rng.choice((*_TYPES, *(it.number for it in field.enum_type.values)))
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return not value
    if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return rng.choice(_FLOATS)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return rng.choice((b"", mutate_bytes(value or b"x", rng), b"x" * 5000, b"\xff\xfe"))
    return _text(value or "", rng, words)


def _text(value: str, rng: random.Random, words: Words) -> str:
    kind = rng.random()
    if kind < 0.6:
        return words.choose(rng)
    other = words.choose(rng)
    return rng.choice(
        ("", value + "x", "^" + other, other + ":1", other + ":-1", f"{value}:0:0", f"{other}:output:7", ":", "^", "\0")
    )


def _retype(attribute: Any, rng: random.Random, words: Words) -> None:
    """Give an attribute of a node another kind of value."""
    kind = rng.randrange(9)
    if kind == 0:
        attribute.Clear()
    elif kind == 1:
        attribute.i = rng.choice(_NUMBERS)
    elif kind == 2:
        attribute.type = rng.choice(_TYPES)
    elif kind == 3:
        attribute.s = rng.choice((b"", b"x", b"NHWC", b"\xff"))
    elif kind == 4:
        _reshape(attribute.shape, rng)
    elif kind == 5:
        attribute.list.type.extend(rng.choices(_TYPES, k=rng.randrange(4)))
    elif kind == 6:
        attribute.func.name = words.choose(rng)
    elif kind == 7:
        attribute.tensor.dtype = rng.choice(_TYPES)
        _reshape(attribute.tensor.tensor_shape, rng)
        attribute.tensor.float_val.append(1.0)
    else:
        attribute.list.func.add(name=words.choose(rng))


def _reshape(shape: Any, rng: random.Random) -> None:
    kind = rng.randrange(5)
    del shape.dim[:]
    if kind == 0:
        shape.unknown_rank = True
    elif kind == 1:
        for _ in range(70):
            shape.dim.add(size=1)
    else:
        for _ in range(rng.randrange(4)):
            shape.dim.add(size=rng.choice(_NUMBERS))
