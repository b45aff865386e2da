"""Libraries that report to their makers are told not to, before they are imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_onnx_runtime_neither_reports_nor_leaves_a_file(tmp_path: Path) -> None:
    """Since 1.29 its import opens a connection and a file, unless the environment says no."""
    code = "import tpu2gpu, onnxruntime, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    variables = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    variables |= {"TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
    assert not list(tmp_path.iterdir())
