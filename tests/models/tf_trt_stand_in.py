"""TF-TRT without a GPU: a stand-in for TensorRT 8 built from source, and its converter with one check taken out."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

_SOURCE = Path(__file__).with_name("nvinfer_stand_in.c")
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def build_library(folder: Path, version: int = 8601) -> dict[str, str]:
    """Builds the libraries into a folder, and gives the environment in which TensorFlow finds them."""
    assert COMPILER is not None
    folder.mkdir(parents=True)
    first = folder / "libnvinfer.so.8.6.1"  # TensorFlow asks for this name, and for that of the major version
    command = [COMPILER, "-shared", "-fPIC", f"-DVERSION={version}", "-o", str(first), str(_SOURCE)]
    subprocess.run(command, check=True, capture_output=True)
    for name in ("libnvinfer.so.8", "libnvinfer_plugin.so.8", "libnvinfer_plugin.so.8.6.1"):
        (folder / name).symlink_to(first.name)
    return {"LD_LIBRARY_PATH": str(folder)}


def rewrite(**arguments: Any) -> dict[str, Any]:
    """`tf_trt_building.rewrite`, saved: as on a GPU, but that no engine is built.

    TensorFlow refuses to convert where a new tensor does not land on a GPU; here it is told that it does.
    """
    from tensorflow.python.compiler.tensorrt import trt_convert

    from tpu2gpu.running.local.saved_model_runner import SavedModelRunner
    from tpu2gpu.trt_converter.backends.tf_trt.build import rewrite as rewrite_there

    class OnGpu:
        def __getattr__(self, name: str) -> Any:
            return getattr(array_ops, name)

        def zeros(self, *arguments: Any, **more: Any) -> Any:
            made = array_ops.zeros(*arguments, **more)
            return type("Tensor", (), {"device": made.device.replace("CPU", "GPU")})() if arguments == ([],) else made

    array_ops, trt_convert.array_ops = trt_convert.array_ops, OnGpu()
    target = arguments.pop("target")
    reference = SavedModelRunner(arguments["source"])
    converter, coverage = rewrite_there(reference=reference, signature="serving_default", calibrate_on=(), **arguments)
    converter.save(target)
    return coverage.to_json()
