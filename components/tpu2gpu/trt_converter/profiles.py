"""Optimisation profiles: for each input the min, opt and max shape that an engine takes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tpu2gpu.errors import UsageError
from tpu2gpu.options import did_you_mean

if TYPE_CHECKING:
    from tpu2gpu.running.runner import TensorSpec

DEFAULT_BATCHES = (1, 8, 32)
_BOUNDS = ("min", "opt", "max")
_FORM = re.compile(r"(?P<name>.+)=(?P<min>[\dx]+):(?P<opt>[\dx]+):(?P<max>[\dx]+)")

Bounds = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""The min, opt and max shape."""

Profile = dict[str, Bounds]
"""The bounds of each input."""


def parse_profiles(texts: Sequence[str]) -> list[Profile]:
    """Read `--profile` values.

    Args:
        texts: `INPUT=MIN:OPT:MAX`, or several of them with commas between; each bound is a batch size (`8`) or a whole
            shape (`8x224x224x3`). All texts make up one profile, until an input comes again: that begins another.

    Returns:
        For each profile and each of its inputs the bounds; of one number where only the batch was given.

    Raises:
        UsageError: A text has another form, names an input twice, or its bounds are not in order; all are listed.
    """
    profiles: list[Profile] = []
    wrong: list[str] = []
    for text in texts:
        group: Profile = {}
        for each in text.split(","):
            _read(each.strip(), group, wrong)
        if not profiles or profiles[-1].keys() & group.keys():
            profiles.append({})
        profiles[-1].update(group)
    wrong += [
        f"profile {number}: the same as profile {profiles.index(profile) + 1}"
        for number, profile in enumerate(profiles, 1)
        if profile and profiles.index(profile) + 1 < number
    ]
    if wrong:
        raise UsageError("--profile", details=wrong, hint="write --profile images=1:8:32 or ids=1x16:8x64:32x128")
    return profiles


def _read(text: str, group: Profile, wrong: list[str]) -> None:
    """Read one input's bounds into a group, or say what is wrong with them."""
    match = _FORM.fullmatch(text)
    if match is None:
        wrong.append(f"{text}: not of the form INPUT=MIN:OPT:MAX")
        return
    try:
        low, opt, high = (tuple(int(size) for size in match[bound].split("x")) for bound in _BOUNDS)
    except ValueError:
        wrong.append(f"{text}: a bound is a number, or numbers with x between them")
        return
    if match["name"] in group:
        wrong.append(f"{text}: the same input twice in one profile; another profile is another --profile")
    if not len(low) == len(opt) == len(high):
        wrong.append(f"{text}: the bounds have different numbers of dimensions")
    elif not all(0 < a <= b <= c for a, b, c in zip(low, opt, high, strict=True)):
        wrong.append(f"{text}: wanted 0 < MIN <= OPT <= MAX")
    group[match["name"]] = (low, opt, high)


def fit_profiles(inputs: Sequence[TensorSpec], profiles: Sequence[Profile]) -> list[Profile]:
    """Complete profiles for a model's inputs.

    Args:
        inputs: The model's inputs.
        profiles: What `parse_profiles` read.

    Returns:
        For each profile whole shapes of every input, in the order of the inputs; batches of 1, 8 and 32 where nothing
        is given. At least one profile.

    Raises:
        UsageError: A profile contradicts the model, or a dimension beside the batch is unknown; all are listed.
    """
    wrong: list[str] = []
    fitted = [_fit(inputs, profile, wrong) for profile in profiles or [{}]]
    if wrong:
        raise UsageError(
            "the engine's profile does not fit the model's inputs",
            details=list(dict.fromkeys(wrong)),
            hint=f"give --profile INPUT=MIN:OPT:MAX with whole shapes, here --profile {profile_form(inputs)}",
        )
    return fitted


def profile_form(inputs: Sequence[TensorSpec]) -> str:
    """Return the form of a profile of inputs, for messages: `ids=1xMIN:8xOPT:32xMAX, with numbers for MIN ...`.

    Args:
        inputs: The inputs; those whose batch alone is unknown need none, unless all are of that kind.
    """
    open_ended = [spec for spec in inputs if None in spec.shape[1:]]
    form = ",".join(
        f"{spec.name}={':'.join(_form_of_bound(spec, bound) for bound in range(3))}" for spec in open_ended or inputs
    )
    return f"{form}, with the smallest, the usual and the largest size for MIN, OPT and MAX" if open_ended else form


def _form_of_bound(spec: TensorSpec, bound: int) -> str:
    """Return the smallest, the usual or the largest shape; sizes that nobody but the user knows are words."""
    sizes = [
        size or (DEFAULT_BATCHES[bound] if place == 0 else _BOUNDS[bound].upper())
        for place, size in enumerate(spec.shape)
    ]
    return "x".join(map(str, sizes))


def check_names(profiles: Sequence[Profile], known: Sequence[str]) -> None:
    """Check that profiles are of inputs that there are.

    Raises:
        UsageError: They are not; all are listed.
    """
    if wrong := [each for profile in profiles for each in _unknown(profile, known)]:
        raise UsageError("--profile", details=list(dict.fromkeys(wrong)))


def _unknown(profile: Profile, known: Sequence[str]) -> list[str]:
    return [
        f"{name}: the model has no such input; {did_you_mean(name, known) or 'it has ' + ', '.join(known)}"
        for name in profile
        if name not in known
    ]


def for_part(inputs: Sequence[TensorSpec], whole: Sequence[TensorSpec], profiles: Sequence[Profile]) -> list[Profile]:
    """Restrict the profiles of a whole model to one part of it.

    Args:
        inputs: The part's inputs: the model's own, and what former parts give.
        whole: The model's inputs.
        profiles: What `parse_profiles` read, of inputs of both.

    Returns:
        What the profiles say of the part's inputs. What former parts give has the model's batches where nothing is
        said of it.

    Raises:
        UsageError: A profile contradicts the model; all are listed.
    """
    own, known = {spec.name for spec in whole}, {spec.name for spec in inputs}
    boundary = [spec for spec in inputs if spec.name not in own and spec.shape[:1] == (None,) and all(spec.shape[1:])]
    mapped = []
    for profile in profiles:
        named = [spec for spec in whole if spec.name in profile]
        fit_profiles(named, [{spec.name: profile[spec.name] for spec in named}])
        batches = [_batches(profile[spec.name]) for spec in named if spec.shape[:1] == (None,)][:1]
        carried = {spec.name: bounds for spec in boundary for bounds in batches}
        mapped.append({**carried, **{name: bounds for name, bounds in profile.items() if name in known}})
    return mapped


def _batches(bounds: Bounds) -> Bounds:
    low, opt, high = bounds
    return low[:1], opt[:1], high[:1]


def _fit(inputs: Sequence[TensorSpec], profile: Profile, wrong: list[str]) -> Profile:
    wrong += _unknown(profile, [spec.name for spec in inputs])
    fitted: Profile = {}
    for spec in inputs:
        bounds = profile.get(spec.name) or _default(spec)
        low, opt, high = (_whole(spec, bound) for bound in bounds)
        if low is not None and opt is not None and high is not None:
            fitted[spec.name] = (low, opt, high)
        elif spec.name in profile:
            wrong.append(f"{spec}: the profile has {', '.join('x'.join(map(str, bound)) for bound in bounds)}")
        else:
            wrong.append(f"{spec}: a dimension beside the batch is unknown")
    return fitted


def compared_sizes(profile: Profile) -> dict[str, Any]:
    """Return what to compare at: a profile's min and opt `batches`, and its opt `shapes` where it has whole ones."""
    low, opt, _ = next(iter(profile.values()), tuple((size,) for size in DEFAULT_BATCHES))
    return {
        "batches": [low[0], opt[0]],
        "shapes": {name: list(bounds[1]) for name, bounds in profile.items() if len(bounds[1]) > 1},
    }


def largest_batch(profiles: Sequence[Profile]) -> int:
    """Return the largest first dimension of any profile; the default's where there is none."""
    firsts = [bounds[2][0] for profile in profiles for bounds in profile.values() if bounds[2]]
    return max(firsts, default=DEFAULT_BATCHES[2])


def _default(spec: TensorSpec) -> Bounds:
    """Return the default batches where the batch is dynamic, and what is fixed elsewhere."""
    if not spec.shape:
        return ((), (), ())
    low, opt, high = DEFAULT_BATCHES if spec.shape[0] is None else (spec.shape[0],) * 3
    return ((low,), (opt,), (high,))


def _whole(spec: TensorSpec, bound: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return a bound as a whole shape; None where it does not fit."""
    if len(bound) == 1:
        bound = (*bound, *(size or 0 for size in spec.shape[1:]))
    fits = len(bound) == len(spec.shape) and all(
        found > 0 and wanted in (None, found) for found, wanted in zip(bound, spec.shape, strict=True)
    )
    return bound if fits else None
