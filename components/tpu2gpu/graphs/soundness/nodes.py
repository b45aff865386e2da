"""Nodes against the definitions of their ops: attributes, inputs, outputs, as TensorFlow checks them.

Source: ValidateNodeDef and AttrValueHasType of tensorflow/core/framework/node_def_util.cc and attr_value_util.cc
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from tpu2gpu.graphs.calls import caller
from tpu2gpu.graphs.nodes import OpDefs, data_inputs
from tpu2gpu.graphs.ops import CALLS, CASES, IFS, LOOPS, TPU_OPS
from tpu2gpu.graphs.soundness.tensors import known_types, wrong_shape, wrong_tensor
from tpu2gpu.graphs.trust.op_classes import class_of
from tpu2gpu.limits import limits

_REFUSED = ("InitializeTRTResource", "TRTEngineOp", "XlaCallModule")
_FIELDS = {"string": "s", "int": "i", "float": "f", "bool": "b"}
"""The fields of an AttrValue, where they are not called like the type."""


@attrs.frozen
class _Rule:
    """The definition of an op, in the form in which nodes are held against it."""

    fields: Mapping[str, str]
    required: tuple[str, ...]
    counts: Mapping[str, int]
    inputs: tuple[tuple[str, str], ...]
    fixed_inputs: int | None
    calls: bool
    outputs: tuple[tuple[str, str, str], ...]

    def count(self, node: Any, number: str, types: str) -> int:
        """Return how many tensors an argument stands for; a look at an attribute that is not there would add it."""
        name = types or number
        if name and name not in node.attr:
            return self.counts.get(name, 0)
        if types:
            return len(node.attr[types].list.type)
        return int(node.attr[number].i) if number else 1


class NodeRules:
    """What nodes must be.

    Args:
        ops: Definitions of ops; nodes of other ops may be anything.
        functions: FunctionDefs by name.
    """

    def __init__(self, ops: OpDefs, functions: Mapping[str, Any]) -> None:
        self._ops, self._functions, self._most_outputs = ops, functions, limits().outputs
        self._rules: dict[str, _Rule | None] = {}

    def problems(self, node: Any, *, elsewhere: bool = False) -> Iterator[str]:
        """Tell what is wrong with a node.

        Args:
            node: The NodeDef.
            elsewhere: The value of a constant was left in the file.
        """
        if node.op in self._functions:
            yield from self._wrong_call(node)
            return
        rule = self._rule(node.op)
        for name in node.attr:
            value = node.attr[name]
            kind = value.WhichOneof("value")
            if problem := _wrong_value(value, kind, elsewhere=elsewhere):
                yield f"attribute {name}: {problem}"
            field = rule.fields.get(name, kind) if rule is not None else kind
            if kind is None and (field == "list" or (rule is not None and name not in rule.required)):
                continue  # an empty list; or left to the default, since a look at a map of protobuf's adds the key
            if kind == "placeholder":  # calls could make of it what nobody has looked at
                yield f"attribute {name} of {node.op} is left to the calls of its function, which is not taken"
            elif kind != field:
                yield f"attribute {name} of {node.op} must be {field}, not {kind or 'nothing'}"
        if rule is None:
            return
        if missing := [name for name in rule.required if name not in node.attr]:
            yield f"{node.op} without its attribute {', '.join(missing)}"
            return
        wanted = rule.fixed_inputs
        if wanted is None:
            wanted = sum([rule.count(node, number, types) for number, types in rule.inputs])
        given = len(data_inputs(node))
        if given != wanted:
            yield f"{node.op} with {given} inputs, not {wanted}"
        for name, number, types in rule.outputs:
            if (number or types) and not 0 <= (count := rule.count(node, number, types)) <= self._most_outputs:
                yield (
                    f"{node.op} with {count} outputs {name}, at most {self._most_outputs} are taken; "
                    "--limit outputs=NUMBER takes more"
                )
        if node.op == "Const" and node.attr["dtype"].type != node.attr["value"].tensor.dtype:
            yield f"a constant of DataType {node.attr['dtype'].type} with a value of {node.attr['value'].tensor.dtype}"
        if rule.calls:
            yield from self._wrong_bodies(node)

    def output_names(self, node: Any) -> dict[str, int] | None:
        """Return the outputs of a node and how many tensors each has; None where its op is unknown."""
        function = self._functions.get(node.op)
        if function is not None:
            return {output.name: 1 for output in function.signature.output_arg}
        rule = self._rule(node.op)
        if rule is None:
            return None
        return {name: rule.count(node, number, types) for name, number, types in rule.outputs}

    def _rule(self, op: str) -> _Rule | None:
        """Return the rule of an op; none of those that go, or are refused for what they do (`trust`) when they stay."""
        if op not in self._rules:
            leaves = TPU_OPS.fullmatch(op) or op in _REFUSED or class_of(op) in ("network", "python", "custom")
            definition = None if leaves else self._ops.find(op)
            self._rules[op] = None if definition is None else _rule_of(definition)
        return self._rules[op]

    def _wrong_call(self, node: Any) -> Iterator[str]:
        wanted = len(self._functions[node.op].signature.input_arg)
        given = len(data_inputs(node))
        if given != wanted:
            yield f"a call of function {node.op} with {given} inputs, not {wanted}"

    def _wrong_bodies(self, node: Any) -> Iterator[str]:
        """Tell where the functions that a node of control flow calls are missing, or take or give something else."""
        call = caller(node)
        if call is None:
            return
        outputs = sum((self.output_names(node) or {}).values())
        for name in call.names(node):
            function = self._functions.get(name)
            if function is None:
                yield f"{node.op} calls function '{name}', which there is not"
                continue
            signature = function.signature
            if len(signature.input_arg) != call.count:
                yield f"{node.op} gives function {name} {call.count} arguments, not {len(signature.input_arg)}"
            wanted = 1 if call.loops and name == node.attr["cond"].func.name else outputs
            same = node.attr["cond"].func.name == node.attr["body"].func.name if call.loops else False
            if len(signature.output_arg) != wanted and not same:
                yield f"{node.op} takes {wanted} results of function {name}, which has {len(signature.output_arg)}"


def _rule_of(definition: Any) -> _Rule:
    inputs = definition.input_arg
    return _Rule(
        fields={
            it.name: "list" if it.type.startswith("list(") else _FIELDS.get(it.type, it.type) for it in definition.attr
        },
        required=tuple(it.name for it in definition.attr if not it.HasField("default_value")),
        counts={it.name: it.default_value.i or len(it.default_value.list.type) for it in definition.attr},
        inputs=tuple((it.number_attr, it.type_list_attr) for it in inputs),
        fixed_inputs=None if any(it.number_attr or it.type_list_attr for it in inputs) else len(inputs),
        calls=definition.name in (*LOOPS, *IFS, *CASES, *CALLS),
        outputs=tuple((it.name, it.number_attr, it.type_list_attr) for it in definition.output_arg),
    )


def _wrong_value(value: Any, kind: str | None, *, elsewhere: bool) -> str:
    """Return what is wrong with the value of an attribute; nothing where it is sound."""
    if kind == "type":
        return "" if value.type in known_types() else f"DataType {value.type}, which there is not"
    if kind == "shape":
        return wrong_shape(value.shape)
    if kind == "tensor":
        return wrong_tensor(value.tensor, elsewhere=elsewhere)
    return _wrong_list(value.list) if kind == "list" else ""


def _wrong_list(values: Any) -> str:
    """Return what is wrong with the values of a list attribute; nothing where they are sound."""
    wrong = [f"DataType {it}, which there is not" for it in values.type if it not in known_types()]
    wrong += [problem for it in values.shape if (problem := wrong_shape(it))]
    wrong += [problem for it in values.tensor if (problem := wrong_tensor(it))]
    return wrong[0] if wrong else ""
