"""Options: one frozen class per function, from which its command-line flags and JSON form follow."""

from __future__ import annotations

import difflib
import functools
import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import attrs

from tpu2gpu.errors import UsageError

Options = TypeVar("Options")

_TAKEN_FROM = "taken_from"
# What other libraries call what has another name here.
_SYNONYMS = {
    **dict.fromkeys(["bf16", "brain"], "bfloat16"),
    **dict.fromkeys(["f16", "fp16", "half"], "float16"),
    **dict.fromkeys(["f32", "fp32", "full", "single"], "float32"),
    **dict.fromkeys(["f64", "fp64", "double"], "float64"),
    **dict.fromkeys(["onnxrt", "ort"], "onnxruntime"),
    **dict.fromkeys(["savedmodel", "tf"], "saved_model"),
    **dict.fromkeys(["graphdef", "pb"], "graph_def"),
    **dict.fromkeys(["tensorflow_serving", "tfserving"], "tf_serving"),
    **dict.fromkeys(["rtx", "tensorrtx", "trt_rtx", "trtrtx"], "tensorrt_rtx"),
    **dict.fromkeys(["tftrt"], "tf_trt"),
    **dict.fromkeys(["trt"], "tensorrt"),
}


class KnownNames:
    """Base of the options classes: refuses an option that there is not, before attrs does with a TypeError."""

    __slots__ = ()

    def __new__(cls, *_: Any, **given: Any) -> Any:  # noqa: D102 - see the class
        known = [field.name for field in attrs.fields(cls)]  # type: ignore[arg-type]
        check_names(given, known, cls.__name__)
        return super().__new__(cls)


def check_names(given: Iterable[str], known: Iterable[str], where: str) -> None:
    """Check that options are known; all that are not are told at once.

    Raises:
        UsageError: One is not.
    """
    known = list(known)
    if unknown := [str(name) for name in given if name not in known]:
        raise UsageError(
            f"{where}: unknown option{'s' if len(unknown) > 1 else ''}",
            details=[
                f"{name}: {did_you_mean(name, known) or 'known are ' + ', '.join(sorted(known))}" for name in unknown
            ],
        )


def option(
    default: Any,
    help: str,  # noqa: A002 - the word that command lines use
    *,
    choices: Iterable[Any] | Callable[[type], Iterable[Any]] | None = None,
    minimum: float | None = None,
    metavar: str | None = None,
    recorded: bool = True,
    more: Mapping[str, Any] | None = None,
) -> Any:
    """Declare one field of an options class (a class made by `attrs.frozen`).

    Args:
        default: Value when not given; a tuple makes the flag repeatable.
        help: One line for the command's help.
        choices: The allowed values, for each item where the option is repeatable; or a function that derives them
            from the options class, a subclass's too.
        minimum: The smallest allowed value.
        metavar: What the help calls the value.
        recorded: Tell it in manifests; not where it says how the work is done, and changes nothing in what is written.
        more: Further metadata of the field, for those who walk the fields.
    """

    def check(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        allowed = allowed_values(type(instance), attribute)
        for item in value if isinstance(value, tuple) else (value,):
            if item is None:
                continue
            if allowed is not None and item not in allowed:
                raise UsageError(
                    f"{flag(attribute.name)} {item}: not one of {', '.join(map(str, allowed))}",
                    hint=did_you_mean(str(item), map(str, allowed)),
                )
            if isinstance(item, float) and not math.isfinite(item):  # NaN is below no minimum
                raise UsageError(f"{flag(attribute.name)} {item}: must be a finite number")
            if minimum is not None and item < minimum:
                raise UsageError(f"{flag(attribute.name)} {item}: must be at least {minimum:g}")

    converter = _as_tuple if isinstance(default, tuple) else None
    known = tuple(choices) if isinstance(choices, Iterable) else choices
    metadata = {"help": help, "choices": known, "metavar": metavar, "recorded": recorded, **(more or {})}
    return attrs.field(default=default, converter=converter, validator=[_check_type, check], metadata=metadata)


def _as_tuple(values: Any) -> tuple[Any, ...]:
    """Make a tuple of several values, or of one; whether their types are right is checked later."""
    return tuple(values) if isinstance(values, Iterable) and not isinstance(values, str | bytes) else (values,)


def option_of(cls: type, name: str) -> Any:
    """Declare a field that is an option of another class: with its default, its help and its checks.

    Args:
        cls: The other class, which `taken_from` tells again.
        name: The field's name there, and here.
    """
    field = getattr(attrs.fields(cls), name)
    metadata = {**field.metadata, _TAKEN_FROM: cls}
    return attrs.field(default=field.default, converter=field.converter, validator=field.validator, metadata=metadata)


def taken_from(cls: type, options: Any) -> dict[str, Any]:
    """Return the values of those fields that an options object takes from another class, see `option_of`."""
    fields = attrs.fields(type(options))
    return {field.name: getattr(options, field.name) for field in fields if field.metadata.get(_TAKEN_FROM) is cls}


def allowed_values(cls: type, field: attrs.Attribute[Any]) -> tuple[Any, ...] | None:
    """Return the values that a field of an options class takes, or None where its type alone limits them."""
    choices = field.metadata["choices"]
    return tuple(choices(cls)) if callable(choices) else choices


def flag(name: str) -> str:
    """Return the command-line flag of an option field: `max_p99_ms` -> `--max-p99-ms`."""
    return "--" + name.rstrip("_").replace("_", "-")


def as_mapping(name: str, pairs: Iterable[str], form: str) -> dict[str, str]:
    """Read the values of a repeatable option, each `NAME=VALUE`, as a mapping.

    Args:
        name: The option's field.
        pairs: What was given.
        form: What a value must look like, for the message.

    Raises:
        UsageError: One lacks its name, its value or the sign between.
    """
    parted = [(pair, *pair.partition("=")) for pair in pairs]
    for pair, key, _, value in parted:
        if not key or not value:
            raise UsageError(f"{flag(name)} {pair}: must be {form}")
    return {key: value for _, key, _, value in parted}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `did you mean 'x'?` for the known word that another library calls so, or the nearest one, or nothing."""
    words = list(known)
    plain = word.lower().replace("-", "_")
    near = [name for name in (plain, _SYNONYMS.get(plain)) if name in words]
    near = near or difflib.get_close_matches(word, words, n=1)
    return f"did you mean '{near[0]}'?" if near else ""


def from_mapping(cls: type[Options], values: Mapping[str, Any], where: str = "options") -> Options:
    """Make an options object from plain data.

    Args:
        cls: The options class.
        values: Field names and values; lists become tuples.
        where: What the values came from, for messages.

    Raises:
        UsageError: A key is unknown, or a value is not allowed.
    """
    check_names(values, [field.name for field in attrs.fields(cls)], where)  # type: ignore[arg-type]
    return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


def recorded(options: Any) -> dict[str, Any]:
    """Return the options that a manifest tells, as plain data."""
    return attrs.asdict(options, filter=lambda field, value: field.metadata.get("recorded", True))


def to_json(options: Any) -> str:
    """Return the canonical JSON of an options object: sorted keys, no spaces."""
    return json.dumps(attrs.asdict(options), sort_keys=True, separators=(",", ":"))


def from_json(cls: type[Options], text: str, where: str = "options") -> Options:
    """Read `to_json`'s text back.

    Raises:
        UsageError: The text is not JSON, or holds an unknown option or a value that is not allowed.
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{where}: not JSON ({error})") from error
    return from_mapping(cls, values, where)


def field_types(cls: type) -> dict[str, tuple[type, bool]]:
    """Return for each field of an options class the type of one value, and whether it may be None."""
    hints = get_type_hints(cls)
    return {field.name: _item_type(hints[field.name]) for field in attrs.fields(cls)}


def _item_type(hint: Any) -> tuple[type, bool]:
    arguments = [argument for argument in get_args(hint) if argument not in (type(None), Ellipsis)]
    if get_origin(hint) is tuple or (arguments and type(None) in get_args(hint)):
        item, _ = _item_type(arguments[0])
        return item, type(None) in get_args(hint)
    return hint, False


_types_of_class: Callable[[type], dict[str, tuple[type, bool]]] = functools.cache(field_types)


def _check_type(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    expected, optional = _types_of_class(type(instance))[attribute.name]
    if isinstance(value, tuple) and not isinstance(attribute.default, tuple):
        raise UsageError(f"{flag(attribute.name)} {list(value)}: must be {expected.__name__}, not a list")
    for item in value if isinstance(value, tuple) else (value,):
        fits = isinstance(item, expected) or (expected is float and isinstance(item, int))
        wrong = isinstance(item, bool) and expected is not bool
        if not (item is None and optional) and (not fits or wrong):
            raise UsageError(f"{flag(attribute.name)} {item!r}: must be {expected.__name__}, not {type(item).__name__}")
