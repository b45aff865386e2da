"""SavedModels whose effects stand where only TensorFlow looks, or look otherwise to whoever reads them less closely."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.models.hostile import served
from tests.models.hostile_graphs import double, rewritten, served_v1
from tests.models.hostile_loading import _add_asset, an_object_writes_when_made


def a_state_of_an_iterator_holds_a_graph(folder: Path, path: str) -> Path:
    """A data set inside the state of an iterator is a graph in a text, which restoring the state runs."""
    import tensorflow as tf

    iterator = iter(tf.data.Dataset.range(3))
    state = tf.raw_ops.SerializeIterator(resource_handle=iterator._iterator_resource)
    text = tf.io.serialize_tensor(state).numpy()

    def serve(x: Any) -> Any:
        handle = tf.raw_ops.AnonymousIteratorV3(output_types=[tf.int64], output_shapes=[[]])
        data = tf.data.Dataset.range(3)._variant_tensor
        with tf.control_dependencies([tf.raw_ops.MakeIterator(dataset=data, iterator=handle)]):
            state = tf.io.parse_tensor(text, tf.variant)
        return double(tf, x, tf.raw_ops.DeserializeIterator(resource_handle=handle, serialized=state))

    return served(folder, serve)


def a_call_says_where_to_print(folder: Path, path: str) -> Path:
    """What an attribute of a function's node is, its caller says."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def keep(v: Any) -> Any:
        tf.print(v, output_stream="file:///nowhere")
        return tf.identity(v)

    def serve(x: Any) -> Any:
        called = tf.raw_ops.StatefulPartitionedCall(args=[x], Tout=[tf.float32], f=keep.get_concrete_function())
        return called[0] * 2

    def change(meta: Any) -> None:
        bound = {}
        for function in meta.graph_def.library.function:
            for node in function.node_def:
                if node.op == "PrintV2":
                    node.attr["output_stream"].Clear()
                    node.attr["output_stream"].placeholder = "stream"
                    function.signature.attr.add(name="stream", type="string")
                    bound[function.signature.name] = f"file://{path}".encode()
        for holder in (meta.graph_def, *meta.graph_def.library.function):
            for node in holder.node if holder is meta.graph_def else holder.node_def:
                if node.attr["f"].func.name in bound:
                    node.attr["f"].func.attr["stream"].s = bound[node.attr["f"].func.name]

    return served_v1(folder, serve, change)


def a_call_says_what_to_call(folder: Path, path: str) -> Path:
    """The function that writes is named in what a call binds to another's attribute alone."""
    import tensorflow as tf

    spec = [tf.TensorSpec([None], tf.float32)]
    harmless = tf.function(lambda v: v * 2, input_signature=spec).get_concrete_function()
    writes = tf.function(
        lambda v: double(tf, v, tf.io.write_file(path, "x"))["y"], input_signature=spec
    ).get_concrete_function()

    @tf.function(input_signature=spec)
    def through(v: Any) -> Any:
        return tf.raw_ops.StatefulPartitionedCall(args=[v], Tout=[tf.float32], f=harmless)[0]

    outer = through.get_concrete_function()

    def serve(x: Any) -> Any:
        return tf.raw_ops.StatefulPartitionedCall(args=[x], Tout=[tf.float32], f=outer)[0]

    def change(meta: Any) -> None:
        library, name = meta.graph_def.library, outer.function_def.signature.name
        library.function.add().CopyFrom(writes.function_def)
        for function in library.function:
            if function.signature.name == name:
                function.signature.attr.add(name="inner", type="func")
                for node in function.node_def:
                    if "f" in node.attr:
                        node.attr["f"].Clear()
                        node.attr["f"].placeholder = "inner"
        for node in meta.graph_def.node:
            if node.attr["f"].func.name == name:
                node.attr["f"].func.attr["inner"].func.name = writes.function_def.signature.name

    return served_v1(folder, serve, change)


def a_function_is_named_like_an_op(folder: Path, path: str) -> Path:
    import tensorflow as tf

    function = tf.function(lambda a, b: None).get_concrete_function(
        tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.string)
    )

    def change(meta: Any) -> None:
        added = meta.graph_def.library.function.add()
        added.CopyFrom(function.function_def)
        added.signature.name = "WriteFile"

    return served_v1(folder, lambda x: double(tf, x, tf.io.write_file(path, "x"))["y"], change)


def a_text_spells_a_custom_call(folder: Path, path: str) -> Path:
    """MLIR's text may write any letter of an operation's name as a number."""

    def change(meta: Any) -> None:
        node = meta.graph_def.node.add(name="hidden", op="XlaCallModule")
        node.attr["version"].i = 4
        node.attr["module"].s = (
            b'module @m { func.func public @main() -> () { "stablehlo.custom_\\63all"() '
            b'{call_target_name = "evil"} : () -> () return } }'
        )
        node.attr["Sout"].list.SetInParent()
        node.attr["Tin"].list.SetInParent()
        node.attr["Tout"].list.SetInParent()
        node.attr["dim_args_spec"].list.SetInParent()
        node.attr["platforms"].list.SetInParent()
        next(it for it in meta.graph_def.node if it.name == "y").input.append("^hidden")

    return served_v1(folder, lambda x: x * 2, change)


def _checkpoint_elsewhere(path: str) -> str:
    """A checkpoint of somebody else's, which holds one text."""
    import numpy as np

    from tpu2gpu.tensorbundle.writer import BundleWriter

    with BundleWriter(path) as writer:
        writer.add_array("secret", np.ones(1, np.float32))
    return path


def a_signature_restores_from_a_path_like_that_of_its_checkpoint(folder: Path, path: str) -> Path:
    """Loaders put the path of the checkpoint in place for restoring alone."""
    import tensorflow as tf

    def serve(x: Any) -> Any:
        name = tf.constant(path, name="saver")
        return (
            x
            * tf.raw_ops.RestoreV2(prefix=name, tensor_names=["secret"], shape_and_slices=[""], dtypes=[tf.float32])[0]
        )

    return served_v1(folder, serve, _restored)


def _restored(meta: Any, by: str = "saver") -> None:
    """Let a graph restore its variables by a node, which has the path from another."""
    meta.saver_def.filename_tensor_name = "saver:0"
    meta.saver_def.restore_op_name = by
    meta.saver_def.save_tensor_name = "saver:0"


def an_initialiser_restores_from_a_path_like_that_of_its_checkpoint(folder: Path, path: str) -> Path:
    import tensorflow as tf

    def serve(x: Any) -> Any:
        name = tf.constant(path, name="saver")
        restored = tf.raw_ops.RestoreV2(
            prefix=name, tensor_names=["secret"], shape_and_slices=[""], dtypes=[tf.float32]
        )[0]
        v = tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[1], shared_name="v")
        tf.group(tf.raw_ops.AssignVariableOp(resource=v, value=restored), name="written")
        return x * tf.raw_ops.ReadVariableOp(resource=v, dtype=tf.float32)

    def change(meta: Any) -> None:
        meta.collection_def.clear()
        meta.collection_def["saved_model_main_op"].node_list.value.append("written")
        _restored(meta)

    return served_v1(folder, serve, change)


def _stolen(tf: Any, file: Any) -> Any:
    """Keep what stands in a file in a variable; return what reads it."""
    v = tf.raw_ops.VarHandleOp(dtype=tf.string, shape=[], shared_name="v")
    tf.group(tf.raw_ops.AssignVariableOp(resource=v, value=tf.io.read_file(file)), name="written")
    return tf.cast(tf.strings.length(tf.raw_ops.ReadVariableOp(resource=v, dtype=tf.string)), tf.float32)


def restoring_reads_a_path_like_that_of_an_asset(folder: Path, path: str) -> Path:
    """Loaders of TensorFlow 2 put the paths of assets in place for the initialiser alone."""
    import tensorflow as tf

    def serve(x: Any) -> Any:
        tf.constant("model", name="saver")
        return x * _stolen(tf, tf.constant(path, name="asset"))

    def change(meta: Any) -> None:
        meta.collection_def.clear()
        _restored(meta, by="written")
        _add_asset(folder, meta, "words.txt")

    return served_v1(folder, serve, change)


def another_output_of_what_holds_an_asset_is_read(folder: Path, path: str) -> Path:
    """Loaders put a path into one output of a node; another still is what it was."""
    import tensorflow as tf

    def serve(x: Any) -> Any:
        _, second = tf.raw_ops.IdentityN(input=[tf.constant("words.txt"), tf.constant(path)], name="asset")
        return x * _stolen(tf, second)

    def change(meta: Any) -> None:
        meta.collection_def.clear()
        meta.collection_def["saved_model_main_op"].node_list.value.append("written")
        _add_asset(folder, meta, "words.txt")

    return served_v1(folder, serve, change)


def an_object_calls_what_the_list_of_functions_lacks(folder: Path, path: str) -> Path:
    """An object may name any function of the library."""

    def change(meta: Any) -> None:
        for name in [it for it in meta.object_graph_def.concrete_functions if "initialize" in it]:
            del meta.object_graph_def.concrete_functions[name]
        meta.signature_def.pop("__saved_model_init_op", None)  # which calls it too
        meta.collection_def.clear()

    return rewritten(an_object_writes_when_made(folder, path), change)


def the_first_graph_says_its_tag_twice_and_writes(folder: Path, path: str) -> Path:
    import tensorflow as tf

    from tpu2gpu.graphs.formats.saved_model import parse_saved_model

    served_v1(folder.with_name("other"), lambda x: double(tf, x, tf.io.write_file(path, "x"))["y"])
    served_v1(folder, lambda x: x * 2)
    saved_model, other = parse_saved_model(folder), parse_saved_model(folder.with_name("other"))
    other.meta_graphs[0].meta_info_def.tags.append("serve")
    other.meta_graphs.add().CopyFrom(saved_model.meta_graphs[0])
    (folder / "saved_model.pb").write_bytes(other.SerializeToString())
    return folder


DISGUISED = {
    a_state_of_an_iterator_holds_a_graph: "DeserializeIterator.*custom",
    a_call_says_where_to_print: "output_stream of PrintV2 is left to the calls",
    a_call_says_what_to_call: "f of StatefulPartitionedCall is left to the calls",
    a_function_is_named_like_an_op: "function WriteFile has the name of an op",
    a_text_spells_a_custom_call: "XlaCallModule 'hidden': custom",
    a_signature_restores_from_a_path_like_that_of_its_checkpoint: "RestoreV2 'RestoreV2': reads files",
    an_initialiser_restores_from_a_path_like_that_of_its_checkpoint: "RestoreV2 'RestoreV2': reads files",
    restoring_reads_a_path_like_that_of_an_asset: "ReadFile 'ReadFile': reads files",
    another_output_of_what_holds_an_asset_is_read: "ReadFile 'ReadFile': reads files",
    an_object_calls_what_the_list_of_functions_lacks: "WriteFile 'WriteFile' in function",
    the_first_graph_says_its_tag_twice_and_writes: "WriteFile 'WriteFile': writes files",
}
"""Each with what the refusal says."""
