"""How long and in how much memory a model is converted, against tf2onnx's command line and a builder script by hand.

Ours checks what it converts (every operation known, sound ONNX, ONNX Runtime's answers compared with TensorFlow's at
two batch sizes) and writes a serving folder; theirs converts and builds, no more. Each conversion is a process with its
children, imports included; the ways take turns. Read ratios, not seconds.

    python -m tests.benchmarks convert [--reduced]
    python -m tests.benchmarks.bench_convert [MODEL]... [--reduced] [--once]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import psutil

GOAL = 0.7  # of the speed of the two commands
MODELS = ("resnet50", "mobilenet_v3", "efficientnet_b0", "transformer", "lstm", "retinanet")
REDUCED = ("mobilenet_v3",)
_POLL_S = 0.05

# What one writes after reading TensorRT-RTX's documentation: one profile, strongly typed, the same GPUs.
_SCRIPT = """
import sys
import tensorrt_rtx_bindings as trt
logger = trt.Logger(trt.Logger.ERROR)
builder = trt.Builder(logger)
network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
parser = trt.OnnxParser(network, logger)
assert parser.parse_from_file(sys.argv[1])
config = builder.create_builder_config()
profile = builder.create_optimization_profile()
for index in range(network.num_inputs):
    tensor = network.get_input(index)
    profile.set_shape(tensor.name, *((batch, *tuple(tensor.shape)[1:]) for batch in (1, 8, 32)))
config.add_optimization_profile(profile)
capabilities = (trt.ComputeCapability.SM80, trt.ComputeCapability.SM86, trt.ComputeCapability.SM89,
                trt.ComputeCapability.SM120, trt.ComputeCapability.SM121)
config.num_compute_capabilities = len(capabilities)
for index, capability in enumerate(capabilities):
    config.set_compute_capability(capability, index)
open(sys.argv[2], "wb").write(builder.build_serialized_network(network, config))
"""


def run(commands: list[list[str]]) -> dict[str, float]:
    """Runs commands one after the other; wall time of all, peak memory of the largest process."""
    begun, most = time.perf_counter(), 0
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
    for command in commands:
        with tempfile.TemporaryFile() as log:
            process = psutil.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
            while process.poll() is None:
                most = max(most, *(_rss_bytes(each) for each in [process, *process.children(recursive=True)]))
                time.sleep(_POLL_S)
            if process.returncode:
                log.seek(0)
                raise RuntimeError(log.read().decode(errors="replace")[-3000:])
    return {"wall_s": time.perf_counter() - begun, "peak_mib": most / 2**20}


def _rss_bytes(process: Any) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def ways(source: Path, folder: Path) -> dict[str, list[list[str]]]:
    """The commands of each way."""
    theirs = folder / "theirs.onnx"
    tf2onnx = ["-m", "tf2onnx.convert", "--saved-model", str(source), "--output", str(theirs), "--opset", "17"]
    return {
        "ours": [[sys.executable, "-m", "tpu2gpu", "convert", str(source), str(folder / "ours"), "--force"]],
        "theirs": [
            [sys.executable, *tf2onnx],
            [sys.executable, "-c", _SCRIPT, str(theirs), str(folder / "theirs.engine")],
        ],
    }


def main(*, reduced: bool = False, models: Sequence[str] = (), rounds: int = 5) -> None:
    """Measures and prints.

    Args:
        reduced: Small models, once each.
        models: Which; all when not given.
        rounds: How often each way is measured; medians are printed.
    """
    from tests.models import zoo

    rounds = 1 if reduced else rounds
    print(f"{'model':<18}{'ours s':>8}{'theirs s':>10}{'speed':>7}{'ours MiB':>10}{'theirs MiB':>12}   goal: {GOAL}")
    for name in models or (REDUCED if reduced else MODELS):
        folder = Path(tempfile.mkdtemp())
        try:
            options = {} if reduced else dict(zoo.FULL.get(name, {}))
            if name == "retinanet":
                options["nms"] = False  # no engine takes it
            source = getattr(zoo, name)(folder / "model", **options)
            found: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
            for number in range(rounds):
                for way, commands in sorted(ways(source, folder).items(), reverse=bool(number % 2)):
                    found[way].append(run(commands))
            ours, theirs = ({key: median(each[key] for each in found[way]) for key in found[way][0]} for way in found)
            print(
                f"{name:<18}{ours['wall_s']:>8.1f}{theirs['wall_s']:>10.1f}{theirs['wall_s'] / ours['wall_s']:>7.2f}"
                f"{ours['peak_mib']:>10.0f}{theirs['peak_mib']:>12.0f}",
                flush=True,
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    named = [word for word in sys.argv[1:] if not word.startswith("-")]
    main(reduced="--reduced" in sys.argv, models=named, rounds=1 if "--once" in sys.argv else 5)
