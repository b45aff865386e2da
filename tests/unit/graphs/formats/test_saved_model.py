"""Reading SavedModels into one flat graph and writing them back: TensorFlow is the judge of what was written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import networks
from tests.models.hostile_loading import two_tables
from tests.models.predictions import images, predict
from tpu2gpu import import_model
from tpu2gpu.errors import CheckpointError, GraphError, SignatureError, SourceError
from tpu2gpu.graphs.assets import stored_names
from tpu2gpu.graphs.formats.saved_model import read_saved_model, serving_meta_graph, write_saved_model
from tpu2gpu.graphs.model import Asset

Built = Callable[..., Path]

CASES: list[tuple[Callable[..., Path], dict[str, Any], dict[str, Any]]] = [
    (networks.convnet, {}, {"only": images()}),
    (networks.convnet, {"policy": "mixed_bfloat16"}, {"only": images()}),
    (networks.convnet, {"compiled": True}, {"only": images()}),
    (networks.tf1_network, {"resource": False}, {"x": np.ones((2, 4), np.float32)}),
    (networks.tf1_network, {"resource": True}, {"x": np.ones((2, 4), np.float32)}),
    (networks.embedding, {}, {"ids": np.array([[1, 2, 10]], np.int32)}),
    (networks.vocabulary, {}, {"words": np.array([b"dog", b"cat", b"yak"])}),
    (networks.loop_with_weight, {}, {"x": np.array([[1, 2], [3, 4]], np.float32)}),
]


def rewritten(source: Path, folder: Path) -> Path:
    folder.mkdir()
    write_saved_model(read_saved_model(source), folder)
    return folder


@pytest.mark.parametrize(("builder", "options", "feeds"), CASES)
def test_what_is_written_back_answers_bit_for_bit(
    builder: Callable[..., Path], options: dict[str, Any], feeds: dict[str, Any], built: Built, tmp_path: Path
) -> None:
    source = built(builder, **options)
    wanted = predict(source, plainly=True, **feeds)
    for target in (rewritten(source, tmp_path / "once"), rewritten(tmp_path / "once", tmp_path / "twice")):
        answers = predict(target, plainly=True, **feeds)
        assert answers.keys() == wanted.keys()
        for name in wanted:
            assert answers[name].dtype == wanted[name].dtype
            assert np.array_equal(answers[name], wanted[name])


def test_the_same_model_is_written_to_the_same_bytes(built: Built, tmp_path: Path) -> None:
    source = built(networks.convnet)
    for name in ("one", "two"):
        rewritten(source, tmp_path / name)
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert files
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_only_what_serving_needs_is_kept(built: Built) -> None:
    model = read_saved_model(built(networks.convnet, compiled=True))
    assert not model.functions
    assert not {"StatefulPartitionedCall", "RestoreV2", "SaveV2"} & model.op_counts().keys()
    assert not [name for name in model.variables if "adam" in name]


def test_variables_have_their_own_names_and_trainability(built: Built) -> None:
    model = read_saved_model(built(networks.convnet, compiled=True))
    trainable = {name: variable.trainable for name, variable in model.variables.items()}
    assert trainable["conv2d/kernel"]
    assert trainable["batch_normalization/gamma"]
    assert not trainable["batch_normalization/moving_mean"]
    assert len(trainable) == 13


def test_a_tf1_model_keeps_its_variable_names(built: Built) -> None:
    for resource in (False, True):
        model = read_saved_model(built(networks.tf1_network, resource=resource))
        assert sorted(variable.key for variable in model.variables.values()) == ["net/w1", "net/w2"]


def test_variables_restore_by_their_names(built: Built, tmp_path: Path) -> None:
    import tensorflow as tf

    target = rewritten(built(networks.convnet), tmp_path / "model")
    reader = tf.train.load_checkpoint(str(target / "variables" / "variables"))
    loaded = tf.saved_model.load(str(target))
    for variable in loaded.variables:
        assert np.array_equal(reader.get_tensor(variable.name.removesuffix(":0")), variable.numpy())
    assert sum(variable.trainable for variable in loaded.variables) == 9


def test_a_side_effect_is_dropped_and_named(built: Built) -> None:
    model = read_saved_model(built(networks.one_weight, ((1.0,),), form="assert"))
    assert set(model.dropped_effects.values()) == {"If around Assert"}
    assert "If" not in model.op_counts()


def test_a_signature_that_writes_to_variables_is_refused(built: Built) -> None:
    with pytest.raises(GraphError, match=r"writes to variables(.|\n)*AssignAddVariableOp"):
        read_saved_model(built(networks.one_weight, ((1.0,),), form="counter"))


def test_bad_sources_are_named(built: Built, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file or folder"):
        read_saved_model(tmp_path / "nowhere")
    with pytest.raises(SourceError, match=r"saved_model\.pb is missing"):
        read_saved_model(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"\xff" * 100)
    with pytest.raises(SourceError, match="damaged, it cannot be parsed"):
        read_saved_model(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(SourceError, match="holds no graph"):
        read_saved_model(tmp_path)


def test_a_model_without_its_weights_is_refused(built: Built, tmp_path: Path) -> None:
    target = rewritten(built(networks.convnet), tmp_path / "model")
    (target / "variables" / "variables.data-00000-of-00001").write_bytes(b"")
    with pytest.raises(CheckpointError, match="conv2d/kernel: bytes"):
        read_saved_model(target)
    (target / "variables" / "variables.index").unlink()
    with pytest.raises(SourceError, match=r"variables\.index is missing"):
        read_saved_model(target)


def test_files_of_one_name_in_two_folders_stay_two(tmp_path: Path) -> None:
    assets = [
        Asset(node, tmp_path / path) for node, path in (("a", "one/words"), ("b", "two/words"), ("c", "one/words"))
    ]
    assert stored_names(assets) == {tmp_path / "one" / "words": "words", tmp_path / "two" / "words": "words_1"}


@pytest.mark.slow
def test_tables_of_files_of_one_name_are_not_mixed_up(tmp_path: Path) -> None:
    import_model(two_tables(tmp_path / "model"), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out" / "assets").iterdir()) == ["words.txt", "words.txt_1"]
    for folder in ("model", "out"):
        assert predict(tmp_path / folder, x=np.zeros(2, np.float32))["y"].tolist() == [30.0, 30.0]


def test_an_unknown_signature_is_named_with_the_known_ones(built: Built) -> None:
    model = read_saved_model(built(networks.convnet))
    with pytest.raises(
        SignatureError, match=r"no signature 'serving_defalt', it has .*; did you mean 'serving_default'"
    ):
        model.signature("serving_defalt")


def test_a_model_that_is_changed_leaves_the_next_one_as_it_was(built: Built) -> None:
    source = built(networks.loop_with_weight)
    first = read_saved_model(source)
    for node in [*first.nodes.values(), *(node for body in first.functions.values() for node in body.node_def)]:
        node.op = "Changed"
    for signature in first.signatures.values():
        signature.inputs.clear()
    for variable in first.variables.values():
        variable.key = "changed"
    first.nodes.clear()
    second = read_saved_model(source)
    assert second.input_tensors()
    assert "Changed" not in second.op_counts()
    assert "Changed" not in {node.op for body in second.functions.values() for node in body.node_def}
    assert all(variable.key != "changed" for variable in second.variables.values())


@pytest.mark.parametrize(("builder", "options"), [(networks.convnet, {}), (networks.vocabulary, {})])
def test_reading_a_model_leaves_its_parsed_graph_as_it_was(
    builder: Callable[..., Path], options: dict[str, Any], built: Built
) -> None:
    source = built(builder, **options)
    meta = serving_meta_graph(source)
    read_saved_model(source)
    before = meta.SerializeToString(deterministic=True)
    write_off = read_saved_model(source)
    write_off.nodes.clear()
    assert meta.SerializeToString(deterministic=True) == before
