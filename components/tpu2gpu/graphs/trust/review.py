"""The nodes of a model that do more than compute."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import attrs

from tpu2gpu.errors import SourceError, foreign_errors
from tpu2gpu.graphs.assets import asset_files
from tpu2gpu.graphs.calls import function_names
from tpu2gpu.graphs.edit import ancestors, walk
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import OpDefs, split_tensor
from tpu2gpu.graphs.op_classes import PATH_INPUTS, OpClass, class_of_node
from tpu2gpu.graphs.signatures import INIT_SIGNATURE, tensor_names
from tpu2gpu.graphs.stablehlo.artifact import XLA_CALL_MODULE
from tpu2gpu.graphs.trust.file_paths import PathOrigins, Scope
from tpu2gpu.graphs.trust.stablehlo_calls import class_of_module

# The origins of a path that an op may have, where these are others than an asset.
_ALLOWED = {
    **{key: {"its asset", "its checkpoint"} for key in ("Restore", "RestoreSlice", "RestoreV2")},
    **{key: {repr("")} for key in ("CacheDataset", "CacheDatasetV2")},  # which caches in memory
}
_INITIALIZERS = ("saved_model_main_op", "legacy_init_op", "table_initializer")
_LOCAL_VARIABLES = "local_variables"
_FED = ("Const", "Placeholder", "PlaceholderWithDefault")


@attrs.frozen
class Finding:
    """A node that does more than compute.

    Attributes:
        node: Its name.
        op: Its op.
        function: The function that holds it; empty in the graph itself.
        does: What it does.
        path: Where the path of the file that it reads comes from, or which custom calls it makes; empty where that
            cannot be told.
    """

    node: str
    op: str
    function: str
    does: OpClass
    path: str = ""

    def __str__(self) -> str:
        """Return `ReadFile 'read' in function 'f': reads files ('/etc/passwd')`."""
        place = f" in function '{self.function}'" if self.function else ""
        return f"{self.op} '{self.node}'{place}: {self.does}{f' ({self.path})' if self.path else ''}"


def review_meta_graph(meta: Any) -> list[Finding]:
    """Review all that may run of a MetaGraphDef: signatures, initialisers, restoring, and every function of objects.

    Nodes that nothing of these needs never run. What only saves is not run by serving either.
    """
    functions = {function.signature.name: function for function in meta.graph_def.library.function}
    nodes = {node.name: node for node in meta.graph_def.node}
    served = _ancestors(nodes, _served_tensors(meta))
    initialized = _ancestors(nodes, _initialized(meta))
    restored = _ancestors(nodes, [meta.saver_def.restore_op_name])
    run = served | initialized | restored
    bound = _object_functions(meta.object_graph_def)
    checkpoint = {split_tensor(meta.saver_def.filename_tensor_name)[0]}
    return _review(
        {name: nodes[name] for name in run},
        _called_functions([nodes[name] for name in run], bound, functions, meta.graph_def.library.gradient),
        fed=_fed(nodes, asset_files(meta).keys() - served - restored),
        checkpoint=_fed(nodes, checkpoint - served - initialized),
        bound=bound,
    )


def _fed(nodes: Mapping[str, Any], names: Iterable[str]) -> set[str]:
    """Return those nodes that are all that loaders put in their place: others have outputs that stay what they are."""
    return {name for name in names if name in nodes and nodes[name].op in _FED}


def _object_functions(objects: Any) -> dict[str, list[bool]]:
    """Return the functions that objects call, and of each whether its last arguments, which it captures, are assets."""
    bound = {
        name: [objects.nodes[i].WhichOneof("kind") == "asset" for i in function.bound_inputs]
        for name, function in objects.concrete_functions.items()
    }
    for node in objects.nodes:  # they may name functions that the list lacks, which capture nothing
        for name in (*node.function.concrete_functions, node.bare_concrete_function.concrete_function_name):
            bound.setdefault(name, [])
    return bound


def review_model(model: ServingModel) -> list[Finding]:
    """Review a model whose calls are inlined."""
    assets = {asset.node for asset in model.assets}
    if assets:
        assets -= _ancestors(model.nodes, [name for it in model.signatures.values() for name in _output_names(it)])
    return _review(model.nodes, model.functions, fed=_fed(model.nodes, assets))


def _called_functions(
    nodes: Iterable[Any], bound: Iterable[str], functions: Mapping[str, Any], gradients: Iterable[Any]
) -> dict[str, Any]:
    """Return the functions that may be called, by name.

    Besides those that nodes name these are the gradients of functions, and what TensorFlow's optimiser calls in the
    place of others: functions that say that they implement the same.
    """
    twins: dict[bytes, list[str]] = {}
    for name, function in functions.items():
        twins.setdefault(_implemented(function), []).append(name)
    gradients_of: dict[str, list[str]] = {}
    for gradient in gradients:
        gradients_of.setdefault(gradient.function_name, []).append(gradient.gradient_func)

    def called(nodes: Iterable[Any]) -> list[str]:
        return [name for node in nodes for name in (*function_names(node), node.op)]

    def further(name: str) -> list[str]:
        implemented = _implemented(functions[name])
        names = [
            *called(functions[name].node_def),
            *gradients_of.get(name, ()),
            *twins[implemented] * bool(implemented),
        ]
        return [it for it in names if it in functions]

    starts = [name for name in (*called(nodes), *bound) if name in functions]
    return {name: functions[name] for name in sorted(walk(starts, further))}


def _implemented(function: Any) -> bytes:
    """Return what a function says that it implements; nothing where it does not."""
    return bytes(function.attr["api_implements"].s) if "api_implements" in function.attr else b""


def _review(
    nodes: Mapping[str, Any],
    functions: Mapping[str, Any],
    *,
    fed: Collection[str],
    checkpoint: Collection[str] = (),
    bound: Mapping[str, list[bool]] | None = None,
) -> list[Finding]:
    """Review a graph.

    Args:
        nodes: Its nodes that may run.
        functions: The functions that may be called.
        fed: The nodes that hold paths of assets where loaders put those in: what a signature needs is not among them.
        checkpoint: The node that holds the path of the checkpoint, where loaders put that in.
        bound: Of functions that objects call: whether each of the last arguments is an asset.
    """
    scopes = {"": Scope(nodes, {}, {})} | {name: Scope.of_function(function) for name, function in functions.items()}
    # TensorFlow's own definitions of ops: a model's could say that a path is another input than it is.
    origins = PathOrigins(scopes, functions, OpDefs(), set(fed), set(checkpoint), bound or {})
    found = []
    for name, scope in scopes.items():
        for node in scope.nodes.values():
            op = node.op
            if op in functions:
                continue
            does, calls = class_of_node(node), ""
            if does == "pure" and op == XLA_CALL_MODULE:
                does, calls = class_of_module(node)
            if does == "pure":
                continue
            paths = sorted(origins.of(name, node)) if op in PATH_INPUTS else []
            if paths and set(paths) <= _ALLOWED.get(op, {"its asset"}):
                continue
            found.append(Finding(node.name, op, name, does, calls or ", ".join(paths)))
    return found


def _served_tensors(meta: Any) -> Iterator[str]:
    """Yield what signatures give."""
    for name, signature in meta.signature_def.items():
        if name != INIT_SIGNATURE:
            yield from _output_names(signature)


def _initialized(meta: Any) -> Iterator[str]:
    """Yield what loading runs besides restoring: initialisers, those of local variables among them."""
    yield from _output_names(meta.signature_def[INIT_SIGNATURE]) if INIT_SIGNATURE in meta.signature_def else ()
    for name in _INITIALIZERS:
        if name in meta.collection_def:
            yield from meta.collection_def[name].node_list.value
    if _LOCAL_VARIABLES in meta.collection_def:
        yield from _initializers(meta.collection_def[_LOCAL_VARIABLES].bytes_list.value)


def _initializers(variables: Iterable[bytes]) -> Iterator[str]:
    from tensorflow.core.framework import variable_pb2

    for text in variables:
        with foreign_errors(SourceError, "the graph's local variables are damaged"):
            yield variable_pb2.VariableDef.FromString(text).initializer_name


def _output_names(signature: Any) -> Iterator[str]:
    for info in signature.outputs.values():
        yield from tensor_names(info)


def _ancestors(nodes: Mapping[str, Any], tensors: Iterable[str]) -> set[str]:
    """Return what tensors need; those that the graph lacks cannot be run."""
    names = (split_tensor(tensor)[0].lstrip("^") for tensor in tensors)
    return ancestors(nodes, [name for name in names if name in nodes])
