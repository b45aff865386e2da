"""Select the nodes of a graph that compute in a narrow type, bodies of control flow included."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import ml_dtypes
import numpy as np

from tpu2gpu.errors import UnsupportedError
from tpu2gpu.graphs.calls import Call, caller
from tpu2gpu.graphs.edit import consumers, topological_order
from tpu2gpu.graphs.functions.bodies import ARGUMENT, RESULT, Body, claim_bodies
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import data_inputs, producer
from tpu2gpu.graphs.ops import DT_FLOAT, DT_RESOURCE, MERGES, NEXT_ITERATIONS
from tpu2gpu.graphs.passes.precision.policy import CLEAR, Policy
from tpu2gpu.graphs.passes.precision.retype import Narrowing, Retyping, constant_values
from tpu2gpu.graphs.passes.precision.sensitive import find_sensitive
from tpu2gpu.tensorbundle import format

_READERS = ("ReadVariableOp", "ResourceGather", "ResourceGatherNd")
_INTEGERS = frozenset(format.DTYPE_ENUMS[name] for name in ("int32", "int64", "uint32", "uint64"))
_TABLE = 1 << 16  # a constant of so many elements is a table of weights
_LOOP_STATE = "a loop's state: rounding would add up from step to step"


class Selection:
    """One graph, or one body of control flow, on its way to a narrow type.

    Three steps, each for a graph and its bodies: `choose` (bodies first) marks what wants to be narrow, `settle`
    (bodies last) takes marks back where a weight is wanted in both types, `apply` changes types and adds casts.

    Args:
        nodes: The graph's nodes; casts are added to them.
        model: The model that the graph belongs to.
        dtype: DataType number of the narrow type.
        policy: What may change.
        result: Takes note of what changes.
        counts: How many values each sum adds up, where that is known.
        clamp: Clamp constants that do not fit.
        body: The body that the nodes come from; None for the outermost graph.
        fixed: Arguments of the body whose values weights alone decide.
        loops: Whether the body's results become its arguments again.
        claimed: Functions that belong to one node of control flow already.
    """

    def __init__(
        self,
        nodes: dict[str, Any],
        model: ServingModel,
        dtype: int,
        policy: Policy,
        result: Narrowing,
        counts: Mapping[str, int],
        *,
        clamp: bool,
        cast_inputs: bool = False,
        body: Body | None = None,
        fixed: Collection[str] = (),
        loops: bool = False,
        unfit: Mapping[str, str] = MappingProxyType({}),
        claimed: set[str] | None = None,
    ) -> None:
        self._nodes, self._model, self._dtype, self._policy = nodes, model, dtype, policy
        self._result, self._counts, self._clamp, self._cast_inputs = result, counts, clamp, cast_inputs
        self._body, self._loops = body, loops
        self._claimed: set[str] = set() if claimed is None else claimed
        self._ordered = topological_order(nodes)
        self._consumers = consumers(nodes)
        self._dynamic = self._find_dynamic(fixed)
        self._unfit = self._made_of({**policy.unfit, **unfit})
        matrix_ops = [op for op in policy.allow if op not in _READERS]
        largest = float(ml_dtypes.finfo(format.numpy_dtype(dtype)).max)
        self._sensitive = find_sensitive(self._ordered, self._consumers, self._dynamic, matrix_ops, largest)
        self.narrow: set[str] = set()
        self.retyping = Retyping(nodes, model, dtype, policy, result, clamp=clamp, outermost=body is None)
        self._inner: dict[str, list[Selection]] = {}
        self._calls: dict[str, Call] = {}
        for node in self._ordered:
            call = caller(node)
            if call is not None and node.name in self._dynamic:
                self._open_bodies(node, call)

    def scopes(self) -> Iterator[Selection]:
        """Return this graph and all bodies in it."""
        yield self
        for scope in self._all_inner():
            yield from scope.scopes()

    @property
    def function(self) -> str:
        """The function that the graph is the body of; nothing for the outermost one."""
        return "" if self._body is None else self._body.name

    def computing(self) -> list[Any]:
        """Return the nodes that compute in the narrow type on what inputs decide, producers first."""
        return [node for node in self._ordered if node.name in self.narrow and node.name in self._dynamic]

    def is_worth_it(self, node: Any) -> bool:
        """Tell whether a node is narrow for its own sake, and not because something narrow feeds it."""
        return node.op in self._policy.allow or self._looks_up(node)

    # -------------------------------------------------------------------------------------------- finding out

    def _find_dynamic(self, fixed: Collection[str]) -> set[str]:
        """Return the nodes whose values weights and constants alone do not decide."""
        sources = {"Const", "VarHandleOp", "ReadVariableOp"}
        dynamic: set[str] = set()
        for node in self._ordered:
            inputs = data_inputs(node)
            by_itself = not inputs and node.op not in sources and node.name not in fixed
            turns = node.op in (*MERGES, *NEXT_ITERATIONS)
            if by_itself or turns or any(producer(reference) in dynamic for reference in inputs):
                dynamic.add(node.name)
        return dynamic

    def _made_of(self, weights: Mapping[str, str]) -> dict[str, str]:
        """Return the weights, and what is made of them without any input, each with the reason."""
        found = dict(weights)
        for node in self._ordered:
            if node.name not in self._dynamic:
                reasons = [found[producer(it)] for it in data_inputs(node) if producer(it) in found]
                if reasons:
                    found[node.name] = reasons[0]
        return found

    def _open_bodies(self, node: Any, call: Call) -> None:
        functions = self._model.functions
        claim_bodies(call, functions, self._claimed)
        try:
            bodies = [Body(functions[name], self._model.ops) for name in call.names(node)]
        except UnsupportedError as error:
            self._result.kept[node.name] = str(error)
            return
        inputs = data_inputs(node)[call.first :]
        static = {position for position, it in enumerate(inputs) if producer(it) not in self._dynamic}
        if call.loops:
            static = {position for position in static if bodies[-1].is_invariant(position)}
        unfit = {position: self._unfit.get(producer(inputs[position]), "") for position in static}
        self._calls[node.name] = call
        self._inner[node.name] = [
            Selection(
                body.nodes,
                self._model,
                self._dtype,
                self._policy,
                self._result,
                {},
                clamp=self._clamp,
                body=body,
                fixed={body.arguments[position] for position in static},
                loops=call.loops,
                unfit={body.arguments[position]: reason for position, reason in unfit.items() if reason},
                claimed=self._claimed,
            )
            for body in bodies
        ]

    # -------------------------------------------------------------------------------------------- choosing

    def choose(self) -> None:
        """Mark what wants to be narrow."""
        for scope in self._all_inner():
            scope.choose()
        self._choose_dynamic()
        self._choose_static()

    def _all_inner(self) -> Iterator[Selection]:
        return (scope for scopes in self._inner.values() for scope in scopes)

    def _choose_dynamic(self) -> None:
        """Mark allowed ops, and inferred ones where one of their inputs is marked."""
        state: set[str] = set()
        for node in self._ordered:
            if node.name not in self._dynamic or node.op == RESULT or not self._is_float(node):
                continue
            if node.op == ARGUMENT or node.op in MERGES:
                if self._loops or node.op != ARGUMENT:
                    state.add(node.name)
                continue
            on_state = node.op not in self._policy.allow and any(producer(it) in state for it in data_inputs(node))
            if on_state:
                state.add(node.name)
            reason = self._why_denied(node) or (_LOOP_STATE if on_state else "")
            if reason:
                self._keep(node.name, reason)
            else:
                self.narrow.add(node.name)

    def _keep(self, name: str, reason: str) -> None:
        function = "" if self._body is None else f"{self._body.name}/"
        self._result.kept[function + name] = reason

    def _why_denied(self, node: Any) -> str:
        policy = self._policy
        if node.op == "Placeholder":
            return "" if self._cast_inputs else "an input of a signature"
        if caller(node) is not None:
            return "control flow hands float32 on; its bodies are cast inside"
        asked = policy.is_asked(node)
        reason = policy.why_denied(node) or ("" if asked else self._sensitive.get(node.name, ""))
        if reason:
            return reason
        inferred, allowed = node.op in policy.infer, node.op in policy.allow or self._looks_up(node)
        if asked:
            if not self._has_narrow_form(node):
                return f"{node.op} has no {format.DTYPE_NAMES[self._dtype]} form"
            inferred = True
        elif node.op in policy.sums:
            count = self._counts.get(node.name)
            if count is None or count > policy.large_axis:
                return f"{policy.sums[node.op]} ({'unknown' if count is None else count})"
            inferred = True
        if not allowed and not inferred:
            return f"{node.op} is not known to be safe"
        sources = [self._nodes[producer(reference)] for reference in data_inputs(node)]
        unfit = [self._unfit[source.name] for source in sources if source.name in self._unfit]
        if unfit:
            return f"its weight stays: {unfit[0]}"
        lost = [source.name for source in sources if source.op == "Const" and self._loses_value(source)]
        if lost:
            return f"the constant {lost[0]} would be lost"
        if not allowed and any(self._is_whole(source) for source in sources):
            return "integers feed it, of which a narrow type skips the larger ones"
        if not allowed and not any(source.name in self.narrow for source in sources):
            return "nothing narrow feeds it"
        return ""

    def _has_narrow_form(self, node: Any) -> bool:
        """Tell whether an op's definition lets the narrow type stand where a node of it has float32."""
        definition = self._model.ops.find(node.op)
        return definition is not None and all(
            self._dtype in it.allowed_values.list.type
            for it in definition.attr
            if it.allowed_values.list.type and it.name in node.attr and node.attr[it.name].type == DT_FLOAT
        )

    def _looks_up(self, node: Any) -> bool:
        """Tell whether a gather looks something up in a weight: an embedding, say, and no anchors or coordinates."""
        if node.op not in self._policy.lookups:
            return False
        source = self._nodes[producer(data_inputs(node)[0])]
        if source.name in self._dynamic:
            return False
        while source.op in CLEAR and source.op != "ReadVariableOp":
            source = self._nodes[producer(data_inputs(source)[0])]
        if source.op != "Const":
            return bool(source.op == "ReadVariableOp")
        shape = source.attr["value"].tensor.tensor_shape
        return len(shape.dim) > 1 and math.prod(it.size for it in shape.dim) >= _TABLE

    def _is_whole(self, node: Any) -> bool:
        """Tell whether a tensor holds integers of 32 bits or more: positions, lengths, counts."""
        while node.op in CLEAR and node.op != "ReadVariableOp":
            node = self._nodes[producer(data_inputs(node)[0])]
        return node.op == "Cast" and node.attr["SrcT"].type in _INTEGERS

    def _loses_value(self, constant: Any) -> bool:
        """Tell whether a scalar constant, such as an epsilon, overflows or vanishes in the narrow type."""
        tensor = constant.attr["value"].tensor
        if constant.name in self._model.constants or tensor.dtype != DT_FLOAT or len(tensor.tensor_shape.dim) > 0:
            return False
        value = constant_values(tensor)
        with np.errstate(over="ignore"):
            cast = value.astype(format.numpy_dtype(self._dtype)).astype(np.float32)
        return bool((cast == 0) != (value == 0) or np.isfinite(cast) != np.isfinite(value))

    def _choose_static(self) -> None:
        """Mark weights whose consumers all want the narrow type."""
        for node in reversed(self._ordered):
            if node.name in self._dynamic or not self._may_move(node) or not self._is_float(node):
                continue
            reason = self._policy.why_denied(node)
            reason = reason or self._unfit.get(node.name, "")
            consumers_of = [
                (consumer, position)
                for consumer, position in self._consumers[node.name]
                if consumer.op != RESULT and (self._is_handle(node) or self._input_type(consumer, position) == DT_FLOAT)
            ]
            if not reason and consumers_of and all(self._takes_narrow(*it) for it in consumers_of):
                self.narrow.add(node.name)
            elif reason:
                self._keep(node.name, reason)

    @staticmethod
    def _may_move(node: Any) -> bool:
        return node.op in CLEAR or node.op in ("Const", "VarHandleOp", ARGUMENT)

    def _takes_narrow(self, consumer: Any, position: int) -> bool:
        if consumer.name in self._inner:
            return self._bodies_take_narrow(consumer, position - self._calls[consumer.name].first)
        if consumer.name not in self.narrow:
            return False
        slots = self._model.ops.inputs(consumer)
        if slots is None or slots[position].fixed:
            return slots is not None and consumer.op in _READERS
        return slots[position].attribute not in self._policy.wide_attributes.get(consumer.op, frozenset())

    def _bodies_take_narrow(self, node: Any, position: int) -> bool:
        return position >= 0 and all(scope.takes_narrow(position) for scope in self._inner[node.name])

    def takes_narrow(self, position: int) -> bool:
        """Tell whether a body wants an argument to be narrow, or does not use it."""
        assert self._body is not None
        name = self._body.arguments[position]
        used = [consumer for consumer, _ in self._consumers[name] if consumer.op != RESULT]
        results = [consumer for consumer, _ in self._consumers[name] if consumer.op == RESULT]
        if results and (not self._loops or [it.name for it in results] != [self._body.results[position]]):
            return False
        return name in self.narrow or (not used and name not in self._dynamic)

    # -------------------------------------------------------------------------------------------- settling

    def settle(self) -> None:
        """Take marks back: who reads a weight that stays has its type; bodies learn what their arguments are."""
        for node in self._ordered:
            if self._is_handle(node) and node.name not in self.narrow:  # who reads a variable has its type
                readers = [it for it, _ in self._consumers[node.name] if it.op in _READERS or self._is_handle(it)]
                self.narrow.difference_update(it.name for it in readers)
        for name, scopes in self._inner.items():
            node, call = self._nodes[name], self._calls[name]
            for position, reference in enumerate(data_inputs(node)[call.first :]):
                narrow = producer(reference) in self.narrow and self._bodies_take_narrow(node, position)
                narrow = narrow and producer(reference) not in self._dynamic
                if narrow and node.attr[call.types].list.type[position] == DT_FLOAT:
                    node.attr[call.types].list.type[position] = self._dtype
                for scope in scopes:
                    scope.settle_argument(position, narrow=narrow)
        for scope in self._all_inner():
            scope.settle()

    def settle_argument(self, position: int, *, narrow: bool) -> None:
        """Tell a body what one of its arguments is."""
        assert self._body is not None
        node = self._nodes[self._body.arguments[position]]
        if not narrow:
            self.narrow.discard(node.name)
        elif node.attr["T"].type == DT_FLOAT:
            node.attr["T"].type = self._dtype
            for consumer, _ in self._consumers[node.name]:
                if consumer.op == RESULT:
                    consumer.attr["T"].type = self._dtype

    # -------------------------------------------------------------------------------------------- changing

    def apply(self) -> None:
        """Change types and add casts."""
        for scope in self._all_inner():
            scope.apply()
        self._result.narrowed += [node.name for node in self._ordered if node.name in self.narrow]
        self._result.variables += [it for it in self._model.variables if self._body is None and it in self.narrow]
        # Before any type is looked at: which types the tensors have is asked of the nodes themselves.
        for node in self._ordered:
            if node.name in self.narrow and node.op != ARGUMENT:
                self.retyping.retype(node)
        for node in self._ordered:
            self.retyping.cast_inputs(node, self.narrow)
        if self._body is not None:
            self._body.store()

    def _is_handle(self, node: Any) -> bool:
        passed_on = node.op in (ARGUMENT, "Enter", "Identity") and node.attr["T"].type == DT_RESOURCE
        return node.op == "VarHandleOp" or passed_on

    def _is_float(self, node: Any) -> bool:
        if self._is_handle(node):
            return self._handle_type(node) == DT_FLOAT
        slots = self._model.ops.outputs(node) or []
        return any(slot.type_of(node) == DT_FLOAT for slot in slots)

    def _handle_type(self, node: Any) -> int:
        """Return the type of a variable; that of one that a body is given is told by who reads it."""
        if node.op == "VarHandleOp":
            return int(node.attr["dtype"].type)
        for consumer, position in self._consumers[node.name]:
            if consumer.op in _READERS:
                return int(consumer.attr["dtype"].type)
            if self._is_handle(consumer) and self._handle_type(consumer):
                return self._handle_type(consumer)
            for scope in self._inner.get(consumer.name, []):
                found = scope.argument_type(position - self._calls[consumer.name].first)
                if found:
                    return found
        return 0

    def argument_type(self, position: int) -> int:
        """Return the type of the variable that a body is given as an argument, 0 where it does not read it."""
        assert self._body is not None
        return self._handle_type(self._nodes[self._body.arguments[position]])

    def _input_type(self, node: Any, position: int) -> int:
        slots = self._model.ops.inputs(node)
        return 0 if slots is None or position >= len(slots) else slots[position].type_of(node)
