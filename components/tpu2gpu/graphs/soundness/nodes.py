"""Nodes against the definitions of their ops: attributes, inputs, outputs, as TensorFlow checks them.

Source: ValidateNodeDef and AttrValueHasType of tensorflow/core/framework/node_def_util.cc and attr_value_util.cc
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from tpu2gpu.graphs.arguments import Argument, Arguments
from tpu2gpu.graphs.calls import caller
from tpu2gpu.graphs.nodes import OpDefs
from tpu2gpu.graphs.op_classes import class_of
from tpu2gpu.graphs.ops import CALLS, CASES, IFS, LOOPS, TPU_OPS
from tpu2gpu.graphs.soundness.choices import Choice
from tpu2gpu.graphs.soundness.edges import wrong_types
from tpu2gpu.graphs.soundness.tensors import known_types, wrong_shape, wrong_tensor
from tpu2gpu.limits import limits

_REFUSED = ("InitializeTRTResource", "TRTEngineOp", "XlaCallModule")
_FIELDS = {"string": "s", "int": "i", "float": "f", "bool": "b"}
"""The fields of an AttrValue, where they are not called like the type."""
_SCALARS = frozenset(_FIELDS.values())


@attrs.frozen
class _Rule:
    """The definition of an op, in the form in which nodes are held against it."""

    fields: Mapping[str, str]
    required: tuple[str, ...]
    choices: Mapping[str, Choice]
    inputs: Arguments
    outputs: Arguments
    several_outputs: tuple[Argument, ...]
    calls: bool


@attrs.define
class ReadNode:
    """What is read of a node once: large graphs have a million, and each look into a protocol buffer costs.

    Attributes:
        op: Its op.
        inputs: What it takes, and behind that what it waits for.
        problems: What is wrong with the node by itself.
        taken: The types of what it takes, 0 for any; nothing where its op is unknown.
        given: The types of what it gives, 0 for those that cannot be told; None where its op is unknown.
    """

    op: str
    inputs: Sequence[str]
    problems: list[str]
    taken: Sequence[int]
    given: Sequence[int] | None


class NodeRules:
    """What nodes must be.

    Args:
        ops: Definitions of ops; nodes of other ops may be anything.
        functions: FunctionDefs by name.
    """

    def __init__(self, ops: OpDefs, functions: Mapping[str, Any]) -> None:
        self._ops, self._functions, self._most_outputs = ops, functions, limits().outputs
        self._rules: dict[str, _Rule | None] = {}
        self._sound_types: set[tuple[str, str, int]] = set()  # ops with attributes that were found sound

    def read(self, node: Any, *, elsewhere: bool = False) -> ReadNode:
        """Read a node, and tell what is wrong with it.

        Args:
            node: The NodeDef.
            elsewhere: The value of a constant was left in the file.
        """
        op, inputs = node.op, node.input[:]
        function = self._functions.get(op)
        if function is not None:
            signature = function.signature
            wanted, given = len(signature.input_arg), _data_count(inputs)
            wrong = [] if given == wanted else [f"a call of function {op} with {given} inputs, not {wanted}"]
            types = [it.type for it in signature.input_arg], [it.type for it in signature.output_arg]
            return ReadNode(op, inputs, wrong, *types)
        held = node.attr
        attributes = {name: held[name] for name in held}
        rule, problems = self._rule(op), []
        for name, value in attributes.items():
            kind = value.WhichOneof("value")
            if kind in _SCALARS and (
                rule is None or (rule.fields.get(name, kind) == kind and name not in rule.choices)
            ):
                continue
            key = op, name, value.type if kind == "type" else 0
            if key in self._sound_types:
                continue
            wrong = _wrong_attribute(op, name, value, kind, rule, elsewhere=elsewhere)
            problems += [f"attribute {name}{problem}" for problem in wrong]
            if kind == "type" and not wrong:
                self._sound_types.add(key)
        if rule is None:
            return ReadNode(op, inputs, problems, (), None)
        read = ReadNode(
            op,
            inputs,
            problems,
            rule.inputs.dtypes(attributes, len(inputs)),
            rule.outputs.dtypes(attributes, self._most_outputs),
        )
        if missing := [name for name in rule.required if name not in attributes]:
            problems.append(f"{op} without its attribute {', '.join(missing)}")
            return read
        wanted, given = rule.inputs.count(attributes), _data_count(inputs)
        if given != wanted:
            problems.append(f"{op} with {given} inputs, not {wanted}")
        for argument in rule.several_outputs:
            if not 0 <= (count := argument.count(attributes, rule.outputs.defaults)) <= self._most_outputs:
                problems.append(
                    f"{op} with {count} outputs {argument.name}, at most {self._most_outputs} are taken; "
                    "--limit outputs=NUMBER takes more"
                )
        if op == "Const" and attributes["dtype"].type != attributes["value"].tensor.dtype:
            stated, found = attributes["dtype"].type, attributes["value"].tensor.dtype
            problems.append(f"a constant of DataType {stated} with a value of {found}")
        if rule.calls:
            problems += self._wrong_bodies(node, read)
        return read

    def output_types(self, node: Any) -> dict[str, list[int]] | None:
        """Return the types of a node's outputs, 0 for those that cannot be told; None where its op is unknown."""
        function = self._functions.get(node.op)
        if function is not None:
            return {output.name: [output.type] for output in function.signature.output_arg}
        rule = self._rule(node.op)
        return None if rule is None else rule.outputs.by_name(node.attr, self._most_outputs)

    def _rule(self, op: str) -> _Rule | None:
        """Return the rule of an op; none of those that go, or are refused for what they do (`trust`) when they stay."""
        if op not in self._rules:
            leaves = TPU_OPS.fullmatch(op) or op in _REFUSED or class_of(op) in ("network", "python", "custom")
            self._rules[op] = None if leaves else _rule_of(op, self._ops)
        return self._rules[op]

    def _wrong_bodies(self, node: Any, read: ReadNode) -> Iterator[str]:
        """Tell where the functions that a node of control flow calls are missing, or take or give something else."""
        call = caller(node)
        if call is None:
            return
        arguments, given = read.taken[call.first :], read.given or ()
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
            wanted = 1 if call.loops and name == condition else len(given)
            if len(results) != wanted and not both:
                yield f"{node.op} takes {wanted} results of function {name}, which has {len(results)}"
            elif name != condition and (wrong := wrong_types("result", given, [it.type for it in results])):
                yield f"{node.op} of function {name}: its {wrong}"


def _data_count(inputs: Sequence[str]) -> int:
    return len([reference for reference in inputs if reference[:1] != "^"])


def _rule_of(op: str, ops: OpDefs) -> _Rule | None:
    """Return the rule of an op, from its definition and one that the model carries; None for an unknown op."""
    definition, arguments = ops.find(op), ops.arguments(op)
    if definition is None or arguments is None:
        return None
    carried, (inputs, outputs) = ops.carried(op), arguments
    also = {it.name: it for it in carried.attr} if carried is not None else {}
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
        inputs=inputs,
        outputs=outputs,
        several_outputs=tuple(it for it in outputs.all if it.several),
        calls=op in (*LOOPS, *IFS, *CASES, *CALLS),
    )


def _wrong_attribute(
    op: str, name: str, value: Any, kind: str | None, rule: _Rule | None, *, elsewhere: bool
) -> list[str]:
    """Return what is wrong with an attribute of a node, as the end of a sentence that begins with its name."""
    found = [f": {problem}"] if (problem := _wrong_value(value, kind, elsewhere=elsewhere)) else []
    field = kind if rule is None else rule.fields.get(name, kind)
    if kind is None and (field == "list" or (rule is not None and name not in rule.required)):
        return found  # an empty list; or left to the default, since a look at a map of protobuf's adds the key
    if kind == "placeholder":  # calls could make of it what nobody has looked at
        found.append(f" of {op} is left to the calls of its function, which is not taken")
    elif kind != field:
        found.append(f" of {op} must be {field}, not {kind or 'nothing'}")
    elif rule is not None and name in rule.choices and (problem := rule.choices[name].wrong(value, kind)):
        found.append(f" of {op} {problem}")
    return found


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
    for dtype in values.type:
        if dtype not in known_types():
            return f"DataType {dtype}, which there is not"
    for shape in values.shape:
        if problem := wrong_shape(shape):
            return problem
    for tensor in values.tensor:
        if problem := wrong_tensor(tensor):
            return problem
    return ""
