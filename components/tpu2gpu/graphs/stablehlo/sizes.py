"""Sizes of dimensions: numbers, or sums of products of those that only a request tells."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from tpu2gpu.errors import UnsupportedError

_Terms = tuple[tuple[tuple[str, ...], int], ...]


@attrs.frozen
class Unknown:
    """A size that only a request tells.

    Attributes:
        terms: For each product of atoms its factor; an atom is the name of a tensor that holds a size.
    """

    terms: _Terms


Size = int | Unknown


def atom(name: str) -> Unknown:
    """Return the size that a tensor holds."""
    return Unknown((((name,), 1),))


def add(left: Size, right: Size) -> Size:
    """Return the sum of two sizes."""
    sums = dict(_terms(left))
    for product, factor in _terms(right):
        sums[product] = sums.get(product, 0) + factor
    return _size(sums)


def multiply(left: Size, right: Size) -> Size:
    """Return the product of two sizes."""
    sums: dict[tuple[str, ...], int] = {}
    for first, factor in _terms(left):
        for second, other in _terms(right):
            product = tuple(sorted(first + second))
            sums[product] = sums.get(product, 0) + factor * other
    return _size(sums)


def product(sizes: Iterable[Size]) -> Size:
    """Return the product of sizes."""
    total: Size = 1
    for size in sizes:
        total = multiply(total, size)
    return total


def substitute(size: Size, name: str, by: Size) -> Size:
    """Return a size with another one in the place of an atom."""
    if not isinstance(size, Unknown):
        return size
    total: Size = 0
    for names, factor in size.terms:
        total = add(total, multiply(factor, product(by if it == name else atom(it) for it in names)))
    return total


def fixed(size: Size) -> int:
    """Return a size that is a number.

    Raises:
        UnsupportedError: Only a request tells it.
    """
    if isinstance(size, Unknown):
        raise UnsupportedError("a size that must be known depends on the batch")
    return size


def _terms(size: Size) -> _Terms:
    return size.terms if isinstance(size, Unknown) else (((), size),)


def _size(sums: dict[tuple[str, ...], int]) -> Size:
    kept = {product: factor for product, factor in sums.items() if factor}
    if not kept.keys() - {()}:
        return kept.get((), 0)
    return Unknown(tuple(sorted(kept.items())))
