"""INT8 by explicit quantisation: ONNX Runtime's static quantiser, calibrated on examples, and what it costs each layer.

It runs in a process of its own and replaces an ONNX file by one with QuantizeLinear and DequantizeLinear around what is
computed in 8 bits. Accuracy is not assumed: outputs are compared with the source's, and the LatencyEvaluator measures
what remains of the model's quality.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tpu2gpu.errors import ConversionError, ExamplesError, UsageError, foreign_errors
from tpu2gpu.running.arrays import Array
from tpu2gpu.running.local.onnx_runner import OnnxRunner
from tpu2gpu.storage.unfinished import scratch
from tpu2gpu.trt_converter.feeds import saved_feeds
from tpu2gpu.trt_converter.onnx.validate import check_onnx, describe_onnx
from tpu2gpu.trt_converter.parity import compare_saved

METHODS = ("minmax", "entropy", "percentile")
_QUANTISED = ("Conv", "ConvTranspose", "MatMul", "Gemm")
_SHOWN = 50


def quantise(
    *,
    onnx_path: str,
    reference_folder: str,
    names: Mapping[str, Mapping[str, str]],
    per_channel: bool,
    exclude: list[str],
    ranges_by: str,
) -> dict[str, Any]:
    """Quantise a file in place; the arguments and the result are plain data.

    Args:
        onnx_path: The ONNX file, which computes in float32.
        reference_folder: Feeds to calibrate on, and the reference's outputs to compare with.
        names: The file's names of inputs and outputs.
        per_channel: A scale for each channel of a weight, instead of one for all.
        exclude: What stays as it is: kinds of operation, names of tensors, or patterns of nodes' names.
        ranges_by: How ranges are found: `minmax`, `entropy` or `percentile`.

    Returns:
        What `describe_onnx` says of the new file; `parity`; `quantised`, the nodes; `sensitivity`, the tensors
        in 8 bits with the node that gives each and their signal-to-noise ratios in dB, the worst first.

    Raises:
        UsageError: A pattern fits nothing.
        ConversionError: There is nothing to quantise, or the quantiser does not take the model.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    started = time.perf_counter()
    feeds = [_renamed(batch, names["inputs"]) for batch in saved_feeds(Path(reference_folder)).batches]
    calibrating = feeds[1:] or feeds  # all of one size, as histograms want them; the first batch is smaller
    with scratch() as folder:
        prepared, quantised = str(folder / "prepared.onnx"), str(folder / "quantised.onnx")
        with foreign_errors(ConversionError, "ONNX Runtime cannot quantise the model", hint="leave --int8 out"):
            quant_pre_process(onnx_path, prepared, skip_symbolic_shape=True)
            graph = onnx.load(prepared).graph
            nodes = [node for node in graph.node if node.op_type in _QUANTISED]
            excluded = _excluded(nodes, exclude)
            kept = [node.name for node in nodes if node.name not in excluded]
            if not kept:
                raise ConversionError(
                    f"--int8: the model has none of {', '.join(_QUANTISED)} left to quantise",
                    hint="leave --int8 out, or exclude less",
                )
            quantize_static(
                prepared,
                quantised,
                _Reader(calibrating),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(_QUANTISED),
                nodes_to_exclude=sorted(excluded),
                per_channel=per_channel,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=getattr(
                    CalibrationMethod, {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}[ranges_by]
                ),
                # What engines want: symmetric ranges, and biases in float32.
                extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
            )
            givers = {tensor: node.name for node in graph.node for tensor in node.output}
            sensitivity = [
                {**row, "node": givers.get(row["tensor"], "")}  # an input has none
                for row in _sensitivity(prepared, quantised, feeds[-1], folder)
            ]
        model = onnx.load(quantised)
    check_onnx(model)
    Path(onnx_path).write_bytes(model.SerializeToString(deterministic=True))
    runner = OnnxRunner(onnx_path, providers=["CPUExecutionProvider"])
    return {
        **describe_onnx(model),
        **compare_saved(runner, names, Path(reference_folder)),
        "size_bytes": Path(onnx_path).stat().st_size,
        "quantised": kept,
        "excluded": sorted(excluded),
        "method": ranges_by,
        "per_channel": per_channel,
        "calibrated_on": sum(len(next(iter(batch.values()))) for batch in calibrating),
        "sensitivity": sensitivity,
        "quantisation_s": time.perf_counter() - started,
    }


class _Reader:
    """Feeds for the quantiser, which walks them as often as it likes."""

    def __init__(self, feeds: Sequence[Mapping[str, Array]]) -> None:
        self._feeds = feeds
        self._left: Iterator[Mapping[str, Array]] = iter(feeds)

    def get_next(self) -> Mapping[str, Array] | None:
        """Return the next feed, None at the end."""
        return next(self._left, None)

    def rewind(self) -> None:
        """Start again."""
        self._left = iter(self._feeds)

    def __iter__(self) -> Iterator[Mapping[str, Array]]:
        return iter(self._feeds)


def _renamed(batch: Mapping[str, Array], names: Mapping[str, str]) -> dict[str, Array]:
    if not batch:
        raise ExamplesError("--int8: there are no examples to calibrate on")
    return {names[name]: array for name, array in batch.items()}


def _excluded(nodes: Sequence[Any], patterns: Sequence[str]) -> set[str]:
    """Return the nodes whose op or name a pattern fits; or those that take or give the tensor that it names.

    Raises:
        UsageError: A pattern is none, or fits nothing; all such are listed.
    """
    found: set[str] = set()
    wrong = []
    for pattern in patterns:
        if around := {node.name for node in nodes if pattern in (*node.input, *node.output)}:
            found |= around
            continue
        try:
            fits = {node.name for node in nodes if node.op_type == pattern or re.search(pattern, node.name)}
        except re.error as error:
            wrong.append(f"{pattern}: not a regular expression ({error})")
            continue
        if not fits:
            wrong.append(f"{pattern}: fits no node that would be quantised")
        found |= fits
    if wrong:
        raise UsageError(
            "--int8-exclude",
            details=wrong,
            hint="report.json lists nodes under int8.quantised and tensors under int8.sensitivity",
        )
    return found


def _sensitivity(prepared: str, quantised: str, feed: Mapping[str, Array], scratch: Path) -> list[dict[str, Any]]:
    """Measure how much of each tensor in 8 bits is noise, once alone and once with all that went wrong before it."""
    from onnxruntime.quantization.qdq_loss_debug import (
        collect_activations,
        compute_activation_error,
        create_activation_matching,
        modify_model_output_intermediate_tensors,
    )

    values = []
    for name in (prepared, quantised):
        opened = str(scratch / f"opened-{Path(name).name}")
        modify_model_output_intermediate_tensors(name, opened)
        values.append(collect_activations(opened, _Reader([feed])))
    errors = compute_activation_error(create_activation_matching(values[1], values[0]))
    ranked = [
        {"tensor": tensor, "alone_db": _finite(found["qdq_err"]), "in_the_model_db": _finite(found["xmodel_err"])}
        for tensor, found in errors.items()
        if "xmodel_err" in found
    ]
    return sorted(ranked, key=lambda each: (each["in_the_model_db"], each["tensor"]))[:_SHOWN]


def _finite(decibel: float) -> float:
    return float(np.clip(decibel, -999, 999))
