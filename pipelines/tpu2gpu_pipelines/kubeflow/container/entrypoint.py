"""The entrypoint of every container: `python -m tpu2gpu_pipelines.kubeflow.container.entrypoint`.

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
from contextlib import suppress
from pathlib import Path
from typing import Any

from tpu2gpu.errors import Tpu2GpuError
from tpu2gpu.tfx.step import PIPELINE_VARIABLE, RUN_VARIABLE
from tpu2gpu_pipelines.kubeflow.compiler.specification import (
    CLASS_FLAG,
    INPUT_FLAG,
    JOB_SET_FLAG,
    OPTIONS_FLAG,
    OUTPUTS_FLAG,
    PIPELINE_FLAG,
    RETRIES_FLAG,
    RUN_FLAG,
    SOURCES_FLAG,
    TYPES_FLAG,
)
from tpu2gpu_pipelines.kubeflow.container.executor_input import (
    Message,
    adapt_input,
    adapt_output,
    artifacts_of,
    gather_options,
    names_in_uris,
    set_apart,
)
from tpu2gpu_pipelines.kubeflow.container.launching import launch
from tpu2gpu_pipelines.kubeflow.container.retrying import run_with_retries

_FAILED = 1
_MEANINGS = {
    0: "done",
    1: "refused or failed",
    2: "usage",
    3: "bad input",
    4: "the environment lacks something",
    5: "failed on the cluster",
    75: "may pass; the hosts start again",
}
_TERMINATION_LOG = Path("/dev/termination-log")  # where Kubernetes reads a container's last words
_TERMINATION_BYTES = 4096
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
    log_to_stderr()
    try:
        run_step(sys.argv[1:] if arguments is None else arguments)
    except Tpu2GpuError as error:
        return end(error.exit_code, f"error: {error}")
    except Exception as error:
        traceback.print_exc()
        return end(_FAILED, f"error: {type(error).__name__}: {error}")
    return end(0)


def log_to_stderr() -> None:
    """Have the libraries say what they do, but for Beam's 65 lines a step."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname).1s %(name)s: %(message)s")
    logging.getLogger("apache_beam.typehints.native_type_compatibility").setLevel(logging.WARNING)


def end(code: int, message: str = "") -> int:
    """Tell how the step ended in the last line of the log and in the pod's termination message; return the code."""
    text = "\n".join([*([message] if message else []), f"exit code {code}: {_MEANINGS.get(code, 'failed')}"])
    sys.stderr.write(f"{text}\n")
    with suppress(OSError):  # no pod has started this process
        if _TERMINATION_LOG.exists():
            _TERMINATION_LOG.write_bytes(text.encode()[-_TERMINATION_BYTES:])
    return code


def run_step(arguments: Sequence[str]) -> Message:
    """Run one step, and return what the launcher is told of its outputs.

    Args:
        arguments: The executor's class, the launcher's ExecutorInput, the component's inputs and outputs, which
            parameters are options, the run's id, the pipeline's name, how often to try again, the JobSet of a step on
            several hosts; the rest is for Beam.

    Raises:
        Tpu2GpuError: The step says why it cannot.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for flag, name in (
        (CLASS_FLAG, "executor"),
        (INPUT_FLAG, "given"),
        (RUN_FLAG, "run"),
        (PIPELINE_FLAG, "pipeline"),
        (SOURCES_FLAG, "sources"),
        (JOB_SET_FLAG, "job_set"),
    ):
        parser.add_argument(flag, dest=name, default="")
    for flag, name in ((TYPES_FLAG, "types"), (OUTPUTS_FLAG, "outputs"), (OPTIONS_FLAG, "options")):
        parser.add_argument(flag, dest=name, default="{}")
    parser.add_argument(RETRIES_FLAG, dest="retries", type=int, default=0)
    told, beam_arguments = parser.parse_known_args(list(arguments))
    given = json.loads(told.given)
    # Open-source Kubeflow leaves the run's placeholder alone: the environment tells, or where the outputs go.
    pipeline, run = names_in_uris(given)
    for variable, name in (
        (RUN_VARIABLE, run if told.run.startswith(_UNRESOLVED) else told.run),
        (PIPELINE_VARIABLE, told.pipeline or pipeline),
    ):
        if name:
            os.environ.setdefault(variable, name)
    foreign = set_apart(given, json.loads(told.types), json.loads(told.outputs))
    gather_options(given, json.loads(told.options))
    given, uris = adapt_input(given, json.loads(told.types))
    own = [artifact["uri"] for _, artifact in artifacts_of(given.get("outputs", {}))]

    def run_here_or_there() -> None:
        if told.job_set:
            launch(json.loads(told.job_set), told.executor, given, told.types, uris)
        else:
            execute(told.executor, given, told.types, beam_arguments)

    run_with_retries(run_here_or_there, told.retries, own)
    path = Path(given["outputs"]["outputFile"])
    written = adapt_output(json.loads(path.read_text(encoding="utf-8")), given, uris)
    written.setdefault("artifacts", {}).update(foreign)
    path.write_text(json.dumps(written), encoding="utf-8")
    return written


def execute(executor: str, given: Message, types: str, beam_arguments: list[str]) -> None:
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
