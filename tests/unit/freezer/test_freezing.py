"""Freezing and un-freezing: bits stay, signatures and tables stay, weights are found by structure."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import networks
from tests.models.predictions import images, predict
from tpu2gpu.errors import GraphError, SourceError, UnsupportedError, UsageError
from tpu2gpu.freezer.freezing import freeze_model
from tpu2gpu.freezer.options import FreezeOptions
from tpu2gpu.graphs.formats.saved_model import read_saved_model
from tpu2gpu.graphs.formats.streaming import MAX_PROTO_BYTES, Payload, check_size
from tpu2gpu.graphs.passes.freezing.freeze_variables import FreezeVariables
from tpu2gpu.precision_caster.casting import cast_model
from tpu2gpu.storage.publishing import verify_model
from tpu2gpu.unfreezer.options import UnfreezeOptions
from tpu2gpu.unfreezer.unfreezing import list_weights, unfreeze_model

Built = Callable[..., Path]

CASES: list[tuple[Callable[..., Path], dict[str, Any], dict[str, Any]]] = [
    (networks.convnet, {}, {"only": images()}),
    (networks.convnet, {"policy": "mixed_bfloat16"}, {"only": images()}),
    (networks.convnet, {"compiled": True}, {"only": images()}),
    (networks.tf1_network, {"resource": False}, {"x": np.ones((2, 4), np.float32)}),
    (networks.tf1_network, {"resource": True}, {"x": np.ones((2, 4), np.float32)}),
    (networks.embedding, {}, {"ids": np.array([[1, 2, 10]], np.int32)}),
    (networks.vocabulary, {}, {"words": np.array([b"dog", b"cat", b"yak"])}),
]


@pytest.mark.parametrize(("builder", "options", "feeds"), CASES)
def test_a_frozen_model_answers_bit_for_bit_and_has_no_variables(
    builder: Callable[..., Path], options: dict[str, Any], feeds: dict[str, Any], built: Built, tmp_path: Path
) -> None:
    import tensorflow as tf

    source = built(builder, **options)
    result = freeze_model(source, tmp_path / "frozen")
    wanted, found = predict(source, plainly=True, **feeds), predict(tmp_path / "frozen", plainly=True, **feeds)
    assert found.keys() == wanted.keys()
    for name in wanted:
        assert np.array_equal(found[name], wanted[name])
    assert result.frozen_variables > 0
    assert not list(tf.saved_model.load(str(tmp_path / "frozen")).variables)
    assert not (tmp_path / "frozen" / "variables").exists()
    verify_model(tmp_path / "frozen")


@pytest.mark.parametrize(("builder", "options", "feeds"), CASES[:6])
def test_freezing_what_was_unfrozen_gives_the_very_bits(
    builder: Callable[..., Path], options: dict[str, Any], feeds: dict[str, Any], built: Built, tmp_path: Path
) -> None:
    freeze_model(built(builder, **options), tmp_path / "frozen")
    result = unfreeze_model(tmp_path / "frozen", tmp_path / "variables")
    freeze_model(tmp_path / "variables", tmp_path / "again")
    wanted, found = (
        predict(tmp_path / "frozen", plainly=True, **feeds),
        predict(tmp_path / "again", plainly=True, **feeds),
    )
    for name in wanted:
        assert np.array_equal(found[name], wanted[name])
    assert result.variables == len(read_saved_model(built(builder, **options)).variables)


def test_a_cast_model_freezes_bit_for_bit(built: Built, tmp_path: Path) -> None:
    cast_model(built(networks.convnet), tmp_path / "half")
    freeze_model(tmp_path / "half", tmp_path / "frozen")
    assert np.array_equal(
        predict(tmp_path / "frozen", plainly=True, image=images())["output_0"],
        predict(tmp_path / "half", plainly=True, image=images())["output_0"],
    )


def test_a_weight_that_two_signatures_share_is_frozen_once(built: Built, tmp_path: Path) -> None:
    result = freeze_model(built(networks.convnet), tmp_path / "frozen")
    assert len(result.report["signatures"]) == 2
    assert result.frozen_variables == 13
    assert (tmp_path / "frozen" / "saved_model.pb").stat().st_size < 3 * result.size_bytes + 40_000


def test_a_frozen_graph_def_runs_by_the_names_beside_it(built: Built, tmp_path: Path) -> None:
    import tensorflow as tf

    source = built(networks.convnet)
    freeze_model(source, tmp_path / "frozen", FreezeOptions(format="graph_def", signature=("serving_default",)))
    assert not (tmp_path / "frozen" / "saved_model.pb").exists()
    names = json.loads((tmp_path / "frozen" / "signature.json").read_text())["signatures"]["serving_default"]
    graph_def = tf.compat.v1.GraphDef.FromString((tmp_path / "frozen" / "frozen_graph.pb").read_bytes())
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.import_graph_def(graph_def, name="")
        found = session.run(names["outputs"]["output_0"], {names["inputs"]["image"]: images()})
    wanted = predict(source, image=images())["output_0"]
    assert np.abs(found - wanted).max() <= 2e-6 * np.abs(wanted).max()


def test_a_variable_taken_in_another_way_is_refused_by_name(built: Built, tmp_path: Path) -> None:
    model = read_saved_model(built(networks.one_weight, ((1.0, 2.0),)))
    reader = next(node for node in model.nodes.values() if node.op == "ReadVariableOp")
    reader.op = "CustomRead"
    with pytest.raises(UnsupportedError, match=r"take variables in a way(.|\n)*kernel: taken by .* \(CustomRead\)"):
        FreezeVariables().run(model)


@pytest.mark.parametrize("form", ["training", "dropout", "counter"])
def test_what_does_not_serve_is_not_frozen(form: str, built: Built, tmp_path: Path) -> None:
    with pytest.raises(GraphError):
        freeze_model(built(networks.one_weight, ((1.0, 2.0), (3.0, 4.0)), form=form), tmp_path / "frozen")


def test_training_form_is_refused_with_its_nodes_or_fixed_when_asked(built: Built, tmp_path: Path) -> None:
    source = built(networks.one_weight, ((1.0, 2.0), (3.0, 4.0)), form="dropout")
    with pytest.raises(GraphError, match=r"in training form; let --to-inference bring it(.|\n)*live dropout"):
        freeze_model(source, tmp_path / "frozen")
    result = freeze_model(source, tmp_path / "served", FreezeOptions(to_inference=True))
    assert result.report["to_inference"]
    answer = predict(tmp_path / "served", x=np.eye(2, dtype=np.float32))["y"]
    assert np.array_equal(answer, np.array([[1, 2], [3, 4]], np.float32))
    again = freeze_model(built(networks.convnet), tmp_path / "already", FreezeOptions(to_inference=True))
    assert again.report["to_inference"] == {}


def test_training_form_that_nothing_can_fix_is_refused(built: Built, tmp_path: Path) -> None:
    source = built(networks.one_weight, ((1.0, 2.0), (3.0, 4.0)), form="training")
    with pytest.raises(GraphError, match="batch norm in training mode"):
        freeze_model(source, tmp_path / "frozen", FreezeOptions(to_inference=True))


def test_the_limit_of_a_proto_is_checked_before_anything_is_made() -> None:
    def made() -> Any:
        raise AssertionError("the value was asked for")

    with pytest.raises(UnsupportedError, match=r"would have \d+ bytes(.|\n)*huge: 2147483647 bytes"):
        check_size([b"head", Payload(MAX_PROTO_BYTES, made)], "frozen_graph.pb", [("huge", MAX_PROTO_BYTES)])


def test_weights_are_found_with_their_roles(built: Built, tmp_path: Path) -> None:
    freeze_model(built(networks.convnet), tmp_path / "frozen")
    roles = {weight["node"]: (weight["role"], weight["trainable"]) for weight in list_weights(tmp_path / "frozen")}
    assert roles["conv2d/kernel"] == ("kernel", True)
    assert roles["conv2d_1/bias"] == ("bias", True)
    assert roles["batch_normalization/gamma"] == ("gamma", True)
    assert roles["batch_normalization/beta"] == ("beta", True)
    assert roles["batch_normalization/moving_mean"] == ("moving mean", False)
    assert roles["batch_normalization/moving_variance"] == ("moving variance", False)


def test_unfrozen_variables_train(built: Built, tmp_path: Path) -> None:
    import tensorflow as tf

    freeze_model(built(networks.convnet), tmp_path / "frozen")
    result = unfreeze_model(tmp_path / "frozen", tmp_path / "model")
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    trainable = [variable for variable in loaded.variables if variable.trainable]
    assert len(trainable) == result.trainable_variables == 9
    optimizer, labels = tf.keras.optimizers.SGD(0.05), tf.constant(np.arange(16) % 10)
    losses = []
    for _ in range(4):
        with tf.GradientTape() as tape:
            logits = loaded.signatures["serving_default"](image=tf.constant(images()))["output_0"]
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        gradients = tape.gradient(loss, trainable)
        assert all(gradient is not None for gradient in gradients)
        for variable, gradient in zip(trainable, gradients, strict=True):
            variable.assign_sub(0.05 * gradient)
        losses.append(float(loss))
    assert optimizer is not None
    assert losses[-1] < losses[0]


def test_the_checkpoint_holds_the_constants_by_their_names(built: Built, tmp_path: Path) -> None:
    import tensorflow as tf

    source = built(networks.tf1_network, resource=True)
    freeze_model(source, tmp_path / "frozen")
    unfreeze_model(tmp_path / "frozen", tmp_path / "model")
    reader = tf.train.load_checkpoint(str(tmp_path / "model" / "checkpoint" / "model.ckpt"))
    original = tf.train.load_checkpoint(str(source / "variables" / "variables"))
    assert sorted(reader.get_variable_to_shape_map()) == ["net/w1", "net/w2"]
    for name in ("net/w1", "net/w2"):
        assert np.array_equal(reader.get_tensor(name), original.get_tensor(name))


def test_a_graph_def_of_others_is_unfrozen_by_its_structure(built: Built, tmp_path: Path) -> None:
    freeze_model(built(networks.convnet), tmp_path / "frozen", FreezeOptions(format="graph_def"))
    (tmp_path / "frozen" / "signature.json").unlink()
    result = unfreeze_model(tmp_path / "frozen" / "frozen_graph.pb", tmp_path / "model")
    assert result.variables == 13
    signature = read_saved_model(tmp_path / "model").signatures["serving_default"]
    assert sorted(signature.inputs) == ["serve_image", "serving_default_image"]


def test_names_are_included_and_excluded(built: Built, tmp_path: Path) -> None:
    freeze_model(built(networks.convnet), tmp_path / "frozen")
    options = UnfreezeOptions(include="batchnorm/add/y$", exclude="^dense/")
    nodes = {weight["node"] for weight in list_weights(tmp_path / "frozen", options)}
    assert not [node for node in nodes if node.startswith("dense/")]
    assert [node for node in nodes if node.endswith("batchnorm/add/y")]


def test_a_model_without_weights_and_a_bad_expression_are_named(built: Built, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no constant in it is a weight"):
        unfreeze_model(built(networks.convnet), tmp_path / "model")
    with pytest.raises(UsageError, match=r"--include '\(': not a regular expression"):
        unfreeze_model(built(networks.convnet), tmp_path / "model", UnfreezeOptions(include="("))
    (tmp_path / "bad.pb").write_bytes(b"\xff" * 50)
    with pytest.raises(SourceError, match="damaged"):
        unfreeze_model(tmp_path / "bad.pb", tmp_path / "model")
