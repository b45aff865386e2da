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
from tpu2gpu.graphs.soundness.arguments import Argument, dtypes
from tpu2gpu.graphs.soundness.choices import Choice
from tpu2gpu.graphs.soundness.edges import wrong_types
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
    choices: Mapping[str, Choice]
    defaults: Mapping[str, Any]
    inputs: tuple[Argument, ...]
    fixed_inputs: int | None
    calls: bool
    outputs: tuple[Argument, ...]


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
            elif rule is not None and name in rule.choices and (problem := rule.choices[name].wrong(value, kind)):
                yield f"attribute {name} of {node.op} {problem}"
        if rule is None:
            return
        if missing := [name for name in rule.required if name not in node.attr]:
            yield f"{node.op} without its attribute {', '.join(missing)}"
            return
        wanted = rule.fixed_inputs
        if wanted is None:
            wanted = sum([argument.count(node, rule.defaults) for argument in rule.inputs])
        given = len(data_inputs(node))
        if given != wanted:
            yield f"{node.op} with {given} inputs, not {wanted}"
        for argument in rule.outputs:
            if argument.several and not 0 <= (count := argument.count(node, rule.defaults)) <= self._most_outputs:
                yield (
                    f"{node.op} with {count} outputs {argument.name}, at most {self._most_outputs} are taken; "
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
        return {argument.name: argument.count(node, rule.defaults) for argument in rule.outputs}

    def taken_types(self, node: Any) -> list[int]:
        """Return the types of what a sound node takes, 0 for any; nothing where its op is unknown."""
        function = self._functions.get(node.op)
        if function is not None:
            return [argument.type for argument in function.signature.input_arg]
        rule = self._rule(node.op)
        return [] if rule is None else dtypes(rule.inputs, node, rule.defaults, len(node.input))

    def given_types(self, node: Any, output: str = "") -> list[int]:
        """Return the types of what a node gives, 0 for those that cannot be told; nothing where its op is unknown.

        Args:
            node: The NodeDef.
            output: The output that is meant; all when none is named.
        """
        function = self._functions.get(node.op)
        if function is not None:
            return [it.type for it in function.signature.output_arg if output in ("", it.name)]
        rule = self._rule(node.op)
        if rule is None:
            return []
        outputs = [it for it in rule.outputs if it.name == output] if output else rule.outputs
        return dtypes(outputs, node, rule.defaults, self._most_outputs)

    def _rule(self, op: str) -> _Rule | None:
        """Return the rule of an op; none of those that go, or are refused for what they do (`trust`) when they stay."""
        if op not in self._rules:
            leaves = TPU_OPS.fullmatch(op) or op in _REFUSED or class_of(op) in ("network", "python", "custom")
            definition = None if leaves else self._ops.find(op)
            self._rules[op] = None if definition is None else _rule_of(definition, self._ops.carried(op))
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
        arguments, given = self.taken_types(node)[call.first :], self.given_types(node)
        condition = node.attr["cond"].func.name if call.loops else ""
        for name in call.names(node):
            function = self._functions.get(name)
            if function is None:
                yield f"{node.op} calls function '{name}', which there is not"
                continue
            taken, results = function.signature.input_arg, function.signature.output_arg
            if len(taken) != call.count:
                yield f"{node.op} gives function {name} {call.count} arguments, not {len(taken)}"
            elif wrong := wrong_types("argument", [it.type for it in taken], arguments):
                yield f"{node.op} of function {name}: its {wrong}"
            both = call.loops and condition == node.attr["body"].func.name
            wanted = 1 if call.loops and name == condition else outputs
            if len(results) != wanted and not both:
                yield f"{node.op} takes {wanted} results of function {name}, which has {len(results)}"
            elif name != condition and (wrong := wrong_types("result", given, [it.type for it in results])):
                yield f"{node.op} of function {name}: its {wrong}"


def _rule_of(definition: Any, carried: Any | None) -> _Rule:
    """Return the rule of an op, from its definition and one that the model carries."""
    also = {it.name: it for it in carried.attr} if carried is not None else {}
    inputs = tuple(Argument.of(it) for it in definition.input_arg)
    return _Rule(
        fields={
            it.name: "list" if it.type.startswith("list(") else _FIELDS.get(it.type, it.type) for it in definition.attr
        },
        required=tuple(it.name for it in definition.attr if not it.HasField("default_value")),
        choices={
            it.name: Choice.of(it, also.get(it.name))
            for it in definition.attr
            if it.has_minimum or it.HasField("allowed_values")
        },
        defaults={it.name: it.default_value for it in definition.attr},
        inputs=inputs,
        fixed_inputs=None if any(it.several for it in inputs) else len(inputs),
        calls=definition.name in (*LOOPS, *IFS, *CASES, *CALLS),
        outputs=tuple(Argument.of(it) for it in definition.output_arg),
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
