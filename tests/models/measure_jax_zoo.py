"""Measure what becomes of the models that JAX exported: `python tests/models/measure_jax_zoo.py [NAME...]`.

Prints a row for each model that this TensorFlow reads, as docs/jax.md has them: how far the import's outputs are from
TensorFlow running the export in float32, as a share of the largest output; how much of the compute lies in the core;
how far the converted model's outputs are from the import's, in float32 and after a cast; the size of the engine that
TensorRT-RTX builds; and how many times as fast as TensorFlow running the export ONNX Runtime is, with the verdict of
`evaluate` where it is a refusal.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import tensorflow as tf
from jax_exports import EXPORTS, REFERENCES, inputs_of, original_outputs, unpack

from tpu2gpu.checkpoint_importer.importing import import_model
from tpu2gpu.freezer.freezing import freeze_model
from tpu2gpu.freezer.options import FreezeOptions
from tpu2gpu.latency_evaluator.evaluating import evaluate_model
from tpu2gpu.latency_evaluator.options import EvaluateOptions
from tpu2gpu.precision_caster.casting import cast_model
from tpu2gpu.trt_converter.converting import convert_model
from tpu2gpu.trt_converter.options import ConvertOptions

IS_NEW = tuple(map(int, tf.__version__.split(".")[:2])) >= (2, 20)  # its StableHLO is that of jax 0.9


def error(reference: Path, model: Path, name: str) -> float:
    """Return the largest difference of two models' outputs, as a share of the largest output."""
    worst = 0.0
    for examples in (4,) if "batch4" in name else (1, 3):
        batch = inputs_of(name, examples)
        found = original_outputs(model, batch)
        for key, wanted in original_outputs(reference, batch).items():
            difference = np.abs(found[key].astype(float) - wanted.astype(float)).max()
            worst = max(worst, float(difference / np.abs(wanted.astype(float)).max()))
    return worst


def evaluation(reference: Path, folder: Path, name: str) -> str:
    """Evaluate the converted model against the export, and return the speed-up, after a refusal."""
    batch = 4 if "batch4" in name else 1
    (feature,) = tf.saved_model.load(str(reference)).signatures["serving_default"].structured_input_signature[1]
    options = EvaluateOptions(requests=300, max_requests=300, batch_size=batch, threads=1, allow_degenerate=True)
    examples = {feature: inputs_of(name, 32)["x"]}
    (found,) = evaluate_model(reference, [folder / "exact"], examples, folder / "verdict", options).candidates
    print(*found.reasons, sep="\n", file=sys.stderr)
    speedup = found.speedup.get("p50")
    return f"{'' if found.blessed else 'refused, '}{f'{speedup.value:.1f}x' if speedup else 'no figure'}"


def measure(name: str, folder: Path) -> str:
    """Take a model through import, cast, freeze and convert, and return its row."""
    source = unpack(folder / "source", name)
    reference = unpack(folder / "reference", REFERENCES[name]) if name in REFERENCES else source
    import_model(source, folder / "imported")
    cast_model(folder / "imported", folder / "cast")
    freeze_model(folder / "cast", folder / "frozen", FreezeOptions(fold_constants=True))
    built = ConvertOptions(backend="tensorrt_rtx", layout="plain")
    exact = convert_model(folder / "imported", folder / "exact", built)
    narrow = convert_model(folder / "frozen", folder / "narrow", ConvertOptions(backend="onnx", layout="plain"))
    cells = [
        name.replace("_", " "), f"{error(reference, folder / 'imported', name):.1e}",
        f"{min(exact.core_coverage, narrow.core_coverage):.1%}", f"{exact.relative_error:.1e}",
        f"{narrow.relative_error:.1e}",
        f"{exact.engine_size_bytes / 1e6:.2f} MB" if exact.engine_coverage == 1 else "none",
        evaluation(reference, folder, name),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    for each in sys.argv[1:] or [it for it in EXPORTS if IS_NEW or "jax09" not in it]:
        with tempfile.TemporaryDirectory() as temporary:
            print(measure(each, Path(temporary)), flush=True)
