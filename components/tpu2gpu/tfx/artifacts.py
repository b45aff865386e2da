"""The artifact types that flow between the components, and what their files are called.

    Model          {uri}/Format-Serving/          a SavedModel or a serving folder: what a command's TARGET holds
    Checkpoint     {uri}                          any training output: a checkpoint, SavedModel, .keras or frozen .pb
    Metrics        {uri}/metrics.json             flat numbers, on the artifact too: the dashboard's table
    Report         {uri}/index.html               one self-contained HTML file; its JSON and Markdown twins beside it
    ModelBlessing  {uri}/BLESSED or NOT_BLESSED
    InfraBlessing  {uri}/INFRA_BLESSED or INFRA_NOT_BLESSED

A local run makes each URI a folder. Kubeflow's launcher does not, and its dashboard reads metrics and reports as one
file: where no folder stands at the URI of such an artifact, the file itself is written there.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfx.types import standard_artifacts
from tfx.types.artifact import Artifact

from tpu2gpu.errors import ExamplesError
from tpu2gpu.interface import CHECKPOINT, METRICS, REPORT
from tpu2gpu.storage.paths import Place, place
from tpu2gpu.storage.publishing import MANIFEST, write_json

_SERVING = "Format-Serving"
_TITLE = "display_name"  # which Kubeflow sets itself only where a step did not
_STORED_DECIMALS = 6  # of a number in ML Metadata's SQL: 3e-7 comes back as 0


class Checkpoint(Artifact):
    """What a training run left behind, in any form that `tpu2gpu.import_model` reads."""

    TYPE_NAME = CHECKPOINT


class Metrics(Artifact):
    """Flat numbers with their unit in the key; the title is the one that Kubeflow's dashboard shows as a table."""

    TYPE_NAME = METRICS


class Report(Artifact):
    """A self-contained HTML file; the title is the one that Kubeflow's dashboard shows as a page."""

    TYPE_NAME = REPORT


def artifact_classes(titles: Mapping[str, str]) -> dict[str, type[Artifact]]:
    """Return TFX's classes for the titles of artifact types, by the same keys."""
    ours = {kind.TYPE_NAME: kind for kind in (Checkpoint, Metrics, Report)}
    return {
        key: ours.get(title) or getattr(standard_artifacts, title.removeprefix("tfx.")) for key, title in titles.items()
    }


def model_source(model: Any) -> Place:
    """Find where a model artifact holds its model; an imported one may be the SavedModel's folder itself."""
    folder = place(model.uri)
    serving = folder / _SERVING
    return serving if serving.is_dir() else folder


def model_target(model: Any) -> Path:
    """Return where a model artifact's model is to be written."""
    return Path(model.uri) / _SERVING


def examples_folder(examples: Any, split: str) -> Path:
    """Find where an Examples artifact holds a split's files; one that has no splits at all is the examples itself.

    Raises:
        ExamplesError: It has no such split.
    """
    whole = Path(examples.uri)
    folder = whole / f"Split-{split}"
    if folder.is_dir():
        return folder
    there = sorted(entry.name.removeprefix("Split-") for entry in whole.glob("Split-*"))
    if there or not whole.exists() or (whole.is_dir() and not any(whole.iterdir())):
        raise ExamplesError(f"{examples.uri}: no split '{split}' there, only {', '.join(there) or 'nothing'}")
    return whole


def write_metrics(
    artifact: Any, figures: Mapping[str, Any], words: Mapping[str, str] | None = None, *, title: str = ""
) -> None:
    """Put numbers on a metrics artifact, and into its file.

    Args:
        artifact: The metrics artifact.
        figures: Its content; what is neither number nor boolean is left out.
        words: What is no number and stands beside them on the artifact, such as a version.
        title: Under which the dashboard shows them; the output's key when empty.
    """
    _entitle(artifact, title)
    numbers = {key: value for key, value in figures.items() if isinstance(value, int | float)}
    for key, value in numbers.items():
        if isinstance(value, int):  # a boolean too
            artifact.set_int_custom_property(key, int(value))
        elif math.isfinite(value) and math.isclose(value, round(value, _STORED_DECIMALS), rel_tol=1e-3):
            artifact.set_float_custom_property(key, value)
        else:
            artifact.set_string_custom_property(key, f"{value:.3e}")
    for key, word in (words or {}).items():
        artifact.set_string_custom_property(key, word)
    path = _one_file(artifact, "metrics.json")
    write_json(path, numbers)


def write_report(artifact: Any, folder: Path, page: str, *, title: str = "") -> None:
    """Publish an HTML page, with its twins where there is room for them.

    Args:
        artifact: The report artifact.
        folder: What a step wrote for people to read.
        page: The HTML file's name there.
        title: Under which the dashboard shows it; the output's key when empty.
    """
    _entitle(artifact, title)
    path = _one_file(artifact, "index.html")
    if Path(artifact.uri).is_dir():
        shutil.copytree(folder, artifact.uri, dirs_exist_ok=True, ignore=shutil.ignore_patterns(page, MANIFEST))
    shutil.copyfile(folder / page, path)


def bless(
    artifact: Any, blessed: bool, *, candidate: Any, reasons: str, bound_to: Mapping[str, str] | None = None
) -> None:
    """Publish a verdict in the form that the stock Pusher asks for.

    Args:
        artifact: A ModelBlessing or InfraBlessing.
        blessed: The verdict.
        candidate: The model artifact that was judged.
        reasons: Why it was refused.
        bound_to: What the verdict holds for: digests, hardware, the level that was reached.
    """
    mark = ("" if blessed else "NOT_") + "BLESSED"
    folder = Path(artifact.uri)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / (f"INFRA_{mark}" if artifact.type_name == "InfraBlessing" else mark)).touch()
    artifact.set_int_custom_property("blessed", int(blessed))
    artifact.set_string_custom_property("current_model", candidate.uri)
    artifact.set_int_custom_property("current_model_id", candidate.id)
    artifact.set_string_custom_property("reasons", reasons)
    for name, value in (bound_to or {}).items():
        artifact.set_string_custom_property(name, value)


def _entitle(artifact: Any, title: str) -> None:
    if title:
        artifact.set_string_custom_property(_TITLE, title)


def _one_file(artifact: Any, name: str) -> Path:
    path = Path(artifact.uri)
    if path.is_dir():
        return path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
