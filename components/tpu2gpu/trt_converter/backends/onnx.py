"""ONNX Runtime as a back end; what builds engines begins with its ONNX file."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tpu2gpu.errors import UnsupportedError, UsageError
from tpu2gpu.progress import Progress
from tpu2gpu.running.comparison.tolerances import conversion_tolerance
from tpu2gpu.running.examples.reading import EXAMPLE_FIELDS
from tpu2gpu.running.local.external_data import DATA_SUFFIX
from tpu2gpu.running.local.onnx_runner import OnnxRunner
from tpu2gpu.running.runner import Runner, TensorSpec
from tpu2gpu.running.serving_plan import Plan
from tpu2gpu.storage.publishing import Staging
from tpu2gpu.storage.unfinished import scratch
from tpu2gpu.trt_converter.backends.base import STEPS, Availability, BackEnd, Conversion, installed_version
from tpu2gpu.trt_converter.backends.onnx_plan import ONNX_FILE, make_plan
from tpu2gpu.trt_converter.early_answers import early_answers
from tpu2gpu.trt_converter.onnx import convert as onnx
from tpu2gpu.trt_converter.onnx.handlers.emulated_quantization import INT8
from tpu2gpu.trt_converter.parity import check_parity
from tpu2gpu.trt_converter.partition.refused_nodes import EngineRefusedError, Refusal
from tpu2gpu.trt_converter.profiles import Profile, compared_sizes, fit_profiles, for_part

if TYPE_CHECKING:
    from tpu2gpu.hardware.cuda import Gpu
    from tpu2gpu.trt_converter.backends.early_build import EarlyBuild
    from tpu2gpu.trt_converter.options import ConvertOptions
    from tpu2gpu.trt_converter.request import Request

_SHOWN = 3  # names of operations
_PACKAGES = ("tensorflow", "tf2onnx", "onnx", "onnxruntime")


class Onnx(BackEnd):
    """An ONNX file, run by ONNX Runtime."""

    name, title = "onnx", "ONNX Runtime"
    heeds = frozenset(
        [
            *("profile", "tolerance", "examples", *EXAMPLE_FIELDS, "opset", "max_onnx_bytes", "triton_backend", "nms"),
            *("int8", "int8_examples", "int8_per_channel", "int8_exclude", "int8_method"),
        ]
    )

    def probe(self) -> Availability:
        """Look for the packages that convert and run ONNX files."""
        missing = [package for package in _PACKAGES if not installed_version(package)]
        here = "runs on every CPU, and on GPUs with their provider"
        reason = f"not installed: {', '.join(missing)}" if missing else here
        return Availability(self.name, not missing, installed_version("onnxruntime"), reason)

    def preference(self, gpu: Gpu | None) -> int | None:
        """Return the least: an engine is better."""
        return 0

    def contradictions(self, options: ConvertOptions) -> list[str]:
        """Refuse Triton's back end for engines of data-center TensorRT."""
        if options.layout != "triton" or options.triton_backend != "tensorrt":
            return []
        wrong = f"--triton-backend tensorrt: it loads engines of data-center TensorRT, and {self.title} builds none"
        return [f"{wrong}; an engine of TensorRT-RTX is never a model for Triton"]

    def convert(self, request: Request, staging: Staging, progress: Progress) -> Conversion:
        """Convert to ONNX, compare, quantise where that is asked for, and build an engine where this is a builder.

        Where the builder refuses a node, the model is cut around it and converted anew, until the engine stands.
        """
        refused: Refusal | None = None
        while True:
            try:
                return self._convert_once(request, staging, progress, refused)
            except EngineRefusedError as error:
                refused = error.refusal
                _empty(staging.folder)

    def _convert_once(
        self, request: Request, staging: Staging, progress: Progress, refused: Refusal | None
    ) -> Conversion:
        with scratch() as references, self.early_build(request, staging.folder) as early:
            progress("converting to ONNX and comparing", 0, STEPS)
            converted = self._to_onnx(request, staging, references, refused, early)
            if request.options.int8:
                progress("quantising", 0, STEPS)
                converted = self._to_int8(request, staging, converted, references)
            # What the source quantises is the same arithmetic on both sides; what is quantised here is not.
            tolerance = request.tolerance("int8" if request.options.int8 else converted["weights_dtype"])
            error = check_parity(converted["parity"], tolerance, f"{ONNX_FILE} in ONNX Runtime", converted["findings"])
            if converted["partition"] and not request.options.int8:  # in 8 bits the core alone is compared
                error = max(error, check_parity(converted["partition"]["parity"], tolerance, "the chain of all parts"))
            profiles = self._fitted_profiles(request, converted)
            engine, why_no_engine = None, str(converted["no_engine_because"])
            if not why_no_engine:
                engine, why_no_engine = self.engine(request, staging, converted, profiles, references, progress, early)
            if engine is not None and "executed" in engine:
                executed = engine["executed"]["parity"]
                error = max(error, check_parity(executed, request.tolerance(converted["dtype"]), "the engine"))
        plan = make_plan(converted, engine, tolerance, error)
        return Conversion(
            plan=plan,
            backend_version=plan.versions["onnxruntime" if engine is None else self.name],
            saved_model=request.source,
            onnx_size_bytes=converted["size_bytes"],
            engine_size_bytes=0 if engine is None else engine["size_bytes"],
            build_s=0.0 if engine is None else engine["build_s"],
            peak_rss_bytes=max(each["peak_rss_bytes"] for each in (converted, engine or converted)),
            metrics={
                "conversion_s": converted["conversion_s"],
                "parity_s": converted["parity_s"],
                "operations": sum(converted["ops"].values()),
                "weights_size_bytes": sum(converted["weights_size_bytes"].values()),
                "opset": converted["opset"],
            },
            why_no_engine=why_no_engine,
            core_coverage=float((converted["partition"] or {}).get("core_share", 1.0)),
            batched=converted["batched"],
            profiles=profiles,
            notes=quantisation_notes(converted["emulated_quantisation"]),
        )

    def early_build(self, request: Request, folder: Path) -> AbstractContextManager[EarlyBuild | None]:
        """Return what begins to build an engine when the ONNX file stands; nothing, as ONNX Runtime needs none."""
        return nullcontext()

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
        """Build an engine of the ONNX file, and run it where this machine's GPU can; none, as ONNX Runtime needs none.

        Args:
            request: What was asked for.
            staging: The folder that holds the ONNX file, and its report.
            converted: What the conversion to ONNX found.
            profiles: For each profile and each input, by ONNX name, its min, opt and max shape.
            references: The folder of the feeds and the source's outputs.
            progress: Told of the step.
            early: What may have begun to build it.

        Returns:
            What is known of the engine, with `executed` where it was; None without one, and why.

        Raises:
            EngineRefusedError: The builder refuses the model; it is cut around what is named.
        """
        return None, ""

    def runner(self, path: Path, *, signature: str = "serving_default") -> Runner:
        """Open an ONNX file on the CPU."""
        return OnnxRunner(path, providers=["CPUExecutionProvider"])

    def verification(self, plan: Plan) -> str:
        """Tell that ONNX Runtime ran the file."""
        return f"{ONNX_FILE} was executed in ONNX Runtime on a CPU and compared with the source."

    def readme_rows(self, plan: Plan, folder: Path) -> list[str]:
        """Describe the ONNX file."""
        weights = "its weights lie beside it" if _data_of(folder / ONNX_FILE).is_file() else "weights included"
        return [f"| `{ONNX_FILE}` | the model, {weights} | ONNX Runtime on CPUs and on every NVIDIA GPU |"]

    def _to_onnx(
        self,
        request: Request,
        staging: Staging,
        references: Path,
        refused: Refusal | None,
        early: EarlyBuild | None,
    ) -> dict[str, Any]:
        options = request.options
        sizes = [compared_sizes(profile) for profile in request.profiles or [{}]]
        with early_answers(request, sizes=sizes) as answers:
            converted, rss = request.in_child(
                "tpu2gpu.trt_converter.partition.convert_parts:convert",
                "the conversion to ONNX",
                onnx.ENVIRONMENT,
                preload=onnx.PRELOAD,
                hear=None if early is None else early.start,
                source=str(request.source.resolve()),
                signature=options.signature,
                opset=options.opset,
                onnx_path=str(staging.folder / ONNX_FILE),
                reference_folder=str(references),
                examples=list(options.examples),
                reading=request.reading,
                profiles=request.profiles,
                for_engine=self.builds_engine,
                engine_is_optional=request.engine_is_optional,
                refused=refused,
                nms=options.nms,
                limit_bytes=options.max_onnx_bytes,
                trust=list(options.trust),
                tolerance=options.tolerance,
                answers=None if answers is None else str(answers),
                sizes=sizes,
                limit=request.example_limit,
            )
        staging.report["onnx"] = {**converted, "peak_rss_bytes": rss}
        return dict(staging.report["onnx"])

    def _to_int8(
        self, request: Request, staging: Staging, converted: dict[str, Any], references: Path
    ) -> dict[str, Any]:
        """Put a quantised file in the place of the one in float32, which has been compared with the source by then."""
        if converted["dtype"] != "float32":
            raise UsageError(
                f"--int8: the model computes in {converted['dtype']}", hint="quantise the model in float32 instead"
            )
        path, options = staging.folder / ONNX_FILE, request.options
        if _data_of(path).exists():
            raise UnsupportedError(
                f"--int8: the weights take {converted['size_bytes']:,} bytes, and ONNX Runtime quantises what one file "
                f"of {options.max_onnx_bytes:,} holds",
                hint="leave --int8 out, and cast the model to float16 instead",
            )
        before = f"{ONNX_FILE} in ONNX Runtime, before quantisation,"
        check_parity(converted["parity"], conversion_tolerance("float32"), before, converted["findings"])
        found, rss = request.in_child(
            "tpu2gpu.trt_converter.onnx.quantize:quantise",
            "the quantisation",
            onnx.ENVIRONMENT,
            preload=onnx.PRELOAD,
            onnx_path=str(path),
            reference_folder=str(references),
            names=converted["onnx_names"],
            per_channel=options.int8_per_channel,
            exclude=list(options.int8_exclude),
            ranges_by=options.int8_method,
        )
        staging.report["int8"] = {**found, "peak_rss_bytes": rss}
        changed = {name: found[name] for name in found if name in converted}
        return {**converted, **changed, "peak_rss_bytes": max(rss, converted["peak_rss_bytes"])}

    def _fitted_profiles(self, request: Request, converted: Mapping[str, Any]) -> list[Profile]:
        """Fit profiles to the core, by ONNX names; none where none was given, a shape is unknown and none is needed."""
        specs = [TensorSpec.from_json(spec) for spec in converted["inputs"]]
        names, profiles = converted["onnx_names"]["inputs"], request.profiles
        try:
            if converted["partition"]:
                whole = [TensorSpec.from_json(spec) for spec in converted["partition"]["inputs"]]
                profiles = for_part(specs, whole, profiles)
            fitted = fit_profiles(specs, profiles)
        except UsageError:
            if (self.builds_engine and not converted["no_engine_because"]) or request.profiles:
                raise
            return []
        return [{names[name]: bounds for name, bounds in profile.items()} for profile in fitted]


def quantisation_notes(fates: Mapping[str, str]) -> list[str]:
    """Tell what became of the quantisation that the source emulates; nothing where it emulates none.

    Args:
        fates: For each operation `int8`, or why it stays in floating point.
    """
    if not fates:
        return []
    reasons: dict[str, list[str]] = {}
    for name, fate in sorted(fates.items()):
        reasons.setdefault(fate.partition(": ")[0], []).append(name)
    count = len(reasons.pop(INT8, []))
    kept = [f"{why}: {', '.join(names[:_SHOWN])}{_more(names)}" for why, names in reasons.items()]
    return [
        f"Quantised in training: {count} of {len(fates)} tensors pass through int8."
        + f" The others stay in floating point, with the source's own rounding ({'; '.join(kept)})." * bool(kept)
    ]


def _more(names: Sequence[str]) -> str:
    return f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _data_of(path: Path) -> Path:
    return path.with_name(path.name + DATA_SUFFIX)
