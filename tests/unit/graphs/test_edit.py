"""Edits of a graph's nodes and walks along its edges, on graphs of a few nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tpu2gpu.errors import GraphError
from tpu2gpu.graphs.edit import (
    add,
    ancestors,
    const,
    const_value,
    consumers,
    descendants,
    free_name,
    new_node,
    replace_all_uses,
    resolve,
    restate,
    skip_passthrough,
    topological_order,
    walk,
)
from tpu2gpu.graphs.ops import DT_FLOAT, DT_INT32


@pytest.fixture
def nodes() -> dict[str, Any]:
    """Make x -> first -> (twice by) sum -> out, where sum waits for check, and check for x."""
    nodes: dict[str, Any] = {}
    for name, op, inputs in (
        ("x", "Placeholder", []),
        ("first", "Identity", ["x"]),
        ("check", "Assert", ["^x"]),
        ("sum", "AddV2", ["first", "first:0", "^check"]),
        ("out", "Identity", ["sum"]),
    ):
        nodes[name] = new_node(name, op, inputs, T=DT_FLOAT)
    return nodes


def test_new_nodes_take_free_names(nodes: dict[str, Any]) -> None:
    assert add(nodes, "sum", "Relu", ["first"], T=DT_FLOAT).name == "sum_1"
    assert const(nodes, "sum", np.int32(7)) == "sum_2"
    assert nodes["sum_1"].attr["T"].type == DT_FLOAT
    assert list(nodes["sum_1"].input) == ["first"]
    assert nodes["sum_2"].attr["dtype"].type == DT_INT32
    assert const_value(nodes["sum_2"]) == 7


class Counted(set[str]):
    """Names that count how often they are looked up."""

    asked = 0

    def __contains__(self, name: object) -> bool:
        self.asked += 1
        return super().__contains__(name)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8, 9, 10_000])
def test_a_free_name_is_the_first_and_found_in_few_steps_however_many_are_taken(count: int) -> None:
    taken = Counted(["x", *(f"x_{number}" for number in range(1, count))] if count else [])
    assert free_name(taken, "x") == (f"x_{count}" if count else "x")
    assert taken.asked <= 30


def test_a_free_name_is_free_where_numbers_are_missing() -> None:
    taken = {"x", *(f"x_{number}" for number in (1, 2, 4, 5, 8, 9))}
    assert free_name(taken, "x") not in taken


def test_a_node_restated_keeps_name_and_inputs_alone(nodes: dict[str, Any]) -> None:
    nodes["sum"].attr["_class"].s = b"loc"
    restate(nodes["sum"], "Mul", T=DT_INT32)
    assert (nodes["sum"].name, nodes["sum"].op, list(nodes["sum"].attr)) == ("sum", "Mul", ["T"])
    assert list(nodes["sum"].input) == ["first", "first:0", "^check"]


def test_all_uses_of_a_tensor_are_replaced_waits_too(nodes: dict[str, Any]) -> None:
    replace_all_uses(nodes.values(), {"first": "x", "check": "x:1", "x": "elsewhere"})
    assert list(nodes["sum"].input) == ["x", "first:0", "^x"]  # another spelling is another key; once is enough
    assert list(nodes["check"].input) == ["^elsewhere"]


def test_replacements_are_followed_to_their_end() -> None:
    assert resolve({"a": "b", "b": "c:1"}, "a") == "c:1"
    with pytest.raises(GraphError, match="cycle through"):
        resolve({"a": "b", "b": "a"}, "a")


def test_ancestors_and_descendants_go_by_data_or_by_waits_too(nodes: dict[str, Any]) -> None:
    assert ancestors(nodes, ["out"]) == {"x", "first", "check", "sum", "out"}
    assert ancestors(nodes, ["out"], control=False) == {"x", "first", "sum", "out"}
    assert descendants(consumers(nodes), ["check"]) == {"check"}
    waits = consumers(nodes, control=True)
    assert descendants(waits, ["check"]) == {"check", "sum", "out"}
    assert descendants(waits, ["x"], lambda node: node.op != "AddV2") == {"x", "first", "check"}


def test_consumers_tell_which_input_a_tensor_is(nodes: dict[str, Any]) -> None:
    assert [(node.name, place) for node, place in consumers(nodes)["first"]] == [("sum", 0), ("sum", 1)]
    assert [(node.name, place) for node, place in consumers(nodes, control=True)["check"]] == [("sum", 2)]


def test_what_passes_values_on_is_skipped(nodes: dict[str, Any]) -> None:
    assert skip_passthrough(nodes, "out")[0].name == "sum"
    assert skip_passthrough(nodes, "out", ())[0].name == "out"
    nodes["first"].input[0] = "x:1"
    assert skip_passthrough(nodes, "first")[1] == 1


def test_a_walk_visits_the_nearest_or_the_last_found_first() -> None:
    tree = {"a": "bc", "b": "de", "c": "fa", "d": "", "e": "", "f": ""}
    assert "".join(walk("a", tree.__getitem__)) == "abcdef"
    assert "".join(walk("a", tree.__getitem__, depth_first=True)) == "acfbed"


def test_producers_come_first_and_a_cycle_is_named(nodes: dict[str, Any]) -> None:
    assert [node.name for node in topological_order(nodes)] == ["x", "first", "check", "sum", "out"]
    backwards = dict(reversed(nodes.items()))
    assert next(node.name for node in topological_order(backwards)) == "x"
    nodes["first"].input.append("^out")
    with pytest.raises(GraphError, match="cycle through") as told:
        topological_order(nodes)
    assert set(told.value.details) == {"first", "sum", "out"}
    nodes["back"] = new_node("back", "NextIteration", ["out"])
    nodes["first"].input[-1] = "back"
    assert len(topological_order(nodes)) == 6
