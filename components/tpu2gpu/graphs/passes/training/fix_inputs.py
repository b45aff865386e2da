"""Give inputs of a model one value for good."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import attrs
import numpy as np

from tpu2gpu.errors import SignatureError, UnsupportedError
from tpu2gpu.graphs.describing import dtype_name
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import split_tensor
from tpu2gpu.graphs.ops import PLACEHOLDERS
from tpu2gpu.graphs.passes.base import Changes, Pass
from tpu2gpu.graphs.passes.training.fold_values import fold_values
from tpu2gpu.graphs.passes.training.rewriter import Rewriter
from tpu2gpu.options import did_you_mean
from tpu2gpu.tensorbundle.format import numpy_dtype

_TRUTH = {"true": True, "1": True, "false": False, "0": False}


@attrs.frozen
class FixInputs(Pass):
    """Put constants in the place of placeholders, and drop the branches that are never taken on their account.

    Attributes:
        values: What each is from now on, by the signature's name or the placeholder's; numbers with commas between
            them where it is a vector.
    """

    PHRASES: ClassVar = {"fixed_inputs": "fixes {} inputs"}

    values: Mapping[str, str]

    def run(self, model: ServingModel) -> Changes:
        """Fix the inputs; no signature has them any more.

        Raises:
            SignatureError: There is no such input, or a value is not of its type; all are listed.
        """
        named = {name: info.name for it in model.signatures.values() for name, info in it.inputs.items()}
        found: dict[str, Any] = {}
        wrong = []
        for name, text in self.values.items():
            node = model.nodes.get(split_tensor(named.get(name, name))[0])
            if node is None or node.op not in (*PLACEHOLDERS, "PlaceholderWithDefault"):
                placeholders = [name for name, node in model.nodes.items() if node.op in PLACEHOLDERS]
                near = did_you_mean(name, [*named, *placeholders]) or f"the inputs are {', '.join(sorted(named))}"
                wrong.append(f"{name}: no input and no placeholder is called so; {near}")
                continue
            try:
                found[node.name] = _value(text, node)
            except (KeyError, UnsupportedError, ValueError, OverflowError):
                wrong.append(f"{name}: {text!r} is no {dtype_name(node.attr['dtype'].type)}{_shape_of(node)}")
        if wrong:
            raise SignatureError("--fix: inputs cannot have the given values", details=wrong)
        for signature in model.signatures.values():
            for name in [name for name, info in signature.inputs.items() if split_tensor(info.name)[0] in found]:
                del signature.inputs[name]
        with Rewriter(model) as graph:
            fold_values(graph, found)
        return {"fixed_inputs": list(self.values)} if found else {}


def fix_inputs(model: ServingModel, values: Mapping[str, str]) -> Changes:
    """Give inputs of a model that serves already one value for good, and drop what nothing needs any more.

    Raises:
        SignatureError: An input cannot have its value.
    """
    changes = FixInputs(values).run(model) if values else {}
    if changes:
        model.prune()
    return changes


def _value(text: str, node: Any) -> Any:
    """Read a placeholder's value.

    Raises:
        KeyError: It is neither true nor false.
        UnsupportedError: numpy lacks the placeholder's type.
        ValueError: It is not of the placeholder's type or shape.
        OverflowError: The type does not hold it.
    """
    dtype, shape = numpy_dtype(node.attr["dtype"].type), node.attr["shape"].shape
    parts = text.split(",")
    items: list[Any] = [it.encode() for it in parts]
    if dtype.kind == "b":
        items = [_TRUTH[it.strip().lower()] for it in parts]
    elif dtype.kind in "iu":
        items = [int(it) for it in parts]
    elif dtype.kind != "O":
        items = [float(it) for it in parts]
    value = np.array(items).astype(dtype) if dtype.kind not in "iu" else np.array(items, dtype)
    sizes = [dim.size for dim in shape.dim]
    if not sizes and len(items) == 1:
        return value[0] if dtype.kind != "O" else np.array(items[0], object)
    if len(items) == 1 and sizes and min(sizes) > 0:
        return np.full(sizes, value[0], dtype)
    if not shape.unknown_rank and (len(sizes) != 1 or sizes[0] not in (-1, len(items))):
        raise ValueError(f"not of the shape {sizes}")
    return value


def _shape_of(node: Any) -> str:
    shape = node.attr["shape"].shape
    sizes = ["?" if dim.size < 0 else str(dim.size) for dim in shape.dim]
    return "" if shape.unknown_rank else f" [{', '.join(sizes)}]"
