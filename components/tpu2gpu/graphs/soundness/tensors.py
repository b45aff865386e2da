"""Values of constants: that they have the size which their shape asks for, and what that would cost."""

from __future__ import annotations

import functools
import importlib
import math
from typing import Any

from tpu2gpu.limits import limits
from tpu2gpu.tensorbundle import format

_VALUES = {
    **dict.fromkeys(["float16", "bfloat16"], "half_val"),
    **dict.fromkeys(["int32", "int16", "uint16", "int8", "uint8"], "int_val"),
    "float32": "float_val",
    "float64": "double_val",
    "int64": "int64_val",
    "bool": "bool_val",
    "complex64": "scomplex_val",
    "complex128": "dcomplex_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
    "string": "string_val",
}


@functools.cache
def known_types() -> frozenset[int]:
    """Return the DataType numbers that a tensor may have; references are none."""
    types_pb2 = importlib.import_module("tensorflow.core.framework.types_pb2")  # where it is loaded, without TensorFlow
    return frozenset(number for number in types_pb2.DataType.values() if 0 < number < format.FIRST_REFERENCE_TYPE)


def wrong_shape(shape: Any) -> str:
    """Return what is wrong with a TensorShapeProto; nothing where it is sound."""
    if shape.unknown_rank and shape.dim:
        return "a shape of unknown rank that has dimensions"
    for dim in shape.dim:
        if dim.size < -1:
            return f"a dimension of size {dim.size}"
    return ""


def wrong_tensor(tensor: Any, *, elsewhere: bool = False) -> str:
    """Return what is wrong with a TensorProto; nothing where it is sound.

    Args:
        tensor: The TensorProto.
        elsewhere: Its content was left in the file.
    """
    sizes = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.dtype not in known_types():
        return f"a value of DataType {tensor.dtype}, which there is not"
    if tensor.tensor_shape.unknown_rank or min(sizes, default=0) < 0:
        return f"a value whose shape is {'unknown' if tensor.tensor_shape.unknown_rank else sizes}"
    if wrong := format.wrong_sizes(sizes):
        return f"a value whose shape is {sizes}: {wrong}"
    name = format.DTYPE_NAMES.get(tensor.dtype)
    if elsewhere or name is None:
        return ""
    count = math.prod(sizes)
    item_bytes = 16 if name == "string" else format.numpy_dtype(tensor.dtype).itemsize
    if tensor.tensor_content and name != "string":
        held, wanted = len(tensor.tensor_content), count * item_bytes
        return "" if held == wanted else f"{held} bytes for {name} {sizes}, which takes {wanted}"
    values = len(getattr(tensor, _VALUES[name])) // (2 if name.startswith("complex") else 1)
    if values > count or tensor.tensor_content:
        return f"{values} values for {name} {sizes}"
    if values < count and count * item_bytes > limits().constant_mib << 20:
        most = limits().constant_mib
        return (
            f"{count * item_bytes >> 20} MiB of {'one repeated value' if values else 'zeros'}, at most {most} are "
            "taken; --limit constant_mib=NUMBER takes more"
        )
    return ""


def repeated_bytes(tensor: Any) -> int:
    """Return how many bytes a sound tensor has that the file does not hold, but repeats."""
    name = format.DTYPE_NAMES.get(tensor.dtype)
    if name is None or tensor.tensor_content:
        return 0
    count = math.prod(dim.size for dim in tensor.tensor_shape.dim)
    values = len(getattr(tensor, _VALUES[name]))
    return 0 if values >= count else count * (16 if name == "string" else format.numpy_dtype(tensor.dtype).itemsize)
