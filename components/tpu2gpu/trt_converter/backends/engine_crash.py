"""The operation at which an engine's builder ends: the shortest beginning of the model that ends it too."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

_BEGINNING_FILE = ".beginning.onnx"  # beside the file, whose weights may lie there


@attrs.frozen
class CrashPlace:
    """The place of a crash.

    Attributes:
        op: The kind of operation; of the last one where the search was cut short.
        node: Its name, or its output's.
        earliest: The first operation that may be it; empty where it is that one for sure.
    """

    op: str
    node: str
    earliest: str = ""

    def __str__(self) -> str:
        """Tell the operation, or between which two it is."""
        found = f"{self.op} {self.node}"
        return f"it ends between {self.earliest} and {found}" if self.earliest else f"it ends at {found}"


def find_crash(onnx_path: Path, crashes: Callable[[Path], bool], *, seconds: float) -> CrashPlace | None:
    """Find the operation at which a builder ends, by building beginnings of the model.

    Args:
        onnx_path: The ONNX file that ends it.
        crashes: Builds a file, and tells whether that ends the builder.
        seconds: Begin no further build after this time.

    Returns:
        None where no beginning of the model ends the builder, or none could be made.
    """
    import onnx

    started = time.monotonic()
    model = onnx.shape_inference.infer_shapes(onnx.load(str(onnx_path), load_external_data=False))
    nodes = list(model.graph.node)
    file = onnx_path.with_name(onnx_path.name + _BEGINNING_FILE)
    sound, ending = 0, len(nodes)
    tried = False
    try:
        while ending - sound > 1 and time.monotonic() - started < seconds:
            middle = (sound + ending) // 2
            file.write_bytes(_beginning(model, middle).SerializeToString())
            tried = True
            if crashes(file):
                ending = middle
            else:
                sound = middle
    finally:
        file.unlink(missing_ok=True)
    if not tried and len(nodes) > 1:
        return None
    last, first = nodes[ending - 1], nodes[sound]
    earliest = "" if ending - sound == 1 else f"{first.op_type} {_name(first)}"
    return CrashPlace(str(last.op_type), _name(last), earliest)


def _beginning(model: Any, count: int) -> Any:
    """Return a model's first nodes as a model, whose outputs are what none of them takes."""
    import onnx

    beginning = onnx.ModelProto()
    beginning.CopyFrom(model)
    graph = beginning.graph
    del graph.node[count:]
    taken = {name for node in graph.node for name in node.input}
    known = {value.name: value for value in [*model.graph.value_info, *model.graph.output]}
    ends = [name for node in graph.node for name in node.output if name and name not in taken]
    del graph.output[:]
    graph.output.extend(known[name] for name in ends if name in known)
    return beginning


def _name(node: Any) -> str:
    return str(node.name or next(iter(node.output), ""))
