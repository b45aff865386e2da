"""What is known of graphs without importing TensorFlow is what TensorFlow knows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.models import networks
from tpu2gpu.graphs import light_protos
from tpu2gpu.graphs.tensor_protos import tensor_proto, tensor_value

_WITHOUT = """
import sys
from tpu2gpu.checkpoint_importer.inspecting import inspect_model
found = inspect_model({source!r})
assert found.report
loaded = sorted(name for name in sys.modules if name == "tensorflow" or name.startswith("tensorflow.python"))
assert not loaded, loaded[:3]
"""

VALUES: list[Any] = [
    1, 2.5, True, b"text", "é", 1 << 40, [1, 2, 3], [1.5, 2.5], [[True], [False]], ["a", b"b"], [], np.zeros((0, 3)),
    *(np.arange(6).reshape(2, 3).astype(kind) for kind in ("int8", "uint8", "int16", "uint16", "int32", "int64")),
    *(np.arange(6).astype(kind) for kind in ("uint32", "uint64", "float16", "float32", "float64", "complex64", "bool")),
    *(np.array(3).astype(kind) for kind in ("float16", "float64", "int64", "uint8", "uint32", "complex128")),
    np.arange(3).astype(ml_dtypes.bfloat16), np.array(1.5).astype(ml_dtypes.bfloat16), np.array([b"a", b""], object),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_tensors_are_written_and_read_as_tensorflow_does(value: Any) -> None:
    from tensorflow.python.framework import tensor_util

    wanted = tensor_util.make_tensor_proto(value)
    assert tensor_proto(value).SerializeToString() == wanted.SerializeToString()
    np.testing.assert_array_equal(tensor_value(wanted), tensor_util.MakeNdarray(wanted))
    assert tensor_value(wanted).dtype == tensor_util.MakeNdarray(wanted).dtype


@pytest.mark.parametrize(
    ("dtype", "field", "value"), [(1, "float_val", 2.5), (3, "int_val", 7), (7, "string_val", b"x")]
)
def test_a_value_that_stands_once_fills_the_tensor(dtype: int, field: str, value: Any) -> None:
    from tensorflow.core.framework import tensor_pb2
    from tensorflow.python.framework import tensor_util

    tensor = tensor_pb2.TensorProto(dtype=dtype)
    tensor.tensor_shape.dim.add(size=2)
    tensor.tensor_shape.dim.add(size=2)
    getattr(tensor, field).append(value)
    np.testing.assert_array_equal(tensor_value(tensor), tensor_util.MakeNdarray(tensor))


def test_the_kept_definitions_are_those_of_the_installed_tensorflow() -> None:
    """Where this fails, a new TensorFlow came: write its list of ops, without what is prose, to `op_defs/`."""
    from tensorflow.core.framework import op_def_pb2
    from tensorflow.python.client import pywrap_tf_session as session

    registered = op_def_pb2.OpList.FromString(session.TF_GetBuffer(session.TF_GetAllOpList()))
    kept = light_protos._kept_ops()
    assert kept is not None
    missing = [op.name for op in registered.op if op.name not in kept]
    assert all(">" in name or name.startswith("_") for name in missing)  # of libraries that other tests have loaded
    for op in registered.op:
        op.summary = op.description = ""
        op.ClearField("deprecation")
        for part in (*op.input_arg, *op.output_arg, *op.attr):
            part.description = ""
        if op.name in kept:
            assert op == kept[op.name]


@pytest.mark.parametrize("kind", ["saved_model", "graph_def", "checkpoint"])
def test_inspect_needs_no_tensorflow(kind: str, built: Any, tmp_path: Path) -> None:
    from tpu2gpu.freezer.freezing import freeze_model
    from tpu2gpu.freezer.options import FreezeOptions

    source = built(networks.tf1_network, resource=True)
    if kind == "checkpoint":
        source = source / "variables" / "variables"
    if kind == "graph_def":
        freeze_model(source, tmp_path / "frozen", FreezeOptions(format="graph_def"))
        source = tmp_path / "frozen" / "frozen_graph.pb"
    code = _WITHOUT.format(source=str(source))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_tensorflow_works_after_its_protos_were_loaded_alone() -> None:
    code = """
from tpu2gpu.graphs.light_protos import load_protos, registered_op
load_protos()
from tensorflow.core.framework import graph_pb2
assert registered_op("MatMul").name == "MatMul" and registered_op("NoSuchOp") is None
import tensorflow as tf
assert tf.Graph().as_graph_def().__class__ is graph_pb2.GraphDef
assert float(tf.function(lambda x: x + 1)(tf.constant(1.0))) == 2 and tf.keras.layers.Dense(1)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
