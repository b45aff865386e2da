"""Where the values of a graph's variables are: by dataflow and the object graph, or by names where those are silent."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from tpu2gpu.errors import GraphError, SourceError
from tpu2gpu.graphs.describing import dtype_name
from tpu2gpu.graphs.edit import ancestors, consumers, free_name, new_node, restate, set_inputs
from tpu2gpu.graphs.formats.checkpoint_tensors import (
    SHADOW,
    kind_of_tensor,
    object_graph,
    tensors_by_name,
    variable_name,
)
from tpu2gpu.graphs.formats.restore_ops import Restored, collected_variables, restored_variables
from tpu2gpu.graphs.model import ServingModel, Variable
from tpu2gpu.graphs.nodes import data_inputs, is_control, split_tensor
from tpu2gpu.graphs.ops import REF_VARIABLES
from tpu2gpu.options import did_you_mean
from tpu2gpu.tensorbundle.checkpoint import Checkpoint
from tpu2gpu.tensorbundle.format import OBJECT_GRAPH_KEY
from tpu2gpu.tensorbundle.reader import Bundle
from tpu2gpu.tensorbundle.slices import whole

HANDLE_SUFFIX = "/handle"
# Ops that take a reference variable itself, and what takes a resource variable in their place.
_REF_USES = {"Assign": "AssignVariableOp", "IsVariableInitialized": "VarIsInitializedOp"}


@attrs.frozen
class RestoreReport:
    """What became of a checkpoint's tensors.

    Attributes:
        dropped: For each kind of what serving does not need (`slots`, `shadows`, `steps`, `rules`) the tensors.
        unused: Tensors that the graph did not ask for.
        without_shadow: Variables whose moving average was asked for and is not there.
    """

    dropped: dict[str, list[str]]
    unused: list[str]
    without_shadow: list[str]


@attrs.frozen
class _Known:
    """What a model says of one variable besides the graph."""

    restored: Restored | None = None
    name: str = ""
    trainable: bool = True


def make_variables_resources(model: ServingModel) -> None:
    """Turn TF1 reference variables into resource variables; the reader keeps the old name."""
    handles: dict[str, Any] = {}
    for name in [name for name, node in model.nodes.items() if node.op in REF_VARIABLES]:
        old = model.nodes[name]
        dtype = old.attr["dtype"].type
        handle = new_node(free_name(model.nodes, name + HANDLE_SUFFIX), "VarHandleOp", dtype=dtype)
        handle.attr["shape"].shape.CopyFrom(old.attr["shape"].shape)
        handle.attr["shared_name"].s = name.encode()
        model.nodes[handle.name] = handle
        model.nodes[name] = new_node(name, "ReadVariableOp", [handle.name], dtype=dtype)
        handles[name] = handle
    assigned = {}
    for node in model.nodes.values() if handles else ():
        inputs = data_inputs(node) if node.op in _REF_USES else []
        if inputs and inputs[0] in handles:
            handle = handles[inputs[0]]
            control = [reference for reference in node.input if is_control(reference)]
            if node.op == "Assign":  # its output is the variable itself, which holds the value from then on
                assigned[node.name] = inputs[1]
            types = {"dtype": handle.attr["dtype"].type} if node.op == "Assign" else {}
            restate(node, _REF_USES[node.op], **types)
            set_inputs(node, [handle.name, *inputs[1:], *control])
    data_uses = {name: value for name, value in assigned.items() if any(consumers(model.nodes)[name])}
    if data_uses:
        for node in model.nodes.values():
            set_inputs(node, [data_uses.get(reference, reference) for reference in node.input])


def find_variables(model: ServingModel, meta: Any, prefix: str | os.PathLike[str]) -> None:
    """Fill in a model's variables: key, type, shape, trainability, and their own names where those are free.

    Nothing is guessed by names: the saver's dataflow and the object graph tell each variable's key.

    Args:
        model: A model whose flat graph holds VarHandleOps.
        meta: The MetaGraphDef that it came from.
        prefix: The checkpoint.

    Raises:
        GraphError: Variables have no value, or one of another type or shape; all are listed.
        SourceError: There is no checkpoint.
        CheckpointError: The checkpoint is damaged.
    """
    handles = {name: node for name, node in model.nodes.items() if node.op == "VarHandleOp"}
    if not handles:
        return
    known = _from_saver(meta, model)
    missing: SourceError | None = None
    try:
        model.bundle = Bundle(prefix)
        known.update(_from_object_graph(meta, model.bundle, known))
    except SourceError as error:
        missing = error
    for name in [name for name in handles if _about(name, known).restored is None]:
        if _bypass_local_variable(model, name) or _forget_unread_variable(model, name):
            del handles[name]
    if not handles:
        return
    if model.bundle is None:
        assert missing is not None
        raise missing
    wrong = []
    for name, node in handles.items():
        about = _about(name, known)
        if about.restored is None:
            wrong.append(f"{name}: nothing restores it")
        elif about.restored.key not in model.bundle:
            wrong.append(f"{name}: no {about.restored.key!r} in the checkpoint")
        elif mismatch := _mismatch(node, about.restored, model.bundle):
            wrong.append(f"{name}: {mismatch}")
        else:
            model.variables[name] = _variable(name, about.restored, model.bundle, about.trainable)
    if wrong:
        raise GraphError(f"{prefix}: does not fit the graph", details=wrong, hint="export the model again")
    plain = {name: name.removesuffix(HANDLE_SUFFIX) for name in model.variables}
    _give_names(model, {name: _about(name, known).name or plain[name] for name in model.variables})


def restore_variables(
    model: ServingModel,
    restored: Mapping[str, Restored],
    trainable: Collection[str] | None,
    *,
    use_ema: bool = False,
    drop: Iterable[str] = (),
    rename: Callable[[str], str] = lambda name: name,
    names: Mapping[str, str] | None = None,
) -> RestoreReport:
    """Fill in a model's variables from its checkpoint.

    Args:
        model: A model with VarHandleOps and a checkpoint.
        restored: What a saver says of them.
        trainable: Those that are trainable; all when nothing tells.
        use_ema: Take the moving average of each variable that has one.
        drop: Expressions for tensors of the checkpoint that are not meant to be used.
        rename: Makes the names of graph and checkpoint alike.
        names: What an object-based checkpoint calls its tensors' variables.

    Raises:
        GraphError: Variables have no value, several, or one of another type or shape; all are listed. Or there are no
            moving averages.
    """
    bundle = model.bundle
    if bundle is None:
        return RestoreReport({}, [], [])
    rules = [re.compile(rule) for rule in drop]
    dropped = {key for key in bundle if any(rule.search(key) for rule in rules)}
    by_name = tensors_by_name(bundle, lambda key: rename((names or {}).get(key, variable_name(key))), dropped)
    wrong, used, without_shadow = [], set(), []
    for name, node in [(name, node) for name, node in model.nodes.items() if node.op == "VarHandleOp"]:
        source = _source(name, node, restored, by_name, bundle, dropped, rename)
        called = restored[name].key if name in restored else name.removesuffix(HANDLE_SUFFIX)
        if source is None:
            near = did_you_mean(
                rename(called), [it for it, keys in by_name.items() if not kind_of_tensor(keys[0], bundle)]
            )
            wrong.append(f"{called}: not in the checkpoint{'; ' + near if near else ''}")
            continue
        if source.rivals:
            wrong.append(f"{called}: any of {', '.join((source.key, *source.rivals))}, which would all be called so")
            continue
        if use_ema:
            shadow = source.key + SHADOW
            if shadow in bundle:
                source = attrs.evolve(source, key=shadow)
            else:
                without_shadow.append(source.key)
        if mismatch := _mismatch(node, source, bundle):
            wrong.append(f"{name}: {mismatch}")
            continue
        model.variables[name] = _variable(name, source, bundle, trainable is None or name in trainable)
        used.add(source.key)
    if wrong:
        raise GraphError(
            f"{bundle.prefix}: does not fit the graph",
            details=wrong,
            hint="give the graph's own checkpoint, or --rename 'REGEX=REPLACEMENT' where names differ",
        )
    if use_ema and len(without_shadow) == len(model.variables):
        raise GraphError(
            f"{bundle.prefix}: holds no moving average of any weight, none is called NAME{SHADOW}",
            hint="leave --use-ema out",
        )
    return _account(bundle, used, dropped, without_shadow)


def _source(
    name: str,
    node: Any,
    restored: Mapping[str, Restored],
    by_name: Mapping[str, Sequence[str]],
    bundle: Checkpoint,
    dropped: Collection[str],
    rename: Callable[[str], str],
) -> Restored | None:
    plain = name.removesuffix(HANDLE_SUFFIX)
    for known in (restored.get(plain), restored.get(name)):
        if known is not None and known.key in bundle and known.key not in dropped:
            return known
    names = [node.attr["shared_name"].s.decode(errors="backslashreplace"), plain]
    for key in names:
        if key in bundle and key not in dropped:
            return Restored(key)
    names += [known.key for known in (restored.get(plain), restored.get(name)) if known is not None]
    found = next((by_name[rename(each)] for each in names if rename(each) in by_name), None)
    return None if found is None else Restored(found[0], rivals=tuple(found[1:]))


def _variable(name: str, restored: Restored, bundle: Checkpoint, trainable: bool) -> Variable:
    entry = bundle.entry(restored.key)
    box = None if restored.box == whole(entry.shape) else restored.box
    return Variable(name, restored.key, entry.dtype, entry.shape if box is None else box.sizes, trainable, box=box)


def _mismatch(handle: Any, restored: Restored, bundle: Checkpoint) -> str:
    """Return in which way a checkpoint's tensor is not what a VarHandleOp declares, or nothing."""
    entry, declared = bundle.entry(restored.key), handle.attr["shape"].shape
    found = entry.shape if restored.box is None else restored.box.sizes
    shape = [dim.size for dim in declared.dim]
    fits = declared.unknown_rank or (
        len(shape) == len(found) and all(size in (-1, it) for size, it in zip(shape, found, strict=True))
    )
    wanted = handle.attr["dtype"].type
    if fits and wanted == entry.dtype:
        return ""
    return f"{dtype_name(wanted)} {shape} in the graph, {entry.dtype_name} {list(found)} in the checkpoint"


def _account(
    bundle: Checkpoint, used: Collection[str], by_rule: Collection[str], without_shadow: list[str]
) -> RestoreReport:
    """Sort what was not used by why it is not."""
    kinds: dict[str, list[str]] = {"slots": [], "shadows": [], "steps": [], "rules": sorted(by_rule)}
    unused: list[str] = []
    for key in bundle:
        if key in used or key in by_rule or key == OBJECT_GRAPH_KEY:
            continue
        kind = kind_of_tensor(key, bundle)
        (kinds[kind] if kind else unused).append(key)
    return RestoreReport({kind: keys for kind, keys in kinds.items() if keys}, unused, without_shadow)


def _about(name: str, known: Mapping[str, _Known]) -> _Known:
    return known.get(name.removesuffix(HANDLE_SUFFIX), known.get(name, _Known()))


def _from_saver(meta: Any, model: ServingModel) -> dict[str, _Known]:
    trainable = collected_variables(meta, "trainable_variables") or set()
    fixed = (collected_variables(meta, "variables") or set()) - trainable
    restored = restored_variables(meta, model.ops)
    return {name: _Known(it, trainable=name not in fixed) for name, it in restored.items()}


def _from_object_graph(meta: Any, bundle: Checkpoint, known: dict[str, _Known]) -> Iterator[tuple[str, _Known]]:
    """Return what TensorFlow 2 knows of the variables that functions capture; it names them where graphs do not."""
    graph = object_graph(bundle)
    if graph is None:
        return
    objects = meta.object_graph_def
    described: dict[int, _Known] = {}
    by_key: dict[str, _Known] = {}
    for number, (node, description) in enumerate(zip(graph.nodes, objects.nodes, strict=False)):
        if description.WhichOneof("kind") == "variable" and node.attributes:
            key = node.attributes[0].checkpoint_key
            described[number] = _Known(Restored(key), description.variable.name, description.variable.trainable)
            by_key[key] = described[number]
    for variable, about in known.items():
        if about.restored is not None and about.restored.key in by_key:
            yield variable, by_key[about.restored.key]
    for call in meta.graph_def.node:
        function = objects.concrete_functions.get(call.attr["f"].func.name) if "f" in call.attr else None
        if function is None:
            continue
        captured = data_inputs(call)[-len(function.bound_inputs) :] if function.bound_inputs else []
        for reference, number in zip(captured, function.bound_inputs, strict=False):
            if number in described:
                yield split_tensor(reference)[0], described[number]


def _bypass_local_variable(model: ServingModel, name: str) -> bool:
    """Take out a variable that the initialiser fills, such as the path of an asset; no checkpoint has it."""
    taken_by = [node for node, _ in consumers(model.nodes)[name]]
    assigns = [node for node in taken_by if node.op == "AssignVariableOp"]
    readers = [node for node in taken_by if node.op == "ReadVariableOp"]
    if len(assigns) != 1 or len(taken_by) != 1 + len(readers):
        return False
    value = assigns[0].input[1]
    model.replace_all_uses({node.name: value for node in [*assigns, *readers]})
    return True


def _forget_unread_variable(model: ServingModel, name: str) -> bool:
    """Take the writes to a variable out of the initialiser where no signature reads it."""
    tensors = [*model.output_tensors(), *model.input_tensors()]
    if name in ancestors(model.nodes, {split_tensor(tensor)[0] for tensor in tensors}):
        return False
    lost = {f"^{node.name}" for node, _ in consumers(model.nodes)[name]}
    for node in model.nodes.values():
        set_inputs(node, [reference for reference in node.input if reference not in lost])
    return name not in ancestors(model.nodes, model.roots())


def _give_names(model: ServingModel, wanted: dict[str, str]) -> None:
    """Call each variable's node by the variable's own name, where no other node has it."""
    renamed = {}
    for old, name in wanted.items():
        if old != name:
            node, variable = model.nodes.pop(old), model.variables.pop(old)
            node.name = variable.node = renamed[old] = free_name(model.nodes, name)
            node.attr["shared_name"].s = node.name.encode()
            model.nodes[node.name], model.variables[node.name] = node, variable
    model.replace_all_uses(renamed)
