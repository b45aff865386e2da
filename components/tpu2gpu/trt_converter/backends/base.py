"""The contract of a back end: what makes a SavedModel into files that a GPU, or a CPU, serves."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from tpu2gpu.errors import UsageError
from tpu2gpu.progress import Progress
from tpu2gpu.running.runner import Runner
from tpu2gpu.running.serving_plan import Plan
from tpu2gpu.storage.publishing import Staging
from tpu2gpu.trt_converter.backend_registry import BACKENDS
from tpu2gpu.trt_converter.profiles import Profile

if TYPE_CHECKING:
    from tpu2gpu.hardware.cuda import Gpu
    from tpu2gpu.trt_converter.options import ConvertOptions
    from tpu2gpu.trt_converter.request import Request

STEPS = 3
"""The steps of a conversion that progress counts: two of the back end, and what is laid around the files."""


@attrs.frozen
class Availability:
    """The availability of a back end on this machine.

    Attributes:
        backend: Its name.
        available: Whether it can.
        version: Of the library that does the work; empty where it is not there.
        reason: Why it cannot, or for which devices it builds.
    """

    backend: str
    available: bool
    version: str
    reason: str


@attrs.frozen(kw_only=True)
class Conversion:
    """The files that a back end wrote to a serving folder, described.

    Attributes:
        plan: What a loader must know of them.
        backend_version: The version of the library that did the work.
        saved_model: The SavedModel that TensorFlow Serving is given.
        onnx_size_bytes: Size of the ONNX file; 0 without one.
        engine_size_bytes: Size of the engine; 0 without one.
        build_s: Seconds that building the engine took; 0 without one.
        peak_rss_bytes: Largest resident memory of a process of the back end.
        metrics: Further figures, with their units in the keys.
        why_no_engine: Why a back end that builds engines built none.
        core_coverage: Share of the model's compute that lies in the core, 0 to 1.
        batched: Whether the first dimension of every input and output is the batch.
        profiles: For each profile and each input, by ONNX name, its min, opt and max shape.
        sections: Further paragraphs of the README.
        notes: Further sentences at the head of the report.
    """

    plan: Plan
    backend_version: str
    saved_model: Path
    onnx_size_bytes: int = 0
    engine_size_bytes: int = 0
    build_s: float = 0.0
    peak_rss_bytes: int = 0
    metrics: Mapping[str, float] = attrs.field(factory=dict)
    why_no_engine: str = ""
    core_coverage: float = 1.0
    batched: bool = False
    profiles: Sequence[Profile] = ()
    sections: Sequence[str] = ()
    notes: Sequence[str] = ()


@attrs.frozen
class DryRun:
    """A forecast of what a back end would run in engines.

    Attributes:
        data: All of it as plain data.
        lines: The same for a reader.
    """

    data: dict[str, Any]
    lines: Sequence[str]


class BackEnd(ABC):
    """A back end of `convert`.

    A new one is a file with such a class and a line in the registry; choices, refusals, `doctor`, the README and the
    report follow from it.

    Attributes:
        name: What options, plans and reports call it; its key in the registry.
        title: What its maker calls it.
        heeds: The options that it takes, of those that not every back end takes; all others are refused as idle.
        builds_engine: Whether it builds an engine for a GPU.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    heeds: ClassVar[frozenset[str]] = frozenset()
    builds_engine: ClassVar[bool] = False

    @abstractmethod
    def probe(self) -> Availability:
        """Find out whether it can be used here; nothing that is asked may abort the process."""

    def preference(self, gpu: Gpu | None) -> int | None:
        """Return how much `auto` prefers it; the available one with the most is taken.

        Args:
            gpu: The GPU of this machine, where there is one.

        Returns:
            None where `auto` never takes it.
        """
        return None

    def contradictions(self, options: ConvertOptions) -> list[str]:
        """List the options whose values it cannot do, each with the reason."""
        return []

    @abstractmethod
    def convert(self, request: Request, staging: Staging, progress: Progress) -> Conversion:
        """Convert a model, and compare what was made with the source.

        Args:
            request: What was asked for.
            staging: The folder to fill, and its report.
            progress: Told of the steps, the first two of `STEPS`.

        Raises:
            Tpu2GpuError: See `convert_model`.
        """

    def dry_run(self, source: Path, options: ConvertOptions) -> DryRun:
        """Tell what would run in engines, without a GPU; nothing is written.

        Args:
            source: The SavedModel's folder.
            options: The signature, and what the back end heeds.

        Raises:
            UsageError: It cannot tell.
            EnvironmentLacksError: What tells it is not here.
            SourceError: The source is no sound SavedModel.
            SignatureError: It has no such signature.
        """
        raise UsageError(
            f"--dry-run with --backend {self.name}: it cannot tell before it converts",
            hint="choose --backend tf_trt; the other back ends report their coverage when they convert",
        )

    @abstractmethod
    def runner(self, path: Path, *, signature: str = "serving_default") -> Runner:
        """Open what it made, to be compared with the source; in a process of its own where a library may end it."""

    @abstractmethod
    def verification(self, plan: Plan) -> str:
        """Tell in a sentence how far what it made was verified."""

    @abstractmethod
    def readme_rows(self, plan: Plan, folder: Path) -> list[str]:
        """Describe its files in rows of the README's table: the file, what it is, what loads it."""


def back_end(name: str) -> BackEnd:
    """Import a back end.

    Args:
        name: Its key in the registry.
    """
    module, _, cls = BACKENDS[name].partition(":")
    made: BackEnd = getattr(importlib.import_module(module), cls)()
    return made


def installed_version(package: str) -> str:
    """Return the version of an installed package; empty where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
