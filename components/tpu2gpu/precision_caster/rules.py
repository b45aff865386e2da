"""Which weights take which type: ordered rules, the first that finds something in a name decides."""

from __future__ import annotations

import re
from collections.abc import Iterable

import attrs

from tpu2gpu.errors import UsageError
from tpu2gpu.options import did_you_mean

KEEP = "keep"
DTYPES = ("float32", "float16", "bfloat16", "float64")


@attrs.frozen
class Preset:
    """A whole policy by name.

    Attributes:
        to: The precision.
        rules: Its rules; the user's come first.
        sources: Which types it casts; None for all.
        about: What it is for.
    """

    to: str
    rules: tuple[str, ...]
    sources: frozenset[str] | None
    about: str


PRESETS = {
    "tpu-to-gpu": Preset(
        "float32", (), frozenset({"bfloat16"}), "what trained in bfloat16 becomes float32, everything else stays"
    ),
    "serving-f16": Preset(
        "float16",
        (
            r"(^|/)moving_(mean|variance|var)\b=keep",  # statistics: their variance may leave float16's range
            r"(?i)(^|/)(layer_?norm|layer_normalization|rms_?norm|ln)(_?\d+|_\w+)?/=keep",  # small, and sums hang on it
            r"(?i)embedding=keep",  # their rows have many scales
        ),
        None,
        "float16, but batch-norm statistics, layer norms and embeddings stay",
    ),
}


@attrs.frozen
class Rule:
    """One rule.

    Attributes:
        pattern: What it looks for in names.
        dtype: The type that it gives, or `keep`.
        flag: How it was asked for.
    """

    pattern: re.Pattern[str]
    dtype: str
    flag: str


def compile_rules(keep: Iterable[str], rules: Iterable[str], preset: str | None) -> tuple[Rule, ...]:
    """Compile the rules in the order in which they are tried: `--keep`, `--rule`, the preset's.

    Args:
        keep: Regular expressions.
        rules: `REGEX=TYPE` or `REGEX=keep`.
        preset: Name of a preset.

    Raises:
        UsageError: A rule is malformed.
    """
    found = [Rule(_compile(text, f"--keep '{text}'"), KEEP, f"--keep '{text}'") for text in keep]
    found += [_rule(text, f"--rule '{text}'") for text in rules]
    if preset:
        found += [_rule(text, f"--preset {preset}, rule '{text}'") for text in PRESETS[preset].rules]
    return tuple(found)


def decide(rules: Iterable[Rule], *names: str) -> Rule | None:
    """Return the first rule that finds something in one of a weight's names."""
    return next((rule for rule in rules if any(rule.pattern.search(name) for name in names)), None)


def without_finding(rules: Iterable[Rule], names: Iterable[str]) -> list[str]:
    """Return the flags of the rules that find something in none of the names."""
    known = list(names)
    return [rule.flag for rule in rules if not any(rule.pattern.search(name) for name in known)]


def _rule(text: str, flag: str) -> Rule:
    pattern, equals, dtype = text.rpartition("=")
    if not equals or dtype not in (KEEP, *DTYPES):
        hint = did_you_mean(dtype, (KEEP, *DTYPES)) if equals else ""
        raise UsageError(f"{flag}: not REGEX=TYPE with a type of {', '.join((*DTYPES, KEEP))}", hint=hint)
    return Rule(_compile(pattern, flag), dtype, flag)


def _compile(text: str, flag: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise UsageError(f"{flag}: not a regular expression ({error})") from error
