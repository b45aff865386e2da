"""Casting: signatures stay, answers stay close, sensitive places stay float32, what does not fit is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.models import networks
from tests.models.predictions import images, predict
from tpu2gpu.errors import OutputExistsError, PrecisionRefusedError, SourceError, UsageError
from tpu2gpu.graphs.formats.saved_model import read_saved_model
from tpu2gpu.graphs.nodes import data_inputs
from tpu2gpu.precision_caster.casting import cast_checkpoint, cast_model
from tpu2gpu.precision_caster.options import CastOptions
from tpu2gpu.precision_caster.policy import ALLOW, INFER, WIDE_ATTRIBUTES
from tpu2gpu.tensorbundle import format
from tpu2gpu.tensorbundle.casting import CastStatistics, cast_chunks
from tpu2gpu.tensorbundle.reader import Bundle
from tpu2gpu.tensorbundle.writer import BundleWriter

Built = Callable[..., Path]
F32, F16, BF16 = (format.DTYPE_ENUMS[name] for name in ("float32", "float16", "bfloat16"))


@pytest.mark.parametrize(("to", "largest_error"), [("float16", 5e-3), ("bfloat16", 4e-2)])
def test_a_cast_model_keeps_its_signature_and_its_answers(
    to: str, largest_error: float, built: Built, tmp_path: Path
) -> None:
    source = built(networks.convnet)
    result = cast_model(source, tmp_path / "model", CastOptions(to=to))
    wanted, found = (
        predict(source, image=images(64))["output_0"],
        predict(tmp_path / "model", image=images(64))["output_0"],
    )
    assert found.dtype == np.float32
    assert 0 < np.abs(found - wanted).max() <= largest_error * np.abs(wanted).max()
    assert np.mean(found.argmax(1) == wanted.argmax(1)) >= 0.98
    assert result.cast_size_bytes < 0.6 * result.size_bytes
    assert read_saved_model(tmp_path / "model").signatures.keys() == read_saved_model(source).signatures.keys()


def test_allowed_ops_compute_in_the_narrow_type_and_batch_norm_statistics_stay(built: Built, tmp_path: Path) -> None:
    cast_model(built(networks.convnet), tmp_path / "model")
    model = read_saved_model(tmp_path / "model")
    types = {name: variable.dtype for name, variable in model.variables.items()}
    assert types["conv2d/kernel"] == types["dense/bias"] == F16
    assert types["batch_normalization/moving_variance"] == types["batch_normalization/gamma"] == F32
    allowed = [node for node in model.nodes.values() if node.op in ("Conv2D", "MatMul")]
    assert len(allowed) == 6  # two signatures of three
    assert all(node.attr["T"].type == F16 for node in allowed)
    assert all(node.attr["T"].type == F32 for node in model.nodes.values() if node.op == "Rsqrt")


def test_casts_stand_only_where_types_meet(built: Built, tmp_path: Path) -> None:
    cast_model(built(networks.convnet), tmp_path / "model")
    model = read_saved_model(tmp_path / "model")
    casts = [node for node in model.nodes.values() if node.op == "Cast"]
    assert len({(data_inputs(node)[0], node.attr["DstT"].type) for node in casts}) == len(casts)
    # For each signature: the image, batch norm's scale and shift twice, the answer; the mean is of 16 values only.
    assert len(casts) == 2 * 6


def test_a_tiny_epsilon_keeps_its_layer_norm_in_float32(built: Built, tmp_path: Path) -> None:
    ids = np.array([[0, 0, 1], [2, 3, 10]], np.int32)
    source = built(networks.embedding)
    cast_model(source, tmp_path / "model")
    wanted, found = predict(source, ids=ids)["y"], predict(tmp_path / "model", ids=ids)["y"]
    assert np.isfinite(found).all()
    assert np.abs(found - wanted).max() < 1e-2 * np.abs(wanted).max()
    model = read_saved_model(tmp_path / "model")
    assert model.variables["table"].dtype == model.variables["kernel"].dtype == F16


def test_a_loop_multiplies_in_the_narrow_type_and_hands_its_state_on_in_float32(built: Built, tmp_path: Path) -> None:
    x = np.array([[1, 2]], np.float32)
    source = built(networks.loop_with_weight)
    cast_model(source, tmp_path / "model")
    model = read_saved_model(tmp_path / "model")
    assert model.variables["kernel"].dtype == F16
    (body,) = [it for it in model.functions.values() if any(node.op == "MatMul" for node in it.node_def)]
    assert [node.attr["T"].type for node in body.node_def if node.op == "MatMul"] == [F16]
    assert F16 not in {argument.type for argument in body.signature.output_arg if argument.name != "kernel"}
    wanted, found = predict(source, x=x)["y"], predict(tmp_path / "model", x=x)["y"]
    assert np.abs(found - wanted).max() <= 2e-3 * np.abs(wanted).max()


def test_integers_stay_exact(built: Built, tmp_path: Path) -> None:
    result = cast_model(built(networks.counted), tmp_path / "model")
    found = predict(tmp_path / "model", x=np.zeros((1, 2), np.float32), step=np.int32(2049))["y"]
    assert found.tolist() == [[2049, 2049]]  # float16 knows 2048 and 2050
    assert read_saved_model(tmp_path / "model").variables["kernel"].dtype == F16
    assert any("integers" in it["reason"] for it in result.report["kept"])


def test_tables_and_assets_survive(built: Built, tmp_path: Path) -> None:
    words = np.array([b"emu", b"yak"])
    cast_model(built(networks.vocabulary), tmp_path / "model")
    assert predict(tmp_path / "model", words=words)["score"].tolist() == [2.5, 9.0]


def test_names_and_ops_are_kept_on_request_with_the_reason(built: Built, tmp_path: Path) -> None:
    options = CastOptions(keep=("^dense/",), keep_op=("Conv2D",))
    result = cast_model(built(networks.convnet), tmp_path / "model", options)
    model = read_saved_model(tmp_path / "model")
    assert model.variables["dense/kernel"].dtype == model.variables["conv2d/kernel"].dtype == F32
    reasons = {kept["node"]: kept["reason"] for kept in result.report["kept"]}
    assert reasons["dense/kernel"] == "asked for: --keep '^dense/'"
    assert "asked for: --keep-op Conv2D" in reasons.values()


def test_the_signature_is_cast_on_request(built: Built, tmp_path: Path) -> None:
    cast_model(built(networks.convnet), tmp_path / "model", CastOptions(cast_signature=True))
    answer = predict(tmp_path / "model", image=images().astype(np.float16))["output_0"]
    assert answer.dtype == np.float16


def test_float16_and_back_loses_only_what_float16_cannot_hold(built: Built, tmp_path: Path) -> None:
    cast_model(built(networks.convnet), tmp_path / "half")
    cast_model(tmp_path / "half", tmp_path / "back", CastOptions(to="float32"))
    model = read_saved_model(tmp_path / "back")
    assert {variable.dtype for variable in model.variables.values()} == {F32}
    assert "Cast" not in model.op_counts()


def test_a_bfloat16_model_becomes_a_float16_one(built: Built, tmp_path: Path) -> None:
    source = built(networks.convnet, policy="mixed_bfloat16")
    cast_model(source, tmp_path / "model")
    types = {node.attr["T"].type for node in read_saved_model(tmp_path / "model").nodes.values() if node.op == "Conv2D"}
    assert types == {F16}


TOO_LARGE = ((1e5, 1.0), (2.0, -7e4))


def test_values_that_do_not_fit_are_refused_by_name_and_extreme(built: Built, tmp_path: Path) -> None:
    with pytest.raises(PrecisionRefusedError, match=r"kernel: largest magnitude 100000.*") as caught:
        cast_model(built(networks.one_weight, TOO_LARGE), tmp_path / "model")
    assert caught.value.exit_code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model.report.json"]


def test_what_does_not_fit_stays_in_float32_on_request(built: Built, tmp_path: Path) -> None:
    source = built(networks.one_weight, TOO_LARGE)
    result = cast_model(source, tmp_path / "model", CastOptions(on_overflow="keep"))
    assert result.report["kept_for_overflow"] == ["kernel"]
    assert read_saved_model(tmp_path / "model").variables["kernel"].dtype == F32
    x = np.array([[0.5, 0.25]], np.float32)
    assert np.isfinite(predict(tmp_path / "model", x=x)["y"]).all()


def test_what_does_not_fit_is_clamped_on_request(built: Built, tmp_path: Path) -> None:
    cast_model(
        built(networks.one_weight, TOO_LARGE), tmp_path / "model", CastOptions(on_overflow="clamp", measure=False)
    )
    bundle = Bundle(tmp_path / "model" / "variables" / "variables")
    assert bundle.read("kernel").tolist() == [[65504.0, 1.0], [2.0, -65504.0]]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_tensorflow_has_a_cpu_kernel_for_every_op_that_may_be_narrow(dtype: str) -> None:
    from tensorflow.core.framework import types_pb2
    from tensorflow.python.framework import kernels, op_def_registry

    wanted = format.DTYPE_ENUMS[dtype]
    for op in ALLOW | INFER:
        if op_def_registry.get(op) is None or (op in ("AvgPool", "Erfc", "Erf") and dtype == "bfloat16"):
            continue
        narrow = [
            constraint
            for kernel in kernels.get_registered_kernels_for_op(op).kernel
            if kernel.device_type in ("CPU", "DEFAULT")
            for constraint in [{limit.name: list(limit.allowed_values.list.type) for limit in kernel.constraint}]
            if all(
                wanted in types
                for name, types in constraint.items()
                if name in ("T", "dtype", "Tparams") and name not in WIDE_ATTRIBUTES.get(op, ())
            )
        ]
        assert narrow, f"{op} has no CPU kernel for {types_pb2.DataType.Name(wanted)}"


def test_a_checkpoint_is_cast_and_everything_else_copied(tmp_path: Path) -> None:
    import tensorflow as tf

    weights = tf.Variable(np.linspace(-3, 3, 1000).astype(np.float32))
    saved = tf.train.Checkpoint(weights=weights, step=tf.Variable(7, dtype=tf.int64), name=tf.Variable("run"))
    result = cast_checkpoint(saved.write(str(tmp_path / "model")), tmp_path / "half")
    reader = tf.train.load_checkpoint(str(tmp_path / "half" / "checkpoint" / "model.ckpt"))
    found = reader.get_tensor("weights/.ATTRIBUTES/VARIABLE_VALUE")
    assert np.array_equal(found, weights.numpy().astype(np.float16))
    assert reader.get_tensor("step/.ATTRIBUTES/VARIABLE_VALUE") == 7
    assert reader.get_tensor("name/.ATTRIBUTES/VARIABLE_VALUE") == b"run"
    half = tf.Variable(tf.zeros(1000, tf.float16))
    tf.train.Checkpoint(weights=half).read(str(tmp_path / "half" / "checkpoint" / "model.ckpt")).expect_partial()
    assert np.array_equal(half.numpy(), found)
    assert (result.size_bytes - result.cast_size_bytes, result.cast_tensors) == (2000, 1)


def test_a_checkpoint_that_does_not_fit_is_refused_kept_or_clamped(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "model") as writer:
        writer.add_array("large", np.array([1e6, -np.inf, np.nan], np.float32))
        writer.add_array("small", np.array([1.0], np.float32))
    with pytest.raises(PrecisionRefusedError, match=r"large: largest magnitude 1e\+06"):
        cast_checkpoint(tmp_path / "model", tmp_path / "refused")
    cast_checkpoint(tmp_path / "model", tmp_path / "kept", CastOptions(on_overflow="keep"))
    kept = Bundle(tmp_path / "kept" / "checkpoint" / "model.ckpt")
    assert (kept.entry("large").dtype, kept.entry("small").dtype) == (F32, F16)
    cast_checkpoint(tmp_path / "model", tmp_path / "clamped", CastOptions(on_overflow="clamp"))
    clamped = Bundle(tmp_path / "clamped" / "checkpoint" / "model.ckpt").read("large")
    assert clamped[0] == 65504
    assert clamped[1] == -np.inf
    assert np.isnan(clamped[2])


def test_bad_sources_targets_and_options_are_named(built: Built, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file or folder"):
        cast_model(tmp_path / "nowhere", tmp_path / "model")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(OutputExistsError, match="--force"):
        cast_model(built(networks.convnet), tmp_path / "full")
    with pytest.raises(UsageError, match=r"--to float17: not one of .*; did you mean 'float16'\?"):
        CastOptions(to="float17")
    with pytest.raises(UsageError, match=r"--keep '\(': not a regular expression"):
        cast_model(built(networks.convnet), tmp_path / "model", CastOptions(keep=("(",)))


FLOATS = st.one_of(
    st.floats(width=32),
    st.sampled_from([65504.0, 65519.99, 65520.0, 6e-8, 2.98e-8, 1e-40, -0.0, float("inf"), float("nan")]),
)


@given(
    values=st.lists(FLOATS, max_size=20),
    source=st.sampled_from([F32, F16, BF16]),
    target=st.sampled_from([F32, F16, BF16]),
)
def test_casts_round_as_tensorflow_does(values: list[float], source: int, target: int) -> None:
    import tensorflow as tf

    with np.errstate(over="ignore"):
        before = np.array(values, np.float32).astype(format.numpy_dtype(source))
    data = before.tobytes()
    size = before.dtype.itemsize
    chunks = [data[start : start + 3 * size] for start in range(0, len(data), 3 * size)]
    after = np.frombuffer(b"".join(cast_chunks(chunks, source, target)), format.numpy_dtype(target))
    wanted = tf.cast(before, tf.as_dtype(target)).numpy()
    assert np.array_equal(after.astype(np.float32), wanted.astype(np.float32), equal_nan=True)
    assert np.array_equal(np.signbit(after[after == 0]), np.signbit(wanted[wanted == 0]))


def test_statistics_count_what_a_cast_does() -> None:
    statistics = CastStatistics()
    before = np.array([1.0, 70000.0, 1e-9, np.nan, np.inf, 1 / 3, 0.0], np.float32)
    list(cast_chunks([before.tobytes()], F32, F16, statistics))
    assert statistics.absmax == 70000
    assert (statistics.overflow_count, statistics.flushed_to_zero_count, statistics.nan_count) == (1, 1, 1)
    error: Any = abs(float(np.float16(1 / 3)) - float(np.float32(1 / 3))) / float(np.float32(1 / 3))
    assert statistics.max_relative_error == pytest.approx(error)
    assert ml_dtypes.finfo(np.float16).max == 65504
