"""Answers that prove nothing are told first, and block unless that is allowed; answers that do are left alone."""

from __future__ import annotations

import json
from typing import Any

import attrs
import numpy as np
import pytest

from tests.models.evaluation_models import CLASSES, FEATURES, features, read_json, weights, write_examples
from tpu2gpu.latency_evaluator.accuracy.agreement import Agreement, ReferenceOutputs
from tpu2gpu.latency_evaluator.budgets.budgets import Budgets
from tpu2gpu.latency_evaluator.budgets.degenerate import weak_outputs
from tpu2gpu.latency_evaluator.budgets.judge import judge, passed
from tpu2gpu.latency_evaluator.budgets.measurements import Measurements
from tpu2gpu.latency_evaluator.evaluating import evaluate_model
from tpu2gpu.latency_evaluator.options import EvaluateOptions, OutputOptions
from tpu2gpu.latency_evaluator.report.summary import summary_lines
from tpu2gpu.latency_evaluator.results import Check, ModelFigures

EXAMPLES = 60
RANDOM = np.random.default_rng(3)
X = RANDOM.normal(size=(EXAMPLES, 4)).astype(np.float32)
SCORES = RANDOM.normal(size=(EXAMPLES, 5)).astype(np.float32)
LABELS = np.argmax(SCORES, axis=1)
SOFTMAX = (np.exp(SCORES) / np.exp(SCORES).sum(axis=1, keepdims=True)).astype(np.float32)
ONE_HOT = np.eye(5, dtype=np.float32)[LABELS]
MAJORITY = np.where(np.arange(EXAMPLES) % 3, 2, LABELS)


def measured(
    outputs: dict[str, np.ndarray],
    labels: np.ndarray | None = None,
    x: np.ndarray = X,
    candidate: dict[str, np.ndarray] | None = None,
    parts: int = 1,
    **options: Any,
) -> Measurements:
    """What an evaluation measures of a model and a copy of it, in one part or in several that add up as on Beam."""
    own, compared = Agreement(), Agreement()
    for rows in np.array_split(np.arange(len(x)), parts):
        reference = ReferenceOutputs(
            {name: array[rows] if array.ndim else array for name, array in outputs.items()},
            None if labels is None else labels[rows],
            OutputOptions(**options),
            {"x": x[rows]},
            first_example=int(rows[0]),
        )
        found = {name: array[rows] if array.ndim else array for name, array in (candidate or outputs).items()}
        own += _sent(reference.own())
        compared += _sent(reference.compare(found))
    figures = {"label": "m", "name": "m"}
    return Measurements(
        failure=None,
        differences=(),
        examples=compared.examples,
        parity=compared.parity,
        boxes=compared.boxes,
        box_outputs=compared.box_outputs,
        example_variety=own.examples_variety,
        reference_variety=own.variety,
        candidate_variety=compared.variety,
        reference=ModelFigures(accuracy=own.right.accuracy, **figures),
        candidate=ModelFigures(accuracy=compared.right.accuracy, **figures),
        latency_ms={"single_stream": np.ones((5, 20))},
        batch_sizes={"single_stream": 1},
        speedup=None,
        level="onnx_cpu",
        level_reason="",
    )


def _sent(part: Agreement) -> Agreement:
    return Agreement.from_json(json.loads(json.dumps(part.to_json())))


def first_check(found: Measurements, **budgets: Any) -> Check:
    return judge(Budgets(**budgets), found)[0]


OF_2 = np.eye(5, dtype=np.float32)[2]
NEARLY_ONE_HOT = np.abs(ONE_HOT - np.float32(1e-8) * X[:, :1])
CONSTANT = np.repeat(SCORES[:1], EXAMPLES, axis=0)
PROVE_NOTHING = {
    "constant": ({"y": CONSTANT}, None, "output y of the reference is the same for all examples"),
    "nearly constant": ({"y": CONSTANT * (1 + 1e-8 * SCORES)}, None, "is the same for all examples"),
    "a constant head beside one that varies": ({"y": SCORES, "z": CONSTANT[:, 0]}, None, "output z of the reference"),
    "constant images": ({"y": np.ones((EXAMPLES, 8, 8, 2), np.float32)}, None, "is the same for all examples"),
    "zeros": ({"y": 0 * SCORES}, None, "output y of the reference is zero throughout"),
    "no number": ({"y": np.nan * SCORES}, None, "holds no finite number"),
    "one class": (
        {"y": SCORES + 9 * OF_2},
        MAJORITY,
        "largest score at class 2 in all examples",
    ),
    "one class, by its probabilities": (
        {"y": SOFTMAX / 9 + np.float32(8 / 9) * OF_2},
        None,
        "score at class 2",
    ),
    "saturated": ({"y": ONE_HOT}, LABELS, "is saturated: every score is 0 or 1"),
    "saturated but for rounding": (
        {"y": NEARLY_ONE_HOT},
        LABELS,
        "every score is 0 or 1",
    ),
    "a saturated sigmoid": ({"y": ONE_HOT[:, :1]}, None, "every score is 0 or 1"),
    "a saturated tanh": ({"y": 2 * ONE_HOT - 1}, LABELS, "every score is -1.00 or 1.00"),
    "labels of one class": ({"y": SCORES}, np.full(EXAMPLES, 3), "every label is class 3"),
    "no better than the most frequent": (
        {"y": -SCORES},
        MAJORITY,
        "whoever always says class 2, the most frequent",
    ),
    "class ids that are one": ({"y": np.full(EXAMPLES, 7)}, None, "no output of the reference varies"),
    "texts that are one": ({"y": np.full(EXAMPLES, b"cat", object)}, None, "no output of the reference varies"),
    "a detector that finds nothing": (
        {"boxes": np.zeros((EXAMPLES, 3, 4), np.float32), "scores": np.zeros((EXAMPLES, 3), np.float32)},
        None,
        "no output of the reference varies",
    ),
}


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("name", PROVE_NOTHING)
def test_what_proves_nothing_is_the_first_check_and_blocks(name: str, parts: int) -> None:
    outputs, labels, because = PROVE_NOTHING[name]
    found = measured(outputs, labels, parts=parts)
    told = first_check(found)
    assert (told.name, told.verdict, told.gate) == ("degenerate", "fail", "model")
    assert because in told.reason
    assert told.sentence.startswith("degenerate: ")
    allowed = judge(Budgets(allow_degenerate=True), found)
    assert (allowed[0].verdict, allowed[0].allowed) == ("undecided", True)
    assert passed(allowed[:1], "model")


@pytest.mark.parametrize(
    ("different", "needed", "blocks"), [(9, 10, True), (10, 10, False), (3, 2, False), (1, 10, True)]
)
@pytest.mark.parametrize("parts", [1, 4])
def test_so_many_different_examples_are_needed(different: int, needed: int, blocks: bool, parts: int) -> None:
    order = np.arange(EXAMPLES) % different
    told = first_check(measured({"y": SCORES[order]}, None, X[order], parts=parts, different_examples=needed))
    assert told.verdict == ("fail" if blocks else "pass")
    verb = "is" if different == 1 else "are"
    assert (f"{different} of the 60 examples {verb} different, {needed} are needed" in told.reason) == blocks


PROVE_SOMETHING = {
    "scores": ({"y": SCORES}, LABELS),
    "probabilities": ({"y": SOFTMAX}, LABELS),
    "confident probabilities": ({"y": np.where(np.arange(EXAMPLES)[:, None] % 9, ONE_HOT, SOFTMAX)}, LABELS),
    "an embedding with one large element": ({"y": SCORES + 9 * OF_2}, None),
    "a regression far from zero": ({"y": 1000 + SCORES[:, :1]}, None),
    "a version beside the scores": ({"y": SCORES, "version": np.full(EXAMPLES, b"7", object)}, LABELS),
    "a count that is always the same": ({"y": SCORES, "count": np.full(EXAMPLES, 100)}, LABELS),
    "a scalar": ({"y": SCORES, "loss": np.float32(0)}, LABELS),
    "some NaN": ({"y": np.where(X[:, :1] > 1, np.nan, SCORES)}, None),
}


@pytest.mark.parametrize("name", PROVE_SOMETHING)
def test_what_proves_something_passes(name: str) -> None:
    told = first_check(measured(*PROVE_SOMETHING[name]))
    assert (told.name, told.verdict) == ("degenerate", "pass"), told.reason


def test_what_may_be_scores_of_classes_is_told_and_does_not_block() -> None:
    embedding, _ = PROVE_SOMETHING["an embedding with one large element"]
    assert weak_outputs(measured(embedding).reference_variety) == ["y"]
    assert weak_outputs(measured({"y": SCORES}).reference_variety) == []
    assert "score at class 2" in first_check(measured(embedding, scores=("y",))).reason


def test_a_candidate_that_says_the_same_to_everything_is_told_as_that() -> None:
    told = first_check(measured({"y": SCORES}, LABELS, candidate={"y": CONSTANT}), max_relative_error=9.0)
    assert told.reason.startswith("output y of the candidate is the same for all examples")


def network(path: Any, bias: float) -> Any:
    """An ONNX network whose first class is far ahead where the bias is large."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    biases = np.zeros(CLASSES, np.float32)
    biases[0] = bias
    constants = {"w": weights(), "b": biases}
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["scores"])],
        "model",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, FEATURES])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, CLASSES])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def test_a_network_that_gives_one_class_for_every_example_is_refused_in_the_first_line(tmp_path: Any) -> None:
    model, examples = network(tmp_path / "model.onnx", 1e3), write_examples(tmp_path / "eval.tfrecord")
    assert set(np.argmax(features() @ weights(), axis=1)) == set(range(CLASSES))  # the examples are of all classes
    options = EvaluateOptions(requests=40, max_requests=40, warm_up_requests=10)
    result = evaluate_model(model, [model], [examples], tmp_path / "out", options)
    assert result.reference.accuracy == result.candidate.figures.accuracy < 0.5
    assert result.candidate.top1_agreement == 1
    assert (result.blessed, result.model_blessed, result.infra_blessed) == (False, False, True)
    assert "has its largest score at class 0 in all examples" in summary_lines(result)[1]
    assert summary_lines(result)[1].startswith("The answers prove nothing: the reference is right in ")
    report = (tmp_path / "out" / "report.md").read_text(encoding="utf-8").splitlines()
    assert report[4].startswith("The answers prove nothing: ")
    assert read_json(tmp_path / "out" / "verdict.json")["checks"][0]["name"] == "degenerate"
    allowed = attrs.evolve(options, allow_degenerate=True)
    assert evaluate_model(model, [model], [examples], tmp_path / "allowed", allowed).blessed
