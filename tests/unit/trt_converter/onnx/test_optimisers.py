"""tf2onnx's optimisers work on the graph itself, and on a copy only where one of them fails."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tf2onnx import optimizer

from tests.models.zoo import lstm
from tests.unit.trt_converter.onnx.test_onnx import Built, converted, largest_error
from tpu2gpu.trt_converter.onnx import convert as onnx


def hard_swish(folder: Path, *, offset: float | list[float] = 3.0) -> Path:
    """Write convolutions with a hard swish between them, which adds a number."""

    class Module(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            shape = (2, 3, 3, 4, 4)
            self.kernels = [tf.Variable(it) for it in tf.unstack(tf.random.stateless_normal(shape, seed=(1, 2)))]

        @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 4], tf.float32, name="image")])
        def serve(self, image: Any) -> dict[str, Any]:
            for kernel in self.kernels:
                image = tf.nn.conv2d(image, kernel, 1, "SAME")
                image = image * tf.nn.relu6(image + offset) / 6.0
            return {"features": image}

    module = Module()
    tf.saved_model.save(module, str(folder), signatures=module.serve)
    return folder


@pytest.mark.parametrize("offset", [3.0, [3.0, 1.0, 2.0, 0.5]], ids=["a number", "a bias"])
def test_transposes_go_where_a_number_is_added_behind_a_convolution(
    built: Built, tmp_path: Path, offset: float | list[float]
) -> None:
    found = converted(built(hard_swish, offset=offset), tmp_path)
    assert found["ops"]["Transpose"] <= 2  # of the input and the output
    assert largest_error(found) < 1e-5


def test_the_graph_is_not_copied(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = []
    monkeypatch.setattr(copy, "deepcopy", lambda it, *more, original=copy.deepcopy: copied.append(it) or original(it))
    converted(built(hard_swish), tmp_path)
    assert not [it for it in copied if type(it).__name__ == "Graph"]


@pytest.mark.parametrize("spoils", [False, True], ids=["at once", "after it has spoilt the graph"])
def test_one_that_fails_is_left_out(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoils: bool
) -> None:
    class Failing:
        graph_been_opt = False

        def optimize(self, graph: Any, iteration: int) -> Any:
            if spoils:
                for node in graph.get_nodes():
                    graph.remove_node(node.name)
            raise ValueError("max() arg is an empty sequence")

    monkeypatch.setitem(optimizer._optimizers, "optimize_transpose", Failing)
    found = converted(built(hard_swish), tmp_path)
    assert found["ops"]["Conv"] == 2
    assert found["ops"]["Transpose"] > 2
    assert largest_error(found) < 1e-5


def test_what_has_no_output_breaks_no_rewriter(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    monkeypatch.setattr(
        onnx, "_converted", lambda *them, original=onnx._converted: tried.append(them) or original(*them)
    )
    converted(built(lstm), tmp_path)  # whose loop has an assertion
    assert len(tried) == 1
