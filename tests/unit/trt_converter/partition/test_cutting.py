"""A model is cut around what the converter, ONNX Runtime or an engine refuses, and answers as TensorFlow does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tpu2gpu.errors import ConversionError
from tpu2gpu.graphs.formats.saved_model import read_saved_model
from tpu2gpu.running.loading import load
from tpu2gpu.running.serving_plan import read_plan
from tpu2gpu.trt_converter.converting import convert_model
from tpu2gpu.trt_converter.options import ConvertOptions
from tpu2gpu.trt_converter.partition.refused_nodes import refused_nodes

Array = np.ndarray[Any, Any]
Function = Callable[..., Any]
RANDOM = np.random.default_rng(0)


def normal(*shape: int) -> Array:
    return RANDOM.normal(size=shape).astype(np.float32)


KERNEL, IMAGES, ROWS, WAVES = normal(3, 3, 3, 8), normal(3, 12, 16, 3), normal(5, 8), normal(3, 2048)


def network(y: Any) -> Any:
    """A convolution and a product, which an engine takes."""
    import tensorflow as tf

    return tf.matmul(tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(y, KERNEL, 1, "SAME")), [1, 2]), dense(8))


def dense(size: int) -> Array:
    return np.random.default_rng(size).normal(size=(size, 4)).astype(np.float32)


def check(folder: Path, function: Function, feeds: Mapping[str, Array], backend: str = "onnx") -> list[str]:
    """Convert a model of one function, compare what it serves with TensorFlow, and return why TensorFlow runs parts."""
    import tensorflow as tf

    module = tf.Module()
    specs = [
        tf.TensorSpec([None, *array.shape[1:]], tf.string if array.dtype == object else array.dtype, name=name)
        for name, array in feeds.items()
    ]
    module.serve = tf.function(lambda *tensors: {"y": function(module, *tensors)}, input_signature=specs)
    tf.saved_model.save(module, str(folder / "source"), signatures=module.serve)
    wanted = module.serve(*(tf.constant(array) for array in feeds.values()))["y"].numpy()
    convert_model(folder / "source", folder / "serving", ConvertOptions(backend=backend))
    found = load(folder / "serving").run(dict(feeds))["y"]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * float(np.max(np.abs(wanted))))
    plan = read_plan(folder / "serving")
    return [reason for part in plan.parts if part.saved_model for reason in part.unsupported]


def resized(**how: Any) -> Function:
    def apply(_: Any, x: Any) -> Any:
        import tensorflow as tf

        return network(tf.image.resize(x, **how))

    return apply


def saturated(to: str, scale: float) -> Function:
    def apply(_: Any, x: Any) -> Any:
        import tensorflow as tf

        return network(tf.cast(tf.saturate_cast(x * scale, tf.as_dtype(to)), tf.float32) / 255)

    return apply


def scattered(how: str) -> Function:
    def add(_: Any, x: Any) -> Any:
        import tensorflow as tf

        places = tf.constant([[1], [1], [2]])
        rows = tf.matmul(x, dense(8))
        firsts = tf.concat([rows[:1]] * 3, 0) * [[1.0], [2.0], [3.0]]
        base = tf.zeros([6, 4]) + tf.reduce_mean(rows, 0)
        return tf.matmul(getattr(tf, how)(base, places, firsts), dense(4))

    return add


def segmented(how: str) -> Function:
    def reduce(_: Any, x: Any) -> Any:
        import tensorflow as tf

        rows = tf.matmul(x, dense(8))
        return getattr(tf.math, how)(rows, tf.range(tf.shape(x)[0]) * 2)

    return reduce


def reversed_rows(_: Any, x: Any) -> Any:
    import tensorflow as tf

    lengths = tf.cast(tf.reduce_sum(tf.cast(x > 0, tf.int32), 1), tf.int32)
    return tf.matmul(tf.reverse_sequence(tf.nn.relu(x), lengths, seq_axis=1), dense(8))


def scanned(step: Function) -> Function:
    def apply(_: Any, x: Any) -> Any:
        import tensorflow as tf

        return tf.matmul(tf.transpose(tf.scan(step, tf.transpose(x))), dense(8))

    return apply


def larger(x: Any, y: Any) -> Any:
    import tensorflow as tf

    return tf.maximum(x, y)


def spectrum(_: Any, x: Any) -> Any:
    import tensorflow as tf

    return tf.matmul(tf.math.log(tf.abs(tf.signal.stft(x, 256, 128)) + 1e-3), dense(129))


def power_spectrum(_: Any, x: Any) -> Any:
    import tensorflow as tf

    return tf.matmul(tf.math.real(tf.signal.rfft(x[:, :256])) / 16, dense(129))


def cepstrum(_: Any, x: Any) -> Any:
    import tensorflow as tf

    bands = tf.signal.linear_to_mel_weight_matrix(20, 129, 16000, 80.0, 7600.0)
    mel = tf.tensordot(tf.abs(tf.signal.stft(x, 256, 128)), bands, 1)
    return tf.matmul(tf.signal.mfccs_from_log_mel_spectrograms(tf.math.log(mel + 1e-2))[..., :13], dense(13))


def linear(how: str) -> Function:
    def solve(_: Any, x: Any) -> Any:
        import tensorflow as tf

        square = tf.einsum("bi,bj->bij", x, x) + tf.eye(8) * 9
        return tf.matmul(tf.reshape(getattr(tf.linalg, how)(square), [-1, 64]), dense(64))

    return solve


def patches(size: int, stride: int, rate: int) -> Function:
    sizes = [[1, each, each, 1] for each in (size, stride, rate)]

    def apply(_: Any, x: Any) -> Any:
        import tensorflow as tf

        return tf.matmul(tf.image.extract_patches(x, *sizes, "SAME"), dense(3 * size * size))

    return apply


def looked_up(combiner: str) -> Function:
    def embed(module: Any, x: Any) -> Any:
        import tensorflow as tf

        if not hasattr(module, "table"):
            with tf.init_scope():
                keys, values = tf.constant(["a", "b", "c"]), tf.constant([0, 1, 2], tf.int64)
                module.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), 3)
        words = tf.sparse.from_dense(x)
        ids = tf.SparseTensor(words.indices, module.table.lookup(words.values), words.dense_shape)
        embedded = tf.nn.safe_embedding_lookup_sparse(tf.constant(dense(4)), ids, combiner=combiner)
        return tf.matmul(embedded, dense(4))

    return embed


WORDS = np.array([["a", "b", ""], ["c", "unknown", "a"], ["", "", ""]], object)
KINDS: dict[str, tuple[Function, Mapping[str, Array]]] = {
    "area": (resized(size=[5, 7], method="area"), {"x": IMAGES}),
    "area, half": (resized(size=[6, 8], method="area"), {"x": IMAGES}),
    "area, up": (resized(size=[13, 20], method="area"), {"x": IMAGES}),
    "bicubic, down": (resized(size=[7, 5], method="bicubic"), {"x": IMAGES}),
    "bicubic, twice": (resized(size=[24, 32], method="bicubic"), {"x": IMAGES}),
    "bicubic, mixed": (resized(size=[20, 7], method="bicubic"), {"x": IMAGES}),
    "antialiased": (resized(size=[5, 7], antialias=True), {"x": IMAGES}),
    "lanczos": (resized(size=[5, 20], method="lanczos5"), {"x": IMAGES}),
    "gaussian": (resized(size=[5, 20], method="gaussian", antialias=True), {"x": IMAGES}),
    "saturated to uint8": (saturated("uint8", 300.0), {"x": IMAGES}),
    "saturated to int8": (saturated("int8", 300.0), {"x": IMAGES}),
    "saturated to int16": (saturated("int16", 3e5), {"x": IMAGES}),
    "added at equal places": (scattered("tensor_scatter_nd_add"), {"x": ROWS}),
    "taken off at equal places": (scattered("tensor_scatter_nd_sub"), {"x": ROWS}),
    "the largest at equal places": (scattered("tensor_scatter_nd_max"), {"x": ROWS}),
    "largest of segments": (segmented("segment_max"), {"x": ROWS}),
    "means of segments": (segmented("segment_mean"), {"x": ROWS}),
    "products of segments": (segmented("segment_prod"), {"x": ROWS}),
    "reversed": (reversed_rows, {"x": ROWS}),
    "scanned": (scanned(lambda a, b: a * 0.5 + b), {"x": ROWS}),
    "running extremum": (scanned(larger), {"x": ROWS}),
    "spectrum": (spectrum, {"x": WAVES}),
    "real transform": (power_spectrum, {"x": WAVES}),
    "cepstrum": (cepstrum, {"x": WAVES}),
    "inverse": (linear("inv"), {"x": ROWS}),
    "cholesky": (linear("cholesky"), {"x": ROWS}),
    "matrix exponential": (linear("sqrtm"), {"x": ROWS}),
    "patches": (patches(3, 2, 1), {"x": IMAGES}),
    "patches with holes": (patches(3, 2, 2), {"x": IMAGES}),
    "patches side by side": (patches(4, 4, 1), {"x": IMAGES}),
    "mean of embeddings": (looked_up("mean"), {"x": WORDS}),
    "sum of embeddings": (looked_up("sum"), {"x": WORDS}),
    "root mean of embeddings": (looked_up("sqrtn"), {"x": WORDS}),
}
QUICK = ("area", "patches with holes")


@pytest.mark.parametrize("kind", QUICK)
def test_what_converts_wrongly_or_not_at_all_is_cut_off_with_the_reason(tmp_path: Path, kind: str) -> None:
    reasons = check(tmp_path, *KINDS[kind])
    assert reasons and all(":" in reason for reason in reasons)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in QUICK])
def test_every_kind_is_served_and_answers_as_tensorflow(tmp_path: Path, kind: str) -> None:
    check(tmp_path, *KINDS[kind])


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.parametrize("kind", ["bicubic, twice", "patches with holes", "inverse", "scanned", "spectrum"])
def test_an_engine_runs_what_it_takes_and_tensorflow_the_rest(tmp_path: Path, kind: str) -> None:
    check(tmp_path, *KINDS[kind], backend="auto")


def counted(_: Any, x: Any) -> Any:
    """Quotients of 8-bit integers: an engine's parser refuses first the quotient, then the cast in front of it."""
    import tensorflow as tf

    codes = tf.cast(tf.clip_by_value(x * 50 + 100, 0, 255), tf.uint8)
    return tf.matmul(tf.cast(codes // tf.constant(3, tf.uint8), tf.float32), dense(8))


@pytest.mark.engine
@pytest.mark.parametrize("function", [scattered("tensor_scatter_nd_add"), counted])
def test_what_an_engine_builder_refuses_is_cut_off_until_the_engine_stands(tmp_path: Path, function: Function) -> None:
    reasons = check(tmp_path, function, {"x": ROWS}, backend="tensorrt_rtx")
    assert any("Assertion failed" in reason for reason in reasons)
    assert read_plan(tmp_path / "serving").core.engine.file


def test_what_nothing_but_tensorflow_runs_is_served_by_tensorflow(tmp_path: Path) -> None:
    import tensorflow as tf

    reasons = check(tmp_path, lambda _, x: tf.math.digamma(tf.abs(x) + 1), {"x": ROWS})
    assert any(reason.startswith("Digamma: ") for reason in reasons)


@pytest.mark.parametrize(
    "line",
    [
        "[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : No implementation for Relu(14) node with name '{}__7'",
        "[ONNXRuntimeError] : 6 : Non-zero status code returned while running Relu node. Name:'{}__12__3' Status",
        "Type Error: Type 'tensor(int32)' of input parameter (a) of operator (Relu) in node ({}) is invalid.",
        "Failed to convert node '{}' (fct=<bound method Relu>)",
        "Tensorflow op [{}: Relu] is not supported",
        "Relu {}: Assertion failed: not for this type",
        "Relu: {}, other and 3 more",
    ],
)
def test_a_refusal_names_the_node_that_it_is_about(tmp_path: Path, line: str) -> None:
    import tensorflow as tf

    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None, 8], tf.float32, name="x")])
    def serve(x: Any) -> Any:
        with tf.name_scope("block/inner"):
            return {"y": tf.nn.relu(x, name="activation") + 1}

    tf.saved_model.save(module, str(tmp_path / "source"), signatures=serve)
    model = read_saved_model(tmp_path / "source")
    (name,) = (name for name, node in model.nodes.items() if node.op == "Relu")
    assert list(refused_nodes(model, ConversionError("it is refused", details=[line.format(name)]))) == [name]
    assert not refused_nodes(model, ConversionError("out of memory"))
    assert "ONNX" in refused_nodes(model, ConversionError("it is refused", details=[f"Relu: {name}"]))[name]
