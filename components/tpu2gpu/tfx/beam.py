"""Runs a Beam pipeline on the runner that an option names, and carries its workers' results and errors in files.

A worker's results are small JSON files in a folder that every worker sees; a runner may run a work item twice, or on
two workers at once, and a file is there whole or not at all. An error of ours is such a result, since it would come
again on every worker; the process that started the pipeline raises it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from tpu2gpu import errors
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


def write_result(file: Path, result: dict[str, Any] | Tpu2GpuError) -> None:
    """Write what a work item found, or the error that it ended with."""
    found = {"error": result.to_json()} if isinstance(result, Tpu2GpuError) else result
    partial = file.with_name(f".{uuid.uuid4().hex}")
    try:
        partial.write_text(json.dumps(found), encoding="utf-8")
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def read_results(files: Iterable[Path]) -> list[dict[str, Any]]:
    """Read what work items found.

    Raises:
        Tpu2GpuError: One of them ended with it.
    """
    found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    for result in found:
        if "error" in result:
            raise errors.from_json(result["error"])
    return found


def check_complete(wanted: Collection[str], found: Collection[str], what: str, shared: str) -> None:
    """Check that a runner left nothing out.

    Args:
        wanted: Names of the results.
        found: Those that are there.
        what: What they are, for the message.
        shared: What workers must see under the same path, for the hint.

    Raises:
        RemoteRunError: Some are missing; all are listed.
    """
    if missing := [name for name in wanted if name not in found]:
        raise RemoteRunError(
            f"the Beam runner left out {len(missing)} of {len(wanted)} {what}",
            details=missing,
            hint=f"{shared} must lie where every worker sees them under the same path",
        )
