"""Casts of many values by the processor's own instructions: ONNX Runtime's `Cast` on memory that is there already.

numpy rounds to float16 in software, at a twentieth of the speed, and ml_dtypes holds Python's lock while it casts. The
kernels are asked for right before they are used: values at which rounding goes wrong must come out as numpy and
ml_dtypes round them, or there are no kernels, and those two cast.
"""

from __future__ import annotations

import logging
import math
import threading
from functools import lru_cache
from typing import Any

import numpy as np

from tpu2gpu.tensorbundle.format import DTYPE_ENUMS, name_of, numpy_dtype
from tpu2gpu.wire import VARINT, bytes_field, tag, varint

Array = np.ndarray[Any, Any]

LEAST = 1 << 14
"""Values; fewer are cast sooner by numpy than a session is called."""
PAIRS = (("float32", "float16"), ("float16", "float32"), ("float32", "bfloat16"))
"""The casts that there are kernels for; a slow test tries every bit pattern."""

_ONNX_TYPES = {"float32": 1, "float16": 10, "bfloat16": 16}  # TensorProto.DataType
_MOST_BOUND = 64
_IR_VERSION, _OPSET, _INT, _ERRORS_ONLY = 8, 13, 2, 4
_EDGES = (0.0, 1.0, 1 + 2.0**-11, 1 + 3 * 2.0**-11, 1 + 2.0**-8, 1 + 3 * 2.0**-8, 65504.0, 65519.996, 65520.0, 3e38)
_SMALL = (2.0**-14, 2.0**-14 * (1 - 2.0**-11), 2.0**-24, 2.0**-25, 1.5 * 2.0**-25, 3 * 2.0**-25, 1e-40, 1e-45, math.inf)


def cast_into(values: Array, out: Array) -> bool:
    """Cast values by a kernel; of NaNs, sign and payload may be any.

    Args:
        values: Contiguous, [n].
        out: Where they go, [n], in the type that is wanted; it must not overlap the values.

    Returns:
        True; False where there is no kernel for that, and nothing was done.
    """
    pair = name_of(values.dtype), name_of(out.dtype)
    if len(values) < LEAST or pair not in PAIRS or not (values.flags.c_contiguous and values.dtype.isnative):
        return False
    session = _sessions().get(pair)
    if session is None:
        return False
    _run(session, values, out)
    return True


class _Bindings(threading.local):
    """Memory that each thread has bound: its casts work in the same places again and again, and binding is the call.

    Keys hold their session: by its number alone, a later one in the same place would get the bindings of the former.
    """

    def __init__(self) -> None:
        self._bound: dict[tuple[Any, ...], Any] = {}

    def of(self, session: Any, values: Array, out: Array) -> Any:
        key = session, values.ctypes.data, out.ctypes.data, len(values)
        if key not in self._bound:
            if len(self._bound) >= _MOST_BOUND:
                self._bound.clear()
            binding = self._bound[key] = session.io_binding()
            kinds = (_ONNX_TYPES[name_of(array.dtype)] for array in (values, out))
            binding.bind_input("x", "cpu", 0, next(kinds), values.shape, values.ctypes.data)
            binding.bind_output("y", "cpu", 0, next(kinds), out.shape, out.ctypes.data)
        return self._bound[key]


_bindings = _Bindings()


def _run(session: Any, values: Array, out: Array) -> None:
    session.run_with_iobinding(_bindings.of(session, values, out))


@lru_cache(maxsize=1)
def _sessions() -> dict[tuple[str, str], Any]:
    """Make a session for each cast that comes out right here."""
    try:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # the caller's threads are the threads
        options.log_severity_level = _ERRORS_ONLY
        made = {}
        for pair in PAIRS:
            session = ort.InferenceSession(cast_model(*pair), options, providers=["CPUExecutionProvider"])
            if _is_right(session, *pair):
                made[pair] = session
    except Exception as error:  # whatever a foreign library raises: casts go on without it
        logging.getLogger("tpu2gpu").info("casts are numpy's, for ONNX Runtime has none here: %s", error)
        return {}
    return made


def _is_right(session: Any, source: str, target: str) -> bool:
    before, after = numpy_dtype(DTYPE_ENUMS[source]), numpy_dtype(DTYPE_ENUMS[target])
    with np.errstate(all="ignore"):
        once = np.array([*_EDGES, *_SMALL], np.float32)
        values = np.resize(np.concatenate([once, -once]), 1024).astype(before)
        out = np.empty(len(values), after)
        _run(session, values, out)
        return out.tobytes() == values.astype(after).tobytes()


def cast_model(source: str, target: str) -> bytes:
    """Write the ONNX model of one cast of `x` [n] to `y` [n].

    By hand: importing `onnx` takes longer than casting a hundred megabytes.
    """
    attribute = bytes_field(1, b"to") + _number(3, _ONNX_TYPES[target]) + _number(20, _INT)
    node = bytes_field(1, b"x") + bytes_field(2, b"y") + bytes_field(4, b"Cast") + bytes_field(5, attribute)
    values = [bytes_field(11, _tensor(b"x", source)), bytes_field(12, _tensor(b"y", target))]
    graph = bytes_field(1, node) + bytes_field(2, b"cast") + b"".join(values)
    opset = bytes_field(1, b"") + _number(2, _OPSET)
    return _number(1, _IR_VERSION) + bytes_field(7, graph) + bytes_field(8, opset)


def _tensor(name: bytes, dtype: str) -> bytes:
    shape = bytes_field(1, bytes_field(2, b"n"))
    return bytes_field(1, name) + bytes_field(2, bytes_field(1, _number(1, _ONNX_TYPES[dtype]) + bytes_field(2, shape)))


def _number(field: int, value: int) -> bytes:
    return tag(field, VARINT) + varint(value)
