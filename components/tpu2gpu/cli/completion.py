"""Completion in the shell: `tpu2gpu completion bash`, and what may stand in the place of each word."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem, FishComplete, add_completion_class, get_completion_class

from tpu2gpu.command_line import Call, Command, Reply
from tpu2gpu.errors import UsageError
from tpu2gpu.options import did_you_mean

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_TPU2GPU_COMPLETE"
_FILES = frozenset({"CANDIDATE...", "DIR", "FILE", "FILES", "FOLDER", "KEY", "PATH", "REFERENCE", "SOURCE", "TARGET"})


class OneOf(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A value that is one of several, which shells complete; what else is given, the options class refuses.

    Args:
        values: The values.
        kind: What one of them is.
        by_comma: Several may be given, with commas between them.
    """

    def __init__(self, values: Iterable[Any], kind: type = str, *, by_comma: bool = False) -> None:
        self.name = kind.__name__
        self._values, self._by_comma = [str(value) for value in values], by_comma
        self._one = click.types.convert_type(kind)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert one value, or those between commas."""
        if not self._by_comma:
            return self._one.convert(value, param, ctx)
        return tuple(self._one.convert(part.strip(), param, ctx) for part in str(value).split(","))

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete the value, or the last of several."""
        before, comma, last = incomplete.rpartition(",") if self._by_comma else ("", "", incomplete)
        return [CompletionItem(f"{before}{comma}{value}") for value in self._values if value.startswith(last)]


class _FishWithCommas(FishComplete):
    """fish's script, in which a value ends at the end of its line and not at its first comma."""

    source_template = FishComplete.source_template.replace('string split ","', 'string split --max 1 ","')


add_completion_class(_FishWithCommas)


def complete_files(parameters: Sequence[click.Parameter]) -> None:
    """Have shells complete the names of files where a command takes some."""
    for parameter in parameters:
        if parameter.metavar in _FILES and parameter.type is click.STRING:
            parameter.type = click.Path(readable=False)  # the command itself says what it cannot read


def _source(call: Call) -> Reply:
    shell = call.given["shell"]
    if shell not in SHELLS:
        raise UsageError(f"{shell}: not one of {', '.join(SHELLS)}", hint=did_you_mean(shell, SHELLS))
    kind = get_completion_class(shell)
    assert kind is not None  # click knows all three
    script = kind(click.Command("tpu2gpu"), {}, "tpu2gpu", VARIABLE).source()
    return Reply({"shell": shell, "script": script}, script.splitlines())


COMPLETION = Command(
    name="completion",
    summary='Print what completes commands in a shell, for eval "$(tpu2gpu completion bash)".',
    run=_source,
    parameters=(click.Argument(["shell"], metavar="{bash,zsh,fish}", type=OneOf(SHELLS)),),
)
