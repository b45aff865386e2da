"""Back ends that build a TensorRT engine of the ONNX file."""

from __future__ import annotations

import sys
import threading
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from tpu2gpu.errors import ConversionError, Tpu2GpuError, WorkerDiedError
from tpu2gpu.hardware.cuda import find_gpus
from tpu2gpu.hardware.tensorrt import Library
from tpu2gpu.process.aslr import DISABLE_ASLR
from tpu2gpu.process.worker import run_in_child
from tpu2gpu.progress import Progress
from tpu2gpu.running.local.engine_runner import EngineRunner
from tpu2gpu.running.runner import Runner
from tpu2gpu.running.serving_plan import CORE, Plan
from tpu2gpu.storage.publishing import Staging
from tpu2gpu.trt_converter.backends.base import STEPS, Availability
from tpu2gpu.trt_converter.backends.early_build import Built, EarlyBuild
from tpu2gpu.trt_converter.backends.engine_crash import find_crash
from tpu2gpu.trt_converter.backends.onnx import Onnx
from tpu2gpu.trt_converter.backends.onnx_plan import ONNX_FILE, engine_of
from tpu2gpu.trt_converter.partition.refused_nodes import EngineRefusedError
from tpu2gpu.trt_converter.profiles import Profile

if TYPE_CHECKING:
    from tpu2gpu.trt_converter.options import ConvertOptions
    from tpu2gpu.trt_converter.request import Request

_BUILD = "tpu2gpu.trt_converter.backends.engine_build"
_PRELOAD = (_BUILD, "polygraphy.backend.trt")  # not the bindings, which may end the process that imports them
_LOADING_TIMEOUT_S = 120.0
_CRASH_S = 300.0  # that the search for the operation may take which ended a builder
_DETERMINISTIC = {
    "PYTHONHASHSEED": "0",
    DISABLE_ASLR: "1",  # the builder lays out an engine in the order of addresses
}


@attrs.frozen
class BuildPlan:
    """The shapes and GPUs that an engine is built for.

    Attributes:
        profiles: For each profile and each input its min, opt and max shape.
        compute_capabilities: TensorRT-RTX: the GPUs to build for, `89` for 8.9.
        hardware_compatibility: TensorRT: `none` for the GPU that builds alone, or one of the wider levels.
        timing_cache: TensorRT: a file of measured times to begin with and to add to; empty for none.
    """

    profiles: Sequence[Mapping[str, Sequence[Sequence[int]]]]
    compute_capabilities: Sequence[str] = ()
    hardware_compatibility: str = "none"
    timing_cache: str = ""


class EngineBackEnd(Onnx):
    """A family of TensorRT as a back end.

    Attributes:
        library: Its bindings.
        engine_file: The engine's file in the serving folder.
        environment: The variables of the processes that load it.
        measures: Whether the builder measures kernels, which nothing beside it may disturb.
    """

    library: ClassVar[Library]
    engine_file: ClassVar[str]
    environment: ClassVar[Mapping[str, str]] = _DETERMINISTIC
    measures: ClassVar[bool] = True
    builds_engine = True

    @abstractmethod
    def targets(self, options: ConvertOptions) -> tuple[tuple[str, ...], str]:
        """Return the GPUs that an engine will be for.

        Returns:
            Compute capabilities, `89` for 8.9 and `80+` for 8.0 and newer; and the name of the only model of GPU,
            empty where the capabilities say it all.
        """

    @abstractmethod
    def configure(self, trt: ModuleType, builder: Any, network: Any, plan: BuildPlan) -> Any:
        """Make the builder's IBuilderConfig; it sets no dtypes, which are in the ONNX file and nowhere else.

        Raises:
            EnvironmentLacksError: The library does not know what the plan asks for.
            SourceError: The timing cache is not one of this library and GPU.
        """

    def start(self, trt: ModuleType, logger: Any) -> None:
        """Prepare the library for a build; nothing by default."""

    def network_file(self, onnx_path: Path) -> Path:
        """Return the file that the builder parses: the ONNX file itself, or what stands beside it for the build."""
        return onnx_path

    def keep(self, config: Any, plan: BuildPlan) -> None:
        """Keep what a build measured; nothing by default."""

    def probe(self) -> Availability:
        """Load the library in a process of its own, which one that does not fit the machine may end."""
        missing = self.missing()
        version, reason = ("", "; ".join(missing)) if missing else self._load()
        wrong = reason or (self.unfit(version) if version else "")
        return Availability(self.name, bool(version) and not wrong, version, wrong or self.builds_for())

    def missing(self) -> list[str]:
        """List what must be there before the library is loaded, all at once."""
        packages = {self.library.module: self.library.package, "polygraphy": "polygraphy"}
        return [f"{package} is not installed" for module, package in packages.items() if find_spec(module) is None]

    def unfit(self, version: str) -> str:
        """Return why a version cannot be used; empty where it can."""
        return ""

    @abstractmethod
    def builds_for(self) -> str:
        """Return for which GPUs it builds here."""

    def _load(self) -> tuple[str, str]:
        """Return the library's version, or why it cannot be loaded."""
        try:
            version, _ = run_in_child(
                f"{_BUILD}:library_version",
                {"library": self.library.name},
                name=self.title,
                environment=self.environment,  # a builder's, so that it is forked from the same process
                preload=_PRELOAD,
                timeout_s=_LOADING_TIMEOUT_S,
            )
        except Tpu2GpuError as error:
            return "", error.message
        return str(version), ""

    def early_build(self, request: Request, folder: Path) -> AbstractContextManager[EarlyBuild | None]:
        """Return what builds the engine while the ONNX file is compared; nothing where that would disturb it."""
        if self.measures or request.options.int8:  # which puts another file in the place of the first
            return nullcontext()

        def plan(written: Mapping[str, Any]) -> dict[str, Any]:
            profiles = self._fitted_profiles(request, {**written, "no_engine_because": ""})
            return self._build_arguments(request, folder, written, profiles)

        def build(arguments: dict[str, Any], stop: threading.Event) -> Built:
            return self._build_in_child(request, folder / ONNX_FILE, arguments, stop)

        return EarlyBuild(plan, build, folder / self.engine_file)

    def engine(
        self,
        request: Request,
        staging: Staging,
        converted: Mapping[str, Any],
        profiles: Sequence[Profile],
        references: Path,
        progress: Progress,
        early: EarlyBuild | None,
    ) -> tuple[dict[str, Any] | None, str]:
        """Build an engine of the ONNX file, and run it where this machine's GPU can; see `Onnx.engine`.

        Raises:
            EngineRefusedError: The builder does not take the model.
            EnvironmentLacksError: The builder or the GPU gave up.
        """
        progress("building the engine", 1, STEPS)
        try:
            engine = self._build(request, staging.folder, converted, profiles, early)
        except ConversionError as error:
            staging.report["engine_refused"] = error.to_json()
            raise EngineRefusedError.of(error, converted["refused"]) from error
        executed = self._execute(request, engine, converted, staging.folder, references)
        if executed is not None:
            engine["executed"] = executed
        staging.report["engine"] = engine
        return engine, ""

    def _build(
        self,
        request: Request,
        folder: Path,
        converted: Mapping[str, Any],
        profiles: Sequence[Profile],
        early: EarlyBuild | None,
    ) -> dict[str, Any]:
        arguments, onnx_path = self._build_arguments(request, folder, converted, profiles), folder / ONNX_FILE
        try:
            built = None if early is None else early.take(arguments)
            engine, rss = built or self._build_in_child(request, onnx_path, arguments)
        except WorkerDiedError as error:
            place = find_crash(
                onnx_path,
                lambda part: self._dies(request, part, arguments),
                seconds=min(_CRASH_S, request.options.timeout_s),
            )
            found = [] if place is None else [str(place)]
            raise WorkerDiedError(error.message, details=[*found, *error.details], hint=error.hint) from error
        gpu = self.targets(request.options)[1]
        return {**engine, "gpu": gpu, "file": self.engine_file, "peak_rss_bytes": rss}

    def _build_arguments(
        self, request: Request, folder: Path, converted: Mapping[str, Any], profiles: Sequence[Profile]
    ) -> dict[str, Any]:
        refuse_float64(converted)
        options = request.options
        return {
            "backend": self.name,
            "engine_path": str(folder / self.engine_file),
            "profiles": list(profiles),
            "compute_capabilities": list(self.targets(options)[0]),
            "hardware_compatibility": options.hardware_compatibility,
            "timing_cache": options.timing_cache and str(Path(options.timing_cache).resolve()),
        }

    def _build_in_child(
        self,
        request: Request,
        onnx_path: Path,
        arguments: Mapping[str, Any],
        stop: threading.Event | None = None,
    ) -> Built:
        Path(arguments["engine_path"]).parent.mkdir(exist_ok=True)
        return request.in_child(
            f"{_BUILD}:build_engine",
            self.title,
            self.environment,
            preload=_PRELOAD,
            stop=stop,
            onnx_path=str(onnx_path),
            **arguments,
        )

    def _dies(self, request: Request, onnx_path: Path, arguments: Mapping[str, Any]) -> bool:
        """Tell whether the builder dies on a part of the model; what it refuses otherwise does not count."""
        try:
            self._build_in_child(request, onnx_path, arguments)
        except WorkerDiedError:
            return True
        except Tpu2GpuError:
            return False
        return False

    def _execute(
        self, request: Request, engine: Mapping[str, Any], converted: Mapping[str, Any], folder: Path, references: Path
    ) -> dict[str, Any] | None:
        """Run the engine and compare it with the source; None where no GPU of this machine can."""
        gpus = find_gpus()
        if not gpus or engine_of(engine).mismatch(gpus[0]):
            return None
        executed, _ = request.in_child(
            f"{_BUILD}:run_engine",
            f"the engine on the {gpus[0].name}",
            self.environment,
            backend=self.name,
            engine_path=str(folder / self.engine_file),
            names=converted["onnx_names"],
            reference_folder=str(references),
            suppresses=(converted.get("suppression") or {}).get("part") == CORE,
        )
        return dict(executed)

    def runner(self, path: Path, *, signature: str = "serving_default") -> Runner:
        """Open an engine on this machine's GPU."""
        return EngineRunner(path, library=self.library)

    def verification(self, plan: Plan) -> str:
        """Tell whether the engine was executed."""
        if plan.verified_level == "engine_executed":
            both = f"The engine was executed on a GPU, and so was {ONNX_FILE} on a CPU"
            return f"{both}; both were compared with the source."
        unverified = "An engine was built but not executed: no GPU that it is for was present. "
        return unverified * (plan.verified_level == "engine_built") + super().verification(plan)

    def readme_rows(self, plan: Plan, folder: Path) -> list[str]:
        """Describe the ONNX file and, where there is one, the engine."""
        rows = super().readme_rows(plan, folder)
        return [*rows, self.engine_row(plan.versions[self.name])] if plan.core.engine.file else rows

    @abstractmethod
    def engine_row(self, version: str) -> str:
        """Describe the engine in a row of the README's table.

        Args:
            version: The version of the library that built it.
        """


def refuse_float64(converted: Mapping[str, Any]) -> None:
    """Refuse an engine for a model that computes in float64.

    Raises:
        ConversionError: It does.
    """
    specs = [*converted["inputs"], *converted["outputs"]]
    if "float64" in converted["weights_size_bytes"] or any(spec["dtype"] == "float64" for spec in specs):
        raise ConversionError(
            "the model computes in float64, for which TensorRT takes float32 without a word",
            hint="cast it to float32 or float16 first, or convert with --backend onnx",
        )


def polygraphy_profiles(library: Library, trt: ModuleType, plan: BuildPlan) -> list[Any]:
    """Return a plan's profiles in Polygraphy's form, and make Polygraphy use these bindings."""
    sys.modules.setdefault(library.name, trt)  # Polygraphy imports the bindings by this name
    from polygraphy.backend.trt import Profile as PolygraphyProfile
    from polygraphy.logger import G_LOGGER

    G_LOGGER.module_severity = G_LOGGER.WARNING
    profiles = []
    for bounds in plan.profiles:
        profiles.append(PolygraphyProfile())
        for name, (low, opt, high) in bounds.items():
            profiles[-1].add(name, tuple(low), tuple(opt), tuple(high))
    return profiles
