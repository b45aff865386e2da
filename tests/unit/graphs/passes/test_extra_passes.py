"""Passes as a seam: one class is enough for a new one, in an import and in the sequence; what is left is refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import networks
from tests.models.predictions import predict
from tpu2gpu.checkpoint_importer.importing import import_model
from tpu2gpu.checkpoint_importer.options import ImportOptions
from tpu2gpu.cli.main import main
from tpu2gpu.errors import GraphError, UsageError
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.passes.base import Changes, Pass, Sequential
from tpu2gpu.graphs.passes.to_inference import PASSES, to_inference
from tpu2gpu.graphs.passes.training.fold_training_phase import FoldTrainingPhase
from tpu2gpu.graphs.passes.training.remove_dropout import RemoveDropout
from tpu2gpu.graphs.passes.training.training_ops import check_serving
from tpu2gpu.storage.publishing import verify_model

Built = Callable[..., Path]
X = np.random.default_rng(7).normal(size=(5, 4)).astype(np.float32)


class ComputeSineHere(Pass):
    """Compute in the graph what the TPU handed to its host."""

    def run(self, model: ServingModel) -> Changes:
        moved = [node for node in model.nodes.values() if node.op == "XlaHostCompute"]
        for node in moved:
            node.op = "Sin"
        return {"moved": [node.name for node in moved]} if moved else {}

    def summary(self, changes: Changes) -> list[str]:
        return [f"computes {len(changes['moved'])} sines here"]


class Fails(Pass):
    def run(self, model: ServingModel) -> Changes:
        raise KeyError("no such thing")


class Refuses(Pass):
    def requires(self, model: ServingModel) -> Iterable[str]:
        return ["sine (Sin): this pass cannot stand it"]

    def run(self, model: ServingModel) -> Changes:
        raise AssertionError("it must not come so far")


class BreaksTheGraph(Pass):
    def run(self, model: ServingModel) -> Changes:
        node = next(node for node in model.nodes.values() if node.op == "MatMul")
        del model.nodes[node.input[1]]
        return {}


class TellsArrays(Pass):
    def run(self, model: ServingModel) -> Changes:
        return {"values": np.ones(3)}


class LeavesDropout(Pass):
    """Put a random mask behind what the model returns."""

    def run(self, model: ServingModel) -> Changes:
        from tpu2gpu.graphs.edit import add, const

        [info] = model.signatures["serving_default"].outputs.values()
        shape = const(model.nodes, "mask/shape", np.array([3], np.int32))
        random = add(model.nodes, "mask/random", "RandomUniform", [shape], T=3, dtype=1).name
        mask = add(model.nodes, "mask/floor", "Floor", [random], T=1).name
        masked = add(model.nodes, "mask/mul", "Mul", [info.name.removesuffix(":0"), mask], T=1).name
        info.name = f"{masked}:0"
        return {}


class NeedsArguments(Pass):
    def __init__(self, factor: float) -> None:
        self.factor = factor

    def run(self, model: ServingModel) -> Changes:
        return {}


class NoPass:
    pass


def training_graph(folder: Path) -> tuple[Path, Any]:
    """A checkpoint whose graph hands a sine to the TPU's host, that graph, and what it answers to `X`."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        kernel = v1.get_variable("kernel", [4, 3], use_resource=True)
        tf.identity(tf.sin(tf.matmul(x, kernel), "sine"), "y")
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(folder / "model.ckpt"))
        wanted = session.run("y:0", {x: X})
    meta = meta_graph(folder)
    next(node for node in meta.graph_def.node if node.name == "sine").op = "XlaHostCompute"
    (folder / "model.ckpt.meta").write_bytes(meta.SerializeToString())
    return folder / "model.ckpt", wanted


def meta_graph(folder: Path) -> Any:
    from tensorflow.core.protobuf import meta_graph_pb2

    return meta_graph_pb2.MetaGraphDef.FromString((folder / "model.ckpt.meta").read_bytes())


def named(kind: type) -> str:
    return f"{__name__}:{kind.__name__}"


def test_a_pass_of_ones_own_makes_a_graph_serve_that_did_not(tmp_path: Path) -> None:
    checkpoint, wanted = training_graph(tmp_path)
    target, name = tmp_path / "model", named(ComputeSineHere)
    refused = main(["import", str(checkpoint), str(target), "--output", "y=y"])
    assert refused == 3
    assert not target.exists()
    assert main(["import", str(checkpoint), str(target), "--output", "y=y", "--extra-pass", name]) == 0
    assert np.allclose(predict(target, x=X)["y"], wanted, rtol=1e-5)
    report = json.loads((target / "report.json").read_text(encoding="utf-8"))
    assert report["extra_passes"] == {name: {"moved": ["sine"]}}
    assert report["to_inference"] == {}
    assert "computes 1 sines here" in report["summary"]
    manifest = verify_model(target)
    assert manifest["options"]["extra_pass"] == [name]
    assert len(manifest["extra_passes"][name]) == 64


def test_the_order_is_data_and_what_is_left_behind_the_last_pass_is_named(tmp_path: Path) -> None:
    training_graph(tmp_path)
    with pytest.raises(GraphError, match=r"cannot serve(.|\n)*sine \(XlaHostCompute\): computed outside of the TPU"):
        to_inference(meta_graph(tmp_path), outputs={"y": "y"}, passes=PASSES)
    served = to_inference(meta_graph(tmp_path), outputs={"y": "y"}, passes=(ComputeSineHere(), *PASSES))
    assert served.changes == {"moved": ["sine"]}
    assert Sequential((ComputeSineHere(), *PASSES)).summary(served.changes) == ["computes 1 sines here"]
    assert served.model.op_counts()["Sin"] == 1


def test_passes_in_another_order_say_what_they_miss(tmp_path: Path) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph:
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        keep = v1.placeholder(tf.float32, [], name="keep_prob")
        tf.identity(x / keep * tf.floor(keep + tf.random.uniform(tf.shape(x))), "y")
        meta = v1.train.export_meta_graph(graph=graph)
    phase, dropout = (next(it for it in PASSES if isinstance(it, kind)) for kind in (FoldTrainingPhase, RemoveDropout))
    with pytest.raises(GraphError, match=r"RemoveDropout: cannot work on this graph(.|\n)*keep_prob: not folded"):
        to_inference(copy.deepcopy(meta), outputs={"y": "y"}, passes=(dropout, phase))
    served = to_inference(copy.deepcopy(meta), outputs={"y": "y"})
    assert {**served.changes} == {"training_phases": ["keep_prob"], "dropouts": ["mul"]}
    assert served.model.op_counts() == {"Placeholder": 1, "Identity": 1}


def test_a_serving_model_goes_through_extra_passes_in_their_order_and_is_checked(built: Built, tmp_path: Path) -> None:
    source = built(networks.one_weight, ((1.0, 2.0), (3.0, 4.0)))
    name = named(LeavesDropout)
    with pytest.raises(GraphError, match=r"cannot serve(.|\n)*mask/random \(RandomUniform\): live dropout"):
        import_model(source, tmp_path / "model", ImportOptions(extra_pass=(name,)))
    result = import_model(source, tmp_path / "model", ImportOptions(extra_pass=(named(ComputeSineHere),)))
    assert result.report["extra_passes"] == {named(ComputeSineHere): {}}


@pytest.mark.parametrize("op", ["AssignAdd", "ResourceApplyGradientDescent", "CrossReplicaSum", "LoopCarried"])
def test_the_check_finds_what_only_training_has(op: str, tmp_path: Path) -> None:
    training_graph(tmp_path)
    model = to_inference(meta_graph(tmp_path), outputs={"y": "y"}, passes=(ComputeSineHere(), *PASSES)).model
    check_serving(model)
    model.nodes["sine"].op = op
    with pytest.raises(GraphError, match=r"cannot serve\b(.|\n)*- sine"):
        check_serving(model)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ComputeSineHere", "--extra-pass ComputeSineHere: must be MODULE:CLASS"),
        ("no_such_module:ComputeSineHere", "--extra-pass no_such_module:ComputeSineHere: No module named"),
        (f"{__name__}:Absent", "has no attribute 'Absent'"),
        (named(NoPass), f"--extra-pass {named(NoPass)}: not a Pass; derive"),
        (f"{__name__}:named", "named: not a Pass"),
        (named(NeedsArguments), r"NeedsArguments: cannot be made without arguments \(.*factor"),
        (named(Pass), "cannot be made without arguments"),
    ],
)
def test_what_is_no_pass_is_refused_before_anything_is_read(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        import_model(tmp_path / "nowhere", tmp_path / "model", ImportOptions(extra_pass=(name,)))


def test_a_pass_is_named_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="ComputeSineHere: named twice"):
        import_model(tmp_path / "nowhere", tmp_path / "model", ImportOptions(extra_pass=(named(ComputeSineHere),) * 2))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Fails, "failed with KeyError .'no such thing'"),
        (Refuses, r"Refuses: cannot work on this graph(.|\n)*- sine \(Sin\): this pass cannot stand it"),
        (BreaksTheGraph, r"leaves tensors that no node makes(.|\n)*takes"),
        (TellsArrays, "failed with TypeError .*JSON"),
    ],
)
def test_what_goes_wrong_in_a_pass_names_it(kind: type, message: str, built: Built, tmp_path: Path) -> None:
    source = built(networks.one_weight, ((1.0, 2.0), (3.0, 4.0)))
    with pytest.raises(GraphError, match=message) as caught:
        import_model(source, tmp_path / "model", ImportOptions(extra_pass=(named(kind),)))
    assert named(kind) in str(caught.value)
    assert not (tmp_path / "model").exists()
