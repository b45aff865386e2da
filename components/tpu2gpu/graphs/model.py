"""A model as the steps see it between reading and writing: one flat graph, its signatures and its variables."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs
import numpy as np

from tpu2gpu.errors import CheckpointError, SignatureError
from tpu2gpu.graphs.calls import needed_functions
from tpu2gpu.graphs.edit import ancestors, replace_all_uses
from tpu2gpu.graphs.nodes import OpDefs, join_tensor, split_tensor
from tpu2gpu.graphs.signatures import full_name, map_tensors, tensor_names
from tpu2gpu.options import did_you_mean
from tpu2gpu.storage.paths import Place
from tpu2gpu.tensorbundle.casting import cast_chunks
from tpu2gpu.tensorbundle.checkpoint import Checkpoint
from tpu2gpu.tensorbundle.slices import Box

DEFAULT_SIGNATURE = "serving_default"


def unknown_signature(name: str, signatures: Iterable[str]) -> SignatureError:
    """Return the error for a signature that is not there."""
    return SignatureError(
        f"the model has no signature {name!r}, it has {', '.join(sorted(signatures))}",
        hint=did_you_mean(name, signatures),
    )


@attrs.define
class Variable:
    """A variable of the graph.

    Attributes:
        node: Its VarHandleOp in the flat graph; also its key in the checkpoint that is written.
        key: Its key in the checkpoint that it is read from.
        dtype: TensorFlow's DataType number in the graph; that of the checkpoint may differ until it is written.
        shape: Sizes of its dimensions.
        trainable: Whether training changes it by gradients.
        clamp: Whether values too large for `dtype` become the largest that it holds, instead of infinite.
        value: Its value where no checkpoint holds it.
        box: The part of the checkpoint's tensor that it is, for a part of a partitioned variable.
    """

    node: str
    key: str
    dtype: int
    shape: tuple[int, ...]
    trainable: bool = True
    clamp: bool = False
    value: np.ndarray[Any, Any] | None = None
    box: Box | None = None


@attrs.define
class Asset:
    """A file that the graph reads, such as a vocabulary.

    Attributes:
        node: The constant that holds its path.
        path: Where it lies.
    """

    node: str
    path: Place


@attrs.define
class ServingModel:
    """One flat graph with its signatures, variables and assets.

    Attributes:
        nodes: NodeDefs by name; calls are inlined.
        functions: Bodies of control flow, by name.
        signatures: SignatureDefs whose tensors are the flat graph's.
        variables: By the name of their VarHandleOp.
        ops: Definitions of the ops.
        bundle: Where the variables' values are, None without variables.
        constants: Const nodes whose values are still in the bundle, and which of its tensors they hold.
        init_node: The node that fills tables, or nothing.
        assets: Files that the graph reads.
        versions: The graph's VersionDef.
        tensorflow_version: Which TensorFlow wrote the source.
        dropped_effects: Nodes (and their ops) that ran by control dependency alone and are gone.
    """

    nodes: dict[str, Any]
    functions: dict[str, Any]
    signatures: dict[str, Any]
    variables: dict[str, Variable]
    ops: OpDefs
    bundle: Checkpoint | None
    init_node: str
    assets: list[Asset]
    versions: Any
    tensorflow_version: str
    dropped_effects: dict[str, str] = attrs.field(factory=dict)
    constants: dict[str, Variable] = attrs.field(factory=dict)

    def copy(self) -> ServingModel:
        """Return a model that can be changed without this one; values of variables are shared."""
        return attrs.evolve(
            self,
            nodes=copy.deepcopy(self.nodes),
            functions=copy.deepcopy(self.functions),
            signatures=copy.deepcopy(self.signatures),
            variables={name: attrs.evolve(variable) for name, variable in self.variables.items()},
            constants={name: attrs.evolve(variable) for name, variable in self.constants.items()},
            assets=[attrs.evolve(asset) for asset in self.assets],
            versions=copy.deepcopy(self.versions),
            dropped_effects=dict(self.dropped_effects),
        )

    def signature(self, name: str) -> Any:
        """Return a signature by its name.

        Raises:
            SignatureError: There is none of this name.
        """
        if name not in self.signatures:
            raise unknown_signature(name, self.signatures)
        return self.signatures[name]

    def keep_signatures(self, names: Iterable[str]) -> None:
        """Drop all signatures but some, and what only the others need.

        Raises:
            SignatureError: There is none of a name.
        """
        self.signatures = {name: self.signature(name) for name in names}
        self.prune()

    def output_tensors(self) -> list[str]:
        """Return the tensors that signatures return."""
        return [name for info in self.infos("outputs") for name in tensor_names(info)]

    def input_tensors(self) -> list[str]:
        """Return the tensors that signatures take."""
        return [name for info in self.infos("inputs") for name in tensor_names(info)]

    def graph_def(self) -> Any:
        """Return the flat graph as a GraphDef; constants that are in the bundle have no value in it."""
        from tensorflow.core.framework import graph_pb2

        graph = graph_pb2.GraphDef(node=self.nodes.values(), versions=self.versions)
        graph.library.function.extend(self.functions.values())
        return graph

    def infos(self, *sides: str) -> list[Any]:
        """Return the TensorInfos of signatures, by the names of signatures and tensors.

        Args:
            *sides: `inputs`, `outputs`.
        """
        signatures = self.signatures.values()
        return [info for it in signatures for side in sides for _, info in sorted(getattr(it, side).items())]

    def roots(self) -> set[str]:
        """Return the nodes that must stay: what signatures take and return, tables' initialisers, assets."""
        named = {split_tensor(tensor)[0] for tensor in [*self.output_tensors(), *self.input_tensors()]}
        return named | {asset.node for asset in self.assets} | ({self.init_node} if self.init_node else set())

    def prune(self) -> None:
        """Drop nodes, functions and variables that nothing needs any more."""
        kept = ancestors(self.nodes, self.roots())
        self.nodes = {name: node for name, node in self.nodes.items() if name in kept}
        self.functions = needed_functions(self.nodes.values(), self.functions)
        self.variables = {name: variable for name, variable in self.variables.items() if name in kept}
        self.constants = {name: variable for name, variable in self.constants.items() if name in kept}

    def replace_all_uses(self, new_tensors: Mapping[str, str]) -> None:
        """Make everything that takes a tensor take another (`node`, or `node:1` names); signatures' outputs too."""
        replace_all_uses(self.nodes.values(), new_tensors)
        for info in self.infos("outputs"):
            map_tensors(info, lambda name: full_name(new_tensors.get(join_tensor(*split_tensor(name)), name)))

    def value_chunks(self, variable: Variable) -> Iterator[bytes | memoryview]:
        """Return a variable's value in the type that the graph gives it, piece by piece.

        Raises:
            CheckpointError: The value is damaged.
        """
        if variable.value is not None:
            return iter([np.ascontiguousarray(variable.value).reshape(-1).view(np.uint8).data])
        if self.bundle is None:
            raise CheckpointError(f"variable {variable.node} has no checkpoint")
        stored = self.bundle.entry(variable.key).dtype
        return cast_chunks(
            self.bundle.chunks(variable.key, box=variable.box), stored, variable.dtype, clamp=variable.clamp
        )

    def stored_checksum(self, variable: Variable) -> int | None:
        """Return the checksum of a variable's bytes where they are the checkpoint's own; None elsewhere.

        Whoever reads the bytes holds them against it, so that whoever writes them need not go through them again.
        """
        if variable.value is not None or variable.box is not None or self.bundle is None:
            return None
        is_unchanged = self.bundle.entry(variable.key).dtype == variable.dtype
        return self.bundle.checksum(variable.key) if is_unchanged else None

    def op_counts(self) -> dict[str, int]:
        """Return how often each op stands in the flat graph, most frequent first."""
        counts = Counter(node.op for node in self.nodes.values())
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
