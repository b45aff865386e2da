"""The contract of a budget: one field of an options class that says what is checked, and how a reader sees it.

    max_model_mib: float | None = budget("size of the files that are run", check=..., gate="infra", unit=mebibytes)

The field's name says on which side of the threshold a value passes: at or below it for `max_`, at or above for `min_`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import attrs

from tpu2gpu.options import option
from tpu2gpu.reporting.numbers import significant

if TYPE_CHECKING:
    from tpu2gpu.latency_evaluator.budgets.measurements import Measurements
    from tpu2gpu.latency_evaluator.results import Comparison, Gate, Outcome

_FIELD = "budget"


@attrs.frozen
class Finding:
    """The figure that a budget limits, as it was measured.

    Attributes:
        value: The figure; None where it is missing, and the budget stays undecided.
        reason: The numbers behind it, in words.
        verdict: Where statistics decide, their verdict, and `not_applicable` where there is nothing to compare with;
            None compares value and threshold.
        pass_needs: What a pass takes that the sample does not have; it stays undecided then.
        applies: False where only a budget that was asked for is told, such as accuracy without labels.
    """

    value: float | None
    reason: str
    verdict: Outcome | None = None
    pass_needs: str = ""
    applies: bool = True


@attrs.frozen(kw_only=True)
class Budget:
    """A budget's check and form.

    Attributes:
        check: Takes the measurements and the threshold, and returns the finding; None where there is nothing to judge.
        gate: The blessing that depends on it.
        against: What the candidate is held against: the `reference`, the `incumbent`, or the threshold alone.
        of_speed: Whether it is a budget of speed: a verdict without any says that speed was not judged.
        unit: Writes value and threshold with their unit.
        default: The threshold where none is asked for, or what derives it, with its reason, from the measurements;
            None checks the budget only where it is asked for.
    """

    check: Callable[[Measurements, float], Finding | None]
    gate: Gate
    against: Comparison = "absolute"
    of_speed: bool = False
    unit: Callable[[float], str] = significant
    default: float | Callable[[Measurements], tuple[float, str]] | None = None

    def threshold(self, asked: float | None, measured: Measurements) -> tuple[float | None, str]:
        """Return the threshold that holds, and the reason of one that was derived."""
        if asked is not None or self.default is None:
            return asked, ""
        return self.default(measured) if callable(self.default) else (self.default, "")


def budget(
    help: str,  # noqa: A002 - the word that command lines use
    *,
    check: Callable[[Measurements, float], Finding | None],
    gate: Literal["infra", "model"],
    against: Comparison = "absolute",
    of_speed: bool = False,
    unit: Callable[[float], str] = significant,
    default: float | Callable[[Measurements], tuple[float, str]] | None = None,
) -> Any:
    """Declare a budget as a field of an options class; see `Budget` for the arguments.

    Command line, verdict, report and `allow_undecided` follow from the field.
    """
    declared = Budget(check=check, gate=gate, against=against, of_speed=of_speed, unit=unit, default=default)
    return option(None, help, minimum=0, more={_FIELD: declared})


def budgets_of(cls: type) -> dict[str, Budget]:
    """Return the budgets that an options class declares, by the fields' names, in their order."""
    return {field.name: field.metadata[_FIELD] for field in attrs.fields(cls) if _FIELD in field.metadata}
