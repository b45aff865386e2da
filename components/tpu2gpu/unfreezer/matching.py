"""Find which weight of a frozen graph belongs to which variable of model code: by name, then by shape and place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import attrs

# What the last parts of variables' names say of their role, as frameworks call them.
_ROLES = {
    "kernel": "kernel weights weight w depthwise_kernel pointwise_kernel recurrent_kernel",
    "bias": "bias biases b",
    "gamma": "gamma",
    "beta": "beta",
    "moving mean": "moving_mean mean",
    "moving variance": "moving_variance moving_var variance",
    "embedding": "embeddings embedding embedding_table",
}
ROLE_OF_NAME = {name: role for role, names in _ROLES.items() for name in names.split()}
# Roles that a graph shows by what it does, not by how a framework calls it.
_SAME = {"scale": "gamma", "shift": "beta"}
# What graphs append to the names of variables when they are frozen.
_FROZEN_SUFFIXES = ("/ReadVariableOp/resource", "/ReadVariableOp", "/resource", "/read", "/Read", ":0")


@attrs.frozen
class Candidate:
    """A weight of the frozen graph, or a variable of the code.

    Attributes:
        name: Its name.
        shape: Its shape.
        dtype: numpy's name of its type.
        role: What it is, nothing when unknown.
        trainable: Whether gradients change it, None when unknown.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    role: str = ""
    trainable: bool | None = None


@attrs.frozen
class Match:
    """A variable of the code and the weight that it takes.

    Attributes:
        variable: The code's variable.
        weight: The frozen graph's weight.
        by: `name`, `end of the name`, or `shape and place`.
    """

    variable: str
    weight: str
    by: str


@attrs.frozen
class Matching:
    """The matches of weights and variables, and what is left of both.

    Attributes:
        matches: The pairs.
        unmatched_weights: Weights that no variable takes.
        unmatched_variables: Variables that no weight fills.
    """

    matches: list[Match]
    unmatched_weights: list[str]
    unmatched_variables: list[str]


def match(weights: Sequence[Candidate], variables: Sequence[Candidate]) -> Matching:
    """Match weights to variables; types and shapes must be equal.

    First go equal names, then names of which one is the other's end, where that tells. What is left is paired in
    order among those of one shape, type and role, where there are as many on both sides: then among those of one
    shape and type.

    Args:
        weights: In the order of the graph.
        variables: In the order in which the code makes them.
    """
    left, wanted = {it.name: it for it in weights}, {it.name: it for it in variables}
    matches: list[Match] = []

    def pair(variable: Candidate, weight: Candidate, by: str) -> None:
        matches.append(Match(variable.name, weight.name, by))
        del left[weight.name], wanted[variable.name]

    for variable, weight in _equal_names(left.values(), wanted.values()):
        pair(variable, weight, "name")
    for variable, weight in _equal_ends(left.values(), wanted.values()):
        pair(variable, weight, "end of the name")
    keys: list[Callable[[Candidate], Hashable]] = [
        lambda it: (it.shape, it.dtype, _role(it)),
        lambda it: (it.shape, it.dtype, it.trainable),
        lambda it: (it.shape, it.dtype),
    ]
    for key in keys:
        for variable, weight in _in_order(left.values(), wanted.values(), key):
            pair(variable, weight, "shape and place")
    order = {variable.name: position for position, variable in enumerate(variables)}
    return Matching(sorted(matches, key=lambda it: order[it.variable]), list(left), list(wanted))


def type_in_the_way(weights: Sequence[Candidate], variables: Sequence[Candidate]) -> str:
    """Return the variables' type where all weights have shapes of theirs and another type, else nothing."""
    types = {it.dtype for it in variables if it.shape in {weight.shape for weight in weights}}
    shapes = {it.shape for it in variables}
    differ = len(types) == 1 and all(it.shape in shapes and it.dtype not in types for it in weights)
    return types.pop() if differ else ""


def plain_name(name: str) -> str:
    """Strip from a variable's name what freezing and TensorFlow append."""
    for suffix in _FROZEN_SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def role_of(name: str) -> str:
    """Return the role that the last part of a variable's name tells, or nothing."""
    return ROLE_OF_NAME.get(plain_name(name).rsplit("/", 1)[-1].rsplit(".", 1)[-1].lstrip("_"), "")


def _role(candidate: Candidate) -> str:
    return _SAME.get(candidate.role, candidate.role)


def _fits(weight: Candidate, variable: Candidate) -> bool:
    return (weight.shape, weight.dtype) == (variable.shape, variable.dtype)


Pairs = list[tuple[Candidate, Candidate]]


def _equal_names(weights: Iterable[Candidate], variables: Iterable[Candidate]) -> Pairs:
    by_name: dict[str, list[Candidate]] = defaultdict(list)
    for weight in weights:
        by_name[plain_name(weight.name)].append(weight)
    found = []
    for variable in variables:
        named = by_name[plain_name(variable.name)]
        if len(named) == 1 and _fits(named[0], variable):
            found.append((variable, named.pop()))
    return found


def _equal_ends(weights: Iterable[Candidate], variables: Iterable[Candidate]) -> Pairs:
    """Return the pairs where one name is the end of the other, and of no other of the same shape."""
    remaining, pairs = list(weights), []
    for variable in list(variables):
        fitting = [it for it in remaining if _fits(it, variable) and _is_end(it.name, variable.name)]
        if len(fitting) == 1:
            pairs.append((variable, fitting[0]))
    taken: dict[str, int] = defaultdict(int)
    for _, weight in pairs:
        taken[weight.name] += 1
    return [(variable, weight) for variable, weight in pairs if taken[weight.name] == 1]


def _is_end(one: str, other: str) -> bool:
    one, other = "/" + plain_name(one), "/" + plain_name(other)
    return "/" in one[1:] and "/" in other[1:] and (one.endswith(other) or other.endswith(one))


def _in_order(weights: Iterable[Candidate], variables: Iterable[Candidate], key: Callable[..., Any]) -> Pairs:
    sides: tuple[dict[Any, list[Candidate]], dict[Any, list[Candidate]]] = (defaultdict(list), defaultdict(list))
    for side, candidates in zip(sides, (weights, variables), strict=True):
        for candidate in candidates:
            side[key(candidate)].append(candidate)
    pairs: Pairs = []
    for group, members in sides[1].items():
        if len(members) == len(sides[0].get(group, ())):
            pairs.extend(zip(members, sides[0][group], strict=True))
    return pairs
