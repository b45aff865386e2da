"""Types of a node's tensors are those of its attributes, or of the defaults that its op has for them."""

from __future__ import annotations

from typing import Any

import pytest

from tpu2gpu.graphs.edit import new_node
from tpu2gpu.graphs.nodes import OpDefs

FLOAT, INT32, INT64, STRING = 1, 3, 9, 7


def _split(count: int) -> Any:
    node = new_node("n", "Split", T=INT64)
    node.attr["num_split"].i = count
    return node


def _identity_n() -> Any:
    node = new_node("n", "IdentityN")
    node.attr["T"].list.type.extend([STRING, FLOAT])
    return node


@pytest.mark.parametrize(
    ("node", "taken", "given"),
    [
        (new_node("n", "Relu", T=INT64), [INT64], [INT64]),
        (new_node("n", "MaxPool"), [FLOAT], [FLOAT]),
        (new_node("n", "ArgMax", T=INT64), [INT64, INT32], [INT64]),
        (_split(3), [INT32, INT64], [INT64] * 3),
        (_split(-1), [INT32, INT64], []),
        (_identity_n(), [STRING, FLOAT], [STRING, FLOAT]),
        (new_node("n", "Relu"), [0], [0]),
    ],
    ids=["an attribute", "a default", "fixed, and defaults", "so many", "less than none", "a list", "nothing tells"],
)
def test_slots_and_types_agree(node: Any, taken: list[int], given: list[int]) -> None:
    ops, before = OpDefs(), node.SerializeToString(deterministic=True)
    found = ops.arguments(node.op)
    assert found is not None
    for arguments, slots, wanted in zip(found, (ops.inputs(node), ops.outputs(node)), (taken, given), strict=True):
        assert [slot.type_of(node) for slot in slots or ()] == wanted
        assert arguments.dtypes(node.attr, 100) == wanted
        assert [it for each in arguments.by_name(node.attr, 100).values() for it in each] == wanted
    assert node.SerializeToString(deterministic=True) == before
