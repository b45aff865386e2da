"""Walk through a StableHLO program, and make the nodes of each operation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import attrs
import numpy as np

from tpu2gpu.errors import UnsupportedError
from tpu2gpu.graphs.edit import walk
from tpu2gpu.graphs.stablehlo.graph_builder import GraphBuilder
from tpu2gpu.graphs.stablehlo.lowering.registry import (
    AS_IT_IS,
    CALL_PREFIXES,
    IDLE_CALLS,
    Lower,
    call_target,
    lowerings,
)
from tpu2gpu.graphs.stablehlo.program import Block, Operation, Program, TensorType
from tpu2gpu.graphs.stablehlo.sizes import Size, Unknown, atom, substitute
from tpu2gpu.graphs.stablehlo.values import Sizes, Value, of_tensor

CONTRADICTS = "its operands and attributes contradict each other"
"""What is wrong where a lowering fails, which takes an operation for sound."""

_DIALECTS = ("stablehlo", "func", "chlo", "")
_RETURNS = ("return", "stablehlo.return", "func.return", "mhlo.return")


def _find(name: str) -> Lower | None:
    dialect, _, short = name.partition(".")
    return lowerings().get(short if dialect in _DIALECTS else name)


def check_known(program: Program) -> None:
    """Check that every operation of a program has a counterpart, before any is lowered.

    Raises:
        NotLoweredError: Some have none; all are named.
    """
    found: dict[str, int] = {}
    for operation in walk([it for function in program.values() for it in function.body.operations], _inner):
        if operation.name not in _RETURNS and (why := _why_not(operation)):
            found[why] = found.get(why, 0) + 1
    if found:
        raise NotLoweredError("; ".join(f"{count} {why}" for why, count in sorted(found.items())))


def _inner(operation: Operation) -> list[Operation]:
    return [it for region in operation.regions for it in region.operations]


def unknown_calls(program: Program) -> list[str]:
    """Return the targets of custom calls that are not known only to compute."""
    operations = walk([it for function in program.values() for it in function.body.operations], _inner)
    targets = {call_target(it) for it in operations if it.name.endswith(".custom_call")}
    return sorted(target for target in targets if not _is_known_call(target))


def _why_not(operation: Operation) -> str:
    if not operation.name.endswith(".custom_call"):
        return "" if _find(operation.name) else f"{operation.name}: no counterpart"
    target = call_target(operation)
    if _is_known_call(target):
        return ""
    is_of_dialect = target.startswith(CALL_PREFIXES)
    return (
        f"custom_call @{target}: {'no counterpart' if is_of_dialect else 'code of its own, which nobody has reviewed'}"
    )


def _is_known_call(target: str) -> bool:
    plain = [target.removeprefix(it) for it in CALL_PREFIXES if target.startswith(it)]
    return target in IDLE_CALLS or any(_find(f"chlo.{it}") for it in plain)


def _atom_of(size: Size) -> str:
    """Return the tensor that holds a size, and nothing for a sum or a product."""
    if not isinstance(size, Unknown) or len(size.terms) != 1:
        return ""
    name = size.terms[0][0][0]
    return name if size == atom(name) else ""


class NotLoweredError(UnsupportedError):
    """Operations that have no counterpart."""


@attrs.define(eq=False)
class Lowering:
    """The lowering of one program.

    Attributes:
        program: The functions.
        graph: What makes the nodes.
        function_name: Returns a free name for a function.
        functions: The FunctionDefs of bodies that were made.
        values: The values so far, by name.
        compared: For tensors that tell whether two sizes are equal, the sizes.
    """

    program: Program
    graph: GraphBuilder
    function_name: Callable[[str], str]
    functions: dict[str, object] = attrs.field(factory=dict)
    values: dict[str, Value] = attrs.field(factory=dict)
    compared: dict[str, tuple[Size, Size]] = attrs.field(factory=dict)

    def value(self, name: str) -> Value:
        """Return a value by its name."""
        return self.values[name]

    def run(self, block: Block, arguments: Iterable[Value]) -> list[Value]:
        """Lower a block.

        Args:
            block: The block.
            arguments: The values of its arguments.

        Returns:
            What it returns.

        Raises:
            NotLoweredError: An operation has no counterpart; of all that were met, the first ones are named.
        """
        self.values.update(zip(block.arguments, arguments, strict=True))
        for operation in block.operations:
            if operation.name in _RETURNS:
                return [self.value(name) for name in operation.operands]
            self.values.update(zip(operation.results, self.lower(operation), strict=True))
        return []

    def lower(self, operation: Operation) -> list[Value]:
        """Lower an operation; a node of TensorFlow's that has no counterpart stays as it is.

        Raises:
            NotLoweredError: It has no counterpart.
        """
        try:
            return self.counterpart(operation)
        except UnsupportedError:
            node = operation.attributes.get("node")
            if node is None or node.op.startswith("Xla") or operation.regions:
                raise
        return lowerings()[AS_IT_IS](self, operation, [self.value(it) for it in operation.operands])

    def counterpart(self, operation: Operation) -> list[Value]:
        """Lower an operation by what is known for its name.

        Raises:
            NotLoweredError: It has no counterpart.
        """
        function = _find(operation.name)
        if function is None:
            raise NotLoweredError(f"{operation.name}: no counterpart is known")
        return function(self, operation, [self.value(it) for it in operation.operands])

    def assume(self, truth: Value) -> None:
        """Take sizes for one where the program asserts that they are equal, as those of several inputs."""
        left, right = self.compared.get(truth.ref, (1, 1))
        name = _atom_of(left) or _atom_of(right)
        other = right if _atom_of(left) else left
        if not name or left == right:
            return

        def settled(sizes: Sizes) -> Sizes:
            return tuple(substitute(it, name, other) for it in sizes)

        for key, it in self.values.items():
            elements = settled(it.elements) if it.elements is not None else None
            self.values[key] = attrs.evolve(it, sizes=settled(it.sizes), held=settled(it.held), elements=elements)

    def call(self, name: str, arguments: Sequence[Value]) -> list[Value]:
        """Lower a call of a function: its body in place of the call."""
        before = dict(self.values)
        results = self.run(self.program[name].body, arguments)
        self.values.clear()
        self.values.update(before)
        return results

    def in_function(self) -> Lowering:
        """Return the lowering of a body that becomes a function; it knows all values from around it."""
        return attrs.evolve(self, graph=self.graph.body(), values=dict(self.values))

    def result(
        self, ref: str, type_: TensorType, sizes: Sequence[Size | None] = (), dtype: np.dtype[np.generic] | None = None
    ) -> Value:
        """Return the value that a new tensor holds.

        Args:
            ref: The tensor.
            type_: Its type in the program.
            sizes: Its sizes, where they are known from others; None where they are not.
            dtype: The type of its elements, where it is not that of the program.
        """
        return of_tensor(ref, dtype or type_.dtype, self.sizes(ref, type_, sizes))

    def sizes(self, ref: str, type_: TensorType, sizes: Sequence[Size | None] = ()) -> Sizes:
        """Return the sizes of a type, with those that it leaves open from others, or from the tensor itself."""
        open_sizes = list(sizes) or [None] * len(type_.sizes)
        merged = [given if fixed is None else fixed for fixed, given in zip(type_.sizes, open_sizes, strict=True)]
        return self.graph.sizes_of(ref, merged)
