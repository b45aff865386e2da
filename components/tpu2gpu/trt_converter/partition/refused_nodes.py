"""Nodes of a graph that a refusal of tf2onnx, ONNX Runtime or an engine builder is about."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

from tpu2gpu.errors import ConversionError, Tpu2GpuError, first_line
from tpu2gpu.graphs.calls import function_names
from tpu2gpu.graphs.model import ServingModel

_LISTED = re.compile(r"^\w+: (.+?)(?: and \d+ more)?$")  # `check_operations`: a kind and the names of its nodes
_UNKNOWN_TO_ONNX = "tf2onnx makes nothing of it that ONNX knows"
_INVENTED = re.compile(r"__\d+$")
_NAMES = [
    re.compile(pattern)
    for pattern in (
        r"node with name '([^']+)'",  # ONNX Runtime: no kernel
        r"in node \(([^)]+)\)",  # ONNX Runtime: types
        r"Node \(([^)]+)\)",  # ONNX Runtime and onnx.checker: shapes
        r"Node:(\S+)",
        r"Name:\s?'([^']*)'",  # ONNX Runtime, while it runs
        r"\(op_type:\w+, node name: ([^)]+)\)",  # onnx.checker
        r"Failed to convert node '([^']+)'",  # tf2onnx
        r"op \[([^\]:]+): ",
        r"[Oo]p(?:eration)? with name ([^\s:,]+)",
        r"^(?:[A-Z]\w+ )?([\w./-]+): ",  # an engine's parser, as `engine_build` tells it
        r"for node (\S+?)\.?(?:\s|$)",  # an engine's builder
        r"\.\.\.([\w./-]+?)(?:_\d+)? has no runners",
    )
]


class Refusal(TypedDict):
    """What an engine builder said of a file, and what had been refused before.

    Attributes:
        message: The refusal.
        details: Its lines.
        nodes: The nodes that were refused before, with the reasons.
    """

    message: str
    details: list[str]
    nodes: dict[str, str]


class EngineRefusedError(ConversionError):
    """An engine builder does not take the file of a conversion.

    Attributes:
        refusal: What it said, and what had been refused before.
    """

    refusal: Refusal

    @classmethod
    def of(cls, error: ConversionError, nodes: Mapping[str, str]) -> EngineRefusedError:
        """Make it of the builder's refusal.

        Args:
            error: The refusal.
            nodes: The nodes that had been refused before, with the reasons.
        """
        made = cls(error.message, details=error.details, hint=error.hint)
        made.refusal = {"message": error.message, "details": list(error.details), "nodes": dict(nodes)}
        return made


def refused_nodes(model: ServingModel, error: Tpu2GpuError) -> dict[str, str]:
    """Return the nodes that a refusal names, with the reason.

    Args:
        model: The flat model that was converted, or of which a part was.
        error: The refusal; its message and details quote those that refused.

    Returns:
        For each node the line that names it, or words for one that only names it; nothing where none is named.
    """
    owners = _owners(model)
    found: dict[str, str] = {}
    for line in [first_line(error), *(line for detail in error.details for line in detail.splitlines())]:
        named, why = [match.group(1) for pattern in _NAMES for match in pattern.finditer(line)], line.strip()
        if listed := _LISTED.match(line):
            places = [_source_name(each, owners) for each in listed.group(1).split(", ")]
            named, why = [*named, *listed.group(1).split(", ")], _UNKNOWN_TO_ONNX if all(places) else why
        for each in named:
            if name := _source_name(each, owners):
                found.setdefault(owners[name], why)
    return found


def _owners(model: ServingModel) -> dict[str, str]:
    """Return for every node, those of bodies included, the node of the flat graph that holds it."""
    owners: dict[str, str] = {}

    def own(nodes: Iterable[Any], owner: str, seen: frozenset[str]) -> None:
        for node in nodes:
            for name in function_names(node):
                if name in model.functions and name not in seen:
                    holder = owner or node.name
                    for inner in model.functions[name].node_def:
                        owners.setdefault(inner.name, holder)
                        owners.setdefault(f"{holder}/{inner.name}", holder)
                    own(model.functions[name].node_def, holder, seen | {name})

    owners.update({name: name for name, node in model.nodes.items() if node.op not in ("Const", "Placeholder")})
    own(model.nodes.values(), "", frozenset())
    return owners


def _source_name(name: str, owners: Mapping[str, str]) -> str:
    """Return the node that an ONNX node was made of: its name begins with the other's."""
    while name not in owners and _INVENTED.search(name):
        name = _INVENTED.sub("", name)
    while name not in owners:
        shorter = max(name.rfind(mark) for mark in "/_:")
        if shorter <= 0:
            return ""
        name = name[:shorter]
    return name
