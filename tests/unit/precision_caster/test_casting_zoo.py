"""Casting real architectures to float16: answers near those of float32, the same class, the same signature."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import zoo
from tests.models.predictions import predict
from tpu2gpu.errors import PrecisionRefusedError
from tpu2gpu.freezer.freezing import freeze_model
from tpu2gpu.graphs.formats.saved_model import read_saved_model
from tpu2gpu.precision_caster.casting import cast_model
from tpu2gpu.precision_caster.options import CastOptions
from tpu2gpu.running.loading import load
from tpu2gpu.tensorbundle.format import DTYPE_ENUMS
from tpu2gpu.trt_converter.converting import convert_model
from tpu2gpu.trt_converter.options import ConvertOptions

Built = Callable[..., Path]
Check = Callable[[dict[str, Any], dict[str, Any]], None]
F16, F32 = DTYPE_ENUMS["float16"], DTYPE_ENUMS["float32"]
TOLERANCE, TOP1_CHANGES = 5e-3, 0.01


def feeds(name: str, count: int, sizes: dict[str, Any]) -> dict[str, Any]:
    if name == "transformer":
        return zoo.sentences(count, **{key: sizes[key] for key in ("vocabulary", "length") if key in sizes})
    if name in ("lstm", "gru", "lstm_v1"):
        return {"sequence": zoo.sequences(count, **{key: sizes[key] for key in ("steps", "features") if key in sizes})}
    if name == "jpeg_classifier":
        return {"image_bytes": zoo.jpegs(count)}
    return {"image": zoo.photographs(count, sizes.get("size", 64))}


def answers(folder: Path, given: dict[str, Any]) -> dict[str, Any]:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder))
    signature = loaded.signatures["serving_default"]

    def run(feeds: dict[str, Any]) -> dict[str, Any]:
        found = signature(**{name: tf.constant(value) for name, value in feeds.items()})
        return {name: value.numpy() for name, value in found.items()}

    return in_batches(run, given)


def in_batches(run: Callable[[dict[str, Any]], Any], given: dict[str, Any], batch: int = 64) -> dict[str, Any]:
    count = len(next(iter(given.values())))
    parts = [
        run({key: value[start : start + batch] for key, value in given.items()}) for start in range(0, count, batch)
    ]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def logits_of(found: dict[str, Any]) -> Any:
    return found.get("output_0", found.get("logits"))


def check(wanted: dict[str, Any], found: dict[str, Any]) -> None:
    before, after = logits_of(wanted), logits_of(found)
    assert after.dtype == np.float32
    assert 0 < np.abs(after - before).max() <= TOLERANCE * np.abs(before).max()
    check_classes(before.argmax(-1), after.argmax(-1))


def check_classes(before: Any, after: Any) -> None:
    """At most 1 in 100 changes; of 64, one may: a near tie, which says nothing against 1 in 100."""
    assert np.sum(after != before) <= max(1, TOP1_CHANGES * before.size)


@pytest.mark.parametrize(
    "name",
    [
        *("mobilenet_v3", "transformer", "lstm", "lstm_v1", "jpeg_classifier"),
        *(pytest.param(it, marks=pytest.mark.slow) for it in ("resnet50", "gru", "efficientnet_b0")),
    ],
)
def test_a_cast_architecture_answers_as_before(name: str, built: Built, tmp_path: Path) -> None:
    source, given = built(getattr(zoo, name)), feeds(name, 64, {})
    measured = name in ("transformer", "lstm_v1")  # the others take seconds
    result = cast_model(source, tmp_path / "half", CastOptions(to="float16", measure=measured))
    assert not result.kept_for_budget
    wanted, found = answers(source, given), answers(tmp_path / "half", given)
    check(wanted, found)
    assert result.cast_size_bytes < 0.55 * result.size_bytes
    model = read_saved_model(tmp_path / "half")
    bodies = [node for function in model.functions.values() for node in function.node_def]
    allowed = [it for it in [*model.nodes.values(), *bodies] if it.op in ("Conv2D", "MatMul", "DepthwiseConv2dNative")]
    assert allowed
    assert {node.attr["T"].type for node in allowed} == {F16}
    if "label" in wanted:
        check_classes(wanted["label"], found["label"])


@pytest.mark.parametrize(
    "name",
    [
        *("transformer", "lstm_v1"),
        *(pytest.param(it, marks=pytest.mark.slow) for it in ("mobilenet_v3", "lstm", "gru")),
    ],
)
def test_a_cast_architecture_answers_as_before_when_it_is_frozen_and_converted(
    name: str, built: Built, tmp_path: Path
) -> None:
    source, given = built(getattr(zoo, name)), feeds(name, 64, {})
    check_every_form(source, given, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v3", "efficientnet_b0", "transformer", "lstm", "gru"])
def test_a_full_size_architecture_answers_as_before_on_512_examples(name: str, built: Built, tmp_path: Path) -> None:
    sizes = zoo.FULL[name]
    source, given = built(getattr(zoo, name), **sizes), feeds(name, 512, sizes)
    cast_model(source, tmp_path / "narrow", CastOptions(to="float16", measure=False))
    rounded = answers_of_rounded_weights(tmp_path / "narrow", given, tmp_path)

    def check_all(wanted: dict[str, Any], found: dict[str, Any]) -> None:
        """As `check`, or three times what the rounding of the weights alone costs, which no cast can avoid."""
        before, after = logits_of(wanted), logits_of(found)
        largest = np.abs(before).max()
        least, error = (np.abs(it - before).max() / largest for it in (rounded, after))
        unavoidable, changes = (np.sum(before.argmax(-1) != it.argmax(-1)) for it in (rounded, after))
        print(f"{name}: {error:.1e} of the largest logit, {changes} classes; weights alone {least:.1e}, {unavoidable}")
        assert 0 < error <= max(TOLERANCE, 3 * least)
        assert changes <= max(TOP1_CHANGES * 512, 3 * unavoidable)

    check_every_form(source, given, tmp_path, check_all)


def answers_of_rounded_weights(half: Path, given: dict[str, Any], folder: Path) -> Any:
    """The logits by float16's weights and float32's work: how far they are off, no cast can avoid."""
    cast_model(half, folder / "rounded", CastOptions(to="float32"))
    return logits_of(answers(folder / "rounded", given))


@pytest.mark.slow
def test_an_undamped_network_loses_little_more_than_by_the_rounding_of_its_weights(
    built: Built, tmp_path: Path
) -> None:
    """Without damped branches a random network multiplies every rounding; that of the weights no cast can avoid."""
    source, given = built(zoo.resnet50, damping=1.0), feeds("resnet50", 64, {})
    cast_model(source, tmp_path / "half", CastOptions(to="float16", measure=False))
    wanted, half = (logits_of(answers(it, given)) for it in (source, tmp_path / "half"))
    rounded = answers_of_rounded_weights(tmp_path / "half", given, tmp_path)
    assert np.abs(half - wanted).max() <= 3 * np.abs(rounded - wanted).max()


def check_every_form(source: Path, given: dict[str, Any], folder: Path, check: Check = check) -> None:
    """Holds the cast model to float32's answers, and again when it is frozen, and when that is converted."""
    wanted = answers(source, given)
    cast_model(source, folder / "half", CastOptions(to="float16", measure=False))
    check(wanted, answers(folder / "half", given))
    freeze_model(folder / "half", folder / "frozen")
    check(wanted, answers(folder / "frozen", given))
    convert_model(folder / "frozen", folder / "serving", ConvertOptions(backend="onnx", layout="plain"))
    with closing(load(folder / "serving")) as runner:
        check(wanted, in_batches(runner.run, given))


def check_boxes(wanted: dict[str, Any], found: dict[str, Any]) -> None:
    for name in ("boxes", "logits"):
        assert np.abs(found[name] - wanted[name]).max() <= TOLERANCE * np.abs(wanted[name]).max()


@pytest.mark.slow
def test_a_detector_finds_the_same_boxes_in_every_form(built: Built, tmp_path: Path) -> None:
    raw = built(zoo.retinanet, nms=False)
    check_every_form(raw, {"image": zoo.photographs(8, 64)}, tmp_path, check_boxes)


def test_non_max_suppression_and_box_decoding_stay_float32(built: Built, tmp_path: Path) -> None:
    given = {"image": zoo.photographs(8, 64)}
    source = built(zoo.retinanet)
    result = cast_model(source, tmp_path / "half", CastOptions(to="float16", measure=False))
    wanted, found = predict(source, **given), predict(tmp_path / "half", **given)
    assert np.array_equal(found["valid"], wanted["valid"])
    # Scores are sorted; where two are nearly equal, their boxes may change places.
    assert np.abs(found["scores"] - wanted["scores"]).max() <= TOLERANCE
    matched = [
        np.abs(mine - theirs).max(-1).min() < 0.5 or np.isclose(score, 0.5, atol=0.2)
        for image, _ in enumerate(found["boxes"])
        for mine, score in zip(found["boxes"][image], found["scores"][image], strict=True)
        for theirs in [wanted["boxes"][image]]
    ]
    assert np.mean(matched) > 0.95
    reasons = {it["node"]: it["reason"] for it in result.report["kept"]}
    model = read_saved_model(tmp_path / "half")
    ops = {model.nodes[name].op: reason for name, reason in reasons.items() if name in model.nodes}
    assert "box coordinates" in ops["CombinedNonMaxSuppression"]
    assert "range" in ops["Exp"]


def test_weights_of_loops_are_cast_and_their_state_is_not(built: Built, tmp_path: Path) -> None:
    cast_model(built(zoo.lstm), tmp_path / "half", CastOptions(to="float16", measure=False))
    model = read_saved_model(tmp_path / "half")
    assert {variable.dtype for variable in model.variables.values()} == {F16}
    for node in model.nodes.values():
        if node.op in ("While", "StatelessWhile"):
            body = model.functions[node.attr["body"].func.name]
            returned = {result.name for result in body.signature.output_arg if result.type == F16}
            passed_on = {name for name in returned if ":" not in body.ret[name]}
            assert returned == passed_on  # only weights go round in float16


@pytest.mark.parametrize("name", ["convnet", "lstm"])
def test_the_result_restores_into_variables(name: str, built: Built, tmp_path: Path) -> None:
    import tensorflow as tf

    from tests.models import networks

    source = built(networks.convnet if name == "convnet" else zoo.lstm)
    cast_model(source, tmp_path / "half", CastOptions(to="float16", measure=False))
    loaded = tf.saved_model.load(str(tmp_path / "half"))
    before = {variable.name: variable.numpy() for variable in loaded.variables}
    prefix = tf.train.Checkpoint(model=loaded).write(str(tmp_path / "saved"))
    for variable in loaded.variables:
        variable.assign(tf.zeros_like(variable))
    tf.train.Checkpoint(model=loaded).read(prefix).assert_existing_objects_matched()
    for variable in loaded.variables:
        assert np.array_equal(variable.numpy(), before[variable.name])


def test_an_overflowing_architecture_is_refused_with_every_tensor(built: Built, tmp_path: Path) -> None:
    import tensorflow as tf

    source = built(zoo.lstm)
    loaded = tf.saved_model.load(str(source))
    named = {variable.name.split(":")[0]: variable for variable in loaded.variables}
    large = sorted(name for name in named if "kernel" in name)[:2]
    cast_model(source, tmp_path / "wide", CastOptions(to="float32"))
    wide = tf.saved_model.load(str(tmp_path / "wide"))
    for variable in wide.variables:
        if variable.name.split(":")[0] in large:
            variable.assign(variable * 1e7)
    tf.saved_model.save(wide, str(tmp_path / "large"), signatures=wide.signatures["serving_default"])
    with pytest.raises(PrecisionRefusedError, match=f"{len(large)} tensors") as caught:
        cast_model(tmp_path / "large", tmp_path / "half")
    assert all(any(name in detail for detail in caught.value.details) for name in large)
