"""The candidates of an optimization: each precision with each back end that applies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from tpu2gpu.errors import EnvironmentLacksError, UsageError
from tpu2gpu.hardware.cuda import find_gpus
from tpu2gpu.options import flag
from tpu2gpu.trt_converter.backend_registry import BACKENDS
from tpu2gpu.trt_converter.backends.base import back_end

FULL, HALF, INT8 = "float32", "float16", "int8"
PRECISIONS = (FULL, HALF, INT8)


@attrs.frozen
class Candidate:
    """A precision and a back end.

    Attributes:
        precision: One of `PRECISIONS`.
        backend: A key of the registry of back ends.
    """

    precision: str
    backend: str

    @property
    def name(self) -> str:
        """Name of its folder, and in reports."""
        return f"{self.precision}-{self.backend}"


@attrs.frozen
class Choice:
    """The candidates to try, and the rest.

    Attributes:
        candidates: In the order of their trial.
        not_tried: For a precision or a back end that is left out the reason.
    """

    candidates: tuple[Candidate, ...]
    not_tried: dict[str, str]


def choose_candidates(precisions: Sequence[str], backends: Sequence[str], *, has_examples: bool) -> Choice:
    """Choose what applies on this machine; what was asked for by name must.

    Args:
        precisions: Those that were asked for; all when none is.
        backends: Those that were asked for; all when none is.
        has_examples: Whether there are real examples, on which ranges for int8 can be measured.

    Raises:
        UsageError: int8 was asked for, and there are no examples.
        EnvironmentLacksError: A back end that was asked for cannot be used here; all such are listed.
    """
    not_tried: dict[str, str] = {}
    chosen = list(dict.fromkeys(precisions)) or list(PRECISIONS)
    if INT8 in chosen and not has_examples:
        if precisions:
            raise UsageError(f"{flag('precision')} {INT8}: ranges are measured on real data", hint="give --examples")
        chosen.remove(INT8)
        not_tried[INT8] = "ranges are measured on real data, and there are no examples"
    not_tried |= _unusable(dict.fromkeys(backends)) if backends else _not_for_this_machine()
    if missing := [f"{name}: {not_tried[name]}" for name in backends if name in not_tried]:
        raise EnvironmentLacksError("back ends that cannot be used here", details=missing)
    usable = [name for name in dict.fromkeys(backends or BACKENDS) if name not in not_tried]
    return Choice(tuple(Candidate(precision, name) for precision in chosen for name in usable), not_tried)


def _not_for_this_machine() -> dict[str, str]:
    """Return the back ends that nobody asked for and that are not tried here, with the reason."""
    gpu = next(iter(find_gpus()), None)
    left_out = {}
    for name in BACKENDS:
        backend = back_end(name)
        if backend.preference(gpu) is None:
            left_out[name] = f"tried where {flag('backend')} names it"
        elif backend.builds_engine and gpu is None:
            left_out[name] = f"no GPU here runs its engines; {flag('backend')} {name} builds them all the same"
    return left_out | _unusable(name for name in BACKENDS if name not in left_out)


def _unusable(names: Iterable[str]) -> dict[str, str]:
    found = {name: back_end(name).probe() for name in names}
    return {name: probed.reason for name, probed in found.items() if not probed.available}
