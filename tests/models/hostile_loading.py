"""SavedModels that do more than compute when they are loaded, and honest ones of the same make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.models.hostile import served
from tests.models.hostile_graphs import double, rewritten, served_v1


def an_object_writes_when_made(folder: Path, path: str) -> Path:
    """The initialiser of a resource in the graph of objects writes."""
    import tensorflow as tf
    from tensorflow.python.trackable.resource import CapturableResource

    class Written(CapturableResource):
        def _create_resource(self) -> Any:
            return tf.constant(1.0)

        def _initialize(self) -> None:
            tf.io.write_file(path, "x")

    return served(folder, lambda x: {"y": x * 2}, written=Written())


def an_object_writes_in_what_also_saves(folder: Path, path: str) -> Path:
    """The same, where the function that writes is also called by what saves."""

    def save_by_it(meta: Any) -> None:
        (name,) = (it for it in meta.object_graph_def.concrete_functions if "initialize" in it)
        for node in meta.graph_def.node:
            if node.name == meta.saver_def.save_tensor_name.split(":")[0]:
                node.attr["f"].func.name = name
                del node.input[:]
                node.attr["Tin"].list.ClearField("type")
                node.attr["Tout"].list.type[:] = [3]

    an_object_writes_when_made(folder, path)
    return rewritten(folder, save_by_it)


def _initialised(register: Callable[[Any, Any], None]) -> Callable[[Path, str], Path]:
    """Build a graph of TensorFlow 1 with an op that writes, and let `register(tensorflow, meta)` have it run."""

    def build(folder: Path, path: str) -> Path:
        import tensorflow as tf

        def serve(x: Any) -> Any:
            tf.group(tf.io.write_file(path, "x"), name="written")
            return x * 2

        def change(meta: Any) -> None:
            meta.collection_def.clear()
            register(tf, meta)

        return served_v1(folder, serve, change)

    build.__name__ = register.__name__
    return build


@_initialised
def the_main_op_writes(tf: Any, meta: Any) -> None:
    meta.collection_def["saved_model_main_op"].node_list.value.append("written")


@_initialised
def the_legacy_init_op_writes(tf: Any, meta: Any) -> None:
    meta.collection_def["legacy_init_op"].node_list.value.append("written")


@_initialised
def a_table_initializer_writes(tf: Any, meta: Any) -> None:
    meta.collection_def["table_initializer"].node_list.value.append("written")


@_initialised
def the_init_signature_writes(tf: Any, meta: Any) -> None:
    meta.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"].name = "written"


@_initialised
def restoring_writes(tf: Any, meta: Any) -> None:
    meta.saver_def.filename_tensor_name = "saver:0"
    meta.saver_def.restore_op_name = "written"
    meta.saver_def.save_tensor_name = "y:0"
    node = meta.graph_def.node.add(name="saver", op="Placeholder")
    node.attr["dtype"].type = tf.string.as_datatype_enum


@_initialised
def the_initialiser_of_a_local_variable_writes(tf: Any, meta: Any) -> None:
    """Where a graph has no initialiser of its own, its local variables are initialised."""
    from tensorflow.core.framework import variable_pb2

    handle = meta.graph_def.node.add(name="v", op="VarHandleOp")
    handle.attr["dtype"].type = 1
    handle.attr["shape"].shape.SetInParent()
    read = meta.graph_def.node.add(name="v/read", op="ReadVariableOp", input=["v"])
    read.attr["dtype"].type = 1
    variable = variable_pb2.VariableDef(
        variable_name="v:0", initializer_name="written", snapshot_name="v/read:0", is_resource=True
    )
    meta.collection_def["local_variables"].bytes_list.value.append(variable.SerializeToString())


def a_signature_reads_a_path_like_that_of_an_asset(folder: Path, path: str) -> Path:
    """Loaders put the paths of assets in place for initialisers alone."""
    import tensorflow as tf

    def serve(x: Any) -> Any:
        return double(tf, x, tf.io.read_file(tf.constant(path, name="asset")))["y"]

    return served_v1(folder, serve, lambda meta: _add_asset(folder, meta, "words.txt"))


def _add_asset(folder: Path, meta: Any, name: str) -> None:
    (folder / "assets").mkdir(exist_ok=True)
    (folder / "assets" / "words.txt").write_text("one\ntwo\n")
    meta.asset_file_def.add(filename=name).tensor_info.name = "asset:0"


def _table_of(path_of: Callable[[Any, str], Any], folder: Path, path: str) -> Path:
    """Serve from a table whose initialiser reads a file."""
    import tensorflow as tf

    def serve(x: Any) -> Any:
        table = tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64, shared_name="table")
        file = path_of(tf, path)
        tf.group(
            tf.raw_ops.InitializeTableFromTextFileV2(
                table_handle=table, filename=file, key_index=-2, value_index=-1, vocab_size=-1, offset=0
            ),
            name="written",
        )
        found = tf.raw_ops.LookupTableFindV2(table_handle=table, keys=["one"], default_value=tf.constant(-1, tf.int64))
        return x * tf.cast(found, tf.float32)

    def change(meta: Any) -> None:
        meta.collection_def["legacy_init_op"].node_list.value.append("written")
        _add_asset(folder, meta, "words.txt")

    return served_v1(folder, serve, change)


def a_table_is_read_from_elsewhere(folder: Path, path: str) -> Path:
    return _table_of(lambda tf, path: tf.constant(path), folder, path)


def a_variable_has_two_names(folder: Path, path: str) -> Path:
    """What an asset was written into is written over under another name."""

    def path_of(tf: Any, path: str) -> Any:
        first, second = (tf.raw_ops.VarHandleOp(dtype=tf.string, shape=[], shared_name="v") for _ in range(2))
        written = tf.raw_ops.AssignVariableOp(resource=first, value=tf.constant("words.txt", name="asset"))
        with tf.control_dependencies([written]):
            over = tf.raw_ops.AssignVariableOp(resource=second, value=tf.constant(path))
        with tf.control_dependencies([over]):
            return tf.raw_ops.ReadVariableOp(resource=first, dtype=tf.string)

    return _table_of(path_of, folder, path)


def a_function_writes_a_variable_over(folder: Path, path: str) -> Path:
    def path_of(tf: Any, path: str) -> Any:
        @tf.function(input_signature=[tf.TensorSpec([], tf.resource)])
        def overwrite(handle: Any) -> None:
            tf.raw_ops.AssignVariableOp(resource=handle, value=tf.constant(path))

        handle = tf.raw_ops.VarHandleOp(dtype=tf.string, shape=[], shared_name="v")
        written = tf.raw_ops.AssignVariableOp(resource=handle, value=tf.constant("words.txt", name="asset"))
        with tf.control_dependencies([written]):
            over = overwrite(handle)
        with tf.control_dependencies([over] if over is not None else []):
            return tf.raw_ops.ReadVariableOp(resource=handle, dtype=tf.string)

    return _table_of(path_of, folder, path)


def a_table_of_its_asset(folder: Path) -> Path:
    return _table_of(lambda tf, _: tf.constant("words.txt", name="asset"), folder, "")


def a_variable_of_its_asset(folder: Path) -> Path:
    def path_of(tf: Any, _: str) -> Any:
        handle = tf.raw_ops.VarHandleOp(dtype=tf.string, shape=[], shared_name="v")
        written = tf.raw_ops.AssignVariableOp(resource=handle, value=tf.constant("words.txt", name="asset"))
        with tf.control_dependencies([written]):
            return tf.raw_ops.ReadVariableOp(resource=handle, dtype=tf.string)

    return _table_of(path_of, folder, "")


HOSTILE_WHEN_LOADED = {
    an_object_writes_when_made: "files",
    an_object_writes_in_what_also_saves: "files",
    the_main_op_writes: "files",
    the_legacy_init_op_writes: "files",
    a_table_initializer_writes: "files",
    the_init_signature_writes: "files",
    restoring_writes: "files",
    the_initialiser_of_a_local_variable_writes: "files",
    a_signature_reads_a_path_like_that_of_an_asset: "files",
    a_table_is_read_from_elsewhere: "files",
    a_variable_has_two_names: "files",
    a_function_writes_a_variable_over: "files",
}
"""Each with what a user has to trust."""


def two_tables(folder: Path) -> Path:
    """Give 10 and 20 for one word from two tables, whose files have one name in two folders; an honest model."""
    import tensorflow as tf

    def serve(x: Any) -> Any:
        found, written = [], []
        for name in ("one", "two"):
            table = tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64, shared_name=name)
            file = tf.constant(f"{name}/words.txt", name=name)
            written.append(
                tf.raw_ops.InitializeTableFromTextFileV2(
                    table_handle=table, filename=file, key_index=0, value_index=1, delimiter=" "
                )
            )
            default = tf.constant(-1, tf.int64)
            found.append(tf.raw_ops.LookupTableFindV2(table_handle=table, keys="word", default_value=default))
        tf.group(written, name="written")
        return x + tf.cast(found[0] + found[1], tf.float32)

    def change(meta: Any) -> None:
        meta.collection_def["legacy_init_op"].node_list.value.append("written")
        for name, value in (("one", 10), ("two", 20)):
            path = folder / "assets" / name / "words.txt"
            path.parent.mkdir(parents=True)
            path.write_text(f"word {value}\n")
            meta.asset_file_def.add(filename=f"{name}/words.txt").tensor_info.name = f"{name}:0"

    return served_v1(folder, serve, change)
