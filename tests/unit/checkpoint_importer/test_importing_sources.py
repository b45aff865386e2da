"""Every kind of source that import takes, and what it says of those that it does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import builders, networks, tpu_training
from tests.models.predictions import predict
from tpu2gpu.checkpoint_importer.formats.registry import find_source
from tpu2gpu.checkpoint_importer.importing import import_model
from tpu2gpu.checkpoint_importer.inspecting import inspect_model
from tpu2gpu.checkpoint_importer.options import ImportOptions
from tpu2gpu.errors import GraphError, SignatureError, SourceError, UnsupportedError, UsageError

Built = Callable[..., Path]

X = np.random.default_rng(7).normal(size=(3, 4)).astype(np.float32)


def relative_error(found: Any, wanted: Any) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A Keras model after a step of training, saved in every form, and what it answers to `X`."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(3)
    folder = tmp_path_factory.mktemp("keras")
    model = builders.small_keras()
    model.compile("adam", "mse")
    model.fit(np.random.default_rng(1).normal(2, 3, (32, 4)), np.ones((32, 2)), verbose=0, epochs=3)
    tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(str(folder / "object.ckpt"))
    model.save(folder / "model.keras")
    model.save(folder / "whole.h5")
    model.save_weights(folder / "model.weights.h5")
    builders.small_keras().export(folder / "untrained", verbose=False)
    return folder, model(X, training=False).numpy()


@pytest.mark.parametrize("name", ["object.ckpt", "model.keras", "whole.h5", "model.weights.h5"])
def test_weights_are_put_onto_a_saved_models_graph(name: str, trained: tuple[Path, Any], tmp_path: Path) -> None:
    folder, wanted = trained
    result = import_model(folder / name, tmp_path / "model", ImportOptions(graph=str(folder / "untrained")))
    assert relative_error(predict(tmp_path / "model", x=X)["output_0"], wanted) < 1e-6
    assert result.variables == 8


@pytest.mark.parametrize("name", ["object.ckpt", "model.keras", "model.weights.h5"])
def test_weights_are_put_onto_a_model_that_a_function_builds(
    name: str, trained: tuple[Path, Any], tmp_path: Path
) -> None:
    folder, wanted = trained
    import_model(folder / name, tmp_path / "model", ImportOptions(graph="tests.models.builders:small_keras"))
    assert relative_error(predict(tmp_path / "model", x=X)["head"], wanted) < 1e-6


@pytest.mark.parametrize("name", ["model.keras", "whole.h5"])
def test_a_whole_keras_model_brings_its_own_graph(name: str, trained: tuple[Path, Any], tmp_path: Path) -> None:
    folder, wanted = trained
    import_model(folder / name, tmp_path / "model")
    assert relative_error(predict(tmp_path / "model", x=X)["head"], wanted) < 1e-6
    assert inspect_model(folder / name).importable
    with pytest.raises(UsageError, match=r"--use-ema: nothing for a (Keras|HDF5) file, which has a graph of its own"):
        import_model(folder / name, tmp_path / "other", ImportOptions(use_ema=True))


@pytest.mark.parametrize("package", ["keras", "tf_keras"])
@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_a_keras_model_with_python_code_in_it_is_never_run(package: str, name: str, tmp_path: Path) -> None:
    keras = pytest.importorskip(package)
    given = keras.Input((4,), name="x")
    keras.Model(given, keras.layers.Lambda(lambda x: x * 2, name="twice")(given)).save(tmp_path / name)
    with pytest.raises(UnsupportedError, match=r"holds Python code, in twice; give --graph"):
        import_model(tmp_path / name, tmp_path / "model")


def test_a_keras_model_whose_description_is_damaged_is_named(trained: tuple[Path, Any], tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(trained[0] / "model.keras") as whole, zipfile.ZipFile(tmp_path / "m.keras", "w") as damaged:
        for name in whole.namelist():
            damaged.writestr(name, whole.read(name)[: 10 if name == "config.json" else None])
    with pytest.raises(SourceError, match=r"m\.keras: its description of the model is damaged"):
        import_model(tmp_path / "m.keras", tmp_path / "model")


def test_optimizer_slots_of_an_object_based_checkpoint_are_dropped_by_name(
    trained: tuple[Path, Any], tmp_path: Path
) -> None:
    folder, _ = trained
    result = import_model(folder / "object.ckpt", tmp_path / "model", ImportOptions(graph=str(folder / "untrained")))
    use = result.report["checkpoint"]
    assert len([key for key in use["dropped"]["slots"] if "kernel" in key or "optimizer" in key]) >= 8
    assert not [key for key in use["unused"] if "optimizer" in key]


def test_a_checkpoint_is_put_onto_a_graph_that_a_function_builds(built: Built, tmp_path: Path) -> None:
    source = built(networks.tf1_network, resource=False)
    checkpoint = source / "variables" / "variables"
    import_model(checkpoint, tmp_path / "model", ImportOptions(graph="tests.models.builders:small_graph"))
    assert np.array_equal(predict(tmp_path / "model", x=X)["y"], predict(source, x=X)["y"])
    import_model(checkpoint, tmp_path / "other", ImportOptions(graph=str(source)))
    assert np.array_equal(predict(tmp_path / "other", x=X)["y"], predict(source, x=X)["y"])


def test_names_of_checkpoint_and_graph_are_brought_together_by_rules(built: Built, tmp_path: Path) -> None:
    from tpu2gpu.tensorbundle.reader import Bundle
    from tpu2gpu.tensorbundle.writer import BundleWriter

    source = built(networks.tf1_network, resource=False)
    bundle = Bundle(source / "variables" / "variables")
    with BundleWriter(tmp_path / "model.ckpt") as writer:
        for key in bundle:
            writer.add_array(key.replace("net/", "nets/"), bundle.read(key))
    graph = str(source)
    with pytest.raises(GraphError, match="net/w1: not in the checkpoint; did you mean 'nets/w1'"):
        import_model(tmp_path / "model.ckpt", tmp_path / "model", ImportOptions(graph=graph))
    import_model(tmp_path / "model.ckpt", tmp_path / "model", ImportOptions(graph=graph, rename=("^nets/=net/",)))
    assert np.array_equal(predict(tmp_path / "model", x=X)["y"], predict(source, x=X)["y"])


def rewritten(source: Path, target: Path, names: Callable[[str], list[str]]) -> Path:
    """A checkpoint with other names for its tensors."""
    from tpu2gpu.tensorbundle.reader import Bundle
    from tpu2gpu.tensorbundle.writer import BundleWriter

    bundle = Bundle(source)
    with BundleWriter(target) as writer:
        for key in bundle:
            for number, name in enumerate(names(key)):
                writer.add_array(name, bundle.read(key) * (1 - number))
    return target


def test_tensors_that_rules_make_alike_are_all_named(built: Built, tmp_path: Path) -> None:
    source = built(networks.tf1_network, resource=False)
    weights = source / "variables" / "variables"
    both = rewritten(weights, tmp_path / "both", lambda key: [key.replace("net", side) for side in ("new", "old")])
    options = ImportOptions(graph=str(source), rename=("^(new|old)/=net/",))
    with pytest.raises(GraphError, match=r"net/w1: any of new/w1, old/w1, which would all be called so"):
        import_model(both, tmp_path / "model", options)
    chosen = ImportOptions(graph=str(source), rename=("^new/=net/",))
    import_model(both, tmp_path / "model", chosen)
    assert np.array_equal(predict(tmp_path / "model", x=X)["y"], predict(source, x=X)["y"])


def test_tensors_are_dropped_on_request(built: Built, tmp_path: Path) -> None:
    source = built(networks.tf1_network, resource=False)
    more = rewritten(source / "variables" / "variables", tmp_path / "more", lambda key: [key, f"old/{key}"])
    result = import_model(more, tmp_path / "model", ImportOptions(graph=str(source), drop=("^old/",)))
    assert result.report["checkpoint"]["dropped"]["rules"] == ["old/net/step", "old/net/w1", "old/net/w2"]
    assert result.report["checkpoint"]["unused"] == ["net/step"]
    with pytest.raises(GraphError, match="net/w1: not in the checkpoint"):
        import_model(more, tmp_path / "other", ImportOptions(graph=str(source), drop=("w1$",)))


def test_moving_averages_that_are_not_there_are_missed(built: Built, tmp_path: Path) -> None:
    source = built(networks.tf1_network, resource=False)
    options = ImportOptions(graph=str(source), use_ema=True)
    with pytest.raises(GraphError, match="holds no moving average of any weight"):
        import_model(source / "variables" / "variables", tmp_path / "model", options)


@pytest.mark.parametrize("name", ["frozen.bin", "frozen"])
def test_a_graph_is_told_by_its_content(name: str, built: Built, tmp_path: Path) -> None:
    from tpu2gpu.freezer.freezing import freeze_model
    from tpu2gpu.freezer.options import FreezeOptions

    freeze_model(built(networks.tf1_network, resource=True), tmp_path / "frozen", FreezeOptions(format="graph_def"))
    graph = (tmp_path / "frozen" / "frozen_graph.pb").read_bytes()
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / name).write_bytes(graph)
    assert find_source(tmp_path / "files" / name).kind == "graph_def"
    assert find_source(tmp_path / "frozen").path.name == "frozen_graph.pb"
    meta = built(tpu_training.genuine, "plain") / "model.ckpt-2.meta"
    (tmp_path / "files" / "graph").write_bytes(meta.read_bytes())
    assert find_source(tmp_path / "files" / "graph").kind == "meta_graph"
    (tmp_path / "files" / "noise").write_bytes(np.random.default_rng(0).bytes(4096))
    with pytest.raises(SourceError, match="not a model or checkpoint that we know"):
        find_source(tmp_path / "files" / "noise")


def test_a_state_file_may_name_its_checkpoint_in_any_script(tmp_path: Path) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        v1.get_variable("w", [2], use_resource=False)
        session.run(v1.global_variables_initializer())
        for step in (9, 7):  # the newest is the one that was written last
            saver = v1.train.Saver(write_version=v1.train.SaverDef.V1)
            saver.save(session, str(tmp_path / "mödel"), global_step=step)
    found = find_source(tmp_path)
    assert (found.kind, found.path.name) == ("checkpoint_v1", "mödel-7")


def test_an_export_with_jpeg_strings_keeps_its_signatures(built: Built, tmp_path: Path) -> None:
    source = built(tpu_training.genuine, "exported")
    result = import_model(source, tmp_path / "model")
    known = np.load(source / "answers.npz")
    assert result.signatures == ("serving_default", "classify")
    found = predict(tmp_path / "model", jpegs=known["jpegs"].astype(object))
    assert np.array_equal(found["classes"], known["classes"])
    assert relative_error(found["probabilities"], known["probabilities"]) < 1e-6


def test_an_lstm_of_keras_2_is_imported(built: Built, tmp_path: Path) -> None:
    source = built(tpu_training.genuine, "keras")
    known = np.load(source / "answers.npz")
    feeds = {"words": known["x"].astype(np.int32)}
    import_model(source, tmp_path / "model")
    assert relative_error(predict(tmp_path / "model", **feeds)["scores"], known["scores"]) < 1e-6
    import_model(source / "model.h5", tmp_path / "other", ImportOptions(graph=str(source)))
    assert relative_error(predict(tmp_path / "other", **feeds)["scores"], known["scores"]) < 1e-6


def test_an_export_for_tpu_alone_serves_everywhere(built: Built, tmp_path: Path) -> None:
    source = built(tpu_training.exported_for_tpu_only)
    result = import_model(source, tmp_path / "model")
    known = np.load(source / "answers.npz")
    found = predict(tmp_path / "model", jpegs=known["jpegs"].astype(object))
    assert np.array_equal(found["classes"], known["classes"])
    assert relative_error(found["probabilities"], known["probabilities"]) < 1e-6
    assert not [op for op in result.report["ops"] if "TPU" in op]


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_a_keras_model_saved_as_in_training_serves(dtype: str, tmp_path: Path) -> None:
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(1)
    given = keras.Input((8, 8, 3), name="x")
    x = keras.layers.Conv2D(4, 3, dtype=dtype)(given)
    x = keras.layers.BatchNormalization(dtype=dtype)(x)
    x = keras.layers.Dropout(0.4, dtype=dtype)(keras.layers.ReLU(dtype=dtype)(x))
    x = keras.layers.BatchNormalization(dtype=dtype)(keras.layers.Dense(6, dtype=dtype)(keras.layers.Flatten()(x)))
    model = keras.Model(given, keras.layers.Dense(2)(keras.layers.Dropout(0.2)(x)))
    images = np.random.default_rng(1).normal(1, 2, (5, 8, 8, 3)).astype(np.float32)
    for _ in range(3):
        model(images, training=True)

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32, name="x")])
    def serve(x: Any) -> Any:
        return {"y": model(x, training=True)}

    holder = tf.Module()
    seeds = [layer.seed_generator.state for layer in model.layers if hasattr(layer, "seed_generator")]
    holder.held = [variable.value for variable in [*model.variables, *seeds]]
    tf.saved_model.save(holder, str(tmp_path / "source"), signatures=serve)
    result = import_model(tmp_path / "source", tmp_path / "model", ImportOptions(keep_bfloat16=True))
    wanted = model(images, training=False).numpy()
    assert relative_error(predict(tmp_path / "model", x=images)["y"], wanted) < (1e-6 if dtype == "float32" else 0.02)
    assert len(result.report["to_inference"]["dropouts"]) == 2


def test_a_frozen_graph_gets_its_variables_back(built: Built, tmp_path: Path) -> None:
    from tpu2gpu.freezer.freezing import freeze_model
    from tpu2gpu.freezer.options import FreezeOptions

    source = built(networks.convnet)
    freeze_model(source, tmp_path / "frozen", FreezeOptions(format="graph_def"))
    result = import_model(tmp_path / "frozen" / "frozen_graph.pb", tmp_path / "model")
    images = np.random.default_rng(5).random((4, 8, 8, 1), dtype=np.float32)
    assert (
        relative_error(predict(tmp_path / "model", image=images)["output_0"], predict(source, image=images)["output_0"])
        < 1e-6
    )
    assert result.variables >= 12


def test_what_lacks_a_graph_says_what_to_give(trained: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = trained
    for name, message in (("object.ckpt", "a bare checkpoint has no graph"), ("model.weights.h5", "weights alone")):
        with pytest.raises(UnsupportedError, match=f"{message}.*give --graph"):
            import_model(folder / name, tmp_path / "model")
        assert not inspect_model(folder / name).importable


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        ("nowhere", "neither there nor of the form"),
        ("tests.models.builders:nothing", "has no attribute 'nothing'"),
        ("no.such.module:function", "No module named"),
        ("tests.models.builders:not_a_model", "gives int"),
    ],
)
def test_a_graph_that_cannot_be_had_is_named(
    graph: str, message: str, trained: tuple[Path, Any], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        import_model(trained[0] / "object.ckpt", tmp_path / "model", ImportOptions(graph=graph))


def test_options_that_only_checkpoints_heed_are_not_passed_over(built: Built, tmp_path: Path) -> None:
    options = ImportOptions(graph="graph", step=7, use_ema=True, drop=("x",))
    with pytest.raises(UsageError, match="--graph, --step, --use-ema, --drop: nothing for a SavedModel"):
        import_model(built(networks.convnet), tmp_path / "model", options)


def test_a_checkpoint_of_another_model_is_refused(trained: tuple[Path, Any], built: Built, tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"does not fit the graph(.|\n)*not in the checkpoint"):
        import_model(trained[0] / "object.ckpt", tmp_path / "m", ImportOptions(graph=str(built(networks.convnet))))


def test_a_graph_with_two_losses_lists_both(tmp_path: Path) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    graph = tf.Graph()
    with graph.as_default(), v1.Session(graph=graph) as session:
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        w = v1.get_variable("w", [4, 3], use_resource=True)
        for name in ("main", "aux"):
            logits = tf.add(tf.matmul(x, w), 1.0, name=name)
            v1.losses.sparse_softmax_cross_entropy(tf.zeros([2], tf.int32), logits[:2])
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(tmp_path / "model.ckpt"))
    with pytest.raises(SignatureError, match=r"2 losses(.|\n)*choose with --output") as caught:
        import_model(tmp_path / "model.ckpt", tmp_path / "model")
    assert len(caught.value.details) == 2
    result = import_model(tmp_path / "model.ckpt", tmp_path / "model", ImportOptions(output=("y=main",)))
    assert list(result.report["signatures"]["serving_default"]["outputs"]) == ["y"]


def test_partitioned_variables_of_a_graph_take_their_parts(tmp_path: Path) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    graph = tf.Graph()
    with graph.as_default(), v1.Session(graph=graph) as session:
        ids = v1.placeholder(tf.int32, [None], name="ids")
        with v1.variable_scope("net", partitioner=v1.fixed_size_partitioner(3), use_resource=True):
            table = v1.get_variable("table", [11, 4], initializer=v1.random_normal_initializer(seed=1))
        tf.identity(v1.nn.embedding_lookup(table, ids, partition_strategy="div"), name="rows")
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(tmp_path / "model.ckpt"))
        wanted = session.run("rows:0", {"ids:0": np.arange(11)})
    import_model(tmp_path / "model.ckpt", tmp_path / "model", ImportOptions(output=("rows=rows",)))
    assert np.array_equal(predict(tmp_path / "model", ids=np.arange(11, dtype=np.int32))["rows"], wanted)


def test_inspect_tells_what_stands_in_a_training_folder(built: Built) -> None:
    inspection = inspect_model(built(tpu_training.genuine, "residual"))
    report = inspection.report
    assert (inspection.kind, inspection.importable, report["step"]) == ("checkpoint", True, 2)
    assert report["kinds"]["slots"]["tensors"] == 19
    assert report["kinds"]["shadows"]["tensors"] == 29
    assert report["tpu_ops"]["CrossReplicaSum"] > 10
    assert "InfeedQueue/dequeue (InfeedDequeueTuple)" in report["possible_inputs"]
    assert report["unknown_ops"] == []
    for text in ("29 variables", "leaves the training loop", "5 batch norms", "removes 2 dropouts", "29 shadows"):
        assert text in inspection.verdict


def test_inspect_names_ops_that_are_unknown(built: Built) -> None:
    inspection = inspect_model(built(tpu_training.tpu_network, unknown=True))
    assert "NpuInfeedDequeueTuple" in inspection.report["unknown_ops"]
    assert not inspection.importable
    assert "--input" in inspection.verdict


@pytest.mark.slow
def test_everything_that_keras_2_saves_in_tensorflow_2_is_imported(tmp_path: Path) -> None:
    model = builders.small_keras_2()
    model.compile("adam", "mse")
    model.fit(np.random.default_rng(1).normal(2, 3, (32, 4)), np.ones((32, 2)), verbose=0, epochs=2)
    wanted = model(X, training=False).numpy()
    model.save(tmp_path / "saved", save_format="tf")
    model.save(tmp_path / "model.h5")
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "object.ckpt")
    builders.small_keras_2().export(tmp_path / "untrained")
    import_model(tmp_path / "saved", tmp_path / "model")
    assert relative_error(predict(tmp_path / "model", x=X)["head"], wanted) < 1e-6
    for name in ("model.h5", "model.keras"):
        import_model(tmp_path / name, tmp_path / "model", force=True)
        assert relative_error(predict(tmp_path / "model", x=X)["head"], wanted) < 1e-6, name
    # A function's model tells the layer of its output, an exported one numbers it.
    name_of = {"tests.models.builders:small_keras_2": "head", str(tmp_path / "untrained"): "output_0"}
    for name in ("model.h5", "model.keras", "object.ckpt"):
        for graph in name_of:
            import_model(tmp_path / name, tmp_path / "model", ImportOptions(graph=graph), force=True)
            assert relative_error(predict(tmp_path / "model", x=X)[name_of[graph]], wanted) < 1e-6, (name, graph)
