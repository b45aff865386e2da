"""State the shapes of a signature's inputs where the model leaves them open."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tpu2gpu.errors import SignatureError
from tpu2gpu.graphs.describing import dtype_name
from tpu2gpu.graphs.formats.saved_model import serving_signatures
from tpu2gpu.graphs.nodes import split_tensor
from tpu2gpu.graphs.ops import PLACEHOLDERS
from tpu2gpu.graphs.passes.training.replace_infeeds import Input
from tpu2gpu.options import did_you_mean


def state_shapes(meta: Any, inputs: Iterable[Input]) -> None:
    """Write shapes into the signatures of a MetaGraphDef, and into the placeholders behind them.

    Args:
        meta: The MetaGraphDef, changed in place.
        inputs: Inputs that its signatures have, by their names there.

    Raises:
        SignatureError: No signature has such an input, or it has another type or shape; all are listed.
    """
    nodes = {node.name: node for node in meta.graph_def.node}
    wrong = []
    for given in inputs:
        infos = [it.inputs[given.name] for it in serving_signatures(meta).values() if given.name in it.inputs]
        if not infos:
            names = sorted({name for it in serving_signatures(meta).values() for name in it.inputs})
            near = did_you_mean(given.name, names) or f"the inputs are {', '.join(names)}"
            wrong.append(f"{given.name}: no signature has this input; {near}")
        for info in infos:
            node = nodes.get(split_tensor(info.name)[0])
            if info.WhichOneof("encoding") != "name" or node is None or node.op not in PLACEHOLDERS:
                wrong.append(f"{given.name}: is not one placeholder, so its shape follows from other nodes")
            elif info.dtype != given.dtype:
                wrong.append(f"{given.name}: is {dtype_name(info.dtype)}, not {dtype_name(given.dtype)}")
            elif not _fits(given, info.tensor_shape):
                sizes = ["?" if dim.size < 0 else str(dim.size) for dim in info.tensor_shape.dim]
                wrong.append(f"{given.name}: has the shape [{', '.join(sizes)}]")
            else:
                for shape in (info.tensor_shape, node.attr["shape"].shape):
                    shape.Clear()
                    for size in given.shape or ():
                        shape.dim.add(size=-1 if size is None else size)
    if wrong:
        raise SignatureError("--input: inputs cannot have the stated shapes", details=list(dict.fromkeys(wrong)))


def _fits(given: Input, declared: Any) -> bool:
    if declared.unknown_rank:
        return True
    stated, known = given.shape or (), [dim.size for dim in declared.dim]
    return len(stated) == len(known) and all(size in (-1, it) for it, size in zip(stated, known, strict=True))
