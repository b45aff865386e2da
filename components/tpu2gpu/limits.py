"""How much of a foreign file is taken; what asks for more is refused before it costs memory or time.

The defaults are far above what models have, and low enough that a file of a few kilobytes cannot fill a machine.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import attrs

from tpu2gpu.errors import UsageError

_PACKED = 100  # times: numbers and texts of models and examples pack by less
VARIABLE = "TPU2GPU_LIMITS"
"""The environment variable that sets them, `nodes=5000000,nesting=200`; child processes heed it too."""


@attrs.frozen(kw_only=True)
class Limits:
    """The limits.

    Attributes:
        nodes: Nodes of a graph with all its functions in the place of their calls. Large models have 100,000; each
            takes about a kilobyte.
        functions: Functions of a graph. Large models have some thousands.
        nesting: Calls within calls of functions. Models have about ten; generated ones reach thousands.
        outputs: Tensors that one node gives. The most that an op is known to give, a split, is some thousands.
        constant_mib: MiB of a constant that the file holds as one repeated value. Those of models are masks and
            zeros, of some MiB; values that the file holds one by one are not limited.
        json_depth: Lists and mappings within each other in a JSON or YAML file, and groups in an HDF5 file. Ours and
            Keras' have about twenty.
    """

    nodes: int = 2_000_000
    functions: int = 100_000
    nesting: int = 10_000
    outputs: int = 65_536
    constant_mib: int = 256
    json_depth: int = 200

    @property
    def examples_mib(self) -> float:
        """MiB of examples that a packed file of less than a hundredth of it may hold: each takes a hundred times more.

        It goes with `constant_mib`.
        """
        return self.constant_mib / 64


def limits() -> Limits:
    """Return the limits of this process.

    Raises:
        UsageError: The environment variable says something else.
    """
    return _parse(os.environ.get(VARIABLE, ""))


@contextmanager
def changed_limits(texts: Iterable[str]) -> Iterator[None]:
    """Have other limits in a block, in this process and in its children.

    Args:
        texts: `NAME=NUMBER` each; others keep what they are.

    Raises:
        UsageError: One has another form, or there is no such limit.
    """
    former = os.environ.get(VARIABLE, "")
    given = ",".join(filter(None, [former, *texts]))
    _parse(given)
    os.environ[VARIABLE] = given
    try:
        yield
    finally:
        os.environ[VARIABLE] = former


def is_bomb(unpacked_bytes: int, packed_bytes: int, most_mib: float) -> bool:
    """Tell whether something small becomes so large that it is nobody's file: more than a limit, and 100 times itself.

    Args:
        unpacked_bytes: What comes out, so far as is known.
        packed_bytes: What the file holds.
        most_mib: What is taken of any file.
    """
    return unpacked_bytes > most_unpacked(packed_bytes, most_mib)


def most_unpacked(packed_bytes: int, most_mib: float) -> int:
    """Return how many bytes may come out of something packed; see `is_bomb`."""
    return max(int(most_mib * (1 << 20)), _PACKED * packed_bytes)


def names() -> list[str]:
    """Return the names of the limits."""
    return [field.name for field in attrs.fields(Limits)]


@functools.cache
def _parse(text: str) -> Limits:
    found = {}
    for each in filter(None, text.split(",")):
        name, _, number = each.partition("=")
        if name.strip() not in names() or not number.strip().isdecimal() or int(number) < 1:
            raise UsageError(f"--limit {each}: must be NAME=NUMBER, where NAME is one of {', '.join(names())}")
        found[name.strip()] = int(number)
    return Limits(**found)
