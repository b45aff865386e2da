"""One recurring run of a name: made, left alone, renewed, paused, deleted, by KFP's own client over HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.pipelines.kubeflow.fake_server import Kubeflow, server_of
from tpu2gpu.cli.main import main
from tpu2gpu.errors import InputError, RemoteRunError, UsageError
from tpu2gpu_pipelines.kubeflow.api import scheduling
from tpu2gpu_pipelines.kubeflow.api.scheduling import delete_schedule, list_schedules, pause_schedule, schedule_pipeline
from tpu2gpu_pipelines.kubeflow.compiler.compiling import CompiledPipeline
from tpu2gpu_pipelines.kubeflow_options import ScheduleOptions

NIGHTLY = ScheduleOptions(name="nightly", cron="0 0 2 * * *")


def schedule(
    kubeflow: Kubeflow, gke_pipeline: CompiledPipeline, options: ScheduleOptions = NIGHTLY, **rest: Any
) -> str:
    return schedule_pipeline(server_of(kubeflow), gke_pipeline, options, **rest).change


def test_a_recurring_run_catches_up_with_nothing_and_runs_one_at_a_time(
    kubeflow: Kubeflow,
    gke_pipeline: CompiledPipeline,
) -> None:
    change = schedule(kubeflow, gke_pipeline, parameters={"data_uri": "gs://bucket/data"}, service_account="runner")
    assert change == "made"
    (body,) = kubeflow.asked("POST", "/recurringruns")
    reference = body.pop("pipeline_version_reference")
    assert reference["pipeline_version_id"] in kubeflow.versions
    assert body.pop("experiment_id") in kubeflow.experiments
    assert body == {
        "display_name": "nightly",
        "trigger": {"cron_schedule": {"cron": "0 0 2 * * *"}},
        "max_concurrency": 1,
        "no_catchup": True,
        "mode": "ENABLE",
        "runtime_config": {"parameters": {"data_uri": "gs://bucket/data"}},
        "service_account": "runner",
    }


def test_an_interval_is_a_periodic_schedule_under_the_pipelines_name(
    kubeflow: Kubeflow,
    gke_pipeline: CompiledPipeline,
) -> None:
    assert schedule(kubeflow, gke_pipeline, ScheduleOptions(interval_s=3600)) == "made"
    (body,) = kubeflow.asked("POST", "/recurringruns")
    assert body["trigger"] == {"periodic_schedule": {"interval_second": 3600}}
    assert body["display_name"] == gke_pipeline.name
    assert schedule(kubeflow, gke_pipeline, ScheduleOptions(interval_s=3600)) == "unchanged"


def test_the_same_again_changes_nothing(kubeflow: Kubeflow, gke_pipeline: CompiledPipeline) -> None:
    schedule(kubeflow, gke_pipeline)
    before = dict(kubeflow.recurring)
    assert schedule(kubeflow, gke_pipeline) == "unchanged"
    assert kubeflow.recurring == before
    assert len(kubeflow.asked("POST", "/recurringruns")) == 1


@pytest.mark.parametrize("what", ["time", "pipeline", "parameters", "pause"])
def test_a_change_renews_it_and_there_is_still_one(
    what: str,
    kubeflow: Kubeflow,
    gke_pipeline: CompiledPipeline,
) -> None:
    schedule(kubeflow, gke_pipeline)
    if what == "time":
        change = schedule(kubeflow, gke_pipeline, ScheduleOptions(name="nightly", cron="0 0 3 * * *"))
    elif what == "pipeline":
        change = schedule(
            kubeflow, attrs.evolve(gke_pipeline, spec={**gke_pipeline.spec, "defaultPipelineRoot": "gs://other"})
        )
    elif what == "parameters":
        change = schedule(kubeflow, gke_pipeline, parameters={"data_uri": "gs://other"})
    else:
        pause_schedule(server_of(kubeflow), gke_pipeline.name, "nightly")
        change = schedule(kubeflow, gke_pipeline)
    assert change == "renewed"
    assert [it["status"] for it in kubeflow.recurring.values()] == ["ENABLED"]
    methods = [method for method, path, _ in kubeflow.requests if "/recurringruns" in path and method != "GET"]
    assert methods[-3:] == ["POST", "POST", "DELETE"]  # disabled, made, and the old one goes when the new one is there


def test_other_recurring_runs_are_left_alone(kubeflow: Kubeflow, gke_pipeline: CompiledPipeline) -> None:
    for name in ("a", "b", "nightly", "c"):
        schedule(kubeflow, gke_pipeline, attrs.evolve(NIGHTLY, name=name))
    schedule(kubeflow, gke_pipeline, ScheduleOptions(name="nightly", interval_s=60))
    assert sorted(it["display_name"] for it in kubeflow.recurring.values()) == ["a", "b", "c", "nightly"]


def test_they_are_listed_paused_and_deleted_by_name(kubeflow: Kubeflow, gke_pipeline: CompiledPipeline) -> None:
    server = server_of(kubeflow)
    for name in ("hourly", "nightly", "weekly"):
        schedule(kubeflow, gke_pipeline, attrs.evolve(NIGHTLY, name=name))
    assert pause_schedule(server, gke_pipeline.name, "weekly").change == "paused"
    assert delete_schedule(server, gke_pipeline.name, "hourly").change == "deleted"
    found = {it.name: (it.enabled, it.trigger) for it in list_schedules(server, gke_pipeline.name)}
    assert found == {"nightly": (True, "cron 0 0 2 * * *"), "weekly": (False, "cron 0 0 2 * * *")}
    with pytest.raises(InputError, match="recurring run 'hourly': not on the server; there are nightly, weekly"):
        delete_schedule(server, gke_pipeline.name, "hourly")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "_ASK_EVERY_S", 0.01)


LATER = ScheduleOptions(name="nightly", cron="0 0 3 * * *")


@pytest.mark.usefixtures("quick")
def test_renewing_waits_for_the_run_in_flight_and_starts_none_meanwhile(
    kubeflow: Kubeflow, gke_pipeline: CompiledPipeline
) -> None:
    schedule(kubeflow, gke_pipeline)
    (old,) = kubeflow.recurring
    kubeflow.run_of(old, asked=4)
    said: list[str] = []
    made = schedule_pipeline(
        server_of(kubeflow), gke_pipeline, LATER, progress=lambda what, done, total: said.append(what)
    )
    assert (made.change, made.ended) == ("renewed", ())
    assert "waiting for the run in flight" in said[0]
    assert not kubeflow.ended
    assert [it["trigger"]["cron_schedule"]["cron"] for it in kubeflow.recurring.values()] == ["0 0 3 * * *"]


@pytest.mark.usefixtures("quick")
def test_what_is_interrupted_while_it_waits_is_finished_by_the_next_call(
    kubeflow: Kubeflow, gke_pipeline: CompiledPipeline
) -> None:
    schedule(kubeflow, gke_pipeline)
    (old,) = kubeflow.recurring
    run = kubeflow.run_of(old)
    with pytest.raises(RemoteRunError, match="still in flight"):
        schedule_pipeline(server_of(kubeflow, timeout_s=1), gke_pipeline, LATER)
    assert kubeflow.recurring[old]["status"] == "DISABLED"
    assert len(kubeflow.recurring) == 2
    kubeflow.in_flight[run] = 1
    assert schedule(kubeflow, gke_pipeline, LATER) == "renewed"
    assert old not in kubeflow.recurring
    assert not kubeflow.ended
    assert schedule(kubeflow, gke_pipeline, LATER) == "unchanged"


def test_now_says_what_it_ends(
    kubeflow: Kubeflow, gke_pipeline: CompiledPipeline, gke_settings: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    schedule(kubeflow, gke_pipeline)
    (old,) = kubeflow.recurring
    run = kubeflow.run_of(old)
    assert main(["schedule", "--settings", str(gke_settings), "--delete", "--now"]) == 0
    assert f"run {run}: was in flight, and has been ended" in capfd.readouterr().out
    assert kubeflow.ended == [run]


def test_a_run_that_is_called_running_after_its_recurring_run_went_is_told(
    kubeflow: Kubeflow, gke_pipeline: CompiledPipeline
) -> None:
    for name in ("hourly", "nightly"):
        schedule(kubeflow, gke_pipeline, attrs.evolve(NIGHTLY, name=name))
    hourly = next(key for key, it in kubeflow.recurring.items() if it["display_name"] == "hourly")
    run = kubeflow.run_of(hourly)
    delete_schedule(server_of(kubeflow), gke_pipeline.name, "hourly", now=True)
    (found,) = list_schedules(server_of(kubeflow), gke_pipeline.name)
    assert found.stuck == (run,)


def test_a_schedule_needs_a_time(kubeflow: Kubeflow, gke_pipeline: CompiledPipeline) -> None:
    with pytest.raises(UsageError, match="no time to run at"):
        schedule(kubeflow, gke_pipeline, ScheduleOptions())
    assert not kubeflow.asked("GET", "/experiments")


def test_the_command_schedules_what_the_settings_say_with_fresh_data_and_training(
    kubeflow: Kubeflow,
    gke_settings: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    words = ["schedule", "--settings", str(gke_settings), "--parameter", "data_uri=gs://bucket/data"]
    assert main([*words, "--json"]) == 0
    (made,) = json.loads(capfd.readouterr().out)
    assert (made["name"], made["trigger"], made["change"]) == ("nightly", "cron 0 0 2 * * *", "made")
    (package,) = kubeflow.asked("POST", "/pipelines/upload_version")
    assert package.count("cachingOptions: {}") == 4  # data, training, evaluation, promotion
    assert main(words) == 0
    assert capfd.readouterr().out.split()[:2] == ["nightly", "unchanged"]
    assert main(["schedule", "--settings", str(gke_settings), "--interval-s", "7200"]) == 0
    assert "every 7200 s" in capfd.readouterr().out
    assert main(["schedule", "--settings", str(gke_settings), "--list"]) == 0
    assert capfd.readouterr().out.split()[:2] == ["nightly", "enabled"]
    assert main(["schedule", "--settings", str(gke_settings), "--pause"]) == 0
    assert [it["status"] for it in kubeflow.recurring.values()] == ["DISABLED"]
    assert main(["schedule", "--settings", str(gke_settings), "--delete"]) == 0
    assert not kubeflow.recurring
    assert main(["schedule", "--settings", str(gke_settings), "--delete"]) == 3
    assert main(["schedule", "--settings", str(gke_settings), "--delete", "--pause"]) == 2
