"""What a run came to: verdict, promoted model, report and figures, gathered from the artifacts of its steps."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from tpu2gpu.errors import Tpu2GpuError
from tpu2gpu.storage.paths import Place, place
from tpu2gpu.storage.promotion.promoting import find_incumbents
from tpu2gpu_pipelines.metadata_store import OutputRecord, StepRecord
from tpu2gpu_pipelines.run_page import read_figures, write_run_page

REPORT = "report/index.html"
"""The page of the newest run, in the folder of everything that runs leave behind."""
_BLESSINGS = ("ModelBlessing", "InfraBlessing")


@attrs.frozen
class StepTime:
    """How one step went.

    Attributes:
        id: The component's id.
        cached: Whether a former result served.
        step_s: Seconds that it took.
    """

    id: str
    cached: bool
    step_s: float


@attrs.frozen(kw_only=True)
class RunResult:
    """What a run came to.

    Attributes:
        run: Its name, which the manifests carry.
        root: Folder of everything that runs leave behind.
        log: What the libraries said.
        steps: How each step went.
        seconds: How long all of them took.
        training: What the trainer says of its training.
        blessed: The verdict; None in a pipeline without one.
        reasons: Why the candidate was refused.
        promoted: Folder of the promoted model; None where nothing was promoted.
        served: Folders of the versions that the promotion folder serves now, whoever promoted them.
        report: The page of the run.
        summary: The evaluation's `lines` and `rows`.
    """

    run: str
    root: Path
    log: Path
    steps: tuple[StepTime, ...]
    seconds: float
    training: dict[str, Any]
    blessed: bool | None
    reasons: tuple[str, ...]
    promoted: Place | None
    served: tuple[Place, ...]
    report: Path
    summary: dict[str, Any]


def gather_result(
    records: Sequence[StepRecord],
    *,
    run: str,
    root: Path,
    log: Path,
    steps: tuple[StepTime, ...],
    seconds: float,
    promotion_folder: str,
) -> RunResult:
    """Gather what a run came to, and write its page where the newest one always stands, with its evaluation's twins.

    Args:
        records: What the metadata store knows of the run's steps.
        run: The run's name.
        root: Folder of everything that runs leave behind.
        log: What the libraries said.
        steps: How each step went.
        seconds: How long all of them took.
        promotion_folder: Where its models are promoted to.
    """
    training: dict[str, Any] = {}
    for model_run in _outputs(records, "ModelRun"):
        training = read_figures(Path(model_run.uri) / "training.json")
    report, summary = write_newest_page(records, root, run=run), {}
    for page in _outputs(records, "system.HTML"):
        summary = read_figures(Path(page.uri) / "summary.json")
    blessings = list(_outputs(records, *_BLESSINGS))
    reasons = {str(blessing.properties.get("reasons", "")) for blessing in blessings if not _flag(blessing, "blessed")}
    promoted = None
    for pushed in _outputs(records, "PushedModel"):
        if _flag(pushed, "pushed"):
            promoted = place(str(pushed.properties["pushed_destination"]))
    return RunResult(
        run=run,
        root=root,
        log=log,
        steps=steps,
        seconds=seconds,
        training=training,
        blessed=all(_flag(blessing, "blessed") for blessing in blessings) if blessings else None,
        reasons=tuple(reason for text in sorted(reasons) for reason in text.splitlines()),
        promoted=promoted,
        served=_served(promotion_folder),
        report=report,
        summary=summary,
    )


def write_newest_page(records: Sequence[StepRecord], root: Path, *, run: str, error: str = "") -> Path:
    """Write the page of the newest run in the place of the one before, with the twins of its evaluation.

    Args:
        records: What the metadata store knows of its steps.
        root: Folder of everything that runs leave behind.
        run: Its name.
        error: What it failed of, where it did.

    Returns:
        The page.
    """
    page = root / REPORT
    shutil.rmtree(page.parent, ignore_errors=True)
    for evaluation in _outputs(records, "system.HTML"):
        shutil.copytree(evaluation.uri, page.parent, dirs_exist_ok=True)
    return write_run_page(records, page, run=run, error=error)


def _served(folder: str) -> tuple[Place, ...]:
    try:
        return tuple(find_incumbents(folder))
    except Tpu2GpuError:  # a damaged folder, which the step that read it spoke of
        return ()


def _outputs(records: Sequence[StepRecord], *types: str) -> Iterator[OutputRecord]:
    for record in records:
        for artifacts in record.outputs.values():
            yield from (artifact for artifact in artifacts if artifact.type in types)


def _flag(artifact: OutputRecord, name: str) -> bool:
    return artifact.properties.get(name) == 1
