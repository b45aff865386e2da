"""The dry run of TF-TRT: what it would run in engines, told without a GPU.

TensorFlow up to 2.17 has TF-TRT; where its TensorRT library is not there, its segmenter is not either.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tpu2gpu.errors import EnvironmentLacksError
from tpu2gpu.process.worker import run_in_child
from tpu2gpu.trt_converter.backends.tf_trt import segment as tf_trt_segmenting
from tpu2gpu.trt_converter.backends.tf_trt.availability import why_no_tf_trt
from tpu2gpu.trt_converter.backends.tf_trt.coverage import EngineCoverage

if TYPE_CHECKING:
    from tpu2gpu.trt_converter.options import ConvertOptions


def find_coverage(source: str | os.PathLike[str], options: ConvertOptions) -> EngineCoverage:
    """Tell what TF-TRT would run in engines, and why not the rest. It needs no GPU and writes nothing.

    Args:
        source: The SavedModel's folder.
        options: The signature, the precision, and how small an engine may be.

    Raises:
        EnvironmentLacksError: TensorFlow's segmenter cannot be run here; the message says what is missing.
        SourceError: The source is no sound SavedModel.
        SignatureError: It has no such signature.
    """
    if reason := why_no_tf_trt():
        raise EnvironmentLacksError(
            f"TF-TRT's segmenter cannot be run here: {reason}", hint="convert with --backend tensorrt_rtx or onnx"
        )
    limit = options.memory_limit_mib
    found, _ = run_in_child(
        "tpu2gpu.trt_converter.backends.tf_trt.segment:segment",
        {
            "source": str(Path(source).resolve()),
            "signature": options.signature,
            "precision": precision_of(options),
            "minimum_segment_size": options.minimum_segment_size,
            "trust": list(options.trust),
        },
        name="TF-TRT's segmenter",
        environment=tf_trt_segmenting.ENVIRONMENT,
        timeout_s=options.timeout_s,
        memory_limit_bytes=None if limit is None else limit << 20,
    )
    return EngineCoverage.from_json(found)


def precision_of(options: ConvertOptions) -> str:
    """Return the number type that the engines compute in."""
    return "int8" if options.int8 else options.tf_trt_precision
