"""The head of a serialized StableHLO module: its version, told without any library, and what the op around it says."""

from __future__ import annotations

import re
from typing import Any

import attrs

from tpu2gpu.errors import GraphError
from tpu2gpu.graphs.model import ServingModel

XLA_CALL_MODULE = "XlaCallModule"

MAGIC = b"ML\xefR"
"""With what MLIR's bytecode begins."""

_PRODUCER = re.compile(rb"StableHLO_v(\d+\.\d+\.\d+)\0")


@attrs.frozen
class ModuleHead:
    """What is known of an `XlaCallModule` before its module is read.

    Attributes:
        node: The node that holds it.
        version: The version of the op's calling convention.
        stablehlo_version: The version of StableHLO that wrote the module; empty where it does not say.
        platforms: The platforms that it was exported for, `CPU`, `CUDA`, `TPU`; none where it does not say.
        size_bytes: Bytes of the module.
    """

    node: str
    version: int
    stablehlo_version: str
    platforms: tuple[str, ...]
    size_bytes: int

    def __str__(self) -> str:
        """Return `XlaCallModule 'jax' (version 9, StableHLO 0.9.0, for CPU and TPU)`."""
        platforms = f", for {' and '.join(self.platforms)}" if self.platforms else ""
        stablehlo = f"StableHLO {self.stablehlo_version}" if self.stablehlo_version else "StableHLO of unknown version"
        return f"{XLA_CALL_MODULE} '{self.node}' (version {self.version}, {stablehlo}{platforms})"


def describe_modules(model: ServingModel) -> list[str]:
    """Name each module of a model: in its flat graph and in the functions that it calls."""
    bodies = (node for function in model.functions.values() for node in function.node_def)
    return [str(read_head(node)) for node in (*model.nodes.values(), *bodies) if node.op == XLA_CALL_MODULE]


def read_head(node: Any) -> ModuleHead:
    """Read what a node says of its module.

    Args:
        node: The NodeDef of an `XlaCallModule`.

    Raises:
        GraphError: It holds no module.
    """
    module = node.attr["module"].s
    if not module:
        raise GraphError(f"node {node.name}: {XLA_CALL_MODULE} without a module", hint="export the model again")
    found = _PRODUCER.search(module[:64]) if module.startswith(MAGIC) else None
    return ModuleHead(
        node=node.name,
        version=node.attr["version"].i,
        stablehlo_version=found[1].decode() if found else "",
        platforms=tuple(it.decode(errors="backslashreplace") for it in node.attr["platforms"].list.s),
        size_bytes=len(module),
    )
