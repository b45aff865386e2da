"""The options of `optimize`, and the candidates that apply."""

from __future__ import annotations

import attrs
import pytest

from tpu2gpu.checkpoint_importer.options import ImportOptions
from tpu2gpu.cli.main import main
from tpu2gpu.errors import EnvironmentLacksError, UsageError
from tpu2gpu.latency_evaluator.budgets.budget import budgets_of
from tpu2gpu.latency_evaluator.options import EvaluateOptions
from tpu2gpu.optimizer.candidates import Candidate, choose_candidates
from tpu2gpu.optimizer.options import OptimizeOptions
from tpu2gpu.options import flag, taken_from
from tpu2gpu.trt_converter.options import ConvertOptions

ONNX, INT8, RTX = Candidate("float32", "onnx"), Candidate("int8", "onnx"), Candidate("float16", "tensorrt_rtx")
GPU = "tpu2gpu.optimizer.candidates.find_gpus"


def names(chosen: tuple[Candidate, ...]) -> list[str]:
    return [candidate.name for candidate in chosen]


def test_every_budget_and_every_option_of_an_evaluation_is_one_of_an_optimization(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["optimize", "--help"]) == 0
    said = capsys.readouterr().out
    assert budgets_of(OptimizeOptions) == budgets_of(EvaluateOptions)
    assert [it.name for it in attrs.fields(EvaluateOptions) if flag(it.name) not in said] == []
    given = OptimizeOptions(max_p99_ms=3.0, trust=("files",), seed=4, precision=("float16",))
    assert given.of_evaluate() == EvaluateOptions(max_p99_ms=3.0, trust=("files",), seed=4)


def test_each_step_is_told_what_was_given_for_it() -> None:
    given = OptimizeOptions(
        step=3, input=("x=in:0",), name="digits", trust=("custom",), signature="serve", feature=("a=b",)
    )
    assert given.of_import() == ImportOptions(step=3, input=("x=in:0",), trust=("custom",))
    assert given.of_convert(ONNX, ("f",)) == ConvertOptions(
        backend="onnx", name="digits", trust=("custom",), signature="serve"
    )
    assert given.of_convert(INT8, ("f",)).examples == ("f",)
    assert given.of_convert(INT8, ("f",)).feature == ("a=b",)
    assert given.of_freeze().trust == ("custom",)


def test_options_taken_from_a_step_have_its_default_and_its_checks() -> None:
    assert taken_from(ConvertOptions, OptimizeOptions())["layout"] == ConvertOptions().layout
    with pytest.raises(UsageError, match="--layout tritan: not one of triton"):
        OptimizeOptions(layout="tritan")
    with pytest.raises(UsageError, match="--step -1: must be at least 0"):
        OptimizeOptions(step=-1)


def test_a_budget_of_outputs_is_one_of_the_cast_on_the_examples() -> None:
    assert OptimizeOptions().of_cast("float16", ("f",)).max_relative_error is None
    told = OptimizeOptions(max_relative_error=0.01).of_cast("float16", ("f",))
    assert (told.max_relative_error, told.examples) == (0.005, ("f",))
    assert OptimizeOptions(max_relative_error=0.01).of_cast("float16", ()).examples == ()


def test_only_the_candidates_that_heed_an_option_are_told_it() -> None:
    given = OptimizeOptions(int8_method="entropy", compute_capability=("89",))
    assert given.of_convert(INT8, ("f",)).int8_method == "entropy"
    assert given.of_convert(ONNX, ("f",)).int8_method == "minmax"
    assert given.of_convert(ONNX, ("f",)).compute_capability == ()
    assert given.of_convert(RTX, ("f",)).compute_capability == ("89",)
    given.check_heeded((INT8, RTX))
    with pytest.raises(UsageError, match="mean nothing for what is tried, which is float32-onnx") as caught:
        given.check_heeded((ONNX,))
    assert caught.value.details == ("--compute-capability", "--int8-method")


def test_without_a_gpu_onnx_runtime_is_tried_in_every_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GPU, lambda: ())
    chosen = choose_candidates((), (), has_examples=True)
    assert names(chosen.candidates) == ["float32-onnx", "float16-onnx", "int8-onnx"]
    assert "--backend tensorrt_rtx builds them all the same" in chosen.not_tried["tensorrt_rtx"]
    assert set(chosen.not_tried) == {"tensorrt_rtx", "tensorrt", "tf_trt"}


def test_int8_needs_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GPU, lambda: ())
    chosen = choose_candidates((), ("onnx",), has_examples=False)
    assert names(chosen.candidates) == ["float32-onnx", "float16-onnx"]
    assert "no examples" in chosen.not_tried["int8"]
    with pytest.raises(UsageError, match="--precision int8: ranges are measured on real data"):
        choose_candidates(("int8",), ("onnx",), has_examples=False)


def test_a_back_end_that_was_asked_for_must_be_here() -> None:
    with pytest.raises(EnvironmentLacksError, match="cannot be used here") as caught:
        choose_candidates((), ("onnx", "tf_trt"), has_examples=True)
    assert [detail.partition(":")[0] for detail in caught.value.details] == ["tf_trt"]


def test_what_is_named_twice_is_tried_once() -> None:
    chosen = choose_candidates(("float16", "float16"), ("onnx", "onnx"), has_examples=False)
    assert names(chosen.candidates) == ["float16-onnx"]
