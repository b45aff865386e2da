"""A cast is measured against float32: the budget is met, by the smallest set, and the report says how."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import delicate_networks, networks
from tests.models.predictions import predict
from tpu2gpu.errors import ExamplesError, PrecisionRefusedError, UsageError
from tpu2gpu.freezer.freezing import freeze_model
from tpu2gpu.graphs.formats.saved_model import read_saved_model
from tpu2gpu.precision_caster.casting import cast_checkpoint, cast_model
from tpu2gpu.precision_caster.options import CastOptions
from tpu2gpu.precision_caster.smallest_set import find_smallest
from tpu2gpu.running.loading import load
from tpu2gpu.tensorbundle.format import DTYPE_ENUMS
from tpu2gpu.trt_converter.converting import convert_model
from tpu2gpu.trt_converter.options import ConvertOptions

Built = Callable[..., Path]
F16, F32 = DTYPE_ENUMS["float16"], DTYPE_ENUMS["float32"]


def write_examples(file: Path, x: Any) -> str:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(file)) as writer:
        for row in x:
            feature = tf.train.Feature(float_list=tf.train.FloatList(value=row.ravel()))
            example = tf.train.Example(features=tf.train.Features(feature={"x": feature}))
            writer.write(example.SerializeToString())
    return str(file)


def vectors(count: int) -> Any:
    return np.random.default_rng(3).standard_normal((count, 16)).astype(np.float32)


def test_made_up_inputs_grow_until_the_model_gives_something(built: Built, tmp_path: Path) -> None:
    result = cast_model(built(delicate_networks.wide_context), tmp_path / "half")
    batches = result.report["measured"]["probes"]["batches"]
    assert batches[0]["shapes"] == {"x": [1, 4096, 4]}
    assert result.end_to_end_error is not None and 0 < result.end_to_end_error < 3e-3


def test_examples_for_which_a_model_gives_nothing_measure_nothing(built: Built, tmp_path: Path) -> None:
    examples = tmp_path / "short.npz"
    np.savez(examples, x=np.ones((4, 100, 4), np.float32))
    with pytest.raises(ExamplesError, match="every output is empty"):
        cast_model(built(delicate_networks.wide_context), tmp_path / "half", CastOptions(examples=(str(examples),)))
    assert not (tmp_path / "half").exists()


def test_overflow_inside_is_found_and_its_layer_alone_stays(built: Built, tmp_path: Path) -> None:
    source = built(delicate_networks.loud_middle)
    unmeasured = cast_model(source, tmp_path / "ruined", CastOptions(measure=False))
    assert unmeasured.end_to_end_error is None
    assert not np.isfinite(predict(tmp_path / "ruined", x=vectors(4))["y"]).all()
    result = cast_model(source, tmp_path / "half")
    wanted, found = (predict(folder, x=vectors(4))["y"] for folder in (source, tmp_path / "half"))
    assert np.abs(found - wanted).max() < 3e-3 * np.abs(wanted).max()
    types = {name: variable.dtype for name, variable in read_saved_model(tmp_path / "half").variables.items()}
    assert {name for name, dtype in types.items() if dtype == F32} == {"layer_2"}
    measured = result.report["measured"]
    assert "synthetic" in result.measured_on
    assert "no examples were given" in measured["origin"]
    assert (measured["error_before"], measured["budget"]) == ("inf", 0.03)
    assert result.end_to_end_error == measured["error"] < 3e-3
    (region,) = [it for it in measured["regions"] if it["kept"]]
    assert region["op"] == "MatMul"
    assert region["largest"] > 65504
    assert region["overflow_share"] > 0
    reasons = {it["node"]: it["reason"] for it in result.report["kept"]}
    assert all(reasons[node].startswith("measured: in float16 its region") for node in result.kept_for_budget)
    assert any(line.startswith("the same again: --keep '^(") for line in result.remarks)


def test_the_set_is_reproduced_by_keep(built: Built, tmp_path: Path) -> None:
    source = built(delicate_networks.loud_middle)
    result = cast_model(source, tmp_path / "half")
    options = CastOptions(keep=tuple(result.report["measured"]["keep"]), measure=False)
    again = cast_model(source, tmp_path / "again", options)
    assert again.without_effect == ()
    for name in ("saved_model.pb", "variables/variables.data-00000-of-00001"):
        assert (tmp_path / "half" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_examples_decide_and_a_smaller_budget_keeps_more(built: Built, tmp_path: Path) -> None:
    source = built(delicate_networks.loud_middle)
    files = (write_examples(tmp_path / "x.tfrecord", vectors(20)),)
    kept = []
    for budget in (3e-2, 1e-3):
        target = tmp_path / f"half-{budget}"
        result = cast_model(source, target, CastOptions(examples=files, max_relative_error=budget))
        assert result.measured_on == "20 examples"
        assert result.end_to_end_error is not None
        assert result.end_to_end_error <= budget
        assert all(it["error_alone"] is not None for it in result.report["measured"]["regions"])
        kept.append(set(result.kept_for_budget))
    assert kept[0] < kept[1]
    with pytest.raises(PrecisionRefusedError, match="nothing of the model can be cast within 1e-07"):
        cast_model(source, tmp_path / "none", CastOptions(examples=files, max_relative_error=1e-7))


def test_the_measured_error_is_that_of_what_is_served(built: Built, tmp_path: Path) -> None:
    """ONNX Runtime computes as GPUs do: it rounds what operations give, and adds up in float32."""
    source, x = built(delicate_networks.temperature), vectors(16)
    files = (write_examples(tmp_path / "x.tfrecord", x),)
    result = cast_model(source, tmp_path / "half", CastOptions(examples=files))
    freeze_model(tmp_path / "half", tmp_path / "frozen")
    convert_model(tmp_path / "frozen", tmp_path / "serving", ConvertOptions(backend="onnx", layout="plain"))
    wanted = predict(source, x=x)["shares"]
    error = np.abs(load(tmp_path / "serving").run({"x": x})["shares"] - wanted).max() / wanted.max()
    assert result.end_to_end_error is not None
    assert error / 2 <= result.end_to_end_error <= error * 2


def test_loops_and_choices_are_measured_too(built: Built, tmp_path: Path) -> None:
    result = cast_model(built(networks.loop_with_weight), tmp_path / "loop")
    assert 0 < (result.end_to_end_error or 0) < 1e-3
    assert {it["function"] for it in result.report["measured"]["regions"]} != {""}


def test_what_cannot_be_measured_is_told_or_refused_where_it_was_asked_for(built: Built, tmp_path: Path) -> None:
    source = built(delicate_networks.temperature)
    wrong = (write_examples(tmp_path / "x.tfrecord", vectors(2)[:, :5]),)
    with pytest.raises(ExamplesError, match="does not fit the model"):
        cast_model(source, tmp_path / "half", CastOptions(examples=wrong))
    with pytest.raises(UsageError, match="--no-measure with --examples"):
        CastOptions(measure=False, examples=wrong)
    with pytest.raises(UsageError, match="no graph that could be measured"):
        cast_checkpoint(source / "variables" / "variables", tmp_path / "weights", CastOptions(max_relative_error=0.1))
    assert cast_model(source, tmp_path / "wide", CastOptions(to="float32")).end_to_end_error is None


def test_the_search_finds_the_smallest_set_in_few_runs() -> None:
    harm = {7: 0.5, 40: 0.2, 41: 0.011, 90: 0.004}
    runs = []

    def error(narrow: frozenset[int]) -> float:
        runs.append(narrow)
        return sum(harm.get(it, 1e-6) for it in narrow)

    found = find_smallest(100, error, 0.01)
    assert found.kept == {7, 40, 41}
    assert found.contributions[7] == pytest.approx(0.5)
    assert len(runs) < 100
    assert find_smallest(100, error, 1.0).kept == frozenset()
    assert find_smallest(5, lambda narrow: float("nan") if 3 in narrow else 0.0, 0.01).kept == {3}
