"""The verdict: each budget passes, fails or stays undecided for its own reason, with the numbers."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import pytest

from tpu2gpu.latency_evaluator.budgets.budget import budgets_of
from tpu2gpu.latency_evaluator.budgets.budgets import Budgets
from tpu2gpu.latency_evaluator.budgets.judge import judge, judged_speed, passed
from tpu2gpu.latency_evaluator.budgets.latency_budgets import gated_percentile
from tpu2gpu.latency_evaluator.budgets.measurements import Measurements
from tpu2gpu.latency_evaluator.options import EvaluateOptions
from tpu2gpu.latency_evaluator.results import Check, ModelFigures
from tpu2gpu.latency_evaluator.statistics.intervals import Estimate
from tpu2gpu.running.comparison.detections import BoxParity
from tpu2gpu.running.comparison.parity import compare

MIB = 1 << 20
BUDGETS = list(budgets_of(Budgets))


def measurements(**changes: Any) -> Measurements:
    """A sound candidate, 1.5 times as fast, on 500 requests of 2 ms and 100 examples."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(100, 8)).astype(np.float32)
    parity = compare({"scores": scores}, {"scores": scores + 1e-5})
    figures = {
        "accuracy": 0.9,
        "top5_accuracy": 0.99,
        "mean_average_precision": 0.4,
        "first_call_ms": 30.0,
        "load_s": 2.0,
        "peak_rss_bytes": 100 * MIB,
        "gpu_memory_bytes": 200 * MIB,
        "model_bytes": 10 * MIB,
    }
    given = {
        "failure": None,
        "differences": (),
        "examples": 100,
        "parity": parity,
        "boxes": BoxParity(boxes=10, matched=10, sum_iou=9.5, worst_iou=0.8, worst_example=3),
        "reference": ModelFigures(label="reference", name="old", **figures),
        "candidate": ModelFigures(label="candidate", name="new", **figures),
        "latency_ms": {name: np.full((25, 20), 2.0) for name in ("single_stream", "server", "offline")},
        "batch_sizes": {"single_stream": 1, "server": 1, "offline": 4},
        "speedup": Estimate(1.5, 1.4, 1.6),
        "incumbent": ModelFigures(label="incumbent", name="served", **figures),
        "regression": Estimate(0.05, 0.03, 0.07),
        "level": "engine_executed",
        "level_reason": "The engine itself was run.",
    }
    return Measurements(**{**given, **changes})


def check(name: str, limit: Any, **changes: Any) -> Check:
    checks = {one.name: one for one in judge(Budgets(**{name: limit}), measurements(**changes))}
    return checks[name]


# A limit that the candidate keeps, and one that it breaks.
LIMITS = {
    "max_relative_error": (1e-4, 1e-7),
    "max_abs_error": (1e-4, 1e-7),
    "min_cosine": (0.9999, 1.1),
    "min_top1_agreement": (0.9, 1.1),
    "min_top5_agreement": (0.9, 1.1),
    "min_box_iou": (0.95, 0.96),
    "max_p50_ms": (2.0, 1.9),
    "max_p90_ms": (2.0, 1.9),
    "max_p95_ms": (2.0, 1.9),
    "max_p99_ms": (2.0, 1.9),
    "max_server_p99_ms": (2.0, 1.9),
    "min_speedup": (1.4, 1.7),
    "max_latency_regression": (0.07, 0.02),
    "min_accuracy": (0.9, 0.91),
    "min_top5_accuracy": (0.99, 0.991),
    "min_mean_average_precision": (0.4, 0.41),
    "min_throughput_per_s": (39000, 41000),
    "max_first_call_ms": (30, 29),
    "max_load_s": (2, 1.9),
    "max_rss_mib": (100, 99),
    "max_gpu_memory_mib": (200, 199),
    "max_model_mib": (10, 9),
}


@pytest.mark.parametrize(("name", "kept", "broken"), [(name, *limits) for name, limits in LIMITS.items()])
def test_each_budget_passes_and_fails_with_its_number(name, kept, broken):
    within, beyond = check(name, kept), check(name, broken)
    assert (within.verdict, beyond.verdict) == ("pass", "fail")
    assert within.value == beyond.value is not None
    assert (within.threshold, beyond.threshold) == (kept, broken)
    assert f"{name}: " in beyond.sentence


@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("max_accuracy_drop", "accuracy"),
        ("max_top5_drop", "top5_accuracy"),
        ("max_map_drop", "mean_average_precision"),
    ],
)
@pytest.mark.parametrize("against", ["reference", "incumbent"])
def test_a_drop_is_that_from_the_reference_or_the_incumbent_to_the_candidate(name, figure, against):
    name += "_from_incumbent" * (against == "incumbent")
    higher = {against: attrs.evolve(getattr(measurements(), against), **{figure: 0.6})}
    worse = attrs.evolve(measurements().candidate, **{figure: 0.6 - 0.02})
    assert check(name, 0.02, candidate=worse, **higher).verdict == "pass"
    assert check(name, 0.019, candidate=worse, **higher).verdict == "fail"
    assert check(name, 0.0).verdict == "pass"
    assert check(name, 0.0).against == against
    blank = {
        model: attrs.evolve(getattr(measurements(), model), **{figure: None})
        for model in ("reference", "incumbent", "candidate")
    }
    assert check(name, 0.02, **blank).verdict == "undecided"
    assert check(name, 0.02, candidate=blank["candidate"]).reason == "there are no outputs"


NOTHING = {
    "parity": {},
    "boxes": None,
    "latency_ms": {},
    "speedup": None,
    "reference": ModelFigures(label="reference", name="old"),
    "candidate": ModelFigures(label="candidate", name="new"),
    "incumbent": ModelFigures(label="incumbent", name="served"),
    "regression": None,
}


@pytest.mark.parametrize("name", BUDGETS)
def test_a_budget_that_nothing_was_measured_for_is_undecided(name):
    undecided = check(name, 1.0, **NOTHING)
    assert undecided.verdict == "undecided"
    assert undecided.value is None
    assert not undecided.passed


@pytest.mark.parametrize("name", BUDGETS)
def test_a_budget_that_is_not_set_is_not_asked_beyond_what_always_is(name):
    always = {"max_relative_error", "min_top1_agreement", "min_box_iou", "max_accuracy_drop", "max_map_drop"}
    always |= {"max_latency_regression", "max_accuracy_drop_from_incumbent", "max_map_drop_from_incumbent"}
    asked = {one.name for one in judge(Budgets(), measurements())}
    assert (name in asked) == (name in always)


@pytest.mark.parametrize("kind", [np.int64, np.bool_, object])
def test_class_ids_strings_and_booleans_are_equal_or_not_whatever_their_distance(kind):
    ids = np.arange(1000) % 999
    given = ids.astype(str).astype(object) if kind is object else ids.astype(kind)

    def verdicts(flips: int) -> dict[str, Check]:
        flipped = given.copy()
        flipped[:flips] = "other" if kind is object else ~flipped[:flips]
        parity = compare({"ids": given}, {"ids": flipped})
        return {one.name: one for one in judge(Budgets(), measurements(parity=parity, examples=1000))}

    assert "max_relative_error" not in verdicts(1)
    one, eleven = (verdicts(flips)["min_top1_agreement"] for flips in (1, 11))
    assert (one.verdict, one.value) == ("pass", 0.999)
    assert (eleven.verdict, eleven.value) == ("fail", 0.989)
    assert "output ids has that share" in one.reason
    assert "not so in example 0" in one.reason


def test_class_ids_beside_scores_do_not_count_as_numbers():
    scores, ids = np.eye(100, dtype=np.float32), np.arange(100)
    flipped = np.where(ids == 99, 0, ids)
    parity = compare({"scores": scores, "ids": ids}, {"scores": scores, "ids": flipped})
    found = {one.name: one for one in judge(Budgets(), measurements(parity=parity))}
    assert found["max_relative_error"].value == 0
    assert (found["min_top1_agreement"].value, found["min_top1_agreement"].verdict) == (0.99, "pass")


@pytest.mark.parametrize(("examples", "verdict"), [(1, "undecided"), (28, "undecided"), (50, "pass"), (1000, "pass")])
def test_too_few_examples_leave_classes_undecided(examples, verdict):
    scores = np.eye(examples + 9, dtype=np.float32)[:examples]
    ids = np.arange(examples)
    answers = {"scores": scores, "ids": ids}
    budgets = Budgets(min_top5_agreement=0.9, max_top5_drop=0.1)
    checks = judge(budgets, measurements(parity=compare(answers, answers), examples=examples))
    found = {one.name: one for one in checks}
    for name in ("min_top1_agreement", "min_top5_agreement", "max_accuracy_drop", "max_top5_drop"):
        assert found[name].verdict == verdict, name
        assert ("a pass needs 29 examples" in found[name].reason) == (verdict == "undecided")
    assert found["max_relative_error"].verdict == "pass"
    other = compare(answers, {"scores": np.roll(scores, 1, axis=1), "ids": ids})
    failed = {one.name: one for one in judge(budgets, measurements(parity=other, examples=examples))}
    assert failed["min_top1_agreement"].verdict == "fail"


def test_what_is_sure_of_all_examples_stands_beside_what_was_found():
    scores = np.eye(360, dtype=np.float32)
    found = check("min_top1_agreement", 0.99, parity=compare({"y": scores}, {"y": scores}), examples=360)
    assert "in 360 of 360 examples, at 95 % in at least 99.2 % of all" in found.reason


def test_too_few_requests_leave_a_percentile_undecided_and_tell_how_many_are_needed():
    undecided = check("max_p99_9_ms", 2.0)
    assert undecided.verdict == "undecided"
    assert "a pass with 0 needs 2995 requests" in undecided.reason


def test_the_highest_percentile_with_a_budget_must_converge():
    assert gated_percentile(Budgets()) == (50.0, None)
    assert gated_percentile(Budgets(max_p95_ms=3.0, max_p50_ms=1.0)) == (95.0, 3.0)
    assert gated_percentile(Budgets(max_p99_9_ms=9.0, max_p95_ms=3.0)) == (99.9, 9.0)
    assert gated_percentile(Budgets(max_server_p99_ms=3.0)) == (50.0, None)


def test_an_interval_around_the_limit_is_undecided():
    assert check("min_speedup", 1.5).verdict == "undecided"
    noisy = np.random.default_rng(1).lognormal(0, 0.5, size=(25, 20))
    mean = 1e3 / noisy.mean()
    assert check("min_throughput_per_s", mean, latency_ms={"single_stream": noisy}).verdict == "undecided"


def test_a_regression_within_ten_percent_is_no_reason_and_one_beyond_is():
    found = {}
    for name, (lower, upper) in {"equal": (-0.05, 0.04), "slower": (0.11, 0.2), "open": (0.08, 0.12)}.items():
        regression = Estimate((lower + upper) / 2, lower, upper)
        checks = {one.name: one for one in judge(Budgets(), measurements(regression=regression))}
        found[name] = checks["max_latency_regression"]
    assert {name: one.verdict for name, one in found.items()} == {
        "equal": "pass",
        "slower": "fail",
        "open": "undecided",
    }
    assert {(one.threshold, one.against, one.gate) for one in found.values()} == {(0.1, "incumbent", "infra")}
    assert "15.50 %, the threshold is 10.00 % (by so much p50 of the candidate is above that of the incumbent" in (
        found["slower"].sentence
    )
    assert not found["open"].passed


def test_without_an_incumbent_what_is_held_against_it_is_not_applicable_and_said_so():
    alone = {"incumbent": None, "no_incumbent": "the incumbent 7 does not run any more (damaged)", "regression": None}
    asked = Budgets(max_latency_regression=0.0, max_top5_drop_from_incumbent=0.0, min_speedup=1.2)
    checks = {one.name: one for one in judge(asked, measurements(**alone))}
    against = {name: one for name, one in checks.items() if one.against == "incumbent"}
    assert set(against) == {
        "max_latency_regression",
        "max_accuracy_drop_from_incumbent",
        "max_top5_drop_from_incumbent",
        "max_map_drop_from_incumbent",
    }
    assert {one.verdict for one in against.values()} == {"not_applicable"}
    assert {one.reason for one in against.values()} == {alone["no_incumbent"]}
    assert all(one.passed for one in checks.values())
    unlabelled = {**alone, **{key: NOTHING[key] for key in ("reference", "candidate")}}
    told = {one.name for one in judge(Budgets(), measurements(**unlabelled)) if one.against == "incumbent"}
    assert told == {"max_latency_regression"}


def test_a_verdict_says_whether_it_judged_speed():
    def said(budgets: Budgets, **changes: Any) -> str:
        return judged_speed(budgets, judge(budgets, measurements(**changes)))

    alone = {"incumbent": None, "regression": None}
    assert said(Budgets(max_load_s=1.0), **alone) == "not_judged"
    assert said(Budgets()) == "judged"  # against the incumbent
    assert said(Budgets(min_speedup=9.0), **alone) == "judged"
    assert said(Budgets(max_p99_9_ms=2.0, allow_undecided=("max_p99_9_ms",)), **alone) == "undecided"


def test_what_is_allowed_to_stay_undecided_holds_by_name_only():
    budgets = Budgets(max_p99_9_ms=2.0, min_speedup=1.5, allow_undecided=("max_p99_9_ms",))
    checks = judge(budgets, measurements())
    assert {one.name for one in checks if not one.passed} == {"min_speedup"}
    assert passed(checks, "model")
    assert not passed(checks, "infra")


def test_a_failed_budget_never_holds_even_where_undecided_is_allowed():
    checks = judge(Budgets(max_p99_ms=1.0, allow_undecided=("max_p99_ms",)), measurements())
    assert not passed(checks, "infra")


def test_boxes_are_matched_and_not_compared_element_by_element():
    boxes = np.zeros((2, 3, 4), np.float32)
    parity = compare({"boxes": boxes, "features": boxes}, {"boxes": boxes + 1, "features": boxes})
    verdicts = {
        one.name: one.verdict
        for one in judge(Budgets(max_abs_error=0.0), measurements(parity=parity, box_outputs=("boxes",)))
    }
    assert (verdicts["max_relative_error"], verdicts["max_abs_error"], verdicts["min_box_iou"]) == ("pass",) * 3


def test_a_model_for_a_gpu_needs_an_executed_engine():
    assert Budgets().required_level is None
    assert Budgets(serve_on="cpu").required_level is None
    assert Budgets(serve_on="gpu").required_level == "engine_executed"
    assert Budgets(serve_on="gpu", require_level="engine_built").required_level == "engine_built"
    on_cpu = {"level": "onnx_cpu", "level_reason": "There is no engine."}
    refused = {one.name: one for one in judge(Budgets(serve_on="gpu"), measurements(**on_cpu))}["require_level"]
    assert (refused.verdict, refused.gate) == ("fail", "infra")
    assert refused.reason == "There is no engine; a GPU is to serve it"
    assert {one.name: one for one in judge(Budgets(serve_on="gpu"), measurements())}["require_level"].verdict == "pass"


def test_every_budget_is_an_option_and_may_stay_undecided():
    names = {field.name for field in attrs.fields(EvaluateOptions)}
    assert set(BUDGETS) <= names
    budgets = {name for name in names if name.startswith(("min_", "max_"))} - {"max_examples", "max_requests"}
    assert budgets == set(BUDGETS)
