"""TF-TRT's own segmenter, run on a graph without a GPU: nothing is built and nothing is written.

It runs in a process of its own, since TensorFlow aborts where it does not like its TensorRT library.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tpu2gpu.errors import EnvironmentLacksError
from tpu2gpu.running.local.saved_model_runner import SavedModelRunner
from tpu2gpu.trt_converter.backends.tf_trt.coverage import coverage_of
from tpu2gpu.trt_converter.partition.costs import costs_of_graph

ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_CPP_MIN_LOG_LEVEL": "0",
    "TF_CPP_VMODULE": "segment=1",  # it names each node that it refuses, and why
}
PRECISIONS = {"float32": "FP32", "float16": "FP16", "int8": "INT8"}
PROFILE_STRATEGY = "Range+Optimal"  # one profile from the smallest shape to the largest, and one for each
_WORKSPACE_BYTES = 1 << 30
_OPTIMIZERS = ("pruning", "debug_stripper", "layout", "dependency", "constfold", "common_subgraph_elimination")
_GRAPH = b"tf_graph"  # TF-TRT takes a graph of another name for a function's body, and crashes
_STANDARD_ERROR = 2


def segment(
    *, source: str, signature: str, precision: str, minimum_segment_size: int, trust: Sequence[str] = ()
) -> dict[str, Any]:
    """Let TF-TRT cut a model into what it runs in engines and what it does not; the result is plain data.

    Args:
        source: The SavedModel's folder.
        signature: Which signature.
        precision: `float32`, `float16` or `int8`.
        minimum_segment_size: How few operations make an engine.
        trust: What the model may do besides computing.

    Returns:
        What `EngineCoverage.to_json` gives.

    Raises:
        EnvironmentLacksError: This TensorFlow was built without TF-TRT.
        SourceError: The source is no sound SavedModel.
        SignatureError: It has no such signature.
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
    from tensorflow.python.grappler import tf_optimizer

    check_tensorflow()
    runner = SavedModelRunner(source, signature=signature, trust=trust)  # it keeps the function's variables alive
    frozen = convert_variables_to_constants_v2(runner.function)
    graph_def = frozen.graph.as_graph_def()
    with printed() as log:
        converted = tf_optimizer.OptimizeGraph(
            _settings(precision, minimum_segment_size), _meta_graph(frozen, graph_def), graph_id=_GRAPH
        )
    coverage = coverage_of(converted, graph_def, costs_of_graph(graph_def), log[0], minimum_segment_size)
    return coverage.to_json()


def check_tensorflow() -> None:
    """Check that this TensorFlow has TF-TRT.

    Raises:
        EnvironmentLacksError: It was built without.
    """
    import tensorflow as tf

    if not tf.sysconfig.get_build_info().get("is_tensorrt_build"):
        raise EnvironmentLacksError(
            f"TensorFlow {tf.__version__} was built without TF-TRT",
            hint="install the package tensorflow in a version up to 2.17, not tensorflow-cpu",
        )


def _meta_graph(frozen: Any, graph_def: Any) -> Any:
    import tensorflow as tf

    meta_graph = tf.compat.v1.train.export_meta_graph(graph_def=graph_def, graph=frozen.graph)
    for tensor in (*frozen.inputs, *frozen.outputs):  # Grappler keeps what this collection names
        meta_graph.collection_def["train_op"].node_list.value.append(tensor.name)
    return meta_graph


def _settings(precision: str, minimum_segment_size: int) -> Any:
    """Return what TF-TRT's converter asks Grappler for with dynamic shapes.

    Source: tensorflow/python/compiler/tensorrt/trt_convert.py, _get_tensorrt_rewriter_config
    """
    import tensorflow as tf
    from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

    config = tf.compat.v1.ConfigProto()
    rewriting = config.graph_options.rewrite_options
    rewriting.optimizers.extend(_OPTIMIZERS)
    rewriting.remapping = RewriterConfig.OFF
    rewriting.experimental_disable_folding_quantization_emulation = True
    rewriting.meta_optimizer_iterations = RewriterConfig.ONE
    rewriting.min_graph_nodes = -1
    parameters = rewriting.custom_optimizers.add(name="TensorRTOptimizer").parameter_map
    rewriting.custom_optimizers.add(name="constfold")
    parameters["precision_mode"].s = PRECISIONS[precision].encode()
    parameters["minimum_segment_size"].i = minimum_segment_size
    parameters["max_workspace_size_bytes"].i = _WORKSPACE_BYTES
    parameters["maximum_cached_engines"].i = 1
    parameters["use_calibration"].b = precision == "int8"
    parameters["is_dynamic_op"].b = True
    parameters["allow_build_at_runtime"].b = True
    parameters["use_implicit_batch"].b = False
    parameters["profile_strategy"].s = PROFILE_STRATEGY.lower().encode()
    return config


@contextmanager
def printed() -> Iterator[list[str]]:
    """Catch what native code prints on standard error, and print it again; it is in the list afterwards."""
    texts: list[str] = []
    kept = os.dup(_STANDARD_ERROR)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), _STANDARD_ERROR)
        try:
            yield texts
        finally:
            os.dup2(kept, _STANDARD_ERROR)
            os.close(kept)
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
            os.write(_STANDARD_ERROR, texts[0].encode())
