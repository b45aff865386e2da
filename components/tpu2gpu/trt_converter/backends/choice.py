"""The choice of a back end, and the refusal of options that mean nothing for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs

from tpu2gpu.errors import EnvironmentLacksError, UsageError
from tpu2gpu.hardware.cuda import find_gpus
from tpu2gpu.options import flag
from tpu2gpu.trt_converter.backend_registry import AUTO, BACKENDS
from tpu2gpu.trt_converter.backends.base import Availability, BackEnd, back_end

if TYPE_CHECKING:
    from tpu2gpu.trt_converter.options import ConvertOptions

_OF_INT8 = ("int8_examples", "int8_per_channel", "int8_exclude", "int8_method")


@attrs.frozen
class Choice:
    """A chosen back end.

    Attributes:
        backend: The back end.
        why_no_engine: Why it builds none; empty where it does.
        probed: What was looked at, for the report.
    """

    backend: BackEnd
    why_no_engine: str
    probed: tuple[Availability, ...]


def probe(names: Iterable[str] = ()) -> dict[str, Availability]:
    """Look at back ends, all of them where none is named; return what was found by name."""
    return {name: back_end(name).probe() for name in names or BACKENDS}


def choose_backend(options: ConvertOptions) -> Choice:
    """Choose the back end that the options ask for.

    Raises:
        UsageError: Options contradict each other, or one lacks another.
        EnvironmentLacksError: The asked back end is not here.
    """
    if options.int8 and not options.examples:
        raise UsageError(
            "--int8: ranges are measured on real data", hint="give --examples of the data that it will see"
        )
    if options.backend == AUTO:
        return _best(options)
    backend = back_end(options.backend)
    _check_options(backend, options)
    found = probe([backend.name])[backend.name]
    if not found.available:
        raise EnvironmentLacksError(
            f"the back end {backend.name} cannot be used here: {found.reason}",
            hint="choose --backend auto to take the best that can",
        )
    why = "" if backend.builds_engine else f"--backend {backend.name} was asked for"
    return Choice(backend, why, (found,))


def _best(options: ConvertOptions) -> Choice:
    """Choose what `auto` stands for: of the back ends that can be used here the one that fits this machine best."""
    gpu = next(iter(find_gpus()), None)
    found = probe()
    rated = [(backend.preference(gpu), backend) for backend in map(back_end, found)]
    ranked = [backend for _, backend in sorted(((p, b) for p, b in rated if p is not None), key=lambda each: -each[0])]
    usable = [backend for backend in ranked if found[backend.name].available]
    if not usable:
        reasons = [f"{backend.name}: {found[backend.name].reason}" for backend in ranked]
        raise EnvironmentLacksError("no back end can be used here", details=reasons)
    best, chosen = ranked[0], usable[0]
    _check_options(chosen, options)
    why = "" if chosen.builds_engine else f"{best.title} cannot be used here: {found[best.name].reason}"
    return Choice(chosen, why, tuple(found.values()))


def _check_options(backend: BackEnd, options: ConvertOptions) -> None:
    """Refuse options that mean nothing for a back end, or that it cannot do; all are listed."""
    if wrong := [*backend.contradictions(options), *_idle(backend, options)]:
        raise UsageError(
            f"options that do not fit the back end {backend.name}",
            details=wrong,
            hint="leave them out, or choose another --backend; for several kinds of engine convert several times, into "
            "several targets",
        )


def _idle(backend: BackEnd, options: ConvertOptions) -> list[str]:
    """List the options that were given and mean nothing for a back end, or without another option."""
    every = [back_end(name) for name in BACKENDS]
    given = [each.name for each in attrs.fields(type(options)) if getattr(options, each.name) != each.default]
    wrong = []
    for name in given:
        takers = [each.name for each in every if name in each.heeds]
        if takers and name not in backend.heeds:
            wrong.append(f"{flag(name)}: it means nothing for the back end {backend.name}, only for {_list(takers)}")
        elif name in _OF_INT8 and not options.int8:
            wrong.append(f"{flag(name)}: it means nothing without --int8")
    return wrong


def _list(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
