"""A sound candidate is not refused for the reference's own rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.example_files import write_examples
from tpu2gpu.latency_evaluator.evaluating import evaluate_model
from tpu2gpu.latency_evaluator.options import EvaluateOptions

WIDTH = 2048
WEIGHTS = np.random.default_rng(2).normal(size=(WIDTH, 8)).astype(np.float16)


def saved(folder: Path, dtype: str, *, fault: float = 0.0) -> Path:
    """Sum products of float16 weights in a type: `x` float32 [?, 2048] -> `y` float32 [?, 8]."""
    import tensorflow as tf

    weights = tf.constant(WEIGHTS.astype(dtype) + np.asarray(fault, dtype))

    @tf.function(input_signature=[tf.TensorSpec([None, WIDTH], tf.float32, name="x")])
    def serve(x: Any) -> Any:
        return {"y": tf.cast(tf.reduce_sum(tf.cast(x, dtype)[:, :, None] * weights, 1), tf.float32)}

    tf.saved_model.save(tf.Module(), str(folder), signatures=serve)
    return folder


@pytest.mark.parametrize("fault", [0.0, 0.5])
def test_a_float16_reference_is_computed_in_float32_where_its_rounding_would_decide(
    tmp_path: Path, fault: float
) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(8, WIDTH)).astype(np.float16).astype(np.float32)
    examples = write_examples(tmp_path / "eval.tfrecord", {"x": x})
    reference = saved(tmp_path / "reference", "float16")
    candidate = saved(tmp_path / "candidate", "float32", fault=fault)
    options = EvaluateOptions(
        requests=30, max_requests=30, block_requests=10, warm_up_requests=2, max_relative_error=2e-5, timeout_s=120.0
    )
    result = evaluate_model(reference, [candidate], [str(examples)], tmp_path / "verdict", options)
    (parity,) = result.candidates[0].parity.values()
    assert (parity.relative_error < 2e-5) == (fault == 0)
    assert "the reference's weights in float32, without oneDNN" in (tmp_path / "verdict" / "report.md").read_text()
