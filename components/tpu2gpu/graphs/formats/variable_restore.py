"""Finds in a checkpoint what each variable of a graph is restored from, and checks that it fits."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from tpu2gpu.errors import GraphError, Tpu2GpuError
from tpu2gpu.graphs.model import ServingModel, Variable
from tpu2gpu.graphs.nodes import OpDefs, split_tensor
from tpu2gpu.graphs.variables import restoring_nodes
from tpu2gpu.options import did_you_mean
from tpu2gpu.tensorbundle.format import OBJECT_GRAPH_KEY
from tpu2gpu.tensorbundle.slices import Box, parse_spec, whole

SHADOW = "/ExponentialMovingAverage"
_STEP = re.compile(r"(.*/)?global_step|.*iterations_per_loop|save_counter.*|.*beta\d_power(_\d+)?")
_SLOT = re.compile(
    r".*/(Momentum|Adam|AdamW|RMSProp|Adagrad|AdagradDA|Adadelta|Ftrl|LAMB|LARS|adam_[mv]|.*Optimizer)(_\d+)?"
)
# What Keras 2 calls an optimizer's own numbers, and its slots, in a graph.
_KERAS_STEP = re.compile(r"(training(_\d+)?/)?\w+/(iter|beta_\d|decay|learning_rate|momentum|rho)")
_KERAS_SLOT = re.compile(r"(?:training(?:_\d+)?/)?\w+?/(?P<owner>.+)/\w+")
_OBJECT_PART = "/.ATTRIBUTES/"


@attrs.frozen
class Restored:
    """What a saver restores a variable from.

    Attributes:
        key: The tensor of the checkpoint.
        box: Which part of it, for a part of a partitioned variable.
        rivals: Other tensors that rules for names have made alike.
    """

    key: str
    box: Box | None = None
    rivals: tuple[str, ...] = ()


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


def restored_by_saver(meta: Any, ops: OpDefs) -> dict[str, Restored]:
    """What the saver of a MetaGraphDef restores each variable from; nothing when it has none."""
    try:
        return dict(_restored(restoring_nodes(meta, ops)))
    except Tpu2GpuError:
        return {}  # a saver that makes no sense says nothing; names are left


def _restored(nodes: Mapping[str, Any]) -> Iterator[tuple[str, Restored]]:
    from tensorflow.python.framework import tensor_util

    texts: dict[str, list[str]] = {}

    def listed(reference: str) -> list[str]:
        name = split_tensor(reference)[0]
        if name not in texts:
            values = tensor_util.MakeNdarray(nodes[name].attr["value"].tensor)
            texts[name] = [value.decode() for value in values.reshape(-1)]
        return texts[name]

    for node in nodes.values():
        if node.op not in ("Assign", "AssignVariableOp"):
            continue
        source, index = split_tensor(node.input[1])
        while nodes[source].op in ("Identity", "Reshape"):
            source, index = split_tensor(nodes[source].input[0])
        restore = nodes[source]
        if restore.op == "RestoreV2":
            spec = parse_spec(listed(restore.input[2])[index])
            yield split_tensor(node.input[0])[0], Restored(listed(restore.input[1])[index], spec[1] if spec else None)


def trainable_names(meta: Any) -> set[str] | None:
    """The variables that training changes by gradients, None where nothing tells."""
    from tensorflow.core.framework import variable_pb2

    if "trainable_variables" not in meta.collection_def:
        return None
    texts = meta.collection_def["trainable_variables"].bytes_list.value
    return {split_tensor(variable_pb2.VariableDef.FromString(text).variable_name)[0] for text in texts}


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
    by_name = _by_name(bundle, dropped, lambda key: rename((names or {}).get(key, _plain(key))))
    wrong, used, without_shadow = [], set(), []
    for name, node in [(name, node) for name, node in model.nodes.items() if node.op == "VarHandleOp"]:
        source = _source(name, node, restored, by_name, bundle, dropped, rename)
        called = restored[name].key if name in restored else name.removesuffix("/handle")
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
        entry = bundle.entry(source.key)
        shape = source.box.sizes if source.box is not None else entry.shape
        if mismatch := _mismatch(node, entry.dtype_name, entry.dtype, shape):
            wrong.append(f"{name}: {mismatch}")
            continue
        box = None if source.box == whole(entry.shape) else source.box
        trains = trainable is None or name in trainable
        model.variables[name] = Variable(name, source.key, entry.dtype, shape, trains, box=box)
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
    bundle: Any,
    dropped: Collection[str],
    rename: Callable[[str], str],
) -> Restored | None:
    plain = name.removesuffix("/handle")
    for known in (restored.get(plain), restored.get(name)):
        if known is not None and known.key in bundle and known.key not in dropped:
            return known
    names = [node.attr["shared_name"].s.decode(), plain]
    for key in names:
        if key in bundle and key not in dropped:
            return Restored(key)
    names += [known.key for known in (restored.get(plain), restored.get(name)) if known is not None]
    found = next((by_name[rename(each)] for each in names if rename(each) in by_name), None)
    return None if found is None else Restored(found[0], rivals=tuple(found[1:]))


def _by_name(bundle: Any, dropped: Collection[str], name_of: Callable[[str], str]) -> dict[str, list[str]]:
    """For each name the tensors that are called so: weights, or where there are none one of what training needs."""
    weights: dict[str, list[str]] = {}
    others: dict[str, list[str]] = {}
    for key in bundle:
        if key != OBJECT_GRAPH_KEY and key not in dropped:
            kind = kind_of_tensor(key, bundle)
            (others if kind else weights).setdefault(name_of(key), []).append(key)
    return {**{name: keys[-1:] for name, keys in others.items()}, **weights}


def object_names(bundle: Any) -> dict[str, str]:
    """For each tensor of an object-based checkpoint the full name of its variable; nothing for other checkpoints."""
    if OBJECT_GRAPH_KEY not in bundle:
        return {}
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(bundle.read(OBJECT_GRAPH_KEY).item())
    return {it.checkpoint_key: it.full_name for node in graph.nodes for it in node.attributes if it.full_name}


def _plain(key: str) -> str:
    """The name in a key of an object-based checkpoint; any other key as it is."""
    return key.partition(_OBJECT_PART)[0]


def _mismatch(handle: Any, dtype_name: str, dtype: int, found: tuple[int, ...]) -> str:
    from tpu2gpu.graphs.describing import dtype_name as name_of

    declared = handle.attr["shape"].shape
    shape = [dim.size for dim in declared.dim]
    fits = declared.unknown_rank or (
        len(shape) == len(found) and all(size in (-1, it) for size, it in zip(shape, found, strict=True))
    )
    wanted = handle.attr["dtype"].type
    if fits and wanted == dtype:
        return ""
    return f"{name_of(wanted)} {shape} in the graph, {dtype_name} {list(found)} in the checkpoint"


def _account(bundle: Any, used: Collection[str], by_rule: Collection[str], without_shadow: list[str]) -> RestoreReport:
    """Sort what was not used by why it is not."""
    kinds: dict[str, list[str]] = {"slots": [], "shadows": [], "steps": [], "rules": sorted(by_rule)}
    unused: list[str] = []
    for key in bundle:
        if key in used or key in by_rule or key == OBJECT_GRAPH_KEY:
            continue
        kind = kind_of_tensor(key, bundle)
        (kinds[kind] if kind else unused).append(key)
    return RestoreReport({kind: keys for kind, keys in kinds.items() if keys}, unused, without_shadow)


def kind_of_tensor(key: str, bundle: Any) -> str:
    """`slots`, `shadows` or `steps` for what only training needs, nothing for a weight.

    A slot is called like the variable that it belongs to, with its own name behind (in Keras 2 the optimizer's in
    front, too), and has its shape.
    """
    if key.endswith(SHADOW) or key.removesuffix("_1").endswith("/ExponentialMovingAverage"):
        return "shadows"
    if _STEP.fullmatch(key) or (_KERAS_STEP.fullmatch(key) and not bundle.entry(key).shape):
        return "steps"
    if "/.OPTIMIZER_SLOT/" in key or _SLOT.fullmatch(key) or re.match(r"(.*/)?_?optimizer/", key):
        return "slots"
    found = _KERAS_SLOT.fullmatch(key)
    owners = [key.rpartition("/")[0], found["owner"] if found else ""]
    if any(owner in bundle and bundle.entry(owner).shape == bundle.entry(key).shape for owner in owners):
        return "slots"
    return ""
