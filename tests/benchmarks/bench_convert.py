"""Models are converted, against tf2onnx's command line and a builder script by hand.

Ours checks what it converts (every operation known, sound ONNX, ONNX Runtime's outputs compared with TensorFlow's at
two batch sizes) and writes a serving folder; theirs converts and builds, no more.
"""

from __future__ import annotations

import sys

from tests.benchmarks.measuring import Comparison, Goal, Setting, build, clear, function, in_turns, ours

MODELS, MORE_MODELS = ("mobilenet_v3", "resnet50"), ("efficientnet_b0", "transformer", "lstm", "retinanet")
THEIRS = "python -m tf2onnx.convert, then a builder script"


def make_model(name: str, folder: str, full: str) -> None:
    """Write a model of the tests' zoo."""
    from pathlib import Path

    from tests.models import zoo

    options = dict(zoo.FULL.get(name, {})) if full == "full" and name != "transformer" else {}
    if name == "retinanet":
        options["nms"] = False  # no engine takes it
    getattr(zoo, name)(Path(folder), **options)


def measure(setting: Setting) -> list[Comparison]:
    """Measure each model."""
    found = []
    models = MODELS[:1] if setting.reduced else (*MODELS, *(MORE_MODELS if setting.large else ()))
    for name in models:
        source, target, onnx = setting.folder / name, setting.folder / "ours", setting.folder / "theirs.onnx"
        build("bench_convert:make_model", name, source, "small" if setting.reduced else "full")
        tf2onnx = [sys.executable, "-m", "tf2onnx.convert", "--saved-model", str(source), "--output", str(onnx)]
        ways = {
            "ours": [ours("convert", source, target, "--force")],
            THEIRS: [[*tf2onnx, "--opset", "17"], function("peers:build_engine", onnx, setting.folder / "engine")],
        }
        samples = in_turns(ways, setting, lambda target=target, onnx=onnx: clear(target, onnx), warm_up=False)
        found.append(Comparison(f"convert {name}", "on disk, cache warm", samples, (Goal(THEIRS, 0.7),)))
        clear(source)
    return found
