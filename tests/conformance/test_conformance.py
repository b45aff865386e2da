"""Every conversion of an operation answers as TensorFlow, or is refused with a reason; the page says which."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance.case import Case
from tests.conformance.judge import DEVIATES, EXACT, REFUSED, SPLIT_OFF, WITHIN, build, judge, split_off_because
from tests.conformance.table import FAMILIES, PAGE, cases_of, counts_of, versions, written
from tests.conformance.uncovered import UNCOVERED, convertible, covered, listed
from tpu2gpu.trt_converter.onnx.deviations import DEVIATIONS

SAMPLE = 8


def sample(family: str) -> list[Case]:
    """Return a few cases of a family, spread over it."""
    cases = list(cases_of(family))
    return cases[:: max(1, len(cases) // SAMPLE)][:SAMPLE]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sample_of_every_family_answers_as_tensorflow(family: str) -> None:
    wrong = {str(case): verdict.why for case in sample(family) if (verdict := judge(case)).kind == DEVIATES}
    assert not wrong


LOOK_ALIKE = {
    "patterns": (
        "Cast(float32) middle=float16 by float16 dynamic",
        "Cast(int64) middle=float32 by float32 dynamic",
        "Conv2D(float32) dilated dynamic",
        "Fill(float32) eyes dynamic",
        "MatMul(float32) larger sum",
        "MatMul(float32) scaled by a vector",
        "Mul(float32) leaky relu, by element dynamic",
        "Mul(float32) threshold, by element dynamic",
        "Reshape(float32,float32) rows of another that nothing else reads dynamic",
    ),
    "arithmetic": ("BiasAdd(float32,float32) data_format=NCHW as wide as deep dynamic",),
    "indexing": ("Roll(float32) [1, 5] [0, -1] dynamic",),
    "matrices": ("MatrixBandPart(float32) -inf, -1 0 dynamic",),
    "fed_arguments": ("MatrixBandPart(float32,int64,int64) -1 0 dynamic",),
    "sparse": ("SparseReshape(int64) none to [2, 10] dynamic",),
}


@pytest.mark.parametrize(("family", "name"), [(family, name) for family in LOOK_ALIKE for name in LOOK_ALIKE[family]])
def test_what_looks_like_a_pattern_and_is_not_is_converted_for_what_it_is(family: str, name: str) -> None:
    (case,) = (case for case in cases_of(family) if str(case) == name)
    assert judge(case).kind in (EXACT, WITHIN)


def test_a_soft_suppression_is_refused_by_name() -> None:
    soft = [case for case in cases_of("suppression") if case.op == "NonMaxSuppressionV5" and "sigma 0.5" in str(case)]
    verdict = judge(soft[0])
    assert (verdict.kind, "no soft suppression" in verdict.why) == (REFUSED, True), verdict


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_combination_answers_as_tensorflow_and_the_page_says_so(family: str, tmp_path: Path) -> None:
    before, page = written(family), PAGE.read_text(encoding="utf-8")
    same_versions = written("versions") == versions()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.conformance", family],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
            check=False,
        )
        now = written(family)
    finally:
        PAGE.write_text(page, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    if before and same_versions:
        assert counts_of(before) == counts_of(now), f"run `python -m tests.conformance {family}` and see what changed"


def test_every_operation_that_is_converted_is_swept_or_named_with_the_reason() -> None:
    named = {op for ops in UNCOVERED.values() for op in ops.split()}
    assert convertible() == named | (convertible() & covered())
    assert not named & covered()
    assert written("uncovered") == listed()


def test_every_family_has_its_table_in_the_page() -> None:
    assert [family for family in FAMILIES if not counts_of(written(family))] == []


@pytest.mark.parametrize("op", DEVIATIONS)
def test_every_known_deviation_is_split_off_in_the_sweep(op: str) -> None:
    why = DEVIATIONS[op].why
    for case in (case for family in FAMILIES for case in cases_of(family) if case.op == op):
        built = build(case)
        if not isinstance(built, str) and split_off_because(built) == why:
            assert judge(case).kind == SPLIT_OFF
            return
    pytest.fail(f"no case of the sweep is a {op} that deviates")
