"""The nodes of a model that do more than compute."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from tpu2gpu.graphs.assets import asset_files
from tpu2gpu.graphs.calls import needed_functions
from tpu2gpu.graphs.edit import ancestors
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import OpDefs, split_tensor
from tpu2gpu.graphs.signatures import tensor_names
from tpu2gpu.graphs.trust.file_paths import PathOrigins, Scope
from tpu2gpu.graphs.trust.op_classes import PATH_INPUTS, OpClass, class_of_node

_RESTORES = ("Restore", "RestoreSlice", "RestoreV2")
_INITIALIZERS = ("saved_model_main_op", "legacy_init_op", "table_initializer")


@attrs.frozen
class Finding:
    """A node that does more than compute.

    Attributes:
        node: Its name.
        op: Its op.
        function: The function that holds it; empty in the graph itself.
        does: What it does.
        path: Where the path of the file that it reads comes from; empty where that cannot be told.
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
    saving = _functions_below(nodes, [meta.saver_def.save_tensor_name], functions)
    serving = _functions_below(nodes, _roots(meta), functions)
    bound = {
        name: [meta.object_graph_def.nodes[i].WhichOneof("kind") == "asset" for i in function.bound_inputs]
        for name, function in meta.object_graph_def.concrete_functions.items()
    }
    called = needed_functions([], functions) | {
        name: functions[name] for name in [*serving, *bound] if name in functions and name not in saving - serving
    }
    called |= needed_functions([node for function in called.values() for node in function.node_def], functions)
    return _review(
        {name: nodes[name] for name in ancestors(nodes, [root for root in _roots(meta) if root in nodes])},
        called,
        OpDefs(meta.meta_info_def.stripped_op_list.op),
        assets=asset_files(meta),
        checkpoint=split_tensor(meta.saver_def.filename_tensor_name)[0],
        bound=bound,
    )


def review_model(model: ServingModel) -> list[Finding]:
    """Review a model whose calls are inlined."""
    return _review(model.nodes, model.functions, model.ops, assets={asset.node for asset in model.assets})


def _review(
    nodes: Mapping[str, Any],
    functions: Mapping[str, Any],
    ops: OpDefs,
    *,
    assets: Iterable[str] = (),
    checkpoint: str = "",
    bound: Mapping[str, list[bool]] | None = None,
) -> list[Finding]:
    scopes = {"": Scope(nodes, {}, {})} | {name: Scope.of_function(function) for name, function in functions.items()}
    origins = PathOrigins(scopes, functions, ops, set(assets), checkpoint, bound or {})
    found = []
    for name, scope in scopes.items():
        for node in scope.nodes.values():
            if node.op in functions or (does := class_of_node(node)) == "pure":
                continue
            paths = sorted(origins.of(name, node)) if node.op in PATH_INPUTS else []
            allowed = {"its asset", "its checkpoint"} if node.op in _RESTORES else {"its asset"}
            if paths and set(paths) <= allowed:
                continue
            found.append(Finding(node.name, node.op, name, does, ", ".join(paths)))
    return found


def _roots(meta: Any) -> list[str]:
    """Return the nodes that loading and serving run."""
    return [split_tensor(name)[0].lstrip("^") for name in _root_tensors(meta) if name]


def _root_tensors(meta: Any) -> Iterator[str]:
    for signature in meta.signature_def.values():
        for info in signature.outputs.values():
            yield from tensor_names(info)
    for name in _INITIALIZERS:
        if name in meta.collection_def:
            yield from meta.collection_def[name].node_list.value
    yield meta.saver_def.restore_op_name


def _functions_below(nodes: Mapping[str, Any], roots: Iterable[str], functions: Mapping[str, Any]) -> set[str]:
    known = [name for root in roots if (name := split_tensor(root)[0]) in nodes]
    return set(needed_functions([nodes[name] for name in ancestors(nodes, known)], functions))
