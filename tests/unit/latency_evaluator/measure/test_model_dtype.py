"""The precision of a model is read from the model."""

from __future__ import annotations

import numpy as np
import pytest

from tests.models.evaluation_models import onnx_model, serving_folder
from tpu2gpu.errors import SourceError
from tpu2gpu.latency_evaluator.measure.model_dtype import find_dtype


def test_an_onnx_file_in_float32(tmp_path):
    assert find_dtype(onnx_model(tmp_path / "m.onnx")) == "float32"


def test_an_onnx_file_with_float16_weights(tmp_path):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.ones((2, 2), np.float16), "w")
    nodes = [
        helper.make_node("Cast", ["x"], ["narrow"], to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["narrow", "w"], ["product"]),
        helper.make_node("Cast", ["product"], ["y"], to=TensorProto.FLOAT),
    ]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2]) for name in ("x", "y")]
    onnx.save(
        helper.make_model(helper.make_graph(nodes, "g", value[:1], value[1:], [weights])), str(tmp_path / "m.onnx")
    )
    assert find_dtype(tmp_path / "m.onnx") == "float16"


def test_a_serving_folder_says_it_in_its_plan(tmp_path):
    assert find_dtype(serving_folder(tmp_path / "m", engine=False, precision="float16")) == "float16"


@pytest.mark.parametrize(
    ("dtype", "precision"), [("float32", "float32"), ("float16", "float16"), ("bfloat16", "bfloat16")]
)
def test_a_saved_model_by_its_graph(tmp_path, dtype, precision):
    import tensorflow as tf

    class Model(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32)])
        def __call__(self, x):
            return {"y": tf.cast(tf.cast(x, dtype) * 2, tf.float32)}

    model = Model()
    tf.saved_model.save(model, str(tmp_path / "m"), signatures=model.__call__)
    assert find_dtype(tmp_path / "m") == precision


def test_an_onnx_file_that_was_cut_off_meanwhile_is_named(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"\x3a\xff\x01")
    with pytest.raises(SourceError, match=r"model\.onnx: damaged"):
        find_dtype(tmp_path / "model.onnx")
