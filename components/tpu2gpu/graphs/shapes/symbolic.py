"""Shapes in which the number of examples stands out: which size of which tensor grows with the batch, and how.

Each size is a number, or a number times the batch; it remembers which constant it was written in, so that a constant
that turns out to be the batch can be found. Ops without a rule here are asked of TensorFlow's own shape functions, at
two batch sizes; what only one of both answers is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

# The element of a constant that a size was read from.
Origin = tuple[str, int]


@attrs.frozen
class Size:
    """One size of a shape.

    Attributes:
        before: Factor that varies more slowly than the batch; the whole size where the batch is not in it.
        batched: Whether the batch is a factor.
        after: Factor that varies faster than the batch.
        origins: Where it was read from, for a size that might be the batch written as a number.
    """

    before: int
    batched: bool = False
    after: int = 1
    origins: frozenset[Origin] = frozenset()

    def at(self, batch: int) -> int:
        """Return the size for a number of examples."""
        return self.before * (batch if self.batched else 1) * self.after

    def same(self, other: Size) -> bool:
        """Tell whether two sizes are equal for every batch."""
        return self.batched == other.batched and self.before * self.after == other.before * other.after


BATCH = Size(1, batched=True)
Shape = tuple["Size | None", ...]


def number(value: int, origins: frozenset[Origin] = frozenset()) -> Size:
    """Return a size without the batch."""
    return Size(value, origins=origins)


class MustBeBatchError(Exception):
    """Numbers of constants turned out to be the batch.

    Attributes:
        origins: Where they stand.
    """

    def __init__(self, origins: frozenset[Origin]) -> None:
        super().__init__(str(sorted(origins)))
        self.origins = origins


class UnprovedError(Exception):
    """It cannot be told how a node's output depends on the batch; the text says why."""


def possible(origin: str, index: int, value: int, batch: int) -> frozenset[Origin]:
    """Return the origin of a number that might be the batch, or a multiple of it."""
    return frozenset({(origin, index)}) if value > 0 and value % batch == 0 else frozenset()


def meet(first: Size | None, second: Size | None, batch: int) -> Size | None:
    """Return what two sizes that must be equal are.

    Raises:
        MustBeBatchError: One is the batch, and the other its number.
        UnprovedError: They cannot be equal for every batch.
    """
    if first is None or second is None:
        return first if second is None else second
    if first.batched == second.batched:
        if not first.same(second):
            raise UnprovedError(f"sizes {_text(first)} and {_text(second)} meet")
        return first if first.batched else Size(first.before * first.after, origins=first.origins | second.origins)
    batched, fixed = (first, second) if first.batched else (second, first)
    if batched.at(batch) != fixed.at(batch) or not fixed.origins:
        raise UnprovedError(f"the batch meets a size of {fixed.at(batch)}")
    raise MustBeBatchError(fixed.origins)


def broadcast(shapes: Sequence[Shape], batch: int) -> Shape:
    """Return the shape of an element-wise result.

    Raises:
        MustBeBatchError: A size is the batch, written as a number.
        UnprovedError: The shapes do not fit for every batch.
    """
    rank = max(map(len, shapes))
    result: list[Size | None] = []
    for position in range(rank):
        sizes = [shape[position - rank + len(shape)] for shape in shapes if position - rank + len(shape) >= 0]
        kept = [size for size in sizes if size is None or size.batched or size.before * size.after != 1]
        size: Size | None = number(1) if not kept else kept[0]
        for other in kept[1:]:
            size = meet(size, other, batch)
        result.append(None if any(each is None for each in kept) and not (size and size.batched) else size)
    return tuple(result)


def reshape(shape: Shape, target: Sequence[Size], batch: int) -> Shape:
    """Reshape to sizes that constants make; which of them hold the batch follows from the order of elements.

    Args:
        shape: What is reshaped.
        target: The sizes, with at most one -1.
        batch: The batch that the constants were written for.

    Raises:
        MustBeBatchError: A size of the constant is, or holds, the batch.
        UnprovedError: The batch does not fall into one of the sizes.
    """
    if any(size is None for size in shape):
        raise UnprovedError("the shape before is unknown")
    sizes = [size for size in shape if size is not None]
    batched = [size for size in sizes if size.batched]
    if len(batched) > 1:
        raise UnprovedError("the batch stands in it twice")
    total = math.prod(size.at(batch) for size in sizes)
    wanted = [size.at(batch) for size in target]
    if -1 in wanted:
        rest = -math.prod(wanted)
        wanted[wanted.index(-1)] = total // rest if rest else 0
    if math.prod(wanted) != total:
        raise UnprovedError(f"{total} elements cannot have the shape {[size.at(batch) for size in target]}")
    if not batched:
        return _possible_places(sizes, wanted, target, batch)
    return _place(sizes, wanted, target, batch)


def _possible_places(sizes: list[Size], wanted: list[int], target: Sequence[Size], batch: int) -> Shape:
    """Return sizes without the batch, each with where it was read from: its constant, and what falls into it."""
    origins = [size.origins for size in target]
    for position, size in enumerate(sizes):
        if size.origins and (fall := _fall(sizes, position, wanted, batch)) is not None:
            origins[fall[0]] |= size.origins
    return tuple(number(value, origin) for value, origin in zip(wanted, origins, strict=True))


def _place(sizes: list[Size], wanted: list[int], target: Sequence[Size], batch: int) -> Shape:
    """Put the batch into the size that it falls into."""
    position = next(index for index, size in enumerate(sizes) if size.batched)
    fall = _fall(sizes, position, wanted, batch)
    if fall is None:
        raise UnprovedError(f"the batch of {batch} is split among the sizes {wanted}")
    index, placed = fall
    if target[index].at(batch) != -1 and not target[index].batched:
        if not target[index].origins:
            raise UnprovedError(f"the size {wanted[index]} holds the batch, and no constant tells it")
        raise MustBeBatchError(target[index].origins)
    return tuple(placed if at == index else number(size) for at, size in enumerate(wanted))


def _fall(sizes: list[Size], position: int, wanted: list[int], batch: int) -> tuple[int, Size] | None:
    """Find the size into which the batch falls: as many elements vary more slowly than it as before."""
    holder = sizes[position]
    slower = math.prod(size.at(batch) for size in sizes[:position]) * (holder.before if holder.batched else 1)
    before = 1
    for index, value in enumerate(wanted):
        # The batch lies in this size when all of it does: slower elements in front, faster ones behind.
        fits = slower % before == 0 and (before * value) % (slower * batch) == 0
        if fits and slower * batch <= before * value:
            return index, Size(slower // before, batched=True, after=before * value // (slower * batch))
        before *= value
    return None


def _text(size: Size) -> str:
    return f"{size.before * size.after} x batch" if size.batched else str(size.before * size.after)
