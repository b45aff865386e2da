"""The flags of a command: one for each field of its options class."""

from __future__ import annotations

from typing import Any, TypeVar

import attrs
import click
from click.core import ParameterSource

from tpu2gpu.cli.completion import OneOf
from tpu2gpu.options import allowed_values, field_types, flag

Options = TypeVar("Options")


def option_flags(cls: type) -> list[click.Parameter]:
    """Make one flag for each field of an options class."""
    types = field_types(cls)
    return [_flag(field, types[field.name][0], allowed_values(cls, field)) for field in attrs.fields(cls)]


def given_options(cls: type[Options], given: dict[str, Any]) -> Options:
    """Make the options object of what was given; what was not keeps its default.

    Raises:
        UsageError: A value is not allowed.
    """
    context = click.get_current_context()
    sources = {name: context.get_parameter_source(name) for name in given}
    names = [field.name for field in attrs.fields(cls)]  # type: ignore[arg-type]
    return cls(**{name: given[name] for name in names if sources[name] is ParameterSource.COMMANDLINE})


def _flag(field: attrs.Attribute[Any], kind: type, allowed: tuple[Any, ...] | None) -> click.Option:
    metadata, repeatable = field.metadata, isinstance(field.default, tuple)
    choices = "{" + ",".join(map(str, allowed)) + "}" if allowed else None
    says = metadata["help"]
    if field.default not in (None, "", ()) and kind is not bool:
        says += f"  [default: {', '.join(field.default) if repeatable else field.default}]"
    if kind is bool:
        name = f"{flag(field.name)}/--no-{flag(field.name)[2:]}" if field.default else flag(field.name)
        return click.Option([name, field.name], is_flag=True, default=bool(field.default), help=says)
    by_comma = repeatable and (kind in (int, float) or allowed is not None)
    return click.Option(
        [flag(field.name), field.name],
        type=OneOf(allowed or (), kind, by_comma=by_comma) if by_comma or allowed else kind,
        multiple=repeatable,
        callback=_joined if by_comma else None,
        metavar=metadata["metavar"] or choices or {int: "N", float: "X"}.get(kind, "TEXT"),
        help=f"{says}; {'several by comma' if by_comma else 'may be repeated'}" if repeatable else says,
    )


def _joined(context: click.Context, parameter: click.Parameter, given: tuple[tuple[Any, ...], ...]) -> tuple[Any, ...]:
    """Join what was given in one flag and in several."""
    return tuple(value for values in given for value in values)
