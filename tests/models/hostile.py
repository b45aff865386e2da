"""SavedModels that would do more than compute, and honest ones that look like them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def _module(**attributes: Any) -> Any:
    import tensorflow as tf

    module = tf.Module()
    for name, value in attributes.items():
        setattr(module, name, value)
    return module


def served(folder: Path, serve: Callable[[Any], Any], *, dtype: str = "float32", **attributes: Any) -> Path:
    """Export a function of one vector."""
    import tensorflow as tf

    module = _module(**attributes)
    module.serve = tf.function(serve, input_signature=[tf.TensorSpec([None], tf.as_dtype(dtype), name="x")])
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    return folder


def writes_a_file(folder: Path, written: str) -> Path:
    import tensorflow as tf

    def serve(x: Any) -> Any:
        with tf.control_dependencies([tf.io.write_file(written, "x")]):
            return {"y": tf.identity(x) * 2}

    return served(folder, serve)


def writes_in_a_loop(folder: Path, written: str) -> Path:
    import tensorflow as tf

    def body(i: Any, x: Any) -> Any:
        with tf.control_dependencies([tf.io.write_file(written, "x")]):
            return i + 1, x * 2

    def serve(x: Any) -> Any:
        return {"y": tf.while_loop(lambda i, x: i < 2, body, [0, x])[1]}

    return served(folder, serve)


def writes_when_loaded(folder: Path, written: str) -> Path:
    """The op that TensorFlow 1 runs when it loads a model writes."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None], name="x")
        signature = v1.saved_model.build_signature_def(
            {"x": v1.saved_model.build_tensor_info(x)}, {"y": v1.saved_model.build_tensor_info(x * 2)}, "serve"
        )
        builder = v1.saved_model.Builder(str(folder))
        init = tf.group(tf.io.write_file(written, "x"))
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature}, main_op=init)
        builder.save()
    return folder


def prints_to_a_file(folder: Path, written: str) -> Path:
    import tensorflow as tf

    def serve(x: Any) -> Any:
        tf.print(x, output_stream=f"file://{written}")
        return {"y": x * 2}

    return served(folder, serve)


def reads_a_file(folder: Path, read: str) -> Path:
    import tensorflow as tf

    return served(folder, lambda x: {"y": x * 2, "stolen": tf.io.read_file(read)})


def reads_files_beside_its_outputs(folder: Path, read: str) -> Path:
    """TensorFlow calls neither op stateful, so that only the author's order runs them."""
    import tensorflow as tf

    def serve(x: Any) -> Any:
        watched = tf.raw_ops.DebugIdentityV2(input=x, debug_urls=[f"file://{read}"])
        with tf.control_dependencies([tf.io.read_file(read), watched]):
            return {"y": tf.identity(x * 2)}

    return served(folder, serve)


def reads_what_is_asked(folder: Path, read: str) -> Path:
    """Whoever sends a request names the file."""
    import tensorflow as tf

    return served(folder, lambda x: {"y": tf.map_fn(tf.io.read_file, x)}, dtype="string")


def reads_beside_its_asset(folder: Path, read: str) -> Path:
    import tensorflow as tf

    folder.parent.mkdir(exist_ok=True)
    asset = folder.parent / "words.txt"
    asset.write_text("one\ntwo\n")
    words = tf.saved_model.Asset(str(asset))

    def serve(x: Any) -> Any:
        return {"y": x * 2, "stolen": tf.io.read_file(tf.strings.join([words.asset_path, "/../../../..", read]))}

    return served(folder, serve, words=words)


def reads_lines_of_a_file(folder: Path, read: str) -> Path:
    import tensorflow as tf

    def serve(x: Any) -> Any:
        lines = tf.data.TextLineDataset(read).reduce(tf.constant(""), lambda a, b: a + b)
        return {"y": x * 2, "stolen": lines}

    return served(folder, serve)


def calls_python(folder: Path, _: str) -> Path:
    import tensorflow as tf

    def serve(x: Any) -> Any:
        return {"y": tf.ensure_shape(tf.numpy_function(lambda value: value * 2, [x], tf.float32), [None])}

    return served(folder, serve)


def writes_summaries(folder: Path, written: str) -> Path:
    import tensorflow as tf

    def serve(x: Any) -> Any:
        writer = tf.raw_ops.SummaryWriter()
        tf.raw_ops.CreateSummaryFileWriter(
            writer=writer, logdir=written, max_queue=1, flush_millis=1, filename_suffix=".events"
        )
        return {"y": x * 2}

    return served(folder, serve)


def runs_what_nobody_knows(folder: Path, _: str) -> Path:
    """An op of a library that is not there."""
    from tpu2gpu.graphs.formats.saved_model import parse_saved_model

    served(folder, lambda x: {"y": x * 2})
    saved_model = parse_saved_model(folder)
    for function in saved_model.meta_graphs[0].graph_def.library.function:
        for node in function.node_def:
            if node.op == "Mul":
                node.op = "Addons>Double"
    (folder / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    return folder


HOSTILE = {
    writes_a_file: "files",
    writes_in_a_loop: "files",
    writes_when_loaded: "files",
    prints_to_a_file: "files",
    reads_a_file: "files",
    reads_what_is_asked: "files",
    reads_beside_its_asset: "files",
    reads_lines_of_a_file: "files",
    writes_summaries: "files",
    calls_python: "python",
    runs_what_nobody_knows: "custom",
}
"""Each with what a user has to trust."""


def looks_words_up(folder: Path) -> Path:
    """A vocabulary of TensorFlow 2, which is an asset."""
    import tensorflow as tf

    asset = folder.parent / "vocabulary.txt"
    asset.write_text("one\ntwo\n")
    table = tf.lookup.StaticVocabularyTable(
        tf.lookup.TextFileInitializer(
            str(asset),
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        ),
        num_oov_buckets=1,
    )
    return served(folder, lambda x: {"y": table.lookup(x)}, dtype="string", table=table)


def looks_words_up_v1(folder: Path) -> Path:
    """The same in TensorFlow 1, with a variable beside it."""
    import tensorflow as tf

    v1 = tf.compat.v1
    asset = folder.parent / "vocabulary.txt"
    asset.write_text("one\ntwo\n")
    with tf.Graph().as_default(), v1.Session() as session:
        words = v1.placeholder(tf.string, [None], name="x")
        table = v1.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                str(asset), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
            ),
            -1,
        )
        scale = v1.get_variable("scale", initializer=2.0)
        found = tf.cast(table.lookup(words), tf.float32) * scale
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        v1.saved_model.simple_save(
            session, str(folder), {"x": words}, {"y": found}, legacy_init_op=v1.tables_initializer()
        )
    return folder


def reads_its_asset(folder: Path) -> Path:
    import tensorflow as tf

    folder.parent.mkdir(exist_ok=True)
    asset = folder.parent / "words.txt"
    asset.write_text("one\ntwo\n")
    words = tf.saved_model.Asset(str(asset))
    return served(folder, lambda x: {"y": x * 2, "words": tf.io.read_file(words.asset_path)}, words=words)


def prints(folder: Path) -> Path:
    import tensorflow as tf

    def serve(x: Any) -> Any:
        tf.print(x)
        return {"y": x * 2}

    return served(folder, serve)


def keras_model(folder: Path) -> Path:
    """With the functions by which TensorFlow saves and restores its variables."""
    import tensorflow as tf

    model = tf.keras.Sequential([tf.keras.Input([3], name="x"), tf.keras.layers.Dense(2)])
    tf.saved_model.save(model, str(folder))
    return folder


HONEST = (looks_words_up, looks_words_up_v1, reads_its_asset, prints, keras_model)
