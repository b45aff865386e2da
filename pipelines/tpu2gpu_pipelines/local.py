"""Runs a pipeline on this machine: TFX's LocalDagRunner, with its metadata in one SQLite file.

{root}/metadata.sqlite   what ran, with what, and what came out
{root}/pipeline/         the steps' outputs
{root}/promoted/         the promoted models
{root}/report/           index.html, the page of the newest run, and what its evaluation says for machines
{root}/logs/             what the libraries said, one file for each run
"""

from __future__ import annotations

import copy
import fcntl
import importlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs

from tpu2gpu.errors import SourceError, Tpu2GpuError, UsageError
from tpu2gpu.storage.folders import make_folder
from tpu2gpu.storage.full_disks import why_full
from tpu2gpu.storage.paths import is_remote
from tpu2gpu_pipelines.files_state import files_state
from tpu2gpu_pipelines.former_verdict import may_take_former
from tpu2gpu_pipelines.log_capture import logging_to
from tpu2gpu_pipelines.metadata_check import check_metadata
from tpu2gpu_pipelines.metadata_store import CACHED, fail_running, read_run
from tpu2gpu_pipelines.named_pipelines import path_of
from tpu2gpu_pipelines.run_result import RunResult, StepTime, gather_result, write_newest_page
from tpu2gpu_pipelines.settings import Settings

DEFAULT_PIPELINE = "tpu2gpu_pipelines.tpu_to_gpu:create_pipeline"
METADATA = "metadata.sqlite"
_LONGEST = 500

CreatePipeline = Callable[[Settings], Any]


def run_pipeline(
    settings: Settings,
    create: CreatePipeline | None = None,
    *,
    run_name: str = "",
    step_done: Callable[[StepTime], None] | None = None,
    step_progress: Callable[[str, str], None] | None = None,
    verbose: bool = False,
) -> RunResult:
    """Run a pipeline here and now.

    Args:
        settings: What it is told; relative folders are taken from the current one.
        create: Makes the pipeline of the settings; the main one when not given.
        run_name: The run's name, for the manifests; by the time of day when not given.
        step_done: Told of each step as it ends.
        step_progress: Told which step runs, and what it is doing.
        verbose: Log to standard error too.

    Raises:
        UsageError: Another run is going on in the same folder, or something else locks its metadata database.
        SourceError: The metadata database is damaged, or nothing lies where the settings say that a checkpoint does.
        EnvironmentLacksError: Another version of ML Metadata wrote it, or there is no room for the outputs.
        Tpu2GpuError: A step failed.
    """
    run_name = run_name or new_run_name()
    settings = _here(settings)
    _check_checkpoint(settings)
    root = Path(settings.root)
    log = log_path(root, run_name)
    steps = _Steps(root / METADATA, run_name, step_done, step_progress)
    with _locked(root), logging_to(log, steps.tell, verbose=verbose):
        check_metadata(root / METADATA)
        try:
            plan = _plan(settings, create or find_pipeline(DEFAULT_PIPELINE), run_name)
            started = time.monotonic()
            for node in plan.nodes:
                steps.run(plan, node.pipeline_node.node_info.id)
            seconds = round(time.monotonic() - started, 1)
        except Tpu2GpuError as error:
            where = f"{steps.current}: " if steps.current else ""
            told = type(error)(f"{where}{error.message}", details=error.details, hint=error.hint)
            _write_failure(root, run_name, str(told))
            raise told from error
        except Exception as error:
            where = steps.current or "the pipeline"
            if full := why_full(error, root / METADATA):
                raise type(full)(f"{where}: {full.message}", hint="make room, or choose another root") from error
            check_metadata(root / METADATA)  # which may have been why
            logging.getLogger("tpu2gpu").exception("%s failed", where)
            said = " ".join(str(error).split())[:_LONGEST]
            said = f"{where}: {type(error).__name__}: {said}"
            _write_failure(root, run_name, said)
            raise Tpu2GpuError(said, hint=f"{log} says more") from error
        except BaseException:  # an interrupt, which TFX does not clean up after
            _drop_unfinished(settings, steps.current, run_name)
            raise
    return gather_result(
        read_run(root / METADATA, run_name),
        run=run_name,
        root=root,
        log=log,
        steps=tuple(steps.done),
        seconds=seconds,
        promotion_folder=settings.promotion_folder,
    )


def _write_failure(root: Path, run_name: str, error: str) -> None:
    """Write the page of a run that failed behind its first step; the error is told whether or not that succeeds."""
    with suppress(OSError):
        if records := read_run(root / METADATA, run_name):
            write_newest_page(records, root, run=run_name, error=error)


def find_pipeline(path: str) -> CreatePipeline:
    """Find the function that makes a pipeline.

    Args:
        path: `MODULE:FUNCTION`, or a name; the function takes `Settings` and returns a TFX pipeline.

    Raises:
        UsageError: The path has another form.
        SourceError: There is no such module or function.
    """
    module, _, function = path_of(path).partition(":")
    try:
        found: CreatePipeline = getattr(importlib.import_module(module), function)
    except (ModuleNotFoundError, AttributeError) as error:
        raise SourceError(f"--pipeline {path}: {error}") from error
    return found


def pipeline_path(create: CreatePipeline) -> str:
    """Return the path by which `find_pipeline` finds a function."""
    return f"{getattr(create, '__module__', '')}:{getattr(create, '__qualname__', '')}"


def make_pipeline(settings: Settings, create: CreatePipeline) -> Any:
    """Make a TFX pipeline in which each step counts on its source, so that no former result outlives a change of it."""
    from tpu2gpu_pipelines.step_digests import add_pipeline_digest

    pipeline = create(settings)
    add_pipeline_digest(pipeline, getattr(create, "func", create).__module__)
    return pipeline


def new_run_name() -> str:
    """Name a run by the time of day."""
    return datetime.now().isoformat(timespec="milliseconds")


def log_path(root: Path, run_name: str) -> Path:
    """Return where a run's log stands."""
    return root.resolve() / "logs" / f"{run_name.replace(':', '')}.log"


def _here(settings: Settings) -> Settings:
    """Give the settings whole paths, the names of this machine's hardware, and the state of the examples."""
    from tpu2gpu.hardware.host import stable_hardware

    return attrs.evolve(
        settings,
        root=str(Path(settings.root).resolve()),
        promotion_uri=_whole_path(settings.promotion_folder),
        data_uri=settings.data_uri and _whole_path(settings.data_uri),
        data_state=settings.data_state or (files_state(settings.data_uri) if settings.data_uri else ""),
        checkpoint=settings.checkpoint and _whole_path(settings.checkpoint),
        hardware=settings.hardware or json.dumps(stable_hardware(), sort_keys=True),
    )


def _check_checkpoint(settings: Settings) -> None:
    """Find what was trained elsewhere before the first step runs, where it lies on this machine.

    Raises:
        SourceError: Nothing is there, or nothing that can be imported.
    """
    from tpu2gpu.checkpoint_importer.formats.registry import find_source

    if settings.checkpoint and not is_remote(settings.checkpoint):
        try:
            find_source(Path(settings.checkpoint) / settings.import_.checkpoint_name, settings.import_.step)
        except SourceError as error:
            raise SourceError(f"checkpoint: {error.message}", details=error.details, hint=error.hint) from error


def _whole_path(path: str) -> str:
    return path if is_remote(path) else str(Path(path).resolve())


def _plan(settings: Settings, create: CreatePipeline, run_name: str) -> Any:
    """Compile the pipeline to TFX's intermediate representation, with the run's name in it."""
    from tfx.dsl.compiler import compiler, constants
    from tfx.orchestration.metadata import sqlite_metadata_connection_config
    from tfx.orchestration.portable import runtime_parameter_utils

    pipeline = make_pipeline(settings, create)
    pipeline.metadata_connection_config = sqlite_metadata_connection_config(str(Path(settings.root) / METADATA))
    plan = compiler.Compiler().compile(pipeline)
    # The runner would give the run a name that nobody else learns.
    runtime_parameter_utils.substitute_runtime_parameter(plan, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_name})
    return plan


def _drop_unfinished(settings: Settings, step: str, run_name: str) -> None:
    """Take away the outputs of a step that was broken off, and have the metadata store say that it failed."""
    for execution in fail_running(Path(settings.root) / METADATA, run_name):
        for folder in Path(settings.pipeline_root, step).glob(f"*/{execution}"):
            shutil.rmtree(folder, ignore_errors=True)


class _Steps:
    """Runs one step at a time, and skips the others: so we know which one it is at, and for how long."""

    def __init__(
        self,
        metadata: Path,
        run_name: str,
        step_done: Callable[[StepTime], None] | None,
        step_progress: Callable[[str, str], None] | None,
    ) -> None:
        self.current = ""
        self.done: list[StepTime] = []
        self._metadata, self._run_name = metadata, run_name
        self._step_done, self._step_progress = step_done, step_progress

    def run(self, plan: Any, step: str) -> None:
        from tfx.orchestration.local.local_dag_runner import LocalDagRunner

        self.current, started = step, time.monotonic()
        self.tell("")
        one_step = copy.deepcopy(plan)
        for node in one_step.nodes:
            if node.pipeline_node.node_info.id != step:
                node.pipeline_node.execution_options.skip.SetInParent()
            elif not may_take_former(node.pipeline_node, read_run(self._metadata, self._run_name), self._metadata):
                node.pipeline_node.execution_options.caching_options.enable_cache = False
        LocalDagRunner().run_with_ir(one_step)
        states = {record.id: record.state for record in read_run(self._metadata, self._run_name)}
        self.done.append(StepTime(step, states.get(step) == CACHED, round(time.monotonic() - started, 1)))
        self.current = ""
        if self._step_done:
            self._step_done(self.done[-1])

    def tell(self, doing: str) -> None:
        """Pass on what the current step says of itself."""
        if self._step_progress and self.current:
            self._step_progress(self.current, doing)


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Keep a second run out of the folder: two would write one metadata store."""
    make_folder(root)
    with (root / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(
                f"{root}: another run is going on there", hint="wait for its end, or choose another root"
            ) from error
        yield
