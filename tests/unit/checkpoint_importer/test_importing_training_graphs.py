"""Importing TPU training graphs: answers are those of the same network built for inference from the same weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import tpu_training
from tpu2gpu.checkpoint_importer.importing import import_model
from tpu2gpu.checkpoint_importer.options import ImportOptions, ImportResult
from tpu2gpu.errors import GraphError, SignatureError, SourceError, TrustRefusedError, UsageError

Built = Callable[..., Path]

NETWORKS = ["plain", "residual", "switched", "reshaped", "distributed", "recurrent"]


def answers(folder: Path, x: Any, *, plainly: bool = False) -> Any:
    """What an imported model answers, by its one output."""
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": plainly})
    try:
        signature = tf.saved_model.load(str(folder)).signatures["serving_default"]
        return next(iter(signature(tf.constant(x)).values())).numpy()
    finally:
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})


def imported(source: Path, target: Path, **options: Any) -> ImportResult:
    return import_model(source, target, ImportOptions(**options))


def relative_error(found: Any, wanted: Any) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("network", NETWORKS)
def test_a_genuine_tpu_estimator_graph_answers_as_tensorflow_1_15_does(
    network: str, built: Built, tmp_path: Path
) -> None:
    source = built(tpu_training.genuine, network)
    result = imported(source, tmp_path / "model")
    known = np.load(source / "answers.npz")
    assert len(known["x"]) != result.report["batch"]["trained_with"]
    assert relative_error(answers(tmp_path / "model", known["x"]), known["logits"]) < 1e-6
    assert result.report["batch"]["held_by"] == {}
    signature = result.report["signatures"]["serving_default"]
    assert signature["inputs"]["features"]["shape"] == [None, *known["x"].shape[1:]]
    assert signature["outputs"]["logits"]["shape"] == [None, 10]
    assert result.report["checkpoint"]["dropped"]["steps"][-1] == "global_step"
    assert result.report["checkpoint"]["unused"] == []


@pytest.mark.parametrize("network", ["plain", "reshaped"])
def test_bfloat16_of_a_genuine_graph_is_kept_bit_for_bit(network: str, built: Built, tmp_path: Path) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    source = built(tpu_training.genuine, network)
    imported(source, tmp_path / "model", keep_bfloat16=True)
    known = np.load(source / "answers.npz")
    found = answers(tmp_path / "model", known["x"], plainly=True)
    # TensorFlow 1.15's own network for inference, in this TensorFlow, whose kernels of bfloat16 round less often.
    plainly = v1.ConfigProto()
    plainly.graph_options.rewrite_options.disable_meta_optimizer = True
    with tf.Graph().as_default() as graph, v1.Session(graph=graph, config=plainly) as session:
        v1.train.import_meta_graph(str(source / "bfloat16.meta")).restore(session, str(source / "model.ckpt-2"))
        assert np.array_equal(found, session.run("answer:0", {"x:0": known["x"]}))
    assert relative_error(found, known["logits_bfloat16"]) < 0.01
    assert relative_error(found, known["logits"]) > 1e-4


@pytest.mark.parametrize("network", ["residual", "distributed"])
def test_moving_averages_are_taken_as_weights_on_request(network: str, built: Built, tmp_path: Path) -> None:
    source = built(tpu_training.genuine, network)
    result = imported(source, tmp_path / "model", use_ema=True)
    known = np.load(source / "answers.npz")
    assert relative_error(answers(tmp_path / "model", known["x"]), known["logits_ema"]) < 1e-6
    assert relative_error(known["logits"], known["logits_ema"]) > 0.05
    assert result.report["checkpoint"]["without_shadow"] == []
    assert not [name for name in (it["name"] for it in result.report["variables"]) if "ExponentialMoving" in name]


def test_constants_that_hold_the_batch_are_named_and_others_of_the_same_number_stay(
    built: Built, tmp_path: Path
) -> None:
    result = imported(built(tpu_training.genuine, "reshaped"), tmp_path / "model")
    freed = result.report["batch"]
    assert (freed["batch"], freed["trained_with"]) == (None, 4)
    assert freed["constants"] == (
        "Fill/dims",
        *(f"Reshape_{n}/shape" for n in (1, 2, 3)),
        "Slice/size",
        "Tile/multiples",
    )
    known = np.load(built(tpu_training.genuine, "reshaped") / "answers.npz")
    one = answers(tmp_path / "model", known["x"][:1])
    assert relative_error(one, known["logits"][:1]) < 1e-6


@pytest.mark.parametrize("network", ["reshaped", "recurrent"])
def test_a_batch_is_fixed_on_request(network: str, built: Built, tmp_path: Path) -> None:
    source = built(tpu_training.genuine, network)
    result = imported(source, tmp_path / "model", batch=3)
    known = np.load(source / "answers.npz")
    assert result.report["signatures"]["serving_default"]["inputs"]["features"]["shape"][0] == 3
    assert relative_error(answers(tmp_path / "model", known["x"][:3]), known["logits"][:3]) < 1e-6


@pytest.mark.parametrize("loop", ["none", "v1", "v2"])
@pytest.mark.parametrize("bfloat16", [True, False])
def test_loops_of_every_kind_and_every_dropout_are_gone(
    loop: str, bfloat16: bool, built: Built, tmp_path: Path
) -> None:
    optimizer = "adam" if loop == "v2" else "momentum"
    source = built(tpu_training.tpu_network, loop=loop, bfloat16=bfloat16, optimizer=optimizer)
    result = imported(source, tmp_path / "model", keep_bfloat16=True)
    known = np.load(source / "answers.npz")
    found = answers(tmp_path / "model", known["x"])
    if bfloat16:
        assert np.array_equal(found, known["logits"])
    else:
        assert relative_error(found, known["logits"]) < 1e-6
    assert len(result.report["to_inference"]["dropouts"]) == 4
    assert len(result.report["to_inference"]["batch_norms"]) == 2
    assert {"slots", "steps"} <= set(result.report["checkpoint"]["dropped"])
    assert result.variables == 12
    assert not [it["name"] for it in result.report["variables"] if "//" in it["name"]]


def test_ops_that_no_tensorflow_knows_do_not_matter_beside_the_network(built: Built, tmp_path: Path) -> None:
    source = built(tpu_training.tpu_network, unknown=True)
    feed = "InfeedQueue/dequeue"
    result = imported(source, tmp_path / "model", input=(f"image={feed}:0:float32:?x8x8x3",), keep_bfloat16=True)
    known = np.load(source / "answers.npz")
    assert np.array_equal(answers(tmp_path / "model", known["x"]), known["logits"])
    assert result.report["signatures"]["serving_default"]["inputs"]["image"]["shape"] == [None, 8, 8, 3]


def test_an_unknown_op_within_the_network_is_kept_for_those_who_trust_it(tmp_path: Path) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 3], name="x")
        tf.matmul(x, v1.get_variable("w", [3, 2], use_resource=True), name="y")
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(tmp_path / "model.ckpt"))
    meta = v1.MetaGraphDef.FromString((tmp_path / "model.ckpt.meta").read_bytes())
    next(node for node in meta.graph_def.node if node.name == "y").op = "NpuMatMul"
    custom = next(op for op in meta.meta_info_def.stripped_op_list.op if op.name == "MatMul")
    custom.name = "NpuMatMul"
    (tmp_path / "model.ckpt.meta").write_bytes(meta.SerializeToString())
    with pytest.raises(TrustRefusedError, match="NpuMatMul 'y': unknown"):
        imported(tmp_path / "model.ckpt", tmp_path / "model", output=("y=y",))
    result = imported(tmp_path / "model.ckpt", tmp_path / "model", output=("y=y",), trust=("custom",))
    assert result.report["unknown_ops"] == ["NpuMatMul"]
    assert result.remarks == ("this TensorFlow does not know NpuMatMul: a server needs the libraries that bring them",)


def test_an_unknown_op_on_the_way_is_named(built: Built, tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match="feeds the outputs"):
        imported(built(tpu_training.tpu_network, unknown=True), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_outputs_and_inputs_are_chosen_by_tensor(built: Built, tmp_path: Path) -> None:
    source = built(tpu_training.genuine, "plain")
    result = imported(
        source,
        tmp_path / "model",
        output=("pooled=Mean", "logits=dense/BiasAdd:0"),
        input=("image=InfeedQueue/dequeue",),
    )
    signature = result.report["signatures"]["serving_default"]
    assert set(signature["outputs"]) == {"pooled", "logits"}
    assert signature["outputs"]["pooled"]["shape"] == [None, 16]
    assert set(signature["inputs"]) == {"image"}


def test_tensors_that_are_not_there_and_malformed_options_are_named(built: Built, tmp_path: Path) -> None:
    source = built(tpu_training.genuine, "plain")
    with pytest.raises(SignatureError, match=r"no tensor 'dense/BiasAd'; did you mean 'dense/BiasAdd'"):
        imported(source, tmp_path / "model", output=("y=dense/BiasAd",))
    with pytest.raises(UsageError) as caught:
        imported(source, tmp_path / "model", input=("image", "x=a:b:c:d", "y=t:float33"))
    assert len(caught.value.details) == 3
    with pytest.raises(UsageError, match="--drop: not a regular expression"):
        imported(source, tmp_path / "model", drop=("(",))


def test_a_step_of_a_training_folder_is_chosen(built: Built, tmp_path: Path) -> None:
    source = built(tpu_training.genuine, "plain")
    result = imported(source, tmp_path / "model", step=2)
    assert result.report["source"] == {"kind": "checkpoint", "name": "model.ckpt-2", "step": 2}
    with pytest.raises(SourceError, match=r"no checkpoint of step 7; there are 2"):
        imported(source, tmp_path / "other", step=7)
    for path in ("model.ckpt-2", "model.ckpt-2.index", "model.ckpt-2.meta", "checkpoint"):
        assert import_model(source / path, tmp_path / "model", force=True).variables == 12


def test_every_variable_that_does_not_fit_is_listed(built: Built, tmp_path: Path) -> None:
    from tpu2gpu.tensorbundle.reader import Bundle
    from tpu2gpu.tensorbundle.writer import BundleWriter

    source = built(tpu_training.genuine, "plain")
    bundle = Bundle(source / "model.ckpt-2")
    with BundleWriter(tmp_path / "model.ckpt-2") as writer:
        for key in bundle:
            if key == "dense/kernel":
                writer.add_array(key, np.zeros((16, 11), np.float32))
            elif key == "conv2d/kernel":
                writer.add_array(key, bundle.read(key).astype(np.float64))
            elif key != "dense/bias":
                writer.add_array(key, bundle.read(key))
    (tmp_path / "model.ckpt-2.meta").write_bytes((source / "model.ckpt-2.meta").read_bytes())
    with pytest.raises(GraphError) as caught:
        imported(tmp_path / "model.ckpt-2", tmp_path / "model")
    assert sorted(caught.value.details) == [
        "conv2d/kernel: float32 [3, 3, 3, 8] in the graph, float64 [3, 3, 3, 8] in the checkpoint",
        "dense/bias: not in the checkpoint",
        "dense/kernel: float32 [16, 10] in the graph, float32 [16, 11] in the checkpoint",
    ]


def test_a_partitioned_embedding_is_taken_part_by_part(built: Built, tmp_path: Path) -> None:
    from tpu2gpu.tensorbundle.reader import Bundle

    source = built(tpu_training.genuine, "recurrent")
    stored = Bundle(source / "model.ckpt-2").entry("words/table")
    assert (stored.shape, len(stored.slices)) == ((50, 8), 3)
    imported(source, tmp_path / "model")
    written = Bundle(tmp_path / "model" / "variables" / "variables").entry("words/table")
    assert (written.shape, written.slices) == ((50, 8), ())


@pytest.mark.parametrize("resource", [True, False])
def test_moving_averages_of_weights_are_not_taken_for_statistics_of_batches(resource: bool, tmp_path: Path) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        x = v1.placeholder(tf.float32, [None, 3], name="x")
        scale = v1.get_variable("scale", [], initializer=v1.constant_initializer(2.0), use_resource=resource)
        w = v1.get_variable("w", [3, 2], initializer=v1.random_normal_initializer(seed=1), use_resource=resource)
        logits = tf.matmul(x, w) * scale
        v1.losses.sparse_softmax_cross_entropy(tf.zeros([5], tf.int32), logits)
        averages = tf.train.ExponentialMovingAverage(0.5)
        update = averages.apply([w, scale])
        session.run(v1.variables_initializer([scale, w]))  # the averages begin with their values
        session.run(v1.variables_initializer([averages.average(scale), averages.average(w)]))
        session.run(v1.assign_add(scale, 1.0))
        session.run(update)
        v1.train.Saver().save(session, str(tmp_path / "model.ckpt"))
        given = np.random.default_rng(2).normal(size=(5, 3)).astype(np.float32)
        wanted, shadow = session.run([logits, averages.average(scale)], {x: given})
    imported(tmp_path / "model.ckpt", tmp_path / "model")
    assert relative_error(answers(tmp_path / "model", given), wanted) < 1e-6
    result = imported(tmp_path / "model.ckpt", tmp_path / "averaged", use_ema=True)
    assert relative_error(answers(tmp_path / "averaged", given), wanted / 3.0 * shadow) < 1e-6
    assert result.variables == 2


def test_a_batch_that_cannot_be_freed_stays_and_the_node_that_holds_it_is_named(tmp_path: Path) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        x = v1.placeholder(tf.float32, [4, 3], name="x")
        w = v1.get_variable("w", [6, 2], initializer=v1.random_normal_initializer(seed=1), use_resource=True)
        y = tf.matmul(tf.reshape(x, [2, 6], name="pairs"), w)  # two examples make one row
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(tmp_path / "model.ckpt"))
        given = np.random.default_rng(2).normal(size=(4, 3)).astype(np.float32)
        wanted = session.run(y, {x: given})
    result = imported(tmp_path / "model.ckpt", tmp_path / "model", output=("y=MatMul",))
    assert result.report["batch"]["batch"] == 4
    assert result.report["batch"]["held_by"] == {"pairs": "the batch of 4 is split among the sizes [2, 6]"}
    assert result.report["signatures"]["serving_default"]["inputs"]["x"]["shape"] == [4, 3]
    assert relative_error(answers(tmp_path / "model", given), wanted) < 1e-6
    with pytest.raises(GraphError, match=r"--batch 8: the graph was made for 4(.|\n)*pairs: the batch of 4 is split"):
        imported(tmp_path / "model.ckpt", tmp_path / "other", output=("y=MatMul",), batch=8)
