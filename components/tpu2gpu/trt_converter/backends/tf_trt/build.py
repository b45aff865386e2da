"""TF-TRT's converter, run on a GPU: engines inside a SavedModel, built for given shapes, compared with the source.

It runs in a process of its own, since TensorFlow aborts where it does not like its TensorRT library.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tpu2gpu.errors import ConversionError
from tpu2gpu.graphs.formats.saved_model import serving_meta_graph
from tpu2gpu.running.arrays import Array
from tpu2gpu.running.examples.probes.find_domains import domains_of
from tpu2gpu.running.examples.probes.probes import make_probes
from tpu2gpu.running.local.saved_model_runner import SavedModelRunner
from tpu2gpu.trt_converter.backends.tf_trt.coverage import EngineCoverage, coverage_of
from tpu2gpu.trt_converter.backends.tf_trt.segment import PRECISIONS, PROFILE_STRATEGY, check_tensorflow, printed
from tpu2gpu.trt_converter.feeds import feeds_for
from tpu2gpu.trt_converter.parity import compare_models
from tpu2gpu.trt_converter.partition.costs import costs_of_graph
from tpu2gpu.trt_converter.profiles import Profile, fit_profiles

ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "0", "TF_CPP_VMODULE": "segment=1"}
_ENGINE_FILES = "assets/trt-serialized-engine.*"


def convert(
    *,
    source: str,
    target: str,
    signature: str,
    precision: str,
    minimum_segment_size: int,
    profiles: Sequence[Profile],
    examples: Sequence[str],
    reading: Mapping[str, Any],
    limit: int,
    reference_folder: str,
    trust: Sequence[str] = (),
) -> dict[str, Any]:
    """Convert a SavedModel; the arguments and the result are plain data.

    Args:
        source: The SavedModel's folder.
        target: The SavedModel to write.
        signature: Which signature.
        precision: `float32`, `float16` or `int8`, which is calibrated on the examples.
        minimum_segment_size: How few operations make an engine.
        profiles: The shapes to build engines for: the min, opt and max of each profile.
        examples: Files of examples to compare and to calibrate on.
        reading: How examples are read, see `Reading.to_json`.
        limit: Read no more examples than this.
        reference_folder: Where to leave feeds and reference outputs.
        trust: What the model may do besides computing.

    Returns:
        `coverage`; `parity`, `compared_on` and `batched` as `compare_models` gives them; the signature's `inputs` and
        `outputs`; sizes, seconds and versions.

    Raises:
        ConversionError: TF-TRT makes no engine of anything in the model.
        UsageError: A profile contradicts the model, or a dimension beside the batch is unknown.
        ExamplesError: The examples do not fit, or the source does not run on the inputs.
        ParityRefusedError: Outputs differ in name, shape or type.
    """
    import tensorflow as tf

    check_tensorflow()
    reference = SavedModelRunner(source, signature=signature, trust=trust)
    domains = domains_of(source, signature)
    sizes = _sizes(fit_profiles(reference.inputs, profiles))
    shaped = make_probes(reference.inputs, domains, sizes=sizes, kinds=())
    feeds = feeds_for(reference.inputs, sizes=sizes, examples=examples, reading=reading, domains=domains, limit=limit)
    started = time.perf_counter()
    converter, coverage = rewrite(
        source, reference, signature, precision, minimum_segment_size, feeds.batches if precision == "int8" else ()
    )
    rewritten = time.perf_counter()
    converter.build(input_fn=_giving([probe.feeds for probe in shaped.batches]))
    converter.save(target)
    built = time.perf_counter()
    names = {
        side: {spec.name: spec.name for spec in specs}
        for side, specs in (("inputs", reference.inputs), ("outputs", reference.outputs))
    }
    found = compare_models(
        reference,
        SavedModelRunner(target, signature=signature, trust=trust, engines=True),
        names,
        feeds,
        Path(reference_folder),
    )
    return {
        **found,
        "coverage": coverage.to_json(),
        "inputs": [spec.to_json() for spec in reference.inputs],
        "outputs": [spec.to_json() for spec in reference.outputs],
        "engine_size_bytes": sum(file.stat().st_size for file in Path(target).glob(_ENGINE_FILES)),
        "conversion_s": rewritten - started,
        "build_s": built - rewritten,
        "parity_s": time.perf_counter() - built,
        "versions": {"tensorflow": tf.__version__},
    }


def rewrite(
    source: str,
    reference: SavedModelRunner,
    signature: str,
    precision: str,
    minimum_segment_size: int,
    calibrate_on: Sequence[Mapping[str, Array]],
) -> tuple[Any, EngineCoverage]:
    """Let TF-TRT put engines into the graph, which are not built yet; return its converter, and what it did.

    Raises:
        ConversionError: It makes no engine of anything in the model.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    converter = tf.experimental.tensorrt.Converter(
        input_saved_model_dir=source,
        input_saved_model_tags=sorted(serving_meta_graph(source).meta_info_def.tags),
        input_saved_model_signature_key=signature,
        use_dynamic_shape=True,
        dynamic_shape_profile_strategy=PROFILE_STRATEGY,
        precision_mode=PRECISIONS[precision],
        minimum_segment_size=minimum_segment_size,
        use_calibration=precision == "int8",
    )
    with printed() as log:
        function = converter.convert(calibration_input_fn=_giving(calibrate_on) if calibrate_on else None)
    given = convert_variables_to_constants_v2(reference.function).graph.as_graph_def()
    converted = function.graph.as_graph_def()
    coverage = coverage_of(converted, given, costs_of_graph(given), log[0], minimum_segment_size)
    if not coverage.engines:
        raise ConversionError(
            "TF-TRT makes no engine of anything in this model",
            details=[f"{len(each.nodes)} {each.op}: {each.reason}" for each in coverage.left_out],
            hint="lower --minimum-segment-size, or convert with --backend onnx",
        )
    return converter, coverage


def _sizes(profiles: Sequence[Profile]) -> list[dict[str, Any]]:
    """Return all shapes of all profiles, as `feeds_for` takes them."""
    found = []
    for profile in profiles:
        for position in range(3):
            shapes = {name: list(bounds[position]) for name, bounds in profile.items()}
            batch = next((shape[0] for shape in shapes.values() if shape), 1)
            found.append({"batches": [batch], "shapes": shapes})
    return found


def _giving(batches: Sequence[Mapping[str, Array]]) -> Callable[[], Iterator[dict[str, Array]]]:
    return lambda: (dict(batch) for batch in batches)
