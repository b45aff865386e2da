"""Signatures: each is to be had without the others, and needs no more than what it computes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import signature_models
from tpu2gpu import load
from tpu2gpu.checkpoint_importer.importing import import_model
from tpu2gpu.checkpoint_importer.options import ImportOptions, ImportResult
from tpu2gpu.errors import GraphError, SignatureError, SourceError, UnsupportedError, UsageError

X = np.float32([1, -2, 4])


def imported(source: Path, target: Path, **options: Any) -> ImportResult:
    return import_model(source, target, ImportOptions(**options))


def predict(folder: Path, signature: str = "serving_default", **feeds: Any) -> dict[str, Any]:
    return load(folder, signature=signature).run(feeds)


@pytest.mark.parametrize(
    ("builder", "writing", "reading"),
    [(signature_models.counting_module, "reset", "peek"), (signature_models.counting_graph, "incr", "get")],
)
def test_a_signature_that_writes_does_not_keep_others_from_being_imported(
    builder: Any, writing: str, reading: str, tmp_path: Path
) -> None:
    source = builder(tmp_path / "source")
    with pytest.raises(GraphError, match=f"signature {writing} writes to variables") as refusal:
        imported(source, tmp_path / "all")
    assert f"--signature serving_default --signature {reading}" in str(refusal.value)
    result = imported(source, tmp_path / "model", signature=("serving_default",))
    assert result.signatures == ("serving_default",)
    assert result.variables == 1  # the counter is not asked for
    assert np.array_equal(predict(tmp_path / "model", x=X)["y"], 2 * X)
    both = imported(source, tmp_path / "both", signature=("serving_default", reading))
    assert (set(both.signatures), both.variables) == ({"serving_default", reading}, 2)
    assert both.report["signatures"][reading]["outputs"]["n"]["dtype"] == "float32"
    assert predict(tmp_path / "both", reading)["n"] == 5


def test_a_signature_that_alone_is_asked_for_and_writes_is_refused_by_its_name(tmp_path: Path) -> None:
    source = signature_models.counting_graph(tmp_path / "source")
    with pytest.raises(GraphError, match="signature incr writes to variables") as refusal:
        imported(source, tmp_path / "model", signature=("incr",))
    assert refusal.value.hint == "export a signature without side effects"
    with pytest.raises(SignatureError, match="no signature 'inc', it has get, incr, serving_default"):
        imported(source, tmp_path / "model", signature=("inc",))


@pytest.mark.parametrize("asset", ["read", "assigned", "none"])
@pytest.mark.parametrize("weights", [True, False])
def test_a_signature_may_take_what_another_computes_beside_a_variable_that_no_checkpoint_holds(
    asset: str, weights: bool, tmp_path: Path
) -> None:
    source = signature_models.half_plus_three(tmp_path / "source", asset=asset, weights=weights)
    result = imported(source, tmp_path / "model", input=())
    source.with_suffix(".txt").write_text("not this one")
    assert set(result.signatures) == {"serving_default", "regress"}
    assert result.variables == (2 if weights else 0)
    answer = predict(tmp_path / "model", x=X[:, None])
    assert np.array_equal(answer["y"], 0.5 * X[:, None] + 3)
    assert asset != "read" or answer["said"] == b"three"


def test_the_open_shape_of_an_input_can_be_told(tmp_path: Path) -> None:
    source = signature_models.half_plus_three(tmp_path / "source", asset="none")
    result = imported(source, tmp_path / "open")
    assert any("--input inputs:string:SHAPE" in remark for remark in result.remarks)
    with pytest.raises(UnsupportedError, match="unknown for inputs; import the model with --input inputs:string:SHAPE"):
        load(tmp_path / "open", signature="regress")
    result = imported(source, tmp_path / "model", input=("inputs:string:?",))
    assert result.remarks == ()
    assert set(result.signatures) == {"serving_default", "regress"}
    answer = predict(tmp_path / "model", "regress", inputs=signature_models.serialized_examples(X))
    assert np.array_equal(answer["outputs"], 0.5 * X[:, None] + 3)


def test_told_shapes_keep_the_outputs_of_a_signature_of_tensorflow_2(tmp_path: Path) -> None:
    source = signature_models.any_rank(tmp_path / "source")
    imported(source, tmp_path / "model", input=("x:float32:?x3", "z:float32:?x4"))
    runner = load(tmp_path / "model")
    assert [str(spec) for spec in runner.inputs] == ["x: float32 [?, 3]", "z: float32 [?, 4]"]
    answer = runner.run({"x": np.ones([2, 3], np.float32), "z": np.zeros([5, 4], np.float32)})
    assert np.array_equal(answer["sum"], np.full([2, 2], 3))
    assert np.array_equal(answer["rows"], np.ones([5, 4]))


def test_a_told_shape_that_cannot_be_is_refused(tmp_path: Path) -> None:
    source = signature_models.counting_graph(tmp_path / "source")
    told = ("x:int32:?", "y:float32:?", "x:float32:?x2")
    with pytest.raises(SignatureError, match="cannot have the stated shapes") as refusal:
        imported(source, tmp_path / "model", signature=("serving_default",), input=told)
    assert refusal.value.details == (
        "x: is float32, not int32",
        "y: no signature has this input; the inputs are x",
        "x: has the shape [?]",
    )
    with pytest.raises(UsageError, match="NAME:DTYPE:SHAPE"):
        imported(source, tmp_path / "model", input=("x:float32",))


def test_the_only_graph_is_taken_under_any_tag_and_told(tmp_path: Path) -> None:
    source = signature_models.tagged(tmp_path / "source", ["train"])
    result = imported(source, tmp_path / "model")
    assert result.report["tags"] == ["train"]
    assert result.remarks == ("the model's only graph is tagged train and not serve; it was taken",)
    assert np.array_equal(predict(tmp_path / "model", x=X)["y"], 2 * X)


def test_of_several_graphs_one_is_chosen_by_its_tags(tmp_path: Path) -> None:
    source = signature_models.tagged(tmp_path / "source", ["train", "eval,gpu"])
    with pytest.raises(SourceError, match=r"none of its 2 graphs is tagged 'serve'; import one with --tag") as refusal:
        imported(source, tmp_path / "model")
    assert refusal.value.hint.endswith("their tags are train, eval,gpu")
    result = imported(source, tmp_path / "model", tag="gpu,eval")
    assert result.report["tags"] == ["eval", "gpu"]
    assert np.array_equal(predict(tmp_path / "model", x=X)["y"], 3 * X)
    with pytest.raises(SourceError, match="no graph is tagged tpu; the tags of its graphs are train, eval,gpu"):
        imported(source, tmp_path / "other", tag="tpu")


def test_a_graph_for_serving_stays_the_first_choice(tmp_path: Path) -> None:
    source = signature_models.tagged(tmp_path / "source", ["train", "serve,tpu", "serve"])
    imported(source, tmp_path / "model")
    assert np.array_equal(predict(tmp_path / "model", x=X)["y"], 4 * X)
    imported(source, tmp_path / "tpu", tag="serve,tpu")
    assert np.array_equal(predict(tmp_path / "tpu", x=X)["y"], 3 * X)


def test_a_tag_is_refused_where_sources_have_none(tmp_path: Path) -> None:
    import tensorflow as tf

    tf.io.write_graph(tf.Graph(), str(tmp_path), "graph.pb", as_text=False)
    with pytest.raises(UsageError, match="--tag serve: graphs of a SavedModel have tags, a graph_def has none"):
        imported(tmp_path / "graph.pb", tmp_path / "model", tag="serve")
