"""Artifacts where TFX gives a folder, and where Kubeflow's launcher gives only a name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tpu2gpu.errors import ExamplesError


def artifact(kind: str, uri: Path) -> Any:
    from tpu2gpu.tfx import artifacts

    made = getattr(artifacts, kind)()
    made.uri = str(uri)
    return made


FIGURES = {"p50_ms": 1.5, "error": 3.2e-7, "size_bytes": 10, "blessed": True, "worst": float("inf"), "name": "left out"}


@pytest.mark.parametrize("is_folder", [True, False])
def test_metrics_are_on_the_artifact_and_in_one_file(tmp_path: Path, is_folder: bool) -> None:
    from tpu2gpu.tfx.artifacts import write_metrics

    uri = tmp_path / "metrics" / "3"
    if is_folder:
        uri.mkdir(parents=True)
    metrics = artifact("Metrics", uri)
    write_metrics(metrics, FIGURES, {"version": "1.2"}, title="digits: frozen")
    assert metrics.get_string_custom_property("display_name") == "digits: frozen"
    assert metrics.get_string_custom_property("version") == "1.2"
    assert metrics.get_float_custom_property("p50_ms") == 1.5
    assert metrics.get_int_custom_property("size_bytes") == 10
    assert metrics.get_int_custom_property("blessed") == 1
    assert metrics.get_string_custom_property("worst") == "inf"
    assert metrics.get_string_custom_property("error") == "3.200e-07"  # as a number it would be stored as 0
    assert not metrics.has_custom_property("name")
    written = json.loads((uri / "metrics.json" if is_folder else uri).read_text())
    assert written == {"p50_ms": 1.5, "error": 3.2e-7, "size_bytes": 10, "blessed": True, "worst": "inf"}


def test_a_report_is_a_page_with_twins_in_a_folder_and_the_page_alone_elsewhere(tmp_path: Path) -> None:
    from tpu2gpu.tfx.artifacts import write_report

    source = tmp_path / "evaluation"
    source.mkdir()
    for name in ("report.html", "report.json", "manifest.json"):
        (source / name).write_text(name)
    (tmp_path / "folder").mkdir()
    write_report(artifact("Report", tmp_path / "folder"), source, "report.html")
    write_report(artifact("Report", tmp_path / "deep" / "file"), source, "report.html")
    assert {path.name for path in (tmp_path / "folder").iterdir()} == {"index.html", "report.json"}
    assert (tmp_path / "folder" / "index.html").read_text() == "report.html"
    assert (tmp_path / "deep" / "file").read_text() == "report.html"


def test_a_model_is_in_the_serving_folder_or_is_the_artifact_itself(tmp_path: Path) -> None:
    from tfx.types.standard_artifacts import Model

    from tpu2gpu.tfx.artifacts import model_source, model_target

    model = Model()
    model.uri = str(tmp_path)
    assert (model_source(model), model_target(model)) == (tmp_path, tmp_path / "Format-Serving")
    (tmp_path / "Format-Serving").mkdir()
    assert model_source(model) == tmp_path / "Format-Serving"


def test_a_missing_split_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    from tfx.types.standard_artifacts import Examples

    from tpu2gpu.tfx.artifacts import examples_folder

    (tmp_path / "Split-train").mkdir()
    examples = Examples()
    examples.uri = str(tmp_path)
    with pytest.raises(ExamplesError, match="no split 'eval' there, only train"):
        examples_folder(examples, "eval")


def test_our_types_are_those_that_kubeflow_can_find_or_show() -> None:
    import tpu2gpu
    from tpu2gpu.tfx.artifacts import Checkpoint, Metrics, Report

    names = {kind.TYPE_NAME for kind in (Checkpoint, Metrics, Report)}
    assert names == {"tpu2gpu.Checkpoint", "system.Metrics", "system.HTML"}
    assert tpu2gpu.Checkpoint is Checkpoint
    assert not any(kind.PROPERTIES for kind in (Checkpoint, Metrics, Report))


def test_a_blessing_says_what_it_holds_for(tmp_path: Path) -> None:
    from tfx.types.standard_artifacts import InfraBlessing, Model

    from tpu2gpu.tfx.artifacts import bless

    candidate, blessing = Model(), InfraBlessing()
    candidate.uri, blessing.uri = str(tmp_path / "model"), str(tmp_path / "blessing")
    bound_to = {"candidate_digest": "sha256:1", "hardware_fingerprint": "ab", "verified_level": "engine_executed"}
    bless(blessing, False, candidate=candidate, reasons="too slow", bound_to=bound_to)
    assert [path.name for path in (tmp_path / "blessing").iterdir()] == ["INFRA_NOT_BLESSED"]
    assert {name: blessing.get_string_custom_property(name) for name in bound_to} == bound_to
    assert blessing.get_string_custom_property("reasons") == "too slow"
