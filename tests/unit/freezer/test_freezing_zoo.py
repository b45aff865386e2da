"""The model zoo, frozen and un-frozen: bits stay, and weights are found without a look at names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import zoo
from tests.models.predictions import exact_outputs, predict
from tests.unit.freezer.test_freezing_control_flow import frozen_by_tensorflow
from tpu2gpu.freezer.freezing import freeze_model
from tpu2gpu.freezer.options import FreezeOptions
from tpu2gpu.graphs.formats.saved_model import read_saved_model
from tpu2gpu.unfreezer.unfreezing import list_weights, unfreeze_model

Built = Callable[..., Path]

# Builder, what to ask it, and the constants that no structure tells from weights (--exclude is for them).
ZOO: dict[str, tuple[Callable[..., Path], Callable[[], dict[str, Any]], int]] = {
    "lstm": (zoo.lstm, lambda: {"sequence": zoo.sequences(4)}, 0),
    "gru": (zoo.gru, lambda: {"sequence": zoo.sequences(4)}, 0),
    "lstm_v1": (zoo.lstm_v1, lambda: {"sequence": zoo.sequences(4)}, 0),
    "jpeg_classifier": (zoo.jpeg_classifier, lambda: {"image_bytes": zoo.jpegs(3)}, 0),
    "retinanet": (zoo.retinanet, lambda: {"image": zoo.photographs(2, 64)}, 1),  # anchors
    "transformer": (zoo.transformer, lambda: zoo.sentences(4), 1),  # the factors of a mask
    "mobilenet_v3": (zoo.mobilenet_v3, lambda: {"image": zoo.photographs(2, 64)}, 0),
    "efficientnet_b0": (zoo.efficientnet_b0, lambda: {"image": zoo.photographs(2, 64)}, 2),  # input normalisation
    "resnet50": (zoo.resnet50, lambda: {"image": zoo.photographs(2, 64)}, 0),
}
LARGE = ("transformer", "gru", "mobilenet_v3", "efficientnet_b0", "resnet50")
ALLOWED = 2e-6  # of the largest output
# TensorFlow's own freezer does not make a model of these that can be called.
NOT_BY_TENSORFLOW = {
    "jpeg_classifier": "the table's handle becomes an input that nobody gives",
    "resnet50": "the function's signature is lost, and with it its input",
}
NAMES = [pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in ZOO]


def farthest(found: dict[str, Any], wanted: dict[str, Any]) -> float:
    """The largest difference over the largest value, of all outputs; text must be equal."""
    worst = 0.0
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if value.dtype.kind == "f":
            worst = max(worst, float(np.abs(found[name] - value).max() / np.abs(value).max()))
        else:
            assert np.array_equal(found[name], value)
    return worst


@pytest.mark.parametrize("name", NAMES)
def test_a_frozen_model_of_the_zoo_answers_bit_for_bit(name: str, built: Built, tmp_path: Path) -> None:
    builder, make_feeds, _ = ZOO[name]
    source, feeds = built(builder), make_feeds()
    freeze_model(source, tmp_path / "frozen")
    wanted = predict(source, plainly=True, **feeds)
    found = predict(tmp_path / "frozen", plainly=True, **feeds)
    for output in wanted:
        assert np.array_equal(found[output], wanted[output])

    # With Grappler on, constants are folded into convolutions, which rounds elsewhere: the judge is the exact answer.
    found = predict(tmp_path / "frozen", **feeds)
    if farthest(found, wanted) > ALLOWED:
        exact = exactly(source, tmp_path / "graph", feeds)
        assert farthest(found, exact) <= ALLOWED + farthest(wanted, exact)

    if name in NOT_BY_TENSORFLOW:
        with pytest.raises(TypeError, match="too many positional arguments"):
            frozen_by_tensorflow(source, **feeds)
    else:
        assert farthest(frozen_by_tensorflow(source, **feeds), wanted) <= 2e-4


def exactly(source: Path, frozen: Path, feeds: dict[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """What a model answers where every step of it is computed in float64."""
    freeze_model(source, frozen, FreezeOptions(format="graph_def"))
    signature = json.loads((frozen / "signature.json").read_text())["signatures"]["serving_default"]
    given = {signature["inputs"][name].partition(":")[0]: value for name, value in feeds.items()}
    answers = exact_outputs(frozen / "frozen_graph.pb", given, list(signature["outputs"].values()))
    return dict(zip(signature["outputs"], answers, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_weights_of_the_zoo_are_found_and_the_way_back_and_forth_keeps_bits(
    name: str, built: Built, tmp_path: Path
) -> None:
    builder, make_feeds, constants = ZOO[name]
    source, feeds = built(builder), make_feeds()
    freeze_model(source, tmp_path / "frozen")
    wanted = {key: variable.trainable for key, variable in read_saved_model(source).variables.items()}
    found = {weight["node"]: weight["trainable"] for weight in list_weights(tmp_path / "frozen")}
    assert wanted.keys() <= found.keys()
    assert len(found) - len(wanted) == constants
    assert {key: found[key] for key in wanted} == wanted

    unfreeze_model(tmp_path / "frozen", tmp_path / "variables")
    freeze_model(tmp_path / "variables", tmp_path / "again")
    first, second = (predict(tmp_path / folder, plainly=True, **feeds) for folder in ("frozen", "again"))
    for output in first:
        assert np.array_equal(first[output], second[output])


@pytest.mark.parametrize("name", ["lstm", "jpeg_classifier", pytest.param("mobilenet_v3", marks=pytest.mark.slow)])
def test_folded_constants_keep_the_bits_of_the_zoo(name: str, built: Built, tmp_path: Path) -> None:
    builder, make_feeds, _ = ZOO[name]
    source, feeds = built(builder), make_feeds()
    result = freeze_model(source, tmp_path / "frozen", FreezeOptions(fold_constants=True))
    wanted, found = predict(source, plainly=True, **feeds), predict(tmp_path / "frozen", plainly=True, **feeds)
    for output in wanted:
        assert np.array_equal(found[output], wanted[output])
    if name == "mobilenet_v3":
        assert result.report["cleanups"]["fold_constants"]["nodes"] > 100
        assert "Rsqrt" not in result.report["ops"]


@pytest.mark.parametrize(
    "name",
    [
        "jpeg_classifier",
        "retinanet",
        *(pytest.param(it, marks=pytest.mark.slow) for it in ("mobilenet_v3", "resnet50")),
    ],
)
def test_batch_norms_are_folded_into_convolutions_with_a_reported_error(
    name: str, built: Built, tmp_path: Path
) -> None:
    builder, make_feeds, _ = ZOO[name]
    source, feeds = built(builder), make_feeds()
    options = FreezeOptions(fold_batch_norm=True, signature=("serving_default",))
    result = freeze_model(source, tmp_path / "frozen", options)
    done = result.report["cleanups"]["fold_batch_norm"]
    norms = sum("moving_variance" in item["name"] for item in result.report["frozen"])
    assert len(done["folded"]) == norms > 0
    assert 0 < done["largest_relative_error"] < 2e-6
    error = farthest(predict(tmp_path / "frozen", plainly=True, **feeds), predict(source, plainly=True, **feeds))
    assert error < 2e-4
