"""Answers that prove nothing: a model that says the same to everything agrees with any other that does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from tpu2gpu.latency_evaluator.results import DEGENERATE, Check
from tpu2gpu.reporting.numbers import percent, significant

if TYPE_CHECKING:
    from tpu2gpu.latency_evaluator.budgets.measurements import Measurements
    from tpu2gpu.running.comparison.variety import ExampleVariety, OutputVariety


def check_degenerate(measured: Measurements, *, allowed: bool) -> Check | None:
    """Check whether examples, labels and outputs vary enough to prove anything; None where nothing was compared.

    Args:
        measured: The candidate's measurements.
        allowed: Whether what proves nothing may be blessed.
    """
    if measured.example_variety is None:
        return None
    found = [*_examples(measured.example_variety, measured), *_outputs(measured)]
    if not found and not measured.parity:
        return None  # other checks say why
    if not found:
        return Check(DEGENERATE, "nothing", "nothing", "pass", "examples, labels and outputs vary", "model")
    value = f"{len(found)} finding{'s' * (len(found) > 1)}"
    reason = "; ".join(found)
    if allowed:
        return Check(DEGENERATE, value, "nothing", "undecided", reason, "model", allowed=True)
    return Check(DEGENERATE, value, "nothing", "fail", f"{reason}; --allow-degenerate lets it pass", "model")


def _examples(variety: ExampleVariety, measured: Measurements) -> Iterator[str]:
    different = len(variety.digests)
    if different < variety.needed:
        yield (
            f"{different} of the {measured.examples} examples {'is' if different == 1 else 'are'} different, "
            f"{variety.needed} are needed"
        )
    accuracy = measured.reference.accuracy
    if accuracy is None or not variety.labels:
        return
    label, count = max(variety.labels.items(), key=lambda one: one[1])
    share = count / sum(variety.labels.values())
    if len(variety.labels) == 1:
        yield f"every label is class {label}"
    elif accuracy <= share:
        yield (
            f"the reference is right in {percent(accuracy)} of the examples, and whoever always says class {label}, "
            f"the most frequent one, in {percent(share)}"
        )


def _outputs(measured: Measurements) -> Iterator[str]:
    variety = measured.example_variety
    if variety is not None and len(variety.digests) == 1:
        return  # to one example there is one answer
    # A candidate's NaN are the business of another check.
    told = measured.candidate_variety.items()
    candidate = {name: one for name, one in told if one.largest is not None or not one.floating}
    for label, outputs in (("reference", measured.reference_variety), ("candidate", candidate)):
        found = [
            f"output {name} of the {label} {wrong}"
            for name, one in outputs.items()
            if one.first and one.floating and name not in measured.box_outputs and (wrong := _wrong(one))
        ]
        yield from found
        if not found and outputs and not any(one.varies for one in outputs.values()):
            yield f"no output of the {label} varies over the examples"


def _wrong(one: OutputVariety) -> str:
    """Tell what is wrong with an output in floating point; empty where nothing is."""
    if one.largest is None:
        return "holds no finite number"
    if one.largest == 0:
        return "is zero throughout"
    if not one.varies:
        return "is the same for all examples"
    if one.of_classes and len(one.best) == 1:
        return f"has its largest score at class {one.best[0]} in all examples"
    if len(one.values) == 2:
        return f"is saturated: every score is {' or '.join(map(significant, one.values))}"
    return ""


def weak_outputs(outputs: Mapping[str, OutputVariety]) -> list[str]:
    """Return the outputs that would be one class for all examples, if their numbers are scores of classes at all."""
    return [name for name, one in outputs.items() if one.varies and not one.of_classes and len(one.best) == 1]
