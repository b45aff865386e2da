"""Weights of a frozen graph go onto model code: by name, then by shape and place; nothing is left over unseen."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.models import model_code, networks
from tests.models.predictions import images, predict
from tpu2gpu.errors import SourceError, UsageError
from tpu2gpu.freezer.freezing import freeze_model
from tpu2gpu.unfreezer.code import ModelCode
from tpu2gpu.unfreezer.matching import Candidate, match, type_in_the_way
from tpu2gpu.unfreezer.options import UnfreezeOptions
from tpu2gpu.unfreezer.unfreezing import list_weights, unfreeze_model

Built = Callable[..., Path]
HERE = Path(model_code.__file__).parent


@pytest.fixture(autouse=True)
def _where_the_code_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE)


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the code in this process, which spares the start of another."""

    class Here:
        def __init__(self, factory: str, arguments: dict[str, str], **_: object) -> None:
            self.code = ModelCode(**arguments)

        def call(self, method: str, **arguments: str) -> object:
            return getattr(self.code, method)(**arguments)

        def __enter__(self) -> Here:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr("tpu2gpu.unfreezer.onto.Worker", Here)


def candidate(name: str, *shape: int, role: str = "") -> Candidate:
    return Candidate(name, shape, "float32", role)


def test_equal_names_come_first_then_ends_then_shape_and_place() -> None:
    weights = [candidate("a/kernel", 2, 2), candidate("scope/b/kernel", 2, 2), candidate("x1", 3), candidate("x2", 3)]
    variables = [candidate("b/kernel", 2, 2), candidate("y1", 3), candidate("y2", 3), candidate("a/kernel", 2, 2)]
    matching = match(weights, variables)
    assert [(it.variable, it.weight, it.by) for it in matching.matches] == [
        ("b/kernel", "scope/b/kernel", "end of the name"),
        ("y1", "x1", "shape and place"),
        ("y2", "x2", "shape and place"),
        ("a/kernel", "a/kernel", "name"),
    ]


def test_what_freezers_append_to_names_does_not_count() -> None:
    matching = match([candidate("dense/kernel/ReadVariableOp/resource", 2)], [candidate("dense/kernel:0", 2)])
    assert matching.matches[0].by == "name"


def test_roles_keep_apart_what_has_one_shape() -> None:
    weights = [candidate("1", 4, role="moving variance"), candidate("2", 4, role="gamma"), candidate("3", 4, role="")]
    variables = [candidate("g", 4, role="gamma"), candidate("v", 4, role="moving variance"), candidate("o", 4)]
    assert {it.variable: it.weight for it in match(weights, variables).matches} == {"g": "2", "v": "1", "o": "3"}


def test_where_counts_differ_nothing_is_guessed_and_both_sides_are_told() -> None:
    matching = match([candidate("a", 4), candidate("b", 4)], [candidate("c", 4), candidate("d", 5)])
    assert not matching.matches
    assert matching.unmatched_weights == ["a", "b"]
    assert matching.unmatched_variables == ["c", "d"]


def test_where_the_type_alone_is_in_the_way_it_is_told() -> None:
    half = [Candidate("kernel", (2, 3), "float16"), Candidate("bias", (3,), "float16")]
    assert type_in_the_way(half, [candidate("k", 2, 3), candidate("b", 3), candidate("step")]) == "float32"
    assert type_in_the_way(half, [candidate("k", 3, 2), candidate("b", 3)]) == ""
    assert type_in_the_way([candidate("kernel", 2, 3)], [candidate("k", 2, 3)]) == ""
    assert type_in_the_way([], []) == ""


def test_keras_code_in_its_own_process_restores_the_checkpoint_with_nothing_left_over(
    built: Built, tmp_path: Path
) -> None:
    import tensorflow as tf

    source, function = built(networks.convnet), "renamed_convnet"
    freeze_model(source, tmp_path / "frozen")
    result = unfreeze_model(tmp_path / "frozen", tmp_path / "model", UnfreezeOptions(onto=f"model_code:{function}"))
    assert (result.matched_variables, result.unmatched_variables, result.unmatched_weights) == (13, 0, 0)
    assert {it["by"] for it in result.report["onto"]["matches"]} == {"shape and place"}
    assert result.report["onto"]["compared"]["relative_error"] < 1e-5
    model = getattr(model_code, function)()
    tf.train.Checkpoint(model).read(str(tmp_path / "model" / "checkpoint" / "model.ckpt")).assert_consumed()
    wanted = predict(source, image=images())["output_0"]
    assert np.abs(model(images(), training=False).numpy() - wanted).max() <= 1e-5 * np.abs(wanted).max()
    # The twins in Keras' own formats, by the calls that the output names.
    import keras

    written = tmp_path / "model" / "checkpoint"
    assert f'model.load_weights("{written}/model.weights.h5")' in "\n".join(result.remarks)
    again = getattr(model_code, function)()
    again.load_weights(written / "model.weights.h5")
    whole = keras.models.load_model(written / "model.keras")
    for one in (again, whole):
        assert np.array_equal(one(images(), training=False), model(images(), training=False))
    with zipfile.ZipFile(written / "model.keras") as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.usefixtures("_at_once")
def test_the_same_model_is_the_same_bytes_at_another_time(built: Built, tmp_path: Path) -> None:
    freeze_model(built(networks.convnet), tmp_path / "frozen")
    written = []
    for name in ("first", "second"):
        unfreeze_model(tmp_path / "frozen", tmp_path / name, UnfreezeOptions(onto="model_code:keras_convnet"))
        files = sorted((tmp_path / name / "checkpoint").iterdir())
        written.append({file.name: file.read_bytes() for file in files})
        time.sleep(2)  # an archive counts in steps of two seconds
    assert {"model.keras", "model.weights.h5"} <= set(written[0])
    assert written[0] == written[1]


@pytest.mark.usefixtures("_at_once")
def test_a_layer_without_configuration_costs_the_keras_file_alone(built: Built, tmp_path: Path) -> None:
    freeze_model(built(networks.convnet), tmp_path / "frozen")
    onto = UnfreezeOptions(onto="model_code:keras_convnet_with_own_layer")
    result = unfreeze_model(tmp_path / "frozen", tmp_path / "model", onto)
    written = sorted(path.name for path in (tmp_path / "model" / "checkpoint").iterdir())
    assert "model.weights.h5" in written
    assert "model.keras" not in written
    assert any(remark.startswith("no .keras file: ") for remark in result.remarks)


@pytest.mark.usefixtures("_at_once")
def test_equal_names_are_matched_by_name(built: Built, tmp_path: Path) -> None:
    freeze_model(built(networks.convnet), tmp_path / "frozen")
    result = unfreeze_model(tmp_path / "frozen", tmp_path / "model", UnfreezeOptions(onto="model_code:keras_convnet"))
    assert {it["by"] for it in result.report["onto"]["matches"]} == {"name"}


@pytest.mark.usefixtures("_at_once")
def test_unmatched_variables_keep_what_the_code_gave_them_and_are_told(built: Built, tmp_path: Path) -> None:
    freeze_model(built(networks.convnet), tmp_path / "frozen")
    result = unfreeze_model(tmp_path / "frozen", tmp_path / "model", UnfreezeOptions(onto="model_code:longer_convnet"))
    assert result.report["onto"]["unmatched_variables"] == ["more/kernel", "more/bias"]
    assert result.report["onto"]["restored"] == 15


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize("function", ["tf1_graph", "module"])
def test_graphs_and_modules_get_their_weights(function: str, built: Built, tmp_path: Path) -> None:
    import tensorflow as tf

    source = built(networks.tf1_network, resource=True)
    freeze_model(source, tmp_path / "frozen")
    result = unfreeze_model(tmp_path / "frozen", tmp_path / "model", UnfreezeOptions(onto=f"model_code:{function}"))
    assert (result.matched_variables, result.unmatched_variables) == (2, 0)
    original = tf.train.load_checkpoint(str(source / "variables" / "variables"))
    written = tf.train.load_checkpoint(str(tmp_path / "model" / "checkpoint" / "model.ckpt"))
    if function == "tf1_graph":
        assert sorted(written.get_variable_to_shape_map()) == ["tower/first", "tower/second"]
        assert np.array_equal(written.get_tensor("tower/first"), original.get_tensor("net/w1"))
    else:
        made = model_code.module()
        tf.train.Checkpoint(made).read(str(tmp_path / "model" / "checkpoint" / "model.ckpt")).assert_consumed()
        assert np.array_equal(made.second.numpy(), original.get_tensor("net/w2"))


def test_a_checkpoint_lends_its_names_and_all_else_in_it(built: Built, tmp_path: Path) -> None:
    import tensorflow as tf

    model = model_code.renamed_convnet()
    model.compile("adam", "mse")
    checkpoint = tf.train.Checkpoint(model=model)
    checkpoint.write(str(tmp_path / "theirs"))
    source = built(networks.convnet)
    freeze_model(source, tmp_path / "frozen")
    result = unfreeze_model(tmp_path / "frozen", tmp_path / "model", UnfreezeOptions(onto=str(tmp_path / "theirs")))
    assert result.matched_variables == 13
    assert "_CHECKPOINTABLE_OBJECT_GRAPH" in result.report["onto"]["copied_unchanged"]
    checkpoint.read(str(tmp_path / "model" / "checkpoint" / "model.ckpt")).assert_existing_objects_matched()
    wanted = predict(source, image=images())["output_0"]
    assert np.abs(model(images(), training=False).numpy() - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.usefixtures("_at_once")
def test_code_that_cannot_take_weights_is_named(built: Built, tmp_path: Path) -> None:
    freeze_model(built(networks.embedding), tmp_path / "frozen")

    def onto(text: str) -> None:
        unfreeze_model(tmp_path / "frozen", tmp_path / "model", UnfreezeOptions(onto=text))

    with pytest.raises(UsageError, match="neither MODULE:FUNCTION nor a checkpoint"):
        onto("somewhere")
    with pytest.raises(UsageError, match="no_such_module"):
        onto("no_such_module:build")
    with pytest.raises(SourceError, match="makes no variables"):
        onto("model_code:nothing")
    with pytest.raises(SourceError, match=r"no weight fits a variable(.|\n)*weight table: float32 \[11, 4\]"):
        onto("model_code:tf1_graph")
    assert not (tmp_path / "model").exists()


def test_variables_are_renamed_by_rules(built: Built, tmp_path: Path) -> None:
    import tensorflow as tf

    freeze_model(built(networks.tf1_network, resource=True), tmp_path / "frozen")
    options = UnfreezeOptions(rename=("^net/w(.)=layer_\\1/kernel",))
    result = unfreeze_model(tmp_path / "frozen", tmp_path / "model", options)
    reader = tf.train.load_checkpoint(str(tmp_path / "model" / "checkpoint" / "model.ckpt"))
    assert sorted(reader.get_variable_to_shape_map()) == ["layer_1/kernel", "layer_2/kernel"]
    assert result.report["renamed_variables"]["net/w1"] == "layer_1/kernel"
    x = {"x": np.ones((2, 4), np.float32)}
    assert np.array_equal(predict(tmp_path / "model", plainly=True, **x)["y"], predict(tmp_path / "frozen", **x)["y"])
    with pytest.raises(UsageError, match="names must stay apart"):
        unfreeze_model(tmp_path / "frozen", tmp_path / "other", UnfreezeOptions(rename=("w.=w",)))


def test_trainable_variables_are_filled_for_both_tensorflows(built: Built, tmp_path: Path) -> None:
    import tensorflow as tf

    freeze_model(built(networks.convnet), tmp_path / "frozen")
    unfreeze_model(tmp_path / "frozen", tmp_path / "model")
    signature = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    assert len(signature.trainable_variables) == 9
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        v1.saved_model.load(session, ["serve"], str(tmp_path / "model"))
        assert len(v1.trainable_variables()) == 9
        assert len(v1.global_variables()) == 13


def test_prelu_normalisation_and_tokens_are_found_by_structure(tmp_path: Path) -> None:
    import tensorflow as tf

    random = np.random.default_rng(3)
    tensors = {
        "alpha": random.normal(size=4),
        "norm_mean": random.normal(size=4),
        "norm_variance": random.uniform(1, 2, size=4),
        "direction": random.normal(size=(4, 4)),
        "length": random.uniform(1, 2, size=(1, 4)),
        "token": random.normal(size=(1, 4)),
    }
    module = tf.Module()
    module.held = [tf.Variable(value.astype(np.float32), name=name) for name, value in tensors.items()]

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def serve(x: tf.Tensor) -> dict[str, tf.Tensor]:
        alpha, mean, variance, direction, length, token = module.held
        x = (x - mean) / tf.maximum(tf.sqrt(variance), 1e-7)
        x = tf.nn.relu(x) - alpha * tf.nn.relu(-x)
        x = tf.matmul(x, length * direction / tf.norm(direction, axis=0))
        return {"y": tf.concat([tf.repeat(token, 2, axis=0), x], 0)}

    tf.saved_model.save(module, str(tmp_path / "model"), signatures=serve)
    freeze_model(tmp_path / "model", tmp_path / "frozen")
    roles = {weight["node"]: (weight["role"], weight["trainable"]) for weight in list_weights(tmp_path / "frozen")}
    assert roles["alpha"] == ("scale", True)
    assert roles["norm_mean"] == ("moving mean", False)
    assert roles["norm_variance"] == ("moving variance", False)
    assert roles["direction"] == roles["length"] == ("kernel", True)
