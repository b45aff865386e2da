"""The protobuf wire format, as far as streaming large messages by hand needs it.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def varint(value: int) -> bytes:
    """Encode a number; a negative one as its 64-bit two's complement."""
    value &= (1 << 64) - 1
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def read_varint(data: bytes | memoryview, position: int) -> tuple[int, int]:
    """Decode a number.

    Returns:
        The number and the position behind it.

    Raises:
        ValueError: The data ends inside the number, or it has more than 64 bits.
    """
    value = shift = 0
    while position < len(data) and shift < 64:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("a varint is cut short or too long")


def signed(value: int) -> int:
    """Read a decoded varint as a signed 64-bit number."""
    return value - (1 << 64) if value >> 63 else value


def tag(field: int, kind: int) -> bytes:
    """Encode the key before a field's value."""
    return varint(field << 3 | kind)


def bytes_header(field: int, size_bytes: int) -> bytes:
    """Encode what stands before a string, bytes or message field of the given size."""
    return tag(field, BYTES) + varint(size_bytes)


def bytes_field(field: int, payload: bytes) -> bytes:
    """Encode a whole string, bytes or message field."""
    return bytes_header(field, len(payload)) + payload


def varint_field(field: int, value: int) -> bytes:
    """Encode an integer field; nothing when the value is 0, as proto3 writes it."""
    return tag(field, VARINT) + varint(value) if value else b""


def spans(data: memoryview) -> Iterator[tuple[int, int, int, int]]:
    """Walk over a message's fields without copying them.

    Yields:
        The field's number, where it starts, where its payload starts, and where it ends.

    Raises:
        ValueError: The message is damaged.
    """
    position = 0
    while position < len(data):
        start = position
        key, position = read_varint(data, position)
        kind = key & 7
        if kind == VARINT:
            inner = position
            _, position = read_varint(data, position)
        else:
            size = {FIXED64: 8, FIXED32: 4}.get(kind, -1)
            if kind == BYTES:
                size, position = read_varint(data, position)
            inner, position = position, position + size
            if size < 0 or position > len(data):
                raise ValueError(f"field {key >> 3} is damaged")
        yield key >> 3, start, inner, position


def fields(data: bytes | memoryview) -> Iterator[tuple[int, int | bytes]]:
    """Walk over a message's fields in the order in which they stand.

    Yields:
        The field's number, and its value: an int, or the bytes of a string or message.

    Raises:
        ValueError: The message is damaged.
    """
    position = 0
    while position < len(data):
        key, position = read_varint(data, position)
        field, kind = key >> 3, key & 7
        if kind == VARINT:
            value, position = read_varint(data, position)
            yield field, value
            continue
        if kind == BYTES:
            size, position = read_varint(data, position)
        else:
            size = {FIXED64: 8, FIXED32: 4}.get(kind, -1)
        if size < 0 or position + size > len(data):
            raise ValueError(f"field {field} is damaged")
        payload = bytes(data[position : position + size])
        position += size
        yield field, payload if kind == BYTES else int.from_bytes(payload, "little")
