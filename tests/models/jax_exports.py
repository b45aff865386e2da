"""Models that JAX exported, unpacked: what `export_jax_zoo.py` made."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import numpy as np

RECORDED = Path(__file__).parent / "recorded" / "jax"
IS_OF_OPS = "xlaops"
"""In the names of exports as older JAX wrote them: of TensorFlow's ops, and of `Xla*` ops that XLA alone runs."""
# TensorFlow itself does not run its top_k of any batch; both have the same weights.
REFERENCES = {"detection_jax09": "detection_jax04"}
EXPORTS = sorted(path.name.partition(".")[0] for path in RECORDED.glob("*.tar.xz"))


def unpack(target: Path, name: str) -> Path:
    """Unpack an export into a folder that does not exist yet."""
    with tarfile.open(RECORDED / f"{name}.tar.xz") as archive:
        archive.extractall(target, filter="data")
    return target


def inputs_of(name: str, examples: int) -> dict[str, np.ndarray]:
    """Return a batch of the input of an export."""
    random = np.random.default_rng(1)
    if name.startswith(("transformer", "embedding")):
        return {"x": random.integers(-3, 50, (examples, 12)).astype(np.int32)}
    shape = {"lstm": (7, 8), "bfloat16": (16,), "keras": (16, 16, 3)}.get(name.split("_", maxsplit=1)[0], (32, 32, 3))
    return {"x": random.normal(size=(examples, *shape)).astype(np.float32)}


def original_outputs(folder: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run an export, whose only input may go by another name, through TensorFlow and XLA."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder))
    signature = loaded.signatures["serving_default"]
    (name,) = signature.structured_input_signature[1]

    def run(x: Any) -> Any:
        return signature(**{name: x})

    is_of_ops = any("Xla" in node.op and node.op != "XlaCallModule" for node in _nodes(signature))
    outputs = tf.function(run, jit_compile=is_of_ops, autograph=False)(tf.constant(inputs["x"]))
    return {key: value.numpy() for key, value in outputs.items()}


def _nodes(signature: Any) -> list[Any]:
    graph = signature.graph.as_graph_def()
    return [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
