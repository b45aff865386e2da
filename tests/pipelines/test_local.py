"""The local runner: what it tells, what it keeps, and how a failing step ends."""

from __future__ import annotations

import fcntl
from functools import partial
from pathlib import Path

import pytest

from tests.pipelines import faulty
from tpu2gpu.errors import EnvironmentLacksError, SourceError, Tpu2GpuError, UsageError
from tpu2gpu_pipelines.local import METADATA, find_pipeline, run_pipeline
from tpu2gpu_pipelines.metadata_store import read_run
from tpu2gpu_pipelines.settings import Settings


def test_a_pipeline_without_verdict_or_report_runs_too(tmp_path: Path) -> None:
    done, doing = [], []
    result = run_pipeline(
        Settings(root=str(tmp_path)),
        faulty.examples_only,
        step_done=done.append,
        step_progress=lambda step, what: doing.append(step),
    )
    assert [(step.id, step.cached) for step in done] == [("DigitExamples", False)]
    assert doing == ["DigitExamples"]
    assert (result.blessed, result.promoted, result.reasons) == (None, None, ())
    assert "DONE" in result.report.read_text()
    assert "Going to run a new execution" in result.log.read_text()


def test_a_second_run_takes_over_what_did_not_change_unless_told_otherwise(tmp_path: Path) -> None:
    settings = Settings(root=str(tmp_path))
    states = []
    for cache in (True, True, False):
        result = run_pipeline(Settings(root=str(tmp_path), cache=cache), faulty.examples_only)
        (record,) = read_run(tmp_path / METADATA, result.run)
        states.append(record.state)
        assert result.steps[0].cached is (record.state == "CACHED")
    assert states == ["COMPLETE", "CACHED", "COMPLETE"]
    assert settings.pipeline_root == f"{tmp_path}/pipeline"


def test_a_fault_in_a_step_names_the_step_and_the_log(tmp_path: Path) -> None:
    with pytest.raises(Tpu2GpuError) as caught:
        run_pipeline(Settings(root=str(tmp_path)), partial(faulty.with_trainer, run_fn="run_fn"), run_name="faulty")
    assert caught.value.message == "Trainer: IndexError: list index out of range, said the user's code"
    log = tmp_path / "logs" / "faulty.log"
    assert str(log) in caught.value.hint
    assert "Traceback" in log.read_text()
    page = (tmp_path / "report" / "index.html").read_text()
    assert "FAILED" in page
    assert "list index out of range" in page
    assert [step.state for step in read_run(tmp_path / METADATA, "faulty")] == ["COMPLETE", "FAILED"]


def test_our_own_error_keeps_its_kind_and_its_exit_code(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentLacksError, match="Trainer: TPU 'local': does not answer; unset TPU_NAME"):
        run_pipeline(Settings(root=str(tmp_path)), partial(faulty.with_trainer, run_fn="refusing_run_fn"))


def test_an_interrupted_step_leaves_no_half_output_and_is_done_again(tmp_path: Path) -> None:
    settings, create = Settings(root=str(tmp_path)), partial(faulty.with_trainer, run_fn="interrupted_run_fn")
    for name in ("first", "second"):
        with pytest.raises(KeyboardInterrupt):
            run_pipeline(settings, create, run_name=name)
        states = {step.id: step.state for step in read_run(tmp_path / METADATA, name)}
        assert states == {"DigitExamples": "COMPLETE" if name == "first" else "CACHED", "Trainer": "FAILED"}
    assert not list((tmp_path / "pipeline" / "Trainer").glob("*/[0-9]*"))


def test_two_runs_do_not_share_a_folder_at_the_same_time(tmp_path: Path) -> None:
    with (tmp_path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another run is going on there"):
            run_pipeline(Settings(root=str(tmp_path)), faulty.examples_only)
    assert not (tmp_path / METADATA).exists()


def test_a_pipeline_of_ones_own_is_found_by_its_path() -> None:
    assert find_pipeline("tests.pipelines.faulty:examples_only") is faulty.examples_only
    for path, kind in (("faulty", UsageError), ("no.such.module:make", SourceError), ("json:make", SourceError)):
        with pytest.raises(kind, match=path):
            find_pipeline(path)


def test_a_training_function_that_is_not_there_is_found_before_anything_runs(tmp_path: Path) -> None:
    from tpu2gpu_pipelines.settings import TrainingOptions
    from tpu2gpu_pipelines.tpu_to_gpu import create_pipeline

    settings = Settings(root=str(tmp_path), training=TrainingOptions(run_fn="tests.pipelines.nowhere.run_fn"))
    with pytest.raises(SourceError, match=r"there is no module 'tests\.pipelines\.nowhere'"):
        create_pipeline(settings)
