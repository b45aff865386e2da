"""The precision of two models decides how far one may be from the other."""

from __future__ import annotations

from tpu2gpu.running.comparison.tolerances import TOLERANCES, conversion_tolerance, default_budget


def test_the_coarser_of_two_models_decides():
    assert default_budget("float32", "float16") == default_budget("float16", "float32")
    assert default_budget("float32", "float16")[0] == TOLERANCES["float16"].budget
    assert default_budget("bfloat16", "float16")[0] == TOLERANCES["bfloat16"].budget
    assert default_budget("float32", "float32")[1].startswith("float32: ")


def test_a_coarser_precision_is_allowed_no_less():
    budgets = [tolerance.budget for tolerance in TOLERANCES.values()]
    assert budgets == sorted(budgets, reverse=True)


def test_an_unknown_precision_is_held_to_that_of_float32():
    assert conversion_tolerance("int4") == conversion_tolerance("float32") == 2e-3
