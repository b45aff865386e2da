"""tpu2gpu: a TensorFlow model trained on TPU goes in; a GPU serving model that has proved itself comes out.

Every step is a plain function, a `tpu2gpu` command and a TFX component. Names are imported when they are first
used, so that importing this package loads neither TensorFlow nor TFX.

A step's function takes a source, a target and its options, whose fields are the command's flags, and returns what it
did. With `python examples/small_model.py`, which writes a Keras model and held-out examples:

>>> import numpy as np
>>> import tpu2gpu
>>> tpu2gpu.inspect_model("digits.keras").kind
'keras'
>>> tpu2gpu.import_model("digits.keras", "clean", progress=None).variables
4
>>> tpu2gpu.cast_model("clean", "half", tpu2gpu.CastOptions(to="float16"), examples=["eval.npz"]).cast_tensors
4
>>> tpu2gpu.freeze_model("half", "frozen").frozen_variables
4
>>> converted = tpu2gpu.convert_model("frozen", "serving", tpu2gpu.ConvertOptions(backend="onnx", name="digits"))
>>> verdict = tpu2gpu.evaluate_model(
...     "clean", ["serving"], ["eval.npz"], "verdict", tpu2gpu.EvaluateOptions(requests=200, max_requests=200)
... )
>>> verdict.blessed, verdict.verified_level
(True, 'onnx_cpu')
>>> tpu2gpu.promote_model("serving", "promoted", tpu2gpu.read_verdict("verdict")).promotion.version
1
>>> [line["version"] for line in tpu2gpu.list_promoted("promoted")]
[1]

A model is loaded from any of those folders, and run on arrays by name, or on one array where it has one input:

>>> model = tpu2gpu.load("serving")
>>> model.run(np.zeros((3, 8, 8, 1), np.float32))["probabilities"].shape
(3, 10)

Whatever goes wrong is a `Tpu2GpuError`, which names the thing and the way out:

>>> tpu2gpu.CastOptions(too="float16")
Traceback (most recent call last):
tpu2gpu.errors.UsageError: CastOptions: unknown option
  - too: did you mean 'to'?
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from tpu2gpu._version import __version__

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime reads it when it is imported, and tells nobody then

if TYPE_CHECKING:
    from tpu2gpu.checkpoint_importer.component import CheckpointImporter as CheckpointImporter
    from tpu2gpu.checkpoint_importer.importing import import_model as import_model
    from tpu2gpu.checkpoint_importer.inspecting import inspect_model as inspect_model
    from tpu2gpu.checkpoint_importer.options import ImportOptions as ImportOptions
    from tpu2gpu.errors import Tpu2GpuError as Tpu2GpuError
    from tpu2gpu.freezer.component import Freezer as Freezer
    from tpu2gpu.freezer.freezing import freeze_model as freeze_model
    from tpu2gpu.freezer.options import FreezeOptions as FreezeOptions
    from tpu2gpu.graphs.passes.base import Pass as Pass
    from tpu2gpu.latency_evaluator.component import LatencyEvaluator as LatencyEvaluator
    from tpu2gpu.latency_evaluator.evaluating import evaluate_model as evaluate_model
    from tpu2gpu.latency_evaluator.options import EvaluateOptions as EvaluateOptions
    from tpu2gpu.model_pusher.component import ModelPusher as ModelPusher
    from tpu2gpu.model_pusher.options import PushOptions as PushOptions
    from tpu2gpu.optimizer.optimizing import optimize_model as optimize_model
    from tpu2gpu.optimizer.options import OptimizeOptions as OptimizeOptions
    from tpu2gpu.precision_caster.casting import cast_checkpoint as cast_checkpoint
    from tpu2gpu.precision_caster.casting import cast_model as cast_model
    from tpu2gpu.precision_caster.component import PrecisionCaster as PrecisionCaster
    from tpu2gpu.precision_caster.options import CastOptions as CastOptions
    from tpu2gpu.running.loading import load as load
    from tpu2gpu.storage.promotion.promoting import list_promoted as list_promoted
    from tpu2gpu.storage.promotion.promoting import promote_model as promote_model
    from tpu2gpu.storage.promotion.promoting import roll_back as roll_back
    from tpu2gpu.storage.promotion.verdicts import read_verdict as read_verdict
    from tpu2gpu.storage.publishing import verify_model as verify_model
    from tpu2gpu.tfx.artifacts import Checkpoint as Checkpoint
    from tpu2gpu.trt_converter.component import TRTConverter as TRTConverter
    from tpu2gpu.trt_converter.converting import convert_model as convert_model
    from tpu2gpu.trt_converter.options import ConvertOptions as ConvertOptions
    from tpu2gpu.unfreezer.component import Unfreezer as Unfreezer
    from tpu2gpu.unfreezer.options import UnfreezeOptions as UnfreezeOptions
    from tpu2gpu.unfreezer.unfreezing import unfreeze_model as unfreeze_model

_HOMES = {
    "checkpoint_importer.component": ["CheckpointImporter"],
    "checkpoint_importer.importing": ["import_model"],
    "checkpoint_importer.inspecting": ["inspect_model"],
    "checkpoint_importer.options": ["ImportOptions"],
    "errors": ["Tpu2GpuError"],
    "freezer.component": ["Freezer"],
    "freezer.freezing": ["freeze_model"],
    "freezer.options": ["FreezeOptions"],
    "graphs.passes.base": ["Pass"],
    "latency_evaluator.component": ["LatencyEvaluator"],
    "latency_evaluator.evaluating": ["evaluate_model"],
    "latency_evaluator.options": ["EvaluateOptions"],
    "model_pusher.component": ["ModelPusher"],
    "model_pusher.options": ["PushOptions"],
    "optimizer.optimizing": ["optimize_model"],
    "optimizer.options": ["OptimizeOptions"],
    "precision_caster.casting": ["cast_checkpoint", "cast_model"],
    "precision_caster.component": ["PrecisionCaster"],
    "precision_caster.options": ["CastOptions"],
    "running.loading": ["load"],
    "storage.promotion.promoting": ["list_promoted", "promote_model", "roll_back"],
    "storage.promotion.verdicts": ["read_verdict"],
    "storage.publishing": ["verify_model"],
    "tfx.artifacts": ["Checkpoint"],
    "trt_converter.component": ["TRTConverter"],
    "trt_converter.converting": ["convert_model"],
    "trt_converter.options": ["ConvertOptions"],
    "unfreezer.component": ["Unfreezer"],
    "unfreezer.options": ["UnfreezeOptions"],
    "unfreezer.unfreezing": ["unfreeze_model"],
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME_OF)]  # noqa: PLE0604 - strings all


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _HOME_OF:
        from difflib import get_close_matches

        near = [] if name.startswith("_") else get_close_matches(name, _HOME_OF, n=1)
        raise AttributeError(
            f"module 'tpu2gpu' has no attribute '{name}'" + "".join(f"; did you mean '{n}'?" for n in near)
        )
    value = getattr(importlib.import_module(f"tpu2gpu.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
