"""TensorProtos from NumPy's arrays and back, as TensorFlow makes them, without importing it.

Source: tensorflow/python/framework/tensor_util.py
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tpu2gpu.tensorbundle.format import DTYPE_ENUMS, numpy_dtype

_STRING = 7
# The field that holds values one by one, by the kind of their type; 16-bit floats stand there as integers.
_FIELDS = {
    "float16": "half_val",
    "bfloat16": "half_val",
    "float32": "float_val",
    "float64": "double_val",
    "int64": "int64_val",
    "bool": "bool_val",
    "complex64": "scomplex_val",
    "complex128": "dcomplex_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
    **dict.fromkeys(("int8", "int16", "int32", "uint8", "uint16"), "int_val"),
}

# Of which several values stand as bytes.
_AS_BYTES = frozenset("bfloat16 float16 float32 float64 int8 int16 int32 int64 uint8 uint32 uint64".split())


def tensor_value(tensor: Any) -> np.ndarray[Any, Any]:
    """Return the value of a TensorProto; what stands last is repeated as far as the shape goes."""
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    if tensor.dtype == _STRING:
        return _filled(np.array(list(tensor.string_val), object), shape, b"")
    dtype = numpy_dtype(tensor.dtype) if tensor.dtype in DTYPE_ENUMS.values() else None
    if dtype is None or dtype.name not in _FIELDS:
        return _tensorflows_value(tensor)
    if tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, dtype).copy().reshape(shape)
    listed = getattr(tensor, _FIELDS[dtype.name])
    if dtype.kind == "c":
        parts: Any = np.asarray(listed, np.float32 if dtype.name == "complex64" else np.float64)
        values = (parts[::2] + 1j * parts[1::2]).astype(dtype)
    elif _FIELDS[dtype.name] == "half_val":
        values = np.asarray(listed, np.int64).astype(np.uint16).view(dtype)
    elif dtype.kind in "iu" and dtype.itemsize < 4:  # which stand as integers of 32 bits, and are cut as C++ cuts them
        values = np.asarray(listed, np.int64).astype(dtype)
    else:
        values = np.asarray(listed, dtype)
    return _filled(values, shape, 0)


def tensor_proto(value: Any) -> Any:
    """Make the TensorProto of a value: Python's numbers have 32 bits, several values stand as bytes."""
    from tensorflow.core.framework import tensor_pb2

    array = np.asarray(value)
    if not isinstance(value, np.ndarray | np.generic) and array.dtype.kind in "if":
        array = _short(array)
    if array.dtype.name not in _FIELDS and array.dtype.kind not in "OSU":
        return _tensorflows_proto(value)
    is_text = array.dtype.kind in "OSU"
    tensor = tensor_pb2.TensorProto(dtype=_STRING if is_text else DTYPE_ENUMS[array.dtype.name])
    tensor.tensor_shape.SetInParent()  # a scalar has a shape too
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    flat = array.ravel()
    if is_text:
        tensor.string_val.extend(it if isinstance(it, bytes) else str(it).encode() for it in flat.tolist())
    elif flat.size > 1 and array.dtype.name in _AS_BYTES:
        tensor.tensor_content = flat.tobytes()
    elif array.dtype.kind == "c":
        for number in flat:
            getattr(tensor, _FIELDS[array.dtype.name]).extend([float(number.real), float(number.imag)])
    else:
        values = flat.view(np.uint16) if _FIELDS[array.dtype.name] == "half_val" else flat
        getattr(tensor, _FIELDS[array.dtype.name]).extend(values.tolist())
    return tensor


def _short(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    narrow = array.astype(np.int32 if array.dtype.kind == "i" else np.float32)
    return narrow if array.dtype.kind == "f" or np.array_equal(narrow, array) else array


def _filled(values: np.ndarray[Any, Any], shape: tuple[int, ...], empty: Any) -> np.ndarray[Any, Any]:
    missing = int(np.prod(shape, dtype=np.int64)) - len(values)
    if missing > 0:
        last = values[-1:] if len(values) else np.array([empty], values.dtype)
        values = np.concatenate([values, np.repeat(last, missing)])
    return values.reshape(shape)


def _tensorflows_value(tensor: Any) -> np.ndarray[Any, Any]:
    from tensorflow.python.framework import tensor_util

    return np.asarray(tensor_util.MakeNdarray(tensor))


def _tensorflows_proto(value: Any) -> Any:
    from tensorflow.python.framework import tensor_util

    return tensor_util.make_tensor_proto(value)
