"""SavedModels that read, write, call and listen by ops that hide in calls, data sets, tables and twice-used names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.models.hostile import served
from tests.models.hostile_graphs import _with_node, double, rewritten, served_v1


def _twice(folder: Path, path: str, *, last: bool) -> Path:
    import tensorflow as tf

    spec = [tf.TensorSpec([None], tf.float32)]
    harmless = tf.function(lambda v: v * 2, input_signature=spec).get_concrete_function()
    writes = tf.function(
        lambda v: double(tf, v, tf.io.write_file(path, "x"))["y"], input_signature=spec
    ).get_concrete_function()

    def change(meta: Any) -> None:
        library = meta.graph_def.library
        other = type(library.function[0])()
        other.CopyFrom(writes.function_def)
        other.signature.name = harmless.function_def.signature.name
        functions = [other, *library.function] if not last else [*library.function, other]
        copies = [type(other).FromString(it.SerializeToString()) for it in functions]
        del library.function[:]
        library.function.extend(copies)

    return served_v1(
        folder, lambda x: tf.raw_ops.StatefulPartitionedCall(args=[x], Tout=[tf.float32], f=harmless)[0], change
    )


def the_first_of_two_functions_of_a_name_writes(folder: Path, path: str) -> Path:
    return _twice(folder, path, last=False)


def the_last_of_two_functions_of_a_name_writes(folder: Path, path: str) -> Path:
    return _twice(folder, path, last=True)


def a_node_of_a_function_hides_behind_its_name(folder: Path, path: str) -> Path:
    """A second node has the name of the one that writes."""
    import tensorflow as tf

    def serve(x: Any) -> Any:
        return double(tf, x, tf.io.write_file(path, "x"))

    def change(meta: Any) -> None:
        for function in meta.graph_def.library.function:
            for node in list(function.node_def):
                if node.op == "WriteFile":
                    function.node_def.add(name=node.name, op="NoOp")

    return rewritten(served(folder, serve), change)


def a_node_hides_behind_its_name(folder: Path, path: str) -> Path:
    import tensorflow as tf

    def change(meta: Any) -> None:
        for node in list(meta.graph_def.node):
            if node.op == "WriteFile":
                meta.graph_def.node.add(name=node.name, op="NoOp")

    return served_v1(folder, lambda x: double(tf, x, tf.io.write_file(path, "x"))["y"], change)


def a_tpu_call_writes(folder: Path, path: str) -> Path:
    import tensorflow as tf

    spec = [tf.TensorSpec([None], tf.float32)]
    writes = tf.function(lambda v: double(tf, v, tf.io.write_file(path, "x"))["y"], input_signature=spec)

    def serve(x: Any) -> Any:
        return tf.raw_ops.StatefulPartitionedCall(args=[x], Tout=[tf.float32], f=writes.get_concrete_function())[0]

    def change(meta: Any) -> None:
        (call,) = (node for node in meta.graph_def.node if node.op == "StatefulPartitionedCall")
        call.op = "TPUPartitionedCall"
        for name in ("config", "config_proto", "executor_type"):
            del call.attr[name]
        call.input.append("ordinal")
        ordinal = meta.graph_def.node.add(name="ordinal", op="Const")
        ordinal.attr["dtype"].type = tf.int32.as_datatype_enum
        ordinal.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(0))

    return served_v1(folder, serve, change)


def _effect(make: Callable[[Any, str], Any]) -> Callable[[Path, str], Path]:
    def build(folder: Path, path: str) -> Path:
        import tensorflow as tf

        return served(folder, lambda x: double(tf, x, make(tf, path)))

    build.__name__ = make.__name__
    return build


@_effect
def a_generator_writes_at_its_end(tf: Any, path: str) -> Any:
    data = tf.data.Dataset.from_tensors(0)
    end = tf.function(lambda v: double(tf, v, tf.io.write_file(path, "x"))["y"]).get_concrete_function(
        tf.TensorSpec([], tf.int32)
    )
    begin = tf.function(lambda: tf.constant(0)).get_concrete_function()
    following = tf.function(lambda v: v).get_concrete_function(tf.TensorSpec([], tf.int32))
    made = tf.raw_ops.GeneratorDataset(
        init_func_other_args=[],
        next_func_other_args=[],
        finalize_func_other_args=[],
        init_func=begin,
        next_func=following,
        finalize_func=end,
        output_types=[tf.int32],
        output_shapes=[[]],
    )
    del data
    return tf.raw_ops.DatasetCardinality(input_dataset=made)


@_effect
def a_batch_function_writes(tf: Any, path: str) -> Any:
    writes = tf.function(lambda v: double(tf, v, tf.io.write_file(path, "x"))["y"]).get_concrete_function(
        tf.TensorSpec([1], tf.float32)
    )
    return tf.raw_ops.BatchFunction(
        in_tensors=[tf.constant([1.0])],
        captured_tensors=[],
        f=writes,
        num_batch_threads=1,
        max_batch_size=1,
        batch_timeout_micros=0,
        Tout=[tf.float32],
    )[0]


@_effect
def a_branch_that_is_never_taken_writes(tf: Any, path: str) -> Any:
    return tf.cond(tf.constant(False), lambda: double(tf, 1.0, tf.io.write_file(path, "x"))["y"], lambda: 2.0)


@_effect
def a_path_is_put_together(tf: Any, path: str) -> Any:
    parts = tf.strings.split([path], "/").to_tensor()[0]
    return tf.io.read_file(tf.strings.reduce_join(parts, separator="/"))


@_effect
def a_path_comes_out_of_a_table(tf: Any, path: str) -> Any:
    table = tf.lookup.experimental.MutableHashTable(tf.string, tf.string, "")
    with tf.control_dependencies([table.insert(["k"], [path])]):
        return tf.io.read_file(table.lookup(tf.constant("k")))


@_effect
def records_of_a_fixed_length_are_read(tf: Any, path: str) -> Any:
    data = tf.data.FixedLengthRecordDataset([path], 1)
    return data.reduce(tf.constant(""), lambda a, b: a + b)


@_effect
def a_list_of_candidates_is_read(tf: Any, path: str) -> Any:
    return tf.raw_ops.FixedUnigramCandidateSampler(
        true_classes=tf.constant([[0]], tf.int64),
        num_true=1,
        num_sampled=1,
        unique=False,
        range_max=2,
        vocab_file=path,
    )[0]


@_effect
def a_matrix_is_remapped_from_a_checkpoint(tf: Any, path: str) -> Any:
    return tf.raw_ops.LoadAndRemapMatrix(
        ckpt_path=path,
        old_tensor_name="t",
        row_remapping=tf.constant([0], tf.int64),
        col_remapping=tf.constant([], tf.int64),
        initializing_values=[],
        num_rows=1,
        num_cols=1,
    )


@_effect
def a_constant_is_mapped_from_a_file(tf: Any, path: str) -> Any:
    return tf.raw_ops.ImmutableConst(dtype=tf.float32, shape=[1], memory_region_name=path)


@_effect
def checkpoints_are_merged(tf: Any, path: str) -> Any:
    return tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=[path], destination_prefix=path + ".merged")


@_effect
def a_file_system_is_configured(tf: Any, path: str) -> Any:
    return tf.raw_ops.FileSystemSetConfiguration(scheme="", key="k", value="v")


@_effect
def a_data_service_is_asked(tf: Any, path: str) -> Any:
    return (
        tf.data.Dataset.range(3)
        .apply(tf.data.experimental.service.distribute("parallel_epochs", "grpc://localhost:1"))
        .reduce(tf.constant(0, tf.int64), lambda a, b: a + b)
    )


@_with_node
def a_remote_procedure_is_called(node: Any, path: str) -> None:
    node.op = "RpcCall"


@_with_node
def a_server_is_started(node: Any, path: str) -> None:
    node.op = "RpcServerStart"


@_effect
def python_is_called_in_a_data_set(tf: Any, path: str) -> Any:
    data = tf.data.Dataset.from_tensors(1.0).map(lambda v: tf.numpy_function(lambda w: w, [v], tf.float32))
    return data.reduce(tf.constant(0.0), lambda a, b: a + b)


@_effect
def a_data_base_of_summaries_is_made(tf: Any, path: str) -> Any:
    writer = tf.raw_ops.SummaryWriter()
    return tf.raw_ops.CreateSummaryDbWriter(
        writer=writer, db_uri=path, experiment_name="e", run_name="r", user_name="u"
    )


def an_op_looks_like_another(folder: Path, path: str) -> Path:
    """The first letter of its name is a wide one."""

    def change(meta: Any) -> None:
        meta.graph_def.node.add(name="hidden", op="\uff2eoOp")
        next(it for it in meta.graph_def.node if it.name == "y").input.append("^hidden")

    return served_v1(folder, lambda x: x * 2, change)


def a_text_is_written_in_two_ways(folder: Path, path: str) -> Path:
    """Where a text tensor has its content as bytes, its values do not count."""
    import tensorflow as tf

    def serve(x: Any) -> Any:
        data = tf.data.Dataset.range(3).cache(path)
        return x * tf.cast(data.reduce(tf.constant(0, tf.int64), lambda a, b: a + b), tf.float32)

    def change(meta: Any) -> None:
        for node in meta.graph_def.node:
            tensor = node.attr["value"].tensor
            if list(tensor.string_val) == [path.encode()]:
                tensor.tensor_content = bytes([len(path)]) + path.encode()
                tensor.string_val[0] = b""

    return served_v1(folder, serve, change)


HOSTILE_OPS = {
    the_first_of_two_functions_of_a_name_writes: "two functions have one name",
    the_last_of_two_functions_of_a_name_writes: "two functions have one name",
    a_node_of_a_function_hides_behind_its_name: "have one name",
    a_node_hides_behind_its_name: "another node has its name",
    a_tpu_call_writes: "writes files",
    a_generator_writes_at_its_end: "writes files",
    a_batch_function_writes: "writes files",
    a_branch_that_is_never_taken_writes: "writes files",
    a_path_is_put_together: "reads files",
    a_path_comes_out_of_a_table: "reads files",
    records_of_a_fixed_length_are_read: "reads files",
    a_list_of_candidates_is_read: "reads files",
    a_matrix_is_remapped_from_a_checkpoint: "reads files",
    a_constant_is_mapped_from_a_file: "reads files",
    checkpoints_are_merged: "writes files",
    a_file_system_is_configured: "writes files",
    a_data_service_is_asked: "network",
    a_remote_procedure_is_called: "network",
    a_server_is_started: "network",
    python_is_called_in_a_data_set: "python",
    a_data_base_of_summaries_is_made: "writes files",
    an_op_looks_like_another: "unknown",
    a_text_is_written_in_two_ways: "1 values for string",
}
"""Each with what the refusal says."""
