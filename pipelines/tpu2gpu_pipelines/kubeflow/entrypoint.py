"""The entrypoint of every container: `python -m tpu2gpu_pipelines.kubeflow.entrypoint`.

It gives TFX's own entrypoint what a launcher of open-source Kubeflow (or KFP's local runner, or Vertex) has to say, and
the launcher what TFX's entrypoint wrote. The exit code is that of the error, 0 when the step is done.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tpu2gpu.errors import Tpu2GpuError
from tpu2gpu.tfx.step import RUN_VARIABLE
from tpu2gpu_pipelines.kubeflow.executor_input import Message, adapt_input, adapt_output
from tpu2gpu_pipelines.kubeflow.specification import CLASS_FLAG, INPUT_FLAG, RUN_FLAG, TYPES_FLAG

_FAILED = 1
_UNRESOLVED = "{{"
_CLASSES = {
    "system.Artifact": "tfx.types.artifact.Artifact",
    "system.Dataset": "tfx.types.standard_artifacts.Examples",
    "system.HTML": "tpu2gpu.tfx.artifacts.Report",
    "system.Metrics": "tpu2gpu.tfx.artifacts.Metrics",
    "system.Model": "tfx.types.standard_artifacts.Model",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one step.

    Args:
        arguments: What the container was started with; those of this process when not given.

    Returns:
        The exit code.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname).1s %(name)s: %(message)s")
    try:
        run_step(sys.argv[1:] if arguments is None else arguments)
    except Tpu2GpuError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except Exception:
        traceback.print_exc()
        return _FAILED
    return 0


def run_step(arguments: Sequence[str]) -> Message:
    """Run one step, and return what the launcher is told of its outputs.

    Args:
        arguments: The executor's class, the launcher's ExecutorInput, the component's inputs, the run's id; the rest
            is for Beam.

    Raises:
        Tpu2GpuError: The step says why it cannot.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for flag, name in ((CLASS_FLAG, "executor"), (INPUT_FLAG, "given"), (TYPES_FLAG, "types"), (RUN_FLAG, "run")):
        parser.add_argument(flag, dest=name, default="{}" if flag == TYPES_FLAG else "")
    told, beam_arguments = parser.parse_known_args(list(arguments))
    if told.run and not told.run.startswith(_UNRESOLVED):  # open-source Kubeflow has the environment tell it
        os.environ.setdefault(RUN_VARIABLE, told.run)
    given, uris = adapt_input(json.loads(told.given), json.loads(told.types))
    _execute(told.executor, given, told.types, beam_arguments)
    path = Path(given["outputs"]["outputFile"])
    written = adapt_output(json.loads(path.read_text(encoding="utf-8")), given, uris)
    path.write_text(json.dumps(written), encoding="utf-8")
    return written


def _execute(executor: str, given: Message, types: str, beam_arguments: list[str]) -> None:
    """Have TFX's entrypoint run the executor."""
    from tfx.orchestration.kubeflow.v2 import compiler_utils
    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor as tfx_entrypoint

    classes: dict[str, Any] = compiler_utils.TITLE_TO_CLASS_PATH
    classes.update(_CLASSES)
    told = argparse.Namespace(
        executor_class_path=executor,
        json_serialized_invocation_args=json.dumps(given),
        json_serialized_inputs_spec_args=types,
    )
    tfx_entrypoint._run_executor(told, beam_arguments)


def leave(code: int) -> None:
    """End the process at once: threads that libraries leave behind abort an ordinary end, after all work is done."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    leave(main())
