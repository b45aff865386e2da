"""SavedModels that hide what they would do from whoever looks at nodes alone, and honest ones of the same make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.models.hostile import served


def rewritten(folder: Path, change: Callable[[Any], None]) -> Path:
    """Change the graph of a SavedModel by hand."""
    from tpu2gpu.graphs.formats.saved_model import parse_saved_model

    saved_model = parse_saved_model(folder)
    change(saved_model.meta_graphs[0])
    (folder / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    return folder


def served_v1(folder: Path, serve: Callable[[Any], Any], change: Callable[[Any], None] = lambda meta: None) -> Path:
    """Export a graph of TensorFlow 1; nothing of it is run but the initialisers of its variables."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None], name="x")
        y = tf.identity(serve(x), name="y")
        session.run(v1.global_variables_initializer())
        infos = {"x": v1.saved_model.build_tensor_info(x)}, {"y": v1.saved_model.build_tensor_info(y)}
        signature = v1.saved_model.build_signature_def(*infos, "serve")
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()
    return rewritten(folder, change)


def double(tf: Any, x: Any, *effects: Any) -> Any:
    with tf.control_dependencies([effect for effect in effects if effect is not None]):
        return {"y": tf.identity(x) * 2}


def _raw(make: Callable[[Any, str], Any]) -> Callable[[Path, str], Path]:
    """Build a model whose signature runs what `make(tensorflow, path)` makes."""

    def build(folder: Path, path: str) -> Path:
        import tensorflow as tf

        return served(folder, lambda x: double(tf, x, make(tf, path)))

    build.__name__ = make.__name__
    return build


@_raw
def a_data_set_reads_in_its_function(tf: Any, path: str) -> Any:
    files = tf.data.Dataset.from_tensors(path).map(tf.io.read_file)
    return files.reduce(tf.constant(""), lambda a, b: a + b)


@_raw
def a_reader_reads_whole_files(tf: Any, path: str) -> Any:
    queue = tf.raw_ops.FIFOQueueV2(component_types=[tf.string])
    filled = tf.raw_ops.QueueEnqueueV2(handle=queue, components=[path])
    with tf.control_dependencies([filled]):
        return tf.raw_ops.ReaderReadV2(reader_handle=tf.raw_ops.WholeFileReaderV2(), queue_handle=queue)[1]


@_raw
def files_are_listed(tf: Any, path: str) -> Any:
    return tf.io.matching_files(path)


@_raw
def a_data_base_is_read(tf: Any, path: str) -> Any:
    rows = tf.raw_ops.SqlDataset(
        driver_name="sqlite", data_source_name=path, query="select 1", output_types=[tf.int32], output_shapes=[[]]
    )
    return tf.raw_ops.DatasetCardinality(input_dataset=rows)


@_raw
def a_debugger_writes_files(tf: Any, path: str) -> Any:
    return tf.raw_ops.DebugIdentity(input=1.0, tensor_name="t:0", debug_urls=[f"file://{path}"])


@_raw
def a_debugger_calls_home(tf: Any, path: str) -> Any:
    return tf.raw_ops.DebugNumericSummary(input=1.0, tensor_name="t:0", debug_urls=["grpc://localhost:1"])


@_raw
def a_checkpoint_is_saved(tf: Any, path: str) -> Any:
    name = tf.raw_ops.ShardedFilename(basename=path, shard=0, num_shards=1)
    return tf.raw_ops.SaveV2(prefix=name, tensor_names=["t"], shape_and_slices=[""], tensors=[1.0])


@_raw
def an_old_checkpoint_is_saved(tf: Any, path: str) -> Any:
    return tf.raw_ops.Save(filename=path, tensor_names=["t"], data=[1.0])


@_raw
def a_data_set_is_snapshotted(tf: Any, path: str) -> Any:
    data = tf.data.Dataset.range(3).snapshot(path)
    return data.reduce(tf.constant(0, tf.int64), lambda a, b: a + b)


@_raw
def a_data_set_is_saved(tf: Any, path: str) -> Any:
    # Tracing `Dataset.save` would save; the op alone does not.
    function = tf.function(lambda x: tf.constant(0, tf.int64)).get_concrete_function(tf.TensorSpec([], tf.int64))
    return tf.raw_ops.SaveDataset(
        input_dataset=tf.data.Dataset.range(3)._variant_tensor,
        path=path,
        shard_func_other_args=[],
        shard_func=function,
        compression="",
        use_shard_func=False,
    )


@_raw
def a_data_set_caches_in_files(tf: Any, path: str) -> Any:
    return tf.data.Dataset.range(3).cache(path).reduce(tf.constant(0, tf.int64), lambda a, b: a + b)


@_raw
def python_is_called_eagerly(tf: Any, path: str) -> Any:
    return tf.py_function(lambda: 1.0, [], tf.float32)


@_raw
def a_protocol_is_described_by_a_file(tf: Any, path: str) -> Any:
    return tf.raw_ops.DecodeProtoV2(
        bytes=[""], message_type="M", field_names=["f"], output_types=[tf.float32], descriptor_source=path
    ).sizes


@_raw
def a_data_set_comes_as_text(tf: Any, path: str) -> Any:
    """A graph in a string is run; nobody can look into it."""
    data = tf.raw_ops.DatasetFromGraph(graph_def=tf.constant("anything"))
    return tf.raw_ops.DatasetCardinality(input_dataset=data)


def _with_node(add: Callable[[Any, Any], None]) -> Callable[[Path, str], Path]:
    """Build a graph of TensorFlow 1 whose output waits for a node that no function of TensorFlow's makes."""

    def build(folder: Path, path: str) -> Path:
        def change(meta: Any) -> None:
            function = meta.graph_def.library.function.add()
            function.signature.name = "named"
            node = meta.graph_def.node.add(name="hidden")
            add(node, path)
            next(it for it in meta.graph_def.node if it.name == "y").input.append("^hidden")

        return served_v1(folder, lambda x: x * 2, change)

    build.__name__ = add.__name__
    return build


@_with_node
def a_remote_function_is_called(node: Any, path: str) -> None:
    node.op = "RemoteCall"
    node.attr["f"].func.name = "named"


@_with_node
def a_tensor_comes_from_elsewhere(node: Any, path: str) -> None:
    node.op = "_Recv"
    node.attr["send_device"].s = b"/job:worker/task:0"


@_with_node
def a_host_computes(node: Any, path: str) -> None:
    node.op = "XlaHostCompute"
    node.attr["key"].s = b"key"


@_with_node
def an_engine_lies_inside(node: Any, path: str) -> None:
    """An engine is a program, and nothing tells who made this one."""
    node.op = "TRTEngineOp"
    node.attr["serialized_segment"].s = b"engine"


@_with_node
def an_engine_lies_beside(node: Any, path: str) -> None:
    node.op = "InitializeTRTResource"


@_with_node
def native_code_is_called_by_its_name(node: Any, path: str) -> None:
    node.op = "XlaCallModule"
    node.attr["module"].s = b"ML\xefR...vhlo.custom_call_v1\0xla_python_cpu_callback\0"


@_with_node
def an_op_comes_from_a_library(node: Any, path: str) -> None:
    """`load_op_library` would have to load it."""
    node.op = "ZeroOut"


def an_assertion_waits_for_a_write(folder: Path, path: str) -> Path:
    import tensorflow as tf

    def serve(x: Any) -> Any:
        with tf.control_dependencies([tf.io.write_file(path, "x")]):
            held = tf.debugging.Assert(tf.reduce_all(x > -1e9), [x])
        return double(tf, x, held)

    return served(folder, serve)


def a_function_has_a_twin(folder: Path, path: str) -> Path:
    """TensorFlow's optimiser calls another function that says it implements the same."""
    import tensorflow as tf

    def function(device: str, *, write: bool) -> Any:
        made = tf.function(
            lambda x: double(tf, x, tf.io.write_file(path, "x") if write else None)["y"],
            input_signature=[tf.TensorSpec([None], tf.float32)],
            experimental_attributes={"api_implements": "doubling", "api_preferred_device": device},
        )
        return made.get_concrete_function()

    shown, called = function("GPU", write=False), function("CPU", write=True)

    def hide(meta: Any) -> None:
        meta.graph_def.library.function.add().CopyFrom(called.function_def)

    return served_v1(folder, shown, hide)


def a_gradient_writes(folder: Path, path: str) -> Path:
    """The function that counts as another's gradient is named in the library alone."""
    import tensorflow as tf

    square = tf.function(lambda v: v * v).get_concrete_function(tf.TensorSpec([None], tf.float32))
    steal = tf.function(lambda v, g: double(tf, g, tf.io.write_file(path, "x"))["y"])
    stealing = steal.get_concrete_function(tf.TensorSpec([None], tf.float32), tf.TensorSpec([None], tf.float32))

    def serve(x: Any) -> Any:
        return tf.raw_ops.SymbolicGradient(input=[x, x], Tout=[tf.float32], f=square)[0]

    def gradient(meta: Any) -> None:
        library = meta.graph_def.library
        for concrete in (square, stealing):
            function = concrete.function_def
            if function.signature.name not in {it.signature.name for it in library.function}:
                library.function.add().CopyFrom(function)
        library.gradient.add(
            function_name=square.function_def.signature.name, gradient_func=stealing.function_def.signature.name
        )

    return served_v1(folder, serve, gradient)


def an_honest_data_set(folder: Path) -> Path:
    import tensorflow as tf

    def serve(x: Any) -> Any:
        data = tf.data.Dataset.from_tensor_slices(x).map(lambda v: v * 2).batch(2).cache()
        return {"y": data.reduce(tf.constant(0.0), lambda a, b: a + tf.reduce_sum(b))}

    return served(folder, serve)


HOSTILE_GRAPHS = {
    a_data_set_reads_in_its_function: "files",
    a_reader_reads_whole_files: "files",
    files_are_listed: "files",
    a_data_base_is_read: "files",
    a_debugger_writes_files: "network",
    a_debugger_calls_home: "network",
    a_checkpoint_is_saved: "files",
    an_old_checkpoint_is_saved: "files",
    a_data_set_is_snapshotted: "files",
    a_data_set_is_saved: "files",
    a_data_set_caches_in_files: "files",
    python_is_called_eagerly: "python",
    a_protocol_is_described_by_a_file: "files",
    a_data_set_comes_as_text: "custom",
    a_remote_function_is_called: "network",
    a_tensor_comes_from_elsewhere: "network",
    a_host_computes: "network",
    an_engine_lies_inside: "custom",
    an_engine_lies_beside: "custom",
    native_code_is_called_by_its_name: "custom",
    an_op_comes_from_a_library: "custom",
    an_assertion_waits_for_a_write: "files",
    a_function_has_a_twin: "files",
    a_gradient_writes: "files",
}
"""Each with what a user has to trust."""
