"""Search the smallest set of regions that must stay float32: rank by contribution, then bisect, then leave out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

Error = Callable[[frozenset[int]], float]
_NEGLIGIBLE = 0.1  # of the budget: a group that alone does no more is not looked into


@attrs.frozen
class SmallestSet:
    """Regions that stay float32, and why.

    Attributes:
        kept: Their numbers.
        contributions: The error that each region makes when it alone is narrow; where a group of them makes next to
            none together, that of the group.
    """

    kept: frozenset[int]
    contributions: dict[int, float]


def find_smallest(count: int, error: Error, budget: float) -> SmallestSet:
    """Find a set of regions to keep, none of which can be left out.

    Args:
        count: How many regions there are.
        error: The error of the outputs where the regions of a set are narrow, and no other.
        budget: The largest error allowed.
    """
    contributions = rank(count, error, budget)
    ranked = sorted(contributions, key=lambda it: (-contributions[it], it))
    everything = frozenset(range(count))
    low, high = 0, count  # keeping `high` is enough
    while low < high:
        middle = (low + high) // 2
        if error(everything - frozenset(ranked[:middle])) <= budget:
            high = middle
        else:
            low = middle + 1
    kept = _without_idle(ranked[:high], lambda kept: error(everything - kept) <= budget)
    return SmallestSet(kept, contributions)


def rank(count: int, error: Error, budget: float) -> dict[int, float]:
    """Measure what each region contributes alone; groups that make next to no error are not looked into.

    Args:
        count: How many regions there are.
        error: The error of the outputs where the regions of a set are narrow, and no other.
        budget: The largest error allowed.
    """
    contributions: dict[int, float] = {}
    groups: list[Sequence[int]] = [range(count)] if count else []
    while groups:
        group = groups.pop()
        found = error(frozenset(group))
        if len(group) == 1 or found <= _NEGLIGIBLE * budget:
            contributions |= dict.fromkeys(group, found)
        else:
            groups += [group[: len(group) // 2], group[len(group) // 2 :]]
    return contributions


def _without_idle(ranked: Sequence[int], suffices: Callable[[frozenset[int]], bool]) -> frozenset[int]:
    """Leave out what is not needed, the least contributions first, in pieces that become smaller."""
    kept = list(ranked)
    size = max(len(kept) // 2, 1)
    while kept:
        for end in range(len(kept), 0, -size):
            rest = kept[: max(end - size, 0)] + kept[end:]
            if suffices(frozenset(rest)):
                kept = rest
        if size == 1:
            break
        size //= 2
    return frozenset(kept)
