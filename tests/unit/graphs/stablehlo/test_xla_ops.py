"""`Xla*` ops of older JAX exports become TensorFlow's ops: compared with XLA running the original, parameters drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops as raw
from tensorflow.compiler.tf2xla.python import xla
from tensorflow.compiler.xla import xla_data_pb2

from tpu2gpu.errors import UnsupportedError
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import OpDefs
from tpu2gpu.graphs.passes.lower_xla_ops import LowerXlaOps, count_xla_ops
from tpu2gpu.graphs.signatures import new_signature

Random = np.random.Generator
Case = tuple[Callable[..., Any], list[np.ndarray[Any, Any]]]


def floats(random: Random, *shape: int) -> np.ndarray[Any, Any]:
    return random.normal(size=shape).astype(np.float32)


def computation(function: Callable[..., Any], count: int = 2, dtype: Any = tf.float32) -> Any:
    return tf.function(function, autograph=False).get_concrete_function(*[tf.TensorSpec((), dtype)] * count)


def draw(random: Random, *choices: Any) -> Any:
    return choices[random.integers(len(choices))]


def convolution(random: Random) -> Case:
    axes = int(random.integers(1, 4))
    groups, depth = draw(random, (1, 3), (2, 2), (4, 1))
    spread = int(draw(random, 1, 1, 2))
    kernel = [int(random.integers(1, 4)) for _ in range(axes)]
    strides, dilations = ([int(random.integers(1, 3)) for _ in range(axes)] for _ in range(2))
    padding = [[int(it) for it in random.integers(0, 3, 2)] for _ in range(axes)]
    order = [int(it) for it in random.permutation(axes + 2)]
    turned = [int(it) for it in random.permutation(axes + 2)]
    numbers = xla_data_pb2.ConvolutionDimensionNumbers(
        input_batch_dimension=order[0], input_feature_dimension=order[1], input_spatial_dimensions=order[2:],
        kernel_input_feature_dimension=turned[0], kernel_output_feature_dimension=turned[1],
        kernel_spatial_dimensions=turned[2:], output_batch_dimension=0, output_feature_dimension=axes + 1,
        output_spatial_dimensions=range(1, axes + 1),
    )  # fmt: skip
    image = np.moveaxis(floats(random, 2, depth * groups, *[7] * axes), range(axes + 2), order)
    weights = np.moveaxis(floats(random, depth, 4 * groups, *kernel), range(axes + 2), turned)

    def run(x: Any, k: Any) -> Any:
        return xla.conv(x, k, strides, padding, [spread] * axes, dilations, numbers, groups)

    return run, [image, weights]


def dot(random: Random) -> Case:
    batch, rows, summed, columns = 2, 3, 4, 5
    left, right = random.permutation(3), random.permutation(3)
    numbers = xla_data_pb2.DotDimensionNumbers(
        lhs_batch_dimensions=[left[0]], lhs_contracting_dimensions=[left[2]],
        rhs_batch_dimensions=[right[0]], rhs_contracting_dimensions=[right[1]],
    )  # fmt: skip
    a = np.moveaxis(floats(random, batch, rows, summed), [0, 1, 2], left)
    b = np.moveaxis(floats(random, batch, summed, columns), [0, 1, 2], right)
    return lambda x, y: xla.dot_general(x, y, numbers), [a, b]


def quantised_dot(random: Random) -> Case:
    numbers = xla_data_pb2.DotDimensionNumbers(lhs_contracting_dimensions=[1], rhs_contracting_dimensions=[0])
    a, b = (random.integers(-128, 128, shape).astype(np.int8) for shape in ((3, 6), (6, 4)))
    return lambda x, y: xla.dot_general(x, y, numbers, preferred_element_type=tf.int32), [a, b]


def gather(random: Random) -> Case:
    indexed = [int(it) for it in random.permutation(3)[: random.integers(1, 3)]]
    sizes = [int(random.integers(1, 4)) for _ in range(3)]
    collapsed = sorted(axis for axis in indexed if sizes[axis] == 1)
    kept = 3 - len(collapsed)
    numbers = xla_data_pb2.GatherDimensionNumbers(
        offset_dims=sorted(int(it) for it in random.permutation(2 + kept)[:kept]),
        collapsed_slice_dims=collapsed, start_index_map=indexed, index_vector_dim=2,
    )  # fmt: skip
    indices = random.integers(-3, 9, (2, 3, len(indexed))).astype(np.int32)
    return lambda x, i: xla.gather(x, i, numbers, sizes), [floats(random, 4, 5, 6), indices]


def scatter(random: Random) -> Case:
    combine = computation(draw(random, lambda a, b: b, tf.add, tf.maximum, tf.minimum))
    width = int(random.integers(1, 4))
    indexed = draw(random, [0], [0, 1], [1, 0])
    numbers = xla_data_pb2.ScatterDimensionNumbers(
        update_window_dims=[1], inserted_window_dims=[0], scatter_dims_to_operand_dims=indexed, index_vector_dim=1
    )
    count = len(indexed)
    if not random.integers(3):  # a single row, whose place stands alone
        numbers = xla_data_pb2.ScatterDimensionNumbers(
            update_window_dims=[0], inserted_window_dims=[0], scatter_dims_to_operand_dims=[0], index_vector_dim=0
        )
        place = random.integers(-1, 7, 1).astype(np.int32)
        return lambda x, i, u: xla.scatter(x, i, u, combine, numbers), [floats(random, 6, 5), place, floats(random, 5)]
    places = np.stack([random.permutation(9)[:4] - 2 for _ in range(count)], -1).astype(np.int32)
    updates = floats(random, 4, width)
    return lambda x, i, u: xla.scatter(x, i, u, combine, numbers), [floats(random, 6, 5), places, updates]


def reduce(random: Random) -> Case:
    combine, start = draw(random, (tf.add, 0.0), (tf.maximum, -np.inf), (tf.minimum, np.inf), (tf.multiply, 1.0),
                          (tf.add, 2.5), (tf.maximum, 0.25))  # fmt: skip
    axes = [int(it) for it in random.permutation(3)[: random.integers(1, 4)]]
    reducer = computation(combine)
    return lambda x: raw.xla_reduce(x, tf.constant(start), axes, reducer), [floats(random, 3, 4, 5)]


def largest_and_place(random: Random) -> Case:
    axis = int(random.integers(3))

    def pick(a: Any, i: Any, b: Any, j: Any) -> Any:
        first = tf.logical_or(tf.greater(a, b), tf.logical_and(tf.equal(a, b), tf.less(i, j)))
        return tf.where(first, a, b), tf.where(first, i, j)

    specs = [tf.TensorSpec((), it) for it in (tf.float32, tf.int32)] * 2
    reducer = tf.function(pick, autograph=False).get_concrete_function(*specs)

    def run(x: Any) -> Any:
        places = tf.broadcast_to(tf.reshape(tf.range(4), [4 if it == axis else 1 for it in range(3)]), [4, 4, 4])
        starts = [tf.constant(-np.inf, tf.float32), tf.constant(0)]
        return xla.variadic_reduce([x, places], starts, [axis], reducer)

    return run, [np.round(floats(random, 4, 4, 4) * 2)]


def reduce_window(random: Random) -> Case:
    combine, start = draw(random, (tf.add, 0.0), (tf.maximum, -np.inf), (tf.minimum, np.inf), (tf.multiply, 1.0))
    sizes, strides, dilations = ([int(it) for it in random.integers(1, most, 4)] for most in (4, 3, 3))
    apart = [1, int(random.integers(1, 3)), 1, 1]
    padding = [[int(it) for it in random.integers(0, 3, 2)] for _ in range(4)]
    if random.integers(2):  # as pooling has it
        sizes[0] = sizes[3] = strides[0] = strides[3] = 1
        padding[0] = padding[3] = [0, 0]
        dilations, apart = [1] * 4, [1] * 4
    reducer = computation(combine)

    def run(x: Any) -> Any:
        return xla.reduce_window(x, tf.constant(start), reducer, sizes, strides, apart, dilations, padding)

    return run, [floats(random, 5, 7, 6, 5)]


def running_sums_of_powers(random: Random) -> Case:
    def combine(a: Any, b: Any) -> Any:
        largest, difference = tf.maximum(a, b), a - b
        return tf.where(tf.math.is_nan(difference), a + b, largest + tf.math.log1p(tf.exp(-tf.abs(difference))))

    reducer = computation(combine)
    padding = draw(random, [[0, 0], [4, 0]], [[0, 0], [0, 4]])

    def run(x: Any) -> Any:
        return xla.reduce_window(x, tf.constant(-np.inf), reducer, [1, 5], [1, 1], [1, 1], [1, 1], padding)

    return run, [floats(random, 3, 5)]


def pad(random: Random) -> Case:
    before, after = ([int(it) for it in random.integers(-2, 3, 2)] for _ in range(2))
    between = [int(it) for it in random.integers(0, 3, 2)]
    return lambda x: xla.pad(x, tf.constant(1.5), before, after, between), [floats(random, 4, 5)]


def dynamic_slices(random: Random) -> Case:
    sizes = [int(random.integers(1, most)) for most in (4, 6, 7)]
    starts = random.integers(-2, 7, 3).astype(np.int32)
    return lambda x, i: xla.dynamic_slice(x, i, sizes), [floats(random, 3, 5, 6), starts]


def dynamic_update_slices(random: Random) -> Case:
    whole = [3, 5, 6]
    sizes = [int(random.integers(1, most + 1)) for most in whole]
    for axis in random.permutation(3)[:2]:  # one axis of several elements
        sizes[axis] = draw(random, 1, whole[axis])
    starts = random.integers(-2, 7, 3).astype(np.int32)
    return xla.dynamic_update_slice, [floats(random, *whole), floats(random, *sizes), starts]


def sorts(random: Random) -> Case:
    kind, axis = int(random.integers(4)), int(random.integers(2))
    keys = random.integers(-3, 4, (4, 6))
    keys = draw(random, keys.astype(np.float32), keys.astype(np.int32), (keys + 3).astype(np.uint8))
    values = floats(random, 4, 6)
    if kind == 0:
        return raw.xla_sort, [keys]
    if kind == 1:  # equal keys: any order of their values is one
        return raw.xla_key_value_sort, [np.argsort(floats(random, 4, 6)).astype(np.int32), values]
    compare = draw(random, tf.less, tf.greater)
    specs = [tf.TensorSpec((), it) for it in (keys.dtype, keys.dtype, tf.float32, tf.float32)]

    def by(a: Any, b: Any, c: Any, d: Any) -> Any:
        first = compare(a, b)
        return first if kind == 2 else tf.logical_or(first, tf.logical_and(tf.equal(a, b), compare(c, d)))

    comparator = tf.function(by, autograph=False).get_concrete_function(*specs)
    return lambda k, v: xla.variadic_sort([k, v], axis, comparator, is_stable=True), [keys, values]


def broadcast_helper(random: Random) -> Case:
    axes = sorted(int(it) for it in random.permutation(3)[:2])
    whole, small = floats(random, 3, 4, 5), [3, 4, 5]
    other = floats(random, *(small[axis] for axis in axes))
    sides = [whole, other] if random.integers(2) else [other, whole]
    return lambda x, y: sum(raw.xla_broadcast_helper(x, y, tf.constant(axes))), sides


def einsum(random: Random) -> Case:
    equation, first, second = draw(random, ("ab,bc->ac", (2, 3), (3, 4)), ("abc,acd->abd", (2, 3, 4), (2, 4, 5)),
                                   ("abc,cd->dab", (2, 3, 4), (4, 5)))  # fmt: skip
    return lambda x, y: raw.xla_einsum(x, y, equation), [floats(random, *first), floats(random, *second)]


def idle(random: Random) -> Case:
    def run(x: Any) -> Any:
        (held,) = raw.xla_optimization_barrier([raw.xla_reduce_precision(x, 8, 7)])
        return raw.xla_sharding(held)

    return run, [floats(random, 3, 4)]


CASES = [
    convolution, dot, quantised_dot, gather, scatter, reduce, largest_and_place, reduce_window, running_sums_of_powers,
    pad, dynamic_slices, dynamic_update_slices, sorts, broadcast_helper, einsum, idle,
]  # fmt: skip


def traced(function: Callable[..., Any], arrays: list[np.ndarray[Any, Any]]) -> tuple[ServingModel, Any]:
    """Trace a function, and return it as a model and as it was traced."""

    def flat(*values: Any) -> Any:
        found = function(*values)
        return [tf.identity(it) for it in (found if isinstance(found, (list, tuple)) else [found])]

    specs = [tf.TensorSpec(it.shape, it.dtype) for it in arrays]
    concrete = tf.function(flat, autograph=False).get_concrete_function(*specs)
    graph, signature = concrete.graph.as_graph_def(), new_signature()
    for side, tensors in ((signature.inputs, concrete.inputs), (signature.outputs, concrete.outputs)):
        for place, tensor in enumerate(tensors):
            side[str(place)].name = tensor.name
    model = ServingModel(
        {node.name: node for node in graph.node}, {it.signature.name: it for it in graph.library.function},
        {"serving_default": signature}, {}, OpDefs(), None, "", [], graph.versions, "",
    )  # fmt: skip
    return model, concrete


def lowered(function: Callable[..., Any], arrays: list[np.ndarray[Any, Any]]) -> tuple[ServingModel, list[Any]]:
    """Trace a function, lower its graph, and return the model with what the graph computes."""
    model, concrete = traced(function, arrays)
    LowerXlaOps().run(model)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.import_graph_def(model.graph_def(), name="")
        outputs = [model.signatures["serving_default"].outputs[str(it)].name for it in range(len(concrete.outputs))]
        feeds = {it.name: array for it, array in zip(concrete.inputs, arrays, strict=True)}
        return model, list(session.run(outputs, feeds))


def accepted(case: Callable[[Random], Case], seed: int) -> tuple[Case, list[Any]]:
    """Draw until XLA takes it, and return it with what XLA computes."""
    for attempt in range(20):
        function, arrays = case(np.random.default_rng([seed, CASES.index(case), attempt]))
        try:
            found = tf.function(function, jit_compile=True, autograph=False)(*[tf.constant(it) for it in arrays])
        except (tf.errors.InvalidArgumentError, ValueError):
            continue
        return (function, arrays), [it.numpy() for it in (found if isinstance(found, (list, tuple)) else [found])]
    raise AssertionError(f"XLA takes no {case.__name__}")


def check(case: Callable[[Random], Case], seed: int) -> None:
    (function, arrays), wanted = accepted(case, seed)
    model, found = lowered(function, arrays)
    assert not count_xla_ops(model)
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_an_op_becomes_others_that_compute_the_same(case: Callable[[Random], Case]) -> None:
    check(case, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 13))
@pytest.mark.parametrize("case", CASES)
def test_it_does_for_whatever_parameters(case: Callable[[Random], Case], seed: int) -> None:
    check(case, seed)


def test_what_has_no_counterpart_is_named() -> None:
    def run(x: Any) -> Any:
        return raw.xla_self_adjoint_eig(x, lower=True, max_iter=10, epsilon=1e-3).w

    with pytest.raises(UnsupportedError, match="Xla ops that have no counterpart") as refused:
        lowered(run, [np.eye(3, dtype=np.float32)])
    assert any("XlaSelfAdjointEig" in it for it in refused.value.details)


TOO_FAR = xla_data_pb2.DotDimensionNumbers(lhs_batch_dimensions=[7])


@pytest.mark.parametrize("given", [b"\xff", TOO_FAR.SerializeToString()])
def test_what_contradicts_itself_is_named(given: bytes) -> None:
    numbers = xla_data_pb2.DotDimensionNumbers(lhs_contracting_dimensions=[1], rhs_contracting_dimensions=[1])
    model, _ = traced(lambda x: xla.dot_general(x, x, numbers), [np.ones((2, 3), np.float32)])
    (node,) = [node for node in model.nodes.values() if node.op.startswith("XlaDot")]
    node.attr["dimension_numbers"].s = given
    with pytest.raises(UnsupportedError, match="Xla ops"):
        LowerXlaOps().run(model)


@pytest.mark.parametrize("kind", ["contracting", "batch"])
@pytest.mark.parametrize("side", ["lhs", "rhs"])
@pytest.mark.parametrize("dimension", [17, 2, -1])
def test_a_dimension_that_a_factor_does_not_have_is_named(side: str, kind: str, dimension: int) -> None:
    """TensorFlow's shape function reads beyond the sizes that there are where one of them is open, and dies."""
    numbers = xla_data_pb2.DotDimensionNumbers(lhs_contracting_dimensions=[1], rhs_contracting_dimensions=[0])
    other = "rhs" if side == "lhs" else "lhs"
    spoilt = xla_data_pb2.DotDimensionNumbers(**{
        f"{side}_{kind}_dimensions": [dimension],
        f"{other}_{kind}_dimensions": [0],
    })  # fmt: skip
    weights = np.ones((3, 3), np.float32)

    def run(x: Any) -> Any:
        return xla.dot_general(tf.tanh(xla.dot_general(x, weights, numbers)), weights, numbers, name="second")

    model, _ = traced(run, [np.ones((2, 3), np.float32)])
    for node in model.nodes.values():
        if node.op == "Placeholder":
            node.attr["shape"].shape.dim[0].size = -1
    node = next(node for node in model.nodes.values() if node.op.startswith("XlaDot") and "second" in node.name)
    node.attr["dimension_numbers"].s = spoilt.SerializeToString()
    with pytest.raises(UnsupportedError, match="Xla ops in a graph whose shapes") as refused:
        LowerXlaOps().run(model)
    assert f"{side}_{kind}_dimensions name dimension {dimension} of a tensor of rank 2" in str(refused.value)


def test_a_graph_that_only_places_data_keeps_its_nodes() -> None:
    def run(x: Any) -> Any:
        return tf.tanh(raw.xla_sharding(tf.square(x, name="the_square")), name="the_tangent")

    x = np.ones((2, 3), np.float32)
    model, (found,) = lowered(run, [x])
    assert {"the_square", "the_tangent"} <= model.nodes.keys()
    np.testing.assert_allclose(found, np.tanh(x))
