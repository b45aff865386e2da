"""Branches and loops: data that decides, nothing to do, nests, lists of tensors, both of TensorFlow's forms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from tests.conformance.case import Case, combinations, ramp

NUMBERS = np.array([[1.5, -2.0, 0.0], [3.0, -0.5, 7.0]], np.float32)
BOTH = (True, False)


def cases() -> Iterator[Case]:
    """Every form, taken and not taken, never, once and several times."""
    yield from branches()
    yield from loops()
    yield from lists()
    yield from old_form()


def branches() -> Iterator[Case]:
    for is_taken in BOTH:
        fed = {f"{is_taken}": {"flag": np.array(is_taken), "x": NUMBERS}}
        for label, made_by in {"whole": conditional, "captured": capturing, "nested": nested}.items():
            labelled = {f"{label}, {name}": each for name, each in fed.items()}
            yield from combinations("StatelessIf", labelled, made_by=made_by)
        of_values = {f"by values, {is_taken}": {"x": NUMBERS if is_taken else -np.abs(NUMBERS)}}
        yield from combinations("StatelessIf", of_values, made_by=by_values)
    checked = {"stateful": {"flag": np.array(True), "x": NUMBERS}}
    yield from combinations("If", checked, made_by=checked_branch)
    for dtype in ("int32", "int64", "bool", "float16", "float64"):
        x = ramp("int32", 2, 3) % 2 == 0 if dtype == "bool" else ramp(dtype, 2, 3)
        yield from combinations("StatelessIf", {"types": {"flag": np.array(False), "x": x}}, made_by=either_way)
    for chosen in (0, 1, 2, -1, 9):
        placed = {f"{chosen}": {"place": np.array(chosen, np.int32), "x": NUMBERS}}
        yield from combinations("StatelessCase", placed, made_by=switched)
    empty = {"empty": {"flag": np.array(True), "x": NUMBERS[:0]}}
    yield from combinations("StatelessIf", empty, made_by=conditional)
    yield from combinations(
        "StatelessIf", {"shapes differ": {"flag": np.array(True), "x": NUMBERS}}, made_by=other_shape
    )


def loops() -> Iterator[Case]:
    for times in (0, 1, 5):
        counted = {f"{times} times": {"times": np.array(times, np.int32), "x": NUMBERS}}
        for label, made_by in {
            "sum": summing,
            "two values": fibonacci,
            "captured": capturing_loop,
            "nested": nested_loop,
            "branch inside": branching_loop,
            "grows": growing,
            "counts in int64": long_count,
            "early end": ending_early,
        }.items():
            labelled = {f"{label}, {name}": each for name, each in counted.items()}
            beside = ("StatelessIf",) if label == "branch inside" else ()
            yield from combinations("StatelessWhile", labelled, made_by=made_by, beside=beside)
    counted = {"stateful": {"times": np.array(3, np.int32), "x": NUMBERS}}
    yield from combinations("While", counted, made_by=checked_loop)
    yield from combinations("StatelessWhile", {"until": {"x": np.array(1.0, np.float32)}}, made_by=until)
    yield from combinations("StatelessWhile", {"never": {"x": np.array(1e9, np.float32)}}, made_by=until)


def lists() -> Iterator[Case]:
    for rows in (0, 1, 4):
        x = {f"{rows} rows": {"x": ramp("float32", rows, 3)}}
        held = ("TensorListReserve", "TensorListSetItem", "TensorListStack")
        read = ("TensorListFromTensor", "TensorListGetItem")
        yield from combinations(
            "StatelessWhile", {f"map, {n}": e for n, e in x.items()}, made_by=mapped, beside=held + read
        )
        yield from combinations(
            "StatelessWhile", {f"scan, {n}": e for n, e in x.items()}, made_by=scanned, beside=held + read
        )
        yield from combinations("StatelessWhile", {f"fold, {n}": e for n, e in x.items()}, made_by=folded, beside=read)
        yield from combinations(
            "StatelessWhile", {f"two, {n}": e for n, e in x.items()}, made_by=mapped_to_two, beside=held
        )
        yield from combinations("StatelessWhile", {f"backwards, {n}": e for n, e in x.items()}, made_by=backwards)
        yield from combinations("StatelessWhile", {f"pushed, {n}": e for n, e in x.items()}, made_by=pushed)
    flat = {"some": {"x": ramp("float32", 4, 3)}, "one": {"x": ramp("float32", 1, 3)}}
    yield from combinations("TensorListLength", flat, made_by=list_length)
    yield from combinations("TensorListGetItem", flat, made_by=first_of_list, beside=("TensorListFromTensor",))
    yield from combinations("TensorListResize", flat, made_by=resized_list)
    yield from combinations("TensorListConcatV2", flat, made_by=concatenated_list)
    yield from combinations("TensorListGather", flat, made_by=gathered_list)


def old_form() -> Iterator[Case]:
    """TensorFlow 1's: Switch and Merge, Enter and Exit, and TensorArrays."""
    for is_taken in BOTH:
        fed = {"flag": np.array(is_taken), "x": NUMBERS}
        for label, made_by in {"whole": conditional, "captured": capturing, "nested": nested}.items():
            old = {f"{label}, {is_taken}": fed}
            yield from combinations("Switch", old, made_by=partial(in_old_form, made_by), beside=("Merge",))
    beside = ("Exit", "LoopCond", "Merge", "NextIteration", "Switch")
    for times in (0, 1, 5):
        fed = {"times": np.array(times, np.int32), "x": NUMBERS}
        for label, loop in {"sum": summing, "two values": fibonacci, "captured": capturing_loop}.items():
            old = {f"{label}, {times} times": fed}
            yield from combinations("Enter", old, made_by=partial(in_old_form, loop), beside=beside)
    arrays = ("TensorArrayGatherV3", "TensorArrayReadV3", "TensorArrayScatterV3", "TensorArrayWriteV3")
    for rows in (0, 1, 4):
        x = {"x": ramp("float32", rows, 3)}
        for label, loop in {"map": mapped, "scan": scanned}.items():
            old = {f"{label}, {rows} rows": x}
            known = (False, True) if rows else (False,)  # ONNX Runtime's Loop gives no sizes that nobody knows
            make = partial(in_old_form, loop)
            yield from combinations("TensorArrayV3", old, dynamic=known, made_by=make, beside=arrays)
    size = {"some": {"x": ramp("float32", 4, 3)}}
    yield from combinations("TensorArraySizeV3", size, made_by=partial(in_old_form, array_size))
    for dtype in ("float32", "int64", "bool"):
        x = np.array([True, False]) if dtype == "bool" else ramp(dtype, 2)
        yield from combinations("Switch", {dtype: {"flag": np.array(True), "x": x}}, made_by=switch_and_merge)


def in_old_form(make: Callable[..., Any], **fed: Any) -> Any:
    """Make a graph as TensorFlow 1 does."""
    import tensorflow as tf

    tf.compat.v1.disable_control_flow_v2()
    try:
        return make(**fed)
    finally:
        tf.compat.v1.enable_control_flow_v2()


def conditional(flag: Any, x: Any) -> Any:
    import tensorflow as tf

    return tf.cond(flag, lambda: x * 2, lambda: x - 1)


def checked_branch(flag: Any, x: Any) -> Any:
    """Check something on the way, which makes the branch stateful."""
    import tensorflow as tf

    def positive() -> Any:
        with tf.control_dependencies([tf.debugging.assert_less(x, 100.0)]):
            return x * 2

    return tf.cond(flag, positive, lambda: x - 1)


def capturing(flag: Any, x: Any) -> Any:
    import tensorflow as tf

    y = tf.exp(x)
    return tf.cond(flag, lambda: (y + x, tf.reduce_sum(y)), lambda: (y, tf.constant(3.0)))


def nested(flag: Any, x: Any) -> Any:
    import tensorflow as tf

    def inner() -> Any:
        return tf.cond(tf.reduce_sum(x) > 0, lambda: x * 3, lambda: x + 5)

    return tf.cond(flag, inner, lambda: -x)


def by_values(x: Any) -> Any:
    import tensorflow as tf

    return tf.cond(tf.reduce_all(tf.shape(x) > 0) & (tf.reduce_max(x) > 0), lambda: x / 2, lambda: tf.abs(x))


def either_way(flag: Any, x: Any) -> Any:
    import tensorflow as tf

    return tf.cond(flag, lambda: tf.identity(x), lambda: tf.reverse(x, [0]))


def switched(place: Any, x: Any) -> Any:
    import tensorflow as tf

    return tf.switch_case(place, [lambda: x, lambda: x * 2, lambda: x * 3])


def other_shape(flag: Any, x: Any) -> Any:
    import tensorflow as tf

    return tf.cond(flag, lambda: x[:1], lambda: tf.concat([x, x], 0))


def looped(times: Any, body: Callable[..., Any], *start: Any, invariants: Any = None) -> Any:
    """Run a body so many times, which is given the round and its values, and return these."""
    import tensorflow as tf

    first = tf.zeros([], times.dtype)
    shapes = None if invariants is None else (first.shape, *invariants)
    end = tf.while_loop(
        lambda at, *_: at < times,
        lambda at, *values: (at + 1, *body(at, *values)),
        (first, *start),
        shape_invariants=shapes,
    )
    return end[1:]


def summing(times: Any, x: Any) -> Any:
    import tensorflow as tf

    return looped(times, lambda at, total: [total + x * tf.cast(at, tf.float32)], tf.zeros_like(x))


def fibonacci(times: Any, x: Any) -> Any:
    return looped(times, lambda _, a, b: [b, a + b], x, x + 1)


def capturing_loop(times: Any, x: Any) -> Any:
    import tensorflow as tf

    weights = tf.constant(ramp("float32", 3, 3, scale=0.3))
    bias = tf.reduce_mean(x, 0)
    return looped(times, lambda _, y: [tf.tanh(tf.matmul(y, weights) + bias)], x)


def checked_loop(times: Any, x: Any) -> Any:
    """Check something on the way, which makes the loop stateful."""
    import tensorflow as tf

    def body(_: Any, y: Any) -> Any:
        with tf.control_dependencies([tf.debugging.assert_less(y, 100.0)]):
            return [y + x]

    return looped(times, body, x)


def nested_loop(times: Any, x: Any) -> Any:
    return looped(times, lambda at, y: list(looped(at, lambda _, z: [z + 1], y)), x)


def branching_loop(times: Any, x: Any) -> Any:
    import tensorflow as tf

    return looped(times, lambda at, y: [tf.cond(tf.equal(at % 2, 0), lambda: y + x, lambda: y * 2)], x)


def growing(times: Any, x: Any) -> Any:
    import tensorflow as tf

    return looped(times, lambda _, y: [tf.concat([y, x], 0)], x, invariants=[tf.TensorShape([None, x.shape[1]])])


def long_count(times: Any, x: Any) -> Any:
    import tensorflow as tf

    return looped(tf.cast(times, tf.int64), lambda at, y: [y + tf.cast(at, tf.float32)], x)


def ending_early(times: Any, x: Any) -> Any:
    import tensorflow as tf

    def goes_on(at: Any, y: Any) -> Any:
        return (at < times) & (tf.reduce_max(y) < 20)

    return tf.while_loop(goes_on, lambda at, y: (at + 1, y * 2), (0, x))


def until(x: Any) -> Any:
    import tensorflow as tf

    return tf.while_loop(lambda y, _: y < 100, lambda y, n: (y * 2 + 1, n + 1), (x, 0))


def mapped(x: Any) -> Any:
    import tensorflow as tf

    return tf.map_fn(lambda row: row * 2 + tf.reduce_sum(row), x)


def mapped_to_two(x: Any) -> Any:
    import tensorflow as tf

    return tf.map_fn(lambda row: (row[:1], tf.reduce_sum(row) > 0), x, fn_output_signature=(tf.float32, tf.bool))


def scanned(x: Any) -> Any:
    import tensorflow as tf

    return tf.scan(lambda total, row: total * 0.5 + row, x, initializer=tf.zeros([3]))


def folded(x: Any) -> Any:
    import tensorflow as tf

    return tf.foldl(lambda total, row: total * 0.5 + row, x, initializer=tf.zeros([3]))


def backwards(x: Any) -> Any:
    import tensorflow as tf

    return tf.foldr(lambda total, row: total * 0.5 - row, x, initializer=tf.ones([3]))


def pushed(x: Any) -> Any:
    """Write rows into a list that grows, and stack it."""
    import tensorflow as tf

    rows = tf.TensorArray(tf.float32, 0, dynamic_size=True, element_shape=[3])
    count = tf.shape(x)[0]
    end = tf.while_loop(lambda at, _: at < count, lambda at, list_: (at + 1, list_.write(at, x[at] + 1)), (0, rows))
    return end[1].stack()


def array_size(x: Any) -> Any:
    import tensorflow as tf

    made = tf.raw_ops.TensorArrayV3(size=tf.shape(x)[0], dtype=tf.float32)
    return tf.raw_ops.TensorArraySizeV3(handle=made.handle, flow_in=made.flow)


def list_of(x: Any) -> Any:
    import tensorflow as tf

    return tf.raw_ops.TensorListFromTensor(tensor=x, element_shape=tf.constant([3]))


def list_length(x: Any) -> Any:
    import tensorflow as tf

    return tf.raw_ops.TensorListLength(input_handle=list_of(x))


def first_of_list(x: Any) -> Any:
    import tensorflow as tf

    return tf.raw_ops.TensorListGetItem(
        input_handle=list_of(x), index=tf.constant(0), element_shape=tf.constant([3]), element_dtype=tf.float32
    )


def resized_list(x: Any) -> Any:
    import tensorflow as tf

    larger = tf.raw_ops.TensorListResize(input_handle=list_of(x), size=tf.constant(6))
    return tf.raw_ops.TensorListStack(input_handle=larger, element_shape=tf.constant([3]), element_dtype=tf.float32)


def concatenated_list(x: Any) -> Any:
    import tensorflow as tf

    handle = tf.raw_ops.TensorListFromTensor(tensor=tf.reshape(x, [-1, 1, 3]), element_shape=tf.constant([1, 3]))
    return tf.raw_ops.TensorListConcatV2(
        input_handle=handle,
        element_shape=tf.constant([1, 3]),
        leading_dims=tf.zeros([0], tf.int64),
        element_dtype=tf.float32,
    )


def gathered_list(x: Any) -> Any:
    import tensorflow as tf

    return tf.raw_ops.TensorListGather(
        input_handle=list_of(x),
        indices=tf.constant([0, 0]),
        element_shape=tf.constant([3]),
        element_dtype=tf.float32,
    )


def switch_and_merge(flag: Any, x: Any) -> Any:
    import tensorflow as tf

    off, on = tf.raw_ops.Switch(data=x, pred=flag)
    return tf.raw_ops.Merge(inputs=[tf.identity(off), tf.reverse(on, [0])]).output
