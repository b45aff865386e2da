"""crc32c of a whole from the crc32c of its parts, so that several threads can each take a part."""

from __future__ import annotations

from functools import lru_cache

_POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed
_ONE = 1 << 31


def combine(first: int, second: int, second_bytes: int) -> int:
    """Combine the crc32c of two byte strings one after the other.

    Args:
        first: crc32c of the first string.
        second: crc32c of the second string.
        second_bytes: Length of the second string.

    Source: crc32_combine of zlib (Mark Adler): a crc is a polynomial over GF(2), and n zero bytes behind it multiply
        it by x^8n modulo the generator.
    """
    return _multiply(_power(second_bytes), first) ^ second


def _multiply(a: int, b: int) -> int:
    product, bit = 0, _ONE
    while a:
        if a & bit:
            product ^= b
            a ^= bit
        bit >>= 1
        b = (b >> 1) ^ _POLYNOMIAL if b & 1 else b >> 1
    return product


@lru_cache(maxsize=1024)
def _power(count: int) -> int:
    """Return x to the power of 8 times a count of bytes."""
    result, square = _ONE, _ONE >> 8  # x^0 and x^8
    while count:
        if count & 1:
            result = _multiply(square, result)
        square = _multiply(square, square)
        count >>= 1
    return result
