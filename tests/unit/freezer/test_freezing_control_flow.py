"""Variables inside control flow, odd signatures and bare graphs freeze too; TensorFlow's freezer is the reference."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import freezing_models
from tests.models.predictions import predict
from tpu2gpu.errors import GraphError, SignatureError, SourceError, UsageError
from tpu2gpu.freezer.freezing import freeze_model
from tpu2gpu.freezer.options import FreezeOptions
from tpu2gpu.graphs.formats.graph_def import read_graph_def
from tpu2gpu.graphs.formats.saved_model import read_saved_model
from tpu2gpu.unfreezer.unfreezing import unfreeze_model

Answers = dict[str, np.ndarray[Any, Any]]
X = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)

# What TensorFlow 2's freezer makes of the same models.
KINDS = {
    "while": "equal",
    "if": "equal",
    "case": "equal",
    "map": "equal",
    "nested": "equal",
    "gather": "fails",  # the constant that it adds to the loop's body is in no frame
    "shape": "fails",  # no converter for VariableShape
    "two": "equal",
    "dataset": "fails",  # the data set's function still wants a handle
    "indirect": "fails",  # the conditional's function returns a tensor where a handle is declared
}


def frozen_by_tensorflow(source: Path, **feeds: Any) -> Answers:
    """What TensorFlow 2's own freezer makes of a model, run without Grappler."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    try:
        loaded = tf.saved_model.load(str(source))
        signature = loaded.signatures["serving_default"]
        frozen = convert_variables_to_constants_v2(signature)
        # A frozen function takes its inputs by position, in the order of the placeholders and not of the names.
        places = [tensor.op.name for tensor in signature.inputs]
        names = sorted(signature.structured_input_signature[1], key=lambda name: _place(name, places))
        answers = frozen(*(tf.constant(feeds[name]) for name in names))
    finally:
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})
    flat = answers if isinstance(answers, list) else [answers]
    return {name: value.numpy() for name, value in zip(sorted(signature.structured_outputs), flat, strict=True)}


def _place(name: str, places: list[str]) -> int:
    return next(i for i, place in enumerate(places) if place == name or place.endswith(f"_{name}"))


@pytest.mark.parametrize("kind", KINDS)
def test_variables_that_control_flow_captures_are_frozen_bit_for_bit(kind: str, tmp_path: Path) -> None:
    source = freezing_models.control_flow(tmp_path / "model", kind=kind)
    result = freeze_model(source, tmp_path / "frozen", FreezeOptions(format="both"))
    wanted = predict(source, plainly=True, x=X)["y"]
    assert np.array_equal(predict(tmp_path / "frozen", plainly=True, x=X)["y"], wanted)
    assert np.abs(predict(tmp_path / "frozen", x=X)["y"] - wanted).max() <= 2e-6 * np.abs(wanted).max()
    assert result.report["rewritten_functions"]
    model = read_graph_def(tmp_path / "frozen" / "frozen_graph.pb")
    left = [node.op for function in model.functions.values() for node in function.node_def]
    assert not {"ReadVariableOp", "VarHandleOp", "ResourceGather"} & {*left, *model.op_counts()}
    if KINDS[kind] == "equal":
        assert np.array_equal(frozen_by_tensorflow(source, x=X)["y"], wanted)
    else:
        with pytest.raises(Exception):  # noqa: B017 - whatever it raises, it does not work
            frozen_by_tensorflow(source, x=X)


@pytest.mark.parametrize("resource", [False, True])
def test_old_loops_and_conditionals_are_frozen_bit_for_bit(resource: bool, tmp_path: Path) -> None:
    source = freezing_models.old_control_flow(tmp_path / "model", resource=resource)
    freeze_model(source, tmp_path / "frozen", FreezeOptions(fold_constants=True))
    assert np.array_equal(predict(tmp_path / "frozen", plainly=True, x=X)["y"], predict(source, plainly=True, x=X)["y"])
    unfreeze_model(tmp_path / "frozen", tmp_path / "variables")
    assert sorted(read_saved_model(tmp_path / "variables").variables) == sorted(read_saved_model(source).variables)
    assert np.array_equal(
        predict(tmp_path / "variables", plainly=True, x=X)["y"], predict(source, plainly=True, x=X)["y"]
    )


def test_a_frozen_model_loads_where_there_is_only_tensorflow(tmp_path: Path) -> None:
    source = freezing_models.control_flow(tmp_path / "model", kind="nested")
    freeze_model(source, tmp_path / "frozen")
    script = (
        "import sys; sys.modules['tpu2gpu'] = None\n"
        "import tensorflow as tf\n"
        f"model = tf.saved_model.load({str(tmp_path / 'frozen')!r})\n"
        "print(model.signatures['serving_default'](x=tf.ones([1, 3]))['y'].numpy().tolist())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    wanted = predict(source, x=np.ones((1, 3), np.float32))["y"]
    assert np.allclose(json.loads(done.stdout.splitlines()[-1]), wanted, rtol=2e-6)


def test_sparse_and_ragged_inputs_stay_in_the_signature(tmp_path: Path) -> None:
    import tensorflow as tf

    source = freezing_models.ragged_and_sparse(tmp_path / "model")
    freeze_model(source, tmp_path / "frozen", FreezeOptions(format="both"))
    feeds = {
        "r_component_0": tf.constant([1.0, 2.0, 3.0]),
        "r_component_1": tf.constant([0, 1, 3], tf.int64),
        "s_indices": tf.constant([[0, 1], [1, 3]], tf.int64),
        "s_values": tf.constant([5.0, 7.0]),
        "s_dense_shape": tf.constant([2, 4], tf.int64),
    }
    answers = []
    for folder in (source, tmp_path / "frozen"):
        loaded = tf.saved_model.load(str(folder))
        answers.append(loaded.signatures["serving_default"](**feeds))
        assert sorted(loaded.signatures["serving_default"].structured_input_signature[1]) == sorted(feeds)
    assert np.array_equal(answers[0]["y"].numpy(), answers[1]["y"].numpy())
    assert isinstance(answers[1]["doubled"], tf.sparse.SparseTensor)
    assert np.array_equal(answers[0]["doubled"].values.numpy(), answers[1]["doubled"].values.numpy())
    names = json.loads((tmp_path / "frozen" / "signature.json").read_text())["signatures"]["serving_default"]
    assert sorted(names["inputs"]) == ["r/0", "r/1", "s/dense_shape", "s/indices", "s/values"]


@pytest.mark.parametrize("resource", [False, True])
@pytest.mark.parametrize("file", ["model.ckpt.meta", "graph.pb", "graph.pbtxt"])
def test_a_bare_graph_and_its_checkpoint_are_frozen(file: str, resource: bool, tmp_path: Path) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    folder = freezing_models.bare_graph(tmp_path / "run", resource=resource)
    options = FreezeOptions(checkpoint=str(folder / "model.ckpt"), output=("net/y",), format="both")
    result = freeze_model(folder / file, tmp_path / "frozen", options)
    weight = tf.train.load_checkpoint(str(folder / "model.ckpt")).get_tensor("net/w")
    assert np.array_equal(predict(tmp_path / "frozen", plainly=True, x=np.eye(4, dtype=np.float32))["net/y"], weight)
    assert result.frozen_variables == 1  # only what the outputs need
    names = json.loads((tmp_path / "frozen" / "signature.json").read_text())["signatures"]["serving_default"]
    assert names == {"inputs": {"x": "x:0"}, "outputs": {"net/y": "net/y:0"}}

    # TensorFlow's freeze_graph gives the same.
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        saver = v1.train.import_meta_graph(str(folder / "model.ckpt.meta"))
        saver.restore(session, str(folder / "model.ckpt"))
        theirs = v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), ["net/y"])
    ours = v1.GraphDef.FromString((tmp_path / "frozen" / "frozen_graph.pb").read_bytes())
    for graph_def in (theirs, ours):
        with tf.Graph().as_default(), v1.Session() as session:
            tf.import_graph_def(graph_def, name="")
            assert np.array_equal(session.run("net/y:0", {"x:0": np.eye(4)}), weight)


def test_a_bare_graph_keeps_its_tables_and_their_files(tmp_path: Path) -> None:
    folder = freezing_models.bare_graph(tmp_path / "run")
    options = FreezeOptions(checkpoint=str(folder / "model.ckpt"), output=("net/y:0", "number=lookup"))
    freeze_model(folder / "model.ckpt.meta", tmp_path / "frozen", options)
    (folder / "words.txt").unlink()
    answers = predict(tmp_path / "frozen", x=np.ones((2, 4), np.float32), words=np.array([b"emu", b"yak"]))
    assert answers["number"].tolist() == [2, -1]


def test_a_bare_graph_is_asked_for_what_it_lacks(tmp_path: Path) -> None:
    folder = freezing_models.bare_graph(tmp_path / "run")
    graph, checkpoint = folder / "graph.pb", str(folder / "model.ckpt")
    with pytest.raises(UsageError, match="a graph alone; give its variables with --checkpoint"):
        freeze_model(graph, tmp_path / "frozen")
    with pytest.raises(UsageError, match="has no signature; name what it should return with --output"):
        freeze_model(graph, tmp_path / "frozen", FreezeOptions(checkpoint=checkpoint))
    with pytest.raises(SignatureError, match=r"net/z: did you mean 'net/"):
        freeze_model(graph, tmp_path / "frozen", FreezeOptions(checkpoint=checkpoint, output=("net/z",)))
    with pytest.raises(UsageError, match="give its --checkpoint too"):
        FreezeOptions(output=("net/y",))
    with pytest.raises(SourceError, match="neither a MetaGraphDef"):
        freeze_model(folder / "words.txt", tmp_path / "frozen", FreezeOptions(checkpoint=checkpoint, output=("y",)))
    other = freezing_models.bare_graph(tmp_path / "other", resource=True)
    (other / "model.ckpt.index").unlink()
    with pytest.raises((SourceError, GraphError), match=r"model\.ckpt\.index is missing"):
        freeze_model(graph, tmp_path / "frozen", FreezeOptions(checkpoint=str(other / "model.ckpt"), output=("net/y",)))
