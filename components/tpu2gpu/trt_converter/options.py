"""Options and result of `convert_model`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs

from tpu2gpu.errors import UsageError
from tpu2gpu.graphs.trust.trust_option import trust_option
from tpu2gpu.options import option
from tpu2gpu.running.examples.reading import ExampleOptions
from tpu2gpu.trt_converter.backend_registry import AUTO, BACKENDS

_PROTOBUF_LIMIT_BYTES = (1 << 31) - 1


_MUCH = 0.5  # of the compute; with less in the core, a conversion is not what it was meant for
_CAPABILITIES = ("75", "80", "86", "89", "120", "121")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@attrs.frozen(kw_only=True)
class ConvertOptions(ExampleOptions):
    """Options of a conversion. Every field is a flag of `tpu2gpu convert`."""

    backend: str = option(
        "auto",
        "what to build: `onnx` alone, or an engine as well; `auto` takes the best engine builder that is here",
        choices=lambda cls: (AUTO, *BACKENDS),
    )
    signature: str = option("serving_default", "which signature of the SavedModel")
    opset: int = option(17, "version of ONNX's operations", minimum=17)
    max_onnx_bytes: int = option(
        _PROTOBUF_LIMIT_BYTES,
        "size beyond which the weights get a file of their own beside model.onnx; protobuf's limit when not given",
        minimum=0,
        metavar="BYTES",
    )
    profile: tuple[str, ...] = option(
        (),
        "shapes that the engine takes: batch sizes (1:8:32) or whole shapes, with commas between inputs; an input that "
        "comes again begins another profile",
        metavar="INPUT=MIN:OPT:MAX",
    )
    compute_capability: tuple[str, ...] = option(
        (), "GPUs that tensorrt_rtx builds for, 89 for 8.9; all but 75 when not given", choices=_CAPABILITIES
    )
    hardware_compatibility: str = option(
        "none",
        "GPUs that tensorrt builds for: this machine's alone, its compute capability, or 8.0 and newer",
        choices=("none", "same_compute_capability", "ampere_plus"),
    )
    timing_cache: str = option("", "file of times that tensorrt has measured, read and added to", metavar="FILE")
    tf_trt_precision: str = option(
        "float32", "what tf_trt's engines compute in, unless --int8 is given", choices=("float32", "float16")
    )
    minimum_segment_size: int = option(3, "how few operations make an engine of tf_trt", minimum=1)
    nms: str = option(
        "auto",
        "where non-max suppression runs: `beside` the core, or in the `engine` (or ONNX file) that is the core; `auto` "
        "keeps it in an ONNX file and out of engines",
        choices=("auto", "beside", "engine"),
    )
    layout: str = option("triton", "what to put around the files", choices=("triton", "tf_serving", "plain"))
    triton_backend: str = option(
        "onnxruntime", "what runs the model in Triton", choices=("onnxruntime", "tensorrt", "python")
    )
    name: str = option("model", "the model's name in Triton and TensorFlow Serving")
    model_version: int = option(1, "the number of the model's version there", minimum=1)
    tolerance: float | None = option(
        None,
        "largest allowed difference from the source, relative to the largest value; by dtype when not given: "
        "0.002 for float32, 0.03 for float16",
        minimum=0,
    )
    examples: tuple[str, ...] = option(
        (), "examples to compare on, files in any form; synthetic inputs when not given", metavar="FILES"
    )
    int8: bool = option(False, "quantise to 8-bit integers; wants --examples to calibrate on")
    int8_examples: int = option(64, "how many of the examples to calibrate and compare on", minimum=1, metavar="N")
    int8_per_channel: bool = option(True, "a scale for each channel of a weight")
    int8_exclude: tuple[str, ...] = option(
        (),
        "leave these nodes as they are: a kind of operation, a tensor's name, or a pattern of nodes' names",
        metavar="OP|TENSOR|REGEX",
    )
    int8_method: str = option("minmax", "how ranges are found", choices=("minmax", "entropy", "percentile"))
    min_coverage: float = option(
        0.0, "smallest share of the compute, 0 to 1, that the core must hold; refuse a model with less", minimum=0
    )
    trust: tuple[str, ...] = trust_option()
    timeout_s: float = option(3600.0, "seconds that each back end may take", minimum=1)
    memory_limit_mib: int | None = option(None, "MiB of memory that each back end may take", minimum=1)

    def __attrs_post_init__(self) -> None:
        """Check what no option says alone.

        Raises:
            UsageError: The size is more than a file can have, the share more than all, or an option of examples has
                another form.
        """
        super().__attrs_post_init__()
        if self.max_onnx_bytes > _PROTOBUF_LIMIT_BYTES:
            raise UsageError(
                f"--max-onnx-bytes {self.max_onnx_bytes}: protobuf reads messages of at most "
                f"{_PROTOBUF_LIMIT_BYTES:,} bytes"
            )
        if self.min_coverage > 1:
            raise UsageError(f"--min-coverage {self.min_coverage:g}: must be at most 1, which is all of the compute")


@attrs.frozen
class ConvertResult:
    """A finished conversion.

    Attributes:
        target: The serving folder.
        backend: `tensorrt_rtx` or `tensorrt` where there is an engine, `onnx` otherwise.
        backend_version: Of that TensorRT, or of ONNX Runtime.
        dtype: The number type of most weights.
        verified_level: `onnx_cpu`, `engine_built` or `engine_executed`.
        engine_coverage: Share of the model's operations that an engine runs, 0 to 1.
        core_coverage: Share of the model's compute that lies in the core: in the ONNX file, or in engines of TF-TRT.
        relative_error: Largest difference from the source, relative to the largest value.
        tolerance: How much of it was allowed.
        onnx_size_bytes: Size of the ONNX file.
        engine_size_bytes: Size of the engine; 0 without one.
        build_s: Seconds that building the engine took; 0 without one.
        peak_rss_bytes: Largest resident memory of a back end's process.
        metrics: Flat numbers with their units in the keys.
        report: What report.json holds.
    """

    target: Path
    backend: str
    backend_version: str
    dtype: str
    verified_level: str
    engine_coverage: float
    core_coverage: float
    relative_error: float
    tolerance: float
    onnx_size_bytes: int
    engine_size_bytes: int
    build_s: float
    peak_rss_bytes: int
    metrics: dict[str, float]
    report: dict[str, Any]

    @property
    def remarks(self) -> list[str]:
        """What a reader should not overlook."""
        if self.core_coverage >= _MUCH:
            return []
        share = f"only {100 * self.core_coverage:.1f} % of the compute lies in the core, TensorFlow runs the rest"
        return [f"{share}: an accelerator has little to speed up; --min-coverage refuses such a model"]


def check_name(name: str) -> None:
    """Check that a name can be a model's.

    Raises:
        UsageError: It cannot.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"--name {name}: a model's name consists of letters, digits, '_', '-' and '.'")
