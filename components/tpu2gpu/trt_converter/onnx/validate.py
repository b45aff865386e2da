"""Validation of a converted model: tf2onnx writes a file, and ends well, for models that it cannot convert."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tpu2gpu.errors import ConversionError

_NAMES_SHOWN = 5

_NO_REASON = re.compile(r"Tensorflow op \[.*\] is not supported", re.DOTALL)  # which the list of them says


def check_onnx(model: Any, path: Path | None = None) -> None:
    """Check that a model is sound ONNX: types and shapes consistent, each operation used as it is defined.

    Args:
        model: An ONNX ModelProto, whose operations `check_operations` found to be known.
        path: Its file, which is checked in its place: with external data no message can hold all of it.

    Raises:
        ConversionError: It is not.
    """
    import onnx

    try:
        # The full check is with strict inference of types and shapes.
        onnx.checker.check_model(model if path is None else str(path), full_check=True)
    except Exception as error:  # onnx raises ValidationError, InferenceError and plain ones
        raise ConversionError("the converted model is not sound ONNX", details=[str(error).strip()]) from error


def check_operations(model: Any, complaints: list[str]) -> None:
    """Check that ONNX knows every operation, which needs no file.

    Args:
        model: An ONNX ModelProto.
        complaints: What tf2onnx logged as not converted.

    Raises:
        ConversionError: It does not; operations are listed with the names of their nodes, after what was complained of.
    """
    if unknown := unknown_operations(model):
        reasons = [text for text in complaints if not _NO_REASON.fullmatch(text)]
        raise ConversionError(
            f"{len(unknown)} kind{'s' if len(unknown) > 1 else ''} of operation in the model cannot be converted",
            details=[*reasons, *(f"{kind}: {_shown(names)}" for kind, names in unknown.items())],
            hint="take them out of the signature: decode, look up and preprocess before the model",
        )
    if complaints:
        raise ConversionError("tf2onnx could not convert all of the model", details=complaints)


def unknown_operations(model: Any) -> dict[str, list[str]]:
    """Return the ops that no opset of the model knows, with the names of their nodes."""
    import onnx

    versions = {opset.domain: opset.version for opset in model.opset_import}
    unknown: dict[str, list[str]] = {}
    for node in nodes_of(model.graph):
        domain = "" if node.domain == "ai.onnx" else node.domain
        known = domain in versions and onnx.defs.has(node.op_type, versions[domain], domain)
        if not known or onnx.defs.get_schema(node.op_type, versions[domain], domain).deprecated:
            unknown.setdefault(node.op_type, []).append(node.name)
    return dict(sorted(unknown.items()))


def nodes_of(graph: Any) -> Iterator[Any]:
    """Walk the nodes of a graph and of the bodies of its loops and branches."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for body in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                yield from nodes_of(body)


def describe_onnx(model: Any) -> dict[str, Any]:
    """Describe a model in figures: operations, weights by type, the dtype that most of the weights have.

    `dtype` is int8 where there is quantisation; `weights_dtype` is that of the weights all the same.
    """
    weights = _weights(model)
    operations = Counter(node.op_type for node in nodes_of(model.graph))
    floats = {dtype: size for dtype, size in weights.items() if "float" in dtype}
    largest = max(sorted(floats), key=lambda dtype: floats[dtype]) if floats else "float32"
    return {
        "opset": next(opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")),
        "ir_version": model.ir_version,
        "ops": dict(sorted(operations.items())),
        "weights_size_bytes": weights,
        "dtype": "int8" if "QuantizeLinear" in operations else largest,
        "weights_dtype": largest,
    }


def _weights(model: Any) -> dict[str, int]:
    import math

    import onnx

    sizes: Counter[str] = Counter()
    constants = [
        attribute.t
        for node in nodes_of(model.graph)
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.HasField("t")
    ]
    for tensor in [*model.graph.initializer, *constants]:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        sizes["string" if dtype.kind == "O" else dtype.name] += math.prod(tensor.dims) * dtype.itemsize
    return dict(sorted(sizes.items()))


def _shown(names: list[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
