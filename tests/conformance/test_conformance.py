"""Every conversion of an operation answers as TensorFlow, or is refused with a reason; the page says which."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance.case import Case
from tests.conformance.judge import DEVIATES, SPLIT_OFF, build, judge, split_off_because
from tests.conformance.table import FAMILIES, PAGE, cases_of, written
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


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_combination_answers_as_tensorflow_and_the_page_says_so(family: str, tmp_path: Path) -> None:
    before, page = written(family), PAGE.read_text(encoding="utf-8")
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
    assert before in ("", now), f"run `python -m tests.conformance {family}` and look at what changed"


@pytest.mark.parametrize("op", DEVIATIONS)
def test_every_known_deviation_is_split_off_in_the_sweep(op: str) -> None:
    why = DEVIATIONS[op].why
    for case in (case for family in FAMILIES for case in cases_of(family) if case.op == op):
        built = build(case)
        if not isinstance(built, str) and split_off_because(built) == why:
            assert judge(case).kind == SPLIT_OFF
            return
    pytest.fail(f"no case of the sweep is a {op} that deviates")
