"""The wire format against protobuf's own encoder."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tpu2gpu import wire


@given(number=st.integers(-(2**63), 2**63 - 1))
def test_numbers_come_back(number: int) -> None:
    encoded = wire.varint(number)
    value, end = wire.read_varint(encoded, 0)
    assert (wire.signed(value), end) == (number, len(encoded))


@given(name=st.text(max_size=20), op=st.text(max_size=20), inputs=st.lists(st.text(max_size=5), max_size=4))
def test_a_message_made_by_hand_is_the_one_that_protobuf_makes(name: str, op: str, inputs: list[str]) -> None:
    from tensorflow.core.framework import node_def_pb2

    node = node_def_pb2.NodeDef(name=name, op=op, input=inputs)
    texts = [(1, name), (2, op)]
    by_hand = b"".join(wire.bytes_field(field, text.encode()) for field, text in texts if text)
    by_hand += b"".join(wire.bytes_field(3, text.encode()) for text in inputs)
    assert by_hand == node.SerializeToString(deterministic=True)
    found = [(field, value) for field, value in wire.fields(by_hand)]
    assert found == [(f, t.encode()) for f, t in texts if t] + [(3, text.encode()) for text in inputs]


@pytest.mark.parametrize("data", [b"\x80", b"\xff" * 11, b"\x0a\x05ab", b"\x0b", b"\x09\x01"])
def test_damage_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"damaged|cut short"):
        list(wire.fields(data))
