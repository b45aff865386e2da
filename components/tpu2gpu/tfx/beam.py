"""Runs a Beam pipeline on the runner that an option names, and says in one line why it failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from tpu2gpu.errors import RemoteRunError, Tpu2GpuError


def run_on_beam(build: Callable[[beam.Pipeline], Any], runner: str, arguments: Sequence[str]) -> None:
    """Build a pipeline, run it and wait for its end.

    Args:
        build: Applies the transforms.
        runner: The runner's name.
        arguments: Further arguments for it.

    Raises:
        RemoteRunError: The runner refused the arguments, or the job failed.
    """
    try:
        pipeline = beam.Pipeline(options=PipelineOptions([f"--runner={runner}", *arguments]))
        build(pipeline)
        state = pipeline.run().wait_until_finish()
    except Tpu2GpuError:
        raise
    except (Exception, SystemExit) as error:  # a runner raises what it likes; its argument parser exits
        last = (str(error).strip().splitlines() or ["no reason given"])[-1]
        raise RemoteRunError(f"--runner {runner}: {type(error).__name__}: {last}") from error
    if state not in (None, "DONE"):
        raise RemoteRunError(f"--runner {runner}: the job ended in state {state}")
