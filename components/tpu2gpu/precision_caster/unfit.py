"""Weights that a precision does not hold: they are found by casting, and then stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Protocol, TypeVar

import attrs

from tpu2gpu.errors import PrecisionRefusedError
from tpu2gpu.precision_caster.options import CastOptions
from tpu2gpu.tensorbundle.statistics import CastStatistics

_OVERFLOW = "its values do not fit"
_FAINT = "most of its values are too small for {} to hold their digits"


class Attempt(Protocol):
    """What was cast, for as long as nothing is found in it that must stay."""

    @property
    def statistics(self) -> Mapping[str, CastStatistics]:
        """What the cast did to each tensor that was cast, by name."""
        ...


_Attempt = TypeVar("_Attempt", bound=Attempt)


@attrs.define
class Unfit:
    """Weights and constants whose values the precision does not hold.

    Attributes:
        options: How to cast.
        reasons: Why each that stays does.
        overflows: Statistics of those that overflow, whether they stay or not.
    """

    options: CastOptions
    reasons: dict[str, str] = attrs.field(factory=dict)
    overflows: dict[str, CastStatistics] = attrs.field(factory=dict)

    def settle(
        self,
        cast: Callable[[Mapping[str, str]], _Attempt],
        filters: Callable[[_Attempt], Collection[str]] = lambda attempt: (),
    ) -> _Attempt:
        """Cast, and again without what turned out not to fit, until nothing is found any more.

        Args:
            cast: Casts all but some tensors, given by name with the reason.
            filters: The names of the tensors that stay where they are faint.
        """
        while True:
            attempt = cast(self.reasons)
            found = dict(self._find(attempt, frozenset(filters(attempt))))
            if not found.keys() - self.reasons.keys():
                return attempt
            self.reasons |= found

    def _find(self, attempt: Attempt, filters: Collection[str]) -> Iterator[tuple[str, str]]:
        self.overflows |= {name: it for name, it in attempt.statistics.items() if it.overflow_count}
        for name, statistics in attempt.statistics.items():
            if statistics.overflow_count and self.options.on_overflow == "keep":
                yield name, _OVERFLOW
            elif name in filters and statistics.is_faint:
                yield name, _FAINT.format(self.options.precision)

    def report(self) -> dict[str, Any]:
        """Return what a report says of them."""
        return {
            "overflows": {name: it.absmax for name, it in sorted(self.overflows.items())},
            "kept_for_overflow": sorted(name for name in self.overflows if name in self.reasons),
            "kept_as_faint": sorted(self.reasons.keys() - self.overflows.keys()),
            "clamped": sorted(self.overflows) if self.options.clamp else [],
        }

    def refuse_overflow(self) -> None:
        """Refuse values that do not fit, unless the options say what to do with them.

        Raises:
            PrecisionRefusedError: There are some; all are named.
        """
        if self.overflows and self.options.on_overflow == "refuse":
            raise PrecisionRefusedError(
                f"{len(self.overflows)} tensors hold values that {self.options.precision} cannot",
                details=[
                    f"{name}: largest magnitude {it.absmax:g}; from {it.minimum:g} to {it.maximum:g}, "
                    f"{it.overflow_count} values overflow"
                    for name, it in sorted(self.overflows.items())
                ],
                hint="give --on-overflow keep (they stay as they are) or --on-overflow clamp",
            )
